/* SPDX-License-Identifier: MIT */
/*
 * The yardstick: what plain C over hiredis reaches on the same server, with no Lua handler, no retries, no leases and
 * no bounds. One figure a run, one line of JSON on standard output:
 *
 *   bench-raw --port P --stream S --events N [--batch N] FIGURE
 *
 *   fill          N events, pipelined; not a figure: what the consuming figures read
 *   publish       N events, pipelined in batches, two batches in flight
 *   consume       N events by XREADGROUP, two reads in flight, one XACK a read, the type looked at
 *   consume-data  the same with cjson.decode of every payload in the same loop
 *   dedupe        idempotent publish: the server-side script of tidemill's Redis adapter, as many events a call
 *   append        append with expected version by its script, one event a call
 *   latency-read  blocking reads of one event after the other, each acked: µs from sending to here
 *   latency-send  1,000 events a second, for latency-read
 */
#define _GNU_SOURCE
#include <errno.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/redis/redis.h" /* the server-side scripts, so that both sides run the same */
#include "raw_common.h"

enum { RATE_PER_SECOND = 1000, LATENCY_WARM_UP = 500 };

typedef struct settings {
    int port;
    const char *stream;
    const char *figure;
    size_t events;
    size_t batch;
} settings;

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "bench-raw: %s: %s\n", what, detail ? detail : "?");
    exit(1);
}

static redisContext *connect_to(const settings *set) {
    redisContext *redis = redisConnect("127.0.0.1", set->port);
    if (!redis || redis->err)
        fail("connect", redis ? redis->errstr : "no memory");
    return redis;
}

static redisReply *next_reply(redisContext *redis) {
    void *reply = NULL;
    if (redisGetReply(redis, &reply) != REDIS_OK)
        fail("reply", redis->errstr);
    if (((redisReply *)reply)->type == REDIS_REPLY_ERROR)
        fail("server", ((redisReply *)reply)->str);
    return reply;
}

static void append_event(redisContext *redis, const char *stream, uint64_t number) {
    char id[40], payload[PAYLOAD_SIZE + 1];
    int id_size = snprintf(id, sizeof id, "00000000-0000-7000-8000-%012" PRIx64, number);
    make_payload(payload, number);
    const char *argv[] = {"XADD",
                          stream,
                          "*",
                          "event_id",
                          id,
                          "event_type",
                          "OrderPlaced",
                          "occurred_at",
                          "2026-01-01T00:00:00.000Z",
                          "data",
                          payload};
    size_t sizes[] = {4, strlen(stream), 1, 8, (size_t)id_size, 10, 11, 11, 24, 4, PAYLOAD_SIZE};
    if (redisAppendCommandArgv(redis, 11, argv, sizes) != REDIS_OK)
        fail("append", redis->errstr);
}

static void push(redisContext *redis) {
    int done = 0;
    while (!done)
        if (redisBufferWrite(redis, &done) != REDIS_OK)
            fail("write", redis->errstr);
}

/* The script's arguments: number, event id and payload live in `text` until the command is appended. */
typedef struct script_text {
    char key[96], id[40], payload[PAYLOAD_SIZE + 1];
} script_text;

static size_t add_record(const char **argv, script_text *text, uint64_t number) {
    snprintf(text->id, sizeof text->id, "00000000-0000-7000-8000-%012" PRIx64, number);
    make_payload(text->payload, number);
    const char *record[] = {"8",
                            "event_id",
                            text->id,
                            "event_type",
                            "OrderPlaced",
                            "occurred_at",
                            "2026-01-01T00:00:00.000Z",
                            "data",
                            text->payload};
    memcpy(argv, record, sizeof record);
    return sizeof record / sizeof *record;
}

