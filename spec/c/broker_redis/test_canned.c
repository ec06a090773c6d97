/* SPDX-License-Identifier: MIT */
/* The adapter held by hand: exact requests, canned replies, connections that die at every byte. */
#include "rig.h"

#include <stdio.h>

#include "base/alloc.h"
#include "broker/redis/redis.h"
#include "failing_allocator.h"

#define URL "redis://h"

static const tide_field one_field[1] = {{{"data", 4}, {"1", 1}}};
static const tide_record three[3] = {
    {one_field, 1, {"a", 1}}, {one_field, 1, {"b", 1}}, {one_field, 1, {"c", 1}}};
#define XADD_1 "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$4\r\ndata\r\n$1\r\n1\r\n"

static tide_op fetch_op(uint64_t tag, bool history, int64_t block_ms) {
    tide_op op = {.kind = TIDE_OP_FETCH, .tag = tag};
    op.as.fetch.stream = str("s");
    op.as.fetch.group = str("g");
    op.as.fetch.consumer = str("c");
    op.as.fetch.reader = 1;
    op.as.fetch.history = history;
    op.as.fetch.count_max = 10;
    op.as.fetch.block_ms = block_ms;
    return op;
}

static tide_op settle_op(uint64_t tag, const tide_settlement *items, size_t count) {
    tide_op op = {.kind = TIDE_OP_SETTLE, .tag = tag};
    op.as.settle.stream = str("s");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.dead_letters = str("{s}:dlq");
    op.as.settle.items = items;
    op.as.settle.item_count = count;
    return op;
}

static tide_op recover_op(uint64_t tag) {
    tide_op op = {.kind = TIDE_OP_RECOVER, .tag = tag};
    op.as.recover.stream = str("s");
    op.as.recover.group = str("g");
    op.as.recover.consumer = str("c");
    op.as.recover.min_idle_ms = 500;
    op.as.recover.count_max = 10;
    return op;
}

/* ---- greeting ---- */

static void greets_with_credentials_and_db(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://bob:pw@h:7000/3?name=me", NULL);
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.endpoint.port, 7000);
    assert_true(tide_str_equal(want.endpoint.host, str("h")));
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    rig_expect_sent(&r, 0,
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
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_DISCONNECTED);
    /* HELLO refused, as a proxy may: INFO says it. */
    rig_feed(&r, 0,
             "+OK\r\n+OK\r\n-ERR unknown command\r\n+OK\r\n+OK\r\n+OK\r\n:5\r\n"
             "$22\r\nvalkey_version:8.0.1\r\n\r\n+PONG\r\n");
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_OK);
    rig_stop(&r);
}

static void a_refused_password_fails_what_waits_and_is_never_shown(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://bob:canary@h", NULL);
    tide_op op = publish_op(1, "s", three, 3);
    rig_submit(&r, &op);
    rig_expect_open(&r, 0);
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_NOAUTH);
    assert_int_equal(done.as.publish.results[2].status, TIDE_NOAUTH);
    assert_non_null(strstr(done.error.message, "bob"));
    assert_string_equal(done.error.server, "WRONGPASS");
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_NOAUTH);
    assert_null(strstr(error.message, "canary"));
    assert_null(strstr(r.log, "canary"));
    /* The driver is told to close, and after the back-off to open again. */
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    rig_pass(&r, 5000);
    rig_expect_open(&r, 0);
    rig_stop(&r);
}

static void a_password_that_is_handed_in_is_said_from_the_next_connection_on_F18(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://bob@h?password_file=/x", NULL);
    static const char *const passwords[] = {"old", "new"};
    for (int i = 0; i < 2; i++) {
        rig_expect_open(&r, 0);
        assert_int_equal(r.broker->vtable->set_password(r.broker, str(passwords[i])), TIDE_OK);
        r.broker->vtable->link_opened(r.broker, 0, r.now_us);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$3\r\n%s\r\n",
                 passwords[i]);
        assert_true(tide_str_starts(r.broker->vtable->output(r.broker, 0), str(wanted)));
        rig_send(&r, 0, SIZE_MAX);
        rig_feed(&r, 0, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        tide_link_want want;
        assert_true(rig_want(&r, &want));
        rig_pass(&r, 5000);
    }
    rig_stop(&r);
}

