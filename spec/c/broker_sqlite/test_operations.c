/* SPDX-License-Identifier: MIT */
/*
 * What it is: the embedded engine's key-values and commands, and what holds for operations of every kind: what is refused,
 * what shares a commit, how many there may be. In memory.
 * What it is not: the conformance suite, which holds all engines to the same from Lua.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/text.h"

static rig r;

/* ---- key-value ---- */

static tide_status kv(tide_kv_verb verb, const char *value, const char *expected, int64_t amount,
                      int64_t ttl_ms) {
    tide_op op = {.kind = TIDE_OP_KV};
    op.as.kv = (tide_op_kv){verb, TIDE_STR("k"), str(value), str(expected), amount, ttl_ms};
    return rig_do(&r, op);
}

static void keeps_values_and_compares_them(void **state) {
    (void)state;
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_false(r.last.as.kv.found);
    assert_int_equal(kv(TIDE_KV_REPLACE, "v", "x", 0, 0), TIDE_CONFLICT);
    assert_false(r.last.as.kv.found);
    assert_int_equal(kv(TIDE_KV_ADD, "one", "", 0, 0), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_ADD, "two", "", 0, 0), TIDE_EXISTS);
    assert_str(r.last.as.kv.value, "one");
    assert_int_equal(kv(TIDE_KV_REPLACE, "two", "other", 0, 0), TIDE_CONFLICT);
    assert_str(r.last.as.kv.value, "one");
    assert_int_equal(kv(TIDE_KV_REPLACE, "two", "one", 0, 0), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_str(r.last.as.kv.value, "two");
    assert_int_equal(r.last.as.kv.ttl_ms, -1);
    assert_int_equal(kv(TIDE_KV_DELETE_IF, "", "one", 0, 0), TIDE_CONFLICT);
    assert_int_equal(kv(TIDE_KV_DELETE_IF, "", "two", 0, 0), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_DELETE, "", "", 0, 0), TIDE_OK);
    assert_false(r.last.as.kv.found);
}

static void counts_and_forgets(void **state) {
    (void)state;
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", 5, 0), TIDE_OK);
    assert_int_equal(r.last.as.kv.integer, 5);
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", -7, 100), TIDE_OK);
    assert_int_equal(r.last.as.kv.integer, -2);
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_str(r.last.as.kv.value, "-2");
    assert_int_equal(r.last.as.kv.ttl_ms, 100);
    r.now_us += 100000;
    assert_int_equal(kv(TIDE_KV_GET, "", "", 0, 0), TIDE_OK);
    assert_false(r.last.as.kv.found);
    assert_int_equal(kv(TIDE_KV_EXPIRE, "", "", 0, 50), TIDE_OK);
    assert_false(r.last.as.kv.found);
    kv(TIDE_KV_SET, "9223372036854775807", "", 0, 0);
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", 1, 0), TIDE_REPLY);
    kv(TIDE_KV_SET, "text", "", 0, 0);
    assert_int_equal(kv(TIDE_KV_INCREMENT, "", "", 1, 0), TIDE_REPLY);
    assert_int_equal(kv(TIDE_KV_EXPIRE, "", "", 0, 50), TIDE_OK);
    assert_true(r.last.as.kv.found);
    r.now_us += 50000;
    assert_int_equal(kv(TIDE_KV_ADD, "new", "", 0, 0), TIDE_OK);
}

