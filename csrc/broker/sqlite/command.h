/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BROKER_SQLITE_COMMAND_H
#define TIDE_BROKER_SQLITE_COMMAND_H

#include "broker/sqlite/internal.h"

/*
 * Commands with Redis 7's own replies. A command ends in one of: a reply; an error reply (tide__sq_error), before anything
 * was written; a failure of the store, after which its reply doesn't matter.
 */
typedef struct tide__sq_call {
    tide__sq_store *store;
    tide__sq_work *work;
    const tide_str *args;
    size_t count;
    tide_reply *reply;
} tide__sq_call;

typedef tide_status (*tide__sq_command_run)(tide__sq_call *call);

typedef struct tide__sq_command {
    const char *name;
    size_t args_min; /* the name included */
    size_t args_max; /* 0: no bound */
    bool writes;
    tide__sq_command_run run;
} tide__sq_command;

extern const tide__sq_command tide__sq_stream_commands[];
extern const tide__sq_command tide__sq_group_commands[];
extern const tide__sq_command tide__sq_info_commands[];
extern const tide__sq_command tide__sq_key_commands[];

/* ---- replies, in the job's arena; false and NULL after tide__sq_no_memory ---- */

void tide__sq_reply_integer(tide_reply *reply, int64_t number);
void tide__sq_reply_count(tide_reply *reply, uint64_t number);
void tide__sq_reply_nil(tide_reply *reply);
bool tide__sq_reply_text(tide__sq_store *store, tide_reply *reply, tide_str text); /* copied */
void tide__sq_reply_literal(tide_reply *reply, const char *text);                  /* static */
void tide__sq_reply_status(tide_reply *reply, const char *text);                   /* static */
bool tide__sq_reply_id(tide__sq_store *store, tide_reply *reply, tide_id id);
bool tide__sq_reply_array(tide__sq_store *store, tide_reply *reply, size_t count); /* of nils */
/* One more element of an array that grows; `capacity` starts with 0. */
tide_reply *tide__sq_reply_push(tide__sq_store *store, tide_reply *reply, size_t *capacity);
/* [id, [name, value, …]] */
bool tide__sq_reply_entry(tide__sq_store *store, tide_reply *reply, tide_id id, tide_str blob);
/* [[id, fields], …]; gone ones have nil fields. */
bool tide__sq_reply_rows(tide__sq_rows *rows, tide_reply *reply);
/* A consumer's name by its number. */
tide_status tide__sq_member_name(tide__sq_store *store, int64_t member, tide_reply *reply);
/* A statement that counts, with one parameter or two (`second` -1: one). */
tide_status tide__sq_count(tide__sq_store *store, tide__sq_statement which, int64_t first,
                           int64_t second, int64_t *count);
/* An error reply, whose first word gives the status. */
tide_status tide__sq_error(tide__sq_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
tide_status tide__sq_error_arity(tide__sq_call *call, const char *subcommand); /* NULL: none */
tide_status tide__sq_error_syntax(tide__sq_call *call);
tide_status tide__sq_error_wrongtype(tide__sq_call *call);

/* ---- arguments; an error reply and its status when they are wrong ---- */

bool tide__sq_is(tide_str arg, const char *word);
tide_status tide__sq_arg_integer(tide__sq_call *call, size_t index, int64_t *number);
/* An id; "ms" alone has `missing_seq`. `any` allows - and +. */
tide_status tide__sq_arg_id(tide__sq_call *call, size_t index, uint64_t missing_seq, bool any,
                            tide_id *id);
/* An interval's end, with "(" for an open one. `start` says which. */
tide_status tide__sq_arg_bound(tide__sq_call *call, size_t index, bool start, tide_id *id);
/* The stream of a key; `stream->alive` false when there is none. WRONGTYPE when it holds a key-value. */
tide_status tide__sq_arg_stream(tide__sq_call *call, size_t index, tide__sq_stream **stream);

#endif
