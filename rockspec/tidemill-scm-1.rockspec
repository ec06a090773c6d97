rockspec_format = "3.0"
package = "tidemill"
version = "scm-1"
source = { url = "git+https://github.com/tidemill/tidemill.git" }
description = {
  summary = "Event bus whose handlers are Lua scripts, over Redis/Valkey streams or embedded",
  detailed = [[
    A C core does connections, streams, consumer groups, retry and dead letters; handlers are Lua.
    The same scripts run on Redis, Valkey, and on an embedded engine that needs no server.]],
  license = "MIT",
}
dependencies = { "lua >= 5.1", "lua-cjson >= 2.1.0", "argparse >= 0.6.0" }
external_dependencies = {
  HIREDIS = { header = "hiredis/hiredis.h" },
  SQLITE = { header = "sqlite3.h" },
  OPENSSL = { header = "openssl/ssl.h" },
}
build = {
  type = "cmake",
  variables = {
    TIDE_ROCK = "ON",
    CMAKE_BUILD_TYPE = "RelWithDebInfo",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    TIDE_ROCK_LUADIR = "$(LUADIR)",
    TIDE_ROCK_LIBDIR = "$(LIBDIR)",
  },
  install = { bin = { tidemill = "rockspec/command.lua" } },
}
