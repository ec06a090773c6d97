/* SPDX-License-Identifier: MIT */
/*
 * What it is: the command: one seed with a trace, or a range of seeds with a count.
 * What it is not: a test framework; it ends with 1 when a seed fails, 2 when it was called wrongly.
 * Invariants: a failing seed is printed with the command that replays it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

static int usage(void) {
    fprintf(stderr,
            "usage: tidemill-sim [--seed N | --seeds A..B] [--engine redis|file] [--trace]\n"
            "                    [--bug NAME] [--verbose]\n"
            "Runs publisher, consumers, wire and server in virtual time, one run a seed.\n"
            "Bugs that can be planted:");
    for (int bug = 1; bug < SIM_BUG_COUNT; bug++)
        fprintf(stderr, " %s", sim_bug_name((sim_bug)bug));
    fprintf(stderr, "\n");
    return 2;
}

int main(int argc, char **argv) {
    sim_options options = {0};
    unsigned long long first = 1, last = 200;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end;
        if (strcmp(argv[i], "--trace") == 0) {
            options.trace = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            usage();
            return 0;
        } else if (value == NULL) {
            return usage();
        } else if (strcmp(argv[i], "--seed") == 0) {
            first = last = strtoull(value, &end, 0);
            if (end == value || *end != '\0')
                return usage();
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            first = strtoull(value, &end, 0);
            if (end == value || strncmp(end, "..", 2) != 0)
                return usage();
            const char *rest = end + 2;
            last = strtoull(rest, &end, 0);
            if (end == rest || *end != '\0' || last < first)
                return usage();
            i++;
        } else if (strcmp(argv[i], "--engine") == 0) {
            options.file = strcmp(value, "file") == 0;
            if (!options.file && strcmp(value, "redis") != 0)
                return usage();
            i++;
        } else if (strcmp(argv[i], "--bug") == 0) {
            options.bug = sim_bug_named(value);
            if (options.bug == SIM_BUG_COUNT)
                return usage();
            i++;
        } else {
            return usage();
        }
    }
    unsigned long long passed = 0, failed = 0, steps = 0, delivered = 0, faults = 0;
    for (unsigned long long seed = first;; seed++) {
        options.seed = seed;
        sim_result result;
        sim_run(&options, &result);
        steps += result.steps;
        delivered += result.delivered;
        faults += result.faults;
        if (result.passed) {
            passed++;
        } else {
            failed++;
        }
        if (verbose || first == last)
            printf("seed %llu: %s, %llu events, %llu runs, %llu faults, %llu steps, %lld ms of "
                   "virtual time, digest %016llx\n",
                   seed, result.passed ? "passed" : "FAILED", (unsigned long long)result.events,
                   (unsigned long long)result.delivered, (unsigned long long)result.faults,
                   (unsigned long long)result.steps, (long long)result.virtual_ms,
                   (unsigned long long)result.digest);
        if (!result.passed)
            printf("seed %llu failed: %s\n  replay: tidemill-sim --seed %llu%s%s%s --trace\n", seed,
                   result.failure, seed, options.file ? " --engine file" : "",
                   options.bug != SIM_BUG_NONE ? " --bug " : "", sim_bug_name(options.bug));
        fflush(stdout);
        if (seed == last)
            break;
    }
    printf("%llu runs by handlers, %llu faults, %llu steps\n", delivered, faults, steps);
    printf("%llu passed, %llu failed\n", passed, failed);
    return failed > 0;
}
