/* SPDX-License-Identifier: MIT */
/*
 * What it is: one connection's life: when it is opened, what it says first, which reply is whose, and when it is given up.
 * What it is not: a socket; the driver opens, reads and writes. It knows no command but through redis_op_class. The requests that
 * wait for replies, and what becomes of them when the connection dies, are request.c's.
 *
 *              due                driver: open           greeting answered
 *  WAIT_RETRY ──────► OPENING ─────────────► GREETING ────────────────────► READY
 *      ▲                 │                       │                            │
 *      └─────────────────┴───────────────────────┴────────────────────────────┘
 *        cannot open, time limit      refused, lost, time limit      lost, time-out, strange reply, READONLY …
 *  CLOSED: from any of them, for good (its reader is dropped, a spare link has rested long enough)
 *
 *  from        event                                     to          by
 *  WAIT_RETRY  the back-off is over                      OPENING     redis_link_tick
 *  OPENING     the driver has a connection               GREETING    redis_link_opened
 *  OPENING     it has none, or it takes too long         WAIT_RETRY  redis_link_lost
 *  GREETING    every first reply is there                READY       redis_link_ready
 *  GREETING    NOAUTH, LOADING, lost, too long           WAIT_RETRY  redis_link_refuse, redis_link_lost
 *  READY       lost, or dropped by us                    WAIT_RETRY  redis_link_lost
 *  any         not needed any more                       CLOSED      redis_link_close
 *
 * Invariants:
 *   1. ring[i].start ascends; the bytes from `sent` on are those in `out`; a request was sent, at least in part, exactly
 *      when its start is below `sent`. Only then it may have had an effect.
 *   2. Replies belong to the ring's head. After a time-out the connection is dropped, so a late reply meets no one.
 *   3. When a connection dies, requests that were sent end as UNKNOWN (TIMEOUT for the operation that timed out).
 *      Operations of which nothing was sent stay in `out` for the next connection, until their own time limit. Of an
 *      operation that was sent in part, the unsent rest ends as DISCONNECTED.
 *   4. `out` leaves only in READY, the greeting only in GREETING.
 *   5. Back-off: full jitter over a window that doubles from 50 ms to 4 s; a connection that was READY for a second begins
 *      anew. (4 s and a connect stay below the 5 s within which everything goes on.) The link for wakes, which nothing
 *      depends on, takes its time: 1 s to 30 s, and one line in the log for failures in a row.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "broker/redis/redis.h"

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 4000,
    STABLE_MS = 1000,
    OPENING_MARGIN_MS = 1000, /* the driver's own connect time limit comes first */
    UNBLOCK_AGAIN_MS = 5,
    /* Of the link for wakes: it is worth little when the server is in trouble. */
    WAKE_BACKOFF_FIRST_MS = 1000,
    WAKE_BACKOFF_MAX_MS = 30000,
};

#define ODD_REPLY "%s sent a reply of another shape than asked for"

static const char *role_name(redis_link_role role) {
    static const char *const names[] = {"commands", "reading", "blocking command",
                                        "delayed events"};
    return names[role];
}

/* ---- making and unmaking ---- */

void redis_link_want(redis_link *link) {
    redis_broker *broker = link->broker;
    if (link->is_queued)
        return;
    link->is_queued = true;
    link->next_want = NULL;
    if (broker->want_last != NULL)
        broker->want_last->next_want = link;
    else
        broker->want_first = link;
    broker->want_last = link;
}

static void enter(redis_link *link, redis_link_state state, int64_t now_us) {
    link->state = state;
    link->since_us = now_us;
    redis_link_arm(link);
}

static int64_t due_us(const redis_link *link) {
    const redis_broker *broker = link->broker;
    switch (link->state) {
    case LINK_WAIT_RETRY: return link->since_us; /* set to when the wait is over */
    case LINK_OPENING:
        return link->since_us + broker->connect_timeout_us + OPENING_MARGIN_MS * 1000;
    case LINK_GREETING: return link->since_us + broker->connect_timeout_us;
    case LINK_READY:
        if (link->role == LINK_SPARE && link->ring_count == 0)
            return link->since_us + (int64_t)REDIS_SPARE_IDLE_MS * 1000;
        if (link->role == LINK_WAKE && link->wake_us < link->unblock_us)
            return link->wake_us;
        return link->unblock_us;
    case LINK_CLOSED: break;
    }
    return INT64_MAX;
}

