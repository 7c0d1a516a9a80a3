/* SPDX-License-Identifier: Apache-2.0 */
/* Residency changes while requests are under way: at another PoP, or at an application here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/countries.h"
#include "base/err.h"
#include "gateway_tunnel.h"
#include "proto/hop.h"

#define ENDED                                                                                      \
    "perigee_requests_denied_total{project=\"default\",endpoint=\"digits\",reason=\"ended\"} "

struct stage {
    struct scene scene;
    struct peer own; /* this PoP's application */
    struct residency_rule rules[2];
};

/* `here`: processed in Germany, by this PoP; else in France, by way of it. `digits` is placed
 * wherever that may be by and by. */
static void stage_begin(struct stage *stage, bool here, enum peer_mode mode)
{
    peer_begin(&stage->own, mode);
    tunnel_target.port = stage->own.port;
    struct world_endpoint row =
        here ? tunnel_row(0, scene_at_all, 3) : tunnel_row(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
    stage->rules[0] = scene_rule_in(here ? "DE" : "FR", "DE");
    row.rules = stage->rules;
    row.rule_count = 1;
    scene_begin(&stage->scene, &row, mode, false);
}

static void stage_end(struct stage *stage)
{
    scene_end(&stage->scene);
    peer_end(&stage->own);
    tunnel_target.port = 1;
}

static bool peer_gone(struct world *world, void *data)
{
    struct peer *peer = data;
    (void)world;
    return atomic_load(&peer->gone) > 0;
}

static bool counted(struct world *world, void *data)
{
    return scene_counter(world, data);
}

static void expect_alive(int fd)
{
    tunnel_say(fd, "ping", 4);
    tunnel_expect(fd, "ping");
}

/* ---- tunnels -------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    bool here;
    const char *process, *transit; /* of the next table */
    bool moved;                    /* `other` stands in Japan by then */
    bool ends;
} tunnels[] = {
    { "as before", false, "FR", "DE", false, false },
    { "it may not pass here any more", false, "FR", NULL, false, true },
    { "nor be processed where it is", false, "JP", "DE", false, true },
    { "nor anywhere that there is", false, "CH", "DE", false, true },
    { "its PoP has moved", false, "FR", "DE", true, true },
    { "as before, here", true, "DE", NULL, false, false },
    { "elsewhere alone", true, "FR", "DE", false, true },
    { "nowhere that there is", true, "CH", NULL, false, true },
};
/* clang-format on */

static void test_tunnels(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof tunnels / sizeof *tunnels; i++) {
        struct stage stage;
        union message message;
        stage_begin(&stage, tunnels[i].here, PEER_TUNNELS);
        struct peer *peer = tunnels[i].here ? &stage.own : &stage.scene.other;
        int fds[] = { tunnel_open(&stage.scene.world), tunnel_open(&stage.scene.world) };
        print_message("  %s\n", tunnels[i].name);
        expect_alive(fds[0]);
        if (tunnels[i].moved)
            stage.scene.pops[1].country = country_number_of(SLICE("JP"));
        stage.rules[0] = scene_rule_in(tunnels[i].process, tunnels[i].transit);
        if (tunnels[i].ends) { /* the agent hears of it */
            world_table(&stage.scene.world, ++stage.scene.table, &stage.scene.row, 1);
            world_expect(&stage.scene.world, true, MESSAGE_DENIED, &message);
            assert_string_equal(message.as_MESSAGE_DENIED.reason, "ended");
        } else {
            scene_table(&stage.scene);
        }
        for (size_t k = 0; k < 2; k++) { /* the loops took turns */
            if (tunnels[i].ends) {
                tunnel_expect_end(fds[k]);
            } else {
                expect_alive(fds[k]);
                close(fds[k]);
            }
        }
        if (tunnels[i].ends) {
            assert_true(world_until(&stage.scene.world, peer_gone, peer));
            assert_true(world_until(&stage.scene.world, counted, ENDED "2"));
        } else {
            assert_false(scene_counter(&stage.scene.world, ENDED));
        }
        stage_end(&stage);
    }
}

/* It is not placed there any more, but may be there: that is no reason to cut it. */
static void test_one_whose_endpoint_moves(void **state)
{
    struct stage stage;
    (void)state;

    stage_begin(&stage, false, PEER_TUNNELS);
    int fd = tunnel_open(&stage.scene.world);
    stage.scene.row.placements = scene_at_both + 1;
    stage.scene.row.placement_count = 1;
    scene_table(&stage.scene);
    expect_alive(fd);
    close(fd);
    stage_end(&stage);
}

