/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_linux.h -- the world of base/env.h as it is: clocks, getrandom, disk, processes, and a small
 * event loop on epoll for who has no libuv (the supervisor).
 *
 * One descriptor, env_linux_fd(), is readable when something is to be done: the supervisor calls
 * env_linux_run() in a loop, a libuv process polls the descriptor and calls env_linux_run(0).
 * One thread.
 */
#pragma once

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/env.h"

struct env_linux;
struct env_linux_watch;

[[nodiscard]] int env_linux_new(struct env_linux **ret_self, struct err *err);
void env_linux_free(struct env_linux *self); /* watches and processes are forgotten, not ended */
struct env *env_linux_env(struct env_linux *self);

int env_linux_fd(const struct env_linux *self);
/* Waits at most `timeout_ms` (-1: for ever), then runs what is due: events, then timers. */
void env_linux_run(struct env_linux *self, int timeout_ms);

/* `events` are EPOLLIN, EPOLLOUT ... A watch may be ended in any callback, its own included. The
 * descriptor is borrowed: end the watch before it is closed. */
typedef void (*env_linux_watch_cb)(uint32_t events, void *data);
struct env_linux_watch *env_linux_watch(struct env_linux *self, int fd, uint32_t events,
                                        env_linux_watch_cb on_event, void *data);
void env_linux_watch_set(struct env_linux_watch *watch, uint32_t events);
void env_linux_unwatch(struct env_linux_watch *watch); /* NULL is allowed */

/* Children with all that the kernel says of their end. on_exit runs once, after the child was
 * reaped. Ids are never used twice. */
struct env_linux_exit {
    int wait_status;
    struct rusage usage;
};
typedef void (*env_linux_exit_cb)(uint64_t process, const struct env_linux_exit *exit, void *data);
[[nodiscard]] int env_linux_spawn(struct env_linux *self, const struct env_spawn *spawn,
                                  env_linux_exit_cb on_exit, void *data, uint64_t *ret_process,
                                  pid_t *ret_pid, struct err *err);
/* A child that another process made for us (CLONE_PARENT). ERR_NOT_FOUND: no child of ours. */
[[nodiscard]] int env_linux_adopt(struct env_linux *self, pid_t pid, env_linux_exit_cb on_exit,
                                  void *data, uint64_t *ret_process, struct err *err);
bool env_linux_watches(const struct env_linux *self, pid_t pid); /* a child known to us */

/* Gives env.channel_open a peer of that name: the descriptor is taken. */
void env_linux_peer(struct env_linux *self, const char *name, int fd);

/* Who carries out env.file_save (`offset` below 0) and env.file_append: a thread, where there is
 * one (io/saver.h). Without, it is done inside the call. */
#define ENV_LINUX_WHOLE (-1)
typedef void (*env_linux_save_cb)(void *saver, const char *path, int64_t offset, struct slice bytes,
                                  env_saved_cb on_saved, void *data);
void env_linux_set_saver(struct env_linux *self, env_linux_save_cb save, void *saver);

/* The file calls, for who has no env at hand (sys/disk.c). */
[[nodiscard]] int disk_read(const char *path, size_t bytes_max, struct arena *arena,
                            struct slice *ret_bytes, struct err *err);
[[nodiscard]] int disk_replace(const char *path, struct slice bytes, struct err *err);
[[nodiscard]] int disk_append(const char *path, uint64_t offset, struct slice bytes,
                              struct err *err);
/* What an env_linux_save_cb is to do: one of these two. */
[[nodiscard]] int disk_save(const char *path, int64_t offset, struct slice bytes, struct err *err);
[[nodiscard]] int disk_folder(const char *folder, struct err *err);
[[nodiscard]] int disk_remove(const char *path, struct err *err);
[[nodiscard]] int disk_list(const char *folder, struct arena *arena, struct slice **ret_names,
                            size_t *ret_count, struct err *err);
