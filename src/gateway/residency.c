/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this request be processed here, or pass? Asked once its endpoint is known, from the head
 * alone: of the body nothing has been read, and 100 Continue was not said. Whoever chose this PoP
 * (DNS, a client) only advised: what counts is where the connection comes from; of what another PoP
 * passed on, what that one says under the fleet's key.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "gateway/request.h"
#include "geo/where.h"
#include "geo/where_file.h"
#include "io/loop.h"
#include "io/timer.h"
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

static const struct slice denials[] = {
#define DENIAL(name) SLICE(#name),
    REQUEST_DENIALS(DENIAL)
#undef DENIAL
};

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

static int deny(struct request *request, const struct table_head *table,
                const struct residency_verdict *verdict, bool ruled, struct err *err)
{
    const char *subject =
        request->row ? arena_format(request->arena, "endpoint '%.*s'",
                                    SLICE_FMT(table_text(request->table->head, request->row->name)))
                     : "this PoP";
    const char *pops = permitted_pops(request, table, &verdict->process);
    const char *where =
        pops ? arena_format(request->arena, "permitted PoPs: %s", pops) : "no PoP is permitted";

    request->denial = denial_of(verdict->reason);
    request->denied = true;
    exchange_close_after(request->x); /* what comes is thrown away, not looked at */
    if (verdict->reason != RESIDENCY_ALLOWED)
        return err_set(err, ERR_RESIDENCY, "%s: %s; %s", subject,
                       residency_reason_text(verdict->reason), where);
    const char *what = ruled ? arena_format(request->arena,
                                            "rule %u of its residency does not "
                                            "let it be processed",
                                            verdict->rule + 1)
                             : "the request (Perigee-Process-In) does not let it be processed";
    return err_set(err, ERR_RESIDENCY, "%s: %s at PoP '%.*s' (%s); %s", subject, what,
                   SLICE_FMT(table_text(table, table->pop)),
                   country_text(request->arena, own_country(table)), where);
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

/* What is decided of it by that table, before anything is said. */
struct decision {
    struct residency_verdict verdict;
    bool ruled; /* not here whatever the request itself allows */
    enum residency_place place;
};

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
    *ret = (struct decision){ .verdict = residency_decide(&residency, client,
                                                          header.data ? &narrow : NULL) };
    if (countries_has(&ret->verdict.process, here)) {
        ret->place = RESIDENCY_HERE;
        return 0;
    }
    struct residency_verdict wide = residency_decide(&residency, client, NULL);
    ret->ruled = !countries_has(&wide.process, here);
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
        return deny(request, table, &decision.verdict, decision.ruled, err);
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
        return deny(request, table, &decision.verdict, decision.ruled, err);
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

/* ---- counting ------------------------------------------------------------------------------- */

static_assert(sizeof denials / sizeof *denials == GATEWAY_DENIALS);

void residency_count(struct request *request)
{
    struct slice labels[3] = { [2] = denials[request->denial] };
    struct gateway *gateway = request->gl->gateway;

    if (request->row) {
        labels[0] = table_text(request->table->head, request->row->project);
        labels[1] = table_text(request->table->head, request->row->name);
        atomic_fetch_add(&request->endpoint->denied[request->denial], 1);
        if (!atomic_exchange(&gateway->denied_due, true))
            loop_post(gateway->main, residency_tell, gateway);
    }
    metric_add(metrics_series(&request->gl->metrics, GATEWAY_DENIED, labels), 1);
}

/* False: nothing was refused since. What the agent does not take now, it is told later. */
static bool endpoint_tell(struct gateway *gateway, struct endpoint *endpoint)
{
    bool any = false;

    for (unsigned i = 0; i < GATEWAY_DENIALS; i++) {
        uint32_t count = atomic_exchange(&endpoint->denied[i], 0);
        if (count == 0)
            continue;
        union message message = { .as_MESSAGE_DENIED = MESSAGE_INIT(MESSAGE_DENIED) };
        message.as_MESSAGE_DENIED.endpoint = endpoint->uid;
        message.as_MESSAGE_DENIED.count = count;
        snprintf(message.as_MESSAGE_DENIED.reason, sizeof message.as_MESSAGE_DENIED.reason, "%s",
                 denials[i].data);
        if (!gateway_send_agent(gateway, &message))
            atomic_fetch_add(&endpoint->denied[i], count);
        any = true;
    }
    return any;
}

void residency_tell(void *data)
{
    struct gateway *gateway = data;
    bool any = false;

    atomic_store(&gateway->denied_due, false); /* first: who comes now tells */
    MAP_EACH (entry, &gateway->endpoints)
        any |= endpoint_tell(gateway, entry->value);
    if (!any)
        return;
    atomic_store(&gateway->denied_due, true);
    timer_start(gateway->denied, gateway_denied_ms);
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
