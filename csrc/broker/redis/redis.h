/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BROKER_REDIS_REDIS_H
#define TIDE_BROKER_REDIS_REDIS_H

#include "broker/broker.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/heap.h"
#include "base/prng.h"
#include "proto/resp.h"

/*
 * What the files of this folder share. redis.c owns the object and the operations' lives, link.c one connection's life,
 * request.c what waits on it for a reply, greeting.c its first words, wake.c the link that hears of delayed events, scripts.c
 * the server-side scripts; op_*.c turn one family of operations into requests and their replies into completions.
 */

typedef struct redis_broker redis_broker;
typedef struct redis_link redis_link;
typedef struct redis_op redis_op;

enum {
    REDIS_SHARED_LINK = 0,
    /* Requests that wait for their replies on one link; 48 bytes each. */
    REDIS_REQUESTS_MAX = 1 << 22,
    /* Resting operations, and the most memory one of them keeps in each of its arrays. */
    REDIS_OPS_RESTING_MAX = 256,
    REDIS_OP_KEEP_BYTES = 256 * 1024,
    REDIS_OUTPUT_KEEP_BYTES = 4 * 1024 * 1024,
    /* How long a link for blocking commands rests for the next one. */
    REDIS_SPARE_IDLE_MS = 30000,
    /* The server's own stack limit for unpack() is 8,000 values. */
    REDIS_SCRIPT_FIELDS_MAX = 3500,
    /* Records of one script call: one call holds the server up for about 0.3 ms. */
    REDIS_SCRIPT_RECORDS_MAX = 100,
    REDIS_SUBJECT_MAX = 600,
};

/* ---- scripts (scripts.c) ---- */

typedef enum redis_script {
    SCRIPT_NONE,
    SCRIPT_DEDUPE,
    SCRIPT_APPEND,
    SCRIPT_SCHEDULE,
    SCRIPT_CANCEL,
    SCRIPT_PROMOTE,
    SCRIPT_DEAD,
    SCRIPT_DELAY,
    SCRIPT_OWN,
    SCRIPT_EXTEND,
    SCRIPT_GONE,
    SCRIPT_ADD,
    SCRIPT_REPLACE,
    SCRIPT_DELETE_IF,
    SCRIPT_INCREMENT,
    SCRIPT_COUNT
} redis_script;

tide_str redis_script_text(redis_script script);
tide_str redis_script_sha1(redis_script script); /* 40 hexadecimal digits */

/* ---- requests ---- */

/* One command that was written to a link and whose reply hasn't come. */
typedef struct redis_request {
    redis_op *op;   /* NULL: CLIENT UNBLOCK for the link `index`, or on LINK_WAKE its XREAD */
    uint64_t start; /* place of its first byte in all the bytes of this connection */
    uint32_t index; /* the first record or item that it answers for */
    uint32_t count; /* how many of them */
    uint32_t saved; /* where its arguments lie in op->saved, for a script */
    uint32_t saved_size;
    uint32_t args;  /* number of arguments behind the script */
    uint8_t step;   /* the operation's own */
    uint8_t script; /* redis_script */
    bool evaluated; /* sent as EVAL, with the script's text */
} redis_request;

/* ---- operations ---- */

typedef struct redis_op_class {
    /* Writes the requests to link->out; op->kind is set. TIDE_OK, or a status with `error`, whereupon everything written is
     * taken back. A buffer's `failed` is looked at by the caller. */
    tide_status (*encode)(redis_op *op, redis_link *link, const tide_op *in, tide_error *error);
    /* A reply that is no error. False: its shape isn't what this request asks for. Keeps the box by setting *box to NULL. */
    bool (*reply)(redis_op *op, redis_link *link, const redis_request *request,
                  tide_reply_box **box);
    /* The request ended otherwise: an error reply (`detail` is its text) or none. May be NULL. True: it's no failure of the
     * operation. */
    bool (*fail)(redis_op *op, redis_link *link, const redis_request *request, tide_status status,
                 tide_str detail);
    /* All requests are answered: fills what the kind adds to the completion; `op->status` is known. */
    void (*complete)(redis_op *op, tide_completion *completion);
    bool writes; /* an answer that can't be understood means: it may be written */
} redis_op_class;

