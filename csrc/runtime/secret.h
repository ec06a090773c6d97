/* SPDX-License-Identifier: MIT */
#ifndef TIDE_RUNTIME_SECRET_H
#define TIDE_RUNTIME_SECRET_H

#include <tidemill/types.h>

enum { TIDE_SECRET_MAX = 4096 };

/* Reads a secret from a file: all of it but one line end at its end. `size` bytes go to `into`
 * (TIDE_SECRET_MAX + 2 bytes of room). TIDE_OK, or TIDE_NOAUTH with one line in `error` that names
 * the file and never what is in it: not there, not readable, empty, larger than TIDE_SECRET_MAX.
 * Blocks no longer than a local file's read; a FIFO without a writer counts as empty. */
tide_status tide_secret_read(tide_str path, char *into, size_t *size, tide_error *error);
/* Overwrites it; not optimised away. */
void tide_secret_wipe(char *secret, size_t size);

#endif
