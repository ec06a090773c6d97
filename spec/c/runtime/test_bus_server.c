/* SPDX-License-Identifier: MIT */
/*
 * All layers together on real servers: TCP by name, unix socket and TLS; a server that goes and comes back; one that is no
 * Redis; every failing allocation through connect, publish, consume and settle. Needs redis-server or valkey-server, and
 * openssl for TLS; what lacks its program is skipped with a line that says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tidemill/tidemill.h>

#include "base/text.h"
#include "certificate.h"
#include "failing_allocator.h"
#include "loopback.h"
#include "real_server.h"
#include "scratch.h"

enum { TEXT = 512, PATIENCE_US = 60000000 };

/* ---- the server ---- */

static bool have_server, have_certificates;
static real_server server;
static uint16_t tls_port; /* of the same server; meaningless without certificates */

static bool start_server(const char *program, bool with_tls) {
    static char socket_path[SCRATCH_PATH_MAX], paths[3][SCRATCH_PATH_MAX], tls_port_text[8];
    static const char *const names[] = {"server.pem", "server.key", "ca.pem"};
    snprintf(socket_path, sizeof socket_path, "%s", scratch_path("socket"));
    for (size_t i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "%s", scratch_path(names[i]));
    tls_port = loopback_free_port();
    snprintf(tls_port_text, sizeof tls_port_text, "%u", (unsigned)tls_port);
    static const char *const words[] = {"--unixsocket",
                                        socket_path,
                                        "--tls-port",
                                        tls_port_text,
                                        "--tls-cert-file",
                                        paths[0],
                                        "--tls-key-file",
                                        paths[1],
                                        "--tls-ca-cert-file",
                                        paths[2],
                                        "--tls-auth-clients",
                                        "no",
                                        NULL};
    static const char *const plain[] = {"--unixsocket", socket_path, NULL};
    return real_server_start(&server, program, with_tls ? words : plain);
}

static int set_up(void **state) {
    (void)state;
    const char *program = real_server_is_installed("valkey-server")  ? "valkey-server"
                          : real_server_is_installed("redis-server") ? "redis-server"
                                                                     : NULL;
    have_server = program != NULL;
    if (!have_server) {
        print_message("skipped: neither valkey-server nor redis-server is installed\n");
        return 0;
    }
    have_certificates =
        certificate_authority() && certificate_make("server", "DNS:localhost,IP:127.0.0.1");
    if (have_certificates && start_server(program, true))
        return 0;
    /* A server built without TLS doesn't know the options. */
    have_certificates = false;
    return start_server(program, false) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    real_server_stop(&server);
    return 0;
}

/* ---- the client ---- */

static tide_bus *open_bus(const char *url, const tide_allocator *alloc) {
    tide_engine_options options = {.url = tide_str_from(url)};
    if (alloc != NULL)
        options.env.allocator = *alloc;
    tide_bus *bus = NULL;
    tide_error error;
    tide_status status = tide_bus_open(&bus, &options, &error);
    if (status != TIDE_OK && alloc == NULL)
        print_error("%s\n", error.message);
    if (alloc == NULL)
        assert_int_equal(status, TIDE_OK);
    else
        assert_true(status == TIDE_OK || status == TIDE_ENOMEM);
    return bus;
}

static bool wait_completion(tide_bus *bus, tide_completion *completion) {
    int64_t end = tide_bus_update_now(bus) + PATIENCE_US;
    while (!tide_engine_next_completion(tide_bus_engine(bus), tide_bus_now_us(bus), completion)) {
        if (tide_bus_update_now(bus) > end)
            return false;
        assert_int_equal(tide_bus_poll(bus, 100000), TIDE_OK);
    }
    return true;
}

static tide_status publish(tide_bus *bus, const char *stream, size_t count, size_t payload) {
    char *data = malloc(payload + 1);
    memset(data, 'x', payload);
    tide_field fields[] = {{TIDE_STR("event_type"), TIDE_STR("Tested")},
                           {TIDE_STR("data"), {data, payload}}};
    tide_record *records = calloc(count, sizeof *records);
    for (size_t i = 0; i < count; i++)
        records[i] = (tide_record){.fields = fields, .field_count = 2};
    tide_op op = {
        .kind = TIDE_OP_PUBLISH,
        .tag = 1,
        .as.publish = {.stream = tide_str_from(stream), .records = records, .record_count = count}};
    tide_error error;
    tide_status status =
        tide_engine_submit(tide_bus_engine(bus), &op, tide_bus_update_now(bus), &error);
    if (status == TIDE_OK) {
        tide_completion completion;
        assert_true(wait_completion(bus, &completion));
        status = completion.status;
    }
    free(records);
    free(data);
    return status;
}

