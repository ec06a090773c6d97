/* SPDX-License-Identifier: MIT */
/*
 * SIGINT and SIGTERM while a loop runs: the first is noted for the loop, which drains; the second ends the process at once
 * with 128 + its number. The signal interrupts the loop's wait; a loop must still wake now and then, since a signal may
 * come between its look at the note and its wait.
 * A process has one disposition a signal, hence statics here and nowhere else. Nested use counts; the former handlers come
 * back with the outermost end.
 */
#include <signal.h>
#include <unistd.h>

#include "binding/binding.h"

static volatile sig_atomic_t taken;
static int depth;
static struct sigaction former[2];
static const int numbers[2] = {SIGINT, SIGTERM};

static void note(int number) {
    if (taken != 0)
        _exit(128 + number);
    taken = number;
}

int tide_lua_signals_begin(lua_State *L) {
    (void)L;
    if (depth++ > 0)
        return 0;
    taken = 0;
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 2; i++) {
        sigaction(numbers[i], NULL, &former[i]);
        /* Ignored on purpose (nohup, a shell's background job) stays ignored. */
        if (former[i].sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
    return 0;
}

int tide_lua_signals_end(lua_State *L) {
    (void)L;
    if (depth == 0 || --depth > 0)
        return 0;
    for (int i = 0; i < 2; i++)
        sigaction(numbers[i], &former[i], NULL);
    return 0;
}

int tide_lua_signal_taken(lua_State *L) {
    lua_pushinteger(L, taken);
    return 1;
}