/* Of a client that another PoP speaks for. */
static int hop_open(struct world *world, const char *client)
{
    struct hop hop = { SLICE("other"), SLICE("local"), "", 0, SLICE("x"), {} };
    struct hop_request about = { SLICE("GET"), SLICE("/chat?a=b"), SLICE("default/digits"), {} };
    unsigned char key[HOP_KEY_BYTES];
    char value[HOP_BYTES_MAX], request[4096], head[4096];
    struct err err;

    memset(key, 'o', sizeof key);
    memcpy(hop.client, client, 3);
    assert_true(hop_print(&hop, &about, key, value, &err) > 0);
    snprintf(request, sizeof request, TUNNEL_ASK HOP_HEADER ": %s\r\n\r\n", value);
    int fd = tunnel_ask(world, request, head);
    assert_memory_equal(head, "HTTP/1.1 101 ", 13);
    return fd;
}

static void test_those_of_some_clients(void **state)
{
    struct stage stage;
    (void)state;

    stage_begin(&stage, true, PEER_TUNNELS);
    int french = hop_open(&stage.scene.world, "FR"), swiss = hop_open(&stage.scene.world, "CH");
    stage.rules[1] = stage.rules[0];
    stage.rules[0] = scene_rule_in("FR", NULL);
    stage.rules[0].clients = stage.rules[0].process;
    stage.scene.row.rule_count = 2;
    scene_table(&stage.scene);
    tunnel_expect_end(french);
    expect_alive(swiss);
    close(swiss);
    assert_true(world_until(&stage.scene.world, counted, ENDED "1"));
    stage_end(&stage);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    bool here;
    enum peer_mode mode; /* of who has it; `third`, in Japan, echoes */
    const char *method, *process;
    int status; /* 0: it had begun, and is cut */
    const char *part;
    unsigned third;
} requests[] = {
    { "an answer that has begun", false, PEER_STALLS, "GET", "JP", 0, NULL, 0 },
    { "one that is sent again", false, PEER_SILENT, "GET", "JP", 200, "Perigee-Pop: other", 1 },
    { "one that is not", false, PEER_SILENT, "POST", "JP", 502,
      "may have acted upon the request", 0 },
    { "one that nobody may have", false, PEER_SILENT, "GET", "CH", 451, "no PoP is permitted", 0 },
    { "an answer that has begun, here", true, PEER_STALLS, "GET", "FR", 0, NULL, 0 },
    { "one that may be asked for again", true, PEER_SILENT, "GET", "FR", 451,
      "rule 1 of its residency does not let it be processed at PoP 'local' (DE); "
      "permitted PoPs: other", 0 },
    { "one that may have been acted upon", true, PEER_SILENT, "POST", "FR", 502,
      "the replica may have acted upon the request", 0 },
};
/* clang-format on */

/* What PEER_STALLS says. */
static void part_read(int fd)
{
    char got[4096] = "";

    for (size_t used = 0; !strstr(got, "\r\n\r\nhalf"); used++)
        assert_true(used < sizeof got - 1 && recv(fd, got + used, 1, 0) == 1);
}

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct stage stage;
        char text[256];
        stage_begin(&stage, requests[i].here, requests[i].mode);
        struct scene *scene = &stage.scene;
        struct peer *peer = requests[i].here ? &stage.own : &scene->other;
        int fd = world_connect(&scene->world);
        print_message("  %s\n", requests[i].name);
        int size = snprintf(text, sizeof text,
                            "%s / HTTP/1.1\r\n" TUNNEL_HOST "Content-Length: 2\r\n\r\nhi",
                            requests[i].method);
        tunnel_say(fd, text, (size_t)size);
        assert_true(world_until(&scene->world, scene_asked, peer));
        if (requests[i].status == 0)
            part_read(fd);
        stage.rules[0] = scene_rule_in(requests[i].process, "DE");
        scene_table(scene);
        if (requests[i].status == 0) {
            tunnel_expect_end(fd);
        } else {
            struct reply reply = world_read(fd);
            if (reply.status != requests[i].status || !strstr(reply.text, requests[i].part))
                fail_msg("%s", reply.text);
            reply_free(&reply);
            close(fd);
        }
        assert_true(world_until(&scene->world, peer_gone, peer));
        assert_int_equal(atomic_load(&scene->third.requests), requests[i].third);
        if (requests[i].status == 200)
            assert_false(scene_counter(&scene->world, ENDED));
        else
            assert_true(world_until(&scene->world, counted, ENDED "1"));
        stage_end(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tunnels),
        cmocka_unit_test(test_one_whose_endpoint_moves),
        cmocka_unit_test(test_those_of_some_clients),
        cmocka_unit_test(test_requests),
    };
    return cmocka_run_group_tests_name("forward_law", tests, NULL, NULL);
}
