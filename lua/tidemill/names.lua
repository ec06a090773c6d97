--- Names of topics, groups and consumers: what is refused, and the keys derived from them.
local core = require "tidemill.core"
local misuse = require "tidemill.misuse"

local M = {}

local MAX = 512

-- U+200E/F, U+202A…E, U+2066…9 turn the text around them when shown.
local function has_bidi(text)
  return text:find "\226\128[\142\143\170-\174]" or text:find "\226\129[\166-\169]"
end

--- Why a name is refused; nil when it is fine.
---@param name any
---@return string?
function M.trouble(name)
  if type(name) ~= "string" then
    return "must be a string, got " .. type(name)
  elseif name == "" then
    return "cannot be empty"
  elseif #name > MAX then
    return ("is %d bytes long, the limit is %d"):format(#name, MAX)
  elseif name:find "%c" then
    return "cannot have control characters"
  elseif not core.is_utf8(name) then
    return "must be valid UTF-8"
  elseif has_bidi(name) then
    return "cannot have bidirectional control characters"
  elseif name:find("*", 1, true) then
    return "cannot have a '*'"
  elseif name:find("{}", 1, true) then
    return "cannot have an empty hash tag '{}'"
  end
end

-- Keys that tidemill itself makes beside a stream.
local derived_suffixes = { "delayed", "dedupe", "version", "events" }

--- Raises unless the name is good; a topic's name can't be one that tidemill makes by itself, but for dead letters.
---@param where string
---@param what string
---@param name any
function M.check(where, what, name)
  local trouble = M.trouble(name)
  if not trouble then
    for _, suffix in ipairs(derived_suffixes) do
      if name:find("}:" .. suffix, 1, true) then
        trouble = ("cannot contain '}:%s': such keys are tidemill's own"):format(suffix)
      end
    end
  end
  if trouble then
    misuse(("%s: the %s %s"):format(where, what, trouble))
  end
end

--- A key beside a stream, in its hash slot: "{orders}:dlq"; a name with a tag keeps it: "{a}.3" gives "{a}.3:dlq".
---@param stream string
---@param suffix string
---@return string
function M.derived(stream, suffix)
  if stream:find "{[^}]+}" then
    return stream .. ":" .. suffix
  end
  return "{" .. stream .. "}:" .. suffix
end

return M
