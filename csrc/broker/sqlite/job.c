/* SPDX-License-Identifier: MIT */
/*
 * What it is: running a job: all works of it in one transaction, so that many publishes share one commit.
 * What it is not: a queue; sqlite.c fills jobs and hands them out.
 * Invariants:
 *   1. A work's TIDE_OK is seen by nobody before the commit that holds it has succeeded.
 *   2. When anything fails in the store, the whole transaction is rolled back and each work that writes gets the failure;
 *      works that only read run once more on their own.
 *   3. After a commit that failed in the middle (a failed fsync), one more small transaction overwrites what it may have
 *      left in the journal: only when that succeeded is "nothing was written" true, else the end is TIDE_UNKNOWN. A commit is
 *      never tried again.
 *
 *   closed --open--> begin --works--> flush cache --commit--> done
 *                      |        |          |          |
 *                      +--------+----------+----------+--> rollback, fence (I/O), fail works, run readers alone
 */
#include "broker/sqlite/internal.h"

#include <stdarg.h>
#include <stdio.h>

void *tide__sq_take(tide__sq_store *store, size_t size) {
    void *memory = tide_arena_alloc(&store->job->arena, size);
    if (memory == NULL)
        tide__sq_no_memory(store);
    return memory;
}

void tide__sq_touch_stream(tide__sq_store *store, const tide__sq_stream *stream) {
    tide__sq_job *job = store->job;
    size_t seen = 0;
    for (const tide__sq_touch *touch = job->touched; touch != NULL && seen < 16;
         touch = touch->next, seen++) {
        if (tide_str_equal(touch->name, stream->name))
            return;
    }
    tide__sq_touch *touch = tide_arena_alloc(&job->arena, sizeof *touch);
    tide_str name = tide_arena_copy(&job->arena, stream->name);
    if (touch == NULL || name.data == NULL) {
        job->changed_elsewhere = true; /* no memory for the name: then all that wait look again */
        return;
    }
    *touch = (tide__sq_touch){job->touched, name};
    job->touched = touch;
}

/* Gives the work an error of its own; without memory the status alone must do. */
static tide_error *error_of(tide__sq_job *job, tide__sq_work *work, tide_status status) {
    work->status = status;
    if (work->error == NULL)
        work->error = tide_arena_alloc(&job->arena, sizeof *work->error);
    return work->error;
}

