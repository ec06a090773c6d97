/* SPDX-License-Identifier: MIT */
/*
 * What it is: any command, its reply handed on as it is; and the description of the server.
 * What it is not: a connection for the caller. What would change the state of a shared connection is refused, and what may
 * block at the server gets a connection of its own.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"
#include "broker/redis/redis.h"

/* ---- any command ---- */

/* They would change what the other operations' commands mean, or turn the connection into something else. */
static const char *const connection_commands[] = {
    "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
    "MONITOR",   "MULTI",      "EXEC",       "DISCARD",     "WATCH",        "UNWATCH",
    "SELECT",    "AUTH",       "HELLO",      "RESET",       "QUIT",         "SYNC",
    "PSYNC",     "ASKING",     "READONLY",   "READWRITE",   "REPLCONF",
};

static const char *const blocking_commands[] = {
    "BLPOP",    "BRPOP",  "BRPOPLPUSH", "BLMOVE", "BZPOPMIN",
    "BZPOPMAX", "BLMPOP", "BZMPOP",     "WAIT",   "WAITAOF",
};

static bool is_one_of(tide_str word, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (tide_str_equal_nocase(word, tide_str_from(words[i])))
            return true;
    }
    return false;
}
#define IS_ONE_OF(word, words) is_one_of((word), (words), sizeof(words) / sizeof(words)[0])

int64_t redis_command_block_ms(const tide_op_command *command) {
    if (command->block_ms != 0 || command->arg_count == 0)
        return command->block_ms;
    bool group = tide_str_equal_nocase(command->args[0], TIDE_STR("XREADGROUP"));
    if (!group && !tide_str_equal_nocase(command->args[0], TIDE_STR("XREAD")))
        return 0;
    for (size_t i = group ? 4 : 1; i + 1 < command->arg_count; i++) {
        uint64_t ms;
        if (tide_str_equal_nocase(command->args[i], TIDE_STR("STREAMS")))
            return 0;
        /* BLOCK 0 waits for ever: for our own time limit, here. */
        if (tide_str_equal_nocase(command->args[i], TIDE_STR("BLOCK")))
            return tide_u64_parse(command->args[i + 1], &ms) && ms < INT32_MAX && ms > 0
                       ? (int64_t)ms
                       : 1;
    }
    return 0;
}

