/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walls.h -- does a container have the walls and limits that were asked for? Engines accept fields
 * that they do not know, and some that they know, and ignore them (Podman's compat API); so what
 * was asked is read back, from the engine after the create, and from the kernel after the start.
 *
 * engine_walls_look() reads /proc and the control group; the others are pure. All return 0, or
 * ERR_PRECONDITION with the wall that is missing, by name, and are asked again of each container.
 * Any thread.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "replica/engine/container.h"

#define ENGINE_WALL_MISSING "the container lacks a wall that was asked for: "

/* By what the engine says, created or running. */
[[nodiscard]] int engine_walls_check(const struct engine_container *want,
                                     const struct engine_seen *seen, struct err *err);

/* By /proc/PID/status: no_new_privs, no capability that it has or could get, a seccomp filter. */
[[nodiscard]] int engine_walls_status(struct slice status, struct err *err);

/* By the same and /proc/PID/uid_map: the user that was asked for by number. */
[[nodiscard]] int engine_walls_user(const struct engine_container *want, struct slice status,
                                    struct slice map, struct err *err);

/* By /proc/PID/limits. */
[[nodiscard]] int engine_walls_limits(const struct engine_container *want, struct slice limits,
                                      struct err *err);

/* By /proc/PID/net/dev: a loopback, and nothing else but what the kernel itself puts into each new
 * network (ends of tunnels, which are down). */
[[nodiscard]] int engine_walls_devices(struct slice devices, struct err *err);

/* By /proc/PID/mountinfo: a root that cannot be written, unless it may; /tmp and /dev/shm are
 * memory, bounded; each volume is a file system of its own, on the device made for it. */
[[nodiscard]] int engine_walls_mounts(const struct engine_container *want, struct slice mounts,
                                      struct err *err);

/* By its control group. */
struct engine_bounds {
    uint64_t memory_bytes, pids; /* UINT64_MAX: none */
    uint64_t cpu_milli;          /* UINT64_MAX: none */
    uint64_t memory_swap_bytes;  /* the same with swap; 0: the kernel does not count that */
};
[[nodiscard]] int engine_walls_bounds(const struct engine_container *want,
                                      const struct engine_bounds *bounds, struct err *err);

/* All of the kernel's, of a process that runs. ERR_NOT_FOUND: it is gone. */
[[nodiscard]] int engine_walls_look(pid_t pid, const struct engine_container *want,
                                    struct err *err);
