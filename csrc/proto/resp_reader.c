/* SPDX-License-Identifier: MIT */
/*
 * What it is: the reply reader: hiredis's redisReader with object functions that build a tree in a box's arena, bounds on
 * everything that a server can claim, and the pool of boxes.
 * What it is not: a protocol parser of its own, or a judge of what a reply means.
 *
 * Invariants:
 *   1. `box` is the reply under construction; it is NULL exactly between replies.
 *   2. An array's memory follows the elements that came: the first ARRAY_FIRST at once, then doubled. Only the arrays on
 *      the way to the current element are incomplete, and there are at most TIDE_REPLY_DEPTH_MAX + 1 of those, so what a
 *      claimed length alone can make us take is a constant.
 *   3. An array's elements move only when the next element of that same array begins; no deeper array is open then, so
 *      the pointers that hiredis keeps (task->obj) stay good.
 *   4. The fed bytes are borrowed and handed to hiredis piece by piece: it moves the rest of its buffer to the front
 *      after each KiB of replies, which would be quadratic in a large buffer.
 *   5. `broken` is sticky.
 * hiredis takes the memory for its small buffer from malloc itself; it grows by bytes received.
 */
#include "proto/resp.h"

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/text.h"

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

enum {
    /* elements of an array that are made room for on its word alone; a power of two */
    ARRAY_FIRST = 1024,
    PIECE = 4096,               /* bytes handed to hiredis at once */
    LINE_MAX_BYTES = 64 * 1024, /* an error text may be long, endless it is not */
    LENGTH_LINE_MAX = 32,       /* the digits of a bulk's length and CR LF */
    READER_BUFFER_KEEP = 1 << 20,
    HEAD_MAX = 8, /* of the first bytes of the connection, to name what speaks there */
    POOL_KEEP = 8,
    BLOCK_MIN = 2 * 1024,
    BLOCK_MAX = 1 << 20,
    SHRINK_AFTER = 256, /* replies in a row that needed less than an eighth of a box's block */
};

/* Boxes that rest. Lives as long as its reader or one of its boxes. */
typedef struct tide_reply_pool {
    const tide_allocator *alloc;
    tide_reply_box *resting;
    size_t resting_count;
    size_t out_count; /* boxes under construction or with a receiver */
    bool reader_is_open;
} tide_reply_pool;

typedef struct pooled_box {
    tide_reply_box box; /* first */
    uint32_t small_uses;
} pooled_box;

struct tide_resp_reader {
    const tide_allocator *alloc;
    redisReader *parser;
    tide_reply_pool *pool;
    tide_reply_box *box;
    const char *borrowed;
    size_t borrowed_size;
    size_t bulk_max;
    size_t
        reply_bytes; /* of the reply under construction that went to hiredis, its surplus included */
    tide_status broken;
    const char *why; /* set by an object function that refuses */
    unsigned char head[HEAD_MAX];
    size_t head_size;
    tide_error error;
};

/* ---- boxes ---- */

static void pool_destroy_when_unused(tide_reply_pool *pool) {
    if (!pool->reader_is_open && pool->out_count == 0)
        tide_free(pool->alloc, pool, sizeof *pool);
}

static void box_destroy(tide_reply_pool *pool, tide_reply_box *box) {
    tide_arena_deinit(&box->arena);
    tide_free(pool->alloc, box, sizeof(pooled_box));
}

static tide_reply_box *box_take(tide_reply_pool *pool) {
    tide_reply_box *box = pool->resting;
    if (box != NULL) {
        pool->resting = box->next;
        pool->resting_count--;
    } else {
        pooled_box *made = tide_alloc(pool->alloc, sizeof *made);
        if (made == NULL)
            return NULL;
        made->small_uses = 0;
        box = &made->box;
        box->pool = pool;
        tide_arena_init(&box->arena, pool->alloc, BLOCK_MIN);
    }
    box->reply = (tide_reply){.type = TIDE_REPLY_NIL};
    box->bytes = 0;
    box->next = NULL;
    pool->out_count++;
    return box;
}

/* A box that carried a large reply keeps one block as large, so that the next one costs no allocation; one that hasn't
 * needed it for long gives it back. */
static void box_rest(tide_reply_pool *pool, tide_reply_box *box) {
    pooled_box *pooled = (pooled_box *)(void *)box;
    tide_arena *arena = &box->arena;
    size_t used = arena->used;
    size_t block = arena->block_size;
    if (used > block - block / 8 && block < BLOCK_MAX) {
        while (block < BLOCK_MAX && used > block - block / 8)
            block *= 2;
    } else if (block > BLOCK_MIN && used < block / 8) {
        if (++pooled->small_uses >= SHRINK_AFTER)
            block /= 4;
    } else {
        pooled->small_uses = 0;
    }
    if (block != arena->block_size) {
        tide_arena_deinit(arena);
        tide_arena_init(arena, pool->alloc, block);
        pooled->small_uses = 0;
    } else {
        tide_arena_reset(arena);
    }
    box->next = pool->resting;
    pool->resting = box;
    pool->resting_count++;
}

