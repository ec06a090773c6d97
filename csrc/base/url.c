/* SPDX-License-Identifier: MIT */
/*
 * What it is: the URL of an engine, taken apart, decoded and packed into one block; and its showing
 * without secrets.
 * What it is not: a general URL library, or the place that knows what an option means
 * (url_option.c).
 *
 * A URL is parsed in three steps: `split` finds the parts as they stand in the text, `decode`
 * undoes the escapes into a scratch area on the stack, `pack` copies the result into memory of the
 * allocator.
 *
 * Invariants:
 *   1. nothing of a user's password reaches an error: the parts that may hold one are named, never
 *      quoted, and the URL itself is shown by tide_url_redact only.
 *   2. tide_url_redact hides at least what tide_url_parse would take for a password, and all that
 *      stands before the last `@`, because a URL that is broken is usually broken by the password.
 */
#include "base/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"
#include "base/url_option.h"

typedef struct parts {
    tide_scheme scheme;
    tide_str user; /* data NULL: absent; so for the next two */
    tide_str password;
    tide_str port;
    tide_str host;
    tide_str path; /* REDIS: without its first '/' */
    tide_str query;
} parts;

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

static tide_str str_part(tide_str text, size_t from, size_t to) {
    return (tide_str){text.data + from, to - from};
}

/* The first place of any of `set` in `text` at or behind `from`; its length when there is none. */
static size_t find_any(tide_str text, size_t from, const char *set) {
    for (; from < text.len; from++) {
        if (text.data[from] != '\0' && strchr(set, text.data[from]) != NULL)
            return from;
    }
    return text.len;
}

static size_t find_last(tide_str text, char c) {
    for (size_t i = text.len; i > 0; i--) {
        if (text.data[i - 1] == c)
            return i - 1;
    }
    return text.len;
}

static bool is_digits(tide_str text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.len > 0;
}

static unsigned hex_of(char c) {
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A') + 10;
    return 16;
}

/* ---- showing ---- */

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
        size_t end = find_any(query, at, "&");
        size_t equals = find_any(query, at, "=&");
        if (equals < end) {
            write_bytes(w, query.data + at, equals + 1 - at);
            if (tide__url_option_is_public(str_part(query, at, equals))) {
                write_bytes(w, query.data + equals + 1, end - equals - 1);
            } else {
                write_hidden(w);
            }
        } else if (tide__url_option_is_public(str_part(query, at, end))) {
            write_bytes(w, query.data + at, end - at);
        } else if (end > at) {
            write_hidden(w);
        }
        if (end < query.len)
            write_bytes(w, "&", 1);
        at = end + 1;
    }
}

static bool is_scheme(tide_str name, tide_scheme *scheme) {
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        if (tide_str_equal_nocase(name, tide_str_from(schemes[i].name))) {
            *scheme = schemes[i].scheme;
            return true;
        }
    }
    return false;
}

/* Good enough to tell it from a user and a password. */
static bool is_ipv6(tide_str text) {
    size_t colons = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == ':')
            colons++;
        else if (c != '.' && hex_of(c) > 15)
            return false;
    }
    return colons >= 2;
}

/* Where the front of `text` (before the query) may hold a password: [from, to). False: nowhere. */
static bool find_secret(tide_str text, size_t *from, size_t *to) {
    size_t colon = find_any(text, 0, ":");
    bool slashes =
        text.len - colon >= 3 && text.data[colon + 1] == '/' && text.data[colon + 2] == '/';
    size_t body = slashes ? colon + 3 : 0;
    size_t at = find_last(text, '@');
    if (at < text.len) {
        if (at < body)
            body = 0;
        size_t start = find_any(text, body, ":");
        /* A user alone may be a password that was put in its place. */
        *from = start < at ? start + 1 : body;
        /* With a `?` in front, the `@` may stand in the middle of an option's value. */
        *to = find_any(text, body, "?") < at ? text.len : at;
        return true;
    }
    if (!slashes)
        return false;
    /* No `@`: it was escaped, or forgotten, when something in front of the path doesn't read as
     * host and port. */
    size_t end = find_any(text, body, "/?#");
    tide_str authority = str_part(text, body, end);
    size_t first_colon = find_any(authority, 0, ":");
    size_t percent = find_any(authority, 0, "%");
    if (authority.len == 0 || authority.data[0] == '[')
        return false;
    if (percent < authority.len) {
        *from = body + (first_colon < percent ? first_colon + 1 : 0);
        *to = end;
        return true;
    }
    tide_str port = str_part(authority, first_colon, authority.len);
    if (port.len > 1 && !is_digits(str_part(port, 1, port.len)) && !is_ipv6(authority)) {
        *from = body + first_colon + 1;
        *to = end;
        return true;
    }
    return false;
}

