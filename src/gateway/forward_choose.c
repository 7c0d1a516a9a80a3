/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where to: policy/route.h over the PoPs where the endpoint is placed, as far as residency lets
 * them process this request, by what the mesh says of each, seen from here. What is known of this
 * PoP itself is its own queue as it stands, not its report.
 */
#include <math.h>

#include "base/arena.h"
#include "contract/mesh.h"
#include "gateway/admit.h"
#include "gateway/decision.h"
#include "gateway/forward_own.h"
#include "gateway/request.h"
#include "io/loop.h"

/* From one look at other PoPs to the next, of a request that waits for a start. */
enum { LOOK_MS_MIN = 5, LOOK_MS_MAX = 1000 };

static const char *const reasons[] = {
#define REASON(name) #name,
    FORWARD_REASONS(REASON)
#undef REASON
};

/* What one choice is made of. */
struct question {
    struct request *request;
    const char *why;
    const struct table_head *table;
    const struct forward_pops *pops;
    uint32_t row;                    /* of the endpoint */
    const struct countries *process; /* where it may be processed; NULL: anywhere */
    bool here;                       /* this PoP is among them */
    bool here_alone;                 /* enough of the others were tried */
    bool cold;                       /* this PoP has no replica that is ready */
    float cold_ms;                   /* and has waited for one for so long */
    float here_wait_ms, enough_ms;
    struct forward_peer *const *tried;
    unsigned tries;
    float start_ms; /* that one is thought to take where nobody says */
};

struct places { /* of struct route_endpoint */
    uint32_t pop[ROUTE_POPS_MAX];
    float wait_ms[ROUTE_POPS_MAX], service_ms[ROUTE_POPS_MAX], start_ms[ROUTE_POPS_MAX],
        weight[ROUTE_POPS_MAX];
    size_t count;
};

static bool tried(const struct question *question, const struct forward_peer *peer)
{
    for (unsigned i = 0; i < question->tries; i++)
        if (question->tried[i] == peer)
            return true;
    return false;
}

/* Until a replica is ready there. What another PoP that the mesh reaches does not speak of, it does
 * not run yet. What has taken longer here than it usually does may take as long again. */
static float start_ms(const struct question *question, bool own, bool reached,
                      const struct mesh_load *load)
{
    bool cold = own ? question->cold : load ? load->start_ms > 0 : reached;

    if (!cold)
        return 0;
    float usual = load && load->start_ms > 0 ? load->start_ms : question->start_ms;
    return own && question->cold_ms > usual ? question->cold_ms : usual;
}

static void place_add(struct places *places, const struct question *question,
                      const struct mesh_load *loads, size_t load_count,
                      const struct table_placement *placement)
{
    const struct forward_pops *pops = question->pops;
    uint32_t mesh_row = pops->mesh_row[placement->pop];
    const struct mesh_load *load = mesh_load_at(loads, load_count, mesh_row);
    bool own = placement->pop == pops->own;
    size_t at = places->count++;

    places->pop[at] = placement->pop;
    places->wait_ms[at] = own ? question->here_wait_ms : load ? load->wait_ms : 0;
    places->service_ms[at] = load ? load->service_ms : 0;
    places->start_ms[at] = start_ms(question, own, mesh_row != UINT32_MAX, load);
    places->weight[at] = load ? load->weight : (float)placement->replicas;
}

static void places_fill(struct places *places, struct question *question)
{
    const struct table_residency *row = table_residency(question->table, question->row);
    const struct table_endpoint *endpoint = table_endpoint(question->table, question->row);
    const struct mesh_head *mesh = question->pops->mesh;
    size_t load_count = 0;
    const struct mesh_load *loads = mesh ? mesh_loads(mesh, endpoint->uid, &load_count) : NULL;

    question->start_ms =
        route_start_ms((float)endpoint->start_ms, mesh_last_start_ms(loads, load_count));
    places->count = 0;
    for (uint32_t i = 0; row && i < row->placement_count; i++) {
        const struct table_placement *placement = &table_placements(question->table, row)[i];
        bool own = placement->pop == question->pops->own;
        if (placement->pop >= question->pops->route.count || (own && !question->here) ||
            (!own &&
             (question->here_alone || tried(question, question->pops->peer[placement->pop]))))
            continue;
        place_add(places, question, loads, load_count, placement);
    }
}

