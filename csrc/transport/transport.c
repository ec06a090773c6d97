/* SPDX-License-Identifier: MIT */
/*
 * What it is: a non-blocking stream socket from a name or path to verified bytes.
 * What it is not: a reconnecting one: it lives once, the adapter above asks for the next.
 *
 *   RESOLVING ──► CONNECTING ──► SHAKING ──► UP
 *       │          │   ▲  │         │
 *       │          └───┘  │         │        the next address, while there is one
 *       └──────────► FAILED ◄───────┘
 *
 *   from        to          by              when
 *   -           RESOLVING   start           the host is a name
 *   -           CONNECTING  start           it is numeric, or a path
 *   RESOLVING   CONNECTING  advance         the addresses came
 *   CONNECTING  CONNECTING  next_address    refused, or its share of the time is over, and there is another address
 *   CONNECTING  SHAKING/UP  advance         connected; SHAKING with TLS
 *   SHAKING     UP          advance         handshake done, certificate verified
 *   any         FAILED      fail            the last address failed, TLS failed, the time to connect is over
 *
 * Invariants:
 *   1. `fd` is the one descriptor to poll: the resolver's while RESOLVING (it stays the resolver's), else the socket.
 *   2. An address gets an even share of the time, so that one which swallows packets doesn't starve the next.
 *   3. Every send carries MSG_NOSIGNAL.
 */
#include "transport/transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "transport/resolver.h"
#include "transport/tls.h"

enum {
    HOST_SIZE = 512,
    CONNECT_TIMEOUT_US_DEFAULT = 5000000,
    KEEPALIVE_PROBES = 3,
};

typedef enum transport_state { RESOLVING, CONNECTING, SHAKING, UP, FAILED } transport_state;

struct tide_transport {
    const tide_allocator *alloc;
    transport_state state;
    int fd; /* the socket; -1 while RESOLVING */
    uint32_t fd_serial;
    bool send_is_blocked;
    bool is_tcp;
    uint16_t port;
    tide_resolver *resolver;
    tide_tls *tls; /* NULL without TLS */
    tide_addresses *addresses;
    size_t next; /* address to try */
    int last_errno;
    int64_t keepalive_us;
    int64_t connect_timeout_us;
    int64_t connect_deadline_us;
    int64_t address_deadline_us;
    char host[HOST_SIZE]; /* or path */
};

/* ---- words ---- */

enum { PLACE_SIZE = HOST_SIZE + 16 };

static const char *place(const tide_transport *transport, char *out) {
    if (!transport->is_tcp)
        snprintf(out, PLACE_SIZE, "%s", transport->host);
    else if (strchr(transport->host, ':') != NULL)
        snprintf(out, PLACE_SIZE, "[%s]:%u", transport->host, (unsigned)transport->port);
    else
        snprintf(out, PLACE_SIZE, "%s:%u", transport->host, (unsigned)transport->port);
    return out;
}

static tide_status fail_late(tide_transport *transport, tide_error *error) {
    char where[PLACE_SIZE];
    const char *doing = transport->state == RESOLVING ? "its name was not resolved"
                        : transport->state == SHAKING
                            ? "no answer to the TLS handshake (is this its TLS port?)"
                            : "no answer";
    transport->state = FAILED;
    return tide_error_set(error, TIDE_CONNECT, "cannot connect to %s: %s within %lld ms",
                          place(transport, where), doing,
                          (long long)(transport->connect_timeout_us / 1000));
}

/* ---- sockets ---- */

static void set_option(int fd, int level, int name, int value) {
    /* None of them is worth a failed connection. */
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

static int seconds_at_least_one(int64_t us) {
    int64_t seconds = (us + 999999) / 1000000;
    if (seconds < 1)
        return 1;
    return seconds > 32767 ? 32767 : (int)seconds; /* the kernel's own bound */
}

static void tune_tcp(const tide_transport *transport, int fd) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (transport->keepalive_us <= 0)
        return;
    int idle_s = seconds_at_least_one(transport->keepalive_us);
    int interval_s = seconds_at_least_one(transport->keepalive_us / KEEPALIVE_PROBES);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    /* Sent bytes that nobody confirms end the connection after the time in which silence would. */
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (idle_s + interval_s * KEEPALIVE_PROBES) * 1000);
}

static void drop_socket(tide_transport *transport) {
    if (transport->fd >= 0)
        close(transport->fd);
    transport->fd = -1;
}

