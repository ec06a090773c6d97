/* SPDX-License-Identifier: MIT */
/*
 * What it is: the few socket calls that tests of anything with a network repeat, see loopback.h.
 * What it is not: a server.
 */
#include "loopback.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static void require(int holds, const char *what) {
    if (holds)
        return;
    perror(what);
    abort();
}

static int open_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(fd >= 0, "socket");
    return fd;
}

struct sockaddr_in loopback_address(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int bind_any(uint16_t *port) {
    int fd = open_socket();
    struct sockaddr_in address = loopback_address(0);
    socklen_t size = sizeof address;
    require(bind(fd, (struct sockaddr *)&address, size) == 0, "bind");
    require(getsockname(fd, (struct sockaddr *)&address, &size) == 0, "getsockname");
    *port = ntohs(address.sin_port);
    return fd;
}

int loopback_listen(uint16_t *port) {
    int fd = bind_any(port);
    require(listen(fd, BACKLOG) == 0, "listen");
    return fd;
}

uint16_t loopback_free_port(void) {
    uint16_t port;
    close(bind_any(&port));
    return port;
}

int loopback_connect(uint16_t port) {
    int fd = open_socket();
    struct sockaddr_in address = loopback_address(port);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}
