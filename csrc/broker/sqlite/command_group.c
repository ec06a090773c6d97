/* SPDX-License-Identifier: MIT */
/*
 * What it is: the commands of consumer groups: XGROUP, XREADGROUP, XACK, XPENDING, XCLAIM, XAUTOCLAIM.
 * What it is not: their descriptions (command_info.c), nor the port's operations (group.c, whose reading these share).
 * Invariants: order of checks and texts of errors are those of Redis 7.0's t_stream.c.
 */
#include "broker/sqlite/command_stream.h"

static tide_status no_group(tide__sq_call *call, tide_str key, tide_str group, const char *where) {
    return tide__sq_error(call, "NOGROUP No such key '%.*s' or consumer group '%.*s'%s",
                          (int)key.len, key.data, (int)group.len, group.data, where);
}

/* The group of args[1], args[2]; NOGROUP when stream or group is missing. */
static tide_status need_group(tide__sq_call *call, tide__sq_stream **stream,
                              tide__sq_group **group) {
    tide_status status = tide__sq_arg_stream(call, 1, stream);
    if (status == TIDE_OK)
        status = tide__sq_group_get(call->store, *stream, call->args[2], group);
    if (status == TIDE_OK && *group == NULL)
        status = no_group(call, call->args[1], call->args[2], "");
    return status;
}

/* ---- XGROUP ---- */

static tide_status xgroup_syntax(tide__sq_call *call) {
    char name[64];
    tide_text_escape(name, sizeof name, call->args[1]);
    return tide__sq_error(
        call, "ERR unknown subcommand or wrong number of arguments for '%s'. Try XGROUP HELP.",
        name);
}

static tide_status parse_group_options(tide__sq_call *call, bool create, bool *make_stream,
                                       int64_t *entries_read) {
    *make_stream = false;
    *entries_read = -1;
    for (size_t i = 5; i < call->count; i++) {
        if (create && tide__sq_is(call->args[i], "MKSTREAM")) {
            *make_stream = true;
        } else if (tide__sq_is(call->args[i], "ENTRIESREAD") && i + 1 < call->count) {
            tide_status status = tide__sq_arg_integer(call, ++i, entries_read);
            if (status != TIDE_OK)
                return status;
            if (*entries_read < -1)
                return tide__sq_error(call, "ERR value for ENTRIESREAD must be positive or -1");
        } else {
            return xgroup_syntax(call);
        }
    }
    return TIDE_OK;
}

static tide_status need_key(tide__sq_call *call, const tide__sq_stream *stream) {
    if (!stream->alive)
        return tide__sq_error(
            call, "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you "
                  "may want to use the MKSTREAM option to create an empty stream automatically.");
    return TIDE_OK;
}

static tide_status group_missing(tide__sq_call *call) {
    return tide__sq_error(call, "NOGROUP No such consumer group '%.*s' for key name '%.*s'",
                          (int)call->args[3].len, call->args[3].data, (int)call->args[2].len,
                          call->args[2].data);
}

/* `any`: - and + are ids too, as Redis has it for SETID alone. */
static tide_status group_id(tide__sq_call *call, const tide__sq_stream *stream, bool any,
                            tide_id *id) {
    tide_str arg = call->args[4];
    if (arg.len == 1 && arg.data[0] == '$') {
        *id = stream->alive ? stream->last : (tide_id){0, 0};
        return TIDE_OK;
    }
    return tide__sq_arg_id(call, 4, 0, any, id);
}

static tide_status xgroup_create(tide__sq_call *call, tide__sq_stream *stream,
                                 tide__sq_group *group) {
    bool make_stream;
    int64_t entries_read;
    tide_id id;
    tide_status status = parse_group_options(call, true, &make_stream, &entries_read);
    if (status == TIDE_OK && !make_stream)
        status = need_key(call, stream);
    if (status == TIDE_OK)
        status = group_id(call, stream, false, &id);
    if (status != TIDE_OK)
        return status;
    if (group != NULL)
        return tide__sq_error(call, "BUSYGROUP Consumer Group name already exists");
    status = tide__sq_stream_create(call->store, stream);
    if (status == TIDE_OK)
        status =
            tide__sq_group_create(call->store, stream, call->args[3], id, entries_read, &group);
    if (status == TIDE_OK)
        tide__sq_reply_status(call->reply, "OK");
    return status;
}

