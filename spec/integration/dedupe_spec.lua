-- SPDX-License-Identifier: MIT
-- An id that is published again after its window, on servers that write a log and that have a replica: what was
-- acknowledged is there, and is the same there. (XADD … IDMP of Redis 8.6 keeps neither: docs/decisions/0006.)
local tidemill = require "tidemill"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

for _, kind in ipairs(server.kinds()) do
  describe("publishing once on " .. kind .. " " .. server.version(kind), function()
    local started, bus

    local function start(options)
      local one = server.start(kind, options)
      started[#started + 1] = one
      return one
    end

    before_each(function() started = {} end)
    after_each(function()
      if bus then bus:close() end
      bus = nil
      for _, one in ipairs(started) do one:stop() end
    end)

    local function publish(window)
      return assert(bus:topic("orders"):publish({ id = "once", type = "A", data = {} }, { dedupe = window }))
    end

    -- Publishes until the id is no duplicate any more; the number of duplicates before that.
    local function publish_anew(window)
      local count = 0
      while publish(window).duplicate do
        count = count + 1
        bus:sleep(0.01)
      end
      return count
    end

    it("keeps through a restart what came again after the window", function()
      local live = start { persist = true }
      bus = assert(tidemill.open(live.url))
      publish(0.2)
      assert.is_true(publish(0.2).duplicate)
      publish_anew(0.2)
      live:kill()
      live:restart()
      assert.equal("2", live:cli("XLEN", "orders"))
    end)

    it("has the same entries on a replica", function()
      local live = start()
      local replica = start { config = { replicaof = "127.0.0.1 " .. live.port } }
      assert(shell.wait_until(function() return replica:info "master_link_status" == "up" end, 30, 0.02))
      bus = assert(tidemill.open(live.url))
      publish(0.3)
      local duplicates = 0
      for _ = 1, 5 do duplicates = duplicates + publish_anew(0.3) end
      assert.is_true(duplicates > 0)
      assert.equal("6", live:cli("XLEN", "orders"))
      assert(shell.wait_until(function()
        return live:cli("XRANGE", "orders", "-", "+") == replica:cli("XRANGE", "orders", "-", "+")
      end, 10, 0.02))
    end)
  end)
end
