/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/prng.h"
#include "failing_allocator.h"

static failing_allocator memory;
static tide_allocator alloc;

static int set_up(void **state) {
    (void)state;
    alloc = failing_allocator_init(&memory, 0, false);
    return 0;
}

static int nothing_is_left(void **state) {
    (void)state;
    return failing_allocator_live_blocks(&memory) == 0 ? 0 : -1;
}

static void assert_content(const tide_buffer *buffer, const char *expected) {
    assert_int_equal(tide_buffer_size(buffer), strlen(expected));
    assert_memory_equal(tide_buffer_data(buffer), expected, strlen(expected));
}

static void appends_numbers_texts_and_formats(void **state) {
    (void)state;
    tide_buffer buffer;
    tide_buffer_init(&buffer, &alloc, 1000);
    assert_int_equal(tide_buffer_size(&buffer), 0);
    assert_null(tide_buffer_data(&buffer));
    assert_int_equal(tide_buffer_append(&buffer, "ab", 2), TIDE_OK);
    assert_int_equal(tide_buffer_append(&buffer, NULL, 0), TIDE_OK);
    assert_int_equal(tide_buffer_append_str(&buffer, TIDE_STR("c ")), TIDE_OK);
    assert_int_equal(tide_buffer_append_u64(&buffer, UINT64_MAX), TIDE_OK);
    assert_int_equal(tide_buffer_append_i64(&buffer, INT64_MIN), TIDE_OK);
    assert_int_equal(tide_buffer_append_i64(&buffer, 0), TIDE_OK);
    assert_int_equal(tide_buffer_append_format(&buffer, " %s=%d", "x", 5), TIDE_OK);
    assert_content(&buffer, "abc 18446744073709551615-92233720368547758080 x=5");
    assert_false(buffer.failed);
    tide_buffer_deinit(&buffer);
}

static void a_format_that_fits_to_the_byte_is_written(void **state) {
    (void)state;
    for (size_t max = 1; max < 200; max++) {
        char text[201];
        memset(text, 'x', max);
        text[max] = '\0';
        for (size_t before = 0; before <= max && before < 3; before++) {
            tide_buffer buffer;
            tide_buffer_init(&buffer, &alloc, max);
            assert_int_equal(tide_buffer_append(&buffer, text, before), TIDE_OK);
            assert_int_equal(tide_buffer_append_format(&buffer, "%s", text + before), TIDE_OK);
            assert_content(&buffer, text);
            assert_int_equal(tide_buffer_append_format(&buffer, "y"), TIDE_LIMIT);
            assert_true(buffer.failed);
            assert_content(&buffer, text);
            tide_buffer_deinit(&buffer);
        }
    }
}

static void holds_max_bytes_and_not_one_more(void **state) {
    (void)state;
    tide_buffer buffer;
    tide_buffer_init(&buffer, &alloc, 10);
    assert_int_equal(tide_buffer_append(&buffer, "0123456789", 10), TIDE_OK);
    assert_int_equal(tide_buffer_append(&buffer, "x", 1), TIDE_LIMIT);
    assert_true(buffer.failed);
    assert_content(&buffer, "0123456789");
    assert_null(tide_buffer_reserve(&buffer, 1));
    assert_int_equal(tide_buffer_append_u64(&buffer, 7), TIDE_LIMIT);
    volatile size_t huge = SIZE_MAX; /* hidden from the compiler, which would warn */
    assert_int_equal(tide_buffer_append(&buffer, "x", huge), TIDE_LIMIT);
    tide_buffer_consume(&buffer, 4);
    buffer.failed = false;
    assert_int_equal(tide_buffer_append_u64(&buffer, 1234), TIDE_OK);
    assert_content(&buffer, "4567891234");
    assert_int_equal(tide_buffer_append_u64(&buffer, 5), TIDE_LIMIT);
    tide_buffer_clear(&buffer, 1000);
    assert_false(buffer.failed);
    assert_int_equal(tide_buffer_size(&buffer), 0);
    tide_buffer_deinit(&buffer);
}

static void reserved_room_counts_only_when_committed(void **state) {
    (void)state;
    tide_buffer buffer;
    tide_buffer_init(&buffer, &alloc, 100000);
    char *room = tide_buffer_reserve(&buffer, 5000);
    assert_non_null(room);
    memcpy(room, "hello", 5);
    assert_int_equal(tide_buffer_size(&buffer), 0);
    tide_buffer_commit(&buffer, 5);
    assert_content(&buffer, "hello");
    assert_non_null(tide_buffer_reserve(&buffer, 0));
    tide_buffer_deinit(&buffer);
    assert_non_null(tide_buffer_reserve(&buffer, 0));
    tide_buffer_deinit(&buffer);
}

static void clear_keeps_memory_up_to_a_size(void **state) {
    (void)state;
    tide_buffer buffer;
    tide_buffer_init(&buffer, &alloc, 100000);
    assert_non_null(tide_buffer_reserve(&buffer, 5000));
    tide_buffer_clear(&buffer, 5000);
    assert_true(buffer.capacity >= 5000);
    tide_buffer_clear(&buffer, 4999);
    assert_int_equal(buffer.capacity, 0);
    assert_int_equal(tide_buffer_append(&buffer, "x", 1), TIDE_OK);
    tide_buffer_deinit(&buffer);
}

