/* SPDX-License-Identifier: MIT */
/*
 * What it is: publishing on the embedded engine, in memory: ids, windows, delays, expected versions, retention.
 * What it is not: publishing by the dozen, which test_many.c has.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "broker/sqlite/internal.h"

static rig r;

static tide_status publish_with(const char *id, void (*change)(tide_op_publish *op)) {
    tide_record record = rig_record(id);
    tide_op op = rig_publish_op("s", &record, 1);
    change(&op.as.publish);
    return rig_do(&r, op);
}

/* ---- once, and later ---- */

static void window_of_a_second(tide_op_publish *op) {
    op->dedupe_window_ms = 1000;
}

static void publishes_an_id_once_within_its_window(void **state) {
    (void)state;
    assert_int_equal(publish_with("a", window_of_a_second), TIDE_OK);
    tide_id first = r.last.as.publish.results[0].id;
    assert_false(r.last.as.publish.results[0].duplicate);
    r.now_us += 999000;
    assert_int_equal(publish_with("a", window_of_a_second), TIDE_OK);
    assert_true(r.last.as.publish.results[0].duplicate);
    assert_int_equal(tide_id_compare(first, r.last.as.publish.results[0].id), 0);
    r.now_us += 1000;
    assert_int_equal(publish_with("a", window_of_a_second), TIDE_OK);
    assert_false(r.last.as.publish.results[0].duplicate);
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "2");
    tide_record twice[] = {rig_record("b"), rig_record("b")};
    tide_op op = rig_publish_op("s", twice, 2);
    op.as.publish.dedupe_window_ms = 1000;
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    assert_false(r.last.as.publish.results[0].duplicate);
    assert_true(r.last.as.publish.results[1].duplicate);
}

static void forgets_ids_whose_window_is_over(void **state) {
    (void)state;
    for (int i = 0; i < 500; i++) {
        char id[32];
        snprintf(id, sizeof id, "id-%d", i);
        r.now_us += 100000;
        assert_int_equal(publish_with(id, window_of_a_second), TIDE_OK);
    }
    tide__sq_store *store = &((tide__sq_broker *)(void *)r.broker)->store;
    sqlite3_stmt *count;
    assert_int_equal(sqlite3_prepare_v2(store->db, "SELECT count(*) FROM dedupe", -1, &count, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(count), SQLITE_ROW);
    assert_in_range(sqlite3_column_int(count, 0), 10, 11);
    sqlite3_finalize(count);
}

static void half_a_second_later(tide_op_publish *op) {
    op->delay_ms = 500;
}

static void at_a_time(tide_op_publish *op) {
    op->due_ms = RIG_WALL_MS + 2000;
}

static bool cancel(const char *id) {
    tide_op op = {.kind = TIDE_OP_CANCEL};
    op.as.cancel.stream = str("s");
    op.as.cancel.event_id = str(id);
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    return r.last.as.cancel.cancelled;
}

static void delays_promotes_and_cancels(void **state) {
    (void)state;
    int64_t next_due_ms;
    assert_int_equal(rig_promote(&r, "s", &next_due_ms), 0);
    assert_int_equal(next_due_ms, -1);
    assert_int_equal(publish_with("late", at_a_time), TIDE_OK);
    assert_int_equal(publish_with("soon", half_a_second_later), TIDE_OK);
    assert_int_equal(r.last.as.publish.results[0].id.ms, 0);
    assert_int_equal(publish_with("soon", half_a_second_later), TIDE_OK);
    assert_true(r.last.as.publish.results[0].duplicate);
    assert_int_equal(publish_with("never", half_a_second_later), TIDE_OK);
    assert_string_equal(COMMAND(&r, "ZCARD", "{s}:delayed"), "3");
    assert_true(cancel("never"));
    assert_false(cancel("never"));
    assert_string_equal(COMMAND(&r, "EXISTS", "s"), "0");
    assert_int_equal(rig_promote(&r, "s", &next_due_ms), 0);
    assert_int_equal(next_due_ms, 500);
    r.now_us += 500000;
    assert_int_equal(rig_promote(&r, "s", &next_due_ms), 1);
    assert_int_equal(next_due_ms, 1499);
    r.now_us += 1499000;
    assert_int_equal(rig_promote(&r, "s", &next_due_ms), 1);
    assert_int_equal(next_due_ms, -1);
    assert_false(cancel("late"));
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "2");
    assert_string_equal(COMMAND(&r, "ZRANGE", "{s}:delayed", "0", "-1"), "[]");
}

/* ---- expected versions ---- */

static tide_status append(const char *id, tide_expect_kind expect, uint64_t version) {
    tide_record record = rig_record(id);
    tide_op op = rig_publish_op("s", &record, 1);
    op.as.publish.expect = expect;
    op.as.publish.expect_version = version;
    return rig_do(&r, op);
}

