/* SPDX-License-Identifier: MIT */
/* The consumer against a scripted broker: what it asks for, what it hands out, what it settles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/text.h"
#include "consumer/consumer.h"
#include "failing_allocator.h"
#include "fake_broker.h"

typedef struct world {
    failing_allocator memory;
    tide_allocator alloc;
    fake_broker fake;
    tide_consumer *consumer;
    tide_consumer_options options;
    int64_t now_us;
    unsigned log_lines;
} world;

static void count_line(void *context, tide_log_level level, tide_str line) {
    (void)line;
    if (level >= TIDE_LOG_WARN)
        ((world *)context)->log_lines++;
}

static tide_consumer_options options_of(uint32_t prefetch) {
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = TIDE_STR("orders");
    options.group = TIDE_STR("billing");
    options.consumer = TIDE_STR("me");
    options.prefetch = prefetch;
    options.retry.jitter = 0;
    return options;
}

/* Every answer is taken in, then all invariants are looked at. */
static void turn(world *w) {
    tide_completion completion;
    while (w->fake.base.vtable->next_completion(&w->fake.base, &completion)) {
        tide_consumer_complete(w->consumer, &completion, w->now_us);
        tide__consumer_check(w->consumer);
    }
    tide_consumer_tick(w->consumer, w->now_us);
    tide__consumer_check(w->consumer);
}

static void pass(world *w, int64_t ms) {
    w->now_us += ms * 1000;
    turn(w);
}

static void world_open(world *w, tide_consumer_options options) {
    memset(w, 0, sizeof *w);
    w->alloc = failing_allocator_init(&w->memory, 0, false);
    fake_broker_init(&w->fake, &w->alloc);
    w->options = options;
    w->now_us = 1000000;
    tide_env env = {.allocator = w->alloc, .log = {count_line, w}, .seed = 7};
    tide_error error;
    assert_int_equal(tide_consumer_create(&w->consumer, 3, &options, &w->fake.base, &env, &error),
                     TIDE_OK);
    turn(w);
}

static void world_close(world *w) {
    tide_consumer_destroy(w->consumer);
    fake_broker_deinit(&w->fake);
    assert_int_equal(failing_allocator_live_bytes(&w->memory), 0);
}

static void answer(world *w, tide_op_kind kind, tide_status status) {
    fake_answer(&w->fake, fake_find(&w->fake, kind), status);
    turn(w);
}

/* Group there, history empty. */
static void start(world *w, tide_consumer_options options) {
    world_open(w, options);
    answer(w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_op *history = fake_find(&w->fake, TIDE_OP_FETCH);
    assert_true(history->history);
    fake_answer(&w->fake, history, TIDE_OK);
    turn(w);
}

static void deliver(world *w, uint64_t first_ms, size_t count) {
    fake_op *op = fake_find(&w->fake, TIDE_OP_FETCH);
    assert_non_null(op);
    assert_false(op->history);
    assert_true(count <= op->count_max);
    fake_answer_entries(&w->fake, op, first_ms, count, 1, 10);
    turn(w);
}

static tide_consumer_stats stats(world *w) {
    tide_consumer_stats s;
    tide_consumer_stats_get(w->consumer, &s);
    return s;
}

static tide_event next(world *w) {
    tide_event event;
    assert_true(tide_consumer_next(w->consumer, w->now_us, &event));
    tide__consumer_check(w->consumer);
    return event;
}

static bool has_next(world *w, tide_event *event) {
    bool found = tide_consumer_next(w->consumer, w->now_us, event);
    tide__consumer_check(w->consumer);
    return found;
}

static void settle(world *w, uint64_t handle, tide_verdict verdict) {
    assert_int_equal(tide_consumer_settle(w->consumer, handle, &verdict, w->now_us), TIDE_OK);
    tide__consumer_check(w->consumer);
}

static void ack(world *w, uint64_t handle) {
    settle(w, handle, (tide_verdict){.kind = TIDE_VERDICT_ACK});
}

static const tide_verdict failure = {
    .kind = TIDE_VERDICT_FAIL, .delay_ms = -1, .reason = {"boom", 4}, .error = {"line 3", 6}};

/* Answers everything but reads with success. */
static void serve(world *w) {
    for (int i = 0; i < 20; i++) {
        static const tide_op_kind kinds[] = {TIDE_OP_SETTLE,       TIDE_OP_EXTEND,
                                             TIDE_OP_RECOVER,      TIDE_OP_PROMOTE,
                                             TIDE_OP_GROUP_ENSURE, TIDE_OP_COMMAND};
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            fake_op *op = fake_find(&w->fake, kinds[k]);
            if (op != NULL)
                fake_answer(&w->fake, op, TIDE_OK);
        }
        turn(w);
    }
}

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

