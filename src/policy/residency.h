/* SPDX-License-Identifier: Apache-2.0 */
/*
 * residency.h -- in which countries a request may be processed, passed through, logged and cached.
 * Pure, no allocation, any thread. Fails closed: what cannot be told is refused.
 *
 * The rules are in order; the first whose clients hold the client's country is the one that counts,
 * none: refused. A client whose country is not known (COUNTRY_UNKNOWN) is refused, or counted as
 * the country that the endpoint names, where a rule asks for its country at all. "any" holds PoPs
 * that do not say where they stand; a list of countries never does. Who may process a request may
 * also see it pass.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "base/rules.h"
#include "base/slice.h"

struct residency {
    const struct residency_rule *rules; /* none: no residency, all is allowed */
    size_t count;
    country_number unknown_client; /* COUNTRY_UNKNOWN: refuse */
};

struct arena;
struct endpoint_spec;
struct err;

enum residency_reason {
    RESIDENCY_ALLOWED,
    RESIDENCY_CLIENT_UNKNOWN, /* its country is asked for and not known */
    RESIDENCY_NO_RULE,        /* none matches the client's country */
    RESIDENCY_NARROWED_AWAY,  /* Perigee-Process-In leaves nothing */
};

struct residency_verdict {
    enum residency_reason reason;
    uint32_t rule; /* which one held, from 0; of RESIDENCY_ALLOWED and _NARROWED_AWAY, with rules */
    struct countries process, transit, logs, cache; /* of RESIDENCY_ALLOWED; else empty */
};

/* `narrow`: what the request itself allows, or NULL. It narrows `process` alone: what may then not
 * process may still pass on. Rules that are none (an unknown scope) allow nothing. */
struct residency_verdict residency_decide(const struct residency *residency, country_number client,
                                          const struct countries *narrow);
/* Does any rule ask where the client is? */
bool residency_asks_client(const struct residency *residency);
const char *residency_reason_text(enum residency_reason reason);

/* ---- from a spec ---------------------------------------------------------------------------- */

/* The countries of a name in capitals, a code or a set's: geo/sets.h knows them. */
typedef int (*countries_find_cb)(struct slice name, void *data, struct countries *ret,
                                 struct err *err);

/* Rules lie in the arena. ERR_BAD_INPUT names the key: "residency.rules[1].process_in: ...". A spec
 * without residency gives no rules. */
[[nodiscard]] int residency_compile(struct arena *arena, const struct endpoint_spec *spec,
                                    countries_find_cb find, void *data, struct residency *ret,
                                    struct err *err);
/* "EU,CH" of Perigee-Process-In: names by comma, blanks around them allowed; "any" is no narrowing.
 * ERR_BAD_INPUT: empty, or a name that is not known. */
[[nodiscard]] int residency_narrow_parse(struct slice text, countries_find_cb find, void *data,
                                         struct countries *ret, struct err *err);
