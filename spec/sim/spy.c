/* SPDX-License-Identifier: MIT */
/*
 * What it is: between a node's engine and its adapter: it sees what is asked and answered there, and plants bugs.
 * What it is not: an adapter; what it isn't told to spoil it passes on as it is.
 * Invariants: each operation that was taken has exactly one completion, spoilt or not.
 */
#include "world.h"

#include <string.h>

static const char *const bug_names[SIM_BUG_COUNT] = {[SIM_BUG_NONE] = "",
#define NAME(constant, name) [SIM_BUG_##constant] = name,
                                                     SIM_BUGS(NAME)
#undef NAME
};

const char *sim_bug_name(sim_bug bug) {
    return bug_names[bug];
}

sim_bug sim_bug_named(const char *name) {
    for (int i = 1; i < SIM_BUG_COUNT; i++) {
        if (strcmp(name, bug_names[i]) == 0)
            return (sim_bug)i;
    }
    return SIM_BUG_COUNT;
}

/* The adapter's table of functions is replaced by one that lies in the spy. */
static sim_spy *spy_of(const tide_broker *broker) {
    return (sim_spy *)((uintptr_t)broker->vtable - offsetof(sim_spy, vtable));
}

/* ---- what is asked ---- */

static void spoil_settlement(sim_bug bug, tide_settlement *item) {
    switch (item->kind) {
    case TIDE_SETTLE_ATTEMPT:
        if (bug == SIM_BUG_ATTEMPT_LOW && item->attempt > 1)
            item->attempt--;
        break;
    case TIDE_SETTLE_RELEASE:
        if (bug == SIM_BUG_RELEASE_COUNTED)
            item->attempt++;
        if (bug == SIM_BUG_RELEASE_KEPT)
            item->kind = TIDE_SETTLE_ATTEMPT;
        break;
    case TIDE_SETTLE_DEAD:
        if (bug == SIM_BUG_DEAD_ACKED)
            item->kind = TIDE_SETTLE_ACK;
        break;
    case TIDE_SETTLE_DELAY:
        if (bug == SIM_BUG_MOVE_NOW)
            item->delay_ms /= 2;
        break;
    case TIDE_SETTLE_ACK: break;
    }
}

static void spoil_op(sim_spy *spy, tide_op *op) {
    sim_bug bug = spy->world->options.bug;
    switch (op->kind) {
    case TIDE_OP_SETTLE:
        if (op->as.settle.item_count > SPY_ITEMS_MAX)
            break;
        for (size_t i = 0; i < op->as.settle.item_count; i++) {
            spy->items[i] = op->as.settle.items[i];
            spoil_settlement(bug, &spy->items[i]);
        }
        op->as.settle.items = spy->items;
        if (bug == SIM_BUG_SETTLE_LAST && op->as.settle.item_count > 1)
            op->as.settle.item_count--;
        break;
    case TIDE_OP_EXTEND:
        if (bug == SIM_BUG_EXTEND_FIRST)
            op->as.extend.id_count = 1;
        break;
    case TIDE_OP_RECOVER:
        if (bug == SIM_BUG_RECOVER_LIVING)
            op->as.recover.min_idle_ms /= 2;
        break;
    case TIDE_OP_GROUP_ENSURE:
        if (bug == SIM_BUG_GROUP_AT_END && spy->ensured)
            op->as.group_ensure.start = TIDE_STR("$");
        break;
    case TIDE_OP_PROMOTE:
        if (bug == SIM_BUG_PROMOTE_NEVER)
            op->as.promote.stream = TIDE_STR("nothing");
        break;
    default: break;
    }
}

/* The server tells who is handed what; an embedded engine doesn't, so what it answers must tell. */
static void note_given_back(sim_spy *spy, const tide_op *op) {
    if (op->kind != TIDE_OP_SETTLE)
        return;
    for (size_t i = 0; i < op->as.settle.item_count; i++) {
        const tide_settlement *item = &op->as.settle.items[i];
        if (item->kind != TIDE_SETTLE_RELEASE)
            continue;
        for (uint32_t k = 0; k < spy->known_count; k++) {
            if (tide_id_compare(spy->known[k].id, item->id) == 0)
                spy->world->check.events[spy->known[k].index].given_back = true;
        }
    }
}

