-- `tidemill migrate FROM TO`: topics with their groups, positions, pending events and attempt counts, delayed events,
-- dead letters and key-values, from any engine to any other.
--
-- Every step may be done twice: entries keep their ids, so what is there already says where to go on; groups, pending
-- entries, delayed events and values are set, not added. A journal at TO (key-value tidemill:migrate) names the topics
-- that were begun, so that a topic of the same name which is somebody else's is never written to.

local json = require "tidemill.cli.json"
local names = require "tidemill.names"
local ui = require "tidemill.cli.ui"

local M = {
  summary = "Copy topics, groups, dead letters and key-values to another engine.",
  description = "Copies topics with their groups, positions, pending events and attempt counts, delayed events, dead "
    .. "letters and key-values. FROM is only read. Stop publishers and workers first; or run it once with them and "
    .. "once more without: a second run copies what has come since. It may be interrupted and started again. The ids "
    .. "that were published with 'dedupe' stay behind: at TO such an event can be published once more in its window.",
}

local PAGE = 200
local WAIT = { wait = true }

function M.define(command, cli)
  command:argument("from", "URL to copy from.")
  command:argument("to", "URL to copy to.")
  command:option("-t --topics", "Only these topics, separated by commas; may be repeated."):argname("A,B"):count "*"
  command:flag("--no-kv", "Leave out the key-values."):target "no_kv"
  command:option("--kv", "With --topics: copy the key-values of that namespace, too; may be repeated.")
    :argname("NAME"):count "*"
  command:flag("-n --dry-run", "Count only, write nothing.")
  cli.add_json(command)
end

-- ---- commands of either side ----

-- A reply, or the end of the command.
local function ask(side, ...)
  local reply, err = side.bus.streams:command(...)
  if reply == nil then ui.fail_with(err, ("%s: %s"):format(side.name, (...))) end
  return reply
end

-- A reply, or nil and the error.
local function try(side, ...)
  return side.bus.streams:command(...)
end

-- Replies of XINFO are lists of names and values.
local function named(list)
  local found = {}
  for index = 1, #list, 2 do found[list[index]] = list[index + 1] end
  return found
end

