/* SPDX-License-Identifier: MIT */
/*
 * What it is: the port's operations on the embedded engine, in memory: what each does, and what it refuses.
 * What it is not: the conformance suite, which holds all engines to the same from Lua.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/text.h"
#include "broker/sqlite/internal.h"

#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        tide_str got_ = (actual);                                                                  \
        assert_int_equal(got_.len, strlen(expected));                                              \
        assert_memory_equal(got_.data, expected, got_.len);                                        \
    } while (0)

static rig r;

static int open_memory(void **state) {
    (void)state;
    rig_open(&r, NULL);
    return 0;
}

static int close_it(void **state) {
    (void)state;
    rig_close(&r);
    return 0;
}

/* A record of one id, good until the next call. */
static tide_record record_of(const char *id) {
    static tide_field fields[4][2];
    static size_t turn;
    tide_field *own = fields[turn++ % 4];
    own[0] = (tide_field){TIDE_STR("event_id"), str(id)};
    own[1] = (tide_field){TIDE_STR("data"), str(id)};
    return (tide_record){own, 2, str(id)};
}

static tide_status publish_with(const char *id, void (*change)(tide_op_publish *op)) {
    tide_record record = record_of(id);
    tide_op op = rig_publish_op("s", &record, 1);
    change(&op.as.publish);
    return rig_do(&r, op);
}

static tide_batch *fetch(const char *consumer, uint32_t count) {
    assert_int_equal(rig_fetch(&r, "s", "g", consumer, count), TIDE_OK);
    return r.last.as.fetch.batch;
}

static tide_batch *recover(const char *consumer, int64_t min_idle_ms) {
    tide_op op = {.kind = TIDE_OP_RECOVER};
    op.as.recover.stream = str("s");
    op.as.recover.group = str("g");
    op.as.recover.consumer = str(consumer);
    op.as.recover.min_idle_ms = min_idle_ms;
    op.as.recover.count_max = 100;
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    return r.last.as.recover.batch;
}

static void fill(int count) {
    rig_ensure(&r, "s", "g", "0");
    for (int i = 0; i < count; i++) {
        char id[32];
        snprintf(id, sizeof id, "e%d", i);
        assert_int_equal(rig_publish(&r, "s", id, "x"), TIDE_OK);
    }
}

/* ---- publish ---- */

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
    tide_record twice[] = {record_of("b"), record_of("b")};
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

static uint32_t promote(int64_t *next_due_ms) {
    tide_op op = {.kind = TIDE_OP_PROMOTE};
    op.as.promote.stream = str("s");
    op.as.promote.count_max = 10;
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    *next_due_ms = r.last.as.promote.next_due_ms;
    return r.last.as.promote.moved;
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
    assert_int_equal(promote(&next_due_ms), 0);
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
    assert_int_equal(promote(&next_due_ms), 0);
    assert_int_equal(next_due_ms, 500);
    r.now_us += 500000;
    assert_int_equal(promote(&next_due_ms), 1);
    assert_int_equal(next_due_ms, 1499);
    r.now_us += 1499000;
    assert_int_equal(promote(&next_due_ms), 1);
    assert_int_equal(next_due_ms, -1);
    assert_false(cancel("late"));
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "2");
    assert_string_equal(COMMAND(&r, "ZRANGE", "{s}:delayed", "0", "-1"), "[]");
}

static tide_status append(const char *id, tide_expect_kind expect, uint64_t version) {
    tide_record record = record_of(id);
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
    tide_batch *batch = fetch("c", 10);
    assert_int_equal(rig_count(batch), 4);
    const tide_entry *last = tide_batch_entry(batch, 3);
    assert_int_equal(last->field_count, 3);
    assert_str(last->fields[2].name, "version");
    assert_str(last->fields[2].value, "4");
    tide_batch_release(batch);
}

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