static tide_status xgroup_setid(tide__sq_call *call, tide__sq_stream *stream,
                                tide__sq_group *group) {
    bool make_stream;
    int64_t entries_read;
    tide_id id;
    tide_status status = parse_group_options(call, false, &make_stream, &entries_read);
    if (status == TIDE_OK)
        status = need_key(call, stream);
    if (status == TIDE_OK && group == NULL)
        return group_missing(call);
    if (status == TIDE_OK)
        status = group_id(call, stream, true, &id);
    if (status != TIDE_OK)
        return status;
    group->last = id;
    group->entries_read = entries_read;
    group->dirty = true;
    call->store->wrote = true;
    tide__sq_reply_status(call->reply, "OK");
    return TIDE_OK;
}

static tide_status xgroup_destroy(tide__sq_call *call, tide__sq_stream *stream,
                                  tide__sq_group *group) {
    tide_status status = need_key(call, stream);
    if (status != TIDE_OK)
        return status;
    tide__sq_reply_integer(call->reply, group != NULL);
    if (group == NULL)
        return TIDE_OK;
    tide__sq_touch_stream(call->store, stream); /* those that wait on it hear of it */
    return tide__sq_group_delete(call->store, stream, group);
}

static tide_status xgroup_create_consumer(tide__sq_call *call, tide__sq_stream *stream,
                                          tide__sq_group *group) {
    tide__sq_member *member;
    bool created = false;
    tide_status status = need_key(call, stream);
    if (status != TIDE_OK)
        return status;
    if (group == NULL)
        return group_missing(call);
    status = tide__sq_member_get(call->store, group, call->args[4], true, &member, &created);
    tide__sq_reply_integer(call->reply, created);
    return status;
}

static tide_status xgroup_delete_consumer(tide__sq_call *call, tide__sq_stream *stream,
                                          tide__sq_group *group) {
    tide__sq_member *member;
    int64_t pending = 0;
    tide_status status = need_key(call, stream);
    if (status != TIDE_OK)
        return status;
    if (group == NULL)
        return group_missing(call);
    status = tide__sq_member_get(call->store, group, call->args[4], false, &member, NULL);
    if (status == TIDE_OK && member != NULL)
        status = tide__sq_member_delete(call->store, group, member, &pending);
    tide__sq_reply_integer(call->reply, pending);
    return status;
}

static tide_status run_xgroup(tide__sq_call *call) {
    static const struct {
        const char *name, *lower;
        size_t min, max;
        tide_status (*run)(tide__sq_call *call, tide__sq_stream *stream, tide__sq_group *group);
    } subcommands[] = {
        {"CREATE", "create", 5, 8, xgroup_create},
        {"SETID", "setid", 5, 7, xgroup_setid},
        {"DESTROY", "destroy", 4, 4, xgroup_destroy},
        {"CREATECONSUMER", "createconsumer", 5, 5, xgroup_create_consumer},
        {"DELCONSUMER", "delconsumer", 5, 5, xgroup_delete_consumer},
    };
    for (size_t i = 0; i < sizeof subcommands / sizeof subcommands[0]; i++) {
        if (!tide__sq_is(call->args[1], subcommands[i].name))
            continue;
        if (call->count < subcommands[i].min || call->count > subcommands[i].max)
            return tide__sq_error_arity(call, subcommands[i].lower);
        tide__sq_stream *stream;
        tide__sq_group *group;
        tide_status status = tide__sq_arg_stream(call, 2, &stream);
        if (status == TIDE_OK)
            status = tide__sq_group_get(call->store, stream, call->args[3], &group);
        return status == TIDE_OK ? subcommands[i].run(call, stream, group) : status;
    }
    char name[64];
    tide_text_escape(name, sizeof name, call->args[1]);
    return tide__sq_error(call, "ERR unknown subcommand '%s'. Try XGROUP HELP.", name);
}

