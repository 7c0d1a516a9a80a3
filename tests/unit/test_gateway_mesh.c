/* SPDX-License-Identifier: Apache-2.0 */
/* Another PoP's agent asks how this one is; anyone else finds no such path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/env.h"
#include "base/err.h"
#include "contract/mesh.h"
#include "contract/peer_load.h"
#include "gateway_case.h"
#include "io/loop.h"
#include "proto/hop.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define SELF "local"
#define ROW                                                                                        \
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[0,1,7,2]}]}"
static const unsigned char tokyo[HOP_KEY_BYTES] = "tokyo's", quito[HOP_KEY_BYTES] = "quito's";

static const struct world_endpoint digits = {
    .name = "digits",
    .queue_depth = 4,
    .concurrency = 2,
    .queue_timeout_ms = 30'000,
    .queue_cold_ms = 30'000,
    .timeout_ms = 2000,
    .body_bytes_max = 1 << 20,
    .serving = 1,
    .revisions = 1,
};

static void key_send(struct world *world, uint32_t flags, const char *pop, const void *key)
{
    union message message = { .as_MESSAGE_PEER_KEY = MESSAGE_INIT(MESSAGE_PEER_KEY) };
    struct err err = {};
    message.as_MESSAGE_PEER_KEY.flags = flags;
    (void)snprintf(message.as_MESSAGE_PEER_KEY.pop, 64, "%s", pop);
    if (key)
        memcpy(message.as_MESSAGE_PEER_KEY.key, key, HOP_KEY_BYTES);
    if (channel_send(world->agent, &message, message_size(MESSAGE_PEER_KEY), NULL, 0, &err) < 0)
        fail_msg("%s", err.message);
}

/* What the agent had sent before has been read: this is answered at once. */
static void agent_pass(struct world *world)
{
    union message message = { .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    struct err err = {};
    message.as_MESSAGE_REPLICA_DRAIN.replica = 999;
    if (channel_send(world->agent, &message, message_size(MESSAGE_REPLICA_DRAIN), NULL, 0, &err) <
        0)
        fail_msg("%s", err.message);
    world_expect(world, true, MESSAGE_REPLICA_DRAINED, &message);
}

static void keys_send(struct world *world)
{
    key_send(world, MESSAGE_KEYS_FIRST, "tokyo", tokyo);
    key_send(world, 0, "quito", quito);
    key_send(world, 0, "", NULL);
    agent_pass(world);
}

struct question { /* what is NULL is right */
    const char *name;
    bool bare; /* without a header */
    const char *from, *to, *signed_target, *target, *method;
    const unsigned char *key;
    const char *more; /* headers */
    int status;
};
#define TARGET PEER_LOAD_PATH "?life=0&since=0"

static const char *or_right(const char *said, const char *right)
{
    return said ? said : right;
}

static struct reply ask(struct world *world, const struct question *question)
{
    char hop_text[HOP_BYTES_MAX] = "", text[2048];
    struct err err = {};
    const char *method = or_right(question->method, "GET");
    const char *target = or_right(question->target, TARGET);
    const struct hop hop = { .from = slice_of(or_right(question->from, "tokyo")),
                             .to = slice_of(or_right(question->to, SELF)),
                             .id = SLICE("probe-1") };
    const struct hop_request request = {
        .method = slice_of(method),
        .target = slice_of(or_right(question->signed_target, target)),
    };
    if (!question->bare &&
        hop_print(&hop, &request, question->key ? question->key : tokyo, hop_text, &err) < 0)
        fail_msg("%s", err.message);
    int size = snprintf(text, sizeof text,
                        "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s%s%sConnection: close\r\n\r\n",
                        method, target, hop_text[0] ? HOP_HEADER ": " : "", hop_text,
                        hop_text[0] ? "\r\n" : "", or_right(question->more, ""));
    return world_ask(world, text, (size_t)size);
}

static void test_who_may_ask(void **)
{
    static const struct question rows[] = {
        { "right", .status = 200 },
        { "without a header", .bare = true, .status = 404 },
        { "another's key", .key = quito, .status = 404 },
        { "from one who has no key", .from = "rome", .status = 404 },
        { "to another PoP", .to = "rome", .status = 404 },
        { "signed for another question", .signed_target = "/v2", .status = 404 },
        { "another method", .method = "POST", .status = 404 },
        { "another path", .target = "/.perigee/other", .status = 404 },
        { "two headers", .more = HOP_HEADER ": v1; from=a\r\n", .status = 404 },
        { "no hop at all", .bare = true, .more = HOP_HEADER ": x\r\n", .status = 404 },
        { "odd numbers are none", .target = PEER_LOAD_PATH "?life=-1&since=%ff", .status = 200 },
    };
    struct world world = {};
    struct fake fake;
    case_begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    struct reply early = ask(&world, &rows[0]);
    assert_int_equal(early.status, 404); /* no keys yet */
    reply_free(&early);
    keys_send(&world);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply reply = ask(&world, &rows[i]);
        print_message("  %s\n", rows[i].name);
        if (reply.status != rows[i].status)
            fail_msg("%d: %s", reply.status, reply.text);
        reply_free(&reply);
    }
    /* A row of keys that has not ended does not count; one that has takes the place of all. */
    key_send(&world, MESSAGE_KEYS_FIRST, "quito", tokyo);
    agent_pass(&world);
    struct reply before = ask(&world, &rows[0]);
    key_send(&world, 0, "", NULL);
    agent_pass(&world);
    struct reply after = ask(&world, &rows[0]);
    assert_true(before.status == 200 && after.status == 404);
    reply_free(&before);
    reply_free(&after);
    case_end(&world, &fake);
}

