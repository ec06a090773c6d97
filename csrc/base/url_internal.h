/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_URL_INTERNAL_H
#define TIDE_BASE_URL_INTERNAL_H

/* What url.c, url_split.c and url_redact.c share; nobody else includes it. */

#include <string.h>

#include "base/url.h"

/* The parts of a URL as they stand in its text: nothing is decoded. data NULL: absent. */
typedef struct tide_url_parts {
    tide_scheme scheme;
    tide_str user;
    tide_str password;
    tide_str port;
    tide_str host; /* of an IPv6 address what is between the brackets */
    tide_str path; /* REDIS: without its first '/' */
    tide_str query;
} tide_url_parts;

/* Finds the parts. TIDE_OK, TIDE_URL, TIDE_UNSUPPORTED (a scheme that is planned). */
tide_status tide__url_split(tide_url_parts *parts, tide_str text, tide_error *error);
/* The scheme of a name, in any case of letters; false: unknown. */
bool tide__url_scheme(tide_str name, tide_scheme *scheme);
/* Sets "WHAT in redis://…" with the URL redacted, and returns `status`. `error` may be NULL; the
 * format must not quote a part that may hold a password. */
tide_status tide__url_fail(tide_error *error, tide_status status, tide_str url, const char *format,
                           ...) __attribute__((format(printf, 4, 5)));

static inline tide_str tide__url_part(tide_str text, size_t from, size_t to) {
    return (tide_str){text.data + from, to - from};
}

/* The first place of any of `set` in `text` at or behind `from`; its length when there is none. */
static inline size_t tide__url_find(tide_str text, size_t from, const char *set) {
    for (; from < text.len; from++) {
        if (text.data[from] != '\0' && strchr(set, text.data[from]) != NULL)
            return from;
    }
    return text.len;
}

static inline size_t tide__url_find_last(tide_str text, char c) {
    for (size_t i = text.len; i > 0; i--) {
        if (text.data[i - 1] == c)
            return i - 1;
    }
    return text.len;
}

static inline bool tide__url_is_digits(tide_str text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.len > 0;
}

static inline unsigned tide__url_hex(char c) {
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A') + 10;
    return 16;
}

#endif
