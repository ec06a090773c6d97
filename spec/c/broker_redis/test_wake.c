/* SPDX-License-Identifier: MIT */
/* The link that hears of delayed events: exact requests, canned replies, and what happens without it. */
#include "rig.h"

#include "base/alloc.h"
#include "failing_allocator.h"

#define XREAD   "XREAD COUNT 8 BLOCK 10000 STREAMS "
#define S_KEY   "$16\r\n{s}:delayed:wake\r\n"
#define WAKE_S  "*1\r\n*2\r\n" S_KEY "*1\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$3\r\ndue\r\n$1\r\n9\r\n"
#define UNBLOCK "CLIENT UNBLOCK 77 TIMEOUT"
#define DENIED  "-NOPERM this user has no permissions to run the 'xread' command\r\n"

static const uint64_t *watch(rig *r, const char *stream) {
    return r->broker->vtable->watch(r->broker, str(stream), r->now_us);
}

static void unwatch(rig *r, const uint64_t *watched) {
    r->broker->vtable->unwatch(r->broker, watched, r->now_us);
}

/* With the shared link up, and link 1 watching "s". */
static const uint64_t *start(rig *r) {
    rig_start(r, "redis://h", NULL);
    rig_connect(r, 0);
    const uint64_t *wakes = watch(r, "s");
    assert_non_null(wakes);
    rig_connect(r, 1);
    rig_expect_request(r, 1, XREAD "{s}:delayed:wake 0-0");
    return wakes;
}

static void expect_no_want(rig *r) {
    tide_link_want want;
    assert_false(rig_want(r, &want));
}

static void nobody_watches_nobody_connects(void **state) {
    rig *r = *state;
    rig_connect(r, 0);
    expect_no_want(r);
}

static void counts_what_it_hears_and_reads_on_behind_it(void **state) {
    (void)state;
    rig r;
    const uint64_t *wakes = start(&r);
    assert_int_equal(*wakes, 0);
    rig_feed(&r, 1, WAKE_S);
    assert_int_equal(*wakes, 1);
    /* After a rest, so that a flood is read in pages. */
    rig_expect_sent(&r, 1, "");
    rig_pass(&r, 5);
    rig_expect_request(&r, 1, XREAD "{s}:delayed:wake 7-1");
    /* Nothing in all that time: ids may have gone back with the clock. */
    rig_pass(&r, 10000);
    rig_feed(&r, 1, "*-1\r\n");
    rig_pass(&r, 5);
    rig_expect_request(&r, 1, XREAD "{s}:delayed:wake 0-0");
    assert_int_equal(*wakes, 1);
    rig_stop(&r);
}

static void a_stream_that_comes_later_is_waited_for_at_once(void **state) {
    (void)state;
    rig r;
    const uint64_t *s = start(&r);
    const uint64_t *t = watch(&r, "t");
    assert_ptr_equal(watch(&r, "t"), t);
    rig_expect_request(&r, 0, UNBLOCK);
    rig_feed(&r, 0, ":1\r\n");
    rig_feed(&r, 1, "*-1\r\n");
    rig_pass(&r, 5);
    rig_expect_request(&r, 1, XREAD "{t}:delayed:wake {s}:delayed:wake 0-0 0-0");
    rig_expect_sent(&r, 0, "");
    rig_feed(&r, 1, WAKE_S);
    assert_int_equal(*s, 1);
    assert_int_equal(*t, 0);
    /* A wake for a stream that nobody watches any more is nobody's. */
    rig_pass(&r, 5);
    rig_send(&r, 1, SIZE_MAX);
    unwatch(&r, s);
    rig_feed(&r, 1, WAKE_S);
    rig_pass(&r, 5);
    rig_expect_request(&r, 1, XREAD "{t}:delayed:wake 0-0");
    unwatch(&r, t);
    expect_no_want(&r);
    unwatch(&r, t);
    rig_expect_close(&r, 1);
    /* And from the beginning. */
    assert_non_null(watch(&r, "s"));
    rig_connect(&r, 1);
    rig_expect_request(&r, 1, XREAD "{s}:delayed:wake 0-0");
    rig_stop(&r);
}

static void
an_interrupt_that_came_too_early_is_sent_again_and_a_forbidden_one_is_not(void **state) {
    (void)state;
    rig r;
    start(&r);
    watch(&r, "t");
    rig_expect_request(&r, 0, UNBLOCK);
    rig_feed(&r, 0, ":0\r\n");
    rig_pass(&r, 5);
    rig_expect_request(&r, 0, UNBLOCK);
    rig_feed(&r, 0, "-NOPERM this user has no permissions\r\n");
    for (int i = 0; i < 100; i++) {
        rig_pass(&r, 50);
        rig_expect_sent(&r, 0, "");
    }
    rig_stop(&r);
}

static void a_server_that_forbids_it_costs_one_line_and_is_asked_seldom(void **state) {
    rig *r = *state;
    rig_expect_open(r, 0);
    const uint64_t *wakes = watch(r, "s");
    rig_expect_open(r, 1);
    r->broker->vtable->link_opened(r->broker, 1, r->now_us);
    rig_send(r, 1, SIZE_MAX);
    rig_feed(r, 1, "+OK\r\n" GREETING_REPLIES);
    int asked = 0;
    for (int ms = 0; ms < 600000; ms += 100) {
        if (rig_send(r, 1, SIZE_MAX) > 0) {
            asked++;
            rig_feed(r, 1, DENIED);
        }
        rig_pass(r, 100);
    }
    /* 1, 2, 4 … 60 s between them. */
    assert_in_range(asked, 10, 20);
    assert_non_null(strstr(r->log, "ACL SETUSER bob +xread"));
    assert_null(strstr(strstr(r->log, "SETUSER") + 1, "SETUSER"));
    assert_int_equal(*wakes, 0);
    /* Allowed by now. */
    for (int i = 0; i < 700 && rig_send(r, 1, SIZE_MAX) == 0; i++)
        rig_pass(r, 100);
    rig_feed(r, 1, WAKE_S);
    assert_int_equal(*wakes, 1);
    rig_pass(r, 5);
    rig_expect_request(r, 1, XREAD "{s}:delayed:wake 7-1");
}

