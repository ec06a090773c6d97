/* SPDX-License-Identifier: MIT */
/*
 * Publishing: Lua tables of events become records, all in one call, with no memory allocated for an event but its result
 * table. The walk over an event finds unknown keys as it goes.
 * What is wrong with one event (its type, its data) is an error value in its place of the results, and the others go out;
 * what is wrong with the program (an unknown key, a key of a wrong type) raises; the operation that it would have been in
 * is not submitted, earlier operations of a long batch are.
 * Invariants: nothing here calls Lua code; everything the engine borrows lives in the bus's scratch, in the events' own
 * strings (which the caller's table holds), or in constants.
 */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/limits.h"
#include "base/text.h"
#include "binding/binding.h"

/* The keys of an event table. Those that are fields stand in wire order. */
#define EVENT_KEYS(X)                                                                              \
    X(id)                                                                                          \
    X(type)                                                                                        \
    X(aggregate_id)                                                                                \
    X(aggregate_type)                                                                              \
    X(version)                                                                                     \
    X(occurred_at)                                                                                 \
    X(data)                                                                                        \
    X(content_type)                                                                                \
    X(metadata)                                                                                    \
    X(delay)                                                                                       \
    X(at)                                                                                          \
    X(dedupe)

typedef enum event_key {
#define X(name) KEY_##name,
    EVENT_KEYS(X)
#undef X
        KEY_COUNT
} event_key;

enum { FIELD_KEYS = KEY_content_type + 1, BATCH_MAX = 512 };

static const tide_str field_names[FIELD_KEYS] = {
    {"event_id", 8}, {"event_type", 10},  {"aggregate_id", 12}, {"aggregate_type", 14},
    {"version", 7},  {"occurred_at", 11}, {"data", 4},          {"content_type", 12}};

static const char *const key_names[] = {
#define X(name) #name,
    EVENT_KEYS(X)
#undef X
        NULL};

static event_key key_of(const char *text, size_t size) {
    static const unsigned char sizes[KEY_COUNT] = {
#define X(name) sizeof(#name) - 1,
        EVENT_KEYS(X)
#undef X
    };
    for (int i = 0; i < KEY_COUNT; i++)
        if (sizes[i] == size && memcmp(key_names[i], text, size) == 0)
            return (event_key)i;
    return KEY_COUNT;
}

/* When and how the events of one operation are written; events that differ in it go in another operation. */
typedef struct timing {
    int64_t dedupe_ms, delay_ms, due_ms;
} timing;

/* ---- small values ---- */

int64_t tide_lua_wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void two_digits(char *out, int number) {
    out[0] = (char)('0' + number / 10 % 10);
    out[1] = (char)('0' + number % 10);
}

