/* SPDX-License-Identifier: MIT */
/*
 * What it is: getaddrinfo on a detached thread, its answer announced by the end of a pipe.
 * What it is not: a cache, or a DNS client.
 *
 * Invariants:
 *   1. A tide_resolver has two owners, the transport and the thread; the last one frees it. It comes from malloc, as the
 *      injected allocator is for one thread only and the thread may outlive everything else.
 *   2. The thread writes `addresses` and `failure` before it sets `done`; the transport reads them after it has seen it.
 *   3. The thread touches no signal: all are blocked in it.
 *   4. This code stays mapped once a thread was started: a Lua state that unloads the module can't pull the floor away.
 */
#include "transport/resolver.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

struct tide_resolver {
    atomic_int owners;
    atomic_bool done;
    int read_fd;  /* the transport's */
    int write_fd; /* the thread's: closing it makes the other end readable */
    int failure;  /* of getaddrinfo */
    int failure_errno;
    char port[8];
    tide_addresses addresses;
    char host[]; /* ends in NUL */
};

static void release(tide_resolver *resolver) {
    if (atomic_fetch_sub_explicit(&resolver->owners, 1, memory_order_acq_rel) == 1)
        free(resolver);
}

static int look_up(const char *host, const char *port, int flags, tide_addresses *addresses) {
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int failure = getaddrinfo(host, port, &hints, &list);
    if (failure != 0)
        return failure;
    addresses->count = 0;
    for (const struct addrinfo *at = list; at != NULL && addresses->count < TIDE_ADDRESSES_MAX;
         at = at->ai_next) {
        if (at->ai_addrlen > sizeof addresses->items[0].socket)
            continue;
        tide_address *address = &addresses->items[addresses->count++];
        memcpy(&address->socket, at->ai_addr, at->ai_addrlen);
        address->len = at->ai_addrlen;
    }
    freeaddrinfo(list);
    return addresses->count > 0 ? 0 : EAI_NONAME;
}

static void *run(void *context) {
    tide_resolver *resolver = context;
    resolver->failure =
        look_up(resolver->host, resolver->port, AI_ADDRCONFIG, &resolver->addresses);
    /* A machine with loopback alone has no configured address at all. */
    if (resolver->failure != 0)
        resolver->failure = look_up(resolver->host, resolver->port, 0, &resolver->addresses);
    resolver->failure_errno = errno;
    atomic_store_explicit(&resolver->done, true, memory_order_release);
    close(resolver->write_fd);
    release(resolver);
    return NULL;
}

static void stay_mapped(void) {
    Dl_info where;
    if (dladdr((void *)(uintptr_t)&run, &where) != 0 && where.dli_fname != NULL)
        (void)dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

static int start_thread(tide_resolver *resolver) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attributes;
    int failure = pthread_attr_init(&attributes);
    if (failure != 0)
        return failure;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    failure = pthread_create(&thread, &attributes, run, resolver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failure;
}

static tide_status describe(tide_error *error, const char *host, int failure, int failure_errno) {
    const char *why = failure == EAI_SYSTEM ? strerror(failure_errno) : gai_strerror(failure);
    return tide_error_set(error, TIDE_CONNECT, "cannot find the address of '%s': %s", host, why);
}

tide_status tide_resolver_start(tide_resolver **resolver, const char *host, uint16_t port,
                                tide_addresses *addresses, tide_error *error) {
    char port_text[8];
    snprintf(port_text, sizeof port_text, "%u", (unsigned)port);
    int failure = look_up(host, port_text, AI_NUMERICHOST, addresses);
    if (failure == 0) {
        *resolver = NULL;
        return TIDE_OK;
    }
    if (failure != EAI_NONAME)
        return describe(error, host, failure, errno);
    size_t host_size = strlen(host) + 1;
    tide_resolver *made = calloc(1, sizeof *made + host_size);
    if (made == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory to resolve '%s'", host);
    memcpy(made->host, host, host_size);
    memcpy(made->port, port_text, sizeof port_text);
    atomic_init(&made->owners, 2);
    atomic_init(&made->done, false);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        int why = errno;
        free(made);
        return tide_error_set(error, TIDE_CONNECT, "cannot resolve '%s': %s", host, strerror(why));
    }
    made->read_fd = ends[0];
    made->write_fd = ends[1];
    stay_mapped();
    failure = start_thread(made);
    if (failure != 0) {
        close(made->read_fd);
        close(made->write_fd);
        free(made);
        return tide_error_set(error, TIDE_CONNECT, "cannot resolve '%s': no thread: %s", host,
                              strerror(failure));
    }
    *resolver = made;
    return TIDE_OK;
}

int tide_resolver_fd(const tide_resolver *resolver) {
    return resolver->read_fd;
}

tide_status tide_resolver_result(const tide_resolver *resolver, tide_addresses *addresses,
                                 tide_error *error) {
    if (!atomic_load_explicit(&resolver->done, memory_order_acquire))
        return TIDE_AGAIN;
    if (resolver->failure != 0)
        return describe(error, resolver->host, resolver->failure, resolver->failure_errno);
    *addresses = resolver->addresses;
    return TIDE_OK;
}

void tide_resolver_drop(tide_resolver *resolver) {
    if (resolver == NULL)
        return;
    close(resolver->read_fd);
    release(resolver);
}