static void a_lost_link_comes_back_and_misses_nothing(void **state) {
    (void)state;
    rig r;
    start(&r);
    rig_feed(&r, 1, WAKE_S);
    rig_lose(&r, 1);
    assert_int_equal(r.log_lines, 1);
    /* Nothing depends on it: neither the state nor anybody's patience. */
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_OK);
    tide_link_want want;
    int attempts = 0;
    for (int ms = 0; ms < 600000; ms += 100) {
        if (rig_want(&r, &want)) {
            attempts++;
            assert_int_equal(want.link, 1);
            rig_lose(&r, 1);
        }
        rig_pass(&r, 100);
    }
    assert_in_range(attempts, 20, 120);
    assert_int_equal(r.log_lines, 1);
    while (!rig_want(&r, &want))
        rig_pass(&r, 100);
    r.broker->vtable->link_opened(r.broker, 1, r.now_us);
    rig_send(&r, 1, SIZE_MAX);
    rig_feed(&r, 1, GREETING_REPLIES);
    rig_expect_request(&r, 1, XREAD "{s}:delayed:wake 7-1");
    rig_stop(&r);
}

static void a_silent_server_is_given_up(void **state) {
    rig *r = *state;
    rig_connect(r, 0);
    watch(r, "s");
    rig_connect(r, 1);
    rig_send(r, 1, SIZE_MAX);
    rig_pass(r, 17999); /* 1.5 × 10 s + 2 s + 1 s */
    expect_no_want(r);
    rig_pass(r, 1);
    rig_expect_close(r, 1);
}

static void odd_replies_drop_the_link_and_no_other(void **state) {
    (void)state;
    static const char *const odd[] = {
        ":1\r\n",
        "+OK\r\n",
        "$1\r\nx\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n*1\r\n$1\r\ns\r\n",
        "*1\r\n*2\r\n:1\r\n*0\r\n",
        "*1\r\n*2\r\n" S_KEY ":1\r\n",
        "*1\r\n*2\r\n" S_KEY "*0\r\n",
        "*1\r\n*2\r\n" S_KEY "*1\r\n:1\r\n",
        "*1\r\n*2\r\n" S_KEY "*1\r\n*0\r\n",
        "*1\r\n*2\r\n" S_KEY "*1\r\n*1\r\n:1\r\n",
        "*1\r\n*2\r\n" S_KEY "*1\r\n*1\r\n$1\r\nx\r\n",
        "*4294967295\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "*-1\r\n*-1\r\n",
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        rig r;
        start(&r);
        rig_feed(&r, 1, odd[i]);
        rig_expect_close(&r, 1);
        expect_no_want(&r);
        rig_stop(&r);
    }
}

static void a_wake_split_at_every_byte(void **state) {
    (void)state;
    for (size_t split = 0; split < sizeof WAKE_S; split++) {
        rig r;
        const uint64_t *wakes = start(&r);
        r.broker->vtable->feed(r.broker, 1, WAKE_S, split, r.now_us);
        r.broker->vtable->feed(r.broker, 1, WAKE_S + split, sizeof WAKE_S - 1 - split, r.now_us);
        assert_int_equal(*wakes, 1);
        rig_stop(&r);
    }
}

static void work(const tide_allocator *alloc) {
    rig r;
    if (!rig_start(&r, "redis://h", alloc))
        return;
    static const char *const streams[] = {"s", "t", "s"};
    const uint64_t *watched[3];
    for (int i = 0; i < 3; i++)
        watched[i] = watch(&r, streams[i]);
    for (int turn = 0; turn < 8; turn++) {
        tide_link_want want;
        while (rig_want(&r, &want)) {
            if (want.action != TIDE_LINK_OPEN)
                continue;
            r.broker->vtable->link_opened(r.broker, want.link, r.now_us);
            if (rig_send(&r, want.link, SIZE_MAX) > 0)
                rig_feed(&r, want.link, GREETING_REPLIES);
        }
        if (rig_send(&r, 1, SIZE_MAX) > 0)
            rig_feed(&r, 1, WAKE_S);
        rig_send(&r, 0, SIZE_MAX);
        rig_pass(&r, 1000);
    }
    for (int i = 0; i < 3; i++) {
        if (watched[i] != NULL)
            unwatch(&r, watched[i]);
    }
    rig_stop(&r);
}

static void the_nth_allocation_fails(void **state) {
    (void)state;
    rig_fail_each_allocation(work, 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STARTED(nobody_watches_nobody_connects, "redis://h"),
        cmocka_unit_test(counts_what_it_hears_and_reads_on_behind_it),
        cmocka_unit_test(a_stream_that_comes_later_is_waited_for_at_once),
        cmocka_unit_test(an_interrupt_that_came_too_early_is_sent_again_and_a_forbidden_one_is_not),
        STARTED(a_server_that_forbids_it_costs_one_line_and_is_asked_seldom, "redis://bob:pw@h"),
        cmocka_unit_test(a_lost_link_comes_back_and_misses_nothing),
        STARTED(a_silent_server_is_given_up, "redis://h?timeout=1s"),
        cmocka_unit_test(odd_replies_drop_the_link_and_no_other),
        cmocka_unit_test(a_wake_split_at_every_byte),
        cmocka_unit_test(the_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
