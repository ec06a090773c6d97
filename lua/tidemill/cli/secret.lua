-- What `tidemill doctor` says about the file that the URL option password_file names: is it there, who may read it, and
-- is it the password and nothing else. Never shows a byte of what is in it.

local core = require "tidemill.core"

local M = {}

local SIZE_MAX = 4096 -- TIDE_SECRET_MAX of csrc/runtime/secret.h

--- The path that a URL's password_file names, nil when it has none.
---@param url string
---@return string?
function M.path_of(url)
  local query = url:match "%?([^#]*)"
  local value = query and ("&" .. query):match "&password_file=([^&]+)"
  return value and (value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- What is wrong with the bytes; nil when they are one line.
local function trouble_of(text)
  local password = text:gsub("\r?\n$", "", 1) -- as the library does it: one line end is left away
  if password == "" then
    return "error", "is empty", "write the password into it"
  elseif #password > SIZE_MAX then
    return "error", ("has more than %d bytes"):format(SIZE_MAX), "is it the right file?"
  elseif password:find "\n" then
    return "warn", "has more than one line, and all of them are taken for the password", "leave one line in it"
  elseif password:find "^%s" or password:find "%s$" then
    return "warn", ("%s with white space, which is taken for a part of the password"):format(
      password:find "^%s" and "begins" or "ends"), "leave the password alone in it, if that is not meant"
  end
end

--- Adds findings about a password file: add(level, check, text, fix).
---@param path string
---@param add fun(level: string, check: string, text: string, fix: string?)
---@return boolean is_fine  nothing but "ok" was found
function M.examine(path, add)
  local is_fine = true
  local function found(level, text, fix)
    is_fine = is_fine and level == "ok"
    add(level, "password", ("password_file %s %s"):format(path, text), fix)
  end
  local mode, regular = core.file_mode(path)
  if not mode then
    found("error", ("can't be read: %s"):format(regular), "write the password into it, readable for this user")
    return false
  elseif not regular then
    found("warn", "is not a regular file: not looked at")
    return false
  end
  local bits = ("%04o"):format(mode)
  if mode % 8 ~= 0 then
    found("warn", ("can be used by every user of this machine (mode %s)"):format(bits), "chmod 600 " .. path)
  elseif math.floor(mode / 16) % 2 == 1 then
    found("warn", ("can be changed by its group (mode %s)"):format(bits), "chmod g-w " .. path)
  end
  local file, err = io.open(path, "rb")
  local text, read_err
  if file then
    text, read_err = file:read(SIZE_MAX + 3)
    if not text and not read_err then text = "" end -- the end of the file
    file:close()
  end
  if not text then
    local why = (err or read_err):gsub("^.-: ", "")
    found("error", "can't be read: " .. why, "chown or chmod it for this user")
    return false
  end
  local level, what, fix = trouble_of(text)
  if level then found(level, what, fix) end
  if is_fine then found("ok", ("has one line, mode %s"):format(bits)) end
  return is_fine
end

return M
