/* SPDX-License-Identifier: MIT */
/* Connections that are cut at every byte, that answer oddly, late or never; and how they are made again. */
#include "rig.h"

static void cut_at_every_byte_of_a_publish(void **state) {
    (void)state;
    size_t one = strlen(XADD_1);
    for (size_t cut = 0; cut <= 3 * one; cut++) {
        rig r;
        rig_start(&r, "redis://h", NULL);
        rig_connect(&r, 0);
        tide_op op = publish_op(1, "s", three, 3);
        tide_op behind = publish_op(2, "s", three, 1);
        rig_submit(&r, &op);
        rig_submit(&r, &behind);
        assert_int_equal(rig_send(&r, 0, cut), cut);
        rig_lose(&r, 0);
        tide_completion done;
        if (cut > 0) {
            rig_expect(&r, &done, 1, TIDE_UNKNOWN);
            for (size_t i = 0; i < 3; i++)
                assert_int_equal(done.as.publish.results[i].status,
                                 cut > i * one ? TIDE_UNKNOWN : TIDE_DISCONNECTED);
        }
        rig_expect_none(&r);
        /* Of what is left nothing was sent: it goes out whole on the next connection, and nothing else does. */
        rig_pass(&r, 4500);
        rig_connect(&r, 0);
        rig_expect_sent(&r, 0, cut > 0 ? XADD_1 : XADD_1 XADD_1 XADD_1 XADD_1);
        rig_feed(&r, 0,
                 cut > 0 ? "$3\r\n5-1\r\n"
                         : "$3\r\n5-1\r\n$3\r\n5-2\r\n$3\r\n5-3\r\n$3\r\n5-4\r\n");
        if (cut == 0)
            rig_expect(&r, &done, 1, TIDE_OK);
        rig_expect(&r, &done, 2, TIDE_OK);
        rig_expect_none(&r);
        rig_stop(&r);
    }
}

static void cut_at_every_byte_of_the_reply(void **state) {
    (void)state;
    static const char replies[] = "$3\r\n5-1\r\n$4\r\n5-22\r\n$3\r\n5-3\r\n";
    static const size_t ends[] = {9, 19, 28};
    for (size_t cut = 0; cut < sizeof replies; cut++) {
        rig r;
        rig_start(&r, "redis://h", NULL);
        rig_connect(&r, 0);
        tide_op op = publish_op(1, "s", three, 3);
        rig_ask(&r, 0, &op);
        r.broker->vtable->feed(r.broker, 0, replies, cut, r.now_us);
        rig_lose(&r, 0);
        tide_completion done;
        rig_expect(&r, &done, 1, cut >= ends[2] ? TIDE_OK : TIDE_UNKNOWN);
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(done.as.publish.results[i].status,
                             cut >= ends[i] ? TIDE_OK : TIDE_UNKNOWN);
        rig_expect_none(&r);
        rig_stop(&r);
    }
}

static void odd_replies_drop_the_link(void **state) {
    (void)state;
    static const char *const odd[] = {
        ":1\r\n",
        "$3\r\nabc\r\n",
        "+OK\r\n",
        "*0\r\n",
        "*1\r\n*1\r\n$1\r\ns\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n:1\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n:1\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*-1\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\nx-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*1\r\n$1\r\na\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n:1\r\n:2\r\n",
        "*2\r\n*2\r\n$1\r\ns\r\n*0\r\n*2\r\n$1\r\nt\r\n*0\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "*4294967295\r\n",
        "$-2\r\n",
        "$9223372036854775807\r\n",
        "$1\r\nabc",
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        rig r;
        rig_start(&r, "redis://h", NULL);
        rig_connect(&r, 0);
        tide_op op = fetch_op(1, "s", "c", 10, 0);
        rig_submit(&r, &op);
        op.tag = 2;
        rig_submit(&r, &op);
        rig_connect(&r, 1);
        rig_send(&r, 1, SIZE_MAX);
        rig_feed(&r, 1, odd[i]);
        tide_completion done;
        assert_true(r.broker->vtable->next_completion(r.broker, &done));
        assert_int_equal(done.tag, 1);
        assert_true(done.status == TIDE_PROTOCOL || done.status == TIDE_UNKNOWN);
        rig_expect(&r, &done, 2, TIDE_UNKNOWN);
        rig_expect_close(&r, 1);
        /* The neighbour is unharmed. */
        tide_op publish = publish_op(3, "s", three, 1);
        rig_submit(&r, &publish);
        rig_expect_sent(&r, 0, XADD_1);
        rig_feed(&r, 0, "$3\r\n5-0\r\n");
        rig_expect(&r, &done, 3, TIDE_OK);
        rig_stop(&r);
    }
}

