/* SPDX-License-Identifier: MIT */
/*
 * What it is: reading for a consumer: making sure of the group, new entries, its own pending ones, those of the dead.
 * What it is not: a copy of payloads; a batch points into the reply's box, which it owns.
 *
 *   fetch new       XREADGROUP … >                                             attempt 1
 *   fetch history   XREADGROUP … id, then XPENDING for the attempts
 *   recover         XAUTOCLAIM, then XPENDING; for entries that come as nil (Redis 6.2), a script that finds their ids
 *
 * Between the two requests somebody may ack an entry (XACK asks nobody whose it is). XPENDING, paged to the end of the
 * batch, has every entry that is this consumer's: one that is missing there is `settled`, and stays in the batch only so
 * that a page of history has its last id.
 *
 * Invariants: a batch is complete before its operation is; until then it belongs to the operation. Reading the history and
 * claiming both count a delivery at the server, so the count read afterwards includes this one.
 */
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum { STEP_READ, STEP_CLAIM, STEP_GONE, STEP_ATTEMPTS };
enum { PAGE_MIN = 128 };

static tide_status out_of_room(tide_error *error, tide_status status) {
    return tide_error_set(error, status, "%s", tide_status_text(status));
}

/* ---- the group ---- */

static tide_status encode_group(redis_op *op, redis_link *link, const tide_op *op_in,
                                tide_error *error) {
    const tide_op_group_ensure *in = &op_in->as.group_ensure;
    tide_status status = redis_check_name("stream", in->stream, error);
    if (status == TIDE_OK)
        status = redis_check_name("group", in->group, error);
    if (status != TIDE_OK)
        return status;
    redis_op_about(op, in->stream, "+xgroup|create", false);
    if ((status = redis_link_reserve(link, 1)) != TIDE_OK)
        return out_of_room(error, status);
    tide_buffer *out = &link->out;
    redis_request_begin(link, op, 0, 6);
    tide_resp_arg_literal(out, "XGROUP");
    tide_resp_arg_literal(out, "CREATE");
    tide_resp_arg(out, in->stream);
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->start.len > 0 ? in->start : TIDE_STR("0"));
    tide_resp_arg_literal(out, "MKSTREAM");
    return TIDE_OK;
}

static bool reply_group(redis_op *op, redis_link *link, const redis_request *request,
                        tide_reply_box **box) {
    (void)link;
    (void)request;
    if ((*box)->reply.type != TIDE_REPLY_STATUS)
        return false;
    op->as.group_ensure.created = true;
    return true;
}

/* BUSYGROUP: it is there, which is all that was wanted. */
static bool fail_group(redis_op *op, redis_link *link, const redis_request *request,
                       tide_status status, tide_str detail) {
    (void)op;
    (void)link;
    (void)request;
    (void)detail;
    return status == TIDE_EXISTS;
}

static void complete_group(redis_op *op, tide_completion *completion) {
    completion->as.group_ensure.created = op->as.group_ensure.created;
}

const redis_op_class redis_group_class = {
    .encode = encode_group,
    .reply = reply_group,
    .fail = fail_group,
    .complete = complete_group,
    .writes = true,
};

/* ---- requests ---- */

static tide_status check_names(tide_str stream, tide_str group, tide_str consumer,
                               tide_error *error) {
    tide_status status = redis_check_name("stream", stream, error);
    if (status == TIDE_OK)
        status = redis_check_name("group", group, error);
    if (status == TIDE_OK)
        status = redis_check_name("consumer", consumer, error);
    return status;
}

/* Keeps the names for the requests that follow. */
static void save_names(redis_op *op, tide_str stream, tide_str group, tide_str consumer) {
    tide_buffer_append_str(&op->saved, stream);
    tide_buffer_append_str(&op->saved, group);
    tide_buffer_append_str(&op->saved, consumer);
    op->as.fetch.stream_len = (uint32_t)stream.len;
    op->as.fetch.group_len = (uint32_t)group.len;
    op->as.fetch.consumer_len = (uint32_t)consumer.len;
}

