/* SPDX-License-Identifier: MIT */
/*
 * What it is: the tables behind tide_status: code, text and class, all drawn from TIDE_STATUS_MAP.
 * What it is not: the place where a server's error is classified (broker/) or a message is made
 * (error.c).
 * Invariants: every answer is static memory; a number that is no status reads as TIDE_INTERNAL.
 */
#include <tidemill/status.h>

static const struct {
    const char *code;
    const char *text;
    tide_status_class class_of;
} rows[TIDE_STATUS_COUNT] = {
#define X(name, code, class, text) {"TIDE-" code, text, TIDE_CLASS_##class},
    TIDE_STATUS_MAP(X)
#undef X
};

static unsigned row_of(tide_status status) {
    unsigned row = (unsigned)status;
    return row < (unsigned)TIDE_STATUS_COUNT ? row : (unsigned)TIDE_INTERNAL;
}

const char *tide_status_code(tide_status status) {
    return rows[row_of(status)].code;
}

const char *tide_status_text(tide_status status) {
    return rows[row_of(status)].text;
}

tide_status_class tide_status_class_of(tide_status status) {
    return rows[row_of(status)].class_of;
}
