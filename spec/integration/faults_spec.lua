-- SPDX-License-Identifier: MIT
-- The faults that a server and a network cause, on real servers. Names begin with the row of the fault. Common rule:
-- what was acknowledged is not lost, and consuming goes on unaided.
local tidemill = require "tidemill"
local faults = require "spec.support.faults"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

-- What F2 promises, and what a machine under test may add to it by standing still; that no pause between two tries is
-- longer than 4 s is shown without a clock in spec/c/broker_redis/test_loss.c.
local WITHIN, STALL = 5, 2

local clock, pump, pass, publish_all = faults.clock, faults.pump, faults.pass, faults.publish_all

for _, kind in ipairs(server.kinds()) do
  describe("faults on " .. kind .. " " .. server.version(kind), function()
    local world, live, lines

    local function start(options)
      world = faults.world(kind, options)
      live, lines = world.server, world.lines
    end

    local function open(options, url) return world:open(options, url) end
    local function worker(script) return world:worker(script) end
    local function counter(bus, options) return world.counter(bus, options) end

    after_each(function()
      world:close()
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
      pass(bus, 2)
      assert.is_true(#lines - before <= 8, "too many log lines: " .. table.concat(lines, "\n"))
      live:restart()
      publish_all(bus, bus:topic "orders", 2, 2)
      pump(bus, function() return got.count == 2 end)
    end)

    it("F2 consumes again within 5 s after the server was down for longer than a read waits", function()
      start { persist = true }
      local bus = open()
      local got = counter(bus, { block = 0.5 })
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      live:kill()
      pass(bus, 8) -- by then it waits as long as it ever does between two tries
      live:restart()
      local up = clock()
      live:cli("XADD", "orders", "*", "event_type", "A", "data", '{"n":2}')
      pump(bus, function() return got.count == 2 end)
      local took = clock() - up
      assert.is_true(took <= WITHIN + STALL, "consumed after " .. took .. " s")
    end)

    it("F7 sends an ack again whose reply was lost, and runs nothing twice", function()
      start()
      local bus = open { timeout = 0.5 }
      publish_all(bus, bus:topic "orders", 1, 1)
      local runs = 0
      bus:topic("orders"):on("*", { settle = 0.001 }, function()
        runs = runs + 1
        live:pause() -- the ack leaves, the server reads it when nobody waits for its answer any more
      end)
      pump(bus, function() return runs == 1 end)
      pump(bus, function() return world:said "TIDE-TIMEOUT" > 0 or world:said "TIDE-UNKNOWN" > 0 end)
      live:resume()
      pump(bus, function()
        local summary = bus.streams:xpending("orders", "default")
        return summary and summary.count == 0
      end)
      pass(bus, 1)
      assert.equal(1, runs)
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
      local lines_of = {}
      for n = 1, 3000 do lines_of[n] = "SET k" .. n .. " v" end
      live:cli_lines(lines_of) -- while it loads these it answers every 1,024
      local consumer = worker [[
        topic:on("*", function(event) print("got " .. event.data.n) end)
        print "ready"
        bus:run()]]
      assert(consumer:wait_for "ready")
      live:kill()
      live.options.config = { ["key-load-delay"] = 1000 }
      live:restart "monotonic clock"
      assert(shell.wait_until(function() return live:cli "PING":find "LOADING" end, 10, 0.02))
      assert(shell.wait_until(function() return live:cli "PING" == "PONG" end, 30, 0.05))
      live:cli("XADD", "orders", "*", "event_type", "A", "data", '{"n":7}')
      assert(consumer:wait_for("got 7", 30))
      assert.is_nil(consumer:errors():find "TIDE%-DEAD")
      consumer:kill()
    end)

    for name, lose in pairs {
      FLUSHALL = function() live:cli "FLUSHALL" end,
      ["DEL of the stream"] = function() live:cli("DEL", "orders") end,
      ["XGROUP DESTROY"] = function() live:cli("XGROUP", "DESTROY", "orders", "default") end,
      ["an empty restart"] = function()
        live:kill()
        live:restart()
      end,
    } do
      it("F14 recreates its group after " .. name .. ", says so once and counts it", function()
        start()
        local bus = open()
        local got = counter(bus)
        publish_all(bus, bus:topic "orders", 1, 1)
        pump(bus, function() return got.count == 1 end)
        pass(bus, 0.1) -- its ack has left
        lose()
        publish_all(bus, bus:topic "orders", 2, 2)
        pump(bus, function() return got.count == 2 end)
        assert.equal(1, world:said " is gone")
        assert.equal(1, got.subscription:stats().group_recreated)
      end)
    end

    it("F14 stops instead where asked to", function()
      start()
      local bus = open()
      local got = counter(bus, { on_group_lost = "stop" })
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      live:cli "FLUSHALL"
      pass(bus, 1.5)
      assert(bus:topic("orders"):publish { type = "A", data = { n = 2 } })
      pass(bus, 1.5)
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
      pass(bus, 1)
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
      for _, line in ipairs(world.log) do assert.is_nil(line:find("canary", 1, true)) end
    end)

    it("F18 takes up a password that was changed in its file, without a restart", function()
      start { requirepass = "old-canary" }
      local path = shell.temporary_dir "secret" .. "/password"
      shell.write_file(path, "old-canary\n")
      local bus = open({ password_file = path, timeout = 1 }, live:url_for())
      local got = counter(bus)
      publish_all(bus, bus:topic "orders", 1, 1)
      pump(bus, function() return got.count == 1 end)
      -- The server first: what connects meanwhile is refused, and waits.
      live:cli("CONFIG", "SET", "requirepass", "new-canary")
      live.password = "new-canary"
      live:cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
      pump(bus, function() return world:said "TIDE-NOAUTH" > 0 end)
      os.remove(path) -- and for a while there is none
      pump(bus, function() return world:said(path .. ": No such file") > 0 end)
      shell.write_file(path, "new-canary\n")
      publish_all(bus, bus:topic "orders", 2, 2)
      pump(bus, function() return got.count == 2 end)
      local result, err = tidemill.open(live:url_for(), { password_file = path .. "-not" })
      assert.is_nil(result)
      assert.equal("TIDE-NOAUTH", err.code)
      for _, line in ipairs(world.log) do assert.is_nil(line:find("canary", 1, true), line) end
    end)

    it("F18 takes up the new password of an ACL user, while the old one still holds", function()
      start { acl = "user default on nopass ~* &* +@all\nuser worker on >old-canary ~* &* +@all\n" }
      local path = shell.temporary_dir "secret" .. "/password"
      shell.write_file(path, "old-canary")
      local bus = open(nil, live:url_for "worker":gsub(":@", "@") .. "?password_file=" .. path)
      local got = counter(bus)
      publish_all(bus, bus:topic "orders", 1, 1)
      live:cli("ACL", "SETUSER", "worker", ">new-canary")
      shell.write_file(path, "new-canary")
      live:cli("ACL", "SETUSER", "worker", "<old-canary")
      live:cli("CLIENT", "KILL", "USER", "worker")
      publish_all(bus, bus:topic "orders", 2, 2)
      pump(bus, function() return got.count == 2 end)
      assert.equal(0, world:said "TIDE-NOAUTH")
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
      pass(bus, 1.5)
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
      assert.equal(5, got.subscription:stats().gone)
      assert.is_true(world:said "retention is too short" > 0)
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
  end)
end
