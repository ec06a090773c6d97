/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BINDING_COMPAT_H
#define TIDE_BINDING_COMPAT_H

/* Every difference between Lua 5.4 and LuaJIT (5.1) that the binding meets. Nothing else tests LUA_VERSION_NUM. */

#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

#if LUA_VERSION_NUM < 502
#define lua_rawlen lua_objlen
#define tide_lua_absindex(L, i)                                                                    \
    ((i) > 0 || (i) <= LUA_REGISTRYINDEX ? (i) : lua_gettop(L) + (i) + 1)
#else
#define tide_lua_absindex(L, i) lua_absindex(L, i)
#endif

#if LUA_VERSION_NUM < 503
/* Numbers have no integer kind: none is one by type. */
#define tide_lua_is_integer(L, i) ((void)(L), (void)(i), 0)
enum { TIDE_LUA_HAS_INTEGERS = 0 };
#else
#define tide_lua_is_integer(L, i) lua_isinteger(L, i)
enum { TIDE_LUA_HAS_INTEGERS = 1 };
#endif

/* The collector's pace for a large block that was just made. LuaJIT's own takes one short step for each block, however large:
 * a hundred events of a mebibyte were all alive at once. Lua 5.4's is told how much was made. */
enum { TIDE_LUA_LARGE = 64 * 1024 };
#if LUA_VERSION_NUM < 502 && defined(LUA_GCISRUNNING)
static inline void tide_lua_pay(lua_State *L, size_t size) {
    /* Whoever stopped it wants no step. */
    if (size < TIDE_LUA_LARGE || !lua_gc(L, LUA_GCISRUNNING, 0))
        return;
    /* A step marks or frees about two KiB: four bytes for each that was made, as it is decoded yet. */
    for (size_t steps = size / 512; steps > 0 && lua_gc(L, LUA_GCSTEP, 0) == 0; steps--) {
    }
}
#else
static inline void tide_lua_pay(lua_State *L, size_t size) {
    (void)L;
    (void)size;
}
#endif

/* A userdata that can keep one Lua value beside it. */
#if LUA_VERSION_NUM < 504
#define tide_lua_new_userdata(L, size) lua_newuserdata(L, size)
/* Keeps the value at the top of the stack, and pops it. An environment must be a table: another value is put into one, then
 * `boxed` is true, and said so to tide_lua_push_kept. */
static inline bool tide_lua_set_kept(lua_State *L, int index) {
    index = tide_lua_absindex(L, index);
    bool boxed = !lua_istable(L, -1);
    if (boxed) {
        lua_createtable(L, 1, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
    }
    lua_setfenv(L, index);
    return boxed;
}
static inline void tide_lua_push_kept(lua_State *L, int index, bool boxed) {
    lua_getfenv(L, index);
    if (boxed) {
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
    }
}
#else
#define tide_lua_new_userdata(L, size) lua_newuserdatauv(L, size, 1)
static inline bool tide_lua_set_kept(lua_State *L, int index) {
    lua_setiuservalue(L, index, 1);
    return false;
}
static inline void tide_lua_push_kept(lua_State *L, int index, bool boxed) {
    (void)boxed;
    lua_getiuservalue(L, index, 1);
}
#endif

#endif
