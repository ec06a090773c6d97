-- SPDX-License-Identifier: MIT
-- tidemill run: scripts and folders, broken scripts, and how it ends.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local commands = require "spec.support.commands"
local server = require "spec.support.server"

local dir, script = commands.dir, commands.script

describe("tidemill run", function()
  it("runs scripts and folders with the bus, until they stop", function()
    local folder = dir .. "/handlers"
    os.execute("mkdir -p " .. folder .. "/deeper")
    script("handlers/b.lua", [[
      local bus = ...
      local helper = require "helper_of_b"
      bus:topic("greetings"):on("Hello", function(event)
        print(helper.greet(event.data.name))
        bus:stop()
      end)
    ]])
    script("handlers/helper_of_b.lua", "return { greet = function(name) return 'hello ' .. name end }")
    script("handlers/deeper/never.lua", "print 'never'")
    script("handlers/.hidden.lua", "print 'never'")
    local last = script("z.lua", "local bus = ...\nprint 'publishing'\n"
      .. "assert(bus:publish('greetings', { type = 'Hello', data = { name = 'mill' } }))")
    local result = cli.run { "run", folder, last, "--for", "30" }
    assert.equal(0, result.code, result.err)
    assert.equal("publishing\nhello mill\n", result.out)
    assert.truthy(result.err:find("running 3 scripts on memory:", 1, true), result.err)
  end)

  it("stops by itself after --for", function()
    local path = script("idle.lua", "local bus = ...\nbus:topic('t'):on('*', function() end)")
    local began = os.time()
    assert.equal(0, cli.run({ "run", path, "--for", "1" }).code)
    assert.truthy(os.time() - began >= 1)
  end)

  it("reads a file with a byte order mark and a first line for the shell", function()
    local path = script("bom.lua",
      "\239\187\191#!/usr/bin/env lua\nlocal bus = ...\nprint(select('#', ...))\nbus:stop()")
    local result = cli.run { "run", path, "--for", "1" }
    assert.equal(0, result.code, result.err)
    assert.equal("1\n", result.out)
  end)

  it("B7 names file and line of a syntax error and starts no neighbour", function()
    local good = script("good.lua", "print 'started'")
    local bad = script("bad.lua", "local bus = ...\nlocal x = = 1\n")
    local worse = script("worse.lua", "end\n")
    for _, words in ipairs { { "run", good, bad, worse }, { "run", bad, good, worse } } do
      local result = cli.run(words)
      assert.equal(1, result.code)
      assert.equal("", result.out)
      assert.truthy(result.err:find(bad .. ":2:", 1, true), result.err)
      assert.truthy(result.err:find(worse .. ":1:", 1, true), result.err)
      assert.truthy(result.err:find("nothing was started", 1, true), result.err)
    end
  end)

  local broken = {
    { "a runtime error", "local bus = ...\nlocal x = nil\nx.y = 1\n", ":3:" },
    { "error(nil)", "error(nil)", "an error that is a nil" },
    { "error({})", "error({})", "an error that is a table" },
    { "an error whose __tostring fails", "error(setmetatable({}, { __tostring = function() error 'x' end }))",
      "an error that is a table" },
    { "a module that isn't there", "require 'none.such'",
      ":1: module 'none.such' not found (beside the scripts, or where LUA_PATH and LUA_CPATH say)" },
    { "a failure that it returns", "return nil, 'no config'", ": no config" },
    { "an unknown option", "local bus = ...\nbus:topic('t', { max_lenn = 1 })", "max_len" },
    { "an empty type", "local bus = ...\nbus:topic('t'):on('', function() end)", "" },
  }
  for _, case in ipairs(broken) do
    it("B7 names the script of " .. case[1], function()
      local path = script("broken.lua", case[2])
      local result = cli.run { "run", path, "--for", "5" }
      assert.equal(1, result.code, result.out .. result.err)
      assert.truthy(result.err:find("broken.lua", 1, true), result.err)
      assert.truthy(result.err:find(case[3], 1, true), result.err)
      assert.is_nil(result.err:find("a mistake in tidemill", 1, true), result.err)
    end)
  end

  it("B7 refuses bytecode", function()
    local path = script("code.lua", "\27Lua whatever")
    local result = cli.run { "run", path }
    assert.equal(1, result.code)
    assert.truthy(result.err:find("bytecode", 1, true), result.err)
  end)

  it("B3 says which path can't be read", function()
    os.execute("mkdir -p " .. dir .. "/empty")
    for _, path in ipairs { dir .. "/missing.lua", dir .. "/empty" } do
      local result = cli.run { "run", path }
      assert.equal(1, result.code)
      assert.truthy(result.err:find(path, 1, true), result.err)
    end
  end)

  it("B1 an empty file is a script that does nothing", function()
    assert.equal(0, cli.run({ "run", script("empty.lua", ""), "--for", "0.2" }).code)
  end)

  it("compiles without starting", function()
    local path = script("checked.lua", "print 'started'")
    local result = cli.run { "run", "--check", path }
    assert.equal(0, result.code)
    assert.equal(path .. ": compiles\n", result.out)
  end)
end)

