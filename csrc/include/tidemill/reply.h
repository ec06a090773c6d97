/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_REPLY_H
#define TIDEMILL_REPLY_H

#include <tidemill/types.h>

/* An engine's answer to a command, as a tree. Redis's own reply types; the embedded engine builds the same. */
typedef enum tide_reply_type {
    TIDE_REPLY_NIL,
    TIDE_REPLY_INTEGER,
    TIDE_REPLY_STRING, /* bulk string */
    TIDE_REPLY_STATUS, /* "OK" */
    TIDE_REPLY_ERROR,  /* "WRONGTYPE Operation …" */
    TIDE_REPLY_ARRAY,
    TIDE_REPLY_DOUBLE, /* RESP3; also as text in `text` */
    TIDE_REPLY_BOOL,   /* RESP3; in `integer` */
    TIDE_REPLY_MAP     /* RESP3; elements alternate name, value */
} tide_reply_type;

typedef struct tide_reply {
    tide_reply_type type;
    union {
        int64_t integer;
        tide_str text; /* STRING, STATUS, ERROR, DOUBLE */
        struct {
            struct tide_reply *items;
            size_t count;
        } array;
    } as;
} tide_reply;

#endif
