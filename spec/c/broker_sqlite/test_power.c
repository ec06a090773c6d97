/* SPDX-License-Identifier: MIT */
/*
 * What it is: F37: power is lost at every write; what the disk then holds is opened: every acknowledged event is there, no
 * half of a transaction is, and SQLite finds the file sound.
 * What it is not: a test of disks that lie about fsync.
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

enum { EVENTS_MAX = 4000, GROUP_MAX = 12, IMAGES_PER_CHANGE = 1, IMAGES_MIN = 5000 };

/* After how many changes the publish that ends with that many events was acknowledged. */
static uint64_t acked_at[EVENTS_MAX + 1];
static bool is_boundary[EVENTS_MAX + 1];
static uint64_t settled_at[EVENTS_MAX + 1]; /* the same for acks, by their number */
static int events, settled;

static void acknowledge_some(rig *r) {
    assert_int_equal(rig_fetch(r, "s", "g", "c", GROUP_MAX), TIDE_OK);
    tide_batch *batch = r->last.as.fetch.batch;
    tide_settlement items[GROUP_MAX];
    size_t count = rig_count(batch);
    for (size_t i = 0; i < count; i++)
        items[i] = (tide_settlement){.kind = TIDE_SETTLE_ACK, .id = tide_batch_entry(batch, i)->id};
    tide_batch_release(batch);
    if (count == 0)
        return;
    tide_op op = {.kind = TIDE_OP_SETTLE};
    op.as.settle.stream = str("s");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.items = items;
    op.as.settle.item_count = count;
    assert_int_equal(rig_do(r, op), TIDE_OK);
    for (size_t i = 0; i < count; i++)
        settled_at[++settled] = faulty_record_size();
}

static void write_events(const char *path, tide_prng *prng) {
    rig r;
    rig_options options = {.path = path, .synchronous = TIDE_SYNCHRONOUS_FULL, .busy_ms = 100};
    assert_int_equal(rig_create(&r, &options), TIDE_OK);
    ((tide__sq_broker *)(void *)r.broker)->store.checkpoint_pages = 12;
    assert_int_equal(rig_ensure(&r, "s", "g", "0"), TIDE_OK);
    is_boundary[0] = true;
    for (int round = 0; round < 160; round++) {
        tide_field fields[GROUP_MAX];
        tide_record records[GROUP_MAX];
        static char payload[1200];
        memset(payload, 'x', sizeof payload);
        size_t count = 1 + (size_t)tide_prng_below(prng, GROUP_MAX);
        for (size_t i = 0; i < count; i++) {
            fields[i] = (tide_field){TIDE_STR("data"),
                                     {payload, (size_t)tide_prng_below(prng, sizeof payload)}};
            records[i] = (tide_record){&fields[i], 1, {"", 0}};
        }
        assert_int_equal(rig_do(&r, rig_publish_op("s", records, count)), TIDE_OK);
        events += (int)count;
        acked_at[events] = faulty_record_size();
        is_boundary[events] = true;
        if (round % 5 == 4)
            acknowledge_some(&r);
    }
    rig_close(&r);
}

