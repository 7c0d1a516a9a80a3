/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/family.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "supervisor/cgroup.h"
#include "sys/channel.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/spawn.h"

enum {
    MESSAGES_A_TURN = 64,
    CHILDREN_MAX = 4096,
    OOM_GATEWAY = -800,
    OOM_ROLE = -500,
    OOM_TEMPLATE = 500, /* and its clones: replicas go first */
};

/* A replica that writes without end is read this often, 16 KiB each time. */
#define LOG_PAUSE_NS (10 * ENV_MS)

struct family {
    struct env_linux *world;
    struct supervisor *supervisor;
    const char *libdir;
    int lifeline_fd;
    struct cgroups cgroups;
};

struct member { /* the shell of a role or template */
    struct family *family;
    struct core_process *process;
    struct channel *channel;
    struct env_linux_watch *watch;
    uint64_t id;
};

struct child { /* the shell of a replica */
    struct family *family;
    struct core_replica *replica;
    struct env_linux_watch *watch;
    struct env_timer pause;
    uint64_t id;
};

/* ---- roles and templates: messages ----------------------------------------------------------- */

static void member_kill(struct member *member)
{
    env_process_kill(env_linux_env(member->family->world), member->id, SIGKILL);
}

/* A peer whose channel fails is of no use any more; its end comes when it is reaped. */
static void member_cut(struct member *member, const struct err *err)
{
    if (err->code != ERR_CANCELED)
        log_error("supervisor", "a process does not listen, killing it",
                  LOG_S("process", member->process->name), LOG_S("why", err->message));
    env_linux_unwatch(take_ptr(member->watch));
    member_kill(member);
}

static void member_deliver(struct member *member, const void *message, size_t size, int *fds,
                           size_t fd_count)
{
    if (member->process->role != ROLE_TEMPLATE) {
        core_message(member->process, message, size, fds, fd_count);
        return;
    }
    core_template_message(member->process, message, size);
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
}

static void member_read(struct member *member, unsigned messages_max)
{
    static alignas(union message) char buffer[CHANNEL_BYTES_MAX]; /* one thread */
    for (unsigned i = 0; i < messages_max; i++) {
        int fds[CHANNEL_FDS_MAX];
        size_t size, fd_count;
        struct err err;
        int r =
            channel_receive(member->channel, buffer, sizeof buffer, &size, fds, &fd_count, &err);
        if (r < 0 && member->watch)
            member_cut(member, &err);
        if (r <= 0)
            return;
        member_deliver(member, buffer, size, fds, fd_count);
    }
}

static void on_member_event(uint32_t events, void *data)
{
    struct member *member = data;
    struct err err;
    if (events & EPOLLOUT) {
        if (channel_flush(member->channel, &err) < 0) {
            member_cut(member, &err);
            return;
        }
        if (!channel_wants_write(member->channel)) {
            env_linux_watch_set(member->watch, EPOLLIN);
            core_process_writable(member->process);
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        member_read(member, MESSAGES_A_TURN);
}

static void family_send(struct core_process *process, const void *message, size_t size,
                        const int *fds, size_t fd_count, void *)
{
    struct member *member = process->shell;
    struct err err;
    if (!member || !member->watch)
        return; /* cut off already */
    if (channel_send(member->channel, message, size, fds, fd_count, &err) < 0)
        member_cut(member, &err);
    else if (channel_wants_write(member->channel))
        env_linux_watch_set(member->watch, EPOLLIN | EPOLLOUT);
}

static bool family_writable(struct core_process *process, void *)
{
    const struct member *member = process->shell;
    return member && member->watch && !channel_wants_write(member->channel);
}

/* ---- roles and templates: life --------------------------------------------------------------- */

static void on_member_exited(uint64_t, const struct env_linux_exit *exit, void *data)
{
    struct member *member = data;
    struct core_process *process = member->process;
    env_linux_unwatch(take_ptr(member->watch));
    /* What was said before, a clone's name too; who has not said it by now cannot, and ends. */
    channel_hear_no_more(member->channel);
    member_read(member, UINT32_MAX);
    process->shell = NULL;
    channel_free(member->channel);
    free(member);
    core_process_exited(process, exit->wait_status);
}

/* A template reads no more of our environment than what says how it logs and is checked. */
static void template_environment(const char *ret[static 8])
{
    static const char *const names[] = { "PERIGEE_LOG", "ASAN_OPTIONS", "UBSAN_OPTIONS",
                                         "LSAN_OPTIONS", "TSAN_OPTIONS" };
    static char texts[sizeof names / sizeof *names][512];
    size_t count = 0;
    ret[count++] = "ORT_DISABLE_TELEMETRY=1";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value &&
            snprintf(texts[i], sizeof *texts, "%s=%s", names[i], value) < (int)sizeof *texts)
            ret[count++] = texts[i];
    }
    ret[count] = NULL;
}

