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

#include "sys/cgroup.h"

struct cgroups {
    int version;                    /* 1, 2; 0: none */
    char memory[CGROUP_PATH_BYTES]; /* folder of our own group; under v2 the one of both */
    char pids[CGROUP_PATH_BYTES];   /* v1 */
    char why[128];                  /* version 0: "v1 cannot be written: Permission denied" */
};

void cgroups_init(struct cgroups *self);
void cgroups_deinit(struct cgroups *self); /* all replicas' are removed by now */

/* Makes the group `id` and puts a process into it, with what it starts. False: neither is done. */
bool cgroups_enter(const struct cgroups *self, uint64_t id, pid_t pid, uint64_t memory_bytes_max,
                   uint32_t processes_max);
/* Of a reaped process. True when the kernel killed for memory in it. */
bool cgroups_remove(const struct cgroups *self, uint64_t id);
