/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container is begun: described to the engine, made and started by it, or one that an earlier
 * agent began is taken over. What comes of it then is container.c's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "pop/container_inside.h"
#include "replica/engine/kept.h"
#include "replica/engine/listed.h"
#include "spec/units.h"
#include "sys/env_linux.h"

enum {
    NOFILE = 65536,
    NPROC = 4096,             /* Podman has 32768 of its own, and can give no more */
    TMP_BYTES_MAX = 64 << 20, /* of its memory, half at most */
};

/* ---- what the engine is told of it ----------------------------------------------------------- */

/* One that still ends has its own until the engine says that it is gone. */
static void choose_gpus(struct container *container)
{
    uint32_t wanted = container->gpu_count;
    const struct container *other;
    struct gpus gpus;
    size_t count = 0;

    if (wanted == 0)
        return;
    LIST_EACH (other, &container->agent->containers.all, struct container, link)
        count++;
    auto_free struct gpus_held *held = mem_alloc(count * sizeof *held);
    count = 0;
    LIST_EACH (other, &container->agent->containers.all, struct container, link)
        if (other != container)
            held[count++] = (struct gpus_held){ slice_of(other->gpus), other->gpu_count };
    gpus_read(&gpus, GPUS_FOLDER);
    (void)gpus_choose(&gpus, held, count, wanted, container->agent->containers.gpu_turn++,
                      container->gpus);
}

static uint64_t least(int resource, uint64_t wanted)
{
    struct rlimit limit;

    return getrlimit(resource, &limit) == 0 && limit.rlim_max < wanted ? limit.rlim_max : wanted;
}

/* In the arena; the life copies what it keeps. Volumes are told beside it. */
static struct engine_container describe(struct arena *arena, const struct container *container,
                                        const struct pop_revision *revision)
{
    const struct agent_containers *containers = &container->agent->containers;
    const struct spec_container *spec = &revision->image->spec.container;
    uint64_t half = revision->memory_bytes / 2;
    char network[AGENT_NETWORK_BYTES];

    return (struct engine_container){
        /* Other Perigees may have an endpoint of that name at the same engine. */
        .name = slice_of(arena_format(arena, "perigee-%s-%.6s-%" PRIx64, container->name,
                                      containers->home + strlen("sha256:"), container->replica)),
        .image = revision->image->config.digest,
        .home = slice_of(containers->home),
        .revision = revision->uid,
        .replica = container->replica,
        .command = spec->command.items,
        .command_count = spec->command.count,
        .port = container->port,
        .user = spec->user,
        .read_only = spec->read_only,
        .memory_bytes = revision->memory_bytes,
        .shm_bytes = spec->shm_bytes,
        .tmp_bytes = half < TMP_BYTES_MAX ? half : TMP_BYTES_MAX,
        .cpu_milli = revision->image->spec.flavor.cpu_milli,
        .gpus = spec_accelerators(&revision->image->spec),
        .gpu_ids = slice_of(container->gpus),
        .pids = (uint32_t)spec->pids,
        .nofile = least(RLIMIT_NOFILE, NOFILE),
        .nproc = least(RLIMIT_NPROC, spec->pids > NPROC ? spec->pids : NPROC),
        .network = container->open     ? ENGINE_NETWORK_OPEN
                   : container->direct ? ENGINE_NETWORK_OWN
                                       : ENGINE_NETWORK_NONE,
        .network_name = slice_of(
            arena_string(arena, slice_of(agent_network_name(container->agent, revision, network)))),
        .cgroup_parent = slice_of(container->group),
        .hidden = container->hidden,
    };
}

/* Of one that is about to be made: pop_secrets_check() has found all that it names. */
static void environment(struct arena *arena, const struct pop_revision *revision,
                        struct engine_container *ret)
{
    const struct spec_variables *spec = &revision->image->spec.container.env;
    const struct pop_endpoint *endpoint = revision->endpoint;
    struct engine_pair *env = ARENA_ARRAY(arena, struct engine_pair, spec->count + 1);

