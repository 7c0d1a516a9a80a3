/* SPDX-License-Identifier: Apache-2.0 */
/* What follows a try at another PoP that brought no answer, and who hears of it. */
#include <errno.h>
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

#include "base/auto.h"
#include "base/countries.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "gateway_scene.h"
#include "proto/codec_gzip.h"
#include "proto/text.h"
#include "sys/shm.h"

/* ---- here after all ------------------------------------------------------------------------- */

#define SPLIT_JSON                                                                                 \
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\","                      \
    "\"parameters\":{\"binary_data_size\":16}}]}"

enum shape { SHAPE_JSON, SHAPE_RAW, SHAPE_SPLIT, SHAPE_NONE };

/* clang-format off */
static const struct {
    const char *name;
    enum shape shape;
    bool gzip, chunked;
    int status;
    const char *part;
} bodies[] = {
    { "json", SHAPE_JSON, false, false, 200, "\"data\":[2]" },
    { "json, chunked", SHAPE_JSON, false, true, 200, "\"data\":[2]" },
    { "json, gzip", SHAPE_JSON, true, false, 200, "\"data\":[2]" },
    { "raw", SHAPE_RAW, false, false, 200, "probabilities" },
    { "raw, chunked", SHAPE_RAW, false, true, 200, "probabilities" },
    { "raw, gzip", SHAPE_RAW, true, false, 200, "probabilities" },
    { "split", SHAPE_SPLIT, false, false, 200, "\"data\":[2]" },
    { "split, chunked", SHAPE_SPLIT, false, true, 200, "\"data\":[2]" },
    { "split, gzip", SHAPE_SPLIT, true, false, 200, "\"data\":[2]" },
    { "none", SHAPE_NONE, false, false, 400, "Perigee-Error: bad_input" },
};
/* clang-format on */

static const float numbers[4] = { 0, 1, 7, 2 };

static struct text body_of(size_t row)
{
    struct text text, packed;

    text_init(&text);
    if (bodies[row].shape == SHAPE_JSON)
        text_append(&text, SLICE(BODY));
    if (bodies[row].shape == SHAPE_SPLIT)
        text_append(&text, SLICE(SPLIT_JSON));
    if (bodies[row].shape == SHAPE_SPLIT || bodies[row].shape == SHAPE_RAW)
        text_append(&text, (struct slice){ (const char *)numbers, sizeof numbers });
    if (!bodies[row].gzip)
        return text;
    struct deflater *deflater = deflater_new(CODEC_GZIP, 6);
    text_init(&packed);
    deflater_push(deflater, text_slice(&text), &packed);
    deflater_finish(deflater, &packed);
    deflater_free(deflater);
    text_deinit(&text);
    return packed;
}

static struct text request_of(size_t row)
{
    struct text body = body_of(row), request;
    char head[512], framing[64], length[64];

    snprintf(framing, sizeof framing,
             bodies[row].chunked ? "Transfer-Encoding: chunked\r\n\r\n%zx\r\n"
                                 : "Content-Length: %zu\r\n\r\n",
             body.size);
    snprintf(length, sizeof length, "Inference-Header-Content-Length: %zu\r\n",
             bodies[row].shape == SHAPE_SPLIT ? strlen(SPLIT_JSON) : 0);
    snprintf(head, sizeof head, "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "%s%s%s",
             bodies[row].gzip ? "Content-Encoding: gzip\r\n" : "",
             bodies[row].shape == SHAPE_SPLIT || bodies[row].shape == SHAPE_RAW ? length : "",
             framing);
    text_init(&request);
    text_append(&request, slice_of(head));
    text_append(&request, text_slice(&body));
    if (bodies[row].chunked)
        text_append(&request, SLICE("\r\n0\r\n\r\n"));
    text_deinit(&body);
    return request;
}

static void here_begin(struct scene *scene, enum peer_mode mode)
{
    struct world_endpoint row = scene_endpoint(0, scene_at_all, 2);

    scene_begin(scene, &row, mode, true);
    scene->pops[0].flags |= TABLE_POP_DRAINING;
    scene_table(scene);
}

/* Whatever its body looks like, a request that the other one refused is served here as if it had
 * never been away. */
