/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/env_linux.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/list.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/spawn.h"

enum { EVENTS_A_ROUND = 64, MESSAGES_A_ROUND = 64 };

struct env_linux_watch {
    struct env_linux *self;
    struct list link; /* in `watches`, or in `graves` once ended */
    int fd;           /* -1: ended; freed after the round, which may hold an event of it */
    uint32_t events;
    env_linux_watch_cb on_event;
    void *data;
};

struct process {
    struct env_linux *self;
    struct list link;
    uint64_t id;
    pid_t pid;
    int pidfd;
    struct env_linux_watch *watch;
    env_linux_exit_cb on_exit; /* one of the two */
    env_exit_cb on_exit_plain;
    void *data;
};

struct peer {
    struct list link;
    const char *name; /* borrowed */
    int fd;
};

struct env_channel {
    struct env_linux *self;
    struct list link;
    struct channel *channel;
    struct env_linux_watch *watch;
    const struct env_channel_events *events;
    void *data;
    bool closed;            /* by us, or by the other end */
    struct env_timer timer; /* on_closed comes from the loop */
    struct err err;
};

struct saved { /* by file_save and file_append without a saver: its callback comes from the loop */
    struct env_timer timer;
    struct list link;
    struct env_linux *self;
    env_saved_cb on_saved;
    void *data;
    struct err err;
};

struct env_linux {
    struct env env; /* first: env.h's calls get a pointer to it */
    int epoll_fd, timer_fd;
    int64_t timer_due_ns; /* what timer_fd is set to; INT64_MAX: not */
    struct env_timers timers;
    struct list watches, graves, processes, peers, channels, saved;
    env_linux_save_cb save; /* NULL: none */
    void *saver;
    uint64_t process_last;
};

static struct env_linux *linux_of(struct env *env)
{
    return (struct env_linux *)env;
}

/* ---- time and randomness --------------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return now.tv_sec * ENV_S + now.tv_nsec;
}

static int64_t now_ns(struct env *)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static int64_t wall_ns(struct env *)
{
    return clock_ns(CLOCK_REALTIME);
}

static void random_bytes(struct env *, void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = getrandom((char *)bytes + done, size - done, 0);
        assert(n >= 0 || errno == EINTR); /* nothing else can happen to it */
        done += n > 0 ? (size_t)n : 0;
    }
}

/* Sets the timer descriptor to the earliest timer, when that changed. */
static void arm(struct env_linux *self)
{
    int64_t due_ns = env_timers_next_ns(&self->timers);
    if (due_ns == self->timer_due_ns)
        return;
    struct itimerspec when = {};
    if (due_ns != INT64_MAX) {
        when.it_value.tv_sec = due_ns / ENV_S;
        when.it_value.tv_nsec = due_ns % ENV_S;
        if (due_ns <= 0)
            when.it_value.tv_nsec = 1; /* zero would disarm */
    }
    int r = timerfd_settime(self->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    assert(r == 0);
    self->timer_due_ns = due_ns;
}

static void timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                        env_timer_cb on_due, void *data)
{
    struct env_linux *self = linux_of(env);
    int64_t due_ns;
    if (__builtin_add_overflow(now_ns(env), delay_ns > 0 ? delay_ns : 0, &due_ns))
        due_ns = INT64_MAX - 1;
    env_timers_start(&self->timers, timer, due_ns, on_due, data);
    arm(self);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    env_timers_stop(&linux_of(env)->timers, timer);
    arm(linux_of(env));
}

/* ---- disk ------------------------------------------------------------------------------------ */

static int file_read(struct env *, const char *path, size_t bytes_max, struct arena *arena,
                     struct slice *ret_bytes, struct err *err)
{
    return disk_read(path, bytes_max, arena, ret_bytes, err);
}

static int file_replace(struct env *, const char *path, struct slice bytes, struct err *err)
{
    return disk_replace(path, bytes, err);
}

static void saved_free(struct saved *saved)
{
    env_timers_stop(&saved->self->timers, &saved->timer);
    list_remove(&saved->link);
    free(saved);
}

static void on_saved_due(struct env_timer *, void *data)
{
    struct saved *saved = data;
    struct err err = saved->err;
    env_saved_cb on_saved = saved->on_saved;
    void *their = saved->data;
    saved_free(saved);
    on_saved(err.code ? &err : NULL, their);
}

