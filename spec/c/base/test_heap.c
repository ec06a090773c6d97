/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/heap.h"
#include "base/prng.h"
#include "failing_allocator.h"

static void check(const tide_heap *heap) {
    for (size_t i = 0; i < heap->count; i++) {
        const tide_timer *timer = heap->timers[i];
        assert_int_equal(timer->index, i + 1);
        if (i > 0) {
            const tide_timer *parent = heap->timers[(i - 1) / 2];
            assert_true(
                parent->deadline_us < timer->deadline_us ||
                (parent->deadline_us == timer->deadline_us && parent->sequence < timer->sequence));
        }
    }
}

static void ties_come_in_the_order_of_arming(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_heap heap;
    tide_heap_init(&heap, &alloc);
    tide_timer timers[50];
    memset(timers, 0, sizeof timers);
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(tide_timer_arm(&heap, &timers[i], 5), TIDE_OK);
    }
    /* Armed anew: now the last of them. */
    assert_int_equal(tide_timer_arm(&heap, &timers[0], 5), TIDE_OK);
    assert_null(tide_heap_pop_due(&heap, 4));
    for (size_t i = 1; i <= 50; i++) {
        assert_ptr_equal(tide_heap_first(&heap), &timers[i % 50]);
        assert_ptr_equal(tide_heap_pop_due(&heap, 5), &timers[i % 50]);
        assert_false(tide_timer_is_armed(&timers[i % 50]));
    }
    assert_null(tide_heap_first(&heap));
    assert_null(tide_heap_pop_due(&heap, INT64_MAX));
    tide_heap_deinit(&heap);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

static void the_whole_range_of_times_is_ordered(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_heap heap;
    tide_heap_init(&heap, &alloc);
    tide_timer last = {.deadline_us = 0};
    tide_timer first = {.deadline_us = 0};
    assert_int_equal(tide_timer_arm(&heap, &last, INT64_MAX), TIDE_OK);
    assert_int_equal(tide_timer_arm(&heap, &first, INT64_MIN), TIDE_OK);
    assert_ptr_equal(tide_heap_pop_due(&heap, 0), &first);
    assert_null(tide_heap_pop_due(&heap, INT64_MAX - 1));
    tide_timer_disarm(&heap, &last);
    tide_timer_disarm(&heap, &last);
    assert_int_equal(heap.count, 0);
    tide_heap_deinit(&heap);
}

/* Against the plainest model there is: a search through all. */
static void agrees_with_a_search_through_all(void **state) {
    (void)state;
    enum { COUNT = 100 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, 0, false);
        tide_heap heap;
        tide_heap_init(&heap, &alloc);
        tide_prng prng;
        tide_prng_seed(&prng, seed);
        tide_timer timers[COUNT];
        memset(timers, 0, sizeof timers);
        for (int step = 0; step < 2000; step++) {
            tide_timer *timer = &timers[tide_prng_below(&prng, COUNT)];
            int64_t at = (int64_t)tide_prng_below(&prng, 50);
            switch (tide_prng_below(&prng, 4)) {
            case 0: tide_timer_disarm(&heap, timer); break;
            case 1: {
                tide_timer *least = NULL;
                for (size_t i = 0; i < COUNT; i++) {
                    if (tide_timer_is_armed(&timers[i]) &&
                        (least == NULL || timers[i].deadline_us < least->deadline_us ||
                         (timers[i].deadline_us == least->deadline_us &&
                          timers[i].sequence < least->sequence))) {
                        least = &timers[i];
                    }
                }
                assert_ptr_equal(tide_heap_first(&heap), least);
                bool due = least != NULL && least->deadline_us <= at;
                assert_ptr_equal(tide_heap_pop_due(&heap, at), due ? least : NULL);
                break;
            }
            default: assert_int_equal(tide_timer_arm(&heap, timer, at), TIDE_OK); break;
            }
            check(&heap);
        }
        tide_heap_deinit(&heap);
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
    }
}

static void arming_fails_only_by_growing(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 2, true);
    tide_heap heap;
    tide_heap_init(&heap, &alloc);
    tide_timer timers[40];
    memset(timers, 0, sizeof timers);
    assert_int_equal(tide_heap_reserve(&heap, 20), TIDE_OK);
    assert_int_equal(tide_heap_reserve(&heap, 3), TIDE_OK);
    size_t capacity = heap.capacity;
    assert_true(capacity >= 20 && capacity < 40);
    for (size_t i = 0; i < capacity; i++) {
        assert_int_equal(tide_timer_arm(&heap, &timers[i], (int64_t)(capacity - i)), TIDE_OK);
    }
    assert_int_equal(tide_timer_arm(&heap, &timers[capacity], 1), TIDE_ENOMEM);
    assert_false(tide_timer_is_armed(&timers[capacity]));
    assert_int_equal(tide_heap_reserve(&heap, SIZE_MAX), TIDE_ENOMEM);
    assert_int_equal(tide_timer_arm(&heap, &timers[0], -1), TIDE_OK);
    check(&heap);
    assert_ptr_equal(tide_heap_first(&heap), &timers[0]);
    tide_heap_deinit(&heap);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ties_come_in_the_order_of_arming),
        cmocka_unit_test(the_whole_range_of_times_is_ordered),
        cmocka_unit_test(agrees_with_a_search_through_all),
        cmocka_unit_test(arming_fails_only_by_growing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
