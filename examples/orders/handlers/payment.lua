-- Charges an order once its stock is reserved. The payment service is shaky: every third call times out.

local bus = ...
local orders = bus:topic "orders"

local calls = 0
local function charge(order)
  calls = calls + 1
  if calls % 3 == 0 then return nil, "the payment service timed out" end
  if order.card == "stolen" then return false end
  return "receipt-" .. order.id
end

orders:on("StockReserved", {
  group = "payment", retry = { max = 10, backoff = "exponential", delay = 0.02 },
}, function(event)
  local order = event.data
  local receipt, err = charge(order)
  if receipt == nil then return nil, err end -- a failure: tried again
  if receipt == false then
    order.reason = "card refused"
    return event:publish("orders", {
      id = order.id .. ":payment", dedupe = 3600, aggregate_id = order.id, type = "PaymentFailed", data = order,
    })
  end
  order.receipt = receipt
  return event:publish("orders", {
    id = order.id .. ":payment", dedupe = 3600, aggregate_id = order.id, type = "OrderPaid", data = order,
  })
end)
