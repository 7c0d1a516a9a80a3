/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/choose.h"

#include <math.h>
#include <string.h>

#include "dns/client.h"
#include "dns/follow.h"
#include "dns/memo.h"
#include "dns/view.h"

static void keep_near(struct dns_choice *choice, size_t count)
{
    choice->count = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || choice->choices[i].near)
            choice->choices[choice->count++] = choice->choices[i];
}

/* ---- candidates --------------------------------------------------------------------------- */

/* Some of an endpoint's places, as an endpoint of its own. */
struct places {
    uint32_t pop[DNS_MEMO_PLACES];
    float wait[DNS_MEMO_PLACES], service[DNS_MEMO_PLACES], start[DNS_MEMO_PLACES];
    float weight[DNS_MEMO_PLACES];
    bool hides[DNS_MEMO_PLACES];
};

static struct route_endpoint some_of(const struct route_endpoint *all,
                                     const struct dns_memo_row *row, struct places *places)
{
    for (size_t i = 0; i < row->count; i++) {
        size_t at = row->places[i];
        places->pop[i] = all->pop[at];
        places->wait[i] = all->wait_ms[at];
        places->service[i] = all->service_ms[at];
        places->start[i] = all->start_ms[at];
        places->weight[i] = all->weight[at];
        places->hides[i] = all->hides && all->hides[at];
    }
    return (struct route_endpoint){ row->count,    places->pop,    places->wait, places->service,
                                    places->start, places->weight, places->hides };
}

static uint16_t place_of(const struct route_endpoint *all, uint32_t pop)
{
    size_t low = 0, high = all->count;
    while (low + 1 < high) {
        size_t middle = (low + high) / 2;
        if (all->pop[middle] <= pop)
            low = middle;
        else
            high = middle;
    }
    return (uint16_t)low;
}

static bool is_among(const struct route_choice best[static DNS_MEMO_PLACES], uint32_t pop)
{
    for (size_t i = 0; i < DNS_MEMO_PLACES; i++)
        if (best[i].pop == pop)
            return true;
    return false;
}

/* Of more than are kept: who hides the starts of others has to be among them. It takes the place of
 * the last, which is then the first that is left out. */
static void hider_keep(const struct dns_view *view, const struct dns_entry *entry,
                       const struct route_query *query,
                       struct route_choice best[static DNS_MEMO_PLACES + 1])
{
    size_t hider = route_hider(&view->route, &entry->route, query), last = DNS_MEMO_PLACES - 1;
    if (hider == entry->route.count || is_among(best, entry->route.pop[hider]))
        return;
    best[last + 1] = best[last];
    best[last].pop = entry->route.pop[hider];
}

/* Of those that are not kept: the least total of one that would hide starts if it was less than
 * that of all others. What is best comes first, as none of them has any weight. */
static float warm_bound_ms(const struct dns_view *view, const struct dns_entry *entry,
                           const struct route_query *query,
                           const struct route_choice best[static DNS_MEMO_PLACES])
{
    struct route_choice warm[ROUTE_CHOICES_MAX];
    size_t count = route_choose(&view->route, &entry->warm, query, warm, ROUTE_CHOICES_MAX);
    for (size_t i = 0; i < count && warm[i].exclusion == ROUTE_ALLOWED; i++)
        if (!is_among(best, warm[i].pop))
            return warm[i].total_ms;
    return INFINITY; /* more than are kept would be found */
}

/* The best ones if nobody waited anywhere. False: none, or full ones alone. */
static bool candidates_find(const struct dns_view *view, const struct dns_entry *entry,
                            const struct route_query *query, struct dns_memo_row *ret)
{
    static_assert((int)DNS_MEMO_PLACES + 1 == (int)ROUTE_CHOICES_MAX &&
                  ROUTE_POPS_MAX <= UINT16_MAX);
    struct route_choice best[ROUTE_CHOICES_MAX];
    size_t count = route_choose(&view->route, &entry->calm, query, best, ROUTE_CHOICES_MAX);
    if (count == 0 || !(best[0].total_ms < INFINITY))
        return false;
    /* The first is drawn, the others are the best of the rest, in order: behind the last is none
     * that is better than it. */
    size_t kept = count < ROUTE_CHOICES_MAX ? count : DNS_MEMO_PLACES;
    bool hides = kept < count && entry->warm.count;
    if (hides)
        hider_keep(view, entry, query, best);
    *ret = (struct dns_memo_row){
        .drift = entry->drift,
        .scope_bits = DNS_MEMO_NO_SCOPE,
        .bound_ms = count < ROUTE_CHOICES_MAX ? INFINITY : best[count - 1].total_ms,
        .warm_bound_ms = hides ? warm_bound_ms(view, entry, query, best) : INFINITY,
    };
    for (size_t i = 0; i < kept; i++) { /* by rising place */
        uint16_t place = place_of(&entry->route, best[i].pop);
        size_t at = ret->count++;
        for (; at > 0 && ret->places[at - 1] > place; at--)
            ret->places[at] = ret->places[at - 1];
        ret->places[at] = place;
    }
    return true;
}