void tide_reply_box_release(tide_reply_box *box) {
    if (box == NULL)
        return;
    tide_reply_pool *pool = box->pool;
    TIDE_ASSERT(pool->out_count > 0);
    pool->out_count--;
    if (pool->reader_is_open && pool->resting_count < POOL_KEEP)
        box_rest(pool, box);
    else
        box_destroy(pool, box);
    pool_destroy_when_unused(pool);
}

/* ---- hiredis's object functions; NULL makes it give up, `broken` then says why ---- */

static void *refuse(tide_resp_reader *reader, tide_status status, const char *why) {
    reader->broken = status;
    reader->why = why;
    return NULL;
}

static tide_reply *grow_array(tide_resp_reader *reader, tide_reply *array, size_t index,
                              size_t claimed) {
    size_t capacity = claimed - index < index ? claimed : index * 2;
    tide_reply *items = tide_arena_alloc(&reader->box->arena, capacity * sizeof *items);
    if (items == NULL)
        return refuse(reader, TIDE_ENOMEM, NULL);
    memcpy(items, array->as.array.items, index * sizeof *items);
    array->as.array.items = items;
    return items;
}

/* Where the object of this task goes. */
static inline tide_reply *place(const redisReadTask *task) {
    tide_resp_reader *reader = task->privdata;
    if (task->parent == NULL)
        return &reader->box->reply;
    tide_reply *array = task->parent->obj;
    size_t index = (size_t)task->idx;
    if (index >= ARRAY_FIRST && (index & (index - 1)) == 0 &&
        grow_array(reader, array, index, (size_t)task->parent->elements) == NULL)
        return NULL;
    array->as.array.count = index + 1;
    return &array->as.array.items[index];
}

static void *create_string(const redisReadTask *task, char *text, size_t len) {
    tide_resp_reader *reader = task->privdata;
    /* hiredis skips the two bytes behind a bulk without a look; they are in its buffer. */
    if (text[len] != '\r' || text[len + 1] != '\n')
        return refuse(reader, TIDE_PROTOCOL, "a bulk string does not end in CR LF");
    if (len > reader->bulk_max)
        return refuse(reader, TIDE_LIMIT, "a bulk string is longer than allowed");
    tide_reply *reply = place(task);
    if (reply == NULL)
        return NULL;
#if HIREDIS_MAJOR >= 1
    if (task->type == REDIS_REPLY_VERB) {
        if (len < 4)
            return refuse(reader, TIDE_PROTOCOL, "a verbatim string without its kind");
        text += 4;
        len -= 4;
    }
#endif
    char *copy = tide_arena_bytes(&reader->box->arena, len + 1);
    if (copy == NULL)
        return refuse(reader, TIDE_ENOMEM, NULL);
    memcpy(copy, text, len);
    copy[len] = '\0';
    reply->type = task->type == REDIS_REPLY_ERROR    ? TIDE_REPLY_ERROR
                  : task->type == REDIS_REPLY_STATUS ? TIDE_REPLY_STATUS
                                                     : TIDE_REPLY_STRING;
    reply->as.text = (tide_str){copy, len};
    return reply;
}

static void *create_array(const redisReadTask *task, element_count claimed) {
    tide_resp_reader *reader = task->privdata;
    /* Elements fewer than 0 don't come here. */
    size_t count = (size_t)claimed;
    if (count > TIDE_REPLY_ELEMENTS_MAX)
        return refuse(reader, TIDE_LIMIT, "an array has more elements than allowed");
    int depth = 0;
    for (const redisReadTask *above = task->parent; above != NULL; above = above->parent)
        depth++;
    if (depth > TIDE_REPLY_DEPTH_MAX)
        return refuse(reader, TIDE_LIMIT, "arrays are nested deeper than allowed");
#if HIREDIS_MAJOR >= 1
    if (task->type == REDIS_REPLY_PUSH || task->type == REDIS_REPLY_ATTR)
        return refuse(reader, TIDE_PROTOCOL, "a RESP3 push or attribute that was not asked for");
#endif
    tide_reply *reply = place(task);
    if (reply == NULL)
        return NULL;
    tide_reply *items = NULL;
    if (count > 0) {
        size_t first = count < ARRAY_FIRST ? count : ARRAY_FIRST;
        items = tide_arena_alloc(&reader->box->arena, first * sizeof *items);
        if (items == NULL)
            return refuse(reader, TIDE_ENOMEM, NULL);
    }
    reply->type = TIDE_REPLY_ARRAY;
#if HIREDIS_MAJOR >= 1
    if (task->type == REDIS_REPLY_MAP)
        reply->type = TIDE_REPLY_MAP;
#endif
    reply->as.array.items = items;
    reply->as.array.count = 0;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long value) {
    tide_reply *reply = place(task);
    if (reply == NULL)
        return NULL;
    reply->type = TIDE_REPLY_INTEGER;
    reply->as.integer = value;
    return reply;
}

