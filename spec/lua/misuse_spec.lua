local misuse = require "tidemill.misuse"
local options = require "tidemill.options"

describe("misuse", function()
  it("blames the nearest line outside tidemill", function()
    local ok, err = pcall(function()
      options.check("thing", { nope = 1 }, {})
    end)
    assert.is_false(ok)
    assert.matches("^spec/lua/misuse_spec.lua:%d+: thing: unknown option 'nope'$", err)
  end)

  it("blames it through tail calls and pcall too", function()
    local function outer()
      return options.check("thing", { nope = 1 }, {})
    end
    local ok, err = pcall(function()
      local value = outer()
      return value
    end)
    assert.is_false(ok)
    assert.matches("^spec/lua/misuse_spec.lua:%d+: ", err)
    ok, err = pcall(options.check, "thing", { nope = 1 }, {})
    assert.is_false(ok)
    assert.matches("unknown option 'nope'", err)
  end)

  it("raises what it is given", function()
    assert.has_error(function() misuse "text" end)
  end)
end)