/* The best, at most `max`; how many. */
static size_t choose_some(struct question *question, uint64_t seed, struct route_choice *ret,
                          size_t max)
{
    const struct route_pops *route = &question->pops->route;
    uint32_t own = question->pops->own;
    static _Thread_local struct places places;
    struct route_query query = {
        .rtt_ms = question->pops->rtt_ms,
        .process = question->process,
        .seed = seed,
        .enough_ms = question->enough_ms,
    };

    if (own < route->count) {
        query.client = (struct spot){ route->x[own], route->y[own], route->z[own] };
        query.client_known = route->x[own] != 0 || route->y[own] != 0 || route->z[own] != 0;
    }
    places_fill(&places, question);
    struct route_endpoint endpoint = { places.count,      places.pop,      places.wait_ms,
                                       places.service_ms, places.start_ms, places.weight };
    decision_note(question->request, question->table, route, &endpoint, &query, question->why);
    return route_choose(route, &endpoint, &query, ret, max);
}

/* False: there is none. */
static bool choose(struct question *question, uint64_t seed, struct route_choice *ret)
{
    return choose_some(question, seed, ret, 1) > 0;
}

static uint32_t endpoint_row(const struct request *request)
{
    return (uint32_t)(request->row - table_endpoint(request->table->head, 0));
}

bool forward_placed(const struct request *request)
{
    const struct table_head *table = request->table->head;
    const struct table_residency *row = table_residency(table, endpoint_row(request));
    struct slice own = table_text(table, table->pop);

    for (uint32_t i = 0; row && i < row->placement_count; i++) {
        const struct table_pop *pop = table_pop(table, table_placements(table, row)[i].pop);
        if (!slice_equal(table_text(table, pop->name), own))
            return true;
    }
    return false;
}

/* ---- at the head ---------------------------------------------------------------------------- */

static int pass(struct request *request, const struct forward_pops *pops,
                const struct route_choice *choice, enum forward_reason reason, struct err *err)
{
    int r = forward_start(request, pops->peer[choice->pop], reason, err);

    return r < 0 ? r : 1;
}

int forward_away(struct request *request, enum forward_reason reason, struct err *err)
{
    const struct table_head *table = request->table->head;
    struct question question = {
        .request = request,
        .why = reasons[reason],
        .table = table,
        .pops = forward_pops(request->gl->forwards, request->table, forward_upgrades(request)),
        .row = endpoint_row(request),
        .process = request->process,
    };
    struct route_choice choice;

    if (!choose(&question, shard_random(request->gl), &choice))
        return err_set(err, ERR_OVERLOADED,
                       "no PoP where endpoint '%.*s' runs and may serve this can be reached now",
                       SLICE_FMT(table_text(table, request->row->name)));
    return pass(request, question.pops, &choice, reason, err);
}

/* Is it better to wait here than to look further? Else *ret_reason is why not. */
static bool well_here(struct request *request, const struct admit_prospect *prospect,
                      enum forward_reason *ret_reason)
{
    if (!prospect->ready)
        *ret_reason = FORWARD_cold;
    else if (forward_draining(request->gl->forwards, request->table))
        *ret_reason = FORWARD_draining;
    else if (prospect->full || prospect->late || prospect->wait_ms > RTT_BASE_MS)
        *ret_reason = FORWARD_overloaded;
    else
        return true;
    return false;
}

/* When a start that has not come by then is thought to take longer than the other PoP. */
static int64_t look_ns(const struct question *question, const struct route_choice *other)
{
    float ms = other->total_ms - question->cold_ms;

    return loop_now_ns() +
           (int64_t)(ms > LOOK_MS_MIN ? ms < LOOK_MS_MAX ? ms : LOOK_MS_MAX : LOOK_MS_MIN) * ENV_MS;
}

/* It stays for a start here; where another PoP could answer it too, in such a way that it can still
 * go there. */
static int stay(struct request *request, const struct question *question,
                const struct route_choice *choices, size_t count, struct err *err)
{
    if (!question->cold || count < 2 || choices[0].pop != question->pops->own ||
        choices[1].exclusion != ROUTE_ALLOWED)
        return 0;
    int r = admit_park(request, look_ns(question, &choices[1]), err);
    return r < 0 ? r : 1;
}

int forward_begin(struct request *request, struct err *err)
{
    struct admit_prospect prospect;
    enum forward_reason reason;

    if (request->hop || !table_pop(request->table->head, 1)) /* nobody to pass it to */
        return 0;
    admit_prospect(request, &prospect);
    if (well_here(request, &prospect, &reason))
        return 0;
    const struct forward_pops *pops =
        forward_pops(request->gl->forwards, request->table, forward_upgrades(request));
    bool full = prospect.full || prospect.late;
    struct question question = {
        .request = request,
        .why = reasons[reason],
        .table = request->table->head,
        .pops = pops,
        .row = endpoint_row(request),
        .process = request->process,
        .here = true,
        .cold = !prospect.ready,
        .cold_ms = admit_cold_ms(request->revision),
        .here_wait_ms = full ? INFINITY : prospect.wait_ms,
        .enough_ms = reason == FORWARD_overloaded ? prospect.finish_ms : 0,
    };
    struct route_choice choices[2], *best = &choices[0];
    size_t count = choose_some(&question, shard_random(request->gl), choices, 2);
    if (count == 0 || best->pop == pops->own || best->exclusion != ROUTE_ALLOWED ||
        (reason == FORWARD_overloaded && !full && best->total_ms >= question.enough_ms))
        return stay(request, &question, choices, count, err);
    if (reason == FORWARD_cold)
        admit_demand(request); /* though nothing waits here */
    return pass(request, pops, best, reason, err);
}

