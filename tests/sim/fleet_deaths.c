/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PoP dies, and clients hold its address: each of them asks a resolver that keeps what some PoP's
 * DNS said for the TTL that it said. Within 3 s of the death no answer names the dead any more; who
 * holds an older one is answered elsewhere within 3 s and that TTL, at once where it has a second
 * address. Then the same PoP, back for a few seconds alone, dies again: of that one answers were
 * not to be kept for longer than 5 s.
 */
#include <stdlib.h>

#include "fleet.h"
#include "policy/ttl.h"

#define STEP_NS (100 * ENV_MS)      /* who was not answered tries again after */
#define KNOWN_NS (3 * ENV_S)        /* a dead PoP is out of all answers after */
#define FILL_NS (21 * ENV_S)        /* all resolvers hold something, and of all ages */
#define YOUNG_NS (20 * ENV_S)       /* a PoP that came back is up, and named again */
enum { CALM_STEPS = 10, PACE = 7 }; /* steps from one request of a client to the next; any prime */

struct holder { /* a client, and its resolver */
    struct ask ask;
    struct answer kept;
    int64_t until_ns, failed_ns; /* when it was not answered last; 0: it always was */
    unsigned begins;             /* in which step */
    bool unanswered, judged;
    uint32_t ttl_s, alone_s; /* the longest of answers that named the dead; and nobody who serves */
};

struct wake {
    struct fleet *fleet;
    struct holder *holders;
    size_t count;
    unsigned step;
    struct site *dead; /* NULL: none yet */
    int64_t died_ns;
};

static bool names(const struct answer *answer, const struct site *site)
{
    for (size_t i = 0; i < answer->count; i++)
        if (answer->sites[i] == site)
            return true;
    return false;
}

/* One that may have been given up since, and then has nothing there. */
static bool has_second(const struct answer *answer, unsigned endpoint, const struct site *dead)
{
    for (size_t i = 0; i < answer->count; i++)
        if (answer->sites[i] != dead && fleet_ready(answer->sites[i], endpoint))
            return true;
    return false;
}

static void named_dead(struct holder *holder, const struct site *dead)
{
    uint32_t ttl_s = holder->kept.ttl_s;
    holder->ttl_s = ttl_s > holder->ttl_s ? ttl_s : holder->ttl_s;
    if (!has_second(&holder->kept, holder->ask.endpoint, dead) && ttl_s > holder->alone_s)
        holder->alone_s = ttl_s;
}

static void resolver_asks(struct wake *wake, struct holder *holder, int64_t now_ns)
{
    struct site *server;
    do
        server = &wake->fleet->sites[fleet_draw(wake->fleet, 0, SITES - 1)];
    while (!server->power);
    fleet_answer(server, &holder->ask, &holder->kept);
    holder->until_ns = now_ns + holder->kept.ttl_s * ENV_S;
    if (!wake->dead || !names(&holder->kept, wake->dead))
        return;
    assert_true(now_ns - wake->died_ns < KNOWN_NS);
    named_dead(holder, wake->dead);
}

static bool client_asks(struct wake *wake, struct holder *holder, int64_t now_ns)
{
    if (now_ns >= holder->until_ns)
        resolver_asks(wake, holder, now_ns);
    for (size_t i = 0; i < holder->kept.count; i++)
        if (fleet_serves(holder->kept.sites[i], &holder->ask))
            return true;
    return false;
}

static void run(struct wake *wake, int64_t duration_ns)
{
    for (int64_t left_ns = duration_ns; left_ns > 0; left_ns -= STEP_NS, wake->step++) {
        world_run(wake->fleet->world, STEP_NS);
        int64_t now_ns = env_now_ns(wake->fleet->env);
        for (size_t i = 0; i < wake->count; i++) {
            struct holder *holder = &wake->holders[i];
            bool due = wake->step >= holder->begins &&
                       (holder->unanswered || (wake->step - holder->begins) % CALM_STEPS == 0);
            if (!due)
                continue;
            holder->unanswered = !client_asks(wake, holder, now_ns);
            if (!holder->unanswered)
                continue;
            holder->failed_ns = now_ns;
            if (wake->dead && names(&holder->kept, wake->dead))
                named_dead(holder, wake->dead);
            if (!fleet_can_serve(wake->fleet, &holder->ask, wake->dead))
                holder->judged = false; /* who had it beside the dead gave it up meanwhile */
        }
    }
}

