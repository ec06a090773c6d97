/* SPDX-License-Identifier: MIT */
/*
 * What it is: the checkers of the simulator; each failure is one line that names the rule and the event.
 * What it is not: a look into the engine; it sees what a handler sees, to whom the server hands entries, and what is
 * written in the end.
 * Invariants: the first failure stays; a fault excuses a rule only for the events that it can have touched.
 */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"

void check_fail(check *c, const char *format, ...) {
    if (check_failed(c))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(c->failure, c->failure_size, format, args);
    va_end(args);
}

bool check_failed(const check *c) {
    return c->failure[0] != '\0';
}

static void mix(check *c, uint64_t value) {
    c->digest = (c->digest ^ value) * UINT64_C(0x100000001b3);
}

/* ---- who has it ---- */

static const int64_t given_back_us = INT64_C(86400000) * 1000;

void check_handed(check *c, uint32_t index, const check_handing *h, int64_t now_us) {
    check_event *e = &c->events[index];
    bool given_back = e->given_back || h->idle_us >= given_back_us;
    bool same = e->handed && e->holder_node == h->node && e->holder_life == h->life;
    switch (h->how) {
    case SIM_HANDED_NEW:
        if (now_us < e->due_us - 1000 && !c->clock_jumped) /* the server counts milliseconds */
            check_fail(c, "early: event %u is in the stream %lld ms before it is due", index,
                       (long long)(e->due_us - now_us) / 1000);
        /* Of a new entry: the first one, a moved copy, or that of a group made anew. */
        if (!e->run_wants_more)
            e->not_before_us = INT64_MIN;
        break;
    case SIM_HANDED_AGAIN:
        if (same) { /* what the process has, or should have had; if it dies, nobody knows */
            e->vain++;
            /* Read again because it might not have come, when it had been given back. */
            e->bounced = e->bounced || given_back;
            break;
        }
        e->deaths += !given_back + e->vain;
        e->vain = 0;
        e->may_run_again = e->may_run_again || e->runs > 0;
        e->not_before_us = INT64_MIN;
        break;
    case SIM_HANDED_CLAIMED:
        if (!given_back) {
            if (h->idle_us >= 0 && h->idle_us < c->lease_us)
                check_fail(c, "taken too early: event %u from node %u by node %u, %lld ms idle",
                           index, e->holder_node, h->node, (long long)(h->idle_us / 1000));
            if (e->is_being_given_back && h->holder_is_alive && !h->holder_was_shaken &&
                h->scripts_are_known)
                check_fail(c, "not given back: event %u of node %u is taken after a lease", index,
                           e->holder_node);
            if (h->holder_is_alive && !h->holder_was_shaken && !e->is_being_given_back)
                check_fail(c,
                           "lease not kept: event %u of node %u, that lives, is taken by node %u",
                           index, e->holder_node, h->node);
            e->deaths++;
        }
        e->deaths += e->vain;
        e->vain = 0;
        e->may_run_again = e->may_run_again || e->runs > 0;
        e->not_before_us = INT64_MIN;
        break;
    }
    e->bounced = e->bounced || (!same && e->held_by_life[h->node] == h->life);
    e->held_by_life[h->node] = h->life;
    e->handed = true;
    e->how = h->how;
    e->id = h->id;
    e->holder_node = h->node;
    e->holder_life = h->life;
    e->handed_us = now_us;
    e->given_back = e->is_being_given_back = false;
}

void check_died(check *c, uint32_t node, uint32_t life, int64_t within_us, int64_t now_us) {
    for (uint32_t i = 0; i < c->count; i++) {
        check_event *e = &c->events[i];
        if (e->handed && e->how != SIM_HANDED_NEW && e->holder_node == node &&
            e->holder_life == life && now_us - e->handed_us <= within_us)
            e->taken_in_vain = true;
    }
}

/* ---- runs ---- */

static void check_attempt(check *c, uint32_t index, const tide_event *event) {
    const check_event *e = &c->events[index];
    uint32_t least = 1 + e->counted;
    /* Where the first delivery of an entry ended with its process, the last attempt is made once more. */
    uint32_t again = event->attempt == c->attempts_max && e->deaths > 0;
    if (event->attempt > c->attempts_max)
        check_fail(c, "attempts: event %u runs as attempt %u of %u", index, event->attempt,
                   c->attempts_max);
    if (e->isnt_countable)
        return;
    if (event->attempt + again + c->cuts < least && !c->clock_jumped && !e->bounced)
        check_fail(c, "attempts: event %u runs as attempt %u after %u runs", index, event->attempt,
                   e->counted);
    if (event->attempt > least + e->deaths)
        check_fail(c, "attempts: event %u runs as attempt %u after %u runs and %u deaths", index,
                   event->attempt, e->counted, e->deaths);
}