static void after_a_refusal_the_next_greeting_feels_its_way_F34(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://bob:pw@h", NULL);
    for (int attempt = 0; attempt < 3; attempt++) {
        rig_expect_open(&r, 0);
        r.broker->vtable->link_opened(r.broker, 0, r.now_us);
        if (attempt > 0) {
            rig_expect_sent(&r, 0,
                            "*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$2\r\npw\r\n"
                            "*1\r\n$4\r\nPING\r\n");
        } else {
            rig_send(&r, 0, SIZE_MAX);
        }
        if (attempt == 2)
            break;
        rig_feed(&r, 0, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        tide_link_want want;
        assert_true(rig_want(&r, &want));
        assert_int_equal(want.action, TIDE_LINK_CLOSE);
        rig_pass(&r, 5000);
    }
    tide_error error;
    rig_feed(&r, 0, "+OK\r\n+PONG\r\n");
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_NOAUTH); /* not ready yet */
    tide_str rest = r.broker->vtable->output(r.broker, 0);
    assert_true(tide_str_starts(rest, str("*2\r\n$5\r\nHELLO\r\n")));
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "*0\r\n+OK\r\n+OK\r\n+OK\r\n:1\r\n$0\r\n\r\n");
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_OK);
    rig_stop(&r);
}

static void a_loading_server_is_tried_again_and_nothing_fails(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    tide_op op = publish_op(1, "s", three, 1);
    op.timeout_ms = 60000;
    rig_submit(&r, &op);
    rig_expect_open(&r, 0);
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "*0\r\n+OK\r\n+OK\r\n+OK\r\n:1\r\n$0\r\n\r\n-LOADING Redis is loading\r\n");
    rig_expect_none(&r);
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_LOADING);
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    rig_pass(&r, 5000);
    rig_connect(&r, 0);
    rig_expect_sent(&r, 0, XADD_1);
    rig_feed(&r, 0, "$3\r\n5-0\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_OK);
    rig_stop(&r);
}

/* ---- exact requests ---- */