static bool holds(const struct holder *holder, const struct site *site, int64_t now_ns)
{
    return holder->until_ns > now_ns && names(&holder->kept, site) &&
           fleet_can_serve(site->fleet, &holder->ask, site);
}

/* Whose death is felt by most who can be served elsewhere. */
static struct site *victim(struct wake *wake)
{
    struct site *found = NULL;
    unsigned most = 0;
    for (unsigned i = 0; i < SITES; i++) {
        struct site *site = &wake->fleet->sites[i];
        unsigned held = 0;
        for (size_t k = 0; k < wake->count; k++)
            held += holds(&wake->holders[k], site, env_now_ns(wake->fleet->env));
        if (held > most) {
            most = held;
            found = site;
        }
    }
    return found;
}

static unsigned dies(struct wake *wake, struct site *site)
{
    unsigned judged = 0;
    int64_t now_ns = env_now_ns(wake->fleet->env);
    site_power_off(site);
    wake->dead = site;
    wake->died_ns = now_ns;
    for (size_t i = 0; i < wake->count; i++) {
        struct holder *holder = &wake->holders[i];
        holder->ttl_s = holder->alone_s = 0;
        holder->failed_ns = 0;
        holder->judged = holds(holder, site, now_ns);
        if (holder->judged)
            named_dead(holder, site);
        judged += holder->judged;
    }
    return judged;
}

static void check(const struct wake *wake, uint32_t ttl_s)
{
    for (size_t i = 0; i < wake->count; i++) {
        const struct holder *holder = &wake->holders[i];
        int64_t bound_ns = KNOWN_NS + holder->alone_s * ENV_S;
        if (!holder->judged)
            continue;
        if (holder->unanswered || holder->failed_ns - wake->died_ns > bound_ns)
            fail_msg("%s from %s: not answered %.1f s after %s died, with a TTL of %u s",
                     wake->fleet->wishes[holder->ask.endpoint].name, holder->ask.city->name,
                     (double)(holder->failed_ns - wake->died_ns) / ENV_S, wake->dead->name,
                     (unsigned)holder->ttl_s);
        assert_true(holder->ttl_s > 0 && holder->ttl_s <= ttl_s);
    }
}

static void holders_make(struct wake *wake)
{
    wake->holders = mem_zalloc(ENDPOINTS * city_count * sizeof *wake->holders);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        for (size_t k = 0; k < city_count && wake->fleet->wishes[i].acked; k++) {
            struct holder *holder = &wake->holders[wake->count];
            holder->ask = (struct ask){ i, &cities[k], wake->count };
            holder->begins = (unsigned)(wake->count++ * PACE % (FILL_NS / STEP_NS));
        }
}

void fleet_deaths(struct fleet *fleet, struct held *ret)
{
    struct wake wake = { .fleet = fleet };
    holders_make(&wake);
    run(&wake, FILL_NS);
    struct site *site = victim(&wake);
    if (site) {
        ret->calm += dies(&wake, site);
        run(&wake, KNOWN_NS + (TTL_STABLE_S + 1) * ENV_S);
        check(&wake, TTL_STABLE_S);
        wake.dead = NULL;
        site_power_on(site);
        run(&wake, YOUNG_NS);
        ret->young += dies(&wake, site);
        run(&wake, KNOWN_NS + (TTL_UNSTABLE_S + 1) * ENV_S);
        check(&wake, TTL_UNSTABLE_S);
    }
    free(wake.holders);
}
