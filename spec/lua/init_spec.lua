local tidemill = require "tidemill"

describe("the README's example", function()
  it("runs on memory:", function()
    local charged, paid
    local function charge(card, total)
      charged = { card, total }
      return "receipt-1"
    end
    local bus = assert(tidemill.open(os.getenv "TIDEMILL_URL" or "memory:"))
    local orders = bus:topic("orders")
    orders:on("OrderPlaced", { group = "billing", retry = { max = 5, backoff = "exponential" } }, function(event)
      local receipt = charge(event.data.card, event.data.total)
      event:publish("orders", { type = "OrderPaid", aggregate_id = event.aggregate_id, data = { receipt = receipt } })
    end)
    orders:on("OrderPaid", { group = "billing" }, function(event)
      paid = { event.aggregate_id, event.data.receipt }
      bus:stop()
    end)
    orders:publish { type = "OrderPlaced", aggregate_id = "order-1", data = { card = "…", total = 99.99 } }
    assert.is_true(bus:run(20))
    bus:close()
    assert.same({ "…", 99.99 }, charged)
    assert.same({ "order-1", "receipt-1" }, paid)
  end)
end)

describe("the module", function()
  it("makes no globals", function()
    local before = {}
    for name in pairs(_G) do
      before[name] = true
    end
    local bus = assert(tidemill.open "memory:")
    bus:topic("x"):publish { type = "A" }
    bus:close()
    for name in pairs(_G) do
      assert.is_true(before[name] or false, name)
    end
  end)

  it("marks lists, and nothing else", function()
    local ok, err = pcall(function() return tidemill.array(5) end)
    assert.is_false(ok)
    assert.matches("^spec/lua/init_spec.lua:%d+: tidemill.array: a table expected", err)
    assert.is_table(tidemill.array())
  end)

  it("knows its errors and its null", function()
    local _, err = tidemill.open "nonsense"
    assert.is_true(tidemill.is_error(err))
    assert.is_false(tidemill.is_error "nonsense")
    assert.is_userdata(tidemill.null)
    assert.same({}, tidemill.array())
  end)
end)
