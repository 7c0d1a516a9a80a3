/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One walk over everything, so that no reader needs a check of its own: after table_check() every
 * offset is inside, every row number exists, and every list that is searched is sorted. The walk
 * reads sealed memory (or a private copy): what was checked does not change.
 */
#include "contract/table.h"

#include <string.h>

#include "base/err.h"
#include "contract/ring.h"

/* Beyond any sensible value, and far from overflowing when multiplied by 1000. */
#define TABLE_TIME_US_MAX (INT64_C(366) * 86'400 * 1'000'000)
#define TABLE_ROWS_MAX (1u << 22)

static bool text_inside(const struct table_head *table, struct table_text text)
{
    return text.offset <= table->bytes && text.bytes <= table->bytes - text.offset;
}

static bool rows_inside(const struct table_head *table, struct table_range rows, size_t size)
{
    return rows.count <= TABLE_ROWS_MAX && rows.offset % 8 == 0 && rows.offset <= table->bytes &&
           rows.count <= (table->bytes - rows.offset) / size;
}

static int pair_compare(struct slice a, struct slice a_name, struct slice b, struct slice b_name)
{
    int order = slice_order(a, b);

    return order ? order : slice_order(a_name, b_name);
}

static const struct table_host *host_row(const struct table_head *table, uint32_t row)
{
    return (const struct table_host *)((const char *)table + table->hosts.offset) + row;
}

static const struct table_alias *alias_row(const struct table_head *table, uint32_t row)
{
    return (const struct table_alias *)((const char *)table + table->aliases.offset) + row;
}

static struct slice origin_row(const struct table_head *table, uint32_t row)
{
    return table_text(
        table, ((const struct table_text *)((const char *)table + table->origins.offset))[row]);
}

static int head_check(struct slice bytes, struct err *err)
{
    const struct table_head *table = (const struct table_head *)(const void *)bytes.data;

    if (bytes.size < TABLE_HEAD_BYTES_1 || bytes.size > TABLE_BYTES_MAX ||
        (uintptr_t)table % 8 != 0)
        return err_set(err, ERR_BAD_INPUT, "table: %zu bytes are no table", bytes.size);
    if (table->magic != TABLE_MAGIC)
        return err_set(err, ERR_BAD_INPUT, "table: it does not begin as one");
    if (table->version < 1 || table->version > TABLE_VERSION)
        return err_set(err, ERR_BAD_INPUT, "table: version %u, this program reads 1 to %u",
                       table->version, TABLE_VERSION);
    if ((table->version > 1 && bytes.size < TABLE_HEAD_BYTES_2) ||
        (table->version > 2 && bytes.size < TABLE_HEAD_BYTES_3) ||
        (table->version > 3 && bytes.size < TABLE_HEAD_BYTES_4) ||
        (table->version > 4 && bytes.size < sizeof *table))
        return err_set(err, ERR_BAD_INPUT, "table: %zu bytes are no table", bytes.size);
    if (table->bytes != bytes.size)
        return err_set(err, ERR_BAD_INPUT, "table: says %llu bytes and has %zu",
                       (unsigned long long)table->bytes, bytes.size);
    if (!text_inside(table, table->zone) || !text_inside(table, table->pop) ||
        !text_inside(table, table->country))
        return err_set(err, ERR_BAD_INPUT, "table: a text of the head is outside");
    if (!rows_inside(table, table->endpoints, sizeof(struct table_endpoint)) ||
        !rows_inside(table, table->revisions, sizeof(struct table_revision)) ||
        !rows_inside(table, table->hosts, sizeof(struct table_host)) ||
        !rows_inside(table, table->aliases, sizeof(struct table_alias)) ||
        !rows_inside(table, table->origins, sizeof(struct table_text)))
        return err_set(err, ERR_BAD_INPUT, "table: rows are outside");
    if (table->version < 2)
        return 0;
    if (!rows_inside(table, table->residencies, sizeof(struct table_residency)) ||
        !rows_inside(table, table->rules, sizeof(struct residency_rule)) ||
        !rows_inside(table, table->pops, sizeof(struct table_pop)) ||
        !rows_inside(table, table->placements, sizeof(struct table_placement)) ||
        !rows_inside(table, table->addresses, sizeof(struct ip)) ||
        table->residencies.count != table->endpoints.count)
        return err_set(err, ERR_BAD_INPUT, "table: rows of residency are outside");
    if (table->version < 3)
        return 0;
    if (!rows_inside(table, table->ports, sizeof(uint32_t)) ||
        table->ports.count != table->pops.count)
        return err_set(err, ERR_BAD_INPUT, "table: ports are outside");
    if (table->version < 4)
        return 0;
    if (!rows_inside(table, table->splits, sizeof(struct table_split)) ||
        !rows_inside(table, table->shares, sizeof(struct table_share)) ||
        table->splits.count != table->endpoints.count)
        return err_set(err, ERR_BAD_INPUT, "table: rows of shares are outside");
    if (table->version < 5)
        return 0;
    if (!rows_inside(table, table->reaches, sizeof(struct table_reach)) ||
        !rows_inside(table, table->targets, sizeof(struct table_target)) ||
        table->reaches.count != table->revisions.count)
        return err_set(err, ERR_BAD_INPUT, "table: rows of targets are outside");
    return 0;
}

