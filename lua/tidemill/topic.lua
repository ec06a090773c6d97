--- A topic: the stream of that name. Publishing, appending, handlers, dead letters.
local options = require "tidemill.options"
local publisher = require "tidemill.publisher"
local retry = require "tidemill.retry"
local dead_letters = require "tidemill.dead_letters"
local names = require "tidemill.names"
local receiver = require "tidemill.receiver"
local misuse = require "tidemill.misuse"

local M = {}

local getmetatable = getmetatable

---@class tidemill.Topic
---@field name string
---@field bus tidemill.Bus
local methods = {}
local mt = {
  __name = "tidemill.Topic",
  __index = methods,
  __tostring = function(self)
    return "topic " .. self.name
  end,
}

local topic_rules = {
  max_len = { "integer", min = 1 },
  exact = { "boolean", default = false },
  group = { "string", default = "default" },
  dead_letters = { "string" },
  dedupe = { "seconds", default = 0 },
}

local on_rules = {
  group = { "string" },
  consumer = { "string" },
  start = { "string" },
  concurrency = { "integer", min = 1, max = 100000 },
  prefetch = { "integer", min = 1, max = 100000 },
  prefetch_bytes = { "integer", min = 1024 },
  lease = { "seconds", min = 0.05, max = 86400 },
  recover = { "seconds", min = 0.01, max = 86400 },
  block = { "seconds", min = 0.001, max = 3600 },
  settle = { "seconds", max = 60 },
  delay_move = { "seconds", min = 0.001, max = 1000000 },
  promote = { "seconds", min = 0.01, max = 3600 },
  retry = { "table" },
  unknown = { "choice", words = { "ack", "reject", "release" } },
  on_group_lost = { "choice", words = { "recreate", "stop" } },
  on_error = { "callable" },
}

-- Options of topic:on that belong to the subscription, not to one handler.
local shared_names = {
  "consumer", "start", "concurrency", "prefetch", "prefetch_bytes", "lease", "recover", "block", "settle",
  "delay_move", "promote", "unknown", "on_group_lost",
}

--- A topic of a bus; see bus:topic.
---@param bus tidemill.Bus
---@param name string
---@param given table?
---@return tidemill.Topic
function M.new(bus, name, given)
  names.check("bus:topic", "topic name", name)
  local checked = options.check("bus:topic", given, topic_rules)
  if checked.dead_letters then
    names.check("bus:topic", "dead_letters", checked.dead_letters)
  end
  return setmetatable({
    bus = bus,
    name = name,
    group = checked.group,
    dead_letters_name = checked.dead_letters or names.derived(name, "dlq"),
    defaults = publisher.defaults(checked),
  }, mt)
end

-- ---- publishing ----

--- Publishes one event. Waits: yields in a handler or spawned function, pumps the loop elsewhere.
---@param event table  type (needed), data (any JSON value; with content_type a string of bytes), id (default: a new
--- UUID), aggregate_id, aggregate_type, version, occurred_at (Unix seconds or text; default now), content_type,
--- metadata (names and values), delay (seconds), at (Unix seconds), dedupe (seconds)
---@param given table?  dedupe, delay, at: for this event, unless it says so itself
---@return { id: string, stream_id: string?, duplicate: boolean?, delayed: boolean }? result
---@return tidemill.Error? err TIDE-UNKNOWN and TIDE-TIMEOUT: it may be written; everything else: it is not
function methods:publish(event, given)
  if getmetatable(self) ~= mt then
    receiver.refuse("topic:publish", self)
  end
  return publisher.publish(self, event, given, "topic:publish")
end

--- Publishes many events in one go. Waits. A mistake in any of them (an unknown key, a value of a wrong type) raises
-- before the first goes out.
---@param events table[]  as for publish
---@param given table?    dedupe, delay, at: for all that don't say so themselves
---@return table[]? results  for each event the result of publish, or { error = err }; nil when nothing went out
---@return integer|tidemill.Error failures  how many have an error; the first error when nothing went out
function methods:publish_batch(events, given)
  return publisher.publish_batch(self, events, given, "topic:publish_batch")
end

--- Appends events in one atomic step, all or none, if the stream is at the expected version. Its version is the number
-- of events ever appended this way; each event gets its own as `version`. Waits.
---@param events table[]  1 to 100,000, without delay, at, dedupe, version
---@param given { expected: "any"|"no_stream"|"exists"|integer }?  default "any"
---@return { version: integer, stream_ids: string[] }? result
---@return tidemill.Error? err  TIDE-CONFLICT with `expected` and `actual` when it isn't
function methods:append(events, given)
  return publisher.append(self, events, given, "topic:append")
end

