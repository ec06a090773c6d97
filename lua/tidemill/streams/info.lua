--- bus.streams, part four: XINFO; names as the server spells them. Every call waits.
local command = require "tidemill.streams.command"
local reply = require "tidemill.streams.reply"

local methods = {}

local add, ask, build, check = command.add, command.ask, command.build, command.check

local stream_rules = { full = { "boolean" }, count = { "integer" } }

local function full_group_of(answer)
  local group = reply.map(answer)
  if group.pending then
    for i, one in ipairs(group.pending) do
      group.pending[i] = { id = one[1], consumer = one[2], delivered = one[3], deliveries = one[4] }
    end
  end
  if group.consumers then
    for i, one in ipairs(group.consumers) do
      local consumer = reply.map(one)
      for n, row in ipairs(consumer.pending or {}) do
        consumer.pending[n] = { id = row[1], delivered = row[2], deliveries = row[3] }
      end
      group.consumers[i] = consumer
    end
  end
  return group
end

local function stream_of(answer)
  local info = reply.map(answer)
  for _, name in ipairs { "first-entry", "last-entry" } do
    if info[name] then
      info[name] = reply.entry(info[name])
    end
  end
  if info.entries then
    info.entries = reply.entries(info.entries)
  end
  if type(info.groups) == "table" then
    for i, one in ipairs(info.groups) do
      info.groups[i] = full_group_of(one)
    end
  end
  return info
end

--- XINFO STREAM.
---@param key string
---@param given { full: boolean?, count: integer? }?  count: of entries and pending ones, with full (10; 0: all)
---@return table? info  as the server names it; entries typed
---@return tidemill.Error? err
function methods:xinfo_stream(key, given)
  local checked = check("xinfo_stream", given, stream_rules)
  local args = build("xinfo_stream", "XINFO", "STREAM", key)
  if checked.full then
    add(args, "FULL")
    if checked.count then
      add(args, "COUNT", checked.count)
    end
  end
  return ask(self, args, stream_of)
end

--- XINFO GROUPS.
---@param key string
---@return table[]? groups  name, consumers, pending, last-delivered-id, entries-read, lag (absent: not known)
---@return tidemill.Error? err
function methods:xinfo_groups(key)
  return ask(self, build("xinfo_groups", "XINFO", "GROUPS", key), reply.maps)
end

--- XINFO CONSUMERS.
---@param key string
---@param group string
---@return table[]? consumers  name, pending, idle (ms), inactive (ms, where the server has it)
---@return tidemill.Error? err
function methods:xinfo_consumers(key, group)
  return ask(self, build("xinfo_consumers", "XINFO", "CONSUMERS", key, group), reply.maps)
end

return methods
