/* SPDX-License-Identifier: MIT */
/*
 * What it is: publishing, as requests and replies. Four ways:
 *   plain      a pipelined XADD for each record
 *   once       dedupe_window_ms: a script for up to 100 records
 *   appended   expect: one script for all records
 *   later      due_ms, delay_ms: a script for up to 100 records, into the delayed set
 * and what belongs to the last: taking back, and moving what is due.
 * What it is not: a judge of events; fields are bytes.
 * Invariants: each record's result is set exactly once; a record whose request had no answer is UNKNOWN, never failed.
 * A packed entry is the arguments of its XADD behind the key: their number, then each with its length in front, all as
 * unsigned 32-bit little-endian.
 */
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum { STEP_PLAIN, STEP_ONCE, STEP_APPEND, STEP_LATER };
enum { SCRIPT_ARGS_MAX = 1000000 }; /* the server takes 1,048,576 arguments */

static const char *trim_mode(const tide_op_publish *in) {
    return in->max_len == 0 ? "" : in->max_len_exact ? "=" : "~";
}

/* ---- packed entries ---- */

static size_t packed_size(const tide_field *fields, size_t count, uint64_t max_len) {
    char digits[TIDE_U64_DIGITS_MAX];
    size_t size = 4 + 4 + 1;
    if (max_len > 0)
        size += 4 + 6 + 4 + 1 + 4 + tide_u64_format(digits, max_len);
    for (size_t i = 0; i < count; i++)
        size += 8 + fields[i].name.len + fields[i].value.len;
    return size;
}

static void pack_u32(tide_buffer *out, size_t number) {
    unsigned char bytes[4] = {(unsigned char)number, (unsigned char)(number >> 8),
                              (unsigned char)(number >> 16), (unsigned char)(number >> 24)};
    tide_buffer_append(out, bytes, sizeof bytes);
}

static void pack_str(tide_buffer *out, tide_str text) {
    pack_u32(out, text.len);
    tide_buffer_append_str(out, text);
}

void redis_arg_packed(tide_buffer *out, const tide_field *fields, size_t count, uint64_t max_len,
                      bool exact) {
    char digits[TIDE_U64_DIGITS_MAX];
    tide_buffer_append(out, "$", 1);
    tide_buffer_append_u64(out, packed_size(fields, count, max_len));
    tide_buffer_append(out, "\r\n", 2);
    pack_u32(out, (max_len > 0 ? 4 : 1) + 2 * count);
    if (max_len > 0) {
        pack_str(out, TIDE_STR("MAXLEN"));
        pack_str(out, exact ? TIDE_STR("=") : TIDE_STR("~"));
        pack_str(out, (tide_str){digits, tide_u64_format(digits, max_len)});
    }
    pack_str(out, TIDE_STR("*"));
    for (size_t i = 0; i < count; i++) {
        pack_str(out, fields[i].name);
        pack_str(out, fields[i].value);
    }
    tide_buffer_append(out, "\r\n", 2);
}

/* ---- encoding ---- */

static void put_fields(tide_buffer *out, const tide_record *record) {
    for (size_t i = 0; i < record->field_count; i++) {
        tide_resp_arg(out, record->fields[i].name);
        tide_resp_arg(out, record->fields[i].value);
    }
}

static tide_status encode_plain(redis_op *op, redis_link *link, const tide_op_publish *in) {
    redis_op_about(op, in->stream, "+xadd", false);
    tide_status status = redis_link_reserve(link, in->record_count);
    if (status != TIDE_OK)
        return status;
    /* What stands between the number of arguments and the fields is the same for all. */
    tide_buffer *head = &op->saved;
    tide_resp_arg_literal(head, "XADD");
    tide_resp_arg(head, in->stream);
    if (in->max_len > 0) {
        tide_resp_arg_literal(head, "MAXLEN");
        tide_resp_arg(head, tide_str_from(trim_mode(in)));
        tide_resp_arg_u64(head, in->max_len);
    }
    tide_resp_arg_literal(head, "*");
    size_t head_args = in->max_len > 0 ? 6 : 3;
    tide_buffer *out = &link->out;
    for (size_t i = 0; i < in->record_count && !out->failed; i++) {
        const tide_record *record = &in->records[i];
        redis_request *request =
            redis_request_begin(link, op, STEP_PLAIN, head_args + 2 * record->field_count);
        request->index = (uint32_t)i;
        tide_buffer_append(out, tide_buffer_data(head), tide_buffer_size(head));
        put_fields(out, record);
    }
    return TIDE_OK;
}

