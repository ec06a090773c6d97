/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_BROKER_SQLITE_RIG_H
#define TIDE_SPEC_BROKER_SQLITE_RIG_H

#include "broker/broker.h"

/*
 * An embedded broker in a test's hands: a clock that only the test moves, jobs run where they are taken, and short words
 * for the operations. Everything is asserted to be taken in unless a function says otherwise.
 */
typedef struct rig {
    tide_broker *broker;
    tide_allocator alloc;
    int64_t now_us; /* wall clock: the same plus wall_ms */
    uint64_t tag;
    tide_completion last;
} rig;

enum { RIG_WALL_MS = 1000000 };

typedef struct rig_options {
    const char *path; /* NULL: in memory */
    const tide_allocator *alloc;
    tide_synchronous synchronous;
    int64_t busy_ms;
    uint64_t max_len;
    int64_t max_age_ms;
} rig_options;

/* TIDE_OK or what creating said. */
tide_status rig_create(rig *r, const rig_options *options);
/* With asserts. `path` NULL: in memory. */
void rig_open(rig *r, const char *path);
void rig_close(rig *r);

/* Runs all jobs there are. */
void rig_run(rig *r);
/* Submits, runs, takes the one completion (of this operation) into r->last; returns its status. */
tide_status rig_do(rig *r, tide_op op);
/* Submits only, with asserts; returns the tag. */
uint64_t rig_submit(rig *r, tide_op op);
/* The next completion there is, after running jobs; false when there is none. */
bool rig_next(rig *r);

/* A test of a rig `r` (static, a pointer) that is in memory, open before and closed after it. */
int rig_setup(void **state);
int rig_teardown(void **state);
#define IN_MEMORY(test, r)                                                                         \
    cmocka_unit_test_prestate_setup_teardown(test, rig_setup, rig_teardown, (r))

/* The text `actual`, a tide_str, is the C string `expected`. */
#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        tide_str got_ = (actual);                                                                  \
        assert_int_equal(got_.len, strlen(expected));                                              \
        assert_memory_equal(got_.data, expected, got_.len);                                        \
    } while (0)

tide_str str(const char *text);
tide_id id_of(uint64_t ms, uint64_t seq);

/* One event: event_id `id`, event_type "t", data `data`. */
tide_status rig_publish(rig *r, const char *stream, const char *id, const char *data);
/* A record of this event_id, which is its data too; good for the next three calls. `id` is borrowed. */
tide_record rig_record(const char *id);
tide_op rig_publish_op(const char *stream, const tide_record *records, size_t count);
tide_status rig_ensure(rig *r, const char *stream, const char *group, const char *start);
tide_op rig_fetch_op(const char *stream, const char *group, const char *consumer, uint32_t count);
/* The entries are in r->last, the batch is the caller's to release. */
tide_status rig_fetch(rig *r, const char *stream, const char *group, const char *consumer,
                      uint32_t count);
size_t rig_count(const tide_batch *batch);
tide_str rig_field(const tide_entry *entry, const char *name);
tide_status rig_settle(rig *r, const char *stream, const char *group, const char *consumer,
                       tide_settlement item);
/* How many of a stream's delayed events, ten at most, were moved; what the answer says of the next. */
uint32_t rig_promote(rig *r, const char *stream, int64_t *next_due_ms);
/* A command of words; the reply as text, like redis-cli's: (integer) 1, "text", [a, b], (nil), (error) …. */
const char *rig_command(rig *r, const char *const *words, size_t count);
#define COMMAND(r, ...)                                                                            \
    rig_command((r), (const char *const[]){__VA_ARGS__},                                           \
                sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))
/* A value of TIDE_OP_SERVER's reply; -1 when it is missing. */
int64_t rig_server_integer(rig *r, const char *name);

/* Removes a database with its journals. */
void rig_remove(const char *path);

#endif
