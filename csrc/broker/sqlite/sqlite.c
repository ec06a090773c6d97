/* SPDX-License-Identifier: MIT */
/*
 * What it is: the embedded engine's object: the port's functions over jobs and waits.
 * What it is not: SQL; that is the job's side (internal.h says who owns what).
 * Invariants:
 *   1. One job runs at a time; it owns the store. While it runs, operations gather in the next one.
 *   2. A job's memory lives until its last completion has been handed out and the next one is asked for.
 *   3. op_count operations were taken in and not yet handed out as completions; at most TIDE_OPS_MAX.
 *
 *   free --> filling --> ready --take_job--> running --finish_job--> done --last completion--> free
 */
#include "broker/sqlite/internal.h"

static tide__sq_broker *self(tide_broker *broker) {
    return (tide__sq_broker *)(void *)broker;
}
static const tide__sq_broker *self_const(const tide_broker *broker) {
    return (const tide__sq_broker *)(const void *)broker;
}

static void see_time(tide__sq_broker *broker, int64_t now_us) {
    if (now_us > broker->now_us)
        broker->now_us = now_us;
}

/* ---- jobs ---- */

static void free_job(tide__sq_broker *broker, tide__sq_job *job) {
    for (tide__sq_work *work = job->first; work != NULL; work = work->next) {
        if (work->op.kind == TIDE_OP_FETCH || work->op.kind == TIDE_OP_RECOVER)
            tide_batch_release(work->out.read.batch);
    }
    tide_arena_deinit(&job->arena);
    tide_free(&broker->alloc, job, sizeof *job);
}

static void recycle_job(tide__sq_broker *broker, tide__sq_job *job) {
    enum { ARENA_KEPT_MAX = 1024 * 1024 };
    if (broker->free_count >= TIDE__SQ_JOBS_KEPT) {
        tide_arena_deinit(&job->arena);
        tide_free(&broker->alloc, job, sizeof *job);
        return;
    }
    if (job->arena.used > ARENA_KEPT_MAX) {
        tide_arena_deinit(&job->arena);
        tide_arena_init(&job->arena, &broker->alloc, TIDE__SQ_JOB_BLOCK);
    } else {
        tide_arena_reset(&job->arena);
    }
    job->next = broker->free_jobs;
    broker->free_jobs = job;
    broker->free_count++;
}

/* How many commits the file's journal has seen, by its index in shared memory: no system call, no lock. False when SQLite
 * has none there. The place is a promise: https://sqlite.org/walformat.html, "WAL-Index Header", iChange. */
static bool count_commits(tide__sq_store *store, uint32_t *count) {
    enum { REGION_SIZE = 32768, CHANGE_AT = 8 / sizeof(uint32_t) };
    sqlite3_file *file = NULL;
    if (sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK ||
        file == NULL || file->pMethods == NULL || file->pMethods->iVersion < 2)
        return false;
    void volatile *region = NULL;
    if (file->pMethods->xShmMap(file, 0, REGION_SIZE, 0, &region) != SQLITE_OK || region == NULL)
        return false;
    *count = __atomic_load_n((volatile uint32_t *)region + CHANGE_AT, __ATOMIC_ACQUIRE);
    return true;
}

/* Has another process committed? While no job runs the store is ours, and the answer lies in shared memory, so this is
 * asked here: a job for it would cost ten times the time. What has changed is seen by the next job, which drops its cache.
 * SQLite is asked when the number of commits is another than before it was last asked, and once a second in any case: a
 * journal that was recovered after a crash counts anew. */