/* ---- XREADGROUP ---- */

/* One stream's part of the reply; nothing for new entries when there are none. */
static tide_status read_group(tide__sq_call *call, const tide__sq_read_args *args, size_t i,
                              size_t *capacity) {
    tide__sq_store *store = call->store;
    tide__sq_stream *stream;
    tide__sq_group *group;
    tide__sq_member *member;
    tide__sq_rows rows;
    tide_str key = call->args[args->stream_index + i];
    size_t index = args->stream_index + args->stream_count + i;
    bool fresh = call->args[index].len == 1 && call->args[index].data[0] == '>';
    tide_id after = {0, 0};
    if (!fresh) {
        tide_id_parse(call->args[index], 0, &after);
        /* The highest id is what Redis makes of `>`. */
        fresh = after.ms == UINT64_MAX && after.seq == UINT64_MAX;
    }
    tide_status status = tide__sq_stream_get(store, key, &stream);
    if (status == TIDE_OK)
        status = tide__sq_group_get(store, stream, call->args[args->group_index], &group);
    if (status == TIDE_OK)
        status = tide__sq_member_get(store, group, call->args[args->group_index + 1], true, &member,
                                     NULL);
    if (status != TIDE_OK)
        return status;
    tide__sq_rows_init(&rows, store);
    uint64_t count = args->count > 0 ? args->count : TIDE_REPLY_ELEMENTS_MAX;
    status = fresh ? tide__sq_read_new(store, stream, group, member, count, args->no_ack, &rows)
                   : tide__sq_read_history(store, stream, group, member, after, count, &rows);
    if (status == TIDE_OK && (!fresh || rows.count > 0)) {
        call->reply->type = TIDE_REPLY_ARRAY;
        tide_reply *item = tide__sq_reply_push(store, call->reply, capacity);
        if (item == NULL || !tide__sq_reply_array(store, item, 2) ||
            !tide__sq_reply_text(store, &item->as.array.items[0], key) ||
            !tide__sq_reply_rows(&rows, &item->as.array.items[1]))
            status = store->failure.status;
    }
    tide__sq_rows_deinit(&rows);
    return status;
}

static tide_status run_xreadgroup(tide__sq_call *call) {
    tide__sq_read_args args;
    tide_status status = tide__sq_read_parse(call, true, &args);
    for (size_t i = 0; status == TIDE_OK && i < args.stream_count; i++) {
        tide__sq_stream *stream;
        tide__sq_group *group = NULL;
        size_t index = args.stream_index + args.stream_count + i;
        tide_str arg = call->args[index];
        tide_id id;
        status = tide__sq_arg_stream(call, args.stream_index + i, &stream);
        if (status == TIDE_OK)
            status = tide__sq_group_get(call->store, stream, call->args[args.group_index], &group);
        if (status != TIDE_OK)
            return status;
        if (group == NULL)
            return no_group(call, call->args[args.stream_index + i], call->args[args.group_index],
                            " in XREADGROUP with GROUP option");
        if (arg.len == 1 && arg.data[0] == '$')
            return tide__sq_error(
                call, "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read "
                      "the history of this consumer by specifying a proper ID, or use the > ID to "
                      "get new messages. The $ ID would just return an empty result set.");
        if (arg.len != 1 || arg.data[0] != '>')
            status = tide__sq_arg_id(call, index, 0, false, &id);
    }
    size_t capacity = 0;
    for (size_t i = 0; status == TIDE_OK && i < args.stream_count; i++)
        status = read_group(call, &args, i, &capacity);
    if (status == TIDE_OK)
        call->work->empty = args.block_ms >= 0 && call->reply->type == TIDE_REPLY_NIL;
    return status;
}

