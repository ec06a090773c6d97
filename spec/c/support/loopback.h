/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_LOOPBACK_H
#define TIDE_SPEC_LOOPBACK_H

#include <netinet/in.h>
#include <stdint.h>

/* TCP at 127.0.0.1, for tests. Descriptors are the caller's to close; what can't be done ends the program. */

struct sockaddr_in loopback_address(uint16_t port);

/* Listens at a port that the system picks. */
int loopback_listen(uint16_t *port);

/* A port at which nobody listens. Somebody else may take it before the caller does: who starts a server there finds out
 * whose it is. */
uint16_t loopback_free_port(void);

/* A connection; -1 when it is refused. */
int loopback_connect(uint16_t port);

#endif
