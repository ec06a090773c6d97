/* SPDX-License-Identifier: MIT */
/*
 * What it is: how a tide_error is filled and a log line is made: formatted into a bounded buffer,
 * then escaped.
 * What it is not: a logger with levels, rates or files; the sink decides.
 * Invariants: what comes out is one line of valid UTF-8 without control characters, whatever went
 * in, because server texts and names from the network are put into messages.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"

enum { LINE_MAX_BYTES = 4096 };

/* Formats into `out` (cut when longer) and says how long it is. */
static size_t format_cut(char *out, size_t size, const char *format, va_list args) {
    int printed = vsnprintf(out, size, format, args);
    if (printed < 0) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)printed < size ? (size_t)printed : size - 1;
}

tide_status tide_error_set(tide_error *error, tide_status status, const char *format, ...) {
    if (error == NULL)
        return status;
    /* Longer than the message, so that what was cut shows as such; its own, so that the old
     * message may be an argument of the new one. */
    char text[2 * TIDE_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    size_t len = format_cut(text, sizeof text, format, args);
    va_end(args);
    error->status = status;
    error->server[0] = '\0';
    tide_text_escape(error->message, sizeof error->message, (tide_str){text, len});
    return status;
}

void tide_error_clear(tide_error *error) {
    if (error == NULL)
        return;
    error->status = TIDE_OK;
    error->message[0] = '\0';
    error->server[0] = '\0';
}

void tide_log(const tide_log_sink *sink, tide_log_level level, const char *format, ...) {
    if (sink == NULL || sink->write == NULL)
        return;
    char text[LINE_MAX_BYTES + 1];
    char line[LINE_MAX_BYTES + 1];
    va_list args;
    va_start(args, format);
    size_t len = format_cut(text, sizeof text, format, args);
    va_end(args);
    size_t line_len = tide_text_escape(line, sizeof line, (tide_str){text, len});
    sink->write(sink->context, level, (tide_str){line, line_len});
}
