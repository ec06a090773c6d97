/* SPDX-License-Identifier: MIT */
/*
 * What it is: the way in: the group is ensured, own history paged, new entries read with two reads in flight; how many
 * entries a read may ask for; what happens to each entry that arrives.
 * What it is not: recovery from other consumers (recovery.c), which uses the same entrance.
 *
 * Invariants:
 *   1. entries held plus entries that reads under way may bring never pass `prefetch`.
 *   2. expected bytes (a running average that jumps up and sinks slowly, times the entries asked for) plus bytes held
 *      never pass `prefetch_bytes`, but that one entry is asked for when nothing is held in the window and what is being
 *      settled (a dead letter that is refused keeps its event) is below it. While few entries have
 *      been seen, few are asked for.
 *   3. no new entries are asked for while own history hasn't been read to its end; and none of that while an event runs
 *      alone in this engine (suspect.c), or while a page of a dead consumer's is under way: both count a delivery, and
 *      the one would find it in its answer to the other.
 *   4. an id that is held isn't taken a second time, wherever it comes from.
 *   5. two reads are in flight while events flow, so that the server never waits for us; one while they trickle, because a
 *      server that has a second one waiting takes it up before it sends the answer to the first (decision 9).
 */
#include "base/limits.h"
#include "base/text.h"
#include "consumer/internal.h"

enum {
    HISTORY_PAGE_MAX = 1000,
    BYTES_MIN = 32,
    /* So many reads in a row that brought next to nothing: events trickle. */
    TRICKLE_READS = 8,
    TRICKLE_ENTRIES = 2,
    LOSS_CALM_US = 10000000 /* a group that vanishes again within that time backs off */
};

/* ---- how much ---- */

static uint32_t free_slots(const tide_consumer *consumer) {
    uint32_t n = consumer->ledger.counts[TIDE_SLOT_FREE];
    return n > consumer->reserved ? n - consumer->reserved : 0;
}

uint32_t tide__reading_room(const tide_consumer *consumer, uint32_t share) {
    uint32_t prefetch = consumer->options.prefetch;
    uint32_t used = tide__ledger_held(&consumer->ledger) + consumer->reserved;
    uint32_t room = prefetch > used + share ? prefetch - used - share : 0;
    uint32_t slots = free_slots(consumer);
    if (room > slots)
        room = slots;
    size_t each = consumer->estimate > 0 ? consumer->estimate : TIDE_PAYLOAD_MAX_DEFAULT;
    size_t expected = consumer->ledger.bytes + each * consumer->reserved;
    size_t budget = consumer->options.prefetch_bytes;
    size_t fits = budget > expected ? (budget - expected) / each : 0;
    if (room > fits)
        room = (uint32_t)fits;
    /* One may pass the budget when nothing else is held, and what is being settled keeps to it. */
    if (room == 0 && used == 0 && slots > 0 && consumer->ledger.bytes < budget)
        room = 1;
    return room;
}

static uint32_t recover_share(const tide_consumer *consumer) {
    uint32_t share = consumer->options.prefetch / 8;
    return share > 100 ? 100 : share;
}

/* Most entries that both reads together could ever ask for. */
static uint32_t window(const tide_consumer *consumer) {
    size_t each = consumer->estimate > 0 ? consumer->estimate : TIDE_PAYLOAD_MAX_DEFAULT;
    size_t fits = consumer->options.prefetch_bytes / each;
    uint32_t count = consumer->options.prefetch;
    if (count > fits)
        count = fits > 0 ? (uint32_t)fits : 1;
    return count;
}

