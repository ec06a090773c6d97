/* SPDX-License-Identifier: MIT */
/* Groups that vanish, errors that a server gives, also for ever. */
#include "rig.h"

static tide_reply text_reply(const char *text) {
    return (tide_reply){.type = TIDE_REPLY_STRING, .as.text = tide_str_from(text)};
}
static tide_reply number_reply(int64_t number) {
    return (tide_reply){.type = TIDE_REPLY_INTEGER, .as.integer = number};
}
static tide_reply list_reply(tide_reply *items, size_t count) {
    return (tide_reply){.type = TIDE_REPLY_ARRAY, .as.array = {items, count}};
}

static void look(world *w, const char *command, const tide_reply *reply) {
    fake_op *op = fake_find(&w->fake, TIDE_OP_COMMAND);
    assert_non_null(op);
    assert_string_equal(op->start, command);
    fake_answer_reply(&w->fake, op, reply);
    turn(w);
}

static void lose_group(world *w) {
    while (fake_find(&w->fake, TIDE_OP_FETCH) != NULL)
        answer(w, TIDE_OP_FETCH, TIDE_NOGROUP);
    assert_null(fake_find(&w->fake, TIDE_OP_GROUP_ENSURE));
}

static void test_lost_group_is_recreated_at_the_checkpoint_F14(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 3);
    tide_event a = next(&w), b = next(&w);
    ack(&w, a.handle);
    pass(&w, 5);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    /* 2 is the oldest that anybody has unsettled. */
    tide_reply row[4] = {number_reply(2), text_reply("2-0"), text_reply("3-0"),
                         list_reply(NULL, 0)};
    tide_reply pending = list_reply(row, 4);
    look(&w, "XPENDING orders", &pending);
    lose_group(&w);
    tide_reply info[2] = {text_reply("last-generated-id"), text_reply("3-0")};
    tide_reply stream = list_reply(info, 2);
    look(&w, "XINFO STREAM", &stream);
    fake_op *op = fake_find(&w.fake, TIDE_OP_GROUP_ENSURE);
    assert_non_null(op);
    assert_string_equal(op->start, "1-18446744073709551615");
    assert_int_equal(w.log_lines, 1);
    fake_answer(&w.fake, op, TIDE_OK);
    w.fake.done[w.fake.done_first].as.group_ensure.created = true;
    turn(&w);
    assert_int_equal(stats(&w).group_recreated, 1);
    fake_answer(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), TIDE_OK);
    turn(&w);
    /* The new group delivers 2 and 3 again: both are held already. */
    fake_answer_entries(&w.fake, fake_find(&w.fake, TIDE_OP_FETCH), 2, 2, 1, 10);
    turn(&w);
    assert_int_equal(next(&w).entry->id.ms, 3);
    tide_event event;
    assert_false(has_next(&w, &event));
    ack(&w, b.handle);
    world_close(&w);
}

static void test_checkpoint_is_how_far_the_group_has_read_when_nothing_is_pending(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    tide_reply none[4] = {number_reply(0), {0}, {0}, {0}};
    tide_reply pending = list_reply(none, 4);
    look(&w, "XPENDING orders", &pending);
    tide_reply other[6] = {text_reply("name"),
                           text_reply("other"),
                           text_reply("pending"),
                           number_reply(0),
                           text_reply("last-delivered-id"),
                           text_reply("90-0")};
    tide_reply mine[6] = {
        text_reply("name"), text_reply("billing"),           text_reply("pending"),
        number_reply(0),    text_reply("last-delivered-id"), text_reply("70-0")};
    tide_reply both[2] = {list_reply(other, 6), list_reply(mine, 6)};
    tide_reply groups = list_reply(both, 2);
    look(&w, "XINFO GROUPS", &groups);
    lose_group(&w);
    tide_reply info[2] = {text_reply("last-generated-id"), text_reply("95-0")};
    tide_reply stream = list_reply(info, 2);
    look(&w, "XINFO STREAM", &stream);
    assert_string_equal(fake_find(&w.fake, TIDE_OP_GROUP_ENSURE)->start, "70-0");
    world_close(&w);
}

static void test_group_lost_with_its_stream_begins_at_zero_F14(void **state) {
    (void)state;
    for (int missing = 0; missing < 2; missing++) {
        world w;
        start(&w, options_of(100));
        tide_reply row[4] = {number_reply(1), text_reply("50-0"), text_reply("50-0"), {0}};
        tide_reply pending = list_reply(row, 4);
        look(&w, "XPENDING orders", &pending);
        lose_group(&w);
        if (missing) {
            answer(&w, TIDE_OP_COMMAND, TIDE_REPLY); /* no such key */
        } else {
            tide_reply info[2] = {text_reply("last-generated-id"), text_reply("7-0")};
            tide_reply stream = list_reply(info, 2);
            look(&w, "XINFO STREAM", &stream);
        }
        assert_string_equal(fake_find(&w.fake, TIDE_OP_GROUP_ENSURE)->start, "0");
        world_close(&w);
    }
}

static void test_lost_group_may_stop_the_subscription_F14(void **state) {
    (void)state;
    world w;
    tide_consumer_options options = options_of(100);
    options.group_lost = TIDE_GROUP_LOST_STOP;
    start(&w, options);
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_NOGROUP);
    serve(&w);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_STOPPED);
    assert_int_equal(stats(&w).error.status, TIDE_NOGROUP);
    assert_int_equal(w.fake.submitted[TIDE_OP_GROUP_ENSURE], 1);
    world_close(&w);
}

