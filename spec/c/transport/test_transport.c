/* SPDX-License-Identifier: MIT */
/* Sockets: names, addresses and paths, refusals, time limits, back-pressure, resets; no SIGPIPE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "failing_allocator.h"
#include "loopback.h"
#include "scratch.h"
#include "transport/transport.h"

static tide_url_options plain_options(void) {
    return (tide_url_options){.connect_timeout_us = 10000000, .keepalive_us = 15000000};
}

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static tide_endpoint tcp_endpoint(const char *host, uint16_t port) {
    return (tide_endpoint){.scheme = TIDE_SCHEME_REDIS, .host = tide_str_from(host), .port = port};
}

/* Advances until it is up or has failed. */
static tide_status connect_fully(tide_transport *transport, tide_error *error) {
    for (;;) {
        tide_status status = tide_transport_advance(transport, now_us(), error);
        if (status != TIDE_AGAIN)
            return status;
        struct pollfd ready = {.fd = tide_transport_fd(transport),
                               .events = tide_transport_wants(transport)};
        int64_t wait_us = tide_transport_deadline_us(transport) - now_us();
        poll(&ready, 1, wait_us > 0 ? (int)(wait_us / 1000) + 1 : 0);
    }
}

static void wait_readable(const tide_transport *transport) {
    struct pollfd ready = {.fd = tide_transport_fd(transport), .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 10000), 1);
}

static tide_transport *open_to(const char *host, uint16_t port, const tide_allocator *alloc) {
    tide_url_options options = plain_options();
    tide_endpoint endpoint = tcp_endpoint(host, port);
    tide_transport *transport = NULL;
    tide_error error;
    assert_int_equal(tide_transport_open(&transport, alloc, &endpoint, &options, now_us(), &error),
                     TIDE_OK);
    return transport;
}

static void talk(tide_transport *transport, int listener) {
    tide_error error;
    assert_int_equal(connect_fully(transport, &error), TIDE_OK);
    assert_int_equal(tide_transport_deadline_us(transport), INT64_MAX);
    assert_int_equal(tide_transport_wants(transport), POLLIN);
    int peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    char bytes[16];
    size_t done = 0;
    assert_int_equal(tide_transport_read(transport, bytes, sizeof bytes, &done, &error),
                     TIDE_AGAIN);
    assert_int_equal(tide_transport_write(transport, "ping", 4, &done, &error), TIDE_OK);
    assert_int_equal(done, 4);
    assert_int_equal(recv(peer, bytes, 4, MSG_WAITALL), 4);
    assert_memory_equal(bytes, "ping", 4);
    assert_int_equal(send(peer, "pong!", 5, 0), 5);
    wait_readable(transport);
    assert_int_equal(tide_transport_read(transport, bytes, 4, &done, &error), TIDE_OK);
    assert_int_equal(done, 4);
    assert_memory_equal(bytes, "pong", 4);
    assert_false(tide_transport_has_pending(transport));
    close(peer);
    assert_int_equal(tide_transport_read(transport, bytes, sizeof bytes, &done, &error), TIDE_OK);
    wait_readable(transport);
    assert_int_equal(tide_transport_read(transport, bytes, sizeof bytes, &done, &error),
                     TIDE_DISCONNECTED);
    assert_non_null(strstr(error.message, "closed"));
}

static void talks_over_tcp(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    uint16_t port;
    int listener = loopback_listen(&port);
    tide_transport *transport = open_to("127.0.0.1", port, &alloc);
    int fd = tide_transport_fd(transport), value = 0;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    assert_int_not_equal(value, 0);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    assert_int_not_equal(value, 0);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), 0);
    assert_int_equal(value, 15);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &size), 0);
    assert_int_equal(value, 30000);
    talk(transport, listener);
    tide_transport_close(transport);
    close(listener);
}

static void resolves_a_name(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    uint16_t port;
    int listener = loopback_listen(&port);
    /* Where localhost has ::1 too, that is refused first and the next address tried. */
    tide_transport *transport = open_to("localhost", port, &alloc);
    talk(transport, listener);
    tide_transport_close(transport);
    close(listener);
}

static void talks_over_a_unix_socket(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scratch_path("socket"));
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    tide_url_options options = plain_options();
    tide_endpoint endpoint = {.scheme = TIDE_SCHEME_UNIX, .host = tide_str_from(address.sun_path)};
    tide_transport *transport;
    tide_error error;
    assert_int_equal(tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), &error),
                     TIDE_OK);
    talk(transport, listener);
    tide_transport_close(transport);
    close(listener);
    unlink(address.sun_path);
    assert_int_equal(tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), &error),
                     TIDE_CONNECT);
    assert_non_null(strstr(error.message, address.sun_path));
}

static void says_who_refused(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    uint16_t port = loopback_free_port();
    tide_url_options options = plain_options();
    tide_endpoint endpoint = tcp_endpoint("127.0.0.1", port);
    tide_transport *transport = NULL;
    tide_error error;
    tide_status status =
        tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), &error);
    if (status == TIDE_OK)
        status = connect_fully(transport, &error);
    assert_int_equal(status, TIDE_CONNECT);
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%u", (unsigned)port);
    assert_non_null(strstr(error.message, where));
    assert_non_null(strstr(error.message, "refused"));
    tide_transport_close(transport);
}

static void says_which_name_is_unknown(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_transport *transport = open_to("no-such-host.invalid", 6379, &alloc);
    tide_error error;
    assert_int_equal(connect_fully(transport, &error), TIDE_CONNECT);
    assert_non_null(strstr(error.message, "no-such-host.invalid"));
    tide_transport_close(transport);
}

