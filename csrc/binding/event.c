/* SPDX-License-Identifier: MIT */
/*
 * Events as Lua sees them: a userdata that holds a copy of the entry's values, so that an event kept by user code stays
 * good after it was settled, and nothing of the engine's can dangle. One allocation an event; field names that everybody
 * uses are numbers in it. Reading event.type costs one __index call.
 * Layout: tide_lua_event, then `count` places, then the bytes.
 * Invariants: `settled` is set once a verdict has been given; the engine isn't asked about this handle afterwards.
 */
#include <stdio.h>

#include "base/text.h"
#include "binding/binding.h"

/* Fields with a meaning, by their names on the wire; the names after the bar are other programs'. */
typedef enum slot {
    SLOT_ID,
    SLOT_TYPE,
    SLOT_AGGREGATE_ID,
    SLOT_AGGREGATE_TYPE,
    SLOT_VERSION,
    SLOT_OCCURRED_AT,
    SLOT_DATA,
    SLOT_CONTENT_TYPE,
    SLOT_COUNT
} slot;

enum { NO_FIELD = 0xffffffff, KNOWN_COUNT = 13 };

typedef struct known_name {
    tide_str name;
    slot slot;
    bool alias;
} known_name;

static const known_name known[KNOWN_COUNT] = {
    {{"event_id", 8}, SLOT_ID, false},
    {{"event_type", 10}, SLOT_TYPE, false},
    {{"aggregate_id", 12}, SLOT_AGGREGATE_ID, false},
    {{"aggregate_type", 14}, SLOT_AGGREGATE_TYPE, false},
    {{"version", 7}, SLOT_VERSION, false},
    {{"occurred_at", 11}, SLOT_OCCURRED_AT, false},
    {{"data", 4}, SLOT_DATA, false},
    {{"content_type", 12}, SLOT_CONTENT_TYPE, false},
    {{"payload", 7}, SLOT_DATA, true},
    {{"event_data", 10}, SLOT_DATA, true},
    {{"timestamp", 9}, SLOT_OCCURRED_AT, true},
    {{"type", 4}, SLOT_TYPE, true},
    {{"id", 2}, SLOT_ID, true},
};

/* A field: its name as a number of `known`, or (KNOWN_COUNT) as bytes. */
typedef struct place {
    uint32_t known;
    uint32_t name_at, name_size;
    uint32_t value_at, value_size;
} place;

typedef struct tide_lua_event {
    uint64_t handle;
    tide_id id;
    uint32_t consumer;
    uint32_t attempt, attempts_max;
    uint32_t count;
    uint32_t slots[SLOT_COUNT]; /* index of the place, or NO_FIELD */
    bool settled;
    bool decoded; /* the userdata's kept value is the decoded data */
    bool boxed;   /* and how it is kept */
    place places[];
} tide_lua_event;

static uint32_t known_of(tide_str name) {
    if (name.len < 2 || name.len > 14)
        return KNOWN_COUNT;
    for (uint32_t i = 0; i < KNOWN_COUNT; i++)
        if (known[i].name.len == name.len && memcmp(known[i].name.data, name.data, name.len) == 0)
            return i;
    return KNOWN_COUNT;
}

static inline const char *bytes_of(const tide_lua_event *event) {
    return (const char *)&event->places[event->count];
}
static inline tide_str value_of(const tide_lua_event *event, uint32_t index) {
    return (tide_str){bytes_of(event) + event->places[index].value_at,
                      event->places[index].value_size};
}
static tide_str name_of(const tide_lua_event *event, uint32_t index) {
    const place *p = &event->places[index];
    if (p->known < KNOWN_COUNT)
        return known[p->known].name;
    return (tide_str){bytes_of(event) + p->name_at, p->name_size};
}

/* The event at `index`; raises for another value. Upvalue 2 is the events' metatable. */
static tide_lua_event *check_event(lua_State *L, int index) {
    tide_lua_event *event = lua_touserdata(L, index);
    if (event != NULL && lua_getmetatable(L, index)) {
        bool same = lua_rawequal(L, -1, lua_upvalueindex(2)) != 0;
        lua_pop(L, 1);
        if (same)
            return event;
    }
    luaL_argerror(L, index, "event expected");
    return NULL;
}

/* ---- taking ---- */

