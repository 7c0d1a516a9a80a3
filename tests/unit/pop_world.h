/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop_world.h -- the agent's core in a world of its own: a clock that jumps from event to event, a
 * supervisor that does as it is told (or does not), no process, no disk. Included once a test
 * program, after cmocka.h.
 */
#pragma once

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "pop/state.h"
#include "pop_effects.h"

enum { LIVING_MAX = 64 };

struct world {
    struct env env; /* first: the env is the world */
    struct env_timers timers;
    int64_t now_ns;
    struct pop pop;
    uint64_t living[LIVING_MAX]; /* replica ids the supervisor has */
    unsigned living_count, starts, kills, drains, publishes, moves, failures, unwanted, looks,
        awaited;
    unsigned gone; /* arenas given up */
    unsigned barred;
    uint64_t gone_last;
    bool refuse, load_fails, drains_never, hangs;
};

static int64_t now(struct env *env)
{
    return ((struct world *)env)->now_ns;
}

[[maybe_unused]] static void timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                                         env_timer_cb on_due, void *data)
{
    struct world *world = (struct world *)env;
    env_timers_start(&world->timers, timer, world->now_ns + delay_ns, on_due, data);
}

[[maybe_unused]] static void timer_stop(struct env *env, struct env_timer *timer)
{
    env_timers_stop(&((struct world *)env)->timers, timer);
}

[[maybe_unused]] static int on_start(struct pop_replica *replica, struct err *err, void *data)
{
    struct world *world = data;
    world->starts++;
    if (world->refuse)
        return err_set(err, ERR_INTERNAL, "no");
    assert_true(world->living_count < LIVING_MAX);
    world->living[world->living_count++] = replica->id;
    return 0;
}

[[maybe_unused]] static void on_kill(struct pop_replica *, enum replica_end end, const char *,
                                     void *data)
{
    struct world *world = data;
    assert_int_equal(end, world->hangs ? REPLICA_END_NOT_STARTED : REPLICA_END_STOPPED);
    world->kills++;
}

[[maybe_unused]] static void on_drain(struct pop_replica *, void *data)
{
    ((struct world *)data)->drains++;
}

[[maybe_unused]] static void on_unwanted(uint64_t, void *data)
{
    ((struct world *)data)->unwanted++;
}

[[maybe_unused]] static void on_look(struct pop_replica *, void *data)
{
    ((struct world *)data)->looks++;
}

[[maybe_unused]] static void on_revision_gone(uint64_t revision, void *data)
{
    struct world *world = data;
    world->gone++;
    world->gone_last = revision;
}

[[maybe_unused]] static void on_publish(struct pop *, void *data)
{
    ((struct world *)data)->publishes++;
}

[[maybe_unused]] static void on_event(struct pop *, const char *kind, const struct pop_endpoint *,
                                      const struct pop_replica *, const char *, void *data)
{
    struct world *world = data;
    world->moves += strcmp(kind, "traffic_moved") == 0;
    world->failures += strcmp(kind, "revision_failed") == 0;
}

[[maybe_unused]] static void on_death(struct pop_endpoint *, const struct pop_death *death, void *)
{
    assert_true(death->reason[0] != '\0');
}

[[maybe_unused]] static void on_awaited(struct pop_revision *, void *data)
{
    ((struct world *)data)->awaited++;
}

[[maybe_unused]] static void on_barred(struct pop_endpoint *, void *data)
{
    ((struct world *)data)->barred++;
}

static const struct pop_effects effects = {
    .replica_start = on_start,
    .replica_kill = on_kill,
    .replica_drain = on_drain,
    .replica_unwanted = on_unwanted,
    .replica_look = on_look,
    .model_fetch = on_fetch,
    .revision_gone = on_revision_gone,
    .publish = on_publish,
    .report = on_change,
    .save = on_change,
    .event = on_event,
    .death = on_death,
    .model_awaited = on_awaited,
    .endpoint_barred = on_barred,
};

/* ---- what the supervisor and the gateway would say ------------------------------------------- */

[[maybe_unused]] static void exited(struct world *world, uint64_t id, uint32_t end, int status)
{
    for (unsigned i = 0; i < world->living_count; i++)
        if (world->living[i] == id)
            world->living[i] = world->living[--world->living_count];
    const struct pop_replica *replica = map_get_u64(&world->pop.replicas_by_id, id);
    bool loading = replica && replica->state == POP_REPLICA_STARTING;
    struct message_replica_exited message = {
        .replica = id,
        .end = end,
        .wait_status = status,
        .phase = loading ? PERIGEE_PHASE_LOADING : PERIGEE_PHASE_READY,
    };
    pop_replica_exited(&world->pop, &message);
}

