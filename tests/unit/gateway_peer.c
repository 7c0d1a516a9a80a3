/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "sys/fd.h"

enum { REQUEST_MAX = 16 << 20, CONNECTIONS_MAX = 64 };

struct connection {
    struct peer *peer;
    pthread_t thread;
    int fd;
    unsigned answered;
    char *bytes; /* of one request, terminated */
    size_t size;
    char *body; /* unframed */
    size_t body_bytes;
};

static bool readable(struct peer *peer, int fd)
{
    while (!atomic_load(&peer->stop)) {
        struct pollfd poll_fd = { fd, POLLIN, 0 };
        if (poll(&poll_fd, 1, 20) == 1)
            return true;
    }
    return false;
}

/* One more read to its end; false: there is no more. */
static bool more(struct connection *at)
{
    if (!readable(at->peer, at->fd))
        return false;
    ssize_t n = read(at->fd, at->bytes + at->size, REQUEST_MAX - at->size - 1);
    if (n <= 0)
        return false;
    at->size += (size_t)n;
    at->bytes[at->size] = '\0';
    return true;
}

/* Unframes it; false: it is not whole. */
static bool chunks_whole(struct connection *at, const char *from)
{
    unsigned chunks = 0;

    at->body_bytes = 0;
    for (;;) {
        const char *end = strstr(from, "\r\n");
        if (!end)
            return false;
        size_t size = strtoul(from, NULL, 16);
        from = end + 2;
        if (size == 0) {
            atomic_store(&at->peer->chunks, chunks);
            return true;
        }
        chunks++;
        if ((size_t)(at->bytes + at->size - from) < size + 2)
            return false;
        memcpy(at->body + at->body_bytes, from, size);
        at->body_bytes += size;
        from += size + 2;
    }
}

static bool head_read(struct connection *at)
{
    at->size = 0;
    at->bytes[0] = '\0';
    while (!strstr(at->bytes, "\r\n\r\n"))
        if (!more(at))
            return false;
    return true;
}

static bool body_read(struct connection *at)
{
    const char *body = strstr(at->bytes, "\r\n\r\n") + 4;
    const char *length = strcasestr(at->bytes, "\r\ncontent-length:");

    if (strcasestr(at->bytes, "\r\ntransfer-encoding: chunked")) {
        while (at->size < 5 || memcmp(at->bytes + at->size - 5, "0\r\n\r\n", 5) != 0 ||
               !chunks_whole(at, body))
            if (!more(at))
                return false;
        return true;
    }
    size_t wanted = length ? strtoul(length + 17, NULL, 10) : 0;
    while ((size_t)(at->bytes + at->size - body) < wanted)
        if (!more(at))
            return false;
    memcpy(at->body, body, wanted);
    at->body_bytes = wanted;
    return true;
}

/* What the test looks at. */
static void keep(struct connection *at)
{
    struct peer *peer = at->peer;
    size_t head = (size_t)(strstr(at->bytes, "\r\n\r\n") + 4 - at->bytes);

    pthread_mutex_lock(&peer->lock);
    memcpy(peer->request, at->bytes, head);
    peer->request[head] = '\0';
    memcpy(peer->body, at->body, at->body_bytes);
    peer->body_bytes = at->body_bytes;
    pthread_mutex_unlock(&peer->lock);
    atomic_fetch_add(&peer->requests, 1);
}

static void say(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        size -= (size_t)n;
    }
}

static void say_text(int fd, const char *text)
{
    say(fd, text, strlen(text));
}

