/* SPDX-License-Identifier: MIT */
/*
 * What it is: jobs of a file on a thread of their own while the loop goes on submitting, interrupting and waiting: every
 * event comes once, and ThreadSanitizer (in its build) finds nothing shared.
 * What it is not: the driver's worker (runtime/), which has its own specs.
 */
#include "rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "scratch.h"

enum { EVENTS = 3000, IN_FLIGHT = 100, PATIENCE_S = 120 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static tide_job *given, *done;
static bool stopping;

static void *work(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    while (!stopping) {
        tide_job *job = given;
        if (job == NULL) {
            pthread_cond_wait(&changed, &mutex);
            continue;
        }
        given = NULL;
        pthread_mutex_unlock(&mutex);
        job->run(job);
        pthread_mutex_lock(&mutex);
        done = job;
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static int64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void jobs_run_beside_the_loop(void **state) {
    (void)state;
    rig r;
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path("thread.db"));
    rig_open(&r, path);
    const tide_broker_vtable *port = r.broker->vtable;
    assert_true(port->jobs_block);
    r.now_us = now_us();
    rig_ensure(&r, "s", "g", "0");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
    tide_field field = {TIDE_STR("a"), TIDE_STR("b")};
    tide_record record = {&field, 1, {"", 0}};
    size_t sent = 0, acked = 0, got = 0, turn = 0;
    bool fetching = false, busy = false;
    int64_t end_us = now_us() + (int64_t)PATIENCE_S * 1000000;
    while ((got < EVENTS || busy || fetching) && now_us() < end_us) {
        int64_t now = now_us();
        r.now_us = now;
        for (; sent < EVENTS && sent - acked < IN_FLIGHT; sent++)
            rig_submit(&r, rig_publish_op("s", &record, 1));
        if (!fetching && got < EVENTS) {
            tide_op fetch = rig_fetch_op("s", "g", "c", 50);
            fetch.as.fetch.block_ms = 20;
            rig_submit(&r, fetch);
            fetching = true;
        }
        if (++turn % 64 == 0)
            port->interrupt(r.broker, 1, now);
        port->tick(r.broker, now);
        tide_job *job = busy ? NULL : port->take_job(r.broker, now);
        pthread_mutex_lock(&mutex);
        if (job != NULL) {
            given = job;
            busy = true;
            pthread_cond_signal(&changed);
        }
        tide_job *finished = done;
        done = NULL;
        pthread_mutex_unlock(&mutex);
        if (finished != NULL) {
            busy = false;
            port->finish_job(r.broker, finished, now);
        }
        tide_completion completion;
        while (port->next_completion(r.broker, &completion)) {
            assert_int_equal(completion.status, TIDE_OK);
            if (completion.kind == TIDE_OP_PUBLISH) {
                acked++;
            } else {
                got += rig_count(completion.as.fetch.batch);
                tide_batch_release(completion.as.fetch.batch);
                fetching = false;
            }
        }
    }
    pthread_mutex_lock(&mutex);
    stopping = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    assert_int_equal(acked, EVENTS);
    assert_int_equal(got, EVENTS);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(jobs_run_beside_the_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
