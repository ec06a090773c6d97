/* SPDX-License-Identifier: MIT */
/*
 * What it is: the POSIX driver: does for an engine's broker what a broker can't: opens and closes links, moves their bytes,
 * runs jobs, tells the time.
 * What it is not: a place for decisions. When to connect, retry or give up is the adapter's business.
 *
 * One turn (tide_bus_poll):
 *
 *   pump ──► wait ──► events: advance, read + feed, finished jobs ──► tick ──► pump
 *
 * where pump sends output, serves the wishes for links and starts jobs. It comes before the wait so that what a caller has
 * just submitted is under way while it waits, and after the tick so that nothing which this turn caused waits for the next.
 * A send is the dearest thing between bytes that have come and the handler of their event: tide_bus_poll_events leaves the
 * last pump to a caller that has an event to hand out first.
 *
 * Invariants:
 *   1. A link of ours exists from the adapter's wish to open it until its wish to close it or our link_closed, whichever is
 *      first; after either, no bytes of it are fed.
 *   2. A link has a slot as long as it lives; epoll names it by slot and stamp, so that a late answer finds nobody. One
 *      that dies while events are handled is buried at the end of the turn only, as callers up the stack still look at it.
 *   3. After pump all output has been offered to its socket: what is left waits for EPOLLOUT.
 *   4. epoll knows exactly the descriptor that `serial` names, with the events in `interest`.
 *   5. Reading is level-triggered and bounded for each link and turn, so that one busy link doesn't starve the rest.
 */
#include "runtime/runtime.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"
#include "engine/engine.h"
#include "runtime/clock.h"
#include "runtime/secret.h"
#include "runtime/worker.h"
#include "transport/transport.h"

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
#define HAS_EPOLL_PWAIT2 1
#endif
#endif

enum {
    READ_SIZE = 128 * 1024,
    READS_PER_TURN = 4,
    EVENTS_PER_WAIT = 64,
    INLINE_JOBS_PER_PUMP = 64,
    /* Inline jobs start no later than this in a pump: a caller with a frame to draw gets its turn back. */
    INLINE_US_PER_PUMP = 500,
    /* An adapter that asks again at once for what has just failed is not followed for ever. */
    WANTS_PER_PUMP = 2 * TIDE_LINKS_MAX,
};

static const uint64_t WORKER_EVENT = UINT64_MAX;

typedef struct bus_link {
    uint32_t number; /* the adapter's */
    uint32_t slot;
    uint32_t stamp;    /* no other link of this slot had it */
    uint32_t serial;   /* of the descriptor that epoll knows; 0: none */
    uint32_t interest; /* EPOLLIN | EPOLLOUT */
    bool is_up;
    bool has_pending;          /* more bytes inside the transport */
    tide_transport *transport; /* NULL: dead */
    struct bus_link *next_dead;
} bus_link;

struct tide_bus {
    tide_allocator alloc;
    tide_engine *engine;
    tide_broker *broker;
    const tide_broker_vtable *vtable;
    bool was_quiet; /* the last turn */
    int epoll_fd;
    bool has_pwait2;
    bool any_pending; /* some link has_pending */
    bool jobs_ran;    /* inline ones, in the last pump */
    int64_t now_us;
    bus_link **slots;  /* NULL: free */
    size_t slot_count; /* in use or free, from the front */
    size_t slot_capacity;
    size_t link_count;
    uint32_t last_stamp;
    size_t connecting_count;
    bus_link *dead;
    tide_worker *worker; /* NULL until the first blocking job */
    char *read_buffer;   /* NULL until the first link */
};

/* ---- links ---- */

static bus_link *find_link(const tide_bus *bus, uint32_t number) {
    for (size_t i = 0; i < bus->slot_count; i++) {
        if (bus->slots[i] != NULL && bus->slots[i]->number == number)
            return bus->slots[i];
    }
    return NULL;
}

/* The link is no more; its memory stays until bury_dead. */
static void drop_link(tide_bus *bus, bus_link *link) {
    bus->slots[link->slot] = NULL;
    bus->link_count--;
    while (bus->slot_count > 0 && bus->slots[bus->slot_count - 1] == NULL)
        bus->slot_count--;
    if (!link->is_up)
        bus->connecting_count--;
    /* Its close takes it out of epoll too, unless a forked child shares it. */
    if (link->serial == tide_transport_fd_serial(link->transport))
        (void)epoll_ctl(bus->epoll_fd, EPOLL_CTL_DEL, tide_transport_fd(link->transport), NULL);
    tide_transport_close(link->transport);
    link->transport = NULL;
    link->next_dead = bus->dead;
    bus->dead = link;
}