static void refuses_what_makes_no_sense(void **state) {
    (void)state;
    static char long_name[TIDE_NAME_MAX + 2];
    memset(long_name, 'n', sizeof long_name - 1);
    tide_record record = record_of("a"), empty = {NULL, 0, {"", 0}}, nameless = record;
    nameless.event_id = (tide_str){"", 0};
    tide_op ops[] = {
        rig_publish_op("", &record, 1),
        rig_publish_op(long_name, &record, 1),
        rig_publish_op("s", &record, 0),
        rig_publish_op("s", &empty, 1),
        rig_publish_op("s", &nameless, 1),
        rig_publish_op("s", &record, 1),
        rig_publish_op("s", &record, 1),
        rig_fetch_op("s", "g", "c", 0),
        rig_fetch_op("s", "", "c", 1),
        {.kind = TIDE_OP_SETTLE},
        {.kind = TIDE_OP_EXTEND},
        {.kind = TIDE_OP_KV},
        {.kind = TIDE_OP_COMMAND},
        {.kind = TIDE_OP_KIND_COUNT},
        rig_publish_op("s", &record, TIDE_PUBLISH_MAX + 1),
    };
    ops[4].as.publish.delay_ms = 1;
    ops[5].as.publish.delay_ms = -1;
    ops[6].as.publish.expect = TIDE_EXPECT_ANY;
    ops[6].as.publish.delay_ms = 1;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        tide_error error = {0};
        tide_status status = r.broker->vtable->submit(r.broker, &ops[i], r.now_us, &error);
        assert_true(status == TIDE_ARGUMENT || status == TIDE_LIMIT);
        assert_true(error.message[0] != '\0');
        assert_false(rig_next(&r));
    }
}

/* ---- groups ---- */

static void a_group_starts_where_it_is_told_to(void **state) {
    (void)state;
    fill(3);
    assert_int_equal(rig_ensure(&r, "s", "end", "$"), TIDE_OK);
    assert_int_equal(rig_fetch(&r, "s", "end", "c", 10), TIDE_OK);
    assert_null(r.last.as.fetch.batch);
    assert_int_equal(rig_ensure(&r, "s", "bad", "nonsense"), TIDE_ARGUMENT);
    assert_int_equal(rig_fetch(&r, "s", "none", "c", 10), TIDE_NOGROUP);
    assert_string_equal(r.last.error.server, "NOGROUP");
    assert_int_equal(rig_fetch(&r, "none", "g", "c", 10), TIDE_NOGROUP);
}

static void two_consumers_share_a_group(void **state) {
    (void)state;
    fill(4);
    tide_batch *one = fetch("a", 2), *two = fetch("b", 10);
    assert_int_equal(rig_count(one), 2);
    assert_int_equal(rig_count(two), 2);
    assert_str(rig_field(tide_batch_entry(two, 0), "event_id"), "e2");
    tide_batch_release(one);
    tide_batch_release(two);
}

static void recovers_from_the_dead_and_extends_for_the_living(void **state) {
    (void)state;
    fill(3);
    tide_batch *batch = fetch("dead", 3);
    tide_id ids[3];
    for (size_t i = 0; i < 3; i++)
        ids[i] = tide_batch_entry(batch, i)->id;
    tide_batch_release(batch);
    assert_null(recover("heir", 1000));
    r.now_us += 600000;
    tide_op extend = {.kind = TIDE_OP_EXTEND};
    extend.as.extend.stream = str("s");
    extend.as.extend.group = str("g");
    extend.as.extend.consumer = str("dead");
    extend.as.extend.ids = ids;
    extend.as.extend.id_count = 1;
    assert_int_equal(rig_do(&r, extend), TIDE_OK);
    assert_int_equal(r.last.as.extend.lost_count, 0);
    r.now_us += 600000;
    batch = recover("heir", 1000);
    assert_int_equal(rig_count(batch), 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 2);
    assert_int_equal(r.last.as.recover.cursor.ms, 0);
    tide_batch_release(batch);
    extend.as.extend.id_count = 3;
    assert_int_equal(rig_do(&r, extend), TIDE_OK);
    assert_int_equal(r.last.as.extend.lost_count, 2);
    assert_int_equal(tide_id_compare(r.last.as.extend.lost[0], ids[1]), 0);
}

