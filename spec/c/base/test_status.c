/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include <tidemill/status.h>

static void every_status_has_a_code_a_text_and_a_class(void **state) {
    (void)state;
    for (int i = 0; i < TIDE_STATUS_COUNT; i++) {
        const char *code = tide_status_code((tide_status)i);
        const char *text = tide_status_text((tide_status)i);
        assert_int_equal(strncmp(code, "TIDE-", 5), 0);
        assert_true(strlen(code) > 5);
        assert_true(strlen(text) > 3);
        assert_int_not_equal(text[strlen(text) - 1], '.');
        assert_int_equal(tide_status_class_of((tide_status)i) == TIDE_CLASS_OK, i == TIDE_OK);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(code, tide_status_code((tide_status)k));
        }
    }
}

static void codes_are_stable(void **state) {
    (void)state;
    assert_string_equal(tide_status_code(TIDE_OK), "TIDE-OK");
    assert_string_equal(tide_status_code(TIDE_ENOMEM), "TIDE-NOMEM");
    assert_string_equal(tide_status_code(TIDE_TIMEOUT), "TIDE-TIMEOUT");
    assert_int_equal(tide_status_class_of(TIDE_UNKNOWN), TIDE_CLASS_RETRYABLE);
    assert_int_equal(tide_status_class_of(TIDE_NOAUTH), TIDE_CLASS_FATAL);
    assert_int_equal(tide_status_class_of(TIDE_URL), TIDE_CLASS_CALLER);
}

static void a_number_that_is_no_status_reads_as_internal(void **state) {
    (void)state;
    const int numbers[] = {-1, TIDE_STATUS_COUNT, 1 << 30};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(tide_status_code((tide_status)numbers[i]), "TIDE-INTERNAL");
        assert_string_equal(tide_status_text((tide_status)numbers[i]),
                            tide_status_text(TIDE_INTERNAL));
        assert_int_equal(tide_status_class_of((tide_status)numbers[i]), TIDE_CLASS_FATAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_code_a_text_and_a_class),
        cmocka_unit_test(codes_are_stable),
        cmocka_unit_test(a_number_that_is_no_status_reads_as_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
