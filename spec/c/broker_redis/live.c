/* SPDX-License-Identifier: MIT */
/*
 * What it is: a real server and a plain poll loop around the broker.
 * What it is not: the driver; runtime/ is that, and has its own tests.
 */
#include "rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "loopback.h"

enum { FDS = 32 };

static int64_t clock_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

bool live_server_start(live *l, const char *program) {
    memset(l, 0, sizeof *l);
    for (int i = 0; i < FDS; i++)
        l->fds[i] = -1;
    if (!real_server_is_installed(program))
        return false;
    if (!real_server_start(&l->process, program, NULL))
        fail_msg("%s does not start", program);
    return true;
}

void live_server_stop(live *l) {
    real_server_stop(&l->process);
}

void live_open(live *l, const char *query) {
    char text[256];
    snprintf(text, sizeof text, "redis://127.0.0.1:%d%s", l->process.port, query);
    tide_error error;
    tide_broker_options options = {.url = &l->url, .url_options = &l->options, .env = {.seed = 1}};
    static tide_allocator plain;
    plain = tide_allocator_default();
    assert_int_equal(tide_url_parse(&l->url, &plain, str(text), &error), TIDE_OK);
    assert_int_equal(tide_url_options_parse(&l->options, &l->url, &error), TIDE_OK);
    assert_int_equal(tide_broker_redis_create(&l->broker, &options, &error), TIDE_OK);
    l->now_us = clock_us();
}

void live_close(live *l) {
    l->broker->vtable->destroy(l->broker);
    tide_url_deinit(&l->url);
    for (int i = 0; i < FDS; i++) {
        if (l->fds[i] >= 0)
            close(l->fds[i]);
        l->fds[i] = -1;
    }
}

static void lose(live *l, int link, const char *why) {
    close(l->fds[link]);
    l->fds[link] = -1;
    tide_error error;
    tide_error_set(&error, TIDE_CONNECT, "%s", why);
    l->broker->vtable->link_closed(l->broker, (uint32_t)link, &error, l->now_us);
}

void live_cut(live *l) {
    for (int i = 0; i < FDS; i++) {
        if (l->fds[i] >= 0)
            lose(l, i, "cut by the test");
    }
}

