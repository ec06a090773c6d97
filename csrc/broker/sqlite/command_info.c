/* SPDX-License-Identifier: MIT */
/*
 * What it is: XINFO STREAM, GROUPS, CONSUMERS.
 * What it is not: a part of the state: all is read from the tables.
 * Invariants: names and their order are those of Redis 7.2; the sizes of a radix tree, which isn't here, are what Redis would
 * have at a hundred entries a node.
 */
#include "broker/sqlite/command_stream.h"

/* Name and value behind each other. `list` has room. */
typedef struct pairs {
    tide__sq_store *store;
    tide_reply *reply;
    size_t capacity;
} pairs;

static tide_reply *pair(pairs *list, const char *name) {
    static tide_reply nowhere; /* written to, never read: the store has failed */
    tide_reply *key = tide__sq_reply_push(list->store, list->reply, &list->capacity);
    if (key == NULL)
        return &nowhere;
    tide__sq_reply_literal(key, name);
    tide_reply *value = tide__sq_reply_push(list->store, list->reply, &list->capacity);
    return value != NULL ? value : &nowhere;
}

static pairs pairs_in(tide__sq_store *store, tide_reply *reply) {
    *reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    return (pairs){store, reply, 0};
}

static tide_status count_groups(tide__sq_store *store, const tide__sq_stream *stream,
                                int64_t *count) {
    sqlite3_stmt *list = tide__sq_statement_of(store, TIDE__SQ_GROUP_LIST);
    if (list == NULL)
        return store->failure.status;
    sqlite3_bind_int64(list, 1, stream->id);
    *count = 0;
    while (tide__sq_step(store, list) == SQLITE_ROW)
        (*count)++;
    sqlite3_reset(list);
    return store->failure.status;
}

/* ---- groups ---- */

static void put_entries_read(tide_reply *reply, int64_t entries_read) {
    if (entries_read >= 0)
        tide__sq_reply_integer(reply, entries_read);
}

static tide_status put_lag(tide__sq_store *store, tide__sq_stream *stream, tide_id last,
                           int64_t entries_read, tide_reply *reply) {
    if (stream->added == 0) {
        tide__sq_reply_integer(reply, 0);
        return TIDE_OK;
    }
    if (entries_read < 0 || tide__sq_has_tombstones(store, stream, last)) {
        tide_status status = tide__sq_entries_read_at(store, stream, last, &entries_read);
        if (status != TIDE_OK || entries_read < 0)
            return status;
    }
    tide__sq_reply_integer(reply, (int64_t)stream->added - entries_read);
    return TIDE_OK;
}

typedef struct group_row {
    int64_t id;
    tide_reply name;
    tide_id last;
    int64_t entries_read;
} group_row;

/* All groups of the stream, copied: what follows asks more of the tables. */
static tide_status list_groups(tide__sq_store *store, const tide__sq_stream *stream,
                               group_row **rows, size_t *count) {
    int64_t total;
    tide_status status = count_groups(store, stream, &total);
    *count = 0;
    *rows = tide__sq_take(store, ((size_t)total + 1) * sizeof **rows);
    sqlite3_stmt *list = status == TIDE_OK && *rows != NULL
                             ? tide__sq_statement_of(store, TIDE__SQ_GROUP_LIST)
                             : NULL;
    if (list == NULL)
        return store->failure.status;
    sqlite3_bind_int64(list, 1, stream->id);
    while (*count < (size_t)total && tide__sq_step(store, list) == SQLITE_ROW) {
        group_row *row = &(*rows)[(*count)++];
        row->id = sqlite3_column_int64(list, 0);
        row->last = tide__sq_column_id(list, 2);
        row->entries_read =
            sqlite3_column_type(list, 4) == SQLITE_NULL ? -1 : sqlite3_column_int64(list, 4);
        if (!tide__sq_reply_text(store, &row->name, tide__sq_column_str(list, 1)))
            break;
    }
    sqlite3_reset(list);
    return store->failure.status;
}