/* ---- XACK ---- */

static tide_status run_xack(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide__sq_group *group = NULL;
    tide_id id;
    int64_t count = 0;
    tide_status status = tide__sq_arg_stream(call, 1, &stream);
    if (status == TIDE_OK)
        status = tide__sq_group_get(call->store, stream, call->args[2], &group);
    for (size_t i = 3; status == TIDE_OK && group != NULL && i < call->count; i++)
        status = tide__sq_arg_id(call, i, 0, false, &id);
    for (size_t i = 3; status == TIDE_OK && group != NULL && i < call->count; i++) {
        bool dropped = false;
        tide_id_parse(call->args[i], 0, &id);
        status = tide__sq_pending_drop(call->store, group->id, id, &dropped);
        count += dropped;
    }
    if (status == TIDE_OK)
        tide__sq_reply_integer(call->reply, count);
    return status;
}

/* ---- XPENDING ---- */

static tide_status pending_end(tide__sq_store *store, tide__sq_statement which, int64_t group,
                               tide_reply *reply) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, which);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group);
    if (which == TIDE__SQ_PENDING_FROM)
        tide__sq_bind_id(statement, 2, (tide_id){0, 0});
    if (tide__sq_step(store, statement) == SQLITE_ROW)
        tide__sq_reply_id(store, reply, tide__sq_column_id(statement, 0));
    sqlite3_reset(statement);
    return store->failure.status;
}

static tide_status pending_summary(tide__sq_call *call, const tide__sq_group *group) {
    tide__sq_store *store = call->store;
    int64_t total = 0;
    tide_status status = tide__sq_count(store, TIDE__SQ_PENDING_SUMMARY, group->id, -1, &total);
    if (status != TIDE_OK || !tide__sq_reply_array(store, call->reply, 4))
        return store->failure.status;
    tide_reply *items = call->reply->as.array.items;
    tide__sq_reply_integer(&items[0], total);
    if (total == 0)
        return TIDE_OK;
    status = pending_end(store, TIDE__SQ_PENDING_FROM, group->id, &items[1]);
    if (status == TIDE_OK)
        status = pending_end(store, TIDE__SQ_PENDING_LAST, group->id, &items[2]);
    sqlite3_stmt *list =
        status == TIDE_OK ? tide__sq_statement_of(store, TIDE__SQ_MEMBER_LIST) : NULL;
    if (list == NULL)
        return store->failure.status;
    size_t capacity = 0;
    items[3] = (tide_reply){.type = TIDE_REPLY_ARRAY};
    sqlite3_bind_int64(list, 1, group->id);
    while (tide__sq_step(store, list) == SQLITE_ROW) {
        int64_t pending = sqlite3_column_int64(list, 4);
        if (pending == 0)
            continue;
        char digits[TIDE_U64_DIGITS_MAX];
        tide_reply *one = tide__sq_reply_push(store, &items[3], &capacity);
        if (one == NULL || !tide__sq_reply_array(store, one, 2) ||
            !tide__sq_reply_text(store, &one->as.array.items[0], tide__sq_column_str(list, 1)) ||
            !tide__sq_reply_text(store, &one->as.array.items[1],
                                 (tide_str){digits, tide_u64_format(digits, (uint64_t)pending)}))
            break;
    }
    sqlite3_reset(list);
    return store->failure.status;
}