static tide_str saved_stream(const redis_op *op) {
    return (tide_str){tide_buffer_data(&op->saved), op->as.fetch.stream_len};
}
static tide_str saved_group(const redis_op *op) {
    return (tide_str){tide_buffer_data(&op->saved) + op->as.fetch.stream_len,
                      op->as.fetch.group_len};
}
static tide_str saved_consumer(const redis_op *op) {
    return (tide_str){tide_buffer_data(&op->saved) + op->as.fetch.stream_len +
                          op->as.fetch.group_len,
                      op->as.fetch.consumer_len};
}

static tide_status encode_fetch(redis_op *op, redis_link *link, const tide_op *op_in,
                                tide_error *error) {
    const tide_op_fetch *in = &op_in->as.fetch;
    tide_status status = check_names(in->stream, in->group, in->consumer, error);
    if (status != TIDE_OK)
        return status;
    redis_op_about(op, in->stream, in->history ? "+xreadgroup +xpending" : "+xreadgroup", false);
    op->as.fetch.history = in->history;
    if (in->history)
        save_names(op, in->stream, in->group, in->consumer);
    if ((status = redis_link_reserve(link, 1)) != TIDE_OK)
        return out_of_room(error, status);
    bool blocks = !in->history && in->block_ms > 0;
    tide_buffer *out = &link->out;
    redis_request_begin(link, op, STEP_READ, blocks ? 11 : 9);
    tide_resp_arg_literal(out, "XREADGROUP");
    tide_resp_arg_literal(out, "GROUP");
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->consumer);
    tide_resp_arg_literal(out, "COUNT");
    tide_resp_arg_u64(out, in->count_max > 0 ? in->count_max : 1);
    if (blocks) {
        tide_resp_arg_literal(out, "BLOCK");
        tide_resp_arg_i64(out, in->block_ms);
    }
    tide_resp_arg_literal(out, "STREAMS");
    tide_resp_arg(out, in->stream);
    if (in->history)
        tide_resp_arg_id(out, in->after);
    else
        tide_resp_arg_literal(out, ">");
    return TIDE_OK;
}

static tide_status encode_recover(redis_op *op, redis_link *link, const tide_op *op_in,
                                  tide_error *error) {
    const tide_op_recover *in = &op_in->as.recover;
    tide_status status = check_names(in->stream, in->group, in->consumer, error);
    if (status != TIDE_OK)
        return status;
    redis_op_about(op, in->stream, "+xautoclaim +xpending +evalsha +eval +xrange", false);
    save_names(op, in->stream, in->group, in->consumer);
    op->as.fetch.from = in->cursor;
    if ((status = redis_link_reserve(link, 1)) != TIDE_OK)
        return out_of_room(error, status);
    tide_buffer *out = &link->out;
    redis_request_begin(link, op, STEP_CLAIM, 8);
    tide_resp_arg_literal(out, "XAUTOCLAIM");
    tide_resp_arg(out, in->stream);
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->consumer);
    tide_resp_arg_i64(out, in->min_idle_ms > 0 ? in->min_idle_ms : 0);
    tide_resp_arg_id(out, in->cursor);
    tide_resp_arg_literal(out, "COUNT");
    tide_resp_arg_u64(out, in->count_max > 0 ? in->count_max : 1);
    return TIDE_OK;
}

