/* SPDX-License-Identifier: MIT */
/*
 * What it is: the batch of entries that both adapters hand out, and the names of keys derived from a stream.
 * What it is not: a container that grows.
 * Invariants: one block holds the head, `capacity` entries and the fields behind them; count <= capacity; the backing
 * (whatever the fields point into) goes exactly once, with the batch.
 */
#include "broker/broker.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

_Static_assert(sizeof(tide_batch) % _Alignof(tide_entry) == 0, "entries follow the head");
_Static_assert(sizeof(tide_entry) % _Alignof(tide_field) == 0, "fields follow the entries");

tide_batch *tide_batch_create(const tide_allocator *alloc, size_t capacity, size_t fields) {
    size_t room = SIZE_MAX - sizeof(tide_batch);
    if (capacity > room / sizeof(tide_entry))
        return NULL;
    room -= capacity * sizeof(tide_entry);
    if (fields > room / sizeof(tide_field))
        return NULL;
    size_t size = sizeof(tide_batch) + capacity * sizeof(tide_entry) + fields * sizeof(tide_field);
    tide_batch *batch = tide_alloc(alloc, size);
    if (batch == NULL)
        return NULL;
    *batch = (tide_batch){.alloc = alloc,
                          .entries = (tide_entry *)(void *)(batch + 1),
                          .capacity = capacity,
                          .size = size};
    return batch;
}

tide_field *tide_batch_fields(tide_batch *batch) {
    return (tide_field *)(void *)(batch->entries + batch->capacity);
}

size_t tide_batch_count(const tide_batch *batch) {
    return batch->count;
}

const tide_entry *tide_batch_entry(const tide_batch *batch, size_t index) {
    TIDE_ASSERT(index < batch->count);
    return &batch->entries[index];
}

void tide_batch_release(tide_batch *batch) {
    if (batch == NULL)
        return;
    if (batch->release_backing != NULL)
        batch->release_backing(batch->backing);
    tide_free(batch->alloc, batch, batch->size);
}

/* Whether the server hashes only a part of this key: the bytes between the first '{' and the next '}', if any. */
static bool has_hash_tag(tide_str key) {
    const char *open = key.len > 0 ? memchr(key.data, '{', key.len) : NULL;
    if (open == NULL)
        return false;
    const char *inside = open + 1;
    const char *close = memchr(inside, '}', (size_t)(key.data + key.len - inside));
    return close != NULL && close > inside;
}

size_t tide_derived_key(char *out, tide_str stream, tide_str suffix) {
    bool tagged = has_hash_tag(stream);
    char *at = out;
    if (!tagged)
        *at++ = '{';
    if (stream.len > 0)
        memcpy(at, stream.data, stream.len);
    at += stream.len;
    if (!tagged)
        *at++ = '}';
    *at++ = ':';
    if (suffix.len > 0)
        memcpy(at, suffix.data, suffix.len);
    at += suffix.len;
    return (size_t)(at - out);
}
