/* SPDX-License-Identifier: MIT */
/*
 * What it is: F38: one scenario through every operation, in which the N-th allocation of ours, the N-th of SQLite, or the
 * N-th call of the file system fails, for every N, once and from then on: nothing crashes, nothing leaks, the store opens
 * again, and what was acknowledged is in it.
 * What it is not: a check of which error comes; test_faults.c has those.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "broker/sqlite/internal.h"
#include "failing_allocator.h"
#include "faulty_vfs.h"
#include "scratch.h"

static char path[512];

/* ---- SQLite's memory ---- */

static sqlite3_mem_methods plain;
static uint64_t lite_asked, lite_fail_at, lite_failed;
static bool lite_from_then_on;

static bool lite_refuses(void) {
    lite_asked++;
    bool refuses = lite_fail_at != 0 &&
                   (lite_asked == lite_fail_at || (lite_from_then_on && lite_asked > lite_fail_at));
    lite_failed += refuses;
    return refuses;
}
static void *lite_malloc(int size) {
    return lite_refuses() ? NULL : plain.xMalloc(size);
}
static void *lite_realloc(void *ptr, int size) {
    return lite_refuses() ? NULL : plain.xRealloc(ptr, size);
}

static void lite_install(void) {
    sqlite3_shutdown();
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain);
    sqlite3_mem_methods own = plain;
    own.xMalloc = lite_malloc;
    own.xRealloc = lite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &own);
    sqlite3_initialize();
}

/* ---- the scenario ---- */

typedef struct outcome {
    int acked;  /* entries that must be in stream "s" */
    bool whole; /* nothing failed on the way */
    bool stuck; /* an operation had no end: only while memory is refused for good */
} outcome;

/* Like rig_do, but everything may fail; exactly one completion must come for what was taken in. */
static tide_status try(rig *r, tide_op op, outcome *out) {
    tide_error error;
    op.tag = ++r->tag;
    tide_status status = r->broker->vtable->submit(r->broker, &op, r->now_us, &error);
    if (status != TIDE_OK) {
        out->whole = false;
        return status;
    }
    for (int turn = 0; turn < 4; turn++) {
        if (rig_next(r)) {
            assert_int_equal(r->last.tag, op.tag);
            if (r->last.status != TIDE_OK)
                out->whole = false;
            return r->last.status;
        }
        r->now_us += 20000;
        r->broker->vtable->tick(r->broker, r->now_us);
    }
    out->whole = false;
    out->stuck = true;
    return TIDE_TIMEOUT;
}

