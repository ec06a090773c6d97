/* SPDX-License-Identifier: MIT */
#ifndef TIDE_RUNTIME_CLOCK_H
#define TIDE_RUNTIME_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC, µs: never goes back, stands still while the machine sleeps. */
int64_t tide_clock_now_us(void);
/* Wall clock minus the clock above, µs, as of now. */
int64_t tide_clock_wall_offset_us(void);
/* Different in every process and call; from the system, or from clocks where it has none to give. */
uint64_t tide_clock_seed(void);

#endif
