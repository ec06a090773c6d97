/* SPDX-License-Identifier: MIT */
/*
 * What it is: the connection: opening a file or a memory database, checking whose it is, making the tables, prepared
 * statements, and what SQLite's result codes mean to callers.
 * What it is not: aware of streams; the tables' rules are in cache.c and its users.
 * Invariants:
 *   1. A file that isn't ours, or is newer, is never written to: its head is read through the VFS before SQLite opens it.
 *   2. A new file is created with mode 0600 before SQLite sees it; its journals inherit the mode.
 *   3. The first trouble of a transaction is kept in store->failure; later ones don't cover it.
 *   4. CORRUPT makes the store DAMAGED for good: reading goes on, writing is refused.
 *
 *   CLOSED --open--> OPEN --CORRUPT--> DAMAGED
 *     ^---- I/O trouble ---'   (tide__sq_close; the next job opens again)
 */
#define _POSIX_C_SOURCE 200809L
#include "broker/sqlite/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const statement_texts[TIDE__SQ_STATEMENT_COUNT] = {
#define X(name, sql) sql,
    TIDE__SQ_STATEMENTS(X)
#undef X
};

/* In memory, what changes all the time lies in a database of its own, "hot": moving pages about there (SQLite's
 * balance_nonroot) makes each commit look through the whole page cache of that database, which must not hold the entries. */
#define TABLES(HOT)                                                                                \
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"                               \
    "INSERT INTO meta VALUES('fence', 0);"                                                         \
    "CREATE TABLE streams(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"                      \
    " alive INTEGER NOT NULL, last_ms, last_seq, deleted_ms, deleted_seq, added INTEGER,"          \
    " length INTEGER, version INTEGER);"                                                           \
    "CREATE TABLE entries(stream INTEGER, ms, seq, fields BLOB,"                                   \
    " PRIMARY KEY(stream, ms, seq)) WITHOUT ROWID;"                                                \
    "CREATE TABLE " HOT "groups(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"                  \
    " name TEXT NOT NULL, last_ms, last_seq, entries_read INTEGER, UNIQUE(stream, name));"         \
    "CREATE TABLE " HOT "consumers(id INTEGER PRIMARY KEY, grp INTEGER NOT NULL,"                  \
    " name TEXT NOT NULL, seen_ms INTEGER, active_ms INTEGER, UNIQUE(grp, name));"                 \
    "CREATE TABLE " HOT "pending(grp INTEGER, ms, seq, consumer INTEGER, delivered_ms INTEGER,"    \
    " attempts INTEGER, PRIMARY KEY(grp, ms, seq)) WITHOUT ROWID;"                                 \
    "CREATE TABLE " HOT "delayed(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"                 \
    " due_ms INTEGER NOT NULL, event_id TEXT NOT NULL, fields BLOB, max_len INTEGER NOT NULL);"    \
    "CREATE INDEX " HOT "delayed_due ON delayed(stream, due_ms, id);"                              \
    "CREATE UNIQUE INDEX " HOT "delayed_event ON delayed(stream, event_id);"                       \
    "CREATE TABLE " HOT "dedupe(stream INTEGER, event_id TEXT, ms, seq, expires_ms INTEGER,"       \
    " PRIMARY KEY(stream, event_id)) WITHOUT ROWID;"                                               \
    "CREATE INDEX " HOT "dedupe_expiry ON dedupe(expires_ms);"                                     \
    "CREATE TABLE " HOT "kv(key TEXT PRIMARY KEY, value BLOB, expires_ms INTEGER) WITHOUT ROWID;"  \
    "CREATE INDEX " HOT "kv_expiry ON kv(expires_ms) WHERE expires_ms IS NOT NULL;"
static const char file_tables[] = TABLES("");
static const char memory_tables[] = TABLES("hot.");
#undef TABLES

/* ---- what went wrong ---- */