size_t tide_url_redact(char *out, size_t size, tide_str text) {
    writer w;
    w.len = 0;
    size_t colon = find_any(text, 0, ":");
    tide_scheme scheme = TIDE_SCHEME_REDIS;
    bool known = is_scheme(str_part(text, 0, colon), &scheme);
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
    size_t query = find_any(text, rest, "?");
    write_bytes(&w, text.data + rest, query - rest);
    if (query < text.len) {
        write_bytes(&w, "?", 1);
        write_query(&w, str_part(text, query + 1, text.len));
    }
    return tide_text_escape(out, size, (tide_str){w.text, w.len});
}

static tide_status fail(tide_error *error, tide_status status, tide_str url, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));

/* "what in redis://…" */
static tide_status fail(tide_error *error, tide_status status, tide_str url, const char *format,
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

/* ---- splitting ---- */

static tide_status split_scheme(parts *p, tide_str text, size_t *body, tide_error *error) {
    size_t colon = find_any(text, 0, ":/?#@");
    tide_str name = str_part(text, 0, colon);
    char shown[40];
    tide_text_escape(shown, sizeof shown, name);
    if (colon == text.len || text.data[colon] != ':' || name.len == 0) {
        return fail(error, TIDE_URL, text,
                    "no scheme (write memory:, file:PATH, redis://HOST or unix:PATH)");
    }
    if (!is_scheme(name, &p->scheme)) {
        for (size_t i = 0; i < sizeof planned_schemes / sizeof *planned_schemes; i++) {
            if (tide_str_equal_nocase(name, tide_str_from(planned_schemes[i]))) {
                return fail(error, TIDE_UNSUPPORTED, text, "scheme %s: is not supported yet",
                            planned_schemes[i]);
            }
        }
        const char *names[SCHEME_COUNT + 1] = {NULL};
        for (size_t i = 0; i < SCHEME_COUNT; i++)
            names[i] = schemes[i].name;
        const char *nearest = tide_nearest(name, names);
        if (nearest != NULL) {
            return fail(error, TIDE_URL, text, "unknown scheme %s: (did you mean %s:?)", shown,
                        nearest);
        }
        return fail(
            error, TIDE_URL, text,
            "unknown scheme (known: memory:, file:, redis:, valkey:, rediss:, valkeys:, unix:)");
    }
    *body = colon + 1;
    return TIDE_OK;
}

/* `[user][:password]@`, the end of which is `at`. */
static void split_user(parts *p, tide_str text, size_t from, size_t at) {
    size_t colon = find_any(text, from, ":@");
    if (colon > from)
        p->user = str_part(text, from, colon);
    if (colon < at)
        p->password = str_part(text, colon + 1, at);
}

static tide_status split_host(parts *p, tide_str text, tide_str authority, tide_error *error) {
    tide_str after;
    if (authority.len > 0 && authority.data[0] == '[') {
        size_t close = find_any(authority, 0, "]");
        if (close == authority.len)
            return fail(error, TIDE_URL, text, "a [ without its ]");
        p->host = str_part(authority, 1, close);
        after = str_part(authority, close + 1, authority.len);
        if (after.len > 0 && after.data[0] != ':') {
            return fail(error, TIDE_URL, text, "something other than :PORT after the ]");
        }
    } else {
        size_t colon = find_any(authority, 0, ":");
        p->host = str_part(authority, 0, colon);
        after = str_part(authority, colon, authority.len);
        if (after.len > 0 && find_any(after, 1, ":") < after.len) {
            return fail(error, TIDE_URL, text,
                        "more than one : in host and port (an IPv6 address needs brackets: [::1])");
        }
    }
    if (p->host.len == 0)
        return fail(error, TIDE_URL, text, "no host (write localhost if you mean it)");
    if (after.len > 0)
        p->port = str_part(after, 1, after.len);
    return TIDE_OK;
}

static tide_status split_server(parts *p, tide_str text, size_t body, tide_error *error) {
    if (text.len - body < 2 || memcmp(text.data + body, "//", 2) != 0) {
        return fail(error, TIDE_URL, text, "no // after the scheme");
    }
    body += 2;
    size_t query = find_any(text, body, "?");
    size_t slash = find_any(str_part(text, 0, query), body, "/");
    size_t at = find_last(str_part(text, body, slash), '@') + body;
    if (at < slash) {
        split_user(p, text, body, at);
        body = at + 1;
    }
    tide_status status = split_host(p, text, str_part(text, body, slash), error);
    if (status != TIDE_OK)
        return status;
    if (slash < query)
        p->path = str_part(text, slash + 1, query);
    if (query < text.len)
        p->query = str_part(text, query + 1, text.len);
    return TIDE_OK;
}

/* memory:, file:, unix: */
static tide_status split_path(parts *p, tide_str text, size_t body, tide_error *error) {
    size_t query = find_any(text, body, "?");
    if (query < text.len)
        p->query = str_part(text, query + 1, text.len);
    if (query - body >= 2 && memcmp(text.data + body, "//", 2) == 0) {
        body += 2;
        size_t slash = find_any(str_part(text, 0, query), body, "/");
        if (p->scheme == TIDE_SCHEME_UNIX && slash > body && text.data[slash - 1] == '@') {
            split_user(p, text, body, slash - 1);
        } else if (p->scheme == TIDE_SCHEME_FILE &&
                   tide_str_equal_nocase(str_part(text, body, slash), TIDE_STR("localhost"))) {
            /* RFC 8089 */
        } else if (slash > body) {
            return fail(error, TIDE_URL, text,
                        "%s// is followed by a host, not by a path (write %s",
                        p->scheme == TIDE_SCHEME_FILE ? "file:" : "unix:",
                        p->scheme == TIDE_SCHEME_FILE ? "file:PATH or file:///PATH)"
                                                      : "unix:PATH or unix:///PATH)");
        }
        body = slash;
    }
    p->path = str_part(text, body, query);
    if (p->scheme == TIDE_SCHEME_MEMORY) {
        if (p->path.len > 0)
            return fail(error, TIDE_URL, text, "memory: takes no name");
    } else if (p->path.len == 0) {
        return fail(error, TIDE_URL, text, "no path");
    }
    return TIDE_OK;
}

static tide_status split(parts *p, tide_str text, tide_error *error) {
    if (text.len == 0)
        return tide_error_set(error, TIDE_URL, "the URL is empty (write memory: or redis://HOST)");
    if (text.len > TIDE_URL_MAX) {
        return fail(error, TIDE_URL, text, "more than %d bytes", (int)TIDE_URL_MAX);
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c == 0x7f) {
            return fail(error, TIDE_URL, text, "a control byte (0x%02x) at place %zu", c, i + 1);
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
        size_t first = find_any(text, body, "@");
        size_t slashes = text.len - body >= 2 && memcmp(text.data + body, "//", 2) == 0 ? 2 : 0;
        bool late = slashes == 0 || find_any(text, body + slashes, "/?#") < first;
        if (first < text.len && (late || find_any(text, first + 1, "@") < text.len)) {
            return fail(error, TIDE_URL, text,
                        "an unescaped @, /, ? or # in user or password, or an @ elsewhere "
                        "(write %%40, %%2F, %%3F, %%23)");
        }
    }
    if (find_any(text, body, "#") < text.len) {
        return fail(error, TIDE_URL, text, "a # (write %%23)");
    }
    if (p->scheme == TIDE_SCHEME_REDIS || p->scheme == TIDE_SCHEME_REDIS_TLS) {
        return split_server(p, text, body, error);
    }
    return split_path(p, text, body, error);
}

/* ---- decoding ---- */

typedef struct scratch {
    char text[TIDE_URL_MAX + 1];
    size_t len;
    tide_field fields[TIDE_FIELDS_MAX];
} scratch;

/* `what` names the part. A decoded text is never longer than its source, so the scratch area
 * always has room. */
static tide_status decode(scratch *s, tide_str from, tide_str *to, tide_str url, const char *what,
                          tide_error *error) {
    if (from.data == NULL) {
        *to = (tide_str){NULL, 0};
        return TIDE_OK;
    }
    char *start = s->text + s->len;
    size_t len = 0;
    for (size_t i = 0; i < from.len; i++) {
        char c = from.data[i];
        if (c == '%') {
            unsigned high = i + 2 < from.len ? hex_of(from.data[i + 1]) : 16;
            unsigned low = i + 2 < from.len ? hex_of(from.data[i + 2]) : 16;
            if (high > 15 || low > 15) {
                return fail(error, TIDE_URL, url, "a %% without two hex digits in the %s", what);
            }
            c = (char)(unsigned char)(high << 4 | low);
            if (c == '\0')
                return fail(error, TIDE_URL, url, "a NUL (%%00) in the %s", what);
            i += 2;
        }
        start[len++] = c;
    }
    s->len += len;
    *to = (tide_str){start, len};
    return TIDE_OK;
}

static tide_status parse_port(tide_str url, tide_str port, uint16_t *number, tide_error *error) {
    *number = TIDE_PORT_DEFAULT;
    if (port.data == NULL)
        return TIDE_OK;
    if (port.len == 0)
        return fail(error, TIDE_URL, url, "no port after the :");
    /* Only digits are quoted: what isn't a port may be a password whose @HOST was forgotten. */
    if (!is_digits(port))
        return fail(error, TIDE_URL, url, "a port that is not a number");
    uint64_t value = UINT64_MAX;
    if (!tide_u64_parse(port, &value) || value < 1 || value > 65535) {
        char shown[24];
        tide_text_escape(shown, sizeof shown, port);
        return fail(error, TIDE_URL, url, "port %s is out of range (1 to 65535)", shown);
    }
    *number = (uint16_t)value;
    return TIDE_OK;
}

static tide_status parse_db(tide_status status, tide_str url, tide_str text, uint32_t *db,
                            tide_error *error) {
    uint64_t value;
    char shown[40];
    tide_text_escape(shown, sizeof shown, text);
    if (!is_digits(text))
        return fail(error, status, url, "database %s is not a number", shown);
    if (!tide_u64_parse(text, &value) || value > TIDE_DB_MAX) {
        return fail(error, status, url, "database %s is out of range (0 to %d)", shown,
                    TIDE_DB_MAX);
    }
    *db = (uint32_t)value;
    return TIDE_OK;
}

static bool is_host_byte(char c, bool bracketed) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != '\0' && strchr(bracketed ? ":.%-_~" : ".-_~", c) != NULL;
}

