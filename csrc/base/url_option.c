/* SPDX-License-Identifier: MIT */
/*
 * What it is: the options of a URL: names, types, ranges, defaults, which scheme has which.
 * What it is not: where options have their effect; adapters and transports read the struct.
 * Invariants: the table below is the only list of options; a name that isn't in it is refused,
 * never ignored.
 */
#include "base/url_option.h"

#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "base/url.h"

typedef enum option_kind {
    KIND_DURATION,
    KIND_DURATION_OR_ZERO,
    KIND_COUNT,
    KIND_BOOL,
    KIND_SYNCHRONOUS,
    KIND_FILE,
    KIND_NAME,
    KIND_IDENTITY /* user, password, db: in tide_url */
} option_kind;

enum {
    ON_MEMORY = 1 << TIDE_SCHEME_MEMORY,
    ON_FILE = 1 << TIDE_SCHEME_FILE,
    ON_TLS = 1 << TIDE_SCHEME_REDIS_TLS,
    ON_SERVER = 1 << TIDE_SCHEME_REDIS | ON_TLS | 1 << TIDE_SCHEME_UNIX,
    ON_EMBEDDED = ON_MEMORY | ON_FILE,
    OPTION_COUNT_MAX = 32
};

static const int64_t second = 1000000;

#define DAY        INT64_C(86400000000)
#define AT(member) offsetof(tide_url_options, member)
static const struct {
    const char *name;
    option_kind kind;
    int on;
    size_t offset;
    int64_t least; /* durations: in us */
    int64_t most;
    const char *range;
} table[] = {
    {"connect_timeout", KIND_DURATION, ON_SERVER, AT(connect_timeout_us), 1000, DAY, "1ms to 24h"},
    {"timeout", KIND_DURATION, ON_SERVER, AT(timeout_us), 1000, DAY, "1ms to 24h"},
    {"keepalive", KIND_DURATION_OR_ZERO, ON_SERVER, AT(keepalive_us), 1000000, DAY,
     "1s to 24h, or 0 for none"},
    {"name", KIND_NAME, ON_SERVER, AT(name), 0, 0, NULL},
    {"user", KIND_IDENTITY, ON_SERVER, 0, 0, 0, NULL},
    {"password", KIND_IDENTITY, ON_SERVER, 0, 0, 0, NULL},
    {"password_file", KIND_FILE, ON_SERVER, AT(password_file), 0, 0, NULL},
    {"db", KIND_IDENTITY, ON_SERVER, 0, 0, 0, NULL},
    {"ca", KIND_FILE, ON_TLS, AT(ca), 0, 0, NULL},
    {"cert", KIND_FILE, ON_TLS, AT(cert), 0, 0, NULL},
    {"key", KIND_FILE, ON_TLS, AT(key), 0, 0, NULL},
    {"server_name", KIND_NAME, ON_TLS, AT(server_name), 0, 0, NULL},
    {"insecure", KIND_BOOL, ON_TLS, AT(insecure), 0, 0, NULL},
    {"synchronous", KIND_SYNCHRONOUS, ON_FILE, AT(synchronous), 0, 0, NULL},
    {"busy_timeout", KIND_DURATION_OR_ZERO, ON_FILE, AT(busy_timeout_us), 1000, DAY,
     "1ms to 24h, or 0 for none"},
    {"max_len", KIND_COUNT, ON_EMBEDDED, AT(max_len), 0, 0, NULL},
    {"max_age", KIND_DURATION, ON_EMBEDDED, AT(max_age_us), 1000, 36500 * DAY, "1ms to 36500d"},
};
#undef AT
enum { OPTION_COUNT = sizeof table / sizeof *table };

static bool find(tide_str name, size_t *row) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (tide_str_equal(name, tide_str_from(table[i].name))) {
            *row = i;
            return true;
        }
    }
    return false;
}

bool tide__url_option_is_public(tide_str name) {
    size_t row;
    return find(name, &row) && !tide_str_equal(name, TIDE_STR("password"));
}

bool tide_duration_parse(tide_str text, int64_t *duration_us) {
    static const struct {
        const char *name;
        int64_t us;
    } units[] = {{"", 1000000},
                 {"ms", 1000},
                 {"s", 1000000},
                 {"m", 60 * 1000000},
                 {"h", 3600 * INT64_C(1000000)},
                 {"d", DAY}};
    /* Eight digits of a day are the most that 63 bits hold; what is cut off is under a
     * millisecond. */
    enum { FRACTION_DIGITS = 8 };
    size_t whole_len = 0;
    while (whole_len < text.len && text.data[whole_len] >= '0' && text.data[whole_len] <= '9') {
        whole_len++;
    }
    size_t at = whole_len;
    int64_t fraction = 0;
    int64_t scale = 1;
    if (at < text.len && text.data[at] == '.') {
        size_t digits = 0;
        for (at++; at < text.len && text.data[at] >= '0' && text.data[at] <= '9'; at++, digits++) {
            if (digits < FRACTION_DIGITS) {
                fraction = fraction * 10 + (text.data[at] - '0');
                scale *= 10;
            }
        }
        if (digits == 0)
            return false;
    }
    uint64_t whole;
    if (!tide_u64_parse((tide_str){text.data, whole_len}, &whole))
        return false;
    tide_str unit = {text.data + at, text.len - at};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!tide_str_equal(unit, tide_str_from(units[i].name)))
            continue;
        int64_t rest = fraction * units[i].us / scale;
        if (whole > (uint64_t)((INT64_MAX - rest) / units[i].us))
            return false;
        *duration_us = (int64_t)whole * units[i].us + rest;
        return true;
    }
    return false;
}

