/* SPDX-License-Identifier: MIT */
/*
 * What it is: operations of many entries, which take other statements than those of one: publishing, delivering and
 * acknowledging by the dozen must do just what one by one does.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "broker/sqlite/internal.h"

enum { MANY = 3 * TIDE__SQ_ROWS + 4 };

static rig r;

/* `count` events named e0, e1 …, in one call. */
static tide_status publish_many(size_t count, tide_expect_kind expect, tide_id *ids) {
    static char names[MANY][16];
    static tide_field fields[MANY][1];
    static tide_record records[MANY];
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "e%zu", i);
        fields[i][0] = (tide_field){TIDE_STR("event_id"), str(names[i])};
        records[i] = (tide_record){fields[i], 1, fields[i][0].value};
    }
    tide_op op = rig_publish_op("s", records, count);
    op.as.publish.expect = expect;
    tide_status status = rig_do(&r, op);
    for (size_t i = 0; i < count && ids != NULL; i++) {
        assert_int_equal(r.last.as.publish.results[i].status, TIDE_OK);
        ids[i] = r.last.as.publish.results[i].id;
    }
    return status;
}

static tide_settlement ack(tide_id id) {
    return (tide_settlement){.kind = TIDE_SETTLE_ACK, .id = id};
}

static void settle_all(const tide_settlement *items, size_t count) {
    tide_op op = {.kind = TIDE_OP_SETTLE};
    op.as.settle.stream = str("s");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.items = items;
    op.as.settle.item_count = count;
    assert_int_equal(rig_do(&r, op), TIDE_OK);
    assert_int_equal(r.last.as.settle.count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(r.last.as.settle.results[i], TIDE_OK);
}

static size_t pending_count(void) {
    const char *text = COMMAND(&r, "XPENDING", "s", "g");
    return (size_t)strtoull(text + 1, NULL, 10);
}

static void a_batch_of_any_size_is_written_in_its_order(void **state) {
    (void)state;
    uint64_t length = 0;
    tide_id last = {0, 0}, ids[MANY];
    const size_t sizes[] = {1, TIDE__SQ_ROWS - 1, TIDE__SQ_ROWS, 33, 2 * TIDE__SQ_ROWS - 1, MANY};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        assert_int_equal(publish_many(sizes[s], TIDE_EXPECT_ANY, ids), TIDE_OK);
        assert_int_equal(r.last.as.publish.version, length + sizes[s]);
        rig_ensure(&r, "s", "g", "0");
        assert_int_equal(rig_fetch(&r, "s", "g", "c", MANY), TIDE_OK);
        tide_batch *batch = r.last.as.fetch.batch;
        assert_int_equal(rig_count(batch), sizes[s]);
        for (size_t i = 0; i < sizes[s]; i++) {
            const tide_entry *entry = tide_batch_entry(batch, i);
            char want[24];
            assert_true(tide_id_compare(last, entry->id) < 0);
            assert_int_equal(tide_id_compare(ids[i], entry->id), 0);
            last = entry->id;
            snprintf(want, sizeof want, "e%zu", i);
            assert_str(rig_field(entry, "event_id"), want);
            snprintf(want, sizeof want, "%d", (int)(length + i + 1));
            assert_str(rig_field(entry, "version"), want);
            assert_int_equal(entry->attempt, 1);
        }
        tide_batch_release(batch);
        length += sizes[s];
        assert_int_equal(pending_count(), length);
    }
    char want[32];
    snprintf(want, sizeof want, "%d", (int)length);
    assert_string_equal(COMMAND(&r, "XLEN", "s"), want);
}

static void what_is_delivered_together_is_pending_for_its_consumer(void **state) {
    (void)state;
    rig_ensure(&r, "s", "g", "0");
    assert_int_equal(publish_many(MANY, TIDE_EXPECT_NONE, NULL), TIDE_OK);
    r.now_us += 5000;
    assert_int_equal(rig_fetch(&r, "s", "g", "c", MANY - 1), TIDE_OK);
    tide_batch_release(r.last.as.fetch.batch);
    assert_int_equal(rig_fetch(&r, "s", "g", "other", MANY), TIDE_OK);
    tide_batch_release(r.last.as.fetch.batch);
    char want[160];
    snprintf(want, sizeof want, "[%d, \"%d-0\", \"%d-%d\", [[\"c\", \"%d\"], [\"other\", \"1\"]]]",
             MANY, RIG_WALL_MS + 1, RIG_WALL_MS + 1, MANY - 1, MANY - 1);
    assert_string_equal(COMMAND(&r, "XPENDING", "s", "g"), want);
    r.now_us += 7000;
    snprintf(want, sizeof want, "[[\"%d-40\", \"c\", 7, 1]]", RIG_WALL_MS + 1);
    char id[32];
    snprintf(id, sizeof id, "%d-40", RIG_WALL_MS + 1);
    assert_string_equal(COMMAND(&r, "XPENDING", "s", "g", id, id, "1"), want);
}

