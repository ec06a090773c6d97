/* SPDX-License-Identifier: MIT */
/*
 * What it is: the simulated world: nodes with an engine each, the wire between them and the server, a publisher, handlers,
 * faults, and the loop that moves the virtual clock from one thing to the next.
 * What it is not: a model of the engine: nodes drive it exactly as runtime/ does, bytes, jobs, ticks and deadlines.
 *
 * A run has two phases: work and faults; then everything is mended and must come to an end within a limit.
 *
 * Invariants: one thread, one source of chance (the seed), no real time; things due at the same microsecond happen in a
 * fixed order; all invariants of an engine are checked after each of its turns.
 */
#include "sim.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/prng.h"
#include "base/text.h"
#include "broker/broker.h"
#include "check.h"
#include "engine/engine.h"
#include "server.h"

#define STREAM       TIDE_STR("orders")
#define GROUP        TIDE_STR("billing")
#define DEAD_LETTERS TIDE_STR("{orders}:dlq")
#define DELAYED      TIDE_STR("{orders}:delayed")

enum {
    NODES_MAX = 5, /* node 0 publishes */
    CONNS_MAX = 64,
    RUNNING_MAX = 8,
    HISTORY_TAGS_MAX = 16,
    STEPS_MAX = 400000,
    WORDS_MAX = 4096
};
static const int64_t epoch_ms = INT64_C(1700000000000);

/* ---- the wire ---- */

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
        node_close_us; /* when the node sees the end, behind what is on its way; INT64_MAX never */
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
    uint64_t commands_seen;
} world;

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

static void trace(const world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void trace(const world *w, const char *format, ...) {
    if (!w->options.trace)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%10.3f ms  ", (double)(w->now_us % INT64_C(1000000000000)) / 1000.0);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static uint64_t draw(world *w, uint64_t bound) {
    return tide_prng_below(&w->prng, bound);
}
static int64_t between(world *w, int64_t low, int64_t high) {
    return low + (int64_t)draw(w, (uint64_t)(high - low + 1));
}
static bool chance(world *w, uint32_t percent) {
    return draw(w, 100) < percent;
}

static int64_t wall_ms(const world *w) {
    return epoch_ms + w->clock_ahead_ms + w->now_us / 1000;
}

static void send_on(world *w, pipe_way *way, const char *data, size_t size) {
    while (size > 0) {
        /* Mostly whole, sometimes cut to pieces of any size. */
        size_t part = chance(w, 70) ? size : 1 + (size_t)draw(w, size);
        chunk *c = malloc(sizeof *c + part);
        c->next = NULL;
        c->size = part;
        c->at_us = w->now_us + w->latency_us / 2 + (int64_t)draw(w, (uint64_t)w->latency_us + 1);
        if (c->at_us < way->last_us)
            c->at_us = way->last_us;
        way->last_us = c->at_us;
        memcpy(c->data, data, part);
        if (way->last != NULL) {
            way->last->next = c;
        } else {
            way->first = c;
        }
        way->last = c;
        data += part;
        size -= part;
    }
}

static void way_clear(pipe_way *way) {
    while (way->first != NULL) {
        chunk *c = way->first;
        way->first = c->next;
        free(c);
    }
    way->last = NULL;
}

/* What is on the way is lost from any byte on. */
static void way_cut(world *w, pipe_way *way) {
    size_t total = 0;
    for (chunk *c = way->first; c != NULL; c = c->next)
        total += c->size;
    size_t keep = (size_t)draw(w, total + 1);
    chunk **at = &way->first;
    way->last = NULL;
    while (*at != NULL) {
        chunk *c = *at;
        if (keep == 0) {
            *at = c->next;
            free(c);
            continue;
        }
        if (c->size > keep)
            c->size = keep;
        keep -= c->size;
        way->last = c;
        at = &c->next;
    }
}

static void conn_free(conn *c) {
    way_clear(&c->to_server);
    way_clear(&c->to_node);
    *c = (conn){.state = CONN_FREE};
}

/* The node's side is gone; the server hears of it later. */
static void conn_leave(world *w, conn *c) {
    c->has_node = false;
    way_clear(&c->to_node);
    c->node_close_us = INT64_MAX;
    if (c->state != CONN_UP || c->client == 0) {
        conn_free(c);
        return;
    }
    if (c->server_close_us == INT64_MAX) {
        c->server_close_us = w->now_us + w->latency_us;
        if (c->server_close_us < c->to_server.last_us)
            c->server_close_us = c->to_server.last_us;
    }
}

static void conn_cut(world *w, conn *c) {
    trace(w, "fault: connection of node %u, link %u, is cut", c->node, c->link);
    way_cut(w, &c->to_server);
    way_cut(w, &c->to_node);
    c->node_close_us = w->now_us + (int64_t)draw(w, (uint64_t)w->latency_us * 2 + 1);
    c->server_close_us = w->now_us + (int64_t)draw(w, (uint64_t)w->latency_us * 2 + 1);
    if (c->node_close_us < c->to_node.last_us)
        c->node_close_us = c->to_node.last_us;
    if (c->server_close_us < c->to_server.last_us)
        c->server_close_us = c->to_server.last_us;
    if (c->state == CONN_OPENING)
        c->refused = true;
}

static conn *conn_of(world *w, uint32_t node_index, uint32_t link) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_FREE && c->has_node && c->node == node_index && c->link == link)
            return c;
    }
    return NULL;
}

static void conn_open(world *w, uint32_t node_index, uint32_t link) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_FREE)
            continue;
        *c = (conn){.state = CONN_OPENING,
                    .node = node_index,
                    .link = link,
                    .has_node = true,
                    .open_us = w->now_us + w->latency_us,
                    .node_close_us = INT64_MAX,
                    .server_close_us = INT64_MAX};
        return;
    }
    check_fail(&w->check, "bounds: more than %d connections at once", CONNS_MAX);
}