static tide_status pending_rows(tide__sq_call *call, const tide__sq_group *group, tide_id from,
                                tide_id to, uint64_t count, int64_t min_idle_ms, int64_t member) {
    tide__sq_store *store = call->store;
    size_t capacity = 0;
    *call->reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_FROM);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group->id);
    tide__sq_bind_id(statement, 2, from);
    while (call->reply->as.array.count < count && tide__sq_step(store, statement) == SQLITE_ROW) {
        tide_id id = tide__sq_column_id(statement, 0);
        int64_t owner = sqlite3_column_int64(statement, 2);
        int64_t idle_ms = store->now_ms - sqlite3_column_int64(statement, 3);
        if (tide_id_compare(id, to) > 0)
            break;
        if (idle_ms < 0)
            idle_ms = 0;
        if ((member != 0 && owner != member) || idle_ms < min_idle_ms)
            continue;
        tide_reply *one = tide__sq_reply_push(store, call->reply, &capacity);
        if (one == NULL || !tide__sq_reply_array(store, one, 4) ||
            !tide__sq_reply_id(store, &one->as.array.items[0], id) ||
            tide__sq_member_name(store, owner, &one->as.array.items[1]) != TIDE_OK)
            break;
        tide__sq_reply_integer(&one->as.array.items[2], idle_ms);
        tide__sq_reply_integer(&one->as.array.items[3], sqlite3_column_int64(statement, 4));
    }
    sqlite3_reset(statement);
    return store->failure.status;
}

static tide_status run_xpending(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide__sq_group *group;
    int64_t min_idle_ms = 0, count = 0;
    tide_id from = {0, 0}, to = {0, 0};
    size_t at = 3;
    tide_status status = TIDE_OK;
    if (call->count != 3 && (call->count < 6 || call->count > 9))
        return tide__sq_error_syntax(call);
    if (call->count > 3) {
        if (tide__sq_is(call->args[3], "IDLE")) {
            status = tide__sq_arg_integer(call, 4, &min_idle_ms);
            if (status == TIDE_OK && call->count < 8)
                status = tide__sq_error_syntax(call);
            at = 5;
        }
        if (status == TIDE_OK)
            status = tide__sq_arg_integer(call, at + 2, &count);
        if (status == TIDE_OK)
            status = tide__sq_arg_bound(call, at, true, &from);
        if (status == TIDE_OK)
            status = tide__sq_arg_bound(call, at + 1, false, &to);
    }
    if (status == TIDE_OK)
        status = need_group(call, &stream, &group);
    if (status != TIDE_OK)
        return status;
    if (call->count == 3)
        return pending_summary(call, group);
    tide__sq_member *member = NULL;
    if (at + 3 < call->count) {
        status = tide__sq_member_get(call->store, group, call->args[at + 3], false, &member, NULL);
        if (status != TIDE_OK || member == NULL)
            return tide__sq_reply_array(call->store, call->reply, 0) ? status : TIDE_ENOMEM;
    }
    return pending_rows(call, group, from, to, count < 0 ? 0 : (uint64_t)count, min_idle_ms,
                        member != NULL ? member->id : 0);
}

/* ---- XCLAIM ---- */

typedef struct claim_args {
    int64_t min_idle_ms;
    int64_t delivered_ms;
    int64_t attempts; /* -1: one more */
    bool force;
    bool just_id;
    tide_id last;
    size_t id_end;
} claim_args;

