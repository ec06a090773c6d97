--- A mistake in the program: raised with the position of the line outside tidemill that made it.
local getinfo = type(debug) == "table" and debug.getinfo

-- The folder of these files: "@/…/tidemill/"
local here = getinfo and getinfo(1, "S").source:match "^(.*)misuse%.lua$"

local function is_ours(source)
  return source:sub(1, #here) == here and source:sub(#here + 1, #here + 4) ~= "cli/"
end

--- Raises `message`, blaming the nearest caller outside tidemill. Never returns.
---@param message string
return function(message)
  local level = 2
  if here then
    local frame = getinfo(level, "S")
    while frame and (frame.what == "C" or frame.what == "tail" or is_ours(frame.source)) do
      level = level + 1
      frame = getinfo(level, "S")
    end
  end
  error(message, level)
end
