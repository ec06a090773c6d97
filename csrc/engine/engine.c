/* SPDX-License-Identifier: MIT */
/*
 * What it is: one broker with its subscriptions: makes the adapter that the URL names, hands each completion to whom it
 * belongs, hands out events in turn, keeps the life of subscriptions.
 * What it is not: delivery (consumer/), bytes or files (broker/), a loop (runtime/).
 *
 * Completions come out of the broker in one queue, those of subscriptions among those of the caller. `route` takes them
 * out: the former are handled at once, the first of the latter is kept in `stash` until the caller asks, and nothing
 * behind it is looked at meanwhile, because a completion's pointers end with the next one asked for.
 *
 * Invariants (tide__engine_check):
 *   1. consumers[n] ≠ NULL exactly when n is in live[0 … live_count-1], once; every live one has number n.
 *   2. a leaving one is destroyed as soon as it is idle, and never inside one of its own calls.
 *   3. `under_way` is the number of the caller's operations submitted and not yet answered.
 */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/text.h"
#include "consumer/consumer.h"

struct tide_engine {
    tide_broker *broker;
    tide_env env;
    int64_t wall_offset_us;
    tide_url url;
    tide_url_options url_options;

    tide_consumer **consumers; /* by number; [0] unused */
    tide_crew crew;            /* all of them */
    bool *leaving;
    uint32_t *live;
    uint32_t live_count;
    uint32_t capacity; /* of the three */
    uint32_t last_number;
    uint32_t turn; /* index into live: whose event is looked at first */
    uint32_t leaving_count;
    uint64_t serial; /* handles given by subscriptions that are gone are not above it */

    tide_completion stash;
    bool stashed;
    uint64_t routed; /* completions so far */
    uint64_t under_way;
    bool owns_url;
};

enum { CAPACITY_MIN = 8 };

/* ---- life ---- */

static tide_status open_with(tide_engine **engine, tide_broker *broker, const tide_env *env,
                             tide_error *error) {
    tide_allocator alloc = tide_allocator_or_default(env->allocator);
    tide_engine *made = tide_alloc_zero(&alloc, 1, sizeof *made);
    if (made == NULL) {
        broker->vtable->destroy(broker);
        return tide_error_set(error, TIDE_ENOMEM, "no memory for an engine");
    }
    made->broker = broker;
    made->env = *env;
    made->env.allocator = alloc;
    *engine = made;
    return TIDE_OK;
}

tide_status tide_engine_open_with(tide_engine **engine, tide_broker *broker, const tide_env *env,
                                  tide_error *error) {
    return open_with(engine, broker, env, error);
}

tide_status tide_engine_open(tide_engine **engine, const tide_engine_options *options,
                             tide_error *error) {
    tide_env env = options->env;
    env.allocator = tide_allocator_or_default(env.allocator);
    tide_url url;
    tide_status status = tide_url_parse(&url, &env.allocator, options->url, error);
    if (status != TIDE_OK)
        return status;
    tide_url_options parsed;
    tide_broker *broker = NULL;
    if (options->option_count > 0)
        status = tide_url_merge(&url, options->options, options->option_count, error);
    if (status == TIDE_OK)
        status = tide_url_options_parse(&parsed, &url, error);
    if (status == TIDE_OK) {
        tide_broker_options broker_options = {.url = &url,
                                              .url_options = &parsed,
                                              .env = env,
                                              .wall_offset_us = options->wall_offset_us};
        bool embedded = url.scheme == TIDE_SCHEME_MEMORY || url.scheme == TIDE_SCHEME_FILE;
        status = embedded ? tide_broker_sqlite_create(&broker, &broker_options, error)
                          : tide_broker_redis_create(&broker, &broker_options, error);
    }
    tide_engine *made = NULL;
    if (status == TIDE_OK)
        status = open_with(&made, broker, &env, error);
    if (status != TIDE_OK) {
        tide_url_deinit(&url);
        return status;
    }
    made->wall_offset_us = options->wall_offset_us;
    made->url = url;
    made->url_options = parsed;
    made->owns_url = true;
    *engine = made;
    return TIDE_OK;
}

