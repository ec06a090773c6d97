local config = require "tidemill.config"

-- The engine's options as a table.
local function engine_options(url, given)
  local _, list = config.check("open", url, given)
  local options = {}
  for i = 1, #list, 2 do
    assert.is_string(list[i + 1])
    options[list[i]] = list[i + 1]
  end
  return options
end

local function message(given, url)
  local ok, err = pcall(function()
    config.check("open", url or "memory:", given)
    return nil -- so that the line above is the one that is blamed
  end)
  assert.is_false(ok)
  return err
end

describe("the options of open", function()
  it("have defaults and leave the caller's table alone", function()
    local given = {}
    local checked, list = config.check("open", "memory:", given)
    assert.equal(1048576, checked.max_payload)
    assert.equal(10, checked.grace)
    assert.same({}, list)
    assert.same({}, given)
    assert.equal(10, (config.check("open", "memory:")).grace)
  end)

  it("go to the engine as text, those of the URL only", function()
    assert.same(
      { timeout = "1.500000", db = "3", insecure = "true", ca = "/ca.pem", user = "u", max_len = "100000000" },
      engine_options("redis://h", { timeout = 1.5, db = 3, insecure = true, ca = "/ca.pem", user = "u", max_len = 1e8,
        grace = 1, consumer = "c", max_payload = 5, log = print, id = print }))
    assert.same({ insecure = "false" }, engine_options("redis://h", { insecure = false }))
  end)

  it("keep small times, and write them with a point whatever the locale", function()
    assert.equal("0.000001", engine_options("redis://h", { timeout = 1e-6 }).timeout)
    assert.matches("^%d+%.%d+$", engine_options("redis://h", { keepalive = 12.25 }).keepalive)
  end)

  it("name a connection where there is one", function()
    assert.same({ name = "me" }, engine_options("redis://h", { name = "me" }))
    assert.same({ name = "me" }, engine_options("unix:/s", { name = "me" }))
    assert.same({}, engine_options("memory:", { name = "me" }))
    assert.same({}, engine_options("file:x.db", { name = "me" }))
  end)

  it("say whether the engine is embedded", function()
    for url, embedded in pairs { ["memory:"] = true, ["file:a"] = true, ["redis://h"] = false, ["unix:/s"] = false,
      ["redis://h/file:"] = false } do
      assert.equal(embedded, (select(3, config.check("open", url))))
    end
  end)

  it("are refused where they were given", function()
    assert.matches("config_spec.lua:%d+: open: unknown option 'synchronus' %(did you mean 'synchronous'%?%)",
      message { synchronus = "full" })
    assert.matches("max_payload must be an integer from 1 to 536870912, got 0", message { max_payload = 0 })
    assert.matches("grace must be a number of seconds", message { grace = 0 / 0 })
    assert.matches("json must have the functions encode and decode", message { json = { encode = print } })
    assert.matches("consumer", message { consumer = "a\nb" })
    assert.matches("db must be an integer", message { db = 1.5 })
    assert.matches("max_len must be an integer from 0 to 2%^53, got %-1", message { max_len = -1 })
    assert.matches("timeout must be a number of seconds from 0 to 100000000000, got", message { timeout = -1 })
  end)
end)
