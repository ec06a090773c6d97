/* SPDX-License-Identifier: MIT */
/* The simulator must be able to fail: each planted bug is found within a few seeds, and only then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sim.h"

static uint32_t failures(sim_options options, uint64_t first, uint64_t last, const char *rule) {
    uint32_t count = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        options.seed = seed;
        sim_result result;
        sim_run(&options, &result);
        if (result.passed)
            continue;
        if (options.bug == SIM_BUG_NONE)
            print_error("seed %llu: %s; replay: tidemill-sim --seed %llu%s --trace\n",
                        (unsigned long long)seed, result.failure, (unsigned long long)seed,
                        options.file ? " --engine file" : "");
        if (rule == NULL || strstr(result.failure, rule) != NULL)
            count++;
    }
    return count;
}

static void test_ack_before_the_handler_is_found(void **state) {
    (void)state;
    sim_options options = {.bug = SIM_BUG_ACK_BEFORE_HANDLER};
    assert_true(failures(options, 1, 20, "acknowledged and lost") >= 1);
    options.file = true;
    assert_true(failures(options, 1, 20, "acknowledged and lost") >= 1);
}

static void test_a_dropped_pending_page_is_found(void **state) {
    (void)state;
    sim_options options = {.bug = SIM_BUG_DROP_PENDING_PAGE};
    assert_true(failures(options, 1, 150, "acknowledged and lost") >= 1);
    options.file = true;
    assert_true(failures(options, 1, 150, "acknowledged and lost") >= 1);
}

static void test_a_clean_build_passes_the_same_seeds(void **state) {
    (void)state;
    assert_int_equal(failures((sim_options){0}, 1, 150, NULL), 0);
    assert_int_equal(failures((sim_options){.file = true}, 1, 150, NULL), 0);
}

static void test_the_same_seed_gives_the_same_run(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (int file = 0; file < 2; file++) {
            sim_options options = {.seed = seed, .file = file != 0};
            sim_result a, b;
            sim_run(&options, &a);
            sim_run(&options, &b);
            assert_true(a.digest == b.digest);
            assert_int_equal(a.steps, b.steps);
            assert_int_equal(a.delivered, b.delivered);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ack_before_the_handler_is_found),
        cmocka_unit_test(test_a_dropped_pending_page_is_found),
        cmocka_unit_test(test_a_clean_build_passes_the_same_seeds),
        cmocka_unit_test(test_the_same_seed_gives_the_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