/* The dedupe key of a record: "{stream}:dedupe:event_id". */
static void put_dedupe_key(tide_buffer *out, tide_str stream, tide_str event_id) {
    redis_arg_derived(out, stream, "dedupe:", event_id);
}

static void put_trim(tide_buffer *out, const tide_op_publish *in) {
    tide_resp_arg(out, tide_str_from(trim_mode(in)));
    tide_resp_arg_u64(out, in->max_len);
}

/* The records of one script call, and how many arguments they are. */
static size_t count_args(const tide_op_publish *in, size_t first, size_t count) {
    size_t args = 0;
    for (size_t i = first; i < first + count; i++)
        args += 1 + 2 * in->records[i].field_count;
    return args;
}

static void put_records(tide_buffer *out, const tide_op_publish *in, size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) {
        tide_resp_arg_u64(out, 2 * in->records[i].field_count);
        put_fields(out, &in->records[i]);
    }
}

static size_t call_count(const tide_op_publish *in) {
    return (in->record_count + REDIS_SCRIPT_RECORDS_MAX - 1) / REDIS_SCRIPT_RECORDS_MAX;
}

static size_t call_records(const tide_op_publish *in, size_t first) {
    size_t left = in->record_count - first;
    return left < REDIS_SCRIPT_RECORDS_MAX ? left : REDIS_SCRIPT_RECORDS_MAX;
}

static tide_status encode_once(redis_op *op, redis_link *link, const tide_op_publish *in) {
    redis_op_about(op, in->stream, "+evalsha +eval +xadd +get +set +pttl +pexpire", true);
    tide_status status = redis_link_reserve(link, call_count(in));
    if (status != TIDE_OK)
        return status;
    tide_buffer *out = &link->out;
    for (size_t first = 0; first < in->record_count && !out->failed;) {
        size_t count = call_records(in, first);
        redis_request *request = redis_script_begin(link, op, STEP_ONCE, SCRIPT_DEDUPE, 1 + count,
                                                    3 + count_args(in, first, count));
        request->index = (uint32_t)first;
        request->count = (uint32_t)count;
        tide_resp_arg(out, in->stream);
        for (size_t i = first; i < first + count; i++)
            put_dedupe_key(out, in->stream, in->records[i].event_id);
        tide_resp_arg_i64(out, in->dedupe_window_ms);
        put_trim(out, in);
        put_records(out, in, first, count);
        redis_script_end(link, op);
        first += count;
    }
    return TIDE_OK;
}

static tide_status encode_append(redis_op *op, redis_link *link, const tide_op_publish *in,
                                 tide_error *error) {
    redis_op_about(op, in->stream, "+evalsha +eval +xadd +xlen +get +set", true);
    size_t args = count_args(in, 0, in->record_count);
    if (args > SCRIPT_ARGS_MAX)
        return tide_error_set(error, TIDE_LIMIT, "too many fields for one atomic step");
    tide_status status = redis_link_reserve(link, 1);
    if (status != TIDE_OK)
        return status;
    tide_buffer *out = &link->out;
    redis_request *request = redis_script_begin(link, op, STEP_APPEND, SCRIPT_APPEND, 2, 3 + args);
    request->count = (uint32_t)in->record_count;
    tide_resp_arg(out, in->stream);
    redis_arg_derived(out, in->stream, "version", (tide_str){"", 0});
    char want[1 + TIDE_U64_DIGITS_MAX] = "=";
    switch (in->expect) {
    case TIDE_EXPECT_NO_STREAM: tide_resp_arg_literal(out, "no_stream"); break;
    case TIDE_EXPECT_EXISTS: tide_resp_arg_literal(out, "exists"); break;
    case TIDE_EXPECT_VERSION:
        tide_resp_arg(out, (tide_str){want, 1 + tide_u64_format(want + 1, in->expect_version)});
        break;
    default: tide_resp_arg_literal(out, "any");
    }
    put_trim(out, in);
    put_records(out, in, 0, in->record_count);
    redis_script_end(link, op);
    return TIDE_OK;
}

