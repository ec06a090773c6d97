/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BINDING_SCRATCH_H
#define TIDE_BINDING_SCRATCH_H

#include <string.h>

#include "base/alloc.h"

/* Bytes for one call into the engine: objects are built one after another, each contiguous, and stay where they are until
 * the reset. Belongs to a userdata, so that an error raised half-way leaks nothing. */
typedef struct tide_scratch_block {
    struct tide_scratch_block *next;
    size_t size; /* of data */
    char data[];
} tide_scratch_block;

typedef struct tide_scratch {
    tide_allocator alloc;
    tide_scratch_block *blocks; /* newest first */
    char *object;               /* where the object under construction begins */
    char *end;                  /* where it ends so far */
    char *limit;
} tide_scratch;

void tide_scratch_init(tide_scratch *scratch);
void tide_scratch_deinit(tide_scratch *scratch);
/* Forgets every object; keeps one block unless it is larger than 1 MiB. */
void tide_scratch_reset(tide_scratch *scratch);
bool tide__scratch_grow(tide_scratch *scratch, size_t size);

/* Where `size` more bytes of the object can be written; NULL when there is no memory. Moves the object, never a finished
 * one. What was written is counted by moving `end`. */
static inline char *tide_scratch_room(tide_scratch *scratch, size_t size) {
    if ((size_t)(scratch->limit - scratch->end) < size && !tide__scratch_grow(scratch, size))
        return NULL;
    return scratch->end;
}
static inline bool tide_scratch_append(tide_scratch *scratch, const char *bytes, size_t size) {
    if (size == 0)
        return true; /* there may be no block yet */
    char *room = tide_scratch_room(scratch, size);
    if (room == NULL)
        return false;
    memcpy(room, bytes, size);
    scratch->end += size;
    return true;
}
/* Ends the object; valid until the reset. */
static inline tide_str tide_scratch_finish(tide_scratch *scratch) {
    tide_str made = {scratch->object, (size_t)(scratch->end - scratch->object)};
    scratch->object = scratch->end;
    return made;
}
/* Throws the unfinished object away. */
static inline void tide_scratch_drop(tide_scratch *scratch) {
    scratch->end = scratch->object;
}

#endif
