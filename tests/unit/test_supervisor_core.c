/* SPDX-License-Identifier: Apache-2.0 */
/* A day of crashes in a moment: supervisor_day.h plays the world. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h> /* after the four above */

#include "supervisor_day.h"

static unsigned open_fds(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}
static void test_a_day_of_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        unsigned fds = open_fds();
        struct day *day = day_new(seed * 0x9e3779b97f4a7c15);
        core_begin(day->core);
        day_soon(day, ENV_S, (struct event){ .what = AGENT_LOOKS });
        day_soon(day, 100 * ENV_S, (struct event){ .what = UPGRADE });
        day_run_until(day, 24 * 3600 * ENV_S);
        print_message("  seed %u: starts gateway %u, agent %u, control %u, template %u; replicas "
                      "%u; orphans looked for %u\n",
                      (unsigned)seed, day->starts[ROLE_GATEWAY], day->starts[ROLE_AGENT],
                      day->starts[ROLE_CONTROL], day->starts[ROLE_TEMPLATE], (unsigned)day->next_id,
                      day->orphans);
        assert_int_equal(day->ready, 1);
        assert_true(day->starts[ROLE_GATEWAY] > 500 && day->starts[ROLE_AGENT] > 500);
        assert_true(day->next_id > 1000);
        assert_true(day->orphans > day->handovers);
        print_message("  upgrades done %u, failed %u; while a replica was cloned: %u\n",
                      day->upgrades_done, day->upgrades_failed, day->newborns_handed_over);
        assert_true(day->upgrades_done > 50 && day->upgrades_failed > 10);
        assert_true(day->newborns_handed_over > 0);
        assert_int_equal(day->newborns_killed, 0);

        core_stop(day->core, false);
        day_run_until(day, day->now_ns + 60 * ENV_S);
        assert_int_equal(day->ended, 1);
        assert_int_equal(day->alive_replicas, 0);
        core_free(day->core);
        env_timers_deinit(&day->timers);
        free(day);
        assert_int_equal(open_fds(), fds);
    }
}

static struct core_process *role_of(struct day *day, uint32_t role)
{
    for (size_t i = 0; i < EVENTS; i++)
        if (day->events[i].what == PROCESS_READY_ && day->events[i].process->role == role)
            return day->events[i].process;
    fail_msg("no such role starts");
    return NULL;
}

/* A gateway and an agent that start beside many replicas hear of all, in pieces: no more waits to
 * be sent than they read. */
