/* SPDX-License-Identifier: MIT */
/*
 * What it is: the slow paths of the byte buffer: growing, moving to the front, formatting.
 * What it is not: a ring; the unread bytes are always one piece.
 * Invariants: begin <= end <= capacity; end - begin <= max; data is NULL when capacity is 0,
 * and only then.
 * Cost: bytes are moved to the front only when at least a quarter of the memory is then free, else
 * the memory doubles, so an appended byte is moved a bounded number of times on average.
 */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/text.h"

enum { CAPACITY_MIN = 64 };

void tide_buffer_init(tide_buffer *buffer, const tide_allocator *alloc, size_t max) {
    *buffer = (tide_buffer){.alloc = alloc, .max = max};
}

void tide_buffer_deinit(tide_buffer *buffer) {
    tide_free(buffer->alloc, buffer->data, buffer->capacity);
    tide_buffer_init(buffer, buffer->alloc, buffer->max);
}

static void move_to_front(tide_buffer *buffer) {
    size_t live = tide_buffer_size(buffer);
    if (buffer->begin > 0 && live > 0)
        memmove(buffer->data, buffer->data + buffer->begin, live);
    buffer->begin = 0;
    buffer->end = live;
}

tide_status tide__buffer_grow(tide_buffer *buffer, size_t size) {
    size_t live = tide_buffer_size(buffer);
    if (live > buffer->max || size > buffer->max - live) {
        buffer->failed = true;
        return TIDE_LIMIT;
    }
    if (buffer->data != NULL && size <= buffer->capacity - buffer->end)
        return TIDE_OK;
    size_t needed = live + size;
    if (buffer->data != NULL && needed <= buffer->capacity - buffer->capacity / 4) {
        move_to_front(buffer);
        return TIDE_OK;
    }
    size_t capacity = buffer->capacity <= SIZE_MAX / 2 ? buffer->capacity * 2 : needed;
    /* With a third more than `max` there is always a quarter to spare: it never grows beyond that. */
    size_t enough = buffer->max <= SIZE_MAX / 2 ? buffer->max + buffer->max / 3 + 4 : SIZE_MAX;
    if (capacity > enough)
        capacity = enough;
    if (capacity < needed)
        capacity = needed;
    if (capacity < CAPACITY_MIN)
        capacity = CAPACITY_MIN;
    move_to_front(buffer);
    char *data = tide_realloc(buffer->alloc, buffer->data, buffer->capacity, capacity);
    if (data == NULL) {
        if (buffer->data != NULL && needed <= buffer->capacity)
            return TIDE_OK;
        buffer->failed = true;
        return TIDE_ENOMEM;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return TIDE_OK;
}

tide_status tide_buffer_append_i64(tide_buffer *buffer, int64_t number) {
    char text[1 + TIDE_U64_DIGITS_MAX];
    size_t len = 0;
    uint64_t magnitude = (uint64_t)number;
    if (number < 0) {
        text[len++] = '-';
        magnitude = 0 - magnitude;
    }
    len += tide_u64_format(text + len, magnitude);
    return tide_buffer_append(buffer, text, len);
}

tide_status tide_buffer_append_format(tide_buffer *buffer, const char *format, ...) {
    size_t room = buffer->data != NULL ? buffer->capacity - buffer->end : 0;
    size_t allowed = buffer->max - tide_buffer_size(buffer);
    va_list args;
    va_start(args, format);
    int printed = vsnprintf(room > 0 ? buffer->data + buffer->end : NULL, room, format, args);
    va_end(args);
    if (printed < 0) {
        buffer->failed = true;
        return TIDE_ARGUMENT;
    }
    size_t len = (size_t)printed;
    if (len < room && len <= allowed) {
        buffer->end += len;
        return TIDE_OK;
    }
    /* vsnprintf wants room for its NUL, which is not counted as content. */
    if (len > allowed) {
        buffer->failed = true;
        return TIDE_LIMIT;
    }
    size_t max = buffer->max;
    if (buffer->max < SIZE_MAX)
        buffer->max++;
    tide_status status = tide__buffer_grow(buffer, len + 1);
    buffer->max = max;
    if (status != TIDE_OK)
        return status;
    va_start(args, format);
    vsnprintf(buffer->data + buffer->end, len + 1, format, args);
    va_end(args);
    buffer->end += len;
    return TIDE_OK;
}

void tide_buffer_consume(tide_buffer *buffer, size_t size) {
    TIDE_ASSERT(size <= tide_buffer_size(buffer));
    buffer->begin += size;
    if (buffer->begin == buffer->end)
        buffer->begin = buffer->end = 0;
}

void tide_buffer_clear(tide_buffer *buffer, size_t keep_max) {
    buffer->begin = buffer->end = 0;
    buffer->failed = false;
    if (buffer->capacity > keep_max)
        tide_buffer_deinit(buffer);
}
