/* SPDX-License-Identifier: MIT */
/*
 * JSON (RFC 8259) from Lua values. lua-cjson writes 14 digits of a number; here integers and floats survive a round trip,
 * and the text goes straight into the bytes that are sent. Refused is what a reader elsewhere could not take: NaN,
 * infinities, invalid UTF-8, tables that mix list and named keys, cycles.
 * Invariants: no Lua code is called and nothing is raised; nesting is bounded by DEPTH_MAX.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "binding/binding.h"

enum {
    DEPTH_MAX = 256,  /* deeper data is a cycle or an attack */
    SPARSE_SAFE = 16, /* lists up to here may have holes */
    NUMBER_TEXT_MAX = 32
};

typedef struct writer {
    lua_State *L;
    tide_scratch *out;
    char *why;
    const char *error;
} writer;

static bool refuse(writer *w, const char *error) {
    if (w->error == NULL)
        w->error = error;
    return false;
}

static bool put(writer *w, const char *bytes, size_t size) {
    return tide_scratch_append(w->out, bytes, size) || refuse(w, "out of memory");
}

/* 1: passes as it is; 2: escaped as \u00NN or by a letter; 3: part of a multi-byte sequence. */
static unsigned char byte_kind(unsigned char c) {
    if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f)
        return 2;
    return c < 0x80 ? 1 : 3;
}

static bool put_string(writer *w, const char *text, size_t size) {
    /* The plain run first: most strings are one. */
    char *room = tide_scratch_room(w->out, size + 2);
    if (room == NULL)
        return refuse(w, "out of memory");
    *room++ = '"';
    const unsigned char *from = (const unsigned char *)text, *end = from + size;
    bool wide = false;
    while (from < end) {
        unsigned char c = *from;
        unsigned char kind = byte_kind(c);
        if (kind == 2)
            break;
        wide |= kind == 3;
        *room++ = (char)c;
        from++;
    }
    if (wide && !tide_utf8_is_valid((tide_str){text, size}))
        return refuse(w, "a string is not valid UTF-8 (send bytes as `data` with a content_type)");
    w->out->end = room;
    if (from == end) {
        w->out->end[0] = '"'; /* there is room: size + 2 */
        w->out->end++;
        return true;
    }
    if (!wide && !tide_utf8_is_valid((tide_str){text, size}))
        return refuse(w, "a string is not valid UTF-8 (send bytes as `data` with a content_type)");
    static const char hex[] = "0123456789abcdef";
    for (; from < end; from++) {
        room = tide_scratch_room(w->out, 8);
        if (room == NULL)
            return refuse(w, "out of memory");
        unsigned char c = *from;
        if (byte_kind(c) != 2) {
            *room++ = (char)c;
        } else {
            *room++ = '\\';
            switch (c) {
            case '"': *room++ = '"'; break;
            case '\\': *room++ = '\\'; break;
            case '\b': *room++ = 'b'; break;
            case '\f': *room++ = 'f'; break;
            case '\n': *room++ = 'n'; break;
            case '\r': *room++ = 'r'; break;
            case '\t': *room++ = 't'; break;
            default:
                memcpy(room, "u00", 3);
                room[3] = hex[c >> 4];
                room[4] = hex[c & 15];
                room += 5;
            }
        }
        w->out->end = room;
    }
    return put(w, "\"", 1);
}

/* The shortest digits that give the same double, with a point whatever the locale says. */
static size_t format_double(char *out, double number) {
    int size = 0;
    for (int digits = 15; digits <= 17; digits++) {
        size = snprintf(out, NUMBER_TEXT_MAX, "%.*g", digits, number);
        if (digits == 17 || strtod(out, NULL) == number)
            break;
    }
    for (int i = 0; i < size; i++)
        if (out[i] == ',')
            out[i] = '.';
    return (size_t)size;
}

static size_t format_i64(char *out, int64_t number) {
    if (number >= 0)
        return tide_u64_format(out, (uint64_t)number);
    out[0] = '-';
    return 1 + tide_u64_format(out + 1, (uint64_t)0 - (uint64_t)number);
}

static bool put_number(writer *w, int index) {
    char text[NUMBER_TEXT_MAX];
    if (tide_lua_is_integer(w->L, index))
        return put(w, text, format_i64(text, (int64_t)lua_tointeger(w->L, index)));
    double number = (double)lua_tonumber(w->L, index);
    if (!isfinite(number))
        return refuse(w, "a number is not finite (NaN or infinite)");
    if (number >= -9007199254740992.0 && number <= 9007199254740992.0 && number == floor(number)) {
        if (number == 0.0 && signbit(number))
            return put(w, "-0", 2);
        return put(w, text, format_i64(text, (int64_t)number));
    }
    return put(w, text, format_double(text, number));
}

static bool put_value(writer *w, int depth);

