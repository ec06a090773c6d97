/* SPDX-License-Identifier: MIT */
/*
 * What it is: the key-value verbs, as requests and replies.
 * What it is not: a namespace; keys come whole.
 * Invariants: what compares and writes is one script. GET and PTTL are two commands: between them the key may change, and
 * the TTL is then that of the later value.
 */
#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

enum { STEP_VALUE, STEP_TTL };

static const char *const rules[] = {
    [TIDE_KV_GET] = "+get +pttl",
    [TIDE_KV_SET] = "+set",
    [TIDE_KV_ADD] = "+evalsha +eval +get +set",
    [TIDE_KV_REPLACE] = "+evalsha +eval +get +set",
    [TIDE_KV_DELETE] = "+del",
    [TIDE_KV_DELETE_IF] = "+evalsha +eval +get +del",
    [TIDE_KV_INCREMENT] = "+incrby +evalsha +eval +pexpire +get",
    [TIDE_KV_EXPIRE] = "+pexpire +persist",
};

static tide_status encode_kv(redis_op *op, redis_link *link, const tide_op *op_in,
                             tide_error *error) {
    const tide_op_kv *in = &op_in->as.kv;
    if ((unsigned)in->verb > TIDE_KV_EXPIRE)
        return tide_error_set(error, TIDE_ARGUMENT, "no such verb: %d", (int)in->verb);
    if (in->key.len == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "the key is empty");
    if (in->ttl_ms < 0)
        return tide_error_set(error, TIDE_ARGUMENT, "a time is negative");
    redis_op_about(op, in->key, rules[in->verb], false);
    op->as.kv.verb = in->verb;
    op->as.kv.ttl_ms = -1;
    tide_status status = redis_link_reserve(link, 2);
    if (status != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    tide_buffer *out = &link->out;
    switch (in->verb) {
    case TIDE_KV_GET:
        redis_request_begin(link, op, STEP_VALUE, 2);
        tide_resp_arg_literal(out, "GET");
        tide_resp_arg(out, in->key);
        redis_request_begin(link, op, STEP_TTL, 2);
        tide_resp_arg_literal(out, "PTTL");
        tide_resp_arg(out, in->key);
        break;
    case TIDE_KV_SET:
        redis_request_begin(link, op, STEP_VALUE, in->ttl_ms > 0 ? 5 : 3);
        tide_resp_arg_literal(out, "SET");
        tide_resp_arg(out, in->key);
        tide_resp_arg(out, in->value);
        if (in->ttl_ms > 0) {
            tide_resp_arg_literal(out, "PX");
            tide_resp_arg_i64(out, in->ttl_ms);
        }
        break;
    case TIDE_KV_ADD:
        redis_script_begin(link, op, STEP_VALUE, SCRIPT_ADD, 1, 2);
        tide_resp_arg(out, in->key);
        tide_resp_arg(out, in->value);
        tide_resp_arg_i64(out, in->ttl_ms);
        redis_script_end(link, op);
        break;
    case TIDE_KV_REPLACE:
        redis_script_begin(link, op, STEP_VALUE, SCRIPT_REPLACE, 1, 3);
        tide_resp_arg(out, in->key);
        tide_resp_arg(out, in->value);
        tide_resp_arg_i64(out, in->ttl_ms);
        tide_resp_arg(out, in->expected);
        redis_script_end(link, op);
        break;
    case TIDE_KV_DELETE:
        redis_request_begin(link, op, STEP_VALUE, 2);
        tide_resp_arg_literal(out, "DEL");
        tide_resp_arg(out, in->key);
        break;
    case TIDE_KV_DELETE_IF:
        redis_script_begin(link, op, STEP_VALUE, SCRIPT_DELETE_IF, 1, 1);
        tide_resp_arg(out, in->key);
        tide_resp_arg(out, in->expected);
        redis_script_end(link, op);
        break;
    case TIDE_KV_INCREMENT:
        if (in->ttl_ms > 0) {
            redis_script_begin(link, op, STEP_VALUE, SCRIPT_INCREMENT, 1, 2);
            tide_resp_arg(out, in->key);
            tide_resp_arg_i64(out, in->amount);
            tide_resp_arg_i64(out, in->ttl_ms);
            redis_script_end(link, op);
        } else {
            redis_request_begin(link, op, STEP_VALUE, 3);
            tide_resp_arg_literal(out, "INCRBY");
            tide_resp_arg(out, in->key);
            tide_resp_arg_i64(out, in->amount);
        }
        break;
    case TIDE_KV_EXPIRE:
        redis_request_begin(link, op, STEP_VALUE, in->ttl_ms > 0 ? 3 : 2);
        if (in->ttl_ms > 0)
            tide_resp_arg_literal(out, "PEXPIRE");
        else
            tide_resp_arg_literal(out, "PERSIST");
        tide_resp_arg(out, in->key);
        if (in->ttl_ms > 0)
            tide_resp_arg_i64(out, in->ttl_ms);
        break;
    }
    return TIDE_OK;
}

static void keep_value(redis_op *op, const tide_reply *value, tide_reply_box **box) {
    op->as.kv.found = true;
    op->as.kv.value = value->as.text;
    op->box = *box;
    *box = NULL;
}

/* {1}, or {0} and what is there. */
static bool reply_compared(redis_op *op, const tide_reply *reply, tide_status otherwise,
                           tide_reply_box **box) {
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count < 1 ||
        reply->as.array.items[0].type != TIDE_REPLY_INTEGER)
        return false;
    const tide_reply *items = reply->as.array.items;
    if (items[0].as.integer == 1) {
        op->as.kv.found = otherwise != TIDE_EXISTS;
        return true;
    }
    bool has_value = reply->as.array.count > 1 && items[1].type == TIDE_REPLY_STRING;
    redis_op_fail(op, otherwise, "\"%.*s\": %s", (int)op->subject_len, op->subject,
                  otherwise == TIDE_EXISTS ? "it exists already"
                  : has_value              ? "it holds another value than expected"
                                           : "it does not exist");
    if (has_value)
        keep_value(op, &items[1], box);
    return true;
}

