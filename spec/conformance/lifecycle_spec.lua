-- SPDX-License-Identifier: MIT
local world = require "spec.conformance.world"
local shell = require "spec.support.shell"
local it = world.behaviours(it, pending)

-- Numbers that a worker printed, one "got N" a line.
local function numbers_of(process)
  local seen, count, total = {}, 0, 0
  for n in process:output():gmatch "got (%d+)" do
    n = tonumber(n)
    if not seen[n] then count = count + 1 end
    seen[n] = (seen[n] or 0) + 1
    total = total + 1
  end
  return seen, count, total
end

describe("lifecycle on " .. world.engine, function()
  it("runs until stop is called in a handler", function(w)
    local topic, bus = w:topic()
    local got = 0
    topic:on("*", function()
      got = got + 1
      if got == 10 then bus:stop() end
    end)
    w:fill(topic, 10)
    assert(bus:run(30))
    assert.equal(10, got)
  end)

  it("returns from run after its time", function(w)
    local topic, bus = w:topic()
    topic:on("*", function() end)
    local before = w.clock()
    assert(bus:run(0.3))
    local taken = w.clock() - before
    assert.is_true(taken >= 0.29 and taken < 10, "took " .. taken)
  end)

  it("drains: handlers that run end, and their acks go out", function(w)
    local topic, bus = w:topic()
    local ended = 0
    w:fill(topic, 5)
    topic:on("*", { concurrency = 5, group = "g" }, function()
      bus:sleep(0.3)
      ended = ended + 1
    end)
    local started = w.clock()
    w:wait(function() return w.clock() - started > 0.15 end)
    bus:drain(10)
    assert.equal(5, ended)
    assert.equal(0, bus.streams:xpending(w.name, "g").count)
  end)

  it("gives back what is not handled when the grace is over, for anybody to take at once", function(w)
    local topic, bus = w:topic()
    local started = 0
    w:fill(topic, 3)
    topic:on("*", { group = "g" }, function()
      started = started + 1
      bus:sleep(30)
    end)
    w:wait(function() return started == 1 and bus.streams:xpending(w.name, "g").count == 3 end)
    bus:drain(0.2)
    -- What nobody gave back would not be idle for as long as that.
    local taken = bus.streams:xautoclaim(w.name, "g", "other", 3600, "0-0")
    assert.equal(3, #taken.entries)
    for _, row in ipairs(bus.streams:xpending(w.name, "g", { count = 10 })) do
      assert.equal(1, row.deliveries) -- this one: the run that was cut short isn't counted
    end
  end)

  it("goes on at once with what another gave back", "reopen", function(w)
    local topic, bus = w:topic()
    local started = 0
    w:fill(topic, 1)
    topic:on("*", { group = "g" }, function()
      started = started + 1
      bus:sleep(30)
    end)
    w:wait(function() return started == 1 end)
    bus:drain(0.2)
    w:close()
    local got
    w:topic():on("*", { group = "g" }, function(event) got = { event.data.n, event.attempt } end)
    w:wait(function() return got end, 10) -- less than a lease
    assert.same({ 1, 1 }, got)
  end)

  it("closes twice without harm, and says so afterwards", function(w)
    local topic, bus = w:topic()
    bus:close()
    bus:close()
    local ok, result, err = pcall(topic.publish, topic, { type = "A", data = {} })
    if ok then
      assert.is_nil(result)
      assert.equal("TIDE-CLOSED", err.code)
    else
      assert.matches("closed", tostring(result))
    end
  end)

  it("closes in the middle of a publish without losing what was confirmed", "reopen", function(w)
    local topic, bus = w:topic()
    local confirmed, count, asked = {}, 0, 0
    for _ = 1, 20 do
      bus:spawn(function()
        while true do
          asked = asked + 1
          local result = topic:publish { type = "A", data = {} }
          if not result then return end
          confirmed[result.id] = result.stream_id
          count = count + 1
        end
      end)
    end
    w:wait(function() return count > 200 end)
    w:close()
    local entries = w:open().streams:xrange(w.name, "-", "+")
    assert.is_true(#entries >= count and #entries <= asked)
    for _, entry in ipairs(entries) do
      local id = entry.fields.event_id
      if confirmed[id] then assert.equal(confirmed[id], entry.id) end
      confirmed[id] = nil
    end
    assert.is_nil(next(confirmed))
  end)

  it("stops and drains once, however many ask for it at once", function(w)
    local topic, bus = w:topic()
    local ended, running = 0, 0
    w:fill(topic, 20)
    topic:on("*", { group = "g", concurrency = 4 }, function()
      running = running + 1
      if running == 4 then
        for _ = 1, 5 do
          bus:spawn(function() bus:stop() end)
        end
      end
      bus:sleep(0.2)
      ended = ended + 1
      bus:stop()
    end)
    assert(bus:run(30))
    assert.is_true(ended >= 4 and ended <= 20)
    bus:close()
    bus:close()
    local ok, result = pcall(bus.run, bus, 1)
    assert.is_falsy(ok and result)
  end)

  it("closes from inside a handler", function(w)
    local topic, bus = w:topic()
    local got
    topic:on("*", function()
      got = true
      bus:stop()
    end)
    w:fill(topic, 1)
    assert(bus:run(20))
    assert.is_true(got)
    bus:close()
  end)

  it("opens and closes two hundred times without keeping descriptors", function(w)
    local function descriptors()
      return select(2, shell.capture("ls /proc/" .. shell.own_pid() .. "/fd"):gsub("\n", ""))
    end
    local tidemill = require "tidemill"
    local function cycle()
      local bus = assert(tidemill.open(w.url))
      assert(bus:topic(w.name, { max_len = 10 }):publish { type = "A", data = {} })
      bus:close()
    end
    cycle()
    local before = descriptors()
    for _ = 1, 200 do cycle() end
    collectgarbage()
    assert.is_true(descriptors() <= before + 2)
  end)

  it("goes on with 10,000 events when the broker restarts in the middle", "restart", function(w)
    local topic = w:topic()
    w:fill(topic, 10000)
    local seen, count, total = {}, 0, 0
    topic:on("*", { lease = 2 }, function(event)
      if not seen[event.data.n] then count = count + 1 end
      seen[event.data.n] = true
      total = total + 1
    end)
    w:wait(function() return count > 3000 end)
    world.server():kill()
    world.server():restart()
    w:wait(function() return count == 10000 end, 60)
    w:pass(0.3)
    assert.is_true(total <= 10000 + 2000, (total - 10000) .. " duplicates are more than one window")
  end)

  it("publishes again after the broker came back", "restart", function(w)
    local topic, bus = w:topic()
    assert(topic:publish { type = "A", data = {} })
    world.server():kill()
    world.server():restart()
    local result
    for _ = 1, 100 do
      result = topic:publish({ id = "again", type = "A", data = {} }, { dedupe = 60 })
      if result then break end
      bus:sleep(0.1)
    end
    assert.is_table(result)
    assert.equal(2, bus.streams:xlen(w.name))
  end)

  it("delivers again what a process held that was killed inside a handler", "processes", function(w)
    local topic = w:topic()
    w:fill(topic, 20)
    local victim = w:worker [[
      topic:on("*", { lease = 1, prefetch = 5 }, function(event)
        print("got " .. event.data.n)
        if event.data.n == 10 then bus:sleep(60) end
      end)
      bus:run()
    ]]
    assert(victim:wait_for("got 10\n", 30))
    victim:kill()
    local seen = {}
    topic:on("*", { lease = 1 }, function(event) seen[event.data.n] = event.attempt end)
    local before = numbers_of(victim)
    w:wait(function()
      for n = 1, 20 do
        if not seen[n] and (n == 10 or not before[n]) then return false end
      end
      return true
    end, 30, "every event that the victim had not ended")
    assert.is_true(seen[10] >= 2)
    local streams = w.buses[1].streams
    w:wait(function()
      for _, group in ipairs(streams:xinfo_groups(w.name)) do
        if group.pending > 0 then return false end
      end
      return true
    end, 30, "nothing pending")
    local twice = 0
    for n in pairs(seen) do
      if before[n] then twice = twice + 1 end
    end
    assert.is_true(twice <= 10, twice .. " duplicates are more than two windows of the victim")
  end)

  it("dead-letters an event that kills its process again and again", "processes", function(w)
    local topic = w:topic()
    w:fill(topic, 3)
    local script = [[
      topic:on("*", { lease = 0.5, retry = { max = 2 } }, function(event)
        print("got " .. event.data.n)
        if event.data.n == 2 then os.execute("kill -9 $PPID") bus:sleep(5) end
      end)
      bus:run(25)
    ]]
    local rest, runs = {}, 0
    for _ = 1, 2 do
      local worker = w:worker(script)
      worker:wait(30)
      local seen = numbers_of(worker)
      runs = runs + (seen[2] or 0)
      for n in pairs(seen) do
        if n ~= 2 then rest[n] = true end
      end
    end
    assert.equal(2, runs)
    topic:on("*", { lease = 0.5, retry = { max = 2 } }, function(event) rest[event.data.n] = true end)
    w:wait(function() return topic:dead_letters():count() == 1 end, 30)
    assert.same({ n = 2 }, topic:dead_letters():list()[1].event.data)
    w:wait(function() return rest[1] and rest[3] end, 30, "its neighbours")
    w:pass(0.3)
    assert.is_nil(rest[2])
  end)

  it("runs what a killed process had only buffered, also with a single attempt", "processes", function(w)
    local topic = w:topic()
    w:fill(topic, 5)
    local victim = w:worker [[
      topic:on("*", { lease = 0.5, settle = 30, prefetch = 16, retry = { max = 1 } }, function(event)
        print("got " .. event.data.n)
        bus:sleep(60)
      end)
      bus:run()
    ]]
    assert(victim:wait_for("got 1\n", 30))
    w:wait(function() return w.buses[1].streams:xpending(w.name, "default").count == 5 end)
    victim:kill()
    local seen = {}
    topic:on("*", { lease = 0.5, retry = { max = 1 } }, function(event) seen[event.data.n] = event.attempt end)
    -- Of the first nobody knows that it began: a single death proves nothing.
    w:wait(function() return #seen == 5 end)
    assert.same({ 1, 1, 1, 1, 1 }, seen)
    w:wait(function() return w.buses[1].streams:xpending(w.name, "default").count == 0 end)
    assert.equal(0, topic:dead_letters():count())
  end)

  it("dead-letters what kills two processes, also with a single attempt", "processes", function(w)
    local topic = w:topic()
    w:fill(topic, 3)
    local script = [[
      topic:on("*", { lease = 0.5, retry = { max = 1 } }, function(event)
        print("got " .. event.data.n)
        if event.data.n == 2 then os.execute("kill -9 $PPID") bus:sleep(5) end
      end)
      bus:run(25)
    ]]
    local first = w:worker(script)
    first:wait(30)
    local second = w:worker(script)
    second:wait(30)
    assert.matches("got 2\n", first:output())
    assert.matches("got 2\n", second:output())
    local rest = {}
    topic:on("*", { lease = 0.5, retry = { max = 1 } }, function(event) rest[event.data.n] = true end)
    w:wait(function() return topic:dead_letters():count() == 1 end, 30)
    assert.same({ n = 2 }, topic:dead_letters():list()[1].event.data)
    assert.is_nil(rest[2])
  end)

  it("lets two workers share a group while a third process publishes", "processes", function(w)
    local worker = [[
      topic:on("*", { prefetch = 20 }, function(event) print("got " .. event.data.n) end)
      bus:run()
    ]]
    local first, second = w:worker(worker), w:worker(worker)
    local publisher = w:worker [[
      for n = 1, 400 do assert(topic:publish { type = "A", data = { n = n } }) end
      print "published"
    ]]
    assert(publisher:wait_for("published", 30))
    local _, count_1, count_2, total_1, total_2
    shell.wait_until(function()
      _, count_1, total_1 = numbers_of(first)
      _, count_2, total_2 = numbers_of(second)
      return total_1 + total_2 >= 400
    end, 30, 0.05)
    assert.equal(400, count_1 + count_2)
    assert.equal(400, total_1 + total_2)
  end)

  it("drains on SIGTERM and exits with 0", "processes", function(w)
    local worker = w:worker [[
      topic:on("*", function(event)
        print "started"
        bus:sleep(0.5)
        print "ended"
      end)
      assert(bus:run())
      print "stopped"
    ]]
    w:fill(w:topic(), 1)
    assert(worker:wait_for("started", 30))
    worker:signal "TERM"
    assert.equal(0, worker:wait(30))
    assert.matches("ended\nstopped", worker:output())
  end)

  it("goes on after the process was stopped for longer than its lease", "processes", function(w)
    local topic = w:topic()
    w:fill(topic, 10)
    local worker = w:worker [[
      topic:on("*", { lease = 1.2 }, function(event)
        print("got " .. event.data.n)
        if event.data.n < 3 then return end
        bus:sleep(0.2) -- the acks are out, and the next renewal isn't due: nothing is locked
        print "holding"
        bus:sleep(1.5)
      end)
      bus:run()
    ]]
    assert(worker:wait_for("holding", 30))
    worker:signal "STOP"
    local taken = {}
    topic:on("*", { lease = 1.2 }, function(event) taken[event.data.n] = (taken[event.data.n] or 0) + 1 end)
    w:wait(function()
      for n = 3, 10 do
        if not taken[n] then return false end
      end
      return true
    end, 30)
    worker:signal "CONT"
    w:pass(2)
    local _, _, total = numbers_of(worker)
    assert.equal(3, total)
    -- What the stopped one had ended, it may not have told before it stopped: those two, once.
    for n = 1, 10 do assert.is_true((taken[n] or 0) <= 1 and (n <= 2 or taken[n] == 1)) end
  end)
end)
