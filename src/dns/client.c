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