static void serve_wants(live *l) {
    tide_link_want want;
    while (l->broker->vtable->next_link_want(l->broker, &want)) {
        assert_true(want.link < FDS);
        int *fd = &l->fds[want.link];
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        if (want.action == TIDE_LINK_CLOSE)
            continue;
        *fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        int on = 1;
        setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct sockaddr_in to = loopback_address(want.endpoint.port);
        l->opening[want.link] = true;
        if (connect(*fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
            lose(l, (int)want.link, strerror(errno));
    }
}

static void write_out(live *l, int link) {
    for (;;) {
        tide_str out = l->broker->vtable->output(l->broker, (uint32_t)link);
        if (out.len == 0)
            return;
        ssize_t n = send(l->fds[link], out.data, out.len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        l->broker->vtable->output_ack(l->broker, (uint32_t)link, (size_t)n, l->now_us);
    }
}

static void read_in(live *l, int link) {
    static char bytes[65536];
    ssize_t n = recv(l->fds[link], bytes, sizeof bytes, 0);
    if (n > 0)
        l->broker->vtable->feed(l->broker, (uint32_t)link, bytes, (size_t)n, l->now_us);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        lose(l, link, "closed by the server");
}

void live_turn(live *l, int ms) {
    l->now_us = clock_us();
    l->broker->vtable->tick(l->broker, l->now_us);
    serve_wants(l);
    struct pollfd polls[FDS];
    int links[FDS];
    nfds_t count = 0;
    for (int i = 0; i < FDS; i++) {
        if (l->fds[i] < 0)
            continue;
        if (!l->opening[i])
            write_out(l, i);
        bool more = l->opening[i] || l->broker->vtable->output(l->broker, (uint32_t)i).len > 0;
        polls[count] =
            (struct pollfd){.fd = l->fds[i], .events = (short)(POLLIN | (more ? POLLOUT : 0))};
        links[count++] = i;
    }
    int64_t due = l->broker->vtable->deadline_us(l->broker);
    int64_t wait = due <= l->now_us                       ? 0
                   : due - l->now_us > (int64_t)ms * 1000 ? ms
                                                          : (due - l->now_us) / 1000 + 1;
    poll(polls, count, (int)wait);
    l->now_us = clock_us();
    for (nfds_t i = 0; i < count; i++) {
        int link = links[i];
        if (polls[i].revents == 0 || l->fds[link] != polls[i].fd)
            continue;
        if (l->opening[link]) {
            int error = 0;
            socklen_t len = sizeof error;
            getsockopt(polls[i].fd, SOL_SOCKET, SO_ERROR, &error, &len);
            l->opening[link] = false;
            if (error != 0) {
                lose(l, link, strerror(error));
                continue;
            }
            l->broker->vtable->link_opened(l->broker, (uint32_t)link, l->now_us);
        } else if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            read_in(l, link);
        }
        serve_wants(l);
    }
}

void live_run(live *l, const tide_op *op, tide_completion *completion, tide_status expected) {
    tide_error error = {0};
    l->now_us = clock_us();
    tide_status status = l->broker->vtable->submit(l->broker, op, l->now_us, &error);
    if (status != TIDE_OK)
        fail_msg("submit: %s: %s", tide_status_code(status), error.message);
    int64_t until = clock_us() + 20000000;
    while (!l->broker->vtable->next_completion(l->broker, completion)) {
        if (clock_us() > until)
            fail_msg("no completion in 20 s");
        live_turn(l, 100);
    }
    assert_int_equal(completion->tag, op->tag);
    if (completion->status != expected)
        fail_msg("%s (%s), not %s", tide_status_code(completion->status), completion->error.message,
                 tide_status_code(expected));
}

const tide_reply *live_command(live *l, const char *words) {
    static char copy[4096];
    tide_str args[64];
    size_t count = 0;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        args[count++] = str(word);
    tide_op op = {.kind = TIDE_OP_COMMAND, .tag = 9999};
    op.as.command.args = args;
    op.as.command.arg_count = count;
    static tide_completion completion;
    live_run(l, &op, &completion, TIDE_OK);
    return completion.as.command.reply;
}

void live_aside(live *l, const char *command) {
    int fd = loopback_connect(l->process.port);
    assert_true(fd >= 0);
    char line[512];
    int len = snprintf(line, sizeof line, "%s\r\n", command);
    assert_int_equal(send(fd, line, (size_t)len, MSG_NOSIGNAL), len);
    assert_true(recv(fd, line, sizeof line, 0) > 0);
    close(fd);
}

/* ---- the server of the tests ---- */

live server;

int live_setup(void **state) {
    (void)state;
    live_open(&server, "");
    live_command(&server, "FLUSHALL");
    return 0;
}

int live_teardown(void **state) {
    (void)state;
    live_close(&server);
    return 0;
}

tide_id publish_one(const char *stream, const char *id, const char *data) {
    tide_field fields[2] = {{str("event_id"), str(id)}, {str("data"), str(data)}};
    tide_record record = {fields, 2, str(id)};
    tide_op op = publish_op(1, stream, &record, 1);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    assert_int_equal(done.as.publish.count, 1);
    return done.as.publish.results[0].id;
}

bool ensure(const char *stream, const char *group) {
    tide_op op = group_op(2, stream, "0");
    op.as.group_ensure.group = str(group);
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    return done.as.group_ensure.created;
}

tide_batch *fetch(const char *stream, const char *consumer, uint32_t count, bool history) {
    tide_op op = fetch_op(3, stream, consumer, count, history ? 0 : 10);
    op.as.fetch.history = history;
    tide_completion done;
    live_run(&server, &op, &done, TIDE_OK);
    return done.as.fetch.batch;
}

int64_t length_of(const char *stream) {
    char words[128];
    snprintf(words, sizeof words, "XLEN %s", stream);
    const tide_reply *reply = live_command(&server, words);
    assert_int_equal(reply->type, TIDE_REPLY_INTEGER);
    return reply->as.integer;
}

int live_stop(void **state) {
    (void)state;
    live_server_stop(&server);
    return 0;
}

int live_skip(const char *program) {
    printf("# skipped: %s is not installed\n", program);
    return 0;
}