static void *create_nil(const redisReadTask *task) {
    tide_reply *reply = place(task);
    if (reply == NULL)
        return NULL;
    *reply = (tide_reply){.type = TIDE_REPLY_NIL};
    return reply;
}

#if HIREDIS_MAJOR >= 1
static void *create_double(const redisReadTask *task, double value, char *text, size_t len) {
    (void)value;
    tide_resp_reader *reader = task->privdata;
    tide_reply *reply = place(task);
    if (reply == NULL)
        return NULL;
    tide_str copy = tide_arena_copy(&reader->box->arena, (tide_str){text, len});
    if (copy.data == NULL)
        return refuse(reader, TIDE_ENOMEM, NULL);
    reply->type = TIDE_REPLY_DOUBLE;
    reply->as.text = copy;
    return reply;
}

static void *create_bool(const redisReadTask *task, int value) {
    tide_reply *reply = place(task);
    if (reply == NULL)
        return NULL;
    reply->type = TIDE_REPLY_BOOL;
    reply->as.integer = value != 0;
    return reply;
}
#endif

/* The box owns everything, also of a reply that breaks off. */
static void free_object(void *object) {
    (void)object;
}

static redisReplyObjectFunctions object_functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
#if HIREDIS_MAJOR >= 1
    .createDouble = create_double,
    .createBool = create_bool,
#endif
    .freeObject = free_object,
};

/* ---- the reader ---- */

tide_status tide_resp_reader_open(tide_resp_reader **reader, const tide_allocator *alloc,
                                  size_t bulk_max) {
    tide_resp_reader *made = tide_alloc_zero(alloc, 1, sizeof *made);
    if (made == NULL)
        return TIDE_ENOMEM;
    made->alloc = alloc;
    made->bulk_max = bulk_max > 0 ? bulk_max : TIDE_REPLY_BULK_MAX;
    made->pool = tide_alloc_zero(alloc, 1, sizeof *made->pool);
    made->parser = redisReaderCreateWithFunctions(&object_functions);
    if (made->pool == NULL || made->parser == NULL) {
        if (made->parser != NULL)
            redisReaderFree(made->parser);
        tide_free(alloc, made->pool, sizeof *made->pool);
        tide_free(alloc, made, sizeof *made);
        return TIDE_ENOMEM;
    }
    made->pool->alloc = alloc;
    made->pool->reader_is_open = true;
    made->parser->privdata = made;
    made->parser->maxbuf = READER_BUFFER_KEEP;
    *reader = made;
    return TIDE_OK;
}

void tide_resp_reader_close(tide_resp_reader *reader) {
    if (reader == NULL)
        return;
    tide_reply_pool *pool = reader->pool;
    if (reader->box != NULL) {
        pool->out_count--;
        box_destroy(pool, reader->box);
    }
    while (pool->resting != NULL) {
        tide_reply_box *box = pool->resting;
        pool->resting = box->next;
        box_destroy(pool, box);
    }
    pool->resting_count = 0;
    pool->reader_is_open = false;
    pool_destroy_when_unused(pool);
    redisReaderFree(reader->parser);
    tide_free(reader->alloc, reader, sizeof *reader);
}

bool tide_resp_reader_is_empty(const tide_resp_reader *reader) {
    return reader->box == NULL && reader->borrowed_size == 0 &&
           reader->parser->len == reader->parser->pos;
}

/* What speaks there, by the connection's first bytes; NULL when nothing known does. */
static const char *name_stranger(const tide_resp_reader *reader) {
    const unsigned char *head = reader->head;
    if (reader->head_size >= 5 && memcmp(head, "HTTP/", 5) == 0)
        return "an HTTP server answers there";
    if (reader->head_size >= 3 && (head[0] == 0x15 || head[0] == 0x16) && head[1] == 0x03)
        return "TLS is spoken there: use rediss:// or valkeys://";
    if (reader->head_size >= 4 && memcmp(head, "SSH-", 4) == 0)
        return "an SSH server answers there";
    if (reader->head_size >= 5 && memcmp(head, "INFO ", 5) == 0)
        return "a NATS server answers there";
    if (reader->head_size >= 4 && memcmp(head, "220 ", 4) == 0)
        return "a mail or FTP server answers there";
    return NULL;
}

