/* SPDX-License-Identifier: MIT */
/*
 * The simulated server against the real ones: random command sequences, the same replies. Ids that hold the time, idle
 * times and the texts of errors behind their first word are not compared. Each server is started here, on loopback, and
 * stopped by its process number; a server that isn't installed, or is older than 7.0, is skipped with the reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <limits.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "command.h"
#include "loopback.h"
#include "real_server.h"
#include "server.h"
#include "server_program.h"

enum { TEXT_MAX = 1 << 16, ROUNDS = 60, COMMANDS = 400 };

/* ---- a real server ---- */

typedef struct real {
    real_server process;
    int fd;
    char buffer[8192];
    size_t have, at;
} real;

/* What the simulated server does is the same on all that were tried: Redis 7.0, 8.0 and 8.6, Valkey 8.0, 8.1 and 9.1. */
static bool is_comparable(const char *program) {
    char ask[PATH_MAX + 32], line[256] = "";
    snprintf(ask, sizeof ask, "'%s' --version 2>/dev/null", program);
    FILE *out = popen(ask, "r");
    if (out == NULL)
        return false;
    if (fgets(line, sizeof line, out) == NULL)
        line[0] = '\0';
    pclose(out);
    if (line[0] == '\0') {
        if (strchr(program, '/') != NULL)
            fail_msg("%s is no program", program);
        print_message("skipped: %s is not installed\n", program);
        return false;
    }
    if (strstr(line, "v=6.") != NULL) {
        print_message("skipped: it answers as Redis 7.0 does and later, and this is %s", line);
        return false;
    }
    return true;
}

static bool real_start(real *r, const char *program) {
    memset(r, 0, sizeof *r);
    r->fd = -1;
    if (!real_server_start(&r->process, program, NULL))
        return false;
    r->fd = loopback_connect(r->process.port);
    if (r->fd < 0)
        return false;
    int on = 1;
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return true;
}

static void real_stop(real *r) {
    if (r->fd >= 0)
        close(r->fd);
    real_server_stop(&r->process);
}

static int real_byte(real *r) {
    if (r->at == r->have) {
        ssize_t size = read(r->fd, r->buffer, sizeof r->buffer);
        if (size <= 0)
            fail_msg("the real server stopped answering");
        r->have = (size_t)size;
        r->at = 0;
    }
    return (unsigned char)r->buffer[r->at++];
}

/* ---- replies as text ---- */

typedef struct source {
    real *server; /* or … */
    const char *data;
    size_t size, at;
} source;

static int next_byte(source *from) {
    if (from->server != NULL)
        return real_byte(from->server);
    if (from->at >= from->size)
        fail_msg("the simulated server's reply is cut off");
    return (unsigned char)from->data[from->at++];
}

typedef struct text {
    char data[TEXT_MAX];
    size_t size;
} text;

