/* SPDX-License-Identifier: MIT */
/*
 * What it is: random commands and scripts for the differential test, from a seed.
 * What it is not: a comparison; test_differential.c sends them to both servers.
 * Invariants: the same seed gives the same commands; a command has at most COMMAND_ARGS_MAX arguments.
 */
#include "command.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a command ---- */

void sim__arg(command *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(c->memory[c->count], sizeof c->memory[0], format, args);
    va_end(args);
    assert(c->count < COMMAND_ARGS_MAX && (size_t)size < sizeof c->memory[0]);
    c->args[c->count] = (tide_str){c->memory[c->count], (size_t)size};
    c->count++;
}

void sim__command_encode(const command *c, char **bytes, size_t *size) {
    size_t room = 64;
    for (size_t i = 0; i < c->count; i++)
        room += c->args[i].len + 32;
    char *out = malloc(room);
    size_t at = (size_t)sprintf(out, "*%zu\r\n", c->count);
    for (size_t i = 0; i < c->count; i++) {
        at += (size_t)sprintf(out + at, "$%zu\r\n", c->args[i].len);
        memcpy(out + at, c->args[i].data, c->args[i].len);
        at += c->args[i].len;
        out[at++] = '\r';
        out[at++] = '\n';
    }
    *bytes = out;
    *size = at;
}

/* ---- random commands ---- */

static uint64_t below(tide_prng *p, uint64_t bound) {
    return tide_prng_below(p, bound);
}
static const char *key(tide_prng *p) {
    static const char *const keys[] = {"{k}a", "{k}a",       "{k}a",   "{k}b",
                                       "{k}b", "{k}missing", "{k}text"};
    return keys[below(p, 7)];
}
static const char *group(tide_prng *p) {
    static const char *const groups[] = {"g1", "g1", "g2", "nobody"};
    return groups[below(p, 4)];
}
static const char *consumer(tide_prng *p) {
    static const char *const names[] = {"alice", "alice", "bob", "carol"};
    return names[below(p, 4)];
}
static void arg_id(command *c, tide_prng *p) {
    if (below(p, 40) == 0) {
        sim__arg(c, "nonsense");
    } else if (below(p, 3) == 0) {
        sim__arg(c, "%u", (unsigned)below(p, 60));
    } else {
        sim__arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 3));
    }
}
static void arg_bound(command *c, tide_prng *p, bool low) {
    switch (below(p, 4)) {
    case 0: sim__arg(c, low ? "-" : "+"); break;
    case 1: sim__arg(c, "(%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 3)); break;
    default: arg_id(c, p);
    }
}
static const char *idle(tide_prng *p) {
    return below(p, 3) == 0 ? "3600000" : "0";
}

void sim__arg_script(command *c, redis_script script) {
    c->args[c->count++] = redis_script_text(script);
}

static uint32_t delayed_number;

/* A packed entry of the delayed set: "*", and one field. Damaged at times: what can't be an XADD must not be tried. */
static void arg_packed(command *c, tide_prng *p) {
    static const char *const parts[] = {"*", "event_id", "e1", "MAXLEN", "~", "9"};
    /* How many it says, and which there are. */
    static const int shapes[][7] = {
        {3, 0, 1, 2},
        {6, 3, 4, 5, 0, 1, 2},
        {7, 3, 4, 5, 0, 1, 2},
        {6, 3, 5, 5, 0, 1, 2},
        {3, 3, 4, 5},
        {4, 0, 1, 2, 1},
        {3, 1, 1, 2},
        {2, 0, 1},
        {1, 0},
        {0},
    };
    const int *shape = shapes[below(p, 3) == 0 ? below(p, sizeof shapes / sizeof *shapes) : 0];
    char *at = c->memory[c->count], *start = at;
    uint32_t count = below(p, 20) == 0 ? UINT32_MAX - (uint32_t)below(p, 3) : (uint32_t)shape[0];
    memcpy(at, &count, 4);
    at += 4;
    for (int i = 1; i <= shape[0] && i < 7; i++) {
        uint32_t len = (uint32_t)strlen(parts[shape[i]]);
        memcpy(at, &len, 4);
        memcpy(at + 4, parts[shape[i]], len);
        at += 4 + len;
    }
    size_t size = (size_t)(at - start);
    if (below(p, 12) == 0)
        size = (size_t)below(p, size);
    c->args[c->count++] = (tide_str){start, size};
}

static void make_script(command *c, tide_prng *p) {
    sim__arg(c, "EVAL");
    switch (below(p, 12)) {
    case 0:
    case 1:
        sim__arg_script(c, SCRIPT_DEAD);
        sim__arg(c, "2");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "{k}dead");
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        sim__arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
        sim__arg(c, "n");
        sim__arg(c, "1");
        break;
    case 2:
        sim__arg_script(c, SCRIPT_DELAY);
        sim__arg(c, "3");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "{k}delayed");
        sim__arg(c, "{k}delayed:events");
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        sim__arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
        sim__arg(c, "m%u", delayed_number++);
        sim__arg(c, below(p, 2) == 0 ? "0" : "3600000");
        arg_packed(c, p);
        break;
    case 3:
    case 4: {
        sim__arg_script(c, SCRIPT_OWN);
        sim__arg(c, "1");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        for (uint64_t i = 1 + below(p, 4); i > 0; i--) {
            sim__arg(c, below(p, 2) == 0 ? "release" : "attempt");
            sim__arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
            sim__arg(c, "%u", (unsigned)below(p, 9));
        }
        break;
    }
    case 5:
    case 6: {
        sim__arg_script(c, SCRIPT_EXTEND);
        sim__arg(c, "1");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        uint32_t id = (uint32_t)below(p, 10);
        for (uint64_t i = 1 + below(p, 6); i > 0; i--, id += 1 + (uint32_t)below(p, 9))
            sim__arg(c, "%u-0", id);
        break;
    }
    case 7:
        sim__arg_script(c, SCRIPT_GONE);
        sim__arg(c, "1");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        sim__arg(c, "0-0");
        sim__arg(c, "+");
        sim__arg(c, "%u", 1 + (unsigned)below(p, 5));
        break;
    case 8:
        sim__arg_script(c, SCRIPT_DEDUPE);
        sim__arg(c, "3");
        sim__arg(c, "{k}once");
        sim__arg(c, "{k}once:%u", (unsigned)below(p, 8));
        sim__arg(c, "{k}once:%u", 8 + (unsigned)below(p, 8));
        sim__arg(c, "600000");
        sim__arg(c, "%s", "");
        sim__arg(c, "0");
        sim__arg(c, "2");
        sim__arg(c, "event_id");
        sim__arg(c, "x");
        sim__arg(c, "2");
        sim__arg(c, "event_id");
        sim__arg(c, "y");
        break;
    case 9:
        sim__arg_script(c, SCRIPT_APPEND);
        sim__arg(c, "2");
        sim__arg(c, "{k}log");
        sim__arg(c, "{k}log:version");
        switch (below(p, 4)) {
        case 0: sim__arg(c, "any"); break;
        case 1: sim__arg(c, "no_stream"); break;
        case 2: sim__arg(c, "exists"); break;
        default: sim__arg(c, "=%u", (unsigned)below(p, 12));
        }
        sim__arg(c, "%s", "");
        sim__arg(c, "0");
        sim__arg(c, "2");
        sim__arg(c, "event_id");
        sim__arg(c, "x");
        break;
    case 10:
        sim__arg_script(c, SCRIPT_SCHEDULE);
        sim__arg(c, "4");
        sim__arg(c, "{k}later");
        sim__arg(c, "{k}later:events");
        sim__arg(c, below(p, 8) == 0 ? "{k}text" : "{k}wake");
        sim__arg(c, "{k}once:%u", (unsigned)below(p, 16));
        if (below(p, 2) == 0) {
            sim__arg(c, "in");
            sim__arg(c, "3600000");
        } else {
            sim__arg(c, "at");
            sim__arg(c, "1");
        }
        sim__arg(c, below(p, 2) == 0 ? "0" : "600000");
        sim__arg(c, "s%u", (unsigned)below(p, 12));
        arg_packed(c, p);
        break;
    default:
        sim__arg_script(c, SCRIPT_CANCEL);
        sim__arg(c, "3");
        sim__arg(c, "{k}later");
        sim__arg(c, "{k}later:events");
        sim__arg(c, "{k}nothing");
        sim__arg(c, "s%u", (unsigned)below(p, 12));
        break;
    }
}

