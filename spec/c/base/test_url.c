/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/prng.h"
#include "base/text.h"
#include "base/url.h"
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

/* NULL: absent. */
static void assert_str(tide_str str, const char *expected) {
    if (expected == NULL) {
        assert_null(str.data);
        return;
    }
    assert_non_null(str.data);
    assert_string_equal(str.data, expected);
    assert_int_equal(str.len, strlen(expected));
}

static void takes_servers_apart(void **state) {
    (void)state;
    static const struct {
        const char *text;
        tide_scheme scheme;
        const char *host;
        uint16_t port;
        const char *user;
        const char *password;
        uint32_t db;
    } rows[] = {
        {"redis://h", TIDE_SCHEME_REDIS, "h", 6379, NULL, NULL, 0},
        {"redis://h/", TIDE_SCHEME_REDIS, "h", 6379, NULL, NULL, 0},
        {"REDIS://Host.Example:1", TIDE_SCHEME_REDIS, "Host.Example", 1, NULL, NULL, 0},
        {"valkey://127.0.0.1:65535/15", TIDE_SCHEME_REDIS, "127.0.0.1", 65535, NULL, NULL, 15},
        {"rediss://h:06380?", TIDE_SCHEME_REDIS_TLS, "h", 6380, NULL, NULL, 0},
        {"valkeys://h?db=7", TIDE_SCHEME_REDIS_TLS, "h", 6379, NULL, NULL, 7},
        {"redis://[::1]", TIDE_SCHEME_REDIS, "::1", 6379, NULL, NULL, 0},
        {"redis://[fe80::1%25eth0]:7/3", TIDE_SCHEME_REDIS, "fe80::1%eth0", 7, NULL, NULL, 3},
        {"redis://:pw@h", TIDE_SCHEME_REDIS, "h", 6379, NULL, "pw", 0},
        {"redis://u:@h", TIDE_SCHEME_REDIS, "h", 6379, "u", "", 0},
        {"redis://u@h", TIDE_SCHEME_REDIS, "h", 6379, "u", NULL, 0},
        {"redis://u:a:b@h", TIDE_SCHEME_REDIS, "h", 6379, "u", "a:b", 0},
        {"redis://us%3Aer:p%40s%2Fs%3f%23%25@h", TIDE_SCHEME_REDIS, "h", 6379, "us:er", "p@s/s?#%",
         0},
        {"redis://u:\xed\x95\x9c+1@h", TIDE_SCHEME_REDIS, "h", 6379, "u", "\xed\x95\x9c+1", 0},
        {"redis://h?user=u&password=p%40", TIDE_SCHEME_REDIS, "h", 6379, "u", "p@", 0},
        /* The server's own SELECT says what it has; 99 may be one of them. */
        {"redis://h/99", TIDE_SCHEME_REDIS, "h", 6379, NULL, NULL, 99},
        {"redis://h/2147483647", TIDE_SCHEME_REDIS, "h", 6379, NULL, NULL, 2147483647},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tide_url url;
        tide_error error;
        assert_int_equal(tide_url_parse(&url, &alloc, tide_str_from(rows[i].text), &error),
                         TIDE_OK);
        assert_int_equal(url.scheme, rows[i].scheme);
        assert_str(url.host, rows[i].host);
        assert_int_equal(url.port, rows[i].port);
        assert_str(url.user, rows[i].user);
        assert_str(url.password, rows[i].password);
        assert_int_equal(url.db, rows[i].db);
        tide_url_deinit(&url);
        tide_url_deinit(&url);
    }
}

