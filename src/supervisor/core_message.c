/* SPDX-License-Identifier: Apache-2.0 */
/* What roles say to the supervisor: whose it is to say, and what follows. */
#include <assert.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "supervisor/core_private.h"
#include "sys/fd.h"

/* Tables come as fast as replicas do, a mesh each second: who does not read gets the last of them
 * once it does, rather than all, a descriptor each. */
static void newest_tell(struct core_process *process, bool *due, const void *message, size_t size,
                        const int *fd)
{
    struct core *core = process->core;
    if (!process_alive(process) || *fd < 0)
        return;
    *due = !core->ops->writable(process, core->data);
    if (!*due)
        core->ops->send(process, message, size, fd, 1, core->data);
}

static void table_tell(struct core_process *process)
{
    struct core *core = process->core;
    newest_tell(process, &process->table_due, &core->table, sizeof core->table, &core->table_fd);
}

static void mesh_tell(struct core_process *process)
{
    struct core *core = process->core;
    newest_tell(process, &process->mesh_due, &core->mesh, sizeof core->mesh, &core->mesh_fd);
}

static void all_tell(struct core *core, void (*tell)(struct core_process *process))
{
    for (int i = 0; i < 2; i++)
        tell(&core->gateways[i]);
    tell(&core->dns);
}

static void table_new(struct core *core, const struct message_table *message, int *fd)
{
    fd_close(&core->table_fd);
    core->table_fd = take_fd(*fd);
    core->table = *message;
    all_tell(core, table_tell);
}

static void mesh_new(struct core *core, const struct message_mesh *message, int *fd)
{
    fd_close(&core->mesh_fd);
    core->mesh_fd = take_fd(*fd);
    core->mesh = *message;
    all_tell(core, mesh_tell);
}

/* Of a gateway that ends: the agent's channel is the next one's. It is said again each second, so
 * that what cannot go at once need not be kept. */
static void demand_pass(struct core *core, const struct message_demand *demand)
{
    struct core_process *agent = core_role(core, ROLE_AGENT);
    if (process_alive(agent) && !agent->booting && core->ops->writable(agent, core->data))
        core_tell(core, ROLE_AGENT, demand, sizeof *demand, NULL, 0);
}

/* Who may say it: bits by role. What is for somebody else has lost its way. */
static bool may_say(uint32_t role, uint16_t type)
{
    static const struct {
        uint16_t type;
        uint32_t roles;
    } rows[] = {
        { MESSAGE_READY, ~0U },
        { MESSAGE_TABLE_NEW, 1U << ROLE_AGENT },
        { MESSAGE_MESH_NEW, 1U << ROLE_AGENT },
        { MESSAGE_REPLICA_START, 1U << ROLE_AGENT },
        { MESSAGE_REPLICA_KILL, 1U << ROLE_AGENT | 1U << ROLE_GATEWAY },
        { MESSAGE_ARENA_WANT, 1U << ROLE_GATEWAY },
        { MESSAGE_DEMAND, 1U << ROLE_GATEWAY },
        { MESSAGE_REVISION_GONE, 1U << ROLE_AGENT },
        { MESSAGE_REVISION_PROJECT, 1U << ROLE_AGENT },
        { MESSAGE_REPLICA_METERED, 1U << ROLE_AGENT },
        { MESSAGE_REPLICA_LOOK, 1U << ROLE_AGENT | 1U << ROLE_GATEWAY },
        { MESSAGE_NETNS_WANT, 1U << ROLE_AGENT },
        { MESSAGE_NETNS_LOST, 1U << ROLE_GATEWAY },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].type == type)
            return (rows[i].roles & 1U << role) != 0;
    return false;
}

static void dispatch(struct core_process *process, const union message *message, int *fds)
{
    struct core *core = process->core;
    switch (message->head.type) {
    case MESSAGE_READY:
        core_process_ready(process, "");
        break;
    case MESSAGE_TABLE_NEW:
        table_new(core, &message->as_MESSAGE_TABLE_NEW, fds);
        break;
    case MESSAGE_MESH_NEW:
        mesh_new(core, &message->as_MESSAGE_MESH_NEW, fds);
        break;
    case MESSAGE_REPLICA_START:
        replica_start(core, &message->as_MESSAGE_REPLICA_START, take_fd(fds[0]));
        break;
    case MESSAGE_REPLICA_KILL:
        replica_kill(core, &message->as_MESSAGE_REPLICA_KILL);
        break;
    case MESSAGE_ARENA_WANT:
        revision_want(process, message->as_MESSAGE_ARENA_WANT.revision);
        break;
    case MESSAGE_DEMAND:
        demand_pass(core, &message->as_MESSAGE_DEMAND);
        break;
    case MESSAGE_REVISION_GONE:
        revision_forget(core, message->as_MESSAGE_REVISION_GONE.revision);
        break;
    case MESSAGE_REVISION_PROJECT:
        revision_of_project(core, &message->as_MESSAGE_REVISION_PROJECT);
        break;
    case MESSAGE_REPLICA_METERED:
        replica_metered(core, message->as_MESSAGE_REPLICA_METERED.replica);
        break;
    case MESSAGE_REPLICA_LOOK:
        replica_look(process, message->as_MESSAGE_REPLICA_LOOK.replica);
        break;
    case MESSAGE_NETNS_WANT:
        if (core->netns.state == PROCESS_IDLE)
            core_process_start_now(&core->netns);
        else /* its channel is lost, not who was at the other end of it */
            core_boot_inside(core, process);
        break;
    case MESSAGE_NETNS_LOST: /* of one that has died: the next one has channels to all */
        core_boot_inside_loop(core, process, message->as_MESSAGE_NETNS_LOST.loop);
        break;
    default:
        assert(!"may_say() and dispatch() have the same rows");
    }
}

void core_message(struct core_process *process, const union message *message, size_t size, int *fds,
                  size_t fd_count)
{
    struct err err = {};
    int r = message_check(message, size, fd_count, &err);
    if (r == 0 && !may_say(process->role, message->head.type))
        r = err_set(&err, ERR_BAD_INPUT, "%s is not its to say", message_name(message->head.type));
    if (r == 0 && process_alive(process)) {
        dispatch(process, message, fds);
    } else if (r < 0) {
        process->core->messages_dropped++;
        log_warn("supervisor", "a wrong message, ignoring", LOG_S("process", process->name),
                 LOG_S("why", err.message));
    }
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
}

void core_process_writable(struct core_process *process)
{
    struct core *core = process->core;
    struct core_replica *replica;
    if (process->booting)
        core_boot_more(process);
    if (process->table_due)
        table_tell(process);
    if (process->mesh_due)
        mesh_tell(process);
    if (process->role != ROLE_AGENT || process->booting)
        return;
    LIST_EACH (replica, &core->replicas, struct core_replica, link)
        replica_tell_log(replica);
}
