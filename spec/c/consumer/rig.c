/* SPDX-License-Identifier: MIT */
#include "rig.h"

static void count_line(void *context, tide_log_level level, tide_str line) {
    (void)line;
    if (level >= TIDE_LOG_WARN)
        ((world *)context)->log_lines++;
}

tide_consumer_options options_of(uint32_t prefetch) {
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = TIDE_STR("orders");
    options.group = TIDE_STR("billing");
    options.consumer = TIDE_STR("me");
    options.prefetch = prefetch;
    options.retry.jitter = 0;
    return options;
}

void turn(world *w) {
    tide_completion completion;
    while (w->fake.base.vtable->next_completion(&w->fake.base, &completion)) {
        tide_consumer_complete(w->consumer, &completion, w->now_us);
        tide__consumer_check(w->consumer);
    }
    tide_consumer_tick(w->consumer, w->now_us);
    tide__consumer_check(w->consumer);
}

void pass(world *w, int64_t ms) {
    w->now_us += ms * 1000;
    turn(w);
}

void world_open(world *w, tide_consumer_options options) {
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

void world_close(world *w) {
    tide_consumer_destroy(w->consumer);
    fake_broker_deinit(&w->fake);
    assert_int_equal(failing_allocator_live_bytes(&w->memory), 0);
}

void answer(world *w, tide_op_kind kind, tide_status status) {
    fake_answer(&w->fake, fake_find(&w->fake, kind), status);
    turn(w);
}

void start(world *w, tide_consumer_options options) {
    world_open(w, options);
    answer(w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    fake_op *history = fake_find(&w->fake, TIDE_OP_FETCH);
    assert_true(history->history);
    fake_answer(&w->fake, history, TIDE_OK);
    turn(w);
}

void deliver(world *w, uint64_t first_ms, size_t count) {
    fake_op *op = fake_find(&w->fake, TIDE_OP_FETCH);
    assert_non_null(op);
    assert_false(op->history);
    assert_true(count <= op->count_max);
    fake_answer_entries(&w->fake, op, first_ms, count, 1, 10);
    turn(w);
}

tide_consumer_stats stats(world *w) {
    tide_consumer_stats s;
    tide_consumer_stats_get(w->consumer, &s);
    return s;
}

tide_event next(world *w) {
    tide_event event;
    assert_true(tide_consumer_next(w->consumer, w->now_us, &event));
    tide__consumer_check(w->consumer);
    return event;
}

bool has_next(world *w, tide_event *event) {
    bool found = tide_consumer_next(w->consumer, w->now_us, event);
    tide__consumer_check(w->consumer);
    return found;
}

void settle(world *w, uint64_t handle, tide_verdict verdict) {
    assert_int_equal(tide_consumer_settle(w->consumer, handle, &verdict, w->now_us), TIDE_OK);
    tide__consumer_check(w->consumer);
}

void ack(world *w, uint64_t handle) {
    settle(w, handle, (tide_verdict){.kind = TIDE_VERDICT_ACK});
}

const tide_verdict failure = {
    .kind = TIDE_VERDICT_FAIL, .delay_ms = -1, .reason = {"boom", 4}, .error = {"line 3", 6}};

void serve(world *w) {
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
