/* SPDX-License-Identifier: MIT */
/*
 * The yardstick of the embedded engine: what plain C over SQLite reaches with the same tables, the same pragmas and the
 * same group size, with no Lua, no retries, no leases and no bounds. One figure a run, one line of JSON on standard
 * output:
 *
 *   bench-raw-sqlite [--events N] [--batch N] --path P FIGURE
 *
 *   publish-memory   N events, a batch a transaction, in memory
 *   consume-memory   after filling: read a batch and make it pending in one transaction, acknowledge it in another
 *   publish-file     as publish-memory, in a file: WAL, synchronous=FULL
 *   single-file      the same with one event a commit
 *   tick-file        what the machine adds to a tick: N times, every 2 ms, this thread reads the clock for 1 ms and notes how
 *                    long that took, while another one commits batches as publish-file does
 *
 * The file at P is removed before and after.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "raw_common.h"

enum { BLOB_MAX = 512 };

static sqlite3 *db;

static void fail(const char *what) {
    fprintf(stderr, "bench-raw-sqlite: %s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : "?");
    exit(1);
}

static int64_t wall_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void execute(const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(sql);
}

static sqlite3_stmt *prepare(const char *sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
        fail(sql);
    return statement;
}

static void run(sqlite3_stmt *statement) {
    if (sqlite3_step(statement) != SQLITE_DONE)
        fail(sqlite3_sql(statement));
    sqlite3_reset(statement);
}

static void open_database(const char *path) {
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        fail(path);
    execute("PRAGMA cell_size_check = ON; PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY;"
            "PRAGMA cache_size = -16384");
    execute("CREATE TABLE streams(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
            " alive INTEGER NOT NULL, last_ms, last_seq, deleted_ms, deleted_seq, added INTEGER,"
            " length INTEGER, version INTEGER);"
            "CREATE TABLE entries(stream INTEGER, ms, seq, fields BLOB,"
            " PRIMARY KEY(stream, ms, seq)) WITHOUT ROWID;"
            "CREATE TABLE groups(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"
            " name TEXT NOT NULL, last_ms, last_seq, entries_read INTEGER, UNIQUE(stream, name));"
            "CREATE TABLE pending(grp INTEGER, ms, seq, consumer INTEGER, delivered_ms INTEGER,"
            " attempts INTEGER, PRIMARY KEY(grp, ms, seq)) WITHOUT ROWID;"
            "INSERT INTO streams VALUES(1, 'bench', 1, 0, 0, 0, 0, 0, 0, -1);"
            "INSERT INTO groups VALUES(1, 1, 'raw', 0, 0, 0)");
    execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "PRAGMA wal_autocheckpoint = 2000");
}

/* ---- events ---- */

static char *put(char *at, const char *bytes, size_t size) {
    if (size >= 0x80)
        *at++ = (char)(unsigned char)(size | 0x80);
    *at++ = (char)(unsigned char)(size >= 0x80 ? size >> 7 : size);
    memcpy(at, bytes, size);
    return at + size;
}

/* Four fields: names of one byte, values with their lengths, as the engine stores them. */
static size_t make_blob(char *blob, uint64_t number) {
    char id[40], payload[PAYLOAD_SIZE + 1], *at = blob;
    int id_size = snprintf(id, sizeof id, "00000000-0000-7000-8000-%012" PRIx64, number);
    make_payload(payload, number);
    *at++ = 4;
    *at++ = 0x01;
    at = put(at, id, (size_t)id_size);
    *at++ = 0x03;
    at = put(at, "OrderPlaced", 11);
    *at++ = 0x0b;
    at = put(at, "2026-01-01T00:00:00.000Z", 24);
    *at++ = 0x0d;
    at = put(at, payload, PAYLOAD_SIZE);
    return (size_t)(at - blob);
}

/* ---- figures ---- */

static sqlite3_stmt *begin, *commit, *add, *stream_put, *read_after, *pend, *acknowledge,
    *group_put;

