/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_HEAP_H
#define TIDE_BASE_HEAP_H

#include <tidemill/types.h>

/* Timers by (deadline, order of arming), so that ties are deterministic. Intrusive: a timer
 * lives in its owner and knows its place, so disarming is O(log n) and never fails. Arming can
 * fail only by growing the array. */
typedef struct tide_timer {
    int64_t deadline_us;
    uint64_t sequence;
    size_t index; /* place in the heap + 1; 0 = not armed */
} tide_timer;

typedef struct tide_heap {
    const tide_allocator *alloc;
    tide_timer **timers;
    size_t count;
    size_t capacity;
    uint64_t sequence;
} tide_heap;

void tide_heap_init(tide_heap *heap, const tide_allocator *alloc);
void tide_heap_deinit(tide_heap *heap);
/* Room for `count` timers in all, so that arming up to that many can't fail. TIDE_OK or
 * TIDE_ENOMEM. */
tide_status tide_heap_reserve(tide_heap *heap, size_t count);
/* Arms, or moves one that is armed. TIDE_OK or TIDE_ENOMEM. */
tide_status tide_timer_arm(tide_heap *heap, tide_timer *timer, int64_t deadline_us);
void tide_timer_disarm(tide_heap *heap, tide_timer *timer);
static inline bool tide_timer_is_armed(const tide_timer *timer) {
    return timer->index != 0;
}
/* The earliest timer, left in place; NULL when there is none. */
tide_timer *tide_heap_first(const tide_heap *heap);
/* Takes out the earliest timer whose deadline is ≤ now; NULL when there is none. */
tide_timer *tide_heap_pop_due(tide_heap *heap, int64_t now_us);

#endif
