/* SPDX-License-Identifier: MIT */
/*
 * What it is: operations that may wait: fetches, and commands with BLOCK. Each runs in a job; when it finds nothing, it
 * waits until its stream gets entries, another process commits, its time is over, or its reader is interrupted, and runs
 * again.
 * What it is not: a timer of its own: tick and deadline are the broker's.
 * Invariants:
 *   1. The list is in order of submission. Of one reader at most one is READY, IN_JOB or WAITING: the oldest; so fetches of
 *      a reader are answered in order.
 *   2. IN_JOB belongs to the job; only `interrupted` may be set meanwhile, which the job never reads.
 *   3. waiting_count is the number of those WAITING.
 *
 *   QUEUED --older one ended--> READY --pump--> IN_JOB --found, failed, or its time is over--> (completion)
 *                                 ^               |
 *                                 |               v found nothing
 *                                 +--woken---- WAITING
 *
 *   from     to       by
 *   (new)    READY    tide__sq_wait_submit
 *   (new)    QUEUED   tide__sq_wait_submit, when an older one of the reader is there
 *   READY    IN_JOB   tide__sq_wait_pump
 *   IN_JOB   WAITING  tide__sq_wait_after
 *   IN_JOB   (gone)   tide__sq_wait_after, which makes the reader's next one READY
 *   WAITING  READY    tide__sq_wait_after (entries came), tide__sq_wait_tick (time), tide__sq_wait_interrupt
 */
#include "broker/sqlite/internal.h"

#include "base/assert.h"

enum { RETRY_US = 10000 }; /* of a wait that found no memory for a job */

static const tide_str *command_streams(const tide_op_command *op, size_t *count) {
    for (size_t i = 1; i < op->arg_count; i++) {
        if (tide_str_equal_nocase(op->args[i], TIDE_STR("STREAMS"))) {
            *count = (op->arg_count - i - 1) / 2;
            return &op->args[i + 1];
        }
    }
    *count = 0;
    return NULL;
}

/* The BLOCK of an XREAD or XREADGROUP; -1: none. */
static int64_t block_of(const tide_op_command *op) {
    if (!tide_str_equal_nocase(op->args[0], TIDE_STR("XREAD")) &&
        !tide_str_equal_nocase(op->args[0], TIDE_STR("XREADGROUP")))
        return -1;
    for (size_t i = 1; i + 1 < op->arg_count; i++) {
        int64_t block_ms;
        if (tide_str_equal_nocase(op->args[i], TIDE_STR("STREAMS")))
            break;
        if (tide_str_equal_nocase(op->args[i], TIDE_STR("GROUP")))
            i += 2;
        else if (tide_str_equal_nocase(op->args[i], TIDE_STR("BLOCK")))
            return tide_i64_parse(op->args[i + 1], &block_ms) ? block_ms : -1;
    }
    return -1;
}

bool tide__sq_may_wait(const tide_op *op) {
    return op->kind == TIDE_OP_FETCH ||
           (op->kind == TIDE_OP_COMMAND && block_of(&op->as.command) >= 0);
}

/* ---- the list ---- */

static void link_last(tide__sq_broker *broker, tide__sq_wait *wait) {
    wait->next = NULL;
    wait->previous = broker->waits_last;
    if (broker->waits_last != NULL)
        broker->waits_last->next = wait;
    else
        broker->waits = wait;
    broker->waits_last = wait;
}

static void unlink_wait(tide__sq_broker *broker, tide__sq_wait *wait) {
    if (wait->previous != NULL)
        wait->previous->next = wait->next;
    else
        broker->waits = wait->next;
    if (wait->next != NULL)
        wait->next->previous = wait->previous;
    else
        broker->waits_last = wait->previous;
}

static void free_wait(tide__sq_broker *broker, tide__sq_wait *wait) {
    tide_free(&broker->alloc, wait->memory, wait->memory_size);
    tide_free(&broker->alloc, wait, sizeof *wait);
}

static void recycle(tide__sq_broker *broker, tide__sq_wait *wait) {
    enum { MEMORY_KEPT_MAX = 4096 };
    if (broker->free_wait_count >= TIDE__SQ_WAITS_KEPT || wait->memory_size > MEMORY_KEPT_MAX) {
        free_wait(broker, wait);
        return;
    }
    wait->next = broker->free_waits;
    broker->free_waits = wait;
    broker->free_wait_count++;
}

