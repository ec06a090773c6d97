local json = require "tidemill.codec.json"

local function round(value)
  local text = assert(json.encode(value))
  return json.decode(text), text
end

local function refused(value)
  local text, why = json.encode(value)
  assert.is_nil(text)
  return why
end

local function broken(text)
  local value, why = json.decode(text)
  assert.is_nil(value)
  assert.is_string(why, "decoded: " .. text:sub(1, 40))
  return why
end

describe("JSON", function()
  it("keeps plain values", function()
    for _, value in ipairs { true, false, "text", 1, -1, 0, 1.5, 99.99, 0.1, 1e300, 1e-300, 123456789012 } do
      assert.equal(value, (round(value)))
    end
    assert.equal(json.null, (round(json.null)))
  end)

  it("keeps integers of 53 bits, and of 64 where Lua has them", function()
    local value, text = round(2 ^ 53)
    assert.equal("9007199254740992", text)
    assert.equal(2 ^ 53, value)
    assert.equal("-9007199254740992", json.encode(-(2 ^ 53)))
    if math.type then
      assert.equal("9007199254740993", json.encode(9007199254740993))
      assert.equal(9007199254740993, json.decode "9007199254740993")
      for _, digits in ipairs { "9223372036854775807", "-9223372036854775808" } do
        assert.equal("integer", math.type(json.decode(digits)))
        assert.equal(digits, json.encode(json.decode(digits)))
      end
      assert.equal("integer", math.type(json.decode "3"))
      assert.equal("float", math.type(json.decode "3.0"))
    end
  end)

  it("keeps the last digit of floats", function()
    for _, value in ipairs { 0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 123456.789e3, 2 ^ 60 + 0.0 } do
      assert.equal(value, (round(value)))
    end
  end)

  it("keeps the sign of minus zero", function()
    assert.equal("-0", json.encode(-0.0))
    assert.equal(-math.huge, 1 / json.decode "-0")
    assert.equal(-math.huge, 1 / json.decode "-0.0")
  end)

  it("reads numbers as strtod does", function()
    for _, text in ipairs { "0", "10", "1e5", "1E+5", "1.25e-3", "123456789.123456789", "0.000001", "4.35",
      "2.2250738585072011e-308", "179769313486231570000000000000000000000e270", "1e22", "1e23", "9007199254740993.0",
      "12345678901234567890", "1234567890123456789012345678901234567890", "0.1e1", "100e-2" } do
      assert.equal(tonumber(text), json.decode(text) + 0, text)
    end
  end)

  it("refuses NaN and infinities", function()
    assert.matches("not finite", refused(0 / 0))
    assert.matches("not finite", refused { a = { math.huge } })
    assert.matches("not finite", refused(-math.huge))
  end)

  it("refuses numbers beyond a double", function()
    assert.matches("too large", broken "1e400")
    assert.matches("too large", broken "-1e400")
    assert.equal(0, json.decode "1e-400")
  end)

  it("refuses numbers that JSON doesn't know", function()
    for _, text in ipairs { "01", "1.", ".5", "+1", "1e", "1e+", "-", "0x10", "NaN", "Infinity", "nan", "--1" } do
      broken(text)
    end
  end)

  it("keeps strings of every kind", function()
    for _, value in ipairs { "", "a\0b", "ü€😀", '"\\/\b\f\n\r\t', "\1\31\127", ("x"):rep(100000), "tail\\" } do
      assert.equal(value, (round(value)))
    end
    local value, text = round "a\0b\n\31"
    assert.equal('"a\\u0000b\\n\\u001f"', text)
    assert.equal("a\0b\n\31", value)
  end)

  it("reads escapes", function()
    assert.equal('\n/"\\ü€😀', json.decode [["\n\/\"\\\u00fc\u20AC\uD83D\ude00"]])
    assert.equal("x\0y", json.decode [["x\u0000y"]])
  end)

  it("refuses lone surrogates and broken escapes", function()
    for _, text in ipairs { [["\ud800"]], [["\udc00"]], [["\ud800x"]], [["\ud800\u0041"]], [["\ud83d\ud83d"]],
      [["\x"]], [["\u12"]], [["\u12g4"]], [["\]], [["open]], [["]] } do
      broken(text)
    end
    assert.matches("lone surrogate", broken [["\ud800"]])
  end)

  it("refuses invalid UTF-8, both ways", function()
    for _, bytes in ipairs { "\255", "a\192\128", "\237\160\128", "\244\144\128\128", "ok\226\130", '"\200',
      "long enough for a word \195(", "\195", "ü\188" } do
      assert.matches("UTF%-8", refused(bytes))
      assert.matches("UTF%-8", refused { [bytes] = 1 })
      local inside = bytes:gsub('"', '\\"')
      assert.matches("UTF%-8", broken('"' .. inside .. '"'))
      assert.matches("UTF%-8 at byte [79]$", broken('[1, {"' .. inside .. '":1}]'))
      assert.matches("UTF%-8", broken('"\\n' .. inside .. '"'))
      assert.matches("UTF%-8", broken('"' .. inside .. '\\n"'))
    end
    -- An escape doesn't complete a sequence of bytes.
    assert.matches("UTF%-8", broken '"\195\\u00bc"')
  end)

  it("reads every whole character, at every place of a word", function()
    for size = 0, 17 do
      local text = ("x"):rep(size) .. "ü€😀\127" .. ("y"):rep(17 - size)
      assert.equal(text, (round(text)))
      assert.equal(text, json.decode('"' .. text .. '"'))
    end
  end)

  it("refuses bare control characters in strings", function()
    for byte = 0, 31 do
      for size = 0, 9 do
        local inside = ("x"):rep(size) .. string.char(byte)
        local why = broken('"' .. inside .. 'yyyyyyyy"')
        assert.matches(("control character in a string at byte %d"):format(size + 2), why)
        assert.matches("control character", broken('{"' .. inside .. '":1}'))
      end
    end
  end)

  it("keeps lists and objects apart, empty ones too", function()
    assert.equal("[1,2,3]", json.encode { 1, 2, 3 })
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array()))
    assert.equal("[]", select(2, round(json.decode "[]")))
    assert.equal("{}", select(2, round(json.decode "{}")))
    assert.same({ { 1, { { 2 } } }, { a = { b = {} } } }, (round { { 1, { { 2 } } }, { a = { b = {} } } }))
  end)

  it("writes holes of short lists as null", function()
    assert.equal("[1,null,3]", json.encode { 1, nil, 3 })
    assert.equal(json.null, json.decode("[1,null,3]")[2])
  end)

  it("refuses tables that are neither list nor object", function()
    assert.matches("mixes", refused { 1, 2, n = 2 })
    assert.matches("mixes", refused { n = 2, 5 })
    assert.matches("holes", refused { [1000] = 1 })
    assert.is_string(refused { [1.5] = 1 })
    assert.is_string(refused { [true] = 1 })
    assert.is_string(refused { [0] = 1 })
    assert.is_string(refused { [-1] = 1, a = 1 })
    assert.matches("mixes", refused(json.array { 1, x = 2 }))
  end)

  it("refuses what has no JSON", function()
    assert.matches("a function", refused(print))
    assert.matches("a thread", refused { coroutine.create(print) })
    assert.matches("userdata", refused { io.stdout })
  end)

  it("refuses cycles and depth beyond 256, both ways", function()
    local cycle = {}
    cycle.self = cycle
    assert.matches("nested deeper", refused(cycle))
    broken(("["):rep(100000))
    assert.matches("nested deeper", broken(("["):rep(300) .. ("]"):rep(300)))
    assert.matches("nested deeper", broken(('{"a":'):rep(300)))
    assert.is_table(json.decode(("["):rep(256) .. ("]"):rep(256)))
    assert.is_table(json.decode(('{"a":'):rep(255) .. "{}" .. ("}"):rep(255)))
  end)

  it("reads objects of every size, the last of equal names", function()
    for _, size in ipairs { 1, 2, 63, 64, 65, 127, 128, 129, 1000 } do
      local object, list = {}, {}
      for n = 1, size do
        object["key" .. n], list[n] = n, n
      end
      assert.same(object, (round(object)))
      assert.same(list, (round(list)))
    end
    assert.same({ a = 3, b = 2 }, json.decode '{"a":1,"b":2,"a":3}')
  end)

  it("reads a million keys", function()
    local parts = {}
    for n = 1, 1000000 do
      parts[n] = ('"k%d":1'):format(n)
    end
    local value = assert(json.decode("{" .. table.concat(parts, ",") .. "}"))
    assert.equal(1, value.k1000000)
  end)

  it("refuses every truncation of a text", function()
    local text = [[{"a":[1,-2.5e3,true,false,null,"x\u00fc\n"],]]
      .. [["b":{"c":"d"}}]]
    assert.is_table(json.decode(text))
    for size = 0, #text - 1 do
      broken(text:sub(1, size))
    end
  end)

  it("survives random damage, and what it reads it can write and read again", function()
    local seed = tonumber(os.getenv "TIDEMILL_SEED") or 20241121
    local state = seed
    local function random(bound)
      state = (state * 16807) % 2147483647
      return state % bound + 1
    end
    local text = [[{"a":[1,-2.5e3,true,false,null,"x\u00fc\n\ud83d\ude00"],]]
      .. [["b":{"c":"d","e":[[],{}]},"n":12345678901234567890}]]
    local bytes = [[{}[]",:0123456789.eE+-\/untrlaf ]] .. "\0\127\255\n"
    local read = 0
    for _ = 1, 20000 do
      local damaged = text
      for _ = 1, random(3) do
        local at, kind = random(#damaged), random(3)
        local byte = bytes:sub(random(#bytes))
        local piece = kind == 1 and "" or byte:sub(1, 1)
        damaged = damaged:sub(1, at - 1) .. piece .. damaged:sub(kind == 3 and at or at + 1)
      end
      local value, why = json.decode(damaged)
      if why == nil and value ~= nil then
        read = read + 1
        local again = json.encode(value)
        if again then
          assert.same(value, (json.decode(again)), "TIDEMILL_SEED=" .. seed)
        end
      else
        assert.matches("at byte %d+", why)
      end
    end
    assert.is_true(read > 100)
  end)

  it("refuses what stands after a value, and says where", function()
    assert.matches("after the value at byte 3", broken "1 2")
    assert.matches("at byte 4", broken "[1,]")
    for _, text in ipairs { "", " ", "[1 2]", "{,}", "{1:2}", '{"a" 1}', '{"a":1,}', "[", "]", "tru", "nulll", "'a'",
      "[1]]", "\0", "1\0" } do
      broken(text)
    end
  end)

  it("reads and writes scalars at the top", function()
    assert.equal("7", json.encode(7))
    assert.equal("text", json.decode ' "text" ')
    assert.equal(json.null, json.decode "null")
    assert.equal("null", json.encode(nil))
  end)

  it("agrees with lua-cjson on what both can", function()
    local ok, cjson = pcall(require, "cjson")
    if not ok then
      pending "lua-cjson is not here"
      return
    end
    local value = { a = { 1, 2.5, "x", true, { b = {} } }, s = "quote\" and \\ and \n", e = "ü" }
    assert.same(value, cjson.decode(json.encode(value)))
    assert.same(value, json.decode(cjson.encode(value)))
    assert.equal(cjson.null, json.null)
  end)
end)
