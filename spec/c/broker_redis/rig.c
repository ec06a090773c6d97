/* SPDX-License-Identifier: MIT */
/*
 * What it is: the broker held by hand: no socket, no clock but the test's.
 * What it is not: a server; replies are what the test says.
 */
#include "rig.h"

#include <stdio.h>

#include "base/alloc.h"
#include "failing_allocator.h"

tide_str str(const char *text) {
    return (tide_str){text, strlen(text)};
}

static void write_log(void *context, tide_log_level level, tide_str line) {
    (void)level;
    rig *r = context;
    int n = snprintf(r->log + r->log_len, sizeof r->log - r->log_len, "%.*s\n", (int)line.len,
                     line.data);
    if (n > 0 && r->log_len + (size_t)n < sizeof r->log)
        r->log_len += (size_t)n;
    r->log_lines++;
}

bool rig_start(rig *r, const char *url, const tide_allocator *alloc) {
    memset(r, 0, sizeof *r);
    r->alloc = alloc != NULL ? *alloc : tide_allocator_default();
    r->now_us = 1000000;
    static tide_allocator plain;
    plain = tide_allocator_default();
    tide_error error;
    assert_int_equal(tide_url_parse(&r->url, &plain, str(url), &error), TIDE_OK);
    assert_int_equal(tide_url_options_parse(&r->options, &r->url, &error), TIDE_OK);
    tide_broker_options options = {.url = &r->url, .url_options = &r->options};
    options.env.allocator = r->alloc;
    options.env.seed = 42;
    options.env.log = (tide_log_sink){write_log, r};
    tide_status status = tide_broker_redis_create(&r->broker, &options, &error);
    if (status == TIDE_OK)
        return true;
    assert_int_equal(status, TIDE_ENOMEM);
    tide_url_deinit(&r->url);
    r->broker = NULL;
    return false;
}

void rig_stop(rig *r) {
    if (r->broker == NULL)
        return;
    r->broker->vtable->destroy(r->broker);
    tide_url_deinit(&r->url);
    r->broker = NULL;
}

bool rig_want(rig *r, tide_link_want *want) {
    r->broker->vtable->tick(r->broker, r->now_us);
    return r->broker->vtable->next_link_want(r->broker, want);
}

void rig_expect_open(rig *r, uint32_t link) {
    tide_link_want want;
    assert_true(rig_want(r, &want));
    assert_int_equal(want.action, TIDE_LINK_OPEN);
    assert_int_equal(want.link, link);
}

void rig_expect_close(rig *r, uint32_t link) {
    tide_link_want want;
    assert_true(rig_want(r, &want));
    assert_int_equal(want.action, TIDE_LINK_CLOSE);
    assert_int_equal(want.link, link);
}

void rig_feed_split(rig *r, uint32_t link, const char *bytes, size_t split) {
    size_t size = strlen(bytes);
    size_t step = split == SIZE_MAX ? 1 : split < size ? split : size;
    r->broker->vtable->feed(r->broker, link, bytes, step, r->now_us);
    while (step < size) {
        size_t next = split == SIZE_MAX ? 1 : size - step;
        r->broker->vtable->feed(r->broker, link, bytes + step, next, r->now_us);
        step += next;
    }
}

void rig_feed(rig *r, uint32_t link, const char *bytes) {
    r->broker->vtable->feed(r->broker, link, bytes, strlen(bytes), r->now_us);
}

size_t rig_send(rig *r, uint32_t link, size_t most) {
    tide_str out = r->broker->vtable->output(r->broker, link);
    size_t size = out.len < most ? out.len : most;
    if (size > 0)
        r->broker->vtable->output_ack(r->broker, link, size, r->now_us);
    return size;
}

void rig_open(rig *r, uint32_t link) {
    rig_expect_open(r, link);
    r->broker->vtable->link_opened(r->broker, link, r->now_us);
    rig_send(r, link, SIZE_MAX);
}

void rig_connect(rig *r, uint32_t link) {
    rig_open(r, link);
    rig_feed(r, link, GREETING_REPLIES);
}

void rig_expect_sent(rig *r, uint32_t link, const char *bytes) {
    tide_str out = r->broker->vtable->output(r->broker, link);
    if (!tide_str_equal(out, str(bytes))) {
        char seen[4096], wanted[4096];
        tide_text_escape(seen, sizeof seen, out);
        tide_text_escape(wanted, sizeof wanted, str(bytes));
        fail_msg("sent   %s\nwanted %s", seen, wanted);
    }
    if (out.len > 0)
        r->broker->vtable->output_ack(r->broker, link, out.len, r->now_us);
}

void rig_expect_request(rig *r, uint32_t link, const char *words) {
    char bytes[4096];
    size_t size = 0;
    while (*words != '\0') {
        size_t len = strcspn(words, "|");
        size_t count = 1;
        for (size_t i = 0; i < len; i++)
            count += words[i] == ' ';
        size += (size_t)snprintf(bytes + size, sizeof bytes - size, "*%zu\r\n", count);
        for (; count > 0; count--) {
            size_t arg = strcspn(words, " |");
            size += (size_t)snprintf(bytes + size, sizeof bytes - size, "$%zu\r\n%.*s\r\n", arg,
                                     (int)arg, words);
            assert_true(size < sizeof bytes);
            words += arg + (words[arg] != '\0');
        }
    }
    rig_expect_sent(r, link, bytes);
}

