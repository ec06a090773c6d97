--- JSON of event data: integers and floats survive a round trip, an empty list stays a list, null is tidemill.null.
-- What JSON or its readers elsewhere can't take is refused: NaN, infinities, invalid UTF-8, functions, tables that mix
-- list elements and named keys, nesting beyond 256 levels.
local core = require "tidemill.core"
local misuse = require "tidemill.misuse"

local M = {}

--- JSON's null inside data: not nil, so that lists keep their length. Equal to cjson.null.
M.null = core.null

local encode, decode = core.json_encode, core.json_decode

--- Text of a value.
---@param value any
---@return string? text
---@return string? err
function M.encode(value)
  return encode(value)
end

--- Value of a text. In LuaJIT integers beyond 2^53 are rounded, as every number there.
---@param text string
---@return any value  nil with `err` when it is no JSON
---@return string? err
function M.decode(text)
  return decode(text)
end

--- Marks a table as a list, so that it is written as [] also when it is empty.
---@param list table?  default: a new one
---@return table
function M.array(list)
  if list ~= nil and type(list) ~= "table" then
    misuse("tidemill.array: a table expected, got " .. type(list))
  end
  return setmetatable(list or {}, core.array_metatable)
end

return M
