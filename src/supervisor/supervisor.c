/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "supervisor/family.h"
#include "supervisor/runfiles.h"
#include "supervisor/supervisor_private.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/sandbox.h"
#include "sys/shm.h"
#include "sys/spawn.h"

enum { OOM_SUPERVISOR = -900 };

/* addresses.json is written when all roles serve; or after a while without some of them, as the
 * gateway serves from its table on disk whatever the others do. */
#define ADDRESSES_WITHIN_NS (10 * ENV_S)
#define ADDRESSES_AGAIN_NS ENV_S /* a full disk gets room again */

/* ---- listeners ----------------------------------------------------------------------------- */

/* The set that was filled in last. */
static void set_add(struct supervisor *self, uint32_t kind, bool internal)
{
    struct listen_set *set = &self->sets[self->set_count];
    self->addresses[self->set_count++] = (struct supervisor_address){ kind, internal, set->text };
    for (unsigned i = 0; i < set->count; i++) {
        struct core_listener *listener = &self->listeners[self->listener_count++];
        listener->message = (struct message_listener)MESSAGE_INIT(MESSAGE_LISTENER);
        listener->message.kind = kind;
        listener->message.loop = i;
        memcpy(listener->message.address, set->text, sizeof listener->message.address);
        listener->fd = set->fds[i];
    }
}

static int open_address(struct supervisor *self, const struct supervisor_listen *row,
                        const struct listen_address *address, struct err *err)
{
    /* Only the gateway has several loops. */
    unsigned sockets = row->kind == LISTENER_GATEWAY ? self->config->start.loops : 1;
    struct listen_set *set = &self->sets[self->set_count];
    assert(self->set_count < SETS_MAX);
    int r = row->kind == LISTENER_DNS ? listen_open_dns(row->flag, address, set, err)
                                      : listen_open(row->flag, address, sockets, set, err);
    if (r < 0)
        return r;
    set_add(self, row->kind, row->internal);
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

/* ---- what the core and the signals say ----------------------------------------------------- */

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
        if (info.ssi_signo == SIGUSR2) {
            upgrade_begin(self->upgrade);
            continue;
        }
        bool again = self->stops++ > 0;
        log_info("supervisor", again ? "ending at once" : "ending",
                 LOG_S("signal", strsignal((int)info.ssi_signo)));
        env_timer_stop(env_linux_env(self->world), &self->addresses_timer);
        runfiles_remove(self->config->start.home);
        core_stop(self->core, again);
    }
}

/* ---- life ---------------------------------------------------------------------------------- */

static int watch_signals(struct supervisor *self, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR2);
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

static int open_world(struct supervisor *self, struct err *err)
{
    raise_limits();
    int r = env_linux_new(&self->world, err);
    return r < 0 ? r : watch_signals(self, err);
}

static int core_make(struct supervisor *self, uint64_t instance_base, struct err *err)
{
    struct core_config core = {
        .start = self->config->start,
        .listeners = self->listeners,
        .listener_count = self->listener_count,
        .control = self->config->control,
        .agent = self->config->agent,
        .gateway = self->config->gateway,
        .dns = self->config->dns,
        .generation = self->generation,
        .instance_base = instance_base,
        .replica_uid_base = self->uid_base,
        .lifeline_fd = self->lifeline[0],
    };
    self->family = family_new(self->world, self, self->config->start.libdir, self->lifeline[0]);
    return core_new(env_linux_env(self->world), &core, &family_ops, self->family, &self->core, err);
}

static int upgrade_open(struct supervisor *self, int socket_fd, int client_fd, struct err *err)
{
    return upgrade_new(self->world, self->config->start.home, self->lifeline[0], socket_fd,
                       client_fd, &supervisor_upgrade_host, self, &self->upgrade, err);
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
    r = open_world(self, err);
    if (r == 0)
        r = open_listeners(self, err);
    if (r < 0)
        return r;
    if (pipe2(self->lifeline, O_CLOEXEC) < 0)
        return err_set(err, ERR_INTERNAL, "making the lifeline: %s", strerror(errno));
    runfiles_instances(env_linux_env(self->world), home, &instance_base);
    spawn_oom_score(OOM_SUPERVISOR);
    self->uid_base = sandbox_uid_base();
    self->own.start.started_ns = env_now_ns(env_linux_env(self->world));
    r = core_make(self, instance_base, err);
    if (r == 0)
        r = upgrade_open(self, -1, -1, err);
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
    upgrade_free(self->upgrade, self->config->start.home);
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
    fd_close(&self->before_fd);
    fd_close(&self->lock_fd);
    free(self);
}

