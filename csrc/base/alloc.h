/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_ALLOC_H
#define TIDE_BASE_ALLOC_H

#include <tidemill/types.h>

/* The allocator to use when none was given: realloc and free of the C library. */
tide_allocator tide_allocator_default(void);

/* `alloc` itself when it has a function, else the default. */
tide_allocator tide_allocator_or_default(tide_allocator alloc);

/* New memory, not cleared; NULL when there is none. `size` > 0. */
void *tide_alloc(const tide_allocator *alloc, size_t size);

/* New memory of count * size bytes, all zero; NULL when there is none or the product overflows. */
void *tide_alloc_zero(const tide_allocator *alloc, size_t count, size_t size);

/* Resizes; on NULL the old block stays as it was. */
void *tide_realloc(const tide_allocator *alloc, void *ptr, size_t old_size, size_t new_size);

/* Frees; NULL is fine. `size` is what was asked for. */
void tide_free(const tide_allocator *alloc, void *ptr, size_t size);

/* A copy that ends in a NUL beyond its length; NULL when there is no memory. Free with
 * tide_str_free. */
tide_status tide_str_copy(const tide_allocator *alloc, tide_str from, tide_str *copy);
void tide_str_free(const tide_allocator *alloc, tide_str *copy);

#endif
