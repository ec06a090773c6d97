/* SPDX-License-Identifier: MIT */
/*
 * What it is: a node: an engine driven as runtime/ does it, its handlers, the publisher, and the planted bugs.
 * What it is not: a model of the engine.
 * Invariants: all invariants of an engine are checked after each of its turns.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

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
static const uint64_t *bug_watch(tide_broker *b, tide_str stream, int64_t now_us) {
    return INNER(b)->vtable->watch(INNER(b), stream, now_us);
}
static void bug_unwatch(tide_broker *b, const uint64_t *watch, int64_t now_us) {
    INNER(b)->vtable->unwatch(INNER(b), watch, now_us);
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
                                              .wall_offset_us = sim__epoch_ms * 1000};
        status = w->options.file ? tide_broker_sqlite_create(broker, &broker_options, error)
                                 : tide_broker_redis_create(broker, &broker_options, error);
    }
    tide_url_deinit(&url);
    return status;
}

static void trace_line(void *context, tide_log_level level, tide_str line) {
    (void)level;
    sim__trace(context, "log: %.*s", (int)line.len, line.data);
}

void sim__node_start(world *w, uint32_t index) {
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
        if (broker->vtable->watch != NULL) {
            n->bug.vtable.watch = bug_watch;
            n->bug.vtable.unwatch = bug_unwatch;
        }
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
    tide__engine_wall_offset(n->engine, sim__epoch_ms * 1000);
    if (index == 0)
        return;
    char name[16];
    snprintf(name, sizeof name, "c%u", index);
    tide_consumer_options options = w->consumer;
    options.consumer = tide_str_from(name);
    if (tide_engine_subscribe(n->engine, &options, w->now_us, &n->consumer, &error) != TIDE_OK)
        check_fail(&w->check, "cannot subscribe: %s", error.message);
    sim__trace(w, "node %u starts its life %u", index, n->life);
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
                sim__way_cut(w, &c->to_server);
            sim__conn_leave(w, c);
        }
    }
    n->life++; /* whatever it was, it is over */
    n->restart_us = w->now_us + sim__between(w, 1000, 1500000);
}

void sim__node_crash(world *w, uint32_t index) {
    sim__trace(w, "fault: node %u dies", index);
    node_end(w, index);
    w->check.crashes++;
}

/* What runtime/ does with wants, output and jobs. */
void sim__node_pump(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    const tide_broker_vtable *v = n->vtable;
    tide_link_want want;
    for (int turn = 0; turn < 4; turn++) {
        while (v->next_link_want != NULL && v->next_link_want(n->broker, &want)) {
            conn *c = sim__conn_of(w, index, want.link);
            if (c != NULL)
                sim__conn_leave(w, c);
            if (want.action == TIDE_LINK_OPEN)
                sim__conn_open(w, index, want.link);
        }
        for (int i = 0; v->output != NULL && i < CONNS_MAX; i++) {
            conn *c = &w->conns[i];
            if (c->state != CONN_UP || !c->has_node || c->node != index)
                continue;
            tide_str out = v->output(n->broker, c->link);
            if (out.len == 0)
                continue;
            if (!c->silent && c->server_close_us == INT64_MAX)
                sim__send_on(w, &c->to_server, out.data, out.len);
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
        sim__trace(w, "node %u runs event %u, attempt %u", index, at, event.attempt);
        check_run(&w->check, at, &event, index, n->life, last_is_alive, w->now_us);
        int64_t takes = (int64_t)sim__draw(w, (uint64_t)w->handler_us + 1);
        if (w->slow_handlers && sim__chance(w, 5))
            takes += w->check.lease_us + sim__between(w, 0, w->check.lease_us);
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

void sim__end_handler(world *w, uint32_t index, uint32_t which) {
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
    sim__trace(w, "node %u ends event %u: verdict %d", index, h.index, (int)verdict.kind);
    if (h.acked_early)
        return;
    tide_status status = tide_engine_settle(n->engine, h.consumer, h.handle, &verdict, w->now_us);
    /* What a node gave back while it was asked to stop isn't its own to settle. */
    if (status != TIDE_OK && n->stop_limit_us == INT64_MAX)
        check_fail(&w->check, "the verdict of event %u was refused: %s", h.index,
                   tide_status_code(status));
}

/* ---- publishing ---- */

void sim__publish(world *w) {
    node *n = &w->nodes[0];
    uint32_t count = 0;
    uint32_t indexes[16];
    uint32_t most = 1 + (uint32_t)sim__draw(w, w->batch_max);
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
        fields[i][2] = (tide_field){TIDE_STR("data"), {payload, (size_t)sim__draw(w, 300)}};
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
            sim__trace(w, "publish of event %u: %s", first + gap, tide_status_code(status));
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

void sim__node_turn(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    n->woken = false;
    tide_engine_tick(n->engine, w->now_us);
    if (index == 0) {
        take_completions(w);
    } else {
        take_events(w, index);
    }
    sim__node_pump(w, index);
    n->busy = false;
    if (index == 0) {
        take_completions(w);
    } else {
        take_events(w, index);
        sim__node_pump(w, index);
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
void sim__node_stopping(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    if (n->stop_limit_us == INT64_MAX)
        return;
    if (tide_engine_is_idle(n->engine)) {
        sim__trace(w, "node %u has drained", index);
        node_end(w, index);
    } else if (n->stop_limit_us <= w->now_us) {
        sim__trace(w, "node %u hasn't drained in time", index);
        sim__node_crash(w, index);
    }
}

bool sim__is_awake(const world *w, uint32_t index) {
    const node *n = &w->nodes[index];
    return n->engine != NULL && w->now_us >= n->paused_until_us;
}
