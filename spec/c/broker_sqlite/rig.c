/* SPDX-License-Identifier: MIT */
/*
 * What it is: the test's driver of an embedded broker, see rig.h.
 * What it is not: threaded; a job runs inside rig_run.
 * Invariants: the clock moves only when a test moves it.
 */
#include "rig.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/text.h"

tide_str str(const char *text) {
    return tide_str_from(text);
}

tide_id id_of(uint64_t ms, uint64_t seq) {
    return (tide_id){ms, seq};
}

tide_status rig_create(rig *r, const rig_options *options) {
    *r = (rig){.now_us = 1000};
    r->alloc = options->alloc != NULL ? *options->alloc : tide_allocator_default();
    tide_url url = {.scheme = options->path != NULL ? TIDE_SCHEME_FILE : TIDE_SCHEME_MEMORY,
                    .path = tide_str_from(options->path)};
    tide_url_options more = {.synchronous = options->synchronous,
                             .busy_timeout_us = options->busy_ms * 1000,
                             .max_len = options->max_len,
                             .max_age_us = options->max_age_ms * 1000};
    tide_broker_options create = {.url = &url,
                                  .url_options = &more,
                                  .env = {.allocator = r->alloc},
                                  .wall_offset_us = (int64_t)RIG_WALL_MS * 1000};
    return tide_broker_sqlite_create(&r->broker, &create, NULL);
}

void rig_open(rig *r, const char *path) {
    rig_options options = {.path = path, .busy_ms = 1000};
    assert_int_equal(rig_create(r, &options), TIDE_OK);
}

void rig_close(rig *r) {
    if (r->broker != NULL)
        r->broker->vtable->destroy(r->broker);
    r->broker = NULL;
}

int rig_setup(void **state) {
    rig_open(*state, NULL);
    return 0;
}

int rig_teardown(void **state) {
    rig_close(*state);
    return 0;
}

void rig_run(rig *r) {
    tide_job *job;
    while ((job = r->broker->vtable->take_job(r->broker, r->now_us)) != NULL) {
        job->run(job);
        r->broker->vtable->finish_job(r->broker, job, r->now_us);
    }
}

uint64_t rig_submit(rig *r, tide_op op) {
    op.tag = ++r->tag;
    tide_error error = {0};
    tide_status status = r->broker->vtable->submit(r->broker, &op, r->now_us, &error);
    if (status != TIDE_OK)
        print_error("submit: %s %s\n", tide_status_code(status), error.message);
    assert_int_equal(status, TIDE_OK);
    return op.tag;
}

bool rig_next(rig *r) {
    rig_run(r);
    return r->broker->vtable->next_completion(r->broker, &r->last);
}

tide_status rig_do(rig *r, tide_op op) {
    uint64_t tag = rig_submit(r, op);
    assert_true(rig_next(r));
    assert_int_equal(r->last.tag, tag);
    return r->last.status;
}

tide_record rig_record(const char *id) {
    static tide_field fields[4][2];
    static size_t turn;
    tide_field *own = fields[turn++ % 4];
    own[0] = (tide_field){TIDE_STR("event_id"), str(id)};
    own[1] = (tide_field){TIDE_STR("data"), str(id)};
    return (tide_record){own, 2, str(id)};
}

tide_op rig_publish_op(const char *stream, const tide_record *records, size_t count) {
    tide_op op = {.kind = TIDE_OP_PUBLISH};
    op.as.publish.stream = str(stream);
    op.as.publish.records = records;
    op.as.publish.record_count = count;
    return op;
}

tide_status rig_publish(rig *r, const char *stream, const char *id, const char *data) {
    tide_field fields[] = {{TIDE_STR("event_id"), str(id)},
                           {TIDE_STR("event_type"), TIDE_STR("t")},
                           {TIDE_STR("data"), str(data)}};
    tide_record record = {fields, 3, str(id)};
    return rig_do(r, rig_publish_op(stream, &record, 1));
}

tide_status rig_ensure(rig *r, const char *stream, const char *group, const char *start) {
    tide_op op = {.kind = TIDE_OP_GROUP_ENSURE};
    op.as.group_ensure.stream = str(stream);
    op.as.group_ensure.group = str(group);
    op.as.group_ensure.start = str(start);
    return rig_do(r, op);
}

