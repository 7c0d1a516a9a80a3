/* SPDX-License-Identifier: Apache-2.0 */
/* The agent follows demand: to zero, back, up and down, within what it was given, on one timer. */
#include "pop/state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "pop/agent.h"
#include "pop_effects.h"
#include "sys/proc.h"

enum { RUN_MS = 100, TOLD_MS = 250, START_MS = 50 };

struct world {
    struct env env; /* first: the env is the world */
    struct env_timers timers;
    int64_t now_ns;
    struct pop pop;
    unsigned starts, events, wakes;
    char event[SCALE_WORDS_BYTES + 16];
    bool fails;        /* what starts does not become ready */
    int refuses;       /* ... nor is even begun: an ERR_ */
    bool holds;        /* what drains has a request that goes on */
    double rate, come; /* requests a second, told to the agent four times in it */
    int64_t told_ns;
};

static int64_t now(struct env *env)
{
    return ((struct world *)env)->now_ns;
}

static void timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                        env_timer_cb on_due, void *data)
{
    struct world *world = (struct world *)env;
    env_timers_start(&world->timers, timer, world->now_ns + delay_ns, on_due, data);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    env_timers_stop(&((struct world *)env)->timers, timer);
}

static int on_start(struct pop_replica *, struct err *err, void *data)
{
    struct world *world = data;
    world->starts++;
    return world->refuses ? err_set(err, world->refuses, "not like this") : 0;
}

static void on_kill(struct pop_replica *replica, enum replica_end, const char *, void *data)
{
    (void)data;
    replica->kill_at_ns = -1; /* the world ends it soon */
}

static void on_event(struct pop *, const char *kind, const struct pop_endpoint *,
                     const struct pop_replica *, const char *message, void *data)
{
    struct world *world = data;
    if (strcmp(kind, "scaled") != 0)
        return;
    world->events++;
    snprintf(world->event, sizeof world->event, "%s", message);
}

static float on_cores(struct pop_revision *, void *data)
{
    return (float)(((struct world *)data)->rate * RUN_MS / 1000);
}

static const struct pop_effects effects = {
    .replica_start = on_start,
    .replica_kill = on_kill,
    .replica_drain = on_replica,
    .replica_unwanted = on_number,
    .replica_look = on_replica,
    .model_fetch = on_fetch,
    .revision_gone = on_number,
    .publish = on_change,
    .report = on_change,
    .save = on_change,
    .event = on_event,
    .death = on_any_death,
    .cores_used = on_cores,
};

static struct pop_revision *revision_of(struct world *world)
{
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    return pop_revision_number(endpoint, endpoint->serving ? endpoint->serving : endpoint->target);
}

/* What supervisor and gateway do: models come, replicas become ready, and end when told to. */
static void play(struct world *world)
{
    static const struct message_replica_walls walls;
    static const struct perigee_model model;
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    struct pop_replica *replica;
    LIST_EACH (endpoint, &world->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            if (revision->model_state == POP_MODEL_FETCHING)
                pop_model_fetched(revision, "/models/x", "model.onnx", NULL);
            LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
                struct message_replica_exited exited = { .replica = replica->id,
                                                         .end = REPLICA_END_STOPPED };
                struct pop_ready ready = { .walls = &walls,
                                           .model = &model,
                                           .model_bytes = sizeof model };
                if (world->fails && replica->state == POP_REPLICA_STARTING)
                    exited.end = REPLICA_END_NOT_STARTED;
                if (replica->kill_sent || exited.end == REPLICA_END_NOT_STARTED)
                    pop_replica_exited(&world->pop, &exited);
                else if (replica->state == POP_REPLICA_STARTING &&
                         world->now_ns - replica->since_ns >= START_MS * ENV_MS)
                    pop_replica_ready(&world->pop, replica->id, &ready);
                else if (replica->state == POP_REPLICA_DRAINING && !world->holds)
                    pop_replica_drained(&world->pop, replica->id);
            }
        }
}

