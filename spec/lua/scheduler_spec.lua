local scheduler = require "tidemill.scheduler"
local world = require "spec.lua.support.world"

describe("the scheduler", function()
  local bus, made, lines

  before_each(function()
    bus = world.open()
    lines = {}
    made = scheduler.new(bus.core, function(level, line) lines[#lines + 1] = level .. " " .. line end)
  end)
  after_each(function() bus:close() end)

  it("uses a coroutine again after its function has ended", function()
    local threads = {}
    for n = 1, 3 do
      made:start(function() threads[n] = coroutine.running() end)
    end
    assert.equal(threads[1], threads[2])
    assert.equal(threads[1], threads[3])
    assert.equal(0, made.tasks)
  end)

  it("knows whether it is asked on one of its own", function()
    local inside, inner
    made:start(function()
      inside = made:is_inside()
      inner = coroutine.wrap(function() return made:is_inside() end)()
    end)
    assert.is_true(inside)
    assert.is_false(inner)
    assert.is_false(made:is_inside())
  end)

  it("leaves what has had no turn by the deadline to the next one, in its order", function()
    local steps = {}
    for n = 1, 3 do
      made:start(function()
        coroutine.yield "whatever"
        steps[#steps + 1] = n
      end)
    end
    local passed = bus.core:now() - 1
    made:resume_ready(passed)
    assert.same({ 1 }, steps)
    made:start(function()
      coroutine.yield "whatever"
      steps[#steps + 1] = 4
    end)
    made:resume_ready(passed)
    made:resume_ready()
    assert.same({ 1, 2, 3, 4 }, steps)
  end)

  it("resumes many in their order, some in each turn", function()
    local order, turns = {}, 0
    for n = 1, 3000 do
      made:start(function()
        for _ = 1, 2 do
          coroutine.yield "whatever"
          order[#order + 1] = n
        end
      end)
    end
    while made:resume_ready() do
      turns = turns + 1
      assert.is_true(#order <= turns * 100)
    end
    assert.equal(6000, #order)
    for i = 1, 6000 do
      assert.equal((i - 1) % 3000 + 1, order[i])
    end
    assert.equal(0, made.tasks)
    assert.equal(0, made.ready_count)
  end)

  it("resumes what gives way in the next turn", function()
    local steps = {}
    made:start(function(name)
      steps[#steps + 1] = name
      coroutine.yield "whatever"
      steps[#steps + 1] = name .. " again"
    end, "a")
    assert.same({ "a" }, steps)
    assert.equal(1, made.tasks)
    assert.is_true(made:resume_ready())
    assert.is_false(made:resume_ready())
    assert.same({ "a", "a again" }, steps)
    assert.equal(0, made.tasks)
  end)

  it("resumes a waiter once its completions are there", function()
    local waiter, result = { left = 1 }, nil
    made:start(function()
      assert(made:wait(waiter, "test"))
      result = waiter.a
    end)
    assert.is_nil(result)
    local tag = made:expect(waiter)
    assert(bus.core:command(tag, { "XLEN", "x" }, 0))
    for _ = 1, 1000 do
      if result then
        break
      end
      made:poll(1000)
      made:resume_ready()
    end
    assert.equal(0, result)
  end)

  it("logs a coroutine that dies, and doesn't use it again", function()
    made:start(function() error "oops" end)
    assert.matches("oops", lines[1])
    assert.equal(0, made.tasks)
    local ran
    made:start(function() ran = true end)
    assert.is_true(ran)
  end)
end)
