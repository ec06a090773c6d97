/* SPDX-License-Identifier: MIT */
/*
 * The simulated server against the real ones: random command sequences, the same replies. Ids that hold the time, idle
 * times and the texts of errors behind their first word are not compared. Each server is started here, on loopback, and
 * stopped by its process number; a server that isn't installed, or is of another version, is skipped with the reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "base/text.h"
#include "broker/redis/redis.h"
#include "server.h"

/* `hide`: the second of two integers is a time, unless it is -1. */
enum { HIDE_WAIT = 100 };

enum { ARGS_MAX = 32, TEXT_MAX = 1 << 16, ROUNDS = 60, COMMANDS = 400 };

/* ---- a real server ---- */

typedef struct real {
    pid_t pid;
    int fd;
    char folder[64];
    char buffer[8192];
    size_t have, at;
} real;

static int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        abort();
    close(fd);
    return ntohs(address.sin_port);
}

static bool has_version(const char *program, const char *version) {
    char command[128], line[256] = "";
    snprintf(command, sizeof command, "%s --version 2>/dev/null", program);
    FILE *out = popen(command, "r");
    if (out == NULL)
        return false;
    if (fgets(line, sizeof line, out) == NULL)
        line[0] = '\0';
    pclose(out);
    if (line[0] == '\0') {
        print_message("skipped: %s is not installed\n", program);
        return false;
    }
    if (strstr(line, version) == NULL) {
        print_message("skipped: %s is not %s but %s", program, version + 2, line);
        return false;
    }
    return true;
}

static bool try_connect(real *r, int port) {
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(r->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(r->fd);
        r->fd = -1;
        return false;
    }
    int on = 1;
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return true;
}

