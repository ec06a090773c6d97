/* SPDX-License-Identifier: MIT */
#ifndef TIDE_TRANSPORT_TRANSPORT_H
#define TIDE_TRANSPORT_TRANSPORT_H

#include "broker/broker.h"

/*
 * One non-blocking byte stream: TCP, unix socket or TLS. It knows bytes, not RESP. The loop polls `fd` for what `wants` says
 * and, while it is connecting, calls `advance` when the descriptor is ready or the deadline has passed. `now_us` is the
 * loop's monotonic clock. Nothing here waits, and nothing raises SIGPIPE.
 */
typedef struct tide_transport tide_transport;

/* Begins to connect; a name is resolved by a helper thread. All of a name's addresses are tried in turn within
 * options->connect_timeout_us. What is needed of `endpoint` and `options` is copied, but for `alloc`, which outlives the transport.
 * TIDE_OK (connecting), TIDE_CONNECT, TIDE_TLS, TIDE_OPTION (a file that can't be used), TIDE_ENOMEM. */
tide_status tide_transport_open(tide_transport **transport, const tide_allocator *alloc,
                                const tide_endpoint *endpoint, const tide_url_options *options,
                                int64_t now_us, tide_error *error);
/* At once; NULL is fine. */
void tide_transport_close(tide_transport *transport);

/* -1 for a moment between two attempts. It may change while it is connecting: `serial` then grows, also when the number
 * stays the same. */
int tide_transport_fd(const tide_transport *transport);
uint32_t tide_transport_fd_serial(const tide_transport *transport);
/* POLLIN | POLLOUT as it stands now. */
short tide_transport_wants(const tide_transport *transport);
/* When advance is due without readiness; INT64_MAX once connected. */
int64_t tide_transport_deadline_us(const tide_transport *transport);
/* While connecting: TIDE_AGAIN; TIDE_OK when it is up (TLS verified); or the failure with `error`: TIDE_CONNECT, TIDE_TLS,
 * TIDE_ENOMEM. Only close is allowed after a failure. */
tide_status tide_transport_advance(tide_transport *transport, int64_t now_us, tide_error *error);

/* TIDE_OK with `done` > 0; TIDE_AGAIN: would block; TIDE_DISCONNECTED at the end of the stream or on a reset, TIDE_TLS. */
tide_status tide_transport_read(tide_transport *transport, char *into, size_t size, size_t *done,
                                tide_error *error);
/* Like read. `size` 0 sends what is kept inside (TLS): TIDE_OK when nothing is left. */
tide_status tide_transport_write(tide_transport *transport, const char *from, size_t size,
                                 size_t *done, tide_error *error);
/* Bytes may be waiting inside (TLS) though the descriptor isn't readable. */
bool tide_transport_has_pending(const tide_transport *transport);

#endif
