/* SPDX-License-Identifier: MIT */
/*
 * What it is: what a seed decides before anything happens: how many there are, how fast, with which options, in what weather.
 * What it is not: what happens then.
 * Invariants: rules that a world's weather could excuse are judged in worlds without that weather.
 */
#include "world.h"

/* What can be drawn everywhere; the rest needs a world of its own. */
enum { COMMON = FAULT_TRIM };
enum {
    MASK_OF_FILE = 1u << FAULT_CRASH | 1u << FAULT_PAUSE | 1u << FAULT_STOP,
    /* A subscription's order outlives these. */
    MASK_IN_ORDER = 1u << FAULT_CUT | 1u << FAULT_HANG | 1u << FAULT_RESTART | 1u << FAULT_TROUBLE |
                    1u << FAULT_SCRIPTS
};

static uint32_t draw_faults(world *w) {
    uint32_t all = 1u << COMMON;
    if (w->options.file) {
        static const uint32_t kinds[] = {FAULT_CRASH, FAULT_PAUSE, FAULT_STOP};
        uint32_t weather = (uint32_t)sim__draw(w, 100);
        if (weather < 12)
            return 0;
        return weather < 60 ? 1u << kinds[sim__draw(w, 3)] : MASK_OF_FILE;
    }
    uint32_t weather = (uint32_t)sim__draw(w, 100);
    if (weather < 12)
        return 0;
    if (weather < 40)
        return 1u << sim__draw(w, COMMON) | 1u << sim__draw(w, COMMON);
    uint32_t mask = (uint32_t)sim__draw(w, all);
    if (weather < 72)
        return mask;
    if (weather < 80) /* fewer kinds */
        return mask & (uint32_t)sim__draw(w, all);
    if (weather < 85)
        return mask | 1u << FAULT_TRIM;
    if (weather < 93) { /* what only a dead process knew of is gone with the group */
        w->node_count = sim__chance(w, 50) ? 2 : w->node_count;
        if (sim__chance(w, 50))
            mask = 0;
        return (mask & ~(1u << FAULT_CRASH)) | 1u << FAULT_GROUP;
    }
    return mask | 1u << FAULT_EMPTY;
}

static void draw_options(world *w, tide_consumer_options *o) {
    o->stream = STREAM;
    o->group = GROUP;
    o->prefetch = 1 + (uint32_t)sim__draw(w, sim__chance(w, 50) ? 6 : 40);
    if (sim__chance(w, 30))
        o->prefetch_bytes = (size_t)sim__between(w, 200, 8000);
    o->lease_ms = sim__between(w, 800, 5000);
    o->block_ms = sim__between(w, 100, 2000);
    o->settle_ms = sim__between(w, 0, 10);
    o->delay_move_ms = sim__between(w, 300, 1000);
    o->promote_ms = sim__between(w, 100, 500);
    o->retry.delay_ms = sim__between(w, 5, 100);
    o->retry.delay_ms_max = 400;
    o->retry.attempts_max = (sim__chance(w, 15) ? 1 : 4) + (uint32_t)sim__draw(w, 3);
    w->nack_ms = 20;
    /* Waits longer than a lease, kept by renewing it; each takes a place in the window. */
    if (o->prefetch >= 8 && o->prefetch_bytes > 8000 && sim__chance(w, 40)) {
        o->delay_move_ms = 2 * o->lease_ms + 500;
        w->nack_ms = sim__between(w, o->lease_ms, 2 * o->lease_ms);
    }
    w->move_ms = o->delay_move_ms + 50;
    /* A lease without an end: only a consumer's own pending entries bring back what a crash left. */
    w->history_only = sim__chance(w, 25);
    if (!w->history_only)
        return;
    o->lease_ms = 600000;
    o->recover_ms = sim__between(w, 100, 1000);
    w->fault_mask &= ~(1u << FAULT_PAUSE);
    w->slow_handlers = false;
    if (w->nack_ms > 1000)
        w->nack_ms = 1000;
}

