/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run: requests (edge_scenario.c) in the order in which clients send them, each through
 * choice, failed tries, the PoP's own second look (ours alone: pass it on, or not), and a place.
 *
 * A place is taken by the order in which requests were sent, not in which they arrive; round trips
 * are short beside what piles up. A client tries the addresses that DNS answered: a dead PoP
 * refuses, which costs a round trip, or says nothing (RFC 8305: 250 ms until the next try). When
 * all have failed it asks anew; a resolver (edge_kept.h) gives it the same until that is over.
 * Those that a PoP had taken before it died count as answered.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "policy/health.h"
#include "policy/load.h"
#include "policy/route.h"
#include "policy/ttl.h"
#include "sim/draw.h"
#include "sim/edge.h"
#include "sim/edge_run.h"
#include "sim/sites.h"

#define TICKS_PER_S 10       /* each PoP reports in the tick that is its own, once a second */
#define REPORT_DELAY_TICKS 2 /* until those who choose know */
#define ROUND_TICKS 1        /* there and back between PoPs, of who asks one that refuses */
#define AGAIN_TICKS 1        /* until it is asked again: pop/mesh.h, MESH_AGAIN_NS */
#define WITNESS_TICKS 4      /* MESH_DOUBT_NS, there and back: until others say that they miss it */
#define ATTEMPT_MS 250.0     /* RFC 8305, Connection Attempt Delay */
#define AGAIN_MS 100.0       /* and the least between two, here until DNS is asked again */
#define SECOND_NS 1e9
#define BEFORE_S (-1.0) /* what was known before the first request is of then */
#define KNOWN_S 3.0     /* after so long all know of a death: what health.h has to keep to */
enum { TELL_EVERY = 16384, AGAIN_ROOM = 1024 };

/* ---- places ---------------------------------------------------------------------------------- */

/* The least of a heap grows to `until`. */
static void place_take(double *heap, uint32_t count, double until)
{
    uint32_t at = 0;

    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (heap[child] >= until)
            break;
        heap[at] = heap[child];
    }
    heap[at] = until;
}

static bool alive(const struct edge_state *state, uint32_t site, double at)
{
    return at < state->dead_at[site];
}

/* How long a request that arrives then waits for a replica, and after it for a place: seconds. */
static double start_s(const struct edge_state *state, uint32_t site, double arrives)
{
    double warm = state->warm_at[site];
    return isinf(warm) ? state->world->options.start_ms / 1000 : fmax(0, warm - arrives);
}

static double queue_s(const struct edge_state *state, uint32_t site, double arrives, double start)
{
    return fmax(0, state->places[site][0] - arrives - start);
}

/* Requests that wait there, from the work that is taken on. */
static uint32_t waiting(const struct edge_state *state, uint32_t site, double now)
{
    uint32_t count = state->world->places[site];
    double work = 0;

    for (uint32_t i = 0; i < count; i++)
        work += fmax(0, state->places[site][i] - now);
    double requests = work / (state->world->options.service_ms / 1000) - count;
    return requests > 0 ? (uint32_t)fmin(requests, 1e9) : 0;
}

/* ---- what PoPs report, and when it is known -------------------------------------------------- */

static void report(struct edge_state *state, uint32_t site, double now)
{
    uint32_t places = state->world->places[site];
    double start = start_s(state, site, now) > 0 ? state->world->options.start_ms : 0;
    struct load_report report = {
        .arrivals_per_s = (float)state->arrived[site],
        .capacity_per_s = (float)(places * 1000.0 / state->world->options.service_ms),
        .places = places,
        .waiting = start > 0 ? 0 : waiting(state, site, now), /* for the start: told by it */
    };

    state->arrived[site] = 0;
    (void)load_learn(&state->load[site], &report, (int64_t)((now - BEFORE_S + 1) * SECOND_NS));
    state->start_told[site] = (float)start; /* what one takes: how far it is nobody knows */
}

static void publish(struct edge_state *state, uint32_t site)
{
    state->wait_ms[site] = state->load[site].wait_ms;
    state->weight[site] = state->load[site].weight;
    state->start_ms[site] = state->start_told[site];
    state->hides[site] = state->start_ms[site] > 0;
}

