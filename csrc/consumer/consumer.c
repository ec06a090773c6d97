/* SPDX-License-Identifier: MIT */
/*
 * What it is: the state machine of one subscription: its life, its operations, its troubles, what is due when.
 * What it is not: bytes, sockets, clocks, Lua. Reads are in reading.c, where a lost group begins anew in checkpoint.c,
 * hand-out and verdicts in running.c, what an entry's past means in suspect.c, settlements in settlement.c, leases in
 * recovery.c.
 *
 * The consumer:
 *
 *                        ensured                paged until empty
 *   create ──► STARTING ────────► HISTORY ─────────────────────────► RUNNING ◄─────────┐
 *                 ▲  ▲               │ ▲                                │  │             │
 *                 │  │ group lost    │ └── read ended UNKNOWN/TIMEOUT ──┘  │             │
 *                 │  └───────────────┴─────────────────────────────────────┤             │
 *                 │                                                        │ error       │ pause over
 *                 │ looked at again (5 s)          retryable ┌─────────────┴──► WAITING ─┘
 *               PARKED ◄─────────────────────────── fatal ───┘
 *
 *   any ── stop, abandon ──► STOPPING ── nothing held, nothing under way ──► STOPPED
 *
 *   from      to        by                                    when
 *   STARTING  HISTORY   reading.c   tide__reading_ensured     the group is there
 *   HISTORY   RUNNING   reading.c   tide__reading_fetched     a page brought nothing new
 *   RUNNING   HISTORY   reading.c   tide__reading_pump        entries may have been served without arriving
 *   any       STARTING  reading.c   tide__reading_group_lost  the group has vanished, for the first time
 *   any       WAITING   reading.c   tide__reading_trouble     a retryable error of a read, or a group that keeps vanishing
 *   any       PARKED    reading.c   tide__reading_trouble     an error that somebody must mend
 *   WAITING   STARTING, HISTORY, RUNNING
 *                       reading.c   tide__reading_pump        the pause (with jitter, 0.1 to 4 s) is over
 *   PARKED    STARTING  reading.c   tide__reading_pump        5 s are over
 *   any       STOPPING  tide_consumer_stop, tide_consumer_abandon
 *   STOPPING  STOPPED   stop_pump
 *
 * Invariants (tide__consumer_check):
 *   1. held + reserved ≤ prefetch, or 1.
 *   2. each operation under way has exactly one place in `flights`, whose number is part of its tag; `fetches`,
 *      `settles`, `flying` and `reserved` are the sums over them.
 *   3. nothing is read in STARTING, WAITING, PARKED and STOPPED; in HISTORY one read at most begins.
 *   4. READY, SUSPECT, MARKING, WAITING are empty in STOPPING; STOPPED holds nothing and has nothing under way.
 *   5. a slot with a wish (verb) is queued, deferred or sent; MARKING and SETTLING slots have a wish or are sent.
 */
#include "consumer/consumer.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/text.h"
#include "consumer/internal.h"

enum {
    PAUSE_MS_MIN = 100,
    PAUSE_MS_MAX = 4000,            /* so that work goes on within 5 s of an error's end */
    PAUSE_MS_MAX_CONNECTION = 1000, /* the adapter has its own pauses between connections */
    PARK_MS = 5000,
    LOG_INTERVAL_US = 1000000
};

/* ---- life ---- */

enum { FIELDS_AT_FIRST = 256, SETTLE_FLIGHTS = TIDE_FLIGHT_COUNT - TIDE_FLIGHT_SETTLE };
enum { TEXT_SIZE = 64 * TIDE_FIELD_TEXT_MAX };

