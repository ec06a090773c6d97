/* SPDX-License-Identifier: MIT */
/*
 * What it is: small work on bytes: comparing, decimal numbers, stream ids, the nearest name,
 * escaping for people.
 * What it is not: locale-aware, or a string library; nothing here allocates.
 * Invariants: no function reads beyond the length it was given, or needs a NUL there.
 */
#include "base/text.h"

#include <string.h>

tide_str tide_str_from(const char *text) {
    return text != NULL ? (tide_str){text, strlen(text)} : (tide_str){"", 0};
}

static unsigned char lower(char c) {
    unsigned char u = (unsigned char)c;
    return u >= 'A' && u <= 'Z' ? (unsigned char)(u + ('a' - 'A')) : u;
}

bool tide_str_equal_nocase(tide_str a, tide_str b) {
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    }
    return true;
}

bool tide_str_starts(tide_str text, tide_str prefix) {
    return prefix.len == 0 ||
           (prefix.len <= text.len && memcmp(text.data, prefix.data, prefix.len) == 0);
}

int tide_str_compare(tide_str a, tide_str b) {
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.data, b.data, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

uint64_t tide_str_hash(tide_str text) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Numbers: two digits at a time, each way. */

static const char pairs[201] = "00010203040506070809101112131415161718192021222324"
                               "25262728293031323334353637383940414243444546474849"
                               "50515253545556575859606162636465666768697071727374"
                               "75767778798081828384858687888990919293949596979899";

static size_t count_digits(uint64_t number) {
    size_t digits = 1;
    for (;;) {
        if (number < 10)
            return digits;
        if (number < 100)
            return digits + 1;
        if (number < 1000)
            return digits + 2;
        if (number < 10000)
            return digits + 3;
        number /= 10000;
        digits += 4;
    }
}

size_t tide_u64_format(char *out, uint64_t number) {
    size_t digits = count_digits(number);
    char *at = out + digits;
    while (number >= 100) {
        at -= 2;
        memcpy(at, pairs + (number % 100) * 2, 2);
        number /= 100;
    }
    if (number >= 10) {
        memcpy(at - 2, pairs + number * 2, 2);
    } else {
        at[-1] = (char)('0' + number);
    }
    return digits;
}

static unsigned digit_of(char c) {
    return (unsigned)(unsigned char)c - '0';
}

bool tide_u64_parse(tide_str text, uint64_t *number) {
    const char *at = text.data;
    size_t left = text.len;
    if (left == 0)
        return false;
    while (left > 1 && *at == '0') {
        at++;
        left--;
    }
    if (left > TIDE_U64_DIGITS_MAX)
        return false;
    uint64_t sum = 0;
    if (left % 2 != 0) {
        sum = digit_of(*at++);
        if (sum > 9)
            return false;
        left--;
    }
    for (; left > 0; at += 2, left -= 2) {
        unsigned tens = digit_of(at[0]);
        unsigned ones = digit_of(at[1]);
        if (tens > 9 || ones > 9)
            return false;
        unsigned pair = tens * 10 + ones;
        if (sum > UINT64_MAX / 100 || (sum == UINT64_MAX / 100 && pair > UINT64_MAX % 100))
            return false;
        sum = sum * 100 + pair;
    }
    *number = sum;
    return true;
}

bool tide_i64_parse(tide_str text, int64_t *number) {
    bool negative = text.len > 0 && text.data[0] == '-';
    if (negative)
        text = (tide_str){text.data + 1, text.len - 1};
    uint64_t magnitude;
    if (!tide_u64_parse(text, &magnitude))
        return false;
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    if (!negative) {
        *number = (int64_t)magnitude;
    } else {
        *number = magnitude == 0 ? 0 : -(int64_t)(magnitude - 1) - 1;
    }
    return true;
}

size_t tide_id_format(char *out, tide_id id) {
    size_t len = tide_u64_format(out, id.ms);
    out[len++] = '-';
    return len + tide_u64_format(out + len, id.seq);
}

bool tide_id_parse(tide_str text, uint64_t missing_seq, tide_id *id) {
    const char *dash = text.len > 0 ? memchr(text.data, '-', text.len) : NULL;
    tide_str ms = text;
    tide_id parsed = {0, missing_seq};
    if (dash != NULL) {
        ms.len = (size_t)(dash - text.data);
        tide_str seq = {dash + 1, text.len - ms.len - 1};
        if (!tide_u64_parse(seq, &parsed.seq))
            return false;
    }
    if (!tide_u64_parse(ms, &parsed.ms))
        return false;
    *id = parsed;
    return true;
}

/* Nearest name: optimal string alignment (insert, delete, replace, swap two neighbours), words
 * up to NAME_LEN_MAX. */

enum { NAME_LEN_MAX = 64 };

static size_t min3(size_t a, size_t b, size_t c) {
    size_t low = a < b ? a : b;
    return low < c ? low : c;
}

static size_t edit_distance(tide_str a, tide_str b) {
    size_t rows[3][NAME_LEN_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool same = a.data[i - 1] == b.data[j - 1];
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1));
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] &&
                a.data[i - 2] == b.data[j - 1] && above2[j - 2] + 1 < row[j]) {
                row[j] = above2[j - 2] + 1;
            }
        }
    }
    return rows[a.len % 3][b.len];
}

