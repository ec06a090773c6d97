/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_BROKER_REDIS_RIG_H
#define TIDE_SPEC_BROKER_REDIS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "base/url.h"
#include "broker/broker.h"
#include "real_server.h"

/*
 * A Redis broker without sockets, under a clock that the test moves: bytes are put in and looked at by the test.
 * A C string in these functions may say \r\n; it holds no NUL.
 */
typedef struct rig {
    tide_broker *broker;
    tide_allocator alloc;
    int64_t now_us;
    tide_url url;
    tide_url_options options;
    char log[8192];
    size_t log_len, log_lines;
    bool failed_to_start;
} rig;

#define CRLF "\r\n"
/* The replies to a greeting without password and db, as Redis 7.0 gives them (SETINFO is unknown there). */
#define GREETING_REPLIES                                                                           \
    "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n"                       \
    "+OK\r\n-ERR unknown subcommand\r\n-ERR unknown subcommand\r\n:77\r\n"                         \
    "$24\r\nredis_version:7.0.15\r\n\r\n\r\n+PONG\r\n"

/* False: there was no memory. */
bool rig_start(rig *r, const char *url, const tide_allocator *alloc);
void rig_stop(rig *r);

/* Ticks at once and takes the next wish for a link; false when there is none. */
bool rig_want(rig *r, tide_link_want *want);
/* Expects the wish to open this link. */
void rig_expect_open(rig *r, uint32_t link);
/* Expects the wish to close this link. */
void rig_expect_close(rig *r, uint32_t link);
/* Opens the link and takes its greeting away. */
void rig_open(rig *r, uint32_t link);
/* The same, and answers it. */
void rig_connect(rig *r, uint32_t link);
void rig_feed(rig *r, uint32_t link, const char *bytes);
/* What wants to be sent must be exactly this; it is taken. */
void rig_expect_sent(rig *r, uint32_t link, const char *bytes);
/* The same, said in words: requests are separated by '|', their arguments by one blank each. */
void rig_expect_request(rig *r, uint32_t link, const char *words);
/* Takes at most `most` bytes of what wants to be sent; returns how many. */
size_t rig_send(rig *r, uint32_t link, size_t most);
/* In two pieces, cut at `split`; SIZE_MAX: byte by byte. */
void rig_feed_split(rig *r, uint32_t link, const char *bytes, size_t split);
void rig_lose(rig *r, uint32_t link);
void rig_pass(rig *r, int64_t ms);
void rig_submit(rig *r, const tide_op *op);
/* The same, and all that the link has to send goes. */
void rig_ask(rig *r, uint32_t link, const tide_op *op);
/* The next completion must be there and have this tag and status. */
void rig_expect(rig *r, tide_completion *completion, uint64_t tag, tide_status status);
void rig_expect_none(rig *r);

/* A test whose *state is a rig of "redis://h" with the shared link up. */
int rig_setup(void **state);
int rig_teardown(void **state);
#define CONNECTED(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
/* Likewise of this URL, and nothing has happened yet. */
#define STARTED(name, url)                                                                         \
    cmocka_unit_test_prestate_setup_teardown(name, rig_setup, rig_teardown,                        \
                                             (void *)(uintptr_t)(url))

/* Calls `work` with an allocator whose N-th allocation fails, once and from then on, for every N, until none fails any more,
 * which is not before the `least`-th. Nothing may be left of it each time. */
void rig_fail_each_allocation(void (*work)(const tide_allocator *alloc), uint64_t least);

tide_str str(const char *text);

/* Operations, by what differs; the group is "g", the reader 1. */
tide_op publish_op(uint64_t tag, const char *stream, const tide_record *records, size_t count);
tide_op fetch_op(uint64_t tag, const char *stream, const char *consumer, uint32_t count,
                 int64_t block_ms);
/* Of consumer "c". */
tide_op settle_op(uint64_t tag, const char *stream, const tide_settlement *items, size_t count);
tide_op recover_op(uint64_t tag, const char *stream, const char *consumer, int64_t min_idle_ms);
tide_op group_op(uint64_t tag, const char *stream, const char *start);
tide_op promote_op(uint64_t tag, const char *stream);
tide_op extend_op(uint64_t tag, const char *stream, const tide_id *ids, size_t count);

/* Three records of one field each, as tests of the wire publish them, and what the first is as a request to stream "s". */
extern const tide_field one_field[1];
extern const tide_record three[3];
#define XADD_1 "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$4\r\ndata\r\n$1\r\n1\r\n"

/* ---- a real server (live.c) ---- */

typedef struct live {
    tide_broker *broker;
    tide_url url;
    tide_url_options options;
    real_server process;
    int fds[32];
    bool opening[32];
    int64_t now_us;
} live;

/* Starts `program` (redis-server, valkey-server) on loopback; false when it isn't installed. */
bool live_server_start(live *l, const char *program);
void live_server_stop(live *l);
void live_open(live *l, const char *query);
void live_close(live *l);
/* One turn: wants, writes, reads, tick; waits at most `ms`. */
void live_turn(live *l, int ms);
/* Submits and waits for the completion. */
void live_run(live *l, const tide_op *op, tide_completion *completion, tide_status expected);
/* A command by words, separated by spaces; the reply is valid until the next completion. */
const tide_reply *live_command(live *l, const char *words);
/* The same on a connection of its own, past the broker; the reply is thrown away. */
void live_aside(live *l, const char *command);
/* Cuts every connection. */
void live_cut(live *l);

/* The server that tests run on, one kind after the other, emptied before each; its broker is open. */
extern live server;
int live_setup(void **state);
int live_teardown(void **state);
#define LIVE(name) cmocka_unit_test_setup_teardown(name, live_setup, live_teardown)
/* Runs them on each kind that is installed; the number of failures. */
#define LIVE_MAIN(tests)                                                                           \
    ((live_server_start(&server, "redis-server")                                                   \
          ? cmocka_run_group_tests_name("redis-server", tests, NULL, live_stop)                    \
          : live_skip("redis-server")) +                                                           \
     (live_server_start(&server, "valkey-server")                                                  \
          ? cmocka_run_group_tests_name("valkey-server", tests, NULL, live_stop)                   \
          : live_skip("valkey-server")))
int live_stop(void **state);
int live_skip(const char *program);

/* One event; its id. */
tide_id publish_one(const char *stream, const char *id, const char *data);
/* Whether the group was made. */
bool ensure(const char *stream, const char *group);
/* For group "g", waiting 10 ms for new ones; NULL: nothing. */
tide_batch *fetch(const char *stream, const char *consumer, uint32_t count, bool history);
int64_t length_of(const char *stream);

#endif
