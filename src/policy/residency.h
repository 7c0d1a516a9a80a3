/* SPDX-License-Identifier: Apache-2.0 */
/*
 * residency.h -- in which countries a request may be processed, passed through, logged and cached.
 * Pure, no allocation, any thread. Fails closed: what cannot be told is refused.
 *
 * The rules are in order; the first whose clients hold the client's country is the one that counts,
 * none: refused. A client whose country is not known (COUNTRY_UNKNOWN) is refused, or counted as
 * the country that the endpoint names, where a rule asks for its country at all. "any" holds PoPs
 * that do not say where they stand; a list of countries never does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"

enum { RESIDENCY_RULES_MAX = 64 };

enum residency_scope { RESIDENCY_COUNTRIES, RESIDENCY_ANY, RESIDENCY_SAME_COUNTRY };

struct residency_list {
    uint32_t scope; /* enum residency_scope */
    uint32_t reserved;
    struct countries countries; /* RESIDENCY_COUNTRIES alone */
};

struct residency_rule {
    struct residency_list clients; /* never RESIDENCY_SAME_COUNTRY */
    struct residency_list process, transit, logs, cache;
};

struct residency {
    const struct residency_rule *rules; /* none: no residency, all is allowed */
    size_t count;
    country_number unknown_client; /* COUNTRY_UNKNOWN: refuse */
};

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

/* `narrow`: what the request itself allows, or NULL. It narrows `process`, and what is not allowed
 * to process may still pass on. */
struct residency_verdict residency_decide(const struct residency *residency, country_number client,
                                          const struct countries *narrow);
/* Does any rule ask where the client is? */
bool residency_asks_client(const struct residency *residency);
const char *residency_reason_text(enum residency_reason reason);
