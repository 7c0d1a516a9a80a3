/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits, who goes first, who is refused: a whole gateway with two loops, one place. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "gateway_case.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define BATCH "Perigee-Priority: batch\r\n"
#define ROW                                                                                        \
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[0,1,7,2]}]"
#define LABELS "{project=\"default\",endpoint=\"digits\","

#define LABELS_END "{project=\"default\",endpoint=\"digits\"}"

static const struct world_endpoint narrow = {
    .name = "digits",
    .queue_depth = 4,
    .concurrency = 1,
    .queue_timeout_ms = 30'000,
    .queue_cold_ms = 30'000,
    .timeout_ms = 30'000,
    .body_bytes_max = 1 << 20,
    .serving = 1,
    .revisions = 1,
};

static void begin_spinning(struct world *world, struct fake *fake,
                           const struct world_endpoint *endpoint, enum fake_mode mode,
                           uint32_t spin_us)
{
    *world = (struct world){ .spin_us = spin_us };
    case_begin(world, fake, endpoint, 1, mode);
}

static void begin(struct world *world, struct fake *fake, const struct world_endpoint *endpoint,
                  enum fake_mode mode)
{
    begin_spinning(world, fake, endpoint, mode, 0);
}

static void end(struct world *world, struct fake *fake)
{
    fake_release(fake); /* whatever it holds */
    case_end(world, fake);
}

/* Sends a request and returns once its loop has read it: its connection. The next is on the other
 * loop. */
static int ask(struct world *world, const char *headers, const char *parameters)
{
    char request[1024];
    char body[512];
    int fd = world_connect(world);

    snprintf(body, sizeof body, ROW ",\"parameters\":{%s}}", parameters);
    int size = snprintf(request, sizeof request,
                        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n%s"
                        "Content-Length: %zu\r\n\r\n%s",
                        headers, strlen(body), body);
    assert_int_equal(send(fd, request, (size_t)size, MSG_NOSIGNAL), size);
    world_pass(world);
    return fd;
}

/* Reads the answer of `*fd`, and closes it. */
static void answered(int *fd, int status, const char *part)
{
    struct reply reply = world_read(*fd);

    case_answer(&reply, status, part);
    if (status == 503 && !strstr(reply.text, "Retry-After: "))
        fail_msg("no Retry-After:\n%s", reply.text);
    reply_free(&reply);
    fd_close(fd);
}

/* Which of them is answered next; the others are not. */
static int next_answered(int *fds, int count)
{
    struct pollfd polls[8];
    int found = -1;

    for (int i = 0; i < count; i++)
        polls[i] = (struct pollfd){ fds[i], POLLIN, 0 }; /* those closed already are -1 */
    assert_true(poll(polls, (nfds_t)count, 10'000) == 1);
    for (int i = 0; i < count; i++)
        if (polls[i].revents)
            found = i;
    answered(&fds[found], 200, "\"data\":[2]");
    return found;
}

static bool line_is_there(struct world *world, void *data)
{
    struct arena *arena = arena_new();
    void *memory;
    struct err err;

    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &memory, &err), 0);
    struct slice text = gateway_metrics_print(arena, memory, gateway_region_bytes());
    bool found = strstr(arena_string(arena, text), data) != NULL;
    shm_unmap(memory, gateway_region_bytes());
    arena_free(arena);
    return found;
}

static void metrics_has(struct world *world, char *wanted)
{
    if (!world_until(world, line_is_there, wanted))
        fail_msg("no '%s'", wanted);
}

/* ---- what is asked for ---------------------------------------------------------------- */