static tide_status encode_later(redis_op *op, redis_link *link, const tide_op_publish *in) {
    redis_op_about(op, in->stream,
                   "+evalsha +eval +zadd +zrange +hset +exists +set +xadd +pexpire +time", true);
    tide_status status = redis_link_reserve(link, call_count(in));
    if (status != TIDE_OK)
        return status;
    tide_buffer *out = &link->out;
    bool once = in->dedupe_window_ms > 0;
    for (size_t first = 0; first < in->record_count && !out->failed;) {
        size_t count = call_records(in, first);
        redis_request *request = redis_script_begin(link, op, STEP_LATER, SCRIPT_SCHEDULE,
                                                    3 + (once ? count : 0), 3 + 2 * count);
        request->index = (uint32_t)first;
        request->count = (uint32_t)count;
        redis_arg_derived(out, in->stream, "delayed", (tide_str){"", 0});
        redis_arg_derived(out, in->stream, "delayed:events", (tide_str){"", 0});
        redis_arg_derived(out, in->stream, "delayed:wake", (tide_str){"", 0});
        for (size_t i = first; once && i < first + count; i++)
            put_dedupe_key(out, in->stream, in->records[i].event_id);
        if (in->due_ms != 0) {
            tide_resp_arg_literal(out, "at");
            tide_resp_arg_i64(out, in->due_ms);
        } else {
            tide_resp_arg_literal(out, "in");
            tide_resp_arg_i64(out, in->delay_ms);
        }
        tide_resp_arg_i64(out, in->dedupe_window_ms);
        for (size_t i = first; i < first + count; i++) {
            tide_resp_arg(out, in->records[i].event_id);
            redis_arg_packed(out, in->records[i].fields, in->records[i].field_count, in->max_len,
                             in->max_len_exact);
        }
        redis_script_end(link, op);
        first += count;
    }
    return TIDE_OK;
}

static tide_status check(const tide_op_publish *in, tide_error *error) {
    tide_status status = redis_check_name("stream", in->stream, error);
    if (status != TIDE_OK)
        return status;
    if (in->record_count == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "nothing to publish");
    if (in->record_count > TIDE_PUBLISH_MAX)
        return tide_error_set(error, TIDE_LIMIT, "more than %d events at once", TIDE_PUBLISH_MAX);
    bool later = in->due_ms != 0 || in->delay_ms > 0;
    bool scripted = later || in->dedupe_window_ms > 0 || in->expect != TIDE_EXPECT_NONE;
    if (in->delay_ms < 0 || in->due_ms < 0 || in->dedupe_window_ms < 0)
        return tide_error_set(error, TIDE_ARGUMENT, "a time is negative");
    if (in->expect != TIDE_EXPECT_NONE && (later || in->dedupe_window_ms > 0))
        return tide_error_set(error, TIDE_ARGUMENT,
                              "an expected version goes with neither a delay nor a dedupe window");
    for (size_t i = 0; i < in->record_count; i++) {
        const tide_record *record = &in->records[i];
        if (record->field_count == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "an event has no fields");
        if (!scripted)
            continue;
        if (record->field_count > REDIS_SCRIPT_FIELDS_MAX)
            return tide_error_set(error, TIDE_LIMIT, "an event has more than %d fields",
                                  REDIS_SCRIPT_FIELDS_MAX);
        if (in->expect == TIDE_EXPECT_NONE && record->event_id.len == 0)
            return tide_error_set(error, TIDE_ARGUMENT,
                                  "an event without an id can't be delayed or published once");
        if (record->event_id.len > TIDE_NAME_MAX)
            return tide_error_set(error, TIDE_ARGUMENT, "an event id is longer than %d bytes",
                                  TIDE_NAME_MAX);
    }
    return TIDE_OK;
}