static void server_replies(world *w) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_UP || c->client == 0)
            continue;
        tide_str out = sim_server_output(w->server, c->client);
        if (out.len == 0)
            continue;
        if (c->has_node && !c->silent && c->node_close_us == INT64_MAX)
            send_on(w, &c->to_node, out.data, out.len);
        sim_server_output_ack(w->server, c->client, out.len);
    }
}

/* ---- the planted bug below the port ---- */

static tide_status bug_submit(tide_broker *broker, const tide_op *op, int64_t now_us,
                              tide_error *error) {
    bug_broker *b = (bug_broker *)broker;
    tide_status status = b->inner->vtable->submit(b->inner, op, now_us, error);
    if (status == TIDE_OK && op->kind == TIDE_OP_FETCH && op->as.fetch.history) {
        for (int i = 0; i < HISTORY_TAGS_MAX; i++) {
            if (b->history_tags[i] == 0) {
                b->history_tags[i] = op->tag;
                break;
            }
        }
    }
    return status;
}

static bool bug_next_completion(tide_broker *broker, tide_completion *completion) {
    bug_broker *b = (bug_broker *)broker;
    if (!b->inner->vtable->next_completion(b->inner, completion))
        return false;
    for (int i = 0; i < HISTORY_TAGS_MAX; i++) {
        if (b->history_tags[i] != completion->tag)
            continue;
        b->history_tags[i] = 0;
        if (completion->status == TIDE_OK && completion->as.fetch.batch != NULL &&
            tide_prng_below(b->prng, 2) == 0) {
            tide_batch_release(completion->as.fetch.batch);
            completion->as.fetch.batch = NULL;
        }
    }
    return true;
}

#define INNER(b) (((bug_broker *)(b))->inner)
static void bug_destroy(tide_broker *b) {
    INNER(b)->vtable->destroy(INNER(b));
}
static void bug_interrupt(tide_broker *b, uint32_t reader, int64_t now_us) {
    INNER(b)->vtable->interrupt(INNER(b), reader, now_us);
}
static void bug_drop_reader(tide_broker *b, uint32_t reader, int64_t now_us) {
    INNER(b)->vtable->drop_reader(INNER(b), reader, now_us);
}
static void bug_tick(tide_broker *b, int64_t now_us) {
    INNER(b)->vtable->tick(INNER(b), now_us);
}
static int64_t bug_deadline_us(const tide_broker *b) {
    tide_broker *inner = ((const bug_broker *)b)->inner;
    return inner->vtable->deadline_us(inner);
}
static tide_status bug_state(const tide_broker *b, tide_error *error) {
    tide_broker *inner = ((const bug_broker *)b)->inner;
    return inner->vtable->state(inner, error);
}

/* ---- nodes ---- */

static tide_status make_broker(world *w, uint64_t seed, tide_broker **broker, tide_error *error) {
    tide_allocator alloc = tide_allocator_default();
    tide_url url;
    tide_url_options options;
    tide_status status = tide_url_parse(&url, &alloc, tide_str_from(w->url), error);
    if (status != TIDE_OK)
        return status;
    status = tide_url_options_parse(&options, &url, error);
    if (status == TIDE_OK) {
        tide_broker_options broker_options = {.url = &url,
                                              .url_options = &options,
                                              .env = {.allocator = alloc, .seed = seed},
                                              .wall_offset_us = epoch_ms * 1000};
        status = w->options.file ? tide_broker_sqlite_create(broker, &broker_options, error)
                                 : tide_broker_redis_create(broker, &broker_options, error);
    }
    tide_url_deinit(&url);
    return status;
}

static void trace_line(void *context, tide_log_level level, tide_str line) {
    (void)level;
    trace(context, "log: %.*s", (int)line.len, line.data);
}

static void node_start(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    n->life++;
    n->restart_us = INT64_MAX;
    n->paused_until_us = INT64_MIN;
    n->running_count = 0;
    n->woken = true;
    n->stop_limit_us = INT64_MAX;
    uint64_t seed = tide_prng_next(&w->prng);
    tide_error error;
    tide_broker *broker;
    if (make_broker(w, seed, &broker, &error) != TIDE_OK) {
        check_fail(&w->check, "cannot make a broker: %s", error.message);
        return;
    }
    n->broker = broker;
    n->vtable = broker->vtable;
    tide_broker *used = broker;
    if (w->options.bug == SIM_BUG_DROP_PENDING_PAGE && index > 0) {
        n->bug = (bug_broker){.inner = broker, .prng = &w->prng, .vtable = *broker->vtable};
        n->bug.vtable.submit = bug_submit;
        n->bug.vtable.next_completion = bug_next_completion;
        n->bug.vtable.destroy = bug_destroy;
        n->bug.vtable.interrupt = bug_interrupt;
        n->bug.vtable.drop_reader = bug_drop_reader;
        n->bug.vtable.tick = bug_tick;
        n->bug.vtable.deadline_us = bug_deadline_us;
        n->bug.vtable.state = bug_state;
        n->bug.base.vtable = &n->bug.vtable;
        used = &n->bug.base;
    }
    tide_env env = {.seed = seed};
    if (w->options.trace)
        env.log = (tide_log_sink){trace_line, w};
    if (tide_engine_open_with(&n->engine, used, &env, &error) != TIDE_OK) {
        check_fail(&w->check, "cannot open an engine: %s", error.message);
        return;
    }
    tide__engine_wall_offset(n->engine, epoch_ms * 1000);
    if (index == 0)
        return;
    char name[16];
    snprintf(name, sizeof name, "c%u", index);
    tide_consumer_options options = w->consumer;
    options.consumer = tide_str_from(name);
    if (tide_engine_subscribe(n->engine, &options, w->now_us, &n->consumer, &error) != TIDE_OK)
        check_fail(&w->check, "cannot subscribe: %s", error.message);
    trace(w, "node %u starts its life %u", index, n->life);
}

