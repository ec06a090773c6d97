/* SPDX-License-Identifier: MIT */
/* Two thousand seeds on the simulated server, five hundred on the embedded engine; TIDE_SIM_SEEDS=N asks for others, from
 * TIDE_SIM_FIRST on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim.h"

static uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

static void run(bool file, uint64_t count) {
    uint64_t first = number("TIDE_SIM_FIRST", 1);
    unsigned long long passed = 0, failed = 0, delivered = 0, faults = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        sim_options options = {.seed = seed, .file = file};
        sim_result result;
        sim_run(&options, &result);
        delivered += result.delivered;
        faults += result.faults;
        if (result.passed) {
            passed++;
            continue;
        }
        failed++;
        print_error("seed %llu failed: %s\n  replay: tidemill-sim --seed %llu%s --trace\n",
                    (unsigned long long)seed, result.failure, (unsigned long long)seed,
                    file ? " --engine file" : "");
    }
    print_message("%s: %llu passed, %llu failed (%llu runs of handlers, %llu faults)\n",
                  file ? "file" : "redis", passed, failed, delivered, faults);
    assert_int_equal(failed, 0);
    assert_true(delivered > count);
    assert_true(faults > count / 2);
}

static void test_seeds_on_the_simulated_server(void **state) {
    (void)state;
    run(false, number("TIDE_SIM_SEEDS", 2000));
}

static void test_seeds_on_the_embedded_engine(void **state) {
    (void)state;
    run(true, number("TIDE_SIM_SEEDS", 500));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds_on_the_simulated_server),
        cmocka_unit_test(test_seeds_on_the_embedded_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
