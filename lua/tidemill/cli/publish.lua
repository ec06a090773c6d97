-- `tidemill publish TOPIC TYPE [DATA]`: one event, or many from lines of JSON.

local json = require "tidemill.cli.json"
local ui = require "tidemill.cli.ui"

local M = {
  summary = "Publish one event, or many from lines of JSON.",
  description = "Publishes one event whose data is DATA (JSON text; - is standard input, @FILE a file), or with --file "
    .. "one event for each line of JSON: with TYPE a line is the data, without TYPE a line is an event with type, data "
    .. "and so on, as `tidemill tail --json` prints it.",
}

local BATCH = 500

function M.define(command, cli)
  command:argument("topic", "The topic; it need not be there yet.")
  command:argument("type", "The event's type."):args "?"
  command:argument("data", "JSON text, - or @FILE (default: null)."):args "?"
  cli.add_url(command)
  command:option("--id", "Event id (default: a new one)."):argname "ID"
  command:option("--aggregate-id", "Id of the thing the event is about."):argname "ID"
  command:option("--aggregate-type", "Type of that thing."):argname "TYPE"
  command:option("--meta", "A metadata field; may be repeated."):argname("K=V"):count "*"
  command:option("--content-type", "DATA is not JSON but this."):argname "TYPE"
  cli.add_number(command, "--delay", "Deliver after that many seconds.", "S", 0, 1e9)
  cli.add_number(command, "--at", "Deliver at that Unix time.", "TIME", 0.001, 1e11)
  cli.add_number(command, "--dedupe", "Don't write it again when its --id was published within that many seconds.", "S",
    0, 1e9)
  command:option("--expected", "Only when the stream is there: any, no_stream, exists or a version."):argname "V"
  command:option("--file", "Lines of JSON; - is standard input."):argname "FILE"
  cli.add_number(command, "--count", "Publish the event that many times.", "N", 1, 1e9, true)
  cli.add_max_payload(command)
  cli.add_json(command, "Print the results as JSON.")
end

local function read_all(path)
  if path == "-" then
    local text, err = io.stdin:read "*a"
    if not text then ui.fail(ui.FAILURE, ("cannot read standard input: %s"):format(err)) end
    return text
  end
  local file, err = io.open(path, "rb")
  if not file then ui.fail(ui.FAILURE, "cannot read " .. err) end
  local text, read_err = file:read "*a"
  file:close()
  if not text then ui.fail(ui.FAILURE, ("cannot read %s: %s"):format(path, read_err)) end
  return text
end

-- DATA as the event's data: JSON is checked here, so that what is published can be read.
local function event_data(text, content_type)
  if not text then return nil end
  if text == "-" then text = read_all "-"
  elseif text == "@" then ui.fail(ui.USAGE, "DATA is @ without a file's name behind it")
  elseif text:sub(1, 1) == "@" then text = read_all(text:sub(2)) end
  if content_type then return text, content_type end
  local value, err = json.decode(text)
  if value == nil and err then
    ui.fail(ui.USAGE, ("DATA is not JSON (%s); for a string write '\"…\"', for anything else give --content-type")
      :format(err))
  end
  -- The text as it was written: no number of it is rounded.
  return text, "application/json"
end

local function metadata(list)
  local found
  for _, word in ipairs(list or {}) do
    word = type(word) == "table" and word[1] or word
    local name, value = word:match "^([^=]+)=(.*)$"
    if not name then ui.fail(ui.USAGE, ("--meta wants K=V, not '%s'"):format(ui.escape(word, 60))) end
    found = found or {}
    found[name] = value
  end
  return found
end

local EXPECTED = { any = true, no_stream = true, exists = true }

local function expected_version(text)
  if EXPECTED[text] then return text end
  if text:find "^%d+$" then return tonumber(text) end
  ui.fail(ui.USAGE, ("--expected wants any, no_stream, exists or a version, not '%s'"):format(ui.escape(text, 60)))
end

