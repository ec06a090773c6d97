/* SPDX-License-Identifier: MIT */
/*
 * TLS against `openssl s_server` with throwaway certificates: what is verified by default, what each failure says, bytes both
 * ways. Skipped when there is no openssl command.
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
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "certificate.h"
#include "loopback.h"
#include "scratch.h"
#include "transport/transport.h"

static bool have_openssl;

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int set_up(void **state) {
    (void)state;
    have_openssl = certificate_authority();
    if (!have_openssl) {
        print_message("skipped: the openssl command is missing\n");
        return 0;
    }
    return certificate_make("good", "DNS:localhost,IP:127.0.0.1") &&
                   certificate_make("other", "DNS:other.example") &&
                   certificate_make("client", "DNS:client")
               ? 0
               : -1;
}

/* ---- the server: it echoes lines in reverse (-rev) ---- */

typedef struct server {
    pid_t pid;
    uint16_t port;
} server;

static server start_server(const char *name, const char *extra1, const char *extra2,
                           const char *extra3) {
    server made = {.port = loopback_free_port()};
    char where[32], cert[64], key[64];
    snprintf(where, sizeof where, "127.0.0.1:%u", (unsigned)made.port);
    snprintf(cert, sizeof cert, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    made.pid = fork();
    if (made.pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execlp("openssl", "openssl", "s_server", "-accept", where, "-cert", scratch_path(cert),
               "-key", scratch_path(key), "-CAfile", scratch_path("ca.pem"), "-rev", extra1, extra2,
               extra3, (char *)NULL);
        _exit(127);
    }
    assert_true(made.pid > 0);
    for (int tries = 0; tries < 500; tries++) {
        int fd = loopback_connect(made.port);
        if (fd >= 0) {
            close(fd);
            return made;
        }
        usleep(20000);
    }
    fail_msg("openssl s_server didn't start");
    return made;
}

static void stop_server(server *running) {
    kill(running->pid, SIGKILL);
    waitpid(running->pid, NULL, 0);
}

/* ---- the client ---- */

static tide_status connect_with(tide_transport **transport, const char *host, uint16_t port,
                                const tide_url_options *options, tide_error *error) {
    static tide_allocator alloc;
    alloc = tide_allocator_default();
    tide_endpoint endpoint = {
        .scheme = TIDE_SCHEME_REDIS_TLS, .host = tide_str_from(host), .port = port};
    *transport = NULL;
    tide_status status =
        tide_transport_open(transport, &alloc, &endpoint, options, now_us(), error);
    while (status == TIDE_OK) {
        status = tide_transport_advance(*transport, now_us(), error);
        if (status != TIDE_AGAIN)
            break;
        status = TIDE_OK;
        struct pollfd ready = {.fd = tide_transport_fd(*transport),
                               .events = tide_transport_wants(*transport)};
        int64_t wait_us = tide_transport_deadline_us(*transport) - now_us();
        poll(&ready, 1, wait_us > 0 ? (int)(wait_us / 1000) + 1 : 0);
    }
    return status;
}

static tide_url_options options_with_ca(void) {
    return (tide_url_options){.connect_timeout_us = 20000000,
                              .keepalive_us = 15000000,
                              .ca = tide_str_from(scratch_path("ca.pem"))};
}

static void assert_fails(const char *host, uint16_t port, const tide_url_options *options,
                         tide_status status, const char *part1, const char *part2) {
    tide_transport *transport;
    tide_error error = {.status = TIDE_OK};
    tide_status ended = connect_with(&transport, host, port, options, &error);
    if (ended != status || strstr(error.message, part1) == NULL ||
        strstr(error.message, part2) == NULL)
        print_error("%s: %s\n", tide_status_code(ended), error.message);
    assert_int_equal(ended, status);
    assert_int_equal(error.status, status);
    assert_non_null(strstr(error.message, part1));
    assert_non_null(strstr(error.message, part2));
    tide_transport_close(transport);
}

static void wait_for(const tide_transport *transport) {
    if (tide_transport_has_pending(transport))
        return;
    struct pollfd ready = {.fd = tide_transport_fd(transport),
                           .events = tide_transport_wants(transport)};
    assert_int_equal(poll(&ready, 1, 20000), 1);
}

/* Sends `size` bytes as one line and gets them back reversed. */
static void echo(tide_transport *transport, size_t size) {
    tide_error error;
    char *sent = malloc(size), *got = malloc(size);
    for (size_t i = 0; i < size - 1; i++)
        sent[i] = (char)('a' + i % 26);
    sent[size - 1] = '\n';
    size_t out = 0, in = 0;
    while (in < size) {
        size_t done = 0;
        if (out < size) {
            tide_status status =
                tide_transport_write(transport, sent + out, size - out, &done, &error);
            assert_true(status == TIDE_OK || status == TIDE_AGAIN);
            out += done;
        } else if ((tide_transport_wants(transport) & POLLOUT) != 0) {
            tide_transport_write(transport, NULL, 0, &done, &error);
        }
        tide_status status = tide_transport_read(transport, got + in, size - in, &done, &error);
        assert_true(status == TIDE_OK || status == TIDE_AGAIN);
        if (status == TIDE_OK)
            in += done;
        else
            wait_for(transport);
    }
    for (size_t i = 0; i < size - 1; i++)
        assert_int_equal(got[i], sent[size - 2 - i]);
    free(sent);
    free(got);
}

static void talks_to_a_verified_server(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    server running = start_server("good", NULL, NULL, NULL);
    tide_url_options options = options_with_ca();
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    for (int i = 0; i < 2; i++) {
        tide_transport *transport;
        tide_error error = {.status = TIDE_OK};
        tide_status status = connect_with(&transport, hosts[i], running.port, &options, &error);
        if (status != TIDE_OK)
            print_error("%s\n", error.message);
        assert_int_equal(status, TIDE_OK);
        echo(transport, 2);
        echo(transport, 1000);
        echo(transport, 16 * 1024);
        tide_transport_close(transport);
    }
    stop_server(&running);
}

static void speaks_tls_1_2_but_nothing_older(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    server running = start_server("good", "-tls1_2", NULL, NULL);
    tide_url_options options = options_with_ca();
    tide_transport *transport;
    tide_error error;
    assert_int_equal(connect_with(&transport, "127.0.0.1", running.port, &options, &error),
                     TIDE_OK);
    echo(transport, 100);
    tide_transport_close(transport);
    stop_server(&running);
    running = start_server("good", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0");
    assert_fails("127.0.0.1", running.port, &options, TIDE_TLS, "", "");
    stop_server(&running);
}

static void refuses_an_unknown_authority(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    server running = start_server("good", NULL, NULL, NULL);
    tide_url_options options = options_with_ca();
    options.ca = (tide_str){NULL, 0};
    assert_fails("127.0.0.1", running.port, &options, TIDE_TLS, "not trusted", "ca=FILE");
    /* Explicitly without verification it goes. */
    options.insecure = true;
    tide_transport *transport;
    tide_error error;
    assert_int_equal(connect_with(&transport, "127.0.0.1", running.port, &options, &error),
                     TIDE_OK);
    echo(transport, 10);
    tide_transport_close(transport);
    stop_server(&running);
}

static void refuses_another_name(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    server running = start_server("other", NULL, NULL, NULL);
    tide_url_options options = options_with_ca();
    assert_fails("127.0.0.1", running.port, &options, TIDE_TLS, "127.0.0.1", "server_name=");
    assert_fails("localhost", running.port, &options, TIDE_TLS, "localhost", "server_name=");
    options.server_name = TIDE_STR("other.example");
    tide_transport *transport;
    tide_error error;
    assert_int_equal(connect_with(&transport, "127.0.0.1", running.port, &options, &error),
                     TIDE_OK);
    tide_transport_close(transport);
    stop_server(&running);
}

static void shows_a_client_certificate(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    server running = start_server("good", "-Verify", "2", "-verify_return_error");
    tide_url_options options = options_with_ca();
    tide_transport *transport;
    tide_error error;
    /* With TLS 1.3 the refusal comes after the handshake, with the first read. */
    tide_status status = connect_with(&transport, "127.0.0.1", running.port, &options, &error);
    char byte;
    size_t done;
    if (status == TIDE_OK) {
        while ((status = tide_transport_read(transport, &byte, 1, &done, &error)) == TIDE_AGAIN)
            wait_for(transport);
    }
    assert_int_equal(status, TIDE_TLS);
    assert_non_null(strstr(error.message, "cert=FILE"));
    tide_transport_close(transport);
    options.cert = tide_str_from(scratch_path("client.pem"));
    options.key = tide_str_from(scratch_path("client.key"));
    assert_int_equal(connect_with(&transport, "127.0.0.1", running.port, &options, &error),
                     TIDE_OK);
    echo(transport, 10);
    tide_transport_close(transport);
    stop_server(&running);
}

static void names_a_bad_file(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    tide_url_options options = options_with_ca();
    options.ca = TIDE_STR("/nowhere/ca.pem");
    assert_fails("127.0.0.1", 1, &options, TIDE_OPTION, "ca=/nowhere/ca.pem", "No such file");
    options = options_with_ca();
    options.cert = tide_str_from(scratch_path("client.pem"));
    options.key = tide_str_from(scratch_path("good.key"));
    assert_fails("127.0.0.1", 1, &options, TIDE_OPTION, "good.key", "");
    options.cert = tide_str_from(scratch_path("client.key"));
    assert_fails("127.0.0.1", 1, &options, TIDE_OPTION, "cert=", "client.key");
    options = options_with_ca();
    options.key = tide_str_from(scratch_path("good.key"));
    assert_fails("127.0.0.1", 1, &options, TIDE_OPTION, "key=", "cert=");
}

static void names_a_port_without_tls(void **state) {
    (void)state;
    tide_url_options options = {.connect_timeout_us = 20000000, .insecure = true};
    uint16_t port;
    int listener = loopback_listen(&port);
    pid_t pid = fork();
    if (pid == 0) {
        int peer = accept(listener, NULL, NULL);
        ssize_t sent = send(peer, "-ERR Protocol error: unbalanced quotes\r\n", 40, 0);
        (void)sent;
        sleep(20);
        _exit(0);
    }
    assert_fails("127.0.0.1", port, &options, TIDE_TLS, "does not speak TLS", "redis://");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    /* Nobody accepts any more, but the kernel does: silence. */
    options.connect_timeout_us = 200000;
    assert_fails("127.0.0.1", port, &options, TIDE_CONNECT, "TLS handshake", "200 ms");
    close(listener);
}

static void notices_the_end(void **state) {
    (void)state;
    if (!have_openssl)
        skip();
    server running = start_server("good", NULL, NULL, NULL);
    tide_url_options options = options_with_ca();
    tide_transport *transport;
    tide_error error;
    assert_int_equal(connect_with(&transport, "127.0.0.1", running.port, &options, &error),
                     TIDE_OK);
    echo(transport, 10);
    stop_server(&running);
    char byte;
    size_t done;
    tide_status status;
    while ((status = tide_transport_read(transport, &byte, 1, &done, &error)) == TIDE_AGAIN)
        wait_for(transport);
    assert_int_equal(status, TIDE_DISCONNECTED);
    for (int i = 0; i < 5; i++)
        status = tide_transport_write(transport, "x", 1, &done, &error);
    assert_int_equal(status, TIDE_DISCONNECTED);
    tide_transport_close(transport);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(talks_to_a_verified_server),
        cmocka_unit_test(speaks_tls_1_2_but_nothing_older),
        cmocka_unit_test(refuses_an_unknown_authority),
        cmocka_unit_test(refuses_another_name),
        cmocka_unit_test(shows_a_client_certificate),
        cmocka_unit_test(names_a_bad_file),
        cmocka_unit_test(names_a_port_without_tls),
        cmocka_unit_test(notices_the_end),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
