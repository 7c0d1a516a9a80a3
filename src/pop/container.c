/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a replica that is a container: made and started by the engine, shown to who makes
 * sockets in its network, asked by its probes until it is well, in the table from then on, and
 * counted until it is gone. What follows from each is the core's (happened.c).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "replica/engine/kept.h"
#include "replica/engine/life.h"
#include "replica/engine/listed.h"
#include "spec/units.h"
#include "sys/env_linux.h"
#include "sys/proc.h"

enum {
    NOFILE = 65536,
    NPROC = 4096,             /* Podman has 32768 of its own, and can give no more */
    TMP_BYTES_MAX = 64 << 20, /* of its memory, half at most */
    GRACE_MS = 10'000,        /* from SIGTERM to SIGKILL */
};

struct container {
    struct list link; /* of agent->containers.all */
    struct agent *agent;
    uint64_t replica, revision;
    char name[64]; /* of the replica */
    struct engine_life *life;
    struct spec_probe startup, readiness, liveness; /* in the image's arena, which is ref'd below */
    bool two_steps; /* readiness, or a connection, is asked behind startup */
    struct container_probe *first, *alive;
    struct timer *late; /* until when it must have been well once */
    bool direct;        /* its network is not entered: it is reached at `ip` */
    bool addressed;     /* ... which is known */
    bool open;          /* it has the engine's own network: egress is allowed */
    bool unheard;       /* an earlier agent noted it, and the engine has not spoken of it yet */
    bool adopting;      /* an earlier agent began it, and it is not shown yet */
    struct ip ip;
    uint16_t port;
    int64_t pid;      /* 0: it does not run (yet, or any more) */
    uint64_t started; /* proc_started() */
    char walls[512];
    char group[64];
    char probed[160]; /* why it was not well, last */
    int64_t began_ns, running_ns;
    enum replica_end end; /* as we caused it */
    char end_text[256];
    bool was_ready;
};

static struct pop_replica *replica_of(const struct container *container)
{
    return map_get_u64(&container->agent->pop.replicas_by_id, container->replica);
}

static struct container *find(const struct agent *agent, uint64_t replica)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link)
        if (container->replica == replica)
            return container;
    return NULL;
}

static void probes_free(struct container *container)
{
    container_probe_free(take_ptr(container->first));
    container_probe_free(take_ptr(container->alive));
    timer_stop(container->late);
}

static void container_free(struct container *container)
{
    probes_free(container);
    timer_free(container->late);
    list_remove(&container->link);
    free(container);
}

/* It is of no use: killed, and that is why. */
static void fail(struct container *container, enum replica_end end, const char *text)
{
    if (container->end_text[0])
        return;
    container->end = end;
    snprintf(container->end_text, sizeof container->end_text, "%s", text);
    probes_free(container);
    engine_life_fail(container->life, text);
}

/* ---- is it well? ----------------------------------------------------------------------------- */

static struct container_place place_of(const struct container *container)
{
    return (struct container_place){ container->direct ? 0 : container->replica, container->ip,
                                     container->port, slice_of(engine_life_id(container->life)) };
}

static void on_alive(struct container_probe *probe, bool well, const char *why, void *data)
{
    struct container *container = data;
    char text[sizeof container->end_text];
    (void)probe;

    snprintf(text, sizeof text, "probes.liveness: %.200s", why);
    if (!well)
        fail(container, REPLICA_END_TIMEOUT, text);
}

