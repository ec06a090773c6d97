/* SPDX-License-Identifier: MIT */
/*
 * What it is: the fake broker's vtable.
 * What it is not: an engine's adapter.
 * Invariants: it aborts when the driver breaks the port's rules: feeding or closing a link that isn't open, opening one twice.
 */
#include "fake_broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static fake_broker broker_memory;

static fake_broker *self(tide_broker *base) {
    return (fake_broker *)(void *)base;
}

static void require(bool condition) {
    if (!condition)
        abort();
}

static void destroy(tide_broker *base) {
    self(base)->destroyed = true;
}

static tide_status submit(tide_broker *base, const tide_op *op, int64_t now_us, tide_error *error) {
    (void)base;
    (void)op;
    (void)now_us;
    return tide_error_set(error, TIDE_UNSUPPORTED, "a fake");
}

static bool next_completion(tide_broker *base, tide_completion *completion) {
    (void)base;
    (void)completion;
    return false;
}

static void reader_call(tide_broker *base, uint32_t reader, int64_t now_us) {
    (void)base;
    (void)reader;
    (void)now_us;
}

static void tick(tide_broker *base, int64_t now_us) {
    self(base)->ticks++;
    if (now_us >= self(base)->deadline_us)
        self(base)->deadline_us = INT64_MAX;
}

static int64_t deadline_us(const tide_broker *base) {
    return ((const fake_broker *)(const void *)base)->deadline_us;
}

static bool next_link_want(tide_broker *base, tide_link_want *want) {
    for (uint32_t i = 0; i < FAKE_LINKS; i++) {
        fake_link *link = &self(base)->links[i];
        if (link->wants_close) {
            link->wants_close = false;
            link->is_up = false;
            *want = (tide_link_want){.link = i, .action = TIDE_LINK_CLOSE};
            return true;
        }
        if (link->wants_open) {
            link->wants_open = false;
            *want =
                (tide_link_want){.link = i, .action = TIDE_LINK_OPEN, .endpoint = link->endpoint};
            return true;
        }
    }
    return false;
}

static void link_opened(tide_broker *base, uint32_t number, int64_t now_us) {
    (void)now_us;
    fake_link *link = &self(base)->links[number];
    require(!link->is_up);
    link->is_up = true;
    link->opened++;
}

static void link_closed(tide_broker *base, uint32_t number, const tide_error *why, int64_t now_us) {
    (void)now_us;
    fake_link *link = &self(base)->links[number];
    require(why->status != TIDE_OK);
    link->is_up = false;
    link->closed++;
    link->why = *why;
}

static void feed(tide_broker *base, uint32_t number, const char *bytes, size_t size,
                 int64_t now_us) {
    (void)now_us;
    fake_link *link = &self(base)->links[number];
    require(link->is_up && size > 0);
    link->fed += size;
    link->feeds++;
    if (size > link->fed_max)
        link->fed_max = size;
    size_t kept = size < sizeof link->last ? size : sizeof link->last;
    memset(link->last, 0, sizeof link->last);
    memcpy(link->last, bytes + size - kept, kept);
    if (link->closes_itself) {
        link->wants_close = true;
        link->is_up = false;
    }
}

static tide_str output(tide_broker *base, uint32_t number) {
    const fake_link *link = &self(base)->links[number];
    return (tide_str){link->output, link->output_size};
}

static void output_ack(tide_broker *base, uint32_t number, size_t size, int64_t now_us) {
    (void)now_us;
    fake_link *link = &self(base)->links[number];
    require(link->is_up && size <= link->output_size);
    link->output += size;
    link->output_size -= size;
}

static void run_job(tide_job *job) {
    fake_job *fake = (fake_job *)(void *)job;
    require(!fake->was_run);
    fake->was_run = true;
    if (fake->work != NULL)
        fake->work(fake);
}

static tide_job *take_job(tide_broker *base, int64_t now_us) {
    (void)now_us;
    fake_broker *broker = self(base);
    if (broker->job_next == broker->job_count)
        return NULL;
    fake_job *job = broker->jobs[broker->job_next++];
    job->job.run = run_job;
    return &job->job;
}

static void finish_job(tide_broker *base, tide_job *job, int64_t now_us) {
    (void)now_us;
    fake_job *fake = (fake_job *)(void *)job;
    require(fake->was_run && !fake->finished);
    require(self(base)->jobs[self(base)->jobs_finished] == fake); /* in order */
    fake->finished = true;
    self(base)->jobs_finished++;
}

static tide_status state(const tide_broker *base, tide_error *error) {
    (void)base;
    (void)error;
    return TIDE_OK;
}

fake_broker *fake_broker_create(bool jobs, bool jobs_block) {
    fake_broker *made = &broker_memory;
    memset(made, 0, sizeof *made);
    made->vtable = (tide_broker_vtable){
        .name = "fake",
        .jobs_block = jobs_block,
        .destroy = destroy,
        .submit = submit,
        .next_completion = next_completion,
        .interrupt = reader_call,
        .drop_reader = reader_call,
        .tick = tick,
        .deadline_us = deadline_us,
        .state = state,
    };
    if (jobs) {
        made->vtable.take_job = take_job;
        made->vtable.finish_job = finish_job;
    } else {
        made->vtable.next_link_want = next_link_want;
        made->vtable.link_opened = link_opened;
        made->vtable.link_closed = link_closed;
        made->vtable.feed = feed;
        made->vtable.output = output;
        made->vtable.output_ack = output_ack;
    }
    made->base.vtable = &made->vtable;
    made->deadline_us = INT64_MAX;
    return made;
}
