/* SPDX-License-Identifier: MIT */
/* Every operation against real servers: each test runs on Redis and on Valkey, where they are installed. */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/limits.h"
#include "broker/redis/redis.h"

static live server;

static int open_bus(void **state) {
    (void)state;
    live_open(&server, "");
    live_command(&server, "FLUSHALL");
    return 0;
}

static int close_bus(void **state) {
    (void)state;
    live_close(&server);
    return 0;
}

static tide_id publish_one(const char *stream, const char *id, const char *data) {
    tide_field fields[2] = {{str("event_id"), str(id)}, {str("data"), str(data)}};
    tide_record record = {fields, 2, str(id)};
    tide_op op = publish_op(1, stream, &record, 1);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.publish.count, 1);
    return done.as.publish.results[0].id;
}

static bool ensure(const char *stream, const char *group) {
    tide_op op = {.kind = TIDE_OP_GROUP_ENSURE, .tag = 2};
    op.as.group_ensure.stream = str(stream);
    op.as.group_ensure.group = str(group);
    op.as.group_ensure.start = str("0");
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    return done.as.group_ensure.created;
}

static tide_op fetch_op(const char *stream, const char *consumer, uint32_t count,
                        int64_t block_ms) {
    tide_op op = {.kind = TIDE_OP_FETCH, .tag = 3};
    op.as.fetch.stream = str(stream);
    op.as.fetch.group = str("g");
    op.as.fetch.consumer = str(consumer);
    op.as.fetch.reader = 1;
    op.as.fetch.count_max = count;
    op.as.fetch.block_ms = block_ms;
    return op;
}

static tide_batch *fetch(const char *stream, const char *consumer, uint32_t count, bool history) {
    tide_op op = fetch_op(stream, consumer, count, history ? 0 : 10);
    op.as.fetch.history = history;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    return done.as.fetch.batch;
}

static tide_op settle_op(const tide_settlement *items, size_t count) {
    tide_op op = {.kind = TIDE_OP_SETTLE, .tag = 4};
    op.as.settle.stream = str("orders");
    op.as.settle.group = str("g");
    op.as.settle.consumer = str("c");
    op.as.settle.dead_letters = str("{orders}:dlq");
    op.as.settle.items = items;
    op.as.settle.item_count = count;
    return op;
}

static int64_t length_of(const char *stream) {
    char words[128];
    snprintf(words, sizeof words, "XLEN %s", stream);
    const tide_reply *reply = live_command(&server, words);
    assert_int_equal(reply->type, TIDE_REPLY_INTEGER);
    return reply->as.integer;
}

static int64_t pending(void) {
    const tide_reply *reply = live_command(&server, "XPENDING orders g");
    return reply->as.array.items[0].as.integer;
}

static void publishes_fetches_and_acks(void **state) {
    (void)state;
    assert_true(ensure("orders", "g"));
    assert_false(ensure("orders", "g"));
    tide_field fields[200][2];
    tide_record records[200];
    char ids[200][16];
    for (int i = 0; i < 200; i++) {
        snprintf(ids[i], sizeof ids[i], "e-%d", i);
        fields[i][0] = (tide_field){str("event_id"), str(ids[i])};
        fields[i][1] = (tide_field){str("data"), {"\0\r\n$-1", 6}};
        records[i] = (tide_record){fields[i], 2, str(ids[i])};
    }
    tide_op op = publish_op(1, "orders", records, 200);
    op.as.publish.max_len = 100000;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    for (int i = 1; i < 200; i++)
        assert_true(
            tide_id_compare(done.as.publish.results[i - 1].id, done.as.publish.results[i].id) < 0);
    tide_batch *batch = fetch("orders", "c", 1000, false);
    assert_int_equal(tide_batch_count(batch), 200);
    const tide_entry *entry = tide_batch_entry(batch, 7);
    assert_int_equal(entry->field_count, 2);
    assert_int_equal(entry->attempt, 1);
    assert_int_equal(entry->fields[1].value.len, 6);
    assert_memory_equal(entry->fields[1].value.data, "\0\r\n$-1", 6);
    assert_int_equal(entry->bytes, 8 + 3 + 4 + 6);
    tide_settlement items[200] = {0};
    for (size_t i = 0; i < 200; i++)
        items[i].id = tide_batch_entry(batch, i)->id;
    tide_batch_release(batch);
    op = settle_op(items, 200);
    live_run(&server, &op, &done, TIDE_OK);
    /* F7: again, as after a lost reply; 0 is success. */
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.settle.count, 200);
    assert_int_equal(done.as.settle.results[199], TIDE_OK);
    assert_int_equal(pending(), 0);
    assert_null(fetch("orders", "c", 10, false));
    op = fetch_op("nowhere", "c", 1, 0);
    live_run(&server, &op, &done, TIDE_NOGROUP);
    assert_string_equal(done.error.server, "NOGROUP");
}

