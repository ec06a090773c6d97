/* SPDX-License-Identifier: MIT */
/*
 * What it is: the commands of one stream: XADD, XLEN, XRANGE, XREVRANGE, XDEL, XTRIM, XSETID, XREAD, XINFO STREAM.
 * What it is not: groups (command_group.c).
 * Invariants: order of checks and texts of errors are those of Redis 7.0's t_stream.c. `~` trims by the hundred: 100, 200, …
 * of the entries too many, never more than was asked for.
 */
#include "broker/sqlite/command_stream.h"

#include <stdio.h>

/* ---- XADD, XTRIM ---- */

typedef struct trim {
    bool by_length, by_id;
    bool approximate;
    uint64_t max_len;
    tide_id min_id;
    uint64_t limit; /* 0: none */
} trim;

typedef struct add_args {
    trim trim;
    bool no_stream;
    bool id_given;
    bool seq_given;
    tide_id id;
    size_t id_index;
} add_args;

static tide_status parse_new_id(tide__sq_call *call, size_t index, add_args *out) {
    tide_str arg = call->args[index];
    if (arg.len > 2 && arg.data[arg.len - 1] == '*' && arg.data[arg.len - 2] == '-') {
        out->id.seq = 0;
        if (!tide_u64_parse((tide_str){arg.data, arg.len - 2}, &out->id.ms))
            return tide__sq_error(call,
                                  "ERR Invalid stream ID specified as stream command argument");
        out->seq_given = false;
        return TIDE_OK;
    }
    out->seq_given = true;
    return tide__sq_arg_id(call, index, 0, false, &out->id);
}

/* MAXLEN or MINID [=|~] threshold. `i` is at the word, and at its last argument after. */
static tide_status parse_strategy(tide__sq_call *call, size_t *i, add_args *out) {
    bool length = tide__sq_is(call->args[*i], "MAXLEN");
    if (out->trim.by_length || out->trim.by_id)
        return tide__sq_error(call, "ERR syntax error, MAXLEN and MINID options at the same time "
                                    "are not compatible");
    out->trim.approximate = false;
    tide_str next = call->args[*i + 1];
    if (*i + 2 < call->count && next.len == 1 && (next.data[0] == '~' || next.data[0] == '=')) {
        out->trim.approximate = next.data[0] == '~';
        (*i)++;
    }
    (*i)++;
    if (!length) {
        out->trim.by_id = true;
        return tide__sq_arg_id(call, *i, 0, false, &out->trim.min_id);
    }
    int64_t max_len;
    tide_status status = tide__sq_arg_integer(call, *i, &max_len);
    if (status != TIDE_OK)
        return status;
    if (max_len < 0)
        return tide__sq_error(call, "ERR The MAXLEN argument must be >= 0.");
    out->trim.by_length = true;
    out->trim.max_len = (uint64_t)max_len;
    return TIDE_OK;
}

static tide_status parse_add(tide__sq_call *call, bool adding, add_args *out) {
    bool limit_given = false;
    int64_t limit = 0;
    tide_status status = TIDE_OK;
    size_t i = 2;
    *out = (add_args){.seq_given = true};
    for (; i < call->count && status == TIDE_OK; i++) {
        tide_str arg = call->args[i];
        bool more = i + 1 < call->count;
        if (adding && arg.len == 1 && arg.data[0] == '*') {
            break;
        } else if (more && (tide__sq_is(arg, "MAXLEN") || tide__sq_is(arg, "MINID"))) {
            status = parse_strategy(call, &i, out);
        } else if (more && tide__sq_is(arg, "LIMIT")) {
            status = tide__sq_arg_integer(call, ++i, &limit);
            if (status == TIDE_OK && limit < 0)
                status = tide__sq_error(call, "ERR The LIMIT argument must be >= 0.");
            limit_given = true;
        } else if (adding && tide__sq_is(arg, "NOMKSTREAM")) {
            out->no_stream = true;
        } else if (adding) {
            out->id_given = true;
            status = parse_new_id(call, i, out);
            break;
        } else {
            status = tide__sq_error_syntax(call);
        }
    }
    bool trims = out->trim.by_length || out->trim.by_id;
    out->id_index = i;
    if (status != TIDE_OK)
        return status;
    if (limit != 0 && !trims)
        return tide__sq_error(call, "ERR syntax error, LIMIT cannot be used without specifying a "
                                    "trimming strategy");
    if (!adding && !trims)
        return tide__sq_error(call,
                              "ERR syntax error, XTRIM must be called with a trimming strategy");
    if (limit_given && !out->trim.approximate)
        return tide__sq_error(
            call, "ERR syntax error, LIMIT cannot be used without the special ~ option");
    enum { LIMIT_DEFAULT = 10000 }; /* 100 of Redis's nodes of 100 entries */
    if (out->trim.approximate)
        out->trim.limit = limit_given ? (uint64_t)limit : LIMIT_DEFAULT;
    return TIDE_OK;
}

