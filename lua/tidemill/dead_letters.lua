--- Dead letters of a topic: what was given up, with the reason. Every call waits.
local json = require "tidemill.codec.json"
local options = require "tidemill.options"
local receiver = require "tidemill.receiver"
local misuse = require "tidemill.misuse"

local M = {}

---@class tidemill.DeadLetters
local methods = {}
local mt = { __name = "tidemill.DeadLetters", __index = methods }

local PAGE = 100

local list_rules = {
  count = { "integer", default = 100, min = 1, max = 100000 },
  from = { "string", default = "-" },
}

--- See topic:dead_letters.
---@param bus tidemill.Bus
---@param topic string
---@param stream string
---@return tidemill.DeadLetters
function M.new(bus, topic, stream)
  return setmetatable({ bus = bus, topic = topic, stream = stream }, mt)
end

local own = {
  event_id = "id", event_type = "type", aggregate_id = "aggregate_id", aggregate_type = "aggregate_type",
  version = "version", occurred_at = "occurred_at", data = "raw", content_type = "content_type",
}
local aliases = {
  id = "id", type = "type", timestamp = "occurred_at", payload = "raw", event_data = "raw",
}

local function is_json(content_type)
  return not content_type or content_type:find "^application/json%f[\0; ]" ~= nil or content_type:find "%+json$" ~= nil
end

-- The original event as a plain table: what event has, data decoded where it can be.
local function event_of(entry, decode)
  local event, metadata = { metadata = {} }, {}
  for name, value in pairs(entry.fields) do
    if own[name] then
      event[own[name]] = value
    elseif not name:find "^dead_" then
      metadata[name] = value
    end
  end
  for name, key in pairs(aliases) do
    if event[key] == nil and metadata[name] ~= nil then
      event[key], metadata[name] = metadata[name], nil
    end
  end
  event.metadata = metadata
  event.type = event.type or ""
  if event.raw then
    if is_json(event.content_type) then
      local ok, value = pcall(decode, event.raw)
      event.data = ok and value or nil
      if event.data == json.null then
        event.data = nil
      end
    else
      event.data = event.raw
    end
  end
  return event
end

local function letter_of(entry, decode)
  local fields = entry.fields
  return {
    id = entry.id,
    reason = fields.dead_reason,
    error = fields.dead_error,
    stream = fields.dead_stream,
    stream_id = fields.dead_id,
    group = fields.dead_group,
    consumer = fields.dead_consumer,
    attempts = tonumber(fields.dead_attempts),
    first_at = tonumber(fields.dead_first_at),
    at = tonumber(fields.dead_at),
    event = event_of(entry, decode),
  }
end

--- How many there are.
---@return integer? count
---@return tidemill.Error? err
function methods:count()
  return self.bus.streams:xlen(self.stream)
end

--- Dead letters, oldest first.
---@param given { count: integer?, from: string? }?  count: at most so many (100); from: the first id
---@return table[]? letters  { id, reason, error, stream, stream_id, group, consumer, attempts, first_at, at (ms since
--- the epoch), event = { id, type, data, raw, metadata, … } }
---@return tidemill.Error? err
function methods:list(given)
  local checked = options.check("dead_letters:list", given, list_rules)
  local entries, err = self.bus.streams:xrange(self.stream, checked.from, "+", { count = checked.count })
  if not entries then
    return nil, err
  end
  local decode = (self.bus.json or json).decode
  for i, entry in ipairs(entries) do
    entries[i] = letter_of(entry, decode)
  end
  return entries
end

-- Publishes the original fields again, then deletes the letter: both may be there after a crash, never neither.
local function replay_one(self, entry)
  local args = { "XADD", entry.fields.dead_stream or self.topic, "*" }
  local pairs_of = entry.pairs
  if not pairs_of then
    pairs_of = entry.flat
  end
  for i = 1, #pairs_of, 2 do
    if not pairs_of[i]:find "^dead_" then
      args[#args + 1], args[#args + 2] = pairs_of[i], pairs_of[i + 1]
    end
  end
  local streams = self.bus.streams
  local id, err = streams:send(args)
  if not id then
    return nil, err
  end
  return streams:xdel(self.stream, entry.id)
end

--- Publishes dead letters again to the stream they came from, with the same event id, and takes them out. Those that
-- fail again become new dead letters.
---@param id string?  one letter's id; default: all that are there now
---@return integer? count  how many were replayed
---@return tidemill.Error? err
function methods:replay(id)
  if id ~= nil and type(id) ~= "string" then
    misuse("dead_letters:replay: a letter's id (a string) expected")
  end
  local streams = self.bus.streams
  if id then
    local entries, err = streams:xrange(self.stream, id, id)
    if not entries then
      return nil, err
    elseif #entries == 0 then
      return 0
    end
    local ok
    ok, err = replay_one(self, entries[1])
    if not ok then
      return nil, err
    end
    return 1
  end
  local last, err = streams:xrevrange(self.stream, "+", "-", { count = 1 })
  if not last then
    return nil, err
  elseif #last == 0 then
    return 0
  end
  local count, upper = 0, last[1].id
  while true do
    local entries
    entries, err = streams:xrange(self.stream, "-", upper, { count = PAGE })
    if not entries then
      return nil, err
    elseif #entries == 0 then
      return count
    end
    for _, entry in ipairs(entries) do
      local ok
      ok, err = replay_one(self, entry)
      if not ok then
        return nil, err
      end
      count = count + 1
    end
  end
end

--- Deletes all of them.
---@return integer? count  how many there were
---@return tidemill.Error? err
function methods:purge()
  return self.bus.streams:xtrim(self.stream, { maxlen = 0, exact = true })
end

receiver.guard(methods, mt, "dead_letters")

return M