/* How many entries the next read of new ones asks for; 0: not now. */
static uint32_t read_count(tide_consumer *consumer) {
    consumer->read_at_held = 0;
    if (consumer->recover_waiting) {
        uint32_t taken = consumer->reserved + 1;
        consumer->read_at_held =
            consumer->options.prefetch > taken ? consumer->options.prefetch - taken : 0;
        return 0;
    }
    if (consumer->fetches >= (consumer->small_reads < TRICKLE_READS ? 2u : 1u))
        return 0;
    if (consumer->estimate == 0 && consumer->fetches > 0)
        return 0; /* how large they are must be seen first */
    uint32_t all = window(consumer);
    uint32_t half = (all + 1) / 2;
    uint32_t least = all / 4 > 0 ? all / 4 : 1;
    uint32_t share = recover_share(consumer);
    uint32_t count = tide__reading_room(consumer, share);
    bool dry = consumer->fetches == 0 && consumer->ledger.ready.count == 0;
    if (count > half)
        count = half;
    /* What few entries say about the size of others isn't much: asked for is at most twice what was seen. */
    if (consumer->sample > 0 && consumer->sample < half && count > 2 * consumer->sample) {
        count = 2 * consumer->sample;
        if (least > count)
            least = count;
    }
    if (count >= least || (count > 0 && dry))
        return count;
    /* Too little room to be worth a round trip: a verdict that makes enough of it calls again. */
    uint32_t wanted = least + consumer->reserved + share;
    if (dry)
        wanted = consumer->reserved + share + 1;
    consumer->read_at_held =
        consumer->options.prefetch > wanted ? consumer->options.prefetch - wanted : 0;
    return 0;
}

/* ---- group ---- */

static void ensure(tide_consumer *consumer, int64_t now_us) {
    char text[TIDE_ID_TEXT_MAX];
    tide_op op = {.kind = TIDE_OP_GROUP_ENSURE,
                  .as.group_ensure = {.stream = consumer->options.stream,
                                      .group = consumer->options.group,
                                      .start = consumer->options.start}};
    if (consumer->was_ready)
        op.as.group_ensure.start = (tide_str){text, tide__checkpoint_text(consumer, text)};
    tide_error error;
    if (tide__consumer_submit(consumer, TIDE_FLIGHT_ENSURE, &op, now_us, &error) != TIDE_OK) {
        tide__gate_fail(consumer, TIDE_GATE_READ, &error, now_us);
        tide__consumer_set_state(consumer, TIDE_CONSUMER_WAITING);
    }
}

void tide__reading_trouble(tide_consumer *consumer, const tide_error *error, int64_t now_us) {
    bool parks = tide__status_parks(error->status);
    tide__gate_fail(consumer, TIDE_GATE_READ, error, now_us);
    if (parks)
        consumer->group_ready = false; /* begin again from the group */
    tide__consumer_set_state(consumer, parks ? TIDE_CONSUMER_PARKED : TIDE_CONSUMER_WAITING);
}

void tide__reading_ensured(tide_consumer *consumer, tide_completion *completion, int64_t now_us) {
    if (consumer->state == TIDE_CONSUMER_STOPPING)
        return;
    /* Out of memory, a server refuses to create a group that is there already, but serves its reads: try once. */
    bool may_be_there =
        completion->status == TIDE_OOM && consumer->gates[TIDE_GATE_READ].failures == 0;
    if (completion->status != TIDE_OK && !may_be_there) {
        tide__reading_trouble(consumer, &completion->error, now_us);
        return;
    }
    if (completion->status == TIDE_OK && consumer->was_ready &&
        completion->as.group_ensure.created) {
        consumer->stats.group_recreated++;
        char text[TIDE_ID_TEXT_MAX];
        int len = (int)tide__checkpoint_text(consumer, text);
        tide__consumer_log(consumer, TIDE_LOG_WARN, now_us, "group created anew from %.*s", len,
                           text);
    }
    if (consumer->from_zero)
        consumer->checkpoint = (tide_id){0, 0}; /* of another stream */
    consumer->from_zero = consumer->loss_seen = false;
    consumer->group_ready = true;
    consumer->was_ready = consumer->was_ready || completion->status == TIDE_OK;
    consumer->need_history = true;
    consumer->history_cursor = (tide_id){0, 0};
    consumer->look_wanted = true;
    consumer->look_due_us = now_us;
    tide__consumer_set_state(consumer, TIDE_CONSUMER_HISTORY);
}

