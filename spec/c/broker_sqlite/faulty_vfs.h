/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_BROKER_SQLITE_FAULTY_VFS_H
#define TIDE_SPEC_BROKER_SQLITE_FAULTY_VFS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A file system for SQLite that fails on demand and remembers what was written and synced. It stands before the real one,
 * as SQLite's default, from faulty_vfs_install to faulty_vfs_remove. One thread.
 */

/* Which calls count and can fail. */
enum {
    FAULTY_OPEN = 1,
    FAULTY_READ = 2,
    FAULTY_WRITE = 4,
    FAULTY_SYNC = 8,
    FAULTY_TRUNCATE = 16,
    FAULTY_DELETE = 32,
    FAULTY_LOCK = 64,
    FAULTY_SHM = 128,
    FAULTY_SIZE = 256,
    FAULTY_ALL = 511
};

typedef struct faulty_vfs {
    int kinds;         /* FAULTY_… that count */
    uint64_t calls;    /* of those kinds so far */
    uint64_t fail_at;  /* which of them fails, from 1; 0: none */
    bool from_then_on; /* and all later ones */
    uint64_t failed;
    int code;       /* what a failing one answers; 0: the I/O error of its kind */
    bool read_only; /* files open for reading only */
    bool recording;
} faulty_vfs;

extern faulty_vfs faulty;

void faulty_vfs_install(void);
void faulty_vfs_remove(void);
/* No fault, counters at 0. */
void faulty_vfs_reset(void);

/* ---- what a loss of power leaves ---- */

/* Starts to remember from nothing: no file of interest may exist yet. */
void faulty_record_start(void);
/* How many changes were recorded. */
uint64_t faulty_record_size(void);
void faulty_record_stop(void);

/*
 * Writes into `folder` the files as they may be after power was lost behind the first `changes` changes: all that was
 * synced, and of the rest what `seed` says: nothing, everything, or any part in any order, a write also cut at a sector of
 * 512 bytes. Files keep their base names; shared memory is lost. False: nothing was there yet.
 */
bool faulty_power_loss(const char *folder, uint64_t changes, uint64_t seed);

#endif
