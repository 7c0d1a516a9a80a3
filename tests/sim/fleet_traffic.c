/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients and gateways: a client asks the DNS of some PoP and tries what it answered; the gateway
 * decides again by its own table, serves, passes on once, or refuses. Each request that is served
 * is judged by the law of the spec that its PoP holds. PoPs tell each other once a second how they
 * are, and what is asked of them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dns/choose.h"
#include "dns/client.h"
#include "dns/today.h"
#include "dns/view.h"
#include "fleet.h"
#include "policy/ttl.h"

enum { TRIES = ANSWERS, DRAWS = 20, STRAYS = 8 };
enum outcome { SERVED, DENIED, NOT_HERE, GONE };

static country_number country_of(const struct ask *ask)
{
    return ask->city ? country_number_of(slice_of(ask->city->country)) : COUNTRY_UNKNOWN;
}

static struct spot spot_of(const struct city *city)
{
    return city ? spot_at((double)city->latitude, (double)city->longitude) : (struct spot){};
}

static double now_s(struct fleet *fleet)
{
    return (double)env_now_ns(fleet->env) / ENV_S;
}

static const struct table_head *head_of(const struct site *site)
{
    return (const struct table_head *)(const void *)site->table.bytes;
}

static const struct dns_view *view_of(struct site *site)
{
    const struct dns_node node = {};
    struct err err = {};
    if (!site->view && site->table.bytes &&
        dns_view_today(head_of(site), &node, &site->view, &err) < 0)
        fail_msg("%s", err.message);
    return site->view;
}

/* ---- the web of PoPs ------------------------------------------------------------------------- */

struct beat {
    struct list link;
    unsigned from;
    uint64_t sequence;
    struct beat_load loads[ENDPOINTS];
};

static uint32_t serving_number(const struct site *site, unsigned endpoint, uint64_t *ret_uid)
{
    const struct table_head *head = head_of(site);
    uint32_t row = head ? table_find_endpoint(head, SLICE("default"),
                                              slice_of(site->fleet->wishes[endpoint].name))
                        : TABLE_NONE;
    if (row == TABLE_NONE)
        return 0;
    const struct table_endpoint *found = table_endpoint(head, row);
    *ret_uid = found->uid;
    return found->serving == TABLE_NONE ? 0 : table_revision(head, found->serving)->number;
}

static double backlog_s(const struct site *site, unsigned endpoint, double now)
{
    return fmax(0, site->queues[endpoint].free_at - now);
}

static void beat_make(struct site *site, struct beat *ret)
{
    double now = now_s(site->fleet);
    *ret = (struct beat){ .from = site->index, .sequence = ++site->beats };
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        uint64_t uid = 0;
        uint32_t number = serving_number(site, i, &uid);
        uint32_t places = number ? site_ready(site, uid, number) * PLACES_A_REPLICA : 0;
        double per_s = places * 1000 / SERVICE_MS;
        ret->loads[i] = (struct beat_load){
            .report = { .arrivals_per_s = (float)site->queues[i].arrived,
                        .capacity_per_s = (float)per_s,
                        .places = places,
                        .waiting = (uint32_t)(backlog_s(site, i, now) * per_s) },
            .ready = places > 0,
        };
        site->queues[i].arrived = 0;
    }
}

static void beat_hear(struct site *site, const struct beat *beat)
{
    struct heard *heard = &site->heard[beat->from];
    int64_t now_ns = env_now_ns(site->fleet->env);
    if (!site->power || site->fleet->cut[beat->from][site->index] || fleet_maybe(site->fleet, 50) ||
        beat->sequence <= heard->sequence)
        return;
    heard->sequence = beat->sequence;
    health_beat(&heard->health, now_ns);
    for (int i = 0; i < ENDPOINTS; i++) {
        heard->ready[i] = beat->loads[i].ready;
        if (beat->loads[i].ready)
            (void)load_learn(&heard->load[i], &beat->loads[i].report, now_ns);
    }
}

