/* SPDX-License-Identifier: Apache-2.0 */
/*
 * law.h -- specs with rules by chance, over all countries, and what they say by another way than
 * policy/'s: list by list, as docs/residency.md has it. For tests that link law.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "geo/sets.h"

struct arena;

enum { LAW_RULES = 4, LAW_COUNTRIES = 250 };

/* A list as text, and what it holds. */
struct law_list {
    char text[64];
    bool any, same;
    struct countries countries;
};

struct law {
    struct law_list clients[LAW_RULES], process[LAW_RULES], transit[LAW_RULES];
    size_t count;
    bool asks;                  /* where the client is */
    const char *unknown_client; /* "refuse", or "DE" */
    const char *text;           /* as a spec has it: residency: {...} */
};

void law_seed(uint64_t seed);
unsigned law_below(unsigned below);
/* One that is not known, then all there are. */
void law_countries(country_number ret[static LAW_COUNTRIES]);
struct law_list law_list(const struct geo_sets *sets, bool of_clients);
void law_make(struct arena *arena, const struct geo_sets *sets, struct law *ret);

/* Which rule it is of that client: `count`, none, and also where it is refused. The client as it
 * is counted comes back. */
size_t law_rule(const struct law *law, country_number *client);
bool law_process(const struct law *law, country_number client, country_number pop);
bool law_transit(const struct law *law, country_number client, country_number pop);
