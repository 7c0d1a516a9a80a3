/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine, as the agent has it. It is here once it has said who it is and which containers of
 * this home it has: those of an earlier agent are taken over by then, so that none is started in
 * their place. Once it is here its events are followed, whose end says that it is away; the watch
 * opens them again, and its list that it is back.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "http/client.h"
#include "io/loop.h"
#include "io/timer.h"
#include "io/work.h"
#include "pop/agent.h"
#include "pop/pop.h"
#include "replica/engine/container.h"
#include "replica/engine/groups.h"
#include "replica/engine/listed.h"
#include "replica/engine/watch.h"
#include "sys/cgroup.h"

enum {
    ASK_MS = 10'000,
    AWAY_MS = 1'000, /* from its loss to the first question */
    LEFT_MS = 5'000,
    LATE_MS = 20'000, /* that LEFT_MS is doubled to, while one may be made yet */
    END_MS = 2'300,
    GROUPS_MS = 1'000,
    END_GRACE_MS = 1'000
};

/* ---- what it has ----------------------------------------------------------------------------- */

struct removal {
    struct agent *agent;
    uint64_t replica, revision;
    bool counted; /* it ran, and what it used is to be told */
    char group[64];
};

/* Its group stands yet, and says what it used. */
static void removed(const struct removal *removal)
{
    struct agent *agent = removal->agent;

    if (!removal->group[0])
        return;
    if (removal->counted)
        agent_usage_ended(agent, removal->replica, removal->revision,
                          engine_group_cpu_us(removal->group));
    engine_groups_remove(engine_groups(agent->containers.engine), removal->group);
}

static void on_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    auto_free struct removal *removal = data;
    (void)answer;

    if (!err || err->code == ERR_NOT_FOUND)
        removed(removal);
    if (!err || err->code == ERR_NOT_FOUND || err->code == ERR_CANCELED)
        return;
    if (err->code != ERR_CONFLICT)
        log_warn("pop", "a container that nobody needs could not be removed",
                 LOG_S("why", err->message));
    agent_containers_left(removal->agent);
}

static void remove_one(struct agent *agent, const struct engine_listed *item)
{
    struct removal *removal = mem_zalloc(sizeof *removal);
    struct slice id = item->id;
    char target[128];

    removal->agent = agent;
    removal->replica = item->replica;
    removal->revision = item->revision;
    removal->counted = slice_is(item->state, "running");
    agent_container_group(agent, item->replica, removal->group, sizeof removal->group);
    log_info("pop", "removing a container that nobody needs",
             LOG_SLICE("id", ((struct slice){ id.data, 12 })));
    snprintf(target, sizeof target, "/containers/%.*s?force=1&v=1", SLICE_FMT(id));
    engine_ask(agent->containers.engine, ENGINE_DELETE, target, (struct slice){}, ASK_MS,
               on_removed, removal);
}

/* Of an earlier agent, or of this one while the engine did not answer. One whose revision control
 * may tell of yet stays. */
static void look_at(struct agent *agent, const struct engine_listed *item)
{
    struct pop_revision *revision = pop_revision_find(&agent->pop, item->revision);
    bool ours = revision && revision->driver == POP_DRIVER_ENGINE;
    bool runs = slice_is(item->state, "running");
    bool earlier = item->replica >> 32 != agent->start.instance;

    if (agent_container_known(agent, item->replica)) {
        agent_container_heard(agent, item->replica);
        return;
    }
    if (runs && earlier)
        agent_usage_lives(agent, item->replica);
    if (ours && runs && earlier && !agent->containers.ending &&
        agent_container_adopt(agent, revision, item))
        return;
    if (ours || !runs || !earlier || agent->pop.synced)
        remove_one(agent, item);
}

/* Of containers that are gone, whoever removed them; one that somebody is in stays. */
static void on_group(const char *name, void *data)
{
    struct agent *agent = data;
    char path[128];
    uint64_t replica;

    if (sscanf(name, "%" SCNx64, &replica) != 1 || agent_container_known(agent, replica))
        return;
    agent_container_group(agent, replica, path, sizeof path);
    if (path[0] && strcmp(strrchr(path, '/') + 1, name) == 0)
        engine_groups_remove(engine_groups(agent->containers.engine), path);
}

static void sweep_groups(struct agent *agent)
{
    char path[128];

    agent_container_group(agent, 0, path, sizeof path);
    if (!path[0])
        return;
    *strrchr(path, '/') = '\0';
    cgroup_each(path, on_group, agent);
}

static void on_groups_empty(void *data)
{
    agent_containers_gone(data);
}

/* What was asked for by an agent that was killed meanwhile, or before the engine was lost, may be
 * made only after the list. */
