--- Replies of the stream commands as Lua values.
local core = require "tidemill.core"

local M = {}

local null = core.null

---@class tidemill.Entry
---@field id string
---@field fields table<string, string>
---@field flat string[]     name, value, name, value … in their order
---@field pairs string[]?   the same, only when a name repeats (fields then has its last value)
---@field deleted boolean?  of a history: the entry is gone

--- nil for a nil reply, else the reply.
function M.plain(value)
  if value == null then
    return nil
  end
  return value
end
local plain = M.plain

--- An entry of { id, { name, value, … } }.
function M.entry(reply)
  local entry = { id = reply[1], fields = {} }
  local flat = reply[2]
  if flat == null or flat == nil then -- deleted meanwhile
    entry.deleted = true
    flat = {}
  end
  entry.flat = flat
  local fields = entry.fields
  for i = 1, #flat, 2 do
    if fields[flat[i]] ~= nil then
      entry.pairs = flat
    end
    fields[flat[i]] = flat[i + 1]
  end
  return entry
end

--- A list of entries, or of ids.
function M.entries(reply)
  local entries = {}
  for i, one in ipairs(plain(reply) or {}) do
    if one ~= null then
      entries[#entries + 1] = type(one) == "table" and M.entry(one) or reply[i]
    end
  end
  return entries
end

--- name, value, name, value … as a table; nil values are left out.
function M.map(reply)
  local map = {}
  for i = 1, #reply, 2 do
    map[reply[i]] = plain(reply[i + 1])
  end
  return map
end

--- A list of such lists.
function M.maps(reply)
  local maps = {}
  for i, one in ipairs(plain(reply) or {}) do
    maps[i] = M.map(one)
  end
  return maps
end

--- Entries by the key of their stream; empty when nothing came.
function M.by_stream(reply)
  local streams = {}
  for _, one in ipairs(plain(reply) or {}) do
    streams[one[1]] = M.entries(one[2])
  end
  return streams
end

--- true for "OK".
function M.ok(reply)
  return reply == "OK" or reply == 1 or reply
end

return M