tide_status tide__sq_status_of(int code) {
    if (code == SQLITE_IOERR_NOMEM)
        return TIDE_ENOMEM;
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return TIDE_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: return TIDE_BUSY;
    case SQLITE_NOMEM: return TIDE_ENOMEM;
    case SQLITE_FULL: return TIDE_FULL;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_NOLFS: return TIDE_IO;
    case SQLITE_READONLY: return TIDE_READONLY;
    case SQLITE_PERM:
    case SQLITE_AUTH: return TIDE_NOPERM;
    case SQLITE_TOOBIG: return TIDE_LIMIT;
    /* The statements are fixed and the tables ours: when one of them doesn't fit, the file isn't what we made. */
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:
    case SQLITE_SCHEMA:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_FORMAT: return TIDE_CORRUPT;
    default: return TIDE_INTERNAL;
    }
}

static const char *place(const tide__sq_store *store) {
    return store->path != NULL ? store->path : "memory:";
}

tide_status tide__sq_trouble(tide__sq_store *store, const char *doing) {
    int code = store->db != NULL ? sqlite3_extended_errcode(store->db) : SQLITE_NOMEM;
    tide_status status = tide__sq_status_of(code);
    if (status == TIDE_OK)
        status = TIDE_INTERNAL;
    if (status == TIDE_CORRUPT && store->health == TIDE__SQ_OPEN)
        store->health = TIDE__SQ_DAMAGED;
    if (store->failure.status == TIDE_OK)
        tide_error_set(&store->failure, status, "%s: %s: %s (SQLite %d)", place(store), doing,
                       store->db != NULL ? sqlite3_errmsg(store->db) : sqlite3_errstr(code), code);
    return status;
}

tide_status tide__sq_no_memory(tide__sq_store *store) {
    if (store->failure.status == TIDE_OK)
        tide_error_set(&store->failure, TIDE_ENOMEM, "%s: out of memory", place(store));
    return TIDE_ENOMEM;
}

tide_status tide__sq_damaged(tide__sq_store *store, const char *what) {
    if (store->health == TIDE__SQ_OPEN)
        store->health = TIDE__SQ_DAMAGED;
    if (store->failure.status == TIDE_OK)
        tide_error_set(&store->failure, TIDE_CORRUPT,
                       "%s: %s can't be read: the file is damaged; restore it from a copy",
                       place(store), what);
    return TIDE_CORRUPT;
}

static tide_status fail(tide__sq_store *store, tide_status status, const char *why) {
    if (store->failure.status == TIDE_OK)
        tide_error_set(&store->failure, status, "%s: %s", place(store), why);
    return status;
}

/* ---- statements ---- */

sqlite3_stmt *tide__sq_statement_of(tide__sq_store *store, tide__sq_statement which) {
    sqlite3_stmt *statement = store->statements[which];
    if (statement != NULL)
        return statement;
    if (sqlite3_prepare_v3(store->db, statement_texts[which], -1, SQLITE_PREPARE_PERSISTENT,
                           &statement, NULL) != SQLITE_OK) {
        tide__sq_trouble(store, "prepare");
        return NULL;
    }
    store->statements[which] = statement;
    return statement;
}

int tide__sq_step(tide__sq_store *store, sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        tide__sq_trouble(store, "statement");
        sqlite3_reset(statement);
    }
    return code;
}

tide_status tide__sq_end(tide__sq_store *store, sqlite3_stmt *statement, int code) {
    sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? TIDE_OK : store->failure.status;
}

tide_status tide__sq_run(tide__sq_store *store, sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);
    if (code != SQLITE_DONE && code != SQLITE_ROW) {
        tide_status status = tide__sq_trouble(store, "statement");
        sqlite3_reset(statement);
        return status;
    }
    sqlite3_reset(statement);
    return TIDE_OK;
}

tide_status tide__sq_run_plain(tide__sq_store *store, tide__sq_statement which) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, which);
    return statement != NULL ? tide__sq_run(store, statement) : store->failure.status;
}

tide_status tide__sq_integer(tide__sq_store *store, tide__sq_statement which, int64_t *value) {
    sqlite3_stmt *statement = tide__sq_statement_of(store, which);
    if (statement == NULL)
        return store->failure.status;
    int code = tide__sq_step(store, statement);
    if (code == SQLITE_ROW)
        *value = sqlite3_column_int64(statement, 0);
    return tide__sq_end(store, statement, code);
}

