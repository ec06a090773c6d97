/* SPDX-License-Identifier: MIT */
#ifndef TIDE_RUNTIME_RUNTIME_H
#define TIDE_RUNTIME_RUNTIME_H

#include <tidemill/bus.h>

/* For tests: a bus around an engine that was opened elsewhere; takes it over, also on failure. `allocator` as in
 * tide_env. TIDE_OK, TIDE_ENOMEM, TIDE_IO. */
tide_status tide__bus_open_engine(tide_bus **bus, tide_engine *engine, tide_allocator allocator,
                                  tide_error *error);

#endif