static tide_status trim_stream(tide__sq_call *call, tide__sq_stream *stream, const trim *args,
                               uint64_t *deleted) {
    enum { STEP = 100 };
    *deleted = 0;
    if (args->by_length && !args->approximate)
        return tide__sq_trim_length(call->store, stream, args->max_len, 0, deleted);
    if (args->by_id && !args->approximate)
        return tide__sq_trim_below(call->store, stream, args->min_id, 0, deleted);
    uint64_t excess = 0;
    if (args->by_length) {
        excess = stream->length > args->max_len ? stream->length - args->max_len : 0;
    } else if (args->by_id) {
        sqlite3_stmt *count = tide__sq_statement_of(call->store, TIDE__SQ_ENTRIES_COUNT_BELOW);
        if (count == NULL)
            return call->store->failure.status;
        sqlite3_bind_int64(count, 1, stream->id);
        tide__sq_bind_id(count, 2, args->min_id);
        sqlite3_bind_int64(count, 4, args->limit > 0 ? (int64_t)args->limit : INT64_MAX);
        if (tide__sq_step(call->store, count) == SQLITE_ROW)
            excess = (uint64_t)sqlite3_column_int64(count, 0);
        sqlite3_reset(count);
        if (call->store->failure.status != TIDE_OK)
            return call->store->failure.status;
    }
    if (args->limit > 0 && excess > args->limit)
        excess = args->limit;
    excess -= excess % STEP;
    if (excess == 0)
        return TIDE_OK;
    return tide__sq_trim_length(call->store, stream, stream->length - excess, 0, deleted);
}

static bool choose_id(const tide__sq_call *call, const tide__sq_stream *stream,
                      const add_args *args, tide_id *id) {
    if (!args->id_given)
        return tide__sq_next_id(call->store, stream, id);
    *id = args->id;
    if (!args->seq_given && stream->last.ms == id->ms) {
        if (stream->last.seq == UINT64_MAX)
            return false;
        id->seq = stream->last.seq + 1;
    }
    return tide_id_compare(*id, stream->last) > 0;
}

