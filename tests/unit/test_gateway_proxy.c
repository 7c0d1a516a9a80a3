/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that replicas over HTTP have, in a whole gateway: what is passed back, what is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "gateway_scene.h"
#include "inside.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"
#include "sys/shm.h"

#define SHOP "Host: digits.localhost\r\n"
#define GET "GET / HTTP/1.1\r\n" SHOP "\r\n"

enum { TARGETS_MAX = 2 };

struct shop {
    struct world world;
    struct peer peers[TARGETS_MAX];
    size_t count;
};

/* One target for each peer, which behaves as told. */
static void shop_begin_with(struct shop *shop, uint32_t flags, const enum peer_mode *modes,
                            size_t count, uint64_t timeout_ms)
{
    struct table_target targets[TARGETS_MAX];
    struct world_endpoint row = case_digits;

    *shop = (struct shop){ .count = count, .world.flags = flags };
    for (size_t i = 0; i < count; i++) {
        peer_begin(&shop->peers[i], modes[i]);
        targets[i] = (struct table_target){ .id = i + 7,
                                            .port = shop->peers[i].port,
                                            .flags = TABLE_TARGET_READY };
        assert_true(ip_parse(SLICE("127.0.0.1"), &targets[i].ip));
    }
    row.timeout_ms = timeout_ms;
    row.targets = targets;
    row.target_count = count;
    world_start(&shop->world, 1);
    world_table(&shop->world, 1, &row, 1);
    world_go(&shop->world);
    world_pass(&shop->world);
}

static void shop_begin(struct shop *shop, const enum peer_mode *modes, size_t count,
                       uint64_t timeout_ms)
{
    shop_begin_with(shop, 0, modes, count, timeout_ms);
}

static void shop_end(struct shop *shop)
{
    world_stop(&shop->world);
    for (size_t i = 0; i < shop->count; i++)
        peer_end(&shop->peers[i]);
    case_closed(&shop->world);
}

static struct reply get(struct shop *shop)
{
    return world_ask(&shop->world, GET, sizeof GET - 1);
}

/* ---- figures -------------------------------------------------------------------------------- */

/* The agent is told until nothing runs any more: all that came has run, and for how long. */
static void test_the_agent_hears_what_ran(void **state)
{
    struct shop shop;
    union message message;
    const struct message_demand *demand = &message.as_MESSAGE_DEMAND;
    uint64_t arrivals = 0, done = 0, busy_ns = 0;
    uint32_t running = 0;
    (void)state;

    shop_begin(&shop, &(enum peer_mode){ PEER_ECHOES }, 1, 800);
    for (int i = 0; i < 3; i++)
        scene_expect(get(&shop), 200, NULL);
    atomic_store(&shop.peers[0].mode, PEER_SILENT);
    scene_expect(get(&shop), 504, "timeout"); /* 800 ms, in which it is told of */
    do {
        world_expect(&shop.world, true, MESSAGE_DEMAND, &message);
        arrivals += demand->arrivals;
        done += demand->done;
        busy_ns += demand->busy_ns;
        running = demand->running > running ? demand->running : running;
    } while (done < 4);
    assert_int_equal(arrivals, 4);
    assert_int_equal(done, 4);
    assert_int_equal(running, 1);
    assert_true(busy_ns > 700'000'000);
    shop_end(&shop);
}

/* Answered ones are requests, what failed or was answered 5xx failures. */
static void test_they_count_as_usage(void **state)
{
    struct shop shop;
    struct err err;
    void *region;
    (void)state;

    shop_begin(&shop, &(enum peer_mode){ PEER_ECHOES }, 1, 800);
    for (int i = 0; i < 3; i++)
        scene_expect(get(&shop), 200, NULL);
    atomic_store(&shop.peers[0].mode, PEER_DENIES);
    scene_expect(get(&shop), 451, "laws");
    atomic_store(&shop.peers[0].mode, PEER_FAILS);
    scene_expect(get(&shop), 500, "fault");
    assert_int_equal(shm_map(shop.world.metrics_fd, gateway_region_bytes(), false, &region, &err),
                     0);
    const struct gateway_stats *stats =
        gateway_stats_find(region, gateway_region_bytes(), WORLD_REVISION(0, 1));
    assert_non_null(stats);
    assert_int_equal(atomic_load(&stats->success), 4);
    assert_int_equal(atomic_load(&stats->fail), 1);
    shm_unmap(region, gateway_region_bytes());
    shop_end(&shop);
}

