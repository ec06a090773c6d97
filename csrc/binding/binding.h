/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BINDING_BINDING_H
#define TIDE_BINDING_BINDING_H

#include <tidemill/tidemill.h>

#include "base/prng.h"
#include "binding/compat.h"
#include "binding/scratch.h"

/*
 * What the files of the binding share. Lua code sees one C module, tidemill.core: private, without option names or
 * defaults; lua/tidemill is the public face over it.
 */

#define TIDE_LUA_BUS    "tidemill.core.bus"
#define TIDE_LUA_POLICY "tidemill.core.policy"
/* The metatable of error values, in the registry; lua/tidemill/error.lua fills it. */
#define TIDE_LUA_ERROR "tidemill.Error"
/* Marks a table as a JSON array, also when it is empty. */
#define TIDE_LUA_ARRAY "tidemill.array"

enum { TIDE_LUA_LOG_MAX = 128, TIDE_UUID_TEXT = 36, TIDE_TIME_TEXT = 24 };

typedef struct tide_lua_log_line {
    tide_log_level level;
    tide_str text; /* own memory */
} tide_lua_log_line;

/* The userdata of a bus. `bus` NULL: closed. */
typedef struct tide_lua_bus {
    tide_bus *bus;
    tide_engine *engine;
    tide_allocator alloc;
    tide_prng ids;
    tide_scratch scratch;
    size_t max_payload;
    /* records of the publish being built */
    tide_field *fields;
    size_t field_count, field_capacity;
    tide_record *records;
    size_t record_count, record_capacity;
    /* occurred_at, formatted once a millisecond */
    int64_t time_ms;
    char time_text[TIDE_TIME_TEXT];
    /* sending (bus.c): what a turn of Lua code makes the engine want to send, gathered */
    bool turning;    /* between a poll for a turn and what ends it */
    bool gathering;  /* much Lua code runs one after another: nothing goes alone */
    uint32_t held;   /* operations that wait to be sent, or 1 for what a poll left */
    uint32_t handed; /* events handed out since that poll */
    int64_t held_us; /* when the first of them came */
    /* an event taken from the engine that hasn't reached Lua: 0 none */
    uint64_t orphan;
    uint32_t orphan_consumer;
    /* log lines between the engine and Lua */
    tide_lua_log_line logs[TIDE_LUA_LOG_MAX];
    uint32_t log_first, log_count;
    uint64_t log_dropped;
} tide_lua_bus;

/* The bus at `index`; raises for another value, and for a closed bus. For methods of a bus only: upvalue 1 is the buses'
 * metatable. */
tide_lua_bus *tide_lua_check_bus(lua_State *L, int index);
/* The metatable of buses, and core.open. */
void tide_lua_bus_register(lua_State *L);
int tide_lua_bus_open(lua_State *L);
/* An operation has been submitted: sends it, or lets it wait for company as long as a turn is under way. */
void tide_lua_bus_submitted(tide_lua_bus *self);
/* An event is about to be asked for: sends what has waited long enough. */
void tide_lua_bus_handing(tide_lua_bus *self);
/* Ends anything a call left half-way: gives back an event that never reached Lua. */
void tide_lua_bus_settle_orphan(tide_lua_bus *self);

/* Pushes an error value { code =, message =, retryable =, server = }. */
void tide_lua_push_error(lua_State *L, tide_status status, const char *message, const char *server);
/* Pushes nil and the error value; returns 2. */
int tide_lua_fail(lua_State *L, const tide_error *error);
/* Pushes the value as the Lua integer or number it is. */
void tide_lua_push_i64(lua_State *L, int64_t number);

/* reply.c: a reply as a Lua value: nil as tidemill.null, errors as error values. Raises only when memory runs out or when
 * it is nested too deep for the stack. */
void tide_lua_push_reply(lua_State *L, const tide_reply *reply);
int tide_lua_next_completion(lua_State *L);

/* publish.c */
int tide_lua_publish(lua_State *L);
int tide_lua_publish_one(lua_State *L);

/* record.c: events as the engine takes them, made from Lua tables in the bus's own arrays. */

/* When and how the events of one operation are written; events that differ in it go in another operation. */
typedef struct tide_lua_timing {
    int64_t dedupe_ms, delay_ms, due_ms;
} tide_lua_timing;

enum { TIDE_LUA_WHY_MAX = 160, TIDE_LUA_RECORDS_AT_FIRST = 512 };

typedef struct tide_lua_refusal {
    tide_status status;
    char message[TIDE_LUA_WHY_MAX + 64];
} tide_lua_refusal;

/* Forgets the records of the call before. */
void tide_lua_record_begin(tide_lua_bus *self);
/* Adds the record of the event at the top of the stack, and pops it: what the record borrows is held by the event's table.
 * False: it can't be published, `refusal` says why, and nothing was added. Raises for misuse. `when` gets what the event
 * itself says. */
bool tide_lua_record_add(lua_State *L, tide_lua_bus *self, tide_lua_timing *when,
                         tide_lua_refusal *refusal);
/* Raises for misuse in the event at the top of the stack, and pops it. */
void tide_lua_record_check(lua_State *L);
/* Takes the last one away again. */
void tide_lua_record_drop(tide_lua_bus *self);
/* All are there: the records point to their fields. */
void tide_lua_record_end(tide_lua_bus *self);
void tide_lua_record_deinit(tide_lua_bus *self);

/* ident.c */
/* A new id: UUID version 7 text (RFC 9562), TIDE_UUID_TEXT bytes without NUL. */
void tide_lua_uuid(tide_lua_bus *self, char *out);
/* The wall clock into time_ms and time_text. */
void tide_lua_time_refresh(tide_lua_bus *self);
/* "2024-11-21T13:24:46.123Z", TIDE_TIME_TEXT bytes without NUL; false outside the years 0000 … 9999. */
bool tide_lua_time_format(char *out, int64_t ms);
int64_t tide_lua_wall_ms(void);

/* event.c: `consume` makes the functions of one bus: next_event, ack, settle. */
int tide_lua_consume(lua_State *L);
const tide_retry_policy *tide_lua_check_policy(lua_State *L, int index);
int tide_lua_policy_new(lua_State *L);

/* json_encode.c, json_decode.c */
/* Appends the value at `index` as JSON to the scratch's object. NULL, or why not: one line, static or in `why`. Raises
 * nothing. */
const char *tide_lua_json_encode(lua_State *L, int index, tide_scratch *scratch, char *why);
/* Pushes the value. NULL, or why not (then nothing was pushed): one line in `why`. Raises only when memory runs out. */
const char *tide_lua_json_decode(lua_State *L, tide_str text, tide_scratch *scratch, char *why);
int tide_lua_json_encode_call(lua_State *L);
int tide_lua_json_decode_call(lua_State *L);

/* signal.c: SIGINT and SIGTERM while a loop runs. */
int tide_lua_signals_begin(lua_State *L);
int tide_lua_signals_end(lua_State *L);
int tide_lua_signal_taken(lua_State *L);

#endif