static bool span_inside(uint32_t first, uint32_t count, uint32_t all)
{
    return first <= all && count <= all - first;
}

static bool time_right(uint64_t us)
{
    return us <= TABLE_TIME_US_MAX;
}

static int endpoint_check(const struct table_head *table, uint32_t row, struct err *err)
{
    const struct table_endpoint *endpoint = table_endpoint(table, row);

    if (!text_inside(table, endpoint->name) || !text_inside(table, endpoint->project) ||
        endpoint->name.bytes == 0 || endpoint->project.bytes == 0)
        return err_set(err, ERR_BAD_INPUT, "table: a name of endpoint %u is outside", row);
    if (row > 0) {
        const struct table_endpoint *before = table_endpoint(table, row - 1);
        if (pair_compare(table_text(table, before->project), table_text(table, before->name),
                         table_text(table, endpoint->project),
                         table_text(table, endpoint->name)) >= 0)
            return err_set(err, ERR_BAD_INPUT, "table: endpoint %u is out of order", row);
    }
    if (!span_inside(endpoint->revision_first, endpoint->revision_count, table->revisions.count) ||
        !span_inside(endpoint->origin_first, endpoint->origin_count, table->origins.count))
        return err_set(err, ERR_BAD_INPUT, "table: rows of endpoint %u are outside", row);
    if (endpoint->serving != TABLE_NONE &&
        (endpoint->serving < endpoint->revision_first ||
         endpoint->serving - endpoint->revision_first >= endpoint->revision_count))
        return err_set(err, ERR_BAD_INPUT, "table: endpoint %u serves what is not its own", row);
    if (endpoint->state < TABLE_ENDPOINT_RUNNING || endpoint->state > TABLE_ENDPOINT_AWAY)
        return err_set(err, ERR_BAD_INPUT, "table: endpoint %u has state %u", row, endpoint->state);
    if (endpoint->concurrency == 0 || !time_right(endpoint->queue_timeout_us) ||
        !time_right(endpoint->queue_cold_us) || !time_right(endpoint->timeout_us))
        return err_set(err, ERR_BAD_INPUT, "table: endpoint %u has a limit out of range", row);
    return 0;
}

/* A list is a list of known form, so that whoever decides by it need not ask. */
static bool list_right(const struct residency_list *list, uint32_t scope_max)
{
    return list->scope <= scope_max && list->reserved == 0;
}

static bool placements_right(const struct table_head *table,
                             const struct table_residency *residency)
{
    if (!span_inside(residency->placement_first, residency->placement_count,
                     table->placements.count))
        return false;
    const struct table_placement *rows = table_placements(table, residency);
    for (uint32_t i = 0; i < residency->placement_count; i++)
        if (rows[i].pop >= table->pops.count || (i > 0 && rows[i].pop <= rows[i - 1].pop))
            return false;
    return true;
}

static int residencies_check(const struct table_head *table, struct err *err)
{
    static const struct table_residency none;
    for (uint32_t i = 0; table->version > 1 && i < table->endpoints.count; i++) {
        const struct table_residency *residency = table_residency(table, i);
        if (!span_inside(residency->rule_first, residency->rule_count, table->rules.count) ||
            residency->rule_count > RESIDENCY_RULES_MAX ||
            residency->unknown_client > COUNTRY_NUMBER_MAX ||
            !text_inside(table, residency->elsewhere) || !placements_right(table, residency))
            return err_set(err, ERR_BAD_INPUT, "table: the residency of endpoint %u is outside", i);
    }
    for (uint32_t i = 0; table->version > 1 && i < table->rules.count; i++) {
        const struct residency_rule *rule = table_rules(table, &none) + i;
        if (!list_right(&rule->clients, RESIDENCY_ANY) ||
            !list_right(&rule->process, RESIDENCY_SAME_COUNTRY) ||
            !list_right(&rule->transit, RESIDENCY_SAME_COUNTRY) ||
            !list_right(&rule->logs, RESIDENCY_SAME_COUNTRY) ||
            !list_right(&rule->cache, RESIDENCY_SAME_COUNTRY))
            return err_set(err, ERR_BAD_INPUT, "table: rule %u is none", i);
    }
    return 0;
}

