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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
                sim__inject_soon(w);
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
    if ((w->fault_mask & 1u << FAULT_GROUP) != 0)
        sim__note_settled(w);
    if (w->server_down && w->server_up_us <= w->now_us) {
        sim__trace(w, "the server is up");
        w->server_down = false;
    }
    if (w->trouble_end_us <= w->now_us) {
        sim_server_set_trouble(w->server, SIM_TROUBLE_NONE);
        w->trouble_end_us = INT64_MAX;
    }
    if (w->next_fault_us <= w->now_us) {
        sim__inject(w);
        int64_t most = w->bursts && sim__chance(w, 40) ? 15000 : w->fault_every_us;
        w->next_fault_us = w->now_us + 1 + (int64_t)sim__draw(w, (uint64_t)most * 2);
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
        if (n->engine != NULL &&
            (n->woken || n->due_us <= w->now_us || n->stop_limit_us <= w->now_us)) {
            sim__node_turn(w, i);
            sim__node_stopping(w, i);
        }
    }
    if (!w->options.file)
        sim__server_replies(w);
}

/* ---- a run ---- */

static bool is_done(world *w) {
    if (w->next_publish_us != INT64_MAX)
        return false;
    for (uint32_t i = 0; i < w->node_count; i++) {
        const node *n = &w->nodes[i];
        if (n->running_count > 0 || (n->engine == NULL && !n->gone))
            return false;
    }
    if (!w->options.file && (sim_server_undelivered(w->server, STREAM, GROUP) > 0 ||
                             sim_server_zcard(w->server, DELAYED) > 0))
        return false;
    sim__look(w);
    return check_open(&w->check) == 0 && sim__pending(w) == 0;
}

/* The server tells to whom it hands what. */
static void server_handed(void *context, const sim_handed *handed) {
    world *w = context;
    uint32_t index = sim__index_of_text(w, handed->event);
    if (index == UINT32_MAX || !tide_str_equal(handed->stream, STREAM))
        return;
    for (int i = 0; i < CONNS_MAX; i++) {
        const conn *c = &w->conns[i];
        if (c->state != CONN_FREE && c->client == handed->client)
            sim__handed(w, index, handed, c->node, c->life);
    }
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
    sim_server_watch(w->server, server_handed, w);
    snprintf(w->url, sizeof w->url, "redis://simulated");
    if (options->file) {
        snprintf(w->folder, sizeof w->folder, "%s", scratch_path("world"));
        if (mkdir(w->folder, 0700) != 0)
            check_fail(&w->check, "cannot make a folder");
        snprintf(w->url, sizeof w->url, "file:%s/sim.db?synchronous=off", w->folder);
    }
    sim__draw_world(w);
    if (w->warm)
        sim_server_warm_up(w->server);
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
            sim__look(w);
            check_end(&w->check);
            check_fail(&w->check,
                       "no end: %zu pending, %zu undelivered, %zu delayed, %u events open",
                       sim__pending(w), sim_server_undelivered(w->server, STREAM, GROUP),
                       sim_server_zcard(w->server, DELAYED), check_open(&w->check));
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
        scratch_remove(w->folder);
    free(w);
}
