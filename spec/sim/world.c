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
#include "world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the loop ---- */

static int64_t earliest(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t next_time(const world *w) {
    int64_t t = INT64_MAX;
    if (!w->options.file && !w->server_down) {
        int64_t due_ms = sim_server_deadline_ms(w->server);
        if (due_ms != INT64_MAX)
            t = earliest(t, (due_ms - sim__epoch_ms - w->clock_ahead_ms) * 1000);
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
        if (c->state == CONN_OPENING && c->open_us <= w->now_us && sim__is_awake(w, c->node)) {
            node *n = &w->nodes[c->node];
            n->woken = true;
            if (w->server_down || c->refused) {
                tide_error why = {.status = TIDE_CONNECT, .message = "connection refused"};
                uint32_t link = c->link;
                sim__conn_free(c);
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
                sim__conn_free(c);
                continue;
            }
        }
    }
    sim__server_replies(w);
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_UP || !c->has_node || !sim__is_awake(w, c->node))
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
            sim__node_pump(w, c->node);
        }
        if (c->state == CONN_UP && c->has_node && c->node_close_us <= w->now_us) {
            tide_error why = {.status = TIDE_DISCONNECTED, .message = "connection reset"};
            uint32_t link = c->link;
            n->woken = true;
            sim__conn_leave(w, c);
            n->vtable->link_closed(n->broker, link, &why, w->now_us);
        }
    }
}

static void step(world *w) {
    if (!w->options.file)
        sim_server_set_time(w->server, sim__wall_ms(w));
    if (w->server_down && w->server_up_us <= w->now_us) {
        sim__trace(w, "the server is up");
        w->server_down = false;
    }
    if (w->trouble_end_us <= w->now_us) {
        sim_server_set_trouble(w->server, SIM_TROUBLE_NONE);
        w->trouble_end_us = INT64_MAX;
        w->check.last_fault_us = w->now_us;
    }
    if (w->next_fault_us <= w->now_us) {
        sim__inject(w);
        w->next_fault_us = w->now_us + 1 + (int64_t)sim__draw(w, (uint64_t)w->fault_every_us * 2);
        if (w->next_fault_us > w->work_us)
            w->next_fault_us = INT64_MAX;
    }
    for (uint32_t i = 0; i < w->node_count; i++) {
        if (w->nodes[i].engine == NULL && w->nodes[i].restart_us <= w->now_us)
            sim__node_start(w, i);
    }
    if (w->next_publish_us <= w->now_us) {
        if (w->nodes[0].engine != NULL)
            sim__publish(w);
        w->nodes[0].woken = true;
        uint32_t left = 0;
        for (uint32_t i = 0; i < w->check.count; i++)
            left += w->check.events[i].publish < PUBLISH_OK;
        w->next_publish_us = left > 0 ? w->now_us + 1000 + (int64_t)sim__draw(w, 40000) : INT64_MAX;
    }
    move_bytes(w);
    for (uint32_t i = 0; i < w->node_count; i++) {
        node *n = &w->nodes[i];
        if (!sim__is_awake(w, i))
            continue;
        for (uint32_t k = 0; k < n->running_count;) {
            if (n->running[k].end_us <= w->now_us) {
                sim__end_handler(w, i, k);
                n->woken = true;
            } else {
                k++;
            }
        }
        if (n->woken || n->due_us <= w->now_us || n->stop_limit_us <= w->now_us) {
            sim__node_turn(w, i);
            sim__node_stopping(w, i);
        }
    }
    if (!w->options.file)
        sim__server_replies(w);
}

/* ---- what is written ---- */

static uint32_t index_of_text(const world *w, tide_str value) {
    uint64_t number;
    if (value.len < 2 || !tide_u64_parse((tide_str){value.data + 1, value.len - 1}, &number) ||
        number >= w->check.count)
        return UINT32_MAX;
    return (uint32_t)number;
}

