/* SPDX-License-Identifier: MIT */
/*
 * What it is: the broker held by hand: no socket, no clock but the test's.
 * What it is not: a server; replies are what the test says.
 */
#include "rig.h"

#include <stdio.h>

#include "base/alloc.h"

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

void rig_connect(rig *r, uint32_t link) {
    rig_expect_open(r, link);
    r->broker->vtable->link_opened(r->broker, link, r->now_us);
    rig_send(r, link, SIZE_MAX);
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

tide_op publish_op(uint64_t tag, const char *stream, const tide_record *records, size_t count) {
    tide_op op = {.kind = TIDE_OP_PUBLISH, .tag = tag};
    op.as.publish.stream = str(stream);
    op.as.publish.records = records;
    op.as.publish.record_count = count;
    return op;
}
