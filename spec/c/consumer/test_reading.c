/* SPDX-License-Identifier: MIT */
/* The way in: group, history, new entries; how much is asked for. */
#include "rig.h"

/* ---- starting ---- */

static void test_group_then_history_then_two_reads(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_STARTING);
    fake_op *op = fake_find(&w.fake, TIDE_OP_GROUP_ENSURE);
    assert_string_equal(op->start, "0");
    assert_null(fake_find(&w.fake, TIDE_OP_FETCH));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_HISTORY);
    /* Two pages of history, then the empty one. */
    for (uint64_t page = 0; page < 2; page++) {
        op = fake_find(&w.fake, TIDE_OP_FETCH);
        assert_true(op->history);
        assert_int_equal(op->after.ms, page * 4);
        fake_answer_entries(&w.fake, op, page * 4 + 1, 4, 1, 10);
        turn(&w);
    }
    op = fake_find(&w.fake, TIDE_OP_FETCH);
    assert_true(op->history);
    assert_int_equal(op->after.ms, 8);
    fake_answer(&w.fake, op, TIDE_OK);
    turn(&w);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_RUNNING);
    assert_int_equal(w.fake.submitted[TIDE_OP_FETCH], 5); /* three of history, two new */
    for (uint64_t i = 1; i <= 8; i++)
        assert_int_equal(next(&w).entry->id.ms, i);
    world_close(&w);
}

static uint32_t reads_in_flight(const world *w) {
    uint32_t reads = 0;
    for (size_t i = 0; i < w->fake.op_count; i++)
        reads += w->fake.ops[i].kind == TIDE_OP_FETCH;
    return reads;
}

static void test_one_read_while_events_trickle(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    uint64_t id = 1;
    deliver(&w, id++, 1); /* how large they are is known */
    ack(&w, next(&w).handle);
    turn(&w);
    assert_int_equal(reads_in_flight(&w), 2);
    for (int i = 0; i < 20; i++) {
        deliver(&w, id++, 1);
        ack(&w, next(&w).handle);
        serve(&w);
    }
    assert_int_equal(reads_in_flight(&w), 1);
    deliver(&w, id, 10);
    assert_int_equal(reads_in_flight(&w), 2);
    for (int i = 0; i < 10; i++)
        ack(&w, next(&w).handle);
    world_close(&w);
}

static void test_options_are_checked(void **state) {
    (void)state;
    fake_broker fake;
    tide_allocator alloc = tide_allocator_default();
    fake_broker_init(&fake, &alloc);
    tide_env env = {0};
    for (int i = 0; i < 9; i++) {
        tide_consumer_options o = options_of(10);
        if (i == 0)
            o.stream.len = 0;
        if (i == 1)
            o.group.len = 0;
        if (i == 2)
            o.prefetch = 0;
        if (i == 3)
            o.lease_ms = -1;
        if (i == 4)
            o.start = TIDE_STR("tomorrow");
        if (i == 5)
            o.retry.jitter = 2;
        if (i == 6)
            o.block_ms = 0; /* never block for ever */
        if (i == 7)
            o.prefetch = 100001;
        if (i == 8)
            o.dead_letters = o.stream;
        tide_consumer *made = NULL;
        tide_error error;
        assert_int_equal(tide_consumer_create(&made, 1, &o, &fake.base, &env, &error), TIDE_OPTION);
        assert_null(made);
        assert_true(error.message[0] != '\0');
    }
    fake_broker_deinit(&fake);
}

/* ---- window ---- */

static void test_prefetch_bounds_what_is_asked_for(void **state) {
    (void)state;
    world w;
    start(&w, options_of(20));
    uint64_t id = 1;
    uint32_t most = 0;
    for (int i = 0; i < 50; i++) {
        fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
        if (op == NULL)
            break;
        uint32_t count = op->count_max;
        deliver(&w, id, count);
        id += count;
        if (stats(&w).buffered > most)
            most = stats(&w).buffered;
    }
    assert_true(most <= 20);
    assert_true(most >= 12);
    assert_null(fake_find(&w.fake, TIDE_OP_FETCH));
    /* Handled ones make room. */
    for (int i = 0; i < 10; i++)
        ack(&w, next(&w).handle);
    assert_non_null(fake_find(&w.fake, TIDE_OP_FETCH));
    world_close(&w);
}