static const struct {
    const char *headers, *parameters;
    int status;
    const char *part;
} terms[] = {
    { "Perigee-Timeout: 20s\r\n", "\"timeout\":20000000,\"priority\":2", 200, NULL },
    { "Perigee-Priority: interactive\r\ngrpc-timeout: 20S\r\n", "", 200, NULL },
    { "Perigee-Timeout: 300000000s\r\n", "\"timeout\":18446744073709551615", 200, NULL },
    { "Perigee-Priority: high\r\n", "", 400, "'high' is neither 'interactive' nor 'batch'" },
    { "Perigee-Priority:\r\n", "", 400, "Perigee-Priority: '' is neither" },
    { "Perigee-Priority: Batch\r\n", "", 400, "Perigee-Priority: 'Batch' is neither" },
    { BATCH "perigee-priority: interactive\r\n", "", 400, "twice" },
    { "Perigee-Timeout: 5\r\n", "", 400, "Perigee-Timeout: '5' needs a unit: us, ms, s, m, h, d" },
    { "Perigee-Timeout: 0ms\r\n", "", 400, "Perigee-Timeout: it must be above 0" },
    { "Perigee-Timeout: 5s\r\nPerigee-Timeout: 5s\r\n", "", 400, "twice" },
    { "grpc-timeout: 5\r\n", "", 400,
      "grpc-timeout: '5' is no timeout: 1 to 8 digits and one of H, M, S, m, u, n" },
    { "grpc-timeout: 0S\r\n", "", 400, "grpc-timeout: it must be above 0" },
    { "grpc-timeout: 5S\r\nGRPC-Timeout: 5S\r\n", "", 400, "twice" },
    { "", "\"priority\":\"batch\"", 400, "parameters" },
    { "", "\"timeout\":-1", 400, "parameters" },
    { "Perigee-Timeouts: 5s\r\n", "", 501, "Perigee-Timeouts is not supported" },
};

static void test_terms(void **state)
{
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &narrow, FAKE_RIGHT);
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        print_message("  %s%s\n", terms[i].headers, terms[i].parameters);
        int fd = ask(&world, terms[i].headers, terms[i].parameters);
        answered(&fd, terms[i].status, terms[i].part);
    }
    end(&world, &fake);
}

/* ---- classes -------------------------------------------------------------------------- */

static void test_interactive_requests_go_first(void **state)
{
    struct world_endpoint deep = narrow;
    struct world world;
    struct fake fake;
    int fds[7];
    static const int order[] = { 0, 3, 4, 1, 2, 5, 6 };
    (void)state;

    deep.queue_depth = 16;
    begin(&world, &fake, &deep, FAKE_STEPS);
    fds[0] = ask(&world, BATCH, "");
    fake_await_taken(&fake, 1);
    fds[1] = ask(&world, BATCH, "");
    fds[2] = ask(&world, "", "\"priority\":2");
    fds[3] = ask(&world, "", "");
    fds[4] = ask(&world, "Perigee-Priority: interactive\r\n", "\"priority\":1");
    fds[5] = ask(&world, BATCH, "\"priority\":1"); /* of two classes, the lower */
    fds[6] = ask(&world, "Perigee-Priority: interactive\r\n", "\"priority\":18446744073709551615");
    metrics_has(&world, "perigee_queue_requests" LABELS "class=\"interactive\"} 2");
    metrics_has(&world, "perigee_queue_requests" LABELS "class=\"batch\"} 4");
    for (int i = 0; i < 7; i++) {
        fake_step(&fake);
        assert_int_equal(next_answered(fds, 7), order[i]);
    }
    end(&world, &fake);
}

static void test_an_interactive_request_displaces_the_newest_batch_one(void **state)
{
    struct world_endpoint shallow = narrow;
    struct world world;
    struct fake fake;
    (void)state;

    shallow.queue_depth = 2;
    for (int turn = 0; turn < 2; turn++) { /* the newest on this loop, and on the other */
        begin(&world, &fake, &shallow, FAKE_STEPS);
        int running = ask(&world, "", "");
        fake_await_taken(&fake, 1);
        int oldest = ask(&world, BATCH, ""), newest = ask(&world, BATCH, "");
        if (turn)
            close(world_connect(&world));
        int full = ask(&world, BATCH, "");
        answered(&full, 503, "queue.depth 2");
        int first = ask(&world, "", "");
        answered(&newest, 503, "an interactive request took its place");
        int again = ask(&world, BATCH, "");
        answered(&again, 503, "queue.depth 2");
        int second = ask(&world, "", "");
        answered(&oldest, 503, "an interactive request took its place");
        int third = ask(&world, "", "");
        answered(&third, 503, "queue.depth 2");
        for (int i = 0; i < 3; i++)
            fake_step(&fake);
        answered(&running, 200, NULL);
        answered(&first, 200, NULL);
        answered(&second, 200, NULL);
        metrics_has(&world, "perigee_requests_overloaded_total" LABELS "reason=\"displaced\"} 2");
        metrics_has(&world, "perigee_requests_overloaded_total" LABELS "reason=\"queue\"} 3");
        metrics_has(&world, "perigee_queue_requests" LABELS "class=\"batch\"} 0");
        metrics_has(&world, "perigee_queue_requests" LABELS "class=\"interactive\"} 0");
        end(&world, &fake);
    }
}

