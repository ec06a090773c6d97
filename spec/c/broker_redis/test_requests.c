/* SPDX-License-Identifier: MIT */
/* Exact requests and canned replies, whole and in every split. */
#include "rig.h"

#include <stdio.h>

#include "broker/redis/redis.h"

/* ---- exact requests ---- */

#define OP(KIND, member, ...)                                                                      \
    {                                                                                              \
        .kind = TIDE_OP_##KIND, .tag = 1, .as.member = { __VA_ARGS__ }                             \
    }
#define S .stream = {"s", 1}
#define G S, .group = {"g", 1}
#define C G, .consumer = {"c", 1}
#define K .key = {"k", 1}

static const tide_settlement acks[2] = {{.id = {1, 2}}, {.id = {3, 4}}};
static const tide_settlement mixed[4] = {
    {.id = {1, 2}},
    {.kind = TIDE_SETTLE_ATTEMPT, .id = {5, 6}, .attempt = 2},
    {.kind = TIDE_SETTLE_RELEASE, .id = {5, 7}},
    {.id = {3, 4}},
};
static const tide_str words[3] = {{"HSET", 4}, {"h", 1}, {"f", 1}};

/* What is asked, what is answered, how it ends. `$sha` stands for the SHA-1 of a script, any. */
static const struct {
    tide_op op;
    const char *sent, *reply;
    tide_status status;
} exact[] = {
    {OP(PUBLISH, publish, S, .records = three, .record_count = 1), "XADD s * data 1",
     "$3\r\n5-0\r\n", TIDE_OK},
    {OP(PUBLISH, publish, S, .records = three, .record_count = 2, .max_len = 1000),
     "XADD s MAXLEN ~ 1000 * data 1|XADD s MAXLEN ~ 1000 * data 1", "$3\r\n5-0\r\n-OOM command\r\n",
     TIDE_OOM},
    {OP(PUBLISH, publish, S, .records = three, .record_count = 1, .max_len = 9,
        .max_len_exact = true),
     "XADD s MAXLEN = 9 * data 1", "$3\r\n5-0\r\n", TIDE_OK},
    {OP(PUBLISH, publish, S, .records = three, .record_count = 1, .expect = TIDE_EXPECT_VERSION,
        .expect_version = 7, .max_len = 9),
     "EVALSHA $sha 2 s {s}:version =7 ~ 9 2 data 1", "*2\r\n:0\r\n:8\r\n", TIDE_CONFLICT},
    {OP(CANCEL, cancel, S, .event_id = {"a", 1}),
     "EVALSHA $sha 3 {s}:delayed {s}:delayed:events {s}:dedupe:a a", ":1\r\n", TIDE_OK},
    {OP(PROMOTE, promote, S, .count_max = 5),
     "EVALSHA $sha 4 s {s}:delayed {s}:delayed:events {s}:dlq 5", "*3\r\n:1\r\n:20\r\n:0\r\n",
     TIDE_OK},
    {OP(GROUP_ENSURE, group_ensure, G, .start = {"$", 1}), "XGROUP CREATE s g $ MKSTREAM",
     "-BUSYGROUP Consumer Group name already exists\r\n", TIDE_OK},
    {OP(GROUP_ENSURE, group_ensure, G), "XGROUP CREATE s g 0 MKSTREAM", "+OK\r\n", TIDE_OK},
    {OP(SETTLE, settle, C, .items = acks, .item_count = 2), "XACK s g 1-2 3-4", ":0\r\n", TIDE_OK},
    {OP(SETTLE, settle, C, .items = mixed, .item_count = 4),
     "XACK s g 1-2|EVALSHA $sha 1 s g c attempt 5-6 2 release 5-7 0|XACK s g 3-4",
     ":1\r\n*2\r\n:1\r\n:1\r\n:1\r\n", TIDE_OK},
    {OP(RECOVER, recover, C, .min_idle_ms = 500, .cursor = {4, 2}, .count_max = 10),
     "XAUTOCLAIM s g c 500 4-2 COUNT 10", "*3\r\n$3\r\n0-0\r\n*0\r\n*0\r\n", TIDE_OK},
    {OP(KV, kv, K), "GET k|PTTL k", "$1\r\nv\r\n:-1\r\n", TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_SET, .value = {"v", 1}), "SET k v", "+OK\r\n", TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_SET, .value = {"v", 1}, .ttl_ms = 9), "SET k v PX 9", "+OK\r\n",
     TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_ADD, .value = {"v", 1}), "EVALSHA $sha 1 k v 0",
     "*2\r\n:0\r\n$1\r\nw\r\n", TIDE_EXISTS},
    {OP(KV, kv, K, .verb = TIDE_KV_REPLACE, .value = {"v", 1}, .expected = {"u", 1}),
     "EVALSHA $sha 1 k v 0 u", "*1\r\n:0\r\n", TIDE_CONFLICT},
    {OP(KV, kv, K, .verb = TIDE_KV_DELETE), "DEL k", ":1\r\n", TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_DELETE_IF, .expected = {"u", 1}), "EVALSHA $sha 1 k u",
     "*1\r\n:1\r\n", TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_INCREMENT, .amount = -2), "INCRBY k -2", ":3\r\n", TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_EXPIRE, .ttl_ms = 9), "PEXPIRE k 9", ":1\r\n", TIDE_OK},
    {OP(KV, kv, K, .verb = TIDE_KV_EXPIRE), "PERSIST k", ":1\r\n", TIDE_OK},
    {OP(COMMAND, command, .args = words, .arg_count = 3), "HSET h f",
     "-ERR wrong number of arguments\r\n", TIDE_REPLY},
};