/* How many elements the list at the top has, 0 … max; false: it is no list. */
static bool is_list(writer *w, bool marked, lua_Integer *length) {
    lua_State *L = w->L;
    lua_Integer max = 0, count = 0;
    size_t border = lua_rawlen(L, -1);
    if (border == 0 && !marked) {
        /* A named key first is the common case. */
        lua_pushnil(L);
        if (lua_next(L, -2) == 0)
            return false; /* {} is an object */
        bool named = lua_type(L, -2) == LUA_TSTRING;
        lua_pop(L, 2);
        if (named)
            return false;
    }
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        lua_Integer key = 0;
        if (lua_type(L, -1) == LUA_TNUMBER) {
            lua_Number number = lua_tonumber(L, -1);
            if (number >= 1 && number <= 1e9 && number == floor(number))
                key = (lua_Integer)number;
        }
        if (key == 0) {
            bool named = lua_type(L, -1) == LUA_TSTRING;
            lua_pop(L, 1);
            if (count > 0)
                return refuse(w, "a table mixes list elements and named keys");
            if (!named)
                return refuse(w,
                              "a table has a key that is neither a string nor a positive integer");
            if (border > 0 || marked)
                return refuse(w, "a table mixes list elements and named keys");
            return false;
        }
        count++;
        if (key > max)
            max = key;
    }
    if (max > SPARSE_SAFE && max / 2 > count)
        return refuse(w, "a list has too many holes (use string keys)");
    *length = max;
    return true;
}

static bool put_list(writer *w, lua_Integer length, int depth) {
    lua_State *L = w->L;
    if (!put(w, "[", 1))
        return false;
    for (lua_Integer i = 1; i <= length; i++) {
        if (i > 1 && !put(w, ",", 1))
            return false;
        lua_rawgeti(L, -1, (int)i);
        bool done = put_value(w, depth);
        lua_pop(L, 1);
        if (!done)
            return false;
    }
    return put(w, "]", 1);
}

static bool put_object(writer *w, int depth) {
    lua_State *L = w->L;
    if (!put(w, "{", 1))
        return false;
    bool first = true;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        int kind = lua_type(L, -2);
        if (kind != LUA_TSTRING) {
            lua_pop(L, 2);
            return refuse(
                w, kind == LUA_TNUMBER
                       ? "a table mixes list elements and named keys"
                       : "a table has a key that is neither a string nor a positive integer");
        }
        size_t size;
        const char *key = lua_tolstring(L, -2, &size);
        bool done = (first || put(w, ",", 1)) && put_string(w, key, size) && put(w, ":", 1) &&
                    put_value(w, depth);
        first = false;
        if (!done) {
            lua_pop(L, 2);
            return false;
        }
        lua_pop(L, 1);
    }
    return put(w, "}", 1);
}

static bool put_table(writer *w, int depth) {
    lua_State *L = w->L;
    if (depth >= DEPTH_MAX)
        return refuse(w, "nested deeper than 256 levels (a cycle?)");
    if (!lua_checkstack(L, 8))
        return refuse(w, "out of memory");
    bool marked = false;
    if (lua_getmetatable(L, -1)) {
        luaL_getmetatable(L, TIDE_LUA_ARRAY);
        marked = lua_rawequal(L, -1, -2) != 0;
        lua_pop(L, 2);
    }
    lua_Integer length = 0;
    if (is_list(w, marked, &length))
        return put_list(w, length, depth + 1);
    return w->error == NULL && put_object(w, depth + 1);
}

/* Writes the value at the top of the stack and leaves it there. */
static bool put_value(writer *w, int depth) {
    lua_State *L = w->L;
    switch (lua_type(L, -1)) {
    case LUA_TNIL: return put(w, "null", 4);
    case LUA_TBOOLEAN: return lua_toboolean(L, -1) ? put(w, "true", 4) : put(w, "false", 5);
    case LUA_TNUMBER: return put_number(w, -1);
    case LUA_TSTRING: {
        size_t size;
        const char *text = lua_tolstring(L, -1, &size);
        return put_string(w, text, size);
    }
    case LUA_TTABLE: return put_table(w, depth);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL)
            return put(w, "null", 4);
        break;
    default: break;
    }
    snprintf(w->why, TIDE_LUA_WHY_MAX, "a %s cannot be written as JSON",
             lua_typename(L, lua_type(L, -1)));
    return refuse(w, w->why);
}

const char *tide_lua_json_encode(lua_State *L, int index, tide_scratch *scratch, char *why) {
    writer w = {L, scratch, why, NULL};
    if (!lua_checkstack(L, 8))
        return "out of memory";
    int top = lua_gettop(L);
    lua_pushvalue(L, index);
    put_value(&w, 0);
    lua_settop(L, top);
    return w.error;
}

/* core.json_encode(value) → text, or nil and why not; upvalue 1 is the userdata that owns the scratch */
int tide_lua_json_encode_call(lua_State *L) {
    tide_scratch *scratch = lua_touserdata(L, lua_upvalueindex(1));
    char why[TIDE_LUA_WHY_MAX];
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    tide_scratch_reset(scratch);
    const char *error = tide_lua_json_encode(L, 1, scratch, why);
    if (error != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    tide_str made = tide_scratch_finish(scratch);
    lua_pushlstring(L, made.data, made.len);
    return 1;
}
