/* SPDX-License-Identifier: Apache-2.0 */
/* What an endpoint may not be beside others, and where it may be. */
#include "base/arena.h"
#include "base/err.h"
#include "control/change_own.h"
#include "geo/sets.h"
#include "policy/regions.h"

static bool lists_share(const struct spec_strings *a, const struct spec_strings *b,
                        struct slice *ret)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            if (slice_equal_nocase(a->items[i], b->items[k])) {
                *ret = a->items[i];
                return true;
            }
    return false;
}

static bool list_has(const struct spec_strings *list, struct slice name)
{
    for (size_t i = 0; i < list->count; i++)
        if (slice_equal(list->items[i], name))
            return true;
    return false;
}

static int check_other(struct change *change, const struct endpoint_spec *spec,
                       const struct store_endpoint *other, struct err *err)
{
    struct endpoint_spec theirs;
    struct slice shared = {};
    struct arena *arena = arena_new();
    int r = change_parse(arena, other->spec, SPEC_KEEP_UNKNOWN, &theirs, err);
    bool same_project = slice_equal(other->project, change->project);
    if (r == 0 && lists_share(&spec->domains, &theirs.domains, &shared))
        r = err_set(err, ERR_CONFLICT, "domain '%s' is endpoint '%s's already", ERR_SLICE(shared),
                    ERR_SLICE(other->name));
    if (r == 0 && same_project && lists_share(&spec->aliases, &theirs.aliases, &shared))
        r = err_set(err, ERR_CONFLICT, "alias '%s' is endpoint '%s's already", ERR_SLICE(shared),
                    ERR_SLICE(other->name));
    if (r == 0 && same_project &&
        (list_has(&spec->aliases, other->name) || list_has(&theirs.aliases, change->name)))
        r = err_set(err, ERR_CONFLICT, "an endpoint's name is the other's alias: '%s' and '%s'",
                    ERR_SLICE(change->name), ERR_SLICE(other->name));
    arena_free(arena);
    return r;
}

int change_check_unique(struct change *change, struct store *store,
                        const struct endpoint_spec *spec, struct err *err)
{
    struct store_page page = {};
    struct store_endpoint *list;
    size_t count;
    int r;
    bool own = spec->domains.count || spec->aliases.count;
    do {
        r = store->endpoint_list(store, &page, change->arena, &list, &count, err);
        for (size_t i = 0; i < count && r == 0; i++) {
            page.after = list[i].uid;
            if (list[i].uid == change->uid)
                continue;
            /* Most have neither: not worth reading their spec. */
            if (own || memmem(list[i].spec.data, list[i].spec.size, "\"aliases\"", 9))
                r = check_other(change, spec, &list[i], err);
        }
    } while (r == 0 && count == STORE_PAGE_MAX);
    return r;
}

int change_check_places(struct change *change, const struct endpoint_spec *spec, struct err *err)
{
    struct geo_sets sets;
    struct residency residency;
    struct regions regions;
    int r = 0;
    if (change->sets)
        sets = *change->sets;
    else
        r = geo_sets_parse(change->arena, (struct slice){}, &sets, err);
    if (r < 0 ||
        (r = residency_compile(change->arena, spec, geo_sets_lookup, &sets, &residency, err)) < 0 ||
        (r = regions_compile(change->arena, spec, geo_sets_lookup, &sets, &regions, err)) < 0)
        return r;
    if (regions.everywhere || residency.count == 0 || change->pop_count == 0)
        return 0;
    size_t inside = 0;
    for (size_t i = 0; i < change->pop_count; i++) {
        const struct region_place *pop = &change->pops[i];
        if (!regions_hold(&regions, pop))
            continue;
        if (pop->country != COUNTRY_UNKNOWN && residency_may_process(&residency, pop->country))
            return 0;
        inside++;
    }
    return err_set(err, ERR_BAD_INPUT,
                   "regions and residency share no PoP: of %zu, %zu %s in regions, and residency "
                   "lets nothing be processed there",
                   change->pop_count, inside, inside == 1 ? "is" : "are");
}

int change_check_walls(struct change *change, struct store *store, struct err *err)
{
    struct store_page page = {};
    struct store_endpoint *list;
    size_t count = 0;
    int r = 0;
    if (!change->walls_off)
        return 0;
    do {
        r = store->endpoint_list(store, &page, change->arena, &list, &count, err);
        for (size_t i = 0; i < count && r == 0; i++) {
            page.after = list[i].uid;
            if (!slice_equal(list[i].project, change->project))
                r = err_set(err, ERR_PRECONDITION,
                            "project '%s' has endpoints here, and walls between two projects do "
                            "not stand: %s; start Perigee with --sandbox best if '%s' may run "
                            "beside it all the same",
                            ERR_SLICE(list[i].project), change->walls_off,
                            ERR_SLICE(change->project));
        }
    } while (r == 0 && count == STORE_PAGE_MAX);
    return r;
}