/* Takes `count` events and acks them; false when they don't come. */
static bool consume(tide_bus *bus, const char *stream, size_t count, size_t payload) {
    tide_consumer_options options = {TIDE_CONSUMER_OPTIONS_INIT};
    options.stream = tide_str_from(stream);
    options.group = TIDE_STR("g");
    options.consumer = TIDE_STR("c");
    options.block_ms = 200;
    tide_engine *engine = tide_bus_engine(bus);
    uint32_t consumer;
    tide_error error;
    if (tide_engine_subscribe(engine, &options, tide_bus_update_now(bus), &consumer, &error) !=
        TIDE_OK)
        return false;
    size_t got = 0;
    int64_t end = tide_bus_now_us(bus) + PATIENCE_US;
    while (got < count && tide_bus_now_us(bus) < end) {
        tide_event event;
        while (tide_engine_next_event(engine, consumer, tide_bus_now_us(bus), &event)) {
            assert_int_equal(event.entry->field_count, 2);
            assert_int_equal(event.entry->fields[1].value.len, payload);
            tide_verdict verdict = {.kind = TIDE_VERDICT_ACK};
            assert_int_equal(
                tide_engine_settle(engine, consumer, event.handle, &verdict, tide_bus_now_us(bus)),
                TIDE_OK);
            got++;
        }
        assert_int_equal(tide_bus_poll(bus, 50000), TIDE_OK);
    }
    tide_engine_unsubscribe(engine, consumer, false, tide_bus_update_now(bus));
    while (!tide_engine_is_idle(engine) && tide_bus_update_now(bus) < end)
        assert_int_equal(tide_bus_poll(bus, 50000), TIDE_OK);
    return got >= count;
}

/* Many small events, and a few that are larger than any buffer on the way. */
static void serves(const char *url, const char *name) {
    char small[TEXT], large[TEXT];
    snprintf(small, sizeof small, "%s.small", name);
    snprintf(large, sizeof large, "%s.large", name);
    tide_bus *bus = open_bus(url, NULL);
    assert_int_equal(publish(bus, small, 5000, 200), TIDE_OK);
    assert_true(consume(bus, small, 5000, 200));
    assert_int_equal(publish(bus, large, 5, 1 << 20), TIDE_OK);
    assert_true(consume(bus, large, 5, 1 << 20));
    tide_error error;
    assert_int_equal(tide_engine_state(tide_bus_engine(bus), &error), TIDE_OK);
    tide_bus_close(bus);
}

static void over_tcp_by_name(void **state) {
    (void)state;
    if (!have_server)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "redis://localhost:%d", server.port);
    serves(url, "tcp");
}

static void over_a_unix_socket(void **state) {
    (void)state;
    if (!have_server)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "unix:%s", scratch_path("socket"));
    serves(url, "unix");
}

static void over_tls(void **state) {
    (void)state;
    if (!have_server || !have_certificates) {
        print_message("skipped: no server with TLS, or no openssl command\n");
        skip();
    }
    char url[TEXT];
    snprintf(url, sizeof url, "rediss://localhost:%d?ca=%s", tls_port, scratch_path("ca.pem"));
    serves(url, "tls");
}

static void embedded(void **state) {
    (void)state;
    serves("memory:", "memory");
    char url[TEXT];
    snprintf(url, sizeof url, "file:%s", scratch_path("store.db"));
    serves(url, "file");
}

/* Whether it isn't connected for this reason; TIDE_OK stands for any. */
static bool is_out_for(tide_bus *bus, tide_status status, const char *part, tide_error *error) {
    tide_status state = tide_engine_state(tide_bus_engine(bus), error);
    return state != TIDE_OK && (status == TIDE_OK || state == status) &&
           strstr(error->message, part) != NULL;
}

/* The state says what a person needs to know, until it connects. */
static void assert_state(const char *url, tide_status status, const char *part) {
    tide_bus *bus = open_bus(url, NULL);
    tide_str ping[] = {TIDE_STR("PING")};
    tide_op op = {.kind = TIDE_OP_COMMAND,
                  .tag = 1,
                  .timeout_ms = 20000,
                  .as.command = {.args = ping, .arg_count = 1}};
    tide_error error = {.status = TIDE_OK};
    assert_int_equal(
        tide_engine_submit(tide_bus_engine(bus), &op, tide_bus_update_now(bus), &error), TIDE_OK);
    int64_t end = tide_bus_now_us(bus) + PATIENCE_US;
    while (!is_out_for(bus, status, part, &error) && tide_bus_update_now(bus) < end)
        assert_int_equal(tide_bus_poll(bus, 20000), TIDE_OK);
    bool said = is_out_for(bus, status, part, &error);
    if (!said)
        print_error("%s: %s\n", tide_status_code(error.status), error.message);
    assert_true(said);
    tide_bus_close(bus);
}

