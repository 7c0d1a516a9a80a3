/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which revision serves a request: the one it names, else by the endpoint's shares, among those
 * that this loop has a ready replica of.
 */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "gateway/request.h"
#include "policy/traffic.h"

static_assert((int)TABLE_SHARES_MAX == (int)TRAFFIC_SHARES_MAX, "one number");

static const struct table_split *split_of(const struct request *request)
{
    const struct table_head *table = request->table->head;

    return table_split(table, (uint32_t)(request->row - table_endpoint(table, 0)));
}

static bool is_ready(const struct request *request, uint32_t row)
{
    return request->table->revisions[row]->sides[request->gl->index].lane_count > 0;
}

static bool client_ip(const struct request *request, struct ip *ret)
{
    const struct address *client = exchange_client(request->x);

    if (request->hop) /* it is the PoP's before */
        return false;
    if (client->kind == ADDRESS_IP4)
        *ret = ip_from4(client->ip);
    else if (client->kind == ADDRESS_IP6)
        memcpy(ret->bytes, client->ip, sizeof ret->bytes);
    else
        return false;
    return true;
}

/* The same for all of a request's life. */
static uint64_t point_of(struct request *request, const struct table_split *split)
{
    struct ip ip;

    if (request->point_known)
        return request->point;
    request->point_known = true;
    if (split->flags & TABLE_SPLIT_BY_ADDRESS && client_ip(request, &ip))
        request->point = traffic_point(request->row->uid, &ip);
    else
        request->point = shard_random(request->gl);
    return request->point;
}

/* `all`: as if all were ready. TABLE_NONE: there are no shares, or none of them is ready. */
static uint32_t choose(struct request *request, const struct table_split *split, bool all)
{
    const struct table_head *table = request->table->head;
    struct traffic_share shares[TRAFFIC_SHARES_MAX];

    if (!split || split->share_count == 0)
        return TABLE_NONE;
    const struct table_share *rows = table_shares(table, split);
    for (uint32_t i = 0; i < split->share_count; i++)
        shares[i] =
            (struct traffic_share){ table_revision(table, rows[i].revision)->number, rows[i].weight,
                                    all || is_ready(request, rows[i].revision) };
    int at = traffic_choose(shares, split->share_count, point_of(request, split));
    return at == TRAFFIC_NONE ? TABLE_NONE : rows[at].revision;
}

const struct table_revision *traffic_target(struct request *request, uint32_t *ret_row)
{
    const struct table_head *table = request->table->head;
    uint32_t row = TABLE_NONE;

    if (request->hop_revision) { /* its client's, by its address */
        row = table_find_revision(table, request->row, request->hop_revision);
        if (row != TABLE_NONE && !is_ready(request, row))
            row = TABLE_NONE;
    }
    if (row == TABLE_NONE)
        row = choose(request, split_of(request), false);
    if (row == TABLE_NONE)
        return call_target(request->table, request->row, ret_row);
    *ret_row = row;
    return table_revision(table, row);
}

bool traffic_ready(const struct table *table, uint32_t endpoint)
{
    const struct table_split *split = table_split(table->head, endpoint);
    const struct table_share *rows = split ? table_shares(table->head, split) : NULL;

    for (uint32_t i = 0; split && i < split->share_count; i++)
        if (rows[i].weight && atomic_load(&table->revisions[rows[i].revision]->ready) > 0)
            return true;
    return false;
}

uint32_t traffic_for_hop(struct request *request)
{
    const struct table_split *split = request->row ? split_of(request) : NULL;
    struct ip ip;

    if (!split || !(split->flags & TABLE_SPLIT_BY_ADDRESS) || request->revision_named ||
        request->route.version || !client_ip(request, &ip))
        return 0;
    uint32_t row = choose(request, split, true);
    return row == TABLE_NONE ? 0 : table_revision(request->table->head, row)->number;
}

/* ---- the header -------------------------------------------------------------------------------*/

int traffic_header(struct request *request, struct slice value, struct err *err)
{
    uint64_t number;

    if (slice_is(value, "canary"))
        request->revision_named = REVISION_CANARY;
    else if (slice_u64(value, &number) && number > 0 && number < REVISION_CANARY)
        request->revision_named = (uint32_t)number;
    else
        return err_set(err, ERR_BAD_INPUT, "'%s' is neither a revision's number nor 'canary'",
                       ERR_SLICE(value));
    return 0;
}

int traffic_named(struct request *request, uint32_t *ret_row, struct err *err)
{
    const struct table_head *table = request->table->head;
    const struct table_split *split = split_of(request);
    struct slice name = table_text(table, request->row->name);
    uint64_t version = request->route.version;
    uint32_t row;

    if (request->revision_named == REVISION_CANARY) {
        row = split ? split->canary : TABLE_NONE;
        if (row == TABLE_NONE)
            return err_set(err, ERR_NOT_FOUND,
                           "Perigee-Revision: endpoint '%.*s' has no canary now", SLICE_FMT(name));
    } else {
        row = table_find_revision(table, request->row, request->revision_named);
        if (row == TABLE_NONE)
            return err_set(err, ERR_NOT_FOUND,
                           "Perigee-Revision: endpoint '%.*s' has no revision %u", SLICE_FMT(name),
                           request->revision_named);
    }
    if (version && table_revision(table, row)->number != version)
        return err_set(err, ERR_BAD_INPUT,
                       "Perigee-Revision says revision %u, the path version %llu",
                       table_revision(table, row)->number, (unsigned long long)version);
    *ret_row = row;
    return 0;
}
