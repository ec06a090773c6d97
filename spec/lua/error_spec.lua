local errors = require "tidemill.error"

describe("an error value", function()
  it("has code, message and whether a retry can help", function()
    local err = errors.new("TIMEOUT", "no answer")
    assert.equal("TIDE-TIMEOUT", err.code)
    assert.equal("no answer", err.message)
    assert.is_true(err.retryable)
    assert.is_false(errors.new("WRONGTYPE").retryable)
  end)

  it("shows as code and message", function()
    assert.equal("TIDE-TIMEOUT: no answer", tostring(errors.new("TIMEOUT", "no answer")))
  end)

  it("takes the status's own text and further fields", function()
    local err = errors.new("CONFLICT", nil, { expected = 1, actual = 2 })
    assert.matches("expected version", err.message)
    assert.equal(1, err.expected)
    assert.equal(2, err.actual)
  end)

  it("is told from other tables", function()
    assert.is_true(errors.is(errors.new "TIMEOUT"))
    assert.is_false(errors.is { code = "TIDE-TIMEOUT" })
    assert.is_false(errors.is "TIDE-TIMEOUT")
  end)
end)

describe("describing what a handler raised", function()
  local function text_of(value)
    return (errors.describe(value))
  end

  it("takes every kind of value", function()
    assert.equal("plain", text_of "plain")
    assert.equal("nil", text_of(nil))
    assert.equal("42", text_of(42))
    assert.equal("false", text_of(false))
    assert.matches("table without", text_of {})
    assert.equal("card refused", text_of { message = "card refused" })
    assert.equal("declined: card refused", text_of { class = "declined", message = "card refused" })
  end)

  it("gives the class that retry policies are chosen by", function()
    assert.equal("TIDE-TIMEOUT", select(2, errors.describe(errors.new "TIMEOUT")))
    assert.equal("declined", select(2, errors.describe { class = "declined" }))
    assert.is_nil(select(2, errors.describe { code = 7 }))
    assert.is_nil(select(2, errors.describe "text"))
  end)

  it("survives a __tostring that raises, answers a table, or never ends", function()
    assert.matches("cannot be shown", text_of(setmetatable({}, { __tostring = function() error "no" end })))
    assert.matches("cannot be shown", text_of(setmetatable({}, { __tostring = function() return {} end })))
    local endless = setmetatable({}, {})
    getmetatable(endless).__tostring = function(self) return tostring(self) .. "" end
    assert.matches("cannot be shown", text_of(endless))
  end)

  it("survives protected and odd metatables", function()
    assert.is_string(text_of(setmetatable({}, { __metatable = "hidden" })))
    assert.is_string(text_of(setmetatable({}, { __index = function() error "no" end })))
  end)

  it("cuts what is longer than 4 KiB", function()
    assert.equal(4096, #text_of(("x"):rep(10000)))
  end)
end)
