--- The stream commands themselves, with the server's own meaning: one function each, typed replies. Names, ids and the
-- times of arguments and replies (ms) are the server's, but for `block`, in seconds as everywhere in tidemill.
-- Every call waits. Replies of errors are nil, err.
local core = require "tidemill.core"
local options = require "tidemill.options"

local M = {}

---@class tidemill.Streams
local methods = {}
local mt = { __name = "tidemill.Streams", __index = methods }

local null = core.null

---@class tidemill.Entry
---@field id string
---@field fields table<string, string>
---@field flat string[]    name, value, name, value … in their order
---@field pairs string[]?  the same, only when a name repeats (fields then has its last value)

--- The commands of a bus; it is `bus.streams`.
---@param bus tidemill.Bus
---@return tidemill.Streams
function M.new(bus)
  return setmetatable({ bus = bus }, mt)
end

-- ---- sending ----

local function send(self, args, block)
  return self.bus:request(args[1], function(handle, tag)
    return handle:command(tag, args, block and math.floor(block * 1000 + 0.5) or 0)
  end)
end

--- Sends a command given as a list of strings; the reply as it is.
---@param args string[]
---@return any? reply
---@return tidemill.Error? err
function methods:send(args)
  local reply, err = send(self, args)
  if reply == nil then
    return nil, err
  end
  return reply
end

--- Sends any command; the reply as it is: strings, integers, lists, tidemill.null for a nil reply.
---@param name string
---@param ... string|number
---@return any? reply
---@return tidemill.Error? err
function methods:command(name, ...)
  local args = { name, ... }
  for i = 1, select("#", ...) + 1 do
    local value = args[i]
    if type(value) == "number" then
      args[i] = value % 1 == 0 and ("%d"):format(value) or ("%.17g"):format(value)
    elseif type(value) ~= "string" then
      error(("streams:command: argument %d must be a string or a number, got %s"):format(i, type(value)), 2)
    end
  end
  return self:send(args)
end

-- A list of arguments under construction; misuse is blamed on the caller of the public method.
local function text(where, what, value)
  if type(value) == "number" then
    return value % 1 == 0 and ("%d"):format(value) or tostring(value)
  elseif type(value) ~= "string" then
    error(("streams:%s: %s must be a string, got %s"):format(where, what, type(value)), 4)
  end
  return value
end

local function build(where, command, ...)
  local args = { command }
  for i = 1, select("#", ...) do
    args[i + 1] = text(where, "argument " .. i, (select(i, ...)))
  end
  return args
end

