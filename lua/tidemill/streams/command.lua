--- Building and sending the stream commands.
local options = require "tidemill.options"
local reply = require "tidemill.streams.reply"
local misuse = require "tidemill.misuse"

local M = {}

--- Text of an argument; misuse is blamed on the caller of the public method that calls the caller of this.
---@param where string
---@param what string
---@param value any
---@return string
function M.text(where, what, value)
  if type(value) == "number" then
    return options.number_text(value)
  elseif type(value) ~= "string" then
    misuse(("streams:%s: %s must be a string, got %s"):format(where, what, type(value)))
  end
  return value
end
local text = M.text

--- A new list of arguments.
function M.build(where, command, ...)
  local args = { command }
  for i = 1, select("#", ...) do
    args[i + 1] = text(where, "argument " .. i, (select(i, ...)))
  end
  return args
end

--- Adds strings and integers.
function M.add(args, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    args[#args + 1] = type(value) == "number" and ("%d"):format(value) or value
  end
end

--- Adds ids given as arguments or as one list.
function M.add_ids(where, args, first, ...)
  local ids = type(first) == "table" and first or { first, ... }
  if #ids == 0 then
    misuse(("streams:%s: at least one id expected"):format(where))
  end
  for _, id in ipairs(ids) do
    args[#args + 1] = text(where, "an id", id)
  end
end

--- Checks the options of a method.
function M.check(where, given, rules)
  return options.check("streams:" .. where, given, rules)
end

--- Sends a list of strings and waits; the reply as it is, or nil, err. `block`: seconds that the server may wait.
function M.send(self, args, block)
  local answer, err = self.bus:request(args[1], function(handle, tag)
    return handle:command(tag, args, block and math.floor(block * 1000 + 0.5) or 0)
  end)
  if answer == nil then
    return nil, err
  end
  return answer
end

--- Sends and converts.
function M.ask(self, args, convert, block)
  local answer, err = M.send(self, args, block)
  if answer == nil then
    return nil, err
  end
  return (convert or reply.plain)(answer)
end

--- XREAD and XREADGROUP: checked options onto the arguments, then sent.
function M.read(self, where, args, checked)
  if not checked.streams or next(checked.streams) == nil then
    misuse(("streams:%s: streams = { [key] = id } expected"):format(where))
  end
  if checked.count then
    M.add(args, "COUNT", checked.count)
  end
  if checked.block then
    M.add(args, "BLOCK", math.floor(checked.block * 1000 + 0.5))
  end
  if checked.noack then
    M.add(args, "NOACK")
  end
  M.add(args, "STREAMS")
  local keys = {}
  for key in pairs(checked.streams) do
    keys[#keys + 1] = text(where, "a key", key)
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    M.add(args, key)
  end
  for _, key in ipairs(keys) do
    M.add(args, text(where, "an id", checked.streams[key]))
  end
  return M.ask(self, args, reply.by_stream, checked.block)
end

return M
