local tidemill = require "tidemill"
local core = require "tidemill.core"
local world = require "spec.lua.support.world"

local function misuse(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return err
end

describe("tidemill.open", function()
  it("connects to nothing yet", function()
    local bus = assert(tidemill.open "redis://127.0.0.1:1")
    assert.equal("redis", bus.engine)
    assert.equal("redis://127.0.0.1:1", bus.url)
    bus:close()
  end)

  it("answers nil, err for a bad URL", function()
    for _, url in ipairs { "", "nonsense", "http://x", "redis://h:0", "redis://h:65536", "redis://::1", "redis://h/x",
      "memory:?nope=1", "redis://h?timeout=-1", ("x"):rep(10000), "redis://\0" } do
      local bus, err = tidemill.open(url)
      assert.is_nil(bus, url)
      assert.matches("^TIDE%-", err.code)
      assert.is_nil(err.message:find "%c")
    end
  end)

  it("never shows a password", function()
    local bus = assert(tidemill.open "redis://user:hunter2@127.0.0.1:1/0")
    assert.is_nil(bus.url:find "hunter2")
    assert.is_nil(tostring(bus):find "hunter2")
    bus:close()
    for _, url in ipairs { "redis://user:hunter2@h@ost", "redis://user:hunter2@host:99999",
      "redis://:hunter2@host?nope=1", "redis://u:hun%zzhunter2@h" } do
      local _, err = tidemill.open(url)
      assert.is_nil(tostring(err):find "hunter2", url)
    end
  end)

  it("raises for unknown options with the nearest name, where they were given", function()
    assert.matches("bus_spec.lua:%d+: tidemill.open: unknown option 'synchronus' %(did you mean 'synchronous'%?%)",
      misuse(function() return tidemill.open("memory:", { synchronus = "full" }) end))
    assert.matches("bus_spec.lua:%d+: tidemill.open: a URL", misuse(function() return tidemill.open() end))
    misuse(tidemill.open, "memory:", { timeout = -1 })
    misuse(tidemill.open, "memory:", { max_payload = 0 })
    misuse(tidemill.open, "memory:", { json = {} })
    misuse(tidemill.open, "memory:", { log = "stderr" })
    misuse(tidemill.open, "memory:", { consumer = "a\nb" })
    misuse(tidemill.open, "memory:", "timeout=5")
  end)

  it("hands options of the URL on", function()
    local bus, err = tidemill.open("redis://127.0.0.1:1", { timeout = 1.5, name = "me", db = 3 })
    assert.is_table(bus, tostring(err))
    bus:close()
    bus, err = tidemill.open("redis://127.0.0.1:1", { synchronous = "full" })
    assert.is_nil(bus)
    assert.equal("TIDE-OPTION", err.code)
  end)

  it("gives every bus a consumer name of its own", function()
    local a, b = world.open(), world.open()
    assert.are_not.equal(a.consumer, b.consumer)
    assert.matches(tostring(core.pid()), a.consumer, 1, true)
    a:close()
    b:close()
    a = world.open { consumer = "me" }
    assert.equal("me", a.consumer)
    a:close()
  end)
end)

describe("a server that isn't there", function()
  it("is a retryable error of the call that needs it", function()
    local lines = {}
    local bus = assert(tidemill.open("redis://127.0.0.1:1", { timeout = 0.3, connect_timeout = 0.3,
      log = function(_, line) lines[#lines + 1] = line end }))
    local result, err = bus:publish("orders", { type = "A" })
    assert.is_nil(result)
    assert.is_true(err.retryable)
    assert.matches("^TIDE%-", err.code)
    local ok, why = bus:state()
    assert.is_nil(ok)
    assert.is_string(why.code)
    bus:close()
  end)
end)

describe("closing", function()
  it("twice is nothing; afterwards calls answer TIDE-CLOSED or raise", function()
    local bus = world.open()
    local topic, kv = bus:topic "x", bus:kv "x"
    local handle = topic:on("*", print)
    bus:close()
    bus:close()
    for _, call in ipairs {
      function() return topic:publish { type = "A" } end,
      function() return topic:publish_batch { { type = "A" } } end,
      function() return topic:append { { type = "A" } } end,
      function() return topic:cancel "x" end,
      function() return kv:get "x" end,
      function() return kv:set("x", 1) end,
      function() return bus.streams:xlen "x" end,
      function() return bus:info "x" end,
      function() return bus:server() end,
      function() return bus:state() end,
      function() return bus:sleep(0.01) end,
      function() return bus:run(0.01) end,
      function() return bus:tick(0.01) end,
      function() return bus:drain(0.01) end,
    } do
      local result, err = call()
      assert.is_nil(result)
      assert.equal("TIDE-CLOSED", err.code)
    end
    assert.matches("closed", misuse(function() topic:on("A", print) end))
    assert.matches("closed", misuse(function() bus:spawn(print) end))
    assert.is_nil(handle:stats())
  end)

  it("in a handler ends the loop", function()
    local bus = world.open()
    local topic = bus:topic "x"
    topic:on("*", function() bus:close() end)
    topic:publish_batch { { type = "A" }, { type = "A" } }
    assert.is_true(bus:run(5))
    bus = world.open()
    topic = bus:topic "x"
    local closed
    topic:on("*", function()
      closed = true
      bus:close()
    end)
    topic:publish { type = "A" }
    while not closed do
      bus:tick(0.01, { wait = true })
    end
  end)

  it("is the collector's work too", function()
    for _ = 1, 20 do
      local bus = world.open()
      bus:topic("x"):on("*", print)
      bus:topic("x"):publish { type = "A" }
    end
    collectgarbage()
    collectgarbage()
  end)
end)

describe("running", function()
  local bus, topic

  before_each(function()
    bus = world.open()
    topic = bus:topic "orders"
  end)
  after_each(function() bus:close() end)

  it("goes on until stop", function()
    local got = 0
    topic:on("*", function()
      got = got + 1
      if got == 3 then
        bus:stop()
      end
    end)
    topic:publish_batch { { type = "A" }, { type = "A" }, { type = "A" } }
    assert.is_true(bus:run(20))
    assert.equal(3, got)
  end)

  it("starts no other handler after stop, and goes on with them in the next run", function()
    local got = 0
    topic:on("*", { concurrency = 4 }, function()
      got = got + 1
      bus:stop()
    end)
    bus:topic("others"):on("*", function()
      got = got + 1
      bus:stop()
    end)
    topic:publish_batch { { type = "A" }, { type = "A" } }
    bus:publish("others", { type = "A" })
    for turn = 1, 3 do
      assert.is_true(bus:run(20))
      assert.equal(turn, got)
    end
  end)

  it("stops in a tick too, and in that one only", function()
    local got = 0
    topic:on("*", function()
      got = got + 1
      bus:stop()
    end)
    topic:publish_batch { { type = "A" }, { type = "A" }, { type = "A" } }
    local before = 0
    world.wait(bus, function()
      assert.is_true(got <= before + 1, got)
      before = got
      return got == 3
    end)
  end)

  it("takes a time, and can be repeated", function()
    local got = 0
    topic:on("*", function() got = got + 1 end)
    for n = 1, 3 do
      topic:publish { type = "A" }
      assert.is_true(bus:run(0.1))
      assert.equal(n, got)
    end
    topic:publish { type = "A" }
    world.wait(bus, function() return got == 4 end)
  end)

  it("refuses times that are none, and loops in loops", function()
    for _, bad in ipairs { -1, 0 / 0, math.huge, "1" } do
      misuse(bus.run, bus, bad)
      misuse(bus.tick, bus, bad)
      misuse(bus.drain, bus, bad)
      misuse(bus.sleep, bus, bad)
    end
    misuse(bus.tick, bus)
    local messages = {}
    topic:on("*", function()
      messages[1] = select(2, pcall(bus.run, bus, 1))
      messages[2] = select(2, pcall(bus.tick, bus, 1))
      messages[3] = select(2, pcall(bus.drain, bus, 1))
    end)
    topic:publish { type = "A" }
    world.wait(bus, function() return #messages == 3 end)
    for _, message in ipairs(messages) do
      assert.matches("running already", message)
    end
  end)

  it("spawns functions that wait; their errors are logged", function()
    local steps = {}
    bus:spawn(function()
      steps[#steps + 1] = "a"
      bus:sleep(0.02)
      steps[#steps + 1] = "c"
    end)
    bus:spawn(function()
      steps[#steps + 1] = "b"
      error "oops"
    end)
    world.wait(bus, function() return #steps == 3 end)
    assert.same({ "a", "b", "c" }, steps)
    assert.matches("oops", table.concat(bus.lines, "\n"))
    misuse(bus.spawn, bus, "x")
  end)

  it("wakes sleepers in the order of their times", function()
    local order = {}
    for _, ms in ipairs { 50, 10, 40, 20, 30, 10 } do
      bus:spawn(function()
        bus:sleep(ms / 1000)
        order[#order + 1] = ms
      end)
    end
    world.wait(bus, function() return #order == 6 end)
    assert.same({ 10, 10, 20, 30, 40, 50 }, order)
  end)

  it("sleeps outside too, without running handlers", function()
    local got = 0
    topic:on("*", function() got = got + 1 end)
    topic:publish { type = "A" }
    local before = core.monotonic()
    assert.is_true(bus:sleep(0.05))
    assert.is_true(core.monotonic() - before >= 0.049)
    assert.equal(0, got)
    world.wait(bus, function() return got == 1 end)
  end)

  it("never waits in a tick, whatever the budget", function()
    topic:on("*", function() end)
    local before = core.monotonic()
    for _ = 1, 100 do
      assert.is_true(bus:tick(5))
    end
    assert.is_true(core.monotonic() - before < 4)
    misuse(bus.tick, bus, 0.1, { wiat = true })
  end)

  it("waits in a tick up to its time where asked to", function()
    local before = core.monotonic()
    bus:tick(0.05, { wait = true })
    local taken = core.monotonic() - before
    assert.is_true(taken >= 0.049 and taken < 5)
  end)

  it("does all that is ready in one tick when there is time", function()
    local got = 0
    topic:on("*", function() got = got + 1 end)
    local events = {}
    for i = 1, 1000 do
      events[i] = { type = "A" }
    end
    topic:publish_batch(events)
    assert.equal(0, got)
    bus:tick(60)
    assert.equal(1000, got)
    assert.equal(0, bus:info("orders").groups[1].pending)
  end)

  it("collects garbage a little in each tick, until all of it is gone", function()
    local gone = setmetatable({}, { __mode = "v" })
    local mode = _VERSION ~= "Lua 5.1" and collectgarbage "incremental" -- lua5.4 itself is generational
    local pause = collectgarbage("setpause", 1000)
    collectgarbage() -- by itself the collector begins anew at ten times what is left
    local base = collectgarbage "count"
    gone[1] = {}
    local ticks = 0
    while gone[1] and ticks < 100000 do
      bus:tick(0.01)
      ticks = ticks + 1
    end
    collectgarbage("setpause", pause)
    if mode then
      collectgarbage(mode)
    end
    assert.is_nil(gone[1])
    assert.is_true(collectgarbage "count" < 5 * base)
  end)

  it("leaves a collector alone that was stopped", function()
    if not pcall(collectgarbage, "isrunning") then
      return -- plain Lua 5.1 can't say
    end
    local gone = setmetatable({}, { __mode = "v" })
    collectgarbage()
    collectgarbage "stop"
    gone[1] = {}
    for _ = 1, 20000 do
      bus:tick(0.01)
    end
    local kept = gone[1]
    collectgarbage "restart"
    assert.is_table(kept)
  end)

  it("ends a tick between handlers when its time is over", function()
    local got = 0
    topic:on("*", function()
      got = got + 1
      local until_then = core.monotonic() + 0.01
      repeat until core.monotonic() >= until_then
    end)
    for _ = 1, 50 do
      topic:publish { type = "A" }
    end
    while got == 0 do
      bus:tick(0.02)
    end
    local before = got
    bus:tick(0.03)
    assert.is_true(got - before <= 10)
    world.wait(bus, function() return got == 50 end)
  end)

  it("handles a batch with a budget of nothing", function()
    local got = 0
    topic:on("*", function() got = got + 1 end)
    topic:publish { type = "A" }
    for _ = 1, 1000 do
      bus:tick(0)
      if got == 1 then
        return
      end
    end
    error "never handled"
  end)

  it("raises what a log function can't, and goes on after a bad turn", function()
    local noisy = world.open { log = function() error "log" end }
    noisy:topic("x"):on("*", { retry = { max = 1 } }, function() error "no" end)
    noisy:topic("x"):publish { type = "A" }
    local real = io.stderr
    io.stderr = { write = function() end } -- luacheck: ignore
    world.wait(noisy, function() return noisy:topic("x"):dead_letters():count() == 1 end)
    io.stderr = real -- luacheck: ignore
    noisy:close()
  end)

  it("drains: running handlers end, buffered events are given back", function()
    local started, ended = 0, 0
    topic:on("*", { concurrency = 2 }, function()
      started = started + 1
      bus:sleep(0.1)
      ended = ended + 1
    end)
    for _ = 1, 10 do
      topic:publish { type = "A" }
    end
    world.wait(bus, function() return started == 2 end)
    assert.is_true(bus:drain(10))
    assert.equal(2, ended)
    assert.equal(2, started)
    world.wait(bus, function() return ended == 10 end)
  end)

  it("says when the grace period was too short", function()
    topic:on("*", function() bus:sleep(60) end)
    topic:publish { type = "A" }
    local stats
    world.wait(bus, function()
      stats = bus.order[1] and bus.order[1].running
      return stats == 1
    end)
    local ok, err = bus:drain(0.05)
    assert.is_nil(ok)
    assert.equal("TIDE-TIMEOUT", err.code)
    assert.matches("1 handler was still running", err.message)
  end)
end)

describe("what a bus knows", function()
  it("is the engine's name and version", function()
    local bus = world.open()
    local about = assert(bus:server())
    assert.is_string(about.engine)
    assert.is_string(about.version)
    bus:close()
  end)

  it("is what a topic holds", function()
    local bus = world.open()
    local topic = bus:topic "orders"
    assert.same({ length = 0, groups = {}, dead_letters = 0, delayed = 0 }, bus:info "orders")
    topic:publish { type = "A" }
    topic:publish { type = "A", delay = 60 }
    local info = bus:info "orders"
    assert.equal(1, info.length)
    assert.equal(1, info.delayed)
    misuse(bus.info, bus, "")
    bus:close()
  end)
end)

describe("a bus of a to-be-closed variable", function()
  it("is closed where the variable ends (Lua 5.4)", function()
    local chunk = load [[
      local bus = ...
      do local closing <close> = bus end
      return bus:state()
    ]]
    if not chunk then
      return -- this Lua has no such variables
    end
    local ok, err = chunk(world.open())
    assert.is_nil(ok)
    assert.equal("TIDE-CLOSED", err.code)
  end)
end)