local function result_record(result)
  if result.error then
    return json.record { { "error", tostring(result.error) }, { "code", result.error.code } }
  end
  return json.record {
    { "id", result.id }, { "stream_id", result.stream_id },
    { "duplicate", result.duplicate or nil }, { "delayed", result.delayed or nil },
  }
end

local function print_result(result, options)
  if options.json then
    ui.write(json.encode(result_record(result)), "\n")
  elseif result.delayed then
    ui.write(ui.escape(result.id), "  (delayed)\n")
  else
    ui.write(result.stream_id, "  ", ui.escape(result.id), result.duplicate and "  (duplicate)" or "", "\n")
  end
end

local function publish_one(topic, event, options, cli)
  if options.expected then
    local appended, err = cli.checked(topic.append, topic, { event }, { expected = expected_version(options.expected) })
    if not appended and err.code == "TIDE-CONFLICT" then
      ui.fail(ui.FAILURE, ("%s: %s is at version %d, expected was %s"):format(err.code, options.topic, err.actual,
        options.expected))
    end
    if not appended then ui.fail_with(err) end
    if options.json then
      ui.write(json.encode(json.record {
        { "version", appended.version }, { "stream_ids", json.array(appended.stream_ids) } }), "\n")
    else
      ui.write(appended.stream_ids[1], "  version ", ("%d"):format(appended.version), "\n")
    end
    return ui.OK
  end
  local result, err = cli.checked(topic.publish, topic, event)
  if not result then ui.fail_with(err) end
  print_result(result, options)
  return ui.OK
end

-- ---- many ----

local EVENT_KEYS = {
  type = true, data = true, id = true, aggregate_id = true, aggregate_type = true, version = true, occurred_at = true,
  content_type = true, metadata = true,
}
-- Where an event once was; a new one gets its own.
local IGNORED_KEYS = { stream_id = true, stream = true, topic = true }

-- A string that isn't UTF-8 as `tail --json` writes it, back as bytes; anything else as it is.
local function unpacked(value)
  if type(value) == "table" and type(value.base64) == "string" then
    local name, other = next(value)
    if name == "base64" and next(value, name) == nil then return json.bytes(other) or value end
  end
  return value
end

local function line_event(line, number, options)
  local value, err = json.decode(line)
  if value == nil then return nil, ("line %d: not JSON: %s"):format(number, err) end
  if options.type then
    return { type = options.type, data = line, content_type = "application/json", metadata = metadata(options.meta) }
  end
  if type(value) ~= "table" or type(value.type) ~= "string" then
    return nil, ("line %d: not an event: it needs a \"type\" (or give TYPE on the command line)"):format(number)
  end
  local event = {}
  for name, item in pairs(value) do
    if EVENT_KEYS[name] then
      if item ~= json.null or name == "data" then event[name] = item end
    elseif not IGNORED_KEYS[name] then
      return nil, ("line %d: unknown key \"%s\""):format(number, tostring(name))
    end
  end
  if type(event.metadata) == "table" then
    local copy = {}
    for name, item in pairs(event.metadata) do copy[name] = unpacked(item) end
    event.metadata = copy
  end
  local content_type = event.content_type
  if type(content_type) == "string" and not content_type:find "json" then
    event.data = unpacked(event.data)
  elseif event.data ~= nil and (content_type == nil or type(content_type) == "string") then
    -- The text as it was written: no number of it is rounded.
    event.data, event.content_type = json.member(line, "data"), content_type or "application/json"
  end
  return event
end