/* As health.h counts: above 0 from their first beat on. */
static int64_t health_ns(const struct edge_state *state, double at)
{
    return (int64_t)((at - BEFORE_S + state->world->options.up_s + 1) * SECOND_NS);
}

/* Those who are killed end the connections over which they are asked: they are asked at once, as
 * soon as that is known, and again while they refuse (pop/mesh.h). */
static bool refuses(const struct edge_state *state, uint32_t site, uint64_t now)
{
    if (state->world->options.silent || isinf(state->dead_at[site]))
        return false;
    uint64_t first =
        (uint64_t)ceil(state->dead_at[site] * TICKS_PER_S) + REPORT_DELAY_TICKS + ROUND_TICKS;
    return now >= first && (now - first) % (AGAIN_TICKS + ROUND_TICKS) == 0;
}

static void tick(struct edge_state *state)
{
    uint64_t now = state->tick++;
    double now_s = (double)now / TICKS_PER_S;

    for (uint32_t i = 0; i < state->world->site_count; i++) {
        uint64_t phase = i * UINT64_C(7) % TICKS_PER_S; /* neighbours of the list apart */
        int64_t ns = health_ns(state, now_s);
        if (now % TICKS_PER_S == phase && alive(state, i, now_s))
            report(state, i, now_s);
        if (now % TICKS_PER_S == (phase + REPORT_DELAY_TICKS) % TICKS_PER_S &&
            alive(state, i, now_s - (double)REPORT_DELAY_TICKS / TICKS_PER_S)) {
            publish(state, i);
            health_beat(&state->heard[i], ns);
            health_probed(&state->heard[i], false, ns);
        }
        if (refuses(state, i, now))
            health_refused(&state->heard[i], ns);
        if (health_up(&state->heard[i], ns))
            state->fell[i] = now;
        state->health[i] = now - state->fell[i] < WITNESS_TICKS ? ROUTE_UP : ROUTE_DOWN;
        state->stable[i] = health_calm(&state->heard[i], ns);
    }
}

/* ---- the four ways --------------------------------------------------------------------------- */

static uint32_t nearest(const struct edge_state *state, const struct edge_request *request,
                        bool permitted)
{
    const struct edge_world *world = state->world;
    const float *rtt = world->rtt + (size_t)request->city * world->site_count;
    uint32_t first = permitted ? world->permitted[request->city] : world->nearest[request->city];
    float least = INFINITY;

    if (first == UINT32_MAX || state->health[first] == ROUTE_UP)
        return first;
    first = UINT32_MAX;
    for (uint32_t i = 0; i < world->site_count; i++) {
        bool fits = state->health[i] == ROUTE_UP && rtt[i] < least &&
                    (!permitted || countries_has(request->process, world->site[i].country));
        if (fits) {
            least = rtt[i];
            first = i;
        }
    }
    return first;
}

/* `wait` and `cold` in seconds of a request that would go there now: what only an oracle sees. */
static uint32_t oracle(const struct edge_state *state, const struct edge_request *request)
{
    const struct edge_world *world = state->world;
    const float *rtt = world->rtt + (size_t)request->city * world->site_count;
    const float *closed = state->closed + (size_t)request->country_row * world->site_count;
    double least = INFINITY;
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < world->site_count; i++) {
        double ms = (double)rtt[i] + (double)closed[i];
        if (ms >= least || !alive(state, i, request->at))
            continue;
        double arrives = request->at + rtt[i] / 2000, start = start_s(state, i, arrives);
        ms += (start + queue_s(state, i, arrives, start)) * 1000;
        if (ms < least) {
            least = ms;
            best = i;
        }
    }
    return best;
}

static size_t choose(const struct edge_state *state, const struct edge_request *request,
                     struct route_choice *ret, size_t max)
{
    const struct route_query query = { .client = state->world->city[request->city].spot,
                                       .client_known = true,
                                       .process = request->process,
                                       .seed = edge_kept_seed(state, request) };
    return route_choose(&state->pops, &state->endpoint, &query, ret, max);
}