static void appends_at_the_expected_version_only(void **state) {
    (void)state;
    assert_int_equal(append("a", TIDE_EXPECT_EXISTS, 0), TIDE_CONFLICT);
    assert_int_equal(append("a", TIDE_EXPECT_NO_STREAM, 0), TIDE_OK);
    assert_int_equal(r.last.as.publish.version, 1);
    assert_int_equal(append("b", TIDE_EXPECT_NO_STREAM, 0), TIDE_CONFLICT);
    assert_int_equal(r.last.as.publish.version, 1);
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_CONFLICT);
    assert_non_null(strstr(r.last.error.message, "actual 1"));
    assert_int_equal(append("b", TIDE_EXPECT_VERSION, 1), TIDE_OK);
    assert_int_equal(append("c", TIDE_EXPECT_VERSION, 1), TIDE_CONFLICT);
    assert_int_equal(append("c", TIDE_EXPECT_ANY, 0), TIDE_OK);
    assert_int_equal(append("d", TIDE_EXPECT_EXISTS, 0), TIDE_OK);
    assert_int_equal(r.last.as.publish.version, 4);
    rig_ensure(&r, "s", "g", "0");
    assert_int_equal(rig_fetch(&r, "s", "g", "c", 10), TIDE_OK);
    tide_batch *batch = r.last.as.fetch.batch;
    assert_int_equal(rig_count(batch), 4);
    const tide_entry *last = tide_batch_entry(batch, 3);
    assert_int_equal(last->field_count, 3);
    assert_str(last->fields[2].name, "version");
    assert_str(last->fields[2].value, "4");
    tide_batch_release(batch);
}

/* ---- retention ---- */

static void exactly_two(tide_op_publish *op) {
    op->max_len = 2;
    op->max_len_exact = true;
}

static void trims_to_a_length(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(publish_with("x", exactly_two), TIDE_OK);
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "2");
}

static void keeps_what_the_options_of_the_url_say(void **state) {
    (void)state;
    rig_close(&r);
    rig_options options = {.max_len = 50, .max_age_ms = 10000};
    assert_int_equal(rig_create(&r, &options), TIDE_OK);
    for (int i = 0; i < 1000; i++)
        rig_publish(&r, "s", "e", "x");
    int64_t length = 0;
    assert_int_equal(sscanf(COMMAND(&r, "XLEN", "s"), "%ld", &length), 1);
    assert_true(length >= 50 && length < 50 + 101);
    r.now_us += 20000000;
    rig_publish(&r, "s", "e", "x");
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "1");
}

/* ---- what is stored ---- */

static void ids_follow_the_clock_and_never_go_back(void **state) {
    (void)state;
    rig_publish(&r, "s", "a", "x");
    tide_id first = r.last.as.publish.results[0].id;
    assert_int_equal(first.ms, RIG_WALL_MS + 1);
    rig_publish(&r, "s", "b", "x");
    assert_int_equal(r.last.as.publish.results[0].id.seq, 1);
    r.now_us += 5000;
    rig_publish(&r, "s", "c", "x");
    assert_int_equal(r.last.as.publish.results[0].id.ms, RIG_WALL_MS + 6);
    assert_int_equal(r.last.as.publish.results[0].id.seq, 0);
    COMMAND(&r, "XADD", "s", "18446744073709551615-18446744073709551614", "a", "b");
    rig_publish(&r, "s", "d", "x");
    assert_int_equal(r.last.as.publish.results[0].id.seq, UINT64_MAX);
    rig_publish(&r, "s", "e", "x");
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_LIMIT);
    assert_string_equal(COMMAND(&r, "XREVRANGE", "s", "+", "-", "COUNT", "1"),
                        "[[\"18446744073709551615-18446744073709551615\", [\"event_id\", \"d\", "
                        "\"event_type\", \"t\", \"data\", \"x\"]]]");
}

static void keeps_any_bytes(void **state) {
    (void)state;
    tide_field fields[] = {{{"", 0}, {"", 0}},
                           {{"a\0b", 3}, {"\0\xff\r\n", 4}},
                           {TIDE_STR("data"), {"\0", 1}},
                           {TIDE_STR("data"), TIDE_STR("again")}};
    tide_record record = {fields, 4, {"", 0}};
    assert_int_equal(rig_do(&r, rig_publish_op("s\xff", &record, 1)), TIDE_OK);
    rig_ensure(&r, "s\xff", "g", "0");
    assert_int_equal(rig_fetch(&r, "s\xff", "g", "c", 1), TIDE_OK);
    const tide_entry *entry = tide_batch_entry(r.last.as.fetch.batch, 0);
    assert_int_equal(entry->field_count, 4);
    assert_int_equal(entry->bytes, 0 + 3 + 4 + 4 + 1 + 4 + 5);
    for (size_t i = 0; i < 4; i++) {
        assert_true(tide_str_equal(entry->fields[i].name, fields[i].name));
        assert_true(tide_str_equal(entry->fields[i].value, fields[i].value));
    }
    tide_batch_release(r.last.as.fetch.batch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_MEMORY(publishes_an_id_once_within_its_window, &r),
        IN_MEMORY(forgets_ids_whose_window_is_over, &r),
        IN_MEMORY(delays_promotes_and_cancels, &r),
        IN_MEMORY(appends_at_the_expected_version_only, &r),
        IN_MEMORY(trims_to_a_length, &r),
        IN_MEMORY(keeps_what_the_options_of_the_url_say, &r),
        IN_MEMORY(ids_follow_the_clock_and_never_go_back, &r),
        IN_MEMORY(keeps_any_bytes, &r),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
