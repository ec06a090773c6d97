/* SPDX-License-Identifier: MIT */
/*
 * The userdata of a bus: one tide_bus with what the binding keeps beside it. Created closed with its metatable first, so
 * that an error on the way leaves something the collector can close. Methods convert values and call the engine; no
 * defaults, no option names, no waiting: those are lua/tidemill's.
 * Invariants: `bus` NULL means closed, and closing twice is nothing; the log sink only copies lines into the ring; nothing is
 * held outside a turn.
 */
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "base/text.h"
#include "binding/binding.h"

enum { OPTIONS_MAX = 64 };

static tide_lua_bus *to_bus(lua_State *L, int index) {
    return luaL_checkudata(L, index, TIDE_LUA_BUS);
}

tide_lua_bus *tide_lua_check_bus(lua_State *L, int index) {
    tide_lua_bus *self = lua_touserdata(L, index);
    bool good = self != NULL && lua_getmetatable(L, index);
    if (good) { /* without the look into the registry that luaL_checkudata takes */
        good = lua_rawequal(L, -1, lua_upvalueindex(1)) != 0;
        lua_pop(L, 1);
    }
    if (!good)
        self = to_bus(L, index); /* raises */
    if (self->bus == NULL)
        luaL_error(L, "the bus is closed");
    return self;
}

/* ---- log ring ---- */

static void log_write(void *context, tide_log_level level, tide_str line) {
    tide_lua_bus *self = context;
    if (self->log_count == TIDE_LUA_LOG_MAX) {
        self->log_dropped++;
        return;
    }
    tide_str copy;
    if (tide_str_copy(&self->alloc, line, &copy) != TIDE_OK) {
        self->log_dropped++;
        return;
    }
    uint32_t at = (self->log_first + self->log_count++) % TIDE_LUA_LOG_MAX;
    self->logs[at] = (tide_lua_log_line){level, copy};
}

static void log_drop_first(tide_lua_bus *self) {
    tide_str_free(&self->alloc, &self->logs[self->log_first].text);
    self->log_first = (self->log_first + 1) % TIDE_LUA_LOG_MAX;
    self->log_count--;
}

/* bus:next_log() → level ("debug", "info", "warn", "error"), line; nothing when there is none. Also when closed. */
static int bus_next_log(lua_State *L) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    tide_lua_bus *self = to_bus(L, 1);
    if (self->log_count == 0) {
        if (self->log_dropped == 0)
            return 0;
        lua_pushliteral(L, "warn");
        lua_pushfstring(L, "%d log lines were dropped", (int)(self->log_dropped & 0x7fffffff));
        self->log_dropped = 0;
        return 2;
    }
    tide_lua_log_line *line = &self->logs[self->log_first];
    lua_pushstring(L, names[line->level <= TIDE_LOG_ERROR ? line->level : TIDE_LOG_ERROR]);
    lua_pushlstring(L, line->text.data, line->text.len);
    log_drop_first(self);
    return 2;
}

/* ---- life ---- */