void tide__reading_group_lost(tide_consumer *consumer, const tide_error *error, int64_t now_us) {
    if (!consumer->group_ready || consumer->state == TIDE_CONSUMER_STOPPING)
        return;
    consumer->group_ready = false;
    consumer->loss_seen = consumer->from_zero = false;
    if (!consumer->was_ready) { /* never seen: out of memory it couldn't be made */
        tide__reading_trouble(consumer, error, now_us);
        return;
    }
    tide_error said;
    tide_error_set(&said, TIDE_NOGROUP, "group %.*s of stream %.*s is gone: %s",
                   (int)consumer->options.group.len, consumer->options.group.data,
                   (int)consumer->options.stream.len, consumer->options.stream.data,
                   error->message[0] != '\0' ? error->message : "deleted at the server");
    if (consumer->options.group_lost == TIDE_GROUP_LOST_STOP) {
        tide__consumer_log(consumer, TIDE_LOG_ERROR, now_us, "%s; stopping as configured",
                           said.message);
        consumer->error = said;
        consumer->trouble |= 1u << TIDE_GATE_READ;
        tide_consumer_stop(consumer, now_us);
        return;
    }
    if (now_us - consumer->loss_us > LOSS_CALM_US)
        consumer->losses = 0;
    consumer->losses++;
    consumer->loss_us = now_us;
    tide_gate *gate = &consumer->gates[TIDE_GATE_READ];
    if (consumer->losses == 1) { /* the first time at once, and never held back in the log */
        consumer->log_next_us = now_us;
        tide__consumer_log(consumer, TIDE_LOG_WARN, now_us, "%s; it is created again",
                           said.message);
        gate->failures = 1;
        tide__consumer_set_state(consumer, TIDE_CONSUMER_STARTING);
    } else { /* reads go well in between: what counts is how often the group has vanished */
        gate->failures = consumer->losses;
        tide__reading_trouble(consumer, &said, now_us);
    }
}

/* ---- entries ---- */

void tide__reading_gone(tide_consumer *consumer, uint32_t count, int64_t now_us) {
    if (count == 0)
        return;
    consumer->stats.gone += count;
    if (now_us < consumer->gone_log_next_us)
        return;
    consumer->gone_log_next_us = now_us + 1000000;
    tide__consumer_log(
        consumer, TIDE_LOG_ERROR, now_us,
        "%llu entries so far were trimmed or deleted while pending: retention is too short",
        (unsigned long long)consumer->stats.gone);
}

static void learn_flow(tide_consumer *consumer, const tide_batch *batch) {
    if (batch != NULL && tide_batch_count(batch) > TRICKLE_ENTRIES)
        consumer->small_reads = 0;
    else if (consumer->small_reads < TRICKLE_READS)
        consumer->small_reads++;
}

static void learn_size(tide_consumer *consumer, size_t bytes, size_t count) {
    if (count == 0)
        return;
    size_t each = bytes / count;
    if (each < BYTES_MIN)
        each = BYTES_MIN;
    consumer->sample = count < consumer->options.prefetch - consumer->sample
                           ? consumer->sample + (uint32_t)count
                           : consumer->options.prefetch;
    if (each >= consumer->estimate) {
        consumer->estimate = each;
    } else {
        consumer->estimate -= (consumer->estimate - each + 7) / 8;
    }
}

