/* SPDX-License-Identifier: MIT */
/*
 * What it is: the data of the simulated server (keys, streams, groups, strings, sets) and the writing of replies.
 * What it is not: a command.
 * Invariants: entries and pending lists are ascending by id; nothing depends on addresses, so a run repeats exactly.
 */
#include "server_data.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory and bytes: a test program ends when there is none ---- */

void *sim__grab(void *old, size_t size) {
    void *made = realloc(old, size);
    if (made == NULL) {
        fprintf(stderr, "simulator: out of memory\n");
        abort();
    }
    return made;
}

void sim__put(bytes *b, const void *data, size_t size) {
    if (b->begin > 0 && b->begin == b->size)
        b->begin = b->size = 0;
    if (b->size + size > b->capacity) {
        b->capacity = (b->size + size) * 2 + 64;
        b->data = sim__grab(b->data, b->capacity);
    }
    if (size > 0)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

void sim__put_format(bytes *b, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim__put(b, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

void sim__reply_int(bytes *out, int64_t number) {
    sim__put_format(out, ":%lld\r\n", (long long)number);
}
void sim__reply_array(bytes *out, size_t count) {
    sim__put_format(out, "*%zu\r\n", count);
}
void sim__reply_null_array(bytes *out) {
    sim__put(out, "*-1\r\n", 5);
}
void sim__reply_null(bytes *out) {
    sim__put(out, "$-1\r\n", 5);
}
void sim__reply_str(bytes *out, tide_str text) {
    sim__put_format(out, "$%zu\r\n", text.len);
    sim__put(out, text.data, text.len);
    sim__put(out, "\r\n", 2);
}
void sim__reply_id(bytes *out, tide_id id) {
    char text[TIDE_ID_TEXT_MAX];
    sim__reply_str(out, (tide_str){text, tide_id_format(text, id)});
}
void sim__reply_error(bytes *out, const char *text) {
    sim__put_format(out, "-%s\r\n", text);
}
void sim__reply_ok(bytes *out) {
    sim__put(out, "+OK\r\n", 5);
}

char *sim__copy_text(tide_str text) {
    char *copy = sim__grab(NULL, text.len + 1);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

/* ---- data ---- */

static object **bucket_of(sim_server *server, tide_str name) {
    return &server->buckets[tide_str_hash(name) % BUCKETS];
}

void sim__group_free(group *g) {
    for (uint32_t i = 0; i < g->name_count; i++)
        free(g->names[i]);
    free(g->names);
    free(g->list);
    free(g->name);
    free(g);
}

void sim__object_clear(object *o) {
    if (o->stream != NULL) {
        stream *s = o->stream;
        for (size_t i = s->first; i < s->first + s->count; i++) {
            free(s->entries[i].fields);
            free(s->entries[i].memory);
        }
        for (size_t i = 0; i < s->group_count; i++)
            sim__group_free(s->groups[i]);
        free(s->groups);
        free(s->entries);
        free(s);
    }
    for (size_t i = 0; i < o->member_count; i++) {
        free(o->members[i].name);
        free(o->members[i].value);
    }
    free(o->members);
    free(o->text);
    o->stream = NULL;
    o->members = NULL;
    o->member_count = 0;
    o->text = NULL;
    o->text_len = 0;
    o->expires_ms = 0;
}

bool sim__delete_key(sim_server *server, tide_str name) {
    for (object **at = bucket_of(server, name); *at != NULL; at = &(*at)->next) {
        object *o = *at;
        if (!tide_str_equal((tide_str){o->name, o->name_len}, name))
            continue;
        *at = o->next;
        sim__object_clear(o);
        free(o->name);
        free(o);
        server->dirty++;
        return true;
    }
    return false;
}

object *sim__find(sim_server *server, tide_str name) {
    for (object *o = *bucket_of(server, name); o != NULL; o = o->next) {
        if (!tide_str_equal((tide_str){o->name, o->name_len}, name))
            continue;
        if (o->expires_ms != 0 && o->expires_ms <= server->now_ms) {
            sim__delete_key(server, name);
            return NULL;
        }
        return o;
    }
    return NULL;
}

object *sim__make(sim_server *server, tide_str name, kind k) {
    object *o = sim__grab(NULL, sizeof *o);
    memset(o, 0, sizeof *o);
    o->name = sim__copy_text(name);
    o->name_len = name.len;
    o->kind = k;
    if (k == KIND_STREAM) {
        o->stream = sim__grab(NULL, sizeof *o->stream);
        memset(o->stream, 0, sizeof *o->stream);
    }
    object **at = bucket_of(server, name);
    o->next = *at;
    *at = o;
    return o;
}

/* The stream of this name, NULL when missing; an error reply for another type. */
bool sim__find_stream(sim_server *server, tide_str name, stream **s, bytes *out) {
    object *o = sim__find(server, name);
    *s = NULL;
    if (o == NULL)
        return true;
    if (o->kind != KIND_STREAM) {
        sim__reply_error(out, SIM_WRONG_TYPE);
        return false;
    }
    *s = o->stream;
    return true;
}

group *sim__find_group(const stream *s, tide_str name) {
    for (size_t i = 0; s != NULL && i < s->group_count; i++)
        if (tide_str_equal(tide_str_from(s->groups[i]->name), name))
            return s->groups[i];
    return NULL;
}

/* Index of the first entry with an id ≥ this one, counted from `first`. */
size_t sim__entry_at(const stream *s, tide_id id) {
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tide_id_compare(s->entries[s->first + middle].id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const entry *sim__find_entry(const stream *s, tide_id id) {
    size_t i = sim__entry_at(s, id);
    if (i < s->count && tide_id_compare(s->entries[s->first + i].id, id) == 0)
        return &s->entries[s->first + i];
    return NULL;
}

size_t sim__pending_at(const group *g, tide_id id) {
    size_t low = 0, high = g->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tide_id_compare(g->list[middle].id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

pending *sim__find_pending(group *g, tide_id id) {
    size_t i = sim__pending_at(g, id);
    return i < g->count && tide_id_compare(g->list[i].id, id) == 0 ? &g->list[i] : NULL;
}

pending *sim__add_pending(group *g, tide_id id) {
    size_t i = sim__pending_at(g, id);
    if (g->count == g->capacity) {
        g->capacity = g->capacity * 2 + 16;
        g->list = sim__grab(g->list, g->capacity * sizeof *g->list);
    }
    memmove(&g->list[i + 1], &g->list[i], (g->count - i) * sizeof *g->list);
    g->list[i] = (pending){.id = id};
    g->count++;
    return &g->list[i];
}

void sim__drop_pending(group *g, pending *p) {
    size_t i = (size_t)(p - g->list);
    memmove(p, p + 1, (g->count - i - 1) * sizeof *p);
    g->count--;
}

bool sim__find_consumer(const group *g, tide_str name, uint32_t *consumer) {
    for (uint32_t i = 0; i < g->name_count; i++) {
        if (g->names[i] != NULL && tide_str_equal(tide_str_from(g->names[i]), name)) {
            *consumer = i;
            return true;
        }
    }
    return false;
}

uint32_t sim__make_consumer(group *g, tide_str name) {
    uint32_t consumer;
    if (sim__find_consumer(g, name, &consumer))
        return consumer;
    g->names = sim__grab(g->names, (g->name_count + 1) * sizeof *g->names);
    g->names[g->name_count] = sim__copy_text(name);
    return g->name_count++;
}

void sim__remove_entries(stream *s, size_t from, size_t count) {
    for (size_t i = from; i < from + count; i++) {
        free(s->entries[s->first + i].fields);
        free(s->entries[s->first + i].memory);
    }
    if (from == 0) {
        s->first += count;
    } else {
        entry *at = &s->entries[s->first + from];
        memmove(at, at + count, (s->count - from - count) * sizeof *at);
    }
    s->count -= count;
}

void sim__append(stream *s, tide_id id, const tide_str *fields, size_t count) {
    if (s->first + s->count == s->capacity) {
        if (s->first > s->capacity / 2) {
            memmove(s->entries, s->entries + s->first, s->count * sizeof *s->entries);
            s->first = 0;
        } else {
            s->capacity = s->capacity * 2 + 16;
            s->entries = sim__grab(s->entries, s->capacity * sizeof *s->entries);
        }
    }
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        size += fields[i].len;
    entry *e = &s->entries[s->first + s->count++];
    *e = (entry){.id = id, .count = count};
    e->fields = sim__grab(NULL, count * sizeof *e->fields);
    e->memory = sim__grab(NULL, size);
    char *at = e->memory;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, fields[i].data, fields[i].len);
        e->fields[i] = (tide_str){at, fields[i].len};
        at += fields[i].len;
    }
    s->last = id;
}

void sim__reply_entry(bytes *out, const entry *e) {
    sim__reply_array(out, 2);
    sim__reply_id(out, e->id);
    sim__reply_array(out, e->count);
    for (size_t i = 0; i < e->count; i++)
        sim__reply_str(out, e->fields[i]);
}