static void tell(struct world *world)
{
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    double each = world->rate * TOLD_MS / 1000;
    world->told_ns = world->now_ns;
    world->come += each;
    demand.revision = revision_of(world)->uid;
    demand.arrivals = demand.done = (uint64_t)world->come;
    demand.busy_ns = demand.done * RUN_MS * ENV_MS;
    demand.running = (uint32_t)(world->rate * RUN_MS / 1000);
    world->come -= (double)demand.arrivals;
    pop_demand(&world->pop, &demand);
}

static void run(struct world *world, double seconds)
{
    int64_t until_ns = world->now_ns + (int64_t)(seconds * 1e9);
    while (world->now_ns < until_ns) {
        play(world);
        if (world->rate > 0 && world->now_ns - world->told_ns >= TOLD_MS * ENV_MS)
            tell(world);
        world->now_ns += 10 * ENV_MS;
        if (env_timers_next_ns(&world->timers) <= world->now_ns)
            world->wakes++;
        (void)env_timers_run(&world->timers, world->now_ns);
    }
}

static void endpoint_set(struct world *world, const char *state, const char *scale,
                         const char *pops, unsigned target)
{
    char text[2048];
    struct err err = {};
    snprintf(text, sizeof text,
             "{\"uid\":1,\"name\":\"digits\",\"state\":\"%s\",\"target\":%u,\"spec\":{"
             "\"model\":\"sha256:%064d\",\"scale\":{%s}},%s\"revisions\":[{\"number\":1,"
             "\"uid\":%u,\"model\":\"sha256:%064d\"},{\"number\":2,\"uid\":%u,\"model\":"
             "\"sha256:%064d\"}]}",
             state, target, 1, scale, pops, 1U << 24 | 1, 1, 1U << 24 | 2, 2);
    if (pop_endpoint_apply(&world->pop, slice_of(text), &err) < 0)
        fail_msg("%s", err.message);
}

static int world_new(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    const struct region_place place = { .name = SLICE("paris") };
    struct err err;
    world->env = (struct env){ .name = "test",
                               .now_ns = now,
                               .wall_ns = now,
                               .timer_start = timer_start,
                               .timer_stop = timer_stop };
    world->now_ns = 1000 * ENV_S;
    pop_init(&world->pop, &world->env, 7, &effects, world);
    assert_int_equal(pop_stand(&world->pop, &place, (struct slice){}, &err), 0);
    world->pop.name = "paris";
    world->pop.gateway = true;
    pop_sync(&world->pop, NULL, 0);
    *state = world;
    return 0;
}

static int world_free(void **state)
{
    struct world *world = *state;
    pop_deinit(&world->pop);
    env_timers_deinit(&world->timers);
    free(world);
    return 0;
}

static uint32_t ready(struct world *world)
{
    return pop_revision_ready(revision_of(world));
}

/* As its gateway is told: from the decision on, whenever that has heard of the replica. */
static uint32_t start_told_ms(struct world *world)
{
    static const struct message_start start = { .pop = "local", .zone = "perigee.test" };
    struct arena *arena = arena_new();
    struct slice table;
    struct err err;
    assert_int_equal(pop_table_make(&world->pop, &start, 1, arena, &table, &err), 0);
    uint32_t ms = table_endpoint((const struct table_head *)(const void *)table.data, 0)->start_ms;
    arena_free(arena);
    return ms;
}

