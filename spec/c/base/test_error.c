/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/text.h"

static void sets_status_and_message(void **state) {
    (void)state;
    tide_error error = {.server = "WRONGTYPE"};
    assert_int_equal(tide_error_set(&error, TIDE_URL, "port %d of %s", 7, "x"), TIDE_URL);
    assert_int_equal(error.status, TIDE_URL);
    assert_string_equal(error.message, "port 7 of x");
    assert_string_equal(error.server, "");
    assert_int_equal(tide_error_set(NULL, TIDE_IO, "nobody reads it"), TIDE_IO);
    tide_error_clear(&error);
    assert_int_equal(error.status, TIDE_OK);
    assert_string_equal(error.message, "");
    tide_error_clear(NULL);
}

static void the_old_message_may_be_part_of_the_new_one(void **state) {
    (void)state;
    tide_error error;
    tide_error_set(&error, TIDE_IO, "disk gone");
    tide_error_set(&error, TIDE_CLOSED, "cannot open: %s", error.message);
    assert_string_equal(error.message, "cannot open: disk gone");
}

static void a_message_is_one_line_cut_at_a_character(void **state) {
    (void)state;
    tide_error error;
    tide_error_set(&error, TIDE_REPLY, "said %s", "a\r\nb\x1b[2J");
    assert_string_equal(error.message, "said a\\x0d\\x0ab\\x1b[2J");
    char longest[2000];
    for (size_t size = 300; size < sizeof longest; size += 13) {
        memset(longest, 'x', sizeof longest);
        for (size_t i = 300; i + 3 < size; i += 3) {
            memcpy(longest + i, "\xe2\x82\xac", 3);
        }
        longest[size] = '\0';
        tide_error_set(&error, TIDE_REPLY, "%s", longest);
        assert_true(strlen(error.message) < sizeof error.message);
        assert_true(tide_utf8_is_valid(tide_str_from(error.message)));
        if (size >= sizeof error.message) {
            assert_string_equal(error.message + strlen(error.message) - 3, "\xe2\x80\xa6");
        }
    }
}

typedef struct lines {
    size_t count;
    tide_log_level level;
    char text[8192];
    size_t len;
} lines;

static void keep_line(void *context, tide_log_level level, tide_str line) {
    lines *kept = context;
    assert_true(line.len < sizeof kept->text);
    kept->count++;
    kept->level = level;
    kept->len = line.len;
    memcpy(kept->text, line.data, line.len);
    kept->text[line.len] = '\0';
}

static void logs_one_escaped_line(void **state) {
    (void)state;
    lines kept = {.count = 0};
    tide_log_sink sink = {keep_line, &kept};
    tide_log(&sink, TIDE_LOG_WARN, "got %s from %d", "a\nb\xe2\x80\xae", 5);
    assert_int_equal(kept.count, 1);
    assert_int_equal(kept.level, TIDE_LOG_WARN);
    assert_string_equal(kept.text, "got a\\x0ab\\xe2\\x80\\xae from 5");
    tide_log_sink none = {NULL, NULL};
    tide_log(&none, TIDE_LOG_ERROR, "nobody hears it");
    tide_log(NULL, TIDE_LOG_ERROR, "nobody hears it");
}

static void a_line_has_at_most_4_KiB(void **state) {
    (void)state;
    static char longest[20000];
    lines kept = {.count = 0};
    tide_log_sink sink = {keep_line, &kept};
    memset(longest, '\x01', sizeof longest - 1);
    tide_log(&sink, TIDE_LOG_INFO, "%s", longest);
    assert_int_equal(kept.count, 1);
    assert_true(kept.len <= 4096 && kept.len > 4000);
    assert_string_equal(kept.text + kept.len - 3, "\xe2\x80\xa6");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_status_and_message),
        cmocka_unit_test(the_old_message_may_be_part_of_the_new_one),
        cmocka_unit_test(a_message_is_one_line_cut_at_a_character),
        cmocka_unit_test(logs_one_escaped_line),
        cmocka_unit_test(a_line_has_at_most_4_KiB),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
