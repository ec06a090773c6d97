/* SPDX-License-Identifier: MIT */
/*
 * What it is: a connection's first words, sent together, and what the answers mean.
 * What it is not: a negotiation; no request waits for the answer to another, but for one case: after a greeting that was
 * refused (a wrong password, a server that loads), AUTH and PING go alone and the rest follows when they are answered, so
 * that a server which refuses for ever is asked two things an attempt and not nine.
 *
 *   AUTH [user] password         only with a password; an error refuses the connection
 *   SELECT db                    only with a db; an error refuses it
 *   HELLO 2                      who is there; may be refused (INFO says it too)
 *   CLIENT SETNAME name          may be refused
 *   CLIENT SETINFO lib-name …    may be refused (Redis ≥ 7.2)
 *   CLIENT SETINFO lib-ver …     likewise
 *   CLIENT ID                    to interrupt a blocked read; may be refused
 *   INFO server                  may be refused
 *   PING                         LOADING, MASTERDOWN and BUSY show here: then the connection is tried again later
 *
 * Invariants: each step has one reply; a step that wasn't sent has its bit clear in greeting_asked.
 */
#include <string.h>

#include "broker/redis/redis.h"

#ifndef TIDE_VERSION_TEXT
#define TIDE_VERSION_TEXT "0.1.0"
#endif

typedef enum greeting_step {
    STEP_AUTH,
    STEP_SELECT,
    STEP_HELLO,
    STEP_SETNAME,
    STEP_LIB_NAME,
    STEP_LIB_VERSION,
    STEP_CLIENT_ID,
    STEP_INFO,
    STEP_PING,
    STEP_COUNT
} greeting_step;

static void ask(redis_link *link, greeting_step step, size_t args) {
    link->greeting_asked |= 1u << step;
    tide_resp_begin(&link->greeting, args);
}

/* All but AUTH, and but PING when that was answered already. */
static void ask_the_rest(redis_link *link) {
    redis_broker *broker = link->broker;
    tide_buffer *out = &link->greeting;
    if (broker->db > 0) {
        ask(link, STEP_SELECT, 2);
        tide_resp_arg_literal(out, "SELECT");
        tide_resp_arg_i64(out, broker->db);
    }
    ask(link, STEP_HELLO, 2);
    tide_resp_arg_literal(out, "HELLO");
    tide_resp_arg_literal(out, "2");
    ask(link, STEP_SETNAME, 3);
    tide_resp_arg_literal(out, "CLIENT");
    tide_resp_arg_literal(out, "SETNAME");
    tide_resp_arg(out, broker->name);
    ask(link, STEP_LIB_NAME, 4);
    tide_resp_arg_literal(out, "CLIENT");
    tide_resp_arg_literal(out, "SETINFO");
    tide_resp_arg_literal(out, "lib-name");
    tide_resp_arg_literal(out, "tidemill");
    ask(link, STEP_LIB_VERSION, 4);
    tide_resp_arg_literal(out, "CLIENT");
    tide_resp_arg_literal(out, "SETINFO");
    tide_resp_arg_literal(out, "lib-ver");
    tide_resp_arg_literal(out, TIDE_VERSION_TEXT);
    ask(link, STEP_CLIENT_ID, 2);
    tide_resp_arg_literal(out, "CLIENT");
    tide_resp_arg_literal(out, "ID");
    ask(link, STEP_INFO, 2);
    tide_resp_arg_literal(out, "INFO");
    tide_resp_arg_literal(out, "server");
    if (!link->is_probing) {
        ask(link, STEP_PING, 1);
        tide_resp_arg_literal(out, "PING");
    }
}

tide_status redis_greeting_begin(redis_link *link) {
    redis_broker *broker = link->broker;
    tide_buffer *out = &link->greeting;
    tide_buffer_clear(out, 4096);
    link->greeting_asked = 0;
    if (broker->password.data != NULL) {
        bool with_user = broker->user.len > 0;
        ask(link, STEP_AUTH, with_user ? 3 : 2);
        tide_resp_arg_literal(out, "AUTH");
        if (with_user)
            tide_resp_arg(out, broker->user);
        tide_resp_arg(out, broker->password);
    }
    link->is_probing = link->was_refused;
    if (link->is_probing) {
        ask(link, STEP_PING, 1);
        tide_resp_arg_literal(out, "PING");
    } else {
        ask_the_rest(link);
    }
    return out->failed ? TIDE_ENOMEM : TIDE_OK;
}

static uint32_t parse_version(tide_str text) {
    uint32_t parts[3] = {0, 0, 0};
    unsigned part = 0;
    for (size_t i = 0; i < text.len && part < 3; i++) {
        char c = text.data[i];
        if (c == '.')
            part++;
        else if (c >= '0' && c <= '9' && parts[part] < 1000)
            parts[part] = parts[part] * 10 + (uint32_t)(c - '0');
        else
            break;
    }
    for (part = 0; part < 3; part++) {
        if (parts[part] > 255)
            parts[part] = 255;
    }
    return parts[0] << 16 | parts[1] << 8 | parts[2];
}

static void note_hello(redis_server *server, const tide_reply *reply) {
    if (reply->type != TIDE_REPLY_ARRAY && reply->type != TIDE_REPLY_MAP)
        return;
    for (size_t i = 0; i + 1 < reply->as.array.count; i += 2) {
        const tide_reply *name = &reply->as.array.items[i];
        const tide_reply *value = name + 1;
        if (name->type != TIDE_REPLY_STRING || value->type != TIDE_REPLY_STRING)
            continue;
        if (tide_str_equal(name->as.text, TIDE_STR("server")))
            server->is_valkey = tide_str_equal(value->as.text, TIDE_STR("valkey"));
        else if (tide_str_equal(name->as.text, TIDE_STR("version")))
            server->version = parse_version(value->as.text);
    }
}

