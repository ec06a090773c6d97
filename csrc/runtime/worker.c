/* SPDX-License-Identifier: MIT */
/*
 * What it is: a thread with a queue of jobs in front and a list of done ones behind, announced by an eventfd.
 * What it is not: a pool: one file has one writer, and order among jobs is kept.
 *
 * No lock: a thread that is put aside by the system while it holds one would make the other wait, and the loop's thread
 * has a frame to draw. Both lists are stacks: whoever puts a job in swaps the top, whoever takes jobs out takes all of
 * them at once and turns their order round.
 *
 * Invariants:
 *   1. The loop's thread pushes to `todo` and empties `done`; the worker's thread empties `todo` and pushes to `done`.
 *   2. `wake` counts the jobs that were submitted and not begun, and one more when the thread is to end.
 *   3. Each push that finds `done` empty is followed by a write to the eventfd, so a job that is done is announced or will
 *      be. An announcement may come after its job was taken; then nothing is found.
 *   4. `done_local` is the loop's own: jobs taken from `done`, in their order.
 */
#include "runtime/worker.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"

typedef _Atomic(tide_job *) job_stack;

struct tide_worker {
    const tide_allocator *alloc;
    pthread_t thread;
    bool is_started;
    bool is_drained; /* the eventfd was read since take_done answered NULL */
    int event_fd;
    size_t pending;
    tide_job *done_local;
    sem_t wake;
    job_stack todo;
    job_stack done;
};

/* Whether it was empty. */
static bool push(job_stack *stack, tide_job *job) {
    tide_job *top = atomic_load_explicit(stack, memory_order_relaxed);
    do {
        job->next = top;
    } while (!atomic_compare_exchange_weak_explicit(stack, &top, job, memory_order_release,
                                                    memory_order_relaxed));
    return top == NULL;
}

/* All of them, the one that was pushed first in front. */
static tide_job *take_all(job_stack *stack) {
    tide_job *top = atomic_exchange_explicit(stack, NULL, memory_order_acquire);
    tide_job *list = NULL;
    while (top != NULL) {
        tide_job *below = top->next;
        top->next = list;
        list = top;
        top = below;
    }
    return list;
}

static void *run(void *context) {
    tide_worker *worker = context;
    tide_job *jobs = NULL;
    for (;;) {
        while (sem_wait(&worker->wake) != 0) {
        }
        if (jobs == NULL)
            jobs = take_all(&worker->todo);
        if (jobs == NULL) /* counted, and no job: the end */
            break;
        tide_job *job = jobs;
        jobs = job->next;
        job->run(job);
        if (push(&worker->done, job)) {
            uint64_t one = 1;
            ssize_t written = write(worker->event_fd, &one, sizeof one);
            (void)written; /* fails only when it is readable already */
        }
    }
    return NULL;
}

tide_status tide_worker_open(tide_worker **worker, const tide_allocator *alloc, tide_error *error) {
    tide_worker *made = tide_alloc_zero(alloc, 1, sizeof *made);
    if (made == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for a worker");
    made->alloc = alloc;
    made->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (made->event_fd < 0) {
        int why = errno;
        tide_free(alloc, made, sizeof *made);
        return tide_error_set(error, TIDE_IO, "no descriptor for a worker: %s", strerror(why));
    }
    sem_init(&made->wake, 0, 0);
    atomic_init(&made->todo, NULL);
    atomic_init(&made->done, NULL);
    *worker = made;
    return TIDE_OK;
}

/* b behind the end of a. */
static tide_job *join(tide_job *a, tide_job *b) {
    if (a == NULL)
        return b;
    tide_job *last = a;
    while (last->next != NULL)
        last = last->next;
    last->next = b;
    return a;
}

tide_job *tide_worker_close(tide_worker *worker) {
    if (worker == NULL)
        return NULL;
    if (worker->is_started) {
        sem_post(&worker->wake); /* the count without a job */
        pthread_join(worker->thread, NULL);
    }
    tide_job *left = join(worker->done_local, take_all(&worker->done));
    sem_destroy(&worker->wake);
    close(worker->event_fd);
    tide_free(worker->alloc, worker, sizeof *worker);
    return left;
}

static int start(tide_worker *worker) {
    sigset_t all, before;
    sigfillset(&all);
    /* Signals belong to the program's own threads. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    worker->is_started = failure == 0;
    return failure;
}

tide_status tide_worker_submit(tide_worker *worker, tide_job *job) {
    if (!worker->is_started && start(worker) != 0)
        return TIDE_IO;
    (void)push(&worker->todo, job);
    sem_post(&worker->wake);
    worker->pending++;
    return TIDE_OK;
}

int tide_worker_fd(const tide_worker *worker) {
    return worker->event_fd;
}

tide_job *tide_worker_take_done(tide_worker *worker) {
    if (worker->done_local == NULL) {
        /* Before the list is looked at: what is pushed after that announces itself anew. */
        if (!worker->is_drained) {
            uint64_t count;
            ssize_t got = read(worker->event_fd, &count, sizeof count);
            (void)got; /* fails when nothing was announced */
            worker->is_drained = true;
        }
        worker->done_local = take_all(&worker->done);
    }
    tide_job *job = worker->done_local;
    if (job == NULL) {
        worker->is_drained = false;
        return NULL;
    }
    worker->done_local = job->next;
    job->next = NULL;
    worker->pending--;
    return job;
}

size_t tide_worker_pending(const tide_worker *worker) {
    return worker->pending;
}