static int member_spawn(struct member *member, const struct spawn_detail *detail, struct err *err)
{
    struct core_process *process = member->process;
    struct family *family = member->family;
    char path[MESSAGE_PATH_BYTES + 64];
    const char *environment[8];
    const char *role[] = { "perigee", "role", role_name(process->role), NULL };
    const char *template[] = { path, NULL };
    struct env_spawn spawn = { SPAWN_SELF, role, (const char *const *)environ, detail };
    if (process->role == ROLE_TEMPLATE) {
        (void)snprintf(path, sizeof path, "%s/perigee-worker-%s", family->libdir, process->runtime);
        if (access(path, X_OK) < 0)
            return err_set(err, ERR_NOT_FOUND, "there is no runtime '%s' here ('%s': %s)",
                           process->runtime, path, strerror(errno));
        template_environment(environment);
        spawn = (struct env_spawn){ path, template, environment, detail };
    }
    return env_linux_spawn(family->world, &spawn, on_member_exited, member, &member->id,
                           &process->pid, err);
}

static int family_start(struct core_process *process, void *data, struct err *err)
{
    struct family *family = data;
    int fds[2], r = channel_pair(fds, err);
    if (r < 0)
        return r;
    auto_close int theirs = fds[1];
    bool template = process->role == ROLE_TEMPLATE;
    struct spawn_detail detail = {
        .channel_fd = theirs,
        .lifeline_fd = family->lifeline_fd,
        .oom_score_adj = template                        ? OOM_TEMPLATE
                         : process->role == ROLE_GATEWAY ? OOM_GATEWAY
                                                         : OOM_ROLE,
    };
    if (template) /* has nothing else to do than to wait for it */
        (void)fcntl(theirs, F_SETFL, 0);
    struct member *member = mem_zalloc(sizeof *member);
    member->family = family;
    member->process = process;
    member->channel = channel_new(fds[0]);
    r = member_spawn(member, &detail, err);
    if (r < 0) {
        channel_free(member->channel);
        free(member);
        return r;
    }
    member->watch = env_linux_watch(family->world, fds[0], EPOLLIN, on_member_event, member);
    process->shell = member;
    return 0;
}

static int family_restore(struct core_process *process, int channel_fd, void *data, struct err *err)
{
    struct family *family = data;
    struct member *member = mem_zalloc(sizeof *member);
    member->family = family;
    member->process = process;
    member->channel = channel_new(channel_fd);
    int r =
        env_linux_adopt(family->world, process->pid, on_member_exited, member, &member->id, err);
    if (r < 0) {
        channel_free(member->channel);
        free(member);
        return r;
    }
    member->watch = env_linux_watch(family->world, channel_fd, EPOLLIN, on_member_event, member);
    process->shell = member;
    return 0;
}

static int family_channel(struct core_process *process, void *)
{
    const struct member *member = process->shell;
    return channel_fd(member->channel);
}

static void family_kill(struct core_process *process, void *)
{
    if (process->shell)
        member_kill(process->shell);
}

/* ---- replicas -------------------------------------------------------------------------------- */

static void on_child_exited(uint64_t, const struct env_linux_exit *exit, void *data)
{
    struct child *child = data;
    struct core_replica *replica = child->replica;
    core_replica_set_shell(replica, NULL);
    if (cgroups_remove(&child->family->cgroups, core_replica_id(replica)))
        core_replica_out_of_memory(replica);
    env_linux_unwatch(child->watch);
    env_timer_stop(env_linux_env(child->family->world), &child->pause);
    free(child);
    core_replica_exited(replica, exit->wait_status, &exit->usage);
}

static void on_pause_over(struct env_timer *, void *data)
{
    struct child *child = data;
    if (child->watch)
        env_linux_watch_set(child->watch, EPOLLIN);
}

static void on_log(uint32_t events, void *data)
{
    struct child *child = data;
    if (!core_replica_log(child->replica) ||
        (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN))) {
        env_linux_unwatch(take_ptr(child->watch));
        return;
    }
    env_linux_watch_set(child->watch, 0);
    env_timer_start(env_linux_env(child->family->world), &child->pause, LOG_PAUSE_NS, on_pause_over,
                    child);
}