static void fill(tide_lua_event *event, const tide_event *from) {
    const tide_entry *entry = from->entry;
    event->handle = from->handle;
    event->id = entry->id;
    event->consumer = from->consumer;
    event->attempt = from->attempt;
    event->attempts_max = from->attempts_max;
    event->count = entry->field_count;
    for (int i = 0; i < SLOT_COUNT; i++)
        event->slots[i] = NO_FIELD;
    event->settled = event->decoded = event->boxed = false;
    char *bytes = (char *)&event->places[event->count];
    uint32_t at = 0;
    for (uint32_t i = 0; i < event->count; i++) {
        const tide_field *field = &entry->fields[i];
        place *p = &event->places[i];
        p->known = known_of(field->name);
        p->name_at = at;
        p->name_size = 0;
        if (p->known == KNOWN_COUNT) {
            p->name_size = (uint32_t)field->name.len;
            memcpy(bytes + at, field->name.data, field->name.len);
            at += p->name_size;
        } else {
            const known_name *name = &known[p->known];
            uint32_t *place_of = &event->slots[name->slot];
            /* The first of a name wins, and a proper name wins over an alias. */
            if (*place_of == NO_FIELD ||
                (!name->alias && known[event->places[*place_of].known].alias))
                *place_of = i;
        }
        p->value_at = at;
        p->value_size = (uint32_t)field->value.len;
        if (field->value.len > 0)
            memcpy(bytes + at, field->value.data, field->value.len);
        at += p->value_size;
    }
}

void tide_lua_bus_settle_orphan(tide_lua_bus *self) {
    if (self->orphan == 0)
        return;
    tide_verdict verdict = {.kind = TIDE_VERDICT_RELEASE};
    tide_engine_settle(self->engine, self->orphan_consumer, self->orphan, &verdict,
                       tide_bus_now_us(self->bus));
    self->orphan = 0;
}

/* next_event(consumer) → event, type; nothing when none is ready. Upvalues: bus, events' metatable. */
static int next_event(lua_State *L) {
    tide_lua_bus *self = lua_touserdata(L, lua_upvalueindex(1));
    uint32_t consumer = (uint32_t)lua_tointeger(L, 1);
    if (self->bus == NULL)
        return 0;
    if (self->orphan != 0)
        tide_lua_bus_settle_orphan(self);
    tide_lua_bus_handing(self);
    tide_event taken;
    if (!tide_engine_next_event(self->engine, consumer, tide_bus_now_us(self->bus), &taken))
        return 0;
    /* From here to the userdata an error (memory) would lose the event until its lease ends. */
    self->orphan = taken.handle;
    self->orphan_consumer = taken.consumer;
    const tide_entry *entry = taken.entry;
    size_t size =
        sizeof(tide_lua_event) + entry->field_count * sizeof(place) + (size_t)entry->bytes;
    tide_lua_event *event = tide_lua_new_userdata(L, size);
    fill(event, &taken);
    tide_lua_pay(L, size);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_setmetatable(L, -2);
    uint32_t type = event->slots[SLOT_TYPE];
    if (type == NO_FIELD) {
        lua_pushliteral(L, "");
    } else {
        tide_str text = value_of(event, type);
        lua_pushlstring(L, text.data, text.len);
    }
    self->orphan = 0;
    return 2;
}

/* ---- settling ---- */

static tide_status give(lua_State *L, tide_lua_event *event, const tide_verdict *verdict) {
    tide_lua_bus *self = lua_touserdata(L, lua_upvalueindex(1));
    if (self->bus == NULL)
        return TIDE_CLOSED;
    if (event->settled)
        return TIDE_NOTFOUND;
    if (verdict->kind != TIDE_VERDICT_EXTEND)
        event->settled = true;
    return tide_engine_settle(self->engine, event->consumer, event->handle, verdict,
                              tide_bus_now_us(self->bus));
}

/* ack(event): the common end, without options. */
static int ack(lua_State *L) {
    static const tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
    give(L, check_event(L, 1), &verdict);
    return 0;
}