bool tide_lua_time_format(char *out, int64_t ms) {
    int64_t day = ms / 86400000, rest = ms % 86400000;
    if (rest < 0) {
        rest += 86400000;
        day--;
    }
    /* Days to a civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
    if (day < -719528 || day > 2932896)
        return false;
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    int year = (int)(yoe + era * 400 + (month <= 2));
    two_digits(out, year / 100);
    two_digits(out + 2, year % 100);
    out[4] = '-';
    two_digits(out + 5, month);
    out[7] = '-';
    two_digits(out + 8, (int)(doy - (153 * mp + 2) / 5 + 1));
    out[10] = 'T';
    two_digits(out + 11, (int)(rest / 3600000));
    out[13] = ':';
    two_digits(out + 14, (int)(rest / 60000 % 60));
    out[16] = ':';
    two_digits(out + 17, (int)(rest / 1000 % 60));
    out[19] = '.';
    out[20] = (char)('0' + rest % 1000 / 100);
    two_digits(out + 21, (int)(rest % 100));
    out[23] = 'Z';
    return true;
}

void tide_lua_uuid(tide_lua_bus *self, char *out) {
    static const char hex[] = "0123456789abcdef";
    uint64_t ms = (uint64_t)self->time_ms;
    uint64_t high = ms << 16 | 0x7000 | (tide_prng_next(&self->ids) >> 52);
    uint64_t low = (tide_prng_next(&self->ids) >> 2) | UINT64_C(0x8000000000000000);
    char *at = out;
    for (int i = 60; i >= 0; i -= 4) {
        *at++ = hex[high >> i & 15];
        if (i == 32 || i == 16)
            *at++ = '-';
    }
    *at++ = '-';
    for (int i = 60; i >= 0; i -= 4) {
        *at++ = hex[low >> i & 15];
        if (i == 48)
            *at++ = '-';
    }
}

static void refresh_time(tide_lua_bus *self) {
    int64_t ms = tide_lua_wall_ms();
    if (ms != self->time_ms && tide_lua_time_format(self->time_text, ms))
        self->time_ms = ms;
}

static size_t format_i64(char *out, int64_t number) {
    if (number >= 0)
        return tide_u64_format(out, (uint64_t)number);
    *out = '-';
    return 1 + tide_u64_format(out + 1, (uint64_t)0 - (uint64_t)number);
}

/* ---- what is refused ---- */

/* NULL, or why this can't be an event's type or id. Types are shown, matched and used in patterns. */
static const char *name_trouble(tide_str name, bool is_type) {
    if (name.len == 0)
        return "is empty";
    if (name.len > TIDE_NAME_MAX)
        return "is longer than 512 bytes";
    bool wide = false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.data[i];
        if (c < 0x20 || c == 0x7f)
            return "has a control character";
        if (is_type && c == '*')
            return "has a '*' (that is a pattern)";
        wide |= c >= 0x80;
    }
    if (!wide)
        return NULL;
    if (!tide_utf8_is_valid(name))
        return "is not valid UTF-8";
    for (size_t i = 0; i + 2 < name.len; i++) {
        /* U+200E/F, U+202A…E, U+2066…9: they turn the text around it when shown. */
        const unsigned char *c = (const unsigned char *)name.data + i;
        if (c[0] == 0xe2 &&
            ((c[1] == 0x80 && (c[2] == 0x8e || c[2] == 0x8f || (c[2] >= 0xaa && c[2] <= 0xae))) ||
             (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9)))
            return "has a bidirectional control character";
    }
    return NULL;
}

/* ---- records ---- */

