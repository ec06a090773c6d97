/* SPDX-License-Identifier: MIT */
/*
 * What it is: consumer groups: reading, pending entries, settling, leases, claiming what others left.
 * What it is not: a scheduler: whoever waits for new entries is wait.c's.
 * Invariants:
 *   1. Delivering an entry and making it pending is one transaction; so is dead-lettering or delaying it and dropping it.
 *   2. A pending entry belongs to one consumer; a verdict that needs ownership changes nothing for another consumer.
 *   3. Counting follows Redis 7: reading new counts 1, reading history and claiming count one more.
 */
#include "broker/sqlite/internal.h"

/* ---- finding the group ---- */

static tide_status refuse_no_group(tide__sq_store *store, tide__sq_work *work, tide_str stream,
                                   tide_str group) {
    return tide__sq_refuse(store, work, TIDE_NOGROUP, "NOGROUP",
                           "no stream %.*s or no consumer group %.*s", (int)stream.len, stream.data,
                           (int)group.len, group.data);
}

static tide_status find_group(tide__sq_store *store, tide_str stream_name, tide_str group_name,
                              tide__sq_stream **stream, tide__sq_group **group) {
    tide_status status = tide__sq_stream_get(store, stream_name, stream);
    *group = NULL;
    return status == TIDE_OK ? tide__sq_group_get(store, *stream, group_name, group) : status;
}

typedef struct place {
    tide_str stream;
    tide_str group;
    tide_str consumer;
} place;

/* The group, which must be there, and its consumer, which is made when it is new. */
static tide_status find_member(tide__sq_store *store, tide__sq_work *work, place at,
                               tide__sq_stream **stream, tide__sq_group **group,
                               tide__sq_member **member) {
    tide_status status = find_group(store, at.stream, at.group, stream, group);
    if (status != TIDE_OK)
        return status;
    if (*group == NULL)
        return refuse_no_group(store, work, at.stream, at.group);
    return tide__sq_member_get(store, *group, at.consumer, true, member, NULL);
}

tide_status tide__sq_do_ensure(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_group_ensure *op = &work->op.as.group_ensure;
    tide__sq_stream *stream;
    tide__sq_group *group;
    work->out.flag = false;
    tide_status status = find_group(store, op->stream, op->group, &stream, &group);
    if (status != TIDE_OK || group != NULL)
        return status;
    tide_id start = {0, 0};
    bool at_end = op->start.len == 1 && op->start.data[0] == '$';
    if (!at_end && op->start.len > 0 && !tide_id_parse(op->start, 0, &start))
        return tide__sq_refuse(store, work, TIDE_ARGUMENT, "ERR",
                               "\"%.*s\" is no place to start a group: 0, $ or an id",
                               (int)op->start.len, op->start.data);
    status = tide__sq_stream_create(store, stream);
    if (status == TIDE_WRONGTYPE)
        return tide__sq_refuse(store, work, TIDE_WRONGTYPE, "WRONGTYPE",
                               "%.*s holds a key-value, not a stream", (int)op->stream.len,
                               op->stream.data);
    if (status != TIDE_OK)
        return status;
    status =
        tide__sq_group_create(store, stream, op->group, at_end ? stream->last : start, -1, &group);
    work->out.flag = status == TIDE_OK;
    return status;
}

/* ---- reading ---- */

tide_status tide__sq_pending_put(tide__sq_store *store, int64_t group, tide_id id, int64_t member,
                                 int64_t delivered_ms, int64_t attempts) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_PUT);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group);
    tide__sq_bind_id(statement, 2, id);
    sqlite3_bind_int64(statement, 4, member);
    sqlite3_bind_int64(statement, 5, delivered_ms);
    sqlite3_bind_int64(statement, 6, attempts);
    store->wrote = true;
    return tide__sq_run(store, statement);
}

/* The rows from the `first` on become pending: delivered now, for the first time. */
static tide_status pending_new(tide__sq_store *store, int64_t group, int64_t member,
                               const tide__sq_rows *rows, size_t first) {
    tide_status status = TIDE_OK;
    for (; rows->count - first >= TIDE__SQ_ROWS && status == TIDE_OK; first += TIDE__SQ_ROWS) {
        sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_NEW_ROWS);
        if (statement == NULL)
            return store->failure.status;
        sqlite3_bind_int64(statement, 1, group);
        sqlite3_bind_int64(statement, 2, member);
        sqlite3_bind_int64(statement, 3, store->now_ms);
        for (int i = 0; i < TIDE__SQ_ROWS; i++)
            tide__sq_bind_id(statement, 4 + 2 * i, rows->rows[first + (size_t)i].id);
        store->wrote = true;
        status = tide__sq_run(store, statement);
    }
    for (; first < rows->count && status == TIDE_OK; first++)
        status = tide__sq_pending_put(store, group, rows->rows[first].id, member, store->now_ms, 1);
    return status;
}

