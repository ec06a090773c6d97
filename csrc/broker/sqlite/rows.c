/* SPDX-License-Identifier: MIT */
/*
 * What it is: entries read from the tables, collected into one piece of memory, and made into a batch.
 * What it is not: a cache; the memory goes with the batch to whoever asked.
 * Invariants: two allocations a batch, however many entries; the fields of a batch point into its backing.
 */
#include "broker/sqlite/internal.h"

struct tide__sq_backing {
    const tide_allocator *alloc;
    size_t size; /* of this block */
    char bytes[];
};

static void release_backing(void *memory) {
    struct tide__sq_backing *backing = memory;
    tide_free(backing->alloc, backing, backing->size);
}

void tide__sq_rows_init(tide__sq_rows *rows, tide__sq_store *store) {
    *rows = (tide__sq_rows){.store = store};
}

void tide__sq_rows_deinit(tide__sq_rows *rows) {
    if (rows->backing != NULL)
        release_backing(rows->backing);
    rows->backing = NULL;
}

tide_str tide__sq_row_blob(const tide__sq_rows *rows, size_t index) {
    const tide__sq_row *row = &rows->rows[index];
    return (tide_str){rows->backing->bytes + row->offset, row->size};
}

static tide__sq_row *new_row(tide__sq_rows *rows) {
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? 64 : rows->capacity * 2;
        tide__sq_row *grown = tide__sq_take(rows->store, capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        if (rows->count > 0)
            memcpy(grown, rows->rows, rows->count * sizeof *grown);
        rows->rows = grown;
        rows->capacity = capacity;
    }
    return &rows->rows[rows->count];
}

static bool make_room(tide__sq_rows *rows, size_t size) {
    size_t have = rows->backing != NULL ? rows->backing->size - sizeof *rows->backing : 0;
    if (size <= have - rows->used)
        return true;
    size_t wanted = have < 16384 ? 32768 : have * 2;
    while (wanted - rows->used < size)
        wanted *= 2;
    const tide_allocator *alloc = rows->store->alloc;
    size_t block = sizeof *rows->backing + wanted;
    struct tide__sq_backing *grown =
        tide_realloc(alloc, rows->backing, rows->backing != NULL ? rows->backing->size : 0, block);
    if (grown == NULL) {
        tide__sq_no_memory(rows->store);
        return false;
    }
    grown->alloc = alloc;
    grown->size = block;
    rows->backing = grown;
    return true;
}

tide_status tide__sq_rows_add(tide__sq_rows *rows, tide_id id, uint32_t attempt, tide_str blob) {
    size_t fields;
    if (!tide__sq_packed_count(blob, &fields))
        return tide__sq_damaged(rows->store, "an entry's fields");
    tide__sq_row *row = new_row(rows);
    if (row == NULL || !make_room(rows, blob.len))
        return TIDE_ENOMEM;
    memcpy(rows->backing->bytes + rows->used, blob.data, blob.len);
    *row = (tide__sq_row){id, attempt, false, rows->used, blob.len};
    rows->used += blob.len;
    rows->field_count += fields;
    rows->count++;
    return TIDE_OK;
}

tide_status tide__sq_rows_add_gone(tide__sq_rows *rows, tide_id id, uint32_t attempt) {
    tide__sq_row *row = new_row(rows);
    if (row == NULL)
        return TIDE_ENOMEM;
    *row = (tide__sq_row){.id = id, .attempt = attempt, .gone = true};
    rows->count++;
    return TIDE_OK;
}

tide_status tide__sq_rows_batch(tide__sq_rows *rows, tide_batch **out) {
    *out = NULL;
    if (rows->count == 0)
        return TIDE_OK;
    tide_batch *batch = tide_batch_create(rows->store->alloc, rows->count, rows->field_count);
    if (batch == NULL)
        return tide__sq_no_memory(rows->store);
    tide_field *fields = tide_batch_fields(batch);
    for (size_t i = 0; i < rows->count; i++) {
        const tide__sq_row *row = &rows->rows[i];
        tide_entry *entry = &batch->entries[i];
        *entry = (tide_entry){.id = row->id, .attempt = row->attempt, .gone = row->gone};
        if (row->gone)
            continue;
        tide_str blob = tide__sq_row_blob(rows, i);
        size_t count = 0, bytes = 0;
        if (!tide__sq_packed_count(blob, &count) || !tide__sq_unpack(blob, fields, count, &bytes)) {
            tide_batch_release(batch);
            return tide__sq_damaged(rows->store, "an entry's fields");
        }
        entry->fields = fields;
        entry->field_count = (uint32_t)count;
        entry->bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
        fields += count;
    }
    batch->count = rows->count;
    batch->backing = rows->backing;
    batch->release_backing = rows->backing != NULL ? release_backing : NULL;
    rows->backing = NULL;
    *out = batch;
    return TIDE_OK;
}