static tide_status run_xadd(tide__sq_call *call) {
    tide__sq_store *store = call->store;
    add_args args;
    tide__sq_stream *stream;
    tide_status status = parse_add(call, true, &args);
    if (status != TIDE_OK)
        return status;
    size_t first = args.id_index + 1;
    if (first > call->count || call->count - first < 2 || (call->count - first) % 2 == 1)
        return tide__sq_error_arity(call, NULL);
    if (args.id_given && args.seq_given && args.id.ms == 0 && args.id.seq == 0)
        return tide__sq_error(call, "ERR The ID specified in XADD must be greater than 0-0");
    status = tide__sq_arg_stream(call, 1, &stream);
    if (status != TIDE_OK || (!stream->alive && args.no_stream))
        return status;
    tide_id none = {0, 0}, id;
    tide_id last = stream->alive ? stream->last : none;
    if (last.ms == UINT64_MAX && last.seq == UINT64_MAX)
        return tide__sq_error(call, "ERR The stream has exhausted the last possible ID, unable to "
                                    "add more items");
    if (!choose_id(call, stream, &args, &id))
        return tide__sq_error(call, "ERR The ID specified in XADD is equal or smaller than the "
                                    "target stream top item");
    size_t field_count = (call->count - first) / 2;
    tide_field *fields = tide__sq_take(store, field_count * sizeof *fields);
    if (fields == NULL)
        return TIDE_ENOMEM;
    for (size_t i = 0; i < field_count; i++)
        fields[i] = (tide_field){call->args[first + 2 * i], call->args[first + 2 * i + 1]};
    char *bytes = tide__sq_take(store, tide__sq_packed_size(fields, field_count));
    if (bytes == NULL || !tide__sq_reply_id(store, call->reply, id))
        return TIDE_ENOMEM;
    tide_str packed = {bytes, tide__sq_pack(bytes, fields, field_count)};
    uint64_t deleted;
    status = tide__sq_stream_create(store, stream);
    if (status == TIDE_OK)
        status = tide__sq_append(store, stream, id, packed);
    if (status == TIDE_OK)
        status = trim_stream(call, stream, &args.trim, &deleted);
    if (status == TIDE_OK)
        tide__sq_touch_stream(store, stream);
    return status;
}

static tide_status run_xtrim(tide__sq_call *call) {
    add_args args;
    tide__sq_stream *stream;
    uint64_t deleted = 0;
    tide_status status = parse_add(call, false, &args);
    if (status == TIDE_OK)
        status = tide__sq_arg_stream(call, 1, &stream);
    if (status == TIDE_OK && stream->alive)
        status = trim_stream(call, stream, &args.trim, &deleted);
    if (status == TIDE_OK)
        tide__sq_reply_count(call->reply, deleted);
    return status;
}

/* ---- XLEN, XDEL, XSETID ---- */

static tide_status run_xlen(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide_status status = tide__sq_arg_stream(call, 1, &stream);
    if (status == TIDE_OK)
        tide__sq_reply_count(call->reply, stream->alive ? stream->length : 0);
    return status;
}

static tide_status delete_entry(tide__sq_store *store, tide__sq_stream *stream, tide_id id,
                                bool *deleted) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_ENTRY_DROP);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_id(statement, 2, id);
    tide_status status = tide__sq_run(store, statement);
    *deleted = status == TIDE_OK && sqlite3_changes(store->db) > 0;
    if (!*deleted)
        return status;
    store->wrote = true;
    if (stream->length > 0)
        stream->length--;
    if (tide_id_compare(id, stream->deleted) > 0)
        stream->deleted = id;
    stream->first_known = false;
    stream->dirty = true;
    return status;
}

static tide_status run_xdel(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide_id id;
    int64_t count = 0;
    tide_status status = tide__sq_arg_stream(call, 1, &stream);
    for (size_t i = 2; i < call->count && status == TIDE_OK && stream->alive; i++)
        status = tide__sq_arg_id(call, i, 0, false, &id);
    for (size_t i = 2; i < call->count && status == TIDE_OK && stream->alive; i++) {
        bool deleted = false;
        tide_id_parse(call->args[i], 0, &id);
        status = delete_entry(call->store, stream, id, &deleted);
        count += deleted;
    }
    if (status == TIDE_OK)
        tide__sq_reply_integer(call->reply, count);
    return status;
}

static tide_status last_entry(tide__sq_store *store, const tide__sq_stream *stream, tide_id *id) {
    *id = (tide_id){0, 0};
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_ENTRIES_REVERSE);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_id(statement, 2, (tide_id){0, 0});
    tide__sq_bind_id(statement, 4, (tide_id){UINT64_MAX, UINT64_MAX});
    sqlite3_bind_int64(statement, 6, 1);
    int code = tide__sq_step(store, statement);
    if (code == SQLITE_ROW)
        *id = tide__sq_column_id(statement, 0);
    return tide__sq_end(store, statement, code);
}