static void a_reply_nobody_asked_for_drops_the_link(void **state) {
    rig *r = *state;
    /* Waiting to be sent isn't asked yet. */
    tide_op op = publish_op(1, "s", three, 1);
    rig_submit(r, &op);
    rig_feed(r, 0, "$3\r\n5-0\r\n");
    rig_expect_none(r);
    rig_expect_close(r, 0);
    rig_pass(r, 4500);
    rig_connect(r, 0);
    rig_expect_sent(r, 0, XADD_1);
}

static void times_out_and_drops_the_link(void **state) {
    rig *r = *state;
    rig_connect(r, 0);
    tide_op op = publish_op(1, "s", three, 1);
    rig_ask(r, 0, &op);
    rig_pass(r, 500);
    tide_op behind = publish_op(2, "s", three, 1);
    rig_submit(r, &behind);
    rig_send(r, 0, 10);
    rig_pass(r, 499);
    rig_expect_none(r);
    rig_pass(r, 1);
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_TIMEOUT);
    assert_int_equal(done.as.publish.results[0].status, TIDE_TIMEOUT);
    rig_expect(r, &done, 2, TIDE_UNKNOWN);
    rig_expect_close(r, 0);
    /* The late reply meets no one. */
    rig_feed(r, 0, "$3\r\n5-0\r\n");
    rig_expect_none(r);
}

static void what_was_never_sent_ends_as_disconnected(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 3);
    rig_submit(r, &op);
    tide_op longer = publish_op(2, "s", three, 1);
    longer.timeout_ms = 60000;
    rig_submit(r, &longer);
    op.tag = 3;
    rig_submit(r, &op);
    rig_expect_open(r, 0);
    rig_lose(r, 0);
    assert_true(r->broker->vtable->deadline_us(r->broker) <= r->now_us + 1000000);
    rig_pass(r, 1000);
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_DISCONNECTED);
    assert_int_equal(done.as.publish.results[1].status, TIDE_DISCONNECTED);
    assert_non_null(strstr(done.error.message, "cut by the test"));
    rig_expect(r, &done, 3, TIDE_DISCONNECTED);
    rig_expect_none(r);
    rig_pass(r, 5000);
    tide_link_want want;
    while (!rig_want(r, &want))
        rig_pass(r, 100);
    r->broker->vtable->link_opened(r->broker, 0, r->now_us);
    rig_send(r, 0, SIZE_MAX);
    rig_feed(r, 0, GREETING_REPLIES);
    rig_expect_sent(r, 0, XADD_1);
}

static void a_blocking_fetch_has_its_blocking_time_on_top(void **state) {
    rig *r = *state;
    rig_connect(r, 0);
    tide_op op = fetch_op(1, "s", "c", 10, 2000);
    rig_submit(r, &op);
    op.tag = 2;
    rig_submit(r, &op);
    rig_connect(r, 1);
    rig_send(r, 1, SIZE_MAX);
    rig_pass(r, 5999); /* 1 s + 1.5 × 2 s + 2 s */
    rig_expect_none(r);
    rig_pass(r, 1);
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_TIMEOUT);
    rig_expect(r, &done, 2, TIDE_UNKNOWN);
}

static void a_silent_server_is_given_up(void **state) {
    rig *r = *state;
    rig_expect_open(r, 0);
    r->broker->vtable->link_opened(r->broker, 0, r->now_us);
    rig_pass(r, 2000);
    tide_error error;
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_CONNECT);
    rig_expect_close(r, 0);
}

