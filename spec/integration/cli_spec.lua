-- SPDX-License-Identifier: MIT
-- The command `tidemill` from outside: words in, text and exit code out. On memory:, a file, and real servers.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local unpack = rawget(table, "unpack") or rawget(_G, "unpack")
local dir

local function script(name, text)
  return shell.write_file(dir .. "/" .. name, text)
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

-- One line on stderr, and no trace of a crash.
local function assert_one_line(result)
  assert.equal(1, #lines_of(result.err), result.err)
  assert.is_nil(result.err:find("traceback", 1, true), result.err)
  assert.is_nil(result.err:find("a mistake in tidemill", 1, true), result.err)
end

setup(function() dir = shell.temporary_dir "cli" end)

describe("the command's usage", function()
  it("explains itself, every command of it", function()
    local result = cli.run { "--help" }
    assert.equal(0, result.code)
    for _, name in ipairs { "run", "publish", "tail", "info", "doctor", "migrate", "version", "help" } do
      assert.truthy(result.out:find("\n   " .. name .. " ", 1, true), name)
      local own = cli.run { name, "--help" }
      assert.equal(0, own.code, own.err)
      assert.truthy(own.out:find("Usage: tidemill " .. name, 1, true))
      assert.equal(own.out, cli.run({ "help", name }).out)
    end
  end)

  it("explains topics beside commands", function()
    for _, topic in ipairs { "urls", "scripts", "exit-codes", "environment" } do
      local result = cli.run { "help", topic }
      assert.equal(0, result.code)
      assert.truthy(#result.out > 100)
    end
  end)

  it("shows the help on stderr when nothing is asked for", function()
    local result = cli.run {}
    assert.equal(2, result.code)
    assert.equal("", result.out)
    assert.truthy(result.err:find "Usage:")
  end)

  it("tells its version", function()
    local result = cli.run { "version" }
    assert.equal(0, result.code)
    assert.truthy(result.out:find "^tidemill %d+%.%d+%.%d+ %(")
    assert.equal(result.out, cli.run({ "--version" }).out)
    assert.truthy(cjson.decode(cli.run({ "version", "--json" }).out).tidemill:find "^%d")
  end)

  local slips = {
    { "B3 an unknown command", { "rnu" }, "did you mean 'run'?" },
    { "B3 an unknown flag", { "run", "--graec", "1", "x.lua" }, "did you mean '--grace'?" },
    { "B3 an unknown flag of another command", { "tail", "orders", "--folow" }, "did you mean '--follow'?" },
    { "B3 an unknown flag like nothing", { "info", "orders", "--zzzzzzzz" }, "unknown option '--zzzzzzzz'" },
    { "B3 an unknown help topic", { "help", "ruls" }, "did you mean" },
    { "B3 a missing argument", { "info" }, "missing argument" },
    { "B3 a missing type", { "publish", "orders" }, "missing argument 'type'" },
    { "B3 a missing value", { "tail", "orders", "-n" }, "argument" },
    { "B3 a value that is no number", { "tail", "orders", "-n", "many" }, "'many' is not a number" },
    { "B3 a value out of range", { "run", "--grace", "-1", "x.lua" }, "" },
    { "B3 not a number", { "run", "--for", "nan", "x.lua" }, "'nan' is not a number" },
    { "B3 data that is no JSON", { "publish", "orders", "A", "{nope" }, "DATA is not JSON" },
    { "B5 truncated JSON", { "publish", "orders", "A", '{"a":[1,' }, "DATA is not JSON" },
    { "B5 JSON a thousand levels deep", { "publish", "orders", "A", ("["):rep(1000) }, "256 levels" },
    { "B5 a lone surrogate", { "publish", "orders", "A", [["\ud800"]] }, "lone surrogate" },
    { "B5 a number beyond all", { "publish", "orders", "A", "1e400" }, "a number too large" },
    { "B5 NaN", { "publish", "orders", "A", "NaN" }, "DATA is not JSON" },
    { "B3 a negative number not behind --", { "publish", "orders", "A", "-5" }, "goes behind --" },
    { "B4 an empty topic name", { "publish", "", "A" }, "cannot be empty" },
    { "B4 a topic name with ESC", { "publish", "a\27[1m", "A" }, "control characters" },
    { "B4 a topic name with *", { "info", "a*" }, "'*'" },
    { "B4 a topic name that turns text around", { "tail", "\226\128\174x" }, "bidirectional" },
    { "B4 a topic name of tidemill's own", { "publish", "{a}:delayed", "A" }, "tidemill's own" },
    { "B3 metadata without a value", { "publish", "orders", "A", "--meta", "oops" }, "--meta wants K=V" },
    { "B3 an expected version that is none", { "publish", "orders", "A", "--expected", "now" }, "--expected wants" },
    { "B3 an id that is none", { "tail", "orders", "--from", "yesterday" }, "--from wants a stream id" },
    { "B3 options that exclude each other", { "publish", "orders", "A", "1", "--file", "x" }, "can't be combined" },
  }
  for _, slip in ipairs(slips) do
    it("answers " .. slip[1] .. " with one line and 2", function()
      local result = cli.run(slip[2])
      assert.equal(2, result.code, result.err)
      assert.equal("", result.out)
      assert_one_line(result)
      assert.truthy(result.err:find(slip[3], 1, true), result.err)
    end)
  end

  it("B3 takes words behind -- as they are", function()
    local result = cli.run { "run", "--", "--check" }
    assert.equal(1, result.code)
    assert.truthy(result.err:find("--check: No such file", 1, true), result.err)
  end)

  it("shows arguments without obeying their control characters", function()
    local result = cli.run { "help", "\27[31mx" }
    assert.equal(2, result.code)
    assert.is_nil(result.err:find "\27")
  end)

  it("B3 fails on a full or closed stdout, and leaves quietly when the reader has gone", function()
    for _, path in ipairs { cli.launcher, cli.program or cli.launcher } do
      local full = cli.run({ "help" }, { path = path, tail = " >/dev/full" })
      assert.equal(1, full.code)
      assert_one_line(full)
      assert.truthy(full.err:find("No space left", 1, true))
      local closed = cli.run({ "help" }, { path = path, tail = " >&-" })
      assert.equal(1, closed.code)
      assert_one_line(closed)
      local gone = cli.run({ "help" }, { path = path, tail = " | true" })
      assert.equal("", gone.err)
    end
  end)

  it("has colours and a progress bar on a terminal only, and none of them with NO_COLOR", function()
    assert.is_nil(cli.run({ "doctor", "--url", "memory:" }).out:find "\27")
    if shell.run("command -v script").code ~= 0 then
      pending "script(1) is not installed"
      return
    end
    local function at_terminal(words, env)
      env.TERM = "xterm"
      return shell.run({ "script", "-qec", shell.words { cli.path, unpack(words) }, "/dev/null" }, { env = env })
    end
    local doctor = { "doctor", "--url", "memory:" }
    assert.truthy(at_terminal(doctor, { NO_COLOR = false }).out:find "\27%[32mok")
    assert.is_nil(at_terminal(doctor, { NO_COLOR = "1" }).out:find "\27%[%d")
    local path = shell.write_file(dir .. "/bar.json", ('{"type":"A"}\n'):rep(2000))
    local many = { "publish", "bar", "--file", path, "--url", "memory:" }
    local shown = at_terminal(many, {})
    assert.truthy(shown.out:find("100 % 2000 of 2000", 1, true), shown.out)
    local plain = cli.run(many)
    assert.equal("", plain.err)
    assert.equal("published 2000 events\n", plain.out)
  end)
end)

describe("URLs at the command (B2)", function()
  local urls = {
    { "redis://user:p@ss-canary@h", 2 }, { "redis://:pa%zz-canary@h", 2 }, { "redis://h:0", 2 },
    { "redis://h:65536", 2 }, { "redis://::1:6379", 2 }, { "redis://h/x", 2 }, { "http://h", 2 }, { "", 3 },
    { "redis://h?tmeout=1", 2, "timeout" }, { "redis://h?timeout=soon", 2 }, { "file:", 2 }, { "redis://", 2 },
    { "redis://h:6379:1", 2 }, { "memory:?password=canary", 2 }, { "valkeys://h?insecure=perhaps", 2 },
    { ("redis://%s"):format(("h"):rep(5000)), 2 },
  }
  for _, case in ipairs(urls) do
    if case[1] ~= "" then
      it(("refuses %s with one line, without its secret"):format(case[1]:sub(1, 40)), function()
        local result = cli.run({ "info", "orders", "--url", case[1] }, { timeout = 20 })
        assert.equal(case[2], result.code, result.err)
        assert_one_line(result)
        assert.is_nil((result.err .. result.out):find("canary", 1, true), result.err)
        if case[3] then assert.truthy(result.err:find(case[3], 1, true), result.err) end
      end)
    end
  end

  it("says that nobody answers, with 3 and without the password", function()
    local result = cli.run({ "info", "orders", "--url", "redis://u:canary@127.0.0.1:1" }, { timeout = 30 })
    assert.equal(3, result.code, result.err)
    assert_one_line(result)
    assert.truthy(result.err:find "127%.0%.0%.1:1")
    assert.is_nil(result.err:find "canary")
  end)

  it("never makes a file only to look into it", function()
    for _, words in ipairs { { "info", "t" }, { "tail", "t" }, { "doctor" } } do
      words[#words + 1] = "--url"
      words[#words + 1] = "file:" .. dir .. "/not%20there.db"
      local result = cli.run(words)
      assert.equal(3, result.code)
      assert_one_line(result)
      assert.is_nil(shell.read_file(dir .. "/not there.db"))
    end
  end)

  it("takes the URL from TIDEMILL_URL, and --url over it", function()
    local result = cli.run({ "doctor", "--json" }, { env = { TIDEMILL_URL = "memory:" } })
    assert.equal(0, result.code, result.err)
    assert.equal("memory:", cjson.decode(result.out).url)
    result = cli.run({ "doctor", "--json", "-u", "memory:" }, { env = { TIDEMILL_URL = "http://nowhere" } })
    assert.equal(0, result.code, result.err)
  end)
end)

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

-- ---- on every engine that outlives a process ----

local targets = { { name = "file", start = function()
  return { url = "file:" .. shell.temporary_dir "store" .. "/store.db", stop = function() end }
end } }
for _, kind in ipairs(server.kinds()) do
  targets[#targets + 1] = { name = kind, start = function() return server.start(kind) end, kind = kind }
end

for _, target in ipairs(targets) do
  describe("the command on " .. target.name, function()
    local store

    local function run(words, options)
      options = options or {}
      options.env = options.env or {}
      options.env.TIDEMILL_URL = store.url
      return cli.run(words, options)
    end

    local function json_lines(result)
      local found = {}
      for index, line in ipairs(lines_of(result.out)) do found[index] = cjson.decode(line) end
      return found
    end

    setup(function() store = target.start() end)
    teardown(function() store:stop() end)

    it("publishes an event and shows it", function()
      local result = run { "publish", "orders", "OrderPlaced", '{"total":9007199254740993,"note":"a\\u0000b"}',
        "--id", "o-1", "--aggregate-id", "order-1", "--meta", "issuer=spec", "--meta", "trace=x=y" }
      assert.equal(0, result.code, result.err)
      assert.truthy(result.out:find "^%d+%-%d+  o%-1\n$", result.out)
      local shown = run { "tail", "orders" }
      assert.equal(0, shown.code, shown.err)
      for _, text in ipairs { "OrderPlaced", "order-1", "issuer=spec", "trace=x=y" } do
        assert.truthy(shown.out:find(text, 1, true), shown.out)
      end
      local event = json_lines(run { "tail", "orders", "--json" })[1]
      assert.equal("o-1", event.id)
      assert.equal("OrderPlaced", event.type)
      assert.equal("order-1", event.aggregate_id)
      assert.equal("a\0b", event.data.note)
      assert.equal("spec", event.metadata.issuer)
    end)

    local refused = {
      { "an empty type", { "publish", "orders", "" }, "type is empty" },
      { "a type of 64 KiB", { "publish", "orders", ("x"):rep(65536) }, "longer than 512 bytes" },
      { "a type with a line end", { "publish", "orders", "a\nb" }, "control character" },
      { "an empty id", { "publish", "orders", "A", "--id", "" }, "id is empty" },
      { "metadata named as an own field", { "publish", "orders", "A", "--meta", "event_id=x" }, "event's own field" },
      { "a delay and a time", { "publish", "orders", "A", "--delay", "1", "--at", "5" }, "exclude" },
      { "a delayed append", { "publish", "orders", "A", "--expected", "1", "--delay", "1" }, "delay" },
    }
    for _, case in ipairs(refused) do
      it("B4 refuses " .. case[1] .. " with one line and 2", function()
        local result = run(case[2])
        assert.equal(2, result.code, result.err)
        assert_one_line(result)
        assert.truthy(result.err:find(case[3], 1, true), result.err)
      end)
    end

    it("B5 keeps every digit and every byte of its data", function()
      local texts = { [["\n"]], "[]", "{}", "0", "9007199254740993", "-0.1", [[{"a":[],"b":{},"c":null}]], [["\u0000"]],
        '"x"', "true", '"\226\130\172"' }
      for _, text in ipairs(texts) do
        local result = run { "publish", "exact", "A", "--", text }
        assert.equal(0, result.code, text .. result.err)
      end
      local lines = lines_of(run({ "tail", "exact", "-n", "100", "--json" }).out)
      for index, text in ipairs(texts) do
        assert.truthy(lines[index]:find('"data":' .. text .. "}", 1, true), lines[index])
      end
    end)

    it("takes data from standard input and from a file", function()
      assert.equal(0, run({ "publish", "inputs", "A", "-" }, { input = '{"from":"stdin"}\n' }).code)
      local path = shell.write_file(dir .. "/data.json", '{"from":"file"}')
      assert.equal(0, run({ "publish", "inputs", "A", "@" .. path }).code)
      assert.equal(0, run({ "publish", "inputs", "A", "plain text", "--content-type", "text/plain" }).code)
      assert.equal(0, run({ "publish", "inputs", "A" }).code)
      local events = json_lines(run { "tail", "inputs", "--json" })
      assert.equal("stdin", events[1].data.from)
      assert.equal("file", events[2].data.from)
      assert.equal("plain text", events[3].data)
      assert.equal("text/plain", events[3].content_type)
      local missing = run { "publish", "inputs", "A", "@" .. dir .. "/none" }
      assert.equal(1, missing.code)
      assert_one_line(missing)
      local folder = run { "publish", "inputs", "A", "@" .. dir }
      assert.equal(1, folder.code)
      assert_one_line(folder)
    end)

    it("publishes an id once within a window", function()
      local words = { "publish", "once", "A", "1", "--id", "same", "--dedupe", "60" }
      assert.equal(0, run(words).code)
      local second = run(words)
      assert.equal(0, second.code, second.err)
      assert.truthy(second.out:find("duplicate", 1, true))
      assert.equal(1, #json_lines(run { "tail", "once", "--json" }))
    end)

    it("appends at an expected version, or says which it is", function()
      assert.equal(0, run({ "publish", "order-9", "A", "--expected", "no_stream" }).code)
      local result = run { "publish", "order-9", "A", "--expected", "1", "--json" }
      assert.equal(0, result.code, result.err)
      assert.equal(2, cjson.decode(result.out).version)
      local conflict = run { "publish", "order-9", "A", "--expected", "1" }
      assert.equal(1, conflict.code)
      assert_one_line(conflict)
      assert.truthy(conflict.err:find("TIDE-CONFLICT", 1, true))
    end)

    it("publishes lines, and what tail prints can be published again", function()
      local lines = {}
      for number = 1, 1234 do lines[number] = ('{"n":%d}'):format(number) end
      local path = shell.write_file(dir .. "/lines.json", table.concat(lines, "\n") .. "\n\n")
      local result = run { "publish", "many", "Counted", "--file", path }
      assert.equal(0, result.code, result.err)
      assert.equal("published 1234 events\n", result.out)
      local shown = run { "tail", "many", "-n", "1234", "--json" }
      local events = json_lines(shown)
      assert.equal(1234, #events)
      for number, event in ipairs(events) do assert.equal(number, event.data.n) end
      local again = run({ "publish", "copies", "--file", "-" }, { input = shown.out })
      assert.equal(0, again.code, again.err)
      local copies = json_lines(run { "tail", "copies", "-n", "2000", "--json" })
      assert.equal(1234, #copies)
      assert.equal(events[700].id, copies[700].id)
      assert.equal("Counted", copies[1234].type)
    end)

    it("names the lines that are no events and publishes the others", function()
      local result = run({ "publish", "partly", "--file", "-" },
        { input = '{"type":"A"}\nnot json\n{"data":1}\n{"type":"A","colour":"red"}\n{"type":"A","data":2}\n' })
      assert.equal(1, result.code)
      assert.equal("published 2 events, 3 failed\n", result.out)
      for _, text in ipairs { "line 2: not JSON", "line 3: not an event", 'line 4: unknown key "colour"' } do
        assert.truthy(result.err:find(text, 1, true), result.err)
      end
    end)

    it("publishes one event many times", function()
      assert.equal("published 700 events\n", run({ "publish", "load", "A", "1", "--count", "700" }).out)
      assert.equal(700, cjson.decode(run({ "info", "load", "--json" }).out).length)
    end)

    it("shows a part: the last, from an id, of a type", function()
      local input = {}
      for number = 1, 30 do
        input[number] = ('{"type":"%s","data":%d}'):format(number % 3 == 0 and "pull_request.opened" or "push", number)
      end
      assert.equal(0, run({ "publish", "parts", "--file", "-" }, { input = table.concat(input, "\n") }).code)
      assert.equal(10, #json_lines(run { "tail", "parts", "--json" }))
      local last = json_lines(run { "tail", "parts", "-n", "3", "--json" })
      assert.equal(28, last[1].data)
      assert.equal(30, last[3].data)
      local typed = json_lines(run { "tail", "parts", "-n", "4", "--type", "pull_request.*", "--json" })
      assert.equal(4, #typed)
      assert.equal(21, typed[1].data)
      local from = json_lines(run { "tail", "parts", "--from", last[2].stream_id, "--json" })
      assert.equal(2, #from)
      assert.equal(29, from[1].data)
      assert.equal("", run({ "tail", "nothing-there" }).out)
    end)

    it("follows a topic", function()
      assert.equal(0, run({ "publish", "live", "A", "1" }).code)
      local process = cli.spawn({ "tail", "live", "--follow", "--json" }, { env = { TIDEMILL_URL = store.url } })
      assert.truthy(process:wait_for('"data":1'), process:errors())
      assert.equal(0, run({ "publish", "live", "B", "2" }).code)
      assert.truthy(process:wait_for('"data":2'), process:errors())
      process:signal "TERM" -- what is started in the background by a shell never sees SIGINT
      assert.equal(143, process:wait())
      assert.equal("", process:errors())
    end)

    it("tells of groups, lag, pending events, consumers, delayed events and dead letters", function()
      for number = 1, 5 do run { "publish", "seen", "A", tostring(number) } end
      run { "publish", "seen", "A", "6", "--id", "later", "--delay", "3600" }
      local path = script("seen.lua", [[
        local bus = ...
        local tidemill = require "tidemill"
        bus:topic("seen"):on("*", { group = "readers" }, function(event)
          if event.data == 3 then return tidemill.reject "not this one" end
          if event.data == 5 then bus:stop() end
        end)
      ]])
      local worker = run { "run", path, "--for", "30" }
      assert.equal(0, worker.code, worker.err)
      run { "publish", "seen", "A", "7" }
      local info = cjson.decode(run({ "info", "seen", "--json" }).out)
      assert.equal(6, info.length)
      assert.equal(1, info.delayed)
      assert.equal(1, info.dead_letters)
      assert.equal("readers", info.groups[1].name)
      assert.equal(0, info.groups[1].pending)
      assert.equal(1, info.groups[1].lag)
      local text = run { "info", "seen", "--consumers" }
      assert.equal(0, text.code, text.err)
      assert.truthy(text.out:find("readers", 1, true))
      local letters = json_lines(run { "tail", "{seen}:dlq", "--json" })
      assert.equal("not this one", letters[1].metadata.dead_reason)
      assert.equal(3, letters[1].data)
    end)

    it("tells of several topics, and of one that isn't there", function()
      local result = run { "info", "seen", "never-heard-of", "--json" }
      local list = cjson.decode(result.out)
      assert.equal("seen", list[1].topic)
      if list[2] then assert.equal(0, list[2].length) else assert.equal(1, result.code) end
    end)

    it("examines it", function()
      local result = run { "doctor", "orders" }
      assert.truthy(result.code == 0, result.out .. result.err)
      local report = cjson.decode(run({ "doctor", "--json" }).out)
      assert.equal(0, report.errors)
      local checks = {}
      for _, finding in ipairs(report.findings) do checks[finding.check] = finding end
      assert.truthy(checks.persistence)
      if target.kind then
        assert.equal("warn", checks.persistence.level) -- started without any
        assert.truthy(checks.server.text:lower():find(target.kind, 1, true), checks.server.text)
        assert.equal("ok", checks.eviction.level)
        assert.equal("ok", checks.permissions.level)
        if target.kind == "valkey" and server.version "valkey" == "8.0.1" then
          assert.truthy(checks.security.text:find("CVE-2025-49844", 1, true))
        end
        assert.equal(1, run({ "doctor", "--strict" }).code)
      else
        assert.equal("ok", checks.persistence.level)
      end
    end)

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
      local process = cli.spawn({ "run", path, "--grace", "20" }, { env = { TIDEMILL_URL = store.url } })
      assert.truthy(process:wait_for "began 2", process:errors())
      process:signal "TERM"
      assert.equal(0, process:wait(30), process:errors())
      local _, began = process:output():gsub("began", "")
      local _, ended = process:output():gsub("ended", "")
      assert.equal(began, ended)
      assert.truthy(began < 6, process:output())
      -- What was not started is there for the next one, at once.
      local second = cli.spawn({ "run", path, "--grace", "20" }, { env = { TIDEMILL_URL = store.url } })
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
      local process = cli.spawn({ "run", path, "--grace", "50" }, { env = { TIDEMILL_URL = store.url } })
      assert.truthy(process:wait_for "began", process:errors())
      process:signal "TERM"
      shell.sleep(0.3)
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
        local process = cli.spawn({ "run", path, "--grace", "0.3" }, { env = { TIDEMILL_URL = store.url } })
        assert.truthy(process:wait_for("began", 30), process:errors())
        process:signal "TERM"
        assert.equal(0, process:wait(20), process:errors())
      end
    end)

    it("keeps a batch that was cut off by a signal whole or not at all", function()
      local lines = {}
      for number = 1, 5000 do lines[number] = tostring(number) end
      local path = shell.write_file(dir .. "/cut.json", table.concat(lines, "\n"))
      local process = cli.spawn({ "publish", "cut", "A", "--file", path }, { env = { TIDEMILL_URL = store.url } })
      shell.sleep(0.05)
      process:signal "TERM"
      process:wait()
      local length = cjson.decode(run({ "info", "cut", "--json" }).out).length or 0
      local events = json_lines(run { "tail", "cut", "-n", "5000", "--json" })
      assert.equal(length, #events)
      for number, event in ipairs(events) do assert.equal(number, event.data) end
    end)
  end)
end

-- ---- what only servers have ----

for _, kind in ipairs(server.kinds()) do
  describe("the command at a " .. kind .. " server", function()
    local live

    after_each(function() if live then live:stop() end live = nil end)

    it("B6 shows foreign entries without obeying them", function()
      live = server.start(kind)
      live:cli("XADD", "foreign", "1-1", "payload", "<script>=cmd\27[31m\r\n", "event_type", "\226\128\174lla\27]0;x\7")
      live:cli("XADD", "foreign", "2-1", "odd", "\255\254", "event_type", "A", "data", "not json")
      live:cli("XADD", "foreign", "3-1", "type", "B", "event_data", '{"alias":true}', "timestamp",
        "0000-01-01T00:00:00Z")
      local text = cli.run { "tail", "foreign", "--url", live.url }
      assert.equal(0, text.code, text.err)
      assert.is_nil(text.out:find "[\27\7\r]")
      assert.is_nil(text.out:find("\226\128\174", 1, true))
      assert.equal(3, #lines_of(text.out))
      local json = cli.run { "tail", "foreign", "--json", "--url", live.url }
      assert.is_nil(json.out:find "[\27\7\r]")
      local events = {}
      for index, line in ipairs(lines_of(json.out)) do events[index] = cjson.decode(line) end
      assert.equal(3, #events)
      assert.equal("<script>=cmd\27[31m\r\n", events[1].data)
      assert.equal("//4=", events[2].metadata.odd.base64)
      assert.equal("not json", events[2].data)
      assert.equal("B", events[3].type)
      assert.is_true(events[3].data.alias)
    end)

    it("B3 says that a key is no stream", function()
      live = server.start(kind)
      live:cli("SET", "text", "x")
      for _, words in ipairs { { "tail", "text" }, { "info", "text" }, { "publish", "text", "A" } } do
        words[#words + 1] = "--url"
        words[#words + 1] = live.url
        local result = cli.run(words)
        assert.equal(1, result.code, result.err)
        assert_one_line(result)
        assert.truthy(result.err:find("TIDE-WRONGTYPE", 1, true), result.err)
      end
    end)

    it("F18 leaves with 3 when the password is wrong or missing, and shows none", function()
      live = server.start(kind, { requirepass = "secret-canary" })
      local path = script("any.lua", "local bus = ...\nbus:topic('t'):on('*', function() end)")
      for _, url in ipairs { live:url_for(nil, "wrong-canary"), live:url_for() } do
        for _, words in ipairs { { "info", "t" }, { "doctor" }, { "run", path, "--for", "5" } } do
          words[#words + 1] = "--url"
          words[#words + 1] = url
          local result = cli.run(words, { timeout = 30 })
          assert.equal(3, result.code, result.err)
          assert.truthy(result.err:find("TIDE-NOAUTH", 1, true), result.err)
          assert.is_nil((result.err .. result.out):find("canary", 1, true), result.err)
        end
      end
      local right = cli.run { "doctor", "--url", live.url }
      assert.equal(0, right.code, right.err)
      assert.is_nil((right.out .. right.err):find("canary", 1, true))
    end)

    it("F18 reads a password from a file, and leaves with 3 when there is none", function()
      live = server.start(kind, { requirepass = "secret-canary" })
      local path = shell.write_file(shell.temporary_dir "secret" .. "/password", "secret-canary\n")
      local url = live:url_for() .. "?password_file=" .. path
      local right = cli.run { "publish", "orders", "A", "1", "--url", url }
      assert.equal(0, right.code, right.err)
      os.remove(path)
      local missing = cli.run { "info", "orders", "--url", url }
      assert.equal(3, missing.code, missing.err)
      assert.truthy(missing.err:find("password_file " .. path .. ": No such file", 1, true), missing.err)
      assert.equal(1, select(2, missing.err:gsub("\n", "")), missing.err)
      assert.is_nil((right.out .. right.err .. missing.err):find("canary", 1, true))
    end)

    it("F18 names the exact rule of a missing permission, and that rule is enough", function()
      live = server.start(kind, { acl = "user default on nopass ~* &* +@all\n"
        .. "user worker on >pw ~orders +ping +hello +client +info +acl|whoami +xlen +xrange\n" })
      local url = live:url_for("worker", "pw")
      local refused = cli.run { "publish", "orders", "A", "1", "--url", url }
      assert.equal(3, refused.code, refused.err)
      assert.truthy(refused.err:find("TIDE-NOPERM", 1, true), refused.err)
      local report = cli.run { "doctor", "orders", "--json", "--url", url }
      assert.equal(1, report.code, report.err)
      local fixes = {}
      for _, finding in ipairs(cjson.decode(report.out).findings) do
        if finding.check == "permissions" then fixes[#fixes + 1] = finding.fix end
      end
      assert.truthy(#fixes > 3, report.out)
      local all = table.concat(fixes, "\n")
      for _, text in ipairs { "ACL SETUSER worker +xadd\n", "+xreadgroup", "+zadd", "+incrby" } do
        assert.truthy(all:find(text, 1, true), all)
      end
      -- What isn't allowed in the topic's own hash tag comes to light once the commands are there.
      for _ = 1, 2 do
        local answer = live:cli_lines(fixes)
        assert.is_nil(answer:find "ERR", answer)
        fixes = {}
        for _, finding in ipairs(cjson.decode(cli.run({ "doctor", "orders", "--json", "--url", url }).out).findings) do
          if finding.check == "permissions" then fixes[#fixes + 1] = finding.fix end
        end
        if #fixes == 0 then break end
      end
      assert.same({}, fixes)
      assert.equal(0, cli.run({ "doctor", "orders", "--url", url }).code)
      assert.equal(0, cli.run({ "publish", "orders", "A", "1", "--url", url }).code)
    end)

    it("F18 names the keys that a user may not touch", function()
      live = server.start(kind, { acl = "user default on nopass ~* &* +@all\nuser stranger on >pw ~other +@all\n" })
      local report = cli.run { "doctor", "orders", "--json", "--url", live:url_for("stranger", "pw") }
      assert.equal(1, report.code, report.err)
      assert.truthy(report.out:find("ACL SETUSER stranger ~orders ~{orders}:*", 1, true), report.out)
    end)

    it("the shipped ACL users can do their part and no more", function()
      local acl = "user default on nopass ~* &* +@all\n"
      for _, role in ipairs { "producer", "consumer", "admin" } do
        acl = acl .. assert(shell.read_file("examples/acl/" .. role .. ".acl"))
      end
      live = server.start(kind, { acl = acl })
      local function as(role, words, options)
        words[#words + 1] = "--url"
        words[#words + 1] = live:url_for(role, "change-me")
        return cli.run(words, options)
      end
      for _, words in ipairs {
        { "publish", "orders", "A", "1" }, { "publish", "orders", "A", "2", "--id", "x", "--dedupe", "60" },
        { "publish", "orders", "A", "3", "--id", "y", "--delay", "0.2" },
        { "publish", "orders", "A", "--expected", "any" },
      } do
        local result = as("producer", words)
        assert.equal(0, result.code, result.err)
      end
      for _, words in ipairs { { "tail", "orders" }, { "info", "orders" }, { "publish", "others", "A" } } do
        local result = as("producer", words)
        assert.equal(3, result.code, words[1] .. result.err)
        assert.truthy(result.err:find("TIDE-NOPERM", 1, true), result.err)
      end
      local path = script("worker.lua", [[
        local bus = ...
        local tidemill, count = require "tidemill", 0
        bus:topic("orders"):on("*", { retry = { max = 3, delay = 0.01 }, promote = 0.1 }, function(event)
          if event.data == 1 and event.attempt == 1 then return nil, "once more" end
          count = count + 1
          if count == 4 then bus:stop() end
          if event.data == 2 then return tidemill.reject "no" end
        end)
      ]])
      local worker = as("consumer", { "run", path, "--for", "30" }, { timeout = 60 })
      assert.equal(0, worker.code, worker.err)
      assert.is_nil(worker.err:find("NOPERM", 1, true), worker.err)
      assert.equal("1", live:cli("XLEN", "{orders}:dlq"))
      assert.equal("0", live:cli("ZCARD", "{orders}:delayed"))
      local elsewhere = script("else.lua", "local bus = ...\nassert(bus:publish('others', { type = 'A' }))")
      assert.equal(1, as("consumer", { "run", elsewhere, "--for", "5" }).code)
      for _, role in ipairs { "producer", "consumer" } do
        local report = as(role, { "doctor", "orders", "--role", role })
        assert.equal(0, report.code, report.out)
      end
      for _, words in ipairs { { "info", "orders", "--consumers" }, { "tail", "orders" }, { "doctor", "orders" } } do
        local result = as("admin", words)
        assert.equal(0, result.code, result.out .. result.err)
      end
    end)

    it("doctor warns of eviction and of a replica", function()
      live = server.start(kind, { maxmemory = "100mb", maxmemory_policy = "allkeys-lru" })
      local result = cli.run { "doctor", "--url", live.url }
      assert.equal(1, result.code)
      assert.truthy(result.out:find("maxmemory-policy is allkeys-lru", 1, true), result.out)
      assert.truthy(result.out:find("CONFIG SET maxmemory-policy noeviction", 1, true))
    end)

    it("doctor knows each level of persistence", function()
      live = server.start(kind, { persist = true })
      local result = cli.run { "doctor", "--url", live.url }
      assert.truthy(result.out:find("fsync at every write", 1, true), result.out)
      live:cli("CONFIG", "SET", "appendfsync", "everysec")
      result = cli.run { "doctor", "--url", live.url }
      assert.truthy(result.out:find("about a second", 1, true), result.out)
    end)

    it("speaks TLS, and refuses a certificate for another name", function()
      live = server.start(kind, { tls = true })
      local result = cli.run { "doctor", "--url", live.url }
      assert.equal(0, result.code, result.err)
      assert.truthy(result.out:find("chain and host name are checked", 1, true), result.out)
      local unknown = cli.run { "info", "t", "--url", (live.url:gsub("%?.*$", "")) }
      assert.equal(3, unknown.code, unknown.err)
      assert.truthy(unknown.err:find("TIDE-TLS", 1, true), unknown.err)
      local insecure = cli.run { "doctor", "--insecure", "--url", (live.url:gsub("%?.*$", "")) }
      assert.equal(0, insecure.code, insecure.err)
      assert.truthy(insecure.out:find("is not checked", 1, true), insecure.out)
      live:stop()
      live = server.start(kind, { tls = "wrong-host" })
      local wrong = cli.run { "info", "t", "--url", live.url }
      assert.equal(3, wrong.code, wrong.err)
      assert.truthy(wrong.err:find("TIDE-TLS", 1, true), wrong.err)
    end)

    it("speaks over a unix socket", function()
      live = server.start(kind, { unixsocket = true })
      assert.equal(0, cli.run({ "publish", "t", "A", "1", "--url", live.unix_url }).code)
      assert.equal("1", live:cli("XLEN", "t"))
    end)

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

    it("a key for another database is told from one that isn't there", function()
      live = server.start(kind)
      local result = cli.run { "info", "t", "--url", live.url .. "/99" }
      assert.truthy(result.code == 2 or result.code == 3 or result.code == 1, result.code)
      assert_one_line(result)
    end)
  end)
end
