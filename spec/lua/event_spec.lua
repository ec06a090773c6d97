local tidemill = require "tidemill"
local world = require "spec.lua.support.world"

local bus, topic, streams

before_each(function()
  bus = world.open()
  topic = bus:topic "orders"
  streams = bus.streams
end)

after_each(function()
  bus:close()
end)

-- The first event of the stream, as its handler sees it.
local function first(look)
  local result, failure
  topic:on("*", { retry = { max = 1 } }, function(event)
    local ok, value = pcall(look or function(e) return e end, event)
    if ok then
      result = { value }
    else
      failure = value
    end
  end)
  world.wait(bus, function() return result or failure end)
  if failure then
    error(failure, 0)
  end
  return result[1]
end

describe("an event", function()
  it("has what was published", function()
    topic:publish { id = "i", type = "A", aggregate_id = "a", aggregate_type = "t", version = 7,
      occurred_at = 1700000000, data = { n = 1, list = { 1, 2 } }, metadata = { correlation_id = "c", tenant = "x" } }
    local event = first()
    assert.equal("i", event.id)
    assert.equal("A", event.type)
    assert.equal("a", event.aggregate_id)
    assert.equal("t", event.aggregate_type)
    assert.equal(7, event.version)
    assert.equal("2023-11-14T22:13:20.000Z", event.occurred_at)
    assert.same({ n = 1, list = { 1, 2 } }, event.data)
    assert.equal('{"n":1,', event.raw:gsub('"list":%[1,2%],?', ""):gsub("}", ","):sub(1, 7))
    assert.same({ correlation_id = "c", tenant = "x" }, event.metadata)
    assert.matches("^%d+%-%d+$", event.stream_id)
    assert.equal("orders", event.topic)
    assert.equal("orders", event.stream)
    assert.equal("default", event.group)
    assert.equal(1, event.attempt)
    assert.equal(1, event.attempts_max)
    assert.is_nil(event.content_type)
    assert.is_nil(event.nonsense)
    assert.is_nil(event[1])
    assert.equal("i", event.fields.event_id)
    assert.matches("^event A %d+%-%d+$", tostring(event))
  end)

  it("stays good after its handler has ended", function()
    topic:publish_batch { { type = "A", data = { n = 1 } }, { type = "B", data = { n = 2 } } }
    local got = world.collect(topic)
    world.wait(bus, function() return #got == 2 and bus:info("orders").groups[1].pending == 0 end)
    collectgarbage()
    assert.equal("A", got[1].type)
    assert.equal(2, got[2].data.n)
    assert.is_true(got[1].settled)
    bus:close()
    collectgarbage()
    assert.same({ n = 1 }, got[1].data)
    assert.equal("B", got[2].type)
  end)

  it("decodes its data once", function()
    topic:publish { type = "A", data = { n = 1 } }
    local event = first()
    assert.equal(event.data, event.data)
  end)

  it("has nil for null, and for no data at all", function()
    topic:publish { type = "A" }
    assert.is_nil(first().data)
    assert.equal("null", streams:xrange("orders", "-", "+")[1].fields.data)
  end)

  it("has scalars and false as data", function()
    topic:publish_batch { { type = "A", data = false }, { type = "A", data = 7 }, { type = "A", data = "text" } }
    local got = world.collect(topic)
    world.wait(bus, function() return #got == 3 end)
    assert.is_false(got[1].data)
    assert.is_false(got[1].data)
    assert.equal(7, got[2].data)
    assert.equal("text", got[3].data)
  end)

  it("keeps null inside data", function()
    topic:publish { type = "A", data = { a = tidemill.null } }
    assert.equal(tidemill.null, first().data.a)
  end)

  it("has bytes of another content type as they are", function()
    topic:publish { type = "A", data = '{"not": parsed}\0', content_type = "text/plain" }
    local event = first()
    assert.equal('{"not": parsed}\0', event.data)
    assert.equal("text/plain", event.content_type)
  end)

  it("decodes +json and parameters of application/json", function()
    streams:xadd("orders", "*", { "event_type", "A", "data", "[1]", "content_type", "application/json; charset=utf-8" })
    streams:xadd("orders", "*", { "event_type", "A", "data", "[2]", "content_type", "application/cloudevents+json" })
    streams:xadd("orders", "*", { "event_type", "A", "data", "[3]", "content_type", "application/jsonx" })
    local got = world.collect(topic)
    world.wait(bus, function() return #got == 3 end)
    assert.same({ 1 }, got[1].data)
    assert.same({ 2 }, got[2].data)
    assert.equal("[3]", got[3].data)
  end)

  it("raises TIDE-DECODE for data that is no JSON, and keeps the bytes", function()
    streams:xadd("orders", "*", { event_type = "A", data = '{"n":' })
    local event = first()
    local ok, err = pcall(function() return event.data end)
    assert.is_false(ok)
    assert.equal("TIDE-DECODE", err.code)
    assert.is_false(err.retryable)
    assert.equal('{"n":', event.raw)
  end)

  it("takes no bytes at all for broken JSON, not for text", function()
    streams:xadd("orders", "*", { event_type = "A", data = "" })
    streams:xadd("orders", "*", { event_type = "A", data = "", content_type = "text/plain" })
    local got = world.collect(topic)
    world.wait(bus, function() return #got == 2 end)
    assert.has_error(function() return got[1].data end)
    assert.equal("", got[1].raw)
    assert.equal("", got[2].data)
  end)

  it("cannot be changed", function()
    topic:publish { type = "A" }
    local event = first()
    assert.has_error(function() event.type = "B" end)
    assert.equal("tidemill.Event", getmetatable(event))
  end)

  it("takes the names that other programs use", function()
    streams:xadd("orders", "*", { "id", "i", "type", "A", "timestamp", "2024", "payload", '{"n":1}' })
    local event = first()
    assert.equal("i", event.id)
    assert.equal("A", event.type)
    assert.equal("2024", event.occurred_at)
    assert.same({ n = 1 }, event.data)
    assert.same({}, event.metadata)
  end)

  it("prefers its own names over aliases, in any order", function()
    streams:xadd("orders", "*", { "type", "alias", "event_type", "A", "data", "1", "payload", "2" })
    local event = first()
    assert.equal("A", event.type)
    assert.equal(1, event.data)
    assert.same({ type = "alias", payload = "2" }, event.metadata)
  end)

  it("bears entries with missing, odd and repeated fields", function()
    streams:xadd("orders", "*", { "", "empty", "<script>", "=cmd()", "a\r\nb", "\27[31m", "x", "1", "x", "2", "\255",
      "\0" })
    local event = first()
    assert.equal("", event.type)
    assert.is_nil(event.id)
    assert.is_nil(event.data)
    assert.is_nil(event.raw)
    assert.is_nil(event.version)
    assert.equal("empty", event.fields[""])
    assert.equal("2", event.metadata.x)
    assert.equal("\27[31m", event.metadata["a\r\nb"])
    assert.equal("\0", event.metadata["\255"])
  end)

  it("shows itself without control bytes", function()
    streams:xadd("orders", "*", { event_type = "\27[31mred\r\n" })
    assert.is_nil(tostring(first()):find "%c")
  end)

  it("keeps a version that is no number as text", function()
    streams:xadd("orders", "*", { event_type = "A", version = "v2" })
    assert.equal("v2", first().version)
  end)

  it("bears an entry of a thousand fields", function()
    local flat = { "event_type", "A" }
    for n = 1, 1000 do
      flat[#flat + 1], flat[#flat + 2] = "f" .. n, tostring(n)
    end
    streams:xadd("orders", "*", flat)
    assert.equal("1000", first().metadata.f1000)
  end)

  it("is refused where an event is expected", function()
    topic:publish { type = "A" }
    local event = first()
    assert.has_error(function() event.extend {} end)
    assert.has_error(function() event.extend(io.stdout) end)
  end)
end)

describe("event:extend", function()
  it("answers true while the handler runs, and an error afterwards", function()
    topic:publish { type = "A" }
    local kept, inside
    topic:on("*", function(event)
      kept, inside = event, { event:extend() }
    end)
    world.wait(bus, function() return inside end)
    assert.is_true(inside[1])
    local ok, err = kept:extend()
    assert.is_nil(ok)
    assert.equal("TIDE-NOTFOUND", err.code)
    bus:close()
    ok, err = kept:extend()
    assert.is_nil(ok)
    assert.is_string(err.code)
  end)
end)

describe("event:publish", function()
  it("carries correlation, causation and trace", function()
    topic:publish { id = "one", type = "A", metadata = { correlation_id = "c", traceparent = "00-t", tenant = "x" } }
    first(function(event)
      assert(event:publish("next", { type = "B", metadata = { extra = "1" } }))
      assert(event:publish(bus:topic "next", { type = "C", metadata = { correlation_id = "own" } }))
    end)
    local entries = streams:xrange("next", "-", "+")
    assert.equal("c", entries[1].fields.correlation_id)
    assert.equal("one", entries[1].fields.causation_id)
    assert.equal("00-t", entries[1].fields.traceparent)
    assert.equal("1", entries[1].fields.extra)
    assert.is_nil(entries[1].fields.tenant)
    assert.equal("own", entries[2].fields.correlation_id)
  end)

  it("starts a correlation with its own id", function()
    topic:publish { id = "one", type = "A" }
    first(function(event) assert(event:publish("next", { type = "B" })) end)
    assert.equal("one", streams:xrange("next", "-", "+")[1].fields.correlation_id)
  end)

  it("refuses what is no event or topic", function()
    topic:publish { type = "A" }
    first(function(event)
      assert.has_error(function() event:publish("next") end)
      assert.has_error(function() event:publish(7, { type = "A" }) end)
      assert.has_error(function() event:publish("next", { type = "A", metadata = 7 }) end)
    end)
  end)
end)