void sim__command_make(command *c, tide_prng *p, uint32_t *next_id) {
    c->count = 0;
    c->hide = -1;
    switch (below(p, 27)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        sim__arg(c, "XADD");
        sim__arg(c, "%s", key(p));
        if (below(p, 8) == 0)
            sim__arg(c, "NOMKSTREAM");
        if (below(p, 12) == 0) {
            sim__arg(c, "MAXLEN");
            if (below(p, 2) == 0)
                sim__arg(c, "=");
            sim__arg(c, "%u", (unsigned)below(p, 12));
        } else if (below(p, 20) == 0) {
            sim__arg(c, "MINID");
            sim__arg(c, "%u", (unsigned)below(p, 40));
        }
        if (below(p, 8) == 0) {
            arg_id(c, p);
        } else if (below(p, 6) == 0) {
            sim__arg(c, "%u-*", *next_id);
        } else {
            sim__arg(c, "%u-%u", (*next_id)++, (unsigned)below(p, 2));
        }
        for (uint64_t i = 1 + below(p, 3); i > 0; i--) {
            sim__arg(c, "field%u", (unsigned)i);
            sim__arg(c, "value %u", (unsigned)below(p, 1000));
        }
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        sim__arg(c, "XREADGROUP");
        sim__arg(c, "GROUP");
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        if (below(p, 4) != 0) {
            sim__arg(c, "COUNT");
            sim__arg(c, "%u", (unsigned)below(p, 6));
        }
        if (below(p, 15) == 0)
            sim__arg(c, "NOACK");
        sim__arg(c, "STREAMS");
        sim__arg(c, "%s", key(p));
        if (below(p, 3) != 0) {
            sim__arg(c, ">");
        } else {
            arg_id(c, p);
        }
        break;
    case 9:
    case 10:
        sim__arg(c, "XACK");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        for (uint64_t i = 1 + below(p, 4); i > 0; i--)
            arg_id(c, p);
        break;
    case 11:
        sim__arg(c, "XPENDING");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        break;
    case 12:
    case 13:
        sim__arg(c, "XPENDING");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        if (below(p, 3) == 0) {
            sim__arg(c, "IDLE");
            sim__arg(c, "%s", idle(p));
        }
        arg_bound(c, p, true);
        arg_bound(c, p, false);
        sim__arg(c, "%u", (unsigned)below(p, 12));
        if (below(p, 2) == 0)
            sim__arg(c, "%s", consumer(p));
        c->hide = 2;
        break;
    case 14:
    case 15:
        sim__arg(c, "XCLAIM");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        sim__arg(c, "%s", idle(p));
        for (uint64_t i = 1 + below(p, 4); i > 0; i--)
            sim__arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
        if (below(p, 3) == 0) {
            sim__arg(c, "IDLE");
            sim__arg(c, "7200000");
        }
        if (below(p, 3) == 0) {
            sim__arg(c, "RETRYCOUNT");
            sim__arg(c, "%u", (unsigned)below(p, 9));
        }
        if (below(p, 6) == 0)
            sim__arg(c, "FORCE");
        if (below(p, 2) == 0)
            sim__arg(c, "JUSTID");
        break;
    case 16:
    case 17:
        sim__arg(c, "XAUTOCLAIM");
        sim__arg(c, "%s", key(p));
        sim__arg(c, "%s", group(p));
        sim__arg(c, "%s", consumer(p));
        sim__arg(c, "%s", idle(p));
        arg_bound(c, p, true);
        if (below(p, 2) == 0) {
            sim__arg(c, "COUNT");
            sim__arg(c, "%u", (unsigned)below(p, 5));
        }
        if (below(p, 3) == 0)
            sim__arg(c, "JUSTID");
        break;
    case 18: {
        bool back = below(p, 2) == 0;
        sim__arg(c, back ? "XREVRANGE" : "XRANGE");
        sim__arg(c, "%s", key(p));
        arg_bound(c, p, !back);
        arg_bound(c, p, back);
        if (below(p, 2) == 0) {
            sim__arg(c, "COUNT");
            sim__arg(c, "%u", (unsigned)below(p, 8));
        }
        break;
    }
    case 19:
        sim__arg(c, "XDEL");
        sim__arg(c, "%s", key(p));
        arg_id(c, p);
        arg_id(c, p);
        break;
    case 20:
        if (below(p, 4) == 0) {
            sim__arg(c, "XTRIM");
            sim__arg(c, "%s", key(p));
            sim__arg(c, "MAXLEN");
            sim__arg(c, "%u", (unsigned)below(p, 20));
        } else {
            sim__arg(c, "XLEN");
            sim__arg(c, "%s", below(p, 2) == 0 ? "{k}dead" : key(p));
        }
        break;
    case 21:
        sim__arg(c, "XGROUP");
        switch (below(p, 8)) {
        case 0:
        case 1:
        case 2:
            sim__arg(c, "CREATE");
            sim__arg(c, "%s", key(p));
            sim__arg(c, "%s", group(p));
            sim__arg(c, below(p, 3) == 0 ? "$" : "0");
            if (below(p, 2) == 0)
                sim__arg(c, "MKSTREAM");
            break;
        case 3:
            sim__arg(c, "SETID");
            sim__arg(c, "%s", key(p));
            sim__arg(c, "%s", group(p));
            sim__arg(c, "%u", (unsigned)below(p, 40));
            break;
        case 4:
            /* Names of its own: whether a read or claim that brings nothing makes its consumer differs by version. */
            sim__arg(c, "CREATECONSUMER");
            sim__arg(c, "%s", key(p));
            sim__arg(c, "%s", group(p));
            sim__arg(c, "made%u", (unsigned)below(p, 3));
            break;
        case 5:
        case 6:
            sim__arg(c, "DELCONSUMER");
            sim__arg(c, "%s", key(p));
            sim__arg(c, "%s", group(p));
            sim__arg(c, "%s", consumer(p));
            break;
        default:
            sim__arg(c, "DESTROY");
            sim__arg(c, "%s", key(p));
            sim__arg(c, "%s", group(p));
        }
        break;
    case 22:
        sim__arg(c, "GET");
        sim__arg(c, "%s", key(p));
        break;
    case 23: {
        sim__arg(c, "XREAD");
        if (below(p, 2) == 0) {
            sim__arg(c, "COUNT");
            sim__arg(c, "%u", (unsigned)below(p, 5));
        }
        sim__arg(c, "STREAMS");
        uint64_t streams = 1 + below(p, 3);
        for (uint64_t i = 0; i < streams; i++)
            sim__arg(c, "%s", below(p, 6) == 0 ? "{k}wake" : key(p));
        for (uint64_t i = 0; i < streams; i++)
            arg_id(c, p);
        break;
    }
    default: make_script(c, p);
    }
}
