/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BROKER_SQLITE_INTERNAL_H
#define TIDE_BROKER_SQLITE_INTERNAL_H

#include <sqlite3.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/limits.h"
#include "base/text.h"
#include "broker/broker.h"

/*
 * What the files of this folder share. Two sides, and nothing belongs to both at once:
 *   the loop's side   sqlite.c, work.c, wait.c: copies operations into the job being filled, keeps what waits, hands out
 *                     completions
 *   the job's side    job.c and everything it calls: owns the store (connection, statements, caches) and the works of the
 *                     one running job, on whatever thread the driver runs it
 * The store changes hands by take_job and finish_job. Between two jobs the loop's side asks it one thing, whether another
 * process has committed (sqlite.c, look_elsewhere).
 */

typedef struct tide__sq_store tide__sq_store;
typedef struct tide__sq_stream tide__sq_stream;
typedef struct tide__sq_group tide__sq_group;
typedef struct tide__sq_member tide__sq_member;
typedef struct tide__sq_work tide__sq_work;
typedef struct tide__sq_wait tide__sq_wait;
typedef struct tide__sq_job tide__sq_job;

enum {
    /* "tide" as SQLite's application_id, and the version of the tables. */
    TIDE__SQ_APPLICATION_ID = 0x74696465,
    TIDE__SQ_VERSION = 1,
    /* Cached streams before the cache is dropped between two jobs. */
    TIDE__SQ_STREAMS_MAX = 1024,
    TIDE__SQ_STREAM_BUCKETS = 256,
    /* A job is handed out no fuller than this: records and items together, and bytes. */
    TIDE__SQ_JOB_WEIGHT_MAX = 20000,
    TIDE__SQ_JOB_WEIGHT_INLINE_MAX = 500,
    TIDE__SQ_JOB_BYTES_MAX = 16 * 1024 * 1024,
    /* A job's memory comes in blocks of this size, and one is kept: enough for a job of a few hundred events, so that in
     * the long run no block is taken or freed (each time costs page faults, on the loop's thread too). */
    TIDE__SQ_JOB_BLOCK = 256 * 1024,
    /* Bytes of all operations that wait for a commit, then TIDE_OVERFLOW. */
    TIDE__SQ_QUEUE_BYTES_MAX = 256 * 1024 * 1024,
    /* One fetch or recover gives at most this many bytes, but at least one entry. */
    TIDE__SQ_BATCH_BYTES_MAX = 4 * 1024 * 1024,
    /* Approximate trimming waits for this many entries too many. */
    TIDE__SQ_TRIM_SLACK = 100,
    /* How often another process's commits are looked for while something waits: within the 20 ms that are promised. */
    TIDE__SQ_POLL_US = 16000,
    /* How often SQLite is asked for them even though their number is the same. */
    TIDE__SQ_ASK_US = 1000000,
    /* Jobs kept for reuse. */
    TIDE__SQ_JOBS_KEPT = 4,
    TIDE__SQ_WAITS_KEPT = 64,
};

/* ---- statements ---- */

/* Rows that one statement writes where many are written: it costs a third less for each than a statement a row, as the
 * cursor stays open at the end of the table. After the first row, which names its parameters, they are numbered on. */
enum { TIDE__SQ_ROWS = 32 };
#define TIDE__SQ_TIMES_31(row)                                                                     \
    row row row row row row row row row row row row row row row row row row row row row row row    \
        row row row row row row row row