static tide_status run_xsetid(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide_id id, deleted = {0, 0}, last;
    int64_t added = -1;
    tide_status status = tide__sq_arg_id(call, 2, 0, false, &id);
    for (size_t i = 3; i < call->count && status == TIDE_OK; i++) {
        bool more = i + 1 < call->count;
        if (more && tide__sq_is(call->args[i], "ENTRIESADDED")) {
            status = tide__sq_arg_integer(call, ++i, &added);
            if (status == TIDE_OK && added < 0)
                status = tide__sq_error(call, "ERR entries_added must be positive");
        } else if (more && tide__sq_is(call->args[i], "MAXDELETEDID")) {
            status = tide__sq_arg_id(call, ++i, 0, false, &deleted);
            if (status == TIDE_OK && tide_id_compare(id, deleted) < 0)
                status = tide__sq_error(call, "ERR The ID specified in XSETID is smaller than the "
                                              "provided max_deleted_entry_id");
        } else {
            status = tide__sq_error_syntax(call);
        }
    }
    if (status == TIDE_OK)
        status = tide__sq_arg_stream(call, 1, &stream);
    if (status != TIDE_OK)
        return status;
    if (!stream->alive)
        return tide__sq_error(call, "ERR no such key");
    if (tide_id_compare(id, stream->deleted) < 0)
        return tide__sq_error(call, "ERR The ID specified in XSETID is smaller than current "
                                    "max_deleted_entry_id");
    if (stream->length > 0) {
        status = last_entry(call->store, stream, &last);
        if (status != TIDE_OK)
            return status;
        if (tide_id_compare(id, last) < 0)
            return tide__sq_error(call, "ERR The ID specified in XSETID is smaller than the target "
                                        "stream top item");
        if (added >= 0 && stream->length > (uint64_t)added)
            return tide__sq_error(call, "ERR The entries_added specified in XSETID is smaller than "
                                        "the target stream length");
    }
    stream->last = id;
    if (added >= 0)
        stream->added = (uint64_t)added;
    if (deleted.ms != 0 || deleted.seq != 0)
        stream->deleted = deleted;
    stream->dirty = true;
    call->store->wrote = true;
    tide__sq_reply_status(call->reply, "OK");
    return TIDE_OK;
}

/* ---- XRANGE, XREVRANGE ---- */

tide_status tide__sq_range(tide__sq_call *call, const tide__sq_stream *stream, tide_id from,
                           tide_id to, uint64_t count, bool reverse, tide_reply *reply) {
    tide__sq_store *store = call->store;
    size_t capacity = 0;
    *reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    sqlite3_stmt *statement =
        tide__sq_statement_of(store, reverse ? TIDE__SQ_ENTRIES_REVERSE : TIDE__SQ_ENTRIES_RANGE);
    if (statement == NULL)
        return store->failure.status;
    if (count == 0 || count > TIDE_REPLY_ELEMENTS_MAX)
        count = TIDE_REPLY_ELEMENTS_MAX;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_id(statement, 2, from);
    tide__sq_bind_id(statement, 4, to);
    sqlite3_bind_int64(statement, 6, (int64_t)count);
    int code;
    while ((code = tide__sq_step(store, statement)) == SQLITE_ROW) {
        tide_reply *item = tide__sq_reply_push(store, reply, &capacity);
        if (item == NULL || !tide__sq_reply_entry(store, item, tide__sq_column_id(statement, 0),
                                                  tide__sq_column_str(statement, 2)))
            break;
    }
    sqlite3_reset(statement);
    return store->failure.status;
}

