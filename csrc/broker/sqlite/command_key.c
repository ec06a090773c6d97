/* SPDX-License-Identifier: MIT */
/*
 * What it is: a small set of commands on keys, for tools that look around and tests that clean up: DEL, EXISTS, TYPE, KEYS,
 * SCAN, DBSIZE, GET, PTTL, PING, ECHO, TIME, FLUSHALL, FLUSHDB; and ZCARD, ZRANGE and HGET on a stream's delayed events.
 * What it is not: Redis's key space. Besides streams and key-values only two derived keys are there, as the Redis
 * engine has them: "{orders}:delayed" (a sorted set: event ids by due time) and "{orders}:delayed:events" (a hash: the
 * arguments of XADD, packed).
 * Invariants: a key is looked at once; what is expired isn't there.
 */
#include "broker/sqlite/command.h"

typedef enum key_type { KEY_NONE, KEY_STREAM, KEY_VALUE, KEY_DELAYED, KEY_DELAYED_EVENTS } key_type;

/* "{orders}:delayed" belongs to "orders"; "{a}.3:delayed" to "{a}.3". */
static bool derived_from(tide_str key, tide_str suffix, tide_str *stream) {
    if (key.len <= suffix.len ||
        memcmp(key.data + key.len - suffix.len, suffix.data, suffix.len) != 0)
        return false;
    *stream = (tide_str){key.data, key.len - suffix.len};
    if (stream->len > 2 && stream->data[0] == '{') {
        const char *close = memchr(stream->data, '}', stream->len);
        if (close == stream->data + stream->len - 1) {
            stream->data++;
            stream->len -= 2;
        }
    }
    return true;
}

static tide_status delayed_count(tide__sq_store *store, tide_str name, tide__sq_stream **stream,
                                 int64_t *count) {
    *count = 0;
    tide_status status = tide__sq_stream_get(store, name, stream);
    if (status == TIDE_OK && (*stream)->id != 0)
        status = tide__sq_count(store, TIDE__SQ_DELAYED_COUNT, (*stream)->id, -1, count);
    return status;
}

/* What a key is. `stream` is set for all but values and nothing. */
static tide_status look_up(tide__sq_store *store, tide_str key, key_type *type,
                           tide__sq_stream **stream) {
    static const tide_str suffixes[] = {{":delayed:events", 15}, {":delayed", 8}};
    static const key_type types[] = {KEY_DELAYED_EVENTS, KEY_DELAYED};
    *type = KEY_NONE;
    tide_status status = tide__sq_stream_get(store, key, stream);
    if (status != TIDE_OK)
        return status;
    if ((*stream)->alive) {
        *type = KEY_STREAM;
        return TIDE_OK;
    }
    bool found = false;
    status = tide__sq_kv_exists(store, key, &found);
    if (status != TIDE_OK || found) {
        *type = found ? KEY_VALUE : KEY_NONE;
        return status;
    }
    for (size_t i = 0; i < 2; i++) {
        tide_str name;
        int64_t count;
        if (!derived_from(key, suffixes[i], &name))
            continue;
        status = delayed_count(store, name, stream, &count);
        if (status == TIDE_OK && count > 0)
            *type = types[i];
        return status;
    }
    return TIDE_OK;
}

/* ---- what is there ---- */

static tide_status run_exists(tide__sq_call *call) {
    int64_t count = 0;
    for (size_t i = 1; i < call->count; i++) {
        key_type type;
        tide__sq_stream *stream;
        tide_status status = look_up(call->store, call->args[i], &type, &stream);
        if (status != TIDE_OK)
            return status;
        count += type != KEY_NONE;
    }
    tide__sq_reply_integer(call->reply, count);
    return TIDE_OK;
}

static const char *type_name(key_type type) {
    switch (type) {
    case KEY_STREAM: return "stream";
    case KEY_VALUE: return "string";
    case KEY_DELAYED: return "zset";
    case KEY_DELAYED_EVENTS: return "hash";
    case KEY_NONE: break;
    }
    return "none";
}

static tide_status run_type(tide__sq_call *call) {
    key_type type;
    tide__sq_stream *stream;
    tide_status status = look_up(call->store, call->args[1], &type, &stream);
    if (status == TIDE_OK)
        tide__sq_reply_status(call->reply, type_name(type));
    return status;
}

