/* SPDX-License-Identifier: MIT */
/*
 * What it is: the way back: acks, dead letters, delays, releases and attempt counts, batched, resent until confirmed.
 * What it is not: the verdict; consumer.c decides what an outcome means.
 *
 * A batch goes out when it is full, when its oldest has waited settle_ms, when the window has run dry, or when somebody
 * waits for it (flush, an attempt to be counted). Up to four are under way. Nothing is ever thrown away for a failure:
 * an item comes back into `deferred` and is sent again after a pause, while other items go on (a dead-letter stream that
 * is out of memory doesn't hold up acks). Every verb is safe to send twice.
 *
 * Invariants:
 *   1. a slot with a verb is in `queue`, in `deferred` or SENT in exactly one flight; a slot without one is in none,
 *      but may be SENT (its settlement is no longer wanted; it is freed or goes on when the answer comes).
 *   2. a slot whose wish changed, or that was delivered again, while it was SENT is queued again when the answer to the old
 *      wish comes.
 *   3. an ack that finds nothing (NOTFOUND, or the group itself is gone) is done: the effect has happened.
 *   4. an ack is sent even when the lease was lost to somebody else: the event has been handled, taking it away from
 *      them saves the second run.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/text.h"
#include "consumer/internal.h"

enum {
    BODIES_MAX = 64 /* dead letters and delayed copies in one batch: they carry whole events */
};

void tide__settle_want(tide_consumer *consumer, uint32_t slot, tide_settle_kind verb, uint32_t mark,
                       int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    tide_slot *s = &ledger->slots[slot];
    s->unsure = s->unsure && s->verb == (uint8_t)verb;
    s->verb = (uint8_t)verb;
    s->mark = mark;
    if (s->queued == TIDE_QUEUE_SENT || s->queued == TIDE_QUEUE_WAITING)
        return;
    if (ledger->queue.count == 0)
        consumer->settle_due_us = now_us + consumer->options.settle_ms * 1000;
    tide__ledger_enqueue(ledger, slot, TIDE_QUEUE_WAITING);
}

void tide__settle_finish(tide_consumer *consumer, uint32_t slot, tide_settle_kind verb,
                         int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    tide__unsuspect(consumer, slot, false);
    tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_SETTLING);
    if (verb == TIDE_SETTLE_ACK || verb == TIDE_SETTLE_RELEASE)
        tide__ledger_drop_entry(&consumer->ledger, slot);
    tide__settle_want(consumer, slot, verb, s->mark, now_us);
}

void tide__settle_dead(tide_consumer *consumer, uint32_t slot, tide_dead_reason fixed,
                       tide_str reason, tide_str error, uint32_t attempts, int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    s->dead_reason = (uint8_t)fixed;
    s->mark = attempts;
    if (reason.len == 0)
        reason = tide__dead_reason_text(fixed);
    tide__dead_letter_free(&consumer->alloc, s->dead);
    s->dead = tide__dead_letter_make(&consumer->alloc, reason, error);
    tide__settle_finish(consumer, slot, TIDE_SETTLE_DEAD, now_us);
}

void tide__settle_release(tide_consumer *consumer, uint32_t slot, int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    uint32_t made = s->attempt > 0 ? s->attempt - 1 : 0;
    s->mark = tide__slot_count(s, made);
    tide__settle_finish(consumer, slot, TIDE_SETTLE_RELEASE, now_us);
}

void tide__settle_drop(tide_consumer *consumer, uint32_t slot) {
    tide_slot *s = &consumer->ledger.slots[slot];
    tide__unsuspect(consumer, slot, true);
    if (s->queued == TIDE_QUEUE_SENT) {
        s->verb = TIDE_VERB_NONE;
        tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_SETTLING);
        tide__ledger_drop_entry(&consumer->ledger, slot);
    } else {
        tide__ledger_free(&consumer->ledger, slot);
    }
}

/* ---- sending ---- */

/* Room for the fields of one more body; false when there is no memory for it. */
static bool reserve_fields(tide_consumer *consumer, size_t count) {
    if (count <= consumer->field_capacity)
        return true;
    size_t capacity = consumer->field_capacity * 2 > count ? consumer->field_capacity * 2 : count;
    tide_field *fields =
        tide_realloc(&consumer->alloc, consumer->fields, consumer->field_capacity * sizeof *fields,
                     capacity * sizeof *fields);
    if (fields == NULL)
        return false;
    consumer->fields = fields;
    consumer->field_capacity = capacity;
    return true;
}

