/* SPDX-License-Identifier: MIT */
/*
 * What it is: a binary min-heap of the timers that live in their owners.
 * What it is not: a clock; times are handed in.
 * Invariants, for every i < count:
 *   1. timers[i]->index == i + 1; a timer with index 0 is in no heap.
 *   2. timers[i] is not before its parent timers[(i - 1) / 2], by (deadline_us, sequence).
 *   3. no two sequences are equal, so the order is total and a run repeats exactly.
 */
#include "base/heap.h"

#include "base/alloc.h"
#include "base/assert.h"

enum { CAPACITY_MIN = 16 };

static bool is_before(const tide_timer *a, const tide_timer *b) {
    if (a->deadline_us != b->deadline_us)
        return a->deadline_us < b->deadline_us;
    return a->sequence < b->sequence;
}

static void place(tide_heap *heap, size_t i, tide_timer *timer) {
    heap->timers[i] = timer;
    timer->index = i + 1;
}

static void sift_up(tide_heap *heap, size_t i, tide_timer *timer) {
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!is_before(timer, heap->timers[parent]))
            break;
        place(heap, i, heap->timers[parent]);
        i = parent;
    }
    place(heap, i, timer);
}

static void sift_down(tide_heap *heap, size_t i, tide_timer *timer) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && is_before(heap->timers[child + 1], heap->timers[child]))
            child++;
        if (!is_before(heap->timers[child], timer))
            break;
        place(heap, i, heap->timers[child]);
        i = child;
    }
    place(heap, i, timer);
}

/* Puts `timer` where it belongs, starting at the free place `i`. */
static void sift(tide_heap *heap, size_t i, tide_timer *timer) {
    if (i > 0 && is_before(timer, heap->timers[(i - 1) / 2])) {
        sift_up(heap, i, timer);
    } else {
        sift_down(heap, i, timer);
    }
}

void tide_heap_init(tide_heap *heap, const tide_allocator *alloc) {
    *heap = (tide_heap){.alloc = alloc};
}

void tide_heap_deinit(tide_heap *heap) {
    tide_free(heap->alloc, heap->timers, heap->capacity * sizeof *heap->timers);
    *heap = (tide_heap){.alloc = heap->alloc};
}

tide_status tide_heap_reserve(tide_heap *heap, size_t count) {
    if (count <= heap->capacity)
        return TIDE_OK;
    if (count > SIZE_MAX / 2 / sizeof *heap->timers)
        return TIDE_ENOMEM;
    size_t capacity = heap->capacity * 2;
    if (capacity < CAPACITY_MIN)
        capacity = CAPACITY_MIN;
    if (capacity < count)
        capacity = count;
    tide_timer **timers = tide_realloc(heap->alloc, heap->timers, heap->capacity * sizeof *timers,
                                       capacity * sizeof *timers);
    if (timers == NULL)
        return TIDE_ENOMEM;
    heap->timers = timers;
    heap->capacity = capacity;
    return TIDE_OK;
}

tide_status tide_timer_arm(tide_heap *heap, tide_timer *timer, int64_t deadline_us) {
    if (timer->index == 0) {
        tide_status status = tide_heap_reserve(heap, heap->count + 1);
        if (status != TIDE_OK)
            return status;
        timer->index = ++heap->count;
    }
    TIDE_ASSERT(timer->index <= heap->count);
    timer->deadline_us = deadline_us;
    timer->sequence = ++heap->sequence;
    sift(heap, timer->index - 1, timer);
    return TIDE_OK;
}

void tide_timer_disarm(tide_heap *heap, tide_timer *timer) {
    if (timer->index == 0)
        return;
    size_t i = timer->index - 1;
    TIDE_ASSERT(i < heap->count && heap->timers[i] == timer);
    timer->index = 0;
    tide_timer *last = heap->timers[--heap->count];
    if (last != timer)
        sift(heap, i, last);
}

tide_timer *tide_heap_first(const tide_heap *heap) {
    return heap->count > 0 ? heap->timers[0] : NULL;
}

tide_timer *tide_heap_pop_due(tide_heap *heap, int64_t now_us) {
    tide_timer *first = tide_heap_first(heap);
    if (first == NULL || first->deadline_us > now_us)
        return NULL;
    tide_timer_disarm(heap, first);
    return first;
}
