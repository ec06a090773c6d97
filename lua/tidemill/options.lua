--- Option tables: each name known, each value of its kind, the nearest name for a slip. Misuse is raised where the
-- public function was called. A table that was given is never changed.
local misuse = require "tidemill.misuse"
local M = {}

local floor, huge = math.floor, math.huge

-- Edit distance with swaps of neighbours, for short words.
local function distance(a, b)
  local previous2, previous = {}, {}
  for j = 0, #b do
    previous[j] = j
  end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local best = math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, previous2[j - 2] + 1)
      end
      row[j] = best
    end
    previous2, previous = previous, row
  end
  return previous[#b]
end

--- The name nearest to `word`, when near enough to be a slip (a third of its length, at least 1).
---@param word string
---@param names string[]
---@return string?
function M.nearest(word, names)
  if #word > 64 then
    return nil
  end
  local best, best_distance
  for _, name in ipairs(names) do
    local d = distance(word:lower(), name:lower())
    if not best or d < best_distance or (d == best_distance and name < best) then
      best, best_distance = name, d
    end
  end
  if best and best_distance <= math.max(1, floor(#word / 3) + 1) and best_distance < #best then
    return best
  end
end

local function show(value)
  if type(value) == "string" then
    local text = #value > 40 and value:sub(1, 40) .. "…" or value
    return (("%q"):format(text):gsub("%c", "?"))
  end
  return tostring(value)
end

-- kind → function(value, rule) → true, or nil and what was wanted
local kinds = {}

local function shown(number)
  if number == 2 ^ 53 then
    return "2^53"
  end
  return number % 1 == 0 and ("%.0f"):format(number) or tostring(number)
end

local function number_between(value, rule, what)
  local min, max = rule.min or 0, rule.max or huge
  if type(value) == "number" and value == value and value >= min and value <= max and value ~= huge then
    return true
  end
  local range = ", not negative"
  if max ~= huge then
    range = (" from %s to %s"):format(shown(min), shown(max))
  elseif min > 0 then
    range = (" from %s on"):format(shown(min))
  end
  return nil, what .. range
end

--- Seconds: a number, ≥ min (default 0), at most about 3,000 years.
function kinds.seconds(value, rule)
  return number_between(value, { min = rule.min, max = rule.max or 1e11 }, "a number of seconds")
end

function kinds.number(value, rule)
  return number_between(value, rule, "a number")
end

function kinds.integer(value, rule)
  if type(value) == "number" and floor(value) ~= value then
    return nil, "an integer"
  end
  return number_between(value, { min = rule.min, max = rule.max or 2 ^ 53 }, "an integer")
end

function kinds.string(value, rule)
  if type(value) ~= "string" then
    return nil, "a string"
  end
  if value == "" and not rule.empty then
    return nil, "a string that is not empty"
  end
  return true
end

for _, name in ipairs { "boolean", "function", "table" } do
  kinds[name] = function(value)
    if type(value) == name then
      return true
    end
    return nil, "a " .. name
  end
end

--- One of a list of words.
function kinds.choice(value, rule)
  for _, word in ipairs(rule.words) do
    if value == word then
      return true
    end
  end
  local words = {}
  for i, word in ipairs(rule.words) do
    words[i] = '"' .. word .. '"'
  end
  return nil, "one of " .. table.concat(words, ", ")
end

--- Something callable: a function, or a value with __call.
function kinds.callable(value)
  local meta = getmetatable(value)
  if type(value) == "function" or (type(meta) == "table" and meta.__call) then
    return true
  end
  return nil, "a function"
end

kinds["string or number"] = function(value)
  if type(value) == "string" or type(value) == "number" then
    return true
  end
  return nil, "a string or a number"
end

kinds["any"] = function()
  return true
end

--- Raises unless `value` is of the rule's kind.
---@param where string  "tidemill.open"
---@param name string   the option's name
---@param value any
---@param rule table    { kind, min =, max =, words =, empty = }
function M.check_value(where, name, value, rule)
  local ok, wanted = kinds[rule[1]](value, rule)
  if not ok then
    misuse(("%s: %s must be %s, got %s"):format(where, name, wanted, show(value)))
  end
end

--- Checks an options table against its rules and returns a copy with defaults filled in.
---@param where string   the function's name for messages
---@param given table?   may be nil
---@param rules table<string, table>  name → { kind, default =, min =, max =, words = }
---@return table
function M.check(where, given, rules)
  local checked = {}
  if given ~= nil then
    if type(given) ~= "table" then
      misuse(("%s: options must be a table, got %s"):format(where, type(given)))
    end
    for name, value in pairs(given) do
      local rule = rules[name]
      if not rule then
        local names = {}
        for known in pairs(rules) do
          names[#names + 1] = known
        end
        table.sort(names)
        local near = type(name) == "string" and M.nearest(name, names)
        misuse(("%s: unknown option %s%s"):format(where, type(name) == "string" and ("'%s'"):format(name:sub(1, 64))
          or tostring(name), near and (" (did you mean '%s'?)"):format(near) or ""))
      end
      M.check_value(where, name, value, rule)
      checked[name] = value
    end
  end
  for name, rule in pairs(rules) do
    if checked[name] == nil then
      checked[name] = rule.default
    end
  end
  return checked
end

--- A number as text that gives the same number again, as short as that goes.
---@param number number
---@return string
function M.number_text(number)
  local text
  for digits = 14, 17 do
    text = ("%." .. digits .. "g"):format(number)
    if tonumber(text) == number then
      break
    end
  end
  -- Whole numbers without an exponent, as far as integers of 64 bits go.
  if number % 1 == 0 and number >= -2 ^ 63 and number < 2 ^ 63 and (text:find("e", 1, true) or #text > 14) then
    text = ("%d"):format(number)
  end
  return text
end

--- Seconds as whole milliseconds.
---@param seconds number?
---@return integer?
function M.ms(seconds)
  return seconds and floor(seconds * 1000 + 0.5)
end

return M
