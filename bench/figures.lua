-- What `./dev bench` measures: each figure of tidemill beside its yardstick, in the same conditions, in turn.
--
-- A figure has a name, a group (server, embedded), a title, a unit, a goal, and `measure(round)`, which returns
-- { ours =, raw =, ratio =, cpu_ours =, cpu_raw = }: what tidemill reached, the yardstick, ours over the yardstick's,
-- and the µs of processor time that each client spent on an event. `once`: one round says it.
local cjson = require "cjson"

local M = {}

-- What the figures need, from the run: build (folder), server (that runs), folder (to write in), scale (divides the
-- number of events).
local bench

-- ---- running one process ----

local function shell_quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function last_json(text, command)
  local result
  for line in text:gmatch "[^\n]+" do
    if line:sub(1, 1) == "{" then result = cjson.decode(line) end
  end
  return result or error("no result from: " .. command .. "\n" .. text, 0)
end

local function run(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "a"
  pipe:close()
  return last_json(text, command)
end

local function run_quiet(command)
  if not os.execute(command .. " >/dev/null") then error("failed: " .. command, 0) end
end

local function with_paths(lua)
  local folder = lua == "luajit" and "jit" or "5.4"
  return string.format("LUA_PATH=%s LUA_CPATH=%s %s ", shell_quote "./lua/?.lua;./lua/?/init.lua;./?.lua;;",
    shell_quote(bench.build .. "/lua/" .. folder .. "/?.so;;"), lua)
end

local function ours(lua, figure, url, count, batch)
  return string.format("BENCH_STREAM=bench %sbench/ours.lua %s %s %d %d", with_paths(lua), figure, shell_quote(url),
    count, batch or 100)
end

local function raw(figure, count, batch)
  return string.format("%s/bench-raw --port %d --stream bench --events %d --batch %d %s", bench.build,
    bench.server.port, count, batch or 500, figure)
end

local function raw_sqlite(figure, path, count, batch)
  return string.format("%s/bench-raw-sqlite --events %d --batch %d --path %s %s", bench.build, count, batch or 100,
    shell_quote(path), figure)
end

-- ---- conditions ----

local function flush() bench.server:cli "FLUSHALL" end

local function fresh_file()
  local path = bench.folder .. "/bench.db"
  os.execute("rm -f " .. shell_quote(path) .. "*")
  return path
end

local function fresh_file_url() return "file:" .. fresh_file() end
local function memory_url() return "memory:" end

local function events(count) return math.floor(count / bench.scale) end

-- ---- two rates side by side ----

-- Two runs over the same events as if they were one.
local function together(a, b)
  return { rate = 2 / (1 / a.rate + 1 / b.rate), cpu_us = (a.cpu_us + b.cpu_us) / 2 }
end

-- A B B A: machines drift, and whoever goes second finds a warmer one.
local function side_by_side(yardstick, measured)
  return function()
    local first = yardstick()
    local mine = together(measured(), measured())
    local other = together(first, yardstick())
    return { raw = other.rate, ours = mine.rate, ratio = mine.rate / other.rate, cpu_raw = other.cpu_us,
      cpu_ours = mine.cpu_us }
  end
end

-- A command on a fresh stream, filled with what is to be consumed where `fill` says so.
local function on_server(command, count, fill)
  return function()
    local n = events(count)
    flush()
    if fill then run_quiet(raw("fill", n)) end
    return run(command(n))
  end
end

local function rates(figure, count, options)
  options = options or {}
  return side_by_side(
    on_server(function(n) return raw(figure, n, options.raw_batch) end, count, options.fill),
    on_server(function(n) return ours(options.lua or "lua5.4", figure, bench.server.url, n) end, count, options.fill))
end

local function jit_against_54(figure, count)
  local function under(lua)
    return on_server(function(n) return ours(lua, figure, bench.server.url, n) end, count, true)
  end
  return side_by_side(under "lua5.4", under "luajit")
end

local function embedded(raw_figure, our_figure, url_of, count)
  return side_by_side(
    function()
      local path = url_of == memory_url and ":memory:" or fresh_file()
      return run(raw_sqlite(raw_figure, path, events(count)))
    end,
    function() return run(ours("lua5.4", our_figure, url_of(), events(count))) end)
end

-- ---- processes side by side ----

-- Starts a command whose output goes to a file; `text()` is what it has written.
local function in_background(command, name)
  local output = bench.folder .. "/" .. name
  os.execute(string.format("rm -f %s; (%s) >%s 2>&1 &", shell_quote(output), command, shell_quote(output)))
  local process = {}
  function process.text()
    local file = io.open(output)
    local text = file and file:read "a" or ""
    if file then file:close() end
    return text
  end
  -- Waits until it has written this.
  function process.await(what, seconds)
    for _ = 1, seconds * 20 do
      local text = process.text()
      if text:find(what, 1, true) then return text end
      os.execute "sleep 0.05"
    end
    error("still nothing after " .. seconds .. " s from: " .. command .. "\n" .. process.text(), 0)
  end
  return process
end

-- A reader in the background, a sender beside it; the reader's line says µs from sending to the handler.
local function latency_of(read_command, send_command)
  flush()
  local reader = in_background(read_command, "latency")
  reader.await("ready", 10)
  run_quiet(send_command)
  return last_json(reader.await("p99_us", 10), read_command)
end

-- Both quantiles of a round come from the same run.
local latencies = {}

local function latency(quantile)
  return function(round)
    local pair = latencies[round] or {}
    local n = events(10000)
    local function yardstick()
      pair.raw = pair.raw or latency_of(raw("latency-read", n), raw("latency-send", n))
    end
    local function measured()
      pair.ours = pair.ours or latency_of(ours("lua5.4", "latency-read", bench.server.url, n),
        ours("lua5.4", "latency-send", bench.server.url, n))
    end
    if round % 2 == 0 then yardstick() measured() else measured() yardstick() end
    latencies[round] = pair
    local mine, other = pair.ours[quantile], pair.raw[quantile]
    return { raw = other, ours = mine, ratio = mine / other }
  end
end

local function idle_seconds() return bench.scale > 1 and 10 or 60 end

local function idle()
  flush()
  return { ours = run(ours("lua5.4", "idle", bench.server.url, idle_seconds())).cpu_percent }
end

-- Each looks for what the other writes; the busier one counts.
local function idle_pair()
  local url = fresh_file_url()
  local command = ours("lua5.4", "idle", url, idle_seconds())
  local other = in_background(command, "idle")
  local mine = run(command).cpu_percent
  local theirs = last_json(other.await("cpu_percent", 10), command).cpu_percent
  return { ours = math.max(mine, theirs) }
end

-- ---- single figures ----

local function memory()
  flush()
  run_quiet(raw("fill", 1000000))
  return { ours = run(ours("lua5.4", "memory", bench.server.url, 1000000)).grown_kib }
end

local function file_single()
  local one = run(raw_sqlite("single-file", fresh_file(), events(5000), 1)).rate
  local mine = run(ours("lua5.4", "publish-single", fresh_file_url(), events(200000), 1024)).rate
  return { raw = one, ours = mine, ratio = mine / one }
end

local function tick()
  local control = run(raw_sqlite("tick-file", fresh_file(), events(5000)))
  local mine = run(ours("lua5.4", "tick", fresh_file_url(), events(5000)))
  if mine.waited > 0 then io.stderr:write("bench: tick: the loop's thread waited ", mine.waited, " times\n") end
  return { raw = control.p999_ms, ours = mine.p999_ms }
end

local function size() return { ours = run(ours("lua5.4", "size", fresh_file_url(), events(200000))).ratio } end

local function retention() return { ours = run(ours("lua5.4", "retention", "memory:", 1000000)).grown_kib } end

-- ---- the list ----

local function figure(name, unit, goal, title, measure, once)
  return { name = name, unit = unit, goal = goal, title = title, measure = measure, once = once }
end

M.server = {
  figure("publish", "events/s", ">= 0.85", "publish_batch(100), Lua 5.4 / raw C",
    rates("publish", 500000, { raw_batch = 100 })),
  figure("publish-jit", "events/s", ">= 0.85", "publish_batch(100), LuaJIT / raw C",
    rates("publish", 500000, { raw_batch = 100, lua = "luajit" })),
  figure("consume", "events/s", ">= 0.90", "consume + ack, event.type, Lua 5.4 / raw C",
    rates("consume", 500000, { fill = true })),
  figure("consume-data", "events/s", ">= 0.95", "consume + ack, event.data, Lua 5.4 / raw C + cjson",
    rates("consume-data", 500000, { fill = true })),
  figure("consume-jit", "events/s", ">= 1", "consume + ack, event.type, LuaJIT / Lua 5.4",
    jit_against_54("consume", 500000)),
  figure("consume-data-jit", "events/s", ">= 1", "consume + ack, event.data, LuaJIT / Lua 5.4",
    jit_against_54("consume-data", 500000)),
  figure("latency-p50", "us", "<= 1.3", "publish -> handler at 1,000/s, p50 / blocking raw C", latency "p50_us"),
  figure("latency-p99", "us", "<= 1.3", "publish -> handler at 1,000/s, p99 / blocking raw C", latency "p99_us"),
  figure("dedupe", "events/s", ">= 0.8", "idempotent publish / raw C, same script",
    rates("dedupe", 200000, { raw_batch = 100 })),
  figure("append", "events/s", ">= 0.8", "append, expected version / raw C, same script",
    rates("append", 100000, { raw_batch = 8 })),
  figure("memory", "KiB", "<= 2048", "resident memory, 100,000th to 1,000,000th event", memory, true),
  figure("idle", "%", "< 0.1", "CPU while idle with one subscription", idle, true),
}

M.embedded = {
  figure("memory-publish", "events/s", ">= 0.6", "memory: publish_batch(100) / raw SQLite",
    embedded("publish-memory", "publish-one-writer", memory_url, 500000)),
  figure("memory-consume", "events/s", ">= 0.5", "memory: consume + ack through Lua / raw SQLite",
    embedded("consume-memory", "fill-consume", memory_url, 300000)),
  figure("file-publish", "events/s", ">= 0.7", "file: FULL, 100 events a commit / raw SQLite",
    embedded("publish-file", "publish", fresh_file_url, 100000)),
  figure("file-single", "events/s", ">= 20", "file: FULL, concurrent single publishes / one commit each", file_single),
  figure("tick", "ms", "<= 1.2", "bus:tick(0.001) while commits run, p99.9", tick),
  figure("file-idle", "%", "< 1", "CPU while idle, the busier of two on one file", idle_pair, true),
  figure("size", "x", "<= 1.8", "file size / payload bytes", size, true),
  figure("retention", "KiB", "<= 2048", "memory: growth over 1 M events with retention", retention, true),
}

--- The figures of both groups, in order, each with its group.
function M.all()
  local list = {}
  for _, group in ipairs { "server", "embedded" } do
    for _, one in ipairs(M[group]) do
      one.group = group
      list[#list + 1] = one
    end
  end
  return list
end

--- Before the first is measured.
function M.use(needs) bench = needs end

return M
