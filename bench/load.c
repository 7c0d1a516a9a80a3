/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c -- keep-alive HTTP load from one thread: the same request over N connections, each sent
 * when the answer before it is whole.
 *
 *     load ADDRESS PORT CONNECTIONS SECONDS REQUEST_FILE
 *
 * Prints one line of JSON: requests, errors, seconds, p50_us, p99_us. The answer must be a 200 with
 * a Content-Length. A tenth of the time before is warm-up and not counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/slice.h"

enum { CONNECTIONS_MAX = 1024, ANSWER_BYTES = 1 << 16, SAMPLES_MAX = 8'000'000 };

struct connection {
    int fd;
    size_t sent;   /* of the request */
    uint64_t left; /* of the answer's body; UINT64_MAX: the head is not whole */
    char head[4096];
    size_t head_size;
    int64_t began_ns;
};

static struct slice request;
static uint32_t *samples; /* ns, capped at 4 s */
static size_t sample_count;
static uint64_t errors;
static bool counting;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1'000'000'000) + now.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void request_send(struct connection *c)
{
    while (c->sent < request.size) {
        ssize_t n = send(c->fd, request.data + c->sent, request.size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return; /* EPOLLOUT follows */
        if (n < 0)
            fail("send");
        c->sent += (size_t)n;
    }
}

static void request_begin(struct connection *c)
{
    c->sent = 0;
    c->head_size = 0;
    c->left = UINT64_MAX;
    c->began_ns = now_ns();
    request_send(c);
}

static void answer_done(struct connection *c)
{
    int64_t took = now_ns() - c->began_ns;
    if (counting && sample_count < SAMPLES_MAX)
        samples[sample_count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    request_begin(c);
}

static uint64_t content_length(const char *head)
{
    const char *line = strcasestr(head, "\r\nContent-Length:");
    if (!line) {
        fprintf(stderr, "load: an answer without Content-Length:\n%s\n", head);
        exit(1);
    }
    return strtoull(line + 17, NULL, 10);
}

static void answer_take(struct connection *c, char *data, size_t size)
{
    while (size) {
        if (c->left != UINT64_MAX) {
            size_t part = size < c->left ? size : (size_t)c->left;
            c->left -= part;
            data += part;
            size -= part;
        } else {
            size_t part = sizeof c->head - 1 - c->head_size;
            part = size < part ? size : part;
            memcpy(c->head + c->head_size, data, part);
            size_t before = c->head_size;
            c->head_size += part;
            c->head[c->head_size] = '\0';
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end)
                return;
            size_t used = (size_t)(end - c->head) + 4 - before;
            data += used;
            size -= used;
            c->left = content_length(c->head);
            errors += counting && strncmp(c->head + 9, "200", 3) != 0;
        }
        if (c->left == 0)
            answer_done(c);
    }
}

static void on_readable(struct connection *c)
{
    static char buffer[ANSWER_BYTES];
    for (;;) { /* edge-triggered: a read that fills the buffer is not the last */
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            fail(n == 0 ? "the server closed a connection" : "recv");
        answer_take(c, buffer, (size_t)n);
        if ((size_t)n < sizeof buffer)
            return;
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_us(double part)
{
    if (sample_count == 0)
        return 0;
    return samples[(size_t)((double)(sample_count - 1) * part)] / 1000.0;
}

static void connect_to(struct connection *c, const char *address, const char *port, int epoll)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atol(port)) };
    int yes = 1;
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
        fail("address");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
        fail("fcntl");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl");
}

static void request_read(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    if (!file || fstat(fileno(file), &st) < 0)
        fail(path);
    char *data = mem_alloc((size_t)st.st_size);
    if (fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
        fail(path);
    fclose(file);
    request = (struct slice){ data, (size_t)st.st_size };
}

static void run(int epoll, int64_t until_ns)
{
    struct epoll_event events[256];
    while (now_ns() < until_ns) {
        int n = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->sent < request.size)
                request_send(c);
            if (events[i].events & EPOLLIN)
                on_readable(c);
        }
    }
}

int main(int argc, char **argv)
{
    static struct connection connections[CONNECTIONS_MAX];
    if (argc != 6) {
        fprintf(stderr, "usage: load ADDRESS PORT CONNECTIONS SECONDS REQUEST_FILE\n");
        return 2;
    }
    long count = atol(argv[3]);
    double seconds = strtod(argv[4], NULL);
    if (count < 1 || count > CONNECTIONS_MAX || !(seconds > 0 && seconds < 600))
        return 2;
    request_read(argv[5]);
    samples = mem_alloc(sizeof *samples * SAMPLES_MAX);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < count; i++) {
        connect_to(&connections[i], argv[1], argv[2], epoll);
        request_begin(&connections[i]);
    }
    int64_t begin_ns = now_ns(), wanted_ns = (int64_t)(seconds * 1e9);
    run(epoll, begin_ns + wanted_ns / 10);
    counting = true;
    begin_ns = now_ns();
    run(epoll, begin_ns + wanted_ns);
    double took = (double)(now_ns() - begin_ns) / 1e9;
    qsort(samples, sample_count, sizeof *samples, by_size);
    printf("{\"requests\": %zu, \"errors\": %llu, \"seconds\": %.6f, \"p50_us\": %.2f, "
           "\"p99_us\": %.2f}\n",
           sample_count, (unsigned long long)errors, took, percentile_us(0.5), percentile_us(0.99));
    return errors ? 1 : 0;
}
