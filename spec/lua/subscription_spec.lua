local tidemill = require "tidemill"
local world = require "spec.lua.support.world"

local bus, topic

before_each(function()
  bus = world.open()
  topic = bus:topic "orders"
end)

after_each(function()
  bus:close()
end)

local once = { max = 1 }
local quick = { max = 3, backoff = "fixed", delay = 0.01, jitter = 0 }

local function pending()
  local group = bus:info("orders").groups[1]
  return group and group.pending
end

-- Publishes one event for a handler; its dead letter.
local function letter_of(handler, options)
  topic:on("*", options or { retry = once }, handler)
  topic:publish { type = "A", data = { n = 1 } }
  world.wait(bus, function() return topic:dead_letters():count() == 1 end)
  return topic:dead_letters():list()[1]
end

describe("a handler", function()
  it("acknowledges by returning, whatever it returns", function()
    local values = { true, 7, "text", {}, print, false }
    local n = 0
    topic:on("*", function()
      n = n + 1
      return values[n]
    end)
    for _ = 1, #values + 1 do
      topic:publish { type = "A" }
    end
    world.wait(bus, function() return n == #values + 1 and pending() == 0 end)
    assert.equal(0, topic:dead_letters():count())
  end)

  it("fails by nil, err and by an error", function()
    assert.matches("no stock", letter_of(function() return nil, "no stock" end).error)
  end)

  it("fails by false, err", function()
    assert.matches("no stock", letter_of(function() return false, "no stock" end).error)
  end)

  it("fails by a verdict that it forgot to call", function()
    local letter = letter_of(function() return tidemill.reject end)
    assert.matches("tidemill.reject; call it: tidemill.reject%(%)", letter.error)
  end)

  it("fails with the file and line of its error", function()
    assert.matches("subscription_spec.lua:%d+: broken", letter_of(function() error "broken" end).error)
  end)

  it("fails by error(nil)", function()
    assert.equal("nil", letter_of(function() error(nil) end).error)
  end)

  it("fails by error({})", function()
    assert.matches("table", letter_of(function() error {} end).error)
  end)

  it("fails by an error whose __tostring never ends", function()
    local endless = setmetatable({}, {})
    getmetatable(endless).__tostring = function(self) return tostring(self) .. "" end
    assert.matches("cannot be shown", letter_of(function() error(endless) end).error)
  end)

  it("fails by an error in an error", function()
    assert.is_string(letter_of(function()
      error(setmetatable({}, { __tostring = function() error(nil) end }))
    end).error)
  end)

  it("fails by an operation on nil, with its line", function()
    assert.matches("subscription_spec.lua:%d+: attempt to index", letter_of(function(event)
      return event.nothing.at_all
    end).error)
  end)

  it("fails by a stack overflow, and others go on", function()
    local function deep() return 1 + deep() end
    assert.matches("stack overflow", letter_of(deep).error)
    local got
    topic:on("B", { group = "other" }, function() got = true end)
    topic:publish { type = "B" }
    world.wait(bus, function() return got end)
  end)

  it("is dead-lettered as undecodable when it looks at data that is no JSON", function()
    bus.streams:xadd("orders", "*", { event_type = "A", event_id = "x", data = "{" })
    local attempts = 0
    topic:on("*", { retry = quick }, function(event)
      attempts = attempts + 1
      return event.data.n
    end)
    world.wait(bus, function() return topic:dead_letters():count() == 1 end)
    local letter = topic:dead_letters():list()[1]
    assert.equal("undecodable", letter.reason)
    assert.matches("TIDE%-DECODE", letter.error)
    assert.equal(1, attempts)
    assert.equal("{", letter.event.raw)
    assert.is_nil(letter.event.data)
  end)

  it("is dead-lettered as undecodable for strings that are not UTF-8, and keeps the bytes", function()
    local payloads = { '{"n":"caf\233"}', '{"\255":1}', '["\237\160\128"]', '{"n":"a\nb"}' }
    for _, data in ipairs(payloads) do
      bus.streams:xadd("orders", "*", { event_type = "A", data = data })
    end
    topic:publish { type = "A", data = { n = "café" } }
    local good = {}
    topic:on("*", { retry = quick }, function(event) good[#good + 1] = event.data.n end)
    world.wait(bus, function() return topic:dead_letters():count() == #payloads and #good == 1 end)
    assert.same({ "café" }, good)
    for n, letter in ipairs(topic:dead_letters():list()) do
      assert.equal("undecodable", letter.reason)
      assert.matches(n < 4 and "not valid UTF%-8" or "control character", letter.error)
      assert.equal(payloads[n], letter.event.raw)
      assert.equal(1, letter.attempts)
    end
  end)

  it("is retried by its policy and counted", function()
    local attempts = {}
    topic:on("*", { retry = quick }, function(event)
      attempts[#attempts + 1] = event.attempt
      if #attempts < 3 then
        return nil, "again"
      end
    end)
    topic:publish { type = "A" }
    world.wait(bus, function() return #attempts == 3 and pending() == 0 end)
    assert.same({ 1, 2, 3 }, attempts)
    assert.equal(0, topic:dead_letters():count())
  end)

  it("has a policy of its own beside others of its group", function()
    local counts = { A = 0, B = 0 }
    local function fail(event)
      counts[event.type] = counts[event.type] + 1
      error "no"
    end
    topic:on("A", { retry = { max = 2, backoff = "fixed", delay = 0.01 } }, fail)
    topic:on("B", { retry = { max = 4, backoff = "fixed", delay = 0.01 } }, fail)
    topic:publish_batch { { type = "A" }, { type = "B" } }
    world.wait(bus, function() return topic:dead_letters():count() == 2 end)
    assert.same({ A = 2, B = 4 }, counts)
  end)

  it("has the policy by default beside a first handler that says another", function()
    local counts = { A = 0, B = 0 }
    local function fail(event)
      counts[event.type] = counts[event.type] + 1
      error "no"
    end
    topic:on("A", { retry = { max = 1 } }, fail)
    topic:on("B", fail)
    topic:publish_batch { { type = "A" }, { type = "B" } }
    world.wait(bus, function() return counts.B == 2 end)
    assert.equal(1, counts.A)
  end)

  it("has a policy for a class of errors", function()
    local counts = { A = 0, B = 0, C = 0 }
    local errors = { A = { code = "DECLINED" }, B = { class = "slow" }, C = "plain" }
    topic:on("*", { retry = { max = 3, backoff = "fixed", delay = 0.01, classes = {
      DECLINED = { max = 1 }, slow = { max = 2 },
    } } }, function(event)
      counts[event.type] = counts[event.type] + 1
      error(errors[event.type])
    end)
    topic:publish_batch { { type = "A" }, { type = "B" }, { type = "C" } }
    world.wait(bus, function() return topic:dead_letters():count() == 3 end)
    assert.same({ A = 1, B = 2, C = 3 }, counts)
  end)

  it("tells on_error of each failure, whose own errors are logged", function()
    local told = {}
    topic:on("*", { retry = quick, on_error = function(event, err)
      told[#told + 1] = { event.attempt, err }
      error "in on_error"
    end }, function() error("broken", 0) end)
    topic:publish { type = "A" }
    world.wait(bus, function() return topic:dead_letters():count() == 1 end)
    assert.same({ { 1, "broken" }, { 2, "broken" }, { 3, "broken" } }, told)
    assert.matches("in on_error", table.concat(bus.lines, "\n"))
  end)

  it("rejects with a reason", function()
    local letter = letter_of(function() return tidemill.reject "unwanted" end, { retry = quick })
    assert.equal("unwanted", letter.reason)
    assert.equal(1, letter.attempts)
  end)

  it("asks for another time", function()
    local attempts = 0
    topic:on("*", function()
      attempts = attempts + 1
      if attempts == 1 then
        return tidemill.nack { delay = 0.05 }
      end
    end)
    topic:publish { type = "A" }
    world.wait(bus, function() return attempts == 2 and pending() == 0 end)
  end)

  it("gives back without counting", function()
    local attempts = {}
    topic:on("*", { lease = 0.3 }, function(event)
      attempts[#attempts + 1] = event.attempt
      if #attempts == 1 then
        return tidemill.release()
      end
    end)
    topic:publish { type = "A" }
    world.wait(bus, function() return #attempts == 2 end)
    assert.same({ 1, 1 }, attempts)
  end)

  it("may yield by itself: it gives way and goes on", function()
    local order = {}
    topic:on("*", { concurrency = 2 }, function(event)
      order[#order + 1] = event.type .. "1"
      coroutine.yield()
      order[#order + 1] = event.type .. "2"
    end)
    topic:publish_batch { { type = "A" }, { type = "B" } }
    world.wait(bus, function() return #order == 4 and pending() == 0 end)
    assert.same({ "A1", "B1", "A2", "B2" }, order)
  end)

  it("may use coroutines and pcall of its own around waiting calls", function()
    local got
    topic:on("*", function()
      local ok, result = pcall(function() return assert(bus:publish("other", { type = "B" })) end)
      local inner = coroutine.wrap(function() coroutine.yield(1) end)
      got = { ok, result.stream_id, inner() }
    end)
    topic:publish { type = "A" }
    world.wait(bus, function() return got end)
    assert.is_true(got[1])
    assert.equal(1, got[3])
  end)

  it("can't wait in a function that C calls back, and is told so before anything is written", function()
    if not rawget(coroutine, "isyieldable") then
      pending "this Lua can't be asked"
      return
    end
    local kv = bus:kv "n"
    local calls = {
      ["topic:publish"] = function() bus:publish("other", { type = "B" }) end,
      ["topic:publish_batch"] = function() bus:topic("other"):publish_batch { { type = "B" } } end,
      ["topic:append"] = function() bus:topic("other"):append { { type = "B" } } end,
      ["kv:set"] = function() kv:set("k", 1) end,
      ["bus:sleep"] = function() bus:sleep(0.001) end,
    }
    local messages, done = {}, 0
    topic:on("*", { retry = { max = 1 } }, function()
      for name, call in pairs(calls) do
        local _
        _, messages[name] = pcall(string.gsub, "x", "x", function() call() end)
      end
      done = done + 1
    end)
    for _ = 1, 3 do
      topic:publish { type = "A" }
    end
    world.wait(bus, function() return done == 3 end)
    for name in pairs(calls) do
      assert.matches(name .. " in a function that C calls back", messages[name])
    end
    world.wait(bus, function() return pending() == 0 end)
    assert.equal(0, bus:info("other").length)
    assert.is_nil(kv:get "k")
  end)

  it("can't wait on a coroutine of its own, and is told so", function()
    local message
    topic:on("*", function()
      local thread = coroutine.create(function() bus:publish("other", { type = "B" }) end)
      local _
      _, message = coroutine.resume(thread)
    end)
    topic:publish { type = "A" }
    world.wait(bus, function() return message end)
    assert.matches("use bus:spawn", message)
    assert.equal(0, bus:info("other").length) -- refused before it was written
    local thread = coroutine.create(function() bus:topic("other"):publish_batch { { type = "B" } } end)
    bus:spawn(function() message = select(2, coroutine.resume(thread)) end)
    message = nil
    world.wait(bus, function() return message end)
    assert.matches("topic:publish_batch on a coroutine that isn't", message)
    assert.equal(0, bus:info("other").length)
  end)
end)

describe("concurrency", function()
  local function most(concurrency, count)
    local running, peak, done = 0, 0, 0
    topic:on("*", { concurrency = concurrency }, function()
      running = running + 1
      peak = math.max(peak, running)
      bus:sleep(0.02)
      running = running - 1
      done = done + 1
    end)
    for _ = 1, count do
      topic:publish { type = "A" }
    end
    world.wait(bus, function() return done == count end)
    return peak
  end

  it("is one by default", function()
    assert.equal(1, most(nil, 5))
  end)

  it("is reached and not passed", function()
    assert.equal(4, most(4, 12))
  end)

  it("leaves other subscriptions running while one waits", function()
    local got = 0
    topic:on("*", function() bus:sleep(0.3) end)
    bus:topic("fast"):on("*", function() got = got + 1 end)
    topic:publish { type = "A" }
    for _ = 1, 10 do
      bus:topic("fast"):publish { type = "A" }
    end
    world.wait(bus, function() return got == 10 end)
  end)
end)

describe("types that no handler wants", function()
  local function unknown(policy)
    topic:on("A", { unknown = policy, lease = 0.3 }, function() end)
    topic:publish_batch { { type = "B" }, { type = "A" } }
  end

  it("are acknowledged by default", function()
    unknown(nil)
    world.wait(bus, function() return pending() == 0 and bus:info("orders").groups[1].lag == 0 end)
    assert.equal(0, topic:dead_letters():count())
  end)

  it("are dead-lettered where asked to", function()
    unknown "reject"
    world.wait(bus, function() return topic:dead_letters():count() == 1 end)
    assert.equal("B", topic:dead_letters():list()[1].event.type)
  end)

  it("are given back where asked to", function()
    unknown "release"
    for _ = 1, 20 do
      bus:tick(0.01, { wait = true })
    end
    assert.equal(1, bus:info("orders").groups[1].pending)
  end)

  it("include entries without a type", function()
    bus.streams:xadd("orders", "*", { odd = "1" })
    unknown "reject"
    world.wait(bus, function() return topic:dead_letters():count() == 2 end)
  end)
end)
