-- SPDX-License-Identifier: MIT
-- The Lua side of fuzz_event.c: a memory: bus with one handler that reads everything of an event and compares it with
-- what was written. Returns a function(verdict, name, value, name, value …); it raises what is found.
local tidemill = require "tidemill"
local json = require "tidemill.codec.json"

local bus = assert(tidemill.open("memory:", { log = function() end, name = "fuzz" }))
local topic = bus:topic("fuzz", { dead_letters = "fuzz-dead" })

local PROPERTIES = { "id", "type", "stream_id", "stream", "topic", "group", "attempt", "attempts_max", "aggregate_id",
  "aggregate_type", "version", "occurred_at", "content_type", "data", "raw", "metadata", "fields", "settled",
  "no_such_property", "extend" }
local TYPE, DATA = { "event_type", "type" }, { "data", "payload", "event_data" }

local expected, verdict, found, ended
local written = 0

-- The first field of a proper name, else the first of an alias.
local function first(list, names)
  local alias
  for i = 1, #list, 2 do
    if list[i] == names[1] then return list[i + 1] end
    for n = 2, #names do
      if list[i] == names[n] then alias = alias or list[i + 1] end
    end
  end
  return alias
end

local function compare(event)
  local fields, count = {}, 0
  for i = 1, #expected, 2 do fields[expected[i]] = expected[i + 1] end
  for name, value in pairs(event.fields) do
    assert(fields[name] == value, "a field is not what was written")
    count = count + 1
  end
  for _ in pairs(fields) do count = count - 1 end
  assert(count == 0, "fields are missing")
  assert(event.type == (first(expected, TYPE) or ""), "the type is not what was written")
  assert(event.raw == first(expected, DATA), "raw is not what was written")
  for name, value in pairs(event.metadata) do assert(fields[name] == value, "metadata is not what was written") end
  assert(tostring(event):find "^event ", "no name")
end

topic:on("*", { start = "0", retry = { max = 2, backoff = "fixed", delay = 0 } }, function(event)
  for _, property in ipairs(PROPERTIES) do
    local ok, value = pcall(function() return event[property] end)
    if not ok then
      found = property ~= "data" and "reading " .. property .. ": " .. tostring(value) or found
    elseif property == "data" and type(value) == "table" then
      -- What is read can be written.
      local text, why = json.encode(value)
      if not text then found = "decoded data is not encoded again: " .. tostring(why) .. "\n" .. event.raw end
    end
  end
  local ok, why = pcall(compare, event)
  if not ok then found = why end
  ended = verdict ~= 3 or event.attempt > 1
  if verdict == 1 then return tidemill.reject "because" end
  if verdict == 2 then return event.data and nil end -- undecodable: raises, a dead letter
  if verdict == 3 and event.attempt == 1 then return tidemill.nack { delay = 0 } end
end)

return function(wanted, ...)
  expected, verdict, found, ended = { ... }, wanted, nil, false
  local _, err = bus.streams:command("XADD", "fuzz", "*", ...)
  assert(not err, tostring(err))
  for _ = 1, 2000 do
    bus:tick(0.005, { wait = true })
    if ended then break end
  end
  assert(ended, "the event did not come")
  assert(not found, found)
  written = written + 1
  if written % 200 == 0 then
    bus:drain(5)
    bus.streams:command("XTRIM", "fuzz", "MAXLEN", "=", "0")
    bus.streams:command("XTRIM", "fuzz-dead", "MAXLEN", "=", "0")
  end
end
