/* SPDX-License-Identifier: MIT */
/* The engine over the simplest broker there is: every operation succeeds at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/text.h"
#include "consumer/consumer.h"
#include "engine/engine.h"
#include "failing_allocator.h"

enum { DONE_MAX = 256 };

typedef struct easy_broker {
    tide_broker base;
    tide_allocator alloc;
    tide_completion done[DONE_MAX];
    size_t first, count;
    uint64_t next_ms;
    bool dry;             /* new reads wait */
    bool hold;            /* nothing is answered but put aside */
    uint64_t waiting[64]; /* tags of reads that wait */
    size_t waiting_count;
    tide_status ok[1100];
    unsigned destroyed, dropped;
} easy_broker;

static const tide_field the_field = {{"n", 1}, {"1", 1}};

static void finish(easy_broker *b, tide_completion completion) {
    if (b->count == DONE_MAX)
        abort();
    b->done[(b->first + b->count++) % DONE_MAX] = completion;
}

static tide_status submit(tide_broker *base, const tide_op *op, int64_t now_us, tide_error *error) {
    (void)now_us, (void)error;
    easy_broker *b = (easy_broker *)base;
    tide_completion c = {.kind = op->kind, .tag = op->tag};
    switch (op->kind) {
    case TIDE_OP_FETCH:
        if (!op->as.fetch.history) {
            if (b->dry) {
                b->waiting[b->waiting_count++] = op->tag;
                return TIDE_OK;
            }
            tide_batch *batch =
                tide_batch_create(&b->alloc, op->as.fetch.count_max, op->as.fetch.count_max);
            if (batch == NULL) {
                c.status = TIDE_ENOMEM;
                break;
            }
            batch->count = op->as.fetch.count_max;
            for (size_t i = 0; i < batch->count; i++)
                batch->entries[i] = (tide_entry){.id = {++b->next_ms, 0},
                                                 .fields = &the_field,
                                                 .field_count = 1,
                                                 .attempt = 1,
                                                 .bytes = 200};
            c.as.fetch.batch = batch;
        }
        break;
    case TIDE_OP_SETTLE:
        c.as.settle.results = b->ok;
        c.as.settle.count = op->as.settle.item_count;
        break;
    case TIDE_OP_PROMOTE: c.as.promote.next_due_ms = -1; break;
    default: break;
    }
    finish(b, c);
    return TIDE_OK;
}

static bool next_completion(tide_broker *base, tide_completion *completion) {
    easy_broker *b = (easy_broker *)base;
    if (b->count == 0 || b->hold)
        return false;
    *completion = b->done[b->first];
    b->first = (b->first + 1) % DONE_MAX;
    b->count--;
    return true;
}

static void interrupt(tide_broker *base, uint32_t reader, int64_t now_us) {
    (void)reader, (void)now_us;
    easy_broker *b = (easy_broker *)base;
    while (b->waiting_count > 0)
        finish(b, (tide_completion){.kind = TIDE_OP_FETCH, .tag = b->waiting[--b->waiting_count]});
}
static void drop_reader(tide_broker *base, uint32_t reader, int64_t now_us) {
    (void)reader, (void)now_us;
    ((easy_broker *)base)->dropped++;
}
static void tick(tide_broker *base, int64_t now_us) {
    (void)base, (void)now_us;
}
static int64_t deadline_us(const tide_broker *base) {
    (void)base;
    return INT64_MAX;
}
static tide_status state_of(const tide_broker *base, tide_error *error) {
    (void)base;
    return tide_error_set(error, TIDE_DISCONNECTED, "never connected");
}
static void destroy(tide_broker *base) {
    easy_broker *b = (easy_broker *)base;
    tide_completion c;
    b->hold = false;
    while (next_completion(base, &c))
        tide__completion_release(&c);
    b->destroyed++;
}

static const tide_broker_vtable vtable = {.name = "easy",
                                          .destroy = destroy,
                                          .submit = submit,
                                          .next_completion = next_completion,
                                          .interrupt = interrupt,
                                          .drop_reader = drop_reader,
                                          .tick = tick,
                                          .deadline_us = deadline_us,
                                          .state = state_of};

static tide_engine *open_on(easy_broker *b, tide_allocator alloc) {
    memset(b, 0, sizeof *b);
    b->base.vtable = &vtable;
    b->alloc = alloc;
    tide_env env = {.allocator = alloc, .seed = 1};
    tide_engine *engine = NULL;
    tide_error error;
    if (tide_engine_open_with(&engine, &b->base, &env, &error) != TIDE_OK)
        return NULL;
    return engine;
}

