-- What each method of bus.streams sends, word for word, over a bus that only writes it down. What the commands do is
-- the conformance suite's; that the engines agree on it the differential test's.
local null = require("tidemill.core").null
local streams_of = require "tidemill.streams"

local sent, block, answer

local streams = streams_of.new {
  request = function(_, _, submit)
    submit({
      command = function(_, _, args, ms)
        sent, block = table.concat(args, " "), ms
        return true
      end,
    }, 1)
    return answer
  end,
}

before_each(function()
  sent, block, answer = nil, nil, {}
end)

-- { expected words, method, arguments … }
local cases = {
  { "XADD s * a 1 b 2.5", "xadd", "s", "*", { b = 2.5, a = 1 } },
  { "XADD s * b 2 a 1 b 3", "xadd", "s", "*", { "b", "2", "a", "1", "b", "3" } },
  { "XADD s NOMKSTREAM MAXLEN ~ 10 LIMIT 5 1-* a 1", "xadd", "s", "1-*", { a = 1 },
    { nomkstream = true, maxlen = 10, limit = 5 } },
  { "XADD s MAXLEN = 10 * a 1", "xadd", "s", "*", { a = 1 }, { maxlen = 10, exact = true } },
  { "XADD s MAXLEN 0 * a 1", "xadd", "s", "*", { a = 1 }, { maxlen = 0 } },
  { "XADD s MINID ~ 5-1 * a 1", "xadd", "s", "*", { a = 1 }, { minid = "5-1", approx = true } },
  { "XADD s MINID 1700000000000 * a 1", "xadd", "s", "*", { a = 1 }, { minid = 1700000000000 } },
  { "XTRIM s MAXLEN 3", "xtrim", "s", { maxlen = 3 } },
  { "XTRIM s MINID ~ 9 LIMIT 100", "xtrim", "s", { minid = "9", approx = true, limit = 100 } },
  { "XDEL s 1-0", "xdel", "s", "1-0" },
  { "XDEL s 1-0 2-0", "xdel", "s", "1-0", "2-0" },
  { "XDEL s 1-0 2-0", "xdel", "s", { "1-0", "2-0" } },
  { "XLEN s", "xlen", "s" },
  { "XRANGE s - +", "xrange", "s", "-", "+" },
  { "XRANGE s (1-0 5 COUNT 7", "xrange", "s", "(1-0", 5, { count = 7 } },
  { "XREVRANGE s + - COUNT 1", "xrevrange", "s", "+", "-", { count = 1 } },
  { "XREAD STREAMS a b 0 5-0", "xread", { streams = { b = "5-0", a = 0 } } },
  { "XREAD COUNT 2 BLOCK 1500 STREAMS s $", "xread", { streams = { s = "$" }, count = 2, block = 1.5 }, block = 1500 },
  { "XREADGROUP GROUP g c STREAMS s >", "xreadgroup", { group = "g", consumer = "c", streams = { s = ">" } } },
  { "XREADGROUP GROUP g c COUNT 1 BLOCK 1 NOACK STREAMS s >", "xreadgroup",
    { group = "g", consumer = "c", streams = { s = ">" }, count = 1, block = 0.001, noack = true }, block = 1 },
  { "XGROUP CREATE s g $", "xgroup_create", "s", "g", "$" },
  { "XGROUP CREATE s g 0 MKSTREAM ENTRIESREAD -1", "xgroup_create", "s", "g", 0,
    { mkstream = true, entries_read = -1 } },
  { "XGROUP SETID s g 5-0", "xgroup_setid", "s", "g", "5-0" },
  { "XGROUP SETID s g 5-0 ENTRIESREAD 3", "xgroup_setid", "s", "g", "5-0", { entries_read = 3 } },
  { "XGROUP DESTROY s g", "xgroup_destroy", "s", "g" },
  { "XGROUP CREATECONSUMER s g c", "xgroup_createconsumer", "s", "g", "c" },
  { "XGROUP DELCONSUMER s g c", "xgroup_delconsumer", "s", "g", "c" },
  { "XACK s g 1-0 2-0", "xack", "s", "g", "1-0", "2-0" },
  { "XACK s g 1-0", "xack", "s", "g", { "1-0" } },
  { "XPENDING s g", "xpending", "s", "g" },
  { "XPENDING s g - + 10", "xpending", "s", "g", { from = "-" } },
  { "XPENDING s g IDLE 500 1-0 9-0 3 c", "xpending", "s", "g",
    { idle = 500, from = "1-0", to = "9-0", count = 3, consumer = "c" } },
  { "XCLAIM s g c 100 1-0 2-0", "xclaim", "s", "g", "c", 100, { "1-0", "2-0" } },
  { "XCLAIM s g c 0 1-0 IDLE 5 TIME 6 RETRYCOUNT 7 LASTID 8-0 FORCE JUSTID", "xclaim", "s", "g", "c", 0, { "1-0" },
    { idle = 5, time = 6, retrycount = 7, lastid = "8-0", force = true, justid = true } },
  { "XAUTOCLAIM s g c 100 0-0", "xautoclaim", "s", "g", "c", 100, "0-0" },
  { "XAUTOCLAIM s g c 100 0-0 COUNT 5 JUSTID", "xautoclaim", "s", "g", "c", 100, "0-0", { count = 5, justid = true } },
  { "XINFO STREAM s", "xinfo_stream", "s" },
  { "XINFO STREAM s FULL", "xinfo_stream", "s", { full = true } },
  { "XINFO STREAM s FULL COUNT 0", "xinfo_stream", "s", { full = true, count = 0 } },
  { "XINFO GROUPS s", "xinfo_groups", "s" },
  { "XINFO CONSUMERS s g", "xinfo_consumers", "s", "g" },
  { "ZCARD s", "command", "ZCARD", "s" },
  { "SET k 0.1", "command", "SET", "k", 0.1 },
  { "SET k 1e+300", "command", "SET", "k", 1e300 },
  { "GET k", "send", { "GET", "k" } },
}