/* What a gateway that passes on may count upon: that one serves it, and passes it no further. */
static struct route_endpoint one_hop(const struct edge_state *state)
{
    struct route_endpoint endpoint = state->endpoint;
    endpoint.hides = NULL;
    return endpoint;
}

/* At the PoP that it came to: what the gateway does. The PoP knows its own queue and start as they
 * are, others by their reports; all that are better than to wait here share what it passes on, and
 * what finds it cold goes to the best. UINT32_MAX: it stays. */
static uint32_t pass_on(struct edge_state *state, const struct edge_request *request, uint32_t site,
                        bool cold, double own_ms)
{
    const struct route_endpoint endpoint = one_hop(state);
    const struct route_query query = {
        .client = state->world->site[site].spot,
        .client_known = true,
        .rtt_ms = state->world->site_rtt + (size_t)site * state->world->site_count,
        .process = request->process,
        .seed = request->seed ^ (uint64_t)(request->at * SECOND_NS),
        .enough_ms = cold ? 0 : (float)(own_ms + state->world->options.service_ms),
    };
    float told_ms = state->start_ms[site];
    struct route_choice choice;

    if (!cold && own_ms <= (double)RTT_BASE_MS)
        return UINT32_MAX;
    state->start_ms[site] = cold ? (float)state->world->options.start_ms : 0;
    size_t count = route_choose(&state->pops, &endpoint, &query, &choice, 1);
    state->start_ms[site] = told_ms;
    bool better = count > 0 && choice.exclusion == ROUTE_ALLOWED && choice.pop != site &&
                  (cold || choice.total_ms < query.enough_ms);
    return better ? choice.pop : UINT32_MAX;
}

/* ---- one request ----------------------------------------------------------------------------- */

/* What DNS answers: of ours the drawn PoP and those near it; of geography alone one. */
static size_t ask(struct edge_state *state, const struct edge_request *request, enum edge_way way,
                  bool whole, struct route_choice ret[static EDGE_ANSWERS_MAX])
{
    size_t count = 0;

    state->result->asked++;
    if (way != EDGE_OURS) {
        uint32_t site = nearest(state, request, way == EDGE_GEOGRAPHY);
        ret[0] = (struct route_choice){ .pop = site };
        return site != UINT32_MAX;
    }
    size_t all = choose(state, request, ret, whole ? EDGE_ANSWERS_MAX : 1);
    if (!whole && all > 0 && !alive(state, ret[0].pop, request->at)) /* now the others are needed */
        all = choose(state, request, ret, EDGE_ANSWERS_MAX);
    for (size_t i = 0; i < all; i++)
        if (i == 0 || ret[i].near)
            ret[count++] = ret[i];
    return count;
}

/* The addresses that the client has, in the order in which it tries them. The nearest PoP is found
 * by the network, not by names: nobody keeps that. */
static size_t answer(struct edge_state *state, const struct edge_request *request,
                     enum edge_way way, uint32_t ret[static EDGE_ANSWERS_MAX])
{
    struct edge_kept *kept = way == EDGE_NEAREST ? NULL : edge_kept_of(state, request);
    struct route_choice choices[EDGE_ANSWERS_MAX];
    size_t count = kept ? edge_kept_get(kept, request->at, ret) : 0;

    if (count > 0)
        return count;
    count = ask(state, request, way, kept != NULL, choices);
    if (kept && count > 0)
        edge_kept_put(state, request, kept, choices, count);
    for (size_t i = 0; i < count; i++)
        ret[i] = choices[i].pop;
    return count;
}

/* Where it goes, after the tries that failed, which are added to what it has lost. UINT32_MAX: no
 * PoP may, or (`ret_again`) all of this answer are dead, and the client asks DNS anew. */
