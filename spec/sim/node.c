/* SPDX-License-Identifier: MIT */
/*
 * What it is: a node: an engine driven as runtime/ does it, its handlers, and the publisher.
 * What it is not: a model of the engine.
 * Invariants: all invariants of an engine are checked after each of its turns.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

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
    n->start_us = w->now_us;
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
    if (index > 0)
        sim__spy_on(w, index, broker);
    tide_env env = {.seed = seed};
    if (w->options.trace)
        env.log = (tide_log_sink){trace_line, w};
    if (tide_engine_open_with(&n->engine, broker, &env, &error) != TIDE_OK) {
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
    sim__inject_soon(w);
}

/* The process ends: what it hadn't sent is gone, and so are its connections. */
static void node_end(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    /* To the process, and back to put the count right. */
    check_died(&w->check, index, n->life, 4 * w->latency_us + 2000, w->now_us);
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
    n->restart_us = n->gone ? INT64_MAX : w->now_us + sim__between(w, 1000, 1500000);
}

void sim__node_crash(world *w, uint32_t index) {
    sim__trace(w, "fault: node %u dies", index);
    w->nodes[index].gone = false;
    node_end(w, index);
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

uint32_t sim__index_of(const world *w, const tide_entry *entry) {
    for (uint32_t i = 0; i < entry->field_count; i++) {
        if (tide_str_equal(entry->fields[i].name, TIDE_STR("event_id")))
            return sim__index_of_text(w, entry->fields[i].value);
    }
    return UINT32_MAX;
}

void sim__handed(world *w, uint32_t index, const sim_handed *handed, uint32_t node_index,
                 uint32_t life) {
    int64_t idle_us = handed->idle_ms >= 0 ? handed->idle_ms * 1000 : -1;
    const check_event *e = &w->check.events[index];
    const node *holder = &w->nodes[e->holder_node];
    /* Where the time of the last renewal isn't known, it was two leases ago at most. */
    int64_t renewed_us = w->now_us - (idle_us >= 0 ? idle_us : 2 * w->check.lease_us);
    if (idle_us < 0 && renewed_us < e->handed_us)
        renewed_us = e->handed_us;
    check_handing handing = {.how = handed->how,
                             .id = handed->id,
                             .node = node_index,
                             .life = life,
                             .idle_us = idle_us,
                             .holder_is_alive = e->handed && holder->engine != NULL &&
                                                holder->life == e->holder_life,
                             .scripts_are_known = w->warm,
                             .holder_was_shaken = holder->shaken_until_us >= renewed_us};
    static const char *const names[] = {"new", "again", "claimed"};
    sim__trace(w, "event %u (%llu-%llu) is handed to node %u (%s)", index,
               (unsigned long long)handed->id.ms, (unsigned long long)handed->id.seq, node_index,
               names[handed->how]);
    check_handed(&w->check, index, &handing, w->now_us);
}

static void take_events(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    tide_event event;
    while (n->running_count < w->concurrency &&
           tide_engine_next_event(n->engine, 0, w->now_us, &event)) {
        uint32_t at = sim__index_of(w, event.entry);
        if (at == UINT32_MAX) {
            check_fail(&w->check, "an event that nobody published was delivered");
            return;
        }
        sim__trace(w, "node %u runs event %u, attempt %u", index, at, event.attempt);
        check_run(&w->check, at, &event, index, n->life, w->now_us);
        int64_t takes = (int64_t)sim__draw(w, (uint64_t)w->handler_us + 1);
        if (w->slow_handlers && w->now_us < w->work_us && sim__chance(w, 5))
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

typedef struct outcome {
    tide_verdict_kind kind;
    int64_t delay_ms;
} outcome;

static outcome outcome_of(const world *w, const check_event *e, const handler *h) {
    static const outcome fine = {TIDE_VERDICT_ACK, 0}, fails = {TIDE_VERDICT_FAIL, -1},
                         gives_back = {TIDE_VERDICT_RELEASE, 0};
    const outcome put_off = {TIDE_VERDICT_NACK, w->now_us < w->work_us ? w->nack_ms : 20},
                  moved = {TIDE_VERDICT_NACK, w->move_ms};
    switch (e->plan) {
    case PLAN_FLAKY: return h->attempt <= 1 + h->index % 2 ? fails : fine;
    case PLAN_POISON: return fails;
    case PLAN_REJECT: return (outcome){TIDE_VERDICT_REJECT, 0};
    case PLAN_NACK: return e->verdicts == 0 ? put_off : fine;
    case PLAN_MOVE: return e->verdicts == 0 ? moved : fine;
    case PLAN_RELEASE: return e->verdicts == 0 ? gives_back : fine;
    case PLAN_MIXED:
        switch ((h->index * 31 + e->verdicts * 17) * UINT32_C(2654435761) >> 20 & 7) {
        case 0:
        case 1: return e->verdicts < 4 ? fails : fine;
        case 2: return e->verdicts < 4 ? put_off : fine;
        case 3: return e->verdicts < 4 ? moved : fine;
        case 4:
        case 5: return e->verdicts < 6 ? gives_back : fine;
        default: return fine;
        }
    default: return fine;
    }
}

void sim__end_handler(world *w, uint32_t index, uint32_t which) {
    node *n = &w->nodes[index];
    handler h = n->running[which];
    check_event *e = &w->check.events[h.index];
    if (e->plan == PLAN_KILL) {
        sim__trace(w, "event %u ends its process", h.index);
        sim__node_crash(w, index);
        return;
    }
    n->running[which] = n->running[--n->running_count];
    outcome o = outcome_of(w, e, &h);
    tide_verdict verdict = {.kind = o.kind, .delay_ms = o.delay_ms, .reason = TIDE_STR("planned")};
    if (e->run_node == index && e->run_life == n->life)
        e->run_going = false;
    if (verdict.kind == TIDE_VERDICT_ACK)
        e->good_runs++;
    sim__trace(w, "node %u ends event %u: verdict %d", index, h.index, (int)verdict.kind);
    bool stopping = n->stop_limit_us != INT64_MAX;
    tide_status status = TIDE_OK;
    if (!h.acked_early)
        status = tide_engine_settle(n->engine, h.consumer, h.handle, &verdict, w->now_us);
    /* What a node gave back while it was asked to stop isn't its own to settle. */
    if (status != TIDE_OK && !stopping)
        check_fail(&w->check, "the verdict of event %u was refused: %s", h.index,
                   tide_status_code(status));
    bool retried = (verdict.kind == TIDE_VERDICT_FAIL || verdict.kind == TIDE_VERDICT_NACK) &&
                   h.attempt < w->check.attempts_max;
    if (status != TIDE_OK || (verdict.kind != TIDE_VERDICT_RELEASE && !retried))
        return;
    /* A policy's delay is half chance; one that is moved comes by the server's clock, which counts milliseconds. */
    int64_t delay_ms = o.delay_ms >= 0 ? o.delay_ms - 1 : w->consumer.retry.delay_ms / 2;
    if (stopping && o.delay_ms < w->consumer.delay_move_ms)
        delay_ms = 0; /* somebody else makes the next */
    e->is_being_given_back = !retried;
    check_asked(&w->check, h.index, index, n->life, retried, delay_ms, w->now_us);
}

/* ---- publishing ---- */

void sim__publish(world *w) {
    node *n = &w->nodes[0];
    uint32_t count = 0;
    uint32_t indexes[16];
    uint32_t most = 1 + (uint32_t)sim__draw(w, w->batch_max);
    /* Those of one request have the same delay. */
    int64_t delay_ms = -1;
    for (uint32_t i = 0; i < w->check.count && count < most; i++) {
        const check_event *e = &w->check.events[i];
        if (e->publish != PUBLISH_NOT_YET || (count > 0 && e->delay_ms != delay_ms))
            continue;
        if (count > 0 && i - indexes[0] >= 40)
            break; /* the tag has no bit for it */
        delay_ms = e->delay_ms;
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
        size_t size = w->payload_fixed ? w->payload_max : (size_t)sim__draw(w, w->payload_max + 1);
        fields[i][0] = (tide_field){TIDE_STR("event_id"), tide_str_from(ids[i])};
        fields[i][1] = (tide_field){TIDE_STR("event_type"), TIDE_STR("OrderPlaced")};
        fields[i][2] = (tide_field){TIDE_STR("data"), {payload, size}};
        records[i] = (tide_record){fields[i], 3, fields[i][0].value};
        w->check.events[indexes[i]].publish = PUBLISH_OPEN;
    }
    /* The tag says which: first index and a bit for each that follows it. */
    uint64_t tag = indexes[0];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t gap = indexes[i] - indexes[0];
        tag |= UINT64_C(1) << (16 + gap);
    }
    tide_op op = {.kind = TIDE_OP_PUBLISH,
                  .tag = tag,
                  .as.publish = {.stream = STREAM,
                                 .records = records,
                                 .record_count = count,
                                 .delay_ms = w->options.bug == SIM_BUG_PUBLISH_EARLY ? delay_ms / 2
                                                                                     : delay_ms,
                                 .dedupe_window_ms = w->dedupe ? 864000000 : 0}};
    tide_error error;
    if (tide_engine_submit(n->engine, &op, w->now_us, &error) != TIDE_OK) {
        for (uint32_t i = 0; i < count; i++)
            w->check.events[indexes[i]].publish = PUBLISH_NOT_YET;
        return;
    }
    for (uint32_t i = 0; i < count && delay_ms > 0; i++) {
        check_event *e = &w->check.events[indexes[i]];
        if (e->due_us == 0)
            e->due_us = w->now_us + delay_ms * 1000;
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
                e->may_be_there = true;
            } else {
                e->publish = PUBLISH_NOT_YET; /* nothing was written, says the contract */
                if (!e->may_be_there)
                    e->due_us = 0;
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
        /* One event may pass the budget; of equal ones no more does. One that waits has a copy of its own, a little larger. */
        size_t budget = w->consumer.prefetch_bytes;
        size_t bytes_max = budget * 2 + 1000;
        if (w->payload_fixed)
            bytes_max = (stats.failed == 0 ? budget * 6 / 5 : budget * 3 / 2) + EVENT_BYTES_MAX;
        if (there && stats.bytes > bytes_max)
            check_fail(&w->check, "window: node %u holds %zu bytes, the budget is %zu", index,
                       stats.bytes, budget);
        if (there && stats.buffered + stats.running + stats.waiting > w->consumer.prefetch)
            check_fail(&w->check, "window: node %u holds %u events, prefetch is %u", index,
                       stats.buffered + stats.running + stats.waiting, w->consumer.prefetch);
    }
}

/* Who has drained has nothing that nobody else may take at once. */
static void check_drained(world *w, uint32_t index) {
    const node *n = &w->nodes[index];
    if (w->options.file || !w->warm || n->shaken_until_us >= n->stop_us)
        return;
    sim_pending list[CHECK_EVENTS_MAX];
    size_t count = sim_server_pending(w->server, STREAM, GROUP, list, CHECK_EVENTS_MAX);
    for (size_t i = 0; i < count && i < CHECK_EVENTS_MAX; i++) {
        for (uint32_t k = 0; k < w->check.count; k++) {
            const check_event *e = &w->check.events[k];
            if (e->handed && tide_id_compare(e->id, list[i].id) == 0 && e->holder_node == index &&
                e->holder_life == n->life && list[i].delivered_ms > sim__wall_ms(w) - 86000000)
                check_fail(&w->check, "not given back: event %u, node %u has drained", k, index);
        }
    }
}

/* Draining: gone when idle, or when its time is over. */
void sim__node_stopping(world *w, uint32_t index) {
    node *n = &w->nodes[index];
    if (n->stop_limit_us == INT64_MAX)
        return;
    if (tide_engine_is_idle(n->engine)) {
        sim__trace(w, "node %u has drained%s", index, n->gone ? ", for good" : "");
        check_drained(w, index);
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
