/* SPDX-License-Identifier: MIT */
#ifndef TIDEMILL_BUS_H
#define TIDEMILL_BUS_H

#include <tidemill/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The POSIX driver: an engine with sockets, a clock and, for an engine that blocks on a disk, one thread. Not thread-safe:
 * one thread uses a bus at a time. Never installs signal handlers; writes with MSG_NOSIGNAL.
 */
typedef struct tide_bus tide_bus;

/* Options as for tide_engine_open, copied; `error` may be NULL. Opens nothing yet but the epoll descriptor; links open as
 * tide_bus_poll runs. Statuses of tide_engine_open, TIDE_IO, TIDE_NOAUTH (the file that the URL option password_file names
 * can't be read). */
tide_status tide_bus_open(tide_bus **bus, const tide_engine_options *options, tide_error *error);
/* Closes at once, but for a commit under way, which it waits for; NULL is fine. What was submitted and hasn't completed
 * never does. Drain first with unsubscribe and poll. */
void tide_bus_close(tide_bus *bus);

/* The engine, for submit, subscribe, next_event, … with tide_bus_now_us as the time. Lives as long as the bus, and is not to be
 * closed. */
tide_engine *tide_bus_engine(tide_bus *bus);
/* This bus's clock (CLOCK_MONOTONIC, µs), as cached by the last poll. */
int64_t tide_bus_now_us(const tide_bus *bus);
/* Reads the clock anew. */
int64_t tide_bus_update_now(tide_bus *bus);

/* One turn: waits at most `timeout_us` (0: not at all, -1: until something happens) for readiness or a deadline, then reads,
 * feeds, ticks, writes. Never waits for a disk. A signal ends the wait early. TIDE_OK, TIDE_IO. */
tide_status tide_bus_poll(tide_bus *bus, int64_t timeout_us);
/* The same, but when events are ready for tide_engine_next_event afterwards (`held` true), what the turn wants to send or to
 * run is left to the caller: it hands out an event first, then calls tide_bus_write, and what that event led to goes along. */
tide_status tide_bus_poll_events(tide_bus *bus, int64_t timeout_us, bool *held);
/* Whether nothing has happened in the last poll but that time passed: no bytes, no completion, no signal, and no event that
 * tide_engine_next_event is to be asked for. Who waits for one of these can poll again at once. */
bool tide_bus_was_quiet(const tide_bus *bus);
/* Opens the links that are wanted, starts jobs, writes what wants to be sent, all without waiting; poll does it too. What was
 * submitted goes out with it, with tide_bus_poll or with tide_bus_timeout_us. */
void tide_bus_write(tide_bus *bus);

/* For an outer loop: poll this descriptor for reading (one epoll descriptor for everything), and call tide_bus_poll(bus, 0) when it is
 * readable or when the time-out has passed. */
int tide_bus_fd(const tide_bus *bus);
/* µs until a poll is due; -1: only when the descriptor is readable. Does what tide_bus_write does first, so that an outer
 * loop which submits and then sleeps for that long has sent what it submitted. */
int64_t tide_bus_timeout_us(tide_bus *bus);

#ifdef __cplusplus
}
#endif

#endif