static void test_here_with_any_body(void **state)
{
    struct scene scene;
    (void)state;

    here_begin(&scene, PEER_REFUSES);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct text request = request_of(i);
        struct reply reply = world_ask(&scene.world, request.data, request.size);
        if (reply.status != bodies[i].status || !strstr(reply.text, bodies[i].part) ||
            !strstr(reply.text, "Perigee-Pop: local") ||
            atomic_load(&scene.other.requests) != i + 1)
            fail_msg("%s: %s", bodies[i].name, reply.text);
        reply_free(&reply);
        text_deinit(&request);
    }
    scene_end(&scene);
}

/* So is one whose body is large: it is held, and read once more. */
static void test_here_with_a_large_body(void **state)
{
    enum { BYTES = 5 << 20 };
    struct text request;
    struct scene scene;
    char head[256];
    (void)state;

    text_init(&request);
    snprintf(head, sizeof head,
             "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: %d\r\n\r\n",
             (int)BYTES);
    text_append(&request, slice_of(head));
    text_append(&request, SLICE(BODY));
    for (size_t i = sizeof BODY - 1; i < BYTES; i++)
        text_append(&request, SLICE(" "));
    here_begin(&scene, PEER_REFUSES);
    struct reply reply = world_ask(&scene.world, request.data, request.size);
    case_answer(&reply, 200, "\"data\":[2]");
    assert_non_null(strstr(reply.text, "Perigee-Pop: local"));
    assert_int_equal(atomic_load(&scene.other.requests), 1);
    reply_free(&reply);
    text_deinit(&request);
    scene_end(&scene);
}

static bool here_again(struct world *world, void *data)
{
    (void)data;
    return scene_counter(world, "perigee_forward_retries_total{result=\"here\"} 1");
}

/* The rest of it comes once it is here. */
static void test_here_before_its_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct scene scene;
        struct text request = request_of(i);
        size_t first = request.size - 9;
        if (bodies[i].shape == SHAPE_NONE) {
            text_deinit(&request);
            continue;
        }
        here_begin(&scene, PEER_CLOSES);
        int fd = world_connect(&scene.world);
        assert_int_equal(send(fd, request.data, first, MSG_NOSIGNAL), first);
        assert_true(world_until(&scene.world, here_again, NULL));
        assert_int_equal(send(fd, request.data + first, 9, MSG_NOSIGNAL), 9);
        struct reply reply = world_read(fd);
        if (reply.status != 200 || !strstr(reply.text, bodies[i].part))
            fail_msg("%s: %s", bodies[i].name, reply.text);
        reply_free(&reply);
        close(fd);
        text_deinit(&request);
        scene_end(&scene);
    }
}

/* ---- refusals ------------------------------------------------------------------------------- */

/* That a hop was refused is not for the client, even where nobody else is there. */
static void test_a_hop_refused(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_KEYLESS);
    struct reply reply = world_infer(&scene.world, "", BODY);
    case_answer(&reply, 503, "PoP 'other' is down, or refused it");
    assert_null(strstr(reply.text, "Perigee-Hop"));
    reply_free(&reply);
    assert_true(
        scene_counter(&scene.world, "perigee_forwards_total{pop=\"other\",result=\"refused\"} 1"));
    for (int i = 1; i < WORLD_LOOPS; i++)
        scene_expect(world_infer(&scene.world, "", BODY), 503, "refused it");
    for (int i = 0; i < WORLD_LOOPS; i++) /* it is left alone for a second */
        scene_expect(world_infer(&scene.world, "", BODY), 503, "can be reached now");
    scene_end(&scene);
}

