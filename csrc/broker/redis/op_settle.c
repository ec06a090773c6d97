/* SPDX-License-Identifier: MIT */
/*
 * What it is: settling and renewing, as requests and replies. Items that stand together and go the same way share one:
 *   acks                 one XACK
 *   releases, attempts   one script call for up to 100
 *   dead, delayed        a script call each: they carry fields
 * What it is not: a reordering; the items keep their order.
 * Invariants: each item's result is set exactly once. XACK answering fewer than asked is success: somebody acked already.
 * All others that find nothing pending for this consumer are TIDE_NOTFOUND: done already, or somebody else's to decide.
 */
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum { STEP_ACK, STEP_MOVE, STEP_OWN };

static bool is_own(const tide_settlement *item) {
    return item->kind == TIDE_SETTLE_RELEASE || item->kind == TIDE_SETTLE_ATTEMPT;
}

/* How many items from `first` on go into one request. */
static size_t run_length(const tide_op_settle *in, size_t first) {
    const tide_settlement *items = in->items;
    size_t end = first + 1;
    if (items[first].kind == TIDE_SETTLE_ACK) {
        while (end < in->item_count && items[end].kind == TIDE_SETTLE_ACK)
            end++;
    } else if (is_own(&items[first])) {
        while (end < in->item_count && end - first < REDIS_SCRIPT_RECORDS_MAX &&
               is_own(&items[end]))
            end++;
    }
    return end - first;
}

static void put_ack(redis_op *op, redis_link *link, const tide_op_settle *in, size_t first,
                    size_t count) {
    tide_buffer *out = &link->out;
    redis_request *request = redis_request_begin(link, op, STEP_ACK, 3 + count);
    request->index = (uint32_t)first;
    request->count = (uint32_t)count;
    tide_resp_arg_literal(out, "XACK");
    tide_resp_arg(out, in->stream);
    tide_resp_arg(out, in->group);
    for (size_t i = first; i < first + count; i++)
        tide_resp_arg_id(out, in->items[i].id);
}

static void put_own(redis_op *op, redis_link *link, const tide_op_settle *in, size_t first,
                    size_t count) {
    tide_buffer *out = &link->out;
    redis_request *request = redis_script_begin(link, op, STEP_OWN, SCRIPT_OWN, 1, 2 + 3 * count);
    request->index = (uint32_t)first;
    request->count = (uint32_t)count;
    tide_resp_arg(out, in->stream);
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->consumer);
    for (size_t i = first; i < first + count; i++) {
        const tide_settlement *item = &in->items[i];
        if (item->kind == TIDE_SETTLE_RELEASE)
            tide_resp_arg_literal(out, "release");
        else
            tide_resp_arg_literal(out, "attempt");
        tide_resp_arg_id(out, item->id);
        tide_resp_arg_u64(out, item->attempt);
    }
    redis_script_end(link, op);
}

static void put_dead(redis_op *op, redis_link *link, const tide_op_settle *in, size_t index) {
    const tide_settlement *item = &in->items[index];
    tide_buffer *out = &link->out;
    redis_request *request =
        redis_script_begin(link, op, STEP_MOVE, SCRIPT_DEAD, 2, 3 + 2 * item->field_count);
    request->index = (uint32_t)index;
    tide_resp_arg(out, in->stream);
    if (in->dead_letters.len > 0)
        tide_resp_arg(out, in->dead_letters);
    else
        redis_arg_derived(out, in->stream, "dlq", (tide_str){"", 0});
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->consumer);
    tide_resp_arg_id(out, item->id);
    for (size_t i = 0; i < item->field_count; i++) {
        tide_resp_arg(out, item->fields[i].name);
        tide_resp_arg(out, item->fields[i].value);
    }
    redis_script_end(link, op);
}