static struct supervisor *supervisor_new(const struct supervisor_config *config)
{
    struct supervisor *self = mem_zalloc(sizeof *self);
    self->own = *config;
    self->config = &self->own;
    self->generation = self->generation_last = 1;
    self->lock_fd = self->signal_fd = self->lifeline[0] = self->lifeline[1] = self->before_fd = -1;
    return self;
}

static int run(struct supervisor *self, struct err *err)
{
    while (!self->ended) {
        env_linux_run(self->world, -1);
        if (self->back_due)
            supervisor_go_back(self);
    }
    return core_hopeless(self->core)
               ? err_set(err, ERR_PRECONDITION, "Perigee could not start; the reason is above")
               : 0;
}

int supervisor_run(const struct supervisor_config *config, struct err *err)
{
    struct supervisor *self = supervisor_new(config);
    int r = start(self, err);
    if (r == 0)
        r = run(self, err);
    finish(self);
    return r;
}

/* ---- in the place of another program -------------------------------------------------------- */

static void take(int fd, void *data)
{
    int *bad = data;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        *bad = fd;
}

static void restore_sets(struct supervisor *self, const struct handover *in)
{
    for (uint32_t i = 0; i < in->head->set_count; i++) {
        const struct handover_set *row = &in->sets[i];
        struct listen_set *set = &self->sets[self->set_count];
        memcpy(set->text, row->text, sizeof set->text);
        set->count = row->count;
        for (uint32_t k = 0; k < row->count; k++)
            set->fds[k] = row->fds[k];
        set_add(self, row->kind, row->internal);
    }
}

static int restore(struct supervisor *self, const struct handover *in, struct err *err)
{
    const struct handover_head *head = in->head;
    int bad = -1;
    handover_each_fd(in, take, &bad);
    if (bad >= 0)
        return err_set(err, ERR_BAD_INPUT, "descriptor %d of the state is not open", bad);
    self->lock_fd = head->lock_fd;
    self->lifeline[0] = head->lifeline_fds[0];
    self->lifeline[1] = head->lifeline_fds[1];
    self->before_fd = head->before_fd;
    self->generation = head->generation;
    self->generation_before = head->generation_before;
    self->generation_last = head->generation_last;
    self->upgrades_done = head->upgrades_done;
    self->upgrades_failed = head->upgrades_failed;
    self->flags_before = head->flags;
    self->uid_base = head->uid_base;
    if (head->flags & HANDOVER_BACK)
        memcpy(self->back_text, head->text, sizeof self->back_text);
    restore_sets(self, in);
    int r = open_world(self, err);
    if (r == 0)
        r = core_make(self, 0, err);
    if (r == 0)
        r = core_load(self->core, in, err);
    if (r == 0)
        r = upgrade_open(self, head->socket_fd, head->client_fd, err);
    if (r < 0)
        return r;
    if (head->flags & HANDOVER_READY_ONCE)
        write_addresses(self, false);
    else
        env_timer_start(env_linux_env(self->world), &self->addresses_timer, ADDRESSES_WITHIN_NS,
                        on_addresses_late, self);
    return 0;
}

int supervisor_resume(int state_fd, struct err *err)
{
    const void *memory;
    size_t bytes;
    struct handover in;
    int r = shm_map_published(state_fd, HANDOVER_BYTES_MAX, &memory, &bytes, err);
    fd_close(&state_fd);
    if (r == 0)
        r = handover_read((void *)(uintptr_t)memory, bytes, &in, err);
    if (r < 0)
        return err_wrap(err, "the state of the program before this one");
    uint32_t flags = in.head->flags;
    struct supervisor_config config = { .start = in.head->start,
                                        .control = flags & HANDOVER_CONTROL,
                                        .agent = !(flags & HANDOVER_NO_POP),
                                        .gateway =
                                            !(flags & (HANDOVER_NO_POP | HANDOVER_NO_GATEWAY)),
                                        .dns = flags & HANDOVER_DNS };
    struct err why;
    if (home_libdir(config.start.libdir, &why) < 0)
        log_error("supervisor", "no workers", LOG_S("why", why.message));
    (void)prctl(PR_SET_NAME, "perigee");
    struct supervisor *self = supervisor_new(&config);
    r = restore(self, &in, err);
    shm_unmap((void *)(uintptr_t)memory, bytes);
    if (r == 0) {
        log_info("supervisor", "here is the next program", LOG_S("version", PERIGEE_VERSION),
                 LOG_U("generation", self->generation));
        core_upgrade_begin(self->core);
        r = run(self, err);
    }
    finish(self);
    return r;
}
