/* SPDX-License-Identifier: Apache-2.0 */
/* Which PoP a gateway passes a request to, when it serves it, and what others pass to it. */
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/countries.h"
#include "base/err.h"
#include "contract/mesh.h"
#include "contract/peer_load.h"
#include "gateway_scene.h"
#include "policy/route.h"
#include "proto/hop.h"

/* ---- here again ----------------------------------------------------------------------------- */

/* This PoP has a replica and drains: it passes on while others answer, else it serves. */
static void test_here_again(void **state)
{
    static const size_t at_two = 2;
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, at_two);
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, true);
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: local");
    scene.pops[0].flags |= TABLE_POP_DRAINING;
    scene_table(&scene);
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
    atomic_store(&scene.other.mode, PEER_CLOSES);
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: local");
    assert_true(scene_counter(&scene.world, "perigee_forward_retries_total{result=\"here\"} 1"));
    scene_end(&scene);
}

/* A PoP leaves the table while its answer is still on its way to the client. */
static void test_a_pop_that_is_forgotten(void **state)
{
    struct scene scene;
    char *body = mem_zalloc(10 << 20), head[128];
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    int fd = world_connect(&scene.world);
    int size = snprintf(
        head, sizeof head,
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: %d\r\n\r\n", 10 << 20);
    assert_int_equal(send(fd, head, (size_t)size, MSG_NOSIGNAL), size);
    for (size_t at = 0; at < 10 << 20;) {
        ssize_t n = send(fd, body + at, (10 << 20) - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
    free(body);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    scene.pops[1] = scene.pops[2]; /* local and third are left */
    scene.world.pop_count = 2;
    scene.row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
    scene_table(&scene);
    for (int i = 0; i < 2 * WORLD_LOOPS; i++) /* each loop goes by the new table */
        scene_expect(world_infer(&scene.world, "", BODY), 200, NULL);
    struct reply reply = world_read(fd);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    close(fd);
    scene_end(&scene);
}

/* Cold here: others answer, the agent hears that somebody came, and no more once it is warm. */
static void test_cold(void **state)
{
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    union message message;
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, false);
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
    world_expect(&scene.world, true, MESSAGE_DEMAND, &message);
    assert_int_equal(message.as_MESSAGE_DEMAND.revision, WORLD_REVISION(0, 1));
    assert_int_equal(message.as_MESSAGE_DEMAND.waiting, 1);
    fake_start(&scene.world, &scene.fake, 7, WORLD_REVISION(0, 1), 2);
    world_expect(&scene.world, true, MESSAGE_REPLICA_READY, &message);
    world_pass(&scene.world);
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: local");
    scene_end(&scene);
}

/* It starts sooner than another could answer, and is waited for; but not when it has not come: who
 * waits for it, and who comes then, goes to the other. */
static void test_cold_for_longer_than_thought(void **state)
{
    static const struct scene_figures figures[] = { { "local", MESH_UP, 0, 0, 20 },
                                                    { "other", MESH_UP, 100, 0, 0 } };
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, false);
    scene_mesh(&scene, figures, 2);
    for (unsigned i = 0; i < 2; i++) {
        scene_expect(world_infer(&scene.world, "Perigee-Timeout: 20s\r\n", BODY), 200,
                     "Perigee-Pop: other");
        scene_mesh(&scene, figures, 2);
        scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
        fake_start(&scene.world, &scene.fake, 7 + i, WORLD_REVISION(0, 1), 2);
        union message message;
        world_expect(&scene.world, true, MESSAGE_REPLICA_READY, &message);
        world_pass(&scene.world);
        scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: local");
        fake_exit(&scene.world, &scene.fake);
        world_pass(&scene.world);
    }
    scene_end(&scene);
}

/* Nobody has said how long a start takes here: as long as the last one elsewhere. With another one
 * that is nearer than that, it goes there; else it is waited for. */
static void test_cold_and_started_elsewhere_before(void **state)
{
    const struct {
        float last_ms;
        const char *answered;
    } rows[] = { { 0, "Perigee-Pop: other" }, { 20, "Perigee-Pop: local" } };
    static const char request[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 78\r\n\r\n" BODY;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct scene_figures figures[] = {
            { "local", MESH_UP, 0, 0, NAN, 0 },
            { "other", MESH_UP, ROUTE_START_MS - 200, 0, 0, rows[i].last_ms },
        };
        struct scene scene;
        struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
        union message message;

        row.timeout_ms = row.queue_cold_ms = 60'000;
        scene_begin(&scene, &row, PEER_ECHOES, false);
        scene_mesh(&scene, figures, 2);
        int fd = world_connect(&scene.world);
        assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
        world_expect(&scene.world, true, MESSAGE_DEMAND, &message);
        fake_start(&scene.world, &scene.fake, 7, WORLD_REVISION(0, 1), 2);
        scene_expect(world_read(fd), 200, rows[i].answered);
        close(fd);
        scene_end(&scene);
    }
}

