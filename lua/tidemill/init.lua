--- tidemill: an event bus whose handlers are Lua functions, over Redis and Valkey streams or an embedded engine.
--
--   local tidemill = require "tidemill"
--   local bus = tidemill.open "memory:"
--   local orders = bus:topic "orders"
--   orders:on("OrderPlaced", function(event) print(event.data.total) end)
--   orders:publish { type = "OrderPlaced", data = { total = 99.99 } }
--   bus:run()
local core = require "tidemill.core"
local bus = require "tidemill.bus"
local errors = require "tidemill.error"
local json = require "tidemill.codec.json"
local verdict = require "tidemill.verdict"
local misuse = require "tidemill.misuse"

local M = {}

--- This version, "0.1.0".
M.version = core.version

--- Null inside event data and in replies of commands: JSON's null, a command's nil. Equal to cjson.null.
M.null = json.null

--- Opens a bus. Connects at its first use; a bad URL, or an option in it, is nil, err.
---@param url string    "memory:", "file:PATH", "redis://…", "valkey://…", "rediss://…", "valkeys://…", "unix:PATH"
---@param given table?  name (of the connection), log (function(level, line); default: warnings and errors to standard
--- error), id (function that makes event ids; default: UUIDs of version 7), max_payload (bytes of data, 1 MiB), json
--- (module with encode and decode; default tidemill.codec.json), grace (seconds a drain may take, 10), consumer (name,
--- default host-pid-n); and every option of the URL by its name, times in seconds: timeout (5), connect_timeout (5),
--- keepalive (15), user, password, password_file (a file that has it, read anew for each connection), db, ca, cert,
--- key, server_name, insecure, synchronous ("full", "normal", "off"), busy_timeout (5), max_len, max_age
---@return tidemill.Bus? bus
---@return tidemill.Error? err  TIDE-URL, TIDE-OPTION, TIDE-UNSUPPORTED, TIDE-NOMEM, TIDE-NOAUTH (no password_file)
function M.open(url, given)
  if type(url) ~= "string" then
    misuse("tidemill.open: a URL (a string) expected, got " .. type(url))
  end
  return bus.open(url, given)
end

M.nack = verdict.nack
M.reject = verdict.reject
M.release = verdict.release

--- Marks a table as a list for JSON, also when it is empty.
M.array = json.array

--- Whether a value is an error value of tidemill.
M.is_error = errors.is

return M