static uint32_t find(struct edge_state *state, struct edge_request *request, enum edge_way way,
                     bool *ret_again)
{
    const struct edge_world *world = state->world;
    const float *rtt = world->rtt + (size_t)request->city * world->site_count;
    uint32_t sites[EDGE_ANSWERS_MAX];

    *ret_again = false;
    if (way == EDGE_ORACLE)
        return oracle(state, request);
    size_t count = answer(state, request, way, sites);
    for (size_t i = 0; i < count; i++) {
        if (alive(state, sites[i], request->at))
            return sites[i];
        double lost_ms = world->options.silent ? ATTEMPT_MS : (double)rtt[sites[i]];
        state->result->dead_for_s = fmax(state->result->dead_for_s, request->at - state->died_at);
        request->lost_ms += lost_ms;
        request->at += lost_ms / 1000;
        state->result->retried++;
    }
    *ret_again = count > 0;
    return UINT32_MAX;
}

/* When its client first sent it. */
static double born(const struct edge_request *request)
{
    return request->at - request->lost_ms / 1000;
}

/* Did a permitted living PoP stand within 50 ms? */
static bool could(const struct edge_state *state, const struct edge_request *request)
{
    double at = born(request);
    const struct edge_world *world = state->world;
    const float *rtt = world->rtt + (size_t)request->city * world->site_count;
    const float *closed = state->closed + (size_t)request->country_row * world->site_count;
    uint32_t first = world->permitted[request->city];

    if (first == UINT32_MAX || rtt[first] >= 50 || alive(state, first, at))
        return first != UINT32_MAX && rtt[first] < 50;
    for (uint32_t i = 0; i < world->site_count; i++)
        if (rtt[i] + closed[i] < 50 && alive(state, i, at))
            return true;
    return false;
}

static size_t bucket_of(double ms)
{
    return ms * EDGE_BUCKETS_PER_MS < EDGE_BUCKETS ? (size_t)(ms * EDGE_BUCKETS_PER_MS)
                                                   : EDGE_BUCKETS;
}

static void count_in(struct edge_state *state, const struct edge_request *request, uint32_t site,
                     double network_ms, double wait_ms, double cold_ms)
{
    struct edge_result *result = state->result;
    bool near = could(state, request);

    result->network[bucket_of(network_ms)]++;
    result->delay[bucket_of(network_ms + wait_ms + cold_ms)]++;
    result->network_ms += network_ms;
    result->lost_ms += request->lost_ms;
    result->wait_ms += wait_ms;
    result->cold_ms += cold_ms;
    result->total_ms += network_ms + wait_ms + cold_ms + request->service_s * 1000;
    result->outside += !countries_has(request->process, state->world->site[site].country);
    result->could_50 += near;
    result->did_50 += near && network_ms < 50;
    if (born(request) < state->died_at ||
        born(request) >= state->died_at + edge_known_s(state->world)) {
        result->could_50_known += near;
        result->did_50_known += near && network_ms < 50;
    }
    result->cost += request->service_s * state->world->sites->list[site].price;
    result->served[site]++;
}

/* A replica starts where a request comes, and nowhere else. */
static void wake(struct edge_state *state, uint32_t site, double at)
{
    if (isinf(state->warm_at[site]))
        state->warm_at[site] = at + state->world->options.start_ms / 1000;
}

/* ---- clients that ask DNS anew --------------------------------------------------------------- */

/* A heap, the earliest first. */
static void ask_again(struct edge_state *state, struct edge_request *request)
{
    struct edge_again *again = &state->again;

    request->lost_ms += AGAIN_MS;
    request->at += AGAIN_MS / 1000;
    if (again->count == again->room) {
        struct edge_request *wider =
            ARENA_ARRAY(state->arena, struct edge_request, again->room * 2);
        memcpy(wider, again->list, again->count * sizeof *wider);
        again->list = wider;
        again->room *= 2;
    }
    size_t at = again->count++;
    for (; at > 0 && again->list[(at - 1) / 2].at > request->at; at = (at - 1) / 2)
        again->list[at] = again->list[(at - 1) / 2];
    again->list[at] = *request;
}

static struct edge_request again_take(struct edge_again *again)
{
    struct edge_request first = again->list[0], last = again->list[--again->count];
    size_t at = 0;

