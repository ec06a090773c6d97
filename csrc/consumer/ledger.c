/* SPDX-License-Identifier: MIT */
/*
 * What it is: the slots of one consumer, their lists, the index by id, and the batches their entries live in.
 * What it is not: a decision; who runs, waits or is settled when is consumer.c's and settlement.c's.
 *
 * Invariants (tide__ledger_check):
 *   1. every slot is FREE and in `free`, or is found by its id through `index`; no id is held twice.
 *   2. counts[s] is the number of slots in state s; `ready` and `suspect` hold exactly the slots of these states, each
 *      list strictly ascending by id.
 *   3. a slot is in `queue` or `deferred` exactly when `queued` says so; LIMBO slots are in `limbo`.
 *   4. a timer is armed exactly while its slot is WAITING.
 *   5. a batch is kept exactly as long as `live` > 0 slots point to it; `bytes` is the sum over kept batches and copies.
 *   6. `handle` is 0 exactly when the slot isn't RUNNING.
 */
#include "consumer/ledger.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/text.h"

/* ---- lists ---- */

#define NONE TIDE_SLOT_NONE

static void list_clear(tide_slot_list *list) {
    *list = (tide_slot_list){NONE, NONE, 0};
}

static void queue_append(tide_ledger *ledger, tide_slot_list *list, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    s->queue_prev = list->last;
    s->queue_next = NONE;
    if (list->last != NONE) {
        ledger->slots[list->last].queue_next = slot;
    } else {
        list->first = slot;
    }
    list->last = slot;
    list->count++;
}

static void queue_remove(tide_ledger *ledger, tide_slot_list *list, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    if (s->queue_prev != NONE) {
        ledger->slots[s->queue_prev].queue_next = s->queue_next;
    } else {
        list->first = s->queue_next;
    }
    if (s->queue_next != NONE) {
        ledger->slots[s->queue_next].queue_prev = s->queue_prev;
    } else {
        list->last = s->queue_prev;
    }
    s->queue_prev = s->queue_next = NONE;
    list->count--;
}

static void order_remove(tide_ledger *ledger, tide_slot_list *list, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    if (s->order_prev != NONE) {
        ledger->slots[s->order_prev].order_next = s->order_next;
    } else {
        list->first = s->order_next;
    }
    if (s->order_next != NONE) {
        ledger->slots[s->order_next].order_prev = s->order_prev;
    } else {
        list->last = s->order_prev;
    }
    s->order_prev = s->order_next = NONE;
    list->count--;
}

static bool is_before(const tide_ledger *ledger, uint32_t a, uint32_t b) {
    return tide_id_compare(ledger->slots[a].entry.id, ledger->slots[b].entry.id) < 0;
}

/* By id. New entries belong at the end, retried ones near the front: looked for from both sides at once. */
static void order_insert(tide_ledger *ledger, tide_slot_list *list, uint32_t slot) {
    uint32_t behind = list->last; /* goes behind this one … */
    uint32_t before = list->first;
    while (behind != NONE && is_before(ledger, slot, behind)) {
        if (before != NONE && is_before(ledger, slot, before)) {
            behind = ledger->slots[before].order_prev;
            break;
        }
        if (before != NONE)
            before = ledger->slots[before].order_next;
        behind = ledger->slots[behind].order_prev;
    }
    tide_slot *s = &ledger->slots[slot];
    s->order_prev = behind;
    s->order_next = behind != NONE ? ledger->slots[behind].order_next : list->first;
    if (s->order_prev != NONE) {
        ledger->slots[s->order_prev].order_next = slot;
    } else {
        list->first = slot;
    }
    if (s->order_next != NONE) {
        ledger->slots[s->order_next].order_prev = slot;
    } else {
        list->last = slot;
    }
    list->count++;
}

/* ---- index by id ---- */

static uint32_t place_of(const tide_ledger *ledger, tide_id id) {
    uint64_t h = (id.ms * UINT64_C(0x9e3779b97f4a7c15)) ^ (id.seq * UINT64_C(0xc2b2ae3d27d4eb4f));
    h ^= h >> 29;
    h *= UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(h >> 32) & ledger->index_mask;
}

static void index_add(tide_ledger *ledger, uint32_t slot) {
    uint32_t i = place_of(ledger, ledger->slots[slot].entry.id);
    while (ledger->index[i] != 0)
        i = (i + 1) & ledger->index_mask;
    ledger->index[i] = slot + 1;
}

