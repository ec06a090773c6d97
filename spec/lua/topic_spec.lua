local tidemill = require "tidemill"
local world = require "spec.lua.support.world"

local bus, topic

before_each(function()
  bus = world.open()
  topic = bus:topic "orders"
end)

after_each(function()
  bus:close()
end)

local function misuse(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.is_string(err)
  return err
end

describe("a topic", function()
  it("refuses bad names where they are given", function()
    for _, name in ipairs { "", "a\nb", "*", "{}", "\27[31m", ("x"):rep(65536), "{a}:delayed" } do
      local err = misuse(function() bus:topic(name) end)
      assert.matches("topic_spec.lua:%d+: bus:topic: the topic name", err)
      assert.is_nil(err:find "\27")
    end
    misuse(function() bus:topic() end)
  end)

  it("refuses unknown options with the nearest name", function()
    local err = misuse(function() bus:topic("x", { maxlen = 1 }) end)
    assert.matches("topic_spec.lua:%d+: bus:topic: unknown option 'maxlen' %(did you mean 'max_len'%?%)", err)
  end)

  it("shows its name", function()
    assert.equal("topic orders", tostring(topic))
  end)
end)

describe("publishing", function()
  it("answers with id and stream id", function()
    local result = assert(topic:publish { type = "A", data = { n = 1 } })
    assert.matches("^%x+%-%x+%-7%x+%-[89ab]%x+%-%x+$", result.id)
    assert.equal(36, #result.id)
    assert.matches("^%d+%-%d+$", result.stream_id)
    assert.is_false(result.duplicate)
    assert.is_false(result.delayed)
  end)

  it("writes the fields in their order", function()
    assert(topic:publish { type = "A", id = "i", aggregate_id = "a", aggregate_type = "t", version = 3,
      occurred_at = 1700000000.123, data = { n = 1 }, metadata = { b = "2", a = 1, c = true } })
    local entry = bus.streams:xrange("orders", "-", "+")[1]
    assert.same({ "event_id", "i", "event_type", "A", "aggregate_id", "a", "aggregate_type", "t", "version", "3",
      "occurred_at", "2023-11-14T22:13:20.123Z", "data", '{"n":1}', "a", "1", "b", "2", "c", "true" }, entry.flat)
  end)

  it("writes content_type unless it is JSON's", function()
    assert(topic:publish { type = "A", data = "bytes", content_type = "text/plain" })
    assert(topic:publish { type = "A", data = "[1, 2]", content_type = "application/json" })
    assert(topic:publish { type = "A", data = { 1 }, content_type = "application/vnd.x+json" })
    local entries = bus.streams:xrange("orders", "-", "+")
    assert.equal("text/plain", entries[1].fields.content_type)
    assert.is_nil(entries[2].fields.content_type)
    assert.equal("[1, 2]", entries[2].fields.data)
    assert.equal("[1]", entries[3].fields.data)
  end)

  it("takes times of years 0 and 9999, and text as it is", function()
    assert(topic:publish { type = "A", occurred_at = 253402300799 })
    assert(topic:publish { type = "A", occurred_at = -62167219200 })
    assert(topic:publish { type = "A", occurred_at = "long ago" })
    assert(topic:publish { type = "A", occurred_at = 0 })
    local entries = bus.streams:xrange("orders", "-", "+")
    assert.equal("9999-12-31T23:59:59.000Z", entries[1].fields.occurred_at)
    assert.equal("0000-01-01T00:00:00.000Z", entries[2].fields.occurred_at)
    assert.equal("long ago", entries[3].fields.occurred_at)
    assert.equal("1970-01-01T00:00:00.000Z", entries[4].fields.occurred_at)
    local result, err = topic:publish { type = "A", occurred_at = 253402300800 }
    assert.is_nil(result)
    assert.equal("TIDE-ARGUMENT", err.code)
  end)

  it("refuses types and ids that are no names, and writes nothing", function()
    for _, bad in ipairs { "", ("x"):rep(65536), "a\nb", "\27[31m", "\226\128\174a", "a\0", "*", "pull.*", "\255" } do
      local result, err = topic:publish { type = bad }
      assert.is_nil(result)
      assert.equal("TIDE-ARGUMENT", err.code)
      assert.matches("the event's type", err.message)
      assert.is_nil(err.message:find "%c")
      if not bad:find("*", 1, true) then
        assert.is_nil((topic:publish { type = "A", id = bad }))
        assert.is_nil((topic:publish { type = "A", metadata = { [bad] = "x" } }))
      end
    end
    assert.equal(0, bus.streams:xlen "orders")
    assert(topic:publish { type = "{}" })
    assert(topic:publish { type = "dlq" })
  end)

  it("raises for a mistake in the program, where it was made", function()
    local cases = {
      { { typ = "A" }, "unknown event key 'typ' %(did you mean 'type'%?%)" },
      { { type = "A", colour = 1 }, "unknown event key 'colour' %(other values go into metadata%)" },
      { { data = {} }, "needs a type" },
      { { type = 7 }, "event.type: a string expected, got number" },
      { { type = "A", id = {} }, "event.id" },
      { { type = "A", metadata = "x" }, "event.metadata: a table expected" },
      { { type = "A", delay = -1 }, "event.delay: a number of seconds" },
      { { type = "A", delay = 0 / 0 }, "event.delay: a number of seconds" },
      { { type = "A", delay = 1, at = 2 }, "exclude" },
      { { type = "A", at = "soon" }, "event.at" },
      { { type = "A", version = {} }, "event.version" },
      { { type = "A", occurred_at = {} }, "event.occurred_at" },
      { { type = "A", content_type = 1 }, "event.content_type" },
      { { "A" }, "keys are strings" },
      { "A", "an event is a table, got string" },
    }
    for _, case in ipairs(cases) do
      local err = misuse(function() topic:publish(case[1]) end)
      assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish: ", err)
      assert.matches(case[2], err)
      err = misuse(function() topic:publish_batch { case[1] } end)
      assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish_batch: ", err)
    end
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish: unknown option 'dely' %(did you mean 'delay'",
      misuse(function() topic:publish({ type = "A" }, { dely = 1 }) end))
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish_batch: unknown option",
      misuse(function() topic:publish_batch({ { type = "A" } }, { dely = 1 }) end))
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish_batch: a list",
      misuse(function() topic:publish_batch(7) end))
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish_batch: a list .*%(one event",
      misuse(function() topic:publish_batch { type = "A" } end))
    assert.equal(0, bus.streams:xlen "orders")
  end)

  it("raises for a mistake anywhere in a batch before any of it goes out", function()
    local many, apart = {}, {}
    for n = 1, 1200 do
      many[n] = { type = "A", data = n }
    end
    for n = 1, 5 do
      apart[n] = { type = "A", delay = n } -- an operation for each
    end
    for _, bad in ipairs { { typ = "A" }, { type = "A", at = "soon" }, { data = 1 }, 7 } do
      many[1200], apart[5] = bad, bad
      for _, list in ipairs { many, apart } do
        assert.matches("^spec/lua/topic_spec.lua:%d+: topic:publish_batch: ",
          misuse(function() topic:publish_batch(list) end))
      end
    end
    assert.equal(0, bus.streams:xlen "orders")
    assert.equal(0, bus:info("orders").delayed)
    many[1200] = { type = "" } -- no mistake of the program: one event that can't be published
    local results, failures = topic:publish_batch(many)
    assert.equal(1, failures)
    assert.equal("TIDE-ARGUMENT", results[1200].error.code)
    assert.equal(1199, bus.streams:xlen "orders")
  end)

  it("gives each of many publishers at once its own result", function()
    local results, errors_of, left = {}, {}, 300
    for n = 1, 300 do
      bus:spawn(function()
        bus:sleep(n % 3 * 0.001)
        for k = 1, 3 do
          local kind = n % 50 == 0 and k == 2 and "" or "A"
          local result, err = topic:publish { type = kind, id = n .. "-" .. k, data = n }
          if result then
            results[#results + 1] = result
          else
            errors_of[#errors_of + 1] = err
          end
        end
        left = left - 1
      end)
    end
    while left > 0 do
      assert(bus:tick(0.1, { wait = true }))
    end
    assert.equal(894, #results)
    assert.equal(6, #errors_of)
    local seen, written = {}, {}
    for _, entry in ipairs(bus.streams:xrange("orders", "-", "+")) do
      written[entry.id] = entry.fields.event_id
    end
    for _, result in ipairs(results) do
      assert.is_nil(seen[result.stream_id])
      seen[result.stream_id] = true
      assert.equal(written[result.stream_id], result.id)
      assert.is_false(result.duplicate)
      assert.is_false(result.delayed)
      assert.is_nil(result.error)
    end
    assert.equal("TIDE-ARGUMENT", errors_of[1].code)
  end)

  it("leaves the caller's tables alone", function()
    local event = { type = "A", data = { 1 }, metadata = { x = "y" } }
    assert(topic:publish(event, { dedupe = 5 }))
    assert.same({ type = "A", data = { 1 }, metadata = { x = "y" } }, event)
  end)

  it("refuses payloads beyond the limit", function()
    local small = world.open { max_payload = 100 }
    local to = small:topic "t"
    assert(to:publish { type = "A", data = ("x"):rep(98) })
    local result, err = to:publish { type = "A", data = ("x"):rep(99) }
    assert.is_nil(result)
    assert.equal("TIDE-LIMIT", err.code)
    assert.matches("101 bytes, the limit is 100", err.message)
    small:close()
  end)

  it("refuses data that JSON can't hold, with a reason", function()
    local cases = {
      { 0 / 0, "not finite" }, { { a = math.huge }, "not finite" }, { print, "a function" }, { "\255", "UTF%-8" },
      { { 1, n = 1 }, "mixes" },
    }
    local cycle = {}
    cycle[1] = cycle
    cases[#cases + 1] = { cycle, "nested deeper" }
    for _, case in ipairs(cases) do
      local result, err = topic:publish { type = "A", data = case[1] }
      assert.is_nil(result)
      assert.equal("TIDE-ARGUMENT", err.code)
      assert.matches(case[2], err.message)
    end
    local result, err = topic:publish { type = "A", data = {}, content_type = "text/plain" }
    assert.is_nil(result)
    assert.matches("must be a string with this content_type", err.message)
  end)

  it("bounds metadata", function()
    local many = {}
    for n = 1, 57 do
      many["name" .. n] = "x"
    end
    local result, err = topic:publish { type = "A", metadata = many }
    assert.is_nil(result)
    assert.equal("TIDE-LIMIT", err.code)
    many.name57 = nil
    assert(topic:publish { type = "A", metadata = many })
    result, err = topic:publish { type = "A", metadata = { data = "x" } }
    assert.is_nil(result)
    assert.matches("own field", err.message)
    assert.is_nil((topic:publish { type = "A", metadata = { x = {} } }))
  end)

  it("can be told to make ids of another kind", function()
    local n = 0
    local own = world.open { id = function()
      n = n + 1
      return "id-" .. n
    end }
    assert.equal("id-1", own:topic("t"):publish({ type = "A" }).id)
    assert.equal("mine", own:topic("t"):publish({ type = "A", id = "mine" }).id)
    assert.equal("id-2", own:topic("t"):publish_batch({ { type = "A" } })[1].id)
    own:close()
  end)

  it("uses the caller's JSON module", function()
    local own = world.open { json = { encode = function(value)
      if value == "bad" then
        error "cannot"
      end
      return "<" .. tostring(value) .. ">"
    end, decode = function(text) return { text } end } }
    local to = own:topic "t"
    local results, failures = to:publish_batch { { type = "A", data = 1 }, { type = "A", data = "bad" },
      { type = "A", data = 3 } }
    assert.equal(1, failures)
    assert.matches("cannot", results[2].error.message)
    assert.equal("<3>", own.streams:xrange("t", "-", "+")[2].fields.data)
    local got = world.collect(to)
    world.wait(own, function() return #got == 2 end)
    assert.same({ "<1>" }, got[1].data)
    own:close()
  end)
end)

describe("publishing a batch", function()
  it("puts an error in the place of a bad event and writes the others", function()
    local results, failures = topic:publish_batch { { type = "A" }, { type = "" }, { type = "C", data = 0 / 0 },
      { type = "D" } }
    assert.equal(2, failures)
    assert.is_string(results[1].stream_id)
    assert.equal("TIDE-ARGUMENT", results[2].error.code)
    assert.matches("not finite", results[3].error.message)
    assert.is_string(results[4].stream_id)
    assert.equal(2, bus.streams:xlen "orders")
  end)

  it("is nil and the first error when nothing went out", function()
    local results, err = topic:publish_batch { { type = "" }, { type = "*" } }
    assert.is_nil(results)
    assert.equal("TIDE-ARGUMENT", err.code)
  end)

  it("is nothing for nothing", function()
    local results, failures = topic:publish_batch {}
    assert.same({}, results)
    assert.equal(0, failures)
  end)

  it("keeps events with times of their own in their places", function()
    local results, failures = topic:publish_batch { { type = "A" }, { type = "B", delay = 60 }, { type = "C" },
      { type = "D", dedupe = 5, id = "d" }, { type = "E", dedupe = 5, id = "d" } }
    assert.equal(0, failures)
    assert.is_false(results[1].delayed)
    assert.is_true(results[2].delayed)
    assert.is_nil(results[2].stream_id)
    assert.is_true(results[5].duplicate)
    assert.equal(results[4].stream_id, results[5].stream_id)
    assert.equal(3, bus.streams:xlen "orders")
  end)

  it("takes more events than one operation holds, in order", function()
    local events = {}
    for n = 1, 20000 do
      events[n] = { type = "A", data = n }
    end
    local results, failures = topic:publish_batch(events)
    assert.equal(0, failures)
    assert.equal(20000, #results)
    local last = bus.streams:xrevrange("orders", "+", "-", { count = 1 })[1]
    assert.equal(results[20000].stream_id, last.id)
    assert.equal("20000", last.fields.data)
  end)

  it("waits in a coroutine without stopping others", function()
    local order = {}
    bus:spawn(function()
      topic:publish_batch { { type = "A" } }
      order[#order + 1] = "first"
    end)
    bus:spawn(function() order[#order + 1] = "second" end)
    world.wait(bus, function() return #order == 2 end)
    assert.same({ "second", "first" }, order)
  end)
end)

describe("appending", function()
  it("refuses what can't be checked or ordered", function()
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:append", misuse(function() topic:append {} end))
    misuse(function() topic:append({ { type = "A" } }, { expected = "many" }) end)
    misuse(function() topic:append({ { type = "A" } }, { expected = -1 }) end)
    misuse(function() topic:append({ { type = "A", delay = 1 } }) end)
    misuse(function() topic:append({ { type = "A", version = 1 } }) end)
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:append: unknown option",
      misuse(function() topic:append({ { type = "A" } }, { expect = 1 }) end))
  end)

  it("writes all or nothing", function()
    local result, err = topic:append { { type = "A" }, { type = "" } }
    assert.is_nil(result)
    assert.equal("TIDE-ARGUMENT", err.code)
    assert.equal(0, bus.streams:xlen "orders")
    assert.equal(2, topic:append({ { type = "A" }, { type = "B" } }).version)
  end)

  it("names what it expected and what is there", function()
    topic:append { { type = "A" } }
    local _, err = topic:append({ { type = "B" } }, { expected = 5 })
    assert.equal("TIDE-CONFLICT", err.code)
    assert.equal(5, err.expected)
    assert.equal(1, err.actual)
  end)
end)

describe("handling", function()
  it("refuses handlers and options that are none", function()
    local function bad(...)
      local arguments = { n = select("#", ...), ... }
      local err = misuse(function()
        topic:on((table.unpack or unpack)(arguments, 1, arguments.n))
      end)
      assert.matches("^spec/lua/topic_spec.lua:%d+: topic:on", err)
      return err
    end
    bad "A"
    bad("A", {})
    bad("A", {}, "handler")
    bad("", print)
    bad("a*b", print)
    bad("a\n", print)
    assert.matches("did you mean 'group'", bad("A", { gruop = "x" }, print))
    bad("A", { group = "" }, print)
    bad("A", { group = "a\nb" }, print)
    bad("A", { lease = 0 }, print)
    bad("A", { lease = 0 / 0 }, print)
    bad("A", { lease = 2 ^ 63 }, print)
    bad("A", { concurrency = 0 }, print)
    bad("A", { prefetch = 2 ^ 31 }, print)
    bad("A", { start = "yesterday" }, print)
    bad("A", { unknown = "drop" }, print)
    assert.matches("did you mean 'backoff'", bad("A", { retry = { backof = "fixed" } }, print))
    topic:on("A", print)
    assert.matches("'A' has a handler already", bad("A", print))
  end)

  it("takes callable values", function()
    local got
    topic:on("*", setmetatable({}, { __call = function(_, event) got = event.type end }))
    topic:publish { type = "A" }
    world.wait(bus, function() return got end)
    assert.equal("A", got)
  end)

  it("refuses an option of the group that comes too late", function()
    topic:on("A", { group = "g", lease = 5 }, print)
    topic:on("B", { group = "g", lease = 5 }, print)
    topic:on("C", { group = "g" }, print)
    topic:on("C", { group = "other", lease = 7 }, print)
    local err = misuse(function() topic:on("D", { group = "g", lease = 6 }, print) end)
    assert.matches("topic_spec.lua:%d+: topic:on: lease = 6, but the group 'g' of topic 'orders' was started", err)
  end)

  it("shares one subscription among the handlers of a group", function()
    topic:on("A", { group = "g" }, print)
    topic:on("B", { group = "g" }, print)
    assert.equal(1, #bus.order)
    topic:on("A", { group = "h" }, print)
    assert.equal(2, #bus.order)
  end)

  it("takes the group of its topic", function()
    local grouped = bus:topic("x", { group = "mine" })
    local got = world.collect(grouped)
    grouped:publish { type = "A" }
    world.wait(bus, function() return got[1] end)
    assert.equal("mine", got[1].group)
    assert.equal("mine", bus:info("x").groups[1].name)
  end)

  it("ends with unsubscribe", function()
    local got = 0
    local one = topic:on("A", function() got = got + 1 end)
    local other = topic:on("B", function() end)
    topic:publish { type = "A" }
    world.wait(bus, function() return got == 1 end)
    assert.is_true(one:unsubscribe())
    assert.is_false(one:unsubscribe())
    topic:publish { type = "A" }
    world.wait(bus, function() return bus:info("orders").groups[1].pending == 0 and other:stats().acked >= 2 end)
    assert.equal(1, got)
    assert.is_true(other:unsubscribe())
    world.wait(bus, function() return other:stats() == nil end)
  end)

  it("can go on after unsubscribe", function()
    local got = 0
    local function count() got = got + 1 end
    topic:on("A", count):unsubscribe()
    topic:on("A", count)
    topic:publish { type = "A" }
    world.wait(bus, function() return got == 1 end)
  end)

  it("can unsubscribe in its own handler", function()
    local got, handle = 0, nil
    handle = topic:on("A", function()
      got = got + 1
      handle:unsubscribe()
    end)
    topic:publish_batch { { type = "A" }, { type = "A" } }
    world.wait(bus, function() return handle:stats() == nil end)
    assert.equal(1, got)
  end)

  it("counts", function()
    local handle = topic:on("*", function() end)
    topic:publish_batch { { type = "A" }, { type = "B" } }
    world.wait(bus, function() return handle:stats().acked == 2 end)
    local stats = handle:stats()
    assert.equal(2, stats.delivered)
    assert.equal("running", stats.state)
    assert.is_nil(stats.error)
  end)
end)

describe("cancelling", function()
  it("wants an event's id", function()
    assert.matches("^spec/lua/topic_spec.lua:%d+: topic:cancel", misuse(function() topic:cancel() end))
    assert.is_false(topic:cancel "nobody")
  end)
end)

describe("tidemill", function()
  it("says its version", function()
    assert.matches("^%d+%.%d+%.%d+$", tidemill.version)
  end)
end)
