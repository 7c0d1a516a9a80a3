/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "sys/channel.h"
#include "sys/fd.h"

const struct world_endpoint case_digits = {
    .name = "digits",
    .queue_depth = 4,
    .concurrency = 2,
    .queue_timeout_ms = 600,
    .queue_cold_ms = 1500,
    .timeout_ms = 800,
    .body_bytes_max = 4 << 20,
    .serving = 1,
    .revisions = 1,
};

void case_begin(struct world *world, struct fake *fake, const struct world_endpoint *endpoints,
                size_t count, enum fake_mode mode)
{
    union message message;

    *fake = (struct fake){};
    world_start(world, 1);
    world_table(world, 1, endpoints, count);
    fake_prepare(world, fake, 7, WORLD_REVISION(0, 1));
    atomic_store(&fake->mode, mode);
    fake_begin(world, fake, endpoints->concurrency);
    world_go(world);
    world_expect(world, true, MESSAGE_REPLICA_READY, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_READY.replica, 7);
}

void case_closed(struct world *world)
{
    assert_int_equal(world->exit_status, 0);
    for (unsigned i = 0; i < WORLD_LOOPS; i++)
        fd_close(&world->listeners[i]);
    fd_close(&world->arena_fd);
    fd_close(&world->metrics_fd);
}

void case_end(struct world *world, struct fake *fake)
{
    world_stop(world);
    if (fake->running)
        fake_free(fake);
    case_closed(world);
}

void case_answer(const struct reply *reply, int status, const char *part)
{
    if (reply->status != status || (part && !strstr(reply->text, part)))
        fail_msg("wanted %d with '%s', got:\n%s", status, part ? part : "", reply->text);
}

struct reply world_infer(struct world *world, const char *headers, const char *body)
{
    char request[16384];
    int size = snprintf(request, sizeof request,
                        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n%s"
                        "Content-Length: %zu\r\n\r\n%s",
                        headers, strlen(body), body);

    return world_ask(world, request, (size_t)size);
}

void case_hinted(struct world *world, const char *target)
{
    static const char hint[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n";
    char ask[256], text[4096] = "";
    size_t used = 0;
    int fd = world_connect(world);
    int size =
        snprintf(ask, sizeof ask,
                 "GET %s HTTP/1.1\r\nHost: digits.localhost\r\nConnection: close\r\n\r\n", target);

    assert_int_equal(send(fd, ask, (size_t)size, MSG_NOSIGNAL), size);
    for (ssize_t n; (n = recv(fd, text + used, sizeof text - 1 - used, 0)) > 0;)
        used += (size_t)n;
    close(fd);
    if (strncmp(text, hint, sizeof hint - 1) != 0)
        fail_msg("%s", text);
}

void world_keys(struct world *world, const char *const *pops, size_t count)
{
    for (size_t i = 0; i <= count; i++) { /* the last one has no name, and ends the row */
        union message message = { .as_MESSAGE_PEER_KEY = MESSAGE_INIT(MESSAGE_PEER_KEY) };
        struct message_peer_key *key = &message.as_MESSAGE_PEER_KEY;
        struct err err;
        key->flags = i == 0 ? MESSAGE_KEYS_FIRST : 0;
        if (i < count) {
            snprintf(key->pop, sizeof key->pop, "%s", pops[i]);
            memset(key->key, pops[i][0], sizeof key->key);
        }
        if (channel_send(world->agent, &message, sizeof *key, NULL, 0, &err) < 0)
            fail_msg("%s", err.message);
    }
    /* Of a replica that it does not know it says at once that nothing is in it: it has the keys. */
    union message message = { .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    struct err err;
    message.as_MESSAGE_REPLICA_DRAIN.replica = 999;
    if (channel_send(world->agent, &message, message_size(MESSAGE_REPLICA_DRAIN), NULL, 0, &err) <
        0)
        fail_msg("%s", err.message);
    world_expect(world, true, MESSAGE_REPLICA_DRAINED, &message);
}
