/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /endpoints/NAME/explain: every PoP with what it would take, or the rule that leaves it out.
 * The figures come from route_explain(), as DNS and gateways have it. Of load control knows what
 * agents said last; where none has said anything yet a place counts as idle, as in DNS. Who is down
 * is what PoPs measure of each other (observed.h), not how long control has heard nothing.
 */
#include "control/explain.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/observed.h"
#include "control/routes.h"
#include "geo/cities.h"
#include "geo/midst.h"
#include "geo/sets.h"
#include "policy/residency.h"
#include "policy/route.h"
#include "policy/seed.h"

enum { CLIENT_BYTES_MAX = 256 };

/* ---- PoPs as route.h has them ---------------------------------------------------------------- */

struct row {
    const struct hub_pop *pop;
    const struct hub_place *place; /* NULL: not placed there */
    const struct hub_load *load;   /* NULL: nobody has said anything */
    const struct observed *observed;
};

struct table {
    struct row *rows; /* by name */
    size_t count;
    struct route_pops pops;
    struct route_endpoint endpoint;
};

static int by_name(const void *a, const void *b)
{
    return slice_order(((const struct row *)a)->pop->name, ((const struct row *)b)->pop->name);
}

static const struct hub_load *load_of(const struct hub_pop *pop, uint64_t uid)
{
    for (size_t i = 0; i < pop->load_count; i++)
        if (pop->loads[i].endpoint_uid == uid)
            return &pop->loads[i];
    return NULL;
}

static void rows_fill(struct control *control, struct arena *arena,
                      const struct hub_endpoint *endpoint, struct table *table)
{
    table->rows = ARENA_ARRAY(arena, struct row, control->hub.pops.count + 1);
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        if (table->count < ROUTE_POPS_MAX && hub_pop_runs(pop) &&
            hub_pop_state_of(pop) != HUB_POP_RETIRED)
            table->rows[table->count++] = (struct row){ .pop = pop };
    }
    qsort(table->rows, table->count, sizeof *table->rows, by_name);
    for (size_t i = 0; i < table->count; i++) {
        struct row *row = &table->rows[i];
        for (size_t k = 0; k < endpoint->place_count; k++)
            if (endpoint->places[k].pop == row->pop && endpoint->places[k].replicas)
                row->place = &endpoint->places[k];
        row->load = load_of(row->pop, endpoint->snapshot->row.uid);
    }
}

static void rows_observe(struct control *control, struct arena *arena, struct table *table)
{
    const struct hub_pop **pops = ARENA_ARRAY(arena, const struct hub_pop *, table->count + 1);
    for (size_t i = 0; i < table->count; i++)
        pops[i] = table->rows[i].pop;
    const struct observed *all = observed_find(control, arena, pops, table->count);
    for (size_t i = 0; i < table->count; i++)
        table->rows[i].observed = &all[i];
}

static void columns_fill(struct control *control, struct arena *arena,
                         const struct hub_endpoint *endpoint, struct table *table)
{
    size_t count = table->count, placed = 0;
    float *axes[3], *figures[4];
    uint64_t *key = ARENA_ARRAY(arena, uint64_t, count + 1);
    uint32_t *pop = ARENA_ARRAY(arena, uint32_t, count + 1);
    bool *hides = ARENA_ARRAY(arena, bool, count + 1);
    country_number *country = ARENA_ARRAY(arena, country_number, count + 1);
    uint8_t *health = ARENA_ARRAY(arena, uint8_t, count + 1);
    for (size_t i = 0; i < 3; i++)
        axes[i] = ARENA_ARRAY(arena, float, count + 1);
    for (size_t i = 0; i < 4; i++)
        figures[i] = ARENA_ARRAY(arena, float, count + 1);
    float longest_ms = 0;
    for (size_t i = 0; i < count; i++)
        if (table->rows[i].load && table->rows[i].load->last_start_ms > longest_ms)
            longest_ms = table->rows[i].load->last_start_ms;
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &table->rows[i];
        const struct pop_spec *spec = &row->pop->spec;
        struct spot spot =
            spec->located ? spot_at(spec->latitude, spec->longitude) : (struct spot){};
        axes[0][i] = spot.x;
        axes[1][i] = spot.y;
        axes[2][i] = spot.z;
        key[i] = seed_of_pop(row->pop->name);
        country[i] = hub_pop_place(control, row->pop).country;
        health[i] = row->observed->health;
        if (!row->place)
            continue;
        pop[placed] = (uint32_t)i;
        figures[0][placed] = row->load ? row->load->wait_ms : 0;
        figures[1][placed] = row->load ? row->load->service_ms : 0;
        figures[2][placed] = row->load ? row->load->start_ms
                             : row->pop->loads_told && !endpoint->snapshot->row.stopped
                                 ? route_start_ms(0, longest_ms)
                                 : 0;
        hides[placed] = row->load != NULL;
        figures[3][placed++] = row->load ? row->load->weight : (float)row->place->replicas;
    }
    table->pops = (struct route_pops){ count, axes[0], axes[1], axes[2], key, country, health };
    table->endpoint = (struct route_endpoint){ placed,     pop,        figures[0], figures[1],
                                               figures[2], figures[3], hides };
}

