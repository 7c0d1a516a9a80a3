/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h -- the client as the choice sees it: where it is, and its part of the draw. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "geo/where.h"
#include "policy/residency.h"
#include "policy/route.h"

struct dns_asker;
struct dns_memo;
struct dns_question;
struct dns_view;
struct dns_entry;

enum { DNS_SCOPE_LOOKS = 4 }; /* blocks of the map that are asked for one scope */

struct dns_client {
    struct ip ip;        /* of the subnet, or of who asks */
    uint8_t source_bits; /* how much of it is known, 0 to 128; IPv4: 96 and more */
    uint8_t seed_bits;   /* how much of it the draw goes by */
    struct where where;
    uint64_t seed;
};

struct dns_choice {
    size_t count; /* near-equal ones, at most `max` */
    struct route_choice choices[ROUTE_CHOICES_MAX];
    struct residency_verdict verdict; /* of an endpoint with residency */
    bool restricted;
    uint8_t scope_bits; /* dns_choose_scoped(): in bits of the subnet's own family */
};

struct dns_client dns_client_of(const struct dns_view *view, const struct dns_question *question,
                                const struct dns_asker *asker);
/* What route_choose() says of the entry, and of it those near the best. */
void dns_choose(const struct dns_view *view, const struct dns_entry *entry,
                const struct dns_client *client, size_t max, struct dns_choice *ret);
/* The query of that, for route_explain(); `verdict` and `client` are borrowed by it. */
struct route_query dns_route_query(const struct dns_client *client, bool restricted,
                                   const struct residency_verdict *verdict);
/* The same with its scope, for a client subnet. Blocks beside the client's are looked at, the
 * nearest first, so that what gets the same answer is one scope; that ends after DNS_SCOPE_LOOKS of
 * them. `memo`: what was found before, or NULL; of a choice that is from there only the PoP is
 * known. */
void dns_choose_scoped(const struct dns_view *view, const struct dns_entry *entry,
                       const struct dns_client *client, size_t max, struct dns_memo *memo,
                       struct dns_choice *ret);
