/* SPDX-License-Identifier: MIT */
/* A program that uses the installed library and nothing else: publishes three events, and handles them. C99 and C++20. */
#include <stdio.h>
#include <string.h>
#include <tidemill/tidemill.h>

enum { EVENTS = 3 };

static int fail(const char *what, const tide_error *error) {
    fprintf(stderr, "%s: %s: %s\n", what, tide_status_code(error->status), error->message);
    return 1;
}

static tide_status publish(tide_bus *bus, uint64_t tag, tide_error *error) {
    tide_field fields[] = {{TIDE_STR("event_type"), TIDE_STR("Greeting")},
                           {TIDE_STR("data"), TIDE_STR("{\"to\":\"world\"}")}};
    tide_record record = {fields, sizeof fields / sizeof fields[0], {NULL, 0}};
    tide_op op;
    memset(&op, 0, sizeof op);
    op.kind = TIDE_OP_PUBLISH;
    op.tag = tag;
    op.as.publish.stream = TIDE_STR("greetings");
    op.as.publish.records = &record;
    op.as.publish.record_count = 1;
    return tide_engine_submit(tide_bus_engine(bus), &op, tide_bus_now_us(bus), error);
}

int main(void) {
    tide_engine_options options = {
        TIDE_STR("memory:"), {{NULL, NULL}, {NULL, NULL}, 0}, 0, NULL, 0};
    tide_consumer_options reader = {TIDE_CONSUMER_OPTIONS_INIT};
    tide_verdict done = {TIDE_VERDICT_ACK, 0, NULL, {NULL, 0}, {NULL, 0}};
    tide_error error;
    tide_bus *bus;
    uint32_t number;
    int published = 0, handled = 0;

    if (tide_bus_open(&bus, &options, &error) != TIDE_OK)
        return fail("open", &error);
    tide_engine *engine = tide_bus_engine(bus);
    reader.stream = TIDE_STR("greetings");
    reader.group = TIDE_STR("desk");
    reader.consumer = TIDE_STR("me");
    if (tide_engine_subscribe(engine, &reader, tide_bus_now_us(bus), &number, &error) != TIDE_OK)
        return fail("subscribe", &error);
    for (uint64_t tag = 1; tag <= EVENTS; tag++)
        if (publish(bus, tag, &error) != TIDE_OK)
            return fail("publish", &error);
    while (published < EVENTS || handled < EVENTS) {
        tide_completion answer;
        tide_event event;
        if (tide_bus_poll(bus, -1) != TIDE_OK)
            return 1;
        for (; tide_engine_next_completion(engine, tide_bus_now_us(bus), &answer); published++)
            if (answer.status != TIDE_OK)
                return fail("publish", &answer.error);
        for (; tide_engine_next_event(engine, 0, tide_bus_now_us(bus), &event); handled++)
            tide_engine_settle(engine, event.consumer, event.handle, &done, tide_bus_now_us(bus));
    }
    tide_engine_unsubscribe(engine, number, false, tide_bus_now_us(bus));
    while (!tide_engine_is_idle(engine))
        if (tide_bus_poll(bus, -1) != TIDE_OK)
            return 1;
    tide_bus_close(bus);
    printf("tidemill %s: %d events published and handled\n", tide_version(), handled);
    return 0;
}