/* settle(event, verdict [, delay_ms [, policy [, reason [, error]]]]) → true, or nil, err; delay_ms < 0: the policy's. */
static int settle(lua_State *L) {
    tide_lua_event *event = check_event(L, 1);
    tide_verdict verdict = {.kind = (tide_verdict_kind)luaL_checkinteger(L, 2), .delay_ms = -1};
    verdict.delay_ms = (int64_t)luaL_optnumber(L, 3, -1);
    if (!lua_isnoneornil(L, 4))
        verdict.policy = tide_lua_check_policy(L, 4);
    verdict.reason.data = luaL_optlstring(L, 5, "", &verdict.reason.len);
    verdict.error.data = luaL_optlstring(L, 6, "", &verdict.error.len);
    tide_status status = give(L, event, &verdict);
    if (status != TIDE_OK) {
        lua_pushnil(L);
        tide_lua_push_error(L, status,
                            status == TIDE_NOTFOUND ? "the event is settled already" : NULL, NULL);
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- reading ---- */

static bool is_metadata(const tide_lua_event *event, uint32_t index) {
    const place *p = &event->places[index];
    return p->known == KNOWN_COUNT || event->slots[known[p->known].slot] != index;
}

static void push_str(lua_State *L, tide_str text) {
    lua_pushlstring(L, text.data, text.len);
}

static bool has_name(const tide_lua_event *event, uint32_t index, const char *name) {
    return tide_str_equal(name_of(event, index), tide_str_from(name));
}

/* How many fields are the publisher's: a retry that was moved away has two of ours behind them. */
static uint32_t count_published(const tide_lua_event *event) {
    uint32_t count = event->count;
    if (count >= 2 && has_name(event, count - 2, "tide_group") &&
        has_name(event, count - 1, "tide_attempt"))
        count -= 2;
    return count;
}

/* A table of fields; of a name that comes twice the last one stays. */
static int push_fields(lua_State *L, const tide_lua_event *event, bool metadata_only) {
    uint32_t count = metadata_only ? count_published(event) : event->count;
    lua_createtable(L, 0, count < 64 ? (int)count : 64);
    for (uint32_t i = 0; i < count; i++) {
        if (metadata_only && !is_metadata(event, i))
            continue;
        push_str(L, name_of(event, i));
        push_str(L, value_of(event, i));
        lua_rawset(L, -3);
    }
    return 1;
}

static int push_slot(lua_State *L, const tide_lua_event *event, slot which) {
    uint32_t index = event->slots[which];
    if (index == NO_FIELD)
        return 0;
    push_str(L, value_of(event, index));
    return 1;
}

static bool is_json(tide_str type) {
    static const char plain[] = "application/json";
    size_t size = sizeof plain - 1;
    if (type.len == 0)
        return true;
    if (type.len >= size && memcmp(type.data, plain, size) == 0 &&
        (type.len == size || type.data[size] == ';' || type.data[size] == ' '))
        return true;
    return type.len > 5 && memcmp(type.data + type.len - 5, "+json", 5) == 0;
}

/* event.data: decoded at the first use. Bytes of another content type are a string as they are; JSON's null is nil.
 * Upvalue 4: a function(raw, content_type) → value of the user's own codec, or nil. */
static int push_data(lua_State *L, tide_lua_event *event) {
    if (event->decoded) {
        tide_lua_push_kept(L, 1, event->boxed);
        return 1;
    }
    uint32_t index = event->slots[SLOT_DATA];
    if (index == NO_FIELD)
        return 0;
    tide_str raw = value_of(event, index);
    uint32_t type_index = event->slots[SLOT_CONTENT_TYPE];
    tide_str type = type_index == NO_FIELD ? (tide_str){NULL, 0} : value_of(event, type_index);
    if (!is_json(type)) {
        push_str(L, raw);
        return 1;
    }
    if (!lua_isnil(L, lua_upvalueindex(4))) {
        lua_pushvalue(L, lua_upvalueindex(4));
        push_str(L, raw);
        push_str(L, (tide_str){type.len > 0 ? type.data : "", type.len});
        lua_call(L, 2, 1);
    } else {
        tide_lua_bus *self = lua_touserdata(L, lua_upvalueindex(1));
        char why[TIDE_LUA_WHY_MAX], message[TIDE_LUA_WHY_MAX + 32];
        tide_scratch_reset(&self->scratch);
        if (tide_lua_json_decode(L, raw, &self->scratch, why) != NULL) {
            snprintf(message, sizeof message, "event.data is not JSON: %s", why);
            tide_lua_push_error(L, TIDE_DECODE, message, NULL);
            return lua_error(L);
        }
    }
    if (lua_type(L, -1) == LUA_TLIGHTUSERDATA && lua_touserdata(L, -1) == NULL) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    lua_pushvalue(L, -1);
    event->boxed = tide_lua_set_kept(L, 1);
    event->decoded = true;
    return 1;
}

static int push_stream_id(lua_State *L, const tide_lua_event *event) {
    char text[TIDE_ID_TEXT_MAX];
    lua_pushlstring(L, text, tide_id_format(text, event->id));
    return 1;
}

/* Upvalues: bus, events' metatable, fallback, decode. */
static int event_index(lua_State *L) {
    tide_lua_event *event = check_event(L, 1);
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    size_t size;
    const char *key = lua_tolstring(L, 2, &size);
#define IS(literal) (size == sizeof(literal) - 1 && memcmp(key, literal, size) == 0)
    switch (size) {
    case 2:
        if (IS("id"))
            return push_slot(L, event, SLOT_ID);
        break;
    case 3:
        if (IS("raw"))
            return push_slot(L, event, SLOT_DATA);
        break;
    case 4:
        if (IS("type"))
            return push_slot(L, event, SLOT_TYPE) == 1 ? 1 : (lua_pushliteral(L, ""), 1);
        if (IS("data"))
            return push_data(L, event);
        break;
    case 6:
        if (IS("fields"))
            return push_fields(L, event, false);
        break;
    case 7:
        if (IS("attempt"))
            return lua_pushinteger(L, event->attempt), 1;
        if (IS("version")) {
            int64_t number;
            uint32_t index = event->slots[SLOT_VERSION];
            if (index == NO_FIELD)
                return 0;
            tide_str text = value_of(event, index);
            if (tide_i64_parse(text, &number))
                tide_lua_push_i64(L, number);
            else
                push_str(L, text);
            return 1;
        }
        if (IS("settled"))
            return lua_pushboolean(L, event->settled), 1;
        break;
    case 8:
        if (IS("metadata"))
            return push_fields(L, event, true);
        if (IS("consumer")) /* its number: for lua/tidemill */
            return lua_pushinteger(L, (lua_Integer)event->consumer), 1;
        break;
    case 9:
        if (IS("stream_id"))
            return push_stream_id(L, event);
        break;
    case 11:
        if (IS("occurred_at"))
            return push_slot(L, event, SLOT_OCCURRED_AT);
        break;
    case 12:
        if (IS("aggregate_id"))
            return push_slot(L, event, SLOT_AGGREGATE_ID);
        if (IS("content_type"))
            return push_slot(L, event, SLOT_CONTENT_TYPE);
        if (IS("attempts_max"))
            return lua_pushinteger(L, event->attempts_max), 1;
        break;
    case 14:
        if (IS("aggregate_type"))
            return push_slot(L, event, SLOT_AGGREGATE_TYPE);
        break;
    default: break;
    }
#undef IS
    /* Methods and what needs the subscription: the fallback, function(event, key). */
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 1);
    return 1;
}

static int event_newindex(lua_State *L) {
    return luaL_error(L, "an event cannot be changed");
}

static int event_tostring(lua_State *L) {
    tide_lua_event *event = check_event(L, 1);
    char type[128] = "", id[TIDE_ID_TEXT_MAX + 1];
    if (event->slots[SLOT_TYPE] != NO_FIELD)
        tide_text_escape(type, sizeof type, value_of(event, event->slots[SLOT_TYPE]));
    id[tide_id_format(id, event->id)] = 0;
    lua_pushfstring(L, "event %s %s", type, id);
    return 1;
}

/* bus:consume(fallback, decode) → next_event, ack, settle */
int tide_lua_consume(lua_State *L) {
    tide_lua_check_bus(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 3);
    lua_createtable(L, 0, 6);
    int meta = lua_gettop(L);
    lua_pushliteral(L, "tidemill.Event");
    lua_setfield(L, meta, "__name");
    lua_pushliteral(L, "tidemill.Event"); /* getmetatable(event) must not lead to __index */
    lua_setfield(L, meta, "__metatable");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, meta);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, event_index, 4);
    lua_setfield(L, meta, "__index");
    lua_pushcfunction(L, event_newindex);
    lua_setfield(L, meta, "__newindex");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, meta);
    lua_pushcclosure(L, event_tostring, 2);
    lua_setfield(L, meta, "__tostring");
    static const lua_CFunction functions[] = {next_event, ack, settle};
    for (int i = 0; i < 3; i++) {
        lua_pushvalue(L, 1);
        lua_pushvalue(L, meta);
        lua_pushcclosure(L, functions[i], 2);
    }
    return 3;
}

/* ---- retry policies ---- */

const tide_retry_policy *tide_lua_check_policy(lua_State *L, int index) {
    return luaL_checkudata(L, index, TIDE_LUA_POLICY);
}

/* core.policy{ kind = 0…2, attempts_max =, delay_ms =, delay_ms_max =, factor =, jitter = }: all of them given. */
int tide_lua_policy_new(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    tide_retry_policy *policy = tide_lua_new_userdata(L, sizeof *policy);
    static const char *const names[] = {"kind",         "attempts_max", "delay_ms",
                                        "delay_ms_max", "factor",       "jitter"};
    double values[6];
    for (int i = 0; i < 6; i++) {
        lua_getfield(L, 1, names[i]);
        values[i] = (double)luaL_checknumber(L, -1);
        lua_pop(L, 1);
    }
    *policy = (tide_retry_policy){.kind = (tide_backoff_kind)values[0],
                                  .attempts_max = (uint32_t)values[1],
                                  .delay_ms = (int64_t)values[2],
                                  .delay_ms_max = (int64_t)values[3],
                                  .factor = values[4],
                                  .jitter = values[5]};
    luaL_getmetatable(L, TIDE_LUA_POLICY);
    lua_setmetatable(L, -2);
    return 1;
}
