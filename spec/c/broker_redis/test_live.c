/* SPDX-License-Identifier: MIT */
/* Every other operation against real servers: publishing, key-values, commands, connections. Each test runs on Redis and on
 * Valkey, where installed. */
#include "rig.h"

#include <signal.h>
#include <time.h>

#include "broker/redis/redis.h"

static void publishes_once(void **state) {
    (void)state;
    tide_field field = {str("event_id"), str("a")};
    tide_record records[3] = {{&field, 1, str("a")}, {&field, 1, str("b")}, {&field, 1, str("a")}};
    tide_op op = publish_op(1, "orders", records, 3);
    op.as.publish.dedupe_window_ms = 60000;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_false(done.as.publish.results[0].duplicate);
    assert_false(done.as.publish.results[1].duplicate);
    assert_true(done.as.publish.results[2].duplicate);
    tide_id first = done.as.publish.results[0].id;
    assert_int_equal(tide_id_compare(first, done.as.publish.results[2].id), 0);
    /* The scripts are forgotten: said again, with their text. */
    live_command(&server, "SCRIPT FLUSH");
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(done.as.publish.results[0].duplicate && done.as.publish.results[1].duplicate);
    assert_int_equal(tide_id_compare(first, done.as.publish.results[0].id), 0);
    assert_int_equal(length_of("orders"), 2);
    const tide_reply *ttl = live_command(&server, "PTTL {orders}:dedupe:a");
    assert_true(ttl->as.integer > 0 && ttl->as.integer <= 60000);
    live_command(&server, "SET strings 1");
    op.as.publish.stream = str("strings");
    live_run(&server, &op, &done, TIDE_WRONGTYPE);
    assert_int_equal(done.as.publish.results[1].status, TIDE_WRONGTYPE);
    assert_true(done.as.publish.results[1].detail.len > 0);
}

static void appends_at_the_expected_version(void **state) {
    (void)state;
    tide_field field = {str("data"), str("1")};
    tide_record records[2] = {{&field, 1, {"", 0}}, {&field, 1, {"", 0}}};
    tide_op op = publish_op(1, "account-1", records, 2);
    tide_completion done;
    op.as.publish.expect = TIDE_EXPECT_EXISTS;
    live_run(&server, &op, &done, TIDE_CONFLICT);
    assert_int_equal(done.as.publish.version, 0);
    op.as.publish.expect = TIDE_EXPECT_NO_STREAM;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.publish.version, 2);
    live_run(&server, &op, &done, TIDE_CONFLICT);
    assert_int_equal(done.as.publish.version, 2);
    assert_int_equal(done.as.publish.results[0].status, TIDE_CONFLICT);
    op.as.publish.expect = TIDE_EXPECT_VERSION;
    op.as.publish.expect_version = 1;
    live_run(&server, &op, &done, TIDE_CONFLICT);
    op.as.publish.expect_version = 2;
    live_run(&server, &op, &done, TIDE_OK);
    op.as.publish.expect = TIDE_EXPECT_ANY;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.publish.version, 6);
    const tide_reply *last = live_command(&server, "XREVRANGE account-1 + - COUNT 1");
    const tide_reply *fields = &last->as.array.items[0].as.array.items[1];
    assert_int_equal(fields->as.array.count, 4);
    assert_true(tide_str_equal(fields->as.array.items[2].as.text, str("version")));
    assert_true(tide_str_equal(fields->as.array.items[3].as.text, str("6")));
    /* A stream that was there before versions were counted. */
    publish_one("plain", "a", "1");
    op.as.publish.stream = str("plain");
    op.as.publish.expect = TIDE_EXPECT_VERSION;
    op.as.publish.expect_version = 1;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.publish.version, 3);
}