static void bury_dead(tide_bus *bus) {
    while (bus->dead != NULL) {
        bus_link *link = bus->dead;
        bus->dead = link->next_dead;
        tide_free(&bus->alloc, link, sizeof *link);
    }
}

static void lose_link(tide_bus *bus, bus_link *link, const tide_error *why) {
    uint32_t number = link->number;
    drop_link(bus, link);
    bus->vtable->link_closed(bus->broker, number, why, bus->now_us);
}

/* Makes epoll know what the transport wants now. */
static tide_status watch(tide_bus *bus, bus_link *link, tide_error *error) {
    short wants = tide_transport_wants(link->transport);
    uint32_t serial = tide_transport_fd_serial(link->transport);
    uint32_t interest = ((wants & POLLIN) != 0 ? (uint32_t)EPOLLIN : 0u) |
                        ((wants & POLLOUT) != 0 ? (uint32_t)EPOLLOUT : 0u);
    if (serial == link->serial && interest == link->interest)
        return TIDE_OK;
    struct epoll_event event = {.events = interest,
                                .data.u64 = (uint64_t)link->stamp << 32 | link->slot};
    int fd = tide_transport_fd(link->transport);
    int operation = serial == link->serial ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(bus->epoll_fd, operation, fd, &event) != 0)
        return tide_error_set(error, TIDE_CONNECT, "cannot watch the connection: %s",
                              strerror(errno));
    link->serial = serial;
    link->interest = interest;
    return TIDE_OK;
}

/* A free slot; false when there is no memory. */
static bool take_slot(tide_bus *bus, uint32_t *slot) {
    if (bus->read_buffer == NULL)
        bus->read_buffer = tide_alloc(&bus->alloc, READ_SIZE);
    if (bus->read_buffer == NULL)
        return false;
    size_t at = 0;
    while (at < bus->slot_count && bus->slots[at] != NULL)
        at++;
    if (at == bus->slot_capacity) {
        size_t capacity = at > 0 ? at * 2 : 8;
        bus_link **slots =
            tide_realloc(&bus->alloc, bus->slots, at * sizeof *slots, capacity * sizeof *slots);
        if (slots == NULL)
            return false;
        bus->slots = slots;
        bus->slot_capacity = capacity;
    }
    *slot = (uint32_t)at;
    return true;
}

/* The secret of links that open from now on, when it lies in a file. */
static tide_status take_password(const tide_engine *engine, tide_broker *broker,
                                 tide_error *error) {
    tide_str path = tide_engine_url_options(engine)->password_file;
    if (path.data == NULL || broker->vtable->set_password == NULL)
        return TIDE_OK;
    char secret[TIDE_SECRET_MAX + 2];
    size_t size;
    tide_status status = tide_secret_read(path, secret, &size, error);
    if (status != TIDE_OK)
        return status;
    status = broker->vtable->set_password(broker, (tide_str){secret, size});
    tide_secret_wipe(secret, size);
    if (status != TIDE_OK)
        return tide_error_set(error, status, "no memory to connect");
    return TIDE_OK;
}