static void test_to_zero_and_back(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "", "", 1);
    assert_int_equal(start_told_ms(world), 0);
    run(world, 1);
    assert_int_equal(ready(world), 1); /* it shows that it can */
    assert_in_range(start_told_ms(world), START_MS, 2 * START_MS);
    run(world, 118);
    assert_int_equal(ready(world), 1);
    run(world, 3);
    assert_int_equal(revision_of(world)->replica_count, 0);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 1);
    assert_string_equal(world->event, "0 replicas: nobody asks (scale.idle 120s); 1 with the first "
                                      "request");
    /* At zero nothing wakes it. */
    world->wakes = 0;
    run(world, 3600);
    assert_int_equal(world->wakes, 0);
    /* A herd: one, until it is known how long a run takes. */
    struct message_demand herd = MESSAGE_INIT(MESSAGE_DEMAND);
    herd.revision = revision_of(world)->uid;
    herd.waiting = herd.arrivals = 1000;
    world->starts = 0;
    pop_demand(&world->pop, &herd);
    run(world, 0.2);
    assert_int_equal(world->starts, 1);
    assert_int_equal(ready(world), 1);
}

static bool retried(struct world *world)
{
    static const struct message_start start = { .pop = "local", .zone = "perigee.test" };
    struct arena *arena = arena_new();
    struct slice bytes;
    struct err err;
    assert_int_equal(pop_table_make(&world->pop, &start, 1, arena, &bytes, &err), 0);
    const struct table_head *table = (const struct table_head *)(const void *)bytes.data;
    bool is = table_retried(table, table_revision(table, 0));
    assert_true(!is || table_revision(table, 0)->message.bytes > 0);
    arena_free(arena);
    return is;
}

/* One that has run is tried again, and waited for; not one that never has, nor one that does not
 * start before somebody changes something. */
static void test_who_waits_for_a_start_that_fails(void **state)
{
    struct world *world = *state;
    world->fails = true;
    endpoint_set(world, "running", "\"min\":1", "", 1);
    run(world, 10);
    assert_true(revision_of(world)->failed && !retried(world));
    world->fails = false;
    run(world, 20);
    assert_true(ready(world) == 1 && !retried(world));
    pop_replica_ended(&world->pop,
                      LIST_FIRST(&revision_of(world)->replicas, struct pop_replica, link)->id,
                      "killed", false);
    world->fails = true;
    run(world, 10);
    assert_true(revision_of(world)->failed && retried(world));
    world->refuses = ERR_PRECONDITION;
    run(world, 20);
    assert_true(revision_of(world)->failed && !retried(world));
    world->refuses = ERR_NOT_FOUND; /* the engine is away */
    run(world, 20);
    assert_true(revision_of(world)->failed && retried(world));
    world->refuses = 0;
    world->fails = false;
    run(world, 20);
    assert_true(ready(world) == 1 && !retried(world));
}

/* While somebody asks it is tried again and again; at zero, once the next one asks. */
static void test_a_start_that_fails_is_forgotten_at_zero(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "", "", 1);
    run(world, 125);
    struct pop_revision *revision = revision_of(world);
    assert_true(revision->replica_count == 0 && !revision->failed);
    world->fails = true;
    world->starts = 0;
    pop_scale_wake(revision, 1);
    pop_reconcile(&world->pop);
    run(world, 100);
    assert_true(world->starts > 5 && revision->failed && revision->message[0]);
    run(world, 60);
    assert_true(revision->replica_count == 0 && !revision->failed && !revision->message[0]);
    world->fails = false;
    pop_scale_wake(revision, 1);
    pop_reconcile(&world->pop);
    run(world, 61); /* it was tried a moment ago */
    assert_int_equal(ready(world), 1);
}

/* The table on disk says that it has the traffic; nothing of it runs. */
static void test_what_served_is_there_again_after_a_boot(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "", "", 1);
    pop_endpoint_find(&world->pop, 1)->serving = 1;
    run(world, 1);
    assert_int_equal(ready(world), 1);
    run(world, 121);
    assert_int_equal(revision_of(world)->replica_count, 0);
}

static unsigned starting(const struct world *world)
{
    unsigned count = 0;
    MAP_EACH (entry, &world->pop.replicas_by_id)
        count += ((const struct pop_replica *)entry->value)->state == POP_REPLICA_STARTING;
    return count;
}

static uint32_t replicas_of(struct world *world, unsigned uid)
{
    return pop_revision_find(&world->pop, (uint64_t)uid << 24 | 1)->replica_count;
}