static void publishes_later_and_takes_back(void **state) {
    (void)state;
    tide_field fields[2] = {{str("event_id"), str("a")}, {str("data"), {"\0\xff\r\n", 4}}};
    tide_record records[2] = {{fields, 2, str("a")}, {fields, 2, str("b")}};
    tide_op op = publish_op(1, "orders", records, 2);
    op.as.publish.delay_ms = 150;
    op.as.publish.max_len = 10;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_false(done.as.publish.results[0].duplicate);
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(done.as.publish.results[0].duplicate);
    assert_int_equal(length_of("orders"), 0);
    tide_op cancel = {.kind = TIDE_OP_CANCEL, .tag = 8};
    cancel.as.cancel.stream = str("orders");
    cancel.as.cancel.event_id = str("b");
    live_run(&server, &cancel, &done, TIDE_OK);
    assert_true(done.as.cancel.cancelled);
    live_run(&server, &cancel, &done, TIDE_OK);
    assert_false(done.as.cancel.cancelled);
    tide_op promote = promote_op(6, "orders");
    live_run(&server, &promote, &done, TIDE_OK);
    if (done.as.promote.moved == 0) {
        assert_true(done.as.promote.next_due_ms >= 0 && done.as.promote.next_due_ms <= 150);
        struct timespec pause = {0, 160000000};
        nanosleep(&pause, NULL);
        live_run(&server, &promote, &done, TIDE_OK);
    }
    assert_int_equal(done.as.promote.moved, 1);
    const tide_reply *all = live_command(&server, "XRANGE orders - +");
    assert_int_equal(all->as.array.count, 1);
    const tide_reply *data = &all->as.array.items[0].as.array.items[1].as.array.items[3];
    assert_int_equal(data->as.text.len, 4);
    assert_memory_equal(data->as.text.data, "\0\xff\r\n", 4);
    assert_int_equal(
        live_command(&server, "EXISTS {orders}:delayed {orders}:delayed:events")->as.integer, 0);
    /* Once, and later. */
    op.as.publish.delay_ms = 0;
    op.as.publish.due_ms = 1;
    op.as.publish.dedupe_window_ms = 60000;
    live_run(&server, &op, &done, TIDE_OK);
    live_run(&server, &promote, &done, TIDE_OK);
    assert_int_equal(done.as.promote.moved, 2);
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(done.as.publish.results[0].duplicate);
}

static tide_completion promote(uint32_t moved, uint32_t broken) {
    tide_op op = promote_op(6, "orders");
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.promote.moved, moved);
    assert_int_equal(done.as.promote.broken, broken);
    return done;
}

static void a_damaged_delayed_event_holds_up_no_other(void **state) {
    (void)state;
    tide_field field = {str("event_id"), str("fine")};
    tide_record record = {&field, 1, str("fine")};
    tide_op op = publish_op(1, "orders", &record, 1);
    op.as.publish.due_ms = 1000;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    /* Due before it: bytes of anything, one whose bytes are gone, one cut off, and no XADD. */
    live_command(&server, "ZADD {orders}:delayed 1 rubbish 2 gone 3 cut 4 odd");
    live_command(&server, "HSET {orders}:delayed:events rubbish {not:packed}");
    live_aside(&server, "HSET {orders}:delayed:events cut \"\\x03\\0\\0\\0\\x01\\0\\0\\0*\\x01\"");
    live_aside(&server, "HSET {orders}:delayed:events odd "
                        "\"\\x02\\0\\0\\0\\x01\\0\\0\\0*\\x01\\0\\0\\0x\"");
    assert_int_equal(promote(1, 4).as.promote.next_due_ms, -1);
    assert_int_equal(length_of("orders"), 1);
    assert_int_equal(length_of("{orders}:dlq"), 4);
    assert_int_equal(
        live_command(&server, "EXISTS {orders}:delayed {orders}:delayed:events")->as.integer, 0);
    const tide_reply *letter =
        &live_command(&server, "XRANGE {orders}:dlq - +")->as.array.items[0].as.array.items[1];
    static const char *const wanted[] = {"event_id",     "rubbish",      "data",
                                         "{not:packed}", "content_type", "application/octet-stream",
                                         "dead_reason",  "undecodable"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        assert_true(tide_str_equal(letter->as.array.items[i].as.text, str(wanted[i])));
    assert_int_equal(letter->as.array.count, 24);
    /* Where there can be no dead letter it is put off; nothing is lost, and it isn't looked at in a loop. */
    live_command(&server, "DEL {orders}:dlq");
    live_command(&server, "SET {orders}:dlq text");
    live_command(&server, "ZADD {orders}:delayed 1 rubbish");
    live_command(&server, "HSET {orders}:delayed:events rubbish {not:packed}");
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(promote(1, 1).as.promote.next_due_ms > 50000);
    assert_int_equal(length_of("orders"), 2);
    promote(0, 0);
    assert_int_equal(live_command(&server, "HLEN {orders}:delayed:events")->as.integer, 1);
}

static void keeps_values(void **state) {
    (void)state;
    tide_op op = {.kind = TIDE_OP_KV, .tag = 9};
    tide_op_kv *kv = &op.as.kv;
    tide_completion done;
    kv->key = str("k");
    live_run(&server, &op, &done, TIDE_OK);
    assert_false(done.as.kv.found);
    kv->verb = TIDE_KV_ADD;
    kv->value = (tide_str){"a\0b", 3};
    kv->ttl_ms = 50000;
    live_run(&server, &op, &done, TIDE_OK);
    live_run(&server, &op, &done, TIDE_EXISTS);
    assert_int_equal(done.as.kv.value.len, 3);
    kv->verb = TIDE_KV_GET;
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(done.as.kv.found && done.as.kv.ttl_ms > 0 && done.as.kv.ttl_ms <= 50000);
    kv->verb = TIDE_KV_REPLACE;
    kv->expected = str("x");
    kv->value = str("y");
    kv->ttl_ms = 0;
    live_run(&server, &op, &done, TIDE_CONFLICT);
    assert_memory_equal(done.as.kv.value.data, "a\0b", 3);
    kv->expected = (tide_str){"a\0b", 3};
    live_run(&server, &op, &done, TIDE_OK);
    kv->verb = TIDE_KV_GET;
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(tide_str_equal(done.as.kv.value, str("y")));
    assert_int_equal(done.as.kv.ttl_ms, -1);
    kv->verb = TIDE_KV_EXPIRE;
    kv->ttl_ms = 60000;
    live_run(&server, &op, &done, TIDE_OK);
    assert_true(done.as.kv.found);
    kv->verb = TIDE_KV_DELETE_IF;
    kv->expected = str("no");
    live_run(&server, &op, &done, TIDE_CONFLICT);
    kv->expected = str("y");
    live_run(&server, &op, &done, TIDE_OK);
    live_run(&server, &op, &done, TIDE_CONFLICT);
    assert_false(done.as.kv.found);
    kv->verb = TIDE_KV_DELETE;
    live_run(&server, &op, &done, TIDE_OK);
    assert_false(done.as.kv.found);
    kv->verb = TIDE_KV_SET;
    kv->value = str("9007199254740993");
    live_run(&server, &op, &done, TIDE_OK);
    kv->verb = TIDE_KV_INCREMENT;
    kv->amount = 2;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.kv.integer, 9007199254740995);
    kv->amount = -1;
    kv->ttl_ms = 1000;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.kv.integer, 9007199254740994);
}

