/* SPDX-License-Identifier: MIT */
/*
 * What it is: xoshiro256** (Blackman & Vigna, "Scrambled linear pseudorandom number generators",
 * 2018), seeded by splitmix64 (Steele, Lea & Flood, 2014).
 * What it is not: a source of secrets; whoever sees four outputs knows the rest.
 * Invariants: the state is never all zero, because splitmix64 gives no four zeros in a row.
 */
#include "base/prng.h"

static uint64_t rotate_left(uint64_t x, unsigned bits) {
    return (x << bits) | (x >> (64 - bits));
}

void tide_prng_seed(tide_prng *prng, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        prng->state[i] = z ^ (z >> 31);
    }
}

uint64_t tide_prng_next(tide_prng *prng) {
    uint64_t *s = prng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t tide_prng_below(tide_prng *prng, uint64_t bound) {
    if (bound == 0)
        return 0;
    /* The 2^64 mod bound lowest draws are thrown away, so that every remainder is equally
     * likely. */
    uint64_t lowest = (0 - bound) % bound;
    for (;;) {
        uint64_t draw = tide_prng_next(prng);
        if (draw >= lowest)
            return draw % bound;
    }
}

double tide_prng_unit(tide_prng *prng) {
    return (double)(tide_prng_next(prng) >> 11) * 0x1.0p-53;
}
