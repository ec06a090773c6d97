/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_OPERATION_H
#define TIDEMILL_OPERATION_H

#include <tidemill/reply.h>
#include <tidemill/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The broker port's vocabulary: operations go in, completions come out, once each. An engine (Redis/Valkey, SQLite)
 * turns an operation into its own terms. Everything an operation points to is borrowed during tide_engine_submit (or
 * tide_broker_submit) only: it is encoded or copied before the call returns.
 *
 * The end of an operation that writes is exactly one of
 *   TIDE_OK                      it is written
 *   TIDE_UNKNOWN, TIDE_TIMEOUT   it was sent and no answer came: it may be written
 *   anything else                nothing was written
 */

typedef enum tide_op_kind {
    TIDE_OP_PUBLISH,      /* entries to one stream: now, later, once, or at an expected version */
    TIDE_OP_CANCEL,       /* take back a delayed publish */
    TIDE_OP_PROMOTE,      /* move the due delayed entries of a stream into it */
    TIDE_OP_GROUP_ENSURE, /* create stream and group when missing */
    TIDE_OP_FETCH,        /* read for a consumer of a group */
    TIDE_OP_SETTLE,       /* acks, dead letters, delays, releases, attempt counts */
    TIDE_OP_EXTEND,       /* renew the lease of what a consumer still owns */
    TIDE_OP_RECOVER,      /* claim what dead consumers left */
    TIDE_OP_KV,           /* key-value with TTL, compare-and-set, counters */
    TIDE_OP_COMMAND,      /* any command, answered by the reply as it is */
    TIDE_OP_SERVER,       /* what this engine is: names and values */
    TIDE_OP_KIND_COUNT
} tide_op_kind;

/* ---- publish ---- */

/* One event as it is written: its fields in their order. `event_id` is the value of the field of that name, for
 * idempotency; empty when the entry has none. */
typedef struct tide_record {
    const tide_field *fields;
    size_t field_count;
    tide_str event_id;
} tide_record;

typedef enum tide_expect_kind {
    TIDE_EXPECT_NONE, /* plain publish: no version is kept or checked */
    TIDE_EXPECT_ANY,  /* append: counts the version, checks nothing */
    TIDE_EXPECT_NO_STREAM,
    TIDE_EXPECT_EXISTS,
    TIDE_EXPECT_VERSION
} tide_expect_kind;

typedef struct tide_op_publish {
    tide_str stream;
    const tide_record *records;
    size_t record_count; /* 1 … 100,000 */
    /* > 0: an event whose event_id was published to this stream within that many ms is not written again; its result
     * is the first one's id with `duplicate` set. One atomic step for each record. */
    int64_t dedupe_window_ms;
    /* ≠ 0: not before this wall-clock time, ms since the epoch, of the engine's own clock. The result's id is empty and
     * the event is named by its event_id (needed) for TIDE_OP_CANCEL. */
    int64_t due_ms;
    /* > 0: like due_ms, as a delay from the engine's own now. */
    int64_t delay_ms;
    /* Not NONE: all records in one atomic step or none. The version of a stream is the number of entries appended to it
     * this way; each entry gets a field `version` = its own version as its last field. Wrong: TIDE_CONFLICT with
     * `expected` and `actual` in the completion. */
    tide_expect_kind expect;
    uint64_t expect_version;
    /* Trimming after the write: 0 none; approximate (`~`) unless exact. */
    uint64_t max_len;
    bool max_len_exact;
} tide_op_publish;

typedef struct tide_publish_result {
    tide_status status;
    tide_id id;
    bool duplicate;
    tide_str detail; /* the server's error text; valid as long as the completion */
} tide_publish_result;

typedef struct tide_op_cancel {
    tide_str stream;
    tide_str event_id;
} tide_op_cancel;

/* ---- consuming ---- */

typedef struct tide_op_promote {
    tide_str stream;
    uint32_t count_max;
} tide_op_promote;

typedef struct tide_op_group_ensure {
    tide_str stream;
    tide_str group;
    tide_str start; /* "0", "$" or an id */
} tide_op_group_ensure;

typedef struct tide_op_fetch {
    tide_str stream;
    tide_str group;
    tide_str consumer;
    uint32_t
        reader; /* which reading link: the number of the subscription; its fetches answer in order */
    bool history; /* the consumer's own pending entries after `after`, instead of new ones */
    tide_id after;
    uint32_t count_max; /* ≥ 1 */
    int64_t block_ms;   /* new entries only: wait that long for the first; 0 = don't wait */
} tide_op_fetch;

/* One entry as it was delivered. */
typedef struct tide_entry {
    tide_id id;
    const tide_field *fields; /* NULL and 0 when `gone` */
    uint32_t field_count;
    uint32_t attempt; /* delivery count of the engine, this delivery included; ≥ 1 */
    uint32_t bytes;   /* of names and values together */
    bool gone;        /* trimmed or deleted while pending */
    /* RECOVER, FETCH with history: settled by somebody, or taken, between its delivery and the question for its attempts:
     * it isn't this consumer's (any more), and isn't to be run. */
    bool settled;
} tide_entry;

/* Entries and the memory they live in. Whoever takes it from a completion calls tide_batch_release once. */
typedef struct tide_batch tide_batch;
/* How many entries it holds. */
size_t tide_batch_count(const tide_batch *batch);
/* Valid until the release. */
const tide_entry *tide_batch_entry(const tide_batch *batch, size_t index);
/* Gives the memory back; NULL is fine. */
void tide_batch_release(tide_batch *batch);

