/* SPDX-License-Identifier: MIT */
/*
 * What it is: entries that are to be published later: put aside, taken back, moved into their stream when due.
 * What it is not: a clock; somebody asks for promotion.
 * Invariants: moving an entry into its stream and dropping it here is one transaction; of equal due times the one put
 * aside first moves first; an event id is there at most once a stream.
 */
#include "broker/sqlite/internal.h"

static tide_status is_delayed(tide__sq_store *store, const tide__sq_stream *stream,
                              tide_str event_id, bool *found) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_DELAYED_GET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, event_id);
    int code = tide__sq_step(store, statement);
    *found = code == SQLITE_ROW;
    return tide__sq_end(store, statement, code);
}

tide_status tide__sq_delay(tide__sq_store *store, tide__sq_stream *stream, int64_t due_ms,
                           tide_str event_id, tide_str packed, uint64_t max_len, bool exact,
                           bool *duplicate) {
    tide_status status = is_delayed(store, stream, event_id, duplicate);
    if (status != TIDE_OK || *duplicate)
        return status;
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_DELAYED_PUT);
    if (statement == NULL)
        return store->failure.status;
    int64_t trim = max_len > INT64_MAX ? INT64_MAX : (int64_t)max_len;
    sqlite3_bind_int64(statement, 1, stream->id);
    sqlite3_bind_int64(statement, 2, due_ms);
    tide__sq_bind_text(statement, 3, event_id);
    tide__sq_bind_blob(statement, 4, packed);
    sqlite3_bind_int64(statement, 5, exact ? -trim : trim);
    store->wrote = true;
    return tide__sq_run(store, statement);
}

tide_status tide__sq_do_cancel(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_cancel *op = &work->op.as.cancel;
    tide__sq_stream *stream;
    work->out.flag = false;
    tide_status status = tide__sq_stream_get(store, op->stream, &stream);
    if (status != TIDE_OK || stream->id == 0)
        return status;
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_DELAYED_CANCEL);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, op->event_id);
    status = tide__sq_run(store, statement);
    if (status != TIDE_OK || sqlite3_changes(store->db) == 0)
        return status;
    work->out.flag = true;
    store->wrote = true;
    /* It was never published: its id may be used again. */
    statement = tide__sq_statement_of(store, TIDE__SQ_DEDUPE_FORGET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, op->event_id);
    return tide__sq_run(store, statement);
}

/* Moves the first one when it is due. `more` is false when none is due; `next_due_ms` then says when. */
static tide_status promote_first(tide__sq_store *store, tide__sq_stream *stream, bool *more,
                                 int64_t *next_due_ms) {
    *more = false;
    *next_due_ms = -1;
    sqlite3_stmt *due = tide__sq_statement_of(store, TIDE__SQ_DELAYED_DUE);
    if (due == NULL)
        return store->failure.status;
    sqlite3_bind_int64(due, 1, stream->id);
    int code = tide__sq_step(store, due);
    if (code != SQLITE_ROW) {
        sqlite3_reset(due);
        return code == SQLITE_DONE ? TIDE_OK : store->failure.status;
    }
    int64_t row = sqlite3_column_int64(due, 0), due_ms = sqlite3_column_int64(due, 1);
    if (due_ms > store->now_ms) {
        *next_due_ms = due_ms - store->now_ms;
        sqlite3_reset(due);
        return TIDE_OK;
    }
    tide_id id;
    tide_status status = tide__sq_stream_create(store, stream);
    if (status == TIDE_OK && !tide__sq_next_id(store, stream, &id))
        status = TIDE_LIMIT;
    if (status == TIDE_OK)
        status = tide__sq_append(store, stream, id, tide__sq_column_str(due, 2));
    int64_t trim = sqlite3_column_int64(due, 3);
    sqlite3_reset(due);
    if (status == TIDE_OK)
        status = tide__sq_retain(store, stream, trim < 0 ? 0 - (uint64_t)trim : (uint64_t)trim,
                                 trim < 0);
    sqlite3_stmt *drop =
        status == TIDE_OK ? tide__sq_statement_of(store, TIDE__SQ_DELAYED_DROP) : NULL;
    if (drop == NULL)
        return status != TIDE_OK ? status : store->failure.status;
    sqlite3_bind_int64(drop, 1, row);
    *more = true;
    return tide__sq_run(store, drop);
}

tide_status tide__sq_do_promote(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_promote *op = &work->op.as.promote;
    tide__sq_stream *stream;
    work->out.promote.moved = 0;
    work->out.promote.next_due_ms = -1;
    tide_status status = tide__sq_stream_get(store, op->stream, &stream);
    if (status != TIDE_OK || stream->id == 0)
        return status;
    bool more = true;
    while (more && work->out.promote.moved < op->count_max) {
        status = promote_first(store, stream, &more, &work->out.promote.next_due_ms);
        if (status == TIDE_WRONGTYPE || (status == TIDE_LIMIT && store->failure.status == TIDE_OK))
            return tide__sq_refuse(
                store, work, status, status == TIDE_WRONGTYPE ? "WRONGTYPE" : NULL,
                "%.*s can't take its delayed events", (int)op->stream.len, op->stream.data);
        if (status != TIDE_OK)
            return status;
        work->out.promote.moved += more;
    }
    if (more) /* stopped by the count: there may be more at once */
        work->out.promote.next_due_ms = 0;
    if (work->out.promote.moved > 0)
        tide__sq_touch_stream(store, stream);
    return TIDE_OK;
}
