/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BROKER_SQLITE_COMMAND_STREAM_H
#define TIDE_BROKER_SQLITE_COMMAND_STREAM_H

#include "broker/sqlite/command.h"

/* What XREAD and XREADGROUP share. */
typedef struct tide__sq_read_args {
    size_t group_index; /* of the group's name; the consumer's follows. 0: none */
    size_t stream_index;
    size_t stream_count;
    uint64_t count;   /* 0: no bound */
    int64_t block_ms; /* -1: none */
    bool no_ack;
} tide__sq_read_args;

tide_status tide__sq_read_parse(tide__sq_call *call, bool group, tide__sq_read_args *args);
/* The entries from … to, as an array of [id, fields]; `count` 0: no bound. */
tide_status tide__sq_range(tide__sq_call *call, const tide__sq_stream *stream, tide_id from,
                           tide_id to, uint64_t count, bool reverse, tide_reply *reply);

#endif