/* Asks for the delivery counts of the batch's entries; `after`: those behind it only. */
static void ask_attempts(redis_op *op, redis_link *link, const tide_id *after) {
    tide_batch *batch = op->as.fetch.batch;
    tide_buffer *out = &link->out;
    size_t size = tide_buffer_size(out);
    tide_status status = redis_link_reserve(link, 1);
    if (status != TIDE_OK) {
        redis_op_fail(op, status, "no room to ask for the attempts");
        return;
    }
    redis_request_begin(link, op, STEP_ATTEMPTS, 7);
    tide_resp_arg_literal(out, "XPENDING");
    tide_resp_arg(out, saved_stream(op));
    tide_resp_arg(out, saved_group(op));
    for (size_t i = 0; after == NULL && i < batch->count; i++)
        batch->entries[i].settled = true; /* until it is found there */
    if (after != NULL) {
        char text[1 + TIDE_ID_TEXT_MAX] = "(";
        tide_resp_arg(out, (tide_str){text, 1 + tide_id_format(text + 1, *after)});
    } else {
        tide_resp_arg_id(out, batch->entries[0].id);
    }
    tide_resp_arg_id(out, batch->entries[batch->count - 1].id);
    /* The history is all that is pending of this consumer; claimed ones lie among others of it. */
    size_t page = op->as.fetch.history ? batch->count : 2 * batch->count;
    if (page < PAGE_MIN)
        page = PAGE_MIN;
    op->as.fetch.page = (uint32_t)page;
    tide_resp_arg_u64(out, page);
    tide_resp_arg(out, saved_consumer(op));
    if (out->failed) {
        out->failed = false;
        out->end = out->begin + size;
        link->ring_count--;
        op->open--;
        redis_op_fail(op, TIDE_ENOMEM, "no memory to ask for the attempts");
    }
}

static void ask_gone(redis_op *op, redis_link *link, size_t most) {
    tide_buffer *out = &link->out;
    size_t size = tide_buffer_size(out);
    tide_status status = redis_link_reserve(link, 1);
    if (status != TIDE_OK) {
        redis_op_fail(op, status, "no room to ask for what is gone");
        return;
    }
    tide_id cursor = op->as.fetch.cursor;
    redis_script_begin(link, op, STEP_GONE, SCRIPT_GONE, 1, 5);
    /* Copies: the names lie in the buffer that redis_script_end appends to, after these are written. */
    tide_resp_arg(out, saved_stream(op));
    tide_resp_arg(out, saved_group(op));
    tide_resp_arg(out, saved_consumer(op));
    tide_resp_arg_id(out, op->as.fetch.from);
    if (cursor.ms == 0 && cursor.seq == 0)
        tide_resp_arg_literal(out, "+");
    else
        tide_resp_arg_id(out, cursor);
    tide_resp_arg_u64(out, most);
    redis_script_end(link, op);
    if (out->failed) {
        out->failed = false;
        out->end = out->begin + size;
        link->ring_count--;
        op->open--;
        redis_op_fail(op, TIDE_ENOMEM, "no memory to ask for what is gone");
    }
}

/* ---- entries ---- */

static void release_box(void *box) {
    tide_reply_box_release(box);
}

/* Whether the array holds entries, or nils where `nils` isn't NULL (counted there); counts their fields. */
static bool measure(const tide_reply *entries, size_t *fields, size_t *nils) {
    if (entries->type != TIDE_REPLY_ARRAY)
        return false;
    *fields = 0;
    for (size_t i = 0; i < entries->as.array.count; i++) {
        const tide_reply *entry = &entries->as.array.items[i];
        if (entry->type == TIDE_REPLY_NIL && nils != NULL) {
            (*nils)++;
            continue;
        }
        if (entry->type != TIDE_REPLY_ARRAY || entry->as.array.count != 2 ||
            entry->as.array.items[0].type != TIDE_REPLY_STRING)
            return false;
        const tide_reply *list = &entry->as.array.items[1];
        if (list->type == TIDE_REPLY_NIL)
            continue;
        if (list->type != TIDE_REPLY_ARRAY || list->as.array.count % 2 != 0)
            return false;
        *fields += list->as.array.count / 2;
    }
    return true;
}

static bool fill_entry(tide_entry *entry, tide_field **fields, const tide_reply *reply) {
    const tide_reply *list = &reply->as.array.items[1];
    *entry = (tide_entry){.attempt = 1};
    if (!tide_id_parse(reply->as.array.items[0].as.text, 0, &entry->id))
        return false;
    if (list->type == TIDE_REPLY_NIL) {
        entry->gone = true;
        return true;
    }
    size_t count = list->as.array.count / 2;
    const tide_reply *items = list->as.array.items;
    tide_field *field = *fields;
    size_t bytes = 0;
    entry->fields = field;
    entry->field_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++, field++, items += 2) {
        if (items[0].type != TIDE_REPLY_STRING || items[1].type != TIDE_REPLY_STRING)
            return false;
        field->name = items[0].as.text;
        field->value = items[1].as.text;
        bytes += field->name.len + field->value.len;
    }
    entry->bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
    *fields = field;
    return true;
}

