/* SPDX-License-Identifier: MIT */
/*
 * What it is: the server-side scripts of broker/redis, each as C of the same effect; strings, sets and hashes as they need them.
 * What it is not: a Lua interpreter: other scripts are refused.
 * Invariants: what a script refuses it refuses before its first write.
 */
#include "server_data.h"

#include <stdlib.h>
#include <string.h>

/* ---- strings, sets and hashes, as the scripts need them ---- */

void sim__set_text(sim_server *server, tide_str key, tide_str value, int64_t ttl_ms) {
    object *o = sim__find(server, key);
    if (o != NULL)
        sim__object_clear(o);
    if (o == NULL)
        o = sim__make(server, key, KIND_STRING);
    o->kind = KIND_STRING;
    o->text = sim__copy_text(value);
    o->text_len = value.len;
    o->expires_ms = ttl_ms > 0 ? server->now_ms + ttl_ms : 0;
    server->dirty++;
}

bool sim__get_text(sim_server *server, tide_str key, tide_str *value) {
    object *o = sim__find(server, key);
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
    object *o = sim__find(server, key);
    if (o == NULL)
        o = sim__make(server, key, k);
    member *old = member_of(o, name);
    member made = {.score = score, .value = sim__copy_text(value), .value_len = value.len};
    if (old != NULL) {
        made.name = old->name;
        made.name_len = old->name_len;
        free(old->value);
        memmove(old, old + 1, (o->member_count - (size_t)(old - o->members) - 1) * sizeof *old);
        o->member_count--;
    } else {
        made.name = sim__copy_text(name);
        made.name_len = name.len;
        o->members = sim__grab(o->members, (o->member_count + 1) * sizeof *o->members);
    }
    size_t at = o->member_count++;
    while (at > 0 && member_before(&made, &o->members[at - 1])) {
        o->members[at] = o->members[at - 1];
        at--;
    }
    o->members[at] = made;
}

static bool member_drop(sim_server *server, tide_str key, tide_str name) {
    object *o = sim__find(server, key);
    member *m = member_of(o, name);
    if (m == NULL)
        return false;
    free(m->name);
    free(m->value);
    memmove(m, m + 1, (o->member_count - (size_t)(m - o->members) - 1) * sizeof *m);
    if (--o->member_count == 0)
        sim__delete_key(server, key);
    return true;
}

/* ---- scripts ---- */

bool sim__refuses_memory(const sim_server *server, bytes *out) {
    if (server->trouble != SIM_TROUBLE_OOM)
        return false;
    sim__reply_error(out, "OOM command not allowed when used memory > 'maxmemory'.");
    return true;
}

/* XADD's arguments behind the key: the trimming that argv[1] and argv[2] ask for, "*", then the record at `at`: how many
 * fields and values, and they. Advances `at` behind it; room for two more is left. */
enum { RECORD_ARGS_MAX = 80 };
static size_t record_args(const tide_str *argv, size_t *at, tide_str *args) {
    uint64_t count = 0;
    tide_u64_parse(argv[*at], &count);
    size_t n = 0;
    if (argv[1].len > 0) {
        args[n++] = TIDE_STR("MAXLEN");
        args[n++] = argv[1];
        args[n++] = argv[2];
    }
    args[n++] = TIDE_STR("*");
    for (uint64_t k = 0; k < count && n < RECORD_ARGS_MAX - 2; k++)
        args[n++] = argv[*at + 1 + k];
    *at += 1 + (size_t)count;
    return n;
}

