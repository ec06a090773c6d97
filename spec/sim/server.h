/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_SERVER_H
#define TIDE_SIM_SERVER_H

#include <tidemill/types.h>

/*
 * A simulated Redis 7.0 (Valkey 8.0 answers the same here): streams, groups, strings, the scripts of broker/redis, as one
 * state machine without sockets or a clock. Bytes of requests go in, bytes of replies come out. The differential test
 * holds its answers against real servers.
 */
typedef struct sim_server sim_server;

/* What the server refuses at the moment. */
typedef enum sim_trouble {
    SIM_TROUBLE_NONE,
    SIM_TROUBLE_LOADING,
    SIM_TROUBLE_READONLY,
    SIM_TROUBLE_OOM,
    SIM_TROUBLE_MISCONF,
    SIM_TROUBLE_COUNT
} sim_trouble;

sim_server *sim_server_create(void);
void sim_server_destroy(sim_server *server);

/* The server's wall clock, ms; never goes back. Blocked reads whose time has passed are answered. */
void sim_server_set_time(sim_server *server, int64_t now_ms);
/* The clock is set, back too; only while nobody is connected. */
void sim_server_set_clock(sim_server *server, int64_t now_ms);
/* When the next blocked read's time ends; INT64_MAX when none is blocked. */
int64_t sim_server_deadline_ms(const sim_server *server);
void sim_server_set_trouble(sim_server *server, sim_trouble trouble);
/* Knows all scripts, as after its first hour. */
void sim_server_warm_up(sim_server *server);
/* Forgets the scripts (SCRIPT FLUSH); forgets all data. */
void sim_server_flush_scripts(sim_server *server);
void sim_server_flush_data(sim_server *server);

/* A connection; its number is above 0. */
uint32_t sim_server_connect(sim_server *server);
void sim_server_disconnect(sim_server *server, uint32_t client);
void sim_server_feed(sim_server *server, uint32_t client, const char *bytes, size_t size);
/* What it has to say; valid until the next call. */
tide_str sim_server_output(sim_server *server, uint32_t client);
void sim_server_output_ack(sim_server *server, uint32_t client, size_t size);

/* ---- for checkers ---- */

/* An entry is handed to a consumer. */
typedef enum sim_handing {
    SIM_HANDED_NEW,
    SIM_HANDED_AGAIN,  /* out of its own pending entries */
    SIM_HANDED_CLAIMED /* away from another consumer, or from itself */
} sim_handing;

typedef struct sim_handed {
    sim_handing how;
    tide_str stream, group, event; /* the value of its field event_id */
    tide_id id;
    uint32_t client;
    int64_t idle_ms; /* since it was handed out or renewed last; not for a new one */
} sim_handed;

typedef void (*sim_watch)(void *context, const sim_handed *handed);
void sim_server_watch(sim_server *server, sim_watch watch, void *context);

typedef struct sim_pending {
    tide_id id;
    const char *consumer;
    int64_t delivered_ms;
    uint32_t count;
} sim_pending;

/* Pending entries of a group, ascending; the number of them. `list` may be NULL. */
size_t sim_server_pending(const sim_server *server, tide_str stream, tide_str group,
                          sim_pending *list, size_t room);
/* Calls back for each entry of a stream that lacks the field `unless`: its id and the value of `field` (empty when
 * missing). */
void sim_server_each(const sim_server *server, tide_str stream, tide_str field, tide_str unless,
                     void (*visit)(void *context, tide_id id, tide_str value), void *context);
/* Members of a sorted set. */
size_t sim_server_zcard(const sim_server *server, tide_str key);
/* The last entry that the group has been given. */
tide_id sim_server_read_up_to(const sim_server *server, tide_str stream, tide_str group);
/* Entries of the stream that the group hasn't been given. */
size_t sim_server_undelivered(const sim_server *server, tide_str stream, tide_str group);

#endif
