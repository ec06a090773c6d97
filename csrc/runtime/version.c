/* SPDX-License-Identifier: MIT */
/* What it is: the version, as the build says it. */
#include <tidemill/tidemill.h>

#ifndef TIDE_VERSION
#define TIDE_VERSION "0.1.0"
#endif

const char *tide_version(void) {
    return TIDE_VERSION;
}