void rig_lose(rig *r, uint32_t link) {
    tide_error why;
    tide_error_set(&why, TIDE_CONNECT, "cut by the test");
    r->broker->vtable->link_closed(r->broker, link, &why, r->now_us);
}

void rig_pass(rig *r, int64_t ms) {
    r->now_us += ms * 1000;
    r->broker->vtable->tick(r->broker, r->now_us);
}

void rig_submit(rig *r, const tide_op *op) {
    tide_error error = {0};
    tide_status status = r->broker->vtable->submit(r->broker, op, r->now_us, &error);
    if (status != TIDE_OK)
        fail_msg("submit: %s: %s", tide_status_code(status), error.message);
}

void rig_ask(rig *r, uint32_t link, const tide_op *op) {
    rig_submit(r, op);
    rig_send(r, link, SIZE_MAX);
}

void rig_expect(rig *r, tide_completion *completion, uint64_t tag, tide_status status) {
    assert_true(r->broker->vtable->next_completion(r->broker, completion));
    assert_int_equal(completion->tag, tag);
    if (completion->status != status)
        fail_msg("%s (%s), not %s", tide_status_code(completion->status), completion->error.message,
                 tide_status_code(status));
}

void rig_expect_none(rig *r) {
    tide_completion completion;
    assert_false(r->broker->vtable->next_completion(r->broker, &completion));
}

int rig_setup(void **state) {
    static rig r;
    const char *url = *state;
    *state = &r;
    rig_start(&r, url != NULL ? url : "redis://h", NULL);
    if (url == NULL)
        rig_connect(&r, 0);
    return 0;
}

int rig_teardown(void **state) {
    rig_stop(*state);
    return 0;
}

void rig_fail_each_allocation(void (*work)(const tide_allocator *alloc), uint64_t least) {
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        for (uint64_t n = 1;; n++) {
            failing_allocator memory;
            tide_allocator alloc = failing_allocator_init(&memory, n, from_then_on != 0);
            work(&alloc);
            assert_int_equal(failing_allocator_live_bytes(&memory), 0);
            if (memory.failed == 0) {
                assert_true(n > least);
                break;
            }
        }
    }
}

/* ---- operations ---- */

const tide_field one_field[1] = {{{"data", 4}, {"1", 1}}};
const tide_record three[3] = {
    {one_field, 1, {"a", 1}}, {one_field, 1, {"b", 1}}, {one_field, 1, {"c", 1}}};

tide_op publish_op(uint64_t tag, const char *stream, const tide_record *records, size_t count) {
    tide_op op = {.kind = TIDE_OP_PUBLISH, .tag = tag};
    op.as.publish.stream = str(stream);
    op.as.publish.records = records;
    op.as.publish.record_count = count;
    return op;
}

tide_op fetch_op(uint64_t tag, const char *stream, const char *consumer, uint32_t count,
                 int64_t block_ms) {
    tide_op op = {.kind = TIDE_OP_FETCH, .tag = tag};
    op.as.fetch = (tide_op_fetch){.stream = str(stream),
                                  .group = str("g"),
                                  .consumer = str(consumer),
                                  .reader = 1,
                                  .count_max = count,
                                  .block_ms = block_ms};
    return op;
}

tide_op settle_op(uint64_t tag, const char *stream, const tide_settlement *items, size_t count) {
    tide_op op = {.kind = TIDE_OP_SETTLE, .tag = tag};
    op.as.settle = (tide_op_settle){.stream = str(stream),
                                    .group = str("g"),
                                    .consumer = str("c"),
                                    .items = items,
                                    .item_count = count};
    return op;
}

tide_op recover_op(uint64_t tag, const char *stream, const char *consumer, int64_t min_idle_ms) {
    tide_op op = {.kind = TIDE_OP_RECOVER, .tag = tag};
    op.as.recover = (tide_op_recover){.stream = str(stream),
                                      .group = str("g"),
                                      .consumer = str(consumer),
                                      .min_idle_ms = min_idle_ms,
                                      .count_max = 10};
    return op;
}

tide_op group_op(uint64_t tag, const char *stream, const char *start) {
    tide_op op = {.kind = TIDE_OP_GROUP_ENSURE, .tag = tag};
    op.as.group_ensure =
        (tide_op_group_ensure){.stream = str(stream), .group = str("g"), .start = str(start)};
    return op;
}

tide_op promote_op(uint64_t tag, const char *stream) {
    tide_op op = {.kind = TIDE_OP_PROMOTE, .tag = tag};
    op.as.promote = (tide_op_promote){.stream = str(stream), .count_max = 100};
    return op;
}

tide_op extend_op(uint64_t tag, const char *stream, const tide_id *ids, size_t count) {
    tide_op op = {.kind = TIDE_OP_EXTEND, .tag = tag};
    op.as.extend = (tide_op_extend){.stream = str(stream),
                                    .group = str("g"),
                                    .consumer = str("c"),
                                    .ids = ids,
                                    .id_count = count};
    return op;
}