void tide_engine_close(tide_engine *engine) {
    if (engine == NULL)
        return;
    tide_allocator alloc = engine->env.allocator;
    if (engine->stashed)
        tide__completion_release(&engine->stash);
    for (uint32_t i = 0; i < engine->live_count; i++)
        tide_consumer_destroy(engine->consumers[engine->live[i]]);
    engine->broker->vtable->destroy(engine->broker);
    tide_free(&alloc, engine->consumers, engine->capacity * sizeof *engine->consumers);
    tide_free(&alloc, engine->leaving, engine->capacity * sizeof *engine->leaving);
    tide_free(&alloc, engine->live, engine->capacity * sizeof *engine->live);
    if (engine->owns_url)
        tide_url_deinit(&engine->url);
    tide_free(&alloc, engine, sizeof *engine);
}

tide_broker *tide_engine_broker(tide_engine *engine) {
    return engine->broker;
}

const tide_url_options *tide_engine_url_options(const tide_engine *engine) {
    return &engine->url_options;
}

void tide__engine_wall_offset(tide_engine *engine, int64_t wall_offset_us) {
    engine->wall_offset_us = wall_offset_us;
}

/* ---- completions ---- */

static tide_consumer *consumer_of(const tide_engine *engine, uint32_t number) {
    return number > 0 && number < engine->capacity ? engine->consumers[number] : NULL;
}

static void reap(tide_engine *engine) {
    for (uint32_t i = 0; i < engine->live_count && engine->leaving_count > 0;) {
        uint32_t number = engine->live[i];
        tide_consumer *consumer = engine->consumers[number];
        /* A subscription that stopped by itself stays, so that its state can be read. */
        if (!engine->leaving[number] || !tide_consumer_is_idle(consumer)) {
            i++;
            continue;
        }
        if (tide__consumer_serial(consumer) > engine->serial)
            engine->serial = tide__consumer_serial(consumer);
        tide_consumer_destroy(consumer);
        engine->consumers[number] = NULL;
        engine->leaving[number] = false;
        engine->leaving_count--;
        /* The order of the others is their turn: it stays. */
        engine->live_count--;
        for (uint32_t j = i; j < engine->live_count; j++)
            engine->live[j] = engine->live[j + 1];
        if (engine->turn > i)
            engine->turn--;
    }
    if (engine->turn >= engine->live_count)
        engine->turn = 0;
}

static void route(tide_engine *engine, int64_t now_us) {
    tide_broker *broker = engine->broker;
    tide_completion completion;
    while (!engine->stashed && broker->vtable->next_completion(broker, &completion)) {
        engine->routed++;
        if (completion.tag < TIDE_CONSUMER_TAG_BASE) {
            engine->stash = completion;
            engine->stashed = true;
            return;
        }
        uint32_t number = (uint32_t)((completion.tag & ~TIDE_CONSUMER_TAG_BASE) >> 32);
        tide_consumer *consumer = consumer_of(engine, number);
        if (consumer == NULL) {
            tide__completion_release(&completion);
        } else {
            tide_consumer_complete(consumer, &completion, now_us);
            if (engine->leaving_count > 0)
                reap(engine);
        }
    }
}

bool tide_engine_next_completion(tide_engine *engine, int64_t now_us, tide_completion *completion) {
    route(engine, now_us);
    if (!engine->stashed)
        return false;
    *completion = engine->stash;
    engine->stashed = false;
    engine->under_way--;
    return true;
}

bool tide_engine_has_completion(tide_engine *engine, int64_t now_us) {
    route(engine, now_us);
    return engine->stashed;
}

uint64_t tide_engine_routed(const tide_engine *engine) {
    return engine->routed;
}

/* A delayed event of this stream will be due: who consumes it here looks in time. */
static void note_due(tide_engine *engine, const tide_op_publish *publish, int64_t now_us) {
    int64_t due_us;
    if (publish->due_ms != 0) {
        if (publish->due_ms > INT64_MAX / 1000)
            return;
        due_us = publish->due_ms * 1000 - engine->wall_offset_us;
    } else if (publish->delay_ms > 0 && publish->delay_ms < INT64_MAX / 2000) {
        due_us = now_us + publish->delay_ms * 1000;
    } else {
        return;
    }
    due_us += 1000; /* the engine counts in whole ms */
    for (uint32_t i = 0; i < engine->live_count; i++) {
        tide_consumer *consumer = engine->consumers[engine->live[i]];
        if (tide_str_equal(tide__consumer_stream(consumer), publish->stream))
            tide__consumer_note_due(consumer, due_us);
    }
}

