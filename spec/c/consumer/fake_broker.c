/* SPDX-License-Identifier: MIT */
/*
 * What it is: the port with the test on its other side.
 * What it is not: a model of a server; the simulator has one.
 * Invariants: each operation is answered once; operations keep their order.
 */
#include "fake_broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static void op_free(fake_op *op) {
    for (size_t i = 0; op->bodies != NULL && i < op->count; i++)
        free(op->bodies[i]);
    free(op->bodies);
    free(op->items);
    free(op->ids);
}

static char *body_of(const tide_settlement *item) {
    size_t size = 1;
    for (size_t i = 0; i < item->field_count; i++)
        size += item->fields[i].name.len + item->fields[i].value.len + 2;
    char *text = malloc(size), *at = text;
    for (size_t i = 0; i < item->field_count; i++)
        at += sprintf(at, "%.*s=%.*s;", (int)item->fields[i].name.len, item->fields[i].name.data,
                      (int)item->fields[i].value.len, item->fields[i].value.data);
    *at = '\0';
    return text;
}

static tide_status submit(tide_broker *broker, const tide_op *op, int64_t now_us,
                          tide_error *error) {
    (void)now_us;
    fake_broker *fake = (fake_broker *)broker;
    if (fake->refuse != TIDE_OK)
        return tide_error_set(error, fake->refuse, "refused by the test");
    if (fake->op_count == FAKE_OPS_MAX)
        abort();
    fake->submitted[op->kind]++;
    fake_op *kept = &fake->ops[fake->op_count++];
    *kept = (fake_op){.kind = op->kind, .tag = op->tag};
    switch (op->kind) {
    case TIDE_OP_FETCH:
        kept->history = op->as.fetch.history;
        kept->after = op->as.fetch.after;
        kept->count_max = op->as.fetch.count_max;
        break;
    case TIDE_OP_RECOVER:
        kept->after = op->as.recover.cursor;
        kept->count_max = op->as.recover.count_max;
        break;
    case TIDE_OP_GROUP_ENSURE:
        snprintf(kept->start, sizeof kept->start, "%.*s", (int)op->as.group_ensure.start.len,
                 op->as.group_ensure.start.data);
        break;
    case TIDE_OP_COMMAND:
        snprintf(kept->start, sizeof kept->start, "%.*s %.*s", (int)op->as.command.args[0].len,
                 op->as.command.args[0].data, (int)op->as.command.args[1].len,
                 op->as.command.args[1].data);
        break;
    case TIDE_OP_SETTLE:
        kept->count = op->as.settle.item_count;
        kept->items = malloc(kept->count * sizeof *kept->items);
        kept->bodies = calloc(kept->count, sizeof *kept->bodies);
        memcpy(kept->items, op->as.settle.items, kept->count * sizeof *kept->items);
        for (size_t i = 0; i < kept->count; i++) {
            if (kept->items[i].field_count > 0)
                kept->bodies[i] = body_of(&kept->items[i]);
            kept->items[i].fields = NULL;
        }
        break;
    case TIDE_OP_EXTEND:
        kept->count = op->as.extend.id_count;
        kept->ids = malloc(kept->count * sizeof *kept->ids);
        memcpy(kept->ids, op->as.extend.ids, kept->count * sizeof *kept->ids);
        for (size_t i = 1; i < kept->count; i++)
            if (tide_id_compare(kept->ids[i - 1], kept->ids[i]) >= 0)
                abort(); /* the port says: ascending */
        break;
    default: break;
    }
    return TIDE_OK;
}

static bool next_completion(tide_broker *broker, tide_completion *completion) {
    fake_broker *fake = (fake_broker *)broker;
    if (fake->done_count == 0)
        return false;
    free(fake->last_memory);
    *completion = fake->done[fake->done_first];
    fake->last_memory = fake->done_memory[fake->done_first];
    fake->done_first = (fake->done_first + 1) % FAKE_OPS_MAX;
    fake->done_count--;
    return true;
}

