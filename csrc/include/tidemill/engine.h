/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_ENGINE_H
#define TIDEMILL_ENGINE_H

#include <tidemill/consumer.h>
#include <tidemill/operation.h>
#include <tidemill/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The engine: one broker, its subscriptions, and nothing of the outside world. It opens no descriptor, reads no clock,
 * starts no thread and calls nobody back. Bytes, finished jobs, operations and the time go in; bytes, jobs, completions,
 * events and the next deadline come out. tidemill/bus.h drives it with sockets, a clock and a thread, also under a loop of
 * yours (tide_bus_fd). One thread at a time. No call here waits. `now_us` is any monotonic clock in microseconds: with a bus,
 * tide_bus_now_us. Where `error` is taken it may be NULL, and is written only when the call fails.
 */
typedef struct tide_engine tide_engine;

/* Zero it, then set the URL. All of it is copied. */
typedef struct tide_engine_options {
    tide_str url; /* memory:, file:…, redis://…, valkey://…, rediss://…, valkeys://…, unix:… */
    tide_env env;
    int64_t wall_offset_us; /* wall clock minus the clock of now_us; tide_bus_open sets it itself */
    /* Options over those of the URL, by the same names and in the same words ("5s"); may be NULL. */
    const tide_field *options;
    size_t option_count;
} tide_engine_options;

/* Checks the URL and its options; connects to nothing. TIDE_OK, TIDE_URL, TIDE_OPTION, TIDE_UNSUPPORTED, TIDE_ENOMEM. */
tide_status tide_engine_open(tide_engine **engine, const tide_engine_options *options,
                             tide_error *error);
/* Forgets everything at once; NULL is fine. Unsettled events stay pending at the server or in the file. */
void tide_engine_close(tide_engine *engine);

/* ---- operations ---- */

/* TIDE_OK: exactly one completion with op->tag follows. Otherwise none does: TIDE_ARGUMENT (a name that can't be, a tag of
 * 2^63 or more), TIDE_LIMIT, TIDE_OVERFLOW (65,536 operations or 256 MiB are under way: poll, and try again), TIDE_ENOMEM,
 * TIDE_UNSUPPORTED. What `op` points to is needed during the call only. */
tide_status tide_engine_submit(tide_engine *engine, const tide_op *op, int64_t now_us,
                               tide_error *error);
/* False when there is none. What the completion points to is valid until the next call on the engine, but for a batch, which
 * belongs to the receiver. */
bool tide_engine_next_completion(tide_engine *engine, int64_t now_us, tide_completion *completion);
/* Whether tide_engine_next_completion would have one. */
bool tide_engine_has_completion(tide_engine *engine, int64_t now_us);

/* ---- subscriptions ---- */

/* Starts one; `consumer` is its number, from 1. The options are copied. TIDE_OK, TIDE_OPTION, TIDE_ENOMEM, TIDE_LIMIT (1,000
 * are there). */
tide_status tide_engine_subscribe(tide_engine *engine, const tide_consumer_options *options,
                                  int64_t now_us, uint32_t *consumer, tide_error *error);
/* Stops reading; goes when idle (tide_engine_stats_of then answers TIDE_NOTFOUND): poll until tide_engine_is_idle. Events that
 * were not handed out yet are given back; `abandon`: those that run, too. TIDE_OK, TIDE_NOTFOUND, TIDE_ENOMEM. */
tide_status tide_engine_unsubscribe(tide_engine *engine, uint32_t consumer, bool abandon,
                                    int64_t now_us);
/* The next event to run of this subscription (0: of any, in turn); false when none is ready. It is the caller's until
 * tide_engine_settle ends it; its lease is renewed meanwhile, as long as the bus is polled. */
bool tide_engine_next_event(tide_engine *engine, uint32_t consumer, int64_t now_us,
                            tide_event *event);
/* Whether any subscription has an event to hand out. */
bool tide_engine_has_event(const tide_engine *engine);
/* Ends an event (EXTEND: renews its lease). What the verdict points to is needed during the call only. TIDE_OK,
 * TIDE_NOTFOUND (no such event, or it is settled already). */
tide_status tide_engine_settle(tide_engine *engine, uint32_t consumer, uint64_t handle,
                               const tide_verdict *verdict, int64_t now_us);
/* Sends waiting settlements now. */
void tide_engine_flush(tide_engine *engine, int64_t now_us);
/* After so many attempts (0: never) an event whose attempts all ended with the death of their process is a dead letter; at
 * first options.retry.attempts_max. When verdicts bring policies of their own: the largest of them. TIDE_OK, TIDE_NOTFOUND. */
tide_status tide_engine_crash_limit(tide_engine *engine, uint32_t consumer, uint32_t attempts_max);
/* The counters of one subscription; TIDE_OK, TIDE_NOTFOUND. */
tide_status tide_engine_stats_of(const tide_engine *engine, uint32_t consumer,
                                 tide_consumer_stats *stats);
/* No subscription left, no operation under way. */
bool tide_engine_is_idle(const tide_engine *engine);
/* How many of the caller's operations have been submitted and not answered yet. */
uint64_t tide_engine_under_way(const tide_engine *engine);
/* Connected and healthy: TIDE_OK; else why not, with a line in `error`. */
tide_status tide_engine_state(const tide_engine *engine, tide_error *error);

/* ---- time: a bus does this by itself ---- */

/* Runs what is due: timers, time-outs, keep-alives. */
void tide_engine_tick(tide_engine *engine, int64_t now_us);
/* When tick is due next; INT64_MAX when never; ≤ now when at once. */
int64_t tide_engine_deadline_us(const tide_engine *engine);

#ifdef __cplusplus
}
#endif

#endif
