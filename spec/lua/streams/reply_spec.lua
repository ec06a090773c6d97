-- Replies as the servers send them, and what Lua makes of them.
local null = require("tidemill.core").null
local reply = require "tidemill.streams.reply"
local streams_of = require "tidemill.streams"

-- What a method makes of a reply.
local function made(answer, method, ...)
  local streams = streams_of.new { request = function() return answer end }
  return streams[method](streams, ...)
end

describe("a reply", function()
  it("that is nil is nil", function()
    assert.is_nil(reply.plain(null))
    assert.equal(0, reply.plain(0))
    assert.is_nil(made(null, "xadd", "s", "*", { a = 1 }, { nomkstream = true }))
  end)

  it("that is an error is nil, err", function()
    local streams = streams_of.new { request = function() return nil, "trouble" end }
    local value, err = streams:xrange("s", "-", "+")
    assert.is_nil(value)
    assert.equal("trouble", err)
  end)

  it("of OK is true", function()
    assert.is_true(made("OK", "xgroup_create", "s", "g", "$"))
    assert.is_true(made("OK", "xgroup_setid", "s", "g", "$"))
  end)

  it("of entries has fields, and pairs where a name repeats", function()
    local entries = reply.entries { { "1-0", { "a", "1", "b", "2" } }, null, { "2-0", { "a", "1", "a", "2" } } }
    assert.equal(2, #entries)
    assert.same({ a = "1", b = "2" }, entries[1].fields)
    assert.is_nil(entries[1].pairs)
    assert.same({ a = "2" }, entries[2].fields)
    assert.same({ "a", "1", "a", "2" }, entries[2].pairs)
    assert.same({}, reply.entries(null))
  end)

  it("of deleted entries says so", function()
    local entry = reply.entries({ { "1-0", null } })[1]
    assert.is_true(entry.deleted)
    assert.same({}, entry.fields)
    assert.same({}, entry.flat)
  end)

  it("of ids is a list of them", function()
    assert.same({ "1-0", "2-0" }, reply.entries { "1-0", "2-0" })
  end)

  it("of several streams is a table by key, empty when nothing came", function()
    local streams = reply.by_stream { { "a", { { "1-0", { "x", "1" } } } }, { "b", {} } }
    assert.equal("1-0", streams.a[1].id)
    assert.same({}, streams.b)
    assert.same({}, reply.by_stream(null))
  end)

  it("of XPENDING is a summary or a list", function()
    assert.same({ count = 3, min = "1-0", max = "3-0", consumers = { c = 2, d = 1 } },
      made({ 3, "1-0", "3-0", { { "c", "2" }, { "d", "1" } } }, "xpending", "s", "g"))
    assert.same({ count = 0, consumers = {} }, made({ 0, null, null, null }, "xpending", "s", "g"))
    assert.same({ { id = "1-0", consumer = "c", idle = 50, deliveries = 2 } },
      made({ { "1-0", "c", 50, 2 } }, "xpending", "s", "g", { count = 5 }))
  end)

  it("of XAUTOCLAIM has a cursor, entries and what was deleted; the last is new in Redis 7.0", function()
    local page = made({ "5-0", { { "1-0", { "a", "1" } } }, { "2-0" } }, "xautoclaim", "s", "g", "c", 0, "0-0")
    assert.equal("5-0", page.cursor)
    assert.equal("1-0", page.entries[1].id)
    assert.same({ "2-0" }, page.deleted)
    assert.same({ cursor = "0-0", entries = { "1-0" }, deleted = {} },
      made({ "0-0", { "1-0" } }, "xautoclaim", "s", "g", "c", 0, "0-0", { justid = true }))
  end)

  it("of XINFO has the server's names, without what is nil", function()
    assert.same({ { name = "g", pending = 1 } },
      made({ { "name", "g", "pending", 1, "lag", null } }, "xinfo_groups", "s"))
    local info = made({ "length", 1, "first-entry", { "1-0", { "a", "1" } }, "last-entry", null, "groups", 2 },
      "xinfo_stream", "s")
    assert.equal("1-0", info["first-entry"].id)
    assert.is_nil(info["last-entry"])
    assert.equal(2, info.groups)
  end)

  it("of XINFO STREAM FULL has typed entries, groups and consumers", function()
    local info = made({
      "entries", { { "1-0", { "a", "1" } } },
      "groups", { {
        "name", "g", "pending", { { "1-0", "c", 1700, 2 } },
        "consumers", { { "name", "c", "pending", { { "1-0", 1700, 2 } } }, { "name", "d", "pending", {} } },
      } },
    }, "xinfo_stream", "s", { full = true })
    assert.equal("1-0", info.entries[1].id)
    assert.same({ { id = "1-0", consumer = "c", delivered = 1700, deliveries = 2 } }, info.groups[1].pending)
    assert.same({ { id = "1-0", delivered = 1700, deliveries = 2 } }, info.groups[1].consumers[1].pending)
    assert.same({}, info.groups[1].consumers[2].pending)
  end)
end)