static void begin_save(struct env *env, const char *path, int64_t offset, struct slice bytes,
                       env_saved_cb on_saved, void *data)
{
    struct env_linux *self = linux_of(env);
    if (self->save) {
        self->save(self->saver, path, offset, bytes, on_saved, data);
        return;
    }
    struct saved *saved = mem_zalloc(sizeof *saved);
    saved->self = self;
    saved->on_saved = on_saved;
    saved->data = data;
    (void)disk_save(path, offset, bytes, &saved->err); /* told by the callback */
    list_append(&self->saved, &saved->link);
    timer_start(env, &saved->timer, 0, on_saved_due, saved);
}

static void file_save(struct env *env, const char *path, struct slice bytes, env_saved_cb on_saved,
                      void *data)
{
    begin_save(env, path, ENV_LINUX_WHOLE, bytes, on_saved, data);
}

static void file_append(struct env *env, const char *path, uint64_t offset, struct slice bytes,
                        env_saved_cb on_saved, void *data)
{
    begin_save(env, path, (int64_t)offset, bytes, on_saved, data);
}

void env_linux_set_saver(struct env_linux *self, env_linux_save_cb save, void *saver)
{
    self->save = save;
    self->saver = saver;
}

static int folder_make(struct env *, const char *folder, struct err *err)
{
    return disk_folder(folder, err);
}

static int file_remove(struct env *, const char *path, struct err *err)
{
    return disk_remove(path, err);
}

static int file_list(struct env *, const char *folder, struct arena *arena,
                     struct slice **ret_names, size_t *ret_count, struct err *err)
{
    return disk_list(folder, arena, ret_names, ret_count, err);
}

/* ---- watches and the loop -------------------------------------------------------------------- */

struct env_linux_watch *env_linux_watch(struct env_linux *self, int fd, uint32_t events,
                                        env_linux_watch_cb on_event, void *data)
{
    struct env_linux_watch *watch = mem_zalloc(sizeof *watch);
    *watch = (struct env_linux_watch){ self, {}, fd, events, on_event, data };
    list_append(&self->watches, &watch->link);
    struct epoll_event event = { .events = events, .data.ptr = watch };
    int r = epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    assert(r == 0); /* only a descriptor of ours that is none can fail */
    return watch;
}