local function keys_of_type(side, kind)
  local found, seen, cursor = {}, {}, "0"
  repeat
    local reply, err = try(side, "SCAN", cursor, "COUNT", "1000", "TYPE", kind)
    if not reply then
      if err.code == "TIDE-UNSUPPORTED" then
        ui.fail(ui.FAILURE, ("%s can't list its topics: name them with --topics"):format(side.name))
      end
      ui.fail_with(err, side.name)
    end
    cursor = tostring(reply[1])
    for _, key in ipairs(reply[2]) do
      if not seen[key] then
        seen[key] = true
        found[#found + 1] = key
      end
    end
  until cursor == "0"
  table.sort(found)
  return found
end

local function length(side, stream)
  return ask(side, "XLEN", stream)
end

local function groups_of(side, stream)
  local reply, err = try(side, "XINFO", "GROUPS", stream)
  if not reply then
    if err.code == "TIDE-NOTFOUND" or err.code == "TIDE-REPLY" then return {} end -- no such stream
    ui.fail_with(err, side.name)
  end
  local groups = {}
  for index, item in ipairs(reply) do groups[index] = item.name and item or named(item) end
  table.sort(groups, function(a, b) return a.name < b.name end)
  return groups
end

local function delayed_count(side, topic)
  return ask(side, "ZCARD", names.derived(topic, "delayed"))
end

-- The id that follows, as the beginning of the next page.
local function after(id)
  local ms, seq = id:match "^(%d+)%-(%d+)$"
  if seq == "18446744073709551615" then return "(" .. id end
  -- Digits only: a Lua number would round them.
  local digits, carry = {}, 1
  for digit in seq:reverse():gmatch "%d" do
    local sum = tonumber(digit) + carry
    carry = sum > 9 and 1 or 0
    digits[#digits + 1] = sum % 10
  end
  if carry == 1 then digits[#digits + 1] = 1 end
  return ms .. "-" .. table.concat(digits):reverse()
end

-- Calls `take(entries)` with the stream's entries from an id on, a page at a time: { { id, { name, value … } }, … }.
local function each_page(side, stream, from, take)
  while true do
    local page = ask(side, "XRANGE", stream, from, "+", "COUNT", tostring(PAGE))
    if #page == 0 then return end
    take(page)
    if #page < PAGE then return end
    from = after(page[#page][1])
  end
end

-- ---- what there is to do ----

local function is_own_key(key)
  return key:find("}:dedupe:", 1, true) or key:find "}[^:]*:version$" or key:find("}:delayed", 1, true)
    or key:find "^tidemill:migrate"
end

local function split_list(words)
  local found = {}
  for _, word in ipairs(words or {}) do
    word = type(word) == "table" and word[1] or word
    for name in word:gmatch "[^,]+" do found[#found + 1] = name end
  end
  return found
end

-- The streams to copy: topics, and their dead letters as streams of their own.
local function plan(source, options)
  local wanted = split_list(options.topics)
  local streams, seen = {}, {}
  local function add(name)
    if not seen[name] then
      seen[name] = true
      streams[#streams + 1] = name
    end
  end
  if #wanted > 0 then
    for _, name in ipairs(wanted) do
      local letters = names.derived(name, "dlq")
      local delayed = delayed_count(source, name)
      if length(source, name) == 0 and #groups_of(source, name) == 0 and delayed == 0 then
        ui.fail(ui.FAILURE, ("%s has no topic '%s'"):format(source.name, ui.escape(name, 200)))
      end
      add(name)
      if length(source, letters) > 0 then add(letters) end
    end
  else
    for _, name in ipairs(keys_of_type(source, "stream")) do add(name) end
    -- A topic whose events are all still to come has no stream yet.
    for _, key in ipairs(keys_of_type(source, "zset")) do
      local name = key:match "^{([^{}]*)}:delayed$" or key:match "^(.*{.+}.*):delayed$"
      if name then add(name) end
    end
  end
  return streams, #wanted > 0
end

local function kv_keys(source, options, only_topics)
  if options.no_kv then return {} end
  local namespaces = split_list(options.kv)
  if only_topics and #namespaces == 0 then return {} end
  local found = {}
  for _, key in ipairs(keys_of_type(source, "string")) do
    if not is_own_key(key) then
      local wanted = #namespaces == 0
      for _, namespace in ipairs(namespaces) do
        wanted = wanted or key:sub(1, #namespace + 1) == namespace .. ":"
      end
      if wanted then found[#found + 1] = key end
    end
  end
  return found
end

-- ---- the journal ----

local JOURNAL = "journal"

local function read_journal(target)
  local kv = target.bus:kv "tidemill:migrate"
  local text, err = kv:get(JOURNAL)
  if err then ui.fail_with(err, target.name) end
  return text and json.decode(text) or { topics = {} }
end

local function write_journal(target, journal)
  local ok, err = target.bus:kv("tidemill:migrate"):set(JOURNAL, json.encode(journal))
  if not ok then ui.fail_with(err, target.name) end
end

-- ---- copying ----

-- Runs many commands side by side, in their order: the first failure, if any, and the replies.
local function run_together(side, commands)
  local left, failure, replies = #commands, nil, {}
  for index, words in ipairs(commands) do
    side.bus:spawn(function()
      local reply, err = side.bus.streams:send(words)
      if reply == nil and not (failure and failure.index < index) then failure = { index = index, err = err } end
      replies[index] = reply
      left = left - 1
    end)
  end
  while left > 0 do
    local ok, err = side.bus:tick(0.2, WAIT)
    if not ok then return err end
  end
  return failure and failure.err, replies
end

local function copy_entries(source, target, stream, on_progress)
  local last = ask(target, "XREVRANGE", stream, "+", "-", "COUNT", "1")
  local from = last[1] and after(last[1][1]) or "-"
  each_page(source, stream, from, function(page)
    local commands = {}
    for index, entry in ipairs(page) do
      local words = { "XADD", stream, entry[1] }
      for _, word in ipairs(entry[2]) do words[#words + 1] = word end
      commands[index] = words
    end
    local err = run_together(target, commands)
    if err then ui.fail_with(err, ("%s: %s"):format(target.name, ui.escape(stream, 200))) end
    on_progress(#page)
  end)
end

-- Where the stream's ids and counters stand, so that nothing new is written before what was there.
local function copy_position(source, target, stream)
  local reply = try(source, "XINFO", "STREAM", stream)
  if not reply then return end
  local info = reply["last-generated-id"] and reply or named(reply)
  local last = info["last-generated-id"]
  if not last then return end
  local added, deleted = info["entries-added"], info["max-deleted-entry-id"]
  if added and deleted then
    local ok = try(target, "XSETID", stream, last, "ENTRIESADDED", tostring(added), "MAXDELETEDID", deleted)
    if ok then return end
  end
  try(target, "XSETID", stream, last)
end

local function copy_groups(source, target, stream)
  for _, group in ipairs(groups_of(source, stream)) do
    local position = group["last-delivered-id"]
    local read = tonumber(tostring(group["entries-read"]))
    local words = { "XGROUP", "CREATE", stream, group.name, position, "MKSTREAM" }
    if read then
      words[#words + 1] = "ENTRIESREAD"
      words[#words + 1] = ("%.0f"):format(read)
    end
    local ok, err = target.bus.streams:send(words)
    if not ok and read and err.code ~= "TIDE-EXISTS" and err.server ~= "BUSYGROUP" then
      ok, err = try(target, "XGROUP", "CREATE", stream, group.name, position, "MKSTREAM")
    end
    if not ok and (err.code == "TIDE-EXISTS" or err.server == "BUSYGROUP") then
      ok, err = try(target, "XGROUP", "SETID", stream, group.name, position)
    end
    if not ok then ui.fail_with(err, ("%s: group %s"):format(target.name, ui.escape(group.name, 200))) end
  end
end

-- Calls take(id, consumer, idle ms, attempts) for each pending entry of a group.
local function each_pending(side, stream, group, take)
  local from = "-"
  while true do
    local page = ask(side, "XPENDING", stream, group, from, "+", tostring(PAGE))
    for _, item in ipairs(page) do take(item[1], item[2], item[3], item[4]) end
    if #page < PAGE then return end
    from = after(page[#page][1])
  end
end

local function copy_pending(source, target, stream)
  for _, group in ipairs(groups_of(source, stream)) do
    local wanted, commands = {}, {}
    local function flush()
      local err = run_together(target, commands)
      if err then ui.fail_with(err, ("%s: pending events of %s"):format(target.name, ui.escape(group.name, 200))) end
      commands = {}
    end
    each_pending(source, stream, group.name, function(id, consumer, idle, attempts)
      wanted[id] = true
      commands[#commands + 1] = { "XCLAIM", stream, group.name, consumer, "0", id, "IDLE", ("%.0f"):format(idle),
        "RETRYCOUNT", ("%.0f"):format(attempts), "FORCE", "JUSTID" }
      if #commands == PAGE then flush() end
    end)
    flush()
    -- A second run: what was settled at the source meanwhile is settled here, too.
    local settled = {}
    each_pending(target, stream, group.name, function(id) if not wanted[id] then settled[#settled + 1] = id end end)
    for _, id in ipairs(settled) do ask(target, "XACK", stream, group.name, id) end
  end
end

-- A little-endian number of four bytes.
local function number_at(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216, at + 4
end

-- The fields of a packed XADD: the number of its arguments, then each with its length in front.
local function unpack_fields(packed)
  local count, at = number_at(packed, 1)
  local words = {}
  for index = 1, count do
    local size
    size, at = number_at(packed, at)
    words[index] = packed:sub(at, at + size - 1)
    at = at + size
  end
  local first = words[1] == "MAXLEN" and 5 or 2 -- behind the *
  local fields = {}
  for index = first, count - 1, 2 do fields[#fields + 1] = { words[index], words[index + 1] } end
  return fields
end
M.unpack_fields = unpack_fields

-- Calls take(member, due ms, packed) for each delayed event, by its time.
local function each_delayed(side, topic, take)
  local set, events = names.derived(topic, "delayed"), names.derived(topic, "delayed:events")
  local first = 0
  while true do
    local page = ask(side, "ZRANGE", set, ("%d"):format(first), ("%d"):format(first + PAGE - 1), "WITHSCORES")
    if #page == 0 then return end
    local commands = {}
    for index = 1, #page, 2 do commands[#commands + 1] = { "HGET", events, page[index] } end
    local err, packed = run_together(side, commands)
    if err then ui.fail_with(err, side.name) end
    for index = 1, #page, 2 do
      local text = packed[(index + 1) / 2]
      if type(text) == "string" then take(page[index], tonumber(page[index + 1]), text) end
    end
    first = first + #page / 2
  end
end

local OWN = {
  event_id = "id", event_type = "type", aggregate_id = "aggregate_id", aggregate_type = "aggregate_type",
  version = "version", occurred_at = "occurred_at", data = "data", content_type = "content_type",
}

local function delayed_event(member, due, packed)
  local event, metadata = { at = math.max(due, 1) / 1000 }, {}
  for _, field in ipairs(unpack_fields(packed)) do
    local own = OWN[field[1]]
    if own then event[own] = field[2] else metadata[field[1]] = field[2] end
  end
  event.id = event.id or member
  event.content_type = event.content_type or "application/json"
  if next(metadata) then event.metadata = metadata end
  return event
end

local function copy_delayed(source, target, topic)
  if delayed_count(source, topic) == 0 then return end
  if source.bus.engine == "redis" and target.bus.engine == "redis" then
    each_delayed(source, topic, function(member, due, packed)
      ask(target, "ZADD", names.derived(topic, "delayed"), ("%.0f"):format(due), member)
      ask(target, "HSET", names.derived(topic, "delayed:events"), member, packed)
    end)
    return
  end
  local into = target.bus:topic(topic)
  each_delayed(source, topic, function(member, due, packed)
    into:cancel(member) -- a second run
    local result, err = into:publish(delayed_event(member, due, packed))
    if not result then ui.fail_with(err, ("%s: delayed event %s"):format(target.name, ui.escape(member, 200))) end
  end)
end

-- The version of a stream: an append that can't succeed tells it.
local function version_of(side, topic)
  local _, err = side.bus:topic(topic):append({ { type = "never" } }, { expected = 2 ^ 53 - 1 })
  return type(err) == "table" and tonumber(err.actual) or nil
end

local function copy_version(source, target, topic, untold)
  local version = version_of(source, topic)
  if not version or version == 0 or version == version_of(target, topic) then return end
  local text = ("%.0f"):format(version)
  if not try(target, "SET", names.derived(topic, "version"), text) or version_of(target, topic) ~= version then
    untold[#untold + 1] = ("%s is at version %s at the source, at %s at the target"):format(topic, text,
      tostring(version_of(target, topic)))
  end
end

-- ---- key-values ----

-- The verbs of the port, for keys of any namespace.
local GET, SET = 0, 1

local function kv_request(side, verb, key, value, ttl_ms)
  return side.bus:request("migrate", function(core, tag)
    return core:kv(tag, verb, key, value, nil, nil, ttl_ms)
  end)
end

local function copy_values(source, target, keys, on_progress)
  local copied = 0
  for _, key in ipairs(keys) do
    local value, err = kv_request(source, GET, key)
    if value == nil and type(err) == "table" then
      ui.fail_with(err, ("%s: %s"):format(source.name, ui.escape(key, 200)))
    end
    if value ~= nil then
      local ttl = tonumber(ask(source, "PTTL", key))
      local _, trouble = kv_request(target, SET, key, value, ttl > 0 and ttl or nil)
      if type(trouble) == "table" then
        ui.fail_with(trouble, ("%s: %s"):format(target.name, ui.escape(key, 200)))
      end
      copied = copied + 1
    end
    on_progress(1)
  end
  return copied
end

-- ---- counting ----

-- What a side holds of a stream. Pending entries whose event is gone can't be copied and don't count.
local function count(side, stream)
  local found = { events = length(side, stream), groups = 0, pending = 0, delayed = delayed_count(side, stream) }
  for _, group in ipairs(groups_of(side, stream)) do
    found.groups = found.groups + 1
    local ids = {}
    each_pending(side, stream, group.name, function(id) ids[#ids + 1] = id end)
    for _, id in ipairs(ids) do
      if #ask(side, "XRANGE", stream, id, id) > 0 then found.pending = found.pending + 1 end
    end
  end
  return found
end

local WHAT = { "events", "groups", "pending", "delayed" }

local function report(rows, values, options, agree)
  if options.json then
    local list = json.array {}
    for index, row in ipairs(rows) do
      list[index] = json.record {
        { "topic", row.stream }, { "from", row.from }, { "to", row.to }, { "agree", row.to and row.agree } }
    end
    ui.write(json.encode(json.record {
      { "topics", list }, { "key_values", json.record { { "from", values.from }, { "to", values.to } } },
      { "agree", agree } }), "\n")
    return
  end
  local cells = {}
  for index, row in ipairs(rows) do
    local line = { row.stream }
    for _, name in ipairs(WHAT) do
      local from, to = row.from[name], row.to and row.to[name]
      line[#line + 1] = (to == nil or to == from) and from or ("%d, not %d"):format(to, from)
    end
    cells[index] = line
  end
  ui.table({ "topic", "events", "groups", "pending", "delayed" }, cells)
  if values.to and values.to ~= values.from then
    ui.write(("  key-values %d, not %d\n"):format(values.to, values.from))
  else
    ui.write(("  key-values %d\n"):format(values.from))
  end
end

local function check_target(target, streams, journal)
  for _, stream in ipairs(streams) do
    if not journal.topics[stream] then
      local kind, err = try(target, "TYPE", stream)
      local is_there
      if kind == nil then
        if err.code ~= "TIDE-UNSUPPORTED" then ui.fail_with(err, target.name) end
        is_there = length(target, stream) > 0
      else
        is_there = tostring(kind) ~= "none"
      end
      if is_there then
        ui.fail(ui.FAILURE, ("%s has something named '%s' already, which no migration has put there"):format(
          target.name, ui.escape(stream, 200)))
      end
    end
  end
end

local function side_of(name, url, options, cli)
  return { name = name, bus = (cli.connect_to(url, options, name)) }
end

function M.run(options, cli)
  if options.from == options.to then ui.fail(ui.USAGE, "FROM and TO are the same") end
  if options.to:find "^memory:" and not options.dry_run then
    ui.fail(ui.USAGE, "TO is memory:, which would be gone at once")
  end
  for _, topic in ipairs(split_list(options.topics)) do cli.check_topic(topic) end
  cli.open(options.from, options):close()
  cli.open(options.to, options):close()
  cli.check_file(options.from, "FROM")
  local source = side_of("FROM", options.from, options, cli)
  local streams, only_topics = plan(source, options)
  local keys = kv_keys(source, options, only_topics)
  local rows = {}
  local total = #keys
  for index, stream in ipairs(streams) do
    rows[index] = { stream = stream, from = count(source, stream) }
    total = total + rows[index].from.events
  end
  if options.dry_run then
    report(rows, { from = #keys }, options, nil)
    return ui.OK
  end

  local target = side_of("TO", options.to, options, cli)
  local journal = read_journal(target)
  check_target(target, streams, journal)
  local done = 0
  for _, stream in ipairs(streams) do
    if journal.topics[stream] then done = done + length(target, stream) end
    journal.topics[stream] = true
  end
  journal.from = source.bus.url
  write_journal(target, journal)
  if done > 0 and not options.json then ui.note("going on: %d events are there already", done) end

  local progress = ui.progress("copying", total)
  local function advance(number)
    done = done + number
    progress(done)
  end
  local untold = {}
  for _, stream in ipairs(streams) do
    copy_entries(source, target, stream, advance)
    copy_position(source, target, stream)
    copy_groups(source, target, stream)
    copy_pending(source, target, stream)
    copy_delayed(source, target, stream)
    if not stream:find "}[^:]*:dlq$" then copy_version(source, target, stream, untold) end
  end
  local values = { from = #keys, to = copy_values(source, target, keys, advance) }
  progress(done, true)

  local agree = values.from == values.to
  for _, row in ipairs(rows) do
    -- Counted again on both sides: whatever came meanwhile shows.
    row.from, row.to, row.agree = count(source, row.stream), count(target, row.stream), true
    for _, name in ipairs(WHAT) do row.agree = row.agree and row.from[name] == row.to[name] end
    agree = agree and row.agree
  end
  report(rows, values, options, agree)
  for _, line in ipairs(untold) do ui.note("%s", line) end
  source.bus:close()
  target.bus:close()
  if not agree then ui.fail(ui.FAILURE, "the two sides differ: run it again, with publishers and workers stopped") end
  if #untold > 0 then return ui.FAILURE end
  if not options.json then ui.write "both sides agree\n" end
  return ui.OK
end

return M
