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
    lua_pushliteral(L, "stream_id");
    lua_pushliteral(L, "duplicate");
    for (int i = first; i <= last; i++) {
        lua_rawgeti(L, results, i);
        int result = lua_gettop(L);
        lua_pushliteral(L, "error");
        lua_rawget(L, result);
        bool failed = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (failed || record >= completion->as.publish.count) {
            if (!failed) { /* no result for it: the operation as a whole failed */
                tide_lua_push_error(L, completion->status, completion->error.message,
                                    completion->error.server);
                lua_createtable(L, 0, 1);
                lua_insert(L, -2);
                lua_setfield(L, -2, "error");
                lua_rawseti(L, results, i);
                failures++;
            }
            lua_settop(L, result - 1);
            continue;
        }
        const tide_publish_result *one = &completion->as.publish.results[record++];
        if (one->status != TIDE_OK) {
            char message[TIDE_ERROR_MESSAGE_MAX];
            /* The completion's own line says more (which rule is missing), of the first failure. */
            if (one->detail.len > 0 && one->status != completion->error.status)
                tide_text_escape(message, sizeof message, one->detail);
            else
                memcpy(message, completion->error.message, sizeof message);
            tide_lua_push_error(L, one->status, message, completion->error.server);
            lua_createtable(L, 0, 1);
            lua_insert(L, -2);
            lua_setfield(L, -2, "error");
            lua_rawseti(L, results, i);
            failures++;
        } else {
            if (one->id.ms != 0 || one->id.seq != 0) {
                char text[TIDE_ID_TEXT_MAX];
                size_t size = tide_id_format(text, one->id);
                lua_pushvalue(L, results + 1);
                lua_pushlstring(L, text, size);
                lua_rawset(L, result);
            }
            lua_pushvalue(L, results + 2);
            lua_pushboolean(L, one->duplicate);
            lua_rawset(L, result);
        }
        lua_settop(L, result - 1);
    }
    lua_settop(L, pending);
    return failures;
}

/*
 * bus:next_completion(waiting) → tag, ok, a, b; nothing when there is none.
 * ok false: a is the error value, and for a conflict (expected version, compare-and-set) b is what is there. Else by kind:
 *   publish  the results of waiting[tag] = { results, first, last, … } were filled; a = number of failures,
 *            b = the stream's version (0 without an expected one)
 *   cancel   a = whether it was there
 *   kv       a = value or nil, b = integer
 *   command, server   a = the reply
 */
int tide_lua_next_completion(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    lua_settop(L, 2);
    luaL_checkstack(L, 16, "completion");
    tide_completion completion;
    if (!tide_engine_next_completion(self->engine, tide_bus_now_us(self->bus), &completion))
        return 0;
    lua_pushnumber(L, (lua_Number)completion.tag);
    if (completion.kind == TIDE_OP_PUBLISH && completion.status != TIDE_CONFLICT) {
        lua_pushboolean(L, 1);
        lua_pushnumber(L, (lua_Number)completion.tag);
        lua_rawget(L, 2);
        lua_Integer failures = 0;
        if (lua_istable(L, -1))
            failures = fill_results(L, &completion);
        lua_pop(L, 1);
        lua_pushinteger(L, failures);
        tide_lua_push_i64(L, (int64_t)completion.as.publish.version);
        return 4;
    }
    if (completion.status != TIDE_OK) {
        lua_pushboolean(L, 0);
        tide_lua_push_error(L, completion.status, completion.error.message,
                            completion.error.server);
        if (completion.kind == TIDE_OP_PUBLISH)
            tide_lua_push_i64(L, (int64_t)completion.as.publish.version);
        else if (completion.kind == TIDE_OP_KV && completion.as.kv.found)
            push_str(L, completion.as.kv.value);
        else
            lua_pushnil(L);
        return 4;
    }
    lua_pushboolean(L, 1);
    switch (completion.kind) {
    case TIDE_OP_CANCEL: lua_pushboolean(L, completion.as.cancel.cancelled); return 3;
    case TIDE_OP_KV:
        if (completion.as.kv.found)
            push_str(L, completion.as.kv.value);
        else
            lua_pushnil(L);
        tide_lua_push_i64(L, completion.as.kv.integer);
        return 4;
    case TIDE_OP_COMMAND:
    case TIDE_OP_SERVER:
        if (completion.as.command.reply == NULL)
            lua_pushlightuserdata(L, NULL);
        else
            tide_lua_push_reply(L, completion.as.command.reply);
        return 3;
    default: return 2;
    }
}