static void passes_commands_on(void **state) {
    (void)state;
    tide_str args[] = {str("GET"), str("orders")};
    publish_one("orders", "a", "1");
    tide_op op = {.kind = TIDE_OP_COMMAND, .tag = 10};
    op.as.command.args = args;
    op.as.command.arg_count = 2;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_WRONGTYPE);
    assert_non_null(done.as.command.reply);
    assert_int_equal(done.as.command.reply->type, TIDE_REPLY_ERROR);
    /* A blocking read has a connection of its own: the shared one goes on meanwhile. */
    tide_str read[] = {str("XREAD"),   str("BLOCK"), str("20000"),
                       str("STREAMS"), str("s"),     str("$")};
    op.as.command.args = read;
    op.as.command.arg_count = 6;
    op.tag = 11;
    tide_error error;
    assert_int_equal(server.broker->vtable->submit(server.broker, &op, server.now_us, &error),
                     TIDE_OK);
    for (int i = 0; i < 20; i++)
        live_turn(&server, 10);
    live_aside(&server, "XADD s 5-1 a 1");
    for (int i = 0; i < 200; i++) {
        live_turn(&server, 10);
        if (server.broker->vtable->next_completion(server.broker, &done))
            break;
    }
    assert_int_equal(done.tag, 11);
    assert_int_equal(done.status, TIDE_OK);
    const tide_reply *entry =
        &done.as.command.reply->as.array.items[0].as.array.items[1].as.array.items[0];
    tide_id seen;
    assert_true(tide_id_parse(entry->as.array.items[0].as.text, 0, &seen));
    assert_int_equal(seen.ms, 5);
    tide_str multi[] = {str("multi")};
    op.as.command.args = multi;
    op.as.command.arg_count = 1;
    assert_int_equal(server.broker->vtable->submit(server.broker, &op, server.now_us, &error),
                     TIDE_UNSUPPORTED);
}

