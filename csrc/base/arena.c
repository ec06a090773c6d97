/* SPDX-License-Identifier: MIT */
/*
 * What it is: the slow paths of the arena: a new block, reset, copies.
 * What it is not: a general allocator; nothing is given back alone.
 * Invariants: [next, limit) is the free end of the current block; a block of exactly block_size may
 * be kept at reset; others (of one object that needs its own) are freed.
 */
#include "base/arena.h"

#include <string.h>

#include "base/alloc.h"

struct tide_arena_block {
    tide_arena_block *older;
    size_t size; /* of the whole, this header included */
    _Alignas(max_align_t) char data[];
};

enum { BLOCK_SIZE_MIN = 256 };

static void make_current(tide_arena *arena, tide_arena_block *block) {
    arena->next = block != NULL ? block->data : NULL;
    arena->limit = block != NULL ? (char *)block + block->size : NULL;
}

void tide_arena_init(tide_arena *arena, const tide_allocator *alloc, size_t block_size) {
    if (block_size < BLOCK_SIZE_MIN)
        block_size = BLOCK_SIZE_MIN;
    *arena = (tide_arena){.alloc = alloc, .block_size = block_size};
}

/* Frees all blocks but one of the plain size, when `keep_one`; that one is answered. */
static tide_arena_block *free_blocks(tide_arena *arena, bool keep_one) {
    tide_arena_block *kept = NULL;
    for (tide_arena_block *block = arena->blocks; block != NULL;) {
        tide_arena_block *older = block->older;
        if (keep_one && kept == NULL && block->size == arena->block_size) {
            kept = block;
            kept->older = NULL;
        } else {
            tide_free(arena->alloc, block, block->size);
        }
        block = older;
    }
    return kept;
}

void tide_arena_deinit(tide_arena *arena) {
    free_blocks(arena, false);
    *arena = (tide_arena){.alloc = arena->alloc, .block_size = arena->block_size};
}

void tide_arena_reset(tide_arena *arena) {
    if (arena->used == 0)
        return;
    arena->blocks = free_blocks(arena, true);
    make_current(arena, arena->blocks);
    arena->used = 0;
}

void *tide__arena_alloc_slow(tide_arena *arena, size_t size) {
    size_t header = offsetof(tide_arena_block, data);
    if (size > SIZE_MAX - header)
        return NULL;
    bool own = header + size > arena->block_size || size > arena->block_size / 4;
    size_t whole = own ? header + size : arena->block_size;
    tide_arena_block *block = tide_alloc(arena->alloc, whole);
    if (block == NULL)
        return NULL;
    block->older = arena->blocks;
    block->size = whole;
    arena->blocks = block;
    if (!own) {
        make_current(arena, block);
        arena->next += size;
    }
    arena->used += size;
    return block->data;
}

tide_str tide_arena_copy(tide_arena *arena, tide_str from) {
    char *data = from.len < SIZE_MAX ? tide_arena_bytes(arena, from.len + 1) : NULL;
    if (data == NULL)
        return (tide_str){NULL, 0};
    if (from.len > 0)
        memcpy(data, from.data, from.len);
    data[from.len] = '\0';
    return (tide_str){data, from.len};
}
