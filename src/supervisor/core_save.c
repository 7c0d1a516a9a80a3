/* SPDX-License-Identifier: Apache-2.0 */
/* The core to the rows of handover.h, and back. Timers are saved by when they are due. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "supervisor/core_private.h"
#include "supervisor/handover.h"
#include "sys/fd.h"

static uint64_t log_kept(const struct logring *log)
{
    return log->written < LOGRING_BYTES ? log->written : LOGRING_BYTES;
}

void core_save_counts(const struct core *core, struct handover_head *head)
{
    struct core *all = (struct core *)core; /* only looked at */
    const struct core_replica *replica;
    head->process_count = HANDOVER_ROLES + core->template_count;
    head->revision_count = core->revision_count;
    head->replica_count = core->replica_count;
    head->dead_count = core->dead_count;
    head->log_bytes = 0;
    LIST_EACH (replica, &all->replicas, struct core_replica, link)
        head->log_bytes += log_kept(&replica->log);
    LIST_EACH (replica, &all->dead, struct core_replica, link)
        head->log_bytes += log_kept(&replica->log);
}

/* ---- out ------------------------------------------------------------------------------------ */

static void save_process(const struct core_process *process, struct handover_process *row)
{
    const struct core *core = process->core;
    bool alive = process_alive(process);
    *row = (struct handover_process){
        .role = process->role,
        .state = process->state,
        .instance = process->instance,
        .ready_ns = process->ready_ns,
        .due_ns = env_timer_armed(&process->timer) ? process->timer.due_ns : 0,
        .restarts = process->restarts,
        .failures = process->failures,
        .generation = process->generation,
        .pid = alive ? process->pid : 0,
        .channel_fd = alive ? core->ops->channel((struct core_process *)process, core->data) : -1,
        .fresh = process->fresh,
        .proven = process->proven,
        .booting = process->booting,
        .replacing = process->replacing,
        .unwanted = process->unwanted,
    };
    memcpy(row->name, process->name, sizeof row->name);
    memcpy(row->runtime, process->runtime, sizeof row->runtime);
    memcpy(row->library, process->library, sizeof row->library);
    memcpy(row->why, process->why, sizeof row->why);
    row->walls = process->walls;
    row->landlock_abi = process->landlock_abi;
    memcpy(row->walls_off, process->walls_off, sizeof row->walls_off);
}

static int32_t template_row(const struct core *core, const struct core_process *wanted)
{
    struct core *all = (struct core *)core;
    const struct core_process *template;
    int32_t row = HANDOVER_ROLES;
    LIST_EACH (template, &all->templates, struct core_process, link) {
        if (template == wanted)
            return row;
        row++;
    }
    return -1;
}

static int32_t revision_row(const struct core *core, const struct core_revision *wanted)
{
    struct core *all = (struct core *)core;
    const struct core_revision *revision;
    int32_t row = 0;
    LIST_EACH (revision, &all->revisions, struct core_revision, link) {
        if (revision == wanted)
            return row;
        row++;
    }
    return -1;
}

static char *save_replica(const struct core *core, const struct core_replica *replica,
                          struct handover_replica *row, char *log)
{
    bool dead = replica->state == REPLICA_DEAD;
    *row = (struct handover_replica){
        .state = replica->state,
        .end = replica->end,
        .uid_index = replica->uid_index,
        .pid = replica->pid,
        .ending = replica->ending,
        .told = replica->told,
        .cgroup = (uint8_t)replica->cgroup,
        .out_of_memory = replica->out_of_memory,
        .template = dead ? -1 : template_row(core, replica->template),
        .revision = dead ? -1 : revision_row(core, replica->revision),
        .submission_fd = replica->submission_fd,
        .output_fd = replica->output_fd,
        .model_fd = replica->model_fd,
        .log_fd = replica->log_fd,
        .log_write_fd = replica->log_write_fd,
        .submission_bytes = replica->submission_bytes,
        .output_bytes = replica->output_bytes,
        .log_written = replica->log.written,
        .log_told = replica->log.told,
        .log_bytes = log_kept(&replica->log),
        .start = replica->start,
        .exited = replica->exited,
    };
    memcpy(row->pipes, replica->pipes, sizeof row->pipes);
    memcpy(row->pipe_writes, replica->pipe_writes, sizeof row->pipe_writes);
    memcpy(row->end_text, replica->end_text, sizeof row->end_text);
    row->walls = replica->walls;
    row->landlock_abi = replica->landlock_abi;
    memcpy(row->walls_off, replica->walls_off, sizeof row->walls_off);
    /* The ring's memory as it lies: `written` says where it begins. */
    memcpy(log, replica->log.bytes, row->log_bytes);
    return log + row->log_bytes;
}