static void look_elsewhere(tide__sq_broker *broker) {
    tide__sq_store *store = &broker->store;
    if (store->path == NULL || broker->running != NULL || broker->waiting_count == 0 ||
        broker->now_us < broker->next_poll_us)
        return;
    broker->next_poll_us = broker->now_us + TIDE__SQ_POLL_US;
    if (store->health == TIDE__SQ_CLOSED) {
        broker->asked_us = 0;
        tide__sq_wait_wake_all(
            broker); /* closed after trouble: their job opens it again, or fails */
        return;
    }
    uint32_t commits = 0;
    bool counted = broker->asked_us != 0 && count_commits(store, &commits);
    if (counted && commits == broker->commits_asked &&
        broker->now_us - broker->asked_us < TIDE__SQ_ASK_US)
        return;
    int64_t version = store->data_version;
    sqlite3_busy_timeout(store->db, 0); /* the loop waits for nobody */
    tide_status status = tide__sq_integer(store, TIDE__SQ_DATA_VERSION, &version);
    tide__sq_set_patience(store);
    broker->commits_asked = commits;
    broker->asked_us = status == TIDE_OK ? broker->now_us : 0;
    if (status != TIDE_OK)
        tide_error_clear(&store->failure); /* if it lasts, a job will meet it */
    else if (version != store->data_version) {
        broker->seen_elsewhere++;
        tide__sq_wait_wake_all(broker);
    }
}

static tide_job *take_job(tide_broker *base, int64_t now_us) {
    tide__sq_broker *broker = self(base);
    see_time(broker, now_us);
    if (broker->running != NULL)
        return NULL;
    look_elsewhere(broker);
    tide__sq_wait_tick(broker);
    bool works = broker->ready != NULL && broker->ready->first != NULL;
    if (!works && !broker->open_wanted)
        return NULL;
    /* One without works opens the store. */
    tide__sq_job *job = broker->ready != NULL ? broker->ready : tide__sq_new_job(broker);
    if (job == NULL)
        return NULL;
    broker->ready = job->next;
    if (broker->filling == job)
        broker->filling = NULL;
    job->next = NULL;
    job->now_us = broker->now_us;
    job->now_ms = (broker->now_us + broker->wall_offset_us) / 1000;
    broker->open_wanted = false;
    broker->running = job;
    return &job->base;
}

static void finish_job(tide_broker *base, tide_job *finished, int64_t now_us) {
    tide__sq_broker *broker = self(base);
    tide__sq_job *job = (tide__sq_job *)(void *)finished;
    see_time(broker, now_us);
    broker->running = NULL;
    broker->queued_bytes -= job->bytes;
    broker->next_poll_us = broker->now_us + TIDE__SQ_POLL_US;
    broker->opened = true;
    broker->seen_elsewhere += job->changed_elsewhere;
    if (job->store_status != TIDE_OK)
        broker->state = job->store_error;
    else
        tide_error_clear(&broker->state);
    tide__sq_wait_after(broker, job);
    job->drained = job->first;
    if (job->first == NULL) {
        recycle_job(broker, job);
        return;
    }
    *broker->done_last = job;
    broker->done_last = &job->next;
}

/* ---- completions ---- */

static void fill_completion(const tide__sq_work *work, tide_completion *completion) {
    const tide_op *op = &work->op;
    *completion = (tide_completion){.kind = op->kind, .tag = op->tag, .status = work->status};
    if (work->status != TIDE_OK) {
        if (work->error != NULL)
            completion->error = *work->error;
        else
            tide_error_set(&completion->error, work->status, "%s", tide_status_text(work->status));
    }
    switch (op->kind) {
    case TIDE_OP_PUBLISH:
        completion->as.publish.results = work->out.publish.results;
        completion->as.publish.count = op->as.publish.record_count;
        completion->as.publish.version = work->out.publish.version;
        break;
    case TIDE_OP_CANCEL: completion->as.cancel.cancelled = work->out.flag; break;
    case TIDE_OP_PROMOTE:
        completion->as.promote.moved = work->out.promote.moved;
        completion->as.promote.next_due_ms = work->out.promote.next_due_ms;
        break;
    case TIDE_OP_GROUP_ENSURE: completion->as.group_ensure.created = work->out.flag; break;
    case TIDE_OP_FETCH: completion->as.fetch.batch = work->out.read.batch; break;
    case TIDE_OP_RECOVER:
        completion->as.recover.batch = work->out.read.batch;
        completion->as.recover.cursor = work->out.read.cursor;
        completion->as.recover.deleted = work->out.read.deleted;
        break;
    case TIDE_OP_SETTLE:
        completion->as.settle.results = work->out.settle;
        completion->as.settle.count = op->as.settle.item_count;
        break;
    case TIDE_OP_EXTEND:
        completion->as.extend.lost = work->out.extend.lost;
        completion->as.extend.lost_count = work->out.extend.lost_count;
        break;
    case TIDE_OP_KV:
        completion->as.kv.found = work->out.kv.found;
        completion->as.kv.value = work->out.kv.value;
        completion->as.kv.integer = work->out.kv.integer;
        completion->as.kv.ttl_ms = work->out.kv.ttl_ms;
        break;
    case TIDE_OP_COMMAND:
    case TIDE_OP_SERVER: completion->as.command.reply = work->out.reply; break;
    case TIDE_OP_KIND_COUNT: break;
    }
}