static tide_consumer_options options_of(const char *stream) {
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = tide_str_from(stream);
    options.group = TIDE_STR("g");
    options.consumer = TIDE_STR("c");
    return options;
}

static uint32_t subscribe(tide_engine *engine, const char *stream, int64_t now_us) {
    tide_consumer_options options = options_of(stream);
    uint32_t number = 0;
    tide_error error;
    assert_int_equal(tide_engine_subscribe(engine, &options, now_us, &number, &error), TIDE_OK);
    tide__engine_check(engine);
    return number;
}

static void turn(tide_engine *engine, int64_t now_us) {
    tide_completion c;
    tide_engine_tick(engine, now_us);
    assert_false(tide_engine_next_completion(engine, now_us, &c));
    tide__engine_check(engine);
}

static void test_completions_go_to_whom_they_belong(void **state) {
    (void)state;
    easy_broker b;
    tide_engine *engine = open_on(&b, tide_allocator_default());
    b.dry = true;
    subscribe(engine, "s", 1000);
    tide_op op = {.kind = TIDE_OP_SERVER, .tag = 42};
    tide_error error;
    assert_int_equal(tide_engine_submit(engine, &op, 1000, &error), TIDE_OK);
    op.tag = TIDE_CONSUMER_TAG_BASE | 1;
    assert_int_equal(tide_engine_submit(engine, &op, 1000, &error), TIDE_ARGUMENT);
    assert_false(tide_engine_is_idle(engine));
    tide_engine_tick(engine, 1000);
    assert_true(tide_engine_deadline_us(engine) <= 1000); /* somebody should ask for it */
    tide_completion c;
    assert_true(tide_engine_next_completion(engine, 1000, &c));
    assert_int_equal(c.tag, 42);
    assert_false(tide_engine_next_completion(engine, 1000, &c));
    assert_int_equal(tide_engine_state(engine, &error), TIDE_DISCONNECTED);
    assert_int_equal(tide_engine_state(engine, NULL), TIDE_DISCONNECTED);
    tide_engine_close(engine);
    assert_int_equal(b.destroyed, 1);
    tide_engine_close(NULL);
}

static void test_events_come_in_turn(void **state) {
    (void)state;
    easy_broker b;
    tide_engine *engine = open_on(&b, tide_allocator_default());
    uint32_t numbers[3];
    for (int i = 0; i < 3; i++)
        numbers[i] = subscribe(engine, "s", 1000);
    for (int i = 0; i < 5; i++)
        turn(engine, 1000);
    uint32_t seen[3] = {0};
    for (int i = 0; i < 30; i++) {
        tide_event event;
        assert_true(tide_engine_next_event(engine, 0, 1000, &event));
        for (int k = 0; k < 3; k++)
            seen[k] += event.consumer == numbers[k];
    }
    for (int k = 0; k < 3; k++)
        assert_int_equal(seen[k], 10);
    tide_event event;
    assert_true(tide_engine_next_event(engine, numbers[1], 1000, &event));
    assert_int_equal(event.consumer, numbers[1]);
    assert_false(tide_engine_next_event(engine, 999, 1000, &event));
    tide_engine_close(engine);
}

static void test_unsubscribed_goes_when_idle_and_its_handles_stay_dead(void **state) {
    (void)state;
    easy_broker b;
    tide_engine *engine = open_on(&b, tide_allocator_default());
    uint64_t last = 0;
    tide_verdict ack = {.kind = TIDE_VERDICT_ACK};
    for (int round = 0; round < 30; round++) {
        b.dry = false;
        uint32_t number = subscribe(engine, "s", 1000);
        for (int i = 0; i < 4; i++)
            turn(engine, 1000);
        tide_event event;
        assert_true(tide_engine_next_event(engine, number, 1000, &event));
        assert_true(event.handle > last); /* numbers come around, handles don't */
        last = event.handle;
        b.dry = true;
        assert_int_equal(tide_engine_unsubscribe(engine, number, round % 2 == 1, 1000), TIDE_OK);
        tide_consumer_stats stats;
        if (round % 2 == 0) {
            turn(engine, 1000);
            assert_int_equal(tide_engine_stats_of(engine, number, &stats), TIDE_OK);
            assert_int_equal(stats.running, 1);
            assert_int_equal(tide_engine_settle(engine, number, event.handle, &ack, 1000), TIDE_OK);
        }
        for (int i = 0; i < 6; i++)
            turn(engine, 1000);
        assert_int_equal(tide_engine_stats_of(engine, number, &stats), TIDE_NOTFOUND);
        assert_int_equal(tide_engine_settle(engine, number, event.handle, &ack, 1000),
                         TIDE_NOTFOUND);
        assert_true(tide_engine_is_idle(engine));
        assert_int_equal(b.dropped, round + 1);
    }
    assert_int_equal(tide_engine_unsubscribe(engine, 5, false, 1000), TIDE_NOTFOUND);
    tide_engine_close(engine);
}

