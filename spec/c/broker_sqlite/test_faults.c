/* SPDX-License-Identifier: MIT */
/*
 * What it is: F36: what the embedded engine does when the file, the disk or somebody else gets in its way.
 * What it is not: losses of power (test_power.c), the N-th call failing (test_every_call.c).
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "base/prng.h"
#include "broker/sqlite/internal.h"
#include "faulty_vfs.h"
#include "scratch.h"

static rig r;
static char path[512];

static int fresh_path(void **state) {
    (void)state;
    static int turn;
    char name[32];
    snprintf(name, sizeof name, "faults-%d.db", ++turn);
    snprintf(path, sizeof path, "%s", scratch_path(name));
    r.broker = NULL;
    return 0;
}

static int close_it(void **state) {
    (void)state;
    rig_close(&r);
    rig_remove(path);
    return 0;
}

static tide_status publish(rig *one) {
    return rig_publish(one, "s", "e", "payload");
}

static int64_t length(rig *one) {
    tide_str args[] = {TIDE_STR("XLEN"), TIDE_STR("s")};
    tide_op op = {.kind = TIDE_OP_COMMAND};
    op.as.command.args = args;
    op.as.command.arg_count = 2;
    if (rig_do(one, op) != TIDE_OK)
        return -1;
    return one->last.as.command.reply->as.integer;
}

static char *read_all(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void write_all(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static bool exists(const char *suffix) {
    char name[600];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return access(name, F_OK) == 0;
}

/* ---- whose file ---- */

static void files_are_made_for_their_owner_only(void **state) {
    (void)state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    mode_t before = umask(0);
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    umask(before);
    for (size_t i = 0; i < 3; i++) {
        char name[600];
        struct stat about;
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        assert_int_equal(stat(name, &about), 0);
        assert_int_equal(about.st_mode & 0777, 0600);
    }
}

static void what_was_written_is_there_again(void **state) {
    (void)state;
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    assert_int_equal(rig_ensure(&r, "s", "g", "0"), TIDE_OK);
    assert_int_equal(rig_fetch(&r, "s", "g", "c", 1), TIDE_OK);
    tide_batch_release(r.last.as.fetch.batch);
    rig_close(&r);
    assert_false(exists("-wal"));
    rig_open(&r, path);
    assert_int_equal(length(&r), 1);
    tide_op history = rig_fetch_op("s", "g", "c", 10);
    history.as.fetch.history = true;
    assert_int_equal(rig_do(&r, history), TIDE_OK);
    assert_int_equal(tide_batch_entry(r.last.as.fetch.batch, 0)->attempt, 2);
    tide_batch_release(r.last.as.fetch.batch);
}

/* Opens what is at `path`: FOREIGN with one line, and not a byte is changed nor a file made. */
static void assert_refused(const char *word) {
    size_t size_before, size_after;
    char *before = read_all(path, &size_before);
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_FOREIGN);
    assert_non_null(strstr(r.last.error.message, word));
    assert_null(strchr(r.last.error.message, '\n'));
    assert_int_equal(length(&r), -1);
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_FOREIGN);
    rig_close(&r);
    char *after = read_all(path, &size_after);
    assert_int_equal(size_before, size_after);
    assert_memory_equal(before, after, size_before);
    assert_false(exists("-wal") || exists("-shm") || exists("-journal"));
    free(before);
    free(after);
}