/* Redis's glob: * ? [a-z] [^a] and a backslash before what is meant as it is. */
static bool matches(tide_str pattern, tide_str text) {
    size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0;
    while (t < text.len) {
        bool same = false;
        size_t next = p + 1;
        if (p < pattern.len && pattern.data[p] == '*') {
            star = p++;
            star_text = t;
            continue;
        }
        if (p < pattern.len && pattern.data[p] == '[') {
            bool not = next < pattern.len && pattern.data[next] == '^';
            next += not ;
            for (; next < pattern.len && pattern.data[next] != ']'; next++) {
                char low = pattern.data[next], high = low;
                if (next + 2 < pattern.len && pattern.data[next + 1] == '-') {
                    high = pattern.data[next + 2];
                    next += 2;
                }
                same |= text.data[t] >= low && text.data[t] <= high;
            }
            next++;
            same ^= not ;
        } else if (p < pattern.len) {
            if (pattern.data[p] == '\\' && next < pattern.len)
                same = pattern.data[next++] == text.data[t];
            else
                same = pattern.data[p] == '?' || pattern.data[p] == text.data[t];
        }
        if (same) {
            p = next;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.data[p] == '*')
        p++;
    return p >= pattern.len;
}

typedef struct key_list {
    tide__sq_store *store;
    tide_reply *reply;
    size_t capacity;
    tide_str pattern;
    tide_str type; /* empty: any */
} key_list;

static bool list_key(key_list *list, tide_str key, key_type type) {
    if (!matches(list->pattern, key) ||
        (list->type.len > 0 && !tide__sq_is(list->type, type_name(type))))
        return true;
    if (list->reply->as.array.count >= TIDE_REPLY_ELEMENTS_MAX)
        return false;
    tide_reply *item = tide__sq_reply_push(list->store, list->reply, &list->capacity);
    return item != NULL && tide__sq_reply_text(list->store, item, key);
}

static bool list_derived(key_list *list, tide_str stream) {
    static const tide_str suffixes[] = {{"delayed", 7}, {"delayed:events", 14}};
    static const key_type types[] = {KEY_DELAYED, KEY_DELAYED_EVENTS};
    char *name = tide__sq_take(list->store, stream.len + 32);
    for (size_t i = 0; i < 2; i++) {
        if (name == NULL ||
            !list_key(list, (tide_str){name, tide_derived_key(name, stream, suffixes[i])},
                      types[i]))
            return false;
    }
    return true;
}

static tide_status list_keys(key_list *list) {
    static const tide__sq_statement statements[] = {TIDE__SQ_STREAM_NAMES, TIDE__SQ_KV_NAMES,
                                                    TIDE__SQ_DELAYED_NAMES};
    tide__sq_store *store = list->store;
    *list->reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    /* Streams that were made in this transaction are in the tables, but for what is kept in the cache. */
    tide_status status = tide__sq_cache_flush(store, false);
    for (size_t i = 0; i < 3 && status == TIDE_OK; i++) {
        sqlite3_stmt *names = tide__sq_statement_of(store, statements[i]);
        if (names == NULL)
            return store->failure.status;
        if (statements[i] == TIDE__SQ_KV_NAMES)
            sqlite3_bind_int64(names, 1, store->now_ms);
        while (tide__sq_step(store, names) == SQLITE_ROW) {
            tide_str name = tide__sq_column_str(names, 0);
            if (!(i == 2 ? list_derived(list, name)
                         : list_key(list, name, i == 0 ? KEY_STREAM : KEY_VALUE)))
                break;
        }
        sqlite3_reset(names);
        status = store->failure.status;
    }
    return status;
}

static tide_status run_keys(tide__sq_call *call) {
    key_list list = {call->store, call->reply, 0, call->args[1], {NULL, 0}};
    return list_keys(&list);
}

/* All at once: the cursor in the answer is always 0. */
static tide_status run_scan(tide__sq_call *call) {
    uint64_t cursor;
    if (!tide_u64_parse(call->args[1], &cursor))
        return tide__sq_error(call, "ERR invalid cursor");
    if (!tide__sq_reply_array(call->store, call->reply, 2))
        return TIDE_ENOMEM;
    tide_reply *items = call->reply->as.array.items;
    tide__sq_reply_literal(&items[0], "0");
    key_list list = {call->store, &items[1], 0, TIDE_STR("*"), {NULL, 0}};
    for (size_t i = 2; i < call->count; i += 2) {
        if (i + 1 >= call->count)
            return tide__sq_error_syntax(call);
        if (tide__sq_is(call->args[i], "MATCH"))
            list.pattern = call->args[i + 1];
        else if (tide__sq_is(call->args[i], "TYPE"))
            list.type = call->args[i + 1];
        else if (!tide__sq_is(call->args[i], "COUNT"))
            return tide__sq_error_syntax(call);
    }
    if (cursor != 0)
        return tide__sq_reply_array(call->store, &items[1], 0) ? TIDE_OK : TIDE_ENOMEM;
    return list_keys(&list);
}

static tide_status run_dbsize(tide__sq_call *call) {
    tide_reply *names = tide__sq_take(call->store, sizeof *names);
    if (names == NULL)
        return TIDE_ENOMEM;
    key_list list = {call->store, names, 0, TIDE_STR("*"), {NULL, 0}};
    tide_status status = list_keys(&list);
    if (status == TIDE_OK)
        tide__sq_reply_count(call->reply, names->as.array.count);
    return status;
}

/* ---- values ---- */

static tide_status run_get(tide__sq_call *call) {
    bool pttl = tide__sq_is(call->args[0], "PTTL");
    key_type type;
    tide__sq_stream *stream;
    tide_status status = look_up(call->store, call->args[1], &type, &stream);
    if (status != TIDE_OK)
        return status;
    if (pttl)
        tide__sq_reply_integer(call->reply, type == KEY_NONE ? -2 : -1);
    if (type != KEY_VALUE)
        return type == KEY_NONE || pttl ? TIDE_OK : tide__sq_error_wrongtype(call);
    sqlite3_stmt *get = tide__sq_statement_of(call->store, TIDE__SQ_KV_GET);
    if (get == NULL)
        return call->store->failure.status;
    tide__sq_bind_text(get, 1, call->args[1]);
    if (tide__sq_step(call->store, get) == SQLITE_ROW) {
        if (!pttl)
            tide__sq_reply_text(call->store, call->reply, tide__sq_column_str(get, 0));
        else if (sqlite3_column_type(get, 1) != SQLITE_NULL)
            tide__sq_reply_integer(call->reply, sqlite3_column_int64(get, 1) - call->store->now_ms);
    }
    sqlite3_reset(get);
    return call->store->failure.status;
}

/* ---- delayed events ---- */

static tide_status derived_arg(tide__sq_call *call, tide_str suffix, tide__sq_stream **stream,
                               int64_t *count) {
    tide_str name;
    key_type type;
    *count = 0;
    tide_status status = look_up(call->store, call->args[1], &type, stream);
    if (status != TIDE_OK)
        return status;
    if (type == KEY_STREAM || type == KEY_VALUE)
        return tide__sq_error_wrongtype(call);
    if (!derived_from(call->args[1], suffix, &name))
        return TIDE_OK;
    return delayed_count(call->store, name, stream, count);
}

static tide_status run_zcard(tide__sq_call *call) {
    tide__sq_stream *stream;
    int64_t count;
    tide_status status = derived_arg(call, TIDE_STR(":delayed"), &stream, &count);
    if (status == TIDE_OK)
        tide__sq_reply_integer(call->reply, count);
    return status;
}

static tide_status run_zrange(tide__sq_call *call) {
    tide__sq_store *store = call->store;
    tide__sq_stream *stream;
    int64_t count, from, to;
    bool scores = call->count > 4;
    if (scores && (call->count != 5 || !tide__sq_is(call->args[4], "WITHSCORES")))
        return tide__sq_error_syntax(call);
    tide_status status = tide__sq_arg_integer(call, 2, &from);
    if (status == TIDE_OK)
        status = tide__sq_arg_integer(call, 3, &to);
    if (status == TIDE_OK)
        status = derived_arg(call, TIDE_STR(":delayed"), &stream, &count);
    if (status != TIDE_OK || !tide__sq_reply_array(store, call->reply, 0))
        return status != TIDE_OK ? status : TIDE_ENOMEM;
    from = from < 0 ? (from + count < 0 ? 0 : from + count) : from;
    to = to < 0 ? to + count : to;
    if (to >= count)
        to = count - 1;
    if (from > to)
        return TIDE_OK;
    sqlite3_stmt *list = tide__sq_statement_of(store, TIDE__SQ_DELAYED_LIST);
    if (list == NULL)
        return store->failure.status;
    sqlite3_bind_int64(list, 1, stream->id);
    sqlite3_bind_int64(list, 2, from);
    sqlite3_bind_int64(list, 3, to - from + 1);
    size_t capacity = 0;
    while (tide__sq_step(store, list) == SQLITE_ROW) {
        char digits[TIDE_U64_DIGITS_MAX + 1];
        tide_reply *item = tide__sq_reply_push(store, call->reply, &capacity);
        if (item == NULL || !tide__sq_reply_text(store, item, tide__sq_column_str(list, 2)))
            break;
        int64_t due_ms = sqlite3_column_int64(list, 1);
        size_t len = tide_u64_format(digits, due_ms > 0 ? (uint64_t)due_ms : 0);
        item = scores ? tide__sq_reply_push(store, call->reply, &capacity) : NULL;
        if (scores && (item == NULL || !tide__sq_reply_text(store, item, (tide_str){digits, len})))
            break;
    }
    sqlite3_reset(list);
    return store->failure.status;
}

static char *put_u32(char *out, size_t number) {
    for (int i = 0; i < 4; i++)
        *out++ = (char)(unsigned char)(number >> (8 * i));
    return out;
}

static char *put_packed(char *out, tide_str text) {
    out = put_u32(out, text.len);
    if (text.len > 0)
        memcpy(out, text.data, text.len);
    return out + text.len;
}

/* The arguments of its XADD: their number, then each with its length, as 32-bit little-endian. */
static tide_status pack_arguments(tide__sq_call *call, tide_str blob, int64_t trim) {
    tide__sq_store *store = call->store;
    size_t count, bytes;
    if (!tide__sq_packed_count(blob, &count))
        return tide__sq_damaged(store, "a delayed event");
    tide_field *fields = tide__sq_take(store, (count + 1) * sizeof *fields);
    if (fields == NULL)
        return TIDE_ENOMEM;
    if (!tide__sq_unpack(blob, fields, count, &bytes))
        return tide__sq_damaged(store, "a delayed event");
    char *text = tide__sq_take(store, 64 + TIDE_U64_DIGITS_MAX + bytes + count * 8);
    if (text == NULL)
        return TIDE_ENOMEM;
    char digits[TIDE_U64_DIGITS_MAX];
    char *at = put_u32(text, (trim != 0 ? 4 : 1) + 2 * count);
    if (trim != 0) {
        uint64_t max_len = trim < 0 ? 0 - (uint64_t)trim : (uint64_t)trim;
        at = put_packed(at, TIDE_STR("MAXLEN"));
        at = put_packed(at, trim < 0 ? TIDE_STR("=") : TIDE_STR("~"));
        at = put_packed(at, (tide_str){digits, tide_u64_format(digits, max_len)});
    }
    at = put_packed(at, TIDE_STR("*"));
    for (size_t i = 0; i < count; i++)
        at = put_packed(put_packed(at, fields[i].name), fields[i].value);
    *call->reply = (tide_reply){.type = TIDE_REPLY_STRING, .as.text = {text, (size_t)(at - text)}};
    return TIDE_OK;
}

static tide_status run_hget(tide__sq_call *call) {
    tide__sq_stream *stream;
    int64_t count;
    tide_status status = derived_arg(call, TIDE_STR(":delayed:events"), &stream, &count);
    if (status != TIDE_OK || count == 0)
        return status;
    sqlite3_stmt *get = tide__sq_statement_of(call->store, TIDE__SQ_DELAYED_BY_EVENT);
    if (get == NULL)
        return call->store->failure.status;
    sqlite3_bind_int64(get, 1, stream->id);
    tide__sq_bind_text(get, 2, call->args[2]);
    if (tide__sq_step(call->store, get) == SQLITE_ROW)
        status = pack_arguments(call, tide__sq_column_str(get, 0), sqlite3_column_int64(get, 1));
    sqlite3_reset(get);
    return status != TIDE_OK ? status : call->store->failure.status;
}

/* ---- deleting ---- */

static tide_status drop_key(tide__sq_store *store, tide_str key, bool *dropped) {
    key_type type;
    tide__sq_stream *stream;
    tide_status status = look_up(store, key, &type, &stream);
    *dropped = type != KEY_NONE;
    if (status != TIDE_OK || type == KEY_NONE)
        return status;
    store->wrote = true;
    if (type == KEY_STREAM) {
        tide__sq_touch_stream(store, stream); /* those that wait on it hear of it */
        return tide__sq_stream_delete(store, stream);
    }
    sqlite3_stmt *drop = tide__sq_statement_of(
        store, type == KEY_VALUE ? TIDE__SQ_KV_DROP : TIDE__SQ_DELAYED_DROP_ALL);
    if (drop == NULL)
        return store->failure.status;
    if (type == KEY_VALUE)
        tide__sq_bind_text(drop, 1, key);
    else
        sqlite3_bind_int64(drop, 1, stream->id);
    return tide__sq_run(store, drop);
}

static tide_status run_del(tide__sq_call *call) {
    int64_t count = 0;
    for (size_t i = 1; i < call->count; i++) {
        bool dropped;
        tide_status status = drop_key(call->store, call->args[i], &dropped);
        if (status != TIDE_OK)
            return status;
        count += dropped;
    }
    tide__sq_reply_integer(call->reply, count);
    return TIDE_OK;
}

static tide_status run_flush(tide__sq_call *call) {
    static const tide__sq_statement statements[] = {
        TIDE__SQ_FLUSH_ENTRIES, TIDE__SQ_FLUSH_PENDING, TIDE__SQ_FLUSH_CONSUMERS,
        TIDE__SQ_FLUSH_GROUPS,  TIDE__SQ_FLUSH_DELAYED, TIDE__SQ_FLUSH_DEDUPE,
        TIDE__SQ_FLUSH_KV,      TIDE__SQ_FLUSH_STREAMS};
    tide__sq_store *store = call->store;
    store->wrote = true;
    store->job->changed_elsewhere = true; /* all that wait look again */
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        tide_status status = tide__sq_run_plain(store, statements[i]);
        if (status != TIDE_OK)
            return status;
    }
    tide__sq_cache_drop(store);
    tide__sq_reply_status(call->reply, "OK");
    return TIDE_OK;
}

