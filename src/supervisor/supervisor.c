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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "supervisor/core.h"
#include "supervisor/family.h"
#include "supervisor/handover.h"
#include "supervisor/runfiles.h"
#include "supervisor/upgrade.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/sandbox.h"
#include "sys/shm.h"
#include "sys/spawn.h"

enum { OOM_SUPERVISOR = -900, SETS_MAX = HANDOVER_SETS_MAX };

/* addresses.json is written when all roles serve; or after a while without some of them, as the
 * gateway serves from its table on disk whatever the others do. */
#define ADDRESSES_WITHIN_NS (10 * ENV_S)
#define ADDRESSES_AGAIN_NS ENV_S /* a full disk gets room again */

struct supervisor {
    const struct supervisor_config *config; /* `own` */
    struct supervisor_config own;
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
    struct upgrade *upgrade;
    uint32_t uid_base;
    uint32_t generation, generation_before, generation_last; /* of programs, counted */
    uint32_t upgrades_done, upgrades_failed;
    int before_fd;       /* the program before this one, until its successor serves */
    char back_text[512]; /* why this is the program from before an upgrade; or empty */
    bool back_due;       /* an upgrade failed half way: the program before is to come back */
    unsigned stops;      /* signals so far */
    bool ended;
};

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

/* ---- upgrades ------------------------------------------------------------------------------- */

static void upgrade_say(struct supervisor *self, uint32_t state, const char *text)
{
    struct message_upgrade_state message = MESSAGE_INIT(MESSAGE_UPGRADE_STATE);
    message.state = state;
    message.done = self->upgrades_done;
    message.failed = self->upgrades_failed;
    (void)snprintf(message.version, sizeof message.version, "%s", PERIGEE_VERSION);
    (void)snprintf(message.text, sizeof message.text, "%s", text);
    if (state != UPGRADE_STEP)
        core_tell_upgrade(self->core, &message);
    upgrade_tell(self->upgrade, &message);
}

static void upgrade_failed(const char *why, void *data)
{
    struct supervisor *self = data;
    log_error("supervisor", "no upgrade, everything is as it was", LOG_S("why", why));
    self->upgrades_failed++;
    upgrade_say(self, UPGRADE_FAILED, why);
}

static const char *upgrade_busy(void *data)
{
    struct supervisor *self = data;
    if (self->stops)
        return "Perigee is ending";
    if (core_upgrading(self->core))
        return "an upgrade is under way already";
    if (core_draining(self->core))
        return "the gateway of the upgrade before still ends its requests; try again later";
    return NULL;
}

static bool upgrade_calm(void *data)
{
    return core_calm(((struct supervisor *)data)->core);
}

/* For the program of that generation; `before_fd`: this one, should it have to come back. */
static int state_save(struct supervisor *self, uint32_t generation, int before_fd, const char *text,
                      int *ret_fd, struct err *err)
{
    struct handover_head head = {
        .set_count = (uint32_t)self->set_count,
        .flags = (self->config->control ? HANDOVER_CONTROL : 0) |
                 (self->config->dns ? HANDOVER_DNS : 0) |
                 (self->config->agent ? 0 : HANDOVER_NO_POP) |
                 (self->config->gateway ? 0 : HANDOVER_NO_GATEWAY) | (*text ? HANDOVER_BACK : 0),
        .generation = generation,
        .generation_before = self->generation,
        .generation_last = generation > self->generation_last ? generation : self->generation_last,
        .upgrades_done = self->upgrades_done,
        .upgrades_failed = self->upgrades_failed,
        .uid_base = self->uid_base,
        .lock_fd = self->lock_fd,
        .lifeline_fds = { self->lifeline[0], self->lifeline[1] },
        .socket_fd = upgrade_socket_fd(self->upgrade),
        .client_fd = upgrade_client_fd(self->upgrade),
        .before_fd = before_fd,
        .start = self->config->start,
    };
    struct handover out;
    head.start.head = (struct message_head){ MESSAGE_MAGIC, MESSAGE_START, MESSAGE_VERSION };
    head.start.role = ROLE_GATEWAY;
    (void)snprintf(head.text, sizeof head.text, "%s", text);
    core_save_counts(self->core, &head);
    handover_seal(&head);
    if (head.bytes > HANDOVER_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the state has %ju bytes", (uintmax_t)head.bytes);
    auto_free void *memory = mem_zalloc(head.bytes);
    memcpy(memory, &head, sizeof head);
    handover_place(memory, &out);
    for (size_t i = 0; i < self->set_count; i++) {
        struct handover_set *row = &out.sets[i];
        row->kind = self->addresses[i].kind;
        row->internal = self->addresses[i].internal;
        row->count = self->sets[i].count;
        for (unsigned k = 0; k < self->sets[i].count; k++)
            row->fds[k] = self->sets[i].fds[k];
        memcpy(row->text, self->sets[i].text, sizeof row->text);
    }
    core_save(self->core, &out);
    return shm_publish("perigee-state", memory, head.bytes, ret_fd, err);
}

static int upgrade_snapshot(int *ret_fd, void *data, struct err *err)
{
    struct supervisor *self = data;
    return state_save(self, self->generation_last + 1, -1, "", ret_fd, err);
}

static void keep_open(int fd, void *data)
{
    (void)fcntl(fd, F_SETFD, *(const bool *)data ? 0 : FD_CLOEXEC);
}

static int state_keep(int state_fd, bool open, struct err *err)
{
    const void *memory;
    size_t bytes;
    struct handover state;
    int r = shm_map_published(state_fd, HANDOVER_BYTES_MAX, &memory, &bytes, err);
    if (r < 0)
        return r;
    r = handover_read((void *)(uintptr_t)memory, bytes, &state, err);
    if (r == 0)
        handover_each_fd(&state, keep_open, &open);
    shm_unmap((void *)(uintptr_t)memory, bytes);
    keep_open(state_fd, &open);
    return r;
}

/* argv as it was: who looks at processes sees the same command. */
static char **arguments_same(char *text, size_t room, size_t count_max)
{
    char **arguments = mem_zalloc((count_max + 1) * sizeof *arguments);
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, room - 1);
    size_t count = 0;
    fd_close(&fd);
    for (char *at = text; size > 0 && at < text + size && count < count_max; at += strlen(at) + 1)
        arguments[count++] = at;
    if (count == 0)
        arguments[0] = "perigee";
    return arguments;
}

