/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolve.h -- a question to the reply that the view gives. Pure but for the memo, no allocation;
 * any thread with a memo of its own.
 *
 * The client is who the client subnet says, else who asks. What residency says here is advice:
 * anyone can send any subnet, and the gateway decides again. Of the PoPs that policy/route.h puts
 * near the best one every address is answered, the drawn one's first.
 *
 * Where PoPs share, or requests wait, the choice has a draw in it, which is that of the client's
 * prefix (policy/seed.h).
 *
 * The scope is the shortest prefix over which the answer is the same: 0 where it depends on
 * nobody's place; the block that the client's place is known for, and those around it that get the
 * same (as far as choose.h looks); and where there is a draw, the prefix that it goes by. That no
 * address is answered the country alone decides. At most the source's length.
 */
#pragma once

#include <stdbool.h>

#include "base/ip.h"
#include "proto/dns.h"

struct dns_memo;
struct dns_view;

enum {
    DNS_TTL_NEGATIVE_S = 5, /* what is not there may be deployed at any moment */
    DNS_TTL_ZONE_S = 3600,  /* NS, SOA, hosts; of addresses policy/ttl.h says it */
    DNS_ANSWERS_MAX = 4,    /* PoPs in one answer */
};

struct dns_asker {
    struct ip address; /* whose datagram or connection it is */
    struct ip local;   /* the address that it came to */
    bool local_known;
    bool why_allowed;      /* may ask _why */
    struct dns_memo *memo; /* of this view; or NULL */
};

/* Of a question that is right (rcode DNS_NOERROR). `view` NULL: there is none yet. */
void dns_resolve(const struct dns_view *view, const struct dns_question *question,
                 const struct dns_asker *asker, struct dns_reply *reply);
