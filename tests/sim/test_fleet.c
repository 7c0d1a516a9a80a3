/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control and fifty PoPs through two minutes of trouble: links cut, messages lost, repeated and
 * late, machines without power, agents and control killed, clocks an hour off, endpoints put and
 * deleted, PoPs drained, deleted and made anew in other countries. All the while no request is
 * served, no replica started and no PoP named where the law of the spec that is known there forbids
 * it. Once faults end all comes to rest, and no herd forms; a PoP that dies then costs those
 * who hold its address no more than 3 s and the TTL that they were given.
 *
 * A failing world says its seed: PERIGEE_SIM_SEED=N runs it alone, PERIGEE_SIM_LOG=1 tells more.
 */
#include "fleet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "control/hub.h"
#include "control/keys.h"
#include "dns/view.h"
#include "store/digest.h"
#include "sys/home.h"

enum {
    SEEDS = 4,
    SEEDS_PART = 5, /* of PERIGEE_SIM_SEEDS, which counts smaller worlds */
    WORKERS_MAX = 4,
    CHAOS_S = 120,
    PEACE_S = 120,                /* until all has come to rest */
    STABLE_S = 30,                /* and stays so */
    WARM_S = 40,                  /* for prices to be found */
    HERD_LEAST = 20,              /* requests a window, of what is judged */
    JUDGED_LEAST = ENDPOINTS / 2, /* endpoints of a world; most have all */
};
/* Of a PoP's share, beyond chance: 0.5 where a herd comes and goes whole. The worst of the many
 * shares of a world, and the mean of that over worlds: 0.03, and 0.14 without the clients' draws of
 * route.h. */
#define HERD_MOST 0.15
#define HERD_MEAN_MOST 0.06

/* ---- trouble --------------------------------------------------------------------------------- */

static void cut(struct fleet *fleet, unsigned a, unsigned b, bool on)
{
    fleet->cut[a][b] = fleet->cut[b][a] = on;
}

static void on_heal(struct fleet *fleet, void *, uint64_t pair)
{
    cut(fleet, (unsigned)(pair / NODES), (unsigned)(pair % NODES), false);
}

static void cut_for(struct fleet *fleet, unsigned a, unsigned b, int64_t ns)
{
    cut(fleet, a, b, true);
    fleet->cuts++;
    fleet_after(fleet, ns, NULL, on_heal, NULL, (uint64_t)a * NODES + b);
}

static void on_power(struct fleet *, void *data, uint64_t)
{
    site_power_on(data);
}

static void on_control(struct fleet *fleet, void *, uint64_t)
{
    if (!fleet->control)
        control_start(fleet);
}

static int64_t seconds(struct fleet *fleet, int64_t low, int64_t high)
{
    return fleet_draw(fleet, low * 1000, high * 1000) * ENV_MS;
}

static unsigned any_site(struct fleet *fleet)
{
    return (unsigned)fleet_draw(fleet, 0, SITES - 1);
}

static void trouble_links(struct fleet *fleet)
{
    int64_t ns = seconds(fleet, 1, 40);
    unsigned first = any_site(fleet), count = (unsigned)fleet_draw(fleet, 1, 8);
    switch (fleet_draw(fleet, 0, 4)) {
    case 0: /* control alone */
        for (unsigned i = 0; i < SITES; i++)
            cut_for(fleet, i, NODE_CONTROL, ns);
        break;
    case 1:
    case 2:
        for (unsigned i = 0; i < count; i++)
            cut_for(fleet, (first + i) % SITES, NODE_CONTROL, ns);
        break;
    default:
        for (unsigned i = 0; i < count * 4; i++)
            cut_for(fleet, any_site(fleet), any_site(fleet), ns);
        break;
    }
}

static void on_trouble(struct env_timer *timer, void *data)
{
    struct fleet *fleet = data;
    struct site *site = &fleet->sites[any_site(fleet)];
    int64_t dice = fleet_draw(fleet, 0, 99);
    if (dice < 15) {
        trouble_links(fleet);
    } else if (dice < 22) {
        site_power_off(site);
        fleet_after(fleet, seconds(fleet, 2, 50), NULL, on_power, site, 0);
    } else if (dice < 34) {
        site_agent_kill(site);
    } else if (dice < 38) {
        fleet->kills += fleet->control != NULL;
        control_kill(fleet);
        fleet_after(fleet, seconds(fleet, 0, 12), NULL, on_control, NULL, 0);
    } else if (dice < 40) {
        fleet->jumps++;
        world_wall_jump(fleet->world, (fleet_draw(fleet, 0, 1) ? 1 : -1) * 3600 * ENV_S);
    } else {
        operator_changes(fleet);
    }
    env_timer_start(fleet->env, timer, seconds(fleet, 0, 1), on_trouble, fleet);
}

