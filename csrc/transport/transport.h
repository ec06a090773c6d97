/* SPDX-License-Identifier: MIT */
#ifndef TIDE_TRANSPORT_TRANSPORT_H
#define TIDE_TRANSPORT_TRANSPORT_H

#include "broker/broker.h"

/*
 * One non-blocking byte stream: TCP, unix socket or TLS. It knows bytes, not RESP. The loop polls `fd` for what `wants` says and
 * calls `advance` while it is connecting.
 */
typedef struct tide_transport tide_transport;

/* Begins to connect; name resolution goes on off the caller's time where it would block (getaddrinfo of a numeric address doesn't).
 * `options` and `endpoint` are copied where needed. TIDE_OK (connecting), TIDE_CONNECT, TIDE_TLS, TIDE_OPTION, TIDE_ENOMEM. */
tide_status tide_transport_open(tide_transport **transport, const tide_allocator *alloc, const tide_endpoint *endpoint,
                                const tide_url_options *options, tide_error *error);
void tide_transport_close(tide_transport *transport);

int tide_transport_fd(const tide_transport *transport); /* may change while it is connecting */
/* POLLIN | POLLOUT as it stands now. */
short tide_transport_wants(const tide_transport *transport);
/* While connecting: TIDE_AGAIN, TIDE_OK when it is up (TLS verified), or the failure with `error`. */
tide_status tide_transport_advance(tide_transport *transport, tide_error *error);

/* TIDE_OK with `done` > 0; TIDE_AGAIN: would block; TIDE_DISCONNECTED at the end of the stream or on a reset, TIDE_TLS. */
tide_status tide_transport_read(tide_transport *transport, char *into, size_t size, size_t *done, tide_error *error);
tide_status tide_transport_write(tide_transport *transport, const char *from, size_t size, size_t *done, tide_error *error);
/* Bytes may be waiting inside (TLS) though the descriptor isn't readable. */
bool tide_transport_has_pending(const tide_transport *transport);

#endif