/* The process ends: what it hadn't sent is gone, and so are its connections. */
static void node_end(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    for (uint32_t i = 0; i < n->running_count; i++)
        w->check.events[n->running[i].index].run_going = false;
    n->running_count = 0;
    tide_engine_close(n->engine);
    n->engine = NULL;
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_FREE && c->has_node && c->node == index) {
            if (c->state == CONN_UP)
                way_cut(w, &c->to_server);
            conn_leave(w, c);
        }
    }
    n->life++; /* whatever it was, it is over */
    n->restart_us = w->now_us + between(w, 1000, 1500000);
}

static void node_crash(world *w, uint32_t index) {
    trace(w, "fault: node %u dies", index);
    node_end(w, index);
    w->check.crashes++;
}

/* What runtime/ does with wants, output and jobs. */
static void node_pump(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    const tide_broker_vtable *v = n->vtable;
    tide_link_want want;
    for (int turn = 0; turn < 4; turn++) {
        while (v->next_link_want != NULL && v->next_link_want(n->broker, &want)) {
            conn *c = conn_of(w, index, want.link);
            if (c != NULL)
                conn_leave(w, c);
            if (want.action == TIDE_LINK_OPEN)
                conn_open(w, index, want.link);
        }
        for (int i = 0; v->output != NULL && i < CONNS_MAX; i++) {
            conn *c = &w->conns[i];
            if (c->state != CONN_UP || !c->has_node || c->node != index)
                continue;
            tide_str out = v->output(n->broker, c->link);
            if (out.len == 0)
                continue;
            if (!c->silent && c->server_close_us == INT64_MAX)
                send_on(w, &c->to_server, out.data, out.len);
            v->output_ack(n->broker, c->link, out.len, w->now_us);
        }
        tide_job *job;
        bool worked = false;
        while (v->take_job != NULL && (job = v->take_job(n->broker, w->now_us)) != NULL) {
            job->run(job);
            v->finish_job(n->broker, job, w->now_us);
            worked = true;
        }
        n->busy = n->busy || worked;
        if (!worked)
            return;
        tide_engine_tick(n->engine, w->now_us);
    }
}

static uint32_t index_of(const tide_entry *entry) {
    for (uint32_t i = 0; i < entry->field_count; i++) {
        uint64_t number;
        tide_str value = entry->fields[i].value;
        if (tide_str_equal(entry->fields[i].name, TIDE_STR("event_id")) && value.len > 1 &&
            tide_u64_parse((tide_str){value.data + 1, value.len - 1}, &number))
            return (uint32_t)number;
    }
    return UINT32_MAX;
}

static void take_events(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    tide_event event;
    while (n->running_count < w->concurrency &&
           tide_engine_next_event(n->engine, 0, w->now_us, &event)) {
        uint32_t at = index_of(event.entry);
        if (at >= w->check.count) {
            check_fail(&w->check, "an event that nobody published was delivered");
            return;
        }
        check_event *e = &w->check.events[at];
        bool last_is_alive = e->runs > 0 && w->nodes[e->run_node].life == e->run_life;
        trace(w, "node %u runs event %u, attempt %u", index, at, event.attempt);
        check_run(&w->check, at, &event, index, n->life, last_is_alive, w->now_us);
        int64_t takes = (int64_t)draw(w, (uint64_t)w->handler_us + 1);
        if (w->slow_handlers && chance(w, 5))
            takes += w->check.lease_us + between(w, 0, w->check.lease_us);
        n->running[n->running_count++] = (handler){.handle = event.handle,
                                                   .consumer = event.consumer,
                                                   .index = at,
                                                   .attempt = event.attempt,
                                                   .end_us = w->now_us + takes};
        if (w->options.bug == SIM_BUG_ACK_BEFORE_HANDLER) {
            tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
            tide_engine_settle(n->engine, event.consumer, event.handle, &verdict, w->now_us);
            n->running[n->running_count - 1].acked_early = true;
        }
    }
}

static void end_handler(world *w, uint32_t index, uint32_t which) {
    node *n = &w->nodes[index];
    handler h = n->running[which];
    n->running[which] = n->running[--n->running_count];
    check_event *e = &w->check.events[h.index];
    tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
    bool first = e->failures == 0;
    switch (e->plan) {
    case PLAN_FLAKY:
        if (h.attempt <= 1 + h.index % 2)
            verdict = (tide_verdict){.kind = TIDE_VERDICT_FAIL, .delay_ms = -1};
        break;
    case PLAN_POISON: verdict = (tide_verdict){.kind = TIDE_VERDICT_FAIL, .delay_ms = -1}; break;
    case PLAN_REJECT: verdict = (tide_verdict){.kind = TIDE_VERDICT_REJECT}; break;
    case PLAN_NACK:
        if (first)
            verdict = (tide_verdict){.kind = TIDE_VERDICT_NACK, .delay_ms = 20};
        break;
    case PLAN_MOVE:
        if (first)
            verdict = (tide_verdict){.kind = TIDE_VERDICT_NACK,
                                     .delay_ms = w->consumer.delay_move_ms + 50};
        break;
    case PLAN_RELEASE:
        if (first)
            verdict = (tide_verdict){.kind = TIDE_VERDICT_RELEASE};
        break;
    default: break;
    }
    verdict.reason = TIDE_STR("planned");
    if (e->run_node == index && e->run_life == n->life)
        e->run_going = false;
    if (verdict.kind == TIDE_VERDICT_ACK) {
        e->good_runs++;
    } else if (verdict.kind != TIDE_VERDICT_REJECT) {
        e->failures++;
        e->run_wants_more = true;
    }
    trace(w, "node %u ends event %u: verdict %d", index, h.index, (int)verdict.kind);
    if (h.acked_early)
        return;
    tide_status status = tide_engine_settle(n->engine, h.consumer, h.handle, &verdict, w->now_us);
    /* What a node gave back while it was asked to stop isn't its own to settle. */
    if (status != TIDE_OK && n->stop_limit_us == INT64_MAX)
        check_fail(&w->check, "the verdict of event %u was refused: %s", h.index,
                   tide_status_code(status));
}