/* It would be waited for, but as many as may wait already do. */
static void test_cold_and_full(void **state)
{
    static const struct scene_figures figures[] = { { "local", MESH_UP, 0, 0, 20 },
                                                    { "other", MESH_UP, 100'000, 0, 0 } };
    static const char request[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 78\r\n\r\n" BODY;
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    union message message;
    (void)state;

    row.queue_depth = 1;
    row.timeout_ms = row.queue_cold_ms = 60'000;
    scene_begin(&scene, &row, PEER_ECHOES, false);
    scene_mesh(&scene, figures, 2);
    int fd = world_connect(&scene.world);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    world_expect(&scene.world, true, MESSAGE_DEMAND, &message); /* it waits */
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
    fake_start(&scene.world, &scene.fake, 7, WORLD_REVISION(0, 1), 2);
    scene_expect(world_read(fd), 200, "Perigee-Pop: local");
    close(fd);
    scene_end(&scene);
}

/* It comes in time: whatever the body looks like, and tables come meanwhile, it is served here. */
static void test_cold_and_served_here(void **state)
{
    static const struct scene_figures figures[] = { { "local", MESH_UP, 0, 0, 20 },
                                                    { "other", MESH_UP, 60'000, 0, 0 } };
    static const char *const requests[] = {
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 78\r\n\r\n" BODY,
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
        "Transfer-Encoding: chunked\r\n\r\n4e\r\n" BODY "\r\n0\r\n\r\n",
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
        "Inference-Header-Content-Length: 0\r\nContent-Length: 16\r\n\r\n0123456789abcdef",
    };
    enum { REQUESTS = sizeof requests / sizeof *requests };
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    int fds[REQUESTS];
    union message message;
    (void)state;

    row.queue_cold_ms = row.queue_timeout_ms = row.timeout_ms = 60'000;
    scene_begin(&scene, &row, PEER_ECHOES, false);
    scene_mesh(&scene, figures, 2);
    for (size_t i = 0; i < REQUESTS; i++) {
        fds[i] = world_connect(&scene.world);
        size_t size = strlen(requests[i]);
        assert_int_equal(send(fds[i], requests[i], size, MSG_NOSIGNAL), size);
    }
    world_await_waiting(&scene.world, WORLD_REVISION(0, 1), REQUESTS);
    world_keys(&scene.world, (const char *const[]){ "other", "third" }, 2);
    scene_mesh(&scene, figures, 2);
    fake_start(&scene.world, &scene.fake, 7, WORLD_REVISION(0, 1), 2);
    world_expect(&scene.world, true, MESSAGE_REPLICA_READY, &message);
    for (size_t i = 0; i < REQUESTS; i++) {
        struct reply reply = world_read(fds[i]);
        case_answer(&reply, 200, "Perigee-Pop: local");
        assert_non_null(strstr(reply.text, "Server-Timing: cold;dur="));
        reply_free(&reply);
        close(fds[i]);
    }
    assert_int_equal(atomic_load(&scene.other.requests), 0);
    scene_end(&scene);
}

/* What it may not any more when the time has come to look, it does not. */
static void test_cold_and_denied_elsewhere(void **state)
{
    static const struct scene_figures figures[] = { { "local", MESH_UP, 0, 0, 20 },
                                                    { "other", MESH_UP, 400, 0, 0 } };
    static const char request[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 78\r\n\r\n" BODY;
    struct residency_rule here = scene_rule_in("DE", NULL);
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    (void)state;

    row.queue_cold_ms = 1500;
    scene_begin(&scene, &row, PEER_ECHOES, false);
    scene_mesh(&scene, figures, 2);
    int fd = world_connect(&scene.world);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    world_pass(&scene.world);
    scene.row.rules = &here;
    scene.row.rule_count = 1;
    scene_table(&scene);
    scene_expect(world_read(fd), 504, "within queue.cold");
    close(fd);
    assert_int_equal(atomic_load(&scene.other.requests), 0);
    scene_end(&scene);
}

/* ---- by the mesh ---------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    struct scene_figures figures[2];
    const char *pop; /* that answers; NULL: none can */
} meshes[] = {
    { "the nearer one", { { "other", MESH_UP, 50, 0, 0 }, { "third", MESH_UP, 5, 0, 0 } }, "third" },
    { "not the one that is down", { { "other", MESH_UP, 50, 0, 0 }, { "third", MESH_DOWN, 5, 0, 0 } },
      "other" },
    { "not the one that drains", { { "other", MESH_UP, 50, 0, 0 },
      { "third", MESH_DRAINING, 5, 0, 0 } }, "other" },
    { "not the one that starts", { { "other", MESH_UP, 50, 0, 0 }, { "third", MESH_UP, 5, 0, 900 } },
      "other" },
    { "one that starts, before none", { { "other", MESH_DOWN, 50, 0, 0 },
      { "third", MESH_UP, 5, 0, 900 } }, "third" },
    { "one that has no room, before none", { { "other", MESH_DOWN, 50, 0, 0 },
      { "third", MESH_UP, 5, INFINITY, 0 } }, "third" },
    { "both are down", { { "other", MESH_DOWN, 50, 0, 0 }, { "third", MESH_DOWN, 5, 0, 0 } }, NULL },
};
/* clang-format on */

static void test_mesh(void **state)
{
    struct scene scene;
    struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, false);
    for (size_t i = 0; i < sizeof meshes / sizeof *meshes; i++) {
        unsigned before = atomic_load(&scene.third.requests);
        scene_mesh(&scene, meshes[i].figures, 2);
        struct reply reply = world_infer(&scene.world, "", BODY);
        bool third = atomic_load(&scene.third.requests) > before;
        if (reply.status != (meshes[i].pop ? 200 : 503) ||
            (meshes[i].pop && third != (strcmp(meshes[i].pop, "third") == 0)))
            fail_msg("%s: %s", meshes[i].name, reply.text);
        reply_free(&reply);
    }
    scene_end(&scene);
}

/* It has a request and says nothing; the mesh finds it down: another one answers. */
static void test_a_silent_pop_that_is_down_is_given_up(void **state)
{
    static const struct scene_figures up[] = { { "other", MESH_UP, 1, 0, 0 },
                                               { "third", MESH_UP, 50, 0, 0 } };
    static const struct scene_figures down[] = { { "other", MESH_DOWN, 1, 0, 0 },
                                                 { "third", MESH_UP, 50, 0, 0 } };
    static const char request[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 2\r\n\r\n{}";
    struct scene scene;
    struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
    (void)state;

    row.timeout_ms = row.queue_cold_ms = 60'000;
    scene_begin(&scene, &row, PEER_SILENT, false);
    scene_mesh(&scene, up, 2);
    int fd = world_connect(&scene.world);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    scene_mesh(&scene, down, 2);
    struct reply reply = world_read(fd);
    scene_expect(reply, 200, "{}");
    assert_int_equal(atomic_load(&scene.third.requests), 1);
    close(fd);
    scene_end(&scene);
}

/* Its queue is full here: another PoP with room answers, and none without. */
static void test_overloaded(void **state)
{
    static const struct scene_figures room[] = { { "local", MESH_UP, 0, 0, 0 },
                                                 { "other", MESH_UP, 5, 0, 0 } };
    static const struct scene_figures none[] = { { "local", MESH_UP, 0, 0, 0 },
                                                 { "other", MESH_UP, 5, INFINITY, 0 } };
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    int fds[3];
    (void)state;

    row.queue_depth = 1;
    row.timeout_ms = row.queue_timeout_ms = 60'000;
    scene_begin(&scene, &row, PEER_ECHOES, true);
    atomic_store(&scene.fake.mode, FAKE_HELD);
    for (size_t i = 0; i < 3; i++) { /* two run, one waits */
        fds[i] = world_connect(&scene.world);
        static const char request[] =
            "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 78\r\n\r\n" BODY;
        assert_int_equal(strlen(BODY), 78);
        assert_int_equal(send(fds[i], request, sizeof request - 1, MSG_NOSIGNAL),
                         sizeof request - 1);
        world_pass(&scene.world);
    }
    scene_mesh(&scene, none, 2);
    scene_expect(world_infer(&scene.world, "", BODY), 503, "is full (queue.depth 1)");
    scene_mesh(&scene, room, 2);
    scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
    assert_true(scene_counter(&scene.world, "reason=\"overloaded\"} 1"));
    fake_release(&scene.fake);
    for (size_t i = 0; i < 3; i++) {
        scene_expect(world_read(fds[i]), 200, "Perigee-Pop: local");
        close(fds[i]);
    }
    scene_end(&scene);
}

/* ---- what another PoP passed on ------------------------------------------------------------- */

static struct reply hop_say(struct world *world, const struct hop *hop, char byte,
                            const char *headers, const char *target, const char *body)
{
    unsigned char key[HOP_KEY_BYTES];
    char value[HOP_BYTES_MAX], request[4096];
    struct hop_request about = {
        SLICE("POST"), SLICE("/v2/models/digits/infer"), SLICE("default/digits"), {}
    };
    struct err err;

    memset(key, byte, sizeof key);
    assert_true(hop_print(hop, &about, key, value, &err) > 0);
    int size = snprintf(request, sizeof request,
                        "POST %s HTTP/1.1\r\nHost: localhost\r\n" HOP_HEADER ": %s\r\n%s"
                        "Content-Length: %zu\r\n\r\n%s",
                        target, value, headers, strlen(body), body);
    return world_ask(world, request, (size_t)size);
}

static struct reply hop_ask(struct world *world, const struct hop *hop, char byte,
                            const char *headers, const char *target)
{
    return hop_say(world, hop, byte, headers, target, BODY);
}

/* A deadline in the body (in microseconds) counts from when it came to the first PoP. */
static void test_time_spent_before(void **state)
{
    static const char body[] = "{\"parameters\":{\"timeout\":20000000},\"inputs\":[{\"name\":"
                               "\"image\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[0,1,"
                               "7,2]}]}";
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    struct hop hop = { SLICE("other"), SLICE("local"), "FR", 0, SLICE("x"), {} };
    const char *infer = "/v2/models/digits/infer";
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, true);
    scene_expect(hop_say(&scene.world, &hop, 'o', "", infer, body), 200, NULL);
    hop.spent_ms = 20'000;
    scene_expect(hop_say(&scene.world, &hop, 'o', "", infer, body), 504, "deadline");
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 200, NULL); /* that has none */
    scene_end(&scene);
}

/* `other`'s agent asks how this PoP is, in its version's words. */
static void other_asks(struct world *world, const char *query)
{
    struct hop hop = { SLICE("other"), SLICE("local"), "", 0, SLICE("probe-1"), {} };
    unsigned char key[HOP_KEY_BYTES];
    char value[HOP_BYTES_MAX], target[128], request[1024];
    struct err err;

    snprintf(target, sizeof target, PEER_LOAD_PATH "?life=0&since=0%s", query);
    struct hop_request about = { .method = SLICE("GET"), .target = slice_of(target) };
    memset(key, 'o', sizeof key);
    assert_true(hop_print(&hop, &about, key, value, &err) > 0);
    int size =
        snprintf(request, sizeof request,
                 "GET %s HTTP/1.1\r\nHost: localhost\r\n" HOP_HEADER ": %s\r\n\r\n", target, value);
    scene_expect(world_ask(world, request, (size_t)size), 200, NULL);
}

/* Of a request whose body came late; 0: nothing. */
static unsigned long time_told(struct scene *scene)
{
    static const char head[] = "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL;
    static const char rest[] = "Content-Length: 2\r\n\r\n{}";

    int fd = world_connect(&scene->world);
    assert_int_equal(send(fd, head, sizeof head - 1, MSG_NOSIGNAL), sizeof head - 1);
    world_pass(&scene->world); /* it has begun */
    assert_int_equal(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 60), 0);
    assert_int_equal(send(fd, rest, sizeof rest - 1, MSG_NOSIGNAL), sizeof rest - 1);
    scene_expect(world_read(fd), 200, NULL);
    close(fd);
    const char *spent = strstr(scene->other.request, "; spent=");
    return spent ? strtoul(spent + 8, NULL, 10) : 0;
}

/* And that is told to the PoP that reads it, where it has said that it can: one of the version
 * before would refuse the request. Keys may be sent anew meanwhile. */
static void test_time_spent_here(void **state)
{
    static const char *const pops[] = { "other", "third" };
    static const struct {
        const char *name, *query; /* NULL: it has not asked yet, or not again */
        bool told;
    } rows[] = {
        { "nothing was said yet", NULL, false },
        { "it knows it", "&version=2&hop=1", true },
        { "keys are the same", NULL, true },
        { "it knows more than we do", "&version=2&hop=99999999999", true },
        { "it was replaced by one of the version before", "&version=2", false },
    };
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    scene_expect(world_infer(&scene.world, "", BODY), 200, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].query)
            other_asks(&scene.world, rows[i].query);
        else
            world_keys(&scene.world, pops, 2);
        unsigned long told = time_told(&scene);
        if (rows[i].told ? told < 50 || told > 20'000 : told != 0)
            fail_msg("%s: %lu ms in %s", rows[i].name, told, scene.other.request);
    }
    scene_end(&scene);
}

static void test_hops(void **state)
{
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    struct hop hop = { SLICE("other"), SLICE("local"), "FR", 0, SLICE("x"), {} };
    const char *infer = "/v2/models/digits/infer";
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, true);
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 200, "hop;dur=");
    assert_true(scene_counter(&scene.world, "perigee_hops_total{pop=\"other\"} 1"));
    hop.more = SLICE("later=1; "); /* of a newer version */
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 200, "hop;dur=");
    hop.more = (struct slice){};
    /* It goes no further, though this PoP would rather not serve it. */
    scene.pops[0].flags |= TABLE_POP_DRAINING;
    scene_table(&scene);
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 200, "Perigee-Pop: local");
    scene.row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_other, 1);
    scene_table(&scene);
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 503, "goes no further");
    assert_int_equal(atomic_load(&scene.other.requests), 0);
    scene_end(&scene);
}