tide_id tide__reading_absorb(tide_consumer *consumer, tide_batch *batch, tide_source source,
                             int64_t now_us) {
    tide_ledger *ledger = &consumer->ledger;
    tide_id last = {0, 0};
    size_t count = batch != NULL ? tide_batch_count(batch) : 0;
    if (count == 0) {
        tide_batch_release(batch);
        return last;
    }
    /* Leases of what arrives begin now; what was held before keeps its own time. */
    if (tide__ledger_held(ledger) == 0 && !consumer->lease_suspect)
        consumer->lease_us = now_us;
    consumer->look_wanted = true;
    uint32_t held = tide__ledger_hold(ledger, batch);
    size_t bytes = ledger->batches[held].bytes;
    uint32_t gone = 0;
    size_t whole = 0; /* what is gone tells nothing about sizes */
    for (size_t i = 0; i < count; i++) {
        const tide_entry *entry = tide_batch_entry(batch, i);
        last = entry->id;
        if (entry->settled)
            continue;
        whole += !entry->gone;
        uint32_t slot = tide__ledger_find(ledger, entry->id);
        uint32_t given_back = 0; /* the least that its count may be when it was, just now */
        if (slot != TIDE_SLOT_NONE && ledger->slots[slot].state == TIDE_SLOT_LIMBO &&
            (source == TIDE_SOURCE_NEW ||
             (source == TIDE_SOURCE_RECOVERED && ledger->slots[slot].released))) {
            /* A new group, or our own recovery, delivers it again. */
            if (source == TIDE_SOURCE_RECOVERED)
                given_back = ledger->slots[slot].mark + 1;
            tide__ledger_free(ledger, slot);
            slot = TIDE_SLOT_NONE;
        }
        if (slot != TIDE_SLOT_NONE && ledger->slots[slot].state == TIDE_SLOT_LIMBO &&
            ledger->slots[slot].released) {
            /* Read before it was given back, or after that, and then it is ours again: given back once more. */
            tide__ledger_move(ledger, slot, TIDE_SLOT_SETTLING);
            tide__settle_want(consumer, slot, TIDE_SETTLE_RELEASE, ledger->slots[slot].mark,
                              now_us);
            ledger->slots[slot].released = false;
        }
        if (slot != TIDE_SLOT_NONE) {
            ledger->slots[slot].fresh = consumer->op_serial;
            ledger->slots[slot].lost = false;
            if (source != TIDE_SOURCE_NEW)
                tide__suspect_restore(consumer, slot, entry->attempt, now_us);
            continue;
        }
        if (ledger->free.count == 0) { /* more than was asked for: it stays pending */
            consumer->need_history = true;
            continue;
        }
        slot = tide__ledger_take(ledger, entry->id);
        tide_slot *s = &ledger->slots[slot];
        s->fresh = consumer->op_serial;
        if (entry->gone) {
            gone++;
            tide__settle_want(consumer, slot, TIDE_SETTLE_ACK, 0, now_us);
            continue;
        }
        if (tide__is_retry_of_another(entry, consumer->options.group)) {
            tide__settle_want(consumer, slot, TIDE_SETTLE_ACK, 0, now_us);
            continue;
        }
        s->entry = *entry;
        tide__ledger_attach(ledger, slot, held);
        uint32_t carried = tide__carried_attempts(entry);
        s->attempt_base = (int32_t)carried;
        uint32_t made = tide__suspect_deliveries(consumer, entry, source);
        s->attempt = carried + (made > given_back ? made : given_back);
        s->entry.attempt = s->attempt;
        if (source == TIDE_SOURCE_RECOVERED)
            consumer->stats.recovered++;
        if (consumer->state == TIDE_CONSUMER_STOPPING) {
            tide__settle_release(consumer, slot, now_us);
        } else if (source == TIDE_SOURCE_NEW) {
            tide__ledger_move(ledger, slot, TIDE_SLOT_READY);
        } else {
            tide__suspect_admit(consumer, slot, entry->attempt, now_us);
            if (given_back > 0)
                tide__suspect_own(consumer, slot, now_us);
        }
    }
    learn_size(consumer, bytes, whole);
    tide__ledger_hold_end(ledger, held);
    tide__reading_gone(consumer, gone, now_us);
    return last;
}

/* ---- reads ---- */

bool tide__reading_may_be_served(tide_status status) {
    switch (status) {
    case TIDE_UNKNOWN:
    case TIDE_TIMEOUT:
    case TIDE_PROTOCOL:
    case TIDE_LIMIT:
    case TIDE_ENOMEM:
    case TIDE_IO:
    case TIDE_INTERNAL: return true;
    default: return false;
    }
}

