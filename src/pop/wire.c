/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "http/trust.h"
#include "io/socket.h"
#include "pop/agent.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

/* ---- the channel on the loop ----------------------------------------------------------------- */

static void wire_interest(struct wire *wire)
{
    watch_set(wire->watch, WATCH_READ | (channel_wants_write(wire->channel) ? WATCH_WRITE : 0));
}

static void wire_broken(struct wire *wire, const struct err *err)
{
    struct agent *agent = wire->agent;
    if (err->code != ERR_CANCELED)
        log_warn("pop", "channel broken, closing it", LOG_S("error", err->message));
    wire_cut(wire);
    if (wire->on_closed)
        wire->on_closed(agent);
}

static void on_wire(struct watch *watch, unsigned events, void *data)
{
    static union message message; /* one thread, and not re-entered */
    struct wire *wire = data;
    struct err err = {};
    (void)watch;
    if (events & WATCH_WRITE && channel_flush(wire->channel, &err) < 0) {
        wire_broken(wire, &err);
        return;
    }
    for (int i = 0; i < 64 && wire->channel; i++) {
        size_t size, fd_count;
        int fds[CHANNEL_FDS_MAX];
        int r =
            channel_receive(wire->channel, &message, sizeof message, &size, fds, &fd_count, &err);
        if (r == 0)
            break;
        if (r < 0) {
            wire_broken(wire, &err);
            return;
        }
        if (message_check(&message, size, fd_count, &err) < 0)
            log_warn("pop", "odd message, ignoring", LOG_S("error", err.message));
        else
            wire->on_message(wire->agent, &message, size, fds, fd_count);
        for (size_t k = 0; k < fd_count; k++) /* a handler that keeps one sets it to -1 */
            fd_close(&fds[k]);
    }
    if (wire->channel)
        wire_interest(wire);
}

void wire_open(struct wire *wire, int fd)
{
    wire_cut(wire);
    wire->channel = channel_new(fd);
    wire->watch = watch_new(wire->agent->loop, fd, WATCH_READ, on_wire, wire);
}

void wire_cut(struct wire *wire)
{
    watch_free(wire->watch);
    channel_free(wire->channel);
    wire->watch = NULL;
    wire->channel = NULL;
}

bool wire_send(struct wire *wire, const void *message, size_t size, int fd)
{
    struct err err = {};
    if (!wire->channel)
        return false;
    if (channel_send(wire->channel, message, size, &fd, fd >= 0, &err) < 0) {
        /* The read side sees the end and cleans up; here the caller's hands are full. */
        log_warn("pop", "message not sent", LOG_S("error", err.message));
        return false;
    }
    wire_interest(wire);
    return true;
}

bool wire_blocked(const struct wire *wire)
{
    return wire->channel && channel_wants_write(wire->channel);
}

/* ---- from the supervisor --------------------------------------------------------------------- */

static void process_forget(struct agent *agent, struct agent_process *process,
                           const struct message_process *said)
{
    char text[352];
    if (!process)
        return;
    if (said->text[0]) {
        snprintf(text, sizeof text, "%s ended: %s", said->name, said->text);
        agent_note_event(agent, "process_exited", NULL, NULL, text);
    }
    *process = agent->processes[--agent->process_count];
}

static void process_note(struct agent *agent, const struct message_process *said)
{
    struct agent_process *process = NULL;
    for (uint32_t i = 0; i < agent->process_count; i++)
        if (strcmp(agent->processes[i].name, said->name) == 0)
            process = &agent->processes[i];
    if (said->state == PROCESS_EXITED && said->restart_in_ms == MESSAGE_NO_RESTART) {
        process_forget(agent, process, said);
        return;
    }
    if (!process) {
        if (agent->process_count == AGENT_PROCESSES_MAX)
            return;
        process = &agent->processes[agent->process_count++];
        snprintf(process->name, sizeof process->name, "%s", said->name);
    }
    process->pid = said->state == 3 ? 0 : said->pid;
    process->role = said->role;
    process->state = said->state;
    process->restarts = said->restarts;
    snprintf(process->text, sizeof process->text, "%s", said->text);
    if (said->state == 3) {
        char text[352];
        snprintf(text, sizeof text, "%s exited%s%s; next start in %u ms", said->name,
                 said->text[0] ? ": " : "", said->text, said->restart_in_ms);
        agent_note_event(agent, "process_exited", NULL, NULL, text);
    } else if (said->state == 1) {
        char text[352];
        snprintf(text, sizeof text, "%s started, pid %d", said->name, said->pid);
        agent_note_event(agent, "process_started", NULL, NULL, text);
    }
}

