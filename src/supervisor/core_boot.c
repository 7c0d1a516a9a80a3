/* SPDX-License-Identifier: Apache-2.0 */
/* What a new process is told: everything, each time, so that no role keeps what another has. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "contract/dns_metrics.h"
#include "supervisor/core_private.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

static void tell(struct core_process *process, const void *message, size_t size, const int *fds,
                 size_t fd_count)
{
    struct core *core = process->core;
    core->ops->send(process, message, size, fds, fd_count, core->data);
}

static void boot_start(struct core *core, struct core_process *process)
{
    struct message_start start = core->config.start;
    start.head = (struct message_head){ MESSAGE_MAGIC, MESSAGE_START, MESSAGE_VERSION };
    start.role = process->role;
    start.instance = process->instance;
    if (process->role == ROLE_GATEWAY && process_alive(&core->gateways[process == core->gateways]))
        start.flags |= MESSAGE_BESIDE;
    tell(process, &start, sizeof start, NULL, 0);
}

static uint32_t owner_of(uint32_t kind)
{
    switch (kind) {
    case LISTENER_CONTROL:
        return ROLE_CONTROL;
    case LISTENER_ADMIN:
        return ROLE_AGENT;
    case LISTENER_DNS:
        return ROLE_DNS;
    default:
        return ROLE_GATEWAY;
    }
}

static void boot_listeners(struct core *core, struct core_process *process)
{
    for (size_t i = 0; i < core->config.listener_count; i++) {
        const struct core_listener *listener = &core->config.listeners[i];
        if (owner_of(listener->message.kind) == process->role)
            tell(process, &listener->message, sizeof listener->message, &listener->fd, 1);
    }
}

/* A new pair whenever one of the two is new: what the dead one wrote halfway is of no use. */
void core_boot_peers(struct core *core)
{
    struct message_empty message = MESSAGE_INIT(MESSAGE_PEER);
    struct err err;
    int fds[2];
    if (!process_alive(core_role(core, ROLE_GATEWAY)) ||
        !process_alive(core_role(core, ROLE_AGENT)))
        return;
    if (channel_pair(fds, &err) < 0) {
        log_error("supervisor", "gateway and agent cannot talk", LOG_S("why", err.message));
        return;
    }
    core_tell(core, ROLE_GATEWAY, &message, sizeof message, &fds[0], 1);
    core_tell(core, ROLE_AGENT, &message, sizeof message, &fds[1], 1);
    fd_close(&fds[0]);
    fd_close(&fds[1]);
}

static void inside_tell(struct core *core, struct core_process *other, uint32_t loop)
{
    struct message_netns message = MESSAGE_INIT(MESSAGE_NETNS);
    struct err err;
    int fds[2];
    message.shows = other->role == ROLE_AGENT;
    message.loop = loop;
    if (channel_pair(fds, &err) < 0) {
        log_error("supervisor", "containers cannot be reached", LOG_S("process", other->name),
                  LOG_S("why", err.message));
        return;
    }
    /* First who asks: it has the new one before the old one, which this replaces, ends. */
    tell(other, &message, sizeof message, &fds[1], 1);
    tell(&core->netns, &message, sizeof message, &fds[0], 1);
    fd_close(&fds[0]);
    fd_close(&fds[1]);
}

void core_boot_inside(struct core *core, struct core_process *other)
{
    uint32_t channels = other->role == ROLE_GATEWAY ? core->config.start.loops : 1;
    if (!process_alive(&core->netns) || !process_alive(other))
        return;
    for (uint32_t i = 0; i < channels; i++)
        inside_tell(core, other, i);
}

void core_boot_inside_loop(struct core *core, struct core_process *gateway, uint32_t loop)
{
    if (process_alive(&core->netns) && loop < core->config.start.loops)
        inside_tell(core, gateway, loop);
}

/* Its writer's, and read-only the agent's. */
static void boot_region(struct core_process *process, uint32_t writer,
                        const struct message_region *message, int fd)
{
    auto_close int reader = -1;
    struct err err;
    if (process->role == writer)
        tell(process, message, sizeof *message, &fd, 1);
    else if (shm_reopen_readonly(fd, &reader, &err) < 0)
        log_error("supervisor", "no metrics for the agent", LOG_S("why", err.message));
    else
        tell(process, message, sizeof *message, &reader, 1);
}

static void boot_metrics(struct core *core, struct core_process *process)
{
    struct message_region gateway = MESSAGE_INIT(MESSAGE_METRICS);
    struct message_region dns = MESSAGE_INIT(MESSAGE_METRICS_DNS);
    gateway.bytes = METRICS_REGION_BYTES;
    dns.bytes = DNS_REGION_BYTES;
    if (process->role != ROLE_DNS)
        boot_region(process, ROLE_GATEWAY, &gateway, core->metrics_fd);
    if (process->role == ROLE_DNS || (process->role == ROLE_AGENT && core->config.dns))
        boot_region(process, ROLE_DNS, &dns, core->dns_metrics_fd);
}

/* What stands in DNS's answers, and where the agent asks its own gateway. */
static void boot_addresses(struct core *core, struct core_process *process)
{
    for (size_t i = 0; i < core->config.listener_count; i++) {
        const struct message_listener *listener = &core->config.listeners[i].message;
        struct message_address message = MESSAGE_INIT(MESSAGE_ADDRESS);
        if (listener->loop > 0) /* one address, several sockets */
            continue;
        message.kind = listener->kind;
        memcpy(message.address, listener->address, sizeof message.address);
        tell(process, &message, sizeof message, NULL, 0);
    }
}

