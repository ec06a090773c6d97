-- `tidemill doctor [TOPIC…]`: is this server (or file) fit for an event bus, and is this user allowed to use it?
-- Every probe is harmless: nothing is written. A finding is { level, check, text, fix }.

local core = require "tidemill.core"
local json = require "tidemill.cli.json"
local names = require "tidemill.names"
local secret = require "tidemill.cli.secret"
local ui = require "tidemill.cli.ui"

local M = {
  summary = "Check the server: version, persistence, eviction, permissions, known hazards.",
  description = "Checks what the events live in. With topics, checks also that this user may use exactly those. "
    .. "Exit code 1 when something is wrong, 0 when there are warnings at most (1 with --strict).",
}

function M.define(command, cli)
  command:argument("topic", "Topics whose permissions to check."):args "*"
  cli.add_url(command)
  command:option("--role", "Check the permissions of a producer, a consumer, or both (default)."):argname "ROLE"
    :choices { "producer", "consumer", "both" }:default "both":show_default(false)
  command:flag("--strict", "Warnings make the exit code 1, too.")
  cli.add_json(command)
end

-- ---- findings ----

local function reporter()
  local findings = {}
  local function add(level, check, text, fix)
    findings[#findings + 1] = { level = level, check = check, text = text, fix = fix }
  end
  return findings, add
end

--- Numbers of a version, compared part by part: is `version` before `limit`?
local function is_before(version, limit)
  local left, right = {}, {}
  for part in tostring(version):gmatch "%d+" do left[#left + 1] = tonumber(part) end
  for part in limit:gmatch "%d+" do right[#right + 1] = tonumber(part) end
  for index = 1, #right do
    local a, b = left[index] or 0, right[index]
    if a ~= b then return a < b end
  end
  return false
end
M.is_before = is_before

local function size(bytes)
  bytes = tonumber(bytes) or 0
  for _, unit in ipairs { { "GiB", 2 ^ 30 }, { "MiB", 2 ^ 20 }, { "KiB", 2 ^ 10 } } do
    if bytes >= unit[2] then return ("%.1f %s"):format(bytes / unit[2], unit[1]) end
  end
  return ("%d bytes"):format(bytes)
end

-- ---- Redis and Valkey ----

local function info_fields(streams)
  local text, err = streams:command("INFO", "everything")
  if type(text) ~= "string" then text, err = streams:command "INFO" end
  if type(text) ~= "string" then return nil, err end
  local fields = {}
  for name, value in text:gmatch "([%w_%-]+):([^\r\n]*)" do fields[name] = value end
  return fields
end

-- A configuration value, or nil when we aren't allowed to ask.
local function config_value(streams, name)
  local reply = streams:command("CONFIG", "GET", name)
  if type(reply) ~= "table" then return nil end
  return reply[2] or reply[name]
end

local function check_version(fields, add)
  local valkey = fields.valkey_version
  local name = valkey and "Valkey" or "Redis"
  local version = valkey or fields.redis_version or "?"
  add("ok", "server", ("%s %s, mode %s, role %s"):format(name, version, fields.redis_mode or fields.server_mode or "?",
    fields.role or "?"))
  if not valkey and is_before(version, "6.2") then
    add("error", "version", "Redis before 6.2 has no XAUTOCLAIM: events of dead consumers can't be recovered",
      "upgrade to Redis 6.2 or later, or to Valkey")
  end
  if valkey and is_before(version, "8.0.6")
    or valkey and not is_before(version, "8.1") and is_before(version, "8.1.4") then
    add("warn", "security", ("Valkey %s lacks the fixes of its Lua engine CVE-2025-49844, CVE-2025-46817, "
      .. "CVE-2025-46818, CVE-2025-46819, unless your distribution has brought them back"):format(version),
      "upgrade to Valkey 8.0.6, 8.1.4 or later")
  end
  local fixed = { { "6.2", "6.2.20" }, { "7.2", "7.2.11" }, { "7.4", "7.4.6" }, { "8.0", "8.0.4" }, { "8.2", "8.2.2" } }
  if not valkey then
    local series = version:match "^%d+%.%d+" or ""
    local limit
    for _, pair in ipairs(fixed) do if pair[1] == series then limit = pair[2] end end
    if limit and is_before(version, limit) or not limit and is_before(version, "8.2") then
      add("warn", "security", ("Redis %s lacks the fixes of its Lua engine CVE-2025-49844, CVE-2025-46817, "
        .. "CVE-2025-46818, CVE-2025-46819, unless your distribution has brought them back"):format(version),
        limit and ("upgrade to Redis %s or later"):format(limit) or "upgrade to a maintained release")
    end
  end
  if fields.role == "slave" or fields.role == "replica" then
    add("error", "role", "this is a replica: it refuses writes", "give the URL of the primary")
  end
  if fields.loading == "1" then add("warn", "loading", "the server is still loading its data") end
end

local function check_persistence(streams, fields, add)
  local aof = config_value(streams, "appendonly")
  if aof == nil and fields.aof_enabled then aof = fields.aof_enabled == "1" and "yes" or "no" end
  local save = config_value(streams, "save")
  if aof == "yes" then
    local fsync = config_value(streams, "appendfsync") or "not readable"
    if fsync == "always" then
      add("ok", "persistence", "append-only file, fsync at every write: an acknowledged event survives a power loss")
    elseif fsync == "no" then
      add("warn", "persistence",
        "append-only file, fsync left to the system: a power loss can take half a minute of events",
        "CONFIG SET appendfsync everysec")
    else
      add("ok", "persistence", ("append-only file, appendfsync %s: a power loss can take about a second of events")
        :format(fsync))
    end
    if fields.aof_last_write_status and fields.aof_last_write_status ~= "ok" then
      add("error", "persistence", "the last write to the append-only file failed",
        "look at the disk and the server's log")
    end
  elseif save and save ~= "" then
    add("warn", "persistence", ("snapshots only (save %s): a crash loses everything since the last one"):format(save),
      "CONFIG SET appendonly yes, and keep it with CONFIG REWRITE")
  elseif save == nil and aof == nil then
    add("warn", "persistence", "unknown: this user may neither read INFO nor CONFIG GET")
  elseif save == nil then
    add("warn", "persistence", "no append-only file; whether there are snapshots is not readable for this user",
      "CONFIG SET appendonly yes")
  else
    add("warn", "persistence", "none: a restart loses every event",
      "CONFIG SET appendonly yes, and keep it with CONFIG REWRITE")
  end
  if fields.rdb_last_bgsave_status and fields.rdb_last_bgsave_status ~= "ok" then
    add("error", "persistence", "the last snapshot failed; with stop-writes-on-bgsave-error the server refuses writes",
      "look at the disk and the server's log")
  end
end

local function check_memory(streams, fields, add)
  local policy = config_value(streams, "maxmemory-policy") or fields.maxmemory_policy
  local limit = tonumber(config_value(streams, "maxmemory") or fields.maxmemory or 0) or 0
  local used = tonumber(fields.used_memory or 0) or 0
  if not policy then
    add("warn", "eviction", "unknown: this user may neither read INFO nor CONFIG GET")
  elseif policy ~= "noeviction" then
    add(limit > 0 and "error" or "warn", "eviction",
      ("maxmemory-policy is %s: %s"):format(policy, limit > 0 and "the server deletes streams when memory is short"
        or "as soon as maxmemory is set, the server will delete streams"),
      "CONFIG SET maxmemory-policy noeviction")
  else
    add("ok", "eviction", "maxmemory-policy noeviction: nothing is deleted behind our back")
  end
  if limit > 0 and used > limit * 0.9 then
    add("warn", "memory", ("%s of %s in use: publishing will soon be refused"):format(size(used), size(limit)),
      "trim topics (max_len), or raise maxmemory")
  elseif used > 0 then
    add("ok", "memory", limit > 0 and ("%s of %s in use"):format(size(used), size(limit))
      or size(used) .. " in use, no limit set")
  end
end

-- Commands, each in a form that the server refuses (or answers) without doing anything: permissions are checked before
-- arguments are. `key` is the topic, `own` a key of tidemill's beside it.
local function probe_words(key, own)
  return {
    ping = { "PING" }, time = { "TIME" },
    xadd = { "XADD", key, "NOMKSTREAM", "no-id", "f", "v" },
    ["xgroup|create"] = { "XGROUP", "CREATE", key, "tidemill-doctor", "no-id" },
    xreadgroup = { "XREADGROUP", "GROUP", "tidemill-doctor", "doctor", "COUNT", "1", "STREAMS", key, "no-id" },
    xack = { "XACK", key, "tidemill-doctor", "0-1" },
    xclaim = { "XCLAIM", key, "tidemill-doctor", "doctor", "0", "no-id" },
    xautoclaim = { "XAUTOCLAIM", key, "tidemill-doctor", "doctor", "0", "no-id" },
    xpending = { "XPENDING", key, "tidemill-doctor", "no-id", "+", "1" },
    xrange = { "XRANGE", key, "no-id", "+" }, xrevrange = { "XREVRANGE", key, "no-id", "-" },
    xlen = { "XLEN", key }, xread = { "XREAD", "STREAMS", own, "no-id" },
    ["xinfo|groups"] = { "XINFO", "GROUPS", key }, ["xinfo|stream"] = { "XINFO", "STREAM", key },
    ["xinfo|consumers"] = { "XINFO", "CONSUMERS", key, "tidemill-doctor" },
    evalsha = { "EVALSHA", ("0"):rep(40), "1", own }, eval = { "EVAL", "return 1", "1", own },
    get = { "GET", own }, set = { "SET", own, "v", "no-option" }, del = { "DEL", own }, exists = { "EXISTS", own },
    pttl = { "PTTL", own }, pexpire = { "PEXPIRE", own, "no-number" }, persist = { "PERSIST", own },
    incrby = { "INCRBY", own, "no-number" },
    zadd = { "ZADD", own, "no-number", "m" }, zrem = { "ZREM", own, "tidemill-doctor" }, zcard = { "ZCARD", own },
    zrange = { "ZRANGE", own, "no-number", "0" }, zrangebyscore = { "ZRANGEBYSCORE", own, "no-number", "0" },
    hset = { "HSET", own, "f", "v", "half" }, hget = { "HGET", own, "f" }, hdel = { "HDEL", own, "tidemill-doctor" },
  }
end

-- What each thing that tidemill does sends, scripts included: a server checks what a script calls, too.
local FEATURES = {
  { name = "publish", role = "producer", level = "error", "ping", "xadd" },
  { name = "publish once, append", role = "producer", level = "warn", "evalsha", "eval", "xadd", "xlen", "get", "set",
    "pttl", "pexpire" },
  { name = "publish later", role = "producer", level = "warn", "evalsha", "eval", "zadd", "hset", "exists", "set",
    "time", "zrange", "xadd", "pexpire", "zrem", "hdel", "get", "del" },
  { name = "consume", role = "consumer", level = "error", "ping", "xgroup|create", "xreadgroup", "xack", "xpending",
    "xclaim", "xautoclaim", "xrange", "xadd", "evalsha", "eval" },
  { name = "create a lost group again at its place", role = "consumer", level = "warn", "xinfo|groups",
    "xinfo|stream" },
  { name = "deliver delayed events", role = "consumer", level = "error", "evalsha", "eval", "zadd", "hset", "time",
    "zrangebyscore", "zrange", "hget", "zrem", "hdel", "xadd" },
  { name = "hear at once of events that other processes delay", role = "consumer", level = "warn", "xread" },
  { name = "use key-values", role = "both", level = "warn", "get", "set", "del", "pttl", "pexpire", "persist", "incrby",
    "evalsha", "eval" },
  { name = "look (info, tail)", role = "both", level = "warn", "xlen", "xrange", "xrevrange", "xinfo|groups",
    "xinfo|consumers", "zcard" },
}

local function is_refused(streams, words)
  local _, err = streams:send(words)
  return type(err) == "table" and err.code == "TIDE-NOPERM"
end

local function has(words, word)
  for _, one in ipairs(words) do if one == word then return true end end
  return false
end

-- Which commands this user lacks, and which of the topic's keys it may not touch. A refusal doesn't say reliably which
-- of the two it is; but keys that are refused are refused to every command.
local function refusals(streams, topic)
  local own = names.derived(topic, "doctor")
  local lacks = {}
  local groups = {
    { key = topic, pattern = "~" .. topic, count = 0, refused = {} },
    { key = own, pattern = "~" .. names.derived(topic, "*"), count = 0, refused = {} },
  }
  for name, words in pairs(probe_words(topic, own)) do
    local is = is_refused(streams, words)
    local keyed
    for _, group in ipairs(groups) do
      if has(words, group.key) then
        keyed = true
        group.count = group.count + 1
        if is then group.refused[#group.refused + 1] = name end
      end
    end
    if is and not keyed then lacks[name] = true end
  end
  local patterns = {}
  local can_eval = not is_refused(streams, { "EVAL", "return 1", "0" })
  for _, group in ipairs(groups) do
    local all = #group.refused == group.count
    if all then patterns[#patterns + 1] = group.pattern end
    -- With the keys closed nothing is known of the commands: named, unless a script shows that commands are open.
    if not (all and can_eval) then
      for _, name in ipairs(group.refused) do lacks[name] = true end
    end
  end
  return lacks, patterns
end

-- The database that this user may not use at all (Valkey from 9.1 has such a rule), as the core's advice names it: then
-- no rule of commands or keys would help, and every probe would be refused.
local function closed_database(streams, topic)
  local _, err = streams:command("XLEN", topic)
  return type(err) == "table" and err.code == "TIDE-NOPERM" and err.message:match "ACL SETUSER %S+ db=(%d+)$"
end

local function check_permissions(streams, topics, role, user, add)
  local listed = #topics > 0 and topics or { "tidemill-doctor" }
  local closed = closed_database(streams, listed[1])
  if closed then
    add("error", "permissions", ("user %s may not use database %s"):format(ui.escape(user, 80), closed),
      ("ACL SETUSER %s db=%s"):format(user, closed))
    return
  end
  local lacks, keys = {}, {}
  for _, topic in ipairs(listed) do
    local missing, patterns = refusals(streams, topic)
    for name in pairs(missing) do lacks[name] = true end
    for _, pattern in ipairs(#topics > 0 and patterns or {}) do keys[#keys + 1] = pattern end
  end
  local fine = true
  for _, feature in ipairs(FEATURES) do
    if role == "both" or feature.role == "both" or feature.role == role then
      local missing = {}
      for _, name in ipairs(feature) do if lacks[name] then missing[#missing + 1] = name end end
      if #missing > 0 then
        fine = false
        add(feature.level, "permissions",
          ("user %s can't %s: it lacks %s"):format(ui.escape(user, 80), feature.name, table.concat(missing, ", ")),
          ("ACL SETUSER %s +%s"):format(user, table.concat(missing, " +")))
      end
    end
  end
  if #keys > 0 then
    fine = false
    local patterns = table.concat(keys, " ")
    add("error", "permissions", ("user %s can't touch the keys %s"):format(ui.escape(user, 80), patterns),
      ("ACL SETUSER %s %s"):format(user, patterns))
  end
  if fine then
    add("ok", "permissions", ("user %s may do all of it%s"):format(ui.escape(user, 80),
      #topics > 0 and " on these topics" or ""))
  end
end

local function examine_redis(bus, topics, role, url, add)
  local streams = bus.streams
  local who = streams:command("ACL", "WHOAMI")
  local user = type(who) == "string" and who or url:match "://([^:@/]+):[^@/]*@" or "default"
  local fields, err = info_fields(streams)
  if not fields then
    add("warn", "server", "INFO is not answered: " .. tostring(err), ("ACL SETUSER %s +info +config|get"):format(user))
    fields = {}
  else
    check_version(fields, add)
  end
  check_persistence(streams, fields, add)
  check_memory(streams, fields, add)
  check_permissions(streams, topics, role, user, add)
  local tls = url:find "^rediss:" or url:find "^valkeys:"
  if tls and (url:find "[?&]insecure=[1yt]") then
    add("warn", "tls", "the server's certificate is not checked (insecure)", "give the authority: ?ca=FILE")
  elseif tls then
    add("ok", "tls", "chain and host name are checked")
  elseif not url:find "^unix:" and not (url:find "://[^/]*127%.0%.0%.1" or url:find "://[^/]*localhost"
    or url:find "://[^/]*%[::1%]") then
    add("warn", "tls", "the connection leaves this machine unencrypted", "use rediss:// or valkeys://")
  end
end

-- ---- memory: and file: ----

local function examine_sqlite(server, url, add)
  local version = server.sqlite_version or server.version or "?"
  add("ok", "engine", ("SQLite %s"):format(version))
  if url:find "^memory:" then
    add("warn", "persistence", "memory: ends with the process", "use file:PATH to keep events")
  else
    local level = tostring(server.synchronous or "?"):lower()
    if level == "full" or level == "extra" or level == "2" or level == "3" then
      add("ok", "persistence", "WAL, synchronous=full: an acknowledged event survives a power loss")
    else
      add("warn", "persistence", ("WAL, synchronous=%s: a power loss can take the last commits"):format(level),
        "leave out ?synchronous=")
    end
    local mode = core.file_mode(server.path or "")
    if mode and mode % 8 ~= 0 then
      add("warn", "file", ("%s can be used by every user of this machine (mode %04o)"):format(server.path, mode),
        ("chmod 600 %s %s-wal %s-shm"):format(server.path, server.path, server.path))
    end
    if version ~= "?" and is_before(version, "3.51.3") then
      add("warn", "sqlite",
        ("SQLite %s has a rare bug when several connections reset the WAL at once (mended in 3.51.3)"):format(version),
        "upgrade SQLite when several processes share the file")
    end
  end
end

-- ---- topics ----

local function examine_topics(bus, topics, add)
  for _, topic in ipairs(topics) do
    local _, err = bus.streams:xlen(topic)
    if err and err.code == "TIDE-WRONGTYPE" then
      add("error", "topic", ("the key %s is no stream: another program has that name"):format(topic),
        "use another name for the topic, or RENAME the key")
    end
  end
end

-- ---- the report ----

local MARKS = { ok = { "green", "ok" }, warn = { "yellow", "warning" }, error = { "red", "WRONG" } }

local function show(url, findings, as_json)
  local counts = { ok = 0, warn = 0, error = 0 }
  for _, finding in ipairs(findings) do counts[finding.level] = counts[finding.level] + 1 end
  if as_json then
    local list = json.array {}
    for index, finding in ipairs(findings) do
      list[index] = json.record { { "level", finding.level }, { "check", finding.check }, { "text", finding.text },
        { "fix", finding.fix } }
    end
    ui.write(json.encode(json.record {
      { "url", url }, { "findings", list }, { "warnings", counts.warn }, { "errors", counts.error } }), "\n")
  else
    ui.write(ui.escape(url), "\n")
    for _, finding in ipairs(findings) do
      local mark = MARKS[finding.level]
      ui.write("  ", ui.paint(mark[1], ("%-8s"):format(mark[2])), (" %-12s "):format(finding.check),
        ui.escape(finding.text), "\n")
      if finding.fix then ui.write((" "):rep(24), ui.paint("dim", "-> " .. ui.escape(finding.fix)), "\n") end
    end
    ui.write(("%d ok, %d warning%s, %d wrong\n"):format(counts.ok, counts.warn, counts.warn == 1 and "" or "s",
      counts.error))
  end
  return counts
end

-- The bus; or the report, when the password file may be why there is none.
local function connect(options, cli, findings, add)
  local path = secret.path_of((cli.url(options)))
  local is_fine = not path or secret.examine(path, add)
  local ok, bus, server = pcall(cli.connect, options, true)
  if ok then return bus, server end
  local failure = bus
  if is_fine or not ui.is_failure(failure) or failure.exit ~= ui.UNREACHABLE then error(failure, 0) end
  add("error", "server", failure.message)
  show(core.redact((cli.url(options))), findings, options.json)
  ui.fail(failure.exit)
end

function M.run(options, cli)
  for _, topic in ipairs(options.topic) do cli.check_topic(topic) end
  local findings, add = reporter()
  local bus, server = connect(options, cli, findings, add)
  local url = bus.url
  if options.insecure and not url:find "insecure" then url = url .. (url:find "?" and "&" or "?") .. "insecure=1" end
  if bus.engine == "sqlite" then
    examine_sqlite(server, url, add)
  else
    examine_redis(bus, options.topic, options.role, url, add)
  end
  examine_topics(bus, options.topic, add)
  bus:close()
  local counts = show(bus.url, findings, options.json)
  if counts.error > 0 or (options.strict and counts.warn > 0) then return ui.FAILURE end
  return ui.OK
end

return M
