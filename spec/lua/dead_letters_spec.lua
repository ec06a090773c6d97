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

local function fill(count)
  local handle = topic:on("*", function() return tidemill.reject "no" end)
  for n = 1, count do
    topic:publish { id = "id-" .. n, type = "A", data = { n = n }, metadata = { tenant = "t" } }
  end
  world.wait(bus, function() return topic:dead_letters():count() == count end)
  handle:unsubscribe()
end

describe("dead letters", function()
  it("are none at first", function()
    local letters = topic:dead_letters()
    assert.equal(0, letters:count())
    assert.same({}, letters:list())
    assert.equal(0, letters:replay())
    assert.equal(0, letters:replay "1-1")
    assert.equal(0, letters:purge())
  end)

  it("say what happened to which event", function()
    fill(1)
    local letter = topic:dead_letters():list()[1]
    assert.equal("no", letter.reason)
    assert.equal("orders", letter.stream)
    assert.equal("default", letter.group)
    assert.equal(1, letter.attempts)
    assert.equal(bus.consumer, letter.consumer)
    assert.is_number(letter.at)
    assert.is_number(letter.first_at)
    assert.equal("id-1", letter.event.id)
    assert.same({ n = 1 }, letter.event.data)
    assert.same({ tenant = "t" }, letter.event.metadata)
  end)

  it("are listed by pages", function()
    fill(5)
    local letters = topic:dead_letters()
    local two = letters:list { count = 2 }
    assert.equal(2, #two)
    local rest = letters:list { from = "(" .. two[2].id }
    assert.equal(3, #rest)
    assert.equal("id-3", rest[1].event.id)
    assert.has_error(function() letters:list { cuont = 2 } end)
  end)

  it("are replayed one by one or all", function()
    fill(5)
    local letters = topic:dead_letters()
    assert.equal(1, letters:replay(letters:list()[2].id))
    assert.equal(4, letters:count())
    assert.equal(4, letters:replay())
    assert.equal(0, letters:count())
    local ids = {}
    for i, entry in ipairs(bus.streams:xrange("orders", "-", "+")) do
      ids[i] = entry.fields.event_id
      for name in pairs(entry.fields) do
        assert.is_nil(name:find "^dead_")
      end
    end
    assert.same({ "id-1", "id-2", "id-3", "id-4", "id-5", "id-2", "id-1", "id-3", "id-4", "id-5" }, ids)
    assert.has_error(function() letters:replay(7) end)
  end)

  it("that fail again don't make a replay endless", function()
    fill(3)
    topic:on("*", function() return tidemill.reject "again" end)
    assert.equal(3, topic:dead_letters():replay())
    world.wait(bus, function() return topic:dead_letters():count() == 3 end)
    assert.equal("again", topic:dead_letters():list()[1].reason)
  end)

  it("go to the stream that was asked for", function()
    local other = bus:topic("o2", { dead_letters = "graveyard" })
    other:on("*", function() return tidemill.reject "no" end)
    other:publish { type = "A" }
    world.wait(bus, function() return other:dead_letters():count() == 1 end)
    assert.equal(1, bus.streams:xlen "graveyard")
  end)

  it("are purged", function()
    fill(3)
    assert.equal(3, topic:dead_letters():purge())
    assert.equal(0, topic:dead_letters():count())
  end)
end)
