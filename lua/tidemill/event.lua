--- The part of an event's face that is Lua: methods, and what belongs to its subscription. The event itself is the C
-- module's userdata: id, type, stream_id, attempt, attempts_max, aggregate_id, aggregate_type, version, occurred_at,
-- content_type, data, raw, metadata, fields, settled.
local errors = require "tidemill.error"
local options = require "tidemill.options"
local receiver = require "tidemill.receiver"
local verdict = require "tidemill.verdict"
local misuse = require "tidemill.misuse"

local M = {}

---@class tidemill.Event
---@field id string?           the event's own id (field event_id)
---@field type string          "" for an entry without one
---@field stream_id string     "ms-seq"
---@field stream string        key of the stream
---@field topic string
---@field group string
---@field attempt integer      1 for the first time
---@field attempts_max integer 0: for ever
---@field aggregate_id string?
---@field aggregate_type string?
---@field version integer|string?
---@field occurred_at string?  ISO-8601, UTC
---@field content_type string? nil: application/json
---@field data any             decoded at the first use; raises TIDE-DECODE when it is no JSON; not JSON: the bytes
---@field raw string?          bytes of data
---@field metadata table<string, string>  every field that isn't the event's own or ours; a new table each time
---@field fields table<string, string>    every field as it stands in the stream; a new table each time
---@field settled boolean      its handler has ended

local function check_event(event, where)
  if type(event) ~= "userdata" then
    receiver.refuse(where, event)
  end
end

--- The fallback of an event's __index for one bus: function(event, key).
---@param bus tidemill.Bus
---@return function
function M.fallback(bus)
  local methods = {}

  --- Renews the event's lease now, without waiting: for a handler that computes for so long that the loop, which renews
  -- the leases of all that run, doesn't turn.
  ---@param event tidemill.Event
  ---@return true? ok
  ---@return tidemill.Error? err
  function methods.extend(event)
    check_event(event, "event:extend")
    local ok, err = bus.settle(event, verdict.EXTEND)
    if not ok then
      return nil, err
    end
    ok, err = bus.core:poll(0) -- sends it, and takes the answer to the one before; starts no handler
    if not ok then
      return nil, err
    end
    return true
  end

  --- Publishes a consequence of this event: correlation_id, causation_id and traceparent are carried over unless the
  -- new event's metadata has them. Waits.
  ---@param event tidemill.Event
  ---@param topic string|tidemill.Topic
  ---@param new table       as for topic:publish
  ---@param given table?    as for topic:publish
  ---@return table? result
  ---@return tidemill.Error? err
  function methods.publish(event, topic, new, given)
    check_event(event, "event:publish")
    if type(new) ~= "table" then
      misuse("event:publish: an event table expected, got " .. type(new))
    end
    local copy = {}
    for key, value in pairs(new) do
      copy[key] = value
    end
    local from, metadata = event.metadata, {}
    metadata.correlation_id = from.correlation_id or event.id or event.stream_id
    metadata.causation_id = event.id or event.stream_id
    metadata.traceparent = from.traceparent
    if new.metadata ~= nil then
      options.check_value("event:publish", "metadata", new.metadata, { "table" })
      for key, value in pairs(new.metadata) do
        metadata[key] = value
      end
    end
    copy.metadata = metadata
    if type(topic) == "string" then
      topic = bus:topic(topic)
    elseif type(topic) ~= "table" or not topic.publish then
      misuse("event:publish: a topic expected, got " .. type(topic))
    end
    return topic:publish(copy, given)
  end

  return function(event, key)
    local method = methods[key]
    if method then
      return method
    end
    local subscription = bus.by_number[event.consumer]
    if subscription and (key == "topic" or key == "group" or key == "stream") then
      return subscription[key]
    end
    return nil
  end
end

--- A function(raw, content_type) → data for event.data over the caller's own JSON module; nil when there is none.
---@param json table?  with decode(text)
---@return function?
function M.decoder(json)
  if not json then
    return nil
  end
  return function(raw)
    local ok, value, why = pcall(json.decode, raw)
    if not ok or (value == nil and why ~= nil) then
      error(errors.new("DECODE", "event.data is not JSON: " .. errors.describe(ok and why or value)), 0)
    end
    return value
  end
end

return M
