-- SPDX-License-Identifier: MIT
-- tidemill tail, on each engine that outlives a process.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local commands = require "spec.support.commands"
local server = require "spec.support.server"

local lines_of, json_lines = commands.lines_of, commands.json_lines

commands.on_each_engine("tail", function(run, spawn)
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
    local process = spawn { "tail", "live", "--follow", "--json" }
    assert.truthy(process:wait_for('"data":1'), process:errors())
    assert.equal(0, run({ "publish", "live", "B", "2" }).code)
    assert.truthy(process:wait_for('"data":2'), process:errors())
    process:signal "TERM" -- what is started in the background by a shell never sees SIGINT
    assert.equal(143, process:wait())
    assert.equal("", process:errors())
  end)

  it("ends when whoever read it has gone away, though no event comes", function()
    assert.equal(0, run({ "publish", "piped", "A", "1" }).code)
    local result = run({ "tail", "piped", "--follow", "--json" }, { tail = " | head -n 1", timeout = 30 })
    assert.equal(0, result.code, result.err) -- head's own; 124: it was still there after the time-out
    assert.equal(1, #json_lines(result))
    assert.equal("", result.err)
  end)

  it("says on stderr that there is nothing to show", function()
    local none = run { "tail", "nothing-there" }
    assert.equal(0, none.code)
    assert.equal("", none.out)
    assert.equal("tidemill: nothing-there has no events\n", none.err)
    assert.equal(0, run({ "publish", "typed", "A", "1" }).code)
    local other = run { "tail", "typed", "--type", "B.*" }
    assert.equal("tidemill: typed has no events of type B.*\n", other.err)
    assert.equal(other.err, run({ "tail", "typed", "--type", "B.*", "--json" }).err)
    assert.equal("", run({ "tail", "typed", "-n", "0" }).err)
  end)
end)

for _, kind in ipairs(server.kinds()) do
  describe("tidemill tail at a " .. kind .. " server", function()
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
  end)
end