void redis_link_arm(redis_link *link) {
    int64_t due = due_us(link);
    if (due == INT64_MAX)
        tide_timer_disarm(&link->broker->link_timers, &link->timer);
    else if (!tide_timer_is_armed(&link->timer) || link->timer.deadline_us != due)
        /* Room was made when the link was. */
        (void)tide_timer_arm(&link->broker->link_timers, &link->timer, due);
}

tide_status redis_link_create(redis_broker *broker, redis_link_role role, uint32_t reader,
                              int64_t now_us, redis_link **link) {
    uint32_t number = 0;
    uint32_t count = 0;
    bool found = false;
    for (uint32_t i = 0; i < broker->link_count; i++) {
        if (broker->links[i] != NULL) {
            count++;
        } else if (!found) {
            number = i;
            found = true;
        }
    }
    if (count >= TIDE_LINKS_MAX)
        return TIDE_OVERFLOW;
    if (!found) {
        uint32_t bigger = broker->link_count > 0 ? broker->link_count * 2 : 4;
        redis_link **links =
            tide_realloc(&broker->alloc, broker->links, broker->link_count * sizeof *links,
                         bigger * sizeof *links);
        if (links == NULL)
            return TIDE_ENOMEM;
        for (uint32_t i = broker->link_count; i < bigger; i++)
            links[i] = NULL;
        number = broker->link_count;
        broker->links = links;
        broker->link_count = bigger;
    }
    if (tide_heap_reserve(&broker->link_timers, count + 1) != TIDE_OK)
        return TIDE_ENOMEM;
    redis_link *made = tide_alloc_zero(&broker->alloc, 1, sizeof *made);
    if (made == NULL)
        return TIDE_ENOMEM;
    made->broker = broker;
    made->number = number;
    made->role = role;
    made->reader = reader;
    made->unblock_us = INT64_MAX;
    tide_buffer_init(&made->greeting, &broker->alloc, 1 << 20);
    tide_buffer_init(&made->out, &broker->alloc,
                     (size_t)TIDE_OUTPUT_BYTES_MAX + TIDE_REPLY_BULK_MAX);
    broker->links[number] = made;
    /* Due at once: by the next tick, or the operation that it is made for. */
    enter(made, LINK_WAIT_RETRY, now_us);
    *link = made;
    return TIDE_OK;
}

void redis_link_destroy(redis_link *link) {
    redis_broker *broker = link->broker;
    tide_timer_disarm(&broker->link_timers, &link->timer);
    tide_resp_reader_close(link->replies);
    tide_buffer_deinit(&link->greeting);
    tide_buffer_deinit(&link->out);
    tide_free(&broker->alloc, link->ring, link->ring_capacity * sizeof *link->ring);
    broker->links[link->number] = NULL;
    tide_free(&broker->alloc, link, sizeof *link);
}

/* The connection is no more; the requests are looked after by the caller. */
static void forget_connection(redis_link *link, bool by_driver) {
    tide_resp_reader_close(link->replies);
    link->replies = NULL;
    tide_buffer_clear(&link->greeting, 4096);
    link->greeting_asked = 0;
    link->client_id = 0;
    link->condemned = TIDE_OK;
    link->unblock_us = INT64_MAX;
    link->unblock_left = 0;
    link->unblock_sent = false;
    link->wants_open = false;
    if (by_driver) {
        link->is_asked = false;
        link->wants_close = false;
    } else if (link->is_asked) {
        link->is_asked = false;
        link->wants_close = true;
        redis_link_want(link);
    }
}

void redis_link_close(redis_link *link, int64_t now_us) {
    if (link->state == LINK_CLOSED)
        return;
    tide_error why;
    tide_error_set(&why, TIDE_CANCELLED, "its connection was closed");
    enter(link, LINK_CLOSED, now_us);
    forget_connection(link, false);
    redis_requests_end_sent(link, &why);
    redis_requests_end_unsent(link, REDIS_KEEP_NONE, true, TIDE_CANCELLED, &why);
    /* The driver hears of it, or at least next_link_want comes by and removes it. */
    redis_link_want(link);
}

