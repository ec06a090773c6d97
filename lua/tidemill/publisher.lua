--- Publishing from Lua tables: options, chunks, results. The records are built by the C module.
local errors = require "tidemill.error"
local options = require "tidemill.options"
local misuse = require "tidemill.misuse"

local M = {}

local pcall = pcall

-- Operations of one call under way at once, before it waits for them: bounds what is queued for the connection.
local CHUNKS_MAX = 32

local publish_rules = {
  dedupe = { "seconds" },
  delay = { "seconds" },
  at = { "seconds", min = 0.001 },
}

-- Numbers of tide_expect_kind.
local expect_kinds = { any = 1, no_stream = 2, exists = 3 }
local EXPECT_VERSION = 4

--- What a topic's options mean for the C module; nil when they say nothing.
---@param checked table
---@return table?
function M.defaults(checked)
  if checked.dedupe == 0 and not checked.max_len then
    return nil
  end
  return { dedupe_ms = options.ms(checked.dedupe), max_len = checked.max_len, exact = checked.exact and 1 or 0 }
end

local function with_options(self, given, where)
  if given == nil then
    return self.defaults
  end
  local checked = options.check(where, given, publish_rules)
  if checked.delay and checked.at then
    misuse(where .. ": delay and at exclude each other")
  end
  local all = {}
  for name, value in pairs(self.defaults or {}) do
    all[name] = value
  end
  all.dedupe_ms = options.ms(checked.dedupe) or all.dedupe_ms
  all.delay_ms = options.ms(checked.delay)
  all.due_ms = options.ms(checked.at)
  return all
end

-- The caller's own ids and JSON: a copy of the event with them. nil, err when the JSON module refuses.
local function prepare(bus, event)
  if type(event) ~= "table" then
    return event
  end
  local copy = {}
  for key, value in pairs(event) do
    copy[key] = value
  end
  if bus.new_id and copy.id == nil then
    copy.id = bus.new_id()
  end
  if bus.json and copy.data ~= nil and copy.content_type == nil then
    local ok, text, why = pcall(bus.json.encode, copy.data)
    if not ok or type(text) ~= "string" then
      return nil, errors.new("ARGUMENT", "data: " .. errors.describe(ok and (why or "not encoded") or text))
    end
    copy.data, copy.content_type = text, "application/json"
  end
  return copy
end

-- The events as the C module takes them; results has an error for those that can't be.
local function prepare_all(bus, events, results)
  if not bus.new_id and not bus.json then
    return events
  end
  local copies = {}
  for i = 1, #events do
    local copy, err = prepare(bus, events[i])
    if copy == nil and err then
      results[i] = { error = err }
      copy = { type = "refused" } -- keeps the place; never published: see publish_run
    end
    copies[i] = copy
  end
  return copies
end

--- See topic:publish.
function M.publish(self, event, given, where)
  local bus = self.bus
  local core, scheduler = bus.core, bus.scheduler
  if bus.closed then
    return nil, bus:closed_error()
  end
  local all = self.defaults
  if given ~= nil then
    all = with_options(self, given, where)
  end
  if bus.new_id or bus.json then
    local err
    event, err = prepare(bus, event)
    if event == nil and err then
      return nil, err
    end
  end
  local waiter = scheduler:check_wait(where) or { false, false }
  local tag = scheduler.tag + 1
  scheduler.tag = tag
  local ok, result, err = pcall(core.publish_one, core, tag, self.name, event, all)
  if not ok then
    misuse(where .. ": " .. tostring(result))
  elseif not result then
    return nil, err
  end
  waiter[1] = result
  scheduler.waiting[tag] = waiter
  ok, err = scheduler:wait_one(waiter)
  if not ok then
    return nil, err
  elseif result.error then
    return nil, result.error
  end
  return result
end