static void may_be_closed_while_resolving(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    for (int i = 0; i < 20; i++)
        tide_transport_close(open_to("localhost", 1, &alloc));
}

static void gives_up_in_time(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    tide_url_options options = plain_options();
    options.connect_timeout_us = 200000;
    /* A listener whose queue is full answers nobody. */
    uint16_t port;
    int listener = loopback_listen(&port);
    assert_int_equal(listen(listener, 0), 0);
    tide_endpoint endpoint = tcp_endpoint("127.0.0.1", port);
    tide_transport *opened[8] = {NULL};
    tide_status status = TIDE_OK;
    tide_error error;
    int64_t begin_us = now_us();
    for (int i = 0; i < 8 && status == TIDE_OK; i++) {
        assert_int_equal(
            tide_transport_open(&opened[i], &alloc, &endpoint, &options, now_us(), &error),
            TIDE_OK);
        status = connect_fully(opened[i], &error);
    }
    assert_int_equal(status, TIDE_CONNECT);
    assert_true(now_us() - begin_us >= 200000);
    for (int i = 0; i < 8; i++)
        tide_transport_close(opened[i]);
    close(listener);
}

static void waits_when_the_peer_does_not_read(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    uint16_t port;
    int listener = loopback_listen(&port);
    tide_transport *transport = open_to("127.0.0.1", port, &alloc);
    tide_error error;
    assert_int_equal(connect_fully(transport, &error), TIDE_OK);
    int peer = accept(listener, NULL, NULL);
    static char bytes[1 << 20];
    size_t total = 0, done = 0;
    tide_status status;
    while ((status = tide_transport_write(transport, bytes, sizeof bytes, &done, &error)) ==
           TIDE_OK)
        total += done;
    assert_int_equal(status, TIDE_AGAIN);
    assert_int_equal(tide_transport_wants(transport), POLLIN | POLLOUT);
    for (size_t read = 0; read < total;) {
        ssize_t got = recv(peer, bytes, sizeof bytes, 0);
        assert_true(got > 0);
        read += (size_t)got;
    }
    struct pollfd ready = {.fd = tide_transport_fd(transport), .events = POLLOUT};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    assert_int_equal(tide_transport_write(transport, "x", 1, &done, &error), TIDE_OK);
    assert_int_equal(tide_transport_wants(transport), POLLIN);
    close(peer);
    tide_transport_close(transport);
    close(listener);
}

static void survives_a_reset_without_a_signal(void **state) {
    (void)state;
    assert_ptr_not_equal(signal(SIGPIPE, SIG_DFL), SIG_ERR);
    tide_allocator alloc = tide_allocator_default();
    uint16_t port;
    int listener = loopback_listen(&port);
    tide_transport *transport = open_to("127.0.0.1", port, &alloc);
    tide_error error;
    assert_int_equal(connect_fully(transport, &error), TIDE_OK);
    int peer = accept(listener, NULL, NULL);
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(peer);
    size_t done = 0;
    tide_status status = TIDE_OK;
    for (int i = 0; i < 10 && status == TIDE_OK; i++)
        status = tide_transport_write(transport, "x", 1, &done, &error);
    assert_int_equal(status, TIDE_DISCONNECTED);
    assert_int_equal(tide_transport_write(transport, "x", 1, &done, &error), TIDE_DISCONNECTED);
    char byte;
    assert_int_equal(tide_transport_read(transport, &byte, 1, &done, &error), TIDE_DISCONNECTED);
    tide_transport_close(transport);
    close(listener);
}

static void refuses_a_name_too_long(void **state) {
    (void)state;
    tide_allocator alloc = tide_allocator_default();
    char host[1000];
    memset(host, 'a', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    tide_url_options options = plain_options();
    tide_endpoint endpoint = tcp_endpoint(host, 6379);
    tide_transport *transport;
    tide_error error;
    assert_int_equal(tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), &error),
                     TIDE_OPTION);
    endpoint.scheme = TIDE_SCHEME_UNIX;
    endpoint.host.len = 200;
    assert_int_equal(tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), &error),
                     TIDE_OPTION);
    endpoint.host.len = 0;
    assert_int_equal(tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), &error),
                     TIDE_OPTION);
}

static void survives_every_failed_allocation(void **state) {
    (void)state;
    uint16_t port;
    int listener = loopback_listen(&port);
    for (int with_tls = 0; with_tls < 2; with_tls++) {
        for (uint64_t n = 1;; n++) {
            failing_allocator memory;
            tide_allocator alloc = failing_allocator_init(&memory, n, false);
            tide_url_options options = plain_options();
            tide_endpoint endpoint = tcp_endpoint("127.0.0.1", port);
            if (with_tls)
                endpoint.scheme = TIDE_SCHEME_REDIS_TLS;
            tide_transport *transport = NULL;
            tide_status status =
                tide_transport_open(&transport, &alloc, &endpoint, &options, now_us(), NULL);
            assert_int_equal(status, memory.failed > 0 ? TIDE_ENOMEM : TIDE_OK);
            tide_transport_close(transport);
            assert_int_equal(failing_allocator_live_bytes(&memory), 0);
            if (memory.failed == 0)
                break;
        }
    }
    close(listener);
    tide_transport_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(talks_over_tcp),
        cmocka_unit_test(resolves_a_name),
        cmocka_unit_test(talks_over_a_unix_socket),
        cmocka_unit_test(says_who_refused),
        cmocka_unit_test(says_which_name_is_unknown),
        cmocka_unit_test(may_be_closed_while_resolving),
        cmocka_unit_test(gives_up_in_time),
        cmocka_unit_test(waits_when_the_peer_does_not_read),
        cmocka_unit_test(survives_a_reset_without_a_signal),
        cmocka_unit_test(refuses_a_name_too_long),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
