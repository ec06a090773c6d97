/* SPDX-License-Identifier: MIT */
/*
 * What it is: what an entry's past says: how many attempts its delivery count stands for, whether it may have killed its
 * process, and how it may then run again.
 * What it is not: retries after a verdict, or the hand-out (running.c).
 *
 * The engine's delivery count is the durable count of attempts. It is set to n before attempt n > 1 begins (MARKING), so
 * neither a crash in the attempt nor one while waiting for it counts wrongly. The first attempt isn't counted before it
 * begins, that would be a round trip for every event: of a first delivery that ended without a verdict nobody knows
 * whether it ran or was only buffered.
 *
 * A process dies with all that runs in it, and nobody is told what killed it. So what has been delivered before is a
 * SUSPECT: its delivery here isn't counted until it is about to run, and then
 *   - after a single death (and with attempts left after this one) as one of a few, for each count costs a round trip;
 *   - else alone: nothing else begins in any consumer of this engine (tide_crew), what runs already is waited for, then
 *     it is counted and runs, until its settlement is confirmed. Neither wait nor run holds the others up for longer than
 *     a lease, and they have half of the time: before the next one, they go on for as long as they have waited.
 * The last attempt runs alone in any case: when a process died in it beside others (a retry after failures, a first
 * delivery with max = 1, or of a copy that a delay moved), it is made once more, alone. A last attempt that runs alone is
 * counted as max + 1, which tells the two apart. Beyond that count an event is a dead letter.
 *
 *   count that is found   attempt     how
 *   1                     1           as if new: it was given back
 *   2, below max          2           one of a few
 *   n < max               n           alone
 *   max                   max         alone, counted as max + 1
 *   max + 1               max         the same: the last attempt didn't run alone
 *   more                              crash_loop
 *
 * So the death of a process may cost each event beside the one that killed it an attempt, twice at most unless it is a
 * retry after a failure of its own; and no event is a crash_loop that hasn't run alone, and died, in its last attempt.
 * What kills its process each time is a dead letter after max(attempts, 2) deliveries. Not so where handlers take longer
 * than a lease; and a process that dies while it takes over a page of others' events raises the count of each of them.
 *
 * Invariants (tide__consumer_check):
 *   1. suspected slots are MARKING or READY, and `marking` is their number.
 *   2. crew->alone is this consumer exactly while its slot `alone_slot` (SUSPECT, MARKING, READY, RUNNING or SETTLING)
 *      has others wait; that slot is `alone`.
 */
#include "base/text.h"
#include "consumer/internal.h"

enum { SUSPECTS_AT_ONCE = 16 };

/* ---- what came ---- */

uint32_t tide__suspect_deliveries(const tide_consumer *consumer, const tide_entry *entry,
                                  tide_source source) {
    uint32_t count = entry->attempt;
    uint32_t vain = 0;
    if (source == TIDE_SOURCE_HISTORY)
        vain = consumer->history_lost + (consumer->history_done ? 1 : 0);
    return count > vain ? count - vain : 1;
}

void tide__suspect_restore(tide_consumer *consumer, uint32_t slot, uint32_t counted,
                           int64_t now_us) {
    const tide_slot *s = &consumer->ledger.slots[slot];
    uint32_t right = tide__slot_count(s, s->attempt);
    switch ((tide_slot_state)s->state) {
    case TIDE_SLOT_READY:
    case TIDE_SLOT_RUNNING: break;
    case TIDE_SLOT_SUSPECT:
    case TIDE_SLOT_WAITING: right = right > 0 ? right - 1 : 0; break;
    default: return; /* settled, or about to be counted anyway */
    }
    if (counted != right && !s->lost && s->verb == TIDE_VERB_NONE)
        tide__settle_want(consumer, slot, TIDE_SETTLE_ATTEMPT, right, now_us);
}

