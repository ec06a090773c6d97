/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_TIDEMILL_H
#define TIDEMILL_TIDEMILL_H

/* Everything public. Conventions are stated in types.h, outcomes in status.h. */
#include <tidemill/bus.h>
#include <tidemill/consumer.h>
#include <tidemill/engine.h>
#include <tidemill/operation.h>
#include <tidemill/reply.h>
#include <tidemill/status.h>
#include <tidemill/types.h>

/* "0.1.0"; static memory. */
const char *tide_version(void);

#endif