static tide_status range_command(tide__sq_call *call, bool reverse) {
    tide__sq_stream *stream;
    tide_id from, to;
    int64_t count = -1;
    tide_status status = tide__sq_arg_bound(call, reverse ? 3 : 2, true, &from);
    if (status == TIDE_OK)
        status = tide__sq_arg_bound(call, reverse ? 2 : 3, false, &to);
    for (size_t i = 4; i < call->count && status == TIDE_OK; i++) {
        if (i + 1 < call->count && tide__sq_is(call->args[i], "COUNT"))
            status = tide__sq_arg_integer(call, ++i, &count);
        else
            status = tide__sq_error_syntax(call);
        if (status == TIDE_OK && count < 0)
            count = 0;
    }
    if (status == TIDE_OK)
        status = tide__sq_arg_stream(call, 1, &stream);
    if (status != TIDE_OK)
        return status;
    if (!stream->alive)
        return tide__sq_reply_array(call->store, call->reply, 0) ? TIDE_OK : TIDE_ENOMEM;
    if (count == 0) /* a nil, as Redis */
        return TIDE_OK;
    return tide__sq_range(call, stream, from, to, count < 0 ? 0 : (uint64_t)count, reverse,
                          call->reply);
}

static tide_status run_xrange(tide__sq_call *call) {
    return range_command(call, false);
}

static tide_status run_xrevrange(tide__sq_call *call) {
    return range_command(call, true);
}

/* ---- XREAD; XREADGROUP shares the arguments ---- */

tide_status tide__sq_read_parse(tide__sq_call *call, bool group, tide__sq_read_args *out) {
    tide_status status = TIDE_OK;
    *out = (tide__sq_read_args){.block_ms = -1};
    for (size_t i = 1; i < call->count && status == TIDE_OK; i++) {
        tide_str arg = call->args[i];
        size_t more = call->count - 1 - i;
        int64_t number;
        if (more >= 1 && tide__sq_is(arg, "BLOCK")) {
            if (!tide_i64_parse(call->args[++i], &out->block_ms))
                status = tide__sq_error(call, "ERR timeout is not an integer or out of range");
            else if (out->block_ms < 0)
                status = tide__sq_error(call, "ERR timeout is negative");
        } else if (more >= 1 && tide__sq_is(arg, "COUNT")) {
            status = tide__sq_arg_integer(call, ++i, &number);
            if (status == TIDE_OK)
                out->count = number < 0 ? 0 : (uint64_t)number;
        } else if (more >= 1 && tide__sq_is(arg, "STREAMS")) {
            out->stream_index = i + 1;
            size_t left = call->count - out->stream_index;
            if (left % 2 != 0)
                return tide__sq_error(call,
                                      "ERR Unbalanced '%s' list of streams: for each stream key "
                                      "an ID or '%c' must be specified.",
                                      group ? "xreadgroup" : "xread", group ? '>' : '$');
            out->stream_count = left / 2;
            break;
        } else if (more >= 2 && tide__sq_is(arg, "GROUP")) {
            if (!group)
                return tide__sq_error(call, "ERR The GROUP option is only supported by XREADGROUP. "
                                            "You called XREAD instead.");
            out->group_index = i + 1;
            i += 2;
        } else if (tide__sq_is(arg, "NOACK")) {
            if (!group)
                return tide__sq_error(call, "ERR The NOACK option is only supported by XREADGROUP. "
                                            "You called XREAD instead.");
            out->no_ack = true;
        } else {
            status = tide__sq_error_syntax(call);
        }
    }
    if (status == TIDE_OK && out->stream_count == 0)
        status = tide__sq_error_syntax(call);
    if (status == TIDE_OK && group && out->group_index == 0)
        status = tide__sq_error(call, "ERR Missing GROUP option for XREADGROUP");
    return status;
}