static enum perigee_group family_group(struct core_replica *replica,
                                       int ret_fds[static PERIGEE_GROUPS_MAX], uint32_t *ret_groups,
                                       void *data)
{
    struct family *family = data;
    uint64_t memory;
    uint32_t processes;
    core_replica_bounds(replica, &memory, &processes);
    *ret_groups =
        cgroups_open(&family->cgroups, core_replica_id(replica), memory, processes, ret_fds);
    return *ret_groups == 0               ? PERIGEE_GROUP_NONE
           : family->cgroups.version == 2 ? PERIGEE_GROUP_FOLDER
                                          : PERIGEE_GROUP_TASKS;
}

static void family_ungroup(struct core_replica *replica, void *data)
{
    struct family *family = data;
    (void)cgroups_remove(&family->cgroups, core_replica_id(replica));
}

static int family_adopt(struct core_replica *replica, pid_t pid, void *data, struct err *err)
{
    struct family *family = data;
    struct child *child = mem_zalloc(sizeof *child);
    child->family = family;
    child->replica = replica;
    int r = env_linux_adopt(family->world, pid, on_child_exited, child, &child->id, err);
    if (r < 0) {
        free(child);
        return r;
    }
    uint64_t memory;
    uint32_t processes;
    core_replica_bounds(replica, &memory, &processes);
    bool inside = cgroups_enter(&family->cgroups, core_replica_id(replica), pid, memory, processes);
    core_replica_set_cgroup(replica, inside ? family->cgroups.version : 0);
    child->watch =
        env_linux_watch(family->world, core_replica_log_fd(replica), EPOLLIN, on_log, child);
    core_replica_set_shell(replica, child);
    return 0;
}

static void family_kill_replica(struct core_replica *replica, void *)
{
    const struct child *child = core_replica_shell(replica);
    if (child)
        env_process_kill(env_linux_env(child->family->world), child->id, SIGKILL);
}

static const char *family_no_cgroup(void *data)
{
    const struct family *family = data;
    return family->cgroups.version ? "it could not be made" : family->cgroups.why;
}

static int family_look(pid_t pid, const struct walls_expected *expected, uint32_t *ret_walls,
                       void *, struct err *err)
{
    return walls_look(pid, expected, ret_walls, err);
}

/* It may have been a clone, whose group could not be removed while it lived. */
static void on_orphan_exited(uint64_t, const struct env_linux_exit *, void *data)
{
    cgroups_sweep(&((struct family *)data)->cgroups);
}

static bool orphan_end(struct family *family, pid_t pid)
{
    uint64_t id;
    struct err err;
    if (env_linux_adopt(family->world, pid, on_orphan_exited, family, &id, &err) < 0)
        return false;
    env_process_kill(env_linux_env(family->world), id, SIGKILL);
    return true;
}

static void family_end(pid_t pid, void *data)
{
    (void)orphan_end(data, pid);
}

static void family_kill_orphans(void *data)
{
    static pid_t pids[CHILDREN_MAX];
    struct family *family = data;
    size_t count = spawn_children(pids, CHILDREN_MAX);
    for (size_t i = 0; i < count; i++)
        if (!env_linux_watches(family->world, pids[i]) && orphan_end(family, pids[i]))
            log_warn("supervisor", "a child nobody asked for, killing it", LOG_I("pid", pids[i]));
}

/* ---- all
 * ------------------------------------------------------------------------------------------------
 */

static void family_ready(void *data)
{
    supervisor_on_ready(((struct family *)data)->supervisor);
}

static void family_ended(void *data)
{
    supervisor_on_ended(((struct family *)data)->supervisor);
}

static void family_upgrade(uint32_t state, const char *text, void *data)
{
    supervisor_on_upgrade(((struct family *)data)->supervisor, state, text);
}

const struct core_ops family_ops = {
    .start = family_start,
    .restore = family_restore,
    .channel = family_channel,
    .kill = family_kill,
    .send = family_send,
    .writable = family_writable,
    .group = family_group,
    .ungroup = family_ungroup,
    .adopt = family_adopt,
    .kill_replica = family_kill_replica,
    .look = family_look,
    .no_cgroup = family_no_cgroup,
    .kill_orphans = family_kill_orphans,
    .end = family_end,
    .on_ready = family_ready,
    .on_ended = family_ended,
    .on_upgrade = family_upgrade,
};

struct family *family_new(struct env_linux *world, struct supervisor *supervisor,
                          const char *libdir, int lifeline_fd)
{
    struct family *family = mem_zalloc(sizeof *family);
    *family = (struct family){ world, supervisor, libdir, lifeline_fd, {} };
    cgroups_init(&family->cgroups);
    return family;
}

void family_free(struct family *family)
{
    if (family)
        cgroups_deinit(&family->cgroups);
    free(family);
}
