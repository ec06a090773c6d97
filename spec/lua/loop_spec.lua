-- Signals, each in a process of its own.
local shell = require "spec.support.shell"

local SCRIPT = [[
local tidemill = require "tidemill"
io.stdout:setvbuf "line"
local bus = assert(tidemill.open("memory:", { grace = %s }))
local topic = bus:topic "orders"
topic:on("Slow", function()
  print "started"
  bus:sleep(%s)
  print "ended"
end)
topic:on("Stuck", function()
  print "started"
  local until_then = os.time() + 30
  repeat until os.time() > until_then
end)
topic:publish { type = %q }
print "running"
print("run", bus:run(60))
bus:close()
print "closed"
]]

local function start(kind, seconds, grace)
  local folder = shell.temporary_dir "loop"
  local path = shell.write_file(folder .. "/script.lua", SCRIPT:format(grace or 10, seconds or 0, kind))
  local process = shell.spawn { "env", "--default-signal=INT", "--default-signal=TERM",
    os.getenv "TIDEMILL_LUA" or "lua5.4", path }
  assert(process:wait_for(kind == "Quiet" and "running" or "started"), process:errors())
  return process
end

for _, signal in ipairs { "INT", "TERM" } do
  describe("SIG" .. signal, function()
    it("ends a quiet run", function()
      local process = start "Quiet"
      shell.sleep(0.1)
      process:signal(signal)
      assert.equal(0, process:wait(20))
      assert.matches("run\ttrue.*closed", process:output())
    end)

    it("lets a running handler end", function()
      local process = start("Slow", 0.7)
      process:signal(signal)
      assert.equal(0, process:wait(20))
      assert.matches("ended\nrun\ttrue", process:output())
    end)

    it("gives back what isn't done within the grace period", function()
      local process = start("Slow", 30, 0.2)
      process:signal(signal)
      assert.equal(0, process:wait(20))
      assert.matches("run\tnil\tTIDE%-TIMEOUT: 1 handler was still running", process:output())
    end)

    it("ends the process at once when it comes twice", function()
      local process = start "Stuck"
      process:signal(signal)
      shell.sleep(0.2)
      assert.is_true(process:is_alive())
      process:signal(signal)
      assert.equal(128 + (signal == "INT" and 2 or 15), process:wait(20))
    end)
  end)
end

describe("signals after a run", function()
  it("have their former meaning again", function()
    local folder = shell.temporary_dir "loop"
    local path = shell.write_file(folder .. "/script.lua", [[
      local bus = assert(require("tidemill").open "memory:")
      bus:run(0.01)
      print "ready"
      io.stdout:flush()
      local until_then = os.time() + 30
      repeat until os.time() > until_then
    ]])
    local process = shell.spawn { "env", "--default-signal=TERM", os.getenv "TIDEMILL_LUA" or "lua5.4", path }
    assert(process:wait_for "ready")
    process:signal "TERM"
    assert.equal(143, process:wait(20))
  end)
end)