static tide_status xinfo_groups(tide__sq_call *call, tide__sq_stream *stream) {
    tide__sq_store *store = call->store;
    group_row *rows;
    size_t count;
    tide_status status = list_groups(store, stream, &rows, &count);
    if (status != TIDE_OK || !tide__sq_reply_array(store, call->reply, count))
        return store->failure.status;
    for (size_t i = 0; i < count && status == TIDE_OK; i++) {
        pairs list = pairs_in(store, &call->reply->as.array.items[i]);
        int64_t consumers = 0, pending = 0;
        status = tide__sq_count(store, TIDE__SQ_MEMBER_COUNT, rows[i].id, -1, &consumers);
        if (status == TIDE_OK)
            status = tide__sq_count(store, TIDE__SQ_PENDING_SUMMARY, rows[i].id, -1, &pending);
        if (status != TIDE_OK)
            return status;
        *pair(&list, "name") = rows[i].name;
        tide__sq_reply_integer(pair(&list, "consumers"), consumers);
        tide__sq_reply_integer(pair(&list, "pending"), pending);
        tide__sq_reply_id(store, pair(&list, "last-delivered-id"), rows[i].last);
        put_entries_read(pair(&list, "entries-read"), rows[i].entries_read);
        status = put_lag(store, stream, rows[i].last, rows[i].entries_read, pair(&list, "lag"));
    }
    return status != TIDE_OK ? status : store->failure.status;
}

/* ---- consumers ---- */

static tide_status xinfo_consumers(tide__sq_call *call, tide__sq_stream *stream) {
    tide__sq_store *store = call->store;
    tide__sq_group *group;
    tide_status status = tide__sq_group_get(store, stream, call->args[3], &group);
    if (status != TIDE_OK)
        return status;
    if (group == NULL)
        return tide__sq_error(call, "NOGROUP No such consumer group '%.*s' for key name '%.*s'",
                              (int)call->args[3].len, call->args[3].data, (int)call->args[2].len,
                              call->args[2].data);
    sqlite3_stmt *rows = tide__sq_statement_of(store, TIDE__SQ_MEMBER_LIST);
    if (rows == NULL)
        return store->failure.status;
    size_t capacity = 0;
    *call->reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    sqlite3_bind_int64(rows, 1, group->id);
    while (tide__sq_step(store, rows) == SQLITE_ROW) {
        tide_reply *one = tide__sq_reply_push(store, call->reply, &capacity);
        if (one == NULL)
            break;
        pairs list = pairs_in(store, one);
        int64_t idle_ms = store->now_ms - sqlite3_column_int64(rows, 2);
        int64_t active_ms = sqlite3_column_int64(rows, 3);
        tide__sq_reply_text(store, pair(&list, "name"), tide__sq_column_str(rows, 1));
        tide__sq_reply_integer(pair(&list, "pending"), sqlite3_column_int64(rows, 4));
        tide__sq_reply_integer(pair(&list, "idle"), idle_ms > 0 ? idle_ms : 0);
        tide__sq_reply_integer(pair(&list, "inactive"), active_ms < 0 ? -1
                                                        : active_ms < store->now_ms
                                                            ? store->now_ms - active_ms
                                                            : 0);
    }
    sqlite3_reset(rows);
    return store->failure.status;
}

/* ---- the stream ---- */

/* [[id, consumer, delivered, attempts], …] of a group, or without the consumer of one of its members. */
static tide_status put_pending(tide__sq_store *store, int64_t group, int64_t member, uint64_t count,
                               tide_reply *reply) {
    size_t capacity = 0;
    *reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    sqlite3_stmt *rows = tide__sq_statement_of(store, TIDE__SQ_PENDING_FROM);
    if (rows == NULL)
        return store->failure.status;
    sqlite3_bind_int64(rows, 1, group);
    tide__sq_bind_id(rows, 2, (tide_id){0, 0});
    while (reply->as.array.count < count && tide__sq_step(store, rows) == SQLITE_ROW) {
        int64_t owner = sqlite3_column_int64(rows, 2);
        if (member != 0 && owner != member)
            continue;
        tide_reply *one = tide__sq_reply_push(store, reply, &capacity);
        if (one == NULL || !tide__sq_reply_array(store, one, member != 0 ? 3 : 4))
            break;
        tide_reply *item = one->as.array.items;
        if (!tide__sq_reply_id(store, item++, tide__sq_column_id(rows, 0)) ||
            (member == 0 && tide__sq_member_name(store, owner, item++) != TIDE_OK))
            break;
        tide__sq_reply_integer(item++, sqlite3_column_int64(rows, 3));
        tide__sq_reply_integer(item, sqlite3_column_int64(rows, 4));
    }
    sqlite3_reset(rows);
    return store->failure.status;
}

