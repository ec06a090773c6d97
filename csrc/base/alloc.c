/* SPDX-License-Identifier: MIT */
/*
 * What it is: the thin layer over the injected allocator, and the default one over the C library.
 * What it is not: a pool or a cache; it keeps no state.
 * Invariants: the allocator always hears the size that was asked for before; a failed resize leaves
 * the old block.
 */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static void *default_realloc(void *context, void *ptr, size_t old_size, size_t new_size) {
    (void)context;
    (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}

tide_allocator tide_allocator_default(void) {
    return (tide_allocator){default_realloc, NULL};
}

tide_allocator tide_allocator_or_default(tide_allocator alloc) {
    return alloc.realloc != NULL ? alloc : tide_allocator_default();
}

void *tide_alloc(const tide_allocator *alloc, size_t size) {
    TIDE_ASSERT(size > 0);
    return alloc->realloc(alloc->context, NULL, 0, size);
}

void *tide_alloc_zero(const tide_allocator *alloc, size_t count, size_t size) {
    TIDE_ASSERT(count > 0 && size > 0);
    if (count > SIZE_MAX / size)
        return NULL;
    void *ptr = tide_alloc(alloc, count * size);
    if (ptr != NULL)
        memset(ptr, 0, count * size);
    return ptr;
}

void *tide_realloc(const tide_allocator *alloc, void *ptr, size_t old_size, size_t new_size) {
    TIDE_ASSERT(new_size > 0);
    return alloc->realloc(alloc->context, ptr, ptr != NULL ? old_size : 0, new_size);
}

void tide_free(const tide_allocator *alloc, void *ptr, size_t size) {
    if (ptr != NULL)
        alloc->realloc(alloc->context, ptr, size, 0);
}

tide_status tide_str_copy(const tide_allocator *alloc, tide_str from, tide_str *copy) {
    if (from.len == SIZE_MAX)
        return TIDE_ENOMEM;
    char *data = tide_alloc(alloc, from.len + 1);
    if (data == NULL)
        return TIDE_ENOMEM;
    if (from.len > 0)
        memcpy(data, from.data, from.len);
    data[from.len] = '\0';
    *copy = (tide_str){data, from.len};
    return TIDE_OK;
}

void tide_str_free(const tide_allocator *alloc, tide_str *copy) {
    /* The copy was this module's own memory, only shown as const. */
    if (copy->data != NULL)
        tide_free(alloc, (void *)(uintptr_t)copy->data, copy->len + 1);
    *copy = (tide_str){NULL, 0};
}
