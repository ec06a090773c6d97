/* SPDX-License-Identifier: MIT */
/* Batches of entries, and names derived from a stream's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/text.h"
#include "broker/broker.h"
#include "failing_allocator.h"

static void count_release(void *backing) {
    ++*(int *)backing;
}

static void holds_entries_and_their_fields(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    tide_batch *batch = tide_batch_create(&alloc, 3, 6);
    assert_non_null(batch);
    assert_int_equal(memory.asked, 1);
    assert_int_equal(tide_batch_count(batch), 0);
    int released = 0;
    batch->release_backing = count_release;
    batch->backing = &released;
    tide_field *fields = tide_batch_fields(batch);
    for (size_t i = 0; i < 3; i++) {
        fields[2 * i] = (tide_field){TIDE_STR("a"), TIDE_STR("1")};
        fields[2 * i + 1] = (tide_field){TIDE_STR("b"), TIDE_STR("2")};
        batch->entries[batch->count++] =
            (tide_entry){.id = {i, 1}, .fields = fields + 2 * i, .field_count = 2, .attempt = 1};
    }
    assert_int_equal(tide_batch_count(batch), 3);
    assert_int_equal(tide_batch_entry(batch, 2)->id.ms, 2);
    assert_true(tide_str_equal(tide_batch_entry(batch, 0)->fields[1].name, TIDE_STR("b")));
    assert_int_equal(released, 0);
    tide_batch_release(batch);
    assert_int_equal(released, 1);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
    tide_batch_release(NULL);
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    failing_allocator memory;
    tide_allocator alloc = failing_allocator_init(&memory, 0, false);
    assert_null(tide_batch_create(&alloc, SIZE_MAX / sizeof(tide_entry) + 1, 0));
    assert_null(tide_batch_create(&alloc, SIZE_MAX, SIZE_MAX));
    assert_null(tide_batch_create(&alloc, 1, SIZE_MAX / sizeof(tide_field)));
    assert_int_equal(memory.asked, 0);
    alloc = failing_allocator_init(&memory, 1, false);
    assert_null(tide_batch_create(&alloc, 1, 1));
    tide_batch *empty = tide_batch_create(&alloc, 0, 0);
    assert_non_null(empty);
    tide_batch_release(empty);
    assert_int_equal(failing_allocator_live_bytes(&memory), 0);
}

static void derives_keys_with_one_hash_tag(void **state) {
    (void)state;
    static const struct {
        const char *stream, *key;
    } cases[] = {
        {"orders", "{orders}:dlq"},
        {"{orders}", "{orders}:dlq"},
        {"{orders}.3", "{orders}.3:dlq"},
        {"a{b}c", "a{b}c:dlq"},
        {"a{b", "{a{b}:dlq"},
        {"a{}b", "{a{}b}:dlq"},
        {"", "{}:dlq"},
        {"}{", "{}{}:dlq"},
        {"}{x}", "}{x}:dlq"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        tide_str stream = tide_str_from(cases[i].stream);
        size_t len = tide_derived_key(out, stream, TIDE_STR("dlq"));
        assert_true(len <= stream.len + 3 + 3);
        assert_int_equal(len, strlen(cases[i].key));
        assert_memory_equal(out, cases[i].key, len);
    }
    char out[64];
    assert_int_equal(tide_derived_key(out, (tide_str){NULL, 0}, (tide_str){NULL, 0}), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_entries_and_their_fields),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(derives_keys_with_one_hash_tag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