enum { ALONE_S = 10 }; /* without a word from control, until what the disk says counts */

static void on_alone(struct env_timer *, void *data)
{
    struct agent *agent = data;
    if (!agent->pop.sure)
        log_warn("pop", "control does not answer, going by what is on disk");
    pop_alone(&agent->pop);
}

static void upgrade_note(struct agent *agent, const struct message_upgrade_state *said)
{
    char text[640];
    agent->upgrades_done = said->done;
    agent->upgrades_failed = said->failed;
    if (said->state == UPGRADE_DONE)
        snprintf(text, sizeof text, "version %s serves", said->version);
    else
        snprintf(text, sizeof text, "%s; version %s serves as before", said->text, said->version);
    if (said->state != UPGRADE_COUNTS)
        agent_note_event(agent, said->state == UPGRADE_DONE ? "upgraded" : "upgrade_failed", NULL,
                         NULL, text);
}

static void go(struct agent *agent)
{
    if (agent->gone)
        return;
    agent->gone = true;
    agent->pop.hearing = false;
    agent_containers_open(agent);
    agent_usage_go(agent);
    agent_admin_open(agent);
    agent_watch_open(agent);
    agent_mesh_changed(agent); /* by what is on disk */
    if (agent->client)
        env_timer_start(agent->env, &agent->alone, ALONE_S * ENV_S, on_alone, agent);
    else
        pop_alone(&agent->pop);
    pop_reconcile_soon(&agent->pop);
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    wire_send(&agent->supervisor, &ready, sizeof ready, -1);
    agent_publish_soon(agent);
}

static void metrics_map(const struct message_region *region, int fd, const void **ret_memory,
                        size_t *ret_bytes)
{
    struct err err = {};
    void *memory;
    if (*ret_memory)
        return;
    if (shm_map(fd, region->bytes, false, &memory, &err) < 0) {
        log_warn("pop", "metrics region not mapped, ignoring", LOG_S("error", err.message));
        return;
    }
    *ret_memory = memory;
    *ret_bytes = region->bytes;
}

/* Somebody saw the phase. Before it counts as ready here, so for a deployment and `show`, the
 * supervisor looks at its walls, or has for the gateway; without one it is killed. */
static void replica_ready(struct agent *agent, uint64_t replica)
{
    struct message_replica look = MESSAGE_INIT(MESSAGE_REPLICA_LOOK);
    if (!map_get_u64(&agent->regions, replica))
        return;
    look.replica = replica;
    wire_send(&agent->supervisor, &look, sizeof look, -1);
}

/* The model comes from the replica's region, checked here; its walls are not its own word. */
static void replica_walls(struct agent *agent, const struct message_replica_walls *walls)
{
    struct agent_region *region = map_get_u64(&agent->regions, walls->replica);
    if (!region)
        return;
    struct err err = {};
    struct perigee_model *model = mem_alloc(PERIGEE_MODEL_BYTES_MAX);
    const struct perigee_status *status = region->memory;
    size_t bytes;
    if (model_copy(region->memory, region->bytes, model, PERIGEE_MODEL_BYTES_MAX, &bytes, &err) <
        0) {
        struct message_replica_kill kill = MESSAGE_INIT(MESSAGE_REPLICA_KILL);
        kill.replica = walls->replica;
        kill.end = REPLICA_END_LIED;
        snprintf(kill.text, sizeof kill.text, "%.255s", err.message);
        wire_send(&agent->supervisor, &kill, sizeof kill, -1);
    } else {
        struct pop_ready ready = {
            .walls = walls,
            .memory_bytes = status->memory_loaded_bytes,
            .walls_ns = status->walls_ns,
            .load_ns = status->load_ns,
            .first_run_ns = status->warm_ns,
            .model = model,
            .model_bytes = bytes,
        };
        agent_usage_ready(agent, walls->replica);
        pop_replica_ready(&agent->pop, walls->replica, &ready);
    }
    free(model);
    agent_repository_look(agent);
}

