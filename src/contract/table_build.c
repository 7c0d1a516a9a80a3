/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table in two passes over a sorted copy of the source: count, then place. Texts go behind the
 * rows; models stand on 8-byte boundaries so that they are read in place.
 */
#include "contract/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

struct claim { /* a domain or an alias, with who wants it */
    struct slice project, name;
    uint64_t uid;
    uint32_t endpoint;
};

struct builder {
    char *data;
    uint64_t used, room;
};

static int order_endpoints(const void *a, const void *b)
{
    const struct table_source_endpoint *x = *(const struct table_source_endpoint *const *)a;
    const struct table_source_endpoint *y = *(const struct table_source_endpoint *const *)b;
    int order = slice_order(x->project, y->project);

    return order ? order : slice_order(x->name, y->name);
}

static int order_revisions(const void *a, const void *b)
{
    uint32_t x = (*(const struct table_source_revision *const *)a)->number;
    uint32_t y = (*(const struct table_source_revision *const *)b)->number;

    return (x > y) - (x < y);
}

static int order_claims(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;
    int order = slice_order(x->project, y->project);

    if (order == 0)
        order = slice_order(x->name, y->name);
    return order ? order : (x->uid > y->uid) - (x->uid < y->uid);
}

/* Sorted by name; of equal ones the first (lowest uid) stays. Returns how many are left. */
static size_t claims_settle(struct claim *claims, size_t count)
{
    size_t kept = 0;

    if (count > 1)
        qsort(claims, count, sizeof *claims, order_claims);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || !slice_equal(claims[kept - 1].project, claims[i].project) ||
            !slice_equal(claims[kept - 1].name, claims[i].name))
            claims[kept++] = claims[i];
    return kept;
}

static struct table_text builder_text(struct builder *builder, struct slice text)
{
    struct table_text place = { (uint32_t)builder->used, (uint32_t)text.size };

    assert(text.size <= builder->room - builder->used);
    if (text.size)
        memcpy(builder->data + builder->used, text.data, text.size);
    builder->used += text.size;
    return place;
}

static struct table_text builder_model(struct builder *builder, struct slice model)
{
    builder->used = (builder->used + 7) & ~UINT64_C(7);
    return builder_text(builder, model);
}

static struct table_range builder_rows(struct builder *builder, size_t count, size_t bytes)
{
    builder->used = (builder->used + 7) & ~UINT64_C(7);
    struct table_range rows = { (uint32_t)builder->used, (uint32_t)count };
    builder->used += count * bytes;
    assert(builder->used <= builder->room);
    return rows;
}

struct counts {
    size_t revisions, domains, aliases, origins, rules, placements, addresses, shares, targets;
    uint64_t bytes;
};

static struct counts source_count(const struct table_source *source)
{
    struct counts counts = { .bytes = sizeof(struct table_head) + 144 + source->zone.size +
                                      source->pop.size + source->country.size };

    for (size_t i = 0; i < source->endpoint_count; i++) {
        const struct table_source_endpoint *e = &source->endpoints[i];
        counts.revisions += e->revision_count;
        counts.domains += e->domain_count;
        counts.aliases += e->alias_count;
        counts.origins += e->origin_count;
        counts.rules += e->rule_count;
        counts.bytes += sizeof(struct table_endpoint) + e->name.size + e->project.size;
        counts.bytes += sizeof(struct table_residency) + e->elsewhere.size +
                        e->rule_count * sizeof(struct residency_rule) +
                        e->placement_count * sizeof(struct table_placement);
        counts.placements += e->placement_count;
        counts.bytes += sizeof(struct table_split) + e->share_count * sizeof(struct table_share);
        counts.shares += e->share_count;
        for (size_t k = 0; k < e->revision_count; k++) {
            const struct table_source_revision *revision = &e->revisions[k];
            counts.bytes += sizeof(struct table_revision) + revision->runtime.size +
                            revision->digest.size + revision->model.size + 8 +
                            revision->message.size;
            counts.bytes += sizeof(struct table_reach) + revision->authority.size +
                            revision->target_count * sizeof(struct table_target);
            counts.targets += revision->target_count;
        }
        for (size_t k = 0; k < e->domain_count; k++)
            counts.bytes += sizeof(struct table_host) + e->domains[k].size;
        for (size_t k = 0; k < e->alias_count; k++)
            counts.bytes += sizeof(struct table_alias) + e->aliases[k].size + e->project.size;
        for (size_t k = 0; k < e->origin_count; k++)
            counts.bytes += sizeof(struct table_text) + e->origins[k].size;
    }
    for (size_t i = 0; i < source->pop_count; i++) {
        counts.bytes += sizeof(struct table_pop) + sizeof(uint32_t) + source->pops[i].name.size +
                        source->pops[i].region.size +
                        source->pops[i].address_count * sizeof(struct ip);
        counts.addresses += source->pops[i].address_count;
    }
    return counts;
}

