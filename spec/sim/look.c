/* SPDX-License-Identifier: MIT */
/*
 * What it is: a look at what is written, in the simulated server or in the file: streams, dead letters, what is pending.
 * What it is not: a judgement; check.c has the rules.
 * Invariants: looking changes nothing that anybody could see.
 */
#include "world.h"

uint32_t sim__index_of_text(const world *w, tide_str value) {
    uint64_t number;
    if (value.len < 2 || !tide_u64_parse((tide_str){value.data + 1, value.len - 1}, &number) ||
        number >= w->check.count)
        return UINT32_MAX;
    return (uint32_t)number;
}

void sim__visit_stream(void *context, tide_id id, tide_str value) {
    world *w = context;
    (void)id;
    uint32_t i = sim__index_of_text(w, value);
    if (i != UINT32_MAX)
        w->check.events[i].in_stream++;
}

static void visit_dead(void *context, tide_id id, tide_str value) {
    world *w = context;
    (void)id;
    uint32_t i = sim__index_of_text(w, value);
    if (i != UINT32_MAX)
        w->check.events[i].in_dead++;
}

/* Runs one command on the publisher's engine to its end; on the embedded engine only. */
static void ask_file(world *w, const tide_str *args, size_t count,
                     void (*read)(world *w, const tide_reply *reply, void *context),
                     void *context) {
    node *n = &w->nodes[0];
    tide_op op = {.kind = TIDE_OP_COMMAND,
                  .tag = UINT64_C(1) << 62,
                  .as.command = {.args = args, .arg_count = count}};
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
        } else {
            read(w, reply, context);
        }
        return;
    }
    check_fail(&w->check, "the embedded engine doesn't answer");
}

typedef void visit_fn(void *context, tide_id id, tide_str value);

static void read_entries(world *w, const tide_reply *reply, void *context) {
    visit_fn **visit = context;
    for (size_t i = 0; i < reply->as.array.count; i++) {
        const tide_reply *list = &reply->as.array.items[i].as.array.items[1];
        tide_str value = {"", 0};
        for (size_t k = 0; k + 1 < list->as.array.count; k += 2) {
            if (tide_str_equal(list->as.array.items[k].as.text, TIDE_STR("event_id")))
                value = list->as.array.items[k + 1].as.text;
            if (tide_str_equal(list->as.array.items[k].as.text, TIDE_STR("tide_attempt")))
                value.len = 0, k = list->as.array.count;
        }
        (*visit)(w, (tide_id){0, 0}, value);
    }
}

static void each_of_file(world *w, tide_str stream, visit_fn *visit) {
    tide_str args[] = {TIDE_STR("XRANGE"), stream, TIDE_STR("-"), TIDE_STR("+")};
    ask_file(w, args, 4, read_entries, &visit);
}

static void read_pending(world *w, const tide_reply *reply, void *context) {
    (void)w;
    if (reply->as.array.count > 0)
        *(size_t *)context = (size_t)reply->as.array.items[0].as.integer;
}

static size_t pending_of_file(world *w) {
    tide_str args[] = {TIDE_STR("XPENDING"), STREAM, GROUP};
    size_t count = 0;
    ask_file(w, args, 3, read_pending, &count);
    return count;
}

size_t sim__pending(world *w) {
    return w->options.file ? pending_of_file(w)
                           : sim_server_pending(w->server, STREAM, GROUP, NULL, 0);
}

void sim__look(world *w) {
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

void sim__note_settled(world *w) {
    uint32_t last = w->settled_count - 1;
    if (w->options.file ||
        (w->settled_count > 0 && w->settled[last % SETTLED_MAX].at_us > w->now_us - 250000))
        return;
    sim_pending first;
    tide_id id;
    if (sim_server_pending(w->server, STREAM, GROUP, &first, 1) == 0) {
        id = sim_server_read_up_to(w->server, STREAM, GROUP);
    } else {
        id = (tide_id){first.id.ms - 1, UINT64_MAX};
        if (first.id.seq > 0)
            id = (tide_id){first.id.ms, first.id.seq - 1};
    }
    w->settled[w->settled_count % SETTLED_MAX].at_us = w->now_us;
    w->settled[w->settled_count % SETTLED_MAX].id = id;
    w->settled_count++;
}

tide_id sim__settled_at(const world *w, int64_t at_us) {
    for (uint32_t i = w->settled_count; i > 0 && i + SETTLED_MAX > w->settled_count; i--) {
        if (w->settled[(i - 1) % SETTLED_MAX].at_us <= at_us)
            return w->settled[(i - 1) % SETTLED_MAX].id;
    }
    return (tide_id){0, 0};
}
