/* SPDX-License-Identifier: MIT */
/*
 * What it is: the table of commands, and the description of the engine.
 * What it is not: Redis: what isn't in the table is answered with TIDE-UNSUPPORTED.
 * Invariants: a command sees the tables as they are: what is cached is written back before it runs.
 */
#include "broker/sqlite/command.h"

#include <stdio.h>

static const tide__sq_command *const tables[] = {
    tide__sq_stream_commands,
    tide__sq_group_commands,
    tide__sq_info_commands,
    tide__sq_key_commands,
};

static const tide__sq_command *find(tide_str name) {
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const tide__sq_command *command = tables[i]; command->name != NULL; command++) {
            if (tide__sq_is(name, command->name))
                return command;
        }
    }
    return NULL;
}

bool tide__sq_command_writes(const tide_op_command *op) {
    const tide__sq_command *command = find(op->args[0]);
    return command != NULL && command->writes;
}

tide_status tide__sq_do_command(tide__sq_store *store, tide__sq_work *work) {
    const tide_op_command *op = &work->op.as.command;
    tide_reply *reply = tide__sq_take(store, sizeof *reply);
    if (reply == NULL)
        return TIDE_ENOMEM;
    tide__sq_reply_nil(reply);
    work->out.reply = reply;
    work->empty = false;
    tide__sq_call call = {store, work, op->args, op->arg_count, reply};
    const tide__sq_command *command = find(op->args[0]);
    if (command == NULL) {
        char name[64];
        tide_text_escape(name, sizeof name, op->args[0]);
        return tide__sq_error(&call, "TIDE-UNSUPPORTED %s is not on this engine", name);
    }
    if (op->arg_count < command->args_min ||
        (command->args_max > 0 && op->arg_count > command->args_max))
        return tide__sq_error_arity(&call, NULL);
    tide_status status = command->writes ? tide__sq_cache_flush(store, true) : TIDE_OK;
    return status == TIDE_OK ? command->run(&call) : status;
}

/* ---- what this engine is ---- */

typedef struct facts {
    tide__sq_store *store;
    tide_reply *reply;
    size_t capacity;
    bool failed;
} facts;

static tide_reply *add_fact(facts *list, const char *name) {
    tide_reply *key = tide__sq_reply_push(list->store, list->reply, &list->capacity);
    if (key != NULL)
        tide__sq_reply_literal(key, name);
    tide_reply *value =
        key != NULL ? tide__sq_reply_push(list->store, list->reply, &list->capacity) : NULL;
    list->failed |= value == NULL;
    return value;
}

static void add_text(facts *list, const char *name, const char *text) {
    tide_reply *value = add_fact(list, name);
    if (value != NULL && !tide__sq_reply_text(list->store, value, tide_str_from(text)))
        list->failed = true;
}

static void add_number(facts *list, const char *name, int64_t number) {
    tide_reply *value = add_fact(list, name);
    if (value != NULL)
        tide__sq_reply_integer(value, number);
}

tide_status tide__sq_do_server(tide__sq_store *store, tide__sq_work *work) {
    static const char *const levels[] = {"off", "normal", "full"};
    tide_reply *reply = tide__sq_take(store, sizeof *reply);
    if (reply == NULL)
        return TIDE_ENOMEM;
    *reply = (tide_reply){.type = TIDE_REPLY_ARRAY};
    int64_t pages = 0, page_free = 0, page_size = 0, synchronous = 0;
    tide_status status = tide__sq_integer(store, TIDE__SQ_PAGE_COUNT, &pages);
    if (status == TIDE_OK)
        status = tide__sq_integer(store, TIDE__SQ_PAGE_FREE, &page_free);
    if (status == TIDE_OK)
        status = tide__sq_integer(store, TIDE__SQ_PAGE_SIZE, &page_size);
    if (status == TIDE_OK)
        status = tide__sq_integer(store, TIDE__SQ_SYNCHRONOUS, &synchronous);
    if (status != TIDE_OK)
        return status;
    facts list = {store, reply, 0, false};
    add_text(&list, "engine", "sqlite");
    add_text(&list, "version", sqlite3_libversion());
    add_text(&list, "path", store->path != NULL ? store->path : "memory:");
    add_text(&list, "synchronous",
             store->path == NULL                    ? "none"
             : synchronous >= 0 && synchronous <= 2 ? levels[synchronous]
                                                    : "extra");
    sqlite3_stmt *mode = tide__sq_statement_of(store, TIDE__SQ_JOURNAL_MODE);
    if (mode == NULL)
        return store->failure.status;
    if (tide__sq_step(store, mode) == SQLITE_ROW) {
        tide_reply *value = add_fact(&list, "journal_mode");
        if (value != NULL && !tide__sq_reply_text(store, value, tide__sq_column_str(mode, 0)))
            list.failed = true;
    }
    sqlite3_reset(mode);
    add_number(&list, "format", TIDE__SQ_VERSION);
    add_number(&list, "page_size", page_size);
    add_number(&list, "pages", pages);
    add_number(&list, "pages_free", page_free);
    add_number(&list, "bytes", pages * page_size);
    add_number(&list, "busy_timeout_ms", store->busy_ms);
    add_number(&list, "commits", (int64_t)store->commits);
    add_number(&list, "committed_operations", (int64_t)store->operations);
    work->out.reply = reply;
    return list.failed ? tide__sq_no_memory(store) : TIDE_OK;
}
