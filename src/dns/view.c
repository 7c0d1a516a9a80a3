/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/view.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/map.h"
#include "policy/seed.h"
#include "spec/pop.h"

/* One with more would fail the whole view. */
static_assert((int)DNS_POP_ADDRESSES_MAX == (int)POP_ADDRESSES_MAX, "all that a PoP may have");

enum { NAME_BYTES_MAX = DNS_LABEL_BYTES_MAX };

struct dns_view_own {
    struct arena *arena; /* all but the view itself and the map */
    struct map entries;
};

/* ---- PoPs --------------------------------------------------------------------------------- */

struct columns { /* of struct route_pops and the view, while they are filled in */
    float *x, *y, *z;
    uint64_t *key;
    country_number *country;
    uint8_t *health;
    bool *stable;
};

static int pop_set(struct dns_view *view, struct columns *columns, size_t row,
                   const struct dns_source_pop *source, struct err *err)
{
    struct dns_pop *pop = &view->pops[row];
    if (source->address_count > DNS_POP_ADDRESSES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%zu addresses of one PoP; at most %d",
                       source->address_count, DNS_POP_ADDRESSES_MAX);
    pop->name = arena_string(view->own->arena, source->name);
    pop->address_count = (uint8_t)source->address_count;
    if (source->address_count)
        memcpy(pop->addresses, source->addresses, source->address_count * sizeof *pop->addresses);
    pop->everywhere = source->everywhere;
    columns->stable[row] = source->stable;
    pop->https_port = source->https_port;
    view->tls = view->tls || source->https_port;
    if (source->located && spot_valid(source->latitude, source->longitude)) {
        struct spot spot = spot_at(source->latitude, source->longitude);
        columns->x[row] = spot.x;
        columns->y[row] = spot.y;
        columns->z[row] = spot.z;
    }
    columns->key[row] = seed_of_pop(source->name);
    columns->country[row] = source->country;
    columns->health[row] = source->health;
    return 0;
}

static int pops_set(struct dns_view *view, const struct dns_source *source, struct err *err)
{
    struct arena *arena = view->own->arena;
    size_t count = source->pop_count;
    if (count > ROUTE_POPS_MAX)
        return err_set(err, ERR_BAD_INPUT, "%zu PoPs; at most %d", count, ROUTE_POPS_MAX);
    struct columns columns = {
        .x = ARENA_ARRAY(arena, float, count + 1),
        .y = ARENA_ARRAY(arena, float, count + 1),
        .z = ARENA_ARRAY(arena, float, count + 1),
        .key = ARENA_ARRAY(arena, uint64_t, count + 1),
        .country = ARENA_ARRAY(arena, country_number, count + 1),
        .health = ARENA_ARRAY(arena, uint8_t, count + 1),
        .stable = ARENA_ARRAY(arena, bool, count + 1),
    };
    view->pops = ARENA_ARRAY(arena, struct dns_pop, count + 1);
    for (size_t i = 0; i < count; i++) {
        int r = pop_set(view, &columns, i, &source->pops[i], err);
        if (r < 0)
            return err_wrap(err, "PoP '%s'", ERR_SLICE(source->pops[i].name));
    }
    view->stable = columns.stable;
    view->route = (struct route_pops){ count,       columns.x,       columns.y,     columns.z,
                                       columns.key, columns.country, columns.health };
    return 0;
}

/* ---- what has a name ---------------------------------------------------------------------- */

static float service_ms(const struct route_endpoint *all, size_t at)
{
    return all->service_ms[at] < 0 ? 0 : all->service_ms[at];
}

/* Those that are up, ready and have room; the least of their runs comes back. */
static float warm_set(struct dns_view *view, struct dns_entry *entry)
{
    const struct route_endpoint *all = &entry->route;
    struct arena *arena = view->own->arena;
    uint32_t *pop = ARENA_ARRAY(arena, uint32_t, all->count + 1);
    float *service = ARENA_ARRAY(arena, float, all->count + 1);
    const float *none = ARENA_ARRAY(arena, float, all->count + 1);
    float least = INFINITY;
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++) {
        if (!(all->start_ms[i] <= 0) || !(all->wait_ms[i] < INFINITY) ||
            view->route.health[all->pop[i]] != ROUTE_UP)
            continue;
        pop[count] = all->pop[i];
        service[count++] = all->service_ms[i];
        least = service_ms(all, i) < least ? service_ms(all, i) : least;
    }
    entry->warm = (struct route_endpoint){ count, pop, none, service, none, none, NULL };
    return least;
}

