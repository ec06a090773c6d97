/* SPDX-License-Identifier: MIT */
/* Leases, dead peers, the delayed set. */
#include "rig.h"

static void test_lease_is_renewed_each_third(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 3);
    next(&w);
    pass(&w, 5001);
    fake_op *op = fake_find(&w.fake, TIDE_OP_EXTEND);
    assert_int_equal(op->count, 3);
    fake_answer_lost(&w.fake, op, (tide_id[]){{1, 0}, {2, 0}}, 2);
    turn(&w);
    assert_int_equal(stats(&w).lost_lease, 2);
    assert_int_equal(stats(&w).buffered, 1); /* 2 is somebody else's now */
    assert_int_equal(next(&w).entry->id.ms, 3);
    world_close(&w);
}

static void test_late_verdicts_of_a_lost_event_are_harmless_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event a = next(&w), b = next(&w);
    pass(&w, 5001);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}, {2, 0}}, 2);
    turn(&w);
    settle(&w, a.handle, failure); /* the other one decides */
    assert_int_equal(stats(&w).waiting, 0);
    ack(&w, b.handle); /* handled is handled */
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->items[0].id.ms, 2);
    world_close(&w);
}

static void test_nothing_runs_after_a_pause_before_the_lease_is_seen_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    w.now_us += 30000000; /* stopped for 30 s */
    tide_event event;
    assert_false(has_next(&w, &event));
    fake_op *op = fake_find(&w.fake, TIDE_OP_EXTEND);
    assert_int_equal(op->count, 2);
    assert_null(fake_find(&w.fake, TIDE_OP_RECOVER));
    fake_answer_lost(&w.fake, op, (tide_id[]){{1, 0}}, 1);
    turn(&w);
    assert_int_equal(next(&w).entry->id.ms, 2);
    assert_false(has_next(&w, &event));
    world_close(&w);
}

static void test_what_waited_through_a_pause_may_be_lost_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    w.now_us += 30000000; /* stopped for 30 s, with a read's answer on its way */
    turn(&w);
    deliver(&w, 1, 2);
    tide_event event;
    assert_false(has_next(&w, &event));
    fake_op *op = fake_find(&w.fake, TIDE_OP_EXTEND); /* begun in the same microsecond */
    assert_int_equal(op->count, 2);
    fake_answer_lost(&w.fake, op, (tide_id[]){{1, 0}}, 1);
    turn(&w);
    assert_int_equal(next(&w).entry->id.ms, 2);
    assert_false(has_next(&w, &event));
    world_close(&w);
}

static void test_what_comes_back_while_it_runs_is_kept_again_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event event = next(&w);
    pass(&w, 5001);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
    turn(&w);
    /* Whoever had taken it gave it back, and our own recovery brought it here. */
    tide_field field = {TIDE_STR("n"), TIDE_STR("1")};
    tide_entry entry = {.id = {1, 0}, .fields = &field, .field_count = 1, .attempt = 2};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_RECOVER), &entry, 1, (tide_id){0, 0});
    turn(&w);
    pass(&w, 5001);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_EXTEND)->count, 1);
    settle(&w, event.handle, failure); /* it is ours to decide */
    assert_int_equal(stats(&w).waiting, 1);
    world_close(&w);
}

static void test_what_comes_back_under_a_count_is_read_again(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(100);
    options.retry.delay_ms = 5001;
    start(&w, options);
    deliver(&w, 1, 1);
    settle(&w, next(&w).handle, failure);
    pass(&w, 5001); /* its next attempt is being counted, and its lease renewed */
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].kind, TIDE_SETTLE_ATTEMPT);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
    turn(&w);
    tide_field field = {TIDE_STR("n"), TIDE_STR("1")};
    tide_entry entry = {.id = {1, 0}, .fields = &field, .field_count = 1, .attempt = 3};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_RECOVER), &entry, 1, (tide_id){0, 0});
    turn(&w);
    answer(&w, TIDE_OP_SETTLE, TIDE_NOTFOUND);
    for (int i = 0; i < 2; i++) {
        if (!fake_find(&w.fake, TIDE_OP_FETCH)->history)
            answer(&w, TIDE_OP_FETCH, TIDE_OK);
    }
    assert_true(fake_find(&w.fake, TIDE_OP_FETCH)->history);
    world_close(&w);
}

