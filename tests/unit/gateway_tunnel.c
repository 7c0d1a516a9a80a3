/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_tunnel.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"

struct table_target tunnel_target = { .id = 7, .flags = TABLE_TARGET_READY };

struct world_endpoint tunnel_row(uint32_t state, const struct table_source_placement *placed,
                                 size_t count)
{
    struct world_endpoint row = scene_endpoint(state, placed, count);

    assert_true(ip_parse(SLICE("127.0.0.1"), &tunnel_target.ip));
    tunnel_target.port = tunnel_target.port ? tunnel_target.port : 1;
    row.targets = &tunnel_target;
    row.target_count = 1;
    row.timeout_ms = row.queue_timeout_ms = row.queue_cold_ms = 60'000;
    return row;
}

void tunnel_begin(struct scene *scene, enum peer_mode mode)
{
    struct world_endpoint row = tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_other, 1);

    scene_begin(scene, &row, mode, false);
}

void tunnel_begin_both(struct scene *scene, enum peer_mode other)
{
    static const struct scene_figures figures[] = { { "other", MESH_UP, 1, 0, 0 },
                                                    { "third", MESH_UP, 50, 0, 0 } };
    struct world_endpoint row = tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_both, 2);

    scene_begin(scene, &row, other, false);
    atomic_store(&scene->third.mode, PEER_TUNNELS);
    scene_mesh(scene, figures, 2);
}

void tunnel_say(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        data += n;
        size -= (size_t)n;
    }
}

int tunnel_ask(struct world *world, const char *request, char head[static 4096])
{
    int fd = world_connect(world);
    size_t used = 0;

    tunnel_say(fd, request, strlen(request));
    for (*head = '\0'; !strstr(head, "\r\n\r\n"); head[used] = '\0') {
        assert_true(used < 4095);
        if (recv(fd, head + used, 1, 0) != 1)
            break;
        used++;
    }
    return fd;
}

int tunnel_open(struct world *world)
{
    char head[4096];
    int fd = tunnel_ask(world, TUNNEL_ASK "\r\n", head);

    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0)
        fail_msg("%s", head);
    return fd;
}

void tunnel_expect(int fd, const char *text)
{
    char got[256];
    size_t size = strlen(text);

    assert_int_equal(recv(fd, got, size, MSG_WAITALL), size);
    assert_memory_equal(got, text, size);
}

void tunnel_expect_end(int fd)
{
    char byte;

    errno = 0;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    assert_int_not_equal(errno, EAGAIN);
    close(fd);
}