static void a_name_is_a_stream_or_a_value(void **state) {
    (void)state;
    assert_int_equal(kv(TIDE_KV_SET, "v", "", 0, 0), TIDE_OK);
    assert_int_equal(rig_publish(&r, "k", "a", "x"), TIDE_WRONGTYPE);
    assert_int_equal(r.last.as.publish.results[0].status, TIDE_WRONGTYPE);
    assert_int_equal(rig_ensure(&r, "k", "g", "0"), TIDE_WRONGTYPE);
    assert_string_equal(
        COMMAND(&r, "XADD", "k", "*", "a", "b"),
        "(error) WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_int_equal(r.last.status, TIDE_WRONGTYPE);
    assert_string_equal(COMMAND(&r, "TYPE", "k"), "string");
    assert_int_equal(kv(TIDE_KV_DELETE, "", "", 0, 0), TIDE_OK);
    assert_int_equal(rig_publish(&r, "k", "a", "x"), TIDE_OK);
    assert_int_equal(kv(TIDE_KV_SET, "v", "", 0, 0), TIDE_WRONGTYPE);
    assert_string_equal(COMMAND(&r, "TYPE", "k"), "stream");
}

/* ---- commands ---- */

static void answers_what_it_has_not_plainly(void **state) {
    (void)state;
    assert_string_equal(COMMAND(&r, "LPUSH", "l", "1"),
                        "(error) TIDE-UNSUPPORTED LPUSH is not on this engine");
    assert_int_equal(r.last.status, TIDE_UNSUPPORTED);
    assert_string_equal(COMMAND(&r, "XGROUP", "CREATE", "s", "g", "0"),
                        "(error) ERR The XGROUP subcommand requires the key to exist. Note that "
                        "for CREATE you may want to use the MKSTREAM option to create an empty "
                        "stream automatically.");
    assert_int_equal(r.last.status, TIDE_REPLY);
    assert_string_equal(COMMAND(&r, "XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"), "OK");
    assert_string_equal(COMMAND(&r, "XGROUP", "CREATE", "s", "g", "0"),
                        "(error) BUSYGROUP Consumer Group name already exists");
    assert_int_equal(r.last.status, TIDE_EXISTS);
    assert_string_equal(COMMAND(&r, "XADD", "s"),
                        "(error) ERR wrong number of arguments for 'xadd' command");
    assert_string_equal(COMMAND(&r, "PING"), "PONG");
}

static void lists_and_deletes_keys(void **state) {
    (void)state;
    rig_ensure(&r, "s", "g", "0");
    rig_publish(&r, "s", "e0", "x");
    kv(TIDE_KV_SET, "v", "", 0, 0);
    tide_record later = rig_record("later");
    tide_op delayed = rig_publish_op("s", &later, 1);
    delayed.as.publish.delay_ms = 2000;
    assert_int_equal(rig_do(&r, delayed), TIDE_OK);
    assert_string_equal(COMMAND(&r, "KEYS", "*"),
                        "[\"s\", \"k\", \"{s}:delayed\", \"{s}:delayed:events\"]");
    assert_string_equal(COMMAND(&r, "SCAN", "0", "TYPE", "stream"), "[\"0\", [\"s\"]]");
    assert_string_equal(COMMAND(&r, "KEYS", "[a-k]"), "[\"k\"]");
    assert_string_equal(COMMAND(&r, "DEL", "s", "k", "nothing"), "2");
    assert_string_equal(COMMAND(&r, "EXISTS", "s", "{s}:delayed"), "1");
    assert_int_equal(rig_fetch(&r, "s", "g", "c", 1), TIDE_NOGROUP);
    assert_string_equal(COMMAND(&r, "FLUSHALL"), "OK");
    assert_string_equal(COMMAND(&r, "DBSIZE"), "0");
}

static void a_blocked_read_keeps_its_dollar(void **state) {
    (void)state;
    COMMAND(&r, "XADD", "s", "1-0", "a", "b");
    assert_string_equal(COMMAND(&r, "XREAD", "BLOCK", "1000", "STREAMS", "s", "$"), "(waiting)");
    tide_record record = rig_record("x");
    rig_submit(&r, rig_publish_op("other", &record, 1));
    assert_true(rig_next(&r));
    assert_false(rig_next(&r));
    rig_submit(&r, rig_publish_op("s", &record, 1));
    assert_true(rig_next(&r));
    assert_int_equal(r.last.kind, TIDE_OP_PUBLISH);
    assert_true(rig_next(&r));
    assert_int_equal(r.last.kind, TIDE_OP_COMMAND);
    assert_int_equal(r.last.as.command.reply->type, TIDE_REPLY_ARRAY);
    const tide_reply *entries = &r.last.as.command.reply->as.array.items[0].as.array.items[1];
    assert_int_equal(entries->as.array.count, 1);
    assert_string_equal(COMMAND(&r, "XREAD", "BLOCK", "100", "STREAMS", "s", "$"), "(waiting)");
    r.now_us += 100000;
    assert_true(rig_next(&r));
    assert_int_equal(r.last.as.command.reply->type, TIDE_REPLY_NIL);
}

/* ---- operations of every kind ---- */

static void refuses_what_makes_no_sense(void **state) {
    (void)state;
    static char long_name[TIDE_NAME_MAX + 2];
    memset(long_name, 'n', sizeof long_name - 1);
    tide_record record = rig_record("a"), empty = {NULL, 0, {"", 0}}, nameless = record;
    nameless.event_id = (tide_str){"", 0};
    tide_op ops[] = {
        rig_publish_op("", &record, 1),
        rig_publish_op(long_name, &record, 1),
        rig_publish_op("s", &record, 0),
        rig_publish_op("s", &empty, 1),
        rig_publish_op("s", &nameless, 1),
        rig_publish_op("s", &record, 1),
        rig_publish_op("s", &record, 1),
        rig_fetch_op("s", "g", "c", 0),
        rig_fetch_op("s", "", "c", 1),
        {.kind = TIDE_OP_SETTLE},
        {.kind = TIDE_OP_EXTEND},
        {.kind = TIDE_OP_KV},
        {.kind = TIDE_OP_COMMAND},
        {.kind = TIDE_OP_KIND_COUNT},
        rig_publish_op("s", &record, TIDE_PUBLISH_MAX + 1),
    };
    ops[4].as.publish.delay_ms = 1;
    ops[5].as.publish.delay_ms = -1;
    ops[6].as.publish.expect = TIDE_EXPECT_ANY;
    ops[6].as.publish.delay_ms = 1;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        tide_error error = {0};
        tide_status status = r.broker->vtable->submit(r.broker, &ops[i], r.now_us, &error);
        assert_true(status == TIDE_ARGUMENT || status == TIDE_LIMIT);
        assert_true(error.message[0] != '\0');
        assert_false(rig_next(&r));
    }
}