static void look_again(struct agent *agent)
{
    agent_containers_left(agent);
    agent->containers.look_ms = LEFT_MS;
}

static void here(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    containers->failures = 0;
    if (containers->state == AGENT_ENGINE_HERE)
        return;
    containers->state = AGENT_ENGINE_HERE;
    if (containers->marked)
        agent_usage_told(agent);
    log_info("pop", "container engine", LOG_S("name", containers->version.name),
             LOG_S("version", containers->version.version));
    engine_groups_on_empty(engine_groups(containers->engine), on_groups_empty, agent);
    sweep_groups(agent);
    look_again(agent);
    agent_images_engine(agent);
    agent_volumes_look(agent);
    agent_networks_look(agent);
    pop_engine_there(&agent->pop);
}

static void on_list(const struct engine_list *list, void *data)
{
    struct agent *agent = data;

    for (size_t i = 0; i < list->count; i++)
        look_at(agent, &list->items[i]);
    agent_containers_unheard(agent, list);
    agent->containers.listed = true;
    agent_containers_shown(agent);
    here(agent);
}

static void on_event(struct slice id, struct slice action, void *data)
{
    (void)id; /* each container's own pidfd says it before */
    (void)action;
    (void)data;
}

static void away(struct agent *agent, const char *why)
{
    struct agent_containers *containers = &agent->containers;
    bool news = containers->state != AGENT_ENGINE_AWAY || strcmp(containers->why, why) != 0;

    containers->state = AGENT_ENGINE_AWAY;
    snprintf(containers->why, sizeof containers->why, "%s", why);
    if (news)
        log_warn("pop", "no container engine, trying again", LOG_S("why", why));
    agent_images_engine(agent);
}

/* Another one may come in its place, of another version or with other bounds: it is asked anew who
 * it is before its list counts. */
static void on_lost(const char *why, void *data)
{
    struct agent *agent = data;
    struct agent_containers *containers = &agent->containers;
    char text[sizeof containers->why];

    snprintf(text, sizeof text, "the container engine is away: %.400s", why);
    engine_watch_free(take_ptr(containers->watch));
    away(agent, text);
    timer_start(containers->again, AWAY_MS);
}

/* ---- who it is ------------------------------------------------------------------------------- */

static void again(struct agent *agent, const char *why)
{
    struct agent_containers *containers = &agent->containers;

    away(agent, why);
    timer_start(containers->again, pop_back_off_ns(++containers->failures) / ENV_MS);
}

static void on_info(const struct engine_answer *answer, const struct err *err, void *data)
{
    static const struct engine_watch_events events = { on_event, on_list, on_lost };
    struct agent *agent = data;
    struct agent_containers *containers = &agent->containers;
    struct err why = {};
    char lacks[128];

    containers->ask = NULL;
    if (!err && engine_info_parse(answer->body, &containers->info, &why) < 0)
        err = &why;
    if (!err && !engine_info_whole(&containers->info, lacks, sizeof lacks)) {
        (void)err_set(&why, ERR_NOT_SUPPORTED,
                      "%s bounds no container by %s, and none is run without: `perigee doctor`",
                      containers->version.name, lacks);
        err = &why;
    }
    if (err) {
        again(agent, err->message);
        return;
    }
    containers->met = true;
    containers->watch = engine_watch_new(containers->engine, agent->loop,
                                         slice_of(containers->home), &events, agent);
}

static void on_version(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    struct agent_containers *containers = &agent->containers;
    struct err why = {};

    containers->ask = NULL;
    if (!err && engine_version_parse(answer->body, &containers->version, &why) < 0)
        err = &why;
    if (err) {
        again(agent, err->message);
        return;
    }
    engine_use(containers->engine, &containers->version);
    containers->ask = engine_ask(containers->engine, ENGINE_GET, "/info", (struct slice){}, ASK_MS,
                                 on_info, agent);
}

static void ask(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    containers->ask = engine_ask(containers->engine, ENGINE_GET, "/version", (struct slice){},
                                 ASK_MS, on_version, agent);
}

void agent_engine_at(struct agent *agent, const struct address *address)
{
    struct agent_containers *containers = &agent->containers;

    if (!containers->pool)
        containers->pool = work_pool_new("layers", 1);
    engine_free(containers->engine);
    containers->engine = engine_new(agent->loop, containers->pool, address);
    containers->address = *address;
}

/* Once it was here, containers lean on it: whoever answers at its address is that one. */
static void begin(void *data)
{
    struct agent *agent = data;
    struct agent_containers *containers = &agent->containers;
    const char *told = getenv(ENGINE_ENVIRONMENT);
    struct address address;
    struct err err = {};

    if (containers->met) {
        ask(agent);
        return;
    }
    if (engine_find(slice_of(told ? told : ""), &address, &err) < 0) {
        again(agent, err.message);
        return;
    }
    agent_engine_at(agent, &address);
    ask(agent);
}

