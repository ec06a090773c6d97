/* SPDX-License-Identifier: MIT */
/* The driver: links, bytes both ways, fairness, time, jobs on and off the loop's thread, an outer loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <tidemill/tidemill.h>

#include "base/alloc.h"
#include "base/text.h"
#include "engine/engine.h"
#include "failing_allocator.h"
#include "fake_broker.h"
#include "loopback.h"
#include "runtime/clock.h"
#include "runtime/runtime.h"

enum { TURNS_MAX = 20000, TURN_US = 10000 };

static tide_bus *open_bus(fake_broker *broker) {
    tide_env env = {.seed = 1};
    tide_engine *engine;
    tide_bus *bus;
    tide_error error;
    assert_int_equal(tide_engine_open_with(&engine, &broker->base, &env, &error), TIDE_OK);
    assert_int_equal(tide__bus_open_engine(&bus, engine, env.allocator, &error), TIDE_OK);
    return bus;
}

static void want_open(fake_link *link, uint16_t port) {
    link->endpoint =
        (tide_endpoint){.scheme = TIDE_SCHEME_REDIS, .host = TIDE_STR("127.0.0.1"), .port = port};
    link->wants_open = true;
}

#define POLL_UNTIL(bus, condition)                                                                 \
    do {                                                                                           \
        int turns_ = 0;                                                                            \
        while (!(condition)) {                                                                     \
            assert_true(turns_++ < TURNS_MAX);                                                     \
            assert_int_equal(tide_bus_poll((bus), TURN_US), TIDE_OK);                              \
        }                                                                                          \
    } while (0)

/* One link that is up, and its peer. */
static int connect_link(tide_bus *bus, fake_broker *broker, uint32_t number, int listener,
                        uint16_t port) {
    fake_link *link = &broker->links[number];
    want_open(link, port);
    POLL_UNTIL(bus, link->is_up);
    int peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    return peer;
}

static void moves_bytes_both_ways(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    int peer = connect_link(bus, broker, 7, listener, port);
    fake_link *link = &broker->links[7];
    link->output = "ping";
    link->output_size = 4;
    assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    assert_int_equal(link->output_size, 0);
    char bytes[8];
    assert_int_equal(recv(peer, bytes, 4, MSG_WAITALL), 4);
    assert_int_equal(send(peer, "pong", 4, 0), 4);
    POLL_UNTIL(bus, link->fed == 4);
    assert_false(tide_bus_was_quiet(bus));
    assert_memory_equal(link->last, "pong", 4);
    close(peer);
    POLL_UNTIL(bus, link->closed == 1);
    assert_int_equal(link->why.status, TIDE_DISCONNECTED);
    assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    assert_int_equal(link->closed, 1);
    tide_bus_close(bus);
    assert_true(broker->destroyed);
    close(listener);
}

static void reports_what_it_cannot_open(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    want_open(&broker->links[0], loopback_free_port());
    POLL_UNTIL(bus, broker->links[0].closed == 1);
    assert_int_equal(broker->links[0].why.status, TIDE_CONNECT);
    assert_int_equal(broker->links[0].opened, 0);
    broker->links[0].endpoint.host = TIDE_STR("no-such-host.invalid");
    broker->links[0].wants_open = true;
    POLL_UNTIL(bus, broker->links[0].closed == 2);
    assert_int_equal(broker->links[0].why.status, TIDE_CONNECT);
    tide_bus_close(bus);
}

static void closes_and_reopens_when_told(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    fake_link *link = &broker->links[3];
    int peer = connect_link(bus, broker, 3, listener, port);
    for (int round = 0; round < 50; round++) {
        link->wants_close = true;
        link->wants_open = true;
        POLL_UNTIL(bus, link->opened == round + 2);
        char byte;
        assert_int_equal(recv(peer, &byte, 1, 0), 0);
        close(peer);
        peer = accept(listener, NULL, NULL);
    }
    assert_int_equal(link->closed, 0);
    /* While it connects, too. */
    link->wants_close = true;
    link->wants_open = true;
    tide_bus_write(bus);
    link->wants_close = true;
    tide_bus_write(bus);
    for (int i = 0; i < 5; i++)
        assert_int_equal(tide_bus_poll(bus, 1000), TIDE_OK);
    assert_int_equal(link->opened, 51);
    assert_int_equal(link->closed, 0);
    tide_bus_close(bus);
    close(peer);
    close(listener);
}

