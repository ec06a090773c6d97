/* SPDX-License-Identifier: MIT */
/*
 * What it is: the server of the simulator: RESP in, RESP out, the stream commands with Redis 7.0's own semantics.
 * What it is not: complete, fast or persistent; other commands answer -ERR unknown command.
 * Invariants: replies of a client keep the order of its requests; while a client is blocked its later requests wait; entries
 * and pending lists are ascending by id; nothing depends on addresses or the real time, so a run repeats exactly.
 */
#include "server.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "broker/redis/redis.h"

/* ---- memory and bytes: a test program ends when there is none ---- */

static void *grab(void *old, size_t size) {
    void *made = realloc(old, size);
    if (made == NULL) {
        fprintf(stderr, "simulator: out of memory\n");
        abort();
    }
    return made;
}

typedef struct bytes {
    char *data;
    size_t size, capacity, begin;
} bytes;

static void put(bytes *b, const void *data, size_t size) {
    if (b->begin > 0 && b->begin == b->size)
        b->begin = b->size = 0;
    if (b->size + size > b->capacity) {
        b->capacity = (b->size + size) * 2 + 64;
        b->data = grab(b->data, b->capacity);
    }
    if (size > 0)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_format(bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put_format(bytes *b, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(b, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

static void reply_int(bytes *out, int64_t number) {
    put_format(out, ":%lld\r\n", (long long)number);
}
static void reply_array(bytes *out, size_t count) {
    put_format(out, "*%zu\r\n", count);
}
static void reply_null_array(bytes *out) {
    put(out, "*-1\r\n", 5);
}
static void reply_null(bytes *out) {
    put(out, "$-1\r\n", 5);
}
static void reply_str(bytes *out, tide_str text) {
    put_format(out, "$%zu\r\n", text.len);
    put(out, text.data, text.len);
    put(out, "\r\n", 2);
}
static void reply_id(bytes *out, tide_id id) {
    char text[TIDE_ID_TEXT_MAX];
    reply_str(out, (tide_str){text, tide_id_format(text, id)});
}
static void reply_error(bytes *out, const char *text) {
    put_format(out, "-%s\r\n", text);
}
static void reply_ok(bytes *out) {
    put(out, "+OK\r\n", 5);
}

static char *copy_text(tide_str text) {
    char *copy = grab(NULL, text.len + 1);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

/* ---- data ---- */

typedef struct entry {
    tide_id id;
    tide_str *fields; /* names and values in turn */
    size_t count;     /* of both */
    char *memory;
} entry;

typedef struct pending {
    tide_id id;
    uint32_t consumer; /* index into names */
    int64_t time_ms;
    uint32_t count;
} pending;

typedef struct group {
    char *name;
    tide_id last;
    pending *list;
    size_t count, capacity;
    char **names; /* NULL: deleted */
    uint32_t name_count;
} group;

typedef struct stream {
    entry *entries;
    size_t first, count, capacity; /* entries[first … first+count-1] */
    tide_id last;
    group **groups;
    size_t group_count;
} stream;

typedef struct member {
    char *name;
    size_t name_len;
    double score;
    char *value;
    size_t value_len;
} member;

typedef enum kind { KIND_STREAM, KIND_STRING, KIND_ZSET, KIND_HASH } kind;

typedef struct object {
    struct object *next;
    char *name;
    size_t name_len;
    kind kind;
    stream *stream;
    char *text;
    size_t text_len;
    int64_t expires_ms; /* 0 never */
    member *members;    /* ZSET by score, HASH unordered */
    size_t member_count;
} object;

enum { BUCKETS = 512, ARGS_MAX = 8192 };

typedef struct client {
    uint32_t number; /* 0: free */
    bytes in, out;
    bool blocked;
    int64_t until_ms;
    tide_str *blocked_args;
    char *blocked_memory;
    size_t blocked_count;
} client;

struct sim_server {
    object *buckets[BUCKETS];
    int64_t now_ms;
    sim_trouble trouble;
    bool known[SCRIPT_COUNT];
    client *clients;
    size_t client_count;
    uint32_t last_client;
    uint64_t dirty; /* grows with every change that a blocked reader may wait for */
    tide_str args[ARGS_MAX];
};

static object **bucket_of(sim_server *server, tide_str name) {
    return &server->buckets[tide_str_hash(name) % BUCKETS];
}

static void group_free(group *g) {
    for (uint32_t i = 0; i < g->name_count; i++)
        free(g->names[i]);
    free(g->names);
    free(g->list);
    free(g->name);
    free(g);
}

static void object_clear(object *o) {
    if (o->stream != NULL) {
        stream *s = o->stream;
        for (size_t i = s->first; i < s->first + s->count; i++) {
            free(s->entries[i].fields);
            free(s->entries[i].memory);
        }
        for (size_t i = 0; i < s->group_count; i++)
            group_free(s->groups[i]);
        free(s->groups);
        free(s->entries);
        free(s);
    }
    for (size_t i = 0; i < o->member_count; i++) {
        free(o->members[i].name);
        free(o->members[i].value);
    }
    free(o->members);
    free(o->text);
    o->stream = NULL;
    o->members = NULL;
    o->member_count = 0;
    o->text = NULL;
    o->text_len = 0;
    o->expires_ms = 0;
}

static bool delete_key(sim_server *server, tide_str name) {
    for (object **at = bucket_of(server, name); *at != NULL; at = &(*at)->next) {
        object *o = *at;
        if (!tide_str_equal((tide_str){o->name, o->name_len}, name))
            continue;
        *at = o->next;
        object_clear(o);
        free(o->name);
        free(o);
        server->dirty++;
        return true;
    }
    return false;
}

static object *find(sim_server *server, tide_str name) {
    for (object *o = *bucket_of(server, name); o != NULL; o = o->next) {
        if (!tide_str_equal((tide_str){o->name, o->name_len}, name))
            continue;
        if (o->expires_ms != 0 && o->expires_ms <= server->now_ms) {
            delete_key(server, name);
            return NULL;
        }
        return o;
    }
    return NULL;
}

static object *make(sim_server *server, tide_str name, kind k) {
    object *o = grab(NULL, sizeof *o);
    memset(o, 0, sizeof *o);
    o->name = copy_text(name);
    o->name_len = name.len;
    o->kind = k;
    if (k == KIND_STREAM) {
        o->stream = grab(NULL, sizeof *o->stream);
        memset(o->stream, 0, sizeof *o->stream);
    }
    object **at = bucket_of(server, name);
    o->next = *at;
    *at = o;
    return o;
}

static const char wrong_type[] =
    "WRONGTYPE Operation against a key holding the wrong kind of value";

/* The stream of this name, NULL when missing; an error reply for another type. */
static bool find_stream(sim_server *server, tide_str name, stream **s, bytes *out) {
    object *o = find(server, name);
    *s = NULL;
    if (o == NULL)
        return true;
    if (o->kind != KIND_STREAM) {
        reply_error(out, wrong_type);
        return false;
    }
    *s = o->stream;
    return true;
}

static group *find_group(const stream *s, tide_str name) {
    for (size_t i = 0; s != NULL && i < s->group_count; i++)
        if (tide_str_equal(tide_str_from(s->groups[i]->name), name))
            return s->groups[i];
    return NULL;
}

/* Index of the first entry with an id ≥ this one, counted from `first`. */
static size_t entry_at(const stream *s, tide_id id) {
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tide_id_compare(s->entries[s->first + middle].id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const entry *find_entry(const stream *s, tide_id id) {
    size_t i = entry_at(s, id);
    if (i < s->count && tide_id_compare(s->entries[s->first + i].id, id) == 0)
        return &s->entries[s->first + i];
    return NULL;
}

static size_t pending_at(const group *g, tide_id id) {
    size_t low = 0, high = g->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tide_id_compare(g->list[middle].id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static pending *find_pending(group *g, tide_id id) {
    size_t i = pending_at(g, id);
    return i < g->count && tide_id_compare(g->list[i].id, id) == 0 ? &g->list[i] : NULL;
}

static pending *add_pending(group *g, tide_id id) {
    size_t i = pending_at(g, id);
    if (g->count == g->capacity) {
        g->capacity = g->capacity * 2 + 16;
        g->list = grab(g->list, g->capacity * sizeof *g->list);
    }
    memmove(&g->list[i + 1], &g->list[i], (g->count - i) * sizeof *g->list);
    g->list[i] = (pending){.id = id};
    g->count++;
    return &g->list[i];
}

static void drop_pending(group *g, pending *p) {
    size_t i = (size_t)(p - g->list);
    memmove(p, p + 1, (g->count - i - 1) * sizeof *p);
    g->count--;
}

static bool find_consumer(const group *g, tide_str name, uint32_t *consumer) {
    for (uint32_t i = 0; i < g->name_count; i++) {
        if (g->names[i] != NULL && tide_str_equal(tide_str_from(g->names[i]), name)) {
            *consumer = i;
            return true;
        }
    }
    return false;
}

static uint32_t make_consumer(group *g, tide_str name) {
    uint32_t consumer;
    if (find_consumer(g, name, &consumer))
        return consumer;
    g->names = grab(g->names, (g->name_count + 1) * sizeof *g->names);
    g->names[g->name_count] = copy_text(name);
    return g->name_count++;
}

static void remove_entries(stream *s, size_t from, size_t count) {
    for (size_t i = from; i < from + count; i++) {
        free(s->entries[s->first + i].fields);
        free(s->entries[s->first + i].memory);
    }
    if (from == 0) {
        s->first += count;
    } else {
        entry *at = &s->entries[s->first + from];
        memmove(at, at + count, (s->count - from - count) * sizeof *at);
    }
    s->count -= count;
}

static void append(stream *s, tide_id id, const tide_str *fields, size_t count) {
    if (s->first + s->count == s->capacity) {
        if (s->first > s->capacity / 2) {
            memmove(s->entries, s->entries + s->first, s->count * sizeof *s->entries);
            s->first = 0;
        } else {
            s->capacity = s->capacity * 2 + 16;
            s->entries = grab(s->entries, s->capacity * sizeof *s->entries);
        }
    }
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        size += fields[i].len;
    entry *e = &s->entries[s->first + s->count++];
    *e = (entry){.id = id, .count = count};
    e->fields = grab(NULL, count * sizeof *e->fields);
    e->memory = grab(NULL, size);
    char *at = e->memory;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, fields[i].data, fields[i].len);
        e->fields[i] = (tide_str){at, fields[i].len};
        at += fields[i].len;
    }
    s->last = id;
}

static void reply_entry(bytes *out, const entry *e) {
    reply_array(out, 2);
    reply_id(out, e->id);
    reply_array(out, e->count);
    for (size_t i = 0; i < e->count; i++)
        reply_str(out, e->fields[i]);
}

/* ---- arguments ---- */

static bool is(tide_str arg, const char *word) {
    return tide_str_equal_nocase(arg, tide_str_from(word));
}

static const char bad_id[] = "ERR Invalid stream ID specified as stream command argument";
static const char not_integer[] = "ERR value is not an integer or out of range";
static const char syntax[] = "ERR syntax error";

static void reply_arity(bytes *out, const char *command) {
    put_format(out, "-ERR wrong number of arguments for '%s' command\r\n", command);
}

static tide_id id_before(tide_id id) {
    if (id.seq > 0)
        return (tide_id){id.ms, id.seq - 1};
    return (tide_id){id.ms - 1, UINT64_MAX};
}
static tide_id id_after(tide_id id) {
    if (id.seq < UINT64_MAX)
        return (tide_id){id.ms, id.seq + 1};
    return (tide_id){id.ms + 1, 0};
}

/* An end of a range: "-", "+", an id, or "(" and an id. */
static bool parse_bound(tide_str text, bool upper, tide_id *id, bytes *out) {
    bool open = text.len > 1 && text.data[0] == '(';
    if (open)
        text = (tide_str){text.data + 1, text.len - 1};
    if (!open && is(text, "-")) {
        *id = (tide_id){0, 0};
        return true;
    }
    if (!open && is(text, "+")) {
        *id = (tide_id){UINT64_MAX, UINT64_MAX};
        return true;
    }
    if (!tide_id_parse(text, upper ? UINT64_MAX : 0, id)) {
        reply_error(out, bad_id);
        return false;
    }
    if (open && upper) {
        if (id->ms == 0 && id->seq == 0) {
            reply_error(out, "ERR invalid end ID for the interval");
            return false;
        }
        *id = id_before(*id);
    } else if (open) {
        if (id->ms == UINT64_MAX && id->seq == UINT64_MAX) {
            reply_error(out, "ERR invalid start ID for the interval");
            return false;
        }
        *id = id_after(*id);
    }
    return true;
}

static void reply_no_group(bytes *out, tide_str key, tide_str name) {
    put_format(out, "-NOGROUP No such key '%.*s' or consumer group '%.*s'\r\n", (int)key.len,
               key.data, (int)name.len, name.data);
}

/* ---- XADD and what else writes entries ---- */

/* Arguments behind the key. False: an error was written. */
static bool add_entry(sim_server *server, tide_str key, const tide_str *args, size_t count,
                      bytes *out) {
    size_t i = 0;
    bool make_stream = true, has_max = false, has_min = false, exact = true;
    uint64_t max_len = 0;
    tide_id min_id = {0, 0};
    for (; i < count; i++) {
        if (is(args[i], "NOMKSTREAM")) {
            make_stream = false;
        } else if (is(args[i], "MAXLEN") || is(args[i], "MINID")) {
            bool by_len = is(args[i], "MAXLEN");
            if (i + 1 < count && (is(args[i + 1], "~") || is(args[i + 1], "="))) {
                exact = is(args[i + 1], "=");
                i++;
            }
            if (i + 1 >= count || (by_len ? !tide_u64_parse(args[i + 1], &max_len)
                                          : !tide_id_parse(args[i + 1], 0, &min_id))) {
                reply_error(out, by_len ? not_integer : bad_id);
                return false;
            }
            has_max = by_len;
            has_min = !by_len;
            i++;
        } else {
            break;
        }
    }
    if (i >= count || (count - i) < 3 || (count - i) % 2 == 0) {
        reply_arity(out, "xadd");
        return false;
    }
    tide_str wanted = args[i++];
    bool automatic = is(wanted, "*");
    bool automatic_seq = false;
    tide_id id = {0, 0};
    if (!automatic) {
        if (wanted.len > 2 && wanted.data[wanted.len - 1] == '*' &&
            wanted.data[wanted.len - 2] == '-') {
            automatic_seq = tide_u64_parse((tide_str){wanted.data, wanted.len - 2}, &id.ms);
            if (!automatic_seq) {
                reply_error(out, bad_id);
                return false;
            }
        } else if (!tide_id_parse(wanted, 0, &id)) {
            reply_error(out, bad_id);
            return false;
        }
        if (!automatic_seq && id.ms == 0 && id.seq == 0) {
            reply_error(out, "ERR The ID specified in XADD must be greater than 0-0");
            return false;
        }
    }
    stream *s;
    if (!find_stream(server, key, &s, out))
        return false;
    if (s == NULL) {
        if (!make_stream) {
            reply_null(out);
            return true;
        }
        s = make(server, key, KIND_STREAM)->stream;
    }
    if (automatic) {
        id = (tide_id){(uint64_t)server->now_ms, 0};
        if (tide_id_compare(id, s->last) <= 0)
            id = id_after(s->last);
    } else if (automatic_seq) {
        if (id.ms == s->last.ms) {
            id.seq = s->last.seq + 1;
        } else if (id.ms < s->last.ms) {
            id.seq = 0;
        } else {
            id.seq = id.ms == 0 ? 1 : 0;
        }
    }
    if (tide_id_compare(id, s->last) <= 0) {
        reply_error(out,
                    "ERR The ID specified in XADD is equal or smaller than the target stream top "
                    "item");
        return false;
    }
    append(s, id, args + i, count - i);
    server->dirty++;
    if (has_max && s->count > max_len) {
        size_t surplus = s->count - (size_t)max_len;
        remove_entries(s, 0, exact ? surplus : surplus / 100 * 100);
    }
    if (has_min && exact)
        remove_entries(s, 0, entry_at(s, min_id));
    reply_id(out, id);
    return true;
}

static void cmd_xadd(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 5) {
        reply_arity(out, "xadd");
        return;
    }
    add_entry(server, args[1], args + 2, count - 2, out);
}

/* ---- ranges ---- */

static void cmd_xrange(sim_server *server, const tide_str *args, size_t count, bytes *out,
                       bool back) {
    if (count < 4) {
        reply_arity(out, back ? "xrevrange" : "xrange");
        return;
    }
    tide_id low, high;
    if (!parse_bound(args[back ? 3 : 2], false, &low, out) ||
        !parse_bound(args[back ? 2 : 3], true, &high, out))
        return;
    int64_t most = -1;
    if (count == 6 && is(args[4], "COUNT")) {
        if (!tide_i64_parse(args[5], &most)) {
            reply_error(out, not_integer);
            return;
        }
        if (most < 0)
            most = 0;
    } else if (count != 4) {
        reply_error(out, syntax);
        return;
    }
    stream *s;
    if (!find_stream(server, args[1], &s, out))
        return;
    /* COUNT 0 answers a null array, whether or not there is such a stream. */
    if (s != NULL && most == 0) {
        reply_null_array(out);
        return;
    }
    if (s == NULL) {
        reply_array(out, 0);
        return;
    }
    size_t from = entry_at(s, low), to = from;
    while (to < s->count && tide_id_compare(s->entries[s->first + to].id, high) <= 0)
        to++;
    size_t number = to > from ? to - from : 0;
    if (most >= 0 && number > (size_t)most)
        number = (size_t)most;
    reply_array(out, number);
    for (size_t i = 0; i < number; i++)
        reply_entry(out, &s->entries[s->first + (back ? to - 1 - i : from + i)]);
}

static void cmd_xdel(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 3) {
        reply_arity(out, "xdel");
        return;
    }
    stream *s;
    if (!find_stream(server, args[1], &s, out))
        return;
    if (s == NULL) {
        reply_int(out, 0);
        return;
    }
    tide_id id;
    for (size_t i = 2; i < count; i++) {
        if (!tide_id_parse(args[i], 0, &id)) {
            reply_error(out, bad_id);
            return;
        }
    }
    int64_t done = 0;
    for (size_t i = 2; i < count; i++) {
        tide_id_parse(args[i], 0, &id);
        const entry *e = find_entry(s, id);
        if (e != NULL) {
            remove_entries(s, (size_t)(e - s->entries) - s->first, 1);
            done++;
        }
    }
    reply_int(out, done);
}

static void cmd_xtrim(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    uint64_t most;
    if (count < 4) {
        reply_arity(out, "xtrim");
        return;
    }
    bool exact = true;
    size_t at = 3;
    if (is(args[3], "=") || is(args[3], "~")) {
        exact = is(args[3], "=");
        at = 4;
    }
    if (!is(args[2], "MAXLEN") || at + 1 != count) {
        reply_error(out, syntax);
        return;
    }
    if (!tide_u64_parse(args[at], &most)) {
        reply_error(out, not_integer);
        return;
    }
    stream *s;
    if (!find_stream(server, args[1], &s, out))
        return;
    size_t surplus = s != NULL && s->count > most ? s->count - (size_t)most : 0;
    if (!exact)
        surplus = surplus / 100 * 100;
    if (surplus > 0)
        remove_entries(s, 0, surplus);
    reply_int(out, (int64_t)surplus);
}

/* ---- groups ---- */

static void cmd_xgroup(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 4) {
        reply_arity(out, "xgroup");
        return;
    }
    tide_str verb = args[1], key = args[2], name = args[3];
    bool creates = is(verb, "CREATE");
    bool make_stream = false;
    if (creates) {
        for (size_t i = 5; i < count; i++) {
            if (is(args[i], "MKSTREAM")) {
                make_stream = true;
            } else {
                reply_error(out, syntax);
                return;
            }
        }
    }
    if ((creates || is(verb, "SETID") || is(verb, "CREATECONSUMER") || is(verb, "DELCONSUMER")) &&
        count < 5) {
        put_format(out, "-ERR wrong number of arguments for 'xgroup|%.*s' command\r\n",
                   (int)verb.len, verb.data);
        return;
    }
    stream *s;
    if (!find_stream(server, key, &s, out))
        return;
    if (s == NULL && !(creates && make_stream)) {
        reply_error(out,
                    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE "
                    "you may want to use the MKSTREAM option to create an empty stream "
                    "automatically.");
        return;
    }
    group *g = find_group(s, name);
    if (creates || is(verb, "SETID")) {
        tide_id id = s != NULL ? s->last : (tide_id){0, 0};
        if (!is(args[4], "$") && !tide_id_parse(args[4], 0, &id)) {
            reply_error(out, bad_id);
            return;
        }
        if (creates) {
            if (g != NULL) {
                reply_error(out, "BUSYGROUP Consumer Group name already exists");
                return;
            }
            if (s == NULL)
                s = make(server, key, KIND_STREAM)->stream;
            g = grab(NULL, sizeof *g);
            memset(g, 0, sizeof *g);
            g->name = copy_text(name);
            s->groups = grab(s->groups, (s->group_count + 1) * sizeof *s->groups);
            s->groups[s->group_count++] = g;
        }
        if (g != NULL) {
            g->last = id;
            server->dirty++;
            reply_ok(out);
            return;
        }
    }
    if (is(verb, "DESTROY")) {
        if (g != NULL) {
            size_t i = 0;
            while (s->groups[i] != g)
                i++;
            s->groups[i] = s->groups[--s->group_count];
            group_free(g);
            server->dirty++;
        }
        reply_int(out, g != NULL);
        return;
    }
    if (g == NULL) {
        put_format(out, "-NOGROUP No such consumer group '%.*s' for key name '%.*s'\r\n",
                   (int)name.len, name.data, (int)key.len, key.data);
        return;
    }
    uint32_t consumer;
    bool found = find_consumer(g, args[4], &consumer);
    if (is(verb, "CREATECONSUMER")) {
        make_consumer(g, args[4]);
        reply_int(out, !found);
    } else if (is(verb, "DELCONSUMER")) {
        int64_t dropped = 0;
        for (size_t i = 0; found && i < g->count;) {
            if (g->list[i].consumer == consumer) {
                drop_pending(g, &g->list[i]);
                dropped++;
            } else {
                i++;
            }
        }
        if (found) {
            free(g->names[consumer]);
            g->names[consumer] = NULL;
        }
        reply_int(out, dropped);
    } else {
        reply_error(out, "ERR unknown subcommand");
    }
}

/* ---- reading ---- */

/* Answers false when it would block. */
static bool cmd_xreadgroup(sim_server *server, const tide_str *args, size_t count, bytes *out,
                           bool may_block, int64_t *block_ms) {
    *block_ms = -1;
    if (count < 7) {
        reply_arity(out, "xreadgroup");
        return true;
    }
    uint64_t most = UINT64_MAX;
    bool no_ack = false;
    size_t i = 1;
    tide_str name = {NULL, 0}, reader = {NULL, 0};
    for (; i < count && !is(args[i], "STREAMS"); i++) {
        uint64_t number;
        if (is(args[i], "GROUP") && i + 2 < count) {
            name = args[i + 1];
            reader = args[i + 2];
            i += 2;
        } else if (is(args[i], "COUNT") && i + 1 < count && tide_u64_parse(args[i + 1], &number)) {
            most = number > 0 ? number : UINT64_MAX;
            i++;
        } else if (is(args[i], "BLOCK") && i + 1 < count && tide_u64_parse(args[i + 1], &number)) {
            *block_ms = (int64_t)number;
            i++;
        } else if (is(args[i], "NOACK")) {
            no_ack = true;
        } else {
            reply_error(out, syntax);
            return true;
        }
    }
    if (i + 3 != count) {
        reply_error(out, "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID, "
                         "'>', or '$' must be specified.");
        return true;
    }
    tide_str key = args[i + 1], from = args[i + 2];
    stream *s;
    if (!find_stream(server, key, &s, out))
        return true;
    group *g = find_group(s, name);
    if (g == NULL) {
        put_format(out,
                   "-NOGROUP No such key '%.*s' or consumer group '%.*s' in XREADGROUP with GROUP "
                   "option\r\n",
                   (int)key.len, key.data, (int)name.len, name.data);
        return true;
    }
    bool fresh = is(from, ">");
    tide_id after = g->last;
    if (!fresh && !tide_id_parse(from, 0, &after)) {
        reply_error(out, bad_id);
        return true;
    }
    if (!fresh) {
        uint32_t consumer = make_consumer(g, reader);
        size_t at = pending_at(g, after);
        if (at < g->count && tide_id_compare(g->list[at].id, after) == 0)
            at++;
        size_t number = 0;
        for (size_t k = at; k < g->count && number < most; k++)
            number += g->list[k].consumer == consumer;
        reply_array(out, 1);
        reply_array(out, 2);
        reply_str(out, key);
        reply_array(out, number);
        for (size_t k = at; k < g->count && number > 0; k++) {
            pending *p = &g->list[k];
            if (p->consumer != consumer)
                continue;
            number--;
            const entry *e = find_entry(s, p->id);
            if (e == NULL) {
                reply_array(out, 2);
                reply_id(out, p->id);
                reply_null_array(out);
            } else {
                reply_entry(out, e);
                p->time_ms = server->now_ms;
                p->count++;
            }
        }
        return true;
    }
    size_t at = entry_at(s, id_after(g->last));
    if (g->last.ms == UINT64_MAX && g->last.seq == UINT64_MAX)
        at = s->count;
    size_t number = s->count - at;
    if (number > most)
        number = (size_t)most;
    if (number == 0) {
        if (*block_ms >= 0 && may_block)
            return false;
        make_consumer(g, reader);
        reply_null_array(out);
        return true;
    }
    uint32_t consumer = make_consumer(g, reader);
    reply_array(out, 1);
    reply_array(out, 2);
    reply_str(out, key);
    reply_array(out, number);
    for (size_t k = 0; k < number; k++) {
        const entry *e = &s->entries[s->first + at + k];
        reply_entry(out, e);
        g->last = e->id;
        if (no_ack)
            continue;
        pending *p = find_pending(g, e->id);
        if (p == NULL)
            p = add_pending(g, e->id);
        p->consumer = consumer;
        p->time_ms = server->now_ms;
        p->count = 1;
    }
    return true;
}

static size_t ack(stream *s, tide_str name, tide_id id) {
    group *g = find_group(s, name);
    pending *p = g != NULL ? find_pending(g, id) : NULL;
    if (p == NULL)
        return 0;
    drop_pending(g, p);
    return 1;
}

static void cmd_xack(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 4) {
        reply_arity(out, "xack");
        return;
    }
    stream *s;
    if (!find_stream(server, args[1], &s, out))
        return;
    if (find_group(s, args[2]) == NULL) {
        reply_int(out, 0);
        return;
    }
    tide_id id;
    for (size_t i = 3; i < count; i++) {
        if (!tide_id_parse(args[i], 0, &id)) {
            reply_error(out, bad_id);
            return;
        }
    }
    int64_t done = 0;
    for (size_t i = 3; i < count; i++) {
        tide_id_parse(args[i], 0, &id);
        done += (int64_t)ack(s, args[2], id);
    }
    reply_int(out, done);
}

static void cmd_xpending(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 3) {
        reply_arity(out, "xpending");
        return;
    }
    int64_t idle_min = 0, most = 0;
    tide_id low = {0, 0}, high = {0, 0};
    size_t at = 3;
    if (count > 3) {
        if (is(args[3], "IDLE")) {
            if (count < 8) {
                reply_error(out, syntax);
                return;
            }
            if (!tide_i64_parse(args[4], &idle_min)) {
                reply_error(out, not_integer);
                return;
            }
            at = 5;
        }
        if (count < at + 3 || count > at + 4) {
            reply_error(out, syntax);
            return;
        }
        if (!tide_i64_parse(args[at + 2], &most)) {
            reply_error(out, not_integer);
            return;
        }
        if (most < 0)
            most = 0;
        if (!parse_bound(args[at], false, &low, out) ||
            !parse_bound(args[at + 1], true, &high, out))
            return;
    }
    stream *s;
    if (!find_stream(server, args[1], &s, out))
        return;
    group *g = find_group(s, args[2]);
    if (g == NULL) {
        reply_no_group(out, args[1], args[2]);
        return;
    }
    if (count == 3) {
        reply_array(out, 4);
        reply_int(out, (int64_t)g->count);
        if (g->count == 0) {
            reply_null(out);
            reply_null(out);
            reply_null_array(out);
            return;
        }
        reply_id(out, g->list[0].id);
        reply_id(out, g->list[g->count - 1].id);
        /* By name, as the server's radix tree has them. */
        uint32_t *order = grab(NULL, (g->name_count + 1) * sizeof *order);
        size_t used = 0;
        for (uint32_t i = 0; i < g->name_count; i++) {
            bool has = false;
            for (size_t k = 0; k < g->count && !has; k++)
                has = g->list[k].consumer == i;
            if (!has)
                continue;
            size_t place = used++;
            while (place > 0 && strcmp(g->names[order[place - 1]], g->names[i]) > 0) {
                order[place] = order[place - 1];
                place--;
            }
            order[place] = i;
        }
        reply_array(out, used);
        for (size_t i = 0; i < used; i++) {
            size_t number = 0;
            for (size_t k = 0; k < g->count; k++)
                number += g->list[k].consumer == order[i];
            reply_array(out, 2);
            reply_str(out, tide_str_from(g->names[order[i]]));
            char text[24];
            reply_str(out, (tide_str){text, tide_u64_format(text, number)});
        }
        free(order);
        return;
    }
    uint32_t consumer = UINT32_MAX;
    if (count == at + 4 && !find_consumer(g, args[at + 3], &consumer)) {
        reply_array(out, 0);
        return;
    }
    bytes rows = {0};
    int64_t number = 0;
    for (size_t k = pending_at(g, low); k < g->count && number < most; k++) {
        const pending *p = &g->list[k];
        if (tide_id_compare(p->id, high) > 0)
            break;
        int64_t idle = server->now_ms - p->time_ms;
        if (idle < 0)
            idle = 0;
        if ((consumer != UINT32_MAX && p->consumer != consumer) || idle < idle_min)
            continue;
        number++;
        reply_array(&rows, 4);
        reply_id(&rows, p->id);
        reply_str(&rows, tide_str_from(g->names[p->consumer]));
        reply_int(&rows, idle);
        reply_int(&rows, p->count);
    }
    reply_array(out, (size_t)number);
    put(out, rows.data, rows.size);
    free(rows.data);
}

static void cmd_xclaim(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 6) {
        reply_arity(out, "xclaim");
        return;
    }
    stream *s;
    int64_t min_idle;
    if (!find_stream(server, args[1], &s, out))
        return;
    group *g = find_group(s, args[2]);
    if (g == NULL) {
        reply_no_group(out, args[1], args[2]);
        return;
    }
    if (!tide_i64_parse(args[4], &min_idle)) {
        reply_error(out, "ERR Invalid min-idle-time argument for XCLAIM");
        return;
    }
    if (min_idle < 0)
        min_idle = 0;
    size_t ids = 5;
    tide_id id;
    while (ids < count && tide_id_parse(args[ids], 0, &id))
        ids++;
    int64_t time_ms = server->now_ms, retry = -1;
    bool force = false, just_id = false;
    for (size_t i = ids; i < count; i++) {
        bool more = i + 1 < count;
        if (is(args[i], "FORCE")) {
            force = true;
        } else if (is(args[i], "JUSTID")) {
            just_id = true;
        } else if (is(args[i], "IDLE") && more && tide_i64_parse(args[i + 1], &time_ms)) {
            time_ms = server->now_ms - time_ms;
            i++;
        } else if (is(args[i], "TIME") && more && tide_i64_parse(args[i + 1], &time_ms)) {
            i++;
        } else if (is(args[i], "RETRYCOUNT") && more && tide_i64_parse(args[i + 1], &retry)) {
            i++;
        } else if (is(args[i], "LASTID") && more && tide_id_parse(args[i + 1], 0, &id)) {
            if (tide_id_compare(id, g->last) > 0)
                g->last = id;
            i++;
        } else {
            put_format(out, "-ERR Unrecognized XCLAIM option '%.*s'\r\n", (int)args[i].len,
                       args[i].data);
            return;
        }
    }
    if (time_ms < 0 || time_ms > server->now_ms)
        time_ms = server->now_ms;
    uint32_t consumer = make_consumer(g, args[3]);
    bytes rows = {0};
    size_t number = 0;
    for (size_t i = 5; i < ids; i++) {
        tide_id_parse(args[i], 0, &id);
        pending *p = find_pending(g, id);
        const entry *e = find_entry(s, id);
        if (e == NULL) {
            if (p != NULL)
                drop_pending(g, p);
            continue;
        }
        if (p == NULL && force) {
            p = add_pending(g, id);
            p->consumer = consumer;
            p->count = 1; /* a delivery that never was */
        } else if (p == NULL) {
            continue;
        } else if (min_idle > 0 && server->now_ms - p->time_ms < min_idle) {
            continue;
        }
        p->consumer = consumer;
        p->time_ms = time_ms;
        if (retry >= 0) {
            p->count = (uint32_t)retry;
        } else if (!just_id) {
            p->count++;
        }
        number++;
        if (just_id) {
            reply_id(&rows, id);
        } else {
            reply_entry(&rows, e);
        }
    }
    reply_array(out, number);
    put(out, rows.data, rows.size);
    free(rows.data);
}

static void cmd_xautoclaim(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 6) {
        reply_arity(out, "xautoclaim");
        return;
    }
    int64_t min_idle, most = 100;
    bool just_id = false;
    tide_id start;
    if (!tide_i64_parse(args[4], &min_idle)) {
        reply_error(out, "ERR Invalid min-idle-time argument for XAUTOCLAIM");
        return;
    }
    if (!parse_bound(args[5], false, &start, out))
        return;
    for (size_t i = 6; i < count; i++) {
        if (is(args[i], "COUNT") && i + 1 < count && tide_i64_parse(args[i + 1], &most)) {
            if (most < 1) {
                reply_error(out, "ERR COUNT must be > 0");
                return;
            }
            i++;
        } else if (is(args[i], "JUSTID")) {
            just_id = true;
        } else {
            reply_error(out, syntax);
            return;
        }
    }
    stream *s;
    if (!find_stream(server, args[1], &s, out))
        return;
    group *g = find_group(s, args[2]);
    if (g == NULL) {
        reply_no_group(out, args[1], args[2]);
        return;
    }
    uint32_t consumer = make_consumer(g, args[3]);
    bytes rows = {0}, gone = {0};
    size_t number = 0, gone_count = 0;
    int64_t looks = most * 10;
    size_t k = pending_at(g, start);
    while (looks-- > 0 && most > 0 && k < g->count) {
        pending *p = &g->list[k];
        const entry *e = find_entry(s, p->id);
        if (e == NULL) {
            reply_id(&gone, p->id);
            gone_count++;
            drop_pending(g, p);
            most--;
            continue;
        }
        k++;
        if (min_idle > 0 && server->now_ms - p->time_ms < min_idle)
            continue;
        p->consumer = consumer;
        p->time_ms = server->now_ms;
        if (just_id) {
            reply_id(&rows, p->id);
        } else {
            p->count++;
            reply_entry(&rows, e);
        }
        number++;
        most--;
    }
    reply_array(out, 3);
    reply_id(out, k < g->count ? g->list[k].id : (tide_id){0, 0});
    reply_array(out, number);
    put(out, rows.data, rows.size);
    reply_array(out, gone_count);
    put(out, gone.data, gone.size);
    free(rows.data);
    free(gone.data);
}

