--- Keys and values with a time to live, compare-and-set and counters, in a namespace: key "carts:42". Every call waits.
local options = require "tidemill.options"
local receiver = require "tidemill.receiver"
local names = require "tidemill.names"
local misuse = require "tidemill.misuse"

local M = {}

---@class tidemill.KV
local methods = {}
local mt = { __name = "tidemill.KV", __index = methods }

-- Numbers of tide_kv_verb.
local GET, SET, ADD, REPLACE, DELETE, DELETE_IF, INCREMENT, EXPIRE = 0, 1, 2, 3, 4, 5, 6, 7

local ttl_rules = { ttl = { "seconds", min = 0.001 } }
local delete_rules = { expected = { "string or number" } }

--- A namespace of a bus; see bus:kv.
---@param bus tidemill.Bus
---@param namespace string
---@return tidemill.KV
function M.new(bus, namespace)
  names.check("bus:kv", "namespace", namespace)
  return setmetatable({ bus = bus, prefix = namespace .. ":" }, mt)
end

local function text_of(where, what, value)
  if type(value) == "number" then
    return options.number_text(value)
  elseif type(value) ~= "string" then
    misuse(("%s: the %s must be a string or a number, got %s"):format(where, what, type(value)))
  end
  return value
end

local function key_of(self, where, key)
  key = text_of(where, "key", key)
  if key == "" or #key > 1024 then
    misuse(where .. ": the key must have 1 to 1024 bytes")
  end
  return self.prefix .. key
end

-- → value, integer; or nil, err, actual
local function request(self, where, verb, key, value, expected, amount, ttl_ms)
  return self.bus:request(where, function(core, tag)
    return core:kv(tag, verb, key, value, expected, amount, ttl_ms)
  end)
end

local function ttl_of(where, given)
  return options.ms(options.check(where, given, ttl_rules).ttl)
end

--- The value of a key.
---@param key string|number
---@return string? value  nil when there is none
---@return tidemill.Error? err
function methods:get(key)
  local value, err = request(self, "kv:get", GET, key_of(self, "kv:get", key))
  if type(err) == "table" then
    return nil, err
  end
  return value
end

--- Sets a key, whatever is there.
---@param key string|number
---@param value string|number
---@param given { ttl: number? }?  seconds; default: for ever
---@return true? ok
---@return tidemill.Error? err
function methods:set(key, value, given)
  local _, err = request(self, "kv:set", SET, key_of(self, "kv:set", key), text_of("kv:set", "value", value), nil, nil,
    ttl_of("kv:set", given))
  if type(err) == "table" then
    return nil, err
  end
  return true
end

-- Outcomes that are an answer, not trouble.
local function answer(value, err, actual, code)
  if type(err) == "table" then
    if err.code == code then
      return false, actual
    end
    return nil, err
  end
  return true, value
end

--- Sets a key only when nothing is there.
---@param key string|number
---@param value string|number
---@param given { ttl: number? }?  seconds
---@return boolean? added
---@return tidemill.Error|string? err  or, with false, the value that is there
function methods:add(key, value, given)
  local a, b, c = request(self, "kv:add", ADD, key_of(self, "kv:add", key), text_of("kv:add", "value", value), nil, nil,
    ttl_of("kv:add", given))
  local added, rest = answer(a, b, c, "TIDE-EXISTS")
  if added then
    return true
  end
  return added, rest
end

--- Sets a key only when `old` is there.
---@param key string|number
---@param old string|number
---@param new string|number
---@param given { ttl: number? }?  seconds; default: for ever
---@return boolean? replaced
---@return tidemill.Error|string? actual  with false: what is there (nil: nothing)
function methods:replace(key, old, new, given)
  local a, b, c = request(self, "kv:replace", REPLACE, key_of(self, "kv:replace", key),
    text_of("kv:replace", "new value", new), text_of("kv:replace", "old value", old), nil, ttl_of("kv:replace", given))
  local replaced, rest = answer(a, b, c, "TIDE-CONFLICT")
  if replaced then
    return true
  end
  return replaced, rest
end

--- Deletes a key.
---@param key string|number
---@param given { expected: string|number? }?  only when that is there
---@return boolean? deleted
---@return tidemill.Error|string? actual  with false and `expected`: what is there
function methods:delete(key, given)
  local expected = options.check("kv:delete", given, delete_rules).expected
  key = key_of(self, "kv:delete", key)
  local value, err, actual
  if expected == nil then
    value, err, actual = request(self, "kv:delete", DELETE, key)
  else
    value, err, actual = request(self, "kv:delete", DELETE_IF, key, nil, text_of("kv:delete", "expected", expected))
  end
  if type(err) == "table" then
    if err.code == "TIDE-CONFLICT" or err.code == "TIDE-NOTFOUND" then
      return false, actual
    end
    return nil, err
  end
  return value ~= nil
end

--- Adds to a counter; a missing one counts from 0.
---@param key string|number
---@param by integer?  default 1
---@param given { ttl: number? }?  seconds; default: unchanged
---@return integer? value  after it
---@return tidemill.Error? err
function methods:increment(key, by, given)
  by = by or 1
  options.check_value("kv:increment", "the amount", by, { "integer", min = -2 ^ 53 })
  local _, number = request(self, "kv:increment", INCREMENT, key_of(self, "kv:increment", key), nil, nil, by,
    ttl_of("kv:increment", given))
  if type(number) == "table" then
    return nil, number
  end
  return number
end

--- Gives a key that is there a time to live.
---@param key string|number
---@param ttl number  seconds
---@return boolean? done  false: no such key
---@return tidemill.Error? err
function methods:expire(key, ttl)
  options.check_value("kv:expire", "ttl", ttl, { "seconds", min = 0.001 })
  local value, err = request(self, "kv:expire", EXPIRE, key_of(self, "kv:expire", key), nil, nil, nil, options.ms(ttl))
  if type(err) == "table" then
    if err.code == "TIDE-NOTFOUND" then
      return false
    end
    return nil, err
  end
  return value ~= nil
end

receiver.guard(methods, mt, "kv")

return M
