/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of upstreams are looked up on a thread, as getaddrinfo() waits; again each LOOKUP_MS, and
 * sooner after a failure. Where a name cannot be looked up, what was last known of it counts. Each
 * address has a prober. The core (upstream.c) decides what follows from what is seen.
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/timer.h"
#include "io/work.h"
#include "pop/agent.h"
#include "replica/prober.h"

enum {
    LOOKUP_MS = 30'000,
    LOOKUP_AGAIN_MS = 5'000, /* twice as long after each more that failed, up to the above */
    LOOKUPS_MAX = 4,         /* at once: dead names wait for their servers, and hold up no others */
    BEGIN_MS = 250
};

struct probing { /* one address */
    struct list link;
    struct upstream *upstream;
    uint64_t replica;
    struct prober *prober;
};

struct lookup;
struct upstream {
    struct list link; /* of agent->upstreams */
    struct agent *agent;
    uint64_t revision; /* uid */
    char *url;
    struct spec_upstream where; /* its slices point into url */
    struct timer *timer;        /* until the next look-up */
    struct lookup *lookup;      /* under way */
    int64_t again_ms;           /* after the next failure */
    struct list probings;
};

/* ---- names ----------------------------------------------------------------------------------- */

struct lookup {
    struct work work;
    struct upstream *upstream; /* NULL: it is watched no more */
    char *host;
    int failure; /* of getaddrinfo() */
    struct ip ips[POP_UPSTREAM_ADDRESSES_MAX];
    size_t count;
};

static void lookup_run(struct work *work)
{
    struct lookup *lookup = (struct lookup *)work;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all = NULL;

    lookup->failure = getaddrinfo(lookup->host, NULL, &hints, &all);
    for (const struct addrinfo *at = all; at; at = at->ai_next) {
        struct sockaddr_storage sockaddr = {};
        struct address address;
        if (lookup->count == POP_UPSTREAM_ADDRESSES_MAX)
            break;
        memcpy(&sockaddr, at->ai_addr, at->ai_addrlen);
        address_from(&sockaddr, at->ai_addrlen, &address);
        lookup->count += address_ip(&address, &lookup->ips[lookup->count]);
    }
    if (all)
        freeaddrinfo(all);
}

static void probings_match(struct upstream *upstream, struct pop_revision *revision);

static void found(struct upstream *upstream, const struct ip *ips, size_t count)
{
    struct pop_revision *revision = pop_revision_find(&upstream->agent->pop, upstream->revision);

    if (!revision)
        return;
    pop_upstream_found(revision, ips, count, upstream->where.port);
    probings_match(upstream, revision);
}

static void lost(struct upstream *upstream, const char *why)
{
    struct pop_revision *revision = pop_revision_find(&upstream->agent->pop, upstream->revision);
    char text[192];

    snprintf(text, sizeof text, "looking up its name: %s", why);
    if (revision)
        pop_upstream_lost(revision, text);
}

static int64_t next_ms(struct upstream *upstream, bool found)
{
    int64_t ms = upstream->again_ms ? upstream->again_ms : LOOKUP_AGAIN_MS;

    upstream->again_ms = found ? 0 : 2 * ms < LOOKUP_MS ? 2 * ms : LOOKUP_MS;
    return found ? LOOKUP_MS : ms;
}

static void on_looked_up(struct work *work, bool canceled)
{
    struct lookup *lookup = (struct lookup *)work;
    struct upstream *upstream = lookup->upstream;

    if (upstream) {
        upstream->lookup = NULL;
        if (!canceled)
            timer_start(upstream->timer, next_ms(upstream, lookup->count > 0));
        if (!canceled && lookup->count)
            found(upstream, lookup->ips, lookup->count);
        else if (!canceled)
            lost(upstream, lookup->failure ? gai_strerror(lookup->failure) : "it has no address");
    }
    free(lookup->host);
    free(lookup);
}

static void look_up(void *data)
{
    struct upstream *upstream = data;
    struct agent *agent = upstream->agent;
    struct ip ip;

    if (upstream->lookup)
        return;
    if (ip_parse(upstream->where.host, &ip)) { /* nothing to look up, ever */
        found(upstream, &ip, 1);
        return;
    }
    if (!agent->upstream_pool) {
        (void)setenv("RES_OPTIONS", "timeout:2 attempts:2",
                     0); /* an agent that ends waits for it */
        agent->upstream_pool = work_pool_new("lookup", LOOKUPS_MAX);
    }
    struct lookup *lookup = mem_zalloc(sizeof *lookup);
    lookup->work.run = lookup_run;
    lookup->work.on_done = on_looked_up;
    lookup->upstream = upstream;
    lookup->host = mem_string(upstream->where.host);
    upstream->lookup = lookup;
    work_submit(agent->upstream_pool, agent->loop, &lookup->work);
}

