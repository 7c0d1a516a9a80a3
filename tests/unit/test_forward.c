/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that a gateway passes on: headers, bodies, failures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "gateway_scene.h"
#include "policy/retry.h"
#include "proto/hop.h"

/* ---- what goes along ------------------------------------------------------------------------ */

/* clang-format off */
static const struct {
    const char *name, *headers;
    const char *there, *not_there; /* in what the other PoP got */
} heads[] = {
    { "the host stays", "", "\r\nHost: localhost\r\n", NULL },
    { "end to end", "X-Own: 1\r\nAccept-Encoding: gzip\r\ntracestate: a=b\r\n",
      "X-Own: 1\r\nAccept-Encoding: gzip\r\ntracestate: a=b\r\n", NULL },
    { "a trace", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
      "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", NULL },
    { "an id", "X-Request-Id: mine-1\r\n", "X-Request-Id: mine-1\r\n", NULL },
    { "an id in the hop", "X-Request-Id: mine-1\r\n", "; id=mine-1; mac=", NULL },
    { "signed", "", "Perigee-Hop: v1; from=local; to=other; client=-; deadline=0; id=", NULL },
    { "a deadline", "Perigee-Timeout: 20s\r\n", "; deadline=1", "Perigee-Timeout" },
    { "gRPC's deadline", "grpc-timeout: 20S\r\n", "; deadline=1", "grpc-timeout" },
    { "of the connection", "Connection: keep-alive, X-One\r\nX-One: 1\r\nX-Two: 2\r\n", "X-Two: 2",
      "X-One" },
    { "of the connection, in its second line",
      "Connection: keep-alive\r\nConnection: X-One\r\nX-One: 1\r\nX-Two: 2\r\n", "X-Two: 2", "X-One" },
    { "kept alive", "Keep-Alive: 5\r\nTE: trailers\r\nX-Two: 2\r\n", "X-Two: 2", "Keep-Alive" },
    { "not narrowed away", "Connection: Perigee-Process-In\r\nPerigee-Process-In: FR\r\n",
      "Perigee-Process-In: FR", "Connection:" },
    { "whence the client comes", "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n",
      "Perigee-Hop", "192.0.2.7" },
    { "its class", "Perigee-Priority: batch\r\n", "Perigee-Priority: batch", NULL },
    { "an expectation is met here", "Expect: 100-continue\r\n", "Perigee-Hop", "100-continue" },
};
/* clang-format on */

static void test_heads(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct reply reply = world_infer(&scene.world, heads[i].headers, BODY);
        const char *got = scene.other.request;
        if ((reply.status != 200 && !strstr(reply.text, "100 Continue")) ||
            !strstr(got, heads[i].there) ||
            (heads[i].not_there && strcasestr(got, heads[i].not_there)))
            fail_msg("%s: %d\n%s", heads[i].name, reply.status, got);
        reply_free(&reply);
    }
    scene_end(&scene);
}

static void test_answer(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    struct reply reply = world_infer(&scene.world, "", BODY);
    case_answer(&reply, 200, "Perigee-Pop: other\r\n");
    assert_string_equal(reply.body, BODY);
    assert_non_null(strstr(reply.text, "X-Theirs: 2\r\n"));
    assert_non_null(strstr(reply.text, "Server-Timing: infer;dur=1.000, net;dur="));
    assert_null(strstr(reply.text, "X-Mine"));
    assert_null(strstr(reply.text, "Keep-Alive"));
    reply_free(&reply);
    assert_true(scene_counter(&scene.world, "perigee_requests_forwarded_total{project=\"default\","
                                            "endpoint=\"digits\",reason=\"away\"} 1"));
    assert_true(
        scene_counter(&scene.world, "perigee_forwards_total{pop=\"other\",result=\"answered\"} 1"));
    scene_end(&scene);
}

/* What it signs is what the other one verifies. */
static void test_signature(void **state)
{
    struct scene scene;
    struct hop hop;
    struct err err;
    unsigned char key[HOP_KEY_BYTES];
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    scene_expect(world_infer(&scene.world, "Perigee-Process-In: FR\r\n", BODY), 200, NULL);
    const char *value = strstr(scene.other.request, "Perigee-Hop: ") + 13;
    struct slice text = { value, strcspn(value, "\r") };
    assert_int_equal(hop_parse(text, &hop, &err), 0);
    struct hop_request about = { SLICE("POST"), SLICE("/v2/models/digits/infer"),
                                 SLICE("default/digits"), SLICE("FR") };
    memset(key, 'o', sizeof key);
    assert_true(hop_verify(&hop, &about, key));
    about.process_in = SLICE("any");
    assert_false(hop_verify(&hop, &about, key));
    scene_end(&scene);
}

