/* SPDX-License-Identifier: MIT */
/*
 * What it is: arguments of stream commands, and the commands on entries: XADD, ranges, XDEL, XTRIM.
 * What it is not: groups.
 * Invariants: a command writes exactly one reply; an error is written before anything changes.
 */
#include "server_data.h"

#include <string.h>

/* ---- arguments ---- */

bool sim__is(tide_str arg, const char *word) {
    return tide_str_equal_nocase(arg, tide_str_from(word));
}

void sim__reply_arity(bytes *out, const char *command) {
    sim__put_format(out, "-ERR wrong number of arguments for '%s' command\r\n", command);
}

static tide_id id_before(tide_id id) {
    if (id.seq > 0)
        return (tide_id){id.ms, id.seq - 1};
    return (tide_id){id.ms - 1, UINT64_MAX};
}
tide_id sim__id_after(tide_id id) {
    if (id.seq < UINT64_MAX)
        return (tide_id){id.ms, id.seq + 1};
    return (tide_id){id.ms + 1, 0};
}

/* An end of a range: "-", "+", an id, or "(" and an id. */
bool sim__parse_bound(tide_str text, bool upper, tide_id *id, bytes *out) {
    bool open = text.len > 1 && text.data[0] == '(';
    if (open)
        text = (tide_str){text.data + 1, text.len - 1};
    if (!open && sim__is(text, "-")) {
        *id = (tide_id){0, 0};
        return true;
    }
    if (!open && sim__is(text, "+")) {
        *id = (tide_id){UINT64_MAX, UINT64_MAX};
        return true;
    }
    if (!tide_id_parse(text, upper ? UINT64_MAX : 0, id)) {
        sim__reply_error(out, SIM_BAD_ID);
        return false;
    }
    if (open && upper) {
        if (id->ms == 0 && id->seq == 0) {
            sim__reply_error(out, "ERR invalid end ID for the interval");
            return false;
        }
        *id = id_before(*id);
    } else if (open) {
        if (id->ms == UINT64_MAX && id->seq == UINT64_MAX) {
            sim__reply_error(out, "ERR invalid start ID for the interval");
            return false;
        }
        *id = sim__id_after(*id);
    }
    return true;
}

group *sim__find_group_or_say(sim_server *server, tide_str key, tide_str name, stream **s,
                              bytes *out) {
    if (!sim__find_stream(server, key, s, out))
        return NULL;
    group *g = sim__find_group(*s, name);
    if (g == NULL)
        sim__put_format(out, "-NOGROUP No such key '%.*s' or consumer group '%.*s'\r\n",
                        (int)key.len, key.data, (int)name.len, name.data);
    return g;
}

bool sim__are_ids(const tide_str *args, size_t count, bytes *out) {
    tide_id id;
    for (size_t i = 0; i < count; i++) {
        if (!tide_id_parse(args[i], 0, &id)) {
            sim__reply_error(out, SIM_BAD_ID);
            return false;
        }
    }
    return true;
}

/* ---- XADD and what else writes entries ---- */

/* Arguments behind the key. False: an error was written. */
bool sim__add_entry(sim_server *server, tide_str key, const tide_str *args, size_t count,
                    bytes *out) {
    size_t i = 0;
    bool make_stream = true, has_max = false, has_min = false, exact = true;
    uint64_t max_len = 0;
    tide_id min_id = {0, 0};
    for (; i < count; i++) {
        if (sim__is(args[i], "NOMKSTREAM")) {
            make_stream = false;
        } else if (sim__is(args[i], "MAXLEN") || sim__is(args[i], "MINID")) {
            bool by_len = sim__is(args[i], "MAXLEN");
            if (i + 1 < count && (sim__is(args[i + 1], "~") || sim__is(args[i + 1], "="))) {
                exact = sim__is(args[i + 1], "=");
                i++;
            }
            if (i + 1 >= count || (by_len ? !tide_u64_parse(args[i + 1], &max_len)
                                          : !tide_id_parse(args[i + 1], 0, &min_id))) {
                sim__reply_error(out, by_len ? SIM_NOT_INTEGER : SIM_BAD_ID);
                return false;
            }
            has_max = by_len;
            has_min = !by_len;
            i++;
        } else {
            break;
        }
    }
    if (i >= count || (count - i) < 3 || (count - i) % 2 == 0) {
        sim__reply_arity(out, "xadd");
        return false;
    }
    tide_str wanted = args[i++];
    bool automatic = sim__is(wanted, "*");
    bool automatic_seq = false;
    tide_id id = {0, 0};
    if (!automatic) {
        if (wanted.len > 2 && wanted.data[wanted.len - 1] == '*' &&
            wanted.data[wanted.len - 2] == '-') {
            automatic_seq = tide_u64_parse((tide_str){wanted.data, wanted.len - 2}, &id.ms);
            if (!automatic_seq) {
                sim__reply_error(out, SIM_BAD_ID);
                return false;
            }
        } else if (!tide_id_parse(wanted, 0, &id)) {
            sim__reply_error(out, SIM_BAD_ID);
            return false;
        }
        if (!automatic_seq && id.ms == 0 && id.seq == 0) {
            sim__reply_error(out, "ERR The ID specified in XADD must be greater than 0-0");
            return false;
        }
    }
    stream *s;
    if (!sim__find_stream(server, key, &s, out))
        return false;
    if (s == NULL) {
        if (!make_stream) {
            sim__reply_null(out);
            return true;
        }
        s = sim__make(server, key, KIND_STREAM)->stream;
    }
    if (automatic) {
        id = (tide_id){(uint64_t)server->now_ms, 0};
        if (tide_id_compare(id, s->last) <= 0)
            id = sim__id_after(s->last);
    } else if (automatic_seq) {
        if (id.ms == s->last.ms) {
            id.seq = s->last.seq + 1;
        } else if (id.ms < s->last.ms) {
            id.seq = 0;
        } else {
            id.seq = id.ms == 0 ? 1 : 0;
        }
    }
    if (tide_id_compare(id, s->last) <= 0) {
        sim__reply_error(
            out, "ERR The ID specified in XADD is equal or smaller than the target stream top "
                 "item");
        return false;
    }
    sim__append(s, id, args + i, count - i);
    server->dirty++;
    if (has_max && s->count > max_len) {
        size_t surplus = s->count - (size_t)max_len;
        sim__remove_entries(s, 0, exact ? surplus : surplus / 100 * 100);
    }
    if (has_min && exact)
        sim__remove_entries(s, 0, sim__entry_at(s, min_id));
    sim__reply_id(out, id);
    return true;
}