static void put_delay(redis_op *op, redis_link *link, const tide_op_settle *in, size_t index) {
    const tide_settlement *item = &in->items[index];
    tide_buffer *out = &link->out;
    redis_request *request = redis_script_begin(link, op, STEP_MOVE, SCRIPT_DELAY, 3, 6);
    request->index = (uint32_t)index;
    tide_resp_arg(out, in->stream);
    redis_arg_derived(out, in->stream, "delayed", (tide_str){"", 0});
    redis_arg_derived(out, in->stream, "delayed:events", (tide_str){"", 0});
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->consumer);
    tide_resp_arg_id(out, item->id);
    /* Its own name in the set: two groups may both delay the same event, and neither is a delayed publish. */
    char member[6 + TIDE_NAME_MAX + 1 + TIDE_ID_TEXT_MAX];
    size_t len = 6;
    memcpy(member, "retry/", 6);
    memcpy(member + len, in->group.data, in->group.len);
    len += in->group.len;
    member[len++] = '/';
    len += tide_id_format(member + len, item->id);
    tide_resp_arg(out, (tide_str){member, len});
    tide_resp_arg_i64(out, item->delay_ms > 0 ? item->delay_ms : 0);
    redis_arg_packed(out, item->fields, item->field_count, 0, false);
    redis_script_end(link, op);
}

static tide_status check_settle(const tide_op_settle *in, tide_error *error) {
    tide_status status = redis_check_name("stream", in->stream, error);
    if (status == TIDE_OK)
        status = redis_check_name("group", in->group, error);
    if (status == TIDE_OK)
        status = redis_check_name("consumer", in->consumer, error);
    if (status != TIDE_OK)
        return status;
    if (in->item_count == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "nothing to settle");
    if (in->item_count > TIDE_PREFETCH_MAX)
        return tide_error_set(error, TIDE_LIMIT, "more than %d settlements at once",
                              TIDE_PREFETCH_MAX);
    for (size_t i = 0; i < in->item_count; i++) {
        const tide_settlement *item = &in->items[i];
        if (item->kind != TIDE_SETTLE_DEAD && item->kind != TIDE_SETTLE_DELAY)
            continue;
        if (item->field_count == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "an entry to be moved has no fields");
        if (item->field_count > REDIS_SCRIPT_FIELDS_MAX)
            return tide_error_set(error, TIDE_LIMIT, "an event has more than %d fields",
                                  REDIS_SCRIPT_FIELDS_MAX);
    }
    return TIDE_OK;
}

