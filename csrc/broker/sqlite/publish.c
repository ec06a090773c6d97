/* SPDX-License-Identifier: MIT */
/*
 * What it is: writing entries: ids, appending, idempotency, expected versions, trimming.
 * What it is not: aware of groups; of other processes only through the rows it reads.
 * Invariants:
 *   1. Ids of a stream only grow: the clock's, or one more than the last.
 *   2. A refusal (conflict, wrong type) comes before the first write of its operation.
 *   3. stream->length is the number of rows of the stream in `entries`, at the end of each transaction.
 */
#include "broker/sqlite/internal.h"

bool tide__sq_next_id(const tide__sq_store *store, const tide__sq_stream *stream, tide_id *id) {
    uint64_t now = store->now_ms > 0 ? (uint64_t)store->now_ms : 0;
    if (now > stream->last.ms) {
        *id = (tide_id){now, 0};
        return true;
    }
    if (stream->last.seq < UINT64_MAX) {
        *id = (tide_id){stream->last.ms, stream->last.seq + 1};
        return true;
    }
    if (stream->last.ms == UINT64_MAX)
        return false;
    *id = (tide_id){stream->last.ms + 1, 0};
    return true;
}

static void note_appended(tide__sq_stream *stream, tide_id first, tide_id last, uint64_t count) {
    if (stream->length == 0) {
        stream->first = first;
        stream->first_known = true;
    }
    stream->last = last;
    stream->length += count;
    stream->added += count;
    stream->dirty = true;
}

tide_status tide__sq_append(tide__sq_store *store, tide__sq_stream *stream, tide_id id,
                            tide_str packed) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_ENTRY_ADD);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_id(statement, 2, id);
    tide__sq_bind_blob(statement, 4, packed);
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK)
        note_appended(stream, id, id, 1);
    return status;
}

/* ---- trimming ---- */

static tide_status delete_below(tide__sq_store *store, tide__sq_stream *stream, tide_id min,
                                uint64_t *deleted) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_ENTRIES_TRIM);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_id(statement, 2, min);
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    if (status != TIDE_OK)
        return status;
    *deleted = (uint64_t)sqlite3_changes64(store->db);
    stream->length -= *deleted < stream->length ? *deleted : stream->length;
    stream->first_known = false;
    stream->dirty = true;
    return TIDE_OK;
}

tide_status tide__sq_trim_length(tide__sq_store *store, tide__sq_stream *stream, uint64_t keep,
                                 uint64_t limit, uint64_t *deleted) {
    *deleted = 0;
    if (stream->length <= keep)
        return TIDE_OK;
    uint64_t excess = stream->length - keep;
    if (limit > 0 && excess > limit)
        excess = limit;
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_STREAM_NTH);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    sqlite3_bind_int64(statement, 2, excess > INT64_MAX ? INT64_MAX : (int64_t)excess);
    int code = tide__sq_step(store, statement);
    bool all = code == SQLITE_DONE;
    tide_id min = code == SQLITE_ROW ? tide__sq_column_id(statement, 0) : (tide_id){0, 0};
    if (tide__sq_end(store, statement, code) != TIDE_OK)
        return store->failure.status;
    if (!all)
        return delete_below(store, stream, min, deleted);
    tide_status status = delete_below(store, stream, (tide_id){UINT64_MAX, UINT64_MAX}, deleted);
    if (status == TIDE_OK && stream->length > 0) { /* one with the largest id of all */
        uint64_t one = 0;
        statement = tide__sq_statement_of(store, TIDE__SQ_ENTRIES_DROP);
        if (statement == NULL)
            return store->failure.status;
        sqlite3_bind_int64(statement, 1, stream->id);
        status = tide__sq_run(store, statement);
        one = (uint64_t)sqlite3_changes64(store->db);
        *deleted += one;
        stream->length -= one < stream->length ? one : stream->length;
    }
    return status;
}

