/* SPDX-License-Identifier: MIT */
/*
 * What it is: the checkers of the simulator; each failure is one line that names the rule and the event.
 * What it is not: a look into the engine; it sees what a handler sees, and what is written in the end.
 * Invariants: the first failure stays; a rule that a fault excuses is excused only for events that it can have touched.
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

void check_run(check *c, uint32_t index, const tide_event *event, uint32_t node, uint32_t life,
               bool last_is_alive, int64_t now_us) {
    check_event *e = &c->events[index];
    c->delivered++;
    mix(c, index);
    mix(c, node);
    mix(c, event->attempt);
    mix(c, (uint64_t)now_us);
    if (event->attempt > c->attempts_max)
        check_fail(c, "attempts: event %u runs as attempt %u of %u", index, event->attempt,
                   c->attempts_max);
    if (e->runs == 0 && c->in_order) {
        if (tide_id_compare(event->entry->id, c->last_first_run) <= 0)
            check_fail(c, "order: event %u first runs after a later one", index);
        c->last_first_run = event->entry->id;
    }
    if (e->runs > 0 && !e->run_wants_more && !c->data_lost) {
        /* The server itself never lets a lease be taken before its end. So there must have been something that kept
         * it from being renewed. */
        int64_t since = now_us - e->run_us;
        /* An ack takes the event away from whoever claimed it; a reject by then is the owner's only, who may keep it waiting for
         * any time. */
        int64_t claimed_us = e->plan == PLAN_REJECT ? e->run_us : now_us;
        bool felt =
            c->last_fault_us > INT64_MIN && c->last_fault_us >= claimed_us - c->fault_lasts_us;
        bool lease_over = felt && node != e->run_node;
        /* A jump of the server's clock hands it to a peer, and another one, or the peer's release, hands it back. */
        if (felt && node == e->run_node)
            lease_over = since >= c->lease_us || c->last_clock_us >= e->run_us;
        /* The peer that claimed it has moved it: whoever doesn't know that yet may hold the original beside the copy. */
        if (felt && tide_id_compare(event->entry->id, e->run_id) != 0)
            lease_over = true;
        if (last_is_alive && !lease_over)
            check_fail(c,
                       e->run_going ? "twice at once: event %u runs on node %u while node %u still "
                                      "runs it, %lld ms after"
                                    : "delivered without need: event %u on node %u, after node %u, "
                                      "%lld ms after",
                       index, node, e->run_node, (long long)(since / 1000));
    }
    e->runs++;
    e->run_us = now_us;
    e->run_id = event->entry->id;
    e->run_node = node;
    e->run_life = life;
    e->run_going = true;
    e->run_wants_more = false;
}

uint32_t check_open(const check *c) {
    uint32_t open = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const check_event *e = &c->events[i];
        open += !e->excused && e->publish != PUBLISH_MAYBE && e->good_runs == 0 && e->in_dead == 0;
    }
    return open;
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
        if (e->in_dead > 1 && !c->data_lost)
            check_fail(c, "written once: event %u is dead-lettered %u times", i, e->in_dead);
        if (e->in_dead > 0 && e->plan != PLAN_REJECT && !c->data_lost &&
            e->runs + c->faults < c->attempts_max)
            check_fail(c, "dead without need: event %u (plan %d) had %u runs of %u, %u faults", i,
                       (int)e->plan, e->runs, c->attempts_max, c->faults);
        if (e->in_dead > 0 && e->runs == 0 && c->faults < c->attempts_max && !c->data_lost)
            check_fail(c, "dead without need: event %u never ran", i);
        if (e->good_runs > 0 && (e->plan == PLAN_POISON || e->plan == PLAN_REJECT))
            check_fail(c, "the simulator is wrong: event %u can't be handled", i);
        if (c->in_order && e->plan == PLAN_FINE && e->runs > 1)
            check_fail(c, "delivered without need: event %u ran %u times without a fault", i,
                       e->runs);
    }
}