static void add(text *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(text *to, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(to->data + to->size, sizeof to->data - to->size, format, args);
    va_end(args);
    assert_true((size_t)size < sizeof to->data - to->size);
    to->size += (size_t)size;
}

static void read_line(source *from, char *line, size_t room) {
    size_t size = 0;
    int c;
    while ((c = next_byte(from)) != '\r')
        if (size + 1 < room)
            line[size++] = (char)c;
    next_byte(from);
    line[size] = '\0';
}

/* An id that the server's clock gave. */
static bool is_time_id(const char *value) {
    return strspn(value, "0123456789") >= 13 && value[13] == '-';
}

/* `hide`: which integer of a row isn't compared (-1 none); rows are the arrays one level down. */
static void read_reply(source *from, text *to, int depth, int hide) {
    char line[1024];
    int type = next_byte(from);
    read_line(from, line, sizeof line);
    switch (type) {
    case '+': add(to, "+%s ", line); break;
    case '-':
        line[strcspn(line, " ")] = '\0';
        add(to, "-%s ", line);
        break;
    case ':': add(to, ":%s ", line); break;
    case '$': {
        long size = strtol(line, NULL, 10);
        if (size < 0) {
            add(to, "nil ");
            break;
        }
        static char value[TEXT_MAX];
        assert_true(size + 1 < (long)sizeof value);
        for (long i = 0; i < size; i++)
            value[i] = (char)next_byte(from);
        value[size] = '\0';
        next_byte(from);
        next_byte(from);
        add(to, is_time_id(value) ? "<now> " : "\"%s\" ", value);
        break;
    }
    case '*': {
        long count = strtol(line, NULL, 10);
        if (count < 0) {
            add(to, "nil-array ");
            break;
        }
        add(to, "[ ");
        for (long i = 0; i < count; i++) {
            size_t before = to->size;
            read_reply(from, to, depth + 1, hide);
            bool is_wait = hide == HIDE_WAIT && depth == 0 && i == 1 && to->data[before + 1] != '-';
            if ((depth == 1 && hide == (int)i) || is_wait) {
                to->size = before;
                add(to, "<idle> ");
            }
        }
        add(to, "] ");
        break;
    }
    default: fail_msg("a reply of type %d", type);
    }
}

/* ---- a command to both ---- */

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void compare(real *r, sim_server *sim, uint32_t client, const command *c, uint64_t seed,
                    int number) {
    static text ours, theirs;
    char *bytes;
    size_t size;
    sim__command_encode(c, &bytes, &size);
    for (size_t sent = 0; sent < size;) {
        ssize_t done = write(r->fd, bytes + sent, size - sent);
        assert_true(done > 0);
        sent += (size_t)done;
    }
    theirs.size = 0;
    source real_source = {.server = r};
    read_reply(&real_source, &theirs, 0, c->hide);

    sim_server_set_time(sim, now_ms());
    sim_server_feed(sim, client, bytes, size);
    tide_str out = sim_server_output(sim, client);
    ours.size = 0;
    source sim_source = {.data = out.data, .size = out.len};
    read_reply(&sim_source, &ours, 0, c->hide);
    assert_int_equal(sim_source.at, out.len);
    sim_server_output_ack(sim, client, out.len);
    free(bytes);
    if (strcmp(ours.data, theirs.data) == 0)
        return;
    print_error("seed %llu, command %d:", (unsigned long long)seed, number);
    for (size_t i = 0; i < c->count; i++)
        print_error(" %.*s", (int)(c->args[i].len < 80 ? c->args[i].len : 80), c->args[i].data);
    print_error("\n  real      %s\n  simulated %s\n", theirs.data, ours.data);
    fail_msg("the simulated server answers differently");
}

/* ---- the test ---- */

static void run(const char *program) {
    program = server_program(program);
    if (!is_comparable(program)) {
        skip();
        return;
    }
    real r;
    if (!real_start(&r, program)) {
        real_stop(&r);
        fail_msg("%s doesn't start", program);
    }
    sim_server *sim = sim_server_create();
    uint32_t client = sim_server_connect(sim);
    int number = 0;
    command c;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        tide_prng p;
        tide_prng_seed(&p, seed);
        uint32_t next_id = 1;
        static const char *const first[][6] = {{"FLUSHALL"},
                                               {"SET", "{k}text", "hello"},
                                               {"XGROUP", "CREATE", "{k}a", "g1", "0", "MKSTREAM"},
                                               {"XGROUP", "CREATE", "{k}a", "g2", "0"},
                                               {"XGROUP", "CREATE", "{k}b", "g1", "$", "MKSTREAM"}};
        for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
            c.count = 0;
            c.hide = -1;
            for (int k = 0; k < 6 && first[i][k] != NULL; k++)
                sim__arg(&c, "%s", first[i][k]);
            compare(&r, sim, client, &c, seed, number++);
        }
        for (int i = 0; i < COMMANDS; i++) {
            sim__command_make(&c, &p, &next_id);
            compare(&r, sim, client, &c, seed, number++);
        }
        /* What is due at once is promoted; what isn't stays; of what is damaged the rest isn't held up. */
        usleep(3000);
        for (int k = 0; k < 8; k++) {
            bool later = k < 4;
            c.count = 0;
            c.hide = HIDE_WAIT;
            sim__arg(&c, "EVAL");
            sim__arg_script(&c, SCRIPT_PROMOTE);
            sim__arg(&c, "4");
            sim__arg(&c, "{k}moved");
            sim__arg(&c, later ? "{k}later" : "{k}delayed");
            sim__arg(&c, later ? "{k}later:events" : "{k}delayed:events");
            sim__arg(&c, seed % 3 == 0 ? "{k}text" : "{k}dead");
            sim__arg(&c, "3");
            compare(&r, sim, client, &c, seed, number++);
        }
        c.hide = -1;
        for (int k = 0; k < 2; k++) {
            c.count = 0;
            sim__arg(&c, "XLEN");
            sim__arg(&c, k == 0 ? "{k}moved" : "{k}dead");
            compare(&r, sim, client, &c, seed, number++);
        }
    }
    print_message("%s: %d commands, the same answers\n", program, number);
    sim_server_destroy(sim);
    real_stop(&r);
}

static void test_same_answers_as_redis(void **state) {
    (void)state;
    run("redis-server");
}

static void test_same_answers_as_valkey(void **state) {
    (void)state;
    run("valkey-server");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answers_as_redis),
        cmocka_unit_test(test_same_answers_as_valkey),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