static void beat_free(struct beat *beat)
{
    list_remove(&beat->link);
    free(beat);
}

void fleet_beats_free(struct fleet *fleet)
{
    while (!list_empty(&fleet->beats))
        beat_free(LIST_FIRST(&fleet->beats, struct beat, link));
}

static void on_beat(struct fleet *fleet, void *data, uint64_t web)
{
    struct beat *beat = data;
    for (unsigned i = 0; i < SITES; i++)
        if (i != beat->from && (i + beat->sequence) % WEBS == web)
            beat_hear(&fleet->sites[i], beat);
    if (fleet_maybe(fleet, 20)) /* it comes twice */
        fleet_after(fleet, fleet_draw(fleet, 1, 2000) * ENV_MS, NULL, on_beat, beat, web);
    else
        beat_free(beat);
}

static void on_beats(struct fleet *fleet, void *data, uint64_t)
{
    struct site *site = data;
    struct beat beat;
    beat_make(site, &beat);
    beat_hear(site, &beat);
    for (uint64_t web = 0; web < WEBS; web++) {
        struct beat *copy = mem_zalloc(sizeof *copy);
        *copy = beat;
        list_append(&fleet->beats, &copy->link);
        fleet_after(fleet, fleet_delay_ns(fleet, site->index, NODE_CONTROL), NULL, on_beat, copy,
                    web);
    }
    fleet_after(fleet, ENV_S, &site->power_life, on_beats, site, 0);
}

void site_beats(struct site *site)
{
    fleet_after(site->fleet, fleet_draw(site->fleet, 1, 1000) * ENV_MS, &site->power_life, on_beats,
                site, 0);
}

/* ---- what a PoP knows ------------------------------------------------------------------------ */

/* For route.h: its table's PoPs and places, their health and loads as it has heard. */
struct known {
    const struct dns_view *view;
    struct route_pops pops;
    struct route_endpoint endpoint;
    uint8_t health[SITES + 1];
    bool stable[SITES + 1];
    float wait[SITES + 1], service[SITES + 1], start[SITES + 1], weight[SITES + 1];
};

/* False: it has no table, or no such endpoint. */
static bool known_of(struct site *site, unsigned which, struct known *ret)
{
    struct fleet *fleet = site->fleet;
    int64_t now_ns = env_now_ns(fleet->env);
    const struct dns_view *view = ret->view = view_of(site);
    const struct dns_entry *entry =
        view ? dns_view_find(view, slice_of(fleet->wishes[which].name)) : NULL;
    if (!entry || entry->route.count == 0)
        return false;
    for (size_t i = 0; i < view->route.count; i++) {
        const struct site *other = site_find(fleet, slice_of(view->pops[i].name));
        ret->health[i] = view->route.health[i];
        if (!health_up(&site->heard[other->index].health, now_ns))
            ret->health[i] = ROUTE_DOWN;
        ret->stable[i] = health_calm(&site->heard[other->index].health, now_ns);
    }
    for (size_t i = 0; i < entry->route.count; i++) {
        const struct site *other = site_find(fleet, slice_of(view->pops[entry->route.pop[i]].name));
        const struct heard *heard = &site->heard[other->index];
        ret->wait[i] = heard->load[which].wait_ms;
        ret->weight[i] = heard->load[which].weight;
        ret->service[i] = (float)SERVICE_MS;
        ret->start[i] = heard->ready[which] ? 0 : INFINITY;
    }
    ret->pops = view->route;
    ret->pops.health = ret->health;
    ret->endpoint = (struct route_endpoint){ entry->route.count, entry->route.pop, ret->wait,
                                             ret->service,       ret->start,       ret->weight };
    return true;
}

/* ---- a gateway ------------------------------------------------------------------------------- */

