/* SPDX-License-Identifier: Apache-2.0 */
#include "law.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "geo/country.h"

static uint64_t state;

void law_seed(uint64_t seed)
{
    state = seed * UINT64_C(0x9e3779b97f4a7c15);
}

unsigned law_below(unsigned below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 11) % below;
}

void law_countries(country_number ret[static LAW_COUNTRIES])
{
    size_t count = 0;
    ret[count++] = COUNTRY_UNKNOWN;
    for (unsigned i = 1; i <= COUNTRY_NUMBER_MAX; i++) {
        char code[3];
        country_code_of((country_number)i, code);
        if (country_known(slice_of(code)) && count < LAW_COUNTRIES)
            ret[count++] = (country_number)i;
    }
    assert_int_equal(count, LAW_COUNTRIES);
}

struct law_list law_list(const struct geo_sets *sets, bool of_clients)
{
    struct law_list list = {};
    unsigned kind = law_below(of_clients ? 8 : 10);
    if (kind == 0 || kind > 7) {
        list.any = kind == 0;
        list.same = kind > 7;
        snprintf(list.text, sizeof list.text, "%s", list.any ? "any" : "same-country");
        return list;
    }
    size_t used = 0;
    for (unsigned i = 0; i < 1 + kind % 3; i++) {
        char name[8], wrapped[12];
        struct countries one = {};
        if (law_below(3) == 0) {
            const struct geo_set *set = &sets->items[law_below((unsigned)sets->count)];
            snprintf(name, sizeof name, "%s", set->name.data);
            one = set->countries;
        } else {
            do
                snprintf(name, sizeof name, "%c%c", 'A' + law_below(26), 'A' + law_below(26));
            while (!country_known(slice_of(name)));
            countries_add(&one, country_number_of(slice_of(name)));
        }
        snprintf(wrapped, sizeof wrapped, "%s,", name);
        if (strstr(list.text, wrapped))
            continue;
        used += (size_t)snprintf(list.text + used, sizeof list.text - used, "%s%s",
                                 used ? " " : "[", wrapped);
        countries_unite(&list.countries, &one);
    }
    list.text[used - 1] = ']';
    return list;
}

void law_make(struct arena *arena, const struct geo_sets *sets, struct law *ret)
{
    const char *text = "residency: {rules: [";
    *ret = (struct law){ .count = 1 + law_below(LAW_RULES),
                         .unknown_client = law_below(2) ? "refuse" : "DE" };
    for (size_t i = 0; i < ret->count; i++) {
        do
            ret->clients[i] = law_list(sets, true);
        while (ret->clients[i].any && i + 1 < ret->count);
        ret->process[i] = law_list(sets, false);
        ret->transit[i] = law_below(2) ? law_list(sets, false) : ret->process[i];
        ret->asks |= !ret->clients[i].any || ret->process[i].same || ret->transit[i].same;
        text = arena_format(arena, "%s%s{clients: %s, process_in: %s, transit: %s}", text,
                            i ? ", " : "", ret->clients[i].text, ret->process[i].text,
                            ret->transit[i].text);
    }
    ret->text = arena_format(arena, "%s], unknown_client: %s}", text, ret->unknown_client);
}

/* ---- what it says ---------------------------------------------------------------------------- */

static bool has(const struct law_list *list, country_number pop, country_number client)
{
    if (list->any)
        return true;
    if (pop == COUNTRY_UNKNOWN)
        return false;
    return list->same ? pop == client : countries_has(&list->countries, pop);
}

size_t law_rule(const struct law *law, country_number *client)
{
    size_t rule = 0;
    if (*client == COUNTRY_UNKNOWN && strcmp(law->unknown_client, "DE") == 0)
        *client = country_number_of(SLICE("DE"));
    if (*client == COUNTRY_UNKNOWN && law->asks)
        return law->count;
    while (rule < law->count &&
           !(law->clients[rule].any ||
             (*client != COUNTRY_UNKNOWN && countries_has(&law->clients[rule].countries, *client))))
        rule++;
    return rule;
}

bool law_process(const struct law *law, country_number client, country_number pop)
{
    size_t rule = law_rule(law, &client);
    return rule < law->count && has(&law->process[rule], pop, client);
}

bool law_transit(const struct law *law, country_number client, country_number pop)
{
    size_t rule = law_rule(law, &client);
    return rule < law->count &&
           (has(&law->process[rule], pop, client) || has(&law->transit[rule], pop, client));
}
