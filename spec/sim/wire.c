/* SPDX-License-Identifier: MIT */
/*
 * What it is: the wire of the simulated world: bytes that are split, delayed and cut, and chance.
 * What it is not: a protocol.
 * Invariants: bytes of a way never overtake each other.
 */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the wire ---- */

void sim__trace(const world *w, const char *format, ...) {
    if (!w->options.trace)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%10.3f ms  ", (double)(w->now_us % INT64_C(1000000000000)) / 1000.0);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

uint64_t sim__draw(world *w, uint64_t bound) {
    return tide_prng_below(&w->prng, bound);
}
int64_t sim__between(world *w, int64_t low, int64_t high) {
    return low + (int64_t)sim__draw(w, (uint64_t)(high - low + 1));
}
bool sim__chance(world *w, uint32_t percent) {
    return sim__draw(w, 100) < percent;
}

int64_t sim__wall_ms(const world *w) {
    return sim__epoch_ms + w->clock_ahead_ms + w->now_us / 1000;
}

void sim__send_on(world *w, pipe_way *way, const char *data, size_t size) {
    while (size > 0) {
        /* Mostly whole, sometimes cut to pieces of any size. */
        size_t part = sim__chance(w, 70) ? size : 1 + (size_t)sim__draw(w, size);
        chunk *c = malloc(sizeof *c + part);
        c->next = NULL;
        c->size = part;
        c->at_us =
            w->now_us + w->latency_us / 2 + (int64_t)sim__draw(w, (uint64_t)w->latency_us + 1);
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

void sim__way_clear(pipe_way *way) {
    while (way->first != NULL) {
        chunk *c = way->first;
        way->first = c->next;
        free(c);
    }
    way->last = NULL;
}

/* What is on the way is lost from any byte on. */
void sim__way_cut(world *w, pipe_way *way) {
    size_t total = 0;
    for (chunk *c = way->first; c != NULL; c = c->next)
        total += c->size;
    size_t keep = (size_t)sim__draw(w, total + 1);
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

void sim__conn_free(conn *c) {
    sim__way_clear(&c->to_server);
    sim__way_clear(&c->to_node);
    *c = (conn){.state = CONN_FREE};
}

/* The node's side is gone; the server hears of it later. */
void sim__conn_leave(world *w, conn *c) {
    c->has_node = false;
    sim__way_clear(&c->to_node);
    c->node_close_us = INT64_MAX;
    if (c->state != CONN_UP || c->client == 0) {
        sim__conn_free(c);
        return;
    }
    if (c->server_close_us == INT64_MAX) {
        c->server_close_us = w->now_us + w->latency_us;
        if (c->server_close_us < c->to_server.last_us)
            c->server_close_us = c->to_server.last_us;
    }
}

void sim__conn_cut(world *w, conn *c) {
    sim__trace(w, "fault: connection of node %u, link %u, is cut", c->node, c->link);
    sim__way_cut(w, &c->to_server);
    sim__way_cut(w, &c->to_node);
    c->node_close_us = w->now_us + (int64_t)sim__draw(w, (uint64_t)w->latency_us * 2 + 1);
    c->server_close_us = w->now_us + (int64_t)sim__draw(w, (uint64_t)w->latency_us * 2 + 1);
    if (c->node_close_us < c->to_node.last_us)
        c->node_close_us = c->to_node.last_us;
    if (c->server_close_us < c->to_server.last_us)
        c->server_close_us = c->to_server.last_us;
    if (c->state == CONN_OPENING)
        c->refused = true;
}

conn *sim__conn_of(world *w, uint32_t node_index, uint32_t link) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_FREE && c->has_node && c->node == node_index && c->link == link)
            return c;
    }
    return NULL;
}

void sim__conn_open(world *w, uint32_t node_index, uint32_t link) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_FREE)
            continue;
        *c = (conn){.state = CONN_OPENING,
                    .node = node_index,
                    .link = link,
                    .life = w->nodes[node_index].life,
                    .has_node = true,
                    .open_us = w->now_us + w->latency_us,
                    .node_close_us = INT64_MAX,
                    .server_close_us = INT64_MAX};
        return;
    }
    check_fail(&w->check, "bounds: more than %d connections at once", CONNS_MAX);
}

void sim__server_replies(world *w) {
    for (int i = 0; i < CONNS_MAX; i++) {
        conn *c = &w->conns[i];
        if (c->state != CONN_UP || c->client == 0)
            continue;
        tide_str out = sim_server_output(w->server, c->client);
        if (out.len == 0)
            continue;
        if (c->has_node && !c->silent && c->node_close_us == INT64_MAX)
            sim__send_on(w, &c->to_node, out.data, out.len);
        sim_server_output_ack(w->server, c->client, out.len);
    }
}