tide_status tide_engine_submit(tide_engine *engine, const tide_op *op, int64_t now_us,
                               tide_error *error) {
    if (op->tag >= TIDE_CONSUMER_TAG_BASE)
        return tide_error_set(error, TIDE_ARGUMENT, "the tag of an operation must be below 2^63");
    tide_status status = engine->broker->vtable->submit(engine->broker, op, now_us, error);
    if (status != TIDE_OK)
        return status;
    engine->under_way++;
    if (op->kind == TIDE_OP_PUBLISH)
        note_due(engine, &op->as.publish, now_us);
    return TIDE_OK;
}

/* ---- subscriptions ---- */

static tide_status reserve(tide_engine *engine) {
    if (engine->live_count + 1 < engine->capacity)
        return TIDE_OK;
    uint32_t capacity = engine->capacity > 0 ? engine->capacity * 2 : CAPACITY_MIN;
    if (capacity > TIDE_CONSUMERS_MAX + 1)
        capacity = TIDE_CONSUMERS_MAX + 1;
    const tide_allocator *alloc = &engine->env.allocator;
    tide_consumer **consumers = tide_alloc_zero(alloc, capacity, sizeof *consumers);
    bool *leaving = tide_alloc_zero(alloc, capacity, sizeof *leaving);
    uint32_t *live = tide_alloc_zero(alloc, capacity, sizeof *live);
    if (consumers == NULL || leaving == NULL || live == NULL) {
        tide_free(alloc, consumers, capacity * sizeof *consumers);
        tide_free(alloc, leaving, capacity * sizeof *leaving);
        tide_free(alloc, live, capacity * sizeof *live);
        return TIDE_ENOMEM;
    }
    if (engine->capacity > 0) {
        memcpy(consumers, engine->consumers, engine->capacity * sizeof *consumers);
        memcpy(leaving, engine->leaving, engine->capacity * sizeof *leaving);
        memcpy(live, engine->live, engine->capacity * sizeof *live);
    }
    tide_free(alloc, engine->consumers, engine->capacity * sizeof *consumers);
    tide_free(alloc, engine->leaving, engine->capacity * sizeof *leaving);
    tide_free(alloc, engine->live, engine->capacity * sizeof *live);
    engine->consumers = consumers;
    engine->leaving = leaving;
    engine->live = live;
    engine->capacity = capacity;
    return TIDE_OK;
}

tide_status tide_engine_subscribe(tide_engine *engine, const tide_consumer_options *options,
                                  int64_t now_us, uint32_t *consumer, tide_error *error) {
    if (engine->live_count >= TIDE_CONSUMERS_MAX)
        return tide_error_set(error, TIDE_LIMIT, "more than %d subscriptions", TIDE_CONSUMERS_MAX);
    if (reserve(engine) != TIDE_OK)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for a subscription");
    uint32_t number = engine->last_number;
    do {
        number = number + 1 < engine->capacity ? number + 1 : 1;
    } while (engine->consumers[number] != NULL);
    tide_consumer *made;
    tide_status status =
        tide_consumer_create(&made, number, options, engine->broker, &engine->env, error);
    if (status != TIDE_OK)
        return status;
    tide__consumer_begin(made, engine->wall_offset_us, engine->serial);
    tide__consumer_join(made, &engine->crew);
    engine->consumers[number] = made;
    engine->live[engine->live_count++] = number;
    engine->last_number = number;
    *consumer = number;
    tide_consumer_tick(made, now_us);
    return TIDE_OK;
}

tide_status tide_engine_unsubscribe(tide_engine *engine, uint32_t consumer, bool abandon,
                                    int64_t now_us) {
    tide_consumer *found = consumer_of(engine, consumer);
    if (found == NULL)
        return TIDE_NOTFOUND;
    if (!engine->leaving[consumer]) {
        engine->leaving[consumer] = true;
        engine->leaving_count++;
    }
    if (abandon) {
        tide_consumer_abandon(found, now_us);
    } else {
        tide_consumer_stop(found, now_us);
    }
    reap(engine);
    return TIDE_OK;
}