    for (size_t i = 0; i < spec->count; i++) {
        const struct spec_variable *variable = &spec->items[i];
        env[i] = (struct engine_pair){ variable->name, variable->value };
        if (variable->secret)
            env[i].value =
                pop_secret_find(endpoint->pop, slice_of(endpoint->project), variable->value)->value;
    }
    ret->env = env;
    ret->env_count = spec->count;
}

/* A group of its own above the container's, where we can name one: it is read when the container is
 * gone already. Those of a home are in one of the home's, which the engine makes: without
 * capabilities root may remove what is in it, but nothing at the top. */
void agent_container_group(const struct agent *agent, uint64_t replica, char *ret, size_t room)
{
    const struct agent_containers *containers = &agent->containers;

    ret[0] = '\0';
    if (strcmp(containers->info.cgroup_driver, "cgroupfs") == 0 && !containers->info.rootless)
        snprintf(ret, room, "/perigee-%.8s/%" PRIx64, containers->home + strlen("sha256:"),
                 replica);
}

static const char *network_text(const struct container *container)
{
    if (container->open)
        return "egress any";
    return container->direct ? "a network of its own (weaker: this machine's addresses and the "
                               "engine's names can be reached; it cannot be entered)"
                             : "no network";
}

/* For people: what it stands behind, and what it may fill. */
static void walls_text(struct container *container, const struct pop_revision *revision)
{
    const struct spec_container *spec = &revision->image->spec.container;
    char size[UNITS_BYTES];
    size_t room = sizeof container->walls, used;

    used = (size_t)snprintf(
        container->walls, room, "%s: nnp, no capabilities, seccomp, %s, pids %u, %s",
        container->agent->containers.version.name, spec->read_only ? "read-only" : "own files",
        (unsigned)spec->pids, network_text(container));
    if (spec_accelerators(&revision->image->spec) && used < room)
        used += (size_t)snprintf(container->walls + used, room - used, ", %u GPU",
                                 (unsigned)spec_accelerators(&revision->image->spec));
    for (size_t i = 0; i < spec->volumes.count && used < room; i++)
        used += (size_t)snprintf(container->walls + used, room - used, ", %.*s %s",
                                 SLICE_FMT(spec->volumes.items[i].path),
                                 units_print_bytes(size, spec->volumes.items[i].bytes));
}

/* One that an earlier agent began was given what they were then. */
static struct engine_hidden *hidden_of(const struct pop_revision *revision)
{
    const struct spec_variables *env = &revision->image->spec.container.env;
    const struct pop_endpoint *endpoint = revision->endpoint;
    struct slice values[SPEC_SECRETS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < env->count && count < SPEC_SECRETS_MAX; i++) {
        const struct spec_variable *variable = &env->items[i];
        const struct pop_secret *secret = NULL;
        if (variable->secret)
            secret = pop_secret_find(endpoint->pop, slice_of(endpoint->project), variable->value);
        if (secret)
            values[count++] = secret->value;
    }
    return engine_hidden_new(values, count);
}

static struct container *container_new(struct agent *agent, const struct pop_replica *replica,
                                       bool direct)
{
    const struct pop_image *image = replica->revision->image;
    struct container *container = mem_zalloc(sizeof *container);

    container->agent = agent;
    container->replica = replica->id;
    container->revision = replica->revision->uid;
    container->port = image->port;
    container->direct = direct;
    container->open = pop_way_out(replica->revision);
    (void)ip_parse(SLICE("127.0.0.1"), &container->ip);
    container->began_ns = env_now_ns(agent->env);
    container->end = REPLICA_END_ITSELF;
    container->hidden = hidden_of(replica->revision);
    container->gpu_count = spec_accelerators(&image->spec);
    container_probes_init(container, &image->spec);
    pop_replica_name(replica, container->name);
    agent_container_group(agent, replica->id, container->group, sizeof container->group);
    walls_text(container, replica->revision);
    list_append(&agent->containers.all, &container->link);
    return container;
}

