/* SPDX-License-Identifier: MIT */
/*
 * Lua runs out of memory: the N-th allocation of the interpreter fails, for every N, from opening a bus over publishing and
 * consuming to the last settlement (memory.lua beside this file). No crash and no leak; every event whose publishing succeeded
 * is handled and settled: on the same bus when the caller saw nothing of the failure, on another one when it was raised.
 * Two calls in a row fail, or twenty, since Lua collects and asks again after the first. Blocks that shrink never fail: Lua counts on it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lua_state.h"
#include "scratch.h"

typedef struct memory {
    uint64_t until;  /* allocations that succeed before some fail */
    uint64_t row;    /* so many fail then; 0: none */
    uint64_t failed; /* since the last arming */
    size_t bytes;
    size_t blocks;
} memory;

static void *allocate(void *context, void *block, size_t old_size, size_t new_size) {
    memory *m = context;
    if (block == NULL)
        old_size = 0; /* a kind of object, then */
    if (new_size > old_size && m->row > 0) {
        if (m->until == 0) {
            m->row--;
            m->failed++;
            return NULL;
        }
        m->until--;
    }
    if (new_size == 0) {
        m->bytes -= old_size;
        m->blocks -= block != NULL;
        free(block);
        return NULL;
    }
    void *made = realloc(block, new_size);
    assert_non_null(made);
    m->bytes = m->bytes - old_size + new_size;
    m->blocks += block == NULL;
    return made;
}

/* arm(n, row): from now on the n-th allocation fails, and so do those after it, `row` in all. */
static int arm(lua_State *L) {
    memory *m = lua_touserdata(L, lua_upvalueindex(1));
    m->failed = 0;
    m->until = (uint64_t)luaL_checkinteger(L, 1) - 1;
    m->row = (uint64_t)luaL_checkinteger(L, 2);
    return 0;
}

/* disarm() → how many failed */
static int disarm(lua_State *L) {
    memory *m = lua_touserdata(L, lua_upvalueindex(1));
    m->row = 0;
    lua_pushinteger(L, (lua_Integer)m->failed);
    return 1;
}

static void survives_each_failing_allocation(void **state) {
    (void)state;
    memory m = {0};
    lua_State *L = lua_newstate(allocate, &m);
    assert_non_null(L);
    lua_state_prepare(L);
    if (luaL_loadfile(L, TIDE_SPEC_DIR "/c/binding/memory.lua") != LUA_OK)
        fail_msg("%s", lua_tostring(L, -1));
    lua_pushlightuserdata(L, &m);
    lua_pushcclosure(L, arm, 1);
    lua_pushlightuserdata(L, &m);
    lua_pushcclosure(L, disarm, 1);
    lua_pushfstring(L, "file:%s", scratch_path("bus.db"));
    if (lua_pcall(L, 3, 2, 0) != LUA_OK)
        fail_msg("%s", lua_tostring(L, -1));
    printf("%d failures, %d of them without an error for the caller\n", (int)lua_tointeger(L, -2),
           (int)lua_tointeger(L, -1));
    assert_true(lua_tointeger(L, -2) > 600);
    lua_close(L);
    assert_int_equal(m.blocks, 0);
    assert_int_equal(m.bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
