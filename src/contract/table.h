/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h -- what the gateway knows, as one immutable block: published by the agent in a sealed
 * memfd, kept by the supervisor for each new gateway, and, with a MAC, the agent's file on disk.
 *
 * Offset-based: every reference is (offset, count) or (offset, bytes) from the table's start.
 * table_check() looks at every one of them once, off the loop; after it the accessors cannot fail.
 * Build: fill struct table_source, table_build(). Read: table_find_*(). Any thread; immutable.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/rules.h"
#include "base/ip.h"
#include "base/slice.h"

struct arena;
struct err;

#define TABLE_MAGIC 0x74676550u /* "Pegt" */
#define TABLE_VERSION 5u        /* those before are read as well: an upgrade meets them */
#define TABLE_BYTES_MAX (UINT64_C(1) << 30)
#define TABLE_NONE UINT32_MAX

struct table_text {
    uint32_t offset, bytes;
};

struct table_range {
    uint32_t offset, count;
};

struct table_head {
    uint32_t magic, version;
    uint64_t bytes;         /* of all, this struct included */
    uint64_t number;        /* of this table: grows */
    struct table_text zone; /* "perigee.test" */
    struct table_text pop, country;
    struct table_range endpoints; /* struct table_endpoint, by (project, name) in byte order */
    struct table_range revisions; /* struct table_revision, those of an endpoint side by side */
    struct table_range hosts;     /* struct table_host, by name: domains of endpoints */
    struct table_range aliases;   /* struct table_alias, by (project, name) */
    struct table_range origins;   /* struct table_text: cors.origins */
    /* Version 2: */
    struct table_range residencies; /* struct table_residency, one for each endpoint, in order */
    struct table_range rules;       /* struct residency_rule, those of an endpoint side by side */
    struct table_range pops;        /* struct table_pop, by name: this one is among them */
    struct table_range placements;  /* struct table_placement, those of an endpoint side by side */
    struct table_range addresses;   /* struct ip: of PoPs' gateways */
    /* Version 3: */
    struct table_range ports; /* uint32_t: of PoPs' gateways, one for each PoP, in order */
    /* Version 4: */
    struct table_range splits; /* struct table_split, one for each endpoint, in order */
    struct table_range shares; /* struct table_share, those of an endpoint side by side */
    /* Version 5: */
    struct table_range reaches; /* struct table_reach, one for each revision, in order */
    struct table_range targets; /* struct table_target, those of a revision side by side */
};
#define TABLE_HEAD_BYTES_1 offsetof(struct table_head, residencies) /* of version 1 */
#define TABLE_HEAD_BYTES_2 offsetof(struct table_head, ports)
#define TABLE_HEAD_BYTES_3 offsetof(struct table_head, splits)
#define TABLE_HEAD_BYTES_4 offsetof(struct table_head, reaches)
#define TABLE_PORT_DEFAULT 8000u /* of a gateway, where nobody told */

enum table_endpoint_state {
    TABLE_ENDPOINT_RUNNING = 1,
    TABLE_ENDPOINT_STOPPED,
    TABLE_ENDPOINT_ELSEWHERE, /* no replica of it may be at this PoP; table_residency says why */
    TABLE_ENDPOINT_AWAY,      /* it may run here, and is placed at other PoPs */
};

struct table_endpoint {
    uint64_t uid;
    struct table_text name, project;
    uint32_t state;    /* enum table_endpoint_state */
    uint32_t start_ms; /* that the last start of a replica here took; 0: none is known */
    uint32_t revision_first, revision_count; /* rows of `revisions` */
    uint32_t serving; /* row of the revision with the traffic; TABLE_NONE: none yet */
    uint32_t origin_first, origin_count; /* rows of `origins` */
    uint32_t queue_depth;
    uint32_t concurrency; /* per replica */
    uint64_t queue_timeout_us, queue_cold_us, timeout_us;
    uint64_t body_bytes_max;
    uint64_t queue_bytes_max;
};

#define TABLE_REVISION_BITS 24
struct table_revision {
    uint64_t uid; /* endpoint uid << 24 | number: never reused */
    uint32_t number;
    uint32_t endpoint; /* row */
    struct table_text runtime, digest;
    struct table_text model;   /* bytes of struct perigee_model, 8-aligned; empty: not known yet */
    struct table_text message; /* why it does not serve, for 503 and ready; or empty */
};

/* Who serves, where it is more than one (policy/traffic.h). */
struct table_split {
    uint32_t share_first, share_count; /* rows of `shares`; none: `serving` alone */
    uint32_t canary;                   /* row of that revision; TABLE_NONE: there is none */
    uint32_t flags;                    /* TABLE_SPLIT_ */
};
#define TABLE_SPLIT_BY_ADDRESS 1u
#define TABLE_SPLIT_FLAGS 1u
#define TABLE_SHARES_MAX 4u

struct table_share {
    uint32_t revision; /* row */
    uint32_t weight;
};