/* Makes the operation's batch of the entries; it takes the box. False: the shape is wrong. */
static bool make_batch(redis_op *op, const tide_reply *entries, size_t field_count, size_t nils,
                       tide_reply_box **box) {
    size_t count = entries->as.array.count;
    if (count == 0)
        return true;
    tide_batch *batch = tide_batch_create(&op->link->broker->alloc, count, field_count);
    if (batch == NULL) {
        redis_op_fail(op, TIDE_ENOMEM, "no memory for %zu entries; they stay pending", count);
        return true;
    }
    tide_field *fields = tide_batch_fields(batch);
    for (size_t i = 0; i < count; i++) {
        if (entries->as.array.items[i].type == TIDE_REPLY_NIL)
            continue;
        if (!fill_entry(&batch->entries[batch->count], &fields, &entries->as.array.items[i])) {
            tide_batch_release(batch);
            return false;
        }
        batch->count++;
    }
    (void)nils;
    batch->release_backing = release_box;
    batch->backing = *box;
    *box = NULL;
    op->as.fetch.batch = batch;
    return true;
}

/* ---- replies ---- */

/* [[stream, entries]], or nil. */
static bool reply_read(redis_op *op, redis_link *link, tide_reply_box **box) {
    const tide_reply *reply = &(*box)->reply;
    if (reply->type == TIDE_REPLY_NIL)
        return true;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count != 1)
        return false;
    const tide_reply *stream = &reply->as.array.items[0];
    if (stream->type != TIDE_REPLY_ARRAY || stream->as.array.count != 2 ||
        stream->as.array.items[0].type != TIDE_REPLY_STRING)
        return false;
    const tide_reply *entries = &stream->as.array.items[1];
    size_t fields;
    if (!measure(entries, &fields, NULL) || !make_batch(op, entries, fields, 0, box))
        return false;
    if (op->as.fetch.history && op->as.fetch.batch != NULL)
        ask_attempts(op, link, NULL);
    return true;
}

/* [cursor, entries] or, from 7.0 on, [cursor, entries, deleted ids]. */
static bool reply_claim(redis_op *op, redis_link *link, tide_reply_box **box) {
    const tide_reply *reply = &(*box)->reply;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count < 2 || reply->as.array.count > 3)
        return false;
    const tide_reply *items = reply->as.array.items;
    if (items[0].type != TIDE_REPLY_STRING ||
        !tide_id_parse(items[0].as.text, 0, &op->as.fetch.cursor))
        return false;
    if (reply->as.array.count == 3) {
        if (items[2].type != TIDE_REPLY_ARRAY)
            return false;
        op->as.fetch.deleted = (uint32_t)items[2].as.array.count;
    }
    size_t fields;
    size_t nils = 0;
    if (!measure(&items[1], &fields, &nils) || !make_batch(op, &items[1], fields, nils, box))
        return false;
    tide_batch *batch = op->as.fetch.batch;
    if (batch == NULL)
        return true;
    if (nils > 0)
        ask_gone(op, link, nils);
    if (batch->count > 0 && op->status == TIDE_OK)
        ask_attempts(op, link, NULL);
    return true;
}

