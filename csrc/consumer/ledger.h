/* SPDX-License-Identifier: MIT */
#ifndef TIDE_CONSUMER_LEDGER_H
#define TIDE_CONSUMER_LEDGER_H

#include <tidemill/operation.h>

#include "base/heap.h"
#include "broker/broker.h"
#include "consumer/dead_letter.h"

/*
 * What a consumer holds: one slot an entry, from its arrival until its settlement is confirmed. All memory is taken when
 * the ledger is made. A slot is found by index (handles), by id (history, leases) and by the lists of its state.
 */

enum { TIDE_SLOT_NONE = UINT32_MAX, TIDE_SLOT_INDEX_BITS = 20 };

typedef enum tide_slot_state {
    TIDE_SLOT_FREE,
    TIDE_SLOT_READY, /* may be handed out; in `ready` */
    TIDE_SLOT_SUSPECT, /* may have run before in a process that died; in `suspect`; counted before it runs */
    TIDE_SLOT_MARKING,  /* its next attempt is being counted at the engine; then READY */
    TIDE_SLOT_RUNNING,  /* handed out */
    TIDE_SLOT_WAITING,  /* its timer runs until the next attempt */
    TIDE_SLOT_SETTLING, /* its verdict is on the way */
    TIDE_SLOT_LIMBO,    /* settled, but a read that began before may still bring it */
    TIDE_SLOT_STATE_COUNT
} tide_slot_state;

/* Where a slot's settlement is. */
typedef enum tide_slot_queue {
    TIDE_QUEUE_NONE,
    TIDE_QUEUE_WAITING,  /* in `queue`: goes out with the next batch */
    TIDE_QUEUE_DEFERRED, /* in `deferred`: failed, goes out again after a while */
    TIDE_QUEUE_SENT      /* in a settle operation under way */
} tide_slot_queue;

enum { TIDE_VERB_NONE = 0xff }; /* else a tide_settle_kind */

typedef struct tide_slot {
    tide_entry entry; /* events point here */
    uint64_t handle;  /* of the hand-out while RUNNING; else 0 */
    tide_timer timer; /* WAITING */
    void *copy;       /* own memory of the entry's fields once it left its batch */
    size_t copy_size;
    tide_dead_letter *dead; /* what was said about it; NULL: a fixed reason (dead_reason) */
    int64_t delay_ms;       /* of a DELAY */
    uint64_t fresh;         /* op_serial when it was last seen to be this consumer's */
    uint32_t attempt;       /* the attempt that runs, or would be next */
    int32_t
        attempt_base; /* attempt minus the engine's count: those before it became this entry (field
                               tide_attempt), or one less when its first delivery proved nothing */
    uint32_t mark;    /* the count that an ATTEMPT or RELEASE writes, or a DEAD names */
    uint32_t batch;   /* index of its batch, or TIDE_SLOT_NONE */
    uint32_t order_prev, order_next; /* in ready or suspect */
    uint32_t queue_prev, queue_next; /* in free, queue, deferred or limbo */
    uint8_t state;                   /* tide_slot_state */
    uint8_t queued;                  /* tide_slot_queue */
    uint8_t verb;                    /* the settlement wanted, or TIDE_VERB_NONE */
    uint8_t dead_reason;             /* tide_dead_reason, when `dead` is NULL */
    bool lost;                       /* RUNNING, but another consumer has it now */
    bool ran;                        /* handed out at least once by this consumer */
    bool suspected;                  /* was SUSPECT; MARKING or READY now */
    bool alone;                      /* runs with nothing beside it, from SUSPECT on */
    bool unsure;                     /* its settlement may have been carried out: no answer came */
    bool released;                   /* LIMBO: given back, so a recovery may rightly bring it */
} tide_slot;

typedef struct tide_slot_list {
    uint32_t first, last, count;
} tide_slot_list;

typedef struct tide_held_batch {
    tide_batch *batch; /* NULL: free, `live` is the next free one */
    uint32_t live;
    size_t bytes;
} tide_held_batch;

typedef struct tide_ledger {
    const tide_allocator *alloc;
    tide_slot *slots;
    uint32_t capacity;
    tide_held_batch *batches; /* as many as slots: each has a live one */
    uint32_t batch_free;
    uint32_t *index; /* open addressing by id: slot + 1, 0 empty */
    uint32_t index_mask;
    tide_heap timers;
    tide_slot_list free, ready, suspect, queue, deferred, limbo;
    uint32_t counts[TIDE_SLOT_STATE_COUNT];
    size_t bytes; /* of batches that are kept, and of copies */
} tide_ledger;

tide_status tide__ledger_init(tide_ledger *ledger, const tide_allocator *alloc, uint32_t capacity);
/* Releases all it holds. */
void tide__ledger_deinit(tide_ledger *ledger);

/* TIDE_SLOT_NONE when the id isn't held. */
uint32_t tide__ledger_find(const tide_ledger *ledger, tide_id id);
/* Takes a free slot for this id (there is one, and the id isn't held); state SETTLING, in no list. */
uint32_t tide__ledger_take(tide_ledger *ledger, tide_id id);
/* Gives a slot back: from any state, not while its settlement is SENT. */
void tide__ledger_free(tide_ledger *ledger, uint32_t slot);
/* Leaves the lists and timer of the old state, enters those of the new one. */
void tide__ledger_move(tide_ledger *ledger, uint32_t slot, tide_slot_state state);
/* Puts its settlement into queue or deferred, or takes it out. */
void tide__ledger_enqueue(tide_ledger *ledger, uint32_t slot, tide_slot_queue queue);

/* A batch whose entries become slots; TIDE_SLOT_NONE is never answered: as many places as slots. */
uint32_t tide__ledger_hold(tide_ledger *ledger, tide_batch *batch);
/* The slot's fields live in this held batch. */
void tide__ledger_attach(tide_ledger *ledger, uint32_t slot, uint32_t batch);
/* Releases the batch when no slot took from it. */
void tide__ledger_hold_end(tide_ledger *ledger, uint32_t batch);
/* Forgets the fields. */
void tide__ledger_drop_entry(tide_ledger *ledger, uint32_t slot);
/* Copies the fields into memory of the slot's own, so that its batch can go; without memory it stays as it is. */
void tide__ledger_detach(tide_ledger *ledger, uint32_t slot);

/* Events held in the window: READY, SUSPECT, MARKING, RUNNING, WAITING. */
static inline uint32_t tide__ledger_held(const tide_ledger *ledger) {
    const uint32_t *n = ledger->counts;
    return n[TIDE_SLOT_READY] + n[TIDE_SLOT_SUSPECT] + n[TIDE_SLOT_MARKING] + n[TIDE_SLOT_RUNNING] +
           n[TIDE_SLOT_WAITING];
}

void tide__ledger_check(const tide_ledger *ledger);

#endif
