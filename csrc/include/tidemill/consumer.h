/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_CONSUMER_H
#define TIDEMILL_CONSUMER_H

#include <tidemill/operation.h>
#include <tidemill/types.h>

typedef enum tide_backoff_kind {
    TIDE_BACKOFF_FIXED,
    TIDE_BACKOFF_LINEAR,
    TIDE_BACKOFF_EXPONENTIAL
} tide_backoff_kind;

/* When a failed event runs again. Attempts are counted from 1; `attempts_max` 0 means for ever. */
typedef struct tide_retry_policy {
    tide_backoff_kind kind;
    uint32_t attempts_max; /* default 5 */
    int64_t delay_ms;      /* base delay, default 100 */
    int64_t delay_ms_max;  /* ceiling, default 60,000 */
    double factor;         /* of exponential, default 2 */
    double jitter; /* 0…1: the share of the delay that is drawn evenly at random, default 0.5 */
} tide_retry_policy;

/* What happens when the group has vanished at run time (FLUSHALL, DEL, a server restarted empty). */
typedef enum tide_group_lost { TIDE_GROUP_LOST_RECREATE, TIDE_GROUP_LOST_STOP } tide_group_lost;

/* A subscription: `tide_consumer_options o = {TIDE_CONSUMER_OPTIONS_INIT};`, then stream, group and consumer (each of 1 to 512
 * bytes). Durations go to 2^30 ms; out of range is TIDE_OPTION. */
typedef struct tide_consumer_options {
    tide_str stream;
    tide_str group;
    tide_str consumer; /* this consumer's name, unique among the living */
    tide_str
        start; /* where a new group begins: "0" (all there is), "$" (only new) or an id; default "0" */
    tide_str dead_letters; /* stream for dead letters; empty: "{stream}:dlq" */
    uint32_t
        prefetch; /* most events held (buffered, running, waiting for a retry), 1 to 100,000; default 1,000 */
    size_t
        prefetch_bytes; /* most bytes of them; one event may pass it when nothing else is held; default 8 MiB */
    int64_t
        lease_ms; /* how long a silent consumer keeps its events, from 10; renewed every third of it; default 15,000 */
    int64_t
        recover_ms;    /* how often the dead are looked for; 0, the default: a third of the lease */
    int64_t block_ms;  /* a waiting read's time at the server, from 1; default 2,000 */
    int64_t settle_ms; /* a settlement waits at most this long for company; default 5 */
    int64_t
        delay_move_ms; /* retry delays from here on are moved to the delayed set; default 30,000 */
    int64_t
        promote_ms; /* how often the delayed set is looked at when nothing is known to be due; default 500 */
    tide_retry_policy retry;
    tide_group_lost group_lost;
} tide_consumer_options;

#define TIDE_CONSUMER_OPTIONS_INIT                                                                 \
    .start = {"0", 1}, .prefetch = 1000, .prefetch_bytes = 8u << 20, .lease_ms = 15000,            \
    .recover_ms = 0, .block_ms = 2000, .settle_ms = 5, .delay_move_ms = 30000, .promote_ms = 500,  \
    .retry = {TIDE_BACKOFF_EXPONENTIAL, 5, 100, 60000, 2.0, 0.5},                                  \
    .group_lost = TIDE_GROUP_LOST_RECREATE

/* An event to run. `entry` is valid until the event is settled (or its consumer destroyed). */
typedef struct tide_event {
    uint64_t handle;       /* names it when it is settled; never reused within a process */
    uint32_t consumer;     /* number of its subscription */
    uint32_t attempt;      /* 1 for the first time */
    uint32_t attempts_max; /* of the policy; 0 for ever */
    const tide_entry *entry;
} tide_event;

typedef enum tide_verdict_kind {
    TIDE_VERDICT_ACK,  /* done */
    TIDE_VERDICT_FAIL, /* failed: retried by the policy, dead-lettered after the last attempt */
    TIDE_VERDICT_NACK, /* again after `delay_ms`, counted as an attempt; dead-lettered after the last */
    TIDE_VERDICT_REJECT,  /* to the dead letters at once */
    TIDE_VERDICT_RELEASE, /* given back, attempt not counted */
    TIDE_VERDICT_EXTEND   /* not an end: lease renewed now; the event goes on running */
} tide_verdict_kind;

typedef struct tide_verdict {
    tide_verdict_kind kind;
    int64_t delay_ms; /* NACK; or FAIL: ≥ 0 overrides the policy's delay, -1 the policy's */
    const tide_retry_policy *policy; /* FAIL: instead of the subscription's own; may be NULL */
    tide_str reason;                 /* FAIL, REJECT: kept with a dead letter; cut at 4,096 bytes */
    tide_str error;                  /* FAIL: error text, kept with a dead letter */
} tide_verdict;

/* Fields that a dead letter has besides the original ones (which come first, unchanged):
 * dead_reason, dead_error, dead_stream, dead_id, dead_group, dead_consumer, dead_attempts, dead_first_at, dead_at
 * (ms since the epoch; first_at is the time in the entry's id, when it is one). */

typedef enum tide_consumer_state {
    TIDE_CONSUMER_STARTING, /* group being ensured */
    TIDE_CONSUMER_HISTORY,  /* own pending entries being read */
    TIDE_CONSUMER_RUNNING,
    TIDE_CONSUMER_WAITING, /* backing off after an error */
    TIDE_CONSUMER_PARKED, /* an error that somebody must mend (wrong type, permission); looked at again each 5 s */
    TIDE_CONSUMER_STOPPING,
    TIDE_CONSUMER_STOPPED
} tide_consumer_state;

/* Counts since the start, and what is held now. */
typedef struct tide_consumer_stats {
    tide_consumer_state state;
    tide_error error;         /* the last trouble; status TIDE_OK when there is none now */
    uint64_t delivered;       /* handed out by tide_engine_next_event, again and again counted */
    uint64_t acked;           /* ended by an acknowledgement */
    uint64_t failed;          /* verdicts FAIL and NACK */
    uint64_t retried;         /* put off for another attempt */
    uint64_t dead;            /* became dead letters */
    uint64_t released;        /* given back, not counted */
    uint64_t recovered;       /* taken over from consumers that died */
    uint64_t gone;            /* trimmed or deleted while pending */
    uint64_t lost_lease;      /* held here, and taken over by another consumer */
    uint64_t group_recreated; /* times that the group had vanished */
    uint32_t buffered;        /* read, not handed out yet */
    uint32_t running;         /* handed out, not settled */
    uint32_t waiting;         /* for their next attempt */
    uint32_t settling;        /* settlements that are not confirmed yet */
    size_t bytes;             /* of the events held */
} tide_consumer_stats;

#endif
