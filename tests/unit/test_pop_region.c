/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of replicas for which the agent finds no memory when it hears of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "contract/ring.h"
#include "faults_maps.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "pop_world.h"
#include "soon.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

enum { AGAIN_MS = 500, SLOTS = 2 };
#define REGION_BYTES region_output_bytes(SLOTS, PERIGEE_ANSWER_BYTES)

struct scene {
    struct world world;
    struct agent *agent;
    struct channel *supervisor; /* its end */
    unsigned looks;             /* that were asked of it, and: */
    uint64_t last;
};

static void scene_begin(struct scene *scene)
{
    struct err err;
    int pair[2];

    *scene = (struct scene){ .world.env = { .name = "pop",
                                            .now_ns = now,
                                            .timer_start = timer_start,
                                            .timer_stop = timer_stop } };
    struct agent *agent = mem_zalloc(sizeof *agent);
    scene->agent = agent;
    agent->loop = loop_new();
    agent->env = &scene->world.env;
    agent->supervisor.agent = agent;
    assert_int_equal(channel_pair(pair, &err), 0);
    wire_open(&agent->supervisor, pair[0]);
    scene->supervisor = channel_new(pair[1]);
    pop_init(&agent->pop, &scene->world.env, 1, &effects, &scene->world);
    soon_begin(AGAIN_MS);
}

static void scene_end(struct scene *scene)
{
    agent_regions_close(scene->agent);
    wire_cut(&scene->agent->supervisor);
    channel_free(scene->supervisor);
    pop_deinit(&scene->agent->pop);
    loop_free(scene->agent->loop);
    env_timers_deinit(&scene->world.timers);
    free(scene->agent);
}

/* What a process has from its first loop on is no matter of a test. */
static int first_loop(void **state)
{
    struct scene scene;
    (void)state;

    scene_begin(&scene);
    scene_end(&scene);
    return 0;
}

static void tell(struct scene *scene, const union message *message, int *fds, size_t fd_count)
{
    agent_on_supervisor(scene->agent, message, message_size(message->head.type), fds, fd_count);
}

/* One that says it is ready. The descriptor is the agent's, or closed. */
static void added(struct scene *scene, uint64_t replica)
{
    union message message = { .as_MESSAGE_REPLICA_ADDED = MESSAGE_INIT(MESSAGE_REPLICA_ADDED) };
    struct err err;
    uint32_t phase = PERIGEE_PHASE_READY;
    int fd = -1;

    assert_int_equal(shm_create("output", REGION_BYTES, &fd, &err), 0);
    assert_int_equal(pwrite(fd, &phase, sizeof phase, offsetof(struct perigee_status, phase)),
                     sizeof phase);
    message.as_MESSAGE_REPLICA_ADDED.replica = replica;
    message.as_MESSAGE_REPLICA_ADDED.output_bytes = REGION_BYTES;
    tell(scene, &message, &fd, 1);
    fd_close(&fd);
}

static void is_over(struct scene *scene, uint64_t replica)
{
    union message message = { .as_MESSAGE_REPLICA_EXITED = MESSAGE_INIT(MESSAGE_REPLICA_EXITED) };

    message.as_MESSAGE_REPLICA_EXITED.replica = replica;
    tell(scene, &message, NULL, 0);
}

/* Of how many replicas it has asked so far how they look from outside. */
static unsigned looked(struct scene *scene)
{
    union message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;

    while (channel_receive(scene->supervisor, &message, sizeof message, &size, fds, &fd_count,
                           &err) == 1)
        if (message.head.type == MESSAGE_REPLICA_LOOK) {
            scene->looks++;
            scene->last = message.as_MESSAGE_REPLICA_LOOK.replica;
        }
    return scene->looks;
}

/* Until it has been tried so many times more. */
static void tried(struct scene *scene, unsigned more)
{
    for (unsigned goal = soon_count() + more; soon_count() < goal;)
        loop_run_once(scene->agent->loop, false);
}