static void drops_what_is_gone_and_says_how_many(void **state) {
    (void)state;
    fill(3);
    tide_batch_release(fetch("c", 3));
    COMMAND(&r, "XTRIM", "s", "MAXLEN", "1");
    tide_op history = rig_fetch_op("s", "g", "c", 10);
    history.as.fetch.history = true;
    assert_int_equal(rig_do(&r, history), TIDE_OK);
    assert_int_equal(rig_count(r.last.as.fetch.batch), 3);
    assert_true(tide_batch_entry(r.last.as.fetch.batch, 0)->gone);
    assert_int_equal(tide_batch_entry(r.last.as.fetch.batch, 0)->field_count, 0);
    assert_false(tide_batch_entry(r.last.as.fetch.batch, 2)->gone);
    tide_batch_release(r.last.as.fetch.batch);
    tide_batch *batch = recover("d", 0);
    assert_int_equal(r.last.as.recover.deleted, 2);
    assert_int_equal(rig_count(batch), 1);
    tide_batch_release(batch);
}

static tide_settlement settlement(tide_settle_kind kind, tide_id id) {
    static const tide_field fields[] = {{{"a", 1}, {"b", 1}}};
    return (tide_settlement){
        .kind = kind, .id = id, .attempt = 7, .delay_ms = 100, .fields = fields, .field_count = 1};
}

static void settles_each_in_its_way(void **state) {
    (void)state;
    fill(5);
    tide_batch *batch = fetch("c", 5);
    tide_id ids[5];
    for (size_t i = 0; i < 5; i++)
        ids[i] = tide_batch_entry(batch, i)->id;
    tide_batch_release(batch);
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_DEAD, ids[0])), TIDE_OK);
    assert_string_equal(COMMAND(&r, "XLEN", "dlq"), "1");
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_DEAD, ids[0])), TIDE_OK);
    assert_string_equal(COMMAND(&r, "XLEN", "dlq"), "1"); /* not pending any more */
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_DELAY, ids[1])), TIDE_OK);
    assert_string_equal(COMMAND(&r, "ZCARD", "{s}:delayed"), "1");
    int64_t next_due_ms;
    r.now_us += 100000;
    assert_int_equal(promote(&next_due_ms), 1);
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_ATTEMPT, ids[2])),
                     TIDE_OK);
    assert_int_equal(rig_settle(&r, "s", "g", "other", settlement(TIDE_SETTLE_ATTEMPT, ids[2])),
                     TIDE_NOTFOUND);
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_RELEASE, ids[3])),
                     TIDE_OK);
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_ACK, ids[4])), TIDE_OK);
    char want[160];
    snprintf(want, sizeof want, "[[\"%d-2\", \"c\", 0, 7], [\"%d-3\", \"c\", 86400000, 7]]",
             RIG_WALL_MS + 1, RIG_WALL_MS + 1);
    assert_string_equal(COMMAND(&r, "XPENDING", "s", "g", "-", "+", "10"), want);
    batch = recover("heir", 80000000); /* what was released is anyone's at once */
    assert_int_equal(rig_count(batch), 1);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 8);
    tide_batch_release(batch);
    assert_int_equal(rig_settle(&r, "s", "none", "c", settlement(TIDE_SETTLE_ACK, ids[0])),
                     TIDE_OK);
    assert_int_equal(rig_settle(&r, "s", "none", "c", settlement(TIDE_SETTLE_DEAD, ids[0])),
                     TIDE_NOGROUP);
}

static void a_late_verdict_moves_nothing_that_a_peer_has_claimed(void **state) {
    (void)state;
    fill(2);
    tide_batch *batch = fetch("slow", 2);
    tide_id ids[2] = {tide_batch_entry(batch, 0)->id, tide_batch_entry(batch, 1)->id};
    tide_batch_release(batch);
    r.now_us += 60000000;
    tide_batch_release(recover("peer", 30000));
    const char *const consumers[] = {"slow", "never seen"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_DEAD, ids[0])), TIDE_OK);
        assert_int_equal(
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_DELAY, ids[1])), TIDE_OK);
        assert_int_equal(
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_RELEASE, ids[0])),
            TIDE_OK);
        assert_int_equal(
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_ATTEMPT, ids[1])),
            TIDE_NOTFOUND);
    }
    tide_op op = {.kind = TIDE_OP_EXTEND};
    op.as.extend = (tide_op_extend){TIDE_STR("s"), TIDE_STR("g"), TIDE_STR("slow"), ids, 2};
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    assert_int_equal(r.last.as.extend.lost_count, 2);
    assert_string_equal(COMMAND(&r, "XLEN", "dlq"), "0");
    assert_string_equal(COMMAND(&r, "ZCARD", "{s}:delayed"), "0");
    char want[160];
    snprintf(want, sizeof want, "[[\"%d-0\", \"peer\", 0, 2], [\"%d-1\", \"peer\", 0, 2]]",
             RIG_WALL_MS + 1, RIG_WALL_MS + 1);
    assert_string_equal(COMMAND(&r, "XPENDING", "s", "g", "-", "+", "10"), want);
    assert_int_equal(rig_settle(&r, "s", "g", "peer", settlement(TIDE_SETTLE_DEAD, ids[0])),
                     TIDE_OK);
    assert_int_equal(rig_settle(&r, "s", "g", "peer", settlement(TIDE_SETTLE_DELAY, ids[1])),
                     TIDE_OK);
    assert_string_equal(COMMAND(&r, "XLEN", "dlq"), "1");
    assert_string_equal(COMMAND(&r, "ZCARD", "{s}:delayed"), "1");
}