-- Publishes what `next_event` gives, in batches; counts what went out.
local function publish_many(topic, next_event, total, options, cli)
  local progress = ui.progress("publishing", total)
  local published, failed = 0, 0
  local batch, numbers = {}, {}
  local function flush()
    if #batch == 0 then return end
    local results, problem = cli.checked(topic.publish_batch, topic, batch)
    if not results then
      ui.note("%s", tostring(problem))
      ui.fail(ui.exit_of(problem),
        ("published %d events; nothing from line %d on"):format(published, numbers[1]))
    end
    for index, result in ipairs(results) do
      if result.error then
        failed = failed + 1
        ui.note("line %d: %s", numbers[index], tostring(result.error))
      else
        published = published + 1
      end
      if options.json then print_result(result, options) end
    end
    batch, numbers = {}, {}
    progress(published + failed)
  end
  while true do
    local event, line, err = next_event()
    if not line then break end
    if event then
      batch[#batch + 1] = event
      numbers[#numbers + 1] = line
      if #batch == BATCH then flush() end
    else
      failed = failed + 1
      ui.note("%s", err)
    end
  end
  flush()
  progress(published + failed, true)
  if not options.json then
    ui.write(("published %d event%s"):format(published, published == 1 and "" or "s"),
      failed > 0 and (", %d failed"):format(failed) or "", "\n")
  end
  return failed > 0 and ui.FAILURE or ui.OK
end

local function from_lines(options)
  local file = io.stdin
  if options.file ~= "-" then
    local err
    file, err = io.open(options.file, "rb")
    if not file then ui.fail(ui.FAILURE, "cannot read " .. err) end
    local first, read_err = file:read(0)
    if first == nil and read_err then ui.fail(ui.FAILURE, ("cannot read %s: %s"):format(options.file, read_err)) end
  end
  local total
  if options.file ~= "-" and ui.is_tty(2) then
    -- Counted for the bar only.
    total = 0
    for line in file:lines() do if line:find "%S" then total = total + 1 end end
    file:seek "set"
  end
  local number, unreadable = 0, false
  return function()
    while true do
      local line, read_err = file:read "*l"
      number = number + 1
      if not line then
        if not read_err or unreadable then return nil end
        unreadable = true
        local name = options.file == "-" and "standard input" or options.file
        return nil, number, ("line %d: cannot read %s: %s"):format(number, name, read_err)
      end
      if line:find "%S" then
        local event, err = line_event(line, number, options)
        return event, number, err
      end
    end
  end, total
end

-- What --file and --count can't be combined with.
local function refuse(options, names, with)
  for _, name in ipairs(names) do
    local value = options[name]
    if value and not (type(value) == "table" and #value == 0) then
      ui.fail(ui.USAGE, ("--%s can't be combined with --%s"):format(name:gsub("_", "-"), with))
    end
  end
end

function M.run(options, cli)
  cli.check_topic(options.topic, true)
  if options.file then
    refuse(options, { "id", "expected", "delay", "at", "dedupe", "count", "aggregate_id", "aggregate_type",
      "content_type" }, "file")
    if options.data then ui.fail(ui.USAGE, "DATA can't be combined with --file") end
  elseif not options.type then
    ui.fail(ui.USAGE, "missing argument 'type' (or --file); see tidemill publish --help")
  end
  if options.count then refuse(options, { "id", "expected", "at", "delay" }, "count") end
  if options.expected then refuse(options, { "at", "delay", "dedupe" }, "expected") end
  if options.at then refuse(options, { "delay" }, "at") end
  local next_event, total, event
  if options.file then
    next_event, total = from_lines(options)
  else
    if options.expected then expected_version(options.expected) end
    local data, content_type = event_data(options.data, options.content_type)
    event = {
      type = options.type, data = data, id = options.id,
      aggregate_id = options.aggregate_id, aggregate_type = options.aggregate_type,
      content_type = content_type, metadata = metadata(options.meta),
      delay = options.delay, at = options.at, dedupe = options.dedupe,
    }
  end
  local bus = cli.connect(options)
  local topic = cli.topic(bus, options.topic)
  local code
  if next_event then
    code = publish_many(topic, next_event, total, options, cli)
  elseif options.count then
    local number = 0
    code = publish_many(topic, function()
      if number == options.count then return nil end
      number = number + 1
      return event, number
    end, options.count, options, cli)
  else
    code = publish_one(topic, event, options, cli)
  end
  bus:close()
  return code
end

return M