/* What the consumer asks of it, and no more. */
static void cmd_xinfo(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count != 3) {
        reply_arity(out, "xinfo");
        return;
    }
    stream *s;
    if (!find_stream(server, args[2], &s, out))
        return;
    if (s == NULL) {
        reply_error(out, "ERR no such key");
    } else if (is(args[1], "STREAM")) {
        reply_array(out, 4);
        reply_str(out, TIDE_STR("length"));
        reply_int(out, (int64_t)s->count);
        reply_str(out, TIDE_STR("last-generated-id"));
        reply_id(out, s->last);
    } else if (is(args[1], "GROUPS")) {
        reply_array(out, s->group_count);
        for (size_t i = 0; i < s->group_count; i++) {
            const group *g = s->groups[i];
            reply_array(out, 6);
            reply_str(out, TIDE_STR("name"));
            reply_str(out, tide_str_from(g->name));
            reply_str(out, TIDE_STR("pending"));
            reply_int(out, (int64_t)g->count);
            reply_str(out, TIDE_STR("last-delivered-id"));
            reply_id(out, g->last);
        }
    } else {
        reply_error(out, syntax);
    }
}

/* ---- strings, sets and hashes, as the scripts need them ---- */

static void set_text(sim_server *server, tide_str key, tide_str value, int64_t ttl_ms) {
    object *o = find(server, key);
    if (o != NULL)
        object_clear(o);
    if (o == NULL)
        o = make(server, key, KIND_STRING);
    o->kind = KIND_STRING;
    o->text = copy_text(value);
    o->text_len = value.len;
    o->expires_ms = ttl_ms > 0 ? server->now_ms + ttl_ms : 0;
    server->dirty++;
}

