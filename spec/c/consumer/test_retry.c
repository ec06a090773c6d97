/* SPDX-License-Identifier: MIT */
/* What becomes of an event that failed. */
#include "rig.h"

static void test_failure_is_retried_with_backoff_and_counted(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event event = next(&w);
    static const int64_t delays[] = {100, 200, 400, 800};
    for (uint32_t attempt = 1; attempt < 5; attempt++) {
        assert_int_equal(event.attempt, attempt);
        settle(&w, event.handle, failure);
        assert_int_equal(stats(&w).waiting, 1);
        pass(&w, delays[attempt - 1] - 1);
        assert_false(has_next(&w, &event));
        pass(&w, 1);
        /* The count is durable before the attempt begins. */
        assert_false(has_next(&w, &event));
        fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
        assert_int_equal(op->items[0].kind, TIDE_SETTLE_ATTEMPT);
        assert_int_equal(op->items[0].attempt, attempt + 1);
        answer(&w, TIDE_OP_SETTLE, TIDE_OK);
        event = next(&w);
    }
    assert_int_equal(event.attempt, 5);
    settle(&w, event.handle, failure);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
    assert_string_equal(op->bodies[0],
                        "n=xxxxxxxxxx;dead_reason=boom;dead_error=line 3;dead_stream=orders;"
                        "dead_id=1-0;dead_group=billing;dead_consumer=me;dead_attempts=5;"
                        "dead_first_at=1;dead_at=2500;");
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(stats(&w).dead, 1);
    assert_int_equal(stats(&w).retried, 4);
    assert_int_equal(stats(&w).failed, 5);
    world_close(&w);
}

static void test_retried_event_waits_without_holding_others_up_F33(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 3);
    settle(&w, next(&w).handle, failure);
    tide_event second = next(&w), third = next(&w);
    assert_int_equal(second.entry->id.ms, 2);
    ack(&w, third.handle);
    ack(&w, second.handle);
    serve(&w);
    pass(&w, 100);
    serve(&w);
    tide_event again = next(&w);
    assert_int_equal(again.entry->id.ms, 1);
    assert_int_equal(again.attempt, 2);
    assert_int_equal(again.entry->fields[0].value.len, 10); /* its fields outlived the batch */
    world_close(&w);
}

static void test_nack_delay_and_long_delay_is_moved(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event a = next(&w), b = next(&w);
    settle(&w, a.handle, (tide_verdict){.kind = TIDE_VERDICT_NACK, .delay_ms = 50});
    settle(&w, b.handle, (tide_verdict){.kind = TIDE_VERDICT_NACK, .delay_ms = 60000});
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_DELAY);
    assert_int_equal(op->items[0].delay_ms, 60000);
    assert_string_equal(op->bodies[0], "n=xxxxxxxxxx;tide_group=billing;tide_attempt=1;");
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    pass(&w, 50);
    serve(&w);
    assert_int_equal(next(&w).attempt, 2);
    /* The moved one comes back as a new entry that carries its count. */
    tide_field fields[3] = {{TIDE_STR("n"), TIDE_STR("1")},
                            {TIDE_STR("tide_group"), TIDE_STR("billing")},
                            {TIDE_STR("tide_attempt"), TIDE_STR("1")}};
    tide_field others[3] = {fields[0], {TIDE_STR("tide_group"), TIDE_STR("another")}, fields[2]};
    tide_entry entries[2] = {
        {.id = {98, 0}, .fields = others, .field_count = 3, .attempt = 1},
        {.id = {99, 0}, .fields = fields, .field_count = 3, .attempt = 1},
    };
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), entries, 2, (tide_id){0, 0});
    turn(&w);
    tide_event moved = next(&w); /* another group's retry is acked unseen */
    assert_int_equal(moved.entry->id.ms, 99);
    assert_int_equal(moved.attempt, 2);
    settle(&w, moved.handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT, .reason = TIDE_STR("no")});
    pass(&w, 5);
    serve(&w);
    assert_int_equal(stats(&w).dead, 1);
    world_close(&w);
}

static void test_policy_and_delay_of_the_verdict_win(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event a = next(&w), b = next(&w);
    tide_retry_policy once = {.kind = TIDE_BACKOFF_FIXED, .attempts_max = 1};
    tide_verdict verdict = failure;
    verdict.policy = &once;
    settle(&w, a.handle, verdict);
    pass(&w, 5);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].kind, TIDE_SETTLE_DEAD);
    verdict = failure;
    verdict.delay_ms = 3000;
    settle(&w, b.handle, verdict);
    pass(&w, 2999);
    assert_int_equal(stats(&w).waiting, 1);
    pass(&w, 1);
    assert_int_equal(stats(&w).waiting, 0);
    world_close(&w);
}

static void test_release_gives_the_attempt_back(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    assert_int_equal(op->items[0].attempt, 0);
    world_close(&w);
}

/* A claim of our own has counted it once more, and that is being put right, when it fails. */
static void test_a_failure_keeps_the_count_that_is_under_way(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event event = next(&w);
    while (fake_find(&w.fake, TIDE_OP_RECOVER) == NULL)
        pass(&w, 100);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_RECOVER), 1, 1, 2, 10);
    turn(&w);
    pass(&w, 5);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 1);
    settle(&w, event.handle, failure);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_null(fake_find(&w.fake, TIDE_OP_SETTLE));
    pass(&w, 100);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 2);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure_is_retried_with_backoff_and_counted),
        cmocka_unit_test(test_retried_event_waits_without_holding_others_up_F33),
        cmocka_unit_test(test_nack_delay_and_long_delay_is_moved),
        cmocka_unit_test(test_policy_and_delay_of_the_verdict_win),
        cmocka_unit_test(test_release_gives_the_attempt_back),
        cmocka_unit_test(test_a_failure_keeps_the_count_that_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
