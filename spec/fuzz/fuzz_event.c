/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what becomes an event. The first byte says which way the rest goes:
 *   even  fields of an entry, written to a memory: bus and consumed there by a Lua handler that reads all of it
 *         (event.lua beside this file); what was written and what is read must be the same
 *   odd   a server's reply to XREADGROUP, cut at every place: one completion, the same for every cut
 * A field is a name and a value, each a byte for its length and that many bytes; a name below 16 is one of `known`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/url.h"
#include "broker/broker.h"
#include "c/support/lua_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* ---- through the bus ---- */

enum { FIELDS_MAX = 64, KNOWN = 16, VALUE_LONG = 0xe0 };

static const char *const known[KNOWN] = {
    "event_id", "event_type",   "aggregate_id", "aggregate_type", "version",   "occurred_at",
    "data",     "content_type", "payload",      "event_data",     "timestamp", "type",
    "id",       "traceparent",  "causation_id", "correlation_id",
};

static lua_State *open_lua(void) {
    lua_State *L = luaL_newstate();
    check(L != NULL, "no memory for Lua");
    lua_state_prepare(L);
    /* Leaves the function that takes fields. */
    if (luaL_dofile(L, TIDE_FUZZ_DIR "/event.lua") != LUA_OK)
        check(false, lua_tostring(L, -1));
    return L;
}

/* Takes `wanted` bytes, or what is left. */
static tide_str take(const char **at, const char *end, size_t wanted) {
    size_t left = (size_t)(end - *at);
    tide_str text = {*at, wanted < left ? wanted : left};
    *at += text.len;
    return text;
}

static void consume_event(const char *at, const char *end, int verdict) {
    static lua_State *L;
    if (L == NULL)
        L = open_lua();
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, verdict);
    int count = 0;
    luaL_checkstack(L, 2 * FIELDS_MAX, NULL);
    while (at < end && count < FIELDS_MAX) {
        uint8_t length = (uint8_t)*at++;
        tide_str name =
            length < KNOWN ? tide_str_from(known[length]) : take(&at, end, length - KNOWN);
        size_t wanted = 0;
        if (at < end) {
            wanted = (uint8_t)*at++;
            if (wanted >= VALUE_LONG)
                wanted = (wanted - VALUE_LONG + 1) * 256;
        }
        tide_str value = take(&at, end, wanted);
        lua_pushlstring(L, name.data, name.len);
        lua_pushlstring(L, value.data, value.len);
        count++;
    }
    if (count == 0)
        return;
    if (lua_pcall(L, 1 + 2 * count, 0, 0) != LUA_OK)
        check(false, lua_tostring(L, -1));
}

/* ---- through the adapter ---- */

enum { REPLY_MAX = 2000, CUTS_MAX = 160, READER_LINK = 1 };

#define GREETING_REPLIES                                                                           \
    "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n"                       \
    "+OK\r\n-ERR no\r\n-ERR no\r\n:77\r\n$24\r\nredis_version:7.0.15\r\n\r\n\r\n+PONG\r\n"

typedef struct outcome {
    tide_status status;
    uint64_t hash;
    size_t completions;
} outcome;

static void mix(outcome *out, uint64_t value) {
    out->hash = (out->hash ^ value) * UINT64_C(1099511628211);
}

static void take_completions(tide_broker *broker, outcome *out) {
    tide_completion done;
    while (broker->vtable->next_completion(broker, &done)) {
        out->completions++;
        out->status = done.status;
        tide_batch *batch = done.as.fetch.batch;
        for (size_t i = 0; batch != NULL && i < tide_batch_count(batch); i++) {
            const tide_entry *entry = tide_batch_entry(batch, i);
            size_t bytes = 0;
            mix(out, entry->id.ms);
            mix(out, entry->id.seq);
            mix(out, entry->gone);
            check(entry->attempt >= 1, "a delivery that was none");
            check(!entry->gone || entry->field_count == 0, "fields of what is gone");
            for (uint32_t f = 0; f < entry->field_count; f++) {
                mix(out, tide_str_hash(entry->fields[f].name));
                mix(out, tide_str_hash(entry->fields[f].value));
                bytes += entry->fields[f].name.len + entry->fields[f].value.len;
            }
            check(bytes == entry->bytes, "the bytes of an entry are miscounted");
        }
        tide_batch_release(batch);
    }
}

static void send_all(tide_broker *broker, int64_t now_us) {
    tide_str out = broker->vtable->output(broker, READER_LINK);
    if (out.len > 0)
        broker->vtable->output_ack(broker, READER_LINK, out.len, now_us);
}

