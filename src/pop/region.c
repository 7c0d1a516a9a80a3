/* SPDX-License-Identifier: Apache-2.0 */
/* What replicas write of themselves, mapped read-only. The supervisor tells of each region once:
 * one for which there is no memory is kept, and tried again. */
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "sys/fd.h"
#include "sys/shm.h"

enum { REGION_AGAIN_MS = 500 };

static void region_free(struct agent_region *region)
{
    if (!region)
        return;
    shm_unmap((void *)region->memory, region->bytes);
    fd_close(&region->fd);
    free(region);
}

static int region_map(struct agent_region *region, int fd, struct err *err)
{
    void *memory;
    int r = shm_map(fd, region->bytes, false, &memory, err);
    if (r == 0)
        region->memory = memory;
    return r;
}

static void on_again(void *data)
{
    struct agent *agent = data;
    MAP_EACH (entry, &agent->regions_later) {
        struct agent_region *region = entry->value;
        uint64_t replica = region->replica;
        struct err err = {};
        if (region_map(region, region->fd, &err) < 0)
            continue;
        fd_close(&region->fd);
        (void)map_remove_u64(&agent->regions_later, replica);
        (void)map_put_u64(&agent->regions, replica, region);
        agent_replica_look(agent, replica); /* who said that it is ready was not heard */
    }
    if (agent->regions_later.count)
        timer_start(agent->regions_again, REGION_AGAIN_MS);
}

static void later(struct agent *agent, struct agent_region *region, int *fd)
{
    region->fd = take_fd(*fd);
    (void)map_put_u64(&agent->regions_later, region->replica, region);
    if (!agent->regions_again)
        agent->regions_again = timer_new(agent->loop, on_again, agent);
    if (!timer_running(agent->regions_again))
        timer_start(agent->regions_again, REGION_AGAIN_MS);
}

void agent_region_keep(struct agent *agent, const struct message_replica_added *added, int *fd)
{
    struct err err = {};
    if (map_get_u64(&agent->regions, added->replica) ||
        map_get_u64(&agent->regions_later, added->replica))
        return;
    struct agent_region *region = mem_alloc(sizeof *region);
    *region = (struct agent_region){ added->replica, NULL, added->output_bytes, -1 };
    int r = region_map(region, *fd, &err);
    if (r == 0) {
        (void)map_put_u64(&agent->regions, added->replica, region);
    } else if (r == ERR_INTERNAL) {
        log_warn("pop", "no memory for an output region, trying again",
                 LOG_S("error", err.message));
        later(agent, region, fd);
    } else {
        log_warn("pop", "output region not mapped, ignoring", LOG_S("error", err.message));
        region_free(region);
    }
}

void agent_region_drop(struct agent *agent, uint64_t replica)
{
    region_free(map_remove_u64(&agent->regions, replica));
    region_free(map_remove_u64(&agent->regions_later, replica));
}

void agent_regions_close(struct agent *agent)
{
    MAP_EACH (entry, &agent->regions)
        region_free(entry->value);
    map_deinit(&agent->regions);
    MAP_EACH (entry, &agent->regions_later)
        region_free(entry->value);
    map_deinit(&agent->regions_later);
    timer_free(agent->regions_again);
}