/* Once the budget is spent, a refusal is what there is, and is passed back as it came. */
static void test_a_refusal_without_a_budget(void **state)
{
    static const struct scene_figures near[] = { { "other", MESH_UP, 1, 0, 0 },
                                                 { "third", MESH_UP, 50, 0, 0 } };
    struct scene scene;
    struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
    struct reply reply;
    (void)state;

    scene_begin(&scene, &row, PEER_REFUSES, false);
    scene_mesh(&scene, near, 2);
    for (int i = 0; (reply = world_infer(&scene.world, "", BODY)).status == 200; i++) {
        assert_true(i < 10'000);
        reply_free(&reply);
    }
    case_answer(&reply, 503, "\r\n\r\nfull");
    reply_free(&reply);
    assert_true(scene_counter(&scene.world, "retries_total{result=\"no_budget\"} 1"));
    scene_end(&scene);
}

/* ---- whose fault ---------------------------------------------------------------------------- */

/* The other gateway cuts an answer that our client takes too slowly: that is none of its faults. */
static void test_a_broken_answer_blames_nobody(void **state)
{
    struct scene scene;
    union message message;
    (void)state;

    scene_begin_away(&scene, PEER_BREAKS);
    for (int i = 0; i < 2 * WORLD_LOOPS; i++)
        scene_expect(world_infer(&scene.world, "", BODY), 200, "half");
    assert_int_equal(atomic_load(&scene.other.requests), 2 * WORLD_LOOPS);
    atomic_store(&scene.other.mode, PEER_CLOSES);
    scene_expect(world_infer(&scene.world, "", BODY), 503, "did not answer");
    world_expect(&scene.world, true, MESSAGE_PEER_SEEN, &message);
    assert_int_equal(message.as_MESSAGE_PEER_SEEN.failed, 1);
    scene_end(&scene);
}

/* ---- a connection that was given up --------------------------------------------------------- */

struct asked {
    struct peer *peer;
    unsigned requests;
};

static bool asked_so_often(struct world *world, void *data)
{
    const struct asked *asked = data;
    (void)world;
    return atomic_load(&asked->peer->requests) == asked->requests;
}

struct decision_asked {
    struct slice id;
    bool found;
    struct decision_record record;
};

static bool decision_kept(struct world *world, void *data)
{
    struct decision_asked *asked = data;
    void *memory;
    struct err err;

    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &memory, &err), 0);
    asked->found = gateway_decision_find(memory, gateway_region_bytes(), asked->id, &asked->record);
    shm_unmap(memory, gateway_region_bytes());
    return asked->found;
}

/* clang-format off */
static const struct {
    const char *name, *process, *transit; /* of the rule that comes while it is there */
    int status;
    const char *part;
    unsigned third; /* requests there */
} renewals[] = {
    { "elsewhere alone", "JP", "DE", 200, "{\"inputs\"", 1 },
    { "and not through here", "JP", NULL, 451, "Connection: close", 0 },
    { "there still", "FR", "DE", 200, "{\"inputs\"", 0 },
};
/* clang-format on */

static bool denied(struct world *world, void *data)
{
    (void)data;
    return scene_counter(world, "perigee_requests_denied_total{");
}

/* A request is not sent once more to where it may not be processed by now. */
static void test_renewal_asks_residency(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof renewals / sizeof *renewals; i++) {
        struct scene scene;
        struct residency_rule before = scene_rule_in("FR", "DE");
        struct residency_rule now = scene_rule_in(renewals[i].process, renewals[i].transit);
        struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
        static const char request[] = "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
                                      "X-Request-Id: later-1\r\nContent-Length: 78\r\n\r\n" BODY;
        struct decision_asked later = { .id = SLICE("later-1") };

        before.logs.scope = RESIDENCY_ANY; /* not so by the rule that comes */
        row.rules = &before;
        row.rule_count = 1;
        row.timeout_ms = row.queue_timeout_ms = row.queue_cold_ms = 60'000; /* however busy */
        scene_begin(&scene, &row, PEER_LEAVES, false);
        for (int k = 0; k < WORLD_LOOPS; k++) /* each loop keeps a connection */
            scene_expect(world_infer(&scene.world, "", BODY), 200, NULL);
        int fd = world_connect(&scene.world);
        assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
        assert_true(world_until(&scene.world, asked_so_often,
                                &(struct asked){ &scene.other, WORLD_LOOPS + 1 }));
        scene.row.rules = &now;
        scene_table(&scene);
        atomic_store(&scene.other.leaves, true);
        struct reply reply = world_read(fd);
        if (reply.status != renewals[i].status || !strstr(reply.text, renewals[i].part) ||
            atomic_load(&scene.third.requests) != renewals[i].third)
            fail_msg("%s: %s", renewals[i].name, reply.text);
        if (reply.status == 451)
            assert_true(world_until(&scene.world, denied, NULL));
        reply_free(&reply);
        close(fd);
        for (int k = 0; k < WORLD_LOOPS; k++)
            world_pass(&scene.world);
        assert_false(decision_kept(&scene.world, &later));
        scene_end(&scene);
    }
}

/* ---- nothing is written of what may not be -------------------------------------------------- */

