/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/decision.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "contract/decision.h"
#include "contract/gateway_metrics.h"
#include "gateway/core.h"
#include "gateway/forward.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "policy/route.h"

/* ---- what the choice was made of ------------------------------------------------------------ */

/* Without draws, and what is excluded last: only of more than there is room for it decides. */
static float rough_ms(const struct route_pops *pops, const struct route_endpoint *endpoint,
                      const struct route_query *query, size_t at)
{
    uint32_t pop = endpoint->pop[at];
    float rtt = query->rtt_ms ? query->rtt_ms[pop] : NAN;
    bool out = pops->health[pop] > ROUTE_DRAINING ||
               (query->process && !countries_has(query->process, pops->country[pop]));

    return (rtt >= 0 ? rtt : ROUTE_RTT_FAR_MS) + endpoint->wait_ms[at] + endpoint->service_ms[at] +
           endpoint->start_ms[at] + (out ? 1e6f : 0);
}

/* Those of the endpoint's that are kept, by index; how many. */
static size_t best_of(const struct route_pops *pops, const struct route_endpoint *endpoint,
                      const struct route_query *query, size_t ret[static DECISION_POPS_MAX])
{
    float ms[DECISION_POPS_MAX];
    size_t count = 0;

    if (endpoint->count <= DECISION_POPS_MAX) {
        for (; count < endpoint->count; count++)
            ret[count] = count;
        return count;
    }
    for (size_t i = 0; i < endpoint->count; i++) {
        float own = rough_ms(pops, endpoint, query, i);
        if (count == DECISION_POPS_MAX && !(own < ms[count - 1]))
            continue;
        size_t at = count < DECISION_POPS_MAX ? count++ : count - 1;
        for (; at > 0 && own < ms[at - 1]; at--) {
            ms[at] = ms[at - 1];
            ret[at] = ret[at - 1];
        }
        ms[at] = own;
        ret[at] = i;
    }
    return count;
}

static struct decision_pop *pop_add(struct decision_record *decision,
                                    const struct table_head *table, const struct route_pops *pops,
                                    const struct route_query *query, uint32_t pop)
{
    struct decision_pop *row = &decision->pops[decision->pop_count++];
    struct slice name = table_text(table, table_pop(table, pop)->name);

    *row = (struct decision_pop){
        .key = pops->key ? pops->key[pop] : pop,
        .x = pops->x[pop],
        .y = pops->y[pop],
        .z = pops->z[pop],
        .rtt_ms = query->rtt_ms ? query->rtt_ms[pop] : NAN,
        .country = pops->country[pop],
        .health = pops->health[pop],
    };
    memcpy(row->name, name.data, name.size < sizeof row->name ? name.size : sizeof row->name - 1);
    return row;
}

static void pops_keep(struct decision_record *decision, const struct table_head *table,
                      const struct route_pops *pops, const struct route_endpoint *endpoint,
                      const struct route_query *query)
{
    size_t best[DECISION_POPS_MAX], count = best_of(pops, endpoint, query, best), next = 0;

    decision->pop_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct decision_pop *row = pop_add(decision, table, pops, query, endpoint->pop[best[i]]);
        row->placed = true;
        row->wait_ms = endpoint->wait_ms[best[i]];
        row->service_ms = endpoint->service_ms[best[i]];
        row->start_ms = endpoint->start_ms[best[i]];
        row->weight = endpoint->weight[best[i]];
    }
    for (uint32_t pop = 0; pop < pops->count && decision->pop_count < DECISION_POPS_MAX; pop++) {
        if (next < endpoint->count && endpoint->pop[next] == pop)
            next++; /* it has been, or there is no room */
        else
            (void)pop_add(decision, table, pops, query, pop);
    }
}

void decision_keep(struct decision_record *decision, const struct table_head *table,
                   const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query)
{
    decision->client_known = query->client_known;
    decision->x = query->client.x;
    decision->y = query->client.y;
    decision->z = query->client.z;
    decision->measured = query->rtt_ms != NULL;
    decision->limited = query->process != NULL;
    decision->process = query->process ? *query->process : (struct countries){};
    decision->seed = query->seed;
    decision->enough_ms = query->enough_ms;
    pops_keep(decision, table, pops, endpoint, query);
}

void decision_note(struct request *request, const struct table_head *table,
                   const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query, const char *why)
{
    if (!request->decision)
        request->decision = ARENA_NEW(request->arena, struct decision_record);
    decision_keep(request->decision, table, pops, endpoint, query);
    snprintf(request->decision->why, sizeof request->decision->why, "%s", why);
}

/* ---- its end -------------------------------------------------------------------------------- */

void decision_close(struct request *request)
{
    struct decision_record *decision = request->decision;
    struct decision_record plain;
    const struct table_head *table = request->table ? request->table->head : NULL;
    char country[3];

    if (!request->infer || !request->row || request->denied || request->unlogged ||
        !request->gl->decisions || request->decided)
        return;
    request->decided = true;
    if (!decision) { /* nobody else was looked at: its end is not copied */
        decision = &plain;
        memset(decision, 0, offsetof(struct decision_record, pops));
        snprintf(decision->why, sizeof decision->why, "here");
    }
    country_code_of(residency_client(request), country);
    struct slice own = table_text(table, table->pop);
    const char *other = request->relayed && request->forward ? forward_pop(request) : "";
    snprintf(decision->id, sizeof decision->id, "%s", request->id);
    snprintf(decision->country, sizeof decision->country, "%s", country);
    snprintf(decision->chosen, sizeof decision->chosen, "%.*s", *other ? 0 : (int)own.size,
             own.data);
    if (*other)
        snprintf(decision->chosen, sizeof decision->chosen, "%s", other);
    decision->endpoint = request->row->uid;
    decision->at_s = loop_wall_s();
    decision->status = (uint16_t)exchange_status(request->x);
    decision->hop = request->hop;
    bool known = request->rtt_us && !request->hop; /* else it is to another PoP */
    decision->client_rtt_ms = known ? (float)request->rtt_us / 1000 : 0;
    decision->client_rtt_source = !known                          ? DECISION_RTT_UNKNOWN
                                  : exchange_rtt_told(request->x) ? DECISION_RTT_TRUSTED
                                                                  : DECISION_RTT_TCP;
    decision_write(request->gl->decisions, decision);
}
