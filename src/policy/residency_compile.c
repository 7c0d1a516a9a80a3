/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/err.h"
#include "policy/residency.h"
#include "spec/endpoint.h"

struct compiler {
    countries_find_cb find;
    void *data;
    struct err *err;
};

static int list_compile(const struct compiler *compiler, const struct spec_places *places,
                        struct residency_list *ret)
{
    struct residency_list list = {};
    switch (places->kind) {
    case SPEC_PLACES_ANY:
        list.scope = RESIDENCY_ANY;
        break;
    case SPEC_PLACES_SAME_COUNTRY:
        list.scope = RESIDENCY_SAME_COUNTRY;
        break;
    default: /* without names it holds nothing */
        list.scope = RESIDENCY_COUNTRIES;
        break;
    }
    for (size_t i = 0; i < places->names.count; i++) {
        struct countries one;
        int r = compiler->find(places->names.items[i], compiler->data, &one, compiler->err);
        if (r < 0)
            return r;
        countries_unite(&list.countries, &one);
    }
    *ret = list;
    return 0;
}

static int rule_compile(const struct compiler *compiler, const struct spec_residency_rule *spec,
                        size_t index, struct residency_rule *ret)
{
    /* What is not said is as process_in. */
    const struct spec_places *process = &spec->process_in;
    const struct {
        const char *key;
        const struct spec_places *places;
        struct residency_list *ret;
    } lists[] = {
        { "clients", &spec->clients, &ret->clients },
        { "process_in", process, &ret->process },
        { "transit", spec->transit.kind ? &spec->transit : process, &ret->transit },
        { "logs", spec->logs.kind ? &spec->logs : process, &ret->logs },
        { "cache", spec->cache.kind ? &spec->cache : process, &ret->cache },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (list_compile(compiler, lists[i].places, lists[i].ret) < 0)
            return err_wrap(compiler->err, "residency.rules[%zu].%s", index, lists[i].key);
    return 0;
}

int residency_compile(struct arena *arena, const struct endpoint_spec *spec, countries_find_cb find,
                      void *data, struct residency *ret, struct err *err)
{
    const struct compiler compiler = { find, data, err };
    const struct spec_residency *written = &spec->residency;
    struct residency_rule *rules = ARENA_ARRAY(arena, struct residency_rule, written->count + 1);
    struct residency residency = { .rules = rules, .count = written->count };
    int r;

    for (size_t i = 0; i < written->count; i++) {
        r = rule_compile(&compiler, &written->rules[i], i, &rules[i]);
        if (r < 0)
            return r;
    }
    if (written->unknown_client.size > 0) {
        struct countries one;
        r = find(written->unknown_client, data, &one, err);
        residency.unknown_client = country_number_of(written->unknown_client);
        if (r == 0 && !countries_has(&one, residency.unknown_client)) /* EU is a set */
            r = err_set(err, ERR_BAD_INPUT, "'%s' is a set of countries: name one country",
                        ERR_SLICE(written->unknown_client));
        if (r < 0)
            return err_wrap(err, "residency.unknown_client");
    }
    *ret = residency;
    return 0;
}

int residency_narrow_parse(struct slice text, countries_find_cb find, void *data,
                           struct countries *ret, struct err *err)
{
    struct countries all = {};
    while (text.data) {
        struct slice name = slice_trim(slice_cut(&text, ','));
        struct countries one = countries_any();
        int r = slice_is(name, "any") ? 0 : find(name, data, &one, err);
        if (r < 0)
            return r;
        countries_unite(&all, &one);
    }
    *ret = all;
    return 0;
}