static void writes_exact_commands(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op op = publish_op(1, "s", three, 2);
    op.as.publish.max_len = 1000;
    rig_submit(&r, &op);
#define XADD_MAXLEN                                                                                \
    "*8\r\n$4\r\nXADD\r\n$1\r\ns\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$4\r\n1000\r\n$1\r\n*\r\n$"         \
    "4\r\ndata\r\n$1\r\n1\r\n"
    rig_expect_sent(&r, 0, XADD_MAXLEN XADD_MAXLEN);
    rig_feed(&r, 0, "$3\r\n5-0\r\n-OOM command not allowed\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_OOM);
    assert_int_equal(done.as.publish.results[0].status, TIDE_OK);
    assert_int_equal(done.as.publish.results[0].id.ms, 5);
    assert_int_equal(done.as.publish.results[1].status, TIDE_OOM);
    assert_string_equal(done.error.server, "OOM");

    tide_op group = {.kind = TIDE_OP_GROUP_ENSURE, .tag = 2};
    group.as.group_ensure.stream = str("s");
    group.as.group_ensure.group = str("g");
    group.as.group_ensure.start = str("$");
    rig_submit(&r, &group);
    rig_expect_sent(&r, 0,
                    "*6\r\n$6\r\nXGROUP\r\n$6\r\nCREATE\r\n$1\r\ns\r\n$1\r\ng\r\n$1\r\n$\r\n$"
                    "8\r\nMKSTREAM\r\n");
    rig_feed(&r, 0, "-BUSYGROUP Consumer Group name already exists\r\n");
    rig_expect(&r, &done, 2, TIDE_OK);
    assert_false(done.as.group_ensure.created);

    tide_settlement items[3] = {
        {.id = {1, 2}}, {.id = {3, 4}}, {.kind = TIDE_SETTLE_ATTEMPT, .id = {5, 6}, .attempt = 2}};
    tide_op settle = settle_op(3, items, 2);
    rig_submit(&r, &settle);
    rig_expect_sent(&r, 0, "*5\r\n$4\r\nXACK\r\n$1\r\ns\r\n$1\r\ng\r\n$3\r\n1-2\r\n$3\r\n3-4\r\n");
    rig_feed(&r, 0, ":0\r\n");
    rig_expect(&r, &done, 3, TIDE_OK);
    assert_int_equal(done.as.settle.count, 2);

    tide_op fetch = fetch_op(4, false, 2000);
    rig_submit(&r, &fetch);
    rig_connect(&r, 1);
    rig_expect_sent(&r, 1,
                    "*11\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$"
                    "5\r\nCOUNT\r\n$2\r\n10\r\n"
                    "$5\r\nBLOCK\r\n$4\r\n2000\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\n>\r\n");
    rig_feed(&r, 1, "*-1\r\n");
    rig_expect(&r, &done, 4, TIDE_OK);
    assert_null(done.as.fetch.batch);
    fetch = fetch_op(5, true, 0);
    fetch.as.fetch.after = (tide_id){7, 1};
    rig_submit(&r, &fetch);
    rig_expect_sent(&r, 1,
                    "*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$"
                    "5\r\nCOUNT\r\n$2\r\n10\r\n"
                    "$7\r\nSTREAMS\r\n$1\r\ns\r\n$3\r\n7-1\r\n");
    rig_feed(&r, 1,
             "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n8-1\r\n*2\r\n$4\r\ndata\r\n$1\r\nx\r\n*"
             "2\r\n$3\r\n9-1\r\n*-1\r\n");
    rig_expect_none(&r);
    rig_expect_sent(&r, 1,
                    "*7\r\n$8\r\nXPENDING\r\n$1\r\ns\r\n$1\r\ng\r\n$3\r\n8-1\r\n$3\r\n9-1\r\n$"
                    "3\r\n128\r\n$1\r\nc\r\n");
    rig_feed(&r, 1,
             "*2\r\n*4\r\n$3\r\n8-1\r\n$1\r\nc\r\n:1\r\n:4\r\n*4\r\n$3\r\n9-1\r\n$1\r\nc\r\n:1\r\n:"
             "2\r\n");
    rig_expect(&r, &done, 5, TIDE_OK);
    tide_batch *batch = done.as.fetch.batch;
    assert_int_equal(tide_batch_count(batch), 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 4);
    assert_true(tide_batch_entry(batch, 1)->gone);
    assert_int_equal(tide_batch_entry(batch, 1)->attempt, 2);
    /* The batch outlives its connection. */
    rig_lose(&r, 1);
    assert_memory_equal(tide_batch_entry(batch, 0)->fields[0].value.data, "x", 1);
    tide_batch_release(batch);
    rig_stop(&r);
}

static void recovers_with_nils_of_6_2_and_pages(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op op = recover_op(1);
    rig_submit(&r, &op);
    rig_expect_sent(&r, 0,
                    "*8\r\n$10\r\nXAUTOCLAIM\r\n$1\r\ns\r\n$1\r\ng\r\n$1\r\nc\r\n$3\r\n500\r\n$"
                    "3\r\n0-0\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n");
    rig_feed(&r, 0,
             "*2\r\n$3\r\n9-0\r\n*3\r\n*-1\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*"
             "2\r\n$3\r\n5-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    rig_expect_none(&r);
    tide_str out = r.broker->vtable->output(r.broker, 0);
    assert_memory_equal(out.data, "*9\r\n$7\r\nEVALSHA\r\n", 17);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "*2\r\n$3\r\n2-0\r\n:3\r\n");
    /* A page that is full and ends before the last claimed one: another is asked for. */
    char page[8192];
    int len = snprintf(page, sizeof page, "*128\r\n*4\r\n$3\r\n3-0\r\n$1\r\nc\r\n:1\r\n:7\r\n");
    for (int i = 1; i < 128; i++)
        len += snprintf(page + len, sizeof page - (size_t)len,
                        "*4\r\n$%d\r\n4-%d\r\n$1\r\nc\r\n:1\r\n:1\r\n",
                        i < 10    ? 3
                        : i < 100 ? 4
                                  : 5,
                        i);
    rig_feed(&r, 0, page);
    rig_expect_sent(&r, 0,
                    "*7\r\n$8\r\nXPENDING\r\n$1\r\ns\r\n$1\r\ng\r\n$6\r\n(4-127\r\n$3\r\n5-0\r\n$"
                    "3\r\n128\r\n$1\r\nc\r\n");
    rig_feed(&r, 0, "*1\r\n*4\r\n$3\r\n5-0\r\n$1\r\nc\r\n:1\r\n:8\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_OK);
    tide_batch *batch = done.as.recover.batch;
    assert_int_equal(done.as.recover.cursor.ms, 9);
    assert_int_equal(tide_batch_count(batch), 3);
    assert_true(tide_batch_entry(batch, 0)->gone);
    assert_int_equal(tide_batch_entry(batch, 0)->id.ms, 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 3);
    assert_int_equal(tide_batch_entry(batch, 1)->attempt, 7);
    assert_int_equal(tide_batch_entry(batch, 2)->attempt, 8);
    tide_batch_release(batch);
    rig_stop(&r);
}

static void says_a_script_again_with_its_text(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op op = publish_op(1, "s", three, 1);
    op.as.publish.dedupe_window_ms = 5000;
    rig_submit(&r, &op);
    char sha[64], wanted[8192];
    snprintf(sha, sizeof sha, "%.*s", 40, redis_script_sha1(SCRIPT_DEDUPE).data);
#define TAIL                                                                                       \
    "$1\r\n2\r\n$1\r\ns\r\n$12\r\n{s}:dedupe:a\r\n$4\r\n5000\r\n$0\r\n\r\n$1\r\n0\r\n$1\r\n2\r\n$" \
    "4\r\ndata\r\n$1\r\n1\r\n"
    snprintf(wanted, sizeof wanted, "*11\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n" TAIL, sha);
    rig_expect_sent(&r, 0, wanted);
    rig_feed(&r, 0, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    tide_str text = redis_script_text(SCRIPT_DEDUPE);
    snprintf(wanted, sizeof wanted, "*11\r\n$4\r\nEVAL\r\n$%zu\r\n%.*s\r\n" TAIL, text.len,
             (int)text.len, text.data);
    rig_expect_sent(&r, 0, wanted);
    rig_feed(&r, 0, "*2\r\n$3\r\n5-1\r\n:1\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_OK);
    assert_true(done.as.publish.results[0].duplicate);
    rig_stop(&r);
}

static void evaluates_once_and_no_more(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op op = publish_op(1, "s", three, 1);
    op.as.publish.dedupe_window_ms = 5000;
    rig_submit(&r, &op);
    for (int i = 0; i < 2; i++) {
        assert_true(rig_send(&r, 0, SIZE_MAX) > 0);
        rig_feed(&r, 0, "-NOSCRIPT No matching script.\r\n");
    }
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_NOSCRIPT);
    rig_expect_sent(&r, 0, "");
    rig_stop(&r);
}

static void an_odd_answer_to_a_settlement_is_unknown(void **state) {
    (void)state;
    static const char *const odd[] = {"+OK\r\n", "*1\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n",
                                      "*2\r\n:1\r\n$1\r\nx\r\n"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        rig r;
        rig_start(&r, URL, NULL);
        rig_connect(&r, 0);
        tide_settlement items[2] = {{.kind = TIDE_SETTLE_ATTEMPT, .id = {1, 1}, .attempt = 2},
                                    {.kind = TIDE_SETTLE_RELEASE, .id = {1, 2}, .attempt = 2}};
        tide_op op = settle_op(1, items, 2);
        rig_submit(&r, &op);
        rig_send(&r, 0, SIZE_MAX);
        rig_feed(&r, 0, odd[i]);
        tide_completion done;
        rig_expect(&r, &done, 1, TIDE_UNKNOWN);
        assert_int_equal(done.as.settle.results[1], TIDE_UNKNOWN);
        rig_stop(&r);
    }
}

/* ---- F3: cut at every byte offset ---- */

static void cut_at_every_byte_of_a_publish(void **state) {
    (void)state;
    size_t one = strlen(XADD_1);
    for (size_t cut = 0; cut <= 3 * one; cut++) {
        rig r;
        rig_start(&r, URL, NULL);
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
        rig_start(&r, URL, NULL);
        rig_connect(&r, 0);
        tide_op op = publish_op(1, "s", three, 3);
        rig_submit(&r, &op);
        rig_send(&r, 0, SIZE_MAX);
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

/* ---- replies in every split ---- */

/* Everything that a busy consumer exchanges, with the replies fed in two pieces, cut at `split`, or byte by byte. */
static const char shared_replies[] =
    "$3\r\n5-1\r\n$3\r\n5-2\r\n$3\r\n5-3\r\n+OK\r\n:2\r\n*3\r\n:1\r\n:-1\r\n:0\r\n$-1\r\n:-2\r\n";
static const char reader_replies[] = "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n8-1\r\n*4\r\n$"
                                     "4\r\ndata\r\n$2\r\nx\n\r\n$1\r\na\r\n$0\r\n\r\n"
                                     "*2\r\n$3\r\n9-1\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n*-1\r\n";

static void feed_split(rig *r, uint32_t link, const char *bytes, size_t size, size_t split) {
    if (split == SIZE_MAX) {
        for (size_t i = 0; i < size; i++)
            r->broker->vtable->feed(r->broker, link, bytes + i, 1, r->now_us);
    } else {
        size_t first = split < size ? split : size;
        r->broker->vtable->feed(r->broker, link, bytes, first, r->now_us);
        r->broker->vtable->feed(r->broker, link, bytes + first, size - first, r->now_us);
    }
}

static void exchange(size_t split) {
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op publish = publish_op(1, "s", three, 3);
    rig_submit(&r, &publish);
    tide_op group = {.kind = TIDE_OP_GROUP_ENSURE, .tag = 2};
    group.as.group_ensure.stream = str("s");
    group.as.group_ensure.group = str("g");
    rig_submit(&r, &group);
    tide_settlement items[2] = {{.id = {1, 2}}, {.id = {3, 4}}};
    tide_op settle = settle_op(3, items, 2);
    rig_submit(&r, &settle);
    tide_op promote = {.kind = TIDE_OP_PROMOTE, .tag = 4};
    promote.as.promote.stream = str("s");
    rig_submit(&r, &promote);
    tide_op get = {.kind = TIDE_OP_KV, .tag = 5};
    get.as.kv.key = str("k");
    rig_submit(&r, &get);
    rig_send(&r, 0, SIZE_MAX);
    feed_split(&r, 0, shared_replies, sizeof shared_replies - 1, split);
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_OK);
    assert_int_equal(done.as.publish.results[2].id.seq, 3);
    rig_expect(&r, &done, 2, TIDE_OK);
    assert_true(done.as.group_ensure.created);
    rig_expect(&r, &done, 3, TIDE_OK);
    rig_expect(&r, &done, 4, TIDE_OK);
    assert_int_equal(done.as.promote.moved, 1);
    rig_expect(&r, &done, 5, TIDE_OK);
    assert_false(done.as.kv.found);
    rig_expect_none(&r);
    tide_op fetch = fetch_op(6, false, 100);
    rig_submit(&r, &fetch);
    fetch.tag = 7;
    rig_submit(&r, &fetch);
    rig_connect(&r, 1);
    rig_send(&r, 1, SIZE_MAX);
    feed_split(&r, 1, reader_replies, sizeof reader_replies - 1, split);
    rig_expect(&r, &done, 6, TIDE_OK);
    tide_batch *batch = done.as.fetch.batch;
    assert_int_equal(tide_batch_count(batch), 2);
    assert_memory_equal(tide_batch_entry(batch, 0)->fields[0].value.data, "x\n", 2);
    assert_int_equal(tide_batch_entry(batch, 0)->field_count, 2);
    assert_int_equal(tide_batch_entry(batch, 0)->bytes, 7);
    tide_batch_release(batch);
    rig_expect(&r, &done, 7, TIDE_OK);
    assert_null(done.as.fetch.batch);
    rig_expect_none(&r);
    rig_stop(&r);
}

static void replies_split_at_every_byte(void **state) {
    (void)state;
    size_t longest = sizeof shared_replies > sizeof reader_replies ? sizeof shared_replies
                                                                   : sizeof reader_replies;
    for (size_t split = 0; split < longest; split++)
        exchange(split);
    exchange(SIZE_MAX);
}

static void greeting_split_at_every_byte(void **state) {
    (void)state;
    static const char replies[] = GREETING_REPLIES;
    for (size_t split = 0; split < sizeof replies; split++) {
        rig r;
        rig_start(&r, URL, NULL);
        rig_expect_open(&r, 0);
        r.broker->vtable->link_opened(r.broker, 0, r.now_us);
        rig_send(&r, 0, SIZE_MAX);
        tide_error error;
        feed_split(&r, 0, replies, sizeof replies - 1, split);
        assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_OK);
        rig_stop(&r);
    }
}

/* ---- odd replies ---- */

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
        rig_start(&r, URL, NULL);
        rig_connect(&r, 0);
        tide_op op = fetch_op(1, false, 0);
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
        tide_link_want want;
        assert_true(rig_want(&r, &want));
        assert_int_equal(want.action, TIDE_LINK_CLOSE);
        assert_int_equal(want.link, 1);
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
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    /* Waiting to be sent isn't asked yet. */
    tide_op op = publish_op(1, "s", three, 1);
    rig_submit(&r, &op);
    rig_feed(&r, 0, "$3\r\n5-0\r\n");
    rig_expect_none(&r);
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    rig_pass(&r, 4500);
    rig_connect(&r, 0);
    rig_expect_sent(&r, 0, XADD_1);
    rig_stop(&r);
}

static void a_publish_whose_reply_is_odd_is_unknown(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op op = publish_op(1, "s", three, 2);
    rig_submit(&r, &op);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "$3\r\n5-0\r\n:1\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_UNKNOWN);
    assert_int_equal(done.as.publish.results[0].status, TIDE_OK);
    assert_int_equal(done.as.publish.results[1].status, TIDE_UNKNOWN);
    rig_stop(&r);
}

/* ---- time ---- */

static void times_out_and_drops_the_link(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://h?timeout=1s", NULL);
    rig_connect(&r, 0);
    tide_op op = publish_op(1, "s", three, 1);
    rig_submit(&r, &op);
    rig_send(&r, 0, SIZE_MAX);
    rig_pass(&r, 500);
    tide_op behind = publish_op(2, "s", three, 1);
    rig_submit(&r, &behind);
    rig_send(&r, 0, 10);
    rig_pass(&r, 499);
    rig_expect_none(&r);
    rig_pass(&r, 1);
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_TIMEOUT);
    assert_int_equal(done.as.publish.results[0].status, TIDE_TIMEOUT);
    rig_expect(&r, &done, 2, TIDE_UNKNOWN);
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    /* The late reply meets no one. */
    rig_feed(&r, 0, "$3\r\n5-0\r\n");
    rig_expect_none(&r);
    rig_stop(&r);
}

static void what_was_never_sent_ends_as_disconnected(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://h?timeout=1s", NULL);
    tide_op op = publish_op(1, "s", three, 3);
    rig_submit(&r, &op);
    tide_op longer = publish_op(2, "s", three, 1);
    longer.timeout_ms = 60000;
    rig_submit(&r, &longer);
    op.tag = 3;
    rig_submit(&r, &op);
    rig_expect_open(&r, 0);
    rig_lose(&r, 0);
    assert_true(r.broker->vtable->deadline_us(r.broker) <= r.now_us + 1000000);
    rig_pass(&r, 1000);
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_DISCONNECTED);
    assert_int_equal(done.as.publish.results[1].status, TIDE_DISCONNECTED);
    assert_non_null(strstr(done.error.message, "cut by the test"));
    rig_expect(&r, &done, 3, TIDE_DISCONNECTED);
    rig_expect_none(&r);
    rig_pass(&r, 5000);
    tide_link_want want;
    while (!rig_want(&r, &want))
        rig_pass(&r, 100);
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, GREETING_REPLIES);
    rig_expect_sent(&r, 0, XADD_1);
    rig_stop(&r);
}

