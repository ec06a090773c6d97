-- SPDX-License-Identifier: MIT
-- The command for specs: the built program under Lua 5.4, the launcher of the tree under LuaJIT.

local shell = require "spec.support.shell"

local unpack = rawget(table, "unpack") or rawget(_G, "unpack")

local M = {}

local is_jit = rawget(_G, "jit") ~= nil
local build = os.getenv "TIDEMILL_BUILD" or "build"
local program = os.getenv "TIDEMILL_BIN" or build .. "/tidemill"

M.launcher = "bin/tidemill"
M.program = not is_jit and shell.read_file(program) and program or nil
M.path = M.program or M.launcher

-- The environment of a spec's command: nothing of the caller's leaks in.
local function environment(extra)
  local env = {
    TIDEMILL_URL = false, NO_COLOR = false, TIDEMILL_LUA = is_jit and "luajit" or "lua5.4", TIDEMILL_BUILD = build,
  }
  for name, value in pairs(extra or {}) do env[name] = value end
  return env
end

--- Runs `tidemill WORDS…` to its end: { code =, out =, err = }.
---@param words string[]
---@param options? { env: table?, input: string?, dir: string?, timeout: number?, path: string?, tail: string? }
---  tail: shell text behind the command (a redirection, a pipe)
function M.run(words, options)
  options = options or {}
  local line = shell.words { options.path or M.path, unpack(words) }
  return shell.run(line .. (options.tail or ""), {
    env = environment(options.env), input = options.input, dir = options.dir, timeout = options.timeout,
  })
end

--- Starts `tidemill WORDS…` in the background.
function M.spawn(words, options)
  options = options or {}
  return shell.spawn({ options.path or M.path, unpack(words) },
    { env = environment(options.env), input = options.input })
end

return M