static void endpoint_place(struct builder *builder, struct table_head *table, uint32_t row,
                           const struct table_source_endpoint *source)
{
    struct table_endpoint *endpoint =
        (struct table_endpoint *)(void *)(builder->data + table->endpoints.offset) + row;

    endpoint->uid = source->uid;
    endpoint->name = builder_text(builder, source->name);
    endpoint->project = builder_text(builder, source->project);
    endpoint->state = source->state;
    endpoint->serving = TABLE_NONE;
    endpoint->queue_depth = source->queue_depth;
    endpoint->concurrency = source->concurrency;
    endpoint->queue_timeout_us = source->queue_timeout_us;
    endpoint->queue_cold_us = source->queue_cold_us;
    endpoint->timeout_us = source->timeout_us;
    endpoint->body_bytes_max = source->body_bytes_max;
    endpoint->queue_bytes_max = source->queue_bytes_max;
    endpoint->start_ms = source->start_ms;
    endpoint->origin_first = table->origins.count;
    endpoint->origin_count = (uint32_t)source->origin_count;
    struct table_text *origins =
        (struct table_text *)(void *)(builder->data + table->origins.offset);
    for (size_t i = 0; i < source->origin_count; i++)
        origins[table->origins.count++] = builder_text(builder, source->origins[i]);
}

static uint32_t pop_row(const struct table_head *table, struct slice name)
{
    uint32_t from = 0, end = table->pops.count;
    while (from < end) { /* by name in byte order */
        uint32_t half = from + (end - from) / 2;
        int order = slice_order(table_text(table, table_pop(table, half)->name), name);
        if (order == 0)
            return half;
        if (order < 0)
            from = half + 1;
        else
            end = half;
    }
    return TABLE_NONE;
}

static int order_placements(const void *a, const void *b)
{
    uint32_t x = ((const struct table_placement *)a)->pop;
    uint32_t y = ((const struct table_placement *)b)->pop;
    return (x > y) - (x < y);
}

/* PoPs have their rows by now. `seen`: of each PoP the last endpoint that named it, plus one. */
static void placements_place(struct builder *builder, struct table_head *table, uint32_t row,
                             struct table_residency *residency,
                             const struct table_source_endpoint *source, uint32_t *seen)
{
    struct table_placement *rows =
        (struct table_placement *)(void *)(builder->data + table->placements.offset) +
        table->placements.count;

    residency->placement_first = table->placements.count;
    for (size_t i = 0; i < source->placement_count; i++) {
        uint32_t pop = pop_row(table, source->placements[i].pop);
        if (pop == TABLE_NONE || seen[pop] == row + 1)
            continue;
        seen[pop] = row + 1;
        rows[residency->placement_count++] =
            (struct table_placement){ pop, source->placements[i].replicas };
    }
    qsort(rows, residency->placement_count, sizeof *rows, order_placements);
    table->placements.count += residency->placement_count;
}

static void residency_place(struct builder *builder, struct table_head *table, uint32_t row,
                            const struct table_source_endpoint *source, uint32_t *seen)
{
    struct table_residency *residency =
        (struct table_residency *)(void *)(builder->data + table->residencies.offset) + row;
    struct residency_rule *rules =
        (struct residency_rule *)(void *)(builder->data + table->rules.offset) + table->rules.count;

    residency->rule_first = table->rules.count;
    residency->rule_count = (uint32_t)source->rule_count;
    residency->unknown_client = source->unknown_client;
    residency->elsewhere = builder_text(builder, source->elsewhere);
    placements_place(builder, table, row, residency, source, seen);
    if (source->rule_count)
        memcpy(rules, source->rules, source->rule_count * sizeof *rules);
    table->rules.count += (uint32_t)source->rule_count;
}

static int order_pops(const void *a, const void *b)
{
    return slice_order(((const struct table_source_pop *)a)->name,
                       ((const struct table_source_pop *)b)->name);
}