static void prepare_all(void) {
    begin = prepare("BEGIN IMMEDIATE");
    commit = prepare("COMMIT");
    add = prepare("INSERT INTO entries(stream, ms, seq, fields) VALUES(1, ?1, ?2, ?3)");
    stream_put = prepare("UPDATE streams SET last_ms = ?1, last_seq = ?2, added = ?3, length = ?3 "
                         "WHERE id = 1");
    read_after = prepare("SELECT ms, seq, fields FROM entries WHERE stream = 1 AND "
                         "(ms, seq) > (?1, ?2) ORDER BY ms, seq LIMIT ?3");
    pend = prepare("INSERT OR REPLACE INTO pending(grp, ms, seq, consumer, delivered_ms, attempts) "
                   "VALUES(1, ?1, ?2, 1, ?3, 1)");
    acknowledge = prepare("DELETE FROM pending WHERE grp = 1 AND ms = ?1 AND seq = ?2");
    group_put = prepare("UPDATE groups SET last_ms = ?1, last_seq = ?2, entries_read = ?3 "
                        "WHERE id = 1");
}

static void publish(size_t events, size_t batch) {
    static int64_t last_ms, seq;
    for (size_t done = 0; done < events;) {
        int64_t ms = wall_ms();
        run(begin);
        if (ms > last_ms) {
            last_ms = ms;
            seq = -1;
        }
        for (size_t i = 0; i < batch && done < events; i++, done++) {
            char blob[BLOB_MAX];
            size_t size = make_blob(blob, done);
            sqlite3_bind_int64(add, 1, last_ms);
            sqlite3_bind_int64(add, 2, ++seq);
            sqlite3_bind_blob64(add, 3, blob, size, SQLITE_STATIC);
            run(add);
        }
        sqlite3_bind_int64(stream_put, 1, last_ms);
        sqlite3_bind_int64(stream_put, 2, seq);
        sqlite3_bind_int64(stream_put, 3, (int64_t)done);
        run(stream_put);
        run(commit);
    }
}

static void consume(size_t events, size_t batch) {
    int64_t(*ids)[2] = calloc(batch, sizeof *ids);
    char *copies = malloc(batch * BLOB_MAX);
    int64_t ms = 0, seq = 0;
    size_t done = 0, types = 0;
    if (ids == NULL || copies == NULL)
        fail("memory");
    while (done < events) {
        size_t count = 0, used = 0;
        int64_t now_ms = wall_ms();
        run(begin);
        sqlite3_bind_int64(read_after, 1, ms);
        sqlite3_bind_int64(read_after, 2, seq);
        sqlite3_bind_int64(read_after, 3, (int64_t)batch);
        while (sqlite3_step(read_after) == SQLITE_ROW) {
            ids[count][0] = ms = sqlite3_column_int64(read_after, 0);
            ids[count][1] = seq = sqlite3_column_int64(read_after, 1);
            const void *blob = sqlite3_column_blob(read_after, 2);
            size_t size = (size_t)sqlite3_column_bytes(read_after, 2);
            memcpy(copies + used, blob, size);
            used += size;
            sqlite3_bind_int64(pend, 1, ms);
            sqlite3_bind_int64(pend, 2, seq);
            sqlite3_bind_int64(pend, 3, now_ms);
            run(pend);
            count++;
        }
        sqlite3_reset(read_after);
        if (count == 0)
            fail("entries are missing");
        done += count;
        sqlite3_bind_int64(group_put, 1, ms);
        sqlite3_bind_int64(group_put, 2, seq);
        sqlite3_bind_int64(group_put, 3, (int64_t)done);
        run(group_put);
        run(commit);
        types += (size_t)copies[0];
        run(begin);
        for (size_t i = 0; i < count; i++) {
            sqlite3_bind_int64(acknowledge, 1, ids[i][0]);
            sqlite3_bind_int64(acknowledge, 2, ids[i][1]);
            run(acknowledge);
        }
        run(commit);
    }
    if (types == 0)
        fail("nothing was read");
    free(ids);
    free(copies);
}

