/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/prng.h"
#include "failing_allocator.h"

static void memory_is_aligned_and_stays(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_arena arena;
    tide_arena_init(&arena, &alloc, 1024);
    enum { COUNT = 500 };
    unsigned char *pieces[COUNT];
    size_t sizes[COUNT];
    tide_prng prng;
    tide_prng_seed(&prng, 7);
    for (int round = 0; round < 3; round++) {
        size_t total = 0;
        for (size_t i = 0; i < COUNT; i++) {
            sizes[i] = (size_t)tide_prng_below(&prng, i % 10 == 0 ? 3000 : 90);
            total += sizes[i];
            if (i % 2 == 0) {
                pieces[i] = tide_arena_alloc(&arena, sizes[i]);
                assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
            } else {
                pieces[i] = (unsigned char *)tide_arena_bytes(&arena, sizes[i]);
            }
            assert_non_null(pieces[i]);
            memset(pieces[i], (int)(i % 251), sizes[i]);
        }
        assert_true(arena.used >= total);
        for (size_t i = 0; i < COUNT; i++) {
            for (size_t k = 0; k < sizes[i]; k++) {
                assert_int_equal(pieces[i][k], i % 251);
            }
        }
        tide_arena_reset(&arena);
        assert_int_equal(arena.used, 0);
        assert_int_equal(failing_allocator_live_bytes(&memory), 1024);
    }
    tide_arena_deinit(&arena);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

static void small_runs_need_no_memory_after_the_first(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_arena arena;
    tide_arena_init(&arena, &alloc, 4096);
    for (int i = 0; i < 1000; i++) {
        for (int k = 0; k < 30; k++) {
            assert_non_null(tide_arena_alloc(&arena, 100));
        }
        tide_arena_reset(&arena);
    }
    assert_int_equal(memory.asked, 1);
    tide_arena_deinit(&arena);
}

static void one_larger_than_a_block_has_its_own_and_leaves_the_current(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_arena arena;
    tide_arena_init(&arena, &alloc, 1024);
    char *a = tide_arena_bytes(&arena, 1);
    assert_non_null(tide_arena_bytes(&arena, 100000));
    char *b = tide_arena_bytes(&arena, 1);
    assert_ptr_equal(b, a + 1);
    assert_null(tide_arena_alloc(&arena, SIZE_MAX));
    assert_null(tide_arena_alloc(&arena, SIZE_MAX - 8));
    assert_null(tide_arena_bytes(&arena, SIZE_MAX));
    tide_arena_reset(&arena);
    assert_int_equal(failing_allocator_live_bytes(&memory), 1024);
    /* Sizes around the block's own, header and all. */
    for (size_t size = 960; size < 1060; size++) {
        char *c = tide_arena_alloc(&arena, size);
        assert_non_null(c);
        memset(c, 1, size);
        tide_arena_reset(&arena);
        assert_int_equal(failing_allocator_live_bytes(&memory), 1024);
    }
    tide_arena_deinit(&arena);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

static void a_copy_ends_in_nul(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 2, true);
    tide_arena arena;
    tide_arena_init(&arena, &alloc, 1024);
    tide_str copy = tide_arena_copy(&arena, (tide_str){"a\0b", 3});
    assert_int_equal(copy.len, 3);
    assert_memory_equal(copy.data, "a\0b", 4);
    copy = tide_arena_copy(&arena, (tide_str){NULL, 0});
    assert_non_null(copy.data);
    assert_int_equal(copy.len, 0);
    assert_null(tide_arena_copy(&arena, (tide_str){"x", SIZE_MAX}).data);
    tide_arena_deinit(&arena);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, n, n % 2 == 0);
        tide_arena arena;
        tide_arena_init(&arena, &alloc, 512);
        uint64_t nulls = 0;
        for (size_t i = 0; i < 60; i++) {
            char *piece = tide_arena_alloc(&arena, i * 20);
            nulls += piece == NULL;
            if (piece != NULL) {
                memset(piece, 1, i * 20);
            }
            if (i == 40) {
                tide_arena_reset(&arena);
            }
        }
        tide_arena_deinit(&arena);
        assert_int_equal(nulls, memory.failed);
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        if (memory.failed == 0) {
            assert_true(n > 10);
            break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_and_stays),
        cmocka_unit_test(small_runs_need_no_memory_after_the_first),
        cmocka_unit_test(one_larger_than_a_block_has_its_own_and_leaves_the_current),
        cmocka_unit_test(a_copy_ends_in_nul),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