static void trouble_ends(struct fleet *fleet)
{
    fleet->chaos = false;
    env_timer_stop(fleet->env, &fleet->trouble);
    memset(fleet->cut, 0, sizeof fleet->cut);
    on_control(fleet, NULL, 0);
    for (unsigned i = 0; i < SITES; i++)
        site_power_on(&fleet->sites[i]);
}

/* ---- at rest --------------------------------------------------------------------------------- */

static const struct hub_place *place_at(const struct hub_endpoint *endpoint,
                                        const struct site *site)
{
    for (size_t i = 0; i < endpoint->place_count; i++)
        if (slice_is(endpoint->places[i].pop->name, site->name))
            return &endpoint->places[i];
    return NULL;
}

static void check_site(struct fleet *fleet, struct site *site, struct hub_endpoint *endpoint,
                       unsigned which)
{
    const struct snapshot *snapshot = endpoint->snapshot;
    uint64_t uid = snapshot->row.uid;
    const struct hub_place *place = place_at(endpoint, site);
    const struct pop_endpoint *own = pop_endpoint_find(&site->agent->pop, uid);
    assert_non_null(own);
    /* It is as control has it: the spec, and where it runs. */
    assert_int_equal(version_of(&own->spec), fleet->wishes[which].acked);
    assert_int_equal(site->versions[which], fleet->wishes[which].acked);
    assert_true(slice_equal(own->json, endpoint->pop_view));
    assert_int_equal(own->place_count, endpoint->place_count);
    assert_int_equal(own->replicas, place ? place->replicas : 0);
    assert_int_equal(site_ready(site, uid, 0), place ? place->replicas : 0);
    assert_int_equal(site_ready(site, uid, snapshot->row.target), place ? place->replicas : 0);
    assert_int_equal(own->serving, place ? snapshot->row.target : 0);
    if (place)
        assert_true(
            law_may_place(&fleet->laws[fleet->wishes[which].acked], site->name, site->city));
}

static void check_endpoint(struct fleet *fleet, unsigned which)
{
    struct wish *wish = &fleet->wishes[which];
    struct hub_endpoint *endpoint =
        hub_find(fleet->control, SLICE("default"), slice_of(wish->name));
    uint64_t replicas = 0, may = 0;
    assert_true((endpoint != NULL) == (wish->acked > 0));
    if (!endpoint)
        return;
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    assert_int_equal(version_of(spec), wish->acked);
    for (unsigned i = 0; i < SITES; i++) {
        struct site *site = &fleet->sites[i];
        const struct hub_pop *pop = map_get(&fleet->control->hub.pops, slice_of(site->name));
        check_site(fleet, site, endpoint, which);
        may += law_may_place(&fleet->laws[wish->acked], site->name, site->city) &&
               hub_pop_state_of(pop) == HUB_POP_READY;
    }
    for (size_t i = 0; i < endpoint->place_count; i++)
        replicas += endpoint->places[i].replicas;
    if (may == 0) /* those that drain keep it, or nobody has it */
        return;
    assert_true((endpoint->place_count > 0) == !endpoint->nowhere[0]);
    assert_true(replicas >= spec->scale.min || endpoint->min_short);
    assert_true(!spec->scale.max || replicas <= spec->scale.max);
    assert_true(endpoint->place_count >= spec->spread.pops || endpoint->spread_short);
    assert_int_equal(endpoint->snapshot->row.serving,
                     endpoint->place_count ? endpoint->snapshot->row.target : 0);
}

