/* SPDX-License-Identifier: MIT */
/*
 * What it is: leases of what is held, claiming what the dead left, promoting what is due.
 * What it is not: the entrance for claimed entries (reading.c) or retry timers (consumer.c).
 *
 * A round of keep-alive extends every held id, a thousand at a time, each third of the lease. What turns out to be
 * somebody else's is dropped when it hasn't begun to run, and marked lost when it runs: its ack is still sent (it has
 * been handled), its failure isn't (the other one decides).
 *
 * Invariants:
 *   1. nothing is handed out while `lease_suspect`: set when more time has passed than the lease since it was last known
 *      to be good (a stopped process, a suspended machine, a server long away), and when entries arrive that were asked
 *      for before such a pause; cleared by a whole round of keep-alive.
 *   2. nobody is recovered from while `lease_suspect`, so that a consumer doesn't claim what it holds itself.
 *   3. nobody is recovered from while an event runs alone in this engine (suspect.c): should that kill the process, it
 *      would count for all that was just claimed.
 *   4. a round of recovery goes on until its cursor is 0-0, page by page, only while there is room.
 */
#include "base/text.h"
#include "consumer/internal.h"

enum { EXTEND_PAGE_MAX = 1000, RECOVER_PAGE_MAX = 100, PROMOTE_PAGE_MAX = 1000 };

static int64_t lease_us(const tide_consumer *consumer) {
    return consumer->options.lease_ms * 1000;
}

static bool holds_any(const tide_consumer *consumer) {
    return consumer->ledger.counts[TIDE_SLOT_FREE] + consumer->ledger.counts[TIDE_SLOT_LIMBO] <
           consumer->ledger.capacity;
}

static void suspect(tide_consumer *consumer, int64_t now_us) {
    consumer->lease_suspect = true;
    consumer->extend_due_us = now_us;
    /* A round that began before proves nothing. */
    consumer->extend_again = consumer->flights[TIDE_FLIGHT_EXTEND].tag != 0;
}

void tide__recovery_note_time(tide_consumer *consumer, int64_t now_us) {
    int64_t gap = now_us - consumer->now_us;
    if (gap > 0)
        consumer->now_us = now_us;
    bool paused = gap > lease_us(consumer) * 2 / 3;
    if (paused)
        consumer->pause_us = now_us;
    if (paused || (!consumer->lease_suspect && now_us - consumer->lease_us > lease_us(consumer) &&
                   tide__ledger_held(&consumer->ledger) > 0))
        suspect(consumer, now_us);
}

void tide__recovery_note_arrival(tide_consumer *consumer, int64_t started_us, int64_t now_us) {
    if (started_us < consumer->pause_us)
        suspect(consumer, now_us);
}

/* ---- keep-alive ---- */

static void sift_down(tide_id *ids, uint32_t at, uint32_t count) {
    tide_id moved = ids[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && tide_id_compare(ids[child + 1], ids[child]) > 0)
            child++;
        if (tide_id_compare(ids[child], moved) <= 0)
            break;
        ids[at] = ids[child];
        at = child;
    }
    ids[at] = moved;
}

/* Heapsort: no memory, no bad case. Ids mostly lie in order already, which is seen first. */
static void sort_ids(tide_id *ids, uint32_t count) {
    uint32_t i = 1;
    while (i < count && tide_id_compare(ids[i - 1], ids[i]) < 0)
        i++;
    if (i >= count)
        return;
    for (i = count / 2; i-- > 0;)
        sift_down(ids, i, count);
    for (i = count; i-- > 1;) {
        tide_id top = ids[0];
        ids[0] = ids[i];
        ids[i] = top;
        sift_down(ids, 0, i);
    }
}

static void collect(tide_consumer *consumer) {
    const tide_ledger *ledger = &consumer->ledger;
    uint32_t count = 0;
    for (uint32_t i = 0; i < ledger->capacity; i++) {
        const tide_slot *s = &ledger->slots[i];
        if (s->state == TIDE_SLOT_FREE || s->state == TIDE_SLOT_LIMBO || s->lost ||
            (s->state == TIDE_SLOT_SETTLING &&
             (s->verb == TIDE_SETTLE_RELEASE || s->verb == TIDE_VERB_NONE)))
            continue;
        consumer->extend_ids[count++] = s->entry.id;
    }
    sort_ids(consumer->extend_ids, count);
    consumer->extend_count = count;
    consumer->extend_next = 0;
}