static void takes_paths_apart(void **state) {
    (void)state;
    static const struct {
        const char *text;
        tide_scheme scheme;
        const char *path;
        const char *user;
        const char *password;
        uint32_t db;
    } rows[] = {
        {"memory:", TIDE_SCHEME_MEMORY, "", NULL, NULL, 0},
        {"memory://", TIDE_SCHEME_MEMORY, "", NULL, NULL, 0},
        {"memory:?max_len=5", TIDE_SCHEME_MEMORY, "", NULL, NULL, 0},
        {"file:orders.db", TIDE_SCHEME_FILE, "orders.db", NULL, NULL, 0},
        {"file:./a/b@c.db", TIDE_SCHEME_FILE, "./a/b@c.db", NULL, NULL, 0},
        {"file:/tmp/a%20b%3Fc%23.db", TIDE_SCHEME_FILE, "/tmp/a b?c#.db", NULL, NULL, 0},
        {"file:///tmp/x", TIDE_SCHEME_FILE, "/tmp/x", NULL, NULL, 0},
        {"file://localhost/tmp/x", TIDE_SCHEME_FILE, "/tmp/x", NULL, NULL, 0},
        {"file:C:x", TIDE_SCHEME_FILE, "C:x", NULL, NULL, 0},
        {"unix:/run/valkey.sock?db=3", TIDE_SCHEME_UNIX, "/run/valkey.sock", NULL, NULL, 3},
        {"unix:valkey.sock", TIDE_SCHEME_UNIX, "valkey.sock", NULL, NULL, 0},
        {"unix:///run/s", TIDE_SCHEME_UNIX, "/run/s", NULL, NULL, 0},
        {"redis+unix://u:p%2F@/run/s", TIDE_SCHEME_UNIX, "/run/s", "u", "p/", 0},
        {"valkey+unix:/run/s", TIDE_SCHEME_UNIX, "/run/s", NULL, NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tide_url url;
        assert_int_equal(tide_url_parse(&url, &alloc, tide_str_from(rows[i].text), NULL), TIDE_OK);
        assert_int_equal(url.scheme, rows[i].scheme);
        assert_str(url.path, rows[i].path);
        assert_str(url.host, NULL);
        assert_str(url.user, rows[i].user);
        assert_str(url.password, rows[i].password);
        assert_int_equal(url.db, rows[i].db);
        tide_url_deinit(&url);
    }
}

static void keeps_options_in_order_and_decoded(void **state) {
    (void)state;
    tide_url url;
    tide_str text = TIDE_STR("redis://h?&a=1&b%3D=x%26=y&&c=");
    assert_int_equal(tide_url_parse(&url, &alloc, text, NULL), TIDE_OK);
    assert_int_equal(url.option_count, 3);
    assert_str(url.options[0].name, "a");
    assert_str(url.options[0].value, "1");
    assert_str(url.options[1].name, "b=");
    assert_str(url.options[1].value, "x&=y");
    assert_str(url.options[2].name, "c");
    assert_str(url.options[2].value, "");
    tide_url_deinit(&url);
}

static void refuses_with_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text;
        tide_status status;
        const char *message; /* all of it, or its beginning when it ends in "…" */
    } rows[] = {
        {"", TIDE_URL, "the URL is empty (write memory: or redis://HOST)"},
        {"localhost", TIDE_URL, "no scheme (…"},
        {":", TIDE_URL, "no scheme (…"},
        {"/run/x.db", TIDE_URL, "no scheme (…"},
        {"localhost:6379", TIDE_URL, "unknown scheme (known: memory:…"},
        {"rediz://h", TIDE_URL, "unknown scheme rediz: (did you mean redis:?) in rediz://h"},
        {"http://h", TIDE_URL, "unknown scheme (known…"},
        {"nats://h", TIDE_UNSUPPORTED, "scheme nats: is not supported yet in nats://h"},
        {"redis-sentinel://h/0", TIDE_UNSUPPORTED, "scheme redis-sentinel: is not supported yet …"},
        {"redis-cluster://h/1", TIDE_UNSUPPORTED, "scheme redis-cluster: is not supported yet …"},
        {"redis:h", TIDE_URL, "no // after the scheme in redis:h"},
        {"redis:", TIDE_URL, "no // after the scheme in redis:"},
        {"redis://", TIDE_URL, "no host (…"},
        {"redis:///1", TIDE_URL, "no host (…"},
        {"redis://:6379", TIDE_URL, "no host (…"},
        {"redis://u:p@", TIDE_URL, "no host (write localhost if you mean it) in redis://u:***@"},
        {"redis://h:", TIDE_URL, "no port after the : in redis://h:"},
        {"redis://h:0", TIDE_URL, "port 0 is out of range (1 to 65535) in redis://h:0"},
        {"redis://h:65536", TIDE_URL, "port 65536 is out of range (1 to 65535) in redis://h:65536"},
        {"redis://h:99999999999999999999", TIDE_URL, "port 99999999999999999999 is out of range …"},
        {"redis://h:-1", TIDE_URL, "a port that is not a number in redis://h:***"},
        {"redis://h:63x", TIDE_URL, "a port that is not a number in redis://h:***"},
        {"redis://::1", TIDE_URL,
         "more than one : in host and port (an IPv6 address needs brackets…"},
        {"redis://fe80::1:6379/0", TIDE_URL, "more than one : in host and port (an IPv6…"},
        {"redis://[::1", TIDE_URL, "a [ without its ] in redis://[::1"},
        {"redis://[::1]x", TIDE_URL, "something other than :PORT after the ] in redis://[::1]x"},
        {"redis://[h]", TIDE_URL,
         "brackets around something that is no IPv6 address in redis://[h]"},
        {"redis://a b", TIDE_URL, "a host with a byte that no host name has (0x20) in redis://a b"},
        {"redis://h\xc3\xa9", TIDE_URL, "a host with a byte that no host name has (0xc3)…"},
        {"redis://h/x", TIDE_URL, "database x is not a number in redis://h/x"},
        {"redis://h/-1", TIDE_URL, "database -1 is not a number in redis://h/-1"},
        {"redis://h/1/2", TIDE_URL, "database 1/2 is not a number in redis://h/1/2"},
        {"redis://h/2147483648", TIDE_URL,
         "database 2147483648 is out of range (0 to 2147483647)…"},
        {"redis://h?db=x", TIDE_OPTION, "database x is not a number in redis://h?db=x"},
        {"redis://h/1?db=1", TIDE_OPTION, "the database both as /1 and as an option…"},
        {"redis://u:p@h?user=v", TIDE_OPTION,
         "user or password both before the @ and as an option…"},
        {"redis://h?a=1&a=2", TIDE_OPTION, "option a is given twice …"},
        {"redis://h?a", TIDE_OPTION,
         "an option without a value (write NAME=VALUE) in redis://h?***"},
        {"redis://h?=a", TIDE_OPTION, "an option without a name…"},
        {"redis://h#x", TIDE_URL, "a # (write %23) in redis://h#x"},
        {"redis://user:p@ss@h", TIDE_URL, "an unescaped @, /, ? or # in user or password, …"},
        {"redis://user:p/ss@h", TIDE_URL, "an unescaped @, /, ? or # in user or password, …"},
        {"redis://user:p?ss@h", TIDE_URL, "an unescaped @, /, ? or # in user or password, …"},
        {"redis://user:p%@h", TIDE_URL,
         "a % without two hex digits in the password in redis://user:***@h"},
        {"redis://us%zr:p@h", TIDE_URL,
         "a % without two hex digits in the user in redis://us%zr:***@h"},
        {"redis://u:a%00b@h", TIDE_URL, "a NUL (%00) in the password in redis://u:***@h"},
        {"redis://h?a=%2", TIDE_URL, "a % without two hex digits in the value of an option …"},
        {"redis://h?%=1", TIDE_URL, "a % without two hex digits in the name of an option …"},
        {"redis://h\n", TIDE_URL, "a control byte (0x0a) at place 10 in redis://h\\x0a"},
        {"memory:x", TIDE_URL, "memory: takes no name in memory:x"},
        {"file:", TIDE_URL, "no path in file:"},
        {"file:?synchronous=off", TIDE_URL, "no path in file:?synchronous=off"},
        {"file://", TIDE_URL, "no path in file://"},
        {"file://orders.db", TIDE_URL,
         "file:// is followed by a host, not by a path (write file:PATH …"},
        {"file::memory:", TIDE_URL, "a path that begins with : (write memory: …"},
        {"file:%3amemory:", TIDE_URL, "a path that begins with : (write memory: …"},
        {"unix:", TIDE_URL, "no path in unix:"},
        {"unix://u:p@", TIDE_URL, "no path in unix://u:***@"},
        {"unix://run/s", TIDE_URL,
         "unix:// is followed by a host, not by a path (write unix:PATH …"},
        {"unix:/run/a@b", TIDE_URL, "an unescaped @, …"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tide_url url;
        tide_error error;
        tide_status status = tide_url_parse(&url, &alloc, tide_str_from(rows[i].text), &error);
        size_t len = strlen(rows[i].message);
        bool open_end = len > 3 && strcmp(rows[i].message + len - 3, "\xe2\x80\xa6") == 0;
        bool as_expected = open_end ? strncmp(error.message, rows[i].message, len - 3) == 0
                                    : strcmp(error.message, rows[i].message) == 0;
        if (status != rows[i].status || !as_expected) {
            fail_msg("%s: %s: %s", rows[i].text, tide_status_code(status), error.message);
        }
        assert_int_equal(error.status, status);
        assert_null(url.memory);
        assert_int_equal(tide_url_parse(&url, &alloc, tide_str_from(rows[i].text), NULL), status);
    }
}