static void dead_letters_go_to_the_derived_stream_when_none_is_named(void **state) {
    (void)state;
    fill(1);
    tide_batch *batch = fetch("c", 1);
    tide_settlement item = settlement(TIDE_SETTLE_DEAD, tide_batch_entry(batch, 0)->id);
    tide_op op = {.kind = TIDE_OP_SETTLE};
    op.as.settle.stream = str("s");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.items = &item;
    op.as.settle.item_count = 1;
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    assert_string_equal(COMMAND(&r, "XLEN", "{s}:dlq"), "1");
    tide_batch_release(batch);
}

static void a_dead_letter_that_can_not_be_written_stays_pending(void **state) {
    (void)state;
    fill(1);
    tide_op kv = {.kind = TIDE_OP_KV, .as.kv = {.verb = TIDE_KV_SET, .key = TIDE_STR("dlq")}};
    assert_int_equal(rig_do(&r, kv), TIDE_OK);
    tide_batch *batch = fetch("c", 1);
    tide_settlement item = settlement(TIDE_SETTLE_DEAD, tide_batch_entry(batch, 0)->id);
    assert_int_equal(rig_settle(&r, "s", "g", "c", item), TIDE_WRONGTYPE);
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "1");
    tide_batch_release(batch);
    batch = recover("d", 0);
    assert_int_equal(rig_count(batch), 1);
    tide_batch_release(batch);
}

/* ---- key-value ---- */

static tide_status kv(tide_kv_verb verb, const char *value, const char *expected, int64_t amount,
                      int64_t ttl_ms) {
    tide_op op = {.kind = TIDE_OP_KV};
    op.as.kv = (tide_op_kv){verb, TIDE_STR("k"), str(value), str(expected), amount, ttl_ms};
    return rig_do(&r, op);
}

static void keeps_values_and_compares_them(void **state) {
    (void)state;
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_false(r.last.as.kv.found);
    assert_int_equal(kv(TIDE_KV_REPLACE, "v", "x", 0, 0), TIDE_CONFLICT);
    assert_false(r.last.as.kv.found);
    assert_int_equal(kv(TIDE_KV_ADD, "one", "", 0, 0), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_ADD, "two", "", 0, 0), TIDE_EXISTS);
    assert_str(r.last.as.kv.value, "one");
    assert_int_equal(kv(TIDE_KV_REPLACE, "two", "other", 0, 0), TIDE_CONFLICT);
    assert_str(r.last.as.kv.value, "one");
    assert_int_equal(kv(TIDE_KV_REPLACE, "two", "one", 0, 0), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_str(r.last.as.kv.value, "two");
    assert_int_equal(r.last.as.kv.ttl_ms, -1);
    assert_int_equal(kv(TIDE_KV_DELETE_IF, "", "one", 0, 0), TIDE_CONFLICT);
    assert_int_equal(kv(TIDE_KV_DELETE_IF, "", "two", 0, 0), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_DELETE, "", "", 0, 0), TIDE_OK);
    assert_false(r.last.as.kv.found);
}