static void make_database(const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void a_file_of_another_program_is_refused_untouched(void **state) {
    (void)state;
    write_all(path, "%PDF-1.7 this is something else entirely", 40);
    assert_refused("another program");
    char text[5000];
    memset(text, 'x', sizeof text);
    write_all(path, text, sizeof text);
    assert_refused("another program");
    remove(path);
    make_database("CREATE TABLE notes(text); INSERT INTO notes VALUES('mine')");
    assert_refused("another program");
    remove(path);
    make_database("PRAGMA journal_mode = WAL; CREATE TABLE notes(text)");
    assert_refused("another program");
}

static void a_file_of_a_newer_version_is_refused_untouched(void **state) {
    (void)state;
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    rig_close(&r);
    make_database("PRAGMA user_version = 2");
    assert_refused("newer tidemill");
}

static void odd_paths_are_plain_names(void **state) {
    (void)state;
    char old[512];
    assert_non_null(getcwd(old, sizeof old));
    *strrchr(path, '/') = '\0';
    assert_int_equal(chdir(path), 0);
    static const char *const names[] = {":memory:", "file:x?mode=memory", "a b%20c"};
    for (size_t i = 0; i < 3; i++) {
        rig_open(&r, names[i]);
        assert_int_equal(publish(&r), TIDE_OK);
        rig_close(&r);
        assert_int_equal(access(names[i], F_OK), 0);
        rig_remove(names[i]);
    }
    assert_int_equal(chdir(old), 0);
}

static void a_path_that_leads_nowhere_is_said_plainly(void **state) {
    (void)state;
    rig_open(&r, "/nonexistent-folder/x.db");
    assert_int_equal(publish(&r), TIDE_IO);
    assert_non_null(strstr(r.last.error.message, "folder"));
    rig_close(&r);
    *strrchr(path, '/') = '\0';
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_IO);
    assert_non_null(strstr(r.last.error.message, "is a folder"));
}

/* ---- several of one file ---- */

static void two_brokers_share_a_group(void **state) {
    (void)state;
    rig other;
    rig_open(&r, path);
    assert_int_equal(rig_ensure(&r, "s", "g", "0"), TIDE_OK);
    rig_open(&other, path);
    for (int i = 0; i < 6; i++)
        assert_int_equal(publish(i % 2 == 0 ? &r : &other), TIDE_OK);
    assert_int_equal(length(&r), 6);
    assert_int_equal(rig_fetch(&r, "s", "g", "a", 3), TIDE_OK);
    assert_int_equal(rig_count(r.last.as.fetch.batch), 3);
    tide_batch_release(r.last.as.fetch.batch);
    assert_int_equal(rig_fetch(&other, "s", "g", "b", 100), TIDE_OK);
    assert_int_equal(rig_count(other.last.as.fetch.batch), 3);
    tide_batch_release(other.last.as.fetch.batch);
    rig_close(&other);
    assert_int_equal(publish(&r), TIDE_OK);
}

static void a_waiting_consumer_notices_another_process(void **state) {
    (void)state;
    rig other;
    rig_open(&r, path);
    rig_open(&other, path);
    assert_int_equal(rig_ensure(&r, "s", "g", "0"), TIDE_OK);
    tide_op fetch = rig_fetch_op("s", "g", "c", 10);
    fetch.as.fetch.block_ms = 10000;
    rig_submit(&r, fetch);
    assert_false(rig_next(&r));
    int64_t due_us = r.broker->vtable->deadline_us(r.broker);
    assert_true(due_us > r.now_us && due_us <= r.now_us + 16000);
    r.now_us = due_us;
    assert_false(rig_next(&r)); /* it looked, and nothing was there */
    assert_int_equal(publish(&other), TIDE_OK);
    r.now_us = r.broker->vtable->deadline_us(r.broker);
    assert_true(rig_next(&r));
    assert_int_equal(rig_count(r.last.as.fetch.batch), 1);
    tide_batch_release(r.last.as.fetch.batch);
    assert_int_equal(r.broker->vtable->deadline_us(r.broker), INT64_MAX);
    rig_close(&other);
}