/* What its watch has told it, in however many parts, is what there is. */
static void check_told(struct fleet *fleet, struct site *site)
{
    const struct hub *hub = &fleet->control->hub;
    const struct pop_endpoint *own;
    struct arena *arena = arena_new_secret();
    struct hub_pop *pop = hub_pop(fleet->control, slice_of(site->name));
    struct slice keys = keys_json(fleet->control, pop, arena);
    size_t wanted = 0;
    LIST_EACH (own, &site->agent->pop.endpoints, struct pop_endpoint, link)
        wanted += own->wanted;
    assert_int_equal(wanted, hub->by_uid.count);
    assert_true(slice_equal(site->agent->pop.peers_json, hub->peers));
    assert_int_equal(site->agent->pop.key_count, SITES);
    for (size_t i = 0; i < SITES; i++) {
        const struct pop_key *key = &site->agent->pop.keys[i];
        char hex[2 * sizeof key->key + 1];
        for (size_t k = 0; k < sizeof key->key; k++)
            snprintf(hex + 2 * k, 3, "%02x", key->key[k]);
        assert_non_null(memmem(keys.data, keys.size, hex, 2 * sizeof key->key));
    }
    arena_free(arena);
}

/* Where it stands, for whoever has to find out why. */
static void say_rest(struct fleet *fleet)
{
    for (unsigned i = 0; i < SITES && getenv("PERIGEE_SIM_LOG"); i++) {
        const struct site *site = &fleet->sites[i];
        const struct hub_pop *pop = map_get(&fleet->control->hub.pops, slice_of(site->name));
        print_message("  %s %s: %s%s%s%s, agent %d in touch %d, control says %s\n", site->name,
                      site->city->country, site->made ? "made " : "", site->joined ? "joined " : "",
                      site->busy ? "busy " : "", site->power ? "power" : "", site->agent != NULL,
                      site->agent && site->agent->control_there,
                      pop ? hub_pop_state_word(hub_pop_state_of(pop)) : "nothing");
    }
    for (unsigned i = 0; i < ENDPOINTS && getenv("PERIGEE_SIM_LOG"); i++) {
        const struct hub_endpoint *endpoint =
            hub_find(fleet->control, SLICE("default"), slice_of(fleet->wishes[i].name));
        if (!endpoint)
            continue;
        print_message("  %s version %llu target %llu serving %llu nowhere '%s' spec %.*s\n",
                      fleet->wishes[i].name, (unsigned long long)fleet->wishes[i].acked,
                      (unsigned long long)endpoint->snapshot->row.target,
                      (unsigned long long)endpoint->snapshot->row.serving, endpoint->nowhere,
                      SLICE_FMT(endpoint->snapshot->row.spec));
        for (size_t k = 0; k < endpoint->place_count; k++) {
            const struct site *site = site_find(fleet, endpoint->places[k].pop->name);
            print_message(
                "    %s %u, ready %u of the target, %u of all\n", site->name,
                endpoint->places[k].replicas,
                site_ready(site, endpoint->snapshot->row.uid, endpoint->snapshot->row.target),
                site_ready(site, endpoint->snapshot->row.uid, 0));
        }
    }
}

static void check_rest(struct fleet *fleet)
{
    assert_non_null(fleet->control);
    say_rest(fleet);
    for (unsigned i = 0; i < SITES; i++) {
        struct site *site = &fleet->sites[i];
        if (!site->agent || !site->agent->control_there || !site->table.bytes)
            fail_msg("%s: %s", site->name, site->agent ? "not in touch" : "no agent");
        check_told(fleet, site);
        const struct table_head *head = (const struct table_head *)(void *)site->table.bytes;
        assert_int_equal(head->pops.count, SITES);
        for (uint32_t k = 0; k < head->pops.count; k++)
            assert_true(table_pop(head, k)->flags & TABLE_POP_UP);
        assert_int_equal(head->endpoints.count, fleet->control->hub.by_uid.count);
    }
    for (unsigned i = 0; i < ENDPOINTS; i++)
        check_endpoint(fleet, i);
}

/* What is placed where, what runs, and how often something was started. */
static uint64_t rest_of(struct fleet *fleet)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < ENDPOINTS; i++)
        for (unsigned k = 0; k < SITES; k++) {
            struct process *one;
            LIST_EACH (one, &fleet->sites[k].processes, struct process, link)
                sum = sum * 31 + one->id + k * 7 + one->ready;
        }
    return sum;
}

/* ---- herds ----------------------------------------------------------------------------------- */

static double asked_in(const struct fleet *fleet, unsigned endpoint, unsigned window)
{
    double all = 0;
    for (unsigned k = 0; k < SITES; k++)
        all += fleet->asked[endpoint][k][window];
    return all;
}