/* Since runs have moved: is who hides starts of these the one that does so of all? */
static bool hider_stays(const struct dns_view *view, const struct route_endpoint *some,
                        const struct route_query *query, float bound_ms)
{
    struct places places = {};
    struct route_endpoint warm = {
        0, places.pop, places.wait, places.service, places.start, places.weight, NULL
    };
    struct route_choice hider;
    for (size_t i = 0; i < some->count; i++) {
        if (!(some->start_ms[i] <= 0) || !(some->wait_ms[i] < INFINITY))
            continue;
        places.pop[warm.count] = some->pop[i];
        places.service[warm.count++] = some->service_ms[i];
    }
    size_t count = route_choose(&view->route, &warm, query, &hider, 1);
    return count == 0 || hider.exclusion != ROUTE_ALLOWED || hider.total_ms < bound_ms;
}

/* False: one that is not among them may be near as well. */
static bool choose_of(const struct dns_view *view, const struct dns_entry *entry,
                      const struct route_query *query, const struct dns_memo_row *row, size_t max,
                      struct dns_choice *ret)
{
    struct places places;
    struct route_endpoint some = some_of(&entry->route, row, &places);
    float drift_ms = (float)(entry->drift - row->drift) / DNS_DRIFT_STEPS_PER_MS;
    if (drift_ms > 0 && row->warm_bound_ms < INFINITY &&
        !hider_stays(view, &some, query, row->warm_bound_ms - drift_ms))
        return false;
    size_t count = route_choose(&view->route, &some, query, ret->choices, max);
    float best = INFINITY;
    for (size_t i = 0; i < count; i++)
        best = ret->choices[i].total_ms < best ? ret->choices[i].total_ms : best;
    if (count == 0 || !(route_near_ms(best) <= row->bound_ms - drift_ms))
        return false;
    keep_near(ret, count);
    return true;
}

static struct ip_block block_of(const struct dns_client *client)
{
    return (struct ip_block){ ip_cut(&client->ip, client->where.bits), client->where.bits };
}

static bool choose_by_memo(const struct dns_view *view, const struct dns_entry *entry,
                           const struct dns_client *client, const struct route_query *query,
                           size_t max, struct dns_memo *memo, struct dns_choice *ret)
{
    struct ip_block block = block_of(client);
    struct dns_memo_row *row = dns_memo_get(memo, entry->memo_id, &block), made;
    if (row && choose_of(view, entry, query, row, max, ret))
        return true;
    if ((row && row->drift == entry->drift) || !candidates_find(view, entry, query, &made))
        return false;
    if (row)
        *row = made; /* what it knew has become too little */
    else
        dns_memo_put(memo, entry->memo_id, &block, &made);
    return choose_of(view, entry, query, &made, max, ret);
}

/* Up or not, by where it is and, with `up`, by its health: what route_choose() asks as well. */
static bool one_may(const struct dns_view *view, const struct route_endpoint *endpoint,
                    const struct countries *process, bool up)
{
    for (size_t i = 0; i < endpoint->count; i++) {
        uint32_t pop = endpoint->pop[i];
        if ((!process || countries_has(process, view->route.country[pop])) &&
            (!up || view->route.health[pop] != ROUTE_DOWN))
            return true;
    }
    return false;
}

/* Of the client its country alone has a part in that. */
static enum dns_none none_of(const struct dns_view *view, const struct dns_entry *entry,
                             const struct countries *process)
{
    const struct route_endpoint *all = &(entry->whole ? entry->whole : entry)->route;
    if (all->count == 0)
        return DNS_NONE_PLACED;
    if (entry->whole && one_may(view, all, process, true))
        return DNS_NONE_OF_FAMILY;
    return one_may(view, all, process, false) ? DNS_NONE_UP : DNS_NONE_PERMITTED;
}