/* ---- settlement ---- */

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

/* ---- retry ---- */

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

/* ---- dead letters ---- */

static void test_dead_letter_out_of_memory_keeps_the_original_F16_F26(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event a = next(&w), b = next(&w);
    settle(&w, a.handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
    ack(&w, b.handle);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 2);
    fake_answer_settle(&w.fake, op, (tide_status[]){TIDE_OOM, TIDE_OK});
    turn(&w);
    assert_int_equal(stats(&w).acked, 1);
    assert_int_equal(stats(&w).settling, 1);
    assert_int_equal(stats(&w).error.status, TIDE_OOM);
    /* Others go on meanwhile. */
    deliver(&w, 10, 1);
    ack(&w, next(&w).handle);
    op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ACK);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    uint64_t before = w.fake.submitted[TIDE_OP_SETTLE];
    for (int i = 0; i < 100; i++) {
        pass(&w, 100);
        op = fake_find(&w.fake, TIDE_OP_SETTLE);
        if (op != NULL)
            fake_answer_settle(&w.fake, op, (tide_status[]){TIDE_OOM});
    }
    assert_in_range(w.fake.submitted[TIDE_OP_SETTLE] - before, 2, 50);
    pass(&w, 5000);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(stats(&w).dead, 1);
    assert_int_equal(stats(&w).error.status, TIDE_OK);
    world_close(&w);
}

static void test_crash_loop_is_dead_lettered_before_delivery_F25(void **state) {
    (void)state;
    world w;
    world_open(&w, options_of(100));
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 6, 10);
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
        fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 7, 1, 4, 10);
        pass(&w, 5);
        fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
        if (limit == 0) { /* for ever */
            assert_null(op);
            assert_int_equal(next(&w).attempt, 4);
        } else {
            assert_int_equal(op->items[0].kind, TIDE_SETTLE_DEAD);
        }
        world_close(&w);
    }
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

/* ---- leases, recovery ---- */

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

/* ---- errors ---- */

static tide_reply text_reply(const char *text) {
    return (tide_reply){.type = TIDE_REPLY_STRING, .as.text = tide_str_from(text)};
}
static tide_reply number_reply(int64_t number) {
    return (tide_reply){.type = TIDE_REPLY_INTEGER, .as.integer = number};
}
static tide_reply list_reply(tide_reply *items, size_t count) {
    return (tide_reply){.type = TIDE_REPLY_ARRAY, .as.array = {items, count}};
}

static void look(world *w, const char *command, const tide_reply *reply) {
    fake_op *op = fake_find(&w->fake, TIDE_OP_COMMAND);
    assert_non_null(op);
    assert_string_equal(op->start, command);
    fake_answer_reply(&w->fake, op, reply);
    turn(w);
}

static void lose_group(world *w) {
    while (fake_find(&w->fake, TIDE_OP_FETCH) != NULL)
        answer(w, TIDE_OP_FETCH, TIDE_NOGROUP);
    assert_null(fake_find(&w->fake, TIDE_OP_GROUP_ENSURE));
}

static void test_lost_group_is_recreated_at_the_checkpoint_F14(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 3);
    tide_event a = next(&w), b = next(&w);
    ack(&w, a.handle);
    pass(&w, 5);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    /* 2 is the oldest that anybody has unsettled. */
    tide_reply row[4] = {number_reply(2), text_reply("2-0"), text_reply("3-0"),
                         list_reply(NULL, 0)};
    tide_reply pending = list_reply(row, 4);
    look(&w, "XPENDING orders", &pending);
    lose_group(&w);
    tide_reply info[2] = {text_reply("last-generated-id"), text_reply("3-0")};
    tide_reply stream = list_reply(info, 2);
    look(&w, "XINFO STREAM", &stream);
    fake_op *op = fake_find(&w.fake, TIDE_OP_GROUP_ENSURE);
    assert_non_null(op);
    assert_string_equal(op->start, "1-18446744073709551615");
    assert_int_equal(w.log_lines, 1);
    fake_answer(&w.fake, op, TIDE_OK);
    w.fake.done[w.fake.done_first].as.group_ensure.created = true;
    turn(&w);
    assert_int_equal(stats(&w).group_recreated, 1);
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    turn(&w);
    /* The new group delivers 2 and 3 again: both are held already. */
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 2, 2, 1, 10);
    turn(&w);
    assert_int_equal(next(&w).entry->id.ms, 3);
    tide_event event;
    assert_false(has_next(&w, &event));
    ack(&w, b.handle);
    world_close(&w);
}