void tide__sq_bind_u64(sqlite3_stmt *statement, int index, uint64_t number) {
    if (number <= INT64_MAX) {
        sqlite3_bind_int64(statement, index, (int64_t)number);
        return;
    }
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(number >> (56 - 8 * i));
    sqlite3_bind_blob(statement, index, bytes, 8, SQLITE_TRANSIENT);
}

uint64_t tide__sq_column_u64(sqlite3_stmt *statement, int index) {
    if (sqlite3_column_type(statement, index) != SQLITE_BLOB)
        return (uint64_t)sqlite3_column_int64(statement, index);
    const unsigned char *bytes = sqlite3_column_blob(statement, index);
    if (bytes == NULL || sqlite3_column_bytes(statement, index) != 8)
        return 0;
    uint64_t number = 0;
    for (int i = 0; i < 8; i++)
        number = number << 8 | bytes[i];
    return number;
}

void tide__sq_bind_text(sqlite3_stmt *statement, int index, tide_str text) {
    sqlite3_bind_text64(statement, index, text.len > 0 ? text.data : "", text.len, SQLITE_STATIC,
                        SQLITE_UTF8);
}

void tide__sq_bind_blob(sqlite3_stmt *statement, int index, tide_str bytes) {
    sqlite3_bind_blob64(statement, index, bytes.len > 0 ? bytes.data : "", bytes.len,
                        SQLITE_STATIC);
}

tide_str tide__sq_column_str(sqlite3_stmt *statement, int index) {
    const char *data = sqlite3_column_blob(statement, index);
    int size = sqlite3_column_bytes(statement, index);
    if (data == NULL || size <= 0)
        return (tide_str){"", 0};
    return (tide_str){data, (size_t)size};
}

char *tide__sq_scratch(tide__sq_store *store, size_t size) {
    if (size > store->scratch_size) {
        size_t wanted = size < 4096 ? 4096 : size + size / 2;
        char *grown = tide_realloc(store->alloc, store->scratch, store->scratch_size, wanted);
        if (grown == NULL) {
            tide__sq_no_memory(store);
            return NULL;
        }
        store->scratch = grown;
        store->scratch_size = wanted;
    }
    return store->scratch;
}

/* ---- whose file is it ---- */

enum { HEAD_SIZE = 100 };

