/* SPDX-License-Identifier: MIT */
#ifndef TIDE_SIM_COMMAND_H
#define TIDE_SIM_COMMAND_H

#include "base/prng.h"
#include "base/text.h"
#include "broker/redis/redis.h"

/* A command of the differential test: arguments in memory of its own. */
enum { COMMAND_ARGS_MAX = 32 };

/* `hide`: the second of two integers is a time, unless it is -1. */
enum { HIDE_WAIT = 100 };

typedef struct command {
    tide_str args[COMMAND_ARGS_MAX];
    char memory[COMMAND_ARGS_MAX][96];
    size_t count;
    int hide; /* what of its reply isn't compared */
} command;

void sim__arg(command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim__arg_script(command *c, redis_script script);
/* A random one, of what the adapter and the simulator know; next_id grows from 1. */
void sim__command_make(command *c, tide_prng *prng, uint32_t *next_id);
/* The bytes of the request: the caller's to free. */
void sim__command_encode(const command *c, char **bytes, size_t *size);

#endif
