/* SPDX-License-Identifier: MIT */
#ifndef TIDE_PROTO_RESP_H
#define TIDE_PROTO_RESP_H

#include <tidemill/reply.h>

#include "base/arena.h"
#include "base/buffer.h"

/*
 * RESP2: requests written straight into an output buffer, replies read by hiredis's redisReader with our own object
 * functions into an arena. RESP3 types are understood where hiredis ≥ 1.0 knows them. No I/O.
 */

/* ---- requests: tide_resp_begin, then exactly `arg_count` arguments. Failure is sticky in the buffer. ---- */
void tide_resp_begin(tide_buffer *out, size_t arg_count);
void tide_resp_arg(tide_buffer *out, tide_str arg);
void tide_resp_arg_u64(tide_buffer *out, uint64_t number);
void tide_resp_arg_i64(tide_buffer *out, int64_t number);
void tide_resp_arg_id(tide_buffer *out, tide_id id);
#define tide_resp_arg_literal(out, text) tide_resp_arg((out), TIDE_STR(text))

/* ---- replies ---- */

/* One reply and the memory of it. Given back to its reader's pool by tide_reply_box_release; it may outlive the reader. */
typedef struct tide_reply_box {
    tide_reply reply;
    tide_arena arena; /* the receiver may allocate here too: it lives as long as the reply */
    size_t bytes;     /* of the reply on the wire */
    struct tide_reply_pool *pool;
    struct tide_reply_box *next;
} tide_reply_box;
void tide_reply_box_release(tide_reply_box *box);

typedef struct tide_resp_reader tide_resp_reader;

/* TIDE_OK or TIDE_ENOMEM. `bulk_max`: largest bulk accepted, 0 = limits.h. */
tide_status tide_resp_reader_open(tide_resp_reader **reader, const tide_allocator *alloc,
                                  size_t bulk_max);
void tide_resp_reader_close(tide_resp_reader *reader);
/* Takes bytes as they came; any split. They are borrowed until tide_resp_reader_next answers something other than TIDE_OK
 * (or the reader is closed), and more may be fed only then. TIDE_OK, or the sticky failure. */
tide_status tide_resp_reader_feed(tide_resp_reader *reader, const char *bytes, size_t size);
/* The next whole reply: TIDE_OK with a box that the caller releases; TIDE_AGAIN: more bytes are needed;
 * TIDE_PROTOCOL, TIDE_LIMIT, TIDE_ENOMEM: sticky, the connection is of no more use; `error` (may be NULL) says what
 * was seen, naming HTTP or TLS bytes when it looks like them. Memory grows with bytes received, never with a claimed
 * length. */
tide_status tide_resp_reader_next(tide_resp_reader *reader, tide_reply_box **box,
                                  tide_error *error);
/* Nothing half-read is in it. */
bool tide_resp_reader_is_empty(const tide_resp_reader *reader);

/* What an error reply means, by its first word alone (server texts differ). */
tide_status tide_resp_error_status(tide_str error_text);

#endif
