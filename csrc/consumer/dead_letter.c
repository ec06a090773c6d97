/* SPDX-License-Identifier: MIT */
/*
 * What it is: the fields of a dead letter and of a delayed copy: the original ones first, unchanged, then ours.
 * What it is not: the write; settlement.c sends it.
 * Invariants: the attempts that a delayed copy carries are never part of a dead letter's original fields; an empty error
 * is still written, so that every dead letter has the same fields.
 */
#include "consumer/dead_letter.h"

#include "base/alloc.h"
#include "base/limits.h"
#include "base/text.h"

tide_dead_letter *tide__dead_letter_make(const tide_allocator *alloc, tide_str reason,
                                         tide_str error) {
    if (reason.len > TIDE_REASON_MAX)
        reason.len = TIDE_REASON_MAX;
    if (error.len > TIDE_REASON_MAX)
        error.len = TIDE_REASON_MAX;
    size_t size = sizeof(tide_dead_letter) + reason.len + error.len;
    tide_dead_letter *letter = tide_alloc(alloc, size);
    if (letter == NULL)
        return NULL;
    char *text = (char *)(letter + 1);
    *letter = (tide_dead_letter){
        .size = size, .reason = {text, reason.len}, .error = {text + reason.len, error.len}};
    if (reason.len > 0)
        memcpy(text, reason.data, reason.len);
    if (error.len > 0)
        memcpy(text + reason.len, error.data, error.len);
    return letter;
}

void tide__dead_letter_free(const tide_allocator *alloc, tide_dead_letter *letter) {
    if (letter != NULL)
        tide_free(alloc, letter, letter->size);
}

tide_str tide__dead_reason_text(tide_dead_reason reason) {
    switch (reason) {
    case TIDE_DEAD_REJECTED: return TIDE_STR("rejected");
    case TIDE_DEAD_ATTEMPTS: return TIDE_STR("attempts exhausted");
    case TIDE_DEAD_CRASH_LOOP: return TIDE_STR("crash_loop");
    }
    return TIDE_STR("rejected");
}

static bool is_delayed_copy(const tide_entry *entry) {
    const tide_field *end = entry->fields + entry->field_count;
    return entry->field_count >= TIDE_DELAY_FIELDS &&
           tide_str_equal(end[-1].name, TIDE_STR(TIDE_ATTEMPT_FIELD)) &&
           tide_str_equal(end[-2].name, TIDE_STR(TIDE_RETRY_GROUP_FIELD));
}

bool tide__is_retry_of_another(const tide_entry *entry, tide_str group) {
    return is_delayed_copy(entry) &&
           !tide_str_equal(entry->fields[entry->field_count - 2].value, group);
}

uint32_t tide__carried_attempts(const tide_entry *entry) {
    uint64_t number;
    if (!is_delayed_copy(entry) ||
        !tide_u64_parse(entry->fields[entry->field_count - 1].value, &number))
        return 0;
    /* Anybody can write such a field: a nonsense number may end an event early, but never wrap a count. */
    return number > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)number;
}

static size_t copy_original(tide_field *fields, const tide_entry *entry) {
    size_t count = entry->field_count;
    if (is_delayed_copy(entry))
        count -= TIDE_DELAY_FIELDS;
    if (count > TIDE_BODY_FIELDS_MAX)
        count = TIDE_BODY_FIELDS_MAX;
    if (count > 0)
        memcpy(fields, entry->fields, count * sizeof *fields);
    return count;
}

static tide_str number_text(char **text, uint64_t number) {
    tide_str out = {*text, tide_u64_format(*text, number)};
    *text += out.len;
    return out;
}

size_t tide__dead_letter_fields(tide_field *fields, char *text, const tide_entry *entry,
                                const tide_dead_context *context) {
    size_t count = copy_original(fields, entry);
    tide_str id = {text, tide_id_format(text, context->id)};
    text += id.len;
    tide_field ours[TIDE_DEAD_FIELDS] = {
        {TIDE_STR("dead_reason"), context->reason},
        {TIDE_STR("dead_error"), context->error},
        {TIDE_STR("dead_stream"), context->stream},
        {TIDE_STR("dead_id"), id},
        {TIDE_STR("dead_group"), context->group},
        {TIDE_STR("dead_consumer"), context->consumer},
        {TIDE_STR("dead_attempts"), number_text(&text, context->attempts)},
        {TIDE_STR("dead_first_at"), number_text(&text, context->id.ms)},
        {TIDE_STR("dead_at"),
         number_text(&text, context->now_ms > 0 ? (uint64_t)context->now_ms : 0)},
    };
    memcpy(fields + count, ours, sizeof ours);
    return count + TIDE_DEAD_FIELDS;
}

size_t tide__delayed_fields(tide_field *fields, char *text, const tide_entry *entry, tide_str group,
                            uint32_t attempts) {
    size_t count = copy_original(fields, entry);
    fields[count] = (tide_field){TIDE_STR(TIDE_RETRY_GROUP_FIELD), group};
    fields[count + 1] = (tide_field){TIDE_STR(TIDE_ATTEMPT_FIELD), number_text(&text, attempts)};
    return count + TIDE_DELAY_FIELDS;
}
