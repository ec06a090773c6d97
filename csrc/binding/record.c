/* SPDX-License-Identifier: MIT */
/*
 * What it is: the way from a Lua table of an event to the record that the engine takes. One walk over the table finds every key,
 * and every unknown one; then the fields are laid out in wire order. No memory is allocated for an event.
 * What it is not: aware of operations; publish.c puts records together.
 * What is wrong with one event (its type, its data) is a refusal with a reason; what is wrong with the program (an unknown
 * key, a key of a wrong type) raises.
 * Invariants:
 *   1. Nothing here calls Lua code, so the event's table is at the end what it was at the beginning.
 *   2. What a record borrows lives in the event's own strings, in the bus's scratch, or in constants.
 *   3. fields[0 … field_count) are those of records[0 … record_count), in order; an event that is refused or that raises leaves
 *      none of its own behind for the next call, which begins at 0, or takes them away itself.
 */
#include <math.h>
#include <stdio.h>

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

enum { FIELD_KEYS = KEY_content_type + 1 };

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

/* ---- the walk ---- */

/* What an event's table has. Strings are views into it; other values, and `data`, lie on the stack at their place. */
typedef struct found_keys {
    tide_str text[KEY_COUNT];
    int place[KEY_COUNT]; /* 0: the key isn't there */
    tide_lua_timing own;  /* delay, at, dedupe */
} found_keys;

enum { IS_TEXT = -1 };

#define KIND(type) (1u << (type))
static const struct {
    unsigned kinds; /* of value, as bits */
    const char *wanted;
} values[FIELD_KEYS + 1] = {
    [KEY_id] = {KIND(LUA_TSTRING) | KIND(LUA_TNUMBER), "a string"},
    [KEY_type] = {KIND(LUA_TSTRING), "a string"},
    [KEY_aggregate_id] = {KIND(LUA_TSTRING) | KIND(LUA_TNUMBER), "a string or a number"},
    [KEY_aggregate_type] = {KIND(LUA_TSTRING) | KIND(LUA_TNUMBER), "a string or a number"},
    [KEY_version] = {KIND(LUA_TSTRING) | KIND(LUA_TNUMBER), "a string or a number"},
    [KEY_occurred_at] = {KIND(LUA_TSTRING) | KIND(LUA_TNUMBER),
                         "seconds since the epoch or ISO-8601 text"},
    [KEY_data] = {~0u, ""},
    [KEY_content_type] = {KIND(LUA_TSTRING), "a string"},
    [KEY_metadata] = {KIND(LUA_TTABLE), "a table"},
};
#undef KIND

/* A duration of the event in ms; raises for what is none. */
static int64_t seconds_to_ms(lua_State *L, int index, const char *name, bool zero_ok) {
    lua_Number seconds = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : -1;
    if (!(seconds >= 0) || seconds > 1e11 || (seconds == 0 && !zero_ok))
        luaL_error(L, "event.%s: a number of seconds %s expected", name,
                   zero_ok ? "(0 or more)" : "above 0");
    return (int64_t)(seconds * 1000 + 0.5);
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

/* Takes in the value at the top, under its key, and leaves the key at the top, as lua_next wants it. */
static void take_value(lua_State *L, found_keys *found, event_key key) {
    int type = lua_type(L, -1);
    switch (key) {
    case KEY_delay: found->own.delay_ms = seconds_to_ms(L, -1, "delay", true); break;
    case KEY_at: found->own.due_ms = seconds_to_ms(L, -1, "at", false); break;
    case KEY_dedupe: found->own.dedupe_ms = seconds_to_ms(L, -1, "dedupe", true); break;
    default:
        if ((values[key].kinds >> type & 1) == 0)
            luaL_error(L, "event.%s: %s expected, got %s", key_names[key], values[key].wanted,
                       luaL_typename(L, -1));
        if (type == LUA_TSTRING)
            found->text[key].data = lua_tolstring(L, -1, &found->text[key].len);
        if (type != LUA_TSTRING || key == KEY_data) {
            lua_insert(L, -2);
            found->place[key] = lua_gettop(L) - 1;
            return;
        }
    }
    found->place[key] = IS_TEXT;
    lua_pop(L, 1);
}

/* Every key of the event at the top of the stack. Raises for misuse. Leaves values on the stack. */
static void walk(lua_State *L, found_keys *found) {
    int event = lua_gettop(L);
    if (lua_type(L, event) != LUA_TTABLE)
        luaL_error(L, "an event is a table, got %s", luaL_typename(L, event));
    luaL_checkstack(L, KEY_COUNT + 8, "event");
    memset(found->place, 0, sizeof found->place);
    lua_pushnil(L);
    while (lua_next(L, event) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING)
            unknown_key(L);
        size_t size;
        const char *name = lua_tolstring(L, -2, &size);
        event_key key = key_of(name, size);
        if (key == KEY_COUNT)
            unknown_key(L);
        take_value(L, found, key);
    }
    if (found->place[KEY_type] == 0)
        luaL_error(L, "an event needs a type (a string)");
    if (found->place[KEY_delay] != 0 && found->place[KEY_at] != 0)
        luaL_error(L, "event.delay and event.at exclude each other");
}

