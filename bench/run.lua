-- The benchmark: the figures of bench/figures.lua in one run; medians and spread in a table, and everything in JSON
-- when asked.
--
--   lua5.4 bench/run.lua [--quick] [--rounds N] [--only FIGURE|server|embedded] [--server redis|valkey] [--json FILE]
--
-- `./dev bench` sets the paths. Run it on a machine that does nothing else.
local cjson = require "cjson"
local figures = require "bench.figures"
local server = require "spec.support.server"

local settings = { rounds = 5, scale = 1, only = nil, server = "valkey", json = nil }

local usage = [[
Usage: ./dev bench [options]

  --quick          a fifth of the events, three rounds
  --rounds N       rounds of each figure (default 5); the table shows their median
  --only NAME      one figure, or all of a group: server, embedded
  --server KIND    valkey (default) or redis
  --json FILE      everything that was measured, as JSON
  --list           the figures
]]

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
    elseif name == "--rounds" then
      settings.rounds = math.tointeger(tonumber(value(name)))
      if not settings.rounds or settings.rounds < 1 then die "--rounds needs a number of 1 or more" end
    elseif name == "--only" then settings.only = value(name)
    elseif name == "--server" then
      settings.server = value(name)
      if settings.server ~= "redis" and settings.server ~= "valkey" then die "--server is redis or valkey" end
    elseif name == "--json" then settings.json = value(name)
    elseif name == "--list" then
      for _, figure in ipairs(figures.all()) do print(("%-18s %s"):format(figure.name, figure.title)) end
      os.exit(0)
    elseif name == "--help" or name == "-h" then io.write(usage) os.exit(0)
    else die("unknown option " .. name .. "; see ./dev bench --help") end
    i = i + 1
  end
end

local function chosen()
  local list = {}
  for _, figure in ipairs(figures.all()) do
    if not settings.only or settings.only == figure.name or settings.only == figure.group then
      list[#list + 1] = figure
    end
  end
  if #list == 0 then die("no figure or group '" .. settings.only .. "'; see --list") end
  return list
end

-- ---- numbers ----

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end

local function human(value)
  if value >= 1e6 then return string.format("%.2f M", value / 1e6) end
  if value >= 1e4 then return string.format("%.1f k", value / 1e3) end
  if value >= 100 then return string.format("%.0f", value) end
  return string.format("%.3g", value)
end

local function is_met(goal, value)
  local sign, bound = goal:match "^([<>]=?)%s*([%d.]+)$"
  bound = tonumber(bound)
  if sign == ">=" then return value >= bound end
  if sign == "<=" then return value <= bound end
  return value < bound
end

-- ---- the table ----

local on_terminal = os.execute "test -t 2"

local function progress(text)
  if on_terminal then io.stderr:write("\r\27[K", text) io.stderr:flush() end
end

-- The columns' widths; … is three bytes of one column.
local columns = "%-54s %10s %10s %-8s  %-22s %-7s  %-11s %s"

local function print_row(row)
  local ratio = row.ratio and ("%.2f (%.2f…%.2f)"):format(row.ratio.median, row.ratio.low, row.ratio.high) or ""
  local cpu = row.cpu_ours and ("%.2f, %.2f"):format(row.cpu_raw.median, row.cpu_ours.median) or ""
  print(columns:format(row.title, row.raw and human(row.raw.median) or "", human(row.ours.median), row.unit,
    ratio, row.goal, cpu, row.met and "met" or "MISSED"))
  io.flush()
end

-- ---- the run ----

local function measure(figure)
  local rounds = figure.once and 1 or settings.rounds
  local row = { name = figure.name, title = figure.title, unit = figure.unit, goal = figure.goal, rounds = rounds }
  for round = 1, rounds do
    progress(("%s, round %d of %d"):format(figure.name, round, rounds))
    for name, value in pairs(figure.measure(round)) do
      row[name] = row[name] or { all = {} }
      table.insert(row[name].all, value)
    end
  end
  progress ""
  for _, name in ipairs { "ours", "raw", "ratio", "cpu_ours", "cpu_raw" } do
    local series = row[name]
    if series then
      series.median, series.low, series.high = median(series.all), math.min(table.unpack(series.all)),
        math.max(table.unpack(series.all))
    end
  end
  row.value = (row.ratio or row.ours).median
  row.met = is_met(figure.goal, row.value)
  return row
end

local function measure_all(list)
  local rows = {}
  print(columns:format("figure", "yardstick", "tidemill", "unit", "ratio (low…high)", "goal", "CPU µs/event", ""))
  for _, figure in ipairs(list) do
    rows[#rows + 1] = measure(figure)
    print_row(rows[#rows])
  end
  return rows
end

parse(arg)
local list = chosen()
local folder = assert(io.popen("mktemp -d"):read "l")
local live = assert(server.start(settings.server, {}))
figures.use { build = os.getenv "TIDEMILL_BUILD" or os.getenv "TIDE_BUILD_DIR" or "build", server = live,
  folder = folder, scale = settings.scale }
local ok, rows = pcall(measure_all, list)
live:stop()
os.execute("rm -rf '" .. folder .. "'")
if not ok then die(rows) end
if settings.json then
  local file, why = io.open(settings.json, "w")
  if not file then die(why) end
  file:write(cjson.encode { server = settings.server, rounds = settings.rounds, figures = rows }, "\n")
  file:close()
end
