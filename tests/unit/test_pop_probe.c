/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent says each second of other PoPs to a supervisor that does not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "base/err.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "sys/channel.h"
#include "sys/fd.h"

static const struct ip ip = { { [15] = 1 } };
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

static void test_a_mesh_is_kept_back(void **)
{
    struct agent *agent = mem_zalloc(sizeof *agent);
    struct message_empty other = MESSAGE_INIT(MESSAGE_READY);
    struct err err = {};
    int fds[2];
    assert_int_equal(channel_pair(fds, &err), 0);
    struct channel *supervisor = channel_new(fds[1]);
    agent->loop = loop_new();
    agent->gone = true;
    agent->pop.peers = pops;
    agent->pop.peer_count = 2;
    (void)snprintf(agent->start.pop, sizeof agent->start.pop, "paris");
    agent->supervisor.agent = agent;
    pop_mesh_init(&agent->mesh);
    wire_open(&agent->supervisor, fds[0]);
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
    agent_mesh_close(agent);
    wire_cut(&agent->supervisor);
    channel_free(supervisor);
    loop_free(agent->loop);
    free(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mesh_is_kept_back),
    };
    return cmocka_run_group_tests_name("pop_probe", tests, NULL, NULL);
}
