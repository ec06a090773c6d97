/* SPDX-License-Identifier: MIT */
/* The smallest program that uses the installed library: headers, symbols and run path are found. */
#include <stdio.h>
#include <tidemill/tidemill.h>

int main(void) {
    printf("%s: %s\n", tide_status_code(TIDE_TIMEOUT), tide_status_text(TIDE_TIMEOUT));
    return tide_status_class_of(TIDE_TIMEOUT) == TIDE_CLASS_RETRYABLE ? 0 : 1;
}
