/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_WORLD_H
#define TIDE_SIM_WORLD_H

#include "sim.h"

#include "base/prng.h"
#include "base/text.h"
#include "broker/broker.h"
#include "check.h"
#include "engine/engine.h"
#include "server.h"

/* What the files of the simulated world share: wire.c carries bytes, node.c drives an engine, fault.c breaks things, world.c
 * moves the clock. */

#define STREAM       TIDE_STR("orders")
#define GROUP        TIDE_STR("billing")
#define DEAD_LETTERS TIDE_STR("{orders}:dlq")
#define DELAYED      TIDE_STR("{orders}:delayed")

enum {
    NODES_MAX = 5, /* node 0 publishes */
    CONNS_MAX = 64,
    RUNNING_MAX = 8,
    HISTORY_TAGS_MAX = 16,
    STEPS_MAX = 400000
};
static const int64_t sim__epoch_ms = INT64_C(1700000000000);

typedef struct chunk {
    struct chunk *next;
    int64_t at_us;
    size_t size;
    char data[];
} chunk;

typedef struct pipe_way {
    chunk *first, *last;
    int64_t last_us; /* chunks never overtake */
} pipe_way;

typedef enum conn_state { CONN_FREE, CONN_OPENING, CONN_UP } conn_state;

typedef struct conn {
    conn_state state;
    uint32_t node;
    uint32_t link;
    uint32_t client; /* the server's number; 0 when it doesn't know it (any more) */
    bool has_node;   /* the node's side is open */
    bool silent;     /* half open: nothing arrives any more, nobody is told */
    bool refused;
    int64_t open_us;
    int64_t
        node_close_us; /* when the node sees the end, behind what is on its way; else INT64_MAX */
    int64_t server_close_us; /* likewise the server */
    pipe_way to_server, to_node;
} conn;

typedef struct handler {
    uint64_t handle;
    uint32_t consumer;
    uint32_t index;
    uint32_t attempt;
    int64_t end_us;
    bool acked_early;
} handler;

typedef struct bug_broker {
    tide_broker base;
    tide_broker *inner;
    tide_prng *prng;
    uint64_t history_tags[HISTORY_TAGS_MAX];
    tide_broker_vtable vtable;
} bug_broker;

typedef struct node {
    tide_engine *engine;
    tide_broker *broker;
    const tide_broker_vtable *vtable;
    uint32_t life;
    uint32_t consumer;
    int64_t restart_us; /* INT64_MAX: not planned */
    int64_t paused_until_us;
    int64_t due_us;
    bool woken;
    int64_t stop_limit_us; /* draining until then; INT64_MAX: not draining */
    bool busy; /* a job has ended after the last look at what it brought: another turn at once */
    handler running[RUNNING_MAX];
    uint32_t running_count;
    bug_broker bug;
} node;

typedef enum fault {
    FAULT_CUT,
    FAULT_HANG,
    FAULT_RESTART,
    FAULT_TROUBLE,
    FAULT_CRASH,
    FAULT_PAUSE,
    FAULT_SCRIPTS,
    FAULT_STOP,  /* no fault: a node drains, goes, and comes back */
    FAULT_CLOCK, /* the server's clock jumps ahead */
    FAULT_TRIM,  /* half of the stream is trimmed, pending or not */
    FAULT_GROUP, /* the group is deleted, the stream stays */
    FAULT_EMPTY, /* restart without data */
    FAULT_COUNT
} fault;

typedef struct world {
    sim_options options;
    sim_result *result;
    tide_prng prng;
    int64_t now_us;
    sim_server *server;
    bool server_down;
    int64_t clock_ahead_ms;
    uint32_t admin; /* the simulator's own connection to the server */
    int64_t server_up_us;
    int64_t trouble_end_us;
    conn conns[CONNS_MAX];
    node nodes[NODES_MAX];
    uint32_t node_count;
    check check;

    /* drawn from the seed */
    uint32_t event_count, concurrency, batch_max;
    int64_t latency_us, handler_us;
    bool dedupe, slow_handlers, history_only;
    tide_consumer_options consumer;
    uint32_t fault_mask;
    int64_t fault_every_us, next_fault_us, work_us, limit_us;

    uint32_t next_event;
    int64_t next_publish_us;
    uint64_t publish_tag;
    uint64_t steps;
    char folder[64];
    char url[128];
} world;

/* ---- wire.c ---- */

void sim__trace(const world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t sim__draw(world *w, uint64_t bound);
int64_t sim__between(world *w, int64_t low, int64_t high);
bool sim__chance(world *w, uint32_t percent);
int64_t sim__wall_ms(const world *w);
void sim__send_on(world *w, pipe_way *way, const char *data, size_t size);
void sim__way_clear(pipe_way *way);
void sim__way_cut(world *w, pipe_way *way);
void sim__conn_free(conn *c);
void sim__conn_leave(world *w, conn *c);
void sim__conn_cut(world *w, conn *c);
conn *sim__conn_of(world *w, uint32_t node_index, uint32_t link);
void sim__conn_open(world *w, uint32_t node_index, uint32_t link);
void sim__server_replies(world *w);

/* ---- node.c ---- */

void sim__node_start(world *w, uint32_t index);
void sim__node_crash(world *w, uint32_t index);
void sim__node_pump(world *w, uint32_t index);
void sim__end_handler(world *w, uint32_t index, uint32_t which);
void sim__publish(world *w);
void sim__node_turn(world *w, uint32_t index);
void sim__node_stopping(world *w, uint32_t index);
bool sim__is_awake(const world *w, uint32_t index);

/* ---- fault.c ---- */

void sim__inject(world *w);

/* ---- world.c ---- */

void sim__visit_stream(void *context, tide_id id, tide_str value);

#endif
