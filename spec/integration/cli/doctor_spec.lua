-- SPDX-License-Identifier: MIT
-- tidemill doctor, and the permissions that it names.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local commands = require "spec.support.commands"
local server = require "spec.support.server"
local shell = require "spec.support.shell"
local is_before = require "tidemill.cli.doctor".is_before

local script = commands.script

commands.on_each_engine("doctor", function(run, _, kind)
  it("examines it", function()
    assert.equal(0, run({ "publish", "orders", "A" }).code)
    local result = run { "doctor", "orders" }
    assert.truthy(result.code == 0, result.out .. result.err)
    local report = cjson.decode(run({ "doctor", "--json" }).out)
    assert.equal(0, report.errors)
    local checks = {}
    for _, finding in ipairs(report.findings) do checks[finding.check] = finding end
    assert.truthy(checks.persistence)
    if kind then
      assert.equal("warn", checks.persistence.level) -- started without any
      assert.truthy(checks.server.text:lower():find(kind, 1, true), checks.server.text)
      assert.equal("ok", checks.eviction.level)
      assert.equal("ok", checks.permissions.level)
      if kind == "valkey" and server.version "valkey" == "8.0.1" then
        assert.truthy(checks.security.text:find("CVE-2025-49844", 1, true))
      end
      assert.equal(1, run({ "doctor", "--strict" }).code)
    else
      assert.equal("ok", checks.persistence.level)
    end
  end)
end)

describe("tidemill doctor on a file", function()
  it("warns where others may read it", function()
    local path = shell.temporary_dir "open" .. "/store.db"
    local words = { "doctor", "--json", "--url", "file:" .. path }
    assert.equal(0, cli.run({ "publish", "t", "A", "--url", "file:" .. path }).code)
    assert.is_nil(cli.run(words).out:find("every user", 1, true))
    assert.equal(0, shell.run({ "chmod", "644", path }).code)
    local open = cli.run(words)
    assert.equal(0, open.code)
    assert.truthy(open.out:find("can be used by every user of this machine (mode 0644)", 1, true), open.out)
  end)
end)

for _, kind in ipairs(server.kinds()) do
  describe("tidemill doctor at a " .. kind .. " server", function()
    local live

    after_each(function() if live then live:stop() end live = nil end)

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

    it("B4 tells a topic whose name another program has", function()
      live = server.start(kind)
      live:cli("SET", "taken", "1")
      local report = cli.run { "doctor", "free", "taken", "--url", live.url }
      assert.equal(1, report.code, report.err)
      assert.truthy(report.out:find("the key taken is no stream", 1, true), report.out)
      assert.is_nil(report.out:find("the key free", 1, true), report.out)
      for _, words in ipairs { { "tail", "taken" }, { "tail", "taken", "-f" }, { "info", "taken" },
        { "info", "taken", "--json" }, { "publish", "taken", "A" } } do
        words[#words + 1] = "--url"
        words[#words + 1] = live.url
        local result = cli.run(words)
        assert.equal(1, result.code)
        assert.equal("", result.out)
        commands.assert_one_line(result)
        assert.truthy(result.err:find "taken.* WRONGTYPE", result.err)
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

    -- Only Valkey has the rule, from 9.1 on; every command with a key is refused, whatever the other rules say.
    if kind == "valkey" and not is_before(server.version(kind), "9.1") then
      it("F18 names the database that a user may not use, and that rule is enough", function()
        live = server.start(kind, { acl = "user default on nopass ~* &* +@all\nuser worker on >pw ~* &* +@all db=1\n" })
        local url = live:url_for("worker", "pw")
        local refused = cli.run { "publish", "orders", "A", "1", "--url", url }
        assert.equal(3, refused.code, refused.err)
        assert.truthy(refused.err:find("mend it by: ACL SETUSER worker db=0", 1, true), refused.err)
        refused = cli.run { "publish", "orders", "A", "1", "--url", url .. "/2" }
        assert.equal(3, refused.code, refused.err)
        assert.truthy(refused.err:find("mend it by: ACL SETUSER worker db=2", 1, true), refused.err)
        local report = cli.run { "doctor", "orders", "--json", "--url", url }
        assert.equal(1, report.code, report.err)
        local fixes = {}
        for _, finding in ipairs(cjson.decode(report.out).findings) do
          if finding.check == "permissions" then fixes[#fixes + 1] = finding.fix end
        end
        assert.same({ "ACL SETUSER worker db=0" }, fixes)
        assert.equal("OK", live:cli("ACL", "SETUSER", "worker", "db=0"))
        assert.equal(0, cli.run({ "doctor", "orders", "--url", url }).code)
      end)
    end

    it("F18 looks at the password file: is it there, who may read it, is it one line", function()
      live = server.start(kind, { requirepass = "secret-canary" })
      local path = shell.temporary_dir "secret" .. "/pass word"
      local url = live:url_for() .. "?password_file=" .. path:gsub(" ", "%%20")
      local function doctor(text, mode)
        os.remove(path)
        if text then
          shell.write_file(path, text)
          assert.equal(0, shell.run({ "chmod", mode or "600", path }).code)
        end
        local result = cli.run { "doctor", "--json", "--url", url }
        assert.is_nil((result.out .. result.err):find("canary", 1, true))
        assert.equal("", result.err)
        local found = {}
        for _, finding in ipairs(cjson.decode(result.out).findings) do
          if finding.check == "password" or finding.level == "error" then
            found[#found + 1] = finding.level .. " " .. finding.text
          end
        end
        return result.code, table.concat(found, "\n")
      end
      for _, case in ipairs {
        { "secret-canary\n", "600", 0, "ok password_file .* has one line, mode 0600$" },
        { "secret-canary", "640", 0, "ok password_file .* has one line, mode 0640$" },
        { "secret-canary\n", "644", 0, "warn password_file .* every user of this machine %(mode 0644%)$" },
        { "secret-canary\n", "660", 0, "warn password_file .* changed by its group %(mode 0660%)$" },
        { "secret-canary\n\n", "600", 3, "warn password_file .* more than one line.*\nerror TIDE%-NOAUTH" },
        { "secret-canary \n", "600", 3, "warn password_file .* ends with white space.*\nerror TIDE%-NOAUTH" },
        { "", "600", 3, "error password_file .* is empty\nerror TIDE%-NOAUTH" },
        { nil, nil, 3, "error password_file .* can't be read: No such file or directory\nerror TIDE%-NOAUTH" },
      } do
        local code, found = doctor(case[1], case[2])
        assert.equal(case[3], code, found)
        assert.truthy(found:find(case[4]), found)
      end
    end)
  end)
end