/* Begins with one address: 0 or EINPROGRESS, else why not. */
static int begin(tide_transport *transport, const tide_address *address) {
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    transport->fd = fd;
    transport->fd_serial++;
    if (transport->is_tcp)
        tune_tcp(transport, fd);
    int result;
    do {
        result = connect(fd, (const struct sockaddr *)&address->socket, address->len);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* Goes on to the next address that doesn't fail at once; TIDE_CONNECT when there is none. */
static tide_status next_address(tide_transport *transport, int64_t now_us, tide_error *error) {
    drop_socket(transport);
    while (transport->next < transport->addresses->count) {
        size_t left = transport->addresses->count - transport->next;
        int why = begin(transport, &transport->addresses->items[transport->next++]);
        if (why == 0 || why == EINPROGRESS) {
            int64_t share_us = (transport->connect_deadline_us - now_us) / (int64_t)left;
            transport->address_deadline_us = now_us + (share_us > 0 ? share_us : 0);
            return TIDE_OK;
        }
        transport->last_errno = why;
        drop_socket(transport);
    }
    char where[PLACE_SIZE];
    transport->state = FAILED;
    return tide_error_set(error, TIDE_CONNECT, "cannot connect to %s: %s", place(transport, where),
                          strerror(transport->last_errno));
}

/* ---- opening ---- */

static tide_status set_path(tide_transport *transport, tide_error *error) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    size_t len = strlen(transport->host);
    if (len == 0 || len >= sizeof path.sun_path)
        return tide_error_set(error, TIDE_OPTION, "a unix socket's path has 1 to %zu bytes",
                              sizeof path.sun_path - 1);
    memcpy(path.sun_path, transport->host, len);
    tide_address *address = &transport->addresses->items[0];
    memcpy(&address->socket, &path, sizeof path);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    transport->addresses->count = 1;
    return TIDE_OK;
}

static tide_status start(tide_transport *transport, const tide_endpoint *endpoint,
                         const tide_url_options *options, int64_t now_us, tide_error *error) {
    if (endpoint->host.len >= HOST_SIZE ||
        (endpoint->host.len > 0 && memchr(endpoint->host.data, '\0', endpoint->host.len) != NULL))
        return tide_error_set(error, TIDE_OPTION, "a host name or path is too long");
    if (endpoint->host.len > 0)
        memcpy(transport->host, endpoint->host.data, endpoint->host.len);
    transport->addresses = tide_alloc_zero(transport->alloc, 1, sizeof *transport->addresses);
    if (transport->addresses == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory to connect");
    tide_status status;
    if (endpoint->scheme == TIDE_SCHEME_REDIS_TLS) {
        status = tide_tls_open(&transport->tls, transport->alloc, transport->host, options, error);
        if (status != TIDE_OK)
            return status;
    }
    transport->state = CONNECTING;
    if (!transport->is_tcp) {
        status = set_path(transport, error);
    } else {
        status = tide_resolver_start(&transport->resolver, transport->host, transport->port,
                                     transport->addresses, error);
        if (status == TIDE_OK && transport->resolver != NULL) {
            transport->state = RESOLVING;
            transport->fd_serial++;
            return TIDE_OK;
        }
    }
    return status == TIDE_OK ? next_address(transport, now_us, error) : status;
}

tide_status tide_transport_open(tide_transport **transport, const tide_allocator *alloc,
                                const tide_endpoint *endpoint, const tide_url_options *options,
                                int64_t now_us, tide_error *error) {
    tide_transport *made = tide_alloc_zero(alloc, 1, sizeof *made);
    if (made == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory to connect");
    made->alloc = alloc;
    made->fd = -1;
    made->is_tcp = endpoint->scheme != TIDE_SCHEME_UNIX;
    made->port = endpoint->port;
    made->keepalive_us = options->keepalive_us;
    made->connect_timeout_us =
        options->connect_timeout_us > 0 ? options->connect_timeout_us : CONNECT_TIMEOUT_US_DEFAULT;
    made->connect_deadline_us = now_us + made->connect_timeout_us;
    made->address_deadline_us = made->connect_deadline_us;
    tide_status status = start(made, endpoint, options, now_us, error);
    if (status != TIDE_OK) {
        tide_transport_close(made);
        return status;
    }
    *transport = made;
    return TIDE_OK;
}

void tide_transport_close(tide_transport *transport) {
    if (transport == NULL)
        return;
    tide_tls_close(transport->tls, transport->state == UP ? transport->fd : -1);
    drop_socket(transport);
    tide_resolver_drop(transport->resolver);
    tide_free(transport->alloc, transport->addresses, sizeof *transport->addresses);
    tide_free(transport->alloc, transport, sizeof *transport);
}

/* ---- connecting ---- */

int tide_transport_fd(const tide_transport *transport) {
    return transport->state == RESOLVING ? tide_resolver_fd(transport->resolver) : transport->fd;
}

uint32_t tide_transport_fd_serial(const tide_transport *transport) {
    return transport->fd_serial;
}

short tide_transport_wants(const tide_transport *transport) {
    switch (transport->state) {
    case CONNECTING: return POLLOUT;
    case SHAKING: return tide_tls_wants_write(transport->tls) ? (short)(POLLIN | POLLOUT) : POLLIN;
    case UP:
        if (transport->send_is_blocked ||
            (transport->tls != NULL && tide_tls_wants_write(transport->tls)))
            return POLLIN | POLLOUT;
        return POLLIN;
    default: return POLLIN;
    }
}

int64_t tide_transport_deadline_us(const tide_transport *transport) {
    switch (transport->state) {
    case RESOLVING:
    case SHAKING: return transport->connect_deadline_us;
    case CONNECTING: return transport->address_deadline_us;
    default: return INT64_MAX;
    }
}

/* Whether the address in hand has answered: 0, EINPROGRESS or why not. */
static int connected(const tide_transport *transport) {
    struct pollfd ready = {.fd = transport->fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) <= 0)
        return EINPROGRESS;
    int why = 0;
    socklen_t size = sizeof why;
    if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &why, &size) != 0)
        return errno;
    return why;
}

