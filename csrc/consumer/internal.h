/* SPDX-License-Identifier: MIT */
#ifndef TIDE_CONSUMER_INTERNAL_H
#define TIDE_CONSUMER_INTERNAL_H

#include "base/prng.h"
#include "consumer/consumer.h"
#include "consumer/ledger.h"

/*
 * What the files of this folder share. consumer.c holds the state machine, reading.c groups and reads, running.c
 * hand-out and verdicts, suspect.c what may have killed a process, settlement.c what goes back, recovery.c leases, dead
 * consumers and the delayed set.
 */

/* Operations under way, by place; the place is part of the tag. */
enum {
    TIDE_FLIGHT_ENSURE,
    TIDE_FLIGHT_FETCH, /* two of them; a history read takes the first */
    TIDE_FLIGHT_EXTEND = TIDE_FLIGHT_FETCH + 2,
    TIDE_FLIGHT_RECOVER,
    TIDE_FLIGHT_PROMOTE,
    TIDE_FLIGHT_LOOK,   /* at how far the group has come */
    TIDE_FLIGHT_SETTLE, /* four of them */
    TIDE_FLIGHT_COUNT = TIDE_FLIGHT_SETTLE + 4,
    TIDE_FLIGHT_BITS = 4
};

/* One settlement of an operation under way, as it was sent. */
typedef struct tide_sent {
    uint32_t slot;
    uint32_t mark;
    uint8_t verb;
} tide_sent;

typedef struct tide_flight {
    uint64_t tag; /* 0: none under way */
    int64_t started_us;
    uint64_t serial; /* op_serial with it */
    uint32_t count;  /* entries asked for, or settlements sent */
    bool history;
    tide_sent *sent; /* SETTLE */
} tide_flight;

/* What backs off by itself. */
typedef enum tide_gate_name {
    TIDE_GATE_READ,
    TIDE_GATE_SETTLE,
    TIDE_GATE_DEFERRED,
    TIDE_GATE_EXTEND,
    TIDE_GATE_RECOVER,
    TIDE_GATE_PROMOTE,
    TIDE_GATE_COUNT
} tide_gate_name;

typedef struct tide_gate {
    uint32_t failures;
    int64_t until_us; /* shut before that */
} tide_gate;

struct tide_consumer {
    tide_broker *broker;
    tide_allocator alloc;
    tide_log_sink log;
    tide_consumer_options options; /* its strings are copies */
    uint32_t crash_attempts_max;   /* 0: for ever */
    uint32_t number;
    int64_t wall_offset_us;
    tide_prng prng;

    tide_consumer_state state;
    tide_gate gates[TIDE_GATE_COUNT];
    tide_flight flights[TIDE_FLIGHT_COUNT];
    uint32_t fetches;  /* reads under way, history included */
    uint32_t reserved; /* entries that they and a recovery may bring */
    uint32_t settles;
    uint32_t flying; /* operations under way, all kinds */
    uint64_t op_serial;
    int64_t now_us; /* of the last call */

    tide_ledger ledger;
    uint64_t handle_serial;
    uint32_t read_at_held; /* a verdict that brings `held` down to this makes a read worthwhile */

    /* reading */
    bool group_ready;
    bool was_ready;      /* the group has been there once: its absence is a loss */
    uint8_t small_reads; /* in a row, up to what means that events trickle */
    bool need_history;
    bool history_held; /* the next page waits for an event that runs alone */
    tide_id history_cursor;
    bool
        history_done; /* once at least: what history brings now was lost on its way to this process */
    uint32_t
        history_lost; /* reads of this round of history whose answer was lost: each was counted as a delivery */
    /* checkpoint.c */
    tide_id checkpoint; /* everything up to it is settled, by whomever; 0-0 not known */
    int64_t look_due_us;
    bool look_wanted; /* something has arrived since the last look */
    uint8_t look_step;
    bool look_denied; /* the user may not use XINFO: not asked again */
    bool loss_seen;   /* after a loss: whether the stream is another one has been looked at */
    bool from_zero;   /* it is */
    uint32_t losses;  /* of the group, in a row: none far from the next */
    int64_t loss_us;  /* when it was last lost */
    size_t estimate;  /* bytes of one entry; 0 not known yet */
    uint32_t sample;  /* entries it comes from, at most `prefetch` */

    /* leases and recovery */
    int64_t extend_due_us;
    int64_t lease_us; /* every held entry's lease was good at this time */
    bool lease_suspect;
    int64_t pause_us; /* when the last long pause was noticed */
    bool extend_again;
    tide_id *extend_ids;
    uint32_t extend_count, extend_next;
    int64_t extend_started_us;
    uint64_t extend_serial; /* op_serial with its first operation */
    int64_t recover_due_us;
    tide_id recover_cursor;
    bool recover_waiting;   /* due, but the window is full */
    int64_t promote_due_us; /* while a look is under way: of what was noted since */
    const uint64_t *watch;  /* the broker's hint; NULL: none */
    uint64_t watch_seen;
    bool is_watching; /* has asked for it, once */

