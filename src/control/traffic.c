/* SPDX-License-Identifier: Apache-2.0 */
#include "control/traffic.h"

#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/secrets.h"
#include "spec/endpoint.h"

static_assert((int)TRAFFIC_SHARES_MAX == (int)SPEC_SHARES_MAX, "one number");

#define ALL_PPM 1'000'000u

static void add(struct traffic_plan *plan, uint64_t revision, uint64_t weight)
{
    size_t at = 0;
    if (weight == 0)
        return;
    for (size_t i = 0; i < plan->count; i++)
        if (plan->shares[i].revision == revision) { /* by its number, and as the latest */
            plan->shares[i].weight += (uint32_t)weight;
            return;
        }
    while (at < plan->count && plan->shares[at].revision < revision)
        at++;
    for (size_t i = plan->count++; i > at; i--)
        plan->shares[i] = plan->shares[i - 1];
    plan->shares[at] =
        (struct traffic_share){ (uint32_t)revision, (uint32_t)weight, .ready = true };
}

void traffic_plan(const struct store_endpoint *row, const struct endpoint_spec *spec,
                  struct traffic_plan *ret)
{
    const struct spec_split *split = &spec->traffic.split;
    uint64_t ppm = spec->traffic.canary_ppm;
    *ret = (struct traffic_plan){};
    for (size_t i = 0; i < split->count; i++) {
        uint64_t number = split->items[i].revision;
        add(ret, number == SPEC_LATEST ? row->latest : number, split->items[i].weight);
    }
    if (ppm && ppm < ALL_PPM && row->stable && row->stable != row->target) {
        add(ret, row->stable, ALL_PPM - ppm);
        add(ret, row->target, ppm);
        ret->canary = row->target;
    } else if (ret->count > 1 && ret->shares[ret->count - 1].revision == row->latest) {
        ret->canary = row->latest;
    }
}

uint64_t traffic_lead(const struct traffic_plan *plan, uint64_t target)
{
    size_t best = 0;
    for (size_t i = 1; i < plan->count; i++)
        if (plan->shares[i].weight > plan->shares[best].weight)
            best = i;
    return plan->count ? plan->shares[best].revision : target;
}

void traffic_change(struct store_endpoint *row, const struct endpoint_spec *after, bool moves)
{
    uint64_t ppm = after->traffic.canary_ppm;
    bool canary = ppm && ppm < ALL_PPM, runs = row->stable && row->stable != row->target;
    if (!canary)
        row->stable = 0;
    else if (moves && !runs) /* else the next one takes the canary's place */
        row->stable =
            slice_is(row->target_state, "ready") || !row->serving ? row->target : row->serving;
}

/* Who deleted a secret was not asked for revisions without traffic. */
static int check_secrets(struct arena *arena, struct store *store, const struct store_endpoint *row,
                         const struct store_revision *revision, size_t at, struct err *err)
{
    struct endpoint_spec spec;
    yyjson_val *tree;
    int r = json_parse(arena, revision->spec, NULL, &tree, err);
    if (r == 0)
        r = endpoint_spec_parse(arena, tree, SPEC_KEEP_UNKNOWN | SPEC_NAME_OPTIONAL, &spec, err);
    if (r == 0)
        r = secrets_check(store, arena, row->project, &spec, err);
    return r < 0 ? err_wrap(err, "traffic.split[%zu]: revision %llu", at,
                            (unsigned long long)revision->number)
                 : 0;
}

int traffic_check(struct arena *arena, struct store *store, const struct store_endpoint *row,
                  uint64_t next, const struct endpoint_spec *after, struct err *err)
{
    const struct spec_split *split = &after->traffic.split;
    for (size_t i = 0; i < split->count; i++) {
        struct store_revision revision;
        struct err missing;
        uint64_t number = split->items[i].revision;
        if (number == SPEC_LATEST)
            number = next ? next : row->latest;
        if (number == next)
            continue;
        int r = row ? store->revision_get(store, row->uid, number, arena, &revision, &missing)
                    : ERR_NOT_FOUND;
        if (r == ERR_NOT_FOUND)
            return err_set(err, ERR_BAD_INPUT,
                           "traffic.split[%zu]: revision %llu is not kept; `perigee show` and "
                           "/revisions say which are",
                           i, (unsigned long long)number);
        if (r < 0) {
            *err = missing;
            return r;
        }
        if (split->items[i].weight && (r = check_secrets(arena, store, row, &revision, i, err)) < 0)
            return r;
    }
    return 0;
}

void traffic_write(struct json_writer *w, const struct traffic_plan *plan)
{
    if (plan->count == 0) {
        json_null(w);
        return;
    }
    json_object_begin(w);
    json_key(w, "shares");
    json_array_begin(w);
    for (size_t i = 0; i < plan->count; i++) {
        json_object_begin(w);
        json_member_u64(w, "revision", plan->shares[i].revision);
        json_member_u64(w, "weight", plan->shares[i].weight);
        json_object_end(w);
    }
    json_array_end(w);
    if (plan->canary)
        json_member_u64(w, "canary", plan->canary);
    json_object_end(w);
}

struct store_keep traffic_keep(const struct store_endpoint *row, const struct endpoint_spec *spec)
{
    struct store_keep keep = { { row->target, row->serving, row->stable } };
    size_t used = 3;
    for (size_t i = 0; i < spec->traffic.split.count; i++) {
        uint64_t number = spec->traffic.split.items[i].revision;
        keep.numbers[used++] = number == SPEC_LATEST ? row->latest : number;
    }
    return keep;
}