static void test_wrong_type_parks_and_resumes_F15(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    while (fake_find(&w.fake, TIDE_OP_FETCH) != NULL)
        answer(&w, TIDE_OP_FETCH, TIDE_WRONGTYPE);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_PARKED);
    pass(&w, 4900);
    assert_null(fake_find(&w.fake, TIDE_OP_GROUP_ENSURE));
    pass(&w, 100);
    while (fake_find(&w.fake, TIDE_OP_COMMAND) != NULL) /* mended: the key is gone */
        answer(&w, TIDE_OP_COMMAND, TIDE_REPLY);
    answer(&w, TIDE_OP_GROUP_ENSURE, TIDE_OK);
    answer(&w, TIDE_OP_FETCH, TIDE_OK);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_RUNNING);
    serve(&w);
    assert_int_equal(stats(&w).error.status, TIDE_OK);
    world_close(&w);
}

/* Each time it is made again, reads go well, and it is gone a little later. */
static void test_a_group_that_vanishes_again_and_again_backs_off_F34(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    uint64_t before = 0, after = 0, reads = 0;
    unsigned lines = w.log_lines;
    for (int i = 0; i < 3000; i++) { /* 60 s */
        for (int k = 0; w.fake.op_count > 0; k++) {
            assert_true(k < 100); /* at once, again and again */
            fake_op *op = &w.fake.ops[0];
            bool gone = op->kind == TIDE_OP_FETCH && !op->history;
            reads += op->kind == TIDE_OP_FETCH && op->history;
            fake_answer(&w.fake, op, gone ? TIDE_NOGROUP : TIDE_OK);
            turn(&w);
        }
        pass(&w, 20);
        if (i == 250) /* the first attempts come quickly */
            for (int k = 0; k < TIDE_OP_KIND_COUNT; k++)
                before += w.fake.submitted[k];
    }
    for (int k = 0; k < TIDE_OP_KIND_COUNT; k++)
        after += w.fake.submitted[k];
    assert_true(reads >= 10);
    assert_in_range(after - before, 10, 5 * 55);
    assert_in_range(w.log_lines - lines, 2, 61);
    /* Calm for a while: the next loss is a first one again. */
    for (int i = 0; i < 200; i++) {
        fake_op *op = fake_find(&w.fake, TIDE_OP_FETCH);
        if (op != NULL && op->history)
            fake_answer(&w.fake, op, TIDE_OK);
        serve(&w);
        pass(&w, 100);
    }
    fake_op *read = fake_find(&w.fake, TIDE_OP_FETCH);
    assert_non_null(read);
    fake_answer(&w.fake, read, TIDE_NOGROUP);
    turn(&w);
    assert_int_equal(stats(&w).state, TIDE_CONSUMER_STARTING);
    world_close(&w);
}

static void test_repeated_errors_cost_little_F34(void **state) {
    (void)state;
    static const tide_status kinds[] = {
        TIDE_LOADING, TIDE_READONLY, TIDE_OOM,       TIDE_MISCONF, TIDE_BUSY,       TIDE_NOAUTH,
        TIDE_NOPERM,  TIDE_NOGROUP,  TIDE_WRONGTYPE, TIDE_REPLY,   TIDE_MAXCLIENTS, TIDE_NOSCRIPT};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        world w;
        start(&w, options_of(100));
        deliver(&w, 1, 2);
        ack(&w, next(&w).handle);
        next(&w);
        uint64_t before = 0, after = 0;
        for (int i = 0; i < TIDE_OP_KIND_COUNT; i++)
            before += w.fake.submitted[i];
        unsigned lines = w.log_lines;
        for (int i = 0; i < 3000; i++) { /* 60 s */
            while (w.fake.op_count > 0) {
                fake_answer(&w.fake, &w.fake.ops[0], kinds[k]);
                turn(&w);
            }
            pass(&w, 20);
        }
        for (int i = 0; i < TIDE_OP_KIND_COUNT; i++)
            after += w.fake.submitted[i];
        assert_in_range(after - before, 10, 5 * 60);
        assert_in_range(w.log_lines - lines, 1, 61);
        /* Group and reads again as soon as they are allowed to. */
        int64_t healed = w.now_us;
        while (stats(&w).state != TIDE_CONSUMER_RUNNING) {
            while (w.fake.op_count > 0 && stats(&w).state != TIDE_CONSUMER_RUNNING) {
                fake_answer(&w.fake, &w.fake.ops[0], TIDE_OK);
                turn(&w);
            }
            pass(&w, 20);
        }
        assert_true(w.now_us - healed <= 5100000);
        world_close(&w);
    }
}

static void test_refused_submit_backs_off(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 1);
    w.fake.refuse = TIDE_OVERFLOW;
    ack(&w, next(&w).handle);
    pass(&w, 5);
    assert_int_equal(stats(&w).settling, 1);
    w.fake.refuse = TIDE_OK;
    pass(&w, 1000);
    serve(&w);
    assert_int_equal(stats(&w).acked, 1);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lost_group_is_recreated_at_the_checkpoint_F14),
        cmocka_unit_test(test_checkpoint_is_how_far_the_group_has_read_when_nothing_is_pending),
        cmocka_unit_test(test_group_lost_with_its_stream_begins_at_zero_F14),
        cmocka_unit_test(test_lost_group_may_stop_the_subscription_F14),
        cmocka_unit_test(test_wrong_type_parks_and_resumes_F15),
        cmocka_unit_test(test_a_group_that_vanishes_again_and_again_backs_off_F34),
        cmocka_unit_test(test_repeated_errors_cost_little_F34),
        cmocka_unit_test(test_refused_submit_backs_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
