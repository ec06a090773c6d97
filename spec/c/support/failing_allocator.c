/* SPDX-License-Identifier: MIT */
/*
 * What it is: malloc with a header and a guard around each block, a count, and failures on demand.
 * What it is not: fast, or safe for several threads.
 * Invariants: a block that fails its checks ends the program, so a test can't pass over it.
 */
#include "failing_allocator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    uint64_t mark;
    size_t size;
    failing_allocator *owner;
    _Alignas(max_align_t) unsigned char data[];
} block;

static const uint64_t mark_alive = UINT64_C(0x7469646561667265);
static const unsigned char guard[8] = {0xfa, 0xce, 0xfe, 0xed, 0xfa, 0xce, 0xfe, 0xed};

static void die(const char *what, size_t have, size_t told) {
    fprintf(stderr, "failing_allocator: %s (block of %zu bytes, told %zu)\n", what, have, told);
    abort();
}

static block *block_of(failing_allocator *memory, void *ptr, size_t old_size) {
    block *found = (block *)(void *)((char *)ptr - offsetof(block, data));
    if (found->mark != mark_alive) {
        die("not a live block", 0, old_size);
    }
    if (found->owner != memory) {
        die("a block of another allocator", found->size, old_size);
    }
    if (found->size != old_size) {
        die("wrong old size", found->size, old_size);
    }
    if (memcmp(found->data + found->size, guard, sizeof guard) != 0) {
        die("written beyond the end", found->size, old_size);
    }
    return found;
}

static void release(failing_allocator *memory, block *old) {
    memory->live_blocks--;
    memory->live_bytes -= old->size;
    old->mark = 0;
    memset(old->data, 0xdd, old->size);
    free(old);
}

static void *failing_realloc(void *context, void *ptr, size_t old_size, size_t new_size) {
    failing_allocator *memory = context;
    if (ptr == NULL && old_size != 0) {
        die("no block, but an old size", 0, old_size);
    }
    block *old = ptr != NULL ? block_of(memory, ptr, old_size) : NULL;
    if (new_size == 0) {
        if (old == NULL) {
            die("neither a block nor a size", 0, 0);
        }
        release(memory, old);
        return NULL;
    }
    memory->asked++;
    bool refuse =
        memory->fail_at != 0 && (memory->asked == memory->fail_at ||
                                 (memory->from_then_on && memory->asked > memory->fail_at));
    block *made = NULL;
    if (!refuse && new_size <= SIZE_MAX - sizeof(block) - sizeof guard) {
        made = malloc(sizeof(block) + new_size + sizeof guard);
    }
    if (made == NULL) {
        memory->failed++;
        return NULL;
    }
    made->mark = mark_alive;
    made->size = new_size;
    made->owner = memory;
    size_t kept = old_size < new_size ? old_size : new_size;
    if (old != NULL) {
        memcpy(made->data, old->data, kept);
    }
    memset(made->data + kept, 0xa5, new_size - kept);
    memcpy(made->data + new_size, guard, sizeof guard);
    memory->live_blocks++;
    memory->live_bytes += new_size;
    if (memory->live_bytes > memory->peak_bytes) {
        memory->peak_bytes = memory->live_bytes;
    }
    if (old != NULL) {
        release(memory, old);
    }
    return made->data;
}

tide_allocator failing_allocator_init(failing_allocator *memory, uint64_t fail_at,
                                      bool from_then_on) {
    *memory = (failing_allocator){.fail_at = fail_at, .from_then_on = from_then_on};
    return (tide_allocator){failing_realloc, memory};
}

size_t failing_allocator_live_bytes(const failing_allocator *memory) {
    return memory->live_bytes;
}

size_t failing_allocator_live_blocks(const failing_allocator *memory) {
    return memory->live_blocks;
}