static void a_watch_tells_of_the_commits_of_others_only(void **state) {
    (void)state;
    rig other, memory;
    rig_open(&memory, NULL);
    assert_null(memory.broker->vtable->watch);
    assert_null(memory.broker->vtable->unwatch);
    rig_close(&memory);
    rig_open(&r, path);
    rig_open(&other, path);
    assert_int_equal(rig_ensure(&r, "s", "g", "0"), TIDE_OK);
    const uint64_t *watch = r.broker->vtable->watch(r.broker, str("s"), r.now_us);
    uint64_t before = *watch;
    tide_op fetch = rig_fetch_op("s", "g", "c", 10);
    fetch.as.fetch.block_ms = 10000;
    rig_submit(&r, fetch);
    assert_false(rig_next(&r));
    for (int i = 0; i < 5; i++) { /* looks in vain */
        r.now_us = r.broker->vtable->deadline_us(r.broker);
        assert_false(rig_next(&r));
    }
    tide_op kv = {.kind = TIDE_OP_KV, .as.kv = {.verb = TIDE_KV_SET, .key = TIDE_STR("k")}};
    rig_submit(&r, kv);
    assert_true(rig_next(&r));
    assert_int_equal(*watch, before);
    tide_record record = {&(tide_field){TIDE_STR("a"), TIDE_STR("b")}, 1, TIDE_STR("later")};
    tide_op delayed = rig_publish_op("s", &record, 1);
    delayed.as.publish.delay_ms = 100;
    assert_int_equal(rig_do(&other, delayed), TIDE_OK);
    r.now_us = r.broker->vtable->deadline_us(r.broker);
    assert_false(rig_next(&r)); /* the fetch waits on */
    assert_int_not_equal(*watch, before);
    before = *watch;
    assert_int_equal(publish(&other), TIDE_OK); /* seen by a job, before the next look */
    rig_submit(&r, kv);
    while (rig_next(&r)) {
        if (r.last.kind == TIDE_OP_FETCH)
            tide_batch_release(r.last.as.fetch.batch);
    }
    assert_int_not_equal(*watch, before);
    r.broker->vtable->unwatch(r.broker, watch, r.now_us);
    rig_close(&other);
}

static void BUSY_is_retryable_and_writes_nothing(void **state) {
    (void)state;
    rig_options options = {.path = path, .busy_ms = 20};
    assert_int_equal(rig_create(&r, &options), TIDE_OK);
    assert_int_equal(publish(&r), TIDE_OK);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(publish(&r), TIDE_BUSY);
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_BUSY);
    assert_int_equal(tide_status_class_of(r.last.status), TIDE_CLASS_RETRYABLE);
    assert_int_equal(length(&r), 1); /* reading goes on */
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(publish(&r), TIDE_OK);
    assert_int_equal(length(&r), 2);
}

/* ---- the disk ---- */

static void FULL_is_said_and_passes(void **state) {
    (void)state;
    faulty_vfs_install();
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    faulty_vfs_reset();
    faulty.kinds = FAULTY_WRITE;
    faulty.fail_at = 1;
    faulty.from_then_on = true;
    faulty.code = SQLITE_FULL;
    assert_int_equal(publish(&r), TIDE_FULL);
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_FULL);
    assert_int_equal(length(&r), 1);
    faulty_vfs_reset();
    assert_int_equal(publish(&r), TIDE_OK);
    assert_int_equal(length(&r), 2);
    rig_close(&r);
    faulty_vfs_remove();
}

static void FULL_by_a_limit_of_pages(void **state) {
    (void)state;
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    tide__sq_store *store = &((tide__sq_broker *)(void *)r.broker)->store;
    assert_int_equal(sqlite3_exec(store->db, "PRAGMA max_page_count = 40", NULL, NULL, NULL),
                     SQLITE_OK);
    static char big[9000];
    memset(big, 'x', sizeof big - 1);
    tide_status status = TIDE_OK;
    int written = 1;
    while (status == TIDE_OK && written < 100) {
        status = rig_publish(&r, "s", "e", big);
        written += status == TIDE_OK;
    }
    assert_int_equal(status, TIDE_FULL);
    assert_int_equal(length(&r), written);
    assert_int_equal(COMMAND(&r, "XTRIM", "s", "MAXLEN", "1")[0] != '(', 1);
    assert_int_equal(rig_publish(&r, "s", "e", big), TIDE_OK); /* freed pages are used again */
}

/* What a process finds that opens the file as it is on the disk now, with its journal and without shared memory. */
static int64_t length_after_a_crash(void) {
    static const char *const suffixes[] = {"", "-wal"};
    char copy[600];
    rig other;
    snprintf(copy, sizeof copy, "%s.copy", path);
    for (size_t i = 0; i < 2; i++) {
        char from[700], to[700];
        size_t size;
        snprintf(from, sizeof from, "%s%s", path, suffixes[i]);
        snprintf(to, sizeof to, "%s%s", copy, suffixes[i]);
        if (access(from, F_OK) != 0)
            continue;
        char *bytes = read_all(from, &size);
        write_all(to, bytes, size);
        free(bytes);
    }
    rig_open(&other, copy);
    int64_t found = length(&other);
    rig_close(&other);
    rig_remove(copy);
    return found;
}

