/* SPDX-License-Identifier: MIT */
/*
 * What it is: see faulty_vfs.h. Changes are kept in one list, in order; a file's state after a loss of power is made by
 * applying them to nothing.
 * What it is not: a model of a disk that lies about syncing.
 * Invariants: a change is recorded only when the real file system took it; making and deleting files is durable at once, as
 * SQLite syncs the folder where that matters.
 */
#include "faulty_vfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "base/prng.h"

faulty_vfs faulty;

enum { NAME_MAX_LEN = 64, FILES_MAX = 8, SECTOR = 512 };

typedef enum change_kind {
    CHANGE_WRITE,
    CHANGE_TRUNCATE,
    CHANGE_SYNC,
    CHANGE_DELETE,
    CHANGE_CREATE
} change_kind;

typedef struct change {
    change_kind kind;
    int file;
    sqlite3_int64 at; /* offset, or the new size */
    int size;
    unsigned char *bytes;
} change;

static change *changes;
static uint64_t change_count, change_capacity;
static char file_names[FILES_MAX][NAME_MAX_LEN];
static int file_count;

typedef struct faulty_file {
    sqlite3_file base;
    int number; /* -1: not remembered */
    sqlite3_file *real;
} faulty_file;

static sqlite3_vfs *real_vfs;
static sqlite3_vfs shim;

static int fault(int kind, int code) {
    if ((faulty.kinds & kind) == 0)
        return SQLITE_OK;
    faulty.calls++;
    bool fails = faulty.fail_at != 0 && (faulty.calls == faulty.fail_at ||
                                         (faulty.from_then_on && faulty.calls > faulty.fail_at));
    if (!fails)
        return SQLITE_OK;
    faulty.failed++;
    return faulty.code != 0 ? faulty.code : code;
}

/* ---- remembering ---- */

static int number_of(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    for (int i = 0; i < file_count; i++) {
        if (strcmp(file_names[i], name) == 0)
            return i;
    }
    if (file_count == FILES_MAX || strlen(name) >= NAME_MAX_LEN)
        abort();
    strcpy(file_names[file_count], name);
    return file_count++;
}

static void record(change_kind kind, int file, sqlite3_int64 at, const void *bytes, int size) {
    if (!faulty.recording || file < 0)
        return;
    if (change_count == change_capacity) {
        change_capacity = change_capacity == 0 ? 1024 : change_capacity * 2;
        changes = realloc(changes, change_capacity * sizeof *changes);
        if (changes == NULL)
            abort();
    }
    change *one = &changes[change_count++];
    *one = (change){kind, file, at, size, NULL};
    if (size > 0) {
        one->bytes = malloc((size_t)size);
        if (one->bytes == NULL)
            abort();
        memcpy(one->bytes, bytes, (size_t)size);
    }
}

void faulty_record_stop(void) {
    for (uint64_t i = 0; i < change_count; i++)
        free(changes[i].bytes);
    free(changes);
    changes = NULL;
    change_count = change_capacity = 0;
    file_count = 0;
    faulty.recording = false;
}

void faulty_record_start(void) {
    faulty_record_stop();
    faulty.recording = true;
}

uint64_t faulty_record_size(void) {
    return change_count;
}

/* ---- files ---- */

static sqlite3_file *real_of(sqlite3_file *file) {
    return ((faulty_file *)(void *)file)->real;
}

