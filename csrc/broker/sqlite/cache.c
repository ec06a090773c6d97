/* SPDX-License-Identifier: MIT */
/*
 * What it is: the rows of streams, groups and consumers, read once and written back once a transaction.
 * What it is not: a cache of entries or of pending ones; SQLite's own page cache is that.
 * Invariants:
 *   1. A node is what its row says, or is dirty. Dirty nodes exist only inside a transaction that writes.
 *   2. After a rollback, or when another process has committed, the whole cache is dropped.
 *   3. Nodes stay where they are until the cache is dropped, which happens between two jobs only.
 */
#include "broker/sqlite/internal.h"

static void free_member(tide__sq_store *store, tide__sq_member *member) {
    tide_free(store->alloc, member, member->size);
}

static void free_group(tide__sq_store *store, tide__sq_group *group) {
    while (group->members != NULL) {
        tide__sq_member *member = group->members;
        group->members = member->next;
        free_member(store, member);
    }
    tide_free(store->alloc, group, group->size);
}

static void free_groups(tide__sq_store *store, tide__sq_stream *stream) {
    while (stream->groups != NULL) {
        tide__sq_group *group = stream->groups;
        stream->groups = group->next;
        free_group(store, group);
    }
}

void tide__sq_cache_drop(tide__sq_store *store) {
    if (store->stream_count == 0)
        return;
    for (int i = 0; i < TIDE__SQ_STREAM_BUCKETS; i++) {
        while (store->buckets[i] != NULL) {
            tide__sq_stream *stream = store->buckets[i];
            store->buckets[i] = stream->next;
            free_groups(store, stream);
            tide_free(store->alloc, stream, stream->size);
        }
    }
    store->stream_count = 0;
}

/* A zeroed node of `size` bytes with the name behind it. */
static void *new_node(tide__sq_store *store, size_t size, tide_str name, tide_str *copy) {
    char *node = tide_alloc(store->alloc, size + name.len + 1);
    if (node == NULL) {
        tide__sq_no_memory(store);
        return NULL;
    }
    memset(node, 0, size);
    if (name.len > 0)
        memcpy(node + size, name.data, name.len);
    node[size + name.len] = '\0';
    *copy = (tide_str){node + size, name.len};
    return node;
}

/* ---- streams ---- */

static tide_status read_stream(tide__sq_store *store, tide__sq_stream *stream) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_STREAM_GET);
    if (statement == NULL)
        return store->failure.status;
    tide__sq_bind_text(statement, 1, stream->name);
    int code = tide__sq_step(store, statement);
    if (code == SQLITE_ROW) {
        stream->id = sqlite3_column_int64(statement, 0);
        stream->alive = sqlite3_column_int(statement, 1) != 0;
        stream->last = tide__sq_column_id(statement, 2);
        stream->deleted = tide__sq_column_id(statement, 4);
        stream->added = (uint64_t)sqlite3_column_int64(statement, 6);
        stream->length = (uint64_t)sqlite3_column_int64(statement, 7);
        stream->version = sqlite3_column_int64(statement, 8);
    }
    return tide__sq_end(store, statement, code);
}

tide_status tide__sq_stream_get(tide__sq_store *store, tide_str name, tide__sq_stream **out) {
    uint64_t hash = tide_str_hash(name);
    tide__sq_stream **bucket = &store->buckets[hash % TIDE__SQ_STREAM_BUCKETS];
    for (tide__sq_stream *stream = *bucket; stream != NULL; stream = stream->next) {
        if (stream->hash == hash && tide_str_equal(stream->name, name)) {
            *out = stream;
            return TIDE_OK;
        }
    }
    tide_str copy;
    tide__sq_stream *stream = new_node(store, sizeof *stream, name, &copy);
    if (stream == NULL)
        return TIDE_ENOMEM;
    stream->name = copy;
    stream->hash = hash;
    stream->size = sizeof *stream + name.len + 1;
    stream->version = -1;
    tide_status status = read_stream(store, stream);
    if (status != TIDE_OK) {
        tide_free(store->alloc, stream, stream->size);
        return status;
    }
    stream->next = *bucket;
    *bucket = stream;
    store->stream_count++;
    *out = stream;
    return TIDE_OK;
}

static tide_status insert_stream(tide__sq_store *store, tide__sq_stream *stream, bool alive) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_STREAM_NEW);
    if (statement == NULL)
        return store->failure.status;
    tide__sq_bind_text(statement, 1, stream->name);
    sqlite3_bind_int(statement, 2, alive);
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK)
        stream->id = sqlite3_last_insert_rowid(store->db);
    return status;
}

tide_status tide__sq_stream_anchor(tide__sq_store *store, tide__sq_stream *stream) {
    return stream->id != 0 ? TIDE_OK : insert_stream(store, stream, false);
}