static void index_remove(tide_ledger *ledger, uint32_t slot) {
    uint32_t mask = ledger->index_mask;
    uint32_t i = place_of(ledger, ledger->slots[slot].entry.id);
    while (ledger->index[i] != slot + 1)
        i = (i + 1) & mask;
    /* Later ones of the same run move up, so that no grave is left. */
    for (uint32_t j = (i + 1) & mask; ledger->index[j] != 0; j = (j + 1) & mask) {
        uint32_t home = place_of(ledger, ledger->slots[ledger->index[j] - 1].entry.id);
        if (((j - home) & mask) >= ((j - i) & mask)) {
            ledger->index[i] = ledger->index[j];
            i = j;
        }
    }
    ledger->index[i] = 0;
}

uint32_t tide__ledger_find(const tide_ledger *ledger, tide_id id) {
    for (uint32_t i = place_of(ledger, id); ledger->index[i] != 0;
         i = (i + 1) & ledger->index_mask) {
        uint32_t slot = ledger->index[i] - 1;
        if (tide_id_compare(ledger->slots[slot].entry.id, id) == 0)
            return slot;
    }
    return NONE;
}

/* ---- life ---- */

static size_t index_size(uint32_t capacity) {
    size_t size = 16;
    while (size < (size_t)capacity * 2)
        size *= 2;
    return size;
}

tide_status tide__ledger_init(tide_ledger *ledger, const tide_allocator *alloc, uint32_t capacity) {
    TIDE_ASSERT(capacity > 0 && capacity < (1u << TIDE_SLOT_INDEX_BITS));
    *ledger = (tide_ledger){.alloc = alloc, .capacity = capacity};
    tide_heap_init(&ledger->timers, alloc);
    size_t places = index_size(capacity);
    ledger->index_mask = (uint32_t)(places - 1);
    ledger->slots = tide_alloc_zero(alloc, capacity, sizeof *ledger->slots);
    ledger->batches = tide_alloc_zero(alloc, capacity, sizeof *ledger->batches);
    ledger->index = tide_alloc_zero(alloc, places, sizeof *ledger->index);
    if (ledger->slots == NULL || ledger->batches == NULL || ledger->index == NULL ||
        tide_heap_reserve(&ledger->timers, capacity) != TIDE_OK) {
        ledger->capacity = ledger->slots != NULL ? capacity : 0;
        if (ledger->slots != NULL)
            tide_free(alloc, ledger->slots, capacity * sizeof *ledger->slots);
        if (ledger->batches != NULL)
            tide_free(alloc, ledger->batches, capacity * sizeof *ledger->batches);
        if (ledger->index != NULL)
            tide_free(alloc, ledger->index, places * sizeof *ledger->index);
        tide_heap_deinit(&ledger->timers);
        *ledger = (tide_ledger){.alloc = alloc};
        return TIDE_ENOMEM;
    }
    list_clear(&ledger->free);
    list_clear(&ledger->ready);
    list_clear(&ledger->suspect);
    list_clear(&ledger->queue);
    list_clear(&ledger->deferred);
    list_clear(&ledger->limbo);
    for (uint32_t i = 0; i < capacity; i++) {
        tide_slot *s = &ledger->slots[i];
        s->order_prev = s->order_next = s->batch = NONE;
        s->verb = TIDE_VERB_NONE;
        queue_append(ledger, &ledger->free, i);
        ledger->batches[i].live = i + 1 < capacity ? i + 1 : NONE;
    }
    ledger->counts[TIDE_SLOT_FREE] = capacity;
    return TIDE_OK;
}

void tide__ledger_deinit(tide_ledger *ledger) {
    if (ledger->slots == NULL)
        return;
    for (uint32_t i = 0; i < ledger->capacity; i++) {
        tide__ledger_drop_entry(ledger, i);
        tide__dead_letter_free(ledger->alloc, ledger->slots[i].dead);
    }
    tide_free(ledger->alloc, ledger->slots, ledger->capacity * sizeof *ledger->slots);
    tide_free(ledger->alloc, ledger->batches, ledger->capacity * sizeof *ledger->batches);
    tide_free(ledger->alloc, ledger->index,
              ((size_t)ledger->index_mask + 1) * sizeof *ledger->index);
    tide_heap_deinit(&ledger->timers);
    *ledger = (tide_ledger){.alloc = ledger->alloc};
}

uint32_t tide__ledger_take(tide_ledger *ledger, tide_id id) {
    uint32_t slot = ledger->free.last; /* the one used last: it is still in the cache */
    TIDE_ASSERT(slot != NONE);
    queue_remove(ledger, &ledger->free, slot);
    tide_slot *s = &ledger->slots[slot];
    s->entry = (tide_entry){.id = id};
    s->state = TIDE_SLOT_SETTLING;
    ledger->counts[TIDE_SLOT_FREE]--;
    ledger->counts[TIDE_SLOT_SETTLING]++;
    index_add(ledger, slot);
    return slot;
}

