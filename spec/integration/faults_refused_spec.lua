-- SPDX-License-Identifier: MIT
-- F34: a server that answers the same error for ever is asked seldom, is written about little, and costs no CPU; when
-- it ends, work goes on. Every error of the rows before it that a real server can be brought to, on every kind of
-- server, all at the same time: each has a server, a consumer and a log of its own.
local faults = require "spec.support.faults"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local clock = faults.clock
local SETTLED = 3         -- seconds
local WATCHED = 6         -- seconds
local COMMANDS_MAX = 5    -- a second
local LINES_MAX = 1       -- a second
local CPU_MAX = 0.05

-- begin: brings the server to it, while a consumer is running; finish: ends it; during: what the test goes on doing,
-- and how many commands that was. commands_max: where it isn't COMMANDS_MAX. unasked: INFO is refused too, so commands
-- are counted over all of it.
local ERRORS = {
  {
    name = "WRONGTYPE", code = "TIDE-WRONGTYPE",
    begin = function(s) s:cli("DEL", "orders") s:cli("SET", "orders", "text") end,
    finish = function(s) s:cli("DEL", "orders") end,
  },
  {
    name = "NOAUTH", code = "TIDE-NOAUTH",
    begin = function(s)
      s:cli("CONFIG", "SET", "requirepass", "another")
      s.password = "another"
      s:cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    end,
    finish = function(s) s:cli("CONFIG", "SET", "requirepass", "") s.password = nil end,
  },
  {
    name = "NOPERM", code = "TIDE-NOPERM",
    begin = function(s) s:cli("ACL", "SETUSER", "worker", "-xreadgroup") end,
    finish = function(s) s:cli("ACL", "SETUSER", "worker", "+xreadgroup") end,
    url = function(s)
      s:cli("ACL", "SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all")
      return s:url_for("worker", "pw")
    end,
  },
  {
    name = "OOM", code = "TIDE-OOM",
    -- Reads go on under it; what can't is the group's creation and the dead letter.
    begin = function(s)
      -- In one step: with the memory gone Redis 6.2 refuses XGROUP DESTROY as well; with memory the group comes back.
      s:cli_lines { "MULTI", "XGROUP DESTROY orders default", "CONFIG SET maxmemory 1", "EXEC" }
    end,
    finish = function(s) s:cli("CONFIG", "SET", "maxmemory", "0") end,
  },
  {
    name = "READONLY", code = "TIDE-READONLY",
    begin = function(s) s:cli("REPLICAOF", "127.0.0.1", "1") end,
    finish = function(s) s:cli("REPLICAOF", "NO", "ONE") end,
  },
  {
    name = "NOREPLICAS", code = "TIDE-MISCONF",
    begin = function(s) s:cli("CONFIG", "SET", "min-replicas-to-write", "1") end,
    finish = function(s) s:cli("CONFIG", "SET", "min-replicas-to-write", "0") end,
  },
  {
    name = "MISCONF", code = "TIDE-MISCONF",
    config = { dbfilename = "taken" },
    begin = function(s)
      s:cli("CONFIG", "SET", "save", "1 1")
      -- The snapshot can't be put in its place: a folder of that name stands there.
      os.execute("mkdir -p " .. shell.quote(s.dir .. "/taken"))
      s:cli("SET", "k", "v")
      s:cli "BGSAVE"
      assert(shell.wait_until(function() return s:info "rdb_last_bgsave_status" == "err" end, 10, 0.1))
    end,
    finish = function(s) s:cli("CONFIG", "SET", "save", "") end,
  },
  {
    name = "BUSY", code = "TIDE-BUSY",
    config = { ["lua-time-limit"] = 50 },
    begin = function(s)
      s.busy = shell.spawn(("redis-cli -p %d EVAL 'while true do end' 0"):format(s.port))
      assert(shell.wait_until(function() return s:cli "PING":find "BUSY" end, 10, 0.05))
    end,
    finish = function(s)
      shell.wait_until(function()
        s:cli("SCRIPT", "KILL")
        return s:cli "PING" == "PONG"
      end, 20, 0.1)
    end,
    timeout = 1,
    unasked = true,
  },
  {
    name = "LOADING", code = "TIDE-LOADING",
    persist = true,
    prepare = function(s)
      local lines = {}
      for n = 1, 4000 do lines[n] = "SET k" .. n .. " v" end
      s:cli_lines(lines)
    end,
    begin = function(s)
      s:kill()
      s.options.config = { ["key-load-delay"] = 2500 }
      s:restart "monotonic clock"
      assert(shell.wait_until(function() return s:cli "PING":find "LOADING" end, 10, 0.05))
    end,
    finish = function(s)
      assert(shell.wait_until(function() return s:cli "PING" == "PONG" end, 60, 0.1))
    end,
    unasked = true,
  },
  {
    name = "NOGROUP", code = "TIDE-NOGROUP",
    commands_max = 8, -- each time it is made again and read; 4 to 6, by the jitter of the pauses
    -- Destroyed as soon as it is there, again and again.
    during = function(s)
      if clock() < (s.next_destroy or 0) then return 0 end
      s.next_destroy = clock() + 0.25
      s:cli("XGROUP", "DESTROY", "orders", "default")
      return 1
    end,
    begin = function(s) s:cli("XGROUP", "DESTROY", "orders", "default") end,
    finish = function() end,
  },
}

