/* SPDX-License-Identifier: MIT */
/*
 * What it is: XREAD of the simulated server.
 * What it is not: "$", which nothing of ours sends.
 * Invariants: a blocked read keeps its arguments, so what is behind its ids is found however late it is looked at.
 */
#include "server_data.h"

typedef struct read_of {
    stream *stream;
    size_t from, number;
} read_of;

enum { READ_STREAMS_MAX = 16 };

bool sim__cmd_xread(sim_server *server, const tide_str *args, size_t count, bytes *out,
                    bool may_block, int64_t *block_ms) {
    *block_ms = -1;
    uint64_t most = UINT64_MAX;
    size_t i = 1;
    for (; i < count && !sim__is(args[i], "STREAMS"); i += 2) {
        uint64_t number;
        if (i + 1 < count && sim__is(args[i], "COUNT") && tide_u64_parse(args[i + 1], &number)) {
            most = number > 0 ? number : UINT64_MAX;
        } else if (i + 1 < count && sim__is(args[i], "BLOCK") &&
                   tide_u64_parse(args[i + 1], &number)) {
            *block_ms = (int64_t)number;
        } else {
            sim__reply_error(out, SIM_SYNTAX);
            return true;
        }
    }
    size_t streams = i < count ? (count - i - 1) / 2 : 0;
    if (streams == 0 || streams > READ_STREAMS_MAX || i + 1 + 2 * streams != count) {
        sim__reply_error(out,
                         "ERR Unbalanced 'xread' list of streams: for each stream key an ID or "
                         "'$' must be specified.");
        return true;
    }
    const tide_str *keys = args + i + 1, *ids = keys + streams;
    read_of reads[READ_STREAMS_MAX];
    size_t found = 0;
    for (size_t k = 0; k < streams; k++) {
        tide_id after;
        if (!sim__find_stream(server, keys[k], &reads[k].stream, out))
            return true;
        if (!tide_id_parse(ids[k], 0, &after)) {
            sim__reply_error(out, SIM_BAD_ID);
            return true;
        }
        const stream *s = reads[k].stream;
        bool is_end = after.ms == UINT64_MAX && after.seq == UINT64_MAX;
        reads[k].from = s == NULL || is_end ? 0 : sim__entry_at(s, sim__id_after(after));
        reads[k].number = s == NULL || is_end ? 0 : s->count - reads[k].from;
        if (reads[k].number > most)
            reads[k].number = (size_t)most;
        found += reads[k].number > 0;
    }
    if (found == 0) {
        if (*block_ms >= 0 && may_block)
            return false;
        sim__reply_null_array(out);
        return true;
    }
    sim__reply_array(out, found);
    for (size_t k = 0; k < streams; k++) {
        if (reads[k].number == 0)
            continue;
        const stream *s = reads[k].stream;
        sim__reply_array(out, 2);
        sim__reply_str(out, keys[k]);
        sim__reply_array(out, reads[k].number);
        for (size_t n = 0; n < reads[k].number; n++)
            sim__reply_entry(out, &s->entries[s->first + reads[k].from + n]);
    }
    return true;
}
