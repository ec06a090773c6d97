/* SPDX-License-Identifier: MIT */
/*
 * JSON (RFC 8259) into Lua values. lua-cjson reads every number as a float; here integers stay integers where Lua has them.
 * Refused is what the writer could not have written: strings of invalid UTF-8 or with bare control characters, lone
 * surrogates, numbers beyond a double, anything after the value.
 * Invariants: no Lua code is called; nesting is bounded by DEPTH_MAX; a failure leaves the stack as it was.
 */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "binding/binding.h"

enum {
    DEPTH_MAX = 256, /* deeper data is an attack */
    PENDING_MAX = 64 /* values kept on the stack until a table's size is known */
};

typedef struct reader {
    lua_State *L;
    const char *begin, *at, *end;
    tide_scratch *scratch;
    char *why;
    bool failed;
    bool no_memory; /* says nothing about the text */
} reader;

static bool fail(reader *r, const char *what) {
    if (!r->failed)
        snprintf(r->why, TIDE_LUA_WHY_MAX, "%s at byte %zu", what, (size_t)(r->at - r->begin) + 1);
    r->failed = true;
    return false;
}

static bool fail_memory(reader *r) {
    r->failed = r->no_memory = true;
    return false;
}

static inline void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex4(reader *r, unsigned *code) {
    if (r->end - r->at < 4)
        return fail(r, "a \\u escape is cut short");
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(r->at[i]);
        if (digit < 0)
            return fail(r, "a \\u escape has no four hex digits");
        value = value << 4 | (unsigned)digit;
    }
    r->at += 4;
    *code = value;
    return true;
}

static size_t utf8_write(char *out, unsigned code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 63));
        out[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 63));
    out[2] = (char)(0x80 | (code >> 6 & 63));
    out[3] = (char)(0x80 | (code & 63));
    return 4;
}

