/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_TYPES_H
#define TIDEMILL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tidemill/status.h>

/*
 * The small values that every face of tidemill shares. Conventions, stated once: bytes are counted
 * (a tide_str may contain NUL and need not end in one); times are int64_t with the unit last in the
 * name (`_us`, `_ms`); every clock the core sees is handed in; a pointer called `view` is borrowed
 * until the named next call.
 */

/* Borrowed bytes. */
typedef struct tide_str {
    const char *data;
    size_t len;
} tide_str;

/* A literal as tide_str. */
#ifdef __cplusplus
#define TIDE_STR(literal) (tide_str{(literal), sizeof(literal) - 1})
#else
#define TIDE_STR(literal) ((tide_str){(literal), sizeof(literal) - 1})
#endif

/* One field of an entry. */
typedef struct tide_field {
    tide_str name;
    tide_str value;
} tide_field;

/* A stream entry's id: milliseconds and sequence, "ms-seq" on the wire. */
typedef struct tide_id {
    uint64_t ms;
    uint64_t seq;
} tide_id;

/* Memory comes from here: `new_size` 0 frees, `ptr` NULL allocates, else resizes; NULL is
 * failure (the old block then stays). `old_size` is what was asked for before. Must not raise or
 * call back into tidemill. */
typedef struct tide_allocator {
    void *(*realloc)(void *context, void *ptr, size_t old_size, size_t new_size);
    void *context;
} tide_allocator;

typedef enum tide_log_level {
    TIDE_LOG_DEBUG,
    TIDE_LOG_INFO,
    TIDE_LOG_WARN,
    TIDE_LOG_ERROR
} tide_log_level;

/* Where log records of every level go: one line, no newline, control bytes escaped already; `line` is valid during the
 * call. Must not call back into tidemill. */
typedef struct tide_log_sink {
    void (*write)(void *context, tide_log_level level, tide_str line);
    void *context;
} tide_log_sink;

/* What went wrong last with an object: the status and one line that names the thing, the place
 * and the way out, without the status's code. `server` is the server's own first error word ("WRONGTYPE"), empty when there
 * is none. Never holds a secret. */
enum { TIDE_ERROR_MESSAGE_MAX = 384, TIDE_ERROR_WORD_MAX = 32 };
typedef struct tide_error {
    tide_status status;
    char message[TIDE_ERROR_MESSAGE_MAX];
    char server[TIDE_ERROR_WORD_MAX];
} tide_error;

/* What the core needs of its surroundings. A zeroed one is valid. */
typedef struct tide_env {
    tide_allocator allocator; /* realloc NULL: malloc and free */
    tide_log_sink log;        /* write NULL: no log */
    uint64_t seed;            /* of jitter; 0: tide_bus_open takes one of the system's */
} tide_env;

#endif
