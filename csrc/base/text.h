/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_TEXT_H
#define TIDE_BASE_TEXT_H

#include <string.h>

#include <tidemill/types.h>

/* Small work on bytes: comparing, numbers, ids, names for people. No locale, no allocation. */

tide_str tide_str_from(const char *text); /* of a C string; NULL gives an empty one */
static inline bool tide_str_equal(tide_str a, tide_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
bool tide_str_equal_nocase(tide_str a, tide_str b); /* ASCII */
bool tide_str_starts(tide_str text, tide_str prefix);
int tide_str_compare(tide_str a, tide_str b);
uint64_t tide_str_hash(tide_str text); /* FNV-1a 64 */

enum { TIDE_U64_DIGITS_MAX = 20, TIDE_ID_TEXT_MAX = 41 };
/* Decimal digits, no NUL; returns their number (≤ TIDE_U64_DIGITS_MAX). */
size_t tide_u64_format(char *out, uint64_t number);
/* Only digits, no sign, no overflow; false leaves `number`. */
bool tide_u64_parse(tide_str text, uint64_t *number);
/* Like it with an optional '-'. */
bool tide_i64_parse(tide_str text, int64_t *number);

/* "ms-seq", no NUL; returns the length (≤ TIDE_ID_TEXT_MAX). */
size_t tide_id_format(char *out, tide_id id);
/* "ms-seq", or "ms" alone with the sequence that `missing_seq` says. */
bool tide_id_parse(tide_str text, uint64_t missing_seq, tide_id *id);
/* < 0, 0, > 0 */
static inline int tide_id_compare(tide_id a, tide_id b) {
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return (a.seq > b.seq) - (a.seq < b.seq);
}

/* The candidate nearest to `word` by edit distance, when near enough to be a slip (≤ 1/3 of its
 * length + 1); NULL otherwise. `candidates` ends with NULL. */
const char *tide_nearest(tide_str word, const char *const *candidates);

/* Writes `text` for showing: control bytes, DEL, invalid UTF-8 and bidirectional controls as
 * \xNN, cut at `size`-1 with "…" when longer; always ends in NUL. Returns the length written. */
size_t tide_text_escape(char *out, size_t size, tide_str text);

/* Valid UTF-8 without surrogates. */
bool tide_utf8_is_valid(tide_str text);

/* Sets the error: status and a formatted message, escaped as above and cut at the message's
 * size, without the code (tide_status_code) in front; empties `server`. The old message may be
 * an argument. `error` may be NULL. Returns `status`, so that `return tide_error_set(…)` reads
 * well. */
tide_status tide_error_set(tide_error *error, tide_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tide_error_clear(tide_error *error);

/* Logs one line when there is a sink: formatted, escaped, at most 4 KiB. */
void tide_log(const tide_log_sink *sink, tide_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
