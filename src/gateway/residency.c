/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this request be processed here, or pass? Asked once its endpoint is known, from the head
 * alone: of the body nothing has been read, and 100 Continue was not said. Whoever chose this PoP
 * (DNS, a client) only advised: what counts is where the connection comes from; of what another PoP
 * passed on, what that one says under the fleet's key.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "gateway/request.h"
#include "geo/where.h"
#include "geo/where_file.h"
#include "policy/residency.h"

enum { NAMED_POPS_MAX = 16 };

static enum denial denial_of(enum residency_reason reason)
{
    switch (reason) {
    case RESIDENCY_CLIENT_UNKNOWN:
        return DENIAL_client_unknown;
    case RESIDENCY_NO_RULE:
        return DENIAL_no_rule;
    case RESIDENCY_NARROWED_AWAY:
        return DENIAL_narrowed;
    default:
        return DENIAL_place;
    }
}

country_number residency_client(const struct request *request)
{
    const struct address *client = exchange_client(request->x);
    struct ip ip;

    if (request->hop)
        return request->hop_client;
    if (client->kind == ADDRESS_IP4)
        ip = ip_from4(client->ip);
    else if (client->kind == ADDRESS_IP6)
        memcpy(ip.bytes, client->ip, sizeof ip.bytes);
    else
        return COUNTRY_UNKNOWN;
    return where_find(request->gl->gateway->where, &ip).country;
}

static country_number own_country(const struct table_head *table)
{
    return country_number_of(table_text(table, table->country));
}

static const char *country_text(struct arena *arena, country_number country)
{
    char code[3];
    country_code_of(country, code);
    return *code ? arena_string(arena, slice_of(code)) : "without a country";
}

/* "paris, rome and 3 more", of those that may process it; NULL: none. */
static const char *permitted_pops(struct request *request, const struct table_head *table,
                                  const struct countries *process)
{
    const struct table_pop *pop;
    const char *names = NULL;
    unsigned count = 0;

    for (uint32_t i = 0; (pop = table_pop(table, i)); i++) {
        if (!countries_has(process, (country_number)pop->country) || count++ >= NAMED_POPS_MAX)
            continue;
        struct slice name = table_text(table, pop->name);
        names = names ? arena_format(request->arena, "%s, %.*s", names, SLICE_FMT(name))
                      : arena_string(request->arena, name);
    }
    if (count > NAMED_POPS_MAX)
        names = arena_format(request->arena, "%s and %u more", names, count - NAMED_POPS_MAX);
    return names;
}

/* What residency says of a request, by one table. */
struct decision {
    struct residency residency;
    country_number client;
    struct residency_verdict verdict;
    enum residency_place place;
};

/* A PoP that it may not be at. */
struct barred {
    struct slice name;
    country_number country;
    const char *what; /* "be processed", "pass" */
};

/* May it not be processed there whatever the request itself allows? */
static bool ruled_out(const struct decision *decision, country_number country)
{
    struct residency_verdict wide = residency_decide(&decision->residency, decision->client, NULL);

    return !countries_has(&wide.process, country);
}

static int denied(struct request *request, const struct table_head *table,
                  const struct decision *decision, const struct barred *at, struct err *err)
{
    const struct residency_verdict *verdict = &decision->verdict;
    const char *subject =
        request->row ? arena_format(request->arena, "endpoint '%.*s'",
                                    SLICE_FMT(table_text(request->table->head, request->row->name)))
                     : "this PoP";
    const char *pops = permitted_pops(request, table, &verdict->process);
    const char *where =
        pops ? arena_format(request->arena, "permitted PoPs: %s", pops) : "no PoP is permitted";

    if (verdict->reason != RESIDENCY_ALLOWED)
        return err_set(err, ERR_RESIDENCY, "%s: %s; %s", subject,
                       residency_reason_text(verdict->reason), where);
    const char *who =
        ruled_out(decision, at->country)
            ? arena_format(request->arena, "rule %u of its residency", verdict->rule + 1)
            : "the request (Perigee-Process-In)";
    return err_set(err, ERR_RESIDENCY, "%s: %s does not let it %s at PoP '%.*s' (%s); %s", subject,
                   who, at->what, SLICE_FMT(at->name), country_text(request->arena, at->country),
                   where);
}

static struct barred own_place(const struct table_head *table, const char *what)
{
    return (struct barred){ table_text(table, table->pop), own_country(table), what };
}

