/* SPDX-License-Identifier: MIT */
/* What goes back, in which batches. */
#include "rig.h"

static void test_acks_go_in_batches(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 4);  /* the first read is small: sizes aren't known yet */
    deliver(&w, 10, 8); /* and those behind it grow */
    deliver(&w, 20, 8);
    deliver(&w, 30, 16);
    for (int i = 0; i < 24; i++)
        ack(&w, next(&w).handle);
    assert_null(fake_find(&w.fake, TIDE_OP_SETTLE)); /* waits for company */
    ack(&w, next(&w).handle);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 25); /* a quarter of the window is a full batch */
    ack(&w, next(&w).handle);
    pass(&w, 5);
    assert_int_equal(w.fake.submitted[TIDE_OP_SETTLE], 2); /* settle_ms are over */
    serve(&w);
    assert_int_equal(stats(&w).acked, 26);
    assert_int_equal(stats(&w).settling, 0);
    world_close(&w);
}

static void test_dry_window_settles_at_once(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    ack(&w, next(&w).handle);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->count, 1);
    world_close(&w);
}

static void test_unknown_ack_is_sent_again_F7(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    ack(&w, next(&w).handle);
    static const tide_status kinds[] = {TIDE_UNKNOWN, TIDE_TIMEOUT,  TIDE_DISCONNECTED,
                                        TIDE_LOADING, TIDE_READONLY, TIDE_MISCONF};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        answer(&w, TIDE_OP_SETTLE, kinds[i]);
        assert_null(fake_find(&w.fake, TIDE_OP_SETTLE)); /* not at once */
        for (int t = 0; t < 60 && fake_find(&w.fake, TIDE_OP_SETTLE) == NULL; t++)
            pass(&w, 100);
        assert_non_null(fake_find(&w.fake, TIDE_OP_SETTLE));
        assert_int_equal(stats(&w).acked, 0);
    }
    answer(&w, TIDE_OP_SETTLE, TIDE_NOTFOUND); /* somebody acked it already: fine */
    assert_int_equal(stats(&w).settling, 0);
    assert_int_equal(stats(&w).error.status, TIDE_OK);
    world_close(&w);
}

static void test_handle_is_settled_once(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event event = next(&w);
    ack(&w, event.handle);
    tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
    assert_int_equal(tide_consumer_settle(w.consumer, event.handle, &verdict, w.now_us),
                     TIDE_NOTFOUND);
    serve(&w);
    deliver(&w, 2, 1); /* takes the same slot, perhaps: the old handle stays dead */
    tide_event second = next(&w);
    assert_true(second.handle != event.handle);
    assert_int_equal(tide_consumer_settle(w.consumer, event.handle, &verdict, w.now_us),
                     TIDE_NOTFOUND);
    assert_int_equal(tide_consumer_settle(w.consumer, 0, &verdict, w.now_us), TIDE_NOTFOUND);
    world_close(&w);
}

/* Another consumer claimed them while they ran here, and nobody had noticed: nothing moved. */
static void test_stats_count_what_was_moved_only(void **state) {
    (void)state;
    static const tide_verdict verdicts[] = {
        {.kind = TIDE_VERDICT_REJECT},
        {.kind = TIDE_VERDICT_NACK, .delay_ms = 60000},
        {.kind = TIDE_VERDICT_RELEASE},
    };
    for (int outcome = 0; outcome < 4; outcome++) {
        world w;
        start(&w, options_of(100));
        deliver(&w, 1, 3);
        for (int i = 0; i < 3; i++)
            settle(&w, next(&w).handle, verdicts[i]);
        assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->count, 3);
        assert_int_equal(stats(&w).retried, 0); /* not yet */
        bool unsure = outcome >= 2; /* the first answer is lost: it may have been carried out */
        if (unsure) {
            answer(&w, TIDE_OP_SETTLE, outcome == 2 ? TIDE_UNKNOWN : TIDE_TIMEOUT);
            while (fake_find(&w.fake, TIDE_OP_SETTLE) == NULL)
                pass(&w, 100);
        }
        answer(&w, TIDE_OP_SETTLE, outcome == 0 ? TIDE_OK : TIDE_NOTFOUND);
        uint64_t want = outcome == 1 ? 0 : 1;
        tide_consumer_stats s = stats(&w);
        assert_int_equal(s.dead, want);
        assert_int_equal(s.retried, want);
        assert_int_equal(s.released, want);
        assert_int_equal(s.lost_lease, outcome == 1 ? 3 : 0);
        assert_int_equal(s.failed, 1);
        assert_int_equal(s.settling, 0);
        world_close(&w);
    }
}

