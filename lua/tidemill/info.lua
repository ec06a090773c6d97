--- What a topic holds: length, groups, dead letters, delayed events.
local names = require "tidemill.names"

local M = {}

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
        lag = group.lag,
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
