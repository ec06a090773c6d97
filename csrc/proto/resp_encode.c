/* SPDX-License-Identifier: MIT */
/*
 * What it is: RESP requests, written argument by argument straight into an output buffer; and what an error reply's
 * first word means.
 * What it is not: a check of the command: the caller keeps the promise of tide_resp_begin's count.
 * Invariants: an argument is written whole or not at all (then the buffer's `failed` is set); room is asked for once
 * an argument.
 */
#include "proto/resp.h"

#include <string.h>

#include "base/text.h"

/* '$' or '*', digits, CR LF */
enum { HEADER_MAX = 1 + TIDE_U64_DIGITS_MAX + 2 };

/* All two-digit numbers, so that a length below 100 costs no division and a longer one half of them. */
static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536"
    "37383940414243444546474849505152535455565758596061626364656667686970717273"
    "7475767778798081828384858687888990919293949596979899";

static inline char *put_number(char *at, uint64_t number) {
    if (number < 10) {
        *at = (char)('0' + number);
        return at + 1;
    }
    if (number < 100) {
        memcpy(at, pairs + 2 * number, 2);
        return at + 2;
    }
    char text[TIDE_U64_DIGITS_MAX];
    char *first = text + sizeof text;
    while (number >= 100) {
        first -= 2;
        memcpy(first, pairs + 2 * (number % 100), 2);
        number /= 100;
    }
    if (number >= 10) {
        first -= 2;
        memcpy(first, pairs + 2 * number, 2);
    } else {
        *--first = (char)('0' + number);
    }
    size_t len = (size_t)(text + sizeof text - first);
    memcpy(at, first, len);
    return at + len;
}

static inline char *put_header(char *at, char kind, uint64_t number) {
    *at++ = kind;
    at = put_number(at, number);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

void tide_resp_begin(tide_buffer *out, size_t arg_count) {
    char *at = tide_buffer_reserve(out, HEADER_MAX);
    if (at == NULL)
        return;
    tide_buffer_commit(out, (size_t)(put_header(at, '*', arg_count) - at));
}

void tide_resp_arg(tide_buffer *out, tide_str arg) {
    if (arg.len > SIZE_MAX - HEADER_MAX - 2) {
        out->failed = true;
        return;
    }
    char *start = tide_buffer_reserve(out, arg.len + HEADER_MAX + 2);
    if (start == NULL)
        return;
    char *at = put_header(start, '$', arg.len);
    if (arg.len > 0)
        memcpy(at, arg.data, arg.len);
    at += arg.len;
    *at++ = '\r';
    *at++ = '\n';
    tide_buffer_commit(out, (size_t)(at - start));
}

void tide_resp_arg_u64(tide_buffer *out, uint64_t number) {
    char text[TIDE_U64_DIGITS_MAX];
    tide_resp_arg(out, (tide_str){text, (size_t)(put_number(text, number) - text)});
}

void tide_resp_arg_i64(tide_buffer *out, int64_t number) {
    char text[1 + TIDE_U64_DIGITS_MAX];
    char *at = text;
    uint64_t magnitude = (uint64_t)number;
    if (number < 0) {
        *at++ = '-';
        magnitude = 0 - magnitude;
    }
    at = put_number(at, magnitude);
    tide_resp_arg(out, (tide_str){text, (size_t)(at - text)});
}

void tide_resp_arg_id(tide_buffer *out, tide_id id) {
    char text[TIDE_ID_TEXT_MAX];
    char *at = put_number(text, id.ms);
    *at++ = '-';
    at = put_number(at, id.seq);
    tide_resp_arg(out, (tide_str){text, (size_t)(at - text)});
}

tide_status tide_resp_error_status(tide_str error_text) {
    static const struct {
        const char *word;
        tide_status status;
    } words[] = {
        {"LOADING", TIDE_LOADING},
        {"READONLY", TIDE_READONLY},
        /* A replica that lost its primary: like READONLY, somebody else is to be asked. */
        {"MASTERDOWN", TIDE_READONLY},
        {"OOM", TIDE_OOM},
        {"MISCONF", TIDE_MISCONF},
        /* Refused before anything was written, by the server's own setting; TIDE_REPLICAS is for a write that is
         * there and lacks confirmation. */
        {"NOREPLICAS", TIDE_MISCONF},
        {"BUSY", TIDE_BUSY},
        {"NOAUTH", TIDE_NOAUTH},
        {"WRONGPASS", TIDE_NOAUTH},
        /* Protected mode: mended like a missing password, by the operator. */
        {"DENIED", TIDE_NOAUTH},
        {"NOPERM", TIDE_NOPERM},
        {"NOGROUP", TIDE_NOGROUP},
        /* A blocked read was ended: on Redis 7.0 because its stream was deleted (newer ones say NOGROUP), or because
         * the server became a replica. Making sure of the group is right for the first, and meets READONLY at once in
         * the second. */
        {"UNBLOCKED", TIDE_NOGROUP},
        {"BUSYGROUP", TIDE_EXISTS},
        {"WRONGTYPE", TIDE_WRONGTYPE},
        {"NOSCRIPT", TIDE_NOSCRIPT},
        {"MOVED", TIDE_MOVED},
        {"ASK", TIDE_MOVED},
        {"TRYAGAIN", TIDE_MOVED},
        {"CLUSTERDOWN", TIDE_MOVED},
    };
    const char *space = error_text.len > 0 ? memchr(error_text.data, ' ', error_text.len) : NULL;
    tide_str first = {error_text.data,
                      space != NULL ? (size_t)(space - error_text.data) : error_text.len};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (tide_str_equal(first, tide_str_from(words[i].word)))
            return words[i].status;
    }
    /* The one condition that has no word of its own. */
    if (tide_str_starts(error_text, TIDE_STR("ERR max number of clients")))
        return TIDE_MAXCLIENTS;
    return TIDE_REPLY;
}