static void echo(const struct connection *at, bool chunked)
{
    char head[512];

    say_text(at->fd, "HTTP/1.1 200 OK\r\nPerigee-Pop: other\r\nServer-Timing: infer;dur=1.000\r\n"
                     "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n"
                     "X-Theirs: 2\r\n");
    if (chunked)
        snprintf(head, sizeof head, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", at->body_bytes);
    else
        snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n", at->body_bytes);
    say_text(at->fd, head);
    say(at->fd, at->body, at->body_bytes);
    if (chunked)
        say_text(at->fd, "\r\n0\r\n\r\n");
}

/* Without reading the body to its end. False, as all that end the connection. */
static bool answer_early(struct connection *at, int mode)
{
    at->body_bytes = 0;
    keep(at);
    if (mode != PEER_EARLY)
        return false;
    say_text(at->fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
    while (more(at)) /* so that what was said is not lost by a reset */
        at->size = 0;
    return false;
}

static void tunnel(struct connection *at, bool mute)
{
    say_text(at->fd, "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: yes\r\nPerigee-Pop: other\r\n"
                     "Server-Timing: infer;dur=1.000\r\n\r\n");
    for (at->size = 0; more(at); at->size = 0)
        if (!mute)
            say(at->fd, at->bytes, at->size);
    if (!mute)
        say_text(at->fd, "bye");
    atomic_fetch_add(&at->peer->gone, 1);
}

static bool answer(struct connection *at)
{
    if (!head_read(at))
        return false;
    int mode = atomic_load(&at->peer->mode);
    if (mode == PEER_CLOSES || mode == PEER_EARLY || (mode == PEER_STALE && at->answered > 0))
        return answer_early(at, mode);
    if (!body_read(at)) {
        atomic_fetch_add(&at->peer->gone, 1);
        return false;
    }
    keep(at);
    if (mode == PEER_LEAVES && at->answered > 0) {
        while (!atomic_load(&at->peer->leaves) && !atomic_load(&at->peer->stop))
            poll(NULL, 0, 1);
        return false;
    }
    switch (mode) {
    case PEER_HINTS:
        say_text(at->fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
                         "Connection: X-Mine\r\nX-Mine: 1\r\n\r\n");
        [[fallthrough]];
    case PEER_ECHOES:
    case PEER_LEAVES:
    case PEER_CHUNKS:
    case PEER_STALE:
        at->answered++;
        echo(at, mode == PEER_CHUNKS);
        return true;
    case PEER_REFUSES:
        say_text(at->fd, "HTTP/1.1 503 Service Unavailable\r\nPerigee-Error: overloaded\r\n"
                         "Content-Length: 4\r\n\r\nfull");
        return true;
    case PEER_DENIES:
        say_text(at->fd, "HTTP/1.1 451 Unavailable\r\nPerigee-Error: residency\r\n"
                         "Content-Length: 4\r\n\r\nlaws");
        return true;
    case PEER_KEYLESS:
        say_text(at->fd, "HTTP/1.1 400 Bad Request\r\nPerigee-Error: bad_input\r\n"
                         "Perigee-Hop: refused\r\nContent-Length: 3\r\n\r\nkey");
        return true;
    case PEER_FAILS:
        say_text(at->fd, "HTTP/1.1 500 Internal\r\nPerigee-Error: internal\r\n"
                         "Content-Length: 5\r\n\r\nfault");
        return true;
    case PEER_BREAKS:
        say_text(at->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        return false;
    case PEER_TUNNELS:
    case PEER_MUTE:
        tunnel(at, mode == PEER_MUTE);
        return false;
    case PEER_STALLS:
        say_text(at->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        [[fallthrough]];
    default: /* silent */
        if (!more(at))
            atomic_fetch_add(&at->peer->gone, 1);
        return false;
    }
}

static void *serve(void *data)
{
    struct connection *at = data;

    at->bytes = mem_alloc(REQUEST_MAX);
    at->body = mem_alloc(REQUEST_MAX);
    while (answer(at))
        ;
    close(at->fd);
    free(at->bytes);
    free(at->body);
    return NULL;
}

static void *run(void *data)
{
    struct peer *peer = data;
    struct connection all[CONNECTIONS_MAX];
    unsigned count = 0;

    while (readable(peer, peer->listener)) {
        int fd = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        assert_true(count < CONNECTIONS_MAX);
        atomic_fetch_add(&peer->connections, 1);
        assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
        all[count] = (struct connection){ .peer = peer, .fd = fd };
        assert_int_equal(pthread_create(&all[count].thread, NULL, serve, &all[count]), 0);
        count++;
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(all[i].thread, NULL);
    return NULL;
}

void peer_begin(struct peer *peer, enum peer_mode mode)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof in;

    *peer = (struct peer){ .request = mem_alloc(REQUEST_MAX), .body = mem_alloc(REQUEST_MAX) };
    atomic_store(&peer->mode, mode);
    pthread_mutex_init(&peer->lock, NULL);
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(peer->listener, 64), 0);
    getsockname(peer->listener, (struct sockaddr *)&in, &size);
    peer->port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&peer->thread, NULL, run, peer), 0);
}

void peer_end(struct peer *peer)
{
    atomic_store(&peer->stop, true);
    pthread_join(peer->thread, NULL);
    pthread_mutex_destroy(&peer->lock);
    fd_close(&peer->listener);
    free(peer->request);
    free(peer->body);
}
