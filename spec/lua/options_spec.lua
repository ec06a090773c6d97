local options = require "tidemill.options"

local rules = {
  timeout = { "seconds", default = 5, min = 0.001 },
  synchronous = { "choice", words = { "full", "normal" } },
  count = { "integer", min = 1, max = 10 },
  name = { "string" },
  log = { "callable" },
  exact = { "boolean" },
}

local function open(given)
  local checked = options.check("thing.open", given, rules)
  return checked
end

local function message(given)
  local ok, err = pcall(function() return open(given), nil end)
  assert.is_false(ok)
  return err
end

describe("an options table", function()
  it("is copied, with defaults", function()
    local given = { name = "x" }
    local checked = open(given)
    assert.equal("x", checked.name)
    assert.equal(5, checked.timeout)
    assert.is_nil(given.timeout)
    assert.equal(5, open(nil).timeout)
  end)

  it("is refused with the nearest name for a slip", function()
    assert.matches("thing.open: unknown option 'synchronus' %(did you mean 'synchronous'%?%)",
      message { synchronus = "full" })
    assert.matches("did you mean 'timeout'", message { timeuot = 1 })
    assert.matches("did you mean 'timeout'", message { Timeout = 1 })
  end)

  it("is refused without a guess where none is near", function()
    local text = message { zzzzzzzz = 1 }
    assert.matches("unknown option 'zzzzzzzz'", text)
    assert.is_nil(text:find "did you mean")
    assert.matches("unknown option 1", message { "positional" })
  end)

  it("blames the line that called", function()
    assert.matches("options_spec.lua:%d+:", message { nope = 1 })
  end)

  it("refuses durations that are none", function()
    for _, bad in ipairs { -1, 0, 0 / 0, math.huge, -math.huge, 2 ^ 63, "5", {}, true } do
      assert.matches("timeout must be a number of seconds", message { timeout = bad })
    end
    assert.equal(0.5, open({ timeout = 0.5 }).timeout)
  end)

  it("refuses values of another kind, and says what it got", function()
    assert.matches('synchronous must be one of "full", "normal", got "fast"', message { synchronous = "fast" })
    assert.matches("count must be an integer from 1 to 10, got 11", message { count = 11 })
    assert.matches("count must be an integer", message { count = 1.5 })
    assert.matches("name must be a string that is not empty", message { name = "" })
    assert.matches("name must be a string, got 7", message { name = 7 })
    assert.matches("exact must be a boolean", message { exact = "yes" })
    assert.matches("log must be a function", message { log = {} })
    assert.matches("options must be a table, got string", message "timeout=5")
  end)

  it("takes what can be called for a function", function()
    assert.is_table(open({ log = setmetatable({}, { __call = print }) }).log)
  end)

  it("shows no control bytes of a bad value", function()
    assert.is_nil(message({ synchronous = "\27[31m\n" }):find "\27")
  end)
end)

describe("the nearest name", function()
  local names = { "publish", "tail", "info", "doctor" }
  it("is found for slips", function()
    assert.equal("publish", options.nearest("pubish", names))
    assert.equal("tail", options.nearest("tial", names))
    assert.equal("doctor", options.nearest("docter", names))
  end)

  it("is nothing for another word", function()
    assert.is_nil(options.nearest("xyzzyx", names))
    assert.is_nil(options.nearest(("x"):rep(1000), names))
  end)
end)