tide_status tide_consumer_create(tide_consumer **consumer, uint32_t number,
                                 const tide_consumer_options *options, tide_broker *broker,
                                 const tide_env *env, tide_error *error) {
    tide_status status = tide__options_check(options, error);
    if (status != TIDE_OK)
        return status;
    tide_allocator alloc = tide_allocator_or_default(env->allocator);
    tide_consumer *c = tide_alloc_zero(&alloc, 1, sizeof *c);
    if (c == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for a subscription");
    c->alloc = alloc;
    c->log = env->log;
    c->broker = broker;
    c->number = number;
    tide__consumer_join(c, &c->own_crew);
    c->crash_attempts_max = options->retry.attempts_max;
    c->now_us = c->pause_us = INT64_MIN;
    tide_prng_seed(&c->prng, env->seed ^ ((uint64_t)number * UINT64_C(0x9e3779b97f4a7c15)));
    c->state = TIDE_CONSUMER_STARTING;
    uint32_t slots = options->prefetch * 2 + 64;
    c->settle_max = slots < TIDE_SETTLE_BATCH_MAX ? slots : TIDE_SETTLE_BATCH_MAX;
    c->settle_full = options->prefetch / 4 > 0 ? options->prefetch / 4 : 1;
    if (c->settle_full > c->settle_max)
        c->settle_full = c->settle_max;
    status = tide__options_copy(c, options);
    if (status == TIDE_OK)
        status = tide__ledger_init(&c->ledger, &c->alloc, slots);
    if (status == TIDE_OK) {
        c->extend_ids = tide_alloc_zero(&c->alloc, slots, sizeof *c->extend_ids);
        c->items = tide_alloc_zero(&c->alloc, c->settle_max, sizeof *c->items);
        c->sent =
            tide_alloc_zero(&c->alloc, (size_t)c->settle_max * SETTLE_FLIGHTS, sizeof *c->sent);
        c->text = tide_alloc(&c->alloc, TEXT_SIZE);
        c->fields = tide_alloc_zero(&c->alloc, FIELDS_AT_FIRST, sizeof *c->fields);
        c->field_capacity = c->fields != NULL ? FIELDS_AT_FIRST : 0;
        if (c->extend_ids == NULL || c->items == NULL || c->sent == NULL || c->text == NULL ||
            c->fields == NULL)
            status = TIDE_ENOMEM;
    }
    if (status != TIDE_OK) {
        tide_consumer_destroy(c);
        return tide_error_set(error, status, "no memory for a subscription of %u events",
                              (unsigned)options->prefetch);
    }
    for (int i = 0; i < SETTLE_FLIGHTS; i++)
        c->flights[TIDE_FLIGHT_SETTLE + i].sent = c->sent + (size_t)c->settle_max * (size_t)i;
    *consumer = c;
    return TIDE_OK;
}

void tide_consumer_destroy(tide_consumer *consumer) {
    if (consumer == NULL)
        return;
    tide_consumer *c = consumer;
    tide_allocator alloc = c->alloc;
    tide__suspect_leave(c);
    tide__recovery_unwatch(c, c->now_us);
    if (c->extend_ids != NULL)
        tide_free(&alloc, c->extend_ids, c->ledger.capacity * sizeof *c->extend_ids);
    tide__ledger_deinit(&c->ledger);
    tide_free(&alloc, c->items, c->settle_max * sizeof *c->items);
    tide_free(&alloc, c->sent, (size_t)c->settle_max * SETTLE_FLIGHTS * sizeof *c->sent);
    tide_free(&alloc, c->text, TEXT_SIZE);
    tide_free(&alloc, c->fields, c->field_capacity * sizeof *c->fields);
    tide__options_free(c);
    tide_free(&alloc, c, sizeof *c);
}

void tide__consumer_begin(tide_consumer *consumer, int64_t wall_offset_us, uint64_t serial) {
    consumer->wall_offset_us = wall_offset_us;
    if (serial > consumer->handle_serial)
        consumer->handle_serial = serial;
}

void tide_consumer_crash_limit(tide_consumer *consumer, uint32_t attempts_max) {
    consumer->crash_attempts_max = attempts_max;
}

uint64_t tide__consumer_serial(const tide_consumer *consumer) {
    return consumer->handle_serial;
}

tide_str tide__consumer_stream(const tide_consumer *consumer) {
    return consumer->options.stream;
}

/* ---- states, trouble ---- */

static const char *state_name(tide_consumer_state state) {
    switch (state) {
    case TIDE_CONSUMER_STARTING: return "starting";
    case TIDE_CONSUMER_HISTORY: return "history";
    case TIDE_CONSUMER_RUNNING: return "running";
    case TIDE_CONSUMER_WAITING: return "waiting";
    case TIDE_CONSUMER_PARKED: return "parked";
    case TIDE_CONSUMER_STOPPING: return "stopping";
    case TIDE_CONSUMER_STOPPED: return "stopped";
    }
    return "?";
}

void tide__consumer_set_state(tide_consumer *consumer, tide_consumer_state state) {
    if (consumer->state == state)
        return;
    /* Stopping is never taken back. */
    TIDE_ASSERT(consumer->state != TIDE_CONSUMER_STOPPED);
    TIDE_ASSERT(consumer->state != TIDE_CONSUMER_STOPPING || state == TIDE_CONSUMER_STOPPED);
    if (consumer->log.write != NULL)
        tide_log(&consumer->log, TIDE_LOG_DEBUG, "consumer %u: %s -> %s",
                 (unsigned)consumer->number, state_name(consumer->state), state_name(state));
    consumer->state = state;
}

void tide__consumer_log(tide_consumer *consumer, tide_log_level level, int64_t now_us,
                        const char *format, ...) {
    if (consumer->log.write == NULL)
        return;
    if (now_us < consumer->log_next_us) {
        consumer->log_held_back++;
        return;
    }
    consumer->log_next_us = now_us + LOG_INTERVAL_US;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const tide_consumer_options *o = &consumer->options;
    if (consumer->log_held_back > 0) {
        tide_log(&consumer->log, level, "stream %.*s, group %.*s: %s (%llu more lines held back)",
                 (int)o->stream.len, o->stream.data, (int)o->group.len, o->group.data, text,
                 (unsigned long long)consumer->log_held_back);
        consumer->log_held_back = 0;
    } else {
        tide_log(&consumer->log, level, "stream %.*s, group %.*s: %s", (int)o->stream.len,
                 o->stream.data, (int)o->group.len, o->group.data, text);
    }
}

bool tide__status_parks(tide_status status) {
    return tide_status_class_of(status) == TIDE_CLASS_FATAL;
}

/* What a connection waits for is spread over the whole window: the adapter's own pauses come before.
 * What a server refuses is asked again in the window's later half, so that it is asked seldom. */
static int64_t pause_ms(tide_consumer *consumer, uint32_t failures, tide_status status) {
    bool by_connection = status == TIDE_DISCONNECTED || status == TIDE_CONNECT ||
                         status == TIDE_UNKNOWN || status == TIDE_TIMEOUT;
    int64_t most = by_connection ? PAUSE_MS_MAX_CONNECTION : PAUSE_MS_MAX;
    int64_t ceiling = failures < 16 ? (int64_t)PAUSE_MS_MIN << failures : most;
    if (ceiling > most)
        ceiling = most;
    int64_t least = by_connection ? PAUSE_MS_MIN : ceiling / 2;
    return least + (int64_t)tide_prng_below(&consumer->prng, (uint64_t)(ceiling - least + 1));
}

void tide__gate_fail(tide_consumer *consumer, tide_gate_name name, const tide_error *error,
                     int64_t now_us) {
    tide_gate *gate = &consumer->gates[name];
    if (gate->failures < UINT32_MAX)
        gate->failures++;
    int64_t wait_ms = tide__status_parks(error->status)
                          ? PARK_MS
                          : pause_ms(consumer, gate->failures, error->status);
    gate->until_us = now_us + wait_ms * 1000;
    consumer->trouble |= 1u << name;
    consumer->error = *error;
    if (error->message[0] == '\0')
        tide_error_set(&consumer->error, error->status, "%s", tide_status_text(error->status));
    tide__consumer_log(consumer, tide__status_parks(error->status) ? TIDE_LOG_ERROR : TIDE_LOG_WARN,
                       now_us, "%s: %s; tried again in %lld ms", tide_status_code(error->status),
                       consumer->error.message, (long long)wait_ms);
}

void tide__gate_ok(tide_consumer *consumer, tide_gate_name name) {
    consumer->gates[name].failures = 0;
    consumer->gates[name].until_us = INT64_MIN;
    consumer->trouble &= ~(1u << name);
    if (consumer->trouble == 0 && consumer->error.status != TIDE_OK)
        tide_error_clear(&consumer->error);
}

/* ---- operations ---- */

tide_status tide__consumer_submit(tide_consumer *consumer, int place, tide_op *op, int64_t now_us,
                                  tide_error *error) {
    tide_flight *flight = &consumer->flights[place];
    TIDE_ASSERT(flight->tag == 0);
    uint64_t serial = ++consumer->op_serial & ((UINT64_C(1) << (32 - TIDE_FLIGHT_BITS)) - 1);
    op->tag = TIDE_CONSUMER_TAG_BASE | (uint64_t)consumer->number << 32 |
              serial << TIDE_FLIGHT_BITS | (uint64_t)place;
    *error = (tide_error){.status = TIDE_OK};
    tide_status status = consumer->broker->vtable->submit(consumer->broker, op, now_us, error);
    if (status != TIDE_OK) {
        error->status = status;
        return status;
    }
    flight->tag = op->tag;
    flight->started_us = now_us;
    flight->serial = consumer->op_serial;
    consumer->flying++;
    return TIDE_OK;
}

void tide_consumer_complete(tide_consumer *consumer, tide_completion *completion, int64_t now_us) {
    int place = (int)(completion->tag & ((1u << TIDE_FLIGHT_BITS) - 1));
    tide_flight *flight = place < TIDE_FLIGHT_COUNT ? &consumer->flights[place] : NULL;
    if (flight == NULL ||
        flight->tag != completion->tag) { /* of an earlier consumer of this number */
        tide__completion_release(completion);
        return;
    }
    tide__recovery_note_time(consumer, now_us);
    flight->tag = 0;
    consumer->flying--;
    completion->error.status = completion->status;
    switch (place) {
    case TIDE_FLIGHT_ENSURE: tide__reading_ensured(consumer, completion, now_us); break;
    case TIDE_FLIGHT_FETCH:
    case TIDE_FLIGHT_FETCH + 1: tide__reading_fetched(consumer, flight, completion, now_us); break;
    case TIDE_FLIGHT_EXTEND: tide__recovery_extended(consumer, completion, now_us); break;
    case TIDE_FLIGHT_RECOVER: tide__recovery_recovered(consumer, completion, now_us); break;
    case TIDE_FLIGHT_LOOK: tide__checkpoint_looked(consumer, completion, now_us); break;
    case TIDE_FLIGHT_PROMOTE: tide__recovery_promoted(consumer, completion, now_us); break;
    default: tide__settle_completed(consumer, flight, completion, now_us); break;
    }
    tide__consumer_pump(consumer, now_us);
}

void tide__completion_release(tide_completion *completion) {
    if (completion->status != TIDE_OK)
        return;
    if (completion->kind == TIDE_OP_FETCH) {
        tide_batch_release(completion->as.fetch.batch);
        completion->as.fetch.batch = NULL;
    } else if (completion->kind == TIDE_OP_RECOVER) {
        tide_batch_release(completion->as.recover.batch);
        completion->as.recover.batch = NULL;
    }
}

/* ---- what is due ---- */

static void stop_pump(tide_consumer *consumer) {
    if (consumer->flying > 0 ||
        consumer->ledger.counts[TIDE_SLOT_FREE] != consumer->ledger.capacity)
        return;
    tide__consumer_set_state(consumer, TIDE_CONSUMER_STOPPED);
    consumer->broker->vtable->drop_reader(consumer->broker, consumer->number, consumer->now_us);
}

void tide__consumer_pump(tide_consumer *consumer, int64_t now_us) {
    if (consumer->state == TIDE_CONSUMER_STOPPED)
        return;
    tide__running_pump(consumer, now_us);
    tide__suspect_pump(consumer, now_us);
    tide__recovery_pump(consumer, now_us);
    tide__settle_pump(consumer, now_us);
    if (consumer->state == TIDE_CONSUMER_STOPPING) {
        if (consumer->ledger.limbo.count > 0)
            tide__settle_limbo_end(consumer);
        stop_pump(consumer);
    } else {
        tide__reading_pump(consumer, now_us);
        tide__checkpoint_pump(consumer, now_us);
    }
}

void tide_consumer_tick(tide_consumer *consumer, int64_t now_us) {
    if (consumer->now_us == INT64_MIN) {
        consumer->now_us = consumer->lease_us = now_us;
        consumer->extend_due_us = now_us + consumer->options.lease_ms * 1000 / 3;
        /* Dead consumers are looked for at once, spread a little over their peers that start together. */
        consumer->recover_due_us =
            now_us + (int64_t)tide_prng_below(&consumer->prng,
                                              (uint64_t)consumer->options.recover_ms * 100 + 1);
        consumer->promote_due_us = now_us;
    }
    tide__recovery_note_time(consumer, now_us);
    tide__consumer_pump(consumer, now_us);
}

int64_t tide_consumer_deadline_us(const tide_consumer *consumer) {
    if (consumer->state == TIDE_CONSUMER_STOPPED)
        return INT64_MAX;
    if (consumer->now_us == INT64_MIN)
        return INT64_MIN;
    int64_t deadline = tide__recovery_deadline_us(consumer);
    deadline = tide__min_us(deadline, tide__settle_deadline_us(consumer));
    deadline = tide__min_us(deadline, tide__checkpoint_deadline_us(consumer));
    deadline = tide__min_us(deadline, tide__suspect_deadline_us(consumer));
    if (consumer->history_held && consumer->crew->alone == NULL &&
        consumer->state == TIDE_CONSUMER_HISTORY)
        return consumer->now_us;
    tide_timer *timer = tide_heap_first(&consumer->ledger.timers);
    if (timer != NULL && consumer->crew->alone == NULL)
        deadline = tide__min_us(deadline, timer->deadline_us);
    if (consumer->state == TIDE_CONSUMER_WAITING || consumer->state == TIDE_CONSUMER_PARKED)
        deadline = tide__min_us(deadline, consumer->gates[TIDE_GATE_READ].until_us);
    return deadline;
}

/* ---- the end ---- */

static void release_state(tide_consumer *consumer, tide_slot_state state, int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    for (uint32_t i = 0; i < ledger->capacity && ledger->counts[state] > 0; i++) {
        if (ledger->slots[i].state != state)
            continue;
        if (ledger->slots[i].lost) {
            tide__settle_drop(consumer, i);
        } else {
            tide__settle_release(consumer, i, now_us);
        }
    }
}

static void begin_stop(tide_consumer *consumer, bool abandon, int64_t now_us) {
    if (consumer->state == TIDE_CONSUMER_STOPPED)
        return;
    if (consumer->now_us == INT64_MIN)
        consumer->now_us = consumer->lease_us = now_us;
    tide__consumer_set_state(consumer, TIDE_CONSUMER_STOPPING);
    if (consumer->fetches > 0)
        consumer->broker->vtable->interrupt(consumer->broker, consumer->number, now_us);
    release_state(consumer, TIDE_SLOT_READY, now_us);
    release_state(consumer, TIDE_SLOT_SUSPECT, now_us);
    release_state(consumer, TIDE_SLOT_MARKING, now_us);
    release_state(consumer, TIDE_SLOT_WAITING, now_us);
    if (abandon)
        release_state(consumer, TIDE_SLOT_RUNNING, now_us);
    consumer->settle_now = true;
    tide__consumer_pump(consumer, now_us);
}

void tide_consumer_stop(tide_consumer *consumer, int64_t now_us) {
    if (consumer->state != TIDE_CONSUMER_STOPPING)
        begin_stop(consumer, false, now_us);
}

void tide_consumer_abandon(tide_consumer *consumer, int64_t now_us) {
    begin_stop(consumer, true, now_us);
}

bool tide_consumer_is_idle(const tide_consumer *consumer) {
    return consumer->state == TIDE_CONSUMER_STOPPED;
}

void tide_consumer_flush(tide_consumer *consumer, int64_t now_us) {
    if (consumer->ledger.queue.count == 0 || consumer->state == TIDE_CONSUMER_STOPPED)
        return;
    consumer->settle_now = true;
    tide__settle_pump(consumer, now_us);
}

void tide__consumer_note_due(tide_consumer *consumer, int64_t due_us) {
    if (due_us < consumer->promote_due_us)
        consumer->promote_due_us = due_us;
}

void tide_consumer_stats_get(const tide_consumer *consumer, tide_consumer_stats *stats) {
    const uint32_t *n = consumer->ledger.counts;
    *stats = consumer->stats;
    stats->state = consumer->state;
    stats->error = consumer->error;
    stats->buffered = n[TIDE_SLOT_READY] + n[TIDE_SLOT_SUSPECT] + n[TIDE_SLOT_MARKING];
    stats->running = n[TIDE_SLOT_RUNNING];
    stats->waiting = n[TIDE_SLOT_WAITING];
    stats->settling = n[TIDE_SLOT_SETTLING];
    stats->bytes = consumer->ledger.bytes;
}

void tide__consumer_check(const tide_consumer *consumer) {
    const tide_ledger *ledger = &consumer->ledger;
    tide__ledger_check(ledger);
    uint32_t held = tide__ledger_held(ledger);
    uint32_t most = consumer->options.prefetch;
    TIDE_ASSERT(held + consumer->reserved <= (most > 1 ? most : 1));
    uint32_t flying = 0, fetches = 0, reserved = 0, settles = 0, sent = 0;
    for (int i = 0; i < TIDE_FLIGHT_COUNT; i++) {
        const tide_flight *flight = &consumer->flights[i];
        if (flight->tag == 0) {
            TIDE_ASSERT(flight->count == 0 || i == TIDE_FLIGHT_ENSURE);
            continue;
        }
        TIDE_ASSERT((flight->tag & ((1u << TIDE_FLIGHT_BITS) - 1)) == (uint64_t)i);
        flying++;
        if (i == TIDE_FLIGHT_FETCH || i == TIDE_FLIGHT_FETCH + 1) {
            fetches++;
            reserved += flight->count;
        } else if (i == TIDE_FLIGHT_RECOVER) {
            reserved += flight->count;
        } else if (i >= TIDE_FLIGHT_SETTLE) {
            settles++;
            sent += flight->count;
        }
    }
    TIDE_ASSERT(flying == consumer->flying && fetches == consumer->fetches);
    TIDE_ASSERT(reserved == consumer->reserved && settles == consumer->settles);
    uint32_t is_sent = 0, suspected = 0;
    for (uint32_t i = 0; i < ledger->capacity; i++) {
        const tide_slot *s = &ledger->slots[i];
        is_sent += s->queued == TIDE_QUEUE_SENT;
        suspected += s->suspected;
        TIDE_ASSERT(!s->suspected || s->state == TIDE_SLOT_MARKING || s->state == TIDE_SLOT_READY);
        if (s->verb != TIDE_VERB_NONE)
            TIDE_ASSERT(s->queued != TIDE_QUEUE_NONE);
        if (s->state == TIDE_SLOT_MARKING)
            TIDE_ASSERT(s->verb == TIDE_SETTLE_ATTEMPT);
        if (s->state == TIDE_SLOT_SETTLING)
            TIDE_ASSERT(s->queued != TIDE_QUEUE_NONE);
        if (s->state == TIDE_SLOT_RUNNING)
            TIDE_ASSERT(s->handle >> TIDE_SLOT_INDEX_BITS <= consumer->handle_serial);
    }
    TIDE_ASSERT(is_sent == sent);
    TIDE_ASSERT(suspected == consumer->marking);
    if (consumer->crew->alone == consumer) {
        const tide_slot *s = &ledger->slots[consumer->alone_slot];
        TIDE_ASSERT(s->alone && s->state != TIDE_SLOT_FREE && s->state != TIDE_SLOT_WAITING &&
                    s->state != TIDE_SLOT_LIMBO);
    }
    switch (consumer->state) {
    case TIDE_CONSUMER_STOPPED:
        TIDE_ASSERT(flying == 0 && ledger->counts[TIDE_SLOT_FREE] == ledger->capacity);
        break;
    case TIDE_CONSUMER_STOPPING: TIDE_ASSERT(held == ledger->counts[TIDE_SLOT_RUNNING]); break;
    default: break;
    }
}
