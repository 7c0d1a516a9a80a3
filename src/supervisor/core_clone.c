/* SPDX-License-Identifier: Apache-2.0 */
/* From the agent's wish for a replica to its process: its memory and pipes, and its clone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "supervisor/core_private.h"
#include "sys/fd.h"
#include "sys/shm.h"

/* ---- making one ------------------------------------------------------------------------------ */

static struct core_replica *replica_new(struct core *core,
                                        const struct message_replica_start *start, int model_fd)
{
    struct core_replica *replica = mem_zalloc(sizeof *replica);
    replica->core = core;
    replica->start = *start;
    replica->end = REPLICA_END_NOT_STARTED;
    replica->submission_fd = replica->output_fd = replica->log_fd = replica->log_write_fd = -1;
    replica->model_fd = model_fd;
    for (size_t i = 0; i < PERIGEE_LANES_MAX; i++)
        replica->pipes[i] = replica->pipe_writes[i] = -1;
    list_append(&core->replicas, &replica->link);
    core->replica_count++;
    return replica;
}

static int make_pipe(int *ret_reader, int *ret_writer, int flags, struct err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | flags) < 0)
        return err_set(err, ERR_INTERNAL, "making a pipe: %s", strerror(errno));
    *ret_reader = ends[0];
    *ret_writer = ends[1];
    return 0;
}

/* The log's write end blocks: a replica that writes too much waits, and loses nothing. */
static int make_pipes(struct core_replica *replica, struct err *err)
{
    uint32_t lanes = 2 * replica->core->config.start.loops;
    for (uint32_t i = 0; i < lanes; i++) {
        int r = make_pipe(&replica->pipes[i], &replica->pipe_writes[i], O_NONBLOCK, err);
        if (r < 0)
            return r;
        (void)fcntl(replica->pipes[i], F_SETPIPE_SZ, PIPE_BYTES);
    }
    int r = make_pipe(&replica->log_fd, &replica->log_write_fd, 0, err);
    if (r < 0)
        return r;
    (void)fcntl(replica->log_fd, F_SETFL, O_NONBLOCK);
    return 0;
}

