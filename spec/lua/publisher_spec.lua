-- What a publish makes of its options and of a JSON module that refuses; the events themselves are topic_spec's.
local json = require "tidemill.codec.json"
local world = require "spec.lua.support.world"

local bus

local function open(options)
  bus = world.open(options)
  return bus:topic "orders"
end

after_each(function()
  bus:close()
end)

local function misuse(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.matches("^spec/lua/publisher_spec.lua:%d+: ", err)
  return err
end

local picky = {
  decode = json.decode,
  encode = function(value)
    if value == "bad" then
      return nil, "bad data"
    end
    return json.encode(value)
  end,
}

describe("a batch of which the JSON module refuses some", function()
  for mask = 0, 15 do
    local places = {}
    for place = 1, 4 do
      places[place] = math.floor(mask / 2 ^ (place - 1)) % 2 == 1 and "bad" or place
    end
    it("has each result in its place: " .. table.concat(places, ", "), function()
      local topic = open { json = picky }
      local events, good = {}, {}
      for place, data in ipairs(places) do
        events[place] = { type = "A", data = data }
        good[#good + 1] = data ~= "bad" and tostring(data) or nil
      end
      local results, failures = topic:publish_batch(events)
      local written = {}
      for i, entry in ipairs(bus.streams:xrange("orders", "-", "+")) do
        written[i] = entry.fields.data
      end
      assert.same(good, written)
      if #good == 0 then
        assert.is_nil(results)
        assert.equal("TIDE-ARGUMENT", failures.code)
        return
      end
      assert.equal(4 - #good, failures)
      for place, data in ipairs(places) do
        assert.equal(data == "bad", results[place].error ~= nil)
        assert.equal(data ~= "bad", results[place].stream_id ~= nil)
      end
    end)
  end

  it("is refused as a whole where it is appended", function()
    local topic = open { json = picky }
    local result, err = topic:append { { type = "A", data = 1 }, { type = "A", data = "bad" } }
    assert.is_nil(result)
    assert.matches("bad data", err.message)
    assert.equal(0, bus.streams:xlen "orders")
  end)
end)

describe("a publish's options", function()
  it("stand beside those of the topic", function()
    open()
    local topic = bus:topic("orders", { max_len = 2, exact = true, dedupe = 60 })
    for n = 1, 4 do
      topic:publish({ type = "A", id = "id" .. n }, { dedupe = 5 })
    end
    assert.equal(2, bus.streams:xlen "orders")
    assert.is_true(topic:publish({ type = "A", id = "id1" }, { dedupe = 5 }).duplicate)
    assert.is_true(topic:publish({ type = "A", id = "id1" }).duplicate)
  end)

  it("turn off what the topic's turned on", function()
    open()
    local topic = bus:topic("orders", { dedupe = 60 })
    assert.is_false(topic:publish({ type = "A", id = "x" }).duplicate)
    assert.is_true(topic:publish({ type = "A", id = "x" }).duplicate)
    assert.is_false(topic:publish({ type = "A", id = "x" }, { dedupe = 0 }).duplicate)
    assert.equal(2, bus.streams:xlen "orders")
  end)

  it("hold for each event of a batch that doesn't say it itself", function()
    local topic = open()
    local results = topic:publish_batch({ { type = "A" }, { type = "B", delay = 0 } }, { delay = 60 })
    assert.is_true(results[1].delayed)
    assert.is_false(results[2].delayed)
  end)

  it("are checked where they are given", function()
    local topic = open()
    assert.matches("delay and at exclude each other",
      misuse(function() topic:publish({ type = "A" }, { delay = 1, at = 2 }) end))
    assert.matches("unknown option 'dedup' %(did you mean 'dedupe'%?%)",
      misuse(function() topic:publish({ type = "A" }, { dedup = 1 }) end))
    assert.matches("a list of events expected, got string", misuse(function() topic:publish_batch "A" end))
    assert.matches("at least one event", misuse(function() topic:append({}) end))
    assert.matches("expected must be", misuse(function() topic:append({ { type = "A" } }, { expected = "none" }) end))
    assert.matches("can't have delay", misuse(function() topic:append { { type = "A", delay = 1 } } end))
    assert.equal(0, bus.streams:xlen "orders")
  end)
end)

describe("publishing after the bus was closed", function()
  it("is nil and TIDE-CLOSED for all of them", function()
    local topic = open()
    bus:close()
    for _, name in ipairs { "publish", "publish_batch", "append" } do
      local result, err = topic[name](topic, name == "publish" and { type = "A" } or { { type = "A" } })
      assert.is_nil(result)
      assert.equal("TIDE-CLOSED", err.code)
    end
  end)
end)