static void acknowledges_just_what_it_is_told(void **state) {
    (void)state;
    tide_id ids[MANY];
    rig_ensure(&r, "s", "g", "0");
    assert_int_equal(publish_many(MANY, TIDE_EXPECT_NONE, ids), TIDE_OK);
    assert_int_equal(rig_fetch(&r, "s", "g", "c", MANY), TIDE_OK);
    tide_batch_release(r.last.as.fetch.batch);
    /* A run with a gap, one backwards, one twice, one by one. */
    const int order[] = {3, 4, 5, 6, 8, 9, 20, 19, 18, 40, 41, 41, 42, 60, 62, 64};
    tide_settlement items[16];
    bool acked[MANY] = {false};
    for (size_t i = 0; i < 16; i++) {
        items[i] = ack(ids[order[i]]);
        acked[order[i]] = true;
    }
    settle_all(items, 16);
    assert_int_equal(pending_count(), MANY - 15);
    for (size_t i = 0; i < MANY; i++) {
        char id[32];
        id[tide_id_format(id, ids[i])] = '\0';
        bool gone = strcmp(COMMAND(&r, "XPENDING", "s", "g", id, id, "1"), "[]") == 0;
        assert_int_equal(gone, acked[i]);
    }
    /* Another verdict ends a run. */
    static const tide_field fields[] = {{{"a", 1}, {"b", 1}}};
    tide_settlement mixed[] = {
        ack(ids[70]),
        ack(ids[71]),
        {.kind = TIDE_SETTLE_DEAD, .id = ids[72], .fields = fields, .field_count = 1},
        ack(ids[73]),
        {.kind = TIDE_SETTLE_RELEASE, .id = ids[74], .attempt = 0},
    };
    settle_all(mixed, 5);
    assert_string_equal(COMMAND(&r, "XLEN", "{s}:dlq"), "1");
    assert_int_equal(pending_count(), MANY - 15 - 4);
}

static void acknowledges_the_largest_ids_there_are(void **state) {
    (void)state;
    static const char *const names[] = {"5-0",
                                        "5-1",
                                        "5-9223372036854775806",
                                        "5-9223372036854775807",
                                        "5-9223372036854775808",
                                        "5-18446744073709551614",
                                        "5-18446744073709551615",
                                        "6-0"};
    enum { COUNT = sizeof names / sizeof names[0] };
    tide_id ids[COUNT];
    rig_ensure(&r, "s", "g", "0");
    for (size_t i = 0; i < COUNT; i++) {
        COMMAND(&r, "XADD", "s", names[i], "a", "b");
        assert_true(tide_id_parse(str(names[i]), 0, &ids[i]));
    }
    assert_int_equal(rig_fetch(&r, "s", "g", "c", 100), TIDE_OK);
    tide_batch_release(r.last.as.fetch.batch);
    tide_settlement items[] = {ack(ids[6]),
                               ack(ids[0])}; /* the next number after the largest is 0 */
    settle_all(items, 2);
    assert_int_equal(pending_count(), COUNT - 2);
    tide_settlement rest[] = {ack(ids[2]), ack(ids[3]), ack(ids[4]), ack(ids[5]), ack(ids[7])};
    settle_all(rest, 5);
    assert_string_equal(COMMAND(&r, "XPENDING", "s", "g", "-", "+", "10"),
                        "[[\"5-1\", \"c\", 0, 1]]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_MEMORY(a_batch_of_any_size_is_written_in_its_order, &r),
        IN_MEMORY(what_is_delivered_together_is_pending_for_its_consumer, &r),
        IN_MEMORY(acknowledges_just_what_it_is_told, &r),
        IN_MEMORY(acknowledges_the_largest_ids_there_are, &r),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