static struct slice body_of(const struct reply *reply)
{
    struct slice bytes = { reply->body, reply->body_bytes };
    struct err err = {};
    if (reply->status != 200 || peer_load_check(bytes, &err) < 0)
        fail_msg("%d: %s", reply->status, err.message);
    return bytes;
}

static void test_what_is_said(void **)
{
    struct world world = {};
    struct fake fake;
    char target[96];
    case_begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    keys_send(&world);
    struct question question = {};
    struct reply reply = ask(&world, &question);
    struct peer_load_head head = peer_load_head(body_of(&reply));
    assert_true(head.count == 1 && head.flags == PEER_LOAD_WHOLE && head.life != 0);
    struct peer_load_row row = peer_load_row(body_of(&reply), 0);
    assert_int_equal(row.places, 2);
    assert_true(row.start_ms == 0 && row.capacity_per_s > 0 && row.waiting == 0);
    reply_free(&reply);

    /* What has not changed is not said again. */
    snprintf(target, sizeof target, PEER_LOAD_PATH "?life=%llu&since=%llu",
             (unsigned long long)head.life, (unsigned long long)head.number);
    question.target = target;
    reply = ask(&world, &question);
    struct peer_load_head delta = peer_load_head(body_of(&reply));
    assert_true(delta.count == 0 && delta.flags == 0 && delta.since == head.number);
    reply_free(&reply);

    /* What was asked for is: each question to the next report, which says so once. */
    struct reply inferred = world_infer(&world, "", ROW);
    assert_int_equal(inferred.status, 200);
    reply_free(&inferred);
    float arrivals = 0;
    while (arrivals == 0) {
        reply = ask(&world, &question);
        delta = peer_load_head(body_of(&reply));
        arrivals = delta.count ? peer_load_row(body_of(&reply), 0).arrivals_per_s : 0;
        reply_free(&reply);
    }
    assert_true(delta.number > head.number);

    /* Of a life that is none of this gateway's: all. */
    question.target = PEER_LOAD_PATH "?life=1&since=1";
    reply = ask(&world, &question);
    assert_true(peer_load_head(body_of(&reply)).flags == PEER_LOAD_WHOLE);
    reply_free(&reply);

    /* An agent that reads later versions, and one from before it was said which: what both read. */
    static const struct {
        const char *asked;
        unsigned answered;
    } versions[] = { { "&version=2", 2 },
                     { "&version=3", 3 },
                     { "&version=9", 3 },
                     { "&version=x", 2 },
                     { "", 2 } };
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        snprintf(target, sizeof target, PEER_LOAD_PATH "?life=1&since=1%s", versions[i].asked);
        question.target = target;
        reply = ask(&world, &question);
        assert_int_equal(reply.status, 200);
        assert_int_equal(peer_load_head(body_of(&reply)).version, versions[i].answered);
        assert_int_equal(peer_load_row(body_of(&reply), 0).places, 2);
        reply_free(&reply);
    }
    case_end(&world, &fake);
}

/* The next report, its row of that index as `ret`; the one before was `number`. */
static struct peer_load_head next_report(struct world *world, uint64_t number, uint32_t index,
                                         struct peer_load_row *ret)
{
    for (;;) {
        struct reply reply = ask(world, &(struct question){});
        struct peer_load_head head = peer_load_head(body_of(&reply));
        *ret = peer_load_row(body_of(&reply), index);
        reply_free(&reply);
        if (head.number > number)
            return head;
    }
}

