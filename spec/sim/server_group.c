/* SPDX-License-Identifier: MIT */
/*
 * What it is: groups: XGROUP, XREADGROUP, XACK, XPENDING, XCLAIM, XAUTOCLAIM, XINFO, with the semantics of Redis 7.0.
 * What it is not: delivery of blocked reads (server.c).
 * Invariants: an entry is pending at most once in a group.
 */
#include "server_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- groups ---- */

void sim__cmd_xgroup(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 4) {
        sim__reply_arity(out, "xgroup");
        return;
    }
    tide_str verb = args[1], key = args[2], name = args[3];
    bool creates = sim__is(verb, "CREATE");
    bool make_stream = false;
    if (creates) {
        for (size_t i = 5; i < count; i++) {
            if (sim__is(args[i], "MKSTREAM")) {
                make_stream = true;
            } else {
                sim__reply_error(out, SIM_SYNTAX);
                return;
            }
        }
    }
    if ((creates || sim__is(verb, "SETID") || sim__is(verb, "CREATECONSUMER") ||
         sim__is(verb, "DELCONSUMER")) &&
        count < 5) {
        sim__put_format(out, "-ERR wrong number of arguments for 'xgroup|%.*s' command\r\n",
                        (int)verb.len, verb.data);
        return;
    }
    stream *s;
    if (!sim__find_stream(server, key, &s, out))
        return;
    if (s == NULL && !(creates && make_stream)) {
        sim__reply_error(
            out, "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE "
                 "you may want to use the MKSTREAM option to create an empty stream "
                 "automatically.");
        return;
    }
    group *g = sim__find_group(s, name);
    if (creates || sim__is(verb, "SETID")) {
        tide_id id = s != NULL ? s->last : (tide_id){0, 0};
        if (!sim__is(args[4], "$") && !tide_id_parse(args[4], 0, &id)) {
            sim__reply_error(out, SIM_BAD_ID);
            return;
        }
        if (creates) {
            if (g != NULL) {
                sim__reply_error(out, "BUSYGROUP Consumer Group name already exists");
                return;
            }
            if (s == NULL)
                s = sim__make(server, key, KIND_STREAM)->stream;
            g = sim__grab(NULL, sizeof *g);
            memset(g, 0, sizeof *g);
            g->name = sim__copy_text(name);
            s->groups = sim__grab(s->groups, (s->group_count + 1) * sizeof *s->groups);
            s->groups[s->group_count++] = g;
        }
        if (g != NULL) {
            g->last = id;
            server->dirty++;
            sim__reply_ok(out);
            return;
        }
    }
    if (sim__is(verb, "DESTROY")) {
        if (g != NULL) {
            size_t i = 0;
            while (s->groups[i] != g)
                i++;
            s->groups[i] = s->groups[--s->group_count];
            sim__group_free(g);
            server->dirty++;
        }
        sim__reply_int(out, g != NULL);
        return;
    }
    if (g == NULL) {
        sim__put_format(out, "-NOGROUP No such consumer group '%.*s' for key name '%.*s'\r\n",
                        (int)name.len, name.data, (int)key.len, key.data);
        return;
    }
    uint32_t consumer;
    bool found = sim__find_consumer(g, args[4], &consumer);
    if (sim__is(verb, "CREATECONSUMER")) {
        sim__make_consumer(g, args[4]);
        sim__reply_int(out, !found);
    } else if (sim__is(verb, "DELCONSUMER")) {
        int64_t dropped = 0;
        for (size_t i = 0; found && i < g->count;) {
            if (g->list[i].consumer == consumer) {
                sim__drop_pending(g, &g->list[i]);
                dropped++;
            } else {
                i++;
            }
        }
        if (found) {
            free(g->names[consumer]);
            g->names[consumer] = NULL;
        }
        sim__reply_int(out, dropped);
    } else {
        sim__reply_error(out, "ERR unknown subcommand");
    }
}

/* ---- reading ---- */