/* The table of this life, else the one on disk: gateway and dns serve after a cold boot with agent
 * and control dead. */
static void boot_table(struct core *core, struct core_process *process)
{
    struct message_table message = MESSAGE_INIT(MESSAGE_TABLE_DISK);
    char path[MESSAGE_PATH_BYTES + 32];
    struct stat st;
    if (core->table_fd >= 0) {
        tell(process, &core->table, sizeof core->table, &core->table_fd, 1);
        return;
    }
    (void)snprintf(path, sizeof path, "%s/pop/table", core->config.start.home);
    auto_close int table = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    (void)snprintf(path, sizeof path, "%s/pop/table.key", core->config.start.home);
    auto_close int key = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (table < 0 || key < 0 || fstat(table, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    message.bytes = (uint64_t)st.st_size;
    tell(process, &message, sizeof message, (int[]){ table, key }, 2);
}

void core_tell_process(struct core *core, const struct core_process *process, uint32_t state,
                       int wait_status, int64_t restart_ns, const char *text)
{
    struct message_process message = MESSAGE_INIT(MESSAGE_PROCESS);
    message.role = process->role;
    message.state = state;
    message.pid = process->pid;
    message.wait_status = wait_status;
    message.restarts = process->restarts;
    message.restart_in_ms = (uint32_t)(restart_ns / ENV_MS);
    (void)snprintf(message.name, sizeof message.name, "%s", process->name);
    (void)snprintf(message.text, sizeof message.text, "%s", text);
    core_tell(core, ROLE_AGENT, &message, sizeof message, NULL, 0);
}

static void boot_processes(struct core *core)
{
    struct core_process *template;
    if (core->upgrade_told.state)
        tell(&core->agent, &core->upgrade_told, sizeof core->upgrade_told, NULL, 0);
    for (uint32_t i = 0; i < ROLES; i++) {
        const struct core_process *role = core_role(core, ROLE_GATEWAY + i);
        if (role->role != ROLE_AGENT && process_alive(role))
            core_tell_process(core, role,
                              role->state == PROCESS_SERVING ? PROCESS_READY : PROCESS_STARTED, 0,
                              0, "");
    }
    if (process_alive(&core->netns))
        core_tell_process(core, &core->netns,
                          core->netns.state == PROCESS_SERVING ? PROCESS_READY : PROCESS_STARTED, 0,
                          0, "");
    LIST_EACH (template, &core->templates, struct core_process, link) {
        if (process_alive(template))
            core_tell_process(core, template,
                              template->state == PROCESS_SERVING ? PROCESS_READY : PROCESS_STARTED,
                              0, 0, template->library);
    }
}

static bool boot_arenas(struct core *core)
{
    struct core_revision *revision;
    LIST_EACH (revision, &core->revisions, struct core_revision, link) {
        if (revision->told)
            continue;
        if (!core->ops->writable(&core->agent, core->data))
            return false;
        revision_tell_agent(core, revision);
    }
    return true;
}

/* One after the other while they are read: a thousand at once are more than a queue should hold.
 * What is born, or ends, meanwhile finds its place by core_replica.told. */
static bool boot_replicas(struct core *core, struct core_process *process)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->replicas, struct core_replica, link) {
        if (replica->state != REPLICA_RUNNING || replica->told & process->bit)
            continue;
        if (!core->ops->writable(process, core->data))
            return false;
        replica_tell(replica, process);
        if (process->role == ROLE_AGENT) {
            logring_rewind(&replica->log);
            replica_tell_log(replica);
        }
    }
    if (process->role == ROLE_AGENT) {
        replica_tell_dead(core);
        replica_tell_used(core);
    }
    return true;
}

void core_boot_more(struct core_process *process)
{
    struct message_empty go = MESSAGE_INIT(MESSAGE_GO);
    if (process->bit && !boot_replicas(process->core, process))
        return;
    if (process->role == ROLE_AGENT && !boot_arenas(process->core))
        return;
    process->booting = false;
    tell(process, &go, sizeof go, NULL, 0);
}

void core_boot_role(struct core *core, struct core_process *process)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->replicas, struct core_replica, link)
        replica->told &= (uint8_t)~process->bit;
    struct core_revision *revision;
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        revision->told = revision->told && process->role != ROLE_AGENT;
    process->booting = true;
    boot_start(core, process);
    boot_listeners(core, process);
    if (process->role == ROLE_NETNS) {
        core_boot_inside(core, &core->agent);
        core_boot_inside(core, &core->gateways[0]);
        core_boot_inside(core, &core->gateways[1]);
    } else if (process->role != ROLE_CONTROL) {
        if (process != core_twin(core) && process->role != ROLE_DNS)
            core_boot_peers(core);
        boot_metrics(core, process);
        if (process->role != ROLE_DNS) /* a gateway has its loops from here on */
            core_boot_inside(core, process);
        if (process->role != ROLE_GATEWAY)
            boot_addresses(core, process);
        if (process->role == ROLE_AGENT) {
            boot_processes(core);
        } else {
            boot_table(core, process);
            process->table_due = process->mesh_due = false;
            if (core->mesh_fd >= 0) /* grown old, it is not believed */
                tell(process, &core->mesh, sizeof core->mesh, &core->mesh_fd, 1);
        }
    }
    core_boot_more(process);
}
