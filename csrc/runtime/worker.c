/* SPDX-License-Identifier: MIT */
/*
 * What it is: a thread with a queue of jobs in front and a list of done ones behind, announced by an eventfd.
 * What it is not: a pool: one file has one writer, and order among jobs is kept.
 *
 * Invariants:
 *   1. `todo`, `done` and `stop` are touched under `mutex` only; a job under run is on no list.
 *   2. The eventfd is written once for each time that `done` turns from empty to not empty.
 *   3. `done_local` is the loop's own: taken from `done` in one go, so that a turn takes the lock once.
 */
#include "runtime/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"

typedef struct job_list {
    tide_job *first;
    tide_job *last;
} job_list;

struct tide_worker {
    const tide_allocator *alloc;
    pthread_t thread;
    bool is_started;
    int event_fd;
    size_t pending;
    tide_job *done_local;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    job_list todo;
    job_list done;
    bool stop;
};

static void push(job_list *list, tide_job *job) {
    job->next = NULL;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static tide_job *pop(job_list *list) {
    tide_job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        if (list->first == NULL)
            list->last = NULL;
        job->next = NULL;
    }
    return job;
}

static void *run(void *context) {
    tide_worker *worker = context;
    pthread_mutex_lock(&worker->mutex);
    for (;;) {
        while (worker->todo.first == NULL && !worker->stop)
            pthread_cond_wait(&worker->wake, &worker->mutex);
        tide_job *job = pop(&worker->todo);
        if (job == NULL)
            break;
        pthread_mutex_unlock(&worker->mutex);
        job->run(job);
        pthread_mutex_lock(&worker->mutex);
        bool announce = worker->done.first == NULL;
        push(&worker->done, job);
        if (announce) {
            uint64_t one = 1;
            ssize_t written = write(worker->event_fd, &one, sizeof one);
            (void)written; /* fails only when it is readable already */
        }
    }
    pthread_mutex_unlock(&worker->mutex);
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
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->wake, NULL);
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
        pthread_mutex_lock(&worker->mutex);
        worker->stop = true;
        pthread_cond_signal(&worker->wake);
        pthread_mutex_unlock(&worker->mutex);
        pthread_join(worker->thread, NULL);
    }
    tide_job *left = join(worker->done_local, worker->done.first);
    pthread_cond_destroy(&worker->wake);
    pthread_mutex_destroy(&worker->mutex);
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
    pthread_mutex_lock(&worker->mutex);
    push(&worker->todo, job);
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->mutex);
    worker->pending++;
    return TIDE_OK;
}

int tide_worker_fd(const tide_worker *worker) {
    return worker->event_fd;
}

tide_job *tide_worker_take_done(tide_worker *worker) {
    if (worker->done_local == NULL && worker->pending > 0) {
        pthread_mutex_lock(&worker->mutex);
        worker->done_local = worker->done.first;
        worker->done = (job_list){NULL, NULL};
        if (worker->done_local != NULL) {
            uint64_t count;
            ssize_t got = read(worker->event_fd, &count, sizeof count);
            (void)got;
        }
        pthread_mutex_unlock(&worker->mutex);
    }
    tide_job *job = worker->done_local;
    if (job != NULL) {
        worker->done_local = job->next;
        job->next = NULL;
        worker->pending--;
    }
    return job;
}

size_t tide_worker_pending(const tide_worker *worker) {
    return worker->pending;
}
