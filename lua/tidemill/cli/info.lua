-- `tidemill info TOPIC…`: length, groups, lag, pending, consumers, delayed events, dead letters.

local json = require "tidemill.cli.json"
local ui = require "tidemill.cli.ui"

local M = { summary = "Show a topic's groups, lag, pending events and consumers." }

function M.define(command, cli)
  command:argument("topic", "One or more topics."):args "+"
  cli.add_url(command)
  command:flag("--consumers", "Every consumer on a line of its own.")
  cli.add_json(command)
end

-- The server's own words for a consumer, whichever way the reply spells them.
local function consumer_row(consumer)
  return {
    name = consumer.name, pending = consumer.pending,
    idle_ms = consumer.idle, inactive_ms = consumer.inactive,
  }
end

local function consumers_of(bus, topic, group)
  local list = bus.streams:xinfo_consumers(topic, group)
  local found = {}
  for index, consumer in ipairs(list or {}) do found[index] = consumer_row(consumer) end
  table.sort(found, function(a, b) return tostring(a.name) < tostring(b.name) end)
  return found
end

local function collect(bus, topic)
  local info, err = bus:info(topic)
  if not info then return nil, err end
  local groups = {}
  for index, group in ipairs(info.groups or {}) do
    groups[index] = {
      name = group.name, pending = group.pending, lag = group.lag, last_delivered_id = group.last_delivered_id,
      consumers = consumers_of(bus, topic, group.name),
    }
  end
  table.sort(groups, function(a, b) return tostring(a.name) < tostring(b.name) end)
  return {
    topic = topic, length = info.length, delayed = info.delayed, dead_letters = info.dead_letters, groups = groups,
  }
end

local function as_json(info)
  local groups = json.array {}
  for index, group in ipairs(info.groups) do
    local consumers = json.array {}
    for number, consumer in ipairs(group.consumers) do
      consumers[number] = json.record {
        { "name", consumer.name }, { "pending", consumer.pending }, { "idle_ms", consumer.idle_ms },
        { "inactive_ms", consumer.inactive_ms },
      }
    end
    groups[index] = json.record {
      { "name", group.name }, { "pending", group.pending }, { "lag", group.lag == nil and json.null or group.lag },
      { "last_delivered_id", group.last_delivered_id }, { "consumers", consumers },
    }
  end
  return json.record {
    { "topic", info.topic }, { "length", info.length }, { "delayed", info.delayed },
    { "dead_letters", info.dead_letters }, { "groups", groups },
  }
end

local function print_topic(info, options)
  ui.write(ui.paint("bold", ui.escape(info.topic, 200)), "\n")
  ui.write(("  events %d   delayed %d   dead letters %s\n"):format(info.length or 0, info.delayed or 0,
    (info.dead_letters or 0) > 0 and ui.paint("red", ("%d"):format(info.dead_letters)) or "0"))
  if #info.groups == 0 then
    ui.write "  no group reads it\n"
    return
  end
  local rows = {}
  for index, group in ipairs(info.groups) do
    rows[index] = { group.name, group.lag or "?", group.pending, #group.consumers }
  end
  ui.table({ "group", "lag", "pending", "consumers" }, rows)
  if not options.consumers then return end
  rows = {}
  for _, group in ipairs(info.groups) do
    for _, consumer in ipairs(group.consumers) do
      rows[#rows + 1] = { group.name, consumer.name, consumer.pending,
        consumer.idle_ms and ("%.1f s"):format(consumer.idle_ms / 1000) or nil }
    end
  end
  if #rows > 0 then ui.table({ "group", "consumer", "pending", "idle" }, rows) end
end

function M.run(options, cli)
  for _, topic in ipairs(options.topic) do cli.check_topic(topic, true) end
  local bus = cli.connect(options, true)
  local code = ui.OK
  local found = json.array {}
  for index, topic in ipairs(options.topic) do
    local info, err = collect(bus, topic)
    if not info then
      if ui.exit_of(err) == ui.UNREACHABLE and err.code ~= "TIDE-NOPERM" then ui.fail_with(err) end
      ui.note("%s: %s", topic, tostring(err))
      code = math.max(code, ui.exit_of(err))
    elseif options.json then
      found[#found + 1] = as_json(info)
    else
      if index > 1 then ui.write "\n" end
      print_topic(info, options)
    end
  end
  local one = #options.topic == 1
  if options.json and (found[1] or not one) then ui.write(json.encode(one and found[1] or found), "\n") end
  bus:close()
  return code
end

return M
