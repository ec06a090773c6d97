-- SPDX-License-Identifier: MIT
-- F30: memory while large events go through, on real servers and on a file: what the subscription holds, what the
-- system sees of a process that does nothing else, and that it stays there.
local faults = require "spec.support.faults"
local server = require "spec.support.server"

local MIB = 1048576
local COUNT, BUDGET = 100, 8 * MIB
-- So often the hundred go through one subscription: what leaked one event in a hundred would not stay below the bound.
local ROUNDS = 8
-- Resident: the budget and a fifth, and the event coming in, which a buffer that grows holds twice for a moment.
local RESIDENT = BUDGET * 1.2 + 3 * MIB
-- The file engine adds SQLite's page cache with the row that it reads (by its own count 17 MiB, 19 at most), and what
-- malloc keeps of the batches that one thread makes and another frees, at most the budget once more.
local RESIDENT_FILE = RESIDENT + 19 * MIB + BUDGET

local kinds = server.kinds()
kinds[#kinds + 1] = "file"

for _, kind in ipairs(kinds) do
  describe("memory on " .. kind, function()
    local world, bus, topic

    before_each(function()
      world = faults.world(kind)
      bus = world:open()
      topic = bus:topic "orders"
      local data = string.rep("x", 1048000)
      for _ = 1, COUNT do assert(topic:publish { type = "A", data = data, content_type = "text/plain" }) end
    end)

    after_each(function() world:close() end)

    it("F30 holds a hundred events of a mebibyte within its byte budget", function()
      local handled, most, subscription = 0, 0, nil
      subscription = topic:on("*", { prefetch_bytes = BUDGET }, function()
        handled = handled + 1
        most = math.max(most, subscription:stats().bytes)
      end)
      faults.pump(bus, function() return handled == COUNT end, 60)
      assert.is_true(most <= BUDGET * 1.2, most .. " bytes were held")
    end)

    it("F30 stays within it as the system sees it, and doesn't grow with what has gone through", function()
      local other = world:worker(([[
        local COUNT, BUDGET, ROUNDS = %d, %d, %d
        local function peak() return tonumber(io.open("/proc/self/status"):read("*a"):match "VmHWM:%%s*(%%d+)") end
        local before, handled = peak(), 0
        topic:on("*", { prefetch_bytes = BUDGET }, function() handled = handled + 1 end)
        for round = 1, ROUNDS do
          while handled < COUNT * round do bus:tick(0.05, { wait = true }) end
          print("round " .. round .. ": " .. peak() - before .. " KiB")
          assert(bus.streams:command("XGROUP", "SETID", "orders", "default", "0")) -- all of them once more
        end
        print "end"]]):format(COUNT, BUDGET, ROUNDS))
      assert(other:wait_for("end", 120), other:output() .. other:errors())
      local told = other:output()
      local grown = 1024 * tonumber(told:match("round " .. ROUNDS .. ": (%d+) KiB"))
      assert.is_true(grown <= (kind == "file" and RESIDENT_FILE or RESIDENT), told)
      other:kill()
    end)
  end)
end