/* A copy of its own, so that a sanitizer sees a read beyond its end or after its time. */
static void feed(tide_broker *broker, const char *bytes, size_t size, int64_t now_us) {
    if (size == 0)
        return;
    char *copy = malloc(size);
    check(copy != NULL, "no memory");
    memcpy(copy, bytes, size);
    broker->vtable->feed(broker, READER_LINK, copy, size, now_us);
    free(copy);
}

static void answer_one_want(tide_broker *broker, int64_t now_us, bool *closed) {
    tide_link_want want;
    while (broker->vtable->next_link_want(broker, &want)) {
        if (want.link != READER_LINK)
            continue;
        if (want.action == TIDE_LINK_CLOSE) {
            tide_error why;
            tide_error_set(&why, TIDE_CLOSED, "as wished");
            broker->vtable->link_closed(broker, want.link, &why, now_us);
            *closed = true;
        } else if (!*closed) {
            broker->vtable->link_opened(broker, want.link, now_us);
            send_all(broker, now_us);
            feed(broker, GREETING_REPLIES, sizeof GREETING_REPLIES - 1, now_us);
        }
    }
}

static outcome read_reply(const char *bytes, size_t size, size_t cut, bool history) {
    outcome out = {.hash = UINT64_C(14695981039346656037)};
    int64_t now_us = 1000000;
    bool closed = false;
    tide_broker *broker;
    tide_url url;
    tide_url_options url_options;
    tide_error error;
    tide_allocator alloc = tide_allocator_default();
    check(tide_url_parse(&url, &alloc, TIDE_STR("redis://h"), &error) == TIDE_OK &&
              tide_url_options_parse(&url_options, &url, &error) == TIDE_OK,
          "the URL");
    tide_broker_options options = {.url = &url, .url_options = &url_options};
    options.env.allocator = alloc;
    options.env.seed = 1;
    check(tide_broker_redis_create(&broker, &options, &error) == TIDE_OK, "no memory");

    tide_op op = {.kind = TIDE_OP_FETCH, .tag = 1};
    op.as.fetch.stream = TIDE_STR("s");
    op.as.fetch.group = TIDE_STR("g");
    op.as.fetch.consumer = TIDE_STR("c");
    op.as.fetch.reader = 1;
    op.as.fetch.history = history;
    op.as.fetch.count_max = 10;
    check(broker->vtable->submit(broker, &op, now_us, &error) == TIDE_OK, "submit");
    broker->vtable->tick(broker, now_us);
    answer_one_want(broker, now_us, &closed);
    send_all(broker, now_us);

    feed(broker, bytes, cut, now_us);
    send_all(broker, now_us);
    answer_one_want(broker, now_us, &closed);
    if (!closed)
        feed(broker, bytes + cut, size - cut, now_us);
    take_completions(broker, &out);
    send_all(broker, now_us);
    answer_one_want(broker, now_us, &closed);
    take_completions(broker, &out);
    if (!closed) {
        tide_error_set(&error, TIDE_CONNECT, "cut");
        broker->vtable->link_closed(broker, READER_LINK, &error, now_us);
        closed = true;
    }
    for (int i = 0; i < 4; i++) {
        now_us += INT64_C(3600000000);
        broker->vtable->tick(broker, now_us);
        take_completions(broker, &out);
    }
    check(out.completions == 1, "an operation ends exactly once");
    broker->vtable->destroy(broker);
    tide_url_deinit(&url);
    return out;
}

static void read_replies(const char *bytes, size_t size, bool enclosed, bool history) {
    static const char head[] = "*1\r\n*2\r\n$1\r\ns\r\n";
    char reply[REPLY_MAX + sizeof head];
    size_t head_size = enclosed ? sizeof head - 1 : 0;
    if (size > REPLY_MAX)
        size = REPLY_MAX;
    memcpy(reply, head, head_size);
    memcpy(reply + head_size, bytes, size);
    size += head_size;
    outcome whole = read_reply(reply, size, size, history);
    for (size_t cut = 0; cut < size; cut += size / CUTS_MAX + 1) {
        outcome cut_up = read_reply(reply, size, cut, history);
        /* History asks once more for what it has read; an answer that is there before the question is refused. */
        check(history || (cut_up.status == whole.status && cut_up.hash == whole.hash),
              "a cut changes what is read");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    const char *bytes = (const char *)data + 1;
    if (data[0] % 2 == 0)
        consume_event(bytes, bytes + size - 1, data[0] / 2 % 4);
    else
        read_replies(bytes, size - 1, (data[0] & 2) != 0, (data[0] & 4) != 0);
    return 0;
}