static void feeds_nothing_to_a_link_given_up(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    int peer = connect_link(bus, broker, 0, listener, port);
    static char bytes[1 << 20];
    /* The kernel's buffers grow with what goes through them, until one read doesn't empty them. */
    fake_link *link = &broker->links[0];
    for (int rounds = 0; link->fed_max < 128 * 1024 && rounds < 200; rounds++) {
        (void)send(peer, bytes, sizeof bytes, MSG_DONTWAIT);
        assert_int_equal(tide_bus_poll(bus, TURN_US), TIDE_OK);
    }
    for (size_t fed = 0; fed != link->fed;) {
        fed = link->fed;
        assert_int_equal(tide_bus_poll(bus, TURN_US), TIDE_OK);
    }
    assert_true(send(peer, bytes, sizeof bytes, MSG_DONTWAIT) > 0);
    link->feeds = 0;
    link->closes_itself = true;
    POLL_UNTIL(bus, link->feeds == 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(tide_bus_poll(bus, 1000), TIDE_OK);
    assert_int_equal(broker->links[0].feeds, 1);
    assert_int_equal(broker->links[0].closed, 0);
    tide_bus_close(bus);
    close(peer);
    close(listener);
}

static void sends_more_than_a_socket_takes(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    int peer = connect_link(bus, broker, 0, listener, port);
    char *bytes = malloc(FAKE_BYTES), *got = malloc(FAKE_BYTES);
    for (size_t i = 0; i < FAKE_BYTES; i++)
        bytes[i] = (char)(i * 31 >> 3);
    fake_link *link = &broker->links[0];
    link->output = bytes;
    link->output_size = FAKE_BYTES;
    for (size_t read = 0; read < FAKE_BYTES;) {
        assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
        ssize_t size = recv(peer, got + read, FAKE_BYTES - read, MSG_DONTWAIT);
        if (size > 0)
            read += (size_t)size;
    }
    assert_int_equal(link->output_size, 0);
    assert_memory_equal(bytes, got, FAKE_BYTES);
    tide_bus_close(bus);
    free(bytes);
    free(got);
    close(peer);
    close(listener);
}

static void *flood(void *context) {
    static const char bytes[256 * 1024];
    int peer = *(int *)context;
    while (send(peer, bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

/* A link that never falls silent doesn't keep the others waiting, nor the caller. */
static void reads_fairly(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    int noisy = connect_link(bus, broker, 0, listener, port);
    int quiet = connect_link(bus, broker, 1, listener, port);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, flood, &noisy), 0);
    for (int round = 0; round < 20; round++) {
        size_t before = broker->links[0].fed;
        assert_int_equal(tide_bus_poll(bus, TURN_US), TIDE_OK);
        assert_in_range(broker->links[0].fed - before, 0, 1 << 20);
    }
    for (int round = 1; round <= 20; round++) {
        assert_int_equal(send(quiet, "x", 1, 0), 1);
        POLL_UNTIL(bus, broker->links[1].fed == (size_t)round);
    }
    assert_true(broker->links[0].fed > 0);
    tide_bus_close(bus);
    pthread_join(thread, NULL);
    close(noisy);
    close(quiet);
    close(listener);
}

static void keeps_many_links(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    static int peers[FAKE_LINKS];
    for (uint32_t i = 0; i < FAKE_LINKS; i++) {
        peers[i] = connect_link(bus, broker, i, listener, port);
        broker->links[i].output = "hello";
        broker->links[i].output_size = 5;
    }
    for (int round = 0; round < 3; round++) {
        /* Every third goes away at its peer's wish, every fifth at ours. */
        for (uint32_t i = 0; i < FAKE_LINKS; i++) {
            if (i % 3 == 0) {
                close(peers[i]);
                broker->links[i].closed = 0;
            } else if (i % 5 == 0) {
                broker->links[i].wants_close = true;
            }
        }
        for (uint32_t i = 0; i < FAKE_LINKS; i += 3)
            POLL_UNTIL(bus, broker->links[i].closed == 1);
        tide_bus_write(bus);
        for (uint32_t i = 0; i < FAKE_LINKS; i++) {
            if (i % 3 != 0 && i % 5 == 0)
                close(peers[i]);
            if (i % 3 == 0 || i % 5 == 0)
                peers[i] = connect_link(bus, broker, i, listener, port);
        }
    }
    for (uint32_t i = 0; i < FAKE_LINKS; i++) {
        assert_int_equal(send(peers[i], "x", 1, 0), 1);
        size_t fed = broker->links[i].fed;
        POLL_UNTIL(bus, broker->links[i].fed > fed || broker->links[i].fed > 0);
    }
    tide_bus_close(bus);
    for (uint32_t i = 0; i < FAKE_LINKS; i++)
        close(peers[i]);
    close(listener);
}

/* ---- time ---- */

static void waits_for_the_deadline(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    int64_t due = tide_bus_update_now(bus) + 30500;
    broker->deadline_us = due;
    assert_in_range(tide_bus_timeout_us(bus), 1, 30500);
    while (broker->deadline_us != INT64_MAX)
        assert_int_equal(tide_bus_poll(bus, -1), TIDE_OK);
    assert_true(tide_bus_now_us(bus) >= due);
    assert_in_range(broker->ticks, 1, 3);
    assert_int_equal(tide_bus_timeout_us(bus), -1);
    tide_bus_close(bus);
}

static void waits_no_longer_than_asked(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    int64_t begin = tide_bus_update_now(bus);
    assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    assert_int_equal(tide_bus_poll(bus, 20000), TIDE_OK);
    assert_true(tide_bus_now_us(bus) >= begin + 20000);
    assert_true(tide_bus_was_quiet(bus));
    assert_int_equal(broker->ticks, 2);
    tide_bus_close(bus);
}

static void on_alarm(int number) {
    (void)number;
}

static void returns_on_a_signal(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    struct sigaction action = {.sa_handler = on_alarm}, before;
    sigaction(SIGALRM, &action, &before);
    /* Again and again: the first may come before the wait. */
    struct itimerval every = {.it_interval.tv_usec = 50000, .it_value.tv_usec = 50000};
    setitimer(ITIMER_REAL, &every, NULL);
    assert_int_equal(tide_bus_poll(bus, -1), TIDE_OK);
    assert_false(tide_bus_was_quiet(bus));
    every = (struct itimerval){.it_value.tv_usec = 0};
    setitimer(ITIMER_REAL, &every, NULL);
    sigaction(SIGALRM, &before, NULL);
    tide_bus_close(bus);
}

static tide_bus *open_memory(void) {
    tide_bus *bus;
    tide_error error;
    tide_engine_options options = {.url = TIDE_STR("memory:")};
    assert_int_equal(tide_bus_open(&bus, &options, &error), TIDE_OK);
    return bus;
}

static void leaves_sending_to_who_has_an_event(void **state) {
    (void)state;
    tide_bus *bus = open_memory();
    tide_engine *engine = tide_bus_engine(bus);
    tide_error error;
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = TIDE_STR("orders");
    options.group = TIDE_STR("g");
    options.consumer = TIDE_STR("c");
    options.dead_letters = TIDE_STR("dead");
    uint32_t consumer;
    assert_int_equal(
        tide_engine_subscribe(engine, &options, tide_bus_now_us(bus), &consumer, &error), TIDE_OK);
    bool held = true;
    assert_int_equal(tide_bus_poll_events(bus, 0, &held), TIDE_OK);
    assert_false(held);
    tide_field field = {TIDE_STR("event_type"), TIDE_STR("A")};
    tide_record record = {.fields = &field, .field_count = 1};
    tide_op op = {
        .kind = TIDE_OP_PUBLISH,
        .tag = 1,
        .as.publish = {.stream = TIDE_STR("orders"), .records = &record, .record_count = 1}};
    assert_int_equal(tide_engine_submit(engine, &op, tide_bus_now_us(bus), &error), TIDE_OK);
    for (int turns = 0; !held; turns++) {
        assert_true(turns < TURNS_MAX);
        assert_int_equal(tide_bus_poll_events(bus, TURN_US, &held), TIDE_OK);
        assert_int_equal(held, tide_engine_has_event(engine));
        assert_false(tide_bus_was_quiet(bus));
        tide_completion done;
        if (tide_engine_next_completion(engine, tide_bus_now_us(bus), &done))
            assert_int_equal(done.status, TIDE_OK);
    }
    /* The next read waits to be sent: the engine wants to be polled at once, until it was. */
    assert_true(tide_engine_deadline_us(engine) <= tide_bus_now_us(bus));
    tide_event event;
    assert_true(tide_engine_next_event(engine, consumer, tide_bus_now_us(bus), &event));
    assert_false(tide_engine_has_event(engine));
    tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
    assert_int_equal(
        tide_engine_settle(engine, consumer, event.handle, &verdict, tide_bus_now_us(bus)),
        TIDE_OK);
    tide_bus_write(bus);
    assert_int_equal(tide_bus_poll_events(bus, 0, &held), TIDE_OK);
    assert_false(held);
    tide_consumer_stats stats;
    assert_int_equal(tide_engine_stats_of(engine, consumer, &stats), TIDE_OK);
    assert_int_equal(stats.acked, 1);
    tide_bus_close(bus);
}

static void serves_an_outer_loop(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(false, false);
    tide_bus *bus = open_bus(broker);
    uint16_t port;
    int listener = loopback_listen(&port);
    fake_link *link = &broker->links[0];
    want_open(link, port);
    struct pollfd outer = {.fd = tide_bus_fd(bus), .events = POLLIN};
    for (int turns = 0; !link->is_up && turns < TURNS_MAX; turns++) {
        int64_t timeout_us = tide_bus_timeout_us(bus);
        assert_true(timeout_us >= 0); /* connecting has an end */
        poll(&outer, 1, (int)(timeout_us / 1000));
        assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    }
    int peer = accept(listener, NULL, NULL);
    assert_int_equal(tide_bus_timeout_us(bus), -1);
    assert_int_equal(poll(&outer, 1, 0), 0);
    /* What was submitted is sent by asking for the time-out. */
    link->output = "ping";
    link->output_size = 4;
    assert_int_equal(tide_bus_timeout_us(bus), -1);
    char bytes[4];
    assert_int_equal(recv(peer, bytes, 4, MSG_WAITALL), 4);
    assert_int_equal(send(peer, "x", 1, 0), 1);
    assert_int_equal(poll(&outer, 1, 10000), 1);
    assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    assert_int_equal(link->fed, 1);
    assert_int_equal(poll(&outer, 1, 0), 0);
    tide_bus_close(bus);
    close(peer);
    close(listener);
}

/* ---- jobs ---- */

/* `count` jobs that do this; the memory is the caller's. */
static void give_jobs(fake_broker *broker, fake_job *jobs, size_t count,
                      void (*work)(fake_job *job), void *context) {
    for (size_t i = 0; i < count; i++) {
        jobs[i] = (fake_job){.work = work, .context = context};
        broker->jobs[i] = &jobs[i];
    }
    broker->job_count = count;
}

static void runs_quick_jobs_inline_and_bounded(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(true, false);
    tide_bus *bus = open_bus(broker);
    static fake_job jobs[FAKE_JOBS];
    give_jobs(broker, jobs, FAKE_JOBS, NULL, NULL);
    assert_int_equal(tide_bus_timeout_us(bus), 0);
    assert_in_range(broker->jobs_finished, 1, FAKE_JOBS / 2);
    size_t before = broker->jobs_finished;
    assert_int_equal(tide_bus_poll(bus, -1), TIDE_OK);
    assert_in_range(broker->jobs_finished, before + 1, FAKE_JOBS - 1);
    POLL_UNTIL(bus, broker->jobs_finished == FAKE_JOBS);
    assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    assert_int_equal(tide_bus_timeout_us(bus), -1);
    tide_bus_close(bus);
}

static void take_two_ms(fake_job *job) {
    (void)job;
    usleep(2000);
}

/* A caller with a frame to draw waits for one long job a pump, not for all that there are. */
static void gives_the_turn_back_between_long_inline_jobs(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(true, false);
    tide_bus *bus = open_bus(broker);
    static fake_job jobs[10];
    give_jobs(broker, jobs, 10, take_two_ms, NULL);
    for (size_t turn = 1; turn <= 5; turn++) {
        assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
        assert_int_equal(broker->jobs_finished, 2 * turn);
    }
    tide_bus_close(bus);
}

typedef struct slow_work {
    sem_t may_end;
    pthread_t thread;
} slow_work;

static void wait_for_leave(fake_job *job) {
    slow_work *work = job->context;
    work->thread = pthread_self();
    while (sem_wait(&work->may_end) != 0)
        ;
}

static void runs_blocking_jobs_off_the_loop(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(true, true);
    tide_bus *bus = open_bus(broker);
    slow_work work;
    sem_init(&work.may_end, 0, 0);
    static fake_job jobs[3];
    give_jobs(broker, jobs, 3, wait_for_leave, &work);
    /* The loop turns while the job can't end. */
    for (int i = 0; i < 5; i++)
        assert_int_equal(tide_bus_poll(bus, 1000), TIDE_OK);
    assert_int_equal(broker->jobs_finished, 0);
    struct pollfd outer = {.fd = tide_bus_fd(bus), .events = POLLIN};
    assert_int_equal(poll(&outer, 1, 0), 0);
    sem_post(&work.may_end);
    assert_int_equal(poll(&outer, 1, 10000), 1);
    POLL_UNTIL(bus, broker->jobs_finished == 1);
    sem_post(&work.may_end);
    sem_post(&work.may_end);
    POLL_UNTIL(bus, broker->jobs_finished == 3);
    assert_false(pthread_equal(work.thread, pthread_self()));
    assert_int_equal(poll(&outer, 1, 0), 0);
    tide_bus_close(bus);
    sem_destroy(&work.may_end);
}

static void take_a_while(fake_job *job) {
    (void)job;
    usleep(50000);
}

static void waits_for_running_jobs_at_close(void **state) {
    (void)state;
    fake_broker *broker = fake_broker_create(true, true);
    tide_bus *bus = open_bus(broker);
    static fake_job jobs[2];
    give_jobs(broker, jobs, 2, take_a_while, NULL);
    assert_int_equal(tide_bus_poll(bus, 0), TIDE_OK);
    tide_bus_close(bus);
    assert_true(jobs[0].finished);
    assert_true(jobs[1].finished);
    assert_true(broker->destroyed);
}

/* ---- the rest ---- */

static void survives_every_failed_allocation(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        uint16_t port;
        int listener = loopback_listen(&port); /* a new one each time: nobody accepts */
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, n, false);
        fake_broker *broker = fake_broker_create(false, false);
        tide_env env = {0};
        tide_engine *engine;
        assert_int_equal(tide_engine_open_with(&engine, &broker->base, &env, NULL), TIDE_OK);
        tide_bus *bus = NULL;
        tide_status status = tide__bus_open_engine(&bus, engine, alloc, NULL);
        assert_true(status == TIDE_OK || (status == TIDE_ENOMEM && memory.failed > 0));
        if (status == TIDE_OK) {
            for (uint32_t i = 0; i < 20; i++)
                want_open(&broker->links[i], port);
            for (uint32_t i = 0; i < 20; i++) {
                POLL_UNTIL(bus, broker->links[i].is_up || broker->links[i].closed > 0);
                if (broker->links[i].closed > 0)
                    assert_int_equal(broker->links[i].why.status, TIDE_ENOMEM);
            }
        }
        tide_bus_close(bus);
        assert_true(broker->destroyed);
        close(listener);
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        if (memory.failed == 0)
            break;
    }
    tide_bus_close(NULL);
}

