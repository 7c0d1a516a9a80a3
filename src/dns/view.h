/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h -- what the server answers from: a zone, PoPs with their addresses, and which endpoint has
 * what at which of them. Built whole from a source, then immutable: any thread may read it.
 *
 * A name below the zone is a host (ns1, api), or an endpoint's: NAME in project default,
 * NAME--PROJECT in others. The zone itself is every PoP's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "base/ip.h"
#include "base/slice.h"
#include "dns/https.h"
#include "policy/residency.h"
#include "policy/route.h"
#include "proto/dns.h"

struct err;
struct map;
struct where_map;

enum { DNS_POP_ADDRESSES_MAX = 8, DNS_HOST_ADDRESSES_MAX = 8 };

/* ---- the source: all of it is borrowed for the call, but the map ---------------------------- */

struct dns_source_pop {
    struct slice name;
    country_number country;
    bool located; /* latitude and longitude: degrees, north and east positive */
    double latitude, longitude;
    uint8_t health;             /* enum route_health */
    bool stable;                /* up for long enough: an answer with it may be kept */
    uint16_t https_port;        /* where it serves TLS; 0: nowhere, and there is no HTTPS record */
    const struct ip *addresses; /* public */
    size_t address_count;
    bool everywhere; /* and at the address that the question came to */
};

struct dns_source_place { /* as struct route_endpoint has them */
    uint32_t pop;         /* row */
    float wait_ms, service_ms, start_ms, weight;
    bool hides; /* its gateway has spoken of the endpoint */
};

struct dns_source_endpoint {
    struct slice name, project;
    const struct dns_source_place *places; /* by rising pop */
    size_t place_count;
    const struct residency *residency; /* NULL: none */
};

struct dns_source_host {
    struct slice name; /* one label: "ns1" */
    const struct ip *addresses;
    size_t address_count;
    bool everywhere; /* and at the address that the question came to */
};

struct dns_source {
    struct slice zone;
    uint64_t number; /* grows with each view: the SOA's serial */
    const struct dns_source_pop *pops;
    size_t pop_count; /* at most ROUTE_POPS_MAX */
    const struct dns_source_endpoint *endpoints;
    size_t endpoint_count;
    const struct dns_source_host *hosts; /* ns1 among them */
    size_t host_count;
    const struct where_map *map; /* borrowed for the view's life; NULL: nothing is known */
    struct slice observer;       /* who measured health and load; empty: health is control's word */
    const struct dns_https_told *https; /* where something else ends TLS; NULL: nothing was said */
};

/* ---- the view ------------------------------------------------------------------------------- */

struct dns_pop {
    const char *name;
    struct ip addresses[DNS_POP_ADDRESSES_MAX];
    uint8_t address_count;
    bool everywhere;
    uint16_t https_port;
};

enum dns_kind { DNS_IS_ENDPOINT, DNS_IS_HOST };
enum dns_family { DNS_IP4, DNS_IP6, DNS_FAMILIES };

struct dns_entry { /* a name that there is */
    enum dns_kind kind;
    const char *label;
    struct route_endpoint route; /* DNS_IS_ENDPOINT */
    /* The same, if nobody waited where there is room, and each start that can be hidden was as well
     * as any PoP could: less than any client's total; and those of it that can hide, where there is
     * a start to be hidden. */
    struct route_endpoint calm, warm;
    struct residency residency;
    bool asks_client; /* its residency does */
    bool waits;       /* at some place: each client weighs that by a draw of its own */
    /* The same at the places alone that have an address of that family; NULL: all have one. */
    struct dns_entry *of_family[DNS_FAMILIES];
    const struct dns_entry *whole; /* whose family this is; NULL: it is no such part */
    uint64_t memo_id; /* what the memo's rows of it go by, and how far totals may have moved */
    uint16_t drift;   /* since that was given (follow.h) */
    struct ip addresses[DNS_HOST_ADDRESSES_MAX]; /* DNS_IS_HOST */
    uint8_t address_count;
    bool everywhere;
};

struct dns_view {
    struct dns_name zone, server, mailbox; /* perigee.test, ns1.perigee.test, hostmaster... */
    uint32_t serial;
    struct route_pops route;
    struct dns_pop *pops;        /* route.count */
    const bool *stable;          /* likewise: for how long an answer may be kept (policy/ttl.h) */
    struct dns_entry apex;       /* the zone itself: all PoPs, with nothing to wait for */
    const struct where_map *map; /* borrowed */
    const char *observer;        /* "" where nobody has measured */
    struct dns_https_told https; /* told: one record for all, whatever the PoPs' ports */
    bool tls;                    /* some PoP has a port for it */
    uint64_t memo_ids;           /* the last one given */
    const struct dns_view *follows; /* only to be compared with; NULL: none */
    struct dns_view_own *own;
};

/* ERR_BAD_INPUT: a zone that is none, places out of order, more than the limits above. */
[[nodiscard]] int dns_view_build(const struct dns_source *source, struct dns_view **ret,
                                 struct err *err);
void dns_view_free(struct dns_view *view); /* NULL is allowed */

/* Of struct dns_entry, by their labels. */
const struct map *dns_view_entries(const struct dns_view *view);
/* By its label in small letters; NULL: there is none. */
const struct dns_entry *dns_view_find(const struct dns_view *view, struct slice label);