/* ---- the rest ---- */

static tide_status run_ping(tide__sq_call *call) {
    if (call->count == 1)
        tide__sq_reply_status(call->reply, "PONG");
    else
        tide__sq_reply_text(call->store, call->reply, call->args[1]);
    return TIDE_OK;
}

static tide_status run_time(tide__sq_call *call) {
    char digits[TIDE_U64_DIGITS_MAX];
    int64_t now_ms = call->store->now_ms > 0 ? call->store->now_ms : 0;
    if (!tide__sq_reply_array(call->store, call->reply, 2))
        return TIDE_ENOMEM;
    for (int i = 0; i < 2; i++) {
        int64_t part = i == 0 ? now_ms / 1000 : now_ms % 1000 * 1000;
        tide__sq_reply_text(call->store, &call->reply->as.array.items[i],
                            (tide_str){digits, tide_u64_format(digits, (uint64_t)part)});
    }
    return TIDE_OK;
}

const tide__sq_command tide__sq_key_commands[] = {
    {"DEL", 2, 0, true, run_del},        {"UNLINK", 2, 0, true, run_del},
    {"EXISTS", 2, 0, false, run_exists}, {"TYPE", 2, 2, false, run_type},
    {"KEYS", 2, 2, true, run_keys},      {"SCAN", 2, 0, true, run_scan},
    {"DBSIZE", 1, 1, true, run_dbsize},  {"GET", 2, 2, false, run_get},
    {"PTTL", 2, 2, false, run_get},      {"ZCARD", 2, 2, false, run_zcard},
    {"ZRANGE", 4, 5, false, run_zrange}, {"HGET", 3, 3, false, run_hget},
    {"PING", 1, 2, false, run_ping},     {"ECHO", 2, 2, false, run_ping},
    {"TIME", 1, 1, false, run_time},     {"FLUSHALL", 1, 2, true, run_flush},
    {"FLUSHDB", 1, 2, true, run_flush},  {NULL, 0, 0, false, NULL},
};