static bool get_text(sim_server *server, tide_str key, tide_str *value) {
    object *o = find(server, key);
    if (o == NULL || o->kind != KIND_STRING)
        return false;
    *value = (tide_str){o->text, o->text_len};
    return true;
}

static member *member_of(object *o, tide_str name) {
    for (size_t i = 0; o != NULL && i < o->member_count; i++)
        if (tide_str_equal((tide_str){o->members[i].name, o->members[i].name_len}, name))
            return &o->members[i];
    return NULL;
}

static bool member_before(const member *a, const member *b) {
    if (a->score != b->score)
        return a->score < b->score;
    return tide_str_compare((tide_str){a->name, a->name_len}, (tide_str){b->name, b->name_len}) < 0;
}

static void member_set(sim_server *server, tide_str key, kind k, tide_str name, double score,
                       tide_str value) {
    object *o = find(server, key);
    if (o == NULL)
        o = make(server, key, k);
    member *old = member_of(o, name);
    member made = {.score = score, .value = copy_text(value), .value_len = value.len};
    if (old != NULL) {
        made.name = old->name;
        made.name_len = old->name_len;
        free(old->value);
        memmove(old, old + 1, (o->member_count - (size_t)(old - o->members) - 1) * sizeof *old);
        o->member_count--;
    } else {
        made.name = copy_text(name);
        made.name_len = name.len;
        o->members = grab(o->members, (o->member_count + 1) * sizeof *o->members);
    }
    size_t at = o->member_count++;
    while (at > 0 && member_before(&made, &o->members[at - 1])) {
        o->members[at] = o->members[at - 1];
        at--;
    }
    o->members[at] = made;
}