/* Full jitter: the draw is over the whole window. */
static int64_t draw_backoff_us(redis_link *link) {
    int64_t window_ms = link->role == LINK_WAKE ? WAKE_BACKOFF_FIRST_MS : BACKOFF_FIRST_MS;
    int64_t most_ms = link->role == LINK_WAKE ? WAKE_BACKOFF_MAX_MS : BACKOFF_MAX_MS;
    for (uint32_t i = 1; i < link->attempts && window_ms < most_ms; i++)
        window_ms *= 2;
    if (window_ms > most_ms)
        window_ms = most_ms;
    return (int64_t)tide_prng_below(&link->broker->prng, (uint64_t)window_ms * 1000);
}

static void wait_for_retry(redis_link *link, const tide_error *why, int64_t now_us) {
    redis_broker *broker = link->broker;
    bool was_ready = link->state == LINK_READY;
    if (was_ready && now_us - link->since_us >= STABLE_MS * 1000)
        link->attempts = 0;
    link->attempts++;
    int64_t wait_us = draw_backoff_us(link);
    bool is_said = link->role == LINK_WAKE && link->attempts > 1;
    if (broker->log.write != NULL && now_us >= broker->log_us && !is_said) {
        char line[TIDE_ERROR_MESSAGE_MAX + 384];
        snprintf(line, sizeof line, "%s: %s (connection for %s, attempt %u, next in %lld ms)",
                 tide_status_code(why->status), why->message, role_name(link->role), link->attempts,
                 (long long)(wait_us / 1000));
        redis_log(broker, TIDE_LOG_WARN, now_us, line);
    }
    enter(link, LINK_WAIT_RETRY, now_us + wait_us);
}

void redis_link_lost(redis_link *link, bool by_driver, const tide_error *why, int64_t now_us) {
    if (link->state == LINK_CLOSED || link->state == LINK_WAIT_RETRY) {
        if (by_driver && link->state == LINK_CLOSED) {
            link->is_asked = false;
            link->wants_close = false;
        }
        return;
    }
    tide_error copy = *why;
    wait_for_retry(link, &copy, now_us);
    link->error = copy;
    forget_connection(link, by_driver);
    redis_requests_end_sent(link, &copy);
    redis_requests_end_unsent(link, REDIS_KEEP_UNTOUCHED, true, TIDE_DISCONNECTED, &copy);
    if (link->role == LINK_SPARE && link->ring_count == 0)
        redis_link_close(link, now_us);
}

