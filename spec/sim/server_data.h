/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_SERVER_DATA_H
#define TIDE_SIM_SERVER_DATA_H

#include "server.h"

#include "base/text.h"
#include "broker/redis/redis.h"

/* What the files of the simulated server share: its data, arguments and replies, and a function a command. */

typedef struct bytes {
    char *data;
    size_t size, capacity, begin;
} bytes;

typedef struct entry {
    tide_id id;
    tide_str *fields; /* names and values in turn */
    size_t count;     /* of both */
    char *memory;
} entry;

typedef struct pending {
    tide_id id;
    uint32_t consumer; /* index into names */
    int64_t time_ms;
    uint32_t count;
} pending;

typedef struct group {
    char *name;
    tide_id last;
    pending *list;
    size_t count, capacity;
    char **names; /* NULL: deleted */
    uint32_t name_count;
} group;

typedef struct stream {
    entry *entries;
    size_t first, count, capacity; /* entries[first … first+count-1] */
    tide_id last;
    group **groups;
    size_t group_count;
} stream;

typedef struct member {
    char *name;
    size_t name_len;
    double score;
    char *value;
    size_t value_len;
} member;

typedef enum kind { KIND_STREAM, KIND_STRING, KIND_ZSET, KIND_HASH } kind;

typedef struct object {
    struct object *next;
    char *name;
    size_t name_len;
    kind kind;
    stream *stream;
    char *text;
    size_t text_len;
    int64_t expires_ms; /* 0 never */
    member *members;    /* ZSET by score, HASH unordered */
    size_t member_count;
} object;

enum { BUCKETS = 512, ARGS_MAX = 8192 };

typedef struct client {
    uint32_t number; /* 0: free */
    bytes in, out;
    bool blocked;
    int64_t until_ms;
    tide_str *blocked_args;
    char *blocked_memory;
    size_t blocked_count;
} client;

struct sim_server {
    object *buckets[BUCKETS];
    int64_t now_ms;
    sim_trouble trouble;
    bool known[SCRIPT_COUNT];
    client *clients;
    size_t client_count;
    uint32_t last_client;
    sim_watch watch;
    void *watch_context;
    uint32_t served; /* the client whose command runs */
    uint64_t dirty;  /* grows with every change that a blocked reader may wait for */
    tide_str args[ARGS_MAX];
};

/* ---- server_data.c ---- */

void *sim__grab(void *old, size_t size);
void sim__put(bytes *b, const void *data, size_t size);
void sim__put_format(bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim__reply_int(bytes *out, int64_t number);
void sim__reply_array(bytes *out, size_t count);
void sim__reply_null_array(bytes *out);
void sim__reply_null(bytes *out);
void sim__reply_str(bytes *out, tide_str text);
void sim__reply_id(bytes *out, tide_id id);
void sim__reply_error(bytes *out, const char *text);
void sim__reply_ok(bytes *out);
char *sim__copy_text(tide_str text);
void sim__group_free(group *g);
void sim__object_clear(object *o);
bool sim__delete_key(sim_server *server, tide_str name);
object *sim__find(sim_server *server, tide_str name);
object *sim__make(sim_server *server, tide_str name, kind k);
bool sim__find_stream(sim_server *server, tide_str name, stream **s, bytes *out);
group *sim__find_group(const stream *s, tide_str name);
size_t sim__entry_at(const stream *s, tide_id id);
const entry *sim__find_entry(const stream *s, tide_id id);
size_t sim__pending_at(const group *g, tide_id id);
pending *sim__find_pending(group *g, tide_id id);
pending *sim__add_pending(group *g, tide_id id);
void sim__drop_pending(group *g, pending *p);
bool sim__find_consumer(const group *g, tide_str name, uint32_t *consumer);
uint32_t sim__make_consumer(group *g, tide_str name);
void sim__remove_entries(stream *s, size_t from, size_t count);
void sim__append(stream *s, tide_id id, const tide_str *fields, size_t count);
void sim__reply_entry(bytes *out, const entry *e);

/* ---- server_stream.c ---- */

bool sim__is(tide_str arg, const char *word);
void sim__reply_arity(bytes *out, const char *command);
tide_id sim__id_after(tide_id id);
bool sim__parse_bound(tide_str text, bool upper, tide_id *id, bytes *out);
/* The group and its stream; NULL: an error was written, the one that most commands give. */
group *sim__find_group_or_say(sim_server *server, tide_str key, tide_str name, stream **s,
                              bytes *out);
/* False: an error was written. */
bool sim__are_ids(const tide_str *args, size_t count, bytes *out);
bool sim__add_entry(sim_server *server, tide_str key, const tide_str *args, size_t count,
                    bytes *out);
void sim__cmd_xadd(sim_server *server, const tide_str *args, size_t count, bytes *out);
void sim__cmd_xrange(sim_server *server, const tide_str *args, size_t count, bytes *out, bool back);
void sim__cmd_xdel(sim_server *server, const tide_str *args, size_t count, bytes *out);
void sim__cmd_xtrim(sim_server *server, const tide_str *args, size_t count, bytes *out);

/* ---- server_group.c ---- */

void sim__cmd_xgroup(sim_server *server, const tide_str *args, size_t count, bytes *out);
bool sim__cmd_xreadgroup(sim_server *server, const tide_str *args, size_t count, bytes *out,
                         bool may_block, int64_t *block_ms);
size_t sim__ack(stream *s, tide_str name, tide_id id);
void sim__cmd_xack(sim_server *server, const tide_str *args, size_t count, bytes *out);
void sim__cmd_xpending(sim_server *server, const tide_str *args, size_t count, bytes *out);
void sim__cmd_xclaim(sim_server *server, const tide_str *args, size_t count, bytes *out);
void sim__cmd_xautoclaim(sim_server *server, const tide_str *args, size_t count, bytes *out);
void sim__cmd_xinfo(sim_server *server, const tide_str *args, size_t count, bytes *out);

/* ---- server_read.c ---- */

/* Answers false when it would block. */
bool sim__cmd_xread(sim_server *server, const tide_str *args, size_t count, bytes *out,
                    bool may_block, int64_t *block_ms);

/* ---- server_script.c ---- */

void sim__set_text(sim_server *server, tide_str key, tide_str value, int64_t ttl_ms);
bool sim__get_text(sim_server *server, tide_str key, tide_str *value);
bool sim__refuses_memory(const sim_server *server, bytes *out);
void sim__cmd_eval(sim_server *server, const tide_str *args, size_t count, bytes *out,
                   bool by_text);

/* Errors that several commands answer. */
#define SIM_WRONG_TYPE  "WRONGTYPE Operation against a key holding the wrong kind of value"
#define SIM_BAD_ID      "ERR Invalid stream ID specified as stream command argument"
#define SIM_NOT_INTEGER "ERR value is not an integer or out of range"
#define SIM_SYNTAX      "ERR syntax error"

#endif
