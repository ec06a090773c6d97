/* SPDX-License-Identifier: MIT */
#ifndef TIDE_TRANSPORT_RESOLVER_H
#define TIDE_TRANSPORT_RESOLVER_H

#include <sys/socket.h>

#include <tidemill/types.h>

/* Names to addresses without waiting: a numeric address at once, a name on a helper thread that ends by itself. */

enum { TIDE_ADDRESSES_MAX = 16 };

typedef struct tide_address {
    struct sockaddr_storage socket;
    socklen_t len;
} tide_address;

typedef struct tide_addresses {
    tide_address items[TIDE_ADDRESSES_MAX];
    size_t count;
} tide_addresses;

typedef struct tide_resolver tide_resolver;

/* `host` is a C string. A numeric one fills `addresses` and leaves `*resolver` NULL. TIDE_OK, TIDE_CONNECT, TIDE_ENOMEM. */
tide_status tide_resolver_start(tide_resolver **resolver, const char *host, uint16_t port,
                                tide_addresses *addresses, tide_error *error);
/* Readable when the answer is there. */
int tide_resolver_fd(const tide_resolver *resolver);
/* TIDE_OK with at least one address, TIDE_AGAIN, TIDE_CONNECT. */
tide_status tide_resolver_result(const tide_resolver *resolver, tide_addresses *addresses,
                                 tide_error *error);
/* Forgets it; the thread may go on for as long as the system's resolver takes. NULL is fine. */
void tide_resolver_drop(tide_resolver *resolver);

#endif