/* What its head alone forbids is no load, and of who sent it nothing is told. */
static void test_what_is_forbidden_is_not_counted(void **)
{
    static const struct {
        const char *name, *headers;
        int status;
    } rows[] = {
        { "narrowed away", "Perigee-Process-In: EU\r\n", 451 },
        { "narrowed to nonsense", "Perigee-Process-In: UK\r\n", 400 },
        { "a forged hop",
          HOP_HEADER ": v1; from=tokyo; to=local; client=FR; deadline=1; id=a; mac="
                     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
          400 },
        { "a header that is none", "Perigee-Nonsense: 1\r\n", 501 },
        { "a foreign page", "Origin: https://example.org\r\n", 403 },
    };
    struct world world = {};
    struct fake fake;
    struct peer_load_row row;
    union message message;
    case_begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    keys_send(&world);
    struct peer_load_head head = next_report(&world, 0, 0, &row);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply reply = world_infer(&world, rows[i].headers, ROW);
        print_message("  %s\n", rows[i].name);
        case_answer(&reply, rows[i].status, "");
        reply_free(&reply);
    }
    head = next_report(&world, head.number, 0, &row);
    assert_true(row.arrivals_per_s == 0);
    struct reply reply = world_infer(&world, "", ROW);
    case_answer(&reply, 200, "");
    reply_free(&reply);
    (void)next_report(&world, head.number, 0, &row);
    assert_true(row.arrivals_per_s > 0);
    world_expect(&world, true, MESSAGE_ASKED, &message);
    assert_int_equal(message.as_MESSAGE_ASKED.count, 1);
    assert_int_equal(message.as_MESSAGE_ASKED.cells[0].requests, 1);
    case_end(&world, &fake);
}

/* Those of an endpoint that was gone and is there again. */
static void test_arrivals_are_counted_anew(void **)
{
    static const char post[] = "POST /v2/models/other/versions/9/infer HTTP/1.1\r\nHost: "
                               "127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    struct world_endpoint both[2] = { digits, digits };
    struct world world = {};
    struct fake fake;
    struct peer_load_row row;
    both[1].name = "other";
    case_begin(&world, &fake, both, 2, FAKE_RIGHT);
    keys_send(&world);
    struct peer_load_head head = next_report(&world, 0, 1, &row);
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < 3 - 2 * turn; i++) { /* 3, and 1 */
            struct reply reply = world_ask(&world, post, sizeof post - 1);
            case_answer(&reply, 404, "has no version");
            reply_free(&reply);
        }
        head = next_report(&world, head.number, 1, &row);
        assert_true(turn == 0 ? row.arrivals_per_s > 0 : row.arrivals_per_s == 0);
        for (size_t count = 1; turn == 0 && count <= 2; count++) {
            union message message;
            world_table(&world, 1 + count, both, count);
            do
                world_expect(&world, true, MESSAGE_TABLE_SERVED, &message);
            while (message.as_MESSAGE_TABLE_SERVED.number < 1 + count);
        }
    }
    case_end(&world, &fake);
}

