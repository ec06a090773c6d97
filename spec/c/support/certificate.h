/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SPEC_CERTIFICATE_H
#define TIDE_SPEC_CERTIFICATE_H

#include <stdbool.h>

/* Throwaway certificates in the scratch folder, good for two days. False when the openssl command is missing or fails. */

/* An authority: ca.pem and ca.key. */
bool certificate_authority(void);

/* NAME.pem and NAME.key for these names ("DNS:localhost,IP:127.0.0.1"), signed by the authority. */
bool certificate_make(const char *name, const char *alternatives);

#endif
