/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h -- a control group for each replica, where ours can be written: a bound on its memory
 * and on its processes, and the kernel's word on whether it ran out of memory. cgroup v2 with the
 * memory and pids controllers, or those two of v1. The supervisor's alone; one thread.
 *
 * Below the supervisor's own group; under v2, where a group has either processes or groups, the
 * supervisor itself moves into one of them first. Groups that a killed supervisor has left are
 * removed by the next one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <perigee/worker.h>

#include "base/map.h"
#include "sys/cgroup.h"

struct cgroups {
    int version;                    /* 1, 2; 0: none */
    char memory[CGROUP_PATH_BYTES]; /* folder of our own group; under v2 the one of both */
    char pids[CGROUP_PATH_BYTES];   /* v1 */
    char why[128];                  /* version 0: "v1 cannot be written: Permission denied" */
    struct map waited;              /* the groups whose processes' ends are waited for */
};

void cgroups_init(struct cgroups *self);
void cgroups_deinit(struct cgroups *self); /* all replicas' are removed by now */

/* Makes the group `id`, and opens what lets a process into it that begins there, or that goes there
 * by itself (enum perigee_group). Returns how many descriptors, the caller's; 0: no group. Moving
 * another process is what the kernel makes wait, 10 ms and more. */
uint32_t cgroups_open(struct cgroups *self, uint64_t id, uint64_t memory_bytes_max,
                      uint32_t processes_max, int ret_fds[static PERIGEE_GROUPS_MAX]);
/* Sees to a process's being in the group `id`: one that is not is put into it, with what it starts.
 * False: it is in none. */
bool cgroups_enter(struct cgroups *self, uint64_t id, pid_t pid, uint64_t memory_bytes_max,
                   uint32_t processes_max);
/* Removes those of ours that are empty and that nobody has yet to remove: of clones that nobody has
 * heard of, and that lived when it was tried. */
void cgroups_sweep(const struct cgroups *self);
/* Of a reaped process, or of one that is not waited for. True when the kernel killed for memory in
 * it. */
bool cgroups_remove(struct cgroups *self, uint64_t id);