static void test_subscriptions_are_bounded(void **state) {
    (void)state;
    easy_broker b;
    tide_engine *engine = open_on(&b, tide_allocator_default());
    b.dry = true;
    tide_consumer_options options = options_of("s");
    options.prefetch = 1;
    uint32_t number;
    tide_error error;
    b.hold = true; /* a thousand first operations would fill the list of answers */
    int made = 0;
    while (made < 200 && tide_engine_subscribe(engine, &options, 1000, &number, &error) == TIDE_OK)
        made++;
    assert_int_equal(made, 200);
    tide__engine_check(engine);
    tide_engine_close(engine);
}

static void test_every_allocation_may_fail(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, n, false);
        easy_broker b;
        tide_engine *engine = open_on(&b, alloc);
        if (engine == NULL) {
            assert_int_equal(b.destroyed, 1); /* it was taken over */
        } else {
            for (int i = 0; i < 10; i++) {
                tide_consumer_options options = options_of("s");
                options.prefetch = 4;
                uint32_t number;
                tide_error error;
                tide_status status = tide_engine_subscribe(engine, &options, 1000, &number, &error);
                assert_true(status == TIDE_OK || status == TIDE_ENOMEM);
                tide__engine_check(engine);
            }
            tide_event event;
            for (int i = 0; i < 4; i++)
                turn(engine, 1000);
            while (tide_engine_next_event(engine, 0, 1000, &event)) {
                tide_verdict verdict = {.kind = TIDE_VERDICT_REJECT};
                tide_engine_settle(engine, event.consumer, event.handle, &verdict, 1000);
                if (b.next_ms > 300)
                    b.dry = true;
                turn(engine, 1000);
            }
            tide_engine_close(engine);
        }
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        if (memory.failed == 0)
            break;
    }
}

static void test_urls_choose_the_adapter(void **state) {
    (void)state;
    static const char *const urls[] = {"memory:", "redis://h", "valkey://h:1/2", "unix:/x",
                                       "file:x.db"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        tide_engine_options options = {.url = tide_str_from(urls[i])};
        tide_engine *engine;
        tide_error error;
        assert_int_equal(tide_engine_open(&engine, &options, &error), TIDE_OK);
        const char *name = tide_engine_broker(engine)->vtable->name;
        assert_string_equal(name, urls[i][0] == 'm' || urls[i][0] == 'f' ? "sqlite" : "redis");
        tide_engine_close(engine);
    }
    static const char *const wrong[] = {"", "http://h", "redis://h:0", "memory:?no_such=1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tide_engine_options options = {.url = tide_str_from(wrong[i])};
        tide_engine *engine = NULL;
        tide_error error;
        assert_true(tide_engine_open(&engine, &options, &error) != TIDE_OK);
        assert_null(engine);
    }
}

/* Prints what handing out and settling cost; the bound is wide, machines stall. */
static void test_hot_path(void **state) {
    (void)state;
    easy_broker b;
    tide_engine *engine = open_on(&b, tide_allocator_default());
    subscribe(engine, "s", 1000);
    for (int i = 0; i < 4; i++)
        turn(engine, 1000);
    enum { EVENTS = 2000000 };
    tide_verdict ack = {.kind = TIDE_VERDICT_ACK};
    struct timespec from, to;
    uint64_t handled = 0, ticks = 0;
    clock_gettime(CLOCK_MONOTONIC, &from);
    while (handled < EVENTS) {
        tide_event event;
        while (tide_engine_next_event(engine, 0, 1000, &event)) {
            tide_engine_settle(engine, event.consumer, event.handle, &ack, 1000);
            handled++;
        }
        tide_engine_tick(engine, 1000);
        ticks++;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
    print_message("%.0f ns an event: read, handed out, settled, confirmed (%.0f events a tick)\n",
                  ns / (double)handled, (double)handled / (double)ticks);
    assert_true(ns / (double)handled < 20000);
    tide_engine_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completions_go_to_whom_they_belong),
        cmocka_unit_test(test_events_come_in_turn),
        cmocka_unit_test(test_unsubscribed_goes_when_idle_and_its_handles_stay_dead),
        cmocka_unit_test(test_subscriptions_are_bounded),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_urls_choose_the_adapter),
        cmocka_unit_test(test_hot_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
