/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/regions.h"

#include "base/arena.h"
#include "base/err.h"
#include "spec/endpoint.h"

static bool is_capital(char c)
{
    return c >= 'A' && c <= 'Z';
}

int regions_compile(struct arena *arena, const struct endpoint_spec *spec, countries_find_cb find,
                    void *data, struct regions *ret, struct err *err)
{
    const struct spec_strings *written = &spec->regions;
    struct slice *names = ARENA_ARRAY(arena, struct slice, written->count + 1);
    struct regions regions = { .everywhere = written->count == 0, .names = names };

    for (size_t i = 0; i < written->count; i++) {
        struct countries one;
        if (written->items[i].size == 0 || !is_capital(written->items[i].data[0])) {
            names[regions.name_count++] = written->items[i];
            continue;
        }
        if (find(written->items[i], data, &one, err) < 0)
            return err_wrap(err, "regions");
        countries_unite(&regions.countries, &one);
    }
    *ret = regions;
    return 0;
}

/* `us` matches us and us-east, not usa. */
static bool label_matches(struct slice name, struct slice label)
{
    return slice_starts(label, name) && (label.size == name.size || label.data[name.size] == '-');
}

bool regions_hold(const struct regions *regions, const struct region_place *pop)
{
    if (regions->everywhere)
        return true;
    if (pop->country != COUNTRY_UNKNOWN && countries_has(&regions->countries, pop->country))
        return true;
    for (size_t i = 0; i < regions->name_count; i++)
        if (slice_equal(regions->names[i], pop->name) ||
            label_matches(regions->names[i], pop->region))
            return true;
    return false;
}

struct countries residency_processable(const struct residency *residency)
{
    struct countries all = {};
    if (residency->count == 0)
        return countries_any();
    for (unsigned client = 0; client <= COUNTRY_NUMBER_MAX; client++) {
        struct residency_verdict verdict =
            residency_decide(residency, (country_number)client, NULL);
        countries_unite(&all, &verdict.process);
    }
    return all;
}

bool residency_may_process(const struct residency *residency, country_number pop)
{
    struct countries process = residency_processable(residency);
    return countries_has(&process, pop);
}

bool residency_may_write(const struct residency *residency, country_number here,
                         country_number there)
{
    bool some = residency->count == 0;
    for (unsigned client = 0; residency->count && client <= COUNTRY_NUMBER_MAX; client++) {
        struct residency_verdict verdict =
            residency_decide(residency, (country_number)client, NULL);
        if (!countries_has(&verdict.process, here))
            continue;
        some = true;
        if (!countries_has(&verdict.logs, there))
            return false;
    }
    return some;
}

bool regions_allow(const struct regions *regions, const struct residency *residency,
                   const struct countries *process, const struct region_place *pop)
{
    return regions_hold(regions, pop) &&
           (residency->count == 0 ||
            (pop->country != COUNTRY_UNKNOWN && countries_has(process, pop->country)));
}

static const char *place_text(struct arena *arena, const struct region_place *place)
{
    char code[3];
    country_code_of(place->country, code);
    return arena_format(arena, "'%.*s' (%s)", SLICE_FMT(place->name),
                        *code ? code : "without a country");
}

const char *residency_bars(struct arena *arena, const struct residency *residency,
                           const struct region_place *pop)
{
    if (residency->count == 0 || pop->country == COUNTRY_UNKNOWN ||
        residency_may_process(residency, pop->country))
        return NULL;
    return arena_format(arena, "its residency lets nothing be processed at this PoP, %s",
                        place_text(arena, pop));
}

const char *regions_refusal(struct arena *arena, const struct regions *regions,
                            const struct residency *residency, const struct region_place *pop)
{
    if (!regions_hold(regions, pop))
        return arena_format(arena, "its regions do not hold this PoP, %s", place_text(arena, pop));
    if (residency->count > 0 && pop->country == COUNTRY_UNKNOWN)
        return arena_format(arena,
                            "it has residency, and PoP '%.*s' does not say in which country it "
                            "stands: `perigee up --country CC`",
                            SLICE_FMT(pop->name));
    return residency_bars(arena, residency, pop);
}
