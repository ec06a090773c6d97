-- SPDX-License-Identifier: MIT
-- The embedded engine against real servers: the same seeded random commands on all of them, every reply compared.
-- memory: and file: must answer as Valkey 8.0 does. Other servers may differ in the ways named below, each counted.
-- A difference prints its seed; TIDEMILL_DIFFERENTIAL_SEED=n runs just that one, TIDEMILL_DIFFERENTIAL_SEEDS=n so many.
local tidemill = require "tidemill"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local SEEDS = tonumber(os.getenv "TIDEMILL_DIFFERENTIAL_SEEDS" or "100")
local ONLY = tonumber(os.getenv "TIDEMILL_DIFFERENTIAL_SEED" or "")
local COMMANDS = 150
local LONG_MS = 1000000 -- idle times above are made by IDLE and TIME, those below by this spec's own running
local FUTURE_MS = 9000000000000

-- ---- the same numbers on every Lua ----

local function new_random(seed)
  local state = seed * 7919 % 2147483646 + 1
  local function below(count)
    state = state * 16807 % 2147483647
    return math.floor(state / 2147483647 * count)
  end
  for _ = 1, 8 do below(1) end
  local random = { below = below }
  function random.pick(list) return list[below(#list) + 1] end
  function random.chance(percent) return below(100) < percent end
  return random
end

-- ---- the commands ----

local GROUPS, CONSUMERS = { "g1", "g2", "g3" }, { "c1", "c2", "c3" }
local BAD_IDS = { "", "x", "-1", "1-", "-", "+", "$", ">", "*", "1-x", "1-1-1", "18446744073709551616",
  "5-18446744073709551616", "1 -1", "(1-1", "0x1-1", "007-01" }

local function new_maker(seed)
  local random = new_random(seed)
  local pick, chance, below = random.pick, random.chance, random.below
  local keys = {}
  for i, suffix in ipairs { "a", "a", "a", "a", "b", "b", "c", "none" } do
    keys[i] = ("{d%d}%s"):format(seed, suffix)
  end
  local highest = {}

  local function id()
    local shape = below(12)
    if shape == 0 then return tostring(below(40)) end
    if shape == 1 then return pick { "0-0", "0", "18446744073709551615-18446744073709551615", "0-1" } end
    return ("%d-%d"):format(below(40), below(3))
  end
  local function any_id() return chance(4) and pick(BAD_IDS) or id() end
  local function key() return pick(keys) end
  local function group() return chance(70) and "g1" or chance(6) and "nogroup" or pick(GROUPS) end
  local function consumer() return pick(CONSUMERS) end
  local function count() return chance(6) and pick { "0", "-1", "x", "1.5", "" } or tostring(1 + below(6)) end
  local function idle() return chance(4) and pick { "-1", "x" } or pick { "0", "0", "0", tostring(LONG_MS) } end
  local function bound(open)
    if chance(30) then return open end
    return (chance(25) and "(" or "") .. any_id()
  end

  local function push(args, ...)
    for i = 1, select("#", ...) do args[#args + 1] = (select(i, ...)) end
    return args
  end
  local function trim(args)
    if chance(50) then push(args, "MAXLEN") else push(args, "MINID") end
    if chance(60) then push(args, "=") end
    push(args, args[#args] == "MINID" and any_id() or args[#args - 1] == "MINID" and any_id()
      or chance(4) and pick { "-1", "x" } or tostring(below(14)))
    if chance(3) then push(args, "LIMIT", "10") end
    if chance(3) then push(args, "MAXLEN", "=", "3") end
    return args
  end
  local function some(args, make, most)
    for _ = 1, 1 + below(most) do push(args, make()) end
    return args
  end

  local function new_id(name)
    local at = highest[name] or 0
    local shape = below(20)
    if shape == 0 then return any_id() end
    if shape <= 3 then return at .. "-*" end
    if shape == 4 then return (at > 0 and at - 1 or 0) .. "-*" end
    at = at + below(3)
    highest[name] = at
    if shape <= 6 then return tostring(at + 1) end
    return ("%d-%d"):format(at, below(5))
  end

  local make = {}

  function make.xadd()
    local name = key()
    local args = { "XADD", name }
    if chance(12) or name:find "none" then push(args, "NOMKSTREAM") end
    if chance(12) then trim(args) end
    if name:find "c$" then -- a last id in the future: * counts on from it, on every clock
      push(args, chance(80) and "*" or "*-*")
    else
      push(args, new_id(name))
    end
    for i = 1, 1 + below(3) do push(args, "f" .. i, ("v%d"):format(below(1000))) end
    if chance(3) then args[#args] = nil end
    if chance(2) then push(args, "", "a\0b\r\n\255") end
    return args
  end
  function make.xrange()
    local args = { "XRANGE", key(), bound "-", bound "+" }
    return chance(40) and push(args, "COUNT", count()) or chance(3) and push(args, "LIMIT", "1") or args
  end
  function make.xrevrange()
    local args = { "XREVRANGE", key(), bound "+", bound "-" }
    return chance(40) and push(args, "COUNT", count()) or chance(3) and push(args, "COUNT") or args
  end
  function make.xread()
    local function from() return chance(10) and "$" or chance(6) and "+" or any_id() end
    local args = { chance(5) and "xread" or "XREAD" }
    if chance(50) then push(args, "COUNT", count()) end
    if chance(3) then push(args, "BLOCK", pick { "x", "-1" }) end
    if chance(2) then push(args, "NOACK") end
    push(args, "STREAMS")
    local streams = 1 + below(2)
    for _ = 1, streams do push(args, key()) end
    for _ = 1, streams do push(args, from()) end
    if chance(2) then args[#args] = nil end
    return args
  end
  function make.xlen() return { "XLEN", key() } end
  function make.xdel() return some({ "XDEL", key() }, any_id, 3) end
  function make.xtrim() return trim { "XTRIM", key() } end
  function make.xack() return some({ "XACK", key(), group() }, any_id, 4) end
  function make.xgroup_create()
    local args = { "XGROUP", "CREATE", key(), pick(GROUPS), chance(30) and "$" or chance(40) and "0" or any_id() }
    if chance(20) and not args[3]:find "none" then push(args, "MKSTREAM") end
    if chance(15) then push(args, "ENTRIESREAD", pick { "0", "1", "5", "-1", "-2", "x" }) end
    return args
  end
  function make.xgroup_setid()
    local args = { "XGROUP", "SETID", key(), group(), chance(20) and "$" or any_id() }
    if chance(25) then push(args, "ENTRIESREAD", pick { "0", "2", "7", "-1", "-2", "x" }) end
    return args
  end
  function make.xgroup_destroy() return { "XGROUP", "DESTROY", key(), group() } end
  function make.xgroup_createconsumer() return { "XGROUP", "CREATECONSUMER", key(), group(), consumer() } end
  function make.xgroup_delconsumer() return { "XGROUP", "DELCONSUMER", key(), group(), consumer() } end
  function make.xreadgroup()
    local args = { "XREADGROUP", "GROUP", group(), consumer() }
    if chance(60) then push(args, "COUNT", count()) end
    if chance(12) then push(args, "NOACK") end
    push(args, "STREAMS")
    local streams = chance(15) and 2 or 1
    for _ = 1, streams do push(args, key()) end
    for _ = 1, streams do push(args, chance(65) and ">" or chance(3) and "$" or any_id()) end
    return args
  end
  function make.xpending_summary() return { "XPENDING", key(), group() } end
  function make.xpending()
    local args = { "XPENDING", key(), group() }
    if chance(25) then push(args, "IDLE", idle()) end
    push(args, bound "-", bound "+", count())
    if chance(40) then push(args, consumer()) end
    if chance(2) then args[#args] = nil end
    return args
  end
  function make.xclaim()
    local args = some({ "XCLAIM", key(), group(), consumer(), idle() }, any_id, 4)
    if chance(15) then push(args, "IDLE", pick { "0", tostring(LONG_MS * 4), "x" }) end
    if chance(8) then push(args, "TIME", pick { "1", "0", "x" }) end
    if chance(20) then push(args, "RETRYCOUNT", pick { "0", "7", "x" }) end
    if chance(20) then push(args, "FORCE") end
    if chance(25) then push(args, "JUSTID") end
    if chance(8) then push(args, "LASTID", any_id()) end
    if chance(2) then push(args, "NONSENSE") end
    return args
  end
  function make.xautoclaim()
    local args = { "XAUTOCLAIM", key(), group(), consumer(), idle(), chance(50) and "0-0" or bound "-" }
    if chance(50) then push(args, "COUNT", count()) end
    if chance(25) then push(args, "JUSTID") end
    return args
  end
  function make.xinfo_stream()
    local args = { "XINFO", "STREAM", key() }
    if chance(40) then push(args, "FULL") end
    if #args == 4 and chance(40) then push(args, "COUNT", count()) end
    return args
  end
  function make.xinfo_groups() return { "XINFO", "GROUPS", key() } end
  function make.xinfo_consumers() return { "XINFO", "CONSUMERS", key(), group() } end
  -- c keeps its last id: without it * would follow the clock.
  local function key_not_c()
    local name = key()
    return name:find "c$" and keys[1] or name
  end
  function make.xsetid()
    local name = key_not_c()
    local args = { "XSETID", name, any_id() }
    if chance(50) then push(args, "ENTRIESADDED", pick { "50", "3", "-1", "x" }) end
    if chance(40) then push(args, "MAXDELETEDID", any_id()) end
    return args
  end
  function make.del() return { "DEL", key_not_c() } end
  function make.type() return { "TYPE", key() } end
  function make.wrong()
    return pick {
      { "XADD" }, { "XADD", "k" }, { "XADD", "k", "*" }, { "XADD", "k", "*", "f" }, { "XADD", "k", "MAXLEN", "5" },
      { "XADD", "k", "MAXLEN", "~", "5", "LIMIT", "-1", "*", "f", "v" }, { "XLEN" }, { "XLEN", "a", "b" },
      { "XRANGE", "k" }, { "XREVRANGE", "k", "+" }, { "XREAD" }, { "XREAD", "STREAMS" }, { "XREAD", "STREAMS", "k" },
      { "XREAD", "COUNT", "1" }, { "XREAD", "COUNT", "1", "STREAMS", "a", "b", "0" }, { "XGROUP" },
      { "XGROUP", "NONE" },
      { "XGROUP", "CREATE", "k" }, { "XGROUP", "SETID", "k", "g" }, { "XGROUP", "DESTROY", "k" },
      { "XGROUP", "CREATE", keys[1], "g", "0", "WHAT" }, { "XGROUP", "CREATECONSUMER", "k", "g" },
      { "XREADGROUP", "GROUP", "g1", "c1" }, { "XREADGROUP", "STREAMS", keys[1], ">" },
      { "XREADGROUP", "COUNT", "1", "STREAMS", keys[1], keys[1], ">", ">" },
      { "XREADGROUP", "GROUP", "g1", "c1", "STREAMS", keys[1], keys[5], ">" },
      { "XREADGROUP", "GROUP", "g1", "STREAMS", keys[1], ">" }, { "XACK", "k", "g" }, { "XACK" },
      { "XPENDING", "k" }, { "XPENDING", "k", "g", "-" }, { "XPENDING", keys[1], "g1", "IDLE", "1" },
      { "XCLAIM", "k", "g", "c" }, { "XCLAIM", keys[1], "g1", "c1", "0" }, { "XAUTOCLAIM", "k", "g", "c", "0" },
      { "XAUTOCLAIM", keys[1], "g1", "c1", "0", "0-0", "COUNT" },
      { "XAUTOCLAIM", keys[1], "g1", "c1", "0", "0-0", "WHAT" },
      { "XINFO" }, { "XINFO", "STREAM" }, { "XINFO", "NONE", "k" }, { "XINFO", "GROUPS", "k", "more" },
      { "XINFO", "STREAM", keys[1], "FULL", "COUNT" }, { "XINFO", "STREAM", keys[1], "HALF" },
      { "XINFO", "CONSUMERS", keys[1] }, { "XSETID", "k" }, { "XSETID", "k", "1-1" },
      { "XSETID", keys[1], "99-0", "WHAT" },
      { "XTRIM", "k" }, { "XTRIM", keys[1], "MAXLEN" }, { "XTRIM", keys[1], "WHAT", "1" }, { "DEL" }, { "TYPE" },
      { "XDEL", "k" }, { "XDEL" },
    }
  end

  local weights = {
    xadd = 40, xrange = 8, xrevrange = 8, xread = 8, xlen = 3, xdel = 5, xtrim = 3, xack = 8, xgroup_create = 7,
    xgroup_setid = 3, xgroup_destroy = 1, xgroup_createconsumer = 2, xgroup_delconsumer = 2, xreadgroup = 24,
    xpending_summary = 4, xpending = 8, xclaim = 8, xautoclaim = 6, xinfo_stream = 5, xinfo_groups = 6,
    xinfo_consumers = 5, xsetid = 2, del = 1, type = 1, wrong = 8,
  }
  local names, drawn = {}, {}
  for name in pairs(weights) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    for _ = 1, weights[name] do drawn[#drawn + 1] = name end
  end
  return function(number)
    if number == 1 then return { "XGROUP", "CREATE", keys[1], "g1", "0", "MKSTREAM" } end
    if number == 2 then return { "XADD", keys[7], ("%.0f-1"):format(FUTURE_MS), "first", "one" } end
    return make[pick(drawn)]()
  end
end

-- ---- replies as text, without what time and memory layout do ----

local function show(value)
  if type(value) == "string" then
    return '"' .. value:gsub('[%c"\\\128-\255]', function(c) return ("\\x%02x"):format(c:byte()) end) .. '"'
  end
  return tostring(value)
end

local function number_text(value) return ("%.0f"):format(value) end

local function duration(value)
  if type(value) ~= "number" or value < 0 then return show(value) end
  return value >= LONG_MS and "<long>" or "<short>"
end

local function moment(value)
  if type(value) ~= "number" or value < 0 then return show(value) end
  return value > 1000000000000 and "<time>" or number_text(value)
end

local by_name = {
  idle = duration, inactive = duration, ["seen-time"] = moment, ["active-time"] = moment,
  ["radix-tree-keys"] = function() return "<layout>" end, ["radix-tree-nodes"] = function() return "<layout>" end,
}

local function write(value, args, depth, before)
  if value == tidemill.null then return "nil" end
  if type(value) == "table" then
    if value.code then return "error in a reply: " .. value.code end
    local parts = {}
    local previous
    for i, item in ipairs(value) do
      local rule = type(previous) == "string" and args[1] == "XINFO" and by_name[previous]
      if rule then
        parts[i] = rule(item)
      elseif args[1] == "XPENDING" and depth == 1 and i == 3 and #value == 4 and type(item) == "number" then
        parts[i] = duration(item)
      elseif args[1] == "XINFO" and args[4] == "FULL" and type(item) == "number" and i == #value - 1 and i <= 3 then
        parts[i] = moment(item) -- a pending entry: id, [consumer,] delivery time, count
      else
        parts[i] = write(item, args, depth + 1)
      end
      previous = item
    end
    return "[" .. table.concat(parts, before or " ") .. "]"
  end
  if type(value) == "number" then return number_text(value) end
  return show(value)
end

local function answer(bus, args)
  local unpack_list = table.unpack or unpack
  local reply, err = bus.streams:command(unpack_list(args))
  if reply == nil then
    return ("error %s %s"):format(err.code, tostring(err.server or err.message):match "^%S*")
  end
  return write(reply, args, 0)
end

local function command_text(args)
  local words = {}
  for i, word in ipairs(args) do words[i] = show(word) end
  return table.concat(words, " ")
end

-- Both replies around the place where they part.
local function parting(expected, got)
  local at = 1
  while expected:byte(at) == got:byte(at) do at = at + 1 end
  local from = math.max(1, at - 100)
  local lead = from > 1 and "…" or ""
  return lead .. expected:sub(from, at + 200), lead .. got:sub(from, at + 200)
end

-- Runs every seed on two buses. `explain(args, expected, got)` may name a difference that is known (and true: what
-- follows can't be compared, the seed ends), `after(args, got)` even out what a command left behind, and name that.
-- Returns how often each name was used.
local function compare(reference, bus, explain, after)
  local counts, compared, errors_seen = {}, 0, 0
  for seed = ONLY or 1, ONLY or SEEDS do
    local make, done = new_maker(seed), {}
    for number = 1, COMMANDS do
      local args = make(number)
      local expected, got = answer(reference, args), answer(bus, args)
      compared = compared + 1
      if expected:find "^error" then errors_seen = errors_seen + 1 end
      if expected ~= got then
        local why, parts = nil, nil
        if explain then why, parts = explain(args, expected, got) end
        if not why then
          local ours, theirs = parting(expected, got)
          local text = "seed %d, command %d: %s\n  %s answers %s\n  %s answers %s\nBefore it:\n  %s"
          error(text:format(seed, number, command_text(args), reference.url, ours, bus.url, theirs,
            table.concat(done, "\n  ")), 0)
        end
        counts[why] = (counts[why] or 0) + 1
        if parts then break end
      end
      done[#done + 1] = command_text(args) .. " -> " .. got:sub(1, 60)
      local left = after and after(args, got)
      if left then counts[left] = (counts[left] or 0) + 1 end
    end
    for _, suffix in ipairs { "a", "b", "c" } do
      answer(reference, { "DEL", ("{d%d}%s"):format(seed, suffix) })
      answer(bus, { "DEL", ("{d%d}%s"):format(seed, suffix) })
    end
  end
  -- The numbers below say that the comparison meant something: most commands do something, and some are refused.
  assert.is_true(errors_seen > compared / 50 and errors_seen < compared / 2, errors_seen .. " errors")
  return counts
end

describe("the same commands on every engine", function()
  -- What a kind of server is compared as: the version these behaviours were written for.
  local function wanted(kind, pattern, title)
    local version = server.version(kind)
    if not version then return select(2, server.available(kind)) end
    if not version:find(pattern) then return ("written for %s, this is %s"):format(title, version) end
  end
  local missing = wanted("valkey", "^[89]%.", "Valkey 8 or 9")
  if missing then
    pending("compared with Valkey (" .. missing .. ")")
    return
  end

  local valkey, reference, buses

  local function open(url)
    local bus = assert(tidemill.open(url, { log = function() end }))
    buses[#buses + 1] = bus
    return bus
  end

  setup(function()
    valkey = server.start "valkey"
  end)
  teardown(function() valkey:stop() end)
  before_each(function()
    buses = {}
    reference = open(valkey.url)
    reference.streams:command "FLUSHALL"
  end)
  after_each(function()
    for _, bus in ipairs(buses) do bus:close() end
  end)

  -- The engine follows Valkey 8.0. Where a group stands is an estimate, and 8.1 estimates otherwise; the + of an entry
  -- that was never there is an error until 8.1, and no entry from 9 on.
  local ESTIMATE, NO_LAST = "another entries-read or lag", "the last entry of a stream that never had one"
  local function without_estimate(text)
    return (text:gsub('"entries%-read" %-?%w+', ""):gsub('"lag" %-?%w+', ""))
  end
  local function asks_for_last(args)
    if args[1]:upper() ~= "XREAD" then return false end
    for _, word in ipairs(args) do
      if word == "+" then return true end
    end
    return false
  end
  local function later(args, expected, got)
    local version = server.version "valkey"
    if version:find "^8%.0%." then return end
    if args[1] == "XINFO" and without_estimate(expected) == without_estimate(got) then return ESTIMATE end
    if asks_for_last(args) and not version:find "^8%." and got == "error TIDE-REPLY ERR" then return NO_LAST end
  end
  local function compare_embedded(url)
    local counts = compare(reference, open(url), later)
    counts[ESTIMATE], counts[NO_LAST] = nil, nil
    assert.same({}, counts)
  end

  it("memory: answers as Valkey does", function()
    compare_embedded "memory:"
  end)

  it("file: answers as Valkey does", function()
    local dir = shell.temporary_dir "differential"
    compare_embedded("file:" .. dir .. "/store.db?synchronous=off")
  end)

  -- The servers read numbers with strtoull, which skips blanks and takes a sign; nobody writes such an id on purpose.
  it("the one difference wanted: an id with a blank is refused", function()
    local memory = open "memory:"
    for _, bus in ipairs { reference, memory } do bus.streams:command("XADD", "blank", "1-1", "f", "v") end
    local args = { "XRANGE", "blank", " 1-1", "+" }
    assert.equal('[["1-1" ["f" "v"]]]', answer(reference, args))
    assert.equal("error TIDE-REPLY ERR", answer(memory, args))
  end)

  missing = wanted("redis", "^[78]%.", "Redis 7 or 8")
  if missing then
    pending("Redis answers as Valkey does (" .. missing .. ")")
    return
  end

  it("Redis answers as Valkey does, but for what is named here", function()
    local redis = server.start "redis"
    local bus = open(redis.url)
    local is_7_0 = redis:version():find "^7%.0%." ~= nil
    local NO_CONSUMER = "7.0 makes no consumer when XREADGROUP, XCLAIM or XAUTOCLAIM finds nothing"
    local NO_PLUS = "7.0 has no + in XREAD"
    local LOWER_ID = "7.0 lets XSETID go below the highest deleted id"
    local FEWER_TIMES = "7.0 has no inactive and no active-time of a consumer"

    local IDMP = "8.6 says what it knows of idempotent producers"

    local function after(args, got)
      if not is_7_0 or got:find "^error" then return end
      local name = args[1]
      local made = 0
      if name == "XREADGROUP" then
        local first
        for i, word in ipairs(args) do
          if word == "STREAMS" then first = i + 1 end
        end
        for i = first, first + (#args - first + 1) / 2 - 1 do
          made = made + bus.streams:command("XGROUP", "CREATECONSUMER", args[i], args[3], args[4])
        end
      elseif name == "XCLAIM" or name == "XAUTOCLAIM" then
        made = bus.streams:command("XGROUP", "CREATECONSUMER", args[2], args[3], args[4])
      end
      return made > 0 and NO_CONSUMER or nil
    end
    local function explain_later(args, expected, got)
      if asks_for_last(args) and (expected == "error TIDE-REPLY ERR" or got == "error TIDE-REPLY ERR") then
        return NO_LAST
      end
      if args[1] ~= "XINFO" then return end
      local without = got:gsub(' "idmp%-%l+" %d+', ""):gsub(' "[pi]ids%-%l+" %d+', "")
      if without == expected then return IDMP end
      if without_estimate(without) == without_estimate(expected) then return ESTIMATE end
    end
    local function explain(args, expected, got)
      if not is_7_0 then return explain_later(args, expected, got) end
      if asks_for_last(args) and got:find "^error" then return NO_PLUS end
      if args[1] == "XSETID" and expected:find "^error" and got == '"OK"' then return LOWER_ID, true end
      local without = expected:gsub(' "inactive" <?[%w-]+>?', ""):gsub(' "active%-time" <?[%w-]+>?', "")
      if args[1] == "XINFO" and without == got then return FEWER_TIMES end
    end
    local ok, counts = pcall(compare, reference, bus, explain, after)
    redis:stop()
    if not ok then error(counts, 0) end
    if ONLY or SEEDS < 30 then return end
    for _, name in ipairs(is_7_0 and { NO_CONSUMER, NO_PLUS, LOWER_ID, FEWER_TIMES } or {}) do
      assert.is_true((counts[name] or 0) > 0, "not seen any more: " .. name)
    end
  end)
end)
