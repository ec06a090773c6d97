/* SPDX-License-Identifier: MIT */
/*
 * What it is: a password that lies in a file, read at the edge, anew for each connection, so that one that was changed
 * there is taken up without a restart.
 * What it is not: a store; nothing is kept here.
 * Invariants: no message holds a byte of the secret; a file that is too large is refused, never cut.
 */
#include "runtime/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

static tide_status refuse(tide_error *error, tide_str path, const char *why) {
    char shown[160];
    tide_text_escape(shown, sizeof shown, path);
    return tide_error_set(error, TIDE_NOAUTH, "password_file %s: %s", shown, why);
}

void tide_secret_wipe(char *secret, size_t size) {
    volatile char *at = secret;
    while (size-- > 0)
        *at++ = 0;
}

tide_status tide_secret_read(tide_str path, char *into, size_t *size, tide_error *error) {
    /* Option texts have a NUL beyond their end. */
    int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return refuse(error, path, strerror(errno));
    size_t most = TIDE_SECRET_MAX + 2;
    size_t done = 0;
    ssize_t got = 1;
    while (got != 0 && done < most) {
        got = read(fd, into + done, most - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int why = errno;
            close(fd);
            tide_secret_wipe(into, done);
            return refuse(error, path, strerror(why));
        }
        done += (size_t)got;
    }
    close(fd);
    size_t len = done;
    if (len > 0 && into[len - 1] == '\n')
        len--;
    if (len > 0 && len < done && into[len - 1] == '\r')
        len--;
    if (len == 0 || len > TIDE_SECRET_MAX) {
        tide_secret_wipe(into, done);
        return refuse(error, path, len == 0 ? "it is empty" : "more than 4096 bytes");
    }
    *size = len;
    return TIDE_OK;
}