/* ---- publishing ---- */

static void publish(world *w) {
    node *n = &w->nodes[0];
    uint32_t count = 0;
    uint32_t indexes[16];
    uint32_t most = 1 + (uint32_t)draw(w, w->batch_max);
    for (uint32_t i = 0; i < w->check.count && count < most; i++) {
        if (w->check.events[i].publish == PUBLISH_NOT_YET)
            indexes[count++] = i;
    }
    if (count == 0)
        return;
    tide_record records[16];
    tide_field fields[16][3];
    char ids[16][16];
    static char payload[2048];
    memset(payload, 'x', sizeof payload);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(ids[i], sizeof ids[i], "e%u", indexes[i]);
        fields[i][0] = (tide_field){TIDE_STR("event_id"), tide_str_from(ids[i])};
        fields[i][1] = (tide_field){TIDE_STR("event_type"), TIDE_STR("OrderPlaced")};
        fields[i][2] = (tide_field){TIDE_STR("data"), {payload, (size_t)draw(w, 300)}};
        records[i] = (tide_record){fields[i], 3, fields[i][0].value};
        w->check.events[indexes[i]].publish = PUBLISH_OPEN;
    }
    /* The tag says which: first index and a bit for each that follows it. */
    uint64_t tag = indexes[0];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t gap = indexes[i] - indexes[0];
        if (gap >= 40) {
            w->check.events[indexes[i]].publish = PUBLISH_NOT_YET;
            count = i;
            break;
        }
        tag |= UINT64_C(1) << (16 + gap);
    }
    tide_op op = {.kind = TIDE_OP_PUBLISH,
                  .tag = tag,
                  .as.publish = {.stream = STREAM,
                                 .records = records,
                                 .record_count = count,
                                 .dedupe_window_ms = w->dedupe ? 864000000 : 0}};
    tide_error error;
    if (tide_engine_submit(n->engine, &op, w->now_us, &error) != TIDE_OK) {
        for (uint32_t i = 0; i < count; i++)
            w->check.events[indexes[i]].publish = PUBLISH_NOT_YET;
    }
}

static void take_completions(world *w) {
    node *n = &w->nodes[0];
    tide_completion completion;
    while (tide_engine_next_completion(n->engine, w->now_us, &completion)) {
        uint32_t first = (uint32_t)(completion.tag & 0xffff);
        size_t at = 0;
        for (uint32_t gap = 0; gap < 40; gap++) {
            if ((completion.tag >> (16 + gap) & 1) == 0)
                continue;
            check_event *e = &w->check.events[first + gap];
            tide_status status = completion.status;
            if (completion.as.publish.results != NULL && at < completion.as.publish.count)
                status = completion.as.publish.results[at].status;
            at++;
            trace(w, "publish of event %u: %s", first + gap, tide_status_code(status));
            if (status == TIDE_OK) {
                e->publish = PUBLISH_OK;
            } else if (status == TIDE_UNKNOWN || status == TIDE_TIMEOUT) {
                e->publish = w->dedupe ? PUBLISH_NOT_YET : PUBLISH_MAYBE;
            } else {
                e->publish = PUBLISH_NOT_YET; /* nothing was written, says the contract */
            }
        }
    }
}

/* ---- a node's turn ---- */

static void node_turn(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    n->woken = false;
    tide_engine_tick(n->engine, w->now_us);
    if (index == 0) {
        take_completions(w);
    } else {
        take_events(w, index);
    }
    node_pump(w, index);
    n->busy = false;
    if (index == 0) {
        take_completions(w);
    } else {
        take_events(w, index);
        node_pump(w, index);
    }
    tide__engine_check(n->engine);
    n->due_us = tide_engine_deadline_us(n->engine);
    if (n->busy || n->due_us <= w->now_us)
        n->due_us = w->now_us + 1;
    if (index > 0) {
        tide_consumer_stats stats;
        bool there = tide_engine_stats_of(n->engine, n->consumer, &stats) == TIDE_OK;
        if (there && stats.bytes > w->consumer.prefetch_bytes * 2 + 1000)
            check_fail(&w->check, "window: node %u holds %zu bytes, the budget is %zu", index,
                       stats.bytes, w->consumer.prefetch_bytes);
        if (there && stats.buffered + stats.running + stats.waiting > w->consumer.prefetch)
            check_fail(&w->check, "window: node %u holds %u events, prefetch is %u", index,
                       stats.buffered + stats.running + stats.waiting, w->consumer.prefetch);
    }
}

/* Draining: gone when idle, or when its time is over. */
static void node_stopping(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    if (n->stop_limit_us == INT64_MAX)
        return;
    if (tide_engine_is_idle(n->engine)) {
        trace(w, "node %u has drained", index);
        node_end(w, index);
    } else if (n->stop_limit_us <= w->now_us) {
        trace(w, "node %u hasn't drained in time", index);
        node_crash(w, index);
    }
}

static bool is_awake(const world *w, uint32_t index) {
    const node *n = &w->nodes[index];
    return n->engine != NULL && w->now_us >= n->paused_until_us;
}

/* ---- faults ---- */

static void server_goes(world *w, bool keeps_data) {
    trace(w, "fault: the server goes down%s", keeps_data ? "" : " and loses its data");
    w->server_down = true;
    w->server_up_us = w->now_us + between(w, 1000, 3000000);
    sim_server_flush_scripts(w->server);
    if (!keeps_data) {
        sim_server_flush_data(w->server);
        w->check.data_lost = true;
        for (uint32_t i = 0; i < w->check.count; i++) {
            check_event *e = &w->check.events[i];
            if (e->publish == PUBLISH_OK || e->publish == PUBLISH_OPEN)
                e->excused = true;
        }
    }
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state == CONN_FREE)
            continue;
        if (c->client != 0) {
            /* What it had said before may still arrive. */
            sim_server_disconnect(w->server, c->client);
            c->client = 0;
        }
        way_clear(&c->to_server);
        if (!c->has_node) {
            conn_free(c);
            continue;
        }
        if (c->state == CONN_OPENING) {
            c->refused = true;
            continue;
        }
        if (!c->silent && c->node_close_us == INT64_MAX) {
            way_cut(w, &c->to_node);
            c->node_close_us = w->now_us + w->latency_us;
            if (c->node_close_us < c->to_node.last_us)
                c->node_close_us = c->to_node.last_us;
        }
    }
}

