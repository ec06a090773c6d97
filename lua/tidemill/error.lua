--- The one shape of errors: { code = "TIDE-…", message =, retryable =, cause =, server = }.
-- What the world can cause is returned as `nil, err`; a program's mistake is raised as a string with its position.
local core = require "tidemill.core"

---@class tidemill.Error
---@field code string        stable, "TIDE-TIMEOUT"; what programs match on
---@field message string     one line for people
---@field retryable boolean  the same call may succeed later, unchanged
---@field server string?     the server's own first error word, "WRONGTYPE"
---@field cause any?         what led to it
---@field expected any?      of TIDE-CONFLICT: the version or value that was expected
---@field actual any?        of TIDE-CONFLICT: the one that is there

local M = {}

local mt = core.error_metatable
mt.__name = "tidemill.Error"
mt.__tostring = function(err)
  return tostring(err.code) .. ": " .. tostring(err.message)
end

--- A new error value.
---@param status string   name of a status without "TIDE-": "TIMEOUT", "ARGUMENT", …
---@param message string? one line; default: the status's own text
---@param fields table?   further fields, set on the error
---@return tidemill.Error
function M.new(status, message, fields)
  local err = core.new_error(core.statuses[status] or core.statuses.INTERNAL, message)
  for name, value in pairs(fields or {}) do
    err[name] = value
  end
  return err
end

--- Whether a value is an error value of tidemill.
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and getmetatable(value) == mt
end

--- Text and class of anything that a handler raised or returned as its error. Never raises: a __tostring that fails is
-- answered by the value's type.
---@param value any
---@return string text   one line or more, at most 4 KiB
---@return string? class what retry.classes is asked for: `code`, else `class` of a table
function M.describe(value)
  local class
  if type(value) == "table" then
    class = rawget(value, "code") or rawget(value, "class")
    if type(class) ~= "string" then
      class = nil
    end
  end
  local ok, text = pcall(tostring, value)
  if not ok or type(text) ~= "string" then
    text = "an error value (" .. type(value) .. ") that cannot be shown"
  elseif type(value) == "table" and not (getmetatable(value) or {}).__tostring then
    local message = rawget(value, "message")
    text = type(message) == "string" and message or "a table without __tostring"
    if class then
      text = class .. ": " .. text
    end
  end
  if #text > 4096 then
    text = text:sub(1, 4096)
  end
  return text, class
end

return M