/* ---- tick-file ---- */

static atomic_bool ticks_done;
static size_t tick_batch;

static void *commit_on(void *unused) {
    (void)unused;
    while (!atomic_load(&ticks_done))
        publish(tick_batch, tick_batch);
    return NULL;
}

static void tick(size_t count, size_t batch) {
    enum { TICK_NS = 1000000, FRAME_NS = 2000000 };
    int64_t *taken = calloc(count, sizeof *taken);
    pthread_t writer;
    tick_batch = batch;
    if (taken == NULL || pthread_create(&writer, NULL, commit_on, NULL) != 0)
        fail("thread");
    int64_t frame = now_ns();
    for (size_t i = 0; i < count; i++) {
        while (now_ns() < frame) {
        }
        int64_t start = now_ns();
        frame = start + FRAME_NS;
        while (now_ns() - start < TICK_NS) {
        }
        taken[i] = now_ns() - start;
    }
    atomic_store(&ticks_done, true);
    pthread_join(writer, NULL);
    qsort(taken, count, sizeof *taken, compare_ns);
    printf("{\"figure\":\"tick-file\",\"ticks\":%zu,\"p50_ms\":%.6f,\"p999_ms\":%.6f,\"max_ms\":%."
           "6f}\n",
           count, (double)taken[count / 2] / 1e6, (double)taken[count - 1 - count / 1000] / 1e6,
           (double)taken[count - 1] / 1e6);
    free(taken);
}

static void remove_files(const char *path) {
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char name[4096];
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
}

int main(int argc, char **argv) {
    const char *path = NULL, *figure = NULL;
    size_t events = 500000, batch = 100;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (more && strcmp(argv[i], "--path") == 0)
            path = argv[++i];
        else if (more && strcmp(argv[i], "--events") == 0)
            events = strtoul(argv[++i], NULL, 10);
        else if (more && strcmp(argv[i], "--batch") == 0)
            batch = strtoul(argv[++i], NULL, 10);
        else if (argv[i][0] != '-')
            figure = argv[i];
        else
            fail(argv[i]);
    }
    bool memory = figure != NULL && strstr(figure, "-memory") != NULL;
    bool consumes = figure != NULL && strcmp(figure, "consume-memory") == 0;
    bool single = figure != NULL && strcmp(figure, "single-file") == 0;
    bool ticks = figure != NULL && strcmp(figure, "tick-file") == 0;
    if (figure == NULL || events == 0 || batch == 0 || (!memory && path == NULL) ||
        (!consumes && !single && !ticks && strcmp(figure, "publish-memory") != 0 &&
         strcmp(figure, "publish-file") != 0)) {
        fprintf(stderr, "usage: bench-raw-sqlite [--events N] [--batch N] --path P "
                        "publish-memory|consume-memory|publish-file|single-file|tick-file\n");
        return 2;
    }
    if (single)
        batch = 1;
    if (!memory)
        remove_files(path);
    open_database(memory ? ":memory:" : path);
    prepare_all();
    if (consumes)
        publish(events, batch);
    double cpu = cpu_seconds();
    int64_t start = now_ns();
    if (consumes)
        consume(events, batch);
    else if (ticks)
        tick(events, batch);
    else
        publish(events, batch);
    int64_t elapsed = now_ns() - start;
    cpu = cpu_seconds() - cpu;
    if (!ticks)
        print_rate(figure, events, elapsed, cpu);
    sqlite3_stmt *const all[] = {begin,      commit, add,         stream_put,
                                 read_after, pend,   acknowledge, group_put};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sqlite3_finalize(all[i]);
    sqlite3_close(db);
    if (!memory)
        remove_files(path);
    return 0;
}
