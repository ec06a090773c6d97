-- SPDX-License-Identifier: MIT
local server = require "spec.support.server"
local world = require "spec.conformance.world"
local it = world.behaviours(it, pending)

-- Three entries with ids that are easy to read.
local function three(w)
  local bus = w:open()
  local streams = bus.streams
  for n = 1, 3 do assert(streams:xadd(w.name, n .. "-0", { n = tostring(n) })) end
  return streams, w.name
end

local function ids_of(entries)
  local ids = {}
  for i, entry in ipairs(entries) do ids[i] = entry.id end
  return ids
end

describe("stream commands on " .. world.engine, function()
  it("XADD gives ids, takes ids, and refuses smaller ones", function(w)
    local streams = w:open().streams
    assert.matches("^%d+%-%d+$", streams:xadd(w.name, "*", { a = "1" }))
    local id, err = streams:xadd(w.name, "1-1", { a = "1" })
    assert.is_nil(id)
    assert.matches("equal or smaller", err.message)
    assert.equal("9999999999999-5", streams:xadd(w.name, "9999999999999-5", { a = "1" }))
    if world.engine == "redis" and server.before_7 "redis" then return end -- the half of an id came with 7.0
    assert.equal("9999999999999-6", streams:xadd(w.name, "9999999999999-*", { a = "1" }))
  end)

  it("XADD refuses 0-0", function(w)
    local id, err = w:open().streams:xadd(w.name, "0-0", { a = "1" })
    assert.is_nil(id)
    assert.matches("0%-0", err.message)
  end)

  it("XADD NOMKSTREAM makes no stream", function(w)
    local streams = w:open().streams
    assert.is_nil((streams:xadd(w.name, "*", { a = "1" }, { nomkstream = true })))
    assert.equal(0, streams:xlen(w.name))
  end)

  it("XADD trims by MAXLEN and by MINID", function(w)
    local streams, key = three(w)
    assert(streams:xadd(key, "4-0", { n = "4" }, { maxlen = 2, exact = true }))
    assert.same({ "3-0", "4-0" }, ids_of(streams:xrange(key, "-", "+")))
    assert(streams:xadd(key, "5-0", { n = "5" }, { minid = "4-0", exact = true }))
    assert.same({ "4-0", "5-0" }, ids_of(streams:xrange(key, "-", "+")))
  end)

  it("XRANGE takes bounds, exclusive bounds and a count", function(w)
    local streams, key = three(w)
    assert.same({ "1-0", "2-0", "3-0" }, ids_of(streams:xrange(key, "-", "+")))
    assert.same({ "2-0", "3-0" }, ids_of(streams:xrange(key, "(1-0", "+")))
    assert.same({ "1-0" }, ids_of(streams:xrange(key, "-", "(2-0")))
    assert.same({ "1-0", "2-0" }, ids_of(streams:xrange(key, "-", "+", { count = 2 })))
    assert.same({}, streams:xrange(key, "7", "9"))
    assert.equal("2", streams:xrange(key, "2", "2")[1].fields.n)
  end)

  it("XREVRANGE goes backwards", function(w)
    local streams, key = three(w)
    assert.same({ "3-0", "2-0", "1-0" }, ids_of(streams:xrevrange(key, "+", "-")))
    assert.same({ "3-0" }, ids_of(streams:xrevrange(key, "+", "-", { count = 1 })))
  end)

  it("XLEN counts, and is 0 for what is not there", function(w)
    local streams, key = three(w)
    assert.equal(3, streams:xlen(key))
    assert.equal(0, streams:xlen(key .. "-missing"))
  end)

  it("XDEL counts what it deleted", function(w)
    local streams, key = three(w)
    assert.equal(1, streams:xdel(key, "2-0", "7-7"))
    assert.same({ "1-0", "3-0" }, ids_of(streams:xrange(key, "-", "+")))
  end)

  it("XTRIM by length and by id", function(w)
    local streams, key = three(w)
    assert.equal(1, streams:xtrim(key, { maxlen = 2, exact = true }))
    assert.equal(1, streams:xtrim(key, { minid = "3-0", exact = true }))
    assert.same({ "3-0" }, ids_of(streams:xrange(key, "-", "+")))
  end)

  it("XREAD reads several streams after given ids", function(w)
    local streams, key = three(w)
    assert(streams:xadd(key .. "-b", "1-0", { b = "1" }))
    local got = streams:xread { streams = { [key] = "1-0", [key .. "-b"] = "0" }, count = 10 }
    assert.same({ "2-0", "3-0" }, ids_of(got[key]))
    assert.same({ "1-0" }, ids_of(got[key .. "-b"]))
  end)

  it("XREAD BLOCK waits for what comes, and no longer than asked", function(w)
    local bus = w:open()
    local got
    bus:spawn(function() got = bus.streams:xread { streams = { [w.name] = "$" }, block = 10 } end)
    w:pass(0.2)
    assert.is_nil(got)
    assert(bus.streams:xadd(w.name, "1-0", { a = "1" }))
    w:wait(function() return got end)
    assert.same({ "1-0" }, ids_of(got[w.name]))
    local before = w.clock()
    local none, err = bus.streams:xread { streams = { [w.name] = "$" }, block = 0.1 }
    assert.is_nil(err)
    assert.is_true(none == nil or next(none) == nil)
    assert.is_true(w.clock() - before < 5)
  end)

  it("XGROUP creates, moves and destroys groups", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    local again, err = streams:xgroup_create(key, "g", "0")
    assert.is_nil(again)
    assert.equal("TIDE-EXISTS", err.code)
    assert(streams:xgroup_setid(key, "g", "2-0"))
    assert.equal("2-0", streams:xinfo_groups(key)[1]["last-delivered-id"])
    assert.equal(1, streams:xgroup_destroy(key, "g"))
    assert.equal(0, streams:xgroup_destroy(key, "g"))
  end)

  it("XGROUP CREATE makes the stream only with MKSTREAM", function(w)
    local streams = w:open().streams
    local made, err = streams:xgroup_create(w.name, "g", "$")
    assert.is_nil(made)
    assert.is_table(err)
    assert(streams:xgroup_create(w.name, "g", "$", { mkstream = true }))
    assert.equal(0, streams:xlen(w.name))
    assert.equal(1, #streams:xinfo_groups(w.name))
  end)

  it("XGROUP creates and deletes consumers", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    assert.equal(1, streams:xgroup_createconsumer(key, "g", "c"))
    assert.equal(0, streams:xgroup_createconsumer(key, "g", "c"))
    streams:xreadgroup { group = "g", consumer = "c", streams = { [key] = ">" } }
    assert.equal(3, streams:xgroup_delconsumer(key, "g", "c"))
    assert.equal(0, #streams:xinfo_consumers(key, "g"))
  end)

  it("XREADGROUP gives new entries, then the consumer's own", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    local new = streams:xreadgroup { group = "g", consumer = "c", streams = { [key] = ">" }, count = 2 }
    assert.same({ "1-0", "2-0" }, ids_of(new[key]))
    local own = streams:xreadgroup { group = "g", consumer = "c", streams = { [key] = "0" } }
    assert.same({ "1-0", "2-0" }, ids_of(own[key]))
    local others = streams:xreadgroup { group = "g", consumer = "d", streams = { [key] = "0" } }
    assert.same({}, ids_of(others[key]))
  end)

  it("XREADGROUP NOACK leaves nothing pending", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    streams:xreadgroup { group = "g", consumer = "c", streams = { [key] = ">" }, noack = true }
    assert.equal(0, streams:xpending(key, "g").count)
  end)

  it("XREADGROUP without its group is TIDE-NOGROUP", function(w)
    local streams, key = three(w)
    local got, err = streams:xreadgroup { group = "none", consumer = "c", streams = { [key] = ">" } }
    assert.is_nil(got)
    assert.equal("TIDE-NOGROUP", err.code)
  end)

  it("XACK counts what was pending", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    streams:xreadgroup { group = "g", consumer = "c", streams = { [key] = ">" } }
    assert.equal(2, streams:xack(key, "g", "1-0", "2-0", "8-8"))
    assert.equal(0, streams:xack(key, "g", "1-0"))
  end)

  it("XPENDING sums up and lists, by idle time and consumer", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    streams:xreadgroup { group = "g", consumer = "a", streams = { [key] = ">" }, count = 2 }
    streams:xreadgroup { group = "g", consumer = "b", streams = { [key] = ">" }, count = 1 }
    local summary = streams:xpending(key, "g")
    assert.equal(3, summary.count)
    assert.equal("1-0", summary.min)
    assert.equal("3-0", summary.max)
    assert.equal(2, tonumber(summary.consumers.a))
    assert.equal(1, tonumber(summary.consumers.b))
    local rows = streams:xpending(key, "g", { from = "-", to = "+", count = 10, consumer = "a" })
    assert.equal(2, #rows)
    assert.equal("1-0", rows[1].id)
    assert.equal("a", rows[1].consumer)
    assert.equal(1, rows[1].deliveries)
    assert.equal(0, #streams:xpending(key, "g", { idle = 100000, from = "-", to = "+", count = 10 }))
  end)

  it("XCLAIM moves ownership and counts a delivery", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    streams:xreadgroup { group = "g", consumer = "a", streams = { [key] = ">" } }
    local claimed = streams:xclaim(key, "g", "b", 0, { "2-0" })
    assert.same({ "2-0" }, ids_of(claimed))
    local row = streams:xpending(key, "g", { from = "2-0", to = "2-0", count = 1 })[1]
    assert.equal("b", row.consumer)
    assert.equal(2, row.deliveries)
    assert.same({}, streams:xclaim(key, "g", "a", 100000, { "2-0" }))
    assert.same({ "3-0" }, streams:xclaim(key, "g", "b", 0, { "3-0" }, { justid = true, retrycount = 7 }))
    assert.equal(7, streams:xpending(key, "g", { from = "3-0", to = "3-0", count = 1 })[1].deliveries)
  end)

  it("XAUTOCLAIM claims what is idle, page by page", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    streams:xreadgroup { group = "g", consumer = "a", streams = { [key] = ">" } }
    local page = streams:xautoclaim(key, "g", "b", 0, "0-0", { count = 2 })
    assert.same({ "1-0", "2-0" }, ids_of(page.entries))
    assert.equal("3-0", page.cursor)
    local rest = streams:xautoclaim(key, "g", "b", 0, page.cursor, { count = 2 })
    assert.same({ "3-0" }, ids_of(rest.entries))
    assert.equal("0-0", rest.cursor)
    assert.equal(0, #streams:xautoclaim(key, "g", "c", 100000, "0-0").entries)
  end)

  it("XINFO STREAM describes the stream", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    local info = streams:xinfo_stream(key)
    assert.equal(3, info.length)
    assert.equal(1, info.groups)
    assert.equal("3-0", info["last-generated-id"])
    assert.equal("1-0", info["first-entry"].id)
    assert.equal("3-0", info["last-entry"].id)
    local full = streams:xinfo_stream(key, { full = true })
    assert.equal(3, #full.entries)
    assert.equal("g", full.groups[1].name)
  end)

  it("XINFO GROUPS and CONSUMERS describe them", function(w)
    local streams, key = three(w)
    assert(streams:xgroup_create(key, "g", "0"))
    streams:xreadgroup { group = "g", consumer = "a", streams = { [key] = ">" }, count = 2 }
    local group = streams:xinfo_groups(key)[1]
    assert.equal("g", group.name)
    assert.equal(2, group.pending)
    assert.equal(1, group.consumers)
    assert.equal("2-0", group["last-delivered-id"])
    local consumer = streams:xinfo_consumers(key, "g")[1]
    assert.equal("a", consumer.name)
    assert.equal(2, consumer.pending)
    assert.is_number(consumer.idle)
  end)

  it("answer errors of the server's own, with a code", function(w)
    local streams = w:open().streams
    local got, err = streams:xinfo_stream(w.name .. "-missing")
    assert.is_nil(got)
    assert.matches("^TIDE%-", err.code)
    local reply, wrong = streams:command("XADD", w.name)
    assert.is_nil(reply)
    assert.matches("^TIDE%-", wrong.code)
  end)

  it("keep field names and values of any bytes, in their order", function(w)
    local streams = w:open().streams
    assert(streams:command("XADD", w.name, "1-0", "z", "1", "a\0\r\n", "\255\0", "", "empty name", "z", "again"))
    local entry = streams:xrange(w.name, "-", "+")[1]
    assert.same({ "z", "1", "a\0\r\n", "\255\0", "", "empty name", "z", "again" }, entry.pairs)
  end)

  it("show a topic's length, groups and dead letters through info", function(w)
    local topic, bus = w:topic()
    local got = 0
    topic:on("*", { group = "g", retry = { max = 1 } }, function(event)
      got = got + 1
      if event.data.n == 3 then error "no" end
    end)
    w:fill(topic, 5)
    w:wait(function() return got == 5 and topic:dead_letters():count() == 1 end)
    w:wait(function() return bus:info(w.name).groups[1].pending == 0 end)
    local info = bus:info(w.name)
    assert.equal(5, info.length)
    assert.equal("g", info.groups[1].name)
    assert.equal(0, info.groups[1].lag)
    assert.equal(1, info.dead_letters)
    assert.equal(0, info.delayed)
  end)

  it("count a lag that the engine doesn't know", function(w)
    local bus = w:open()
    for n = 1, 6 do assert(bus.streams:xadd(w.name, n .. "-0", { n = n })) end
    assert(bus.streams:command("XGROUP", "CREATE", w.name, "g", "3-0"))
    assert.is_nil(bus.streams:xinfo_groups(w.name)[1].lag)
    assert.equal(3, bus:info(w.name).groups[1].lag)
  end)

  it("say what the engine is", function(w)
    local about = w:open():server()
    assert.is_string(about.engine)
    assert.is_string(about.version)
  end)
end)