void core_save(const struct core *core, struct handover *out)
{
    struct core *all = (struct core *)core;
    const struct core_process *const roles[] = { core->gateways, core->gateways + 1, &core->agent,
                                                 &core->control };
    const struct core_process *template;
    const struct core_revision *revision;
    const struct core_replica *replica;
    struct handover_head *head = out->head;
    struct handover_process *process = out->processes;
    struct handover_revision *revisions = out->revisions;
    struct handover_replica *replicas = out->replicas;
    char *log = out->logs;
    head->gateway = core->gateway;
    head->metrics_fd = core->metrics_fd;
    head->table_fd = core->table_fd;
    head->table = core->table;
    head->messages_dropped = core->messages_dropped;
    head->flags |= core->ready_once ? HANDOVER_READY_ONCE : 0;
    for (size_t i = 0; i < HANDOVER_ROLES; i++)
        save_process(roles[i], process++);
    LIST_EACH (template, &all->templates, struct core_process, link)
        save_process(template, process++);
    LIST_EACH (revision, &all->revisions, struct core_revision, link)
        *revisions++ = (struct handover_revision){
            revision->uid, revision->arena_fd, revision->gone, revision->told, {},
        };
    LIST_EACH (replica, &all->replicas, struct core_replica, link)
        log = save_replica(core, replica, replicas++, log);
    LIST_EACH (replica, &all->dead, struct core_replica, link)
        log = save_replica(core, replica, replicas++, log);
}

/* ---- back ----------------------------------------------------------------------------------- */

static int load_process(struct core *core, struct core_process *process,
                        const struct handover_process *row, struct err *err)
{
    process->state = row->state;
    process->instance = row->instance;
    process->ready_ns = row->ready_ns;
    process->restarts = row->restarts;
    process->failures = row->failures;
    process->generation = row->generation;
    process->fresh = row->fresh;
    process->proven = row->proven;
    process->booting = row->booting;
    process->replacing = row->replacing;
    process->unwanted = row->unwanted;
    process->pid = row->pid;
    memcpy(process->name, row->name, sizeof row->name);
    memcpy(process->runtime, row->runtime, sizeof row->runtime);
    memcpy(process->library, row->library, sizeof row->library);
    memcpy(process->why, row->why, sizeof row->why);
    process->walls = row->walls;
    process->landlock_abi = row->landlock_abi;
    memcpy(process->walls_off, row->walls_off, sizeof row->walls_off);
    if (row->due_ns)
        core_process_due(process, row->due_ns - env_now_ns(core->env));
    return process_alive(process) ? core->ops->restore(process, row->channel_fd, core->data, err)
                                  : 0;
}

static int load_processes(struct core *core, const struct handover *in, struct err *err)
{
    struct core_process *const roles[] = { core->gateways, core->gateways + 1, &core->agent,
                                           &core->control };
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < in->head->process_count; i++)
        r = load_process(core, i < HANDOVER_ROLES ? roles[i] : core_template_new(core),
                         &in->processes[i], err);
    return r;
}

