/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "base/text.h"

/* A copy in memory of exactly its size, so that a sanitizer sees one byte too many. */
static tide_str exact(const char *data, size_t len) {
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return (tide_str){copy, len};
}

static void strings_compare_by_bytes(void **state) {
    (void)state;
    tide_str none = {NULL, 0};
    assert_true(tide_str_equal(none, TIDE_STR("")));
    assert_true(tide_str_equal(TIDE_STR("a\0b"), TIDE_STR("a\0b")));
    assert_false(tide_str_equal(TIDE_STR("a\0b"), TIDE_STR("a\0c")));
    assert_false(tide_str_equal(TIDE_STR("a"), TIDE_STR("ab")));
    assert_true(tide_str_equal_nocase(TIDE_STR("MaxLen-9"), TIDE_STR("mAXlEN-9")));
    assert_false(tide_str_equal_nocase(TIDE_STR("a@"), TIDE_STR("a`")));
    assert_false(tide_str_equal_nocase(TIDE_STR("[["), TIDE_STR("{{")));
    assert_true(tide_str_starts(TIDE_STR("orders"), TIDE_STR("ord")));
    assert_true(tide_str_starts(none, none));
    assert_false(tide_str_starts(TIDE_STR("or"), TIDE_STR("ord")));
    assert_int_equal(tide_str_compare(none, TIDE_STR("")), 0);
    assert_true(tide_str_compare(TIDE_STR("a"), TIDE_STR("ab")) < 0);
    assert_true(tide_str_compare(TIDE_STR("b"), TIDE_STR("ab")) > 0);
    assert_true(tide_str_compare(TIDE_STR("\xff"), TIDE_STR("a")) > 0);
    assert_int_equal(tide_str_from(NULL).len, 0);
    assert_int_equal(tide_str_from("abc").len, 3);
}

/* Test vectors of the FNV authors. */
static void hashes_as_fnv1a(void **state) {
    (void)state;
    assert_true(tide_str_hash(TIDE_STR("")) == UINT64_C(0xcbf29ce484222325));
    assert_true(tide_str_hash(TIDE_STR("a")) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(tide_str_hash(TIDE_STR("foobar")) == UINT64_C(0x85944171f73967e8));
}

static void check_number(uint64_t number) {
    char expected[32];
    char text[TIDE_U64_DIGITS_MAX + 1];
    memset(text, '#', sizeof text);
    size_t expected_len = (size_t)snprintf(expected, sizeof expected, "%" PRIu64, number);
    assert_int_equal(tide_u64_format(text, number), expected_len);
    assert_memory_equal(text, expected, expected_len);
    assert_int_equal(text[expected_len], '#');
    uint64_t parsed = ~number;
    assert_true(tide_u64_parse((tide_str){text, expected_len}, &parsed));
    assert_true(parsed == number);
}

static void numbers_are_written_and_read_as_printf_does(void **state) {
    (void)state;
    for (uint64_t number = 0; number < 20000; number++) {
        check_number(number);
    }
    uint64_t power = 1;
    for (int digits = 0; digits < 20; digits++, power *= 10) {
        check_number(power - 1);
        check_number(power);
        check_number(power + 1);
    }
    check_number(UINT64_MAX);
    tide_prng prng;
    tide_prng_seed(&prng, 3);
    for (int i = 0; i < 20000; i++) {
        check_number(tide_prng_next(&prng) >> tide_prng_below(&prng, 64));
    }
}

static void refuses_what_is_no_number(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "-",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "x1",
                                      "0x1",
                                      "1.",
                                      "/",
                                      ":",
                                      "1/2",
                                      "12:4",
                                      "123456789012345678901",
                                      "18446744073709551616",
                                      "99999999999999999999",
                                      "28446744073709551615"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t number = 77;
        tide_str text = exact(bad[i], strlen(bad[i]));
        assert_false(tide_u64_parse(text, &number));
        assert_int_equal(number, 77);
        free((void *)(uintptr_t)text.data);
    }
    uint64_t number;
    assert_true(tide_u64_parse(TIDE_STR("0000000000000000000000000000042"), &number));
    assert_int_equal(number, 42);
    assert_false(tide_u64_parse(TIDE_STR("1\0"), &number));
}