static tide_status encode_settle(redis_op *op, redis_link *link, const tide_op *op_in,
                                 tide_error *error) {
    const tide_op_settle *in = &op_in->as.settle;
    tide_status status = check_settle(in, error);
    if (status != TIDE_OK)
        return status;
    size_t requests = 0;
    bool only_acks = true;
    for (size_t i = 0; i < in->item_count; i += run_length(in, i)) {
        requests++;
        only_acks = only_acks && in->items[i].kind == TIDE_SETTLE_ACK;
    }
    redis_op_about(op, in->stream,
                   only_acks ? "+xack"
                             : "+xack +evalsha +eval +xpending +xclaim +xadd +zadd +hset +time",
                   !only_acks);
    if (redis_op_array(op, in->item_count, sizeof(tide_status)) == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for the results");
    if ((status = redis_link_reserve(link, requests)) != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    for (size_t i = 0; i < in->item_count && !link->out.failed;) {
        size_t count = run_length(in, i);
        switch (in->items[i].kind) {
        case TIDE_SETTLE_ACK: put_ack(op, link, in, i, count); break;
        case TIDE_SETTLE_DEAD: put_dead(op, link, in, i); break;
        case TIDE_SETTLE_DELAY: put_delay(op, link, in, i); break;
        default: {
            put_own(op, link, in, i, count);
            tide_status *results = op->array;
            for (size_t k = i; k < i + count; k++)
                results[k] = TIDE_NOTFOUND;
        }
        }
        i += count;
    }
    return TIDE_OK;
}

static bool reply_settle(redis_op *op, redis_link *link, const redis_request *request,
                         tide_reply_box **box) {
    (void)link;
    tide_status *results = op->array;
    const tide_reply *reply = &(*box)->reply;
    if (request->step != STEP_OWN) {
        if (request->step == STEP_MOVE && reply->type == TIDE_REPLY_INTEGER &&
            reply->as.integer == 0)
            results[request->index] = TIDE_NOTFOUND;
        return reply->type == TIDE_REPLY_INTEGER;
    }
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count != request->count)
        return false;
    for (uint32_t i = 0; i < request->count; i++) {
        const tide_reply *own = &reply->as.array.items[i];
        if (own->type != TIDE_REPLY_INTEGER)
            return false;
        if (own->as.integer == 1)
            results[request->index + i] = TIDE_OK;
    }
    return true;
}

static bool fail_settle(redis_op *op, redis_link *link, const redis_request *request,
                        tide_status status, tide_str detail) {
    (void)link;
    (void)detail;
    tide_status *results = op->array;
    for (uint32_t i = request->index; i < request->index + request->count; i++)
        results[i] = status;
    return false;
}

static void complete_settle(redis_op *op, tide_completion *completion) {
    completion->as.settle.results = op->array;
    completion->as.settle.count = op->count;
}

const redis_op_class redis_settle_class = {
    .encode = encode_settle,
    .reply = reply_settle,
    .fail = fail_settle,
    .complete = complete_settle,
    .writes = true,
};

/* ---- renewing ---- */

static tide_status encode_extend(redis_op *op, redis_link *link, const tide_op *op_in,
                                 tide_error *error) {
    const tide_op_extend *in = &op_in->as.extend;
    tide_status status = redis_check_name("stream", in->stream, error);
    if (status == TIDE_OK)
        status = redis_check_name("group", in->group, error);
    if (status == TIDE_OK)
        status = redis_check_name("consumer", in->consumer, error);
    if (status != TIDE_OK)
        return status;
    if (in->id_count == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "nothing to renew");
    if (in->id_count > TIDE_PREFETCH_MAX)
        return tide_error_set(error, TIDE_LIMIT, "more than %d entries at once", TIDE_PREFETCH_MAX);
    redis_op_about(op, in->stream, "+evalsha +eval +xpending +xclaim", false);
    if ((status = redis_link_reserve(link, 1)) != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    tide_buffer *out = &link->out;
    redis_script_begin(link, op, 0, SCRIPT_EXTEND, 1, 2 + in->id_count);
    tide_resp_arg(out, in->stream);
    tide_resp_arg(out, in->group);
    tide_resp_arg(out, in->consumer);
    for (size_t i = 0; i < in->id_count; i++)
        tide_resp_arg_id(out, in->ids[i]);
    redis_script_end(link, op);
    return TIDE_OK;
}

static bool reply_extend(redis_op *op, redis_link *link, const redis_request *request,
                         tide_reply_box **box) {
    (void)link;
    (void)request;
    const tide_reply *reply = &(*box)->reply;
    if (reply->type != TIDE_REPLY_ARRAY)
        return false;
    size_t count = reply->as.array.count;
    if (count == 0)
        return true;
    tide_id *lost = redis_op_array(op, count, sizeof *lost);
    if (lost == NULL) {
        redis_op_fail(op, TIDE_ENOMEM, "no memory for the ids that were lost");
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        const tide_reply *id = &reply->as.array.items[i];
        if (id->type != TIDE_REPLY_STRING || !tide_id_parse(id->as.text, 0, &lost[i]))
            return false;
    }
    return true;
}

static void complete_extend(redis_op *op, tide_completion *completion) {
    bool known = op->status == TIDE_OK && op->count > 0;
    completion->as.extend.lost = known ? op->array : NULL;
    completion->as.extend.lost_count = known ? op->count : 0;
}

const redis_op_class redis_extend_class = {
    .encode = encode_extend,
    .reply = reply_extend,
    .complete = complete_extend,
    .writes = true,
};