local function add(args, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    args[#args + 1] = type(value) == "number" and ("%d"):format(value) or value
  end
end

local function check(where, given, rules)
  return options.check("streams:" .. where, given, rules, 3)
end

-- Ids given as arguments or as one list.
local function add_ids(where, args, first, ...)
  local ids = type(first) == "table" and first or { first, ... }
  if #ids == 0 then
    error(("streams:%s: at least one id expected"):format(where), 3)
  end
  for _, id in ipairs(ids) do
    args[#args + 1] = text(where, "an id", id)
  end
end

-- ---- replies ----

local function plain(value)
  if value == null then
    return nil
  end
  return value
end

local function entry_of(reply)
  local entry = { id = reply[1], fields = {} }
  local flat = reply[2]
  if flat == null or flat == nil then -- deleted meanwhile
    entry.deleted = true
    flat = {}
  end
  entry.flat = flat
  local fields = entry.fields
  for i = 1, #flat, 2 do
    if fields[flat[i]] ~= nil then
      entry.pairs = flat
    end
    fields[flat[i]] = flat[i + 1]
  end
  return entry
end

local function entries_of(reply)
  local entries = {}
  for i, one in ipairs(plain(reply) or {}) do
    if one ~= null then
      entries[#entries + 1] = type(one) == "table" and entry_of(one) or reply[i]
    end
  end
  return entries
end

-- name, value, name, value … as a table; null values are left out.
local function map_of(reply)
  local map = {}
  for i = 1, #reply, 2 do
    map[reply[i]] = plain(reply[i + 1])
  end
  return map
end

local function by_stream(reply)
  local streams = {}
  for _, one in ipairs(plain(reply) or {}) do
    streams[one[1]] = entries_of(one[2])
  end
  return streams
end

-- Sends and converts.
local function ask(self, args, convert, block)
  local reply, err = send(self, args, block)
  if reply == nil then
    return nil, err
  end
  if convert then
    return convert(reply)
  end
  return plain(reply)
end

local function is_ok(reply)
  return reply == "OK" or reply == 1 or reply
end

-- ---- writing ----

local trim_rules = {
  maxlen = { "integer" },
  minid = { "string or number" },
  approx = { "boolean" },
  exact = { "boolean" },
  limit = { "integer" },
}
local xadd_rules = { nomkstream = { "boolean" } }
for name, rule in pairs(trim_rules) do
  xadd_rules[name] = rule
end

local function add_trim(where, args, checked)
  if checked.maxlen and checked.minid then
    error(("streams:%s: maxlen and minid exclude each other"):format(where), 3)
  end
  local strategy = checked.maxlen and "MAXLEN" or checked.minid and "MINID"
  if not strategy then
    return false
  end
  add(args, strategy)
  if checked.approx or (checked.limit and not checked.exact) then
    add(args, "~")
  elseif checked.exact then
    add(args, "=")
  end
  add(args, checked.maxlen or checked.minid)
  if checked.limit then
    add(args, "LIMIT", checked.limit)
  end
  return true
end

--- XADD.
---@param key string
---@param id string        "*", "ms-*" or an id
---@param fields table     names and values (written by name order), or a list: name, value, name, value …
---@param given table?     maxlen or minid, approx, exact, limit, nomkstream
---@return string? id      nil without an error: nomkstream and no such stream
---@return tidemill.Error? err
function methods:xadd(key, id, fields, given)
  local checked = check("xadd", given, xadd_rules)
  local args = build("xadd", "XADD", key)
  if checked.nomkstream then
    add(args, "NOMKSTREAM")
  end
  add_trim("xadd", args, checked)
  add(args, id)
  if type(fields) ~= "table" or next(fields) == nil then
    error("streams:xadd: a table of fields expected", 2)
  end
  if fields[1] ~= nil then
    for i = 1, #fields do
      args[#args + 1] = text("xadd", "a field", fields[i])
    end
  else
    local names = {}
    for name in pairs(fields) do
      names[#names + 1] = text("xadd", "a field's name", name)
    end
    table.sort(names)
    for _, name in ipairs(names) do
      add(args, name, text("xadd", "a field's value", fields[name]))
    end
  end
  return ask(self, args)
end

--- XDEL: how many were deleted.
---@param key string
---@param ... string|string[] ids, or one list of them
---@return integer? count
---@return tidemill.Error? err
function methods:xdel(key, ...)
  local args = build("xdel", "XDEL", key)
  add_ids("xdel", args, ...)
  return ask(self, args)
end

--- XTRIM: how many were deleted.
---@param key string
---@param given table  maxlen or minid, approx, exact, limit
---@return integer? count
---@return tidemill.Error? err
function methods:xtrim(key, given)
  local args = build("xtrim", "XTRIM", key)
  if not add_trim("xtrim", args, check("xtrim", given, trim_rules)) then
    error("streams:xtrim: maxlen or minid expected", 2)
  end
  return ask(self, args)
end

-- ---- reading ----

local count_rules = { count = { "integer" } }

local function range(self, where, command, key, from, to, given)
  local checked = options.check("streams:" .. where, given, count_rules, 3)
  local args = build(where, command, key, from, to)
  if checked.count then
    add(args, "COUNT", checked.count)
  end
  return ask(self, args, entries_of)
end

--- XRANGE.
---@param key string
---@param from string  "-", an id, "(id" to leave it out
---@param to string    "+", an id, "(id"
---@param given { count: integer? }?
---@return tidemill.Entry[]? entries
---@return tidemill.Error? err
function methods:xrange(key, from, to, given)
  return range(self, "xrange", "XRANGE", key, from, to, given)
end

--- XREVRANGE: newest first.
---@param key string
---@param from string  the higher end: "+", an id
---@param to string    the lower end
---@param given { count: integer? }?
---@return tidemill.Entry[]? entries
---@return tidemill.Error? err
function methods:xrevrange(key, from, to, given)
  return range(self, "xrevrange", "XREVRANGE", key, from, to, given)
end

--- XLEN; 0 for a stream that isn't there.
---@param key string
---@return integer? count
---@return tidemill.Error? err
function methods:xlen(key)
  return ask(self, build("xlen", "XLEN", key))
end

local read_rules = {
  streams = { "table" },
  count = { "integer", min = 1 },
  block = { "seconds", min = 0.001, max = 3600 },
}
local group_read_rules = { group = { "string" }, consumer = { "string" }, noack = { "boolean" } }
for name, rule in pairs(read_rules) do
  group_read_rules[name] = rule
end

local function read(self, where, args, checked)
  if not checked.streams or next(checked.streams) == nil then
    error(("streams:%s: streams = { [key] = id } expected"):format(where), 3)
  end
  if checked.count then
    add(args, "COUNT", checked.count)
  end
  if checked.block then
    add(args, "BLOCK", math.floor(checked.block * 1000 + 0.5))
  end
  if checked.noack then
    add(args, "NOACK")
  end
  add(args, "STREAMS")
  local keys = {}
  for key in pairs(checked.streams) do
    keys[#keys + 1] = text(where, "a key", key)
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    add(args, key)
  end
  for _, key in ipairs(keys) do
    add(args, text(where, "an id", checked.streams[key]))
  end
  return ask(self, args, by_stream, checked.block)
end

--- XREAD.
---@param given table  streams = { [key] = id }, count, block (seconds)
---@return table<string, tidemill.Entry[]>? entries by key; empty when nothing came
---@return tidemill.Error? err
function methods:xread(given)
  return read(self, "xread", { "XREAD" }, check("xread", given, read_rules))
end

--- XREADGROUP. Entries of the history that were deleted have deleted = true.
---@param given table  group, consumer, streams = { [key] = ">" or id }, count, block (seconds), noack
---@return table<string, tidemill.Entry[]>? entries by key; empty when nothing came
---@return tidemill.Error? err
function methods:xreadgroup(given)
  local checked = check("xreadgroup", given, group_read_rules)
  if not checked.group or not checked.consumer then
    error("streams:xreadgroup: group and consumer expected", 2)
  end
  return read(self, "xreadgroup", { "XREADGROUP", "GROUP", checked.group, checked.consumer }, checked)
end

-- ---- groups ----

local create_rules = { mkstream = { "boolean" }, entries_read = { "integer" } }
local setid_rules = { entries_read = { "integer" } }

--- XGROUP CREATE.
---@param key string
---@param group string
---@param id string     "$" or an id
---@param given { mkstream: boolean?, entries_read: integer? }?
---@return true? ok
---@return tidemill.Error? err  TIDE-EXISTS when it is there
function methods:xgroup_create(key, group, id, given)
  local checked = check("xgroup_create", given, create_rules)
  local args = build("xgroup_create", "XGROUP", "CREATE", key, group, id)
  if checked.mkstream then
    add(args, "MKSTREAM")
  end
  if checked.entries_read then
    add(args, "ENTRIESREAD", checked.entries_read)
  end
  return ask(self, args, is_ok)
end

--- XGROUP SETID.
---@param key string
---@param group string
---@param id string
---@param given { entries_read: integer? }?
---@return true? ok
---@return tidemill.Error? err
function methods:xgroup_setid(key, group, id, given)
  local checked = check("xgroup_setid", given, setid_rules)
  local args = build("xgroup_setid", "XGROUP", "SETID", key, group, id)
  if checked.entries_read then
    add(args, "ENTRIESREAD", checked.entries_read)
  end
  return ask(self, args, is_ok)
end

--- XGROUP DESTROY: 1, or 0 when there was none.
function methods:xgroup_destroy(key, group)
  return ask(self, build("xgroup_destroy", "XGROUP", "DESTROY", key, group))
end

--- XGROUP CREATECONSUMER: 1, or 0 when it was there.
function methods:xgroup_createconsumer(key, group, consumer)
  return ask(self, build("xgroup_createconsumer", "XGROUP", "CREATECONSUMER", key, group, consumer))
end

--- XGROUP DELCONSUMER: how many pending entries it had; they are lost to the group.
function methods:xgroup_delconsumer(key, group, consumer)
  return ask(self, build("xgroup_delconsumer", "XGROUP", "DELCONSUMER", key, group, consumer))
end

--- XACK: how many were pending.
---@param key string
---@param group string
---@param ... string|string[] ids, or one list of them
---@return integer? count
---@return tidemill.Error? err
function methods:xack(key, group, ...)
  local args = build("xack", "XACK", key, group)
  add_ids("xack", args, ...)
  return ask(self, args)
end

M.methods = methods
M.tools = {
  build = build, add = add, add_ids = add_ids, check = check, ask = ask, entries_of = entries_of, entry_of = entry_of,
  map_of = map_of, plain = plain,
}

return M