static void serve(struct site *site, const struct ask *ask, uint32_t replicas)
{
    struct fleet *fleet = site->fleet;
    struct queue *queue = &site->queues[ask->endpoint];
    uint64_t version = site->versions[ask->endpoint];
    double now = now_s(fleet);
    assert_true(version > 0);
    const struct law *law = &fleet->laws[version];
    assert_true(law_may_place(law, site->name, site->city));
    assert_true(law_may_process(law, ask->city ? ask->city->country : NULL, site->city->country));
    queue->free_at = fmax(queue->free_at, now) + SERVICE_MS / 1000 / PLACES_A_REPLICA / replicas;
    fleet->counts.served++;
}

static void count_asked(const struct site *site, const struct ask *ask)
{
    struct fleet *fleet = site->fleet;
    int64_t window = (env_now_ns(fleet->env) - fleet->measured_from_ns) / (WINDOW_S * ENV_S);
    if (fleet->measuring && window < WINDOWS)
        fleet->asked[ask->endpoint][site->index][window]++;
}

/* What a PoP knows of where else it could go; NULL: it stays. */
static struct site *better(struct site *site, const struct ask *ask,
                           const struct residency_verdict *verdict, bool restricted, double own_ms)
{
    struct known known;
    struct route_choice choice;
    const struct route_query query = { .client = spot_of(site->city),
                                       .client_known = true,
                                       .process = restricted ? &verdict->process : NULL,
                                       .seed = ask->seed,
                                       .enough_ms =
                                           isinf(own_ms) ? 0 : (float)(own_ms + SERVICE_MS) };
    if (!known_of(site, ask->endpoint, &known))
        return NULL;
    for (size_t i = 0; i < known.pops.count; i++)
        if (slice_is(slice_of(known.view->pops[i].name), site->name))
            known.health[i] = ROUTE_DOWN;
    if (route_choose(&known.pops, &known.endpoint, &query, &choice, 1) == 0 ||
        choice.exclusion != ROUTE_ALLOWED || (!isinf(own_ms) && choice.total_ms >= query.enough_ms))
        return NULL;
    return site_find(site->fleet, slice_of(known.view->pops[choice.pop].name));
}

/* It goes on from there: its bytes were at this PoP. */
static void check_passes(struct site *site, const struct ask *ask)
{
    const struct law *law = &site->fleet->laws[site->versions[ask->endpoint]];
    const char *client = ask->city ? ask->city->country : NULL;
    assert_true(law_may_pass(law, client, site->city->country));
    site->fleet->counts.in_transit += !law_may_process(law, client, site->city->country);
}

/* `passed`: by another one. What came so goes no further: that it is so of real gateways is for
 * their own tests (test_forward), since here it is played. */
static enum outcome gateway(struct site *site, const struct ask *ask, bool passed)
{
    const struct table_head *head = head_of(site);
    uint64_t uid = 0;
    uint32_t row = head ? table_find_endpoint(head, SLICE("default"),
                                              slice_of(site->fleet->wishes[ask->endpoint].name))
                        : TABLE_NONE;
    if (!site->power || !head)
        return GONE;
    if (row == TABLE_NONE)
        return NOT_HERE;
    const struct table_endpoint *endpoint = table_endpoint(head, row);
    const struct table_residency *rules = table_residency(head, row);
    const struct residency law = { table_rules(head, rules), rules->rule_count,
                                   (country_number)rules->unknown_client };
    country_number own = country_number_of(table_text(head, head->country));
    struct residency_verdict verdict = residency_decide(&law, country_of(ask), NULL);
    bool restricted = law.count > 0;
    site->queues[ask->endpoint].arrived++;
    if (!passed)
        count_asked(site, ask);
    if (restricted && verdict.reason != RESIDENCY_ALLOWED)
        return DENIED;
    bool here = (!restricted || countries_has(&verdict.process, own)) &&
                endpoint->state == TABLE_ENDPOINT_RUNNING;
    uint32_t number = serving_number(site, ask->endpoint, &uid);
    uint32_t replicas = here && number ? site_ready(site, uid, number) : 0;
    double own_ms = replicas ? backlog_s(site, ask->endpoint, now_s(site->fleet)) * 1000 : INFINITY;
    if (!passed && own_ms > (double)RTT_BASE_MS) {
        struct site *other = better(site, ask, &verdict, restricted, own_ms);
        if (other && restricted && !countries_has(&verdict.transit, own))
            return DENIED;
        if (other && fleet_reaches(site->fleet, site->index, other->index)) {
            check_passes(site, ask);
            if (gateway(other, ask, true) == SERVED) {
                site->fleet->counts.passed_on++;
                return SERVED;
            }
        }
    }
    if (replicas == 0)
        return NOT_HERE;
    serve(site, ask, replicas);
    return SERVED;
}

