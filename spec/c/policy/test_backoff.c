/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "base/prng.h"
#include "policy/backoff.h"

static tide_retry_policy plain(tide_backoff_kind kind) {
    tide_retry_policy policy = tide_retry_policy_default();
    policy.kind = kind;
    policy.jitter = 0;
    return policy;
}

static void defaults_are_what_the_header_says(void **state) {
    (void)state;
    tide_retry_policy policy = tide_retry_policy_default();
    assert_int_equal(policy.kind, TIDE_BACKOFF_EXPONENTIAL);
    assert_int_equal(policy.attempts_max, 5);
    assert_int_equal(policy.delay_ms, 100);
    assert_int_equal(policy.delay_ms_max, 60000);
    assert_true(policy.factor == 2 && policy.jitter == 0.5);
}

static void grows_by_its_kind_up_to_the_ceiling(void **state) {
    (void)state;
    static const struct {
        uint32_t attempt;
        int64_t fixed;
        int64_t linear;
        int64_t exponential;
    } rows[] = {{1, 100, 100, 100},       {2, 100, 200, 200},
                {3, 100, 300, 400},       {10, 100, 1000, 51200},
                {11, 100, 1100, 60000},   {599, 100, 59900, 60000},
                {601, 100, 60000, 60000}, {UINT32_MAX, 100, 60000, 60000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tide_retry_policy policy = plain(TIDE_BACKOFF_FIXED);
        assert_int_equal(tide_backoff_delay_ms(&policy, rows[i].attempt, 0.9), rows[i].fixed);
        policy.kind = TIDE_BACKOFF_LINEAR;
        assert_int_equal(tide_backoff_delay_ms(&policy, rows[i].attempt, 0.9), rows[i].linear);
        policy.kind = TIDE_BACKOFF_EXPONENTIAL;
        assert_int_equal(tide_backoff_delay_ms(&policy, rows[i].attempt, 0.9), rows[i].exponential);
    }
}

static void jitter_is_the_share_that_is_drawn(void **state) {
    (void)state;
    tide_retry_policy policy = plain(TIDE_BACKOFF_FIXED);
    policy.delay_ms = 1000;
    policy.jitter = 0.5;
    assert_int_equal(tide_backoff_delay_ms(&policy, 1, 0), 500);
    assert_int_equal(tide_backoff_delay_ms(&policy, 1, 0.5), 750);
    assert_in_range(tide_backoff_delay_ms(&policy, 1, 0.999999), 999, 1000);
    policy.jitter = 1;
    assert_int_equal(tide_backoff_delay_ms(&policy, 1, 0), 0);
    assert_int_equal(tide_backoff_delay_ms(&policy, 1, 0.25), 250);
    policy.jitter = NAN;
    assert_int_equal(tide_backoff_delay_ms(&policy, 1, 0), 1000);
}

static void many_draws_are_spread_evenly(void **state) {
    (void)state;
    tide_retry_policy policy = plain(TIDE_BACKOFF_FIXED);
    policy.delay_ms = 1000;
    policy.jitter = 1;
    tide_prng prng;
    tide_prng_seed(&prng, 5);
    unsigned counts[10] = {0};
    for (int i = 0; i < 10000; i++) {
        int64_t delay = tide_backoff_delay_ms(&policy, 1, tide_prng_unit(&prng));
        assert_in_range(delay, 0, 999);
        counts[delay / 100]++;
    }
    for (size_t i = 0; i < 10; i++) {
        assert_in_range(counts[i], 850, 1150);
    }
}

static void saturates_and_never_overflows(void **state) {
    (void)state;
    const int64_t delays[] = {INT64_MIN, -1, 0, 1, 1000, INT64_MAX - 1, INT64_MAX};
    const double numbers[] = {-INFINITY, -1, 0, 1e-300, 0.5, 1, 1.0000001, 2, 1e300, INFINITY, NAN};
    const uint32_t attempts[] = {0, 1, 2, 63, 64, 65, 1000, UINT32_MAX};
    for (int kind = TIDE_BACKOFF_FIXED; kind <= TIDE_BACKOFF_EXPONENTIAL; kind++) {
        for (size_t a = 0; a < 7; a++) {
            for (size_t b = 0; b < 7; b++) {
                for (size_t c = 0; c < 11 * 11 * 8; c++) {
                    tide_retry_policy policy = {.kind = (tide_backoff_kind)kind,
                                                .delay_ms = delays[a],
                                                .delay_ms_max = delays[b],
                                                .factor = numbers[c % 11],
                                                .jitter = numbers[c / 11 % 11]};
                    uint32_t attempt = attempts[c / 121];
                    int64_t most = delays[b] > 0 ? delays[b] : 0;
                    for (size_t u = 0; u < 11; u++) {
                        int64_t delay = tide_backoff_delay_ms(&policy, attempt, numbers[u]);
                        assert_true(delay >= 0 && delay <= most);
                    }
                }
            }
        }
    }
    tide_retry_policy policy = plain(TIDE_BACKOFF_FIXED);
    policy.delay_ms = policy.delay_ms_max = INT64_MAX;
    assert_true(tide_backoff_delay_ms(&policy, 1, 0) == INT64_MAX);
    policy.kind = TIDE_BACKOFF_LINEAR;
    assert_true(tide_backoff_delay_ms(&policy, 2, 0) == INT64_MAX);
    policy.kind = TIDE_BACKOFF_EXPONENTIAL;
    assert_true(tide_backoff_delay_ms(&policy, 2, 0) == INT64_MAX);
}

static void never_shrinks_without_jitter(void **state) {
    (void)state;
    for (int kind = TIDE_BACKOFF_FIXED; kind <= TIDE_BACKOFF_EXPONENTIAL; kind++) {
        tide_retry_policy policy = plain((tide_backoff_kind)kind);
        policy.factor = 1.1;
        int64_t before = 0;
        for (uint32_t attempt = 1; attempt < 500; attempt++) {
            int64_t delay = tide_backoff_delay_ms(&policy, attempt, 0);
            assert_true(delay >= before);
            before = delay;
        }
    }
}

static void attempts_are_counted_from_one(void **state) {
    (void)state;
    tide_retry_policy policy = tide_retry_policy_default();
    assert_true(tide_retry_is_due(&policy, 1));
    assert_true(tide_retry_is_due(&policy, 4));
    assert_false(tide_retry_is_due(&policy, 5));
    assert_false(tide_retry_is_due(&policy, UINT32_MAX));
    policy.attempts_max = 1;
    assert_false(tide_retry_is_due(&policy, 1));
    policy.attempts_max = 0;
    assert_true(tide_retry_is_due(&policy, UINT32_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_what_the_header_says),
        cmocka_unit_test(grows_by_its_kind_up_to_the_ceiling),
        cmocka_unit_test(jitter_is_the_share_that_is_drawn),
        cmocka_unit_test(many_draws_are_spread_evenly),
        cmocka_unit_test(saturates_and_never_overflows),
        cmocka_unit_test(never_shrinks_without_jitter),
        cmocka_unit_test(attempts_are_counted_from_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
