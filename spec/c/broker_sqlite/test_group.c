/* SPDX-License-Identifier: MIT */
/*
 * What it is: groups on the embedded engine, in memory: reading, waiting, recovering, and every way to settle.
 * What it is not: faults of files; those are in test_faults.c.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

static rig r;

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

/* ---- reading ---- */

static void delivers_what_was_published_in_order(void **state) {
    (void)state;
    assert_int_equal(rig_ensure(&r, "orders", "g", "0"), TIDE_OK);
    assert_true(r.last.as.group_ensure.created);
    assert_int_equal(rig_ensure(&r, "orders", "g", "0"), TIDE_OK);
    assert_false(r.last.as.group_ensure.created);
    for (int i = 0; i < 10; i++) {
        char id[32];
        snprintf(id, sizeof id, "e%d", i);
        assert_int_equal(rig_publish(&r, "orders", id, "payload"), TIDE_OK);
        assert_int_equal(r.last.as.publish.count, 1);
        assert_int_equal(r.last.as.publish.results[0].status, TIDE_OK);
        assert_int_equal(r.last.as.publish.results[0].id.seq, i);
    }
    assert_int_equal(rig_fetch(&r, "orders", "g", "c", 4), TIDE_OK);
    tide_batch *batch = r.last.as.fetch.batch;
    assert_int_equal(rig_count(batch), 4);
    for (size_t i = 0; i < 4; i++) {
        const tide_entry *entry = tide_batch_entry(batch, i);
        char id[32];
        snprintf(id, sizeof id, "e%zu", i);
        assert_int_equal(entry->attempt, 1);
        assert_int_equal(entry->field_count, 3);
        assert_str(rig_field(entry, "event_id"), id);
        assert_str(rig_field(entry, "data"), "payload");
    }
    tide_settlement ack = {.kind = TIDE_SETTLE_ACK, .id = tide_batch_entry(batch, 0)->id};
    tide_batch_release(batch);
    assert_int_equal(rig_settle(&r, "orders", "g", "c", ack), TIDE_OK);
    assert_int_equal(rig_settle(&r, "orders", "g", "c", ack), TIDE_OK); /* again is fine */
    tide_op history = rig_fetch_op("orders", "g", "c", 100);
    history.as.fetch.history = true;
    assert_int_equal(rig_do(&r, history), TIDE_OK);
    batch = r.last.as.fetch.batch;
    assert_int_equal(rig_count(batch), 3);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 2);
    assert_int_equal(tide_batch_entry(batch, 0)->id.seq, 1);
    tide_batch_release(batch);
}

static void waits_for_the_first_entry_and_no_longer(void **state) {
    (void)state;
    rig_ensure(&r, "s", "g", "0");
    tide_op fetch = rig_fetch_op("s", "g", "c", 10);
    fetch.as.fetch.block_ms = 100;
    uint64_t first = rig_submit(&r, fetch), second = rig_submit(&r, fetch);
    assert_false(rig_next(&r));
    assert_int_equal(r.broker->vtable->deadline_us(r.broker), r.now_us + 100000);
    rig_submit(
        &r,
        rig_publish_op(
            "s", &(tide_record){&(tide_field){TIDE_STR("a"), TIDE_STR("b")}, 1, TIDE_STR("")}, 1));
    assert_true(rig_next(&r));
    assert_int_equal(r.last.kind, TIDE_OP_PUBLISH);
    assert_true(rig_next(&r));
    assert_int_equal(r.last.tag, first);
    assert_int_equal(rig_count(r.last.as.fetch.batch), 1);
    tide_batch_release(r.last.as.fetch.batch);
    assert_false(rig_next(&r));
    r.now_us += 100000;
    r.broker->vtable->tick(r.broker, r.now_us);
    assert_true(rig_next(&r));
    assert_int_equal(r.last.tag, second);
    assert_int_equal(r.last.status, TIDE_OK);
    assert_null(r.last.as.fetch.batch);
    fetch.as.fetch.block_ms = 10000000;
    uint64_t third = rig_submit(&r, fetch);
    assert_false(rig_next(&r));
    r.broker->vtable->interrupt(r.broker, 1, r.now_us);
    assert_true(rig_next(&r));
    assert_int_equal(r.last.tag, third);
    assert_null(r.last.as.fetch.batch);
    rig_submit(&r, fetch); /* still waiting at the end */
}

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

/* ---- settling ---- */

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
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_DEAD, ids[0])),
                     TIDE_NOTFOUND);
    assert_string_equal(COMMAND(&r, "XLEN", "dlq"), "1"); /* not pending any more */
    assert_int_equal(rig_settle(&r, "s", "g", "c", settlement(TIDE_SETTLE_DELAY, ids[1])), TIDE_OK);
    assert_string_equal(COMMAND(&r, "ZCARD", "{s}:delayed"), "1");
    int64_t next_due_ms;
    r.now_us += 100000;
    assert_int_equal(rig_promote(&r, "s", &next_due_ms), 1);
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
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_DEAD, ids[0])),
            TIDE_NOTFOUND);
        assert_int_equal(
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_DELAY, ids[1])),
            TIDE_NOTFOUND);
        assert_int_equal(
            rig_settle(&r, "s", "g", consumers[i], settlement(TIDE_SETTLE_RELEASE, ids[0])),
            TIDE_NOTFOUND);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_MEMORY(delivers_what_was_published_in_order, &r),
        IN_MEMORY(waits_for_the_first_entry_and_no_longer, &r),
        IN_MEMORY(a_group_starts_where_it_is_told_to, &r),
        IN_MEMORY(two_consumers_share_a_group, &r),
        IN_MEMORY(recovers_from_the_dead_and_extends_for_the_living, &r),
        IN_MEMORY(drops_what_is_gone_and_says_how_many, &r),
        IN_MEMORY(settles_each_in_its_way, &r),
        IN_MEMORY(a_late_verdict_moves_nothing_that_a_peer_has_claimed, &r),
        IN_MEMORY(dead_letters_go_to_the_derived_stream_when_none_is_named, &r),
        IN_MEMORY(a_dead_letter_that_can_not_be_written_stays_pending, &r),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