static void draw_plans(world *w) {
    check *c = &w->check;
    for (uint32_t i = 0; i < c->count; i++) {
        check_plan plan = PLAN_FINE;
        if (sim__chance(w, 30))
            plan = sim__chance(w, 25) ? PLAN_MIXED : (check_plan)sim__draw(w, PLAN_COUNT);
        c->events[i].plan = plan;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        if (w->delays && sim__chance(w, 30))
            c->events[i].delay_ms = sim__between(w, 1, sim__chance(w, 50) ? 200 : 3000);
    }
    for (int i = 0; w->killers && i < 3; i++)
        c->events[sim__draw(w, c->count)].plan = PLAN_KILL;
}

void sim__draw_world(world *w) {
    check *c = &w->check;
    w->node_count = 2 + (uint32_t)sim__draw(w, NODES_MAX - 1);
    w->event_count = 20 + (uint32_t)sim__draw(w, 60);
    w->concurrency = 1 + (uint32_t)sim__draw(w, 4);
    w->batch_max = 1 + (uint32_t)sim__draw(w, 10);
    w->latency_us = sim__between(w, 50, 3000);
    w->handler_us = sim__chance(w, 50) ? sim__between(w, 0, 2000) : sim__between(w, 0, 50000);
    w->dedupe = sim__chance(w, 60);
    w->slow_handlers = sim__chance(w, 30);
    w->bursts = sim__chance(w, 30);
    w->delays = sim__chance(w, 40);
    w->payload_max = 300;
    w->payload_fixed = sim__chance(w, 30);
    w->fault_mask = draw_faults(w);
    w->warm = sim__chance(w, 50);
    if (w->warm)
        w->fault_mask &= ~(1u << FAULT_SCRIPTS | 1u << FAULT_RESTART | 1u << FAULT_EMPTY);
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    draw_options(w, &options);
    w->fault_every_us = sim__between(w, 20000, 1500000);
    w->killers = sim__chance(w, 12) && (w->fault_mask >> FAULT_TRIM) == 0;
    if (w->killers && sim__chance(w, 50)) {
        w->fault_mask = 0;
        w->slow_handlers = false; /* nobody is waited for longer than a lease */
    }
    if (w->killers &&
        sim__chance(w, 50)) { /* where a death that is a neighbour's fault weighs most */
        options.retry.attempts_max = 1 + (uint32_t)sim__draw(w, 3);
        w->concurrency = 3 + (uint32_t)sim__draw(w, 4);
    }
    if (w->options.bug == SIM_BUG_ACK_BEFORE_HANDLER || w->options.bug == SIM_BUG_DROP_PENDING_PAGE)
        w->fault_mask |= 1u << FAULT_CRASH;
    w->consumer = options;
    w->work_us = w->now_us + sim__between(w, 500, 5000) * 1000;
    /* The last to be noticed is a connection that fell silent; what was begun late may take three leases. */
    w->limit_us = w->work_us + 30000000 + (w->history_only ? 0 : options.lease_ms * 4000);
    w->next_fault_us = w->fault_mask != 0
                           ? w->now_us + (int64_t)sim__draw(w, (uint64_t)w->fault_every_us)
                           : INT64_MAX;
    if (w->fault_mask == 1u << FAULT_GROUP) { /* when all is settled, and everybody has looked */
        w->next_fault_us = w->now_us + sim__between(w, 3000, 5000) * 1000;
        w->work_us = w->next_fault_us + 1000000;
        w->limit_us += 6000000;
    }
    c->count = w->event_count;
    c->lease_us = options.lease_ms * 1000;
    c->attempts_max = options.retry.attempts_max;
    c->no_fault = w->fault_mask == 0 && !w->killers;
    c->only_killers = w->fault_mask == 0 && w->killers && !w->slow_handlers;
    c->in_order = (w->fault_mask & ~(uint32_t)MASK_IN_ORDER) == 0 && !w->killers &&
                  w->concurrency == 1 && w->node_count == 2;
    draw_plans(w);
}
