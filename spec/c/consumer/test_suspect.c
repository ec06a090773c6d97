/* SPDX-License-Identifier: MIT */
/* What may have killed a process: how its deliveries are counted, what runs alone, what is a crash loop. */
#include "rig.h"

/* ---- counts ---- */

static void test_crash_loop_is_dead_lettered_before_delivery_F25(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 7, 10);
    turn(&w);
    tide_event event;
    assert_false(has_next(&w, &event));
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
    assert_non_null(strstr(op->bodies[0], "dead_reason=crash_loop;"));
    assert_non_null(strstr(op->bodies[0], "dead_attempts=5;"));
    world_close(&w);
}

static void test_only_what_ran_is_counted_in_a_crash_loop_F25(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 1, 3, 4, 10);
    turn(&w);
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    pass(&w, 5);
    /* All three were counted by the delivery, none has begun: the counts go back. */
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(op->items[i].attempt, 3);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    /* One at a time is counted again and runs. */
    for (uint64_t id = 1; id <= 3; id++) {
        tide_event event;
        assert_false(has_next(&w, &event));
        assert_false(has_next(&w, &event));
        op = fake_find(&w.fake, TIDE_OP_SETTLE);
        assert_int_equal(op->count, 1);
        assert_int_equal(op->items[0].id.ms, id);
        assert_int_equal(op->items[0].attempt, 4);
        answer(&w, TIDE_OP_SETTLE, TIDE_OK);
        event = next(&w);
        assert_int_equal(event.attempt, 4);
        ack(&w, event.handle);
        pass(&w, 5);
        if (id < 3)
            assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].kind, TIDE_SETTLE_ACK);
        answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    }
    world_close(&w);
}

/* With one attempt, the count after a first delivery that ended without a verdict says nothing: it may have lain in a buffer. */
static void test_what_may_never_have_begun_is_run_with_a_single_attempt_F25(void **state) {
    (void)state;
    for (int source = 0; source < 2; source++) {
        tide_consumer_options options = options_of(100);
        options.retry.attempts_max = 1;
        world w;
        fake_op *op;
        if (source == 0) { /* own history */
            world_open(&w, options);
            answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
            fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 2, 10);
            turn(&w);
            fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
        } else { /* a dead peer's */
            start(&w, options);
            pass(&w, 1000);
            fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_RECOVER), 7, 1, 2, 10);
            turn(&w);
        }
        pass(&w, 5);
        op = fake_find(&w.fake, TIDE_OP_SETTLE);
        assert_int_equal(op->items[0].kind, TIDE_SETTLE_ATTEMPT);
        assert_int_equal(op->items[0].attempt, 1);
        answer(&w, TIDE_OP_SETTLE, TIDE_OK);
        /* Counted before it runs: another death, and the count proves it. */
        tide_event event;
        assert_false(has_next(&w, &event));
        op = fake_find(&w.fake, TIDE_OP_SETTLE);
        assert_int_equal(op->items[0].kind, TIDE_SETTLE_ATTEMPT);
        assert_int_equal(op->items[0].attempt, 2);
        answer(&w, TIDE_OP_SETTLE, TIDE_OK);
        event = next(&w);
        assert_int_equal(event.attempt, 1);
        settle(&w, event.handle, failure);
        pass(&w, 5);
        op = fake_find(&w.fake, TIDE_OP_SETTLE);
        assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
        assert_non_null(strstr(op->bodies[0], "dead_reason=boom;"));
        assert_non_null(strstr(op->bodies[0], "dead_attempts=1;"));
        world_close(&w);
    }
}

static void test_no_suspect_begins_before_the_page_under_way_is_here_F25(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 2, 10);
    turn(&w);
    tide_event event;
    assert_non_null(
        fake_find(&w.fake, TIDE_OP_FETCH)); /* the next page: counted where it is read */
    assert_false(has_next(&w, &event));
    pass(&w, 5);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 1);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_false(has_next(&w, &event));
    assert_null(fake_find(&w.fake, TIDE_OP_SETTLE));
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    turn(&w);
    if (fake_find(&w.fake, TIDE_OP_RECOVER) != NULL)
        answer(&w, TIDE_OP_RECOVER, TIDE_OK);
    assert_false(has_next(&w, &event));
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 2);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(next(&w).attempt, 2);
    world_close(&w);
}

