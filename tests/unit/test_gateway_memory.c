/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas and arenas for which the gateway finds no memory when it hears of them. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "faults_maps.h"
#include "gateway/core.h"
#include "gateway_case.h"
#include "soon.h"
#include "sys/channel.h"
#include "sys/fd.h"

/* Every loop has that table, and so the main thread all that was said before. */
static void table_served(struct world *world, uint64_t number)
{
    union message message = {};

    world_table(world, number, &case_digits, 1);
    while (message.as_MESSAGE_TABLE_SERVED.number != number)
        world_expect(world, true, MESSAGE_TABLE_SERVED, &message);
}

static void begin(struct world *world, uint32_t flags)
{
    *world = (struct world){ .flags = flags };
    world_start(world, 1);
    world_go(world);
    table_served(world, 1);
}

static void end(struct world *world)
{
    world_stop(world);
    case_closed(world);
}

static void tell_drain(struct world *world, uint64_t id)
{
    union message message = { .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    struct err err;

    message.as_MESSAGE_REPLICA_DRAIN.replica = id;
    if (channel_send(world->agent, &message, message_size(MESSAGE_REPLICA_DRAIN), NULL, 0, &err) <
        0)
        fail_msg("%s", err.message);
}

static void expect_drained(struct world *world, uint64_t id)
{
    union message message;

    world_expect(world, true, MESSAGE_REPLICA_DRAINED, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_DRAINED.replica, id);
}

static void expect_ready(struct world *world, uint64_t id)
{
    union message message;

    world_expect(world, true, MESSAGE_REPLICA_READY, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_READY.replica, id);
}

/* What a process has from its first loop on is no matter of a test. */
static int first_loop(void **state)
{
    struct world world;
    (void)state;

    begin(&world, 0);
    end(&world);
    return 0;
}

/* The supervisor's word, for which there is no memory for a while. Returns how many descriptors the
 * process had before. */
static unsigned added_in_vain(struct world *world, struct fake *fake)
{
    fake_prepare(world, fake, 7, WORLD_REVISION(0, 1));
    unsigned fds = faults_maps_kept().fds;
    soon_begin(GATEWAY_AGAIN_MS);
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    fake_begin(world, fake, case_digits.concurrency);
    soon_await(3); /* it has been tried again, and will be */
    return fds;
}

static void test_served_once_there_is_memory(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct world world;
    struct fake fake = {};
    union message message;
    (void)state;

    begin(&world, 0);
    (void)added_in_vain(&world, &fake);
    fake_added(&world, &fake, case_digits.concurrency); /* told twice: it is the same one */
    assert_true(faults_maps_end());
    world_expect(&world, false, MESSAGE_REPLICA_LOOK, &message); /* it has heard of no walls */
    fake_walls(&world, &fake);
    expect_ready(&world, 7);
    struct reply reply = world_infer(&world, "", CASE_ROW);
    case_answer(&reply, 200, "\"data\":[2]");
    reply_free(&reply);
    case_end(&world, &fake);
    faults_maps_kept_check(before);
}

static void test_over_before_there_is_memory(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct world world;
    struct fake fake = {};
    (void)state;

    begin(&world, 0);
    unsigned fds = faults_maps_kept().fds;
    (void)added_in_vain(&world, &fake);
    fake_exit(&world, &fake);
    assert_true(faults_maps_end());
    table_served(&world, 2);
    assert_int_equal(faults_maps_kept().fds, fds); /* it is not kept any more */
    end(&world);
    faults_maps_kept_check(before);
}

/* Of ours there is nothing in it. What a gateway beside has there is not seen: its end is waited
 * for. */
static void test_drained_before_there_is_memory(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    union message message = { .as_MESSAGE_ALONE = MESSAGE_INIT(MESSAGE_ALONE) };
    (void)state;

    for (int beside = 0; beside < 2; beside++) {
        struct world world;
        struct fake fake = {};
        begin(&world, beside ? MESSAGE_BESIDE : 0);
        unsigned fds = added_in_vain(&world, &fake);
        tell_drain(&world, 7);
        if (beside)
            world_send(&world, &message, NULL, 0);
        expect_drained(&world, 7);
        assert_int_equal(faults_maps_kept().fds, fds);
        assert_true(faults_maps_end());
        case_end(&world, &fake);
        faults_maps_kept_check(before);
    }
}

static void test_ends_before_there_is_memory(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct world world;
    struct fake fake = {};
    (void)state;

    begin(&world, 0);
    (void)added_in_vain(&world, &fake);
    end(&world);
    assert_true(faults_maps_end());
    fake_free(&fake);
    faults_maps_kept_check(before);
}

/* What is wrong with it stays wrong. */
static void test_nonsense_is_not_tried_again(void **state)
{
    union message message = { .as_MESSAGE_REPLICA_ADDED = MESSAGE_INIT(MESSAGE_REPLICA_ADDED) };
    struct world world;
    (void)state;

    begin(&world, 0);
    soon_begin(GATEWAY_AGAIN_MS);
    message.as_MESSAGE_REPLICA_ADDED.replica = 7;
    message.as_MESSAGE_REPLICA_ADDED.slots = 2;
    message.as_MESSAGE_REPLICA_ADDED.concurrency = message.as_MESSAGE_REPLICA_ADDED.loops = 1;
    world_send(&world, &message,
               (int[]){ world.arena_fd, world.arena_fd, world.arena_fd, world.arena_fd }, 4);
    table_served(&world, 2);
    assert_int_equal(soon_count(), 0);
    end(&world);
}

/* ---- each map in turn ----------------------------------------------------------------- */

/* One that waits for memory as long as a test may take. */
static struct world_endpoint patient(void)
{
    struct world_endpoint endpoint = case_digits;

    endpoint.queue_timeout_ms = endpoint.queue_cold_ms = 30'000;
    return endpoint;
}

/* What the supervisor does meanwhile. */
static void supervise(struct world *world, struct fake *fake)
{
    union message asked, arena = { .as_MESSAGE_ARENA = MESSAGE_INIT(MESSAGE_ARENA) };
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;

    arena.as_MESSAGE_ARENA.revision = WORLD_REVISION(0, 1);
    arena.as_MESSAGE_ARENA.bytes = WORLD_ARENA_BYTES;
    while (channel_receive(world->supervisor, &asked, sizeof asked, &size, fds, &fd_count, &err) ==
           1) {
        if (asked.head.type == MESSAGE_REPLICA_LOOK)
            fake_walls(world, fake);
        if (asked.head.type == MESSAGE_ARENA_WANT)
            world_send(world, &arena, &world->arena_fd, 1);
    }
}

static void ask_and_supervise(struct world *world, struct fake *fake)
{
    static const char request[] = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                                  "Content-Length: %zu\r\n\r\n%s";
    int fd = world_connect(world);

    assert_true(dprintf(fd, request, sizeof CASE_ROW - 1, CASE_ROW) > 0);
    struct pollfd polled[] = { { fd, POLLIN, 0 }, { channel_fd(world->supervisor), POLLIN, 0 } };
    do {
        assert_true(poll(polled, 2, 10'000) > 0);
        supervise(world, fake);
    } while (!polled[0].revents);
    struct reply reply = world_read(fd);
    case_answer(&reply, 200, "\"data\":[2]");
    reply_free(&reply);
    fd_close(&fd);
}

/* A table, the two regions of a replica, an arena; false: there is no n-th. */
static bool served_though_the_nth_fails(long n, long count)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct world_endpoint endpoint = patient();
    struct world world = {};
    struct fake fake = {};
    union message message = {};

    world_start(&world, 1);
    world_go(&world);
    fake_prepare(&world, &fake, 7, WORLD_REVISION(0, 1));
    soon_begin(GATEWAY_AGAIN_MS);
    faults_maps_arm(n, count);
    world_table(&world, 1, &endpoint, 1);
    fake_begin(&world, &fake, endpoint.concurrency);
    world_expect(&world, true, MESSAGE_TABLE_SERVED, &message);
    ask_and_supervise(&world, &fake);
    bool came = faults_maps_end();
    case_end(&world, &fake);
    faults_maps_kept_check(before);
    return came;
}

static void test_whichever_map_fails(void **state)
{
    static const long counts[] = { 1, 3 };
    (void)state;

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        long n = 1;
        while (served_though_the_nth_fails(n, counts[i]))
            n++;
        print_message("  %ld maps, %ld at a time\n", n - 1, counts[i]);
        assert_int_equal(n, 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_served_once_there_is_memory),
        cmocka_unit_test(test_over_before_there_is_memory),
        cmocka_unit_test(test_drained_before_there_is_memory),
        cmocka_unit_test(test_ends_before_there_is_memory),
        cmocka_unit_test(test_nonsense_is_not_tried_again),
        cmocka_unit_test(test_whichever_map_fails),
    };
    return cmocka_run_group_tests_name("gateway_memory", tests, first_loop, NULL);
}
