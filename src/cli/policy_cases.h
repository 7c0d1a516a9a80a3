/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_cases.h -- the file of `perigee policy test`: which clients, asking at which PoPs, are to
 * be served, passed on or refused (docs/residency.md). Pure.
 *
 *     spec: digits.yaml                    # relative to this file; or --spec
 *     endpoint: digits                     # where the spec's file has several
 *     addresses: {203.0.113.0/24: FR}      # what --geo does not know, or knows otherwise
 *     pops: {paris: {country: FR, region: eu-west}, lab: {}}
 *     cases:
 *       - {client: FR, pop: paris, expect: process}
 *       - {client: 203.0.113.7, process_in: [CH], pop: DE, expect: pass}
 *       - {client: unknown, pop: US, expect: refuse, name: who is not known stays out}
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "geo/where.h"
#include "policy/regions.h"

struct arena;
struct err;

enum policy_outcome {
    POLICY_PROCESS, /* a replica there may answer it */
    POLICY_PASS,    /* it may arrive there, and is passed on */
    POLICY_REFUSE,  /* 451 */
};

struct policy_pop {
    struct slice name;
    struct region_place place;
};

struct policy_case {
    uint32_t line;
    struct slice name;                              /* or empty */
    struct slice client_text, pop_text, process_in; /* as written */
    bool by_address;
    struct ip address;
    country_number client; /* unless by address */
    struct region_place pop;
    enum policy_outcome expected;
};

struct policy_cases {
    struct slice spec, endpoint; /* or empty */
    const struct where_block *addresses;
    size_t address_count;
    const struct policy_case *items;
    size_t count;
};

/* YAML or JSON. Errors say the line. All of it lies in the arena. */
[[nodiscard]] int policy_cases_parse(struct arena *arena, struct slice text,
                                     struct policy_cases *ret, struct err *err);
const char *policy_outcome_text(enum policy_outcome outcome);