static void refuses_nul_too_many_bytes_and_too_many_options(void **state) {
    (void)state;
    tide_url url;
    tide_error error;
    tide_str nul = TIDE_STR("file:a\0b");
    assert_int_equal(tide_url_parse(&url, &alloc, nul, &error), TIDE_URL);
    assert_string_equal(error.message, "a control byte (0x00) at place 7 in file:a\\x00b");
    char text[TIDE_URL_MAX + 2];
    memset(text, 'a', sizeof text);
    memcpy(text, "file:", 5);
    assert_int_equal(tide_url_parse(&url, &alloc, (tide_str){text, TIDE_URL_MAX + 1}, &error),
                     TIDE_URL);
    assert_non_null(strstr(error.message, "more than 4096 bytes"));
    assert_int_equal(tide_url_parse(&url, &alloc, (tide_str){text, TIDE_URL_MAX}, &error), TIDE_OK);
    assert_int_equal(url.path.len, TIDE_URL_MAX - 5);
    tide_url_deinit(&url);
    for (int count = TIDE_FIELDS_MAX; count <= TIDE_FIELDS_MAX + 1; count++) {
        size_t len = (size_t)snprintf(text, sizeof text, "redis://h?");
        for (int i = 0; i < count; i++) {
            len += (size_t)snprintf(text + len, sizeof text - len, "o%d=1&", i);
        }
        tide_status status = tide_url_parse(&url, &alloc, (tide_str){text, len}, &error);
        assert_int_equal(status, count > TIDE_FIELDS_MAX ? TIDE_OPTION : TIDE_OK);
        tide_url_deinit(&url);
    }
}

