/* SPDX-License-Identifier: MIT */
#ifndef TIDE_CONSUMER_CONSUMER_H
#define TIDE_CONSUMER_CONSUMER_H

#include <tidemill/consumer.h>

#include "broker/broker.h"

/*
 * One subscription: a consumer of a group on one stream. It keeps reads in flight, holds what came in a bounded window,
 * hands events out, takes verdicts, batches settlements, renews leases, retries, dead-letters and recovers. It knows the
 * port and the time, nothing else. The state machine stands at the head of consumer.c.
 */

typedef struct tide_consumer tide_consumer;

/* The consumers of one engine: they die together. Zeroed at first; outlives them. */
typedef struct tide_crew {
    tide_consumer *first;
    tide_consumer *alone;  /* an event of this one runs, or is about to, with nothing beside it */
    int64_t rest_until_us; /* before that no other one, while there is anything else to run */
} tide_crew;

/* Tags of operations that consumers submit: the consumer's number in the upper half, its own counter below. */
#define TIDE_CONSUMER_TAG_BASE (UINT64_C(1) << 63)

/* `number` (1 … TIDE_CONSUMERS_MAX) names its reader link. Options are validated and copied. TIDE_OK, TIDE_ENOMEM, TIDE_OPTION. */
tide_status tide_consumer_create(tide_consumer **consumer, uint32_t number,
                                 const tide_consumer_options *options, tide_broker *broker,
                                 const tide_env *env, tide_error *error);
/* Forgets everything at once: what is unsettled stays pending at the engine. Events still held become stale. */
void tide_consumer_destroy(tide_consumer *consumer);

/* Whether the tag is of one of this consumer's operations is the engine's to know: TIDE_CONSUMER_TAG_BASE | number << 32. */
void tide_consumer_complete(tide_consumer *consumer, tide_completion *completion, int64_t now_us);
void tide_consumer_tick(tide_consumer *consumer, int64_t now_us);
int64_t tide_consumer_deadline_us(const tide_consumer *consumer);

/* Attempts after which an event whose every attempt ended without a verdict is a dead letter (0: never); at first those
 * of options.retry. For a caller whose verdicts bring policies of their own: the largest of them. */
void tide_consumer_crash_limit(tide_consumer *consumer, uint32_t attempts_max);

/* The next event to run, oldest first; false when none is ready. It is then running until tide_consumer_settle. */
bool tide_consumer_next(tide_consumer *consumer, int64_t now_us, tide_event *event);
/* Whether tide_consumer_next would have one to look at. */
bool tide_consumer_has_event(const tide_consumer *consumer);
/* Whether there are events that get ready only when somebody asks for one: suspects, which are counted just before they run.
 * Asking may be in vain until time has passed. */
bool tide_consumer_has_suspect(const tide_consumer *consumer);
/* How a running event ended. TIDE_OK; TIDE_NOTFOUND for a handle that isn't running (settled already, or stale). */
tide_status tide_consumer_settle(tide_consumer *consumer, uint64_t handle,
                                 const tide_verdict *verdict, int64_t now_us);

/* Stops reading, releases what is buffered; running events may still be settled. Idle when none is running and every
 * settlement has been confirmed. */
void tide_consumer_stop(tide_consumer *consumer, int64_t now_us);
/* As stop, and running events too are released (their later verdicts answer TIDE_NOTFOUND). */
void tide_consumer_abandon(tide_consumer *consumer, int64_t now_us);
bool tide_consumer_is_idle(const tide_consumer *consumer);
/* A verdict's settlements needn't wait for the batch window: sends what there is. */
void tide_consumer_flush(tide_consumer *consumer, int64_t now_us);

void tide_consumer_stats_get(const tide_consumer *consumer, tide_consumer_stats *stats);

/* ---- for the engine ---- */

/* Before the first tick; until then, and without, a consumer is a crew of its own. */
void tide__consumer_join(tide_consumer *consumer, tide_crew *crew);

/* Before the first tick: wall clock minus the clock of now_us (for the times in dead letters), and the serial number
 * that handles begin after, so that a number used again gives no old handle a new meaning. */
void tide__consumer_begin(tide_consumer *consumer, int64_t wall_offset_us, uint64_t serial);
uint64_t tide__consumer_serial(const tide_consumer *consumer);
tide_str tide__consumer_stream(const tide_consumer *consumer);
/* Something in the stream's delayed set is due then: promoted without waiting for the next look. */
void tide__consumer_note_due(tide_consumer *consumer, int64_t due_us);
/* Releases what a completion owns; for those that nobody waits for. */
void tide__completion_release(tide_completion *completion);

/* All invariants; aborts when one is broken. Debug and simulation builds call it after every step. */
void tide__consumer_check(const tide_consumer *consumer);

#endif
