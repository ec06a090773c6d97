-- SPDX-License-Identifier: MIT
-- The examples as a reader runs them, on every engine: they check themselves, this checks that they said so.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local server = require "spec.support.server"
local shell = require "spec.support.shell"
local tidemill = require "tidemill"
local webhooks = require "spec.support.webhooks"

local lua = os.getenv "TIDEMILL_LUA" or (rawget(_G, "jit") and "luajit" or "lua5.4")

local targets = {
  { name = "memory", start = function() return { url = "memory:", stop = function() end } end },
  { name = "file", start = function()
    return { url = "file:" .. shell.temporary_dir "store" .. "/store.db", stop = function() end }
  end },
}
for _, kind in ipairs(server.kinds()) do
  targets[#targets + 1] = { name = kind, start = function() return server.start(kind) end }
end

for _, target in ipairs(targets) do
  describe("the examples on " .. target.name, function()
    local store

    setup(function() store = target.start() end)
    teardown(function() store:stop() end)

    local function run(path, env)
      return shell.run({ lua, path, store.url }, { env = env, timeout = 120 })
    end

    it("webhooks: 329 real payloads, handled, retried, dead-lettered, and everything adds up", function()
      local payloads, reason = webhooks.path()
      if not payloads then
        pending(reason)
        return
      end
      -- Twice: an earlier run's events and dead letters must not be counted.
      for _ = 1, target.name == "memory" and 1 or 2 do
        local result = run("examples/webhooks/main.lua", { TIDEMILL_WEBHOOKS = payloads })
        assert.equal(0, result.code, result.out .. result.err)
        assert.truthy(result.out:find("published 329 events of 58 kinds", 1, true), result.out)
        assert.truthy(result.out:find "sum%s+329%s+of 329 published", result.out)
        assert.truthy(result.out:find "handled%s+322\n", result.out)
        assert.truthy(result.out:find "dead%-lettered%s+7\n", result.out)
        assert.truthy(result.out:find("9 were handled at a second attempt", 1, true), result.out)
        assert.truthy(result.out:find "Everything adds up\n$", result.out)
      end
    end)

    it("webhooks: says what is missing", function()
      local result = run("examples/webhooks/main.lua", { TIDEMILL_WEBHOOKS = "/nowhere/index.json" })
      assert.equal(1, result.code)
      assert.truthy(result.err:find("/nowhere/index.json", 1, true), result.err)
      local path = shell.temporary_dir "payloads" .. "/index.json"
      for _, text in ipairs { "{", "[]", "{}", "7" } do
        shell.write_file(path, text)
        result = run("examples/webhooks/main.lua", { TIDEMILL_WEBHOOKS = path })
        assert.equal(1, result.code)
        assert.equal("", result.out)
        assert.truthy(result.err:find("^webhooks: " .. path:gsub("%p", "%%%0") .. "[^\n]+\n$"), result.err)
      end
    end)

    it("orders: the folder of handlers runs as a service", function()
      if target.name == "memory" then return end -- gone with each process
      local bus = assert(tidemill.open(store.url))
      assert(bus:kv("stock"):set("cup", cjson.encode { left = 1, held = { none = 0 } }))
      for number = 1, 2 do
        local id = "service-" .. number
        assert(bus:publish("orders", { type = "OrderPlaced", aggregate_id = id,
          data = { id = id, run = "service", sku = "cup", quantity = 1, card = "good" } }))
      end
      local process = cli.spawn { "run", "examples/orders/handlers", "--url", store.url }
      local shipped, cancelled
      shell.wait_until(function()
        shipped, cancelled = 0, 0
        for _, entry in ipairs(assert(bus.streams:xrange("orders", "-", "+"))) do
          local data = cjson.decode(entry.fields.data)
          if data.run == "service" then
            if entry.fields.event_type == "OrderShipped" then shipped = shipped + 1 end
            if entry.fields.event_type == "OrderCancelled" then cancelled = cancelled + 1 end
          end
        end
        return shipped + cancelled == 2
      end, 60, 0.2)
      process:signal "TERM"
      assert.equal(0, process:wait(30), process:errors())
      bus:close()
      assert.same({ 1, 1 }, { shipped, cancelled })
    end)

    it("orders: every order ends once and the stock adds up", function()
      for _ = 1, target.name == "memory" and 1 or 2 do
        local result = run "examples/orders/main.lua"
        assert.equal(0, result.code, result.out .. result.err)
        assert.truthy(result.out:find "Everything adds up\n$", result.out)
        assert.truthy(result.out:find "\n%d+ shipped, %d+ cancelled", result.out)
        assert.truthy(result.out:find("card refused", 1, true), result.out)
      end
    end)
  end)
end
