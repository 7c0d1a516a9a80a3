/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/groups.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/list.h"
#include "base/slice.h"
#include "io/timer.h"
#include "sys/cgroup.h"

enum { FIRST_MS = 10, LAST_MS = 5'000 };

struct group {
    struct list link;
    char *path;
};

struct engine_groups {
    struct list all; /* struct group */
    size_t count;
    struct timer *timer;
    int64_t again_ms;
    void (*on_empty)(void *data);
    void *data;
};

static void drop(struct engine_groups *groups, struct group *group)
{
    list_remove(&group->link);
    groups->count--;
    free(group->path);
    free(group);
}

static void on_due(void *data)
{
    struct engine_groups *groups = data;
    struct group *group;

    LIST_EACH (group, &groups->all, struct group, link)
        if (cgroup_remove(group->path))
            drop(groups, group);
    if (!list_empty(&groups->all)) {
        timer_start(groups->timer, groups->again_ms);
        groups->again_ms = groups->again_ms * 2 > LAST_MS ? LAST_MS : groups->again_ms * 2;
    } else if (groups->on_empty) {
        groups->on_empty(groups->data);
    }
}

struct engine_groups *engine_groups_new(struct loop *loop)
{
    struct engine_groups *groups = mem_zalloc(sizeof *groups);

    list_init(&groups->all);
    groups->timer = timer_new(loop, on_due, groups);
    return groups;
}

void engine_groups_free(struct engine_groups *groups)
{
    struct group *group;

    if (!groups)
        return;
    LIST_EACH (group, &groups->all, struct group, link)
        drop(groups, group);
    timer_free(groups->timer);
    free(groups);
}

void engine_groups_remove(struct engine_groups *groups, const char *path)
{
    struct group *group;

    LIST_EACH (group, &groups->all, struct group, link)
        if (slice_is(slice_of(group->path), path))
            drop(groups, group);
    if (groups->count == ENGINE_GROUPS_MAX)
        drop(groups, LIST_FIRST(&groups->all, struct group, link));
    group = mem_zalloc(sizeof *group);
    group->path = mem_string(slice_of(path));
    list_append(&groups->all, &group->link);
    groups->count++;
    groups->again_ms = FIRST_MS;
    timer_start(groups->timer, 0);
}

bool engine_groups_empty(const struct engine_groups *groups)
{
    return list_empty(&groups->all);
}

void engine_groups_on_empty(struct engine_groups *groups, void (*on_empty)(void *data), void *data)
{
    groups->on_empty = on_empty;
    groups->data = data;
}

uint64_t engine_group_cpu_us(const char *path)
{
    char group[CGROUP_PATH_BYTES], beside[CGROUP_PATH_BYTES + sizeof ENGINE_GROUP_MONITOR];

    if (!cgroup_folder("cpuacct", path, group) && !cgroup_folder("", path, group))
        return 0;
    (void)snprintf(beside, sizeof beside, "%s" ENGINE_GROUP_MONITOR, group);
    uint64_t usage = cgroup_usage_us(group), monitor = cgroup_usage_us(beside);
    if (usage == UINT64_MAX)
        return 0;
    return monitor <= usage ? usage - monitor : usage;
}