static tide_status make_link(tide_bus *bus, const tide_link_want *want, tide_error *error) {
    if (bus->link_count >= TIDE_LINKS_MAX)
        return tide_error_set(error, TIDE_LIMIT, "more than %d connections", (int)TIDE_LINKS_MAX);
    tide_status secret = take_password(bus->engine, bus->broker, error);
    if (secret != TIDE_OK)
        return secret;
    uint32_t slot;
    bus_link *link = take_slot(bus, &slot) ? tide_alloc_zero(&bus->alloc, 1, sizeof *link) : NULL;
    if (link == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory to connect");
    tide_status status =
        tide_transport_open(&link->transport, &bus->alloc, &want->endpoint,
                            tide_engine_url_options(bus->engine), bus->now_us, error);
    if (status != TIDE_OK) {
        tide_free(&bus->alloc, link, sizeof *link);
        return status;
    }
    link->number = want->link;
    link->slot = slot;
    link->stamp = ++bus->last_stamp;
    bus->slots[slot] = link;
    if (slot == bus->slot_count)
        bus->slot_count++;
    bus->link_count++;
    bus->connecting_count++;
    status = watch(bus, link, error);
    if (status != TIDE_OK)
        drop_link(bus, link);
    return status;
}

static void serve_wants(tide_bus *bus) {
    if (bus->vtable->next_link_want == NULL)
        return;
    tide_link_want want;
    for (int i = 0; i < WANTS_PER_PUMP && bus->vtable->next_link_want(bus->broker, &want); i++) {
        bus_link *link = find_link(bus, want.link);
        if (link != NULL)
            drop_link(bus, link);
        tide_error error;
        if (want.action == TIDE_LINK_OPEN && make_link(bus, &want, &error) != TIDE_OK)
            bus->vtable->link_closed(bus->broker, want.link, &error, bus->now_us);
    }
}

static void advance_link(tide_bus *bus, bus_link *link) {
    tide_error error;
    tide_status status = tide_transport_advance(link->transport, bus->now_us, &error);
    if (status == TIDE_OK || status == TIDE_AGAIN) {
        if (status == TIDE_OK) {
            link->is_up = true;
            bus->connecting_count--;
            link->has_pending = tide_transport_has_pending(link->transport);
            bus->any_pending = bus->any_pending || link->has_pending;
        }
        tide_status watched = watch(bus, link, &error);
        if (watched != TIDE_OK) {
            lose_link(bus, link, &error);
            return;
        }
        if (status == TIDE_OK)
            bus->vtable->link_opened(bus->broker, link->number, bus->now_us);
        return;
    }
    lose_link(bus, link, &error);
}

/* ---- bytes ---- */

static void read_link(tide_bus *bus, bus_link *link) {
    link->has_pending = false;
    for (int turn = 0; turn < READS_PER_TURN; turn++) {
        size_t size = 0;
        tide_error error;
        tide_status status =
            tide_transport_read(link->transport, bus->read_buffer, READ_SIZE, &size, &error);
        if (status == TIDE_AGAIN)
            break;
        if (status != TIDE_OK) {
            lose_link(bus, link, &error);
            return;
        }
        bus->vtable->feed(bus->broker, link->number, bus->read_buffer, size, bus->now_us);
        /* The adapter may have given this link up over what it read. */
        serve_wants(bus);
        if (link->transport == NULL)
            return;
        link->has_pending = tide_transport_has_pending(link->transport);
        /* A short read has emptied the socket; epoll tells when there is more. */
        if (size < READ_SIZE && !link->has_pending)
            break;
    }
    bus->any_pending = bus->any_pending || link->has_pending;
    tide_error error;
    if (watch(bus, link, &error) != TIDE_OK)
        lose_link(bus, link, &error);
}

/* Offers the link's output to its socket once; the link may die of it. */
static void write_link(tide_bus *bus, bus_link *link) {
    tide_str output = bus->vtable->output(bus->broker, link->number);
    bool was_blocked = (link->interest & (uint32_t)EPOLLOUT) != 0;
    if (output.len == 0 && !was_blocked)
        return;
    size_t sent = 0;
    tide_error error;
    tide_status status =
        tide_transport_write(link->transport, output.data, output.len, &sent, &error);
    if (sent > 0)
        bus->vtable->output_ack(bus->broker, link->number, sent, bus->now_us);
    if (status == TIDE_OK || status == TIDE_AGAIN)
        status = watch(bus, link, &error);
    if (status != TIDE_OK)
        lose_link(bus, link, &error);
}

static void write_links(tide_bus *bus) {
    for (size_t i = 0; i < bus->slot_count; i++) {
        bus_link *link = bus->slots[i];
        if (link != NULL && link->is_up && (link->interest & (uint32_t)EPOLLOUT) == 0)
            write_link(bus, link);
    }
}

/* ---- jobs ---- */

static void finish_job(tide_bus *bus, tide_job *job) {
    bus->vtable->finish_job(bus->broker, job, bus->now_us);
}

static bool hand_to_worker(tide_bus *bus, tide_job *job) {
    if (bus->worker == NULL) {
        tide_worker *worker;
        if (tide_worker_open(&worker, &bus->alloc, NULL) != TIDE_OK)
            return false;
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = WORKER_EVENT};
        if (epoll_ctl(bus->epoll_fd, EPOLL_CTL_ADD, tide_worker_fd(worker), &event) != 0) {
            (void)tide_worker_close(worker);
            return false;
        }
        bus->worker = worker;
    }
    return tide_worker_submit(bus->worker, job) == TIDE_OK;
}

