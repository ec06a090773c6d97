/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_LUA_STATE_H
#define TIDE_SPEC_LUA_STATE_H

/* For programs that carry Lua and the binding (tests of it, fuzz_event); TIDE_LUA_DIR is the tree's lua/. */

#include <lauxlib.h>
#include <lualib.h>

int luaopen_tidemill_core(lua_State *L);

/* Opens the standard libraries and makes `require "tidemill"` find the tree's files and the binding that is linked in.
 * Leaves nothing on the stack. */
static inline void lua_state_prepare(lua_State *L) {
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_pushliteral(L, TIDE_LUA_DIR "/?.lua;" TIDE_LUA_DIR "/?/init.lua");
    lua_setfield(L, -2, "path");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_tidemill_core);
    lua_setfield(L, -2, "tidemill.core");
    lua_settop(L, 0);
}

#endif
