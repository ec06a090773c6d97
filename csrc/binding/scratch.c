/* SPDX-License-Identifier: MIT */
/*
 * Blocks of bytes for building what a call hands to the engine. Not a general allocator: objects are made one at a time
 * and die together.
 * Invariants: object ≤ end ≤ limit, all three in the newest block (or all NULL when there is none).
 */
#include "binding/scratch.h"

enum { BLOCK_SIZE = 64 * 1024, KEEP_MAX = 1024 * 1024 };

void tide_scratch_init(tide_scratch *scratch) {
    *scratch = (tide_scratch){.alloc = tide_allocator_default()};
}

static void free_blocks(tide_scratch *scratch, tide_scratch_block *block) {
    while (block != NULL) {
        tide_scratch_block *next = block->next;
        tide_free(&scratch->alloc, block, sizeof *block + block->size);
        block = next;
    }
}

void tide_scratch_deinit(tide_scratch *scratch) {
    free_blocks(scratch, scratch->blocks);
    scratch->blocks = NULL;
    scratch->object = scratch->end = scratch->limit = NULL;
}

void tide_scratch_reset(tide_scratch *scratch) {
    tide_scratch_block *keep = scratch->blocks;
    if (keep == NULL)
        return;
    free_blocks(scratch, keep->next);
    keep->next = NULL;
    if (keep->size > KEEP_MAX) {
        tide_scratch_deinit(scratch);
        return;
    }
    scratch->object = scratch->end = keep->data;
    scratch->limit = keep->data + keep->size;
}

bool tide__scratch_grow(tide_scratch *scratch, size_t size) {
    size_t used = (size_t)(scratch->end - scratch->object);
    if (size > SIZE_MAX / 4 - used)
        return false;
    size_t want = (used + size) * 2;
    if (want < BLOCK_SIZE)
        want = BLOCK_SIZE;
    tide_scratch_block *block = tide_alloc(&scratch->alloc, sizeof *block + want);
    if (block == NULL)
        return false;
    block->next = scratch->blocks;
    block->size = want;
    if (used > 0)
        memcpy(block->data, scratch->object, used);
    scratch->blocks = block;
    scratch->object = block->data;
    scratch->end = block->data + used;
    scratch->limit = block->data + want;
    return true;
}
