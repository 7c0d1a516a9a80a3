/* SPDX-License-Identifier: Apache-2.0 */
/* Days of crashes in a moment: supervisor_day.h plays the world. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

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

/* With upgrades, whose states are looked at byte by byte. */
static void test_a_day_of_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        unsigned fds = open_fds();
        struct day *day = day_new(seed * 0x9e3779b97f4a7c15);
        day->contains = true;
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
        assert_true(day->starts[ROLE_NETNS] > 500);
        assert_true(day->next_id > 1000);
        assert_true(day->orphans > day->handovers);
        print_message("  upgrades done %u, failed %u; while a replica was cloned: %u\n",
                      day->upgrades_done, day->upgrades_failed, day->newborns_handed_over);
        assert_true(day->upgrades_done > 50 && day->upgrades_failed > 10);
        assert_true(day->newborns_handed_over > 0 && day->used_handed_over > 0);
        assert_int_equal(day->newborns_killed, 0);

        core_stop(day->core, false);
        day_run_until(day, day->now_ns + 60 * ENV_S);
        assert_int_equal(day->ended, 1);
        assert_int_equal(day->alive_replicas, 0);
        assert_true(day->groups > 0);
        assert_null(memchr(day->grouped, true, sizeof day->grouped));
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

/* One on which nothing goes wrong, a second old. */
static struct day *calm_day(uint64_t seed)
{
    struct day *day = day_new(seed);
    day->calm = true;
    core_begin(day->core);
    day_run_until(day, ENV_S);
    return day;
}

/* How many users of their own the living replicas have among them. */
static unsigned uids_of(const struct day *day)
{
    bool seen[REPLICAS_MAX + 2] = {};
    unsigned count = 0;
    const struct core_replica *replica;
    LIST_EACH (replica, &day->core->replicas, struct core_replica, link) {
        assert_in_range(replica->uid_index, 1, REPLICAS_MAX + 1);
        count += !seen[replica->uid_index];
        seen[replica->uid_index] = true;
    }
    return count;
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
    assert_int_equal(uids_of(day), MANY);
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
    struct day *day = calm_day(3);
    (void)state;
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

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define DAY_CPU_NS_MAX INT64_MAX
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define DAY_CPU_NS_MAX INT64_MAX
#endif
#ifndef DAY_CPU_NS_MAX
#define DAY_CPU_NS_MAX ENV_S
#endif

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * ENV_S + now.tv_nsec;
}

static int64_t back_off_day(void)
{
    struct day *day = day_new(0x9e3779b97f4a7c15);
    int64_t began_ns = cpu_ns();
    day->longer = 3;
    core_begin(day->core);
    day_soon(day, ENV_S, (struct event){ .what = AGENT_LOOKS });
    day_run_until(day, 24 * 3600 * ENV_S);
    int64_t took_ns = cpu_ns() - began_ns;
    print_message("  starts gateway %u, agent %u, control %u; replicas %u; %u ms of CPU time\n",
                  day->starts[ROLE_GATEWAY], day->starts[ROLE_AGENT], day->starts[ROLE_CONTROL],
                  (unsigned)day->next_id, (unsigned)(took_ns / ENV_MS));
    assert_true(day->starts[ROLE_GATEWAY] > 500 && day->starts[ROLE_AGENT] > 500);
    assert_true(day->next_id > 1000);
    day_end(day);
    return took_ns;
}

/* All crash, and are started again after their back-off: as CPU time, less than a second, the best
 * of three. It takes half of that: two threads of a core that others use take twice as long for
 * the same. */