void tide__suspect_admit(tide_consumer *consumer, uint32_t slot, uint32_t counted, int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    uint32_t most = consumer->crash_attempts_max;
    uint32_t made = s->attempt - 1;
    if (most == 0 || tide__slot_count(s, s->attempt) <= 1) {
        tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_READY);
        tide__suspect_restore(consumer, slot, counted, now_us);
        return;
    }
    if (made > most) {
        tide__settle_dead(
            consumer, slot, TIDE_DEAD_CRASH_LOOP, TIDE_STR(""),
            TIDE_STR("every attempt ended without a verdict: the handler's process died"),
            most > 1 && made == most + 1 ? most : made, now_us);
        return;
    }
    if (made == most) {
        s->attempt_base--;
        s->entry.attempt = --s->attempt;
    }
    /* The engine counted this delivery, but it hasn't begun: the count goes back, and up again just before it runs. */
    tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_SUSPECT);
    tide__settle_want(consumer, slot, TIDE_SETTLE_ATTEMPT, tide__slot_count(s, s->attempt) - 1,
                      now_us);
    consumer->settle_now = true;
}

void tide__suspect_own(tide_consumer *consumer, uint32_t slot, int64_t now_us) {
    const tide_slot *s = &consumer->ledger.slots[slot];
    if (s->state != TIDE_SLOT_READY)
        return; /* a suspect is counted before it runs, which says the same */
    tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_MARKING);
    tide__settle_want(consumer, slot, TIDE_SETTLE_ATTEMPT, tide__slot_count(s, s->attempt), now_us);
    consumer->settle_now = true;
}

/* ---- alone ---- */

static tide_slot *alone_slot(const tide_consumer *consumer) {
    return &consumer->ledger.slots[consumer->alone_slot];
}

static int64_t patience_us(const tide_consumer *consumer, int64_t now_us) {
    return now_us + consumer->options.lease_ms * 1000;
}

/* What a page under way brings has been delivered as far as the engine counts, until it is here and put right: a death
 * now would count for all of it. */
static bool page_is_under_way(const tide_consumer *consumer) {
    return consumer->flights[TIDE_FLIGHT_RECOVER].tag != 0 ||
           (consumer->state == TIDE_CONSUMER_HISTORY && consumer->fetches > 0);
}

typedef struct crew_sum {
    uint32_t marking, ready, running, pages;
} crew_sum;

static crew_sum crew_sum_of(const tide_crew *crew) {
    crew_sum sum = {0, 0, 0, 0};
    for (const tide_consumer *one = crew->first; one != NULL; one = one->crew_next) {
        sum.marking += one->marking;
        sum.ready += one->ledger.ready.count;
        sum.running += one->ledger.counts[TIDE_SLOT_RUNNING];
        sum.pages += page_is_under_way(one);
    }
    return sum;
}

static void mark(tide_consumer *consumer, uint32_t slot, int64_t now_us) {
    tide_slot *s = &consumer->ledger.slots[slot];
    s->suspected = true;
    consumer->marking++;
    tide__ledger_move(&consumer->ledger, slot, TIDE_SLOT_MARKING);
    tide__settle_want(consumer, slot, TIDE_SETTLE_ATTEMPT, tide__slot_count(s, s->attempt), now_us);
    consumer->settle_now = true;
}

/* Whether it can be counted now: nobody waits for one whose group, say, is gone. */
static bool is_well(const tide_consumer *consumer, int64_t now_us) {
    return (consumer->state == TIDE_CONSUMER_RUNNING || consumer->state == TIDE_CONSUMER_HISTORY) &&
           tide__gate_is_open(consumer, TIDE_GATE_SETTLE, now_us) &&
           tide__gate_is_open(consumer, TIDE_GATE_DEFERRED, now_us);
}

static void alone_begin(tide_consumer *consumer, uint32_t slot, int64_t now_us) {
    crew_sum sum = crew_sum_of(consumer->crew);
    /* What was counted as a suspect and waits to run would have been counted for this one's sake. */
    if (sum.marking > 0 || !is_well(consumer, now_us) ||
        (sum.ready > 0 && now_us < consumer->crew->rest_until_us))
        return;
    consumer->crew->alone = consumer;
    consumer->alone_slot = slot;
    consumer->alone_since_us = now_us;
    consumer->alone_until_us = patience_us(consumer, now_us);
    consumer->ledger.slots[slot].alone = true;
}