tide_status tide__sq_pending_drop(tide__sq_store *store, int64_t group, tide_id id, bool *dropped) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_DROP);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group);
    tide__sq_bind_id(statement, 2, id);
    tide_status status = tide__sq_run(store, statement);
    *dropped = status == TIDE_OK && sqlite3_changes(store->db) > 0;
    if (*dropped)
        store->wrote = true;
    return status;
}

/* Adds the entry `id` to the rows; `found` false when it is gone. */
tide_status tide__sq_add_entry(tide__sq_store *store, const tide__sq_stream *stream, tide_id id,
                               uint32_t attempt, tide__sq_rows *rows, bool *found) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_ENTRY_GET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_id(statement, 2, id);
    int code = tide__sq_step(store, statement);
    tide_status status = TIDE_OK;
    *found = code == SQLITE_ROW;
    if (*found)
        status = tide__sq_rows_add(rows, id, attempt, tide__sq_column_str(statement, 0));
    else if (code != SQLITE_DONE)
        status = store->failure.status;
    sqlite3_reset(statement);
    return status;
}

tide_status tide__sq_read_new(tide__sq_store *store, tide__sq_stream *stream, tide__sq_group *group,
                              tide__sq_member *member, uint64_t count, bool no_ack,
                              tide__sq_rows *rows) {
    member->seen_ms = store->now_ms;
    member->dirty = true;
    if (stream->length == 0 || tide_id_compare(group->last, stream->last) >= 0)
        return TIDE_OK;
    sqlite3_stmt *entries = tide__sq_statement_of(store, TIDE__SQ_ENTRIES_AFTER);
    if (entries == NULL)
        return store->failure.status;
    sqlite3_bind_int64(entries, 1, stream->id);
    tide__sq_bind_id(entries, 2, group->last);
    sqlite3_bind_int64(entries, 4, count > INT64_MAX ? INT64_MAX : (int64_t)count);
    size_t before = rows->count;
    tide_status status = TIDE_OK;
    while (status == TIDE_OK) {
        int code = tide__sq_step(store, entries);
        if (code != SQLITE_ROW) {
            status = code == SQLITE_DONE ? TIDE_OK : store->failure.status;
            break;
        }
        tide_id id = tide__sq_column_id(entries, 0);
        tide_str blob = tide__sq_column_str(entries, 2);
        if (rows->count > 0 && rows->used + blob.len > TIDE__SQ_BATCH_BYTES_MAX)
            break;
        status = tide__sq_rows_add(rows, id, 1, blob);
        if (status == TIDE_OK)
            status = tide__sq_group_advance(store, stream, group, id);
    }
    sqlite3_reset(entries);
    if (status == TIDE_OK && !no_ack)
        status = pending_new(store, group->id, member->id, rows, before);
    if (rows->count > 0) {
        if (!no_ack) /* as Valkey 8: active is who got something to ack */
            member->active_ms = store->now_ms;
        store->wrote = true;
    }
    return status;
}

typedef struct pending_row {
    tide_id id;
    int64_t member;
    int64_t delivered_ms;
    int64_t attempts;
} pending_row;

static pending_row read_pending(sqlite3_stmt *statement) {
    return (pending_row){tide__sq_column_id(statement, 0), sqlite3_column_int64(statement, 2),
                         sqlite3_column_int64(statement, 3), sqlite3_column_int64(statement, 4)};
}

static uint32_t attempt_of(int64_t attempts) {
    if (attempts < 1)
        return 1;
    return attempts > UINT32_MAX ? UINT32_MAX : (uint32_t)attempts;
}

/* Rows of the pending table, copied so that it may be changed while they are gone through. */
typedef struct pending_list {
    pending_row *rows;
    size_t count;
    size_t capacity;
} pending_list;

static tide_status list_add(tide__sq_store *store, pending_list *list, pending_row row) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        pending_row *grown = tide__sq_take(store, capacity * sizeof *grown);
        if (grown == NULL)
            return TIDE_ENOMEM;
        if (list->count > 0)
            memcpy(grown, list->rows, list->count * sizeof *grown);
        list->rows = grown;
        list->capacity = capacity;
    }
    list->rows[list->count++] = row;
    return TIDE_OK;
}

