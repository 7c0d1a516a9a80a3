/* SPDX-License-Identifier: Apache-2.0 */
#include "http_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

enum { READ_BYTES = 1 << 18, EVENTS = 256 };

void http_load_open(struct http_load *load)
{
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0)
        tool_fail("epoll_create1");
}

void http_load_connect(struct http_load *load, struct http_load_connection *c)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)strtoul(load->port, NULL, 10)) };
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    int yes = 1;
    if (inet_pton(AF_INET, load->address, &to.sin_addr) != 1)
        tool_fail("address");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
        tool_fail("connect");
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0)
        tool_fail("TCP_NODELAY");
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
        tool_fail("fcntl");
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        tool_fail("epoll_ctl");
    c->waiting = false;
}

static void connection_lost(struct http_load *load, struct http_load_connection *c)
{
    if (!load->on_lost) {
        fprintf(stderr, "load: the server closed a connection\n");
        exit(1);
    }
    bool waiting = c->waiting;
    close(c->fd);
    http_load_connect(load, c);
    if (waiting)
        load->on_lost(c);
}

/* EPOLLOUT follows where the socket is full; a peer that has gone is seen by the read. */
static void request_go_on(struct http_load_connection *c)
{
    while (c->sent < c->request.size) {
        ssize_t n = send(c->fd, c->request.data + c->sent, c->request.size - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return;
        c->sent += (size_t)n;
    }
}

void http_load_send(struct http_load_connection *c, struct slice request)
{
    c->request = request;
    c->sent = 0;
    c->head_size = 0;
    c->head_whole = false;
    c->body_bytes = 0;
    c->body_left = 0;
    c->waiting = true;
    c->began_ns = tool_now_ns();
    request_go_on(c);
}

struct slice http_load_header(const struct http_load_connection *c, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = strstr(c->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) != 0 || line[2 + length] != ':')
            continue;
        const char *value = line + 2 + length + 1;
        value += strspn(value, " ");
        return (struct slice){ value, strcspn(value, "\r") };
    }
    return (struct slice){};
}

static void head_done(struct http_load_connection *c)
{
    struct slice length = http_load_header(c, "Content-Length");
    if (length.size == 0) {
        fprintf(stderr, "load: an answer without Content-Length:\n%s\n", c->head);
        exit(1);
    }
    c->head_whole = true;
    c->status = (int)strtol(c->head + strcspn(c->head, " "), NULL, 10);
    c->body_left = strtoull(length.data, NULL, 10);
}

/* Returns how much of it was the head's. */
static size_t head_take(struct http_load_connection *c, const char *data, size_t size)
{
    size_t before = c->head_size, room = sizeof c->head - 1 - c->head_size;
    size_t part = size < room ? size : room;
    memcpy(c->head + before, data, part);
    c->head_size += part;
    c->head[c->head_size] = '\0';
    char *end = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
    if (!end && part == 0) {
        fprintf(stderr, "load: an answer's head is too long\n");
        exit(1);
    }
    if (!end)
        return part;
    end[2] = '\0';
    head_done(c);
    return (size_t)(end - c->head) + 4 - before;
}

static void answer_take(struct http_load_connection *c, const char *data, size_t size)
{
    if (!c->waiting) {
        fprintf(stderr, "load: an answer that nobody asked for\n");
        exit(1);
    }
    if (!c->head_whole) {
        size_t used = head_take(c, data, size);
        data += used;
        size -= used;
    }
    if (size > c->body_left) {
        fprintf(stderr, "load: more than the answer's Content-Length\n");
        exit(1);
    }
    size_t room = c->body_room - c->body_bytes, kept = size < room ? size : room;
    if (kept)
        memcpy(c->body + c->body_bytes, data, kept);
    c->body_bytes += kept;
    c->body_left -= size;
}

static bool answer_whole(const struct http_load_connection *c)
{
    return c->waiting && c->head_whole && c->body_left == 0 && c->sent == c->request.size;
}

/* The server has said that it closes: the next request goes over a connection of its own. */
static void connection_renew(struct http_load *load, struct http_load_connection *c)
{
    struct slice word = http_load_header(c, "Connection");
    if (word.size != 5 || strncasecmp(word.data, "close", 5) != 0)
        return;
    close(c->fd);
    http_load_connect(load, c);
}

/* Edge-triggered: a read that fills the buffer is not the last. */
static void on_readable(struct http_load *load, struct http_load_connection *c)
{
    static char buffer[READ_BYTES];
    ssize_t n;
    do {
        n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            connection_lost(load, c);
            return;
        }
        answer_take(c, buffer, (size_t)n);
    } while ((size_t)n == sizeof buffer);
}

void http_load_poll(struct http_load *load, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(load->epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct http_load_connection *c = events[i].data.ptr;
        if (c->waiting && c->sent < c->request.size)
            request_go_on(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            on_readable(load, c);
        if (answer_whole(c)) {
            c->waiting = false;
            c->ended_ns = tool_now_ns();
            connection_renew(load, c);
            load->on_answer(c);
        }
    }
}