static void trace_settlements(const sim_spy *spy, const tide_op *op) {
    static const char *const verbs[] = {[TIDE_SETTLE_ACK] = "ack",
                                        [TIDE_SETTLE_DEAD] = "dead",
                                        [TIDE_SETTLE_DELAY] = "delay",
                                        [TIDE_SETTLE_RELEASE] = "release",
                                        [TIDE_SETTLE_ATTEMPT] = "attempt"};
    for (size_t i = 0; op->kind == TIDE_OP_SETTLE && i < op->as.settle.item_count; i++) {
        const tide_settlement *item = &op->as.settle.items[i];
        sim__trace(spy->world, "node %u settles %llu-%llu: %s %u", spy->node,
                   (unsigned long long)item->id.ms, (unsigned long long)item->id.seq,
                   verbs[item->kind], item->attempt);
    }
}

static tide_status spy_submit(tide_broker *broker, const tide_op *op, int64_t now_us,
                              tide_error *error) {
    sim_spy *spy = spy_of(broker);
    tide_op spoilt = *op;
    spoil_op(spy, &spoilt);
    tide_status status = spy->inner->submit(broker, &spoilt, now_us, error);
    if (status != TIDE_OK)
        return status;
    if (spy->world->options.trace)
        trace_settlements(spy, &spoilt);
    if (spy->world->options.file)
        note_given_back(spy, &spoilt);
    for (int i = 0; op->kind == TIDE_OP_FETCH && op->as.fetch.history && i < SPY_TAGS_MAX; i++) {
        if (spy->history_tags[i] == 0) {
            spy->history_tags[i] = op->tag;
            break;
        }
    }
    return TIDE_OK;
}

/* ---- what is answered ---- */

static void note_handed(sim_spy *spy, const tide_batch *batch, sim_handing how) {
    world *w = spy->world;
    for (size_t i = 0; batch != NULL && i < tide_batch_count(batch); i++) {
        const tide_entry *entry = tide_batch_entry(batch, i);
        uint32_t index = sim__index_of(w, entry);
        if (entry->gone || index == UINT32_MAX)
            continue;
        uint32_t k = 0;
        while (k < spy->known_count && spy->known[k].index != index)
            k++;
        spy->known[k] = (spy_known){entry->id, index};
        spy->known_count += k == spy->known_count;
        sim_handed handed = {.how = how, .id = entry->id, .idle_ms = -1};
        sim__handed(w, index, &handed, spy->node, w->nodes[spy->node].life);
    }
}

static void swallow(tide_batch **batch) {
    tide_batch_release(*batch);
    *batch = NULL;
}

static void fetched(sim_spy *spy, tide_completion *completion) {
    world *w = spy->world;
    bool history = false;
    for (int i = 0; i < SPY_TAGS_MAX && !history; i++) {
        history = spy->history_tags[i] == completion->tag;
        if (history)
            spy->history_tags[i] = 0;
    }
    if (completion->status != TIDE_OK)
        return;
    if (w->options.file)
        note_handed(spy, completion->as.fetch.batch, history ? SIM_HANDED_AGAIN : SIM_HANDED_NEW);
    if (history && w->options.bug == SIM_BUG_DROP_PENDING_PAGE && sim__chance(w, 50))
        swallow(&completion->as.fetch.batch);
}

static bool spy_next_completion(tide_broker *broker, tide_completion *completion) {
    sim_spy *spy = spy_of(broker);
    if (!spy->inner->next_completion(broker, completion))
        return false;
    world *w = spy->world;
    bool good = completion->status == TIDE_OK;
    switch (completion->kind) {
    case TIDE_OP_FETCH: fetched(spy, completion); break;
    case TIDE_OP_RECOVER:
        if (good && w->options.file)
            note_handed(spy, completion->as.recover.batch, SIM_HANDED_CLAIMED);
        if (good && w->options.bug == SIM_BUG_RECOVER_LOST)
            swallow(&completion->as.recover.batch);
        break;
    case TIDE_OP_SETTLE:
        if (w->options.bug == SIM_BUG_SETTLE_UNKNOWN && completion->status == TIDE_UNKNOWN) {
            completion->status = TIDE_OK;
            completion->as.settle.results = NULL;
        }
        break;
    case TIDE_OP_EXTEND:
        if (w->options.bug == SIM_BUG_EXTEND_DEAF)
            completion->as.extend.lost_count = 0;
        break;
    case TIDE_OP_GROUP_ENSURE: spy->ensured = spy->ensured || good; break;
    default: break;
    }
    return true;
}

/* ---- in between ---- */

void sim__spy_on(world *w, uint32_t index, tide_broker *broker) {
    sim_spy *spy = &w->nodes[index].spy;
    memset(spy, 0, sizeof *spy);
    spy->inner = broker->vtable;
    spy->world = w;
    spy->node = index;
    spy->vtable = *broker->vtable;
    spy->vtable.submit = spy_submit;
    spy->vtable.next_completion = spy_next_completion;
    broker->vtable = &spy->vtable;
}
