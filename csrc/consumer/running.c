/* SPDX-License-Identifier: MIT */
/*
 * What it is: what runs: hand-out, verdicts, retry timers; the ways of an event through a consumer.
 * What it is not: how verdicts reach the engine (settlement.c), or what an entry's past means (suspect.c).
 *
 * An event (slot, ledger.h):
 *
 *   new ─────────────────────────────► READY ── next ──► RUNNING ── ack, reject, release ──► SETTLING ──► (gone)
 *   history, recovered:                  ▲                 │ fail, nack                         ▲
 *     first delivery ────────────────────┤                 ├─ last attempt, long delay ─────────┤
 *     earlier one ──► SUSPECT ── next ─► MARKING ◄─ due ─ WAITING                               │
 *     too many ─────────────────────────────────────────────────────────────────────────────────┘
 *
 * Invariants (tide__consumer_check):
 *   1. READY events are handed out in the order of their ids, but while one runs alone (suspect.c).
 *   2. no handle is given twice; a verdict counts once.
 */
#include "base/text.h"
#include "consumer/internal.h"
#include "policy/backoff.h"

/* ---- retries ---- */

#define SLOT_OF(timer_ptr) ((tide_slot *)(void *)((char *)(timer_ptr)-offsetof(tide_slot, timer)))

void tide__running_pump(tide_consumer *consumer, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    /* Not while one runs alone: should that kill the process, the count would be for nothing. */
    while (consumer->crew->alone == NULL) {
        tide_timer *timer = tide_heap_first(&ledger->timers);
        if (timer == NULL || timer->deadline_us > now_us)
            return;
        tide_slot *s = SLOT_OF(timer);
        uint32_t slot = (uint32_t)(s - ledger->slots);
        tide__ledger_move(ledger, slot, TIDE_SLOT_MARKING);
        tide__settle_want(consumer, slot, TIDE_SETTLE_ATTEMPT, tide__slot_count(s, s->attempt),
                          now_us);
        consumer->settle_now = true;
    }
}

/* ---- hand-out ---- */

bool tide_consumer_next(tide_consumer *consumer, int64_t now_us, tide_event *event) {
    tide_ledger *ledger = &consumer->ledger;
    if (ledger->ready.count == 0 && ledger->suspect.count == 0)
        return false;
    tide__recovery_note_time(consumer, now_us);
    if (consumer->lease_suspect) {
        tide__recovery_pump(consumer, now_us);
        if (consumer->lease_suspect)
            return false;
    }
    if (ledger->suspect.count > 0)
        tide__suspect_look(consumer, now_us);
    uint32_t slot = ledger->ready.first;
    if (consumer->crew->alone != NULL)
        slot = tide__suspect_alone_next(consumer, now_us);
    if (slot == TIDE_SLOT_NONE)
        return false;
    tide_slot *s = &ledger->slots[slot];
    consumer->marking -= s->suspected;
    s->suspected = false;
    tide__ledger_move(ledger, slot, TIDE_SLOT_RUNNING);
    s->handle = ++consumer->handle_serial << TIDE_SLOT_INDEX_BITS | slot;
    s->ran = true;
    s->entry.attempt = s->attempt;
    consumer->stats.delivered++;
    *event = (tide_event){.handle = s->handle,
                          .consumer = consumer->number,
                          .attempt = s->attempt,
                          .attempts_max = consumer->options.retry.attempts_max,
                          .entry = &s->entry};
    return true;
}

bool tide_consumer_has_event(const tide_consumer *consumer) {
    if (consumer->crew->alone != NULL)
        return tide__suspect_alone_is_ready(consumer);
    return consumer->ledger.ready.count > 0;
}

bool tide_consumer_has_suspect(const tide_consumer *consumer) {
    return consumer->ledger.suspect.count > 0;
}

/* ---- verdicts ---- */

