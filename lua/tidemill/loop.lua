--- The loop of a bus: turns (handlers), polls (the world), and how it ends.
local core = require "tidemill.core"
local errors = require "tidemill.error"
local options = require "tidemill.options"
local subscription = require "tidemill.subscription"
local misuse = require "tidemill.misuse"

local M = {}

local work, describe = subscription.work, errors.describe
local pcall = pcall

-- Events handled before the next poll: enough to spread its cost, few enough to keep the server busy meanwhile.
local TURN_EVENTS = 256
-- A signal that comes between the look at it and the wait is seen after this long.
local SIGNAL_LOOK_US = 500000
-- After the grace period: for the releases to go out.
local LAST_US = 1000000

local tick_rules = { wait = { "boolean", default = false } }

--- Hands log lines that are left to the log function.
---@param bus tidemill.Bus
function M.show_log(bus)
  local level, line = bus.core:next_log()
  while level do
    bus.log(level, line)
    level, line = bus.core:next_log()
  end
end

local function run_spawned(task)
  local ok, err = pcall(task.fn)
  if not ok then
    task.bus.log("error", "a spawned function failed: " .. describe(err))
  end
end

-- Starts spawned functions, resumes what waited, hands events to handlers. What this submits is gathered by the C
-- module, and goes out soon, at the latest with the next poll (bus.c says when). Returns whether anything was done, and
-- whether there is more to do at once.
local function turn(bus)
  local scheduler = bus.scheduler
  local busy = false
  if #bus.spawned > 0 then
    local spawned = bus.spawned
    bus.spawned = {}
    busy = true
    for _, fn in ipairs(spawned) do
      scheduler:start(run_spawned, { fn = fn, bus = bus })
    end
  end
  local order = bus.order
  local count = #order
  local share = count <= 1 and TURN_EVENTS or math.max(16, math.floor(TURN_EVENTS / count))
  bus.budget = share -- a resumed handler goes on to the next event
  busy = scheduler:resume_ready(bus.deadline) or busy
  if count == 0 then
    return busy, #bus.spawned > 0
  end
  local more = false
  local first = bus.first or 0
  bus.first = (first + 1) % count
  for i = 1, count do
    if bus.stopping then
      break
    end
    local one = order[(first + i) % count + 1]
    bus.budget = share
    local before
    repeat
      before = one.taken
      if not one.number or one.running >= one.concurrency then
        break
      end
      one.empty = false
      scheduler:start(work, one)
      busy = busy or one.taken ~= before
    until one.empty or one.taken == before or bus.budget <= 0
    more = more or bus.budget <= 0 and not bus.stopping
    if bus.closed or bus.deadline and bus.core:now() >= bus.deadline then
      return busy, true
    end
  end
  return busy, more or #bus.spawned > 0
end

local function start_all(bus)
  for _, one in ipairs(bus.order) do
    if not one.number then
      local ok, err = one:start()
      if not ok then
        return nil, err
      end
    end
  end
  return true
end

local function handlers_running(bus)
  local count = 0
  for _, one in ipairs(bus.order) do
    count = count + one.running
  end
  return count
end

local function drain(bus, seconds)
  if bus.closed then
    return true
  end
  local handle, scheduler = bus.core, bus.scheduler
  for _, one in ipairs(bus.order) do
    one:stop(false)
  end
  handle:flush()
  local deadline = handle:now() + seconds * 1e6
  local abandoned
  while true do
    local running = handlers_running(bus)
    if running == 0 and handle:is_idle() then
      break
    end
    local now = handle:now()
    if now >= deadline then
      if abandoned then
        break
      end
      abandoned = running
      deadline = now + LAST_US
      for _, one in ipairs(bus.order) do
        one:stop(true)
      end
      handle:flush()
    end
    if abandoned and handle:is_idle() then
      break
    end
    bus.budget = 0
    if not abandoned then
      scheduler:resume_ready()
    end
    if bus.closed then
      return true
    end
    local ok, err = scheduler:poll(math.max(0, math.min(deadline - now, SIGNAL_LOOK_US)))
    if not ok then
      return nil, err
    end
  end
  if abandoned and abandoned > 0 then
    return nil, errors.new("TIMEOUT", ("%d handler%s still running after the grace period of %g s"):format(abandoned,
      abandoned == 1 and " was" or "s were", seconds))
  end
  return true
end