static void counts_and_forgets(void **state) {
    (void)state;
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", 5, 0), TIDE_OK);
    assert_int_equal(r.last.as.kv.integer, 5);
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", -7, 100), TIDE_OK);
    assert_int_equal(r.last.as.kv.integer, -2);
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_str(r.last.as.kv.value, "-2");
    assert_int_equal(r.last.as.kv.ttl_ms, 100);
    r.now_us += 100000;
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_false(r.last.as.kv.found);
    assert_int_equal(kv(TIDE_KV_EXPIRE, "", "", 0, 50), TIDE_OK);
    assert_false(r.last.as.kv.found);
    kv(TIDE_KV_SET, "9223372036854775807", "", 0, 0);
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", 1, 0), TIDE_REPLY);
    kv(TIDE_KV_SET, "text", "", 0, 0);
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", 1, 0), TIDE_REPLY);
    assert_int_equal(kv(TIDE_KV_EXPIRE, "", "", 0, 50), TIDE_OK);
    assert_true(r.last.as.kv.found);
    r.now_us += 50000;
    assert_int_equal(kv(TIDE_KV_ADD, "new", "", 0, 0), TIDE_OK);
}

static void a_name_is_a_stream_or_a_value(void **state) {
    (void)state;
    assert_int_equal(kv(TIDE_KV_SET, "v", "", 0, 0), TIDE_OK);
    assert_int_equal(rig_publish(&r, "k", "a", "x"), TIDE_WRONGTYPE);
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_WRONGTYPE);
    assert_int_equal(rig_ensure(&r, "k", "g", "0"), TIDE_WRONGTYPE);
    assert_string_equal(
        COMMAND(&r, "XADD", "k", "*", "a", "b"),
        "(error) WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_int_equal(r.last.status, TIDE_WRONGTYPE);
    assert_string_equal(COMMAND(&r, "TYPE", "k"), "string");
    assert_int_equal(kv(TIDE_KV_DELETE, "", "", 0, 0), TIDE_OK);
    assert_int_equal(rig_publish(&r, "k", "a", "x"), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_SET, "v", "", 0, 0), TIDE_WRONGTYPE);
    assert_string_equal(COMMAND(&r, "TYPE", "k"), "stream");
}

/* ---- commands and the rest ---- */

static void answers_what_it_has_not_plainly(void **state) {
    (void)state;
    assert_string_equal(COMMAND(&r, "LPUSH", "l", "1"),
                        "(error) TIDE-UNSUPPORTED LPUSH is not on this engine");
    assert_int_equal(r.last.status, TIDE_UNSUPPORTED);
    assert_string_equal(COMMAND(&r, "XGROUP", "CREATE", "s", "g", "0"),
                        "(error) ERR The XGROUP subcommand requires the key to exist. Note that "
                        "for CREATE you may want to use the MKSTREAM option to create an empty "
                        "stream automatically.");
    assert_int_equal(r.last.status, TIDE_REPLY);
    assert_string_equal(COMMAND(&r, "XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"), "OK");
    assert_string_equal(COMMAND(&r, "XGROUP", "CREATE", "s", "g", "0"),
                        "(error) BUSYGROUP Consumer Group name already exists");
    assert_int_equal(r.last.status, TIDE_EXISTS);
    assert_string_equal(COMMAND(&r, "XADD", "s"),
                        "(error) ERR wrong number of arguments for 'xadd' command");
    assert_string_equal(COMMAND(&r, "PING"), "PONG");
}

static void lists_and_deletes_keys(void **state) {
    (void)state;
    fill(1);
    kv(TIDE_KV_SET, "v", "", 0, 0);
    publish_with("later", at_a_time);
    assert_string_equal(COMMAND(&r, "KEYS", "*"),
                        "[\"s\", \"k\", \"{s}:delayed\", \"{s}:delayed:events\"]");
    assert_string_equal(COMMAND(&r, "SCAN", "0", "TYPE", "stream"), "[\"0\", [\"s\"]]");
    assert_string_equal(COMMAND(&r, "KEYS", "[a-k]"), "[\"k\"]");
    assert_string_equal(COMMAND(&r, "DEL", "s", "k", "nothing"), "2");
    assert_string_equal(COMMAND(&r, "EXISTS", "s", "{s}:delayed"), "1");
    assert_int_equal(rig_fetch(&r, "s", "g", "c", 1), TIDE_NOGROUP);
    assert_string_equal(COMMAND(&r, "FLUSHALL"), "OK");
    assert_string_equal(COMMAND(&r, "DBSIZE"), "0");
}

