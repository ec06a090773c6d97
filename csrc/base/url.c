/* SPDX-License-Identifier: MIT */
/*
 * What it is: the URL of an engine, taken apart, decoded and packed into one block; and options
 * given apart from it.
 * What it is not: a general URL library, or the place that knows what an option means
 * (url_option.c).
 *
 * A URL is parsed in three steps: tide__url_split finds the parts as they stand in the text
 * (url_split.c), `decode` undoes the escapes into a scratch area on the stack, `pack` copies the
 * result into memory of the allocator.
 *
 * Invariant: nothing of a user's password reaches an error: the parts that may hold one are named,
 * never quoted, and the URL itself is shown by tide_url_redact only (url_redact.c).
 */
#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"
#include "base/url_internal.h"

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
            unsigned high = i + 2 < from.len ? tide__url_hex(from.data[i + 1]) : 16;
            unsigned low = i + 2 < from.len ? tide__url_hex(from.data[i + 2]) : 16;
            if (high > 15 || low > 15) {
                return tide__url_fail(error, TIDE_URL, url, "a %% without two hex digits in the %s",
                                      what);
            }
            c = (char)(unsigned char)(high << 4 | low);
            if (c == '\0')
                return tide__url_fail(error, TIDE_URL, url, "a NUL (%%00) in the %s", what);
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
        return tide__url_fail(error, TIDE_URL, url, "no port after the :");
    /* Only digits are quoted: what isn't a port may be a password whose @HOST was forgotten. */
    if (!tide__url_is_digits(port))
        return tide__url_fail(error, TIDE_URL, url, "a port that is not a number");
    uint64_t value = UINT64_MAX;
    if (!tide_u64_parse(port, &value) || value < 1 || value > 65535) {
        char shown[24];
        tide_text_escape(shown, sizeof shown, port);
        return tide__url_fail(error, TIDE_URL, url, "port %s is out of range (1 to 65535)", shown);
    }
    *number = (uint16_t)value;
    return TIDE_OK;
}

static tide_status parse_db(tide_status status, tide_str url, tide_str text, uint32_t *db,
                            tide_error *error) {
    uint64_t value;
    char shown[40];
    tide_text_escape(shown, sizeof shown, text);
    if (!tide__url_is_digits(text))
        return tide__url_fail(error, status, url, "database %s is not a number", shown);
    if (!tide_u64_parse(text, &value) || value > TIDE_DB_MAX) {
        return tide__url_fail(error, status, url, "database %s is out of range (0 to %d)", shown,
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
        return tide__url_fail(error, TIDE_URL, url, "a host of more than 255 bytes");
    for (size_t i = 0; i < u->host.len; i++) {
        if (!is_host_byte(u->host.data[i], bracketed)) {
            return tide__url_fail(error, TIDE_URL, url,
                                  "a host with a byte that no host name has (0x%02x)",
                                  (unsigned)(unsigned char)u->host.data[i]);
        }
    }
    if (bracketed && tide__url_find(u->host, 0, ":") == u->host.len) {
        return tide__url_fail(error, TIDE_URL, url,
                              "brackets around something that is no IPv6 address");
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
        size_t end = tide__url_find(query, at, "&");
        size_t equals = tide__url_find(query, at, "=&");
        if (end > at) {
            tide_field field;
            if (u->option_count == TIDE_FIELDS_MAX) {
                return tide__url_fail(error, TIDE_OPTION, url, "more than %d options",
                                      (int)TIDE_FIELDS_MAX);
            }
            tide_status status = decode(s, tide__url_part(query, at, equals), &field.name, url,
                                        "name of an option", error);
            if (status != TIDE_OK)
                return status;
            char shown[40];
            tide_text_escape(shown, sizeof shown, field.name);
            if (field.name.len == 0)
                return tide__url_fail(error, TIDE_OPTION, url, "an option without a name");
            if (equals == end) {
                /* Not quoted: it may be the second half of a value. */
                return tide__url_fail(error, TIDE_OPTION, url,
                                      "an option without a value (write NAME=VALUE)");
            }
            if (find_option(u->options, u->option_count, field.name) != NULL) {
                return tide__url_fail(error, TIDE_OPTION, url, "option %s is given twice", shown);
            }
            status = decode(s, tide__url_part(query, equals + 1, end), &field.value, url,
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
        return tide__url_fail(error, TIDE_OPTION, url,
                              "user or password both before the @ and as an option");
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
    tide_url_parts p = {.scheme = TIDE_SCHEME_MEMORY};
    tide_status status = tide__url_split(&p, text, error);
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
            return tide__url_fail(error, TIDE_URL, text,
                                  "a path that begins with : (write memory: or file:./:NAME)");
        }
    }
    status = decode_query(s, u, p.query, text, error);
    if (status != TIDE_OK)
        return status;
    if (has_db && find_option(u->options, u->option_count, TIDE_STR("db")) != NULL) {
        return tide__url_fail(error, TIDE_OPTION, text, "the database both as /%u and as an option",
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