tide_op rig_fetch_op(const char *stream, const char *group, const char *consumer, uint32_t count) {
    tide_op op = {.kind = TIDE_OP_FETCH};
    op.as.fetch.stream = str(stream);
    op.as.fetch.group = str(group);
    op.as.fetch.consumer = str(consumer);
    op.as.fetch.reader = 1;
    op.as.fetch.count_max = count;
    return op;
}

tide_status rig_fetch(rig *r, const char *stream, const char *group, const char *consumer,
                      uint32_t count) {
    return rig_do(r, rig_fetch_op(stream, group, consumer, count));
}

size_t rig_count(const tide_batch *batch) {
    return batch != NULL ? tide_batch_count(batch) : 0;
}

tide_str rig_field(const tide_entry *entry, const char *name) {
    for (uint32_t i = 0; i < entry->field_count; i++) {
        if (tide_str_equal(entry->fields[i].name, str(name)))
            return entry->fields[i].value;
    }
    return (tide_str){NULL, 0};
}

tide_status rig_settle(rig *r, const char *stream, const char *group, const char *consumer,
                       tide_settlement item) {
    tide_op op = {.kind = TIDE_OP_SETTLE};
    op.as.settle.stream = str(stream);
    op.as.settle.group = str(group);
    op.as.settle.consumer = str(consumer);
    op.as.settle.dead_letters = TIDE_STR("dlq");
    op.as.settle.items = &item;
    op.as.settle.item_count = 1;
    tide_status status = rig_do(r, op);
    return status != TIDE_OK ? status : r->last.as.settle.results[0];
}

uint32_t rig_promote(rig *r, const char *stream, int64_t *next_due_ms) {
    tide_op op = {.kind = TIDE_OP_PROMOTE};
    op.as.promote.stream = str(stream);
    op.as.promote.count_max = 10;
    assert_int_equal(rig_do(r, op), TIDE_OK);
    *next_due_ms = r->last.as.promote.next_due_ms;
    return r->last.as.promote.moved;
}

/* ---- replies as text ---- */

static char text[1 << 16];
static size_t used;

static void put(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void put(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text + used, sizeof text - used, format, args);
    va_end(args);
    used += (size_t)size;
    assert_true(used < sizeof text);
}

static void put_reply(const tide_reply *reply) {
    switch (reply->type) {
    case TIDE_REPLY_NIL: put("(nil)"); break;
    case TIDE_REPLY_INTEGER: put("%" PRId64, reply->as.integer); break;
    case TIDE_REPLY_STRING: put("\"%.*s\"", (int)reply->as.text.len, reply->as.text.data); break;
    case TIDE_REPLY_STATUS: put("%.*s", (int)reply->as.text.len, reply->as.text.data); break;
    case TIDE_REPLY_ERROR: put("(error) %.*s", (int)reply->as.text.len, reply->as.text.data); break;
    case TIDE_REPLY_ARRAY:
        put("[");
        for (size_t i = 0; i < reply->as.array.count; i++) {
            if (i > 0)
                put(", ");
            put_reply(&reply->as.array.items[i]);
        }
        put("]");
        break;
    default: put("?"); break;
    }
}

const char *rig_command(rig *r, const char *const *words, size_t count) {
    tide_str args[64];
    assert_true(count <= 64);
    for (size_t i = 0; i < count; i++)
        args[i] = str(words[i]);
    tide_op op = {.kind = TIDE_OP_COMMAND};
    op.as.command.args = args;
    op.as.command.arg_count = count;
    rig_submit(r, op);
    used = 0;
    text[0] = '\0';
    if (!rig_next(r))
        return "(waiting)";
    if (r->last.as.command.reply == NULL)
        put("(%s) %s", tide_status_code(r->last.status), r->last.error.message);
    else
        put_reply(r->last.as.command.reply);
    return text;
}

int64_t rig_server_integer(rig *r, const char *name) {
    tide_op op = {.kind = TIDE_OP_SERVER};
    assert_int_equal(rig_do(r, op), TIDE_OK);
    const tide_reply *reply = r->last.as.command.reply;
    for (size_t i = 0; i + 1 < reply->as.array.count; i += 2) {
        if (tide_str_equal(reply->as.array.items[i].as.text, str(name)) &&
            reply->as.array.items[i + 1].type == TIDE_REPLY_INTEGER)
            return reply->as.array.items[i + 1].as.integer;
    }
    return -1;
}

void rig_remove(const char *path) {
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char name[600];
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
}