/* ---- saying ---------------------------------------------------------------------------------- */

static void member_ms(struct json_writer *w, const char *key, float ms)
{
    json_member_double_or_null(w, key, ms >= 0 && ms < INFINITY, (double)roundf(ms * 1000) / 1000);
}

static void write_residency(struct json_writer *w, const struct residency *residency,
                            const struct residency_verdict *verdict)
{
    json_key(w, "residency");
    json_object_begin(w);
    json_member_u64_or_null(w, "rule", residency->count && verdict->reason == RESIDENCY_ALLOWED,
                            verdict->rule + 1);
    json_member_text(w, "refused",
                     verdict->reason == RESIDENCY_ALLOWED ? NULL
                                                          : residency_reason_text(verdict->reason));
    json_object_end(w);
}

/* Who of the PoPs that ask it reaches it, and who does not. */
static void write_observed(struct json_writer *w, const struct observed *observed)
{
    json_member_bool(w, "down", observed->health == ROUTE_DOWN);
    json_member_u64(w, "reached_by", observed->reached_by);
    json_member_u64(w, "missed_by", observed->missed_by);
    json_key(w, "missed");
    json_array_begin(w);
    for (uint32_t i = 0; i < observed->missed_by && i < OBSERVED_NAMES_MAX; i++)
        json_string(w, observed->missed[i]);
    json_array_end(w);
}

static void write_pop(struct json_writer *w, struct control *control, const struct row *row,
                      const struct route_choice *choice, bool first)
{
    const struct hub_pop *pop = row->pop;
    bool allowed = choice->exclusion == ROUTE_ALLOWED;
    bool placed = choice->exclusion != ROUTE_NOT_PLACED && row->place;
    char country[3];
    country_code_of(hub_pop_place(control, pop).country, country);
    json_object_begin(w);
    json_member_string(w, "pop", pop->name);
    json_member_text(w, "country", *country ? country : NULL);
    json_member_text(w, "state", hub_pop_state_word(hub_pop_state_of(pop)));
    json_member_bool(w, "chosen", first && allowed);
    json_member_bool(w, "near", allowed && choice->near);
    member_ms(w, "share", allowed ? choice->share : 0);
    member_ms(w, "rtt_ms", choice->rtt_ms);
    json_member_text(w, "rtt_source",
                     route_rtt_source_text((enum route_rtt_source)choice->rtt_source));
    member_ms(w, "queue_ms", placed ? choice->wait_ms : NAN);
    member_ms(w, "queue_felt_ms", placed ? choice->felt_ms : NAN);
    member_ms(w, "service_ms", placed ? choice->service_ms : NAN);
    member_ms(w, "cold_ms", placed ? choice->start_ms : NAN);
    member_ms(w, "cold_felt_ms", placed ? choice->start_felt_ms : NAN);
    member_ms(w, "total_ms", placed ? choice->total_ms : NAN);
    json_member_u64(w, "replicas", row->place ? row->place->replicas : 0);
    json_member_bool(w, "load_reported", row->load != NULL);
    json_member_bool(w, "in_dns", pop->spec.addresses.count > 0 || pop->row.spec.size == 0);
    json_member_text(w, "excluded",
                     allowed ? NULL
                             : route_exclusion_text((enum route_exclusion)choice->exclusion));
    write_observed(w, row->observed);
    json_object_end(w);
}

/* The one that is drawn among near ones stands first: it is what the client gets. */
static void chosen_first(const struct table *table, const struct route_query *query,
                         struct route_choice *rows)
{
    struct route_choice first;
    if (route_choose(&table->pops, &table->endpoint, query, &first, 1) == 0)
        return;
    for (size_t i = 0; i < table->count; i++)
        if (rows[i].pop == first.pop) {
            struct route_choice row = rows[i];
            for (; i > 0; i--)
                rows[i] = rows[i - 1];
            rows[0] = row;
            return;
        }
}

