-- SPDX-License-Identifier: MIT
-- Delayed events that another process has put there: how exactly a running consumer delivers them, and what is left
-- when it can't be told of them. An event's data says when it is due, by the clock that all on this machine share.
local tidemill = require "tidemill"
local core = require "tidemill.core"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local clock = core.monotonic
local wall = core.wall

-- Connects first, then publishes delays one after the other, each when the one before is due.
local publisher = [[
local tidemill, core = require "tidemill", require "tidemill.core"
local bus = assert(tidemill.open(%q))
local topic = bus:topic "orders"
assert(topic:publish { type = "Begin", data = {} })
for n, delay in ipairs { %s } do
  local due = core.wall() + delay
  assert(topic:publish { type = "Later", data = { n = n, due = due }, at = due })
  bus:sleep(delay + 0.02)
end
bus:close()
]]

local function median(values)
  table.sort(values)
  return values[math.floor((#values + 1) / 2)]
end

for _, kind in ipairs(server.kinds()) do
  describe("delayed events of another process on " .. kind .. " " .. server.version(kind), function()
    local live, bus, lines, late

    local function open(url)
      lines, late = {}, {}
      bus = assert(tidemill.open(url or live.url, { log = function(level, line)
        if level ~= "debug" then lines[#lines + 1] = line end
      end }))
    end

    local function subscribe()
      bus:topic("orders"):on("Later", {}, function(event)
        late[event.data.n] = wall() - event.data.due
      end)
      bus:tick(0.3, { wait = true })
    end

    local function pump(check, seconds)
      local limit = clock() + (seconds or 30)
      while not check() do
        assert(clock() < limit, "not in time; log: " .. table.concat(lines, "\n"))
        bus:tick(0.05, { wait = true })
      end
    end

    -- The lateness of each, s; never early by more than the clocks' grain.
    local function publish_elsewhere(delays, url)
      local text = {}
      for i, delay in ipairs(delays) do text[i] = tostring(delay) end
      local path = shell.write_file(shell.temporary_dir "delayed" .. "/publisher.lua",
        publisher:format(url or live.url, table.concat(text, ", ")))
      local child = shell.spawn { os.getenv "TIDEMILL_LUA" or "lua5.4", path }
      late = {}
      pump(function() return #late == #delays end)
      child:wait()
      for n, value in ipairs(late) do assert.is_true(value > -0.002, ("%d is early by %g s"):format(n, -value)) end
      return late
    end

    local function said(text)
      local count = 0
      for _, line in ipairs(lines) do
        if line:find(text, 1, true) then count = count + 1 end
      end
      return count
    end

    before_each(function() live = server.start(kind) end)
    after_each(function()
      if bus then bus:close() end
      bus = nil
      live:stop()
    end)

    it("come within 50 ms of their time, as a rule", function()
      open()
      subscribe()
      local delays = {}
      for i = 1, 20 do delays[i] = 0.05 + (i * 7 % 20) * 0.0175 end
      local values = publish_elsewhere(delays)
      local middle = median(values)
      assert.is_true(middle < 0.05, ("the median is late by %.1f ms"):format(middle * 1000))
      assert.equal(0, #lines, table.concat(lines, "\n"))
      local ttl = tonumber(live:cli("PTTL", "{orders}:delayed:wake"))
      assert.is_true(ttl ~= -1 and ttl <= 5000, "what wakes stays behind")
    end)

    -- Numbers of the connections that wait in XREAD.
    local function waiting()
      local ids = {}
      for line in live:cli("CLIENT", "LIST"):gmatch "[^\n]+" do
        if line:find("cmd=xread ", 1, true) then ids[#ids + 1] = line:match "id=(%d+)" end
      end
      return ids
    end

    it("have a connection of their own, as long as there is a subscription", function()
      open()
      assert(bus:topic("orders"):publish { type = "A", delay = 3600 })
      bus:tick(0.2, { wait = true })
      assert.equal(0, #waiting())
      local first = bus:topic("orders"):on("Later", {}, function() end)
      local second = bus:topic("others"):on("*", {}, function() end)
      pump(function() return #waiting() == 1 end)
      assert.truthy(live:cli("CLIENT", "LIST"):find "cmd=xread ")
      first:unsubscribe()
      bus:tick(0.2, { wait = true })
      assert.equal(1, #waiting())
      second:unsubscribe()
      pump(function() return #waiting() == 0 end)
    end)

    it("are heard of on a topic that comes later, and after the connection was killed", function()
      open()
      bus:topic("others"):on("*", {}, function() end)
      pump(function() return #waiting() == 1 end)
      subscribe()
      assert.is_true(median(publish_elsewhere { 0.1, 0.15, 0.2, 0.1, 0.15 }) < 0.05)
      for _ = 1, 3 do
        local before = waiting()[1]
        live:cli("CLIENT", "KILL", "ID", before)
        pump(function() return waiting()[1] and waiting()[1] ~= before end)
      end
      assert.is_true(median(publish_elsewhere { 0.1, 0.15, 0.2, 0.1, 0.15 }) < 0.05)
      assert.is_true(#lines <= 3, table.concat(lines, "\n"))
    end)

    it("come by the next look where the user may not use XREAD, and one line says so", function()
      live:cli("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all", "-xread")
      open(live:url_for("worker", "pw"))
      subscribe()
      local values = publish_elsewhere({ 0.1, 0.2, 0.3, 0.05 }, live.url)
      for _, value in ipairs(values) do assert.is_true(value < 5) end
      bus:tick(2, { wait = true })
      assert.equal(1, #lines, table.concat(lines, "\n"))
      assert.equal(1, said "ACL SETUSER worker +xread")
    end)

    it("are published where the key that wakes is somebody's own, which is left alone", function()
      live:cli("SET", "{orders}:delayed:wake", "mine")
      open()
      subscribe()
      publish_elsewhere { 0.1, 0.2 }
      assert.equal("mine", live:cli("GET", "{orders}:delayed:wake"))
      assert.equal("-1", live:cli("PTTL", "{orders}:delayed:wake"))
      assert.equal(1, #lines, table.concat(lines, "\n"))
      assert.equal(1, said "WRONGTYPE")
    end)
  end)
end
