/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "supervisor/core.h"
#include "supervisor/family.h"
#include "supervisor/runfiles.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/sandbox.h"
#include "sys/spawn.h"

enum { OOM_SUPERVISOR = -900, SETS_MAX = 5 * LISTEN_ADDRESSES_MAX };

/* addresses.json is written when all roles serve; or after a while without some of them, as the
 * gateway serves from its table on disk whatever the others do. */
#define ADDRESSES_WITHIN_NS (10 * ENV_S)
#define ADDRESSES_AGAIN_NS ENV_S /* a full disk gets room again */

struct supervisor {
    const struct supervisor_config *config;
    struct env_linux *world;
    struct core *core;
    struct family *family;
    int lock_fd, signal_fd, lifeline[2];
    struct listen_set sets[SETS_MAX];
    struct supervisor_address addresses[SETS_MAX];
    size_t set_count;
    struct core_listener listeners[SETS_MAX * LISTEN_SET_MAX];
    size_t listener_count;
    struct env_timer addresses_timer;
    unsigned stops; /* signals so far */
    bool ended;
};

/* ---- listeners ------------------------------------------------------------------------------- */

static int open_address(struct supervisor *self, const struct supervisor_listen *row,
                        const struct listen_address *address, struct err *err)
{
    /* Only the gateway has several loops. */
    unsigned sockets = row->kind == LISTENER_GATEWAY ? self->config->start.loops : 1;
    struct listen_set *set = &self->sets[self->set_count];
    assert(self->set_count < SETS_MAX);
    int r = listen_open(row->flag, address, sockets, set, err);
    if (r < 0)
        return r;
    self->addresses[self->set_count++] =
        (struct supervisor_address){ row->kind, row->internal, set->text };
    for (unsigned i = 0; i < set->count; i++) {
        struct core_listener *listener = &self->listeners[self->listener_count++];
        listener->message = (struct message_listener)MESSAGE_INIT(MESSAGE_LISTENER);
        listener->message.kind = row->kind;
        listener->message.loop = i;
        memcpy(listener->message.address, set->text, sizeof listener->message.address);
        listener->fd = set->fds[i];
    }
    return 0;
}