tide_status tide__sq_trim_below(tide__sq_store *store, tide__sq_stream *stream, tide_id min,
                                uint64_t limit, uint64_t *deleted) {
    *deleted = 0;
    tide_id first;
    tide_status status = tide__sq_stream_first(store, stream, &first);
    if (status != TIDE_OK || stream->length == 0 || tide_id_compare(first, min) >= 0)
        return status;
    if (limit > 0 && limit < stream->length) {
        /* The limit is the boundary when it comes first. */
        sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_STREAM_NTH);
        if (statement == NULL)
            return store->failure.status;
        sqlite3_bind_int64(statement, 1, stream->id);
        sqlite3_bind_int64(statement, 2, limit > INT64_MAX ? INT64_MAX : (int64_t)limit);
        int code = tide__sq_step(store, statement);
        if (code == SQLITE_ROW) {
            tide_id bound = tide__sq_column_id(statement, 0);
            if (tide_id_compare(bound, min) < 0)
                min = bound;
        }
        if (tide__sq_end(store, statement, code) != TIDE_OK)
            return store->failure.status;
    }
    return delete_below(store, stream, min, deleted);
}

/* What the operation and the URL's options ask for; approximately, so that most publishes delete nothing. */
tide_status tide__sq_retain(tide__sq_store *store, tide__sq_stream *stream, uint64_t max_len,
                            bool exact) {
    uint64_t deleted;
    tide_status status = TIDE_OK;
    if (store->max_len > 0 && (max_len == 0 || store->max_len < max_len)) {
        max_len = store->max_len;
        exact = false;
    }
    if (max_len > 0 && stream->length > max_len) {
        uint64_t excess = stream->length - max_len;
        if (exact || excess >= TIDE__SQ_TRIM_SLACK)
            status = tide__sq_trim_length(store, stream, max_len, 0, &deleted);
    }
    if (status == TIDE_OK && store->max_age_ms > 0 && stream->length > 0) {
        int64_t oldest_ms = store->now_ms - store->max_age_ms;
        tide_id first;
        status = tide__sq_stream_first(store, stream, &first);
        if (status == TIDE_OK && oldest_ms > 0 &&
            first.ms < (uint64_t)(oldest_ms - store->max_age_ms / 20))
            status =
                tide__sq_trim_below(store, stream, (tide_id){(uint64_t)oldest_ms, 0}, 0, &deleted);
    }
    return status;
}

/* ---- idempotency ---- */

/* Was this event published to the stream within its window? */
static tide_status find_duplicate(tide__sq_store *store, const tide__sq_stream *stream,
                                  tide_str event_id, bool *found, tide_id *id) {
    *found = false;
    if (stream->id == 0)
        return TIDE_OK;
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_DEDUPE_GET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, event_id);
    int code = tide__sq_step(store, statement);
    if (code == SQLITE_ROW && sqlite3_column_int64(statement, 2) > store->now_ms) {
        *found = true;
        *id = tide__sq_column_id(statement, 0);
    }
    return tide__sq_end(store, statement, code);
}

static tide_status remember(tide__sq_store *store, const tide__sq_stream *stream, tide_str event_id,
                            tide_id id, int64_t window_ms) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_DEDUPE_PUT);
    if (statement == NULL)
        return store->failure.status;
    int64_t until = window_ms > INT64_MAX - store->now_ms ? INT64_MAX : store->now_ms + window_ms;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, event_id);
    tide__sq_bind_id(statement, 3, id);
    sqlite3_bind_int64(statement, 5, until);
    store->wrote = true;
    return tide__sq_run(store, statement);
}

typedef struct expired_id {
    struct expired_id *next;
    int64_t stream;
    tide_str event_id;
} expired_id;

/* Up to `count` of them, listed first and then deleted one by one: with one DELETE … IN, SQLite tries each stream with each
 * id. */