static tide_status put_members(tide__sq_store *store, int64_t group, uint64_t count,
                               tide_reply *reply) {
    size_t capacity = 0, id_capacity = 0, i = 0;
    tide_reply ids = {.type = TIDE_REPLY_ARRAY}; /* to be asked for when the list is read */
    *reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    sqlite3_stmt *rows = tide__sq_statement_of(store, TIDE__SQ_MEMBER_LIST);
    if (rows == NULL)
        return store->failure.status;
    sqlite3_bind_int64(rows, 1, group);
    while (tide__sq_step(store, rows) == SQLITE_ROW) {
        tide_reply *one = tide__sq_reply_push(store, reply, &capacity);
        tide_reply *id = tide__sq_reply_push(store, &ids, &id_capacity);
        if (one == NULL || id == NULL)
            break;
        tide__sq_reply_integer(id, sqlite3_column_int64(rows, 0));
        pairs list = pairs_in(store, one);
        tide__sq_reply_text(store, pair(&list, "name"), tide__sq_column_str(rows, 1));
        tide__sq_reply_integer(pair(&list, "seen-time"), sqlite3_column_int64(rows, 2));
        tide__sq_reply_integer(pair(&list, "active-time"), sqlite3_column_int64(rows, 3));
        tide__sq_reply_integer(pair(&list, "pel-count"), sqlite3_column_int64(rows, 4));
        pair(&list, "pending");
    }
    sqlite3_reset(rows);
    tide_status status = store->failure.status;
    for (; i < reply->as.array.count && status == TIDE_OK; i++) {
        tide_reply *one = &reply->as.array.items[i];
        status = put_pending(store, group, ids.as.array.items[i].as.integer, count,
                             &one->as.array.items[one->as.array.count - 1]);
    }
    return status;
}

static tide_status put_groups(tide__sq_store *store, tide__sq_stream *stream, uint64_t count,
                              tide_reply *reply) {
    group_row *rows;
    size_t total;
    tide_status status = list_groups(store, stream, &rows, &total);
    if (status != TIDE_OK || !tide__sq_reply_array(store, reply, total))
        return store->failure.status;
    for (size_t i = 0; i < total && status == TIDE_OK; i++) {
        pairs list = pairs_in(store, &reply->as.array.items[i]);
        int64_t pending = 0;
        status = tide__sq_count(store, TIDE__SQ_PENDING_SUMMARY, rows[i].id, -1, &pending);
        if (status != TIDE_OK)
            return status;
        *pair(&list, "name") = rows[i].name;
        tide__sq_reply_id(store, pair(&list, "last-delivered-id"), rows[i].last);
        put_entries_read(pair(&list, "entries-read"), rows[i].entries_read);
        status = put_lag(store, stream, rows[i].last, rows[i].entries_read, pair(&list, "lag"));
        tide__sq_reply_integer(pair(&list, "pel-count"), pending);
        if (status == TIDE_OK)
            status = put_pending(store, rows[i].id, 0, count, pair(&list, "pending"));
        if (status == TIDE_OK)
            status = put_members(store, rows[i].id, count, pair(&list, "consumers"));
    }
    return status != TIDE_OK ? status : store->failure.status;
}

static tide_status put_one_entry(tide__sq_call *call, const tide__sq_stream *stream, bool last,
                                 tide_reply *reply) {
    tide_reply entries;
    tide_id lowest = {0, 0}, highest = {UINT64_MAX, UINT64_MAX};
    tide_status status = tide__sq_range(call, stream, lowest, highest, 1, last, &entries);
    if (status == TIDE_OK && entries.as.array.count > 0)
        *reply = entries.as.array.items[0];
    return status;
}