void env_linux_watch_set(struct env_linux_watch *watch, uint32_t events)
{
    if (watch->events == events)
        return;
    struct epoll_event event = { .events = events, .data.ptr = watch };
    int r = epoll_ctl(watch->self->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    assert(r == 0);
    watch->events = events;
}

void env_linux_unwatch(struct env_linux_watch *watch)
{
    if (!watch)
        return;
    (void)epoll_ctl(watch->self->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->fd = -1;
    list_remove(&watch->link);
    list_append(&watch->self->graves, &watch->link);
}

static void bury(struct env_linux *self)
{
    struct env_linux_watch *watch;
    LIST_EACH (watch, &self->graves, struct env_linux_watch, link) {
        list_remove(&watch->link);
        free(watch);
    }
}

void env_linux_run(struct env_linux *self, int timeout_ms)
{
    struct epoll_event events[EVENTS_A_ROUND];
    int count = epoll_wait(self->epoll_fd, events, EVENTS_A_ROUND, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct env_linux_watch *watch = events[i].data.ptr;
        if (watch->fd >= 0)
            watch->on_event(events[i].events, watch->data);
    }
    (void)env_timers_run(&self->timers, now_ns(&self->env));
    arm(self);
    bury(self);
}

static void on_timer_fd(uint32_t, void *data)
{
    struct env_linux *self = data;
    uint64_t expirations;
    (void)!read(self->timer_fd, &expirations, sizeof expirations);
    self->timer_due_ns = INT64_MAX; /* it has fired; env_linux_run() arms it anew */
}

int env_linux_fd(const struct env_linux *self)
{
    return self->epoll_fd;
}

/* ---- processes ------------------------------------------------------------------------------- */

static void process_free(struct process *process)
{
    env_linux_unwatch(process->watch);
    fd_close(&process->pidfd);
    list_remove(&process->link);
    free(process);
}

static void exit_plain(const struct process *process, const struct env_linux_exit *exit)
{
    const struct rusage *usage = &exit->usage;
    int64_t cpu_us = (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * INT64_C(1000000) +
                     usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
    struct env_exit plain = {
        .code = WIFEXITED(exit->wait_status) ? WEXITSTATUS(exit->wait_status) : 0,
        .signal = WIFSIGNALED(exit->wait_status) ? WTERMSIG(exit->wait_status) : 0,
        .cpu_ns = (uint64_t)(cpu_us * ENV_US),
        .memory_max = (uint64_t)usage->ru_maxrss * 1024,
    };
    process->on_exit_plain(process->id, &plain, process->data);
}

static void on_pidfd(uint32_t, void *data)
{
    struct process *process = data;
    struct env_linux_exit exit = {};
    pid_t pid = wait4(process->pid, &exit.wait_status, WNOHANG | __WALL, &exit.usage);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return;
    struct process copy = *process;
    process_free(process);
    if (copy.on_exit)
        copy.on_exit(copy.id, &exit, copy.data);
    else
        exit_plain(&copy, &exit);
}

static struct process *process_add(struct env_linux *self, pid_t pid, int pidfd)
{
    struct process *process = mem_zalloc(sizeof *process);
    process->self = self;
    process->id = ++self->process_last;
    process->pid = pid;
    process->pidfd = pidfd;
    process->watch = env_linux_watch(self, pidfd, EPOLLIN, on_pidfd, process);
    list_append(&self->processes, &process->link);
    return process;
}

int env_linux_spawn(struct env_linux *self, const struct env_spawn *spawn,
                    env_linux_exit_cb on_exit, void *data, uint64_t *ret_process, pid_t *ret_pid,
                    struct err *err)
{
    pid_t pid;
    int pidfd, r = spawn_process(spawn, &pid, &pidfd, err);
    if (r < 0)
        return r;
    struct process *process = process_add(self, pid, pidfd);
    process->on_exit = on_exit;
    process->data = data;
    *ret_process = process->id;
    *ret_pid = pid;
    return 0;
}

bool env_linux_watches(const struct env_linux *self, pid_t pid)
{
    struct list *processes = (struct list *)&self->processes; /* only looked at */
    const struct process *process;
    LIST_EACH (process, processes, struct process, link) {
        if (process->pid == pid)
            return true;
    }
    return false;
}

int env_linux_adopt(struct env_linux *self, pid_t pid, env_linux_exit_cb on_exit, void *data,
                    uint64_t *ret_process, struct err *err)
{
    siginfo_t info;
    if (pid <= 1 || env_linux_watches(self, pid) ||
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
        return err_set(err, ERR_NOT_FOUND, "process %d is no new child of this one", (int)pid);
    int pidfd, r = spawn_pidfd(pid, &pidfd, err);
    if (r < 0)
        return r;
    struct process *process = process_add(self, pid, pidfd);
    process->on_exit = on_exit;
    process->data = data;
    *ret_process = process->id;
    return 0;
}

static int process_start(struct env *env, const struct env_spawn *spawn, env_exit_cb on_exit,
                         void *data, uint64_t *ret_process, struct err *err)
{
    struct env_linux *self = linux_of(env);
    pid_t pid;
    int pidfd, r = spawn_process(spawn, &pid, &pidfd, err);
    if (r < 0)
        return r;
    struct process *process = process_add(self, pid, pidfd);
    process->on_exit_plain = on_exit;
    process->data = data;
    *ret_process = process->id;
    return 0;
}

static void process_kill(struct env *env, uint64_t id, int signal)
{
    struct process *process;
    LIST_EACH (process, &linux_of(env)->processes, struct process, link) {
        if (process->id == id)
            spawn_kill(process->pidfd, signal);
    }
}

/* ---- channels -------------------------------------------------------------------------------- */

void env_linux_peer(struct env_linux *self, const char *name, int fd)
{
    struct peer *peer = mem_zalloc(sizeof *peer);
    peer->name = name;
    peer->fd = fd;
    list_append(&self->peers, &peer->link);
}

static void env_channel_free(struct env_channel *channel)
{
    env_linux_unwatch(channel->watch);
    channel_free(channel->channel);
    env_timers_stop(&channel->self->timers, &channel->timer);
    list_remove(&channel->link);
    free(channel);
}

static void on_channel_over(struct env_timer *, void *data)
{
    struct env_channel *channel = data;
    channel->events->on_closed(channel, &channel->err, channel->data);
    env_channel_free(channel);
}

static void channel_over(struct env_channel *channel)
{
    channel->closed = true;
    env_linux_unwatch(take_ptr(channel->watch));
    timer_start(&channel->self->env, &channel->timer, 0, on_channel_over, channel);
}

static void channel_read(struct env_channel *channel)
{
    static char buffer[CHANNEL_BYTES_MAX]; /* one thread; a message is copied by who keeps it */
    for (int i = 0; i < MESSAGES_A_ROUND && !channel->closed; i++) {
        int fds[CHANNEL_FDS_MAX];
        size_t size, fd_count;
        int r = channel_receive(channel->channel, buffer, sizeof buffer, &size, fds, &fd_count,
                                &channel->err);
        if (r < 0)
            channel_over(channel);
        if (r <= 0)
            return;
        for (size_t f = 0; f < fd_count; f++) /* none are meant for this kind of channel */
            fd_close(&fds[f]);
        channel->events->on_message(channel, (struct slice){ buffer, size }, channel->data);
    }
}

static void on_channel_event(uint32_t events, void *data)
{
    struct env_channel *channel = data;
    if (events & EPOLLOUT) {
        if (channel_flush(channel->channel, &channel->err) < 0) {
            channel_over(channel);
            return;
        }
        if (!channel_wants_write(channel->channel))
            env_linux_watch_set(channel->watch, EPOLLIN);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        channel_read(channel);
}

static int env_channel_open_(struct env *env, const char *name,
                             const struct env_channel_events *events, void *data,
                             struct env_channel **ret_channel, struct err *err)
{
    struct env_linux *self = linux_of(env);
    struct peer *peer;
    LIST_EACH (peer, &self->peers, struct peer, link) {
        if (strcmp(peer->name, name) != 0)
            continue;
        struct env_channel *channel = mem_zalloc(sizeof *channel);
        channel->self = self;
        channel->channel = channel_new(peer->fd);
        channel->events = events;
        channel->data = data;
        channel->watch = env_linux_watch(self, peer->fd, EPOLLIN, on_channel_event, channel);
        list_append(&self->channels, &channel->link);
        list_remove(&peer->link);
        free(peer);
        *ret_channel = channel;
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "there is no channel to '%s'", name);
}

static int env_channel_send_(struct env *, struct env_channel *channel, struct slice message,
                             struct err *err)
{
    if (channel->closed)
        return err_set(err, ERR_CANCELED, "the channel is closed");
    int r = channel_send(channel->channel, message.data, message.size, NULL, 0, err);
    if (r == 0 && channel_wants_write(channel->channel))
        env_linux_watch_set(channel->watch, EPOLLIN | EPOLLOUT);
    return r;
}

static void env_channel_close_(struct env *, struct env_channel *channel)
{
    if (channel->closed)
        return;
    (void)err_set(&channel->err, ERR_CANCELED, "closed here");
    channel_over(channel);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct env *env_linux_env(struct env_linux *self)
{
    return &self->env;
}

int env_linux_new(struct env_linux **ret_self, struct err *err)
{
    auto_close int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    auto_close int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (epoll_fd < 0 || timer_fd < 0)
        return err_set(err, ERR_INTERNAL, "making an event loop: %s", strerror(errno));
    struct env_linux *self = mem_zalloc(sizeof *self);
    self->env = (struct env){
        .name = "linux",
        .now_ns = now_ns,
        .wall_ns = wall_ns,
        .random = random_bytes,
        .timer_start = timer_start,
        .timer_stop = timer_stop,
        .file_read = file_read,
        .file_replace = file_replace,
        .file_save = file_save,
        .file_append = file_append,
        .file_remove = file_remove,
        .file_list = file_list,
        .folder_make = folder_make,
        .channel_open = env_channel_open_,
        .channel_send = env_channel_send_,
        .channel_close = env_channel_close_,
        .process_start = process_start,
        .process_kill = process_kill,
    };
    self->epoll_fd = take_fd(epoll_fd);
    self->timer_fd = take_fd(timer_fd);
    self->timer_due_ns = INT64_MAX;
    struct list *lists[] = { &self->watches, &self->graves,   &self->processes,
                             &self->peers,   &self->channels, &self->saved };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    (void)env_linux_watch(self, self->timer_fd, EPOLLIN, on_timer_fd, self);
    *ret_self = self;
    return 0;
}

void env_linux_free(struct env_linux *self)
{
    if (!self)
        return;
    struct process *process;
    struct env_channel *channel;
    struct env_linux_watch *watch;
    struct peer *peer;
    struct saved *saved;
    LIST_EACH (saved, &self->saved, struct saved, link)
        saved_free(saved);
    LIST_EACH (channel, &self->channels, struct env_channel, link)
        env_channel_free(channel);
    LIST_EACH (process, &self->processes, struct process, link)
        process_free(process);
    LIST_EACH (peer, &self->peers, struct peer, link) {
        fd_close(&peer->fd);
        free(peer);
    }
    LIST_EACH (watch, &self->watches, struct env_linux_watch, link)
        env_linux_unwatch(watch);
    bury(self);
    env_timers_deinit(&self->timers);
    fd_close(&self->timer_fd);
    fd_close(&self->epoll_fd);
    free(self);
}
