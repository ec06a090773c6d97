-- `tidemill tail TOPIC`: the last events of a topic, and those that come.

local core = require "tidemill.core"
local json = require "tidemill.cli.json"
local ui = require "tidemill.cli.ui"

local M = {
  summary = "Show a topic's last events, and follow it.",
  description = "Shows the last events of a topic (10, or -n of them) without touching any group. Whatever is in them "
    .. "is escaped, so that it can't play tricks on a terminal.",
}

local PAGE = 500
local LOOK = 0.25 -- seconds between two looks at whether anybody still reads the output

function M.define(command, cli)
  command:argument("topic", "The topic.")
  cli.add_url(command)
  cli.add_number(command, "-n --count", "How many (default 10; with --follow, 0 shows only what is new).", "N",
    0, 1e9, true)
  command:flag("-f --follow", "Go on with what comes, until interrupted.")
  command:option("--from", "Begin at that stream id instead of the end."):argname "ID"
  command:option("--type", "Only these: a type, a pattern such as pull_request.*, or *."):argname "PATTERN"
  cli.add_json(command, "One JSON object a line; `tidemill publish --file -` reads it.")
end

-- ---- entries ----

local KNOWN = {
  event_id = "id", id = "id", event_type = "type", type = "type", aggregate_id = "aggregate_id",
  aggregate_type = "aggregate_type", version = "version", occurred_at = "occurred_at", timestamp = "occurred_at",
  data = "data", payload = "data", event_data = "data", content_type = "content_type",
}

local function add_field(event, rest, name, value)
  local known = KNOWN[name]
  if known and (event[known] == nil or name == known or name:find "^event_[it]") then
    event[known] = value
  else
    rest[name] = value
  end
end

--- An entry's known fields, and all the others.
local function split(entry)
  local event, rest = {}, {}
  for name, value in pairs(entry.fields or {}) do add_field(event, rest, name, value) end
  return event, rest
end

local function matcher(pattern)
  if not pattern or pattern == "*" then return function() return true end end
  local prefix = pattern:match "^(.*)%*$"
  if prefix then
    return function(type_name) return (type_name or ""):sub(1, #prefix) == prefix end
  end
  return function(type_name) return type_name == pattern end
end

local function is_json(event)
  return event.data and (not event.content_type or event.content_type:find "json")
    and ui.is_utf8(event.data) and json.decode(event.data) ~= nil
end

local function print_json(entry)
  local event, rest = split(entry)
  local data = event.data
  if is_json(event) then data = json.raw(data) end
  ui.write(json.encode(json.record {
    { "stream_id", entry.id }, { "id", event.id }, { "type", event.type }, { "aggregate_id", event.aggregate_id },
    { "aggregate_type", event.aggregate_type }, { "version", event.version }, { "occurred_at", event.occurred_at },
    { "content_type", event.content_type }, { "data", data }, { "metadata", next(rest) and rest or nil },
  }), "\n")
end

local function print_line(entry)
  local event, rest = split(entry)
  local words = { ui.paint("dim", entry.id), ui.paint("bold", ui.escape(event.type or "-", 120)) }
  if event.aggregate_id then words[#words + 1] = ui.escape(event.aggregate_id, 120) end
  local names = {}
  for name in pairs(rest) do names[#names + 1] = name end
  table.sort(names)
  if event.data then words[#words + 1] = ui.escape(event.data) end
  for _, name in ipairs(names) do
    words[#words + 1] = ui.paint("dim", ui.escape(name, 60) .. "=" .. ui.escape(rest[name], 200))
  end
  ui.write(table.concat(words, "  "), "\n")
end

-- ---- reading ----

-- A range's end that leaves the entry of this id out.
local function but(id)
  return "(" .. id
end

-- The last `count` entries that match, oldest first; read backwards, a page at a time.
local function last_entries(streams, key, count, matches)
  local found, upper = {}, "+"
  while #found < count do
    local page, err = streams:xrevrange(key, upper, "-", { count = PAGE })
    if not page then ui.fail_with(err, key) end
    for _, entry in ipairs(page) do
      if #found < count and matches((split(entry)).type) then found[#found + 1] = entry end
    end
    if #page < PAGE then break end
    upper = but(page[#page].id)
  end
  local ordered = {}
  for index = #found, 1, -1 do ordered[#ordered + 1] = found[index] end
  return ordered
end

local function last_id(streams, key)
  local page, err = streams:xrevrange(key, "+", "-", { count = 1 })
  if not page then ui.fail_with(err, key) end
  return page[1] and page[1].id or "0-0"
end

-- One read that waits for what comes. A reader that has gone away ends the command meanwhile: without an event to write
-- nothing else would tell of it.
local function await(bus, key, last)
  local answered, reply, err
  bus:spawn(function()
    reply, err = bus.streams:xread { streams = { [key] = last }, count = PAGE, block = 2 }
    answered = true
  end)
  while not answered do
    if core.is_hung_up(1) then ui.fail(ui.PIPE) end
    local ok, trouble = bus:tick(LOOK, { wait = true })
    if not ok then return nil, trouble end
  end
  return reply, err
end

local function follow(bus, key, from, matches, show)
  io.stdout:setvbuf "line"
  local last, trouble = from, nil
  while true do
    local reply, err = await(bus, key, last)
    if reply == nil and err then
      if not err.retryable then ui.fail_with(err, key) end
      if trouble ~= err.code then
        trouble = err.code
        ui.note("%s; trying again", tostring(err))
      end
      bus:sleep(1)
    else
      trouble = nil
      local entries = type(reply) == "table" and (reply[key] or (reply[1] and reply[1].entries)) or {}
      for _, entry in ipairs(entries) do
        last = entry.id
        if matches((split(entry)).type) then show(entry) end
      end
      ui.flush()
    end
  end
end

local function is_id(text)
  return text:find "^%d+$" or text:find "^%d+%-%d+$" or text == "-" or text == "0"
end

function M.run(options, cli)
  if options.from and not is_id(options.from) then
    local shown = ui.escape(options.from, 60)
    ui.fail(ui.USAGE, ("--from wants a stream id such as 1700000000000-0, not '%s'"):format(shown))
  end
  cli.check_topic(options.topic)
  local bus = cli.connect(options, true)
  local streams, key = bus.streams, options.topic
  local matches = matcher(options.type)
  local print_entry = options.json and print_json or print_line
  local shown = 0
  local function show(entry)
    shown = shown + 1
    print_entry(entry)
  end
  local last
  if options.from then
    local lower, left = options.from, options.count or math.huge
    while left > 0 do
      local page, err = streams:xrange(key, lower, "+", { count = PAGE })
      if not page then ui.fail_with(err, key) end
      for _, entry in ipairs(page) do
        if left > 0 and matches((split(entry)).type) then
          show(entry)
          left = left - 1
        end
        last = entry.id
      end
      if #page < PAGE then break end
      lower = but(page[#page].id)
    end
  else
    if options.follow then last = last_id(streams, key) end
    local count = options.count or 10
    local entries = count > 0 and last_entries(streams, key, count, matches) or {}
    for _, entry in ipairs(entries) do show(entry) end
    if entries[#entries] and options.follow then last = entries[#entries].id end
  end
  ui.flush()
  if options.follow then follow(bus, key, last or "0-0", matches, show) end
  bus:close()
  -- On stderr, so that no reader of the output takes it for an event.
  if shown == 0 and options.count ~= 0 then
    ui.note("%s has no events%s%s", key, options.type and " of type " .. options.type or "",
      options.from and " from " .. options.from .. " on" or "")
  end
  return ui.OK
end

return M
