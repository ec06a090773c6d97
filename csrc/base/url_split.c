/* SPDX-License-Identifier: MIT */
/*
 * What it is: the first step of parsing a URL: where its parts are in the text.
 * What it is not: a decoder, or a judge of what the parts say (url.c).
 * Invariant: no part that may hold a password is quoted in an error.
 */
#include "base/limits.h"
#include "base/text.h"
#include "base/url_internal.h"

static const struct {
    const char *name;
    tide_scheme scheme;
} schemes[] = {
    {"memory", TIDE_SCHEME_MEMORY},    {"file", TIDE_SCHEME_FILE},
    {"redis", TIDE_SCHEME_REDIS},      {"valkey", TIDE_SCHEME_REDIS},
    {"rediss", TIDE_SCHEME_REDIS_TLS}, {"valkeys", TIDE_SCHEME_REDIS_TLS},
    {"unix", TIDE_SCHEME_UNIX},        {"redis+unix", TIDE_SCHEME_UNIX},
    {"valkey+unix", TIDE_SCHEME_UNIX},
};
enum { SCHEME_COUNT = sizeof schemes / sizeof *schemes };

static const char *const planned_schemes[] = {"redis-sentinel", "redis-cluster", "valkey-sentinel",
                                              "valkey-cluster", "nats"};

bool tide__url_scheme(tide_str name, tide_scheme *scheme) {
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        if (tide_str_equal_nocase(name, tide_str_from(schemes[i].name))) {
            *scheme = schemes[i].scheme;
            return true;
        }
    }
    return false;
}

static tide_status split_scheme(tide_url_parts *p, tide_str text, size_t *body, tide_error *error) {
    size_t colon = tide__url_find(text, 0, ":/?#@");
    tide_str name = tide__url_part(text, 0, colon);
    char shown[40];
    tide_text_escape(shown, sizeof shown, name);
    if (colon == text.len || text.data[colon] != ':' || name.len == 0) {
        return tide__url_fail(error, TIDE_URL, text,
                              "no scheme (write memory:, file:PATH, redis://HOST or unix:PATH)");
    }
    if (!tide__url_scheme(name, &p->scheme)) {
        for (size_t i = 0; i < sizeof planned_schemes / sizeof *planned_schemes; i++) {
            if (tide_str_equal_nocase(name, tide_str_from(planned_schemes[i]))) {
                return tide__url_fail(error, TIDE_UNSUPPORTED, text,
                                      "scheme %s: is not supported yet", planned_schemes[i]);
            }
        }
        const char *names[SCHEME_COUNT + 1] = {NULL};
        for (size_t i = 0; i < SCHEME_COUNT; i++)
            names[i] = schemes[i].name;
        const char *nearest = tide_nearest(name, names);
        if (nearest != NULL) {
            return tide__url_fail(error, TIDE_URL, text, "unknown scheme %s: (did you mean %s:?)",
                                  shown, nearest);
        }
        return tide__url_fail(
            error, TIDE_URL, text,
            "unknown scheme (known: memory:, file:, redis:, valkey:, rediss:, valkeys:, unix:)");
    }
    *body = colon + 1;
    return TIDE_OK;
}

/* `[user][:password]@`, the end of which is `at`. */
static void split_user(tide_url_parts *p, tide_str text, size_t from, size_t at) {
    size_t colon = tide__url_find(text, from, ":@");
    if (colon > from)
        p->user = tide__url_part(text, from, colon);
    if (colon < at)
        p->password = tide__url_part(text, colon + 1, at);
}

static tide_status split_host(tide_url_parts *p, tide_str text, tide_str authority,
                              tide_error *error) {
    tide_str after;
    if (authority.len > 0 && authority.data[0] == '[') {
        size_t close = tide__url_find(authority, 0, "]");
        if (close == authority.len)
            return tide__url_fail(error, TIDE_URL, text, "a [ without its ]");
        p->host = tide__url_part(authority, 1, close);
        after = tide__url_part(authority, close + 1, authority.len);
        if (after.len > 0 && after.data[0] != ':') {
            return tide__url_fail(error, TIDE_URL, text, "something other than :PORT after the ]");
        }
    } else {
        size_t colon = tide__url_find(authority, 0, ":");
        p->host = tide__url_part(authority, 0, colon);
        after = tide__url_part(authority, colon, authority.len);
        if (after.len > 0 && tide__url_find(after, 1, ":") < after.len) {
            return tide__url_fail(
                error, TIDE_URL, text,
                "more than one : in host and port (an IPv6 address needs brackets: [::1])");
        }
    }
    if (p->host.len == 0)
        return tide__url_fail(error, TIDE_URL, text, "no host (write localhost if you mean it)");
    if (after.len > 0)
        p->port = tide__url_part(after, 1, after.len);
    return TIDE_OK;
}