/* ---- from outside ---------------------------------------------------------------------------- */

bool agent_engine_here(const struct agent *agent)
{
    return agent->containers.state == AGENT_ENGINE_HERE;
}

void agent_engine_want(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    if (containers->state != AGENT_ENGINE_NONE)
        return;
    containers->state = AGENT_ENGINE_ASKED;
    containers->again = timer_new(agent->loop, begin, agent);
    begin(agent);
}

/* Its labels: the folder, which no other Perigee on this machine has. */
void agent_containers_open(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;
    char digest[DIGEST_TEXT];
    char path[MESSAGE_PATH_BYTES + 32];

    snprintf(containers->home, sizeof containers->home, "%s",
             digest_of(slice_of(agent->start.home), digest));
    snprintf(path, sizeof path, "%s/" CONTAINERS_FILE, agent->start.home);
    agent->inside_shown = agent_container_shown;
    agent_volumes_count(agent);
    containers->marked = access(path, F_OK) == 0;
    if (!containers->marked || agent->pop.no_replicas) {
        agent_inside_told(agent);
        return;
    }
    agent_containers_resume(agent);
    agent_engine_want(agent);
}

static void on_looked(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct agent *agent = data;
    struct arena *arena = arena_new();
    struct engine_list list;

    if (!err &&
        engine_list_parse(arena, answer->body, slice_of(agent->containers.home), &list, NULL) == 0)
        on_list(&list, agent);
    arena_free(arena);
    agent_volumes_look(agent);
    agent_networks_look(agent);
}

void agent_containers_look(struct agent *agent)
{
    if (agent_engine_here(agent))
        engine_list(agent->containers.engine, ASK_MS, on_looked, agent);
    else
        agent_volumes_look(agent);
}

static void on_look(void *data)
{
    struct agent *agent = data;
    struct agent_containers *containers = &agent->containers;

    agent_containers_look(agent);
    if (containers->look_ms == 0 || containers->look_ms == LATE_MS)
        return;
    containers->look_ms *= 2;
    timer_start(containers->look_timer, containers->look_ms);
}

/* While the engine is away nothing is asked: its list, once it is back, has it. */
void agent_containers_left(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    if (!containers->look_timer)
        containers->look_timer = timer_new(agent->loop, on_look, agent);
    timer_start(containers->look_timer, LEFT_MS);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void ended(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;
    void (*on_ended)(struct agent * agent) = containers->on_ended;

    timer_free(take_ptr(containers->end_timer));
    containers->on_ended = NULL;
    if (on_ended)
        on_ended(agent);
}

static void on_end_late(void *data)
{
    struct agent *agent = data;

    if (!list_empty(&agent->containers.all))
        log_warn("pop", "containers are killed without the engine: the next start removes them");
    agent_containers_kill(agent);
    ended(data);
}

void agent_containers_gone(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;
    if (!containers->on_ended || !list_empty(&containers->all))
        return;
    bool volumes = agent_volumes_end(agent), networks = agent_networks_end(agent);
    if (!volumes || !networks)
        return;
    if (!containers->engine || engine_groups_empty(engine_groups(containers->engine))) {
        ended(agent);
    } else if (!containers->groups_left) { /* the next start has what is left */
        int64_t until_ms = containers->end_at_ms - loop_now_ms(agent->loop);
        containers->groups_left = true;
        timer_start(containers->end_timer, until_ms < GROUPS_MS ? until_ms : GROUPS_MS);
    }
}

void agent_containers_end(struct agent *agent, void (*on_ended)(struct agent *agent))
{
    struct agent_containers *containers = &agent->containers;

    containers->on_ended = on_ended;
    if (!containers->ending) {
        containers->ending = true;
        agent_containers_stop(agent, END_GRACE_MS);
    }
    if (!on_ended)
        return;
    if (!containers->end_timer) {
        containers->end_timer = timer_new(agent->loop, on_end_late, agent);
        timer_start(containers->end_timer, END_MS);
        containers->end_at_ms = loop_now_ms(agent->loop) + END_MS;
    }
    agent_containers_gone(agent);
}

void agent_containers_close(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    agent_images_close(agent);
    agent_containers_forget(agent);
    agent_volumes_close(agent);
    http_client_free(containers->client);
    engine_watch_free(containers->watch);
    if (containers->ask)
        engine_forget(containers->ask);
    work_pool_free(containers->pool);
    engine_free(containers->engine);
    timer_free(containers->again);
    timer_free(containers->end_timer);
    timer_free(containers->look_timer);
}
