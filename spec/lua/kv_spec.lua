local world = require "spec.lua.support.world"

local bus, kv

before_each(function()
  bus = world.open()
  kv = bus:kv "carts"
end)

after_each(function()
  bus:close()
end)

describe("a key-value namespace", function()
  it("sets, gets, deletes", function()
    assert.is_nil(kv:get "k")
    assert.is_true(kv:set("k", "v"))
    assert.equal("v", kv:get "k")
    assert.equal(1, select("#", kv:get "k"))
    assert.is_true(kv:delete "k")
    assert.is_false(kv:delete "k")
  end)

  it("keeps numbers as text", function()
    kv:set("n", 42)
    assert.equal("42", kv:get "n")
    kv:set(7, 1.5)
    assert.equal("1.5", kv:get(7))
  end)

  it("adds, replaces and says what is there", function()
    assert.is_true(kv:add("k", "1"))
    assert.same({ false, "1" }, { kv:add("k", "2") })
    assert.same({ false, "1" }, { kv:replace("k", "x", "2") })
    assert.is_true(kv:replace("k", "1", "2"))
    assert.is_false((kv:replace("missing", "1", "2")))
    assert.same({ false, "2" }, { kv:delete("k", { expected = "1" }) })
    assert.is_true(kv:delete("k", { expected = "2" }))
    assert.is_false((kv:delete("k", { expected = "2" })))
  end)

  it("counts", function()
    assert.equal(1, kv:increment "n")
    assert.equal(-9, kv:increment("n", -10))
    kv:set("t", "text")
    local n, err = kv:increment "t"
    assert.is_nil(n)
    assert.is_string(err.code)
  end)

  it("expires", function()
    assert.is_false(kv:expire("missing", 1))
    kv:set("k", "v", { ttl = 0.05 })
    assert.equal("v", kv:get "k")
    bus:sleep(0.1)
    assert.is_nil(kv:get "k")
    kv:set("k", "v")
    assert.is_true(kv:expire("k", 0.05))
    bus:sleep(0.1)
    assert.is_nil(kv:get "k")
  end)

  it("yields in a coroutine", function()
    assert.equal("v", (world.inside(bus, function()
      kv:set("k", "v")
      return kv:get "k"
    end)))
  end)

  it("keeps the digits of numbers, as values and in keys", function()
    for _, case in ipairs { { 1, "1" }, { -7, "-7" }, { 0.1, "0.1" }, { 2 ^ 53, "9007199254740992" },
      { 2 ^ 53 - 1, "9007199254740991" }, { 1 / 3, "0.3333333333333333" }, { 1e300, "1e+300" } } do
      kv:set("k", case[1])
      assert.equal(case[2], kv:get "k")
      assert.equal(case[1], tonumber(kv:get "k"))
    end
    kv:set(2 ^ 53, "even")
    kv:set(2 ^ 53 - 1, "odd")
    assert.equal("even", kv:get(2 ^ 53))
  end)

  it("refuses what is no key, value or time", function()
    for _, bad in ipairs {
      function() kv:get() end,
      function() kv:get "" end,
      function() kv:get(("x"):rep(2000)) end,
      function() kv:set("k") end,
      function() kv:set("k", {}) end,
      function() kv:set("k", "v", { ttl = 0 }) end,
      function() kv:set("k", "v", { tll = 1 }) end,
      function() kv:increment("k", 1.5) end,
      function() kv:increment("k", 0 / 0) end,
      function() kv:expire("k") end,
      function() kv:expire("k", -1) end,
      function() bus:kv "" end,
      function() bus:kv "a\nb" end,
    } do
      local ok, err = pcall(bad)
      assert.is_false(ok)
      assert.matches("^spec/lua/kv_spec.lua:%d+: ", err)
    end
  end)
end)
