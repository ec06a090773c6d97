/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_CHECK_H
#define TIDE_SIM_CHECK_H

#include <tidemill/engine.h>

#include "server.h"

/*
 * What the simulator knows about each event, and what must hold:
 *   acknowledged and lost      what was published for sure ends handled or dead-lettered, and nothing stays pending
 *   delivered without need     a second run has a cause: a verdict that asks for it, or an entry that was handed out again
 *                              after it had run, because its process had died or its lease was over
 *   twice at once              the same, while the run before goes on
 *   lease not kept             a lease ends only under a process that lives when something kept it from being renewed
 *   taken too early            nobody takes an entry before its lease's end, unless it was given back
 *   not given back             what was given back, by a verdict or at the end of a process, is there for others at once
 *   order                      without what shakes a process and with one at a time, first runs come in the order of ids
 *   early                      a run that was put off doesn't begin before its time; nor is an event there before the time that
 *                              it was published for
 *   written once               no event is in the stream twice, whatever happened to its publisher; nor a dead letter
 *   dead without need          what is dead-lettered was rejected or has had its attempts; never for what its neighbours did
 *   attempts                   an attempt's number is one more than the runs before it that count, and than the deaths of
 *                              processes that had it; it never passes the limit
 */
enum { CHECK_EVENTS_MAX = 400, CHECK_NODES_MAX = 8 };

/* How an event's handler behaves. */
typedef enum check_plan {
    PLAN_FINE,
    PLAN_FLAKY,  /* fails at first */
    PLAN_POISON, /* always fails */
    PLAN_REJECT,
    PLAN_NACK,    /* asks for another time once */
    PLAN_MOVE,    /* likewise, so long that it is moved to the delayed set */
    PLAN_RELEASE, /* gives itself back once */
    PLAN_MIXED,   /* some of all these in turn */
    PLAN_COUNT,
    PLAN_KILL /* ends its process, each time */
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
    int64_t delay_ms;  /* published to be there so much later; 0: now */
    int64_t due_us;    /* … and not before that; 0 while nothing was sent */
    bool may_be_there; /* … though its publisher will try again */
    bool excused;      /* the server lost its data after it was published */
    uint32_t runs;
    uint32_t good_runs;
    uint32_t verdicts; /* that asked for another run */
    /* the last run */
    int64_t run_us;
    uint32_t run_node;
    uint32_t run_life; /* of the node */
    bool run_going;
    bool run_wants_more;   /* it ended with a verdict that asks for another one */
    int64_t not_before_us; /* … and not before then */
    /* who has it */
    bool handed;
    sim_handing how;
    tide_id id; /* of its entry */
    uint32_t holder_node, holder_life;
    int64_t handed_us;
    bool given_back, is_being_given_back;
    bool may_run_again; /* handed out again, rightly, after it had run */
    uint32_t spare;     /* times that it may come again because the group or the data went */
    /* attempts */
    uint32_t counted; /* runs that count */
    uint32_t vain;    /* times that the same process was handed it again, which only it knows */
    uint32_t
        deaths; /* times that it was handed to another process than before, not having been given back */
    uint32_t held_by_life[CHECK_NODES_MAX]; /* of each node, the last life that had it */
    bool taken_in_vain;                     /* a process died just when it had taken it over */
    bool bounced; /* it came back to a process that had it before: what that one counted counts */
    bool isnt_countable; /* its counts went with the group */
    uint32_t in_stream;
    uint32_t in_dead;
} check_event;

typedef struct check {
    check_event events[CHECK_EVENTS_MAX];
    uint32_t count;
    int64_t lease_us;
    uint32_t attempts_max;
    bool in_order;     /* one consumer, one at a time, nothing that shakes it */
    bool no_fault;     /* at all */
    bool only_killers; /* no process dies but by its own events */
    tide_id last_first_run;
    uint32_t
        cuts; /* reads that may have been counted as served, and weren't: each may hide an attempt */
    bool clock_jumped; /* who has it doesn't know that a peer has it, too */
    bool data_lost;
    char *failure; /* where the first one is written */
    size_t failure_size;
    uint64_t digest;
    uint64_t delivered;
} check;

/* An entry of an event was handed to a process. */
typedef struct check_handing {
    sim_handing how;
    tide_id id;
    uint32_t node, life;
    int64_t idle_us; /* -1: not known */
    bool holder_is_alive;
    bool scripts_are_known; /* so that nothing asked later is done earlier */
    bool holder_was_shaken; /* something may have kept it from renewing */
} check_handing;

void check_fail(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool check_failed(const check *c);
void check_handed(check *c, uint32_t index, const check_handing *handing, int64_t now_us);
/* A process dies; what it took over from a dead one within so many us can't have been put right. */
void check_died(check *c, uint32_t node, uint32_t life, int64_t within_us, int64_t now_us);
/* A run begins. */
void check_run(check *c, uint32_t index, const tide_event *event, uint32_t node, uint32_t life,
               int64_t now_us);
/* A run of this node ended and asks for another one, not before so many ms (0: at once). */
void check_asked(check *c, uint32_t index, uint32_t node, uint32_t life, bool counts,
                 int64_t delay_ms, int64_t now_us);
/* The group or the data went: whatever was handed out may come again, with counts that begin anew. */
void check_forgotten(check *c, uint32_t index);
/* Published events that are neither handled nor dead-lettered yet. */
uint32_t check_open(const check *c);
/* After the end, with in_stream and in_dead counted. */
void check_end(check *c);

#endif
