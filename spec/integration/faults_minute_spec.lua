-- SPDX-License-Identifier: MIT
-- F13: a minute in which every connection is killed every 50 ms, on all servers at the same time. A file of its own, so
-- that it runs beside the others. On LuaJIT a shorter one: the core is the same.
local faults = require "spec.support.faults"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local clock = faults.clock
local SECONDS = rawget(_G, "jit") and 20 or 60
local SETTLED = 10 -- seconds after which nothing grows any more
local KILL_EVERY = 0.05
local GROWTH_MAX = 2 * 1048576

-- One server with a publisher, a consumer, and one who kills their connections.
local function party(kind)
  local world = faults.world(kind)
  local bus = world:open()
  local self = {
    world = world, bus = bus, killer = world:open(), kind = kind, published = 0, kills = 0, next_kill = 0,
    got = world.counter(bus, { prefetch = 100, lease = 5 }),
  }
  local topic = bus:topic "orders"
  bus:spawn(function()
    while not self.enough do
      local event = { id = "e" .. self.published + 1, type = "A", data = { n = self.published + 1 } }
      local result, err = topic:publish(event, { dedupe = 600 })
      if result then
        self.published = self.published + 1
      else
        assert(err.retryable, tostring(err))
      end
      bus:sleep(0.01)
    end
    self.done = true
  end)
  return self
end

local function kill(self)
  if clock() < self.next_kill then return end
  self.next_kill = clock() + KILL_EVERY
  for _, kind in ipairs { "normal", "pubsub" } do
    self.kills = self.kills + assert(self.killer.streams:command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"))
  end
end

local function connections(self)
  local list = assert(self.killer.streams:command("CLIENT", "LIST"))
  return select(2, list:gsub("\n", "\n"))
end

local function descriptors()
  return tonumber((shell.capture("ls /proc/" .. shell.own_pid() .. "/fd 2>/dev/null | wc -l"))) or 0
end

local function resident()
  collectgarbage()
  collectgarbage()
  return faults.resident()
end

describe("a minute of killed connections", function()
  it("F13 loses nothing and grows nothing on all servers at once", function()
    local parties = {}
    for _, kind in ipairs(server.kinds()) do parties[#parties + 1] = party(kind) end
    local began, before, files = clock(), nil, nil
    while clock() - began < SECONDS do
      for _, self in ipairs(parties) do
        kill(self)
        self.bus:tick(0.01, { wait = true })
        self.killer:tick(0, { wait = false })
      end
      if not before and clock() - began >= SETTLED then before, files = resident(), descriptors() end
    end
    local after = resident()
    if os.getenv "TIDEMILL_VERBOSE" then
      print(("# resident %d at %d s, %d at %d s"):format(before or 0, SETTLED, after or 0, SECONDS))
      for _, self in ipairs(parties) do
        print("#", self.kind, self.published, self.got.total, self.kills, #self.world.lines)
      end
    end
    assert.is_true(descriptors() <= files + 6, "descriptors: " .. files .. " and then " .. descriptors())
    for _, self in ipairs(parties) do
      self.enough = true
      faults.pump(self.bus, function() return self.done and self.got.count == self.published end, 60,
        self.kind .. ": " .. self.got.count .. " of " .. self.published)
      faults.pump(self.bus, function() return self.world.pending(self.bus) == 0 end)
      assert.is_true(self.kills > SECONDS / 4, self.kind .. ": only " .. self.kills .. " connections were killed")
      assert.is_true(self.published > SECONDS / 6, self.kind .. ": only " .. self.published .. " events")
      assert.equal(self.published, self.bus.streams:xlen "orders")
      assert.equal(1, #assert(self.bus.streams:xinfo_consumers("orders", "default")))
      -- The killer's, and the consumer's for commands, for reading and for what is delayed.
      faults.pump(self.bus, function() return connections(self) <= 4 end, 10, "connections: " .. connections(self))
      assert.is_true(#self.world.lines <= SECONDS * 3, #self.world.lines .. " log lines")
      assert.equal(0, self.bus:topic("orders"):dead_letters():count())
    end
    if before then assert.is_true(after - before <= GROWTH_MAX, before .. " bytes and then " .. after) end
    for _, self in ipairs(parties) do self.world:close() end
  end)
end)