static void ready(struct container *container)
{
    struct agent *agent = container->agent;
    struct container_place place = place_of(container);
    int64_t now_ns = env_now_ns(agent->env);
    struct pop_ready word = {
        .sandbox = container->walls,
        .memory_bytes = agent_usage_memory(agent, container->replica),
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
    fail(container, REPLICA_END_NOT_STARTED, text);
}

static void probes_begin(struct container *container)
{
    struct container_place place = place_of(container);
    struct spec_probe first = container->startup;

    /* How long a start may take says nothing of how long one that has started may be ill. */
    if (!container->two_steps)
        first.failures = spec_probe_fill(&container->readiness).failures;
    container->first =
        container_probe_new(container->agent, &place, &first, true,
                            container->two_steps ? on_startup : on_readiness, container);
    timer_start(container->late, late_ms(container));
}

/* ---- how it is reached ----------------------------------------------------------------------- */

/* In the table once its address is known: who has a target keeps what it heard of it first. */
static void target(struct pop_replica *replica, const struct container *container)
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

/* By its address, as the engine says it. */
static void reached(struct container *container)
{
    struct pop_replica *replica = replica_of(container);

    if (!ip_parse(slice_of(engine_life_address(container->life)), &container->ip)) {
        fail(container, REPLICA_END_NOT_STARTED, "the engine says no address of it");
        return;
    }
    container->addressed = true;
    if (replica)
        target(replica, container);
    probes_begin(container);
}

/* One that is reached by address: could it be entered as well? The next ones are then. */
static void looked_in(struct container *container, const struct err *err, bool no_way_in)
{
    if (!err)
        agent_networks_no_way_in(container->agent, NULL);
    else if (no_way_in)
        agent_networks_no_way_in(container->agent, err->message);
    else if (err->code == ERR_PRECONDITION)
        fail(container, REPLICA_END_NOT_STARTED, err->message);
}

void agent_container_shown(struct agent *agent, uint64_t replica, const struct err *err)
{
    struct container *container = find(agent, replica);
    bool no_way_in = err && (err->code == ERR_FORBIDDEN || err->code == ERR_NOT_SUPPORTED);

    if (!container || container->end_text[0] || container->end != REPLICA_END_ITSELF)
        return;
    if (container->direct) {
        looked_in(container, err, no_way_in);
        return;
    }
    if (!err && !container->first)
        probes_begin(container);
    if (!err || err->code == ERR_NOT_FOUND) /* that it is gone is heard by its pidfd */
        return;
    if (container->was_ready) /* its probes say what comes of it */
        log_warn("pop", "a container is not reached for now", LOG_S("replica", container->name),
                 LOG_S("why", err->message));
    else
        fail(container, REPLICA_END_NOT_STARTED, err->message);
    if (no_way_in)
        agent_networks_no_way_in(agent, err->message);
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
    struct pop_replica *replica = replica_of(container);
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
        reached(container);
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

    probes_free(container);
    agent_inside_forget(container->agent, container->replica);
    if (!was_asked(container))
        pop_replica_dead(&container->agent->pop, container->replica);
}

static void on_gone(struct engine_life *life, const struct engine_end *end, void *data)
{
    struct container *container = data;
    struct agent *agent = container->agent;
    struct pop_replica *replica = replica_of(container);
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

static const struct engine_life_events events = { on_running, on_log, on_dead, on_gone };

/* ---- beginning ------------------------------------------------------------------------------- */

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
        .pids = (uint32_t)spec->pids,
        .nofile = least(RLIMIT_NOFILE, NOFILE),
        .nproc = least(RLIMIT_NPROC, spec->pids > NPROC ? spec->pids : NPROC),
        .network = container->open     ? ENGINE_NETWORK_OPEN
                   : container->direct ? ENGINE_NETWORK_OWN
                                       : ENGINE_NETWORK_NONE,
        .network_name = slice_of(
            arena_string(arena, slice_of(agent_network_name(container->agent, revision, network)))),
        .cgroup_parent = slice_of(container->group),
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

static struct container *container_new(struct agent *agent, const struct pop_replica *replica,
                                       bool direct)
{
    const struct pop_image *image = replica->revision->image;
    const struct endpoint_spec *spec = &image->spec;
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
    container->startup = spec_startup_fill(spec);
    container->readiness = spec->probes.readiness;
    container->liveness = spec->probes.liveness;
    container->two_steps = spec_probe_is_there(&spec->probes.startup);
    container->late = timer_new(agent->loop, on_late, container);
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
    struct engine_container want = describe(arena, container, replica->revision);
    agent_volumes_tell(agent, arena, replica->revision, &want);
    environment(arena, replica->revision, &want);
    mark(agent);
    target(replica, container);
    container->life = engine_life_begin(containers->engine, agent->loop, &want, &events, container);
    arena_free(arena);
    return 0;
}

static struct container *adopting(struct agent *agent, struct pop_revision *revision, uint64_t id,
                                  bool direct, struct arena *arena,
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
    *ret_want = describe(arena, container, revision);
    if (agent_volumes_attach(agent, revision, &err) < 0) /* its walls say so as well */
        log_warn("pop", "a container's volume is lost", LOG_S("why", err.message));
    agent_volumes_tell(agent, arena, revision, ret_want);
    target(replica, container);
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
    struct container *container = adopting(agent, revision, item->replica, direct, arena, &want);
    container->life = engine_life_adopt(agent->containers.engine, agent->loop, &want, item->id,
                                        &events, container);
    arena_free(arena);
    return true;
}

void agent_container_resume(struct agent *agent, struct pop_revision *revision,
                            const struct engine_kept *kept, int pidfd)
{
    struct arena *arena = arena_new();
    struct engine_container want;
    struct container *container =
        adopting(agent, revision, kept->replica, kept->by_address, arena, &want);

    container->unheard = true;
    container->life = engine_life_resume(agent->containers.engine, agent->loop, &want, kept->id,
                                         kept->pid, pidfd, kept->address, &events, container);
    arena_free(arena);
}

void agent_container_heard(struct agent *agent, uint64_t replica)
{
    struct container *container = find(agent, replica);

    container->unheard = false;
    engine_life_heard(container->life);
}

void agent_containers_unheard(struct agent *agent, const struct engine_list *list)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link)
        if (container->unheard && list->count < ENGINE_LIST_MAX)
            fail(container, REPLICA_END_ITSELF, "the engine does not know it any more");
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
        };
    }
    *ret_count = count;
    return items;
}

/* ---- ending ---------------------------------------------------------------------------------- */

void agent_container_kill(struct agent *agent, const struct pop_replica *replica,
                          enum replica_end end, const char *text)
{
    struct container *container = find(agent, replica->id);

    if (!container)
        return;
    if (end == REPLICA_END_STOPPED || end == REPLICA_END_UNWANTED) {
        probes_free(container);
        if (!container->end_text[0])
            container->end = end;
        engine_life_stop(container->life, GRACE_MS);
    } else {
        char why[sizeof container->end_text];
        snprintf(why, sizeof why, "%.120s%s%.120s", text, container->probed[0] ? ": " : "",
                 container->probed);
        fail(container, end, why);
    }
}

bool agent_container_known(const struct agent *agent, uint64_t replica)
{
    return find(agent, replica) != NULL;
}

void agent_containers_stop(struct agent *agent, int64_t grace_ms)
{
    struct container *container;

    LIST_EACH (container, &agent->containers.all, struct container, link) {
        probes_free(container);
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
