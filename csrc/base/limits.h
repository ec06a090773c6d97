/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_LIMITS_H
#define TIDE_BASE_LIMITS_H

/* Every bound of the core in one place, each with its reason. */

enum {
    /* hiredis 0.14 refuses more than 7 levels of nesting by itself; deeper replies are nobody's. */
    TIDE_REPLY_DEPTH_MAX = 7,
    /* Elements in one array of a reply: XRANGE of a million entries still passes. */
    TIDE_REPLY_ELEMENTS_MAX = 1 << 20,
    /* One bulk of a reply: Redis's own default for proto-max-bulk-len. */
    TIDE_REPLY_BULK_MAX = 512 * 1024 * 1024,
    /* Bytes of one unfinished reply that are kept before the connection is dropped. */
    TIDE_REPLY_BYTES_MAX = 1024 * 1024 * 1024,
    /* One event's payload by default (option max_payload). */
    TIDE_PAYLOAD_MAX_DEFAULT = 1024 * 1024,
    /* Fields of one entry that tidemill itself writes. */
    TIDE_FIELDS_MAX = 64,
    /* Names: streams, groups, consumers, event types. A name is shown in logs and used in keys. */
    TIDE_NAME_MAX = 512,
    /* Events in one publish call: bounds a batch's reply array. */
    TIDE_PUBLISH_MAX = 100000,
    /* Operations under way at once in one broker: a bounded queue, then TIDE_OVERFLOW. */
    TIDE_OPS_MAX = 65536,
    /* Bytes waiting to be sent on one connection before publish answers TIDE_OVERFLOW. */
    TIDE_OUTPUT_BYTES_MAX = 256 * 1024 * 1024,
    /* Links (connections) of one broker: one for writes, one a subscription, some spare. */
    TIDE_LINKS_MAX = 1024,
    /* Subscriptions of one engine. */
    TIDE_CONSUMERS_MAX = 1000,
    /* Entries one subscription may hold, and the default. */
    TIDE_PREFETCH_MAX = 100000,
    TIDE_PREFETCH_DEFAULT = 1000,
    /* Bytes of entries one subscription may hold by default: two reads of 1,000 entries of 4
     * KiB. */
    TIDE_PREFETCH_BYTES_DEFAULT = 8 * 1024 * 1024,
    /* Settlements that go out in one batch. */
    TIDE_SETTLE_BATCH_MAX = 1000,
    /* A URL. */
    TIDE_URL_MAX = 4096,
    /* A text field (reason, error) kept with a dead letter. */
    TIDE_REASON_MAX = 4096,
};

#endif
