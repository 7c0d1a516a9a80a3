/* SPDX-License-Identifier: Apache-2.0 */
/* Upgrades that a gateway passes on, and the bytes of what follows them. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "gateway_tunnel.h"
#include "sys/shm.h"

/* ---- heads ---------------------------------------------------------------------------------- */

static void test_heads(void **state)
{
    static const char *const there[] = { "GET /chat?a=b HTTP/1.1\r\n",  "Connection: Upgrade\r\n",
                                         "Upgrade: websocket\r\n",      "Host: digits.localhost",
                                         "Sec-WebSocket-Key: mine\r\n", "; to=other; ",
                                         "Sec-WebSocket-Protocol: chat" };
    static const char *const back[] = {
        "HTTP/1.1 101 ",          "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n", "Sec-WebSocket-Accept: yes\r\n",
        "Perigee-Pop: other\r\n", "Server-Timing: infer;dur=1.000, net;dur="
    };
    struct scene scene;
    char head[4096];
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_ask(&scene.world, TUNNEL_ASK "Sec-WebSocket-Protocol: chat\r\n\r\n", head);
    for (size_t i = 0; i < sizeof back / sizeof *back; i++)
        if (!strstr(head, back[i]))
            fail_msg("%s: %s", back[i], head);
    for (size_t i = 0; i < sizeof there / sizeof *there; i++)
        if (!strstr(scene.other.request, there[i]))
            fail_msg("%s: %s", there[i], scene.other.request);
    assert_null(strcasestr(head, "Content-Length"));
    assert_null(strcasestr(scene.other.request, "keep-alive"));
    close(fd);
    scene_end(&scene);
}

/* What asks for another protocol, or for none as it should, is a request as any other. */
static void test_others_are_not_asked_for(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\n" TUNNEL_HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        "GET / HTTP/1.1\r\n" TUNNEL_HOST "Upgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\n" TUNNEL_HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Content-Length: 2\r\n\r\nhi",
    };
    struct scene scene;
    char head[4096];
    (void)state;

    tunnel_begin(&scene, PEER_ECHOES);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        close(tunnel_ask(&scene.world, requests[i], head));
        if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || strcasestr(scene.other.request, "Upgrade"))
            fail_msg("%s%s", head, scene.other.request);
    }
    scene_end(&scene);
}