static void round_done(tide_consumer *consumer) {
    consumer->extend_count = consumer->extend_next = 0;
    if (consumer->extend_again) {
        consumer->extend_again = false;
        consumer->extend_due_us = consumer->now_us;
        return;
    }
    consumer->lease_us = consumer->extend_started_us;
    consumer->extend_due_us = consumer->extend_started_us + lease_us(consumer) / 3;
    consumer->lease_suspect = false;
}

static void extend_page(tide_consumer *consumer, int64_t now_us) {
    uint32_t count = consumer->extend_count - consumer->extend_next;
    if (count > EXTEND_PAGE_MAX)
        count = EXTEND_PAGE_MAX;
    tide_op op = {.kind = TIDE_OP_EXTEND,
                  .as.extend = {.stream = consumer->options.stream,
                                .group = consumer->options.group,
                                .consumer = consumer->options.consumer,
                                .ids = consumer->extend_ids + consumer->extend_next,
                                .id_count = count}};
    tide_error error;
    if (tide__consumer_submit(consumer, TIDE_FLIGHT_EXTEND, &op, now_us, &error) != TIDE_OK) {
        consumer->extend_count = 0;
        tide__gate_fail(consumer, TIDE_GATE_EXTEND, &error, now_us);
        return;
    }
    consumer->flights[TIDE_FLIGHT_EXTEND].count = count;
}

static void extend_pump(tide_consumer *consumer, int64_t now_us) {
    if (consumer->flights[TIDE_FLIGHT_EXTEND].tag != 0 || now_us < consumer->extend_due_us)
        return;
    if (!holds_any(consumer)) {
        consumer->extend_started_us = now_us;
        consumer->extend_again = false;
        round_done(consumer);
        return;
    }
    if (!tide__gate_is_open(consumer, TIDE_GATE_EXTEND, now_us))
        return;
    collect(consumer);
    consumer->extend_started_us = now_us;
    consumer->extend_serial = consumer->op_serial + 1;
    consumer->extend_again = false;
    if (consumer->extend_count == 0) {
        round_done(consumer);
        return;
    }
    extend_page(consumer, now_us);
}

static void lose(tide_consumer *consumer, tide_id id) {
    uint32_t slot = tide__ledger_find(&consumer->ledger, id);
    if (slot == TIDE_SLOT_NONE)
        return;
    tide_slot *s = &consumer->ledger.slots[slot];
    if (s->fresh >= consumer->extend_serial)
        return; /* delivered to us again after the round began */
    switch ((tide_slot_state)s->state) {
    case TIDE_SLOT_RUNNING:
        if (!s->lost)
            consumer->stats.lost_lease++;
        s->lost = true;
        break;
    case TIDE_SLOT_READY:
    case TIDE_SLOT_SUSPECT:
    case TIDE_SLOT_MARKING:
    case TIDE_SLOT_WAITING:
        consumer->stats.lost_lease++;
        tide__settle_drop(consumer, slot);
        break;
    default: break; /* its settlement is on the way and finds out by itself */
    }
}

void tide__recovery_extended(tide_consumer *consumer, tide_completion *completion, int64_t now_us) {
    uint32_t count = consumer->flights[TIDE_FLIGHT_EXTEND].count;
    consumer->flights[TIDE_FLIGHT_EXTEND].count = 0;
    if (completion->status != TIDE_OK) {
        consumer->extend_count = consumer->extend_next = 0;
        tide__gate_fail(consumer, TIDE_GATE_EXTEND, &completion->error, now_us);
        if (completion->status == TIDE_NOGROUP)
            tide__reading_group_lost(consumer, &completion->error, now_us);
        return;
    }
    tide__gate_ok(consumer, TIDE_GATE_EXTEND);
    for (size_t i = 0; i < completion->as.extend.lost_count; i++)
        lose(consumer, completion->as.extend.lost[i]);
    consumer->extend_next += count;
    if (consumer->extend_next < consumer->extend_count) {
        extend_page(consumer, now_us);
    } else {
        round_done(consumer);
    }
}