static int64_t clock_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* core.open(url, options, max_payload) → bus, or nil, err. `options` is a list: name, value, name, value … */
int tide_lua_bus_open(lua_State *L) {
    tide_engine_options options = {.url = {NULL, 0}};
    options.url.data = luaL_checklstring(L, 1, &options.url.len);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Number max_payload = luaL_checknumber(L, 3);
    lua_settop(L, 2);
    tide_field pairs[OPTIONS_MAX];
    size_t size = lua_rawlen(L, 2) / 2;
    luaL_argcheck(L, size <= OPTIONS_MAX, 2, "too many options");
    luaL_checkstack(L, 2 * OPTIONS_MAX + 8, "options");
    for (size_t i = 0; i < size; i++) { /* the strings stay on the stack while they are borrowed */
        lua_rawgeti(L, 2, (int)(2 * i + 1));
        pairs[i].name.data = luaL_checklstring(L, -1, &pairs[i].name.len);
        lua_rawgeti(L, 2, (int)(2 * i + 2));
        pairs[i].value.data = luaL_checklstring(L, -1, &pairs[i].value.len);
    }
    options.options = pairs;
    options.option_count = size;

    tide_lua_bus *self = tide_lua_new_userdata(L, sizeof *self);
    memset(self, 0, sizeof *self);
    luaL_getmetatable(L, TIDE_LUA_BUS);
    lua_setmetatable(L, -2);
    self->alloc = tide_allocator_default();
    self->max_payload = (size_t)max_payload;
    self->time_ms = -1;
    tide_scratch_init(&self->scratch);
    uint64_t seed[5] = {0, 0, 0, 0, 0};
    if (getrandom(seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return luaL_error(L, "no random numbers from the system");
    memcpy(self->ids.state, seed, sizeof self->ids.state);
    self->ids.state[0] |= 1; /* all zero is the one state that goes nowhere */

    options.env.log = (tide_log_sink){log_write, self};
    options.env.seed = seed[4];
    options.wall_offset_us = clock_us(CLOCK_REALTIME) - clock_us(CLOCK_MONOTONIC);
    tide_error error = {.status = TIDE_OK};
    if (tide_bus_open(&self->bus, &options, &error) != TIDE_OK) {
        self->bus = NULL;
        return tide_lua_fail(L, &error);
    }
    self->engine = tide_bus_engine(self->bus);
    return 1;
}

static int bus_close(lua_State *L) {
    tide_lua_bus *self = to_bus(L, 1);
    tide_bus *bus = self->bus;
    self->bus = NULL;
    self->engine = NULL;
    self->orphan = 0;
    tide_bus_close(bus);
    tide_lua_record_deinit(self);
    tide_scratch_deinit(&self->scratch);
    return 0;
}

static int bus_gc(lua_State *L) {
    tide_lua_bus *self = to_bus(L, 1);
    bus_close(L);
    while (self->log_count > 0)
        log_drop_first(self);
    return 0;
}

static int bus_tostring(lua_State *L) {
    tide_lua_bus *self = to_bus(L, 1);
    lua_pushfstring(L, "tidemill.core.bus (%s)", self->bus != NULL ? "open" : "closed");
    return 1;
}

/* ---- driving ---- */

/*
 * Sending. A send costs about as much as everything else of an event, so while a turn of Lua code is under way (handlers,
 * resumed coroutines), what it makes the engine want to send is gathered, and goes out
 *   - with the next poll or write, which end the turn at the latest;
 *   - after the first handler, when the poll has left something: the next read, with that handler's acknowledgement;
 *   - when HELD_MAX operations have gathered, or with the first operation or event that comes HELD_US after them;
 *   - when FIRST_MAX have and nothing else is under way: the engine works on these while the others are made. Answered
 *     apart, the two groups keep taking turns, where one would find engine and loop waiting for each other.
 * An operation goes alone and at once outside a turn, and in one when nothing else is ready that could join it.
 */
enum { HELD_MAX = 64, FIRST_MAX = 8, HELD_US = 200, LOOK_EACH = 8 };

static void send_held(tide_lua_bus *self) {
    self->held = 0;
    tide_bus_write(self->bus);
}

static bool is_overdue(tide_lua_bus *self) {
    return tide_bus_update_now(self->bus) - self->held_us >= HELD_US;
}

void tide_lua_bus_submitted(tide_lua_bus *self) {
    if (!self->turning || (!self->gathering && !tide_engine_has_event(self->engine))) {
        send_held(self);
        return;
    }
    if (self->held++ == 0)
        self->held_us = tide_bus_update_now(self->bus);
    else if (self->held >= HELD_MAX ||
             (self->held == FIRST_MAX && tide_engine_under_way(self->engine) == FIRST_MAX) ||
             (self->held % LOOK_EACH == 0 && is_overdue(self)))
        send_held(self);
}

void tide_lua_bus_handing(tide_lua_bus *self) {
    if (self->held > 0 && self->handed > 0 && (self->handed == 1 || is_overdue(self)))
        send_held(self);
    self->handed++;
}

static bool has_log(const tide_lua_bus *self) {
    return self->log_count > 0 || self->log_dropped > 0;
}

/* Polls until something is there for Lua code, or the time is over. */
static tide_status poll_for_turn(tide_lua_bus *self, int64_t timeout_us, bool *held) {
    int64_t end_us = timeout_us < 0 ? INT64_MAX : tide_bus_update_now(self->bus) + timeout_us;
    for (;;) {
        tide_status status = tide_bus_poll_events(self->bus, timeout_us, held);
        int64_t left_us = end_us - tide_bus_now_us(self->bus);
        if (status != TIDE_OK || !tide_bus_was_quiet(self->bus) || has_log(self) || left_us <= 0)
            return status;
        timeout_us = timeout_us < 0 ? timeout_us : left_us;
    }
}

/* bus:poll(timeout_us [, turn]) → true, news, or nil, err. -1: until something happens. `turn`: Lua code will run now that
 * ends with another poll, a write or a release. `news`: there are completions or log lines to take. */
static int bus_poll(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    int64_t timeout_us = (int64_t)luaL_checknumber(L, 2);
    if (self->orphan != 0)
        tide_lua_bus_settle_orphan(self);
    bool held = false;
    self->turning = lua_toboolean(L, 3) != 0;
    self->gathering = false;
    self->handed = 0;
    tide_status status = self->turning ? poll_for_turn(self, timeout_us, &held)
                                       : tide_bus_poll(self->bus, timeout_us);
    self->held = held;
    self->held_us = tide_bus_now_us(self->bus);
    if (status != TIDE_OK) {
        lua_pushnil(L);
        tide_lua_push_error(L, status, NULL, NULL);
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_pushboolean(L, has_log(self) ||
                           tide_engine_has_completion(self->engine, tide_bus_now_us(self->bus)));
    return 2;
}

static int bus_write(lua_State *L) {
    send_held(tide_lua_check_bus(L, 1));
    return 0;
}

/* bus:release(): no turn is under way any more; what it held is sent. */
static int bus_release(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    self->turning = self->gathering = false;
    if (self->held > 0)
        send_held(self);
    return 0;
}

/* bus:gather(whether): much Lua code runs now, one after another. */
static int bus_gather(lua_State *L) {
    tide_lua_check_bus(L, 1)->gathering = lua_toboolean(L, 2) != 0;
    return 0;
}

/* bus:now() → µs of the bus's clock, read anew. */
static int bus_now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)tide_bus_update_now(tide_lua_check_bus(L, 1)->bus));
    return 1;
}

