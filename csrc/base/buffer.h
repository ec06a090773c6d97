/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_BUFFER_H
#define TIDE_BASE_BUFFER_H

#include <string.h>

#include <tidemill/types.h>

#include "base/text.h"

/* A growing run of bytes, written at its end and read from its front. Caller's memory
 * (init/deinit). Reading moves `begin`; the room before it is reused when the buffer is empty or
 * must grow. An append that fails leaves the content as it was and sets the sticky `failed`, so
 * that a run of appends is checked once. */
typedef struct tide_buffer {
    const tide_allocator *alloc; /* outlives the buffer */
    char *data;
    size_t begin;
    size_t end;
    size_t capacity;
    size_t max; /* most bytes it may hold; more is TIDE_LIMIT */
    bool failed;
} tide_buffer;

void tide_buffer_init(tide_buffer *buffer, const tide_allocator *alloc, size_t max);
void tide_buffer_deinit(tide_buffer *buffer);

/* Bytes not yet read. */
static inline size_t tide_buffer_size(const tide_buffer *buffer) {
    return buffer->end - buffer->begin;
}
/* The first unread byte; valid until the next append or reserve. */
static inline char *tide_buffer_data(const tide_buffer *buffer) {
    return buffer->begin > 0 ? buffer->data + buffer->begin
                             : buffer->data; /* NULL + 0 is undefined */
}

/* The slow path of what follows: room for `size` more bytes behind `end`. TIDE_OK, TIDE_ENOMEM
 * or TIDE_LIMIT. */
tide_status tide__buffer_grow(tide_buffer *buffer, size_t size);

/* True when `size` more bytes fit without growing or passing `max`. */
static inline bool tide__buffer_fits(const tide_buffer *buffer, size_t size) {
    return size <= buffer->capacity - buffer->end &&
           buffer->end - buffer->begin + size <= buffer->max && buffer->data != NULL;
}

/* Makes room for `size` more bytes and says where; tide_buffer_commit counts what was really
 * written there. NULL (and failed) when there is no memory or `max` would be passed. */
static inline char *tide_buffer_reserve(tide_buffer *buffer, size_t size) {
    if (!tide__buffer_fits(buffer, size) && tide__buffer_grow(buffer, size) != TIDE_OK)
        return NULL;
    return buffer->data + buffer->end;
}
static inline void tide_buffer_commit(tide_buffer *buffer, size_t size) {
    buffer->end += size;
}

/* TIDE_OK, TIDE_ENOMEM or TIDE_LIMIT. `data` is not a part of the buffer. After a failure later
 * appends that fit are still written: `failed` says that the run as a whole is to be thrown
 * away. */
static inline tide_status tide_buffer_append(tide_buffer *buffer, const void *data, size_t size) {
    if (!tide__buffer_fits(buffer, size)) {
        tide_status status = tide__buffer_grow(buffer, size);
        if (status != TIDE_OK)
            return status;
    }
    if (size > 0)
        memcpy(buffer->data + buffer->end, data, size);
    buffer->end += size;
    return TIDE_OK;
}
static inline tide_status tide_buffer_append_str(tide_buffer *buffer, tide_str str) {
    return tide_buffer_append(buffer, str.data, str.len);
}
static inline tide_status tide_buffer_append_u64(tide_buffer *buffer,
                                                 uint64_t number) { /* decimal */
    if (tide__buffer_fits(buffer, TIDE_U64_DIGITS_MAX)) {
        buffer->end += tide_u64_format(buffer->data + buffer->end, number);
        return TIDE_OK;
    }
    char text[TIDE_U64_DIGITS_MAX];
    return tide_buffer_append(buffer, text, tide_u64_format(text, number));
}
tide_status tide_buffer_append_i64(tide_buffer *buffer, int64_t number); /* decimal */
tide_status tide_buffer_append_format(tide_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Reads `size` bytes away from the front. */
void tide_buffer_consume(tide_buffer *buffer, size_t size);
/* Forgets content and failure, keeps the memory unless it is larger than `keep_max` bytes. */
void tide_buffer_clear(tide_buffer *buffer, size_t keep_max);

#endif