/* Known to be lost before the verdict: that isn't counted a second time. */
static void test_a_late_reject_is_one_lost_lease(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event event = next(&w);
    pass(&w, 5001);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
    turn(&w);
    settle(&w, event.handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
    pass(&w, 5);
    answer(&w, TIDE_OP_SETTLE, TIDE_NOTFOUND);
    assert_int_equal(stats(&w).dead, 0);
    assert_int_equal(stats(&w).lost_lease, 1);
    world_close(&w);
}

/* A new group, say, delivered it while its ack was under way: that ack may have been the old group's. */
static void test_what_is_delivered_again_is_settled_again(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    ack(&w, next(&w).handle);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].kind, TIDE_SETTLE_ACK);
    deliver(&w, 1, 1);
    tide_event event;
    assert_false(has_next(&w, &event)); /* it has been handled */
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ACK);
    assert_int_equal(op->items[0].id.ms, 1);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_null(fake_find(&w.fake, TIDE_OP_SETTLE));
    assert_int_equal(stats(&w).acked, 1);
    world_close(&w);
}

/* A group that is gone has acked and given back all; what was to be moved has its new group to be moved from. */
static void test_what_is_moved_outlives_its_group_F14(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 4);
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_NACK, .delay_ms = 60000});
    ack(&w, next(&w).handle);
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->count, 4);
    answer(&w, TIDE_OP_SETTLE, TIDE_NOGROUP);
    assert_int_equal(stats(&w).settling, 2);
    assert_int_equal(stats(&w).dead + stats(&w).retried + stats(&w).released, 0);
    assert_int_equal(stats(&w).lost_lease, 0);
    while (fake_find(&w.fake, TIDE_OP_SETTLE) == NULL)
        pass(&w, 100);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 2);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
    assert_int_equal(op->items[1].kind, TIDE_SETTLE_DELAY);
    world_close(&w);
}

/* Out of memory, the server refuses what is moved; acks need none. */
static void test_acks_go_on_while_what_is_moved_is_refused_F16(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
    pass(&w, 5);
    for (int i = 0; i < 6; i++) { /* the pauses grow */
        answer(&w, TIDE_OP_SETTLE, TIDE_OOM);
        while (fake_find(&w.fake, TIDE_OP_SETTLE) == NULL)
            pass(&w, 100);
    }
    answer(&w, TIDE_OP_SETTLE, TIDE_OOM);
    ack(&w, next(&w).handle);
    pass(&w, 5);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_non_null(op);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ACK);
    world_close(&w);
}

/* A dead letter for whose fields there is no memory waits; an ack behind it needs none. */
static void test_acks_go_on_without_memory_for_a_dead_letter_F38(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    static tide_field fields[300];
    for (size_t i = 0; i < 300; i++)
        fields[i] = (tide_field){TIDE_STR("n"), TIDE_STR("1")};
    tide_entry entries[2] = {
        {.id = {1, 0}, .fields = fields, .field_count = 300, .attempt = 1, .bytes = 600},
        {.id = {2, 0}, .fields = fields, .field_count = 1, .attempt = 1, .bytes = 2}};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), entries, 2, (tide_id){0, 0});
    turn(&w);
    tide_event a = next(&w), b = next(&w);
    w.memory.fail_at = w.memory.asked + 1;
    w.memory.from_then_on = true;
    settle(&w, a.handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
    ack(&w, b.handle);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->items[0].id.ms, 2);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(stats(&w).acked, 1);
    w.memory.fail_at = 0;
    w.memory.from_then_on = false;
    while (fake_find(&w.fake, TIDE_OP_SETTLE) == NULL)
        pass(&w, 100);
    op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
    assert_non_null(op->bodies[0]);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acks_go_in_batches),
        cmocka_unit_test(test_dry_window_settles_at_once),
        cmocka_unit_test(test_unknown_ack_is_sent_again_F7),
        cmocka_unit_test(test_handle_is_settled_once),
        cmocka_unit_test(test_stats_count_what_was_moved_only),
        cmocka_unit_test(test_a_late_reject_is_one_lost_lease),
        cmocka_unit_test(test_what_is_delivered_again_is_settled_again),
        cmocka_unit_test(test_what_is_moved_outlives_its_group_F14),
        cmocka_unit_test(test_acks_go_on_while_what_is_moved_is_refused_F16),
        cmocka_unit_test(test_acks_go_on_without_memory_for_a_dead_letter_F38),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
