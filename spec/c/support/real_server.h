/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_REAL_SERVER_H
#define TIDE_SPEC_REAL_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A real redis-server or valkey-server of a test's own: on loopback, at a port of its own, without persistence, in the
 * scratch folder. It dies with the test program, however that ends. The struct points into itself: not to be copied.
 */
enum { REAL_SERVER_WORDS_MAX = 32 };

typedef struct real_server {
    pid_t pid; /* 0: it doesn't run */
    uint16_t port;
    const char *words[REAL_SERVER_WORDS_MAX]; /* what it was started with; borrowed */
    char port_text[8];
} real_server;

/*
 * "redis-server" and "valkey-server" stand here for what TIDEMILL_REDIS_SERVER and TIDEMILL_VALKEY_SERVER name, when they
 * name something (server_program.h).
 */

/* Whether the shell would find this program, or the environment names one. */
bool real_server_is_installed(const char *program);

/*
 * Starts `program` and waits until it answers: it, and not another that took the port before it, since tests empty it.
 * `more`: further words of its command line, NULL at the end; NULL for none. They outlive the server.
 * False when it ends by itself each time or answers nothing; then nothing runs. `*server` is set anew.
 */
bool real_server_start(real_server *server, const char *program, const char *const *more);

/* The same again after real_server_stop: port and words stay. */
bool real_server_restart(real_server *server);

/* Kills it; nothing when it doesn't run. */
void real_server_stop(real_server *server);

#endif
