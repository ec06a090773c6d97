-- JSON for other programs to read: keys in order, one line, always valid UTF-8.
-- A string that isn't UTF-8 is written as {"base64": "…"}: nothing is lost and every reader can tell.

local codec = require "tidemill.codec.json"
local ui = require "tidemill.cli.ui"

local M = { null = codec.null }

local array_mt, raw_mt, record_mt = {}, {}, {}

--- Marks a table as an array, so that an empty one is [].
function M.array(list) return setmetatable(list or {}, array_mt) end

--- JSON text that goes out as it is, on one line.
function M.raw(text) return setmetatable({ text = text }, raw_mt) end

--- An object whose keys keep their order: { { name, value }, … }; pairs with a nil value are left out.
function M.record(pairs_list) return setmetatable(pairs_list, record_mt) end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

--- Bytes as base64 text.
function M.base64(bytes)
  local out = {}
  for index = 1, #bytes, 3 do
    local a, b, c = bytes:byte(index, index + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    local four = ""
    for shift = 3, 0, -1 do
      local digit = math.floor(n / 64 ^ shift) % 64
      four = four .. DIGITS:sub(digit + 1, digit + 1)
    end
    out[#out + 1] = c and four or b and four:sub(1, 3) .. "=" or four:sub(1, 2) .. "=="
  end
  return table.concat(out)
end

--- The bytes of base64 text; nil when it is none.
---@param text string
---@return string?
function M.bytes(text)
  local digits, padding = text:match "^([%w+/]*)(=*)$"
  if not digits or #text % 4 ~= 0 or #padding > 2 then return nil end
  local out = {}
  for index = 1, #digits, 4 do
    local n, count = 0, 0
    for place = index, index + 3 do
      local digit = digits:sub(place, place)
      n = n * 64 + (digit ~= "" and DIGITS:find(digit, 1, true) - 1 or 0)
      count = count + (digit ~= "" and 1 or 0)
    end
    out[#out + 1] = string.char(math.floor(n / 65536), math.floor(n / 256) % 256, n % 256):sub(1, count - 1)
  end
  return table.concat(out)
end

local SHORT = { [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r" }

local function unicode(point)
  if point < 0x10000 then return ("\\u%04x"):format(point) end
  point = point - 0x10000
  return ("\\u%04x\\u%04x"):format(0xD800 + math.floor(point / 1024), 0xDC00 + point % 1024)
end

local function quoted(text)
  if not text:find "[%c\"\\\127-\255]" then return '"' .. text .. '"' end
  local out = {}
  ui.scan(text,
    function(run) out[#out + 1] = run:gsub('["\\]', "\\%0") end,
    function(point) out[#out + 1] = SHORT[point] or unicode(point) end,
    function() out[#out + 1] = "\\ufffd" end)
  return '"' .. table.concat(out) .. '"'
end

local encode

local function encode_string(text)
  if ui.is_utf8(text) then return quoted(text) end
  return '{"base64":"' .. M.base64(text) .. '"}'
end

local function encode_number(number)
  if number ~= number or number == math.huge or number == -math.huge then return "null" end
  if number == math.floor(number) and math.abs(number) < 2 ^ 53 then return ("%.0f"):format(number) end
  return (("%.17g"):format(number):gsub(",", "."))
end

local function encode_list(list)
  local out = {}
  for index = 1, #list do out[index] = encode(list[index]) end
  return "[" .. table.concat(out, ",") .. "]"
end

function encode(value)
  local kind = type(value)
  if value == nil or value == codec.null then return "null" end
  if kind == "string" then return encode_string(value) end
  if kind == "number" then
    -- Lua 5.4 integers beyond 2^53 keep every digit.
    local text = tostring(value)
    return text:find "^%-?%d+$" and text or encode_number(value)
  end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then return quoted(tostring(value)) end
  local mt = getmetatable(value)
  if mt == raw_mt then
    -- Line ends are only blanks there: JSON strings can't hold them as they are.
    return (value.text:gsub("[\r\n]", " "))
  end
  if mt == record_mt then
    local out = {}
    for index = 1, #value do
      local name, item = value[index][1], value[index][2]
      if item ~= nil then out[#out + 1] = quoted(name) .. ":" .. encode(item) end
    end
    return "{" .. table.concat(out, ",") .. "}"
  end
  if mt == array_mt or #value > 0 then return encode_list(value) end
  local names = {}
  for name in pairs(value) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  local out = {}
  for index, name in ipairs(names) do out[index] = quoted(tostring(name)) .. ":" .. encode(value[name]) end
  return "{" .. table.concat(out, ",") .. "}"
end

--- One line of JSON, without a line end.
M.encode = encode

-- Behind the value that begins at `index` of a JSON text that has been decoded already.
local function behind(text, index)
  if text:find('^"', index) then
    index = index + 1
    while true do
      index = text:find('["\\]', index)
      if text:find('^"', index) then return index + 1 end
      index = index + 2
    end
  elseif not text:find("^[{%[]", index) then
    return text:find("[,}%]%s]", index) or #text + 1
  end
  local depth = 0
  repeat
    index = text:find('[{}%[%]"]', index)
    if text:find('^"', index) then
      index = behind(text, index)
    else
      depth = depth + (text:find("^[{%[]", index) and 1 or -1)
      index = index + 1
    end
  until depth == 0
  return index
end

--- A member of an object as it is written, digit for digit; nil when there is none. Of equal names the last one counts.
---@param text string  JSON that has been decoded already: an object
---@param name string
---@return string?
function M.member(text, name)
  local found
  local index = text:find('[^%s{]', 1)
  while text:find('^"', index) do
    local name_end = behind(text, index)
    local key = codec.decode(text:sub(index, name_end - 1))
    local from = text:find("[^%s:]", name_end)
    local to = behind(text, from)
    if key == name then found = text:sub(from, to - 1) end
    index = text:find("[^%s,]", to)
  end
  return found
end

--- The decoded value, or nil and what is wrong with the text. JSON null gives M.null.
M.decode = codec.decode

return M
