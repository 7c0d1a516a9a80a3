/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas that nobody here starts: what the name of an upstream stands for, an address each. They
 * come and go with DNS, and are ready while their probes say so. The last word of a probe is why
 * the revision does not serve, once none of its addresses does.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "pop/state.h"

static struct pop_replica *address_find(struct pop_revision *revision, const struct ip *ip,
                                        uint16_t port)
{
    struct pop_replica *replica;

    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        if (replica->target.port == port && memcmp(&replica->target.ip, ip, sizeof *ip) == 0)
            return replica;
    return NULL;
}

static void address_end(struct pop_replica *replica, const char *why)
{
    struct pop_revision *revision = replica->revision;
    struct pop *pop = revision->endpoint->pop;

    pop->effects->event(pop, "replica_exited", revision->endpoint, replica, why, pop->data);
    pop_replica_drop(replica);
}

static void address_begin(struct pop_revision *revision, const struct ip *ip, uint16_t port)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_replica *replica = pop_replica_new(revision);
    char text[IP_TEXT_BYTES];

    replica->target = (struct table_target){ .id = replica->id, .ip = *ip, .port = port };
    snprintf(replica->sandbox, sizeof replica->sandbox,
             ip_is4(ip) ? "upstream %s:%u" : "upstream [%s]:%u", ip_text(ip, text), port);
    pop->effects->event(pop, "replica_started", revision->endpoint, replica, replica->sandbox,
                        pop->data);
}

static void changed(struct pop *pop)
{
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
    pop_reconcile_soon(pop);
}

static void fail(struct pop_revision *revision, const char *why)
{
    struct pop *pop = revision->endpoint->pop;
    char message[sizeof revision->message];

    snprintf(message, sizeof message, "%s: %.800s", revision->upstream, why);
    if (revision->failed && strcmp(message, revision->message) == 0)
        return;
    bool first = !revision->failed;
    revision->failed = true;
    memcpy(revision->message, message, sizeof message);
    if (first)
        pop->effects->event(pop, "revision_failed", revision->endpoint, NULL, message, pop->data);
    changed(pop);
}

void pop_upstream_found(struct pop_revision *revision, const struct ip *ips, size_t count,
                        uint16_t port)
{
    struct pop_replica *replica;
    bool other = false;

    assert(revision->driver == POP_DRIVER_UPSTREAM);
    if (!revision->watched)
        return;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        bool found = false;
        for (size_t i = 0; i < count && !found; i++)
            found = memcmp(&replica->target.ip, &ips[i], sizeof *ips) == 0;
        if (found && replica->target.port == port)
            continue;
        address_end(replica, "its name has this address no more");
        other = true;
    }
    for (size_t i = 0; i < count && revision->replica_count < POP_UPSTREAM_ADDRESSES_MAX; i++) {
        if (address_find(revision, &ips[i], port))
            continue;
        address_begin(revision, &ips[i], port);
        other = true;
    }
    if (other)
        changed(revision->endpoint->pop);
}

/* While it stands for addresses, what is wrong with those is told once that is known. */
void pop_upstream_lost(struct pop_revision *revision, const char *why)
{
    if (revision->watched && pop_revision_ready(revision) == 0 &&
        (revision->replica_count == 0 || !revision->failed))
        fail(revision, why);
}

static void ready(struct pop_replica *replica)
{
    struct pop_revision *revision = replica->revision;
    struct pop *pop = revision->endpoint->pop;

    pop_replica_state_move(&replica->state, POP_REPLICA_READY);
    replica->since_ns = env_now_ns(pop->env);
    replica->since_wall_ns = env_wall_ns(pop->env);
    revision->failed = false;
    revision->message[0] = '\0';
    pop->effects->event(pop, "replica_ready", revision->endpoint, replica, "", pop->data);
    changed(pop);
}

static void unready(struct pop_replica *replica, const char *why)
{
    struct pop_revision *revision = replica->revision;
    struct pop *pop = revision->endpoint->pop;

    pop_replica_state_move(&replica->state, POP_REPLICA_STARTING);
    replica->since_ns = env_now_ns(pop->env);
    replica->since_wall_ns = env_wall_ns(pop->env);
    pop->effects->event(pop, "replica_unready", revision->endpoint, replica, why, pop->data);
    changed(pop);
}

void pop_upstream_seen(struct pop *pop, uint64_t id, bool well, const char *why)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);

    if (!replica || !replica->target.id)
        return;
    if (well && replica->state == POP_REPLICA_STARTING)
        ready(replica);
    else if (!well && replica->state == POP_REPLICA_READY)
        unready(replica, why);
    /* Of several that fail for different reasons the first counts, as a new one is a new table. */
    struct pop_revision *revision = replica->revision;
    if (!well && pop_revision_ready(revision) == 0 &&
        (!revision->failed || replica == LIST_FIRST(&revision->replicas, struct pop_replica, link)))
        fail(revision, why);
}

void pop_upstream_reconcile(struct pop_revision *revision, bool wanted)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_replica *replica;

    if (wanted == revision->watched || (!wanted && !pop->sure))
        return;
    revision->watched = wanted;
    pop->effects->upstream_watch(revision, wanted, pop->data);
    if (wanted)
        return;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        address_end(replica, "stopped");
    revision->failed = false;
    changed(pop);
}