static void leave(tide_ledger *ledger, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    switch ((tide_slot_state)s->state) {
    case TIDE_SLOT_READY: order_remove(ledger, &ledger->ready, slot); break;
    case TIDE_SLOT_SUSPECT: order_remove(ledger, &ledger->suspect, slot); break;
    case TIDE_SLOT_WAITING: tide_timer_disarm(&ledger->timers, &s->timer); break;
    case TIDE_SLOT_RUNNING: s->handle = 0; break;
    case TIDE_SLOT_LIMBO: queue_remove(ledger, &ledger->limbo, slot); break;
    default: break;
    }
    ledger->counts[s->state]--;
}

void tide__ledger_move(tide_ledger *ledger, uint32_t slot, tide_slot_state state) {
    tide_slot *s = &ledger->slots[slot];
    leave(ledger, slot);
    s->state = (uint8_t)state;
    ledger->counts[state]++;
    if (state == TIDE_SLOT_READY) {
        order_insert(ledger, &ledger->ready, slot);
    } else if (state == TIDE_SLOT_SUSPECT) {
        order_insert(ledger, &ledger->suspect, slot);
    } else if (state == TIDE_SLOT_LIMBO) {
        TIDE_ASSERT(s->queued == TIDE_QUEUE_NONE);
        queue_append(ledger, &ledger->limbo, slot);
    }
}

void tide__ledger_enqueue(tide_ledger *ledger, uint32_t slot, tide_slot_queue queue) {
    tide_slot *s = &ledger->slots[slot];
    if (s->queued == TIDE_QUEUE_WAITING) {
        queue_remove(ledger, &ledger->queue, slot);
    } else if (s->queued == TIDE_QUEUE_DEFERRED) {
        queue_remove(ledger, &ledger->deferred, slot);
    }
    s->queued = (uint8_t)queue;
    if (queue == TIDE_QUEUE_WAITING) {
        queue_append(ledger, &ledger->queue, slot);
    } else if (queue == TIDE_QUEUE_DEFERRED) {
        queue_append(ledger, &ledger->deferred, slot);
    }
}

void tide__ledger_free(tide_ledger *ledger, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    TIDE_ASSERT(s->state != TIDE_SLOT_FREE && s->queued != TIDE_QUEUE_SENT);
    tide__ledger_enqueue(ledger, slot, TIDE_QUEUE_NONE);
    leave(ledger, slot);
    index_remove(ledger, slot);
    tide__ledger_drop_entry(ledger, slot);
    tide__dead_letter_free(ledger->alloc, s->dead);
    *s = (tide_slot){.batch = NONE, .order_prev = NONE, .order_next = NONE, .verb = TIDE_VERB_NONE};
    ledger->counts[TIDE_SLOT_FREE]++;
    queue_append(ledger, &ledger->free, slot);
}

/* ---- batches ---- */

uint32_t tide__ledger_hold(tide_ledger *ledger, tide_batch *batch) {
    uint32_t b = ledger->batch_free;
    TIDE_ASSERT(b != NONE);
    tide_held_batch *held = &ledger->batches[b];
    ledger->batch_free = held->live;
    *held = (tide_held_batch){.batch = batch, .live = 1}; /* the one until hold_end */
    size_t count = tide_batch_count(batch);
    for (size_t i = 0; i < count; i++)
        held->bytes += tide_batch_entry(batch, i)->bytes;
    ledger->bytes += held->bytes;
    return b;
}

static void batch_free(tide_ledger *ledger, uint32_t b) {
    tide_held_batch *held = &ledger->batches[b];
    ledger->bytes -= held->bytes;
    tide_batch_release(held->batch);
    *held = (tide_held_batch){.live = ledger->batch_free};
    ledger->batch_free = b;
}

void tide__ledger_attach(tide_ledger *ledger, uint32_t slot, uint32_t batch) {
    ledger->slots[slot].batch = batch;
    ledger->batches[batch].live++;
}

void tide__ledger_hold_end(tide_ledger *ledger, uint32_t batch) {
    if (--ledger->batches[batch].live == 0)
        batch_free(ledger, batch);
}

static void batch_leave(tide_ledger *ledger, tide_slot *s) {
    uint32_t b = s->batch;
    s->batch = NONE;
    if (--ledger->batches[b].live == 0)
        batch_free(ledger, b);
}

void tide__ledger_drop_entry(tide_ledger *ledger, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    s->entry.fields = NULL;
    s->entry.field_count = 0;
    if (s->batch != NONE)
        batch_leave(ledger, s);
    if (s->copy != NULL) {
        ledger->bytes -= s->copy_size;
        tide_free(ledger->alloc, s->copy, s->copy_size);
        s->copy = NULL;
        s->copy_size = 0;
    }
}

