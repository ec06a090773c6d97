/* SPDX-License-Identifier: MIT */
#ifndef TIDE_ENGINE_ENGINE_H
#define TIDE_ENGINE_ENGINE_H

#include <tidemill/engine.h>

#include "broker/broker.h"

/* For drivers: the broker whose links and jobs they serve. Lives as long as the engine. */
tide_broker *tide_engine_broker(tide_engine *engine);
/* The options of the URL, for the driver's transports (TLS files, time limits). */
const tide_url_options *tide_engine_url_options(const tide_engine *engine);
/* Whether tide_engine_next_event is to be asked: there is an event, or one that gets ready only when somebody asks. */
bool tide_engine_is_to_be_asked(const tide_engine *engine);
/* How many completions there have been, those of subscriptions too: while it stays the same, nothing has happened. */
uint64_t tide_engine_routed(const tide_engine *engine);
/* All invariants; aborts when one is broken. */
void tide__engine_check(const tide_engine *engine);
/* With a broker made elsewhere (the simulator's); takes it over, also on failure. */
tide_status tide_engine_open_with(tide_engine **engine, tide_broker *broker, const tide_env *env,
                                  tide_error *error);

/* Wall clock minus the clock of now_us, for an engine opened by tide_engine_open_with. */
void tide__engine_wall_offset(tide_engine *engine, int64_t wall_offset_us);

#endif