static tide_status try_command(rig *r, outcome *out, const char *const *words, size_t count) {
    tide_str args[16];
    for (size_t i = 0; i < count; i++)
        args[i] = str(words[i]);
    tide_op op = {.kind = TIDE_OP_COMMAND};
    op.as.command.args = args;
    op.as.command.arg_count = count;
    return try(r, op, out);
}
#define TRY_COMMAND(...)                                                                           \
    try_command(r, out, (const char *const[]){__VA_ARGS__},                                        \
                sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* More entries at once than one statement writes, through publish, fetch and ack. */
static void many_of(rig *r, outcome *out) {
    enum { MANY = TIDE__SQ_ROWS + 1 };
    tide_field field = {TIDE_STR("event_id"), TIDE_STR("e1")};
    tide_record records[MANY];
    tide_settlement items[MANY];
    size_t count = 0;
    for (size_t i = 0; i < MANY; i++)
        records[i] = (tide_record){&field, 1, field.value};
    tide_op op = {.kind = TIDE_OP_GROUP_ENSURE};
    op.as.group_ensure.stream = str("m");
    op.as.group_ensure.group = str("g");
    op.as.group_ensure.start = str("0");
    try(r, op, out);
    try(r, rig_publish_op("m", records, MANY), out);
    if (try(r, rig_fetch_op("m", "g", "c", MANY), out) == TIDE_OK) {
        tide_batch *batch = r->last.as.fetch.batch;
        for (; count < rig_count(batch); count++)
            items[count] = (tide_settlement){.kind = TIDE_SETTLE_ACK,
                                             .id = tide_batch_entry(batch, count)->id};
        tide_batch_release(batch);
    }
    if (count == 0)
        return;
    op = (tide_op){.kind = TIDE_OP_SETTLE};
    op.as.settle.stream = str("m");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.items = items;
    op.as.settle.item_count = count;
    try(r, op, out);
}

static void scenario_of(rig *r, outcome *out) {
    tide_field fields[] = {{TIDE_STR("event_id"), TIDE_STR("e1")}, {TIDE_STR("x"), TIDE_STR("y")}};
    tide_record record = {fields, 2, TIDE_STR("e1")};
    tide_op op = {.kind = TIDE_OP_GROUP_ENSURE};
    op.as.group_ensure.stream = str("s");
    op.as.group_ensure.group = str("g");
    op.as.group_ensure.start = str("0");
    try(r, op, out);
    op = rig_publish_op("s", &record, 1);
    op.as.publish.dedupe_window_ms = 1000;
    out->acked += try(r, op, out) == TIDE_OK;
    op.as.publish.dedupe_window_ms = 0;
    op.as.publish.expect = TIDE_EXPECT_ANY;
    out->acked += try(r, op, out) == TIDE_OK;
    out->acked += try(r, rig_publish_op("s", &record, 1), out) == TIDE_OK;
    out->acked += try(r, rig_publish_op("s", &record, 1), out) == TIDE_OK;
    op = rig_publish_op("s", &record, 1);
    op.as.publish.delay_ms = 1;
    try(r, op, out);
    op = (tide_op){.kind = TIDE_OP_CANCEL};
    op.as.cancel.stream = str("s");
    op.as.cancel.event_id = str("other");
    try(r, op, out);
    op = (tide_op){.kind = TIDE_OP_PROMOTE};
    op.as.promote.stream = str("s");
    op.as.promote.count_max = 5;
    r->now_us += 5000;
    if (try(r, op, out) == TIDE_OK)
        out->acked += (int)r->last.as.promote.moved;
    many_of(r, out);
    tide_id ids[4] = {{0, 0}};
    size_t count = 0;
    if (try(r, rig_fetch_op("s", "g", "c", 4), out) == TIDE_OK) {
        tide_batch *batch = r->last.as.fetch.batch;
        for (count = 0; count < rig_count(batch); count++)
            ids[count] = tide_batch_entry(batch, count)->id;
        tide_batch_release(batch);
    }
    tide_settlement items[] = {
        {.kind = TIDE_SETTLE_ACK, .id = ids[0]},
        {.kind = TIDE_SETTLE_DEAD, .id = ids[1], .fields = fields, .field_count = 2},
        {.kind = TIDE_SETTLE_DELAY,
         .id = ids[2],
         .fields = fields,
         .field_count = 2,
         .delay_ms = 1}};
    op = (tide_op){.kind = TIDE_OP_SETTLE};
    op.as.settle.stream = str("s");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.items = items;
    op.as.settle.item_count = 3;
    try(r, op, out);
    op = (tide_op){.kind = TIDE_OP_EXTEND};
    op.as.extend.stream = str("s");
    op.as.extend.group = str("g");
    op.as.extend.consumer = str("c");
    op.as.extend.ids = ids;
    op.as.extend.id_count = 4;
    try(r, op, out);
    op = (tide_op){.kind = TIDE_OP_RECOVER};
    op.as.recover.stream = str("s");
    op.as.recover.group = str("g");
    op.as.recover.consumer = str("d");
    op.as.recover.count_max = 10;
    if (try(r, op, out) == TIDE_OK)
        tide_batch_release(r->last.as.recover.batch);
    op = (tide_op){.kind = TIDE_OP_KV};
    op.as.kv =
        (tide_op_kv){.verb = TIDE_KV_INCREMENT, .key = TIDE_STR("k"), .amount = 1, .ttl_ms = 9};
    try(r, op, out);
    op.as.kv.verb = TIDE_KV_GET;
    try(r, op, out);
    try(r, (tide_op){.kind = TIDE_OP_SERVER}, out);
    out->acked += TRY_COMMAND("XADD", "s", "*", "a", "b") == TIDE_OK;
    TRY_COMMAND("XINFO", "STREAM", "s", "FULL");
    TRY_COMMAND("XPENDING", "s", "g", "-", "+", "10");
    TRY_COMMAND("XCLAIM", "s", "g", "e", "0", "1-1");
    TRY_COMMAND("XREAD", "STREAMS", "s", "0");
    TRY_COMMAND("KEYS", "*");
    op = rig_fetch_op("s", "g", "c", 4);
    op.as.fetch.block_ms = 10;
    for (int i = 0; i < 3; i++) {
        if (try(r, op, out) == TIDE_OK)
            tide_batch_release(r->last.as.fetch.batch);
    }
}

static outcome run(const tide_allocator *alloc, bool file) {
    rig r;
    outcome out = {.whole = true};
    rig_options options = {.path = file ? path : NULL, .alloc = alloc, .busy_ms = 0};
    if (rig_create(&r, &options) != TIDE_OK)
        return (outcome){.whole = false};
    scenario_of(&r, &out);
    rig_close(&r);
    return out;
}

/* Without faults: it opens, and at least `acked` entries are there. A file that was never made opens empty. */
static void check_again(outcome out) {
    rig r;
    int64_t length = -1;
    rig_open(&r, path);
    assert_int_equal(sscanf(COMMAND(&r, "XLEN", "s"), "%ld", &length), 1);
    if (length < out.acked)
        print_error("%ld entries of %d acknowledged\n", length, out.acked);
    assert_true(length >= out.acked);
    assert_int_equal(rig_publish(&r, "s", "again", "x"), TIDE_OK);
    rig_close(&r);
    rig_remove(path);
}

static void F38_every_allocation_of_ours(void **state) {
    (void)state;
    for (int file = 0; file < 2; file++) {
        for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
            uint64_t n = 1;
            for (;; n++) {
                failing_allocator memory;
                tide_allocator alloc = failing_allocator_init(&memory, n, from_then_on != 0);
                outcome out = run(&alloc, file != 0);
                assert_int_equal(failing_allocator_live_bytes(&memory), 0);
                assert_true(!out.stuck || from_then_on);
                if (file)
                    check_again(out);
                if (memory.failed == 0) {
                    assert_true(out.whole);
                    assert_int_equal(out.acked, 6);
                    break;
                }
            }
            print_message("%llu allocations\n", (unsigned long long)n - 1);
            assert_true(n > 10);
        }
    }
}

