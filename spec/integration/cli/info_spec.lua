-- SPDX-License-Identifier: MIT
-- tidemill info, on each engine that outlives a process.
local cjson = require "cjson"
local commands = require "spec.support.commands"

local script, json_lines = commands.script, commands.json_lines

commands.on_each_engine("info", function(run)
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
end)
