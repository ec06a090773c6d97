/* SPDX-License-Identifier: MIT */
/*
 * What it is: building replies and reading arguments of commands, in Redis's words.
 * What it is not: a command.
 * Invariants: a reply and all it points to lie in the job's arena or are static; running out of memory is a failure of
 * the store, so that a half-built reply is never seen.
 */
#include "broker/sqlite/command.h"

#include <stdarg.h>
#include <stdio.h>

void tide__sq_reply_integer(tide_reply *reply, int64_t number) {
    *reply = (tide_reply){.type = TIDE_REPLY_INTEGER, .as.integer = number};
}

void tide__sq_reply_count(tide_reply *reply, uint64_t number) {
    tide__sq_reply_integer(reply, number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

void tide__sq_reply_nil(tide_reply *reply) {
    *reply = (tide_reply){.type = TIDE_REPLY_NIL};
}

void tide__sq_reply_literal(tide_reply *reply, const char *text) {
    *reply = (tide_reply){.type = TIDE_REPLY_STRING, .as.text = tide_str_from(text)};
}

void tide__sq_reply_status(tide_reply *reply, const char *text) {
    *reply = (tide_reply){.type = TIDE_REPLY_STATUS, .as.text = tide_str_from(text)};
}

bool tide__sq_reply_text(tide__sq_store *store, tide_reply *reply, tide_str text) {
    char *copy = tide__sq_take(store, text.len + 1);
    if (copy == NULL)
        return false;
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    *reply = (tide_reply){.type = TIDE_REPLY_STRING, .as.text = {copy, text.len}};
    return true;
}

bool tide__sq_reply_id(tide__sq_store *store, tide_reply *reply, tide_id id) {
    char text[TIDE_ID_TEXT_MAX];
    return tide__sq_reply_text(store, reply, (tide_str){text, tide_id_format(text, id)});
}

bool tide__sq_reply_array(tide__sq_store *store, tide_reply *reply, size_t count) {
    *reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    if (count == 0)
        return true;
    reply->as.array.items = tide__sq_take(store, count * sizeof *reply);
    if (reply->as.array.items == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        tide__sq_reply_nil(&reply->as.array.items[i]);
    reply->as.array.count = count;
    return true;
}

tide_reply *tide__sq_reply_push(tide__sq_store *store, tide_reply *reply, size_t *capacity) {
    size_t count = reply->as.array.count;
    if (count == *capacity) {
        size_t grown = *capacity == 0 ? 16 : *capacity * 2;
        tide_reply *items = tide__sq_take(store, grown * sizeof *items);
        if (items == NULL)
            return NULL;
        if (count > 0)
            memcpy(items, reply->as.array.items, count * sizeof *items);
        reply->as.array.items = items;
        *capacity = grown;
    }
    reply->as.array.count++;
    tide__sq_reply_nil(&reply->as.array.items[count]);
    return &reply->as.array.items[count];
}

bool tide__sq_reply_entry(tide__sq_store *store, tide_reply *reply, tide_id id, tide_str blob) {
    size_t count, bytes;
    if (!tide__sq_packed_count(blob, &count)) {
        tide__sq_damaged(store, "an entry's fields");
        return false;
    }
    char *copy = tide__sq_take(store, blob.len);
    tide_field *fields = tide__sq_take(store, (count + 1) * sizeof *fields);
    if (copy == NULL || fields == NULL || !tide__sq_reply_array(store, reply, 2))
        return false;
    memcpy(copy, blob.data, blob.len);
    if (!tide__sq_unpack((tide_str){copy, blob.len}, fields, count, &bytes)) {
        tide__sq_damaged(store, "an entry's fields");
        return false;
    }
    tide_reply *list = &reply->as.array.items[1];
    if (!tide__sq_reply_id(store, &reply->as.array.items[0], id) ||
        !tide__sq_reply_array(store, list, count * 2))
        return false;
    for (size_t i = 0; i < count; i++) {
        list->as.array.items[2 * i] =
            (tide_reply){.type = TIDE_REPLY_STRING, .as.text = fields[i].name};
        list->as.array.items[2 * i + 1] =
            (tide_reply){.type = TIDE_REPLY_STRING, .as.text = fields[i].value};
    }
    return true;
}

bool tide__sq_reply_rows(tide__sq_rows *rows, tide_reply *reply) {
    if (!tide__sq_reply_array(rows->store, reply, rows->count))
        return false;
    for (size_t i = 0; i < rows->count; i++) {
        const tide__sq_row *row = &rows->rows[i];
        tide_reply *item = &reply->as.array.items[i];
        if (row->gone) {
            if (!tide__sq_reply_array(rows->store, item, 2) ||
                !tide__sq_reply_id(rows->store, &item->as.array.items[0], row->id))
                return false;
        } else if (!tide__sq_reply_entry(rows->store, item, row->id, tide__sq_row_blob(rows, i))) {
            return false;
        }
    }
    return true;
}

tide_status tide__sq_member_name(tide__sq_store *store, int64_t member, tide_reply *reply) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, TIDE__SQ_MEMBER_NAME);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, member);
    if (tide__sq_step(store, statement) == SQLITE_ROW)
        tide__sq_reply_text(store, reply, tide__sq_column_str(statement, 0));
    sqlite3_reset(statement);
    return store->failure.status;
}

