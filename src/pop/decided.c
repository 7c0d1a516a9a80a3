/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/decided.h"

#include <stdlib.h>

static int best_first(const void *a, const void *b)
{
    const struct route_choice *x = a, *y = b;
    int x_class = x->exclusion == ROUTE_ALLOWED ? 0 : x->exclusion != ROUTE_NOT_PLACED ? 1 : 2;
    int y_class = y->exclusion == ROUTE_ALLOWED ? 0 : y->exclusion != ROUTE_NOT_PLACED ? 1 : 2;
    float x_ms = x_class ? x->rtt_ms : x->total_ms, y_ms = y_class ? y->rtt_ms : y->total_ms;
    if (x_class != y_class)
        return x_class - y_class;
    return x_ms < y_ms ? -1 : x_ms > y_ms;
}

/* The arrays that route.h takes. */
struct arrays {
    float x[DECISION_POPS_MAX], y[DECISION_POPS_MAX], z[DECISION_POPS_MAX];
    float rtt_ms[DECISION_POPS_MAX];
    uint64_t key[DECISION_POPS_MAX];
    country_number country[DECISION_POPS_MAX];
    uint8_t health[DECISION_POPS_MAX];
    uint32_t pop[DECISION_POPS_MAX];
    float wait_ms[DECISION_POPS_MAX], service_ms[DECISION_POPS_MAX], start_ms[DECISION_POPS_MAX],
        weight[DECISION_POPS_MAX];
    size_t placed;
};

static void pop_put(struct arrays *arrays, uint32_t at, const struct decision_pop *pop)
{
    arrays->x[at] = pop->x;
    arrays->y[at] = pop->y;
    arrays->z[at] = pop->z;
    arrays->rtt_ms[at] = pop->rtt_ms;
    arrays->key[at] = pop->key;
    arrays->country[at] = pop->country;
    arrays->health[at] = pop->health;
    if (!pop->placed)
        return;
    arrays->pop[arrays->placed] = at;
    arrays->wait_ms[arrays->placed] = pop->wait_ms;
    arrays->service_ms[arrays->placed] = pop->service_ms;
    arrays->start_ms[arrays->placed] = pop->start_ms;
    arrays->weight[arrays->placed++] = pop->weight;
}

size_t decided_rows(const struct decision_record *decision,
                    struct route_choice ret_rows[static DECISION_POPS_MAX])
{
    struct arrays arrays = {};
    size_t count =
        decision->pop_count < DECISION_POPS_MAX ? decision->pop_count : DECISION_POPS_MAX;
    for (uint32_t i = 0; i < count; i++)
        pop_put(&arrays, i, &decision->pops[i]);
    const struct route_pops pops = { count,      arrays.x,       arrays.y,     arrays.z,
                                     arrays.key, arrays.country, arrays.health };
    const struct route_endpoint endpoint = { arrays.placed,     arrays.pop,      arrays.wait_ms,
                                             arrays.service_ms, arrays.start_ms, arrays.weight };
    const struct route_query query = {
        .client = { decision->x, decision->y, decision->z },
        .client_known = decision->client_known,
        .rtt_ms = decision->measured ? arrays.rtt_ms : NULL,
        .process = decision->limited ? &decision->process : NULL,
        .seed = decision->seed,
        .enough_ms = decision->enough_ms,
    };
    route_explain(&pops, &endpoint, &query, ret_rows);
    float client_ms = decision_client_ms(decision);
    for (size_t i = 0; i < count; i++)
        ret_rows[i].total_ms += client_ms;
    if (count > 1)
        qsort(ret_rows, count, sizeof *ret_rows, best_first);
    return count;
}