static void test_bytes_that_wait_are_bounded(void **state)
{
    struct world_endpoint little = narrow;
    struct world world;
    struct fake fake;
    (void)state;

    little.queue_bytes_max = 600; /* one of some 300 bytes, and not two and a half */
    begin(&world, &fake, &little, FAKE_STEPS);
    int running = ask(&world, "", "");
    fake_await_taken(&fake, 1);
    int first = ask(&world, "", ""), batch = ask(&world, BATCH, "");
    int second = ask(&world, "", "");
    answered(&batch, 503, "an interactive request took its place");
    int third = ask(&world, "", "");
    answered(&third, 503, "inputs that wait may have 600 bytes");
    for (int i = 0; i < 3; i++)
        fake_step(&fake);
    answered(&running, 200, NULL);
    answered(&first, 200, NULL);
    answered(&second, 200, NULL);
    metrics_has(&world, "perigee_requests_overloaded_total" LABELS "reason=\"bytes\"} 1");
    end(&world, &fake);
}

/* ---- places --------------------------------------------------------------------------- */

/* Each loop has its own order of the two: what the other loop gave counts as well. */
static void test_the_less_loaded_replica_is_taken(void **state)
{
    struct world_endpoint wide = narrow;
    struct world world;
    struct fake fake, second = {};
    union message message;
    (void)state;

    wide.concurrency = 4;
    begin(&world, &fake, &wide, FAKE_HELD);
    fake_prepare(&world, &second, 8, WORLD_REVISION(0, 1));
    atomic_store(&second.mode, FAKE_HELD);
    fake_begin(&world, &second, wide.concurrency);
    world_expect(&world, true, MESSAGE_REPLICA_READY, &message);
    int first = ask(&world, "", ""), other = ask(&world, "", "");
    fake_await_taken(&fake, 1);
    fake_await_taken(&second, 1);
    fake_release(&fake);
    fake_release(&second);
    answered(&first, 200, NULL);
    answered(&other, 200, NULL);
    fake_exit(&world, &second);
    end(&world, &fake);
}

/* ---- tables --------------------------------------------------------------------------- */

/* Deleted and made anew between two tables: the name is the same, the endpoint another. */
static void test_one_made_anew_is_another_endpoint(void **state)
{
    struct world_endpoint two[] = { narrow, narrow };
    struct world world;
    struct fake fake;
    (void)state;

    two[0].name = "other";
    begin(&world, &fake, &narrow, FAKE_STEPS);
    int running = ask(&world, "", "");
    fake_await_taken(&fake, 1);
    int waits = ask(&world, "", "");
    world_table(&world, 2, two, 2);
    answered(&waits, 404, "was deleted");
    fake_step(&fake);
    answered(&running, 200, NULL);
    end(&world, &fake);
}

static bool line_is_gone(struct world *world, void *data)
{
    return !line_is_there(world, data);
}

static void test_a_deleted_endpoint_leaves_no_series(void **state)
{
    static char series[] = "endpoint=\"digits\"";
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &narrow, FAKE_RIGHT);
    int fd = ask(&world, "", "");
    answered(&fd, 200, NULL);
    metrics_has(&world, series);
    world_table(&world, 2, &narrow, 0);
    assert_true(world_until(&world, line_is_gone, series));
    end(&world, &fake);
}

/* ---- deadlines ------------------------------------------------------------------------ */

/* So that there is something to go by. */
static void teach(struct world *world, struct fake *fake, uint32_t ms)
{
    atomic_store(&fake->slow_ms, ms);
    atomic_store(&fake->mode, FAKE_SLOW);
    for (int i = 0; i < 5; i++) {
        int fd = ask(world, "Perigee-Timeout: 20s\r\n", "");
        answered(&fd, 200, "Server-Timing: "); /* cold where its loop has not heard of READY */
    }
}

