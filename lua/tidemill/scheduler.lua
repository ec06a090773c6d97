--- Coroutines and the loop: a pool of coroutines on which handlers and spawned functions run, what each of them waits
-- for, and timers. A waiting call yields on a coroutine of the pool and pumps the loop outside one.
--
-- A pooled coroutine yields one of two marks: IDLE (its function has ended) or PARKED (something else will resume it).
-- Any other yield is user code giving way: it is resumed in the next turn.
local misuse = require "tidemill.misuse"
local timers = require "tidemill.timers"
local M = {}

local methods = {}
local mt = { __name = "tidemill.Scheduler", __index = methods }

local create, resume, running, yield = coroutine.create, coroutine.resume, coroutine.running, coroutine.yield
-- Plain Lua 5.1 can't be asked.
local is_yieldable = rawget(coroutine, "isyieldable") or function() return true end

local IDLE, PARKED = {}, {}
local IDLE_MAX = 256 -- coroutines kept for reuse
-- From so many coroutines that are ready at once, what they submit goes out together.
local GATHER_FROM = 4
-- Coroutines resumed in one turn: between turns the engine is looked after, so that a file's thread has its next commit
-- while the other coroutines still make what the one after it will hold.
local RESUME_MAX = 64
-- So much of the list in front of the next one in turn is thrown away at once.
local SPENT_MAX = 1024

--- A scheduler over a bus of the C module.
---@param core userdata  tidemill.core.bus
---@param log fun(level: string, line: string)
---@return tidemill.Scheduler
function M.new(core, log)
  return setmetatable({
    core = core,
    log = log,
    tag = 0,
    waiting = {},                                   -- tag → what waits for it; see bus:next_completion in reply.c
    -- Coroutines of the pool → { result or false, itself, whom it works for, what it has in hands or false }: see
    -- check_wait, and subscription.lua.
    threads = {},
    idle = {},
    idle_count = 0,
    ready = {},                                     -- coroutines to resume, in turn: those after ready_head
    ready_head = 0,
    ready_count = 0,
    timers = timers.new(),                          -- coroutines by the µs when they wake
    tasks = 0,                                      -- functions that have started and not ended
    looping = false,                                -- a run, tick or drain is under way
  }, mt)
end

-- ---- coroutines ----

local function body(fn, argument)
  while true do
    fn(argument)
    fn, argument = yield(IDLE)
  end
end

local function step(self, thread, fn, argument)
  local ok, mark = resume(thread, fn, argument)
  if mark == PARKED then
    return
  elseif mark == IDLE then
    self.tasks = self.tasks - 1
    if self.idle_count < IDLE_MAX then
      self.idle_count = self.idle_count + 1
      self.idle[self.idle_count] = thread
    else
      self.threads[thread] = nil
    end
  elseif not ok then
    -- Functions given to start() don't raise; a coroutine that died (memory, C stack) is not used again.
    self.tasks = self.tasks - 1
    local held = self.threads[thread]
    self.threads[thread] = nil
    if held[4] then
      held[3]:lost(held[4])
    end
    self.log("error", "a coroutine died: " .. tostring(mark))
  else
    self.ready_count = self.ready_count + 1
    self.ready[self.ready_count] = thread
  end
end

--- Runs fn(argument) on a pooled coroutine until it ends or waits. fn must not raise.
---@param fn function
---@param argument any
function methods:start(fn, argument)
  local thread
  if self.idle_count > 0 then
    thread = self.idle[self.idle_count]
    self.idle[self.idle_count] = nil
    self.idle_count = self.idle_count - 1
  else
    thread = create(body)
    self.threads[thread] = { false, thread, false, false }
  end
  self.tasks = self.tasks + 1
  step(self, thread, fn, argument)
end

--- Whether the code that asks runs on a coroutine of the pool.
---@return boolean
function methods:is_inside()
  local thread = running()
  return thread ~= nil and self.threads[thread] ~= nil
end

-- The front of the list, whose turn is over, goes.
local function forget_spent(self)
  local head, count = self.ready_head, self.ready_count
  if head == count then
    self.ready_head, self.ready_count = 0, 0
  elseif head >= SPENT_MAX and head * 2 >= count then
    local kept, ready = {}, self.ready
    for i = head + 1, count do
      kept[i - head] = ready[i]
    end
    self.ready, self.ready_head, self.ready_count = kept, 0, count - head
  end
end

--- Resumes what is ready, in turn, up to a bound; at least one, and no more of them once the deadline has passed. What
-- becomes ready meanwhile is for the next time.
---@param deadline number?  µs of the core's clock; default none
---@return boolean whether anything was
function methods:resume_ready(deadline)
  local first, last = self.ready_head + 1, self.ready_count
  if first > last then
    return false
  end
  local core = self.core
  last = last - first >= RESUME_MAX and first + RESUME_MAX - 1 or last
  local gathers = last - first + 1 >= GATHER_FROM
  if gathers then
    core:gather(true)
  end
  for i = first, last do
    local thread = self.ready[i]
    self.ready[i] = false
    self.ready_head = i
    step(self, thread)
    if deadline and i < last and core:now() >= deadline then
      break
    end
  end
  forget_spent(self)
  if gathers and core:is_open() then
    core:gather(false)
  end
  return true
end

-- ---- sleepers ----

local function wake_sleepers(self)
  local now = self.core:now()
  local thread = self.timers:pop(now)
  while thread do
    self.ready_count = self.ready_count + 1
    self.ready[self.ready_count] = thread
    thread = self.timers:pop(now)
  end
end

-- ---- waiting ----