static int deny(struct request *request, const struct table_head *table,
                const struct decision *decision, struct err *err)
{
    struct barred here = own_place(table, "be processed");

    request->denial = denial_of(decision->verdict.reason);
    request->denied = true;
    exchange_close_after(request->x); /* what comes is thrown away, not looked at */
    return denied(request, table, decision, &here, err);
}

/* The rules of its endpoint; of load and unload, which bring nothing to process, none. */
static struct residency rules_of(const struct request *request, const struct table_head *table,
                                 const struct table_residency *row)
{
    enum oip_call call = request->route.call;

    if (!row || call == OIP_REPOSITORY_LOAD || call == OIP_REPOSITORY_UNLOAD)
        return (struct residency){};
    return (struct residency){ table_rules(table, row), row->rule_count,
                               (country_number)row->unknown_client };
}

/* Is it placed at another PoP that may process it? */
static bool placed_within(const struct table_head *table, const struct table_residency *row,
                          const struct countries *process)
{
    struct slice own = table_text(table, table->pop);

    for (uint32_t i = 0; row && i < row->placement_count; i++) {
        const struct table_pop *pop = table_pop(table, table_placements(table, row)[i].pop);
        if (countries_has(process, (country_number)pop->country) &&
            !slice_equal(table_text(table, pop->name), own))
            return true;
    }
    return false;
}

/* Before anything is said. */
static int decide(const struct request *request, const struct table_head *table,
                  const struct table_residency *row, struct decision *ret, struct err *err)
{
    struct residency residency = rules_of(request, table, row);
    struct slice header = request->process_in;
    struct countries narrow;

    if (header.data && residency_narrow_parse(header, geo_sets_lookup, &request->gl->gateway->sets,
                                              &narrow, err) < 0)
        return err_wrap(err, "Perigee-Process-In");
    country_number client =
        residency_asks_client(&residency) ? residency_client(request) : COUNTRY_UNKNOWN;
    country_number here = own_country(table);
    *ret = (struct decision){
        .residency = residency,
        .client = client,
        .verdict = residency_decide(&residency, client, header.data ? &narrow : NULL),
    };
    if (countries_has(&ret->verdict.process, here)) {
        ret->place = RESIDENCY_HERE;
        return 0;
    }
    ret->place = !request->hop && countries_has(&ret->verdict.transit, here) &&
                         placed_within(table, row, &ret->verdict.process)
                     ? RESIDENCY_PASSES
                     : RESIDENCY_NOWHERE;
    return 0;
}

int residency_again(struct request *request, const struct table_head *table, uint32_t endpoint,
                    enum residency_place *ret, struct countries *ret_process, struct err *err)
{
    struct decision decision;
    int r = decide(request, table, table_residency(table, endpoint), &decision, err);

    if (r < 0)
        return r;
    if (decision.place == RESIDENCY_NOWHERE)
        return deny(request, table, &decision, err);
    request->unlogged = !countries_has(&decision.verdict.logs, own_country(table));
    *ret = decision.place;
    *ret_process = decision.verdict.process;
    return 0;
}

/* `passes`: whether it may be passed on counts as well. */
static int check(struct request *request, bool passes, enum residency_place *ret, struct err *err)
{
    const struct table_head *table = request->table->head;
    const struct table_residency *row = NULL;
    struct decision decision;

    *ret = RESIDENCY_HERE;
    if (request->row)
        row = table_residency(table, (uint32_t)(request->row - table_endpoint(table, 0)));
    if (rules_of(request, table, row).count == 0 && !request->process_in.data)
        return 0;
    int r = decide(request, table, row, &decision, err);
    if (r < 0)
        return r;
    if (decision.place == RESIDENCY_NOWHERE || (decision.place == RESIDENCY_PASSES && !passes))
        return deny(request, table, &decision, err);
    request->unlogged = !countries_has(&decision.verdict.logs, own_country(table));
    if (!request->process) {
        request->process = ARENA_NEW(request->arena, struct countries);
        *request->process = decision.verdict.process;
    }
    *ret = decision.place;
    return 0;
}