static bool member_drop(sim_server *server, tide_str key, tide_str name) {
    object *o = find(server, key);
    member *m = member_of(o, name);
    if (m == NULL)
        return false;
    free(m->name);
    free(m->value);
    memmove(m, m + 1, (o->member_count - (size_t)(m - o->members) - 1) * sizeof *m);
    if (--o->member_count == 0)
        delete_key(server, key);
    return true;
}

/* ---- scripts ---- */

static bool refuses_memory(const sim_server *server, bytes *out) {
    if (server->trouble != SIM_TROUBLE_OOM)
        return false;
    reply_error(out, "OOM command not allowed when used memory > 'maxmemory'.");
    return true;
}

/* The group, or the error that XPENDING gives. */
static group *script_group(sim_server *server, tide_str key, tide_str name, stream **s,
                           bytes *out) {
    if (!find_stream(server, key, s, out))
        return NULL;
    group *g = find_group(*s, name);
    if (g == NULL)
        reply_no_group(out, key, name);
    return g;
}

static void script_dedupe(sim_server *server, const tide_str *keys, size_t key_count,
                          const tide_str *argv, bytes *out) {
    int64_t window = 0;
    tide_i64_parse(argv[0], &window);
    size_t at = 3;
    reply_array(out, (key_count - 1) * 2);
    for (size_t i = 1; i < key_count; i++) {
        uint64_t count = 0;
        tide_u64_parse(argv[at], &count);
        tide_str there;
        if (get_text(server, keys[i], &there)) {
            reply_str(out, there);
            reply_int(out, 1);
        } else if (server->trouble == SIM_TROUBLE_OOM) {
            refuses_memory(server, out);
            reply_int(out, 0);
        } else {
            tide_str args[80];
            size_t n = 0;
            if (argv[1].len > 0) {
                args[n++] = TIDE_STR("MAXLEN");
                args[n++] = argv[1];
                args[n++] = argv[2];
            }
            args[n++] = TIDE_STR("*");
            for (uint64_t k = 0; k < count && n < 80; k++)
                args[n++] = argv[at + 1 + k];
            bytes one = {0};
            if (add_entry(server, keys[0], args, n, &one)) {
                char *line = (char *)memchr(one.data, '\n', one.size) + 1;
                set_text(server, keys[i],
                         (tide_str){line, (size_t)(one.data + one.size - 2 - line)}, window);
            }
            put(out, one.data, one.size);
            free(one.data);
            reply_int(out, 0);
        }
        at += 1 + (size_t)count;
    }
}

