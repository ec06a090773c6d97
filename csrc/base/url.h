/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_URL_H
#define TIDE_BASE_URL_H

#include <tidemill/types.h>

/*
 * Where an engine is:
 *
 *   memory:                                    embedded, in memory
 *   file:PATH   file:///PATH                   embedded, durable
 *   redis://[[user]:password@]host[:port][/db]     also valkey://; rediss:// and valkeys:// by TLS
 *   unix:PATH   unix://[[user]:password@]/PATH     also redis+unix:, valkey+unix:
 *
 * each with `?name=value&…`. Everything is percent-decoded; `@`, `#` and what else would be
 * ambiguous must be escaped.
 */

typedef enum tide_scheme {
    TIDE_SCHEME_MEMORY,
    TIDE_SCHEME_FILE,
    TIDE_SCHEME_REDIS,
    TIDE_SCHEME_REDIS_TLS,
    TIDE_SCHEME_UNIX
} tide_scheme;

enum { TIDE_PORT_DEFAULT = 6379, TIDE_DB_MAX = 2147483647 };

/* All strings live in `memory`, are decoded, hold no NUL, and have one beyond their end. */
typedef struct tide_url {
    tide_scheme scheme;
    tide_str host;       /* REDIS, REDIS_TLS: never empty; IPv6 without its brackets */
    uint16_t port;       /* REDIS, REDIS_TLS */
    tide_str path;       /* FILE, UNIX: never empty */
    tide_str user;       /* data NULL: not given; from the URL's front or option `user` */
    tide_str password;   /* data NULL: not given; from the URL's front or option `password` */
    uint32_t db;         /* from the path or option `db`; else 0 */
    tide_field *options; /* in the order of the URL, no name twice */
    size_t option_count;
    tide_allocator alloc;
    void *memory; /* one block for all of it */
    size_t memory_size;
} tide_url;

/* Parses `text` (≤ TIDE_URL_MAX bytes). The options' names and values are checked by
 * tide_url_options_parse. On failure `url` is empty and needs no deinit; `error` (may be NULL)
 * names the place and never holds a password. TIDE_OK, TIDE_URL, TIDE_OPTION, TIDE_UNSUPPORTED
 * (a scheme that is planned), TIDE_ENOMEM. */
tide_status tide_url_parse(tide_url *url, const tide_allocator *alloc, tide_str text,
                           tide_error *error);
/* Sets options that were given apart from the URL: they replace those of the same name, user,
 * password and db included. All is copied. On failure `url` is as before. TIDE_OK, TIDE_OPTION,
 * TIDE_ENOMEM. */
tide_status tide_url_merge(tide_url *url, const tide_field *options, size_t count,
                           tide_error *error);
/* Clears the memory (it may hold a password) and frees it. A zeroed `url` is fine. */
void tide_url_deinit(tide_url *url);

/* Writes a URL for showing: any password, and the value of any option that isn't known, as
 * `***`; escaped like tide_text_escape, ends in NUL, cut at `size`-1. For any bytes: where a URL
 * is broken it rather hides too much. Returns the length. */
size_t tide_url_redact(char *out, size_t size, tide_str text);

typedef enum tide_synchronous {
    TIDE_SYNCHRONOUS_FULL,
    TIDE_SYNCHRONOUS_NORMAL,
    TIDE_SYNCHRONOUS_OFF
} tide_synchronous;

/* The options of a URL with their types and defaults. Strings are views into the URL, with a NUL
 * beyond their end; data is NULL when not given. */
typedef struct tide_url_options {
    /* redis, valkey, rediss, valkeys, unix */
    int64_t connect_timeout_us; /* connect_timeout: 5 s; 1 ms to 24 h */
    int64_t timeout_us;         /* timeout, of an operation: 5 s; 1 ms to 24 h */
    int64_t keepalive_us;       /* keepalive: 15 s; 1 s to 24 h, or 0: none */
    tide_str name;              /* name of the connection; printable ASCII without spaces */
    uint32_t db;                /* db: as url->db */
    tide_str password_file; /* password_file: instead of a password; read by the driver, for each
                               connection */
    /* rediss, valkeys */
    tide_str ca;   /* ca: file of trusted certificates; else those of the system */
    tide_str cert; /* cert and key: the client's own, both or neither */
    tide_str key;
    tide_str server_name; /* server_name: for SNI and the check, instead of the host */
    bool insecure;        /* insecure: nothing is verified */
    /* file */
    tide_synchronous synchronous; /* synchronous: full */
    int64_t busy_timeout_us;      /* busy_timeout: 5 s; 0 to 24 h */
    /* file, memory */
    uint64_t max_len;   /* max_len, entries a stream; 0: no limit */
    int64_t max_age_us; /* max_age of entries; 0: no limit */
} tide_url_options;

/* Checks every option of `url`; on failure `options` is untouched and `error` (may be NULL)
 * names the option, and the nearest known name. TIDE_OK or TIDE_OPTION. Durations are `250ms`,
 * `5s`, `2m`, `1h`, `7d`, or seconds as a plain number. */
tide_status tide_url_options_parse(tide_url_options *options, const tide_url *url,
                                   tide_error *error);

/* A duration as above; decimal fractions are cut at the microsecond. No sign, no spaces. False
 * leaves `duration_us`. */
bool tide_duration_parse(tide_str text, int64_t *duration_us);

#endif
