/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The role's life: START, the disk, the channels, GO; then the loop. What the core asks of the
 * world is done here.
 */
#include "pop/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/saver.h"
#include "io/socket.h"
#include "io/timer.h"
#include "pop/pop.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/shm.h"

/* ---- effects --------------------------------------------------------------------------------- */

enum {
    SLOTS_PER_PLACE = 2,
    LANE_SETS = 2,
    SLOT_BYTES_MIN = 1 << 20,
    SLOT_BYTES_MAX = 256 << 20,
};

/* Answers are shared pages, which no rlimit counts: all slots of a gateway that may hold a large
 * one (place.h) together are as large as flavor.memory (or 1 MiB each), so that a replica costs at
 * most twice what its flavor says; once more for the moment in which two gateways use it, one of
 * them ending. Against a replica that fills the others too there is its control group alone. */
static uint64_t slot_bytes(uint64_t memory_bytes, uint32_t slots)
{
    uint64_t bytes = memory_bytes / slots & ~UINT64_C(4095);
    return bytes < SLOT_BYTES_MIN   ? SLOT_BYTES_MIN
           : bytes > SLOT_BYTES_MAX ? SLOT_BYTES_MAX
                                    : bytes;
}

/* Of a lane set: an answer may be under way to its client while the next one is computed. */
static uint32_t slots(uint32_t places)
{
    uint32_t count = places * SLOTS_PER_PLACE;

    return count < PERIGEE_SLOTS_MAX / LANE_SETS ? count : PERIGEE_SLOTS_MAX / LANE_SETS;
}

/* The default project has nothing to say. */
static bool project_tell(struct agent *agent, const struct pop_revision *revision)
{
    struct message_revision_project of = MESSAGE_INIT(MESSAGE_REVISION_PROJECT);
    const char *project = revision->endpoint->project;
    if (strcmp(project, "default") == 0)
        return true;
    of.revision = revision->uid;
    snprintf(of.project, sizeof of.project, "%s", project);
    return wire_send(&agent->supervisor, &of, sizeof of, -1);
}

static int replica_start(struct pop_replica *replica, struct err *err, void *data)
{
    struct agent *agent = data;
    struct pop_revision *revision = replica->revision;
    if (revision->driver == POP_DRIVER_ENGINE)
        return agent_container_start(agent, replica, err);
    uint64_t told = revision->endpoint->spec.scale.concurrency;
    uint32_t concurrency = spec_concurrency(told, revision->batch_max);
    auto_close int folder = open(revision->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        /* Somebody removed it: it is made anew at the next try. */
        pop_model_state_move(&revision->model_state, POP_MODEL_ABSENT);
        return err_set(err, ERR_INTERNAL, "opening the model's folder: %s", strerror(errno));
    }
    struct message_replica_start start = MESSAGE_INIT(MESSAGE_REPLICA_START);
    start.replica = replica->id;
    start.revision = revision->uid;
    start.memory_bytes_max = revision->memory_bytes;
    start.concurrency = concurrency;
    start.places_max = spec_places_max(told, revision->batch_max);
    start.slots = slots(start.places_max) * LANE_SETS;
    /* No more slots than these hold a large answer: see place.h. */
    start.slot_bytes = slot_bytes(revision->memory_bytes, slots(concurrency));
    start.threads = revision->threads;
    start.batch_max = revision->batch_max;
    start.batch_delay_us = revision->batch_delay_us;
    snprintf(start.runtime, sizeof start.runtime, "%s", revision->runtime);
    pop_replica_name(replica, start.name);
    snprintf(start.model_file, sizeof start.model_file, "%s", revision->model_file);
    if (!project_tell(agent, revision) ||
        !wire_send(&agent->supervisor, &start, sizeof start, folder))
        return err_set(err, ERR_OVERLOADED, "the supervisor does not keep up");
    return 0;
}

static void replica_kill(struct pop_replica *replica, enum replica_end end, const char *text,
                         void *data)
{
    struct agent *agent = data;
    struct message_replica_kill kill = MESSAGE_INIT(MESSAGE_REPLICA_KILL);
    if (replica->revision->driver == POP_DRIVER_ENGINE) {
        agent_container_kill(agent, replica, end, text);
        return;
    }
    kill.replica = replica->id;
    kill.end = (uint32_t)end;
    snprintf(kill.text, sizeof kill.text, "%s", text);
    wire_send(&agent->supervisor, &kill, sizeof kill, -1);
}

