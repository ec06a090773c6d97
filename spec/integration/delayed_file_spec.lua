-- SPDX-License-Identifier: MIT
-- Delayed events on a file that another process has put there: how exactly a running consumer delivers them. An event's
-- data says when it is due, by the clock that all on this machine share.
local tidemill = require "tidemill"
local core = require "tidemill.core"
local shell = require "spec.support.shell"

local wall = core.wall

-- Delays one after the other, each when the one before is due.
local publisher = [[
local tidemill, core = require "tidemill", require "tidemill.core"
local bus = assert(tidemill.open(%q))
local topic = bus:topic "orders"
for n, delay in ipairs { %s } do
  local due = core.wall() + delay
  assert(topic:publish { type = "Later", data = { n = n, due = due }, at = due })
  bus:sleep(delay + 0.02)
end
bus:close()
]]

describe("delayed events of another process on a file", function()
  it("come within 50 ms of their time, as a rule", function()
    local dir = shell.temporary_dir "delayed-file"
    local url = "file:" .. dir .. "/store.db"
    local bus = assert(tidemill.open(url))
    local late, count = {}, 0
    bus:topic("orders"):on("Later", {}, function(event)
      late[event.data.n] = wall() - event.data.due
      count = count + 1
    end)
    bus:tick(0.3, { wait = true })
    local delays = {}
    for i = 1, 20 do delays[i] = 0.05 + (i * 7 % 20) * 0.0175 end
    local path = shell.write_file(dir .. "/publisher.lua", publisher:format(url, table.concat(delays, ", ")))
    local child = shell.spawn { os.getenv "TIDEMILL_LUA" or "lua5.4", path }
    local limit = core.monotonic() + 60
    while count < #delays do
      assert(core.monotonic() < limit, "only " .. count .. " came")
      bus:tick(0.05, { wait = true })
    end
    child:wait()
    bus:close()
    for n, value in ipairs(late) do assert.is_true(value > -0.002, ("%d is early by %g s"):format(n, -value)) end
    table.sort(late)
    if os.getenv "TIDEMILL_SHOW" then
      print(("late: median %.1f ms, 95 %% %.1f ms, most %.1f ms"):format(late[10] * 1000, late[19] * 1000,
        late[20] * 1000))
    end
    assert.is_true(late[10] < 0.05, ("the median is late by %.1f ms"):format(late[10] * 1000))
  end)
end)
