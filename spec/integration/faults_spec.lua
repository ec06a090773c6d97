-- SPDX-License-Identifier: MIT
-- The faults that a server and a network cause, on real servers. Names begin with the row of the fault. Common rule:
-- what was acknowledged is not lost, and consuming goes on unaided.
local tidemill = require "tidemill"
local core = require "tidemill.core"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local clock = core.monotonic

local function pump(bus, check, seconds, what)
  local limit = clock() + (seconds or 30)
  while clock() < limit do
    local value = check()
    if value then return value end
    bus:tick(0.01, { wait = true })
  end
  error("not within " .. (seconds or 30) .. " s: " .. (what or "?"), 2)
end

local function publish_all(bus, topic, first, last)
  for n = first, last do
    local event = { id = "e" .. n, type = "A", data = { n = n } }
    local result, err
    for _ = 1, 300 do
      result, err = topic:publish(event, { dedupe = 600 })
      if result then break end
      assert(err.retryable, tostring(err))
      bus:sleep(0.05)
    end
    assert(result, tostring(err))
  end
end

for _, kind in ipairs(server.kinds()) do
  describe("faults on " .. kind .. " " .. server.version(kind), function()
    local live, lines, buses

    local function open(options, url)
      local given = { log = function(level, line) lines[#lines + 1] = level .. " " .. line end }
      for name, value in pairs(options or {}) do given[name] = value end
      local bus = assert(tidemill.open(url or live.url, given))
      buses[#buses + 1] = bus
      return bus
    end

    local function start(options)
      live = server.start(kind, options)
      return live
    end

    local function worker(script)
      local path = shell.write_file(shell.temporary_dir "worker" .. "/worker.lua", string.format(
        "io.stdout:setvbuf 'line'\nlocal tidemill = require 'tidemill'\nlocal bus = assert(tidemill.open(%q))\n"
        .. "local topic = bus:topic 'orders'\n%s", live.url, script))
      return shell.spawn { os.getenv "TIDEMILL_LUA" or "lua5.4", path }
    end

    -- Subscribes a counter of distinct data.n; the table has seen, count and total.
    local function counter(bus, options)
      local got = { seen = {}, count = 0, total = 0 }
      got.subscription = bus:topic("orders"):on("*", options or {}, function(event)
        local n = event.data.n
        if not got.seen[n] then got.count = got.count + 1 end
        got.seen[n] = true
        got.total = got.total + 1
      end)
      return got
    end

    before_each(function() lines, buses = {}, {} end)
    after_each(function()
      for _, bus in ipairs(buses) do bus:close() end
      if live then live:stop() end
      live = nil
    end)

    it("F1 goes on after the server was killed under a blocked read", function()
      start { persist = true }
      local bus = open()
      local got = counter(bus)
      bus:topic("orders"):publish { type = "A", data = { n = 1 } }
      pump(bus, function() return got.count == 1 end)
      bus:tick(0.2, { wait = true })
      live:kill()
      local before = #lines
      local from = clock()
      while clock() - from < 2 do bus:tick(0.05, { wait = true }) end
      assert.is_true(#lines - before <= 8, "too many log lines: " .. table.concat(lines, "\n"))
      live:restart()
      publish_all(bus, bus:topic "orders", 2, 2)
      pump(bus, function() return got.count == 2 end)
    end)

    it("F2 consumes again soon after the server was down for longer than a read waits", function()
      start { persist = true }
      local bus = open()
      local got = counter(bus, { block = 0.5 })
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      live:kill()
      local from = clock()
      while clock() - from < 2 do bus:tick(0.05, { wait = true }) end
      live:restart()
      live:cli("XADD", "orders", "*", "event_type", "A", "data", '{"n":2}')
      pump(bus, function() return got.count == 2 end, 15)
    end)

    it("F8 delivers again after a kill between handler and ack", function()
      start { persist = true }
      local bus = open()
      publish_all(bus, bus:topic "orders", 1, 5)
      local victim = worker [[
        topic:on("*", { lease = 1, settle = 30 }, function(event)
          print("got " .. event.data.n)
          if event.data.n == 5 then os.execute "kill -9 $PPID" end
        end)
        bus:run()]]
      assert(victim:wait(30))
      local got = counter(bus, { lease = 1 })
      pump(bus, function() return got.seen[5] end)
    end)

    it("F10 times out while the server stands still, and matches no late reply", function()
      start()
      local bus = open { timeout = 0.5 }
      local topic = bus:topic "orders"
      assert(topic:publish { type = "A", data = { n = 1 } })
      live:pause()
      local result, err = topic:publish { type = "A", data = { n = 2 } }
      assert.is_nil(result)
      assert.is_true(err.code == "TIDE-TIMEOUT" or err.code == "TIDE-UNKNOWN", err.code)
      live:resume()
      local value
      for _ = 1, 100 do
        value = bus.streams:command("ECHO", "mine")
        if value then break end
        bus:sleep(0.1)
      end
      assert.equal("mine", value)
    end)

    it("F11 waits while the server loads its data", function()
      start { persist = true }
      for n = 1, 300 do live:cli("SET", "k" .. n, "v") end
      local consumer = worker [[
        topic:on("*", function(event) print("got " .. event.data.n) end)
        print "ready"
        bus:run()]]
      assert(consumer:wait_for "ready")
      live:kill()
      live.options.config = { ["key-load-delay"] = 5000, ["loading-process-events-interval-bytes"] = 1024 }
      live:restart()
      live:cli("XADD", "orders", "*", "event_type", "A", "data", '{"n":7}')
      assert(consumer:wait_for("got 7", 30))
      consumer:kill()
    end)

    it("F13 loses nothing while its connections are killed again and again", function()
      start()
      local bus = open()
      local got = counter(bus, { prefetch = 100 })
      local topic = bus:topic "orders"
      local killer = shell.spawn(([[sh -c 'for i in $(seq 1 60); do
        %s-cli -p %d CLIENT KILL TYPE normal >/dev/null; sleep 0.05; done']]):format(
        shell.capture("command -v valkey-cli") ~= "" and "valkey" or "redis", live.port))
      publish_all(bus, topic, 1, 500)
      killer:wait(60)
      pump(bus, function() return got.count == 500 end, 60)
    end)

    it("F14 recreates its group after FLUSHALL, says so once and counts it", function()
      start()
      local bus = open()
      local got = counter(bus)
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      live:cli "FLUSHALL"
      assert(bus:topic("orders"):publish { type = "A", data = { n = 2 } })
      pump(bus, function() return got.count == 2 end)
      local said = 0
      for _, line in ipairs(lines) do
        if line:find "group" then said = said + 1 end
      end
      assert.equal(1, said)
      assert.equal(1, got.subscription:stats().group_recreated)
    end)

    it("F14 stops instead where asked to", function()
      start()
      local bus = open()
      local got = counter(bus, { on_group_lost = "stop" })
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      live:cli "FLUSHALL"
      local from = clock()
      while clock() - from < 1.5 do bus:tick(0.05, { wait = true }) end
      assert(bus:topic("orders"):publish { type = "A", data = { n = 2 } })
      from = clock()
      while clock() - from < 1.5 do bus:tick(0.05, { wait = true }) end
      assert.equal(1, got.count)
    end)

    it("F15 parks on a key of another type and leaves its neighbours alone", function()
      start()
      local bus = open()
      live:cli("SET", "orders", "text")
      local got = counter(bus)
      local other = 0
      bus:topic("other"):on("*", function() other = other + 1 end)
      assert(bus:topic("other"):publish { type = "A", data = {} })
      pump(bus, function() return other == 1 end)
      pump(bus, function() return got.subscription:stats().state == "parked" end)
      local stats = got.subscription:stats()
      assert.equal("TIDE-WRONGTYPE", stats.error.code)
      live:cli("DEL", "orders")
      assert(bus:topic("orders"):publish { type = "A", data = { n = 1 } })
      pump(bus, function() return got.count == 1 end)
    end)

    it("F16 publish under OOM is retryable, consumers drain on, dead letters stay pending", function()
      start()
      local bus = open()
      publish_all(bus, bus:topic "orders", 1, 3)
      local handled = 0
      local topic = bus:topic "orders"
      live:cli("XGROUP", "CREATE", "orders", "default", "0")
      live:cli("CONFIG", "SET", "maxmemory", "1")
      topic:on("*", { retry = { max = 1 } }, function(event)
        handled = handled + 1
        if event.data.n == 2 then error "dead" end
      end)
      local result, err = topic:publish { type = "A", data = { n = 4 } }
      assert.is_nil(result)
      assert.equal("TIDE-OOM", err.code)
      assert.is_true(err.retryable)
      pump(bus, function() return handled == 3 end)
      pump(bus, function() return bus.streams:xpending("orders", "default").count == 1 end)
      live:cli("CONFIG", "SET", "maxmemory", "0")
      pump(bus, function() return topic:dead_letters():count() == 1 end)
      pump(bus, function() return bus.streams:xpending("orders", "default").count == 0 end)
      assert.equal(3, handled)
    end)

    it("F17 backs off under NOREPLICAS and resumes", function()
      start()
      local bus = open()
      local got = counter(bus)
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      live:cli("CONFIG", "SET", "min-replicas-to-write", "1")
      local result, err = bus:topic("orders"):publish { type = "A", data = { n = 2 } }
      assert.is_nil(result)
      assert.is_true(err.retryable)
      local from = clock()
      while clock() - from < 1 do bus:tick(0.05, { wait = true }) end
      live:cli("CONFIG", "SET", "min-replicas-to-write", "0")
      publish_all(bus, bus:topic "orders", 2, 2)
      pump(bus, function() return got.count == 2 end, 20)
    end)

    it("F18 says what is wrong with a password, without showing it", function()
      start { requirepass = "right" }
      local bus = open(nil, live:url_for(nil, "canary-secret"))
      local result, err = bus:topic("orders"):publish { type = "A", data = {} }
      assert.is_nil(result)
      assert.equal("TIDE-NOAUTH", err.code)
      assert.is_nil(tostring(err):find("canary", 1, true))
      assert.is_nil(tostring(bus.url):find("canary", 1, true))
      for _, line in ipairs(lines) do assert.is_nil(line:find("canary", 1, true)) end
    end)

    it("F18 names the rule that a user lacks", function()
      start { acl = "user default on nopass ~* &* +@all\nuser reader on >pw ~orders +@read +@connection\n" }
      local bus = open(nil, live:url_for("reader", "pw"))
      local result, err = bus:topic("orders"):publish { type = "A", data = {} }
      assert.is_nil(result)
      assert.equal("TIDE-NOPERM", err.code)
      assert.matches("%+xadd", tostring(err):lower())
    end)

    it("F19 comes through SCRIPT FLUSH in a loop", function()
      start()
      local bus = open()
      local topic = bus:topic("orders", { dedupe = 60 })
      for n = 1, 30 do
        live:cli("SCRIPT", "FLUSH")
        assert(topic:publish { id = "e" .. n, type = "A", data = { n = n } })
      end
      assert.equal(30, bus.streams:xlen "orders")
    end)

    it("F19 waits while the server is busy with a script", function()
      start { config = { ["lua-time-limit"] = 100 } }
      local bus = open { timeout = 1 }
      local got = counter(bus)
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      local busy = shell.spawn(("redis-cli -p %d EVAL 'while true do end' 0"):format(live.port))
      local from = clock()
      while clock() - from < 1.5 do bus:tick(0.05, { wait = true }) end
      shell.wait_until(function()
        return live:cli("SCRIPT", "KILL"):find "OK" or live:cli "PING" == "PONG"
      end, 20, 0.1)
      busy:wait(10)
      publish_all(bus, bus:topic "orders", 2, 2)
      pump(bus, function() return got.count == 2 end)
    end)

    it("F19 waits while the server has too many clients", function()
      start()
      local first = open()
      assert(first:topic("orders"):publish { type = "A", data = { n = 1 } })
      live:cli("CONFIG", "SET", "maxclients", "1")
      local bus = open { timeout = 0.5 }
      local result, err = bus:topic("orders"):publish { type = "A", data = { n = 2 } }
      assert.is_nil(result)
      assert.is_true(err.retryable, tostring(err))
      first.streams:command("CONFIG", "SET", "maxclients", "1000")
      publish_all(bus, bus:topic "orders", 3, 3)
    end)

    it("F23 claims what a dead consumer left, once", function()
      start()
      local bus = open()
      publish_all(bus, bus:topic "orders", 1, 20)
      local victim = worker [[
        topic:on("*", { lease = 1, prefetch = 20 }, function(event) print "held" bus:sleep(100) end)
        bus:run()]]
      assert(victim:wait_for "held")
      victim:kill()
      local one, two = open(), open()
      local first, second = counter(one, { lease = 1 }), counter(two, { lease = 1 })
      local limit = clock() + 30
      while first.total + second.total < 20 and clock() < limit do
        one:tick(0.01, { wait = true })
        two:tick(0.01, { wait = true })
      end
      local from = clock()
      while clock() - from < 1 do
        one:tick(0.01, { wait = true })
        two:tick(0.01, { wait = true })
      end
      assert.equal(20, first.total + second.total)
    end)

    it("F24 acks pending entries that were trimmed, counts them and says so", function()
      start()
      local bus = open()
      publish_all(bus, bus:topic "orders", 1, 10)
      local victim = worker [[
        topic:on("*", { lease = 1, prefetch = 20 }, function(event) print "held" bus:sleep(100) end)
        bus:run()]]
      assert(victim:wait_for "held")
      victim:kill()
      live:cli("XTRIM", "orders", "MAXLEN", "5")
      local got = counter(bus, { lease = 1 })
      pump(bus, function() return got.count == 5 end)
      pump(bus, function() return bus.streams:xpending("orders", "default").count == 0 end)
      assert.equal(5, got.total)
    end)

    it("F30 holds a hundred events of a mebibyte within its byte budget", function()
      start()
      local bus = open()
      local topic = bus:topic "orders"
      local data = string.rep("x", 1048000)
      for _ = 1, 100 do assert(topic:publish { type = "A", data = data, content_type = "text/plain" }) end
      local handled, most = 0, 0
      local subscription
      subscription = topic:on("*", { prefetch_bytes = 8 * 1048576 }, function()
        handled = handled + 1
        most = math.max(most, subscription:stats().bytes)
      end)
      pump(bus, function() return handled == 100 end, 60)
      assert.is_true(most <= 8 * 1048576 * 1.2, most .. " bytes were held")
    end)

    it("F31 drains on SIGTERM and exits at once on the second", function()
      start()
      local bus = open()
      publish_all(bus, bus:topic "orders", 1, 1)
      local polite = worker [[
        topic:on("*", { group = "polite" }, function() print "held" bus:sleep(1) print "done" end)
        assert(bus:run())]]
      assert(polite:wait_for "held")
      polite:signal "TERM"
      assert.equal(0, polite:wait(20))
      assert.matches("done", polite:output())
      local stubborn = worker [[
        topic:on("*", { group = "stubborn" }, function() print "held" bus:sleep(60) end)
        assert(bus:run())]]
      assert(stubborn:wait_for "held")
      stubborn:signal "TERM"
      shell.sleep(0.3)
      stubborn:signal "TERM"
      local code = stubborn:wait(8)
      assert.is_number(code)
      assert.are_not.equal(0, code)
    end)

    it("F32 runs a slow handler once while it lives", function()
      start()
      local bus = open()
      local runs, ended = 0, 0
      bus:topic("orders"):on("*", { lease = 0.5 }, function()
        runs = runs + 1
        bus:sleep(2)
        ended = ended + 1
      end)
      local other = open()
      other:topic("orders"):on("*", { lease = 0.5 }, function() runs = runs + 1 end)
      publish_all(bus, bus:topic "orders", 1, 1)
      local limit = clock() + 6
      while clock() < limit and (ended == 0 or clock() < limit - 3) do
        bus:tick(0.01, { wait = true })
        other:tick(0.01, { wait = true })
      end
      assert.equal(1, runs)
    end)

    it("F33 handles 999 events around one poison event, wherever it stands", function()
      start()
      for _, position in ipairs { 1, 500, 1000 } do
        local bus = open()
        local topic = bus:topic("orders" .. position)
        local handled = 0
        for first = 1, 1000, 500 do
          local batch = {}
          for n = first, first + 499 do batch[#batch + 1] = { type = "A", data = { n = n } } end
          assert.equal(0, select(2, topic:publish_batch(batch)))
        end
        topic:on("*", { retry = { max = 2, backoff = "fixed", delay = 0.01 } }, function(event)
          if event.data.n == position then error "poison" end
          handled = handled + 1
        end)
        pump(bus, function() return handled == 999 and topic:dead_letters():count() == 1 end)
        bus:close()
      end
    end)

    it("F34 asks seldom and says little while the server refuses for ever", function()
      start()
      local bus = open()
      counter(bus)
      bus:tick(0.5, { wait = true })
      live:cli("DEL", "orders")
      live:cli("SET", "orders", "text")
      local from = clock()
      while clock() - from < 1 do bus:tick(0.05, { wait = true }) end
      local said = #lines
      local function commands() return tonumber((live:info "total_commands_processed"):match "%d+") end
      local before, cpu = commands(), os.clock()
      from = clock()
      while clock() - from < 4 do bus:tick(0.1, { wait = true }) end
      local asked = commands() - before
      assert.is_true(asked <= 4 * 5 + 5, asked .. " commands in four seconds")
      assert.is_true(#lines - said <= 5, table.concat(lines, "\n"))
      assert.is_true(os.clock() - cpu < 1)
    end)
  end)
end