static void replica_drain(struct pop_replica *replica, void *data)
{
    struct agent *agent = data;
    struct message_replica drain = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN);
    /* The gateway must know the table that sends nothing new there before it looks for the end. */
    agent_publish_now(agent);
    drain.replica = replica->id;
    wire_send(&agent->gateway, &drain, sizeof drain, -1);
}

static void replica_unwanted(uint64_t replica, void *data)
{
    struct agent *agent = data;
    struct message_replica_kill kill = MESSAGE_INIT(MESSAGE_REPLICA_KILL);
    kill.replica = replica;
    kill.end = REPLICA_END_UNWANTED;
    wire_send(&agent->supervisor, &kill, sizeof kill, -1);
}

struct look {
    struct agent *agent;
    uint64_t replica;
};

static void on_look(void *data)
{
    struct look look = *(struct look *)data;
    free(data);
    agent_replica_look(look.agent, look.replica);
}

static void replica_look(struct pop_replica *replica, void *data)
{
    struct agent *agent = data;
    struct look *look = mem_alloc(sizeof *look);
    *look = (struct look){ agent, replica->id };
    loop_post(agent->loop, on_look, look); /* effects never call back at once */
}

struct fetch {
    struct agent *agent;
    uint64_t revision;
};

static void on_fetch(void *data)
{
    struct fetch fetch = *(struct fetch *)data;
    free(data);
    struct pop_revision *revision = pop_revision_find(&fetch.agent->pop, fetch.revision);
    if (!revision || revision->model_state != POP_MODEL_FETCHING)
        return;
    if (revision->driver == POP_DRIVER_ENGINE) {
        agent_image_fetch(fetch.agent, fetch.revision);
        return;
    }
    struct arena *arena = arena_new();
    struct err err = {};
    const char *folder, *file;
    if (agent_pulls(fetch.agent)) {
        agent_pull(fetch.agent, fetch.revision);
        arena_free(arena);
        return;
    }
    if (agent_model_folder(fetch.agent->start.home, slice_of(revision->digest), arena, &folder,
                           &file, &err) < 0)
        pop_model_fetched(revision, NULL, NULL, &err);
    else
        pop_model_fetched(revision, folder, file, NULL);
    arena_free(arena);
}

static void model_fetch(struct pop_revision *revision, void *data)
{
    struct agent *agent = data;
    struct fetch *fetch = mem_alloc(sizeof *fetch);
    *fetch = (struct fetch){ agent, revision->uid };
    loop_post(agent->loop, on_fetch, fetch); /* effects never call back at once */
}

static void model_awaited(struct pop_revision *revision, void *data)
{
    agent_image_awaited(data, revision->uid);
}

static void upstream_watch(struct pop_revision *revision, bool watch, void *data)
{
    agent_upstream_watch(data, revision, watch);
}

static void publish(struct pop *pop, void *data)
{
    struct agent *agent = data;
    (void)pop;
    agent->table_dirty = true;
    agent_publish_soon(agent);
}

static void save(struct pop *pop, void *data)
{
    struct agent *agent = data;
    (void)pop;
    agent->desired_dirty = true;
    agent_publish_soon(agent);
}

static void revision_gone(uint64_t revision_uid, void *data)
{
    struct agent *agent = data;
    struct message_revision gone = MESSAGE_INIT(MESSAGE_REVISION_GONE);
    gone.revision = revision_uid;
    const struct pop_revision *revision = pop_revision_find(&agent->pop, revision_uid);
    agent_usage_revision_gone(agent, revision_uid);
    if (revision) {
        agent_image_gone(agent, revision);
        agent_volumes_gone(agent, revision);
        agent_networks_gone(agent);
    }
    wire_send(&agent->supervisor, &gone, sizeof gone, -1);
    save(&agent->pop, data); /* behind it its folder is looked at, that nothing runs from now */
}

static void report(struct pop *pop, void *data)
{
    (void)pop;
    agent_report_soon(data);
    agent_repository_look(data);
}

static void event(struct pop *pop, const char *kind, const struct pop_endpoint *endpoint,
                  const struct pop_replica *replica, const char *message, void *data)
{
    (void)pop;
    agent_note_event(data, kind, endpoint, replica, message);
}

