-- SPDX-License-Identifier: MIT
-- tidemill publish, on each engine that outlives a process.
local cjson = require "cjson"
local commands = require "spec.support.commands"
local shell = require "spec.support.shell"

local dir, lines_of, json_lines = commands.dir, commands.lines_of, commands.json_lines
local assert_one_line = commands.assert_one_line

commands.on_each_engine("publish", function(run, spawn)
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

  it("takes what --max-payload allows, and names the option when there is more", function()
    local path = shell.write_file(dir .. "/large", ("x"):rep(1048577))
    local words = { "publish", "large", "A", "@" .. path, "--content-type", "text/plain" }
    local result = run(words)
    assert.equal(1, result.code)
    assert_one_line(result)
    assert.truthy(result.err:find("the limit is 1048576 (option max_payload)", 1, true), result.err)
    words[#words + 1] = "--max-payload"
    words[#words + 1] = "1048577"
    result = run(words)
    assert.equal(0, result.code, result.err)
  end)

  it("names the expected version and the one that is there", function()
    assert.equal(0, run({ "publish", "versions", "A", "--expected", "no_stream" }).code)
    local result = run { "publish", "versions", "A", "--expected", "7" }
    assert.equal(1, result.code)
    assert_one_line(result)
    assert.truthy(result.err:find("TIDE-CONFLICT: versions is at version 1, expected was 7", 1, true), result.err)
  end)

  local refused = {
    { "an empty type", { "publish", "orders", "" }, "type is empty" },
    { "a type of 64 KiB", { "publish", "orders", ("x"):rep(65536) }, "longer than 512 bytes" },
    { "a type with a line end", { "publish", "orders", "a\nb" }, "control character" },
    { "an empty id", { "publish", "orders", "A", "--id", "" }, "id is empty" },
    { "metadata named as an own field", { "publish", "orders", "A", "--meta", "event_id=x" }, "event's own field" },
    { "a delay and a time", { "publish", "orders", "A", "--delay", "1", "--at", "5" }, "can't be combined" },
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

  it("publishes what tail prints again without a byte of its data changed", function()
    for _, words in ipairs {
      { '{"n":12345678901234567890123,"f":1.10,"data":"}"}' }, { "null" }, { "\255\1", "--content-type", "app/x" },
      { '{"base64":"QQ=="}' }, { '{"base64":"QQ=="}', "--content-type", "text/plain" },
      { "-0.0", "--meta", "k=\255" },
      { "[1.0]", "--content-type", "application/vnd.x+json" },
    } do
      local result = run { "publish", "exact", "A", "--", words[1] }
      if words[2] then result = run { "publish", "exact", "A", words[2], words[3], "--", words[1] } end
      assert.equal(0, result.code, result.err)
    end
    local shown = run { "tail", "exact", "--json" }
    local again = run({ "publish", "exact-again", "--file", "-" }, { input = shown.out })
    assert.equal("published " .. #lines_of(shown.out) .. " events\n", again.out, again.err)
    local function without_place(text) return (text:gsub('"stream_id":"[^"]*"', "")) end
    assert.equal(without_place(shown.out), without_place(run({ "tail", "exact-again", "--json" }).out))
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

  it("keeps a batch that was cut off by a signal whole or not at all", function()
    local lines = {}
    for number = 1, 5000 do lines[number] = tostring(number) end
    local path = shell.write_file(dir .. "/cut.json", table.concat(lines, "\n"))
    local process = spawn { "publish", "cut", "A", "--file", path }
    shell.sleep(0.05)
    process:signal "TERM"
    process:wait()
    local length = cjson.decode(run({ "info", "cut", "--json" }).out).length or 0
    local events = json_lines(run { "tail", "cut", "-n", "5000", "--json" })
    assert.equal(length, #events)
    for number, event in ipairs(events) do assert.equal(number, event.data) end
  end)
end)
