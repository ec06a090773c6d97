/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "base/text.h"
#include "base/url.h"
#include "failing_allocator.h"

static tide_status parse(const char *text, tide_url_options *options, tide_error *error) {
    static failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_url url;
    tide_status status = tide_url_parse(&url, &alloc, tide_str_from(text), error);
    if (status == TIDE_OK) {
        status = tide_url_options_parse(options, &url, error);
        tide_url_deinit(&url);
    }
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
    return status;
}

static void defaults_are_what_the_header_says(void **state) {
    (void)state;
    static const char *const urls[] = {"redis://h", "rediss://h", "unix:/s", "file:x", "memory:"};
    for (size_t i = 0; i < 5; i++) {
        tide_url_options options;
        tide_error error;
        assert_int_equal(parse(urls[i], &options, &error), TIDE_OK);
        assert_int_equal(options.connect_timeout_us, 5000000);
        assert_int_equal(options.timeout_us, 5000000);
        assert_int_equal(options.keepalive_us, 15000000);
        assert_int_equal(options.busy_timeout_us, 5000000);
        assert_int_equal(options.synchronous, TIDE_SYNCHRONOUS_FULL);
        assert_int_equal(options.max_len, 0);
        assert_int_equal(options.max_age_us, 0);
        assert_int_equal(options.db, 0);
        assert_false(options.insecure);
        assert_null(options.name.data);
        assert_null(options.ca.data);
        assert_null(options.cert.data);
        assert_null(options.key.data);
        assert_null(options.server_name.data);
        assert_null(options.password_file.data);
    }
}

static void a_password_lies_in_one_place(void **state) {
    (void)state;
    static const char *const servers[] = {"redis://bob@h", "rediss://h", "unix:/s"};
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_url_options o;
    tide_error error;
    for (size_t i = 0; i < 3; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s?password_file=/run/a%%20b", servers[i]);
        tide_url url;
        assert_int_equal(tide_url_parse(&url, &alloc, tide_str_from(text), NULL), TIDE_OK);
        assert_int_equal(tide_url_options_parse(&o, &url, NULL), TIDE_OK);
        assert_string_equal(o.password_file.data, "/run/a b");
        tide_url_deinit(&url);
    }
    assert_int_equal(parse("redis://:canary@h?password_file=/x", &o, &error), TIDE_OPTION);
    assert_non_null(strstr(error.message, "password_file"));
    assert_null(strstr(error.message, "canary"));
    assert_int_equal(parse("redis://h?password=canary&password_file=/x", &o, &error), TIDE_OPTION);
    assert_int_equal(parse("redis://h?password_file=", &o, &error), TIDE_OPTION);
    assert_int_equal(parse("file:x?password_file=/x", &o, &error), TIDE_OPTION);
}

static void each_option_has_its_effect(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_url url;
    tide_url_options o;
    tide_str text =
        TIDE_STR("rediss://h/3?connect_timeout=250ms&timeout=0.5&keepalive=1m&name=mill-1"
                 "&ca=/a%20b.pem&cert=/c&key=/k&server_name=s.example&insecure=yes");
    assert_int_equal(tide_url_parse(&url, &alloc, text, NULL), TIDE_OK);
    assert_int_equal(tide_url_options_parse(&o, &url, NULL), TIDE_OK);
    assert_int_equal(o.connect_timeout_us, 250000);
    assert_int_equal(o.timeout_us, 500000);
    assert_int_equal(o.keepalive_us, 60000000);
    assert_string_equal(o.name.data, "mill-1");
    assert_string_equal(o.ca.data, "/a b.pem");
    assert_string_equal(o.cert.data, "/c");
    assert_string_equal(o.key.data, "/k");
    assert_string_equal(o.server_name.data, "s.example");
    assert_true(o.insecure);
    assert_int_equal(o.db, 3);
    tide_url_deinit(&url);

    assert_int_equal(
        parse("file:x?synchronous=Normal&busy_timeout=0&max_len=10&max_age=7d", &o, NULL), TIDE_OK);
    assert_int_equal(o.synchronous, TIDE_SYNCHRONOUS_NORMAL);
    assert_int_equal(o.busy_timeout_us, 0);
    assert_int_equal(o.max_len, 10);
    assert_true(o.max_age_us == INT64_C(7) * 86400 * 1000000);
    assert_int_equal(parse("file:x?synchronous=off", &o, NULL), TIDE_OK);
    assert_int_equal(o.synchronous, TIDE_SYNCHRONOUS_OFF);
    assert_int_equal(parse("redis://h?keepalive=0&db=2&user=a&password=b", &o, NULL), TIDE_OK);
    assert_int_equal(o.keepalive_us, 0);
    assert_int_equal(o.db, 2);
}

