/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "failing_allocator.h"

static void the_default_allocates_resizes_and_frees(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_or_default((tide_allocator){NULL, NULL});
    char *ptr = tide_alloc(&alloc, 3);
    assert_non_null(ptr);
    memcpy(ptr, "abc", 3);
    ptr = tide_realloc(&alloc, ptr, 3, 30000);
    assert_non_null(ptr);
    assert_memory_equal(ptr, "abc", 3);
    tide_free(&alloc, ptr, 30000);
    tide_free(&alloc, NULL, 7);
}

static void an_allocator_with_a_function_is_kept(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_allocator same = tide_allocator_or_default(alloc);
    assert_ptr_equal(same.context, &memory);
}

static void zeroed_memory_is_zero_and_its_size_cannot_overflow(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    unsigned char *ptr = tide_alloc_zero(&alloc, 10, 7);
    assert_non_null(ptr);
    for (size_t i = 0; i < 70; i++) {
        assert_int_equal(ptr[i], 0);
    }
    assert_int_equal(failing_allocator_live_bytes(&memory), 70);
    tide_free(&alloc, ptr, 70);
    assert_null(tide_alloc_zero(&alloc, SIZE_MAX / 2, 3));
    assert_null(tide_alloc_zero(&alloc, 3, SIZE_MAX / 2));
    assert_int_equal(failing_allocator_live_blocks(&memory), 0);
}

static void a_copy_ends_in_nul_and_keeps_nul_inside(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_str copy;
    assert_int_equal(tide_str_copy(&alloc, (tide_str){"a\0b", 3}, &copy), TIDE_OK);
    assert_int_equal(copy.len, 3);
    assert_memory_equal(copy.data, "a\0b", 4);
    tide_str_free(&alloc, &copy);
    assert_null(copy.data);
    tide_str_free(&alloc, &copy);
    assert_int_equal(tide_str_copy(&alloc, (tide_str){NULL, 0}, &copy), TIDE_OK);
    assert_string_equal(copy.data, "");
    tide_str_free(&alloc, &copy);
    assert_int_equal(failing_allocator_live_blocks(&memory), 0);
}

static void no_memory_leaves_things_as_they_were(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 2, true);
    char *ptr = tide_alloc(&alloc, 4);
    assert_non_null(ptr);
    memcpy(ptr, "abcd", 4);
    assert_null(tide_realloc(&alloc, ptr, 4, 8));
    assert_memory_equal(ptr, "abcd", 4);
    tide_str copy = {"x", 1};
    assert_int_equal(tide_str_copy(&alloc, TIDE_STR("y"), &copy), TIDE_ENOMEM);
    assert_string_equal(copy.data, "x");
    assert_null(tide_alloc_zero(&alloc, 1, 1));
    tide_free(&alloc, ptr, 4);
    assert_int_equal(memory.failed, 3);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

static void the_failing_allocator_fails_once_or_from_then_on(void **state) {
    (void)state;
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, 2, from_then_on != 0);
        void *blocks[4];
        for (size_t i = 0; i < 4; i++) {
            blocks[i] = tide_alloc(&alloc, i + 1);
            assert_int_equal(blocks[i] == NULL, from_then_on ? i >= 1 : i == 1);
        }
        assert_int_equal(memory.asked, 4);
        for (size_t i = 0; i < 4; i++) {
            tide_free(&alloc, blocks[i], i + 1);
        }
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        assert_int_equal(memory.peak_bytes, from_then_on ? 1 : 1 + 3 + 4);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_allocates_resizes_and_frees),
        cmocka_unit_test(an_allocator_with_a_function_is_kept),
        cmocka_unit_test(zeroed_memory_is_zero_and_its_size_cannot_overflow),
        cmocka_unit_test(a_copy_ends_in_nul_and_keeps_nul_inside),
        cmocka_unit_test(no_memory_leaves_things_as_they_were),
        cmocka_unit_test(the_failing_allocator_fails_once_or_from_then_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