static void test_forged_hops(void **state)
{
    struct scene scene;
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);
    struct hop hop = { SLICE("other"), SLICE("local"), "FR", 0, SLICE("x"), {} };
    const char *infer = "/v2/models/digits/infer";
    (void)state;

    scene_begin(&scene, &row, PEER_ECHOES, true);
    scene_expect(hop_ask(&scene.world, &hop, 'x', "", infer), 400, "Perigee-Hop: refused");
    scene_expect(hop_ask(&scene.world, &hop, 'o', "Perigee-Process-In: DE\r\n", infer), 400,
                 "fleet");
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", "/v2/models/org%2FDigits/infer"), 400,
                 "fleet");
    struct reply twice = hop_ask(&scene.world, &hop, 'o', HOP_HEADER ": v1\r\n", infer);
    case_answer(&twice, 400, "came twice");
    assert_non_null(strstr(twice.text, "Connection: close"));
    reply_free(&twice);
    hop.to = SLICE("third");
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 400, "fleet");
    hop = (struct hop){ SLICE("nobody"), SLICE("local"), "FR", 0, SLICE("x"), {} };
    scene_expect(hop_ask(&scene.world, &hop, 'o', "", infer), 400, "fleet");
    scene_expect(world_infer(&scene.world, HOP_HEADER ": yes\r\n", BODY), 400, "Connection: close");
    assert_true(scene_counter(&scene.world, "perigee_hops_total{pop=\"refused\"} 6"));
    scene_end(&scene);
}

