/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_FAKE_BROKER_H
#define TIDE_SPEC_FAKE_BROKER_H

#include "broker/broker.h"

/*
 * A broker whose server is the test: operations wait in a list until the test answers them. Batches come from the
 * allocator under test; what the fake keeps for itself comes from malloc.
 */
enum { FAKE_OPS_MAX = 64, FAKE_ITEMS_MAX = 1100 };

typedef struct fake_op {
    tide_op_kind kind;
    uint64_t tag;
    bool history;
    tide_id after; /* of a FETCH; the cursor of a RECOVER */
    uint32_t count_max;
    char start[48];         /* of a GROUP_ENSURE; the first two words of a COMMAND */
    size_t count;           /* settlements, or ids of an EXTEND */
    tide_settlement *items; /* without their fields */
    char **bodies;          /* "name=value;…" of a DEAD or DELAY, else NULL */
    tide_id *ids;
} fake_op;

typedef struct fake_broker {
    tide_broker base;
    const tide_allocator *alloc;
    fake_op ops[FAKE_OPS_MAX]; /* waiting, oldest first */
    size_t op_count;
    tide_completion done[FAKE_OPS_MAX];
    size_t done_first, done_count;
    void *done_memory[FAKE_OPS_MAX];
    void *last_memory;
    tide_status refuse; /* submit answers this while it isn't TIDE_OK */
    uint64_t submitted[TIDE_OP_KIND_COUNT];
    unsigned interrupts, drops;
    uint64_t wakes;    /* what a watch shows */
    unsigned watching; /* watches that haven't ended */
} fake_broker;

void fake_broker_init(fake_broker *fake, const tide_allocator *alloc);
void fake_broker_deinit(fake_broker *fake);

/* The oldest waiting operation of this kind; NULL when there is none. */
fake_op *fake_find(fake_broker *fake, tide_op_kind kind);
/* Ends it with this status; `results` of a settlement may be NULL (all get the status). */
void fake_answer(fake_broker *fake, fake_op *op, tide_status status);
void fake_answer_settle(fake_broker *fake, fake_op *op, const tide_status *results);
/* Entries first_ms-0, first_ms+1-0, …: one field `n` with a value of `size` bytes, delivered `attempt` times. */
void fake_answer_entries(fake_broker *fake, fake_op *op, uint64_t first_ms, size_t count,
                         uint32_t attempt, size_t size);
/* The same with whole entries; a batch that can't be had is TIDE_ENOMEM. */
void fake_answer_batch(fake_broker *fake, fake_op *op, const tide_entry *entries, size_t count,
                       tide_id cursor);
void fake_answer_lost(fake_broker *fake, fake_op *op, const tide_id *lost, size_t count);
/* `reply` outlives the completion. */
void fake_answer_reply(fake_broker *fake, fake_op *op, const tide_reply *reply);
void fake_answer_promote(fake_broker *fake, fake_op *op, uint32_t moved, int64_t next_due_ms);

#endif
