--- What a topic holds: length, groups, dead letters, delayed events.
local names = require "tidemill.names"

local M = {}

-- A lag that the server doesn't know (Redis 6.2 knows none; later ones not after XDEL, nor of a group made in the
-- middle) is counted up to this many entries; above, it stays unknown.
local COUNTED_MAX = 1000
local COUNT_BEHIND = "return #redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])"

-- At the server, where it can: what the entries hold stays there.
local function count_behind(streams, name, last)
  local count, err = streams:command("EVAL", COUNT_BEHIND, "1", name, last, tostring(COUNTED_MAX + 1))
  if type(err) == "table" and err.code == "TIDE-UNSUPPORTED" then
    local entries = streams:command("XRANGE", name, "(" .. last, "+", "COUNT", tostring(COUNTED_MAX + 1))
    count = type(entries) == "table" and #entries
  end
  return type(count) == "number" and count <= COUNTED_MAX and count or nil
end

--- See bus:info.
---@param bus tidemill.Bus
---@param name string
---@return table?
---@return tidemill.Error?
function M.of(bus, name)
  local streams = bus.streams
  local length, err = streams:xlen(name)
  if not length then
    return nil, err
  end
  local groups = {}
  local list, trouble = streams:xinfo_groups(name)
  if list then
    for i, group in ipairs(list) do
      groups[i] = {
        name = group.name,
        pending = group.pending,
        lag = group.lag or count_behind(streams, name, group["last-delivered-id"]),
        consumers = group.consumers,
        last_delivered_id = group["last-delivered-id"],
      }
    end
  elseif length > 0 then
    return nil, trouble
  end
  local dead, delayed
  dead, err = streams:xlen(names.derived(name, "dlq"))
  if not dead then
    return nil, err
  end
  delayed, err = streams:command("ZCARD", names.derived(name, "delayed"))
  if not delayed then
    return nil, err
  end
  return { length = length, groups = groups, dead_letters = dead, delayed = delayed }
end

return M