static void script_dedupe(sim_server *server, const tide_str *keys, size_t key_count,
                          const tide_str *argv, bytes *out) {
    int64_t window = 0;
    tide_i64_parse(argv[0], &window);
    size_t at = 3;
    sim__reply_array(out, (key_count - 1) * 2);
    for (size_t i = 1; i < key_count; i++) {
        tide_str args[RECORD_ARGS_MAX];
        size_t n = record_args(argv, &at, args);
        tide_str there;
        if (sim__get_text(server, keys[i], &there)) {
            sim__reply_str(out, there);
            sim__reply_int(out, 1);
        } else if (server->trouble == SIM_TROUBLE_OOM) {
            sim__refuses_memory(server, out);
            sim__reply_int(out, 0);
        } else {
            bytes one = {0};
            if (sim__add_entry(server, keys[0], args, n, &one)) {
                char *line = (char *)memchr(one.data, '\n', one.size) + 1;
                sim__set_text(server, keys[i],
                              (tide_str){line, (size_t)(one.data + one.size - 2 - line)}, window);
            }
            sim__put(out, one.data, one.size);
            free(one.data);
            sim__reply_int(out, 0);
        }
    }
}

static void script_append(sim_server *server, const tide_str *keys, const tide_str *argv,
                          size_t argc, bytes *out) {
    uint64_t version = 0;
    tide_str text;
    stream *s;
    if (sim__get_text(server, keys[1], &text)) {
        tide_u64_parse(text, &version);
    } else if (!sim__find_stream(server, keys[0], &s, out)) {
        return;
    } else if (s != NULL) {
        version = s->count;
    }
    uint64_t wanted = 0;
    bool wrong = (sim__is(argv[0], "no_stream") && version != 0) ||
                 (sim__is(argv[0], "exists") && version == 0) ||
                 (argv[0].data[0] == '=' &&
                  (!tide_u64_parse((tide_str){argv[0].data + 1, argv[0].len - 1}, &wanted) ||
                   wanted != version));
    if (wrong) {
        sim__reply_array(out, 2);
        sim__reply_int(out, 0);
        sim__reply_int(out, (int64_t)version);
        return;
    }
    if (sim__refuses_memory(server, out))
        return;
    bytes ids = {0};
    size_t number = 0;
    for (size_t at = 3; at < argc;) {
        char digits[TIDE_U64_DIGITS_MAX];
        tide_str args[RECORD_ARGS_MAX];
        size_t n = record_args(argv, &at, args);
        args[n++] = TIDE_STR("version");
        args[n++] = (tide_str){digits, tide_u64_format(digits, ++version)};
        sim__add_entry(server, keys[0], args, n, &ids);
        number++;
    }
    char digits[TIDE_U64_DIGITS_MAX];
    sim__set_text(server, keys[1], (tide_str){digits, tide_u64_format(digits, version)}, 0);
    sim__reply_array(out, 2 + number);
    sim__reply_int(out, 1);
    sim__reply_int(out, (int64_t)version);
    sim__put(out, ids.data, ids.size);
    free(ids.data);
}

static void script_schedule(sim_server *server, const tide_str *keys, const tide_str *argv,
                            size_t argc, bytes *out) {
    if (sim__refuses_memory(server, out))
        return;
    int64_t due = 0, window = 0;
    tide_i64_parse(argv[1], &due);
    tide_i64_parse(argv[2], &window);
    if (sim__is(argv[0], "in"))
        due += server->now_ms;
    const object *set = sim__find(server, keys[0]);
    bool is_first = set == NULL || (double)due < set->members[0].score;
    bool added = false;
    sim__reply_array(out, (argc - 3) / 2);
    for (size_t i = 3; i + 1 < argc; i += 2) {
        tide_str key = window > 0 ? keys[3 + (i - 3) / 2] : (tide_str){NULL, 0};
        bool hit = (window > 0 && sim__find(server, key) != NULL) ||
                   member_of(sim__find(server, keys[0]), argv[i]) != NULL;
        if (!hit) {
            added = true;
            member_set(server, keys[0], KIND_ZSET, argv[i], (double)due, (tide_str){"", 0});
            member_set(server, keys[1], KIND_HASH, argv[i], 0, argv[i + 1]);
            if (window > 0)
                sim__set_text(server, key, TIDE_STR("0-0"),
                              window + (due > server->now_ms ? due - server->now_ms : 0));
        }
        sim__reply_int(out, hit);
    }
    if (!added || !is_first || due >= server->now_ms + 60000)
        return;
    char digits[TIDE_U64_DIGITS_MAX];
    const tide_str wake[] = {TIDE_STR("MAXLEN"),
                             TIDE_STR("8"),
                             TIDE_STR("*"),
                             TIDE_STR("due"),
                             {digits, tide_u64_format(digits, (uint64_t)due)}};
    bytes ignored = {0};
    if (sim__add_entry(server, keys[2], wake, sizeof wake / sizeof *wake, &ignored))
        sim__find(server, keys[2])->expires_ms = server->now_ms + 5000;
    free(ignored.data);
}

