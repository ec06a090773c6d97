/* SPDX-License-Identifier: MIT */
#ifndef TIDE_TRANSPORT_TLS_H
#define TIDE_TRANSPORT_TLS_H

#include "broker/broker.h"

/*
 * TLS over a connected, non-blocking socket that belongs to somebody else. OpenSSL never touches the descriptor: its bytes go
 * through a pair of memory buffers, so that every send is ours and none raises SIGPIPE.
 */
typedef struct tide_tls tide_tls;

/* Loads certificates, touches no network. `host` is what the certificate is checked against unless options->server_name
 * says another name. TIDE_OK, TIDE_OPTION, TIDE_TLS, TIDE_ENOMEM. OpenSSL takes its memory from malloc. */
tide_status tide_tls_open(tide_tls **tls, const tide_allocator *alloc, const char *host,
                          const tide_url_options *options, tide_error *error);
/* Sends close_notify when that doesn't block; `fd` may be -1. NULL is fine. */
void tide_tls_close(tide_tls *tls, int fd);

/* TIDE_OK when verified and up, TIDE_AGAIN, TIDE_TLS, TIDE_CONNECT (the peer went away). */
tide_status tide_tls_handshake(tide_tls *tls, int fd, tide_error *error);
/* As in transport.h. */
tide_status tide_tls_read(tide_tls *tls, int fd, char *into, size_t size, size_t *done,
                          tide_error *error);
tide_status tide_tls_write(tide_tls *tls, int fd, const char *from, size_t size, size_t *done,
                           tide_error *error);
/* Encrypted bytes wait to be sent. */
bool tide_tls_wants_write(const tide_tls *tls);
/* Received bytes wait inside. */
bool tide_tls_has_pending(const tide_tls *tls);

#endif