static void append_script(redisContext *redis, const settings *set, uint64_t number, size_t count,
                          bool dedupe) {
    static script_text texts[REDIS_SCRIPT_RECORDS_MAX];
    static const char *argv[8 + REDIS_SCRIPT_RECORDS_MAX * 10];
    char keys[24], stream_key[96];
    redis_script script = dedupe ? SCRIPT_DEDUPE : SCRIPT_APPEND;
    size_t argc = 0;
    snprintf(keys, sizeof keys, "%zu", dedupe ? 1 + count : 2);
    argv[argc++] = "EVALSHA";
    argv[argc++] = redis_script_sha1(script).data;
    argv[argc++] = keys;
    argv[argc++] = set->stream;
    for (size_t i = 0; dedupe && i < count; i++) {
        snprintf(texts[i].key, sizeof texts[i].key, "{%s}:dedupe:00000000-0000-7000-8000-%012zx",
                 set->stream, (size_t)number + i);
        argv[argc++] = texts[i].key;
    }
    if (!dedupe) {
        snprintf(stream_key, sizeof stream_key, "{%s}:version", set->stream);
        argv[argc++] = stream_key;
    }
    argv[argc++] = dedupe ? "60000" : "any";
    argv[argc++] = "";
    argv[argc++] = "";
    for (size_t i = 0; i < count; i++)
        argc += add_record(argv + argc, &texts[i], number + i);
    if (redisAppendCommandArgv(redis, (int)argc, argv, NULL) != REDIS_OK)
        fail("append", redis->errstr);
}

typedef enum publish_kind { PUBLISH_PLAIN, PUBLISH_DEDUPE, PUBLISH_APPEND } publish_kind;

static void load_scripts(redisContext *redis) {
    static const redis_script scripts[] = {SCRIPT_DEDUPE, SCRIPT_APPEND};
    for (size_t i = 0; i < 2; i++) {
        tide_str text = redis_script_text(scripts[i]);
        redisReply *reply = redisCommand(redis, "SCRIPT LOAD %b", text.data, text.len);
        if (!reply || reply->type == REDIS_REPLY_ERROR)
            fail("script", redis->errstr);
        freeReplyObject(reply);
    }
}

/* Batches of set->batch events, two in flight; each batch is one or more commands. */
static void publish(const settings *set, publish_kind kind, bool report) {
    redisContext *redis = connect_to(set);
    if (kind != PUBLISH_PLAIN)
        load_scripts(redis);
    size_t a_command = kind == PUBLISH_DEDUPE ? REDIS_SCRIPT_RECORDS_MAX : 1;
    int64_t start = now_ns();
    double cpu = cpu_seconds();
    size_t sent = 0, answered = 0;
    while (answered < set->events) {
        while (sent < set->events && sent - answered < 2 * set->batch) {
            size_t until = sent + set->batch < set->events ? sent + set->batch : set->events;
            while (sent < until) {
                size_t count = until - sent < a_command ? until - sent : a_command;
                if (kind == PUBLISH_PLAIN)
                    append_event(redis, set->stream, sent);
                else
                    append_script(redis, set, sent, count, kind == PUBLISH_DEDUPE);
                sent += count;
            }
            push(redis);
        }
        size_t until = answered + set->batch < set->events ? answered + set->batch : set->events;
        while (answered < until) {
            answered += until - answered < a_command ? until - answered : a_command;
            freeReplyObject(next_reply(redis));
        }
    }
    if (report)
        print_rate(set->figure, set->events, now_ns() - start, cpu_seconds() - cpu);
    redisFree(redis);
}

static void make_group(redisContext *redis, const char *stream, const char *start) {
    redisReply *reply = redisCommand(redis, "XGROUP CREATE %s raw %s MKSTREAM", stream, start);
    if (!reply)
        fail("group", redis->errstr);
    freeReplyObject(reply);
}

static void ask(redisContext *redis, const settings *set) {
    if (redisAppendCommand(redis, "XREADGROUP GROUP raw c COUNT %d BLOCK 2000 STREAMS %s >",
                           (int)set->batch, set->stream) != REDIS_OK)
        fail("append", redis->errstr);
}

static const redisReply *field_of(const redisReply *fields, const char *name, size_t size) {
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (fields->element[i]->len == (size_t)size &&
            memcmp(fields->element[i]->str, name, size) == 0)
            return fields->element[i + 1];
    return NULL;
}

