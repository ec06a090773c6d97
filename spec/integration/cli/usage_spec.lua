-- SPDX-License-Identifier: MIT
-- What the command answers to wrong words and URLs, how it shows its help, and that it knows a terminal.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local commands = require "spec.support.commands"
local shell = require "spec.support.shell"

local dir, assert_one_line = commands.dir, commands.assert_one_line
local unpack = rawget(table, "unpack") or rawget(_G, "unpack")

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

  it("says what to do where it isn't built, or half installed", function()
    local result = cli.run({ "info", "t" }, { path = cli.launcher, env = {
      TIDEMILL_BUILD = "/nowhere", LUA_CPATH = false, LUA_CPATH_5_4 = false } })
    assert.equal(1, result.code)
    assert_one_line(result)
    assert.truthy(result.err:find("tidemill.core is not found; in the source tree ./dev build makes it", 1, true),
      result.err)
    if cli.program then
      result = cli.run({ "info", "t" }, { path = cli.program, env = {
        TIDEMILL_LUA_DIR = "/nowhere", LUA_PATH = false, LUA_PATH_5_4 = false } })
      assert.equal(1, result.code)
      assert_one_line(result)
      assert.truthy(result.err:find("TIDEMILL_LUA_DIR can name their folder", 1, true), result.err)
    end
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
    { "B3 data that is a bare word", { "publish", "orders", "A", "hello" }, "no value begins like this at byte 1" },
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
    { "B4 a look at a key of tidemill's own", { "info", "{a}:delayed" }, "tidemill's own" },
    { "B3 metadata without a value", { "publish", "orders", "A", "--meta", "oops" }, "--meta wants K=V" },
    { "B3 an expected version that is none", { "publish", "orders", "A", "--expected", "now" }, "--expected wants" },
    { "B3 an id that is none", { "tail", "orders", "--from", "yesterday" }, "--from wants a stream id" },
    { "B3 a count out of range", { "publish", "orders", "A", "--count", "0" },
      "--count: 0 is not between 1 and 1000000000;" },
    { "B3 a time out of range", { "publish", "orders", "A", "--at", "0" }, "--at: 0 is not between" },
    { "B3 a negative value of an option", { "publish", "orders", "A", "--delay", "-1" }, "--delay can't be negative" },
    { "B3 a delayed event at an expected version", { "publish", "orders", "A", "--expected", "1", "--delay", "3" },
      "--delay can't be combined with --expected" },
    { "B3 two times", { "publish", "orders", "A", "--at", "5", "--delay", "3" }, "can't be combined with --at" },
    { "B3 a file without a name", { "publish", "orders", "A", "@" }, "@ without a file's name" },
    { "B2 an engine of the future", { "info", "t", "--url", "nats://h" }, "not supported yet" },
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

  it("B3 fails when standard input is closed, or is none to read from", function()
    local store = "file:" .. shell.temporary_dir "closed" .. "/store.db"
    for _, path in ipairs { cli.launcher, cli.program or cli.launcher } do
      for _, tail in ipairs { " <&-", " <" .. dir } do
        for _, words in ipairs { { "publish", "t", "A", "-" }, { "publish", "t", "A", "--file", "-" } } do
          words[#words + 1] = "--url"
          words[#words + 1] = store
          local result = cli.run(words, { path = path, tail = tail })
          assert.equal(1, result.code, result.err)
          assert_one_line(result)
          local why = tail == " <&-" and "Bad file descriptor" or "Is a directory"
          assert.truthy(result.err:find("cannot read standard input: " .. why, 1, true), result.err)
        end
        local without = cli.run({ "publish", "t", "A", "1", "--url", store }, { path = path, tail = tail })
        assert.equal(0, without.code, without.err)
      end
    end
  end)

  it("sets the names of an option beside each other, and its explanation in one column", function()
    for _, name in ipairs { "run", "publish", "tail", "info", "doctor", "migrate" } do
      local text = cli.run({ name, "--help" }).out
      if name ~= "migrate" then
        assert.truthy(text:find("\n   -u, --url URL            Where the events live (default:", 1, true), text)
      end
      for line in text:match("Options:\n(.*)$"):gmatch "[^\n]+" do
        assert.truthy(line:find "^   %-%-?%a.* [^ ]" or line:find "^ +[^ ]", line)
        assert.truthy(line:sub(1, 28):find "^   %-" and line:sub(28, 28) == " " or line:sub(1, 28):find "^ +$", line)
        assert.is_true(#line <= 100, line)
      end
    end
  end)

  it("keeps to COLUMNS where that is less than it would take", function()
    for _, name in ipairs { "publish", "tail", "doctor", "migrate" } do
      local wide = 0
      for line in cli.run({ name, "--help" }, { env = { COLUMNS = "50" } }).out:gmatch "[^\n]+" do
        if not line:find "%S%S%S%S%S%S%S%S%S%S%S%S%S%S%S%S" then wide = math.max(wide, #line) end -- a URL stays whole
      end
      assert.is_true(wide > 30 and wide <= 50, wide)
    end
    assert.equal(cli.run({ "tail", "--help" }).out, cli.run({ "tail", "--help" }, { env = { COLUMNS = "wide" } }).out)
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

  it("says at once that something else answers there", function()
    if shell.run("command -v perl").code ~= 0 then
      pending "perl is not installed"
      return
    end
    local http = shell.spawn { "perl", "-MIO::Socket::INET", "-e", [[
      $| = 1;
      my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die;
      print $listener->sockport, "\n";
      while (my $client = $listener->accept) {
        sysread $client, my $request, 4096;
        print $client "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        close $client;
      }
    ]] }
    local port = assert(http:wait_for "^(%d+)\n")
    for _, words in ipairs { { "info", "t" }, { "publish", "t", "A" }, { "tail", "t" }, { "doctor" } } do
      words[#words + 1] = "--url"
      words[#words + 1] = "redis://127.0.0.1:" .. port
      local result = cli.run(words, { timeout = 30 })
      assert.equal(3, result.code, result.err)
      assert_one_line(result)
      assert.truthy(result.err:find("TIDE-PROTOCOL: redis://127.0.0.1:" .. port, 1, true), result.err)
      assert.truthy(result.err:find("(is this a Redis or Valkey server?)", 1, true), result.err)
    end
    http:kill()
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