/* ---- probes ---------------------------------------------------------------------------------- */

static void on_seen(struct prober *prober, bool well, const char *why, void *data)
{
    struct probing *probing = data;
    (void)prober;

    pop_upstream_seen(&probing->upstream->agent->pop, probing->replica, well, why);
}

static void probing_free(struct probing *probing)
{
    prober_free(probing->prober);
    list_remove(&probing->link);
    free(probing);
}

static void probing_begin(struct upstream *upstream, const struct pop_replica *replica)
{
    struct agent *agent = upstream->agent;
    const struct pop_revision *revision = replica->revision;
    const struct spec_probe *spec = &revision->probe;
    struct probing *probing = mem_zalloc(sizeof *probing);
    uint64_t port = spec->tcp_port    ? spec->tcp_port
                    : spec->http_port ? spec->http_port
                                      : replica->target.port;
    struct probe_plan plan = {
        .path = slice_of(revision->probe_path),
        .authority = upstream->where.authority,
        .begin_ms = BEGIN_MS,
        .period_ms = (int64_t)(spec->period_ns / 1'000'000),
        .timeout_ms = (int64_t)((spec->timeout_ns + 999'999) / 1'000'000),
        .failures = (unsigned)spec->failures,
    };

    if (!agent->upstream_client)
        agent->upstream_client = http_client_new(
            agent->loop, &(struct http_client_config){ .source = http_source_of_environment() });
    address_from_ip(&replica->target.ip, (uint16_t)port, &plan.address);
    probing->upstream = upstream;
    probing->replica = replica->id;
    list_append(&upstream->probings, &probing->link);
    probing->prober = prober_new(agent->loop, agent->upstream_client, &plan, on_seen, probing);
}

static struct probing *probing_find(struct upstream *upstream, uint64_t replica)
{
    struct probing *probing;

    LIST_EACH (probing, &upstream->probings, struct probing, link)
        if (probing->replica == replica)
            return probing;
    return NULL;
}

/* One for each of the revision's addresses. */
static void probings_match(struct upstream *upstream, struct pop_revision *revision)
{
    struct probing *probing;
    const struct pop_replica *replica;

    LIST_EACH (probing, &upstream->probings, struct probing, link)
        if (!map_get_u64(&upstream->agent->pop.replicas_by_id, probing->replica))
            probing_free(probing);
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        if (!probing_find(upstream, replica->id))
            probing_begin(upstream, replica);
}

/* ---- which ----------------------------------------------------------------------------------- */

static void upstream_free(struct upstream *upstream)
{
    struct probing *probing;

    if (upstream->lookup)
        upstream->lookup->upstream = NULL;
    LIST_EACH (probing, &upstream->probings, struct probing, link)
        probing_free(probing);
    timer_free(upstream->timer);
    list_remove(&upstream->link);
    free(upstream->url);
    free(upstream);
}

static void upstream_begin(struct agent *agent, const struct pop_revision *revision)
{
    struct upstream *upstream = mem_zalloc(sizeof *upstream);
    struct err err;

    upstream->agent = agent;
    upstream->revision = revision->uid;
    upstream->url = mem_string(slice_of(revision->upstream));
    upstream->timer = timer_new(agent->loop, look_up, upstream);
    list_init(&upstream->probings);
    list_append(&agent->upstreams, &upstream->link);
    if (spec_upstream_parse(slice_of(upstream->url), &upstream->where, &err) < 0)
        log_error("pop", "an upstream cannot be read", LOG_S("url", upstream->url),
                  LOG_S("error", err.message));
    else
        timer_start(upstream->timer, 0); /* effects never call back at once */
}

void agent_upstream_watch(struct agent *agent, const struct pop_revision *revision, bool watch)
{
    struct upstream *upstream;

    LIST_EACH (upstream, &agent->upstreams, struct upstream, link)
        if (upstream->revision == revision->uid)
            upstream_free(upstream);
    if (watch)
        upstream_begin(agent, revision);
}

void agent_upstream_close(struct agent *agent)
{
    struct upstream *upstream;

    LIST_EACH (upstream, &agent->upstreams, struct upstream, link)
        upstream_free(upstream);
    http_client_free(agent->upstream_client);
    work_pool_free(agent->upstream_pool);
    agent->upstream_client = NULL;
    agent->upstream_pool = NULL;
}
