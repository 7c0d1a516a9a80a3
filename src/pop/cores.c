/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cores that a revision's replicas have in use, by what the kernel says each has used so far: of
 * scale.cpu alone, a few times a second for each replica.
 */
#include "pop/agent.h"
#include "sys/proc.h"

static bool used_us(struct agent *agent, const struct pop_replica *replica, uint64_t *ret)
{
    uint64_t ns;

    if (replica->revision->driver == POP_DRIVER_ENGINE)
        return agent_usage_cpu_us(agent, replica->id, ret);
    if (replica->pid <= 0 || !proc_cpu_ns(replica->pid, &ns))
        return false;
    *ret = ns / 1000;
    return true;
}

/* What cannot be looked at now is known as it was: the next look is at all the time since. */
float agent_cores_used(struct pop_revision *revision, void *data)
{
    struct agent *agent = data;
    struct pop_replica *replica;
    int64_t now_ns = env_now_ns(agent->env);
    float cores = 0;

    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        uint64_t us;
        if (!used_us(agent, replica, &us))
            continue;
        if (replica->cpu_ns && us >= replica->cpu_us && now_ns > replica->cpu_ns)
            cores += (float)(us - replica->cpu_us) * 1000 / (float)(now_ns - replica->cpu_ns);
        replica->cpu_us = us;
        replica->cpu_ns = now_ns;
    }
    return cores;
}
