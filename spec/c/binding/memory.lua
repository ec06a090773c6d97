-- The Lua side of test_memory.c. Called with arm(n, row) and disarm() → how many allocations failed, and the URL of a
-- file; returns how many lives had a failure, and in how many of them the caller saw nothing of it.
local arm, disarm, url = ...
local tidemill = require "tidemill"
local core = require "tidemill.core"

local TYPES = { "Ack", "Fail", "Raise", "Nack", "Reject" }
local PATIENT = { max = 50, backoff = "fixed", delay = 0 }
local SECONDS = 10
local serial = 0

local function open(now)
  now.subscribed = {}
  now.bus = assert(tidemill.open(url, { log = function() end, consumer = "one", synchronous = "off" }))
  now.topic = now.bus:topic(now.name)
end

local function subscribe(now)
  for _, type in ipairs(TYPES) do
    if not now.subscribed[type] then
      assert(now.topic:on(type, { retry = PATIENT, lease = 1 }, now.handler))
      now.subscribed[type] = true
    end
  end
end

-- One life of a bus. `now` is filled on the way, so that what was accepted is known afterwards.
local function live(now)
  open(now)
  subscribe(now)
  local function publish(type)
    serial = serial + 1
    local id = "e" .. serial
    now.sent[id] = true
    local result = now.topic:publish { type = type, id = id, data = { list = { 1, 2.5 }, text = "x\n" } }
    if result then now.accepted[id] = type end
  end
  publish "Ack"
  now.bus:spawn(function()
    pcall(function()
      for _, type in ipairs(TYPES) do publish(type) end
      now.topic:publish_batch { { type = "Ack", data = "{}" }, { type = "Unknown", data = { 1 } } }
      now.bus:sleep(0.0005)
    end)
    now.published = true
  end)
  local deadline = core.monotonic() + 1
  repeat
    assert(now.bus:tick(0.005, { wait = true }))
  until now.published and not now.missing() or core.monotonic() > deadline
end

local function new(name)
  local now = { name = "orders" .. name, sent = {}, accepted = {}, handled = {} }
  function now.missing()
    for id in pairs(now.accepted) do
      if not now.handled[id] then return id end
    end
  end
  local seen = {}
  function now.handler(event)
    local id, type = event.id, event.type
    local first = not seen[id]
    seen[id] = true
    assert(not now.sent[id] or event.data.text == "x\n")
    if first and type == "Fail" then return nil, "again" end
    if first and type == "Raise" then error { code = "TIDE-OTHER" } end
    if first and type == "Nack" then return tidemill.nack { delay = 0 } end
    now.handled[id] = true
    if type == "Reject" then return tidemill.reject "no" end
  end
  return now
end

-- Everything that was accepted is handled and settled, and rejected events are dead letters; then the bus closes.
local function finish(now)
  if not now.bus then
    open(now)
  end
  subscribe(now)
  local deadline = core.monotonic() + SECONDS
  local group, missing
  repeat
    assert(now.bus:tick(0.002, { wait = true }))
    missing = now.missing()
    group = assert(now.bus:info(now.name)).groups[1]
    if core.monotonic() > deadline then
      local letter = (now.topic:dead_letters():list() or {})[1]
      error(("still waiting for %s, %d pending, lag %d, first dead letter: %s"):format(tostring(missing), group.pending,
        group.lag, letter and letter.error))
    end
  until not missing and group and group.pending == 0 and group.lag == 0
  local rejected = 0
  for _, type in pairs(now.accepted) do
    rejected = rejected + (type == "Reject" and 1 or 0)
  end
  assert(assert(now.topic:dead_letters():count()) >= rejected, "a rejected event is no dead letter")
  now.bus:close()
end

local lives, quiet = 0, 0
for _, row in ipairs { 2, 20 } do
  local n = 0
  local failed
  repeat
    n = n + 1
    local now = new(row .. "-" .. n)
    arm(n, row)
    local ok, err = pcall(live, now)
    failed = disarm()
    assert(ok or failed > 0, err)
    if not ok and now.bus then -- the caller knows: what is unsettled comes again on another bus
      now.bus:close()
      now.bus = nil
    elseif failed > 0 then
      quiet = quiet + 1
    end
    local fine, trouble = pcall(finish, now)
    if not fine then
      error(("allocation %d, %d in a row (%s): %s"):format(n, row, ok and "unseen" or tostring(err),
        tostring(trouble)), 0)
    end
  until failed == 0
  lives = lives + n - 1
end
return lives, quiet
