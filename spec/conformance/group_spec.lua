-- SPDX-License-Identifier: MIT
local world = require "spec.conformance.world"
local it = world.behaviours(it, pending)

local function collect(topic, options)
  local got = {}
  topic:on("*", options or {}, function(event) got[#got + 1] = event.data.n end)
  return got
end

local function assert_counts_up(got, count)
  assert.equal(count, #got)
  for n = 1, count do assert.equal(n, got[n]) end
end

describe("consumer groups on " .. world.engine, function()
  it("deliver in the order of publishing", function(w)
    local topic = w:topic()
    w:fill(topic, 2000)
    local got = collect(topic)
    w:wait(function() return #got >= 2000 end)
    assert_counts_up(got, 2000)
  end)

  it("deliver each event once when nothing fails", function(w)
    local topic = w:topic()
    w:fill(topic, 1000)
    local got = collect(topic)
    w:wait(function() return #got >= 1000 end)
    w:pass(0.5)
    assert_counts_up(got, 1000)
  end)

  it("give two groups everything each", function(w)
    local topic = w:topic()
    w:fill(topic, 500)
    local first, second = collect(topic, { group = "first" }), collect(topic, { group = "second" })
    w:wait(function() return #first >= 500 and #second >= 500 end)
    assert_counts_up(first, 500)
    assert_counts_up(second, 500)
  end)

  it("start a new group with old events", function(w)
    local topic = w:topic()
    w:fill(topic, 50)
    local got = collect(topic, { group = "late" })
    w:wait(function() return #got >= 50 end)
    assert_counts_up(got, 50)
  end)

  it("start with only new events where asked to", function(w)
    local topic, bus = w:topic()
    w:fill(topic, 50)
    local got = {}
    topic:on("*", { start = "$" }, function(event) got[#got + 1] = event.type end)
    w:wait(function()
      local groups = bus.streams:xinfo_groups(w.name)
      return groups and #groups == 1
    end)
    assert(topic:publish { type = "New", data = {} })
    w:wait(function() return #got >= 1 end)
    w:pass(0.1)
    assert.same({ "New" }, got)
  end)

  it("start after a given id where asked to", function(w)
    local topic = w:topic()
    local results = assert(topic:publish_batch(w.events(10)))
    local got = collect(topic, { start = results[4].stream_id })
    w:wait(function() return #got >= 6 end)
    assert.same({ 5, 6, 7, 8, 9, 10 }, got)
  end)

  it("create a stream that is missing, and wait for its first event", function(w)
    local topic = w:topic()
    local got = collect(topic)
    w:pass(0.1)
    assert(topic:publish { type = "First", data = { n = 1 } })
    w:wait(function() return #got == 1 end)
  end)

  it("share the work among the consumers of a group", "shared", function(w)
    local topic = w:topic()
    local counts, seen = {}, {}
    for consumer = 1, 3 do
      counts[consumer] = 0
      w:topic():on("*", { prefetch = 10 }, function(event)
        counts[consumer] = counts[consumer] + 1
        seen[event.data.n] = (seen[event.data.n] or 0) + 1
      end)
    end
    w:pass(0.2)
    w:fill(topic, 600)
    w:wait(function() return counts[1] + counts[2] + counts[3] >= 600 end)
    w:pass(0.2)
    for n = 1, 600 do assert.equal(1, seen[n]) end
    for consumer = 1, 3 do assert.is_true(counts[consumer] > 0) end
  end)

  it("leave nothing pending after the last ack", function(w)
    local topic, bus = w:topic()
    w:fill(topic, 200)
    local got = collect(topic, { group = "g" })
    w:wait(function() return #got >= 200 end)
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 0 end)
  end)

  it("make no second delivery before an ack when concurrency is 1", function(w)
    local topic, bus = w:topic()
    w:fill(topic, 30)
    local running, most, ended = 0, 0, {}
    topic:on("*", { concurrency = 1 }, function(event)
      running = running + 1
      most = math.max(most, running)
      bus:sleep(0.005)
      running = running - 1
      ended[#ended + 1] = event.data.n
    end)
    w:wait(function() return #ended >= 30 end)
    w:pass(0.2)
    assert.equal(1, most)
    assert_counts_up(ended, 30)
  end)

  it("run as many handlers at once as concurrency says", function(w)
    local topic, bus = w:topic()
    w:fill(topic, 40)
    local running, most, done = 0, 0, 0
    topic:on("*", { concurrency = 8 }, function()
      running = running + 1
      most = math.max(most, running)
      bus:sleep(0.05)
      running = running - 1
      done = done + 1
    end)
    w:wait(function() return done >= 40 end)
    assert.equal(8, most)
  end)

  it("hold no more events than prefetch", function(w)
    local topic, bus = w:topic()
    w:fill(topic, 300)
    local release = false
    topic:on("*", { prefetch = 20, group = "g" }, function()
      while not release do bus:sleep(0.01) end
    end)
    local most = 0
    local function pending()
      local count = bus.streams:xpending(w.name, "g").count
      most = math.max(most, count)
      return count
    end
    w:wait(function() return pending() > 0 end)
    for _ = 1, 10 do
      w:pass(0.03)
      pending()
    end
    -- All that one handler holds up, and no more; what is acked, but not confirmed, may lie beside it.
    assert.is_true(most <= 20, most .. " are held")
    release = true
    w:wait(function() return pending() == 0 end)
  end)

  it("choose the most exact handler for a type", function(w)
    local topic = w:topic()
    local got = {}
    for _, pattern in ipairs { "*", "order.*", "order.paid", "order.paid.*" } do
      topic:on(pattern, function(event) got[event.type] = pattern end)
    end
    for _, kind in ipairs { "other", "order.sent", "order.paid", "order.paid.late" } do
      assert(topic:publish { type = kind, data = {} })
    end
    w:wait(function() return got["order.paid.late"] end)
    assert.same({ other = "*", ["order.sent"] = "order.*", ["order.paid"] = "order.paid",
      ["order.paid.late"] = "order.paid.*" }, got)
  end)

  it("ack what no handler wants, by default", function(w)
    local topic, bus = w:topic()
    local got = 0
    topic:on("Wanted", { group = "g" }, function() got = got + 1 end)
    assert(topic:publish_batch { { type = "Other", data = {} }, { type = "Wanted", data = {} } })
    w:wait(function() return got == 1 and bus.streams:xpending(w.name, "g").count == 0 end)
  end)

  it("dead-letter what no handler wants, where asked to", function(w)
    local topic = w:topic()
    topic:on("Wanted", { unknown = "reject" }, function() end)
    assert(topic:publish { type = "Other", data = {} })
    w:wait(function() return topic:dead_letters():count() == 1 end)
  end)

  it("stop delivering after unsubscribe, and go on with a new subscription", function(w)
    local topic = w:topic()
    local got = {}
    local subscription = topic:on("*", function(event) got[#got + 1] = event.data.n end)
    assert(topic:publish { type = "A", data = { n = 1 } })
    w:wait(function() return #got == 1 end)
    subscription:unsubscribe()
    w:pass(0.2)
    assert(topic:publish { type = "A", data = { n = 2 } })
    w:pass(0.2)
    assert.equal(1, #got)
    topic:on("*", function(event) got[#got + 1] = event.data.n end)
    w:wait(function() return #got == 2 end)
    assert.same({ 1, 2 }, got)
  end)

  it("go on where they stopped after close and open", "reopen", function(w)
    local topic = w:topic()
    w:fill(topic, 100)
    local order = {}
    local function handler(event) order[#order + 1] = event.data.n end
    topic:on("*", { prefetch = 10 }, handler)
    w:wait(function() return #order >= 40 end)
    w.buses[1]:drain(5)
    local first = #order
    w:close()
    w:topic():on("*", handler)
    w:wait(function() return #order >= 100 end)
    w:pass(0.2)
    assert.equal(100, #order)
    -- The first subscription has its order, up to where it stopped. What it held then was given back, and comes between
    -- what nobody had read: both in order, and each event once.
    for n = 1, first do assert.equal(n, order[n]) end
    local newer, older = first, first
    for i = first + 1, 100 do
      local n = order[i]
      if n > newer then
        newer = n
      else
        assert.is_true(n > older, n .. " comes after " .. older .. " and " .. newer)
        older = n
      end
    end
    table.sort(order)
    assert_counts_up(order, 100)
  end)

  it("lose none of 5,000 events over 20 open and close cycles", "reopen", function(w)
    w:fill(w:topic(), 5000)
    w:close()
    local seen, count = {}, 0
    for cycle = 1, 20 do
      w:topic():on("*", { prefetch = 50, lease = 1 }, function(event)
        if not seen[event.data.n] then count = count + 1 end
        seen[event.data.n] = (seen[event.data.n] or 0) + 1
      end)
      w:wait(function() return count >= cycle * 250 end, 60)
      if cycle % 2 == 0 then w.buses[1]:drain(5) end
      w:close()
    end
    w:topic():on("*", { lease = 1 }, function(event)
      if not seen[event.data.n] then count = count + 1 end
      seen[event.data.n] = (seen[event.data.n] or 0) + 1
    end)
    w:wait(function() return count == 5000 end, 60)
    local twice = 0
    for n = 1, 5000 do twice = twice + seen[n] - 1 end
    assert.is_true(twice <= 10 * 50, twice .. " duplicates are more than ten abrupt closes can leave")
  end)

  it("survive closing while another goes on: each event once", "shared", function(w)
    local topic = w:topic()
    local seen, count = {}, 0
    local function handler(event)
      seen[event.data.n] = (seen[event.data.n] or 0) + 1
      count = count + 1
    end
    local leaving = w:open()
    leaving:topic(w.name):on("*", { lease = 1 }, handler)
    topic:on("*", { lease = 1 }, handler)
    w:fill(topic, 1000)
    w:wait(function() return count > 100 end)
    leaving:drain(5)
    leaving:close()
    table.remove(w.buses, 2)
    w:wait(function() return count >= 1000 end, 60)
    w:pass(0.3)
    for n = 1, 1000 do assert.equal(1, seen[n]) end
  end)

  it("notice an event of another bus at once", "shared", function(w)
    local topic = w:topic()
    local at
    topic:on("*", function() at = w.clock() end)
    w:pass(0.3)
    local other = w:open()
    local sent = w.clock()
    assert(other:topic(w.name):publish { type = "A", data = {} })
    w:wait(function() return at end)
    assert.is_true(at - sent < 2, "took " .. (at - sent) .. " s")
  end)
end)