/* An answer that is none to it is passed back as any, and the connection goes on. */
static void test_one_that_is_not_granted(void **state)
{
    struct scene scene;
    char head[4096];
    (void)state;

    tunnel_begin(&scene, PEER_ECHOES);
    int fd = tunnel_ask(&scene.world, TUNNEL_ASK "\r\n", head);
    assert_memory_equal(head, "HTTP/1.1 200 ", 13);
    assert_null(strcasestr(head, "Upgrade"));
    tunnel_say(fd, "GET /next HTTP/1.1\r\n" TUNNEL_HOST "\r\n",
               sizeof "GET /next HTTP/1.1\r\n" TUNNEL_HOST "\r\n" - 1);
    scene_expect(world_read(fd), 200, "Perigee-Pop: other");
    close(fd);
    scene_end(&scene);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void test_both_ways(void **state)
{
    struct scene scene;
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_open(&scene.world), other = tunnel_open(&scene.world);
    for (int i = 0; i < 100; i++) {
        tunnel_say(fd, "ping", 4);
        tunnel_say(other, "PONG", 4);
        tunnel_expect(other, "PONG");
        tunnel_expect(fd, "ping");
    }
    assert_true(scene_counter(&scene.world, "perigee_requests_forwarded_total{project=\"default\","
                                            "endpoint=\"digits\",reason=\"away\"} 2"));
    assert_true(
        scene_counter(&scene.world, "perigee_forwards_total{pop=\"other\",result=\"upgraded\"} 2"));
    close(fd);
    close(other);
    scene_end(&scene);
}

/* What the client sends along with its head is the tunnel's, once there is one. */
static void test_bytes_behind_the_head(void **state)
{
    struct scene scene;
    char head[4096];
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_ask(&scene.world, TUNNEL_ASK "\r\nearly", head);
    assert_memory_equal(head, "HTTP/1.1 101 ", 13);
    tunnel_expect(fd, "early");
    close(fd);
    scene_end(&scene);
}

static bool writable(int fd, int ms)
{
    struct pollfd poll_fd = { fd, POLLOUT, 0 };

    return poll(&poll_fd, 1, ms) == 1;
}

static char at(size_t index)
{
    return (char)('a' + index * 7919 % 26);
}

/* A client that does not read is not read from any more, and then gets all there is. */
static void test_back_pressure(void **state)
{
    enum { PART = 65536, BYTES = 128 << 20 };
    struct scene scene;
    char *part = mem_alloc(PART);
    size_t sent = 0, got = 0;
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_open(&scene.world);
    while (sent < BYTES && writable(fd, 300)) {
        for (size_t i = 0; i < PART; i++)
            part[i] = at(sent + i);
        ssize_t n = send(fd, part, PART, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
    }
    assert_in_range(sent, 1, BYTES / 2); /* kernels hold some 30 MB of it, ours 400 KB */
    while (got < sent) {
        ssize_t n = recv(fd, part, PART, 0);
        assert_true(n > 0);
        for (size_t i = 0; i < (size_t)n; i++)
            if (part[i] != at(got + i))
                fail_msg("byte %zu", got + i);
        got += (size_t)n;
    }
    free(part);
    close(fd);
    scene_end(&scene);
}

/* A client that sends no more still hears what the other side has to say. */
static void test_half_close(void **state)
{
    struct scene scene;
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_open(&scene.world);
    tunnel_say(fd, "last words", 10);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    tunnel_expect(fd, "last wordsbye");
    tunnel_expect_end(fd);
    assert_int_equal(atomic_load(&scene.other.gone), 1);
    scene_end(&scene);
}

static bool peer_gone(struct world *world, void *data)
{
    struct peer *peer = data;
    (void)world;
    return atomic_load(&peer->gone) > 0;
}

static void test_a_client_that_goes_away_ends_it(void **state)
{
    struct scene scene;
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_open(&scene.world);
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)), 0);
    close(fd); /* a reset */
    assert_true(world_until(&scene.world, peer_gone, &scene.other));
    scene_end(&scene);
}

/* A tunnel for whose bytes there is no memory is cut: nobody would begin to read it again. */
static void test_without_memory(void **state)
{
    struct scene scene;
    (void)state;

    scene_machine_bytes = 128 << 10;
    tunnel_begin(&scene, PEER_TUNNELS);
    scene_machine_bytes = 0;
    int fd = tunnel_open(&scene.world);
    tunnel_say(fd, "hello", 5);
    tunnel_expect_end(fd);
    assert_true(world_until(&scene.world, peer_gone, &scene.other));
    scene_end(&scene);
}

/* ---- its end -------------------------------------------------------------------------------- */

/* The other gateway ends what is silent; where it does not, this one does 5 s later. */
static void test_silence(void **state)
{
    struct scene scene;
    struct world_endpoint row = tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_other, 1);
    (void)state;

    row.timeout_ms = 100;
    scene_begin(&scene, &row, PEER_MUTE, false);
    tunnel_expect_end(tunnel_open(&scene.world));
    scene_end(&scene);
}

struct down {
    struct scene *scene;
    int fd;
};