extern const redis_op_class redis_publish_class, redis_cancel_class, redis_promote_class,
    redis_group_class, redis_fetch_class, redis_settle_class, redis_extend_class,
    redis_recover_class, redis_kv_class, redis_command_class, redis_server_class;

struct redis_op {
    tide_timer timer; /* first: the heap hands it back */
    redis_op *next;   /* pool, or completions */
    const redis_op_class *class;
    redis_link *link;
    tide_op_kind kind;
    uint64_t tag;
    int64_t timeout_us;
    int64_t block_us;  /* the server may hold the answer back that long */
    uint32_t open;     /* requests without an answer */
    bool touched;      /* a byte of it was sent */
    bool expired;      /* its time limit has passed */
    uint64_t start;    /* of its first request, as redis_request.start; when not touched */
    const char *acl;   /* what it needs: "+xadd" */
    bool derived_keys; /* it also touches {subject}:… */
    char subject[REDIS_SUBJECT_MAX]; /* stream or key, for messages */
    uint32_t subject_len;
    tide_status status;
    tide_error error;

    tide_buffer saved;   /* arguments of scripts, until they are answered */
    tide_arena arena;    /* texts of the completion */
    tide_reply_box *box; /* what the completion points into */
    void *array;         /* results; the class's own element type */
    size_t array_size;   /* bytes */
    size_t count;        /* elements in use */

    union {
        struct {
            uint64_t version;
            bool conflict;
        } publish;
        struct {
            bool cancelled;
        } cancel;
        struct {
            uint32_t moved, broken;
            int64_t next_due_ms;
        } promote;
        struct {
            bool created;
        } group_ensure;
        struct {
            tide_batch *batch;
            tide_id cursor;
            tide_id from; /* recover: where the scan began */
            uint32_t deleted;
            /* At the front of op->saved, for the requests that follow. */
            uint32_t stream_len, group_len, consumer_len;
            uint32_t page; /* size asked of XPENDING */
            bool history;
        } fetch;
        struct {
            tide_kv_verb verb;
            bool found;
            bool ttl_missing;
            int64_t integer;
            int64_t ttl_ms;
            tide_str value;
        } kv;
        struct {
            tide_reply reply;
        } command;
    } as;
};

