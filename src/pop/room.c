/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this PoP's limits leave to each endpoint. Control has placed no more here than fits, so that
 * as many as it has placed each may have at any time. What is left beyond that is of who needs it
 * first, until control places something else there: then who has more than its share gives way.
 * A bound is each revision's: while an update starts its own beside those that serve, an endpoint
 * has more for a moment.
 */
#include "pop/state.h"

static bool limited(const struct pop *pop)
{
    return pop->limits.replicas || pop->limits.cpu_milli || pop->limits.memory_bytes;
}

/* That are to fit at any time: what is placed, or what a schedule will have at its most. */
static uint32_t share(const struct pop_endpoint *endpoint)
{
    uint32_t count = endpoint->placed ? endpoint->replicas : (uint32_t)endpoint->spec.scale.min;
    if (!endpoint->wanted || !endpoint->running || (endpoint->placed && endpoint->replicas == 0))
        return 0;
    for (size_t i = 0; i < endpoint->floor_count; i++)
        if (endpoint->floors[i].replicas > count)
            count = endpoint->floors[i].replicas;
    return count ? count : 1;
}

static uint32_t takes(const struct pop_endpoint *endpoint)
{
    const struct pop_revision *revision;
    const struct pop_replica *replica;
    uint32_t most = share(endpoint), count = 0;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
            count += !replica->dead;
    return count > most ? count : most;
}

void pop_room_count(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    if (!limited(pop))
        return;
    pop->taken = (struct pop_room){};
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        endpoint->takes = (struct pop_room){};
        pop_room_moved(endpoint);
    }
}

void pop_room_moved(struct pop_endpoint *endpoint)
{
    struct pop_room *taken = &endpoint->pop->taken, before = endpoint->takes;
    if (!limited(endpoint->pop))
        return;
    uint64_t count = takes(endpoint);
    endpoint->takes = (struct pop_room){ count, count * endpoint->spec.flavor.cpu_milli,
                                         count * endpoint->spec.flavor.memory_bytes };
    taken->replicas += endpoint->takes.replicas - before.replicas;
    taken->cpu_milli += endpoint->takes.cpu_milli - before.cpu_milli;
    taken->memory_bytes += endpoint->takes.memory_bytes - before.memory_bytes;
}

/* Of `limit`, beside what others take, by replicas of this size. */
static uint64_t fit(uint64_t limit, uint64_t others, uint64_t each)
{
    if (!limit || !each)
        return POP_REPLICAS_MAX;
    return limit > others ? (limit - others) / each : 0;
}

uint32_t pop_room(const struct pop_endpoint *endpoint)
{
    const struct pop *pop = endpoint->pop;
    const struct pop_room *limits = &pop->limits, *taken = &pop->taken, *own = &endpoint->takes;
    if (!limited(pop))
        return POP_REPLICAS_MAX;
    const uint64_t fits[] = {
        fit(limits->replicas, taken->replicas - own->replicas, 1),
        fit(limits->cpu_milli, taken->cpu_milli - own->cpu_milli, endpoint->spec.flavor.cpu_milli),
        fit(limits->memory_bytes, taken->memory_bytes - own->memory_bytes,
            endpoint->spec.flavor.memory_bytes),
    };
    uint64_t least = POP_REPLICAS_MAX;
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        least = fits[i] < least ? fits[i] : least;
    return least > share(endpoint) ? (uint32_t)least : share(endpoint);
}