    for (size_t child; (child = 2 * at + 1) < again->count; at = child) {
        child += child + 1 < again->count && again->list[child + 1].at < again->list[child].at;
        if (again->list[child].at >= last.at)
            break;
        again->list[at] = again->list[child];
    }
    again->list[at] = last;
    return first;
}

/* ---- the way of one -------------------------------------------------------------------------- */

static void request_run(struct edge_state *state, struct edge_request *request, enum edge_way way)
{
    const struct edge_world *world = state->world;
    const float *rtt = world->rtt + (size_t)request->city * world->site_count;
    bool again;

    state->result->requests += request->lost_ms == 0;
    if (world->permitted[request->city] == UINT32_MAX && way != EDGE_NEAREST) {
        state->result->refused++;
        return;
    }
    if (way == EDGE_ORACLE) /* it knows where one will be of use */
        wake(state, world->permitted[request->city], request->at);
    uint32_t site = find(state, request, way, &again);
    if (site == UINT32_MAX) {
        state->result->refused += !again;
        if (again)
            ask_again(state, request);
        return;
    }
    double network_ms = request->lost_ms + rtt[site];
    double arrives = request->at + rtt[site] / 2000;
    state->arrived[site]++;
    wake(state, site, arrives);
    double start = start_s(state, site, arrives), queue = queue_s(state, site, arrives, start);
    uint32_t other = way == EDGE_OURS
                         ? pass_on(state, request, site, start > 0, (start + queue) * 1000)
                         : UINT32_MAX;
    if (other != UINT32_MAX && alive(state, other, arrives)) {
        float link = world->site_rtt[(size_t)site * world->site_count + other];
        network_ms += link;
        arrives += link / 2000;
        site = other;
        state->arrived[site]++;
        wake(state, site, arrives);
        state->result->forwarded++;
        start = start_s(state, site, arrives);
        queue = queue_s(state, site, arrives, start);
    }
    place_take(state->places[site], world->places[site],
               arrives + start + queue + request->service_s);
    count_in(state, request, site, network_ms, queue * 1000, start * 1000);
}

/* ---- the run --------------------------------------------------------------------------------- */

static void route_arrays(struct arena *arena, struct edge_state *state)
{
    size_t count = state->world->site_count;
    float *xyz = ARENA_ARRAY(arena, float, 3 * count), *service = ARENA_ARRAY(arena, float, count);
    country_number *country = ARENA_ARRAY(arena, country_number, count);
    uint32_t *pop = ARENA_ARRAY(arena, uint32_t, count);

    for (uint32_t i = 0; i < count; i++) {
        const struct edge_point *site = &state->world->site[i];
        xyz[i] = site->spot.x;
        xyz[count + i] = site->spot.y;
        xyz[2 * count + i] = site->spot.z;
        country[i] = site->country;
        pop[i] = i;
        service[i] = (float)state->world->options.service_ms;
    }
    state->pops = (struct route_pops){ .count = count,
                                       .x = xyz,
                                       .y = xyz + count,
                                       .z = xyz + 2 * count,
                                       .country = country,
                                       .health = state->health };
    state->endpoint = (struct route_endpoint){ .count = count,
                                               .pop = pop,
                                               .wait_ms = state->wait_ms,
                                               .service_ms = service,
                                               .start_ms = state->start_ms,
                                               .weight = state->weight,
                                               .hides = state->hides };
}

/* For the oracle: INFINITY where clients of a country may not be processed. */
static void closed_take(struct arena *arena, struct edge_state *state)
{
    const struct edge_world *world = state->world;
    float *closed = ARENA_ARRAY(arena, float, (COUNTRY_NUMBER_MAX + 1) * world->site_count);

    for (uint32_t country = 0; country <= COUNTRY_NUMBER_MAX; country++)
        for (size_t i = 0; i < world->site_count; i++)
            closed[country * world->site_count + i] =
                countries_has(&world->process[country], world->site[i].country) ? 0 : INFINITY;
    state->closed = closed;
}

