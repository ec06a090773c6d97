/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_SCRATCH_H
#define TIDE_SPEC_SCRATCH_H

#include <stddef.h>

/*
 * The throwaway folder of a test program: below $TMPDIR; where that isn't usable (scratch_base says when) below /dev/shm,
 * since tests of the file engine sync thousands of times (19 s there, 141 s on a disk), else below /tmp.
 * It is made by the first call of scratch_folder or scratch_path, and removed with all that is in it when the process
 * that made it returns from main or calls exit; processes forked from it leave it alone. A program that crashes leaves
 * it behind.
 *
 * The path is absolute, needs no quoting in a shell or a URL, and is so short that a unix socket of up to
 * SCRATCH_NAME_MAX bytes fits into it.
 */
enum {
    SCRATCH_SOCKET_MAX = 107, /* sun_path has 108 bytes on Linux, the NUL among them */
    SCRATCH_NAME_MAX = 15,
    SCRATCH_PATH_MAX = 256, /* of scratch_path, the NUL included */
};

const char *scratch_folder(void);

/* The path of `name` in that folder; good for the next seven calls. Nothing is made there. */
const char *scratch_path(const char *name);

/*
 * Where a folder may be made: `wanted` if it is an absolute path of letters, digits and "/._+-" that exists, may be written
 * to and is short enough; else (NULL, too) /dev/shm or /tmp. For tests of this file only.
 */
const char *scratch_base(const char *wanted);

/* Removes a folder and all that is in it; symbolic links go, what they point to stays. */
void scratch_remove(const char *folder);

#endif
