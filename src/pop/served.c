/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who hears from control that an endpoint serves, or does not any more, or is governed otherwise,
 * finds that at the gateway: it is told only when every loop has a table that says so. What was
 * before is told until then.
 */
#include "pop/state.h"

static uint32_t shows(const struct pop_endpoint *endpoint)
{
    return endpoint->running && endpoint->wanted ? endpoint->serving : 0;
}

void pop_table_shown(struct pop *pop, uint64_t number)
{
    struct pop_endpoint *endpoint;

    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        if (endpoint->shown_generation != endpoint->generation) {
            endpoint->shown_generation = endpoint->generation;
            endpoint->generation_since = number;
        }
        if (endpoint->shown == shows(endpoint))
            continue;
        if (endpoint->shown == 0) /* it starts again, and is to be seen anew */
            endpoint->served = 0;
        endpoint->shown = shows(endpoint);
        endpoint->shown_since = number;
    }
}

void pop_table_served(struct pop *pop, uint64_t number)
{
    struct pop_endpoint *endpoint;

    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        if (endpoint->shown_since <= number)
            endpoint->served = endpoint->shown;
        if (endpoint->generation_since <= number)
            endpoint->served_generation = endpoint->shown_generation;
        if (!endpoint->wanted && !endpoint->served) /* nothing holds it any more */
            pop_reconcile_soon(pop);
    }
}

bool pop_table_awaited(const struct pop *pop)
{
    const struct pop_endpoint *endpoint;

    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        if (endpoint->served != endpoint->shown ||
            endpoint->served_generation != endpoint->shown_generation)
            return true;
    return false;
}

uint32_t pop_endpoint_served(const struct pop_endpoint *endpoint)
{
    return endpoint->served;
}
