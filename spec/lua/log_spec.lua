local log = require "tidemill.log"

describe("the log function", function()
  it("gets level and line", function()
    local got
    log.guarded(function(level, line) got = { level, line } end)("warn", "text")
    assert.same({ "warn", "text" }, got)
  end)

  it("may raise without harm", function()
    local real = io.stderr
    local written = {}
    io.stderr = { write = function(_, text) written[#written + 1] = text end } -- luacheck: ignore
    local ok = pcall(log.guarded(function() error "broken" end), "warn", "line \27[31m")
    io.stderr = real -- luacheck: ignore
    assert.is_true(ok)
    local all = table.concat(written)
    assert.matches("broken", all)
    assert.matches("line", all)
    assert.is_nil(all:find "\27")
  end)
end)