/* The mesh is always fresh. */
static bool down_cut(struct world *world, void *data)
{
    static const struct scene_figures down[] = { { "other", MESH_DOWN, 1, 0, 0 } };
    const struct down *at = data;
    char byte;
    (void)world;

    scene_mesh(at->scene, down, 1);
    ssize_t n = recv(at->fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void test_a_pop_that_is_down_ends_it(void **state)
{
    struct scene scene;
    struct down at = { &scene, -1 };
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    at.fd = tunnel_open(&scene.world);
    assert_true(world_until(&scene.world, down_cut, &at));
    assert_true(
        scene_counter(&scene.world, "perigee_forwards_total{pop=\"other\",result=\"broken\"} 1"));
    close(at.fd);
    scene_end(&scene);
}

struct speech {
    struct down silent; /* a tunnel in which nobody speaks */
    int fd;             /* one in which the client does */
};

static bool silent_cut(struct world *world, void *data)
{
    const struct speech *speech = data;

    tunnel_say(speech->fd, "a", 1);
    return down_cut(world, (void *)(uintptr_t)&speech->silent);
}

/* The other PoP counts as down, and yet its kernel takes what the client says: it is there. */
static void test_a_pop_that_takes_what_is_said_is_not_down(void **state)
{
    struct scene scene;
    struct speech speech = { .silent = { &scene, -1 } };
    char byte;
    (void)state;

    tunnel_begin(&scene, PEER_MUTE);
    speech.silent.fd = tunnel_open(&scene.world);
    speech.fd = tunnel_open(&scene.world);
    assert_true(world_until(&scene.world, silent_cut, &speech));
    close(speech.silent.fd);
    tunnel_say(speech.fd, "b", 1);
    assert_int_equal(recv(speech.fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    speech.silent.fd = speech.fd; /* and by and by this one */
    assert_true(world_until(&scene.world, down_cut, &speech.silent));
    close(speech.fd);
    scene_end(&scene);
}

/* A gateway that is to end lets tunnels be for as long as it was told. */
static void test_a_drain_ends_it(void **state)
{
    struct scene scene;
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_open(&scene.world);
    tunnel_say(fd, "ping", 4);
    tunnel_expect(fd, "ping");
    scene_end(&scene);
    tunnel_expect_end(fd);
}

/* ---- how many ------------------------------------------------------------------------------- */

enum { HALL_SEATS = 480 }; /* half of what two PoPs may have under way */

/* A PoP with more connections than a thread each is right for: 101 to all who upgrade, else 200. */
struct hall {
    pthread_t thread;
    _Atomic bool stop;
    int listener, fds[HALL_SEATS + 16];
    unsigned count;
    uint16_t port;
};

static void hall_serve(struct hall *hall, int fd)
{
    static const char granted[] = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\n\r\n";
    static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                                "Connection: close\r\n\r\nplain";
    char head[4096] = "";

    for (size_t used = 0; !strstr(head, "\r\n\r\n");) {
        ssize_t n = recv(fd, head + used, sizeof head - 1 - used, 0);
        assert_true(n > 0);
        used += (size_t)n;
    }
    bool upgrades = strstr(head, "Upgrade: websocket");
    tunnel_say(fd, upgrades ? granted : plain, upgrades ? sizeof granted - 1 : sizeof plain - 1);
    if (!upgrades) {
        close(fd);
        return;
    }
    assert_true(hall->count < HALL_SEATS + 16);
    hall->fds[hall->count++] = fd;
}

static void *hall_run(void *data)
{
    struct hall *hall = data;
    struct pollfd poll_fd = { hall->listener, POLLIN, 0 };

    while (!atomic_load(&hall->stop))
        if (poll(&poll_fd, 1, 20) == 1)
            hall_serve(hall, accept4(hall->listener, NULL, NULL, SOCK_CLOEXEC));
    for (unsigned i = 0; i < hall->count; i++)
        close(hall->fds[i]);
    close(hall->listener);
    return NULL;
}

static void hall_begin(struct hall *hall)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof in;

    hall->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(hall->listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(hall->listener, 64), 0);
    getsockname(hall->listener, (struct sockaddr *)&in, &size);
    hall->port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&hall->thread, NULL, hall_run, hall), 0);
}

static void hall_end(struct hall *hall)
{
    atomic_store(&hall->stop, true);
    pthread_join(hall->thread, NULL);
}

/* Tunnels last: they leave the other requests between two PoPs their connections. */
static void test_tunnels_leave_room_for_others(void **state)
{
    static const char plain[] = "GET / HTTP/1.1\r\n" TUNNEL_HOST "\r\n";
    struct rlimit limit;
    struct scene scene;
    struct hall hall = {};
    int fds[HALL_SEATS];
    char head[4096];
    (void)state;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 4 * HALL_SEATS + 256)
        skip();
    hall_begin(&hall);
    tunnel_begin(&scene, PEER_TUNNELS);
    scene.pops[1].port = hall.port;
    scene_table(&scene);
    for (size_t i = 0; i < HALL_SEATS; i++) /* the loops take turns */
        fds[i] = tunnel_open(&scene.world);
    for (int i = 0; i < WORLD_LOOPS; i++) {
        close(tunnel_ask(&scene.world, TUNNEL_ASK "\r\n", head));
        assert_memory_equal(head, "HTTP/1.1 503 ", 13);
        scene_expect(world_ask(&scene.world, plain, sizeof plain - 1), 200, "plain");
    }
    for (size_t i = 0; i < HALL_SEATS; i++)
        close(fds[i]);
    scene_end(&scene);
    hall_end(&hall);
}