static bool add_field(tide_lua_bus *self, tide_str name, tide_str value) {
    if (self->field_count == self->field_capacity) {
        size_t capacity = self->field_capacity == 0 ? 1024 : self->field_capacity * 2;
        tide_field *grown =
            tide_realloc(&self->alloc, self->fields, self->field_capacity * sizeof *grown,
                         capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        self->fields = grown;
        self->field_capacity = capacity;
    }
    self->fields[self->field_count++] = (tide_field){name, value};
    return true;
}

static bool add_record(tide_lua_bus *self, size_t first_field, tide_str event_id) {
    if (self->record_count == self->record_capacity) {
        size_t capacity = self->record_capacity == 0 ? BATCH_MAX : self->record_capacity * 2;
        tide_record *grown =
            tide_realloc(&self->alloc, self->records, self->record_capacity * sizeof *grown,
                         capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        self->records = grown;
        self->record_capacity = capacity;
    }
    /* The fields' place is known when all are there: their number for now. */
    self->records[self->record_count++] = (tide_record){
        .fields = NULL, .field_count = self->field_count - first_field, .event_id = event_id};
    return true;
}

static void point_records(tide_lua_bus *self) {
    const tide_field *field = self->fields;
    for (size_t i = 0; i < self->record_count; i++) {
        self->records[i].fields = field;
        field += self->records[i].field_count;
    }
}

void tide_lua_publish_deinit(tide_lua_bus *self) {
    tide_free(&self->alloc, self->fields, self->field_capacity * sizeof *self->fields);
    tide_free(&self->alloc, self->records, self->record_capacity * sizeof *self->records);
    self->fields = NULL;
    self->records = NULL;
    self->field_capacity = self->record_capacity = 0;
}

typedef struct builder {
    lua_State *L;
    tide_lua_bus *self;
    tide_status status;
    char message[TIDE_LUA_WHY_MAX + 64];
} builder;

static bool trouble(builder *b, tide_status status, const char *what, const char *why) {
    b->status = status;
    snprintf(b->message, sizeof b->message, "%s %s", what, why);
    return false;
}
static bool no_memory(builder *b) {
    return trouble(b, TIDE_ENOMEM, "the event:", "out of memory");
}

/* A number of the event as text in the scratch. */
static bool number_text(builder *b, int index, tide_str *text) {
    char digits[48];
    size_t size;
    lua_Number number = lua_tonumber(b->L, index);
    if (tide_lua_is_integer(b->L, index) ||
        (number == floor(number) && fabs(number) <= 9007199254740992.0))
        size = format_i64(digits, (int64_t)lua_tointeger(b->L, index));
    else
        size = (size_t)snprintf(digits, sizeof digits, "%.14g", (double)number);
    if (!tide_scratch_append(&b->self->scratch, digits, size))
        return no_memory(b);
    *text = tide_scratch_finish(&b->self->scratch);
    return true;
}

/* Strings, numbers and booleans as text. */
static bool scalar_text(builder *b, int index, const char *what, tide_str *text) {
    switch (lua_type(b->L, index)) {
    case LUA_TSTRING: text->data = lua_tolstring(b->L, index, &text->len); return true;
    case LUA_TNUMBER: return number_text(b, index, text);
    case LUA_TBOOLEAN:
        *text = lua_toboolean(b->L, index) ? TIDE_STR("true") : TIDE_STR("false");
        return true;
    default: return trouble(b, TIDE_ARGUMENT, what, "must be a string, a number or a boolean");
    }
}

static bool is_json_type(tide_str type) {
    if (type.len == 0)
        return true;
    tide_str plain = TIDE_STR("application/json");
    if (type.len >= plain.len && memcmp(type.data, plain.data, plain.len) == 0 &&
        (type.len == plain.len || type.data[plain.len] == ';' || type.data[plain.len] == ' '))
        return true;
    return type.len > 5 && memcmp(type.data + type.len - 5, "+json", 5) == 0;
}

/* The bytes of `data` (at `index`, 0: none). */
static bool data_text(builder *b, int index, bool typed, tide_str content_type, tide_str *text) {
    lua_State *L = b->L;
    tide_scratch *scratch = &b->self->scratch;
    if (index == 0) {
        *text = typed ? (tide_str){"", 0} : TIDE_STR("null");
        return true;
    }
    if (typed && lua_type(L, index) == LUA_TSTRING) {
        text->data = lua_tolstring(L, index, &text->len);
    } else if (!is_json_type(content_type)) {
        return trouble(b, TIDE_ARGUMENT, "data", "must be a string with this content_type");
    } else {
        char why[TIDE_LUA_WHY_MAX];
        const char *error = tide_lua_json_encode(L, index, scratch, why);
        if (error != NULL) {
            tide_scratch_drop(scratch);
            return trouble(b, TIDE_ARGUMENT, "data:", error);
        }
        *text = tide_scratch_finish(scratch);
    }
    if (text->len > b->self->max_payload) {
        b->status = TIDE_LIMIT;
        snprintf(b->message, sizeof b->message,
                 "data is %zu bytes, the limit is %zu (option max_payload)", text->len,
                 b->self->max_payload);
        return false;
    }
    return true;
}

static bool add_metadata(builder *b, int index) {
    lua_State *L = b->L;
    tide_lua_bus *self = b->self;
    size_t first = self->field_count;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        tide_field field = {{NULL, 0}, {NULL, 0}};
        bool good = false;
        if (lua_type(L, -2) != LUA_TSTRING) {
            trouble(b, TIDE_ARGUMENT, "metadata", "has a name that is no string");
        } else {
            field.name.data = lua_tolstring(L, -2, &field.name.len);
            const char *why = name_trouble(field.name, false);
            for (int i = 0; i < FIELD_KEYS && why == NULL; i++)
                if (tide_str_equal(field.name, field_names[i]))
                    why = "is the name of an event's own field";
            if (why != NULL)
                trouble(b, TIDE_ARGUMENT, "a metadata name", why);
            else if (self->field_count - first >= TIDE_FIELDS_MAX - FIELD_KEYS)
                trouble(b, TIDE_LIMIT, "metadata", "has more than 56 names");
            else if (scalar_text(b, lua_gettop(L), "a metadata value", &field.value))
                good = add_field(self, field.name, field.value) || no_memory(b);
        }
        lua_pop(L, 1);
        if (!good) {
            lua_pop(L, 1);
            return false;
        }
        /* In the order of the names: few of them, so by insertion. */
        tide_field *fields = self->fields;
        for (size_t i = self->field_count - 1;
             i > first && tide_str_compare(fields[i - 1].name, fields[i].name) > 0; i--) {
            tide_field swap = fields[i];
            fields[i] = fields[i - 1];
            fields[i - 1] = swap;
        }
    }
    return true;
}

/* A duration of the event in ms; raises for what is none. */
static int64_t seconds_to_ms(lua_State *L, int index, const char *name, bool zero_ok) {
    lua_Number seconds = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : -1;
    if (!(seconds >= 0) || seconds > 1e11 || (seconds == 0 && !zero_ok))
        luaL_error(L, "event.%s: a number of seconds %s expected", name,
                   zero_ok ? "(0 or more)" : "above 0");
    return (int64_t)(seconds * 1000 + 0.5);
}

static void check_kind(lua_State *L, int index, const char *name, bool good, const char *wanted) {
    if (!good)
        luaL_error(L, "event.%s: %s expected, got %s", name, wanted, luaL_typename(L, index));
}

static void unknown_key(lua_State *L) {
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_error(L, "an event's keys are strings, got a %s", luaL_typename(L, -2));
    tide_str name;
    name.data = lua_tolstring(L, -2, &name.len);
    char shown[64];
    tide_text_escape(shown, sizeof shown, name);
    const char *near = tide_nearest(name, key_names);
    if (near != NULL)
        luaL_error(L, "unknown event key '%s' (did you mean '%s'?)", shown, near);
    luaL_error(L, "unknown event key '%s' (other values go into metadata)", shown);
}

/* Builds the record of the event at `event`. True: it is there, and its id's text is in `id`. False: the event can't be
 * published, b->status says why. Raises for misuse. Sets `when` from the event's own keys. Leaves values of the event on
 * the stack: the caller resets it. */
static bool build(builder *b, int event, timing *when, tide_str *id) {
    lua_State *L = b->L;
    tide_lua_bus *self = b->self;
    int places[KEY_COUNT] = {0};
    if (lua_type(L, event) != LUA_TTABLE)
        luaL_error(L, "an event is a table, got %s", luaL_typename(L, event));
    luaL_checkstack(L, KEY_COUNT + 8, "event");
    /* Values stay on the stack, under the key that the walk needs. */
    lua_pushnil(L);
    while (lua_next(L, event) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING)
            unknown_key(L);
        size_t size;
        const char *name = lua_tolstring(L, -2, &size);
        event_key key = key_of(name, size);
        if (key == KEY_COUNT)
            unknown_key(L);
        lua_insert(L, -2);
        places[key] = lua_gettop(L) - 1;
    }
    size_t first = self->field_count;
    b->status = TIDE_OK;

    int at = places[KEY_type];
    if (at == 0)
        luaL_error(L, "an event needs a type (a string)");
    check_kind(L, at, "type", lua_type(L, at) == LUA_TSTRING, "a string");
    tide_str type;
    type.data = lua_tolstring(L, at, &type.len);
    const char *why = name_trouble(type, true);
    if (why != NULL)
        return trouble(b, TIDE_ARGUMENT, "the event's type", why);

    at = places[KEY_id];
    if (at != 0) {
        check_kind(L, at, "id", lua_type(L, at) == LUA_TSTRING || lua_type(L, at) == LUA_TNUMBER,
                   "a string");
        if (!scalar_text(b, at, "id", id))
            return false;
        why = name_trouble(*id, false);
        if (why != NULL)
            return trouble(b, TIDE_ARGUMENT, "the event's id", why);
    } else {
        char *room = tide_scratch_room(&self->scratch, TIDE_UUID_TEXT);
        if (room == NULL)
            return no_memory(b);
        tide_lua_uuid(self, room);
        self->scratch.end += TIDE_UUID_TEXT;
        *id = tide_scratch_finish(&self->scratch);
    }
    bool done =
        add_field(self, field_names[KEY_id], *id) && add_field(self, field_names[KEY_type], type);

    for (int key = KEY_aggregate_id; key <= KEY_version && done; key++) {
        at = places[key];
        if (at == 0)
            continue;
        tide_str text;
        check_kind(L, at, key_names[key],
                   lua_type(L, at) == LUA_TSTRING || lua_type(L, at) == LUA_TNUMBER,
                   "a string or a number");
        if (!scalar_text(b, at, key_names[key], &text))
            return false;
        if (text.len > TIDE_NAME_MAX)
            return trouble(b, TIDE_LIMIT, key_names[key], "is longer than 512 bytes");
        done = add_field(self, field_names[key], text);
    }
    if (!done)
        return no_memory(b);

    tide_str occurred = {self->time_text, TIDE_TIME_TEXT};
    at = places[KEY_occurred_at];
    if (at != 0) {
        check_kind(L, at, "occurred_at",
                   lua_type(L, at) == LUA_TSTRING || lua_type(L, at) == LUA_TNUMBER,
                   "seconds since the epoch or ISO-8601 text");
        if (lua_type(L, at) == LUA_TSTRING) {
            occurred.data = lua_tolstring(L, at, &occurred.len);
            if (occurred.len == 0 || occurred.len > 64)
                return trouble(b, TIDE_ARGUMENT, "occurred_at", "is no time");
        } else {
            lua_Number seconds = lua_tonumber(L, at);
            char *room = tide_scratch_room(&self->scratch, TIDE_TIME_TEXT);
            if (room == NULL)
                return no_memory(b);
            if (!(fabs(seconds) < 1e12) ||
                !tide_lua_time_format(room, (int64_t)floor(seconds * 1000 + 0.5)))
                return trouble(b, TIDE_ARGUMENT, "occurred_at", "is outside the years 0 to 9999");
            self->scratch.end += TIDE_TIME_TEXT;
            occurred = tide_scratch_finish(&self->scratch);
        }
    }

    tide_str content_type = {NULL, 0};
    at = places[KEY_content_type];
    if (at != 0) {
        check_kind(L, at, "content_type", lua_type(L, at) == LUA_TSTRING, "a string");
        content_type.data = lua_tolstring(L, at, &content_type.len);
        why = name_trouble(content_type, false);
        if (why != NULL)
            return trouble(b, TIDE_ARGUMENT, "content_type", why);
    }
    tide_str data;
    if (!data_text(b, places[KEY_data], at != 0, content_type, &data))
        return false;
    done = add_field(self, field_names[KEY_occurred_at], occurred) &&
           add_field(self, field_names[KEY_data], data);
    if (done && at != 0 && !tide_str_equal(content_type, TIDE_STR("application/json")))
        done = add_field(self, field_names[KEY_content_type], content_type);
    if (!done)
        return no_memory(b);

    at = places[KEY_metadata];
    if (at != 0) {
        check_kind(L, at, "metadata", lua_type(L, at) == LUA_TTABLE, "a table");
        if (!add_metadata(b, at))
            return false;
    }
    if (places[KEY_dedupe] != 0)
        when->dedupe_ms = seconds_to_ms(L, places[KEY_dedupe], "dedupe", true);
    if (places[KEY_delay] != 0 && places[KEY_at] != 0)
        luaL_error(L, "event.delay and event.at exclude each other");
    if (places[KEY_delay] != 0) {
        when->delay_ms = seconds_to_ms(L, places[KEY_delay], "delay", true);
        when->due_ms = 0;
    }
    if (places[KEY_at] != 0) {
        when->due_ms = seconds_to_ms(L, places[KEY_at], "at", false);
        when->delay_ms = 0;
    }
    return add_record(self, first, *id) || no_memory(b);
}