static void death(struct pop_endpoint *endpoint, const struct pop_death *death, void *data)
{
    agent_note_death(data, endpoint, death);
}

static void lines_stay(struct pop_endpoint *endpoint, void *data)
{
    (void)endpoint;
    agent_notes_keep_back(data);
}

static void endpoint_barred(struct pop_endpoint *endpoint, void *data)
{
    (void)endpoint;
    agent_volumes_soon(data);
}

const struct pop_effects agent_effects = {
    .replica_start = replica_start,
    .replica_kill = replica_kill,
    .replica_drain = replica_drain,
    .replica_unwanted = replica_unwanted,
    .replica_look = replica_look,
    .cores_used = agent_cores_used,
    .model_fetch = model_fetch,
    .model_awaited = model_awaited,
    .upstream_watch = upstream_watch,
    .revision_gone = revision_gone,
    .publish = publish,
    .report = report,
    .save = save,
    .event = event,
    .death = death,
    .endpoint_barred = endpoint_barred,
    .lines_stay = lines_stay,
};

/* ---- the role's life ------------------------------------------------------------------------- */

enum { TABLE_NUMBER_SHIFT = 24 }; /* tables of one agent */

/* Folders that desired state on disk may still want stay. */
static void on_saved(enum keep_what what, void *data)
{
    if (what == KEEP_DESIRED)
        agent_models_collect(data);
}

static void on_all_kept(struct agent *agent)
{
    loop_stop(agent->loop);
}

static void on_containers_ended(struct agent *agent)
{
    agent_usage_end(agent, on_all_kept);
}

/* Containers that end with us were told so at once. */
static void on_idle(void *data)
{
    struct agent *agent = data;
    if (agent->containers.ending)
        agent_containers_end(agent, on_containers_ended);
    else
        on_containers_ended(agent);
}

/* `perigee up` has checked the sets, and put them into the environment. Without those of an
 * operator what names them is not served. */
static void stand(struct agent *agent)
{
    const struct region_place place = {
        .name = slice_of(agent->start.pop),
        .country = country_number_of(slice_of(agent->start.country)),
    };
    const char *sets = getenv(GEO_SETS_ENVIRONMENT);
    struct err err;
    if (pop_stand(&agent->pop, &place, slice_of(sets), &err) == 0)
        return;
    log_error("pop", "sets of countries not read, going on without", LOG_S("error", err.message));
    (void)!pop_stand(&agent->pop, &place, (struct slice){}, NULL);
}

/* Written when it joined (bin/role_pop.c). */
static int bearer_read(struct agent *agent, struct err *err)
{
    struct arena *arena = arena_new();
    struct slice secret = {};
    const char *path = arena_format(arena, "%s/" POP_SECRET_FILE, agent->start.home);
    int r = disk_read(path, POP_SECRET_BYTES_MAX, arena, &secret, err);
    if (r == 0)
        snprintf(agent->bearer, sizeof agent->bearer, "Bearer %.*s", SLICE_FMT(slice_trim(secret)));
    arena_free(arena);
    return r;
}

static int begin(struct agent *agent, const struct message_start *start, struct err *err)
{
    agent->start = *start;
    agent->note_sequence = start->instance << 32;
    pop_init(&agent->pop, agent->env, start->instance, &agent_effects, agent);
    agent->pop.era = start->started_ns;
    agent->pop.hearing = true; /* until GO */
    agent->pop.no_replicas = start->flags & MESSAGE_NO_REPLICAS;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    agent->pop.cores = cores > 0 ? (uint32_t)cores : 0;
    stand(agent);
    agent->pop.name = agent->start.pop;
    if (start->control[0]) {
        if (http_url_parse(slice_of(agent->start.control), &agent->control, err) < 0)
            return err_wrap(err, "the way to control");
        const struct http_client_config config = { .source = http_source_of_environment() };
        agent->client = http_client_new(agent->loop, &config);
        agent->pop.control_here = agent->control.address.kind == ADDRESS_UNIX;
        if (!agent->pop.control_here && bearer_read(agent, err) < 0)
            return err_wrap(err, "the secret this PoP joined with");
    }
    keep_init(&agent->keep, &agent->pop, agent->start.home);
    agent->keep.on_saved = on_saved;
    agent->keep.on_idle = on_idle;
    agent->keep.data = agent;
    keep_load(&agent->keep);
    /* A disk that was full holds an older table than the gateway serves, which takes none of a
     * lower number: each agent counts from where no earlier one came to. */
    if (agent->keep.table_number < start->instance << TABLE_NUMBER_SHIFT)
        agent->keep.table_number = start->instance << TABLE_NUMBER_SHIFT;
    if (!agent->pop.no_replicas)
        agent_usage_open(agent);
    return 0;
}