static void a_failed_fsync_is_never_a_success(void **state) {
    (void)state;
    faulty_vfs_install();
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    /* Once: what the commit may have left is overwritten, so "nothing was written" is true. */
    faulty_vfs_reset();
    faulty.kinds = FAULTY_SYNC;
    faulty.fail_at = 1;
    assert_int_equal(publish(&r), TIDE_IO);
    assert_int_equal(faulty.failed, 1);
    assert_int_equal(length_after_a_crash(), 1);
    assert_int_equal(length(&r), 1);
    rig_close(&r);
    rig_open(&r, path);
    assert_int_equal(length(&r), 1);
    /* From then on: nobody knows. */
    faulty_vfs_reset();
    faulty.kinds = FAULTY_SYNC;
    faulty.fail_at = 1;
    faulty.from_then_on = true;
    assert_int_equal(publish(&r), TIDE_UNKNOWN);
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_UNKNOWN);
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_UNKNOWN);
    faulty_vfs_reset();
    assert_int_equal(publish(&r), TIDE_OK);
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_OK);
    rig_close(&r);
    faulty_vfs_remove();
}

static void the_whole_group_shares_a_failure(void **state) {
    (void)state;
    faulty_vfs_install();
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    tide_field field = {TIDE_STR("a"), TIDE_STR("b")};
    tide_record record = {&field, 1, {"", 0}};
    for (int i = 0; i < 5; i++)
        rig_submit(&r, rig_publish_op("s", &record, 1));
    tide_op kv = {.kind = TIDE_OP_KV, .as.kv = {.verb = TIDE_KV_GET, .key = TIDE_STR("k")}};
    rig_submit(&r, kv);
    faulty_vfs_reset();
    faulty.kinds = FAULTY_WRITE;
    faulty.fail_at = 1;
    faulty.from_then_on = true;
    faulty.code = SQLITE_FULL;
    rig_run(&r);
    faulty_vfs_reset();
    for (int i = 0; i < 5; i++) {
        assert_true(rig_next(&r));
        assert_int_equal(r.last.status, TIDE_FULL);
    }
    assert_true(rig_next(&r));
    assert_int_equal(r.last.status, TIDE_OK); /* it only read */
    rig_close(&r);
    faulty_vfs_remove();
}

static void an_unreadable_disk_is_an_IO_error(void **state) {
    (void)state;
    faulty_vfs_install();
    rig_open(&r, path);
    for (int i = 0; i < 50; i++)
        assert_int_equal(publish(&r), TIDE_OK);
    rig_close(&r);
    rig_open(&r, path);
    faulty_vfs_reset();
    faulty.kinds = FAULTY_READ;
    faulty.fail_at = 1;
    faulty.from_then_on = true;
    assert_int_equal(publish(&r), TIDE_IO);
    faulty_vfs_reset();
    assert_int_equal(publish(&r), TIDE_OK);
    assert_int_equal(length(&r), 51);
    rig_close(&r);
    faulty_vfs_remove();
}

static void a_read_only_file_can_be_read(void **state) {
    (void)state;
    faulty_vfs_install();
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    rig_close(&r);
    faulty.read_only = true;
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_READONLY);
    assert_int_equal(length(&r), 1);
    rig_close(&r);
    faulty_vfs_remove();
}

static void a_deleted_file_takes_no_more_events(void **state) {
    (void)state;
    char aside[600];
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_OK);
    snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(publish(&r), TIDE_IO);
    assert_non_null(strstr(r.last.error.message, "deleted or moved"));
    rig_close(&r);
    remove(aside);
}

/* ---- damage ---- */

static void CORRUPT_stops_writes(void **state) {
    (void)state;
    rig_open(&r, path);
    for (int i = 0; i < 200; i++)
        assert_int_equal(publish(&r), TIDE_OK);
    rig_close(&r);
    size_t size;
    char *bytes = read_all(path, &size);
    memset(bytes + 4096, 0xff, size - 4096); /* all but the first page */
    write_all(path, bytes, size);
    free(bytes);
    rig_open(&r, path);
    assert_int_equal(publish(&r), TIDE_CORRUPT);
    assert_int_equal(publish(&r), TIDE_CORRUPT);
    assert_int_equal(tide_status_class_of(r.last.status), TIDE_CLASS_FATAL);
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_CORRUPT);
}