static void history_counts_attempts_and_shows_what_is_gone(void **state) {
    (void)state;
    ensure("orders", "g");
    publish_one("orders", "a", "1");
    tide_id second = publish_one("orders", "b", "2");
    publish_one("orders", "c", "3");
    tide_batch_release(fetch("orders", "c", 10, false));
    char words[100];
    snprintf(words, sizeof words, "XDEL orders %llu-%llu", (unsigned long long)second.ms,
             (unsigned long long)second.seq);
    live_command(&server, words);
    tide_batch *batch = fetch("orders", "c", 10, true);
    assert_int_equal(tide_batch_count(batch), 3);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 2);
    assert_true(tide_batch_entry(batch, 1)->gone);
    assert_int_equal(tide_batch_entry(batch, 1)->field_count, 0);
    assert_int_equal(tide_batch_entry(batch, 2)->attempt, 2);
    tide_op op = fetch_op("orders", "c", 10, 0);
    op.as.fetch.history = true;
    op.as.fetch.after = tide_batch_entry(batch, 2)->id;
    tide_batch_release(batch);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_null(done.as.fetch.batch);
}

static void recovers_what_the_dead_left(void **state) {
    (void)state;
    ensure("orders", "g");
    publish_one("orders", "a", "1");
    tide_id second = publish_one("orders", "b", "2");
    publish_one("orders", "c", "3");
    tide_batch_release(fetch("orders", "dead", 10, false));
    tide_batch_release(fetch("orders", "dead", 10, true));
    char words[100];
    snprintf(words, sizeof words, "XDEL orders %llu-%llu", (unsigned long long)second.ms,
             (unsigned long long)second.seq);
    live_command(&server, words);
    tide_op op = {.kind = TIDE_OP_RECOVER, .tag = 5};
    op.as.recover.stream = str("orders");
    op.as.recover.group = str("g");
    op.as.recover.consumer = str("c");
    op.as.recover.count_max = 10;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    tide_batch *batch = done.as.recover.batch;
    assert_int_equal(tide_batch_count(batch), 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 3);
    assert_int_equal(tide_batch_entry(batch, 1)->attempt, 3);
    assert_int_equal(done.as.recover.deleted, 1);
    assert_int_equal(done.as.recover.cursor.ms, 0);
    tide_batch_release(batch);
    op.as.recover.min_idle_ms = 100000;
    live_run(&server, &op, &done, TIDE_OK);
    assert_null(done.as.recover.batch);
}