static void pops_place(struct arena *arena, struct builder *builder, struct table_head *table,
                       const struct table_source *source)
{
    struct table_source_pop *sorted =
        ARENA_ARRAY(arena, struct table_source_pop, source->pop_count + 1);
    struct table_pop *pops = (struct table_pop *)(void *)(builder->data + table->pops.offset);

    if (source->pop_count == 0)
        return;
    memcpy(sorted, source->pops, source->pop_count * sizeof *sorted);
    qsort(sorted, source->pop_count, sizeof *sorted, order_pops);
    struct ip *addresses = (struct ip *)(void *)(builder->data + table->addresses.offset);
    uint32_t *ports = (uint32_t *)(void *)(builder->data + table->ports.offset);
    for (size_t i = 0; i < source->pop_count; i++) {
        ports[i] = sorted[i].port ? sorted[i].port : TABLE_PORT_DEFAULT;
        pops[i] = (struct table_pop){ .name = builder_text(builder, sorted[i].name),
                                      .region = builder_text(builder, sorted[i].region),
                                      .country = sorted[i].country,
                                      .flags = sorted[i].flags,
                                      .latitude = sorted[i].latitude,
                                      .longitude = sorted[i].longitude,
                                      .address_first = table->addresses.count,
                                      .address_count = (uint32_t)sorted[i].address_count };
        for (size_t k = 0; k < sorted[i].address_count; k++)
            addresses[table->addresses.count++] = sorted[i].addresses[k];
    }
}

static void reach_place(struct builder *builder, struct table_head *table, uint32_t row,
                        const struct table_source_revision *source)
{
    struct table_reach *reach =
        (struct table_reach *)(void *)(builder->data + table->reaches.offset) + row;
    struct table_target *targets =
        (struct table_target *)(void *)(builder->data + table->targets.offset);

    *reach = (struct table_reach){ .kind = source->reach_kind,
                                   .flags = source->reach_flags,
                                   .target_first = table->targets.count,
                                   .target_count = (uint32_t)source->target_count,
                                   .authority = builder_text(builder, source->authority) };
    for (size_t i = 0; i < source->target_count; i++)
        targets[table->targets.count++] = source->targets[i];
}

static void revisions_place(struct arena *arena, struct builder *builder, struct table_head *table,
                            uint32_t row, const struct table_source_endpoint *source)
{
    struct table_endpoint *endpoint =
        (struct table_endpoint *)(void *)(builder->data + table->endpoints.offset) + row;
    const struct table_source_revision **sorted =
        ARENA_ARRAY(arena, const struct table_source_revision *, source->revision_count + 1);

    for (size_t i = 0; i < source->revision_count; i++)
        sorted[i] = &source->revisions[i];
    if (source->revision_count > 1)
        qsort(sorted, source->revision_count, sizeof *sorted, order_revisions);
    endpoint->revision_first = table->revisions.count;
    endpoint->revision_count = (uint32_t)source->revision_count;
    for (size_t i = 0; i < source->revision_count; i++) {
        if (sorted[i]->retried && i < 32)
            ((struct table_residency *)(uintptr_t)table_residency(table, row))->retried |= 1u << i;
        uint32_t at = table->revisions.count++;
        struct table_revision *revision =
            (struct table_revision *)(void *)(builder->data + table->revisions.offset) + at;
        revision->uid = sorted[i]->uid;
        revision->number = sorted[i]->number;
        revision->endpoint = row;
        revision->runtime = builder_text(builder, sorted[i]->runtime);
        revision->digest = builder_text(builder, sorted[i]->digest);
        revision->message = builder_text(builder, sorted[i]->message);
        revision->model = builder_model(builder, sorted[i]->model);
        reach_place(builder, table, at, sorted[i]);
        if (source->serving_number && source->serving_number == sorted[i]->number)
            endpoint->serving = at;
    }
}

static void split_place(struct builder *builder, struct table_head *table, uint32_t row,
                        const struct table_source_endpoint *source)
{
    struct table_split *split =
        (struct table_split *)(void *)(builder->data + table->splits.offset) + row;
    struct table_share *shares =
        (struct table_share *)(void *)(builder->data + table->shares.offset) + table->shares.count;
    const struct table_endpoint *endpoint = table_endpoint(table, row);

    *split =
        (struct table_split){ .share_first = table->shares.count,
                              .canary = table_find_revision(table, endpoint, source->canary_number),
                              .flags = source->by_address ? TABLE_SPLIT_BY_ADDRESS : 0 };
    for (size_t i = 0; i < source->share_count; i++) {
        uint32_t at = table_find_revision(table, endpoint, source->shares[i].number);
        if (at != TABLE_NONE)
            shares[split->share_count++] = (struct table_share){ at, source->shares[i].weight };
    }
    table->shares.count += split->share_count;
}

