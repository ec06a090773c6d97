-- SPDX-License-Identifier: MIT
local tidemill = require "tidemill"
local world = require "spec.conformance.world"
local it = world.behaviours(it, pending)

local quick = { max = 3, backoff = "fixed", delay = 0.02, jitter = 0 }

describe("settling on " .. world.engine, function()
  it("sends an event again whose handler raised", function(w)
    local topic = w:topic()
    local attempts = {}
    topic:on("*", { retry = quick }, function(event)
      attempts[#attempts + 1] = event.attempt
      if event.attempt == 1 then error "not yet" end
    end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return #attempts == 2 end)
    w:pass(0.2)
    assert.same({ 1, 2 }, attempts)
  end)

  it("sends an event again whose handler returned nil, err", function(w)
    local topic = w:topic()
    local attempts = 0
    topic:on("*", { retry = quick }, function()
      attempts = attempts + 1
      if attempts < 3 then return nil, "not yet" end
    end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return attempts == 3 end)
    w:pass(0.2)
    assert.equal(3, attempts)
  end)

  it("goes on with the next event while one waits for its retry", function(w)
    local topic = w:topic()
    local order = {}
    topic:on("*", { retry = { max = 3, backoff = "fixed", delay = 0.3, jitter = 0 } }, function(event)
      order[#order + 1] = event.data.n
      if event.data.n == 1 and event.attempt == 1 then error "once" end
    end)
    w:fill(topic, 5)
    w:wait(function() return #order == 6 end)
    assert.same({ 1, 2, 3, 4, 5, 1 }, order)
  end)

  it("dead-letters after the last attempt, with what is needed to understand it", function(w)
    local topic, bus = w:topic()
    local attempts = 0
    topic:on("*", { retry = quick, group = "g" }, function()
      attempts = attempts + 1
      error("broken for good", 0)
    end)
    local sent = assert(topic:publish { type = "A", data = { n = 1 }, metadata = { tenant = "t" } })
    w:wait(function() return topic:dead_letters():count() == 1 end)
    assert.equal(3, attempts)
    local letter = topic:dead_letters():list()[1]
    assert.equal(sent.id, letter.event.id)
    assert.equal("A", letter.event.type)
    assert.same({ n = 1 }, letter.event.data)
    assert.equal("t", letter.event.metadata.tenant)
    assert.equal(w.name, letter.stream)
    assert.equal(sent.stream_id, letter.stream_id)
    assert.equal("g", letter.group)
    assert.equal(3, letter.attempts)
    assert.matches("broken for good", letter.error)
    assert.is_string(letter.reason)
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 0 end)
  end)

  it("dead-letters at once what is rejected, with the reason", function(w)
    local topic = w:topic()
    local attempts = 0
    topic:on("*", { retry = quick }, function()
      attempts = attempts + 1
      return tidemill.reject "not for us"
    end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return topic:dead_letters():count() == 1 end)
    assert.equal(1, attempts)
    assert.matches("not for us", topic:dead_letters():list()[1].reason)
  end)

  it("replays a dead letter into its stream, as a new event with the same id", function(w)
    local topic = w:topic()
    local broken, got = true, {}
    topic:on("*", { retry = { max = 1 } }, function(event)
      if broken then error "broken" end
      got[#got + 1] = event.id
    end)
    local sent = assert(topic:publish { type = "A", data = { n = 7 } })
    w:wait(function() return topic:dead_letters():count() == 1 end)
    broken = false
    assert.equal(1, topic:dead_letters():replay())
    w:wait(function() return #got == 1 end)
    assert.same({ sent.id }, got)
    assert.equal(0, topic:dead_letters():count())
  end)

  it("purges dead letters", function(w)
    local topic = w:topic()
    topic:on("*", function() return tidemill.reject "no" end)
    w:fill(topic, 10)
    w:wait(function() return topic:dead_letters():count() == 10 end)
    assert.equal(10, topic:dead_letters():purge())
    assert.equal(0, topic:dead_letters():count())
  end)

  it("dead-letters one poison event in a hundred and handles the others", function(w)
    local topic = w:topic()
    local handled = 0
    topic:on("*", { retry = quick }, function(event)
      if event.data.n == 50 then error "poison" end
      handled = handled + 1
    end)
    w:fill(topic, 100)
    w:wait(function() return handled == 99 and topic:dead_letters():count() == 1 end)
    assert.same({ n = 50 }, topic:dead_letters():list()[1].event.data)
  end)

  it("keeps the delay of a nack", function(w)
    local topic = w:topic()
    local times = {}
    topic:on("*", function(event)
      times[#times + 1] = w.clock()
      if event.attempt == 1 then return tidemill.nack { delay = 0.5 } end
    end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return #times == 2 end)
    local taken = times[2] - times[1]
    assert.is_true(taken >= 0.49, "came after " .. taken .. " s")
    assert.is_true(taken < 2.5, "came after " .. taken .. " s")
  end)

  it("keeps the delays of several nacks apart, none early", function(w)
    local topic = w:topic()
    local asked, again, early = {}, {}, 0
    topic:on("*", { concurrency = 5 }, function(event)
      local n = event.data.n
      if event.attempt == 1 then
        asked[n] = w.clock()
        return tidemill.nack { delay = (6 - n) * 0.15 }
      end
      if w.clock() - asked[n] < (6 - n) * 0.15 - 0.01 then early = early + 1 end
      again[#again + 1] = n
    end)
    w:fill(topic, 5)
    w:wait(function() return #again == 5 end)
    assert.equal(0, early)
    table.sort(again)
    assert.same({ 1, 2, 3, 4, 5 }, again)
  end)

  it("keeps a long delay out of the window, and its attempt count", function(w)
    local topic = w:topic()
    local attempts, metadata = {}, {}
    topic:on("*", { delay_move = 0.2, retry = { max = 3, backoff = "fixed", delay = 0.4, jitter = 0 } },
      function(event)
        attempts[#attempts + 1] = event.attempt
        metadata[#metadata + 1] = event.metadata
        error "again"
      end)
    assert(topic:publish { type = "A", data = {}, metadata = { shop = "7" } })
    w:wait(function() return topic:dead_letters():count() == 1 end)
    assert.same({ 1, 2, 3 }, attempts)
    -- What the move adds is nobody's metadata.
    assert.same({ { shop = "7" }, { shop = "7" }, { shop = "7" } }, metadata)
    assert.same({ shop = "7" }, topic:dead_letters():list()[1].event.metadata)
  end)

  it("shows a long retry to its own group alone", function(w)
    local topic = w:topic()
    local failing, calm = {}, {}
    topic:on("*", { group = "failing", delay_move = 0.1, retry = { backoff = "fixed", delay = 0.3, jitter = 0 } },
      function(event)
        failing[#failing + 1] = event.attempt
        if event.attempt == 1 then error "once" end
      end)
    topic:on("*", { group = "calm" }, function(event) calm[#calm + 1] = event.attempt end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return #failing == 2 end)
    w:pass(0.3)
    assert.same({ 1, 2 }, failing)
    assert.same({ 1 }, calm)
  end)

  it("gives a released event to somebody, not counted as an attempt", function(w)
    local topic = w:topic()
    local attempts = {}
    topic:on("*", { lease = 1 }, function(event)
      attempts[#attempts + 1] = event.attempt
      if #attempts == 1 then return tidemill.release() end
    end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return #attempts == 2 end)
    assert.same({ 1, 1 }, attempts)
  end)

  it("dead-letters what cannot be decoded once somebody looks, and goes on", function(w)
    local topic, bus = w:topic()
    local got = {}
    topic:on("*", { retry = quick }, function(event) got[#got + 1] = event.data.n end)
    assert(bus.streams:xadd(w.name, "*", { event_type = "A", event_id = "x", data = '{"n":' }))
    assert(topic:publish { type = "A", data = { n = 2 } })
    w:wait(function() return #got == 1 and topic:dead_letters():count() == 1 end)
    assert.same({ 2 }, got)
  end)

  it("takes entries of other programs, with the fields they use", function(w)
    local topic, bus = w:topic()
    local got
    topic:on("OrderPlaced", function(event) got = { event.data.total, event.occurred_at } end)
    assert(bus.streams:xadd(w.name, "*", { type = "OrderPlaced", payload = '{"total":5}', timestamp = "2024-01-01" }))
    w:wait(function() return got end)
    assert.same({ 5, "2024-01-01" }, got)
  end)

  it("gives entries without a type to the handler of everything", function(w)
    local topic, bus = w:topic()
    local got
    topic:on("*", function(event) got = event.fields end)
    assert(bus.streams:xadd(w.name, "*", { odd = "field", ["<script>"] = "\27[31m" }))
    w:wait(function() return got end)
    assert.equal("field", got.odd)
    assert.equal("\27[31m", got["<script>"])
  end)

  it("acks a pending entry that was deleted, and goes on", function(w)
    local topic, bus = w:topic()
    local hold, done = true, 0
    local results = assert(topic:publish_batch(w.events(3)))
    topic:on("*", { group = "g", retry = { max = 5, backoff = "fixed", delay = 0.05, jitter = 0 } }, function()
      if hold then return nil, "held" end
      done = done + 1
    end)
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 3 end)
    assert.equal(1, bus.streams:xdel(w.name, results[2].stream_id))
    hold = false
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 0 end)
    assert.is_true(done >= 2)
  end)

  it("acks what was trimmed while nobody held it, and counts it", function(w)
    local topic, bus = w:topic()
    local results = assert(topic:publish_batch(w.events(5)))
    -- Pending for a consumer that is dead.
    assert(bus.streams:xgroup_create(w.name, "g", "0"))
    assert(bus.streams:xreadgroup { group = "g", consumer = "ghost", streams = { [w.name] = ">" }, count = 4 })
    assert.equal(3, bus.streams:xtrim(w.name, { minid = results[4].stream_id, exact = true }))
    local got = {}
    local subscription = topic:on("*", { group = "g", lease = 0.3 }, function(event) got[#got + 1] = event.data.n end)
    w:wait(function() return #got >= 2 and bus.streams:xpending(w.name, "g").count == 0 end)
    w:pass(0.2)
    table.sort(got)
    assert.same({ 4, 5 }, got)
    assert.equal(3, subscription:stats().gone)
  end)

  it("recreates a group that was destroyed under a read, and goes on where all was settled", function(w)
    local topic, bus = w:topic()
    local got = {}
    local subscription = topic:on("*", { group = "g" }, function(event)
      got[event.data.n] = (got[event.data.n] or 0) + 1
    end)
    w:fill(topic, 3)
    w:wait(function() return got[3] end)
    w:pass(4) -- how far all is settled is looked at each second
    assert.equal(1, bus.streams:xgroup_destroy(w.name, "g"))
    assert(topic:publish { type = "A", data = { n = 4 } })
    w:wait(function() return got[4] end, 20)
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 0 end)
    assert.equal(1, subscription:stats().group_recreated)
    assert.same({ 1, 1, 1, 1 }, got)
  end)

  it("loses nothing when a group is destroyed in the middle of its work", function(w)
    local topic, bus = w:topic()
    local got, count = {}, 0
    topic:on("*", { group = "g", prefetch = 20 }, function(event)
      if not got[event.data.n] then count = count + 1 end
      got[event.data.n] = (got[event.data.n] or 0) + 1
      bus:sleep(0.001)
    end)
    w:fill(topic, 300)
    w:wait(function() return count > 50 end)
    assert.equal(1, bus.streams:xgroup_destroy(w.name, "g"))
    w:wait(function() return count == 300 end, 30)
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 0 end)
    for n = 1, 300 do assert.is_true(got[n] <= 2, n .. " came " .. got[n] .. " times") end
  end)

  it("parks on a key of another type and resumes when it is mended", "wrongtype", function(w)
    local topic, bus = w:topic()
    assert(bus.streams:command("SET", w.name, "text"))
    local got, other = 0, 0
    topic:on("*", function() got = got + 1 end)
    bus:topic(w.name .. "-other"):on("*", function() other = other + 1 end)
    assert(bus:topic(w.name .. "-other"):publish { type = "A", data = {} })
    w:wait(function() return other == 1 end)
    assert(bus.streams:command("DEL", w.name))
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return got == 1 end, 20)
  end)

  it("extends the lease of a slow handler, so that it doesn't get the event again", function(w)
    local topic, bus = w:topic()
    local runs = 0
    topic:on("*", { lease = 0.4, concurrency = 2 }, function()
      runs = runs + 1
      bus:sleep(1.5)
    end)
    assert(topic:publish { type = "A", data = {} })
    w:wait(function() return runs == 1 end)
    w:pass(2)
    assert.equal(1, runs)
  end)

  it("extends the lease of a slow handler, so that nobody else gets the event", "shared", function(w)
    local runs = 0
    for _ = 1, 2 do
      local topic, bus = w:topic()
      topic:on("*", { lease = 0.6 }, function()
        runs = runs + 1
        bus:sleep(2.5)
      end)
    end
    assert(w:topic():publish { type = "A", data = {} })
    w:wait(function() return runs == 1 end)
    w:pass(3)
    assert.equal(1, runs)
  end)

  it("extends the lease of a handler that computes where it says so", "shared", function(w)
    local runs, total, repeated = 0, 0, 0
    local function count(event)
      total = total + 1
      if event.attempt > 1 then repeated = repeated + 1 end
    end
    local options = { lease = 1.5, recover = 0.1 }
    local topic = w:topic()
    local other, other_bus = w:topic()
    topic:on("*", options, function(event)
      runs = runs + 1
      count(event)
      if runs > 1 then return end
      other:on("*", options, count) -- what was not read ahead is new for it, and not repeated
      for _ = 1, 70 do -- its own loop doesn't turn meanwhile, the other consumer's does
        assert(event:extend())
        assert(other_bus:tick(0.05, { wait = true }))
      end
    end)
    w:fill(topic, 20) -- those that wait behind it are held, too
    local deadline = w.clock() + 20
    while runs == 0 and w.clock() < deadline do assert(topic.bus:tick(0.05, { wait = true })) end
    assert.equal(0, repeated)
    w:wait(function() return total == 20 end)
    assert.equal(0, repeated)
  end)

  it("keeps order within the events that do not fail", function(w)
    local topic = w:topic()
    local fine = {}
    topic:on("*", { retry = quick }, function(event)
      if event.data.n % 10 == 0 then error "each tenth fails" end
      fine[#fine + 1] = event.data.n
    end)
    w:fill(topic, 200)
    w:wait(function() return topic:dead_letters():count() == 20 end)
    assert.equal(180, #fine)
    for i = 2, #fine do assert.is_true(fine[i - 1] < fine[i]) end
  end)

  it("handles errors of every kind of value", function(w)
    local topic = w:topic()
    local values = { "text", { code = "X" }, 42, false, setmetatable({}, { __tostring = function() error "no" end }) }
    topic:on("*", { retry = { max = 1 } }, function(event)
      if event.data.n <= #values then error(values[event.data.n]) end
      error(nil)
    end)
    w:fill(topic, 6)
    w:wait(function() return topic:dead_letters():count() == 6 end)
  end)

  it("acks whatever a handler returns that is no verdict", function(w)
    local topic, bus = w:topic()
    local done = 0
    topic:on("*", { group = "g" }, function(event)
      done = done + 1
      if event.data.n == 1 then return true elseif event.data.n == 2 then return 7 else return {} end
    end)
    w:fill(topic, 3)
    w:wait(function() return done >= 3 end)
    w:wait(function() return bus.streams:xpending(w.name, "g").count == 0 end)
  end)

  it("retries by the linear and the exponential policy alike until the last attempt", function(w)
    for _, backoff in ipairs { "linear", "exponential" } do
      local bus = w:open()
      local topic = bus:topic(w.name .. backoff)
      local times = {}
      topic:on("*", { retry = { max = 3, backoff = backoff, delay = 0.1, jitter = 0, factor = 3 } }, function()
        times[#times + 1] = w.clock()
        error "again"
      end)
      assert(topic:publish { type = "A", data = {} })
      w:wait(function() return topic:dead_letters():count() == 1 end)
      assert.equal(3, #times)
      local second = backoff == "linear" and 0.2 or 0.3
      assert.is_true(times[2] - times[1] >= 0.09)
      assert.is_true(times[3] - times[2] >= second - 0.01)
    end
  end)
end)