static void test_checkpoint_is_how_far_the_group_has_read_when_nothing_is_pending(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    tide_reply none[4] = {number_reply(0), {0}, {0}, {0}};
    tide_reply pending = list_reply(none, 4);
    look(&w, "XPENDING orders", &pending);
    tide_reply other[6] = {text_reply("name"),
                           text_reply("other"),
                           text_reply("pending"),
                           number_reply(0),
                           text_reply("last-delivered-id"),
                           text_reply("90-0")};
    tide_reply mine[6] = {
        text_reply("name"), text_reply("billing"),           text_reply("pending"),
        number_reply(0),    text_reply("last-delivered-id"), text_reply("70-0")};
    tide_reply both[2] = {list_reply(other, 6), list_reply(mine, 6)};
    tide_reply groups = list_reply(both, 2);
    look(&w, "XINFO GROUPS", &groups);
    lose_group(&w);
    tide_reply info[2] = {text_reply("last-generated-id"), text_reply("95-0")};
    tide_reply stream = list_reply(info, 2);
    look(&w, "XINFO STREAM", &stream);
    assert_string_equal(fake_find(&w.fake, TIDE_OP_GROUP_ENSURE)->start, "70-0");
    world_close(&w);
}

static void test_group_lost_with_its_stream_begins_at_zero_F14(void **state) {
    (void)state;
    for (int missing = 0; missing < 2; missing++) {
        world w;
        start(&w, options_of(100));
        tide_reply row[4] = {number_reply(1), text_reply("50-0"), text_reply("50-0"), {0}};
        tide_reply pending = list_reply(row, 4);
        look(&w, "XPENDING orders", &pending);
        lose_group(&w);
        if (missing) {
            answer(&w, TIDE_OP_COMMAND, TIDE_REPLY); /* no such key */
        } else {
            tide_reply info[2] = {text_reply("last-generated-id"), text_reply("7-0")};
            tide_reply stream = list_reply(info, 2);
            look(&w, "XINFO STREAM", &stream);
        }
        assert_string_equal(fake_find(&w.fake, TIDE_OP_GROUP_ENSURE)->start, "0");
        world_close(&w);
    }
}

static void test_lost_group_may_stop_the_subscription_F14(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(100);
    options.group_lost = TIDE_GROUP_LOST_STOP;
    start(&w, options);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_NOGROUP);
    serve(&w);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_STOPPED);
    assert_int_equal(stats(&w).error.status, TIDE_NOGROUP);
    assert_int_equal(w.fake.submitted[TIDE_OP_GROUP_ENSURE], 1);
    world_close(&w);
}

static void test_wrong_type_parks_and_resumes_F15(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_WRONGTYPE);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_PARKED);
    pass(&w, 4900);
    assert_null(fake_find(&w.fake, TIDE_OP_GROUP_ENSURE));
    pass(&w, 100);
    while (fake_find(&w.fake, TIDE_OP_COMMAND) != NULL) /* mended: the key is gone */
        answer(&w, TIDE_OP_COMMAND, TIDE_REPLY);
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    answer(&w, TIDE_OP_FETCH, TIDE_OK);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_RUNNING);
    serve(&w);
    assert_int_equal(stats(&w).error.status, TIDE_OK);
    world_close(&w);
}

static void test_repeated_errors_cost_little_F34(void **state) {
    (void)state;
    static const tide_status kinds[] = {
        TIDE_LOADING, TIDE_READONLY, TIDE_OOM,       TIDE_MISCONF, TIDE_BUSY,       TIDE_NOAUTH,
        TIDE_NOPERM,  TIDE_NOGROUP,  TIDE_WRONGTYPE, TIDE_REPLY,   TIDE_MAXCLIENTS, TIDE_NOSCRIPT};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        world w;
        start(&w, options_of(100));
        deliver(&w, 1, 2);
        ack(&w, next(&w).handle);
        next(&w);
        uint64_t before = 0, after = 0;
        for (int i = 0; i < TIDE_OP_KIND_COUNT; i++)
            before += w.fake.submitted[i];
        unsigned lines = w.log_lines;
        for (int i = 0; i < 3000; i++) { /* 60 s */
            while (w.fake.op_count > 0) {
                fake_answer(&w.fake, &w.fake.ops[0], kinds[k]);
                turn(&w);
            }
            pass(&w, 20);
        }
        for (int i = 0; i < TIDE_OP_KIND_COUNT; i++)
            after += w.fake.submitted[i];
        assert_in_range(after - before, 10, 5 * 60);
        assert_in_range(w.log_lines - lines, 1, 61);
        /* Group and reads again as soon as they are allowed to. */
        int64_t healed = w.now_us;
        while (stats(&w).state != TIDE_CONSUMER_RUNNING) {
            while (w.fake.op_count > 0 && stats(&w).state != TIDE_CONSUMER_RUNNING) {
                fake_answer(&w.fake, &w.fake.ops[0], TIDE_OK);
                turn(&w);
            }
            pass(&w, 20);
        }
        assert_true(w.now_us - healed <= 5100000);
        world_close(&w);
    }
}