/* Another PoP's 451 is passed back, and as one of this PoP leaves no trace here. */
static void test_a_denial_leaves_no_decision(void **state)
{
    struct decision_asked answered = { .id = SLICE("yes-1") }, denied = { .id = SLICE("no-1") };
    struct scene scene;
    (void)state;

    scene_begin_away(&scene, PEER_DENIES);
    scene_expect(world_infer(&scene.world, "X-Request-Id: no-1\r\n", BODY), 451, "laws");
    atomic_store(&scene.other.mode, PEER_ECHOES);
    for (int i = 0; i < WORLD_LOOPS; i++)
        scene_expect(world_infer(&scene.world, "X-Request-Id: yes-1\r\n", BODY), 200, NULL);
    assert_true(world_until(&scene.world, decision_kept, &answered));
    assert_int_equal(answered.record.client_rtt_source, DECISION_RTT_TCP);
    assert_true(decision_client_ms(&answered.record) > 0);
    world_pass(&scene.world);
    assert_false(decision_kept(&scene.world, &denied));
    scene_end(&scene);
}

/* ---- a PoP that is down --------------------------------------------------------------------- */

/* What can not go elsewhere is not taken back: it may yet be answered. */
static void test_too_large_to_be_given_up(void **state)
{
    static const struct scene_figures up[] = { { "other", MESH_UP, 1, 0, 0 },
                                               { "third", MESH_UP, 50, 0, 0 } };
    static const struct scene_figures down[] = { { "other", MESH_DOWN, 1, 0, 0 },
                                                 { "third", MESH_UP, 50, 0, 0 } };
    enum { BYTES = 1 << 20 };
    struct scene scene;
    struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_both, 2);
    char head[256], *body = mem_zalloc(BYTES);
    (void)state;

    row.timeout_ms = row.queue_cold_ms = 60'000;
    scene_machine_bytes = 8 << 20; /* of which half a MB may hold it */
    scene_begin(&scene, &row, PEER_SILENT, false);
    scene_machine_bytes = 0;
    scene_mesh(&scene, up, 2);
    int fd = world_connect(&scene.world);
    int size = snprintf(head, sizeof head,
                        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
                        "Perigee-Timeout: 1s\r\nContent-Length: %d\r\n\r\n",
                        BYTES);
    assert_int_equal(send(fd, head, (size_t)size, MSG_NOSIGNAL), size);
    for (size_t at = 0; at < BYTES;) {
        ssize_t n = send(fd, body + at, BYTES - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
    free(body);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    scene_mesh(&scene, down, 2);
    scene_expect(world_read(fd), 504, "deadline passed at PoP 'other'");
    close(fd);
    scene_end(&scene);
}

struct stalled {
    struct scene *scene;
    int fd;
    size_t got;
};

/* Whatever has come of it; true at its end. The mesh is always fresh. */
static bool stalled_cut(struct world *world, void *data)
{
    static const struct scene_figures down[] = { { "other", MESH_DOWN, 1, 0, 0 } };
    struct stalled *stalled = data;
    char part[4096];
    ssize_t n;
    (void)world;

    scene_mesh(stalled->scene, down, 1);
    while ((n = recv(stalled->fd, part, sizeof part, MSG_DONTWAIT)) > 0)
        stalled->got += (size_t)n;
    return n == 0 || errno != EAGAIN;
}

/* The rest of an answer is not waited for, once the mesh finds its PoP down. */
static void test_a_stalled_answer_of_a_pop_that_is_down(void **state)
{
    static const char request[] =
        "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "Content-Length: 2\r\n\r\n{}";
    struct scene scene;
    struct stalled stalled = { .scene = &scene };
    (void)state;

    scene_begin_away(&scene, PEER_STALLS);
    stalled.fd = world_connect(&scene.world);
    assert_int_equal(send(stalled.fd, request, sizeof request - 1, MSG_NOSIGNAL),
                     sizeof request - 1);
    assert_true(world_until(&scene.world, scene_asked, &scene.other));
    assert_true(world_until(&scene.world, stalled_cut, &stalled));
    assert_true(stalled.got > 0);
    assert_true(
        scene_counter(&scene.world, "perigee_forwards_total{pop=\"other\",result=\"broken\"} 1"));
    close(stalled.fd);
    scene_end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_here_with_any_body),
        cmocka_unit_test(test_here_with_a_large_body),
        cmocka_unit_test(test_here_before_its_end),
        cmocka_unit_test(test_a_hop_refused),
        cmocka_unit_test(test_a_refusal_without_a_budget),
        cmocka_unit_test(test_a_broken_answer_blames_nobody),
        cmocka_unit_test(test_renewal_asks_residency),
        cmocka_unit_test(test_a_denial_leaves_no_decision),
        cmocka_unit_test(test_too_large_to_be_given_up),
        cmocka_unit_test(test_a_stalled_answer_of_a_pop_that_is_down),
    };
    return cmocka_run_group_tests_name("forward_again", tests, NULL, NULL);
}