-- What our scripts call inside the server, and nobody sends.
local INSIDE = { time = true, zrange = true, zrangebyscore = true, zrem = true, hmget = true, hdel = true }

-- Calls and refused calls of every command.
local function commands(s)
  local count = 0
  local text = s:cli("INFO", "commandstats")
  for name, line in text:gmatch "cmdstat_([^:]+)(:[^\r\n]+)" do
    if not INSIDE[name] then
      count = count + tonumber(line:match "calls=(%d+)") + tonumber(line:match "rejected_calls=(%d+)" or 0)
    end
  end
  return count
end

local function start(kind, fault)
  local world = faults.world(kind, { config = fault.config, persist = fault.persist })
  local self = { world = world, server = world.server, fault = fault, name = fault.name .. " on " .. kind, own = 0 }
  if fault.prepare then fault.prepare(self.server) end
  self.bus = world:open({ timeout = fault.timeout or 5 }, fault.url and fault.url(self.server))
  self.got = world.counter(self.bus)
  return self
end

describe("refused for ever", function()
  it("F34 asks seldom and says little, whatever the error, and goes on when it ends", function()
    local cases, buses = {}, {}
    for _, kind in ipairs(server.kinds()) do
      for _, fault in ipairs(ERRORS) do
        if not os.getenv "FAULT" or os.getenv "FAULT" == fault.name then
          local case = start(kind, fault)
          cases[#cases + 1] = case
          buses[#buses + 1] = case.bus
        end
      end
    end
    for _, case in ipairs(cases) do
      faults.publish_all(case.bus, case.bus:topic "orders", 1, 1)
      faults.pump(case.bus, function() return case.got.count == 1 end, 30, case.name)
    end
    for _, case in ipairs(cases) do
      if case.fault.unasked then case.commands = commands(case.server) end
      case.fault.begin(case.server)
    end
    faults.pass(buses, SETTLED) -- the first attempts come quickly
    for _, case in ipairs(cases) do
      case.lines, case.since = #case.world.lines, clock()
      if not case.fault.unasked then case.commands = commands(case.server) end
    end
    local began, cpu = clock(), os.clock()
    while clock() - began < WATCHED do
      for _, case in ipairs(cases) do
        case.bus:tick(0)
        if case.fault.during then case.own = case.own + case.fault.during(case.server) end
      end
      shell.sleep(0.02)
    end
    cpu = (os.clock() - cpu) / (clock() - began) / #cases
    local wrong = {}
    local function expect(case, ok, text)
      if not ok then wrong[#wrong + 1] = case.name .. ": " .. text end
    end
    for _, case in ipairs(cases) do
      local said, seconds = #case.world.lines - case.lines, clock() - case.since
      local burst = 0
      if case.fault.unasked then
        case.fault.finish(case.server)
        seconds, burst = clock() - case.since + SETTLED, 20
        if case.fault.name == "LOADING" then case.commands = 0 end -- another process
      end
      local asked = commands(case.server) - case.commands - case.own
      if os.getenv "TIDEMILL_VERBOSE" then
        print(("# %-24s %5.1f commands/s %5.1f lines/s"):format(case.name, asked / seconds, said / seconds))
        if os.getenv "FAULT" then for i = case.lines + 1, #case.world.lines do print(case.world.lines[i]) end end
      end
      local asked_max = (case.fault.commands_max or COMMANDS_MAX) * seconds + burst
      expect(case, asked <= asked_max, ("%.1f commands a second"):format(asked / seconds))
      expect(case, said <= LINES_MAX * seconds + 1, ("%.1f log lines a second"):format(said / seconds))
      expect(case, case.world:said(case.fault.code) > 0, "never said " .. case.fault.code .. "\n"
        .. table.concat(case.world.lines, "\n"))
    end
    if os.getenv "TIDEMILL_VERBOSE" then print("# CPU of each", cpu) end
    assert.same({}, wrong)
    assert.is_true(cpu < CPU_MAX, ("%.3f of a processor for each consumer"):format(cpu))
    for _, case in ipairs(cases) do
      if not case.fault.unasked then case.fault.finish(case.server) end
    end
    for _, case in ipairs(cases) do
      -- A refused password isn't tried again by a publish, only by the next connection.
      faults.pump(case.bus, function() return case.bus:state() end, 30, case.name .. " ends")
      faults.publish_all(case.bus, case.bus:topic "orders", 2, 2)
      faults.pump(case.bus, function() return case.got.seen[2] end, 30, case.name .. " is over")
    end
    for _, case in ipairs(cases) do case.world:close() end
  end)
end)