static void settles_every_way(void **state) {
    (void)state;
    ensure("orders", "g");
    tide_id ids[6];
    for (int i = 0; i < 6; i++)
        ids[i] = publish_one("orders", "x", "1");
    tide_batch_release(fetch("orders", "c", 10, false));
    tide_field dead[2] = {{str("event_id"), str("x")}, {str("dead_reason"), str("poison")}};
    tide_settlement items[] = {
        {.kind = TIDE_SETTLE_ACK, .id = ids[0]},
        {.kind = TIDE_SETTLE_DEAD, .id = ids[1], .fields = dead, .field_count = 2},
        {.kind = TIDE_SETTLE_DELAY, .id = ids[2], .fields = dead, .field_count = 2, .delay_ms = 1},
        {.kind = TIDE_SETTLE_RELEASE, .id = ids[3], .attempt = 0},
        {.kind = TIDE_SETTLE_ATTEMPT, .id = ids[4], .attempt = 4},
        {.kind = TIDE_SETTLE_ATTEMPT, .id = {1, 1}, .attempt = 4},
    };
    tide_op op = settle_op(items, 6);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    tide_status wanted[] = {TIDE_OK, TIDE_OK, TIDE_OK, TIDE_OK, TIDE_OK, TIDE_NOTFOUND};
    for (int i = 0; i < 6; i++)
        assert_int_equal(done.as.settle.results[i], wanted[i]);
    assert_int_equal(pending(), 3);
    assert_int_equal(length_of("{orders}:dlq"), 1);
    /* Not pending any more: nothing is written a second time. */
    op.as.settle.item_count = 3;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(length_of("{orders}:dlq"), 1);
    /* The released one is anyone's at once, its attempts as told. */
    tide_op recover = {.kind = TIDE_OP_RECOVER, .tag = 5};
    recover.as.recover.stream = str("orders");
    recover.as.recover.group = str("g");
    recover.as.recover.consumer = str("other");
    recover.as.recover.min_idle_ms = 3600000;
    recover.as.recover.count_max = 10;
    live_run(&server, &recover, &done, TIDE_OK);
    assert_int_equal(tide_batch_count(done.as.recover.batch), 1);
    assert_int_equal(tide_id_compare(tide_batch_entry(done.as.recover.batch, 0)->id, ids[3]), 0);
    assert_int_equal(tide_batch_entry(done.as.recover.batch, 0)->attempt, 1);
    tide_batch_release(done.as.recover.batch);
    tide_batch *batch = fetch("orders", "c", 10, true);
    assert_int_equal(tide_batch_count(batch), 2);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 5);
    tide_batch_release(batch);
    /* A release of what another owns by now leaves it alone. */
    tide_settlement late = {.kind = TIDE_SETTLE_RELEASE, .id = ids[3], .attempt = 0};
    op = settle_op(&late, 1);
    live_run(&server, &op, &done, TIDE_OK);
    live_run(&server, &recover, &done, TIDE_OK);
    assert_null(done.as.recover.batch);
    /* The delayed one comes back into the stream. */
    tide_op promote = {.kind = TIDE_OP_PROMOTE, .tag = 6};
    promote.as.promote.stream = str("orders");
    promote.as.promote.count_max = 10;
    struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
    live_run(&server, &promote, &done, TIDE_OK);
    assert_int_equal(done.as.promote.moved, 1);
    assert_int_equal(done.as.promote.next_due_ms, -1);
    assert_int_equal(length_of("orders"), 7);
}

/* The peer has claimed them, as from a consumer that hung longer than its lease. */
static void a_late_verdict_leaves_the_event_of_a_peer_alone(void **state) {
    (void)state;
    ensure("orders", "g");
    for (int i = 0; i < 3; i++)
        publish_one("orders", "x", "1");
    tide_batch_release(fetch("orders", "c", 10, false));
    tide_op recover = {.kind = TIDE_OP_RECOVER, .tag = 5};
    recover.as.recover.stream = str("orders");
    recover.as.recover.group = str("g");
    recover.as.recover.consumer = str("peer");
    recover.as.recover.count_max = 10;
    tide_completion done;
    live_run(&server, &recover, &done, TIDE_OK);
    tide_batch *batch = done.as.recover.batch;
    assert_int_equal(tide_batch_count(batch), 3);
    tide_field fields[1] = {{str("event_id"), str("x")}};
    tide_settlement items[] = {
        {.kind = TIDE_SETTLE_DEAD, .fields = fields, .field_count = 1},
        {.kind = TIDE_SETTLE_DELAY, .fields = fields, .field_count = 1, .delay_ms = 1},
        {.kind = TIDE_SETTLE_RELEASE, .attempt = 0},
    };
    for (size_t i = 0; i < 3; i++)
        items[i].id = tide_batch_entry(batch, i)->id;
    tide_batch_release(batch);
    tide_op late = settle_op(items, 3);
    live_run(&server, &late, &done, TIDE_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(done.as.settle.results[i], TIDE_OK);
    const tide_reply *reply = live_command(&server, "XPENDING orders g - + 10 peer");
    assert_int_equal(reply->as.array.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(reply->as.array.items[i].as.array.items[2].as.integer < 86400000 / 2);
    assert_int_equal(
        live_command(&server, "EXISTS {orders}:dlq {orders}:delayed {orders}:delayed:events")
            ->as.integer,
        0);
    /* The peer's own verdicts on the same events count. */
    late.as.settle.consumer = str("peer");
    live_run(&server, &late, &done, TIDE_OK);
    assert_int_equal(pending(), 1);
    assert_int_equal(length_of("{orders}:dlq"), 1);
    assert_int_equal(live_command(&server, "ZCARD {orders}:delayed")->as.integer, 1);
}

static void renews_only_what_it_owns(void **state) {
    (void)state;
    ensure("orders", "g");
    tide_id ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = publish_one("orders", "x", "1");
    tide_batch_release(fetch("orders", "c", 1, false));
    tide_batch_release(fetch("orders", "other", 1, false));
    tide_batch_release(fetch("orders", "c", 1, false));
    tide_op op = {.kind = TIDE_OP_EXTEND, .tag = 7};
    op.as.extend.stream = str("orders");
    op.as.extend.group = str("g");
    op.as.extend.consumer = str("c");
    op.as.extend.ids = ids;
    op.as.extend.id_count = 3;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.extend.lost_count, 1);
    assert_int_equal(tide_id_compare(done.as.extend.lost[0], ids[1]), 0);
    const tide_reply *reply = live_command(&server, "XPENDING orders g - + 10 c");
    assert_int_equal(reply->as.array.count, 2);
    assert_int_equal(reply->as.array.items[0].as.array.items[3].as.integer, 1);
    /* Owned by now in full, and many. */
    op.as.extend.id_count = 1;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.extend.lost_count, 0);
}