void tide_lua_record_check(lua_State *L) {
    int event = lua_gettop(L);
    found_keys found;
    walk(L, &found);
    lua_settop(L, event - 1);
}

/* ---- records ---- */

static size_t format_i64(char *out, int64_t number) {
    if (number >= 0)
        return tide_u64_format(out, (uint64_t)number);
    *out = '-';
    return 1 + tide_u64_format(out + 1, (uint64_t)0 - (uint64_t)number);
}

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
        size_t capacity =
            self->record_capacity == 0 ? TIDE_LUA_RECORDS_AT_FIRST : self->record_capacity * 2;
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

typedef struct builder {
    lua_State *L;
    tide_lua_bus *self;
    const found_keys *found;
    tide_lua_refusal *refusal;
} builder;

static bool trouble(builder *b, tide_status status, const char *what, const char *why) {
    b->refusal->status = status;
    snprintf(b->refusal->message, sizeof b->refusal->message, "%s %s", what, why);
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

/* A string or a number of the event as text. */
static bool key_text(builder *b, event_key key, tide_str *text) {
    if (b->found->place[key] != IS_TEXT)
        return number_text(b, b->found->place[key], text);
    *text = b->found->text[key];
    return true;
}

/* A metadata value: strings, numbers and booleans as text. */
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

/* The bytes of `data`. */
static bool data_text(builder *b, bool typed, tide_str content_type, tide_str *text) {
    int index = b->found->place[KEY_data];
    tide_scratch *scratch = &b->self->scratch;
    if (index == 0) {
        *text = typed ? (tide_str){"", 0} : TIDE_STR("null");
        return true;
    }
    if (typed && lua_type(b->L, index) == LUA_TSTRING) {
        *text = b->found->text[KEY_data];
    } else if (!is_json_type(content_type)) {
        return trouble(b, TIDE_ARGUMENT, "data", "must be a string with this content_type");
    } else {
        char why[TIDE_LUA_WHY_MAX];
        const char *error = tide_lua_json_encode(b->L, index, scratch, why);
        if (error != NULL) {
            tide_scratch_drop(scratch);
            return trouble(b, TIDE_ARGUMENT, "data:", error);
        }
        *text = tide_scratch_finish(scratch);
    }
    if (text->len > b->self->max_payload) {
        b->refusal->status = TIDE_LIMIT;
        snprintf(b->refusal->message, sizeof b->refusal->message,
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

static bool id_text(builder *b, tide_str *id) {
    tide_scratch *scratch = &b->self->scratch;
    if (b->found->place[KEY_id] != 0) {
        if (!key_text(b, KEY_id, id))
            return false;
        const char *why = name_trouble(*id, false);
        return why == NULL || trouble(b, TIDE_ARGUMENT, "the event's id", why);
    }
    char *room = tide_scratch_room(scratch, TIDE_UUID_TEXT);
    if (room == NULL)
        return no_memory(b);
    tide_lua_uuid(b->self, room);
    scratch->end += TIDE_UUID_TEXT;
    *id = tide_scratch_finish(scratch);
    return true;
}

static bool occurred_text(builder *b, tide_str *text) {
    tide_lua_bus *self = b->self;
    int at = b->found->place[KEY_occurred_at];
    if (at == 0) {
        *text = (tide_str){self->time_text, TIDE_TIME_TEXT};
        return true;
    }
    if (at == IS_TEXT) {
        *text = b->found->text[KEY_occurred_at];
        return (text->len > 0 && text->len <= 64) ||
               trouble(b, TIDE_ARGUMENT, "occurred_at", "is no time");
    }
    lua_Number seconds = lua_tonumber(b->L, at);
    char *room = tide_scratch_room(&self->scratch, TIDE_TIME_TEXT);
    if (room == NULL)
        return no_memory(b);
    if (!(fabs(seconds) < 1e12) ||
        !tide_lua_time_format(room, (int64_t)floor(seconds * 1000 + 0.5)))
        return trouble(b, TIDE_ARGUMENT, "occurred_at", "is outside the years 0 to 9999");
    self->scratch.end += TIDE_TIME_TEXT;
    *text = tide_scratch_finish(&self->scratch);
    return true;
}

/* The fields in wire order, and the record. */
static bool build(builder *b) {
    tide_lua_bus *self = b->self;
    const found_keys *found = b->found;
    size_t first = self->field_count;
    tide_str type = found->text[KEY_type], id, text;
    const char *why = name_trouble(type, true);
    if (why != NULL)
        return trouble(b, TIDE_ARGUMENT, "the event's type", why);
    if (!id_text(b, &id))
        return false;
    bool done =
        add_field(self, field_names[KEY_id], id) && add_field(self, field_names[KEY_type], type);
    for (event_key key = KEY_aggregate_id; key <= KEY_version && done; key++) {
        if (found->place[key] == 0)
            continue;
        if (!key_text(b, key, &text))
            return false;
        if (text.len > TIDE_NAME_MAX)
            return trouble(b, TIDE_LIMIT, key_names[key], "is longer than 512 bytes");
        done = add_field(self, field_names[key], text);
    }
    if (!done)
        return no_memory(b);
    if (!occurred_text(b, &text))
        return false;
    bool typed = found->place[KEY_content_type] != 0;
    tide_str content_type = typed ? found->text[KEY_content_type] : (tide_str){NULL, 0}, data;
    why = typed ? name_trouble(content_type, false) : NULL;
    if (why != NULL)
        return trouble(b, TIDE_ARGUMENT, "content_type", why);
    if (!data_text(b, typed, content_type, &data))
        return false;
    done = add_field(self, field_names[KEY_occurred_at], text) &&
           add_field(self, field_names[KEY_data], data);
    if (done && typed && !tide_str_equal(content_type, TIDE_STR("application/json")))
        done = add_field(self, field_names[KEY_content_type], content_type);
    if (!done)
        return no_memory(b);
    if (found->place[KEY_metadata] != 0 && !add_metadata(b, found->place[KEY_metadata]))
        return false;
    return add_record(self, first, id) || no_memory(b);
}

bool tide_lua_record_add(lua_State *L, tide_lua_bus *self, tide_lua_timing *when,
                         tide_lua_refusal *refusal) {
    int event = lua_gettop(L);
    found_keys found;
    walk(L, &found);
    size_t fields = self->field_count;
    builder b = {.L = L, .self = self, .found = &found, .refusal = refusal};
    bool built = build(&b);
    lua_settop(L, event - 1);
    if (!built) {
        self->field_count = fields;
        return false;
    }
    if (found.place[KEY_dedupe] != 0)
        when->dedupe_ms = found.own.dedupe_ms;
    if (found.place[KEY_delay] != 0) {
        when->delay_ms = found.own.delay_ms;
        when->due_ms = 0;
    }
    if (found.place[KEY_at] != 0) {
        when->due_ms = found.own.due_ms;
        when->delay_ms = 0;
    }
    return true;
}

/* ---- all of one operation ---- */

void tide_lua_record_begin(tide_lua_bus *self) {
    self->field_count = self->record_count = 0;
    tide_scratch_reset(&self->scratch);
    tide_lua_time_refresh(self);
}

void tide_lua_record_drop(tide_lua_bus *self) {
    self->field_count -= self->records[--self->record_count].field_count;
}

void tide_lua_record_end(tide_lua_bus *self) {
    const tide_field *field = self->fields;
    for (size_t i = 0; i < self->record_count; i++) {
        self->records[i].fields = field;
        field += self->records[i].field_count;
    }
}

void tide_lua_record_deinit(tide_lua_bus *self) {
    tide_free(&self->alloc, self->fields, self->field_capacity * sizeof *self->fields);
    tide_free(&self->alloc, self->records, self->record_capacity * sizeof *self->records);
    self->fields = NULL;
    self->records = NULL;
    self->field_capacity = self->record_capacity = 0;
}