[[maybe_unused]] static void ready(struct world *world, uint64_t id)
{
    static struct perigee_model model;
    static const struct message_replica_walls walls = {};
    struct pop_ready message = { .walls = &walls, .model = &model, .model_bytes = sizeof model };
    pop_replica_ready(&world->pop, id, &message);
}

/* Everything outstanding happens: models are fetched, starts get ready (or fail), kills and drains
 * are carried out. */
[[maybe_unused]] static void settle_once(struct world *world)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    struct pop_replica *replica;
    LIST_EACH (endpoint, &world->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            if (revision->model_state == POP_MODEL_FETCHING)
                pop_model_fetched(revision, "/models/x", "model.onnx", NULL);
            LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
                if (replica->kill_sent)
                    exited(world, replica->id,
                           world->hangs ? REPLICA_END_NOT_STARTED : REPLICA_END_STOPPED, SIGKILL);
                else if (world->hangs)
                    continue;
                else if (replica->state == POP_REPLICA_STARTING && world->load_fails)
                    exited(world, replica->id, REPLICA_END_ITSELF, 1 << 8);
                else if (replica->state == POP_REPLICA_STARTING)
                    ready(world, replica->id);
                else if (replica->state == POP_REPLICA_DRAINING && !world->drains_never)
                    pop_replica_drained(&world->pop, replica->id);
            }
        }
}

/* Runs the clock to `until_ns`, settling after each thing that was due. */
[[maybe_unused]] static void run(struct world *world, int64_t until_ns)
{
    for (unsigned steps = 0; steps < 1'000'000; steps++) {
        settle_once(world);
        int64_t next_ns = env_timers_next_ns(&world->timers);
        if (next_ns > until_ns)
            break;
        if (next_ns > world->now_ns)
            world->now_ns = next_ns;
        (void)env_timers_run(&world->timers, world->now_ns);
    }
    world->now_ns = until_ns;
}

[[maybe_unused]] static void after(struct world *world, int64_t seconds)
{
    run(world, world->now_ns + seconds * ENV_S);
}

[[maybe_unused]] static const char *spec_more = "";    /* keys */
[[maybe_unused]] static const char *traffic_more = ""; /* the document's key */

[[maybe_unused]] static void endpoint_set(struct world *world, unsigned target, unsigned revisions,
                                          unsigned min, bool running)
{
    char text[2048];
    struct err err = {};
    size_t used = (size_t)snprintf(
        text, sizeof text,
        "{\"uid\":1,\"name\":\"digits\",\"project\":\"default\",\"state\":\"%s\",\"target\":%u,"
        "\"spec\":{\"name\":\"digits\",\"model\":\"sha256:%064d\",\"scale\":{\"min\":%u}%s},"
        "\"revisions\":[",
        running ? "running" : "stopped", target, 1, min, spec_more);
    for (unsigned i = 1; i <= revisions; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s{\"number\":%u,\"uid\":%u,\"model\":\"sha256:%064u\"}",
                                 i > 1 ? "," : "", i, 1u << 24 | i, i);
    snprintf(text + used, sizeof text - used, "]%s}", traffic_more);
    if (pop_endpoint_apply(&world->pop, slice_of(text), &err) < 0)
        fail_msg("%s", err.message);
}

/* An agent that has read nothing, and heard nothing from control. */
[[maybe_unused]] static struct world *world_bare(void)
{
    struct world *world = calloc(1, sizeof *world);
    world->env = (struct env){ .name = "test",
                               .now_ns = now,
                               .wall_ns = now,
                               .timer_start = timer_start,
                               .timer_stop = timer_stop };
    world->now_ns = ENV_S;
    pop_init(&world->pop, &world->env, 7, &effects, world);
    pop_gateway_changed(&world->pop, true);
    return world;
}

[[maybe_unused]] static int world_new(void **state)
{
    struct world *world = world_bare();
    pop_sync(&world->pop, NULL, 0);
    *state = world;
    return 0;
}

[[maybe_unused]] static int world_new_bare(void **state)
{
    *state = world_bare();
    return 0;
}

[[maybe_unused]] static int world_free(void **state)
{
    struct world *world = *state;
    pop_deinit(&world->pop);
    env_timers_deinit(&world->timers);
    free(world);
    return 0;
}