static bool reply_ttl(redis_op *op, const tide_reply *reply) {
    if (reply->type != TIDE_REPLY_INTEGER)
        return false;
    op->as.kv.ttl_ms = reply->as.integer >= 0 ? reply->as.integer : -1;
    return true;
}

static bool reply_kv(redis_op *op, redis_link *link, const redis_request *request,
                     tide_reply_box **box) {
    (void)link;
    const tide_reply *reply = &(*box)->reply;
    if (request->step == STEP_TTL)
        return reply_ttl(op, reply);
    switch (op->as.kv.verb) {
    case TIDE_KV_GET:
        if (reply->type == TIDE_REPLY_STRING)
            keep_value(op, reply, box);
        else if (reply->type != TIDE_REPLY_NIL)
            return false;
        return true;
    case TIDE_KV_SET: return reply->type == TIDE_REPLY_STATUS;
    case TIDE_KV_ADD: return reply_compared(op, reply, TIDE_EXISTS, box);
    case TIDE_KV_REPLACE:
    case TIDE_KV_DELETE_IF: return reply_compared(op, reply, TIDE_CONFLICT, box);
    case TIDE_KV_DELETE:
    case TIDE_KV_EXPIRE:
        if (reply->type != TIDE_REPLY_INTEGER)
            return false;
        op->as.kv.found = reply->as.integer == 1;
        return true;
    case TIDE_KV_INCREMENT:
        op->as.kv.found = true;
        if (reply->type == TIDE_REPLY_STRING)
            return tide_i64_parse(reply->as.text, &op->as.kv.integer);
        if (reply->type != TIDE_REPLY_INTEGER)
            return false;
        op->as.kv.integer = reply->as.integer;
        return true;
    }
    return false;
}

static void complete_kv(redis_op *op, tide_completion *completion) {
    completion->as.kv.found = op->as.kv.found;
    completion->as.kv.value = op->as.kv.value;
    completion->as.kv.integer = op->as.kv.integer;
    completion->as.kv.ttl_ms = op->as.kv.found ? op->as.kv.ttl_ms : -1;
}

const redis_op_class redis_kv_class = {
    .encode = encode_kv,
    .reply = reply_kv,
    .complete = complete_kv,
    .writes = true,
};
