/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/decision.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "contract/decision.h"
#include "contract/gateway_metrics.h"
#include "gateway/core.h"
#include "gateway/forward.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "policy/route.h"

/* What is allowed first, then what is placed, then by total. */
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

static struct decision_pop pop_of(const struct table_head *table, const struct route_choice *choice)
{
    struct decision_pop pop = {
        .rtt_ms = choice->rtt_ms,
        .wait_ms = choice->wait_ms,
        .felt_ms = choice->felt_ms,
        .service_ms = choice->service_ms,
        .start_ms = choice->start_ms,
        .total_ms = choice->total_ms,
        .share = choice->share,
        .exclusion = choice->exclusion,
        .rtt_source = choice->rtt_source,
        .near = choice->near,
    };
    struct slice name = table_text(table, table_pop(table, choice->pop)->name);

    snprintf(pop.name, sizeof pop.name, "%.*s", SLICE_FMT(name));
    return pop;
}

void decision_note(struct request *request, const struct table_head *table,
                   const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query, const char *why)
{
    static _Thread_local struct route_choice rows[ROUTE_POPS_MAX];
    struct decision_record *decision = request->decision;

    if (!decision)
        decision = request->decision = ARENA_NEW(request->arena, struct decision_record);
    route_explain(pops, endpoint, query, rows);
    qsort(rows, pops->count, sizeof *rows, best_first);
    decision->pop_count =
        (uint8_t)(pops->count < DECISION_POPS_MAX ? pops->count : DECISION_POPS_MAX);
    for (unsigned i = 0; i < decision->pop_count; i++)
        decision->pops[i] = pop_of(table, &rows[i]);
    snprintf(decision->why, sizeof decision->why, "%s", why);
}

void decision_close(struct request *request)
{
    struct decision_record *decision = request->decision;
    struct decision_record plain;
    const struct table_head *table = request->table ? request->table->head : NULL;
    char country[3];

    if (!request->infer || !request->row || request->denied || request->unlogged ||
        !request->gl->decisions)
        return;
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
    decision->reserved = 0;
    decision_write(request->gl->decisions, decision);
}