static bool own_revision(const struct table_endpoint *endpoint, uint32_t row)
{
    return row >= endpoint->revision_first &&
           row - endpoint->revision_first < endpoint->revision_count;
}

static int splits_check(const struct table_head *table, struct err *err)
{
    for (uint32_t i = 0; table->version > 3 && i < table->splits.count; i++) {
        const struct table_endpoint *endpoint = table_endpoint(table, i);
        const struct table_split *split = table_split(table, i);
        if (!span_inside(split->share_first, split->share_count, table->shares.count) ||
            split->share_count > TABLE_SHARES_MAX || split->flags & ~TABLE_SPLIT_FLAGS ||
            (split->canary != TABLE_NONE && !own_revision(endpoint, split->canary)))
            return err_set(err, ERR_BAD_INPUT, "table: the shares of endpoint %u are outside", i);
        const struct table_share *shares = table_shares(table, split);
        for (uint32_t k = 0; k < split->share_count; k++)
            if (!own_revision(endpoint, shares[k].revision))
                return err_set(err, ERR_BAD_INPUT,
                               "table: endpoint %u shares with what is not its own", i);
    }
    return 0;
}

static bool port_right(const struct table_head *table, uint32_t row)
{
    uint32_t port;
    memcpy(&port, (const char *)table + table->ports.offset + row * sizeof port, sizeof port);
    return port > 0 && port <= UINT16_MAX;
}

static int pops_check(const struct table_head *table, struct err *err)
{
    const struct table_pop *pop;
    for (uint32_t i = 0; (pop = table_pop(table, i)); i++) {
        if (!text_inside(table, pop->name) || !text_inside(table, pop->region) ||
            pop->country > COUNTRY_NUMBER_MAX || pop->flags & ~TABLE_POP_FLAGS ||
            !span_inside(pop->address_first, pop->address_count, table->addresses.count) ||
            !(pop->latitude >= -90 && pop->latitude <= 90) ||
            !(pop->longitude >= -180 && pop->longitude <= 180))
            return err_set(err, ERR_BAD_INPUT, "table: PoP %u is outside", i);
        if (table->version > 2 && !port_right(table, i))
            return err_set(err, ERR_BAD_INPUT, "table: PoP %u has a port out of range", i);
        if (i > 0 && slice_order(table_text(table, table_pop(table, i - 1)->name),
                                 table_text(table, pop->name)) >= 0)
            return err_set(err, ERR_BAD_INPUT, "table: PoP %u is out of order", i);
    }
    return 0;
}

static int revision_check(const struct table_head *table, uint32_t row, struct err *err)
{
    const struct table_revision *revision = table_revision(table, row);

    if (!text_inside(table, revision->runtime) || !text_inside(table, revision->digest) ||
        !text_inside(table, revision->model) || !text_inside(table, revision->message))
        return err_set(err, ERR_BAD_INPUT, "table: a text of revision %u is outside", row);
    if (revision->endpoint >= table->endpoints.count)
        return err_set(err, ERR_BAD_INPUT, "table: revision %u has no endpoint", row);
    const struct table_endpoint *endpoint = table_endpoint(table, revision->endpoint);
    if (row < endpoint->revision_first ||
        row - endpoint->revision_first >= endpoint->revision_count)
        return err_set(err, ERR_BAD_INPUT, "table: revision %u is not its endpoint's", row);
    if (revision->number == 0)
        return err_set(err, ERR_BAD_INPUT, "table: revision %u has no number", row);
    if (row > endpoint->revision_first &&
        table_revision(table, row - 1)->number >= revision->number)
        return err_set(err, ERR_BAD_INPUT, "table: revision %u is out of order", row);
    if (revision->model.bytes == 0)
        return 0;
    if (revision->model.offset % 8 != 0)
        return err_set(err, ERR_BAD_INPUT, "table: the model of revision %u is not aligned", row);
    const void *model = (const char *)table + revision->model.offset;
    if (model_check(model, revision->model.bytes, err) < 0)
        return err_wrap(err, "table: revision %u", row);
    return 0;
}

static int reaches_check(const struct table_head *table, struct err *err)
{
    for (uint32_t i = 0; table->version > 4 && i < table->reaches.count; i++) {
        const struct table_reach *reach = table_reach(table, i);
        if (reach->kind > TABLE_REACH_HTTP ||
            !span_inside(reach->target_first, reach->target_count, table->targets.count) ||
            reach->target_count > TABLE_TARGETS_MAX || !text_inside(table, reach->authority))
            return err_set(err, ERR_BAD_INPUT, "table: how revision %u is reached is outside", i);
        const struct table_target *targets = table_targets(table, reach);
        for (uint32_t k = 0; k < reach->target_count; k++)
            if (targets[k].id == 0 || targets[k].port == 0 || targets[k].port > UINT16_MAX ||
                targets[k].kind > TABLE_TARGET_SOCKET || targets[k].flags & ~TABLE_TARGET_FLAGS)
                return err_set(err, ERR_BAD_INPUT, "table: target %u of revision %u is none", k, i);
    }
    return 0;
}