static tide_status check_host(tide_str url, const tide_url *u, bool bracketed, tide_error *error) {
    if (u->host.len > 255)
        return fail(error, TIDE_URL, url, "a host of more than 255 bytes");
    for (size_t i = 0; i < u->host.len; i++) {
        if (!is_host_byte(u->host.data[i], bracketed)) {
            return fail(error, TIDE_URL, url, "a host with a byte that no host name has (0x%02x)",
                        (unsigned)(unsigned char)u->host.data[i]);
        }
    }
    if (bracketed && find_any(u->host, 0, ":") == u->host.len) {
        return fail(error, TIDE_URL, url, "brackets around something that is no IPv6 address");
    }
    return TIDE_OK;
}

static const tide_field *find_option(const tide_field *fields, size_t count, tide_str name) {
    for (size_t i = 0; i < count; i++) {
        if (tide_str_equal(fields[i].name, name))
            return &fields[i];
    }
    return NULL;
}

static tide_status decode_query(scratch *s, tide_url *u, tide_str query, tide_str url,
                                tide_error *error) {
    u->options = s->fields;
    for (size_t at = 0; at < query.len;) {
        size_t end = find_any(query, at, "&");
        size_t equals = find_any(query, at, "=&");
        if (end > at) {
            tide_field field;
            if (u->option_count == TIDE_FIELDS_MAX) {
                return fail(error, TIDE_OPTION, url, "more than %d options", (int)TIDE_FIELDS_MAX);
            }
            tide_status status = decode(s, str_part(query, at, equals), &field.name, url,
                                        "name of an option", error);
            if (status != TIDE_OK)
                return status;
            char shown[40];
            tide_text_escape(shown, sizeof shown, field.name);
            if (field.name.len == 0)
                return fail(error, TIDE_OPTION, url, "an option without a name");
            if (equals == end) {
                /* Not quoted: it may be the second half of a value. */
                return fail(error, TIDE_OPTION, url,
                            "an option without a value (write NAME=VALUE)");
            }
            if (find_option(u->options, u->option_count, field.name) != NULL) {
                return fail(error, TIDE_OPTION, url, "option %s is given twice", shown);
            }
            status = decode(s, str_part(query, equals + 1, end), &field.value, url,
                            "value of an option", error);
            if (status != TIDE_OK)
                return status;
            s->fields[u->option_count++] = field;
        }
        at = end + 1;
    }
    return TIDE_OK;
}