static void a_thousand_damaged_files_are_opened_without_harm(void **state) {
    (void)state;
    tide_prng prng;
    size_t size;
    int refused = 0;
    tide_prng_seed(&prng, 1000);
    rig_open(&r, path);
    assert_int_equal(rig_ensure(&r, "s", "g", "0"), TIDE_OK);
    for (int i = 0; i < 60; i++)
        assert_int_equal(publish(&r), TIDE_OK);
    assert_int_equal(rig_fetch(&r, "s", "g", "c", 20), TIDE_OK);
    tide_batch_release(r.last.as.fetch.batch);
    rig_close(&r);
    char *good = read_all(path, &size);
    char *bad = malloc(size);
    assert_non_null(bad);
    for (int round = 0; round < 1000; round++) {
        memcpy(bad, good, size);
        size_t kept = size;
        switch (tide_prng_below(&prng, 4)) {
        case 0: kept = (size_t)tide_prng_below(&prng, size); break;
        case 1: /* a run of noise */
            for (size_t at = (size_t)tide_prng_below(&prng, size), n = 0; at < size && n < 600;
                 at++, n++)
                bad[at] = (char)tide_prng_next(&prng);
            break;
        case 2: { /* a page in another's place */
            size_t pages = size / 4096;
            memcpy(bad + 4096 * tide_prng_below(&prng, pages),
                   good + 4096 * tide_prng_below(&prng, pages), 4096);
            break;
        }
        default:
            for (uint64_t n = 1 + tide_prng_below(&prng, 40); n > 0; n--)
                bad[tide_prng_below(&prng, size)] ^= (char)(1u << tide_prng_below(&prng, 8));
        }
        rig_remove(path);
        write_all(path, bad, kept);
        rig_open(&r, path);
        refused += publish(&r) != TIDE_OK;
        tide_status status = rig_fetch(&r, "s", "g", "d", 10);
        if (status == TIDE_OK)
            tide_batch_release(r.last.as.fetch.batch);
        COMMAND(&r, "XINFO", "STREAM", "s", "FULL", "COUNT", "5");
        COMMAND(&r, "XRANGE", "s", "-", "+", "COUNT", "100");
        COMMAND(&r, "XAUTOCLAIM", "s", "g", "e", "0", "0");
        rig_close(&r);
    }
    assert_true(refused > 100);
    free(good);
    free(bad);
}

static void many_cycles_of_open_and_close_lose_nothing(void **state) {
    (void)state;
    for (int i = 0; i < 30; i++) {
        rig_open(&r, path);
        for (int n = 0; n < 10; n++)
            assert_int_equal(publish(&r), TIDE_OK);
        rig_close(&r);
    }
    rig_open(&r, path);
    assert_int_equal(length(&r), 300);
}

#define test(name) cmocka_unit_test_setup_teardown(name, fresh_path, close_it)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(files_are_made_for_their_owner_only),
        test(what_was_written_is_there_again),
        test(a_file_of_another_program_is_refused_untouched),
        test(a_file_of_a_newer_version_is_refused_untouched),
        test(odd_paths_are_plain_names),
        test(a_path_that_leads_nowhere_is_said_plainly),
        test(two_brokers_share_a_group),
        test(a_waiting_consumer_notices_another_process),
        test(a_watch_tells_of_the_commits_of_others_only),
        test(BUSY_is_retryable_and_writes_nothing),
        test(FULL_is_said_and_passes),
        test(FULL_by_a_limit_of_pages),
        test(a_failed_fsync_is_never_a_success),
        test(the_whole_group_shares_a_failure),
        test(an_unreadable_disk_is_an_IO_error),
        test(a_read_only_file_can_be_read),
        test(a_deleted_file_takes_no_more_events),
        test(CORRUPT_stops_writes),
        test(a_thousand_damaged_files_are_opened_without_harm),
        test(many_cycles_of_open_and_close_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