static void reads_signed_numbers_to_their_ends(void **state) {
    (void)state;
    int64_t number;
    assert_true(tide_i64_parse(TIDE_STR("-9223372036854775808"), &number));
    assert_true(number == INT64_MIN);
    assert_true(tide_i64_parse(TIDE_STR("9223372036854775807"), &number));
    assert_true(number == INT64_MAX);
    assert_true(tide_i64_parse(TIDE_STR("-0"), &number));
    assert_int_equal(number, 0);
    assert_true(tide_i64_parse(TIDE_STR("-1"), &number));
    assert_int_equal(number, -1);
    static const char *const bad[] = {
        "", "-", "--1", "+1", "9223372036854775808", "-9223372036854775809"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        number = 5;
        assert_false(tide_i64_parse(tide_str_from(bad[i]), &number));
        assert_int_equal(number, 5);
    }
}

static void ids_are_read_and_written(void **state) {
    (void)state;
    char text[TIDE_ID_TEXT_MAX];
    tide_id id = {UINT64_MAX, UINT64_MAX};
    size_t len = tide_id_format(text, id);
    assert_int_equal(len, TIDE_ID_TEXT_MAX);
    assert_memory_equal(text, "18446744073709551615-18446744073709551615", len);
    tide_id back;
    assert_true(tide_id_parse((tide_str){text, len}, 0, &back));
    assert_int_equal(tide_id_compare(id, back), 0);
    assert_true(tide_id_parse(TIDE_STR("1526919030474-55"), 9, &back));
    assert_true(back.ms == UINT64_C(1526919030474) && back.seq == 55);
    assert_true(tide_id_parse(TIDE_STR("7"), 9, &back));
    assert_true(back.ms == 7 && back.seq == 9);
    static const char *const bad[] = {"",    "-",   "1-",   "-1", "1--1", "1-1-1",
                                      "a-1", "1-a", "1 -1", "$",  "1-*",  "18446744073709551616-0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        back = (tide_id){3, 4};
        tide_str exactly = exact(bad[i], strlen(bad[i]));
        assert_false(tide_id_parse(exactly, 0, &back));
        assert_true(back.ms == 3 && back.seq == 4);
        free((void *)(uintptr_t)exactly.data);
    }
    assert_true(tide_id_compare((tide_id){1, 9}, (tide_id){2, 0}) < 0);
    assert_true(tide_id_compare((tide_id){2, 1}, (tide_id){2, 0}) > 0);
    assert_true(tide_id_compare((tide_id){2, 0}, (tide_id){2, UINT64_MAX}) < 0);
}

