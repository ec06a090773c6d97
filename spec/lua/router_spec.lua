local router = require "tidemill.router"

local function new(...)
  local made = router.new()
  for _, pattern in ipairs { ... } do
    assert(made:add(pattern, pattern))
  end
  return made
end

describe("a router", function()
  it("prefers the exact type, then the longest prefix, then everything", function()
    local made = new("*", "pull_*", "pull_request.*", "pull_request.opened")
    assert.equal("pull_request.opened", made:find "pull_request.opened")
    assert.equal("pull_request.*", made:find "pull_request.closed")
    assert.equal("pull_*", made:find "pull_request")
    assert.equal("*", made:find "push")
  end)

  it("answers false for a type that nobody wants", function()
    local made = new("A", "b.*")
    assert.is_false(made:find "B")
    assert.is_false(made:find "b")
    assert.equal("b.*", made:find "b.")
  end)

  it("gives an entry without a type to everything only", function()
    local made = new("A")
    assert.is_false(made:find "")
    made:add("x*", 1)
    assert.is_false(made:find "")
    made:add("*", "all")
    assert.equal("all", made:find "")
  end)

  it("treats a type's magic characters as text", function()
    local made = new("a.b", "%w+.*")
    assert.is_false(made:find "aXb")
    assert.is_false(made:find "word.x")
    assert.equal("%w+.*", made:find "%w+.x")
  end)

  it("refuses a pattern twice", function()
    local made = new("*", "a.*", "A")
    for _, pattern in ipairs { "*", "a.*", "A" } do
      local ok, reason = made:add(pattern, 1)
      assert.is_nil(ok)
      assert.matches("has a handler already", reason)
    end
    assert.equal(3, made.count)
  end)

  it("refuses what is no pattern", function()
    local made = new()
    for _, bad in ipairs { "", "a*b", "**", "a\nb", "\27", ("x"):rep(513) } do
      local ok, reason = made:add(bad, 1)
      assert.is_nil(ok)
      assert.is_string(reason)
    end
    assert.is_nil((made:add(7, 1)))
  end)

  it("forgets what it remembered when routes change", function()
    local made = new("*")
    assert.equal("*", made:find "A")
    assert.equal("*", made.lookup.A)
    made:add("A", "A")
    assert.equal("A", made:find "A")
    assert.is_true(made:remove "A")
    assert.is_false(made:remove "A")
    assert.equal("*", made:find "A")
    assert.is_true(made:remove "*")
    assert.is_false(made:find "A")
  end)

  it("remembers a bounded number of types", function()
    local made = new("*")
    local lookup = made.lookup
    for n = 1, 5000 do
      made:find("type-" .. n)
    end
    local count = 0
    for _ in pairs(lookup) do
      count = count + 1
    end
    assert.is_true(count <= 1000)
    assert.equal(lookup, made.lookup)
  end)
end)