static void state_init(struct arena *arena, struct edge_state *state, enum edge_scenario scenario)
{
    const struct edge_world *world = state->world;
    size_t count = world->site_count;

    state->places = ARENA_ARRAY(arena, double *, count);
    state->dead_at = ARENA_ARRAY(arena, double, count);
    state->warm_at = ARENA_ARRAY(arena, double, count);
    state->arrived = ARENA_ARRAY(arena, uint32_t, count);
    state->load = ARENA_ARRAY(arena, struct load, count);
    state->heard = ARENA_ARRAY(arena, struct health, count);
    state->fell = ARENA_ARRAY(arena, uint64_t, count);
    state->health = ARENA_ARRAY(arena, uint8_t, count);
    state->stable = ARENA_ARRAY(arena, bool, count);
    state->start_told = ARENA_ARRAY(arena, float, count);
    state->wait_ms = ARENA_ARRAY(arena, float, count);
    state->start_ms = ARENA_ARRAY(arena, float, count);
    state->weight = ARENA_ARRAY(arena, float, count);
    state->hides = ARENA_ARRAY(arena, bool, count);
    for (size_t i = 0; i < count; i++) {
        state->places[i] = ARENA_ARRAY(arena, double, world->places[i]);
        for (uint32_t k = 0; k < world->places[i]; k++)
            state->places[i][k] = BEFORE_S;
        state->dead_at[i] = INFINITY;
        state->warm_at[i] = BEFORE_S;
    }
    route_arrays(arena, state);
    closed_take(arena, state);
    state->died_at = INFINITY;
    edge_scenario_begin(arena, state, scenario);
    /* What was known before the first request. */
    for (uint32_t i = 0; i < count; i++) {
        report(state, i, BEFORE_S);
        publish(state, i);
        for (uint32_t before = world->options.up_s + 1; before-- > 0;)
            health_beat(&state->heard[i], health_ns(state, BEFORE_S - before));
        state->health[i] = ROUTE_UP;
        state->stable[i] = health_calm(&state->heard[i], health_ns(state, BEFORE_S));
    }
}

static void run_at(struct edge_state *state, struct edge_request request, enum edge_way way)
{
    while ((double)state->tick / TICKS_PER_S <= request.at)
        tick(state);
    request_run(state, &request, way);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void tell(struct edge_progress *progress, uint64_t requests)
{
    if (!progress)
        return;
    uint64_t done = atomic_fetch_add(&progress->done, requests) + requests;
    if (progress->on && progress->total > 0)
        progress->on((double)done / (double)progress->total, progress->data);
}

void edge_run(struct arena *arena, const struct edge_world *world, enum edge_scenario scenario,
              enum edge_way way, struct edge_progress *progress, struct edge_result *ret)
{
    struct edge_state *state = ARENA_NEW(arena, struct edge_state);
    struct edge_request request = {};
    uint64_t told = 0;

    *ret = (struct edge_result){ .served = ARENA_ARRAY(arena, uint64_t, world->site_count) };
    *state = (struct edge_state){ .world = world,
                                  .arena = arena,
                                  .result = ret,
                                  .chance = { world->options.seed },
                                  .again = { .room = AGAIN_ROOM } };
    state->again.list = ARENA_ARRAY(arena, struct edge_request, AGAIN_ROOM);
    state_init(arena, state, scenario);
    edge_kept_begin(state);
    while (world->city_count > 0 && edge_request_next(state, &request)) {
        while (state->again.count > 0 && state->again.list[0].at <= request.at)
            run_at(state, again_take(&state->again), way);
        run_at(state, request, way);
        if (ret->requests - told >= TELL_EVERY) {
            tell(progress, ret->requests - told);
            told = ret->requests;
        }
    }
    while (state->again.count > 0)
        run_at(state, again_take(&state->again), way);
    edge_kept_end(state);
    tell(progress, ret->requests - told);
}

double edge_known_s(const struct edge_world *world)
{
    /* Answers name the dead until all know, and by then these may have been up for long. */
    double up_s = world->options.up_s - BEFORE_S + edge_dies_at(world) + KNOWN_S;

    if (world->options.resolvers == 0)
        return KNOWN_S;
    return KNOWN_S + (up_s * SECOND_NS < (double)HEALTH_CALM_NS ? TTL_UNSTABLE_S : TTL_STABLE_S);
}