static void renews_and_settles_thousands(void **state) {
    (void)state;
    enum { COUNT = 2500 };
    ensure("orders", "g");
    tide_field field = {str("data"), str("1")};
    tide_record *records = calloc(COUNT, sizeof *records);
    tide_settlement *items = calloc(COUNT, sizeof *items);
    tide_id *ids = calloc(COUNT, sizeof *ids);
    for (int i = 0; i < COUNT; i++)
        records[i] = (tide_record){&field, 1, {"", 0}};
    tide_op op = publish_op(1, "orders", records, COUNT);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    for (int i = 0; i < COUNT; i++)
        ids[i] = items[i].id = done.as.publish.results[i].id;
    tide_batch_release(fetch("orders", "c", COUNT, false));
    tide_op extend = {.kind = TIDE_OP_EXTEND, .tag = 7};
    extend.as.extend.stream = str("orders");
    extend.as.extend.group = str("g");
    extend.as.extend.consumer = str("c");
    extend.as.extend.ids = ids;
    extend.as.extend.id_count = COUNT;
    live_run(&server, &extend, &done, TIDE_OK);
    assert_int_equal(done.as.extend.lost_count, 0);
    for (int i = 0; i < COUNT; i++) {
        items[i].kind = TIDE_SETTLE_ATTEMPT;
        items[i].attempt = 3;
    }
    op = settle_op(items, COUNT);
    live_run(&server, &op, &done, TIDE_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(done.as.settle.results[i], TIDE_OK);
    tide_batch *batch = fetch("orders", "c", COUNT, true);
    assert_int_equal(tide_batch_count(batch), COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(tide_batch_entry(batch, i)->attempt, 4);
    tide_batch_release(batch);
    free(records);
    free(items);
    free(ids);
}

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
    tide_op promote = {.kind = TIDE_OP_PROMOTE, .tag = 6};
    promote.as.promote.stream = str("orders");
    promote.as.promote.count_max = 10;
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
    tide_op op = {.kind = TIDE_OP_PROMOTE, .tag = 6};
    op.as.promote.stream = str("orders");
    op.as.promote.count_max = 100;
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

static void interrupts_blocked_fetches(void **state) {
    (void)state;
    ensure("orders", "g");
    tide_op op = fetch_op("orders", "c", 10, 10000);
    tide_error error;
    for (int i = 0; i < 2; i++)
        assert_int_equal(server.broker->vtable->submit(server.broker, &op, server.now_us, &error),
                         TIDE_OK);
    for (int i = 0; i < 20; i++)
        live_turn(&server, 10);
    int64_t before = server.now_us;
    server.broker->vtable->interrupt(server.broker, 1, server.now_us);
    tide_completion done;
    for (int count = 0; count < 2;) {
        live_turn(&server, 50);
        while (server.broker->vtable->next_completion(server.broker, &done)) {
            assert_int_equal(done.status, TIDE_OK);
            assert_null(done.as.fetch.batch);
            count++;
        }
        assert_true(server.now_us - before < 8000000);
    }
    assert_int_equal(length_of("orders"), 0);
    server.broker->vtable->drop_reader(server.broker, 1, server.now_us);
    live_turn(&server, 0);
}

static void unblocked_or_nogroup_when_the_stream_is_deleted(void **state) {
    (void)state;
    ensure("orders", "g");
    tide_op op = fetch_op("orders", "c", 10, 10000);
    tide_error error;
    assert_int_equal(server.broker->vtable->submit(server.broker, &op, server.now_us, &error),
                     TIDE_OK);
    for (int i = 0; i < 20; i++)
        live_turn(&server, 10);
    live_aside(&server, "DEL orders");
    tide_completion done;
    bool found = false;
    for (int i = 0; i < 300 && !found; i++) {
        live_turn(&server, 10);
        found = server.broker->vtable->next_completion(server.broker, &done);
    }
    assert_true(found);
    assert_int_equal(done.status, TIDE_NOGROUP);
    /* And on it goes, after a reconnect where the server said UNBLOCKED. */
    ensure("orders", "g");
    publish_one("orders", "a", "1");
    tide_batch *batch = fetch("orders", "c", 10, false);
    assert_int_equal(tide_batch_count(batch), 1);
    tide_batch_release(batch);
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
    assert_int_equal(kill(server.pid, SIGSTOP), 0);
    live_run(&server, &op, &done, TIDE_TIMEOUT);
    /* Not answered and not even greeted meanwhile. */
    live_run(&server, &op, &done, TIDE_DISCONNECTED);
    assert_int_equal(kill(server.pid, SIGCONT), 0);
    tide_op get = {.kind = TIDE_OP_KV, .tag = 9};
    get.as.kv.verb = TIDE_KV_INCREMENT;
    get.as.kv.key = str("n");
    get.as.kv.amount = 41;
    live_run(&server, &get, &done, TIDE_OK);
    assert_int_equal(done.as.kv.integer, 41);
    /* The one that was sent may be there, the other can't be. */
    assert_in_range(length_of("orders"), 1, 2);
}

static void knows_the_gone_by_script(void **state) {
    (void)state;
    ensure("orders", "g");
    publish_one("orders", "a", "1");
    tide_id second = publish_one("orders", "b", "2");
    tide_batch_release(fetch("orders", "c", 10, false));
    char words[100];
    snprintf(words, sizeof words, "XDEL orders %llu-%llu", (unsigned long long)second.ms,
             (unsigned long long)second.seq);
    live_command(&server, words);
    tide_str args[] = {str("EVAL"), redis_script_text(SCRIPT_GONE),
                       str("1"),    str("orders"),
                       str("g"),    str("c"),
                       str("0-0"),  str("+"),
                       str("5")};
    tide_op op = {.kind = TIDE_OP_COMMAND, .tag = 10};
    op.as.command.args = args;
    op.as.command.arg_count = sizeof args / sizeof args[0];
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    const tide_reply *gone = done.as.command.reply;
    assert_int_equal(gone->as.array.count, 2);
    tide_id id;
    assert_true(tide_id_parse(gone->as.array.items[0].as.text, 0, &id));
    assert_int_equal(tide_id_compare(id, second), 0);
    assert_int_equal(gone->as.array.items[1].as.integer, 1);
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
    tide_op op = fetch_op("orders", "c", 1, 0);
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
#define LIVE(name) cmocka_unit_test_setup_teardown(name, open_bus, close_bus)
    LIVE(publishes_fetches_and_acks),
    LIVE(history_counts_attempts_and_shows_what_is_gone),
    LIVE(recovers_what_the_dead_left),
    LIVE(settles_every_way),
    LIVE(a_late_verdict_leaves_the_event_of_a_peer_alone),
    LIVE(renews_only_what_it_owns),
    LIVE(renews_and_settles_thousands),
    LIVE(publishes_once),
    LIVE(appends_at_the_expected_version),
    LIVE(publishes_later_and_takes_back),
    LIVE(a_damaged_delayed_event_holds_up_no_other),
    LIVE(keeps_values),
    LIVE(passes_commands_on),
    LIVE(describes_the_server),
    LIVE(interrupts_blocked_fetches),
    LIVE(unblocked_or_nogroup_when_the_stream_is_deleted),
    LIVE(finds_its_way_back_after_cuts),
    LIVE(no_late_reply_meets_a_new_command),
    LIVE(knows_the_gone_by_script),
    LIVE(scripts_have_the_sha1_that_the_server_computes),
    LIVE(names_what_a_user_lacks),
};

int main(void) {
    static const char *const programs[] = {"redis-server", "valkey-server"};
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        if (!live_server_start(&server, programs[i])) {
            printf("# skipped: %s is not installed\n", programs[i]);
            continue;
        }
        failed += cmocka_run_group_tests_name(programs[i], tests, NULL, NULL);
        live_server_stop(&server);
    }
    return failed;
}