static tide_status purge_expired(tide__sq_store *store, size_t count) {
    expired_id *list = NULL;
    sqlite3_stmt *select = tide__sq_statement_of(store, TIDE__SQ_DEDUPE_EXPIRED);
    sqlite3_stmt *drop = tide__sq_statement_of(store, TIDE__SQ_DEDUPE_DROP);
    if (select == NULL || drop == NULL)
        return store->failure.status;
    sqlite3_bind_int64(select, 1, store->now_ms);
    sqlite3_bind_int64(select, 2, (int64_t)count);
    while (tide__sq_step(store, select) == SQLITE_ROW) {
        tide_str id = tide__sq_column_str(select, 1);
        expired_id *one = tide__sq_take(store, sizeof *one);
        char *copy = tide__sq_take(store, id.len + 1);
        if (one == NULL || copy == NULL)
            break;
        memcpy(copy, id.data, id.len);
        *one = (expired_id){list, sqlite3_column_int64(select, 0), {copy, id.len}};
        list = one;
    }
    sqlite3_reset(select);
    tide_status status = store->failure.status;
    for (; list != NULL && status == TIDE_OK; list = list->next) {
        sqlite3_bind_int64(drop, 1, list->stream);
        tide__sq_bind_text(drop, 2, list->event_id);
        status = tide__sq_run(store, drop);
    }
    return status;
}

/* ---- the operation ---- */

static tide_status refuse_all(tide__sq_work *work, tide_status status) {
    for (size_t i = 0; i < work->op.as.publish.record_count; i++)
        work->out.publish.results[i] = (tide_publish_result){.status = status};
    return status;
}

static bool version_fits(const tide_op_publish *op, uint64_t version) {
    switch (op->expect) {
    case TIDE_EXPECT_NO_STREAM: return version == 0;
    case TIDE_EXPECT_EXISTS: return version > 0;
    case TIDE_EXPECT_VERSION: return version == op->expect_version;
    default: return true;
    }
}

static tide_status refuse_version(tide__sq_store *store, tide__sq_work *work, uint64_t version) {
    const tide_op_publish *op = &work->op.as.publish;
    char expected[TIDE_U64_DIGITS_MAX + 1] = "no stream";
    if (op->expect == TIDE_EXPECT_EXISTS)
        strcpy(expected, "a stream");
    else if (op->expect == TIDE_EXPECT_VERSION)
        expected[tide_u64_format(expected, op->expect_version)] = '\0';
    work->out.publish.version = version;
    refuse_all(work, TIDE_CONFLICT);
    return tide__sq_refuse(store, work, TIDE_CONFLICT, NULL,
                           "%.*s: expected version %s, actual %llu", (int)op->stream.len,
                           op->stream.data, expected, (unsigned long long)version);
}

/* The blob of a record, with the version that it has in its stream where one is kept. */
static tide_str blob_of(const tide_op_publish *op, const tide__sq_record *record,
                        uint64_t *version) {
    tide_str packed = record->packed;
    if (op->expect != TIDE_EXPECT_NONE) {
        /* The record was packed with room for its version. */
        char *end = (char *)(uintptr_t)packed.data + packed.len;
        packed.len += tide__sq_pack_version(end, ++*version);
    }
    return packed;
}

/* TIDE__SQ_ROWS records from the `first` on, by one statement. The stream has that many ids left. */
static tide_status publish_rows(tide__sq_store *store, tide__sq_work *work, tide__sq_stream *stream,
                                size_t first, uint64_t *version) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_ENTRY_ADD_ROWS);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide_publish_result *results = &work->out.publish.results[first];
    tide__sq_stream place = {.last = stream->last};
    for (size_t i = 0; i < TIDE__SQ_ROWS; i++) {
        int index = 2 + 3 * (int)i;
        if (!tide__sq_next_id(store, &place, &place.last))
            return tide__sq_damaged(store, "ids");
        tide__sq_bind_id(statement, index, place.last);
        tide__sq_bind_blob(statement, index + 2,
                           blob_of(&work->op.as.publish, &work->records[first + i], version));
        results[i] = (tide_publish_result){.status = TIDE_OK, .id = place.last};
    }
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK)
        note_appended(stream, results[0].id, place.last, TIDE__SQ_ROWS);
    return status;
}

