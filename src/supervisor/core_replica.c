/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas from their birth (core_clone.c) to the grave: who is told, why they end, their walls. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "supervisor/core_private.h"
#include "sys/fd.h"
#include "sys/sandbox.h"
#include "sys/shm.h"

#define MEMORY_SLACK_BYTES (UINT64_C(16) << 20)

enum { THREADS_SLACK = 16, LOG_READS_A_TURN = 4, LOG_READS_LAST = 8 };

uint64_t core_replica_id(const struct core_replica *replica)
{
    return replica->start.replica;
}

int core_replica_log_fd(const struct core_replica *replica)
{
    return replica->log_fd;
}

void core_replica_set_shell(struct core_replica *replica, void *shell)
{
    replica->shell = shell;
}

void *core_replica_shell(const struct core_replica *replica)
{
    return replica->shell;
}

/* Beside its own memory: its answers, and what every process costs. Its limits on addresses leave
 * room for stacks that are hardly used, and for slots that hold no large answers (place.h); this
 * does not. */
void core_replica_bounds(const struct core_replica *replica, uint64_t *ret_memory_bytes,
                         uint32_t *ret_processes)
{
    const struct message_replica_start *start = &replica->start;
    uint32_t slots = message_slots_few(start->slots, start->concurrency, start->places_max);
    *ret_memory_bytes = start->memory_bytes_max + region_output_bytes(slots, start->slot_bytes) +
                        MEMORY_SLACK_BYTES;
    *ret_processes = start->threads + THREADS_SLACK;
}

void core_replica_set_cgroup(struct core_replica *replica, int version)
{
    replica->cgroup = version;
}

void core_replica_out_of_memory(struct core_replica *replica)
{
    replica->out_of_memory = true;
}

struct core_replica *replica_find(struct core *core, uint64_t id)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->replicas, struct core_replica, link) {
        if (replica->start.replica == id)
            return replica;
    }
    return NULL;
}

void replica_close_clone(struct core_replica *replica)
{
    fd_close(&replica->model_fd);
    fd_close(&replica->log_write_fd);
    for (size_t i = 0; i < PERIGEE_LANES_MAX; i++)
        fd_close(&replica->pipe_writes[i]);
}

static void close_all(struct core_replica *replica)
{
    replica_close_clone(replica);
    fd_close(&replica->submission_fd);
    fd_close(&replica->output_fd);
    fd_close(&replica->log_fd);
    for (size_t i = 0; i < PERIGEE_LANES_MAX; i++)
        fd_close(&replica->pipes[i]);
}

void replica_free(struct core_replica *replica)
{
    close_all(replica);
    list_remove(&replica->link);
    free(replica->seen);
    free(replica);
}

/* ---- its end --------------------------------------------------------------------------------- */

/* Tells everybody who knows of it, and the agent, who asked for it; keeps the record for an agent
 * that is away. The memory goes now. */
static void replica_over(struct core_replica *replica)
{
    struct core *core = replica->core;
    const struct core_process *template = replica->template;
    replica_tell_log(replica);
    for (int i = 0; i < 2; i++) {
        struct core_process *gateway = &core->gateways[i];
        if (process_alive(gateway) && replica->told & gateway->bit)
            core->ops->send(gateway, &replica->exited, sizeof replica->exited, NULL, 0, core->data);
    }
    list_remove(&replica->link);
    core->replica_count--;
    close_all(replica);
    if (replica->revision) {
        if (template && strcmp(template->project, replica->revision->project) != 0)
            core_templates_look(core); /* it alone may have needed that */
        replica->revision->users--;
        revision_unused(core, replica->revision);
        replica->revision = NULL;
    }
    replica->state = REPLICA_DEAD;
    replica->template = NULL;
    if (process_alive(core_role(core, ROLE_AGENT))) {
        core_tell(core, ROLE_AGENT, &replica->exited, sizeof replica->exited, NULL, 0);
        replica_free(replica);
        return;
    }
    list_append(&core->dead, &replica->link);
    if (++core->dead_count > DEAD_MAX) {
        replica_free(LIST_FIRST(&core->dead, struct core_replica, link));
        core->dead_count--;
    }
}

void replica_unborn(struct core_replica *replica, const char *why)
{
    struct message_replica_exited exited = MESSAGE_INIT(MESSAGE_REPLICA_EXITED);
    exited.replica = replica->start.replica;
    exited.revision = replica->start.revision;
    exited.end = replica->ending ? replica->end : REPLICA_END_NOT_STARTED;
    exited.syscall = -1;
    (void)snprintf(exited.text, sizeof exited.text, "%s",
                   replica->ending ? replica->end_text : why);
    replica->exited = exited;
    log_warn("supervisor", "a replica was not started", LOG_S("replica", replica->start.name),
             LOG_S("why", exited.text));
    if (replica->state == REPLICA_CLONING)
        replica->core->ops->ungroup(replica, replica->core->data);
    replica_over(replica);
}