static void backs_off_with_jitter_and_logs_a_line_a_second(void **state) {
    rig *r = *state;
    int attempts = 0;
    tide_link_want want;
    for (int ms = 0; ms < 60000; ms += 10) {
        while (rig_want(r, &want)) {
            assert_int_equal(want.action, TIDE_LINK_OPEN);
            attempts++;
            rig_lose(r, 0);
        }
        rig_pass(r, 10);
    }
    /* Six quick ones, then one in two seconds on average. */
    assert_in_range(attempts, 15, 80);
    assert_in_range(r->log_lines, 5, 61);
}

/* However long the server was away: 4 s, so that a connect and a read fit into the 5 s within which work goes on. */
static void the_next_try_is_never_further_off_than_four_seconds_F2(void **state) {
    rig *r = *state;
    enum { STEP_MS = 10, DOWN_MS = 30 * 60 * 1000 };
    int64_t tried_us = r->now_us, longest_us = 0;
    tide_link_want want;
    for (int ms = 0; ms < DOWN_MS; ms += STEP_MS) {
        while (rig_want(r, &want)) {
            assert_int_equal(want.action, TIDE_LINK_OPEN);
            if (r->now_us - tried_us > longest_us)
                longest_us = r->now_us - tried_us;
            tried_us = r->now_us;
            rig_lose(r, 0);
        }
        rig_pass(r, STEP_MS);
    }
    assert_in_range(longest_us, 3500 * 1000, (4000 + STEP_MS) * 1000);
}

static void readonly_drops_the_link_when_all_is_answered(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 2);
    rig_ask(r, 0, &op);
    tide_op later = publish_op(2, "s", three, 1);
    rig_submit(r, &later);
    rig_feed(r, 0, "-READONLY You can't write against a read only replica.\r\n");
    rig_expect_sent(r, 0, "");
    rig_feed(r, 0, "-READONLY You can't write against a read only replica.\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_READONLY);
    assert_int_equal(done.as.publish.results[1].status, TIDE_READONLY);
    rig_expect_close(r, 0);
    rig_expect_none(r);
    rig_pass(r, 4500);
    rig_connect(r, 0);
    rig_expect_sent(r, 0, XADD_1);
}

static void dropped_readers_go(void **state) {
    rig *r = *state;
    for (int round = 0; round < 100; round++) {
        tide_op op = fetch_op(1, "s", "c", 10, 0);
        op.as.fetch.reader = 1 + (uint32_t)round;
        rig_submit(r, &op);
        rig_connect(r, 1);
        rig_send(r, 1, SIZE_MAX);
        rig_feed(r, 1, "*-1\r\n");
        tide_completion done;
        rig_expect(r, &done, 1, TIDE_OK);
        r->broker->vtable->drop_reader(r->broker, 1 + (uint32_t)round, r->now_us);
        rig_expect_close(r, 1);
        tide_link_want want;
        assert_false(rig_want(r, &want));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_at_every_byte_of_a_publish),
        cmocka_unit_test(cut_at_every_byte_of_the_reply),
        cmocka_unit_test(odd_replies_drop_the_link),
        CONNECTED(a_reply_nobody_asked_for_drops_the_link),
        STARTED(times_out_and_drops_the_link, "redis://h?timeout=1s"),
        STARTED(what_was_never_sent_ends_as_disconnected, "redis://h?timeout=1s"),
        STARTED(a_blocking_fetch_has_its_blocking_time_on_top, "redis://h?timeout=1s"),
        STARTED(a_silent_server_is_given_up, "redis://h?connect_timeout=2s"),
        STARTED(backs_off_with_jitter_and_logs_a_line_a_second, "redis://h"),
        STARTED(the_next_try_is_never_further_off_than_four_seconds_F2, "redis://h"),
        CONNECTED(readonly_drops_the_link_when_all_is_answered),
        CONNECTED(dropped_readers_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