static void test_byte_budget_bounds_reads_F30(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(1000);
    options.prefetch_bytes = 8u << 20;
    start(&w, options);
    size_t peak = 0;
    uint64_t id = 1;
    while (id <= 100) {
        fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
        if (op != NULL) {
            size_t count = op->count_max;
            if (id + count > 101)
                count = 101 - id;
            fake_answer_entries(&w.fake, op, id, count, 1, 1u << 20);
            turn(&w);
            id += count;
        }
        if (stats(&w).bytes > peak)
            peak = stats(&w).bytes;
        tide_event event;
        if (op == NULL && has_next(&w, &event)) {
            ack(&w, event.handle);
            serve(&w);
        }
    }
    assert_true(peak <= (8u << 20) * 12 / 10);
    assert_true(peak >= 4u << 20);
    world_close(&w);
}

static void test_gone_entries_say_nothing_about_sizes_F30(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(1000));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    uint32_t asked = fake_find(&w.fake, TIDE_OP_FETCH)->count_max;
    tide_entry gone[3];
    for (uint64_t i = 0; i < 3; i++)
        gone[i] = (tide_entry){.id = {1 + i, 0}, .attempt = 2, .gone = true};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), gone, 3, (tide_id){0, 0});
    turn(&w);
    assert_true(fake_find(&w.fake, TIDE_OP_FETCH)->count_max <= asked);
    world_close(&w);
}

static void test_one_event_larger_than_the_budget_still_comes(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(1000);
    options.prefetch_bytes = 1000;
    start(&w, options);
    for (uint64_t id = 1; id <= 3; id++) {
        fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
        assert_int_equal(op->count_max, 1);
        fake_answer_entries(&w.fake, op, id, 1, 1, 5000);
        turn(&w);
        assert_null(fake_find(&w.fake, TIDE_OP_FETCH));
        ack(&w, next(&w).handle);
        serve(&w);
    }
    world_close(&w);
}

/* ---- reconnect, history ---- */

static void test_cut_read_is_followed_by_history_without_a_second_delivery_F6(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event running = next(&w); /* 1 runs, 2 is buffered */
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_UNKNOWN);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_WAITING);
    while (fake_find(&w.fake, TIDE_OP_FETCH) == NULL)
        pass(&w, 50);
    fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
    assert_true(op->history);
    assert_int_equal(op->after.ms, 0);
    fake_answer_entries(&w.fake, op, 1, 3, 2, 10); /* 1 and 2 are known, 3 had been on its way */
    turn(&w);
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    turn(&w);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_RUNNING);
    assert_int_equal(next(&w).entry->id.ms, 2);
    tide_event event;
    for (int i = 0; i < 5 && !has_next(&w, &event); i++)
        serve(&w);
    assert_int_equal(event.entry->id.ms, 3);
    serve(&w);
    assert_false(has_next(&w, &event));
    ack(&w, running.handle);
    world_close(&w);
}

static void test_history_that_overtook_an_ack_is_no_second_delivery(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    ack(&w, next(&w).handle);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_UNKNOWN);
    while (fake_find(&w.fake, TIDE_OP_FETCH) == NULL)
        pass(&w, 50);
    /* History was answered at the server before the ack, but arrives after the ack's answer. */
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 1, 1, 2, 10);
    turn(&w);
    tide_event event;
    assert_false(has_next(&w, &event));
    assert_int_equal(stats(&w).buffered, 0);
    world_close(&w);
}

static void test_history_that_brings_what_was_given_back_gives_it_back_again(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    tide_event event = next(&w);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_UNKNOWN);
    while (fake_find(&w.fake, TIDE_OP_FETCH) == NULL)
        pass(&w, 50);
    settle(&w, event.handle, (tide_verdict){.kind = TIDE_VERDICT_RELEASE});
    /* The server released it, then read the history, which leases it to us once more. */
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 1, 1, 1, 10);
    turn(&w);
    assert_false(has_next(&w, &event));
    pass(&w, 5);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_non_null(op);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_RELEASE);
    assert_int_equal(op->items[0].id.ms, 1);
    assert_int_equal(op->items[0].attempt, 0);
    world_close(&w);
}