/* Returns only when it cannot be. */
static int become(struct supervisor *self, int binary_fd, uint32_t generation, int before_fd,
                  const char *text, struct err *err)
{
    enum { ARGUMENTS_MAX = 256, TEXT_BYTES = 64 * 1024 };
    int state = -1;
    int r = state_save(self, generation, before_fd, text, &state, err);
    if (r == 0)
        r = state_keep(state, true, err);
    if (r == 0) {
        auto_free char *words = mem_zalloc(TEXT_BYTES);
        auto_free char **arguments = arguments_same(words, TEXT_BYTES, ARGUMENTS_MAX);
        char number[16];
        (void)snprintf(number, sizeof number, "%d", state);
        (void)setenv(HANDOVER_ENVIRONMENT, number, 1);
        (void)fflush(NULL);
        (void)fexecve(binary_fd, arguments, environ);
        r = err_set(err, ERR_INTERNAL, "it cannot be run: %s", strerror(errno));
        (void)unsetenv(HANDOVER_ENVIRONMENT);
        struct err ignored;
        (void)!state_keep(state, false, &ignored);
    }
    fd_close(&state);
    return r;
}

static int upgrade_become(int binary_fd, void *data, struct err *err)
{
    struct supervisor *self = data;
    auto_close int before = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    return become(self, binary_fd, self->generation_last + 1, before, "", err);
}

static const struct upgrade_host upgrade_host = {
    .busy = upgrade_busy,
    .snapshot = upgrade_snapshot,
    .calm = upgrade_calm,
    .become = upgrade_become,
    .failed = upgrade_failed,
};

static void upgrade_over(struct supervisor *self, uint32_t state, const char *text)
{
    fd_close(&self->before_fd);
    if (state == UPGRADE_DONE)
        self->upgrades_done++;
    else
        self->upgrades_failed++;
    upgrade_say(self, state, text);
    self->back_text[0] = '\0'; /* which `text` may be */
}

/* The core's word on its processes. What failed half way is taken back by the program before. */
void supervisor_on_upgrade(struct supervisor *self, uint32_t state, const char *text)
{
    char all[1100];
    if (state == UPGRADE_STEP) {
        log_info("supervisor", "upgrade", LOG_S("step", text));
        upgrade_say(self, state, text);
    } else if (state == UPGRADE_DONE && self->back_text[0]) {
        log_error("supervisor", "the upgrade failed, the version before serves",
                  LOG_S("why", self->back_text));
        upgrade_over(self, UPGRADE_FAILED, self->back_text);
    } else if (state == UPGRADE_DONE) {
        log_info("supervisor", "the upgrade is done", LOG_S("version", PERIGEE_VERSION));
        upgrade_over(self, state, text);
    } else if (self->before_fd >= 0 && !self->stops) {
        log_error("supervisor", "the upgrade failed, going back", LOG_S("why", text));
        (void)snprintf(self->back_text, sizeof self->back_text, "%s", text);
        self->back_due = true;
    } else {
        (void)snprintf(all, sizeof all, "%s%s%s", self->back_text,
                       self->back_text[0] ? "; then " : "", text);
        log_error("supervisor", "the upgrade failed", LOG_S("why", all));
        upgrade_over(self, state, all);
    }
}

static void go_back(struct supervisor *self)
{
    struct err err = {};
    char all[1100];
    if (self->stops || !core_calm(self->core)) {
        self->back_due = !self->stops;
        return; /* it comes by here again: with what it waits for, at the latest */
    }
    self->back_due = false;
    int r = become(self, self->before_fd, self->generation_before, -1, self->back_text, &err);
    (void)snprintf(all, sizeof all, "%s; and going back failed: %s", self->back_text,
                   r < 0 ? err.message : "?");
    log_error("supervisor", "the upgrade failed", LOG_S("why", all));
    upgrade_over(self, UPGRADE_FAILED, all);
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
                       client_fd, &upgrade_host, self, &self->upgrade, err);
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
            go_back(self);
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