-- A reply that the method can convert.
local replies = { xautoclaim = { "0-0", {}, {} }, xpending = { 0, null, null, null } }

describe("bus.streams sends", function()
  for _, case in ipairs(cases) do
    local name = case[2]
    it(case[1], function()
      answer = (name ~= "xpending" or #case == 4) and replies[name] or {}
      streams[name](streams, (table.unpack or unpack)(case, 3))
      assert.equal(case[1], sent)
      assert.equal(case.block or 0, block)
    end)
  end

  it("every command that it has a method for", function()
    local tested = {}
    for _, case in ipairs(cases) do tested[case[2]] = true end
    for name in pairs(getmetatable(streams).__index) do
      assert.is_true(tested[name], name .. " is not among the cases")
    end
  end)
end)

describe("bus.streams refuses", function()
  it("what is no text, before anything is sent", function()
    for _, bad in ipairs {
      function() streams:xadd("s", nil, { a = 1 }) end,
      function() streams:xadd(nil, "*", { a = 1 }) end,
      function() streams:xadd("s", "*", { [true] = 1 }) end,
      function() streams:xrange("s", "-", "+", { count = "1" }) end,
      function() streams:xrange("s", "-", "+", { counts = 1 }) end,
      function() streams:xclaim("s", "g", "c", nil, { "1-0" }) end,
      function() streams:xclaim("s", "g", "c", 0, {}) end,
      function() streams:xack("s", "g") end,
      function() streams:xread { streams = { s = false } } end,
      function() streams:xinfo_consumers("s") end,
      function() streams:xautoclaim("s", "g", "c", 0) end,
    } do
      local ok, err = pcall(bad)
      assert.is_false(ok)
      assert.matches("^spec/lua/streams/command_spec.lua:%d+: streams:x", err)
      assert.is_nil(sent)
    end
  end)

  it("a list of words that is none", function()
    for _, bad in ipairs { function() streams:send() end, function() streams:send {} end,
      function() streams:send { "XLEN", 7 } end, function() streams:send "XLEN s" end } do
      local ok, err = pcall(bad)
      assert.is_false(ok)
      assert.matches("^spec/lua/streams/command_spec.lua:%d+: streams:send: ", err)
      assert.is_nil(sent)
    end
  end)
end)