/* What nobody wrote down in so many ends is given up. */
static void used_keep(struct core *core, const struct message_replica_exited *exited)
{
    if (core->used_count == USED_MAX)
        memmove(core->used, core->used + 1, --core->used_count * sizeof *core->used);
    struct message_replica_used *used = &core->used[core->used_count++];
    *used = (struct message_replica_used)MESSAGE_INIT(MESSAGE_REPLICA_USED);
    used->replica = exited->replica;
    used->revision = exited->revision;
    used->cpu_us = exited->cpu_user_us + exited->cpu_system_us;
}

void replica_metered(struct core *core, uint64_t replica)
{
    for (uint32_t i = 0; i < core->used_count; i++) {
        if (core->used[i].replica != replica)
            continue;
        memmove(core->used + i, core->used + i + 1, (--core->used_count - i) * sizeof *core->used);
        return;
    }
}

void replica_tell_used(struct core *core)
{
    for (uint32_t i = 0; i < core->used_count; i++)
        core_tell(core, ROLE_AGENT, &core->used[i], sizeof *core->used, NULL, 0);
}

void core_replica_exited(struct core_replica *replica, int wait_status, const struct rusage *usage)
{
    struct core *core = replica->core;
    /* Its last words: what the pipe held, and no more should somebody else still write to it. */
    for (int i = 0; i < LOG_READS_LAST && core_replica_log(replica); i++) {
    }
    replica_describe_end(replica, wait_status, usage);
    if (replica_crashed(replica))
        core_template_crashed(replica->template);
    used_keep(core, &replica->exited);
    replica_over(replica);
    core_stop_step(core);
}

/* ---- killing --------------------------------------------------------------------------------- */

static void replica_end_now(struct core_replica *replica, uint32_t end, const char *text)
{
    struct core *core = replica->core;
    if (!replica->ending) { /* the first reason is the reason */
        replica->ending = true;
        replica->end = end;
        (void)snprintf(replica->end_text, sizeof replica->end_text, "%s", text);
    }
    if (replica->state == REPLICA_RUNNING)
        core->ops->kill_replica(replica, core->data);
    else if (replica->state == REPLICA_WAITING)
        replica_unborn(replica, "");
}

void replica_kill(struct core *core, const struct message_replica_kill *message)
{
    struct core_replica *replica = replica_find(core, message->replica);
    if (replica) /* else it has ended by itself meanwhile */
        replica_end_now(replica, message->end, message->text);
}

void replica_kill_all(struct core *core)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->replicas, struct core_replica, link)
        replica_end_now(replica, REPLICA_END_STOPPED, "Perigee is ending");
}

/* ---- walls ----------------------------------------------------------------------------------- */

/* The mandatory ones are in each promise, or the replica is of a worker that leaves some out. */
static int look(struct core_replica *replica, struct message_replica_walls *ret, struct err *err)
{
    struct walls_expected expected = { replica->walls, replica_uid(replica) };
    uint32_t wanted = SANDBOX_MANDATORY;
    if (replica->core->config.start.sandbox == PERIGEE_SANDBOX_REQUIRE)
        wanted |= SANDBOX_REQUIRED;
    uint32_t missing = wanted & ~replica->walls;
    if (missing)
        return err_set(err, ERR_PRECONDITION, "its worker leaves out a wall that must stand: %s",
                       sandbox_wall_name(missing & -missing));
    ret->landlock_abi = replica->landlock_abi;
    if (replica->cgroup)
        (void)snprintf(ret->on, sizeof ret->on, "cgroup(v%d)", replica->cgroup);
    (void)snprintf(ret->off, sizeof ret->off, "%s%s%s%s", replica->walls_off,
                   replica->walls_off[0] && !replica->cgroup ? "; " : "",
                   replica->cgroup ? "" : "cgroup: ",
                   replica->cgroup ? "" : replica->core->ops->no_cgroup(replica->core->data));
    return replica->core->ops->look(replica->pid, &expected, &ret->walls, replica->core->data, err);
}