static void test_refused_submit_backs_off(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    w.fake.refuse = TIDE_OVERFLOW;
    ack(&w, next(&w).handle);
    pass(&w, 5);
    assert_int_equal(stats(&w).settling, 1);
    w.fake.refuse = TIDE_OK;
    pass(&w, 1000);
    serve(&w);
    assert_int_equal(stats(&w).acked, 1);
    world_close(&w);
}

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
        cmocka_unit_test(test_group_then_history_then_two_reads),
        cmocka_unit_test(test_one_read_while_events_trickle),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_prefetch_bounds_what_is_asked_for),
        cmocka_unit_test(test_byte_budget_bounds_reads_F30),
        cmocka_unit_test(test_one_event_larger_than_the_budget_still_comes),
        cmocka_unit_test(test_acks_go_in_batches),
        cmocka_unit_test(test_dry_window_settles_at_once),
        cmocka_unit_test(test_unknown_ack_is_sent_again_F7),
        cmocka_unit_test(test_handle_is_settled_once),
        cmocka_unit_test(test_failure_is_retried_with_backoff_and_counted),
        cmocka_unit_test(test_retried_event_waits_without_holding_others_up_F33),
        cmocka_unit_test(test_nack_delay_and_long_delay_is_moved),
        cmocka_unit_test(test_policy_and_delay_of_the_verdict_win),
        cmocka_unit_test(test_release_gives_the_attempt_back),
        cmocka_unit_test(test_dead_letter_out_of_memory_keeps_the_original_F16_F26),
        cmocka_unit_test(test_crash_loop_is_dead_lettered_before_delivery_F25),
        cmocka_unit_test(test_only_what_ran_is_counted_in_a_crash_loop_F25),
        cmocka_unit_test(test_what_may_never_have_begun_is_run_with_a_single_attempt_F25),
        cmocka_unit_test(test_a_single_attempt_that_kills_twice_is_dead_lettered_F25),
        cmocka_unit_test(test_a_single_attempt_given_back_proves_nothing_either),
        cmocka_unit_test(test_last_attempt_moved_by_a_delay_is_made_though_its_buffer_died),
        cmocka_unit_test(test_the_crash_limit_may_be_said_apart),
        cmocka_unit_test(test_cut_read_is_followed_by_history_without_a_second_delivery_F6),
        cmocka_unit_test(test_history_that_overtook_an_ack_is_no_second_delivery),
        cmocka_unit_test(test_gone_entries_are_acked_and_counted_F24),
        cmocka_unit_test(test_lease_is_renewed_each_third),
        cmocka_unit_test(test_late_verdicts_of_a_lost_event_are_harmless_F32),
        cmocka_unit_test(test_nothing_runs_after_a_pause_before_the_lease_is_seen_F32),
        cmocka_unit_test(test_what_waited_through_a_pause_may_be_lost_F32),
        cmocka_unit_test(test_the_dead_are_recovered_from_page_by_page_F23),
        cmocka_unit_test(test_promotion_follows_the_next_due_time),
        cmocka_unit_test(test_promotion_follows_a_wake),
        cmocka_unit_test(test_lost_group_is_recreated_at_the_checkpoint_F14),
        cmocka_unit_test(test_checkpoint_is_how_far_the_group_has_read_when_nothing_is_pending),
        cmocka_unit_test(test_group_lost_with_its_stream_begins_at_zero_F14),
        cmocka_unit_test(test_lost_group_may_stop_the_subscription_F14),
        cmocka_unit_test(test_wrong_type_parks_and_resumes_F15),
        cmocka_unit_test(test_repeated_errors_cost_little_F34),
        cmocka_unit_test(test_refused_submit_backs_off),
        cmocka_unit_test(test_stop_releases_what_is_buffered_F31),
        cmocka_unit_test(test_abandon_releases_what_runs),
        cmocka_unit_test(test_failure_while_stopping_is_given_back_counted),
        cmocka_unit_test(test_every_allocation_may_fail_F38),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