static void finds_the_nearest_name_of_a_slip(void **state) {
    (void)state;
    static const char *const names[] = {"connect_timeout", "timeout", "name", "db", "ca",
                                        "keepalive",       NULL};
    static const struct {
        const char *word;
        const char *nearest;
    } rows[] = {
        {"timeout", "timeout"},
        {"timout", "timeout"},
        {"tiemout", "timeout"},
        {"keep_alive", "keepalive"},
        {"conect_timeout", "connect_timeout"},
        {"nmae", "name"},
        {"bd", "db"},
        {"cs", "ca"},
        {"zebra", NULL},
        {"", NULL},
        {"x", NULL},
        {"timeouttimeouttimeout", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *nearest = tide_nearest(tide_str_from(rows[i].word), names);
        if (rows[i].nearest == NULL) {
            assert_null(nearest);
        } else {
            assert_non_null(nearest);
            assert_string_equal(nearest, rows[i].nearest);
        }
    }
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    assert_null(tide_nearest((tide_str){longest, sizeof longest}, names));
    const char *const none[] = {NULL};
    assert_null(tide_nearest(TIDE_STR("x"), none));
}

static void knows_valid_utf8(void **state) {
    (void)state;
    static const char *const good[] = {"",
                                       "plain text of more than eight",
                                       "\xc2\xa0",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "abcdefgh\xe2\x82\xac"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2g",
                                      "\xe0\x9f\xbf",
                                      "\xe2\x82",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "abcdefgh\xe2\x82"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        tide_str text = exact(good[i], strlen(good[i]));
        assert_true(tide_utf8_is_valid(text));
        free((void *)(uintptr_t)text.data);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tide_str text = exact(bad[i], strlen(bad[i]));
        assert_false(tide_utf8_is_valid(text));
        free((void *)(uintptr_t)text.data);
    }
    assert_true(tide_utf8_is_valid(TIDE_STR("a\0b")));
}

static void escapes_what_deceives(void **state) {
    (void)state;
    static const struct {
        tide_str text;
        const char *shown;
    } rows[] = {
        {{"plain \xe2\x82\xac \xed\x95\x9c", 13}, "plain \xe2\x82\xac \xed\x95\x9c"},
        {{"a\0b\r\n\x1b[31m\x7f", 11}, "a\\x00b\\x0d\\x0a\\x1b[31m\\x7f"},
        {{"\xe2\x80\xae", 3}, "\\xe2\\x80\\xae"},
        {{"\xe2\x81\xa6", 3}, "\\xe2\\x81\\xa6"},
        {{"\xd8\x9c", 2}, "\\xd8\\x9c"},
        {{"\xe2\x80\xa8", 3}, "\\xe2\\x80\\xa8"},
        {{"\xc2\x9b", 2}, "\\xc2\\x9b"},
        {{"\xff\xc3", 2}, "\\xff\\xc3"},
        {{"\xed\xa0\x80", 3}, "\\xed\\xa0\\x80"},
        {{NULL, 0}, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char shown[100];
        size_t len = tide_text_escape(shown, sizeof shown, rows[i].text);
        assert_string_equal(shown, rows[i].shown);
        assert_int_equal(len, strlen(rows[i].shown));
    }
}

/* For every size: a NUL at the end, whole characters, "…" when cut, and nothing behind it. */
static void cuts_at_whole_characters(void **state) {
    (void)state;
    static const char text[] = "ab\x1b\xe2\x82\xac\xf0\x9f\x8c\x8a\xff zz";
    static const char whole[] = "ab\\x1b\xe2\x82\xac\xf0\x9f\x8c\x8a\\xff zz";
    for (size_t size = 0; size < sizeof whole + 3; size++) {
        char *shown = malloc(size + 1);
        assert_non_null(shown);
        shown[size] = '#';
        size_t len = tide_text_escape(shown, size, TIDE_STR(text));
        assert_int_equal(shown[size], '#');
        if (size > 0) {
            assert_true(len < size);
            assert_int_equal(strlen(shown), len);
            assert_true(tide_utf8_is_valid((tide_str){shown, len}));
        }
        if (size >= sizeof whole) {
            assert_string_equal(shown, whole);
        } else if (size >= 4) {
            assert_string_equal(shown + len - 3, "\xe2\x80\xa6");
            assert_memory_equal(shown, whole, len - 3);
        }
        free(shown);
    }
}

static void escaping_is_safe_for_any_bytes(void **state) {
    (void)state;
    tide_prng prng;
    tide_prng_seed(&prng, 11);
    for (int i = 0; i < 20000; i++) {
        char bytes[40];
        size_t len = (size_t)tide_prng_below(&prng, sizeof bytes);
        for (size_t k = 0; k < len; k++) {
            bytes[k] = (char)tide_prng_next(&prng);
        }
        tide_str text = exact(bytes, len);
        char shown[200];
        size_t shown_len = tide_text_escape(shown, 1 + tide_prng_below(&prng, sizeof shown), text);
        tide_str result = {shown, shown_len};
        assert_true(tide_utf8_is_valid(result));
        for (size_t k = 0; k < shown_len; k++) {
            assert_true((unsigned char)shown[k] >= 0x20 && shown[k] != 0x7f);
        }
        (void)tide_utf8_is_valid(text);
        free((void *)(uintptr_t)text.data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_compare_by_bytes),
        cmocka_unit_test(hashes_as_fnv1a),
        cmocka_unit_test(numbers_are_written_and_read_as_printf_does),
        cmocka_unit_test(refuses_what_is_no_number),
        cmocka_unit_test(reads_signed_numbers_to_their_ends),
        cmocka_unit_test(ids_are_read_and_written),
        cmocka_unit_test(finds_the_nearest_name_of_a_slip),
        cmocka_unit_test(knows_valid_utf8),
        cmocka_unit_test(escapes_what_deceives),
        cmocka_unit_test(cuts_at_whole_characters),
        cmocka_unit_test(escaping_is_safe_for_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
