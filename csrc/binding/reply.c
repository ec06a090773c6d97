/* SPDX-License-Identifier: MIT */
/*
 * From the engine to Lua: replies, errors, completions. A completion is converted right after the engine has handed it
 * out; what it points to belongs to the engine, so an error raised here (memory) leaks nothing.
 */
#include "base/text.h"
#include "binding/binding.h"

void tide_lua_push_i64(lua_State *L, int64_t number) {
#if LUA_VERSION_NUM >= 503
    lua_pushinteger(L, (lua_Integer)number);
#else
    lua_pushnumber(L, (lua_Number)number);
#endif
}

void tide_lua_push_error(lua_State *L, tide_status status, const char *message,
                         const char *server) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, tide_status_code(status));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, message != NULL && message[0] != 0 ? message : tide_status_text(status));
    lua_setfield(L, -2, "message");
    lua_pushboolean(L, tide_status_class_of(status) == TIDE_CLASS_RETRYABLE);
    lua_setfield(L, -2, "retryable");
    if (server != NULL && server[0] != 0) {
        lua_pushstring(L, server);
        lua_setfield(L, -2, "server");
    }
    luaL_getmetatable(L, TIDE_LUA_ERROR);
    lua_setmetatable(L, -2);
}

int tide_lua_fail(lua_State *L, const tide_error *error) {
    lua_pushnil(L);
    tide_lua_push_error(L, error->status, error->message, error->server);
    return 2;
}

static void push_str(lua_State *L, tide_str text) {
    lua_pushlstring(L, text.len > 0 ? text.data : "", text.len);
}

static void push_error_reply(lua_State *L, tide_str text) {
    char word[TIDE_ERROR_WORD_MAX];
    size_t size = 0;
    while (size < text.len && size + 1 < sizeof word && text.data[size] != ' ')
        size++;
    memcpy(word, text.data, size);
    word[size] = 0;
    char message[TIDE_ERROR_MESSAGE_MAX];
    tide_text_escape(message, sizeof message, text);
    tide_lua_push_error(L, TIDE_REPLY, message, word);
}

void tide_lua_push_reply(lua_State *L, const tide_reply *reply) {
    luaL_checkstack(L, 6, "reply nested too deep");
    switch (reply->type) {
    case TIDE_REPLY_INTEGER: tide_lua_push_i64(L, reply->as.integer); return;
    case TIDE_REPLY_BOOL: lua_pushboolean(L, reply->as.integer != 0); return;
    case TIDE_REPLY_STRING:
    case TIDE_REPLY_STATUS:
    case TIDE_REPLY_DOUBLE: push_str(L, reply->as.text); return;
    case TIDE_REPLY_ERROR: push_error_reply(L, reply->as.text); return;
    case TIDE_REPLY_ARRAY:
    case TIDE_REPLY_MAP: {
        size_t count = reply->as.array.count;
        lua_createtable(L, count < 1 << 20 ? (int)count : 1 << 20, 0);
        for (size_t i = 0; i < count; i++) {
            tide_lua_push_reply(L, &reply->as.array.items[i]);
            lua_rawseti(L, -2, (int)(i + 1));
        }
        return;
    }
    case TIDE_REPLY_NIL: break;
    }
    lua_pushlightuserdata(L, NULL); /* tidemill.null */
}

/* The error value of one event's end, on top. */
static void push_publish_error(lua_State *L, const tide_completion *completion,
                               const tide_publish_result *one) {
    char message[TIDE_ERROR_MESSAGE_MAX];
    if (one == NULL) { /* no result for it: the operation as a whole failed */
        tide_lua_push_error(L, completion->status, completion->error.message,
                            completion->error.server);
        return;
    }
    /* The completion's own line says more (which rule is missing), of the first failure. */
    if (one->detail.len > 0 && one->status != completion->error.status)
        tide_text_escape(message, sizeof message, one->detail);
    else
        memcpy(message, completion->error.message, sizeof message);
    tide_lua_push_error(L, one->status, message, completion->error.server);
}

/* Fills the result table at `result`: { stream_id =, duplicate = }. */
static void fill_result(lua_State *L, int result, const tide_publish_result *one) {
    if (one->id.ms != 0 || one->id.seq != 0) {
        char text[TIDE_ID_TEXT_MAX];
        lua_pushliteral(L, "stream_id");
        lua_pushlstring(L, text, tide_id_format(text, one->id));
        lua_rawset(L, result);
    }
    lua_pushliteral(L, "duplicate");
    lua_pushboolean(L, one->duplicate);
    lua_rawset(L, result);
}

static const tide_publish_result *result_of(const tide_completion *completion, size_t record) {
    return record < completion->as.publish.count ? &completion->as.publish.results[record] : NULL;
}

/* Fills the results of a publish; `pending` is { results =, first =, last = } at the top. Returns how many failed. */
static lua_Integer fill_results(lua_State *L, const tide_completion *completion) {
    int pending = lua_gettop(L);
    lua_rawgeti(L, pending, 1);
    int results = pending + 1;
    lua_rawgeti(L, pending, 2);
    lua_rawgeti(L, pending, 3);
    int first = (int)lua_tointeger(L, -2), last = (int)lua_tointeger(L, -1);
    lua_pop(L, 2);
    lua_Integer failures = 0;
    size_t record = 0;
    for (int i = first; i <= last; i++) {
        lua_rawgeti(L, results, i);
        int result = lua_gettop(L);
        lua_pushliteral(L, "error");
        lua_rawget(L, result);
        bool failed = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (!failed) {
            const tide_publish_result *one = result_of(completion, record++);
            if (one != NULL && one->status == TIDE_OK) {
                fill_result(L, result, one);
            } else {
                lua_createtable(L, 0, 1);
                push_publish_error(L, completion, one);
                lua_setfield(L, -2, "error");
                lua_rawseti(L, results, i);
                failures++;
            }
        }
        lua_settop(L, result - 1);
    }
    lua_settop(L, pending);
    return failures;
}