/* Takes user, password and db from options. */
static tide_status take_identity(tide_url *u, const tide_field *fields, size_t count, bool replace,
                                 tide_str url, tide_error *error) {
    const tide_field *user = find_option(fields, count, TIDE_STR("user"));
    const tide_field *password = find_option(fields, count, TIDE_STR("password"));
    const tide_field *db = find_option(fields, count, TIDE_STR("db"));
    bool server = u->scheme != TIDE_SCHEME_FILE && u->scheme != TIDE_SCHEME_MEMORY;
    /* url_option.c says what is wrong with them there. */
    if (!server)
        return TIDE_OK;
    if (!replace && ((user != NULL && u->user.data != NULL) ||
                     (password != NULL && u->password.data != NULL))) {
        return fail(error, TIDE_OPTION, url, "user or password both before the @ and as an option");
    }
    if (user != NULL)
        u->user = user->value;
    if (password != NULL)
        u->password = password->value;
    return db != NULL ? parse_db(TIDE_OPTION, url, db->value, &u->db, error) : TIDE_OK;
}

/* ---- packing ---- */

static void put(char **at, tide_str *str) {
    if (str->data == NULL)
        return;
    if (str->len > 0)
        memcpy(*at, str->data, str->len);
    (*at)[str->len] = '\0';
    str->data = *at;
    *at += str->len + 1;
}

