-- 329 real GitHub webhook payloads through a stream: published in one batch, handled by handlers.lua, some retried,
-- some dead-lettered, and at the end everything must add up: then the exit code is 0, else 1 with a line that says why.
--
--   lua examples/webhooks/main.lua [URL]       URL: memory: (default), file:PATH, redis://…, valkey://…
--
-- TIDEMILL_WEBHOOKS names api.github.com/index.json of the npm package @octokit/webhooks-examples.

local cjson = require "cjson"
local tidemill = require "tidemill"

local TIME_LIMIT = 60 -- seconds

local function fail(...)
  io.stderr:write("webhooks: ", string.format(...), "\n")
  os.exit(1, true)
end

local function read_payloads(path)
  local file, err = io.open(path, "rb")
  local text = file and file:read "*a"
  if not text then fail("cannot read the payloads: %s", err or path .. ": is it a folder?") end
  file:close()
  local ok, groups = pcall(cjson.decode, text)
  if not ok then fail("%s is not JSON: %s", path, groups) end
  if type(groups) ~= "table" or not groups[1] or not groups[1].examples then fail("%s has no webhooks", path) end
  return groups
end

-- GitHub names an event by a header and an action in the body: "pull_request" and "opened".
local function events_of(groups, run)
  local events = {}
  for _, group in ipairs(groups) do
    for number, payload in ipairs(group.examples) do
      local action = payload.action
      events[#events + 1] = {
        id = ("%s-%s-%d"):format(run, group.name, number),
        type = type(action) == "string" and group.name .. "." .. action or group.name,
        aggregate_id = type(payload.repository) == "table" and payload.repository.full_name or nil,
        data = payload,
        metadata = { source = "github" },
      }
    end
  end
  return events
end

local url = arg[1] or os.getenv "TIDEMILL_URL" or "memory:"
local path = os.getenv "TIDEMILL_WEBHOOKS"
if not path then fail "TIDEMILL_WEBHOOKS must name index.json of @octokit/webhooks-examples (./dev demo fetches it)" end
local here = arg[0]:match "^(.*)/[^/]*$" or "."

local bus, err = tidemill.open(url)
if not bus then fail("%s", tostring(err)) end

-- The handlers. main.lua could as well be another process than the one that runs them.
local desk = assert(loadfile(here .. "/handlers.lua"))(bus)

-- A name for this run, so that it counts its own events on a server that has seen others: the time, and the address of
-- a table, which differs between two processes of the same second.
local run = ("%x-%s"):format(os.time(), tostring({}):match "(%x+)$")
local groups = read_payloads(path)
local events = events_of(groups, run)
local ours = {}
for _, event in ipairs(events) do ours[event.id] = event end

local results, failed = desk.topic:publish_batch(events)
if not results then fail("publishing: %s", tostring(failed)) end
for index, result in ipairs(results) do
  if result.error then fail("publishing %s: %s", events[index].type, tostring(result.error)) end
end
print(("published %d events of %d kinds to %s"):format(#events, #groups, bus.url))

local function count_done()
  local count = 0
  for id in pairs(desk.done) do if ours[id] then count = count + 1 end end
  return count
end

-- Dead letters of this run, by type.
local function dead_letters()
  local count, by_type = 0, {}
  local list = assert(desk.topic:dead_letters():list { count = 10000 })
  for _, letter in ipairs(list) do
    local event = ours[letter.event.id]
    if event then
      count = count + 1
      by_type[event.type] = by_type[event.type] or { count = 0, letter = letter }
      by_type[event.type].count = by_type[event.type].count + 1
    end
  end
  return count, by_type
end

-- A spawned function is a coroutine: sleeping in it lets the handlers work.
local began = os.time()
bus:spawn(function()
  while count_done() + dead_letters() < #events and os.time() - began < TIME_LIMIT do
    bus:sleep(0.05)
  end
  bus:stop()
end)
local ok, run_err = bus:run()
if not ok then fail("%s", tostring(run_err)) end

-- ---- the summary ----

local by_handler = {}
local retried = 0
for id, handler in pairs(desk.done) do
  if ours[id] then
    by_handler[handler] = (by_handler[handler] or 0) + 1
    if desk.attempts[id] > 1 then retried = retried + 1 end
  end
end
local handlers = {}
for handler in pairs(by_handler) do handlers[#handlers + 1] = handler end
table.sort(handlers, function(a, b)
  if by_handler[a] ~= by_handler[b] then return by_handler[a] > by_handler[b] end
  return a < b
end)

local function row(name, count, note) print(("  %-36s %5d%s"):format(name, count, note and "   " .. note or "")) end
local handled = count_done()
print ""
print "handled"
for _, handler in ipairs(handlers) do row(handler, by_handler[handler]) end
local dead, dead_by_type = dead_letters()
print "dead-lettered"
local types = {}
for type_name in pairs(dead_by_type) do types[#types + 1] = type_name end
table.sort(types)
for _, type_name in ipairs(types) do
  local dead_type = dead_by_type[type_name]
  local letter = dead_type.letter
  row(type_name, dead_type.count, ("at attempt %d: %s"):format(letter.attempts,
    letter.error ~= "" and letter.error or letter.reason))
end
print "in all"
row("handled", handled)
row("dead-lettered", dead)
row("sum", handled + dead, ("of %d published"):format(#events))
print(("%d were handled at a second attempt; the pushes had %d commits"):format(retried, desk.commits()))
bus:close()

if handled + dead ~= #events then
  fail("%d events are missing", #events - handled - dead)
end
print "Everything adds up"