static void F38_every_allocation_of_SQLite(void **state) {
    (void)state;
    lite_install();
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        uint64_t n = 1;
        for (;; n++) {
            failing_allocator memory;
            tide_allocator alloc = failing_allocator_init(&memory, 0, false);
            lite_asked = lite_failed = 0;
            lite_fail_at = n;
            lite_from_then_on = from_then_on != 0;
            outcome out = run(&alloc, true);
            bool failed = lite_failed > 0;
            lite_fail_at = 0;
            assert_int_equal(failing_allocator_live_bytes(&memory), 0);
            assert_int_equal(sqlite3_memory_used(), 0);
            assert_false(out.stuck);
            check_again(out);
            if (!failed) {
                assert_int_equal(out.acked, 6);
                break;
            }
        }
        print_message("%llu allocations\n", (unsigned long long)n - 1);
        assert_true(n > 100);
    }
}

static void F38_every_call_of_the_file_system(void **state) {
    (void)state;
    faulty_vfs_install();
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        uint64_t n = 1;
        for (;; n++) {
            failing_allocator memory;
            tide_allocator alloc = failing_allocator_init(&memory, 0, false);
            faulty_vfs_reset();
            faulty.fail_at = n;
            faulty.from_then_on = from_then_on != 0;
            outcome out = run(&alloc, true);
            bool failed = faulty.failed > 0;
            faulty_vfs_reset();
            assert_int_equal(failing_allocator_live_bytes(&memory), 0);
            assert_false(out.stuck);
            check_again(out);
            if (!failed) {
                assert_int_equal(out.acked, 6);
                break;
            }
        }
        print_message("%llu calls\n", (unsigned long long)n - 1);
        assert_true(n > 50);
    }
    faulty_vfs_remove();
}

int main(void) {
    snprintf(path, sizeof path, "%s", scratch_path("every.db"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(F38_every_allocation_of_ours),
        cmocka_unit_test(F38_every_call_of_the_file_system),
        cmocka_unit_test(F38_every_allocation_of_SQLite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
