/* SPDX-License-Identifier: MIT */
/*
 * Which program a test starts as its throwaway server: the installed one, or the one that TIDEMILL_REDIS_SERVER or
 * TIDEMILL_VALKEY_SERVER names by its path.
 */
#ifndef TIDE_SPEC_SERVER_PROGRAM_H
#define TIDE_SPEC_SERVER_PROGRAM_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The path that the environment names for "redis-server" or "valkey-server"; NULL for anything else, and when it names none. */
static inline const char *server_program_named(const char *installed) {
    const char *path = NULL;
    if (strcmp(installed, "redis-server") == 0)
        path = getenv("TIDEMILL_REDIS_SERVER");
    else if (strcmp(installed, "valkey-server") == 0)
        path = getenv("TIDEMILL_VALKEY_SERVER");
    return path != NULL && path[0] != '\0' ? path : NULL;
}

/* What to run for "redis-server" or "valkey-server": a path, or the name itself; any other program is itself. */
static inline const char *server_program(const char *installed) {
    const char *path = server_program_named(installed);
    return path != NULL ? path : installed;
}

#endif
