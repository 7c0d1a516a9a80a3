/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers live on when their agent does not. Which of them run is noted, so that the next agent
 * has them, and requests reach them, before the engine has said a word: it may be slow, or away for
 * long. What it then says counts: who it does not know, or who lacks a wall by its word, is ended.
 * What was not on disk in time is found by the engine's list alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "pop/agent.h"
#include "pop/pop.h"
#include "replica/engine/kept.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/proc.h"

/* Those that end with us are found dead. */
void agent_containers_note(struct agent *agent)
{
    const struct agent_containers *containers = &agent->containers;
    char boot[PROC_BOOT_BYTES], engine[ADDRESS_TEXT_BYTES];

    if (containers->ending || !proc_boot(boot))
        return;
    struct arena *arena = arena_new();
    struct engine_kept_list list = {
        .boot = slice_of(boot),
        .engine = slice_of(address_text(&containers->address, engine)),
        .version = containers->version,
        .info = containers->info,
    };
    list.items = agent_containers_running(agent, arena, &list.count);
    keep_containers(&agent->keep, arena, engine_kept_json(arena, &list));
}

/* Is that engine the one that is meant now? One that is away counts as it. */
static bool same_engine(struct slice noted, struct address *ret)
{
    const char *told = getenv(ENGINE_ENVIRONMENT);
    char text[ADDRESS_TEXT_BYTES];
    struct err err;

    if (engine_find(slice_of(told ? told : ""), ret, &err) == 0)
        return slice_is(noted, address_text(ret, text));
    return address_parse(noted, ret, &err) == 0 && ret->kind == ADDRESS_UNIX;
}

/* Is it the engine that says whether it is well? Then there is nothing to be had without it. */
static bool asks_engine(const struct pop_revision *revision)
{
    const struct endpoint_spec *spec = &revision->image->spec;
    struct spec_probe startup = spec_startup_fill(spec);

    return startup.command.count || spec->probes.readiness.command.count;
}

/* Of a revision that is not known yet: the engine's list has it again, once control has told. */
static void resume(struct agent *agent, const struct engine_kept *kept)
{
    struct pop_revision *revision = pop_revision_find(&agent->pop, kept->revision);
    bool ours = revision && revision->driver == POP_DRIVER_ENGINE && !asks_engine(revision);
    auto_close int pidfd = ours ? engine_kept_open(kept) : -1;

    if (ours && pidfd < 0) /* what the engine has left of it is heard later */
        agent_inside_forget(agent, kept->replica);
    if (pidfd < 0 || agent_container_known(agent, kept->replica) ||
        (kept->by_address && agent_network_forbids(agent, revision)))
        return;
    agent_usage_lives(agent, kept->replica);
    agent_container_resume(agent, revision, kept, take_fd(pidfd));
}

static void resume_all(struct agent *agent, const struct engine_kept_list *list)
{
    struct agent_containers *containers = &agent->containers;
    char boot[PROC_BOOT_BYTES];
    struct address address;

    if (list->count == 0 || !proc_boot(boot) || !slice_is(list->boot, boot) ||
        !same_engine(list->engine, &address))
        return;
    agent_engine_at(agent, &address);
    engine_use(containers->engine, &list->version);
    containers->version = list->version;
    containers->info = list->info;
    for (size_t i = 0; i < list->count; i++)
        resume(agent, &list->items[i]);
    containers->met = !list_empty(&containers->all); /* else any other engine is as good */
}

void agent_containers_resume(struct agent *agent)
{
    struct arena *arena = arena_new();
    const char *path = arena_format(arena, "%s/" CONTAINERS_FILE, agent->start.home);
    struct engine_kept_list list;
    struct slice text;
    struct err err;

    if (disk_read(path, ENGINE_KEPT_BYTES_MAX, arena, &text, &err) == 0 &&
        engine_kept_parse(arena, text, &list, &err) == 0)
        resume_all(agent, &list);
    else
        log_debug("pop", "no container is known before the engine", LOG_S("why", err.message));
    arena_free(arena);
}