/* ---- a client -------------------------------------------------------------------------------- */

static void check_named(struct fleet *fleet, const struct site *server, const struct ask *ask,
                        const struct dns_view *view, const struct route_choice *choices,
                        size_t count)
{
    char code[3];
    for (size_t i = 0; i < count; i++) {
        country_code_of(view->route.country[choices[i].pop], code);
        assert_true(law_may_process(&fleet->laws[server->versions[ask->endpoint]],
                                    ask->city ? ask->city->country : NULL, code));
    }
}

/* The DNS of some PoP answers: by the table alone, and by what its PoP has heard of the others,
 * which is what counts. What it names the law permits, by the spec and the places that it has. */
static size_t resolve(struct site *server, const struct ask *ask, struct known *ret_known,
                      struct route_choice ret[static TRIES])
{
    struct fleet *fleet = server->fleet;
    const struct dns_view *view = server->power ? view_of(server) : NULL;
    const struct dns_entry *entry =
        view ? dns_view_find(view, slice_of(fleet->wishes[ask->endpoint].name)) : NULL;
    struct dns_client client = { .source_bits = 128, .seed_bits = 128, .seed = ask->seed };
    struct dns_choice named;
    if (!entry)
        return 0;
    client.where.country = country_of(ask);
    if (ask->city) {
        client.where.located = true;
        client.where.latitude = (double)ask->city->latitude;
        client.where.longitude = (double)ask->city->longitude;
    }
    dns_choose(view, entry, &client, TRIES, NULL, &named);
    check_named(fleet, server, ask, view, named.choices, named.count);
    if (named.count == 0 || !known_of(server, ask->endpoint, ret_known))
        return 0;
    const struct route_query query = dns_route_query(&client, named.restricted, &named.verdict);
    size_t count = route_choose(&ret_known->pops, &ret_known->endpoint, &query, ret, TRIES);
    check_named(fleet, server, ask, view, ret, count);
    return count;
}

static struct site *site_of(struct fleet *fleet, const struct known *known,
                            const struct route_choice *choice)
{
    return site_find(fleet, slice_of(known->view->pops[choice->pop].name));
}

void fleet_answer(struct site *server, const struct ask *ask, struct answer *ret)
{
    struct known known;
    struct route_choice choices[TRIES];
    size_t all = resolve(server, ask, &known, choices);
    *ret = (struct answer){};
    for (size_t i = 0; i < all; i++)
        if (i == 0 || choices[i].near)
            choices[ret->count++] = choices[i];
    for (size_t i = 0; i < ret->count; i++)
        ret->sites[i] = site_of(server->fleet, &known, &choices[i]);
    ret->ttl_s = ret->count ? ttl_of(choices, ret->count, known.stable) : 0;
}

bool fleet_serves(struct site *site, const struct ask *ask)
{
    return gateway(site, ask, false) == SERVED;
}