static int64_t option_i64(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    int64_t number = (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

/* Sets results[index] = { error = value } */
static void set_failure(lua_State *L, int results, int index, tide_status status,
                        const char *message, const char *server) {
    lua_createtable(L, 0, 1);
    tide_lua_push_error(L, status, message, server);
    lua_setfield(L, -2, "error");
    lua_rawseti(L, results, index);
}

/*
 * bus:publish(tag, stream, events, first, last, results, options) → next, count
 * Builds the events from `first` on that fit together in one operation and submits them under `tag`: `next` is the first
 * event not looked at yet, `count` how many were submitted (0: no completion follows). `first` 0: `events` is one event.
 * results[i] becomes { id = } or { error = }. `options` is nil or has numbers: dedupe_ms, delay_ms, due_ms, max_len, exact
 * (0, 1), expect (tide_expect_kind), expect_version, whole (1: all in one operation, or the first error as nil, err).
 */
int tide_lua_publish(lua_State *L) {
    tide_lua_bus *self = tide_lua_check_bus(L, 1);
    tide_op op = {.kind = TIDE_OP_PUBLISH, .tag = (uint64_t)lua_tonumber(L, 2)};
    tide_op_publish *publish = &op.as.publish;
    publish->stream.data = luaL_checklstring(L, 3, &publish->stream.len);
    int first = (int)luaL_checkinteger(L, 5), last = (int)luaL_checkinteger(L, 6);
    int single = first == 0;
    enum { EVENTS = 4, RESULTS = 7, OPTIONS = 8 };
    luaL_checktype(L, RESULTS, LUA_TTABLE);
    lua_settop(L, OPTIONS);
    timing base = {0, 0, 0};
    bool whole = false;
    if (!lua_isnil(L, OPTIONS)) {
        base.dedupe_ms = option_i64(L, OPTIONS, "dedupe_ms");
        base.delay_ms = option_i64(L, OPTIONS, "delay_ms");
        base.due_ms = option_i64(L, OPTIONS, "due_ms");
        publish->max_len = (uint64_t)option_i64(L, OPTIONS, "max_len");
        publish->max_len_exact = option_i64(L, OPTIONS, "exact") != 0;
        publish->expect = (tide_expect_kind)option_i64(L, OPTIONS, "expect");
        publish->expect_version = (uint64_t)option_i64(L, OPTIONS, "expect_version");
        whole = option_i64(L, OPTIONS, "whole") != 0;
    }
    self->field_count = self->record_count = 0;
    tide_scratch_reset(&self->scratch);
    refresh_time(self);
    if (single)
        first = last = 1;

    builder b = {.L = L, .self = self};
    timing chosen = base;
    int next = first;
    for (; next <= last && (whole || next - first < BATCH_MAX); next++) {
        timing when = base;
        tide_str id;
        size_t fields = self->field_count;
        if (single)
            lua_pushvalue(L, EVENTS);
        else
            lua_rawgeti(L, EVENTS, next);
        bool built = build(&b, OPTIONS + 1, &when, &id);
        if (!built) {
            lua_settop(L, OPTIONS);
            self->field_count = fields;
            if (whole) {
                lua_pushnil(L);
                tide_lua_push_error(L, b.status, b.message, "");
                return 2;
            }
            set_failure(L, RESULTS, next, b.status, b.message, "");
            continue;
        }
        if (self->record_count == 1) {
            chosen = when;
        } else if (when.dedupe_ms != chosen.dedupe_ms || when.delay_ms != chosen.delay_ms ||
                   when.due_ms != chosen.due_ms) {
            if (whole)
                return luaL_error(L,
                                  "events appended together cannot differ in delay, at or dedupe");
            self->record_count--;
            self->field_count = fields;
            lua_settop(L, OPTIONS);
            break;
        }
        lua_settop(L, OPTIONS);
    }
    if (self->record_count == 0) {
        lua_pushinteger(L, next);
        lua_pushinteger(L, 0);
        return 2;
    }
    point_records(self);
    publish->records = self->records;
    publish->record_count = self->record_count;
    publish->dedupe_window_ms = chosen.dedupe_ms;
    publish->delay_ms = chosen.delay_ms;
    publish->due_ms = chosen.due_ms;
    tide_error error = {.status = TIDE_OK};
    tide_status status = tide_engine_submit(self->engine, &op, tide_bus_now_us(self->bus), &error);
    if (status == TIDE_OK)
        tide_bus_write(self->bus);
    else if (whole)
        return tide_lua_fail(L, &error);
    /* The results' tables are made while the engine works. */
    bool delayed = chosen.delay_ms > 0 || chosen.due_ms != 0;
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
        lua_createtable(L, 0, 4);
        lua_pushlstring(L, id.data, id.len);
        lua_setfield(L, -2, "id");
        lua_pushboolean(L, delayed);
        lua_setfield(L, -2, "delayed");
        lua_rawseti(L, RESULTS, i);
    }
    lua_pushinteger(L, next);
    lua_pushinteger(L, status == TIDE_OK ? (lua_Integer)self->record_count : 0);
    return 2;
}