/* ---- who hears of it ------------------------------------------------------------------------ */

static bool decision_kept(struct world *world, void *data)
{
    struct decision_record *record = data;
    void *memory;
    struct err err;

    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &memory, &err), 0);
    bool found = gateway_decision_find(memory, gateway_region_bytes(), SLICE("tunnel-1"), record);
    shm_unmap(memory, gateway_region_bytes());
    return found;
}

static bool has_ended(struct world *world, void *data)
{
    (void)data;
    return scene_counter(world, "perigee_requests_total{project=\"default\",endpoint=\"digits\","
                                "code=\"101\"} 2");
}

/* Bytes are counted as usage where they are served: one here, and then one elsewhere. */
static void test_usage(void **state)
{
    struct scene scene;
    struct peer own;
    struct err err;
    void *memory;
    (void)state;

    peer_begin(&own, PEER_TUNNELS);
    tunnel_target.port = own.port;
    struct world_endpoint row = tunnel_row(0, scene_at_all, 2);
    scene_begin(&scene, &row, PEER_TUNNELS, false);
    for (int i = 0; i < 2; i++) {
        int fd = tunnel_open(&scene.world);
        tunnel_say(fd, "ping", 4);
        shutdown(fd, SHUT_WR);
        tunnel_expect(fd, "pingbye");
        tunnel_expect_end(fd);
        scene.pops[0].flags |= TABLE_POP_DRAINING;
        scene_table(&scene);
    }
    assert_true(world_until(&scene.world, has_ended, NULL));
    assert_int_equal(shm_map(scene.world.metrics_fd, gateway_region_bytes(), false, &memory, &err),
                     0);
    const struct gateway_stats *stats =
        gateway_stats_find(memory, gateway_region_bytes(), WORLD_REVISION(0, 1));
    assert_non_null(stats);
    assert_int_equal(atomic_load(&stats->success), 1);
    assert_int_equal(atomic_load(&stats->bytes_in), 4);
    assert_int_equal(atomic_load(&stats->bytes_out), 7);
    shm_unmap(memory, gateway_region_bytes());
    assert_int_equal(atomic_load(&scene.other.requests), 1);
    scene_end(&scene);
    peer_end(&own);
    tunnel_target.port = 1;
}

/* From its beginning, however long it lasts. */
static void test_where_it_went_is_kept(void **state)
{
    struct scene scene;
    struct decision_record record;
    char head[4096];
    (void)state;

    tunnel_begin(&scene, PEER_TUNNELS);
    int fd = tunnel_ask(&scene.world, TUNNEL_ASK "X-Request-Id: tunnel-1\r\n\r\n", head);
    assert_true(world_until(&scene.world, decision_kept, &record));
    assert_int_equal(record.status, 101);
    assert_string_equal(record.chosen, "other");
    assert_string_equal(record.why, "away");
    close(fd);
    scene_end(&scene);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_others_are_not_asked_for),
        cmocka_unit_test(test_one_that_is_not_granted),
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_bytes_behind_the_head),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_a_client_that_goes_away_ends_it),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_a_pop_that_is_down_ends_it),
        cmocka_unit_test(test_a_pop_that_takes_what_is_said_is_not_down),
        cmocka_unit_test(test_a_drain_ends_it),
        cmocka_unit_test(test_tunnels_leave_room_for_others),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_where_it_went_is_kept),
    };
    return cmocka_run_group_tests_name("forward_tunnel", tests, NULL, NULL);
}