static void names_place(struct arena *arena, struct builder *builder, struct table_head *table,
                        const struct table_source_endpoint *const *sorted, size_t count,
                        const struct counts *counts)
{
    struct claim *domains = ARENA_ARRAY(arena, struct claim, counts->domains + 1);
    struct claim *aliases = ARENA_ARRAY(arena, struct claim, counts->aliases + 1);
    size_t domain_count = 0, alias_count = 0;

    for (size_t i = 0; i < count; i++) {
        const struct table_source_endpoint *e = sorted[i];
        for (size_t k = 0; k < e->domain_count; k++)
            domains[domain_count++] =
                (struct claim){ .name = e->domains[k], .uid = e->uid, .endpoint = (uint32_t)i };
        for (size_t k = 0; k < e->alias_count; k++)
            aliases[alias_count++] =
                (struct claim){ e->project, e->aliases[k], e->uid, (uint32_t)i };
    }
    domain_count = claims_settle(domains, domain_count);
    alias_count = claims_settle(aliases, alias_count);

    struct table_host *hosts = (struct table_host *)(void *)(builder->data + table->hosts.offset);
    for (size_t i = 0; i < domain_count; i++)
        hosts[i] =
            (struct table_host){ builder_text(builder, domains[i].name), domains[i].endpoint };
    table->hosts.count = (uint32_t)domain_count;
    struct table_alias *rows =
        (struct table_alias *)(void *)(builder->data + table->aliases.offset);
    for (size_t i = 0; i < alias_count; i++)
        rows[i] =
            (struct table_alias){ builder_text(builder, aliases[i].project),
                                  builder_text(builder, aliases[i].name), aliases[i].endpoint };
    table->aliases.count = (uint32_t)alias_count;
}

int table_build(struct arena *arena, const struct table_source *source, struct slice *ret_bytes,
                struct err *err)
{
    struct counts counts = source_count(source);

    if (counts.bytes > TABLE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the table would have %llu bytes, at most %llu",
                       (unsigned long long)counts.bytes, (unsigned long long)TABLE_BYTES_MAX);
    const struct table_source_endpoint **sorted =
        ARENA_ARRAY(arena, const struct table_source_endpoint *, source->endpoint_count + 1);
    for (size_t i = 0; i < source->endpoint_count; i++)
        sorted[i] = &source->endpoints[i];
    if (source->endpoint_count > 1)
        qsort(sorted, source->endpoint_count, sizeof *sorted, order_endpoints);

    struct builder builder = { arena_alloc(arena, counts.bytes), sizeof(struct table_head),
                               counts.bytes };
    struct table_head *table = (struct table_head *)(void *)builder.data;
    table->magic = TABLE_MAGIC;
    table->version = TABLE_VERSION;
    table->number = source->number;
    table->endpoints =
        builder_rows(&builder, source->endpoint_count, sizeof(struct table_endpoint));
    table->revisions = builder_rows(&builder, counts.revisions, sizeof(struct table_revision));
    table->hosts = builder_rows(&builder, counts.domains, sizeof(struct table_host));
    table->aliases = builder_rows(&builder, counts.aliases, sizeof(struct table_alias));
    table->origins = builder_rows(&builder, counts.origins, sizeof(struct table_text));
    table->residencies =
        builder_rows(&builder, source->endpoint_count, sizeof(struct table_residency));
    table->rules = builder_rows(&builder, counts.rules, sizeof(struct residency_rule));
    table->pops = builder_rows(&builder, source->pop_count, sizeof(struct table_pop));
    table->placements = builder_rows(&builder, counts.placements, sizeof(struct table_placement));
    table->addresses = builder_rows(&builder, counts.addresses, sizeof(struct ip));
    table->ports = builder_rows(&builder, source->pop_count, sizeof(uint32_t));
    table->splits = builder_rows(&builder, source->endpoint_count, sizeof(struct table_split));
    table->shares = builder_rows(&builder, counts.shares, sizeof(struct table_share));
    table->reaches = builder_rows(&builder, counts.revisions, sizeof(struct table_reach));
    table->targets = builder_rows(&builder, counts.targets, sizeof(struct table_target));
    table->revisions.count = 0; /* counted again as they are placed */
    table->targets.count = 0;
    table->origins.count = table->rules.count = 0;
    table->placements.count = table->addresses.count = table->shares.count = 0;
    table->zone = builder_text(&builder, source->zone);
    table->pop = builder_text(&builder, source->pop);
    table->country = builder_text(&builder, source->country);
    pops_place(arena, &builder, table, source);
    uint32_t *seen = ARENA_ARRAY(arena, uint32_t, source->pop_count + 1);
    for (size_t i = 0; i < source->endpoint_count; i++) {
        endpoint_place(&builder, table, (uint32_t)i, sorted[i]);
        residency_place(&builder, table, (uint32_t)i, sorted[i], seen);
        revisions_place(arena, &builder, table, (uint32_t)i, sorted[i]);
        split_place(&builder, table, (uint32_t)i, sorted[i]);
    }
    names_place(arena, &builder, table, sorted, source->endpoint_count, &counts);
    table->bytes = builder.used;
    *ret_bytes = (struct slice){ builder.data, builder.used };
    if (table_check(*ret_bytes, err) <
        0) /* two of one name, a limit of zero: the source is wrong */
        return err_wrap(err, "building the table");
    return 0;
}
