--- What stands before the colon: a method called with a dot, bus.topic "x" instead of bus:topic "x", is told so.
local misuse = require "tidemill.misuse"

local M = {}

local getmetatable = getmetatable

--- Raises: that wasn't one of ours.
---@param where string  the call as it should be: "bus:topic"
---@param self any
function M.refuse(where, self)
  local got = type(self) == "table" and "another table" or type(self)
  misuse(("%s: called on %s; write %s(…), with a colon"):format(where, got, where))
end

--- Makes every method of a class look at what it is called on.
---@param methods table<string, function>
---@param mt table      the class's metatable
---@param class string  for messages: "bus"
---@param left_out table<string, boolean>?  those that look themselves, or are called for every event
function M.guard(methods, mt, class, left_out)
  for name, method in pairs(methods) do
    if not (left_out and left_out[name]) then
      local where = class .. ":" .. name
      methods[name] = function(self, ...)
        if getmetatable(self) ~= mt then
          M.refuse(where, self)
        end
        return method(self, ...)
      end
    end
  end
end

return M
