/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/residency.h"

#include <assert.h>

static bool asks(const struct residency_list *list)
{
    return list->scope == RESIDENCY_SAME_COUNTRY;
}

bool residency_asks_client(const struct residency *residency)
{
    for (size_t i = 0; i < residency->count; i++) {
        const struct residency_rule *rule = &residency->rules[i];
        if (rule->clients.scope != RESIDENCY_ANY || asks(&rule->process) || asks(&rule->transit) ||
            asks(&rule->logs) || asks(&rule->cache))
            return true;
    }
    return false;
}

static bool holds(const struct residency_list *clients, country_number client)
{
    return clients->scope == RESIDENCY_ANY ||
           (clients->scope == RESIDENCY_COUNTRIES && client != COUNTRY_UNKNOWN &&
            countries_has(&clients->countries, client));
}

static struct countries countries_of(const struct residency_list *list, country_number client)
{
    struct countries found = {};
    if (list->scope == RESIDENCY_ANY)
        return countries_any();
    if (list->scope == RESIDENCY_COUNTRIES)
        found = list->countries;
    else if (list->scope == RESIDENCY_SAME_COUNTRY)
        countries_add(&found, client);
    found.words[0] &= ~UINT64_C(1); /* a PoP that does not say where it stands is in no list */
    return found;
}

static struct residency_verdict verdict_of(const struct residency_rule *rule, uint32_t index,
                                           country_number client)
{
    struct residency_verdict verdict = {
        .rule = index,
        .process = countries_of(&rule->process, client),
        .transit = countries_of(&rule->transit, client),
        .logs = countries_of(&rule->logs, client),
        .cache = countries_of(&rule->cache, client),
    };
    countries_unite(&verdict.transit, &verdict.process);
    return verdict;
}

static struct residency_verdict narrowed(struct residency_verdict verdict,
                                         const struct countries *narrow)
{
    if (narrow)
        countries_intersect(&verdict.process, narrow);
    if (!countries_empty(&verdict.process))
        return verdict;
    return (struct residency_verdict){ .reason =
                                           narrow ? RESIDENCY_NARROWED_AWAY : RESIDENCY_NO_RULE,
                                       .rule = verdict.rule };
}

struct residency_verdict residency_decide(const struct residency *residency, country_number client,
                                          const struct countries *narrow)
{
    static const struct residency_rule everything = {
        .clients.scope = RESIDENCY_ANY,
        .process.scope = RESIDENCY_ANY,
        .transit.scope = RESIDENCY_ANY,
        .logs.scope = RESIDENCY_ANY,
        .cache.scope = RESIDENCY_ANY,
    };
    static_assert(COUNTRY_UNKNOWN == 0, "the lowest bit of a set is the unknown country");

    if (residency->count == 0)
        return narrowed(verdict_of(&everything, 0, client), narrow);
    if (client == COUNTRY_UNKNOWN)
        client = residency->unknown_client;
    if (client == COUNTRY_UNKNOWN && residency_asks_client(residency))
        return (struct residency_verdict){ .reason = RESIDENCY_CLIENT_UNKNOWN };
    for (size_t i = 0; i < residency->count; i++)
        if (holds(&residency->rules[i].clients, client))
            return narrowed(verdict_of(&residency->rules[i], (uint32_t)i, client), narrow);
    return (struct residency_verdict){ .reason = RESIDENCY_NO_RULE };
}

const char *residency_reason_text(enum residency_reason reason)
{
    switch (reason) {
    case RESIDENCY_ALLOWED:
        return "allowed";
    case RESIDENCY_CLIENT_UNKNOWN:
        return "the client's country is not known, and the rules ask for it";
    case RESIDENCY_NO_RULE:
        return "no rule is for the client's country";
    case RESIDENCY_NARROWED_AWAY:
        return "what the request allows (Perigee-Process-In) is not among what its rule allows";
    }
    return "refused";
}