static const char canary[] = "cAnArY";

static void shows_no_secret(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *shown;
    } rows[] = {
        {"redis://user:cAnArY@h:1/2?timeout=5s", "redis://user:***@h:1/2?timeout=5s"},
        {"redis://:cAnArY@h", "redis://:***@h"},
        {"redis://user:@h", "redis://user:@h"},
        {"redis://cAnArY@h", "redis://***@h"},
        {"redis://user:p@cAnArY@h", "redis://user:***@h"},
        {"redis://user:p/cAnArY@h", "redis://user:***@h"},
        {"redis://user:p?cAnArY@h", "redis://user:***"},
        {"redis://user:p#cAnArY@h", "redis://user:***@h"},
        {"redis://user:cAnArY%40h", "redis://user:***"},
        {"redis://user:cAnArY", "redis://user:***"},
        {"redis://user:cAnArY:6379/0", "redis://user:***/0"},
        {"redis:/user:cAnArY@h", "redis:***@h"},
        {"redis:user:cAnArY@h", "redis:***@h"},
        {"user:cAnArY@h", "user:***@h"},
        {"cAnArY@h", "***@h"},
        {"rediz://user:cAnArY@h", "rediz://user:***@h"},
        {"http://user:cAnArY@h", "http://user:***@h"},
        {"unix://user:cAnArY@/run/s", "unix://user:***@/run/s"},
        {"redis://h?password=cAnArY", "redis://h?password=***"},
        {"redis://h?user=u&pasword=cAnArY&db=1", "redis://h?user=u&pasword=***&db=1"},
        {"redis://h?p%61ssword=cAnArY", "redis://h?p%61ssword=***"},
        {"redis://h?passwordcAnArY&db=1", "redis://h?***&db=1"},
        {"redis://h:6379/0?password=a@cAnArY", "redis://h:***"},
        {"file:x?token=cAnArY", "file:x?token=***"},
        {"file:a:b@c.db", "file:a:b@c.db"},
        {"redis://[::1]:6379", "redis://[::1]:6379"},
        {"redis://fe80::1", "redis://fe80::1"},
        {"redis://h:6379/?", "redis://h:6379/?"},
        {"memory:", "memory:"},
        {"", ""},
        {"\x1b[31m", "\\x1b[31m"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char shown[200];
        tide_str text = tide_str_from(rows[i].text);
        size_t len = tide_url_redact(shown, sizeof shown, text);
        assert_string_equal(shown, rows[i].shown);
        assert_int_equal(len, strlen(shown));
        tide_url url;
        tide_error error;
        tide_url_options options;
        if (tide_url_parse(&url, &alloc, text, &error) == TIDE_OK) {
            (void)tide_url_options_parse(&options, &url, &error);
            tide_url_deinit(&url);
        }
        if (i > 0) {
            assert_null(strstr(error.message, canary));
        } else {
            assert_int_equal(options.timeout_us, 5000000);
        }
    }
}

