/* SPDX-License-Identifier: MIT */
/* A connection's first words: exact requests, and what becomes of refusals. */
#include "rig.h"

#include <stdio.h>

#include "failing_allocator.h"

static void greets_with_credentials_and_db(void **state) {
    rig *r = *state;
    tide_link_want want;
    assert_true(rig_want(r, &want));
    assert_int_equal(want.endpoint.port, 7000);
    assert_true(tide_str_equal(want.endpoint.host, str("h")));
    r->broker->vtable->link_opened(r->broker, 0, r->now_us);
    rig_expect_sent(r, 0,
                    "*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$2\r\npw\r\n"
                    "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"
                    "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
                    "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$2\r\nme\r\n"
                    "*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nlib-name\r\n$8\r\ntidemill\r\n"
                    "*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nlib-ver\r\n$5\r\n0.1.0\r\n"
                    "*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n"
                    "*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"
                    "*1\r\n$4\r\nPING\r\n");
    tide_error error;
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_DISCONNECTED);
    /* HELLO refused, as a proxy may: INFO says it. */
    rig_feed(r, 0,
             "+OK\r\n+OK\r\n-ERR unknown command\r\n+OK\r\n+OK\r\n+OK\r\n:5\r\n"
             "$22\r\nvalkey_version:8.0.1\r\n\r\n+PONG\r\n");
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_OK);
}

static void a_refused_password_fails_what_waits_and_is_never_shown(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 3);
    rig_submit(r, &op);
    rig_open(r, 0);
    rig_feed(r, 0, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_NOAUTH);
    assert_int_equal(done.as.publish.results[2].status, TIDE_NOAUTH);
    assert_non_null(strstr(done.error.message, "bob"));
    assert_string_equal(done.error.server, "WRONGPASS");
    tide_error error;
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_NOAUTH);
    assert_null(strstr(error.message, "canary"));
    assert_null(strstr(r->log, "canary"));
    /* The driver is told to close, and after the back-off to open again. */
    rig_expect_close(r, 0);
    rig_pass(r, 5000);
    rig_expect_open(r, 0);
}

static void a_password_that_is_handed_in_is_said_from_the_next_connection_on_F18(void **state) {
    rig *r = *state;
    static const char *const passwords[] = {"old", "new"};
    for (int i = 0; i < 2; i++) {
        rig_expect_open(r, 0);
        assert_int_equal(r->broker->vtable->set_password(r->broker, str(passwords[i])), TIDE_OK);
        r->broker->vtable->link_opened(r->broker, 0, r->now_us);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$3\r\n%s\r\n",
                 passwords[i]);
        assert_true(tide_str_starts(r->broker->vtable->output(r->broker, 0), str(wanted)));
        rig_send(r, 0, SIZE_MAX);
        rig_feed(r, 0, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        tide_link_want want;
        assert_true(rig_want(r, &want));
        rig_pass(r, 5000);
    }
}

static void without_memory_for_a_password_the_old_one_stays_F18(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    rig r;
    assert_true(rig_start(&r, "redis://h", &alloc));
    assert_int_equal(r.broker->vtable->set_password(r.broker, str("old")), TIDE_OK);
    memory.fail_at = memory.asked + 1;
    assert_int_equal(r.broker->vtable->set_password(r.broker, str("new")), TIDE_ENOMEM);
    rig_expect_open(&r, 0);
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    assert_true(tide_str_starts(r.broker->vtable->output(r.broker, 0),
                                str("*2\r\n$4\r\nAUTH\r\n$3\r\nold\r\n")));
    rig_stop(&r);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

/* Valkey from 9.1 lets a user into some databases only. */
static void names_the_rule_for_a_database_that_a_user_may_not_use_F18(void **state) {
    rig *r = *state;
    rig_open(r, 0);
    rig_feed(r, 0, "+OK\r\n-NOPERM No permissions to access database\r\n");
    tide_error error;
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_NOPERM);
    assert_non_null(strstr(error.message, "user \"bob\" may not use database 3"));
    assert_non_null(strstr(error.message, "ACL SETUSER bob db=3"));
    assert_null(strstr(error.message, "canary"));
}

static void after_a_refusal_the_next_greeting_feels_its_way_F34(void **state) {
    rig *r = *state;
    for (int attempt = 0; attempt < 3; attempt++) {
        rig_expect_open(r, 0);
        r->broker->vtable->link_opened(r->broker, 0, r->now_us);
        if (attempt > 0) {
            rig_expect_sent(r, 0,
                            "*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$2\r\npw\r\n"
                            "*1\r\n$4\r\nPING\r\n");
        } else {
            rig_send(r, 0, SIZE_MAX);
        }
        if (attempt == 2)
            break;
        rig_feed(r, 0, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        rig_expect_close(r, 0);
        rig_pass(r, 5000);
    }
    tide_error error;
    rig_feed(r, 0, "+OK\r\n+PONG\r\n");
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_NOAUTH); /* not ready yet */
    tide_str rest = r->broker->vtable->output(r->broker, 0);
    assert_true(tide_str_starts(rest, str("*2\r\n$5\r\nHELLO\r\n")));
    rig_send(r, 0, SIZE_MAX);
    rig_feed(r, 0, "*0\r\n+OK\r\n+OK\r\n+OK\r\n:1\r\n$0\r\n\r\n");
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_OK);
}

static void a_loading_server_is_tried_again_and_nothing_fails(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 1);
    op.timeout_ms = 60000;
    rig_submit(r, &op);
    rig_open(r, 0);
    rig_feed(r, 0, "*0\r\n+OK\r\n+OK\r\n+OK\r\n:1\r\n$0\r\n\r\n-LOADING Redis is loading\r\n");
    rig_expect_none(r);
    tide_error error;
    assert_int_equal(r->broker->vtable->state(r->broker, &error), TIDE_LOADING);
    rig_expect_close(r, 0);
    rig_pass(r, 5000);
    rig_connect(r, 0);
    rig_expect_sent(r, 0, XADD_1);
    rig_feed(r, 0, "$3\r\n5-0\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_OK);
}

static void greeting_split_at_every_byte(void **state) {
    (void)state;
    static const char replies[] = GREETING_REPLIES;
    for (size_t split = 0; split < sizeof replies; split++) {
        rig r;
        rig_start(&r, "redis://h", NULL);
        rig_open(&r, 0);
        tide_error error;
        rig_feed_split(&r, 0, replies, split);
        assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_OK);
        rig_stop(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STARTED(greets_with_credentials_and_db, "redis://bob:pw@h:7000/3?name=me"),
        STARTED(a_refused_password_fails_what_waits_and_is_never_shown, "redis://bob:canary@h"),
        STARTED(a_password_that_is_handed_in_is_said_from_the_next_connection_on_F18,
                "redis://bob@h?password_file=/x"),
        cmocka_unit_test(without_memory_for_a_password_the_old_one_stays_F18),
        STARTED(names_the_rule_for_a_database_that_a_user_may_not_use_F18,
                "redis://bob:canary@h/3"),
        STARTED(after_a_refusal_the_next_greeting_feels_its_way_F34, "redis://bob:pw@h"),
        STARTED(a_loading_server_is_tried_again_and_nothing_fails, "redis://h"),
        cmocka_unit_test(greeting_split_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
