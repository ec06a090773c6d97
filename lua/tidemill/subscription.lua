--- A subscription: one consumer of a group on a topic, shared by all handlers of that topic and group. Its worker runs
-- on a pooled coroutine, takes events and settles them; a handler that waits parks its worker, and another goes on as
-- far as `concurrency` allows.
local describe = require("tidemill.error").describe
local verdict = require "tidemill.verdict"
local router = require "tidemill.router"
local more_attempts = require("tidemill.retry").more_attempts
local receiver = require "tidemill.receiver"

local M = {}

local methods = {}
local mt = { __name = "tidemill.Subscription", __index = methods }

local pcall, getmetatable, running = pcall, getmetatable, coroutine.running
local verdict_mt = verdict.metatable
local ACK, FAIL, NACK, REJECT, RELEASE = verdict.ACK, verdict.FAIL, verdict.NACK, verdict.REJECT, verdict.RELEASE

local uncalled = { [verdict.nack] = "nack", [verdict.reject] = "reject", [verdict.release] = "release" }
local unknown_verdicts = { ack = ACK, reject = REJECT, release = RELEASE }

--- Makes one; it isn't started.
---@param bus tidemill.Bus
---@param config table  topic, group, consumer and the options of topic:on that concern the subscription; `given`: those
--- options as they were said
---@return tidemill.SharedSubscription
function M.new(bus, config)
  local self = setmetatable({
    bus = bus,
    config = config,
    given = config.given,
    topic = config.topic,
    stream = config.stream,
    group = config.group,
    router = router.new(),
    running = 0,        -- handlers that have started and not ended
    taken = 0,          -- events handed to handlers since the start
    empty = false,      -- the last one to look found no event
    concurrency = config.concurrency or 1,
    unknown = unknown_verdicts[config.unknown or "ack"],
    number = false,     -- the engine's name for it; false: not started, or stopped
  }, mt)
  self.lookup = self.router.lookup
  return self
end

local function start(self)
  local bus = self.bus
  local number, err = bus.core:subscribe(self.config)
  if not number then
    return nil, err
  end
  self.number = number
  bus.by_number[number] = self
  if self.attempts then
    bus.core:crash_limit(number, self.attempts)
  end
  return true
end

--- Starts, or starts again after a stop.
---@return true? ok
---@return tidemill.Error? err
function methods:start()
  local ok, started, err = pcall(start, self)
  if not ok then -- memory
    if self.number then
      self.bus.core:unsubscribe(self.number, true)
      self.number = false
    end
    error(started, 0)
  end
  return started, err
end

--- Stops reading; running handlers may end.
---@param abandon boolean? running events are given back too
function methods:stop(abandon)
  if self.number then
    self.bus.core:unsubscribe(self.number, abandon or false)
    self.stopped_number, self.number = self.number, false
  elseif abandon and self.stopped_number then
    self.bus.core:unsubscribe(self.stopped_number, true)
  end
end

-- Everything but a plain ack. Never raises.
local function settle(self, event, route, ok, value, err)
  local give = self.bus.settle
  if ok then
    if getmetatable(value) == verdict_mt then
      if value.kind == NACK then
        give(event, NACK, value.delay_ms, route.policy)
      elseif value.kind == REJECT then
        give(event, REJECT, -1, nil, value.reason)
      else
        give(event, value.kind)
      end
      return
    elseif type(value) == "function" and uncalled[value] then -- an acknowledgement would lose the event
      err = ("the handler returned the function tidemill.%s; call it: tidemill.%s()"):format(uncalled[value],
        uncalled[value])
    elseif value or err == nil then
      give(event, ACK)
      return
    end
  else
    err = value
  end
  local text, class = describe(err)
  if route.on_error then
    local fine, trouble = pcall(route.on_error, event, err)
    if not fine then
      self.bus.log("error", "on_error: " .. describe(trouble))
    end
  end
  if class == "TIDE-DECODE" then
    give(event, REJECT, -1, nil, "undecodable", text)
    return
  end
  local policy = route.policy
  if class and route.classes and route.classes[class] then
    policy = route.classes[class]
  end
  self.bus.log("info", ("%s/%s: %s failed (attempt %d): %s"):format(self.stream, self.group, tostring(event),
    event.attempt, text))
  give(event, FAIL, -1, policy, class or "failed", text)
end

--- Takes and handles events until none is ready, the turn's budget is spent or enough handlers are waiting. Runs on a
-- pooled coroutine.
---@param self tidemill.SharedSubscription
function M.work(self)
  local bus = self.bus
  local held = bus.scheduler.threads[running()]
  held[3] = self
  local next_event, ack = bus.next_event, bus.ack
  local lookup, number = self.lookup, self.number
  while bus.budget > 0 and self.running < self.concurrency and self.number == number do
    local event, kind = next_event(number)
    if not event then
      self.empty = true
      return
    end
    bus.budget = bus.budget - 1
    if bus.deadline and bus.core:now() >= bus.deadline then
      bus.budget = 0
    end
    held[4] = event
    self.running = self.running + 1
    self.taken = self.taken + 1
    local route = lookup[kind]
    if route == nil then
      route = self.router:find(kind)
    end
    if route then
      local ok, value, err = pcall(route.handler, event)
      if ok and value == nil and err == nil then
        ack(event)
      else
        settle(self, event, route, ok, value, err)
      end
    elseif self.unknown == REJECT then
      bus.settle(event, REJECT, -1, nil, "no handler for this type")
    else
      bus.settle(event, self.unknown)
    end
    held[4] = false
    self.running = self.running - 1
  end
end

--- The coroutine that had this event died (memory, C stack): that is a failed attempt.
---@param event tidemill.Event
function methods:lost(event)
  self.running = self.running - 1
  self.bus.settle(event, FAIL, -1, nil, "failed", "the coroutine of its handler died")
end

--- What topic:on returns: one handler's place in a subscription.
local handle_methods = {}
local handle_mt = { __name = "tidemill.Handler", __index = handle_methods }

--- Adds a handler. nil and the reason when its pattern is taken.
---@param pattern string
---@param route table  { handler =, policy =, classes =, attempts =, on_error = }
---@return tidemill.Handler?
---@return string? reason
function methods:add(pattern, route)
  local handle = setmetatable({ subscription = self, pattern = pattern, active = true }, handle_mt)
  local ok, reason = self.router:add(pattern, route)
  if not ok then
    return nil, reason
  end
  -- An event that kills its process can't say whose it was: the most patient handler decides.
  self.attempts = self.attempts and more_attempts(self.attempts, route.attempts) or route.attempts
  if self.number then
    self.bus.core:crash_limit(self.number, self.attempts)
  end
  return handle
end

--- Takes the handler out; with the last one of its group the subscription stops reading. Running handlers end normally.
---@return boolean whether it was still subscribed
function handle_methods:unsubscribe()
  if not self.active then
    return false
  end
  self.active = false
  local subscription = self.subscription
  subscription.router:remove(self.pattern)
  if subscription.router.count == 0 then
    subscription.bus:forget_subscription(subscription)
  end
  return true
end

--- Counts of the subscription that the handler shares with others of its topic and group.
---@return table? stats  state, error, delivered, acked, failed, retried, dead, released, recovered, gone, lost_lease,
--- group_recreated; held now: buffered, running, waiting, settling, bytes; nil when it is gone
function handle_methods:stats()
  local subscription = self.subscription
  local number = subscription.number or subscription.stopped_number
  if not number or not subscription.bus.core:is_open() then
    return nil
  end
  return subscription.bus.core:stats(number)
end

receiver.guard(handle_methods, handle_mt, "handler")

return M
