/* SPDX-License-Identifier: MIT */
/* Consuming from real servers: reading, settling, leases, recovery. Each test runs on Redis and on Valkey, where installed. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker/redis/redis.h"

static int64_t pending(void) {
    const tide_reply *reply = live_command(&server, "XPENDING orders g");
    return reply->as.array.items[0].as.integer;
}

static void delete (tide_id id) {
    char words[100];
    snprintf(words, sizeof words, "XDEL orders %llu-%llu", (unsigned long long)id.ms,
             (unsigned long long)id.seq);
    live_command(&server, words);
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
    op = settle_op(4, "orders", items, 200);
    live_run(&server, &op, &done, TIDE_OK);
    /* F7: again, as after a lost reply; 0 is success. */
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.settle.count, 200);
    assert_int_equal(done.as.settle.results[199], TIDE_OK);
    assert_int_equal(pending(), 0);
    assert_null(fetch("orders", "c", 10, false));
    op = fetch_op(3, "nowhere", "c", 1, 0);
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
    delete (second);
    tide_batch *batch = fetch("orders", "c", 10, true);
    assert_int_equal(tide_batch_count(batch), 3);
    assert_int_equal(tide_batch_entry(batch, 0)->attempt, 2);
    assert_true(tide_batch_entry(batch, 1)->gone);
    assert_int_equal(tide_batch_entry(batch, 1)->field_count, 0);
    assert_int_equal(tide_batch_entry(batch, 2)->attempt, 2);
    tide_op op = fetch_op(3, "orders", "c", 10, 0);
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
    delete (second);
    tide_op op = recover_op(5, "orders", "c", 0);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    tide_batch *batch = done.as.recover.batch;
    /* Redis before 7.0 leaves in the batch what is gone; later ones only count it. */
    uint32_t gone = 0;
    for (size_t i = 0; i < tide_batch_count(batch); i++) {
        if (tide_batch_entry(batch, i)->gone)
            gone++;
        else
            assert_int_equal(tide_batch_entry(batch, i)->attempt, 3);
    }
    assert_int_equal(tide_batch_count(batch) - gone, 2);
    assert_int_equal(gone + done.as.recover.deleted, 1);
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
    tide_op op = settle_op(4, "orders", items, 6);
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
    for (int i = 0; i < 3; i++)
        assert_int_equal(done.as.settle.results[i], i == 0 ? TIDE_OK : TIDE_NOTFOUND);
    assert_int_equal(length_of("{orders}:dlq"), 1);
    /* The released one is anyone's at once, its attempts as told. */
    tide_op recover = recover_op(5, "orders", "other", 3600000);
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
    op = settle_op(4, "orders", &late, 1);
    live_run(&server, &op, &done, TIDE_OK);
    live_run(&server, &recover, &done, TIDE_OK);
    assert_null(done.as.recover.batch);
    /* The delayed one comes back into the stream. */
    tide_op promote = promote_op(6, "orders");
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
    tide_op recover = recover_op(5, "orders", "peer", 0);
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
    tide_op late = settle_op(4, "orders", items, 3);
    live_run(&server, &late, &done, TIDE_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(done.as.settle.results[i], TIDE_NOTFOUND);
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
    tide_op op = extend_op(7, "orders", ids, 3);
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
    tide_op extend = extend_op(7, "orders", ids, COUNT);
    live_run(&server, &extend, &done, TIDE_OK);
    assert_int_equal(done.as.extend.lost_count, 0);
    for (int i = 0; i < COUNT; i++) {
        items[i].kind = TIDE_SETTLE_ATTEMPT;
        items[i].attempt = 3;
    }
    op = settle_op(4, "orders", items, COUNT);
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

static void interrupts_blocked_fetches(void **state) {
    (void)state;
    ensure("orders", "g");
    tide_op op = fetch_op(3, "orders", "c", 10, 10000);
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
    /* Redis before 7.0 tells a blocked reader nothing: its next read says NOGROUP. */
    if (strstr(live_command(&server, "INFO server")->as.text.data, "redis_version:6.") != NULL)
        skip();
    ensure("orders", "g");
    tide_op op = fetch_op(3, "orders", "c", 10, 10000);
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

static void knows_the_gone_by_script(void **state) {
    (void)state;
    ensure("orders", "g");
    publish_one("orders", "a", "1");
    tide_id second = publish_one("orders", "b", "2");
    tide_batch_release(fetch("orders", "c", 10, false));
    delete (second);
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

static const struct CMUnitTest tests[] = {
    LIVE(publishes_fetches_and_acks),
    LIVE(history_counts_attempts_and_shows_what_is_gone),
    LIVE(recovers_what_the_dead_left),
    LIVE(settles_every_way),
    LIVE(a_late_verdict_leaves_the_event_of_a_peer_alone),
    LIVE(renews_only_what_it_owns),
    LIVE(renews_and_settles_thousands),
    LIVE(interrupts_blocked_fetches),
    LIVE(unblocked_or_nogroup_when_the_stream_is_deleted),
    LIVE(knows_the_gone_by_script),
};

int main(void) {
    return LIVE_MAIN(tests);
}
