/* SPDX-License-Identifier: MIT */
/*
 * What it is: the answer to "where does a lost group begin anew": the newest id up to which everything is known to be
 * settled, by this consumer and by all others, the living and the dead.
 * What it is not: this consumer's own progress: an event that a peer holds, that a dead one left or that was given back
 * may be older than all it has seen.
 *
 * Each second in which something arrived it looks: XPENDING's summary gives the oldest pending id, and all before that is
 * settled; when nothing is pending, XINFO GROUPS gives how far the group has been read, and all up to there is settled.
 * Later settlements only move the truth forward, so what was seen once stays true.
 *
 * After a loss it looks at the stream: when there is none, or one whose newest id is older than the checkpoint, the data
 * went with the group, and the new group begins at 0: there is nothing old to deliver twice.
 *
 * Invariants: the checkpoint never passes an unsettled entry; looking fails silently, for it only makes the checkpoint
 * older than it might be.
 */
#include "base/text.h"
#include "consumer/internal.h"

enum { LOOK_INTERVAL_US = 1000000 };
enum { STEP_PENDING, STEP_GROUPS, STEP_STREAM };

static tide_status look(tide_consumer *consumer, int step, int64_t now_us, tide_error *error) {
    const tide_consumer_options *o = &consumer->options;
    const tide_str pending[] = {TIDE_STR("XPENDING"), o->stream, o->group};
    const tide_str groups[] = {TIDE_STR("XINFO"), TIDE_STR("GROUPS"), o->stream};
    const tide_str stream[] = {TIDE_STR("XINFO"), TIDE_STR("STREAM"), o->stream};
    tide_op op = {.kind = TIDE_OP_COMMAND,
                  .as.command = {.args = step == STEP_PENDING  ? pending
                                         : step == STEP_GROUPS ? groups
                                                               : stream,
                                 .arg_count = 3}};
    consumer->look_step = (uint8_t)step;
    return tide__consumer_submit(consumer, TIDE_FLIGHT_LOOK, &op, now_us, error);
}

void tide__checkpoint_pump(tide_consumer *consumer, int64_t now_us) {
    if (consumer->state != TIDE_CONSUMER_RUNNING || !consumer->look_wanted ||
        now_us < consumer->look_due_us || consumer->flights[TIDE_FLIGHT_LOOK].tag != 0)
        return;
    tide_error error;
    consumer->look_due_us = now_us + LOOK_INTERVAL_US;
    if (look(consumer, STEP_PENDING, now_us, &error) == TIDE_OK)
        consumer->look_wanted = false;
}

int64_t tide__checkpoint_deadline_us(const tide_consumer *consumer) {
    if (consumer->state != TIDE_CONSUMER_RUNNING || !consumer->look_wanted ||
        consumer->flights[TIDE_FLIGHT_LOOK].tag != 0)
        return INT64_MAX;
    return consumer->look_due_us;
}

bool tide__checkpoint_is_ready(tide_consumer *consumer, int64_t now_us) {
    if (consumer->loss_seen)
        return true;
    if (consumer->flights[TIDE_FLIGHT_LOOK].tag != 0)
        return false;
    tide_error error;
    if (look(consumer, STEP_STREAM, now_us, &error) != TIDE_OK)
        tide__reading_trouble(consumer, &error, now_us);
    return false;
}

/* The value beside this name in a flat list or a map. */
static const tide_reply *value_of(const tide_reply *list, const char *name) {
    if (list->type != TIDE_REPLY_ARRAY && list->type != TIDE_REPLY_MAP)
        return NULL;
    for (size_t i = 0; i + 1 < list->as.array.count; i += 2) {
        const tide_reply *key = &list->as.array.items[i];
        if ((key->type == TIDE_REPLY_STRING || key->type == TIDE_REPLY_STATUS) &&
            tide_str_equal(key->as.text, tide_str_from(name)))
            return key + 1;
    }
    return NULL;
}

static bool id_of(const tide_reply *reply, tide_id *id) {
    return reply != NULL &&
           (reply->type == TIDE_REPLY_STRING || reply->type == TIDE_REPLY_STATUS) &&
           tide_id_parse(reply->as.text, 0, id);
}

