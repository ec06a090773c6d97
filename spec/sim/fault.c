/* SPDX-License-Identifier: MIT */
/*
 * What it is: what can go wrong, one fault at a time.
 * What it is not: the plan when: world.c has it.
 * Invariants: a fault that excuses a rule says so to the checkers.
 */
#include "world.h"

#include <stdio.h>
#include <string.h>

/* How long a fault may be felt after its end: pauses before another connection and before another try. */
enum { CALM_US = 6000000, CALM_HANG_US = 20000000, LOOKS_US = 2500000 };

static void shake(world *w, uint32_t index, int64_t until_us) {
    node *n = &w->nodes[index];
    if (n->shaken_until_us < until_us)
        n->shaken_until_us = until_us;
}

static void shake_all(world *w, int64_t until_us) {
    for (uint32_t i = 0; i < w->node_count; i++)
        shake(w, i, until_us);
}

static void forget_all(world *w) {
    for (uint32_t i = 0; i < w->check.count; i++)
        check_forgotten(&w->check, i);
}

/* ---- faults ---- */

static void server_goes(world *w, bool keeps_data) {
    sim__trace(w, "fault: the server goes down%s", keeps_data ? "" : " and loses its data");
    w->server_down = true;
    w->server_up_us = w->now_us + sim__between(w, 1000, 3000000);
    w->check.cuts += 2 * w->node_count;
    shake_all(w, w->server_up_us + CALM_US);
    sim_server_flush_scripts(w->server);
    if (!keeps_data) {
        sim_server_flush_data(w->server);
        if (sim__chance(w, 50)) { /* on another machine, whose clock is behind */
            w->clock_ahead_ms -= sim__between(w, 1, 3600000);
            sim_server_set_clock(w->server, sim__wall_ms(w));
        }
        w->check.data_lost = true;
        forget_all(w);
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
        sim__way_clear(&c->to_server);
        if (!c->has_node) {
            sim__conn_free(c);
            continue;
        }
        if (c->state == CONN_OPENING) {
            c->refused = true;
            continue;
        }
        if (!c->silent && c->node_close_us == INT64_MAX) {
            sim__way_cut(w, &c->to_node);
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

/* Events that were in the stream and aren't any more need not be handled. */
static void trim(world *w) {
    char command[128];
    check *c = &w->check;
    for (uint32_t i = 0; i < c->count; i++)
        c->events[i].in_stream = 0;
    sim_server_each(w->server, STREAM, TIDE_STR("event_id"), TIDE_STR(""), sim__visit_stream, w);
    bool was[CHECK_EVENTS_MAX];
    uint32_t length = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        was[i] = c->events[i].in_stream > 0;
        length += c->events[i].in_stream;
        c->events[i].in_stream = 0;
    }
    snprintf(command, sizeof command,
             "*4\r\n$5\r\nXTRIM\r\n$6\r\norders\r\n$6\r\nMAXLEN\r\n$3\r\n%03u\r\n", length / 2);
    sim__trace(w, "fault: the stream is trimmed to %u entries", length / 2);
    admin(w, command);
    /* A moved copy may be what is left, or what is gone: either way nothing is asked of the event. */
    sim_server_each(w->server, STREAM, TIDE_STR("event_id"), TIDE_STR("tide_attempt"),
                    sim__visit_stream, w);
    for (uint32_t i = 0; i < c->count; i++)
        c->events[i].excused = c->events[i].excused || (was[i] && c->events[i].in_stream == 0);
}

/* A consumer alone, that nothing has kept from looking, knows where everything before is settled; what is behind comes
 * again. The looks are a second apart. */
static void group_goes(world *w) {
    tide_id known = {0, 0};
    if (w->node_count == 2 && w->nodes[1].engine != NULL &&
        w->nodes[1].shaken_until_us < w->now_us - LOOKS_US &&
        w->nodes[1].start_us < w->now_us - LOOKS_US && w->nodes[1].stop_limit_us == INT64_MAX)
        known = sim__settled_at(w, w->now_us - LOOKS_US);
    w->settled_count = 0;
    for (uint32_t i = 0; i < w->check.count; i++) {
        const check_event *e = &w->check.events[i];
        if (!e->handed || tide_id_compare(e->id, known) > 0 || e->verdicts > 0)
            check_forgotten(&w->check, i);
    }
    shake_all(w, w->now_us + CALM_US);
}

/* Somebody else is there to stay. */
static bool may_leave(const world *w, uint32_t victim) {
    if (w->history_only && w->nodes[victim].life > 1)
        return false; /* nobody else brings back what its earlier life left */
    for (uint32_t i = 1; i < w->node_count; i++) {
        if (i != victim && !w->nodes[i].gone)
            return true;
    }
    return false;
}

void sim__inject_soon(world *w) {
    if (w->bursts && w->next_fault_us != INT64_MAX && sim__chance(w, 20))
        w->next_fault_us = w->now_us + (int64_t)sim__draw(w, (uint64_t)w->latency_us * 10);
}

/* One that has bytes on their way to it, if there is one: they wait for it then. */
static uint32_t expectant(world *w, uint32_t otherwise) {
    uint32_t first = (uint32_t)sim__draw(w, CONNS_MAX);
    for (uint32_t i = 0; i < CONNS_MAX; i++) {
        const conn *c = &w->conns[(first + i) % CONNS_MAX];
        if (c->state == CONN_UP && c->has_node && c->node > 0 && c->to_node.first != NULL)
            return c->node;
    }
    return otherwise;
}

void sim__inject(world *w) {
    fault kind = FAULT_COUNT;
    for (int tries = 0; tries < 50 && kind == FAULT_COUNT; tries++) {
        fault drawn = (fault)sim__draw(w, FAULT_COUNT);
        if ((w->fault_mask & 1u << drawn) != 0)
            kind = drawn;
    }
    if (kind == FAULT_COUNT)
        return;
    if (w->options.file && kind != FAULT_CRASH && kind != FAULT_PAUSE && kind != FAULT_STOP)
        return;
    w->result->faults++;
    uint32_t victim = 1 + (uint32_t)sim__draw(w, w->node_count - 1);
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
        conn *c = list[sim__draw(w, count)];
        w->check.cuts++;
        shake(w, c->node, w->now_us + (kind == FAULT_CUT ? CALM_US : CALM_HANG_US));
        if (kind == FAULT_CUT) {
            sim__conn_cut(w, c);
        } else if (c->state == CONN_UP) {
            sim__trace(w, "fault: connection of node %u, link %u, falls silent", c->node, c->link);
            c->silent = true;
            sim__way_cut(w, &c->to_server);
            sim__way_cut(w, &c->to_node);
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
        sim_trouble trouble = (sim_trouble)sim__between(w, 1, SIM_TROUBLE_COUNT - 1);
        sim__trace(w, "fault: trouble %d at the server", (int)trouble);
        sim_server_set_trouble(w->server, trouble);
        w->trouble_end_us = w->now_us + sim__between(w, 1000, 2000000);
        if (trouble == SIM_TROUBLE_LOADING) /* between a page and the question for its counts */
            w->check.cuts += w->node_count;
        if (trouble != SIM_TROUBLE_OOM) /* leases need no memory */
            shake_all(w, w->trouble_end_us + CALM_US);
        break;
    }
    case FAULT_CRASH:
        if (w->nodes[victim].engine != NULL)
            sim__node_crash(w, victim);
        break;
    case FAULT_PAUSE:
        if (sim__chance(w, 50))
            victim = expectant(w, victim);
        if (sim__is_awake(w, victim)) {
            int64_t most = sim__chance(w, 50) ? w->check.lease_us / 2 : w->check.lease_us * 3;
            int64_t until_us = w->now_us + sim__between(w, 1000, most + 1000);
            w->nodes[victim].paused_until_us = until_us;
            /* A lease is renewed when a third of it is over. */
            if (until_us - w->now_us >= w->check.lease_us / 2 ||
                w->nodes[victim].shaken_until_us >= w->now_us)
                shake(w, victim, until_us + 10000);
            sim__trace(w, "fault: node %u stands still for %lld ms", victim,
                       (long long)(w->nodes[victim].paused_until_us - w->now_us) / 1000);
        }
        break;
    case FAULT_SCRIPTS: sim_server_flush_scripts(w->server); break;
    case FAULT_STOP: {
        node *n = &w->nodes[victim];
        if (!sim__is_awake(w, victim) || n->stop_limit_us != INT64_MAX)
            return;
        sim__trace(w, "node %u is asked to stop", victim);
        n->gone = may_leave(w, victim) && sim__chance(w, 30);
        n->stop_us = w->now_us;
        n->stop_limit_us = w->now_us + 3000000;
        bool abandon = sim__chance(w, 30);
        for (uint32_t i = 0; abandon && i < n->running_count; i++)
            w->check.events[n->running[i].index].counted--; /* given back */
        tide_engine_unsubscribe(n->engine, n->consumer, abandon, w->now_us);
        /* Verdicts of what it gave back come too late. */
        n->woken = true;
        break;
    }
    case FAULT_CLOCK:
        w->clock_ahead_ms += sim__between(w, 1, 3600000);
        shake_all(w, w->now_us);
        w->check.clock_jumped = true;
        for (uint32_t i = 0; i < w->check.count; i++) {
            /* What is held comes again; what was put off by its clock comes early. */
            w->check.events[i].spare++;
            w->check.events[i].not_before_us = INT64_MIN;
        }
        sim__trace(w, "fault: the server's clock is %lld ms ahead", (long long)w->clock_ahead_ms);
        break;
    case FAULT_TRIM: trim(w); break;
    case FAULT_GROUP:
        sim__trace(w, "fault: the group is deleted");
        w->check.data_lost = true; /* what was settled before may come again */
        group_goes(w);
        admin(w, "*4\r\n$6\r\nXGROUP\r\n$7\r\nDESTROY\r\n$6\r\norders\r\n$7\r\nbilling\r\n");
        break;
    case FAULT_COUNT: break;
    }
}