static void interrupt(tide_broker *broker, uint32_t reader, int64_t now_us) {
    (void)reader, (void)now_us;
    ((fake_broker *)broker)->interrupts++;
}

static void drop_reader(tide_broker *broker, uint32_t reader, int64_t now_us) {
    (void)reader, (void)now_us;
    ((fake_broker *)broker)->drops++;
}

static const uint64_t *watch(tide_broker *broker, tide_str stream, int64_t now_us) {
    (void)stream, (void)now_us;
    fake_broker *fake = (fake_broker *)broker;
    fake->watching++;
    return &fake->wakes;
}

static void unwatch(tide_broker *broker, const uint64_t *watched, int64_t now_us) {
    (void)now_us;
    fake_broker *fake = (fake_broker *)broker;
    if (watched != &fake->wakes || fake->watching == 0)
        abort();
    fake->watching--;
}

static void tick(tide_broker *broker, int64_t now_us) {
    (void)broker, (void)now_us;
}

static int64_t deadline_us(const tide_broker *broker) {
    (void)broker;
    return INT64_MAX;
}

static tide_status state(const tide_broker *broker, tide_error *error) {
    (void)broker, (void)error;
    return TIDE_OK;
}

static void destroy(tide_broker *broker) {
    (void)broker;
}

static const tide_broker_vtable vtable = {.name = "fake",
                                          .destroy = destroy,
                                          .submit = submit,
                                          .next_completion = next_completion,
                                          .interrupt = interrupt,
                                          .drop_reader = drop_reader,
                                          .watch = watch,
                                          .unwatch = unwatch,
                                          .tick = tick,
                                          .deadline_us = deadline_us,
                                          .state = state};

void fake_broker_init(fake_broker *fake, const tide_allocator *alloc) {
    memset(fake, 0, sizeof *fake);
    fake->base.vtable = &vtable;
    fake->alloc = alloc;
}

void fake_broker_deinit(fake_broker *fake) {
    for (size_t i = 0; i < fake->op_count; i++)
        op_free(&fake->ops[i]);
    while (fake->done_count > 0) {
        tide_completion completion;
        next_completion(&fake->base, &completion);
        if (completion.status == TIDE_OK && completion.kind == TIDE_OP_FETCH)
            tide_batch_release(completion.as.fetch.batch);
        if (completion.status == TIDE_OK && completion.kind == TIDE_OP_RECOVER)
            tide_batch_release(completion.as.recover.batch);
    }
    free(fake->last_memory);
}

fake_op *fake_find(fake_broker *fake, tide_op_kind kind) {
    for (size_t i = 0; i < fake->op_count; i++)
        if (fake->ops[i].kind == kind)
            return &fake->ops[i];
    return NULL;
}

/* Moves the operation out of the list into a completion. */
static tide_completion *finish(fake_broker *fake, fake_op *op, tide_status status, void *memory) {
    size_t at = (fake->done_first + fake->done_count++) % FAKE_OPS_MAX;
    tide_completion *completion = &fake->done[at];
    *completion = (tide_completion){.kind = op->kind, .tag = op->tag, .status = status};
    completion->error.status = status;
    fake->done_memory[at] = memory;
    op_free(op);
    size_t index = (size_t)(op - fake->ops);
    memmove(op, op + 1, (fake->op_count - index - 1) * sizeof *op);
    fake->op_count--;
    return completion;
}

void fake_answer(fake_broker *fake, fake_op *op, tide_status status) {
    if (op == NULL)
        abort();
    tide_op_kind kind = op->kind;
    tide_completion *completion = finish(fake, op, status, NULL);
    if (kind == TIDE_OP_PROMOTE)
        completion->as.promote.next_due_ms = -1;
}

