--- The rest of bus.streams: pending lists, claims and XINFO.
local streams = require "tidemill.streams"

local methods, tools = streams.methods, streams.tools
local build, add, add_ids, check, ask = tools.build, tools.add, tools.add_ids, tools.check, tools.ask
local entries_of, entry_of, map_of, plain = tools.entries_of, tools.entry_of, tools.map_of, tools.plain

local pending_rules = {
  idle = { "integer" },
  from = { "string" },
  to = { "string" },
  count = { "integer" },
  consumer = { "string" },
}

local function summary_of(reply)
  local consumers = {}
  for _, one in ipairs(plain(reply[4]) or {}) do
    consumers[one[1]] = tonumber(one[2])
  end
  return { count = reply[1], min = plain(reply[2]), max = plain(reply[3]), consumers = consumers }
end

local function rows_of(reply)
  local rows = {}
  for i, one in ipairs(reply) do
    rows[i] = { id = one[1], consumer = one[2], idle = one[3], deliveries = one[4] }
  end
  return rows
end

--- XPENDING. Without options the summary, with any of them a list.
---@param key string
---@param group string
---@param given table?  idle (ms), from ("-"), to ("+"), count (10), consumer
---@return table? pending  { count, min, max, consumers = { [name] = count } }, or a list of { id, consumer, idle (ms),
--- deliveries }
---@return tidemill.Error? err
function methods:xpending(key, group, given)
  local checked = check("xpending", given, pending_rules)
  local args = build("xpending", "XPENDING", key, group)
  if next(checked) == nil then
    return ask(self, args, summary_of)
  end
  if checked.idle then
    add(args, "IDLE", checked.idle)
  end
  add(args, checked.from or "-", checked.to or "+", checked.count or 10)
  if checked.consumer then
    add(args, checked.consumer)
  end
  return ask(self, args, rows_of)
end

local claim_rules = {
  idle = { "integer" },
  time = { "integer" },
  retrycount = { "integer" },
  force = { "boolean" },
  justid = { "boolean" },
  lastid = { "string" },
}

--- XCLAIM.
---@param key string
---@param group string
---@param consumer string
---@param min_idle integer  ms
---@param ids string[]
---@param given table?      idle (ms), time (ms since the epoch), retrycount, force, justid, lastid
---@return tidemill.Entry[]|string[]? claimed  ids only with justid
---@return tidemill.Error? err
function methods:xclaim(key, group, consumer, min_idle, ids, given)
  local checked = check("xclaim", given, claim_rules)
  local args = build("xclaim", "XCLAIM", key, group, consumer, min_idle)
  add_ids("xclaim", args, ids)
  for _, name in ipairs { "idle", "time", "retrycount", "lastid" } do
    if checked[name] then
      add(args, name:upper(), checked[name])
    end
  end
  if checked.force then
    add(args, "FORCE")
  end
  if checked.justid then
    add(args, "JUSTID")
  end
  return ask(self, args, entries_of)
end

local autoclaim_rules = { count = { "integer", min = 1 }, justid = { "boolean" } }

--- XAUTOCLAIM.
---@param key string
---@param group string
---@param consumer string
---@param min_idle integer  ms
---@param start string      "0-0", then the cursor of the page before
---@param given { count: integer?, justid: boolean? }?
---@return table? page      { cursor, entries (ids with justid), deleted (ids) }; cursor "0-0": complete
---@return tidemill.Error? err
function methods:xautoclaim(key, group, consumer, min_idle, start, given)
  local checked = check("xautoclaim", given, autoclaim_rules)
  local args = build("xautoclaim", "XAUTOCLAIM", key, group, consumer, min_idle, start)
  if checked.count then
    add(args, "COUNT", checked.count)
  end
  if checked.justid then
    add(args, "JUSTID")
  end
  return ask(self, args, function(reply)
    return { cursor = reply[1], entries = entries_of(reply[2]), deleted = plain(reply[3]) or {} }
  end)
end

-- ---- XINFO: names as the server spells them ----

local stream_rules = { full = { "boolean" }, count = { "integer" } }

local function maps_of(reply)
  local maps = {}
  for i, one in ipairs(plain(reply) or {}) do
    maps[i] = map_of(one)
  end
  return maps
end

local function full_group_of(reply)
  local group = map_of(reply)
  if group.pending then
    for i, one in ipairs(group.pending) do
      group.pending[i] = { id = one[1], consumer = one[2], delivered = one[3], deliveries = one[4] }
    end
  end
  if group.consumers then
    for i, one in ipairs(group.consumers) do
      local consumer = map_of(one)
      for n, row in ipairs(consumer.pending or {}) do
        consumer.pending[n] = { id = row[1], delivered = row[2], deliveries = row[3] }
      end
      group.consumers[i] = consumer
    end
  end
  return group
end

local function stream_of(reply)
  local info = map_of(reply)
  for _, name in ipairs { "first-entry", "last-entry" } do
    if info[name] then
      info[name] = entry_of(info[name])
    end
  end
  if info.entries then
    info.entries = entries_of(info.entries)
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
  return ask(self, build("xinfo_groups", "XINFO", "GROUPS", key), maps_of)
end

--- XINFO CONSUMERS.
---@param key string
---@param group string
---@return table[]? consumers  name, pending, idle (ms), inactive (ms, where the server has it)
---@return tidemill.Error? err
function methods:xinfo_consumers(key, group)
  return ask(self, build("xinfo_consumers", "XINFO", "CONSUMERS", key, group), maps_of)
end

return streams