static tide_status split_server(tide_url_parts *p, tide_str text, size_t body, tide_error *error) {
    if (text.len - body < 2 || memcmp(text.data + body, "//", 2) != 0) {
        return tide__url_fail(error, TIDE_URL, text, "no // after the scheme");
    }
    body += 2;
    size_t query = tide__url_find(text, body, "?");
    size_t slash = tide__url_find(tide__url_part(text, 0, query), body, "/");
    size_t at = tide__url_find_last(tide__url_part(text, body, slash), '@') + body;
    if (at < slash) {
        split_user(p, text, body, at);
        body = at + 1;
    }
    tide_status status = split_host(p, text, tide__url_part(text, body, slash), error);
    if (status != TIDE_OK)
        return status;
    if (slash < query)
        p->path = tide__url_part(text, slash + 1, query);
    if (query < text.len)
        p->query = tide__url_part(text, query + 1, text.len);
    return TIDE_OK;
}

/* memory:, file:, unix: */
static tide_status split_path(tide_url_parts *p, tide_str text, size_t body, tide_error *error) {
    size_t query = tide__url_find(text, body, "?");
    if (query < text.len)
        p->query = tide__url_part(text, query + 1, text.len);
    if (query - body >= 2 && memcmp(text.data + body, "//", 2) == 0) {
        body += 2;
        size_t slash = tide__url_find(tide__url_part(text, 0, query), body, "/");
        if (p->scheme == TIDE_SCHEME_UNIX && slash > body && text.data[slash - 1] == '@') {
            split_user(p, text, body, slash - 1);
        } else if (p->scheme == TIDE_SCHEME_FILE &&
                   tide_str_equal_nocase(tide__url_part(text, body, slash),
                                         TIDE_STR("localhost"))) {
            /* RFC 8089 */
        } else if (slash > body) {
            return tide__url_fail(error, TIDE_URL, text,
                                  "%s// is followed by a host, not by a path (write %s",
                                  p->scheme == TIDE_SCHEME_FILE ? "file:" : "unix:",
                                  p->scheme == TIDE_SCHEME_FILE ? "file:PATH or file:///PATH)"
                                                                : "unix:PATH or unix:///PATH)");
        }
        body = slash;
    }
    p->path = tide__url_part(text, body, query);
    if (p->scheme == TIDE_SCHEME_MEMORY) {
        if (p->path.len > 0)
            return tide__url_fail(error, TIDE_URL, text, "memory: takes no name");
    } else if (p->path.len == 0) {
        return tide__url_fail(error, TIDE_URL, text, "no path");
    }
    return TIDE_OK;
}

tide_status tide__url_split(tide_url_parts *p, tide_str text, tide_error *error) {
    if (text.len == 0)
        return tide_error_set(error, TIDE_URL, "the URL is empty (write memory: or redis://HOST)");
    if (text.len > TIDE_URL_MAX) {
        return tide__url_fail(error, TIDE_URL, text, "more than %d bytes", (int)TIDE_URL_MAX);
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c == 0x7f) {
            return tide__url_fail(error, TIDE_URL, text, "a control byte (0x%02x) at place %zu", c,
                                  i + 1);
        }
    }
    size_t body = 0;
    tide_status status = split_scheme(p, text, &body, error);
    if (status != TIDE_OK)
        return status;
    bool embedded = p->scheme == TIDE_SCHEME_FILE || p->scheme == TIDE_SCHEME_MEMORY;
    /* Before anything is quoted: a second `@`, or one behind the host, means that a password was
     * not escaped. */
    if (!embedded) {
        size_t first = tide__url_find(text, body, "@");
        size_t slashes = text.len - body >= 2 && memcmp(text.data + body, "//", 2) == 0 ? 2 : 0;
        bool late = slashes == 0 || tide__url_find(text, body + slashes, "/?#") < first;
        if (first < text.len && (late || tide__url_find(text, first + 1, "@") < text.len)) {
            return tide__url_fail(
                error, TIDE_URL, text,
                "an unescaped @, /, ? or # in user or password, or an @ elsewhere "
                "(write %%40, %%2F, %%3F, %%23)");
        }
    }
    if (tide__url_find(text, body, "#") < text.len) {
        return tide__url_fail(error, TIDE_URL, text, "a # (write %%23)");
    }
    if (p->scheme == TIDE_SCHEME_REDIS || p->scheme == TIDE_SCHEME_REDIS_TLS) {
        return split_server(p, text, body, error);
    }
    return split_path(p, text, body, error);
}
