/* SPDX-License-Identifier: MIT */
#ifndef TIDE_CONSUMER_DEAD_LETTER_H
#define TIDE_CONSUMER_DEAD_LETTER_H

#include <tidemill/consumer.h>

/* What was said about an event that goes to the dead letters: kept until the write is confirmed. One block. */
typedef struct tide_dead_letter {
    size_t size; /* of the block */
    tide_str reason;
    tide_str error;
} tide_dead_letter;

/* Reasons that need no memory. */
typedef enum tide_dead_reason {
    TIDE_DEAD_REJECTED,
    TIDE_DEAD_ATTEMPTS,
    TIDE_DEAD_CRASH_LOOP
} tide_dead_reason;

/* Copies both, cut at TIDE_REASON_MAX; NULL when there is no memory (a fixed reason then stands in). */
tide_dead_letter *tide__dead_letter_make(const tide_allocator *alloc, tide_str reason,
                                         tide_str error);
void tide__dead_letter_free(const tide_allocator *alloc, tide_dead_letter *letter);
tide_str tide__dead_reason_text(tide_dead_reason reason);

/* Everything that a dead letter's own fields are made from. */
typedef struct tide_dead_context {
    tide_str reason;
    tide_str error;
    tide_str stream;
    tide_str group;
    tide_str consumer;
    tide_id id;
    uint32_t attempts;
    int64_t now_ms; /* since the epoch */
} tide_dead_context;

enum {
    TIDE_DEAD_FIELDS = 9,      /* fields added to a dead letter */
    TIDE_DELAY_FIELDS = 2,     /* fields added to a delayed copy */
    TIDE_FIELD_TEXT_MAX = 128, /* bytes of text that either needs */
    /* Original fields that a server's script can pass on in one call. Nothing of ours writes so many; of a foreign entry that
     * has more, a dead letter keeps the first ones, and a delay is waited for here instead of being moved. */
    TIDE_BODY_FIELDS_MAX = 3000,
};

/* A delayed copy goes back into the stream, where every group sees it. Its last two fields say whose retry it is, and how
 * many attempts were made. */
#define TIDE_RETRY_GROUP_FIELD "tide_group"
#define TIDE_ATTEMPT_FIELD     "tide_attempt"
/* The attempts that the entry carries; 0 when it has no such field. */
uint32_t tide__carried_attempts(const tide_entry *entry);
/* Whether the entry is a delayed copy for another group than this one. */
bool tide__is_retry_of_another(const tide_entry *entry, tide_str group);

/* Writes the original fields (without a carried attempt) and the dead_* ones into `fields` (room for field_count +
 * TIDE_DEAD_FIELDS), their numbers into `text` (TIDE_FIELD_TEXT_MAX bytes); returns how many fields. */
size_t tide__dead_letter_fields(tide_field *fields, char *text, const tide_entry *entry,
                                const tide_dead_context *context);
/* The same for a delayed copy: the original fields, tide_group = `group` and tide_attempt = `attempts`. */
size_t tide__delayed_fields(tide_field *fields, char *text, const tide_entry *entry, tide_str group,
                            uint32_t attempts);

#endif