static void advance(tide_consumer *consumer, tide_id id) {
    if (tide_id_compare(id, consumer->checkpoint) > 0)
        consumer->checkpoint = id;
}

/* [count, oldest id, newest id, consumers]: true when nothing is pending. */
static bool read_pending(tide_consumer *consumer, const tide_reply *reply) {
    if (reply->type != TIDE_REPLY_ARRAY || reply->as.array.count < 2 ||
        reply->as.array.items[0].type != TIDE_REPLY_INTEGER)
        return false;
    tide_id oldest;
    if (reply->as.array.items[0].as.integer == 0)
        return true;
    if (!id_of(&reply->as.array.items[1], &oldest))
        return false;
    if (oldest.seq > 0) {
        oldest.seq--;
    } else if (oldest.ms > 0) {
        oldest = (tide_id){oldest.ms - 1, UINT64_MAX};
    }
    advance(consumer, oldest);
    return false;
}

static void read_groups(tide_consumer *consumer, const tide_reply *reply) {
    if (reply->type != TIDE_REPLY_ARRAY)
        return;
    for (size_t i = 0; i < reply->as.array.count; i++) {
        const tide_reply *group = &reply->as.array.items[i];
        const tide_reply *name = value_of(group, "name");
        const tide_reply *pending = value_of(group, "pending");
        tide_id read;
        if (name != NULL && name->type == TIDE_REPLY_STRING &&
            tide_str_equal(name->as.text, consumer->options.group) && pending != NULL &&
            pending->type == TIDE_REPLY_INTEGER && pending->as.integer == 0 &&
            id_of(value_of(group, "last-delivered-id"), &read))
            advance(consumer, read);
    }
}

/* Whether the data went with the group; TIDE_OK when that is known, or will never be. */
static tide_status read_stream(tide_consumer *consumer, const tide_completion *completion) {
    tide_id newest;
    switch (completion->status) {
    case TIDE_OK:
        if (completion->as.command.reply != NULL &&
            id_of(value_of(completion->as.command.reply, "last-generated-id"), &newest))
            consumer->from_zero = tide_id_compare(newest, consumer->checkpoint) < 0;
        return TIDE_OK;
    case TIDE_REPLY: /* ERR no such key */
    case TIDE_NOTFOUND: consumer->from_zero = true; return TIDE_OK;
    case TIDE_NOPERM:
    case TIDE_UNSUPPORTED: return TIDE_OK;
    default: return completion->status;
    }
}

void tide__checkpoint_looked(tide_consumer *consumer, tide_completion *completion, int64_t now_us) {
    if (consumer->state == TIDE_CONSUMER_STOPPING)
        return;
    if (consumer->look_step == STEP_STREAM) {
        if (consumer->group_ready || consumer->loss_seen)
            return;
        consumer->loss_seen = read_stream(consumer, completion) == TIDE_OK;
        if (!consumer->loss_seen)
            tide__reading_trouble(consumer, &completion->error, now_us);
        return;
    }
    /* Of a group that has vanished meanwhile, the answer may be its successor's: true all the same. */
    const tide_reply *reply = completion->status == TIDE_OK ? completion->as.command.reply : NULL;
    if (reply == NULL) {
        if (completion->status == TIDE_NOPERM || completion->status == TIDE_UNSUPPORTED) {
            consumer->look_denied = true;
        } else {
            consumer->look_wanted = true;
        }
        return;
    }
    tide_error error;
    if (consumer->look_step == STEP_GROUPS) {
        read_groups(consumer, reply);
    } else if (read_pending(consumer, reply)) {
        if (!consumer->look_denied)
            consumer->look_wanted = look(consumer, STEP_GROUPS, now_us, &error) != TIDE_OK;
    } else {
        consumer->look_wanted = true; /* what is pending will be settled */
    }
}

size_t tide__checkpoint_text(const tide_consumer *consumer, char *out) {
    if (consumer->from_zero || (consumer->checkpoint.ms == 0 && consumer->checkpoint.seq == 0)) {
        out[0] = '0';
        return 1;
    }
    return tide_id_format(out, consumer->checkpoint);
}
