local info = require "tidemill.info"
local world = require "spec.lua.support.world"

-- A bus whose stream commands answer from a table; a missing answer is an error.
local function bus_of(answers)
  local function answer(name)
    local value = answers[name]
    if value == nil then
      return nil, name .. " failed"
    end
    return value
  end
  return {
    streams = {
      xlen = function(_, key) return answer("XLEN " .. key) end,
      xinfo_groups = function(_, key) return answer("XINFO GROUPS " .. key) end,
      command = function(_, verb, key) return answer(verb .. " " .. key) end,
    },
  }
end

describe("info of a topic", function()
  it("is its length, groups, dead letters and delayed events", function()
    local bus = world.open()
    local topic = bus:topic "orders"
    topic:on("A", { retry = { max = 1 } }, error)
    topic:publish { type = "A" }
    topic:publish { type = "B", delay = 60 }
    world.wait(bus, function() return topic:dead_letters():count() == 1 end)
    topic:publish { type = "A" }
    local about = assert(info.of(bus, "orders"))
    assert.equal(2, about.length)
    assert.equal(1, about.dead_letters)
    assert.equal(1, about.delayed)
    assert.equal(1, #about.groups)
    local group = about.groups[1]
    assert.equal("default", group.name)
    assert.equal(1, group.consumers)
    assert.equal(1, group.lag + group.pending)
    assert.matches("^%d+%-%d+$", group.last_delivered_id)
    bus:close()
  end)

  it("is zeros for a topic that isn't there", function()
    local bus = world.open()
    assert.same({ length = 0, groups = {}, dead_letters = 0, delayed = 0 }, info.of(bus, "nothing"))
    bus:close()
  end)

  it("counts a lag that the server doesn't know", function()
    local bus = world.open()
    local streams = bus.streams
    for n = 1, 6 do streams:xadd("t", n .. "-0", { n = n }) end
    assert(streams:command("XGROUP", "CREATE", "t", "g", "3-0"))
    assert.is_nil(streams:xinfo_groups("t")[1].lag)
    assert.equal(3, info.of(bus, "t").groups[1].lag)
    for n = 7, 1100 do streams:xadd("t", n .. "-0", { n = n }) end
    assert.is_nil(info.of(bus, "t").groups[1].lag)
    bus:close()
  end)

  it("leaves a lag out that can't be known", function()
    local about = info.of(bus_of {
      ["XLEN t"] = 5,
      ["XINFO GROUPS t"] = { { name = "g", pending = 1, consumers = 2, ["last-delivered-id"] = "1-0" } },
      ["XLEN {t}:dlq"] = 0, ["ZCARD {t}:delayed"] = 0,
    }, "t")
    assert.same({ { name = "g", pending = 1, consumers = 2, last_delivered_id = "1-0" } }, about.groups)
  end)

  it("is nil, err where the stream can't be looked at", function()
    local value, err = info.of(bus_of {}, "t")
    assert.is_nil(value)
    assert.equal("XLEN t failed", err)
    value, err = info.of(bus_of { ["XLEN t"] = 1 }, "t")
    assert.is_nil(value)
    assert.equal("XINFO GROUPS t failed", err)
  end)

  it("is nil, err where dead letters or delayed events can't be counted: no answer is not none", function()
    local value, err = info.of(bus_of { ["XLEN t"] = 0 }, "t")
    assert.is_nil(value)
    assert.equal("XLEN {t}:dlq failed", err)
    value, err = info.of(bus_of { ["XLEN t"] = 0, ["XLEN {t}:dlq"] = 2 }, "t")
    assert.is_nil(value)
    assert.equal("ZCARD {t}:delayed failed", err)
  end)
end)