/* The name of a script becomes "$sha". */
static void expect_exactly(rig *r, uint32_t link, const char *wanted) {
    tide_str out = r->broker->vtable->output(r->broker, link);
    const char *at = strstr(wanted, "$sha");
    if (at == NULL) {
        rig_expect_request(r, link, wanted);
        return;
    }
    /* Requests before it have no other bytes of that form. */
    const char *sha = NULL;
    for (size_t i = 0; i + 45 < out.len && sha == NULL; i++) {
        if (memcmp(out.data + i, "$40\r\n", 5) == 0)
            sha = out.data + i + 5;
    }
    assert_non_null(sha);
    char text[512];
    snprintf(text, sizeof text, "%.*s%.40s%s", (int)(at - wanted), wanted, sha, at + 4);
    rig_expect_request(r, link, text);
}

static void asks_exactly_this_and_understands_the_answer(void **state) {
    rig *r = *state;
    for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++) {
        rig_submit(r, &exact[i].op);
        expect_exactly(r, 0, exact[i].sent);
        rig_expect_none(r);
        rig_feed(r, 0, exact[i].reply);
        tide_completion done;
        rig_expect(r, &done, 1, exact[i].status);
        rig_expect_none(r);
    }
}

static void each_record_has_its_own_result(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 2);
    rig_ask(r, 0, &op);
    rig_feed(r, 0, "$3\r\n5-0\r\n-OOM command not allowed\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_OOM);
    assert_int_equal(done.as.publish.results[0].status, TIDE_OK);
    assert_int_equal(done.as.publish.results[0].id.ms, 5);
    assert_int_equal(done.as.publish.results[1].status, TIDE_OOM);
    assert_string_equal(done.error.server, "OOM");
}

static void reads_new_entries_and_history_with_attempts(void **state) {
    rig *r = *state;
    tide_completion done;
    tide_op op = fetch_op(4, "s", "c", 10, 2000);
    rig_submit(r, &op);
    rig_connect(r, 1);
    rig_expect_request(r, 1, "XREADGROUP GROUP g c COUNT 10 BLOCK 2000 STREAMS s >");
    rig_feed(r, 1, "*-1\r\n");
    rig_expect(r, &done, 4, TIDE_OK);
    assert_null(done.as.fetch.batch);
    op = fetch_op(5, "s", "c", 10, 0);
    op.as.fetch.history = true;
    op.as.fetch.after = (tide_id){7, 1};
    rig_submit(r, &op);
    rig_expect_request(r, 1, "XREADGROUP GROUP g c COUNT 10 STREAMS s 7-1");
    rig_feed(r, 1,
             "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n8-1\r\n*2\r\n$4\r\ndata\r\n$1\r\nx\r\n"
             "*2\r\n$3\r\n9-1\r\n*-1\r\n");
    rig_expect_none(r);
    rig_expect_request(r, 1, "XPENDING s g 8-1 9-1 128 c");
    rig_feed(r, 1,
             "*2\r\n*4\r\n$3\r\n8-1\r\n$1\r\nc\r\n:1\r\n:4\r\n"
             "*4\r\n$3\r\n9-1\r\n$1\r\nc\r\n:1\r\n:2\r\n");
    rig_expect(r, &done, 5, TIDE_OK);
    tide_batch *batch = done.as.fetch.batch;
    assert_int_equal(tide_batch_count(batch), 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 4);
    assert_true(tide_batch_entry(batch, 1)->gone);
    assert_int_equal(tide_batch_entry(batch, 1)->attempt, 2);
    /* The batch outlives its connection. */
    rig_lose(r, 1);
    assert_memory_equal(tide_batch_entry(batch, 0)->fields[0].value.data, "x", 1);
    tide_batch_release(batch);
}

