/* SPDX-License-Identifier: MIT */
/*
 * tidemill.core: the C module under lua/tidemill. Private: its functions check kinds, not sense.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/text.h"
#include "base/url.h"
#include "binding/binding.h"

static int core_hostname(lua_State *L) {
    char name[256];
    if (gethostname(name, sizeof name) != 0)
        name[0] = 0;
    name[sizeof name - 1] = 0;
    lua_pushstring(L, name);
    return 1;
}

static int core_pid(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)getpid());
    return 1;
}

/* core.exit(status): ends the process without running anything more. */
static int core_exit(lua_State *L) {
    _exit((int)luaL_checkinteger(L, 1));
}

/* core.wall() → seconds since the epoch, with ms. */
static int core_wall(lua_State *L) {
    lua_pushnumber(L, (lua_Number)tide_lua_wall_ms() / 1000);
    return 1;
}

/* core.escape(text) → the text with control bytes, bidirectional controls and invalid UTF-8 as \xNN, at most 4 KiB */
static int core_escape(lua_State *L) {
    tide_str text;
    char shown[TIDE_REASON_MAX];
    text.data = luaL_checklstring(L, 1, &text.len);
    lua_pushlstring(L, shown, tide_text_escape(shown, sizeof shown, text));
    return 1;
}

/* core.is_utf8(text) → boolean */
static int core_is_utf8(lua_State *L) {
    tide_str text;
    text.data = luaL_checklstring(L, 1, &text.len);
    lua_pushboolean(L, tide_utf8_is_valid(text));
    return 1;
}

/* core.redact(url) → the URL for showing, without its secrets */
static int core_redact(lua_State *L) {
    tide_str text;
    char shown[TIDE_URL_MAX + 64];
    text.data = luaL_checklstring(L, 1, &text.len);
    lua_pushlstring(L, shown, tide_url_redact(shown, sizeof shown, text));
    return 1;
}

/* core.monotonic() → seconds of a clock that only goes forward */
static int core_monotonic(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* core.serial() → 1, 2, 3 … in this process, whatever Lua state asks */
static int core_serial(lua_State *L) {
    static atomic_int serial;
    lua_pushinteger(L, atomic_fetch_add(&serial, 1) + 1);
    return 1;
}

/* core.is_hung_up(descriptor) → whether nobody is left to read what is written there: a pipe without reader, a terminal or
 * socket that has gone. Doesn't wait. */
static int core_is_hung_up(lua_State *L) {
    struct pollfd one = {.fd = (int)luaL_checkinteger(L, 1)};
    lua_pushboolean(L,
                    poll(&one, 1, 0) == 1 && (one.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0);
    return 1;
}

/* core.file_mode(path) → permission bits, whether it is a regular file; nil and the reason. Follows links. */
static int core_file_mode(lua_State *L) {
    struct stat about;
    if (stat(luaL_checkstring(L, 1), &about) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, strerror(errno));
        return 2;
    }
    lua_pushinteger(L, (lua_Integer)(about.st_mode & 07777));
    lua_pushboolean(L, S_ISREG(about.st_mode));
    return 2;
}

/* core.new_error(code number, message) → error value; core.statuses has the numbers by name */
static int core_new_error(lua_State *L) {
    tide_lua_push_error(L, (tide_status)luaL_checkinteger(L, 1), luaL_optstring(L, 2, NULL), NULL);
    return 1;
}

static int scratch_gc(lua_State *L) {
    tide_scratch_deinit(lua_touserdata(L, 1));
    return 0;
}

static void add_json(lua_State *L, const char *name, lua_CFunction function) {
    tide_scratch *scratch = tide_lua_new_userdata(L, sizeof *scratch);
    tide_scratch_init(scratch);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, scratch_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

LUALIB_API int luaopen_tidemill_core(lua_State *L);
__attribute__((visibility("default"))) int luaopen_tidemill_core(lua_State *L) {
    static const luaL_Reg functions[] = {{"open", tide_lua_bus_open},
                                         {"policy", tide_lua_policy_new},
                                         {"hostname", core_hostname},
                                         {"pid", core_pid},
                                         {"exit", core_exit},
                                         {"wall", core_wall},
                                         {"escape", core_escape},
                                         {"is_utf8", core_is_utf8},
                                         {"redact", core_redact},
                                         {"monotonic", core_monotonic},
                                         {"serial", core_serial},
                                         {"is_hung_up", core_is_hung_up},
                                         {"file_mode", core_file_mode},
                                         {"new_error", core_new_error},
                                         {"signals_begin", tide_lua_signals_begin},
                                         {"signals_end", tide_lua_signals_end},
                                         {"signal_taken", tide_lua_signal_taken},
                                         {NULL, NULL}};
    static const struct {
        const char *name;
        int number;
    } statuses[] = {
#define X(name, code, class, text) {#name, TIDE_##name},
        TIDE_STATUS_MAP(X)
#undef X
    };
    tide_lua_bus_register(L);
    luaL_newmetatable(L, TIDE_LUA_POLICY);
    lua_pushliteral(L, TIDE_LUA_POLICY);
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
    lua_createtable(L, 0, 20);
    luaL_setfuncs(L, functions, 0);
    lua_pushstring(L, tide_version());
    lua_setfield(L, -2, "version");
    luaL_newmetatable(L, TIDE_LUA_ERROR);
    lua_setfield(L, -2, "error_metatable");
    luaL_newmetatable(L, TIDE_LUA_ARRAY);
    lua_setfield(L, -2, "array_metatable");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    lua_createtable(L, 0, TIDE_STATUS_COUNT);
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        lua_pushinteger(L, statuses[i].number);
        lua_setfield(L, -2, statuses[i].name);
    }
    lua_setfield(L, -2, "statuses");
    add_json(L, "json_encode", tide_lua_json_encode_call);
    add_json(L, "json_decode", tide_lua_json_decode_call);
    return 1;
}
