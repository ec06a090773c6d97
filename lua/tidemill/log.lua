--- Where log lines go when the caller names no function: standard error, warnings and errors, one line each.
local core = require "tidemill.core"

local M = {}

--- Writes one line to standard error; debug and info are dropped.
---@param level string  "debug", "info", "warn", "error"
---@param line string
function M.stderr(level, line)
  if level == "warn" or level == "error" then
    io.stderr:write(("tidemill: %s: %s\n"):format(level, core.escape(line)))
  end
end

--- A function(level, line) that never raises, over the caller's own.
---@param fn function?
---@return fun(level: string, line: string)
function M.guarded(fn)
  fn = fn or M.stderr
  return function(level, line)
    local ok, err = pcall(fn, level, line)
    if not ok then
      pcall(M.stderr, "error", "the log function failed: " .. tostring(err))
      pcall(M.stderr, level, line)
    end
  end
end

return M
