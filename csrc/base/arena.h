/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_ARENA_H
#define TIDE_BASE_ARENA_H

#include <tidemill/types.h>

/* Bump allocation in blocks that are freed, or reused, all at once. Caller's memory. Pointers
 * stay until tide_arena_reset or deinit. */
typedef struct tide_arena_block tide_arena_block;
typedef struct tide_arena {
    const tide_allocator *alloc;
    tide_arena_block *blocks; /* newest first */
    char *next;
    char *limit;
    size_t block_size;
    size_t used; /* bytes handed out since the reset */
} tide_arena;

void tide_arena_init(tide_arena *arena, const tide_allocator *alloc, size_t block_size);
void tide_arena_deinit(tide_arena *arena);
/* Forgets everything handed out; keeps one block for reuse. */
void tide_arena_reset(tide_arena *arena);

/* What the two below do when the current block has no room. */
void *tide__arena_alloc_slow(tide_arena *arena, size_t size);

/* Memory aligned for any object, not cleared; NULL when there is none. */
static inline void *tide_arena_alloc(tide_arena *arena, size_t size) {
    size_t padding = (size_t)(0 - (uintptr_t)arena->next) & (_Alignof(max_align_t) - 1);
    size_t room = (size_t)((uintptr_t)arena->limit - (uintptr_t)arena->next);
    if (size == 0)
        size = 1;
    if (size > room || padding > room - size)
        return tide__arena_alloc_slow(arena, size);
    char *ptr = arena->next + padding;
    arena->next = ptr + size;
    arena->used += padding + size;
    return ptr;
}
/* Bytes without alignment, for text. */
static inline char *tide_arena_bytes(tide_arena *arena, size_t size) {
    size_t room = (size_t)((uintptr_t)arena->limit - (uintptr_t)arena->next);
    if (size == 0)
        size = 1;
    if (size > room)
        return (char *)tide__arena_alloc_slow(arena, size);
    char *ptr = arena->next;
    arena->next = ptr + size;
    arena->used += size;
    return ptr;
}
/* A copy with a NUL beyond its end; data NULL when there is no memory. */
tide_str tide_arena_copy(tide_arena *arena, tide_str from);

#endif
