/* SPDX-License-Identifier: MIT */
/*
 * What it is: the embedded engine's operations one by one, in memory.
 * What it is not: faults of files; those are in test_faults.c.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        tide_str got_ = (actual);                                                                  \
        assert_int_equal(got_.len, strlen(expected));                                              \
        assert_memory_equal(got_.data, expected, got_.len);                                        \
    } while (0)

static void delivers_what_was_published_in_order(void **state) {
    (void)state;
    rig r;
    rig_open(&r, NULL);
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
    rig_close(&r);
}

static void waits_for_the_first_entry_and_no_longer(void **state) {
    (void)state;
    rig r;
    rig_open(&r, NULL);
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
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers_what_was_published_in_order),
        cmocka_unit_test(waits_for_the_first_entry_and_no_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
