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

static uint32_t failures(bool file, uint64_t first, uint64_t last) {
    uint32_t count = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        sim_options options = {.seed = seed, .file = file};
        sim_result result;
        sim_run(&options, &result);
        if (result.passed)
            continue;
        print_error("seed %llu: %s; replay: tidemill-sim --seed %llu%s --trace\n",
                    (unsigned long long)seed, result.failure, (unsigned long long)seed,
                    file ? " --engine file" : "");
        count++;
    }
    return count;
}

/* Which rule must say so, on which engine: a file knows neither lost replies nor lost groups. */
static const struct {
    sim_bug bug;
    const char *rule;
    bool on_file;
} planted[] = {
    {SIM_BUG_ACK_BEFORE_HANDLER, "acknowledged and lost", true},
    {SIM_BUG_DROP_PENDING_PAGE, "acknowledged and lost", true},
    {SIM_BUG_SETTLE_UNKNOWN, "delivered without need", false},
    {SIM_BUG_SETTLE_LAST, "lease not kept", true},
    {SIM_BUG_ATTEMPT_LOW, "attempts", true},
    {SIM_BUG_RELEASE_COUNTED, "attempts", true},
    {SIM_BUG_RELEASE_KEPT, "not given back", true},
    {SIM_BUG_DEAD_ACKED, "acknowledged and lost", true},
    {SIM_BUG_MOVE_NOW, "early", true},
    {SIM_BUG_EXTEND_FIRST, "lease not kept", true},
    {SIM_BUG_EXTEND_DEAF, "delivered without need", true},
    {SIM_BUG_RECOVER_LIVING, "taken too early", false},
    {SIM_BUG_RECOVER_LIVING, "lease not kept", true},
    {SIM_BUG_RECOVER_LOST, "acknowledged and lost", true},
    {SIM_BUG_GROUP_AT_END, "acknowledged and lost", false},
    {SIM_BUG_PROMOTE_NEVER, "acknowledged and lost", true},
    {SIM_BUG_PUBLISH_EARLY, "early", true},
};
enum { PLANTED = sizeof planted / sizeof *planted, SEEDS_MAX = 1500 };

/* The first seed that finds it. */
static uint64_t found(sim_bug bug, bool file, const char *rule) {
    for (uint64_t seed = 1; seed <= SEEDS_MAX; seed++) {
        sim_options options = {.seed = seed, .file = file, .bug = bug};
        sim_result result;
        sim_run(&options, &result);
        if (!result.passed && strstr(result.failure, rule) != NULL)
            return seed;
    }
    return 0;
}

static void test_each_planted_bug_is_found(void **state) {
    (void)state;
    bool is_planted[SIM_BUG_COUNT] = {false};
    bool all = true;
    for (int i = 0; i < PLANTED; i++) {
        is_planted[planted[i].bug] = true;
        for (int file = 0; file <= planted[i].on_file; file++) {
            if (file == 0 && planted[i].bug == SIM_BUG_RECOVER_LIVING && planted[i].on_file)
                continue; /* the server itself tells */
            uint64_t seed = found(planted[i].bug, file != 0, planted[i].rule);
            print_message("%-20s %-6s %-24s seed %llu\n", sim_bug_name(planted[i].bug),
                          file != 0 ? "file" : "redis", planted[i].rule, (unsigned long long)seed);
            all = all && seed > 0;
        }
    }
    for (int bug = 1; bug < SIM_BUG_COUNT; bug++)
        assert_true(is_planted[bug]);
    assert_true(all);
}

static void test_a_clean_build_passes_the_same_seeds(void **state) {
    (void)state;
    assert_int_equal(failures(false, 1, 150), 0);
    assert_int_equal(failures(true, 1, 150), 0);
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
        cmocka_unit_test(test_each_planted_bug_is_found),
        cmocka_unit_test(test_a_clean_build_passes_the_same_seeds),
        cmocka_unit_test(test_the_same_seed_gives_the_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
