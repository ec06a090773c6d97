/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_TIDEMILL_H
#define TIDEMILL_TIDEMILL_H

/*
 * Everything public. Conventions are stated in types.h, outcomes in status.h. For C99 and C++11 on, but for
 * TIDE_CONSUMER_OPTIONS_INIT, which wants C++20.
 *
 * A program opens a bus (bus.h), and uses its engine (engine.h) to submit operations (operation.h) and to subscribe
 * (consumer.h). Nothing happens but in tide_bus_poll; no other call waits.
 *
 *     tide_engine_options options = {.url = TIDE_STR("file:save.db")};
 *     tide_bus *bus;
 *     tide_error error;
 *     if (tide_bus_open(&bus, &options, &error) != TIDE_OK)
 *         return complain(error.message);
 *     tide_engine *engine = tide_bus_engine(bus);
 *
 *     tide_consumer_options reader = {TIDE_CONSUMER_OPTIONS_INIT};
 *     reader.stream = TIDE_STR("orders");
 *     reader.group = TIDE_STR("billing");
 *     reader.consumer = TIDE_STR("host-1");
 *     uint32_t number;
 *     if (tide_engine_subscribe(engine, &reader, tide_bus_now_us(bus), &number, &error) != TIDE_OK)
 *         return complain(error.message);
 *
 *     tide_field fields[] = {{TIDE_STR("event_type"), TIDE_STR("OrderPlaced")},
 *                            {TIDE_STR("data"), TIDE_STR("{\"total\":5}")}};
 *     tide_record record = {.fields = fields, .field_count = 2};
 *     tide_op op = {.kind = TIDE_OP_PUBLISH, .tag = 1};
 *     op.as.publish.stream = TIDE_STR("orders");
 *     op.as.publish.records = &record;
 *     op.as.publish.record_count = 1;
 *     if (tide_engine_submit(engine, &op, tide_bus_now_us(bus), &error) != TIDE_OK)
 *         return complain(error.message);
 *
 *     while (tide_bus_poll(bus, -1) == TIDE_OK) {
 *         tide_completion done;
 *         while (tide_engine_next_completion(engine, tide_bus_now_us(bus), &done))
 *             if (done.status != TIDE_OK)
 *                 complain(done.error.message);
 *         tide_event event;
 *         while (tide_engine_next_event(engine, 0, tide_bus_now_us(bus), &event)) {
 *             tide_verdict verdict = {.kind = handle(event.entry) ? TIDE_VERDICT_ACK : TIDE_VERDICT_FAIL, .delay_ms = -1};
 *             tide_engine_settle(engine, event.consumer, event.handle, &verdict, tide_bus_now_us(bus));
 *         }
 *     }
 *
 *     tide_engine_unsubscribe(engine, number, false, tide_bus_now_us(bus));
 *     while (!tide_engine_is_idle(engine) && tide_bus_poll(bus, -1) == TIDE_OK) {
 *     }
 *     tide_bus_close(bus);
 */
#include <tidemill/bus.h>
#include <tidemill/consumer.h>
#include <tidemill/engine.h>
#include <tidemill/operation.h>
#include <tidemill/reply.h>
#include <tidemill/status.h>
#include <tidemill/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0"; static memory. */
const char *tide_version(void);

#ifdef __cplusplus
}
#endif

#endif