bool redis_info_find(tide_str info, tide_str name, tide_str *value) {
    while (info.len > 0) {
        const char *end = memchr(info.data, '\n', info.len);
        size_t len = end != NULL ? (size_t)(end - info.data) : info.len;
        tide_str line = {info.data, len};
        info.data += end != NULL ? len + 1 : len;
        info.len -= end != NULL ? len + 1 : len;
        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        if (line.len > name.len && line.data[name.len] == ':' && tide_str_starts(line, name)) {
            *value = (tide_str){line.data + name.len + 1, line.len - name.len - 1};
            return true;
        }
    }
    return false;
}

static void note_info(redis_server *server, const tide_reply *reply) {
    tide_str value;
    if (reply->type != TIDE_REPLY_STRING)
        return;
    /* Valkey's redis_version names the Redis that it is compatible with. */
    if (redis_info_find(reply->as.text, TIDE_STR("valkey_version"), &value)) {
        server->is_valkey = true;
        server->version = parse_version(value);
    } else if (redis_info_find(reply->as.text, TIDE_STR("redis_version"), &value)) {
        server->version = parse_version(value);
    }
}

static size_t first_word(tide_str text) {
    size_t len = 0;
    while (len < text.len && len < TIDE_ERROR_WORD_MAX - 1 && text.data[len] != ' ')
        len++;
    return len;
}

/* An error that ends the connection; false: the step may fail. */
static bool is_refusal(redis_link *link, greeting_step step, tide_str text, tide_error *why) {
    redis_broker *broker = link->broker;
    tide_status status = tide_resp_error_status(text);
    int word = (int)first_word(text);
    if (step == STEP_AUTH && status != TIDE_LOADING && status != TIDE_BUSY &&
        status != TIDE_MAXCLIENTS) {
        /* The server's text is not shown: only its first word is sure to hold no secret. */
        tide_error_set(why, TIDE_NOAUTH,
                       "%s refused the password of user \"%s\" (%.*s): check user and password",
                       broker->place, broker->user.len > 0 ? broker->user.data : "default", word,
                       text.data);
        return true;
    }
    switch (status) {
    case TIDE_NOAUTH:
        tide_error_set(why, status, "%s: %.*s", broker->place, (int)text.len, text.data);
        if (step != STEP_AUTH && broker->password.data == NULL && word == 6)
            tide_error_set(why, status, "%s wants a password: redis://user:password@host",
                           broker->place);
        return true;
    case TIDE_LOADING:
    case TIDE_READONLY:
    case TIDE_BUSY:
    case TIDE_MAXCLIENTS:
    case TIDE_MISCONF:
        /* A write refused is an operation's business; PING meets MASTERDOWN, and MISCONF on some versions. */
        if (status == TIDE_MISCONF)
            return false;
        tide_error_set(why, status, "%s: %.*s", broker->place, (int)text.len, text.data);
        return true;
    default: break;
    }
    char advice[TIDE_ERROR_MESSAGE_MAX];
    if (step == STEP_SELECT && status == TIDE_NOPERM &&
        redis_advise_database(broker, text, advice, sizeof advice)) {
        tide_error_set(why, status, "%s: %s", broker->place, advice);
        return true;
    }
    if (step == STEP_SELECT) {
        tide_error_set(why, status, "%s: SELECT %lld: %.*s", broker->place, (long long)broker->db,
                       (int)text.len, text.data);
        return true;
    }
    return false;
}

void redis_greeting_reply(redis_link *link, const tide_reply *reply, int64_t now_us) {
    unsigned step = 0;
    while (step < STEP_COUNT && (link->greeting_asked & 1u << step) == 0)
        step++;
    if (step == STEP_COUNT) {
        redis_link_drop(link, now_us, TIDE_PROTOCOL, "%s sent a reply that nobody asked for",
                        link->broker->place);
        return;
    }
    link->greeting_asked &= ~(1u << step);
    redis_server *server = &link->broker->server;
    if (reply->type == TIDE_REPLY_ERROR) {
        tide_error why;
        if (is_refusal(link, (greeting_step)step, reply->as.text, &why)) {
            link->was_refused = true;
            size_t word = first_word(reply->as.text);
            memcpy(why.server, reply->as.text.data, word);
            why.server[word] = '\0';
            if (why.status == TIDE_NOAUTH || step == STEP_SELECT)
                redis_link_refuse(link, now_us, &why);
            else
                redis_link_lost(link, false, &why, now_us);
            return;
        }
    } else if (step == STEP_HELLO) {
        note_hello(server, reply);
    } else if (step == STEP_CLIENT_ID) {
        if (reply->type == TIDE_REPLY_INTEGER)
            link->client_id = reply->as.integer;
    } else if (step == STEP_INFO) {
        note_info(server, reply);
        server->known = server->version != 0;
    }
    if (link->greeting_asked != 0)
        return;
    if (link->is_probing) {
        ask_the_rest(link);
        link->is_probing = false;
        if (link->greeting.failed)
            redis_link_drop(link, now_us, TIDE_ENOMEM, "no memory for a connection to %s",
                            link->broker->place);
        return;
    }
    link->was_refused = false;
    redis_link_ready(link, now_us);
}