static void a_blocked_read_keeps_its_dollar(void **state) {
    (void)state;
    COMMAND(&r, "XADD", "s", "1-0", "a", "b");
    assert_string_equal(COMMAND(&r, "XREAD", "BLOCK", "1000", "STREAMS", "s", "$"), "(waiting)");
    tide_record record = record_of("x");
    rig_submit(&r, rig_publish_op("other", &record, 1));
    assert_true(rig_next(&r));
    assert_false(rig_next(&r));
    rig_submit(&r, rig_publish_op("s", &record, 1));
    assert_true(rig_next(&r));
    assert_int_equal(r.last.kind, TIDE_OP_PUBLISH);
    assert_true(rig_next(&r));
    assert_int_equal(r.last.kind, TIDE_OP_COMMAND);
    assert_int_equal(r.last.as.command.reply->type, TIDE_REPLY_ARRAY);
    const tide_reply *entries = &r.last.as.command.reply->as.array.items[0].as.array.items[1];
    assert_int_equal(entries->as.array.count, 1);
    assert_string_equal(COMMAND(&r, "XREAD", "BLOCK", "100", "STREAMS", "s", "$"), "(waiting)");
    r.now_us += 100000;
    assert_true(rig_next(&r));
    assert_int_equal(r.last.as.command.reply->type, TIDE_REPLY_NIL);
}

static void many_operations_share_one_commit(void **state) {
    (void)state;
    rig_ensure(&r, "s", "g", "0");
    int64_t before = rig_server_integer(&r, "commits");
    for (int i = 0; i < 100; i++) {
        tide_record record = record_of("x");
        tide_op op = rig_publish_op("s", &record, 1);
        if (i % 10 == 5) { /* a refusal among them harms nobody */
            op.as.publish.expect = TIDE_EXPECT_VERSION;
            op.as.publish.expect_version = 1000;
        }
        rig_submit(&r, op);
    }
    rig_run(&r);
    for (int i = 0; i < 100; i++) {
        assert_true(rig_next(&r));
        assert_int_equal(r.last.status, i % 10 == 5 ? TIDE_CONFLICT : TIDE_OK);
    }
    assert_int_equal(rig_server_integer(&r, "commits"), before + 1);
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "90");
}

static void bounds_what_is_under_way(void **state) {
    (void)state;
    tide_op op = {.kind = TIDE_OP_SERVER};
    tide_error error;
    for (int i = 0; i < TIDE_OPS_MAX; i++)
        assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OK);
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OVERFLOW);
    for (int i = 0; i < TIDE_OPS_MAX; i++)
        assert_true(rig_next(&r));
    assert_false(rig_next(&r));
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OK);
}

#define test(name) cmocka_unit_test_setup_teardown(name, open_memory, close_it)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(publishes_an_id_once_within_its_window),
        test(forgets_ids_whose_window_is_over),
        test(delays_promotes_and_cancels),
        test(appends_at_the_expected_version_only),
        test(trims_to_a_length),
        test(keeps_what_the_options_of_the_url_say),
        test(ids_follow_the_clock_and_never_go_back),
        test(keeps_any_bytes),
        test(refuses_what_makes_no_sense),
        test(a_group_starts_where_it_is_told_to),
        test(two_consumers_share_a_group),
        test(recovers_from_the_dead_and_extends_for_the_living),
        test(drops_what_is_gone_and_says_how_many),
        test(settles_each_in_its_way),
        test(a_late_verdict_moves_nothing_that_a_peer_has_claimed),
        test(dead_letters_go_to_the_derived_stream_when_none_is_named),
        test(a_dead_letter_that_can_not_be_written_stays_pending),
        test(keeps_values_and_compares_them),
        test(counts_and_forgets),
        test(a_name_is_a_stream_or_a_value),
        test(answers_what_it_has_not_plainly),
        test(lists_and_deletes_keys),
        test(a_blocked_read_keeps_its_dollar),
        test(many_operations_share_one_commit),
        test(bounds_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
