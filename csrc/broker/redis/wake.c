/* SPDX-License-Identifier: MIT */
/*
 * What it is: hearing of delayed events that another process has put there. Whoever schedules one that is due before all
 * others leaves an entry in "{stream}:delayed:wake" (the schedule script, scripts.c); one link of a broker with subscriptions
 * waits there by XREAD BLOCK, for all its streams at once, and counts what it sees. docs/decisions/0008 has the reasons.
 * What it is not: needed. What it misses, the next look at the delayed set finds; so a link that can't be had, a server that
 * forbids XREAD, a key of another type cost accuracy, one line in the log, and nothing else.
 *
 * Invariants:
 *   1. the link exists exactly while a stream is watched, but for want of memory; at most one XREAD is on it.
 *   2. an XREAD begins behind the last entry seen, so nothing is missed between two of them, nor by a reconnect. After one that
 *      brought nothing it begins at 0: the entries live for seconds only, and their ids may have gone back with the clock.
 *   3. a wake leads to one more XREAD after a rest, so a flood of them is read in pages.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum {
    BLOCK_MS = 10000,
    REPLY_MARGIN_MS = 2000,
    REST_MS = 5,
    PAGE = 8, /* of the entries in one stream; the script keeps no more */
    PAUSE_FIRST_MS = 1000,
    PAUSE_MAX_MS = 60000,
};

struct redis_watch {
    uint64_t wakes; /* first: what the caller looks at */
    redis_watch *next;
    uint32_t users;
    tide_id last;
    tide_str stream; /* the two texts lie behind this struct */
    tide_str key;
    size_t size;
};

/* Which link hears of this stream: with Cluster it will be that of its slot. NULL: there is none yet. */
static redis_link *link_of(redis_broker *broker) {
    for (uint32_t i = 0; i < broker->link_count; i++) {
        redis_link *link = broker->links[i];
        if (link != NULL && link->role == LINK_WAKE && link->state != LINK_CLOSED)
            return link;
    }
    return NULL;
}

static redis_watch *make(redis_broker *broker, tide_str stream) {
    char key[TIDE_NAME_MAX + 64];
    size_t key_len = tide_derived_key(key, stream, TIDE_STR("delayed:wake"));
    size_t size = sizeof(redis_watch) + stream.len + key_len;
    redis_watch *watch = tide_alloc(&broker->alloc, size);
    if (watch == NULL)
        return NULL;
    char *text = (char *)(watch + 1);
    *watch = (redis_watch){.next = broker->watches,
                           .stream = {text, stream.len},
                           .key = {text + stream.len, key_len},
                           .size = size};
    memcpy(text, stream.data, stream.len);
    memcpy(text + stream.len, key, key_len);
    broker->watches = watch;
    return watch;
}

const uint64_t *redis_watch_begin(redis_broker *broker, tide_str stream, int64_t now_us) {
    if (stream.len == 0 || stream.len > TIDE_NAME_MAX)
        return NULL;
    redis_watch *watch = broker->watches;
    while (watch != NULL && !tide_str_equal(watch->stream, stream))
        watch = watch->next;
    if (watch != NULL) {
        watch->users++;
        return &watch->wakes;
    }
    watch = make(broker, stream);
    if (watch == NULL)
        return NULL;
    watch->users = 1;
    redis_link *link = link_of(broker);
    if (link != NULL) {
        /* The XREAD under way doesn't know of it. */
        redis_link_interrupt(link, now_us);
    } else if (redis_link_create(broker, LINK_WAKE, 0, now_us, &link) == TIDE_OK) {
        redis_link_tick(link, now_us);
    }
    return &watch->wakes;
}

void redis_watch_end(redis_broker *broker, const uint64_t *wakes, int64_t now_us) {
    redis_watch **at = &broker->watches;
    while (*at != NULL && &(*at)->wakes != wakes)
        at = &(*at)->next;
    redis_watch *watch = *at;
    if (watch == NULL || --watch->users > 0)
        return;
    *at = watch->next;
    tide_free(&broker->alloc, watch, watch->size);
    redis_link *link = link_of(broker);
    if (broker->watches == NULL && link != NULL)
        redis_link_close(link, now_us);
}

void redis_watches_free(redis_broker *broker) {
    while (broker->watches != NULL) {
        redis_watch *watch = broker->watches;
        broker->watches = watch->next;
        tide_free(&broker->alloc, watch, watch->size);
    }
}

/* ---- reading ---- */

static void read_at(redis_link *link, int64_t at_us) {
    link->wake_us = at_us;
    redis_link_arm(link);
}