static void a_blocking_fetch_has_its_blocking_time_on_top(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://h?timeout=1s", NULL);
    rig_connect(&r, 0);
    tide_op op = fetch_op(1, false, 2000);
    rig_submit(&r, &op);
    op.tag = 2;
    rig_submit(&r, &op);
    rig_connect(&r, 1);
    rig_send(&r, 1, SIZE_MAX);
    rig_pass(&r, 5999); /* 1 s + 1.5 × 2 s + 2 s */
    rig_expect_none(&r);
    rig_pass(&r, 1);
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_TIMEOUT);
    rig_expect(&r, &done, 2, TIDE_UNKNOWN);
    rig_stop(&r);
}

static void a_silent_server_is_given_up(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://h?connect_timeout=2s", NULL);
    rig_expect_open(&r, 0);
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    rig_pass(&r, 2000);
    tide_error error;
    assert_int_equal(r.broker->vtable->state(r.broker, &error), TIDE_CONNECT);
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    rig_stop(&r);
}

static void backs_off_with_jitter_and_logs_a_line_a_second(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    int attempts = 0;
    tide_link_want want;
    for (int ms = 0; ms < 60000; ms += 10) {
        while (rig_want(&r, &want)) {
            assert_int_equal(want.action, TIDE_LINK_OPEN);
            attempts++;
            rig_lose(&r, 0);
        }
        rig_pass(&r, 10);
    }
    /* Six quick ones, then one in two seconds on average. */
    assert_in_range(attempts, 15, 80);
    assert_in_range(r.log_lines, 5, 61);
    rig_stop(&r);
}

