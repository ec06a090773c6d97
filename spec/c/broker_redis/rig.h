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
/* Opens the link, takes its greeting away and answers it. */
void rig_connect(rig *r, uint32_t link);
void rig_feed(rig *r, uint32_t link, const char *bytes);
/* What wants to be sent must be exactly this; it is taken. */
void rig_expect_sent(rig *r, uint32_t link, const char *bytes);
/* Takes at most `most` bytes of what wants to be sent; returns how many. */
size_t rig_send(rig *r, uint32_t link, size_t most);
void rig_lose(rig *r, uint32_t link);
void rig_pass(rig *r, int64_t ms);
void rig_submit(rig *r, const tide_op *op);
/* The next completion must be there and have this tag and status. */
void rig_expect(rig *r, tide_completion *completion, uint64_t tag, tide_status status);
void rig_expect_none(rig *r);

tide_str str(const char *text);
tide_op publish_op(uint64_t tag, const char *stream, const tide_record *records, size_t count);

/* ---- a real server (live.c) ---- */

typedef struct live {
    tide_broker *broker;
    tide_url url;
    tide_url_options options;
    int pid, port;
    char dir[64];
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

#endif