static void test_a_single_attempt_that_kills_twice_is_dead_lettered_F25(void **state) {
    (void)state;
    tide_consumer_options options = options_of(100);
    options.retry.attempts_max = 1;
    world w;
    world_open(&w, options);
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 3, 10);
    turn(&w);
    tide_event event;
    assert_false(has_next(&w, &event));
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
    assert_non_null(strstr(op->bodies[0], "dead_reason=crash_loop;"));
    assert_non_null(strstr(op->bodies[0], "dead_attempts=2;"));
    world_close(&w);
}

static void test_a_single_attempt_given_back_proves_nothing_either(void **state) {
    (void)state;
    tide_consumer_options options = options_of(100);
    options.retry.attempts_max = 1;
    world w;
    world_open(&w, options);
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 2, 2, 10);
    turn(&w);
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    pass(&w, 5);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    tide_event event;
    assert_false(has_next(&w, &event));
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    event = next(&w); /* the first runs, the second waits */
    tide_consumer_stop(w.consumer, w.now_us);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    assert_int_equal(op->items[0].id.ms, 8);
    assert_int_equal(op->items[0].attempt, 1);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    settle(&w, event.handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    assert_int_equal(op->items[0].attempt, 1);
    serve(&w);
    world_close(&w);
}

static void test_last_attempt_moved_by_a_delay_is_made_though_its_buffer_died(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100)); /* five attempts; four were made before the move */
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    static const tide_field moved[] = {{{"n", 1}, {"x", 1}},
                                       {{"tide_group", 10}, {"billing", 7}},
                                       {{"tide_attempt", 12}, {"4", 1}}};
    tide_entry entry = {.id = {9, 0}, .fields = moved, .field_count = 3, .attempt = 2, .bytes = 40};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), &entry, 1, (tide_id){0, 0});
    turn(&w);
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    pass(&w, 5);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 1);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    tide_event event;
    assert_false(has_next(&w, &event));
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 2);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(next(&w).attempt, 5);
    world_close(&w);
}

static void test_the_crash_limit_may_be_said_apart(void **state) {
    (void)state;
    tide_consumer_options options = options_of(100);
    options.retry.attempts_max = 1;
    for (uint32_t limit = 0; limit < 4; limit += 3) {
        world w;
        world_open(&w, options);
        tide_consumer_crash_limit(w.consumer, limit);
        answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
        fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 5, 10);
        pass(&w, 5);
        fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
        if (limit == 0) { /* for ever */
            assert_null(op);
            assert_int_equal(next(&w).attempt, 5);
        } else {
            assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
        }
        world_close(&w);
    }
}

/* ---- alone ---- */

/* What this process took over: `count` entries from `first` on, all of them delivered `attempt` times. */
static void take_over(world *w, uint64_t first, size_t count, uint32_t attempt) {
    pass(w, 6000);
    while (fake_find(&w->fake, TIDE_OP_RECOVER) == NULL)
        pass(w, 100);
    fake_answer_entries(&w->fake, fake_find(&w->fake, TIDE_OP_RECOVER), first, count, attempt, 10);
    turn(w);
    pass(w, 5);
    serve(w);
}

/* The attempt that a settlement under way counts for this event. */
static uint32_t counted(world *w, uint64_t id) {
    for (size_t k = 0; k < w->fake.op_count; k++) {
        const fake_op *op = &w->fake.ops[k];
        for (size_t i = 0; op->kind == TIDE_OP_SETTLE && i < op->count; i++) {
            if (op->items[i].id.ms == id && op->items[i].kind == TIDE_SETTLE_ATTEMPT)
                return op->items[i].attempt;
        }
    }
    return 0;
}

/* Two consumers of one engine. */
static void start_two(world *w, world *peer, tide_crew *crew) {
    start(w, options_of(100));
    start(peer, options_of(100));
    tide__consumer_join(w->consumer, crew);
    tide__consumer_join(peer->consumer, crew);
}

