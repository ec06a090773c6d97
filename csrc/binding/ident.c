/* SPDX-License-Identifier: MIT */
/*
 * What an event gets when it doesn't bring it along: an id and a time. The wall clock is read once a call, its text made once
 * a millisecond.
 */
#include <time.h>

#include "binding/binding.h"

int64_t tide_lua_wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void two_digits(char *out, int number) {
    out[0] = (char)('0' + number / 10 % 10);
    out[1] = (char)('0' + number % 10);
}

bool tide_lua_time_format(char *out, int64_t ms) {
    int64_t day = ms / 86400000, rest = ms % 86400000;
    if (rest < 0) {
        rest += 86400000;
        day--;
    }
    /* Days to a civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
    if (day < -719528 || day > 2932896)
        return false;
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    int year = (int)(yoe + era * 400 + (month <= 2));
    two_digits(out, year / 100);
    two_digits(out + 2, year % 100);
    out[4] = '-';
    two_digits(out + 5, month);
    out[7] = '-';
    two_digits(out + 8, (int)(doy - (153 * mp + 2) / 5 + 1));
    out[10] = 'T';
    two_digits(out + 11, (int)(rest / 3600000));
    out[13] = ':';
    two_digits(out + 14, (int)(rest / 60000 % 60));
    out[16] = ':';
    two_digits(out + 17, (int)(rest / 1000 % 60));
    out[19] = '.';
    out[20] = (char)('0' + rest % 1000 / 100);
    two_digits(out + 21, (int)(rest % 100));
    out[23] = 'Z';
    return true;
}

void tide_lua_time_refresh(tide_lua_bus *self) {
    int64_t ms = tide_lua_wall_ms();
    if (ms != self->time_ms && tide_lua_time_format(self->time_text, ms))
        self->time_ms = ms;
}

/* The sixteen digits of `number`. */
static void hex_digits(char *out, uint64_t number) {
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++)
        out[i] = hex[number >> (60 - 4 * i) & 15];
}

void tide_lua_uuid(tide_lua_bus *self, char *out) {
    uint64_t ms = (uint64_t)self->time_ms;
    char high[16], low[16];
    hex_digits(high, ms << 16 | 0x7000 | (tide_prng_next(&self->ids) >> 52));
    hex_digits(low, (tide_prng_next(&self->ids) >> 2) | UINT64_C(0x8000000000000000));
    memcpy(out, high, 8);
    out[8] = '-';
    memcpy(out + 9, high + 8, 4);
    out[13] = '-';
    memcpy(out + 14, high + 12, 4);
    out[18] = '-';
    memcpy(out + 19, low, 4);
    out[23] = '-';
    memcpy(out + 24, low + 4, 12);
}