static size_t write_body(tide_consumer *consumer, const tide_slot *s, tide_field *fields,
                         char *text, int64_t now_us) {
    if (s->verb == TIDE_SETTLE_DELAY)
        return tide__delayed_fields(fields, text, &s->entry, consumer->options.group, s->attempt);
    tide_dead_context context = {
        .reason = s->dead != NULL ? s->dead->reason
                                  : tide__dead_reason_text((tide_dead_reason)s->dead_reason),
        .error = s->dead != NULL ? s->dead->error : TIDE_STR(""),
        .stream = consumer->options.stream,
        .group = consumer->options.group,
        .consumer = consumer->options.consumer,
        .id = s->entry.id,
        .attempts = s->mark,
        .now_ms = (now_us + consumer->wall_offset_us) / 1000};
    return tide__dead_letter_fields(fields, text, &s->entry, &context);
}

/* False when nothing could be sent. */
static bool send_batch(tide_consumer *consumer, int place, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    tide_flight *flight = &consumer->flights[place];
    uint32_t count = 0, bodies = 0;
    size_t fields = 0;
    /* The array of fields may move while it grows: items get their pointers when all are in. */
    for (uint32_t slot = ledger->queue.first;
         slot != TIDE_SLOT_NONE && count < consumer->settle_max;
         slot = ledger->slots[slot].queue_next) {
        tide_slot *s = &ledger->slots[slot];
        tide_settlement *item = &consumer->items[count];
        *item = (tide_settlement){.kind = (tide_settle_kind)s->verb,
                                  .id = s->entry.id,
                                  .attempt = s->mark,
                                  .delay_ms = s->delay_ms};
        if (s->verb == TIDE_SETTLE_DEAD || s->verb == TIDE_SETTLE_DELAY) {
            size_t most = s->entry.field_count + TIDE_DEAD_FIELDS;
            if (bodies == BODIES_MAX || !reserve_fields(consumer, fields + most))
                continue; /* another time; acks behind it need no memory */
            item->field_count =
                write_body(consumer, s, consumer->fields + fields,
                           consumer->text + (size_t)bodies * TIDE_FIELD_TEXT_MAX, now_us);
            fields += item->field_count;
            bodies++;
        }
        flight->sent[count] = (tide_sent){slot, s->mark, s->verb};
        count++;
    }
    tide_error error = {.status = TIDE_ENOMEM};
    tide_status status = TIDE_ENOMEM;
    if (count > 0) {
        size_t at = 0;
        for (uint32_t i = 0; i < count; i++) {
            tide_settlement *item = &consumer->items[i];
            if (item->field_count > 0) {
                item->fields = consumer->fields + at;
                at += item->field_count;
            }
        }
        tide_op op = {.kind = TIDE_OP_SETTLE,
                      .as.settle = {.stream = consumer->options.stream,
                                    .group = consumer->options.group,
                                    .consumer = consumer->options.consumer,
                                    .dead_letters = consumer->options.dead_letters,
                                    .items = consumer->items,
                                    .item_count = count}};
        status = tide__consumer_submit(consumer, place, &op, now_us, &error);
    }
    if (status != TIDE_OK) {
        tide__gate_fail(consumer, TIDE_GATE_SETTLE, &error, now_us);
        return false;
    }
    flight->count = count;
    consumer->settles++;
    for (uint32_t i = 0; i < count; i++)
        tide__ledger_enqueue(ledger, flight->sent[i].slot, TIDE_QUEUE_SENT);
    return true;
}

/* Nothing more will join a batch soon. */
static bool window_is_dry(const tide_consumer *consumer) {
    const tide_ledger *ledger = &consumer->ledger;
    if (consumer->state == TIDE_CONSUMER_STOPPING)
        return true;
    return consumer->settles == 0 && ledger->counts[TIDE_SLOT_RUNNING] == 0 &&
           ledger->ready.count == 0;
}

