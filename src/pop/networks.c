/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The weaker way to containers: where the network namespace of one could not be entered, those of
 * an endpoint have a network of their own at the engine, which leads to no other machine, and are
 * reached at their addresses in it. From inside, this machine's own addresses and the engine's
 * resolver can be asked: so it is not taken under `--sandbox require`, and not where a residency
 * says where requests are processed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "replica/engine/network.h"

enum { ASK_MS = 30'000 };

const char *agent_network_name(const struct agent *agent, const struct pop_revision *revision,
                               char ret[static AGENT_NETWORK_BYTES])
{
    snprintf(ret, AGENT_NETWORK_BYTES, "perigee-%.8s-%" PRIx64,
             agent->containers.home + strlen("sha256:"), revision->endpoint->uid);
    return ret;
}

void agent_networks_no_way_in(struct agent *agent, const char *why)
{
    struct agent_containers *containers = &agent->containers;
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;

    if (!why && containers->no_way_in[0])
        log_info("pop", "containers' networks can be entered again");
    if (!why)
        containers->no_way_in[0] = '\0';
    if (!why || containers->no_way_in[0])
        return;
    snprintf(containers->no_way_in, sizeof containers->no_way_in, "%s", why);
    log_warn("pop", "containers' networks cannot be entered, going on by addresses",
             LOG_S("why", why));
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (revision->image && revision->model_state == POP_MODEL_HERE)
                pop_model_state_move(&revision->model_state, POP_MODEL_ABSENT);
}

bool agent_network_wanted(const struct agent *agent, const struct pop_revision *revision)
{
    return agent->containers.no_way_in[0] && !pop_way_out(revision);
}

const char *agent_network_forbids(const struct agent *agent, const struct pop_revision *revision)
{
    return agent->start.sandbox == PERIGEE_SANDBOX_REQUIRE       ? "--sandbox require"
           : spec_residency_restricts(&revision->endpoint->spec) ? "residency"
                                                                 : NULL;
}

int agent_network_allowed(const struct agent *agent, const struct pop_revision *revision,
                          struct err *err)
{
    const struct agent_containers *containers = &agent->containers;
    const char *why = containers->no_way_in, *forbids = agent_network_forbids(agent, revision);

    if (!why[0])
        return 0;
    if (forbids)
        return err_set(err, ERR_PRECONDITION,
                       "%s; another way would let it reach this machine's addresses, which %s "
                       "forbids",
                       why, forbids);
    /* CNI gives the machine no address in it, and a rootless engine has networks of its own. */
    if (containers->version.podman && !pop_way_out(revision))
        return err_set(err, ERR_PRECONDITION,
                       "%s; and by address Podman lets nobody reach a network that leads nowhere",
                       why);
    return 0;
}

/* ---- making one ------------------------------------------------------------------------------ */

struct network_make {
    struct agent *agent;
    struct engine_call *call; /* under way */
    network_made_cb on_made;
    void *data;
    char name[AGENT_NETWORK_BYTES];
};

static void over(struct network_make *make, const struct err *err)
{
    network_made_cb on_made = make->on_made;
    void *data = make->data;
    struct err why = err ? *err : (struct err){};

    free(make);
    on_made(err ? &why : NULL, data);
}

static void on_seen(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct network_make *make = data;
    struct arena *arena = arena_new();
    struct engine_network_seen seen;
    struct err why = err ? *err : (struct err){};
    int r = err ? err->code : engine_network_parse(arena, answer->body, &seen, &why);

    make->call = NULL;
    if (r == 0 &&
        !engine_network_fits(&seen, slice_of(make->name), slice_of(make->agent->containers.home)))
        r = err_set(&why, ERR_PRECONDITION,
                    "the engine's network '%s' is not one that leads nowhere", make->name);
    arena_free(arena);
    over(make, r < 0 ? &why : NULL);
}

/* That it is there already is seen by what it is. */
static void on_created(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct network_make *make = data;
    char target[AGENT_NETWORK_BYTES + 32];

    make->call = NULL;
    if (err && !answer) {
        over(make, err);
        return;
    }
    snprintf(target, sizeof target, "/networks/%s", make->name);
    make->call = engine_ask(make->agent->containers.engine, ENGINE_GET, target, (struct slice){},
                            ASK_MS, on_seen, make);
}

struct network_make *agent_network_make(struct agent *agent, const struct pop_revision *revision,
                                        network_made_cb on_made, void *data)
{
    struct network_make *make = mem_zalloc(sizeof *make);
    struct arena *arena = arena_new();

    make->agent = agent;
    make->on_made = on_made;
    make->data = data;
    agent_network_name(agent, revision, make->name);
    agent->containers.networks = true;
    make->call = engine_ask(
        agent->containers.engine, ENGINE_POST, "/networks/create",
        engine_network_json(arena, slice_of(make->name), slice_of(agent->containers.home)), ASK_MS,
        on_created, make);
    arena_free(arena);
    return make;
}

void network_make_forget(struct network_make *make)
{
    engine_forget(make->call);
    free(make);
}

/* ---- removing -------------------------------------------------------------------------------- */

/* It has some of whoever began them, though new ones have none. */
static bool lived_in(const struct pop_revision *revision)
{
    const struct pop_replica *replica;

    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        if (replica->weak)
            return true;
    return false;
}

static bool needed(struct agent *agent, struct slice name)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    char one[AGENT_NETWORK_BYTES];

    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if ((agent_network_wanted(agent, revision) || lived_in(revision)) &&
                slice_is(name, agent_network_name(agent, revision, one)))
                return true;
    return false;
}

static void removed(struct agent *agent, const struct err *err)
{
    agent->containers.networks_ending--;
    if (!err || err->code != ERR_CANCELED)
        agent_containers_gone(agent);
}

/* One that a container still has is refused, and looked at again. */
static void on_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    (void)answer;

    if (err && err->code != ERR_NOT_FOUND && err->code != ERR_CANCELED && !agent->containers.ending)
        agent_containers_left(agent);
    removed(agent, err);
}

static void on_listed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    struct arena *arena = arena_new();
    char target[ENGINE_NETWORK_NAME_MAX + 32];
    struct slice *names;
    size_t count = 0;

    if (err || engine_networks_parse(arena, answer->body, slice_of(agent->containers.home), &names,
                                     &count, NULL) < 0)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!agent->containers.ending && needed(agent, names[i]))
            continue;
        agent->containers.networks_ending++;
        snprintf(target, sizeof target, "/networks/%.*s", SLICE_FMT(names[i]));
        engine_ask(agent->containers.engine, ENGINE_DELETE, target, (struct slice){}, ASK_MS,
                   on_removed, agent);
    }
    arena_free(arena);
    removed(agent, err);
}

static void look(struct agent *agent)
{
    agent->containers.networks_ending++;
    engine_networks(agent->containers.engine, ASK_MS, on_listed, agent);
}

void agent_networks_look(struct agent *agent)
{
    if (agent_engine_here(agent) && agent->pop.synced && !agent->containers.ending)
        look(agent);
}

static void on_soon(void *data)
{
    struct agent *agent = data;

    agent->containers.networks_posted = false;
    agent_networks_look(agent);
}

void agent_networks_gone(struct agent *agent)
{
    if (!agent->containers.networks || agent->containers.networks_posted)
        return;
    agent->containers.networks_posted = true;
    loop_post(agent->loop, on_soon, agent); /* the revision is there yet */
}

bool agent_networks_end(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    if (containers->engine && containers->networks)
        look(agent);
    containers->networks = false;
    return containers->networks_ending == 0;
}