static void test_ready_once_there_is_memory(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct scene scene;
    (void)state;

    scene_begin(&scene);
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    added(&scene, 7);
    added(&scene, 7); /* told twice: it is the same one */
    added(&scene, 8);
    tried(&scene, 2);
    assert_int_equal(looked(&scene), 0);
    assert_true(faults_maps_end());
    while (looked(&scene) < 2)
        loop_run_once(scene.agent->loop, false);
    assert_int_equal(scene.last, 8);
    assert_int_equal(scene.agent->regions.count, 2);
    assert_int_equal(scene.agent->regions_later.count, 0);
    is_over(&scene, 7);
    assert_int_equal(scene.agent->regions.count, 1);
    scene_end(&scene);
    faults_maps_kept_check(before);
}

/* The gateway's word that it is ready comes before there is memory. */
static void test_the_gateways_word_is_not_lost(void **state)
{
    union message message = { .as_MESSAGE_REPLICA_READY = MESSAGE_INIT(MESSAGE_REPLICA_READY) };
    struct scene scene;
    (void)state;

    scene_begin(&scene);
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    added(&scene, 7);
    message.as_MESSAGE_REPLICA_READY.replica = 7;
    agent_on_gateway(scene.agent, &message, message_size(MESSAGE_REPLICA_READY), NULL, 0);
    assert_int_equal(looked(&scene), 0);
    assert_true(faults_maps_end());
    while (looked(&scene) < 1)
        loop_run_once(scene.agent->loop, false);
    assert_int_equal(scene.last, 7);
    scene_end(&scene);
}

static void test_over_before_there_is_memory(void **state)
{
    struct faults_maps_kept before = faults_maps_kept();
    struct scene scene;
    (void)state;

    scene_begin(&scene);
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    added(&scene, 7);
    added(&scene, 8);
    is_over(&scene, 7);
    tried(&scene, 1);
    assert_true(faults_maps_end());
    while (looked(&scene) < 1)
        loop_run_once(scene.agent->loop, false);
    assert_int_equal(scene.last, 8);
    assert_null(map_get_u64(&scene.agent->regions, 7));
    faults_maps_arm(1, FAULTS_MAPS_ALL);
    added(&scene, 9); /* which is still to come when the agent ends */
    assert_true(faults_maps_end());
    scene_end(&scene);
    faults_maps_kept_check(before);
}

static void test_nonsense_is_not_tried_again(void **state)
{
    union message message = { .as_MESSAGE_REPLICA_ADDED = MESSAGE_INIT(MESSAGE_REPLICA_ADDED) };
    struct faults_maps_kept before = faults_maps_kept();
    struct scene scene;
    struct err err;
    int fd = -1;
    (void)state;

    scene_begin(&scene);
    assert_int_equal(shm_create("output", REGION_BYTES, &fd, &err), 0);
    message.as_MESSAGE_REPLICA_ADDED.replica = 7;
    message.as_MESSAGE_REPLICA_ADDED.output_bytes = REGION_BYTES + 1;
    tell(&scene, &message, &fd, 1);
    fd_close(&fd);
    assert_int_equal(soon_count(), 0);
    assert_int_equal(scene.agent->regions.count + scene.agent->regions_later.count, 0);
    scene_end(&scene);
    faults_maps_kept_check(before);
}

static bool ready_though_the_nth_fails(long n, long count)
{
    enum { REPLICAS = 4 };
    struct faults_maps_kept before = faults_maps_kept();
    struct scene scene;

    scene_begin(&scene);
    faults_maps_arm(n, count);
    for (uint64_t i = 1; i <= REPLICAS; i++)
        added(&scene, i);
    while (looked(&scene) < REPLICAS)
        loop_run_once(scene.agent->loop, false);
    bool came = faults_maps_end();
    assert_int_equal(scene.agent->regions.count, REPLICAS);
    scene_end(&scene);
    faults_maps_kept_check(before);
    return came;
}

static void test_whichever_map_fails(void **state)
{
    (void)state;

    for (long count = 1; count <= 3; count++) {
        long n = 1;
        while (ready_though_the_nth_fails(n, count))
            n++;
        print_message("  %ld maps, %ld at a time\n", n - 1, count);
        assert_int_equal(n, 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready_once_there_is_memory),
        cmocka_unit_test(test_the_gateways_word_is_not_lost),
        cmocka_unit_test(test_over_before_there_is_memory),
        cmocka_unit_test(test_nonsense_is_not_tried_again),
        cmocka_unit_test(test_whichever_map_fails),
    };
    return cmocka_run_group_tests_name("pop_region", tests, first_loop, NULL);
}
