/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_CONSUMER_RIG_H
#define TIDE_SPEC_CONSUMER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/text.h"
#include "consumer/consumer.h"
#include "failing_allocator.h"
#include "fake_broker.h"

/*
 * A consumer in a test's hands: a broker whose server is the test, a clock that only the test moves, memory that is
 * counted. After every step all invariants are looked at.
 */
typedef struct world {
    failing_allocator memory;
    tide_allocator alloc;
    fake_broker fake;
    tide_consumer *consumer;
    tide_consumer_options options;
    int64_t now_us;
    unsigned log_lines; /* warnings and errors */
} world;

/* Stream orders, group billing, consumer me; no jitter. */
tide_consumer_options options_of(uint32_t prefetch);
/* Nothing answered yet. */
void world_open(world *w, tide_consumer_options options);
/* Nothing may be left in memory. */
void world_close(world *w);
/* Group there, history empty. */
void start(world *w, tide_consumer_options options);

/* Every answer is taken in, then what is due is done. */
void turn(world *w);
/* The same, so many ms later. */
void pass(world *w, int64_t ms);
/* Ends the oldest operation of this kind. */
void answer(world *w, tide_op_kind kind, tide_status status);
/* Answers everything but reads with success. */
void serve(world *w);
/* New entries for the oldest read, delivered for the first time. */
void deliver(world *w, uint64_t first_ms, size_t count);

tide_consumer_stats stats(world *w);
/* The next event; there is one. */
tide_event next(world *w);
bool has_next(world *w, tide_event *event);
void settle(world *w, uint64_t handle, tide_verdict verdict);
void ack(world *w, uint64_t handle);
/* Reason "boom", error "line 3", the policy's delay. */
extern const tide_verdict failure;

#endif