void fake_answer_settle(fake_broker *fake, fake_op *op, const tide_status *results) {
    if (op == NULL)
        abort();
    size_t count = op->count;
    tide_status *kept = malloc(count * sizeof *kept);
    memcpy(kept, results, count * sizeof *kept);
    tide_completion *completion = finish(fake, op, TIDE_OK, kept);
    completion->as.settle.results = kept;
    completion->as.settle.count = count;
}

static void release_backing(void *backing) {
    free(backing);
}

void fake_answer_batch(fake_broker *fake, fake_op *op, const tide_entry *entries, size_t count,
                       tide_id cursor) {
    if (op == NULL)
        abort();
    tide_batch *batch = NULL;
    tide_op_kind kind = op->kind;
    if (count > 0) {
        size_t fields = 0, text = 1;
        for (size_t i = 0; i < count; i++) {
            fields += entries[i].field_count;
            for (uint32_t j = 0; j < entries[i].field_count; j++)
                text += entries[i].fields[j].name.len + entries[i].fields[j].value.len;
        }
        batch = tide_batch_create(fake->alloc, count, fields);
        if (batch == NULL) {
            finish(fake, op, TIDE_ENOMEM, NULL);
            return;
        }
        char *backing = malloc(text), *at = backing;
        tide_field *field = tide_batch_fields(batch);
        batch->backing = backing;
        batch->release_backing = release_backing;
        batch->count = count;
        for (size_t i = 0; i < count; i++) {
            batch->entries[i] = entries[i];
            batch->entries[i].fields = field;
            batch->entries[i].bytes = 0;
            for (uint32_t j = 0; j < entries[i].field_count; j++, field++) {
                tide_field from = entries[i].fields[j];
                memcpy(at, from.name.data, from.name.len);
                field->name = (tide_str){at, from.name.len};
                at += from.name.len;
                memcpy(at, from.value.data, from.value.len);
                field->value = (tide_str){at, from.value.len};
                at += from.value.len;
                batch->entries[i].bytes += (uint32_t)(from.name.len + from.value.len);
            }
        }
    }
    tide_completion *completion = finish(fake, op, TIDE_OK, NULL);
    if (kind == TIDE_OP_FETCH) {
        completion->as.fetch.batch = batch;
    } else {
        completion->as.recover.batch = batch;
        completion->as.recover.cursor = cursor;
    }
}

void fake_answer_entries(fake_broker *fake, fake_op *op, uint64_t first_ms, size_t count,
                         uint32_t attempt, size_t size) {
    tide_entry *entries = calloc(count + 1, sizeof *entries);
    char *value = malloc(size + 1);
    memset(value, 'x', size);
    tide_field field = {TIDE_STR("n"), {value, size}};
    for (size_t i = 0; i < count; i++)
        entries[i] = (tide_entry){
            .id = {first_ms + i, 0}, .fields = &field, .field_count = 1, .attempt = attempt};
    fake_answer_batch(fake, op, entries, count, (tide_id){0, 0});
    free(entries);
    free(value);
}

void fake_answer_lost(fake_broker *fake, fake_op *op, const tide_id *lost, size_t count) {
    if (op == NULL)
        abort();
    tide_id *kept = malloc((count + 1) * sizeof *kept);
    memcpy(kept, lost, count * sizeof *kept);
    tide_completion *completion = finish(fake, op, TIDE_OK, kept);
    completion->as.extend.lost = kept;
    completion->as.extend.lost_count = count;
}

void fake_answer_promote(fake_broker *fake, fake_op *op, uint32_t moved, int64_t next_due_ms) {
    if (op == NULL)
        abort();
    tide_completion *completion = finish(fake, op, TIDE_OK, NULL);
    completion->as.promote.moved = moved;
    completion->as.promote.next_due_ms = next_due_ms;
}

void fake_answer_reply(fake_broker *fake, fake_op *op, const tide_reply *reply) {
    if (op == NULL)
        abort();
    finish(fake, op, TIDE_OK, NULL)->as.command.reply = reply;
}