int residency_elsewhere(const struct request *request, struct err *err)
{
    const struct table_head *table = request->table->head;

    if (!request->row || request->row->state != TABLE_ENDPOINT_ELSEWHERE)
        return 0;
    const struct table_residency *row =
        table_residency(table, (uint32_t)(request->row - table_endpoint(table, 0)));
    return err_set(err, ERR_STOPPED, "endpoint '%.*s' is not at this PoP: %.*s",
                   SLICE_FMT(table_text(table, request->row->name)),
                   SLICE_FMT(row ? table_text(table, row->elsewhere) : (struct slice){}));
}

int residency_head(struct request *request, bool passes, enum residency_place *ret, struct err *err)
{
    request->residency_of = request->table;
    return check(request, passes, ret, err);
}

int residency_check(struct request *request, struct err *err)
{
    enum residency_place place;

    if (request->residency_of == request->table)
        return 0;
    request->residency_of = request->table;
    int r = check(request, false, &place, err);
    return r < 0 ? r : residency_elsewhere(request, err);
}

/* ---- under way ------------------------------------------------------------------------------ */

uint32_t residency_row(const struct request *request, const struct table *table)
{
    const struct table_head *old = request->table->head;
    uint32_t row = table_find_endpoint(table->head, table_text(old, request->row->project),
                                       table_text(old, request->row->name));

    return row != TABLE_NONE && table->endpoints[row] == request->endpoint ? row : TABLE_NONE;
}

/* One that the table does not have any more stands in no country. */
static country_number country_of(const struct table_head *table, struct slice name)
{
    const struct table_pop *pop;

    for (uint32_t i = 0; (pop = table_pop(table, i)); i++)
        if (slice_equal(table_text(table, pop->name), name))
            return (country_number)pop->country;
    return COUNTRY_UNKNOWN;
}

/* Where it is not placed any more it may be still: that is not the law's to say. */
int residency_under_way(struct request *request, const struct table *table, const char *pop,
                        struct err *err)
{
    const struct table_head *head = table->head;
    uint32_t endpoint = residency_row(request, table);
    const struct table_residency *row =
        endpoint == TABLE_NONE ? NULL : table_residency(head, endpoint);
    struct barred here = own_place(head, pop ? "pass" : "be processed"), there = here;
    struct decision decision;

    if (!row || (rules_of(request, head, row).count == 0 && !request->process_in.data))
        return 0;
    int r = decide(request, head, row, &decision, err);
    if (r < 0)
        return r;
    request->unlogged = !countries_has(&decision.verdict.logs, here.country);
    if (pop)
        there = (struct barred){ slice_of(pop), country_of(head, slice_of(pop)), "be processed" };
    if (!countries_has(&decision.verdict.process, there.country))
        return denied(request, head, &decision, &there, err);
    if (!countries_has(&decision.verdict.transit, here.country))
        return denied(request, head, &decision, &here, err);
    return 0;
}

/* A line says nothing of a request: it is of its endpoint and of the rule. */
void residency_ends(struct request *request, const struct err *why)
{
    struct gateway_loop *gl = request->gl;
    struct endpoint_side *side = &request->endpoint->sides[gl->index];

    request->denial = DENIAL_ended;
    request->denied = request->unlogged = true;
    if (!exchange_responded(request->x))
        exchange_close_after(request->x);
    if (side->ended_by == gl->table->head->number)
        return;
    side->ended_by = gl->table->head->number;
    log_info("gateway", "requests under way are ended", LOG_U("loop", gl->index),
             LOG_S("why", why->message));
}

/* ---- where clients are ---------------------------------------------------------------------- */

static struct where_map *prepared;

void gateway_prepare(void)
{
    const char *addresses = getenv(WHERE_FILE_ENVIRONMENT), *mmdb = getenv(WHERE_MMDB_ENVIRONMENT);
    struct err err;

    if ((addresses || mmdb) && where_file_open(addresses, mmdb, &prepared, &err) < 0)
        log_error("gateway", "addresses are not known, going on without",
                  LOG_S("why", err.message));
}

void residency_begin(struct gateway *gateway)
{
    struct err err;

    gateway->where = prepared;
    gateway->sets_arena = arena_new();
    if (geo_sets_environment(gateway->sets_arena, &gateway->sets, &err) < 0)
        log_error("gateway", "sets of countries not read, going on without",
                  LOG_S("why", err.message));
}

void residency_end(struct gateway *gateway)
{
    where_map_free(gateway->where);
    arena_free(gateway->sets_arena);
    prepared = NULL;
}