static tide_status xinfo_stream(tide__sq_call *call, tide__sq_stream *stream) {
    tide__sq_store *store = call->store;
    int64_t count = 10, groups;
    bool full = call->count > 3;
    if (full && !tide__sq_is(call->args[3], "FULL"))
        return tide__sq_error_syntax(call);
    if (call->count == 5 || call->count > 6 ||
        (call->count == 6 && !tide__sq_is(call->args[4], "COUNT")))
        return tide__sq_error_syntax(call);
    tide_status status = TIDE_OK;
    if (call->count == 6)
        status = tide__sq_arg_integer(call, 5, &count);
    if (count < 0)
        count = 10;
    tide_id first;
    if (status == TIDE_OK)
        status = tide__sq_stream_first(store, stream, &first);
    if (status == TIDE_OK)
        status = count_groups(store, stream, &groups);
    if (status != TIDE_OK)
        return status;
    uint64_t nodes = (stream->length + 99) / 100;
    pairs list = pairs_in(store, call->reply);
    tide__sq_reply_count(pair(&list, "length"), stream->length);
    tide__sq_reply_count(pair(&list, "radix-tree-keys"), nodes);
    tide__sq_reply_count(pair(&list, "radix-tree-nodes"), nodes + 1);
    tide__sq_reply_id(store, pair(&list, "last-generated-id"), stream->last);
    tide__sq_reply_id(store, pair(&list, "max-deleted-entry-id"), stream->deleted);
    tide__sq_reply_count(pair(&list, "entries-added"), stream->added);
    tide__sq_reply_id(store, pair(&list, "recorded-first-entry-id"), first);
    if (!full) {
        tide__sq_reply_integer(pair(&list, "groups"), groups);
        status = put_one_entry(call, stream, false, pair(&list, "first-entry"));
        if (status == TIDE_OK)
            status = put_one_entry(call, stream, true, pair(&list, "last-entry"));
    } else {
        tide_id lowest = {0, 0}, highest = {UINT64_MAX, UINT64_MAX};
        status = tide__sq_range(call, stream, lowest, highest, (uint64_t)count, false,
                                pair(&list, "entries"));
        if (status == TIDE_OK)
            status = put_groups(store, stream, count > 0 ? (uint64_t)count : UINT64_MAX,
                                pair(&list, "groups"));
    }
    return status != TIDE_OK ? status : store->failure.status;
}

static tide_status run_xinfo(tide__sq_call *call) {
    static const struct {
        const char *name, *lower;
        size_t min, max;
        tide_status (*run)(tide__sq_call *call, tide__sq_stream *stream);
    } subcommands[] = {
        {"STREAM", "stream", 3, 0, xinfo_stream},
        {"GROUPS", "groups", 3, 3, xinfo_groups},
        {"CONSUMERS", "consumers", 4, 4, xinfo_consumers},
    };
    for (size_t i = 0; i < sizeof subcommands / sizeof subcommands[0]; i++) {
        if (!tide__sq_is(call->args[1], subcommands[i].name))
            continue;
        if (call->count < subcommands[i].min ||
            (subcommands[i].max > 0 && call->count > subcommands[i].max))
            return tide__sq_error_arity(call, subcommands[i].lower);
        tide__sq_stream *stream;
        tide_status status = tide__sq_arg_stream(call, 2, &stream);
        if (status == TIDE_OK && !stream->alive)
            return tide__sq_error(call, "ERR no such key");
        /* Consumers' times may wait in the cache for a write to go with. */
        if (status == TIDE_OK)
            status = tide__sq_cache_flush(call->store, false);
        return status == TIDE_OK ? subcommands[i].run(call, stream) : status;
    }
    char name[64];
    tide_text_escape(name, sizeof name, call->args[1]);
    return tide__sq_error(call, "ERR unknown subcommand '%s'. Try XINFO HELP.", name);
}

const tide__sq_command tide__sq_info_commands[] = {
    {"XINFO", 2, 0, true, run_xinfo},
    {NULL, 0, 0, false, NULL},
};
