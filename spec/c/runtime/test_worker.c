/* SPDX-License-Identifier: MIT */
/* The thread for jobs: order, announcements, and the end. Run under TSan, too. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/worker.h"

enum { JOBS = 20000, WAIT_MS = 60000 };

typedef struct numbered {
    tide_job base;
    unsigned number;
    unsigned ran_as; /* the thread's own count */
} numbered;

static unsigned run_count; /* the thread's, until the job is taken back */
static numbered jobs[JOBS];

static void run(tide_job *job) {
    ((numbered *)(void *)job)->ran_as = run_count++;
}

static int set_up(void **state) {
    (void)state;
    run_count = 0;
    for (unsigned i = 0; i < JOBS; i++)
        jobs[i] = (numbered){.base = {.run = run}, .number = i};
    return 0;
}

static bool is_readable(const tide_worker *worker, int wait_ms) {
    struct pollfd fd = {.fd = tide_worker_fd(worker), .events = POLLIN};
    return poll(&fd, 1, wait_ms) == 1;
}

static void assert_next(const tide_job *job, unsigned number) {
    const numbered *one = (const numbered *)(const void *)job;
    assert_int_equal(one->number, number);
    assert_int_equal(one->ran_as, number);
}

static void runs_jobs_in_their_order_and_announces_them(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_worker *worker;
    assert_int_equal(tide_worker_open(&worker, &alloc, NULL), TIDE_OK);
    assert_null(tide_worker_take_done(worker));
    unsigned submitted = 0, taken = 0;
    while (taken < JOBS) {
        /* Now one job under way, now many. */
        for (unsigned more = taken % 7 == 0 ? 1 : taken % 50; more > 0 && submitted < JOBS; more--)
            assert_int_equal(tide_worker_submit(worker, &jobs[submitted++].base), TIDE_OK);
        assert_int_equal(tide_worker_pending(worker), submitted - taken);
        if (submitted == taken)
            assert_int_equal(tide_worker_submit(worker, &jobs[submitted++].base), TIDE_OK);
        assert_true(is_readable(worker, WAIT_MS)); /* what is under way announces itself */
        tide_job *job;
        while ((job = tide_worker_take_done(worker)) != NULL)
            assert_next(job, taken++);
    }
    assert_int_equal(tide_worker_pending(worker), 0);
    unsigned late = 0; /* what was taken before its announcement came */
    for (; is_readable(worker, 0); late++)
        assert_null(tide_worker_take_done(worker));
    assert_in_range(late, 0, 1);
    assert_null(tide_worker_close(worker));
}

static void runs_all_before_it_ends(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_worker *worker;
    assert_int_equal(tide_worker_open(&worker, &alloc, NULL), TIDE_OK);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(tide_worker_submit(worker, &jobs[i].base), TIDE_OK);
    assert_true(is_readable(worker, WAIT_MS));
    assert_next(tide_worker_take_done(worker), 0);
    unsigned number = 1;
    for (tide_job *job = tide_worker_close(worker); job != NULL; job = job->next)
        assert_next(job, number++);
    assert_int_equal(number, 1000);
}

static void ends_without_having_begun(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_worker *worker;
    assert_int_equal(tide_worker_open(&worker, &alloc, NULL), TIDE_OK);
    assert_false(is_readable(worker, 0));
    assert_null(tide_worker_close(worker));
    assert_null(tide_worker_close(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(runs_jobs_in_their_order_and_announces_them, set_up),
        cmocka_unit_test_setup(runs_all_before_it_ends, set_up),
        cmocka_unit_test_setup(ends_without_having_begun, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
