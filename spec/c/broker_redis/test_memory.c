/* SPDX-License-Identifier: MIT */
/* The N-th allocation fails, for every N; and warm, none is made for an event. */
#include "rig.h"

#include <stdio.h>

#include "base/alloc.h"
#include "failing_allocator.h"

/* Submits, or knows that memory was short: then nothing happened. */
static bool try_submit(rig *r, const tide_op *op) {
    tide_error error;
    tide_status status = r->broker->vtable->submit(r->broker, op, r->now_us, &error);
    assert_true(status == TIDE_OK || status == TIDE_ENOMEM);
    return status == TIDE_OK;
}

/* Answers whatever wants to be sent or opened until nothing does. The connection may be dropped for want of memory. */
static void serve(rig *r, const char *shared, const char *reader) {
    for (int turn = 0; turn < 6; turn++) {
        tide_link_want want;
        r->broker->vtable->tick(r->broker, r->now_us);
        while (r->broker->vtable->next_link_want(r->broker, &want)) {
            if (want.action != TIDE_LINK_OPEN)
                continue;
            r->broker->vtable->link_opened(r->broker, want.link, r->now_us);
            if (rig_send(r, want.link, SIZE_MAX) > 0)
                rig_feed(r, want.link, GREETING_REPLIES);
        }
        if (rig_send(r, 0, SIZE_MAX) > 0)
            rig_feed(r, 0, shared);
        if (rig_send(r, 1, SIZE_MAX) > 0)
            rig_feed(r, 1, reader);
        r->now_us += 1000000;
    }
}

static void drain(rig *r, int *count) {
    tide_completion done;
    while (r->broker->vtable->next_completion(r->broker, &done)) {
        (*count)++;
        if (done.kind == TIDE_OP_FETCH)
            tide_batch_release(done.as.fetch.batch);
        if (done.kind == TIDE_OP_RECOVER)
            tide_batch_release(done.as.recover.batch);
    }
}

static void work(const tide_allocator *alloc) {
    rig r;
    if (!rig_start(&r, "redis://h", alloc))
        return;
    int submitted = 0, completed = 0;
    tide_op publish = publish_op(1, "s", three, 3);
    tide_op once = publish_op(1, "s", three, 3);
    once.as.publish.dedupe_window_ms = 100;
    submitted += try_submit(&r, &publish);
    serve(&r, "$3\r\n5-1\r\n$3\r\n5-2\r\n$3\r\n5-3\r\n", "");
    drain(&r, &completed);
    submitted += try_submit(&r, &once);
    serve(&r, "-NOSCRIPT x\r\n", "");
    serve(&r, "*6\r\n$3\r\n5-1\r\n:0\r\n$3\r\n5-2\r\n:0\r\n-OOM x\r\n:0\r\n", "");
    drain(&r, &completed);
    tide_op fetch = fetch_op(2, "s", "c", 10, 0);
    fetch.as.fetch.history = true;
    submitted += try_submit(&r, &fetch);
    serve(&r, "",
          "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n8-1\r\n*2\r\n$4\r\ndata\r\n$1\r\nx\r\n"
          "*1\r\n*4\r\n$3\r\n8-1\r\n$1\r\nc\r\n:1\r\n:4\r\n");
    drain(&r, &completed);
    tide_settlement items[2] = {
        {.id = {1, 2}},
        {.kind = TIDE_SETTLE_DELAY, .id = {3, 4}, .fields = one_field, .field_count = 1}};
    tide_op settle = settle_op(3, "s", items, 2);
    submitted += try_submit(&r, &settle);
    serve(&r, ":1\r\n:1\r\n", "");
    tide_id id = {1, 1};
    tide_op extend = extend_op(7, "s", &id, 1);
    submitted += try_submit(&r, &extend);
    serve(&r, "*1\r\n$3\r\n1-1\r\n", "");
    tide_op recover = recover_op(8, "s", "c", 500);
    submitted += try_submit(&r, &recover);
    serve(&r,
          "*2\r\n$3\r\n0-0\r\n*2\r\n*-1\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
          "*2\r\n$3\r\n2-0\r\n:3\r\n*0\r\n",
          "");
    tide_op info = {.kind = TIDE_OP_SERVER, .tag = 9};
    submitted += try_submit(&r, &info);
    serve(&r,
          "$9\r\na:b\r\nrole:\r\n$3\r\nc:d\r\n$0\r\n\r\n$6\r\nrole:m\r\n-NOPERM x\r\n-NOPERM "
          "x\r\n-NOPERM x\r\n",
          "");
    tide_str words[2] = {str("GET"), str("k")};
    tide_op command = {.kind = TIDE_OP_COMMAND, .tag = 10};
    command.as.command.args = words;
    command.as.command.arg_count = 2;
    submitted += try_submit(&r, &command);
    serve(&r, "$1\r\nx\r\n", "");
    rig_pass(&r, 60000);
    rig_pass(&r, 60000);
    drain(&r, &completed);
    assert_int_equal(submitted, completed);
    rig_stop(&r);
}

static void the_nth_allocation_fails(void **state) {
    (void)state;
    rig_fail_each_allocation(work, 30);
}

static void no_allocation_for_each_event_when_warm(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    rig r;
    rig_start(&r, "redis://h", &alloc);
    rig_connect(&r, 0);
    static tide_record records[100];
    for (int i = 0; i < 100; i++)
        records[i] = three[0];
    static char ids[100 * 9 + 1], entries[8192];
    int len = snprintf(entries, sizeof entries, "*1\r\n*2\r\n$1\r\ns\r\n*100\r\n");
    for (int i = 0; i < 100; i++) {
        memcpy(ids + i * 9, "$3\r\n5-1\r\n", 9);
        len += snprintf(entries + len, sizeof entries - (size_t)len,
                        "*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    }
    tide_settlement items[100];
    for (int i = 0; i < 100; i++)
        items[i] = (tide_settlement){.id = {5, 1}};
    uint64_t before = 0;
    for (int round = 0; round < 20; round++) {
        if (round == 10)
            before = memory.asked;
        tide_op publish = publish_op(1, "s", records, 100);
        rig_ask(&r, 0, &publish);
        rig_feed(&r, 0, ids);
        tide_completion done;
        rig_expect(&r, &done, 1, TIDE_OK);
        tide_op fetch = fetch_op(2, "s", "c", 10, 100);
        rig_submit(&r, &fetch);
        if (round == 0)
            rig_connect(&r, 1);
        rig_send(&r, 1, SIZE_MAX);
        rig_feed(&r, 1, entries);
        rig_expect(&r, &done, 2, TIDE_OK);
        assert_int_equal(tide_batch_count(done.as.fetch.batch), 100);
        tide_batch_release(done.as.fetch.batch);
        tide_op settle = settle_op(3, "s", items, 100);
        rig_ask(&r, 0, &settle);
        rig_feed(&r, 0, ":100\r\n");
        rig_expect(&r, &done, 3, TIDE_OK);
    }
    /* One batch a read is all that is left. */
    assert_in_range(memory.asked - before, 0, 10);
    rig_stop(&r);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nth_allocation_fails),
        cmocka_unit_test(no_allocation_for_each_event_when_warm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
