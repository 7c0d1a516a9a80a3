/* SPDX-License-Identifier: Apache-2.0 */
/* A connection as a client may drive it: any bytes in any pieces (the first byte says how large),
 * several requests, bodies that are taken, refused or never begun, and an end at any time. Every
 * exchange that begins is closed, and what is answered begins as an answer does. */
#include "http/server.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "io/loop.h"
#include "io/socket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct loop *loop;
    unsigned begun, closed;
    char body[512];
} seen;

static void on_body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    (void)x, (void)data;
    *ret_space = (struct iovec){ seen.body, sizeof seen.body };
}

static void on_body(struct exchange *x, size_t bytes, void *data)
{
    (void)x, (void)data;
    assert(bytes > 0 && bytes <= sizeof seen.body);
}

static void on_body_end(struct exchange *x, const struct err *err, void *data)
{
    (void)data;
    assert(exchange_body_bytes(x) <= 4096);
    exchange_reply(x, err ? err_http(err) : 200, exchange_trailers(x)->items,
                   exchange_trailers(x)->count, SLICE("done"));
}

static void on_closed(struct exchange *x, const struct err *err, void *data)
{
    (void)x, (void)err, (void)data;
    seen.closed++;
}

static const struct exchange_handler handler = { on_body_space, on_body, on_body_end, on_closed };

static void on_head(struct exchange *x, void *data)
{
    const struct http_request *request = exchange_request(x);
    struct err err;
    (void)data;
    seen.begun++;
    exchange_set_handler(x, &handler, NULL);
    if (request->method == HTTP_DELETE) {
        exchange_respond(x, 200, NULL, 0, HTTP_LENGTH_UNKNOWN);
        exchange_write(x, &(struct iovec){ seen.body, 5 }, 1, NULL, NULL);
        exchange_end(x, NULL, 0);
    } else if (request->method == HTTP_GET) {
        exchange_reply(x, 204, NULL, 0, SLICE("")); /* its body, if there is one, is not taken */
    } else if (exchange_body_start(x, 4096, &err) < 0) {
        exchange_reply(x, err_http(&err), NULL, 0, SLICE("large"));
    }
}

/* Returns false once the server has closed. */
static bool answers_read(int fd, bool *first)
{
    char bytes[4096];
    for (;;) {
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0;
        assert(!*first || n < 9 || memcmp(bytes, "HTTP/1.1 ", 9) == 0);
        *first = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_server_limits limits = http_server_limits_default();
    int fds[2];
    bool first = true, open = true;
    if (size < 1)
        return 0;
    size_t step = data[0] % 97 + 1;
    limits.target_bytes_max = 256;
    limits.head_bytes_max = limits.read_bytes = 1024;
    limits.headers_max = 16;
    limits.drop_bytes_max = limits.linger_bytes_max = 64;
    if (!seen.loop)
        seen.loop = loop_new();
    seen.begun = seen.closed = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    struct http_server *server = http_server_new(
        seen.loop, &limits, &(struct http_server_events){ .on_head = on_head }, NULL);
    http_server_serve(server, stream_open(seen.loop, fds[1], NULL));
    for (size_t at = 1; at < size && open; at += step) {
        size_t part = size - at < step ? size - at : step;
        if (send(fds[0], data + at, part, MSG_NOSIGNAL) < 0)
            break;
        loop_run_once(seen.loop, false);
        open = answers_read(fds[0], &first);
    }
    if (data[0] & 1)
        shutdown(fds[0], SHUT_WR);
    for (int i = 0; i < 4 && open; i++) {
        loop_run_once(seen.loop, false);
        open = answers_read(fds[0], &first);
    }
    close(fds[0]);
    http_server_free(server);
    for (int i = 0; i < 3; i++)
        loop_run_once(seen.loop, false);
    assert(seen.begun == seen.closed);
    return 0;
}
