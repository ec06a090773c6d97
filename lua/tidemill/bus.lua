--- A bus: one engine with its topics, subscriptions and the loop that runs them.
local core = require "tidemill.core"
local config = require "tidemill.config"
local errors = require "tidemill.error"
local event = require "tidemill.event"
local info = require "tidemill.info"
local kv = require "tidemill.kv"
local log = require "tidemill.log"
local loop = require "tidemill.loop"
local names = require "tidemill.names"
local options = require "tidemill.options"
local receiver = require "tidemill.receiver"
local scheduler = require "tidemill.scheduler"
local streams = require "tidemill.streams"
local subscription = require "tidemill.subscription"
local topic = require "tidemill.topic"
local misuse = require "tidemill.misuse"

local M = {}

---@class tidemill.Bus
---@field url string     for showing: without its password
---@field engine string  "redis" or "sqlite"
---@field streams tidemill.Streams
local methods = {}
local mt = {
  __name = "tidemill.Bus",
  __index = methods,
  __tostring = function(self)
    return "bus " .. self.url
  end,
  __close = function(self)
    self:close()
  end,
}

--- See tidemill.open.
---@param url string
---@param given table?
---@return tidemill.Bus?
---@return tidemill.Error?
function M.open(url, given)
  local checked, list, is_embedded = config.check("tidemill.open", url, given)
  local handle, err = core.open(url, list, checked.max_payload)
  if not handle then
    return nil, err
  end
  local self = setmetatable({
    core = handle,
    url = core.redact(url),
    engine = is_embedded and "sqlite" or "redis",
    log = log.guarded(checked.log),
    new_id = checked.id,
    json = checked.json,
    grace = checked.grace,
    consumer = checked.consumer or ("%s-%d-%d"):format(core.hostname(), core.pid(), core.serial()),
    subscriptions = {},   -- "stream NUL group" → subscription
    order = {},           -- the same as a list; replaced, never changed
    by_number = {},       -- the engine's number → subscription, also of stopped ones
    spawned = {},         -- functions that haven't started
    budget = 0,           -- events that may be handled before the next poll
    deadline = nil,       -- µs: of a tick under way
    step_us = 0,          -- what a step of the garbage collector takes
    closed = false,
    stopping = false,
  }, mt)
  self.scheduler = scheduler.new(handle, self.log)
  self.streams = streams.new(self)
  self.next_event, self.ack, self.settle = handle:consume(event.fallback(self), event.decoder(self.json))
  return self
end

-- ---- for the other modules ----

--- The error of every call on a closed bus.
function methods:closed_error()
  return errors.new("CLOSED", "the bus is closed")
end

--- Raises when the bus is closed.
function methods:check_open(where)
  if self.closed then
    misuse(where .. ": the bus is closed")
  end
end

--- Submits one operation and waits for its end.
---@param where string
---@param submit fun(core: userdata, tag: integer): true?, tidemill.Error?
---@return any a  value; nil with an error value and what is there (conflicts) when it failed
---@return any b
---@return any c
function methods:request(where, submit)
  if self.closed then
    return nil, self:closed_error()
  end
  self.scheduler:check_wait(where)
  local waiter = { left = 1 }
  local tag = self.scheduler:expect(waiter)
  local ok, err = submit(self.core, tag)
  if not ok then
    self.scheduler.waiting[tag] = nil
    return nil, err
  end
  ok, err = self.scheduler:wait(waiter, where)
  if not ok then
    return nil, err
  end
  if waiter.ok == false then
    return nil, waiter.a, waiter.b
  end
  return waiter.a, waiter.b
end

--- The subscription of a group, or nil or false.
function methods:find_subscription(stream, group)
  return self.subscriptions[stream .. "\0" .. group]
end

--- Starts a subscription with its first handler: without one it would take every event for unknown.
---@return tidemill.Handler? handler
---@return tidemill.Error? err     the engine refuses
---@return string? reason          misuse
function methods:new_subscription(wanted, pattern, route)
  wanted.consumer = wanted.consumer or self.consumer
  local made = subscription.new(self, wanted)
  local handler, reason = made:add(pattern, route)
  if not handler then
    return nil, nil, reason
  end
  -- What takes memory comes first: after a failure nothing has changed.
  local key, order = wanted.stream .. "\0" .. wanted.group, { made }
  for i, one in ipairs(self.order) do
    order[i + 1] = one
  end
  self.subscriptions[key] = false
  local started, err = made:start()
  if not started then
    return nil, err
  end
  self.subscriptions[key], self.order = made, order
  return handler
end