/* ---- bodies --------------------------------------------------------------------------------- */

static struct reply send_body(struct world *world, const char *framing, size_t bytes)
{
    char *request = mem_alloc(bytes + 512);
    int head;

    if (strcmp(framing, "chunked") == 0)
        head = sprintf(request,
                       "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
                       "Transfer-Encoding: chunked\r\n\r\n%zx\r\n",
                       bytes);
    else
        head = sprintf(
            request,
            "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: %zu\r\n\r\n", bytes);
    for (size_t i = 0; i < bytes; i++)
        request[(size_t)head + i] = (char)('a' + i * 7919 % 26);
    size_t size = (size_t)head + bytes;
    if (strcmp(framing, "chunked") == 0)
        size += (size_t)sprintf(request + size, "\r\n0\r\n\r\n");
    struct reply reply = world_ask(world, request, size);
    free(request);
    return reply;
}

static void test_bodies(void **state)
{
    static const size_t sizes[] = { 1, 100, 32768, 32769, 262144, 300000, 5 << 20 };
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct reply reply = send_body(&scene.world, "length", sizes[i]);
        case_answer(&reply, 200, NULL);
        assert_int_equal(reply.body_bytes, sizes[i]);
        assert_memory_equal(reply.body, scene.other.body, sizes[i]);
        reply_free(&reply);
        reply = send_body(&scene.world, "chunked", sizes[i]);
        case_answer(&reply, 200, NULL);
        assert_int_equal(reply.body_bytes, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k += 1021)
            assert_int_equal(reply.body[k], 'a' + k * 7919 % 26);
        reply_free(&reply);
    }
    assert_true(atomic_load(&scene.other.connections) <= WORLD_LOOPS); /* they are kept */
    scene_end(&scene);
}

/* Small pieces that come together go on together: a write each would cost memory and system calls
 * beyond what is counted. */