/* One with `size` bytes of memory. */
static tide__sq_wait *new_wait(tide__sq_broker *broker, size_t size) {
    tide__sq_wait *wait = broker->free_waits;
    if (wait != NULL) {
        broker->free_waits = wait->next;
        broker->free_wait_count--;
    } else {
        wait = tide_alloc_zero(&broker->alloc, 1, sizeof *wait);
        if (wait == NULL)
            return NULL;
    }
    if (wait->memory_size < size) {
        char *memory = tide_realloc(&broker->alloc, wait->memory, wait->memory_size, size);
        if (memory == NULL) {
            recycle(broker, wait);
            return NULL;
        }
        wait->memory = memory;
        wait->memory_size = size;
    }
    *wait = (tide__sq_wait){.memory = wait->memory, .memory_size = wait->memory_size};
    return wait;
}

static void set_state(tide__sq_broker *broker, tide__sq_wait *wait, tide__sq_wait_state state) {
    if (wait->state == TIDE__SQ_WAIT_WAITING)
        broker->waiting_count--;
    if (state == TIDE__SQ_WAIT_WAITING)
        broker->waiting_count++;
    wait->state = state;
}

/* ---- taking one in ---- */

static tide_str put_str(char **at, tide_str str) {
    char *copy = *at;
    if (str.len > 0)
        memcpy(copy, str.data, str.len);
    copy[str.len] = '\0';
    *at += str.len + 1;
    return (tide_str){copy, str.len};
}

static tide__sq_wait *wait_of_fetch(tide__sq_broker *broker, const tide_op *op) {
    const tide_op_fetch *fetch = &op->as.fetch;
    size_t size = sizeof(tide_str) + fetch->stream.len + fetch->group.len + fetch->consumer.len + 3;
    tide__sq_wait *wait = new_wait(broker, size);
    if (wait == NULL)
        return NULL;
    wait->op = *op;
    wait->streams = (tide_str *)(void *)wait->memory;
    wait->stream_count = 1;
    char *at = wait->memory + sizeof(tide_str);
    wait->op.as.fetch.stream = wait->streams[0] = put_str(&at, fetch->stream);
    wait->op.as.fetch.group = put_str(&at, fetch->group);
    wait->op.as.fetch.consumer = put_str(&at, fetch->consumer);
    wait->has_reader = true;
    wait->reader = fetch->reader;
    if (fetch->block_ms > 0 && !fetch->history)
        wait->deadline_us = fetch->block_ms > (INT64_MAX - broker->now_us) / 1000
                                ? INT64_MAX
                                : broker->now_us + fetch->block_ms * 1000;
    return wait;
}

static tide__sq_wait *wait_of_command(tide__sq_broker *broker, const tide_op *op) {
    const tide_op_command *command = &op->as.command;
    size_t id_count = 0;
    command_streams(command, &id_count);
    size_t head = command->arg_count * sizeof(tide_str) + id_count * sizeof(tide_id), size = head;
    for (size_t i = 0; i < command->arg_count; i++)
        size += command->args[i].len + 1;
    tide__sq_wait *wait = new_wait(broker, size);
    if (wait == NULL)
        return NULL;
    tide_str *args = (tide_str *)(void *)wait->memory;
    char *at = wait->memory + head;
    wait->after = (tide_id *)(void *)(args + command->arg_count);
    for (size_t i = 0; i < command->arg_count; i++)
        args[i] = put_str(&at, command->args[i]);
    wait->op = *op;
    wait->op.as.command.args = args;
    const tide_str *streams = command_streams(&wait->op.as.command, &wait->stream_count);
    wait->streams = streams != NULL ? args + (streams - args) : NULL;
    int64_t block_ms = block_of(command);
    wait->deadline_us = block_ms == 0 || block_ms > (INT64_MAX - broker->now_us) / 1000
                            ? INT64_MAX
                            : broker->now_us + block_ms * 1000;
    return wait;
}

tide_status tide__sq_wait_submit(tide__sq_broker *broker, const tide_op *op, tide_error *error) {
    tide__sq_wait *wait =
        op->kind == TIDE_OP_FETCH ? wait_of_fetch(broker, op) : wait_of_command(broker, op);
    if (wait == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "out of memory");
    wait->state = TIDE__SQ_WAIT_READY;
    for (tide__sq_wait *other = broker->waits; wait->has_reader && other != NULL;
         other = other->next) {
        if (other->has_reader && other->reader == wait->reader) {
            wait->state = TIDE__SQ_WAIT_QUEUED;
            break;
        }
    }
    link_last(broker, wait);
    tide__sq_wait_pump(broker);
    return TIDE_OK;
}

