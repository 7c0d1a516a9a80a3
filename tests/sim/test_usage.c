/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's usage (pop/usage.h) in a world of its own: a region of a gateway's counters, a disk,
 * and no supervisor that would hear anything. */
#include "pop/usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "contract/gateway_metrics.h"
#include "pop/agent.h"
#include "sim/world.h"
#include "sys/proc.h"

#define UID ((uint64_t)1 << LEDGER_REVISION_BITS | 1)
#define MINUTE (61 * ENV_S) /* a window, while control is away */
enum { INSTANCE = 7 };
#define REPLICA ((uint64_t)INSTANCE << 32 | 1)

struct scene {
    struct world *world;
    struct agent *agent;
    void *region;
    bool end_told; /* that of REPLICA, to an agent that begins */
    bool lives;    /* REPLICA is this process, and an agent that begins is told so */
};

static void replica_told(struct agent *agent)
{
    struct message_replica_added added = MESSAGE_INIT(MESSAGE_REPLICA_ADDED);
    added.replica = REPLICA;
    added.revision = UID;
    added.pid = getpid();
    agent_usage_added(agent, &added);
    agent_usage_ready(agent, REPLICA);
}

static void agent_begins(struct scene *s)
{
    struct agent *agent = s->agent = mem_zalloc(sizeof *agent);
    agent->env = world_env(s->world);
    list_init(&agent->pop.endpoints);
    agent->start.instance = INSTANCE;
    agent->start.started_ns = 5;
    (void)snprintf(agent->start.home, sizeof agent->start.home, "/home");
    (void)snprintf(agent->start.pop, sizeof agent->start.pop, "paris");
    agent->metrics = s->region;
    agent->metrics_bytes = gateway_region_bytes();
    agent_usage_open(agent);
    if (s->end_told)
        agent_usage_ended(agent, REPLICA, UID, 700);
    if (s->lives)
        replica_told(agent);
    agent_usage_go(agent);
    world_run(s->world, ENV_S);
}

static void agent_ends(struct scene *s)
{
    agent_usage_close(s->agent);
    free(s->agent);
}

static int set_up(void **state)
{
    struct scene *s = *state = mem_zalloc(sizeof *s);
    s->world = world_new(1);
    world_folder_make(s->world, "/home");
    world_wall_jump(s->world, 1'700'000'000 * ENV_S);
    s->region = mem_zalloc(gateway_region_bytes());
    assert_true(gateway_region_attach(s->region, gateway_region_bytes()));
    agent_begins(s);
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    agent_ends(s);
    world_free(s->world);
    free(s->region);
    free(s);
    return 0;
}

static struct figures kept(const struct scene *s)
{
    struct ledger_window *window;
    struct figures sum = {};
    LIST_EACH (window, &s->agent->usage.ledger.windows, struct ledger_window, link) {
        struct arena *arena = arena_new();
        struct ledger_reader reader;
        struct ledger_record record;
        ledger_read(&reader, (struct slice){ window->bytes, window->size }, true);
        assert_int_equal(ledger_next(&reader, arena, &record, NULL), 1);
        for (uint32_t i = 0; i < record.row_count; i++)
            figures_add(&sum, &record.rows[i].figures);
        arena_free(arena);
    }
    return sum;
}

static void requests(struct scene *s, uint64_t count)
{
    atomic_fetch_add(&gateway_stats_get(s->region, UID)->success, count);
}

static bool keeps_none(uint64_t, void *)
{
    return false;
}

/* The gateway was killed as the agent let the revision go, and so its counts are there still when
 * it comes back: they count once. Once they are gone they begin anew. */
static void test_counts_that_stayed(void **state)
{
    struct scene *s = *state;
    requests(s, 5);
    agent_usage_revision_gone(s->agent, UID);
    world_run(s->world, MINUTE);
    agent_usage_revision_gone(s->agent, UID); /* it was back for a moment */
    world_run(s->world, MINUTE);
    assert_int_equal(kept(s).requests, 5);
    agent_ends(s); /* the next agent knows it as well */
    agent_begins(s);
    requests(s, 2);
    agent_usage_revision_gone(s->agent, UID);
    world_run(s->world, MINUTE);
    assert_int_equal(kept(s).requests, 7);
    gateway_stats_keep(s->region, keeps_none, NULL);
    world_run(s->world, MINUTE);
    requests(s, 9);
    agent_usage_revision_gone(s->agent, UID);
    world_run(s->world, MINUTE);
    assert_int_equal(kept(s).requests, 16);
}

/* The supervisor did not hear that an end is on disk, and tells the next agent of it: that one
 * counts it no more, however many windows came in between. */
static void test_an_end_told_again(void **state)
{
    struct scene *s = *state;
    agent_usage_contained(s->agent, REPLICA, UID, 0, "/perigee-has-none");
    agent_usage_ended(s->agent, REPLICA, UID, 700);
    world_run(s->world, MINUTE);
    assert_int_equal(kept(s).cpu_us, 700);
    requests(s, 1);
    agent_usage_revision_gone(s->agent, UID);
    world_run(s->world, MINUTE);
    assert_int_equal(kept(s).requests, 1);
    agent_ends(s);
    s->end_told = true;
    agent_begins(s);
    world_run(s->world, MINUTE);
    assert_int_equal(kept(s).cpu_us, 700);
}

static uint64_t own_cpu_us(void)
{
    uint64_t ns;
    assert_true(proc_cpu_ns(getpid(), &ns));
    return ns / 1000;
}

/* What a replica used until it was ready is known to the next agent a second later, however long a
 * window is; else all of it until then would count as its start. */
static void test_a_start_is_known_to_the_next_agent(void **state)
{
    struct scene *s = *state;
    s->lives = true;
    replica_told(s->agent);
    world_run(s->world, 3 * ENV_S / 2);
    uint64_t began_us = own_cpu_us();
    agent_ends(s);
    while (own_cpu_us() < began_us + 20'000)
        ; /* it works, and nobody looks */
    agent_begins(s);
    world_run(s->world, MINUTE);
    struct figures figures = kept(s);
    assert_true(figures.start_us > 0 && figures.start_us <= began_us);
    assert_true(figures.cpu_us >= began_us + 20'000);
    assert_int_equal(figures.starts, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts_that_stayed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_end_told_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_start_is_known_to_the_next_agent, set_up, tear_down),
    };
    if (!getenv("PERIGEE_SIM_LOG"))
        log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests_name("sim_usage", tests, NULL, NULL);
}