static void admin(world *w, const char *command) {
    sim_server_feed(w->server, w->admin, command, strlen(command));
    tide_str out = sim_server_output(w->server, w->admin);
    sim_server_output_ack(w->server, w->admin, out.len);
}

static void visit_stream(void *context, tide_id id, tide_str value);

/* Events that were in the stream and aren't any more need not be handled. */
static void trim(world *w) {
    char command[128];
    check *c = &w->check;
    for (uint32_t i = 0; i < c->count; i++)
        c->events[i].in_stream = 0;
    sim_server_each(w->server, STREAM, TIDE_STR("event_id"), TIDE_STR(""), visit_stream, w);
    bool was[CHECK_EVENTS_MAX];
    uint32_t length = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        was[i] = c->events[i].in_stream > 0;
        length += c->events[i].in_stream;
        c->events[i].in_stream = 0;
    }
    snprintf(command, sizeof command,
             "*4\r\n$5\r\nXTRIM\r\n$6\r\norders\r\n$6\r\nMAXLEN\r\n$3\r\n%03u\r\n", length / 2);
    trace(w, "fault: the stream is trimmed to %u entries", length / 2);
    admin(w, command);
    /* A moved copy may be what is left, or what is gone: either way nothing is asked of the event. */
    sim_server_each(w->server, STREAM, TIDE_STR("event_id"), TIDE_STR("tide_attempt"), visit_stream,
                    w);
    for (uint32_t i = 0; i < c->count; i++)
        c->events[i].excused = c->events[i].excused || (was[i] && c->events[i].in_stream == 0);
}

static void inject(world *w) {
    fault kind = FAULT_COUNT;
    for (int tries = 0; tries < 50 && kind == FAULT_COUNT; tries++) {
        fault drawn = (fault)draw(w, FAULT_COUNT);
        if ((w->fault_mask & 1u << drawn) != 0)
            kind = drawn;
    }
    if (kind == FAULT_COUNT)
        return;
    if (w->options.file && kind != FAULT_CRASH && kind != FAULT_PAUSE && kind != FAULT_STOP)
        return;
    w->result->faults++;
    w->check.faults++;
    w->check.last_fault_us = w->now_us;
    uint32_t victim = 1 + (uint32_t)draw(w, w->node_count - 1);
    switch (kind) {
    case FAULT_CUT:
    case FAULT_HANG: {
        conn *list[CONNS_MAX];
        uint32_t count = 0;
        for (int i = 0; i < CONNS_MAX; i++) {
            if (w->conns[i].state != CONN_FREE && w->conns[i].has_node &&
                w->conns[i].node_close_us == INT64_MAX && !w->conns[i].silent)
                list[count++] = &w->conns[i];
        }
        if (count == 0)
            return;
        conn *c = list[draw(w, count)];
        if (kind == FAULT_CUT) {
            conn_cut(w, c);
        } else if (c->state == CONN_UP) {
            trace(w, "fault: connection of node %u, link %u, falls silent", c->node, c->link);
            c->silent = true;
            way_cut(w, &c->to_server);
            way_cut(w, &c->to_node);
        }
        break;
    }
    case FAULT_RESTART:
        if (!w->server_down)
            server_goes(w, true);
        break;
    case FAULT_EMPTY:
        if (!w->server_down)
            server_goes(w, false);
        break;
    case FAULT_TROUBLE: {
        sim_trouble trouble = (sim_trouble)between(w, 1, SIM_TROUBLE_COUNT - 1);
        trace(w, "fault: trouble %d at the server", (int)trouble);
        sim_server_set_trouble(w->server, trouble);
        w->trouble_end_us = w->now_us + between(w, 1000, 2000000);
        break;
    }
    case FAULT_CRASH:
        if (w->nodes[victim].engine != NULL)
            node_crash(w, victim);
        break;
    case FAULT_PAUSE:
        if (is_awake(w, victim)) {
            int64_t most = chance(w, 50) ? w->check.lease_us / 2 : w->check.lease_us * 3;
            w->nodes[victim].paused_until_us = w->now_us + between(w, 1000, most + 1000);
            trace(w, "fault: node %u stands still for %lld ms", victim,
                  (long long)(w->nodes[victim].paused_until_us - w->now_us) / 1000);
        }
        break;
    case FAULT_SCRIPTS: sim_server_flush_scripts(w->server); break;
    case FAULT_STOP: {
        node *n = &w->nodes[victim];
        if (!is_awake(w, victim) || n->stop_limit_us != INT64_MAX)
            return;
        trace(w, "node %u is asked to stop", victim);
        n->stop_limit_us = w->now_us + 3000000;
        tide_engine_unsubscribe(n->engine, n->consumer, chance(w, 30), w->now_us);
        /* Verdicts of what it gave back come too late. */
        n->woken = true;
        break;
    }
    case FAULT_CLOCK:
        w->clock_ahead_ms += between(w, 1, 3600000);
        trace(w, "fault: the server's clock is %lld ms ahead", (long long)w->clock_ahead_ms);
        break;
    case FAULT_TRIM: trim(w); break;
    case FAULT_GROUP:
        trace(w, "fault: the group is deleted");
        w->check.data_lost = true; /* what was settled before may come again */
        admin(w, "*4\r\n$6\r\nXGROUP\r\n$7\r\nDESTROY\r\n$6\r\norders\r\n$7\r\nbilling\r\n");
        break;
    case FAULT_COUNT: break;
    }
}

/* ---- the loop ---- */

