/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /endpoints/NAME/placement: where it is placed, and why not elsewhere: the decision as it
 * would be made now, by the same code, with who asks and what is short.
 */
#include <math.h>

#include "base/arena.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/decision.h"
#include "control/placement.h"
#include "control/request.h"
#include "control/routes.h"

enum { CLIENTS_SHOWN_MAX = 32 };

/* Three digits behind the point: what is below is noise. */
static void member_figure(struct json_writer *w, const char *key, float value)
{
    json_key(w, key);
    json_double(w, (double)roundf(value * 1000) / 1000);
}

static void member_country(struct json_writer *w, country_number country)
{
    char code[3];
    country_code_of(country, code);
    json_member_text(w, "country", *code ? code : NULL);
}

/* ---- PoPs ------------------------------------------------------------------------------------ */

static uint64_t ready_at(const struct hub_endpoint *endpoint, const struct hub_pop *pop)
{
    uint64_t ready = 0;
    for (size_t i = 0; i < pop->replica_count; i++)
        ready += pop->replicas[i].endpoint_uid == endpoint->snapshot->row.uid &&
                 slice_is(pop->replicas[i].state, "ready");
    return ready;
}

static void write_pop(struct json_writer *w, const struct hub_endpoint *endpoint,
                      const struct decision *decision, size_t i)
{
    const struct hub_pop *pop = decision->pops[i];
    const struct place_row *row = &decision->result.rows[i];
    bool leaves = row->replicas > 0 && row->reason == PLACE_NOT_NEEDED;
    json_object_begin(w);
    json_member_string(w, "pop", pop->name);
    member_country(w, decision->places[i].country);
    json_member_text(w, "state", hub_pop_state_word(hub_pop_state_of(pop)));
    json_member_bool(w, "chosen", row->reason == PLACE_CHOSEN);
    json_member_u64(w, "replicas", row->replicas);
    json_member_u64(w, "ready", ready_at(endpoint, pop));
    view_member_time(w, "since", row->replicas ? decision->since_ns[i] : 0);
    member_figure(w, "served_rate", row->served);
    json_member_u64(w, "room", decision->rows[i].room);
    member_figure(w, "price", decision->rows[i].price);
    json_member_text(w, "reason",
                     leaves ? "given up, and serves until those that follow it do"
                            : decision_why(w->arena, decision, i));
    json_object_end(w);
}

/* ---- who asks -------------------------------------------------------------------------------- */

/* The chosen PoP that serves them; decision->count: none may. */
static size_t nearest(const struct decision *decision, const struct place_demand *demand,
                      float *ret_ms)
{
    size_t found = decision->count;
    for (size_t i = 0; i < decision->count; i++) {
        if (decision->result.rows[i].reason != PLACE_CHOSEN ||
            !(decision->groups[demand->group].pops[i / 64] >> i % 64 & 1))
            continue;
        float ms = rtt_ms(spot_km(demand->spot, decision->rows[i].spot));
        if (found == decision->count || ms < *ret_ms) {
            found = i;
            *ret_ms = ms;
        }
    }
    return found;
}

static bool known(struct spot spot)
{
    return spot.x != 0 || spot.y != 0 || spot.z != 0;
}

static void write_clients(struct json_writer *w, const struct decision *decision, size_t d)
{
    const struct place_demand *demand = &decision->demands[d];
    const struct demand_cell *cell = &decision->cells[decision->cell_of[d]];
    float ms = 0;
    size_t pop = nearest(decision, demand, &ms);
    json_object_begin(w);
    member_country(w, cell->country);
    json_key(w, "latitude");
    if (cell->located)
        json_double(w, cell->latitude);
    else
        json_null(w);
    json_key(w, "longitude");
    if (cell->located)
        json_double(w, cell->longitude);
    else
        json_null(w);
    member_figure(w, "rate", demand->rate);
    json_key(w, "pop");
    if (pop < decision->count)
        json_string(w, decision->pops[pop]->name);
    else
        json_null(w);
    json_key(w, "rtt_ms");
    if (pop < decision->count && known(demand->spot) && known(decision->rows[pop].spot))
        json_double(w, (double)roundf(ms * 10) / 10);
    else
        json_null(w);
    json_object_end(w);
}