/* The end of a publish of one event; its waiter { result, thread } is at the top, and is { false, thread } afterwards. The thread
 * goes to the end of the list at `ready`. Returns the list's length. */
static lua_Integer finish_one(lua_State *L, const tide_completion *completion, int ready,
                              lua_Integer count) {
    int waiter = lua_gettop(L);
    lua_rawgeti(L, waiter, 1);
    const tide_publish_result *one = result_of(completion, 0);
    if (one != NULL && one->status == TIDE_OK) {
        fill_result(L, waiter + 1, one);
    } else {
        push_publish_error(L, completion, one);
        lua_setfield(L, waiter + 1, "error");
    }
    lua_pushboolean(L, 0);
    lua_rawseti(L, waiter, 1);
    lua_rawgeti(L, waiter, 2);
    if (lua_isthread(L, -1))
        lua_rawseti(L, ready, (int)++count);
    lua_settop(L, waiter);
    return count;
}

/* What waits for this tag, and doesn't any more; pushed. */
static void take_waiting(lua_State *L, int waiting, uint64_t tag) {
    tide_lua_push_i64(L, (int64_t)tag);
    lua_pushvalue(L, -1);
    lua_rawget(L, waiting);
    lua_insert(L, -2);
    lua_pushnil(L);
    lua_rawset(L, waiting);
}

/*
 * bus:next_completion(waiting, ready, count) → count [, waiter, ok, a, b]
 * Takes completions until there is none, or one that Lua looks at. waiting[tag] is what waits for it, and is taken away:
 *   { result, thread }                publish_one: all is done here; the thread is added to `ready`, which has `count` of them
 *   { results, first, last, waiter }  publish: results were filled; `waiter` is what is returned
 *   anything else                     is returned
 * `waiter` nil: no more. ok false: a is the error value, and for a conflict (expected version, compare-and-set) b is what is
 * there. Else by kind:
 *   publish  a = number of failures, b = the stream's version (0 without an expected one)
 *   cancel   a = whether it was there
 *   kv       a = value or nil, b = integer
 *   command, server   a = the reply
 */
int tide_lua_next_completion(lua_State *L) {
    enum { WAITING = 2, READY = 3, COUNT = 4, WAITER = 5 };
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    lua_settop(L, COUNT);
    lua_Integer count = lua_tointeger(L, COUNT);
    luaL_checkstack(L, 16, "completion");
    tide_completion completion;
    for (;;) {
        if (!tide_engine_next_completion(self->engine, tide_bus_now_us(self->bus), &completion)) {
            lua_pushinteger(L, count);
            return 1;
        }
        take_waiting(L, WAITING, completion.tag);
        if (!lua_istable(L, WAITER)) { /* nobody waits any more */
            lua_settop(L, COUNT);
            continue;
        }
        if (completion.kind != TIDE_OP_PUBLISH)
            break;
        lua_rawgeti(L, WAITER, 2);
        bool several = lua_type(L, -1) == LUA_TNUMBER;
        lua_pop(L, 1);
        if (several)
            break;
        count = finish_one(L, &completion, READY, count);
        lua_settop(L, COUNT);
    }
    lua_pushinteger(L, count);
    lua_replace(L, COUNT);
    lua_pushboolean(L, completion.status == TIDE_OK);
    if (completion.kind == TIDE_OP_PUBLISH) {
        lua_Integer failures = 0;
        if (completion.status != TIDE_CONFLICT) {
            lua_pop(L, 1);
            failures = fill_results(L, &completion);
            lua_pushboolean(L, 1);
        }
        lua_rawgeti(L, WAITER, 4);
        lua_replace(L, WAITER);
        if (completion.status == TIDE_CONFLICT)
            tide_lua_push_error(L, completion.status, completion.error.message,
                                completion.error.server);
        else
            lua_pushinteger(L, failures);
        tide_lua_push_i64(L, (int64_t)completion.as.publish.version);
        return 5;
    }
    if (completion.status != TIDE_OK) {
        tide_lua_push_error(L, completion.status, completion.error.message,
                            completion.error.server);
        if (completion.kind == TIDE_OP_KV && completion.as.kv.found)
            push_str(L, completion.as.kv.value);
        else
            lua_pushnil(L);
        return 5;
    }
    switch (completion.kind) {
    case TIDE_OP_CANCEL: lua_pushboolean(L, completion.as.cancel.cancelled); return 4;
    case TIDE_OP_KV:
        if (completion.as.kv.found)
            push_str(L, completion.as.kv.value);
        else
            lua_pushnil(L);
        tide_lua_push_i64(L, completion.as.kv.integer);
        return 5;
    case TIDE_OP_COMMAND:
    case TIDE_OP_SERVER:
        if (completion.as.command.reply == NULL)
            lua_pushlightuserdata(L, NULL);
        else
            tide_lua_push_reply(L, completion.as.command.reply);
        return 4;
    default: return 3;
    }
}