void tide__ledger_detach(tide_ledger *ledger, uint32_t slot) {
    tide_slot *s = &ledger->slots[slot];
    if (s->batch == NONE || s->copy != NULL || s->entry.field_count == 0)
        return;
    if (ledger->batches[s->batch].live == 1 &&
        ledger->batches[s->batch].bytes <= (size_t)s->entry.bytes * 2)
        return; /* it is (almost) alone there already */
    size_t size = s->entry.field_count * sizeof(tide_field);
    for (uint32_t i = 0; i < s->entry.field_count; i++)
        size += s->entry.fields[i].name.len + s->entry.fields[i].value.len;
    char *copy = tide_alloc(ledger->alloc, size);
    if (copy == NULL)
        return;
    tide_field *fields = (tide_field *)(void *)copy;
    char *text = copy + s->entry.field_count * sizeof(tide_field);
    for (uint32_t i = 0; i < s->entry.field_count; i++) {
        tide_field from = s->entry.fields[i];
        if (from.name.len > 0)
            memcpy(text, from.name.data, from.name.len);
        fields[i].name = (tide_str){text, from.name.len};
        text += from.name.len;
        if (from.value.len > 0)
            memcpy(text, from.value.data, from.value.len);
        fields[i].value = (tide_str){text, from.value.len};
        text += from.value.len;
    }
    s->copy = copy;
    s->copy_size = size;
    s->entry.fields = fields;
    ledger->bytes += size;
    batch_leave(ledger, s);
}

/* ---- check ---- */

static void check_order(const tide_ledger *ledger, const tide_slot_list *list, uint8_t state) {
    uint32_t count = 0;
    uint32_t previous = NONE;
    for (uint32_t i = list->first; i != NONE; i = ledger->slots[i].order_next) {
        TIDE_ASSERT(ledger->slots[i].state == state && ledger->slots[i].order_prev == previous);
        TIDE_ASSERT(previous == NONE || is_before(ledger, previous, i));
        previous = i;
        count++;
        TIDE_ASSERT(count <= ledger->capacity);
    }
    TIDE_ASSERT(list->last == previous && list->count == count && count == ledger->counts[state]);
}

static uint32_t check_queue(const tide_ledger *ledger, const tide_slot_list *list) {
    uint32_t count = 0;
    uint32_t previous = NONE;
    for (uint32_t i = list->first; i != NONE; i = ledger->slots[i].queue_next) {
        TIDE_ASSERT(ledger->slots[i].queue_prev == previous);
        previous = i;
        count++;
        TIDE_ASSERT(count <= ledger->capacity);
    }
    TIDE_ASSERT(list->last == previous && list->count == count);
    return count;
}

void tide__ledger_check(const tide_ledger *ledger) {
    uint32_t counts[TIDE_SLOT_STATE_COUNT] = {0};
    uint32_t queued = 0, deferred = 0, attached = 0, live = 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < ledger->capacity; i++) {
        const tide_slot *s = &ledger->slots[i];
        TIDE_ASSERT(s->state < TIDE_SLOT_STATE_COUNT);
        counts[s->state]++;
        if (s->state != TIDE_SLOT_FREE)
            TIDE_ASSERT(tide__ledger_find(ledger, s->entry.id) == i);
        queued += s->queued == TIDE_QUEUE_WAITING;
        deferred += s->queued == TIDE_QUEUE_DEFERRED;
        TIDE_ASSERT((s->state == TIDE_SLOT_WAITING) == tide_timer_is_armed(&s->timer));
        TIDE_ASSERT((s->state == TIDE_SLOT_RUNNING) == (s->handle != 0));
        attached += s->batch != NONE;
        bytes += s->copy_size;
    }
    for (uint32_t i = 0; i < ledger->capacity; i++) {
        const tide_held_batch *held = &ledger->batches[i];
        if (held->batch != NULL) {
            TIDE_ASSERT(held->live > 0);
            live += held->live;
            bytes += held->bytes;
        }
    }
    for (int i = 0; i < TIDE_SLOT_STATE_COUNT; i++)
        TIDE_ASSERT(counts[i] == ledger->counts[i]);
    TIDE_ASSERT(attached == live && bytes == ledger->bytes);
    check_order(ledger, &ledger->ready, TIDE_SLOT_READY);
    check_order(ledger, &ledger->suspect, TIDE_SLOT_SUSPECT);
    TIDE_ASSERT(check_queue(ledger, &ledger->free) == counts[TIDE_SLOT_FREE]);
    TIDE_ASSERT(check_queue(ledger, &ledger->limbo) == counts[TIDE_SLOT_LIMBO]);
    TIDE_ASSERT(check_queue(ledger, &ledger->queue) == queued);
    TIDE_ASSERT(check_queue(ledger, &ledger->deferred) == deferred);
}
