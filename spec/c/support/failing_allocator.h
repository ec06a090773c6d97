/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_FAILING_ALLOCATOR_H
#define TIDE_SPEC_FAILING_ALLOCATOR_H

#include <tidemill/types.h>

/*
 * An allocator for tests: counts what is alive, fails the N-th call that asks for memory (once, or
 * from then on), and aborts with a line on stderr when the code under test frees or resizes with
 * another size than it asked for, writes beyond a block's end, or frees what is not alive. New
 * memory is filled with 0xa5, freed memory with 0xdd.
 *
 * The usual loop, where `run` answers whether it got through without an allocation failing:
 *
 *     for (uint64_t n = 1;; n++) {
 *         failing_allocator memory;
 *         tide_allocator alloc = failing_allocator_init(&memory, n, false);
 *         run(&alloc);
 *         assert_int_equal(failing_allocator_live_bytes(&memory), 0);
 *         if (memory.failed == 0) break;
 *     }
 */
typedef struct failing_allocator {
    uint64_t fail_at;   /* which call fails, from 1; 0 = never */
    bool from_then_on;  /* every later call fails too */
    uint64_t asked;     /* calls that asked for memory: new blocks and resizes */
    uint64_t failed;    /* how many of them were refused */
    size_t live_blocks; /* not yet freed */
    size_t live_bytes;  /* of those, as asked for */
    size_t peak_bytes;  /* the most that live_bytes ever was */
} failing_allocator;

/* Starts it in the caller's memory, which outlives the allocator's use. */
tide_allocator failing_allocator_init(failing_allocator *memory, uint64_t fail_at,
                                      bool from_then_on);

size_t failing_allocator_live_bytes(const failing_allocator *memory);
size_t failing_allocator_live_blocks(const failing_allocator *memory);

#endif