static void test_gone_entries_are_acked_and_counted_F24(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    tide_entry gone = {.id = {5, 0}, .attempt = 2, .gone = true};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), &gone, 1, (tide_id){0, 0});
    turn(&w);
    pass(&w, 5);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ACK);
    assert_int_equal(op->items[0].id.ms, 5);
    assert_int_equal(stats(&w).gone, 1);
    assert_int_equal(w.log_lines, 1);
    tide_event event;
    assert_false(has_next(&w, &event));
    world_close(&w);
}

/* Somebody acked them after they were read, and before their attempts were asked for. */
static void test_what_is_settled_meanwhile_is_not_run(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    tide_field field = {TIDE_STR("n"), TIDE_STR("1")};
    tide_entry entries[2] = {
        {.id = {1, 0}, .fields = &field, .field_count = 1, .attempt = 1, .settled = true},
        {.id = {2, 0}, .fields = &field, .field_count = 1, .attempt = 1, .settled = true}};
    fake_answer_batch(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), entries, 2, (tide_id){0, 0});
    turn(&w);
    assert_int_equal(stats(&w).buffered, 0);
    fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH); /* the history goes on behind them */
    assert_true(op->history);
    assert_int_equal(op->after.ms, 2);
    entries[0].id.ms = 3;
    entries[1].id.ms = 4;
    entries[1].settled = false;
    fake_answer_batch(&w.fake, op, entries, 2, (tide_id){0, 0});
    turn(&w);
    assert_int_equal(stats(&w).buffered, 1);
    tide_event event = next(&w);
    assert_int_equal(event.entry->id.ms, 4);
    /* What is held stays as it is: its keep-alive will tell. */
    op = fake_find(&w.fake, TIDE_OP_FETCH);
    entries[1].settled = true;
    fake_answer_batch(&w.fake, op, entries + 1, 1, (tide_id){0, 0});
    turn(&w);
    assert_int_equal(stats(&w).running, 1);
    ack(&w, event.handle);
    world_close(&w);
}

static void test_history_that_could_not_be_read_is_read_later_F11(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    assert_true(fake_find(&w.fake, TIDE_OP_FETCH)->history);
    answer(&w, TIDE_OP_FETCH, TIDE_LOADING); /* nothing was served */
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_WAITING);
    pass(&w, 5000);
    assert_true(fake_find(&w.fake, TIDE_OP_FETCH)->history);
    world_close(&w);
}

/* A new group delivers what was settled in the old one: to be settled again, so it is taken like any other. */
static void test_what_a_new_group_delivers_is_taken_though_just_settled_F14(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    while (fake_find(&w.fake, TIDE_OP_RECOVER) == NULL)
        pass(&w, 100); /* which may have seen it before it was settled */
    ack(&w, next(&w).handle);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    deliver(&w, 1, 1);
    assert_int_equal(stats(&w).buffered, 1);
    world_close(&w);
}

/* Reading history counts a delivery, also of what is here. */
static void test_counts_of_what_is_held_go_back_after_history(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event running = next(&w);
    answer(&w, TIDE_OP_FETCH, TIDE_UNKNOWN); /* something may have been served */
    fake_op *read = fake_find(&w.fake, TIDE_OP_FETCH);
    for (; read == NULL || !read->history; read = fake_find(&w.fake, TIDE_OP_FETCH)) {
        if (read != NULL)
            fake_answer(&w.fake, read, TIDE_OK);
        pass(&w, 100);
    }
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 1, 2, 2, 10);
    turn(&w);
    pass(&w, 5);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(op->items[i].kind, TIDE_SETTLE_ATTEMPT);
        assert_int_equal(op->items[i].attempt, 1);
    }
    assert_int_equal(running.attempt, 1);
    world_close(&w);
}

