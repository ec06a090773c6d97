/* SPDX-License-Identifier: MIT */
/*
 * What it is: the Redis/Valkey adapter's object: it takes operations, asks which link serves them, has them encoded,
 * watches their time limits and hands their completions out.
 * What it is not: a state machine; that is each link's (link.c).
 * Invariants:
 *   1. An operation that was accepted is in exactly one place: in its link's ring (open > 0), in the queue of completions,
 *      or handed out; then it rests in the pool. live_count counts the first three.
 *   2. Nothing fails after a submit has answered TIDE_OK but the operation itself: timer and ring had their room before.
 *   3. What the completion points to lives in `handed` until the next one is asked for.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum { ARENA_BLOCK = 1024, LOG_EVERY_US = 1000000, BLOCK_MARGIN_MS = 2000 };

static redis_broker *self(tide_broker *broker) {
    return (redis_broker *)(void *)broker;
}

static const redis_op_class *const classes[TIDE_OP_KIND_COUNT] = {
    [TIDE_OP_PUBLISH] = &redis_publish_class, [TIDE_OP_CANCEL] = &redis_cancel_class,
    [TIDE_OP_PROMOTE] = &redis_promote_class, [TIDE_OP_GROUP_ENSURE] = &redis_group_class,
    [TIDE_OP_FETCH] = &redis_fetch_class,     [TIDE_OP_SETTLE] = &redis_settle_class,
    [TIDE_OP_EXTEND] = &redis_extend_class,   [TIDE_OP_RECOVER] = &redis_recover_class,
    [TIDE_OP_KV] = &redis_kv_class,           [TIDE_OP_COMMAND] = &redis_command_class,
    [TIDE_OP_SERVER] = &redis_server_class,
};

void redis_log(redis_broker *broker, tide_log_level level, int64_t now_us, const char *text) {
    if (now_us < broker->log_us)
        return;
    broker->log_us = now_us + LOG_EVERY_US;
    tide_log(&broker->log, level, "%s", text);
}

/* ---- operations ---- */

static redis_op *op_take(redis_broker *broker) {
    redis_op *op = broker->resting;
    if (op != NULL) {
        broker->resting = op->next;
        broker->resting_count--;
        return op;
    }
    op = tide_alloc(&broker->alloc, sizeof *op);
    if (op == NULL)
        return NULL;
    op->timer = (tide_timer){0};
    op->array = NULL;
    op->array_size = 0;
    tide_buffer_init(&op->saved, &broker->alloc, (size_t)TIDE_OUTPUT_BYTES_MAX * 2);
    tide_arena_init(&op->arena, &broker->alloc, ARENA_BLOCK);
    return op;
}

static void op_prepare(redis_op *op, const tide_op *in, const redis_op_class *class,
                       redis_link *link) {
    op->next = NULL;
    op->class = class;
    op->link = link;
    op->kind = in->kind;
    op->tag = in->tag;
    op->block_us = 0;
    op->open = 0;
    op->touched = false;
    op->expired = false;
    op->start = 0;
    op->acl = "";
    op->derived_keys = false;
    op->subject_len = 0;
    op->status = TIDE_OK;
    tide_error_clear(&op->error);
    op->box = NULL;
    op->count = 0;
    memset(&op->as, 0, sizeof op->as);
}

static void op_free(redis_broker *broker, redis_op *op) {
    tide_buffer_deinit(&op->saved);
    tide_arena_deinit(&op->arena);
    tide_free(&broker->alloc, op->array, op->array_size);
    tide_free(&broker->alloc, op, sizeof *op);
}

static void op_rest(redis_broker *broker, redis_op *op) {
    if (op->kind == TIDE_OP_FETCH || op->kind == TIDE_OP_RECOVER) {
        tide_batch_release(op->as.fetch.batch); /* NULL when it was handed out */
        op->as.fetch.batch = NULL;
    }
    tide_reply_box_release(op->box);
    op->box = NULL;
    if (broker->resting_count >= REDIS_OPS_RESTING_MAX) {
        op_free(broker, op);
        return;
    }
    tide_buffer_clear(&op->saved, REDIS_OP_KEEP_BYTES);
    tide_arena_reset(&op->arena);
    if (op->array_size > REDIS_OP_KEEP_BYTES) {
        tide_free(&broker->alloc, op->array, op->array_size);
        op->array = NULL;
        op->array_size = 0;
    }
    op->next = broker->resting;
    broker->resting = op;
    broker->resting_count++;
}

