-- A method called with a dot is told so, at the line that did it, for every class.
local world = require "spec.lua.support.world"

describe("a method without its colon", function()
  local bus, topic, handler, event

  setup(function()
    bus = world.open()
    topic = bus:topic "t"
    handler = topic:on("*", function(one) event = one end)
    assert(topic:publish { type = "A" })
    world.wait(bus, function() return event end)
  end)
  teardown(function() bus:close() end)

  local function refused(text, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.truthy(err:find(text, 1, true), err)
    return err
  end

  it("is told which call it should have been", function()
    refused("bus:topic: called on string; write bus:topic(…), with a colon", bus.topic, "t")
    refused("bus:run: called on nil", bus.run)
    refused("bus:stop: called on nil", bus.stop)
    refused("bus:close: called on nil", bus.close)
    refused("bus:tick: called on number", bus.tick, 1)
    refused("topic:publish: called on another table", topic.publish, { type = "A" })
    refused("topic:publish_batch: called on another table", topic.publish_batch, { { type = "A" } })
    refused("topic:on: called on string", topic.on, "A", print)
    refused("handler:unsubscribe: called on nil", handler.unsubscribe)
    refused("event:publish: called on string", event.publish, "t", { type = "A" })
    refused("event:extend: called on nil", event.extend)
    refused("kv:get: called on string", bus:kv("n").get, "key")
    refused("streams:xlen: called on string", bus.streams.xlen, "t")
    refused("dead_letters:list: called on nil", topic:dead_letters().list)
  end)

  it("is blamed on the line that called it", function()
    local line
    local err = refused("bus:topic", function()
      line = debug.getinfo(1, "l").currentline + 1
      local made = bus.topic "t"
      return made
    end)
    assert.truthy(err:find("receiver_spec.lua:" .. line .. ":", 1, true), err)
  end)

  it("has changed nothing", function()
    assert.equal(1, bus:info("t").length)
    assert.is_true(handler:unsubscribe())
  end)
end)
