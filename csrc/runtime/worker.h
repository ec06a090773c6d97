/* SPDX-License-Identifier: MIT */
#ifndef TIDE_RUNTIME_WORKER_H
#define TIDE_RUNTIME_WORKER_H

#include "broker/broker.h"

/* One thread that runs blocking jobs in their order. All calls but the thread's own come from one thread, and none of
 * them but close ever waits for it. */
typedef struct tide_worker tide_worker;

/* Starts no thread yet. TIDE_OK, TIDE_ENOMEM, TIDE_IO. */
tide_status tide_worker_open(tide_worker **worker, const tide_allocator *alloc, tide_error *error);
/* Runs what was submitted to its end, then ends the thread. NULL is fine. Answers the jobs that were not taken back yet,
 * all of them done, as a list by `next`. */
tide_job *tide_worker_close(tide_worker *worker);

/* Takes the job. TIDE_OK; TIDE_IO: the thread can't be started, the job is still the caller's. */
tide_status tide_worker_submit(tide_worker *worker, tide_job *job);
/* Readable when a job is done; now and then also once more after it was taken. */
int tide_worker_fd(const tide_worker *worker);
/* A job that is done; NULL when there is none. When the descriptor is readable, ask until NULL: it is quiet then until the
 * next is done. */
tide_job *tide_worker_take_done(tide_worker *worker);
/* Jobs submitted and not taken back. */
size_t tide_worker_pending(const tide_worker *worker);

#endif