static tide_status encode_command(redis_op *op, redis_link *link, const tide_op *op_in,
                                  tide_error *error) {
    const tide_op_command *in = &op_in->as.command;
    if (in->arg_count == 0 || in->args[0].len == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "the command is empty");
    if (in->arg_count > TIDE_REPLY_ELEMENTS_MAX)
        return tide_error_set(error, TIDE_LIMIT, "the command has more than %d arguments",
                              TIDE_REPLY_ELEMENTS_MAX);
    tide_str name = in->args[0];
    bool refused = IS_ONE_OF(name, connection_commands) ||
                   (tide_str_equal_nocase(name, TIDE_STR("CLIENT")) && in->arg_count > 1 &&
                    tide_str_equal_nocase(in->args[1], TIDE_STR("REPLY")));
    if (refused)
        return tide_error_set(error, TIDE_UNSUPPORTED,
                              "%.*s would change a connection that others use", (int)name.len,
                              name.data);
    if (IS_ONE_OF(name, blocking_commands) && in->block_ms <= 0)
        return tide_error_set(error, TIDE_ARGUMENT, "%.*s may block: say for how long",
                              (int)name.len, name.data);
    size_t len = name.len < 64 ? name.len : 64;
    char *rule = tide_arena_bytes(&op->arena, len + 2);
    if (rule == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for a command");
    rule[0] = '+';
    for (size_t i = 0; i < len; i++) {
        char c = name.data[i];
        rule[1 + i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    rule[1 + len] = '\0';
    redis_op_about(op, (tide_str){"", 0}, rule, false);
    tide_status status = redis_link_reserve(link, 1);
    if (status != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    redis_request_begin(link, op, 0, in->arg_count);
    for (size_t i = 0; i < in->arg_count; i++)
        tide_resp_arg(&link->out, in->args[i]);
    return TIDE_OK;
}

static bool reply_command(redis_op *op, redis_link *link, const redis_request *request,
                          tide_reply_box **box) {
    (void)link;
    (void)request;
    op->box = *box;
    *box = NULL;
    return true;
}

static void complete_command(redis_op *op, tide_completion *completion) {
    completion->as.command.reply = op->box != NULL ? &op->box->reply : NULL;
}

const redis_op_class redis_command_class = {
    .encode = encode_command,
    .reply = reply_command,
    .complete = complete_command,
    .writes = true,
};

/* ---- the server ---- */

enum { STEP_INFO, STEP_CONFIG };
enum { ROWS_MAX = 1024 };

static tide_status encode_server(redis_op *op, redis_link *link, const tide_op *op_in,
                                 tide_error *error) {
    (void)op_in;
    static const char *const sections[] = {"server", "memory", "persistence", "replication"};
    static const char *const settings[] = {"maxmemory-policy", "appendonly", "appendfsync"};
    redis_op_about(op, (tide_str){"", 0}, "+info +config|get", false);
    tide_status status = redis_link_reserve(link, 7);
    if (status == TIDE_OK && redis_op_array(op, ROWS_MAX, sizeof(tide_reply)) == NULL)
        status = TIDE_ENOMEM;
    if (status != TIDE_OK)
        return tide_error_set(error, status, "%s", tide_status_text(status));
    /* The first rows are ours. */
    op->count = 8;
    tide_buffer *out = &link->out;
    for (unsigned i = 0; i < 4; i++) {
        redis_request_begin(link, op, STEP_INFO, 2)->index = i;
        tide_resp_arg_literal(out, "INFO");
        tide_resp_arg(out, tide_str_from(sections[i]));
    }
    for (unsigned i = 0; i < 3; i++) {
        redis_request_begin(link, op, STEP_CONFIG, 3);
        tide_resp_arg_literal(out, "CONFIG");
        tide_resp_arg_literal(out, "GET");
        tide_resp_arg(out, tide_str_from(settings[i]));
    }
    return TIDE_OK;
}

static void add_row(redis_op *op, tide_str name, tide_str value) {
    tide_reply *rows = op->array;
    if (op->count + 2 > ROWS_MAX)
        return;
    tide_str name_copy = tide_arena_copy(&op->arena, name);
    tide_str value_copy = tide_arena_copy(&op->arena, value);
    if (name_copy.data == NULL || value_copy.data == NULL) {
        redis_op_fail(op, TIDE_ENOMEM, "no memory for the description of the server");
        return;
    }
    rows[op->count].type = TIDE_REPLY_STRING;
    rows[op->count++].as.text = name_copy;
    rows[op->count].type = TIDE_REPLY_STRING;
    rows[op->count++].as.text = value_copy;
}

static void set_row(redis_op *op, size_t row, tide_str name, tide_str value) {
    tide_reply *rows = op->array;
    tide_str copy = tide_arena_copy(&op->arena, value);
    if (copy.data == NULL) {
        redis_op_fail(op, TIDE_ENOMEM, "no memory for the description of the server");
        copy = (tide_str){"", 0};
    }
    rows[2 * row].type = TIDE_REPLY_STRING;
    rows[2 * row].as.text = name;
    rows[2 * row + 1].type = TIDE_REPLY_STRING;
    rows[2 * row + 1].as.text = copy;
}

static void take_info(redis_op *op, tide_str info, uint32_t section) {
    tide_str value;
    if (section == 0) {
        bool is_valkey = redis_info_find(info, TIDE_STR("valkey_version"), &value);
        if (!is_valkey && !redis_info_find(info, TIDE_STR("redis_version"), &value))
            value = TIDE_STR("");
        set_row(op, 1, TIDE_STR("server"), is_valkey ? TIDE_STR("valkey") : TIDE_STR("redis"));
        set_row(op, 2, TIDE_STR("version"), value);
    } else if (section == 3 && redis_info_find(info, TIDE_STR("role"), &value)) {
        set_row(op, 3, TIDE_STR("role"), value);
    }
    while (info.len > 0) {
        const char *end = memchr(info.data, '\n', info.len);
        size_t len = end != NULL ? (size_t)(end - info.data) : info.len;
        tide_str line = {info.data, len};
        size_t used = end != NULL ? len + 1 : len;
        info.data += used;
        info.len -= used;
        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        const char *colon = line.len > 0 ? memchr(line.data, ':', line.len) : NULL;
        if (colon == NULL || line.data[0] == '#')
            continue;
        size_t name_len = (size_t)(colon - line.data);
        tide_str name = {line.data, name_len};
        if (!tide_str_equal(name, TIDE_STR("role")))
            add_row(op, name, (tide_str){colon + 1, line.len - name_len - 1});
    }
}

static bool reply_server(redis_op *op, redis_link *link, const redis_request *request,
                         tide_reply_box **box) {
    (void)link;
    const tide_reply *reply = &(*box)->reply;
    if (request->step == STEP_INFO) {
        if (reply->type != TIDE_REPLY_STRING)
            return false;
        take_info(op, reply->as.text, request->index);
        return true;
    }
    if (reply->type != TIDE_REPLY_ARRAY && reply->type != TIDE_REPLY_MAP)
        return false;
    for (size_t i = 0; i + 1 < reply->as.array.count; i += 2) {
        const tide_reply *name = &reply->as.array.items[i];
        if (name->type != TIDE_REPLY_STRING || name[1].type != TIDE_REPLY_STRING)
            return false;
        add_row(op, name->as.text, name[1].as.text);
    }
    return true;
}

/* What the user may not ask stays out of the description. */
static bool fail_server(redis_op *op, redis_link *link, const redis_request *request,
                        tide_status status, tide_str detail) {
    (void)op;
    (void)link;
    return detail.len > 0 && (request->step == STEP_CONFIG || status == TIDE_NOPERM);
}

static void complete_server(redis_op *op, tide_completion *completion) {
    if (op->status != TIDE_OK)
        return;
    tide_reply *rows = op->array;
    static const char *const names[] = {"engine", "server", "version", "role"};
    for (unsigned i = 0; i < 4; i++) {
        bool missing = rows[2 * i].type != TIDE_REPLY_STRING;
        rows[2 * i].type = TIDE_REPLY_STRING;
        rows[2 * i].as.text = tide_str_from(names[i]);
        rows[2 * i + 1].type = TIDE_REPLY_STRING;
        if (missing)
            rows[2 * i + 1].as.text = i == 0 ? TIDE_STR("redis") : TIDE_STR("");
    }
    op->as.command.reply.type = TIDE_REPLY_ARRAY;
    op->as.command.reply.as.array.items = rows;
    op->as.command.reply.as.array.count = op->count;
    completion->as.command.reply = &op->as.command.reply;
}

const redis_op_class redis_server_class = {
    .encode = encode_server,
    .reply = reply_server,
    .fail = fail_server,
    .complete = complete_server,
};
