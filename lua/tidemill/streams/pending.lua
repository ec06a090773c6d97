--- bus.streams, part three: pending lists and claims. Every call waits.
local command = require "tidemill.streams.command"
local reply = require "tidemill.streams.reply"

local methods = {}

local add, add_ids, ask, build, check = command.add, command.add_ids, command.ask, command.build, command.check
local plain = reply.plain

local pending_rules = {
  idle = { "integer" },
  from = { "string" },
  to = { "string" },
  count = { "integer" },
  consumer = { "string" },
}

local function summary_of(answer)
  local consumers = {}
  for _, one in ipairs(plain(answer[4]) or {}) do
    consumers[one[1]] = tonumber(one[2])
  end
  return { count = answer[1], min = plain(answer[2]), max = plain(answer[3]), consumers = consumers }
end

local function rows_of(answer)
  local rows = {}
  for i, one in ipairs(answer) do
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
  return ask(self, args, reply.entries)
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
  return ask(self, args, function(answer)
    return { cursor = answer[1], entries = reply.entries(answer[2]), deleted = plain(answer[3]) or {} }
  end)
end

return methods