static void test_a_deadline_that_cannot_be_met_is_refused_at_once(void **state)
{
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &narrow, FAKE_SLOW);
    atomic_store(&fake.slow_ms, 200);
    int unknown = ask(&world, "Perigee-Timeout: 150ms\r\n", ""); /* nothing is known: tried */
    answered(&unknown, 504, "deadline");
    assert_int_equal(atomic_load(&fake.taken), 1);
    teach(&world, &fake, 200);
    uint32_t taken = atomic_load(&fake.taken);
    int late = ask(&world, "Perigee-Timeout: 150ms\r\n", "");
    answered(&late, 503, "the deadline cannot be met");
    late = ask(&world, "grpc-timeout: 150m\r\n", "");
    answered(&late, 503, "the deadline cannot be met");
    late = ask(&world, "", "\"timeout\":150000");
    answered(&late, 503, "the deadline cannot be met");
    late = ask(&world, "Perigee-Timeout: 20s\r\ngrpc-timeout: 20S\r\n", "\"timeout\":150000");
    answered(&late, 503, "the deadline cannot be met"); /* of several the earliest */
    late = ask(&world, "Perigee-Timeout: 150ms\r\ngrpc-timeout: 20S\r\n", "\"timeout\":20000000");
    answered(&late, 503, "the deadline cannot be met");
    assert_int_equal(atomic_load(&fake.taken), taken);
    /* One runs and three wait: some 800 ms, and that is known. */
    atomic_store(&fake.mode, FAKE_STEPS);
    int fds[4];
    for (int i = 0; i < 4; i++)
        fds[i] = ask(&world, i % 2 ? BATCH : "", "");
    late = ask(&world, BATCH "Perigee-Timeout: 300ms\r\n", "");
    answered(&late, 503, "the deadline cannot be met");
    late = ask(&world, "Perigee-Timeout: 300ms\r\n", ""); /* but one of those before it */
    answered(&late, 503, "the deadline cannot be met");
    int patient = ask(&world, "Perigee-Timeout: 20s\r\n", "");
    for (int i = 0; i < 5; i++)
        fake_step(&fake);
    answered(&patient, 200, NULL);
    for (int i = 0; i < 4; i++)
        answered(&fds[i], 200, NULL);
    metrics_has(&world, "perigee_requests_overloaded_total" LABELS "reason=\"deadline\"} 7");
    end(&world, &fake);
}

/* Ten batch requests wait, some two seconds: those do not count for one that goes before them. */
static void test_a_deadline_does_not_stand_behind_batches(void **state)
{
    enum { BATCHES = 10 };
    struct world_endpoint deep = narrow;
    struct world world;
    struct fake fake;
    int fds[1 + BATCHES];
    (void)state;

    deep.queue_depth = 16;
    begin(&world, &fake, &deep, FAKE_SLOW);
    teach(&world, &fake, 200);
    atomic_store(&fake.mode, FAKE_STEPS);
    for (int i = 0; i < 1 + BATCHES; i++)
        fds[i] = ask(&world, i ? BATCH : "", "");
    int behind = ask(&world, BATCH "Perigee-Timeout: 1500ms\r\n", "");
    answered(&behind, 503, "the deadline cannot be met");
    int before = ask(&world, "Perigee-Timeout: 1500ms\r\n", "");
    for (int i = 0; i < 2 + BATCHES; i++)
        fake_step(&fake);
    for (int i = 0; i < 1 + BATCHES; i++)
        answered(&fds[i], 200, NULL);
    struct reply reply = world_read(before); /* 504 where this machine was slow */
    assert_int_not_equal(reply.status, 503);
    reply_free(&reply);
    fd_close(&before);
    metrics_has(&world, "perigee_requests_overloaded_total" LABELS "reason=\"deadline\"} 1");
    end(&world, &fake);
}

/* Both are in the ring; the second begins when the first has ended, and its timeout too. */
static void test_a_timeout_is_that_of_a_run(void **state)
{
    struct world_endpoint two = narrow;
    struct world world;
    struct fake fake;
    (void)state;

    two.concurrency = 2;
    two.timeout_ms = 1700;
    begin(&world, &fake, &two, FAKE_SLOW);
    atomic_store(&fake.slow_ms, 1000);
    int first = ask(&world, "", ""), second = ask(&world, "", "");
    answered(&first, 200, NULL);
    answered(&second, 200, NULL);
    end(&world, &fake);
}

