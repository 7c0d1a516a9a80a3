/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a replica that is a container, once it is begun (container_begin.c): shown to who
 * makes sockets in its network, asked until it is well (container_ready.c), counted until it is
 * gone. What follows from each is the core's (happened.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "io/timer.h"
#include "pop/container_inside.h"
#include "replica/engine/kept.h"
#include "replica/engine/listed.h"
#include "sys/proc.h"

enum { GRACE_MS = 10'000 }; /* from SIGTERM to SIGKILL */

struct pop_replica *container_replica(const struct container *container)
{
    return map_get_u64(&container->agent->pop.replicas_by_id, container->replica);
}

struct container *container_find(const struct agent *agent, uint64_t replica)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link)
        if (container->replica == replica)
            return container;
    return NULL;
}

static void container_free(struct container *container)
{
    container_probes_end(container);
    timer_free(container->late);
    list_remove(&container->link);
    engine_hidden_free(container->hidden);
    free(container);
}

void container_fail(struct container *container, enum replica_end end, const char *text)
{
    if (container->end_text[0])
        return;
    container->end = end;
    snprintf(container->end_text, sizeof container->end_text, "%s", text);
    container_probes_end(container);
    engine_life_fail(container->life, text);
}

/* ---- what the engine says of it -------------------------------------------------------------- */

/* All that an earlier agent left are shown, or of no use. */
static void adopted(struct container *container)
{
    container->adopting = false;
    agent_containers_shown(container->agent);
}

void agent_containers_shown(struct agent *agent)
{
    struct container *container;
    bool all = agent->containers.listed;

    LIST_EACH (container, &agent->containers.all, struct container, link)
        all = all && !container->adopting;
    if (all)
        agent_inside_told(agent);
}

static void on_running(struct engine_life *life, int64_t pid, int pidfd, void *data)
{
    struct container *container = data;
    struct agent *agent = container->agent;
    struct pop_replica *replica = container_replica(container);
    (void)life;

    container->running_ns = env_now_ns(agent->env);
    container->pid = proc_started((pid_t)pid, &container->started) ? pid : 0;
    agent_containers_note(agent);
    if (replica)
        replica->pid = (int32_t)pid;
    agent_usage_contained(agent, container->replica, container->revision, (int32_t)pid,
                          container->group);
    agent_inside_show(agent, container->replica, pidfd);
    adopted(container);
    if (container->direct)
        container_reached(container);
}

/* As worker processes' lines come; a piece ends with a line where it can. */
static void on_log(struct engine_life *life, struct slice text, bool is_error, void *data)
{
    struct container *container = data;
    (void)life;
    (void)is_error;

    while (text.size) {
        struct message_replica_log log = MESSAGE_INIT(MESSAGE_REPLICA_LOG);
        size_t bytes = text.size < MESSAGE_LOG_BYTES ? text.size : MESSAGE_LOG_BYTES;
        const char *line = bytes < text.size ? memrchr(text.data, '\n', bytes) : NULL;
        if (line)
            bytes = (size_t)(line - text.data) + 1;
        log.replica = container->replica;
        log.bytes = (uint32_t)bytes;
        memcpy(log.data, text.data, bytes);
        pop_replica_log(&container->agent->pop, &log);
        agent_note_log(container->agent, &log);
        text = (struct slice){ text.data + bytes, text.size - bytes };
    }
}

static void reason_of(const struct container *container, const struct engine_end *end, char *reason,
                      size_t room)
{
    bool started = end->ran && container->end != REPLICA_END_NOT_STARTED;

    snprintf(reason, room, "%s%s", started ? "" : "could not be started: ",
             container->end_text[0] ? container->end_text : end->text);
}

static bool was_asked(const struct container *container)
{
    return container->end == REPLICA_END_STOPPED || container->end == REPLICA_END_UNWANTED;
}

