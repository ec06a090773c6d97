/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BENCH_RAW_COMMON_H
#define TIDE_BENCH_RAW_COMMON_H

/* What the yardsticks share: the event they send, the clocks they read, the line they print. */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD_SIZE = 200 };

static inline int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Of this process, all threads. */
static inline double cpu_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* JSON of exactly PAYLOAD_SIZE bytes, and a NUL. */
static inline void make_payload(char *payload, uint64_t number) {
    int head = snprintf(payload, PAYLOAD_SIZE + 1,
                        "{\"order\":\"order-%09" PRIu64
                        "\",\"total\":99.95,\"currency\":\"EUR\",\"items\":"
                        "[{\"sku\":\"A-1\",\"n\":2},{\"sku\":\"B-7\",\"n\":1}],\"note\":\"",
                        number);
    memset(payload + head, 'x', (size_t)(PAYLOAD_SIZE - head - 2));
    memcpy(payload + PAYLOAD_SIZE - 2, "\"}", 3);
}

/* For qsort. */
static inline int compare_ns(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* `cpu`: seconds, of all events. */
static inline void print_rate(const char *figure, size_t events, int64_t elapsed_ns, double cpu) {
    printf("{\"figure\":\"%s\",\"events\":%zu,\"seconds\":%.6f,\"rate\":%.1f,\"cpu_us\":%.4f}\n",
           figure, events, (double)elapsed_ns / 1e9, (double)events * 1e9 / (double)elapsed_ns,
           cpu * 1e6 / (double)events);
}

#endif
