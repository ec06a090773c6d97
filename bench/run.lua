-- The benchmark: every figure of tidemill beside its yardstick, in turn, on the same server, in one run; medians and
-- spread in a table, and everything in JSON when asked.
--
--   lua5.4 bench/run.lua [--quick] [--rounds N] [--only FIGURE|server|embedded] [--server redis|valkey] [--json FILE]
--
-- `./dev bench` sets the paths. Run it on a machine that does nothing else.
local cjson = require "cjson"
local server = require "spec.support.server"

local build = os.getenv "TIDEMILL_BUILD" or os.getenv "TIDE_BUILD_DIR" or "build"
local settings = { rounds = 7, scale = 1, only = nil, server = "valkey", json = nil }

local usage = [[
Usage: ./dev bench [options]

  --quick          a fifth of the events, three rounds
  --rounds N       rounds of each figure (default 7); the table shows their median
  --only NAME      one figure, or all of a group: server, embedded
  --server KIND    valkey (default) or redis
  --json FILE      everything that was measured, as JSON
  --list           the figures
]]

local figures -- filled below

local function die(message)
  io.stderr:write("bench: ", message, "\n")
  os.exit(2)
end

local function parse(arguments)
  local i = 1
  local function value(name)
    i = i + 1
    return arguments[i] or die(name .. " needs a value")
  end
  while i <= #arguments do
    local name = arguments[i]
    if name == "--quick" then settings.rounds, settings.scale = 3, 5
    elseif name == "--rounds" then settings.rounds = tonumber(value(name)) or die "--rounds needs a number"
    elseif name == "--only" then settings.only = value(name)
    elseif name == "--server" then settings.server = value(name)
    elseif name == "--json" then settings.json = value(name)
    elseif name == "--list" then
      for _, figure in ipairs(figures) do print(figure.name, figure.group) end
      os.exit(0)
    elseif name == "--help" or name == "-h" then io.write(usage) os.exit(0)
    else die("unknown option " .. name .. "; see ./dev bench --help") end
    i = i + 1
  end
end

-- ---- running one process ----

local function last_json(text, command)
  local result
  for line in text:gmatch "[^\n]+" do
    if line:sub(1, 1) == "{" then result = cjson.decode(line) end
  end
  return result or die("no result from: " .. command .. "\n" .. text)
end

