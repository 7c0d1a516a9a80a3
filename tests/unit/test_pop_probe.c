/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent says each second of other PoPs to a supervisor that does not read, and what it
 * makes of one that is not reached. */
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "io/loop.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "pop/pop.h"
#include "sys/channel.h"
#include "sys/fd.h"

static const struct ip ip = { { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
static struct table_source_pop pops[] = {
    { .name = SLICE("paris") },
    { .name = SLICE("tokyo"), .addresses = &ip, .address_count = 1 },
};

/* Reads all there is now; returns how many of them are meshes. */
static unsigned read_all(struct channel *channel)
{
    static union message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err = {};
    unsigned meshes = 0;
    while (channel_receive(channel, &message, sizeof message, &size, fds, &fd_count, &err) > 0) {
        meshes += message.head.type == MESSAGE_MESH_NEW;
        for (size_t i = 0; i < fd_count; i++)
            fd_close(&fds[i]);
    }
    return meshes;
}

/* Without a wait: a loop that waits runs the timer of the next look too. */
static void look_again(struct agent *agent)
{
    agent->mesh_looked_ns = 0;
    agent_mesh_changed(agent); /* its timer is due at once */
    while (agent->mesh_looked_ns == 0)
        loop_run_once(agent->loop, false);
}

struct stage {
    struct agent *agent;
    struct channel *supervisor;
};

static void stage_begin(struct stage *stage)
{
    struct agent *agent = stage->agent = mem_zalloc(sizeof *agent);
    struct err err = {};
    int fds[2];
    assert_int_equal(channel_pair(fds, &err), 0);
    stage->supervisor = channel_new(fds[1]);
    agent->loop = loop_new();
    agent->gone = true;
    agent->pop.peers = pops;
    agent->pop.peer_count = 2;
    (void)snprintf(agent->start.pop, sizeof agent->start.pop, "paris");
    agent->supervisor.agent = agent;
    pop_mesh_init(&agent->mesh);
    wire_open(&agent->supervisor, fds[0]);
}

static void stage_end(struct stage *stage)
{
    agent_mesh_close(stage->agent);
    wire_cut(&stage->agent->supervisor);
    channel_free(stage->supervisor);
    loop_free(stage->agent->loop);
    free(stage->agent);
}

static void test_a_mesh_is_kept_back(void **)
{
    struct message_empty other = MESSAGE_INIT(MESSAGE_READY);
    struct stage stage;
    stage_begin(&stage);
    struct agent *agent = stage.agent;
    struct channel *supervisor = stage.supervisor;
    look_again(agent);
    assert_int_equal(read_all(supervisor), 1);

    while (!wire_blocked(&agent->supervisor))
        assert_true(wire_send(&agent->supervisor, &other, sizeof other, -1));
    for (int i = 0; i < 100; i++) /* each would be told: PoPs came or went */
        look_again(agent);
    assert_int_equal(agent->mesh.number, 1);

    unsigned heard = 0; /* what it knows by then, once it reads */
    while (heard == 0) {
        heard += read_all(supervisor);
        loop_run_once(agent->loop, false);
    }
    assert_int_equal(heard, 1);
    assert_int_equal(agent->mesh.number, 2);
    stage_end(&stage);
}

/* That a PoP fell silent goes to control with the mesh that says so, and once; that it was there is
 * no news, nor is anything while control is away. */
static void test_control_hears_at_once_who_fell(void **)
{
    struct stage stage;
    stage_begin(&stage);
    struct agent *agent = stage.agent;
    agent->reporting = (struct http_call *)(uintptr_t)1; /* one is under way: another one follows */
    look_again(agent);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&agent->mesh, SLICE("tokyo"));
    tokyo->heard = 1;
    health_beat(&tokyo->health, loop_now_ns());
    agent->control_there = true;
    look_again(agent);
    assert_int_equal(tokyo->shown_health, MESH_UP);
    assert_false(agent->report_again);
    tokyo->health.beat_ns -= 10 * HEALTH_SILENT_NS;
    agent->control_there = false;
    look_again(agent);
    assert_int_equal(tokyo->shown_health, MESH_DOWN);
    assert_false(agent->report_again);
    agent->control_there = true;
    look_again(agent);
    assert_true(agent->report_again);
    agent->report_again = false;
    pop_mesh_reported(&agent->mesh); /* as the report does */
    agent->mesh_told_ns -= MESH_EVERY_NS;
    look_again(agent);
    assert_false(agent->report_again);
    agent->reporting = NULL;
    timer_free(agent->report_timer);
    stage_end(&stage);
}

/* What a DNS server is told of where it stands says nothing of a PoP. */
static void test_a_dns_server_alone_stands_beside_one(void **)
{
    static const struct {
        const char *beside;
        bool dns, beside_tokyo, warned;
    } rows[] = {
        { "tokyo", true, true, false },    { "tokyo", false, false, false },
        { "atlantis", true, false, true }, { "atlantis", false, false, false },
        { NULL, true, false, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage stage;
        if (rows[i].beside)
            assert_int_equal(setenv(POP_BESIDE_ENVIRONMENT, rows[i].beside, 1), 0);
        else
            assert_int_equal(unsetenv(POP_BESIDE_ENVIRONMENT), 0);
        stage_begin(&stage);
        stage.agent->pop.no_replicas = rows[i].dns;
        look_again(stage.agent);
        assert_int_equal(pop_mesh_find(&stage.agent->mesh, SLICE("tokyo"))->beside,
                         rows[i].beside_tokyo);
        assert_int_equal(stage.agent->mesh_beside_warned, rows[i].warned);
        stage_end(&stage);
    }
    assert_int_equal(unsetenv(POP_BESIDE_ENVIRONMENT), 0);
}

/* A network of our own, at first without a way to anywhere. */
static void test_no_way_there_is_no_refusal(void **)
{
    static const struct {
        const char *name;
        bool refused;
    } rows[] = { { "no route", false }, { "nobody listens", true } };
    struct pop_key key = { .pop = "tokyo" };
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        skip();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ifreq lo = { .ifr_name = "lo", .ifr_flags = rows[i].refused ? IFF_UP : 0 };
        struct stage stage;
        print_message("  %s\n", rows[i].name);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
        close(fd);
        stage_begin(&stage);
        stage.agent->pop.keys = &key;
        stage.agent->pop.key_count = 1;
        agent_mesh_changed(stage.agent);
        struct pop_mesh_peer *tokyo = pop_mesh_find(&stage.agent->mesh, SLICE("tokyo"));
        while (tokyo->failures == 0)
            loop_run_once(stage.agent->loop, true);
        assert_int_equal(tokyo->refused, rows[i].refused);
        stage_end(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mesh_is_kept_back),
        cmocka_unit_test(test_control_hears_at_once_who_fell),
        cmocka_unit_test(test_a_dns_server_alone_stands_beside_one),
        cmocka_unit_test(test_no_way_there_is_no_refusal),
    };
    return cmocka_run_group_tests_name("pop_probe", tests, NULL, NULL);
}
