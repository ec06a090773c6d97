-- SPDX-License-Identifier: MIT
-- Whose verdict counts: a consumer that a peer has taken an event from can't move it any more.
local tidemill = require "tidemill"
local world = require "spec.conformance.world"
local it = world.behaviours(it, pending)

-- A handler that loses its event to "peer" before it says `verdict`; what is left to see when the verdict has arrived.
local function late(w, verdict)
  local topic, bus = w:topic()
  local ran = 0
  topic:on("*", { group = "g" }, function(event)
    ran = ran + 1
    if event.type == "Late" then
      assert(bus.streams:xclaim(w.name, "g", "peer", 0, { event.stream_id }, { justid = true }))
      return verdict
    end
  end)
  assert(topic:publish { type = "Late", data = {} })
  w:wait(function() return ran == 1 end)
  assert(topic:publish { type = "Next", data = {} })
  -- The ack of the second goes out with, or after, the verdict on the first.
  w:wait(function()
    return ran == 2 and #bus.streams:xpending(w.name, "g", { count = 10 }) == 1
  end)
  local rows = bus.streams:xpending(w.name, "g", { count = 10 })
  assert.equal("peer", rows[1].consumer)
  assert.equal(0, topic:dead_letters():count())
  assert.equal(0, assert(bus:info(w.name)).delayed)
end

describe("ownership on " .. world.engine, function()
  it("leaves what a peer has claimed when a late reject comes", function(w)
    late(w, tidemill.reject "too late")
  end)

  it("leaves what a peer has claimed when a late nack with a long delay comes", function(w)
    late(w, tidemill.nack { delay = 3600 })
  end)

  it("takes an ack although a peer has claimed the event: it has been handled", function(w)
    local topic, bus = w:topic()
    local ran = 0
    topic:on("*", { group = "g" }, function(event)
      ran = ran + 1
      assert(bus.streams:xclaim(w.name, "g", "peer", 0, { event.stream_id }, { justid = true }))
    end)
    assert(topic:publish { type = "Late", data = {} })
    w:wait(function() return ran == 1 and bus.streams:xpending(w.name, "g").count == 0 end)
  end)
end)