static void describes_the_server(void **state) {
    (void)state;
    tide_op op = {.kind = TIDE_OP_SERVER, .tag = 12};
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    const tide_reply *rows = done.as.command.reply;
    assert_int_equal(rows->type, TIDE_REPLY_ARRAY);
    assert_int_equal(rows->as.array.count % 2, 0);
    static const char *const wanted[] = {
        "engine",      "server",           "version",    "role",       "used_memory",
        "aof_enabled", "maxmemory-policy", "appendonly", "appendfsync"};
    for (size_t k = 0; k < sizeof wanted / sizeof wanted[0]; k++) {
        bool found = false;
        for (size_t i = 0; i < rows->as.array.count; i += 2) {
            found = found || (tide_str_equal(rows->as.array.items[i].as.text, str(wanted[k])) &&
                              rows->as.array.items[i + 1].as.text.len > 0);
        }
        if (!found)
            fail_msg("%s is missing", wanted[k]);
    }
}

static void finds_its_way_back_after_cuts(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        publish_one("orders", "a", "1");
        live_cut(&server);
    }
    assert_int_equal(length_of("orders"), 5);
}

/* F10: a server that stands still. */
static void no_late_reply_meets_a_new_command(void **state) {
    (void)state;
    publish_one("orders", "a", "1");
    tide_field field = {str("data"), str("late")};
    tide_record record = {&field, 1, {"", 0}};
    tide_op op = publish_op(1, "orders", &record, 1);
    op.timeout_ms = 300;
    tide_completion done;
    assert_int_equal(kill(server.process.pid, SIGSTOP), 0);
    live_run(&server, &op, &done, TIDE_TIMEOUT);
    /* Not answered and not even greeted meanwhile. */
    live_run(&server, &op, &done, TIDE_DISCONNECTED);
    assert_int_equal(kill(server.process.pid, SIGCONT), 0);
    tide_op get = {.kind = TIDE_OP_KV, .tag = 9};
    get.as.kv.verb = TIDE_KV_INCREMENT;
    get.as.kv.key = str("n");
    get.as.kv.amount = 41;
    live_run(&server, &get, &done, TIDE_OK);
    assert_int_equal(done.as.kv.integer, 41);
    /* The one that was sent may be there, the other can't be. */
    assert_in_range(length_of("orders"), 1, 2);
}

static void scripts_have_the_sha1_that_the_server_computes(void **state) {
    (void)state;
    for (int i = 1; i < SCRIPT_COUNT; i++) {
        tide_str args[] = {str("SCRIPT"), str("LOAD"), redis_script_text((redis_script)i)};
        tide_op op = {.kind = TIDE_OP_COMMAND, .tag = 13};
        op.as.command.args = args;
        op.as.command.arg_count = 3;
        tide_completion done;
        live_run(&server, &op, &done, TIDE_OK);
        if (!tide_str_equal(done.as.command.reply->as.text, redis_script_sha1((redis_script)i)))
            fail_msg("script %d has %.*s", i, (int)done.as.command.reply->as.text.len,
                     done.as.command.reply->as.text.data);
    }
}

/* The server's broker, opened anew as another user: a test that fails here leaves one to close. */
static void open_as(const char *query) {
    live_close(&server);
    live_open(&server, query);
}

static void names_what_a_user_lacks(void **state) {
    (void)state;
    live_command(&server, "ACL SETUSER anna on >secret ~orders +@connection +info +xadd");
    open_as("?user=anna&password=secret");
    tide_op op = fetch_op(3, "orders", "c", 1, 0);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_NOPERM);
    assert_non_null(strstr(done.error.message, "ACL SETUSER anna +xreadgroup ~orders"));
    assert_null(strstr(done.error.message, "secret"));
    open_as("?user=anna&password=wrong-canary");
    live_run(&server, &op, &done, TIDE_NOAUTH);
    assert_non_null(strstr(done.error.message, "anna"));
    assert_null(strstr(done.error.message, "canary"));
    tide_error error;
    assert_int_equal(server.broker->vtable->state(server.broker, &error), TIDE_NOAUTH);
}

static const struct CMUnitTest tests[] = {
    LIVE(publishes_once),
    LIVE(appends_at_the_expected_version),
    LIVE(publishes_later_and_takes_back),
    LIVE(a_damaged_delayed_event_holds_up_no_other),
    LIVE(keeps_values),
    LIVE(passes_commands_on),
    LIVE(describes_the_server),
    LIVE(finds_its_way_back_after_cuts),
    LIVE(no_late_reply_meets_a_new_command),
    LIVE(scripts_have_the_sha1_that_the_server_computes),
    LIVE(names_what_a_user_lacks),
};

int main(void) {
    return LIVE_MAIN(tests);
}
