/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the URL parser. What it accepts keeps its promises (NUL behind every string, none inside), what it shows is
 * one line of UTF-8, and a password in front of an `@` is never shown, whatever stands around it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth) {
    if (!truth)
        abort();
}

static void check_str(tide_str str) {
    require(str.data == NULL || (str.data[str.len] == '\0' && strlen(str.data) == str.len));
}

static void parse(const tide_allocator *alloc, tide_str text, tide_error *error) {
    tide_url url;
    tide_error_clear(error);
    if (tide_url_parse(&url, alloc, text, error) != TIDE_OK) {
        require(error->message[0] != '\0' && url.memory == NULL);
        return;
    }
    bool server = url.scheme == TIDE_SCHEME_REDIS || url.scheme == TIDE_SCHEME_REDIS_TLS;
    require(server == (url.host.len > 0) && server == (url.port > 0));
    require((url.scheme == TIDE_SCHEME_FILE || url.scheme == TIDE_SCHEME_UNIX) ==
            (url.path.len > 0));
    check_str(url.host);
    check_str(url.path);
    check_str(url.user);
    check_str(url.password);
    for (size_t i = 0; i < url.option_count; i++) {
        require(url.options[i].name.len > 0);
        check_str(url.options[i].name);
        check_str(url.options[i].value);
    }
    tide_url_options options;
    if (tide_url_options_parse(&options, &url, error) == TIDE_OK)
        require(options.timeout_us > 0 && options.connect_timeout_us > 0 &&
                options.max_age_us >= 0);
    tide_field extra = {TIDE_STR("timeout"), text};
    tide_status status = tide_url_merge(&url, &extra, 1, error);
    require((status == TIDE_OK) == (memchr(text.data, '\0', text.len) == NULL));
    tide_url_deinit(&url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char head[] = "redis://user:tOpSeCrEt";
    tide_allocator alloc = tide_allocator_default();
    tide_error error;
    tide_str text = {(const char *)data, size};
    char shown[300];
    parse(&alloc, text, &error);
    size_t len = tide_url_redact(shown, 1 + size % sizeof shown, text);
    require(strlen(shown) == len && tide_utf8_is_valid((tide_str){shown, len}));

    int64_t duration_us = -1;
    require(tide_duration_parse(text, &duration_us) == (duration_us >= 0));

    char *secret = malloc(sizeof head + size + 2);
    if (secret == NULL)
        return 0;
    memcpy(secret, head, sizeof head - 1);
    if (size > 0)
        memcpy(secret + sizeof head - 1, data, size);
    memcpy(secret + sizeof head - 1 + size, "@h", 2);
    text = (tide_str){secret, sizeof head - 1 + size + 2};
    parse(&alloc, text, &error);
    require(strstr(error.message, "tOpSeCrEt") == NULL);
    tide_url_redact(shown, sizeof shown, text);
    require(strstr(shown, "tOpSeCrEt") == NULL);
    free(secret);
    return 0;
}
