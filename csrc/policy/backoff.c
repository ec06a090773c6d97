/* SPDX-License-Identifier: MIT */
/*
 * What it is: when a failed event runs again, as pure functions of policy, attempt and one random
 * number.
 * What it is not: a timer, a counter or a sleep; who calls keeps the attempt.
 * Invariants: 0 <= delay <= delay_ms_max, for every policy and attempt, also for nonsense ones.
 */
#include "policy/backoff.h"

tide_retry_policy tide_retry_policy_default(void) {
    return (tide_retry_policy){.kind = TIDE_BACKOFF_EXPONENTIAL,
                               .attempts_max = 5,
                               .delay_ms = 100,
                               .delay_ms_max = 60000,
                               .factor = 2,
                               .jitter = 0.5};
}

/* NaN counts as `low`. */
static double clamp(double x, double low, double high) {
    if (!(x > low))
        return low;
    return x < high ? x : high;
}

/* base × factor^times by squaring, no further than `ceiling`. */
static int64_t grow(int64_t base, double factor, uint32_t times, int64_t ceiling) {
    double power = 1;
    for (double square = clamp(factor, 0, 1e300); times > 0; times >>= 1) {
        if (times & 1u)
            power = clamp(power * square, 0, 1e300);
        square = clamp(square * square, 0, 1e300);
    }
    double delay = (double)base * power;
    return delay < (double)ceiling ? (int64_t)delay : ceiling;
}

int64_t tide_backoff_delay_ms(const tide_retry_policy *policy, uint32_t attempt, double unit) {
    int64_t ceiling = policy->delay_ms_max > 0 ? policy->delay_ms_max : 0;
    int64_t delay = policy->delay_ms > 0 ? policy->delay_ms : 0;
    if (attempt == 0)
        attempt = 1;
    switch (policy->kind) {
    case TIDE_BACKOFF_FIXED: break;
    case TIDE_BACKOFF_LINEAR:
        delay = delay > INT64_MAX / attempt ? INT64_MAX : delay * attempt;
        break;
    case TIDE_BACKOFF_EXPONENTIAL:
        if (attempt > 1)
            delay = grow(delay, policy->factor, attempt - 1, ceiling);
        break;
    }
    if (delay > ceiling)
        delay = ceiling;
    double jitter = clamp(policy->jitter, 0, 1);
    if (jitter <= 0)
        return delay;
    double kept = (double)delay * (1 - jitter) + (double)delay * jitter * clamp(unit, 0, 1);
    return kept < (double)delay ? (int64_t)kept : delay;
}

bool tide_retry_is_due(const tide_retry_policy *policy, uint32_t attempt) {
    return policy->attempts_max == 0 || attempt < policy->attempts_max;
}