bool tide_engine_next_event(tide_engine *engine, uint32_t consumer, int64_t now_us,
                            tide_event *event) {
    if (consumer != 0) {
        tide_consumer *found = consumer_of(engine, consumer);
        return found != NULL && tide_consumer_next(found, now_us, event);
    }
    uint32_t count = engine->live_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = engine->turn;
        engine->turn = at + 1 < count ? at + 1 : 0;
        if (tide_consumer_next(engine->consumers[engine->live[at]], now_us, event))
            return true;
    }
    return false;
}

bool tide_engine_has_event(const tide_engine *engine) {
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (tide_consumer_has_event(engine->consumers[engine->live[i]]))
            return true;
    return false;
}

bool tide_engine_is_to_be_asked(const tide_engine *engine) {
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (tide_consumer_has_suspect(engine->consumers[engine->live[i]]))
            return true;
    return tide_engine_has_event(engine);
}

tide_status tide_engine_settle(tide_engine *engine, uint32_t consumer, uint64_t handle,
                               const tide_verdict *verdict, int64_t now_us) {
    tide_consumer *found = consumer_of(engine, consumer);
    if (found == NULL)
        return TIDE_NOTFOUND;
    return tide_consumer_settle(found, handle, verdict, now_us);
}

tide_status tide_engine_crash_limit(tide_engine *engine, uint32_t consumer, uint32_t attempts_max) {
    tide_consumer *found = consumer_of(engine, consumer);
    if (found == NULL)
        return TIDE_NOTFOUND;
    tide_consumer_crash_limit(found, attempts_max);
    return TIDE_OK;
}

void tide_engine_flush(tide_engine *engine, int64_t now_us) {
    for (uint32_t i = 0; i < engine->live_count; i++)
        tide_consumer_flush(engine->consumers[engine->live[i]], now_us);
}

tide_status tide_engine_stats_of(const tide_engine *engine, uint32_t consumer,
                                 tide_consumer_stats *stats) {
    const tide_consumer *found = consumer_of(engine, consumer);
    if (found == NULL)
        return TIDE_NOTFOUND;
    tide_consumer_stats_get(found, stats);
    return TIDE_OK;
}

bool tide_engine_is_idle(const tide_engine *engine) {
    return engine->live_count == 0 && engine->under_way == 0;
}

uint64_t tide_engine_under_way(const tide_engine *engine) {
    return engine->under_way;
}

tide_status tide_engine_state(const tide_engine *engine, tide_error *error) {
    tide_error unused;
    return engine->broker->vtable->state(engine->broker, error != NULL ? error : &unused);
}

/* ---- time ---- */

void tide_engine_tick(tide_engine *engine, int64_t now_us) {
    engine->broker->vtable->tick(engine->broker, now_us);
    route(engine, now_us);
    for (uint32_t i = 0; i < engine->live_count; i++)
        tide_consumer_tick(engine->consumers[engine->live[i]], now_us);
    if (engine->leaving_count > 0)
        reap(engine);
}

int64_t tide_engine_deadline_us(const tide_engine *engine) {
    if (engine->stashed)
        return INT64_MIN;
    int64_t deadline = engine->broker->vtable->deadline_us(engine->broker);
    for (uint32_t i = 0; i < engine->live_count; i++) {
        int64_t due = tide_consumer_deadline_us(engine->consumers[engine->live[i]]);
        if (due < deadline)
            deadline = due;
    }
    return deadline;
}

void tide__engine_check(const tide_engine *engine) {
    uint32_t found = 0, leaving = 0;
    for (uint32_t i = 0; i < engine->capacity; i++) {
        found += engine->consumers[i] != NULL;
        leaving += engine->leaving[i];
        TIDE_ASSERT(!engine->leaving[i] || engine->consumers[i] != NULL);
    }
    TIDE_ASSERT(found == engine->live_count && leaving == engine->leaving_count);
    for (uint32_t i = 0; i < engine->live_count; i++) {
        TIDE_ASSERT(engine->consumers[engine->live[i]] != NULL);
        for (uint32_t j = i + 1; j < engine->live_count; j++)
            TIDE_ASSERT(engine->live[i] != engine->live[j]);
        tide__consumer_check(engine->consumers[engine->live[i]]);
    }
    TIDE_ASSERT(engine->live_count == 0 || engine->turn < engine->live_count);
}