static bool real_start(real *r, const char *program) {
    *r = (real){.fd = -1, .pid = -1};
    snprintf(r->folder, sizeof r->folder, "/tmp/tidemill-diff-XXXXXX");
    if (mkdtemp(r->folder) == NULL)
        return false;
    int port = free_port();
    char port_text[16];
    snprintf(port_text, sizeof port_text, "%d", port);
    r->pid = fork();
    if (r->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execlp(program, program, "--bind", "127.0.0.1", "--port", port_text, "--dir", r->folder,
               "--save", "", "--appendonly", "no", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 300; i++) {
        if (try_connect(r, port))
            return true;
        usleep(50000);
    }
    return false;
}

static void real_stop(real *r) {
    if (r->fd >= 0)
        close(r->fd);
    if (r->pid > 0) {
        kill(r->pid, SIGKILL);
        waitpid(r->pid, NULL, 0);
    }
    rmdir(r->folder);
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

/* ---- a command ---- */

typedef struct command {
    tide_str args[ARGS_MAX];
    char memory[ARGS_MAX][96];
    size_t count;
    int hide;
} command;

static void arg(command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void arg(command *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(c->memory[c->count], sizeof c->memory[0], format, args);
    va_end(args);
    assert_true(c->count < ARGS_MAX && (size_t)size < sizeof c->memory[0]);
    c->args[c->count] = (tide_str){c->memory[c->count], (size_t)size};
    c->count++;
}

static void encode(const command *c, char **bytes, size_t *size) {
    size_t room = 64;
    for (size_t i = 0; i < c->count; i++)
        room += c->args[i].len + 32;
    char *out = malloc(room);
    size_t at = (size_t)sprintf(out, "*%zu\r\n", c->count);
    for (size_t i = 0; i < c->count; i++) {
        at += (size_t)sprintf(out + at, "$%zu\r\n", c->args[i].len);
        memcpy(out + at, c->args[i].data, c->args[i].len);
        at += c->args[i].len;
        out[at++] = '\r';
        out[at++] = '\n';
    }
    *bytes = out;
    *size = at;
}

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
    encode(c, &bytes, &size);
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

/* ---- random commands ---- */

static uint64_t below(tide_prng *p, uint64_t bound) {
    return tide_prng_below(p, bound);
}
static const char *key(tide_prng *p) {
    static const char *const keys[] = {"{k}a", "{k}a",       "{k}a",   "{k}b",
                                       "{k}b", "{k}missing", "{k}text"};
    return keys[below(p, 7)];
}
static const char *group(tide_prng *p) {
    static const char *const groups[] = {"g1", "g1", "g2", "nobody"};
    return groups[below(p, 4)];
}
static const char *consumer(tide_prng *p) {
    static const char *const names[] = {"alice", "alice", "bob", "carol"};
    return names[below(p, 4)];
}
static void arg_id(command *c, tide_prng *p) {
    if (below(p, 40) == 0) {
        arg(c, "nonsense");
    } else if (below(p, 3) == 0) {
        arg(c, "%u", (unsigned)below(p, 60));
    } else {
        arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 3));
    }
}
static void arg_bound(command *c, tide_prng *p, bool low) {
    switch (below(p, 4)) {
    case 0: arg(c, low ? "-" : "+"); break;
    case 1: arg(c, "(%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 3)); break;
    default: arg_id(c, p);
    }
}
static const char *idle(tide_prng *p) {
    return below(p, 3) == 0 ? "3600000" : "0";
}

static void arg_script(command *c, redis_script script) {
    c->args[c->count++] = redis_script_text(script);
}

static uint32_t delayed_number;

/* A packed entry of the delayed set: "*", and one field. Damaged at times: what can't be an XADD must not be tried. */
static void arg_packed(command *c, tide_prng *p) {
    static const char *const parts[] = {"*", "event_id", "e1", "MAXLEN", "~", "9"};
    /* How many it says, and which there are. */
    static const int shapes[][7] = {
        {3, 0, 1, 2},
        {6, 3, 4, 5, 0, 1, 2},
        {7, 3, 4, 5, 0, 1, 2},
        {6, 3, 5, 5, 0, 1, 2},
        {3, 3, 4, 5},
        {4, 0, 1, 2, 1},
        {3, 1, 1, 2},
        {2, 0, 1},
        {1, 0},
        {0},
    };
    const int *shape = shapes[below(p, 3) == 0 ? below(p, sizeof shapes / sizeof *shapes) : 0];
    char *at = c->memory[c->count], *start = at;
    uint32_t count = below(p, 20) == 0 ? UINT32_MAX - (uint32_t)below(p, 3) : (uint32_t)shape[0];
    memcpy(at, &count, 4);
    at += 4;
    for (int i = 1; i <= shape[0] && i < 7; i++) {
        uint32_t len = (uint32_t)strlen(parts[shape[i]]);
        memcpy(at, &len, 4);
        memcpy(at + 4, parts[shape[i]], len);
        at += 4 + len;
    }
    size_t size = (size_t)(at - start);
    if (below(p, 12) == 0)
        size = (size_t)below(p, size);
    c->args[c->count++] = (tide_str){start, size};
}

static void make_script(command *c, tide_prng *p) {
    arg(c, "EVAL");
    switch (below(p, 12)) {
    case 0:
    case 1:
        arg_script(c, SCRIPT_DEAD);
        arg(c, "2");
        arg(c, "%s", key(p));
        arg(c, "{k}dead");
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
        arg(c, "n");
        arg(c, "1");
        break;
    case 2:
        arg_script(c, SCRIPT_DELAY);
        arg(c, "3");
        arg(c, "%s", key(p));
        arg(c, "{k}delayed");
        arg(c, "{k}delayed:events");
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
        arg(c, "m%u", delayed_number++);
        arg(c, below(p, 2) == 0 ? "0" : "3600000");
        arg_packed(c, p);
        break;
    case 3:
    case 4: {
        arg_script(c, SCRIPT_OWN);
        arg(c, "1");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        for (uint64_t i = 1 + below(p, 4); i > 0; i--) {
            arg(c, below(p, 2) == 0 ? "release" : "attempt");
            arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
            arg(c, "%u", (unsigned)below(p, 9));
        }
        break;
    }
    case 5:
    case 6: {
        arg_script(c, SCRIPT_EXTEND);
        arg(c, "1");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        uint32_t id = (uint32_t)below(p, 10);
        for (uint64_t i = 1 + below(p, 6); i > 0; i--, id += 1 + (uint32_t)below(p, 9))
            arg(c, "%u-0", id);
        break;
    }
    case 7:
        arg_script(c, SCRIPT_GONE);
        arg(c, "1");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        arg(c, "0-0");
        arg(c, "+");
        arg(c, "%u", 1 + (unsigned)below(p, 5));
        break;
    case 8:
        arg_script(c, SCRIPT_DEDUPE);
        arg(c, "3");
        arg(c, "{k}once");
        arg(c, "{k}once:%u", (unsigned)below(p, 8));
        arg(c, "{k}once:%u", 8 + (unsigned)below(p, 8));
        arg(c, "600000");
        arg(c, "%s", "");
        arg(c, "0");
        arg(c, "2");
        arg(c, "event_id");
        arg(c, "x");
        arg(c, "2");
        arg(c, "event_id");
        arg(c, "y");
        break;
    case 9:
        arg_script(c, SCRIPT_APPEND);
        arg(c, "2");
        arg(c, "{k}log");
        arg(c, "{k}log:version");
        switch (below(p, 4)) {
        case 0: arg(c, "any"); break;
        case 1: arg(c, "no_stream"); break;
        case 2: arg(c, "exists"); break;
        default: arg(c, "=%u", (unsigned)below(p, 12));
        }
        arg(c, "%s", "");
        arg(c, "0");
        arg(c, "2");
        arg(c, "event_id");
        arg(c, "x");
        break;
    case 10:
        arg_script(c, SCRIPT_SCHEDULE);
        arg(c, "4");
        arg(c, "{k}later");
        arg(c, "{k}later:events");
        arg(c, below(p, 8) == 0 ? "{k}text" : "{k}wake");
        arg(c, "{k}once:%u", (unsigned)below(p, 16));
        if (below(p, 2) == 0) {
            arg(c, "in");
            arg(c, "3600000");
        } else {
            arg(c, "at");
            arg(c, "1");
        }
        arg(c, below(p, 2) == 0 ? "0" : "600000");
        arg(c, "s%u", (unsigned)below(p, 12));
        arg_packed(c, p);
        break;
    default:
        arg_script(c, SCRIPT_CANCEL);
        arg(c, "3");
        arg(c, "{k}later");
        arg(c, "{k}later:events");
        arg(c, "{k}nothing");
        arg(c, "s%u", (unsigned)below(p, 12));
        break;
    }
}

static void make(command *c, tide_prng *p, uint32_t *next_id) {
    c->count = 0;
    c->hide = -1;
    switch (below(p, 27)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        arg(c, "XADD");
        arg(c, "%s", key(p));
        if (below(p, 8) == 0)
            arg(c, "NOMKSTREAM");
        if (below(p, 12) == 0) {
            arg(c, "MAXLEN");
            if (below(p, 2) == 0)
                arg(c, "=");
            arg(c, "%u", (unsigned)below(p, 12));
        } else if (below(p, 20) == 0) {
            arg(c, "MINID");
            arg(c, "%u", (unsigned)below(p, 40));
        }
        if (below(p, 8) == 0) {
            arg_id(c, p);
        } else if (below(p, 6) == 0) {
            arg(c, "%u-*", *next_id);
        } else {
            arg(c, "%u-%u", (*next_id)++, (unsigned)below(p, 2));
        }
        for (uint64_t i = 1 + below(p, 3); i > 0; i--) {
            arg(c, "field%u", (unsigned)i);
            arg(c, "value %u", (unsigned)below(p, 1000));
        }
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        arg(c, "XREADGROUP");
        arg(c, "GROUP");
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        if (below(p, 4) != 0) {
            arg(c, "COUNT");
            arg(c, "%u", (unsigned)below(p, 6));
        }
        if (below(p, 15) == 0)
            arg(c, "NOACK");
        arg(c, "STREAMS");
        arg(c, "%s", key(p));
        if (below(p, 3) != 0) {
            arg(c, ">");
        } else {
            arg_id(c, p);
        }
        break;
    case 9:
    case 10:
        arg(c, "XACK");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        for (uint64_t i = 1 + below(p, 4); i > 0; i--)
            arg_id(c, p);
        break;
    case 11:
        arg(c, "XPENDING");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        break;
    case 12:
    case 13:
        arg(c, "XPENDING");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        if (below(p, 3) == 0) {
            arg(c, "IDLE");
            arg(c, "%s", idle(p));
        }
        arg_bound(c, p, true);
        arg_bound(c, p, false);
        arg(c, "%u", (unsigned)below(p, 12));
        if (below(p, 2) == 0)
            arg(c, "%s", consumer(p));
        c->hide = 2;
        break;
    case 14:
    case 15:
        arg(c, "XCLAIM");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        arg(c, "%s", idle(p));
        for (uint64_t i = 1 + below(p, 4); i > 0; i--)
            arg(c, "%u-%u", (unsigned)below(p, 60), (unsigned)below(p, 2));
        if (below(p, 3) == 0) {
            arg(c, "IDLE");
            arg(c, "7200000");
        }
        if (below(p, 3) == 0) {
            arg(c, "RETRYCOUNT");
            arg(c, "%u", (unsigned)below(p, 9));
        }
        if (below(p, 6) == 0)
            arg(c, "FORCE");
        if (below(p, 2) == 0)
            arg(c, "JUSTID");
        break;
    case 16:
    case 17:
        arg(c, "XAUTOCLAIM");
        arg(c, "%s", key(p));
        arg(c, "%s", group(p));
        arg(c, "%s", consumer(p));
        arg(c, "%s", idle(p));
        arg_bound(c, p, true);
        if (below(p, 2) == 0) {
            arg(c, "COUNT");
            arg(c, "%u", (unsigned)below(p, 5));
        }
        if (below(p, 3) == 0)
            arg(c, "JUSTID");
        break;
    case 18: {
        bool back = below(p, 2) == 0;
        arg(c, back ? "XREVRANGE" : "XRANGE");
        arg(c, "%s", key(p));
        arg_bound(c, p, !back);
        arg_bound(c, p, back);
        if (below(p, 2) == 0) {
            arg(c, "COUNT");
            arg(c, "%u", (unsigned)below(p, 8));
        }
        break;
    }
    case 19:
        arg(c, "XDEL");
        arg(c, "%s", key(p));
        arg_id(c, p);
        arg_id(c, p);
        break;
    case 20:
        if (below(p, 4) == 0) {
            arg(c, "XTRIM");
            arg(c, "%s", key(p));
            arg(c, "MAXLEN");
            arg(c, "%u", (unsigned)below(p, 20));
        } else {
            arg(c, "XLEN");
            arg(c, "%s", below(p, 2) == 0 ? "{k}dead" : key(p));
        }
        break;
    case 21:
        arg(c, "XGROUP");
        switch (below(p, 8)) {
        case 0:
        case 1:
        case 2:
            arg(c, "CREATE");
            arg(c, "%s", key(p));
            arg(c, "%s", group(p));
            arg(c, below(p, 3) == 0 ? "$" : "0");
            if (below(p, 2) == 0)
                arg(c, "MKSTREAM");
            break;
        case 3:
            arg(c, "SETID");
            arg(c, "%s", key(p));
            arg(c, "%s", group(p));
            arg(c, "%u", (unsigned)below(p, 40));
            break;
        case 4:
            /* Names of its own: whether a read or claim that brings nothing makes its consumer differs by version. */
            arg(c, "CREATECONSUMER");
            arg(c, "%s", key(p));
            arg(c, "%s", group(p));
            arg(c, "made%u", (unsigned)below(p, 3));
            break;
        case 5:
        case 6:
            arg(c, "DELCONSUMER");
            arg(c, "%s", key(p));
            arg(c, "%s", group(p));
            arg(c, "%s", consumer(p));
            break;
        default:
            arg(c, "DESTROY");
            arg(c, "%s", key(p));
            arg(c, "%s", group(p));
        }
        break;
    case 22:
        arg(c, "GET");
        arg(c, "%s", key(p));
        break;
    case 23: {
        arg(c, "XREAD");
        if (below(p, 2) == 0) {
            arg(c, "COUNT");
            arg(c, "%u", (unsigned)below(p, 5));
        }
        arg(c, "STREAMS");
        uint64_t streams = 1 + below(p, 3);
        for (uint64_t i = 0; i < streams; i++)
            arg(c, "%s", below(p, 6) == 0 ? "{k}wake" : key(p));
        for (uint64_t i = 0; i < streams; i++)
            arg_id(c, p);
        break;
    }
    default: make_script(c, p);
    }
}

static void run(const char *program, const char *version) {
    if (!has_version(program, version)) {
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
                arg(&c, "%s", first[i][k]);
            compare(&r, sim, client, &c, seed, number++);
        }
        for (int i = 0; i < COMMANDS; i++) {
            make(&c, &p, &next_id);
            compare(&r, sim, client, &c, seed, number++);
        }
        /* What is due at once is promoted; what isn't stays; of what is damaged the rest isn't held up. */
        usleep(3000);
        for (int k = 0; k < 8; k++) {
            bool later = k < 4;
            c.count = 0;
            c.hide = HIDE_WAIT;
            arg(&c, "EVAL");
            arg_script(&c, SCRIPT_PROMOTE);
            arg(&c, "4");
            arg(&c, "{k}moved");
            arg(&c, later ? "{k}later" : "{k}delayed");
            arg(&c, later ? "{k}later:events" : "{k}delayed:events");
            arg(&c, seed % 3 == 0 ? "{k}text" : "{k}dead");
            arg(&c, "3");
            compare(&r, sim, client, &c, seed, number++);
        }
        c.hide = -1;
        for (int k = 0; k < 2; k++) {
            c.count = 0;
            arg(&c, "XLEN");
            arg(&c, k == 0 ? "{k}moved" : "{k}dead");
            compare(&r, sim, client, &c, seed, number++);
        }
    }
    print_message("%s: %d commands, the same answers\n", program, number);
    sim_server_destroy(sim);
    real_stop(&r);
}

static void test_same_answers_as_redis_7_0(void **state) {
    (void)state;
    run("redis-server", "v=7.0.");
}

static void test_same_answers_as_valkey_8_0(void **state) {
    (void)state;
    run("valkey-server", "v=8.0.");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answers_as_redis_7_0),
        cmocka_unit_test(test_same_answers_as_valkey_8_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