    /* settlement */
    int64_t settle_due_us; /* of the oldest in `queue` */
    bool settle_now;
    uint32_t settle_max;  /* most in one batch */
    uint32_t settle_full; /* a batch of so many doesn't wait */
    tide_settlement *items;
    tide_sent *sent; /* memory of all flights */
    tide_field *fields;
    size_t field_capacity;
    char *text;

    /* suspects */
    uint32_t
        marking; /* slots that are `suspected`: being counted, or counted and not handed out yet */
    tide_crew *crew;
    tide_consumer *crew_next;
    uint32_t alone_slot; /* while crew->alone is this one */
    int64_t alone_since_us;
    int64_t alone_until_us; /* the others wait no longer */
    tide_crew own_crew;     /* of a consumer that is in no other */

    /* trouble */
    uint32_t trouble; /* bit for each gate whose last operation failed */
    tide_error error;
    int64_t log_next_us;
    int64_t gone_log_next_us;
    uint64_t log_held_back;
    tide_consumer_stats stats; /* the counters in it */
};

/* Longest duration of an option or a delay: 12 days; keeps sums in range. */
enum { TIDE_CONSUMER_MS_MAX = 1 << 30 };

/* ---- options.c ---- */
/* TIDE_OK, or TIDE_OPTION with the option's name in `error`. */
tide_status tide__options_check(const tide_consumer_options *options, tide_error *error);
/* TIDE_OK or TIDE_ENOMEM; in both cases tide__options_free gives back what there is. */
tide_status tide__options_copy(tide_consumer *consumer, const tide_consumer_options *from);
void tide__options_free(tide_consumer *consumer);

/* ---- consumer.c ---- */
void tide__consumer_set_state(tide_consumer *consumer, tide_consumer_state state);
/* Does all that is due and possible. */
void tide__consumer_pump(tide_consumer *consumer, int64_t now_us);
/* Submits with the tag of this place; marks it under way. */
tide_status tide__consumer_submit(tide_consumer *consumer, int place, tide_op *op, int64_t now_us,
                                  tide_error *error);
/* An operation of this gate failed: shut for a while; trouble noted and logged (at most a line a second). */
void tide__gate_fail(tide_consumer *consumer, tide_gate_name gate, const tide_error *error,
                     int64_t now_us);