/* So that the next start of this home looks for what is left, whatever control then says. */
static void mark(struct agent *agent)
{
    char path[MESSAGE_PATH_BYTES + 32];
    struct err err;

    if (agent->containers.marked)
        return;
    agent->containers.marked = true;
    snprintf(path, sizeof path, "%s/" CONTAINERS_FILE, agent->start.home);
    if (disk_replace(path, SLICE("{}\n"), &err) < 0)
        log_warn("pop", "not noted that there are containers", LOG_S("why", err.message));
}

int agent_container_start(struct agent *agent, struct pop_replica *replica, struct err *err)
{
    struct agent_containers *containers = &agent->containers;

    if (containers->ending)
        return err_set(err, ERR_CANCELED, "the agent ends");
    if (!agent_engine_here(agent))
        return err_set(err, ERR_NOT_FOUND, "%s", containers->why);
    if (containers->version.podman && spec_accelerators(&replica->revision->image->spec))
        return err_set(err, ERR_NOT_SUPPORTED,
                       "flavor.accelerator: Podman gives no GPU by this API; it takes Docker");
    int r = agent_network_allowed(agent, replica->revision, err);
    if (r == 0)
        r = pop_secrets_check(replica->revision, err);
    if (r < 0)
        return r;
    r = agent_volumes_attach(agent, replica->revision, err);
    if (r == ERR_NOT_FOUND) /* somebody removed it: it is made anew at the next try */
        pop_model_state_move(&replica->revision->model_state, POP_MODEL_ABSENT);
    if (r < 0)
        return r;
    struct container *container = container_new(agent, replica, containers->no_way_in[0]);
    struct arena *arena = arena_new();
    choose_gpus(container);
    struct engine_container want = describe(arena, container, replica->revision);
    agent_volumes_tell(agent, arena, replica->revision, &want);
    environment(arena, replica->revision, &want);
    mark(agent);
    container_target(replica, container);
    container->life =
        engine_life_begin(containers->engine, agent->loop, &want, &container_events, container);
    arena_free(arena);
    return 0;
}

static struct container *adopting(struct agent *agent, struct pop_revision *revision, uint64_t id,
                                  bool direct, struct slice gpus, struct arena *arena,
                                  struct engine_container *ret_want)
{
    struct message_replica_added added = MESSAGE_INIT(MESSAGE_REPLICA_ADDED);
    struct err err;

    agent->containers.networks |= direct;
    added.replica = id;
    added.revision = revision->uid;
    pop_replica_added(&agent->pop, &added);
    struct pop_replica *replica = map_get_u64(&agent->pop.replicas_by_id, id);
    struct container *container = container_new(agent, replica, direct);
    (void)snprintf(container->gpus, sizeof container->gpus, "%.*s", SLICE_FMT(gpus));
    *ret_want = describe(arena, container, revision);
    if (agent_volumes_attach(agent, revision, &err) < 0) /* its walls say so as well */
        log_warn("pop", "a container's volume is lost", LOG_S("why", err.message));
    agent_volumes_tell(agent, arena, revision, ret_want);
    container_target(replica, container);
    container->adopting = true;
    return container;
}

bool agent_container_adopt(struct agent *agent, struct pop_revision *revision,
                           const struct engine_listed *item)
{
    char own[AGENT_NETWORK_BYTES];
    bool direct = slice_is(item->network, agent_network_name(agent, revision, own));

    if (direct && agent_network_forbids(agent, revision))
        return false;
    struct arena *arena = arena_new();
    struct engine_container want;
    struct container *container =
        adopting(agent, revision, item->replica, direct, item->gpus, arena, &want);
    container->life = engine_life_adopt(agent->containers.engine, agent->loop, &want, item->id,
                                        &container_events, container);
    arena_free(arena);
    return true;
}

void agent_container_resume(struct agent *agent, struct pop_revision *revision,
                            const struct engine_kept *kept, int pidfd)
{
    struct arena *arena = arena_new();
    struct engine_container want;
    struct container *container =
        adopting(agent, revision, kept->replica, kept->by_address, kept->gpus, arena, &want);

    container->unheard = true;
    container->life =
        engine_life_resume(agent->containers.engine, agent->loop, &want, kept->id, kept->pid, pidfd,
                           kept->address, &container_events, container);
    arena_free(arena);
}