typedef enum tide_settle_kind {
    TIDE_SETTLE_ACK,
    /* All but an ack act only while the event is pending for this very consumer: what it has settled before, or what a
     * peer has claimed meanwhile, is left alone: TIDE_NOTFOUND. An ack counts whoever has it. */
    TIDE_SETTLE_DEAD,    /* `fields` to `dead_letters`, then ack */
    TIDE_SETTLE_DELAY,   /* `fields` to the stream's delayed set, due in `delay_ms`, then ack */
    TIDE_SETTLE_RELEASE, /* anyone may have it at once; `attempt` is what the count goes back to */
    TIDE_SETTLE_ATTEMPT  /* stays with its consumer, lease renewed, count set to `attempt` */
} tide_settle_kind;

typedef struct tide_settlement {
    tide_settle_kind kind;
    tide_id id;
    uint32_t attempt;
    int64_t delay_ms;
    const tide_field *fields; /* DEAD, DELAY */
    size_t field_count;
} tide_settlement;

typedef struct tide_op_settle {
    tide_str stream;
    tide_str group;
    tide_str consumer;
    tide_str dead_letters; /* stream for DEAD */
    const tide_settlement *items;
    size_t item_count;
} tide_op_settle;

typedef struct tide_op_extend {
    tide_str stream;
    tide_str group;
    tide_str consumer;
    const tide_id *ids; /* ascending */
    size_t id_count;
} tide_op_extend;

typedef struct tide_op_recover {
    tide_str stream;
    tide_str group;
    tide_str consumer;
    int64_t min_idle_ms;
    tide_id cursor; /* 0-0 at first */
    uint32_t count_max;
} tide_op_recover;

/* ---- key-value ---- */

typedef enum tide_kv_verb {
    TIDE_KV_GET,
    TIDE_KV_SET,     /* whatever is there */
    TIDE_KV_ADD,     /* only when nothing is there; else TIDE_EXISTS */
    TIDE_KV_REPLACE, /* only when `expected` is there; else TIDE_CONFLICT */
    TIDE_KV_DELETE,
    TIDE_KV_DELETE_IF, /* only when `expected` is there */
    TIDE_KV_INCREMENT, /* by `amount`; a missing one counts from 0 */
    TIDE_KV_EXPIRE     /* sets the TTL of what is there */
} tide_kv_verb;

typedef struct tide_op_kv {
    tide_kv_verb verb;
    tide_str key;
    tide_str value;
    tide_str expected;
    int64_t amount;
    int64_t ttl_ms; /* 0: for ever (SET, ADD, REPLACE) or unchanged (INCREMENT) */
} tide_op_kv;

/* ---- any command ---- */

typedef struct tide_op_command {
    const tide_str *args; /* args[0] is the command's name */
    size_t arg_count;
    /* > 0: the command may block at the server that long (XREAD BLOCK): it gets a connection of its own. */
    int64_t block_ms;
} tide_op_command;

/* ---- the operation ---- */

typedef struct tide_op {
    tide_op_kind kind;
    uint64_t tag; /* the caller's; comes back in the completion */
    /* For the answer of a server. 0: the engine's default; a blocking time is added to it. The embedded engine has nobody to
     * wait for but the disk, and what is under way there can't be taken back: it doesn't look at this. */
    int64_t timeout_ms;
    union {
        tide_op_publish publish;
        tide_op_cancel cancel;
        tide_op_promote promote;
        tide_op_group_ensure group_ensure;
        tide_op_fetch fetch;
        tide_op_settle settle;
        tide_op_extend extend;
        tide_op_recover recover;
        tide_op_kv kv;
        tide_op_command command;
    } as;
} tide_op;

/* How an operation ended. Everything it points to is valid until the next completion is asked for, but for a batch,
 * which belongs to the receiver. */
typedef struct tide_completion {
    tide_op_kind kind;
    uint64_t tag;
    tide_status status;
    tide_error error; /* set when status isn't TIDE_OK */
    union {
        struct {
            const tide_publish_result
                *results; /* record_count of them; all set, whatever `status` says */
            size_t count;
            uint64_t
                version; /* with an expected version: the stream's version now (on TIDE_CONFLICT the actual one) */
        } publish;
        struct {
            bool cancelled; /* it was there and hadn't been promoted */
        } cancel;
        struct {
            uint32_t moved;
            uint32_t broken;     /* couldn't be read: set aside, as dead letters where possible */
            int64_t next_due_ms; /* ms from now until the next one is due; -1 none */
        } promote;
        struct {
            bool created;
        } group_ensure;
        struct {
            tide_batch *batch; /* owned by the receiver; NULL when nothing came */
        } fetch;
        struct {
            const tide_status *results; /* item_count of them */
            size_t count;
        } settle;
        struct {
            const tide_id *lost; /* those that this consumer doesn't own any more, ascending */
            size_t lost_count;
        } extend;
        struct {
            tide_batch *batch; /* owned by the receiver; NULL when nothing came */
            tide_id cursor;    /* where to go on; 0-0: the round is complete */
            uint32_t
                deleted; /* entries gone, already dropped from the pending list by the engine */
        } recover;
        struct {
            bool found;
            tide_str value;  /* GET; on TIDE_CONFLICT and TIDE_EXISTS what is there */
            int64_t integer; /* INCREMENT */
            int64_t ttl_ms;  /* GET: -1 for ever */
        } kv;
        struct {
            const tide_reply *
                reply; /* TIDE_REPLY_ERROR gives status TIDE_REPLY or what the error's first word means */
        } command; /* also TIDE_OP_SERVER: an array of name, value, name, value … */
    } as;
} tide_completion;

#ifdef __cplusplus
}
#endif

#endif