/* Looks at every event, decodes it when there is a Lua state, and appends one XACK. Returns how many there were. */
static size_t handle(redisContext *redis, const settings *set, const redisReply *reply,
                     lua_State *L, size_t *wanted) {
    if (reply->type != REDIS_REPLY_ARRAY)
        return 0;
    const redisReply *entries = reply->element[0]->element[1];
    size_t count = entries->elements;
    const char **argv = malloc((count + 3) * sizeof *argv);
    size_t *sizes = malloc((count + 3) * sizeof *sizes);
    if (!argv || !sizes)
        fail("memory", "none");
    argv[0] = "XACK", sizes[0] = 4;
    argv[1] = set->stream, sizes[1] = strlen(set->stream);
    argv[2] = "raw", sizes[2] = 3;
    for (size_t i = 0; i < count; i++) {
        const redisReply *entry = entries->element[i];
        const redisReply *type = field_of(entry->element[1], "event_type", 10);
        if (type && type->len == 11)
            ++*wanted;
        if (L) {
            const redisReply *data = field_of(entry->element[1], "data", 4);
            lua_pushvalue(L, 1);
            lua_pushlstring(L, data->str, data->len);
            if (lua_pcall(L, 1, 1, 0) != 0)
                fail("decode", lua_tostring(L, -1));
            lua_settop(L, 1);
        }
        argv[i + 3] = entry->element[0]->str;
        sizes[i + 3] = entry->element[0]->len;
    }
    if (redisAppendCommandArgv(redis, (int)count + 3, argv, sizes) != REDIS_OK)
        fail("ack", redis->errstr);
    free(argv);
    free(sizes);
    return count;
}

/* Replies come in the order of the commands: read, read, ack, read, ack, … */
static void consume(const settings *set, bool decode) {
    lua_State *L = NULL;
    if (decode) {
        L = luaL_newstate();
        luaL_openlibs(L);
        if (luaL_dostring(L, "return require 'cjson'.new().decode"))
            fail("cjson", lua_tostring(L, -1));
        lua_settop(L, 1);
    }
    redisContext *redis = connect_to(set);
    make_group(redis, set->stream, "0");
    int64_t start = now_ns();
    double cpu = cpu_seconds();
    size_t asked = 0, handled = 0, acked = 0, wanted = 0;
    enum { READ, ACK } order[8];
    size_t head = 0, tail = 0, batch_of[8], sizes_head = 0, sizes_tail = 0;
    for (int i = 0; i < 2; i++, asked += set->batch) {
        ask(redis, set);
        order[tail++ % 8] = READ;
    }
    while (acked < set->events) {
        redisReply *reply = next_reply(redis);
        if (order[head++ % 8] == ACK) {
            acked += batch_of[sizes_head++ % 8];
        } else {
            size_t count = handle(redis, set, reply, L, &wanted);
            handled += count;
            if (count) {
                order[tail++ % 8] = ACK;
                batch_of[sizes_tail++ % 8] = count;
            }
            if (asked <
                set->events) { /* a read too many would wait for nothing, and the ack behind it */
                ask(redis, set);
                asked += set->batch;
                order[tail++ % 8] = READ;
            }
            push(redis);
        }
        freeReplyObject(reply);
    }
    if (wanted != handled)
        fail("consume", "events of another type");
    print_rate(set->figure, set->events, now_ns() - start, cpu_seconds() - cpu);
    redisFree(redis);
    if (L)
        lua_close(L);
}