void tide__reading_fetched(tide_consumer *consumer, tide_flight *flight,
                           tide_completion *completion, int64_t now_us) {
    bool history = flight->history;
    consumer->fetches--;
    consumer->reserved -= flight->count;
    flight->history = false;
    flight->count = 0;
    if (completion->status == TIDE_OK) {
        if (!history)
            learn_flow(consumer, completion->as.fetch.batch);
        if (completion->as.fetch.batch != NULL)
            tide__recovery_note_arrival(consumer, flight->started_us, now_us);
        tide_id last =
            tide__reading_absorb(consumer, completion->as.fetch.batch,
                                 history ? TIDE_SOURCE_HISTORY : TIDE_SOURCE_NEW, now_us);
        tide__gate_ok(consumer, TIDE_GATE_READ);
        if (!history)
            return;
        tide__settle_limbo_end(consumer);
        if (tide_id_compare(last, consumer->history_cursor) > 0) {
            consumer->history_cursor = last;
        } else if (consumer->state == TIDE_CONSUMER_HISTORY) {
            consumer->need_history = false;
            consumer->history_done = true;
            consumer->history_lost = 0;
            tide__consumer_set_state(consumer, TIDE_CONSUMER_RUNNING);
        }
        return;
    }
    tide__settle_limbo_end(consumer);
    if (tide__reading_may_be_served(completion->status)) {
        consumer->need_history = true;
        consumer->history_cursor = (tide_id){0, 0};
        if (history && consumer->history_lost < UINT32_MAX)
            consumer->history_lost++;
    }
    if (consumer->state == TIDE_CONSUMER_STOPPING || completion->status == TIDE_CANCELLED)
        return;
    if (completion->status == TIDE_NOGROUP) {
        tide__reading_group_lost(consumer, &completion->error, now_us);
    } else if (consumer->state == TIDE_CONSUMER_RUNNING ||
               consumer->state == TIDE_CONSUMER_HISTORY) {
        tide__reading_trouble(consumer, &completion->error, now_us);
    }
}

static bool fetch(tide_consumer *consumer, bool history, uint32_t count, int64_t now_us) {
    int place = TIDE_FLIGHT_FETCH;
    if (consumer->flights[place].tag != 0)
        place++;
    tide_op op = {.kind = TIDE_OP_FETCH,
                  .as.fetch = {.stream = consumer->options.stream,
                               .group = consumer->options.group,
                               .consumer = consumer->options.consumer,
                               .reader = consumer->number,
                               .history = history,
                               .after = consumer->history_cursor,
                               .count_max = count,
                               .block_ms = history ? 0 : consumer->options.block_ms}};
    tide_error error;
    if (tide__consumer_submit(consumer, place, &op, now_us, &error) != TIDE_OK) {
        tide__reading_trouble(consumer, &error, now_us);
        return false;
    }
    tide_flight *flight = &consumer->flights[place];
    flight->history = history;
    flight->count = count;
    consumer->fetches++;
    consumer->reserved += count;
    return true;
}

void tide__reading_pump(tide_consumer *consumer, int64_t now_us) {
    if ((consumer->state == TIDE_CONSUMER_WAITING || consumer->state == TIDE_CONSUMER_PARKED) &&
        tide__gate_is_open(consumer, TIDE_GATE_READ, now_us)) {
        if (!consumer->group_ready) {
            tide__consumer_set_state(consumer, TIDE_CONSUMER_STARTING);
        } else if (consumer->need_history) {
            consumer->history_cursor = (tide_id){0, 0};
            tide__consumer_set_state(consumer, TIDE_CONSUMER_HISTORY);
        } else {
            tide__consumer_set_state(consumer, TIDE_CONSUMER_RUNNING);
        }
    }
    if (consumer->state == TIDE_CONSUMER_RUNNING && consumer->need_history) {
        consumer->history_cursor = (tide_id){0, 0};
        tide__consumer_set_state(consumer, TIDE_CONSUMER_HISTORY);
    }
    switch (consumer->state) {
    case TIDE_CONSUMER_STARTING:
        if (consumer->fetches == 0 && consumer->flights[TIDE_FLIGHT_ENSURE].tag == 0 &&
            (!consumer->was_ready || tide__checkpoint_is_ready(consumer, now_us)))
            ensure(consumer, now_us);
        break;
    case TIDE_CONSUMER_HISTORY:
        consumer->history_held = consumer->crew->alone != NULL;
        if (consumer->fetches == 0 && !consumer->history_held &&
            consumer->flights[TIDE_FLIGHT_RECOVER].tag == 0) {
            uint32_t count = tide__reading_room(consumer, 0);
            if (count > HISTORY_PAGE_MAX)
                count = HISTORY_PAGE_MAX;
            if (consumer->estimate == 0 && count > 1)
                count = (count + 1) / 2;
            consumer->read_at_held = consumer->options.prefetch - 1;
            if (count > 0)
                fetch(consumer, true, count, now_us);
        }
        break;
    case TIDE_CONSUMER_RUNNING:
        for (uint32_t count = read_count(consumer); count > 0; count = read_count(consumer)) {
            if (!fetch(consumer, false, count, now_us))
                break;
        }
        break;
    default: break;
    }
}