void tide__settle_pump(tide_consumer *consumer, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    if (ledger->deferred.count > 0 && tide__gate_is_open(consumer, TIDE_GATE_DEFERRED, now_us)) {
        while (ledger->deferred.count > 0)
            tide__ledger_enqueue(ledger, ledger->deferred.first, TIDE_QUEUE_WAITING);
        consumer->settle_now = true;
    }
    if (ledger->queue.count == 0) {
        consumer->settle_now = false;
        return;
    }
    if (!tide__gate_is_open(consumer, TIDE_GATE_SETTLE, now_us))
        return;
    bool all = consumer->settle_now || now_us >= consumer->settle_due_us || window_is_dry(consumer);
    for (int i = TIDE_FLIGHT_SETTLE; i < TIDE_FLIGHT_COUNT; i++) {
        if (consumer->flights[i].tag != 0)
            continue;
        if (ledger->queue.count == 0 || (!all && ledger->queue.count < consumer->settle_full))
            break;
        if (!send_batch(consumer, i, now_us))
            return;
        consumer->settle_due_us = now_us + consumer->options.settle_ms * 1000;
    }
    if (ledger->queue.count == 0)
        consumer->settle_now = false;
}

int64_t tide__settle_deadline_us(const tide_consumer *consumer) {
    int64_t deadline = INT64_MAX;
    if (consumer->ledger.deferred.count > 0)
        deadline = consumer->gates[TIDE_GATE_DEFERRED].until_us;
    if (consumer->ledger.queue.count > 0 &&
        consumer->settles < TIDE_FLIGHT_COUNT - TIDE_FLIGHT_SETTLE) {
        int64_t due = consumer->settle_now || window_is_dry(consumer) ? consumer->now_us
                                                                      : consumer->settle_due_us;
        deadline =
            tide__min_us(deadline, tide__max_us(due, consumer->gates[TIDE_GATE_SETTLE].until_us));
    }
    return deadline;
}

/* ---- answers ---- */

/* What can be wrong with one item only: with where its body would be written, out of memory or of another type. All else
 * is wrong with whatever is sent. */
static bool is_its_own_trouble(uint8_t verb, tide_status status) {
    return (verb == TIDE_SETTLE_DEAD || verb == TIDE_SETTLE_DELAY) && status != TIDE_UNKNOWN &&
           status != TIDE_TIMEOUT && status != TIDE_DISCONNECTED && status != TIDE_CONNECT;
}

static void count_done(tide_consumer *consumer, tide_settle_kind verb) {
    switch (verb) {
    case TIDE_SETTLE_ACK: consumer->stats.acked++; break;
    case TIDE_SETTLE_DEAD: consumer->stats.dead++; break;
    case TIDE_SETTLE_RELEASE: consumer->stats.released++; break;
    case TIDE_SETTLE_DELAY: consumer->stats.retried++; break;
    case TIDE_SETTLE_ATTEMPT: break;
    }
}

/* A read or recovery under way may have seen the entry before it was settled. */
static bool may_come_again(const tide_consumer *consumer) {
    return consumer->flights[TIDE_FLIGHT_RECOVER].tag != 0 ||
           (consumer->flights[TIDE_FLIGHT_FETCH].tag != 0 &&
            consumer->flights[TIDE_FLIGHT_FETCH].history);
}

void tide__settle_limbo_end(tide_consumer *consumer) {
    if (may_come_again(consumer))
        return;
    while (consumer->ledger.limbo.count > 0)
        tide__ledger_free(&consumer->ledger, consumer->ledger.limbo.first);
}

