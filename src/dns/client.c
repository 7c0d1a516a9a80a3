/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/client.h"

#include "base/map.h"
#include "dns/memo.h"
#include "dns/resolve.h"
#include "dns/view.h"

/* The same in every process and after each start: a client stays where it is. */
static uint64_t seed_of(const struct ip *prefix)
{
    static const uint64_t key[2] = { UINT64_C(0x5065726967656543), UINT64_C(0x6c69656e7473656c) };
    return map_hash_keyed(key, (struct slice){ (const char *)prefix->bytes, sizeof prefix->bytes });
}

struct dns_client dns_client_of(const struct dns_view *view, const struct dns_question *question,
                                const struct dns_asker *asker)
{
    const struct dns_subnet *subnet = &question->subnet;
    struct dns_client client = { .ip = asker->address, .source_bits = 128 };
    if (subnet->present && subnet->bits) { /* 0 bits: it wants not to be known */
        client.ip = subnet->ip;
        client.source_bits = (uint8_t)(subnet->bits + (subnet->family == 1 ? IP4_BITS : 0));
    }
    unsigned seed_bits = ip_is4(&client.ip) ? IP4_BITS + DNS_SEED_BITS_4 : DNS_SEED_BITS_6;
    client.seed_bits = (uint8_t)(seed_bits < client.source_bits ? seed_bits : client.source_bits);
    struct ip prefix = ip_cut(&client.ip, client.seed_bits);
    client.seed = seed_of(&prefix);
    client.where = where_find(view->map, &client.ip);
    return client;
}

struct route_query dns_route_query(const struct dns_client *client, bool restricted,
                                   const struct residency_verdict *verdict)
{
    struct route_query query = {
        .client_known = client->where.located,
        .process = restricted ? &verdict->process : NULL,
        .seed = client->seed,
    };
    if (client->where.located)
        query.client = spot_at(client->where.latitude, client->where.longitude);
    return query;
}

void dns_choose(const struct dns_view *view, const struct dns_entry *entry,
                const struct dns_client *client, size_t max, struct dns_choice *ret)
{
    ret->count = 0;
    ret->restricted = entry->residency.count > 0;
    if (ret->restricted) {
        ret->verdict = residency_decide(&entry->residency, client->where.country, NULL);
        if (ret->verdict.reason != RESIDENCY_ALLOWED)
            return;
    }
    struct route_query query = dns_route_query(client, ret->restricted, &ret->verdict);
    size_t count = route_choose(&view->route, &entry->route, &query, ret->choices, max);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || ret->choices[i].near)
            ret->choices[ret->count++] = ret->choices[i];
}

/* ---- the scope ---------------------------------------------------------------------------- */

/* Of choices that no draw has a part in. */
static bool same(const struct dns_choice *a, const struct dns_choice *b)
{
    if (a->count != b->count || a->count > 1)
        return false;
    if (a->count == 0)
        return a->restricted == b->restricted && a->verdict.reason == b->verdict.reason;
    return a->choices[0].pop == b->choices[0].pop;
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
        dns_choose(view, entry, &there, 2, &other);
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

static uint8_t scope_find(const struct dns_view *view, const struct dns_entry *entry,
                          const struct dns_client *client, const struct dns_choice *choice)
{
    bool place = entry->asks_client || (entry->route.count > 1 && view->map);
    uint8_t bits = place ? client->where.bits : 0;
    if (by_draw(entry, choice))
        return client->seed_bits > bits ? client->seed_bits : bits;
    return (uint8_t)(place ? widen(view, entry, client, choice) : 0);
}

void dns_choose_scoped(const struct dns_view *view, const struct dns_entry *entry,
                       const struct dns_client *client, size_t max, struct dns_memo *memo,
                       struct dns_choice *ret)
{
    uint8_t bits = client->where.bits;
    const struct ip_block block = { ip_cut(&client->ip, bits), bits };
    struct dns_memo_row row;
    if (!entry->waits && dns_memo_get(memo, entry, &block, &row)) {
        ret->count = 1;
        ret->restricted = false; /* whatever it is, it is met */
        ret->choices[0] = (struct route_choice){ .pop = row.pop };
    } else {
        dns_choose(view, entry, client, max, ret);
        row = (struct dns_memo_row){ 0, scope_find(view, entry, client, ret) };
        if (ret->count == 1 && !by_draw(entry, ret)) {
            row.pop = ret->choices[0].pop;
            dns_memo_put(memo, entry, &block, row);
        }
    }
    unsigned low = ip_is4(&client->ip) ? IP4_BITS : 0, scope = row.scope_bits;
    scope = scope < client->source_bits ? scope : client->source_bits;
    ret->scope_bits = (uint8_t)(scope > low ? scope - low : 0);
}