/* The model takes 200 ms, but the one before took 500: with 100 left there is no use in a run. */
static void test_one_whose_turn_comes_too_late_is_not_run(void **state)
{
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &narrow, FAKE_SLOW);
    teach(&world, &fake, 200);
    uint32_t taken = atomic_load(&fake.taken);
    atomic_store(&fake.slow_ms, 500);
    int before = ask(&world, "", "");
    int waits = ask(&world, "Perigee-Timeout: 600ms\r\n", ""), next = ask(&world, "", "");
    answered(&before, 200, NULL);
    answered(&waits, 504, "deadline");
    answered(&next, 200, NULL);
    assert_int_equal(atomic_load(&fake.taken), taken + 2);
    end(&world, &fake);
}

/* ---- clients that go away ------------------------------------------------------------- */

static bool canceled_is(struct world *world, void *data)
{
    const struct fake *fake = ((void **)data)[0];
    unsigned wanted = *(unsigned *)((void **)data)[1], found = 0;
    (void)world;

    for (unsigned lane = 0; lane < 2 * WORLD_LOOPS; lane++)
        for (unsigned i = 0; i < PERIGEE_RING_ENTRIES / 64; i++)
            found += (unsigned)__builtin_popcountll(
                atomic_load(&fake->submission->lanes[lane].canceled[i]));
    return found == wanted;
}

static void test_a_client_that_goes_away_leaves_its_place(void **state)
{
    struct world_endpoint wide = narrow;
    struct world world;
    struct fake fake;
    unsigned wanted = 1;
    void *data[] = { &fake, &wanted };
    int fds[WORLD_SLOTS / 2];
    (void)state;

    wide.concurrency = 2;
    wide.queue_depth = 2 * WORLD_SLOTS;
    begin(&world, &fake, &wide, FAKE_STEPS);
    int running = ask(&world, "", "");
    fake_await_taken(&fake, 1);
    int in_ring = ask(&world, "", ""), waits = ask(&world, "", ""), next = ask(&world, BATCH, "");
    metrics_has(&world, "perigee_queue_requests" LABELS "class=\"interactive\"} 1");
    close(waits);
    metrics_has(&world, "perigee_queue_requests" LABELS "class=\"interactive\"} 0");
    close(in_ring);
    assert_true(world_until(&world, canceled_is, data)); /* the replica is told */
    metrics_has(&world, "perigee_requests_canceled_total" LABELS_END " 2");
    for (int i = 0; i < 3; i++)
        fake_step(&fake);
    answered(&running, 200, NULL);
    answered(&next, 200, NULL);
    /* A slot that is used again is for somebody. */
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fds[i] = ask(&world, "", "");
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fake_step(&fake);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        answered(&fds[i], 200, NULL);
    wanted = 0;
    assert_true(world_until(&world, canceled_is, data));
    end(&world, &fake);
}

/* It waits for a replica's start, and its tensor for a place to be read to. */
static void test_a_client_that_goes_away_while_it_is_held_leaves_its_place(void **state)
{
    static const char json[] =
        "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\","
        "\"parameters\":{\"binary_data_size\":16}}]}";
    struct world_endpoint one = narrow;
    struct world world = {};
    struct fake fake = {};
    char request[512];
    (void)state;

    one.queue_depth = 1;
    world_start(&world, 1);
    world_table(&world, 1, &one, 1);
    world_go(&world);
    int size = snprintf(request, sizeof request,
                        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                        "Inference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n\r\n"
                        "%s0123456789abcdef",
                        sizeof json - 1, sizeof json + 15, json);
    int held = world_connect(&world);
    assert_int_equal(send(held, request, (size_t)size, MSG_NOSIGNAL), size);
    world_await_waiting(&world, WORLD_REVISION(0, 1), 1);
    close(held);
    metrics_has(&world, "perigee_requests_canceled_total" LABELS_END " 1");
    int next = ask(&world, "", ""); /* else the queue would be full */
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 1);
    answered(&next, 200, "\"data\":[2]");
    end(&world, &fake);
}

