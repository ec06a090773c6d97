/* SPDX-License-Identifier: MIT */
/* Requests: exact bytes, the edges of numbers, running out of room and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "failing_allocator.h"
#include "proto/resp.h"

static void assert_content(const tide_buffer *buffer, const char *expected) {
    assert_int_equal(tide_buffer_size(buffer), strlen(expected));
    assert_memory_equal(tide_buffer_data(buffer), expected, strlen(expected));
}

static void writes_a_command(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_buffer out;
    tide_buffer_init(&out, &alloc, 1 << 20);
    tide_resp_begin(&out, 5);
    tide_resp_arg_literal(&out, "XADD");
    tide_resp_arg(&out, (tide_str){"a\0b", 3});
    tide_resp_arg_id(&out, (tide_id){1700000000123, 7});
    tide_resp_arg(&out, (tide_str){NULL, 0});
    tide_resp_arg_i64(&out, -42);
    assert_false(out.failed);
    const char expected[] =
        "*5\r\n$4\r\nXADD\r\n$3\r\na\0b\r\n$15\r\n1700000000123-7\r\n$0\r\n\r\n$3\r\n-42\r\n";
    assert_int_equal(tide_buffer_size(&out), sizeof expected - 1);
    assert_memory_equal(tide_buffer_data(&out), expected, sizeof expected - 1);
    tide_buffer_deinit(&out);
}

static void writes_every_kind_of_number(void **state) {
    (void)state;
    static const uint64_t numbers[] = {0,
                                       1,
                                       9,
                                       10,
                                       11,
                                       99,
                                       100,
                                       101,
                                       999,
                                       1000,
                                       1001,
                                       12345,
                                       99999,
                                       100000,
                                       4294967295u,
                                       UINT64_C(9999999999999999999),
                                       UINT64_C(10000000000000000000),
                                       UINT64_MAX};
    tide_allocator alloc = tide_allocator_default();
    tide_buffer out;
    tide_buffer_init(&out, &alloc, 1 << 20);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char digits[32], expected[64];
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)numbers[i]);
        snprintf(expected, sizeof expected, "$%zu\r\n%s\r\n", strlen(digits), digits);
        tide_buffer_clear(&out, 1 << 20);
        tide_resp_arg_u64(&out, numbers[i]);
        assert_content(&out, expected);
    }
    static const int64_t signed_numbers[] = {INT64_MIN, INT64_MIN + 1, -100, -1, 0, 1, INT64_MAX};
    for (size_t i = 0; i < sizeof signed_numbers / sizeof signed_numbers[0]; i++) {
        char digits[32], expected[64];
        snprintf(digits, sizeof digits, "%lld", (long long)signed_numbers[i]);
        snprintf(expected, sizeof expected, "$%zu\r\n%s\r\n", strlen(digits), digits);
        tide_buffer_clear(&out, 1 << 20);
        tide_resp_arg_i64(&out, signed_numbers[i]);
        assert_content(&out, expected);
    }
    tide_buffer_clear(&out, 1 << 20);
    tide_resp_arg_id(&out, (tide_id){UINT64_MAX, UINT64_MAX});
    assert_content(&out, "$41\r\n18446744073709551615-18446744073709551615\r\n");
    tide_buffer_deinit(&out);
}

static void writes_long_arguments(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_buffer out;
    tide_buffer_init(&out, &alloc, 1 << 24);
    static char text[100000];
    memset(text, 'x', sizeof text);
    for (size_t len = 1; len <= sizeof text; len *= 10) {
        char header[32];
        snprintf(header, sizeof header, "$%zu\r\n", len);
        tide_buffer_clear(&out, 1 << 24);
        tide_resp_arg(&out, (tide_str){text, len});
        assert_int_equal(tide_buffer_size(&out), strlen(header) + len + 2);
        assert_memory_equal(tide_buffer_data(&out), header, strlen(header));
        assert_memory_equal(tide_buffer_data(&out) + strlen(header), text, len);
        assert_memory_equal(tide_buffer_data(&out) + strlen(header) + len, "\r\n", 2);
    }
    tide_buffer_deinit(&out);
}

static void remembers_that_the_bound_was_hit(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_buffer out;
    tide_buffer_init(&out, &alloc, 64);
    static char text[128];
    tide_resp_begin(&out, 2);
    tide_resp_arg(&out, (tide_str){text, sizeof text});
    tide_resp_arg_literal(&out, "x");
    assert_true(out.failed);
    tide_buffer_deinit(&out);
}

static void survives_every_failed_allocation(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, n, true);
        tide_buffer out;
        tide_buffer_init(&out, &alloc, 1 << 20);
        tide_resp_begin(&out, 50);
        for (int i = 0; i < 50; i++)
            tide_resp_arg_literal(&out, "0123456789012345678901234567890123456789");
        assert_int_equal(out.failed, memory.failed > 0);
        tide_buffer_deinit(&out);
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        if (memory.failed == 0)
            break;
    }
}

static void classifies_errors_by_their_first_word(void **state) {
    (void)state;
    static const struct {
        const char *text;
        tide_status status;
    } cases[] = {
        {"LOADING Redis is loading the dataset in memory", TIDE_LOADING},
        {"READONLY You can't write against a read only replica.", TIDE_READONLY},
        {"OOM command not allowed when used memory > 'maxmemory'.", TIDE_OOM},
        {"MISCONF Redis is configured to save RDB snapshots", TIDE_MISCONF},
        {"NOREPLICAS Not enough good replicas to write.", TIDE_MISCONF},
        {"BUSY Redis is busy running a script.", TIDE_BUSY},
        {"NOAUTH Authentication required.", TIDE_NOAUTH},
        {"WRONGPASS invalid username-password pair or user is disabled.", TIDE_NOAUTH},
        {"DENIED Redis is running in protected mode", TIDE_NOAUTH},
        {"NOPERM this user has no permissions to run the 'xadd' command", TIDE_NOPERM},
        {"NOGROUP No such key 's' or consumer group 'g'", TIDE_NOGROUP},
        {"UNBLOCKED the stream key no longer exists", TIDE_NOGROUP},
        {"BUSYGROUP Consumer Group name already exists", TIDE_EXISTS},
        {"WRONGTYPE Operation against a key holding the wrong kind of value", TIDE_WRONGTYPE},
        {"NOSCRIPT No matching script. Please use EVAL.", TIDE_NOSCRIPT},
        {"NOSCRIPT", TIDE_NOSCRIPT},
        {"MOVED 3999 127.0.0.1:6381", TIDE_MOVED},
        {"ASK 3999 :6381", TIDE_MOVED},
        {"TRYAGAIN Multiple keys request during rehashing of slot", TIDE_MOVED},
        {"CLUSTERDOWN Hash slot not served", TIDE_MOVED},
        {"ERR max number of clients reached", TIDE_MAXCLIENTS},
        {"ERR max number of clients + cluster connections reached", TIDE_MAXCLIENTS},
        {"ERR unknown command", TIDE_REPLY},
        {"ERR LOADING", TIDE_REPLY},
        {"LOADINGX", TIDE_REPLY},
        {"", TIDE_REPLY},
        {" ", TIDE_REPLY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(tide_resp_error_status((tide_str){cases[i].text, strlen(cases[i].text)}),
                         cases[i].status);
    assert_int_equal(tide_resp_error_status((tide_str){NULL, 0}), TIDE_REPLY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_a_command),
        cmocka_unit_test(writes_every_kind_of_number),
        cmocka_unit_test(writes_long_arguments),
        cmocka_unit_test(remembers_that_the_bound_was_hit),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(classifies_errors_by_their_first_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
