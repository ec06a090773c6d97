/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "base/prng.h"

/* What the reference implementation (prng.di.unimi.it, public domain) gives for state 1, 2, 3, 4. */
static void gives_the_reference_sequence(void **state) {
    (void)state;
    tide_prng prng = {{1, 2, 3, 4}};
    const uint64_t expected[] = {UINT64_C(11520), UINT64_C(0), UINT64_C(1509978240),
                                 UINT64_C(1215971899390074240)};
    for (size_t i = 0; i < 4; i++) {
        assert_true(tide_prng_next(&prng) == expected[i]);
    }
}

/* splitmix64 from seed 0, of the same source. */
static void is_seeded_by_splitmix(void **state) {
    (void)state;
    tide_prng prng;
    tide_prng_seed(&prng, 0);
    assert_true(prng.state[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(prng.state[1] == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(prng.state[2] == UINT64_C(0x06c45d188009454f));
    assert_true(prng.state[3] == UINT64_C(0xf88bb8a8724c81ec));
}

static void draws_below_a_bound_evenly(void **state) {
    (void)state;
    tide_prng prng;
    tide_prng_seed(&prng, 42);
    unsigned counts[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t draw = tide_prng_below(&prng, 7);
        assert_true(draw < 7);
        counts[draw]++;
    }
    for (size_t i = 0; i < 7; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    assert_int_equal(tide_prng_below(&prng, 0), 0);
    assert_int_equal(tide_prng_below(&prng, 1), 0);
    /* A bound just over half the range rejects nearly every second draw and must come to an end. */
    for (int i = 0; i < 100; i++) {
        assert_true(tide_prng_below(&prng, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
    }
}

/* Without rejection the lowest quarter of the range would come up half of the time, not a third. */
static void a_large_bound_is_no_less_even(void **state) {
    (void)state;
    tide_prng prng;
    tide_prng_seed(&prng, 9);
    unsigned low = 0;
    for (int i = 0; i < 30000; i++) {
        low += tide_prng_below(&prng, UINT64_C(3) << 62) < UINT64_C(1) << 62;
    }
    assert_in_range(low, 9500, 10500);
}

static void units_lie_from_zero_to_below_one(void **state) {
    (void)state;
    tide_prng prng;
    tide_prng_seed(&prng, 1);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double unit = tide_prng_unit(&prng);
        assert_true(unit >= 0 && unit < 1);
        sum += unit;
    }
    assert_true(sum > 49000 && sum < 51000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_reference_sequence),
        cmocka_unit_test(is_seeded_by_splitmix),
        cmocka_unit_test(draws_below_a_bound_evenly),
        cmocka_unit_test(a_large_bound_is_no_less_even),
        cmocka_unit_test(units_lie_from_zero_to_below_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