static bool both_gone(struct world *world, void *data)
{
    struct shop *shop = data;
    (void)world;
    return atomic_load(&shop->peers[0].gone) == 1 && atomic_load(&shop->peers[1].gone) == 1;
}

/* Two tries that were given up: each has one end, whatever the call then comes to. */
static void test_a_try_is_counted_once(void **state)
{
#define TRIES "perigee_upstream_requests_total{project=\"default\",endpoint=\"digits\",result="
    struct shop shop;
    (void)state;

    shop_begin(&shop, (enum peer_mode[]){ PEER_SILENT, PEER_SILENT }, 2, 800);
    scene_expect(get(&shop), 504, "timeout");
    assert_true(world_until(&shop.world, both_gone, &shop));
    world_pass(&shop.world);
    assert_true(scene_counter(&shop.world, TRIES "\"slow\"} 2"));
    assert_false(scene_counter(&shop.world, TRIES "\"canceled\"}"));
    shop_end(&shop);
#undef TRIES
}

/* ---- heads ---------------------------------------------------------------------------------- */

static void test_hints_are_passed_on(void **state)
{
    struct shop shop;
    (void)state;

    shop_begin(&shop, &(enum peer_mode){ PEER_HINTS }, 1, 800);
    case_hinted(&shop.world, "/");
    shop_end(&shop);
}

/* ---- memory --------------------------------------------------------------------------------- */