/* ---- errors in mid-life ---- */

static void readonly_drops_the_link_when_all_is_answered(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    tide_op op = publish_op(1, "s", three, 2);
    rig_submit(&r, &op);
    rig_send(&r, 0, SIZE_MAX);
    tide_op later = publish_op(2, "s", three, 1);
    rig_submit(&r, &later);
    rig_feed(&r, 0, "-READONLY You can't write against a read only replica.\r\n");
    rig_expect_sent(&r, 0, "");
    rig_feed(&r, 0, "-READONLY You can't write against a read only replica.\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_READONLY);
    assert_int_equal(done.as.publish.results[1].status, TIDE_READONLY);
    tide_link_want want;
    assert_true(rig_want(&r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    rig_expect_none(&r);
    rig_pass(&r, 4500);
    rig_connect(&r, 0);
    rig_expect_sent(&r, 0, XADD_1);
    rig_stop(&r);
}

static void names_the_rule_that_a_user_lacks(void **state) {
    (void)state;
    rig r;
    rig_start(&r, "redis://bob:pw@h", NULL);
    rig_expect_open(&r, 0);
    r.broker->vtable->link_opened(r.broker, 0, r.now_us);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "+OK\r\n" GREETING_REPLIES);
    tide_op op = recover_op(1);
    rig_submit(&r, &op);
    rig_send(&r, 0, SIZE_MAX);
    rig_feed(&r, 0, "-NOPERM this user has no permissions to run the 'xautoclaim' command\r\n");
    tide_completion done;
    rig_expect(&r, &done, 1, TIDE_NOPERM);
    assert_non_null(strstr(done.error.message, "ACL SETUSER bob +xautoclaim"));
    assert_non_null(strstr(done.error.message, "~s"));
    assert_string_equal(done.error.server, "NOPERM");
    rig_stop(&r);
}

static void refuses_what_cannot_be_sent(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    tide_error error;
    tide_op op = publish_op(1, "", three, 1);
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_ARGUMENT);
    op = publish_op(1, "s", three, 0);
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_ARGUMENT);
    tide_record nameless = {one_field, 1, {"", 0}};
    op = publish_op(1, "s", &nameless, 1);
    op.as.publish.delay_ms = 5;
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_ARGUMENT);
    static char long_name[1000];
    memset(long_name, 'x', sizeof long_name - 1);
    op = publish_op(1, long_name, three, 1);
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_ARGUMENT);
    op = publish_op(1, "s", three, 1);
    for (int i = 0; i < 65536; i++)
        rig_submit(&r, &op);
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OVERFLOW);
    /* All of them time out at once, in a time that doesn't square with their number. */
    rig_pass(&r, 6000);
    tide_completion done;
    for (int i = 0; i < 65536; i++)
        rig_expect(&r, &done, 1, TIDE_DISCONNECTED);
    rig_stop(&r);
}