/* How a revision's replicas are reached. */
enum table_reach_kind {
    TABLE_REACH_RINGS, /* shared memory; the gateway hears of each from the supervisor */
    TABLE_REACH_HTTP,  /* HTTP/1.1, at `targets` */
};
struct table_reach {
    uint32_t kind;                       /* enum table_reach_kind */
    uint32_t flags;                      /* TABLE_REACH_ */
    uint32_t target_first, target_count; /* rows of `targets` */
    struct table_text authority;         /* the Host line; empty: as the client wrote it */
};
#define TABLE_REACH_BY_MODEL 1u /* it speaks OIP: by its name in a path as well */
/* Readers of version 5 before this one refuse a table with another flag; we look past it. */

/* One replica that is reached over HTTP. */
enum table_target_kind {
    TABLE_TARGET_ADDRESS, /* connect() to `ip` and `port` */
    TABLE_TARGET_SOCKET,  /* the same in the replica's network namespace, by who may enter it */
};
struct table_target {
    uint64_t id; /* of the replica */
    struct ip ip;
    uint32_t port;
    uint32_t kind;  /* enum table_target_kind */
    uint32_t flags; /* TABLE_TARGET_ */
    uint32_t reserved;
};
#define TABLE_TARGET_READY 1u /* its probes say so; without it, it is to end what it has */
#define TABLE_TARGET_FLAGS 1u
#define TABLE_TARGETS_MAX 1024u /* of one revision */

struct table_residency {
    uint32_t rule_first, rule_count;           /* rows of `rules`; none: all is allowed */
    uint32_t unknown_client;                   /* country_number; COUNTRY_UNKNOWN: refuse */
    uint32_t placement_first, placement_count; /* rows of `placements`; none: nobody told */
    /* Bit i: the message of its revision i is of a start, and another is tried: who comes waits.
     * Here, as those before look at no bit of it. */
    uint32_t retried;
    struct table_text elsewhere; /* why no replica is here, or empty */
};

struct table_pop {
    struct table_text name, region;        /* its label, or empty */
    uint32_t country;                      /* country_number */
    uint32_t flags;                        /* TABLE_POP_ */
    float latitude, longitude;             /* degrees; with TABLE_POP_LOCATED */
    uint32_t address_first, address_count; /* rows of `addresses` */
};
#define TABLE_POP_LOCATED 1u
#define TABLE_POP_UP 2u       /* control hears of it */
#define TABLE_POP_DRAINING 4u /* others are to take over */
#define TABLE_POP_FLAGS 7u

struct table_placement { /* of an endpoint, by rising pop */
    uint32_t pop;        /* row of `pops` */
    uint32_t replicas;
};

struct table_host {
    struct table_text name; /* small letters, no port */
    uint32_t endpoint;
};

struct table_alias {
    struct table_text project, name;
    uint32_t endpoint;
};

/* ---- building --------------------------------------------------------------------------- */

struct table_source_revision {
    uint64_t uid;
    uint32_t number;
    struct slice runtime, digest, model, message;
    uint32_t reach_kind, reach_flags;
    bool retried; /* with `message` */
    struct slice authority;
    const struct table_target *targets;
    size_t target_count;
};

struct table_source_placement {
    struct slice pop;
    uint32_t replicas;
};

struct table_source_share {
    uint32_t number, weight;
};

struct table_source_endpoint {
    uint64_t uid;
    struct slice name, project;
    uint32_t state;
    uint32_t serving_number; /* 0: none */
    const struct table_source_revision *revisions;
    size_t revision_count;
    const struct slice *origins, *domains, *aliases;
    size_t origin_count, domain_count, alias_count;
    uint32_t queue_depth, concurrency;
    uint32_t start_ms;
    uint64_t queue_timeout_us, queue_cold_us, timeout_us, body_bytes_max, queue_bytes_max;
    const struct residency_rule *rules;
    size_t rule_count;
    country_number unknown_client;
    struct slice elsewhere;                          /* with TABLE_ENDPOINT_ELSEWHERE */
    const struct table_source_placement *placements; /* of PoPs not in `pops`: left out */
    size_t placement_count;
    const struct table_source_share *shares; /* of revisions not among these: left out */
    size_t share_count;
    uint32_t canary_number; /* 0: none */
    bool by_address;
};

struct table_source_pop {
    struct slice name, region;
    country_number country;
    uint32_t flags; /* TABLE_POP_ */
    float latitude, longitude;
    const struct ip *addresses;
    size_t address_count;
    uint16_t port; /* at each of them; 0: TABLE_PORT_DEFAULT */
};

struct table_source {
    uint64_t number;
    struct slice zone, pop, country;
    const struct table_source_pop *pops;
    size_t pop_count;
    const struct table_source_endpoint *endpoints;
    size_t endpoint_count;
};

/* The block in the arena. Two endpoints that claim one domain or alias: the lower uid has it. */
[[nodiscard]] int table_build(struct arena *arena, const struct table_source *source,
                              struct slice *ret_bytes, struct err *err);

/* ---- reading ---------------------------------------------------------------------------- */

[[nodiscard]] int table_check(struct slice bytes, struct err *err);

static inline struct slice table_text(const struct table_head *table, struct table_text text)
{
    return (struct slice){ (const char *)table + text.offset, text.bytes };
}