static void test_the_dead_are_recovered_from_page_by_page_F23(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    pass(&w, 500);
    fake_op *op = fake_find(&w.fake, TIDE_OP_RECOVER);
    assert_non_null(op);
    assert_int_equal(op->after.ms, 0);
    tide_field field = {TIDE_STR("n"), TIDE_STR("1")};
    tide_entry entry = {.id = {1, 0}, .fields = &field, .field_count = 1, .attempt = 2};
    fake_answer_batch(&w.fake, op, &entry, 1, (tide_id){50, 0});
    turn(&w);
    op = fake_find(&w.fake, TIDE_OP_RECOVER);
    assert_int_equal(op->after.ms, 50); /* the round goes on */
    answer(&w, TIDE_OP_RECOVER, TIDE_OK);
    assert_null(fake_find(&w.fake, TIDE_OP_RECOVER)); /* and is complete */
    assert_int_equal(stats(&w).recovered, 1);
    tide_event event;
    for (int i = 0; i < 5 && !has_next(&w, &event); i++)
        serve(&w);
    assert_int_equal(event.attempt, 2);
    world_close(&w);
}

static void test_promotion_follows_the_next_due_time(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    fake_answer_promote(&w.fake, fake_find(&w.fake, TIDE_OP_PROMOTE), 0, 120);
    turn(&w);
    pass(&w, 119);
    assert_null(fake_find(&w.fake, TIDE_OP_PROMOTE));
    pass(&w, 1);
    fake_answer_promote(&w.fake, fake_find(&w.fake, TIDE_OP_PROMOTE), 1, -1);
    turn(&w);
    pass(&w, 499);
    assert_null(fake_find(&w.fake, TIDE_OP_PROMOTE));
    pass(&w, 1);
    assert_non_null(fake_find(&w.fake, TIDE_OP_PROMOTE));
    world_close(&w);
}

static void test_promotion_follows_a_wake(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    assert_int_equal(w.fake.watching, 1);
    /* While a look is under way, which may have been before it: another look, at once. */
    fake_op *look = fake_find(&w.fake, TIDE_OP_PROMOTE);
    w.fake.wakes++;
    turn(&w);
    fake_answer_promote(&w.fake, look, 0, -1);
    turn(&w);
    look = fake_find(&w.fake, TIDE_OP_PROMOTE);
    assert_non_null(look);
    fake_answer_promote(&w.fake, look, 0, 300);
    turn(&w);
    assert_null(fake_find(&w.fake, TIDE_OP_PROMOTE));
    /* While none is: now, and then when it says that the first is due. */
    pass(&w, 100);
    w.fake.wakes++;
    turn(&w);
    look = fake_find(&w.fake, TIDE_OP_PROMOTE);
    assert_non_null(look);
    fake_answer_promote(&w.fake, look, 0, 50);
    turn(&w);
    pass(&w, 49);
    assert_null(fake_find(&w.fake, TIDE_OP_PROMOTE));
    pass(&w, 1);
    assert_non_null(fake_find(&w.fake, TIDE_OP_PROMOTE));
    tide_consumer_stop(w.consumer, w.now_us);
    turn(&w);
    assert_int_equal(w.fake.watching, 0);
    world_close(&w);
    start(&w, options_of(100));
    world_close(&w);
    assert_int_equal(w.fake.watching, 0);
}

static void recovered(world *w, uint64_t id, uint32_t attempt) {
    while (fake_find(&w->fake, TIDE_OP_RECOVER) == NULL)
        pass(w, 100);
    fake_answer_entries(&w->fake, fake_find(&w->fake, TIDE_OP_RECOVER), id, 1, attempt, 10);
    turn(w);
}

/* Taken from us, given back, and claimed again, all while one round of keep-alive was on its way. */
static void test_what_came_after_a_round_began_is_not_lost_by_it_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    pass(&w, 5001);
    fake_op *round = fake_find(&w.fake, TIDE_OP_EXTEND);
    assert_int_equal(round->count, 1);
    recovered(&w, 1, 1);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
    turn(&w);
    assert_int_equal(stats(&w).buffered, 1);
    assert_int_equal(stats(&w).lost_lease, 0);
    world_close(&w);
}

static void test_what_is_lost_is_not_renewed_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    next(&w);
    next(&w);
    pass(&w, 5001);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
    turn(&w);
    pass(&w, 5001);
    fake_op *op = fake_find(&w.fake, TIDE_OP_EXTEND);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->ids[0].ms, 2);
    world_close(&w);
}

/* What comes new has a lease of its own; it says nothing about what was there. */
static void test_an_arrival_renews_nothing_F32(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    for (int i = 0; i < 3; i++)
        pass(&w, 4000); /* no answer to the keep-alive */
    deliver(&w, 2, 1);
    pass(&w, 4000);
    tide_event event;
    assert_false(has_next(&w, &event)); /* 16 s: a peer may have 1 */
    answer(&w, TIDE_OP_EXTEND, TIDE_OK);
    answer(&w, TIDE_OP_EXTEND, TIDE_OK); /* one that began after that */
    assert_int_equal(next(&w).entry->id.ms, 1);
    world_close(&w);
}