static void placed_now(struct fleet *fleet, bool ret[static ENDPOINTS][SITES])
{
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        const struct hub_endpoint *endpoint =
            hub_find(fleet->control, SLICE("default"), slice_of(fleet->wishes[i].name));
        memset(ret[i], 0, sizeof ret[i]);
        for (size_t k = 0; endpoint && k < endpoint->place_count; k++)
            ret[i][site_find(fleet, endpoint->places[k].pop->name)->index] = true;
    }
}

/* Of each endpoint: did a PoP give it up meanwhile, and none take it up? Once all has settled those
 * that must not be go, and nobody comes to them any more: no herd comes and goes. */
static void given_up(struct fleet *fleet, bool ret[static ENDPOINTS])
{
    bool now[ENDPOINTS][SITES];
    placed_now(fleet, now);
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        bool fewer = false, more = false;
        for (unsigned k = 0; k < SITES; k++) {
            fewer = fewer || (fleet->placed[i][k] && !now[i][k]);
            more = more || (now[i][k] && !fleet->placed[i][k]);
        }
        ret[i] = fewer && !more;
    }
}

/* Is it asked for often enough in each window for its PoPs' shares to say something? */
static bool is_judged(const struct fleet *fleet, unsigned endpoint)
{
    bool enough = true;
    for (unsigned n = 0; n < WINDOWS; n++)
        enough = enough && asked_in(fleet, endpoint, n) >= HERD_LEAST;
    return enough;
}

/* Each PoP's share of what is asked of an endpoint, window by window, differs by chance (of so many
 * requests), and by little more: a herd comes and goes whole. Returns the worst standard deviation
 * beyond chance. */
static double swing_of(const struct fleet *fleet, unsigned endpoint, unsigned site)
{
    double sum = 0, squares = 0, chance = 0;
    for (unsigned n = 0; n < WINDOWS; n++) {
        double all = asked_in(fleet, endpoint, n);
        double share = fleet->asked[endpoint][site][n] / all;
        sum += share;
        squares += share * share;
        chance += share * (1 - share) / all;
    }
    double mean = sum / WINDOWS;
    return sqrt(fmax(0, squares / WINDOWS - mean * mean - chance / WINDOWS));
}

/* Of all endpoints that can be judged, which are counted. */
static double herd_of(struct fleet *fleet, unsigned *ret_judged)
{
    double worst = 0;
    bool gone[ENDPOINTS];
    *ret_judged = 0;
    given_up(fleet, gone);
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        if (!is_judged(fleet, i))
            continue;
        ++*ret_judged;
        if (gone[i])
            continue;
        for (unsigned k = 0; k < SITES; k++) {
            double swing = swing_of(fleet, i, k);
            worst = fmax(worst, swing);
            if (swing < HERD_MOST / 2 || !getenv("PERIGEE_SIM_LOG"))
                continue;
            print_message("  %s at %s, asked for in each window:", fleet->wishes[i].name,
                          fleet->sites[k].name);
            for (unsigned n = 0; n < WINDOWS; n++)
                print_message(" %u", fleet->asked[i][k][n]);
            print_message("\n");
        }
    }
    return worst;
}

/* ---- a world --------------------------------------------------------------------------------- */

static void blob_begin(struct fleet *fleet)
{
    char digest[DIGEST_TEXT];
    const char *bytes = "a model";
    snprintf(fleet->model, sizeof fleet->model, "%s", digest_of(slice_of(bytes), digest));
    char path[256];
    snprintf(path, sizeof path, "%s/home/blobs/sha256/%s", fleet->folder, digest + 7);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, strlen(bytes), file), strlen(bytes));
    assert_int_equal(fclose(file), 0);
}