static int f_close(sqlite3_file *file) {
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int f_read(sqlite3_file *file, void *to, int size, sqlite3_int64 at) {
    int code = fault(FAULTY_READ, SQLITE_IOERR_READ);
    return code != SQLITE_OK ? code : real_of(file)->pMethods->xRead(real_of(file), to, size, at);
}

static int f_write(sqlite3_file *file, const void *from, int size, sqlite3_int64 at) {
    int code = fault(FAULTY_WRITE, SQLITE_IOERR_WRITE);
    if (code == SQLITE_OK)
        code = real_of(file)->pMethods->xWrite(real_of(file), from, size, at);
    if (code == SQLITE_OK)
        record(CHANGE_WRITE, ((faulty_file *)(void *)file)->number, at, from, size);
    return code;
}

static int f_truncate(sqlite3_file *file, sqlite3_int64 size) {
    int code = fault(FAULTY_TRUNCATE, SQLITE_IOERR_TRUNCATE);
    if (code == SQLITE_OK)
        code = real_of(file)->pMethods->xTruncate(real_of(file), size);
    if (code == SQLITE_OK)
        record(CHANGE_TRUNCATE, ((faulty_file *)(void *)file)->number, size, NULL, 0);
    return code;
}

/* The real sync is left out: the test is about order, and the test's own disk won't lose power. */
static int f_sync(sqlite3_file *file, int flags) {
    (void)flags;
    int code = fault(FAULTY_SYNC, SQLITE_IOERR_FSYNC);
    if (code == SQLITE_OK)
        record(CHANGE_SYNC, ((faulty_file *)(void *)file)->number, 0, NULL, 0);
    return code;
}

static int f_size(sqlite3_file *file, sqlite3_int64 *size) {
    int code = fault(FAULTY_SIZE, SQLITE_IOERR_FSTAT);
    return code != SQLITE_OK ? code : real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int f_lock(sqlite3_file *file, int level) {
    int code = fault(FAULTY_LOCK, SQLITE_IOERR_LOCK);
    return code != SQLITE_OK ? code : real_of(file)->pMethods->xLock(real_of(file), level);
}

static int f_unlock(sqlite3_file *file, int level) {
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int f_check_lock(sqlite3_file *file, int *held) {
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), held);
}

static int f_control(sqlite3_file *file, int op, void *arg) {
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int f_sector_size(sqlite3_file *file) {
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

/* Nothing is promised: neither atomic writes nor safe appends. */
static int f_characteristics(sqlite3_file *file) {
    (void)file;
    return 0;
}

static int f_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **to) {
    int code = fault(FAULTY_SHM, SQLITE_IOERR_SHMMAP);
    return code != SQLITE_OK
               ? code
               : real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, to);
}

static int f_shm_lock(sqlite3_file *file, int offset, int count, int flags) {
    int code = (flags & SQLITE_SHM_LOCK) != 0 ? fault(FAULTY_SHM, SQLITE_IOERR_SHMLOCK) : SQLITE_OK;
    return code != SQLITE_OK
               ? code
               : real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

static void f_shm_barrier(sqlite3_file *file) {
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int f_shm_unmap(sqlite3_file *file, int remove) {
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_check_lock,
    .xFileControl = f_control,
    .xSectorSize = f_sector_size,
    .xDeviceCharacteristics = f_characteristics,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

/* ---- the file system ---- */

static int v_open(sqlite3_vfs *vfs, sqlite3_filename path, sqlite3_file *file, int flags,
                  int *out) {
    (void)vfs;
    faulty_file *own = (faulty_file *)(void *)file;
    own->base.pMethods = NULL;
    own->real = (sqlite3_file *)(void *)(own + 1);
    own->number = -1;
    int code = fault(FAULTY_OPEN, SQLITE_CANTOPEN);
    if (code != SQLITE_OK)
        return code;
    if (faulty.read_only && (flags & SQLITE_OPEN_MAIN_DB) != 0)
        flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    code = real_vfs->xOpen(real_vfs, path, own->real, flags, out);
    if (code != SQLITE_OK)
        return code;
    if (path != NULL && faulty.recording) {
        own->number = number_of(path);
        record(CHANGE_CREATE, own->number, 0, NULL, 0);
    }
    own->base.pMethods = &methods;
    return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *vfs, const char *path, int sync) {
    (void)vfs;
    int code = fault(FAULTY_DELETE, SQLITE_IOERR_DELETE);
    if (code == SQLITE_OK)
        code = real_vfs->xDelete(real_vfs, path, sync);
    if (code == SQLITE_OK && faulty.recording)
        record(CHANGE_DELETE, number_of(path), 0, NULL, 0);
    return code;
}

static int v_access(sqlite3_vfs *vfs, const char *path, int flags, int *out) {
    (void)vfs;
    return real_vfs->xAccess(real_vfs, path, flags, out);
}

static int v_full(sqlite3_vfs *vfs, const char *path, int size, char *out) {
    (void)vfs;
    return real_vfs->xFullPathname(real_vfs, path, size, out);
}

static int v_random(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    memset(out, 0x5a, (size_t)size); /* the same each time, for runs that can be repeated */
    static unsigned turn;
    turn++;
    memcpy(out, &turn, (size_t)size < sizeof turn ? (size_t)size : sizeof turn);
    return size;
}

static int v_sleep(sqlite3_vfs *vfs, int us) {
    (void)vfs;
    return us; /* nobody waits in a test */
}

static int v_time(sqlite3_vfs *vfs, double *now) {
    (void)vfs;
    return real_vfs->xCurrentTime(real_vfs, now);
}

static int v_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    return real_vfs->xGetLastError(real_vfs, size, out);
}

void faulty_vfs_install(void) {
    sqlite3_initialize();
    real_vfs = sqlite3_vfs_find(NULL);
    shim = (sqlite3_vfs){.iVersion = 1,
                         .szOsFile = real_vfs->szOsFile + (int)sizeof(faulty_file),
                         .mxPathname = real_vfs->mxPathname,
                         .zName = "faulty",
                         .xOpen = v_open,
                         .xDelete = v_delete,
                         .xAccess = v_access,
                         .xFullPathname = v_full,
                         .xRandomness = v_random,
                         .xSleep = v_sleep,
                         .xCurrentTime = v_time,
                         .xGetLastError = v_error};
    sqlite3_vfs_register(&shim, 1);
    faulty_vfs_reset();
}

void faulty_vfs_remove(void) {
    faulty_record_stop();
    sqlite3_vfs_unregister(&shim);
    sqlite3_vfs_register(real_vfs, 1);
}

void faulty_vfs_reset(void) {
    bool recording = faulty.recording;
    faulty = (faulty_vfs){.kinds = FAULTY_ALL, .recording = recording};
}

/* ---- a loss of power ---- */

typedef struct image {
    unsigned char *bytes;
    sqlite3_int64 size;
    sqlite3_int64 capacity;
    bool exists;
} image;

static void put_bytes(image *file, sqlite3_int64 at, const unsigned char *bytes, int size) {
    sqlite3_int64 end = at + size;
    if (end > file->capacity) {
        file->capacity = end * 2;
        file->bytes = realloc(file->bytes, (size_t)file->capacity);
        if (file->bytes == NULL)
            abort();
    }
    if (at > file->size)
        memset(file->bytes + file->size, 0, (size_t)(at - file->size));
    memcpy(file->bytes + at, bytes, (size_t)size);
    if (end > file->size)
        file->size = end;
}

static void apply(image *file, const change *one, tide_prng *prng, bool torn) {
    switch (one->kind) {
    case CHANGE_CREATE: file->exists = true; break;
    case CHANGE_DELETE:
        file->exists = false;
        file->size = 0;
        break;
    case CHANGE_TRUNCATE:
        if (one->at < file->size)
            file->size = one->at;
        break;
    case CHANGE_WRITE:
        if (torn && one->size > SECTOR) { /* some sectors of it */
            for (int from = 0; from < one->size; from += SECTOR) {
                int size = one->size - from < SECTOR ? one->size - from : SECTOR;
                if (tide_prng_below(prng, 2) == 0)
                    put_bytes(file, one->at + from, one->bytes + from, size);
            }
        } else {
            put_bytes(file, one->at, one->bytes, one->size);
        }
        break;
    case CHANGE_SYNC: break;
    }
}

bool faulty_power_loss(const char *folder, uint64_t count, uint64_t seed) {
    image files[FILES_MAX] = {{0}};
    uint64_t synced[FILES_MAX] = {0}; /* changes before it are safe */
    tide_prng prng;
    bool any = false;
    tide_prng_seed(&prng, seed);
    for (uint64_t i = 0; i < count; i++) {
        change_kind kind = changes[i].kind;
        if (kind == CHANGE_SYNC || kind == CHANGE_DELETE || kind == CHANGE_CREATE)
            synced[changes[i].file] = kind == CHANGE_CREATE ? synced[changes[i].file] : i + 1;
    }
    /* 0: all unsynced is lost; 1: nothing is; else each change with even odds, some of them torn, and in another order. */
    uint64_t mode = tide_prng_below(&prng, 5);
    static uint64_t rest[1 << 16];
    uint64_t rest_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        const change *one = &changes[i];
        if (i < synced[one->file] || one->kind == CHANGE_CREATE || mode == 1)
            apply(&files[one->file], one, &prng, false);
        else if (mode > 1 && rest_count < sizeof rest / sizeof rest[0] &&
                 tide_prng_below(&prng, 2) == 0)
            rest[rest_count++] = i;
    }
    for (uint64_t i = rest_count; mode > 2 && i > 1; i--) {
        uint64_t other = tide_prng_below(&prng, i), kept = rest[i - 1];
        rest[i - 1] = rest[other];
        rest[other] = kept;
    }
    for (uint64_t i = 0; i < rest_count; i++)
        apply(&files[changes[rest[i]].file], &changes[rest[i]], &prng,
              tide_prng_below(&prng, 4) == 0);
    for (int i = 0; i < file_count; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, file_names[i]);
        remove(path);
        if (files[i].exists && strstr(file_names[i], "-shm") == NULL) {
            FILE *out = fopen(path, "wb");
            if (out == NULL)
                abort();
            fwrite(files[i].bytes != NULL ? files[i].bytes : (unsigned char *)"", 1,
                   (size_t)files[i].size, out);
            fclose(out);
            any = true;
        }
        free(files[i].bytes);
    }
    return any;
}
