/* SPDX-License-Identifier: MIT */
#ifndef TIDE_POLICY_BACKOFF_H
#define TIDE_POLICY_BACKOFF_H

#include <tidemill/consumer.h>

tide_retry_policy tide_retry_policy_default(void);

/* Pure: the delay in ms before attempt `attempt`+1, `attempt` ≥ 1 being the one that just
 * failed. `unit` is a random number 0 ≤ unit < 1. The delay without jitter d is fixed: base;
 * linear: base × attempt; exponential: base × factor^(attempt-1); never above the ceiling; then
 * d × (1 - jitter) + d × jitter × unit. jitter 1 is "full jitter" (AWS Architecture Blog,
 * Exponential Backoff and Jitter, 2015). Saturates, never overflows. */
int64_t tide_backoff_delay_ms(const tide_retry_policy *policy, uint32_t attempt, double unit);

/* Whether another attempt is due after `attempt` (≥ 1) has failed. */
bool tide_retry_is_due(const tide_retry_policy *policy, uint32_t attempt);

#endif