static struct fleet *fleet_begin(uint64_t seed)
{
    struct fleet *fleet = mem_zalloc(sizeof *fleet);
    char path[128];
    struct err err;
    fleet_now = fleet;
    fleet->world = world_new(seed);
    fleet->env = world_env(fleet->world);
    list_init(&fleet->calls);
    list_init(&fleet->works);
    list_init(&fleet->beats);
    list_init(&fleet->events);
    folder_make(fleet->folder);
    snprintf(path, sizeof path, "%s/home", fleet->folder);
    assert_int_equal(home_make(path, &err), 0);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        snprintf(fleet->wishes[i].name, sizeof fleet->wishes[i].name, "end%u", i + 1);
    for (unsigned i = 0; i < SITES; i++) {
        struct site *site = &fleet->sites[i];
        site->fleet = fleet;
        site->index = i;
        site->city = &cities[i % city_count];
        snprintf(site->name, sizeof site->name, "p%02u", i + 1);
        list_init(&site->processes);
    }
    /* The first start makes the folders; the second finds the blob. */
    control_start(fleet);
    control_kill(fleet);
    blob_begin(fleet);
    control_start(fleet);
    for (unsigned i = 0; i < SITES; i++)
        operator_makes(fleet, &fleet->sites[i]);
    world_run(fleet->world, 10 * ENV_S);
    return fleet;
}

static void fleet_end(struct fleet *fleet)
{
    env_timer_stop(fleet->env, &fleet->traffic);
    env_timer_stop(fleet->env, &fleet->trouble);
    world_run(fleet->world, ENV_S); /* disks come to rest */
    for (unsigned i = 0; i < SITES; i++)
        site_end(&fleet->sites[i]);
    control_kill(fleet);
    fleet_calls_free(fleet);
    fleet_events_free(fleet);
    fleet_beats_free(fleet);
    folder_remove(fleet->folder);
    world_free(fleet->world);
    free(fleet->shown.bytes);
    free(fleet);
}

/* Each PoP serves what it is asked for: its own table, its own replicas. */
static uint64_t served_by(struct fleet *fleet, int64_t duration_ns)
{
    struct counts before = fleet->counts;
    world_run(fleet->world, duration_ns);
    assert_int_equal(fleet->counts.lost, before.lost);
    return fleet->counts.served - before.served;
}

/* Not one request fails, no replica starts or ends: while control is down, while agents come and
 * go meanwhile, and when it is back; nor while it is cut off. A PoP that boots cold then serves
 * what it knows. */
static void test_control_is_away(void **state)
{
    struct fleet *fleet = fleet_begin(77);
    struct site *site = NULL;
    (void)state;
    log_level_set(getenv("PERIGEE_SIM_LOG") ? LOG_INFO : LOG_ERROR + 1);
    for (int i = 0; i < 2 * ENDPOINTS; i++) {
        operator_settles(fleet);
        world_run(fleet->world, 5 * ENV_S);
    }
    world_run(fleet->world, 60 * ENV_S);
    check_rest(fleet);
    traffic_begin(fleet);
    assert_true(served_by(fleet, 20 * ENV_S) > 100);
    uint64_t rest = rest_of(fleet);
    control_kill(fleet);
    assert_true(served_by(fleet, 40 * ENV_S) > 200);
    for (unsigned i = 0; i < SITES; i += 3)
        site_agent_kill(&fleet->sites[i]);
    assert_true(served_by(fleet, 40 * ENV_S) > 200);
    control_start(fleet);
    assert_true(served_by(fleet, 60 * ENV_S) > 300);
    assert_true(rest_of(fleet) == rest);
    for (unsigned i = 0; i < SITES; i++)
        cut(fleet, i, NODE_CONTROL, true);
    assert_true(served_by(fleet, 40 * ENV_S) > 200);
    assert_true(rest_of(fleet) == rest);
    for (unsigned i = 0; i < SITES && !site; i++)
        if (!list_empty(&fleet->sites[i].processes))
            site = &fleet->sites[i];
    assert_non_null(site);
    site_power_off(site);
    world_run(fleet->world, ENV_S);
    site_power_on(site);
    world_run(fleet->world, 30 * ENV_S); /* 10 s of them it waits for control */
    assert_false(list_empty(&site->processes));
    assert_true(served_by(fleet, 20 * ENV_S) > 100);
    rest = rest_of(fleet);
    memset(fleet->cut, 0, sizeof fleet->cut);
    world_run(fleet->world, 60 * ENV_S);
    check_rest(fleet);
    assert_true(rest_of(fleet) == rest);
    fleet_end(fleet);
}

/* Who was cut off goes on where it was, whatever was put and deleted meanwhile; after a control
 * that began anew, or with an agent that did, all is told once more. */
