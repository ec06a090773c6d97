/* SPDX-License-Identifier: MIT */
/*
 * What it is: taking operations in: checking them, copying them into the job being filled.
 * What it is not: aware of the tables; that is the job's side.
 * Invariants: everything a work points to lies in its job's arena (or in its wait), so that it outlives the submit; what
 * is refused leaves nothing behind but some arena bytes; entries are packed here, once, into what the table stores.
 */
#include "broker/sqlite/internal.h"

/* ---- checking ---- */

static tide_status check_name(const char *what, tide_str name, tide_error *error) {
    if (name.len == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "the %s's name is empty", what);
    if (name.len > TIDE_NAME_MAX)
        return tide_error_set(error, TIDE_LIMIT,
                              "the %s's name has %zu bytes, at most %d are allowed", what, name.len,
                              TIDE_NAME_MAX);
    return TIDE_OK;
}

static tide_status check_names(tide_str stream, tide_str group, tide_str consumer,
                               tide_error *error) {
    tide_status status = check_name("stream", stream, error);
    if (status == TIDE_OK)
        status = check_name("group", group, error);
    return status == TIDE_OK ? check_name("consumer", consumer, error) : status;
}

static tide_status check_publish(const tide_op_publish *op, tide_error *error) {
    tide_status status = check_name("stream", op->stream, error);
    if (status != TIDE_OK)
        return status;
    if (op->record_count == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "nothing to publish");
    if (op->record_count > TIDE_PUBLISH_MAX)
        return tide_error_set(error, TIDE_LIMIT, "%zu events in one call, at most %d are allowed",
                              op->record_count, TIDE_PUBLISH_MAX);
    bool later = op->due_ms != 0 || op->delay_ms > 0;
    if (op->delay_ms < 0 || op->due_ms < 0 || op->dedupe_window_ms < 0)
        return tide_error_set(error, TIDE_ARGUMENT, "a time is negative");
    if (op->expect != TIDE_EXPECT_NONE && (later || op->dedupe_window_ms > 0))
        return tide_error_set(error, TIDE_ARGUMENT,
                              "an expected version goes with neither a delay nor a dedupe window");
    for (size_t i = 0; i < op->record_count; i++) {
        if (op->records[i].field_count == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "an event has no field");
        if ((later || op->dedupe_window_ms > 0) && op->records[i].event_id.len == 0)
            return tide_error_set(error, TIDE_ARGUMENT,
                                  "an event without an id can't be delayed or published once");
    }
    return TIDE_OK;
}

static tide_status check_settle(const tide_op_settle *op, tide_error *error) {
    if (op->item_count == 0)
        return tide_error_set(error, TIDE_ARGUMENT, "nothing to settle");
    if (op->item_count > TIDE_PREFETCH_MAX)
        return tide_error_set(error, TIDE_LIMIT, "more than %d settlements at once",
                              TIDE_PREFETCH_MAX);
    if (op->dead_letters.len > TIDE_NAME_MAX)
        return check_name("dead letter stream", op->dead_letters, error);
    for (size_t i = 0; i < op->item_count; i++) {
        tide_settle_kind kind = op->items[i].kind;
        if ((kind == TIDE_SETTLE_DEAD || kind == TIDE_SETTLE_DELAY) &&
            op->items[i].field_count == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "an entry to be moved has no fields");
    }
    return TIDE_OK;
}