static bool parse_bool(tide_str text, bool *value) {
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};
    for (size_t i = 0; i < 8; i++) {
        if (tide_str_equal_nocase(text, tide_str_from(words[i / 4][i % 4]))) {
            *value = i / 4 == 1;
            return true;
        }
    }
    return false;
}

static bool parse_synchronous(tide_str text, tide_synchronous *value) {
    static const char *const words[] = {"full", "normal", "off"};
    for (size_t i = 0; i < 3; i++) {
        if (tide_str_equal_nocase(text, tide_str_from(words[i]))) {
            *value = (tide_synchronous)i;
            return true;
        }
    }
    return false;
}

/* What CLIENT SETNAME and a server name take: one word of printable ASCII. */
static bool is_word(tide_str text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '!' || text.data[i] > '~')
            return false;
    }
    return text.len > 0 && text.len <= TIDE_NAME_MAX;
}

static tide_status unknown(tide_str name, tide_error *error) {
    const char *names[OPTION_COUNT_MAX] = {NULL};
    for (size_t i = 0; i < OPTION_COUNT; i++)
        names[i] = table[i].name;
    char shown[64];
    tide_text_escape(shown, sizeof shown, name);
    const char *nearest = tide_nearest(name, names);
    if (nearest != NULL) {
        return tide_error_set(error, TIDE_OPTION, "unknown option %s in the URL (did you mean %s?)",
                              shown, nearest);
    }
    return tide_error_set(error, TIDE_OPTION, "unknown option %s in the URL", shown);
}

static tide_status parse_option(tide_url_options *options, const tide_url *url,
                                const tide_field *option, tide_error *error) {
    size_t row;
    if (!find(option->name, &row))
        return unknown(option->name, error);
    const char *name = table[row].name;
    if ((table[row].on & 1 << url->scheme) == 0) {
        return tide_error_set(error, TIDE_OPTION, "option %s is only for %s", name,
                              table[row].on == ON_TLS      ? "rediss:// and valkeys://"
                              : table[row].on == ON_SERVER ? "a server's URL (redis://, unix:, …)"
                              : table[row].on == ON_FILE   ? "file:"
                                                           : "file: and memory:");
    }
    char shown[64];
    tide_text_escape(shown, sizeof shown, option->value);
    void *place = (char *)options + table[row].offset;
    switch (table[row].kind) {
    case KIND_DURATION:
    case KIND_DURATION_OR_ZERO: {
        int64_t value;
        if (!tide_duration_parse(option->value, &value)) {
            return tide_error_set(
                error, TIDE_OPTION,
                "option %s: \"%s\" is not a duration (write 250ms, 5s, 2m, 1h or 0.5)", name,
                shown);
        }
        bool zero = value == 0 && table[row].kind == KIND_DURATION_OR_ZERO;
        if (!zero && (value < table[row].least || value > table[row].most)) {
            return tide_error_set(error, TIDE_OPTION, "option %s: %s is out of range (%s)", name,
                                  shown, table[row].range);
        }
        memcpy(place, &value, sizeof value);
        break;
    }
    case KIND_COUNT: {
        uint64_t value;
        if (!tide_u64_parse(option->value, &value) || value == 0 || value > INT64_MAX) {
            return tide_error_set(error, TIDE_OPTION,
                                  "option %s: \"%s\" is not a whole number from 1 to 2^63-1", name,
                                  shown);
        }
        memcpy(place, &value, sizeof value);
        break;
    }
    case KIND_BOOL: {
        bool value;
        if (!parse_bool(option->value, &value)) {
            return tide_error_set(error, TIDE_OPTION, "option %s: \"%s\" is neither true nor false",
                                  name, shown);
        }
        memcpy(place, &value, sizeof value);
        break;
    }
    case KIND_SYNCHRONOUS: {
        tide_synchronous value;
        if (!parse_synchronous(option->value, &value)) {
            return tide_error_set(error, TIDE_OPTION,
                                  "option %s: \"%s\" is not full, normal or off", name, shown);
        }
        memcpy(place, &value, sizeof value);
        break;
    }
    case KIND_FILE:
        if (option->value.len == 0) {
            return tide_error_set(error, TIDE_OPTION, "option %s: the name of the file is empty",
                                  name);
        }
        memcpy(place, &option->value, sizeof option->value);
        break;
    case KIND_NAME:
        if (!is_word(option->value)) {
            return tide_error_set(error, TIDE_OPTION,
                                  "option %s: \"%s\" is not 1 to %d printable ASCII characters "
                                  "without spaces",
                                  name, shown, (int)TIDE_NAME_MAX);
        }
        memcpy(place, &option->value, sizeof option->value);
        break;
    case KIND_IDENTITY: break;
    }
    return TIDE_OK;
}

tide_status tide_url_options_parse(tide_url_options *options, const tide_url *url,
                                   tide_error *error) {
    tide_url_options parsed = {
        .connect_timeout_us = 5 * second,
        .timeout_us = 5 * second,
        .keepalive_us = 15 * second,
        .db = url->db,
        .synchronous = TIDE_SYNCHRONOUS_FULL,
        .busy_timeout_us = 5 * second,
    };
    for (size_t i = 0; i < url->option_count; i++) {
        tide_status status = parse_option(&parsed, url, &url->options[i], error);
        if (status != TIDE_OK)
            return status;
    }
    if ((parsed.cert.data == NULL) != (parsed.key.data == NULL)) {
        return tide_error_set(error, TIDE_OPTION,
                              "options cert and key belong together: %s is missing",
                              parsed.cert.data == NULL ? "cert" : "key");
    }
    if (parsed.password_file.data != NULL && url->password.data != NULL) {
        return tide_error_set(error, TIDE_OPTION,
                              "a password and the option password_file: only one can be right");
    }
    *options = parsed;
    return TIDE_OK;
}
