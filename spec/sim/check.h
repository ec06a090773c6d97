/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_CHECK_H
#define TIDE_SIM_CHECK_H

#include <tidemill/engine.h>

/*
 * What the simulator knows about each event, and what must hold:
 *   acknowledged and lost      what was published for sure ends handled or dead-lettered
 *   delivered without need     a second run has a cause: a verdict that asks for it, a process that died, a lease that ended
 *   twice at once              no second run begins while the first goes on and keeps its lease
 *   order                      without faults and with one at a time, first runs come in the order of ids
 *   written once               no event is in the stream twice, whatever happened to its publisher
 *   dead without need          what is dead-lettered was rejected or has had its attempts
 *   attempts                   an attempt's number never passes the limit
 */
enum { CHECK_EVENTS_MAX = 400 };

/* How an event's handler behaves. */
typedef enum check_plan {
    PLAN_FINE,
    PLAN_FLAKY,  /* fails at first */
    PLAN_POISON, /* always fails */
    PLAN_REJECT,
    PLAN_NACK,    /* asks for another time once */
    PLAN_MOVE,    /* likewise, so long that it is moved to the delayed set */
    PLAN_RELEASE, /* gives itself back once */
    PLAN_COUNT
} check_plan;

typedef enum check_publish {
    PUBLISH_NOT_YET,
    PUBLISH_OPEN,
    PUBLISH_OK,
    PUBLISH_MAYBE
} check_publish;

typedef struct check_event {
    check_plan plan;
    check_publish publish;
    bool excused; /* the server lost its data after it was published */
    uint32_t runs;
    uint32_t good_runs;
    uint32_t failures; /* verdicts that ask for another run */
    /* the last run */
    int64_t run_us;
    tide_id run_id; /* of the entry; a copy moved through the delayed set has another one */
    uint32_t run_node;
    uint32_t run_life; /* of the node */
    bool run_going;
    bool run_wants_more; /* it ended with a verdict that asks for another one */
    uint32_t in_stream;
    uint32_t in_dead;
} check_event;

typedef struct check {
    check_event events[CHECK_EVENTS_MAX];
    uint32_t count;
    int64_t lease_us;
    uint32_t attempts_max;
    bool in_order; /* no faults, one consumer, one at a time */
    tide_id last_first_run;
    uint32_t crashes;
    uint32_t faults;        /* of any kind, crashes among them */
    int64_t fault_lasts_us; /* how long one may be felt */
    int64_t last_fault_us;  /* INT64_MIN: none */
    int64_t last_clock_us;  /* likewise, of a jump of the server's clock */
    bool data_lost;
    char *failure; /* where the first one is written */
    size_t failure_size;
    uint64_t digest;
    uint64_t delivered;
} check;

void check_fail(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool check_failed(const check *c);
/* A run begins. `alive` says whether the node of the last run still lives the same life. */
void check_run(check *c, uint32_t index, const tide_event *event, uint32_t node, uint32_t life,
               bool last_is_alive, int64_t now_us);
/* Published events that are neither handled nor dead-lettered yet. */
uint32_t check_open(const check *c);
/* After the end, with in_stream and in_dead counted. */
void check_end(check *c);

#endif