static void shows_within_the_room_it_has(void **state) {
    (void)state;
    tide_str text = TIDE_STR("redis://user:cAnArY@host.example:6379/1");
    for (size_t size = 0; size < 60; size++) {
        char *shown = malloc(size + 1);
        assert_non_null(shown);
        shown[size] = '#';
        size_t len = tide_url_redact(shown, size, text);
        assert_true(size == 0 ? len == 0 : len == strlen(shown) && len < size);
        assert_int_equal(shown[size], '#');
        free(shown);
    }
    /* The `@` is beyond the longest URL: its password is not. */
    static char longest[20000];
    static char shown[30000];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "redis://user:cAnArY", 19);
    longest[sizeof longest - 2] = '@';
    tide_url_redact(shown, sizeof shown, (tide_str){longest, sizeof longest});
    assert_string_equal(shown, "redis://user:***@x");
    memset(longest, '\x01', sizeof longest);
    assert_true(tide_url_redact(shown, sizeof shown, (tide_str){longest, sizeof longest}) > 4096);
}

static void assert_hidden(const char *bytes, size_t len) {
    char *text = malloc(len > 0 ? len : 1);
    assert_non_null(text);
    memcpy(text, bytes, len);
    char shown[200];
    tide_url url;
    tide_error error = {.message = ""};
    tide_url_redact(shown, sizeof shown, (tide_str){text, len});
    if (tide_url_parse(&url, &alloc, (tide_str){text, len}, &error) == TIDE_OK) {
        tide_url_deinit(&url);
    }
    bool hidden = strstr(shown, canary) == NULL && strstr(error.message, canary) == NULL;
    free(text);
    if (!hidden) {
        fail_msg("%.*s is shown as %s, error %s", (int)len, bytes, shown, error.message);
    }
}

