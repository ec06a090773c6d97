/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_ASSERT_H
#define TIDE_BASE_ASSERT_H

#include <stdlib.h>

/* For a programmer's mistake only; what comes from the network, the disk, a configuration or a
 * handler is never asserted. */
#define TIDE_ASSERT(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

#endif
