/* SPDX-License-Identifier: MIT */
/* spec/c/support/scratch.c: where the throwaway folder of a test program is, and that it goes away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

static void make_file(const char *path) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

/* A folder in the scratch folder whose path has this many bytes. */
static const char *folder_of_length(size_t length) {
    static char path[SCRATCH_PATH_MAX];
    snprintf(path, sizeof path, "%s", scratch_path("long"));
    size_t size = strlen(path);
    assert_true(size < length && length < sizeof path);
    memset(path + size, 'x', length - size);
    path[length] = '\0';
    assert_int_equal(mkdir(path, 0700), 0);
    return path;
}

static void is_below_what_TMPDIR_says_where_that_is_usable(void **state) {
    (void)state;
    const char *folder = scratch_folder();
    assert_string_equal(scratch_base(folder), folder);
    const char *usual = scratch_base(NULL);
    assert_true(strcmp(usual, "/dev/shm") == 0 || strcmp(usual, "/tmp") == 0);
    assert_string_equal(scratch_base(""), usual);
    assert_string_equal(scratch_base("."), usual);
    assert_string_equal(scratch_base(scratch_path("nothing-there")), usual);
    static const char *const to_be_quoted[] = {"a b", "a'b", "a%41", "a?b", "a#b", "a\303\244"};
    for (size_t i = 0; i < sizeof to_be_quoted / sizeof *to_be_quoted; i++) {
        const char *path = scratch_path(to_be_quoted[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_string_equal(scratch_base(path), usual);
    }
}

static void leaves_room_for_a_unix_socket(void **state) {
    (void)state;
    assert_true(SCRATCH_SOCKET_MAX < sizeof((struct sockaddr_un *)NULL)->sun_path);
    size_t longest = SCRATCH_SOCKET_MAX - strlen("/tidemill-XXXXXX") - 1 - SCRATCH_NAME_MAX;
    const char *path = folder_of_length(longest);
    assert_string_equal(scratch_base(path), path);
    assert_string_equal(scratch_base(folder_of_length(longest + 1)), scratch_base(NULL));
}

/* What the child leaves, its path said through the pipe. */
static void fill_and_end(int said) {
    char sub[SCRATCH_PATH_MAX];
    snprintf(sub, sizeof sub, "%s", scratch_path("sub"));
    if (mkdir(sub, 0700) != 0 || mkdir(scratch_path("sub/sub"), 0700) != 0)
        _exit(1);
    make_file(scratch_path("file"));
    make_file(scratch_path("sub/sub/.hidden"));
    if (symlink("/tmp", scratch_path("sub/link")) != 0)
        _exit(1);
    pid_t other = fork(); /* not the one that made it: its end removes nothing */
    if (other == 0)
        exit(0);
    int status;
    if (waitpid(other, &status, 0) != other || access(scratch_path("file"), F_OK) != 0)
        _exit(1);
    const char *folder = scratch_folder();
    if (write(said, folder, strlen(folder)) < 0)
        _exit(1);
    exit(0);
}

static void is_removed_with_what_is_in_it(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        fill_and_end(ends[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    char folder[SCRATCH_PATH_MAX] = "";
    assert_true(read(ends[0], folder, sizeof folder - 1) > 0);
    assert_int_equal(access(folder, F_OK), -1);
    assert_int_equal(access("/tmp", F_OK), 0);
    close(ends[0]);
    close(ends[1]);
}

static void is_one_folder_a_program(void **state) {
    (void)state;
    const char *folder = scratch_folder();
    assert_ptr_equal(scratch_folder(), folder);
    char first[SCRATCH_PATH_MAX];
    snprintf(first, sizeof first, "%s/a", folder);
    const char *a = scratch_path("a");
    for (int i = 0; i < 7; i++)
        scratch_path("b");
    assert_string_equal(a, first);
}

int main(void) {
    /* Before the first call, so that the child has a folder of its own to make. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_removed_with_what_is_in_it),
        cmocka_unit_test(is_one_folder_a_program),
        cmocka_unit_test(is_below_what_TMPDIR_says_where_that_is_usable),
        cmocka_unit_test(leaves_room_for_a_unix_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
