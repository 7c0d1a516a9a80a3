/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cores that a revision's replicas have in use, by the kernel's times in /proc/PID/stat (proc(5)):
 * of scale.cpu alone, a few times a second for each replica.
 */
#include <string.h>
#include <unistd.h>

#include "pop/agent.h"
#include "sys/proc.h"

enum { STAT_BYTES = 1024, FIELD_USER = 14, FIELD_SYSTEM = 15 };

/* Ticks that it has run; 0: it is gone, or cannot be looked at. */
static uint64_t ticks_of(int32_t pid)
{
    char text[STAT_BYTES];
    uint64_t user = 0, kernel = 0;
    if (proc_read(pid, "stat", text, sizeof text) == 0)
        return 0;
    const char *name_end = strrchr(text, ')'); /* a name may hold anything */
    struct slice rest = slice_of(name_end ? name_end + 2 : "");
    for (int field = 3; field <= FIELD_SYSTEM && rest.data; field++) {
        struct slice value = slice_cut(&rest, ' ');
        if ((field == FIELD_USER && !slice_u64(value, &user)) ||
            (field == FIELD_SYSTEM && !slice_u64(value, &kernel)))
            return 0;
    }
    return user + kernel;
}

float agent_cores_used(struct pop_revision *revision, void *data)
{
    struct agent *agent = data;
    struct pop_replica *replica;
    int64_t now_ns = env_now_ns(agent->env);
    float second_ticks = (float)sysconf(_SC_CLK_TCK), cores = 0;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        uint64_t us;
        if (replica->pid <= 0)
            continue;
        uint64_t ticks = revision->driver != POP_DRIVER_ENGINE ? ticks_of(replica->pid)
                         : agent_usage_cpu_us(agent, replica->id, &us)
                             ? us * (uint64_t)second_ticks / 1'000'000
                             : 0;
        float seconds = (float)(now_ns - replica->ticks_ns) / 1e9f;
        if (replica->ticks_ns && ticks >= replica->ticks && seconds > 0)
            cores += (float)(ticks - replica->ticks) / second_ticks / seconds;
        replica->ticks = ticks;
        replica->ticks_ns = now_ns;
    }
    return cores;
}