static int64_t earliest(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t next_time(const world *w) {
    int64_t t = INT64_MAX;
    if (!w->options.file && !w->server_down) {
        int64_t due_ms = sim_server_deadline_ms(w->server);
        if (due_ms != INT64_MAX)
            t = earliest(t, (due_ms - epoch_ms - w->clock_ahead_ms) * 1000);
    }
    for (int i = 0; i < CONNS_MAX; i++) {
        const conn *c = &w->conns[i];
        if (c->state == CONN_FREE)
            continue;
        if (c->state == CONN_OPENING) {
            int64_t seen = w->nodes[c->node].paused_until_us;
            t = earliest(t, c->open_us > seen ? c->open_us : seen);
            continue;
        }
        if (c->to_server.first != NULL)
            t = earliest(t, c->to_server.first->at_us);
        t = earliest(t, c->server_close_us);
        if (c->has_node) {
            int64_t seen = w->nodes[c->node].paused_until_us;
            int64_t at = c->node_close_us;
            if (c->to_node.first != NULL)
                at = earliest(at, c->to_node.first->at_us);
            if (at != INT64_MAX)
                t = earliest(t, at > seen ? at : seen);
        }
    }
    for (uint32_t i = 0; i < w->node_count; i++) {
        const node *n = &w->nodes[i];
        if (n->engine == NULL) {
            t = earliest(t, n->restart_us);
            continue;
        }
        int64_t at = earliest(n->due_us, n->stop_limit_us);
        for (uint32_t k = 0; k < n->running_count; k++)
            at = earliest(at, n->running[k].end_us);
        t = earliest(t, at > n->paused_until_us ? at : n->paused_until_us);
    }
    t = earliest(t, w->next_fault_us);
    t = earliest(t, w->next_publish_us);
    if (w->server_down)
        t = earliest(t, w->server_up_us);
    t = earliest(t, w->trouble_end_us);
    return t;
}

static void move_bytes(world *w) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state == CONN_OPENING && c->open_us <= w->now_us && is_awake(w, c->node)) {
            node *n = &w->nodes[c->node];
            n->woken = true;
            if (w->server_down || c->refused) {
                tide_error why = {.status = TIDE_CONNECT, .message = "connection refused"};
                uint32_t link = c->link;
                conn_free(c);
                n->vtable->link_closed(n->broker, link, &why, w->now_us);
            } else {
                c->state = CONN_UP;
                c->client = sim_server_connect(w->server);
                n->vtable->link_opened(n->broker, c->link, w->now_us);
            }
            continue;
        }
        if (c->state != CONN_UP)
            continue;
        while (c->to_server.first != NULL && c->to_server.first->at_us <= w->now_us) {
            chunk *head = c->to_server.first;
            c->to_server.first = head->next;
            if (head->next == NULL)
                c->to_server.last = NULL;
            if (c->client != 0)
                sim_server_feed(w->server, c->client, head->data, head->size);
            free(head);
        }
        if (c->server_close_us <= w->now_us) {
            if (c->client != 0)
                sim_server_disconnect(w->server, c->client);
            c->client = 0;
            c->server_close_us = INT64_MAX;
            if (!c->has_node) {
                conn_free(c);
                continue;
            }
        }
    }
    server_replies(w);
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_UP || !c->has_node || !is_awake(w, c->node))
            continue;
        node *n = &w->nodes[c->node];
        while (c->has_node && c->to_node.first != NULL && c->to_node.first->at_us <= w->now_us) {
            chunk *head = c->to_node.first;
            c->to_node.first = head->next;
            if (head->next == NULL)
                c->to_node.last = NULL;
            n->woken = true;
            n->vtable->feed(n->broker, c->link, head->data, head->size, w->now_us);
            free(head);
            /* The adapter may give the connection up over what it read. */
            node_pump(w, c->node);
        }
        if (c->state == CONN_UP && c->has_node && c->node_close_us <= w->now_us) {
            tide_error why = {.status = TIDE_DISCONNECTED, .message = "connection reset"};
            uint32_t link = c->link;
            n->woken = true;
            conn_leave(w, c);
            n->vtable->link_closed(n->broker, link, &why, w->now_us);
        }
    }
}

static void step(world *w) {
    if (!w->options.file)
        sim_server_set_time(w->server, wall_ms(w));
    if (w->server_down && w->server_up_us <= w->now_us) {
        trace(w, "the server is up");
        w->server_down = false;
    }
    if (w->trouble_end_us <= w->now_us) {
        sim_server_set_trouble(w->server, SIM_TROUBLE_NONE);
        w->trouble_end_us = INT64_MAX;
        w->check.last_fault_us = w->now_us;
    }
    if (w->next_fault_us <= w->now_us) {
        inject(w);
        w->next_fault_us = w->now_us + 1 + (int64_t)draw(w, (uint64_t)w->fault_every_us * 2);
        if (w->next_fault_us > w->work_us)
            w->next_fault_us = INT64_MAX;
    }
    for (uint32_t i = 0; i < w->node_count; i++) {
        if (w->nodes[i].engine == NULL && w->nodes[i].restart_us <= w->now_us)
            node_start(w, i);
    }
    if (w->next_publish_us <= w->now_us) {
        if (w->nodes[0].engine != NULL)
            publish(w);
        w->nodes[0].woken = true;
        uint32_t left = 0;
        for (uint32_t i = 0; i < w->check.count; i++)
            left += w->check.events[i].publish < PUBLISH_OK;
        w->next_publish_us = left > 0 ? w->now_us + 1000 + (int64_t)draw(w, 40000) : INT64_MAX;
    }
    move_bytes(w);
    for (uint32_t i = 0; i < w->node_count; i++) {
        node *n = &w->nodes[i];
        if (!is_awake(w, i))
            continue;
        for (uint32_t k = 0; k < n->running_count;) {
            if (n->running[k].end_us <= w->now_us) {
                end_handler(w, i, k);
                n->woken = true;
            } else {
                k++;
            }
        }
        if (n->woken || n->due_us <= w->now_us || n->stop_limit_us <= w->now_us) {
            node_turn(w, i);
            node_stopping(w, i);
        }
    }
    if (!w->options.file)
        server_replies(w);
}