commands.on_each_engine("run", function(run, spawn)
  it("F31 finishes what runs when SIGTERM comes, and exits with 0", function()
    local path = script("slow.lua", [[
      local bus = ...
      bus:topic("drained"):on("*", { group = "g", concurrency = 2 }, function(event)
        print("began " .. event.data)
        bus:sleep(1.5)
        print("ended " .. event.data)
      end)
    ]])
    run({ "publish", "drained", "A", "--file", "-" }, { input = "1\n2\n3\n4\n5\n6\n" })
    local process = spawn { "run", path, "--grace", "20" }
    assert.truthy(process:wait_for "began 2", process:errors())
    process:signal "TERM"
    assert.equal(0, process:wait(30), process:errors())
    local _, began = process:output():gsub("began", "")
    local _, ended = process:output():gsub("ended", "")
    assert.equal(began, ended)
    assert.truthy(began < 6, process:output())
    -- What was not started is there for the next one, at once.
    local second = spawn { "run", path, "--grace", "20" }
    assert.truthy(second:wait_for("ended 6", 60), second:output() .. second:errors())
    second:signal "TERM"
    assert.equal(0, second:wait(30))
    assert.equal(0, cjson.decode(run({ "info", "drained", "--json" }).out).groups[1].pending)
  end)

  it("F31 exits at once at a second SIGTERM", function()
    local path = script("stubborn.lua", [[
      local bus = ...
      bus:topic("stubborn"):on("*", function(event) print "began" bus:sleep(60) end)
    ]])
    run { "publish", "stubborn", "A" }
    local process = spawn { "run", path, "--grace", "50" }
    assert.truthy(process:wait_for "began", process:errors())
    process:signal "TERM"
    assert.truthy(process:wait_for "waiting up to 50 s for 1 running handler; a second signal", process:errors())
    assert.is_true(process:is_alive())
    process:signal "TERM"
    assert.is_not_nil(process:wait(10))
  end)

  it("F31 exits with 0 when the grace is over, and gives the event back", function()
    local path = script("hanging.lua", [[
      local bus = ...
      bus:topic("hanging"):on("*", function(event) print("began " .. event.attempt) bus:sleep(60) end)
    ]])
    run { "publish", "hanging", "A" }
    for _ = 1, 2 do
      local process = spawn { "run", path, "--grace", "0.3" }
      assert.truthy(process:wait_for("began", 30), process:errors())
      process:signal "TERM"
      assert.equal(0, process:wait(20), process:errors())
    end
  end)
end)

for _, kind in ipairs(server.kinds()) do
  describe("tidemill run at a " .. kind .. " server", function()
    local live

    after_each(function() if live then live:stop() end live = nil end)

    it("waits for a server that comes up late", function()
      live = server.start(kind)
      local url = live.url
      live:stop()
      local path = script("late.lua",
        "local bus = ...\nbus:topic('t'):on('*', function() print 'got it' bus:stop() end)")
      local process = cli.spawn { "run", path, "--url", url, "--wait", "60" }
      assert.truthy(process:wait_for "waiting up to", process:errors())
      live:restart()
      live:cli("XADD", "t", "*", "event_type", "A", "data", "1")
      assert.equal(0, process:wait(60), process:errors())
      assert.truthy(process:output():find "got it")
      live:stop()
      local none = cli.run({ "run", path, "--url", url, "--wait", "0" }, { timeout = 30 })
      assert.equal(3, none.code, none.err)
    end)
  end)
end
