/* SPDX-License-Identifier: MIT */
/*
 * What it is: the requests that wait on a link: how they get into its ring and its output, scripts sent again with their text,
 * and how they end without a reply.
 * What it is not: the connection's life, which link.c keeps, with the invariants of ring and output at its head; nor what a
 * reply means, which its operation's class knows.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum {
    RING_FIRST = 64,
    RING_KEEP = 16384,
};

/* ---- the ring ---- */

uint64_t redis_link_written(const redis_link *link) {
    return link->sent + tide_buffer_size(&link->out);
}

tide_status redis_link_reserve(redis_link *link, size_t count) {
    if (count > REDIS_REQUESTS_MAX - (size_t)link->ring_count)
        return TIDE_OVERFLOW;
    uint32_t needed = link->ring_count + (uint32_t)count;
    if (needed <= link->ring_capacity)
        return TIDE_OK;
    uint32_t capacity = link->ring_capacity > 0 ? link->ring_capacity : RING_FIRST;
    while (capacity < needed)
        capacity *= 2;
    redis_request *ring = tide_alloc(&link->broker->alloc, capacity * sizeof *ring);
    if (ring == NULL)
        return TIDE_ENOMEM;
    for (uint32_t i = 0; i < link->ring_count; i++)
        ring[i] = *redis_request_at(link, i);
    tide_free(&link->broker->alloc, link->ring, link->ring_capacity * sizeof *ring);
    link->ring = ring;
    link->ring_capacity = capacity;
    link->ring_head = 0;
    return TIDE_OK;
}

redis_request redis_request_pop(redis_link *link) {
    redis_request first = *redis_request_at(link, 0);
    link->ring_head = (link->ring_head + 1) & (link->ring_capacity - 1);
    link->ring_count--;
    if (link->ring_count == 0) {
        link->ring_head = 0;
        if (link->ring_capacity > RING_KEEP) {
            tide_free(&link->broker->alloc, link->ring, link->ring_capacity * sizeof *link->ring);
            link->ring = NULL;
            link->ring_capacity = 0;
        }
    }
    return first;
}

redis_request *redis_request_begin(redis_link *link, redis_op *op, uint8_t step, size_t args) {
    TIDE_ASSERT(link->ring_count < link->ring_capacity);
    redis_request *request = redis_request_at(link, link->ring_count++);
    *request =
        (redis_request){.op = op, .start = redis_link_written(link), .step = step, .count = 1};
    if (op != NULL) {
        if (op->open++ == 0 && !op->touched)
            op->start = request->start;
    }
    tide_resp_begin(&link->out, args);
    return request;
}

/* ---- scripts: EVALSHA, with the arguments kept so that they can go again behind EVAL ---- */

redis_request *redis_script_begin(redis_link *link, redis_op *op, uint8_t step, redis_script script,
                                  size_t keys, size_t args) {
    redis_request *request = redis_request_begin(link, op, step, 3 + keys + args);
    request->script = (uint8_t)script;
    request->args = (uint32_t)(keys + args);
    tide_resp_arg_literal(&link->out, "EVALSHA");
    tide_resp_arg(&link->out, redis_script_sha1(script));
    /* A place in `out` until redis_script_end. */
    request->saved = (uint32_t)tide_buffer_size(&link->out);
    tide_resp_arg_u64(&link->out, keys);
    return request;
}

void redis_script_end(redis_link *link, redis_op *op) {
    redis_request *request = redis_request_at(link, link->ring_count - 1);
    if (link->out.failed)
        return;
    size_t from = request->saved;
    size_t size = tide_buffer_size(&link->out) - from;
    request->saved = (uint32_t)tide_buffer_size(&op->saved);
    request->saved_size = (uint32_t)size;
    if (tide_buffer_append(&op->saved, tide_buffer_data(&link->out) + from, size) != TIDE_OK)
        link->out.failed = true;
}

bool redis_script_again(redis_link *link, const redis_request *request) {
    redis_op *op = request->op;
    size_t size = tide_buffer_size(&link->out);
    if (redis_link_reserve(link, 1) != TIDE_OK)
        return false;
    redis_request *again = redis_request_begin(link, op, request->step, 3 + request->args);
    uint64_t start = again->start;
    *again = *request;
    again->start = start;
    again->evaluated = true;
    tide_resp_arg_literal(&link->out, "EVAL");
    tide_resp_arg(&link->out, redis_script_text(request->script));
    tide_buffer_append(&link->out, tide_buffer_data(&op->saved) + request->saved,
                       request->saved_size);
    if (!link->out.failed)
        return true;
    link->out.failed = false;
    link->out.end = link->out.begin + size;
    link->ring_count--;
    op->open--;
    return false;
}

/* ---- how requests end ---- */

static bool denies_database(tide_str text) {
    const tide_str words = TIDE_STR("access database");
    for (size_t i = 0; i + words.len <= text.len; i++) {
        if (memcmp(text.data + i, words.data, words.len) == 0)
            return true;
    }
    return false;
}

bool redis_advise_database(const redis_broker *broker, tide_str text, char *advice, size_t size) {
    if (!denies_database(text))
        return false;
    const char *user = broker->user.len > 0 ? broker->user.data : "default";
    long long db = broker->db;
    snprintf(advice, size,
             "user \"%s\" may not use database %lld; mend it by: ACL SETUSER %s db=%lld", user, db,
             user, db);
    return true;
}