static bool read_escape(reader *r, char *out, size_t *size) {
    r->at++; /* the backslash */
    if (r->at == r->end)
        return fail(r, "a string is not closed");
    char c = *r->at++;
    *size = 1;
    switch (c) {
    case '"':
    case '\\':
    case '/': *out = c; return true;
    case 'b': *out = '\b'; return true;
    case 'f': *out = '\f'; return true;
    case 'n': *out = '\n'; return true;
    case 'r': *out = '\r'; return true;
    case 't': *out = '\t'; return true;
    case 'u': break;
    default: r->at--; return fail(r, "an unknown escape");
    }
    unsigned code;
    if (!read_hex4(r, &code))
        return false;
    if (code >= 0xd800 && code < 0xe000) {
        unsigned low = 0;
        if (code >= 0xdc00 || r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
            return fail(r, "a lone surrogate");
        r->at += 2;
        if (!read_hex4(r, &low))
            return false;
        if (low < 0xdc00 || low >= 0xe000)
            return fail(r, "a lone surrogate");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *size = utf8_write(out, code);
    return true;
}

/* The first quote, backslash or control byte from `at`, eight bytes at a time; `wide` is set for
 * bytes beyond ASCII. */
static const char *find_special(const char *at, const char *end, bool *wide) {
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
    uint64_t seen = 0;
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
        if ((((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
             ((word - ones * 0x20) & ~word)) &
            highs)
            break;
        seen |= word;
        at += 8;
    }
    for (; at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20; at++)
        seen |= (unsigned char)*at;
    *wide = (seen & highs) != 0;
    return at;
}

/* Plain characters of a string from `from`: up to a quote or a backslash. NULL: there is something else. */
static const char *read_run(reader *r, const char *from) {
    bool wide;
    const char *stop = find_special(from, r->end, &wide);
    if (wide && !tide_utf8_is_valid((tide_str){from, (size_t)(stop - from)})) {
        fail(r, "a string is not valid UTF-8");
        return NULL;
    }
    r->at = stop;
    if (stop == r->end)
        fail(r, "a string is not closed");
    else if ((unsigned char)*stop < 0x20)
        fail(r, "a control character in a string");
    return r->failed ? NULL : stop;
}

static bool read_string(reader *r) {
    const char *from = ++r->at;
    const char *stop = read_run(r, from);
    if (stop == NULL)
        return false;
    if (*stop == '"') {
        lua_pushlstring(r->L, from, (size_t)(stop - from));
        r->at = stop + 1;
        return true;
    }
    tide_scratch_drop(r->scratch);
    while (stop != NULL) {
        if (!tide_scratch_append(r->scratch, from, (size_t)(stop - from)))
            return fail_memory(r);
        if (*stop == '"')
            break;
        char bytes[4];
        size_t size = 0;
        if (!read_escape(r, bytes, &size))
            return false;
        if (!tide_scratch_append(r->scratch, bytes, size))
            return fail_memory(r);
        from = r->at;
        stop = read_run(r, from);
    }
    if (stop == NULL)
        return false;
    r->at = stop + 1;
    lua_pushlstring(r->L, r->scratch->object, (size_t)(r->scratch->end - r->scratch->object));
    tide_scratch_drop(r->scratch);
    return true;
}

/* strtod over a bounded copy, with the locale's point. */
static bool slow_double(reader *r, const char *from, const char *to, double *number) {
    size_t size = (size_t)(to - from);
    tide_scratch_drop(r->scratch);
    if (!tide_scratch_append(r->scratch, from, size) || !tide_scratch_append(r->scratch, "", 1))
        return fail_memory(r);
    char *text = r->scratch->object;
    char *point = memchr(text, '.', size);
    if (point != NULL)
        *point = localeconv()->decimal_point[0];
    *number = strtod(text, NULL);
    tide_scratch_drop(r->scratch);
    return true;
}

static inline bool is_digit(const reader *r) {
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static bool read_number(reader *r) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *from = r->at;
    bool negative = *r->at == '-';
    if (negative)
        r->at++;
    if (!is_digit(r))
        return fail(r, negative ? "a minus without digits" : "no value begins like this");
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0;
    bool integral = true;
    if (*r->at == '0') {
        r->at++;
        if (is_digit(r))
            return fail(r, "a number with a leading zero");
    } else {
        for (; is_digit(r); r->at++, digits++)
            if (digits < 19)
                mantissa = mantissa * 10 + (uint64_t)(*r->at - '0');
    }
    if (r->at < r->end && *r->at == '.') {
        integral = false;
        r->at++;
        if (!is_digit(r))
            return fail(r, "a number without digits after its point");
        for (; is_digit(r); r->at++) {
            if (digits < 19) {
                mantissa = mantissa * 10 + (uint64_t)(*r->at - '0');
                exponent--;
            }
            digits += digits > 0 || *r->at != '0';
        }
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        integral = false;
        r->at++;
        bool down = false;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            down = *r->at++ == '-';
        if (!is_digit(r))
            return fail(r, "a number without digits in its exponent");
        int shift = 0;
        for (; is_digit(r); r->at++)
            if (shift < 100000)
                shift = shift * 10 + (*r->at - '0');
        exponent += down ? -shift : shift;
    }
    if (integral && digits <= 18 && !(negative && mantissa == 0)) {
        tide_lua_push_i64(r->L, negative ? -(int64_t)mantissa : (int64_t)mantissa);
        return true;
    }
    if (integral && TIDE_LUA_HAS_INTEGERS && digits == 19) {
        int64_t exact;
        if (tide_i64_parse((tide_str){from, (size_t)(r->at - from)}, &exact)) {
            tide_lua_push_i64(r->L, exact);
            return true;
        }
    }
    double number = 0;
    if (digits <= 19 && mantissa <= UINT64_C(9007199254740992) && exponent >= -22 && exponent <= 22)
        number = exponent < 0 ? (double)mantissa / powers[-exponent]
                              : (double)mantissa * powers[exponent];
    else if (!slow_double(r, from + negative, r->at, &number))
        return false;
    if (!isfinite(number)) {
        r->at = from;
        return fail(r, "a number too large");
    }
    lua_pushnumber(r->L, (lua_Number)(negative ? -number : number));
    return true;
}

static bool read_value(reader *r, int depth);

/* Puts `count` values (or pairs) from the top of the stack into the table below them, in their order. */
static void store_pairs(lua_State *L, int table, int count) {
    int base = table + 1;
    for (int i = 0; i < count; i++) {
        lua_pushvalue(L, base + 2 * i);
        lua_pushvalue(L, base + 2 * i + 1);
        lua_rawset(L, table);
    }
    lua_settop(L, table);
}

static bool read_object(reader *r, int depth) {
    lua_State *L = r->L;
    int base =
        lua_gettop(L) + 1; /* pairs first, then, once their number is known, the table under them */
    int count = 0;
    bool made = false;
    r->at++;
    skip_space(r);
    if (r->at < r->end && *r->at == '}') {
        r->at++;
        lua_createtable(L, 0, 0);
        return true;
    }
    for (;;) {
        if (r->at == r->end || *r->at != '"')
            return fail(r, "an object's name expected");
        if (!read_string(r))
            return false;
        skip_space(r);
        if (r->at == r->end || *r->at != ':')
            return fail(r, "a colon expected");
        r->at++;
        if (!read_value(r, depth))
            return false;
        count++;
        skip_space(r);
        if (r->at == r->end)
            return fail(r, "an object is not closed");
        char c = *r->at;
        if (c != ',' && c != '}')
            return fail(r, "a comma or a closing brace expected");
        r->at++;
        if (c == '}' || count == PENDING_MAX) {
            if (!made) {
                lua_createtable(L, 0, c == '}' ? count : 2 * count);
                lua_insert(L, base);
                made = true;
            }
            store_pairs(L, base, count);
            count = 0;
            if (c == '}')
                return true;
        }
        skip_space(r);
    }
}

static bool read_list(reader *r, int depth) {
    lua_State *L = r->L;
    int base = lua_gettop(L) + 1;
    int count = 0, stored = 0;
    bool made = false;
    r->at++;
    skip_space(r);
    if (r->at < r->end && *r->at == ']') {
        r->at++;
        lua_createtable(L, 0, 0);
        luaL_getmetatable(L, TIDE_LUA_ARRAY);
        lua_setmetatable(L, -2);
        return true;
    }
    for (;;) {
        if (!read_value(r, depth))
            return false;
        count++;
        skip_space(r);
        if (r->at == r->end)
            return fail(r, "a list is not closed");
        char c = *r->at;
        if (c != ',' && c != ']')
            return fail(r, "a comma or a closing bracket expected");
        r->at++;
        if (c == ']' || count == PENDING_MAX) {
            if (!made) {
                lua_createtable(L, c == ']' ? count : 2 * count, 0);
                lua_insert(L, base);
                made = true;
            }
            for (int i = count; i > 0; i--)
                lua_rawseti(L, base, stored + i);
            stored += count;
            count = 0;
            if (c == ']')
                return true;
        }
    }
}

static bool read_word(reader *r, const char *word, size_t size) {
    if ((size_t)(r->end - r->at) < size || memcmp(r->at, word, size) != 0)
        return fail(r, "a value expected");
    r->at += size;
    return true;
}

static bool read_value(reader *r, int depth) {
    lua_State *L = r->L;
    skip_space(r);
    if (r->at == r->end)
        return fail(r, "the text ends where a value is expected");
    switch (*r->at) {
    case '"': return read_string(r);
    case '{':
    case '[':
        if (depth >= DEPTH_MAX)
            return fail(r, "nested deeper than 256 levels");
        if (!lua_checkstack(L, 2 * PENDING_MAX + 8))
            return fail_memory(r);
        return *r->at == '{' ? read_object(r, depth + 1) : read_list(r, depth + 1);
    case 't':
        if (!read_word(r, "true", 4))
            return false;
        lua_pushboolean(L, 1);
        return true;
    case 'f':
        if (!read_word(r, "false", 5))
            return false;
        lua_pushboolean(L, 0);
        return true;
    case 'n':
        if (!read_word(r, "null", 4))
            return false;
        lua_pushlightuserdata(L, NULL);
        return true;
    default: return read_number(r);
    }
}

const char *tide_lua_json_decode(lua_State *L, tide_str text, tide_scratch *scratch, char *why) {
    reader r = {L, text.data, text.data, text.data + text.len, scratch, why, false, false};
    int top = lua_gettop(L);
    if (text.len == 0) {
        fail(&r, "nothing");
    } else if (!lua_checkstack(L, 2 * PENDING_MAX + 8)) {
        fail_memory(&r);
    } else if (read_value(&r, 0)) {
        skip_space(&r);
        if (r.at < r.end)
            fail(&r, "something after the value");
    }
    if (!r.failed)
        return NULL;
    lua_settop(L, top);
    if (r.no_memory)
        luaL_error(L, "not enough memory");
    return why;
}

/* core.json_decode(text) → value, or nil and why not; upvalue 1 is the userdata that owns the scratch */
int tide_lua_json_decode_call(lua_State *L) {
    tide_scratch *scratch = lua_touserdata(L, lua_upvalueindex(1));
    char why[TIDE_LUA_WHY_MAX];
    tide_str text;
    text.data = luaL_checklstring(L, 1, &text.len);
    lua_settop(L, 1);
    tide_scratch_reset(scratch);
    if (tide_lua_json_decode(L, text, scratch, why) != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    return 1;
}