/* Nothing is sent there any more, and another takes its place, while the engine cleans up. */
static void on_dead(struct engine_life *life, void *data)
{
    struct container *container = data;
    (void)life;

    container_probes_end(container);
    agent_inside_forget(container->agent, container->replica);
    if (!was_asked(container))
        pop_replica_dead(&container->agent->pop, container->replica);
}

static void on_gone(struct engine_life *life, const struct engine_end *end, void *data)
{
    struct container *container = data;
    struct agent *agent = container->agent;
    struct pop_replica *replica = container_replica(container);
    bool asked = was_asked(container);
    char reason[1024];
    (void)life;

    reason_of(container, end, reason, sizeof reason);
    agent_inside_forget(agent, container->replica);
    if (end->left)
        agent_containers_left(agent);
    if (end->ran)
        agent_usage_ended(agent, container->replica, container->revision, end->cpu_us);
    /* The engine may have lost the image: it is asked anew. */
    if (replica && !end->ran && !asked && replica->revision->model_state == POP_MODEL_HERE)
        pop_model_state_move(&replica->revision->model_state, POP_MODEL_ABSENT);
    uint64_t id = container->replica;
    container_free(container);
    agent_containers_note(agent);
    agent_containers_shown(agent);
    if (!agent->containers.ending)
        pop_replica_ended(&agent->pop, id, reason, asked);
    agent_containers_gone(agent);
}

const struct engine_life_events container_events = { on_running, on_log, on_dead, on_gone };

/* ---- of an earlier agent --------------------------------------------------------------------- */

void agent_container_heard(struct agent *agent, uint64_t replica)
{
    struct container *container = container_find(agent, replica);

    container->unheard = false;
    engine_life_heard(container->life);
}

void agent_containers_unheard(struct agent *agent, const struct engine_list *list)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link)
        if (container->unheard && list->count < ENGINE_LIST_MAX)
            container_fail(container, REPLICA_END_ITSELF, "the engine does not know it any more");
}

struct engine_kept *agent_containers_running(const struct agent *agent, struct arena *arena,
                                             size_t *ret_count)
{
    struct engine_kept *items = ARENA_ARRAY(arena, struct engine_kept, ENGINE_KEPT_MAX);
    const struct container *container;
    size_t count = 0;

    LIST_EACH (container, &agent->containers.all, struct container, link) {
        if (!container->pid || count == ENGINE_KEPT_MAX)
            continue;
        items[count++] = (struct engine_kept){
            .id = slice_of(engine_life_id(container->life)),
            .replica = container->replica,
            .revision = container->revision,
            .pid = container->pid,
            .started = container->started,
            .address = slice_of(engine_life_address(container->life)),
            .by_address = container->direct,
            .gpus = slice_of(container->gpus),
        };
    }
    *ret_count = count;
    return items;
}

/* ---- ending ---------------------------------------------------------------------------------- */

void agent_container_kill(struct agent *agent, const struct pop_replica *replica,
                          enum replica_end end, const char *text)
{
    struct container *container = container_find(agent, replica->id);

    if (!container)
        return;
    if (end == REPLICA_END_STOPPED || end == REPLICA_END_UNWANTED) {
        container_probes_end(container);
        if (!container->end_text[0])
            container->end = end;
        engine_life_stop(container->life, GRACE_MS);
    } else {
        char why[sizeof container->end_text];
        snprintf(why, sizeof why, "%.120s%s%.120s", text, container->probed[0] ? ": " : "",
                 container->probed);
        container_fail(container, end, why);
    }
}

bool agent_container_known(const struct agent *agent, uint64_t replica)
{
    return container_find(agent, replica) != NULL;
}

void agent_containers_stop(struct agent *agent, int64_t grace_ms)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link) {
        container_probes_end(container);
        container->end = REPLICA_END_STOPPED;
        engine_life_stop(container->life, grace_ms);
    }
}

void agent_containers_kill(struct agent *agent)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link)
        engine_life_kill(container->life);
}

void agent_containers_forget(struct agent *agent)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link) {
        engine_life_free(container->life);
        container_free(container);
    }
}
