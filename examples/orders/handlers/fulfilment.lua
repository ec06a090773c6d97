-- Ships what is paid.

local bus = ...
local orders = bus:topic "orders"

orders:on("OrderPaid", { group = "fulfilment", concurrency = 4 }, function(event)
  local order = event.data
  bus:sleep(0.01) -- packing; other orders are packed meanwhile
  return event:publish("orders", {
    id = order.id .. ":shipped", dedupe = 3600, aggregate_id = order.id, type = "OrderShipped",
    data = { id = order.id, run = order.run, sku = order.sku, quantity = order.quantity, receipt = order.receipt },
  })
end)