--- See topic:publish_batch.
function M.publish_batch(self, events, given, where)
  local bus = self.bus
  local core, scheduler = bus.core, bus.scheduler
  if type(events) ~= "table" then
    misuse(where .. ": a list of events expected, got " .. type(events))
  end
  if bus.closed then
    return nil, bus:closed_error()
  end
  local all = with_options(self, given, where)
  local total, results = #events, {}
  if total == 0 and next(events) ~= nil then
    misuse(where .. ": a list of events expected, got a table without elements (one event? { event } is a list)")
  end
  scheduler:check_wait(where)
  local refused
  if bus.new_id or bus.json then
    events = prepare_all(bus, events, results)
    refused = next(results) and results
    results = refused and {} or results
  end
  local waiter = { left = 0, failures = 0 }
  local first, chunks, failures = 1, 0, 0
  local unchecked = total -- the first call looks at all of them for misuse
  while first <= total do
    local last = total
    if refused then -- leave out what the JSON module refused
      while refused[first] do
        results[first] = refused[first]
        failures = failures + 1
        first = first + 1
      end
      if first > total then
        break
      end
      last = first
      while last < total and not refused[last + 1] do
        last = last + 1
      end
    end
    local entry = { results, first, last, waiter }
    local tag = scheduler:expect(entry)
    local ok, following, count = pcall(core.publish, core, tag, self.name, events, first, last, results, all, unchecked)
    unchecked = 0
    if not ok then
      scheduler.waiting[tag] = nil
      misuse(where .. ": " .. tostring(following))
    end
    entry[3] = following - 1
    failures = failures + (following - first - count)
    if count > 0 then
      waiter.left = waiter.left + 1
    else
      scheduler.waiting[tag] = nil
    end
    first = following
    chunks = chunks + 1
    if chunks % CHUNKS_MAX == 0 or first > total then
      local turned, err = scheduler:wait(waiter, where)
      if not turned then
        return nil, err
      end
    end
  end
  failures = failures + waiter.failures
  if failures == total and total > 0 then
    return nil, results[1].error
  end
  return results, failures
end

--- See topic:append.
function M.append(self, events, given, where)
  local bus = self.bus
  local core, scheduler = bus.core, bus.scheduler
  if type(events) ~= "table" or #events == 0 then
    misuse(where .. ": a list of at least one event expected")
  end
  local checked = options.check(where, given, { expected = { "any", default = "any" } })
  local expected = checked.expected
  local kind = expect_kinds[expected]
  if not kind and (type(expected) ~= "number" or expected < 0 or expected % 1 ~= 0 or expected > 2 ^ 53) then
    misuse(where .. ': expected must be "any", "no_stream", "exists" or a version (0 or more)')
  end
  if bus.closed then
    return nil, bus:closed_error()
  end
  for i = 1, #events do
    local event = events[i]
    if type(event) == "table" and (event.delay or event.at or event.dedupe or event.version) then
      misuse(where .. ": an appended event can't have delay, at, dedupe or version")
    end
  end
  scheduler:check_wait(where)
  local refused = {}
  events = prepare_all(bus, events, refused)
  local _, bad = next(refused)
  if bad then
    return nil, bad.error
  end
  local all = {
    max_len = self.defaults and self.defaults.max_len,
    exact = self.defaults and self.defaults.exact,
    whole = 1,
    expect = kind or EXPECT_VERSION,
    expect_version = not kind and expected or 0,
  }
  local waiter, results = { left = 1 }, {}
  local tag = scheduler:expect { results, 1, #events, waiter }
  local ok, following, err = pcall(core.publish, core, tag, self.name, events, 1, #events, results, all)
  if not ok or following == nil then
    scheduler.waiting[tag] = nil
    if not ok then
      misuse(where .. ": " .. tostring(following))
    end
    return nil, err
  end
  local turned
  turned, err = scheduler:wait(waiter, where)
  if not turned then
    return nil, err
  end
  if waiter.ok == false then
    err = waiter.a
    if err.code == "TIDE-CONFLICT" then
      err.expected, err.actual = expected, waiter.b
    end
    return nil, err
  end
  local ids = {}
  for i = 1, #events do
    if results[i].error then
      return nil, results[i].error
    end
    ids[i] = results[i].stream_id
  end
  return { version = waiter.b, stream_ids = ids }
end

return M