tide_status tide__sq_check(const tide_op *op, tide_error *error) {
    tide_status status;
    switch (op->kind) {
    case TIDE_OP_PUBLISH: return check_publish(&op->as.publish, error);
    case TIDE_OP_CANCEL: return check_name("stream", op->as.cancel.stream, error);
    case TIDE_OP_PROMOTE: return check_name("stream", op->as.promote.stream, error);
    case TIDE_OP_GROUP_ENSURE:
        status = check_name("stream", op->as.group_ensure.stream, error);
        return status == TIDE_OK ? check_name("group", op->as.group_ensure.group, error) : status;
    case TIDE_OP_FETCH:
        if (op->as.fetch.count_max == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "a fetch of nothing");
        return check_names(op->as.fetch.stream, op->as.fetch.group, op->as.fetch.consumer, error);
    case TIDE_OP_SETTLE:
        status = check_settle(&op->as.settle, error);
        if (status != TIDE_OK)
            return status;
        return check_names(op->as.settle.stream, op->as.settle.group, op->as.settle.consumer,
                           error);
    case TIDE_OP_EXTEND:
        if (op->as.extend.id_count == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "nothing to renew");
        if (op->as.extend.id_count > TIDE_PREFETCH_MAX)
            return tide_error_set(error, TIDE_LIMIT, "more than %d entries at once",
                                  TIDE_PREFETCH_MAX);
        return check_names(op->as.extend.stream, op->as.extend.group, op->as.extend.consumer,
                           error);
    case TIDE_OP_RECOVER:
        if (op->as.recover.count_max == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "a recovery of nothing");
        return check_names(op->as.recover.stream, op->as.recover.group, op->as.recover.consumer,
                           error);
    case TIDE_OP_KV:
        if ((unsigned)op->as.kv.verb > TIDE_KV_EXPIRE)
            return tide_error_set(error, TIDE_ARGUMENT, "no such verb: %d", (int)op->as.kv.verb);
        if (op->as.kv.key.len == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "the key is empty");
        if (op->as.kv.ttl_ms < 0)
            return tide_error_set(error, TIDE_ARGUMENT, "a time is negative");
        return TIDE_OK;
    case TIDE_OP_COMMAND:
        if (op->as.command.arg_count == 0)
            return tide_error_set(error, TIDE_ARGUMENT, "an empty command");
        return TIDE_OK;
    case TIDE_OP_SERVER: return TIDE_OK;
    case TIDE_OP_KIND_COUNT: break;
    }
    return tide_error_set(error, TIDE_ARGUMENT, "no such operation: %d", (int)op->kind);
}

/* ---- jobs ---- */

static size_t weight_of(const tide_op *op) {
    switch (op->kind) {
    case TIDE_OP_PUBLISH: return op->as.publish.record_count;
    case TIDE_OP_FETCH: return op->as.fetch.count_max < 1000 ? op->as.fetch.count_max : 1000;
    case TIDE_OP_SETTLE: return 1 + op->as.settle.item_count;
    case TIDE_OP_EXTEND: return 1 + op->as.extend.id_count;
    default: return 1;
    }
}

tide__sq_job *tide__sq_new_job(tide__sq_broker *broker) {
    tide__sq_job *job = broker->free_jobs;
    if (job != NULL) {
        broker->free_jobs = job->next;
        broker->free_count--;
    } else {
        job = tide_alloc_zero(&broker->alloc, 1, sizeof *job);
        if (job == NULL)
            return NULL;
        tide_arena_init(&job->arena, &broker->alloc, TIDE__SQ_JOB_BLOCK);
    }
    tide_arena arena = job->arena;
    *job =
        (tide__sq_job){.base = {.run = tide__sq_job_run}, .store = &broker->store, .arena = arena};
    job->last = &job->first;
    if (broker->filling != NULL)
        broker->filling->next = job;
    else
        broker->ready = job;
    broker->filling = job;
    return job;
}

/* The job that takes `weight` more; NULL when there is no memory. */
static tide__sq_job *job_for(tide__sq_broker *broker, size_t weight) {
    tide__sq_job *job = broker->filling;
    if (job == NULL || (job->weight > 0 && (job->weight + weight > broker->weight_max ||
                                            job->arena.used > TIDE__SQ_JOB_BYTES_MAX)))
        job = tide__sq_new_job(broker);
    return job;
}

static void append_work(tide__sq_broker *broker, tide__sq_job *job, tide__sq_work *work,
                        size_t weight, size_t bytes_before) {
    *job->last = work;
    job->last = &work->next;
    job->weight += weight;
    job->bytes += job->arena.used - bytes_before;
    broker->queued_bytes += job->arena.used - bytes_before;
}

/* ---- copying ---- */