/* What the ranges of message_check() cannot say. */
static int check_start(const struct core *core, const struct message_replica_start *start,
                       struct err *err)
{
    uint64_t all;
    size_t runtime = strspn(start->runtime, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (!runtime || start->runtime[runtime])
        return err_set(err, ERR_BAD_INPUT, "'%s' is no runtime's name", ERR_TEXT(start->runtime));
    if (start->slot_bytes % 4096 || start->slot_bytes < PERIGEE_ANSWER_BYTES ||
        __builtin_mul_overflow(start->slot_bytes, start->slots, &all) || all > OUTPUT_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%u answer slots of %ju bytes cannot be", start->slots,
                       (uintmax_t)start->slot_bytes);
    if (core->stage)
        return err_set(err, ERR_STOPPED, "Perigee is ending");
    if (core->replica_count > REPLICAS_MAX)
        return err_set(err, ERR_OVERLOADED, "there are %d replicas already", REPLICAS_MAX);
    return 0;
}

/* A user of its own per live replica, as root: the lowest that none has. 0 is the gateway's. */
static void take_uid(struct core_replica *replica)
{
    struct core *core = replica->core;
    static bool taken[REPLICAS_MAX + 2];
    const struct core_replica *other;
    memset(taken, 0, sizeof taken);
    LIST_EACH (other, &core->replicas, struct core_replica, link)
        taken[other->uid_index] = true;
    replica->uid_index = 1;
    while (taken[replica->uid_index])
        replica->uid_index++;
}

static int prepare(struct core_replica *replica, struct err *err)
{
    const struct message_replica_start *start = &replica->start;
    struct core *core = replica->core;
    int r = check_start(core, start, err);
    if (r < 0)
        return r;
    replica->submission_bytes = region_submission_bytes();
    replica->output_bytes = region_output_bytes(start->slots, start->slot_bytes);
    replica->revision = core_revision_get(core, start->revision, err);
    if (!replica->revision)
        return ERR_OVERLOADED;
    replica->revision->users++;
    replica->revision->gone = false; /* the agent has thought better of it */
    r = shm_create("perigee-submissions", replica->submission_bytes, &replica->submission_fd, err);
    if (r == 0)
        r = shm_create("perigee-outputs", replica->output_bytes, &replica->output_fd, err);
    if (r == 0)
        r = make_pipes(replica, err);
    if (r < 0)
        return r;
    take_uid(replica);
    replica->template = core_template(core, start->runtime, replica->revision->project);
    if (!replica->template)
        return err_set(err, ERR_OVERLOADED, "there are %d templates already", TEMPLATES_MAX);
    return 0;
}

/* ---- cloning --------------------------------------------------------------------------------- */

uint32_t replica_uid(const struct core_replica *replica)
{
    uint32_t base = replica->core->config.replica_uid_base;
    return base ? base + replica->uid_index : 0;
}

static void keep_promise(struct core_replica *replica)
{
    const struct core_process *template = replica->template;
    replica->walls = template->walls;
    replica->landlock_abi = template->landlock_abi;
    memcpy(replica->walls_off, template->walls_off, sizeof replica->walls_off);
}

static struct perigee_clone clone_command(const struct core_replica *replica)
{
    const struct core *core = replica->core;
    const struct message_replica_start *start = &replica->start;
    uint32_t loops = core->config.start.loops;
    struct perigee_clone clone = {
        .magic = PERIGEE_WORKER_MAGIC,
        .message = PERIGEE_CLONE,
        .version = replica->template->contract > 1 ? replica->template->contract : 1,
        .loops = loops,
        .lanes = 2 * loops,
        .slots = start->slots,
        .slot_bytes = start->slot_bytes,
        .submission_bytes = replica->submission_bytes,
        .output_bytes = replica->output_bytes,
        .arena_bytes = ARENA_BYTES,
        .replica = start->replica,
        .memory_bytes_max = start->memory_bytes_max,
        .threads = start->threads,
        .batch_max = start->batch_max,
        .batch_delay_us = start->batch_delay_us,
        .spin_us = core->config.start.spin_us,
        .sandbox = core->config.start.sandbox,
        .uid = replica_uid(replica),
    };
    memcpy(clone.model_file, start->model_file, sizeof clone.model_file);
    return clone;
}

/* Its group is made before it is, so that it never stands outside. */
static void send_command(struct core_replica *replica, struct perigee_clone *clone, int *fds)
{
    struct core *core = replica->core;
    size_t size = PERIGEE_CLONE_BYTES_1, count = PERIGEE_FD_PIPES + clone->lanes;
    int *groups = fds + count;
    if (clone->version > 1) {
        clone->group = core->ops->group(replica, groups, &clone->groups, core->data);
        size = sizeof *clone;
    }
    core->ops->send(replica->template, clone, size, fds, count + clone->groups, core->data);
    for (uint32_t i = 0; i < clone->groups; i++)
        fd_close(&groups[i]);
}

static void send_clone(struct core_replica *replica)
{
    struct core *core = replica->core;
    struct perigee_clone clone = clone_command(replica);
    auto_close int submission = -1;
    auto_close int arena = -1;
    struct err err;
    if (shm_reopen_readonly(replica->submission_fd, &submission, &err) < 0 ||
        shm_reopen_readonly(replica->revision->arena_fd, &arena, &err) < 0) {
        replica_unborn(replica, err.message);
        return;
    }
    int fds[PERIGEE_FD_PIPES + PERIGEE_LANES_MAX + PERIGEE_GROUPS_MAX] = {
        [PERIGEE_FD_SUBMISSION] = submission,
        [PERIGEE_FD_OUTPUT] = replica->output_fd,
        [PERIGEE_FD_ARENA] = arena,
        [PERIGEE_FD_MODEL] = replica->model_fd,
        [PERIGEE_FD_LOG] = replica->log_write_fd,
        [PERIGEE_FD_LIFELINE] = core->config.lifeline_fd,
    };
    memcpy(fds + PERIGEE_FD_PIPES, replica->pipe_writes, clone.lanes * sizeof(int));
    replica->state = REPLICA_CLONING;
    keep_promise(replica);
    send_command(replica, &clone, fds);
    core_template_busy(replica->template, true);
}

void replica_start(struct core *core, const struct message_replica_start *start, int model_fd)
{
    struct err err = {};
    if (replica_find(core, start->replica)) {
        log_error("supervisor", "a replica's id came twice, ignoring",
                  LOG_U("replica", start->replica));
        close(model_fd);
        return;
    }
    struct core_replica *replica = replica_new(core, start, model_fd);
    if (prepare(replica, &err) < 0)
        replica_unborn(replica, err.message);
    else if (core_template_takes(replica->template))
        replica_template_ready(replica->template);
    else if (replica->template->state == PROCESS_WAITING && !replica->template->proven)
        replica_unborn(replica, replica->template->why); /* the agent waits, then asks again */
    /* else it has been up, and comes back by itself: that is no fault of the model */
}

void replica_template_ready(struct core_process *template)
{
    struct core_replica *replica;
    LIST_EACH (replica, &template->core->replicas, struct core_replica, link) {
        if (replica->template != template || replica->state != REPLICA_WAITING)
            continue;
        if (!core_template_takes(template)) /* it is dead already, or as good as */
            return;
        if (!core_template_spent(template)) {
            send_clone(replica);
        } else {
            if (!template_cloning(template))
                core_template_renew(template);
            return;
        }
    }
}

/* A child that nobody knows may be a clone of which its template has yet to tell, or whose name is
 * still unread, as after an exec: none is killed until there can be no such one. That is soon: a
 * template has CLONE_WITHIN_NS. */
void core_orphans_kill(struct core *core)
{
    const struct core_replica *replica;
    core->orphans_due = false;
    LIST_EACH (replica, &core->replicas, struct core_replica, link)
        core->orphans_due |= replica->state == REPLICA_CLONING;
    if (!core->orphans_due)
        core->ops->kill_orphans(core->data);
}

/* What it was cloning is lost with it, or lives without our knowing its name: then it is killed.
 * Others wait for the next one, unless there never was one. */
void replica_template_died(struct core_process *template, const char *why)
{
    struct core *core = template->core;
    struct core_replica *replica;
    char text[256];
    bool cloning = false;
    (void)snprintf(text, sizeof text, "%s: %s", template->name, why);
    LIST_EACH (replica, &core->replicas, struct core_replica, link)
        cloning |= replica->template == template && replica->state == REPLICA_CLONING;
    LIST_EACH (replica, &core->replicas, struct core_replica, link) {
        bool lost = replica->state == REPLICA_CLONING ||
                    (replica->state == REPLICA_WAITING && (!template->proven || core->stage));
        if (replica->template == template && lost)
            replica_unborn(replica, text);
    }
    if (cloning)
        core_orphans_kill(core);
}

static void replica_born(struct core_replica *replica, pid_t pid)
{
    struct core *core = replica->core;
    replica->pid = pid;
    replica->state = REPLICA_RUNNING;
    replica->end = REPLICA_END_ITSELF;
    log_info("supervisor", "a replica started", LOG_S("replica", replica->start.name),
             LOG_I("pid", pid));
    struct core_process *const hear[] = { core->gateways, core->gateways + 1, &core->agent };
    for (int i = 0; i < 3; i++)
        if (process_alive(hear[i]) && !hear[i]->booting)
            replica_tell(replica, hear[i]);
    if (replica->ending) /* unwanted meanwhile */
        core->ops->kill_replica(replica, core->data);
}

void replica_cloned(struct core_process *template, const struct perigee_cloned *cloned)
{
    struct core *core = template->core;
    struct core_replica *replica = replica_find(core, cloned->replica);
    struct err err = {};
    if (!replica || replica->template != template || replica->state != REPLICA_CLONING) {
        log_error("supervisor", "a clone nobody asked for, killing its template",
                  LOG_S("process", template->name));
        core->ops->kill(template, core->data);
        core_orphans_kill(core);
        return;
    }
    replica_close_clone(replica);
    if (cloned->pid <= 0) {
        (void)!err_set(&err, ERR_INTERNAL, "cloning it failed: %s", strerror(cloned->error));
        replica_unborn(replica, err.message);
    } else if (core->ops->adopt(replica, cloned->pid, core->data, &err) < 0) {
        replica_unborn(replica, err.message);
        core->orphans_due = true;
    } else {
        replica_born(replica, cloned->pid);
    }
    core_template_busy(template, template_cloning(template));
    replica_template_ready(template); /* what waits for another layout than that one's */
    if (core->orphans_due)
        core_orphans_kill(core);
    core_upgrade_step(core);
}

/* Its wishes that have not begun go with it: the next agent does not know them and asks for its
 * own, and after some deaths in a row a template that comes up at last would clone them all. */
void replicas_agent_gone(struct core *core)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->replicas, struct core_replica, link) {
        if (replica->state == REPLICA_WAITING)
            replica_unborn(replica, "the agent that wanted it died");
    }
}