void explain_write(struct control *control, struct json_writer *w,
                   const struct hub_endpoint *endpoint, const struct explain_client *client)
{
    struct arena *arena = w->arena;
    struct table table = {};
    struct residency residency = {};
    struct residency_verdict verdict = {};
    struct err err;
    rows_fill(control, arena, endpoint, &table);
    rows_observe(control, arena, &table);
    columns_fill(control, arena, endpoint, &table);
    /* Sets may be others since it was taken: then nobody is served. */
    if (residency_compile(arena, &endpoint->snapshot->spec, geo_sets_lookup, &control->sets,
                          &residency, &err) < 0)
        verdict.reason = RESIDENCY_NO_RULE;
    else
        verdict = residency_decide(&residency, client->where.country, NULL);
    bool restricted = residency.count || verdict.reason != RESIDENCY_ALLOWED;
    struct route_query query = {
        .client_known = client->where.located,
        .process = restricted ? &verdict.process : NULL,
        .seed = client->seed,
    };
    if (client->where.located)
        query.client = spot_at(client->where.latitude, client->where.longitude);
    struct route_choice *rows = ARENA_ARRAY(arena, struct route_choice, table.count + 1);
    route_explain(&table.pops, &table.endpoint, &query, rows);
    qsort(rows, table.count, sizeof *rows, route_compare);
    if (client->drawn)
        chosen_first(&table, &query, rows);
    write_residency(w, &residency, &verdict);
    json_key(w, "pops");
    json_array_begin(w);
    for (size_t i = 0; i < table.count; i++)
        write_pop(w, control, &table.rows[rows[i].pop], &rows[i], i == 0);
    json_array_end(w);
}

/* ---- the call -------------------------------------------------------------------------------- */

struct asking {
    struct slice client; /* as it was asked */
    struct explain_client found;
    struct slice name; /* of the city */
};

static const char *source_words(uint8_t source)
{
    static const char *const words[] = {
        [WHERE_UNKNOWN] = "not known",
        [WHERE_MAP] = "address map",
        [WHERE_MMDB] = "MMDB",
        [WHERE_DEFAULT] = "default",
    };
    return words[source];
}

/* Whose place it is that the figures are of: who asks need not be there. */
static void write_client(struct json_writer *w, const struct asking *asking)
{
    const struct where *where = &asking->found.where;
    const struct geo_midst *midst = where->midst ? geo_midst_of(where->country) : NULL;
    char country[3];
    country_code_of(where->country, country);
    json_key(w, "client");
    json_object_begin(w);
    json_member_string(w, "asked", asking->client);
    json_member_string_or_null(w, "city", asking->name);
    json_member_text(w, "country", *country ? country : NULL);
    json_member_double_or_null(w, "latitude", where->located, where->latitude);
    json_member_double_or_null(w, "longitude", where->located, where->longitude);
    json_member_text(w, "place", midst ? "country" : where->located ? "client" : NULL);
    json_member_text(w, "source", asking->found.source);
    json_key(w, "midst");
    if (midst) {
        json_object_begin(w);
        json_member_u64(w, "people_away_km", midst->away_km);
        json_member_text(w, "source", geo_midst_source());
        json_member_text(w, "date", geo_midst_date());
        json_object_end(w);
    } else {
        json_null(w);
    }
    json_object_end(w);
}

static void reply(struct request *q, const struct hub_endpoint *endpoint,
                  const struct asking *asking)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "endpoint", endpoint->snapshot->row.name);
    json_member_string(&w, "project", endpoint->snapshot->row.project);
    write_client(&w, asking);
    explain_write(q->control, &w, endpoint, &asking->found);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

/* The file is read for each question: they are rare, and it is 2 MB. */
static int on_city_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct asking *asking = q->data;
    struct cities *cities;
    const struct city *city;
    (void)store;
    const char *path = arena_format(q->arena, "%s/" CITIES_FILE, q->control->start.libdir);
    int r = cities_open(path, &cities, err);
    if (r < 0)
        return r;
    r = cities_look_up(cities, asking->client, &city, err);
    if (r == 0) {
        asking->name = arena_copy(q->arena, city->name);
        asking->found.where = (struct where){
            .country = city->country,
            .located = true,
            .latitude = city->latitude,
            .longitude = city->longitude,
        };
        asking->found.source = "city";
    }
    cities_free(cities);
    return r;
}

static void on_city_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct hub_endpoint *endpoint = err ? NULL : request_endpoint(q); /* it may be gone by now */
    if (err)
        request_fail(q, err);
    else if (endpoint)
        reply(q, endpoint, q->data);
}

void endpoint_explain(struct request *q)
{
    struct asking *asking = ARENA_NEW(q->arena, struct asking);
    struct hub_endpoint *endpoint = request_endpoint(q);
    struct ip ip;
    if (!endpoint)
        return;
    asking->client = request_query(q, "client");
    if (asking->client.size == 0 || asking->client.size > CLIENT_BYTES_MAX) {
        request_refuse(q, ERR_BAD_INPUT, "?client=ADDRESS or ?client=CITY says who asks");
        return;
    }
    if (!ip_parse(asking->client, &ip)) {
        q->data = asking;
        request_disk(q, on_city_run, on_city_done);
        return;
    }
    struct ip prefix = ip_cut(&ip, seed_bits(&ip));
    asking->found.where = where_find(q->control->where, &ip);
    asking->found.source = source_words(asking->found.where.source);
    asking->found.seed = seed_of_prefix(&prefix);
    asking->found.drawn = true;
    reply(q, endpoint, asking);
}