void check_run(check *c, uint32_t index, const tide_event *event, uint32_t node, uint32_t life,
               int64_t now_us) {
    check_event *e = &c->events[index];
    c->delivered++;
    mix(c, index);
    mix(c, node);
    mix(c, event->attempt);
    mix(c, (uint64_t)now_us);
    check_attempt(c, index, event);
    if (e->runs == 0 && c->in_order) {
        if (tide_id_compare(event->entry->id, c->last_first_run) <= 0)
            check_fail(c, "order: event %u first runs after a later one", index);
        c->last_first_run = event->entry->id;
    }
    if (e->runs > 0) {
        if (e->run_wants_more) {
            if (now_us < e->not_before_us && !c->clock_jumped && !e->isnt_countable)
                check_fail(c, "early: event %u runs on node %u, %lld ms before its time", index,
                           node, (long long)(e->not_before_us - now_us) / 1000);
        } else if (e->may_run_again) {
            /* below */
        } else if (e->spare > 0) {
            e->spare--;
        } else {
            check_fail(c,
                       e->run_going
                           ? "twice at once: event %u runs on node %u while node %u still runs it, "
                             "%lld ms after"
                           : "delivered without need: event %u on node %u, after node %u, %lld ms "
                             "after",
                       index, node, e->run_node, (long long)((now_us - e->run_us) / 1000));
        }
        e->may_run_again = false;
    }
    e->runs++;
    e->counted++;
    e->run_us = now_us;
    e->run_node = node;
    e->run_life = life;
    e->run_going = true;
    e->run_wants_more = false;
    e->not_before_us = INT64_MIN;
}

void check_asked(check *c, uint32_t index, uint32_t node, uint32_t life, bool counts,
                 int64_t delay_ms, int64_t now_us) {
    check_event *e = &c->events[index];
    e->verdicts++;
    if (!counts && e->counted > 0)
        e->counted--;
    if (e->run_node != node || e->run_life != life) {
        /* Somebody else runs it meanwhile: theirs is the verdict, unless the group went and both had it. */
        e->spare += e->isnt_countable;
        return;
    }
    e->run_wants_more = true;
    bool is_its_own = e->holder_node == node && e->holder_life == life;
    e->not_before_us = delay_ms > 0 && is_its_own ? now_us + delay_ms * 1000 : INT64_MIN;
}

void check_forgotten(check *c, uint32_t index) {
    check_event *e = &c->events[index];
    e->isnt_countable = true;
    e->not_before_us = INT64_MIN;
    e->spare += 1 + e->verdicts; /* moved copies lie beside it */
}

/* ---- the end ---- */

uint32_t check_open(const check *c) {
    uint32_t open = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const check_event *e = &c->events[i];
        open += !e->excused && e->publish != PUBLISH_MAYBE && e->good_runs == 0 && e->in_dead == 0;
    }
    return open;
}

static void check_dead(check *c, uint32_t index) {
    const check_event *e = &c->events[index];
    if (e->in_dead > 1 && !c->data_lost)
        check_fail(c, "written once: event %u is dead-lettered %u times", index, e->in_dead);
    if (e->isnt_countable || e->plan == PLAN_REJECT)
        return;
    if (e->counted + e->deaths < c->attempts_max)
        check_fail(c, "dead without need: event %u (plan %d) had %u runs and %u deaths of %u",
                   index, (int)e->plan, e->counted, e->deaths, c->attempts_max);
    if (c->only_killers && !e->taken_in_vain && (e->plan == PLAN_FINE || e->plan == PLAN_RELEASE))
        check_fail(c,
                   "dead without need: event %u had %u runs and %u deaths of %u, its neighbours'",
                   index, e->counted, e->deaths, c->attempts_max);
}

void check_end(check *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        const check_event *e = &c->events[i];
        if (e->publish == PUBLISH_OK && !e->excused && e->good_runs == 0 && e->in_dead == 0)
            check_fail(c, "acknowledged and lost: event %u (plan %d, %u runs)", i, (int)e->plan,
                       e->runs);
        if (e->in_stream > 1)
            check_fail(c, "written once: event %u is in the stream %u times", i, e->in_stream);
        if (e->publish == PUBLISH_OK && !e->excused && e->in_stream == 0)
            check_fail(c, "written once: event %u was published but isn't in the stream", i);
        if (e->in_dead > 0)
            check_dead(c, i);
        if (e->good_runs > 0 &&
            (e->plan == PLAN_POISON || e->plan == PLAN_REJECT || e->plan == PLAN_KILL))
            check_fail(c, "the simulator is wrong: event %u can't be handled", i);
        if (c->no_fault && e->plan == PLAN_FINE && e->runs > 1)
            check_fail(c, "delivered without need: event %u ran %u times without a fault", i,
                       e->runs);
    }
}