static void request(struct fleet *fleet, const struct ask *ask)
{
    struct site *server = &fleet->sites[fleet_draw(fleet, 0, SITES - 1)], *sites[TRIES];
    struct known known;
    struct route_choice choices[TRIES];
    size_t count = resolve(server, ask, &known, choices);
    for (size_t i = 0; i < count; i++)
        sites[i] = site_of(fleet, &known, &choices[i]);
    if (fleet->chaos && ask->seed % STRAYS == 0) { /* who knows an address, and asks no DNS */
        sites[0] = &fleet->sites[ask->seed / STRAYS % SITES];
        count = 1;
    }
    fleet->counts.requests++;
    fleet->counts.unnamed += count == 0;
    for (size_t i = 0; i < count; i++) {
        enum outcome outcome = gateway(sites[i], ask, false);
        if (outcome == SERVED)
            return;
        if (outcome == DENIED) {
            fleet->counts.denied++;
            return;
        }
        fleet->counts.retried++;
    }
    fleet->counts.lost += count > 0;
}

bool fleet_ready(const struct site *site, unsigned endpoint)
{
    uint64_t uid = 0;
    uint32_t number = serving_number(site, endpoint, &uid);
    return number && site_ready(site, uid, number);
}

bool fleet_can_serve(struct fleet *fleet, const struct ask *ask, const struct site *without)
{
    const struct law *law = &fleet->laws[fleet->wishes[ask->endpoint].acked];
    for (unsigned i = 0; i < SITES; i++) {
        const struct site *site = &fleet->sites[i];
        if (site != without && fleet_ready(site, ask->endpoint) &&
            law_may_process(law, ask->city ? ask->city->country : NULL, site->city->country))
            return true;
    }
    return false;
}

static void on_traffic(struct env_timer *timer, void *data)
{
    struct fleet *fleet = data;
    double at = (double)fleet_draw(fleet, 0, 1'000'000) / 1e6 * fleet->rate_per_s;
    struct ask ask = { .endpoint = (unsigned)fleet_draw(fleet, 0, ENDPOINTS - 1),
                       .seed = (uint64_t)fleet_draw(fleet, 0, 1 << 20) };
    for (unsigned i = 0; i < ENDPOINTS && fleet->measured_from_ns; i++)
        if ((at -= fleet->rates[i]) < 0) {
            ask.endpoint = i;
            break;
        }
    const struct wish *wish = &fleet->wishes[ask.endpoint];
    for (int i = 0; i < (fleet->measured_from_ns ? DRAWS : 1); i++) {
        int64_t city = fleet_draw(fleet, fleet->measured_from_ns ? 0 : -1, (int64_t)city_count - 1);
        ask.city = city < 0 ? NULL : &cities[city];
        if (fleet->measured_from_ns && fleet_can_serve(fleet, &ask, NULL))
            break;
    }
    if (wish->acked)
        request(fleet, &ask);
    double part = (double)fleet_draw(fleet, 1, 1'000'000) / 1e6;
    env_timer_start(fleet->env, timer, (int64_t)(-log(part) / fleet->rate_per_s * 1e9), on_traffic,
                    fleet);
}

void traffic_begin(struct fleet *fleet)
{
    fleet->rate_per_s = 40;
    env_timer_start(fleet->env, &fleet->traffic, ENV_S, on_traffic, fleet);
}

void traffic_rate(struct fleet *fleet, double part)
{
    fleet->rate_per_s = 0;
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        fleet->rates[i] = 0;
        for (unsigned k = 0; k < SITES; k++) {
            uint64_t uid = 0;
            uint32_t number = serving_number(&fleet->sites[k], i, &uid);
            if (number)
                fleet->rates[i] += part * site_ready(&fleet->sites[k], uid, number) *
                                   PLACES_A_REPLICA * 1000 / SERVICE_MS;
        }
        fleet->rate_per_s += fleet->rates[i];
    }
    fleet->measured_from_ns = env_now_ns(fleet->env);
    if (fleet->rate_per_s < 1)
        fleet->rate_per_s = 1;
}