/* Up to `count` of `member` (0: anyone's) from `which` statement's start on. */
static tide_status list_pending(tide__sq_store *store, tide__sq_statement which, int64_t group,
                                tide_id from, int64_t member, uint64_t count, pending_list *list) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, which);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group);
    tide__sq_bind_id(statement, 2, from);
    tide_status status = TIDE_OK;
    while (status == TIDE_OK && list->count < count) {
        int code = tide__sq_step(store, statement);
        if (code != SQLITE_ROW) {
            status = code == SQLITE_DONE ? TIDE_OK : store->failure.status;
            break;
        }
        pending_row row = read_pending(statement);
        if (member == 0 || row.member == member)
            status = list_add(store, list, row);
    }
    sqlite3_reset(statement);
    return status;
}

tide_status tide__sq_read_history(tide__sq_store *store, tide__sq_stream *stream,
                                  tide__sq_group *group, tide__sq_member *member, tide_id after,
                                  uint64_t count, tide__sq_rows *rows) {
    pending_list list = {NULL, 0, 0};
    member->seen_ms = store->now_ms;
    member->dirty = true;
    tide_status status =
        list_pending(store, TIDE__SQ_PENDING_AFTER, group->id, after, member->id, count, &list);
    for (size_t i = 0; i < list.count && status == TIDE_OK; i++) {
        const pending_row *row = &list.rows[i];
        if (rows->count > 0 && rows->used > TIDE__SQ_BATCH_BYTES_MAX)
            break;
        bool found;
        status =
            tide__sq_add_entry(store, stream, row->id, attempt_of(row->attempts + 1), rows, &found);
        if (status == TIDE_OK && found)
            status = tide__sq_pending_put(store, group->id, row->id, member->id, store->now_ms,
                                          row->attempts + 1);
        else if (status == TIDE_OK)
            status = tide__sq_rows_add_gone(rows, row->id, attempt_of(row->attempts));
    }
    return status;
}

tide_status tide__sq_do_fetch(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_fetch *op = &work->op.as.fetch;
    tide__sq_stream *stream;
    tide__sq_group *group;
    tide__sq_member *member;
    work->empty = false;
    tide_status status = find_member(store, work, (place){op->stream, op->group, op->consumer},
                                     &stream, &group, &member);
    if (status != TIDE_OK)
        return status;
    tide__sq_rows rows;
    tide__sq_rows_init(&rows, store);
    if (op->history)
        status =
            tide__sq_read_history(store, stream, group, member, op->after, op->count_max, &rows);
    else
        status = tide__sq_read_new(store, stream, group, member, op->count_max, false, &rows);
    work->empty = rows.count == 0 && !op->history;
    if (status == TIDE_OK)
        status = tide__sq_rows_batch(&rows, &work->out.read.batch);
    tide__sq_rows_deinit(&rows);
    return status;
}

/* ---- settling ---- */

static tide_status owns_pending(tide__sq_store *store, int64_t group, int64_t member, tide_id id,
                                bool *owns) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_GET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group);
    tide__sq_bind_id(statement, 2, id);
    int code = tide__sq_step(store, statement);
    *owns = code == SQLITE_ROW && sqlite3_column_int64(statement, 0) == member;
    return tide__sq_end(store, statement, code);
}

/* Writes the fields elsewhere, then drops the pending entry. What can't be written stays pending. */
static tide_status move_away(tide__sq_store *store, tide__sq_work *work, tide__sq_stream *stream,
                             tide__sq_group *group, const tide__sq_member *member, size_t i,
                             tide_status *result) {
    const tide_op_settle *op = &work->op.as.settle;
    const tide_settlement *item = &op->items[i];
    bool owns;
    tide_status status = owns_pending(store, group->id, member->id, item->id, &owns);
    if (status != TIDE_OK)
        return status;
    if (!owns) { /* settled already, or claimed by a peer, whose verdict then counts */
        *result = TIDE_NOTFOUND;
        return TIDE_OK;
    }
    if (item->kind == TIDE_SETTLE_DELAY) {
        int64_t delay_ms = item->delay_ms > 0 ? item->delay_ms : 0;
        int64_t due_ms =
            delay_ms > INT64_MAX - store->now_ms ? INT64_MAX : store->now_ms + delay_ms;
        /* Its own name: two groups may both delay the same event, and neither is a delayed publish. */
        char *name = tide__sq_take(store, sizeof "retry//" + op->group.len + TIDE_ID_TEXT_MAX);
        if (name == NULL)
            return TIDE_ENOMEM;
        bool duplicate;
        size_t len = 6;
        memcpy(name, "retry/", 6);
        memcpy(name + len, op->group.data, op->group.len);
        len += op->group.len;
        name[len++] = '/';
        len += tide_id_format(name + len, item->id);
        status = tide__sq_delay(store, stream, due_ms, (tide_str){name, len}, work->packed[i], 0,
                                false, &duplicate);
    } else {
        tide__sq_stream *dead;
        tide_id id = {0, 0};
        status = tide__sq_stream_get(store, op->dead_letters, &dead);
        if (status == TIDE_OK)
            status = tide__sq_stream_create(store, dead);
        if (status == TIDE_OK && !tide__sq_next_id(store, dead, &id))
            status = TIDE_LIMIT;
        if (status != TIDE_OK && store->failure.status == TIDE_OK) {
            *result = status; /* WRONGTYPE or no id left: stays pending */
            return TIDE_OK;
        }
        if (status == TIDE_OK)
            status = tide__sq_append(store, dead, id, work->packed[i]);
        if (status == TIDE_OK)
            tide__sq_touch_stream(store, dead);
    }
    if (status == TIDE_OK)
        status = tide__sq_pending_drop(store, group->id, item->id, &owns);
    return status;
}