static void write_demand(struct json_writer *w, const struct decision *decision)
{
    float rate = 0;
    for (size_t d = 0; d < decision->demand_count; d++)
        rate += decision->demands[d].rate;
    json_key(w, "demand");
    json_object_begin(w);
    member_figure(w, "rate", rate);
    member_figure(w, "refused_rate", decision->refused);
    json_key(w, "clients");
    json_array_begin(w);
    for (size_t d = 0; d < decision->demand_count && d < CLIENTS_SHOWN_MAX; d++)
        write_clients(w, decision, d);
    json_array_end(w);
    json_object_end(w);
}

/* ---- what is short --------------------------------------------------------------------------- */

static uint32_t rooms(const struct decision *decision)
{
    size_t count = decision->floor_count;
    uint32_t sum = 0;
    for (size_t i = 0; i < decision->count; i++)
        sum += decision->result.floors[i * count + count - 1];
    return sum;
}

static void write_short(struct json_writer *w, const struct hub_endpoint *endpoint,
                        const struct decision *decision)
{
    const struct place_result *result = &decision->result;
    const struct place_input *input = &decision->input;
    unsigned groups = (unsigned)__builtin_popcountll(result->groups_without);
    json_key(w, "short");
    json_array_begin(w);
    if (endpoint->place_count == 0 && endpoint->nowhere[0])
        json_text(w, arena_format(w->arena, "it is placed nowhere: %s", endpoint->nowhere));
    if (result->spread_short && input->spread_min > 1)
        json_text(w, arena_format(w->arena, "spread.pops wants %u PoPs, %u can have it",
                                  input->spread_min, result->pops));
    if (result->min_short)
        json_text(w, arena_format(w->arena, "%s wants %u replicas, there is room for %u",
                                  decision->floor_count > 1 ? "scale.schedule" : "scale.min",
                                  input->replicas_min, rooms(decision)));
    if (groups)
        json_text(w, arena_format(w->arena,
                                  "clients whom residency sends to some PoPs alone have none there "
                                  "(%u such groups): none is up, has room, or scale.max forbids it",
                                  groups));
    if (decision->refused >= PLACE_RATE_MIN)
        json_text(w, arena_format(w->arena,
                                  "%.2f requests a second are refused by residency wherever "
                                  "replicas are",
                                  (double)decision->refused));
    if (decision->beyond >= PLACE_RATE_MIN)
        json_text(w, arena_format(w->arena,
                                  "%.2f requests a second are not looked at: residency makes more "
                                  "than %d groups of clients, these are of the least of them",
                                  (double)decision->beyond, (int)PLACE_GROUPS_MAX));
    json_array_end(w);
}

void endpoint_placement(struct request *q)
{
    struct hub_endpoint *endpoint = request_endpoint(q);
    struct decision decision;
    struct json_writer w;
    if (!endpoint)
        return;
    placement_look(q->control, q->arena, endpoint, &decision);
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "endpoint", endpoint->snapshot->row.name);
    json_member_string(&w, "project", endpoint->snapshot->row.project);
    json_key(&w, "wanted");
    json_object_begin(&w);
    json_member_u64(&w, "pops", decision.input.spread_min ? decision.input.spread_min : 1);
    json_member_u64(&w, "replicas_min", decision.floors[0]);
    json_member_u64(&w, "replicas_scheduled", decision.input.replicas_min);
    json_member_u64(&w, "replicas_max", decision.input.replicas_max);
    json_member_u64(&w, "pop_min", decision.input.pop_min ? decision.input.pop_min : 1);
    json_member_u64_or_null(&w, "pop_max", decision.input.pop_max != 0, decision.input.pop_max);
    json_object_end(&w);
    json_key(&w, "pops");
    json_array_begin(&w);
    for (size_t i = 0; i < decision.count; i++)
        write_pop(&w, endpoint, &decision, i);
    json_array_end(&w);
    write_demand(&w, &decision);
    write_short(&w, endpoint, &decision);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}
