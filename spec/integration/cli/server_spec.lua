-- SPDX-License-Identifier: MIT
-- What only servers have: passwords, TLS, sockets, keys of other kinds.
local cli = require "spec.support.cli"
local commands = require "spec.support.commands"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local script, assert_one_line = commands.script, commands.assert_one_line

for _, kind in ipairs(server.kinds()) do
  describe("the command at a " .. kind .. " server", function()
    local live

    after_each(function() if live then live:stop() end live = nil end)

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

    it("a key for another database is told from one that isn't there", function()
      live = server.start(kind)
      local result = cli.run { "info", "t", "--url", live.url .. "/99" }
      assert.truthy(result.code == 2 or result.code == 3 or result.code == 1, result.code)
      assert_one_line(result)
    end)
  end)
end