void redis_link_drop(redis_link *link, int64_t now_us, tide_status status, const char *format,
                     ...) {
    char text[TIDE_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tide_error why;
    tide_error_set(&why, status, "%s", text);
    redis_link_lost(link, false, &why, now_us);
}

void redis_link_refuse(redis_link *link, int64_t now_us, const tide_error *why) {
    tide_error copy = *why;
    redis_link_lost(link, false, &copy, now_us);
    redis_requests_end_unsent(link, REDIS_KEEP_NONE, true, copy.status, &copy);
}

/* ---- bytes ---- */

void redis_link_opened(redis_link *link, int64_t now_us) {
    if (link->state != LINK_OPENING || !link->is_asked)
        return;
    enter(link, LINK_GREETING, now_us);
    if (tide_resp_reader_open(&link->replies, &link->broker->alloc, 0) != TIDE_OK ||
        redis_greeting_begin(link) != TIDE_OK)
        redis_link_drop(link, now_us, TIDE_ENOMEM, "no memory for a connection to %s",
                        link->broker->place);
}

void redis_link_ready(redis_link *link, int64_t now_us) {
    tide_error_clear(&link->error);
    enter(link, LINK_READY, now_us);
    if (link->role == LINK_WAKE)
        redis_wake_ready(link, now_us);
}

tide_str redis_link_output(redis_link *link) {
    tide_buffer *buffer = NULL;
    if (link->state == LINK_GREETING)
        buffer = &link->greeting;
    else if (link->state == LINK_READY && link->condemned == TIDE_OK)
        buffer = &link->out;
    if (buffer == NULL || tide_buffer_size(buffer) == 0)
        return (tide_str){"", 0};
    return (tide_str){tide_buffer_data(buffer), tide_buffer_size(buffer)};
}

void redis_link_output_ack(redis_link *link, size_t size) {
    if (link->state == LINK_GREETING) {
        TIDE_ASSERT(size <= tide_buffer_size(&link->greeting));
        tide_buffer_consume(&link->greeting, size);
    } else if (link->state == LINK_READY) {
        TIDE_ASSERT(size <= tide_buffer_size(&link->out));
        tide_buffer_consume(&link->out, size);
        link->sent += size;
        if (tide_buffer_size(&link->out) == 0)
            tide_buffer_clear(&link->out, REDIS_OUTPUT_KEEP_BYTES);
    }
}

/* Nothing more can be answered: all that was sent whole is answered. */
static bool is_drained(const redis_link *link) {
    if (link->ring_count == 0)
        return true;
    uint64_t end =
        link->ring_count > 1 ? redis_request_at(link, 1)->start : redis_link_written(link);
    return end > link->sent;
}

/* An interrupt was answered: when the server wasn't blocked yet, or another fetch follows, once more. Who isn't allowed to
 * interrupt waits for the end of BLOCK. */
static void unblock_answered(redis_link *link, uint32_t number, bool refused, int64_t now_us) {
    redis_broker *broker = link->broker;
    redis_link *reader = number < broker->link_count ? broker->links[number] : NULL;
    if (reader == NULL)
        return;
    reader->unblock_sent = false;
    if (refused)
        reader->unblock_left = 0;
    if (reader->unblock_left > 0) {
        reader->unblock_us = now_us + UNBLOCK_AGAIN_MS * 1000;
        redis_link_arm(reader);
    }
}

static void reply_is_error(redis_link *link, const redis_request *request, tide_str text,
                           int64_t now_us) {
    tide_status status = tide_resp_error_status(text);
    if (status == TIDE_NOSCRIPT && request->script != SCRIPT_NONE && !request->evaluated) {
        redis_op *op = request->op;
        if (redis_script_again(link, request)) {
            op->open--;
            return;
        }
        status = TIDE_ENOMEM;
    }
    bool unblocked = text.len >= 9 && memcmp(text.data, "UNBLOCKED", 9) == 0;
    redis_request_fail(link, request, status, &text, NULL);
    if ((status == TIDE_READONLY || status == TIDE_NOAUTH || unblocked) &&
        link->condemned == TIDE_OK) {
        link->condemned = status;
        tide_error_set(&link->error, status, "%s: %.*s", link->broker->place, (int)text.len,
                       text.data);
    }
    (void)now_us;
}

/* One reply, for the ring's head. */
static void take_reply(redis_link *link, tide_reply_box *box, int64_t now_us) {
    if (link->ring_count == 0 || redis_request_at(link, 0)->start >= link->sent) {
        tide_reply_box_release(box);
        redis_link_drop(link, now_us, TIDE_PROTOCOL, "%s sent a reply that nobody asked for",
                        link->broker->place);
        return;
    }
    redis_request request = redis_request_pop(link);
    redis_op *op = request.op;
    if (op == NULL) {
        bool understood = true;
        if (link->role == LINK_WAKE)
            understood = redis_wake_reply(link, &box->reply, now_us);
        else
            unblock_answered(link, request.index, box->reply.type == TIDE_REPLY_ERROR, now_us);
        tide_reply_box_release(box);
        if (!understood)
            redis_link_drop(link, now_us, TIDE_PROTOCOL, ODD_REPLY, link->broker->place);
        return;
    }
    op->touched = true;
    if (link->role == LINK_READER && op->kind == TIDE_OP_FETCH && link->unblock_left > 0) {
        if (--link->unblock_left == 0) {
            link->unblock_us = INT64_MAX;
            redis_link_arm(link);
        }
    }
    /* A command's reply is handed on as it is, errors too. */
    if (box->reply.type == TIDE_REPLY_ERROR) {
        if (op->class == &redis_command_class) {
            op->box = box;
            reply_is_error(link, &request, box->reply.as.text, now_us);
        } else {
            reply_is_error(link, &request, box->reply.as.text, now_us);
            tide_reply_box_release(box);
        }
        return;
    }
    bool understood = op->class->reply(op, link, &request, &box);
    tide_reply_box_release(box);
    if (!understood) {
        tide_error why;
        tide_status status = op->class->writes ? TIDE_UNKNOWN : TIDE_PROTOCOL;
        tide_error_set(&why, TIDE_PROTOCOL, ODD_REPLY, link->broker->place);
        redis_request_fail(link, &request, status, NULL, &why);
        redis_link_lost(link, false, &why, now_us);
        return;
    }
    if (--op->open == 0)
        redis_op_done(op);
}

void redis_link_feed(redis_link *link, const char *bytes, size_t size, int64_t now_us) {
    tide_resp_reader *reader = link->replies;
    if (reader == NULL)
        return;
    tide_error why;
    tide_status status = tide_resp_reader_feed(reader, bytes, size);
    if (status != TIDE_OK)
        tide_error_set(&why, status, "%s: %s", link->broker->place, tide_status_text(status));
    while (status == TIDE_OK) {
        tide_reply_box *box = NULL;
        status = tide_resp_reader_next(reader, &box, &why);
        if (status != TIDE_OK)
            break;
        if (link->state == LINK_GREETING) {
            redis_greeting_reply(link, &box->reply, now_us);
            tide_reply_box_release(box);
        } else {
            take_reply(link, box, now_us);
        }
        if (link->replies != reader)
            return;
        if (link->condemned != TIDE_OK && is_drained(link)) {
            tide_error reason = link->error;
            redis_link_lost(link, false, &reason, now_us);
            return;
        }
    }
    if (status != TIDE_AGAIN) {
        tide_error named;
        tide_error_set(&named, status, "%s: %s", link->broker->place, why.message);
        redis_link_lost(link, false, &named, now_us);
    } else if (link->role == LINK_SPARE && link->ring_count == 0 && link->state == LINK_READY) {
        link->since_us = now_us;
        redis_link_arm(link);
    }
}

/* ---- time ---- */

static void send_unblock(redis_link *reader, int64_t now_us) {
    redis_broker *broker = reader->broker;
    redis_link *shared = broker->links[REDIS_SHARED_LINK];
    reader->unblock_us = INT64_MAX;
    if (reader->unblock_left == 0 || reader->unblock_sent || reader->client_id == 0)
        return;
    if (shared->state != LINK_READY || redis_link_reserve(shared, 1) != TIDE_OK) {
        reader->unblock_us = now_us + 10 * UNBLOCK_AGAIN_MS * 1000;
        return;
    }
    size_t size = tide_buffer_size(&shared->out);
    redis_request *request = redis_request_begin(shared, NULL, 0, 4);
    request->index = reader->number;
    tide_resp_arg_literal(&shared->out, "CLIENT");
    tide_resp_arg_literal(&shared->out, "UNBLOCK");
    tide_resp_arg_i64(&shared->out, reader->client_id);
    tide_resp_arg_literal(&shared->out, "TIMEOUT");
    if (shared->out.failed) {
        shared->out.failed = false;
        shared->out.end = shared->out.begin + size;
        shared->ring_count--;
        reader->unblock_us = now_us + 10 * UNBLOCK_AGAIN_MS * 1000;
        return;
    }
    reader->unblock_sent = true;
}

void redis_link_interrupt(redis_link *link, int64_t now_us) {
    if (link->state != LINK_READY)
        return;
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < link->ring_count; i++) {
        const redis_op *op = redis_request_at(link, i)->op;
        if (op != NULL ? op->block_us > 0 : link->role == LINK_WAKE)
            waiting++;
    }
    link->unblock_left = waiting;
    send_unblock(link, now_us);
    redis_link_arm(link);
}