static void test_a_day_of_back_off(void **state)
{
    int64_t best_ns = back_off_day();
    (void)state;
    for (unsigned i = 0; i < 2 && best_ns >= DAY_CPU_NS_MAX; i++) {
        int64_t took_ns = back_off_day();
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    }
    assert_true(best_ns < DAY_CPU_NS_MAX);
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

/* Who asks hears what was seen, and a new gateway without asking: it is looked at once. */
static void test_walls_are_told_to_who_asks(void **state)
{
    struct message_replica look = MESSAGE_INIT(MESSAGE_REPLICA_LOOK);
    struct day *day = day_new(5);
    (void)state;
    day->calm = true;
    core_begin(day->core);
    struct core_process *agent = role_of(day, ROLE_AGENT), *gateway = role_of(day, ROLE_GATEWAY);
    day_run_until(day, ENV_S);
    day_agent_wants(day, agent);
    day_run_until(day, 2 * ENV_S);
    look.replica = day->next_id;
    core_message(gateway, (const union message *)&look, sizeof look, NULL, 0);
    assert_int_equal(day->gateway_walls, 1);
    assert_int_equal(day->agent_walls, 0);
    core_message(agent, (const union message *)&look, sizeof look, NULL, 0);
    assert_int_equal(day->agent_walls, 1);
    core_process_exited(gateway, 9);
    day_run_until(day, 20 * ENV_S);
    assert_int_equal(gateway->state, PROCESS_SERVING);
    assert_int_equal(day->gateway_walls, 2);
    assert_int_equal(day->looks, 1);
    day_end(day);
}

/* The two that say all there is: of those that came while a role did not read it hears the last. */
struct newest {
    uint16_t type;
    size_t size;
    unsigned *heard;
    uint64_t *last;
};

static void newest_comes(struct day *day, const struct newest *newest, uint64_t number)
{
    union message message = { .as_MESSAGE_MESH_NEW = MESSAGE_INIT(newest->type) };
    int fd = memfd_create("newest", MFD_CLOEXEC);
    if (newest->type == MESSAGE_TABLE_NEW) {
        message.as_MESSAGE_TABLE_NEW.number = number;
        message.as_MESSAGE_TABLE_NEW.bytes = 1;
    } else {
        message.as_MESSAGE_MESH_NEW.number = number;
        message.as_MESSAGE_MESH_NEW.bytes = 1;
    }
    core_message(&day->core->agent, &message, newest->size, &fd, 1);
}

static void newest_waits_once(struct day *day, const struct newest *newest)
{
    static const uint32_t roles[] = { ROLE_GATEWAY, ROLE_DNS };
    enum { MANY = 2000, QUEUE = 4 };
    newest_comes(day, newest, 1);
    day_run_until(day, day->now_ns + ENV_S); /* they read */
    day->queue_max = QUEUE;
    for (uint64_t i = 0; i < MANY; i++)
        newest_comes(day, newest, 2 + i);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(newest->heard[roles[i]], 1 + QUEUE);
    day_run_until(day, day->now_ns + ENV_S);
    newest_comes(day, newest, 2 + MANY);
    day_run_until(day, day->now_ns + ENV_S);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(newest->heard[roles[i]], 1 + QUEUE + 1 + 1);
        assert_int_equal(newest->last[roles[i]], 2 + MANY);
    }
    /* One that follows hears of it at its start, once. */
    for (size_t i = 0; i < 2; i++) {
        struct core_process *process = core_role(day->core, roles[i]);
        for (uint64_t k = 0; k < MANY; k++)
            newest_comes(day, newest, 10'000 + k);
        unsigned before = newest->heard[roles[i]];
        core_process_exited(process, 9);
        core_process_start_now(process);
        day_run_until(day, day->now_ns + ENV_S);
        assert_int_equal(process->state, PROCESS_SERVING);
        assert_int_equal(newest->heard[roles[i]], before + 1);
        assert_int_equal(newest->last[roles[i]], 10'000 + MANY - 1);
    }
    day->queue_max = 0;
}

static void test_a_table_and_a_mesh_wait_once(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct day *day = calm_day(11);
        newest_waits_once(
            day, i == 0 ? &(struct newest){ MESSAGE_TABLE_NEW, sizeof(struct message_table),
                                            day->tables, day->table }
                        : &(struct newest){ MESSAGE_MESH_NEW, sizeof(struct message_mesh),
                                            day->meshes, day->mesh });
        day_end(day);
    }
}

/* The agent hears it from the supervisor; but what it does not read is not kept for it. */
static void test_demand_of_a_gateway_without_a_peer(void **state)
{
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    struct day *day = calm_day(9);
    (void)state;
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

/* Well formed, and from the wrong mouth. */
static void test_what_is_not_its_to_say_is_dropped(void **state)
{
    static const struct {
        uint32_t role;
        uint16_t type;
        bool dropped;
    } rows[] = {
        { ROLE_AGENT, MESSAGE_ARENA_WANT, true },
        { ROLE_CONTROL, MESSAGE_ARENA_WANT, true },
        { ROLE_GATEWAY, MESSAGE_ARENA_WANT, false },
        { ROLE_GATEWAY, MESSAGE_REVISION_GONE, true },
        { ROLE_CONTROL, MESSAGE_REVISION_GONE, true },
        { ROLE_AGENT, MESSAGE_REVISION_GONE, false },
        { ROLE_CONTROL, MESSAGE_REPLICA_LOOK, true },
        { ROLE_GATEWAY, MESSAGE_REPLICA_LOOK, false },
        { ROLE_AGENT, MESSAGE_REPLICA_LOOK, false },
        { ROLE_CONTROL, MESSAGE_REPLICA_KILL, true },
        { ROLE_GATEWAY, MESSAGE_REPLICA_KILL, false },
        { ROLE_AGENT, MESSAGE_DEMAND, true },
        { ROLE_GATEWAY, MESSAGE_DEMAND, false },
        { ROLE_DNS, MESSAGE_TABLE_NEW, true },
        { ROLE_DNS, MESSAGE_REPLICA_KILL, true },
        { ROLE_AGENT, MESSAGE_DRAIN, true },
        { ROLE_GATEWAY, MESSAGE_NETNS_WANT, true },
        { ROLE_CONTROL, MESSAGE_NETNS_WANT, true },
        { ROLE_AGENT, MESSAGE_NETNS_WANT, false },
        { ROLE_NETNS, MESSAGE_NETNS_WANT, true },
        { ROLE_AGENT, MESSAGE_NETNS_LOST, true },
        { ROLE_GATEWAY, MESSAGE_NETNS_LOST, false },
        { ROLE_NETNS, MESSAGE_REPLICA_KILL, true },
    };
    struct day *day = calm_day(5);
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        union message message = { .head = { MESSAGE_MAGIC, rows[i].type, MESSAGE_VERSION } };
        uint64_t before = day->core->messages_dropped;
        core_message(core_role(day->core, rows[i].role), &message, message_size(rows[i].type), NULL,
                     0);
        assert_int_equal(day->core->messages_dropped - before, rows[i].dropped);
    }
    day_end(day);
}

static void inside_expect(const struct day *day, unsigned netns, unsigned agent, unsigned gateway)
{
    assert_int_equal(day->inside[ROLE_NETNS], netns);
    assert_int_equal(day->inside[ROLE_AGENT], agent);
    assert_int_equal(day->inside[ROLE_GATEWAY], gateway);
}

/* Nobody enters networks until somebody has to. Whoever of them comes, both ends are new. */
static void test_who_enters_networks_is_started_when_wanted(void **state)
{
    struct message_empty want = MESSAGE_INIT(MESSAGE_NETNS_WANT);
    union message lost = { .as_MESSAGE_NETNS_LOST = MESSAGE_INIT(MESSAGE_NETNS_LOST) };
    const union message *message = (const union message *)&want;
    struct day *day = day_new(29);
    struct core *core = day->core;
    (void)state;
    day->calm = true;
    core_begin(core);
    day_run_until(day, ENV_S);
    assert_int_equal(day->ready, 1);
    assert_int_equal(day->starts[ROLE_NETNS], 0);
    core_message(core_role(core, ROLE_GATEWAY), &lost, sizeof(struct message_netns), NULL, 0);
    assert_int_equal(day->starts[ROLE_NETNS], 0); /* it is not the gateway's to have it started */
    core_message(&core->agent, message, sizeof want, NULL, 0);
    day_run_until(day, 2 * ENV_S);
    assert_int_equal(day->starts[ROLE_NETNS], 1);
    assert_int_equal(core->netns.state, PROCESS_SERVING);
    inside_expect(day, 1 + LOOPS, 1, LOOPS);
    /* Its channel is lost, and they both live: it has a new one. */
    core_message(&core->agent, message, sizeof want, NULL, 0);
    assert_int_equal(day->starts[ROLE_NETNS], 1);
    inside_expect(day, 2 + LOOPS, 2, LOOPS);
    /* So has a loop of the gateway, and no other. */
    lost.as_MESSAGE_NETNS_LOST.loop = LOOPS - 1;
    core_message(core_role(core, ROLE_GATEWAY), &lost, sizeof(struct message_netns), NULL, 0);
    inside_expect(day, 3 + LOOPS, 2, LOOPS + 1);
    lost.as_MESSAGE_NETNS_LOST.loop = LOOPS; /* there is none */
    core_message(core_role(core, ROLE_GATEWAY), &lost, sizeof(struct message_netns), NULL, 0);
    inside_expect(day, 3 + LOOPS, 2, LOOPS + 1);

    core_process_exited(core_role(core, ROLE_GATEWAY), 9);
    day_run_until(day, 5 * ENV_S);
    inside_expect(day, 3 + 2 * LOOPS, 2, LOOPS);
    core_process_exited(&core->agent, 9);
    day_run_until(day, 10 * ENV_S);
    inside_expect(day, 4 + 2 * LOOPS, 1, LOOPS);
    core_process_exited(&core->netns, 9);
    day_run_until(day, 15 * ENV_S);
    assert_int_equal(day->starts[ROLE_NETNS], 2);
    assert_int_equal(core->netns.state, PROCESS_SERVING);
    inside_expect(day, 1 + LOOPS, 2, 2 * LOOPS);
    day_run_until(day, 40 * ENV_S);
    static const int64_t delays_ns[] = { 0, 0, ENV_S, 2 * ENV_S }; /* first after a good life */
    for (unsigned i = 0; i < 4; i++) {
        core_process_exited(&core->netns, 9);
        int64_t again_ns = day->now_ns + delays_ns[i];
        if (delays_ns[i])
            day_run_until(day, again_ns - ENV_MS);
        assert_int_equal(day->starts[ROLE_NETNS], 2 + i);
        day_run_until(day, again_ns + 100 * ENV_MS);
        assert_int_equal(day->starts[ROLE_NETNS], 3 + i);
        assert_int_equal(core->netns.state, PROCESS_SERVING);
    }
    /* It cannot do its work: that is no reason to end. */
    core_process_exited(&core->netns, ROLE_EXIT_HOPELESS << 8);
    assert_false(core_hopeless(core));
    assert_int_equal(core->stage, STOP_NOT);
    day_end(day);
}

/* It ends with the program that started it; the agent, whose channel ends, asks the next one. */
static void test_who_enters_networks_comes_again_after_an_upgrade(void **state)
{
    struct message_empty want = MESSAGE_INIT(MESSAGE_NETNS_WANT);
    struct day *day = calm_day(31);
    (void)state;
    core_message(&day->core->agent, (const union message *)&want, sizeof want, NULL, 0);
    day_run_until(day, 2 * ENV_S);
    day_handover(day, 2);
    assert_int_equal(day->core->netns.state, PROCESS_IDLE);
    assert_int_equal(day->netns_ended, 1);
    core_message(&day->core->agent, (const union message *)&want, sizeof want, NULL, 0);
    day_run_until(day, 3 * ENV_S);
    assert_int_equal(day->starts[ROLE_NETNS], 2);
    assert_int_equal(day->core->netns.state, PROCESS_SERVING);
    inside_expect(day, 1 + LOOPS, 2, 2 * LOOPS);
    day_end(day);
}

/* A role that says at its start that there is no hope ends all, once; later it is one that died. */
static void test_a_role_without_hope(void **state)
{
    static const struct {
        int64_t at_ns;
        bool hopeless;
    } rows[] = { { 0, true }, { ENV_S, false } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct day *day = day_new(17);
        day->calm = true;
        core_begin(day->core);
        day_run_until(day, rows[i].at_ns);
        assert_int_equal(day->ready, rows[i].at_ns > 0);
        core_process_exited(core_role(day->core, ROLE_CONTROL), ROLE_EXIT_HOPELESS << 8);
        assert_int_equal(core_hopeless(day->core), rows[i].hopeless);
        assert_int_equal(day->core->stage != STOP_NOT, rows[i].hopeless);
        day_end(day);
    }
}

static void test_a_role_that_never_gets_ready_is_ended(void **state)
{
    struct day *day = day_new(19);
    (void)state;
    day->calm = day->gateways_hang = true;
    core_begin(day->core);
    day_run_until(day, 60 * ENV_S - ENV_MS);
    assert_int_equal(day->starts[ROLE_GATEWAY], 1);
    assert_int_equal(core_role(day->core, ROLE_GATEWAY)->state, PROCESS_STARTING);
    day->gateways_hang = false;
    day_run_until(day, 63 * ENV_S);
    assert_int_equal(day->starts[ROLE_GATEWAY], 2);
    assert_int_equal(core_role(day->core, ROLE_GATEWAY)->state, PROCESS_SERVING);
    day_end(day);
}

static void test_a_gateway_that_never_ends_is_ended(void **state)
{
    struct day *day = calm_day(37);
    (void)state;
    day->gateways_hang = true;
    core_stop(day->core, false);
    day_run_until(day, day->now_ns + 10 * ENV_S);
    assert_int_equal(day->ended, 0);
    day_run_until(day, day->now_ns + ENV_S);
    assert_int_equal(day->ended, 1);
    core_free(day->core);
    env_timers_deinit(&day->timers);
    free(day);
}

/* What the ranges of a message cannot say: refused, and the agent hears of it at once. */
static void test_a_replica_that_cannot_be_is_not_started(void **state)
{
    static const struct {
        const char *runtime;
        uint64_t slot_bytes;
        uint32_t slots;
        bool refused;
    } rows[] = {
        { "onnx", 64 * 1024, 4, false },
        { "onnx", 64 * 1024 + 64, 4, true },
        { "onnx", 4096, 4, PERIGEE_ANSWER_BYTES > 4096 },
        { "onnx", 0, 4, true },
        { "onnx", OUTPUT_BYTES_MAX / 4, 4, false },
        { "onnx", OUTPUT_BYTES_MAX / 4 + 4096, 4, true },
        { "onnx", UINT64_MAX / 4096 * 4096, 4, true },
        { "", 64 * 1024, 4, true },
        { "../onnx", 64 * 1024, 4, true },
        { "ONNX", 64 * 1024, 4, true },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct day *day = day_new(29);
        union message message = { .as_MESSAGE_REPLICA_START = MESSAGE_INIT(MESSAGE_REPLICA_START) };
        struct message_replica_start *start = &message.as_MESSAGE_REPLICA_START;
        int model = open("/tmp", O_RDONLY | O_CLOEXEC);
        day->calm = true;
        core_begin(day->core);
        day_run_until(day, ENV_S);
        start->replica = day->next_id = 1;
        start->revision = 1;
        start->slot_bytes = rows[i].slot_bytes;
        start->slots = start->concurrency = rows[i].slots;
        start->threads = start->batch_max = 1;
        (void)snprintf(start->runtime, sizeof start->runtime, "%s", rows[i].runtime);
        day->asked[1] = 1;
        day->wanted++;
        core_message(core_role(day->core, ROLE_AGENT), &message, sizeof *start, &model, 1);
        print_message("  row %zu\n", i);
        assert_int_equal(day->asked[1] == 2, rows[i].refused);
        day_end(day);
    }
}

static struct core_process *day_template(struct day *day)
{
    struct core_process *agent = core_role(day->core, ROLE_AGENT);
    day_run_until(day, ENV_S);
    day_agent_wants(day, agent);
    return LIST_FIRST(&day->core->templates, struct core_process, link);
}

/* A template says once who it is, in words that end, and in a version that is spoken here. */
static void test_a_worker_of_another_version_is_ended(void **state)
{
    static const struct {
        uint32_t version_min, version_max;
        bool endless, serves;
    } rows[] = {
        { PERIGEE_WORKER_VERSION, PERIGEE_WORKER_VERSION, false, true },
        { 1, PERIGEE_WORKER_VERSION + 1, false, true },
        { PERIGEE_WORKER_VERSION + 1, PERIGEE_WORKER_VERSION + 2, false, false },
        { 0, PERIGEE_WORKER_VERSION_LEAST, false, true },
        { 0, PERIGEE_WORKER_VERSION_LEAST - 1, false, false },
        { PERIGEE_WORKER_VERSION, PERIGEE_WORKER_VERSION, true, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct day *day = day_new(13);
        struct perigee_hello hello = {
            PERIGEE_WORKER_MAGIC, PERIGEE_HELLO, rows[i].version_min, rows[i].version_max, "onnx",
        };
        day->calm = true;
        core_begin(day->core);
        struct core_process *template = day_template(day);
        memset(hello.library, 'x', sizeof hello.library - !rows[i].endless);
        assert_int_equal(template->state, PROCESS_STARTING);
        core_template_message(template, &hello, sizeof hello);
        assert_int_equal(template->state == PROCESS_SERVING, rows[i].serves);
        if (rows[i].serves) /* a second time it is nonsense */
            core_template_message(template, &hello, sizeof hello);
        day_run_until(day, day->now_ns + 2 * ENV_MS);
        assert_int_equal(template->state, PROCESS_WAITING);
        day_end(day);
    }
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
        cmocka_unit_test(test_what_is_not_its_to_say_is_dropped),
        cmocka_unit_test(test_who_enters_networks_is_started_when_wanted),
        cmocka_unit_test(test_who_enters_networks_comes_again_after_an_upgrade),
        cmocka_unit_test(test_a_role_without_hope),
        cmocka_unit_test(test_a_role_that_never_gets_ready_is_ended),
        cmocka_unit_test(test_a_gateway_that_never_ends_is_ended),
        cmocka_unit_test(test_a_replica_that_cannot_be_is_not_started),
        cmocka_unit_test(test_a_worker_of_another_version_is_ended),
        cmocka_unit_test(test_a_day_of_crashes),
        cmocka_unit_test(test_a_day_of_back_off),
        cmocka_unit_test(test_walls_are_told_to_who_asks),
        cmocka_unit_test(test_demand_of_a_gateway_without_a_peer),
        cmocka_unit_test(test_a_table_and_a_mesh_wait_once),
        cmocka_unit_test(test_a_new_gateway_that_hangs),
        cmocka_unit_test(test_a_clone_lives_on_under_another_program),
        cmocka_unit_test(test_a_clone_that_never_comes_keeps_no_orphans),
        cmocka_unit_test(test_many_replicas_are_told_as_they_are_read),
        cmocka_unit_test(test_stop_at_once),
    };
    return cmocka_run_group_tests_name("supervisor_core", tests, NULL, NULL);
}
