local names = require "tidemill.names"

describe("a topic's name", function()
  it("can be what people use", function()
    for _, name in ipairs { "orders", "github:webhooks", "{tenant-1}.orders", "日本", "a b", "orders.3", "dlq" } do
      assert.is_nil(names.trouble(name))
    end
  end)

  it("is refused with one clear line", function()
    local bad = {
      [""] = "empty", [("x"):rep(65536)] = "65536 bytes", ["a\nb"] = "control", ["\27[31m"] = "control",
      ["a\0b"] = "control", ["\226\128\174txt"] = "bidirectional", ["\226\129\166x"] = "bidirectional", ["*"] = "'%*'",
      ["a*"] = "'%*'", ["{}"] = "hash tag", ["{}x"] = "hash tag", ["\255"] = "UTF%-8",
    }
    for name, why in pairs(bad) do
      assert.matches(why, names.trouble(name))
      assert.is_nil(names.trouble(name):find "%c")
    end
    assert.matches("string", names.trouble(7))
    assert.matches("string", names.trouble(nil))
  end)

  it("cannot be a key that tidemill makes itself", function()
    for _, name in ipairs { "{orders}:delayed", "{orders}:delayed:events", "{orders}:dedupe:x" } do
      local ok, err = pcall(names.check, "bus:topic", "topic name", name, 1)
      assert.is_false(ok)
      assert.matches("tidemill's own", err)
    end
    names.check("bus:topic", "topic name", "{orders}:dlq", 1)
  end)

  it("gives derived keys that share its hash slot", function()
    assert.equal("{orders}:dlq", names.derived("orders", "dlq"))
    assert.equal("{a}.3:dlq", names.derived("{a}.3", "dlq"))
    assert.equal("{x{y}:dlq", names.derived("{x{y}", "dlq"))
  end)
end)