/* Reads one stream after an id; nothing is pushed when nothing is there. */
static tide_status read_after(tide__sq_call *call, const tide__sq_read_args *args, size_t i,
                              const tide__sq_stream *stream, tide_id after, size_t *capacity) {
    tide_id from = after, end = {UINT64_MAX, UINT64_MAX};
    if (!stream->alive || stream->length == 0 || tide_id_compare(stream->last, after) <= 0)
        return TIDE_OK;
    if (from.seq == UINT64_MAX)
        from = (tide_id){from.ms + 1, 0};
    else
        from.seq++;
    tide_reply entries;
    tide_status status = tide__sq_range(call, stream, from, end, args->count, false, &entries);
    if (status != TIDE_OK || entries.as.array.count == 0)
        return status;
    call->reply->type = TIDE_REPLY_ARRAY;
    tide_reply *item = tide__sq_reply_push(call->store, call->reply, capacity);
    if (item == NULL || !tide__sq_reply_array(call->store, item, 2) ||
        !tide__sq_reply_text(call->store, &item->as.array.items[0],
                             call->args[args->stream_index + i]))
        return TIDE_ENOMEM;
    item->as.array.items[1] = entries;
    return TIDE_OK;
}

/* `+`: the id before the last one, as Valkey 8 has it: when the last entry was deleted, nothing is after it. */
static tide_status before_last(tide__sq_call *call, const tide__sq_stream *stream, tide_id *id) {
    *id = stream->alive ? stream->last : (tide_id){0, 0};
    if (id->seq > 0)
        id->seq--;
    else if (id->ms > 0)
        *id = (tide_id){id->ms - 1, UINT64_MAX};
    else if (stream->alive)
        return tide__sq_error(call, "ERR the stream last element ID is 0-0");
    return TIDE_OK;
}

static tide_status run_xread(tide__sq_call *call) {
    tide__sq_read_args args;
    tide_status status = tide__sq_read_parse(call, false, &args);
    if (status != TIDE_OK)
        return status;
    tide_id *after = tide__sq_take(call->store, args.stream_count * sizeof *after);
    if (after == NULL)
        return TIDE_ENOMEM;
    tide__sq_wait *wait = call->work->wait;
    for (size_t i = 0; i < args.stream_count; i++) {
        size_t index = args.stream_index + args.stream_count + i;
        tide_str arg = call->args[index];
        tide__sq_stream *stream;
        status = tide__sq_arg_stream(call, args.stream_index + i, &stream);
        if (status != TIDE_OK)
            return status;
        if (arg.len == 1 && arg.data[0] == '$')
            after[i] = stream->alive ? stream->last : (tide_id){0, 0};
        else if (arg.len == 1 && arg.data[0] == '+')
            status = before_last(call, stream, &after[i]);
        else if (arg.len == 1 && arg.data[0] == '>')
            return tide__sq_error(call, "ERR The > ID can be specified only when calling "
                                        "XREADGROUP using the GROUP <group> <consumer> option.");
        else
            status = tide__sq_arg_id(call, index, 0, false, &after[i]);
        if (status != TIDE_OK)
            return status;
    }
    /* What `$` was when the command came stays so while it waits. */
    if (wait != NULL && wait->after_known)
        memcpy(after, wait->after, args.stream_count * sizeof *after);
    else if (wait != NULL)
        memcpy(wait->after, after, args.stream_count * sizeof *after);
    if (wait != NULL)
        wait->after_known = true;
    size_t capacity = 0;
    for (size_t i = 0; i < args.stream_count && status == TIDE_OK; i++) {
        tide__sq_stream *stream;
        status = tide__sq_stream_get(call->store, call->args[args.stream_index + i], &stream);
        if (status == TIDE_OK)
            status = read_after(call, &args, i, stream, after[i], &capacity);
    }
    call->work->empty = args.block_ms >= 0 && call->reply->type == TIDE_REPLY_NIL;
    return status;
}

const tide__sq_command tide__sq_stream_commands[] = {
    {"XADD", 5, 0, true, run_xadd},      {"XLEN", 2, 2, false, run_xlen},
    {"XRANGE", 4, 0, false, run_xrange}, {"XREVRANGE", 4, 0, false, run_xrevrange},
    {"XREAD", 4, 0, false, run_xread},   {"XDEL", 3, 0, true, run_xdel},
    {"XTRIM", 4, 0, true, run_xtrim},    {"XSETID", 3, 7, true, run_xsetid},
    {NULL, 0, 0, false, NULL},
};
