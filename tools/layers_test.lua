-- The layer check must be able to fail: each case plants one violation in a small tree and expects it to be named.
local here = arg[0]:gsub("[^/]*$", "")

local function run(tree)
  local folder = os.tmpname()
  os.remove(folder)
  for path, text in pairs(tree) do
    assert(os.execute("mkdir -p '" .. folder .. "/" .. path:match("^(.*)/") .. "'"))
    local file = assert(io.open(folder .. "/" .. path, "w"))
    file:write(text)
    file:close()
  end
  local pipe = assert(io.popen("lua5.4 '" .. here .. "layers.lua' '" .. folder .. "' 2>&1"))
  local output = pipe:read("a")
  local ok = pipe:close()
  os.execute("rm -rf '" .. folder .. "'")
  return ok == true, output
end

local CLEAN = {
  ["csrc/base/buffer.c"] = '#include "base/buffer.h"\n#include <string.h>\n/* free() and time() in a comment */\n',
  ["csrc/base/alloc.c"] = "#include <stdlib.h>\nvoid *x(void) { return malloc(1); }\n",
  ["csrc/proto/resp.c"] = '#include <hiredis/hiredis.h>\n#include "base/buffer.h"\n',
  ["csrc/broker/redis/redis.c"] = '#include "redis.h"\n#include "broker/broker.h"\n#include "proto/resp.h"\n',
  ["csrc/broker/sqlite/store.c"] = "#include <sqlite3.h>\n#include <sys/stat.h>\n",
  ["csrc/engine/engine.c"] = '#include "broker/redis/redis.h"\n#include "consumer/consumer.h"\n#include <stdlib.h>\n'
    .. "void f(void) { env.alloc->free(p); tide_free(p); clock_time(1); const char *s = \"malloc(1)\"; }\n",
  ["csrc/transport/tcp.c"] = '#include <sys/socket.h>\n#include <openssl/ssl.h>\n#include "base/buffer.h"\n',
  ["csrc/runtime/loop.c"] = '#include <poll.h>\n#include <time.h>\n#include "engine/engine.h"\n',
  ["csrc/binding/core.c"] = "#include <lua.h>\n#include <lauxlib.h>\n",
  ["csrc/include/tidemill/bus.h"] = "#include <tidemill/status.h>\n#include <stdint.h>\n",
  ["lua/tidemill/init.lua"] = 'local bus = require "tidemill.bus"\nreturn bus\n',
  ["lua/tidemill/bus.lua"] = 'return function() return require "tidemill" end\n',
  ["lua/tidemill/cli/init.lua"] = 'local run = require "tidemill.cli.run"\nlocal t = require "tidemill"\n'
    .. "return { run, t }\n",
  ["lua/tidemill/cli/run.lua"] = "return {}\n",
}

local PLANTED = {
  { "csrc/base/a.c", '#include "engine/engine.h"\n', "arrows point down" },
  { "csrc/policy/a.c", '#include "proto/resp.h"\n', "siblings" },
  { "csrc/broker/redis/a.c", '#include "broker/sqlite/store.h"\n', "siblings" },
  { "csrc/broker/sqlite/a.c", '#include "broker/redis/redis.h"\n', "siblings" },
  { "csrc/broker/a.c", '#include "broker/redis/redis.h"\n', "arrows point down" },
  { "csrc/consumer/a.c", '#include "broker/redis/redis.h"\n', "siblings" },
  { "csrc/transport/a.c", '#include "proto/resp.h"\n', "transport knows bytes" },
  { "csrc/engine/a.c", "#include <sys/socket.h>\n", "only transport touches the system" },
  { "csrc/consumer/a.h", "#include <time.h>\n", "only transport touches the system" },
  { "csrc/telemetry/a.c", "# include <pthread.h>\n", "only transport touches the system" },
  { "csrc/engine/a.c", "#include <lua.h>\n", "<lua.h> is not for engine" },
  { "csrc/runtime/a.c", "#include <lauxlib.h>\n", "is not for runtime" },
  { "csrc/engine/a.c", "#include <sqlite3.h>\n", "<sqlite3.h> is not for engine" },
  { "csrc/broker/redis/a.c", "#include <hiredis/read.h>\n", "is not for broker/redis" },
  { "csrc/runtime/a.c", "#include <openssl/ssl.h>\n", "is not for runtime" },
  { "csrc/include/tidemill/a.h", '#include "base/buffer.h"\n', "a public header" },
  { "csrc/include/tidemill/a.h", "#include <poll.h>\n", "public header" },
  { "csrc/nowhere/a.c", "int x;\n", "is in no layer" },
  { "csrc/engine/a.c", "void f(void) { char *p = malloc(3); }\n", "injected allocator" },
  { "csrc/engine/a.c", "long f(void) { return time(NULL); }\n", "is told the time" },
  { "lua/tidemill/topic.lua", 'local cli = require("tidemill.cli")\nreturn cli\n', "does not stand on its edges" },
  { "lua/tidemill/topic.lua", 'local s = require "ngx.semaphore"\nreturn s\n', "only tidemill.resty" },
  { "lua/tidemill/bus.lua", 'local t = require "tidemill"\nreturn t\n', "a circle of requires" },
}

local failures = 0
local ok, output = run(CLEAN)
if not ok then
  failures = failures + 1
  print("the clean tree was refused:\n" .. output)
end
for _, case in ipairs(PLANTED) do
  local tree = {}
  for path, text in pairs(CLEAN) do tree[path] = text end
  tree[case[1]] = case[2]
  ok, output = run(tree)
  if ok or not output:find(case[3], 1, true) then
    failures = failures + 1
    print(("not found: %s in %s\n  expected: %s\n  got: %s"):format(case[2], case[1], case[3], output))
  end
end
print(("layers_test: %d planted violations, %d not found"):format(#PLANTED, failures))
os.exit(failures == 0 and 0 or 1)