static void tell(sim_server *server, sim_handing how, tide_str key, const group *g, const entry *e,
                 int64_t since_ms) {
    if (server->watch == NULL)
        return;
    sim_handed handed = {.how = how,
                         .stream = key,
                         .group = tide_str_from(g->name),
                         .id = e->id,
                         .client = server->served,
                         .idle_ms = server->now_ms - since_ms};
    for (size_t i = 0; i + 1 < e->count; i += 2) {
        if (tide_str_equal(e->fields[i], TIDE_STR("event_id")))
            handed.event = e->fields[i + 1];
    }
    server->watch(server->watch_context, &handed);
}

/* Answers false when it would block. */
bool sim__cmd_xreadgroup(sim_server *server, const tide_str *args, size_t count, bytes *out,
                         bool may_block, int64_t *block_ms) {
    *block_ms = -1;
    if (count < 7) {
        sim__reply_arity(out, "xreadgroup");
        return true;
    }
    uint64_t most = UINT64_MAX;
    bool no_ack = false;
    size_t i = 1;
    tide_str name = {NULL, 0}, reader = {NULL, 0};
    for (; i < count && !sim__is(args[i], "STREAMS"); i++) {
        uint64_t number;
        if (sim__is(args[i], "GROUP") && i + 2 < count) {
            name = args[i + 1];
            reader = args[i + 2];
            i += 2;
        } else if (sim__is(args[i], "COUNT") && i + 1 < count &&
                   tide_u64_parse(args[i + 1], &number)) {
            most = number > 0 ? number : UINT64_MAX;
            i++;
        } else if (sim__is(args[i], "BLOCK") && i + 1 < count &&
                   tide_u64_parse(args[i + 1], &number)) {
            *block_ms = (int64_t)number;
            i++;
        } else if (sim__is(args[i], "NOACK")) {
            no_ack = true;
        } else {
            sim__reply_error(out, SIM_SYNTAX);
            return true;
        }
    }
    if (i + 3 != count) {
        sim__reply_error(out,
                         "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID, "
                         "'>', or '$' must be specified.");
        return true;
    }
    tide_str key = args[i + 1], from = args[i + 2];
    stream *s;
    if (!sim__find_stream(server, key, &s, out))
        return true;
    group *g = sim__find_group(s, name);
    if (g == NULL) {
        sim__put_format(
            out,
            "-NOGROUP No such key '%.*s' or consumer group '%.*s' in XREADGROUP with GROUP "
            "option\r\n",
            (int)key.len, key.data, (int)name.len, name.data);
        return true;
    }
    bool fresh = sim__is(from, ">");
    tide_id after = g->last;
    if (!fresh && !tide_id_parse(from, 0, &after)) {
        sim__reply_error(out, SIM_BAD_ID);
        return true;
    }
    if (!fresh) {
        uint32_t consumer = sim__make_consumer(g, reader);
        size_t at = sim__pending_at(g, after);
        if (at < g->count && tide_id_compare(g->list[at].id, after) == 0)
            at++;
        size_t number = 0;
        for (size_t k = at; k < g->count && number < most; k++)
            number += g->list[k].consumer == consumer;
        sim__reply_array(out, 1);
        sim__reply_array(out, 2);
        sim__reply_str(out, key);
        sim__reply_array(out, number);
        for (size_t k = at; k < g->count && number > 0; k++) {
            pending *p = &g->list[k];
            if (p->consumer != consumer)
                continue;
            number--;
            const entry *e = sim__find_entry(s, p->id);
            if (e == NULL) {
                sim__reply_array(out, 2);
                sim__reply_id(out, p->id);
                sim__reply_null_array(out);
            } else {
                sim__reply_entry(out, e);
                tell(server, SIM_HANDED_AGAIN, key, g, e, p->time_ms);
                p->time_ms = server->now_ms;
                p->count++;
            }
        }
        return true;
    }
    size_t at = sim__entry_at(s, sim__id_after(g->last));
    if (g->last.ms == UINT64_MAX && g->last.seq == UINT64_MAX)
        at = s->count;
    size_t number = s->count - at;
    if (number > most)
        number = (size_t)most;
    if (number == 0) {
        if (*block_ms >= 0 && may_block)
            return false;
        sim__make_consumer(g, reader);
        sim__reply_null_array(out);
        return true;
    }
    uint32_t consumer = sim__make_consumer(g, reader);
    sim__reply_array(out, 1);
    sim__reply_array(out, 2);
    sim__reply_str(out, key);
    sim__reply_array(out, number);
    for (size_t k = 0; k < number; k++) {
        const entry *e = &s->entries[s->first + at + k];
        sim__reply_entry(out, e);
        tell(server, SIM_HANDED_NEW, key, g, e, server->now_ms);
        g->last = e->id;
        if (no_ack)
            continue;
        pending *p = sim__find_pending(g, e->id);
        if (p == NULL)
            p = sim__add_pending(g, e->id);
        p->consumer = consumer;
        p->time_ms = server->now_ms;
        p->count = 1;
    }
    return true;
}

