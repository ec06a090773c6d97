/* SPDX-License-Identifier: MIT */
/*
 * What it is: the clocks and the randomness of the system, read at the edge.
 * What it is not: a time library.
 */
#include "runtime/clock.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int64_t read_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t tide_clock_now_us(void) {
    return read_us(CLOCK_MONOTONIC);
}

int64_t tide_clock_wall_offset_us(void) {
    return read_us(CLOCK_REALTIME) - read_us(CLOCK_MONOTONIC);
}

uint64_t tide_clock_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed)
        return seed;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ((uint64_t)now.tv_sec << 32) ^ ((uint64_t)now.tv_nsec << 10) ^ (uint64_t)getpid();
}
