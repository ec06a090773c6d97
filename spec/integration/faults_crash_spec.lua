-- SPDX-License-Identifier: MIT
-- What the death, or the long standstill, of a consuming process does: on real servers and on a file. Names begin with
-- the row of the fault.
local faults = require "spec.support.faults"
local server = require "spec.support.server"

local pump, publish_all = faults.pump, faults.publish_all

local kinds = server.kinds()
kinds[#kinds + 1] = "file"

for _, kind in ipairs(kinds) do
  describe("crashes on " .. kind .. " " .. (kind ~= "file" and server.version(kind) or ""), function()
    local world

    before_each(function() world = faults.world(kind, { persist = true }) end)
    after_each(function() world:close() end)

    it("F6 gives a process that comes back under its name what was served to it before it died", function()
      local bus = world:open()
      local first = world:worker [[
        topic:on("*", { consumer = "fixed", lease = 600, settle = 30, prefetch = 64 }, function(event)
          print("got " .. event.data.n)
          while true do bus:sleep(1) end
        end)
        bus:run()]]
      publish_all(bus, bus:topic "orders", 1, 20)
      assert(first:wait_for "got 1")
      pump(bus, function() return world.pending(bus) == 20 end)
      first:kill()
      publish_all(bus, bus:topic "orders", 21, 25)
      -- Its lease is ten minutes: nothing but its own name gives it back.
      local got = world.counter(bus, { consumer = "fixed", lease = 600 })
      pump(bus, function() return got.count == 25 and world.pending(bus) == 0 end)
      assert.equal(25, got.total)
    end)

    it("F8 delivers again after a kill between handler and ack", function()
      local bus = world:open()
      publish_all(bus, bus:topic "orders", 1, 5)
      local victim = world:worker [[
        topic:on("*", { lease = 1, settle = 30 }, function(event)
          print("got " .. event.data.n)
          if event.data.n == 5 then os.execute "kill -9 $PPID" end
        end)
        bus:run()]]
      assert(victim:wait(30))
      local got = world.counter(bus, { lease = 1 })
      pump(bus, function() return got.seen[5] end)
    end)

    it("F8 with dedupe the effect happens once, though its event is delivered again", function()
      local bus = world:open()
      publish_all(bus, bus:topic "orders", 1, 3)
      -- The effect is confirmed, then the process is gone: its ack never leaves.
      local handler = [[
        topic:on("*", { lease = 1, settle = 30, retry = { max = 10 } }, function(event)
          assert(event:publish("effects", { id = event.id .. ":paid", type = "Paid", data = {} }, { dedupe = 3600 }))
          print("run " .. event.data.n)
          %s
        end)
        bus:run()]]
      local victim = world:worker(handler:format "if event.data.n == 2 then os.execute 'kill -9 $PPID' end")
      assert(victim:wait(30))
      assert.matches("run 2", victim:output())
      assert.equal(2, assert(bus.streams:xlen "effects"))
      assert.is_true(world.pending(bus) >= 1)
      local heir = world:worker(handler:format "")
      pump(bus, function() return world.pending(bus) == 0 and bus.streams:xlen "effects" == 3 end)
      assert(heir:wait_for "run 3")
      heir:kill()
      assert.matches("run 2", heir:output())
      local ids = {}
      for _, entry in ipairs(assert(bus.streams:xrange("effects", "-", "+"))) do
        ids[#ids + 1] = entry.fields.event_id
      end
      assert.same({ "e1:paid", "e2:paid", "e3:paid" }, ids)
    end)

    it("F23 claims what a dead consumer left, once", function()
      local bus = world:open()
      publish_all(bus, bus:topic "orders", 1, 20)
      local victim = world:worker [[
        topic:on("*", { lease = 1, prefetch = 20 }, function(event) print "held" bus:sleep(100) end)
        bus:run()]]
      assert(victim:wait_for "held")
      victim:kill()
      local one, two = world:open(), world:open()
      local first, second = world.counter(one, { lease = 1 }), world.counter(two, { lease = 1 })
      pump({ one, two }, function() return first.total + second.total >= 20 end)
      faults.pass({ one, two }, 1)
      assert.equal(20, first.total + second.total)
      assert.equal(0, world.pending(bus))
    end)

    it("F25 asks the most patient handler of a group how many deaths are enough", function()
      local bus = world:open()
      assert(bus:topic("orders"):publish { id = "b", type = "B", data = { n = 1 } })
      local script = [[
        topic:on("A", { lease = 0.5, retry = { max = 1 } }, function() end)
        topic:on("B", { retry = { max = 3 } }, function(event)
          print("attempt " .. event.attempt)
          os.execute "kill -9 $PPID"
          bus:sleep(5)
        end)
        bus:run(25)]]
      for attempt = 1, 3 do
        local victim = world:worker(script)
        assert(victim:wait(30))
        assert.matches("attempt " .. attempt .. "\n", victim:output())
      end
      local topic = bus:topic "orders"
      local ran = 0
      topic:on("A", { lease = 0.5, retry = { max = 1 } }, function() end)
      topic:on("B", { retry = { max = 3 } }, function() ran = ran + 1 end)
      pump(bus, function() return topic:dead_letters():count() == 1 end)
      assert.equal(0, ran)
      assert.equal("crash_loop", topic:dead_letters():list()[1].reason)
    end)

    it("F32 lets exactly one take over from a process that stands still, and minds no late ack", function()
      local bus = world:open()
      local sleeper = world:worker [[
        topic:on("*", { lease = 1, settle = 0.001 }, function(event)
          print("begun " .. event.data.n)
          bus:sleep(1)
          print("ended " .. event.data.n)
        end)
        bus:run()]]
      publish_all(bus, bus:topic "orders", 1, 1)
      assert(sleeper:wait_for "begun 1")
      sleeper:signal "STOP"
      local one, two = world:open(), world:open()
      local first, second = world.counter(one, { lease = 1 }), world.counter(two, { lease = 1 })
      pump({ one, two }, function() return first.total + second.total > 0 end)
      faults.pass({ one, two }, 2)
      assert.equal(1, first.total + second.total)
      sleeper:signal "CONT"
      pump({ one, two }, function() return sleeper:output():find "ended 1" end)
      faults.pass({ one, two }, 1)
      assert.equal(1, first.total + second.total)
      assert.equal(0, world.pending(bus))
      assert.equal(0, bus:topic("orders"):dead_letters():count())
      sleeper:kill()
    end)
  end)
end
