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

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tidemill/tidemill.h>

#include "base/text.h"
#include "failing_allocator.h"
#include "server_program.h"

enum { TEXT = 512, PATIENCE_US = 60000000 };

/* ---- the server ---- */

static char folder[] = "/tmp/tide-bus-XXXXXX";
static const char *program; /* NULL: none is installed */
static bool have_certificates;
static pid_t server_pid;
static int port, tls_port;

static int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int failed = bind(fd, (struct sockaddr *)&address, size) |
                 getsockname(fd, (struct sockaddr *)&address, &size);
    close(fd);
    return failed ? 0 : ntohs(address.sin_port);
}

static bool answers(int at) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)at)};
    char reply[16] = "";
    bool up = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
              send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 &&
              recv(fd, reply, sizeof reply - 1, 0) > 0 && strncmp(reply, "+PONG", 5) == 0;
    close(fd);
    return up;
}

static bool start_server(void) {
    char arguments[2][16], path[4][64];
    snprintf(arguments[0], sizeof arguments[0], "%d", port);
    snprintf(arguments[1], sizeof arguments[1], "%d", have_certificates ? tls_port : 0);
    snprintf(path[0], sizeof path[0], "%s/socket", folder);
    snprintf(path[1], sizeof path[1], "%s/server.pem", folder);
    snprintf(path[2], sizeof path[2], "%s/server.key", folder);
    snprintf(path[3], sizeof path[3], "%s/ca.pem", folder);
    server_pid = fork();
    if (server_pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        if (have_certificates)
            execlp(program, program, "--bind", "127.0.0.1", "--port", arguments[0], "--dir", folder,
                   "--save", "", "--unixsocket", path[0], "--tls-port", arguments[1],
                   "--tls-cert-file", path[1], "--tls-key-file", path[2], "--tls-ca-cert-file",
                   path[3], "--tls-auth-clients", "no", (char *)NULL);
        else
            execlp(program, program, "--bind", "127.0.0.1", "--port", arguments[0], "--dir", folder,
                   "--save", "", "--unixsocket", path[0], (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 500; i++) {
        if (answers(port))
            return true;
        usleep(20000);
    }
    return false;
}

static void stop_server(void) {
    kill(server_pid, SIGKILL);
    waitpid(server_pid, NULL, 0);
}

static int run(const char *command) {
    char line[1024];
    snprintf(line, sizeof line, "cd %s && (%s) >/dev/null 2>&1", folder, command);
    return system(line);
}

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    program = server_program_named("valkey-server");
    if (program == NULL)
        program = server_program_named("redis-server");
    if (program == NULL)
        program = run("command -v valkey-server") == 0  ? "valkey-server"
                  : run("command -v redis-server") == 0 ? "redis-server"
                                                        : NULL;
    if (program == NULL) {
        print_message("skipped: neither valkey-server nor redis-server is installed\n");
        return 0;
    }
    have_certificates =
        run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "
            "ca.key -out ca.pem "
            "-subj /CN=tidemill-test-ca -days 2") == 0 &&
        run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "
            "server.key -out server.csr "
            "-subj /CN=localhost") == 0 &&
        run("echo subjectAltName=DNS:localhost,IP:127.0.0.1 > ext && openssl x509 -req -in "
            "server.csr -CA ca.pem "
            "-CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem") == 0;
    port = free_port();
    tls_port = free_port();
    if (start_server())
        return 0;
    if (!have_certificates)
        return -1;
    /* A server built without TLS doesn't know the options. */
    stop_server();
    have_certificates = false;
    return start_server() ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    if (program != NULL)
        stop_server();
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line);
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
    if (program == NULL)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "redis://localhost:%d", port);
    serves(url, "tcp");
}

static void over_a_unix_socket(void **state) {
    (void)state;
    if (program == NULL)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "unix:%s/socket", folder);
    serves(url, "unix");
}

static void over_tls(void **state) {
    (void)state;
    if (program == NULL || !have_certificates) {
        print_message("skipped: no server with TLS, or no openssl command\n");
        skip();
    }
    char url[TEXT];
    snprintf(url, sizeof url, "rediss://localhost:%d?ca=%s/ca.pem", tls_port, folder);
    serves(url, "tls");
}

static void embedded(void **state) {
    (void)state;
    serves("memory:", "memory");
    char url[TEXT];
    snprintf(url, sizeof url, "file:%s/store.db", folder);
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
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", free_port());
    assert_state(url, TIDE_CONNECT, "refused");
    assert_state("redis://no-such-host.invalid", TIDE_CONNECT, "no-such-host.invalid");
    snprintf(url, sizeof url, "unix:%s/nowhere", folder);
    assert_state(url, TIDE_CONNECT, "nowhere");
    if (!have_certificates)
        skip();
    snprintf(url, sizeof url, "rediss://localhost:%d", tls_port);
    assert_state(url, TIDE_TLS, "ca=FILE");
    snprintf(url, sizeof url, "rediss://localhost:%d?connect_timeout=300ms&ca=%s/ca.pem", port,
             folder);
    assert_state(url, TIDE_OK,
                 "TLS"); /* a server that is silent or one that answers: both are named */
}

/* Something else answers on the port. */
static void names_another_protocol(void **state) {
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
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
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", ntohs(address.sin_port));
    assert_state(url, TIDE_PROTOCOL, "HTTP");
    kill(stranger, SIGKILL);
    waitpid(stranger, NULL, 0);
    close(listener);
}

static void comes_back_with_the_server(void **state) {
    (void)state;
    if (program == NULL)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", port);
    tide_bus *bus = open_bus(url, NULL);
    assert_int_equal(publish(bus, "back", 10, 100), TIDE_OK);
    for (int round = 0; round < 3; round++) {
        stop_server();
        for (int i = 0; i < 10; i++)
            assert_int_equal(tide_bus_poll(bus, 20000), TIDE_OK);
        tide_error error;
        assert_int_not_equal(tide_engine_state(tide_bus_engine(bus), &error), TIDE_OK);
        assert_true(start_server());
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
    if (program == NULL)
        skip();
    char url[TEXT];
    snprintf(url, sizeof url, "unix:%s/socket", folder);
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
