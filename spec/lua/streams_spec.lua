-- Shapes and misuse; what the commands do is the conformance suite's.
local tidemill = require "tidemill"
local world = require "spec.lua.support.world"

local bus, streams

before_each(function()
  bus = world.open()
  streams = bus.streams
end)

after_each(function()
  bus:close()
end)

describe("bus.streams", function()
  it("types entries, with pairs when a name repeats", function()
    streams:xadd("s", "1-0", { b = "2", a = "1" })
    streams:xadd("s", "2-0", { "x", "1", "x", "2" })
    local entries = streams:xrange("s", "-", "+")
    assert.equal("1-0", entries[1].id)
    assert.same({ a = "1", b = "2" }, entries[1].fields)
    assert.same({ "a", "1", "b", "2" }, entries[1].flat)
    assert.is_nil(entries[1].pairs)
    assert.same({ x = "2" }, entries[2].fields)
    assert.same({ "x", "1", "x", "2" }, entries[2].pairs)
  end)

  it("takes ids as arguments or as a list", function()
    for n = 1, 4 do
      streams:xadd("s", n .. "-0", { a = 1 })
    end
    assert.equal(2, streams:xdel("s", "1-0", "2-0"))
    assert.equal(2, streams:xdel("s", { "3-0", "4-0" }))
  end)

  it("gives replies of any command as they are", function()
    streams:xadd("s", "1-0", { a = "1" })
    assert.same({ { "1-0", { "a", "1" } } }, streams:command("XRANGE", "s", "-", "+"))
    assert.equal(1, streams:command("XLEN", "s"))
    assert.equal(tidemill.null, streams:command("XREAD", "STREAMS", "nothing", "0"))
    assert.same({ { "1-0", { "a", "1" } } }, streams:send { "XRANGE", "s", "-", "+" })
    assert.same({ { "1-0", { "a", "1" } } }, streams:command("XREVRANGE", "s", "+", "-", "COUNT", 1))
  end)

  it("answers nil, err with a code for what the engine refuses", function()
    for _, command in ipairs { { "XADD", "s" }, { "NOSUCH" }, { "XLEN" }, { "XADD", "s", "0-0", "a", "1" } } do
      local reply, err = streams:send(command)
      assert.is_nil(reply)
      assert.matches("^TIDE%-", err.code)
    end
  end)

  it("blames misuse on the caller", function()
    for _, bad in ipairs {
      function() streams:command() end,
      function() streams:command("XLEN", {}) end,
      function() streams:xadd("s", "*", {}) end,
      function() streams:xadd("s", "*") end,
      function() streams:xadd("s", "*", { a = {} }) end,
      function() streams:xadd("s", "*", { a = 1 }, { maxlen = 1, minid = "0" }) end,
      function() streams:xadd("s", "*", { a = 1 }, { max_len = 1 }) end,
      function() streams:xrange("s") end,
      function() streams:xtrim("s") end,
      function() streams:xdel("s") end,
      function() streams:xack("s", "g", {}) end,
      function() streams:xread {} end,
      function() streams:xread { streams = { s = "0" }, block = 0 } end,
      function() streams:xreadgroup { streams = { s = ">" } } end,
      function() streams:xpending("s") end,
    } do
      local ok, err = pcall(bad)
      assert.is_false(ok)
      assert.matches("^spec/lua/streams_spec.lua:%d+: streams:", err)
    end
  end)

  it("says which command the engine doesn't have, with one code", function()
    local reply, err = streams:command("LPUSH", "list", "x")
    assert.is_nil(reply)
    assert.equal("TIDE-UNSUPPORTED: LPUSH is not on this engine", tostring(err))
  end)

  it("waits at the engine only as long as asked to", function()
    assert.same({}, streams:xread { streams = { s = "$" }, block = 0.05 })
  end)
end)