/* Twice the supervisor has no memory for it; the third time it has. */
static void test_an_arena_that_cannot_be_made_is_asked_for_again(void **state)
{
    struct world_endpoint known = narrow;
    struct world world = {};
    struct fake fake = {};
    union message message;
    (void)state;

    known.model = true;
    world_start(&world, 1);
    world_table(&world, 1, &known, 1);
    world_go(&world);
    int waits = ask(&world, "", "");
    for (int i = 0; i < 3; i++) {
        world_expect(&world, false, MESSAGE_ARENA_WANT, &message);
        assert_int_equal(message.as_MESSAGE_ARENA_WANT.revision, WORLD_REVISION(0, 1));
    }
    message = (union message){ .as_MESSAGE_ARENA = MESSAGE_INIT(MESSAGE_ARENA) };
    message.as_MESSAGE_ARENA.revision = WORLD_REVISION(0, 1);
    message.as_MESSAGE_ARENA.bytes = WORLD_ARENA_BYTES;
    world_send(&world, &message, &world.arena_fd, 1);
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 1);
    answered(&waits, 200, "\"data\":[2]");
    assert_false(world_maybe(&world, false, MESSAGE_ARENA_WANT, 0, &message));
    end(&world, &fake);
}

/* Another gateway has the agent's ear; the supervisor passes it on. */
static void test_a_gateway_that_ends_says_what_waits(void **state)
{
    struct world world = {};
    struct fake fake = {};
    union message message;
    (void)state;

    world_start(&world, 1);
    world_table(&world, 1, &narrow, 1);
    channel_free(take_ptr(world.agent));
    world_go(&world);
    int waits = ask(&world, "", "");
    for (int i = 0; i < 2; i++) {
        world_expect(&world, false, MESSAGE_DEMAND, &message);
        assert_int_equal(message.as_MESSAGE_DEMAND.revision, WORLD_REVISION(0, 1));
        assert_int_equal(message.as_MESSAGE_DEMAND.waiting, 1);
    }
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 1);
    answered(&waits, 200, "\"data\":[2]");
    end(&world, &fake);
}

static void await_table(struct world *world, uint64_t number)
{
    union message message = {};

    while (message.as_MESSAGE_TABLE_SERVED.number != number)
        world_expect(world, true, MESSAGE_TABLE_SERVED, &message);
}

/* It has run before, so that another start may do: who waits for it waits on, who comes waits too,
 * and after queue.cold they hear why the last one failed. */
static void test_a_start_that_failed_is_waited_for(void **state)
{
    struct world_endpoint failed = narrow;
    struct world world = {};
    struct fake fake = {};
    int waits[2];
    (void)state;

    world_start(&world, 1);
    world_table(&world, 1, &narrow, 1);
    world_go(&world);
    waits[0] = ask(&world, "", "");
    world_await_waiting(&world, WORLD_REVISION(0, 1), 1);
    failed.message = "killed by signal 9";
    failed.retried = true;
    world_table(&world, 2, &failed, 1);
    await_table(&world, 2);
    waits[1] = ask(&world, "", "");
    world_await_waiting(&world, WORLD_REVISION(0, 1), 2);
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 1);
    answered(&waits[0], 200, "\"data\":[2]");
    answered(&waits[1], 200, "\"data\":[2]");
    fake_exit(&world, &fake);
    failed.queue_cold_ms = 20;
    world_table(&world, 3, &failed, 1);
    await_table(&world, 3);
    waits[0] = ask(&world, "", "");
    answered(&waits[0], 504, "within queue.cold (20 ms); the last start: killed by signal 9");
    end(&world, &fake);
}

/* One that never ran is refused with its words; but the agent hears that somebody asks. */
static void test_who_is_refused_has_come(void **state)
{
    struct world_endpoint failed = narrow;
    struct world world = {};
    struct fake fake = {};
    union message message;
    (void)state;

    failed.message = "the file is no ONNX model";
    world_start(&world, 1);
    world_table(&world, 1, &failed, 1);
    world_go(&world);
    int refused = ask(&world, "", "");
    answered(&refused, 503, "the file is no ONNX model");
    world_expect(&world, true, MESSAGE_DEMAND, &message);
    assert_int_equal(message.as_MESSAGE_DEMAND.revision, WORLD_REVISION(0, 1));
    assert_int_equal(message.as_MESSAGE_DEMAND.arrivals, 1);
    assert_int_equal(message.as_MESSAGE_DEMAND.waiting, 0);
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 1);
    end(&world, &fake);
}

