-- SPDX-License-Identifier: MIT
-- What the fault specs share: one engine at a time (a server of its own, or a file), buses and worker processes on it,
-- and waiting for a condition.
local tidemill = require "tidemill"
local core = require "tidemill.core"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local M = { clock = core.monotonic }
local clock = core.monotonic

--- Turns a bus (or several) until `check` answers; its answer. Fails after `seconds` (default 30).
function M.pump(buses, check, seconds, what)
  if buses.tick then buses = { buses } end
  local limit = clock() + (seconds or 30)
  while clock() < limit do
    local value = check()
    if value then return value end
    for _, bus in ipairs(buses) do bus:tick(0.01, { wait = true }) end
  end
  error("not within " .. (seconds or 30) .. " s: " .. (what or "?"), 2)
end

--- Turns a bus (or several) for so many seconds.
function M.pass(buses, seconds)
  if buses.tick then buses = { buses } end
  local limit = clock() + seconds
  while clock() < limit do
    for _, bus in ipairs(buses) do bus:tick(0.02, { wait = true }) end
  end
end

--- Publishes the events first … last, each until it is confirmed, each once.
function M.publish_all(bus, topic, first, last)
  for n = first, last do
    local event = { id = "e" .. n, type = "A", data = { n = n } }
    local result, err
    for _ = 1, 300 do
      result, err = topic:publish(event, { dedupe = 600 })
      if result then break end
      assert(err.retryable, tostring(err))
      bus:sleep(0.05)
    end
    assert(result, tostring(err))
  end
end

--- Resident memory of a process, bytes; nil where /proc doesn't say.
function M.resident(pid)
  local status = shell.read_file("/proc/" .. (pid or "self") .. "/status")
  local kib = status and status:match "VmRSS:%s*(%d+)"
  return kib and tonumber(kib) * 1024
end

local World = {}
World.__index = World

--- An engine that a spec breaks: kind "redis", "valkey" or "file"; options as server.start has them.
function M.world(kind, options)
  local self = setmetatable({ kind = kind, lines = {}, log = {}, buses = {} }, World)
  if kind == "file" then
    self.url = "file:" .. shell.temporary_dir "faults" .. "/store.db"
  else
    self.server = server.start(kind, options)
    self.url = self.server.url
  end
  return self
end

--- A bus whose log goes to `log`, and to `lines` what is more than debugging; closed with the world.
function World:open(options, url)
  local given = {
    log = function(level, line)
      line = level .. " " .. line
      self.log[#self.log + 1] = line
      if level ~= "debug" then self.lines[#self.lines + 1] = line end
    end,
  }
  for name, value in pairs(options or {}) do given[name] = value end
  local bus = assert(tidemill.open(url or self.url, given))
  self.buses[#self.buses + 1] = bus
  return bus
end

--- A process with `tidemill`, `bus` and `topic` (of "orders"), running this script.
function World:worker(script, url)
  local path = shell.write_file(shell.temporary_dir "worker" .. "/worker.lua", string.format(
    "io.stdout:setvbuf 'line'\nlocal tidemill = require 'tidemill'\nlocal bus = assert(tidemill.open(%q))\n"
    .. "local topic = bus:topic 'orders'\n%s", url or self.url, script))
  return shell.spawn { os.getenv "TIDEMILL_LUA" or "lua5.4", path }
end

--- Subscribes a counter of distinct data.n to "orders"; the table has seen, count, total and subscription.
function World.counter(bus, options)
  local got = { seen = {}, count = 0, total = 0 }
  got.subscription = bus:topic("orders"):on("*", options or {}, function(event)
    local n = event.data.n
    if not got.seen[n] then got.count = got.count + 1 end
    got.seen[n] = true
    got.total = got.total + 1
  end)
  return got
end

--- Events of "orders" that the group has read and nobody has settled.
function World.pending(bus, group)
  return assert(bus.streams:xpending("orders", group or "default")).count
end

--- How many log lines have this plain text.
function World:said(text)
  local count = 0
  for _, line in ipairs(self.lines) do
    if line:find(text, 1, true) then count = count + 1 end
  end
  return count
end

function World:close()
  for _, bus in ipairs(self.buses) do bus:close() end
  self.buses = {}
  if self.server then self.server:stop() end
  self.server = nil
end

return M