/* All of them again, as many at once as there are cores; who is asked for waits for none. */
static void test_after_a_boot_not_all_start_at_once(void **state)
{
    enum { MANY = 12, CORES = 3, ASKED = 11, NEEDED = 12 };
    struct world *world = *state;
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    unsigned most = 0;
    world->pop.cores = CORES;
    for (unsigned uid = 1; uid <= MANY; uid++) {
        char text[512];
        struct err err;
        snprintf(text, sizeof text,
                 "{\"uid\":%u,\"name\":\"e%u\",\"state\":\"running\",\"target\":1,\"spec\":{"
                 "\"model\":\"sha256:%064d\",\"scale\":{\"min\":%d}},\"revisions\":[{"
                 "\"number\":1,\"uid\":%u,\"model\":\"sha256:%064d\"}]}",
                 uid, uid, 1, uid == NEEDED, uid << 24 | 1, 1);
        assert_int_equal(pop_endpoint_apply(&world->pop, slice_of(text), &err), 0);
        pop_endpoint_find(&world->pop, uid)->serving = 1;
    }
    run(world, 0.02);
    assert_int_equal(replicas_of(world, NEEDED), 1);
    assert_int_equal(starting(world), CORES + 1); /* those, and the one that has to be */
    assert_int_equal(replicas_of(world, ASKED), 0);
    demand.revision = (uint64_t)ASKED << 24 | 1;
    demand.waiting = demand.arrivals = 1;
    pop_demand(&world->pop, &demand);
    run(world, 0.02);
    assert_int_equal(replicas_of(world, ASKED), 1);
    for (int i = 0; i < 100; i++) {
        run(world, 0.01);
        if (i > 10 && starting(world) > most)
            most = starting(world);
    }
    assert_true(most > 0 && most <= CORES);
    for (unsigned uid = 1; uid <= MANY; uid++)
        assert_int_equal(replicas_of(world, uid), 1);
}

/* An agent after another of the same supervisor: what has no replica was at zero, and stays there
 * until somebody asks, but for what has to be. */
static void test_at_zero_behind_an_agent(void **state)
{
    struct world *world = *state;
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    world->pop.again = true;
    endpoint_set(world, "running", "", "", 1);
    pop_endpoint_find(&world->pop, 1)->serving = 1;
    run(world, 60);
    assert_int_equal(world->starts, 0);
    demand.revision = revision_of(world)->uid;
    demand.waiting = demand.arrivals = 1;
    pop_demand(&world->pop, &demand);
    run(world, 1);
    assert_int_equal(ready(world), 1);
    assert_int_equal(world_free(state), 0);
    assert_int_equal(world_new(state), 0);
    world = *state;
    world->pop.again = true;
    endpoint_set(world, "running", "\"min\":1", "", 1);
    pop_endpoint_find(&world->pop, 1)->serving = 1;
    run(world, 1);
    assert_int_equal(ready(world), 1);
}

/* It was killed with requests running: they run no more, whoever comes behind it says. */
static void test_what_a_silent_gateway_said_is_over(void **state)
{
    struct world *world = *state;
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    endpoint_set(world, "running", "\"min\":1", "", 1);
    run(world, 1);
    assert_false(pop_scale_runs(revision_of(world)));
    for (unsigned set = 0; set < 2; set++) {
        demand.revision = revision_of(world)->uid;
        demand.running = 2;
        demand.set = set;
        pop_demand(&world->pop, &demand);
        run(world, 4);
        assert_true(pop_scale_runs(revision_of(world)));
        run(world, 2);
        assert_false(pop_scale_runs(revision_of(world)));
    }
}

static uint64_t own_us(void)
{
    uint64_t ns = 0;
    assert_true(proc_cpu_ns(getpid(), &ns));
    return ns / 1000;
}

/* Of this process, whose clock is the world's: what it used between two looks, whatever could not
 * be looked at in between. */