static tide_status fail(tide_resp_reader *reader, tide_status status, const char *what) {
    reader->broken = status;
    const char *stranger = status == TIDE_PROTOCOL ? name_stranger(reader) : NULL;
    if (stranger != NULL)
        tide_error_set(&reader->error, status, "not a Redis or Valkey reply: %s", stranger);
    else if (status == TIDE_ENOMEM)
        tide_error_set(&reader->error, status, "no memory for a reply");
    else
        tide_error_set(&reader->error, status, "reply refused: %s", what);
    return status;
}

tide_status tide_resp_reader_feed(tide_resp_reader *reader, const char *bytes, size_t size) {
    if (reader->broken != TIDE_OK)
        return reader->broken;
    /* The last ones were borrowed until next said that it wants more. */
    TIDE_ASSERT(reader->borrowed_size == 0);
    for (size_t i = 0; i < size && reader->head_size < HEAD_MAX; i++)
        reader->head[reader->head_size++] = (unsigned char)bytes[i];
    reader->borrowed = bytes;
    reader->borrowed_size = size;
    return TIDE_OK;
}

/* Whether what hiredis waits for, at the front of its buffer and with its type byte already taken away, can still become
 * a reply. A line with its end there would have been taken whole: an end that is seen belongs to a bulk's length. */
static tide_status check_waiting(tide_resp_reader *reader) {
    const redisReader *parser = reader->parser;
    size_t size = parser->len - parser->pos;
    if (reader->reply_bytes > TIDE_REPLY_BYTES_MAX)
        return fail(reader, TIDE_LIMIT, "it is larger than allowed");
    if (size == 0)
        return TIDE_OK;
    const char *at = parser->buf + parser->pos;
    const char *end = memchr(at, '\r', size < LENGTH_LINE_MAX ? size : LENGTH_LINE_MAX);
    if (end != NULL && (size_t)(end - at) + 1 < size && end[1] == '\n') {
        uint64_t claimed;
        if (tide_u64_parse((tide_str){at, (size_t)(end - at)}, &claimed) &&
            claimed > reader->bulk_max)
            return fail(reader, TIDE_LIMIT, "a bulk string is longer than allowed");
    } else if (size > LINE_MAX_BYTES) {
        return fail(reader, TIDE_LIMIT, "a line without an end");
    }
    return TIDE_OK;
}

static tide_status fail_by_parser(tide_resp_reader *reader) {
    if (reader->broken != TIDE_OK)
        return fail(reader, reader->broken, reader->why);
    if (reader->parser->err == REDIS_ERR_OOM)
        return fail(reader, TIDE_ENOMEM, NULL);
    char what[sizeof reader->parser->errstr];
    snprintf(what, sizeof what, "%s", reader->parser->errstr);
    return fail(reader, TIDE_PROTOCOL, what);
}

/* Gives the next piece of the borrowed bytes to hiredis. */
static tide_status feed_piece(tide_resp_reader *reader) {
    size_t size = reader->borrowed_size < PIECE ? reader->borrowed_size : PIECE;
    if (redisReaderFeed(reader->parser, reader->borrowed, size) != REDIS_OK)
        return fail_by_parser(reader);
    reader->borrowed += size;
    reader->borrowed_size -= size;
    reader->reply_bytes += size;
    return TIDE_OK;
}

static tide_status next_reply(tide_resp_reader *reader, tide_reply_box **box) {
    if (reader->broken != TIDE_OK)
        return reader->broken;
    redisReader *parser = reader->parser;
    for (;;) {
        if (parser->len > parser->pos) {
            if (reader->box == NULL) {
                reader->box = box_take(reader->pool);
                if (reader->box == NULL)
                    return fail(reader, TIDE_ENOMEM, NULL);
            }
            void *whole = NULL;
            if (redisReaderGetReply(parser, &whole) != REDIS_OK)
                return fail_by_parser(reader);
            if (whole != NULL) {
                size_t surplus = parser->len - parser->pos;
                reader->box->bytes = reader->reply_bytes - surplus;
                reader->reply_bytes = surplus;
                *box = reader->box;
                reader->box = NULL;
                return TIDE_OK;
            }
            tide_status status = check_waiting(reader);
            if (status != TIDE_OK)
                return status;
        }
        if (reader->borrowed_size == 0)
            return TIDE_AGAIN;
        tide_status status = feed_piece(reader);
        if (status != TIDE_OK)
            return status;
    }
}

tide_status tide_resp_reader_next(tide_resp_reader *reader, tide_reply_box **box,
                                  tide_error *error) {
    tide_status status = next_reply(reader, box);
    if (status == TIDE_OK || status == TIDE_AGAIN)
        return status;
    reader->borrowed_size = 0;
    if (error != NULL)
        *error = reader->error;
    return status;
}