/* Only while this consumer owns it. */
static tide_status set_pending(tide__sq_store *store, tide__sq_group *group,
                               tide__sq_member *member, const tide_settlement *item,
                               tide_status *result) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_SET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group->id);
    tide__sq_bind_id(statement, 2, item->id);
    sqlite3_bind_int64(statement, 4, member->id);
    /* Released: idle for a day, so that anyone may claim it at once. */
    int64_t idle_ms = item->kind == TIDE_SETTLE_RELEASE ? 86400000 : 0;
    sqlite3_bind_int64(statement, 5, store->now_ms - idle_ms);
    sqlite3_bind_int64(statement, 6, item->attempt);
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK && sqlite3_changes(store->db) > 0)
        store->wrote = true;
    else
        *result = TIDE_NOTFOUND;
    return status;
}

/* How many items from the `first` on acknowledge ids that follow each other without a gap. */
static size_t ack_run(const tide_op_settle *op, size_t first) {
    tide_id id = op->items[first].id;
    size_t count = 1;
    for (; first + count < op->item_count && id.seq <= INT64_MAX - count; count++) {
        const tide_settlement *next = &op->items[first + count];
        if (next->kind != TIDE_SETTLE_ACK || next->id.ms != id.ms || next->id.seq != id.seq + count)
            break;
    }
    return count;
}

/* A whole run goes by one statement: every id in its range is one of those acknowledged. */
static tide_status drop_acked(tide__sq_store *store, int64_t group, tide_id first, size_t count) {
    if (count == 1) {
        bool dropped;
        return tide__sq_pending_drop(store, group, first, &dropped);
    }
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_DROP_RUN);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group);
    tide__sq_bind_id(statement, 2, first);
    sqlite3_bind_int64(statement, 4, (int64_t)(first.seq + count - 1));
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK && sqlite3_changes(store->db) > 0)
        store->wrote = true;
    return status;
}

tide_status tide__sq_do_settle(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_settle *op = &work->op.as.settle;
    tide__sq_stream *stream;
    tide__sq_group *group;
    tide__sq_member *member = NULL;
    tide_status status = find_group(store, op->stream, op->group, &stream, &group);
    if (status == TIDE_OK && group != NULL)
        status = tide__sq_member_get(store, group, op->consumer, false, &member, NULL);
    tide_status *results = work->out.settle, failed = TIDE_OK;
    for (size_t i = 0; i < op->item_count && status == TIDE_OK; i++) {
        const tide_settlement *item = &op->items[i];
        results[i] = TIDE_OK;
        if (group == NULL) /* acknowledged is what it is, then */
            results[i] = item->kind == TIDE_SETTLE_ACK ? TIDE_OK : TIDE_NOGROUP;
        else if (item->kind == TIDE_SETTLE_ACK) {
            size_t count = ack_run(op, i);
            status = drop_acked(store, group->id, item->id, count);
            for (; count > 1; count--)
                results[++i] = TIDE_OK;
        } else if (member == NULL) /* nobody of that name: it owns nothing */
            results[i] = TIDE_NOTFOUND;
        else if (item->kind == TIDE_SETTLE_DEAD || item->kind == TIDE_SETTLE_DELAY)
            status = move_away(store, work, stream, group, member, i, &results[i]);
        else
            status = set_pending(store, group, member, item, &results[i]);
        if (results[i] != TIDE_OK && results[i] != TIDE_NOTFOUND)
            failed = results[i];
    }
    if (status == TIDE_OK && failed == TIDE_NOGROUP)
        return refuse_no_group(store, work, op->stream, op->group);
    if (status == TIDE_OK && failed != TIDE_OK)
        return tide__sq_refuse(store, work, failed, NULL, "%.*s can't take dead letters",
                               (int)op->dead_letters.len, op->dead_letters.data);
    return status;
}