static void recovers_with_nils_of_6_2_and_pages(void **state) {
    rig *r = *state;
    tide_op op = recover_op(1, "s", "c", 500);
    rig_ask(r, 0, &op);
    rig_feed(r, 0,
             "*2\r\n$3\r\n9-0\r\n*3\r\n*-1\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
             "*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    rig_expect_none(r);
    expect_exactly(r, 0, "EVALSHA $sha 1 s g c 0-0 9-0 1|XPENDING s g 3-0 5-0 128 c");
    rig_feed(r, 0, "*2\r\n$3\r\n2-0\r\n:3\r\n");
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
    rig_feed(r, 0, page);
    rig_expect_request(r, 0, "XPENDING s g (4-127 5-0 128 c");
    rig_feed(r, 0, "*1\r\n*4\r\n$3\r\n5-0\r\n$1\r\nc\r\n:1\r\n:8\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_OK);
    tide_batch *batch = done.as.recover.batch;
    assert_int_equal(done.as.recover.cursor.ms, 9);
    assert_int_equal(tide_batch_count(batch), 3);
    assert_true(tide_batch_entry(batch, 0)->gone);
    assert_int_equal(tide_batch_entry(batch, 0)->id.ms, 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 3);
    assert_int_equal(tide_batch_entry(batch, 1)->attempt, 7);
    assert_int_equal(tide_batch_entry(batch, 2)->attempt, 8);
    tide_batch_release(batch);
}

/* A peer's late ack may come before the question for the attempts, or after it. */
static void what_is_acked_before_its_attempts_are_known_is_settled(void **state) {
    rig *r = *state;
    static const char *const entries = "*2\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
                                       "*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n";
    static const char *const third = "*4\r\n$3\r\n3-0\r\n$1\r\nc\r\n:1\r\n:7\r\n";
    static const char *const fifth = "*4\r\n$3\r\n5-0\r\n$1\r\nc\r\n:1\r\n:8\r\n";
    for (int history = 0; history < 2; history++) {
        for (int pending = 0; pending < 4; pending++) {
            char text[512];
            tide_completion done;
            tide_op op = history ? fetch_op(1, "s", "c", 10, 0) : recover_op(1, "s", "c", 500);
            if (history)
                op.as.fetch.history = true;
            rig_submit(r, &op);
            if (history && pending == 0)
                rig_connect(r, 1);
            rig_expect_request(r, (uint32_t)history,
                               history ? "XREADGROUP GROUP g c COUNT 10 STREAMS s 0-0"
                                       : "XAUTOCLAIM s g c 500 0-0 COUNT 10");
            snprintf(text, sizeof text,
                     history ? "*1\r\n*2\r\n$1\r\ns\r\n%s" : "*3\r\n$3\r\n0-0\r\n%s*0\r\n",
                     entries);
            rig_feed(r, (uint32_t)history, text);
            rig_expect_request(r, (uint32_t)history, "XPENDING s g 3-0 5-0 128 c");
            snprintf(text, sizeof text, "*%d\r\n%s%s", (pending & 1) + (pending >> 1),
                     pending & 1 ? third : "", pending & 2 ? fifth : "");
            rig_feed(r, (uint32_t)history, text);
            rig_expect(r, &done, 1, TIDE_OK);
            tide_batch *batch = history ? done.as.fetch.batch : done.as.recover.batch;
            assert_int_equal(tide_batch_count(batch), 2);
            for (int i = 0; i < 2; i++) {
                const tide_entry *entry = tide_batch_entry(batch, (size_t)i);
                assert_int_equal(entry->settled, (pending >> i & 1) == 0);
                if (!entry->settled)
                    assert_int_equal(entry->attempt, 7 + i);
            }
            tide_batch_release(batch);
        }
    }
}

/* They have changed hands, or have been counted as delivered: whoever asked must look again. */
static void entries_without_their_attempts_are_unknown(void **state) {
    rig *r = *state;
    tide_completion done;
    tide_op op = recover_op(1, "s", "c", 500);
    rig_ask(r, 0, &op);
    rig_feed(r, 0,
             "*3\r\n$3\r\n0-0\r\n*1\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*0\r\n");
    expect_exactly(r, 0, "XPENDING s g 3-0 3-0 128 c");
    rig_feed(r, 0, "-LOADING Redis is loading the dataset in memory\r\n");
    rig_expect(r, &done, 1, TIDE_UNKNOWN);
    assert_null(done.as.recover.batch);
    rig_ask(r, 0, &op);
    rig_feed(r, 0, "-LOADING Redis is loading the dataset in memory\r\n");
    rig_expect(r, &done, 1, TIDE_LOADING);
}

static void says_a_script_again_with_its_text(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 1);
    op.as.publish.dedupe_window_ms = 5000;
    rig_submit(r, &op);
    tide_str sha = redis_script_sha1(SCRIPT_DEDUPE), text = redis_script_text(SCRIPT_DEDUPE);
    char wanted[8192];
#define TAIL                                                                                       \
    "$1\r\n2\r\n$1\r\ns\r\n$12\r\n{s}:dedupe:a\r\n$4\r\n5000\r\n$0\r\n\r\n$1\r\n0\r\n$1\r\n2\r\n"  \
    "$4\r\ndata\r\n$1\r\n1\r\n"
    snprintf(wanted, sizeof wanted, "*11\r\n$7\r\nEVALSHA\r\n$40\r\n%.*s\r\n" TAIL, (int)sha.len,
             sha.data);
    rig_expect_sent(r, 0, wanted);
    rig_feed(r, 0, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    snprintf(wanted, sizeof wanted, "*11\r\n$4\r\nEVAL\r\n$%zu\r\n%.*s\r\n" TAIL, text.len,
             (int)text.len, text.data);
    rig_expect_sent(r, 0, wanted);
    rig_feed(r, 0, "*2\r\n$3\r\n5-1\r\n:1\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_OK);
    assert_true(done.as.publish.results[0].duplicate);
}

static void evaluates_once_and_no_more(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 1);
    op.as.publish.dedupe_window_ms = 5000;
    rig_submit(r, &op);
    for (int i = 0; i < 2; i++) {
        assert_true(rig_send(r, 0, SIZE_MAX) > 0);
        rig_feed(r, 0, "-NOSCRIPT No matching script.\r\n");
    }
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_NOSCRIPT);
    rig_expect_sent(r, 0, "");
}

static void an_odd_answer_to_a_settlement_is_unknown(void **state) {
    (void)state;
    static const char *const odd[] = {"+OK\r\n", "*1\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n",
                                      "*2\r\n:1\r\n$1\r\nx\r\n"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        rig r;
        rig_start(&r, "redis://h", NULL);
        rig_connect(&r, 0);
        tide_op op = settle_op(1, "s", mixed + 1, 2);
        rig_ask(&r, 0, &op);
        rig_feed(&r, 0, odd[i]);
        tide_completion done;
        rig_expect(&r, &done, 1, TIDE_UNKNOWN);
        assert_int_equal(done.as.settle.results[1], TIDE_UNKNOWN);
        rig_stop(&r);
    }
}

static void a_publish_whose_reply_is_odd_is_unknown(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 2);
    rig_ask(r, 0, &op);
    rig_feed(r, 0, "$3\r\n5-0\r\n:1\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_UNKNOWN);
    assert_int_equal(done.as.publish.results[0].status, TIDE_OK);
    assert_int_equal(done.as.publish.results[1].status, TIDE_UNKNOWN);
}

/* ---- replies in every split ---- */

/* Everything that a busy consumer exchanges, with the replies fed in two pieces, cut at `split`, or byte by byte. */
static const char shared_replies[] =
    "$3\r\n5-1\r\n$3\r\n5-2\r\n$3\r\n5-3\r\n+OK\r\n:2\r\n*3\r\n:1\r\n:-1\r\n:0\r\n$-1\r\n:-2\r\n";
static const char reader_replies[] = "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n8-1\r\n*4\r\n"
                                     "$4\r\ndata\r\n$2\r\nx\n\r\n$1\r\na\r\n$0\r\n\r\n"
                                     "*2\r\n$3\r\n9-1\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n*-1\r\n";

static void exchange(size_t split) {
    rig r;
    rig_start(&r, "redis://h", NULL);
    rig_connect(&r, 0);
    const tide_op ops[] = {
        publish_op(1, "s", three, 3), group_op(2, "s", "0"), settle_op(3, "s", acks, 2),
        promote_op(4, "s"),           OP(KV, kv, K),
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        tide_op op = ops[i];
        op.tag = i + 1;
        rig_submit(&r, &op);
    }
    rig_send(&r, 0, SIZE_MAX);
    rig_feed_split(&r, 0, shared_replies, split);
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
    tide_op fetch = fetch_op(6, "s", "c", 10, 100);
    rig_submit(&r, &fetch);
    fetch.tag = 7;
    rig_submit(&r, &fetch);
    rig_connect(&r, 1);
    rig_send(&r, 1, SIZE_MAX);
    rig_feed_split(&r, 1, reader_replies, split);
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

static void names_the_rule_that_a_user_lacks(void **state) {
    rig *r = *state;
    rig_open(r, 0);
    rig_feed(r, 0, "+OK\r\n" GREETING_REPLIES);
    tide_op op = recover_op(1, "s", "c", 500);
    rig_ask(r, 0, &op);
    rig_feed(r, 0, "-NOPERM this user has no permissions to run the 'xautoclaim' command\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_NOPERM);
    assert_non_null(strstr(done.error.message, "ACL SETUSER bob +xautoclaim"));
    assert_non_null(strstr(done.error.message, "~s"));
    assert_string_equal(done.error.server, "NOPERM");
}

/* Valkey from 9.1 lets a user into some databases only: another rule of commands and keys wouldn't mend that. */
static void names_the_database_that_a_user_lacks(void **state) {
    rig *r = *state;
    rig_open(r, 0);
    rig_feed(r, 0, "+OK\r\n" GREETING_REPLIES);
    tide_op op = recover_op(1, "s", "c", 500);
    rig_ask(r, 0, &op);
    rig_feed(r, 0, "-NOPERM No permissions to access database\r\n");
    tide_completion done;
    rig_expect(r, &done, 1, TIDE_NOPERM);
    assert_string_equal(done.error.message,
                        "user \"bob\" may not use database 0; mend it by: ACL SETUSER bob db=0");
    assert_string_equal(done.error.server, "NOPERM");
}

/* ---- what is refused ---- */

static tide_status submit(rig *r, const tide_op *op) {
    tide_error error;
    return r->broker->vtable->submit(r->broker, op, r->now_us, &error);
}

static void refuses_what_cannot_be_sent(void **state) {
    rig *r = *state;
    static char long_name[1000];
    memset(long_name, 'x', sizeof long_name - 1);
    static const tide_record nameless = {one_field, 1, {"", 0}};
    const tide_op refused[] = {
        publish_op(1, "", three, 1),
        publish_op(1, "s", three, 0),
        publish_op(1, long_name, three, 1),
        OP(PUBLISH, publish, S, .records = &nameless, .record_count = 1, .delay_ms = 5),
        OP(PUBLISH, publish, S, .records = three, .record_count = 1, .delay_ms = -5),
        OP(PUBLISH, publish, S, .records = three, .record_count = 1, .delay_ms = 5,
           .expect = TIDE_EXPECT_ANY),
        group_op(1, "", "0"),
        settle_op(1, "s", acks, 0),
        recover_op(1, "s", "", 0),
        fetch_op(1, "s", "c", 1, -1),
        {.kind = TIDE_OP_KIND_COUNT},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(submit(r, &refused[i]), TIDE_ARGUMENT);
        rig_expect_sent(r, 0, "");
    }
}

static void a_queue_has_its_bound_and_times_out_in_linear_time(void **state) {
    rig *r = *state;
    tide_op op = publish_op(1, "s", three, 1);
    for (int i = 0; i < 65536; i++)
        rig_submit(r, &op);
    assert_int_equal(submit(r, &op), TIDE_OVERFLOW);
    rig_pass(r, 6000);
    tide_completion done;
    for (int i = 0; i < 65536; i++)
        rig_expect(r, &done, 1, TIDE_DISCONNECTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CONNECTED(asks_exactly_this_and_understands_the_answer),
        CONNECTED(each_record_has_its_own_result),
        CONNECTED(reads_new_entries_and_history_with_attempts),
        CONNECTED(recovers_with_nils_of_6_2_and_pages),
        CONNECTED(what_is_acked_before_its_attempts_are_known_is_settled),
        CONNECTED(entries_without_their_attempts_are_unknown),
        CONNECTED(says_a_script_again_with_its_text),
        CONNECTED(evaluates_once_and_no_more),
        cmocka_unit_test(an_odd_answer_to_a_settlement_is_unknown),
        CONNECTED(a_publish_whose_reply_is_odd_is_unknown),
        cmocka_unit_test(replies_split_at_every_byte),
        STARTED(names_the_rule_that_a_user_lacks, "redis://bob:pw@h"),
        STARTED(names_the_database_that_a_user_lacks, "redis://bob:pw@h"),
        CONNECTED(refuses_what_cannot_be_sent),
        STARTED(a_queue_has_its_bound_and_times_out_in_linear_time, "redis://h"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