static tide_status publish_one(tide__sq_store *store, tide__sq_work *work, tide__sq_stream *stream,
                               size_t i, int64_t due_ms, uint64_t *version) {
    const tide_op_publish *op = &work->op.as.publish;
    tide__sq_record *record = &work->records[i];
    tide_publish_result *result = &work->out.publish.results[i];
    bool dedupe = op->dedupe_window_ms > 0 && record->event_id.len > 0;
    tide_status status = TIDE_OK;
    *result = (tide_publish_result){.status = TIDE_OK};
    if (dedupe) { /* looked up again: two of one batch may be the same */
        status = find_duplicate(store, stream, record->event_id, &result->duplicate, &result->id);
        if (status != TIDE_OK || result->duplicate)
            return status;
    }
    tide_id id = {0, 0};
    if (due_ms != 0) {
        status = tide__sq_delay(store, stream, due_ms, record->event_id, record->packed,
                                op->max_len, op->max_len_exact, &result->duplicate);
        if (status != TIDE_OK || result->duplicate)
            return status;
    } else {
        tide_str packed = blob_of(op, record, version);
        if (!tide__sq_next_id(store, stream, &id)) {
            result->status = TIDE_LIMIT;
            result->detail = TIDE_STR("the stream has used up its ids");
            return TIDE_OK;
        }
        status = tide__sq_append(store, stream, id, packed);
    }
    if (status == TIDE_OK && dedupe) {
        /* The window of a delayed event begins when it is due. */
        int64_t wait_ms = due_ms > store->now_ms ? due_ms - store->now_ms : 0;
        int64_t window_ms = op->dedupe_window_ms;
        window_ms = window_ms > INT64_MAX - wait_ms ? INT64_MAX : window_ms + wait_ms;
        status = remember(store, stream, record->event_id, id, window_ms);
    }
    result->id = id;
    return status;
}

tide_status tide__sq_do_publish(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_publish *op = &work->op.as.publish;
    tide__sq_stream *stream;
    uint64_t version = 0;
    tide_status status = tide__sq_stream_get(store, op->stream, &stream);
    if (status != TIDE_OK)
        return status;
    if (op->expect != TIDE_EXPECT_NONE) {
        /* Until the first append a stream's version is its length. */
        version = stream->version >= 0 ? (uint64_t)stream->version : stream->length;
        if (!version_fits(op, version))
            return refuse_version(store, work, version);
    }
    int64_t due_ms = op->due_ms;
    if (op->delay_ms > 0)
        due_ms =
            op->delay_ms > INT64_MAX - store->now_ms ? INT64_MAX : store->now_ms + op->delay_ms;
    status =
        due_ms != 0 ? tide__sq_stream_anchor(store, stream) : tide__sq_stream_create(store, stream);
    if (status == TIDE_WRONGTYPE) {
        refuse_all(work, TIDE_WRONGTYPE);
        return tide__sq_refuse(store, work, TIDE_WRONGTYPE, "WRONGTYPE",
                               "%.*s holds a key-value, not a stream", (int)op->stream.len,
                               op->stream.data);
    }
    size_t i = 0;
    /* Below the largest ms there is, no stream runs out of ids. */
    for (bool plain = due_ms == 0 && op->dedupe_window_ms == 0;
         plain && op->record_count - i >= TIDE__SQ_ROWS && stream->last.ms < UINT64_MAX &&
         status == TIDE_OK;
         i += TIDE__SQ_ROWS)
        status = publish_rows(store, work, stream, i, &version);
    for (; i < op->record_count && status == TIDE_OK; i++)
        status = publish_one(store, work, stream, i, due_ms, &version);
    if (status != TIDE_OK)
        return status;
    if (op->expect != TIDE_EXPECT_NONE) {
        stream->version = (int64_t)version;
        stream->dirty = true;
        work->out.publish.version = version;
    }
    if (op->dedupe_window_ms > 0)
        status = purge_expired(store, op->record_count * 2 + 16);
    if (status == TIDE_OK && due_ms == 0) {
        tide__sq_touch_stream(store, stream);
        status = tide__sq_retain(store, stream, op->max_len, op->max_len_exact);
    }
    return status;
}
