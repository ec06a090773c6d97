-- What the specs of lua/tidemill share: a bus on memory:, turned until something is so.
local tidemill = require "tidemill"
local core = require "tidemill.core"

local M = {}

--- A bus on memory: that keeps its log lines in bus.lines.
function M.open(options)
  local given, lines = {}, {}
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  given.log = given.log or function(level, line)
    lines[#lines + 1] = level .. " " .. line
  end
  local bus = assert(tidemill.open("memory:", given))
  bus.lines = lines
  return bus
end

--- Turns the bus until check() answers; fails after `seconds` (20).
function M.wait(bus, check, seconds)
  local deadline = core.monotonic() + (seconds or 20)
  while core.monotonic() < deadline do
    local value = check()
    if value then
      return value
    end
    assert(bus:tick(0.005, { wait = true }))
  end
  error("not within " .. (seconds or 20) .. " s", 2)
end

--- Runs fn on a coroutine of the bus; what it returns.
function M.inside(bus, fn)
  local results
  bus:spawn(function()
    results = { fn() }
  end)
  M.wait(bus, function()
    return results
  end)
  return (table.unpack or unpack)(results)
end

--- A handler for everything that keeps events; the list of them.
function M.collect(topic, options)
  local got = {}
  topic:on("*", options or {}, function(event)
    got[#got + 1] = event
  end)
  return got
end

return M
