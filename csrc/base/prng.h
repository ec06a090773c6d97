/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_PRNG_H
#define TIDE_BASE_PRNG_H

#include <stdint.h>

/* xoshiro256** seeded by splitmix64 (Blackman & Vigna, 2018): for jitter, ids and the simulator;
 * not for secrets. */
typedef struct tide_prng {
    uint64_t state[4];
} tide_prng;

void tide_prng_seed(tide_prng *prng, uint64_t seed);
uint64_t tide_prng_next(tide_prng *prng);
/* Even over 0 … bound-1; 0 when bound is 0. */
uint64_t tide_prng_below(tide_prng *prng, uint64_t bound);
/* Even over 0 ≤ x < 1. */
double tide_prng_unit(tide_prng *prng);

#endif