static int open_listeners(struct supervisor *self, struct err *err)
{
    static_assert(sizeof(((struct message_listener *)NULL)->address) == LISTEN_TEXT_BYTES);
    for (size_t i = 0; i < self->config->listen_count; i++) {
        const struct supervisor_listen *row = &self->config->listens[i];
        for (size_t a = 0; a < row->count; a++) {
            int r = open_address(self, row, &row->addresses[a], err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* ---- what the core and the signals say ------------------------------------------------------- */

static void on_addresses_again(struct env_timer *timer, void *data);

static void write_addresses(struct supervisor *self, bool again)
{
    struct err err;
    env_timer_stop(env_linux_env(self->world), &self->addresses_timer);
    if (runfiles_addresses(self->config->start.home, self->addresses, self->set_count, &err) == 0)
        return;
    if (!again)
        log_error("supervisor", "the addresses are not written down, trying again",
                  LOG_S("why", err.message));
    env_timer_start(env_linux_env(self->world), &self->addresses_timer, ADDRESSES_AGAIN_NS,
                    on_addresses_again, self);
}

static void on_addresses_again(struct env_timer *, void *data)
{
    write_addresses(data, true);
}

static void on_addresses_late(struct env_timer *, void *data)
{
    log_warn("supervisor", "not all processes are ready, going on without");
    write_addresses(data, false);
}

void supervisor_on_ready(struct supervisor *self)
{
    write_addresses(self, false);
    if (self->config->on_ready)
        self->config->on_ready(self->addresses, self->set_count, self->config->data);
}

void supervisor_on_ended(struct supervisor *self)
{
    self->ended = true;
}

static void on_signal(uint32_t, void *data)
{
    struct supervisor *self = data;
    struct signalfd_siginfo info;
    while (read(self->signal_fd, &info, sizeof info) == sizeof info) {
        bool again = self->stops++ > 0;
        log_info("supervisor", again ? "ending at once" : "ending",
                 LOG_S("signal", strsignal((int)info.ssi_signo)));
        env_timer_stop(env_linux_env(self->world), &self->addresses_timer);
        runfiles_remove(self->config->start.home);
        core_stop(self->core, again);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static int watch_signals(struct supervisor *self, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_set(err, ERR_INTERNAL, "blocking signals: %s", strerror(errno));
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD,
                 SIG_DFL); /* ignored by whoever started us, ends could not be waited for */
    self->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (self->signal_fd < 0)
        return err_set(err, ERR_INTERNAL, "watching signals: %s", strerror(errno));
    (void)env_linux_watch(self->world, self->signal_fd, EPOLLIN, on_signal, self);
    return 0;
}

/* As far as we may: a replica costs some twenty descriptors, a client one. */
static void raise_limits(void)
{
    enum { WANTED = 65536, FEW = 4096 };
    struct rlimit limit, more = { WANTED, WANTED };
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if (limit.rlim_max < WANTED && setrlimit(RLIMIT_NOFILE, &more) == 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < FEW)
        log_warn("supervisor", "few descriptors are allowed, so few clients are served",
                 LOG_U("descriptors", limit.rlim_max), LOG_U("wanted", FEW));
}

static int start(struct supervisor *self, struct err *err)
{
    const char *home = self->config->start.home;
    uint64_t instance_base;
    int r = home_make(home, err);
    if (r == 0)
        r = home_lock(home, &self->lock_fd, err);
    if (r < 0)
        return r;
    runfiles_remove(home); /* of one that was killed */
    raise_limits();
    r = env_linux_new(&self->world, err);
    if (r == 0)
        r = open_listeners(self, err);
    if (r == 0)
        r = watch_signals(self, err);
    if (r < 0)
        return r;
    if (pipe2(self->lifeline, O_CLOEXEC) < 0)
        return err_set(err, ERR_INTERNAL, "making the lifeline: %s", strerror(errno));
    runfiles_instances(env_linux_env(self->world), home, &instance_base);
    spawn_oom_score(OOM_SUPERVISOR);

    struct core_config core = {
        .start = self->config->start,
        .listeners = self->listeners,
        .listener_count = self->listener_count,
        .control = self->config->control,
        .instance_base = instance_base,
        .replica_uid_base = sandbox_uid_base(),
        .lifeline_fd = self->lifeline[0],
    };
    core.start.started_ns = env_now_ns(env_linux_env(self->world));
    self->family = family_new(self->world, self, self->config->start.libdir, self->lifeline[0]);
    r = core_new(env_linux_env(self->world), &core, &family_ops, self->family, &self->core, err);
    if (r < 0)
        return r;
    env_timer_start(env_linux_env(self->world), &self->addresses_timer, ADDRESSES_WITHIN_NS,
                    on_addresses_late, self);
    core_begin(self->core);
    return 0;
}

static void finish(struct supervisor *self)
{
    if (self->world)
        env_timer_stop(env_linux_env(self->world), &self->addresses_timer);
    core_free(self->core);
    family_free(self->family);
    for (size_t i = 0; i < self->set_count; i++)
        listen_close(&self->sets[i]);
    if (self->lock_fd >= 0)
        runfiles_remove(self->config->start.home);
    env_linux_free(self->world);
    fd_close(&self->signal_fd);
    fd_close(&self->lifeline[0]);
    fd_close(&self->lifeline[1]);
    fd_close(&self->lock_fd);
    free(self);
}

int supervisor_run(const struct supervisor_config *config, struct err *err)
{
    struct supervisor *self = mem_zalloc(sizeof *self);
    self->config = config;
    self->lock_fd = self->signal_fd = self->lifeline[0] = self->lifeline[1] = -1;
    int r = start(self, err);
    while (r == 0 && !self->ended)
        env_linux_run(self->world, -1);
    if (r == 0 && core_hopeless(self->core))
        r = err_set(err, ERR_PRECONDITION, "Perigee could not start; the reason is above");
    finish(self);
    return r;
}