static void fail_by_server(redis_op *op, tide_status status, tide_str text) {
    if (op->status != TIDE_OK)
        return;
    redis_broker *broker = op->link->broker;
    char advice[TIDE_ERROR_MESSAGE_MAX];
    if (status == TIDE_NOPERM && redis_advise_database(broker, text, advice, sizeof advice)) {
        redis_op_fail(op, status, "%s", advice);
    } else if (status == TIDE_NOPERM) {
        const char *user = broker->user.len > 0 ? broker->user.data : "default";
        char derived[REDIS_SUBJECT_MAX + 8] = " ~";
        size_t len = 0;
        if (op->derived_keys)
            len = 2 + tide_derived_key(derived + 2, (tide_str){op->subject, op->subject_len},
                                       TIDE_STR("*"));
        redis_op_fail(op, status,
                      "user \"%s\" lacks a permission; mend it by: ACL SETUSER %s %s%s%.*s%.*s",
                      user, user, op->acl, op->subject_len > 0 ? " ~" : "", (int)op->subject_len,
                      op->subject, (int)len, derived);
    } else if (op->subject_len > 0) {
        redis_op_fail(op, status, "\"%.*s\": %.*s", (int)op->subject_len, op->subject,
                      (int)text.len, text.data);
    } else {
        redis_op_fail(op, status, "%.*s", (int)text.len, text.data);
    }
    size_t word = 0;
    while (word < text.len && word < TIDE_ERROR_WORD_MAX - 1 && text.data[word] >= 'A' &&
           text.data[word] <= 'Z')
        word++;
    memcpy(op->error.server, text.data, word);
    op->error.server[word] = '\0';
}

static void fail_by_loss(redis_op *op, tide_status status, const tide_error *why) {
    redis_broker *broker = op->link->broker;
    bool known = why->message[0] != '\0';
    const char *sep = known ? ": " : "";
    const char *text = known ? why->message : "";
    switch (status) {
    case TIDE_TIMEOUT:
        redis_op_fail(op, status, "no reply from %s within %lld ms: it may have been done",
                      broker->place, (long long)((op->timeout_us + op->block_us) / 1000));
        break;
    case TIDE_UNKNOWN:
        redis_op_fail(op, status, "the connection to %s was lost before the reply%s%s",
                      broker->place, sep, text);
        break;
    case TIDE_DISCONNECTED:
        redis_op_fail(op, status,
                      op->link->state == LINK_READY
                          ? "nothing could be sent to %s in time, nothing was written%s%s"
                          : "not connected to %s, nothing was written%s%s",
                      broker->place, sep, text);
        break;
    default:
        if (op->status != TIDE_OK)
            break;
        redis_op_fail(op, status, "%s", known ? text : tide_status_text(status));
        memcpy(op->error.server, why->server, sizeof op->error.server);
    }
}

void redis_request_fail(redis_link *link, const redis_request *request, tide_status status,
                        const tide_str *text, const tide_error *why) {
    redis_op *op = request->op;
    if (op == NULL)
        return;
    tide_str detail = text != NULL ? *text : (tide_str){"", 0};
    bool fine = op->class->fail != NULL && op->class->fail(op, link, request, status, detail);
    if (!fine) {
        if (text != NULL)
            fail_by_server(op, status, detail);
        else
            fail_by_loss(op, status, why);
    }
    if (--op->open == 0)
        redis_op_done(op);
}

static bool is_kept(const redis_op *op, redis_keep keep) {
    switch (keep) {
    case REDIS_KEEP_UNTOUCHED: return !op->touched;
    case REDIS_KEEP_UNEXPIRED: return !op->expired;
    case REDIS_KEEP_NONE: break;
    }
    return false;
}

void redis_requests_end_unsent(redis_link *link, redis_keep keep, bool fresh, tide_status status,
                               const tide_error *why) {
    uint64_t sent = link->sent;
    uint64_t end = redis_link_written(link);
    uint64_t base = fresh ? 0 : sent;
    char *bytes = tide_buffer_data(&link->out);
    uint32_t count = link->ring_count;
    uint32_t kept = 0;
    size_t to = 0;
    for (uint32_t i = 0; i < count; i++) {
        redis_request request = *redis_request_at(link, i);
        uint64_t next = i + 1 < count ? redis_request_at(link, i + 1)->start : end;
        bool was_sent = request.start < sent;
        if (!was_sent && request.op != NULL && !is_kept(request.op, keep)) {
            redis_request_fail(link, &request, status, NULL, why);
            continue;
        }
        uint64_t from = was_sent ? (next > sent ? sent : next) : request.start;
        if (request.op == NULL && fresh)
            continue; /* an interrupt is of no use any more */
        size_t size = (size_t)(next - from);
        if (size > 0)
            memmove(bytes + to, bytes + (from - sent), size);
        if (!was_sent) {
            if (request.op != NULL && request.op->start == request.start)
                request.op->start = base + to;
            request.start = base + to;
        }
        to += size;
        *redis_request_at(link, kept++) = request;
    }
    link->ring_count = kept;
    link->out.end = link->out.begin + to;
    link->sent = base;
}

void redis_requests_end_sent(redis_link *link, const tide_error *why) {
    while (link->ring_count > 0 && redis_request_at(link, 0)->start < link->sent) {
        redis_request request = redis_request_pop(link);
        redis_op *op = request.op;
        if (op == NULL)
            continue;
        op->touched = true;
        redis_request_fail(link, &request, op->expired ? TIDE_TIMEOUT : TIDE_UNKNOWN, NULL, why);
    }
}

bool redis_op_is_sent(const redis_op *op) {
    return op->touched || op->start < op->link->sent;
}

void redis_link_expire(redis_link *link) {
    tide_error why = link->error;
    redis_requests_end_unsent(link, REDIS_KEEP_UNEXPIRED, false, TIDE_DISCONNECTED, &why);
}
