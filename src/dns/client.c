/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/client.h"

#include "dns/memo.h"
#include "dns/resolve.h"
#include "dns/view.h"
#include "policy/seed.h"

struct dns_client dns_client_of(const struct dns_view *view, const struct dns_question *question,
                                const struct dns_asker *asker)
{
    const struct dns_subnet *subnet = &question->subnet;
    struct dns_client client = { .ip = asker->address, .source_bits = 128 };
    if (subnet->present && subnet->bits) { /* 0 bits: it wants not to be known */
        client.ip = subnet->ip;
        client.source_bits = (uint8_t)(subnet->bits + (subnet->family == 1 ? IP4_BITS : 0));
    }
    unsigned bits = seed_bits(&client.ip);
    client.seed_bits = (uint8_t)(bits < client.source_bits ? bits : client.source_bits);
    struct ip prefix = ip_cut(&client.ip, client.seed_bits);
    client.seed = seed_of_prefix(&prefix);
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
