/* SPDX-License-Identifier: MIT */
/*
 * What it is: publishing: one event, or as many of a list as fit together in one operation; the results' tables.
 * What it is not: the shape of an event (record.c), or waiting (lua/tidemill/publisher.lua).
 * What is wrong with one event is an error value in its place of the results, and the others go out; what is wrong with the
 * program raises before anything of the call goes out.
 * Invariants: nothing here calls Lua code; a result's table exists only for what was submitted or refused.
 */
#include "binding/binding.h"

static int64_t option_i64(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    int64_t number = (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

/* Options that concern the whole operation: numbers dedupe_ms, delay_ms, due_ms, max_len, exact (0, 1), expect
 * (tide_expect_kind), expect_version, whole (1: all in one operation, or the first error as nil, err). nil: none. */
static bool read_options(lua_State *L, int index, tide_op_publish *publish, tide_lua_timing *base) {
    if (lua_isnoneornil(L, index))
        return false;
    base->dedupe_ms = option_i64(L, index, "dedupe_ms");
    base->delay_ms = option_i64(L, index, "delay_ms");
    base->due_ms = option_i64(L, index, "due_ms");
    publish->max_len = (uint64_t)option_i64(L, index, "max_len");
    publish->max_len_exact = option_i64(L, index, "exact") != 0;
    publish->expect = (tide_expect_kind)option_i64(L, index, "expect");
    publish->expect_version = (uint64_t)option_i64(L, index, "expect_version");
    return option_i64(L, index, "whole") != 0;
}

/* Submits the records that were built. */
static tide_status submit(tide_lua_bus *self, tide_op *op, const tide_lua_timing *when,
                          tide_error *error) {
    tide_op_publish *publish = &op->as.publish;
    tide_lua_record_end(self);
    publish->records = self->records;
    publish->record_count = self->record_count;
    publish->dedupe_window_ms = when->dedupe_ms;
    publish->delay_ms = when->delay_ms;
    publish->due_ms = when->due_ms;
    tide_status status = tide_engine_submit(self->engine, op, tide_bus_now_us(self->bus), error);
    if (status == TIDE_OK)
        tide_lua_bus_submitted(self);
    return status;
}

/* Pushes { id =, delayed = }, with room for stream_id and duplicate. */
static void push_result(lua_State *L, tide_str id, const tide_lua_timing *when) {
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, id.data, id.len);
    lua_setfield(L, -2, "id");
    lua_pushboolean(L, when->delay_ms > 0 || when->due_ms != 0);
    lua_setfield(L, -2, "delayed");
}

static tide_op new_op(lua_State *L) {
    tide_op op = {.kind = TIDE_OP_PUBLISH, .tag = (uint64_t)lua_tonumber(L, 2)};
    op.as.publish.stream.data = luaL_checklstring(L, 3, &op.as.publish.stream.len);
    return op;
}

/* bus:publish_one(tag, stream, event, options) → { id =, delayed = }, and a completion follows; or nil, err. */
int tide_lua_publish_one(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = new_op(L);
    tide_lua_timing when = {0, 0, 0};
    read_options(L, 5, &op.as.publish, &when);
    lua_settop(L, 4);
    tide_lua_record_begin(self);
    tide_lua_refusal refusal;
    if (!tide_lua_record_add(L, self, &when, &refusal)) {
        lua_pushnil(L);
        tide_lua_push_error(L, refusal.status, refusal.message, "");
        return 2;
    }
    tide_error error = {.status = TIDE_OK};
    if (submit(self, &op, &when, &error) != TIDE_OK)
        return tide_lua_fail(L, &error);
    push_result(L, self->records[0].event_id, &when);
    return 1;
}

/* Sets results[index] = { error = value } */
static void set_failure(lua_State *L, int results, int index, tide_status status,
                        const char *message, const char *server) {
    lua_createtable(L, 0, 1);
    tide_lua_push_error(L, status, message, server);
    lua_setfield(L, -2, "error");
    lua_rawseti(L, results, index);
}

static bool differs(const tide_lua_timing *a, const tide_lua_timing *b) {
    return a->dedupe_ms != b->dedupe_ms || a->delay_ms != b->delay_ms || a->due_ms != b->due_ms;
}

/*
 * bus:publish(tag, stream, events, first, last, results, options, all) → next, count
 * Builds the events from `first` on that fit together in one operation and submits them under `tag`: `next` is the first
 * event not looked at yet, `count` how many were submitted (0: no completion follows). results[i] becomes { id = } or
 * { error = }. `options` is nil or a table. `all`: the last of the list; when not all fit in this operation, the others up to
 * that one are checked for misuse before it goes out; 0 when they have been.
 */
int tide_lua_publish(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = new_op(L);
    int first = (int)luaL_checkinteger(L, 5), last = (int)luaL_checkinteger(L, 6);
    enum { EVENTS = 4, RESULTS = 7, OPTIONS = 8, ALL = 9 };
    luaL_checktype(L, EVENTS, LUA_TTABLE);
    luaL_checktype(L, RESULTS, LUA_TTABLE);
    lua_settop(L, ALL);
    tide_lua_timing base = {0, 0, 0};
    bool whole = read_options(L, OPTIONS, &op.as.publish, &base);
    int all = (int)lua_tointeger(L, ALL);
    tide_lua_record_begin(self);

    tide_lua_timing chosen = base;
    int next = first;
    for (; next <= last && (whole || next - first < TIDE_LUA_RECORDS_AT_FIRST); next++) {
        tide_lua_timing when = base;
        tide_lua_refusal refusal;
        lua_rawgeti(L, EVENTS, next);
        if (!tide_lua_record_add(L, self, &when, &refusal)) {
            if (whole) {
                lua_pushnil(L);
                tide_lua_push_error(L, refusal.status, refusal.message, "");
                return 2;
            }
            set_failure(L, RESULTS, next, refusal.status, refusal.message, "");
            continue;
        }
        if (self->record_count == 1) {
            chosen = when;
        } else if (differs(&when, &chosen)) {
            if (whole)
                return luaL_error(L,
                                  "events appended together cannot differ in delay, at or dedupe");
            tide_lua_record_drop(self);
            break;
        }
    }
    for (int i = next; i <= all; i++) {
        lua_rawgeti(L, EVENTS, i);
        tide_lua_record_check(L);
    }
    if (self->record_count == 0) {
        lua_pushinteger(L, next);
        lua_pushinteger(L, 0);
        return 2;
    }
    tide_error error = {.status = TIDE_OK};
    tide_status status = submit(self, &op, &chosen, &error);
    if (status != TIDE_OK && whole)
        return tide_lua_fail(L, &error);
    /* The results' tables are made while the engine works. */
    size_t record = 0;
    for (int i = first; i < next && record < self->record_count; i++) {
        lua_rawgeti(L, RESULTS, i);
        bool failed = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (failed)
            continue;
        tide_str id = self->records[record++].event_id;
        if (status != TIDE_OK) {
            set_failure(L, RESULTS, i, status, error.message, error.server);
            continue;
        }
        push_result(L, id, &chosen);
        lua_rawseti(L, RESULTS, i);
    }
    lua_pushinteger(L, next);
    lua_pushinteger(L, status == TIDE_OK ? (lua_Integer)self->record_count : 0);
    return 2;
}