#define TIDE__SQ_STATEMENTS(X)                                                                     \
    X(BEGIN_READ, "BEGIN")                                                                         \
    X(BEGIN_WRITE, "BEGIN IMMEDIATE")                                                              \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(DATA_VERSION, "PRAGMA data_version")                                                         \
    X(FENCE, "UPDATE meta SET value = value + 1 WHERE name = 'fence'")                             \
    X(STREAM_GET, "SELECT id, alive, last_ms, last_seq, deleted_ms, deleted_seq, added, length, "  \
                  "version FROM streams WHERE name = ?1")                                          \
    X(STREAM_NEW, "INSERT INTO streams(name, alive, last_ms, last_seq, deleted_ms, deleted_seq, "  \
                  "added, length, version) VALUES(?1, ?2, 0, 0, 0, 0, 0, 0, -1)")                  \
    X(STREAM_PUT, "UPDATE streams SET alive = ?2, last_ms = ?3, last_seq = ?4, deleted_ms = ?5, "  \
                  "deleted_seq = ?6, added = ?7, length = ?8, version = ?9 WHERE id = ?1")         \
    X(STREAM_DROP, "DELETE FROM streams WHERE id = ?1")                                            \
    X(STREAM_ANCHORED, "SELECT EXISTS(SELECT 1 FROM delayed WHERE stream = ?1) OR "                \
                       "EXISTS(SELECT 1 FROM dedupe WHERE stream = ?1)")                           \
    X(STREAM_FIRST, "SELECT ms, seq FROM entries WHERE stream = ?1 ORDER BY ms, seq LIMIT 1")      \
    X(STREAM_NTH, "SELECT ms, seq FROM entries WHERE stream = ?1 ORDER BY ms, seq LIMIT 1 "        \
                  "OFFSET ?2")                                                                     \
    X(STREAM_NAMES, "SELECT name FROM streams WHERE alive = 1 ORDER BY name")                      \
    X(ENTRY_ADD, "INSERT INTO entries(stream, ms, seq, fields) VALUES(?1, ?2, ?3, ?4)")            \
    X(ENTRY_ADD_ROWS,                                                                              \
      "INSERT INTO entries(stream, ms, seq, fields) VALUES(?1, ?2, ?3, ?4)" TIDE__SQ_TIMES_31(     \
          ", (?1, ?, ?, ?)"))                                                                      \
    X(ENTRY_GET, "SELECT fields FROM entries WHERE stream = ?1 AND ms = ?2 AND seq = ?3")          \
    X(ENTRY_DROP, "DELETE FROM entries WHERE stream = ?1 AND ms = ?2 AND seq = ?3")                \
    X(ENTRIES_AFTER, "SELECT ms, seq, fields FROM entries WHERE stream = ?1 AND "                  \
                     "(ms, seq) > (?2, ?3) ORDER BY ms, seq LIMIT ?4")                             \
    X(ENTRIES_RANGE, "SELECT ms, seq, fields FROM entries WHERE stream = ?1 AND "                  \
                     "(ms, seq) >= (?2, ?3) AND (ms, seq) <= (?4, ?5) ORDER BY ms, seq LIMIT ?6")  \
    X(ENTRIES_REVERSE, "SELECT ms, seq, fields FROM entries WHERE stream = ?1 AND "                \
                       "(ms, seq) >= (?2, ?3) AND (ms, seq) <= (?4, ?5) "                          \
                       "ORDER BY ms DESC, seq DESC LIMIT ?6")                                      \
    X(ENTRIES_COUNT_BELOW, "SELECT count(*) FROM (SELECT 1 FROM entries WHERE stream = ?1 AND "    \
                           "(ms, seq) < (?2, ?3) LIMIT ?4)")                                       \
    X(ENTRIES_TRIM, "DELETE FROM entries WHERE stream = ?1 AND (ms, seq) < (?2, ?3)")              \
    X(ENTRIES_DROP, "DELETE FROM entries WHERE stream = ?1")                                       \
    X(GROUP_GET, "SELECT id, last_ms, last_seq, entries_read FROM groups WHERE stream = ?1 "       \
                 "AND name = ?2")                                                                  \
    X(GROUP_NEW, "INSERT INTO groups(stream, name, last_ms, last_seq, entries_read) "              \
                 "VALUES(?1, ?2, ?3, ?4, ?5)")                                                     \
    X(GROUP_PUT, "UPDATE groups SET last_ms = ?2, last_seq = ?3, entries_read = ?4 WHERE id = ?1") \
    X(GROUP_DROP, "DELETE FROM groups WHERE id = ?1")                                              \
    X(GROUP_LIST, "SELECT id, name, last_ms, last_seq, entries_read FROM groups WHERE "            \
                  "stream = ?1 ORDER BY name")                                                     \
    X(MEMBER_GET, "SELECT id, seen_ms, active_ms FROM consumers WHERE grp = ?1 AND name = ?2")     \
    X(MEMBER_NAME, "SELECT name FROM consumers WHERE id = ?1")                                     \
    X(MEMBER_NEW, "INSERT INTO consumers(grp, name, seen_ms, active_ms) VALUES(?1, ?2, ?3, ?4)")   \
    X(MEMBER_PUT, "UPDATE consumers SET seen_ms = ?2, active_ms = ?3 WHERE id = ?1")               \
    X(MEMBER_DROP, "DELETE FROM consumers WHERE id = ?1")                                          \
    X(MEMBERS_DROP, "DELETE FROM consumers WHERE grp = ?1")                                        \
    X(MEMBER_LIST, "SELECT c.id, c.name, c.seen_ms, c.active_ms, (SELECT count(*) FROM pending "   \
                   "p WHERE p.grp = ?1 AND p.consumer = c.id) FROM consumers c WHERE c.grp = ?1 "  \
                   "ORDER BY c.name")                                                              \
    X(MEMBER_COUNT, "SELECT count(*) FROM consumers WHERE grp = ?1")                               \
    X(PENDING_PUT, "INSERT OR REPLACE INTO pending(grp, ms, seq, consumer, delivered_ms, "         \
                   "attempts) VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                     \
    X(PENDING_NEW_ROWS,                                                                            \
      "INSERT OR REPLACE INTO pending(grp, ms, seq, consumer, delivered_ms, attempts) "            \
      "VALUES(?1, ?4, ?5, ?2, ?3, 1)" TIDE__SQ_TIMES_31(", (?1, ?, ?, ?2, ?3, 1)"))                \
    X(PENDING_GET, "SELECT consumer, delivered_ms, attempts FROM pending WHERE grp = ?1 AND "      \
                   "ms = ?2 AND seq = ?3")                                                         \
    X(PENDING_DROP, "DELETE FROM pending WHERE grp = ?1 AND ms = ?2 AND seq = ?3")                 \
    X(PENDING_DROP_RUN, "DELETE FROM pending WHERE grp = ?1 AND ms = ?2 AND seq BETWEEN ?3 "       \
                        "AND ?4")                                                                  \
    X(PENDING_RENEW, "UPDATE pending SET delivered_ms = ?5 WHERE grp = ?1 AND ms = ?2 AND "        \
                     "seq = ?3 AND consumer = ?4")                                                 \
    X(PENDING_SET, "UPDATE pending SET delivered_ms = ?5, attempts = ?6 WHERE grp = ?1 AND "       \
                   "ms = ?2 AND seq = ?3 AND consumer = ?4")                                       \
    X(PENDING_AFTER, "SELECT ms, seq, consumer, delivered_ms, attempts FROM pending WHERE "        \
                     "grp = ?1 AND (ms, seq) > (?2, ?3) ORDER BY ms, seq")                         \
    X(PENDING_FROM, "SELECT ms, seq, consumer, delivered_ms, attempts FROM pending WHERE "         \
                    "grp = ?1 AND (ms, seq) >= (?2, ?3) ORDER BY ms, seq")                         \
    X(PENDING_SUMMARY, "SELECT count(*) FROM pending WHERE grp = ?1")                              \
    X(PENDING_OF_MEMBER, "SELECT count(*) FROM pending WHERE grp = ?1 AND consumer = ?2")          \
    X(PENDING_LAST, "SELECT ms, seq FROM pending WHERE grp = ?1 ORDER BY ms DESC, seq DESC "       \
                    "LIMIT 1")                                                                     \
    X(PENDING_DROP_MEMBER, "DELETE FROM pending WHERE grp = ?1 AND consumer = ?2")                 \
    X(PENDING_DROP_GROUP, "DELETE FROM pending WHERE grp = ?1")                                    \
    X(DELAYED_PUT,                                                                                 \
      "INSERT INTO delayed(stream, due_ms, event_id, fields, max_len) VALUES(?1, ?2, ?3, ?4, ?5)") \
    X(DELAYED_GET, "SELECT 1 FROM delayed WHERE stream = ?1 AND event_id = ?2")                    \
    X(DELAYED_COUNT, "SELECT count(*) FROM delayed WHERE stream = ?1")                             \
    X(DELAYED_LIST, "SELECT id, due_ms, event_id, fields FROM delayed WHERE stream = ?1 ORDER BY " \
                    "due_ms, id LIMIT ?3 OFFSET ?2")                                               \
    X(DELAYED_BY_EVENT, "SELECT fields, max_len FROM delayed WHERE stream = ?1 AND event_id = ?2") \
    X(DELAYED_NAMES,                                                                               \
      "SELECT name FROM streams WHERE id IN (SELECT stream FROM delayed) ORDER BY name")           \
    X(DELAYED_DROP_ALL, "DELETE FROM delayed WHERE stream = ?1")                                   \
    X(FLUSH_ENTRIES, "DELETE FROM entries")                                                        \
    X(FLUSH_PENDING, "DELETE FROM pending")                                                        \
    X(FLUSH_CONSUMERS, "DELETE FROM consumers")                                                    \
    X(FLUSH_GROUPS, "DELETE FROM groups")                                                          \
    X(FLUSH_DELAYED, "DELETE FROM delayed")                                                        \
    X(FLUSH_DEDUPE, "DELETE FROM dedupe")                                                          \
    X(FLUSH_KV, "DELETE FROM kv")                                                                  \
    X(FLUSH_STREAMS, "DELETE FROM streams")                                                        \
    X(DELAYED_CANCEL, "DELETE FROM delayed WHERE stream = ?1 AND event_id = ?2")                   \
    X(DELAYED_DUE, "SELECT id, due_ms, fields, max_len FROM delayed WHERE stream = ?1 "            \
                   "ORDER BY due_ms, id LIMIT 1")                                                  \
    X(DELAYED_DROP, "DELETE FROM delayed WHERE id = ?1")                                           \
    X(DEDUPE_GET, "SELECT ms, seq, expires_ms FROM dedupe WHERE stream = ?1 AND event_id = ?2")    \
    X(DEDUPE_PUT, "INSERT OR REPLACE INTO dedupe(stream, event_id, ms, seq, expires_ms) "          \
                  "VALUES(?1, ?2, ?3, ?4, ?5)")                                                    \
    X(DEDUPE_FORGET,                                                                               \
      "DELETE FROM dedupe WHERE stream = ?1 AND event_id = ?2 AND ms = 0 AND seq = 0")             \
    X(DEDUPE_EXPIRED,                                                                              \
      "SELECT stream, event_id FROM dedupe WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2")   \
    X(DEDUPE_DROP, "DELETE FROM dedupe WHERE stream = ?1 AND event_id = ?2")                       \
    X(KV_GET, "SELECT value, expires_ms FROM kv WHERE key = ?1")                                   \
    X(KV_PUT, "INSERT OR REPLACE INTO kv(key, value, expires_ms) VALUES(?1, ?2, ?3)")              \
    X(KV_EXPIRE, "UPDATE kv SET expires_ms = ?2 WHERE key = ?1")                                   \
    X(KV_DROP, "DELETE FROM kv WHERE key = ?1")                                                    \
    X(KV_PURGE, "DELETE FROM kv WHERE key IN (SELECT key FROM kv WHERE expires_ms <= ?1 "          \
                "ORDER BY expires_ms LIMIT 8)")                                                    \
    X(KV_NAMES, "SELECT key FROM kv WHERE expires_ms IS NULL OR expires_ms > ?1 ORDER BY key")     \
    X(PAGE_COUNT, "PRAGMA page_count")                                                             \
    X(PAGE_FREE, "PRAGMA freelist_count")                                                          \
    X(PAGE_SIZE, "PRAGMA page_size")                                                               \
    X(JOURNAL_MODE, "PRAGMA journal_mode")                                                         \
    X(SYNCHRONOUS, "PRAGMA synchronous")

typedef enum tide__sq_statement {
#define X(name, sql) TIDE__SQ_##name,
    TIDE__SQ_STATEMENTS(X)
#undef X
        TIDE__SQ_STATEMENT_COUNT
} tide__sq_statement;

/* ---- the store: the job's side ---- */

/* A consumer of a group, as the tables have it. */
struct tide__sq_member {
    tide__sq_member *next;
    int64_t id;
    int64_t seen_ms;
    int64_t active_ms; /* -1: never */
    bool dirty;
    size_t size; /* of this block */
    tide_str name;
};

struct tide__sq_group {
    tide__sq_group *next;
    tide__sq_member *members;
    int64_t id;
    tide_id last;
    int64_t entries_read; /* -1: unknown */
    bool dirty;
    size_t size;
    tide_str name;
};

/* A name that is, was or will be a stream. Cached across jobs; written back once a transaction. */
struct tide__sq_stream {
    tide__sq_stream *next; /* same bucket */
    tide__sq_group *groups;
    uint64_t hash;
    int64_t id; /* 0: no row */
    bool
        alive; /* the stream exists; a row without it only anchors delayed events, dedupe ids or a version */
    bool dirty;
    bool first_known;
    tide_id first; /* smallest entry; 0-0 when empty */
    tide_id last;
    tide_id deleted; /* largest id ever deleted one by one */
    uint64_t added;
    uint64_t length;
    int64_t version; /* entries appended with a version; -1: none yet, then it is the length */
    size_t size;
    tide_str name;
};

typedef enum tide__sq_health {
    TIDE__SQ_CLOSED, /* not opened yet, or to be opened again */
    TIDE__SQ_OPEN,
    TIDE__SQ_DAMAGED /* open for reading; CORRUPT was seen */
} tide__sq_health;

struct tide__sq_store {
    const tide_allocator *alloc;
    const char *path; /* NUL-terminated; NULL: in memory */
    int synchronous;  /* 0 off, 1 normal, 2 full */
    int64_t busy_ms;
    int checkpoint_pages; /* of the journal, before they go to the file; 0: our default */
    uint64_t max_len;     /* of every stream; 0 none */
    int64_t max_age_ms;   /* 0 none */
    tide__sq_health health;
    sqlite3 *db;
    sqlite3_stmt *statements[TIDE__SQ_STATEMENT_COUNT];
    tide__sq_stream *buckets[TIDE__SQ_STREAM_BUCKETS];
    size_t stream_count;
    int64_t data_version;
    /* Set by the first thing that fails in the store itself; the transaction is then given up as a whole. */
    tide_error failure;
    tide__sq_job *job; /* the running one */
    int64_t now_ms;    /* wall clock of the running job */
    bool wrote;        /* something of this transaction is in the tables */
    char *scratch;     /* for packing and reading, kept */
    size_t scratch_size;
    uint64_t commits;    /* transactions that wrote */
    uint64_t operations; /* that were in them */
};

/* schema.c: opens the file or the memory, checks whose it is, makes the tables. On failure all is closed again. */
tide_status tide__sq_open(tide__sq_store *store);
void tide__sq_close(tide__sq_store *store);
/* How long SQLite waits for another process's lock: the option busy_timeout. */
void tide__sq_set_patience(tide__sq_store *store);
/* The prepared statement, reset; NULL after tide__sq_trouble. */
sqlite3_stmt *tide__sq_statement_of(tide__sq_store *store, tide__sq_statement which);
/* SQLITE_ROW or SQLITE_DONE; anything else went to tide__sq_trouble. The caller resets after its last row. */
int tide__sq_step(tide__sq_store *store, sqlite3_stmt *statement);
/* Resets after a step that answered `code`: TIDE_OK when that was a row or the end, else what failed. */
tide_status tide__sq_end(tide__sq_store *store, sqlite3_stmt *statement, int code);
/* Steps once and resets; for statements without rows. */
tide_status tide__sq_run(tide__sq_store *store, sqlite3_stmt *statement);
tide_status tide__sq_run_plain(tide__sq_store *store, tide__sq_statement which);
/* One integer of a statement without parameters. */
tide_status tide__sq_integer(tide__sq_store *store, tide__sq_statement which, int64_t *value);
/* Records what SQLite says as the store's failure, unless there is one; returns its status. */
tide_status tide__sq_trouble(tide__sq_store *store, const char *doing);
tide_status tide__sq_no_memory(tide__sq_store *store);
tide_status tide__sq_damaged(tide__sq_store *store, const char *what);
/* What an SQLite result code means to a caller. */
tide_status tide__sq_status_of(int code);
/* Deleted or moved away under us? TIDE_OK when not. */
tide_status tide__sq_check_place(tide__sq_store *store);

/* Numbers are u64: those from 2^63 on are stored as eight big-endian bytes, which SQLite orders after all integers. */
void tide__sq_bind_u64(sqlite3_stmt *statement, int index, uint64_t number);
uint64_t tide__sq_column_u64(sqlite3_stmt *statement, int index);
static inline void tide__sq_bind_id(sqlite3_stmt *statement, int index, tide_id id) {
    tide__sq_bind_u64(statement, index, id.ms);
    tide__sq_bind_u64(statement, index + 1, id.seq);
}
static inline tide_id tide__sq_column_id(sqlite3_stmt *statement, int index) {
    return (tide_id){tide__sq_column_u64(statement, index),
                     tide__sq_column_u64(statement, index + 1)};
}
/* Bytes that stay until the statement is reset. */
void tide__sq_bind_text(sqlite3_stmt *statement, int index, tide_str text);
void tide__sq_bind_blob(sqlite3_stmt *statement, int index, tide_str bytes);
tide_str tide__sq_column_str(sqlite3_stmt *statement, int index);
/* At least `size` bytes of scratch; NULL after tide__sq_no_memory. */
char *tide__sq_scratch(tide__sq_store *store, size_t size);

/* codec.c: an entry's fields as one blob. Bytes of it at most; what is needed is returned by the first. */
size_t tide__sq_packed_size(const tide_field *fields, size_t count);
size_t tide__sq_pack(char *out, const tide_field *fields, size_t count);
/* For append: one field more, `version`, to be written later at the end of the blob. */
size_t tide__sq_pack_open(char *out, const tide_field *fields, size_t count);
size_t tide__sq_pack_version(char *out, uint64_t version);
enum { TIDE__SQ_VERSION_BYTES_MAX = 2 + TIDE_U64_DIGITS_MAX };
/* The number of fields; false when the blob is damaged. */
bool tide__sq_packed_count(tide_str blob, size_t *count);
/* Fills `count` fields with views into the blob; `bytes` is the sum of names and values. */
bool tide__sq_unpack(tide_str blob, tide_field *fields, size_t count, size_t *bytes);

/* cache.c: streams, groups and consumers with their rows. */

/* Never NULL on TIDE_OK: a missing one has `alive` false. Valid for the rest of the job. */
tide_status tide__sq_stream_get(tide__sq_store *store, tide_str name, tide__sq_stream **stream);
/* Gives it a row without making it exist. */
tide_status tide__sq_stream_anchor(tide__sq_store *store, tide__sq_stream *stream);
/* Makes it exist. TIDE_WRONGTYPE when a key-value has the name (no failure of the store). */
tide_status tide__sq_stream_create(tide__sq_store *store, tide__sq_stream *stream);
/* Entries, groups, pending ones; a row stays when something is anchored. */
tide_status tide__sq_stream_delete(tide__sq_store *store, tide__sq_stream *stream);
tide_status tide__sq_stream_first(tide__sq_store *store, tide__sq_stream *stream, tide_id *first);
/* `group` NULL when there is none. */
tide_status tide__sq_group_get(tide__sq_store *store, tide__sq_stream *stream, tide_str name,
                               tide__sq_group **group);
tide_status tide__sq_group_create(tide__sq_store *store, tide__sq_stream *stream, tide_str name,
                                  tide_id last, int64_t entries_read, tide__sq_group **group);
tide_status tide__sq_group_delete(tide__sq_store *store, tide__sq_stream *stream,
                                  tide__sq_group *group);
/* `member` NULL when there is none and it isn't to be made. */
tide_status tide__sq_member_get(tide__sq_store *store, tide__sq_group *group, tide_str name,
                                bool create, tide__sq_member **member, bool *created);
/* Deletes it with its pending entries; `pending` counts them. */
tide_status tide__sq_member_delete(tide__sq_store *store, tide__sq_group *group,
                                   tide__sq_member *member, int64_t *pending);
/* Writes what is dirty. `lazily`: consumers' times only when something else was written. */
tide_status tide__sq_cache_flush(tide__sq_store *store, bool lazily);
void tide__sq_cache_drop(tide__sq_store *store);
/* Redis 7's and Valkey 8's rules for a group's counter: -1 unknown. */
tide_status tide__sq_entries_read_at(tide__sq_store *store, tide__sq_stream *stream, tide_id id,
                                     int64_t *entries_read);
/* Were entries from `start` on deleted one by one, so that counting is off? */
bool tide__sq_has_tombstones(tide__sq_store *store, tide__sq_stream *stream, tide_id start);
/* The counter after delivering `id`. */
tide_status tide__sq_group_advance(tide__sq_store *store, tide__sq_stream *stream,
                                   tide__sq_group *group, tide_id id);

/* ---- works: one operation each, in a job ---- */

typedef struct tide__sq_record {
    tide_str packed;
    tide_str event_id;
} tide__sq_record;

struct tide__sq_work {
    tide__sq_work *next;
    tide_op op;               /* copied; strings in the job's arena, or in `wait` */
    tide__sq_record *records; /* PUBLISH: instead of op.as.publish.records */
    tide_str *packed;         /* SETTLE: of each item's fields */
    tide__sq_wait *wait;      /* FETCH, and a COMMAND that may block; NULL otherwise */
    bool writes;              /* may change the tables */
    bool empty;               /* FETCH, COMMAND: nothing there now */
    bool put_off;             /* found nothing and waits on: no completion of this run */
    tide_status status;
    tide_error *error; /* in the arena; NULL on TIDE_OK, or when there was no memory for it */
    union {
        struct {
            tide_publish_result *results;
            uint64_t version;
        } publish;
        bool flag; /* CANCEL, GROUP_ENSURE */
        struct {
            uint32_t moved;
            int64_t next_due_ms;
        } promote;
        struct {
            tide_batch *batch;
            tide_id cursor;
            uint32_t deleted;
        } read; /* FETCH, RECOVER */
        tide_status *settle;
        struct {
            tide_id *lost;
            size_t lost_count;
        } extend;
        struct {
            bool found;
            tide_str value;
            int64_t integer;
            int64_t ttl_ms;
        } kv;
        tide_reply *reply; /* COMMAND, SERVER */
    } out;
};

/* A stream that got entries in a job, for those that wait on it. */
typedef struct tide__sq_touch {
    struct tide__sq_touch *next;
    tide_str name;
} tide__sq_touch;

struct tide__sq_job {
    tide_job base; /* first: the driver's view */
    tide__sq_job *next;
    tide__sq_store *store;
    tide_arena arena;
    tide__sq_work *first;
    tide__sq_work **last;
    tide__sq_work *drained; /* next one to be handed out as a completion */
    size_t weight;
    size_t bytes; /* of the arena, when its works were taken in */
    int64_t now_us;
    int64_t now_ms;
    /* Out. */
    tide__sq_touch *touched;
    bool changed_elsewhere;
    bool opened;
    tide_status store_status;
    tide_error store_error;
};

/* job.c */
void tide__sq_job_run(tide_job *job);
/* A stream got entries. */
void tide__sq_touch_stream(tide__sq_store *store, const tide__sq_stream *stream);
/* Ends a work with a refusal that is no failure of the store: nothing was written for it. `word` is the server's first
 * word of the error, may be NULL. Returns `status`. */
tide_status tide__sq_refuse(tide__sq_store *store, tide__sq_work *work, tide_status status,
                            const char *word, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Arena memory of the running job; NULL after tide__sq_no_memory. */
void *tide__sq_take(tide__sq_store *store, size_t size);

/* What runs one work each: TIDE_OK or the work's own end; a failure of the store shows in store->failure. */
tide_status tide__sq_do_publish(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_cancel(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_promote(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_ensure(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_fetch(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_settle(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_extend(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_recover(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_kv(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_command(tide__sq_store *store, tide__sq_work *work);
tide_status tide__sq_do_server(tide__sq_store *store, tide__sq_work *work);
/* command.c: whether a command may change the tables; whether it is one at all is found out when it runs. */
bool tide__sq_command_writes(const tide_op_command *command);

/* rows.c: entries collected for a batch or a reply. */
typedef struct tide__sq_row {
    tide_id id;
    uint32_t attempt;
    bool gone;
    size_t offset; /* of its blob in the backing */
    size_t size;
} tide__sq_row;

typedef struct tide__sq_rows {
    tide__sq_store *store;
    tide__sq_row *rows; /* in the job's arena */
    size_t count;
    size_t capacity;
    struct tide__sq_backing *backing;
    size_t used;
    size_t field_count;
} tide__sq_rows;

/* Of a row that isn't gone; valid until the next row is added. */
tide_str tide__sq_row_blob(const tide__sq_rows *rows, size_t index);
void tide__sq_rows_init(tide__sq_rows *rows, tide__sq_store *store);
void tide__sq_rows_deinit(tide__sq_rows *rows);
tide_status tide__sq_rows_add(tide__sq_rows *rows, tide_id id, uint32_t attempt, tide_str blob);
tide_status tide__sq_rows_add_gone(tide__sq_rows *rows, tide_id id, uint32_t attempt);
/* Makes the batch; NULL in `batch` when there are no rows. */
tide_status tide__sq_rows_batch(tide__sq_rows *rows, tide_batch **batch);

/* publish.c: shared writes. The stream exists. */
/* The next id of the clock; false when the stream's last id is the largest there is. */
bool tide__sq_next_id(const tide__sq_store *store, const tide__sq_stream *stream, tide_id *id);
/* Appends at `id`, greater than the last one. */
tide_status tide__sq_append(tide__sq_store *store, tide__sq_stream *stream, tide_id id,
                            tide_str packed);
/* Deletes the oldest so that `keep` stay, but at most `limit` of them (0: no bound). */
tide_status tide__sq_trim_length(tide__sq_store *store, tide__sq_stream *stream, uint64_t keep,
                                 uint64_t limit, uint64_t *deleted);
/* Deletes those below `min`, likewise. */
tide_status tide__sq_trim_below(tide__sq_store *store, tide__sq_stream *stream, tide_id min,
                                uint64_t limit, uint64_t *deleted);
/* Puts an entry aside; `duplicate` when its event id is put aside already. */
tide_status tide__sq_delay(tide__sq_store *store, tide__sq_stream *stream, int64_t due_ms,
                           tide_str event_id, tide_str packed, uint64_t max_len, bool exact,
                           bool *duplicate);
/* Trims as the operation and the URL's options say; approximately, so that most publishes delete nothing. */
tide_status tide__sq_retain(tide__sq_store *store, tide__sq_stream *stream, uint64_t max_len,
                            bool exact);
/* group.c: single pending entries, and an entry by its id (`found` false when it is gone). */
tide_status tide__sq_pending_put(tide__sq_store *store, int64_t group, tide_id id, int64_t member,
                                 int64_t delivered_ms, int64_t attempts);
tide_status tide__sq_pending_drop(tide__sq_store *store, int64_t group, tide_id id, bool *dropped);
tide_status tide__sq_add_entry(tide__sq_store *store, const tide__sq_stream *stream, tide_id id,
                               uint32_t attempt, tide__sq_rows *rows, bool *found);
/* group.c: what XAUTOCLAIM and RECOVER do. `deleted` gets the ids that were gone, in the arena. */
tide_status tide__sq_autoclaim(tide__sq_store *store, tide__sq_stream *stream,
                               tide__sq_group *group, tide__sq_member *member, int64_t min_idle_ms,
                               tide_id cursor, uint64_t count, bool just_id, tide__sq_rows *rows,
                               tide_id **deleted, size_t *deleted_count, tide_id *next);
/* group.c: new entries for a consumer. `member` NULL: NOACK of nobody; nothing is made pending with `no_ack`. */
tide_status tide__sq_read_new(tide__sq_store *store, tide__sq_stream *stream, tide__sq_group *group,
                              tide__sq_member *member, uint64_t count, bool no_ack,
                              tide__sq_rows *rows);
/* group.c: a consumer's own pending entries after `after`, counted as delivered once more. */
tide_status tide__sq_read_history(tide__sq_store *store, tide__sq_stream *stream,
                                  tide__sq_group *group, tide__sq_member *member, tide_id after,
                                  uint64_t count, tide__sq_rows *rows);

/* kv.c: what a name holds now as a key-value; `found` false when expired. The value is valid until the next statement. */
tide_status tide__sq_kv_exists(tide__sq_store *store, tide_str key, bool *found);

/* ---- waiting: the loop's side ---- */

typedef enum tide__sq_wait_state {
    TIDE__SQ_WAIT_QUEUED, /* behind another one of its reader */
    TIDE__SQ_WAIT_READY,  /* to be put in a job */
    TIDE__SQ_WAIT_IN_JOB,
    TIDE__SQ_WAIT_WAITING
} tide__sq_wait_state;

/* A fetch or a blocking command: it may run several times before it ends. Its memory is one block, reused. */
struct tide__sq_wait {
    tide__sq_wait *next;
    tide__sq_wait *previous;
    tide__sq_wait_state state;
    bool interrupted;
    bool has_reader;
    uint32_t reader;
    int64_t deadline_us; /* 0: doesn't wait */
    tide_op op;          /* strings in `memory` */
    tide_str *streams;   /* that it waits for, in `memory` */
    size_t stream_count;
    tide_id *after; /* of a command: what its ids were at its first run; the job's while IN_JOB */
    bool after_known;
    char *memory;
    size_t memory_size;
};

typedef struct tide__sq_broker {
    tide_broker base; /* first */
    tide_allocator alloc;
    tide_str path;
    int64_t wall_offset_us;
    int64_t now_us;
    bool closing;
    tide__sq_store store;
    /* Jobs: one runs, the first of `ready` is next, the last of `ready` is being filled. */
    tide__sq_job *running;
    tide__sq_job *ready;
    tide__sq_job *filling;
    tide__sq_job *done;
    tide__sq_job **done_last;
    tide__sq_job *free_jobs;
    size_t free_count;
    size_t op_count; /* not yet handed out as completions */
    size_t queued_bytes;
    size_t weight_max;
    bool open_wanted; /* the first job opens the store, with or without works */
    /* Waits, oldest first. */
    tide__sq_wait *waits;
    tide__sq_wait *waits_last;
    tide__sq_wait *free_waits;
    size_t free_wait_count;
    size_t waiting_count; /* in state WAITING */
    int64_t next_poll_us;
    /* When SQLite was last asked for the commits of others, 0: not since it was opened; and their number in the journal's
     * index just before that. */
    int64_t asked_us;
    uint32_t commits_asked;
    uint64_t seen_elsewhere; /* times that another process was found to have committed */
    tide_error state;        /* the last trouble of the store; TIDE_OK when healthy */
    bool opened;
} tide__sq_broker;

/* work.c */
/* Checks an operation without looking at the tables: TIDE_OK, TIDE_ARGUMENT, TIDE_LIMIT. */
tide_status tide__sq_check(const tide_op *op, tide_error *error);
/* An empty job at the end of those that are ready; NULL when there is no memory. */
tide__sq_job *tide__sq_new_job(tide__sq_broker *broker);
/* Copies it into the job being filled. TIDE_OK, TIDE_ENOMEM, TIDE_OVERFLOW. */
tide_status tide__sq_enqueue(tide__sq_broker *broker, const tide_op *op, tide_error *error);
/* A work for a wait, at the end of the job being filled; NULL when there is no memory. */
tide__sq_work *tide__sq_enqueue_wait(tide__sq_broker *broker, tide__sq_wait *wait);

/* wait.c */
/* Fetches, and commands that may block. */
bool tide__sq_may_wait(const tide_op *op);
tide_status tide__sq_wait_submit(tide__sq_broker *broker, const tide_op *op, tide_error *error);
/* Puts into the job being filled what is to run; what finds no memory is tried again later. */
void tide__sq_wait_pump(tide__sq_broker *broker);
/* After a job: its waits that found nothing wait on, or end; those that its writes concern run again. */
void tide__sq_wait_after(tide__sq_broker *broker, tide__sq_job *job);
/* Another process has committed: all that wait look again. */
void tide__sq_wait_wake_all(tide__sq_broker *broker);
void tide__sq_wait_interrupt(tide__sq_broker *broker, uint32_t reader);
void tide__sq_wait_tick(tide__sq_broker *broker);
int64_t tide__sq_wait_deadline_us(const tide__sq_broker *broker);
void tide__sq_wait_deinit(tide__sq_broker *broker);

#endif