static void test_small_pieces(void **state)
{
    enum { PIECES = 20'000 };
    static const char head[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Transfer-Encoding: chunked\r\n\r\n";
    struct scene scene;
    char *request = mem_alloc(sizeof head + PIECES * 6 + 8);
    size_t size = sizeof head - 1;
    (void)state;

    memcpy(request, head, size);
    for (int i = 0; i < PIECES; i++) {
        memcpy(request + size, "1\r\nx\r\n", 6);
        size += 6;
    }
    memcpy(request + size, "0\r\n\r\n", 5);
    size += 5;
    scene_begin_away(&scene, PEER_ECHOES);
    for (int i = 0; i < 2 * WORLD_LOOPS; i++) { /* over new connections, and over kept ones */
        struct reply reply = world_ask(&scene.world, request, size);
        case_answer(&reply, 200, NULL);
        assert_int_equal(reply.body_bytes, PIECES);
        assert_in_range(atomic_load(&scene.other.chunks), 1, PIECES / 20);
        reply_free(&reply);
    }
    free(request);
    scene_end(&scene);
}

/* A client that does not read holds its PoP back, and gets all in the end. */
static void test_a_slow_reader(void **state)
{
    enum { BYTES = 10 << 20 }; /* more than the kernel takes for one that does not read */
    struct scene scene;
    char head[128], *body = mem_zalloc(BYTES);
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    int fd = world_connect(&scene.world);
    int size = snprintf(
        head, sizeof head,
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: %d\r\n\r\n", BYTES);
    assert_int_equal(send(fd, head, (size_t)size, MSG_NOSIGNAL), size);
    for (size_t at = 0; at < BYTES;) {
        ssize_t n = send(fd, body + at, BYTES - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
    free(body);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    for (int i = 0; i < 20; i++) /* others are served meanwhile */
        scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
    size_t got = 0;
    char part[65536];
    while (got < BYTES) { /* the head comes on top */
        ssize_t n = read(fd, part, sizeof part);
        assert_true(n > 0);
        got += (size_t)n;
    }
    close(fd);
    scene_end(&scene);
}

static void test_limits(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_ECHOES);
    scene_expect(send_body(&scene.world, "length", 13 << 20), 413, "the limit is 12582912");
    assert_int_equal(atomic_load(&scene.other.requests), 0);
    atomic_store(&scene.other.mode, PEER_CHUNKS);
    struct reply reply = world_infer(&scene.world, "", BODY);
    case_answer(&reply, 200, "Transfer-Encoding: chunked\r\n");
    reply_free(&reply);
    atomic_store(&scene.other.mode, PEER_EARLY);
    scene_expect(send_body(&scene.world, "length", 900000), 413, "big");
    scene_end(&scene);
}

static void test_hints_are_passed_on(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_HINTS);
    case_hinted(&scene.world, "/v2/models/digits");
    scene_end(&scene);
}

/* ---- failures ------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    enum peer_mode mode; /* of `other`; `third` echoes */
    size_t bytes;        /* of the body */
    bool elsewhere;      /* it may go to `third` */
    int status;
    const char *counter;
    uint64_t machine_bytes;
} failures[] = {
    { "closed before the answer", PEER_CLOSES, 100, false, 503, "result=\"lost\"} 1", 0 },
    { "refused, and no other", PEER_REFUSES, 100, false, 503, "result=\"answered\"} 1", 0 },
    { "a fault is an answer", PEER_FAILS, 100, true, 500, "result=\"answered\"} 1", 0 },
    { "too large to be held", PEER_CLOSES, 5 << 20, true, 503,
      "perigee_forward_retries_total{result=\"too_large\"} 1", 2 << 20 },
};
/* clang-format on */

static void test_failures(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        struct scene scene;
        static const struct residency_rule in_france = { .clients.scope = RESIDENCY_ANY,
                                                         .process.scope = RESIDENCY_ANY,
                                                         .transit.scope = RESIDENCY_ANY,
                                                         .logs.scope = RESIDENCY_ANY,
                                                         .cache.scope = RESIDENCY_ANY };
        struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_other, 1);
        row.rules = &in_france;
        row.rule_count = 1;
        scene_machine_bytes = failures[i].machine_bytes;
        scene_begin(&scene, &row, failures[i].mode, false);
        scene_machine_bytes = 0;
        struct reply reply = send_body(&scene.world, "length", failures[i].bytes);
        if (reply.status != failures[i].status || !scene_counter(&scene.world, failures[i].counter))
            fail_msg("%s: %d %s", failures[i].name, reply.status, reply.text);
        reply_free(&reply);
        scene_end(&scene);
    }
}

/* Of two PoPs one fails, in each way and before its answer: the other one answers. */
static void test_elsewhere(void **state)
{
    static const enum peer_mode modes[] = { PEER_CLOSES, PEER_REFUSES, PEER_KEYLESS };
    (void)state;

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct scene scene;
        struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
        scene_begin(&scene, &row, modes[i], false);
        for (int k = 0; k < 30; k++) {
            struct reply reply = world_infer(&scene.world, "", BODY);
            case_answer(&reply, 200, NULL);
            assert_string_equal(reply.body, BODY);
            reply_free(&reply);
        }
        assert_true(atomic_load(&scene.other.requests) > 0);
        assert_int_equal(atomic_load(&scene.third.requests), 30);
        assert_true(
            scene_counter(&scene.world, "perigee_forward_retries_total{result=\"elsewhere\"}"));
        scene_end(&scene);
    }
}

/* However large its body is, as long as there is memory to hold it. */
static void test_elsewhere_with_a_large_body(void **state)
{
    static const enum peer_mode modes[] = { PEER_CLOSES, PEER_REFUSES };
    static const size_t sizes[] = { 262144, 262145, 300'000, 5 << 20, 7 << 20 };
    static const char *const framings[] = { "length", "chunked" };
    (void)state;

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        for (size_t k = 0; k < 2 * (sizeof sizes / sizeof *sizes); k++) {
            struct scene scene;
            struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
            size_t bytes = sizes[k / 2];
            scene_begin(&scene, &row, modes[i], false);
            struct reply reply = send_body(&scene.world, framings[k % 2], bytes);
            case_answer(&reply, 200, NULL);
            assert_int_equal(reply.body_bytes, bytes);
            for (size_t at = 0; at < bytes; at++)
                if (reply.body[at] != 'a' + (char)(at * 7919 % 26))
                    fail_msg("%zu bytes, %s: byte %zu", bytes, framings[k % 2], at);
            reply_free(&reply);
            assert_int_equal(atomic_load(&scene.third.requests), 1);
            scene_end(&scene);
        }
}

/* The other gateway gives up a connection just as it is used: nobody notices, nobody is blamed. */
static void test_stale_connections(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_STALE);
    for (int i = 0; i < 6; i++)
        scene_expect(world_infer(&scene.world, "", BODY), 200, "Perigee-Pop: other");
    assert_true(atomic_load(&scene.other.connections) > WORLD_LOOPS);
    assert_true(scene_counter(&scene.world, "perigee_forward_retries_total{result=\"renewed\"}"));
    assert_false(scene_counter(&scene.world, "result=\"lost\"}"));
    scene_end(&scene);
}