/* Gateway and agent ask both, and a gateway anew: the kernel takes no wall down. */
void replica_look(struct core_process *process, uint64_t id)
{
    struct message_replica_walls walls = MESSAGE_INIT(MESSAGE_REPLICA_WALLS);
    struct core *core = process->core;
    struct core_replica *replica = replica_find(core, id);
    struct err err = {};
    if (!replica || replica->state != REPLICA_RUNNING || replica->ending)
        return; /* its end is told */
    walls.replica = id;
    int r = replica->seen ? 0 : look(replica, &walls, &err);
    if (r == 0) {
        if (!replica->seen) {
            replica->seen = mem_alloc(sizeof walls);
            *replica->seen = walls;
        }
        core->ops->send(process, replica->seen, sizeof walls, NULL, 0, core->data);
    } else if (r != ERR_NOT_FOUND) {
        log_error("supervisor", "a replica without its walls, killing it",
                  LOG_S("replica", replica->start.name), LOG_S("why", err.message));
        replica_end_now(replica, REPLICA_END_NOT_STARTED, err.message);
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

static struct message_replica_added added(const struct core_replica *replica)
{
    struct message_replica_added message = MESSAGE_INIT(MESSAGE_REPLICA_ADDED);
    message.replica = replica->start.replica;
    message.revision = replica->start.revision;
    message.submission_bytes = replica->submission_bytes;
    message.output_bytes = replica->output_bytes;
    message.arena_bytes = ARENA_BYTES;
    message.slot_bytes = replica->start.slot_bytes;
    message.slots = replica->start.slots;
    message.concurrency = replica->start.concurrency;
    message.places_max = replica->start.places_max;
    message.loops = replica->core->config.start.loops;
    message.pid = replica->pid;
    memcpy(message.runtime, replica->start.runtime, sizeof message.runtime);
    memcpy(message.name, replica->start.name, sizeof message.name);
    return message;
}

static int output_reader(const struct core_replica *replica)
{
    struct err err;
    int fd = -1;
    if (shm_reopen_readonly(replica->output_fd, &fd, &err) < 0)
        log_error("supervisor", "a replica cannot be shown", LOG_S("why", err.message));
    return fd;
}

/* A gateway gets the pipes of its own lane set, the agent none. */
void replica_tell(struct core_replica *replica, struct core_process *process)
{
    struct core *core = replica->core;
    struct message_replica_added message = added(replica);
    auto_close int output = output_reader(replica);
    if (output < 0)
        return;
    replica->told |= process->bit;
    if (process->role == ROLE_AGENT) {
        core->ops->send(process, &message, sizeof message, &output, 1, core->data);
        return;
    }
    int fds[3 + PERIGEE_LOOPS_MAX] = { replica->submission_fd, output,
                                       replica->revision->arena_fd };
    const int *set = replica->pipes + (process->instance & 1) * message.loops;
    memcpy(fds + 3, set, message.loops * sizeof(int));
    core->ops->send(process, &message, sizeof message, fds, 3 + message.loops, core->data);
    if (replica->seen)
        core->ops->send(process, replica->seen, sizeof *replica->seen, NULL, 0, core->data);
}

/* Logs give way to everything else: they wait in the ring, where the oldest bytes are lost, while
 * the agent does not read as fast as we write. */
void replica_tell_log(struct core_replica *replica)
{
    struct core *core = replica->core;
    struct core_process *agent = core_role(core, ROLE_AGENT);
    while (process_alive(agent) && replica->told & agent->bit &&
           core->ops->writable(agent, core->data)) {
        struct message_replica_log message = MESSAGE_INIT(MESSAGE_REPLICA_LOG);
        uint64_t dropped;
        message.replica = replica->start.replica;
        message.bytes =
            (uint32_t)logring_take(&replica->log, message.data, sizeof message.data, &dropped);
        message.dropped = dropped < UINT32_MAX ? (uint32_t)dropped : UINT32_MAX;
        if (message.bytes == 0)
            return;
        core_tell(core, ROLE_AGENT, &message, sizeof message, NULL, 0);
    }
}

void replica_tell_dead(struct core *core)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->dead, struct core_replica, link) {
        logring_rewind(&replica->log);
        replica->told |= core_role(core, ROLE_AGENT)->bit;
        replica_tell_log(replica);
        core_tell(core, ROLE_AGENT, &replica->exited, sizeof replica->exited, NULL, 0);
        replica_free(replica);
    }
    core->dead_count = 0;
}

bool core_replica_log(struct core_replica *replica)
{
    char bytes[PIPE_BYTES];
    ssize_t size = 0;
    for (int i = 0; i < LOG_READS_A_TURN; i++) {
        do
            size = read(replica->log_fd, bytes, sizeof bytes);
        while (size < 0 && errno == EINTR);
        if (size <= 0)
            break;
        logring_write(&replica->log, bytes, (size_t)size);
    }
    replica_tell_log(replica);
    return size > 0 || (size < 0 && errno == EAGAIN);
}