void tide__gate_ok(tide_consumer *consumer, tide_gate_name gate);
static inline bool tide__gate_is_open(const tide_consumer *consumer, tide_gate_name gate,
                                      int64_t now_us) {
    return now_us >= consumer->gates[gate].until_us;
}
void tide__consumer_log(tide_consumer *consumer, tide_log_level level, int64_t now_us,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A statement that somebody must mend something before the same call can succeed. */
bool tide__status_parks(tide_status status);

/* ---- reading.c ---- */
void tide__reading_pump(tide_consumer *consumer, int64_t now_us);
void tide__reading_ensured(tide_consumer *consumer, tide_completion *completion, int64_t now_us);
void tide__reading_fetched(tide_consumer *consumer, tide_flight *flight,
                           tide_completion *completion, int64_t now_us);
typedef enum tide_source {
    TIDE_SOURCE_NEW,
    TIDE_SOURCE_HISTORY,
    TIDE_SOURCE_RECOVERED
} tide_source;
/* Takes the batch into the ledger, or releases it. Returns the last id seen. */
tide_id tide__reading_absorb(tide_consumer *consumer, tide_batch *batch, tide_source source,
                             int64_t now_us);
/* Whether entries may have been delivered, or claimed, without arriving here. */
bool tide__reading_may_be_served(tide_status status);
/* Entries that may be asked for now, by count and by bytes. */
uint32_t tide__reading_room(const tide_consumer *consumer, uint32_t share);
/* The group has vanished. */
void tide__reading_group_lost(tide_consumer *consumer, const tide_error *error, int64_t now_us);
/* An error of what reading needs: waits, or parks. */
void tide__reading_trouble(tide_consumer *consumer, const tide_error *error, int64_t now_us);
void tide__reading_gone(tide_consumer *consumer, uint32_t count, int64_t now_us);

/* The engine's count that belongs to this attempt of the slot's event. */
static inline uint32_t tide__slot_count(const tide_slot *slot, uint32_t attempt) {
    int64_t count = (int64_t)attempt - slot->attempt_base;
    return count > 0 ? (uint32_t)count : 0;
}

/* ---- running.c ---- */
/* Retries that are due are counted, to be handed out then. */
void tide__running_pump(tide_consumer *consumer, int64_t now_us);

/* ---- suspect.c ---- */
/* The delivery count without the deliveries that never arrived: nothing of them has run. */
uint32_t tide__suspect_deliveries(const tide_consumer *consumer, const tide_entry *entry,
                                  tide_source source);
/* What an entry of the past has been through decides how it may run. `counted` is the engine's count. */
void tide__suspect_admit(tide_consumer *consumer, uint32_t slot, uint32_t counted, int64_t now_us);
/* Reading history counts a delivery at the engine, also of what is held here and runs but once: the durable count goes
 * back to what it should be. */
void tide__suspect_restore(tide_consumer *consumer, uint32_t slot, uint32_t counted,
                           int64_t now_us);
/* It may have been given back after it was claimed, so that it is anybody's: it is ours again before it runs, or isn't. */
void tide__suspect_own(tide_consumer *consumer, uint32_t slot, int64_t now_us);
/* Somebody asks for an event: suspects are counted, so that they may run next. */
void tide__suspect_look(tide_consumer *consumer, int64_t now_us);
void tide__suspect_pump(tide_consumer *consumer, int64_t now_us);
int64_t tide__suspect_deadline_us(const tide_consumer *consumer);
/* While crew->alone: the slot that may be handed out, and is now, or TIDE_SLOT_NONE. */
uint32_t tide__suspect_alone_next(tide_consumer *consumer, int64_t now_us);
bool tide__suspect_alone_is_ready(const tide_consumer *consumer);
void tide__suspect_end(tide_consumer *consumer, uint32_t slot, bool confirmed);
/* Out of its crew. */
void tide__suspect_leave(tide_consumer *consumer);
/* The slot has ended, in whatever way: `confirmed`, or about to be settled, which the others wait for when it was alone. */
static inline void tide__unsuspect(tide_consumer *consumer, uint32_t slot, bool confirmed) {
    const tide_slot *s = &consumer->ledger.slots[slot];
    if (s->suspected || s->alone)
        tide__suspect_end(consumer, slot, confirmed);
}

/* ---- settlement.c ---- */
/* The slot's settlement is wanted (or another one than before): into the queue. */
void tide__settle_want(tide_consumer *consumer, uint32_t slot, tide_settle_kind verb, uint32_t mark,
                       int64_t now_us);
/* Moves the slot to SETTLING with this verb. */
void tide__settle_finish(tide_consumer *consumer, uint32_t slot, tide_settle_kind verb,
                         int64_t now_us);
/* To the dead letters, after `attempts` attempts. */
void tide__settle_dead(tide_consumer *consumer, uint32_t slot, tide_dead_reason fixed,
                       tide_str reason, tide_str error, uint32_t attempts, int64_t now_us);
/* Given back with its attempt not counted. */
void tide__settle_release(tide_consumer *consumer, uint32_t slot, int64_t now_us);
/* It is somebody else's: forgotten as soon as nothing of it is under way. */
void tide__settle_drop(tide_consumer *consumer, uint32_t slot);
void tide__settle_pump(tide_consumer *consumer, int64_t now_us);
void tide__settle_completed(tide_consumer *consumer, tide_flight *flight,
                            tide_completion *completion, int64_t now_us);
int64_t tide__settle_deadline_us(const tide_consumer *consumer);
/* Slots in limbo are free again once no read that began before is under way. */
void tide__settle_limbo_end(tide_consumer *consumer);

/* ---- checkpoint.c ---- */
/* Looks, each second in which something arrived. */
void tide__checkpoint_pump(tide_consumer *consumer, int64_t now_us);
int64_t tide__checkpoint_deadline_us(const tide_consumer *consumer);
/* After a loss, before the group is made again: true when it is known where; else looks, and pumps again later. */
bool tide__checkpoint_is_ready(tide_consumer *consumer, int64_t now_us);
void tide__checkpoint_looked(tide_consumer *consumer, tide_completion *completion, int64_t now_us);
/* Where a lost group begins anew, as text; returns its length. */
size_t tide__checkpoint_text(const tide_consumer *consumer, char *out);

/* ---- recovery.c ---- */
void tide__recovery_pump(tide_consumer *consumer, int64_t now_us);
int64_t tide__recovery_deadline_us(const tide_consumer *consumer);
void tide__recovery_extended(tide_consumer *consumer, tide_completion *completion, int64_t now_us);
void tide__recovery_recovered(tide_consumer *consumer, tide_completion *completion, int64_t now_us);
void tide__recovery_promoted(tide_consumer *consumer, tide_completion *completion, int64_t now_us);
/* Gives the broker's hint back; harmless when there is none. */
void tide__recovery_unwatch(tide_consumer *consumer, int64_t now_us);
/* The clock of the last call and of this one are far apart: leases must be seen again before anything runs. */
void tide__recovery_note_time(tide_consumer *consumer, int64_t now_us);
/* Entries have arrived of an operation that began then: what waited for us through a pause isn't ours for sure. */
void tide__recovery_note_arrival(tide_consumer *consumer, int64_t started_us, int64_t now_us);
/* Lowest deadline, or never. */
static inline int64_t tide__min_us(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t tide__max_us(int64_t a, int64_t b) {
    return a > b ? a : b;
}

#endif