static void test_cores(void **state)
{
    struct world *world = *state;
    struct agent agent = { .env = &world->env };
    endpoint_set(world, "running", "\"min\":1", "", 1);
    run(world, 1);
    struct pop_revision *revision = revision_of(world);
    struct pop_replica *replica = LIST_FIRST(&revision->replicas, struct pop_replica, link);
    while (own_us() < 200'000)
        ;
    replica->pid = getpid();
    assert_true(agent_cores_used(revision, &agent) == 0); /* the first look */
    uint64_t before = own_us();
    while (own_us() < before + 20'000)
        ;
    world->now_ns += ENV_S;
    float cores = agent_cores_used(revision, &agent);
    assert_true(cores >= 0.02f && cores < 0.1f);
    replica->pid = 0; /* it cannot be looked at */
    world->now_ns += ENV_S;
    assert_true(agent_cores_used(revision, &agent) == 0);
    replica->pid = getpid();
    world->now_ns += ENV_S;
    assert_true(agent_cores_used(revision, &agent) < 0.1f); /* not all that it ever used */
    replica->pid = 0;
}

static const struct {
    const char *name, *scale, *pops;
    double rate; /* of runs of 100 ms */
    uint32_t cores, ready;
} rows[] = {
    { "85/s: 8.5 and 2.9 places of 4", "", "", 85, 0, 3 },
    { "scale.max", "\"max\":2", "", 85, 0, 2 },
    { "the machine's cores", "", "", 85, 2, 2 },
    { "per_pop.max instead of cores", "\"per_pop\":{\"max\":3}", "", 200, 2, 3 },
    { "its part of scale.max", "", "\"pops\":[{\"name\":\"paris\",\"replicas\":1,\"max\":2}],", 85,
      0, 2 },
    { "at least what placement gave, where there is a least", "\"min\":2",
      "\"pops\":[{\"name\":\"paris\",\"replicas\":2,\"max\":8}],", 1, 0, 2 },
    { "scale.concurrency", "\"concurrency\":8", "", 85, 0, 2 },
    { "scale.rps", "\"rps\":\"33/s\"", "", 85, 0, 3 },
    { "scale.cpu", "\"cpu\":\"50%\",\"max\":100", "", 40, 0, 8 },
    { "placed elsewhere", "", "\"pops\":[{\"name\":\"tokyo\",\"replicas\":1}],", 85, 0, 0 },
};

static void test_a_load(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world *world = *state;
        print_message("  %s\n", rows[i].name);
        world->pop.cores = rows[i].cores;
        endpoint_set(world, "running", rows[i].scale, rows[i].pops, 1);
        run(world, 1);
        world->rate = rows[i].rate;
        run(world, 60);
        assert_int_equal(ready(world), rows[i].ready);
        assert_int_equal(world_free(state), 0);
        assert_int_equal(world_new(state), 0);
    }
}

static void test_up_and_down_and_words(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 1);
    run(world, 1);
    world->rate = 200;
    run(world, 60);
    assert_int_equal(ready(world), 7); /* 20 and 4.5 */
    const char *text = pop_scale_words(revision_of(world));
    assert_non_null(text);
    assert_non_null(strstr(text, "requests at a time over the last"));
    world->rate = 10;
    run(world, 40);
    assert_int_equal(ready(world), 1);
    world->rate = 0;
    run(world, 16);
    assert_int_equal(ready(world), 0);
}

static void test_an_update_at_zero_shows_that_it_can(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 1);
    run(world, 20);
    assert_int_equal(ready(world), 0);
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 2);
    run(world, 1);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 2);
    assert_int_equal(ready(world), 1);
    run(world, 12);
    assert_int_equal(ready(world), 0);
}

static void test_an_update_under_load_has_as_many(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "", "", 1);
    run(world, 1);
    world->rate = 85;
    run(world, 60);
    assert_int_equal(ready(world), 3);
    endpoint_set(world, "running", "", "", 2);
    run(world, 2);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 2);
    assert_true(ready(world) >= 3);
}

