-- Reserves stock for an order, gives it back when the payment fails.

local bus = ...
local cjson = require "cjson"

local orders = bus:topic "orders"
local stock = bus:kv "stock"

-- Changes one article's record { left =, held = { [order] = quantity } }. Compare-and-set: another worker may be
-- changing it at the same time; then the change is made again on what is there now. `change` returns false to leave it.
local function update(sku, change)
  while true do
    local before, err = stock:get(sku)
    if err then return nil, err end
    if not before then return nil, "no such article: " .. sku end
    local record = cjson.decode(before)
    local result = change(record)
    if not result then return false end
    local replaced, replace_err = stock:replace(sku, before, cjson.encode(record))
    if replaced then return true end
    if replaced == nil then return nil, replace_err end
  end
end

orders:on("OrderPlaced", { group = "inventory" }, function(event)
  local order = event.data
  local enough = true
  local ok, err = update(order.sku, function(record)
    -- The same event may come twice; the second time the stock is held already.
    if record.held[order.id] then return false end
    enough = record.left >= order.quantity
    if not enough then return false end
    record.left = record.left - order.quantity
    record.held[order.id] = order.quantity
    return true
  end)
  if ok == nil then return nil, err end
  -- Ids made from the order's id, and a window: what comes twice is published once.
  return event:publish("orders", {
    id = order.id .. ":stock", dedupe = 3600, aggregate_id = order.id,
    type = enough and "StockReserved" or "OrderCancelled",
    data = enough and order or { id = order.id, run = order.run, reason = "out of stock" },
  })
end)

orders:on("PaymentFailed", { group = "inventory" }, function(event)
  local order = event.data
  local ok, err = update(order.sku, function(record)
    if not record.held[order.id] then return false end
    record.left = record.left + record.held[order.id]
    record.held[order.id] = nil
    return true
  end)
  if ok == nil then return nil, err end
  return event:publish("orders", {
    id = order.id .. ":cancelled", dedupe = 3600, aggregate_id = order.id, type = "OrderCancelled",
    data = { id = order.id, run = order.run, reason = order.reason },
  })
end)