static void test_what_was_in_two_deaths_runs_alone_F25(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 10, 3);
    tide_event a = next(&w), b = next(&w), event;
    take_over(&w, 1, 2, 3);             /* older ones: each was in two deaths */
    assert_false(has_next(&w, &event)); /* 12 is ready, but nothing begins any more */
    assert_null(fake_find(&w.fake, TIDE_OP_SETTLE));
    ack(&w, a.handle);
    serve(&w);
    assert_false(has_next(&w, &event));
    ack(&w, b.handle);
    assert_true(tide_consumer_deadline_us(w.consumer) <= w.now_us);
    turn(&w); /* nothing runs: now it is counted */
    assert_int_equal(counted(&w, 1), 3);
    assert_int_equal(counted(&w, 2), 0);
    assert_false(has_next(&w, &event));
    serve(&w);
    assert_true(tide_consumer_has_event(w.consumer));
    tide_event lone = next(&w);
    assert_int_equal(lone.entry->id.ms, 1);
    assert_false(has_next(&w, &event));
    ack(&w, lone.handle);
    turn(&w);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].id.ms, 1); /* at once */
    assert_false(has_next(&w, &event)); /* not before that is known to be settled */
    assert_int_equal(counted(&w, 2), 0);
    serve(&w);
    assert_false(has_next(&w, &event)); /* then it is the second one's turn */
    assert_int_equal(counted(&w, 2), 3);
    serve(&w);
    lone = next(&w);
    assert_int_equal(lone.entry->id.ms, 2);
    assert_false(has_next(&w, &event));
    settle(&w, lone.handle,
           failure); /* a failure is no death: from here on it is a retry like others */
    assert_int_equal(next(&w).entry->id.ms, 12);
    world_close(&w);
}

static void test_last_attempt_that_ran_beside_others_is_made_once_more_alone_F25(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100)); /* five attempts */
    take_over(&w, 7, 2, 6);     /* a retry's count stood at 5, not at the 6 of one that ran alone */
    tide_event event;
    assert_false(has_next(&w, &event));
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ATTEMPT);
    assert_int_equal(op->items[0].attempt, 6);
    serve(&w);
    event = next(&w);
    assert_int_equal(event.attempt, 5);
    /* Given back, it is as it was. */
    settle(&w, event.handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    pass(&w, 5);
    op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    assert_int_equal(op->items[0].attempt, 5);
    world_close(&w);
}

static void test_last_attempt_is_counted_as_alone_F25(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    take_over(&w, 7, 1, 5);
    tide_event event;
    assert_false(has_next(&w, &event));
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 6);
    serve(&w);
    event = next(&w);
    assert_int_equal(event.attempt, 5);
    /* A verdict that allows more goes on with the attempts that were made. */
    tide_verdict verdict = failure;
    tide_retry_policy patient = w.options.retry;
    patient.attempts_max = 9;
    verdict.policy = &patient;
    verdict.delay_ms = 50;
    settle(&w, event.handle, verdict);
    pass(&w, 50);
    assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->items[0].attempt, 6);
    serve(&w);
    assert_int_equal(next(&w).attempt, 6);
    world_close(&w);
}

static void test_others_wait_a_lease_for_a_lone_one_at_most(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 10, 3);
    tide_event slow = next(&w), event;
    take_over(&w, 1, 1, 3);
    assert_false(has_next(&w, &event));
    for (int i = 0; i < 14; i++) {
        pass(&w, 1000);
        serve(&w);
        assert_false(has_next(&w, &event));
    }
    assert_true(tide_consumer_deadline_us(w.consumer) <= w.now_us + 1000000);
    pass(&w, 1000); /* what hangs isn't waited for any longer */
    serve(&w);
    assert_int_equal(next(&w).entry->id.ms, 1);
    for (int i = 0; i < 14; i++) {
        pass(&w, 1000);
        serve(&w);
        assert_false(has_next(&w, &event));
    }
    pass(&w, 1000);
    serve(&w);
    assert_int_equal(next(&w).entry->id.ms, 11);
    ack(&w, slow.handle);
    world_close(&w);
}

static void test_nothing_is_claimed_while_one_runs_alone(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    take_over(&w, 1, 1, 3);
    tide_event event;
    assert_false(has_next(&w, &event));
    serve(&w);
    event = next(&w);
    uint64_t before = w.fake.submitted[TIDE_OP_RECOVER];
    for (int i = 0; i < 14; i++) {
        pass(&w, 1000);
        serve(&w);
        assert_true(tide_consumer_deadline_us(w.consumer) > w.now_us);
    }
    assert_int_equal(w.fake.submitted[TIDE_OP_RECOVER], before);
    ack(&w, event.handle);
    serve(&w);
    assert_int_equal(w.fake.submitted[TIDE_OP_RECOVER], before + 1);
    world_close(&w);
}

