local cjson = require "cjson"
local json = require "tidemill.cli.json"

describe("the command's JSON", function()
  it("keeps the order of a record and leaves out what is nil", function()
    assert.equal('{"z":1,"a":"x","list":[1,2]}',
      json.encode(json.record { { "z", 1 }, { "a", "x" }, { "gone", nil }, { "list", { 1, 2 } } }))
  end)

  it("gives base64 back as the same bytes, and refuses what is none", function()
    for size = 0, 70 do
      local bytes = {}
      for index = 1, size do bytes[index] = string.char((index * 37 + size) % 256) end
      local text = table.concat(bytes)
      assert.equal(text, json.bytes(json.base64(text)))
    end
    for _, text in ipairs { "A", "AAA", "AA==A", "====", "A A=", "\255AAA", "AAAA=" } do
      assert.is_nil(json.bytes(text), text)
    end
  end)

  it("cuts a member out of an object as it is written", function()
    local values = { '"a\\"b}"', "1.10", "12345678901234567890123", "null", "true", "{}", "[]",
      '{"data":[1,{"x":"]"}]}',
      '[[],"[",{"a":"\\\\"}]', "-0", '""' }
    for _, value in ipairs(values) do
      for _, form in ipairs { '{"data":%s}', ' { "x" : {"data":1}, "data" : %s , "y":"data" } ',
        '{"data":0,"d\\u0061ta":%s}' } do
        local text = form:gsub("%%s", function() return value end)
        assert.is_not_nil(json.decode(text), text)
        assert.equal(value, json.member(text, "data"), text)
      end
    end
    assert.is_nil(json.member("{}", "data"))
    assert.is_nil(json.member('{"x":{"data":1}}', "data"))
  end)

  it("sorts the keys of other tables", function()
    assert.equal('{"a":1,"b":{"c":true},"d":null}', json.encode { d = json.null, b = { c = true }, a = 1 })
  end)

  it("tells an empty array from an empty object", function()
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("{}", json.encode {})
  end)

  it("writes integers in full and never writes what JSON has no word for", function()
    assert.equal("[0,-7,9007199254740991,0.5,null,null]",
      json.encode { 0, -7, 9007199254740991, 0.5, 0 / 0, math.huge })
    assert.equal(0.1, cjson.decode(json.encode { 0.1 })[1])
  end)

  it("escapes so that a terminal is safe and a parser gets the same text", function()
    local text = 'a"b\\c\n\27[1m\226\128\174é\0\127'
    local encoded = json.encode(text)
    assert.is_nil(encoded:find "[%c\127]")
    assert.is_nil(encoded:find("\226\128\174", 1, true))
    assert.equal(text, cjson.decode("[" .. encoded .. "]")[1])
  end)

  it("writes characters beyond the first plane as two escapes when they hide text", function()
    assert.equal('"\\udb40\\udc41"', json.encode "\243\160\129\129")
  end)

  it("keeps bytes that are no UTF-8, as base64", function()
    assert.equal('{"base64":"/wA="}', json.encode "\255\0")
    assert.equal("Zg==", json.base64 "f")
    assert.equal("Zm8=", json.base64 "fo")
    assert.equal("Zm9v", json.base64 "foo")
    assert.equal("Zm9vYmFy", json.base64 "foobar")
  end)

  it("puts raw JSON on one line", function()
    assert.equal('{"data":{ "a": 1 }}', json.encode(json.record { { "data", json.raw '{\n"a": 1\n}' } }))
  end)

  it("says what is wrong with a text", function()
    local value, err = json.decode '{"a":'
    assert.is_nil(value)
    assert.is_string(err)
    assert.equal(json.null, json.decode "null")
  end)
end)