tide_status tide__sq_stream_create(tide__sq_store *store, tide__sq_stream *stream) {
    if (stream->alive)
        return TIDE_OK;
    bool taken = false;
    tide_status status = tide__sq_kv_exists(store, stream->name, &taken);
    if (status == TIDE_OK && taken)
        return TIDE_WRONGTYPE;
    if (status == TIDE_OK && stream->id == 0)
        status = insert_stream(store, stream, true);
    if (status != TIDE_OK)
        return status;
    stream->alive = true;
    stream->last = stream->deleted = stream->first = (tide_id){0, 0};
    stream->first_known = true;
    stream->added = stream->length = 0;
    stream->dirty = true;
    store->wrote = true;
    return TIDE_OK;
}

static tide_status run_with_id(tide__sq_store *store, tide__sq_statement which, int64_t id) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, which);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, id);
    store->wrote = true;
    return tide__sq_run(store, statement);
}

tide_status tide__sq_stream_delete(tide__sq_store *store, tide__sq_stream *stream) {
    if (!stream->alive)
        return TIDE_OK;
    tide_status status = tide__sq_cache_flush(store, false);
    /* One at a time: dropping a group's rows moves nothing that the list still reads. */
    for (;;) {
        sqlite3_stmt *list =
            status == TIDE_OK ? tide__sq_statement_of(store, TIDE__SQ_GROUP_LIST) : NULL;
        if (list == NULL)
            return store->failure.status;
        sqlite3_bind_int64(list, 1, stream->id);
        int code = tide__sq_step(store, list);
        int64_t group = code == SQLITE_ROW ? sqlite3_column_int64(list, 0) : 0;
        sqlite3_reset(list);
        if (code == SQLITE_DONE)
            break;
        if (code != SQLITE_ROW)
            return store->failure.status;
        status = run_with_id(store, TIDE__SQ_PENDING_DROP_GROUP, group);
        if (status == TIDE_OK)
            status = run_with_id(store, TIDE__SQ_MEMBERS_DROP, group);
        if (status == TIDE_OK)
            status = run_with_id(store, TIDE__SQ_GROUP_DROP, group);
    }
    free_groups(store, stream);
    status = run_with_id(store, TIDE__SQ_ENTRIES_DROP, stream->id);
    if (status != TIDE_OK)
        return status;
    stream->alive = false;
    stream->length = stream->added = 0;
    stream->last = stream->deleted = stream->first = (tide_id){0, 0};
    stream->first_known = false;
    stream->dirty = true;
    sqlite3_stmt *anchored = tide__sq_statement_of(store, TIDE__SQ_STREAM_ANCHORED);
    if (anchored == NULL)
        return store->failure.status;
    sqlite3_bind_int64(anchored, 1, stream->id);
    int code = tide__sq_step(store, anchored);
    bool keep = code == SQLITE_ROW && sqlite3_column_int(anchored, 0) != 0;
    sqlite3_reset(anchored);
    if (code != SQLITE_ROW)
        return store->failure.status;
    if (!keep && stream->version < 0) {
        status = run_with_id(store, TIDE__SQ_STREAM_DROP, stream->id);
        stream->id = 0;
        stream->dirty = false;
    }
    return status;
}

tide_status tide__sq_stream_first(tide__sq_store *store, tide__sq_stream *stream, tide_id *first) {
    if (!stream->first_known) {
        stream->first = (tide_id){0, 0};
        if (stream->length > 0) {
            sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_STREAM_FIRST);
            if (statement == NULL)
                return store->failure.status;
            sqlite3_bind_int64(statement, 1, stream->id);
            int code = tide__sq_step(store, statement);
            if (code == SQLITE_ROW)
                stream->first = tide__sq_column_id(statement, 0);
            if (tide__sq_end(store, statement, code) != TIDE_OK)
                return store->failure.status;
        }
        stream->first_known = true;
    }
    *first = stream->first;
    return TIDE_OK;
}

/* ---- groups ---- */

tide_status tide__sq_group_get(tide__sq_store *store, tide__sq_stream *stream, tide_str name,
                               tide__sq_group **out) {
    *out = NULL;
    if (!stream->alive)
        return TIDE_OK;
    for (tide__sq_group *group = stream->groups; group != NULL; group = group->next) {
        if (tide_str_equal(group->name, name)) {
            *out = group;
            return TIDE_OK;
        }
    }
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_GROUP_GET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, name);
    int code = tide__sq_step(store, statement);
    tide_status status = code == SQLITE_DONE ? TIDE_OK : store->failure.status;
    if (code == SQLITE_ROW) {
        tide_str copy;
        tide__sq_group *group = new_node(store, sizeof *group, name, &copy);
        status = group != NULL ? TIDE_OK : TIDE_ENOMEM;
        if (group != NULL) {
            group->name = copy;
            group->size = sizeof *group + name.len + 1;
            group->id = sqlite3_column_int64(statement, 0);
            group->last = tide__sq_column_id(statement, 1);
            group->entries_read = sqlite3_column_type(statement, 3) == SQLITE_NULL
                                      ? -1
                                      : sqlite3_column_int64(statement, 3);
            group->next = stream->groups;
            stream->groups = group;
            *out = group;
        }
    }
    sqlite3_reset(statement);
    return status;
}

