/* SPDX-License-Identifier: MIT */
/* A password in a file: what of it is the password, and what is said when there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "runtime/secret.h"
#include "scratch.h"

static char path[SCRATCH_PATH_MAX];

static int name_the_file(void **state) {
    (void)state;
    snprintf(path, sizeof path, "%s", scratch_path("password"));
    return 0;
}

static void write_file(const char *text, size_t size) {
    unlink(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void one_line_end_is_no_part_of_it(void **state) {
    (void)state;
    static const struct {
        const char *text, *secret;
    } rows[] = {{"canary", "canary"},       {"canary\n", "canary"},     {"canary\r\n", "canary"},
                {"canary\n\n", "canary\n"}, {" canary \n", " canary "}, {"can\nary", "can\nary"},
                {"canary\r", "canary\r"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_file(rows[i].text, strlen(rows[i].text));
        char secret[TIDE_SECRET_MAX + 2];
        size_t size;
        tide_error error;
        assert_int_equal(tide_secret_read(tide_str_from(path), secret, &size, &error), TIDE_OK);
        assert_int_equal(size, strlen(rows[i].secret));
        assert_memory_equal(secret, rows[i].secret, size);
    }
}

static void what_is_no_password_gets_one_line_that_shows_none(void **state) {
    (void)state;
    static char large[TIDE_SECRET_MAX + 100];
    memset(large, 'c', sizeof large);
    char secret[TIDE_SECRET_MAX + 2];
    size_t size = 77;
    static const char *const said[] = {
        "No such file",         "it is empty",    "it is empty", "more than 4096 bytes",
        "more than 4096 bytes", "Is a directory", "it is empty"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        const char *at = path;
        unlink(path);
        if (i == 1)
            write_file("", 0);
        if (i == 2)
            write_file("\n", 1);
        if (i == 3)
            write_file(large, TIDE_SECRET_MAX + 1);
        if (i == 4)
            write_file(large, sizeof large);
        if (i == 5)
            at = scratch_folder();
        if (i == 6)
            assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: must not wait */
        tide_error error;
        assert_int_equal(tide_secret_read(tide_str_from(at), secret, &size, &error), TIDE_NOAUTH);
        assert_non_null(strstr(error.message, said[i]));
        assert_non_null(strstr(error.message, at));
        assert_null(strstr(error.message, "ccc"));
        assert_int_equal(size, 77);
    }
    write_file(large, TIDE_SECRET_MAX);
    assert_int_equal(tide_secret_read(tide_str_from(path), secret, &size, NULL), TIDE_OK);
    assert_int_equal(size, TIDE_SECRET_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_end_is_no_part_of_it),
        cmocka_unit_test(what_is_no_password_gets_one_line_that_shows_none),
    };
    return cmocka_run_group_tests(tests, name_the_file, NULL);
}