static void item_done(tide_consumer *consumer, uint32_t slot, tide_settle_kind verb,
                      tide_status status) {
    bool found = status == TIDE_OK;
    tide_ledger *ledger = &consumer->ledger;
    tide_slot *s = &ledger->slots[slot];
    s->verb = TIDE_VERB_NONE;
    if (verb == TIDE_SETTLE_ATTEMPT) {
        if (!found && s->state == TIDE_SLOT_RUNNING) {
            consumer->stats.lost_lease += !s->lost;
            s->lost = true;
            return;
        }
        if (!found) { /* settled or claimed by somebody else in the meantime */
            if (s->state != TIDE_SLOT_SETTLING)
                consumer->stats.lost_lease++;
            tide__unsuspect(consumer, slot, true);
            tide__ledger_free(ledger, slot);
            return;
        }
        s->fresh = consumer->op_serial;
        if (s->state == TIDE_SLOT_MARKING)
            tide__ledger_move(ledger, slot, TIDE_SLOT_READY);
        return;
    }
    tide__unsuspect(consumer, slot, true);
    /* What is acked unseen (it is gone, or another group's) wasn't handled; what wasn't found was somebody else's. */
    if (verb == TIDE_SETTLE_ACK ? s->ran : found || s->unsure) {
        count_done(consumer, verb);
    } else if (verb != TIDE_SETTLE_ACK && status == TIDE_NOTFOUND && !s->lost) {
        consumer->stats.lost_lease++;
    }
    if (may_come_again(consumer)) {
        tide__ledger_drop_entry(ledger, slot);
        s->released = verb == TIDE_SETTLE_RELEASE;
        tide__ledger_move(ledger, slot, TIDE_SLOT_LIMBO);
    } else {
        tide__ledger_free(ledger, slot);
    }
}

void tide__settle_completed(tide_consumer *consumer, tide_flight *flight,
                            tide_completion *completion, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    uint32_t count = flight->count;
    uint32_t done = 0, failed = 0, own = 0;
    tide_error failure = {.status = TIDE_OK};
    bool group_lost = false;
    consumer->settles--;
    flight->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        tide_sent sent = flight->sent[i];
        tide_slot *s = &ledger->slots[sent.slot];
        tide_status status = completion->status;
        if (completion->as.settle.results != NULL && i < completion->as.settle.count)
            status = completion->as.settle.results[i];
        TIDE_ASSERT(s->queued == TIDE_QUEUE_SENT);
        tide__ledger_enqueue(ledger, sent.slot, TIDE_QUEUE_NONE);
        bool is_over = status == TIDE_OK || status == TIDE_NOTFOUND;
        if (status == TIDE_NOGROUP) { /* nothing is pending in it any more */
            group_lost = true;
            is_over = sent.verb == TIDE_SETTLE_ACK || sent.verb == TIDE_SETTLE_RELEASE;
        }
        if (s->verb == TIDE_VERB_NONE) { /* nobody wants to know any more */
            done++;
            if (s->fresh >= flight->serial)
                consumer->need_history = true; /* but it has come to us again */
            tide__ledger_free(ledger, sent.slot);
            continue;
        }
        /* Delivered to us again after this was sent (by a new group, say): then it must be said again. */
        bool same = s->verb == sent.verb && s->mark == sent.mark && s->fresh < flight->serial;
        if (is_over) {
            done++;
            if (same) {
                item_done(consumer, sent.slot, (tide_settle_kind)sent.verb, status);
            } else {
                tide__ledger_enqueue(ledger, sent.slot, TIDE_QUEUE_WAITING);
                consumer->settle_now = true;
            }
            continue;
        }
        failed++;
        s->unsure = s->unsure || status == TIDE_UNKNOWN || status == TIDE_TIMEOUT;
        own += is_its_own_trouble(sent.verb, status);
        if (failure.status == TIDE_OK) {
            failure = completion->error;
            if (failure.status != status)
                tide_error_set(&failure, status, "settlement: %s", tide_status_text(status));
        }
        tide__ledger_enqueue(ledger, sent.slot, TIDE_QUEUE_DEFERRED);
        if (s->verb == TIDE_SETTLE_DEAD || s->verb == TIDE_SETTLE_DELAY)
            tide__ledger_detach(ledger, sent.slot);
    }
    if (failed > 0) {
        tide__gate_fail(consumer, TIDE_GATE_DEFERRED, &failure, now_us);
        if (done == 0 && own < failed) { /* nothing at all went through: hold everything back */
            consumer->gates[TIDE_GATE_SETTLE].failures++;
            consumer->gates[TIDE_GATE_SETTLE].until_us =
                consumer->gates[TIDE_GATE_DEFERRED].until_us;
        }
    } else {
        /* What is still deferred waits for its own success. */
        if (ledger->deferred.count == 0)
            tide__gate_ok(consumer, TIDE_GATE_DEFERRED);
    }
    if (done > 0)
        tide__gate_ok(consumer, TIDE_GATE_SETTLE);
    if (group_lost)
        tide__reading_group_lost(consumer, &completion->error, now_us);
}