void redis_link_interrupted(redis_link *link) {
    link->unblock_left = 0;
    link->unblock_us = INT64_MAX;
    redis_link_arm(link);
}

void redis_link_tick(redis_link *link, int64_t now_us) {
    if (now_us < due_us(link)) {
        redis_link_arm(link);
        return;
    }
    switch (link->state) {
    case LINK_WAIT_RETRY:
        if (link->role == LINK_SPARE && link->ring_count == 0) {
            redis_link_close(link, now_us);
            break;
        }
        link->wants_open = true;
        redis_link_want(link);
        enter(link, LINK_OPENING, now_us);
        break;
    case LINK_OPENING:
        redis_link_drop(link, now_us, TIDE_CONNECT, "no connection to %s within %lld ms",
                        link->broker->place, (long long)(link->broker->connect_timeout_us / 1000));
        break;
    case LINK_GREETING:
        redis_link_drop(link, now_us, TIDE_CONNECT, "%s does not answer", link->broker->place);
        break;
    case LINK_READY:
        if (link->role == LINK_SPARE && link->ring_count == 0) {
            redis_link_close(link, now_us);
            break;
        }
        if (now_us >= link->unblock_us)
            send_unblock(link, now_us);
        if (link->role == LINK_WAKE)
            redis_wake_tick(link, now_us);
        redis_link_arm(link);
        break;
    case LINK_CLOSED: break;
    }
}