local function run(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "a"
  pipe:close()
  return last_json(text, command)
end

local function run_quiet(command)
  if not os.execute(command .. " >/dev/null") then die("failed: " .. command) end
end

local function shell_quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function with_paths(lua)
  local folder = lua == "luajit" and "jit" or "5.4"
  return string.format("LUA_PATH=%s LUA_CPATH=%s %s ",
    shell_quote("./lua/?.lua;./lua/?/init.lua;./?.lua;;"), shell_quote(build .. "/lua/" .. folder .. "/?.so;;"), lua)
end

local function ours(lua, figure, url, count, batch, stream)
  return string.format("BENCH_STREAM=%s %sbench/ours.lua %s %s %d %d", stream or "bench", with_paths(lua), figure,
    shell_quote(url), count, batch or 100)
end

local function raw(figure, port, count, batch, stream)
  return string.format("%s/bench-raw --port %d --stream %s --events %d --batch %d %s", build, port, stream or "bench",
    count, batch or 500, figure)
end

local function raw_sqlite(figure, path, count, batch)
  return string.format("%s/bench-raw-sqlite --events %d --batch %d --path %s %s", build, count, batch or 100,
    shell_quote(path), figure)
end

-- ---- numbers ----

local function median(list)
  local sorted = {}
  for i, value in ipairs(list) do sorted[i] = value end
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end

local function spread(list)
  local low, high = math.huge, -math.huge
  for _, value in ipairs(list) do low, high = math.min(low, value), math.max(high, value) end
  return low, high
end

local function human(value)
  if value >= 1e6 then return string.format("%.2f M", value / 1e6) end
  if value >= 1e4 then return string.format("%.1f k", value / 1e3) end
  if value >= 100 then return string.format("%.0f", value) end
  return string.format("%.3g", value)
end

local function progress(text)
  if os.getenv "TERM" then io.stderr:write("\r\27[K", text) io.stderr:flush() end
end

-- ---- what the figures need ----

local live -- the server of this run
local folder

local function flush() live:cli "FLUSHALL" end

local function fresh_file()
  os.execute("rm -f " .. folder .. "/bench.db*")
  return folder .. "/bench.db"
end

local function events(count) return math.floor(count / settings.scale) end

-- A rate of ours beside a rate of the yardstick, on the same filled stream where `fill` says so.
local function rates(raw_figure, our_figure, count, options)
  options = options or {}
  return function(round)
    local n = events(count)
    local results = {}
    local function yardstick()
      flush()
      if options.fill then run_quiet(raw("fill", live.port, n)) end
      results.raw = run(raw(raw_figure, live.port, n, options.raw_batch)).rate
    end
    local function measured()
      flush()
      if options.fill then run_quiet(raw("fill", live.port, n)) end
      results.ours = run(ours(options.lua or "lua5.4", our_figure, live.url, n, options.batch)).rate
    end
    -- Whoever goes second finds a warmer machine: take turns.
    if round % 2 == 0 then yardstick() measured() else measured() yardstick() end
    results.ratio = results.ours / results.raw
    return results
  end
end

local function jit_against_54(figure, count)
  return function(round)
    local n = events(count)
    local results = {}
    local function measure(lua, name)
      flush()
      run_quiet(raw("fill", live.port, n))
      results[name] = run(ours(lua, figure, live.url, n)).rate
    end
    if round % 2 == 0 then measure("lua5.4", "raw") measure("luajit", "ours")
    else measure("luajit", "ours") measure("lua5.4", "raw") end
    results.ratio = results.ours / results.raw
    return results
  end
end

-- A reader in the background, a sender beside it; the reader's line says µs from sending to the handler.
local function latency_of(read_command, send_command)
  local output = folder .. "/latency"
  os.execute("rm -f " .. output)
  os.execute(string.format("(%s) >%s 2>&1 & echo $! >%s.pid", read_command, output, output))
  for _ = 1, 100 do
    local file = io.open(output)
    local text = file and file:read "a" or ""
    if file then file:close() end
    if text:find "ready" then break end
    os.execute "sleep 0.05"
  end
  run_quiet(send_command)
  for _ = 1, 200 do
    local file = assert(io.open(output))
    local text = file:read "a"
    file:close()
    if text:find "p99_us" then return last_json(text, read_command) end
    os.execute "sleep 0.05"
  end
  die("the reader did not end: " .. read_command)
end

-- Both quantiles of a round come from the same run.
local latencies = {}

local function latency(quantile)
  return function(round)
    local pair = latencies[round]
    if not pair then
      local n = events(10000)
      flush()
      pair = { raw = latency_of(raw("latency-read", live.port, n), raw("latency-send", live.port, n)) }
      flush()
      pair.ours = latency_of(ours("lua5.4", "latency-read", live.url, n),
        ours("lua5.4", "latency-send", live.url, n))
      latencies[round] = pair
    end
    return { raw = pair.raw[quantile], ours = pair.ours[quantile],
      ratio = pair.ours[quantile] / pair.raw[quantile] }
  end
end

local function single(command, value)
  return function()
    local result = run(command())
    return { ours = value(result), detail = result }
  end
end

local function embedded(raw_figure, our_figure, url_of, count, batch, lua)
  return function(round)
    local n = events(count)
    local results = {}
    local function yardstick()
      results.raw = run(raw_sqlite(raw_figure, url_of() == "memory:" and ":memory:" or fresh_file(), n, batch)).rate
    end
    local function measured()
      if url_of() ~= "memory:" then fresh_file() end
      results.ours = run(ours(lua or "lua5.4", our_figure, url_of(), n, batch)).rate
    end
    if round % 2 == 0 then yardstick() measured() else measured() yardstick() end
    results.ratio = results.ours / results.raw
    return results
  end
end

local function memory_url() return "memory:" end
local function file_url() return "file:" .. folder .. "/bench.db" end

figures = {
  { name = "publish", group = "server", title = "publish_batch(100), Lua 5.4 / raw C", unit = "events/s",
    goal = ">= 0.85", measure = rates("publish", "publish", 500000, { raw_batch = 100 }) },
  { name = "publish-jit", group = "server", title = "publish_batch(100), LuaJIT / raw C", unit = "events/s",
    goal = ">= 0.85", measure = rates("publish", "publish", 500000, { raw_batch = 100, lua = "luajit" }) },
  { name = "consume", group = "server", title = "consume + ack, event.type, Lua 5.4 / raw C", unit = "events/s",
    goal = ">= 0.90", measure = rates("consume", "consume", 500000, { fill = true }) },
  { name = "consume-data", group = "server", title = "consume + ack, event.data, Lua 5.4 / raw C + cjson",
    unit = "events/s", goal = ">= 0.95", measure = rates("consume-data", "consume-data", 500000, { fill = true }) },
  { name = "consume-jit", group = "server", title = "consume + ack, event.type, LuaJIT / Lua 5.4", unit = "events/s",
    goal = ">= 1", measure = jit_against_54("consume", 500000) },
  { name = "consume-data-jit", group = "server", title = "consume + ack, event.data, LuaJIT / Lua 5.4",
    unit = "events/s", goal = ">= 1", measure = jit_against_54("consume-data", 500000) },
  { name = "latency-p50", group = "server", title = "publish -> handler at 1,000/s, p50 / blocking raw C", unit = "us",
    goal = "<= 1.3", measure = latency "p50_us" },
  { name = "latency-p99", group = "server", title = "publish -> handler at 1,000/s, p99 / blocking raw C", unit = "us",
    goal = "<= 1.3", measure = latency "p99_us" },
  { name = "dedupe", group = "server", title = "idempotent publish / raw C, same script", unit = "events/s",
    goal = ">= 0.8", measure = rates("dedupe", "dedupe", 200000, { raw_batch = 100 }) },
  { name = "append", group = "server", title = "append, expected version / raw C, same script", unit = "events/s",
    goal = ">= 0.8", measure = rates("append", "append", 100000, { raw_batch = 8 }) },
  { name = "memory", group = "server", title = "resident memory, 100,000th to 1,000,000th event", unit = "KiB",
    goal = "<= 2048", once = true,
    measure = single(function()
      flush()
      run_quiet(raw("fill", live.port, 1000000))
      return ours("lua5.4", "memory", live.url, 1000000)
    end, function(result) return result.grown_kib end) },
  { name = "idle", group = "server", title = "CPU while idle with one subscription", unit = "%", goal = "< 0.1",
    once = true,
    measure = single(function()
      flush()
      return ours("lua5.4", "idle", live.url, settings.scale > 1 and 10 or 60)
    end, function(result) return result.cpu_percent end) },
  { name = "memory-publish", group = "embedded", title = "memory: publish_batch(100) / raw SQLite", unit = "events/s",
    goal = ">= 0.6", measure = embedded("publish-memory", "publish-one-writer", memory_url, 500000, 100) },
  { name = "memory-consume", group = "embedded", title = "memory: consume + ack through Lua / raw SQLite",
    unit = "events/s", goal = ">= 0.5", measure = embedded("consume-memory", "fill-consume", memory_url, 300000, 100) },
  { name = "file-publish", group = "embedded", title = "file: FULL, 100 events a commit / raw SQLite",
    unit = "events/s", goal = ">= 0.7", measure = embedded("publish-file", "publish", file_url, 100000, 100) },
  { name = "file-single", group = "embedded", title = "file: FULL, concurrent single publishes / one commit each",
    unit = "events/s", goal = ">= 20",
    measure = function()
      local one = run(raw_sqlite("single-file", fresh_file(), events(5000), 1)).rate
      fresh_file()
      local mine = run(ours("lua5.4", "publish-single", file_url(), events(200000), 1024)).rate
      return { raw = one, ours = mine, ratio = mine / one }
    end },
  { name = "tick", group = "embedded", title = "bus:tick(0.001) while commits run, p99.9", unit = "ms",
    goal = "<= 1.2",
    measure = function()
      local control = run(raw_sqlite("tick-file", fresh_file(), events(5000), 100))
      fresh_file()
      local mine = run(ours("lua5.4", "tick", file_url(), events(5000), 100))
      if mine.waited > 0 then io.stderr:write("bench: tick: the loop's thread waited ", mine.waited, " times\n") end
      return { raw = control.p999_ms, ours = mine.p999_ms }
    end },
  { name = "size", group = "embedded", title = "file size / payload bytes", unit = "x", goal = "<= 1.8", once = true,
    measure = single(function()
      fresh_file()
      return ours("lua5.4", "size", file_url(), events(200000), 100)
    end, function(result) return result.ratio end) },
  { name = "retention", group = "embedded", title = "memory: growth over 1 M events with retention", unit = "KiB",
    goal = "<= 2048", once = true,
    measure = single(function() return ours("lua5.4", "retention", "memory:", 1000000, 100) end,
      function(result) return result.grown_kib end) },
}

-- ---- the run ----

local function is_met(goal, value)
  local sign, bound = goal:match "^([<>]=?)%s*([%d.]+)$"
  bound = tonumber(bound)
  if sign == ">=" then return value >= bound end
  if sign == "<=" then return value <= bound end
  return value < bound
end

local function measure(figure)
  local rounds = figure.once and 1 or settings.rounds
  local series = { raw = {}, ours = {}, ratio = {} }
  for round = 1, rounds do
    progress(string.format("%s, round %d of %d", figure.name, round, rounds))
    local result = figure.measure(round)
    for name, list in pairs(series) do list[#list + 1] = result[name] end
  end
  progress ""
  local row = { name = figure.name, title = figure.title, unit = figure.unit, goal = figure.goal, rounds = rounds }
  for name, list in pairs(series) do
    if #list > 0 then
      local low, high = spread(list)
      row[name] = { median = median(list), low = low, high = high, all = list }
    end
  end
  row.value = (row.ratio or row.ours).median
  row.met = is_met(figure.goal, row.value)
  return row
end

local function print_row(row)
  local ratio = row.ratio and string.format("%.3f (%.3f…%.3f)", row.ratio.median, row.ratio.low, row.ratio.high) or ""
  print(string.format("%-54s %10s %10s %-9s %-24s %-9s %s", row.title, row.raw and human(row.raw.median) or "",
    human(row.ours.median), row.unit, ratio, row.goal, row.met and "met" or "MISSED"))
end

parse(arg)
folder = assert(io.popen("mktemp -d"):read "l")
live = assert(server.start(settings.server, {}))

local rows = {}
print(string.format("%-54s %10s %10s %-9s %-24s %-9s", "figure", "yardstick", "tidemill", "unit",
  "ratio (lowest…highest)", "goal"))
local matched
for _, figure in ipairs(figures) do
  if not settings.only or settings.only == figure.name or settings.only == figure.group then
    matched = true
    local row = measure(figure)
    rows[#rows + 1] = row
    print_row(row)
    io.flush()
  end
end
live:stop()
os.execute("rm -rf " .. shell_quote(folder))
if not matched then die("no figure or group '" .. settings.only .. "'; see --list") end
if settings.json then
  local file = assert(io.open(settings.json, "w"))
  file:write(cjson.encode { server = settings.server, rounds = settings.rounds, figures = rows }, "\n")
  file:close()
end