static int64_t ask(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        return -1;
    if (sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

static bool is_sound(sqlite3 *db) {
    sqlite3_stmt *statement;
    bool sound = false;
    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        sound = strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0;
    sqlite3_finalize(statement);
    return sound;
}

static void check_image(const char *path, uint64_t changes, uint64_t seed) {
    int acked = 0, settled_then = 0;
    for (int i = 1; i <= events; i++) {
        if (is_boundary[i] && acked_at[i] <= changes)
            acked = i;
    }
    while (settled_then < settled && settled_at[settled_then + 1] <= changes)
        settled_then++;
    sqlite3 *db;
    if (acked == 0) { /* it may not even be made yet; but it must open */
        rig r;
        rig_options options = {.path = path, .busy_ms = 100};
        assert_int_equal(rig_create(&r, &options), TIDE_OK);
        tide_status status = rig_ensure(&r, "s", "g", "0");
        if (status != TIDE_OK)
            print_error("changes %llu seed %llu: %s\n", (unsigned long long)changes,
                        (unsigned long long)seed, r.last.error.message);
        assert_int_equal(status, TIDE_OK);
        rig_close(&r);
        return;
    }
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    int64_t count = ask(db, "SELECT count(*) FROM entries");
    int64_t length = ask(db, "SELECT length FROM streams WHERE name = 's'");
    int64_t pending = ask(db, "SELECT count(*) FROM pending");
    bool sound = is_sound(db);
    if (count < acked || !sound || length != count)
        print_error("changes %llu seed %llu: %lld events of %d acknowledged, sound %d\n",
                    (unsigned long long)changes, (unsigned long long)seed, (long long)count, acked,
                    sound);
    assert_true(sound);
    assert_true(count >= acked && count <= events);
    assert_true(is_boundary[count]); /* all of a transaction or nothing */
    assert_int_equal(length, count);
    assert_true(pending >= 0 && pending <= GROUP_MAX);
    assert_true(ask(db, "SELECT entries_read FROM groups") - pending >= settled_then);
    sqlite3_close(db);
}

static void F37_a_loss_of_power_loses_nothing_acknowledged(void **state) {
    (void)state;
    char path[512], folder[512], image[600];
    tide_prng prng;
    tide_prng_seed(&prng, 37);
    snprintf(path, sizeof path, "%s", scratch_path("power.db"));
    snprintf(folder, sizeof folder, "%s", scratch_path("image"));
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(image, sizeof image, "%s/power.db", folder);
    faulty_vfs_install();
    faulty_record_start();
    write_events(path, &prng);
    uint64_t changes = faulty_record_size();
    faulty.recording = false;
    uint64_t images = 0, per_change = IMAGES_PER_CHANGE;
    while (changes * per_change < IMAGES_MIN + 200)
        per_change++;
    for (uint64_t at = 1; at <= changes; at++) {
        for (uint64_t n = 0; n < per_change; n++) {
            uint64_t seed = at * 1000 + n;
            if (!faulty_power_loss(folder, at, seed))
                continue;
            check_image(image, at, seed);
            images++;
        }
    }
    print_message("%llu images of %llu changes, %d events, %d acks\n", (unsigned long long)images,
                  (unsigned long long)changes, events, settled);
    assert_true(images >= IMAGES_MIN);
    faulty_vfs_remove();
}

/* The test must be able to fail: with synchronous=OFF, which promises nothing, an image must be found that lost an event. */
static void without_syncing_the_same_test_finds_losses(void **state) {
    (void)state;
    char path[512], folder[512], image[600];
    snprintf(path, sizeof path, "%s", scratch_path("power-off.db"));
    snprintf(folder, sizeof folder, "%s", scratch_path("image-off"));
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(image, sizeof image, "%s/power-off.db", folder);
    faulty_vfs_install();
    faulty_record_start();
    rig r;
    rig_options options = {.path = path, .synchronous = TIDE_SYNCHRONOUS_OFF, .busy_ms = 100};
    assert_int_equal(rig_create(&r, &options), TIDE_OK);
    for (int i = 0; i < 20; i++)
        assert_int_equal(rig_publish(&r, "s", "e", "x"), TIDE_OK);
    uint64_t changes = faulty_record_size();
    faulty.recording = false;
    int lost = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        sqlite3 *db;
        faulty_power_loss(folder, changes, seed);
        assert_int_equal(sqlite3_open_v2(image, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        lost += ask(db, "SELECT count(*) FROM entries") < 20;
        sqlite3_close(db);
    }
    assert_true(lost > 0);
    rig_close(&r);
    faulty_vfs_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F37_a_loss_of_power_loses_nothing_acknowledged),
        cmocka_unit_test(without_syncing_the_same_test_finds_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