static void retry_later(tide_consumer *consumer, uint32_t slot, int64_t delay_ms, int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    if (delay_ms >= consumer->options.delay_move_ms &&
        s->entry.field_count < TIDE_BODY_FIELDS_MAX) {
        s->delay_ms = delay_ms;
        s->mark = tide__slot_count(s, s->attempt);
        tide__settle_finish(consumer, slot, TIDE_SETTLE_DELAY, now_us);
        int64_t due_us = now_us + delay_ms * 1000;
        if (due_us < consumer->promote_due_us)
            consumer->promote_due_us = due_us;
        return;
    }
    if (s->alone) /* its last attempt by the crash limit was counted twice; this policy has more of them */
        s->attempt_base = (int32_t)tide__carried_attempts(&s->entry);
    tide__unsuspect(consumer, slot, true);
    consumer->stats.retried++;
    s->attempt++;
    tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_WAITING);
    tide__ledger_detach(&consumer->ledger, slot);
    /* Room for a timer a slot was made with the ledger: this can't fail. */
    tide_timer_arm(&consumer->ledger.timers, &s->timer, now_us + delay_ms * 1000);
}

static void fail(tide_consumer *consumer, uint32_t slot, const tide_verdict *verdict,
                 int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    const tide_retry_policy *policy =
        verdict->policy != NULL ? verdict->policy : &consumer->options.retry;
    consumer->stats.failed++;
    if (!tide_retry_is_due(policy, s->attempt)) {
        tide__settle_dead(consumer, slot, TIDE_DEAD_ATTEMPTS, verdict->reason, verdict->error,
                          s->attempt, now_us);
        return;
    }
    int64_t delay_ms = verdict->delay_ms;
    if (delay_ms < 0)
        delay_ms = verdict->kind == TIDE_VERDICT_NACK
                       ? 0
                       : tide_backoff_delay_ms(policy, s->attempt, tide_prng_unit(&consumer->prng));
    if (delay_ms > TIDE_CONSUMER_MS_MAX)
        delay_ms = TIDE_CONSUMER_MS_MAX;
    if (consumer->state == TIDE_CONSUMER_STOPPING && delay_ms < consumer->options.delay_move_ms) {
        s->attempt++; /* this one counts; somebody else makes the next */
        tide__settle_release(consumer, slot, now_us);
        return;
    }
    retry_later(consumer, slot, delay_ms, now_us);
}

tide_status tide_consumer_settle(tide_consumer *consumer, uint64_t handle,
                                 const tide_verdict *verdict, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    uint32_t slot = (uint32_t)(handle & ((1u << TIDE_SLOT_INDEX_BITS) - 1));
    if (slot >= ledger->capacity || handle == 0 || ledger->slots[slot].handle != handle)
        return TIDE_NOTFOUND;
    tide_slot *s = &ledger->slots[slot];
    if (verdict->kind == TIDE_VERDICT_EXTEND) {
        if (consumer->flights[TIDE_FLIGHT_EXTEND].tag != 0)
            consumer->extend_again = true;
        consumer->extend_due_us = now_us;
        tide__recovery_pump(consumer, now_us);
        return TIDE_OK;
    }
    if (s->lost && verdict->kind != TIDE_VERDICT_ACK && verdict->kind != TIDE_VERDICT_REJECT) {
        if (verdict->kind == TIDE_VERDICT_FAIL || verdict->kind == TIDE_VERDICT_NACK)
            consumer->stats.failed++;
        tide__settle_drop(consumer, slot); /* whoever has it now decides */
    } else {
        switch (verdict->kind) {
        case TIDE_VERDICT_ACK: tide__settle_finish(consumer, slot, TIDE_SETTLE_ACK, now_us); break;
        case TIDE_VERDICT_FAIL:
        case TIDE_VERDICT_NACK: fail(consumer, slot, verdict, now_us); break;
        case TIDE_VERDICT_REJECT:
            tide__settle_dead(consumer, slot, TIDE_DEAD_REJECTED, verdict->reason, verdict->error,
                              s->attempt, now_us);
            break;
        case TIDE_VERDICT_RELEASE: tide__settle_release(consumer, slot, now_us); break;
        case TIDE_VERDICT_EXTEND: break;
        }
    }
    if (ledger->queue.count >= consumer->settle_full ||
        (ledger->ready.count == 0 && ledger->counts[TIDE_SLOT_RUNNING] == 0))
        tide__settle_pump(consumer, now_us);
    if (tide__ledger_held(ledger) <= consumer->read_at_held &&
        consumer->state != TIDE_CONSUMER_STOPPING)
        tide__consumer_pump(consumer, now_us);
    return TIDE_OK;
}