static void has_clocks(void **state) {
    (void)state;
    int64_t a = tide_clock_now_us(), b = tide_clock_now_us();
    assert_true(a > 0 && b >= a);
    assert_true(tide_clock_wall_offset_us() + b > INT64_C(1600000000) * 1000000);
    assert_true(tide_clock_seed() != tide_clock_seed());
    assert_non_null(strchr(tide_version(), '.'));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_bytes_both_ways),
        cmocka_unit_test(reports_what_it_cannot_open),
        cmocka_unit_test(closes_and_reopens_when_told),
        cmocka_unit_test(feeds_nothing_to_a_link_given_up),
        cmocka_unit_test(sends_more_than_a_socket_takes),
        cmocka_unit_test(reads_fairly),
        cmocka_unit_test(keeps_many_links),
        cmocka_unit_test(waits_for_the_deadline),
        cmocka_unit_test(waits_no_longer_than_asked),
        cmocka_unit_test(returns_on_a_signal),
        cmocka_unit_test(leaves_sending_to_who_has_an_event),
        cmocka_unit_test(serves_an_outer_loop),
        cmocka_unit_test(runs_quick_jobs_inline_and_bounded),
        cmocka_unit_test(gives_the_turn_back_between_long_inline_jobs),
        cmocka_unit_test(runs_blocking_jobs_off_the_loop),
        cmocka_unit_test(waits_for_running_jobs_at_close),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(has_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
