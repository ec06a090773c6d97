/* SPDX-License-Identifier: MIT */
/* How it ends, and what it does without memory. */
#include "rig.h"

/* ---- the end ---- */

static void test_stop_releases_what_is_buffered_F31(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 3);
    tide_event running = next(&w);
    tide_consumer_stop(w.consumer, w.now_us);
    tide__consumer_check(w.consumer);
    assert_int_equal(w.fake.interrupts, 1);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 2);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    /* What a read still brings goes back as well. */
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 9, 1, 1, 10);
    turn(&w);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_OK);
    serve(&w);
    assert_int_equal(stats(&w).released, 3);
    assert_false(tide_consumer_is_idle(w.consumer));
    ack(&w, running.handle);
    pass(&w, 5);
    serve(&w);
    assert_true(tide_consumer_is_idle(w.consumer));
    assert_int_equal(w.fake.drops, 1);
    assert_int_equal(tide_consumer_deadline_us(w.consumer), INT64_MAX);
    world_close(&w);
}

static void test_abandon_releases_what_runs(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event running = next(&w);
    tide_consumer_abandon(w.consumer, w.now_us);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_CANCELLED);
    serve(&w);
    assert_true(tide_consumer_is_idle(w.consumer));
    tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
    assert_int_equal(tide_consumer_settle(w.consumer, running.handle, &verdict, w.now_us),
                     TIDE_NOTFOUND);
    assert_int_equal(stats(&w).released, 1);
    world_close(&w);
}

static void test_failure_while_stopping_is_given_back_counted(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event running = next(&w);
    tide_consumer_stop(w.consumer, w.now_us);
    settle(&w, running.handle, failure);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    assert_int_equal(op->items[0].attempt, 1);
    world_close(&w);
}

/* ---- memory ---- */

/* Start, deliver, retry, dead-letter, delay, stop: whatever fails, nothing leaks, breaks or is lost. */
static bool run_life(uint64_t fail_at, bool from_then_on) {
    world w;
    memset(&w, 0, sizeof w);
    w.alloc = failing_allocator_init(&w.memory, fail_at, from_then_on);
    fake_broker_init(&w.fake, &w.alloc);
    w.now_us = 1000000;
    tide_consumer_options options = options_of(50);
    tide_env env = {.allocator = w.alloc, .seed = 1};
    tide_error error;
    tide_status status = tide_consumer_create(&w.consumer, 1, &options, &w.fake.base, &env, &error);
    if (status != TIDE_OK) {
        assert_int_equal(status, TIDE_ENOMEM);
        fake_broker_deinit(&w.fake);
        assert_int_equal(failing_allocator_live_bytes(&w.memory), 0);
        return false;
    }
    turn(&w);
    uint64_t id = 1;
    unsigned handled = 0;
    for (int i = 0; i < 400; i++) {
        serve(&w);
        fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
        if (op != NULL && op->history) {
            fake_answer(&w.fake, op, TIDE_OK);
        } else if (op != NULL && id < 40) {
            fake_answer_entries(&w.fake, op, id, 1, 1, 100);
            id++;
        }
        turn(&w);
        tide_event event;
        while (has_next(&w, &event)) {
            tide_verdict verdict = failure;
            if (event.entry->id.ms % 4 == 0)
                verdict.kind = TIDE_VERDICT_ACK;
            if (event.entry->id.ms % 4 == 1)
                verdict.delay_ms = 60000;
            settle(&w, event.handle, verdict);
            handled++;
        }
        pass(&w, 50);
    }
    assert_true(handled >= 20 || from_then_on);
    tide_consumer_stop(w.consumer, w.now_us);
    for (int i = 0; i < 200 && !tide_consumer_is_idle(w.consumer); i++) {
        while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
            answer(&w, TIDE_OP_FETCH, TIDE_OK);
        serve(&w);
        pass(&w, 500);
    }
    assert_true(tide_consumer_is_idle(w.consumer));
    bool clean = w.memory.failed == 0;
    world_close(&w);
    return clean;
}

static void test_every_allocation_may_fail_F38(void **state) {
    (void)state;
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        for (uint64_t n = 1;; n++) {
            if (run_life(n, from_then_on != 0))
                break;
            assert_true(n < 10000);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_releases_what_is_buffered_F31),
        cmocka_unit_test(test_abandon_releases_what_runs),
        cmocka_unit_test(test_failure_while_stopping_is_given_back_counted),
        cmocka_unit_test(test_every_allocation_may_fail_F38),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