static void test_agent_hears_of_failures(void **state)
{
    struct scene scene;
    union message message;
    (void)state;

    scene_begin_away(&scene, PEER_CLOSES);
    scene_expect(world_infer(&scene.world, "", BODY), 503, "PoP 'other' did not answer");
    world_expect(&scene.world, true, MESSAGE_PEER_SEEN, &message);
    assert_string_equal(message.as_MESSAGE_PEER_SEEN.pop, "other");
    assert_int_equal(message.as_MESSAGE_PEER_SEEN.failed, 1);
    /* Each loop learns it by itself, and then leaves it alone for a second. */
    for (int i = 1; i < WORLD_LOOPS; i++)
        scene_expect(world_infer(&scene.world, "", BODY), 503, "PoP 'other' did not answer");
    for (int i = 0; i < WORLD_LOOPS; i++)
        scene_expect(world_infer(&scene.world, "", BODY), 503, "can be reached now");
    assert_int_equal(atomic_load(&scene.other.requests), WORLD_LOOPS);
    scene_end(&scene);
}

static void test_a_broken_answer_is_cut(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_BREAKS);
    struct reply reply = world_infer(&scene.world, "", BODY);
    case_answer(&reply, 200, "half");
    assert_int_equal(reply.body_bytes, 4); /* and then the end, without the other 96 */
    reply_free(&reply);
    assert_true(
        scene_counter(&scene.world, "perigee_forwards_total{pop=\"other\",result=\"broken\"} 1"));
    scene_end(&scene);
}

static bool peer_gone(struct world *world, void *data)
{
    struct peer *peer = data;
    (void)world;
    return atomic_load(&peer->gone) > 0;
}

static void test_a_client_that_goes_away_takes_the_call_back(void **state)
{
    static const char request[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 2\r\n\r\n{}";
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_SILENT);
    int fd = world_connect(&scene.world);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    close(fd);
    assert_true(world_until(&scene.world, peer_gone, &scene.other));
    scene_end(&scene);
}

static void test_deadline(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_SILENT);
    scene_expect(world_infer(&scene.world, "Perigee-Timeout: 50ms\r\n", BODY), 504,
                 "deadline passed at PoP 'other'");
    assert_true(world_until(&scene.world, peer_gone, &scene.other));
    scene_end(&scene);
}

/* ---- the budget ----------------------------------------------------------------------------- */

static void test_budget(void **state)
{
    struct retry_budget budget = {};
    int64_t now = 1;
    unsigned taken = 0;
    (void)state;

    while (retry_take(&budget, now))
        taken++;
    assert_int_equal(taken, RETRY_SAVED_MAX);
    for (int i = 0; i < 100; i++) /* a fifth of them, and nothing more at the same instant */
        retry_request(&budget, now);
    for (taken = 0; retry_take(&budget, now); taken++)
        ;
    assert_in_range(taken, 19, 20);
    now += 1'000'000'000;
    for (taken = 0; retry_take(&budget, now); taken++)
        ;
    assert_in_range(taken, 9, 11);
    assert_false(retry_take(&budget, now - 500'000'000)); /* time that goes back gives nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_small_pieces),
        cmocka_unit_test(test_a_slow_reader),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_hints_are_passed_on),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_elsewhere_with_a_large_body),
        cmocka_unit_test(test_stale_connections),
        cmocka_unit_test(test_agent_hears_of_failures),
        cmocka_unit_test(test_a_broken_answer_is_cut),
        cmocka_unit_test(test_a_client_that_goes_away_takes_the_call_back),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