static void script_append(sim_server *server, const tide_str *keys, const tide_str *argv,
                          size_t argc, bytes *out) {
    uint64_t version = 0;
    tide_str text;
    stream *s;
    if (get_text(server, keys[1], &text)) {
        tide_u64_parse(text, &version);
    } else if (!find_stream(server, keys[0], &s, out)) {
        return;
    } else if (s != NULL) {
        version = s->count;
    }
    uint64_t wanted = 0;
    bool wrong = (is(argv[0], "no_stream") && version != 0) ||
                 (is(argv[0], "exists") && version == 0) ||
                 (argv[0].data[0] == '=' &&
                  (!tide_u64_parse((tide_str){argv[0].data + 1, argv[0].len - 1}, &wanted) ||
                   wanted != version));
    if (wrong) {
        reply_array(out, 2);
        reply_int(out, 0);
        reply_int(out, (int64_t)version);
        return;
    }
    if (refuses_memory(server, out))
        return;
    bytes ids = {0};
    size_t number = 0;
    for (size_t at = 3; at < argc;) {
        uint64_t count = 0;
        tide_u64_parse(argv[at], &count);
        char digits[TIDE_U64_DIGITS_MAX];
        tide_str args[80];
        size_t n = 0;
        if (argv[1].len > 0) {
            args[n++] = TIDE_STR("MAXLEN");
            args[n++] = argv[1];
            args[n++] = argv[2];
        }
        args[n++] = TIDE_STR("*");
        for (uint64_t k = 0; k < count && n < 70; k++)
            args[n++] = argv[at + 1 + k];
        args[n++] = TIDE_STR("version");
        args[n++] = (tide_str){digits, tide_u64_format(digits, ++version)};
        add_entry(server, keys[0], args, n, &ids);
        number++;
        at += 1 + (size_t)count;
    }
    char digits[TIDE_U64_DIGITS_MAX];
    set_text(server, keys[1], (tide_str){digits, tide_u64_format(digits, version)}, 0);
    reply_array(out, 2 + number);
    reply_int(out, 1);
    reply_int(out, (int64_t)version);
    put(out, ids.data, ids.size);
    free(ids.data);
}