/* Copies all that `from` points to into one block of its own: the result is `to`. */
static tide_status pack(tide_url *to, const tide_url *from) {
    tide_url made = *from;
    made.memory_size = made.option_count * sizeof(tide_field) + 1;
    tide_str *strings[] = {&made.host, &made.path, &made.user, &made.password};
    for (size_t i = 0; i < 4; i++)
        made.memory_size += strings[i]->len + 1;
    for (size_t i = 0; i < made.option_count; i++) {
        made.memory_size += from->options[i].name.len + from->options[i].value.len + 2;
    }
    made.memory = tide_alloc(&made.alloc, made.memory_size);
    if (made.memory == NULL)
        return TIDE_ENOMEM;
    made.options = made.memory;
    char *at = (char *)made.memory + made.option_count * sizeof(tide_field);
    for (size_t i = 0; i < 4; i++)
        put(&at, strings[i]);
    for (size_t i = 0; i < made.option_count; i++) {
        made.options[i] = from->options[i];
        put(&at, &made.options[i].name);
        put(&at, &made.options[i].value);
    }
    *to = made;
    return TIDE_OK;
}

/* Not optimised away, as a memset before a free would be. */
static void wipe(void *memory, size_t size) {
    volatile char *at = memory;
    while (size-- > 0)
        *at++ = 0;
}