static tide_status encode_publish(redis_op *op, redis_link *link, const tide_op *op_in,
                                  tide_error *error) {
    const tide_op_publish *in = &op_in->as.publish;
    tide_status status = check(in, error);
    if (status != TIDE_OK)
        return status;
    if (redis_op_array(op, in->record_count, sizeof(tide_publish_result)) == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for the results");
    if (in->due_ms != 0 || in->delay_ms > 0)
        status = encode_later(op, link, in);
    else if (in->expect != TIDE_EXPECT_NONE)
        status = encode_append(op, link, in, error);
    else if (in->dedupe_window_ms > 0)
        status = encode_once(op, link, in);
    else
        status = encode_plain(op, link, in);
    if (status == TIDE_ENOMEM || status == TIDE_OVERFLOW)
        tide_error_set(error, status, "%s", tide_status_text(status));
    return status;
}

/* ---- replies ---- */

static bool fail_publish(redis_op *op, redis_link *link, const redis_request *request,
                         tide_status status, tide_str detail) {
    (void)link;
    tide_publish_result *results = op->array;
    tide_str copy = {"", 0};
    if (detail.len > 0) {
        copy = tide_arena_copy(&op->arena, detail);
        if (copy.data == NULL)
            copy = (tide_str){"", 0};
    }
    for (uint32_t i = request->index; i < request->index + request->count; i++) {
        results[i].status = status;
        results[i].detail = copy;
    }
    return false;
}

static bool take_id(tide_publish_result *result, const tide_reply *reply) {
    if (reply->type != TIDE_REPLY_STRING || !tide_id_parse(reply->as.text, 0, &result->id))
        return false;
    result->status = TIDE_OK;
    return true;
}

/* One record of a script was refused by itself. */
static void refuse_record(redis_op *op, redis_link *link, uint32_t index, tide_str text) {
    redis_request one = {.index = index, .count = 1};
    tide_status status = tide_resp_error_status(text);
    fail_publish(op, link, &one, status, text);
    redis_op_fail(op, status, "\"%.*s\": %.*s", (int)op->subject_len, op->subject, (int)text.len,
                  text.data);
}

static bool reply_once(redis_op *op, redis_link *link, const redis_request *request,
                       const tide_reply *reply) {
    tide_publish_result *results = op->array;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count != 2 * (size_t)request->count)
        return false;
    for (uint32_t i = 0; i < request->count; i++) {
        const tide_reply *id = &reply->as.array.items[2 * i];
        const tide_reply *hit = id + 1;
        tide_publish_result *result = &results[request->index + i];
        if (hit->type != TIDE_REPLY_INTEGER)
            return false;
        if (id->type == TIDE_REPLY_ERROR)
            refuse_record(op, link, request->index + i, id->as.text);
        else if (!take_id(result, id))
            return false;
        result->duplicate = hit->as.integer == 1;
    }
    return true;
}

static bool reply_append(redis_op *op, const redis_request *request, const tide_reply *reply) {
    tide_publish_result *results = op->array;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count < 2)
        return false;
    const tide_reply *items = reply->as.array.items;
    if (items[0].type != TIDE_REPLY_INTEGER || items[1].type != TIDE_REPLY_INTEGER ||
        items[1].as.integer < 0)
        return false;
    op->as.publish.version = (uint64_t)items[1].as.integer;
    if (items[0].as.integer == 0) {
        for (uint32_t i = 0; i < request->count; i++)
            results[i].status = TIDE_CONFLICT;
        redis_op_fail(op, TIDE_CONFLICT, "\"%.*s\" is at version %llu", (int)op->subject_len,
                      op->subject, (unsigned long long)op->as.publish.version);
        return true;
    }
    if (reply->as.array.count != 2 + (size_t)request->count)
        return false;
    for (uint32_t i = 0; i < request->count; i++) {
        if (!take_id(&results[i], &items[2 + i]))
            return false;
    }
    return true;
}

static bool reply_later(redis_op *op, const redis_request *request, const tide_reply *reply) {
    tide_publish_result *results = op->array;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count != request->count)
        return false;
    for (uint32_t i = 0; i < request->count; i++) {
        if (reply->as.array.items[i].type != TIDE_REPLY_INTEGER)
            return false;
        results[request->index + i].duplicate = reply->as.array.items[i].as.integer == 1;
        results[request->index + i].status = TIDE_OK;
    }
    return true;
}

static bool reply_publish(redis_op *op, redis_link *link, const redis_request *request,
                          tide_reply_box **box) {
    const tide_reply *reply = &(*box)->reply;
    switch (request->step) {
    case STEP_PLAIN: return take_id((tide_publish_result *)op->array + request->index, reply);
    case STEP_ONCE: return reply_once(op, link, request, reply);
    case STEP_APPEND: return reply_append(op, request, reply);
    default: return reply_later(op, request, reply);
    }
}

static void complete_publish(redis_op *op, tide_completion *completion) {
    completion->as.publish.results = op->array;
    completion->as.publish.count = op->count;
    completion->as.publish.version = op->as.publish.version;
}