static void dropped_readers_go(void **state) {
    (void)state;
    rig r;
    rig_start(&r, URL, NULL);
    rig_connect(&r, 0);
    for (int round = 0; round < 100; round++) {
        tide_op op = fetch_op(1, false, 0);
        op.as.fetch.reader = 1 + (uint32_t)round;
        rig_submit(&r, &op);
        rig_connect(&r, 1);
        rig_send(&r, 1, SIZE_MAX);
        rig_feed(&r, 1, "*-1\r\n");
        tide_completion done;
        rig_expect(&r, &done, 1, TIDE_OK);
        r.broker->vtable->drop_reader(r.broker, 1 + (uint32_t)round, r.now_us);
        tide_link_want want;
        assert_true(rig_want(&r, &want));
        assert_int_equal(want.action, TIDE_LINK_CLOSE);
        assert_false(rig_want(&r, &want));
    }
    rig_stop(&r);
}

/* ---- memory ---- */

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
    if (!rig_start(&r, URL, alloc))
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
    tide_op fetch = fetch_op(2, true, 0);
    submitted += try_submit(&r, &fetch);
    serve(&r, "",
          "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n8-1\r\n*2\r\n$4\r\ndata\r\n$1\r\nx\r\n"
          "*1\r\n*4\r\n$3\r\n8-1\r\n$1\r\nc\r\n:1\r\n:4\r\n");
    drain(&r, &completed);
    tide_settlement items[2] = {
        {.id = {1, 2}},
        {.kind = TIDE_SETTLE_DELAY, .id = {3, 4}, .fields = one_field, .field_count = 1}};
    tide_op settle = settle_op(3, items, 2);
    submitted += try_submit(&r, &settle);
    serve(&r, ":1\r\n:1\r\n", "");
    tide_op extend = {.kind = TIDE_OP_EXTEND, .tag = 7};
    tide_id id = {1, 1};
    extend.as.extend.stream = str("s");
    extend.as.extend.group = str("g");
    extend.as.extend.consumer = str("c");
    extend.as.extend.ids = &id;
    extend.as.extend.id_count = 1;
    submitted += try_submit(&r, &extend);
    serve(&r, "*1\r\n$3\r\n1-1\r\n", "");
    tide_op recover = recover_op(8);
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
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        for (uint64_t n = 1;; n++) {
            failing_allocator memory;
            tide_allocator alloc = failing_allocator_init(&memory, n, from_then_on != 0);
            work(&alloc);
            assert_int_equal(failing_allocator_live_bytes(&memory), 0);
            if (memory.failed == 0) {
                assert_true(n > 30);
                break;
            }
        }
    }
}