/* Sizes that grow are believed at once, those that shrink slowly. */
static void test_larger_events_are_asked_for_in_smaller_numbers_at_once_F30(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(100);
    options.prefetch_bytes = 10000;
    start(&w, options);
    fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
    fake_answer_entries(&w.fake, op, 1, op->count_max, 1, 40);
    turn(&w);
    for (uint64_t id = 100; id < 500; id += 100) { /* small ones, until many are asked for */
        tide_event event;
        while (has_next(&w, &event))
            ack(&w, event.handle);
        serve(&w);
        op = fake_find(&w.fake, TIDE_OP_FETCH);
        fake_answer_entries(&w.fake, op, id, op->count_max, 1, 40);
        turn(&w);
    }
    tide_event event;
    for (int size = 40; size <= 80; size += 40) {
        while (has_next(&w, &event))
            ack(&w, event.handle);
        serve(&w);
        op = fake_find(&w.fake, TIDE_OP_FETCH);
        assert_in_range(op->count_max, 20, 100);
        fake_answer_entries(&w.fake, op, 500 + (uint64_t)size, op->count_max, 1, (size_t)size);
        turn(&w);
    }
    while (has_next(&w, &event))
        ack(&w, event.handle);
    serve(&w);
    assert_int_equal(reads_in_flight(&w), 2);
    assert_in_range(w.fake.ops[w.fake.op_count - 1].count_max, 20, 100);
    while ((op = fake_find(&w.fake, TIDE_OP_FETCH)) != NULL && op->count_max > 3) {
        fake_answer_entries(&w.fake, op, 1000 + w.fake.submitted[TIDE_OP_FETCH], 1, 1, 5000);
        turn(&w);
        while (has_next(&w, &event))
            ack(&w, event.handle);
        serve(&w);
        assert_true(w.fake.submitted[TIDE_OP_FETCH] < 40);
    }
    assert_true(w.fake.submitted[TIDE_OP_FETCH] < 12);
    world_close(&w);
}

/* Dead letters that are refused keep their events; the window goes on beside them, up to its budget. */
static void test_what_cannot_be_settled_keeps_to_the_budget_F30(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(100);
    options.prefetch_bytes = 1000;
    start(&w, options);
    uint64_t id = 1;
    for (; id < 20; id++) {
        fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
        if (op == NULL)
            break;
        fake_answer_entries(&w.fake, op, id, 1, 1, 399);
        turn(&w);
        settle(&w, next(&w).handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
        for (int i = 0; i < 100; i++) {
            op = fake_find(&w.fake, TIDE_OP_SETTLE);
            if (op != NULL)
                fake_answer(&w.fake, op, TIDE_OOM);
            op = fake_find(&w.fake, TIDE_OP_RECOVER);
            if (op != NULL)
                fake_answer(&w.fake, op, TIDE_OK);
            pass(&w, 10);
        }
    }
    assert_int_equal(id, 4);
    assert_int_equal(stats(&w).bytes, 1200); /* one more than fits, as ever */
    while (stats(&w).dead == 0) {
        if (fake_find(&w.fake, TIDE_OP_SETTLE) != NULL)
            answer(&w, TIDE_OP_SETTLE, TIDE_OK);
        pass(&w, 100);
    }
    assert_non_null(fake_find(&w.fake, TIDE_OP_FETCH));
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_then_history_then_two_reads),
        cmocka_unit_test(test_one_read_while_events_trickle),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_prefetch_bounds_what_is_asked_for),
        cmocka_unit_test(test_byte_budget_bounds_reads_F30),
        cmocka_unit_test(test_gone_entries_say_nothing_about_sizes_F30),
        cmocka_unit_test(test_one_event_larger_than_the_budget_still_comes),
        cmocka_unit_test(test_cut_read_is_followed_by_history_without_a_second_delivery_F6),
        cmocka_unit_test(test_history_that_overtook_an_ack_is_no_second_delivery),
        cmocka_unit_test(test_history_that_brings_what_was_given_back_gives_it_back_again),
        cmocka_unit_test(test_gone_entries_are_acked_and_counted_F24),
        cmocka_unit_test(test_what_is_settled_meanwhile_is_not_run),
        cmocka_unit_test(test_history_that_could_not_be_read_is_read_later_F11),
        cmocka_unit_test(test_what_a_new_group_delivers_is_taken_though_just_settled_F14),
        cmocka_unit_test(test_counts_of_what_is_held_go_back_after_history),
        cmocka_unit_test(test_larger_events_are_asked_for_in_smaller_numbers_at_once_F30),
        cmocka_unit_test(test_what_cannot_be_settled_keeps_to_the_budget_F30),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
