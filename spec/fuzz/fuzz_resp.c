/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the reply reader. The first byte says how the rest is cut into pieces; whole and cut must give the same
 * replies and the same end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "proto/resp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BULK_MAX = 1 << 20 };

typedef struct outcome {
    tide_status end;
    uint64_t hash;
    size_t replies;
    size_t bytes;
} outcome;

static void mix(outcome *out, uint64_t value) {
    out->hash = (out->hash ^ value) * UINT64_C(1099511628211);
}

static void walk(const tide_reply *reply, outcome *out) {
    mix(out, (uint64_t)reply->type + 1);
    switch (reply->type) {
    case TIDE_REPLY_NIL: break;
    case TIDE_REPLY_BOOL:
    case TIDE_REPLY_INTEGER: mix(out, (uint64_t)reply->as.integer); break;
    case TIDE_REPLY_STRING:
    case TIDE_REPLY_STATUS:
    case TIDE_REPLY_ERROR:
    case TIDE_REPLY_DOUBLE:
        mix(out, tide_str_hash(reply->as.text));
        if (reply->type == TIDE_REPLY_ERROR)
            mix(out, tide_resp_error_status(reply->as.text));
        break;
    case TIDE_REPLY_ARRAY:
    case TIDE_REPLY_MAP:
        mix(out, reply->as.array.count);
        for (size_t i = 0; i < reply->as.array.count; i++)
            walk(&reply->as.array.items[i], out);
        break;
    }
}

static outcome run(const char *bytes, size_t size, size_t piece) {
    outcome out = {.end = TIDE_AGAIN, .hash = UINT64_C(14695981039346656037)};
    tide_allocator alloc = tide_allocator_default();
    tide_resp_reader *reader;
    if (tide_resp_reader_open(&reader, &alloc, BULK_MAX) != TIDE_OK)
        abort();
    for (size_t at = 0; at < size && out.end == TIDE_AGAIN; at += piece) {
        /* A copy of its own, so that a sanitizer sees a read beyond its end or after its time. */
        size_t count = size - at < piece ? size - at : piece;
        char *copy = malloc(count);
        if (copy == NULL)
            abort();
        memcpy(copy, bytes + at, count);
        out.end = tide_resp_reader_feed(reader, copy, count);
        while (out.end == TIDE_OK) {
            tide_reply_box *box = NULL;
            out.end = tide_resp_reader_next(reader, &box, NULL);
            if (out.end == TIDE_OK) {
                walk(&box->reply, &out);
                out.replies++;
                out.bytes += box->bytes;
                tide_reply_box_release(box);
            }
        }
        free(copy);
    }
    tide_resp_reader_close(reader);
    if (out.bytes > size)
        abort();
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    const char *bytes = (const char *)data + 1;
    size_t piece = 1 + data[0] % 64;
    outcome whole = run(bytes, size - 1, size);
    outcome cut = run(bytes, size - 1, piece);
    if (whole.end != cut.end || whole.hash != cut.hash || whole.replies != cut.replies ||
        whole.bytes != cut.bytes)
        abort();
    return 0;
}