static tide_status parse_claim(tide__sq_call *call, claim_args *out) {
    tide_id id;
    int64_t now_ms = call->store->now_ms, number;
    *out = (claim_args){.delivered_ms = now_ms, .attempts = -1, .id_end = 5};
    if (!tide_i64_parse(call->args[4], &out->min_idle_ms))
        return tide__sq_error(call, "ERR Invalid min-idle-time argument for XCLAIM");
    while (out->id_end < call->count && tide_id_parse(call->args[out->id_end], 0, &id))
        out->id_end++;
    for (size_t i = out->id_end; i < call->count; i++) {
        tide_str arg = call->args[i];
        bool more = i + 1 < call->count;
        if (tide__sq_is(arg, "FORCE")) {
            out->force = true;
        } else if (tide__sq_is(arg, "JUSTID")) {
            out->just_id = true;
        } else if (more && tide__sq_is(arg, "IDLE")) {
            if (!tide_i64_parse(call->args[++i], &number))
                return tide__sq_error(call, "ERR Invalid IDLE option argument for XCLAIM");
            out->delivered_ms = number < 0 ? now_ms : now_ms - number;
        } else if (more && tide__sq_is(arg, "TIME")) {
            if (!tide_i64_parse(call->args[++i], &out->delivered_ms))
                return tide__sq_error(call, "ERR Invalid TIME option argument for XCLAIM");
        } else if (more && tide__sq_is(arg, "RETRYCOUNT")) {
            if (!tide_i64_parse(call->args[++i], &out->attempts))
                return tide__sq_error(call, "ERR Invalid RETRYCOUNT option argument for XCLAIM");
            if (out->attempts < 0)
                out->attempts = 0;
        } else if (more && tide__sq_is(arg, "LASTID")) {
            tide_status status = tide__sq_arg_id(call, ++i, 0, false, &out->last);
            if (status != TIDE_OK)
                return status;
        } else {
            char name[64];
            tide_text_escape(name, sizeof name, arg);
            return tide__sq_error(call, "ERR Unrecognized XCLAIM option '%s'", name);
        }
    }
    if (out->delivered_ms < 0 || out->delivered_ms > now_ms)
        out->delivered_ms = now_ms;
    return TIDE_OK;
}

static tide_status claim_one(tide__sq_call *call, const claim_args *args, tide__sq_stream *stream,
                             tide__sq_group *group, tide__sq_member *member, tide_id id,
                             size_t *capacity) {
    tide__sq_store *store = call->store;
    bool pending = false, dropped;
    int64_t delivered_ms = 0, attempts = 1; /* a forced one begins with a delivery, as in Redis */
    sqlite3_stmt *get = tide__sq_statement_of(store, TIDE__SQ_PENDING_GET);
    if (get == NULL)
        return store->failure.status;
    sqlite3_bind_int64(get, 1, group->id);
    tide__sq_bind_id(get, 2, id);
    if (tide__sq_step(store, get) == SQLITE_ROW) {
        pending = true;
        delivered_ms = sqlite3_column_int64(get, 1);
        attempts = sqlite3_column_int64(get, 2);
    }
    sqlite3_reset(get);
    if (store->failure.status != TIDE_OK)
        return store->failure.status;
    tide__sq_rows rows;
    tide__sq_rows_init(&rows, store);
    bool found = false;
    tide_status status = tide__sq_add_entry(store, stream, id, 1, &rows, &found);
    if (status == TIDE_OK && !found && pending)
        status = tide__sq_pending_drop(store, group->id, id, &dropped);
    if (status == TIDE_OK && found && (pending || args->force) &&
        (!pending || args->min_idle_ms <= 0 || store->now_ms - delivered_ms >= args->min_idle_ms)) {
        if (args->attempts >= 0)
            attempts = args->attempts;
        else if (!args->just_id)
            attempts++;
        status =
            tide__sq_pending_put(store, group->id, id, member->id, args->delivered_ms, attempts);
        member->active_ms = store->now_ms;
        tide_reply *item = tide__sq_reply_push(store, call->reply, capacity);
        if (item == NULL ||
            !(args->just_id ? tide__sq_reply_id(store, item, id)
                            : tide__sq_reply_entry(store, item, id, tide__sq_row_blob(&rows, 0))))
            status = store->failure.status;
    }
    tide__sq_rows_deinit(&rows);
    return status;
}

static tide_status run_xclaim(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide__sq_group *group;
    tide__sq_member *member;
    claim_args args;
    size_t capacity = 0;
    tide_status status = need_group(call, &stream, &group);
    if (status == TIDE_OK)
        status = parse_claim(call, &args);
    if (status != TIDE_OK)
        return status;
    if (tide_id_compare(args.last, group->last) > 0) {
        group->last = args.last;
        group->dirty = true;
        call->store->wrote = true;
    }
    *call->reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    status = tide__sq_member_get(call->store, group, call->args[3], true, &member, NULL);
    for (size_t i = 5; i < args.id_end && status == TIDE_OK; i++) {
        tide_id id;
        tide_id_parse(call->args[i], 0, &id);
        member->seen_ms = call->store->now_ms;
        member->dirty = true;
        status = claim_one(call, &args, stream, group, member, id, &capacity);
    }
    return status;
}

