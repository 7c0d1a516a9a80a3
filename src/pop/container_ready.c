/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From running to ready: how a container is reached, asked by its probes until it is well, in the
 * table from then on, and asked further.
 */
#include <stdio.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/container_inside.h"

/* ---- is it well? ----------------------------------------------------------------------------- */

static struct container_place place_of(const struct container *container)
{
    return (struct container_place){
        .replica = container->direct ? 0 : container->replica,
        .ip = container->ip,
        .port = container->port,
        .id = slice_of(engine_life_id(container->life)),
        .hidden = container->hidden,
    };
}

static void on_alive(struct container_probe *probe, bool well, const char *why, void *data)
{
    struct container *container = data;
    char text[sizeof container->end_text];
    (void)probe;

    snprintf(text, sizeof text, "probes.liveness: %.200s", why);
    if (!well)
        container_fail(container, REPLICA_END_TIMEOUT, text);
}

static void ready(struct container *container)
{
    struct agent *agent = container->agent;
    struct container_place place = place_of(container);
    int64_t now_ns = env_now_ns(agent->env);
    struct pop_ready word = {
        .sandbox = container->walls,
        .memory_bytes = agent_usage_memory(agent, container->replica),
        .walls_ns = engine_life_walls_ns(container->life),
        .load_ns = (uint64_t)(now_ns - container->running_ns),
    };

    timer_stop(container->late);
    if (!container->was_ready) {
        agent_usage_ready(agent, container->replica);
        if (spec_probe_is_there(&container->liveness))
            container->alive = container_probe_new(agent, &place, &container->liveness, false,
                                                   on_alive, container);
    }
    container->was_ready = true;
    pop_replica_ready(&agent->pop, container->replica, &word);
}

static void on_readiness(struct container_probe *probe, bool well, const char *why, void *data)
{
    struct container *container = data;
    (void)probe;

    if (well)
        ready(container);
    else if (container->was_ready)
        pop_replica_unready(&container->agent->pop, container->replica, why);
    else
        snprintf(container->probed, sizeof container->probed, "%s", why);
}

/* probes.startup; readiness comes behind it. */
static void on_startup(struct container_probe *probe, bool well, const char *why, void *data)
{
    struct container *container = data;
    struct container_place place = place_of(container);

    if (!well) {
        snprintf(container->probed, sizeof container->probed, "%s", why);
        return;
    }
    container_probe_free(probe);
    container->first = container_probe_new(container->agent, &place, &container->readiness, true,
                                           on_readiness, container);
}

static int64_t late_ms(const struct container *container)
{
    const struct spec_probe *startup = &container->startup;
    return (int64_t)(startup->period_ns / 1'000'000 * startup->failures);
}

static void on_late(void *data)
{
    struct container *container = data;
    char text[sizeof container->end_text];

    snprintf(text, sizeof text, "it was not well within %g s (probes.startup): %.120s",
             (double)late_ms(container) / 1000,
             container->probed[0] ? container->probed : "it did not answer");
    container_fail(container, REPLICA_END_NOT_STARTED, text);
}

void container_probes_init(struct container *container, const struct endpoint_spec *spec)
{
    container->startup = spec_startup_fill(spec);
    container->readiness = spec->probes.readiness;
    container->liveness = spec->probes.liveness;
    container->two_steps = spec_probe_is_there(&spec->probes.startup);
    container->late = timer_new(container->agent->loop, on_late, container);
}

void container_probes_begin(struct container *container)
{
    struct container_place place = place_of(container);

    container->first =
        container_probe_new(container->agent, &place, &container->startup, true,
                            container->two_steps ? on_startup : on_readiness, container);
    if (container->two_steps) /* else queue.cold alone says how long it may take (reconcile.c) */
        timer_start(container->late, late_ms(container));
}

void container_probes_end(struct container *container)
{
    container_probe_free(take_ptr(container->first));
    container_probe_free(take_ptr(container->alive));
    timer_stop(container->late);
}
/* ---- how it is reached ----------------------------------------------------------------------- */

void container_target(struct pop_replica *replica, const struct container *container)
{
    if (!container->direct || container->addressed)
        replica->target = (struct table_target){
            .id = replica->id,
            .ip = container->ip,
            .port = container->port,
            .kind = container->direct ? TABLE_TARGET_ADDRESS : TABLE_TARGET_SOCKET,
        };
    replica->open = pop_way_out(replica->revision); /* one that has another is not adopted */
    replica->weak = container->direct && !replica->open;
}

void container_reached(struct container *container)
{
    struct pop_replica *replica = container_replica(container);

    if (!ip_parse(slice_of(engine_life_address(container->life)), &container->ip)) {
        container_fail(container, REPLICA_END_NOT_STARTED, "the engine says no address of it");
        return;
    }
    container->addressed = true;
    if (replica)
        container_target(replica, container);
    container_probes_begin(container);
}

/* One that is reached by address: could it be entered as well? The next ones are then. */
static void looked_in(struct container *container, const struct err *err, bool no_way_in)
{
    if (!err)
        agent_networks_no_way_in(container->agent, NULL);
    else if (no_way_in)
        agent_networks_no_way_in(container->agent, err->message);
    else if (err->code == ERR_PRECONDITION)
        container_fail(container, REPLICA_END_NOT_STARTED, err->message);
}

void agent_container_shown(struct agent *agent, uint64_t replica, const struct err *err)
{
    struct container *container = container_find(agent, replica);
    bool no_way_in = err && (err->code == ERR_FORBIDDEN || err->code == ERR_NOT_SUPPORTED);

    if (!container || container->end_text[0] || container->end != REPLICA_END_ITSELF)
        return;
    if (container->direct) {
        looked_in(container, err, no_way_in);
        return;
    }
    if (!err && !container->first)
        container_probes_begin(container);
    if (!err || err->code == ERR_NOT_FOUND) /* that it is gone is heard by its pidfd */
        return;
    if (container->was_ready) /* its probes say what comes of it */
        log_warn("pop", "a container is not reached for now", LOG_S("replica", container->name),
                 LOG_S("why", err->message));
    else
        container_fail(container, REPLICA_END_NOT_STARTED, err->message);
    if (no_way_in)
        agent_networks_no_way_in(agent, err->message);
}
