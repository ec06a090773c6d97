/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_FAKE_BROKER_H
#define TIDE_SPEC_FAKE_BROKER_H

#include <stdatomic.h>

#include "broker/broker.h"

/* A broker that does nothing by itself: the test says what it wants and sends, and looks at what the driver did. */

enum { FAKE_LINKS = 300, FAKE_BYTES = 16 << 20, FAKE_JOBS = 1000 };

typedef struct fake_link {
    tide_endpoint endpoint;
    bool wants_open, wants_close;
    bool is_up;
    int opened, closed;
    tide_error why; /* of the last link_closed */
    size_t fed, feeds, fed_max;
    char last[16]; /* the last bytes fed */
    const char *output;
    size_t output_size;
    bool closes_itself; /* wants to be closed when it is fed */
} fake_link;

typedef struct fake_job {
    tide_job job; /* first */
    void (*work)(struct fake_job *job);
    void *context;
    bool was_run, finished;
} fake_job;

typedef struct fake_broker {
    tide_broker base; /* first */
    tide_broker_vtable vtable;
    fake_link links[FAKE_LINKS];
    int64_t deadline_us;
    int ticks;
    fake_job *jobs[FAKE_JOBS];
    size_t job_count, job_next, jobs_finished;
    bool destroyed;
} fake_broker;

/* In static memory: `destroyed` can be looked at afterwards. */
fake_broker *fake_broker_create(bool jobs, bool jobs_block);

#endif