static void test_a_lone_one_that_is_lost_or_given_back_holds_nobody_up(void **state) {
    (void)state;
    for (int way = 0; way < 2; way++) {
        world w;
        start(&w, options_of(100));
        deliver(&w, 10, 2);
        tide_event slow = next(&w), event;
        take_over(&w, 1, 1, 3);
        assert_false(has_next(&w, &event));
        if (way == 0) {
            w.now_us += 5001000;
            turn(&w);
            fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
            turn(&w);
            assert_int_equal(next(&w).entry->id.ms, 11);
        } else {
            tide_consumer_stop(w.consumer, w.now_us);
            tide__consumer_check(w.consumer);
            assert_int_equal(fake_find(&w.fake, TIDE_OP_SETTLE)->count, 2);
        }
        ack(&w, slow.handle);
        world_close(&w);
    }
}

/* Suspects have half of the time. */
static void test_others_go_on_between_two_lone_ones(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    take_over(&w, 1, 2, 3);
    deliver(&w, 10, 3);
    tide_event event;
    assert_false(has_next(&w, &event));
    serve(&w);
    tide_event lone = next(&w);
    pass(&w, 100);
    ack(&w, lone.handle);
    serve(&w);
    tide_event other = next(&w);
    assert_int_equal(other.entry->id.ms, 10);
    pass(&w, 99);
    assert_int_equal(next(&w).entry->id.ms, 11);
    pass(&w, 1);
    assert_false(has_next(&w, &event)); /* 12 waits */
    ack(&w, other.handle);
    world_close(&w);
    /* Where nothing else is ready, nothing is waited for. */
    start(&w, options_of(100));
    take_over(&w, 1, 2, 3);
    for (uint64_t id = 1; id <= 2; id++) {
        assert_false(has_next(&w, &event));
        serve(&w);
        lone = next(&w);
        assert_int_equal(lone.entry->id.ms, id);
        pass(&w, 100);
        ack(&w, lone.handle);
        serve(&w);
    }
    world_close(&w);
}

/* Its group is gone, say, or its settlements are refused: the others have nothing to wait for. */
static void test_nobody_waits_for_a_lone_one_that_cannot_be_counted_F15(void **state) {
    (void)state;
    world w, peer;
    tide_crew crew = {0};
    start_two(&w, &peer, &crew);
    deliver(&w, 10, 2);
    deliver(&peer, 10, 3);
    tide_event running = next(&w), event;
    take_over(&w, 1, 1, 3);
    assert_false(has_next(&w, &event));
    assert_false(has_next(&peer, &event)); /* claimed, and waits for 10 */
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_WRONGTYPE);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_PARKED);
    assert_int_equal(next(&peer).entry->id.ms, 10);
    assert_int_equal(next(&w).entry->id.ms, 11);
    assert_int_equal(next(&peer).entry->id.ms, 11);
    ack(&w, running.handle);
    world_close(&w);
    world_close(&peer);
}

/* A settlement that failed, of what was then lost: nothing is left whose success would say that all is well again. */
static void test_a_lone_one_runs_after_the_trouble_of_another(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    take_over(&w, 1, 2, 3);
    tide_event event;
    assert_false(has_next(&w, &event));
    assert_int_equal(counted(&w, 1), 3);
    answer(&w, TIDE_OP_SETTLE, TIDE_UNKNOWN);
    w.now_us += 5000; /* before it is sent again */
    tide_consumer_flush(w.consumer, w.now_us);
    while (fake_find(&w.fake, TIDE_OP_EXTEND) == NULL) {
        if (fake_find(&w.fake, TIDE_OP_SETTLE) != NULL)
            answer(&w, TIDE_OP_SETTLE, TIDE_UNKNOWN);
        pass(&w, 100);
    }
    while (fake_find(&w.fake, TIDE_OP_SETTLE) != NULL)
        answer(&w, TIDE_OP_SETTLE, TIDE_UNKNOWN);
    fake_answer_lost(&w.fake, fake_find(&w.fake, TIDE_OP_EXTEND), (tide_id[]){{1, 0}}, 1);
    turn(&w);
    for (int i = 0; i < 50 && counted(&w, 2) == 0; i++) {
        assert_false(tide_consumer_has_event(w.consumer));
        assert_true(tide_consumer_has_suspect(w.consumer)); /* so that somebody asks */
        assert_false(has_next(&w, &event));
        pass(&w, 100);
    }
    assert_int_equal(counted(&w, 2), 3);
    world_close(&w);
}