void dns_choose(const struct dns_view *view, const struct dns_entry *entry,
                const struct dns_client *client, size_t max, struct dns_memo *memo,
                struct dns_choice *ret)
{
    ret->count = 0;
    ret->none = DNS_NONE_REFUSED;
    ret->restricted = entry->residency.count > 0;
    if (ret->restricted) {
        ret->verdict = residency_decide(&entry->residency, client->where.country, NULL);
        if (ret->verdict.reason != RESIDENCY_ALLOWED)
            return;
    }
    struct route_query query = dns_route_query(client, ret->restricted, &ret->verdict);
    if (memo && max > 1 && entry->route.count > DNS_MEMO_PLACES &&
        choose_by_memo(view, entry, client, &query, max, memo, ret))
        return;
    keep_near(ret, route_choose(&view->route, &entry->route, &query, ret->choices, max));
    if (ret->count == 0)
        ret->none = none_of(view, entry, query.process);
}

/* ---- the scope ---------------------------------------------------------------------------- */

/* Of choices for one entry that no draw has a part in. */
static bool same(const struct dns_choice *a, const struct dns_choice *b)
{
    if (a->count != b->count || a->count > 1)
        return false;
    if (a->count == 1)
        return a->choices[0].pop == b->choices[0].pop;
    return a->none == b->none &&
           (a->none != DNS_NONE_REFUSED || a->verdict.reason == b->verdict.reason);
}

static struct ip flipped(const struct ip *ip, unsigned bit)
{
    struct ip other = ip_cut(ip, bit + 1);
    other.bytes[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
    return other;
}

/* To the address behind the block; false: it was the last of its `bits`. */
static bool step(struct ip *at, unsigned block_bits, unsigned bits)
{
    *at = ip_cut(at, block_bits);
    for (unsigned bit = block_bits; bit-- > bits;) { /* add one at the block's last bit */
        uint8_t mask = (uint8_t)(0x80u >> bit % 8);
        at->bytes[bit / 8] ^= mask;
        if (at->bytes[bit / 8] & mask)
            return true;
    }
    return false;
}

/* Does the half beside `bits` of the client's address get the same answer? */
static bool beside_same(const struct dns_view *view, const struct dns_entry *entry,
                        const struct dns_client *client, const struct dns_choice *choice,
                        unsigned bits, unsigned *looks)
{
    struct ip at = flipped(&client->ip, bits - 1);
    do {
        struct dns_client there = { .ip = at, .where = where_find(view->map, &at) };
        struct dns_choice other;
        if ((*looks)-- == 0)
            return false;
        dns_choose(view, entry, &there, 2, NULL, &other);
        if (!same(choice, &other))
            return false;
        unsigned block = there.where.bits > bits ? there.where.bits : bits;
        if (!step(&at, block, bits))
            return true;
    } while (true);
}

/* The block of the map gets one answer, and so may those around it. */
static unsigned widen(const struct dns_view *view, const struct dns_entry *entry,
                      const struct dns_client *client, const struct dns_choice *choice)
{
    unsigned low = ip_is4(&client->ip) ? IP4_BITS : 0, bits = client->where.bits;
    unsigned looks = DNS_SCOPE_LOOKS;
    while (bits > low && beside_same(view, entry, client, choice, bits, &looks))
        bits--;
    return bits;
}

/* Does it depend on the client's part of the draw? */
static bool by_draw(const struct dns_entry *entry, const struct dns_choice *choice)
{
    return choice->count > 1 || (choice->count == 1 && entry->waits && entry->route.count > 1);
}

static unsigned scope_find(const struct dns_view *view, const struct dns_entry *entry,
                           const struct dns_client *client, const struct dns_choice *choice,
                           struct dns_memo *memo)
{
    bool place = entry->asks_client || (choice->count && entry->route.count > 1 && view->map);
    unsigned bits = place ? client->where.bits : 0;
    if (by_draw(entry, choice))
        return client->seed_bits > bits ? client->seed_bits : bits;
    if (!place)
        return 0;
    struct ip_block block = block_of(client);
    struct dns_memo_row *row = memo ? dns_memo_get(memo, entry->memo_id, &block) : NULL;
    if (row && row->scope_bits != DNS_MEMO_NO_SCOPE && row->scope_drift == entry->drift)
        return row->scope_bits;
    bits = widen(view, entry, client, choice);
    if (row) {
        row->scope_bits = (uint8_t)bits;
        row->scope_drift = entry->drift;
    }
    return bits;
}

uint8_t dns_scope(const struct dns_view *view, const struct dns_entry *entry,
                  const struct dns_client *client, const struct dns_choice *choice,
                  struct dns_memo *memo)
{
    unsigned low = ip_is4(&client->ip) ? IP4_BITS : 0;
    unsigned bits = scope_find(view, entry, client, choice, memo);
    bits = bits < client->source_bits ? bits : client->source_bits;
    return (uint8_t)(bits > low ? bits - low : 0);
}