/* ---- the dead ---- */

static void recover_later(tide_consumer *consumer, int64_t now_us) {
    int64_t wait = consumer->options.recover_ms * 1000;
    /* A tenth of jitter, so that peers don't look at the same moment for ever. */
    wait += (int64_t)(tide_prng_unit(&consumer->prng) * 0.1 * (double)wait);
    consumer->recover_due_us = now_us + wait;
    consumer->recover_cursor = (tide_id){0, 0};
    consumer->recover_waiting = false;
}

static void recover_pump(tide_consumer *consumer, int64_t now_us) {
    if (consumer->flights[TIDE_FLIGHT_RECOVER].tag != 0 || now_us < consumer->recover_due_us ||
        consumer->lease_suspect || consumer->crew->alone != NULL ||
        !tide__gate_is_open(consumer, TIDE_GATE_RECOVER, now_us)) {
        consumer->recover_waiting = false;
        return;
    }
    uint32_t count = tide__reading_room(consumer, 0);
    consumer->recover_waiting = count == 0;
    if (count == 0)
        return;
    if (count > RECOVER_PAGE_MAX)
        count = RECOVER_PAGE_MAX;
    tide_op op = {.kind = TIDE_OP_RECOVER,
                  .as.recover = {.stream = consumer->options.stream,
                                 .group = consumer->options.group,
                                 .consumer = consumer->options.consumer,
                                 .min_idle_ms = consumer->options.lease_ms,
                                 .cursor = consumer->recover_cursor,
                                 .count_max = count}};
    tide_error error;
    if (tide__consumer_submit(consumer, TIDE_FLIGHT_RECOVER, &op, now_us, &error) != TIDE_OK) {
        tide__gate_fail(consumer, TIDE_GATE_RECOVER, &error, now_us);
        return;
    }
    consumer->flights[TIDE_FLIGHT_RECOVER].count = count;
    consumer->reserved += count;
}

void tide__recovery_recovered(tide_consumer *consumer, tide_completion *completion,
                              int64_t now_us) {
    tide_flight *flight = &consumer->flights[TIDE_FLIGHT_RECOVER];
    consumer->reserved -= flight->count;
    flight->count = 0;
    if (completion->status != TIDE_OK) {
        tide__settle_limbo_end(consumer);
        if (tide__reading_may_be_served(completion->status))
            consumer->need_history = true; /* claimed, perhaps, without having arrived */
        recover_later(consumer, now_us);
        tide__gate_fail(consumer, TIDE_GATE_RECOVER, &completion->error, now_us);
        if (completion->status == TIDE_NOGROUP)
            tide__reading_group_lost(consumer, &completion->error, now_us);
        return;
    }
    tide__gate_ok(consumer, TIDE_GATE_RECOVER);
    if (completion->as.recover.batch != NULL)
        tide__recovery_note_arrival(consumer, flight->started_us, now_us);
    tide__reading_absorb(consumer, completion->as.recover.batch, TIDE_SOURCE_RECOVERED, now_us);
    tide__settle_limbo_end(consumer);
    tide__reading_gone(consumer, completion->as.recover.deleted, now_us);
    tide_id cursor = completion->as.recover.cursor;
    if (cursor.ms == 0 && cursor.seq == 0) {
        recover_later(consumer, now_us);
    } else {
        consumer->recover_cursor = cursor;
    }
}

/* ---- the delayed set ---- */

/* Somebody has put an event there that is due before all others: looked at now, which tells when it is due. */
static void watch_pump(tide_consumer *consumer, int64_t now_us) {
    const tide_broker_vtable *broker = consumer->broker->vtable;
    if (!consumer->is_watching) {
        consumer->is_watching = true;
        if (broker->watch != NULL)
            consumer->watch = broker->watch(consumer->broker, consumer->options.stream, now_us);
        if (consumer->watch != NULL)
            consumer->watch_seen = *consumer->watch;
    }
    if (consumer->watch != NULL && *consumer->watch != consumer->watch_seen) {
        consumer->watch_seen = *consumer->watch;
        tide__consumer_note_due(consumer, now_us);
    }
}

