local timers = require "tidemill.timers"

describe("timers", function()
  it("come out by their time, ties in the order of pushing", function()
    local heap = timers.new()
    local expected = {}
    local state = 7
    for n = 1, 500 do
      state = (state * 1103 + 12345) % 65536
      local deadline = state % 50
      heap:push(deadline, n)
      expected[n] = { deadline, n }
    end
    table.sort(expected, function(a, b)
      if a[1] ~= b[1] then
        return a[1] < b[1]
      end
      return a[2] < b[2]
    end)
    for _, pair in ipairs(expected) do
      assert.equal(pair[1], heap:first())
      assert.is_nil(heap:pop(pair[1] - 1))
      assert.equal(pair[2], heap:pop(1000))
    end
    assert.is_nil(heap:first())
    assert.is_nil(heap:pop(1000))
    assert.equal(0, heap.count)
  end)

  it("may be pushed between pops", function()
    local heap = timers.new()
    heap:push(5, "five")
    heap:push(1, "one")
    assert.equal("one", heap:pop(10))
    heap:push(2, "two")
    heap:push(9, "nine")
    assert.equal("two", heap:pop(10))
    assert.equal("five", heap:pop(10))
    assert.equal("nine", heap:pop(10))
  end)
end)