static tide_status advance_resolving(tide_transport *transport, int64_t now_us, tide_error *error) {
    tide_status status = tide_resolver_result(transport->resolver, transport->addresses, error);
    if (status == TIDE_AGAIN)
        return status;
    tide_resolver_drop(transport->resolver);
    transport->resolver = NULL;
    transport->fd_serial++;
    transport->state = status == TIDE_OK ? CONNECTING : FAILED;
    return status == TIDE_OK ? next_address(transport, now_us, error) : status;
}

static tide_status advance_connecting(tide_transport *transport, int64_t now_us,
                                      tide_error *error) {
    int why = connected(transport);
    if (why == EINPROGRESS) {
        if (now_us < transport->address_deadline_us)
            return TIDE_AGAIN;
        why = ETIMEDOUT;
    }
    if (why == 0) {
        transport->state = transport->tls != NULL ? SHAKING : UP;
        tide_free(transport->alloc, transport->addresses, sizeof *transport->addresses);
        transport->addresses = NULL;
        return TIDE_OK;
    }
    transport->last_errno = why;
    return next_address(transport, now_us, error);
}

tide_status tide_transport_advance(tide_transport *transport, int64_t now_us, tide_error *error) {
    for (;;) {
        tide_status status = TIDE_CONNECT;
        switch (transport->state) {
        case RESOLVING: status = advance_resolving(transport, now_us, error); break;
        case CONNECTING: status = advance_connecting(transport, now_us, error); break;
        case SHAKING:
            status = tide_tls_handshake(transport->tls, transport->fd, error);
            if (status == TIDE_OK)
                transport->state = UP;
            break;
        case UP: return TIDE_OK;
        case FAILED: return tide_error_set(error, TIDE_CONNECT, "the connection has failed");
        }
        if (status == TIDE_AGAIN)
            return now_us < transport->connect_deadline_us ? TIDE_AGAIN
                                                           : fail_late(transport, error);
        if (status != TIDE_OK) {
            transport->state = FAILED;
            return status;
        }
    }
}

/* ---- bytes ---- */

static tide_status lost(tide_error *error, int why) {
    if (why == 0)
        return tide_error_set(error, TIDE_DISCONNECTED, "the server closed the connection");
    return tide_error_set(error, TIDE_DISCONNECTED, "the connection was lost: %s", strerror(why));
}

tide_status tide_transport_read(tide_transport *transport, char *into, size_t size, size_t *done,
                                tide_error *error) {
    if (transport->tls != NULL)
        return tide_tls_read(transport->tls, transport->fd, into, size, done, error);
    for (;;) {
        ssize_t got = recv(transport->fd, into, size, 0);
        if (got > 0) {
            *done = (size_t)got;
            return TIDE_OK;
        }
        if (got == 0)
            return lost(error, 0);
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return TIDE_AGAIN;
        if (errno != EINTR)
            return lost(error, errno);
    }
}

tide_status tide_transport_write(tide_transport *transport, const char *from, size_t size,
                                 size_t *done, tide_error *error) {
    *done = 0;
    if (transport->tls != NULL)
        return tide_tls_write(transport->tls, transport->fd, from, size, done, error);
    transport->send_is_blocked = false;
    if (size == 0)
        return TIDE_OK;
    for (;;) {
        ssize_t sent = send(transport->fd, from, size, MSG_NOSIGNAL);
        if (sent >= 0) {
            *done = (size_t)sent;
            /* A short send filled the socket's buffer: the next one would block. */
            transport->send_is_blocked = (size_t)sent < size;
            return TIDE_OK;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            transport->send_is_blocked = true;
            return TIDE_AGAIN;
        }
        if (errno != EINTR)
            return lost(error, errno);
    }
}

bool tide_transport_has_pending(const tide_transport *transport) {
    return transport->tls != NULL && transport->state == UP && tide_tls_has_pending(transport->tls);
}
