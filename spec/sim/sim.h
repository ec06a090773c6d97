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

/* Bugs that can be planted, to see that they are found: X(constant, name). The first and the last are in the driver, the others are below
 * the port, in all that consumers ask of it and are answered. */
#define SIM_BUGS(X)                                                                                \
    X(ACK_BEFORE_HANDLER, "ack_before_handler") /* what is taken is acked, then it runs */         \
    X(DROP_PENDING_PAGE, "drop_pending_page")   /* a page of own pending entries is swallowed */   \
    X(SETTLE_UNKNOWN, "settle_unknown") /* settlements whose reply was lost are taken for done */  \
    X(SETTLE_LAST, "settle_last")       /* the last settlement of a batch isn't sent */            \
    X(ATTEMPT_LOW, "attempt_low")       /* attempts are written one too low */                     \
    X(RELEASE_COUNTED, "release_counted") /* what is given back counts as an attempt */            \
    X(RELEASE_KEPT, "release_kept")       /* what is given back keeps its lease */                 \
    X(DEAD_ACKED, "dead_acked")           /* a dead letter isn't written, its event is acked */    \
    X(MOVE_NOW, "move_now")               /* what is put off is moved with half its delay */       \
    X(EXTEND_FIRST, "extend_first")       /* only the first lease of several is renewed */         \
    X(EXTEND_DEAF, "extend_deaf")         /* leases that were lost aren't noticed */               \
    X(RECOVER_LIVING, "recover_living")   /* leases are taken at half their time */                \
    X(RECOVER_LOST, "recover_lost")       /* a page that was claimed is swallowed */               \
    X(GROUP_AT_END, "group_at_end")       /* a group that was lost begins at the end */            \
    X(PROMOTE_NEVER, "promote_never")     /* nothing is moved back when it is due */               \
    X(PUBLISH_EARLY, "publish_early")     /* delayed events are due in half the time */

typedef enum sim_bug {
    SIM_BUG_NONE,
#define SIM_BUG_CONSTANT(constant, name) SIM_BUG_##constant,
    SIM_BUGS(SIM_BUG_CONSTANT)
#undef SIM_BUG_CONSTANT
        SIM_BUG_COUNT
} sim_bug;

/* "" for SIM_BUG_NONE. */
const char *sim_bug_name(sim_bug bug);
/* SIM_BUG_COUNT when there is none of this name. */
sim_bug sim_bug_named(const char *name);

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