static bool read_u32(tide_str packed, size_t *at, uint32_t *number) {
    if (packed.len - *at < 4)
        return false;
    const unsigned char *u = (const unsigned char *)packed.data + *at;
    *number = (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    *at += 4;
    return true;
}

/* The arguments of its XADD, to be freed; NULL when it is damaged. */
static tide_str *unpack(tide_str packed, size_t *count) {
    size_t at = 0;
    uint32_t n = 0;
    if (!read_u32(packed, &at, &n) || n > 7500)
        return NULL;
    tide_str *args = sim__grab(NULL, (n + 1) * sizeof *args);
    bool fine = true;
    for (uint32_t i = 0; fine && i < n; i++) {
        uint32_t len = 0;
        fine = read_u32(packed, &at, &len) && packed.len - at >= len;
        args[i] = (tide_str){packed.data + at, len};
        at += fine ? len : 0;
    }
    uint32_t star = 0;
    uint64_t most;
    if (fine && n >= 4 && tide_str_equal(args[0], TIDE_STR("MAXLEN"))) {
        star = 3;
        fine = (sim__is(args[1], "~") || sim__is(args[1], "=")) && args[2].len <= 18 &&
               tide_u64_parse(args[2], &most);
    }
    fine =
        fine && n >= star + 3 && tide_str_equal(args[star], TIDE_STR("*")) && (n - star) % 2 == 1;
    if (!fine) {
        free(args);
        return NULL;
    }
    *count = n;
    return args;
}

/* False: not even that. */
static bool bury(sim_server *server, const tide_str *keys, tide_str name, tide_str packed) {
    char digits[TIDE_U64_DIGITS_MAX];
    tide_str now = {digits, tide_u64_format(digits, (uint64_t)server->now_ms)};
    const tide_str args[] = {TIDE_STR("*"),
                             TIDE_STR("event_id"),
                             name,
                             TIDE_STR("data"),
                             packed,
                             TIDE_STR("content_type"),
                             TIDE_STR("application/octet-stream"),
                             TIDE_STR("dead_reason"),
                             TIDE_STR("undecodable"),
                             TIDE_STR("dead_error"),
                             TIDE_STR("the delayed event is damaged"),
                             TIDE_STR("dead_stream"),
                             keys[0],
                             TIDE_STR("dead_id"),
                             TIDE_STR("0-0"),
                             TIDE_STR("dead_group"),
                             TIDE_STR(""),
                             TIDE_STR("dead_consumer"),
                             TIDE_STR(""),
                             TIDE_STR("dead_attempts"),
                             TIDE_STR("0"),
                             TIDE_STR("dead_first_at"),
                             now,
                             TIDE_STR("dead_at"),
                             now};
    bytes ignored = {0};
    bool added = sim__add_entry(server, keys[3], args, sizeof args / sizeof *args, &ignored);
    free(ignored.data);
    return added;
}

static void script_promote(sim_server *server, const tide_str *keys, const tide_str *argv,
                           bytes *out) {
    int64_t most = 0;
    tide_i64_parse(argv[0], &most);
    int64_t moved = 0, broken = 0;
    object *set = sim__find(server, keys[1]);
    if (set != NULL && set->member_count > 0 && set->members[0].score <= (double)server->now_ms &&
        sim__refuses_memory(server, out))
        return;
    while (moved + broken < most && (set = sim__find(server, keys[1])) != NULL &&
           set->members[0].score <= (double)server->now_ms) {
        tide_str name = {set->members[0].name, set->members[0].name_len};
        member *packed = member_of(sim__find(server, keys[2]), name);
        tide_str text = {"", 0};
        if (packed != NULL)
            text = (tide_str){packed->value, packed->value_len};
        size_t count = 0;
        tide_str *args = unpack(text, &count);
        bool kept = false;
        if (args != NULL) {
            bytes ignored = {0};
            bool added = sim__add_entry(server, keys[0], args, count, &ignored);
            free(args);
            if (!added) {
                sim__put(out, ignored.data, ignored.size);
                free(ignored.data);
                return;
            }
            free(ignored.data);
            moved++;
        } else {
            kept = !bury(server, keys, name, text);
            broken++;
        }
        char *copy = sim__copy_text(name);
        name.data = copy;
        if (kept) {
            member_set(server, keys[1], KIND_ZSET, name, (double)(server->now_ms + 60000),
                       (tide_str){"", 0});
        } else {
            member_drop(server, keys[1], name);
            member_drop(server, keys[2], name);
        }
        free(copy);
    }
    set = sim__find(server, keys[1]);
    int64_t wait = -1;
    if (set != NULL) {
        wait = (int64_t)set->members[0].score - server->now_ms;
        if (wait < 0)
            wait = 0;
    }
    sim__reply_array(out, 3);
    sim__reply_int(out, moved);
    sim__reply_int(out, wait);
    sim__reply_int(out, broken);
}

/* Of the entry argv[2] of keys[0], when it is pending in group argv[0] for consumer argv[1] and may be moved: its stream and
 * id. False: that was answered. */
static bool may_move(sim_server *server, const tide_str *keys, const tide_str *argv, stream **s,
                     tide_id *id, bytes *out) {
    group *g = sim__find_group_or_say(server, keys[0], argv[0], s, out);
    if (g == NULL || !tide_id_parse(argv[2], 0, id))
        return false;
    uint32_t consumer = UINT32_MAX;
    sim__find_consumer(g, argv[1], &consumer);
    const pending *p = sim__find_pending(g, *id);
    if (p == NULL || p->consumer != consumer) {
        sim__reply_int(out, 0);
        return false;
    }
    return !sim__refuses_memory(server, out);
}

static void script_dead(sim_server *server, const tide_str *keys, const tide_str *argv, size_t argc,
                        bytes *out) {
    stream *s;
    tide_id id;
    if (!may_move(server, keys, argv, &s, &id, out))
        return;
    tide_str *args = sim__grab(NULL, argc * sizeof *args);
    args[0] = TIDE_STR("*");
    memcpy(args + 1, argv + 3, (argc - 3) * sizeof *args);
    bytes added = {0};
    if (sim__add_entry(server, keys[1], args, argc - 2, &added)) {
        sim__ack(s, argv[0], id);
        sim__reply_int(out, 1);
    } else {
        sim__put(out, added.data, added.size);
    }
    free(added.data);
    free(args);
}

static void script_delay(sim_server *server, const tide_str *keys, const tide_str *argv,
                         bytes *out) {
    stream *s;
    tide_id id;
    if (!may_move(server, keys, argv, &s, &id, out))
        return;
    int64_t delay = 0;
    tide_i64_parse(argv[4], &delay);
    member_set(server, keys[1], KIND_ZSET, argv[3], (double)(server->now_ms + delay),
               (tide_str){"", 0});
    member_set(server, keys[2], KIND_HASH, argv[3], 0, argv[5]);
    sim__ack(s, argv[0], id);
    sim__reply_int(out, 1);
}

static void script_own(sim_server *server, const tide_str *keys, const tide_str *argv, size_t argc,
                       bytes *out) {
    stream *s;
    group *g = sim__find_group_or_say(server, keys[0], argv[0], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = UINT32_MAX;
    sim__find_consumer(g, argv[1], &consumer);
    sim__reply_array(out, (argc - 2) / 3);
    for (size_t i = 2; i + 2 < argc; i += 3) {
        tide_id id = {0, 0};
        uint64_t count = 0;
        tide_id_parse(argv[i + 1], 0, &id);
        tide_u64_parse(argv[i + 2], &count);
        pending *p = sim__find_pending(g, id);
        bool own = p != NULL && p->consumer == consumer;
        if (own && sim__find_entry(s, id) == NULL) {
            sim__drop_pending(g, p);
        } else if (own) {
            p->time_ms = server->now_ms - (sim__is(argv[i], "release") ? 86400000 : 0);
            p->count = (uint32_t)count;
        }
        sim__reply_int(out, own);
    }
}

static void script_extend(sim_server *server, const tide_str *keys, const tide_str *argv,
                          size_t argc, bytes *out) {
    stream *s;
    group *g = sim__find_group_or_say(server, keys[0], argv[0], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = UINT32_MAX;
    sim__find_consumer(g, argv[1], &consumer);
    bytes lost = {0};
    size_t number = 0;
    for (size_t i = 2; i < argc; i++) {
        tide_id id = {0, 0};
        tide_id_parse(argv[i], 0, &id);
        pending *p = sim__find_pending(g, id);
        bool own = p != NULL && p->consumer == consumer;
        if (own && sim__find_entry(s, id) == NULL) {
            sim__drop_pending(g, p);
            own = false;
        }
        if (own) {
            p->time_ms = server->now_ms;
        } else {
            sim__reply_str(&lost, argv[i]);
            number++;
        }
    }
    sim__reply_array(out, number);
    sim__put(out, lost.data, lost.size);
    free(lost.data);
}

static void script_gone(sim_server *server, const tide_str *keys, const tide_str *argv,
                        bytes *out) {
    stream *s;
    group *g = sim__find_group_or_say(server, keys[0], argv[0], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = UINT32_MAX;
    sim__find_consumer(g, argv[1], &consumer);
    tide_id low, high;
    uint64_t most = 0;
    tide_u64_parse(argv[4], &most);
    if (!sim__parse_bound(argv[2], false, &low, out) ||
        !sim__parse_bound(argv[3], true, &high, out))
        return;
    bytes rows = {0};
    size_t number = 0;
    for (size_t k = sim__pending_at(g, low); k < g->count && number < most; k++) {
        if (tide_id_compare(g->list[k].id, high) > 0)
            break;
        if (g->list[k].consumer != consumer || sim__find_entry(s, g->list[k].id) != NULL)
            continue;
        sim__reply_id(&rows, g->list[k].id);
        sim__reply_int(&rows, g->list[k].count);
        number++;
    }
    sim__reply_array(out, number * 2);
    sim__put(out, rows.data, rows.size);
    free(rows.data);
}

void sim__cmd_eval(sim_server *server, const tide_str *args, size_t count, bytes *out,
                   bool by_text) {
    uint64_t key_count;
    if (count < 3 || !tide_u64_parse(args[2], &key_count) || key_count > count - 3) {
        sim__reply_error(out, SIM_NOT_INTEGER);
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
        sim__reply_error(out, "ERR the simulated server doesn't know this script");
        return;
    }
    if (!by_text && (script == SCRIPT_NONE || !server->known[script])) {
        sim__reply_error(out, "NOSCRIPT No matching script. Please use EVAL.");
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
        sim__reply_int(out, member_drop(server, keys[0], argv[0]));
        member_drop(server, keys[1], argv[0]);
        break;
    case SCRIPT_PROMOTE: script_promote(server, keys, argv, out); break;
    case SCRIPT_DEAD: script_dead(server, keys, argv, argc, out); break;
    case SCRIPT_DELAY: script_delay(server, keys, argv, out); break;
    case SCRIPT_OWN: script_own(server, keys, argv, argc, out); break;
    case SCRIPT_EXTEND: script_extend(server, keys, argv, argc, out); break;
    case SCRIPT_GONE: script_gone(server, keys, argv, out); break;
    default: sim__reply_error(out, "ERR the simulated server doesn't do this script"); break;
    }
}