/* ---- leases ---- */

tide_status tide__sq_do_extend(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_extend *op = &work->op.as.extend;
    tide__sq_stream *stream;
    tide__sq_group *group;
    tide__sq_member *member;
    tide_status status = find_member(store, work, (place){op->stream, op->group, op->consumer},
                                     &stream, &group, &member);
    if (status != TIDE_OK)
        return status;
    work->out.extend.lost_count = 0;
    member->seen_ms = store->now_ms;
    member->dirty = true;
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_RENEW);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group->id);
    sqlite3_bind_int64(statement, 4, member->id);
    sqlite3_bind_int64(statement, 5, store->now_ms);
    for (size_t i = 0; i < op->id_count && status == TIDE_OK; i++) {
        tide__sq_bind_id(statement, 2, op->ids[i]);
        status = tide__sq_run(store, statement);
        if (status == TIDE_OK && sqlite3_changes(store->db) > 0)
            store->wrote = true;
        else
            work->out.extend.lost[work->out.extend.lost_count++] = op->ids[i];
    }
    return status;
}

/* ---- claiming ---- */

tide_status tide__sq_autoclaim(tide__sq_store *store, tide__sq_stream *stream,
                               tide__sq_group *group, tide__sq_member *member, int64_t min_idle_ms,
                               tide_id cursor, uint64_t count, bool just_id, tide__sq_rows *rows,
                               tide_id **deleted, size_t *deleted_count, tide_id *next) {
    enum { SCAN_FACTOR = 10 }; /* as Redis: a call looks at this many times what it may claim */
    pending_list list = {NULL, 0, 0};
    uint64_t scan = count > UINT64_MAX / SCAN_FACTOR - 1 ? UINT64_MAX : count * SCAN_FACTOR;
    *deleted_count = 0;
    *deleted = NULL;
    *next = (tide_id){0, 0};
    member->seen_ms = store->now_ms;
    member->dirty = true;
    tide_status status =
        list_pending(store, TIDE__SQ_PENDING_FROM, group->id, cursor, 0, scan + 1, &list);
    size_t i = 0, done = 0;
    for (; i < list.count && i < scan && done < count && status == TIDE_OK; i++) {
        const pending_row *row = &list.rows[i];
        if (rows->count > 0 && rows->used > TIDE__SQ_BATCH_BYTES_MAX)
            break;
        bool idle = store->now_ms - row->delivered_ms >= min_idle_ms, found = false;
        int64_t attempts = just_id ? row->attempts : row->attempts + 1;
        size_t before = rows->count, used = rows->used, fields = rows->field_count;
        status = tide__sq_add_entry(store, stream, row->id, attempt_of(attempts), rows, &found);
        if (status != TIDE_OK)
            break;
        if (!found) {
            bool dropped;
            if (*deleted == NULL)
                *deleted = tide__sq_take(store, (list.count - i) * sizeof **deleted);
            if (*deleted == NULL)
                return TIDE_ENOMEM;
            (*deleted)[(*deleted_count)++] = row->id;
            status = tide__sq_pending_drop(store, group->id, row->id, &dropped);
            done++;
        } else if (!idle) { /* looked at only to see whether it is there */
            rows->count = before;
            rows->used = used;
            rows->field_count = fields;
        } else {
            status = tide__sq_pending_put(store, group->id, row->id, member->id, store->now_ms,
                                          attempts);
            member->active_ms = store->now_ms;
            done++;
        }
    }
    if (status == TIDE_OK && i < list.count)
        *next = list.rows[i].id;
    return status;
}

tide_status tide__sq_do_recover(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_recover *op = &work->op.as.recover;
    tide__sq_stream *stream;
    tide__sq_group *group;
    tide__sq_member *member;
    tide_status status = find_member(store, work, (place){op->stream, op->group, op->consumer},
                                     &stream, &group, &member);
    if (status != TIDE_OK)
        return status;
    tide__sq_rows rows;
    tide__sq_rows_init(&rows, store);
    tide_id *deleted;
    size_t deleted_count;
    status =
        tide__sq_autoclaim(store, stream, group, member, op->min_idle_ms, op->cursor, op->count_max,
                           false, &rows, &deleted, &deleted_count, &work->out.read.cursor);
    if (status == TIDE_OK)
        status = tide__sq_rows_batch(&rows, &work->out.read.batch);
    work->out.read.deleted = (uint32_t)deleted_count;
    tide__sq_rows_deinit(&rows);
    return status;
}
