/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of applications that are passed on, WebSockets above all: whom they are asked of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/countries.h"
#include "base/err.h"
#include "gateway_tunnel.h"
#include "proto/hop.h"

/* ---- whom it is asked of -------------------------------------------------------------------- */

struct
try {
    const char *name, *method; /* NULL: a tunnel */
    enum peer_mode mode;       /* of `other`, which is nearer than `third` */
    int status;
    const char *counter;
};

/* The status, and what came. */
static int tunnel_tried(struct scene *scene, char text[static 4096])
{
    close(tunnel_ask(&scene->world, TUNNEL_ASK "\r\n", text));
    return (int)strtol(text + 9, NULL, 10);
}

static int method_tried(struct scene *scene, const char *method, char text[static 4096])
{
    char request[256];
    atomic_store(&scene->third.mode, PEER_ECHOES);
    int size = snprintf(request, sizeof request,
                        "%s / HTTP/1.1\r\n" TUNNEL_HOST "Content-Length: 2\r\n\r\nhi", method);
    struct reply reply = world_ask(&scene->world, request, (size_t)size);
    int status = reply.status;
    (void)snprintf(text, 4096, "%s", reply.text);
    reply_free(&reply);
    return status;
}

/* Whom it was asked of: of `third` only where that one's answer is the client's. */
static void tries_run(const struct try *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct try *row = &rows[i];
        struct scene scene;
        char text[4096];
        tunnel_begin_both(&scene, row->mode);
        int status =
            row->method ? method_tried(&scene, row->method, text) : tunnel_tried(&scene, text);
        unsigned third = atomic_load(&scene.third.requests);
        if (status != row->status || third != (status == (row->method ? 200 : 101)) ||
            atomic_load(&scene.other.requests) != 1 || !scene_counter(&scene.world, row->counter))
            fail_msg("%s: %u there, %s", row->name, third, text);
        scene_end(&scene);
    }
}

static void test_tries(void **state)
{
    /* clang-format off */
    static const struct try rows[] = {
        { "refused before anything ran", NULL, PEER_REFUSES, 101,
          "perigee_forward_retries_total{result=\"elsewhere\"} 1" },
        { "with another key", NULL, PEER_KEYLESS, 101,
          "perigee_forward_retries_total{result=\"elsewhere\"} 1" },
        { "sent, and closed", NULL, PEER_CLOSES, 502,
          "perigee_forward_retries_total{result=\"unsafe\"} 1" },
        { "a fault is an answer", NULL, PEER_FAILS, 500,
          "perigee_forwards_total{pop=\"other\",result=\"answered\"} 1" },
    };
    /* clang-format on */
    (void)state;
    tries_run(rows, sizeof rows / sizeof *rows);
}

/* What an application may have acted upon is not sent to another one's. */
static void test_methods(void **state)
{
    static const struct try rows[] = {
        { "read", "GET", PEER_CLOSES, 200, "retries_total{result=\"elsewhere\"} 1" },
        { "put", "PUT", PEER_CLOSES, 200, "retries_total{result=\"elsewhere\"} 1" },
        { "sent", "POST", PEER_CLOSES, 502, "retries_total{result=\"unsafe\"} 1" },
        { "changed", "PATCH", PEER_CLOSES, 502, "retries_total{result=\"unsafe\"} 1" },
        { "sent, and refused before anything ran", "POST", PEER_REFUSES, 200,
          "retries_total{result=\"elsewhere\"} 1" },
    };
    (void)state;
    tries_run(rows, sizeof rows / sizeof *rows);
}

static void test_where_no_connection_is_made(void **state)
{
    struct scene scene;
    (void)state;

    tunnel_begin_both(&scene, PEER_TUNNELS);
    scene.pops[1].port = 1;
    scene_table(&scene);
    int fd = tunnel_open(&scene.world);
    assert_int_equal(atomic_load(&scene.third.requests), 1);
    close(fd);
    scene_end(&scene);
}

/* It was sent, and its PoP is down: nobody else is asked. */
static void test_one_that_waits_for_a_pop_that_is_down(void **state)
{
    static const struct scene_figures down[] = { { "other", MESH_DOWN, 1, 0, 0 },
                                                 { "third", MESH_UP, 50, 0, 0 } };
    struct scene scene;
    (void)state;

    tunnel_begin_both(&scene, PEER_SILENT);
    int fd = world_connect(&scene.world);
    tunnel_say(fd, TUNNEL_ASK "Perigee-Timeout: 2s\r\n\r\n",
               sizeof TUNNEL_ASK "Perigee-Timeout: 2s\r\n\r\n" - 1);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    scene_mesh(&scene, down, 2);
    scene_expect(world_read(fd), 504, "deadline passed at PoP 'other'");
    assert_int_equal(atomic_load(&scene.third.requests), 0);
    close(fd);
    scene_end(&scene);
}