/* ---- XAUTOCLAIM ---- */

static tide_status claim_idle(tide__sq_call *call, tide__sq_stream *stream, tide__sq_group *group,
                              int64_t min_idle_ms, tide_id start, uint64_t count, bool just_id) {
    tide__sq_store *store = call->store;
    tide__sq_member *member;
    tide_status status = tide__sq_member_get(store, group, call->args[3], true, &member, NULL);
    if (status != TIDE_OK)
        return status;
    tide__sq_rows rows;
    tide__sq_rows_init(&rows, store);
    tide_id *deleted, next;
    size_t deleted_count;
    status = tide__sq_autoclaim(store, stream, group, member, min_idle_ms, start, count, just_id,
                                &rows, &deleted, &deleted_count, &next);
    tide_reply *reply = call->reply;
    if (status == TIDE_OK && tide__sq_reply_array(store, reply, 3) &&
        tide__sq_reply_id(store, &reply->as.array.items[0], next) &&
        tide__sq_reply_array(store, &reply->as.array.items[2], deleted_count)) {
        for (size_t i = 0; i < deleted_count; i++)
            tide__sq_reply_id(store, &reply->as.array.items[2].as.array.items[i], deleted[i]);
        tide_reply *entries = &reply->as.array.items[1];
        if (!just_id)
            tide__sq_reply_rows(&rows, entries);
        else if (tide__sq_reply_array(store, entries, rows.count)) {
            for (size_t i = 0; i < rows.count; i++)
                tide__sq_reply_id(store, &entries->as.array.items[i], rows.rows[i].id);
        }
    }
    tide__sq_rows_deinit(&rows);
    return status != TIDE_OK ? status : store->failure.status;
}

static tide_status run_xautoclaim(tide__sq_call *call) {
    tide__sq_stream *stream;
    tide__sq_group *group;
    int64_t min_idle_ms, count = 100;
    tide_id start;
    bool just_id = false;
    tide_status status = TIDE_OK;
    if (!tide_i64_parse(call->args[4], &min_idle_ms))
        return tide__sq_error(call, "ERR Invalid min-idle-time argument for XAUTOCLAIM");
    status = tide__sq_arg_bound(call, 5, true, &start);
    for (size_t i = 6; i < call->count && status == TIDE_OK; i++) {
        if (i + 1 < call->count && tide__sq_is(call->args[i], "COUNT")) {
            if (!tide_i64_parse(call->args[++i], &count) || count < 1 ||
                count > TIDE_REPLY_ELEMENTS_MAX)
                status = tide__sq_error(call, "ERR COUNT must be > 0");
        } else if (tide__sq_is(call->args[i], "JUSTID")) {
            just_id = true;
        } else {
            status = tide__sq_error_syntax(call);
        }
    }
    if (status == TIDE_OK)
        status = need_group(call, &stream, &group);
    if (status != TIDE_OK)
        return status;
    return claim_idle(call, stream, group, min_idle_ms, start, (uint64_t)count, just_id);
}

const tide__sq_command tide__sq_group_commands[] = {
    {"XGROUP", 2, 0, true, run_xgroup}, {"XREADGROUP", 7, 0, true, run_xreadgroup},
    {"XACK", 4, 0, true, run_xack},     {"XPENDING", 3, 0, false, run_xpending},
    {"XCLAIM", 6, 0, true, run_xclaim}, {"XAUTOCLAIM", 6, 0, true, run_xautoclaim},
    {NULL, 0, 0, false, NULL},
};