tide_status tide__sq_refuse(tide__sq_store *store, tide__sq_work *work, tide_status status,
                            const char *word, const char *format, ...) {
    tide_error *error = error_of(store->job, work, status);
    if (error == NULL)
        return status;
    char text[TIDE_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tide_error_set(error, status, "%s", text);
    if (word != NULL)
        snprintf(error->server, sizeof error->server, "%s", word);
    return status;
}

/* ---- one work ---- */

static void forget_result(tide__sq_work *work) {
    if ((work->op.kind == TIDE_OP_FETCH || work->op.kind == TIDE_OP_RECOVER) &&
        work->out.read.batch != NULL) {
        tide_batch_release(work->out.read.batch);
        work->out.read.batch = NULL;
    }
}

static void run_work(tide__sq_store *store, tide__sq_work *work) {
    tide_status status = TIDE_INTERNAL;
    work->status = TIDE_OK;
    switch (work->op.kind) {
    case TIDE_OP_PUBLISH: status = tide__sq_do_publish(store, work); break;
    case TIDE_OP_CANCEL: status = tide__sq_do_cancel(store, work); break;
    case TIDE_OP_PROMOTE: status = tide__sq_do_promote(store, work); break;
    case TIDE_OP_GROUP_ENSURE: status = tide__sq_do_ensure(store, work); break;
    case TIDE_OP_FETCH: status = tide__sq_do_fetch(store, work); break;
    case TIDE_OP_SETTLE: status = tide__sq_do_settle(store, work); break;
    case TIDE_OP_EXTEND: status = tide__sq_do_extend(store, work); break;
    case TIDE_OP_RECOVER: status = tide__sq_do_recover(store, work); break;
    case TIDE_OP_KV: status = tide__sq_do_kv(store, work); break;
    case TIDE_OP_COMMAND: status = tide__sq_do_command(store, work); break;
    case TIDE_OP_SERVER: status = tide__sq_do_server(store, work); break;
    case TIDE_OP_KIND_COUNT: break;
    }
    if (status == TIDE_OK && store->failure.status != TIDE_OK)
        status = store->failure.status;
    work->status = status;
}

static void fail_work(tide__sq_job *job, tide__sq_work *work, const tide_error *why) {
    forget_result(work);
    work->empty = false;
    tide_error *error = error_of(job, work, why->status);
    if (error != NULL)
        *error = *why;
    if (work->op.kind == TIDE_OP_PUBLISH) {
        tide_publish_result *results = work->out.publish.results;
        for (size_t i = 0; i < work->op.as.publish.record_count; i++)
            results[i] = (tide_publish_result){.status = why->status};
    } else if (work->op.kind == TIDE_OP_SETTLE) {
        for (size_t i = 0; i < work->op.as.settle.item_count; i++)
            work->out.settle[i] = why->status;
    }
}

/* ---- a transaction ---- */

static tide_status begin(tide__sq_store *store, bool writes) {
    tide_status status = writes ? tide__sq_check_place(store) : TIDE_OK;
    if (status == TIDE_OK)
        status = tide__sq_run_plain(store, writes ? TIDE__SQ_BEGIN_WRITE : TIDE__SQ_BEGIN_READ);
    return status;
}

/* Has another process committed since we last looked? Then what is cached may be wrong, and what waits looks again. */
static tide_status look_elsewhere(tide__sq_store *store) {
    if (store->path == NULL)
        return TIDE_OK;
    int64_t version = store->data_version;
    tide_status status = tide__sq_integer(store, TIDE__SQ_DATA_VERSION, &version);
    if (status == TIDE_OK && version != store->data_version) {
        store->data_version = version;
        store->job->changed_elsewhere = true;
        tide__sq_cache_drop(store);
    }
    return status;
}

static void roll_back(tide__sq_store *store) {
    for (int i = 0; i < TIDE__SQ_STATEMENT_COUNT; i++) {
        if (store->statements[i] != NULL)
            sqlite3_reset(store->statements[i]);
    }
    if (store->db != NULL && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    tide__sq_cache_drop(store);
    store->wrote = false;
}

/* Overwrites what a failed commit may have left; see invariant 3. */
static bool fence(tide__sq_store *store) {
    tide_error kept = store->failure;
    tide_error_clear(&store->failure);
    bool done = tide__sq_run_plain(store, TIDE__SQ_BEGIN_WRITE) == TIDE_OK &&
                tide__sq_run_plain(store, TIDE__SQ_FENCE) == TIDE_OK &&
                tide__sq_run_plain(store, TIDE__SQ_COMMIT) == TIDE_OK;
    if (!done)
        roll_back(store);
    store->failure = kept;
    return done;
}

/* All works of the job in one transaction, or those that only read. */
static tide_status run_all(tide__sq_store *store, tide__sq_job *job, bool writes) {
    bool committing = false;
    uint64_t operations = 0;
    store->wrote = false;
    tide_error_clear(&store->failure);
    tide_status status = begin(store, writes);
    if (status == TIDE_OK)
        status = look_elsewhere(store);
    for (tide__sq_work *work = job->first; work != NULL && status == TIDE_OK; work = work->next) {
        if (!writes && work->writes)
            continue;
        run_work(store, work);
        operations++;
        status = store->failure.status;
    }
    if (status == TIDE_OK && writes)
        status = tide__sq_cache_flush(store, true);
    bool wrote = store->wrote;
    if (status == TIDE_OK) {
        committing = wrote;
        status = tide__sq_run_plain(store, TIDE__SQ_COMMIT);
    }
    if (status == TIDE_OK) {
        if (wrote) {
            store->commits++;
            store->operations += operations;
        }
        return TIDE_OK;
    }
    status = store->failure.status;
    roll_back(store);
    if (committing && store->path != NULL && status == TIDE_IO && !fence(store)) {
        char what[TIDE_ERROR_MESSAGE_MAX];
        snprintf(what, sizeof what, "%s", store->failure.message);
        tide_error_set(&store->failure, TIDE_UNKNOWN, "the commit failed and may yet be found: %s",
                       what);
    }
    if (status == TIDE_IO)
        tide__sq_close(store); /* the next job opens again, from the disk */
    return store->failure.status;
}

static void fail_works(tide__sq_store *store, tide__sq_job *job, bool readers_too) {
    for (tide__sq_work *work = job->first; work != NULL; work = work->next) {
        if (work->writes || readers_too)
            fail_work(job, work, &store->failure);
    }
}

static bool some_work(const tide__sq_job *job, bool writes) {
    for (const tide__sq_work *work = job->first; work != NULL; work = work->next) {
        if (work->writes == writes)
            return true;
    }
    return false;
}

static void run_works(tide__sq_store *store, tide__sq_job *job) {
    bool writers = some_work(job, true);
    tide_status status = TIDE_OK;
    if (writers && store->health == TIDE__SQ_DAMAGED) {
        tide_error_set(&store->failure, TIDE_CORRUPT,
                       "%s: the file is damaged: nothing is written to it any more; restore it "
                       "from a copy",
                       store->path != NULL ? store->path : "memory:");
        status = TIDE_CORRUPT;
    } else if (writers || job->first != NULL) {
        status = run_all(store, job, writers);
    }
    if (status == TIDE_OK)
        return;
    job->store_status = status;
    job->store_error = store->failure;
    fail_works(store, job, !writers || store->health == TIDE__SQ_CLOSED);
    /* Readers beside writers that failed. */
    if (writers && store->health != TIDE__SQ_CLOSED && some_work(job, false) &&
        run_all(store, job, false) != TIDE_OK) {
        for (tide__sq_work *work = job->first; work != NULL; work = work->next) {
            if (!work->writes)
                fail_work(job, work, &store->failure);
        }
    }
}

void tide__sq_job_run(tide_job *base) {
    tide__sq_job *job = (tide__sq_job *)(void *)base;
    tide__sq_store *store = job->store;
    store->job = job;
    store->now_ms = job->now_ms;
    tide_error_clear(&store->failure);
    job->store_status = TIDE_OK;
    if (store->stream_count > TIDE__SQ_STREAMS_MAX)
        tide__sq_cache_drop(store);
    if (store->health == TIDE__SQ_CLOSED && tide__sq_open(store) != TIDE_OK) {
        job->store_status = store->failure.status;
        job->store_error = store->failure;
        fail_works(store, job, true);
        store->job = NULL;
        return;
    }
    if (job->first != NULL)
        run_works(store, job);
    if (store->health == TIDE__SQ_DAMAGED && job->store_status == TIDE_OK) {
        job->store_status = TIDE_CORRUPT;
        tide_error_set(&job->store_error, TIDE_CORRUPT, "%s: the file is damaged",
                       store->path != NULL ? store->path : "memory:");
    }
    store->job = NULL;
}
