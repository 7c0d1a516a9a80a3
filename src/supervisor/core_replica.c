/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas from the agent's wish to the grave: their memory and pipes, their clone, who is told. */
#include <errno.h>
#include <fcntl.h>
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

enum { THREADS_SLACK = 16, PIPE_BYTES = 4096, LOG_READS_A_TURN = 4, LOG_READS_LAST = 8 };

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

static struct core_replica *replica_find(struct core *core, uint64_t id)
{
    struct core_replica *replica;
    LIST_EACH (replica, &core->replicas, struct core_replica, link) {
        if (replica->start.replica == id)
            return replica;
    }
    return NULL;
}

/* ---- revisions and their arenas -------------------------------------------------------------- */

static struct core_revision *revision_find(struct core *core, uint64_t uid)
{
    struct core_revision *revision;
    LIST_EACH (revision, &core->revisions, struct core_revision, link) {
        if (revision->uid == uid)
            return revision;
    }
    return NULL;
}

static struct core_revision *revision_get(struct core *core, uint64_t uid, struct err *err)
{
    struct core_revision *revision = revision_find(core, uid);
    int fd = -1;
    if (revision)
        return revision;
    if (core->revision_count == REVISIONS_MAX) {
        (void)!err_set(err, ERR_OVERLOADED, "there are %d revisions already", REVISIONS_MAX);
        return NULL;
    }
    if (shm_create("perigee-arena", ARENA_BYTES, &fd, err) < 0)
        return NULL;
    revision = mem_zalloc(sizeof *revision);
    revision->uid = uid;
    revision->arena_fd = fd;
    list_append(&core->revisions, &revision->link);
    core->revision_count++;
    if (process_alive(&core->agent) && !core->agent.booting)
        revision_tell_agent(core, revision);
    return revision;
}

/* It knows whether the revision is still wanted; without an arena that it has heard of, a deleted
 * one's would stay for ever. */
void revision_tell_agent(struct core *core, struct core_revision *revision)
{
    struct message_revision message = MESSAGE_INIT(MESSAGE_ARENA_KEPT);
    message.revision = revision->uid;
    revision->told = true;
    core_tell(core, ROLE_AGENT, &message, sizeof message, NULL, 0);
}

void revision_free(struct core *core, struct core_revision *revision)
{
    fd_close(&revision->arena_fd);
    list_remove(&revision->link);
    core->revision_count--;
    free(revision);
}

void revision_want(struct core_process *gateway, uint64_t uid)
{
    struct core *core = gateway->core;
    struct message_arena message = MESSAGE_INIT(MESSAGE_ARENA);
    struct err err = {};
    const struct core_revision *revision = revision_get(core, uid, &err);
    if (!revision) {
        log_error("supervisor", "no input arena", LOG_S("why", err.message));
        return;
    }
    message.revision = uid;
    message.bytes = ARENA_BYTES;
    core->ops->send(gateway, &message, sizeof message, &revision->arena_fd, 1, core->data);
}

/* Clients' bytes of a gateway that died are nobody's: its half of each arena (each instance writes
 * the slices of its own lane set) is emptied. A replica that still reads there sees zeros, and
 * nobody waits for what it makes of them. */
void revisions_gateway_gone(struct core *core, uint64_t instance)
{
    struct core_revision *revision;
    LIST_EACH (revision, &core->revisions, struct core_revision, link)
        shm_punch_fd(revision->arena_fd, (instance & 1) * (ARENA_BYTES / 2), ARENA_BYTES / 2);
}

static void revision_unused(struct core *core, struct core_revision *revision)
{
    if (revision->gone && revision->users == 0)
        revision_free(core, revision);
}

void revision_forget(struct core *core, uint64_t uid)
{
    struct core_revision *revision = revision_find(core, uid);
    if (!revision)
        return;
    revision->gone = true;
    revision_unused(core, revision);
}

/* ---- making one ------------------------------------------------------------------------------ */

static void close_clone_only(struct core_replica *replica)
{
    fd_close(&replica->model_fd);
    fd_close(&replica->log_write_fd);
    for (size_t i = 0; i < PERIGEE_LANES_MAX; i++)
        fd_close(&replica->pipe_writes[i]);
}

static void close_all(struct core_replica *replica)
{
    close_clone_only(replica);
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
    replica->revision = revision_get(core, start->revision, err);
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
    replica->template = core_template(core, start->runtime);
    if (!replica->template)
        return err_set(err, ERR_OVERLOADED, "there are %d runtimes already", TEMPLATES_MAX);
    return 0;
}

/* ---- its end --------------------------------------------------------------------------------- */

/* Tells everybody who knows of it, and the agent, who asked for it; keeps the record for an agent
 * that is away. The memory goes now. */
static void replica_over(struct core_replica *replica)
{
    struct core *core = replica->core;
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
        replica->revision->users--;
        revision_unused(core, replica->revision);
        replica->revision = NULL;
    }
    replica->state = REPLICA_DEAD;
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

/* It never ran. */
static void replica_unborn(struct core_replica *replica, const char *why)
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
    used_keep(core, &replica->exited);
    replica_over(replica);
    core_stop_step(core);
}

/* ---- cloning --------------------------------------------------------------------------------- */

static uint32_t replica_uid(const struct core_replica *replica)
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
    else if (replica->template->state == PROCESS_SERVING && !replica->template->replacing)
        send_clone(replica); /* one that is replaced is dead already, or as good as */
    else if (replica->template->state == PROCESS_WAITING && !replica->template->proven)
        replica_unborn(replica, replica->template->why); /* the agent waits, then asks again */
    /* else it has been up, and comes back by itself: that is no fault of the model */
}

void replica_template_ready(struct core_process *template)
{
    struct core_replica *replica;
    LIST_EACH (replica, &template->core->replicas, struct core_replica, link) {
        if (replica->template == template && replica->state == REPLICA_WAITING)
            send_clone(replica);
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

bool template_cloning(const struct core_process *template)
{
    const struct core_replica *replica;
    LIST_EACH (replica, &template->core->replicas, struct core_replica, link) {
        if (replica->template == template && replica->state == REPLICA_CLONING)
            return true;
    }
    return false;
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
    close_clone_only(replica);
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
