--- The options of tidemill.open: which are Lua's own, which go to the engine.
local misuse = require "tidemill.misuse"
local names = require "tidemill.names"
local options = require "tidemill.options"

local M = {}

-- Options that are Lua's own, and those handed on to the engine as URL options of the same name.
local rules = {
  name = { "string" },
  log = { "callable" },
  id = { "callable" },
  max_payload = { "integer", default = 1048576, min = 1, max = 512 * 1048576 },
  json = { "table" },
  grace = { "seconds", default = 10 },
  consumer = { "string" },
}
local url_options = {
  timeout = "seconds", connect_timeout = "seconds", keepalive = "seconds", busy_timeout = "seconds",
  max_age = "seconds", max_len = "integer", db = "integer", insecure = "boolean", user = "string", password = "string",
  password_file = "string",
  ca = "string", cert = "string", key = "string", server_name = "string", synchronous = "string",
}
for name, kind in pairs(url_options) do
  rules[name] = { kind }
end

-- The engine's options: name, value, name, value …
local function url_list(checked)
  local list = {}
  local function add(name, value)
    list[#list + 1], list[#list + 2] = name, value
  end
  for name, kind in pairs(url_options) do
    local value = checked[name]
    if value ~= nil then
      if kind == "seconds" then
        value = ("%.6f"):format(value)
      elseif kind == "integer" then
        value = ("%d"):format(value)
      end
      add(name, tostring(value))
    end
  end
  return list
end

--- Checks them; misuse is raised.
---@param where string
---@param url string
---@param given table?
---@return table checked        with defaults
---@return string[] list        the engine's: name, value, name, value …
---@return boolean is_embedded  memory: or file:
function M.check(where, url, given)
  local checked = options.check(where, given, rules)
  if checked.json and (type(checked.json.encode) ~= "function" or type(checked.json.decode) ~= "function") then
    misuse(where .. ": json must have the functions encode and decode")
  end
  if checked.consumer then
    names.check(where, "consumer", checked.consumer)
  end
  local list = url_list(checked)
  local is_embedded = url:find "^memory:" ~= nil or url:find "^file:" ~= nil
  if checked.name and not is_embedded then -- an embedded engine has no connection to name
    list[#list + 1], list[#list + 2] = "name", checked.name
  end
  return checked, list, is_embedded
end

return M