void *redis_op_array(redis_op *op, size_t count, size_t size) {
    size_t bytes = count * size;
    if (bytes > op->array_size || op->array == NULL) {
        const tide_allocator *alloc = &op->link->broker->alloc;
        size_t rounded = 256;
        while (rounded < bytes)
            rounded *= 2;
        void *array = tide_alloc(alloc, rounded);
        if (array == NULL)
            return NULL;
        tide_free(alloc, op->array, op->array_size);
        op->array = array;
        op->array_size = rounded;
    }
    memset(op->array, 0, bytes);
    op->count = count;
    return op->array;
}

static bool is_open_end(tide_status status) {
    return status == TIDE_UNKNOWN || status == TIDE_TIMEOUT;
}

void redis_op_fail(redis_op *op, tide_status status, const char *format, ...) {
    if (op->status != TIDE_OK && (is_open_end(op->status) || !is_open_end(status)))
        return;
    op->status = status;
    char text[TIDE_ERROR_MESSAGE_MAX * 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tide_error_set(&op->error, status, "%s", text);
}

void redis_op_about(redis_op *op, tide_str subject, const char *acl, bool derived_keys) {
    size_t len = subject.len < REDIS_SUBJECT_MAX ? subject.len : REDIS_SUBJECT_MAX;
    if (len > 0)
        memcpy(op->subject, subject.data, len);
    op->subject_len = (uint32_t)len;
    op->acl = acl;
    op->derived_keys = derived_keys;
}

void redis_op_done(redis_op *op) {
    redis_link *link = op->link;
    redis_broker *broker = link->broker;
    tide_timer_disarm(&broker->op_timers, &op->timer);
    link->block_us -= op->block_us;
    op->next = NULL;
    if (broker->done_last != NULL)
        broker->done_last->next = op;
    else
        broker->done_first = op;
    broker->done_last = op;
}

void redis_arg_derived(tide_buffer *out, tide_str stream, const char *suffix, tide_str rest) {
    char key[TIDE_NAME_MAX + 64];
    size_t len = tide_derived_key(key, stream, tide_str_from(suffix));
    if (rest.len == 0) {
        tide_resp_arg(out, (tide_str){key, len});
        return;
    }
    char whole[TIDE_NAME_MAX * 2 + 64];
    if (len + rest.len > sizeof whole) {
        out->failed = true;
        return;
    }
    memcpy(whole, key, len);
    memcpy(whole + len, rest.data, rest.len);
    tide_resp_arg(out, (tide_str){whole, len + rest.len});
}

tide_status redis_check_name(const char *what, tide_str name, tide_error *error) {
    if (name.len == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "the %s has no name", what);
    if (name.len > TIDE_NAME_MAX)
        return tide_error_set(error, TIDE_ARGUMENT, "the name of the %s is longer than %d bytes",
                              what, TIDE_NAME_MAX);
    return TIDE_OK;
}

/* ---- which link ---- */

redis_link *redis_route(redis_broker *broker, const tide_op *op, int64_t block_ms, int64_t now_us,
                        tide_status *status) {
    redis_link_role role = LINK_SHARED;
    uint32_t reader = 0;
    if (op->kind == TIDE_OP_FETCH) {
        role = LINK_READER;
        reader = op->as.fetch.reader;
    } else if (op->kind == TIDE_OP_COMMAND && block_ms > 0) {
        role = LINK_SPARE;
    }
    for (uint32_t i = 0; i < broker->link_count; i++) {
        redis_link *link = broker->links[i];
        if (link == NULL || link->role != role || link->state == LINK_CLOSED)
            continue;
        if (role == LINK_READER && link->reader != reader)
            continue;
        if (role == LINK_SPARE && link->ring_count > 0)
            continue;
        return link;
    }
    redis_link *link = NULL;
    *status = redis_link_create(broker, role, reader, now_us, &link);
    return *status == TIDE_OK ? link : NULL;
}

/* ---- the port ---- */

static int64_t block_of(const tide_op *op) {
    if (op->kind == TIDE_OP_FETCH)
        return op->as.fetch.history ? 0 : op->as.fetch.block_ms;
    if (op->kind == TIDE_OP_COMMAND)
        return redis_command_block_ms(&op->as.command);
    return 0;
}

static tide_status refuse(tide_error *error, tide_status status) {
    return tide_error_set(error, status, "%s", tide_status_text(status));
}

static tide_status broker_submit(tide_broker *base, const tide_op *in, int64_t now_us,
                                 tide_error *error) {
    redis_broker *broker = self(base);
    if ((unsigned)in->kind >= TIDE_OP_KIND_COUNT)
        return tide_error_set(error, TIDE_ARGUMENT, "no such operation: %d", (int)in->kind);
    if (broker->live_count >= TIDE_OPS_MAX)
        return tide_error_set(error, TIDE_OVERFLOW, "%d operations are under way already",
                              TIDE_OPS_MAX);
    int64_t block_ms = block_of(in);
    if (block_ms < 0 || block_ms > INT64_C(86400000) * 365 || in->timeout_ms < 0 ||
        in->timeout_ms > INT64_C(86400000) * 365)
        return tide_error_set(error, TIDE_ARGUMENT, "a time is negative or longer than a year");
    if (tide_heap_reserve(&broker->op_timers, broker->live_count + 1) != TIDE_OK)
        return refuse(error, TIDE_ENOMEM);
    tide_status status = TIDE_OK;
    redis_link *link = redis_route(broker, in, block_ms, now_us, &status);
    if (link == NULL)
        return tide_error_set(error, status, "no connection for it: %s", tide_status_text(status));
    redis_op *op = op_take(broker);
    if (op == NULL)
        return refuse(error, TIDE_ENOMEM);
    op_prepare(op, in, classes[in->kind], link);
    size_t size = tide_buffer_size(&link->out);
    uint32_t requests = link->ring_count;
    status = op->class->encode(op, link, in, error);
    if (status == TIDE_OK && (link->out.failed || op->saved.failed))
        status = refuse(error, TIDE_ENOMEM);
    size_t added = tide_buffer_size(&link->out) - size;
    if (status == TIDE_OK && added + size > TIDE_OUTPUT_BYTES_MAX)
        status = tide_error_set(error, added > TIDE_OUTPUT_BYTES_MAX ? TIDE_LIMIT : TIDE_OVERFLOW,
                                "more than %d bytes would wait to be sent", TIDE_OUTPUT_BYTES_MAX);
    if (status != TIDE_OK) {
        link->out.failed = false;
        link->out.end = link->out.begin + size;
        link->ring_count = requests;
        op_rest(broker, op);
        return status;
    }
    TIDE_ASSERT(op->open > 0);
    op->block_us = block_ms > 0 ? (block_ms + block_ms / 2 + BLOCK_MARGIN_MS) * 1000 : 0;
    link->block_us += op->block_us;
    op->timeout_us = in->timeout_ms > 0 ? in->timeout_ms * 1000 : broker->timeout_us;
    /* Those before it on this link may block as long as they are allowed to. */
    (void)tide_timer_arm(&broker->op_timers, &op->timer, now_us + op->timeout_us + link->block_us);
    broker->live_count++;
    if (link->state == LINK_WAIT_RETRY)
        redis_link_tick(link, now_us); /* opens it when that is due */
    else if (link->role == LINK_SPARE)
        redis_link_arm(link);
    return TIDE_OK;
}

static bool broker_next_completion(tide_broker *base, tide_completion *completion) {
    redis_broker *broker = self(base);
    if (broker->handed != NULL) {
        op_rest(broker, broker->handed);
        broker->handed = NULL;
    }
    redis_op *op = broker->done_first;
    if (op == NULL)
        return false;
    broker->done_first = op->next;
    if (broker->done_first == NULL)
        broker->done_last = NULL;
    broker->live_count--;
    broker->handed = op;
    memset(&completion->as, 0, sizeof completion->as);
    completion->kind = op->kind;
    completion->tag = op->tag;
    completion->status = op->status;
    if (op->status == TIDE_OK)
        tide_error_clear(&completion->error);
    else
        completion->error = op->error;
    op->class->complete(op, completion);
    return true;
}

static redis_link *link_of(redis_broker *broker, uint32_t number) {
    return number < broker->link_count ? broker->links[number] : NULL;
}

static redis_link *reader_of(redis_broker *broker, uint32_t reader) {
    for (uint32_t i = 0; i < broker->link_count; i++) {
        redis_link *link = broker->links[i];
        if (link != NULL && link->role == LINK_READER && link->reader == reader &&
            link->state != LINK_CLOSED)
            return link;
    }
    return NULL;
}

static void broker_interrupt(tide_broker *base, uint32_t reader, int64_t now_us) {
    redis_link *link = reader_of(self(base), reader);
    if (link != NULL)
        redis_link_interrupt(link, now_us);
}

static void broker_drop_reader(tide_broker *base, uint32_t reader, int64_t now_us) {
    redis_link *link = reader_of(self(base), reader);
    if (link != NULL)
        redis_link_close(link, now_us);
}

static const uint64_t *broker_watch(tide_broker *base, tide_str stream, int64_t now_us) {
    return redis_watch_begin(self(base), stream, now_us);
}

static void broker_unwatch(tide_broker *base, const uint64_t *watch, int64_t now_us) {
    redis_watch_end(self(base), watch, now_us);
}

static void broker_tick(tide_broker *base, int64_t now_us) {
    redis_broker *broker = self(base);
    bool some_unsent = false;
    tide_timer *timer;
    while ((timer = tide_heap_pop_due(&broker->op_timers, now_us)) != NULL) {
        redis_op *op = (redis_op *)(void *)timer;
        op->expired = true;
        if (redis_op_is_sent(op)) {
            redis_link_drop(op->link, now_us, TIDE_TIMEOUT, "%s did not answer in time",
                            broker->place);
        } else {
            some_unsent = true;
        }
    }
    for (uint32_t i = 0; some_unsent && i < broker->link_count; i++) {
        if (broker->links[i] != NULL)
            redis_link_expire(broker->links[i]);
    }
    while ((timer = tide_heap_pop_due(&broker->link_timers, now_us)) != NULL)
        redis_link_tick((redis_link *)(void *)timer, now_us);
}

static int64_t broker_deadline_us(const tide_broker *base) {
    const redis_broker *broker = (const redis_broker *)(const void *)base;
    const tide_timer *op = tide_heap_first(&broker->op_timers);
    const tide_timer *link = tide_heap_first(&broker->link_timers);
    int64_t due = op != NULL ? op->deadline_us : INT64_MAX;
    return link != NULL && link->deadline_us < due ? link->deadline_us : due;
}

static bool broker_next_link_want(tide_broker *base, tide_link_want *want) {
    redis_broker *broker = self(base);
    while (broker->want_first != NULL) {
        redis_link *link = broker->want_first;
        want->link = link->number;
        bool closes = link->wants_close;
        bool opens = !closes && link->wants_open;
        if (closes) {
            link->wants_close = false;
            want->action = TIDE_LINK_CLOSE;
            want->endpoint = (tide_endpoint){.scheme = broker->endpoint.scheme};
        } else if (opens) {
            link->wants_open = false;
            link->is_asked = true;
            want->action = TIDE_LINK_OPEN;
            want->endpoint = broker->endpoint;
        }
        if (!link->wants_close && !link->wants_open) {
            broker->want_first = link->next_want;
            if (broker->want_first == NULL)
                broker->want_last = NULL;
            link->is_queued = false;
            if (link->state == LINK_CLOSED)
                redis_link_destroy(link);
        }
        if (closes || opens)
            return true;
    }
    return false;
}

static void broker_link_opened(tide_broker *base, uint32_t number, int64_t now_us) {
    redis_link *link = link_of(self(base), number);
    if (link != NULL)
        redis_link_opened(link, now_us);
}

static void broker_link_closed(tide_broker *base, uint32_t number, const tide_error *why,
                               int64_t now_us) {
    redis_link *link = link_of(self(base), number);
    /* Only what the driver was told to open can close. */
    if (link == NULL || !link->is_asked)
        return;
    redis_link_lost(link, true, why, now_us);
}

static void broker_feed(tide_broker *base, uint32_t number, const char *bytes, size_t size,
                        int64_t now_us) {
    redis_link *link = link_of(self(base), number);
    if (link != NULL && size > 0)
        redis_link_feed(link, bytes, size, now_us);
}

static tide_str broker_output(tide_broker *base, uint32_t number) {
    redis_link *link = link_of(self(base), number);
    return link != NULL ? redis_link_output(link) : (tide_str){"", 0};
}

static void broker_output_ack(tide_broker *base, uint32_t number, size_t size, int64_t now_us) {
    (void)now_us;
    redis_link *link = link_of(self(base), number);
    if (link != NULL)
        redis_link_output_ack(link, size);
}

/* What a link ended with says more than that another is on its way. */
static tide_status broker_state(const tide_broker *base, tide_error *error) {
    const redis_broker *broker = (const redis_broker *)(const void *)base;
    bool is_connecting = false;
    for (uint32_t i = 0; i < broker->link_count; i++) {
        const redis_link *link = broker->links[i];
        if (link == NULL || link->state == LINK_READY || link->role == LINK_SPARE ||
            link->role == LINK_WAKE || link->state == LINK_CLOSED)
            continue;
        is_connecting = true;
        if (link->error.status == TIDE_OK)
            continue;
        if (error != NULL)
            *error = link->error;
        return link->error.status;
    }
    if (is_connecting)
        return tide_error_set(error, TIDE_DISCONNECTED, "connecting to %s", broker->place);
    tide_error_clear(error);
    return TIDE_OK;
}

static void free_secret(const tide_allocator *alloc, tide_str *text) {
    if (text->data != NULL) {
        volatile char *bytes = (volatile char *)(uintptr_t)text->data;
        for (size_t i = 0; i < text->len; i++)
            bytes[i] = 0;
    }
    tide_str_free(alloc, text);
}

static tide_status broker_set_password(tide_broker *base, tide_str password) {
    redis_broker *broker = self(base);
    tide_str copy;
    if (tide_str_copy(&broker->alloc, password, &copy) != TIDE_OK)
        return TIDE_ENOMEM;
    free_secret(&broker->alloc, &broker->password);
    broker->password = copy;
    return TIDE_OK;
}

static void broker_destroy(tide_broker *base) {
    redis_broker *broker = self(base);
    for (uint32_t i = 0; i < broker->link_count; i++) {
        if (broker->links[i] != NULL)
            redis_link_close(broker->links[i], 0);
    }
    /* All are in the list of wants now, which goes with them. */
    for (uint32_t i = 0; i < broker->link_count; i++) {
        if (broker->links[i] != NULL)
            redis_link_destroy(broker->links[i]);
    }
    tide_completion last;
    while (broker_next_completion(base, &last)) {
        /* A batch that nobody took stays with its operation. */
        if (last.kind == TIDE_OP_FETCH)
            tide_batch_release(last.as.fetch.batch);
        else if (last.kind == TIDE_OP_RECOVER)
            tide_batch_release(last.as.recover.batch);
    }
    while (broker->resting != NULL) {
        redis_op *op = broker->resting;
        broker->resting = op->next;
        op_free(broker, op);
    }
    tide_allocator alloc = broker->alloc;
    redis_watches_free(broker);
    tide_free(&alloc, broker->links, broker->link_count * sizeof *broker->links);
    tide_heap_deinit(&broker->op_timers);
    tide_heap_deinit(&broker->link_timers);
    tide_str_free(&alloc, &broker->endpoint.host);
    tide_str_free(&alloc, &broker->user);
    free_secret(&alloc, &broker->password);
    tide_str_free(&alloc, &broker->name);
    tide_free(&alloc, broker, sizeof *broker);
}

static const tide_broker_vtable vtable = {
    .name = "redis",
    .jobs_block = false,
    .destroy = broker_destroy,
    .submit = broker_submit,
    .next_completion = broker_next_completion,
    .interrupt = broker_interrupt,
    .drop_reader = broker_drop_reader,
    .watch = broker_watch,
    .unwatch = broker_unwatch,
    .tick = broker_tick,
    .deadline_us = broker_deadline_us,
    .next_link_want = broker_next_link_want,
    .link_opened = broker_link_opened,
    .link_closed = broker_link_closed,
    .feed = broker_feed,
    .output = broker_output,
    .set_password = broker_set_password,
    .output_ack = broker_output_ack,
    .state = broker_state,
};

static void name_place(redis_broker *broker) {
    const tide_endpoint *to = &broker->endpoint;
    if (to->scheme == TIDE_SCHEME_UNIX) {
        snprintf(broker->place, sizeof broker->place, "unix:%s", to->host.data);
        return;
    }
    bool is_ipv6 = memchr(to->host.data, ':', to->host.len) != NULL;
    snprintf(broker->place, sizeof broker->place, "%s://%s%s%s:%u",
             to->scheme == TIDE_SCHEME_REDIS_TLS ? "rediss" : "redis", is_ipv6 ? "[" : "",
             to->host.data, is_ipv6 ? "]" : "", (unsigned)to->port);
}

tide_status tide_broker_redis_create(tide_broker **broker, const tide_broker_options *options,
                                     tide_error *error) {
    const tide_url *url = options->url;
    if (url->scheme != TIDE_SCHEME_REDIS && url->scheme != TIDE_SCHEME_REDIS_TLS &&
        url->scheme != TIDE_SCHEME_UNIX)
        return tide_error_set(error, TIDE_UNSUPPORTED, "not a URL of Redis or Valkey");
    tide_allocator alloc = tide_allocator_or_default(options->env.allocator);
    redis_broker *made = tide_alloc_zero(&alloc, 1, sizeof *made);
    if (made == NULL)
        return refuse(error, TIDE_ENOMEM);
    made->base.vtable = &vtable;
    made->alloc = alloc;
    made->log = options->env.log;
    made->log_us = INT64_MIN;
    tide_prng_seed(&made->prng, options->env.seed);
    tide_heap_init(&made->op_timers, &made->alloc);
    tide_heap_init(&made->link_timers, &made->alloc);
    made->db = options->url_options->db;
    made->timeout_us = options->url_options->timeout_us;
    made->connect_timeout_us = options->url_options->connect_timeout_us;
    made->endpoint.scheme = url->scheme;
    made->endpoint.port = url->port;
    tide_str host = url->scheme == TIDE_SCHEME_UNIX ? url->path : url->host;
    tide_str name =
        options->url_options->name.len > 0 ? options->url_options->name : TIDE_STR("tidemill");
    bool copied = tide_str_copy(&alloc, host, &made->endpoint.host) == TIDE_OK &&
                  tide_str_copy(&alloc, name, &made->name) == TIDE_OK;
    if (copied && url->user.data != NULL)
        copied = tide_str_copy(&alloc, url->user, &made->user) == TIDE_OK;
    if (copied && url->password.data != NULL)
        copied = tide_str_copy(&alloc, url->password, &made->password) == TIDE_OK;
    redis_link *link;
    if (!copied || redis_link_create(made, LINK_SHARED, 0, INT64_MIN / 2, &link) != TIDE_OK) {
        broker_destroy(&made->base);
        return refuse(error, TIDE_ENOMEM);
    }
    name_place(made);
    *broker = &made->base;
    return TIDE_OK;
}
