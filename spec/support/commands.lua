-- SPDX-License-Identifier: MIT
-- What the specs of the command share (spec/integration/cli): a folder for scripts, results as lines and as JSON, and
-- the engines that outlive a process.
local assert = require "luassert"
local busted = require "busted"
local cjson = require "cjson"
local cli = require "spec.support.cli"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local M = {}

--- A folder of this process, thrown away at its end.
M.dir = shell.temporary_dir "cli"

--- Writes a script there; its path.
function M.script(name, text)
  return shell.write_file(M.dir .. "/" .. name, text)
end

--- The lines of a text that have something in them.
function M.lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

--- The lines of a result's stdout, decoded.
function M.json_lines(result)
  local found = {}
  for index, line in ipairs(M.lines_of(result.out)) do found[index] = cjson.decode(line) end
  return found
end

--- One line on stderr, and no trace of a crash.
function M.assert_one_line(result)
  assert.equal(1, #M.lines_of(result.err), result.err)
  assert.is_nil(result.err:find("traceback", 1, true), result.err)
  assert.is_nil(result.err:find("a mistake in tidemill", 1, true), result.err)
end

-- The engines that outlive a process: name, kind (of server; nil for a file), start() → { url =, stop = }.
local function engines()
  local list = { { name = "file", start = function()
    return { url = "file:" .. shell.temporary_dir "store" .. "/store.db", stop = function() end }
  end } }
  for _, kind in ipairs(server.kinds()) do
    list[#list + 1] = { name = kind, kind = kind, start = function() return server.start(kind) end }
  end
  return list
end

--- Describes a subcommand on each engine that outlives a process. fn(run, spawn, kind) has the behaviours:
-- run(words, options) and spawn(words) are cli's, on a store of this description's own; kind is that of the server,
-- nil for a file.
function M.on_each_engine(subcommand, fn)
  for _, engine in ipairs(engines()) do
    busted.describe("tidemill " .. subcommand .. " on " .. engine.name, function()
      local store
      busted.setup(function() store = engine.start() end)
      busted.teardown(function() store:stop() end)

      local function run(words, options)
        options = options or {}
        options.env = options.env or {}
        options.env.TIDEMILL_URL = store.url
        return cli.run(words, options)
      end

      local function spawn(words)
        return cli.spawn(words, { env = { TIDEMILL_URL = store.url } })
      end

      fn(run, spawn, engine.kind)
    end)
  end
end

return M
