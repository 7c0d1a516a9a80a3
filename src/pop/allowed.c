/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May replicas of an endpoint be at this PoP? Fails closed: residency that cannot be read or
 * compiled here lets nothing be processed here, and the table says so to the gateway.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "pop/state.h"

/* For any client nothing. */
static const struct residency_rule nobody = { .clients.scope = RESIDENCY_ANY,
                                              .process.scope = RESIDENCY_COUNTRIES };

/* A newer control's spec may hold keys that this PoP does not know: they are kept. Those that say
 * where a request may be processed are no detail: without them nothing is served. */
static bool restricts_unknown(struct arena *arena, const struct endpoint_spec *spec)
{
    yyjson_val *keys;
    struct err ignored;
    if (spec->unknown.size == 0)
        return false;
    bool restricts = json_parse(arena, spec->unknown, NULL, &keys, &ignored) < 0 ||
                     json_member(keys, "regions") || json_member(keys, "residency");
    if (!restricts)
        log_warn("pop", "spec has keys this PoP does not know, keeping them",
                 LOG_SLICE("endpoint", spec->name), LOG_SLICE("keys", spec->unknown));
    return restricts;
}

/* Why it may not be here, or NULL; its rules; and why the law bars it, where that is known. */
static const char *decide(struct pop *pop, struct arena *arena, const struct endpoint_spec *spec,
                          struct residency *ret, const char **ret_barred)
{
    const struct region_place *place = &pop->place;
    struct residency residency;
    struct regions regions;
    struct err err;

    *ret = (struct residency){ .rules = &nobody, .count = 1 };
    *ret_barred = NULL;
    if (restricts_unknown(arena, spec))
        return "the spec restricts where requests go in a way this PoP does not know; upgrade it";
    if (residency_compile(arena, spec, geo_sets_lookup, &pop->sets, &residency, &err) < 0 ||
        regions_compile(arena, spec, geo_sets_lookup, &pop->sets, &regions, &err) < 0)
        return arena_format(arena, "this PoP cannot tell where it may run: %s", err.message);
    *ret = residency;
    if (pop->no_replicas)
        return NULL;
    *ret_barred = residency_bars(arena, &residency, place);
    return regions_refusal(arena, &regions, &residency, place);
}

void pop_allow(struct pop *pop, struct pop_endpoint *endpoint)
{
    bool left = endpoint->lines_leave;
    endpoint->elsewhere =
        decide(pop, endpoint->spec_arena, &endpoint->spec, &endpoint->residency, &endpoint->barred);
    endpoint->barred_told = endpoint->barred_told && endpoint->barred;
    /* No other control says in which country it stands. */
    endpoint->lines_leave =
        residency_may_write(&endpoint->residency, pop->place.country,
                            pop->control_here ? pop->place.country : COUNTRY_UNKNOWN);
    if (left && !endpoint->lines_leave && pop->effects->lines_stay)
        pop->effects->lines_stay(endpoint, pop->data);
    if (endpoint->elsewhere)
        log_info("pop", "not placed here", LOG_S("endpoint", endpoint->name),
                 LOG_S("why", endpoint->elsewhere));
}

bool pop_endpoint_barred(const struct pop_endpoint *endpoint)
{
    const struct pop_revision *revision;
    if (!endpoint->barred || !endpoint->pop->synced)
        return false;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        if (revision->replica_count || revision->model_state == POP_MODEL_FETCHING)
            return false;
    return true;
}