/* ---- residency ------------------------------------------------------------------------------ */

/* clang-format off */
static const struct {
    const char *name, *process, *transit, *headers;
    int status;
    const char *part;
} residencies[] = {
    { "this PoP may see it pass", "FR", "DE", "", 200, "Perigee-Pop: other" },
    { "this PoP may not", "FR", NULL, "", 451, "permitted PoPs: other" },
    { "nor where it is expected to wait", "FR", NULL, "Expect: 100-continue\r\n", 451,
      "Connection: close" },
    { "nobody may who has it", "CH", "DE", "", 451, "no PoP is permitted" },
    { "here it may", "DE", NULL, "", 200, "Perigee-Pop: local" },
    { "narrowed to another", "DE", NULL, "Perigee-Process-In: FR\r\n", 451, "no PoP is permitted" },
};
/* clang-format on */

static void test_residency(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof residencies / sizeof *residencies; i++) {
        struct scene scene;
        struct world_endpoint row = scene_endpoint(0, scene_at_all, 3);
        struct residency_rule rule = scene_rule_in(residencies[i].process, residencies[i].transit);
        row.rules = &rule;
        row.rule_count = 1;
        scene_begin(&scene, &row, PEER_ECHOES, true);
        struct reply reply = world_infer(&scene.world, residencies[i].headers, BODY);
        if (reply.status != residencies[i].status || !strstr(reply.text, residencies[i].part))
            fail_msg("%s: %s", residencies[i].name, reply.text);
        if (reply.status == 451)
            assert_int_equal(
                atomic_load(&scene.other.connections) + atomic_load(&scene.third.connections), 0);
        assert_int_equal(atomic_load(&scene.third.connections), 0);
        reply_free(&reply);
        scene_end(&scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_here_again),
        cmocka_unit_test(test_a_pop_that_is_forgotten),
        cmocka_unit_test(test_cold),
        cmocka_unit_test(test_cold_for_longer_than_thought),
        cmocka_unit_test(test_cold_and_started_elsewhere_before),
        cmocka_unit_test(test_cold_and_full),
        cmocka_unit_test(test_cold_and_served_here),
        cmocka_unit_test(test_cold_and_denied_elsewhere),
        cmocka_unit_test(test_mesh),
        cmocka_unit_test(test_a_silent_pop_that_is_down_is_given_up),
        cmocka_unit_test(test_overloaded),
        cmocka_unit_test(test_time_spent_before),
        cmocka_unit_test(test_time_spent_here),
        cmocka_unit_test(test_hops),
        cmocka_unit_test(test_forged_hops),
        cmocka_unit_test(test_residency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