/* Cut at every byte, and every byte changed to each that means something in a URL, or taken out. */
static void no_slip_of_one_byte_shows_the_password(void **state) {
    (void)state;
    static const char whole[] = "redis://user:cAnArY@host.example:6379/1?timeout=5s&name=x";
    static const char changes[] = ":/?#@%[]&=\\ .x0\n\xff";
    enum { LEN = sizeof whole - 1 };
    size_t canary_at = (size_t)(strstr(whole, canary) - whole);
    for (size_t at = 0; at <= LEN; at++) {
        char text[LEN + 1];
        assert_hidden(whole, at);
        if (at == LEN || (at >= canary_at && at < canary_at + sizeof canary - 1)) {
            continue;
        }
        for (size_t c = 0; c < sizeof changes; c++) {
            memcpy(text, whole, LEN);
            text[at] = changes[c];
            assert_hidden(text, LEN);
        }
        memcpy(text, whole, at);
        memcpy(text + at, whole + at + 1, LEN - at - 1);
        assert_hidden(text, LEN - 1);
    }
}

static void random_changes_do_no_harm(void **state) {
    (void)state;
    static const char *const seeds[] = {
        "redis://user:p%40ss@[fe80::1%25eth0]:6380/3?timeout=2.5s&name=x",
        "unix://u:p@/tmp/s?db=3&keepalive=0", "file:///var/lib/a%20b.db?synchronous=normal",
        "memory:?max_len=1000&max_age=7d"};
    static const char alphabet[] = ":/?#@%[]&=2fs.0-\0\x80";
    tide_prng prng;
    tide_prng_seed(&prng, 2026);
    for (int i = 0; i < 20000; i++) {
        const char *seed = seeds[tide_prng_below(&prng, 4)];
        size_t len = strlen(seed);
        char *text = malloc(len);
        assert_non_null(text);
        memcpy(text, seed, len);
        for (uint64_t k = tide_prng_below(&prng, 4); k > 0; k--) {
            text[tide_prng_below(&prng, len)] =
                alphabet[tide_prng_below(&prng, sizeof alphabet - 1)];
        }
        tide_url url;
        tide_error error;
        tide_url_options options;
        char shown[200];
        tide_url_redact(shown, sizeof shown, (tide_str){text, len});
        assert_true(tide_utf8_is_valid(tide_str_from(shown)));
        if (tide_url_parse(&url, &alloc, (tide_str){text, len}, &error) == TIDE_OK) {
            (void)tide_url_options_parse(&options, &url, &error);
            tide_url_deinit(&url);
        }
        free(text);
    }
}

static void options_from_elsewhere_replace_those_of_the_url(void **state) {
    (void)state;
    tide_url url;
    tide_error error;
    tide_str text = TIDE_STR("redis://u:p@h/3?timeout=5s&name=a");
    assert_int_equal(tide_url_parse(&url, &alloc, text, &error), TIDE_OK);
    assert_int_equal(tide_url_merge(&url, NULL, 0, &error), TIDE_OK);
    const tide_field options[] = {{TIDE_STR("timeout"), TIDE_STR("7s")},
                                  {TIDE_STR("password"), TIDE_STR("q%40")},
                                  {TIDE_STR("db"), TIDE_STR("4")},
                                  {TIDE_STR("keepalive"), {NULL, 0}}};
    assert_int_equal(tide_url_merge(&url, options, 4, &error), TIDE_OK);
    assert_str(url.user, "u");
    assert_str(url.password, "q%40");
    assert_int_equal(url.db, 4);
    assert_str(url.host, "h");
    assert_int_equal(url.option_count, 5);
    assert_str(url.options[0].value, "7s");
    assert_str(url.options[1].value, "a");
    assert_str(url.options[4].value, "");
    tide_url_deinit(&url);
}