static void test_residency(void **state)
{
    struct scene scene;
    struct residency_rule rule = scene_rule_in("FR", NULL);
    struct world_endpoint row = tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_other, 1);
    char head[4096];
    (void)state;

    row.rules = &rule;
    row.rule_count = 1;
    scene_begin(&scene, &row, PEER_TUNNELS, false);
    int fd = tunnel_ask(&scene.world, TUNNEL_ASK "\r\nsecret", head);
    assert_memory_equal(head, "HTTP/1.1 451 ", 13);
    assert_non_null(strstr(head, "Connection: close\r\n"));
    close(fd);
    assert_int_equal(atomic_load(&scene.other.connections), 0);
    rule = scene_rule_in("FR", "DE"); /* it may pass here */
    scene_table(&scene);
    close(tunnel_open(&scene.world));
    assert_true(scene_counter(&scene.world, "reason=\"place\"} 1"));
    scene_end(&scene);
}

/* Nothing it could go to is ready here; that is waited for while it is thought to be shorter. */
static void test_cold(void **state)
{
    static const struct scene_figures near[] = { { "local", MESH_UP, 0, 0, 20 },
                                                 { "other", MESH_UP, 100, 0, 0 } };
    static const struct scene_figures far[] = { { "local", MESH_UP, 0, 0, 20 },
                                                { "other", MESH_UP, 60'000, 0, 0 } };
    struct scene scene;
    struct peer own;
    (void)state;

    peer_begin(&own, PEER_TUNNELS);
    tunnel_target.port = own.port;
    tunnel_target.flags = 0;
    struct world_endpoint row = tunnel_row(0, scene_at_all, 2);
    scene_begin(&scene, &row, PEER_TUNNELS, false);
    scene_mesh(&scene, near, 2);
    int fd = tunnel_open(&scene.world);
    assert_int_equal(atomic_load(&scene.other.requests), 1);
    close(fd);
    scene_mesh(&scene, far, 2);
    fd = world_connect(&scene.world);
    tunnel_say(fd, TUNNEL_ASK "\r\n", sizeof TUNNEL_ASK "\r\n" - 1);
    world_pass(&scene.world);
    tunnel_target.flags = TABLE_TARGET_READY;
    scene_table(&scene);
    struct reply reply = world_read(fd);
    scene_expect(reply, 101, "Perigee-Pop: local");
    assert_int_equal(atomic_load(&scene.other.requests), 1);
    close(fd);
    scene_end(&scene);
    peer_end(&own);
    tunnel_target.port = 1;
}

/* This PoP has it, and drains: others have what is new. */
static void test_draining(void **state)
{
    struct scene scene;
    struct peer own;
    char head[4096];
    (void)state;

    peer_begin(&own, PEER_TUNNELS);
    tunnel_target.port = own.port;
    struct world_endpoint row = tunnel_row(0, scene_at_all, 2);
    scene_begin(&scene, &row, PEER_TUNNELS, false);
    close(tunnel_ask(&scene.world, TUNNEL_ASK "\r\n", head));
    assert_non_null(strstr(head, "Perigee-Pop: local"));
    scene.pops[0].flags |= TABLE_POP_DRAINING;
    scene_table(&scene);
    close(tunnel_ask(&scene.world, TUNNEL_ASK "\r\n", head));
    assert_non_null(strstr(head, "Perigee-Pop: other"));
    atomic_store(&scene.other.mode, PEER_REFUSES); /* and this one where they have no place */
    close(tunnel_ask(&scene.world, TUNNEL_ASK "\r\n", head));
    assert_memory_equal(head, "HTTP/1.1 101 ", 13);
    assert_non_null(strstr(head, "Perigee-Pop: local"));
    scene_end(&scene);
    peer_end(&own);
    tunnel_target.port = 1;
}
/* ---- what another PoP passed on ------------------------------------------------------------- */

static int hop_ask(struct world *world, char head[static 4096])
{
    struct hop hop = { SLICE("other"), SLICE("local"), "FR", 0, SLICE("x"), {} };
    struct hop_request about = { SLICE("GET"), SLICE("/chat?a=b"), SLICE("default/digits"), {} };
    unsigned char key[HOP_KEY_BYTES];
    char value[HOP_BYTES_MAX], request[4096];
    struct err err;

    memset(key, 'o', sizeof key);
    assert_true(hop_print(&hop, &about, key, value, &err) > 0);
    snprintf(request, sizeof request, TUNNEL_ASK HOP_HEADER ": %s\r\n\r\n", value);
    return tunnel_ask(world, request, head);
}

static void test_hops(void **state)
{
    struct scene scene;
    struct peer own;
    char head[4096];
    (void)state;

    peer_begin(&own, PEER_TUNNELS);
    tunnel_target.port = own.port;
    struct world_endpoint row = tunnel_row(0, scene_at_all, 2);
    scene_begin(&scene, &row, PEER_TUNNELS, false);
    int fd = hop_ask(&scene.world, head);
    assert_memory_equal(head, "HTTP/1.1 101 ", 13);
    assert_non_null(strstr(head, "Perigee-Pop: local"));
    assert_non_null(strstr(head, "hop;dur="));
    assert_null(strstr(own.request, "Perigee-"));
    tunnel_say(fd, "ping", 4);
    tunnel_expect(fd, "ping");
    close(fd);
    scene.row = tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_both, 2); /* it goes no further */
    scene_table(&scene);
    close(hop_ask(&scene.world, head));
    assert_memory_equal(head, "HTTP/1.1 503 ", 13);
    assert_int_equal(atomic_load(&scene.other.connections), 0);
    scene_end(&scene);
    peer_end(&own);
    tunnel_target.port = 1;
}

/* ---- without memory ------------------------------------------------------------------------- */

static bool peer_connected(struct world *world, void *data)
{
    struct peer *peer = data;
    (void)world;
    return atomic_load(&peer->connections) > 0;
}

/* Half of a body has come when there is no memory for more. Another PoP is asked only where the
 * application cannot have acted upon what it had. */
static void test_without_memory(void **state)
{
    static const struct {
        const char *method;
        bool here; /* the application, else at the other PoP */
        int status;
        const char *error;
    } rows[] = {
        { "POST", true, 502, "Perigee-Error: replica_died\r\n" },
        { "PATCH", true, 502, "may have acted upon the request" },
        { "PUT", true, 503, "Perigee-Error: overloaded\r\n" },
        { "POST", false, 502, "may have acted upon the request" },
        { "PUT", false, 503, "Perigee-Error: overloaded\r\n" },
    };
    enum { BYTES = 200'000, FIRST = 20'000 };
    static char body[BYTES];
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct scene scene;
        struct peer own;
        char head[1024];
        peer_begin(&own, PEER_SILENT);
        tunnel_target.port = own.port;
        scene_machine_bytes = 512 << 10; /* 64 KiB of it for requests */
        struct world_endpoint row = rows[i].here
                                        ? tunnel_row(0, scene_at_all, 2)
                                        : tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_other, 1);
        scene_begin(&scene, &row, rows[i].here ? PEER_ECHOES : PEER_SILENT, false);
        scene_machine_bytes = 0;
        int fd = world_connect(&scene.world);
        int size = snprintf(head, sizeof head,
                            "%s / HTTP/1.1\r\n" TUNNEL_HOST "Content-Length: %d\r\n\r\n",
                            rows[i].method, BYTES);
        tunnel_say(fd, head, (size_t)size);
        tunnel_say(fd, body, FIRST);
        assert_true(world_until(&scene.world, peer_connected, rows[i].here ? &own : &scene.other));
        world_pass(&scene.world); /* and it has that */
        tunnel_say(fd, body, BYTES - FIRST);
        struct reply reply = world_read(fd);
        if (reply.status != rows[i].status || !strstr(reply.text, rows[i].error))
            fail_msg("%s: %s", rows[i].method, reply.text);
        reply_free(&reply);
        close(fd);
        scene_end(&scene);
        peer_end(&own);
    }
    tunnel_target.port = 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tries),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_where_no_connection_is_made),
        cmocka_unit_test(test_one_that_waits_for_a_pop_that_is_down),
        cmocka_unit_test(test_residency),
        cmocka_unit_test(test_cold),
        cmocka_unit_test(test_draining),
        cmocka_unit_test(test_hops),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests_name("forward_app", tests, NULL, NULL);
}
