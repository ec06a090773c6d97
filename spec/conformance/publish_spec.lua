-- SPDX-License-Identifier: MIT
local world = require "spec.conformance.world"
local it = world.behaviours(it, pending)

describe("publishing on " .. world.engine, function()
  it("keeps a hundred events exactly, with their metadata", function(w)
    local topic = w:topic()
    local sent = {}
    for n = 1, 100 do
      sent[n] = { id = "id-" .. n, type = "Made", aggregate_id = "a-" .. n, aggregate_type = "thing", version = n,
        data = { n = n, text = "Zeile ü " .. n, nested = { 1, 2, { deep = true } } },
        metadata = { correlation_id = "c-" .. n, causation_id = "k-" .. n, tenant = "t" } }
    end
    local results, failures = topic:publish_batch(sent)
    assert.equal(0, failures)
    assert.equal(100, #results)
    local got = {}
    topic:on("*", function(event)
      got[#got + 1] = { id = event.id, type = event.type, aggregate_id = event.aggregate_id,
        aggregate_type = event.aggregate_type, version = event.version, data = event.data,
        metadata = event.metadata, stream_id = event.stream_id }
    end)
    w:wait(function() return #got == 100 end)
    for n = 1, 100 do
      local event = got[n]
      assert.equal("id-" .. n, event.id)
      assert.equal("Made", event.type)
      assert.equal("a-" .. n, event.aggregate_id)
      assert.equal("thing", event.aggregate_type)
      assert.equal(n, tonumber(event.version))
      assert.same(sent[n].data, event.data)
      assert.equal("c-" .. n, event.metadata.correlation_id)
      assert.equal("k-" .. n, event.metadata.causation_id)
      assert.equal("t", event.metadata.tenant)
      local names = 0
      for _ in pairs(event.metadata) do names = names + 1 end
      assert.equal(3, names)
      assert.equal(results[n].stream_id, event.stream_id)
    end
  end)

  it("answers with the event id and the stream id", function(w)
    local topic = w:topic()
    local result = assert(topic:publish { type = "Made", data = {} })
    assert.is_string(result.id)
    assert.matches("^%d+%-%d+$", result.stream_id)
  end)

  it("gives each event an id of its own", function(w)
    local topic = w:topic()
    local seen = {}
    local results = assert(topic:publish_batch(w.events(200)))
    for _, result in ipairs(results) do
      assert.is_nil(seen[result.id])
      seen[result.id] = true
    end
  end)

  it("gives stream ids in the order of publishing", function(w)
    local topic = w:topic()
    local results = assert(topic:publish_batch(w.events(300)))
    local last_ms, last_seq = 0, -1
    for _, result in ipairs(results) do
      local ms, seq = result.stream_id:match "^(%d+)%-(%d+)$"
      ms, seq = tonumber(ms), tonumber(seq)
      assert.is_true(ms > last_ms or (ms == last_ms and seq > last_seq))
      last_ms, last_seq = ms, seq
    end
  end)

  it("keeps bytes that are no text", function(w)
    local topic = w:topic()
    local bytes = {}
    for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
    bytes = table.concat(bytes)
    assert(topic:publish { type = "Raw", data = bytes, content_type = "application/octet-stream" })
    local got
    topic:on("*", function(event) got = { event.raw, event.content_type } end)
    w:wait(function() return got end)
    assert.same({ bytes, "application/octet-stream" }, got)
  end)

  it("keeps a payload of a mebibyte and refuses one byte more", function(w)
    local topic = w:topic()
    local most = string.rep("x", 1048576)
    assert(topic:publish { type = "Big", data = most, content_type = "text/plain" })
    local result, err = topic:publish { type = "Big", data = most .. "x", content_type = "text/plain" }
    assert.is_nil(result)
    assert.equal("TIDE-LIMIT", err.code)
    local sizes = {}
    topic:on("*", function(event) sizes[#sizes + 1] = #event.raw end)
    w:wait(function() return #sizes == 1 end)
    w:pass(0.1)
    assert.same({ 1048576 }, sizes)
  end)

  it("keeps an empty payload", function(w)
    local topic = w:topic()
    assert(topic:publish { type = "Empty", data = "", content_type = "text/plain" })
    local got
    topic:on("*", function(event) got = event.raw end)
    w:wait(function() return got end)
    assert.equal("", got)
  end)

  it("publishes from inside a handler, carrying correlation and causation", function(w)
    local topic, bus = w:topic()
    local got
    topic:on("First", function(event)
      assert(event:publish(w.name .. "-next", { type = "Second", data = { n = event.data.n + 1 } }))
    end)
    bus:topic(w.name .. "-next"):on("Second", function(event)
      got = { n = event.data.n, metadata = event.metadata }
    end)
    local first = assert(topic:publish { type = "First", data = { n = 1 }, metadata = { correlation_id = "corr" } })
    w:wait(function() return got end)
    assert.equal(2, got.n)
    assert.equal("corr", got.metadata.correlation_id)
    assert.equal(first.id, got.metadata.causation_id)
  end)

  it("lets 50 publishers and 50 subscribers work at once", function(w)
    local bus = w:open()
    local got, seen, done, wrong = {}, {}, 0, 0
    for group = 1, 50 do
      got[group], seen[group] = 0, {}
      bus:topic(w.name):on("*", { group = "g" .. group }, function(event)
        local last = seen[group][event.type] or 0
        -- Each publisher waits for one result before its next event: its own are in order.
        if event.data.n ~= last + 1 then wrong = wrong + 1 end
        seen[group][event.type] = event.data.n
        got[group] = got[group] + 1
      end)
    end
    for publisher = 1, 50 do
      bus:spawn(function()
        for n = 1, 10 do assert(bus:topic(w.name):publish { type = "P" .. publisher, data = { n = n } }) end
        done = done + 1
      end)
    end
    w:wait(function()
      if done < 50 then return false end
      for group = 1, 50 do
        if got[group] < 500 then return false end
      end
      return true
    end, 90, "50 groups with 500 events each")
    w:pass(0.2)
    assert.equal(0, wrong)
    for group = 1, 50 do
      assert.equal(500, got[group])
      for publisher = 1, 50 do assert.equal(10, seen[group]["P" .. publisher]) end
    end
  end)

  it("serves 20 topics at once, each with its own events", function(w)
    local bus = w:open()
    local got = {}
    for n = 1, 20 do
      got[n] = {}
      bus:topic(w.name .. "-" .. n):on("*", function(event) table.insert(got[n], event.data.n) end)
    end
    for n = 1, 20 do
      bus:spawn(function()
        for i = 1, 10 do assert(bus:topic(w.name .. "-" .. n):publish { type = "T", data = { n = n * 100 + i } }) end
      end)
    end
    w:wait(function()
      for n = 1, 20 do
        if #got[n] < 10 then return false end
      end
      return true
    end)
    w:pass(0.2)
    for n = 1, 20 do
      assert.equal(10, #got[n])
      for i = 1, 10 do assert.equal(n * 100 + i, got[n][i]) end
    end
  end)

  it("refuses an event without a type and publishes its neighbours", function(w)
    local topic = w:topic()
    assert.has_error(function() topic:publish { data = {} } end)
    local results, failures = topic:publish_batch {
      { type = "Good", data = { n = 1 } }, { type = "Bad", data = { f = print } }, { type = "Good", data = { n = 3 } } }
    assert.equal(1, failures)
    assert.is_string(results[1].stream_id)
    assert.is_table(results[2].error)
    assert.is_string(results[3].stream_id)
    local got = {}
    topic:on("*", function(event) got[#got + 1] = event.data.n end)
    w:wait(function() return #got == 2 end)
    assert.same({ 1, 3 }, got)
  end)

  it("trims to max_len", function(w)
    local topic, bus = w:topic { max_len = 100, exact = true }
    w:fill(topic, 1000)
    assert.equal(100, bus.streams:xlen(w.name))
  end)

  it("goes on publishing after an error", function(w)
    local topic = w:topic()
    local _, err = topic:publish { type = "Big", data = string.rep("x", 2000000), content_type = "text/plain" }
    assert.equal("TIDE-LIMIT", err.code)
    assert(topic:publish { type = "Fine", data = {} })
  end)
end)
