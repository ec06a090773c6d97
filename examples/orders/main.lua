-- A small order flow: inventory, payment and fulfilment are three scripts that know each other by their events only.
-- They could as well run elsewhere: `tidemill run examples/orders/handlers`.
-- 24 orders go in; each must end as shipped or cancelled, and the stock must add up: then the exit code is 0, else 1.
--
--   lua examples/orders/main.lua [URL]       URL: memory: (default), file:PATH, redis://…, valkey://…

local cjson = require "cjson"
local tidemill = require "tidemill"

local ORDERS, STOCK, TIME_LIMIT = 24, 15, 60

local function fail(...)
  io.stderr:write("orders: ", string.format(...), "\n")
  os.exit(1, true)
end

local bus, err = tidemill.open(arg[1] or os.getenv "TIDEMILL_URL" or "memory:")
if not bus then fail("%s", tostring(err)) end
local here = arg[0]:match "^(.*)/[^/]*$" or "."
for _, name in ipairs { "inventory", "payment", "fulfilment" } do
  assert(loadfile(("%s/handlers/%s.lua"):format(here, name)))(bus)
end

-- A name for this run, so that it can share a server with earlier ones: the time, and the address of a table, which
-- differs between two processes of the same second.
local run = ("%x-%s"):format(os.time(), tostring({}):match "(%x+)$")
local sku = "teapot-" .. run
local stock = bus:kv "stock"
local ok, problem = stock:set(sku, cjson.encode { left = STOCK, held = {} }, { ttl = 3600 })
if not ok then fail("%s", tostring(problem)) end

local orders = bus:topic "orders"
local outcome, finished = {}, 0

-- Whoever wants to know how an order ended reads the same topic in a group of their own.
local function ended(event)
  local order = event.data
  if order.run ~= run or outcome[order.id] == event.type then return end
  if outcome[order.id] then fail("%s is both %s and %s", order.id, outcome[order.id], event.type) end
  outcome[order.id] = event.type
  finished = finished + 1
  print(("  %-22s %-15s %s"):format(order.id, event.type, order.reason or order.receipt or ""))
  if finished == ORDERS then bus:stop() end
end
local desk = "desk-" .. run
orders:on("OrderShipped", { group = desk }, ended)
orders:on("OrderCancelled", { group = desk }, ended)

local placed = {}
for number = 1, ORDERS do
  local id = ("%s-%02d"):format(run, number)
  placed[number] = {
    type = "OrderPlaced", aggregate_id = id,
    data = { id = id, run = run, sku = sku, quantity = 1, card = number % 8 == 0 and "stolen" or "good" },
  }
end
local results, failures = orders:publish_batch(placed)
if not results then fail("%s", tostring(failures)) end
print(("placed %d orders for %d teapots on %s"):format(ORDERS, STOCK, bus.url))

local ran, run_err = bus:run(TIME_LIMIT)
if not ran then fail("%s", tostring(run_err)) end

local shipped, cancelled = 0, 0
for _, what in pairs(outcome) do
  if what == "OrderShipped" then shipped = shipped + 1 else cancelled = cancelled + 1 end
end
local record = cjson.decode(assert(stock:get(sku)))
print(("%d shipped, %d cancelled, %d teapots left of %d"):format(shipped, cancelled, record.left, STOCK))
bus.streams:xgroup_destroy("orders", desk)
stock:delete(sku)
bus:close()

if shipped + cancelled ~= ORDERS then fail("%d orders have no end", ORDERS - shipped - cancelled) end
if shipped + record.left ~= STOCK then fail "the stock does not add up" end
if shipped < STOCK - 3 then fail("only %d were shipped", shipped) end
print "Everything adds up"
