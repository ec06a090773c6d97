-- SPDX-License-Identifier: MIT
-- The engine under test and what behaviours share. TIDEMILL_CONFORMANCE names it: memory, file, redis or valkey.
local tidemill = require "tidemill"
local table_of_features = require "spec.conformance.features"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local M = { engine = os.getenv "TIDEMILL_CONFORMANCE" or "memory" }

local features = {}
for _, feature in ipairs(table_of_features.features) do features[feature.name] = feature end

local shared -- the server or the folder of this run
local serial = 0

local function start()
  if shared then return shared end
  if M.engine == "redis" or M.engine == "valkey" then
    shared = server.start(M.engine, { persist = true })
  elseif M.engine == "file" then
    local dir = shell.temporary_dir "conformance"
    shared = { url = "file:" .. dir .. "/store.db", dir = dir }
  elseif M.engine == "memory" then
    shared = { url = "memory:" }
  else
    error("TIDEMILL_CONFORMANCE must be memory, file, redis or valkey, not " .. M.engine)
  end
  return shared
end

--- The server of this run (redis and valkey only).
function M.server() return start() end

local World = {}
World.__index = World

--- Opens a bus on the engine; it is closed when the behaviour ends.
function World:open(options)
  local bus = assert(tidemill.open(start().url, options))
  self.buses[#self.buses + 1] = bus
  return bus
end

--- A bus with a topic of this behaviour's own.
function World:topic(options, bus_options)
  local bus = self:open(bus_options)
  return bus:topic(self.name, options), bus
end

--- Turns every bus until `check` answers; its answer. An assertion fails after `seconds` (default 30).
function World:wait(check, seconds, what)
  local turns = (seconds or 30) / 0.005
  local buses = self.buses
  for _ = 1, turns do
    local value = check()
    if value then return value end
    for _, bus in ipairs(buses) do bus:tick(0.005 / #buses, { wait = true }) end
  end
  error("not within " .. (seconds or 30) .. " s: " .. (what or "what was waited for"), 2)
end

--- Turns every bus for so many seconds.
function World:pass(seconds)
  local until_then = self.clock() + seconds
  while self.clock() < until_then do
    for _, bus in ipairs(self.buses) do bus:tick(0.005, { wait = true }) end
  end
end

--- `count` events of one type, data.n counting from 1.
function World.events(count, kind)
  local events = {}
  for n = 1, count do events[n] = { type = kind or "Counted", data = { n = n } } end
  return events
end

--- Publishes them all, in batches; fails when one fails.
function World:fill(topic, count, kind)
  local events = World.events(count, kind)
  for first = 1, count, 500 do
    local part = {}
    for i = first, math.min(first + 499, count) do part[#part + 1] = events[i] end
    local results, failures = topic:publish_batch(part)
    assert(results, failures)
    assert(failures == 0, failures .. " events were not published")
  end
end

--- A worker in a process of its own: `script` is Lua with `bus` and `topic` at hand; what it prints is `:output()`.
function World:worker(script, options)
  local path = shell.write_file(shell.temporary_dir "worker" .. "/worker.lua", string.format([[
io.stdout:setvbuf "line"
local tidemill = require "tidemill"
local bus = assert(tidemill.open(%q))
local topic = bus:topic(%q)
%s
]], start().url, self.name, script))
  local process = shell.spawn({ os.getenv "TIDEMILL_LUA" or "lua5.4", path }, options)
  self.processes[#self.processes + 1] = process
  return process
end

--- Ends all buses of this behaviour at once.
function World:close()
  for _, bus in ipairs(self.buses) do bus:close() end
  self.buses = {}
end

World.clock = require("tidemill.core").monotonic

local function new_world()
  serial = serial + 1
  return setmetatable({ name = string.format("t%d-%d", serial, shell.random(1, 1000000)), buses = {}, processes = {},
    url = start().url }, World)
end

--- Makes a `it` that takes a feature (default core: what every engine must be able to do) and hands each
--- behaviour a world. Without the feature the behaviour is pending, with the engine's reason.
function M.behaviours(it, pending)
  return function(name, feature, run)
    if not run then feature, run = "core", feature end
    local row = assert(features[feature], "no such feature: " .. feature)
    local answer = row[M.engine]
    if answer ~= true then return pending(name .. " (" .. answer .. ")") end
    it(name, function()
      local world = new_world()
      local ok, err = xpcall(run, debug.traceback, world)
      world:close()
      for _, process in ipairs(world.processes) do process:kill() end
      if not ok then error(err, 0) end
    end)
  end
end

return M