static void start_jobs(tide_bus *bus) {
    bus->jobs_ran = false;
    if (bus->vtable->take_job == NULL)
        return;
    int64_t begin_us = tide_clock_now_us();
    for (int i = 0; i < INLINE_JOBS_PER_PUMP; i++) {
        tide_job *job = bus->vtable->take_job(bus->broker, bus->now_us);
        if (job == NULL)
            return;
        /* Without a thread the job runs here: late is better than never. */
        if (bus->vtable->jobs_block && hand_to_worker(bus, job))
            continue;
        job->run(job);
        finish_job(bus, job);
        bus->jobs_ran = true;
        if (tide_clock_now_us() - begin_us >= INLINE_US_PER_PUMP)
            return;
    }
}

static void take_finished_jobs(tide_bus *bus) {
    if (bus->worker == NULL)
        return;
    tide_job *job;
    while ((job = tide_worker_take_done(bus->worker)) != NULL)
        finish_job(bus, job);
}

/* ---- a turn ---- */

static void pump(tide_bus *bus) {
    write_links(bus);
    serve_wants(bus);
    start_jobs(bus);
}

/* When the next turn is due; INT64_MAX: when something happens. */
static int64_t due_us(const tide_bus *bus) {
    if (bus->any_pending || bus->jobs_ran)
        return bus->now_us;
    int64_t due = tide_engine_deadline_us(bus->engine);
    if (bus->connecting_count > 0) {
        for (size_t i = 0; i < bus->slot_count; i++) {
            int64_t deadline = bus->slots[i] != NULL
                                   ? tide_transport_deadline_us(bus->slots[i]->transport)
                                   : INT64_MAX;
            due = deadline < due ? deadline : due;
        }
    }
    return due;
}

static int wait_for_events(tide_bus *bus, struct epoll_event *events, int64_t wait_us) {
#ifdef HAS_EPOLL_PWAIT2
    if (bus->has_pwait2 && wait_us > 0) {
        struct timespec wait = {.tv_sec = (time_t)(wait_us / 1000000),
                                .tv_nsec = (long)(wait_us % 1000000) * 1000};
        int count = epoll_pwait2(bus->epoll_fd, events, EVENTS_PER_WAIT, &wait, NULL);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return count;
        bus->has_pwait2 = false; /* an older kernel, or a sandbox that doesn't know the call */
    }
#endif
    int wait_ms = -1;
    if (wait_us >= 0)
        wait_ms = wait_us < (int64_t)1000 * INT32_MAX ? (int)((wait_us + 999) / 1000) : INT32_MAX;
    return epoll_wait(bus->epoll_fd, events, EVENTS_PER_WAIT, wait_ms);
}

static void handle_event(tide_bus *bus, const struct epoll_event *event) {
    if (event->data.u64 == WORKER_EVENT) {
        take_finished_jobs(bus);
        return;
    }
    size_t slot = (uint32_t)event->data.u64;
    bus_link *link = slot < bus->slot_count ? bus->slots[slot] : NULL;
    if (link == NULL || link->stamp != event->data.u64 >> 32)
        return;
    if (!link->is_up) {
        advance_link(bus, link);
        return;
    }
    if ((event->events & (uint32_t)EPOLLOUT) != 0)
        write_link(bus, link);
    if (link->transport != NULL && (event->events & ~(uint32_t)EPOLLOUT) != 0)
        read_link(bus, link);
}

/* What epoll doesn't tell: bytes inside a transport, connections whose time is over. */
static void handle_silent(tide_bus *bus) {
    if (!bus->any_pending && bus->connecting_count == 0)
        return;
    bus->any_pending = false;
    for (size_t i = 0; i < bus->slot_count; i++) {
        bus_link *link = bus->slots[i];
        if (link == NULL)
            continue;
        if (link->is_up && link->has_pending)
            read_link(bus, link);
        else if (!link->is_up && bus->now_us >= tide_transport_deadline_us(link->transport))
            advance_link(bus, link);
    }
}

static tide_status turn(tide_bus *bus, int64_t timeout_us, bool events_first, bool *held) {
    uint64_t routed = tide_engine_routed(bus->engine);
    bus->was_quiet = false;
    tide_bus_update_now(bus);
    pump(bus);
    int64_t due = due_us(bus);
    int64_t wait_us = due == INT64_MAX ? -1 : due > bus->now_us ? due - bus->now_us : 0;
    if (timeout_us >= 0 && (wait_us < 0 || timeout_us < wait_us))
        wait_us = timeout_us;
    struct epoll_event events[EVENTS_PER_WAIT];
    int count = 0;
    /* An engine in memory has nothing that could be ready. */
    if (wait_us != 0 || bus->link_count > 0 || bus->worker != NULL) {
        count = wait_for_events(bus, events, wait_us);
        if (count < 0 && errno != EINTR) {
            bury_dead(bus);
            *held = false;
            return TIDE_IO;
        }
        tide_bus_update_now(bus);
    }
    for (int i = 0; i < count; i++)
        handle_event(bus, &events[i]);
    handle_silent(bus);
    tide_engine_tick(bus->engine, bus->now_us);
    *held = events_first && tide_engine_has_event(bus->engine);
    if (!*held)
        pump(bus);
    bury_dead(bus);
    bus->was_quiet = count == 0 && !tide_engine_is_to_be_asked(bus->engine) &&
                     !tide_engine_has_completion(bus->engine, bus->now_us) &&
                     tide_engine_routed(bus->engine) == routed;
    return TIDE_OK;
}