/* The results array with room for `count` elements of `size` bytes, all zero; NULL when there is no memory. */
void *redis_op_array(redis_op *op, size_t count, size_t size);
/* Notes a failure; the first one stays, but for one that leaves the outcome open, which wins. */
void redis_op_fail(redis_op *op, tide_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Notes what the operation is about, for messages and ACL rules. */
void redis_op_about(redis_op *op, tide_str subject, const char *acl, bool derived_keys);
/* All its requests are answered or taken back: queues the completion. */
void redis_op_done(redis_op *op);

/* ---- links (link.c) ---- */

typedef enum redis_link_role {
    LINK_SHARED,
    LINK_READER, /* fetches of one subscription */
    LINK_SPARE,  /* a blocking command of the caller */
    LINK_WAKE    /* waits for delayed events of other processes */
} redis_link_role;

typedef enum redis_link_state {
    LINK_WAIT_RETRY,
    LINK_OPENING,
    LINK_GREETING,
    LINK_READY,
    LINK_CLOSED
} redis_link_state;

struct redis_link {
    tide_timer timer; /* first: the heap hands it back */
    redis_broker *broker;
    uint32_t number;
    redis_link_role role;
    uint32_t reader; /* LINK_READER */
    redis_link_state state;
    int64_t since_us;
    uint32_t attempts; /* failures in a row */
    tide_error error;  /* why it isn't ready; status TIDE_OK while nothing has gone wrong */

    bool wants_close, wants_open, is_queued;
    bool is_asked; /* the driver was told to open it and hasn't said that it is closed */
    redis_link *next_want;

    tide_resp_reader *replies;
    tide_buffer greeting;    /* goes first */
    uint32_t greeting_asked; /* bit set of greeting_step not answered yet */
    bool was_refused;        /* the last greeting: the next one feels its way */
    bool is_probing;         /* only AUTH and PING are asked */
    tide_buffer out;
    uint64_t sent; /* bytes of `out` that have left on this connection */
    tide_status
        condemned; /* not TIDE_OK: dropped when what was sent is answered; nothing more is sent */

    redis_request *ring; /* requests in order; capacity is a power of two */
    uint32_t ring_capacity, ring_head, ring_count;
    int64_t block_us;   /* sum of what its operations may block */
    int64_t client_id;  /* the server's number of this connection; 0 unknown */
    int64_t unblock_us; /* when CLIENT UNBLOCK is tried again; INT64_MAX never */
    bool unblock_sent;
    uint32_t unblock_left; /* fetches still to be interrupted */

    int64_t wake_us; /* LINK_WAKE: when to read, or when the read under way takes too long */
    uint32_t wake_failures;
};

tide_status redis_link_create(redis_broker *broker, redis_link_role role, uint32_t reader,
                              int64_t now_us, redis_link **link);
void redis_link_destroy(redis_link *link);
/* To CLOSED: its operations end as CANCELLED or UNKNOWN; the driver is told. It goes when the driver knows. */
void redis_link_close(redis_link *link, int64_t now_us);
void redis_link_opened(redis_link *link, int64_t now_us);
/* The connection is lost: by the driver's word, or dropped by us. What was sent ends, what was not waits. */
void redis_link_lost(redis_link *link, bool by_driver, const tide_error *why, int64_t now_us);
void redis_link_drop(redis_link *link, int64_t now_us, tide_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void redis_link_feed(redis_link *link, const char *bytes, size_t size, int64_t now_us);
tide_str redis_link_output(redis_link *link);
void redis_link_output_ack(redis_link *link, size_t size);
/* Its timer fired. */
void redis_link_tick(redis_link *link, int64_t now_us);
/* Greeting done. */
void redis_link_ready(redis_link *link, int64_t now_us);
/* Greeting refused for a reason that waiting won't mend: operations that wait end with it. */
void redis_link_refuse(redis_link *link, int64_t now_us, const tide_error *why);
void redis_link_interrupt(redis_link *link, int64_t now_us);
/* What was to be interrupted has ended. */
void redis_link_interrupted(redis_link *link);
/* Sets the timer to what the state asks for. */
void redis_link_arm(redis_link *link);
/* ---- the requests of a link (request.c) ---- */

/* Begins a request of `args` arguments in link->out and puts it into the ring, after redis_link_reserve. */
redis_request *redis_request_begin(redis_link *link, redis_op *op, uint8_t step, size_t args);
/* Room in the ring for `count` more requests: TIDE_OK, TIDE_ENOMEM, TIDE_OVERFLOW. */
tide_status redis_link_reserve(redis_link *link, size_t count);
/* A request by script: `keys` keys and `args` others follow; then redis_script_end. Answers the request. */
redis_request *redis_script_begin(redis_link *link, redis_op *op, uint8_t step, redis_script script,
                                  size_t keys, size_t args);
void redis_script_end(redis_link *link, redis_op *op);
/* Again, with the script's text; false when there is no memory. */
bool redis_script_again(redis_link *link, const redis_request *request);
/* The i-th that waits, the oldest first. */
static inline redis_request *redis_request_at(const redis_link *link, uint32_t i) {
    return &link->ring[(link->ring_head + i) & (link->ring_capacity - 1)];
}
/* The oldest, taken out of the ring. */
redis_request redis_request_pop(redis_link *link);
/* Bytes of this connection, sent and unsent. */
uint64_t redis_link_written(const redis_link *link);
/* The request ends without a usable reply; `text` is the server's error when it sent one, else `why` says it. */
void redis_request_fail(redis_link *link, const redis_request *request, tide_status status,
                        const tide_str *text, const tide_error *why);
/* What was sent on this connection ends. */
void redis_requests_end_sent(redis_link *link, const tide_error *why);
/* Of the unsent requests those that `keep` names stay, bytes and ring moved together; the others end. `fresh`: the bytes are
 * counted from 0 again, for the next connection. */
typedef enum redis_keep {
    REDIS_KEEP_NONE,
    REDIS_KEEP_UNTOUCHED, /* operations of which no byte was sent */
    REDIS_KEEP_UNEXPIRED  /* within their time limit */
} redis_keep;
void redis_requests_end_unsent(redis_link *link, redis_keep keep, bool fresh, tide_status status,
                               const tide_error *why);
/* Operations whose time has passed and of which nothing was sent are taken out of the queue. */
void redis_link_expire(redis_link *link);
/* Whether a byte of the operation may have left. */
bool redis_op_is_sent(const redis_op *op);

/* ---- wakes (wake.c) ---- */

typedef struct redis_watch redis_watch;

/* tide_broker.watch and .unwatch. */
const uint64_t *redis_watch_begin(redis_broker *broker, tide_str stream, int64_t now_us);
void redis_watch_end(redis_broker *broker, const uint64_t *wakes, int64_t now_us);
void redis_watches_free(redis_broker *broker);
/* Its link is READY; its time has come; a reply is there: false when its shape isn't what was asked for. */
void redis_wake_ready(redis_link *link, int64_t now_us);
void redis_wake_tick(redis_link *link, int64_t now_us);
bool redis_wake_reply(redis_link *link, const tide_reply *reply, int64_t now_us);

/* ---- greeting (greeting.c) ---- */

/* Writes the first requests of a connection. TIDE_OK or TIDE_ENOMEM. */
tide_status redis_greeting_begin(redis_link *link);
/* Its next reply. May lead to redis_link_ready, _refuse or _drop. */
void redis_greeting_reply(redis_link *link, const tide_reply *reply, int64_t now_us);

/* ---- the object ---- */

typedef struct redis_server {
    bool known;
    bool is_valkey;
    uint32_t version; /* major << 16 | minor << 8 | patch */
} redis_server;

struct redis_broker {
    tide_broker base; /* first */
    tide_allocator alloc;
    tide_log_sink log;
    tide_prng prng;

    tide_endpoint endpoint; /* texts are owned */
    tide_str user, password, name;
    int64_t db;
    int64_t timeout_us, connect_timeout_us;
    char place[192];

    redis_server server;
    redis_link **links;  /* by number; NULL: free */
    uint32_t link_count; /* of the array */
    redis_link *want_first, *want_last;
    struct redis_watch *watches;

    tide_heap op_timers, link_timers;
    redis_op *resting;
    size_t resting_count, live_count; /* live: submitted, completion not yet handed out */
    redis_op *done_first, *done_last;
    redis_op *handed; /* its completion is being looked at */
    int64_t log_us;   /* not before */
};

/* Which link serves this operation: the question that Cluster and Sentinel answer otherwise. Creates the link where needed.
 * NULL with `status`. */
redis_link *redis_route(redis_broker *broker, const tide_op *op, int64_t block_ms, int64_t now_us,
                        tide_status *status);
/* A logged line about a link, at most one a second. */
void redis_log(redis_broker *broker, tide_log_level level, int64_t now_us, const char *text);
/* Tells the driver about wants_open or wants_close. */
void redis_link_want(redis_link *link);

/* How long a command may block at the server, ms: as told, or as its own BLOCK says. */
int64_t redis_command_block_ms(const tide_op_command *command);
/*
 * Writes what to do when a NOPERM says that the user may not use the database (Valkey from 9.1: ACL SETUSER … db=N); false
 * when it says something else. For advice only: errors are classified by their first word, and a text that isn't known gets
 * the usual advice.
 */
bool redis_advise_database(const redis_broker *broker, tide_str text, char *advice, size_t size);
/* The value of `name:` in a text of INFO. */
bool redis_info_find(tide_str info, tide_str name, tide_str *value);

/* TIDE_OK, or TIDE_ARGUMENT for a name that is empty or longer than TIDE_NAME_MAX. */
tide_status redis_check_name(const char *what, tide_str name, tide_error *error);
/* An entry of the delayed set, as one argument: see op_publish.c. */
void redis_arg_packed(tide_buffer *out, const tide_field *fields, size_t count, uint64_t max_len,
                      bool exact);
/* "{stream}:suffix" and `rest` behind it, as one argument. */
void redis_arg_derived(tide_buffer *out, tide_str stream, const char *suffix, tide_str rest);

#endif
