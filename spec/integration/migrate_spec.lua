-- SPDX-License-Identifier: MIT
-- `tidemill migrate` (M22) between every two engines that outlive a process: all that a topic is arrives, a copy that
-- was killed goes on, and nothing of somebody else is touched.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local server = require "spec.support.server"
local shell = require "spec.support.shell"
local tidemill = require "tidemill"

local function file_store()
  return { url = "file:" .. shell.temporary_dir "store" .. "/store.db", stop = function() end }
end

local starts = { file = file_store }
local kinds = server.kinds()
for _, kind in ipairs(kinds) do starts[kind] = function() return server.start(kind) end end

local pairs_of_engines = { { "file", "file" } }
for _, kind in ipairs(kinds) do
  pairs_of_engines[#pairs_of_engines + 1] = { "file", kind }
  pairs_of_engines[#pairs_of_engines + 1] = { kind, "file" }
end
if #kinds == 2 then
  pairs_of_engines[#pairs_of_engines + 1] = { kinds[1], kinds[2] }
  pairs_of_engines[#pairs_of_engines + 1] = { kinds[2], kinds[1] }
end

local function migrate(...)
  return cli.run({ "migrate", ... }, { timeout = 120 })
end

-- A store with everything in it.
local function fill(bus, events)
  local orders = bus:topic "orders"
  local list = {}
  for number = 1, events do
    list[number] = { id = "e" .. number, type = "Counted", data = { n = number }, metadata = { source = "spec" } }
  end
  assert(orders:publish_batch(list))
  assert(bus:publish("{tagged}.3", { type = "A", data = 1 }))
  local streams = bus.streams
  -- One group in the middle with pending events, one at the beginning, one at the end of an empty stream.
  assert(streams:xgroup_create("orders", "billing", "0"))
  assert(streams:xgroup_create("orders", "audit", "0"))
  assert(streams:xgroup_create("nothing-yet", "waiting", "0", { mkstream = true }))
  local read = assert(streams:xreadgroup { group = "billing", consumer = "c1", streams = { orders = ">" }, count = 10 })
  assert(read)
  local entries = assert(streams:xrange("orders", "-", "+", { count = 10 }))
  for index = 1, 4 do assert(streams:xack("orders", "billing", entries[index].id)) end
  assert(streams:xclaim("orders", "billing", "c2", 0, { entries[7].id }, { retrycount = 3 }))
  -- Delayed, dead letters, values, a version.
  local later = os.time() + 7200
  assert(orders:publish { id = "later-1", type = "Reminder", data = { n = -1 }, metadata = { x = "1" }, at = later })
  assert(orders:publish { id = "later-2", type = "Reminder", data = { n = -2 }, delay = 3600 })
  assert(streams:xadd("{orders}:dlq", "*", { event_id = "dead", event_type = "A", data = "\0\255", dead_reason = "r" }))
  local kv = bus:kv "carts"
  assert(kv:set("42", "a\0b"))
  assert(kv:set("43", "short", { ttl = 3600 }))
  assert(bus:topic("order-7"):append { { type = "A" }, { type = "B" } })
  return later
end

-- What a store holds, for comparison.
local function picture(bus)
  local streams, found = bus.streams, {}
  for _, name in ipairs { "orders", "{tagged}.3", "{orders}:dlq", "order-7", "nothing-yet" } do
    local one = { entries = {}, groups = {} }
    for index, entry in ipairs(assert(streams:xrange(name, "-", "+"))) do
      one.entries[index] = { entry.id, entry.fields }
    end
    for _, group in ipairs(assert(bus:info(name)).groups) do
      local pending = {}
      for index, item in ipairs(assert(streams:xpending(name, group.name, { count = 1000 }))) do
        pending[index] = { item.id, item.consumer, item.deliveries }
      end
      one.groups[group.name] = { last = group.last_delivered_id, pending = pending, lag = group.lag }
    end
    found[name] = one
  end
  found.value = bus:kv("carts"):get "42"
  found.short = bus:kv("carts"):get "43"
  found.delayed = assert(bus:info "orders").delayed
  return found
end

for _, pair in ipairs(pairs_of_engines) do
  describe(("migrating from %s to %s"):format(pair[1], pair[2]), function()
    local from, to, source, target

    before_each(function()
      from, to = starts[pair[1]](), starts[pair[2]]()
      source, target = assert(tidemill.open(from.url)), assert(tidemill.open(to.url))
    end)
    after_each(function()
      source:close()
      target:close()
      from:stop()
      to:stop()
    end)

    it("brings everything, and both sides count the same", function()
      local later = fill(source, 450)
      local result = migrate(from.url, to.url)
      assert.equal(0, result.code, result.out .. result.err)
      assert.truthy(result.out:find "both sides agree\n$", result.out)
      assert.same(picture(source), picture(target))
      -- The version goes on counting.
      local _, conflict = target:topic("order-7"):append({ { type = "C" } }, { expected = 1 })
      assert.equal("TIDE-CONFLICT", conflict.code)
      assert.equal(2, conflict.actual)
      assert.equal(3, assert(target:topic("order-7"):append({ { type = "C" } }, { expected = 2 })).version)
      -- A value with a time to live keeps it.
      assert.is_true(target:kv("carts"):expire("43", 3600))
      -- A delayed event is the event it was, due when it was, and can be taken back.
      assert.is_true(target:topic("orders"):cancel "later-2")
      assert.is_false(target:topic("orders"):cancel "later-2")
      assert.truthy(later > os.time())
      assert.is_true(target:topic("orders"):cancel "later-1")
    end)

    it("brings delayed events whole", function()
      assert(source:topic("soon"):publish { id = "s", type = "Reminder", aggregate_id = "a-1", data = { n = 7 },
        metadata = { trace = "t" }, delay = 4 })
      local result = migrate(from.url, to.url, "--topics", "soon")
      assert.equal(0, result.code, result.out .. result.err)
      local got
      target:topic("soon"):on("*", function(event)
        got = { id = event.id, type = event.type, aggregate = event.aggregate_id, n = event.data.n,
          trace = event.metadata.trace }
        target:stop()
      end)
      assert(target:run(30))
      assert.same({ id = "s", type = "Reminder", aggregate = "a-1", n = 7, trace = "t" }, got)
    end)

    it("goes on after a kill, and copies what has come since", function()
      local events = {}
      for number = 1, 20000 do events[number] = { id = "e" .. number, type = "A", data = number } end
      assert(source:topic("many"):publish_batch(events))
      local process = cli.spawn { "migrate", from.url, to.url }
      assert.truthy(shell.wait_until(function()
        return not process:is_alive() or assert(target.streams:xlen "many") > 1000
      end, 60))
      process:kill()
      local half = assert(target.streams:xlen "many")
      assert(source:topic("many"):publish { id = "last", type = "A", data = 20001 })
      local result = migrate(from.url, to.url)
      assert.equal(0, result.code, result.out .. result.err)
      assert.truthy(half > 0)
      assert.equal(20001, assert(target.streams:xlen "many"))
      local last = assert(target.streams:xrevrange("many", "+", "-", { count = 1 }))[1]
      assert.equal("last", last.fields.event_id)
      -- And once more, with nothing to do.
      result = migrate(from.url, to.url, "--json")
      assert.equal(0, result.code, result.out .. result.err)
      local report = cjson.decode(result.out)
      assert.is_true(report.agree)
      assert.equal(20001, report.topics[1].to.events)
    end)

    it("never writes to a topic that is somebody else's", function()
      assert(source:publish("orders", { type = "A" }))
      assert(target:publish("orders", { type = "B" }))
      local result = migrate(from.url, to.url)
      assert.equal(1, result.code)
      assert.truthy(result.err:find("something named 'orders' already", 1, true), result.err)
      assert.equal(1, assert(target.streams:xlen "orders"))
    end)

    it("copies some topics, and counts without copying", function()
      for _, name in ipairs { "a", "b", "c" } do assert(source:publish(name, { type = "A" })) end
      assert(source:kv("carts"):set("1", "x"))
      local dry = migrate(from.url, to.url, "--dry-run", "--json")
      assert.equal(0, dry.code, dry.err)
      local report = cjson.decode(dry.out)
      assert.equal(3, #report.topics)
      assert.equal(1, report.key_values.from)
      assert.equal(0, assert(target.streams:xlen "a"))
      local result = migrate(from.url, to.url, "--topics", "a,c")
      assert.equal(0, result.code, result.err)
      assert.equal(1, assert(target.streams:xlen "a"))
      assert.equal(0, assert(target.streams:xlen "b"))
      assert.equal(1, assert(target.streams:xlen "c"))
      assert.is_nil(target:kv("carts"):get "1")
      assert.equal(0, migrate(from.url, to.url, "--topics", "a", "--kv", "carts").code)
      assert.equal("x", target:kv("carts"):get "1")
      local missing = migrate(from.url, to.url, "--topics", "nowhere")
      assert.equal(1, missing.code)
      assert.truthy(missing.err:find("no topic 'nowhere'", 1, true), missing.err)
    end)
  end)
end

describe("migrating", function()
  it("refuses what makes no sense", function()
    assert.equal(2, migrate("file:a.db", "file:a.db").code)
    assert.equal(2, migrate("file:a.db", "memory:").code)
    assert.equal(2, migrate("file:a.db").code)
    assert.equal(2, migrate("file:a.db", "http://x").code)
    local missing = migrate("file:nowhere.db", "redis://127.0.0.1:1")
    assert.equal(3, missing.code)
    assert.truthy(missing.err:find("FROM: nowhere.db: No such file", 1, true), missing.err)
    assert.is_nil(shell.read_file "nowhere.db")
    local unreachable = migrate("redis://127.0.0.1:1", "redis://127.0.0.1:2")
    assert.equal(3, unreachable.code)
    assert.truthy(unreachable.err:find("FROM", 1, true), unreachable.err)
  end)
end)