static tide_status parse(tide_url *u, scratch *s, tide_str text, tide_error *error) {
    parts p = {.scheme = TIDE_SCHEME_MEMORY};
    tide_status status = split(&p, text, error);
    if (status != TIDE_OK)
        return status;
    bool server = p.scheme == TIDE_SCHEME_REDIS || p.scheme == TIDE_SCHEME_REDIS_TLS;
    u->scheme = p.scheme;
    if ((status = decode(s, p.user, &u->user, text, "user", error)) != TIDE_OK ||
        (status = decode(s, p.password, &u->password, text, "password", error)) != TIDE_OK ||
        (status = decode(s, p.host, &u->host, text, "host", error)) != TIDE_OK) {
        return status;
    }
    bool has_db = false;
    if (server) {
        bool bracketed = p.host.len > 0 && p.host.data > text.data && p.host.data[-1] == '[';
        if ((status = check_host(text, u, bracketed, error)) != TIDE_OK ||
            (status = parse_port(text, p.port, &u->port, error)) != TIDE_OK) {
            return status;
        }
        has_db = p.path.len > 0;
        if (has_db && (status = parse_db(TIDE_URL, text, p.path, &u->db, error)) != TIDE_OK) {
            return status;
        }
    } else {
        status = decode(s, p.path, &u->path, text, "path", error);
        if (status != TIDE_OK)
            return status;
        /* SQLite would take this name for a database in memory that is lost without a word. */
        if (p.scheme == TIDE_SCHEME_FILE && u->path.data[0] == ':') {
            return fail(error, TIDE_URL, text,
                        "a path that begins with : (write memory: or file:./:NAME)");
        }
    }
    status = decode_query(s, u, p.query, text, error);
    if (status != TIDE_OK)
        return status;
    if (has_db && find_option(u->options, u->option_count, TIDE_STR("db")) != NULL) {
        return fail(error, TIDE_OPTION, text, "the database both as /%u and as an option",
                    (unsigned)u->db);
    }
    return take_identity(u, u->options, u->option_count, false, text, error);
}

tide_status tide_url_parse(tide_url *url, const tide_allocator *alloc, tide_str text,
                           tide_error *error) {
    scratch s;
    s.len = 0;
    tide_url parsed = {.alloc = *alloc};
    *url = (tide_url){.alloc = *alloc};
    tide_status status = parse(&parsed, &s, text, error);
    if (status == TIDE_OK) {
        status = pack(url, &parsed);
        if (status != TIDE_OK)
            tide_error_set(error, status, "no memory for the URL");
    }
    wipe(s.text, s.len);
    return status;
}

tide_status tide_url_merge(tide_url *url, const tide_field *options, size_t count,
                           tide_error *error) {
    tide_field fields[TIDE_FIELDS_MAX];
    if (count == 0)
        return TIDE_OK;
    tide_url merged = *url;
    merged.options = fields;
    if (url->option_count > 0) {
        memcpy(fields, url->options, url->option_count * sizeof *fields);
    }
    for (size_t i = 0; i < count; i++) {
        const tide_field *option = &options[i];
        char shown[40];
        tide_text_escape(shown, sizeof shown, option->name);
        if (option->name.len == 0) {
            return tide_error_set(error, TIDE_OPTION, "an option without a name");
        }
        if (find_option(options, i, option->name) != NULL) {
            return tide_error_set(error, TIDE_OPTION, "option %s is given twice", shown);
        }
        if (option->name.len > TIDE_URL_MAX || option->value.len > TIDE_URL_MAX) {
            return tide_error_set(error, TIDE_OPTION, "option %s has more than %d bytes", shown,
                                  (int)TIDE_URL_MAX);
        }
        if (memchr(option->name.data, '\0', option->name.len) != NULL ||
            (option->value.len > 0 &&
             memchr(option->value.data, '\0', option->value.len) != NULL)) {
            return tide_error_set(error, TIDE_OPTION, "option %s holds a NUL", shown);
        }
        tide_str value = option->value.data != NULL ? option->value : TIDE_STR("");
        tide_field *place = NULL;
        for (size_t k = 0; k < merged.option_count && place == NULL; k++) {
            if (tide_str_equal(fields[k].name, option->name))
                place = &fields[k];
        }
        if (place == NULL) {
            if (merged.option_count == TIDE_FIELDS_MAX) {
                return tide_error_set(error, TIDE_OPTION, "more than %d options",
                                      (int)TIDE_FIELDS_MAX);
            }
            place = &fields[merged.option_count++];
        }
        *place = (tide_field){option->name, value};
    }
    tide_status status =
        take_identity(&merged, fields, merged.option_count, true, TIDE_STR("the options"), error);
    if (status != TIDE_OK)
        return status;
    tide_url packed;
    status = pack(&packed, &merged);
    if (status != TIDE_OK)
        return tide_error_set(error, status, "no memory for the options");
    tide_url_deinit(url);
    *url = packed;
    return TIDE_OK;
}

void tide_url_deinit(tide_url *url) {
    if (url->memory != NULL) {
        wipe(url->memory, url->memory_size);
        tide_free(&url->alloc, url->memory, url->memory_size);
    }
    *url = (tide_url){.alloc = url->alloc};
}