static void on_supervisor(struct agent *agent, const union message *message, size_t size, int *fds,
                          size_t fd_count)
{
    struct err err = {};
    if (message->head.type != MESSAGE_START) {
        agent_on_supervisor(agent, message, size, fds, fd_count);
        return;
    }
    if (agent->start.head.magic == 0 && begin(agent, &message->as_MESSAGE_START, &err) < 0) {
        log_error("pop", "cannot begin", LOG_S("error", err.message));
        loop_stop(agent->loop);
    }
}

static void on_supervisor_closed(struct agent *agent)
{
    loop_stop(agent->loop); /* the supervisor is dead: so are we */
}

static void on_gateway_closed(struct agent *agent)
{
    pop_gateway_changed(&agent->pop, false);
}

static void on_lifeline(struct watch *watch, unsigned events, void *data)
{
    struct agent *agent = data;
    (void)watch;
    if (events & WATCH_HANGUP)
        _exit(1);
    loop_stop(agent->loop);
}

static void on_env(struct watch *watch, unsigned events, void *data)
{
    struct agent *agent = data;
    (void)watch;
    (void)events;
    env_linux_run(agent->world, 0);
}

static void agent_deinit(struct agent *agent)
{
    agent_admin_close(agent);
    agent_mesh_close(agent);
    http_client_free(agent->client); /* calls end here: report and repository hear of it */
    agent_upstream_close(agent);
    agent_pull_close(agent);
    agent_containers_close(agent);
    agent_inside_close(agent); /* probes end before their way does */
    agent_repository_close(agent);
    agent_report_close(agent);
    agent_watch_close(agent);
    agent_publish_close(agent);
    env_linux_set_saver(agent->world, NULL, NULL);
    saver_free(agent->saver);
    agent_usage_close(agent);
    if (agent->start.head.magic) {
        keep_deinit(&agent->keep);
        pop_deinit(&agent->pop);
    }
    agent_regions_close(agent);
    shm_unmap((void *)agent->metrics, agent->metrics_bytes);
    shm_unmap((void *)agent->dns_metrics, agent->dns_metrics_bytes);
    wire_cut(&agent->gateway);
    wire_cut(&agent->supervisor);
    watch_free(agent->lifeline_watch);
    watch_free(agent->env_watch);
    env_linux_free(agent->world);
    loop_free(agent->loop);
}

int pop_main(int channel_fd, int lifeline_fd)
{
    struct agent agent = { .lifeline = lifeline_fd };
    struct err err = {};
    agent_report_open(&agent);
    list_init(&agent.repository);
    list_init(&agent.upstreams);
    list_init(&agent.containers.fetches);
    list_init(&agent.containers.all);
    list_init(&agent.containers.volumes);
    pop_mesh_init(&agent.mesh);
    agent.loop = loop_new();
    if (env_linux_new(&agent.world, &err) < 0) {
        log_error("pop", "cannot begin", LOG_S("error", err.message));
        return 1;
    }
    agent.env = env_linux_env(agent.world);
    agent.saver = saver_new(agent.loop);
    env_linux_set_saver(agent.world, saver_save, agent.saver);
    agent.env_watch = watch_new(agent.loop, env_linux_fd(agent.world), WATCH_READ, on_env, &agent);
    agent.supervisor = (struct wire){ .agent = &agent,
                                      .on_message = on_supervisor,
                                      .on_closed = on_supervisor_closed };
    agent.gateway = (struct wire){ .agent = &agent,
                                   .on_message = agent_on_gateway,
                                   .on_closed = on_gateway_closed };
    agent.lifeline_watch =
        watch_new(agent.loop, lifeline_fd, WATCH_READ | WATCH_HANGUP, on_lifeline, &agent);
    wire_open(&agent.supervisor, channel_fd);
    loop_run(agent.loop);
    agent_deinit(&agent);
    return 0;
}