static void test_a_keep_alive_that_fails_is_tried_again_and_renews_nothing_F11(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    pass(&w, 5001);
    answer(&w, TIDE_OP_EXTEND, TIDE_LOADING);
    assert_null(fake_find(&w.fake, TIDE_OP_EXTEND));
    pass(&w, 4001);
    assert_non_null(fake_find(&w.fake, TIDE_OP_EXTEND)); /* not a third of a lease later */
    for (int i = 0; i < 2; i++) {
        answer(&w, TIDE_OP_EXTEND, TIDE_LOADING);
        pass(&w, 4001);
    }
    tide_event event;
    assert_false(has_next(&w, &event));
    world_close(&w);
}

/* A page that was under way when it was given back brings it: then the claim came after that. */
static void test_what_was_given_back_and_claimed_again_runs(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    while (fake_find(&w.fake, TIDE_OP_RECOVER) == NULL)
        pass(&w, 100);
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    /* Whether the release came before the claim or after it, nobody knows: then it is idle, and anybody's. */
    recovered(&w, 1, 1);
    tide_event event;
    assert_int_equal(stats(&w).buffered, 1);
    assert_false(has_next(&w, &event));
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ATTEMPT);
    assert_int_equal(op->items[0].attempt, 1);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(next(&w).attempt, 1);
    world_close(&w);
}

/* The release after the claim has taken the claim's delivery out of the count: that is this one. */
static void test_a_release_behind_a_claim_loses_no_attempt(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(100);
    options.retry.delay_ms = 1;
    start(&w, options);
    deliver(&w, 1, 1);
    settle(&w, next(&w).handle, failure);
    pass(&w, 2);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    while (fake_find(&w.fake, TIDE_OP_RECOVER) == NULL)
        pass(&w, 100);
    settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 1);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    recovered(&w, 1, 1);
    tide_event event;
    pass(&w, 5);
    while (!has_next(&w, &event)) {
        assert_non_null(fake_find(&w.fake, TIDE_OP_SETTLE));
        answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    }
    assert_int_equal(event.attempt, 2);
    world_close(&w);
}

/* Out of memory behind the claim, say: claimed is claimed. */
static void test_a_claim_that_did_not_arrive_is_read_from_the_history(void **state) {
    (void)state;
    static const tide_status lost[] = {TIDE_UNKNOWN, TIDE_TIMEOUT, TIDE_ENOMEM, TIDE_PROTOCOL};
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        world w;
        start(&w, options_of(100));
        while (fake_find(&w.fake, TIDE_OP_RECOVER) == NULL)
            pass(&w, 100);
        answer(&w, TIDE_OP_RECOVER, lost[i]);
        for (int k = 0; k < 2; k++) {
            if (!fake_find(&w.fake, TIDE_OP_FETCH)->history)
                answer(&w, TIDE_OP_FETCH, TIDE_OK);
        }
        assert_true(fake_find(&w.fake, TIDE_OP_FETCH)->history);
        world_close(&w);
    }
}

/* Each counts a delivery, and would find the other's in its answer. */
static void test_history_waits_for_a_claim_under_way(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    while (fake_find(&w.fake, TIDE_OP_RECOVER) == NULL)
        pass(&w, 100);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_UNKNOWN);
    for (int i = 0; i < 50; i++)
        pass(&w, 100);
    assert_null(fake_find(&w.fake, TIDE_OP_FETCH));
    answer(&w, TIDE_OP_RECOVER, TIDE_OK);
    assert_true(fake_find(&w.fake, TIDE_OP_FETCH)->history);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lease_is_renewed_each_third),
        cmocka_unit_test(test_late_verdicts_of_a_lost_event_are_harmless_F32),
        cmocka_unit_test(test_nothing_runs_after_a_pause_before_the_lease_is_seen_F32),
        cmocka_unit_test(test_what_waited_through_a_pause_may_be_lost_F32),
        cmocka_unit_test(test_what_comes_back_while_it_runs_is_kept_again_F32),
        cmocka_unit_test(test_what_comes_back_under_a_count_is_read_again),
        cmocka_unit_test(test_the_dead_are_recovered_from_page_by_page_F23),
        cmocka_unit_test(test_promotion_follows_the_next_due_time),
        cmocka_unit_test(test_promotion_follows_a_wake),
        cmocka_unit_test(test_what_came_after_a_round_began_is_not_lost_by_it_F32),
        cmocka_unit_test(test_what_is_lost_is_not_renewed_F32),
        cmocka_unit_test(test_an_arrival_renews_nothing_F32),
        cmocka_unit_test(test_a_keep_alive_that_fails_is_tried_again_and_renews_nothing_F11),
        cmocka_unit_test(test_what_was_given_back_and_claimed_again_runs),
        cmocka_unit_test(test_a_release_behind_a_claim_loses_no_attempt),
        cmocka_unit_test(test_a_claim_that_did_not_arrive_is_read_from_the_history),
        cmocka_unit_test(test_history_waits_for_a_claim_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