static void test_many_replicas_are_told_as_they_are_read(void **state)
{
    enum { MANY = 200, QUEUE = 16 };
    struct day *day = day_new(7);
    (void)state;
    day->calm = true;
    core_begin(day->core);
    struct core_process *agent = role_of(day, ROLE_AGENT), *gateway = role_of(day, ROLE_GATEWAY);
    day_run_until(day, ENV_S);
    for (int i = 0; i < MANY; i++)
        day_agent_wants(day, agent);
    day_run_until(day, 10 * ENV_S);
    assert_int_equal(day->alive_replicas, MANY);
    day->queue_max = QUEUE;
    core_process_exited(gateway, 9);
    core_process_exited(agent, 9);
    memset(day->agent_has, 0, sizeof day->agent_has);
    day_run_until(day, 60 * ENV_S);
    unsigned set = gateway->instance & 1;
    assert_int_equal(gateway->state, PROCESS_SERVING);
    assert_int_equal(agent->state, PROCESS_SERVING);
    for (uint64_t id = 1; id <= MANY; id++)
        assert_true(day->gateway_has[set][id] && day->agent_has[id]);
    /* Besides the pieces there are the few messages of the start. */
    assert_in_range(day->queued_most, QUEUE, 2 * QUEUE);
    core_stop(day->core, true);
    day_run_until(day, day->now_ns + 60 * ENV_S);
    assert_int_equal(day->ended, 1);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

/* It has ten seconds; the one before serves on, and the next try gets a lane set that is free. */
static void test_a_new_gateway_that_hangs(void **state)
{
    struct day *day = day_new(3);
    (void)state;
    day->calm = true;
    core_begin(day->core);
    day_run_until(day, ENV_S);
    pid_t pid = core_role(day->core, ROLE_GATEWAY)->pid;
    day_handover(day, 2);
    day->gateways_hang = true;
    core_upgrade_begin(day->core);
    day_run_until(day, day->now_ns + 10 * ENV_S - ENV_MS);
    assert_int_equal(day->upgrades_failed, 0);
    assert_int_equal(core_twin(day->core)->state, PROCESS_STARTING);
    day_run_until(day, day->now_ns + 10 * ENV_MS);
    assert_int_equal(day->upgrades_failed, 1);
    assert_int_equal(core_twin(day->core)->state, PROCESS_IDLE);
    assert_int_equal(core_role(day->core, ROLE_GATEWAY)->pid, pid);
    assert_int_equal(core_role(day->core, ROLE_GATEWAY)->state, PROCESS_SERVING);
    assert_int_equal(day->core->agent.generation, 1);
    day->gateways_hang = false;
    core_upgrade_begin(day->core);
    day_run_until(day, day->now_ns + 5 * ENV_S);
    assert_int_equal(day->upgrades_done, 1);
    assert_true(core_role(day->core, ROLE_GATEWAY)->pid != pid);
    core_stop(day->core, true);
    day_run_until(day, day->now_ns + 60 * ENV_S);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

/* Up to the moment in which a child may be there that the core does not know the name of; then
 * another program takes over. */
static struct day *day_handed_over_cloning(void)
{
    struct day *day = day_new(11);
    day->calm = true;
    core_begin(day->core);
    struct core_process *agent = role_of(day, ROLE_AGENT);
    day_run_until(day, ENV_S);
    day_agent_wants(day, agent);
    while (!day_cloning(day))
        day_run_until(day, day->now_ns + ENV_MS);
    day_handover(day, 2);
    assert_int_equal(day->orphans, 0);
    return day;
}

static void day_end(struct day *day)
{
    core_stop(day->core, true);
    day_run_until(day, day->now_ns + 60 * ENV_S);
    assert_int_equal(day->ended, 1);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

/* Orphans are those that are left once its name is known. */
static void test_a_clone_lives_on_under_another_program(void **state)
{
    struct day *day = day_handed_over_cloning();
    (void)state;
    day_run_until(day, day->now_ns + 10 * ENV_MS);
    assert_int_equal(day->alive_replicas, 1);
    assert_int_equal(day->orphans, 1);
    assert_int_equal(day->asked[1], 1);
    core_upgrade_begin(day->core);
    day_run_until(day, day->now_ns + 5 * ENV_S);
    assert_int_equal(day->upgrades_done, 1);
    assert_int_equal(day->alive_replicas, 1);
    day_end(day);
}

/* A template that hangs over a clone is killed, and then what it may have made. */
static void test_a_clone_that_never_comes_keeps_no_orphans(void **state)
{
    struct day *day = day_handed_over_cloning();
    (void)state;
    for (size_t i = 0; i < EVENTS; i++)
        if (day->events[i].what == CLONE_DONE) {
            env_timers_stop(&day->timers, &day->events[i].timer);
            day->events[i].what = NOTHING;
        }
    day_run_until(day, day->now_ns + 19 * ENV_S);
    assert_int_equal(day->orphans, 0);
    day_run_until(day, day->now_ns + 2 * ENV_S);
    assert_int_equal(day->orphans, 1);
    assert_int_equal(day->asked[1], 2);
    day_end(day);
}

/* The agent hears it from the supervisor; but what it does not read is not kept for it. */
static void test_demand_of_a_gateway_without_a_peer(void **state)
{
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    struct day *day = day_new(9);
    (void)state;
    day->calm = true;
    core_begin(day->core);
    day_run_until(day, ENV_S);
    struct core_process *gateway = core_role(day->core, ROLE_GATEWAY), *agent = &day->core->agent;
    demand.revision = 1u << 24 | 1;
    demand.waiting = 1;
    core_message(agent, (const union message *)&demand, sizeof demand, NULL, 0);
    assert_int_equal(day->demands, 0); /* not its to say */
    core_message(gateway, (const union message *)&demand, sizeof demand, NULL, 0);
    assert_int_equal(day->demands, 1);
    day->queue_max = 4;
    for (int i = 0; i < 20; i++)
        core_message(gateway, (const union message *)&demand, sizeof demand, NULL, 0);
    assert_int_equal(day->demands, 5);
    core_process_exited(agent, 9);
    core_message(gateway, (const union message *)&demand, sizeof demand, NULL, 0);
    assert_int_equal(day->demands, 5);
    day->queue_max = 0;
    day_end(day);
}

static void test_backoff(void **state)
{
    (void)state;
    static const struct {
        uint32_t failures;
        bool healthy;
        int64_t seconds;
    } rows[] = {
        { 0, true, 0 },  { 0, false, 1 },  { 1, false, 2 },  { 2, false, 4 },
        { 3, false, 8 }, { 4, false, 10 }, { 5, false, 10 }, { UINT32_MAX, false, 10 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(core_backoff_ns(rows[i].failures, rows[i].healthy),
                         rows[i].seconds * ENV_S);
}

static void test_stop_at_once(void **state)
{
    (void)state;
    struct day *day = day_new(7);
    core_begin(day->core);
    day_run_until(day, 30 * ENV_S);
    core_stop(day->core, false);
    core_stop(day->core, true);
    int64_t begin_ns = day->now_ns;
    day_run_until(day, day->now_ns + 60 * ENV_S);
    assert_int_equal(day->ended, 1);
    assert_true(day->now_ns - begin_ns < 100 * ENV_MS);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_a_day_of_crashes),
        cmocka_unit_test(test_demand_of_a_gateway_without_a_peer),
        cmocka_unit_test(test_a_new_gateway_that_hangs),
        cmocka_unit_test(test_a_clone_lives_on_under_another_program),
        cmocka_unit_test(test_a_clone_that_never_comes_keeps_no_orphans),
        cmocka_unit_test(test_many_replicas_are_told_as_they_are_read),
        cmocka_unit_test(test_stop_at_once),
    };
    return cmocka_run_group_tests_name("supervisor_core", tests, NULL, NULL);
}