static int names_check(const struct table_head *table, struct err *err)
{
    for (uint32_t i = 0; i < table->hosts.count; i++) {
        const struct table_host *host = host_row(table, i);
        if (!text_inside(table, host->name) || host->endpoint >= table->endpoints.count)
            return err_set(err, ERR_BAD_INPUT, "table: host %u is outside", i);
        if (i > 0 && slice_order(table_text(table, host_row(table, i - 1)->name),
                                 table_text(table, host->name)) >= 0)
            return err_set(err, ERR_BAD_INPUT, "table: host %u is out of order", i);
    }
    for (uint32_t i = 0; i < table->aliases.count; i++) {
        const struct table_alias *alias = alias_row(table, i);
        if (!text_inside(table, alias->project) || !text_inside(table, alias->name) ||
            alias->endpoint >= table->endpoints.count)
            return err_set(err, ERR_BAD_INPUT, "table: alias %u is outside", i);
        if (i == 0)
            continue;
        const struct table_alias *before = alias_row(table, i - 1);
        if (pair_compare(table_text(table, before->project), table_text(table, before->name),
                         table_text(table, alias->project), table_text(table, alias->name)) >= 0)
            return err_set(err, ERR_BAD_INPUT, "table: alias %u is out of order", i);
    }
    const struct table_text *origins =
        (const struct table_text *)((const char *)table + table->origins.offset);
    for (uint32_t i = 0; i < table->origins.count; i++)
        if (!text_inside(table, origins[i]))
            return err_set(err, ERR_BAD_INPUT, "table: origin %u is outside", i);
    return 0;
}

int table_check(struct slice bytes, struct err *err)
{
    int r = head_check(bytes, err);

    if (r < 0)
        return r;
    const struct table_head *table = (const struct table_head *)(const void *)bytes.data;
    for (uint32_t i = 0; i < table->endpoints.count && r == 0; i++)
        r = endpoint_check(table, i, err);
    for (uint32_t i = 0; i < table->revisions.count && r == 0; i++)
        r = revision_check(table, i, err);
    if (r == 0)
        r = residencies_check(table, err);
    if (r == 0)
        r = pops_check(table, err);
    if (r == 0)
        r = splits_check(table, err);
    if (r == 0)
        r = reaches_check(table, err);
    return r < 0 ? r : names_check(table, err);
}

uint32_t table_find_endpoint(const struct table_head *table, struct slice project,
                             struct slice name)
{
    uint32_t low = 0, high = table->endpoints.count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct table_endpoint *row = table_endpoint(table, middle);
        int order = pair_compare(project, name, table_text(table, row->project),
                                 table_text(table, row->name));
        if (order == 0)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return TABLE_NONE;
}

uint32_t table_find_alias(const struct table_head *table, struct slice project, struct slice name)
{
    uint32_t low = 0, high = table->aliases.count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct table_alias *row = alias_row(table, middle);
        int order = pair_compare(project, name, table_text(table, row->project),
                                 table_text(table, row->name));
        if (order == 0)
            return row->endpoint;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return TABLE_NONE;
}

uint32_t table_find_host(const struct table_head *table, struct slice host)
{
    uint32_t low = 0, high = table->hosts.count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct table_host *row = host_row(table, middle);
        int order = slice_order(host, table_text(table, row->name));
        if (order == 0)
            return row->endpoint;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return TABLE_NONE;
}

uint32_t table_find_revision(const struct table_head *table, const struct table_endpoint *endpoint,
                             uint32_t number)
{
    uint32_t low = endpoint->revision_first;
    uint32_t high = low + endpoint->revision_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t found = table_revision(table, middle)->number;
        if (found == number)
            return middle;
        if (number < found)
            high = middle;
        else
            low = middle + 1;
    }
    return TABLE_NONE;
}

bool table_origin_allowed(const struct table_head *table, const struct table_endpoint *endpoint,
                          struct slice origin)
{
    for (uint32_t i = 0; i < endpoint->origin_count; i++) {
        struct slice allowed = origin_row(table, endpoint->origin_first + i);
        if (slice_is(allowed, "*") || slice_equal_nocase(allowed, origin))
            return true;
    }
    return false;
}

const struct perigee_model *table_model(const struct table_head *table,
                                        const struct table_revision *revision)
{
    if (revision->model.bytes == 0)
        return NULL;
    return (const struct perigee_model *)(const void *)((const char *)table +
                                                        revision->model.offset);
}
