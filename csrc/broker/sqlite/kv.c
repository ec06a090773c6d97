/* SPDX-License-Identifier: MIT */
/*
 * What it is: key-values with a time to live, compare-and-set, counters.
 * What it is not: Redis's strings beyond what the port's verbs need.
 * Invariants: an expired value is as if it weren't there; a name is a stream or a key-value, never both.
 */
#include "broker/sqlite/internal.h"

typedef struct kv_row {
    bool found;
    tide_str value;     /* in the arena */
    int64_t expires_ms; /* 0: never */
} kv_row;

/* The row without its value, or a copy of it too. */
static tide_status read_row(tide__sq_store *store, tide_str key, bool copy, kv_row *row) {
    *row = (kv_row){.found = false};
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_KV_GET);
    if (statement == NULL)
        return store->failure.status;
    tide__sq_bind_text(statement, 1, key);
    int code = tide__sq_step(store, statement);
    tide_status status = TIDE_OK;
    if (code == SQLITE_ROW) {
        bool for_ever = sqlite3_column_type(statement, 1) == SQLITE_NULL;
        row->expires_ms = for_ever ? 0 : sqlite3_column_int64(statement, 1);
        row->found = for_ever || row->expires_ms > store->now_ms;
        if (row->found && copy) {
            tide_str value = tide__sq_column_str(statement, 0);
            char *bytes = tide__sq_take(store, value.len + 1);
            if (bytes == NULL) {
                status = TIDE_ENOMEM;
            } else {
                memcpy(bytes, value.data, value.len);
                row->value = (tide_str){bytes, value.len};
            }
        }
    } else if (code != SQLITE_DONE) {
        status = store->failure.status;
    }
    sqlite3_reset(statement);
    return status;
}

tide_status tide__sq_kv_exists(tide__sq_store *store, tide_str key, bool *found) {
    kv_row row;
    tide_status status = read_row(store, key, false, &row);
    *found = row.found;
    return status;
}

static int64_t until(const tide__sq_store *store, int64_t ttl_ms) {
    if (ttl_ms <= 0)
        return 0;
    return ttl_ms > INT64_MAX - store->now_ms ? INT64_MAX : store->now_ms + ttl_ms;
}

static tide_status put(tide__sq_store *store, tide_str key, tide_str value, int64_t expires_ms) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_KV_PURGE);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, store->now_ms);
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    statement = status == TIDE_OK ? tide__sq_statement_of(store, TIDE__SQ_KV_PUT) : NULL;
    if (statement == NULL)
        return store->failure.status;
    tide__sq_bind_text(statement, 1, key);
    tide__sq_bind_blob(statement, 2, value);
    if (expires_ms == 0)
        sqlite3_bind_null(statement, 3);
    else
        sqlite3_bind_int64(statement, 3, expires_ms);
    return tide__sq_run(store, statement);
}

static tide_status drop(tide__sq_store *store, tide_str key) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_KV_DROP);
    if (statement == NULL)
        return store->failure.status;
    tide__sq_bind_text(statement, 1, key);
    store->wrote = true;
    return tide__sq_run(store, statement);
}

static tide_status increment(tide__sq_store *store, tide__sq_work *work, const kv_row *row) {
    const tide_op_kv *op = &work->op.as.kv;
    int64_t number = 0;
    if (row->found && !tide_i64_parse(row->value, &number))
        return tide__sq_refuse(store, work, TIDE_REPLY, "ERR",
                               "ERR value is not an integer or out of range");
    if ((op->amount > 0 && number > INT64_MAX - op->amount) ||
        (op->amount < 0 && number < INT64_MIN - op->amount))
        return tide__sq_refuse(store, work, TIDE_REPLY, "ERR",
                               "ERR increment or decrement would overflow");
    number += op->amount;
    char text[TIDE_U64_DIGITS_MAX + 2];
    size_t size = 0;
    uint64_t magnitude = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    if (number < 0)
        text[size++] = '-';
    size += tide_u64_format(text + size, magnitude);
    int64_t expires_ms = row->found ? row->expires_ms : 0;
    if (op->ttl_ms > 0)
        expires_ms = until(store, op->ttl_ms);
    work->out.kv.integer = number;
    work->out.kv.found = true;
    return put(store, op->key, (tide_str){text, size}, expires_ms);
}

tide_status tide__sq_do_kv(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_kv *op = &work->op.as.kv;
    tide__sq_stream *stream;
    kv_row row;
    tide_status status = tide__sq_stream_get(store, op->key, &stream);
    if (status != TIDE_OK)
        return status;
    if (stream->alive)
        return tide__sq_refuse(store, work, TIDE_WRONGTYPE, "WRONGTYPE",
                               "%.*s holds a stream, not a key-value", (int)op->key.len,
                               op->key.data);
    status = read_row(store, op->key, true, &row);
    if (status != TIDE_OK)
        return status;
    work->out.kv.found = row.found;
    work->out.kv.value = (tide_str){"", 0};
    work->out.kv.ttl_ms = -1;
    bool same = row.found && tide_str_equal(row.value, op->expected);
    switch (op->verb) {
    case TIDE_KV_GET:
        work->out.kv.value = row.value;
        if (row.found && row.expires_ms != 0)
            work->out.kv.ttl_ms = row.expires_ms - store->now_ms;
        return TIDE_OK;
    case TIDE_KV_ADD:
        work->out.kv.value = row.value;
        if (row.found)
            return tide__sq_refuse(store, work, TIDE_EXISTS, NULL, "%.*s has a value already",
                                   (int)op->key.len, op->key.data);
        return put(store, op->key, op->value, until(store, op->ttl_ms));
    case TIDE_KV_SET: return put(store, op->key, op->value, until(store, op->ttl_ms));
    case TIDE_KV_REPLACE:
    case TIDE_KV_DELETE_IF:
        work->out.kv.value = same ? (tide_str){"", 0} : row.value;
        if (!same)
            return tide__sq_refuse(store, work, TIDE_CONFLICT, NULL, "%.*s has %s value",
                                   (int)op->key.len, op->key.data, row.found ? "another" : "no");
        if (op->verb == TIDE_KV_DELETE_IF)
            return drop(store, op->key);
        return put(store, op->key, op->value, until(store, op->ttl_ms));
    case TIDE_KV_DELETE: return row.found ? drop(store, op->key) : TIDE_OK;
    case TIDE_KV_INCREMENT: return increment(store, work, &row);
    case TIDE_KV_EXPIRE: {
        if (!row.found)
            return TIDE_OK;
        sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_KV_EXPIRE);
        if (statement == NULL)
            return store->failure.status;
        tide__sq_bind_text(statement, 1, op->key);
        if (op->ttl_ms > 0)
            sqlite3_bind_int64(statement, 2, until(store, op->ttl_ms));
        else
            sqlite3_bind_null(statement, 2);
        store->wrote = true;
        return tide__sq_run(store, statement);
    }
    }
    return TIDE_OK;
}
