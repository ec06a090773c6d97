/* SPDX-License-Identifier: MIT */
/*
 * What it is: one throwaway folder a program, see scratch.h.
 * What it is not: usable from several threads before the first call has returned.
 * Invariants: only the process that made the folder removes it. What can't be made ends the program: no test could go on.
 */
#include "scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define OWN_NAME "/tidemill-XXXXXX"

static const size_t base_max = SCRATCH_SOCKET_MAX - (sizeof OWN_NAME - 1) -
                               1 /* the slash before the name */ - SCRATCH_NAME_MAX;

static char folder[SCRATCH_SOCKET_MAX + 1];
static pid_t owner;

static void die(const char *what) {
    perror(what);
    abort();
}

const char *scratch_base(const char *wanted) {
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-";
    if (wanted == NULL || wanted[0] != '/' || strlen(wanted) > base_max ||
        wanted[strspn(wanted, plain)] != '\0' || access(wanted, W_OK | X_OK) != 0)
        return access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    return wanted;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    (void)place;
    if (remove(path) != 0)
        perror(path);
    return 0;
}

void scratch_remove(const char *path) {
    enum { DESCRIPTORS = 16 };
    nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
}

static void remove_own(void) {
    if (getpid() == owner)
        scratch_remove(folder);
}

const char *scratch_folder(void) {
    if (folder[0] != '\0')
        return folder;
    snprintf(folder, sizeof folder, "%s%s", scratch_base(getenv("TMPDIR")), OWN_NAME);
    if (mkdtemp(folder) == NULL)
        die(folder);
    owner = getpid();
    if (atexit(remove_own) != 0)
        die("atexit");
    return folder;
}

const char *scratch_path(const char *name) {
    static char paths[8][SCRATCH_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];
    int size = snprintf(path, SCRATCH_PATH_MAX, "%s/%s", scratch_folder(), name);
    if (size < 0 || size >= SCRATCH_PATH_MAX)
        die(name);
    return path;
}