/* Residency is asked anew: the table may be another by now. */
void forward_look(struct request *request)
{
    const struct table_head *table = request->table->head;
    struct countries process;
    enum residency_place place;
    struct err err;
    uint32_t row = endpoint_row(request);

    if (residency_again(request, table, row, &place, &process, &err) < 0) {
        answer_error(request, &err);
        return;
    }
    struct question question = {
        .request = request,
        .why = reasons[FORWARD_cold],
        .table = table,
        .pops = forward_pops(request->gl->forwards, request->table, forward_upgrades(request)),
        .row = row,
        .process = &process,
        .here = place == RESIDENCY_HERE,
        .cold = true,
        .cold_ms = admit_cold_ms(request->revision),
    };
    struct route_choice choices[2], *best = &choices[0];
    size_t count = choose_some(&question, shard_random(request->gl), choices, 2);
    if (count > 0 && best->pop != question.pops->own && best->exclusion == ROUTE_ALLOWED) {
        admit_unpark(request);
        if (pass(request, question.pops, best, FORWARD_cold, &err) < 0)
            answer_error(request, &err);
        return;
    }
    request->look_ns =
        count > 1 ? look_ns(&question, &choices[1]) : loop_now_ns() + LOOK_MS_MAX * ENV_MS;
    admit_arm(request);
}

static bool ready_here(const struct table *table, uint32_t row, float *ret_cold_ms)
{
    uint32_t revision;

    *ret_cold_ms = 0;
    if (!call_target(table, table_endpoint(table->head, row), &revision))
        return false;
    *ret_cold_ms = admit_cold_ms(table->revisions[revision]);
    return atomic_load(&table->revisions[revision]->ready) > 0;
}

static bool runs(const struct table_endpoint *row)
{
    return row->state == TABLE_ENDPOINT_RUNNING;
}

/* ---- after a try ---------------------------------------------------------------------------- */

bool forward_permitted(struct forward *forward, const struct forward_peer *peer)
{
    const struct table_head *head = forward->gl->table->head;
    struct countries process;
    enum residency_place place;
    struct err err;
    uint32_t endpoint = residency_row(forward->request, forward->gl->table);
    const struct table_residency *row =
        endpoint == TABLE_NONE ? NULL : table_residency(head, endpoint);

    if (!row || residency_again(forward->request, head, endpoint, &place, &process, &err) < 0)
        return false;
    for (uint32_t i = 0; i < row->placement_count; i++) {
        const struct table_pop *pop = table_pop(head, table_placements(head, row)[i].pop);
        if (pop && slice_equal(table_text(head, pop->name), slice_of(peer->name)))
            return countries_has(&process, (country_number)pop->country);
    }
    return false;
}

enum forward_where forward_next(struct forward *forward, struct forward_peer **ret_peer,
                                struct err *err)
{
    struct request *request = forward->request;
    struct table *table = forward->gl->table;
    struct countries process;
    struct route_choice choice;
    enum residency_place place;
    uint32_t row = residency_row(forward->request, forward->gl->table);

    if (row == TABLE_NONE)
        return FORWARD_NOWHERE;
    if (residency_again(request, table->head, row, &place, &process, err) < 0)
        return FORWARD_DENIED;
    struct question question = {
        .request = request,
        .why = "again",
        .table = table->head,
        .pops = forward_pops(forward->gl->forwards, table, forward->upgrade),
        .row = row,
        .process = &process,
        .here =
            place == RESIDENCY_HERE && runs(request->row) && runs(table_endpoint(table->head, row)),
        .here_alone = forward->tries == FORWARD_TRIES_MAX,
        .tried = forward->tried,
        .tries = forward->tries,
    };
    question.cold = !ready_here(table, row, &question.cold_ms);
    if (!choose(&question, shard_random(forward->gl), &choice))
        return FORWARD_NOWHERE;
    if (choice.pop == question.pops->own)
        return FORWARD_HERE;
    *ret_peer = question.pops->peer[choice.pop];
    return FORWARD_ELSEWHERE;
}