static void bind_entries_read(sqlite3_stmt *statement, int index, int64_t entries_read) {
    if (entries_read < 0)
        sqlite3_bind_null(statement, index);
    else
        sqlite3_bind_int64(statement, index, entries_read);
}

tide_status tide__sq_group_create(tide__sq_store *store, tide__sq_stream *stream, tide_str name,
                                  tide_id last, int64_t entries_read, tide__sq_group **out) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_GROUP_NEW);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    tide__sq_bind_text(statement, 2, name);
    tide__sq_bind_id(statement, 3, last);
    bind_entries_read(statement, 5, entries_read);
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    return status == TIDE_OK ? tide__sq_group_get(store, stream, name, out) : status;
}

tide_status tide__sq_group_delete(tide__sq_store *store, tide__sq_stream *stream,
                                  tide__sq_group *group) {
    tide_status status = run_with_id(store, TIDE__SQ_PENDING_DROP_GROUP, group->id);
    if (status == TIDE_OK)
        status = run_with_id(store, TIDE__SQ_MEMBERS_DROP, group->id);
    if (status == TIDE_OK)
        status = run_with_id(store, TIDE__SQ_GROUP_DROP, group->id);
    for (tide__sq_group **link = &stream->groups; *link != NULL; link = &(*link)->next) {
        if (*link == group) {
            *link = group->next;
            free_group(store, group);
            break;
        }
    }
    return status;
}

/* ---- consumers ---- */

tide_status tide__sq_member_get(tide__sq_store *store, tide__sq_group *group, tide_str name,
                                bool create, tide__sq_member **out, bool *created) {
    *out = NULL;
    if (created != NULL)
        *created = false;
    for (tide__sq_member *member = group->members; member != NULL; member = member->next) {
        if (tide_str_equal(member->name, name)) {
            *out = member;
            return TIDE_OK;
        }
    }
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_MEMBER_GET);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group->id);
    tide__sq_bind_text(statement, 2, name);
    int code = tide__sq_step(store, statement);
    int64_t id = 0, seen_ms = store->now_ms, active_ms = -1;
    if (code == SQLITE_ROW) {
        id = sqlite3_column_int64(statement, 0);
        seen_ms = sqlite3_column_int64(statement, 1);
        active_ms = sqlite3_column_int64(statement, 2);
    }
    if (tide__sq_end(store, statement, code) != TIDE_OK)
        return store->failure.status;
    if (code == SQLITE_DONE) {
        if (!create)
            return TIDE_OK;
        statement = tide__sq_statement_of(store, TIDE__SQ_MEMBER_NEW);
        if (statement == NULL)
            return store->failure.status;
        sqlite3_bind_int64(statement, 1, group->id);
        tide__sq_bind_text(statement, 2, name);
        sqlite3_bind_int64(statement, 3, seen_ms);
        sqlite3_bind_int64(statement, 4, active_ms);
        store->wrote = true;
        tide_status status = tide__sq_run(store, statement);
        if (status != TIDE_OK)
            return status;
        id = sqlite3_last_insert_rowid(store->db);
        if (created != NULL)
            *created = true;
    }
    tide_str copy;
    tide__sq_member *member = new_node(store, sizeof *member, name, &copy);
    if (member == NULL)
        return TIDE_ENOMEM;
    member->name = copy;
    member->size = sizeof *member + name.len + 1;
    member->id = id;
    member->seen_ms = seen_ms;
    member->active_ms = active_ms;
    member->next = group->members;
    group->members = member;
    *out = member;
    return TIDE_OK;
}

tide_status tide__sq_member_delete(tide__sq_store *store, tide__sq_group *group,
                                   tide__sq_member *member, int64_t *pending) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_PENDING_DROP_MEMBER);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group->id);
    sqlite3_bind_int64(statement, 2, member->id);
    store->wrote = true;
    tide_status status = tide__sq_run(store, statement);
    *pending = sqlite3_changes64(store->db);
    if (status == TIDE_OK)
        status = run_with_id(store, TIDE__SQ_MEMBER_DROP, member->id);
    for (tide__sq_member **link = &group->members; *link != NULL; link = &(*link)->next) {
        if (*link == member) {
            *link = member->next;
            free_member(store, member);
            break;
        }
    }
    return status;
}