size_t sim__ack(stream *s, tide_str name, tide_id id) {
    group *g = sim__find_group(s, name);
    pending *p = g != NULL ? sim__find_pending(g, id) : NULL;
    if (p == NULL)
        return 0;
    sim__drop_pending(g, p);
    return 1;
}

void sim__cmd_xack(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 4) {
        sim__reply_arity(out, "xack");
        return;
    }
    stream *s;
    if (!sim__find_stream(server, args[1], &s, out))
        return;
    if (sim__find_group(s, args[2]) == NULL) {
        sim__reply_int(out, 0);
        return;
    }
    if (!sim__are_ids(args + 3, count - 3, out))
        return;
    int64_t done = 0;
    for (size_t i = 3; i < count; i++) {
        tide_id id;
        tide_id_parse(args[i], 0, &id);
        done += (int64_t)sim__ack(s, args[2], id);
    }
    sim__reply_int(out, done);
}

void sim__cmd_xpending(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 3) {
        sim__reply_arity(out, "xpending");
        return;
    }
    int64_t idle_min = 0, most = 0;
    tide_id low = {0, 0}, high = {0, 0};
    size_t at = 3;
    if (count > 3) {
        if (sim__is(args[3], "IDLE")) {
            if (count < 8) {
                sim__reply_error(out, SIM_SYNTAX);
                return;
            }
            if (!tide_i64_parse(args[4], &idle_min)) {
                sim__reply_error(out, SIM_NOT_INTEGER);
                return;
            }
            at = 5;
        }
        if (count < at + 3 || count > at + 4) {
            sim__reply_error(out, SIM_SYNTAX);
            return;
        }
        if (!tide_i64_parse(args[at + 2], &most)) {
            sim__reply_error(out, SIM_NOT_INTEGER);
            return;
        }
        if (most < 0)
            most = 0;
        if (!sim__parse_bound(args[at], false, &low, out) ||
            !sim__parse_bound(args[at + 1], true, &high, out))
            return;
    }
    stream *s;
    group *g = sim__find_group_or_say(server, args[1], args[2], &s, out);
    if (g == NULL)
        return;
    if (count == 3) {
        sim__reply_array(out, 4);
        sim__reply_int(out, (int64_t)g->count);
        if (g->count == 0) {
            sim__reply_null(out);
            sim__reply_null(out);
            sim__reply_null_array(out);
            return;
        }
        sim__reply_id(out, g->list[0].id);
        sim__reply_id(out, g->list[g->count - 1].id);
        /* By name, as the server's radix tree has them. */
        uint32_t *order = sim__grab(NULL, (g->name_count + 1) * sizeof *order);
        size_t used = 0;
        for (uint32_t i = 0; i < g->name_count; i++) {
            bool has = false;
            for (size_t k = 0; k < g->count && !has; k++)
                has = g->list[k].consumer == i;
            if (!has)
                continue;
            size_t place = used++;
            while (place > 0 && strcmp(g->names[order[place - 1]], g->names[i]) > 0) {
                order[place] = order[place - 1];
                place--;
            }
            order[place] = i;
        }
        sim__reply_array(out, used);
        for (size_t i = 0; i < used; i++) {
            size_t number = 0;
            for (size_t k = 0; k < g->count; k++)
                number += g->list[k].consumer == order[i];
            sim__reply_array(out, 2);
            sim__reply_str(out, tide_str_from(g->names[order[i]]));
            char text[24];
            sim__reply_str(out, (tide_str){text, tide_u64_format(text, number)});
        }
        free(order);
        return;
    }
    uint32_t consumer = UINT32_MAX;
    if (count == at + 4 && !sim__find_consumer(g, args[at + 3], &consumer)) {
        sim__reply_array(out, 0);
        return;
    }
    bytes rows = {0};
    int64_t number = 0;
    for (size_t k = sim__pending_at(g, low); k < g->count && number < most; k++) {
        const pending *p = &g->list[k];
        if (tide_id_compare(p->id, high) > 0)
            break;
        int64_t idle = server->now_ms - p->time_ms;
        if (idle < 0)
            idle = 0;
        if ((consumer != UINT32_MAX && p->consumer != consumer) || idle < idle_min)
            continue;
        number++;
        sim__reply_array(&rows, 4);
        sim__reply_id(&rows, p->id);
        sim__reply_str(&rows, tide_str_from(g->names[p->consumer]));
        sim__reply_int(&rows, idle);
        sim__reply_int(&rows, p->count);
    }
    sim__reply_array(out, (size_t)number);
    sim__put(out, rows.data, rows.size);
    free(rows.data);
}