static void a_bad_option_from_elsewhere_changes_nothing(void **state) {
    (void)state;
    tide_url url;
    tide_error error;
    assert_int_equal(tide_url_parse(&url, &alloc, TIDE_STR("redis://h?name=a"), &error), TIDE_OK);
    void *before = url.memory;
    static char big[TIDE_URL_MAX + 1];
    const struct {
        tide_field fields[2];
        size_t count;
        const char *message;
    } rows[] = {
        {{{TIDE_STR(""), TIDE_STR("1")}}, 1, "an option without a name"},
        {{{TIDE_STR("x"), TIDE_STR("1")}, {TIDE_STR("x"), TIDE_STR("1")}},
         2,
         "option x is given twice"},
        {{{TIDE_STR("x"), TIDE_STR("1\0")}}, 1, "option x holds a NUL"},
        {{{TIDE_STR("x\0"), TIDE_STR("1")}}, 1, "option x\\x00 holds a NUL"},
        {{{TIDE_STR("x"), {big, sizeof big}}}, 1, "option x has more than 4096 bytes"},
        {{{TIDE_STR("db"), TIDE_STR("z")}}, 1, "database z is not a number in the options"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(tide_url_merge(&url, rows[i].fields, rows[i].count, &error), TIDE_OPTION);
        assert_string_equal(error.message, rows[i].message);
        assert_ptr_equal(url.memory, before);
        assert_int_equal(url.option_count, 1);
    }
    static tide_field many[TIDE_FIELDS_MAX];
    static char names[TIDE_FIELDS_MAX][8];
    for (size_t i = 0; i < TIDE_FIELDS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "o%zu", i);
        many[i] = (tide_field){tide_str_from(names[i]), TIDE_STR("1")};
    }
    assert_int_equal(tide_url_merge(&url, many, TIDE_FIELDS_MAX, &error), TIDE_OPTION);
    assert_int_equal(tide_url_merge(&url, many, TIDE_FIELDS_MAX - 1, &error), TIDE_OK);
    assert_int_equal(url.option_count, TIDE_FIELDS_MAX);
    tide_url_deinit(&url);
}

/* Looks at every block that is given back. */
static void *look_and_free(void *context, void *ptr, size_t old_size, size_t new_size) {
    for (size_t i = 0; new_size == 0 && i + sizeof canary - 1 <= old_size; i++) {
        assert_memory_not_equal((char *)ptr + i, canary, sizeof canary - 1);
    }
    return alloc.realloc(context, ptr, old_size, new_size);
}

static void a_password_is_wiped_before_its_memory_goes(void **state) {
    (void)state;
    tide_allocator looking = {look_and_free, alloc.context};
    tide_url url;
    assert_int_equal(tide_url_parse(&url, &looking, TIDE_STR("redis://u:cAnArY@h"), NULL), TIDE_OK);
    tide_field option = {TIDE_STR("name"), TIDE_STR("b")};
    assert_int_equal(tide_url_merge(&url, &option, 1, NULL), TIDE_OK);
    assert_str(url.password, canary);
    tide_url_deinit(&url);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        failing_allocator failing;
        tide_allocator with = failing_allocator_init(&failing, n, true);
        tide_url url;
        tide_error error;
        tide_status status = tide_url_parse(&url, &with, TIDE_STR("redis://u:p@h?name=a"), &error);
        if (status == TIDE_OK) {
            tide_field option = {TIDE_STR("name"), TIDE_STR("b")};
            status = tide_url_merge(&url, &option, 1, &error);
            assert_str(url.options[0].value, status == TIDE_OK ? "b" : "a");
            tide_url_deinit(&url);
        } else {
            assert_null(url.memory);
        }
        assert_int_equal(failing_allocator_live_bytes(&failing), 0);
        assert_int_equal(status, failing.failed > 0 ? TIDE_ENOMEM : TIDE_OK);
        if (failing.failed == 0) {
            assert_int_equal(n, 3);
            break;
        }
        assert_int_equal(error.status, TIDE_ENOMEM);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(takes_servers_apart),
        TEST(takes_paths_apart),
        TEST(keeps_options_in_order_and_decoded),
        TEST(refuses_with_the_place),
        TEST(refuses_nul_too_many_bytes_and_too_many_options),
        TEST(shows_no_secret),
        TEST(shows_within_the_room_it_has),
        TEST(no_slip_of_one_byte_shows_the_password),
        TEST(random_changes_do_no_harm),
        TEST(options_from_elsewhere_replace_those_of_the_url),
        TEST(a_bad_option_from_elsewhere_changes_nothing),
        TEST(a_password_is_wiped_before_its_memory_goes),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