const redis_op_class redis_publish_class = {
    .encode = encode_publish,
    .reply = reply_publish,
    .fail = fail_publish,
    .complete = complete_publish,
    .writes = true,
};

/* ---- taking back ---- */

static tide_status encode_cancel(redis_op *op, redis_link *link, const tide_op *op_in,
                                 tide_error *error) {
    const tide_op_cancel *in = &op_in->as.cancel;
    tide_status status = redis_check_name("stream", in->stream, error);
    if (status == TIDE_OK)
        status = redis_check_name("event", in->event_id, error);
    if (status != TIDE_OK)
        return status;
    redis_op_about(op, in->stream, "+evalsha +eval +zrem +hdel +get +del", true);
    if ((status = redis_link_reserve(link, 1)) != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    tide_buffer *out = &link->out;
    redis_script_begin(link, op, 0, SCRIPT_CANCEL, 3, 1);
    redis_arg_derived(out, in->stream, "delayed", (tide_str){"", 0});
    redis_arg_derived(out, in->stream, "delayed:events", (tide_str){"", 0});
    put_dedupe_key(out, in->stream, in->event_id);
    tide_resp_arg(out, in->event_id);
    redis_script_end(link, op);
    return TIDE_OK;
}

static bool reply_cancel(redis_op *op, redis_link *link, const redis_request *request,
                         tide_reply_box **box) {
    (void)link;
    (void)request;
    const tide_reply *reply = &(*box)->reply;
    if (reply->type != TIDE_REPLY_INTEGER)
        return false;
    op->as.cancel.cancelled = reply->as.integer == 1;
    return true;
}

static void complete_cancel(redis_op *op, tide_completion *completion) {
    completion->as.cancel.cancelled = op->as.cancel.cancelled;
}

const redis_op_class redis_cancel_class = {
    .encode = encode_cancel,
    .reply = reply_cancel,
    .complete = complete_cancel,
    .writes = true,
};

/* ---- moving what is due ---- */

static tide_status encode_promote(redis_op *op, redis_link *link, const tide_op *op_in,
                                  tide_error *error) {
    const tide_op_promote *in = &op_in->as.promote;
    tide_status status = redis_check_name("stream", in->stream, error);
    if (status != TIDE_OK)
        return status;
    redis_op_about(op, in->stream,
                   "+evalsha +eval +zrangebyscore +zrange +hget +xadd +zadd +zrem +hdel +time",
                   true);
    if ((status = redis_link_reserve(link, 1)) != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    tide_buffer *out = &link->out;
    redis_script_begin(link, op, 0, SCRIPT_PROMOTE, 4, 1);
    tide_resp_arg(out, in->stream);
    redis_arg_derived(out, in->stream, "delayed", (tide_str){"", 0});
    redis_arg_derived(out, in->stream, "delayed:events", (tide_str){"", 0});
    redis_arg_derived(out, in->stream, "dlq", (tide_str){"", 0});
    uint32_t most = in->count_max < 1 ? 1 : in->count_max;
    tide_resp_arg_u64(out, most < 1000 ? most : 1000);
    redis_script_end(link, op);
    return TIDE_OK;
}

static bool is_count(const tide_reply *reply) {
    return reply->type == TIDE_REPLY_INTEGER && reply->as.integer >= 0 &&
           reply->as.integer <= UINT32_MAX;
}

static bool reply_promote(redis_op *op, redis_link *link, const redis_request *request,
                          tide_reply_box **box) {
    (void)link;
    (void)request;
    const tide_reply *reply = &(*box)->reply;
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count != 3)
        return false;
    const tide_reply *items = reply->as.array.items;
    if (!is_count(&items[0]) || items[1].type != TIDE_REPLY_INTEGER || !is_count(&items[2]))
        return false;
    op->as.promote.moved = (uint32_t)items[0].as.integer;
    op->as.promote.next_due_ms = items[1].as.integer;
    op->as.promote.broken = (uint32_t)items[2].as.integer;
    return true;
}

static void complete_promote(redis_op *op, tide_completion *completion) {
    completion->as.promote.moved = op->as.promote.moved;
    completion->as.promote.broken = op->as.promote.broken;
    completion->as.promote.next_due_ms = op->status == TIDE_OK ? op->as.promote.next_due_ms : -1;
}

const redis_op_class redis_promote_class = {
    .encode = encode_promote,
    .reply = reply_promote,
    .complete = complete_promote,
    .writes = true,
};
