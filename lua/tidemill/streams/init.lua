--- The stream commands themselves, with the server's own meaning: one function each, typed replies. Names, ids and the
-- times of arguments and replies (ms) are the server's, but for `block`, in seconds as everywhere in tidemill.
-- Every call waits. Replies of errors are nil, err.
local options = require "tidemill.options"
local command = require "tidemill.streams.command"
local receiver = require "tidemill.receiver"
local reply = require "tidemill.streams.reply"
local misuse = require "tidemill.misuse"

local M = {}

---@class tidemill.Streams
local methods = {}
local mt = { __name = "tidemill.Streams", __index = methods }

local add, add_ids, ask, build, check, text = command.add, command.add_ids, command.ask, command.build, command.check,
  command.text

for _, part in ipairs { "groups", "pending", "info" } do
  for name, method in pairs(require("tidemill.streams." .. part)) do
    methods[name] = method
  end
end

--- The commands of a bus; it is `bus.streams`.
---@param bus tidemill.Bus
---@return tidemill.Streams
function M.new(bus)
  return setmetatable({ bus = bus }, mt)
end

--- Sends a command given as a list of strings; the reply as it is.
---@param args string[]
---@return any? reply
---@return tidemill.Error? err
function methods:send(args)
  if type(args) ~= "table" or #args == 0 then
    misuse("streams:send: a list of at least one string expected")
  end
  for i = 1, #args do
    if type(args[i]) ~= "string" then
      misuse(("streams:send: element %d must be a string, got %s"):format(i, type(args[i])))
    end
  end
  return command.send(self, args)
end

--- Sends any command; the reply as it is: strings, integers, lists, tidemill.null for a nil reply.
---@param name string
---@param ... string|number
---@return any? reply
---@return tidemill.Error? err
function methods:command(name, ...)
  local args = { text("command", "the command's name", name) }
  for i = 1, select("#", ...) do
    args[i + 1] = text("command", "argument " .. i, (select(i, ...)))
  end
  return command.send(self, args)
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
    misuse(("streams:%s: maxlen and minid exclude each other"):format(where))
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
  args[#args + 1] = text("xadd", "the id", id)
  if type(fields) ~= "table" or next(fields) == nil then
    misuse("streams:xadd: a table of fields expected")
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
    misuse("streams:xtrim: maxlen or minid expected")
  end
  return ask(self, args)
end

-- ---- reading ----

local count_rules = { count = { "integer" } }

local function range(self, where, verb, key, from, to, given)
  local checked = options.check("streams:" .. where, given, count_rules)
  local args = build(where, verb, key, from, to)
  if checked.count then
    add(args, "COUNT", checked.count)
  end
  return ask(self, args, reply.entries)
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

--- XREAD.
---@param given table  streams = { [key] = id }, count, block (seconds)
---@return table<string, tidemill.Entry[]>? entries by key; empty when nothing came
---@return tidemill.Error? err
function methods:xread(given)
  return command.read(self, "xread", { "XREAD" }, check("xread", given, read_rules))
end

receiver.guard(methods, mt, "streams")

return M