static int bus_fd(lua_State *L) {
    lua_pushinteger(L, tide_bus_fd(tide_lua_check_bus(L, 1)->bus));
    return 1;
}

/* bus:timeout() → µs until a poll is due, -1 for never. */
static int bus_timeout(lua_State *L) {
    lua_pushnumber(L, (lua_Number)tide_bus_timeout_us(tide_lua_check_bus(L, 1)->bus));
    return 1;
}

static int bus_is_idle(lua_State *L) {
    lua_pushboolean(L, tide_engine_is_idle(tide_lua_check_bus(L, 1)->engine));
    return 1;
}

static int bus_is_open(lua_State *L) {
    lua_pushboolean(L, to_bus(L, 1)->bus != NULL);
    return 1;
}

/* bus:state() → true, or nil, err: connected and healthy? */
static int bus_state(lua_State *L) {
    tide_error error = {.status = TIDE_OK};
    if (tide_engine_state(tide_lua_check_bus(L, 1)->engine, &error) != TIDE_OK)
        return tide_lua_fail(L, &error);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- subscriptions ---- */

static tide_str field_str(lua_State *L, int index, const char *name) {
    tide_str text = {NULL, 0};
    lua_getfield(L, index, name);
    if (lua_type(L, -1) == LUA_TSTRING)
        text.data = lua_tolstring(L, -1, &text.len);
    lua_pop(L, 1); /* the caller's table holds it */
    return text;
}

static int64_t field_i64(lua_State *L, int index, const char *name, int64_t otherwise) {
    lua_getfield(L, index, name);
    if (lua_type(L, -1) == LUA_TNUMBER)
        otherwise = (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
    return otherwise;
}

/* bus:subscribe{ stream =, group =, consumer =, start =, dead_letters =, prefetch =, prefetch_bytes =, lease_ms =,
 * recover_ms =, block_ms =, settle_ms =, delay_move_ms =, promote_ms =, group_lost = "recreate"|"stop", retry = policy } → number, or nil, err */
static int bus_subscribe(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = field_str(L, 2, "stream");
    options.group = field_str(L, 2, "group");
    options.consumer = field_str(L, 2, "consumer");
    options.dead_letters = field_str(L, 2, "dead_letters");
    tide_str start = field_str(L, 2, "start");
    if (start.len > 0)
        options.start = start;
    options.prefetch = (uint32_t)field_i64(L, 2, "prefetch", options.prefetch);
    options.prefetch_bytes =
        (size_t)field_i64(L, 2, "prefetch_bytes", (int64_t)options.prefetch_bytes);
    options.lease_ms = field_i64(L, 2, "lease_ms", options.lease_ms);
    options.recover_ms = field_i64(L, 2, "recover_ms", options.recover_ms);
    options.block_ms = field_i64(L, 2, "block_ms", options.block_ms);
    options.settle_ms = field_i64(L, 2, "settle_ms", options.settle_ms);
    options.delay_move_ms = field_i64(L, 2, "delay_move_ms", options.delay_move_ms);
    options.promote_ms = field_i64(L, 2, "promote_ms", options.promote_ms);
    if (tide_str_equal(field_str(L, 2, "group_lost"), TIDE_STR("stop")))
        options.group_lost = TIDE_GROUP_LOST_STOP;
    lua_getfield(L, 2, "retry");
    if (!lua_isnil(L, -1))
        options.retry = *tide_lua_check_policy(L, lua_gettop(L));
    uint32_t number = 0;
    tide_error error = {.status = TIDE_OK};
    if (tide_engine_subscribe(self->engine, &options, tide_bus_now_us(self->bus), &number,
                              &error) != TIDE_OK)
        return tide_lua_fail(L, &error);
    lua_pushinteger(L, (lua_Integer)number);
    return 1;
}

/* bus:unsubscribe(number, abandon) → whether it was there */
static int bus_unsubscribe(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    uint32_t number = (uint32_t)luaL_checkinteger(L, 2);
    tide_status status = tide_engine_unsubscribe(self->engine, number, lua_toboolean(L, 3) != 0,
                                                 tide_bus_now_us(self->bus));
    lua_pushboolean(L, status == TIDE_OK);
    return 1;
}

/* bus:crash_limit(number, attempts) → whether the subscription is there. 0: never. */
static int bus_crash_limit(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    uint32_t number = (uint32_t)luaL_checkinteger(L, 2);
    uint32_t attempts = (uint32_t)luaL_checkinteger(L, 3);
    lua_pushboolean(L, tide_engine_crash_limit(self->engine, number, attempts) == TIDE_OK);
    return 1;
}

/* bus:stats(number) → table, or nil when the subscription is gone */
static int bus_stats(lua_State *L) {
    static const char *const states[] = {"starting", "history",  "running", "waiting",
                                         "parked",   "stopping", "stopped"};
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_consumer_stats stats;
    uint32_t number = (uint32_t)luaL_checkinteger(L, 2);
    if (tide_engine_stats_of(self->engine, number, &stats) != TIDE_OK)
        return 0;
    lua_createtable(L, 0, 17);
    lua_pushstring(L, states[stats.state]);
    lua_setfield(L, -2, "state");
    if (stats.error.status != TIDE_OK) {
        tide_lua_push_error(L, stats.error.status, stats.error.message, stats.error.server);
        lua_setfield(L, -2, "error");
    }
#define COUNT(name)                                                                                \
    tide_lua_push_i64(L, (int64_t)stats.name);                                                     \
    lua_setfield(L, -2, #name)
    COUNT(delivered);
    COUNT(acked);
    COUNT(failed);
    COUNT(retried);
    COUNT(dead);
    COUNT(released);
    COUNT(recovered);
    COUNT(gone);
    COUNT(lost_lease);
    COUNT(group_recreated);
    COUNT(buffered);
    COUNT(running);
    COUNT(waiting);
    COUNT(settling);
    COUNT(bytes);
#undef COUNT
    return 1;
}

static int bus_flush(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_engine_flush(self->engine, tide_bus_now_us(self->bus));
    return 0;
}

/* ---- operations: true, or nil, err; their ends come by next_completion ---- */

static int submit(lua_State *L, tide_lua_bus *self, const tide_op *op) {
    tide_error error = {.status = TIDE_OK};
    if (tide_engine_submit(self->engine, op, tide_bus_now_us(self->bus), &error) != TIDE_OK)
        return tide_lua_fail(L, &error);
    tide_lua_bus_submitted(self);
    lua_pushboolean(L, 1);
    return 1;
}

static tide_op new_op(lua_State *L, tide_op_kind kind) {
    return (tide_op){.kind = kind, .tag = (uint64_t)luaL_checknumber(L, 2)};
}

static tide_str opt_str(lua_State *L, int index) {
    tide_str text;
    text.data = luaL_optlstring(L, index, "", &text.len);
    return text;
}

/* bus:cancel(tag, stream, event_id) */
static int bus_cancel(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = new_op(L, TIDE_OP_CANCEL);
    op.as.cancel = (tide_op_cancel){opt_str(L, 3), opt_str(L, 4)};
    return submit(L, self, &op);
}

/* bus:kv(tag, verb, key, value, expected, amount, ttl_ms); verb: tide_kv_verb */
static int bus_kv(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = new_op(L, TIDE_OP_KV);
    op.as.kv = (tide_op_kv){.verb = (tide_kv_verb)luaL_checkinteger(L, 3),
                            .key = opt_str(L, 4),
                            .value = opt_str(L, 5),
                            .expected = opt_str(L, 6),
                            .amount = (int64_t)luaL_optinteger(L, 7, 0),
                            .ttl_ms = (int64_t)luaL_optnumber(L, 8, 0)};
    return submit(L, self, &op);
}

/* bus:command(tag, args, block_ms); args: a list of strings */
static int bus_command(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = new_op(L, TIDE_OP_COMMAND);
    luaL_checktype(L, 3, LUA_TTABLE);
    size_t count = lua_rawlen(L, 3);
    op.as.command.block_ms = (int64_t)luaL_optnumber(L, 4, 0);
    luaL_argcheck(L, count > 0 && count < 1 << 20, 3, "a list of 1 to 1,048,575 strings expected");
    tide_scratch_reset(&self->scratch);
    /* An array in the scratch: room for its alignment too. */
    char *room = tide_scratch_room(&self->scratch, (count + 1) * sizeof(tide_str));
    if (room == NULL)
        return luaL_error(L, "out of memory");
    size_t skew = (uintptr_t)room % _Alignof(tide_str);
    tide_str *args = (tide_str *)(void *)(room + (skew == 0 ? 0 : _Alignof(tide_str) - skew));
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 3, (int)(i + 1));
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 3, "a list of strings expected");
        args[i].data = lua_tolstring(L, -1, &args[i].len);
        lua_pop(L, 1); /* the list holds it */
    }
    op.as.command.args = args;
    op.as.command.arg_count = count;
    return submit(L, self, &op);
}