void agent_replica_look(struct agent *agent, uint64_t replica)
{
    const struct agent_region *region = map_get_u64(&agent->regions, replica);
    const struct perigee_status *status = region ? region->memory : NULL;
    if (status && atomic_load(&status->phase) == PERIGEE_PHASE_READY)
        replica_ready(agent, replica);
}

static void replica_added(struct agent *agent, const struct message_replica_added *added, int *fds,
                          size_t fd_count)
{
    if (fd_count)
        agent_region_keep(agent, added, &fds[0]);
    agent_usage_added(agent, added);
    pop_replica_added(&agent->pop, added);
    /* Of an earlier agent, or the gateway was quicker than the supervisor's word came through. */
    agent_replica_look(agent, added->replica);
}

static void replica_used(struct agent *agent, const struct message_replica_exited *exited)
{
    agent_usage_ended(agent, exited->replica, exited->revision,
                      exited->cpu_user_us + exited->cpu_system_us);
}

/* The first that others can reach; a Unix socket, where there is nothing else. */
static void gateway_listens(struct agent *agent, const struct message_address *said)
{
    struct address address;
    if (address_parse(slice_of(said->address), &address, NULL) == 0 &&
        (agent->gateway_address.kind == ADDRESS_NONE ||
         (agent->gateway_address.kind == ADDRESS_UNIX && address.kind != ADDRESS_UNIX)))
        agent->gateway_address = address;
}

static void admin_listens(struct agent *agent, const struct message_listener *listener, int *fd)
{
    if (listener->kind != LISTENER_ADMIN || agent->listener_count == AGENT_LISTENERS_MAX)
        return;
    agent->in_home[agent->listener_count] = trust_in_home(listener->address, agent->start.home);
    agent->listeners[agent->listener_count++] = take_fd(*fd);
}

