-- How a turn of the loop shares its time; what a run, tick and drain are is bus_spec's, signals are loop_spec's.
local world = require "spec.lua.support.world"

local bus

before_each(function()
  bus = world.open()
end)

after_each(function()
  bus:close()
end)

local function fill(name, count)
  local events = {}
  for n = 1, count do
    events[n] = { type = "A", data = n }
  end
  assert(bus:topic(name):publish_batch(events))
end

describe("a turn", function()
  it("gives each subscription a share, however much another has to do", function()
    local order = {}
    -- One before the full one and one after it: whose turn is first doesn't matter.
    for name, count in pairs { before = 3, full = 2000, after = 3 } do
      fill(name, count)
    end
    for _, name in ipairs { "before", "full", "after" } do
      bus:topic(name):on("*", function() order[#order + 1] = name end)
    end
    world.wait(bus, function() return #order == 2006 end)
    local last
    for n, name in ipairs(order) do
      last = name ~= "full" and n or last
    end
    assert.is_true(last < 500, "the last of the short topics came as number " .. last)
  end)

  it("gives none more than its part while others have events, too", function()
    -- loop.lua: 256 events a turn, in equal parts.
    local names, count, part = { "a", "b", "c" }, 1000, math.floor(256 / 3)
    local at_hand = 600 -- in each window, before the first handler ends
    local subscriptions, order, go = {}, {}, false
    local function windows_are_full()
      for _, name in ipairs(names) do
        if subscriptions[name]:stats().buffered < at_hand then return false end
      end
      return true
    end
    for _, name in ipairs(names) do
      fill(name, count)
      subscriptions[name] = bus:topic(name):on("*", { prefetch = count, concurrency = 1 }, function()
        while not go do -- the first of each
          bus:sleep(0) -- not longer: all three go on in the same turn
          go = go or windows_are_full()
        end
        order[#order + 1] = name
        if #order == 3 * count then bus:stop() end
      end)
    end
    assert(bus:run(20))
    assert.equal(3 * count, #order)
    -- Who is resumed goes on with a part beside that of the turn: what comes after the last of these runs counts, as
    -- long as no window can have run dry.
    local seen, left, others = {}, { a = at_hand, b = at_hand, c = at_hand }, #names
    local counts, last, run, longest = false, nil, 0, 0
    for _, name in ipairs(order) do
      counts = counts or others == 0 and name ~= last
      if not seen[name] then
        seen[name], others = true, others - 1
      end
      run = name == last and run + 1 or 1
      last = name
      longest = counts and math.max(longest, run) or 0
      left[name] = left[name] - 1
      if left[name] == 0 then break end
    end
    assert.is_true(longest >= part, "nothing was compared: " .. longest)
    assert.is_true(longest <= part, longest .. " events of one topic in a row")
  end)

  it("runs as many handlers at once as `concurrency` says, of each subscription", function()
    fill("one", 6)
    fill("three", 9)
    local running, most, done = { one = 0, three = 0 }, { one = 0, three = 0 }, 0
    for name, concurrency in pairs { one = 1, three = 3 } do
      bus:topic(name):on("*", { concurrency = concurrency }, function()
        running[name] = running[name] + 1
        most[name] = math.max(most[name], running[name])
        bus:sleep(0.002)
        running[name] = running[name] - 1
        done = done + 1
      end)
    end
    world.wait(bus, function() return done == 15 end)
    assert.same({ one = 1, three = 3 }, most)
  end)

  it("starts what was spawned by what was spawned", function()
    local depth = 0
    local function deeper()
      depth = depth + 1
      if depth < 20 then
        bus:spawn(deeper)
      end
    end
    bus:spawn(deeper)
    world.wait(bus, function() return depth == 20 end)
  end)

  it("starts subscriptions again after a drain", function()
    local topic = bus:topic "orders"
    local got = world.collect(topic)
    topic:publish { type = "A" }
    world.wait(bus, function() return #got == 1 end)
    assert(bus:drain(1))
    topic:publish { type = "B" }
    world.wait(bus, function() return #got == 2 end)
    assert.equal("B", got[2].type)
    assert.equal("orders", got[1].topic) -- also of the stopped one's events
  end)
end)

describe("a coroutine that dies with an event in its hands", function()
  it("has failed with it: the event is retried, and others take its place", function()
    local topic = bus:topic "orders"
    local attempts, after = {}, 0
    topic:on("Bad", { retry = { max = 3, backoff = "fixed", delay = 0.001 } }, function(event)
      attempts[#attempts + 1] = event.attempt
      if #attempts == 1 then
        local settle = bus.settle -- what comes after a handler dies with the coroutine
        bus.settle = function()
          bus.settle = settle
          error "not enough memory"
        end
      end
      return nil, "again"
    end)
    topic:on("Good", function() after = after + 1 end)
    topic:publish { type = "Bad" }
    topic:publish { type = "Good" }
    world.wait(bus, function() return topic:dead_letters():count() == 1 and after == 1 end)
    assert.same({ 1, 2, 3 }, attempts)
    assert.equal(0, bus:info("orders").groups[1].pending)
    assert.matches("a coroutine died: .*not enough memory", table.concat(bus.lines, "\n"))
  end)
end)