void tide__recovery_unwatch(tide_consumer *consumer, int64_t now_us) {
    if (consumer->watch != NULL)
        consumer->broker->vtable->unwatch(consumer->broker, consumer->watch, now_us);
    consumer->watch = NULL;
}

static void promote_pump(tide_consumer *consumer, int64_t now_us) {
    watch_pump(consumer, now_us);
    if (consumer->flights[TIDE_FLIGHT_PROMOTE].tag != 0 || now_us < consumer->promote_due_us ||
        !tide__gate_is_open(consumer, TIDE_GATE_PROMOTE, now_us))
        return;
    tide_op op = {
        .kind = TIDE_OP_PROMOTE,
        .as.promote = {.stream = consumer->options.stream, .count_max = PROMOTE_PAGE_MAX}};
    tide_error error;
    if (tide__consumer_submit(consumer, TIDE_FLIGHT_PROMOTE, &op, now_us, &error) != TIDE_OK) {
        tide__gate_fail(consumer, TIDE_GATE_PROMOTE, &error, now_us);
        return;
    }
    /* What is noted from here on may have come after the look. */
    consumer->promote_due_us = INT64_MAX;
}

void tide__recovery_promoted(tide_consumer *consumer, tide_completion *completion, int64_t now_us) {
    tide__consumer_note_due(consumer, now_us + consumer->options.promote_ms * 1000);
    if (completion->status != TIDE_OK) {
        tide__gate_fail(consumer, TIDE_GATE_PROMOTE, &completion->error, now_us);
        return;
    }
    tide__gate_ok(consumer, TIDE_GATE_PROMOTE);
    int64_t next_ms = completion->as.promote.next_due_ms;
    uint32_t broken = completion->as.promote.broken;
    if (broken > 0)
        tide__consumer_log(consumer, TIDE_LOG_WARN, now_us,
                           "%u damaged delayed event(s) set aside: see the dead letters", broken);
    if (completion->as.promote.moved + broken >= PROMOTE_PAGE_MAX)
        next_ms = 0;
    /* Other writers may add an earlier one: never later than promote_ms from now. */
    if (next_ms >= 0 && next_ms < consumer->options.promote_ms)
        tide__consumer_note_due(consumer, now_us + (next_ms > 0 ? next_ms : 1) * 1000);
}

/* ---- all ---- */

void tide__recovery_pump(tide_consumer *consumer, int64_t now_us) {
    extend_pump(consumer, now_us);
    if (consumer->state == TIDE_CONSUMER_RUNNING) {
        recover_pump(consumer, now_us);
        promote_pump(consumer, now_us);
    } else {
        consumer->recover_waiting = false;
        if (consumer->state == TIDE_CONSUMER_STOPPING || consumer->state == TIDE_CONSUMER_STOPPED)
            tide__recovery_unwatch(consumer, now_us);
    }
}

static int64_t due(const tide_consumer *consumer, int place, int64_t due_us, tide_gate_name gate) {
    if (consumer->flights[place].tag != 0)
        return INT64_MAX;
    return tide__max_us(due_us, consumer->gates[gate].until_us);
}

int64_t tide__recovery_deadline_us(const tide_consumer *consumer) {
    int64_t deadline = due(consumer, TIDE_FLIGHT_EXTEND, consumer->extend_due_us, TIDE_GATE_EXTEND);
    if (consumer->state != TIDE_CONSUMER_RUNNING)
        return deadline;
    if (!consumer->recover_waiting && !consumer->lease_suspect && consumer->crew->alone == NULL)
        deadline = tide__min_us(deadline, due(consumer, TIDE_FLIGHT_RECOVER,
                                              consumer->recover_due_us, TIDE_GATE_RECOVER));
    return tide__min_us(
        deadline, due(consumer, TIDE_FLIGHT_PROMOTE, consumer->promote_due_us, TIDE_GATE_PROMOTE));
}
