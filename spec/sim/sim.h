/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_H
#define TIDE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One run of the whole delivery engine in virtual time, from one seed: a publisher and some consumers, each an engine of
 * its own, a server (or a file), a wire between them, and what can go wrong. The same seed gives the same run.
 */
typedef enum sim_bug {
    SIM_BUG_NONE,
    SIM_BUG_ACK_BEFORE_HANDLER, /* the driver acks what it takes, then runs the handler */
    SIM_BUG_DROP_PENDING_PAGE /* a page of a consumer's own pending entries is swallowed below the port */
} sim_bug;

typedef struct sim_options {
    uint64_t seed;
    bool file;  /* the SQLite adapter on a file in memory instead of the simulated server */
    bool trace; /* tell on stderr what happens */
    sim_bug bug;
} sim_options;

typedef struct sim_result {
    bool passed;
    char failure[512];  /* which check, about what */
    uint64_t steps;     /* turns of the loop */
    uint64_t events;    /* published for sure */
    uint64_t delivered; /* handed to a handler */
    uint64_t faults;    /* injected */
    int64_t virtual_ms;
    uint64_t digest; /* of all that was handed out, when and to whom: equal for equal seeds */
} sim_result;

void sim_run(const sim_options *options, sim_result *result);

#endif
