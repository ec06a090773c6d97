-- One figure of tidemill, measured in a process of its own; one line of JSON on standard output. bench/run.lua runs it
-- side by side with bench/raw.c and bench/raw_sqlite.c.
--
--   lua5.4 bench/ours.lua FIGURE URL [events [batch]]
--
-- The event is the yardstick's: 4 fields, 200 bytes of payload.
local tidemill = require "tidemill"
local core = require "tidemill.core"

local figure, url = arg[1], arg[2]
local count, batch = tonumber(arg[3] or 200000), tonumber(arg[4] or 100)
local stream = os.getenv "BENCH_STREAM" or "bench"
local now = core.monotonic

local function fail(err)
  io.stderr:write("bench: ", figure, ": ", tostring(err), "\n")
  os.exit(1)
end

local function must(value, err)
  if value == nil then fail(err) end
  return value
end

local function report(result)
  local parts = {}
  for name, value in pairs(result) do
    local text = type(value) == "number" and string.format("%.6f", value) or string.format("%q", value)
    parts[#parts + 1] = string.format("%q:%s", name, text)
  end
  io.write("{", table.concat(parts, ","), "}\n")
end

local function report_rate(events, started, cpu)
  local seconds = now() - started
  report { figure = figure, events = events, seconds = seconds, rate = events / seconds,
    cpu_us = (os.clock() - cpu) / events * 1e6 }
end

local function open(options)
  return must(tidemill.open(url, options))
end

-- Exactly the yardstick's 200 bytes.
local function payload(number)
  local head = string.format('{"order":"order-%09d","total":99.95,"currency":"EUR","items":'
    .. '[{"sku":"A-1","n":2},{"sku":"B-7","n":1}],"note":"', number)
  return head .. string.rep("x", 198 - #head) .. '"}'
end

-- A string of JSON, as the yardstick sends: what is measured is the way of the event, not the encoder.
local function make_batch(first, size)
  local events = {}
  for i = 1, size do
    events[i] = { type = "OrderPlaced", data = payload(first + i), content_type = "application/json" }
  end
  return events
end

-- Runs `body` on so many coroutines until each has ended.
local function on_coroutines(bus, writers, body)
  local running = writers
  for _ = 1, writers do
    bus:spawn(function()
      body()
      running = running - 1
    end)
  end
  return function() return running > 0 end
end

local function wait_for(bus, goes_on)
  while goes_on() do bus:tick(0.1, { wait = true }) end
end

local function publish_all(topic, events)
  local _, failures = topic:publish_batch(events)
  if failures ~= 0 then fail(failures .. " failures in a batch") end
end

-- Puts `count` events there.
local function fill(topic)
  for first = 0, count - 1, batch do publish_all(topic, make_batch(first, batch)) end
end

-- `kinds` batches are made beforehand and go in turn, so that making them isn't measured.
local function publish_in(bus, options, writers, kinds)
  local topic = bus:topic(stream, options)
  local ready = {}
  for i = 1, kinds do ready[i] = make_batch(i * batch, batch) end
  local next_batch, batches = 0, count / batch
  local started, cpu = now(), os.clock()
  wait_for(bus, on_coroutines(bus, writers, function()
    while next_batch < batches do
      next_batch = next_batch + 1
      publish_all(topic, ready[next_batch % kinds + 1])
    end
  end))
  report_rate(count, started, cpu)
end

local function rss_kib()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmRSS:%s+(%d+)"
    if kib then return tonumber(kib) end
  end
end

-- Consumes `count` events that are there already; `look` is the handler's body.
local function consume(look, options)
  local bus = open()
  local handled = 0
  local started, cpu
  local on = { group = "ours", start = "0" }
  for name, value in pairs(options or {}) do on[name] = value end
  local topic = bus:topic(stream)
  local samples = {}
  topic:on("*", on, function(event)
    look(event)
    handled = handled + 1
    if handled == 100000 or handled == 1000000 then samples[handled] = rss_kib() end
    if handled == count then bus:stop() end
  end)
  started, cpu = now(), os.clock()
  must(bus:run())
  return bus, started, cpu, samples
end

local figures = {}

function figures.publish() publish_in(open(), nil, 2, 20) end

figures["publish-one-writer"] = function() publish_in(open(), nil, 1, 20) end

-- Each event once: none is a duplicate.
function figures.dedupe() publish_in(open(), { dedupe = 60 }, 2, math.ceil(count / batch)) end

function figures.append()
  local bus = open()
  local topic = bus:topic(stream)
  local event = make_batch(1, 1)
  local sent = 0
  local started, cpu = now(), os.clock()
  wait_for(bus, on_coroutines(bus, 16, function()
    while sent < count do
      sent = sent + 1
      must(topic:append(event, { expected = "any" }))
    end
  end))
  report_rate(count, started, cpu)
end

function figures.consume()
  local wanted = 0
  local _, started, cpu = consume(function(event)
    if event.type == "OrderPlaced" then wanted = wanted + 1 end
  end)
  if wanted ~= count then fail("events of another type") end
  report_rate(count, started, cpu)
end

figures["consume-data"] = function()
  local wanted = 0
  local _, started, cpu = consume(function(event)
    if event.data.currency == "EUR" then wanted = wanted + 1 end
  end)
  if wanted ~= count then fail("events with other data") end
  report_rate(count, started, cpu)
end

function figures.memory()
  count = 1000000
  local _, started, cpu, samples = consume(function() end)
  report { figure = figure, events = count, kib_first = samples[100000], kib_last = samples[1000000],
    grown_kib = samples[1000000] - samples[100000], rate = count / (now() - started), cpu = os.clock() - cpu }
end

function figures.idle()
  local bus = open()
  local seconds = count
  bus:topic(stream):on("*", { group = "idle" }, function() end)
  bus:tick(1, { wait = true })
  for _ = 1, 10 do bus:tick(0.1, { wait = true }) end
  local cpu, started = os.clock(), now()
  must(bus:run(seconds))
  report { figure = figure, seconds = now() - started, cpu_percent = (os.clock() - cpu) / (now() - started) * 100 }
end

-- On an engine that lives in this process: filled first, then measured like `consume`.
figures["fill-consume"] = function()
  local bus = open()
  local topic = bus:topic(stream)
  fill(topic)
  local handled = 0
  topic:on("*", { group = "ours", start = "0" }, function()
    handled = handled + 1
    if handled == count then bus:stop() end
  end)
  local started, cpu = now(), os.clock()
  must(bus:run())
  report_rate(count, started, cpu)
end

figures["latency-send"] = function()
  local bus = open()
  local topic = bus:topic(stream)
  local due = now()
  local filler = string.rep(" ", 160) .. "}"
  for _ = 1, count do
    local left = due - now()
    if left > 0 then bus:sleep(left) end
    due = due + 0.001
    -- As cheap as the yardstick's: what is measured begins here.
    local data = string.format('{"sent":%d', math.floor(now() * 1e9)) .. filler
    must(topic:publish { type = "Ping", data = data, content_type = "application/json" })
  end
end

figures["latency-read"] = function()
  local bus = open()
  local taken = {}
  bus:topic(stream):on("*", { group = "latency", start = "$" }, function(event)
    taken[#taken + 1] = now() * 1e9 - tonumber(event.raw:match "^{\"sent\":(%d+)")
    if #taken == count then bus:stop() end
  end)
  for _ = 1, 20 do bus:tick(0.02, { wait = true }) end
  io.write "ready\n"
  io.flush()
  must(bus:run())
  local kept = {}
  for i = count > 1000 and 501 or 1, count do kept[#kept + 1] = taken[i] / 1000 end
  table.sort(kept)
  report { figure = figure, events = #kept, p50_us = kept[math.floor(#kept * 0.5) + 1],
    p99_us = kept[math.floor(#kept * 0.99) + 1] }
end

-- `batch` coroutines, one event each at a time: what group commit is for.
figures["publish-single"] = function()
  local bus = open()
  local topic = bus:topic(stream)
  local ready, sent = make_batch(0, 1000), 0
  local started, cpu = now(), os.clock()
  wait_for(bus, on_coroutines(bus, batch, function()
    while sent < count do
      sent = sent + 1
      must(topic:publish(ready[sent % #ready + 1]))
    end
  end))
  report_rate(count, started, cpu)
end

-- How often the main thread has given up its processor to wait for something.
local function times_waited()
  for line in io.lines "/proc/self/status" do
    local times = line:match "^voluntary_ctxt_switches:%s+(%d+)"
    if times then return tonumber(times) end
  end
end

-- How long bus:tick(0.001) takes in a game's loop, `count` frames of 2 ms, while four writers keep a commit under way.
-- The rest of a frame is spent reading the clock, so that every wait of the main thread is a wait inside a tick. With
-- frames to keep nobody runs the generational collector that lua5.4 starts with: a full collection takes milliseconds.
function figures.tick()
  if _VERSION ~= "Lua 5.1" then collectgarbage "incremental" end
  local bus = open()
  local topic = bus:topic(stream)
  local done, batches = false, 0
  local events = make_batch(1, batch)
  local goes_on = on_coroutines(bus, 4, function()
    while not done do
      publish_all(topic, events)
      batches = batches + 1
    end
  end)
  for _ = 1, 100 do bus:tick(0.001, { wait = true }) end
  local taken, waited, next_frame = {}, times_waited(), now()
  for i = 1, count do
    repeat local before = now() until before >= next_frame
    next_frame = now() + 0.002
    local before = now()
    bus:tick(0.001)
    taken[i] = (now() - before) * 1000
  end
  waited = times_waited() - waited
  done = true
  wait_for(bus, goes_on)
  table.sort(taken)
  report { figure = figure, ticks = #taken, p50_ms = taken[math.floor(#taken * 0.5) + 1], batches = batches,
    p999_ms = taken[math.floor(#taken * 0.999) + 1], max_ms = taken[#taken], waited = waited }
end

-- Bytes of the file over bytes of payload.
function figures.size()
  local bus = open()
  local topic = bus:topic(stream)
  fill(topic)
  bus:close()
  local path = url:match "^file:([^?]+)"
  local file = assert(io.open(path, "rb"))
  local bytes = file:seek "end"
  file:close()
  report { figure = figure, events = count, bytes = bytes, ratio = bytes / (count * 200) }
end

-- Memory while a million events pass through with retention on.
function figures.retention()
  local bus = open()
  local topic = bus:topic(stream, { max_len = 10000 })
  local handled, samples = 0, {}
  topic:on("*", { group = "ours" }, function()
    handled = handled + 1
    if handled % 100000 == 0 then samples[#samples + 1] = rss_kib() end
  end)
  local events = make_batch(1, batch)
  for n = 1, count / batch do
    publish_all(topic, events)
    while handled < n * batch - 5000 do bus:tick(0.01, { wait = true }) end -- what is trimmed unread doesn't count
  end
  local limit = now() + 60
  while handled < count and now() < limit do bus:tick(0.1, { wait = true }) end
  report { figure = figure, events = handled, kib_first = samples[1], kib_last = samples[#samples],
    grown_kib = samples[#samples] - samples[1] }
end

local measure = figures[figure] or fail "no such figure"
measure()