static bool next_completion(tide_broker *base, tide_completion *completion) {
    tide__sq_broker *broker = self(base);
    while (broker->done != NULL) {
        tide__sq_job *job = broker->done;
        while (job->drained != NULL) {
            tide__sq_work *work = job->drained;
            job->drained = work->next;
            if (work->put_off)
                continue;
            fill_completion(work, completion);
            if (work->op.kind == TIDE_OP_FETCH || work->op.kind == TIDE_OP_RECOVER)
                work->out.read.batch = NULL; /* the receiver's now */
            broker->op_count--;
            return true;
        }
        broker->done = job->next;
        if (broker->done == NULL)
            broker->done_last = &broker->done;
        recycle_job(broker, job);
    }
    return false;
}

/* ---- the rest of the port ---- */

static tide_status submit(tide_broker *base, const tide_op *op, int64_t now_us, tide_error *error) {
    tide__sq_broker *broker = self(base);
    see_time(broker, now_us);
    tide_status status = tide__sq_check(op, error);
    if (status != TIDE_OK)
        return status;
    if (broker->op_count >= TIDE_OPS_MAX)
        return tide_error_set(error, TIDE_OVERFLOW,
                              "%zu operations are under way, the most there may be",
                              broker->op_count);
    status = tide__sq_may_wait(op) ? tide__sq_wait_submit(broker, op, error)
                                   : tide__sq_enqueue(broker, op, error);
    if (status == TIDE_OK)
        broker->op_count++;
    return status;
}

static void interrupt(tide_broker *base, uint32_t reader, int64_t now_us) {
    tide__sq_broker *broker = self(base);
    see_time(broker, now_us);
    tide__sq_wait_interrupt(broker, reader);
}

static void drop_reader(tide_broker *base, uint32_t reader, int64_t now_us) {
    (void)reader; /* a reader is no more than a number here */
    see_time(self(base), now_us);
}

/* Any commit of another process may have put a delayed event there; the look that follows shares a job with the fetch that
 * looks again, too. */
static const uint64_t *watch(tide_broker *base, tide_str stream, int64_t now_us) {
    (void)stream;
    see_time(self(base), now_us);
    return &self(base)->seen_elsewhere;
}

static void unwatch(tide_broker *base, const uint64_t *watched, int64_t now_us) {
    (void)watched;
    see_time(self(base), now_us);
}

static void tick(tide_broker *base, int64_t now_us) {
    tide__sq_broker *broker = self(base);
    see_time(broker, now_us);
    look_elsewhere(broker);
    tide__sq_wait_tick(broker);
}

/* When the driver has to come again without anything else happening: to take a job counts too. */
static int64_t deadline_us(const tide_broker *base) {
    const tide__sq_broker *broker = self_const(base);
    if (broker->running == NULL &&
        (broker->open_wanted || (broker->ready != NULL && broker->ready->first != NULL)))
        return broker->now_us;
    int64_t due_us = tide__sq_wait_deadline_us(broker);
    if (broker->running == NULL && broker->store.path != NULL && broker->waiting_count > 0 &&
        broker->next_poll_us < due_us)
        due_us = broker->next_poll_us;
    return due_us;
}