static void alone_mark(tide_consumer *consumer, int64_t now_us) {
    tide_slot *s = alone_slot(consumer);
    crew_sum sum = crew_sum_of(consumer->crew);
    if (sum.pages > 0 || (sum.running > 0 && now_us < consumer->alone_until_us))
        return;
    if (s->attempt >= consumer->crash_attempts_max)
        s->attempt_base = (int32_t)tide__carried_attempts(&s->entry) - 1;
    consumer->alone_until_us = patience_us(consumer, now_us);
    mark(consumer, consumer->alone_slot, now_us);
}

/* The others go on, at least for the time that they have waited. */
static void alone_end(tide_consumer *consumer, int64_t now_us) {
    consumer->crew->alone = NULL;
    consumer->crew->rest_until_us = 2 * now_us - consumer->alone_since_us;
}

void tide__suspect_pump(tide_consumer *consumer, int64_t now_us) {
    if (consumer->crew->alone != consumer)
        return;
    if (alone_slot(consumer)->state != TIDE_SLOT_SUSPECT) {
        if (now_us >= consumer->alone_until_us)
            alone_end(consumer, now_us); /* the others have waited long enough */
    } else if (is_well(consumer, now_us)) {
        alone_mark(consumer, now_us);
    } else {
        alone_slot(consumer)->alone = false;
        alone_end(consumer, now_us);
    }
}

int64_t tide__suspect_deadline_us(const tide_consumer *consumer) {
    if (consumer->crew->alone != consumer)
        return INT64_MAX;
    if (alone_slot(consumer)->state == TIDE_SLOT_SUSPECT) {
        crew_sum sum = crew_sum_of(consumer->crew);
        if (sum.pages > 0)
            return INT64_MAX;
        if (sum.running == 0)
            return consumer->now_us;
    }
    return consumer->alone_until_us;
}

bool tide__suspect_alone_is_ready(const tide_consumer *consumer) {
    return consumer->crew->alone == consumer && alone_slot(consumer)->state == TIDE_SLOT_READY;
}

uint32_t tide__suspect_alone_next(tide_consumer *consumer, int64_t now_us) {
    if (!tide__suspect_alone_is_ready(consumer))
        return TIDE_SLOT_NONE;
    consumer->alone_until_us = patience_us(consumer, now_us);
    return consumer->alone_slot;
}

void tide__suspect_end(tide_consumer *consumer, uint32_t slot, bool confirmed) {
    tide_slot *s = &consumer->ledger.slots[slot];
    consumer->marking -= s->suspected;
    s->suspected = false;
    if (!s->alone)
        return;
    if (!confirmed) {
        consumer->settle_now = true;
        return;
    }
    s->alone = false;
    if (consumer->crew->alone == consumer && consumer->alone_slot == slot)
        alone_end(consumer, consumer->now_us);
}

/* ---- a few ---- */

void tide__suspect_look(tide_consumer *consumer, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    uint32_t most = consumer->crash_attempts_max;
    while (ledger->suspect.count > 0 && consumer->crew->alone == NULL &&
           !page_is_under_way(consumer)) {
        uint32_t slot = ledger->suspect.first;
        const tide_slot *s = &ledger->slots[slot];
        bool proves_little = tide__slot_count(s, s->attempt) <= 2 && s->attempt < most;
        if (most > 0 && !proves_little) {
            alone_begin(consumer, slot, now_us);
            break;
        }
        if (consumer->marking >= SUSPECTS_AT_ONCE)
            break;
        mark(consumer, slot, now_us);
    }
    tide__suspect_pump(consumer, now_us);
    if (consumer->settle_now)
        tide__settle_pump(consumer, now_us);
}

/* ---- the crew ---- */

void tide__suspect_leave(tide_consumer *consumer) {
    tide_crew *crew = consumer->crew;
    tide_consumer **at = &crew->first;
    while (*at != consumer)
        at = &(*at)->crew_next;
    *at = consumer->crew_next;
    if (crew->alone == consumer)
        crew->alone = NULL;
}

void tide__consumer_join(tide_consumer *consumer, tide_crew *crew) {
    if (consumer->crew != NULL)
        tide__suspect_leave(consumer);
    consumer->crew = crew;
    consumer->crew_next = crew->first;
    crew->first = consumer;
}
