/* SPDX-License-Identifier: MIT */
/*
 * What it is: a URL for showing, without its secrets; and the errors that show one.
 * What it is not: a parser; it takes any bytes.
 * Invariant: hidden is at least what tide_url_parse would take for a password, and all that stands
 * before the last `@`, because a URL that is broken is usually broken by the password.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/text.h"
#include "base/url_internal.h"
#include "base/url_option.h"

typedef struct writer {
    char text[TIDE_URL_MAX + 1];
    size_t len;
} writer;

static void write_bytes(writer *w, const char *data, size_t len) {
    size_t room = sizeof w->text - w->len;
    size_t taken = len < room ? len : room;
    if (taken > 0)
        memcpy(w->text + w->len, data, taken);
    w->len += taken;
}

static void write_hidden(writer *w) {
    write_bytes(w, "***", 3);
}

/* `a=b&c=d`, with the values of all options that aren't known as harmless hidden. */
static void write_query(writer *w, tide_str query) {
    for (size_t at = 0; at < query.len;) {
        size_t end = tide__url_find(query, at, "&");
        size_t equals = tide__url_find(query, at, "=&");
        if (equals < end) {
            write_bytes(w, query.data + at, equals + 1 - at);
            if (tide__url_option_is_public(tide__url_part(query, at, equals))) {
                write_bytes(w, query.data + equals + 1, end - equals - 1);
            } else {
                write_hidden(w);
            }
        } else if (tide__url_option_is_public(tide__url_part(query, at, end))) {
            write_bytes(w, query.data + at, end - at);
        } else if (end > at) {
            write_hidden(w);
        }
        if (end < query.len)
            write_bytes(w, "&", 1);
        at = end + 1;
    }
}

/* Good enough to tell it from a user and a password. */
static bool is_ipv6(tide_str text) {
    size_t colons = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == ':')
            colons++;
        else if (c != '.' && tide__url_hex(c) > 15)
            return false;
    }
    return colons >= 2;
}

/* Where the front of `text` (before the query) may hold a password: [from, to). False: nowhere. */
static bool find_secret(tide_str text, size_t *from, size_t *to) {
    size_t colon = tide__url_find(text, 0, ":");
    bool slashes =
        text.len - colon >= 3 && text.data[colon + 1] == '/' && text.data[colon + 2] == '/';
    size_t body = slashes ? colon + 3 : 0;
    size_t at = tide__url_find_last(text, '@');
    if (at < text.len) {
        if (at < body)
            body = 0;
        size_t start = tide__url_find(text, body, ":");
        /* A user alone may be a password that was put in its place. */
        *from = start < at ? start + 1 : body;
        /* With a `?` in front, the `@` may stand in the middle of an option's value. */
        *to = tide__url_find(text, body, "?") < at ? text.len : at;
        return true;
    }
    if (!slashes)
        return false;
    /* No `@`: it was escaped, or forgotten, when something in front of the path doesn't read as
     * host and port. */
    size_t end = tide__url_find(text, body, "/?#");
    tide_str authority = tide__url_part(text, body, end);
    size_t first_colon = tide__url_find(authority, 0, ":");
    size_t percent = tide__url_find(authority, 0, "%");
    if (authority.len == 0 || authority.data[0] == '[')
        return false;
    if (percent < authority.len) {
        *from = body + (first_colon < percent ? first_colon + 1 : 0);
        *to = end;
        return true;
    }
    tide_str port = tide__url_part(authority, first_colon, authority.len);
    if (port.len > 1 && !tide__url_is_digits(tide__url_part(port, 1, port.len)) &&
        !is_ipv6(authority)) {
        *from = body + first_colon + 1;
        *to = end;
        return true;
    }
    return false;
}

size_t tide_url_redact(char *out, size_t size, tide_str text) {
    writer w;
    w.len = 0;
    size_t colon = tide__url_find(text, 0, ":");
    tide_scheme scheme = TIDE_SCHEME_REDIS;
    bool known = tide__url_scheme(tide__url_part(text, 0, colon), &scheme);
    bool embedded = known && (scheme == TIDE_SCHEME_FILE || scheme == TIDE_SCHEME_MEMORY);
    size_t rest = 0;
    size_t from;
    size_t to;
    if (!embedded && find_secret(text, &from, &to)) {
        write_bytes(&w, text.data, from);
        if (from < to || to == text.len || text.data[to] != '@')
            write_hidden(&w);
        rest = to;
    }
    size_t query = tide__url_find(text, rest, "?");
    write_bytes(&w, text.data + rest, query - rest);
    if (query < text.len) {
        write_bytes(&w, "?", 1);
        write_query(&w, tide__url_part(text, query + 1, text.len));
    }
    return tide_text_escape(out, size, (tide_str){w.text, w.len});
}

/* "what in redis://…" */
tide_status tide__url_fail(tide_error *error, tide_status status, tide_str url, const char *format,
                           ...) {
    if (error == NULL)
        return status;
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    char shown[160];
    tide_url_redact(shown, sizeof shown, url);
    return tide_error_set(error, status, "%s in %s", what, shown);
}