/* For what the memo keeps. */
static void calm_set(struct dns_view *view, struct dns_entry *entry)
{
    const struct route_endpoint *all = &entry->route;
    float *wait = ARENA_ARRAY(view->own->arena, float, all->count + 1);
    float *start = ARENA_ARRAY(view->own->arena, float, all->count + 1);
    float least = all->hides ? warm_set(view, entry) : INFINITY;
    for (size_t i = 0; i < all->count; i++) {
        float more = least - service_ms(all, i);
        float hidden = ROUTE_HIDDEN_MS + (more > 0 ? more : 0);
        wait[i] = all->wait_ms[i] < INFINITY ? 0 : INFINITY;
        start[i] = all->start_ms[i];
        if (all->hides && all->hides[i] && hidden < start[i] && start[i] < INFINITY)
            start[i] = hidden;
    }
    entry->calm = *all;
    entry->calm.wait_ms = wait;
    entry->calm.start_ms = start;
    entry->calm.hides = NULL;
}

static int places_set(struct dns_view *view, struct dns_entry *entry,
                      const struct dns_source_place *places, size_t count, struct err *err)
{
    struct arena *arena = view->own->arena;
    uint32_t *pop = ARENA_ARRAY(arena, uint32_t, count + 1);
    float *wait = ARENA_ARRAY(arena, float, count + 1);
    float *service = ARENA_ARRAY(arena, float, count + 1);
    float *start = ARENA_ARRAY(arena, float, count + 1);
    float *weight = ARENA_ARRAY(arena, float, count + 1);
    bool *hides = ARENA_ARRAY(arena, bool, count + 1), any = false;
    for (size_t i = 0; i < count; i++) {
        if (places[i].pop >= view->route.count || (i && places[i].pop <= places[i - 1].pop))
            return err_set(err, ERR_BAD_INPUT, "place %zu is at PoP %u of %zu, or out of order", i,
                           places[i].pop, (size_t)view->route.count);
        pop[i] = places[i].pop;
        wait[i] = places[i].wait_ms;
        service[i] = places[i].service_ms;
        start[i] = places[i].start_ms;
        weight[i] = places[i].weight;
        hides[i] = places[i].hides && places[i].start_ms > 0;
        any = any || hides[i];
        entry->waits = entry->waits || (places[i].wait_ms > 0 && places[i].wait_ms < INFINITY);
    }
    hides = any ? hides : NULL; /* where all are warm the choice has less to do */
    entry->route = (struct route_endpoint){ count, pop, wait, service, start, weight, hides };
    entry->memo_id = ++view->memo_ids;
    calm_set(view, entry);
    return 0;
}

/* Of the address that a question comes to nobody knows yet which family it will be. */
static bool has_family(const struct dns_pop *pop, enum dns_family family)
{
    bool has = pop->everywhere;
    for (size_t i = 0; !has && i < pop->address_count; i++)
        has = ip_is4(&pop->addresses[i]) == (family == DNS_IP4);
    return has;
}

static int family_set(struct dns_view *view, struct dns_entry *entry, enum dns_family family,
                      const struct dns_source_place *places, size_t count, struct err *err)
{
    auto_free struct dns_source_place *some = mem_zalloc((count + 1) * sizeof *some);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (has_family(&view->pops[places[i].pop], family))
            some[kept++] = places[i];
    if (kept == count)
        return 0;
    struct dns_entry *of = ARENA_NEW(view->own->arena, struct dns_entry);
    *of = *entry;
    of->waits = false;
    of->whole = entry;
    memset(of->of_family, 0, sizeof of->of_family);
    entry->of_family[family] = of;
    return places_set(view, of, some, kept, err);
}

/* Last: what has the places of one family has all else of the entry. */
static int families_set(struct dns_view *view, struct dns_entry *entry,
                        const struct dns_source_place *places, size_t count, struct err *err)
{
    int r = family_set(view, entry, DNS_IP4, places, count, err);
    return r < 0 ? r : family_set(view, entry, DNS_IP6, places, count, err);
}