static void says_why_it_is_not_connected(void **state) {
    (void)state;
    char url[TEXT];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", loopback_free_port());
    assert_state(url, TIDE_CONNECT, "refused");
    assert_state("redis://no-such-host.invalid", TIDE_CONNECT, "no-such-host.invalid");
    snprintf(url, sizeof url, "unix:%s", scratch_path("nowhere"));
    assert_state(url, TIDE_CONNECT, "nowhere");
    if (!have_certificates)
        skip();
    snprintf(url, sizeof url, "rediss://localhost:%d", tls_port);
    assert_state(url, TIDE_TLS, "ca=FILE");
    snprintf(url, sizeof url, "rediss://localhost:%d?connect_timeout=300ms&ca=%s", server.port,
             scratch_path("ca.pem"));
    assert_state(url, TIDE_OK,
                 "TLS"); /* a server that is silent or one that answers: both are named */
}

/* Something else answers on the port. */
static void names_another_protocol(void **state) {
    (void)state;
    uint16_t port;
    int listener = loopback_listen(&port);
    pid_t stranger = fork();
    if (stranger == 0) {
        for (;;) {
            static const char words[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            int peer = accept(listener, NULL, NULL);
            ssize_t sent = send(peer, words, sizeof words - 1, MSG_NOSIGNAL);
            (void)sent;
        }
    }
    char url[TEXT];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", port);
    assert_state(url, TIDE_PROTOCOL, "HTTP");
    kill(stranger, SIGKILL);
    waitpid(stranger, NULL, 0);
    close(listener);
}

static void comes_back_with_the_server(void **state) {
    (void)state;
    if (!have_server)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", server.port);
    tide_bus *bus = open_bus(url, NULL);
    assert_int_equal(publish(bus, "back", 10, 100), TIDE_OK);
    for (int round = 0; round < 3; round++) {
        real_server_stop(&server);
        for (int i = 0; i < 10; i++)
            assert_int_equal(tide_bus_poll(bus, 20000), TIDE_OK);
        tide_error error;
        assert_int_not_equal(tide_engine_state(tide_bus_engine(bus), &error), TIDE_OK);
        assert_true(real_server_restart(&server));
        tide_status status;
        do
            status = publish(bus, "back", 10, 100);
        while (status != TIDE_OK);
        assert_true(consume(bus, "back", 10, 100));
    }
    tide_bus_close(bus);
}

/* Whatever allocation fails, nothing crashes, nothing leaks, and a bus that could be opened gets everything done once memory
 * is there again. */
static void survive_every_failed_allocation(const char *url, const char *stream) {
    for (uint64_t n = 1;; n++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, n, false);
        tide_bus *bus = open_bus(url, &alloc);
        if (bus != NULL) {
            size_t count = 0;
            for (int tries = 0; tries < 100 && count < 30; tries++) {
                if (publish(bus, stream, 30, 100) == TIDE_OK)
                    count += 30;
            }
            assert_int_equal(count, 30);
            int tries = 0;
            while (!consume(bus, stream, 30, 100))
                assert_true(tries++ < 3);
        }
        tide_bus_close(bus);
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        if (memory.failed == 0)
            break;
    }
}

/* No memory at all from the N-th allocation on: everything ends, by itself or by its time limit. */
static void ends_when_memory_is_gone(const char *url) {
    for (uint64_t n = 1;; n++) {
        failing_allocator memory;
        tide_allocator alloc = failing_allocator_init(&memory, n, true);
        tide_bus *bus = open_bus(url, &alloc);
        if (bus != NULL) {
            tide_field field = {TIDE_STR("a"), TIDE_STR("b")};
            tide_record record = {.fields = &field, .field_count = 1};
            tide_op op = {
                .kind = TIDE_OP_PUBLISH,
                .timeout_ms = 50,
                .as.publish = {.stream = TIDE_STR("gone"), .records = &record, .record_count = 1}};
            tide_engine *engine = tide_bus_engine(bus);
            tide_completion completion;
            if (tide_engine_submit(engine, &op, tide_bus_update_now(bus), NULL) == TIDE_OK)
                assert_true(wait_completion(bus, &completion));
        }
        tide_bus_close(bus);
        assert_int_equal(failing_allocator_live_bytes(&memory), 0);
        if (memory.failed == 0)
            break;
    }
}

static void survives_every_failed_allocation_on_a_server(void **state) {
    (void)state;
    if (!have_server)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "unix:%s", scratch_path("socket"));
    survive_every_failed_allocation(url, "nth");
    ends_when_memory_is_gone(url);
}

static void survives_every_failed_allocation_in_memory(void **state) {
    (void)state;
    survive_every_failed_allocation("memory:", "nth");
    ends_when_memory_is_gone("memory:");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tcp_by_name),
        cmocka_unit_test(over_a_unix_socket),
        cmocka_unit_test(over_tls),
        cmocka_unit_test(embedded),
        cmocka_unit_test(says_why_it_is_not_connected),
        cmocka_unit_test(names_another_protocol),
        cmocka_unit_test(comes_back_with_the_server),
        cmocka_unit_test(survives_every_failed_allocation_on_a_server),
        cmocka_unit_test(survives_every_failed_allocation_in_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
