/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BROKER_BROKER_H
#define TIDE_BROKER_BROKER_H

#include <tidemill/operation.h>

#include "base/url.h"

/*
 * The broker port: what an engine's adapter offers to everything above it. A broker does no I/O, reads no clock and
 * never calls back. Operations and time go in; completions, wishes for links and jobs come out.
 *
 *   submit ──► [ adapter ] ──► next_completion
 *                 │   ▲
 *    bytes side:  │   │  next_link_want, link_opened, link_closed, feed, output, output_ack   (Redis/Valkey)
 *    jobs side:   │   │  take_job, (job->run on any thread), finish_job                       (SQLite)
 *
 * Which connection serves which operation is the adapter's own question: it names links by number and says where each
 * goes. A driver (runtime/, the simulator, a cosocket loop) opens, closes, reads and writes what it is told to.
 * `now_us` is the caller's monotonic clock; it never goes back. All calls come from one thread, except a job's run.
 */

typedef struct tide_broker tide_broker;

typedef enum tide_link_action { TIDE_LINK_OPEN, TIDE_LINK_CLOSE } tide_link_action;

/* Where a link goes. Views into the adapter, valid as long as the link is wanted. */
typedef struct tide_endpoint {
    tide_scheme scheme; /* TIDE_SCHEME_REDIS, _REDIS_TLS or _UNIX */
    tide_str host;      /* or the socket's path */
    uint16_t port;
} tide_endpoint;

typedef struct tide_link_want {
    uint32_t link;
    tide_link_action action;
    tide_endpoint endpoint; /* OPEN */
} tide_link_want;

/* A piece of blocking work. `run` is called once, on any thread, and touches nothing but what the job owns; then
 * the job goes back by finish_job. */
typedef struct tide_job {
    void (*run)(struct tide_job *job);
    struct tide_job *next; /* for the driver's queue */
} tide_job;

typedef struct tide_broker_vtable {
    const char *name; /* "redis", "sqlite" */
    bool jobs_block;  /* jobs wait for a disk: run them off the loop's thread */
    void (*destroy)(tide_broker *broker);

    /* TIDE_OK: exactly one completion follows. TIDE_OVERFLOW, TIDE_LIMIT, TIDE_ARGUMENT, TIDE_ENOMEM, TIDE_CLOSED: none
     * does, nothing happened, `error` says why. */
    tide_status (*submit)(tide_broker *broker, const tide_op *op, int64_t now_us,
                          tide_error *error);
    /* False when there is none. */
    bool (*next_completion)(tide_broker *broker, tide_completion *completion);
    /* A fetch that waits on this reader ends soon, with what it has or nothing. Entries are never dropped by it. */
    void (*interrupt)(tide_broker *broker, uint32_t reader, int64_t now_us);
    /* The reader's link is not needed any more; no operation of it is under way. */
    void (*drop_reader)(tide_broker *broker, uint32_t reader, int64_t now_us);
    /* Watches a stream's delayed set: what is pointed to grows each time that somebody, maybe another process, puts an event
     * there that is due before all others, so that a PROMOTE then pays. It is valid until it is given to unwatch, once for each
     * watch. A hint, not a promise: what it misses, the next PROMOTE finds. NULL when there is no memory for it. Both
     * members are NULL on an engine that offers none. */
    const uint64_t *(*watch)(tide_broker *broker, tide_str stream, int64_t now_us);
    void (*unwatch)(tide_broker *broker, const uint64_t *watch, int64_t now_us);
    /* Time passes: time limits, reconnects, polls. */
    void (*tick)(tide_broker *broker, int64_t now_us);
    /* When tick is due next; INT64_MAX when never. */
    int64_t (*deadline_us)(const tide_broker *broker);

    /* Bytes side; NULL members on an engine without links. */
    bool (*next_link_want)(tide_broker *broker, tide_link_want *want);
    void (*link_opened)(tide_broker *broker, uint32_t link, int64_t now_us);
    /* Also: it could not be opened. `why` is never TIDE_OK. */
    void (*link_closed)(tide_broker *broker, uint32_t link, const tide_error *why, int64_t now_us);
    void (*feed)(tide_broker *broker, uint32_t link, const char *bytes, size_t size,
                 int64_t now_us);
    /* What wants to be sent; valid until the next call on this broker. size 0: nothing. */
    tide_str (*output)(tide_broker *broker, uint32_t link);
    void (*output_ack)(tide_broker *broker, uint32_t link, size_t size, int64_t now_us);
    /* With the option password_file: the driver reads it before each link that it opens, and links that open from now on
     * say this one. Copied. TIDE_OK, TIDE_ENOMEM. */
    tide_status (*set_password)(tide_broker *broker, tide_str password);

    /* Jobs side; NULL members on an engine without jobs. */
    tide_job *(*take_job)(tide_broker *broker, int64_t now_us);
    void (*finish_job)(tide_broker *broker, tide_job *job, int64_t now_us);

    /* Connected, healthy? One line for people in `error` when not. */
    tide_status (*state)(const tide_broker *broker, tide_error *error);
} tide_broker_vtable;

/* Every adapter's object begins with this. */
struct tide_broker {
    const tide_broker_vtable *vtable;
};

/* What both adapters are created from; all views are copied. */
typedef struct tide_broker_options {
    const tide_url *url;
    const tide_url_options *url_options;
    tide_env env;
    /* Wall clock minus the clock of now_us, in us, at creation: for ids and due times of the embedded engine. */
    int64_t wall_offset_us;
} tide_broker_options;

/* TIDE_OK; TIDE_ENOMEM, TIDE_UNSUPPORTED, TIDE_OPTION with `error`. Neither connects nor opens a file yet. */
tide_status tide_broker_redis_create(tide_broker **broker, const tide_broker_options *options,
                                     tide_error *error);
tide_status tide_broker_sqlite_create(tide_broker **broker, const tide_broker_options *options,
                                      tide_error *error);

/* ---- batches, shared by the adapters (broker/batch.c) ---- */

struct tide_batch {
    const tide_allocator *alloc; /* outlives the batch */
    tide_entry *entries;
    size_t count;
    size_t capacity;
    size_t size; /* of this block */
    void (*release_backing)(void *backing);
    void *backing; /* what the entries' fields point into */
};

/* A batch with room for `capacity` entries and `fields` fields (handed out by tide_batch_fields); NULL when there is no
 * memory. One allocation. */
tide_batch *tide_batch_create(const tide_allocator *alloc, size_t capacity, size_t fields);
/* The array for all fields, behind the entries. */
tide_field *tide_batch_fields(tide_batch *batch);

/* Derived keys share the stream's hash tag: "{orders}:dlq"; a stream that has a tag keeps it: "{a}.3" gives "{a}.3:dlq".
 * Writes into `out` (≥ stream.len + suffix.len + 3 bytes), returns the length. */
size_t tide_derived_key(char *out, tide_str stream, tide_str suffix);

#endif