static void test_watches_go_on(void **state)
{
    enum { AWAY = SITES / 3 };
    struct fleet *fleet = fleet_begin(78);
    (void)state;
    log_level_set(getenv("PERIGEE_SIM_LOG") ? LOG_INFO : LOG_ERROR + 1);
    for (int i = 0; i < ENDPOINTS; i++)
        operator_settles(fleet);
    world_run(fleet->world, 60 * ENV_S);
    assert_int_equal(watches_begun(fleet, RESUME_ON), 0);
    for (int round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < AWAY; i++)
            cut(fleet, i, NODE_CONTROL, true);
        for (int i = 0; i < 40; i++) {
            endpoint_changes(fleet, &fleet->wishes[i % ENDPOINTS]);
            world_run(fleet->world, ENV_S);
        }
        memset(fleet->cut, 0, sizeof fleet->cut);
        for (int i = 0; i < ENDPOINTS; i++)
            operator_settles(fleet);
        world_run(fleet->world, 120 * ENV_S);
        check_rest(fleet);
        assert_true(watches_begun(fleet, RESUME_ON) >= (unsigned)round * AWAY);
    }
    unsigned resumed = watches_begun(fleet, RESUME_ON), first = watches_begun(fleet, RESUME_FIRST);
    assert_int_equal(watches_begun(fleet, RESUME_EPOCH), 0);
    control_kill(fleet);
    control_start(fleet);
    world_run(fleet->world, 60 * ENV_S);
    check_rest(fleet);
    assert_int_equal(watches_begun(fleet, RESUME_EPOCH), SITES);
    for (unsigned i = 0; i < AWAY; i++)
        site_agent_kill(&fleet->sites[i]);
    world_run(fleet->world, 60 * ENV_S);
    check_rest(fleet);
    assert_int_equal(watches_begun(fleet, RESUME_FIRST), first + AWAY);
    assert_int_equal(watches_begun(fleet, RESUME_ON), resumed);
    assert_int_equal(watches_begun(fleet, RESUME_BEHIND) + watches_begun(fleet, RESUME_AHEAD), 0);
    fleet_end(fleet);
}

static double herds;     /* sum over worlds */
static struct held held; /* likewise */
static uint64_t strays;  /* requests that were passed on by who may not process them */

static uint64_t run_seed(uint64_t seed)
{
    struct fleet *fleet = fleet_begin(seed);
    for (int i = 0; i < 8; i++)
        operator_changes(fleet);
    world_run(fleet->world, 20 * ENV_S);
    traffic_begin(fleet);
    fleet->chaos = true;
    env_timer_start(fleet->env, &fleet->trouble, ENV_S, on_trouble, fleet);
    world_run(fleet->world, CHAOS_S * ENV_S);
    trouble_ends(fleet);
    world_run(fleet->world, 20 * ENV_S);
    operator_settles(fleet);
    world_run(fleet->world, (PEACE_S - 20) * ENV_S);
    check_rest(fleet);
    uint64_t rest = rest_of(fleet);
    world_run(fleet->world, STABLE_S * ENV_S);
    check_rest(fleet);
    assert_true(rest == rest_of(fleet));

    traffic_rate(fleet, 0.5);
    world_run(fleet->world, WARM_S * ENV_S);
    fleet->measured_from_ns = env_now_ns(fleet->env);
    fleet->measuring = true;
    placed_now(fleet, fleet->placed);
    struct counts before = fleet->counts;
    world_run(fleet->world, (int64_t)WINDOWS * WINDOW_S * ENV_S);
    unsigned judged;
    double herd = herd_of(fleet, &judged);
    uint64_t lost = fleet->counts.lost - before.lost;
    if (getenv("PERIGEE_SIM_SEED"))
        print_message(
            "  seed %llu: %u changes, %u refused, %u cuts, %u kills of control, %u boots, "
            "%u deaths, %u jumps, %u calls lost, %u watches resumed; %llu requests, %llu passed "
            "on, %llu "
            "denied, %llu lost, %llu unnamed; at rest %llu lost of %llu at %.0f/s, herd "
            "%.2f of %u endpoints\n",
            (unsigned long long)seed, fleet->changes, fleet->refused, fleet->cuts, fleet->kills,
            fleet->boots, fleet->deaths, fleet->jumps, fleet->calls_lost,
            watches_begun(fleet, RESUME_ON), (unsigned long long)fleet->counts.requests,
            (unsigned long long)fleet->counts.passed_on, (unsigned long long)fleet->counts.denied,
            (unsigned long long)fleet->counts.lost, (unsigned long long)fleet->counts.unnamed,
            (unsigned long long)lost,
            (unsigned long long)(fleet->counts.requests - before.requests), fleet->rate_per_s, herd,
            judged);
    assert_int_equal(lost, 0);
    assert_true(judged >= JUDGED_LEAST);
    assert_true(herd < HERD_MOST);
    fleet_deaths(fleet, &held);
    herds += herd;
    strays += fleet->counts.in_transit;
    uint64_t trace = world_trace(fleet->world);
    fleet_end(fleet);
    return trace;
}

