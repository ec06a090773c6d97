/* SPDX-License-Identifier: MIT */
/*
 * What it is: certificates for tests, made by the openssl command, see certificate.h.
 * What it is not: anything to trust.
 */
#include "certificate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "scratch.h"

#define NEW_KEY "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

static bool run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool run(const char *format, ...) {
    char commands[1024], line[1536];
    va_list args;
    va_start(args, format);
    vsnprintf(commands, sizeof commands, format, args);
    va_end(args);
    snprintf(line, sizeof line, "(cd %s && %s) >/dev/null 2>&1", scratch_folder(), commands);
    return system(line) == 0;
}

bool certificate_authority(void) {
    return run("openssl req -x509 " NEW_KEY " -keyout ca.key -out ca.pem -subj /CN=tidemill-test-ca"
               " -days 2 -addext basicConstraints=critical,CA:TRUE");
}

bool certificate_make(const char *name, const char *alternatives) {
    return run("echo subjectAltName=%s >%s.ext", alternatives, name) &&
           run("openssl req " NEW_KEY " -keyout %s.key -out %s.csr -subj /CN=%s", name, name,
               name) &&
           run("openssl x509 -req -in %s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
               " -extfile %s.ext -out %s.pem",
               name, name, name);
}
