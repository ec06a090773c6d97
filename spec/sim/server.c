/* SPDX-License-Identifier: MIT */
/*
 * What it is: the server of the simulator: RESP in, RESP out, the stream commands with Redis 7.0's own semantics.
 * What it is not: complete, fast or persistent; other commands answer -ERR unknown command.
 * Invariants: replies of a client keep the order of its requests; while a client is blocked its later requests wait; entries
 * and pending lists are ascending by id; nothing depends on addresses or the real time, so a run repeats exactly.
 */
#include "server_data.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the connection asks, and who answers what ---- */

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
    if (count >= 2 && sim__is(args[1], "ID")) {
        sim__reply_int(out, c->number);
    } else if (count >= 3 && sim__is(args[1], "SETNAME")) {
        sim__reply_ok(out);
    } else if (count >= 3 && sim__is(args[1], "UNBLOCK")) {
        uint64_t number = 0;
        tide_u64_parse(args[2], &number);
        client *other = number > 0 ? client_of(server, (uint32_t)number) : NULL;
        bool done = other != NULL && other->blocked;
        if (done) {
            unblock(other);
            sim__reply_null_array(&other->out);
        }
        sim__reply_int(out, done);
    } else {
        sim__reply_error(out, "ERR unknown subcommand"); /* 7.0 has no SETINFO */
    }
}

static bool is_write(tide_str name) {
    static const char *const names[] = {"XADD",       "XREADGROUP", "XACK",    "XCLAIM",
                                        "XAUTOCLAIM", "XGROUP",     "XDEL",    "XTRIM",
                                        "SET",        "DEL",        "FLUSHALL"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sim__is(name, names[i]))
            return true;
    return false;
}

static bool needs_memory(const tide_str *args, size_t count) {
    return sim__is(args[0], "XADD") || sim__is(args[0], "SET") ||
           (sim__is(args[0], "XGROUP") && count > 1 && sim__is(args[1], "CREATE"));
}

static bool is_greeting(tide_str name) {
    return sim__is(name, "HELLO") || sim__is(name, "CLIENT") || sim__is(name, "AUTH") ||
           sim__is(name, "SELECT") || sim__is(name, "INFO");
}