void tide__sq_wait_pump(tide__sq_broker *broker) {
    for (tide__sq_wait *wait = broker->waits; wait != NULL; wait = wait->next) {
        if (wait->state != TIDE__SQ_WAIT_READY)
            continue;
        if (tide__sq_enqueue_wait(broker, wait) == NULL)
            return;
        set_state(broker, wait, TIDE__SQ_WAIT_IN_JOB);
    }
}

/* ---- what ends or wakes one ---- */

static void end_wait(tide__sq_broker *broker, tide__sq_wait *wait) {
    tide__sq_wait *next = NULL;
    for (tide__sq_wait *other = wait->next; wait->has_reader && other != NULL;
         other = other->next) {
        if (other->has_reader && other->reader == wait->reader) {
            next = other;
            break;
        }
    }
    unlink_wait(broker, wait);
    recycle(broker, wait);
    if (next != NULL) {
        TIDE_ASSERT(next->state == TIDE__SQ_WAIT_QUEUED);
        set_state(broker, next, TIDE__SQ_WAIT_READY);
    }
}

static bool waits_for(const tide__sq_wait *wait, const tide__sq_touch *touched) {
    for (const tide__sq_touch *touch = touched; touch != NULL; touch = touch->next) {
        for (size_t i = 0; i < wait->stream_count; i++) {
            if (tide_str_equal(wait->streams[i], touch->name))
                return true;
        }
    }
    return false;
}

void tide__sq_wait_after(tide__sq_broker *broker, tide__sq_job *job) {
    for (tide__sq_work *work = job->first; work != NULL; work = work->next) {
        tide__sq_wait *wait = work->wait;
        if (wait == NULL)
            continue;
        work->wait = NULL;
        if (work->status == TIDE_OK && work->empty && !wait->interrupted &&
            wait->deadline_us > broker->now_us) {
            work->put_off = true;
            set_state(broker, wait, TIDE__SQ_WAIT_WAITING);
        } else {
            end_wait(broker, wait);
        }
    }
    bool all = job->changed_elsewhere;
    for (tide__sq_wait *wait = broker->waits;
         wait != NULL && broker->waiting_count > 0 && (all || job->touched != NULL);
         wait = wait->next) {
        if (wait->state == TIDE__SQ_WAIT_WAITING && (all || waits_for(wait, job->touched)))
            set_state(broker, wait, TIDE__SQ_WAIT_READY);
    }
    tide__sq_wait_pump(broker);
}

void tide__sq_wait_wake_all(tide__sq_broker *broker) {
    for (tide__sq_wait *wait = broker->waits; wait != NULL && broker->waiting_count > 0;
         wait = wait->next) {
        if (wait->state == TIDE__SQ_WAIT_WAITING)
            set_state(broker, wait, TIDE__SQ_WAIT_READY);
    }
    tide__sq_wait_pump(broker);
}

void tide__sq_wait_interrupt(tide__sq_broker *broker, uint32_t reader) {
    for (tide__sq_wait *wait = broker->waits; wait != NULL; wait = wait->next) {
        if (!wait->has_reader || wait->reader != reader)
            continue;
        wait->interrupted = true;
        if (wait->state == TIDE__SQ_WAIT_WAITING)
            set_state(broker, wait, TIDE__SQ_WAIT_READY);
    }
    tide__sq_wait_pump(broker);
}

void tide__sq_wait_tick(tide__sq_broker *broker) {
    for (tide__sq_wait *wait = broker->waits; wait != NULL && broker->waiting_count > 0;
         wait = wait->next) {
        if (wait->state == TIDE__SQ_WAIT_WAITING && wait->deadline_us <= broker->now_us)
            set_state(broker, wait, TIDE__SQ_WAIT_READY);
    }
    tide__sq_wait_pump(broker);
}

int64_t tide__sq_wait_deadline_us(const tide__sq_broker *broker) {
    int64_t deadline_us = INT64_MAX;
    for (const tide__sq_wait *wait = broker->waits; wait != NULL; wait = wait->next) {
        int64_t due_us = wait->state == TIDE__SQ_WAIT_WAITING ? wait->deadline_us
                         : wait->state == TIDE__SQ_WAIT_READY ? broker->now_us + RETRY_US
                                                              : INT64_MAX;
        if (due_us < deadline_us)
            deadline_us = due_us;
    }
    return deadline_us;
}

void tide__sq_wait_deinit(tide__sq_broker *broker) {
    while (broker->waits != NULL) {
        tide__sq_wait *wait = broker->waits;
        broker->waits = wait->next;
        free_wait(broker, wait);
    }
    while (broker->free_waits != NULL) {
        tide__sq_wait *wait = broker->free_waits;
        broker->free_waits = wait->next;
        free_wait(broker, wait);
    }
}