static void test_a_cold_endpoint(void **)
{
    static const struct {
        const char *message;
        uint32_t state;
        bool said, starts;
        uint32_t start_ms; /* in the table; 0: nobody has seen one */
    } rows[] = {
        { NULL, TABLE_ENDPOINT_RUNNING, true, true, 0 },
        { NULL, TABLE_ENDPOINT_RUNNING, true, true, 70 },
        { "it broke", TABLE_ENDPOINT_RUNNING, true, false, 70 },
        { NULL, TABLE_ENDPOINT_AWAY, false, false, 70 },
        { NULL, TABLE_ENDPOINT_STOPPED, false, false, 70 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world_endpoint cold = digits;
        struct world world = {};
        cold.message = rows[i].message;
        cold.state = rows[i].state;
        cold.start_ms = rows[i].start_ms;
        world_start(&world, 1);
        world_table(&world, 1, &cold, 1);
        world_go(&world);
        keys_send(&world);
        struct reply reply = ask(&world, &(struct question){});
        struct slice bytes = body_of(&reply);
        assert_int_equal(peer_load_head(bytes).count, rows[i].said);
        if (rows[i].said) {
            struct peer_load_row row = peer_load_row(bytes, 0);
            assert_int_equal(row.places, 0);
            assert_int_equal(row.start_ms > 0 && row.start_ms < 60'000, rows[i].starts);
            if (rows[i].starts && rows[i].start_ms)
                assert_float_equal(row.start_ms, rows[i].start_ms, 0);
        }
        reply_free(&reply);
        world_stop(&world);
        case_closed(&world);
    }
}

/* A replica that was ready before this gateway heard of it tells nothing; its agent has seen all of
 * the start. An agent that is new has seen none, and what is known stays. */
static void test_how_long_a_start_takes(void **)
{
    static const uint32_t told[] = { 70, 0, 90 }, said[] = { 70, 70, 90 };
    struct world world = {};
    struct fake fake;
    struct peer_load_row row;
    struct world_endpoint slow = digits;
    union message message;
    case_begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    keys_send(&world);
    fake_exit(&world, &fake);
    struct peer_load_head head = {};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        slow.start_ms = told[i];
        world_table(&world, 2 + i, &slow, 1);
        do
            world_expect(&world, true, MESSAGE_TABLE_SERVED, &message);
        while (message.as_MESSAGE_TABLE_SERVED.number < 2 + i);
        head = next_report(&world, head.number, 0, &row);
        assert_int_equal(row.places, 0);
        assert_float_equal(row.start_ms, said[i], 0);
    }
    case_end(&world, &fake);
}

static void mesh_send(struct world *world, const void *bytes, size_t size)
{
    union message message = { .as_MESSAGE_MESH_NEW = MESSAGE_INIT(MESSAGE_MESH_NEW) };
    struct err err = {};
    int fd = -1;
    if (shm_publish("mesh", bytes, size, &fd, &err) < 0)
        fail_msg("%s", err.message);
    world_send(world, &message, &fd, 1);
    fd_close(&fd);
}

/* For world_until(): every loop has the mesh. */
static bool reached_are(struct world *world, void *count)
{
    bool all = true;
    for (int i = 0; i < WORLD_LOOPS; i++) { /* connections go to one loop after the other */
        struct reply reply = ask(world, &(struct question){});
        all = peer_load_head(body_of(&reply)).reached == *(uint32_t *)count && all;
        reply_free(&reply);
    }
    return all;
}

/* Of whom the agent does not reach, or has not judged, nothing is said. */
static void test_who_is_reached(void **)
{
    static const char *const said[] = { "tokyo", "rome", SELF };
    struct world world = {};
    struct fake fake;
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice bytes = {};
    struct mesh_pop pops[] = { { .name = "tokyo" },
                               { .name = "quito", .health = MESH_DOWN },
                               { .name = "oslo", .health = MESH_DOWN, .elsewhere = 1 },
                               { .name = "rome", .health = MESH_DRAINING },
                               { .name = SELF } };
    struct mesh_source source = { .pops = pops, .pop_count = 5 };
    case_begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    keys_send(&world);
    struct reply reply = ask(&world, &(struct question){});
    assert_int_equal(peer_load_head(body_of(&reply)).reached, 0); /* there is no mesh yet */
    reply_free(&reply);
    for (int turn = 0; turn < 3; turn++) { /* the last has grown old */
        source.number++;
        source.at_ns = loop_now_ns() - (turn == 2 ? MESH_FRESH_NS + ENV_S : 0);
        for (size_t i = 0; turn == 1 && i < source.pop_count; i++)
            if (strcmp(pops[i].name, "rome") == 0)
                pops[i].health = MESH_DOWN;
        if (mesh_build(arena, &source, &bytes, &err) < 0)
            fail_msg("%s", err.message);
        mesh_send(&world, bytes.data, bytes.size);
        uint32_t count = turn == 0 ? 3 : turn == 1 ? 2 : 0;
        assert_true(world_until(&world, reached_are, &count));
        reply = ask(&world, &(struct question){});
        struct slice body = body_of(&reply);
        for (size_t i = 0; i < sizeof said / sizeof *said; i++)
            assert_int_equal(peer_load_reaches(body, peer_load_name(slice_of(said[i]))),
                             turn == 0 || (turn == 1 && i != 1));
        reply_free(&reply);
    }
    arena_free(arena);
    case_end(&world, &fake);
}

/* Good ones, broken ones and good ones again: nothing is left over (a sanitizer would say). */
static void test_meshes_come_and_go(void **)
{
    struct world world = {};
    struct fake fake;
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice bytes = {};
    struct mesh_pop pops[] = { { .name = "tokyo" }, { .name = SELF } };
    const struct mesh_source source = { .number = 1, .pops = pops, .pop_count = 2 };
    case_begin(&world, &fake, &digits, 1, FAKE_RIGHT);
    assert_int_equal(mesh_build(arena, &source, &bytes, &err), 0);
    for (int i = 0; i < 8; i++) {
        mesh_send(&world, i == 3 ? "no mesh" : bytes.data, i == 3 ? 7 : bytes.size);
        world_pass(&world);
    }
    struct reply reply = world_infer(&world, "", ROW);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    arena_free(arena);
    case_end(&world, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_ask),
        cmocka_unit_test(test_what_is_said),
        cmocka_unit_test(test_what_is_forbidden_is_not_counted),
        cmocka_unit_test(test_arrivals_are_counted_anew),
        cmocka_unit_test(test_a_cold_endpoint),
        cmocka_unit_test(test_how_long_a_start_takes),
        cmocka_unit_test(test_who_is_reached),
        cmocka_unit_test(test_meshes_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
