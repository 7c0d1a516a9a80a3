/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container uses, by its control group: the one above its own, which is there before it and
 * after it, less the engine's monitor, which Podman puts beside it; or, where the engine names
 * groups itself (systemd, rootless), the one that its process is in.
 */
#include <stdio.h>

#include "pop/usage.h"
#include "sys/cgroup.h"

#define MONITOR "/conmon"

static bool folder(const struct usage_replica *replica, const char *controller, const char *group,
                   char *ret, size_t room)
{
    char path[CGROUP_PATH_BYTES];
    bool found = group[0] ? cgroup_folder(controller, group, path)
                          : cgroup_find(replica->pid, controller, path);

    return found && snprintf(ret, room, "%s", path) < (int)room;
}

void usage_group_find(struct usage_replica *replica, const char *group)
{
    replica->group_v1 =
        folder(replica, "memory", group, replica->memory_group, sizeof replica->memory_group) &&
        folder(replica, "cpuacct", group, replica->cpu_group, sizeof replica->cpu_group);
    if (!replica->group_v1 &&
        folder(replica, "", group, replica->cpu_group, sizeof replica->cpu_group))
        (void)snprintf(replica->memory_group, sizeof replica->memory_group, "%s",
                       replica->cpu_group);
    if (group[0])
        (void)snprintf(replica->monitor_group, sizeof replica->monitor_group, "%s" MONITOR,
                       replica->cpu_group);
}

static bool group_read(const struct usage_replica *replica, bool memory, struct meter_use *ret)
{
    uint64_t cpu_us = replica->cpu_group[0] ? cgroup_usage_us(replica->cpu_group) : UINT64_MAX;
    uint64_t monitor_us =
        replica->monitor_group[0] ? cgroup_usage_us(replica->monitor_group) : UINT64_MAX;

    if (cpu_us == UINT64_MAX)
        return false;
    if (monitor_us <= cpu_us)
        cpu_us -= monitor_us;
    *ret = (struct meter_use){ .cpu_us = cpu_us, .memory_kib = METER_UNKNOWN };
    if (memory) {
        uint64_t bytes = cgroup_number(
            replica->memory_group, replica->group_v1 ? "memory.usage_in_bytes" : "memory.current");
        if (bytes != UINT64_MAX)
            ret->memory_kib = bytes / 1024;
    }
    return true;
}

const struct usage_source usage_of_groups = { group_read };