const char *tide_nearest(tide_str word, const char *const *candidates) {
    if (word.len == 0 || word.len > NAME_LEN_MAX)
        return NULL;
    const char *nearest = NULL;
    size_t best = word.len / 3 + 2;
    for (; *candidates != NULL; candidates++) {
        tide_str candidate = tide_str_from(*candidates);
        if (candidate.len > NAME_LEN_MAX)
            continue;
        size_t longer = word.len > candidate.len ? word.len : candidate.len;
        size_t distance = edit_distance(word, candidate);
        /* As far as it is long: they have nothing in common. */
        if (distance < best && distance < longer) {
            best = distance;
            nearest = *candidates;
        }
    }
    return nearest;
}

/* UTF-8 (RFC 3629). The length of the valid sequence at `text`, or 0; `code` is its code point. */
static size_t decode_utf8(const char *text, size_t len, uint32_t *code) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)text[0];
    size_t need;
    uint32_t value;
    if (first < 0x80) {
        *code = first;
        return 1;
    }
    if (first >= 0xc2 && first < 0xe0) {
        need = 2;
        value = first & 0x1fu;
    } else if (first >= 0xe0 && first < 0xf0) {
        need = 3;
        value = first & 0x0fu;
    } else if (first >= 0xf0 && first < 0xf5) {
        need = 4;
        value = first & 0x07u;
    } else {
        return 0;
    }
    if (need > len)
        return 0;
    for (size_t i = 1; i < need; i++) {
        unsigned char next = (unsigned char)text[i];
        if ((next & 0xc0u) != 0x80u)
            return 0;
        value = value << 6 | (next & 0x3fu);
    }
    if (value < least[need] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return need;
}

bool tide_utf8_is_valid(tide_str text) {
    for (size_t i = 0; i < text.len;) {
        /* Eight plain bytes at once. */
        if (text.len - i >= 8) {
            uint64_t eight;
            memcpy(&eight, text.data + i, 8);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += 8;
                continue;
            }
        }
        uint32_t code;
        size_t len = decode_utf8(text.data + i, text.len - i, &code);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

/* Characters that change how their neighbours look: C0, DEL, C1, line separators, bidirectional
 * controls. */
static bool is_deceptive(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x061c || code == 0x200e ||
           code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

size_t tide_text_escape(char *out, size_t size, tide_str text) {
    static const char hex[] = "0123456789abcdef";
    static const char ellipsis[] = "\xe2\x80\xa6";
    enum { ELLIPSIS_LEN = sizeof ellipsis - 1 };
    if (size == 0)
        return 0;
    size_t room = size - 1;
    size_t len = 0;
    size_t cut = 0; /* the last place where the ellipsis still fits behind a whole character */
    for (size_t i = 0; i < text.len;) {
        uint32_t code = 0;
        size_t used = decode_utf8(text.data + i, text.len - i, &code);
        bool escaped = used == 0 || is_deceptive(code);
        if (used == 0)
            used = 1;
        size_t need = escaped ? used * 4 : used;
        if (need > room - len) {
            if (room >= ELLIPSIS_LEN) {
                memcpy(out + cut, ellipsis, ELLIPSIS_LEN);
                len = cut + ELLIPSIS_LEN;
            }
            break;
        }
        for (size_t k = 0; k < used; k++) {
            unsigned char byte = (unsigned char)text.data[i + k];
            if (escaped) {
                out[len++] = '\\';
                out[len++] = 'x';
                out[len++] = hex[byte >> 4];
                out[len++] = hex[byte & 15];
            } else {
                out[len++] = (char)byte;
            }
        }
        i += used;
        if (room >= ELLIPSIS_LEN && len <= room - ELLIPSIS_LEN)
            cut = len;
    }
    out[len] = '\0';
    return len;
}