void sim__cmd_xadd(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 5) {
        sim__reply_arity(out, "xadd");
        return;
    }
    sim__add_entry(server, args[1], args + 2, count - 2, out);
}

/* ---- ranges ---- */

void sim__cmd_xrange(sim_server *server, const tide_str *args, size_t count, bytes *out,
                     bool back) {
    if (count < 4) {
        sim__reply_arity(out, back ? "xrevrange" : "xrange");
        return;
    }
    tide_id low, high;
    if (!sim__parse_bound(args[back ? 3 : 2], false, &low, out) ||
        !sim__parse_bound(args[back ? 2 : 3], true, &high, out))
        return;
    int64_t most = -1;
    if (count == 6 && sim__is(args[4], "COUNT")) {
        if (!tide_i64_parse(args[5], &most)) {
            sim__reply_error(out, SIM_NOT_INTEGER);
            return;
        }
        if (most < 0)
            most = 0;
    } else if (count != 4) {
        sim__reply_error(out, SIM_SYNTAX);
        return;
    }
    stream *s;
    if (!sim__find_stream(server, args[1], &s, out))
        return;
    /* COUNT 0 answers a null array, whether or not there is such a stream. */
    if (s != NULL && most == 0) {
        sim__reply_null_array(out);
        return;
    }
    if (s == NULL) {
        sim__reply_array(out, 0);
        return;
    }
    size_t from = sim__entry_at(s, low), to = from;
    while (to < s->count && tide_id_compare(s->entries[s->first + to].id, high) <= 0)
        to++;
    size_t number = to > from ? to - from : 0;
    if (most >= 0 && number > (size_t)most)
        number = (size_t)most;
    sim__reply_array(out, number);
    for (size_t i = 0; i < number; i++)
        sim__reply_entry(out, &s->entries[s->first + (back ? to - 1 - i : from + i)]);
}

void sim__cmd_xdel(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 3) {
        sim__reply_arity(out, "xdel");
        return;
    }
    stream *s;
    if (!sim__find_stream(server, args[1], &s, out))
        return;
    if (s == NULL) {
        sim__reply_int(out, 0);
        return;
    }
    if (!sim__are_ids(args + 2, count - 2, out))
        return;
    int64_t done = 0;
    for (size_t i = 2; i < count; i++) {
        tide_id id;
        tide_id_parse(args[i], 0, &id);
        const entry *e = sim__find_entry(s, id);
        if (e != NULL) {
            sim__remove_entries(s, (size_t)(e - s->entries) - s->first, 1);
            done++;
        }
    }
    sim__reply_int(out, done);
}

void sim__cmd_xtrim(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    uint64_t most;
    if (count < 4) {
        sim__reply_arity(out, "xtrim");
        return;
    }
    bool exact = true;
    size_t at = 3;
    if (sim__is(args[3], "=") || sim__is(args[3], "~")) {
        exact = sim__is(args[3], "=");
        at = 4;
    }
    if (!sim__is(args[2], "MAXLEN") || at + 1 != count) {
        sim__reply_error(out, SIM_SYNTAX);
        return;
    }
    if (!tide_u64_parse(args[at], &most)) {
        sim__reply_error(out, SIM_NOT_INTEGER);
        return;
    }
    stream *s;
    if (!sim__find_stream(server, args[1], &s, out))
        return;
    size_t surplus = s != NULL && s->count > most ? s->count - (size_t)most : 0;
    if (!exact)
        surplus = surplus / 100 * 100;
    if (surplus > 0)
        sim__remove_entries(s, 0, surplus);
    sim__reply_int(out, (int64_t)surplus);
}