static void pause_reading(redis_link *link, int64_t now_us) {
    int64_t ms = PAUSE_FIRST_MS;
    for (uint32_t i = 0; i < link->wake_failures && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    link->wake_failures++;
    read_at(link, now_us + (ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS) * 1000);
}

static void begin_read(redis_link *link, int64_t now_us) {
    redis_broker *broker = link->broker;
    tide_buffer *out = &link->out;
    size_t size = tide_buffer_size(out);
    size_t count = 0;
    for (redis_watch *watch = broker->watches; watch != NULL; watch = watch->next)
        count++;
    if (count == 0 || redis_link_reserve(link, 1) != TIDE_OK) {
        pause_reading(link, now_us);
        return;
    }
    redis_request_begin(link, NULL, 0, 6 + 2 * count);
    tide_resp_arg_literal(out, "XREAD");
    tide_resp_arg_literal(out, "COUNT");
    tide_resp_arg_u64(out, PAGE);
    tide_resp_arg_literal(out, "BLOCK");
    tide_resp_arg_u64(out, BLOCK_MS);
    tide_resp_arg_literal(out, "STREAMS");
    for (redis_watch *watch = broker->watches; watch != NULL; watch = watch->next)
        tide_resp_arg(out, watch->key);
    for (redis_watch *watch = broker->watches; watch != NULL; watch = watch->next)
        tide_resp_arg_id(out, watch->last);
    if (out->failed) {
        out->failed = false;
        out->end = out->begin + size;
        link->ring_count--;
        pause_reading(link, now_us);
        return;
    }
    /* The server may exceed BLOCK by half. */
    read_at(link, now_us + (BLOCK_MS + BLOCK_MS / 2 + REPLY_MARGIN_MS) * INT64_C(1000) +
                      broker->timeout_us);
}

void redis_wake_tick(redis_link *link, int64_t now_us) {
    if (now_us < link->wake_us)
        return;
    if (link->ring_count == 0)
        begin_read(link, now_us);
    else
        redis_link_drop(link, now_us, TIDE_TIMEOUT, "%s did not answer in time",
                        link->broker->place);
}

void redis_wake_ready(redis_link *link, int64_t now_us) {
    /* A pause holds through a reconnect: the server's refusal does, too. */
    if (link->wake_failures == 0)
        begin_read(link, now_us);
}

static void refused(redis_link *link, tide_str text, int64_t now_us) {
    redis_broker *broker = link->broker;
    if (link->wake_failures == 0) {
        bool denied = tide_resp_error_status(text) == TIDE_NOPERM;
        const char *user = broker->user.len > 0 ? broker->user.data : "default";
        tide_log(&broker->log, TIDE_LOG_WARN,
                 "%s: cannot wait for delayed events of other processes, which may be late by the "
                 "time between two looks: %.*s%s%s%s",
                 broker->place, (int)(text.len < 200 ? text.len : 200), text.data,
                 denied ? "; mend it by: ACL SETUSER " : "", denied ? user : "",
                 denied ? " +xread" : "");
    }
    pause_reading(link, now_us);
}

/* [key, entries] */
static bool take_stream(redis_broker *broker, const tide_reply *stream) {
    if (stream->type != TIDE_REPLY_ARRAY || stream->as.array.count != 2)
        return false;
    const tide_reply *key = &stream->as.array.items[0];
    const tide_reply *entries = &stream->as.array.items[1];
    if (key->type != TIDE_REPLY_STRING || entries->type != TIDE_REPLY_ARRAY ||
        entries->as.array.count == 0)
        return false;
    const tide_reply *last = &entries->as.array.items[entries->as.array.count - 1];
    tide_id id;
    if (last->type != TIDE_REPLY_ARRAY || last->as.array.count < 1 ||
        last->as.array.items[0].type != TIDE_REPLY_STRING ||
        !tide_id_parse(last->as.array.items[0].as.text, 0, &id))
        return false;
    for (redis_watch *watch = broker->watches; watch != NULL; watch = watch->next) {
        if (!tide_str_equal(watch->key, key->as.text))
            continue;
        watch->last = id;
        watch->wakes++;
    }
    return true;
}

bool redis_wake_reply(redis_link *link, const tide_reply *reply, int64_t now_us) {
    redis_broker *broker = link->broker;
    redis_link_interrupted(link);
    switch (reply->type) {
    case TIDE_REPLY_ERROR: refused(link, reply->as.text, now_us); return true;
    case TIDE_REPLY_NIL:
        for (redis_watch *watch = broker->watches; watch != NULL; watch = watch->next)
            watch->last = (tide_id){0, 0};
        break;
    case TIDE_REPLY_ARRAY:
        for (size_t i = 0; i < reply->as.array.count; i++) {
            if (!take_stream(broker, &reply->as.array.items[i]))
                return false;
        }
        break;
    default: return false;
    }
    link->wake_failures = 0;
    read_at(link, now_us + (int64_t)REST_MS * 1000);
    return true;
}
