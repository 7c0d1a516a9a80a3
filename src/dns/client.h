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
struct dns_question;
struct dns_view;

struct dns_client {
    struct ip ip;        /* of the subnet, or of who asks */
    uint8_t source_bits; /* how much of it is known, 0 to 128; IPv4: 96 and more */
    uint8_t seed_bits;   /* how much of it the draw goes by */
    struct where where;
    uint64_t seed;
};

struct dns_client dns_client_of(const struct dns_view *view, const struct dns_question *question,
                                const struct dns_asker *asker);
/* What route.h is asked; `verdict` and `client` are borrowed by it. */
struct route_query dns_route_query(const struct dns_client *client, bool restricted,
                                   const struct residency_verdict *verdict);