static void refuses_with_the_name(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"redis://h?timout=5", "unknown option timout in the URL (did you mean timeout?)"},
        {"redis://h?Timeout=5", "unknown option Timeout in the URL (did you mean timeout?)"},
        {"redis://h?zebra=5", "unknown option zebra in the URL"},
        {"file:x?synchronus=off",
         "unknown option synchronus in the URL (did you mean synchronous?)"},
        {"redis://h?timeout=0", "option timeout: 0 is out of range (1ms to 24h)"},
        {"redis://h?timeout=0.0009", "option timeout: 0.0009 is out of range (1ms to 24h)"},
        {"redis://h?timeout=25h", "option timeout: 25h is out of range (1ms to 24h)"},
        {"redis://h?connect_timeout=0s", "option connect_timeout: 0s is out of range (1ms to 24h)"},
        {"redis://h?keepalive=10ms",
         "option keepalive: 10ms is out of range (1s to 24h, or 0 for none)"},
        {"redis://h?timeout=-5",
         "option timeout: \"-5\" is not a duration (write 250ms, 5s, 2m, 1h or 0.5)"},
        {"redis://h?timeout=NaN",
         "option timeout: \"NaN\" is not a duration (write 250ms, 5s, 2m, 1h or 0.5)"},
        {"redis://h?timeout=9223372036854775808", "option timeout: \"9223372036854775808\" is not "
                                                  "a duration (write 250ms, 5s, 2m, 1h or 0.5)"},
        {"redis://h?timeout=",
         "option timeout: \"\" is not a duration (write 250ms, 5s, 2m, 1h or 0.5)"},
        {"redis://h?timeout=%1b%5b",
         "option timeout: \"\\x1b[\" is not a duration (write 250ms, 5s, 2m, 1h or 0.5)"},
        {"redis://h?name=a%20b",
         "option name: \"a b\" is not 1 to 512 printable ASCII characters without spaces"},
        {"redis://h?name=",
         "option name: \"\" is not 1 to 512 printable ASCII characters without spaces"},
        {"redis://h?ca=/x", "option ca is only for rediss:// and valkeys://"},
        {"unix:/s?insecure=1", "option insecure is only for rediss:// and valkeys://"},
        {"redis://h?synchronous=off", "option synchronous is only for file:"},
        {"memory:?synchronous=off", "option synchronous is only for file:"},
        {"redis://h?max_len=5", "option max_len is only for file: and memory:"},
        {"file:x?timeout=5",
         "option timeout is only for a server's URL (redis://, unix:, \xe2\x80\xa6)"},
        {"file:x?db=5", "option db is only for a server's URL (redis://, unix:, \xe2\x80\xa6)"},
        {"rediss://h?insecure=maybe", "option insecure: \"maybe\" is neither true nor false"},
        {"rediss://h?ca=", "option ca: the name of the file is empty"},
        {"rediss://h?cert=/c", "options cert and key belong together: key is missing"},
        {"rediss://h?key=/k", "options cert and key belong together: cert is missing"},
        {"file:x?synchronous=extra", "option synchronous: \"extra\" is not full, normal or off"},
        {"file:x?max_len=0", "option max_len: \"0\" is not a whole number from 1 to 2^63-1"},
        {"file:x?max_len=-1", "option max_len: \"-1\" is not a whole number from 1 to 2^63-1"},
        {"file:x?max_len=9223372036854775808",
         "option max_len: \"9223372036854775808\" is not a whole number from 1 to 2^63-1"},
        {"file:x?max_age=0", "option max_age: 0 is out of range (1ms to 36500d)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tide_error error;
        tide_url_options options;
        memset(&options, 0x5a, sizeof options);
        tide_url_options before = options;
        assert_int_equal(parse(rows[i].text, &options, &error), TIDE_OPTION);
        assert_string_equal(error.message, rows[i].message);
        assert_memory_equal(&options, &before, sizeof options);
        assert_int_equal(parse(rows[i].text, &options, NULL), TIDE_OPTION);
    }
}

static void durations_have_units_and_fractions(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"0", 0},
        {"5", 5000000},
        {"0.25", 250000},
        {"1.000001", 1000001},
        {"1.0000019", 1000001},
        {"0.00000000000000000000000001", 0},
        {"250ms", 250000},
        {"1.5ms", 1500},
        {"5s", 5000000},
        {"2m", 120000000},
        {"1.5h", INT64_C(5400000000)},
        {"0.5d", INT64_C(43200000000)},
        {"0.99999999d", INT64_C(86399999136)},
        {"007s", 7000000},
        {"9223372036854", INT64_C(9223372036854000000)},
        {"9223372036854.775807", INT64_MAX},
        {"9223372036854775.807ms", INT64_MAX},
    };
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      "s",
                                      ".5",
                                      "5.",
                                      "5.s",
                                      "1e3",
                                      "nan",
                                      "inf",
                                      "0x10",
                                      " 5",
                                      "5 ",
                                      "5 s",
                                      "5S",
                                      "5us",
                                      "5sec",
                                      "1,5",
                                      "1.2.3",
                                      "5ss",
                                      "9223372036854.775808",
                                      "9223372036855",
                                      "18446744073709551616",
                                      "106751992d"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t us = -1;
        assert_true(tide_duration_parse(tide_str_from(good[i].text), &us));
        assert_true(us == good[i].us);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t us = 77;
        assert_false(tide_duration_parse(tide_str_from(bad[i]), &us));
        assert_int_equal(us, 77);
    }
    int64_t us;
    assert_false(tide_duration_parse((tide_str){NULL, 0}, &us));
    assert_false(tide_duration_parse(TIDE_STR("5\0"), &us));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_what_the_header_says),
        cmocka_unit_test(a_password_lies_in_one_place),
        cmocka_unit_test(each_option_has_its_effect),
        cmocka_unit_test(refuses_with_the_name),
        cmocka_unit_test(durations_have_units_and_fractions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
