/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_WORLD_H
#define TIDE_SIM_WORLD_H

#include "sim.h"

#include "base/prng.h"
#include "base/text.h"
#include "broker/broker.h"
#include "check.h"
#include "engine/engine.h"
#include "scratch.h"
#include "server.h"

/* What the files of the simulated world share: wire.c carries bytes, node.c drives an engine, fault.c breaks things, world.c
 * moves the clock. */

#define STREAM       TIDE_STR("orders")
#define GROUP        TIDE_STR("billing")
#define DEAD_LETTERS TIDE_STR("{orders}:dlq")
#define DELAYED      TIDE_STR("{orders}:delayed")

enum {
    NODES_MAX = 6, /* node 0 publishes */
    CONNS_MAX = 64,
    RUNNING_MAX = 8,
    SPY_TAGS_MAX = 16,
    SPY_ITEMS_MAX = 1000,
    SETTLED_MAX = 16,
    EVENT_BYTES_MAX = 900, /* with a payload of payload_max */
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
    uint32_t life;   /* of the node, when it was opened */
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

typedef struct world world;

typedef struct spy_known {
    tide_id id;
    uint32_t index;
} spy_known;

typedef struct sim_spy {
    const tide_broker_vtable *inner;
    world *world;
    uint32_t node;
    bool ensured; /* the group was there once */
    uint64_t history_tags[SPY_TAGS_MAX];
    spy_known known[CHECK_EVENTS_MAX]; /* events by entry, as they came */
    uint32_t known_count;
    tide_settlement items[SPY_ITEMS_MAX];
    tide_broker_vtable vtable;
} sim_spy;

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
    int64_t start_us;
    int64_t stop_us, stop_limit_us; /* draining since and until; INT64_MAX: not draining */
    bool busy; /* a job has ended after the last look at what it brought: another turn at once */
    handler running[RUNNING_MAX];
    uint32_t running_count;
    bool gone;               /* for good */
    int64_t shaken_until_us; /* something may keep it from renewing its leases until then */
    sim_spy spy;
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

struct world {
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
    int64_t nack_ms, move_ms;
    uint32_t payload_max;
    bool delays, dedupe, slow_handlers, history_only, bursts, killers, payload_fixed,
        warm; /* the server knows the scripts, always */
    tide_consumer_options consumer;
    uint32_t fault_mask;
    int64_t fault_every_us, next_fault_us, work_us, limit_us;

    /* How far everything was settled, looked at now and then. */
    struct {
        int64_t at_us;
        tide_id id;
    } settled[SETTLED_MAX];
    uint32_t settled_count;

    uint32_t next_event;
    int64_t next_publish_us;
    uint64_t publish_tag;
    uint64_t steps;
    char folder[SCRATCH_PATH_MAX];
    char url[SCRATCH_PATH_MAX + 32];
};

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

/* ---- spy.c ---- */

/* From now on; the node's engine is given the adapter itself. */
void sim__spy_on(world *w, uint32_t index, tide_broker *broker);

/* ---- node.c ---- */

/* Of the event in this entry; UINT32_MAX when nobody published it. */
uint32_t sim__index_of(const world *w, const tide_entry *entry);
/* An entry of this event was handed to a process; idle_us -1: not known. */
void sim__handed(world *w, uint32_t index, const sim_handed *handed, uint32_t node, uint32_t life);

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
/* What strikes while a process or a connection starts strikes where they are least ready: perhaps the next fault is soon. */
void sim__inject_soon(world *w);

/* ---- draw.c ---- */

void sim__draw_world(world *w);

/* ---- look.c ---- */

/* Counts in_stream and in_dead of each event. */
void sim__look(world *w);
size_t sim__pending(world *w);
/* Notes how far everything is settled (each 250 ms, on the simulated server). */
void sim__note_settled(world *w);
/* Up to where everything was settled at that time, as was noted then or before; 0-0 when it isn't known. */
tide_id sim__settled_at(const world *w, int64_t at_us);
/* UINT32_MAX when it isn't an event's id. */
uint32_t sim__index_of_text(const world *w, tide_str value);
void sim__visit_stream(void *context, tide_id id, tide_str value);

#endif