/* bus:server(tag) */
static int bus_server(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = new_op(L, TIDE_OP_SERVER);
    return submit(L, self, &op);
}

/* bus:uuid() → a new id: UUID version 7 */
static int bus_uuid(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    char text[TIDE_UUID_TEXT];
    tide_lua_time_refresh(self);
    tide_lua_uuid(self, text);
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

void tide_lua_bus_register(lua_State *L) {
    static const luaL_Reg methods[] = {{"poll", bus_poll},
                                       {"write", bus_write},
                                       {"release", bus_release},
                                       {"gather", bus_gather},
                                       {"now", bus_now},
                                       {"fd", bus_fd},
                                       {"timeout", bus_timeout},
                                       {"is_idle", bus_is_idle},
                                       {"is_open", bus_is_open},
                                       {"state", bus_state},
                                       {"subscribe", bus_subscribe},
                                       {"unsubscribe", bus_unsubscribe},
                                       {"crash_limit", bus_crash_limit},
                                       {"stats", bus_stats},
                                       {"flush", bus_flush},
                                       {"cancel", bus_cancel},
                                       {"kv", bus_kv},
                                       {"command", bus_command},
                                       {"server", bus_server},
                                       {"uuid", bus_uuid},
                                       {"publish", tide_lua_publish},
                                       {"publish_one", tide_lua_publish_one},
                                       {"consume", tide_lua_consume},
                                       {"next_completion", tide_lua_next_completion},
                                       {"next_log", bus_next_log},
                                       {"close", bus_close},
                                       {NULL, NULL}};
    luaL_newmetatable(L, TIDE_LUA_BUS);
    lua_pushliteral(L, TIDE_LUA_BUS);
    lua_setfield(L, -2, "__name");
    lua_pushcfunction(L, bus_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, bus_close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, bus_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_createtable(L, 0, 25);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