tide_status tide_bus_poll(tide_bus *bus, int64_t timeout_us) {
    bool held;
    return turn(bus, timeout_us, false, &held);
}

tide_status tide_bus_poll_events(tide_bus *bus, int64_t timeout_us, bool *held) {
    return turn(bus, timeout_us, true, held);
}

bool tide_bus_was_quiet(const tide_bus *bus) {
    return bus->was_quiet;
}

void tide_bus_write(tide_bus *bus) {
    pump(bus);
    bury_dead(bus);
}

int tide_bus_fd(const tide_bus *bus) {
    return bus->epoll_fd;
}

int64_t tide_bus_timeout_us(tide_bus *bus) {
    tide_bus_update_now(bus);
    tide_bus_write(bus);
    int64_t due = due_us(bus);
    if (due == INT64_MAX)
        return -1;
    return due > bus->now_us ? due - bus->now_us : 0;
}

/* ---- opening and closing ---- */

tide_status tide__bus_open_engine(tide_bus **bus, tide_engine *engine, tide_allocator allocator,
                                  tide_error *error) {
    tide_allocator alloc = tide_allocator_or_default(allocator);
    tide_bus *made = tide_alloc_zero(&alloc, 1, sizeof *made);
    if (made == NULL) {
        tide_engine_close(engine);
        return tide_error_set(error, TIDE_ENOMEM, "no memory for a bus");
    }
    made->alloc = alloc;
    made->engine = engine;
    made->broker = tide_engine_broker(engine);
    made->vtable = made->broker->vtable;
    made->has_pwait2 = true;
    made->now_us = tide_clock_now_us();
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (made->epoll_fd < 0) {
        int why = errno;
        tide_engine_close(engine);
        tide_free(&alloc, made, sizeof *made);
        return tide_error_set(error, TIDE_IO, "no epoll descriptor: %s", strerror(why));
    }
    *bus = made;
    return TIDE_OK;
}

tide_status tide_bus_open(tide_bus **bus, const tide_engine_options *options, tide_error *error) {
    tide_engine_options mine = *options;
    mine.wall_offset_us = tide_clock_wall_offset_us();
    if (mine.env.seed == 0)
        mine.env.seed = tide_clock_seed();
    tide_engine *engine;
    tide_status status = tide_engine_open(&engine, &mine, error);
    if (status != TIDE_OK)
        return status;
    /* Only looked at: a file that isn't there is better said now than at the first connection. */
    status = take_password(engine, tide_engine_broker(engine), error);
    if (status != TIDE_OK) {
        tide_engine_close(engine);
        return status;
    }
    return tide__bus_open_engine(bus, engine, options->env.allocator, error);
}

void tide_bus_close(tide_bus *bus) {
    if (bus == NULL)
        return;
    tide_job *job = tide_worker_close(bus->worker);
    while (job != NULL) {
        tide_job *next = job->next;
        finish_job(bus, job);
        job = next;
    }
    while (bus->slot_count > 0)
        drop_link(bus, bus->slots[bus->slot_count - 1]);
    bury_dead(bus);
    tide_engine_close(bus->engine);
    close(bus->epoll_fd);
    tide_allocator alloc = bus->alloc;
    tide_free(&alloc, bus->read_buffer, READ_SIZE);
    tide_free(&alloc, bus->slots, bus->slot_capacity * sizeof *bus->slots);
    tide_free(&alloc, bus, sizeof *bus);
}

tide_engine *tide_bus_engine(tide_bus *bus) {
    return bus->engine;
}

int64_t tide_bus_now_us(const tide_bus *bus) {
    return bus->now_us;
}

int64_t tide_bus_update_now(tide_bus *bus) {
    bus->now_us = tide_clock_now_us();
    return bus->now_us;
}