/* A page of history would be counted for nothing; it is read as soon as nobody runs alone any more. */
static void test_history_waits_for_a_lone_one_of_the_crew(void **state) {
    (void)state;
    world w, peer;
    tide_crew crew = {0};
    start(&w, options_of(100));
    world_open(&peer, options_of(100));
    tide__consumer_join(w.consumer, &crew);
    tide__consumer_join(peer.consumer, &crew);
    take_over(&w, 1, 1, 3);
    peer.now_us = w.now_us;
    tide_event event;
    assert_false(has_next(&w, &event));
    serve(&w);
    event = next(&w);
    answer(&peer, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    assert_int_equal(stats(&peer).state, TIDE_CONSUMER_HISTORY);
    assert_null(fake_find(&peer.fake, TIDE_OP_FETCH));
    assert_true(tide_consumer_deadline_us(peer.consumer) > peer.now_us);
    ack(&w, event.handle);
    serve(&w);
    assert_true(tide_consumer_deadline_us(peer.consumer) <= peer.now_us);
    turn(&peer);
    assert_true(fake_find(&peer.fake, TIDE_OP_FETCH)->history);
    assert_true(tide_consumer_deadline_us(peer.consumer) > peer.now_us);
    world_close(&w);
    world_close(&peer);
}

static void test_the_crew_waits_for_a_lone_one_F25(void **state) {
    (void)state;
    world w, peer;
    tide_crew crew = {0};
    start_two(&w, &peer, &crew);
    deliver(&peer, 10, 3);
    tide_event running = next(&peer), event;
    take_over(&w, 1, 1, 3);
    assert_false(has_next(&w, &event));
    assert_false(tide_consumer_has_event(peer.consumer));
    assert_false(has_next(&peer, &event));
    settle(&peer, running.handle, failure);
    turn(&w);
    serve(&w);
    event = next(&w);
    peer.now_us += 200000;
    turn(&peer); /* the retry is due, and isn't counted before it may run */
    fake_op *op = fake_find(&peer.fake, TIDE_OP_SETTLE);
    assert_true(op == NULL || op->items[0].kind != TIDE_SETTLE_ATTEMPT);
    assert_true(tide_consumer_deadline_us(peer.consumer) > peer.now_us);
    ack(&w, event.handle);
    serve(&w);
    assert_true(tide_consumer_deadline_us(peer.consumer) <= peer.now_us);
    assert_int_equal(next(&peer).entry->id.ms, 11);
    /* Whoever leaves holds nobody up. */
    serve(&w);
    take_over(&w, 2, 1, 3);
    assert_false(has_next(&w, &event));
    assert_ptr_equal(crew.alone, w.consumer);
    world_close(&w);
    assert_null(crew.alone);
    assert_int_equal(next(&peer).entry->id.ms, 12);
    world_close(&peer);
    assert_null(crew.first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_loop_is_dead_lettered_before_delivery_F25),
        cmocka_unit_test(test_only_what_ran_is_counted_in_a_crash_loop_F25),
        cmocka_unit_test(test_what_may_never_have_begun_is_run_with_a_single_attempt_F25),
        cmocka_unit_test(test_no_suspect_begins_before_the_page_under_way_is_here_F25),
        cmocka_unit_test(test_a_single_attempt_that_kills_twice_is_dead_lettered_F25),
        cmocka_unit_test(test_a_single_attempt_given_back_proves_nothing_either),
        cmocka_unit_test(test_last_attempt_moved_by_a_delay_is_made_though_its_buffer_died),
        cmocka_unit_test(test_the_crash_limit_may_be_said_apart),
        cmocka_unit_test(test_what_was_in_two_deaths_runs_alone_F25),
        cmocka_unit_test(test_last_attempt_that_ran_beside_others_is_made_once_more_alone_F25),
        cmocka_unit_test(test_last_attempt_is_counted_as_alone_F25),
        cmocka_unit_test(test_others_wait_a_lease_for_a_lone_one_at_most),
        cmocka_unit_test(test_nothing_is_claimed_while_one_runs_alone),
        cmocka_unit_test(test_a_lone_one_that_is_lost_or_given_back_holds_nobody_up),
        cmocka_unit_test(test_the_crew_waits_for_a_lone_one_F25),
        cmocka_unit_test(test_others_go_on_between_two_lone_ones),
        cmocka_unit_test(test_nobody_waits_for_a_lone_one_that_cannot_be_counted_F15),
        cmocka_unit_test(test_history_waits_for_a_lone_one_of_the_crew),
        cmocka_unit_test(test_a_lone_one_runs_after_the_trouble_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