static void many_operations_share_one_commit(void **state) {
    (void)state;
    rig_ensure(&r, "s", "g", "0");
    int64_t before = rig_server_integer(&r, "commits");
    for (int i = 0; i < 100; i++) {
        tide_record record = rig_record("x");
        tide_op op = rig_publish_op("s", &record, 1);
        if (i % 10 == 5) { /* a refusal among them harms nobody */
            op.as.publish.expect = TIDE_EXPECT_VERSION;
            op.as.publish.expect_version = 1000;
        }
        rig_submit(&r, op);
    }
    rig_run(&r);
    for (int i = 0; i < 100; i++) {
        assert_true(rig_next(&r));
        assert_int_equal(r.last.status, i % 10 == 5 ? TIDE_CONFLICT : TIDE_OK);
    }
    assert_int_equal(rig_server_integer(&r, "commits"), before + 1);
    assert_string_equal(COMMAND(&r, "XLEN", "s"), "90");
}

static void bounds_what_is_under_way(void **state) {
    (void)state;
    tide_op op = {.kind = TIDE_OP_SERVER};
    tide_error error;
    for (int i = 0; i < TIDE_OPS_MAX; i++)
        assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OK);
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OVERFLOW);
    for (int i = 0; i < TIDE_OPS_MAX; i++)
        assert_true(rig_next(&r));
    assert_false(rig_next(&r));
    assert_int_equal(r.broker->vtable->submit(r.broker, &op, r.now_us, &error), TIDE_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_MEMORY(keeps_values_and_compares_them, &r),
        IN_MEMORY(counts_and_forgets, &r),
        IN_MEMORY(a_name_is_a_stream_or_a_value, &r),
        IN_MEMORY(answers_what_it_has_not_plainly, &r),
        IN_MEMORY(lists_and_deletes_keys, &r),
        IN_MEMORY(a_blocked_read_keeps_its_dollar, &r),
        IN_MEMORY(refuses_what_makes_no_sense, &r),
        IN_MEMORY(many_operations_share_one_commit, &r),
        IN_MEMORY(bounds_what_is_under_way, &r),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