static bool copy_str(tide_arena *arena, tide_str *str) {
    if (str->len == 0) {
        *str = (tide_str){"", 0};
        return true;
    }
    *str = tide_arena_copy(arena, *str);
    return str->data != NULL;
}

/* Fields as a blob; `open`: with room for the version field. */
static bool pack(tide_arena *arena, const tide_field *fields, size_t count, bool open,
                 tide_str *packed) {
    size_t size = tide__sq_packed_size(fields, count) + (open ? TIDE__SQ_VERSION_BYTES_MAX : 0);
    char *bytes = tide_arena_bytes(arena, size);
    if (bytes == NULL)
        return false;
    packed->data = bytes;
    packed->len =
        open ? tide__sq_pack_open(bytes, fields, count) : tide__sq_pack(bytes, fields, count);
    return true;
}

static bool copy_publish(tide_arena *arena, tide__sq_work *work) {
    tide_op_publish *op = &work->op.as.publish;
    bool open = op->expect != TIDE_EXPECT_NONE;
    bool wants_ids = op->dedupe_window_ms > 0 || op->due_ms != 0 || op->delay_ms > 0;
    work->writes = true;
    work->records = tide_arena_alloc(arena, op->record_count * sizeof *work->records);
    work->out.publish.results =
        tide_arena_alloc(arena, op->record_count * sizeof *work->out.publish.results);
    if (work->records == NULL || work->out.publish.results == NULL || !copy_str(arena, &op->stream))
        return false;
    for (size_t i = 0; i < op->record_count; i++) {
        const tide_record *record = &op->records[i];
        tide__sq_record *copy = &work->records[i];
        copy->event_id = wants_ids ? record->event_id : (tide_str){"", 0};
        if (!pack(arena, record->fields, record->field_count, open, &copy->packed) ||
            !copy_str(arena, &copy->event_id))
            return false;
    }
    op->records = NULL;
    return true;
}

/* The stream for dead letters, or the one that goes by default. */
static bool copy_dead_letters(tide_arena *arena, tide_op_settle *op) {
    if (op->dead_letters.len > 0)
        return copy_str(arena, &op->dead_letters);
    char *name = tide_arena_bytes(arena, op->stream.len + 16);
    if (name == NULL)
        return false;
    op->dead_letters = (tide_str){name, tide_derived_key(name, op->stream, TIDE_STR("dlq"))};
    return true;
}

static bool copy_settle(tide_arena *arena, tide__sq_work *work) {
    tide_op_settle *op = &work->op.as.settle;
    size_t count = op->item_count > 0 ? op->item_count : 1;
    tide_settlement *items = tide_arena_alloc(arena, count * sizeof *items);
    work->writes = true;
    work->packed = tide_arena_alloc(arena, count * sizeof *work->packed);
    work->out.settle = tide_arena_alloc(arena, count * sizeof *work->out.settle);
    if (items == NULL || work->packed == NULL || work->out.settle == NULL ||
        !copy_str(arena, &op->stream) || !copy_str(arena, &op->group) ||
        !copy_str(arena, &op->consumer) || !copy_dead_letters(arena, op))
        return false;
    for (size_t i = 0; i < op->item_count; i++) {
        items[i] = op->items[i];
        bool moves = items[i].kind == TIDE_SETTLE_DEAD || items[i].kind == TIDE_SETTLE_DELAY;
        if (moves && !pack(arena, items[i].fields, items[i].field_count, false, &work->packed[i]))
            return false;
        items[i].fields = NULL;
    }
    op->items = items;
    return true;
}

static bool copy_extend(tide_arena *arena, tide__sq_work *work) {
    tide_op_extend *op = &work->op.as.extend;
    size_t count = op->id_count > 0 ? op->id_count : 1;
    tide_id *ids = tide_arena_alloc(arena, count * sizeof *ids);
    work->writes = true;
    work->out.extend.lost = tide_arena_alloc(arena, count * sizeof *ids);
    if (ids == NULL || work->out.extend.lost == NULL)
        return false;
    if (op->id_count > 0)
        memcpy(ids, op->ids, op->id_count * sizeof *ids);
    op->ids = ids;
    return copy_str(arena, &op->stream) && copy_str(arena, &op->group) &&
           copy_str(arena, &op->consumer);
}

