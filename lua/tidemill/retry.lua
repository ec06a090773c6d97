--- Retry options as policies of the core: `retry = { max =, backoff =, delay =, max_delay =, factor =, jitter =,
-- classes = { [class] = { … } } }`.
local core = require "tidemill.core"
local options = require "tidemill.options"

local M = {}

local kinds = { fixed = 0, linear = 1, exponential = 2 }

local rules = {
  max = { "integer", default = 5, min = 0, max = 1000000 },
  backoff = { "choice", default = "exponential", words = { "fixed", "linear", "exponential" } },
  delay = { "seconds", default = 0.1 },
  max_delay = { "seconds", default = 60 },
  factor = { "number", default = 2, min = 1, max = 1000 },
  jitter = { "number", default = 0.5, min = 0, max = 1 },
  classes = { "table" },
}

local class_rules = {}
for name, rule in pairs(rules) do
  class_rules[name] = name ~= "classes" and rule or nil
end

local function policy(checked)
  return core.policy {
    kind = kinds[checked.backoff],
    attempts_max = checked.max,
    delay_ms = options.ms(checked.delay),
    delay_ms_max = options.ms(checked.max_delay),
    factor = checked.factor,
    jitter = checked.jitter,
  }
end

--- The larger of two numbers of attempts, where 0 means for ever.
---@param a integer
---@param b integer
---@return integer
function M.more_attempts(a, b)
  return (a == 0 or b == 0) and 0 or math.max(a, b)
end

--- Policies of a retry table. A class's table takes what it doesn't say from the outer one.
---@param where string  for messages
---@param given table?  max (attempts in all, default 5, 0 for ever), backoff ("fixed", "linear", "exponential":
--- default), delay (seconds, 0.1), max_delay (seconds, 60), factor (2), jitter (0…1, 0.5), classes
---@return userdata? policy   nil when nothing was given
---@return table<string, userdata>? classes
---@return integer attempts   most of them all, 0: for ever
function M.policies(where, given)
  if given == nil then
    return nil, nil, rules.max.default
  end
  local checked = options.check(where .. " retry", given, rules)
  local classes
  local attempts = checked.max
  if checked.classes then
    classes = {}
    for class, table_of in pairs(checked.classes) do
      local one = options.check(("%s retry class %s"):format(where, tostring(class)), table_of, class_rules)
      for name in pairs(class_rules) do
        if table_of[name] == nil then
          one[name] = checked[name]
        end
      end
      classes[class] = policy(one)
      attempts = M.more_attempts(attempts, one.max)
    end
  end
  return policy(checked), classes, attempts
end

return M