static void script_schedule(sim_server *server, const tide_str *keys, const tide_str *argv,
                            size_t argc, bytes *out) {
    if (refuses_memory(server, out))
        return;
    int64_t due = 0, window = 0;
    tide_i64_parse(argv[1], &due);
    tide_i64_parse(argv[2], &window);
    if (is(argv[0], "in"))
        due += server->now_ms;
    reply_array(out, (argc - 3) / 2);
    for (size_t i = 3; i + 1 < argc; i += 2) {
        tide_str key = window > 0 ? keys[2 + (i - 3) / 2] : (tide_str){NULL, 0};
        bool hit = (window > 0 && find(server, key) != NULL) ||
                   member_of(find(server, keys[0]), argv[i]) != NULL;
        if (!hit) {
            member_set(server, keys[0], KIND_ZSET, argv[i], (double)due, (tide_str){"", 0});
            member_set(server, keys[1], KIND_HASH, argv[i], 0, argv[i + 1]);
            if (window > 0)
                set_text(server, key, TIDE_STR("0-0"),
                         window + (due > server->now_ms ? due - server->now_ms : 0));
        }
        reply_int(out, hit);
    }
}

static uint32_t read_u32(const char *at) {
    const unsigned char *u = (const unsigned char *)at;
    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static void script_promote(sim_server *server, const tide_str *keys, const tide_str *argv,
                           bytes *out) {
    int64_t most = 0;
    tide_i64_parse(argv[0], &most);
    int64_t moved = 0;
    object *set = find(server, keys[1]);
    if (set != NULL && set->member_count > 0 && set->members[0].score <= (double)server->now_ms &&
        refuses_memory(server, out))
        return;
    while (moved < most && (set = find(server, keys[1])) != NULL &&
           set->members[0].score <= (double)server->now_ms) {
        tide_str name = {set->members[0].name, set->members[0].name_len};
        member *packed = member_of(find(server, keys[2]), name);
        if (packed != NULL) {
            uint32_t count = read_u32(packed->value);
            const char *at = packed->value + 4;
            tide_str *args = grab(NULL, (count + 1) * sizeof *args);
            for (uint32_t i = 0; i < count; i++) {
                uint32_t len = read_u32(at);
                args[i] = (tide_str){at + 4, len};
                at += 4 + len;
            }
            bytes ignored = {0};
            bool added = add_entry(server, keys[0], args, count, &ignored);
            free(args);
            if (!added) {
                put(out, ignored.data, ignored.size);
                free(ignored.data);
                return;
            }
            free(ignored.data);
        }
        char *kept = copy_text(name);
        name.data = kept;
        member_drop(server, keys[1], name);
        member_drop(server, keys[2], name);
        free(kept);
        moved++;
    }
    set = find(server, keys[1]);
    int64_t wait = -1;
    if (set != NULL) {
        wait = (int64_t)set->members[0].score - server->now_ms;
        if (wait < 0)
            wait = 0;
    }
    reply_array(out, 2);
    reply_int(out, moved);
    reply_int(out, wait);
}

static void script_dead(sim_server *server, const tide_str *keys, const tide_str *argv, size_t argc,
                        bytes *out) {
    stream *s;
    group *g = script_group(server, keys[0], argv[0], &s, out);
    tide_id id;
    if (g == NULL || !tide_id_parse(argv[1], 0, &id))
        return;
    if (find_pending(g, id) == NULL) {
        reply_int(out, 0);
        return;
    }
    if (refuses_memory(server, out))
        return;
    tide_str *args = grab(NULL, argc * sizeof *args);
    args[0] = TIDE_STR("*");
    memcpy(args + 1, argv + 2, (argc - 2) * sizeof *args);
    bytes added = {0};
    if (add_entry(server, keys[1], args, argc - 1, &added)) {
        ack(s, argv[0], id);
        reply_int(out, 1);
    } else {
        put(out, added.data, added.size);
    }
    free(added.data);
    free(args);
}

static void script_delay(sim_server *server, const tide_str *keys, const tide_str *argv,
                         bytes *out) {
    stream *s;
    group *g = script_group(server, keys[0], argv[0], &s, out);
    tide_id id;
    if (g == NULL || !tide_id_parse(argv[1], 0, &id))
        return;
    if (find_pending(g, id) == NULL) {
        reply_int(out, 0);
        return;
    }
    if (refuses_memory(server, out))
        return;
    int64_t delay = 0;
    tide_i64_parse(argv[3], &delay);
    member_set(server, keys[1], KIND_ZSET, argv[2], (double)(server->now_ms + delay),
               (tide_str){"", 0});
    member_set(server, keys[2], KIND_HASH, argv[2], 0, argv[4]);
    ack(s, argv[0], id);
    reply_int(out, 1);
}

static void script_own(sim_server *server, const tide_str *keys, const tide_str *argv, size_t argc,
                       bytes *out) {
    stream *s;
    group *g = script_group(server, keys[0], argv[0], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = UINT32_MAX;
    find_consumer(g, argv[1], &consumer);
    reply_array(out, (argc - 2) / 3);
    for (size_t i = 2; i + 2 < argc; i += 3) {
        tide_id id = {0, 0};
        uint64_t count = 0;
        tide_id_parse(argv[i + 1], 0, &id);
        tide_u64_parse(argv[i + 2], &count);
        pending *p = find_pending(g, id);
        bool own = p != NULL && p->consumer == consumer;
        if (own && find_entry(s, id) == NULL) {
            drop_pending(g, p);
        } else if (own) {
            p->time_ms = server->now_ms - (is(argv[i], "release") ? 86400000 : 0);
            p->count = (uint32_t)count;
        }
        reply_int(out, own);
    }
}

static void script_extend(sim_server *server, const tide_str *keys, const tide_str *argv,
                          size_t argc, bytes *out) {
    stream *s;
    group *g = script_group(server, keys[0], argv[0], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = UINT32_MAX;
    find_consumer(g, argv[1], &consumer);
    bytes lost = {0};
    size_t number = 0;
    for (size_t i = 2; i < argc; i++) {
        tide_id id = {0, 0};
        tide_id_parse(argv[i], 0, &id);
        pending *p = find_pending(g, id);
        bool own = p != NULL && p->consumer == consumer;
        if (own && find_entry(s, id) == NULL) {
            drop_pending(g, p);
            own = false;
        }
        if (own) {
            p->time_ms = server->now_ms;
        } else {
            reply_str(&lost, argv[i]);
            number++;
        }
    }
    reply_array(out, number);
    put(out, lost.data, lost.size);
    free(lost.data);
}

static void script_gone(sim_server *server, const tide_str *keys, const tide_str *argv,
                        bytes *out) {
    stream *s;
    group *g = script_group(server, keys[0], argv[0], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = UINT32_MAX;
    find_consumer(g, argv[1], &consumer);
    tide_id low, high;
    uint64_t most = 0;
    tide_u64_parse(argv[4], &most);
    if (!parse_bound(argv[2], false, &low, out) || !parse_bound(argv[3], true, &high, out))
        return;
    bytes rows = {0};
    size_t number = 0;
    for (size_t k = pending_at(g, low); k < g->count && number < most; k++) {
        if (tide_id_compare(g->list[k].id, high) > 0)
            break;
        if (g->list[k].consumer != consumer || find_entry(s, g->list[k].id) != NULL)
            continue;
        reply_id(&rows, g->list[k].id);
        reply_int(&rows, g->list[k].count);
        number++;
    }
    reply_array(out, number * 2);
    put(out, rows.data, rows.size);
    free(rows.data);
}

static void cmd_eval(sim_server *server, const tide_str *args, size_t count, bytes *out,
                     bool by_text) {
    uint64_t key_count;
    if (count < 3 || !tide_u64_parse(args[2], &key_count) || key_count > count - 3) {
        reply_error(out, not_integer);
        return;
    }
    redis_script script = SCRIPT_NONE;
    for (int i = 1; i < SCRIPT_COUNT; i++) {
        tide_str name =
            by_text ? redis_script_text((redis_script)i) : redis_script_sha1((redis_script)i);
        if (tide_str_equal(name, args[1]))
            script = (redis_script)i;
    }
    if (script == SCRIPT_NONE && by_text) {
        reply_error(out, "ERR the simulated server doesn't know this script");
        return;
    }
    if (!by_text && (script == SCRIPT_NONE || !server->known[script])) {
        reply_error(out, "NOSCRIPT No matching script. Please use EVAL.");
        return;
    }
    server->known[script] = true;
    const tide_str *keys = args + 3;
    const tide_str *argv = keys + key_count;
    size_t argc = count - 3 - (size_t)key_count;
    switch (script) {
    case SCRIPT_DEDUPE: script_dedupe(server, keys, (size_t)key_count, argv, out); break;
    case SCRIPT_APPEND: script_append(server, keys, argv, argc, out); break;
    case SCRIPT_SCHEDULE: script_schedule(server, keys, argv, argc, out); break;
    case SCRIPT_CANCEL:
        reply_int(out, member_drop(server, keys[0], argv[0]));
        member_drop(server, keys[1], argv[0]);
        break;
    case SCRIPT_PROMOTE: script_promote(server, keys, argv, out); break;
    case SCRIPT_DEAD: script_dead(server, keys, argv, argc, out); break;
    case SCRIPT_DELAY: script_delay(server, keys, argv, out); break;
    case SCRIPT_OWN: script_own(server, keys, argv, argc, out); break;
    case SCRIPT_EXTEND: script_extend(server, keys, argv, argc, out); break;
    case SCRIPT_GONE: script_gone(server, keys, argv, out); break;
    default: reply_error(out, "ERR the simulated server doesn't do this script"); break;
    }
}

/* ---- the rest ---- */

static client *client_of(sim_server *server, uint32_t number) {
    for (size_t i = 0; i < server->client_count; i++)
        if (server->clients[i].number == number)
            return &server->clients[i];
    return NULL;
}

static void unblock(client *c) {
    free(c->blocked_args);
    free(c->blocked_memory);
    c->blocked_args = NULL;
    c->blocked_memory = NULL;
    c->blocked = false;
}

static void cmd_client(sim_server *server, client *c, const tide_str *args, size_t count,
                       bytes *out) {
    if (count >= 2 && is(args[1], "ID")) {
        reply_int(out, c->number);
    } else if (count >= 3 && is(args[1], "SETNAME")) {
        reply_ok(out);
    } else if (count >= 3 && is(args[1], "UNBLOCK")) {
        uint64_t number = 0;
        tide_u64_parse(args[2], &number);
        client *other = number > 0 ? client_of(server, (uint32_t)number) : NULL;
        bool done = other != NULL && other->blocked;
        if (done) {
            unblock(other);
            reply_null_array(&other->out);
        }
        reply_int(out, done);
    } else {
        reply_error(out, "ERR unknown subcommand"); /* 7.0 has no SETINFO */
    }
}

static bool is_write(tide_str name) {
    static const char *const names[] = {"XADD",       "XREADGROUP", "XACK",    "XCLAIM",
                                        "XAUTOCLAIM", "XGROUP",     "XDEL",    "XTRIM",
                                        "SET",        "DEL",        "FLUSHALL"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(name, names[i]))
            return true;
    return false;
}

static bool needs_memory(const tide_str *args, size_t count) {
    return is(args[0], "XADD") || is(args[0], "SET") ||
           (is(args[0], "XGROUP") && count > 1 && is(args[1], "CREATE"));
}

static bool is_greeting(tide_str name) {
    return is(name, "HELLO") || is(name, "CLIENT") || is(name, "AUTH") || is(name, "SELECT") ||
           is(name, "INFO");
}

/* False: the client blocks; its arguments are kept. */
static bool execute(sim_server *server, client *c, const tide_str *args, size_t count,
                    bool may_block, int64_t *block_ms) {
    bytes *out = &c->out;
    tide_str name = args[0];
    bool script = is(name, "EVALSHA") || is(name, "EVAL");
    switch (server->trouble) {
    case SIM_TROUBLE_LOADING:
        if (!is_greeting(name)) {
            reply_error(out, "LOADING Redis is loading the dataset in memory");
            return true;
        }
        break;
    case SIM_TROUBLE_READONLY:
        if (is_write(name) || script) {
            reply_error(out, "READONLY You can't write against a read only replica.");
            return true;
        }
        break;
    case SIM_TROUBLE_MISCONF:
        if (is_write(name) || script) {
            reply_error(out, "MISCONF Redis is configured to save RDB snapshots, but it's "
                             "currently unable to persist to disk.");
            return true;
        }
        break;
    case SIM_TROUBLE_OOM:
        if (needs_memory(args, count)) {
            refuses_memory(server, out);
            return true;
        }
        break;
    default: break;
    }
    if (is(name, "XREADGROUP"))
        return cmd_xreadgroup(server, args, count, out, may_block, block_ms);
    if (is(name, "XADD")) {
        cmd_xadd(server, args, count, out);
    } else if (is(name, "XACK")) {
        cmd_xack(server, args, count, out);
    } else if (is(name, "EVALSHA")) {
        cmd_eval(server, args, count, out, false);
    } else if (is(name, "EVAL")) {
        cmd_eval(server, args, count, out, true);
    } else if (is(name, "XAUTOCLAIM")) {
        cmd_xautoclaim(server, args, count, out);
    } else if (is(name, "XPENDING")) {
        cmd_xpending(server, args, count, out);
    } else if (is(name, "XCLAIM")) {
        cmd_xclaim(server, args, count, out);
    } else if (is(name, "XGROUP")) {
        cmd_xgroup(server, args, count, out);
    } else if (is(name, "XRANGE")) {
        cmd_xrange(server, args, count, out, false);
    } else if (is(name, "XREVRANGE")) {
        cmd_xrange(server, args, count, out, true);
    } else if (is(name, "XLEN") && count == 2) {
        stream *s;
        if (find_stream(server, args[1], &s, out))
            reply_int(out, s != NULL ? (int64_t)s->count : 0);
    } else if (is(name, "XINFO")) {
        cmd_xinfo(server, args, count, out);
    } else if (is(name, "XDEL")) {
        cmd_xdel(server, args, count, out);
    } else if (is(name, "XTRIM")) {
        cmd_xtrim(server, args, count, out);
    } else if (is(name, "CLIENT")) {
        cmd_client(server, c, args, count, out);
    } else if (is(name, "HELLO")) {
        reply_array(out, 4);
        reply_str(out, TIDE_STR("server"));
        reply_str(out, TIDE_STR("redis"));
        reply_str(out, TIDE_STR("version"));
        reply_str(out, TIDE_STR("7.0.15"));
    } else if (is(name, "INFO")) {
        reply_str(out, TIDE_STR("# Server\r\nredis_version:7.0.15\r\n"));
    } else if (is(name, "PING")) {
        put(out, "+PONG\r\n", 7);
    } else if (is(name, "SELECT") || is(name, "AUTH")) {
        reply_ok(out);
    } else if (is(name, "SET") && count == 3) {
        set_text(server, args[1], args[2], 0);
        reply_ok(out);
    } else if (is(name, "GET") && count == 2) {
        tide_str value;
        if (get_text(server, args[1], &value)) {
            reply_str(out, value);
        } else if (find(server, args[1]) != NULL) {
            reply_error(out, wrong_type);
        } else {
            reply_null(out);
        }
    } else if (is(name, "DEL") && count >= 2) {
        int64_t done = 0;
        for (size_t i = 1; i < count; i++)
            done += delete_key(server, args[i]);
        reply_int(out, done);
    } else if (is(name, "FLUSHALL")) {
        sim_server_flush_data(server);
        reply_ok(out);
    } else {
        put_format(out, "-ERR unknown command '%.*s'\r\n", (int)name.len, name.data);
    }
    return true;
}

/* ---- clients ---- */

/* One whole request at the front of `in`: true with its arguments. */
static bool parse_request(sim_server *server, client *c, size_t *count, size_t *used) {
    const char *data = c->in.data + c->in.begin;
    size_t size = c->in.size - c->in.begin, at = 0;
    if (size == 0)
        return false;
    if (data[0] != '*')
        abort(); /* the adapter never sends inline commands */
    uint64_t number = 0;
    const char *end = memchr(data, '\n', size);
    if (end == NULL || !tide_u64_parse((tide_str){data + 1, (size_t)(end - data) - 2}, &number))
        return false;
    at = (size_t)(end - data) + 1;
    assert(number > 0 && number <= ARGS_MAX);
    for (uint64_t i = 0; i < number; i++) {
        uint64_t len = 0;
        end = at < size ? memchr(data + at, '\n', size - at) : NULL;
        if (end == NULL)
            return false;
        if (data[at] != '$' ||
            !tide_u64_parse((tide_str){data + at + 1, (size_t)(end - data) - at - 2}, &len))
            abort();
        at = (size_t)(end - data) + 1;
        if (size - at < len + 2)
            return false;
        server->args[i] = (tide_str){data + at, (size_t)len};
        at += (size_t)len + 2;
    }
    *count = (size_t)number;
    *used = at;
    return true;
}

static void keep_blocked(client *c, const tide_str *args, size_t count, int64_t until_ms) {
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        size += args[i].len;
    c->blocked_args = grab(NULL, count * sizeof *c->blocked_args);
    c->blocked_memory = grab(NULL, size);
    char *at = c->blocked_memory;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, args[i].data, args[i].len);
        c->blocked_args[i] = (tide_str){at, args[i].len};
        at += args[i].len;
    }
    c->blocked_count = count;
    c->blocked = true;
    c->until_ms = until_ms;
}

static void run_client(sim_server *server, client *c) {
    size_t count, used;
    int64_t block_ms;
    while (!c->blocked && parse_request(server, c, &count, &used)) {
        if (!execute(server, c, server->args, count, true, &block_ms))
            keep_blocked(c, server->args, count,
                         block_ms == 0 ? INT64_MAX : server->now_ms + block_ms);
        c->in.begin += used;
    }
}

/* Serves blocked readers, oldest connection first, until nothing changes. */
static void serve_blocked(sim_server *server) {
    uint64_t seen;
    do {
        seen = server->dirty;
        for (size_t i = 0; i < server->client_count; i++) {
            client *c = &server->clients[i];
            int64_t block_ms;
            if (c->number == 0 || !c->blocked)
                continue;
            if (execute(server, c, c->blocked_args, c->blocked_count, true, &block_ms)) {
                unblock(c);
                run_client(server, c);
            }
        }
    } while (server->dirty != seen);
}

uint32_t sim_server_connect(sim_server *server) {
    size_t i = 0;
    while (i < server->client_count && server->clients[i].number != 0)
        i++;
    if (i == server->client_count) {
        server->clients = grab(server->clients, (i + 1) * sizeof *server->clients);
        server->client_count++;
    }
    server->clients[i] = (client){.number = ++server->last_client};
    return server->last_client;
}

void sim_server_disconnect(sim_server *server, uint32_t number) {
    client *c = client_of(server, number);
    if (c == NULL)
        return;
    unblock(c);
    free(c->in.data);
    free(c->out.data);
    *c = (client){0};
}

void sim_server_feed(sim_server *server, uint32_t number, const char *data, size_t size) {
    client *c = client_of(server, number);
    if (c == NULL)
        return;
    put(&c->in, data, size);
    uint64_t before = server->dirty;
    run_client(server, c);
    if (server->dirty != before)
        serve_blocked(server);
}

tide_str sim_server_output(sim_server *server, uint32_t number) {
    client *c = client_of(server, number);
    if (c == NULL)
        return (tide_str){NULL, 0};
    return (tide_str){c->out.data + c->out.begin, c->out.size - c->out.begin};
}

void sim_server_output_ack(sim_server *server, uint32_t number, size_t size) {
    client *c = client_of(server, number);
    if (c != NULL)
        c->out.begin += size;
}

void sim_server_set_time(sim_server *server, int64_t now_ms) {
    if (now_ms <= server->now_ms)
        return;
    server->now_ms = now_ms;
    uint64_t before = server->dirty;
    for (size_t i = 0; i < server->client_count; i++) {
        client *c = &server->clients[i];
        if (c->number != 0 && c->blocked && c->until_ms <= now_ms) {
            unblock(c);
            reply_null_array(&c->out);
            run_client(server, c);
        }
    }
    if (server->dirty != before)
        serve_blocked(server);
}

int64_t sim_server_deadline_ms(const sim_server *server) {
    int64_t deadline = INT64_MAX;
    for (size_t i = 0; i < server->client_count; i++) {
        const client *c = &server->clients[i];
        if (c->number != 0 && c->blocked && c->until_ms < deadline)
            deadline = c->until_ms;
    }
    return deadline;
}

void sim_server_set_trouble(sim_server *server, sim_trouble trouble) {
    server->trouble = trouble;
}

void sim_server_flush_scripts(sim_server *server) {
    memset(server->known, 0, sizeof server->known);
}

void sim_server_flush_data(sim_server *server) {
    for (size_t i = 0; i < BUCKETS; i++) {
        while (server->buckets[i] != NULL) {
            object *o = server->buckets[i];
            server->buckets[i] = o->next;
            object_clear(o);
            free(o->name);
            free(o);
        }
    }
    server->dirty++;
}

sim_server *sim_server_create(void) {
    sim_server *server = grab(NULL, sizeof *server);
    memset(server, 0, sizeof *server);
    return server;
}

void sim_server_destroy(sim_server *server) {
    for (size_t i = 0; i < server->client_count; i++)
        sim_server_disconnect(server, server->clients[i].number);
    sim_server_flush_data(server);
    free(server->clients);
    free(server);
}

/* ---- for checkers ---- */

static stream *stream_of(const sim_server *server, tide_str name) {
    object *o = find((sim_server *)(uintptr_t)server, name);
    return o != NULL && o->kind == KIND_STREAM ? o->stream : NULL;
}

size_t sim_server_pending(const sim_server *server, tide_str key, tide_str name, sim_pending *list,
                          size_t room) {
    group *g = find_group(stream_of(server, key), name);
    if (g == NULL)
        return 0;
    for (size_t i = 0; list != NULL && i < g->count && i < room; i++)
        list[i] = (sim_pending){.id = g->list[i].id,
                                .consumer = g->names[g->list[i].consumer],
                                .delivered_ms = g->list[i].time_ms,
                                .count = g->list[i].count};
    return g->count;
}

void sim_server_each(const sim_server *server, tide_str key, tide_str field, tide_str unless,
                     void (*visit)(void *context, tide_id id, tide_str value), void *context) {
    stream *s = stream_of(server, key);
    for (size_t i = 0; s != NULL && i < s->count; i++) {
        const entry *e = &s->entries[s->first + i];
        tide_str value = {"", 0};
        bool skip = false;
        for (size_t k = 0; k + 1 < e->count; k += 2) {
            if (tide_str_equal(e->fields[k], field))
                value = e->fields[k + 1];
            skip = skip || tide_str_equal(e->fields[k], unless);
        }
        if (!skip)
            visit(context, e->id, value);
    }
}

size_t sim_server_zcard(const sim_server *server, tide_str key) {
    object *o = find((sim_server *)(uintptr_t)server, key);
    return o != NULL && o->kind == KIND_ZSET ? o->member_count : 0;
}

size_t sim_server_undelivered(const sim_server *server, tide_str key, tide_str name) {
    stream *s = stream_of(server, key);
    group *g = find_group(s, name);
    if (s == NULL)
        return 0;
    if (g == NULL)
        return s->count;
    return s->count - entry_at(s, id_after(g->last));
}