/* Whatever goes on without end there, an agent reports as often as control has it, and no more. */
static void test_changes_without_end_go_together(void **state)
{
    struct fleet *fleet = fleet_begin(78);
    const struct site *site = &fleet->sites[0];
    (void)state;
    world_run(fleet->world, 20 * ENV_S);
    const struct hub_pop *pop = map_get(&fleet->control->hub.pops, slice_of(site->name));
    assert_non_null(site->agent);
    uint64_t before = pop->sequence;
    for (unsigned ms = 0; ms < 10'000; ms++) {
        agent_report_soon(site->agent);
        world_run(fleet->world, ENV_MS);
        assert_int_not_equal(site->agent->report_status, 429);
    }
    assert_in_range(pop->sequence - before, 100, 155); /* 50, and 10 a second */
    fleet_end(fleet);
}

static void test_a_seed_is_a_world(void **state)
{
    (void)state;
    log_level_set(LOG_ERROR + 1);
    assert_true(run_seed(1) == run_seed(1));
}

/* ---- all ------------------------------------------------------------------------------------- */

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t seed_now; /* should it fail */
static unsigned share, shares = 1;

static int say_seed(void **state)
{
    (void)state;
    if (seed_now)
        print_message("  the last world: PERIGEE_SIM_SEED=%llu\n", (unsigned long long)seed_now);
    return 0;
}

static void test_seeds(void **state)
{
    uint64_t one = number_of("PERIGEE_SIM_SEED", 0), count = 0;
    uint64_t last = number_of("PERIGEE_SIM_SEEDS", (uint64_t)SEEDS * SEEDS_PART) / SEEDS_PART;
    (void)state;
    log_level_set(getenv("PERIGEE_SIM_LOG") ? LOG_INFO : LOG_ERROR + 1);
    herds = 0;
    strays = 0;
    held = (struct held){};
    for (uint64_t seed = one ? one : 1 + share; seed <= (one ? one : last);
         seed += one ? 1 : shares, count++) {
        seed_now = seed;
        (void)run_seed(seed);
    }
    print_message(
        "  %llu worlds, herd %.3f, %llu passed on where they may not be processed, %u and "
        "%u who held the address of a PoP that died\n",
        (unsigned long long)count, herds / (double)count, (unsigned long long)strays, held.calm,
        held.young);
    seed_now = 0;
    assert_true(one || herds / (double)count < HERD_MEAN_MOST);
    assert_true(one || strays > 0);
    assert_true(one || (held.calm > count && held.young > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_seeds, say_seed),
        cmocka_unit_test(test_control_is_away),
        cmocka_unit_test(test_watches_go_on),
        cmocka_unit_test(test_changes_without_end_go_together),
        cmocka_unit_test(test_a_seed_is_a_world),
    };
    pid_t others[WORKERS_MAX] = {};
    long cores = getenv("PERIGEE_SIM_SEED") ? 1 : sysconf(_SC_NPROCESSORS_ONLN);
    int failed = 0, status;
    shares = cores > WORKERS_MAX ? WORKERS_MAX : cores > 1 ? (unsigned)cores : 1;
    for (unsigned i = 1; i < shares && share == 0; i++) {
        others[i] = fork();
        if (others[i] == 0) {
            const struct CMUnitTest seeds[] = { tests[0] };
            share = i;
            return cmocka_run_group_tests_name("fleet", seeds, NULL, NULL);
        }
    }
    failed += cmocka_run_group_tests_name("fleet", tests, NULL, NULL);
    for (unsigned i = 1; i < shares; i++)
        failed += others[i] < 0 || waitpid(others[i], &status, 0) < 0 || status != 0;
    return failed != 0;
}
