/* SPDX-License-Identifier: MIT */
/* What is given up: dead letters. */
#include "rig.h"

static void test_dead_letter_out_of_memory_keeps_the_original_F16_F26(void **state) {
    (void)state;
    world w;
    start(&w, options_of(100));
    deliver(&w, 1, 2);
    tide_event a = next(&w), b = next(&w);
    settle(&w, a.handle, (tide_verdict){.kind = TIDE_VERDICT_REJECT});
    ack(&w, b.handle);
    fake_op *op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 2);
    fake_answer_settle(&w.fake, op, (tide_status[]){TIDE_OOM, TIDE_OK});
    turn(&w);
    assert_int_equal(stats(&w).acked, 1);
    assert_int_equal(stats(&w).settling, 1);
    assert_int_equal(stats(&w).error.status, TIDE_OOM);
    /* Others go on meanwhile. */
    deliver(&w, 10, 1);
    ack(&w, next(&w).handle);
    op = fake_find(&w.fake, TIDE_OP_SETTLE);
    assert_int_equal(op->count, 1);
    assert_int_equal(op->items[0].kind, TIDE_SETTLE_ACK);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    uint64_t before = w.fake.submitted[TIDE_OP_SETTLE];
    for (int i = 0; i < 100; i++) {
        pass(&w, 100);
        op = fake_find(&w.fake, TIDE_OP_SETTLE);
        if (op != NULL)
            fake_answer_settle(&w.fake, op, (tide_status[]){TIDE_OOM});
    }
    assert_in_range(w.fake.submitted[TIDE_OP_SETTLE] - before, 2, 50);
    pass(&w, 5000);
    answer(&w, TIDE_OP_SETTLE, TIDE_OK);
    assert_int_equal(stats(&w).dead, 1);
    assert_int_equal(stats(&w).error.status, TIDE_OK);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_letter_out_of_memory_keeps_the_original_F16_F26),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