static void latency_send(const settings *set) {
    redisContext *redis = connect_to(set);
    int64_t next = now_ns();
    for (size_t i = 0; i < set->events; i++, next += 1000000000 / RATE_PER_SECOND) {
        struct timespec at = {.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
            continue;
        char payload[PAYLOAD_SIZE + 1];
        memset(payload, ' ', PAYLOAD_SIZE);
        payload[PAYLOAD_SIZE] = 0;
        int size = snprintf(payload, PAYLOAD_SIZE, "{\"sent\":%" PRId64, now_ns());
        payload[size] = ' ';
        payload[PAYLOAD_SIZE - 1] = '}';
        redisReply *reply =
            redisCommand(redis, "XADD %s * event_id %d event_type Ping occurred_at 0 data %b",
                         set->stream, (int)i, payload, (size_t)PAYLOAD_SIZE);
        if (!reply || reply->type == REDIS_REPLY_ERROR)
            fail("publish", redis->errstr);
        freeReplyObject(reply);
    }
    redisFree(redis);
}

static void latency_read(const settings *set) {
    redisContext *redis = connect_to(set);
    make_group(redis, set->stream, "$");
    int64_t *taken = malloc(set->events * sizeof *taken);
    if (!taken)
        fail("memory", "none");
    puts("ready");
    fflush(stdout);
    size_t count = 0;
    while (count < set->events) {
        redisReply *reply = redisCommand(
            redis, "XREADGROUP GROUP raw c COUNT 100 BLOCK 2000 STREAMS %s >", set->stream);
        if (!reply || reply->type == REDIS_REPLY_ERROR)
            fail("read", redis->errstr);
        for (size_t i = 0;
             reply->type == REDIS_REPLY_ARRAY && i < reply->element[0]->element[1]->elements; i++) {
            const redisReply *entry = reply->element[0]->element[1]->element[i];
            const redisReply *data = field_of(entry->element[1], "data", 4);
            if (count < set->events)
                taken[count++] = now_ns() - strtoll(data->str + 8, NULL, 10);
            freeReplyObject(
                redisCommand(redis, "XACK %s raw %s", set->stream, entry->element[0]->str));
        }
        freeReplyObject(reply);
    }
    size_t warm = count > 2 * LATENCY_WARM_UP ? LATENCY_WARM_UP : 0;
    qsort(taken + warm, count - warm, sizeof *taken, compare_ns);
    size_t kept = count - warm;
    printf("{\"figure\":\"%s\",\"events\":%zu,\"p50_us\":%.2f,\"p99_us\":%.2f}\n", set->figure,
           kept, (double)taken[warm + kept / 2] / 1e3, (double)taken[warm + kept * 99 / 100] / 1e3);
    free(taken);
    redisFree(redis);
}

int main(int argc, char **argv) {
    settings set = {.port = 6379, .stream = "bench", .events = 200000, .batch = 500};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (more && strcmp(argv[i], "--port") == 0)
            set.port = atoi(argv[++i]);
        else if (more && strcmp(argv[i], "--stream") == 0)
            set.stream = argv[++i];
        else if (more && strcmp(argv[i], "--events") == 0)
            set.events = strtoul(argv[++i], NULL, 10);
        else if (more && strcmp(argv[i], "--batch") == 0)
            set.batch = strtoul(argv[++i], NULL, 10);
        else if (argv[i][0] != '-')
            set.figure = argv[i];
        else
            fail("unknown option", argv[i]);
    }
    if (!set.figure)
        fail("usage", "bench-raw [--port P] [--stream S] [--events N] [--batch N] FIGURE");
    if (strcmp(set.figure, "fill") == 0)
        publish(&set, PUBLISH_PLAIN, false);
    else if (strcmp(set.figure, "publish") == 0)
        publish(&set, PUBLISH_PLAIN, true);
    else if (strcmp(set.figure, "dedupe") == 0)
        publish(&set, PUBLISH_DEDUPE, true);
    else if (strcmp(set.figure, "append") == 0)
        publish(&set, PUBLISH_APPEND, true);
    else if (strcmp(set.figure, "consume") == 0)
        consume(&set, false);
    else if (strcmp(set.figure, "consume-data") == 0)
        consume(&set, true);
    else if (strcmp(set.figure, "latency-send") == 0)
        latency_send(&set);
    else if (strcmp(set.figure, "latency-read") == 0)
        latency_read(&set);
    else
        fail("unknown figure", set.figure);
    return 0;
}