static tide_status state(const tide_broker *base, tide_error *error) {
    const tide__sq_broker *broker = self_const(base);
    if (!broker->opened)
        return tide_error_set(error, TIDE_DISCONNECTED, "%s: not opened yet",
                              broker->store.path != NULL ? broker->store.path : "memory:");
    if (broker->state.status != TIDE_OK && error != NULL)
        *error = broker->state;
    return broker->state.status;
}

static void destroy(tide_broker *base) {
    tide__sq_broker *broker = self(base);
    tide_allocator alloc = broker->alloc;
    tide__sq_job *lists[] = {broker->running, broker->ready, broker->done, broker->free_jobs};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (tide__sq_job *job = lists[i]; job != NULL;) {
            tide__sq_job *next = job->next;
            if (i == 3)
                job->first = NULL;
            free_job(broker, job);
            job = next;
        }
    }
    tide__sq_wait_deinit(broker);
    tide__sq_close(&broker->store);
    tide_free(&alloc, broker->store.scratch, broker->store.scratch_size);
    tide_str_free(&alloc, &broker->path);
    tide_free(&alloc, broker, sizeof *broker);
}

#define PORT(blocking, watch_, unwatch_)                                                           \
    {                                                                                              \
        .name = "sqlite", .jobs_block = (blocking), .destroy = destroy, .submit = submit,          \
        .next_completion = next_completion, .interrupt = interrupt, .drop_reader = drop_reader,    \
        .watch = (watch_), .unwatch = (unwatch_), .tick = tick, .deadline_us = deadline_us,        \
        .take_job = take_job, .finish_job = finish_job, .state = state                             \
    }
static const tide_broker_vtable memory_vtable = PORT(false, NULL, NULL); /* nobody else has it */
static const tide_broker_vtable file_vtable = PORT(true, watch, unwatch);
#undef PORT

tide_status tide_broker_sqlite_create(tide_broker **out, const tide_broker_options *options,
                                      tide_error *error) {
    const tide_url *url = options->url;
    const tide_url_options *more = options->url_options;
    if (url->scheme != TIDE_SCHEME_MEMORY && url->scheme != TIDE_SCHEME_FILE)
        return tide_error_set(error, TIDE_UNSUPPORTED, "not an embedded engine's URL");
    tide_allocator alloc = tide_allocator_or_default(options->env.allocator);
    tide__sq_broker *broker = tide_alloc_zero(&alloc, 1, sizeof *broker);
    if (broker == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "out of memory");
    bool file = url->scheme == TIDE_SCHEME_FILE;
    broker->base.vtable = file ? &file_vtable : &memory_vtable;
    broker->alloc = alloc;
    broker->wall_offset_us = options->wall_offset_us;
    broker->done_last = &broker->done;
    broker->open_wanted = true;
    broker->weight_max = file ? TIDE__SQ_JOB_WEIGHT_MAX : TIDE__SQ_JOB_WEIGHT_INLINE_MAX;
    if (file && tide_str_copy(&alloc, url->path, &broker->path) != TIDE_OK) {
        tide_free(&alloc, broker, sizeof *broker);
        return tide_error_set(error, TIDE_ENOMEM, "out of memory");
    }
    broker->store = (tide__sq_store){
        .alloc = &broker->alloc,
        .path = file ? broker->path.data : NULL,
        .synchronous = more->synchronous == TIDE_SYNCHRONOUS_FULL     ? 2
                       : more->synchronous == TIDE_SYNCHRONOUS_NORMAL ? 1
                                                                      : 0,
        .busy_ms = more->busy_timeout_us / 1000,
        .max_len = more->max_len,
        .max_age_ms = more->max_age_us / 1000,
    };
    *out = &broker->base;
    return TIDE_OK;
}