--- Stops a subscription whose last handler has gone.
function methods:forget_subscription(gone)
  local key, order = gone.stream .. "\0" .. gone.group, {}
  for _, one in ipairs(self.order) do
    if one ~= gone then
      order[#order + 1] = one
    end
  end
  gone:stop(false)
  self.subscriptions[key], self.order = nil, order
end

-- ---- topics and values ----

--- The topic of a name: the stream that has it. Doesn't wait, creates nothing.
---@param name string    1 to 512 bytes of UTF-8 without control characters
---@param given table?   max_len (entries; trims after each publish), exact (trim exactly; default false), group (of its
--- handlers, "default"), dead_letters (name of their stream, "{name}:dlq"), dedupe (seconds in which an event id is
--- published once; default 0: off)
---@return tidemill.Topic
function methods:topic(name, given)
  return topic.new(self, name, given)
end

--- Publishes one event to the topic of that name; see topic:publish. Waits.
---@param name string
---@param new table
---@param given table?
---@return table? result
---@return tidemill.Error? err
function methods:publish(name, new, given)
  return topic.new(self, name, nil):publish(new, given)
end

--- Keys and values in a namespace.
---@param namespace string
---@return tidemill.KV
function methods:kv(namespace)
  return kv.new(self, namespace)
end

--- What a topic holds. Waits.
---@param name string
---@return table? info  length, groups (list of { name, pending, lag, consumers, last_delivered_id }), dead_letters,
--- delayed
---@return tidemill.Error? err
function methods:info(name)
  names.check("bus:info", "topic name", name)
  return info.of(self, name)
end

--- What the engine is: names and values such as engine, version, mode. Waits.
---@return table<string, any>? about
---@return tidemill.Error? err
function methods:server()
  local reply, err = self:request("bus:server", function(handle, tag)
    return handle:server(tag)
  end)
  if reply == nil then
    return nil, err
  end
  local about = {}
  for i = 1, #reply, 2 do
    about[reply[i]] = reply[i + 1]
  end
  return about
end

--- Connected and healthy? Doesn't wait: says what is known.
---@return true? ok
---@return tidemill.Error? err
function methods:state()
  if self.closed then
    return nil, self:closed_error()
  end
  return self.core:state()
end

-- ---- the loop: see loop.lua ----

--- Runs a function on a pooled coroutine, where waiting calls yield; it starts in the next turn of the loop. An error
-- in it is logged.
---@param fn function
function methods:spawn(fn)
  options.check_value("bus:spawn", "what is to run", fn, { "callable" })
  self:check_open("bus:spawn")
  self.spawned[#self.spawned + 1] = fn
end

--- Waits: yields in a handler or spawned function, pumps the loop elsewhere.
---@param seconds number
---@return true? ok
---@return tidemill.Error? err
function methods:sleep(seconds)
  options.check_value("bus:sleep", "the time", seconds, { "seconds" })
  if self.closed then
    return nil, self:closed_error()
  end
  return self.scheduler:sleep(seconds)
end

--- Handles events until bus:stop(), SIGINT or SIGTERM, or for so many seconds; then drains within the grace period. A
-- second signal ends the process at once with 128 + its number.
---@param seconds number?  default: for ever
---@return true? ok
---@return tidemill.Error? err
function methods:run(seconds)
  if seconds ~= nil then
    options.check_value("bus:run", "the time", seconds, { "seconds" })
  end
  return loop.run(self, seconds)
end

--- Ends bus:run, or a bus:tick under way, after the current handler: no other is started. Doesn't wait.
function methods:stop()
  self.stopping = true
  self.budget = 0
end

--- Handles what is ready, for at most so many seconds: no handler is started or resumed after that, and one that runs
-- goes on to its end or to where it waits. Never waits: returns when nothing is ready, after one small step of the
-- garbage collector (unless that was stopped). With `wait = true` it waits for events when there are none, until the
-- time is over.
---@param seconds number            0: what is ready, one batch
---@param given { wait: boolean? }? wait: default false
---@return true? ok
---@return tidemill.Error? err
function methods:tick(seconds, given)
  options.check_value("bus:tick", "the time", seconds, { "seconds" })
  return loop.tick(self, seconds, given)
end

--- Stops reading, lets running handlers end and their acknowledgements go out; what is left after the time is given
-- back. A later run or tick starts the subscriptions again.
---@param seconds number?  default: option grace
---@return true? ok
---@return tidemill.Error? err  TIDE-TIMEOUT: some handlers were still running
function methods:drain(seconds)
  if seconds ~= nil then
    options.check_value("bus:drain", "the time", seconds, { "seconds" })
  end
  return loop.drain(self, seconds or self.grace)
end

--- Closes at once; what is unsettled is delivered again to others. Closing twice is nothing.
function methods:close()
  if not self.closed then
    self.closed = true
    self.stopping = true
    self.core:close()
    loop.show_log(self)
  end
end

receiver.guard(methods, mt, "bus")

return M