static inline const struct table_endpoint *table_endpoint(const struct table_head *table,
                                                          uint32_t row)
{
    return (const struct table_endpoint *)((const char *)table + table->endpoints.offset) + row;
}

static inline const struct table_revision *table_revision(const struct table_head *table,
                                                          uint32_t row)
{
    return (const struct table_revision *)((const char *)table + table->revisions.offset) + row;
}

/* NULL: the table is of a version that knows none. */
static inline const struct table_split *table_split(const struct table_head *table,
                                                    uint32_t endpoint)
{
    if (table->version < 4)
        return NULL;
    return (const struct table_split *)((const char *)table + table->splits.offset) + endpoint;
}

static inline const struct table_share *table_shares(const struct table_head *table,
                                                     const struct table_split *split)
{
    return (const struct table_share *)((const char *)table + table->shares.offset) +
           split->share_first;
}

/* NULL: the table is of a version that knows rings alone. */
static inline const struct table_reach *table_reach(const struct table_head *table, uint32_t row)
{
    if (table->version < 5)
        return NULL;
    return (const struct table_reach *)((const char *)table + table->reaches.offset) + row;
}

static inline bool table_reach_http(const struct table_head *table, uint32_t row)
{
    const struct table_reach *reach = table_reach(table, row);
    return reach && reach->kind == TABLE_REACH_HTTP;
}

static inline const struct table_target *table_targets(const struct table_head *table,
                                                       const struct table_reach *reach)
{
    return (const struct table_target *)((const char *)table + table->targets.offset) +
           reach->target_first;
}

/* NULL: the table is of version 1, which knows none. */
static inline const struct table_residency *table_residency(const struct table_head *table,
                                                            uint32_t endpoint)
{
    if (table->version < 2)
        return NULL;
    return (const struct table_residency *)((const char *)table + table->residencies.offset) +
           endpoint;
}

/* Those behind the 32nd of an endpoint are not known to be. */
static inline bool table_retried(const struct table_head *table,
                                 const struct table_revision *revision)
{
    const struct table_residency *residency = table_residency(table, revision->endpoint);
    uint32_t at = (uint32_t)(revision - table_revision(table, 0)) -
                  table_endpoint(table, revision->endpoint)->revision_first;
    return residency && at < 32 && residency->retried >> at & 1;
}

static inline const struct residency_rule *table_rules(const struct table_head *table,
                                                       const struct table_residency *residency)
{
    return (const struct residency_rule *)((const char *)table + table->rules.offset) +
           residency->rule_first;
}

/* NULL behind the last. */
static inline const struct table_pop *table_pop(const struct table_head *table, uint32_t row)
{
    if (table->version < 2 || row >= table->pops.count)
        return NULL;
    return (const struct table_pop *)((const char *)table + table->pops.offset) + row;
}

static inline const struct ip *table_addresses(const struct table_head *table,
                                               const struct table_pop *pop)
{
    return (const struct ip *)((const char *)table + table->addresses.offset) + pop->address_first;
}

static inline uint16_t table_pop_port(const struct table_head *table, uint32_t row)
{
    if (table->version < 3)
        return TABLE_PORT_DEFAULT;
    return (
        uint16_t)((const uint32_t *)(const void *)((const char *)table + table->ports.offset))[row];
}

static inline const struct table_placement *
table_placements(const struct table_head *table, const struct table_residency *residency)
{
    return (const struct table_placement *)((const char *)table + table->placements.offset) +
           residency->placement_first;
}

/* Rows, or TABLE_NONE. Binary searches. */
uint32_t table_find_endpoint(const struct table_head *table, struct slice project,
                             struct slice name);
uint32_t table_find_alias(const struct table_head *table, struct slice project, struct slice name);
uint32_t table_find_host(const struct table_head *table, struct slice host); /* domains only */
uint32_t table_find_revision(const struct table_head *table, const struct table_endpoint *endpoint,
                             uint32_t number);
bool table_origin_allowed(const struct table_head *table, const struct table_endpoint *endpoint,
                          struct slice origin);
/* NULL: not known yet. */
const struct perigee_model *table_model(const struct table_head *table,
                                        const struct table_revision *revision);

/* ---- on disk: the same bytes, then a MAC (HMAC-SHA-256) --------------------------------- */

#define TABLE_KEY_BYTES 32
#define TABLE_MAC_BYTES 32
[[nodiscard]] int table_mac(const unsigned char key[static TABLE_KEY_BYTES], struct slice bytes,
                            unsigned char ret_mac[static TABLE_MAC_BYTES], struct err *err);
/* `file` is bytes and MAC; on success *ret_bytes is the table inside, MAC right, table_check()
 * done. */
[[nodiscard]] int table_open_file(const unsigned char key[static TABLE_KEY_BYTES],
                                  struct slice file, struct slice *ret_bytes, struct err *err);
/* The same from descriptors of the file and of its key's, as a child that may open nothing is given
 * them. *ret_data is the caller's, free() ends it; *ret_bytes is its beginning. */
[[nodiscard]] int table_read_file(int table_fd, int key_fd, char **ret_data,
                                  struct slice *ret_bytes, struct err *err);