/* ---- writing back ---- */

static tide_status write_stream(tide__sq_store *store, tide__sq_stream *stream) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_STREAM_PUT);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, stream->id);
    sqlite3_bind_int(statement, 2, stream->alive);
    tide__sq_bind_id(statement, 3, stream->last);
    tide__sq_bind_id(statement, 5, stream->deleted);
    sqlite3_bind_int64(statement, 7, (int64_t)stream->added);
    sqlite3_bind_int64(statement, 8, (int64_t)stream->length);
    sqlite3_bind_int64(statement, 9, stream->version);
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK)
        stream->dirty = false;
    return status;
}

static tide_status write_group(tide__sq_store *store, tide__sq_group *group) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_GROUP_PUT);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, group->id);
    tide__sq_bind_id(statement, 2, group->last);
    bind_entries_read(statement, 4, group->entries_read);
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK)
        group->dirty = false;
    return status;
}

static tide_status write_member(tide__sq_store *store, tide__sq_member *member) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_MEMBER_PUT);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, member->id);
    sqlite3_bind_int64(statement, 2, member->seen_ms);
    sqlite3_bind_int64(statement, 3, member->active_ms);
    tide_status status = tide__sq_run(store, statement);
    if (status == TIDE_OK)
        member->dirty = false;
    return status;
}

tide_status tide__sq_cache_flush(tide__sq_store *store, bool lazily) {
    if (store->stream_count == 0)
        return TIDE_OK;
    bool members = !lazily || store->wrote;
    for (int i = 0; i < TIDE__SQ_STREAM_BUCKETS; i++) {
        for (tide__sq_stream *stream = store->buckets[i]; stream != NULL; stream = stream->next) {
            if (stream->dirty) {
                store->wrote = members = true;
                tide_status status = write_stream(store, stream);
                if (status != TIDE_OK)
                    return status;
            }
            for (tide__sq_group *group = stream->groups; group != NULL; group = group->next) {
                if (group->dirty) {
                    store->wrote = members = true;
                    tide_status status = write_group(store, group);
                    if (status != TIDE_OK)
                        return status;
                }
                for (tide__sq_member *member = group->members; member != NULL && members;
                     member = member->next) {
                    tide_status status = member->dirty ? write_member(store, member) : TIDE_OK;
                    if (status != TIDE_OK)
                        return status;
                }
            }
        }
    }
    return TIDE_OK;
}

/* ---- a group's counter, by the rules of Valkey 8 (t_stream.c, streamEstimateDistanceFromFirstEverEntry) ---- */

bool tide__sq_has_tombstones(tide__sq_store *store, tide__sq_stream *stream, tide_id start) {
    tide_id first;
    if (stream->length == 0 || (stream->deleted.ms == 0 && stream->deleted.seq == 0))
        return false;
    if (tide__sq_stream_first(store, stream, &first) == TIDE_OK &&
        tide_id_compare(first, stream->deleted) > 0)
        return false; /* what was deleted lies before all there is */
    return tide_id_compare(start, stream->deleted) <= 0;
}

tide_status tide__sq_entries_read_at(tide__sq_store *store, tide__sq_stream *stream, tide_id id,
                                     int64_t *entries_read) {
    *entries_read = -1;
    if (stream->added == 0) {
        *entries_read = 0;
        return TIDE_OK;
    }
    int to_last = tide_id_compare(id, stream->last);
    if (stream->length == 0 && to_last <= 0) {
        *entries_read = (int64_t)stream->added;
        return TIDE_OK;
    }
    if (to_last == 0)
        *entries_read = (int64_t)stream->added;
    if (to_last >= 0)
        return TIDE_OK;
    tide_id first;
    tide_status status = tide__sq_stream_first(store, stream, &first);
    if (status != TIDE_OK)
        return status;
    if ((stream->deleted.ms == 0 && stream->deleted.seq == 0) ||
        tide_id_compare(stream->deleted, first) < 0) {
        int to_first = tide_id_compare(id, first);
        if (to_first < 0)
            *entries_read = (int64_t)(stream->added - stream->length);
        else if (to_first == 0)
            *entries_read = (int64_t)(stream->added - stream->length) + 1;
    }
    return TIDE_OK;
}

tide_status tide__sq_group_advance(tide__sq_store *store, tide__sq_stream *stream,
                                   tide__sq_group *group, tide_id id) {
    if (tide_id_compare(id, group->last) <= 0)
        return TIDE_OK;
    tide_status status = TIDE_OK;
    if (group->entries_read >= 0 && !tide__sq_has_tombstones(store, stream, id))
        group->entries_read++;
    else if (stream->added > 0)
        status = tide__sq_entries_read_at(store, stream, id, &group->entries_read);
    group->last = id;
    group->dirty = true;
    return status;
}
