/* SPDX-License-Identifier: MIT */
#ifndef TIDE_BASE_URL_OPTION_H
#define TIDE_BASE_URL_OPTION_H

#include <tidemill/types.h>

/* Whether the value of the option of this name may be shown: it is known, and no secret. */
bool tide__url_option_is_public(tide_str name);

#endif
