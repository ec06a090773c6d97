/* SPDX-License-Identifier: MIT */
/*
 * What it is: starting and stopping a server for a test, see real_server.h.
 * What it is not: a client; tests bring their own.
 * Invariants: `pid` is a child of ours that nobody has waited for, or 0.
 */
#include "real_server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loopback.h"
#include "scratch.h"
#include "server_program.h"

enum { PORT_TRIES = 5, ANSWER_TRIES = 500, ANSWER_WAIT_US = 20000, REPLY_WAIT_MS = 2000 };

bool real_server_is_installed(const char *program) {
    if (server_program_named(program) != NULL)
        return true; /* a path that is no program is to fail, not to be skipped */
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

static bool says_its_pid(int fd, pid_t pid) {
    static const char ask[] = "INFO server\r\n";
    if (send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) != (ssize_t)sizeof ask - 1)
        return false;
    char text[16384], wanted[64];
    size_t len = 0;
    snprintf(wanted, sizeof wanted, "\nprocess_id:%ld\r", (long)pid);
    while (len < sizeof text - 1) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        if (poll(&one, 1, REPLY_WAIT_MS) != 1)
            return false;
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, wanted) != NULL)
            return true;
    }
    return false;
}

static bool answers(const real_server *server) {
    int fd = loopback_connect(server->port);
    if (fd < 0)
        return false;
    bool is_ours = says_its_pid(fd, server->pid);
    close(fd);
    return is_ours;
}

static void run_program(const real_server *server, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    /* exec takes words that may be changed; it changes none. */
    char *words[REAL_SERVER_WORDS_MAX];
    memcpy(words, server->words, sizeof words);
    execvp(words[0], words);
    _exit(127);
}

bool real_server_restart(real_server *server) {
    pid_t parent = getpid();
    server->pid = fork();
    if (server->pid < 0) {
        perror("fork");
        abort();
    }
    if (server->pid == 0)
        run_program(server, parent);
    for (int i = 0; i < ANSWER_TRIES; i++) {
        if (answers(server))
            return true;
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
            server->pid = 0;
            return false;
        }
        usleep(ANSWER_WAIT_US);
    }
    real_server_stop(server);
    return false;
}

bool real_server_start(real_server *server, const char *program, const char *const *more) {
    memset(server, 0, sizeof *server);
    program = server_program(program);
    const char *const fixed[] = {
        program,  "--bind", "127.0.0.1",    "--port", server->port_text, "--dir", scratch_folder(),
        "--save", "",       "--appendonly", "no"};
    size_t count = sizeof fixed / sizeof *fixed;
    memcpy(server->words, fixed, sizeof fixed);
    for (; more != NULL && *more != NULL; more++) {
        if (count + 1 >= REAL_SERVER_WORDS_MAX)
            abort();
        server->words[count++] = *more;
    }
    for (int i = 0; i < PORT_TRIES; i++) {
        server->port = loopback_free_port();
        snprintf(server->port_text, sizeof server->port_text, "%u", (unsigned)server->port);
        if (real_server_restart(server))
            return true;
    }
    return false;
}

void real_server_stop(real_server *server) {
    if (server->pid <= 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}