void sim__cmd_xclaim(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 6) {
        sim__reply_arity(out, "xclaim");
        return;
    }
    stream *s;
    int64_t min_idle;
    group *g = sim__find_group_or_say(server, args[1], args[2], &s, out);
    if (g == NULL)
        return;
    if (!tide_i64_parse(args[4], &min_idle)) {
        sim__reply_error(out, "ERR Invalid min-idle-time argument for XCLAIM");
        return;
    }
    if (min_idle < 0)
        min_idle = 0;
    size_t ids = 5;
    tide_id id;
    while (ids < count && tide_id_parse(args[ids], 0, &id))
        ids++;
    int64_t time_ms = server->now_ms, retry = -1;
    bool force = false, just_id = false;
    for (size_t i = ids; i < count; i++) {
        bool more = i + 1 < count;
        if (sim__is(args[i], "FORCE")) {
            force = true;
        } else if (sim__is(args[i], "JUSTID")) {
            just_id = true;
        } else if (sim__is(args[i], "IDLE") && more && tide_i64_parse(args[i + 1], &time_ms)) {
            time_ms = server->now_ms - time_ms;
            i++;
        } else if (sim__is(args[i], "TIME") && more && tide_i64_parse(args[i + 1], &time_ms)) {
            i++;
        } else if (sim__is(args[i], "RETRYCOUNT") && more && tide_i64_parse(args[i + 1], &retry)) {
            i++;
        } else if (sim__is(args[i], "LASTID") && more && tide_id_parse(args[i + 1], 0, &id)) {
            if (tide_id_compare(id, g->last) > 0)
                g->last = id;
            i++;
        } else {
            sim__put_format(out, "-ERR Unrecognized XCLAIM option '%.*s'\r\n", (int)args[i].len,
                            args[i].data);
            return;
        }
    }
    if (time_ms < 0 || time_ms > server->now_ms)
        time_ms = server->now_ms;
    uint32_t consumer = sim__make_consumer(g, args[3]);
    bytes rows = {0};
    size_t number = 0;
    for (size_t i = 5; i < ids; i++) {
        tide_id_parse(args[i], 0, &id);
        pending *p = sim__find_pending(g, id);
        const entry *e = sim__find_entry(s, id);
        if (e == NULL) {
            if (p != NULL)
                sim__drop_pending(g, p);
            continue;
        }
        if (p == NULL && force) {
            p = sim__add_pending(g, id);
            p->consumer = consumer;
            p->count = 1; /* a delivery that never was */
        } else if (p == NULL) {
            continue;
        } else if (min_idle > 0 && server->now_ms - p->time_ms < min_idle) {
            continue;
        }
        p->consumer = consumer;
        p->time_ms = time_ms;
        if (retry >= 0) {
            p->count = (uint32_t)retry;
        } else if (!just_id) {
            p->count++;
        }
        number++;
        if (just_id) {
            sim__reply_id(&rows, id);
        } else {
            sim__reply_entry(&rows, e);
        }
    }
    sim__reply_array(out, number);
    sim__put(out, rows.data, rows.size);
    free(rows.data);
}

