/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walls.h -- a replica's walls as they are seen from outside, in /proc. Its own status page is not
 * asked. One thread; a few system calls.
 *
 * Seen: no_new_privs, seccomp, rlimits, capabilities, the user; the namespaces, by their names
 * where the kernel shows them to us (to root), else by what differs in them. Not to be seen by
 * anybody (Landlock, the environment and the descriptors it began with) is what its template
 * promised.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct err;

struct walls_expected {
    uint32_t walls; /* the template's promise, enum perigee_wall */
    uint32_t uid;   /* 0: ours */
};

/* Of a live child with its walls up. 0 when each wall of the promise that can be seen stands, with
 * what stands; ERR_PRECONDITION names one that does not. */
[[nodiscard]] int walls_look(pid_t pid, const struct walls_expected *expected, uint32_t *ret_walls,
                             struct err *err);