static int endpoint_set(struct dns_view *view, const struct dns_source_endpoint *source,
                        struct err *err)
{
    struct arena *arena = view->own->arena;
    struct dns_entry *entry = ARENA_NEW(arena, struct dns_entry);
    entry->label = slice_is(source->project, "default")
                       ? arena_string(arena, source->name)
                       : arena_format(arena, "%.*s--%.*s", SLICE_FMT(source->name),
                                      SLICE_FMT(source->project));
    struct slice label = slice_of(entry->label);
    if (label.size == 0 || label.size > NAME_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "a name of %zu bytes", label.size);
    int r = places_set(view, entry, source->places, source->place_count, err);
    if (r < 0)
        return r;
    if (source->residency) {
        const struct residency *from = source->residency;
        struct residency_rule *rules = ARENA_ARRAY(arena, struct residency_rule, from->count + 1);
        if (from->count)
            memcpy(rules, from->rules, from->count * sizeof *rules);
        entry->residency = (struct residency){ rules, from->count, from->unknown_client };
        entry->asks_client = residency_asks_client(&entry->residency);
    }
    map_put(&view->own->entries, label, entry);
    return families_set(view, entry, source->places, source->place_count, err);
}

static int host_set(struct dns_view *view, const struct dns_source_host *source, struct err *err)
{
    struct arena *arena = view->own->arena;
    struct dns_entry *entry = ARENA_NEW(arena, struct dns_entry);
    if (source->address_count > DNS_HOST_ADDRESSES_MAX || source->name.size == 0 ||
        source->name.size > NAME_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%zu addresses of one host; at most %d",
                       source->address_count, DNS_HOST_ADDRESSES_MAX);
    char *label = arena_string(arena, source->name);
    dns_name_lower((uint8_t *)label, source->name.size);
    entry->kind = DNS_IS_HOST;
    entry->label = label;
    entry->everywhere = source->everywhere;
    entry->address_count = (uint8_t)source->address_count;
    if (source->address_count)
        memcpy(entry->addresses, source->addresses,
               source->address_count * sizeof *entry->addresses);
    map_put(&view->own->entries, slice_of(entry->label), entry);
    return 0;
}

static int apex_set(struct dns_view *view, struct err *err)
{
    size_t count = view->route.count;
    auto_free struct dns_source_place *all = mem_zalloc((count + 1) * sizeof *all);
    for (size_t i = 0; i < count; i++)
        all[i] = (struct dns_source_place){ .pop = (uint32_t)i, .weight = 1 };
    view->apex.label = "";
    int r = places_set(view, &view->apex, all, count, err);
    return r < 0 ? r : families_set(view, &view->apex, all, count, err);
}

static int fill(struct dns_view *view, const struct dns_source *source, struct err *err)
{
    int r = dns_name_parse(source->zone, &view->zone, err);
    if (r == 0 && (!dns_name_join(SLICE("ns1"), &view->zone, &view->server) ||
                   !dns_name_join(SLICE("hostmaster"), &view->zone, &view->mailbox)))
        r = err_set(err, ERR_BAD_INPUT, "zone '%s' leaves no room for names",
                    ERR_SLICE(source->zone));
    if (r == 0)
        r = pops_set(view, source, err);
    if (r == 0)
        r = apex_set(view, err);
    for (size_t i = 0; r == 0 && i < source->endpoint_count; i++) {
        r = endpoint_set(view, &source->endpoints[i], err);
        if (r < 0)
            r = err_wrap(err, "endpoint '%s'", ERR_SLICE(source->endpoints[i].name));
    }
    for (size_t i = 0; r == 0 && i < source->host_count; i++)
        r = host_set(view, &source->hosts[i], err); /* an endpoint cannot have its name */
    return r;
}

int dns_view_build(const struct dns_source *source, struct dns_view **ret, struct err *err)
{
    struct dns_view *view = mem_zalloc(sizeof *view);
    view->own = mem_zalloc(sizeof *view->own);
    view->own->arena = arena_new();
    view->serial = (uint32_t)source->number;
    view->map = source->map;
    if (source->https)
        view->https = *source->https;
    view->observer = arena_string(view->own->arena, source->observer);
    int r = fill(view, source, err);
    if (r < 0)
        dns_view_free(view);
    else
        *ret = view;
    return r;
}

void dns_view_free(struct dns_view *view)
{
    if (!view)
        return;
    map_deinit(&view->own->entries);
    arena_free(view->own->arena);
    free(view->own);
    free(view);
}

const struct map *dns_view_entries(const struct dns_view *view)
{
    return &view->own->entries;
}

const struct dns_entry *dns_view_find(const struct dns_view *view, struct slice label)
{
    return map_get(&view->own->entries, label);
}