static void asked(struct world *world, unsigned number, uint32_t waiting)
{
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    demand.revision = (uint64_t)1 << 24 | number;
    demand.waiting = demand.arrivals = waiting;
    pop_demand(&world->pop, &demand);
}

/* Who comes while the last replica ends does not wait for it. */
static void test_what_drains_is_no_replica(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 1);
    run(world, 1);
    world->rate = 85;
    run(world, 60);
    assert_int_equal(ready(world), 3);
    world->holds = true;
    world->rate = 0;
    run(world, 20);
    assert_int_equal(ready(world), 0);
    assert_int_equal(revision_of(world)->replica_count, 3);
    world->starts = 0;
    asked(world, 1, 1);
    run(world, 0.2);
    assert_int_equal(ready(world), 1);
    assert_int_equal(world->starts, 1);
    asked(world, 1, 400); /* its places, and those that drain, are not enough */
    run(world, 0.2);
    assert_true(ready(world) > 1);
}

/* What it had when the traffic left ends soon, however much it was asked for until then and what
 * goes on there; and is not what one request by number starts. */
static void test_the_one_before_begins_at_none(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 1);
    run(world, 1);
    world->rate = 200;
    run(world, 60);
    assert_int_equal(ready(world), 7);
    const struct pop_revision *before = pop_revision_number(pop_endpoint_find(&world->pop, 1), 1);
    struct message_demand late = MESSAGE_INIT(MESSAGE_DEMAND);
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 2);
    run(world, 1);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 2);
    assert_true(before->replica_count > 0); /* not every gateway knows yet */
    late.revision = before->uid;
    late.arrivals = late.running = 1; /* of one that did not */
    pop_demand(&world->pop, &late);
    run(world, 2);
    assert_int_equal(before->replica_count, 0);
    late.arrivals = 0;
    pop_demand(&world->pop, &late);
    run(world, 1);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 2);
    assert_int_equal(before->replica_count, 0);
    asked(world, 1, 1);
    run(world, 0.2);
    assert_int_equal(before->replica_count, 1);
}

static void test_asked_for_by_number_without_idle(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "\"min\":1,\"idle\":\"0s\"", "", 2);
    run(world, 1);
    asked(world, 1, 1);
    run(world, 0.2);
    assert_int_equal(pop_revision_ready(pop_revision_number(pop_endpoint_find(&world->pop, 1), 1)),
                     1);
    run(world, 2);
    assert_int_equal(pop_revision_number(pop_endpoint_find(&world->pop, 1), 1)->replica_count, 0);
}

static void test_stop_and_start(void **state)
{
    struct world *world = *state;
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 1);
    run(world, 20);
    endpoint_set(world, "stopped", "\"idle\":\"10s\"", "", 1);
    run(world, 1);
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    demand.revision = revision_of(world)->uid;
    demand.waiting = 1;
    pop_demand(&world->pop, &demand);
    run(world, 1);
    assert_int_equal(ready(world), 0);
    endpoint_set(world, "running", "\"idle\":\"10s\"", "", 1);
    run(world, 1);
    assert_int_equal(ready(world), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_to_zero_and_back, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_who_waits_for_a_start_that_fails, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_a_start_that_fails_is_forgotten_at_zero, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_what_served_is_there_again_after_a_boot, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_after_a_boot_not_all_start_at_once, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_at_zero_behind_an_agent, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_what_a_silent_gateway_said_is_over, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_cores, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_a_load, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_up_and_down_and_words, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_an_update_at_zero_shows_that_it_can, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_an_update_under_load_has_as_many, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_what_drains_is_no_replica, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_the_one_before_begins_at_none, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_asked_for_by_number_without_idle, world_new,
                                        world_free),
        cmocka_unit_test_setup_teardown(test_stop_and_start, world_new, world_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