static void no_allocation_for_each_event_when_warm(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    rig r;
    rig_start(&r, URL, &alloc);
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
        rig_submit(&r, &publish);
        rig_send(&r, 0, SIZE_MAX);
        rig_feed(&r, 0, ids);
        tide_completion done;
        rig_expect(&r, &done, 1, TIDE_OK);
        tide_op fetch = fetch_op(2, false, 100);
        rig_submit(&r, &fetch);
        if (round == 0)
            rig_connect(&r, 1);
        rig_send(&r, 1, SIZE_MAX);
        rig_feed(&r, 1, entries);
        rig_expect(&r, &done, 2, TIDE_OK);
        assert_int_equal(tide_batch_count(done.as.fetch.batch), 100);
        tide_batch_release(done.as.fetch.batch);
        tide_op settle = settle_op(3, items, 100);
        rig_submit(&r, &settle);
        rig_send(&r, 0, SIZE_MAX);
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
        cmocka_unit_test(greets_with_credentials_and_db),
        cmocka_unit_test(a_refused_password_fails_what_waits_and_is_never_shown),
        cmocka_unit_test(a_password_that_is_handed_in_is_said_from_the_next_connection_on_F18),
        cmocka_unit_test(after_a_refusal_the_next_greeting_feels_its_way_F34),
        cmocka_unit_test(a_loading_server_is_tried_again_and_nothing_fails),
        cmocka_unit_test(writes_exact_commands),
        cmocka_unit_test(recovers_with_nils_of_6_2_and_pages),
        cmocka_unit_test(says_a_script_again_with_its_text),
        cmocka_unit_test(evaluates_once_and_no_more),
        cmocka_unit_test(an_odd_answer_to_a_settlement_is_unknown),
        cmocka_unit_test(cut_at_every_byte_of_a_publish),
        cmocka_unit_test(cut_at_every_byte_of_the_reply),
        cmocka_unit_test(replies_split_at_every_byte),
        cmocka_unit_test(greeting_split_at_every_byte),
        cmocka_unit_test(odd_replies_drop_the_link),
        cmocka_unit_test(a_reply_nobody_asked_for_drops_the_link),
        cmocka_unit_test(a_publish_whose_reply_is_odd_is_unknown),
        cmocka_unit_test(times_out_and_drops_the_link),
        cmocka_unit_test(what_was_never_sent_ends_as_disconnected),
        cmocka_unit_test(a_blocking_fetch_has_its_blocking_time_on_top),
        cmocka_unit_test(a_silent_server_is_given_up),
        cmocka_unit_test(backs_off_with_jitter_and_logs_a_line_a_second),
        cmocka_unit_test(readonly_drops_the_link_when_all_is_answered),
        cmocka_unit_test(names_the_rule_that_a_user_lacks),
        cmocka_unit_test(refuses_what_cannot_be_sent),
        cmocka_unit_test(dropped_readers_go),
        cmocka_unit_test(the_nth_allocation_fails),
        cmocka_unit_test(no_allocation_for_each_event_when_warm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
