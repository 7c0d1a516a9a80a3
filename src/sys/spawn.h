/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.h -- child processes that cannot outlive their parent and inherit nothing by accident.
 *
 * For a parent without threads. The child has the channel as descriptor 3, the read end of the
 * lifeline as 4 (perigee/worker.h), /dev/null as 0, the parent's 1 and 2, and no other; a process
 * group of its own (Ctrl-C is the parent's to handle); PR_SET_PDEATHSIG; default signal handling.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/env.h"

#define SPAWN_SELF "/proc/self/exe" /* the running program, even when its file was replaced */

struct spawn_detail {            /* for env_spawn.detail */
    int channel_fd, lifeline_fd; /* -1: none. Borrowed */
    int oom_score_adj;           /* best effort: lowering it needs a privilege */
};

/* The child's id and its pidfd, now the caller's. An exec that fails is an error here. */
[[nodiscard]] int spawn_process(const struct env_spawn *spawn, pid_t *ret_pid, int *ret_pidfd,
                                struct err *err);

/* CLOEXEC pidfd of a child not yet reaped. */
[[nodiscard]] int spawn_pidfd(pid_t pid, int *ret_pidfd, struct err *err);
bool spawn_kill(int pidfd, int signal); /* true where it is gone already, too */

/* Ids of this process's children, zombies included; at most `room`. Returns how many. */
size_t spawn_children(pid_t *ret_pids, size_t room);
void spawn_oom_score(int adjust); /* of this process, best effort */

/* The child's side, first thing in a role or template: PDEATHSIG again (it may have been lost), the
 * lifeline looked at, descriptors made close-on-exec, SIGPIPE ignored, `name` shown by ps. Exits
 * when the parent is already dead. */
void lifeline_boot(const char *name, int channel_fd, int lifeline_fd);
/* No privilege from here on, and none by an exec: for who needs none but may run as root. With
 * `uid` takes that user and group as well, and shows its memory and descriptors to no other process
 * of that user; with 0 the identity stays. After lifeline_boot(); the lifeline is watched later. */
[[nodiscard]] int spawn_unprivileged(uint32_t uid, struct err *err);
/* The read end is readable (end of file) when the parent is dead: watch it, and exit. */
bool lifeline_cut(int lifeline_fd);