/* False: the client blocks; its arguments are kept. */
static bool execute(sim_server *server, client *c, const tide_str *args, size_t count,
                    bool may_block, int64_t *block_ms) {
    bytes *out = &c->out;
    tide_str name = args[0];
    server->served = c->number;
    bool script = sim__is(name, "EVALSHA") || sim__is(name, "EVAL");
    switch (server->trouble) {
    case SIM_TROUBLE_LOADING:
        if (!is_greeting(name)) {
            sim__reply_error(out, "LOADING Redis is loading the dataset in memory");
            return true;
        }
        break;
    case SIM_TROUBLE_READONLY:
        if (is_write(name) || script) {
            sim__reply_error(out, "READONLY You can't write against a read only replica.");
            return true;
        }
        break;
    case SIM_TROUBLE_MISCONF:
        if (is_write(name) || script) {
            sim__reply_error(out, "MISCONF Redis is configured to save RDB snapshots, but it's "
                                  "currently unable to persist to disk.");
            return true;
        }
        break;
    case SIM_TROUBLE_OOM:
        if (needs_memory(args, count)) {
            sim__refuses_memory(server, out);
            return true;
        }
        break;
    default: break;
    }
    if (sim__is(name, "XREADGROUP"))
        return sim__cmd_xreadgroup(server, args, count, out, may_block, block_ms);
    if (sim__is(name, "XREAD"))
        return sim__cmd_xread(server, args, count, out, may_block, block_ms);
    if (sim__is(name, "XADD")) {
        sim__cmd_xadd(server, args, count, out);
    } else if (sim__is(name, "XACK")) {
        sim__cmd_xack(server, args, count, out);
    } else if (sim__is(name, "EVALSHA")) {
        sim__cmd_eval(server, args, count, out, false);
    } else if (sim__is(name, "EVAL")) {
        sim__cmd_eval(server, args, count, out, true);
    } else if (sim__is(name, "XAUTOCLAIM")) {
        sim__cmd_xautoclaim(server, args, count, out);
    } else if (sim__is(name, "XPENDING")) {
        sim__cmd_xpending(server, args, count, out);
    } else if (sim__is(name, "XCLAIM")) {
        sim__cmd_xclaim(server, args, count, out);
    } else if (sim__is(name, "XGROUP")) {
        sim__cmd_xgroup(server, args, count, out);
    } else if (sim__is(name, "XRANGE")) {
        sim__cmd_xrange(server, args, count, out, false);
    } else if (sim__is(name, "XREVRANGE")) {
        sim__cmd_xrange(server, args, count, out, true);
    } else if (sim__is(name, "XLEN") && count == 2) {
        stream *s;
        if (sim__find_stream(server, args[1], &s, out))
            sim__reply_int(out, s != NULL ? (int64_t)s->count : 0);
    } else if (sim__is(name, "XINFO")) {
        sim__cmd_xinfo(server, args, count, out);
    } else if (sim__is(name, "XDEL")) {
        sim__cmd_xdel(server, args, count, out);
    } else if (sim__is(name, "XTRIM")) {
        sim__cmd_xtrim(server, args, count, out);
    } else if (sim__is(name, "CLIENT")) {
        cmd_client(server, c, args, count, out);
    } else if (sim__is(name, "HELLO")) {
        sim__reply_array(out, 4);
        sim__reply_str(out, TIDE_STR("server"));
        sim__reply_str(out, TIDE_STR("redis"));
        sim__reply_str(out, TIDE_STR("version"));
        sim__reply_str(out, TIDE_STR("7.0.15"));
    } else if (sim__is(name, "INFO")) {
        sim__reply_str(out, TIDE_STR("# Server\r\nredis_version:7.0.15\r\n"));
    } else if (sim__is(name, "PING")) {
        sim__put(out, "+PONG\r\n", 7);
    } else if (sim__is(name, "SELECT") || sim__is(name, "AUTH")) {
        sim__reply_ok(out);
    } else if (sim__is(name, "SET") && count == 3) {
        sim__set_text(server, args[1], args[2], 0);
        sim__reply_ok(out);
    } else if (sim__is(name, "GET") && count == 2) {
        tide_str value;
        if (sim__get_text(server, args[1], &value)) {
            sim__reply_str(out, value);
        } else if (sim__find(server, args[1]) != NULL) {
            sim__reply_error(out, SIM_WRONG_TYPE);
        } else {
            sim__reply_null(out);
        }
    } else if (sim__is(name, "DEL") && count >= 2) {
        int64_t done = 0;
        for (size_t i = 1; i < count; i++)
            done += sim__delete_key(server, args[i]);
        sim__reply_int(out, done);
    } else if (sim__is(name, "FLUSHALL")) {
        sim_server_flush_data(server);
        sim__reply_ok(out);
    } else {
        sim__put_format(out, "-ERR unknown command '%.*s'\r\n", (int)name.len, name.data);
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
    c->blocked_args = sim__grab(NULL, count * sizeof *c->blocked_args);
    c->blocked_memory = sim__grab(NULL, size);
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
        server->clients = sim__grab(server->clients, (i + 1) * sizeof *server->clients);
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
    sim__put(&c->in, data, size);
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
            sim__reply_null_array(&c->out);
            run_client(server, c);
        }
    }
    if (server->dirty != before)
        serve_blocked(server);
}

void sim_server_set_clock(sim_server *server, int64_t now_ms) {
    server->now_ms = now_ms;
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

void sim_server_warm_up(sim_server *server) {
    memset(server->known, 1, sizeof server->known);
}

void sim_server_flush_scripts(sim_server *server) {
    memset(server->known, 0, sizeof server->known);
}

void sim_server_flush_data(sim_server *server) {
    for (size_t i = 0; i < BUCKETS; i++) {
        while (server->buckets[i] != NULL) {
            object *o = server->buckets[i];
            server->buckets[i] = o->next;
            sim__object_clear(o);
            free(o->name);
            free(o);
        }
    }
    server->dirty++;
}

sim_server *sim_server_create(void) {
    sim_server *server = sim__grab(NULL, sizeof *server);
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

void sim_server_watch(sim_server *server, sim_watch watch, void *context) {
    server->watch = watch;
    server->watch_context = context;
}

static stream *stream_of(const sim_server *server, tide_str name) {
    object *o = sim__find((sim_server *)(uintptr_t)server, name);
    return o != NULL && o->kind == KIND_STREAM ? o->stream : NULL;
}

size_t sim_server_pending(const sim_server *server, tide_str key, tide_str name, sim_pending *list,
                          size_t room) {
    group *g = sim__find_group(stream_of(server, key), name);
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
    object *o = sim__find((sim_server *)(uintptr_t)server, key);
    return o != NULL && o->kind == KIND_ZSET ? o->member_count : 0;
}

tide_id sim_server_read_up_to(const sim_server *server, tide_str key, tide_str name) {
    group *g = sim__find_group(stream_of(server, key), name);
    return g != NULL ? g->last : (tide_id){0, 0};
}

size_t sim_server_undelivered(const sim_server *server, tide_str key, tide_str name) {
    stream *s = stream_of(server, key);
    group *g = sim__find_group(s, name);
    if (s == NULL)
        return 0;
    if (g == NULL)
        return s->count;
    return s->count - sim__entry_at(s, sim__id_after(g->last));
}