static bool copy_command(tide_arena *arena, tide__sq_work *work) {
    tide_op_command *op = &work->op.as.command;
    tide_str *args = tide_arena_alloc(arena, op->arg_count * sizeof *args);
    if (args == NULL)
        return false;
    for (size_t i = 0; i < op->arg_count; i++) {
        args[i] = op->args[i];
        if (!copy_str(arena, &args[i]))
            return false;
    }
    op->args = args;
    work->writes = tide__sq_command_writes(op);
    return true;
}

static bool copy_op(tide_arena *arena, tide__sq_work *work) {
    tide_op *op = &work->op;
    switch (op->kind) {
    case TIDE_OP_PUBLISH: return copy_publish(arena, work);
    case TIDE_OP_SETTLE: return copy_settle(arena, work);
    case TIDE_OP_EXTEND: return copy_extend(arena, work);
    case TIDE_OP_COMMAND: return copy_command(arena, work);
    case TIDE_OP_CANCEL:
        work->writes = true;
        return copy_str(arena, &op->as.cancel.stream) && copy_str(arena, &op->as.cancel.event_id);
    case TIDE_OP_PROMOTE: work->writes = true; return copy_str(arena, &op->as.promote.stream);
    case TIDE_OP_GROUP_ENSURE:
        work->writes = true;
        return copy_str(arena, &op->as.group_ensure.stream) &&
               copy_str(arena, &op->as.group_ensure.group) &&
               copy_str(arena, &op->as.group_ensure.start);
    case TIDE_OP_RECOVER:
        work->writes = true;
        return copy_str(arena, &op->as.recover.stream) && copy_str(arena, &op->as.recover.group) &&
               copy_str(arena, &op->as.recover.consumer);
    case TIDE_OP_KV:
        work->writes = op->as.kv.verb != TIDE_KV_GET;
        return copy_str(arena, &op->as.kv.key) && copy_str(arena, &op->as.kv.value) &&
               copy_str(arena, &op->as.kv.expected);
    case TIDE_OP_FETCH:
    case TIDE_OP_SERVER:
    case TIDE_OP_KIND_COUNT: break;
    }
    return true;
}

static tide__sq_work *new_work(tide_arena *arena, const tide_op *op) {
    tide__sq_work *work = tide_arena_alloc(arena, sizeof *work);
    if (work != NULL) {
        memset(work, 0, sizeof *work);
        work->op = *op;
    }
    return work;
}

tide_status tide__sq_enqueue(tide__sq_broker *broker, const tide_op *op, tide_error *error) {
    if (broker->queued_bytes > TIDE__SQ_QUEUE_BYTES_MAX)
        return tide_error_set(error, TIDE_OVERFLOW,
                              "%zu bytes wait to be written: the disk doesn't keep up",
                              broker->queued_bytes);
    size_t weight = weight_of(op);
    tide__sq_job *job = job_for(broker, weight);
    if (job == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "out of memory");
    size_t before = job->arena.used;
    tide__sq_work *work = new_work(&job->arena, op);
    if (work == NULL || !copy_op(&job->arena, work)) {
        job->bytes += job->arena.used - before;
        broker->queued_bytes += job->arena.used - before;
        return tide_error_set(error, TIDE_ENOMEM, "out of memory");
    }
    append_work(broker, job, work, weight, before);
    return TIDE_OK;
}

tide__sq_work *tide__sq_enqueue_wait(tide__sq_broker *broker, tide__sq_wait *wait) {
    size_t weight = weight_of(&wait->op);
    tide__sq_job *job = job_for(broker, weight);
    if (job == NULL)
        return NULL;
    size_t before = job->arena.used;
    tide__sq_work *work = new_work(&job->arena, &wait->op);
    if (work == NULL)
        return NULL;
    work->wait = wait;
    work->writes = wait->op.kind == TIDE_OP_FETCH || tide__sq_command_writes(&wait->op.as.command);
    append_work(broker, job, work, weight, before);
    return work;
}