local function enter(bus, where)
  if bus.scheduler.looping or bus.scheduler:is_inside() then
    misuse(where .. ": the loop is running already")
  end
  if bus.closed then
    return nil, bus:closed_error()
  end
  bus.scheduler.looping = true
  return true
end

-- Runs fn(bus, …) as the loop; whatever happens the bus is usable afterwards.
local function guard(bus, fn, a, b)
  local ok, result, err = pcall(fn, bus, a, b)
  bus.scheduler.looping = false
  bus.deadline = nil
  if not bus.closed then
    bus.core:release()
  end
  if not ok then
    error(result, 0)
  end
  return result, err
end

local function run(bus, seconds)
  local started, err = start_all(bus)
  if not started then
    return nil, err
  end
  local handle, scheduler = bus.core, bus.scheduler
  local deadline = seconds and handle:now() + seconds * 1e6
  while not bus.stopping and core.signal_taken() == 0 do
    local _, more = turn(bus)
    if bus.closed then
      return true
    end
    local wait = SIGNAL_LOOK_US
    if bus.stopping then
      break
    elseif more then
      wait = 0
    end
    if deadline then
      local left = deadline - handle:now()
      if left <= 0 then
        break
      end
      wait = left < wait and left or wait
    end
    local ok
    ok, err = scheduler:poll(wait, true)
    if not ok then
      return nil, err
    end
  end
  local signal = core.signal_taken()
  if signal > 0 then
    local running = handlers_running(bus)
    -- Whoever pressed Ctrl-C and sees nothing happen learns why.
    bus.log(running > 0 and "warn" or "info", ("signal %d: waiting up to %g s for %d running handler%s; "
      .. "a second signal ends the process at once"):format(signal, bus.grace, running, running == 1 and "" or "s"))
  end
  return drain(bus, bus.grace)
end

--- See bus:run.
function M.run(bus, seconds)
  local ok, err = enter(bus, "bus:run")
  if not ok then
    return nil, err
  end
  bus.stopping = false
  core.signals_begin()
  local fine, result, trouble = pcall(guard, bus, run, seconds)
  core.signals_end()
  if not fine then
    error(result, 0)
  end
  return result, trouble
end

-- Whoever stopped the collector wants no step of it. Plain Lua 5.1 can't be asked.
local can_ask = pcall(collectgarbage, "isrunning")

-- One step, when the time that is left is as long as steps have taken lately; what they took is forgotten slowly, so
-- that one long step (a full collection's last, say) doesn't end them for ever.
local function collect_a_little(bus, left)
  if can_ask and not collectgarbage "isrunning" then
    return
  end
  local expected = bus.step_us * 0.98
  bus.step_us = expected
  if left > expected then
    local before = bus.core:now()
    collectgarbage("step", 0)
    local taken = bus.core:now() - before
    if taken > expected then
      bus.step_us = taken
    end
  end
end

local function tick(bus, seconds, wait)
  local started, err = start_all(bus)
  if not started then
    return nil, err
  end
  local handle, scheduler = bus.core, bus.scheduler
  local deadline = handle:now() + seconds * 1e6
  bus.deadline = seconds > 0 and deadline or nil
  local progress = false
  local ok
  ok, err = scheduler:poll(0, true)
  while ok do
    local busy = turn(bus)
    progress = progress or busy
    if bus.closed then
      return true
    end
    local left = deadline - handle:now()
    if left <= 0 or bus.stopping then
      handle:write()
      return true
    end
    local timeout = 0
    -- Without a handler's turn there may still be work for the engine: a finished job, bytes that are there.
    if not busy and handle:timeout() ~= 0 then
      if not wait or progress and scheduler.tasks == 0 then
        collect_a_little(bus, left)
        return true
      end
      timeout = left
    end
    ok, err = scheduler:poll(timeout, true)
    if ok and handle:now() >= deadline then
      return true -- what came with the last of the time is for the next tick
    end
  end
  return nil, err
end

--- See bus:tick.
function M.tick(bus, seconds, given)
  local checked = options.check("bus:tick", given, tick_rules)
  local ok, err = enter(bus, "bus:tick")
  if not ok then
    return nil, err
  end
  bus.stopping = false
  return guard(bus, tick, seconds, checked.wait)
end

--- See bus:drain.
function M.drain(bus, seconds)
  local ok, err = enter(bus, "bus:drain")
  if not ok then
    return nil, err
  end
  return guard(bus, drain, seconds)
end

return M