--- A new tag, whose completion goes to `waiter`: a table with `left`, the number of completions it waits for.
---@param waiter table
---@return integer tag
function methods:expect(waiter)
  local tag = self.tag + 1
  self.tag = tag
  self.waiting[tag] = waiter
  return tag
end

--- Takes every completion there is.
function methods:complete()
  local core, waiting = self.core, self.waiting
  while true do
    local count, waiter, ok, a, b = core:next_completion(waiting, self.ready, self.ready_count)
    self.ready_count = count
    if not waiter then
      return
    end
    if ok and waiter.failures then
      waiter.failures = waiter.failures + a
    end
    waiter.left = waiter.left - 1
    if not ok then
      waiter.ok = false
      waiter.a, waiter.b = a, b
    elseif waiter.ok == nil then
      waiter.a, waiter.b = a, b
    end
    if waiter.left == 0 and waiter.thread then
      self.ready_count = self.ready_count + 1
      self.ready[self.ready_count] = waiter.thread
    end
  end
end

-- Polls no longer than to the first timer, takes completions, wakes sleepers, hands log lines on.
local function poll_world(self, timeout, turn)
  local deadline = self.timers:first()
  if deadline then
    local left = deadline - self.core:now()
    left = left > 0 and left or 0
    if timeout < 0 or left < timeout then
      timeout = left
    end
  end
  if self.ready_count > self.ready_head then
    timeout = 0
  end
  local ok, news = self.core:poll(timeout, turn)
  if news then
    self:complete()
    local level, line = self.core:next_log()
    while level do
      self.log(level, line)
      level, line = self.core:next_log()
    end
  end
  if deadline then
    wake_sleepers(self)
  end
  if not ok then
    return nil, news
  end
  return true
end

--- One turn of the world: polls, takes completions, wakes sleepers. `timeout` in µs, -1 for as long as it takes.
---@param timeout number
---@param turn boolean?  a turn of handlers follows, that ends with another poll, core:write or core:release
---@return true? ok
---@return tidemill.Error? err
function methods:poll(timeout, turn)
  if timeout ~= 0 then
    self:complete() -- a submit may have completed at once
  end
  return poll_world(self, timeout, turn)
end

local function refuse_pump(self, what)
  if self.looping then
    misuse(("tidemill: %s on a coroutine that isn't a handler's own while the loop runs; use bus:spawn"):format(what))
  end
end

-- One poll for somebody who waits outside the pool and has taken the completions there were. Handlers aren't run by it:
-- only run, tick and drain do that.
local function pump(self)
  if self.ready_count == self.ready_head then
    return poll_world(self, -1)
  end
  -- What is ready stays for the next run or tick; it must not keep this wait from blocking.
  local held, head, count = self.ready, self.ready_head, self.ready_count
  self.ready, self.ready_head, self.ready_count = {}, 0, 0
  local ok, err = poll_world(self, -1)
  for i = 1, self.ready_count do
    held[count + i] = self.ready[i]
  end
  self.ready, self.ready_head, self.ready_count = held, head, count + self.ready_count
  return ok, err
end

--- What the coroutine that asks waits with for one result: one of the pool has its own, always the same. Raises where
-- nothing can wait: on a coroutine outside the pool while the loop runs, and below a function of C that has called back
-- (table.sort, string.gsub, a metamethod), across which nothing can yield. For calls that submit before they wait, so
-- that nothing has been submitted then.
---@param what string  the call's name, for misuse
---@return table? waiter  { result, thread }: result false until it waits; nil outside the pool
function methods:check_wait(what)
  local thread = running()
  local waiter = thread and self.threads[thread]
  if not waiter then
    refuse_pump(self, what)
  elseif not is_yieldable() then
    misuse(("tidemill: %s in a function that C calls back (table.sort, string.gsub, a metamethod) can't wait")
      :format(what))
  end
  return waiter
end

--- Waits until waiter.left is 0: yields on a pooled coroutine, pumps the loop outside one.
---@param waiter table
---@param what string  the call's name, for misuse
---@return true? ok
---@return tidemill.Error? err  the loop itself failed
function methods:wait(waiter, what)
  if waiter.left <= 0 then
    return true
  end
  local thread = running()
  if thread and self.threads[thread] then
    waiter.thread = thread
    repeat
      yield(PARKED)
    until waiter.left <= 0
    return true
  end
  refuse_pump(self, what)
  self:complete() -- a submit may have completed at once
  while waiter.left > 0 do
    local ok, err = pump(self)
    if not ok then
      return nil, err
    end
  end
  return true
end

--- Waits until the waiter's result is filled.
---@param waiter table  of check_wait, or { result, false } outside the pool
---@return true? ok
---@return tidemill.Error? err  the loop itself failed
function methods:wait_one(waiter)
  if waiter[2] then
    repeat
      yield(PARKED)
    until not waiter[1]
    return true
  end
  self:complete() -- a submit may have completed at once
  while waiter[1] do
    local ok, err = pump(self)
    if not ok then
      return nil, err
    end
  end
  return true
end

--- Sleeps: yields on a pooled coroutine, pumps the loop outside one.
---@param seconds number
---@return true? ok
---@return tidemill.Error? err
function methods:sleep(seconds)
  local waiter = self:check_wait "bus:sleep"
  local deadline = self.core:now() + seconds * 1e6
  if waiter then
    self.timers:push(deadline, waiter[2])
    yield(PARKED)
    return true
  end
  self:complete()
  repeat
    local left = deadline - self.core:now()
    local ok, news = self.core:poll(left > 0 and left or 0)
    if not ok then
      return nil, news
    elseif news then
      self:complete()
    end
  until self.core:now() >= deadline
  return true
end

return M