void sim__cmd_xautoclaim(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count < 6) {
        sim__reply_arity(out, "xautoclaim");
        return;
    }
    int64_t min_idle, most = 100;
    bool just_id = false;
    tide_id start;
    if (!tide_i64_parse(args[4], &min_idle)) {
        sim__reply_error(out, "ERR Invalid min-idle-time argument for XAUTOCLAIM");
        return;
    }
    if (!sim__parse_bound(args[5], false, &start, out))
        return;
    for (size_t i = 6; i < count; i++) {
        if (sim__is(args[i], "COUNT") && i + 1 < count && tide_i64_parse(args[i + 1], &most)) {
            if (most < 1) {
                sim__reply_error(out, "ERR COUNT must be > 0");
                return;
            }
            i++;
        } else if (sim__is(args[i], "JUSTID")) {
            just_id = true;
        } else {
            sim__reply_error(out, SIM_SYNTAX);
            return;
        }
    }
    stream *s;
    group *g = sim__find_group_or_say(server, args[1], args[2], &s, out);
    if (g == NULL)
        return;
    uint32_t consumer = sim__make_consumer(g, args[3]);
    bytes rows = {0}, gone = {0};
    size_t number = 0, gone_count = 0;
    int64_t looks = most * 10;
    size_t k = sim__pending_at(g, start);
    while (looks-- > 0 && most > 0 && k < g->count) {
        pending *p = &g->list[k];
        const entry *e = sim__find_entry(s, p->id);
        if (e == NULL) {
            sim__reply_id(&gone, p->id);
            gone_count++;
            sim__drop_pending(g, p);
            most--;
            continue;
        }
        k++;
        if (min_idle > 0 && server->now_ms - p->time_ms < min_idle)
            continue;
        tell(server, SIM_HANDED_CLAIMED, args[1], g, e, p->time_ms);
        p->consumer = consumer;
        p->time_ms = server->now_ms;
        if (just_id) {
            sim__reply_id(&rows, p->id);
        } else {
            p->count++;
            sim__reply_entry(&rows, e);
        }
        number++;
        most--;
    }
    sim__reply_array(out, 3);
    sim__reply_id(out, k < g->count ? g->list[k].id : (tide_id){0, 0});
    sim__reply_array(out, number);
    sim__put(out, rows.data, rows.size);
    sim__reply_array(out, gone_count);
    sim__put(out, gone.data, gone.size);
    free(rows.data);
    free(gone.data);
}

/* What the consumer asks of it, and no more. */
void sim__cmd_xinfo(sim_server *server, const tide_str *args, size_t count, bytes *out) {
    if (count != 3) {
        sim__reply_arity(out, "xinfo");
        return;
    }
    stream *s;
    if (!sim__find_stream(server, args[2], &s, out))
        return;
    if (s == NULL) {
        sim__reply_error(out, "ERR no such key");
    } else if (sim__is(args[1], "STREAM")) {
        sim__reply_array(out, 4);
        sim__reply_str(out, TIDE_STR("length"));
        sim__reply_int(out, (int64_t)s->count);
        sim__reply_str(out, TIDE_STR("last-generated-id"));
        sim__reply_id(out, s->last);
    } else if (sim__is(args[1], "GROUPS")) {
        sim__reply_array(out, s->group_count);
        for (size_t i = 0; i < s->group_count; i++) {
            const group *g = s->groups[i];
            sim__reply_array(out, 6);
            sim__reply_str(out, TIDE_STR("name"));
            sim__reply_str(out, tide_str_from(g->name));
            sim__reply_str(out, TIDE_STR("pending"));
            sim__reply_int(out, (int64_t)g->count);
            sim__reply_str(out, TIDE_STR("last-delivered-id"));
            sim__reply_id(out, g->last);
        }
    } else {
        sim__reply_error(out, SIM_SYNTAX);
    }
}