/* ---- what is written ---- */

static uint32_t index_of_text(const world *w, tide_str value) {
    uint64_t number;
    if (value.len < 2 || !tide_u64_parse((tide_str){value.data + 1, value.len - 1}, &number) ||
        number >= w->check.count)
        return UINT32_MAX;
    return (uint32_t)number;
}

static void visit_stream(void *context, tide_id id, tide_str value) {
    world *w = context;
    (void)id;
    uint32_t i = index_of_text(w, value);
    if (i != UINT32_MAX)
        w->check.events[i].in_stream++;
}

static void visit_dead(void *context, tide_id id, tide_str value) {
    world *w = context;
    (void)id;
    uint32_t i = index_of_text(w, value);
    if (i != UINT32_MAX)
        w->check.events[i].in_dead++;
}

/* Runs one command on the publisher's engine to its end; on the embedded engine only. */
static void each_of_file(world *w, tide_str stream,
                         void (*visit)(void *context, tide_id id, tide_str value)) {
    node *n = &w->nodes[0];
    tide_str args[] = {TIDE_STR("XRANGE"), stream, TIDE_STR("-"), TIDE_STR("+")};
    tide_op op = {.kind = TIDE_OP_COMMAND,
                  .tag = UINT64_C(1) << 62,
                  .as.command = {.args = args, .arg_count = 4}};
    tide_error error;
    if (tide_engine_submit(n->engine, &op, w->now_us, &error) != TIDE_OK)
        return;
    for (int turn = 0; turn < 1000; turn++) {
        tide_job *job;
        while ((job = n->vtable->take_job(n->broker, w->now_us)) != NULL) {
            job->run(job);
            n->vtable->finish_job(n->broker, job, w->now_us);
        }
        tide_completion completion;
        if (!tide_engine_next_completion(n->engine, w->now_us, &completion)) {
            tide_engine_tick(n->engine, w->now_us);
            continue;
        }
        if (completion.tag != op.tag)
            continue;
        const tide_reply *reply = completion.as.command.reply;
        if (completion.status != TIDE_OK || reply == NULL || reply->type != TIDE_REPLY_ARRAY) {
            check_fail(&w->check, "cannot read the file: %s", completion.error.message);
            return;
        }
        for (size_t i = 0; i < reply->as.array.count; i++) {
            const tide_reply *entry = &reply->as.array.items[i];
            const tide_reply *list = &entry->as.array.items[1];
            tide_str value = {"", 0};
            for (size_t k = 0; k + 1 < list->as.array.count; k += 2) {
                if (tide_str_equal(list->as.array.items[k].as.text, TIDE_STR("event_id")))
                    value = list->as.array.items[k + 1].as.text;
                if (tide_str_equal(list->as.array.items[k].as.text, TIDE_STR("tide_attempt")))
                    value.len = 0, k = list->as.array.count;
            }
            visit(w, (tide_id){0, 0}, value);
        }
        return;
    }
    check_fail(&w->check, "the embedded engine doesn't answer");
}

static void look(world *w) {
    for (uint32_t i = 0; i < w->check.count; i++)
        w->check.events[i].in_stream = w->check.events[i].in_dead = 0;
    if (w->options.file) {
        each_of_file(w, STREAM, visit_stream);
        each_of_file(w, DEAD_LETTERS, visit_dead);
    } else {
        sim_server_each(w->server, STREAM, TIDE_STR("event_id"), TIDE_STR("tide_attempt"),
                        visit_stream, w);
        sim_server_each(w->server, DEAD_LETTERS, TIDE_STR("event_id"), TIDE_STR("tide_attempt"),
                        visit_dead, w);
    }
}

static bool is_done(world *w) {
    if (w->next_publish_us != INT64_MAX)
        return false;
    for (uint32_t i = 0; i < w->node_count; i++) {
        if (w->nodes[i].running_count > 0 || w->nodes[i].engine == NULL)
            return false;
    }
    if (!w->options.file && (sim_server_pending(w->server, STREAM, GROUP, NULL, 0) > 0 ||
                             sim_server_undelivered(w->server, STREAM, GROUP) > 0 ||
                             sim_server_zcard(w->server, DELAYED) > 0))
        return false;
    look(w);
    return check_open(&w->check) == 0;
}

/* ---- a run ---- */