--- Takes a delayed event back. Waits.
---@param event_id string
---@return boolean? cancelled  false: it isn't there, or has been delivered to the stream already
---@return tidemill.Error? err
function methods:cancel(event_id)
  if type(event_id) ~= "string" or event_id == "" then
    misuse("topic:cancel: an event id (a string) expected")
  end
  local bus = self.bus
  return bus:request("topic:cancel", function(core, tag)
    return core:cancel(tag, self.name, event_id)
  end)
end

-- ---- consuming ----

local function shared_options(self, checked)
  local config = {
    topic = self.name,
    stream = self.name,
    group = checked.group or self.group,
    dead_letters = self.dead_letters_name,
    consumer = checked.consumer,
    start = checked.start,
    concurrency = checked.concurrency,
    prefetch = checked.prefetch,
    prefetch_bytes = checked.prefetch_bytes,
    lease_ms = options.ms(checked.lease),
    recover_ms = options.ms(checked.recover),
    block_ms = options.ms(checked.block),
    settle_ms = options.ms(checked.settle),
    delay_move_ms = options.ms(checked.delay_move),
    promote_ms = options.ms(checked.promote),
    unknown = checked.unknown,
    group_lost = checked.on_group_lost,
  }
  names.check("topic:on", "group", config.group)
  if config.consumer then
    names.check("topic:on", "consumer", config.consumer)
  end
  if config.start and config.start ~= "$" and not config.start:find "^%d+$" and not config.start:find "^%d+%-%d+$" then
    misuse(('topic:on: start must be "0", "$" or a stream id, got %q'):format(config.start:sub(1, 60)))
  end
  return config
end

-- An option that the group's subscription was started without, or with another value, can't take effect any more.
local function check_agreement(subscription, checked)
  for _, name in ipairs(shared_names) do
    local now = subscription.given[name]
    if checked[name] ~= nil and checked[name] ~= now then
      misuse(("topic:on: %s = %s, but the group '%s' of topic '%s' was started with %s by an earlier topic:on"):format(
        name, tostring(checked[name]), subscription.group, subscription.topic,
        now == nil and "its default" or tostring(now)))
    end
  end
end

--- Handles events of a type, or of a pattern: the exact type wins over the longest prefix ("pull_request.*"), that wins
-- over "*". All handlers of one topic and group share one subscription, to which all options but group, retry and
-- on_error belong; they are said once. Doesn't wait. Handlers run in bus:run, bus:tick and bus:drain only.
---@param pattern string
---@param given table|function?  group (default: the topic's, "default"), consumer (name; default host-pid-n), start
--- ("0": default, all there is; "$": new ones; or an id), concurrency (handlers running at once, 1), prefetch (events
--- held, 1000), prefetch_bytes (8 MiB), lease (seconds, 15), recover (seconds, a third of it), block (seconds, 2),
--- settle (seconds, 0.005), delay_move (seconds, 30), promote (seconds, 0.5), retry (see tidemill.retry), unknown
--- ("ack": default, "reject", "release": events that no handler of the group wants), on_group_lost ("recreate":
--- default, "stop"), on_error (function(event, err), after each failure)
---@param handler fun(event: tidemill.Event): any?, any?  returns nothing: acknowledged; nil, err or raises: failed;
--- tidemill.nack, reject, release say the rest
---@return tidemill.Handler? handler  with :unsubscribe() and :stats()
---@return tidemill.Error? err
function methods:on(pattern, given, handler)
  if handler == nil then
    given, handler = nil, given
  end
  options.check_value("topic:on", "the handler", handler, { "callable" })
  local checked = options.check("topic:on", given, on_rules)
  local policy, classes, attempts = retry.policies("topic:on", checked.retry)
  local config = shared_options(self, checked)
  local route = {
    handler = handler, policy = policy, classes = classes, attempts = attempts, on_error = checked.on_error,
  }
  local bus = self.bus
  bus:check_open("topic:on")
  local subscription = bus:find_subscription(config.stream, config.group)
  local added, err, reason
  if subscription then
    check_agreement(subscription, checked)
    route.policy = policy or retry.policies("topic:on", {}) -- the subscription's own is that of its first handler
    added, reason = subscription:add(pattern, route)
  else
    config.retry, config.given = policy, checked
    added, err, reason = bus:new_subscription(config, pattern, route)
    if err then
      return nil, err
    end
  end
  if not added then
    misuse("topic:on: " .. reason)
  end
  return added
end

--- The topic's dead letters.
---@return tidemill.DeadLetters
function methods:dead_letters()
  return dead_letters.new(self.bus, self.name, self.dead_letters_name)
end

receiver.guard(methods, mt, "topic", { publish = true })

return M