static void load_revisions(struct core *core, const struct handover *in)
{
    for (uint32_t i = 0; i < in->head->revision_count; i++) {
        struct core_revision *revision = mem_zalloc(sizeof *revision);
        revision->uid = in->revisions[i].uid;
        revision->arena_fd = in->revisions[i].arena_fd;
        revision->gone = in->revisions[i].gone;
        revision->told = in->revisions[i].told;
        list_append(&core->revisions, &revision->link);
        core->revision_count++;
    }
}

static void *row_of(struct list *list, int32_t row)
{
    struct list *at = list->next;
    for (; row > 0; row--)
        at = at->next;
    return at;
}

static const char *load_replica(struct core *core, const struct handover_replica *row,
                                const char *log, struct core_replica **ret)
{
    struct core_replica *replica = *ret = mem_zalloc(sizeof *replica);
    replica->core = core;
    replica->state = row->state;
    replica->end = row->end;
    replica->uid_index = row->uid_index;
    replica->pid = row->pid;
    replica->ending = row->ending;
    replica->told = row->told;
    replica->cgroup = row->cgroup;
    replica->out_of_memory = row->out_of_memory;
    replica->submission_fd = row->submission_fd;
    replica->output_fd = row->output_fd;
    replica->model_fd = row->model_fd;
    replica->log_fd = row->log_fd;
    replica->log_write_fd = row->log_write_fd;
    replica->submission_bytes = row->submission_bytes;
    replica->output_bytes = row->output_bytes;
    replica->start = row->start;
    replica->exited = row->exited;
    memcpy(replica->pipes, row->pipes, sizeof row->pipes);
    memcpy(replica->pipe_writes, row->pipe_writes, sizeof row->pipe_writes);
    memcpy(replica->end_text, row->end_text, sizeof row->end_text);
    replica->walls = row->walls;
    replica->landlock_abi = row->landlock_abi;
    memcpy(replica->walls_off, row->walls_off, sizeof row->walls_off);
    replica->log.written = row->log_written;
    replica->log.told = row->log_told;
    memcpy(replica->log.bytes, log, row->log_bytes);
    return log + row->log_bytes;
}

static int load_replicas(struct core *core, const struct handover *in, struct err *err)
{
    const char *log = in->logs;
    for (uint32_t i = 0; i < in->head->replica_count + in->head->dead_count; i++) {
        const struct handover_replica *row = &in->replicas[i];
        struct core_replica *replica;
        log = load_replica(core, row, log, &replica);
        if (replica->state == REPLICA_DEAD) {
            list_append(&core->dead, &replica->link);
            core->dead_count++;
            continue;
        }
        list_append(&core->replicas, &replica->link);
        core->replica_count++;
        replica->template = LIST_OWNER(row_of(&core->templates, row->template - HANDOVER_ROLES),
                                       struct core_process, link);
        replica->revision =
            LIST_OWNER(row_of(&core->revisions, row->revision), struct core_revision, link);
        replica->revision->users++;
        if (replica->state == REPLICA_RUNNING) {
            int r = core->ops->adopt(replica, replica->pid, core->data, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* A region of another layout is left to the gateway that writes there: the next gets its own. */
static void load_metrics(struct core *core, int fd)
{
    struct gateway_region head;
    auto_close int unused = fd;
    if (pread(fd, &head, sizeof head, 0) != sizeof head || !gateway_region_fits(&head))
        return;
    fd_close(&core->metrics_fd);
    core->metrics_fd = take_fd(unused);
}

int core_load(struct core *core, const struct handover *in, struct err *err)
{
    core->gateway = in->head->gateway;
    core->generation = in->head->generation;
    core->table_fd = in->head->table_fd;
    core->table = in->head->table;
    core->messages_dropped = in->head->messages_dropped;
    core->ready_once = in->head->flags & HANDOVER_READY_ONCE;
    load_metrics(core, in->head->metrics_fd);
    load_revisions(core, in);
    int r = load_processes(core, in, err);
    if (r == 0)
        r = load_replicas(core, in, err);
    if (r < 0)
        return r;
    core_orphans_kill(core); /* of a try that the program before had under way */
    return 0;
}
