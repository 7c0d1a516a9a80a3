/* SPDX-License-Identifier: Apache-2.0 */
/* A server as it may answer: any bytes in any pieces (the first byte says how large), to a few
 * calls in turn over one connection, kept for the next one or not (the second byte says what is
 * asked). Each call ends once. */
#include "http/client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "io/loop.h"
#include "io/socket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CALLS_MAX = 4 };

static struct {
    struct loop *loop;
    int fd; /* the server's end; -1: none */
    unsigned begun, ended, heads, dialed;
    bool paused;
} seen;

struct dialing {
    struct loop_task task;
    struct loop *loop;
    void (*on_connected)(struct stream *stream, const struct err *err, void *data);
    void *data;
    bool canceled;
};

static void on_dialed(void *data)
{
    struct dialing *dialing = data;
    struct err err;
    int fds[2] = { -1, -1 };
    bool made = !dialing->canceled && seen.dialed++ == 0 &&
                socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0;
    struct stream *stream = made ? stream_open(dialing->loop, fds[0], NULL) : NULL;
    if (made)
        seen.fd = fds[1];
    else
        (void)err_set(&err, dialing->canceled ? ERR_CANCELED : ERR_OVERLOADED, "no connection");
    dialing->on_connected(stream, stream ? NULL : &err, dialing->data);
    free(dialing);
}

static void *dial(const struct http_dialer *self, struct loop *loop, uint64_t scope,
                  const struct address *address,
                  void (*on_connected)(struct stream *stream, const struct err *err, void *data),
                  void *data)
{
    struct dialing *dialing = mem_zalloc(sizeof *dialing);
    assert(self && scope == 7 && address->port == 80);
    *dialing = (struct dialing){ .loop = loop, .on_connected = on_connected, .data = data };
    loop_task_init(&dialing->task, on_dialed, dialing);
    loop_defer(loop, &dialing->task);
    return dialing;
}

static void cancel(void *data)
{
    ((struct dialing *)data)->canceled = true;
}

static const struct http_dialer dialer = { dial, cancel };

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    (void)call, (void)data;
    assert(response->status == 101 || response->status >= 200);
    seen.heads++;
}

static void on_body(struct http_call *call, struct slice bytes, void *data)
{
    (void)data;
    assert(bytes.size > 0 && seen.heads == seen.begun);
    if (seen.paused) { /* and read on in the next pass */
        http_call_pause(call);
        http_call_resume(call);
    }
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    (void)data;
    if (!err)
        (void)http_call_trailers(call);
    seen.ended++;
}

static void call_begin(struct http_client *client, uint8_t flags)
{
    static const struct http_call_events events = { on_head, on_body, on_done };
    static const char *const methods[] = { "GET", "HEAD", "POST", "PUT" };
    const struct address address = { .kind = ADDRESS_IP4, .port = 80 };
    struct http_request_spec spec = {
        .address = &address,
        .method = methods[flags & 3],
        .target = SLICE("/"),
        .once = true,
        .upgrade = flags & 4,
        .scope = 7,
    };
    seen.begun++;
    seen.heads = seen.begun - 1;
    (void)http_client_call(client, &spec, &events, NULL);
}

static void passes(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        loop_run_once(seen.loop, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_client_config config = { .head_bytes_max = 4096, .dialer = &dialer };
    if (size < 2)
        return 0;
    size_t step = data[0] ? data[0] : size;
    memset(&seen, 0, sizeof seen);
    seen.fd = -1;
    seen.paused = data[1] & 8;
    seen.loop = loop_new();
    struct http_client *client = http_client_new(seen.loop, &config);
    for (size_t at = 2; at < size;) {
        if (seen.begun == seen.ended && seen.begun < CALLS_MAX)
            call_begin(client, data[1]);
        passes(2);
        size_t part = size - at < step ? size - at : step;
        if (seen.fd < 0 || send(seen.fd, data + at, part, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
        at += part;
        passes(2);
    }
    if (seen.fd >= 0)
        close(seen.fd);
    passes(4);
    http_client_free(client);
    assert(seen.begun == seen.ended);
    loop_free(seen.loop);
    return 0;
}