static void draw_world(world *w) {
    check *c = &w->check;
    w->node_count = 2 + (uint32_t)draw(w, 3);
    w->event_count = 20 + (uint32_t)draw(w, 60);
    w->concurrency = 1 + (uint32_t)draw(w, 4);
    w->batch_max = 1 + (uint32_t)draw(w, 10);
    w->latency_us = between(w, 50, 3000);
    w->handler_us = chance(w, 50) ? between(w, 0, 2000) : between(w, 0, 50000);
    w->dedupe = chance(w, 60);
    w->slow_handlers = chance(w, 20);
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = STREAM;
    options.group = GROUP;
    options.prefetch = 1 + (uint32_t)draw(w, chance(w, 50) ? 6 : 40);
    if (chance(w, 30))
        options.prefetch_bytes = (size_t)between(w, 200, 8000);
    options.lease_ms = between(w, 800, 5000);
    options.block_ms = between(w, 100, 2000);
    options.settle_ms = between(w, 0, 10);
    options.delay_move_ms = between(w, 300, 1000);
    options.promote_ms = between(w, 100, 500);
    options.retry.delay_ms = between(w, 5, 100);
    options.retry.delay_ms_max = 400;
    options.retry.attempts_max = 4 + (uint32_t)draw(w, 3);
    uint32_t weather = (uint32_t)draw(w, 100);
    w->fault_mask = 0;
    if (weather >= 15)
        w->fault_mask = (uint32_t)draw(w, 1u << FAULT_TRIM);
    if (weather >= 80)
        w->fault_mask &= (uint32_t)draw(w, 1u << FAULT_TRIM); /* fewer kinds */
    if (weather >= 85 && weather < 90)
        w->fault_mask |= 1u << FAULT_TRIM;
    /* What only a dead process knew of is gone with the group. */
    if (weather >= 90 && weather < 95)
        w->fault_mask = (w->fault_mask & ~(1u << FAULT_CRASH)) | 1u << FAULT_GROUP;
    if (weather >= 95)
        w->fault_mask |= 1u << FAULT_EMPTY;
    w->fault_every_us = between(w, 20000, 1500000);
    /* A lease without an end: only a consumer's own pending entries bring back what a crash left. */
    w->history_only = chance(w, 25);
    if (w->history_only) {
        options.lease_ms = 600000;
        w->fault_mask &= ~(1u << FAULT_PAUSE);
        w->slow_handlers = false;
    }
    if (w->options.bug != SIM_BUG_NONE)
        w->fault_mask |= 1u << FAULT_CRASH;
    w->consumer = options;
    w->work_us = w->now_us + between(w, 500, 5000) * 1000;
    w->limit_us = w->work_us + 60000000 + (w->history_only ? 0 : options.lease_ms * 4000);
    w->next_fault_us =
        w->fault_mask != 0 ? w->now_us + (int64_t)draw(w, (uint64_t)w->fault_every_us) : INT64_MAX;
    c->count = w->event_count;
    c->lease_us = options.lease_ms * 1000;
    /* A silent connection is noticed after block and operation time limit, twice when two reads wait. */
    c->fault_lasts_us = 2 * c->lease_us + 3000000;
    if ((w->fault_mask & (1u << FAULT_HANG)) != 0)
        c->fault_lasts_us += 15000000;
    c->attempts_max = options.retry.attempts_max;
    c->last_fault_us = INT64_MIN;
    c->in_order = w->fault_mask == 0 && w->concurrency == 1 && w->node_count == 2;
    for (uint32_t i = 0; i < c->count; i++) {
        check_plan plan = PLAN_FINE;
        if (chance(w, 30))
            plan = (check_plan)draw(w, PLAN_COUNT);
        /* Given back or moved, it would wait for the lease's end in vain, or come with another id. */
        if (plan == PLAN_RELEASE && w->history_only)
            plan = PLAN_FINE;
        if (c->in_order && (plan == PLAN_MOVE || plan == PLAN_RELEASE))
            plan = PLAN_FINE;
        c->events[i].plan = plan;
    }
}

static void remove_folder(const char *folder) {
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    struct dirent *item;
    while ((item = readdir(dir)) != NULL) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        if (item->d_name[0] != '.')
            unlink(path);
    }
    closedir(dir);
    rmdir(folder);
}

void sim_run(const sim_options *options, sim_result *result) {
    *result = (sim_result){0};
    world *w = calloc(1, sizeof *w);
    w->options = *options;
    w->result = result;
    tide_prng_seed(&w->prng, options->seed);
    w->now_us = 1000000;
    w->trouble_end_us = INT64_MAX;
    w->check.failure = result->failure;
    w->check.failure_size = sizeof result->failure;
    w->check.digest = UINT64_C(0xcbf29ce484222325);
    w->server = sim_server_create();
    sim_server_set_time(w->server, wall_ms(w));
    w->admin = sim_server_connect(w->server);
    snprintf(w->url, sizeof w->url, "redis://simulated");
    if (options->file) {
        snprintf(w->folder, sizeof w->folder, "/dev/shm/tidemill-sim-XXXXXX");
        if (mkdtemp(w->folder) == NULL) {
            snprintf(w->folder, sizeof w->folder, "/tmp/tidemill-sim-XXXXXX");
            if (mkdtemp(w->folder) == NULL)
                check_fail(&w->check, "cannot make a folder");
        }
        snprintf(w->url, sizeof w->url, "file:%s/sim.db?synchronous=off", w->folder);
    }
    draw_world(w);
    for (uint32_t i = 0; i < w->node_count; i++)
        node_start(w, i);
    w->next_publish_us = w->now_us + 1000;

    int64_t look_us = w->work_us;
    while (!check_failed(&w->check)) {
        int64_t t = next_time(w);
        if (t == INT64_MAX) {
            check_fail(&w->check, "nothing will ever happen again");
            break;
        }
        if (t > w->now_us)
            w->now_us = t;
        step(w);
        if (++w->steps > STEPS_MAX) {
            check_fail(&w->check, "no progress after %d steps", STEPS_MAX);
            break;
        }
        if (w->now_us >= look_us) {
            if (is_done(w))
                break;
            look_us = w->now_us + 200000;
        }
        if (w->now_us > w->limit_us) {
            look(w);
            check_end(&w->check);
            if (!options->file)
                check_fail(&w->check,
                           "no end: %zu pending, %zu undelivered, %zu delayed, %u events open",
                           sim_server_pending(w->server, STREAM, GROUP, NULL, 0),
                           sim_server_undelivered(w->server, STREAM, GROUP),
                           sim_server_zcard(w->server, DELAYED), check_open(&w->check));
            else
                check_fail(&w->check, "no end: %u events open", check_open(&w->check));
            break;
        }
    }
    check_end(&w->check);
    for (uint32_t i = 0; i < w->check.count; i++)
        result->events += w->check.events[i].publish == PUBLISH_OK;
    result->steps = w->steps;
    result->delivered = w->check.delivered;
    result->virtual_ms = w->now_us / 1000;
    result->digest = w->check.digest;
    result->passed = !check_failed(&w->check);
    for (uint32_t i = 0; i < w->node_count; i++)
        tide_engine_close(w->nodes[i].engine);
    for (int i = 0; i < CONNS_MAX; i++)
        conn_free(&w->conns[i]);
    sim_server_destroy(w->server);
    if (options->file)
        remove_folder(w->folder);
    free(w);
}