tide_status tide__sq_count(tide__sq_store *store, tide__sq_statement which, int64_t first,
                           int64_t second, int64_t *count) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, which);
    if (statement == NULL)
        return store->failure.status;
    sqlite3_bind_int64(statement, 1, first);
    if (second >= 0)
        sqlite3_bind_int64(statement, 2, second);
    if (tide__sq_step(store, statement) == SQLITE_ROW)
        *count = sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return store->failure.status;
}

/* ---- errors ---- */

static const struct {
    const char *word;
    tide_status status;
} words[] = {
    {"NOGROUP", TIDE_NOGROUP},
    {"WRONGTYPE", TIDE_WRONGTYPE},
    {"BUSYGROUP", TIDE_EXISTS},
    {"TIDE-UNSUPPORTED", TIDE_UNSUPPORTED},
};

tide_status tide__sq_error(tide__sq_call *call, const char *format, ...) {
    enum { ERROR_MAX = 1024 };
    char *text = tide__sq_take(call->store, ERROR_MAX);
    if (text == NULL)
        return TIDE_ENOMEM;
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, ERROR_MAX, format, args);
    va_end(args);
    size_t len = size < 0 ? 0 : size >= ERROR_MAX ? ERROR_MAX - 1 : (size_t)size;
    *call->reply = (tide_reply){.type = TIDE_REPLY_ERROR, .as.text = {text, len}};
    size_t word_len = strcspn(text, " ");
    char word[TIDE_ERROR_WORD_MAX];
    if (word_len >= sizeof word)
        word_len = sizeof word - 1;
    memcpy(word, text, word_len);
    word[word_len] = '\0';
    tide_status status = TIDE_REPLY;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i].word) == 0)
            status = words[i].status;
    }
    /* The word that is a code of ours comes with the status already. */
    return tide__sq_refuse(call->store, call->work, status, word, "%s",
                           status == TIDE_UNSUPPORTED ? text + word_len + 1 : text);
}

tide_status tide__sq_error_arity(tide__sq_call *call, const char *subcommand) {
    char name[64];
    size_t len = call->args[0].len < 24 ? call->args[0].len : 24;
    for (size_t i = 0; i < len; i++) {
        char c = call->args[0].data[i];
        name[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    name[len] = '\0';
    if (subcommand != NULL)
        snprintf(name + len, sizeof name - len, "|%s", subcommand);
    return tide__sq_error(call, "ERR wrong number of arguments for '%s' command", name);
}

tide_status tide__sq_error_syntax(tide__sq_call *call) {
    return tide__sq_error(call, "ERR syntax error");
}

tide_status tide__sq_error_wrongtype(tide__sq_call *call) {
    return tide__sq_error(call,
                          "WRONGTYPE Operation against a key holding the wrong kind of value");
}

/* ---- arguments ---- */

bool tide__sq_is(tide_str arg, const char *word) {
    return tide_str_equal_nocase(arg, tide_str_from(word));
}

tide_status tide__sq_arg_integer(tide__sq_call *call, size_t index, int64_t *number) {
    if (!tide_i64_parse(call->args[index], number))
        return tide__sq_error(call, "ERR value is not an integer or out of range");
    return TIDE_OK;
}

tide_status tide__sq_arg_id(tide__sq_call *call, size_t index, uint64_t missing_seq, bool any,
                            tide_id *id) {
    tide_str arg = call->args[index];
    if (any && arg.len == 1 && arg.data[0] == '-')
        *id = (tide_id){0, 0};
    else if (any && arg.len == 1 && arg.data[0] == '+')
        *id = (tide_id){UINT64_MAX, UINT64_MAX};
    else if (!tide_id_parse(arg, missing_seq, id))
        return tide__sq_error(call, "ERR Invalid stream ID specified as stream command argument");
    return TIDE_OK;
}

static bool next_id(tide_id *id) {
    if (id->seq < UINT64_MAX) {
        id->seq++;
        return true;
    }
    if (id->ms == UINT64_MAX)
        return false;
    *id = (tide_id){id->ms + 1, 0};
    return true;
}

static bool previous_id(tide_id *id) {
    if (id->seq > 0) {
        id->seq--;
        return true;
    }
    if (id->ms == 0)
        return false;
    *id = (tide_id){id->ms - 1, UINT64_MAX};
    return true;
}

tide_status tide__sq_arg_bound(tide__sq_call *call, size_t index, bool start, tide_id *id) {
    tide_str arg = call->args[index];
    uint64_t missing_seq = start ? 0 : UINT64_MAX;
    if (arg.len <= 1 || arg.data[0] != '(')
        return tide__sq_arg_id(call, index, missing_seq, true, id);
    arg.data++;
    arg.len--;
    if (!tide_id_parse(arg, missing_seq, id))
        return tide__sq_error(call, "ERR Invalid stream ID specified as stream command argument");
    if (start ? !next_id(id) : !previous_id(id))
        return tide__sq_error(call, "ERR invalid %s ID for the interval", start ? "start" : "end");
    return TIDE_OK;
}

tide_status tide__sq_arg_stream(tide__sq_call *call, size_t index, tide__sq_stream **stream) {
    tide_status status = tide__sq_stream_get(call->store, call->args[index], stream);
    if (status != TIDE_OK || (*stream)->alive)
        return status;
    bool taken = false;
    status = tide__sq_kv_exists(call->store, call->args[index], &taken);
    return status == TIDE_OK && taken ? tide__sq_error_wrongtype(call) : status;
}