void agent_on_supervisor(struct agent *agent, const union message *message, size_t size, int *fds,
                         size_t fd_count)
{
    (void)size;
    switch (message->head.type) {
    case MESSAGE_LISTENER:
        if (fd_count)
            admin_listens(agent, &message->as_MESSAGE_LISTENER, &fds[0]);
        break;
    case MESSAGE_ADDRESS:
        if (message->as_MESSAGE_ADDRESS.kind == LISTENER_GATEWAY)
            gateway_listens(agent, &message->as_MESSAGE_ADDRESS);
        break;
    case MESSAGE_PEER:
        if (fd_count) {
            wire_open(&agent->gateway, take_fd(fds[0]));
            pop_gateway_changed(&agent->pop, true);
            agent_keys_tell(agent);
        }
        break;
    case MESSAGE_METRICS:
        if (fd_count)
            metrics_map(&message->as_MESSAGE_METRICS, fds[0], &agent->metrics,
                        &agent->metrics_bytes);
        break;
    case MESSAGE_METRICS_DNS:
        if (fd_count)
            metrics_map(&message->as_MESSAGE_METRICS_DNS, fds[0], &agent->dns_metrics,
                        &agent->dns_metrics_bytes);
        break;
    case MESSAGE_NETNS:
        if (fd_count && message->as_MESSAGE_NETNS.shows)
            agent_inside_open(agent, take_fd(fds[0]));
        break;
    case MESSAGE_GO:
        go(agent);
        break;
    case MESSAGE_DRAIN:
        agent->control_there = false; /* it goes as well: nothing to wonder at */
        agent_publish_now(agent);
        if (message->as_MESSAGE_DRAIN.idle_ms == 0) /* of an upgrade the next agent has them */
            agent_containers_end(agent, NULL);
        agent_admin_drain(agent, message->as_MESSAGE_DRAIN.idle_ms);
        break;
    case MESSAGE_PROCESS:
        process_note(agent, &message->as_MESSAGE_PROCESS);
        break;
    case MESSAGE_ARENA_KEPT:
        pop_arena_kept(&agent->pop, message->as_MESSAGE_ARENA_KEPT.revision);
        break;
    case MESSAGE_UPGRADE_STATE:
        upgrade_note(agent, &message->as_MESSAGE_UPGRADE_STATE);
        break;
    case MESSAGE_REPLICA_ADDED:
        replica_added(agent, &message->as_MESSAGE_REPLICA_ADDED, fds, fd_count);
        break;
    case MESSAGE_REPLICA_USED:
        agent_usage_ended(agent, message->as_MESSAGE_REPLICA_USED.replica,
                          message->as_MESSAGE_REPLICA_USED.revision,
                          message->as_MESSAGE_REPLICA_USED.cpu_us);
        break;
    case MESSAGE_REPLICA_EXITED:
        replica_used(agent, &message->as_MESSAGE_REPLICA_EXITED);
        pop_replica_exited(&agent->pop, &message->as_MESSAGE_REPLICA_EXITED);
        agent_region_drop(agent, message->as_MESSAGE_REPLICA_EXITED.replica);
        break;
    case MESSAGE_REPLICA_WALLS:
        replica_walls(agent, &message->as_MESSAGE_REPLICA_WALLS);
        break;
    case MESSAGE_DEMAND:
        pop_demand(&agent->pop, &message->as_MESSAGE_DEMAND);
        break;
    case MESSAGE_REPLICA_LOG:
        pop_replica_log(&agent->pop, &message->as_MESSAGE_REPLICA_LOG);
        agent_note_log(agent, &message->as_MESSAGE_REPLICA_LOG);
        break;
    default:
        log_debug("pop", "message not for the agent, ignoring", LOG_I("type", message->head.type));
        break;
    }
}

/* ---- from the gateway ------------------------------------------------------------------------ */

void agent_on_gateway(struct agent *agent, const union message *message, size_t size, int *fds,
                      size_t fd_count)
{
    (void)size;
    (void)fds;
    (void)fd_count;
    switch (message->head.type) {
    case MESSAGE_REPLICA_READY:
        replica_ready(agent, message->as_MESSAGE_REPLICA_READY.replica);
        break;
    case MESSAGE_REPLICA_DRAINED:
        pop_replica_drained(&agent->pop, message->as_MESSAGE_REPLICA_DRAINED.replica);
        break;
    case MESSAGE_DEMAND:
        pop_demand(&agent->pop, &message->as_MESSAGE_DEMAND);
        break;
    case MESSAGE_DENIED:
        agent_note_denied(agent, &message->as_MESSAGE_DENIED);
        break;
    case MESSAGE_ASKED:
        if (pop_endpoint_find(&agent->pop, message->as_MESSAGE_ASKED.endpoint))
            pop_asked_add(&agent->asked, &message->as_MESSAGE_ASKED);
        break;
    case MESSAGE_TABLE_SERVED:
        agent_table_served(agent, message->as_MESSAGE_TABLE_SERVED.number);
        break;
    case MESSAGE_PEER_SEEN:
        agent_mesh_seen(agent, &message->as_MESSAGE_PEER_SEEN);
        break;
    case MESSAGE_REPOSITORY:
        agent_repository(agent, &message->as_MESSAGE_REPOSITORY);
        break;
    default:
        log_debug("pop", "message not for the agent, ignoring", LOG_I("type", message->head.type));
        break;
    }
}