/* id, count, id, count … of pending entries that the stream doesn't have. */
static bool reply_gone(redis_op *op, const tide_reply *reply) {
    tide_batch *batch = op->as.fetch.batch;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count % 2 != 0)
        return false;
    for (size_t i = 0; i < reply->as.array.count && batch->count < batch->capacity; i += 2) {
        const tide_reply *id = &reply->as.array.items[i];
        const tide_reply *count = id + 1;
        tide_entry entry = {.gone = true};
        if (id->type != TIDE_REPLY_STRING || count->type != TIDE_REPLY_INTEGER ||
            !tide_id_parse(id->as.text, 0, &entry.id))
            return false;
        entry.attempt = count->as.integer > 0 && count->as.integer < UINT32_MAX
                            ? (uint32_t)count->as.integer
                            : 1;
        size_t at = batch->count;
        while (at > 0 && tide_id_compare(batch->entries[at - 1].id, entry.id) > 0)
            at--;
        memmove(&batch->entries[at + 1], &batch->entries[at], (batch->count - at) * sizeof entry);
        batch->entries[at] = entry;
        batch->count++;
    }
    return true;
}

/* [[id, consumer, idle, count] …], ascending like the batch. */
static bool reply_attempts(redis_op *op, redis_link *link, const tide_reply *reply) {
    tide_batch *batch = op->as.fetch.batch;
    if (reply->type != TIDE_REPLY_ARRAY)
        return false;
    size_t at = 0;
    tide_id id = {0, 0};
    for (size_t i = 0; i < reply->as.array.count; i++) {
        const tide_reply *row = &reply->as.array.items[i];
        if (row->type != TIDE_REPLY_ARRAY || row->as.array.count != 4)
            return false;
        const tide_reply *cells = row->as.array.items;
        if (cells[0].type != TIDE_REPLY_STRING || cells[3].type != TIDE_REPLY_INTEGER ||
            !tide_id_parse(cells[0].as.text, 0, &id))
            return false;
        while (at < batch->count && tide_id_compare(batch->entries[at].id, id) < 0)
            at++;
        if (at < batch->count && tide_id_compare(batch->entries[at].id, id) == 0) {
            int64_t count = cells[3].as.integer;
            batch->entries[at].settled = false;
            batch->entries[at].attempt = count < 1            ? 1
                                         : count > UINT32_MAX ? UINT32_MAX
                                                              : (uint32_t)count;
        }
    }
    if (reply->as.array.count >= op->as.fetch.page && batch->count > 0 &&
        tide_id_compare(id, batch->entries[batch->count - 1].id) < 0)
        ask_attempts(op, link, &id);
    return true;
}

static bool reply_fetch(redis_op *op, redis_link *link, const redis_request *request,
                        tide_reply_box **box) {
    switch (request->step) {
    case STEP_READ: return reply_read(op, link, box);
    case STEP_CLAIM: return reply_claim(op, link, box);
    case STEP_GONE: return reply_gone(op, &(*box)->reply);
    default: return reply_attempts(op, link, &(*box)->reply);
    }
}

/* Entries that were claimed, or counted as delivered, but whose attempts can't be had, don't arrive: done, and not told. */
static tide_batch *hand_out(redis_op *op, tide_completion *completion) {
    tide_batch *batch = op->as.fetch.batch;
    if (batch != NULL && op->status != TIDE_OK && op->status != TIDE_CANCELLED &&
        op->status != TIDE_CLOSED)
        completion->status = TIDE_UNKNOWN;
    if (op->status != TIDE_OK || batch == NULL || batch->count == 0)
        return NULL; /* goes with the operation */
    op->as.fetch.batch = NULL;
    return batch;
}

static void complete_fetch(redis_op *op, tide_completion *completion) {
    completion->as.fetch.batch = hand_out(op, completion);
}

static void complete_recover(redis_op *op, tide_completion *completion) {
    completion->as.recover.batch = hand_out(op, completion);
    completion->as.recover.cursor = op->as.fetch.cursor;
    completion->as.recover.deleted = op->as.fetch.deleted;
}

/* A reply of an odd shape says nothing was delivered that the next history wouldn't bring. */
const redis_op_class redis_fetch_class = {
    .encode = encode_fetch,
    .reply = reply_fetch,
    .complete = complete_fetch,
};

const redis_op_class redis_recover_class = {
    .encode = encode_recover,
    .reply = reply_fetch,
    .complete = complete_recover,
    .writes = true, /* entries may have changed hands */
};