/* A tunnel for whose bytes there is no memory is cut: nobody would begin to read it again. */
static void test_a_tunnel_without_memory_ends(void **state)
{
    static const char ask[] = "GET / HTTP/1.1\r\n" SHOP "Connection: Upgrade\r\n"
                              "Upgrade: websocket\r\n\r\n";
    struct shop shop;
    char bytes[4096];
    (void)state;

    scene_machine_bytes = 128 << 10;
    shop_begin(&shop, &(enum peer_mode){ PEER_TUNNELS }, 1, 60'000);
    scene_machine_bytes = 0;
    int fd = world_connect(&shop.world);
    assert_int_equal(send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL), sizeof ask - 1);
    ssize_t n = recv(fd, bytes, sizeof bytes - 1, 0);
    assert_true(n > 12);
    assert_memory_equal(bytes, "HTTP/1.1 101", 12);
    assert_int_equal(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
    errno = 0;
    assert_true(recv(fd, bytes, sizeof bytes, 0) <= 0);
    assert_int_not_equal(errno, EAGAIN);
    close(fd);
    shop_end(&shop);
}

/* ---- a container ---------------------------------------------------------------------------- */

/* Each loop has a way of its own; the agent, which is the test, says which replica it is. */
static void way_inside(struct world *world, struct inside_helper *helper, uint64_t replica,
                       int pidfd)
{
    struct netns_message show = { NETNS_MAGIC, NETNS_SHOW, replica };
    struct channel *agent = channel_new(helper->shows_fd);
    union message message = { .as_MESSAGE_NETNS = MESSAGE_INIT(MESSAGE_NETNS) };
    struct pollfd shown = { helper->shows_fd, POLLIN, 0 };
    struct err err;

    assert_int_equal(0, channel_send(agent, &show, sizeof show, &pidfd, 1, &err));
    assert_int_equal(1, poll(&shown, 1, 10'000));
    for (uint32_t i = 0; i < WORLD_LOOPS; i++) {
        message.as_MESSAGE_NETNS.loop = i;
        world_send(world, &message, &helper->others_fds[i], 1);
        fd_close(&helper->others_fds[i]);
    }
    helper->shows_fd = dup(helper->shows_fd); /* it lives as long as the agent's end is open */
    channel_free(agent);
}

static void test_a_container_is_reached_in_its_network(void **state)
{
    struct inside_helper first = {}, second = {};
    struct inside inside = {};
    struct world world = {};
    struct world_endpoint row = case_digits;
    struct table_target target = { .id = 7,
                                   .kind = TABLE_TARGET_SOCKET,
                                   .flags = TABLE_TARGET_READY };
    union message message;
    unsigned lost = 0;
    (void)state;

    if (!inside_possible())
        skip();
    inside_begin(&inside, "from inside");
    inside_helper_begin(&first, WORLD_LOOPS);
    inside_helper_begin(&second, WORLD_LOOPS);
    assert_true(ip_parse(SLICE("127.0.0.1"), &target.ip));
    target.port = inside.address.port;
    row.timeout_ms = 10'000;
    row.targets = &target;
    row.target_count = 1;
    world_start(&world, 1);
    world_table(&world, 1, &row, 1);
    way_inside(&world, &first, target.id, inside.pidfd);
    world_go(&world);
    for (int i = 0; i < 6; i++)
        scene_expect(world_ask(&world, GET, sizeof GET - 1), 200, "from inside");
    /* The helper dies; what is connected serves on, and what is not waits for the next, which each
     * loop asks for: it may have lost its channel alone. */
    inside_helper_end(&first);
    while (lost != (1u << WORLD_LOOPS) - 1) { /* again, where it takes long */
        world_expect(&world, false, MESSAGE_NETNS_LOST, &message);
        lost |= 1u << message.as_MESSAGE_NETNS_LOST.loop;
    }
    for (int i = 0; i < 6; i++)
        scene_expect(world_ask(&world, GET, sizeof GET - 1), 200, "from inside");
    way_inside(&world, &second, target.id, inside.pidfd);
    scene_expect(world_ask(&world, GET, sizeof GET - 1), 200, "from inside");
    inside_end(&inside);
    scene_expect(world_ask(&world, GET, sizeof GET - 1), 503, "its process is gone");
    world_stop(&world);
    inside_helper_end(&second);
    fd_close(&first.shows_fd);
    fd_close(&second.shows_fd);
    case_closed(&world);
}

/* The table by number, in which none of its targets gets anything new. */
static void shop_table_ending(struct shop *shop, uint64_t number)
{
    struct table_target target = { .id = 7, .port = shop->peers[0].port };
    struct world_endpoint row = case_digits;

    assert_true(ip_parse(SLICE("127.0.0.1"), &target.ip));
    row.timeout_ms = 800;
    row.targets = &target;
    row.target_count = 1;
    world_table(&shop->world, number, &row, 1);
}

static void drain(struct shop *shop)
{
    union message message = { .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    struct err err;

    message.as_MESSAGE_REPLICA_DRAIN.replica = 7;
    assert_int_equal(channel_send(shop->world.agent, &message, message_size(MESSAGE_REPLICA_DRAIN),
                                  NULL, 0, &err),
                     0);
}

static void expect_drained(struct shop *shop)
{
    union message message;

    world_expect(&shop->world, true, MESSAGE_REPLICA_DRAINED, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_DRAINED.replica, 7);
}

/* The agent's word comes on another way than the table: requests go there until that is here. */
static void test_one_is_drained_once_its_table_is_served(void **state)
{
    struct shop shop;
    union message message;
    (void)state;

    shop_begin(&shop, &(enum peer_mode){ PEER_ECHOES }, 1, 800);
    scene_expect(get(&shop), 200, NULL);
    drain(&shop);
    assert_false(world_maybe(&shop.world, true, MESSAGE_REPLICA_DRAINED, 150, &message));
    shop_table_ending(&shop, 2);
    expect_drained(&shop);
    shop_end(&shop);
}

/* The table by number, in which its endpoint is not any more. */
static void shop_table_empty(struct shop *shop, uint64_t number)
{
    world_table(&shop->world, number, NULL, 0);
}

/* A request that its target has, and does not answer. */
static int get_running(struct shop *shop)
{
    union message message;
    int fd = world_connect(&shop->world);

    assert_int_equal(write(fd, GET, sizeof GET - 1), (ssize_t)sizeof GET - 1);
    do
        world_expect(&shop->world, true, MESSAGE_DEMAND, &message);
    while (message.as_MESSAGE_DEMAND.running == 0);
    return fd;
}

static void expect_served(struct shop *shop, uint64_t number)
{
    union message message;

    do
        world_expect(&shop->world, true, MESSAGE_TABLE_SERVED, &message);
    while (message.as_MESSAGE_TABLE_SERVED.number != number);
}

/* How its row ends in the table, and whether the agent's word comes before that. */
struct leaving {
    const char *name;
    void (*table)(struct shop *shop, uint64_t number);
    bool drain_first;
};

/* Both have come, and it is not drained by them alone. */
static void leave(struct shop *shop, const struct leaving *row)
{
    union message message;

    if (row->drain_first)
        drain(shop);
    row->table(shop, 2);
    expect_served(shop, 2);
    if (!row->drain_first)
        drain(shop);
    assert_false(world_maybe(&shop->world, true, MESSAGE_REPLICA_DRAINED, 150, &message));
}

/* Whether the row stays or goes, and whichever word comes first. */
static void test_one_is_drained_when_its_last_request_has_ended(void **state)
{
    static const struct leaving rows[] = {
        { "a row that ends", shop_table_ending, false },
        { "a row that ends, after the word", shop_table_ending, true },
        { "no row", shop_table_empty, false },
        { "no row, after the word", shop_table_empty, true },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct shop shop;
        print_message("  %s\n", rows[i].name);
        shop_begin(&shop, &(enum peer_mode){ PEER_SILENT }, 1, 800);
        int fd = get_running(&shop);
        leave(&shop, &rows[i]);
        scene_expect(world_read(fd), 504, "timeout");
        (void)close(fd);
        expect_drained(&shop);
        shop_end(&shop);
    }
}

/* Its endpoint is deleted, and it is idle: nothing is waited for when the word is here before the
 * table without it, nor when it comes late. */
static void test_one_that_is_in_no_table_any_more_is_drained(void **state)
{
    struct shop shop;
    (void)state;

    shop_begin(&shop, &(enum peer_mode){ PEER_ECHOES }, 1, 800);
    scene_expect(get(&shop), 200, NULL);
    drain(&shop);
    shop_table_empty(&shop, 2);
    expect_drained(&shop);
    drain(&shop);
    expect_drained(&shop);
    shop_end(&shop);
}

/* What the gateway that ends beside it has there it does not see: that it has ended is the word. */
static void test_one_is_drained_once_no_gateway_ends_beside(void **state)
{
    static const struct leaving rows[] = {
        { "a row that ends", shop_table_ending, true },
        { "no row", shop_table_empty, true },
        { "no row any more", shop_table_empty, false },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        union message alone = { .as_MESSAGE_ALONE = MESSAGE_INIT(MESSAGE_ALONE) };
        struct shop shop;
        print_message("  %s\n", rows[i].name);
        shop_begin_with(&shop, MESSAGE_BESIDE, &(enum peer_mode){ PEER_ECHOES }, 1, 800);
        scene_expect(get(&shop), 200, NULL);
        leave(&shop, &rows[i]);
        world_send(&shop.world, &alone, NULL, 0);
        expect_drained(&shop);
        shop_end(&shop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_agent_hears_what_ran),
        cmocka_unit_test(test_one_is_drained_once_its_table_is_served),
        cmocka_unit_test(test_one_is_drained_when_its_last_request_has_ended),
        cmocka_unit_test(test_one_that_is_in_no_table_any_more_is_drained),
        cmocka_unit_test(test_one_is_drained_once_no_gateway_ends_beside),
        cmocka_unit_test(test_they_count_as_usage),
        cmocka_unit_test(test_a_try_is_counted_once),
        cmocka_unit_test(test_hints_are_passed_on),
        cmocka_unit_test(test_a_tunnel_without_memory_ends),
        cmocka_unit_test(test_a_container_is_reached_in_its_network),
    };
    return cmocka_run_group_tests_name("gateway_proxy", tests, NULL, NULL);
}