/* The model is a plain array; every operation is drawn from a seed. */
static void reads_in_order_whatever_the_mix_of_appends_and_reads(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        tide_prng prng;
        tide_prng_seed(&prng, seed);
        tide_buffer buffer;
        tide_buffer_init(&buffer, &alloc, 5000);
        unsigned char written = 0;
        unsigned char read = 0;
        for (int step = 0; step < 2000; step++) {
            size_t size = (size_t)tide_prng_below(&prng, 400);
            if (tide_prng_below(&prng, 2) == 0) {
                char *room = tide_buffer_reserve(&buffer, size);
                if (room == NULL) {
                    assert_true(tide_buffer_size(&buffer) + size > 5000);
                    continue;
                }
                for (size_t i = 0; i < size; i++) {
                    room[i] = (char)written++;
                }
                tide_buffer_commit(&buffer, size);
            } else {
                if (size > tide_buffer_size(&buffer)) {
                    size = tide_buffer_size(&buffer);
                }
                const char *data = tide_buffer_data(&buffer);
                for (size_t i = 0; i < size; i++) {
                    assert_int_equal((unsigned char)data[i], read);
                    read++;
                }
                tide_buffer_consume(&buffer, size);
            }
            assert_true(buffer.capacity <= 5000 + 5000 / 3 + 4);
        }
        tide_buffer_deinit(&buffer);
    }
}

static void a_long_queue_read_in_small_pieces_is_not_moved_each_time(void **state) {
    (void)state;
    tide_buffer buffer;
    tide_buffer_init(&buffer, &alloc, SIZE_MAX);
    static char block[1000];
    do {
        assert_int_equal(tide_buffer_append(&buffer, block, sizeof block), TIDE_OK);
    } while (buffer.capacity < 100000 || buffer.capacity - buffer.end >= sizeof block);
    uint64_t asked = memory.asked;
    size_t moves = 0;
    for (int i = 0; i < 1000; i++) {
        tide_buffer_consume(&buffer, 1000);
        size_t begin = buffer.begin;
        assert_int_equal(tide_buffer_append(&buffer, block, sizeof block), TIDE_OK);
        moves += buffer.begin < begin;
    }
    assert_true(memory.asked - asked <= 2);
    assert_true(moves < 50);
    tide_buffer_deinit(&buffer);
}

static bool run_of_appends(const tide_allocator *with) {
    tide_buffer buffer;
    tide_buffer_init(&buffer, with, 100000);
    size_t size = 0;
    char *room;
    for (int i = 0; i < 20; i++) {
        size_t before = tide_buffer_size(&buffer);
        tide_status status = tide_buffer_append_format(&buffer, "%0*d", 10 * i + 1, i);
        assert_true(status == TIDE_OK || status == TIDE_ENOMEM);
        size += status == TIDE_OK ? (size_t)(10 * i + 1) : 0;
        assert_int_equal(tide_buffer_size(&buffer) - before,
                         status == TIDE_OK ? (size_t)(10 * i + 1) : 0);
        status = tide_buffer_append_i64(&buffer, -7);
        assert_true(status == TIDE_OK || status == TIDE_ENOMEM);
        size += status == TIDE_OK ? 2 : 0;
        room = tide_buffer_reserve(&buffer, 100);
        assert_true(room != NULL || buffer.failed);
    }
    assert_int_equal(tide_buffer_size(&buffer), size);
    bool failed = buffer.failed;
    tide_buffer_deinit(&buffer);
    return !failed;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        for (uint64_t n = 1;; n++) {
            failing_allocator failing;
            tide_allocator with = failing_allocator_init(&failing, n, from_then_on != 0);
            bool through = run_of_appends(&with);
            assert_int_equal(failing_allocator_live_bytes(&failing), 0);
            assert_int_equal(through, failing.failed == 0);
            if (failing.failed == 0) {
                assert_true(n > 3);
                break;
            }
        }
    }
}

/* Growing failed, but what is already there has room once it is moved to the front. */
static void makes_do_with_what_it_has_when_memory_is_short(void **state) {
    (void)state;
    failing_allocator failing;
    tide_allocator with = failing_allocator_init(&failing, 2, true);
    tide_buffer buffer;
    tide_buffer_init(&buffer, &with, SIZE_MAX);
    char text[64];
    memset(text, 'a', sizeof text);
    assert_int_equal(tide_buffer_append(&buffer, text, 64), TIDE_OK);
    assert_int_equal(buffer.capacity, 64);
    tide_buffer_consume(&buffer, 10);
    assert_int_equal(tide_buffer_append(&buffer, "0123456789", 10), TIDE_OK);
    assert_int_equal(tide_buffer_size(&buffer), 64);
    assert_memory_equal(tide_buffer_data(&buffer) + 54, "0123456789", 10);
    assert_int_equal(tide_buffer_append(&buffer, "x", 1), TIDE_ENOMEM);
    tide_buffer_deinit(&buffer);
    assert_int_equal(failing_allocator_live_bytes(&failing), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(appends_numbers_texts_and_formats),
        TEST(a_format_that_fits_to_the_byte_is_written),
        TEST(holds_max_bytes_and_not_one_more),
        TEST(reserved_room_counts_only_when_committed),
        TEST(clear_keeps_memory_up_to_a_size),
        TEST(reads_in_order_whatever_the_mix_of_appends_and_reads),
        TEST(a_long_queue_read_in_small_pieces_is_not_moved_each_time),
        TEST(every_allocation_may_fail),
        TEST(makes_do_with_what_it_has_when_memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