static uint32_t big_endian_32(const unsigned char *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static tide_status refuse_version(tide__sq_store *store, int64_t version) {
    if (store->failure.status == TIDE_OK)
        tide_error_set(&store->failure, TIDE_FOREIGN,
                       "%s: written by a newer tidemill (format %lld, this one reads up to %d); "
                       "nothing was changed",
                       place(store), (long long)version, TIDE__SQ_VERSION);
    return TIDE_FOREIGN;
}

static tide_status refuse_foreign(tide__sq_store *store) {
    return fail(store, TIDE_FOREIGN,
                "belongs to another program, not to tidemill; nothing was changed");
}

static bool is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Looks at the head of the file through the VFS: SQLite itself would recover a journal or make files beside it. A plain
 * open and close of our own would drop the locks that another connection of this process holds. */
static tide_status check_head(tide__sq_store *store, sqlite3_vfs *vfs, const char *path) {
    if (is_folder(path))
        return fail(store, TIDE_IO, "is a folder; name a file in it, such as events.db");
    sqlite3_file *file = sqlite3_malloc64((sqlite3_uint64)vfs->szOsFile);
    if (file == NULL)
        return tide__sq_no_memory(store);
    memset(file, 0, (size_t)vfs->szOsFile);
    unsigned char head[HEAD_SIZE];
    sqlite3_int64 size = 0;
    int flags = 0;
    int code = vfs->xOpen(vfs, path, file, SQLITE_OPEN_READONLY | SQLITE_OPEN_MAIN_DB, &flags);
    if (code == SQLITE_OK) {
        code = file->pMethods->xFileSize(file, &size);
        if (code == SQLITE_OK && size >= HEAD_SIZE)
            code = file->pMethods->xRead(file, head, HEAD_SIZE, 0);
    }
    if (file->pMethods != NULL)
        file->pMethods->xClose(file);
    sqlite3_free(file);
    if (code != SQLITE_OK) {
        tide_status status = tide__sq_status_of(code);
        return fail(store, status, status == TIDE_IO ? "can't be opened or read" : "can't be read");
    }
    if (size == 0)
        return TIDE_OK; /* to be filled */
    if (size < HEAD_SIZE)
        return refuse_foreign(store);
    static const unsigned char magic[16] = "SQLite format 3";
    static const unsigned char nothing[16] = {0};
    if (memcmp(head, nothing, sizeof nothing) == 0)
        return TIDE_AGAIN; /* perhaps our own, killed while it was made: its journal knows */
    if (memcmp(head, magic, sizeof magic) != 0 ||
        big_endian_32(head + 68) != TIDE__SQ_APPLICATION_ID)
        return refuse_foreign(store);
    uint32_t version = big_endian_32(head + 60);
    if (version > TIDE__SQ_VERSION)
        return refuse_version(store, version);
    return TIDE_OK;
}

static tide_status prepare_file(tide__sq_store *store, const char *path) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    if (vfs == NULL)
        return fail(store, TIDE_IO, "SQLite has no file system here");
    char *full = sqlite3_malloc(vfs->mxPathname + 1 + 16);
    if (full == NULL)
        return tide__sq_no_memory(store);
    tide_status status = TIDE_OK;
    int code = vfs->xFullPathname(vfs, path, vfs->mxPathname + 1, full);
    int exists = 0;
    if ((code & 0xff) == SQLITE_OK)
        code = vfs->xAccess(vfs, full, SQLITE_ACCESS_EXISTS, &exists);
    if ((code & 0xff) != SQLITE_OK) {
        status = fail(store, tide__sq_status_of(code), "is no usable path");
    } else if (!exists) {
        int descriptor = open(full, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (descriptor >= 0)
            close(descriptor);
        else if (errno == EACCES || errno == EPERM)
            status = fail(store, TIDE_NOPERM, "can't be created: permission denied");
        else if (errno == ENOSPC || errno == EDQUOT)
            status = fail(store, TIDE_FULL, "can't be created: the disk is full");
        else if (errno == EROFS)
            status = fail(store, TIDE_READONLY, "can't be created: read-only file system");
        else if (errno != EEXIST)
            status = fail(store, TIDE_IO, "can't be created: is its folder there?");
    } else {
        status = check_head(store, vfs, full);
        if (status == TIDE_AGAIN) {
            int journal = 0;
            strcat(full, "-journal");
            vfs->xAccess(vfs, full, SQLITE_ACCESS_EXISTS, &journal);
            status = journal ? TIDE_OK : refuse_foreign(store);
        }
    }
    sqlite3_free(full);
    return status;
}

/* ---- opening ---- */

static tide_status execute(tide__sq_store *store, const char *sql) {
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return tide__sq_trouble(store, "open");
    return TIDE_OK;
}

static tide_status ask(tide__sq_store *store, const char *sql, int64_t *value) {
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return tide__sq_trouble(store, "open");
    tide_status status = TIDE_OK;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *value = sqlite3_column_int64(statement, 0);
    else
        status = tide__sq_trouble(store, "open");
    sqlite3_finalize(statement);
    return status;
}

/* TIDE_OK and `fresh`, or ours, or refused. */
static tide_status identify(tide__sq_store *store, bool *fresh) {
    int64_t id = 0, version = 0, things = 0;
    tide_status status = ask(store, "PRAGMA application_id", &id);
    if (status == TIDE_OK)
        status = ask(store, "PRAGMA user_version", &version);
    if (status == TIDE_OK)
        status = ask(store, "SELECT count(*) FROM sqlite_schema", &things);
    if (status != TIDE_OK)
        return status;
    *fresh = id == 0 && version == 0 && things == 0;
    if (*fresh)
        return TIDE_OK;
    if (id != TIDE__SQ_APPLICATION_ID)
        return refuse_foreign(store);
    if (version > TIDE__SQ_VERSION)
        return refuse_version(store, version);
    if (version < 1 || things == 0)
        return tide__sq_damaged(store, "the list of tables");
    return TIDE_OK;
}

static tide_status make_tables(tide__sq_store *store) {
    tide_status status = execute(store, "BEGIN IMMEDIATE");
    if (status != TIDE_OK)
        return status;
    bool fresh = false; /* another process may have been quicker */
    status = identify(store, &fresh);
    if (status == TIDE_OK && fresh) {
        status = execute(store, store->path != NULL ? file_tables : memory_tables);
        if (status == TIDE_OK) {
            char text[96];
            snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                     TIDE__SQ_APPLICATION_ID, TIDE__SQ_VERSION);
            status = execute(store, text);
        }
    }
    if (status == TIDE_OK)
        status = execute(store, "COMMIT");
    if (status != TIDE_OK && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* Several processes may do this to one new file at once; only one gets the lock, the others see its work. */
static tide_status set_wal(tide__sq_store *store) {
    for (int64_t waited_ms = 0;; waited_ms += 10) {
        int code = sqlite3_exec(store->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            return TIDE_OK;
        if ((code & 0xff) != SQLITE_BUSY || waited_ms >= store->busy_ms)
            return tide__sq_trouble(store, "open");
        sqlite3_sleep(10);
    }
}

void tide__sq_set_patience(tide__sq_store *store) {
    sqlite3_busy_timeout(store->db, store->busy_ms > INT32_MAX ? INT32_MAX : (int)store->busy_ms);
}

static tide_status open_database(tide__sq_store *store) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    const char *name = ":memory:";
    char *relative = NULL;
    if (store->path != NULL) {
        name = store->path;
        if (name[0] != '/') { /* so that "file:x" or ":memory:" is a file's name, not SQLite's */
            name = relative = sqlite3_mprintf("./%s", store->path);
            if (relative == NULL)
                return tide__sq_no_memory(store);
        }
        tide_status status = prepare_file(store, name);
        if (status != TIDE_OK) {
            sqlite3_free(relative);
            return status;
        }
    } else {
        flags |= SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY;
    }
    int code = sqlite3_open_v2(name, &store->db, flags, NULL);
    sqlite3_free(relative);
    if (code != SQLITE_OK)
        return tide__sq_trouble(store, "open");
    sqlite3_extended_result_codes(store->db, 1);
    tide__sq_set_patience(store);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    tide_status status = execute(store, "PRAGMA cell_size_check = ON; PRAGMA secure_delete = OFF;"
                                        "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384");
    if (status == TIDE_OK && store->path == NULL)
        status = execute(store, "ATTACH ':memory:' AS hot");
    bool fresh = false;
    if (status == TIDE_OK)
        status = identify(store, &fresh);
    if (status == TIDE_OK && fresh)
        status = make_tables(store);
    if (status == TIDE_OK && store->path != NULL && !sqlite3_db_readonly(store->db, "main"))
        status = set_wal(store);
    if (status == TIDE_OK && store->path != NULL) {
        static const char *const levels[] = {
            "PRAGMA synchronous = OFF", "PRAGMA synchronous = NORMAL", "PRAGMA synchronous = FULL"};
        status = execute(store, levels[store->synchronous]);
        if (status == TIDE_OK)
            status = execute(store, "PRAGMA journal_size_limit = 16777216");
        /* Twice SQLite's own: fewer fsyncs of the file while events stream in, 8 MiB of journal. */
        sqlite3_wal_autocheckpoint(store->db,
                                   store->checkpoint_pages > 0 ? store->checkpoint_pages : 2000);
    }
    if (status == TIDE_OK)
        status = tide__sq_integer(store, TIDE__SQ_DATA_VERSION, &store->data_version);
    return status;
}

tide_status tide__sq_open(tide__sq_store *store) {
    tide_status status = open_database(store);
    if (status == TIDE_OK) {
        store->health = TIDE__SQ_OPEN;
        return TIDE_OK;
    }
    tide__sq_close(store);
    return status;
}

void tide__sq_close(tide__sq_store *store) {
    tide__sq_cache_drop(store);
    for (int i = 0; i < TIDE__SQ_STATEMENT_COUNT; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close_v2(store->db);
    store->db = NULL;
    store->health = TIDE__SQ_CLOSED;
}

tide_status tide__sq_check_place(tide__sq_store *store) {
    int moved = 0;
    if (store->path == NULL ||
        sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK ||
        !moved)
        return TIDE_OK;
    return fail(store, TIDE_IO,
                "was deleted or moved while it was open: what is written now would be lost");
}