/* The agent says nothing, so each waits; those above the bound of their loop do not. */
static void test_loads_that_wait_are_bounded(void **state)
{
    enum { ASKED = 64 * WORLD_LOOPS + 2 };
    static const char load[] = "POST /v2/repository/models/digits/load HTTP/1.1\r\n"
                               "Host: localhost\r\nContent-Length: 2\r\n\r\n{}";
    struct world world;
    struct fake fake;
    struct pollfd asked[ASKED];
    unsigned refused = 0;
    (void)state;

    begin(&world, &fake, &narrow, FAKE_RIGHT);
    for (size_t i = 0; i < ASKED; i++) {
        asked[i] = (struct pollfd){ .fd = world_connect(&world), .events = POLLIN };
        assert_int_equal(send(asked[i].fd, load, sizeof load - 1, MSG_NOSIGNAL), sizeof load - 1);
    }
    while (refused < 2) {
        assert_true(poll(asked, ASKED, 10'000) > 0);
        for (size_t i = 0; i < ASKED; i++) {
            if (!asked[i].revents)
                continue;
            answered(&asked[i].fd, 503, "under way");
            refused++;
        }
    }
    for (size_t i = 0; i < ASKED; i++)
        fd_close(&asked[i].fd);
    end(&world, &fake);
}

/* A loop that looks for work before it sleeps loses none, whatever it does when work comes. */
static void test_loops_that_spin(void **state)
{
    struct world_endpoint brief = narrow;
    struct world world;
    struct fake fake;
    (void)state;

    begin_spinning(&world, &fake, &narrow, FAKE_RIGHT, 10'000);
    for (int i = 0; i < 100; i++) {
        struct reply reply = world_infer(&world, "", ROW "}");
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
        if (i % 10 == 0)
            world_pass(&world);
    }
    /* Nothing comes: it sleeps in the end, and a timer wakes it. */
    atomic_store(&fake.mode, FAKE_SILENT);
    brief.timeout_ms = 50;
    world_table(&world, 2, &brief, 1);
    union message served;
    do
        world_expect(&world, true, MESSAGE_TABLE_SERVED, &served);
    while (served.as_MESSAGE_TABLE_SERVED.number < 2);
    struct reply late = world_infer(&world, "", ROW "}");
    assert_int_equal(late.status, 504);
    reply_free(&late);
    end(&world, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms),
        cmocka_unit_test(test_interactive_requests_go_first),
        cmocka_unit_test(test_an_interactive_request_displaces_the_newest_batch_one),
        cmocka_unit_test(test_bytes_that_wait_are_bounded),
        cmocka_unit_test(test_the_less_loaded_replica_is_taken),
        cmocka_unit_test(test_one_made_anew_is_another_endpoint),
        cmocka_unit_test(test_a_deleted_endpoint_leaves_no_series),
        cmocka_unit_test(test_a_deadline_that_cannot_be_met_is_refused_at_once),
        cmocka_unit_test(test_a_deadline_does_not_stand_behind_batches),
        cmocka_unit_test(test_a_timeout_is_that_of_a_run),
        cmocka_unit_test(test_one_whose_turn_comes_too_late_is_not_run),
        cmocka_unit_test(test_a_client_that_goes_away_leaves_its_place),
        cmocka_unit_test(test_a_client_that_goes_away_while_it_is_held_leaves_its_place),
        cmocka_unit_test(test_an_arena_that_cannot_be_made_is_asked_for_again),
        cmocka_unit_test(test_a_gateway_that_ends_says_what_waits),
        cmocka_unit_test(test_a_start_that_failed_is_waited_for),
        cmocka_unit_test(test_who_is_refused_has_come),
        cmocka_unit_test(test_loads_that_wait_are_bounded),
        cmocka_unit_test(test_loops_that_spin),
    };
    return cmocka_run_group_tests_name("gateway_admission", tests, NULL, NULL);
}
