/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.h -- policy/route.h's choice for one client, of it the PoPs near the best one, and the
 * scope of that. Pure but for the memo.
 *
 * The memo spares looking at all PoPs again for clients from one block of the address map: who is
 * far for one of them, even if nobody waited there, is far for all. What comes of it is the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/residency.h"
#include "policy/route.h"

struct dns_client;
struct dns_entry;
struct dns_memo;
struct dns_view;

enum { DNS_SCOPE_LOOKS = 4 }; /* blocks of the map that are asked for one scope */

enum dns_none {                     /* why none can be named */
                DNS_NONE_REFUSED,   /* by residency, as the verdict says */
                DNS_NONE_PLACED,    /* with an address */
                DNS_NONE_PERMITTED, /* of those that have it */
                DNS_NONE_UP,        /* of those, as far as they are permitted */
                DNS_NONE_OF_FAMILY, /* there is one, but without such an address */
};

struct dns_choice {
    size_t count; /* near-equal ones, at most `max`; the drawn one first */
    struct route_choice choices[ROUTE_CHOICES_MAX];
    struct residency_verdict verdict; /* of an endpoint with residency */
    bool restricted;
    enum dns_none none; /* where count is 0 */
};

/* `memo`: of this view, or NULL. */
void dns_choose(const struct dns_view *view, const struct dns_entry *entry,
                const struct dns_client *client, size_t max, struct dns_memo *memo,
                struct dns_choice *ret);

/* Of that choice, for a client subnet; in bits of the subnet's own family. Blocks beside the
 * client's are looked at, the nearest first, so that what gets the same answer is one scope; that
 * ends after DNS_SCOPE_LOOKS of them. */
uint8_t dns_scope(const struct dns_view *view, const struct dns_entry *entry,
                  const struct dns_client *client, const struct dns_choice *choice,
                  struct dns_memo *memo);
