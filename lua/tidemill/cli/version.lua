-- `tidemill version`.

local json = require "tidemill.cli.json"
local ui = require "tidemill.cli.ui"

local M = { summary = "Show the version." }

function M.define(command, cli)
  cli.add_json(command)
end

function M.run(options)
  local version = require("tidemill").version
  local lua = rawget(_G, "jit") and rawget(_G, "jit").version or _VERSION
  if options.json then
    ui.write(json.encode(json.record { { "tidemill", version }, { "lua", lua } }), "\n")
  else
    ui.write("tidemill ", version, " (", lua, ")\n")
  end
  return ui.OK
end

return M
