--- bus.streams, part two: groups. Every call waits.
local command = require "tidemill.streams.command"
local reply = require "tidemill.streams.reply"
local misuse = require "tidemill.misuse"

local methods = {}

local add, add_ids, ask, build, check = command.add, command.add_ids, command.ask, command.build, command.check

local read_rules = {
  streams = { "table" },
  count = { "integer", min = 1 },
  block = { "seconds", min = 0.001, max = 3600 },
  group = { "string" },
  consumer = { "string" },
  noack = { "boolean" },
}

--- XREADGROUP. Entries of the history that were deleted have deleted = true.
---@param given table  group, consumer, streams = { [key] = ">" or id }, count, block (seconds), noack
---@return table<string, tidemill.Entry[]>? entries by key; empty when nothing came
---@return tidemill.Error? err
function methods:xreadgroup(given)
  local checked = check("xreadgroup", given, read_rules)
  if not checked.group or not checked.consumer then
    misuse("streams:xreadgroup: group and consumer expected")
  end
  return command.read(self, "xreadgroup", { "XREADGROUP", "GROUP", checked.group, checked.consumer }, checked)
end

local entries_read = { "integer", min = -1 } -- -1: not known
local create_rules = { mkstream = { "boolean" }, entries_read = entries_read }
local setid_rules = { entries_read = entries_read }

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
  return ask(self, args, reply.ok)
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
  return ask(self, args, reply.ok)
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

return methods