void sim__visit_stream(void *context, tide_id id, tide_str value) {
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
        each_of_file(w, STREAM, sim__visit_stream);
        each_of_file(w, DEAD_LETTERS, visit_dead);
    } else {
        sim_server_each(w->server, STREAM, TIDE_STR("event_id"), TIDE_STR("tide_attempt"),
                        sim__visit_stream, w);
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
    w->node_count = 2 + (uint32_t)sim__draw(w, 3);
    w->event_count = 20 + (uint32_t)sim__draw(w, 60);
    w->concurrency = 1 + (uint32_t)sim__draw(w, 4);
    w->batch_max = 1 + (uint32_t)sim__draw(w, 10);
    w->latency_us = sim__between(w, 50, 3000);
    w->handler_us = sim__chance(w, 50) ? sim__between(w, 0, 2000) : sim__between(w, 0, 50000);
    w->dedupe = sim__chance(w, 60);
    w->slow_handlers = sim__chance(w, 20);
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = STREAM;
    options.group = GROUP;
    options.prefetch = 1 + (uint32_t)sim__draw(w, sim__chance(w, 50) ? 6 : 40);
    if (sim__chance(w, 30))
        options.prefetch_bytes = (size_t)sim__between(w, 200, 8000);
    options.lease_ms = sim__between(w, 800, 5000);
    options.block_ms = sim__between(w, 100, 2000);
    options.settle_ms = sim__between(w, 0, 10);
    options.delay_move_ms = sim__between(w, 300, 1000);
    options.promote_ms = sim__between(w, 100, 500);
    options.retry.delay_ms = sim__between(w, 5, 100);
    options.retry.delay_ms_max = 400;
    options.retry.attempts_max = 4 + (uint32_t)sim__draw(w, 3);
    uint32_t weather = (uint32_t)sim__draw(w, 100);
    w->fault_mask = 0;
    if (weather >= 15)
        w->fault_mask = (uint32_t)sim__draw(w, 1u << FAULT_TRIM);
    if (weather >= 80)
        w->fault_mask &= (uint32_t)sim__draw(w, 1u << FAULT_TRIM); /* fewer kinds */
    if (weather >= 85 && weather < 90)
        w->fault_mask |= 1u << FAULT_TRIM;
    /* What only a dead process knew of is gone with the group. */
    if (weather >= 90 && weather < 95)
        w->fault_mask = (w->fault_mask & ~(1u << FAULT_CRASH)) | 1u << FAULT_GROUP;
    if (weather >= 95)
        w->fault_mask |= 1u << FAULT_EMPTY;
    w->fault_every_us = sim__between(w, 20000, 1500000);
    /* A lease without an end: only a consumer's own pending entries bring back what a crash left. */
    w->history_only = sim__chance(w, 25);
    if (w->history_only) {
        options.lease_ms = 600000;
        w->fault_mask &= ~(1u << FAULT_PAUSE);
        w->slow_handlers = false;
    }
    if (w->options.bug != SIM_BUG_NONE)
        w->fault_mask |= 1u << FAULT_CRASH;
    w->consumer = options;
    w->work_us = w->now_us + sim__between(w, 500, 5000) * 1000;
    w->limit_us = w->work_us + 60000000 + (w->history_only ? 0 : options.lease_ms * 4000);
    w->next_fault_us = w->fault_mask != 0
                           ? w->now_us + (int64_t)sim__draw(w, (uint64_t)w->fault_every_us)
                           : INT64_MAX;
    c->count = w->event_count;
    c->lease_us = options.lease_ms * 1000;
    /* A silent connection is noticed after block and operation time limit, twice when two reads wait. */
    c->fault_lasts_us = 2 * c->lease_us + 3000000;
    if ((w->fault_mask & (1u << FAULT_HANG)) != 0)
        c->fault_lasts_us += 15000000;
    c->attempts_max = options.retry.attempts_max;
    c->last_fault_us = INT64_MIN;
    c->last_clock_us = INT64_MIN;
    c->in_order = w->fault_mask == 0 && w->concurrency == 1 && w->node_count == 2;
    for (uint32_t i = 0; i < c->count; i++) {
        check_plan plan = PLAN_FINE;
        if (sim__chance(w, 30))
            plan = (check_plan)sim__draw(w, PLAN_COUNT);
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
    sim_server_set_time(w->server, sim__wall_ms(w));
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
        sim__node_start(w, i);
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
        sim__conn_free(&w->conns[i]);
    sim_server_destroy(w->server);
    if (options->file)
        remove_folder(w->folder);
    free(w);
}
