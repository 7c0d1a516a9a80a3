/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.c -- passes over what is placed: score all without their waits (vector instructions, LANES
 * at a time), hide starts, add the waits where that can matter, draw among the near-equal ones,
 * pick the runners-up. explain is the scores, written out.
 *
 * A PoP is in one of the tiers; only those of the best tier that has any are answered.
 */
#include "policy/route.h"

#include <assert.h>
#include <math.h>

enum { LANES = 16 };
enum tier { TIER_OPEN, TIER_DRAINING, TIER_FULL, TIER_DRAINING_FULL, TIER_NONE };

#define NEAR_MS 1.0f
#define NEAR_PART 0.01f

struct scores {
    float total_ms[ROUTE_POPS_MAX]; /* of full ones the round trip alone: what orders them */
    float rtt_ms[ROUTE_POPS_MAX];
    uint8_t tier[ROUTE_POPS_MAX]; /* enum tier */
    enum tier best_tier;
    uint32_t best;                    /* index of the least total of that tier */
    float least_ms;                   /* that total */
    uint16_t waiting[ROUTE_POPS_MAX]; /* those with room, and a wait */
    size_t waiting_count;
    float hider_service_ms; /* of the warm PoP that is best without its wait; INFINITY: none */
    size_t hider;           /* its index; the count of places: none */
    float near_ms;          /* totals below share */
    float weights;          /* of the near ones, as weight_of() says */
};

float route_near_ms(float best_ms)
{
    float part = best_ms * NEAR_PART;
    return best_ms + (part > NEAR_MS ? part : NEAR_MS);
}

/* ---- pass 1: scores -------------------------------------------------------------------------- */

/* Round trips to LANES PoPs. Loops of a fixed length over arrays of its own, each with one thing
 * to do: the costly ones are vectorised. */
static void lanes_rtt(const struct route_pops *pops, const struct route_query *query,
                      const uint32_t index[static LANES], float ret_ms[static LANES])
{
    float x[LANES], y[LANES], z[LANES], ms[LANES], known[LANES];
    float far = query->client_known || query->rtt_ms ? ROUTE_RTT_FAR_MS : 0;

    for (size_t i = 0; i < LANES; i++) {
        x[i] = pops->x[index[i]];
        y[i] = pops->y[index[i]];
        z[i] = pops->z[index[i]];
    }
    for (size_t i = 0; i < LANES; i++) {
        float dx = x[i] - query->client.x, dy = y[i] - query->client.y;
        float dz = z[i] - query->client.z;
        ms[i] = RTT_BASE_MS + RTT_MS_PER_KM * spot_chord_km(dx * dx + dy * dy + dz * dz);
    }
    for (size_t i = 0; i < LANES; i++)
        known[i] = x[i] * x[i] + y[i] * y[i] + z[i] * z[i];
    for (size_t i = 0; i < LANES; i++)
        ret_ms[i] = query->client_known && known[i] > 0.5f ? ms[i] : far;
    if (!query->rtt_ms)
        return;
    for (size_t i = 0; i < LANES; i++) {
        float measured = query->rtt_ms[index[i]];
        ret_ms[i] = measured >= 0 && measured < INFINITY ? measured : ret_ms[i];
    }
}

static enum tier tier_of(const struct route_pops *pops, const struct route_query *query,
                         uint32_t pop, bool room)
{
    uint8_t health = pops->health[pop];

    if (health > ROUTE_DRAINING)
        return TIER_NONE;
    if (query->process && !countries_has(query->process, pops->country[pop]))
        return TIER_NONE;
    return (health == ROUTE_DRAINING ? TIER_DRAINING : TIER_OPEN) + (room ? 0 : TIER_FULL);
}

/* splitmix64's mixer (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t bits)
{
    bits += UINT64_C(0x9e37'79b9'7f4a'7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58'476d'1ce4'e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d0'49bb'1331'11eb);
    return bits ^ bits >> 31;
}

/* Of one client and one PoP: above 0 and below 1, the same as long as both are. `purpose`: draws
 * that have nothing to do with each other. */
enum purpose { DRAW_TICKET, DRAW_WAIT };
static float drawn(const struct route_pops *pops, uint32_t pop, uint64_t seed, enum purpose purpose)
{
    uint64_t bits = mix(seed ^ mix((pops->key ? pops->key[pop] : pop) * 2 + purpose));
    return ((float)(bits >> 40) + 0.5f) / (float)(1 << 24);
}

/* Its wait as this client weighs it: half the square of an exponential draw. One below 0 attracts
 * nobody. */
static float felt_ms(const struct route_pops *pops, const struct route_endpoint *endpoint,
                     const struct route_query *query, size_t at)
{
    float wait = endpoint->wait_ms[at];

    if (wait == 0 || !(wait < INFINITY))
        return wait;
    if (wait < 0)
        return 0;
    float draw = -logf(drawn(pops, endpoint->pop[at], query->seed, DRAW_WAIT));
    return wait * draw * draw / 2;
}

/* Without the wait. NAN and INFINITY anywhere are no room. */
static float base_ms(const struct route_endpoint *endpoint, size_t at, float rtt, float start)
{
    float service = endpoint->service_ms[at];
    return rtt + (service < 0 ? 0 : service) + (start < 0 ? 0 : start);
}

/* What its start costs: where it is hidden little, and the run of who answers. */
static float start_felt_ms(const struct route_endpoint *endpoint, const struct scores *scores,
                           size_t at)
{
    float start = endpoint->start_ms[at], service = endpoint->service_ms[at];

    if (!(start > 0) || !endpoint->hides || !endpoint->hides[at] || scores->tier[at] != TIER_OPEN)
        return start;
    float more = scores->hider_service_ms - (service < 0 ? 0 : service);
    float hidden = ROUTE_HIDDEN_MS + (more > 0 ? more : 0);
    return hidden < start ? hidden : start;
}

/* Totals have no waits yet: who hides is the same whatever others wait for. */
static void hide(const struct route_endpoint *endpoint, struct scores *scores)
{
    float least = INFINITY;

    for (size_t i = 0; i < endpoint->count; i++) {
        if (scores->tier[i] != TIER_OPEN || endpoint->start_ms[i] > 0 ||
            !(scores->total_ms[i] < least))
            continue;
        least = scores->total_ms[i];
        scores->hider = i;
        scores->hider_service_ms = endpoint->service_ms[i] < 0 ? 0 : endpoint->service_ms[i];
    }
    if (!(least < INFINITY))
        return;
    for (size_t i = 0; i < endpoint->count; i++) {
        if (scores->tier[i] != TIER_OPEN || !(endpoint->start_ms[i] > 0) || !endpoint->hides[i])
            continue;
        scores->total_ms[i] =
            base_ms(endpoint, i, scores->rtt_ms[i], start_felt_ms(endpoint, scores, i));
        if (!(endpoint->wait_ms[i] > 0) && scores->total_ms[i] < scores->least_ms) {
            scores->least_ms = scores->total_ms[i];
            scores->best = (uint32_t)i;
        }
    }
}

static void score(const struct route_pops *pops, const struct route_endpoint *endpoint,
                  const struct route_query *query, struct scores *scores)
{
    size_t count = endpoint->count;
    uint32_t best[TIER_NONE + 1] = {}, tiers = 1U << TIER_NONE;
    float least[TIER_NONE + 1] = { INFINITY, INFINITY, INFINITY, INFINITY, -INFINITY };

    assert(count <= ROUTE_POPS_MAX && pops->count <= ROUTE_POPS_MAX);
    scores->waiting_count = 0;
    scores->hider_service_ms = INFINITY;
    scores->hider = count;
    for (size_t from = 0; from < count; from += LANES) {
        uint32_t index[LANES];
        float rtt[LANES];
        size_t lanes = count - from < LANES ? count - from : LANES;

        for (size_t i = 0; i < LANES; i++) {
            index[i] = endpoint->pop[from + (i < lanes ? i : lanes - 1)];
            assert(index[i] < pops->count);
        }
        lanes_rtt(pops, query, index, rtt);
        for (size_t i = 0; i < lanes; i++) {
            float total = base_ms(endpoint, from + i, rtt[i], endpoint->start_ms[from + i]);
            float wait = endpoint->wait_ms[from + i];
            bool room = total + wait < INFINITY;
            enum tier tier = tier_of(pops, query, index[i], room);

            total = room ? total : rtt[i];
            scores->rtt_ms[from + i] = rtt[i];
            scores->total_ms[from + i] = total;
            scores->tier[from + i] = (uint8_t)tier;
            tiers |= 1U << tier;
            if (room && wait > 0) {
                scores->waiting[scores->waiting_count++] = (uint16_t)(from + i);
            } else if (total < least[tier]) {
                least[tier] = total;
                best[tier] = (uint32_t)(from + i);
            }
        }
    }
    scores->best_tier = (enum tier)__builtin_ctz(tiers);
    scores->best = best[scores->best_tier];
    scores->least_ms = least[scores->best_tier];
    if (endpoint->hides && scores->best_tier == TIER_OPEN)
        hide(endpoint, scores);
}

/* ---- pass 2: waits --------------------------------------------------------------------------- */

/* A client's draw costs a logarithm: it is taken (but for `all`) only where, without its wait, a
 * PoP is near the best that is known by then. The others cannot be chosen, and stay without. */
static void wait(const struct route_pops *pops, const struct route_endpoint *endpoint,
                 const struct route_query *query, struct scores *scores, bool all)
{
    for (size_t n = 0; n < scores->waiting_count; n++) {
        size_t i = scores->waiting[n];
        float *total = &scores->total_ms[i];

        if (scores->tier[i] != scores->best_tier ||
            (!all && *total >= query->enough_ms && *total >= route_near_ms(scores->least_ms)))
            continue;
        *total += felt_ms(pops, endpoint, query, i);
        if (*total < scores->least_ms) {
            scores->least_ms = *total;
            scores->best = (uint32_t)i;
        }
    }
}

/* ---- pass 3: the draw ------------------------------------------------------------------------ */

/* Its weight, less the further it is from the best: all of it there, nothing at the edge. */
static float weight_of(const struct route_endpoint *endpoint, const struct scores *scores,
                       size_t at)
{
    float best = scores->total_ms[scores->best], weight = endpoint->weight[at];

    if (scores->tier[at] != scores->best_tier || !(weight > 0) || !(weight < INFINITY))
        return 0;
    float far = (scores->total_ms[at] - best) / (scores->near_ms - best);
    return far < 1 ? weight * (1 - far) : 0;
}

/* Of exponential draws, each divided by its weight, the least is one's own with probability weight
 * / sum of weights; and one whose weight changes takes from others, or gives to them, that much
 * alone. */
static uint32_t draw(const struct route_pops *pops, const struct route_endpoint *endpoint,
                     const struct route_query *query, struct scores *scores)
{
    uint32_t chosen = scores->best;
    float least = INFINITY, near = route_near_ms(scores->total_ms[scores->best]);

    scores->near_ms = near = query->enough_ms > near ? query->enough_ms : near;
    scores->weights = 0;
    for (size_t i = 0; i < endpoint->count; i++) {
        if (!(scores->total_ms[i] < near))
            continue;
        float weight = weight_of(endpoint, scores, i);
        if (!(weight > 0))
            continue;
        float ticket = -logf(drawn(pops, endpoint->pop[i], query->seed, DRAW_TICKET)) / weight;
        scores->weights += weight;
        if (ticket < least) {
            least = ticket;
            chosen = (uint32_t)i;
        }
    }
    return chosen;
}

/* ---- pass 4: what is answered ---------------------------------------------------------------- */

static enum route_rtt_source source_of(const struct route_pops *pops,
                                       const struct route_query *query, uint32_t pop)
{
    float measured = query->rtt_ms ? query->rtt_ms[pop] : NAN;

    if (measured >= 0 && measured < INFINITY)
        return ROUTE_RTT_MEASURED;
    float length =
        pops->x[pop] * pops->x[pop] + pops->y[pop] * pops->y[pop] + pops->z[pop] * pops->z[pop];
    return query->client_known && length > 0.5f ? ROUTE_RTT_MODEL : ROUTE_RTT_NONE;
}

static enum route_exclusion exclusion_of(const struct route_pops *pops,
                                         const struct route_query *query, uint32_t pop, bool room)
{
    if (query->process && !countries_has(query->process, pops->country[pop]))
        return ROUTE_NOT_PERMITTED;
    if (pops->health[pop] > ROUTE_DRAINING)
        return ROUTE_IS_DOWN;
    if (pops->health[pop] == ROUTE_DRAINING)
        return ROUTE_IS_DRAINING;
    return room ? ROUTE_ALLOWED : ROUTE_NO_ROOM;
}

static struct route_choice choice_of(const struct route_pops *pops,
                                     const struct route_endpoint *endpoint,
                                     const struct route_query *query, const struct scores *scores,
                                     size_t at)
{
    uint32_t pop = endpoint->pop[at];
    float start = start_felt_ms(endpoint, scores, at);
    float base = base_ms(endpoint, at, scores->rtt_ms[at], start);
    float felt = felt_ms(pops, endpoint, query, at);
    bool room = base + endpoint->wait_ms[at] < INFINITY;
    bool open = scores->tier[at] == scores->best_tier && scores->best_tier < TIER_NONE;
    bool best = open && at == scores->best;
    float weight = open ? weight_of(endpoint, scores, at) : 0;

    return (struct route_choice){
        .pop = pop,
        .rtt_ms = scores->rtt_ms[at],
        .wait_ms = endpoint->wait_ms[at],
        .service_ms = endpoint->service_ms[at],
        .start_ms = endpoint->start_ms[at],
        .felt_ms = felt,
        .start_felt_ms = start,
        .total_ms = room ? base + felt : INFINITY,
        .share = scores->weights > 0 ? weight / scores->weights : best,
        .exclusion = (uint8_t)exclusion_of(pops, query, pop, room),
        .rtt_source = (uint8_t)source_of(pops, query, pop),
        .near = open && scores->total_ms[at] < scores->near_ms,
    };
}

size_t route_choose(const struct route_pops *pops, const struct route_endpoint *endpoint,
                    const struct route_query *query, struct route_choice *ret_choices, size_t max)
{
    struct scores scores;
    uint32_t picked[ROUTE_CHOICES_MAX];
    size_t count = 1;

    score(pops, endpoint, query, &scores);
    if (scores.best_tier == TIER_NONE || max == 0)
        return 0;
    wait(pops, endpoint, query, &scores, max > 1);
    max = max < ROUTE_CHOICES_MAX ? max : ROUTE_CHOICES_MAX;
    picked[0] = draw(pops, endpoint, query, &scores);
    for (uint32_t i = 0; max > 1 && i < endpoint->count; i++) {
        float total = scores.total_ms[i];
        if (scores.tier[i] != scores.best_tier || i == picked[0] ||
            (count == max && total >= scores.total_ms[picked[count - 1]]))
            continue;
        size_t at = count < max ? count++ : count - 1;
        for (; at > 1 && scores.total_ms[picked[at - 1]] > total; at--)
            picked[at] = picked[at - 1];
        picked[at] = i;
    }
    for (size_t i = 0; i < count; i++)
        ret_choices[i] = choice_of(pops, endpoint, query, &scores, picked[i]);
    return count;
}

void route_explain(const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query, struct route_choice *ret_rows)
{
    struct scores scores;
    size_t placed = 0;

    score(pops, endpoint, query, &scores);
    scores.weights = 0;
    wait(pops, endpoint, query, &scores, true);
    if (scores.best_tier < TIER_NONE)
        draw(pops, endpoint, query, &scores);
    for (uint32_t pop = 0; pop < pops->count; pop++) {
        if (placed < endpoint->count && endpoint->pop[placed] == pop) {
            ret_rows[pop] = choice_of(pops, endpoint, query, &scores, placed++);
            continue;
        }
        uint32_t index[LANES] = {};
        float rtt[LANES];
        enum route_exclusion exclusion = exclusion_of(pops, query, pop, true);

        index[0] = pop;
        lanes_rtt(pops, query, index, rtt);
        ret_rows[pop] = (struct route_choice){
            .pop = pop,
            .rtt_ms = rtt[0],
            .total_ms = INFINITY,
            .exclusion = exclusion == ROUTE_NOT_PERMITTED ? ROUTE_NOT_PERMITTED : ROUTE_NOT_PLACED,
            .rtt_source = (uint8_t)source_of(pops, query, pop),
        };
    }
}

float route_start_ms(float here_ms, float elsewhere_ms)
{
    float longest = here_ms > elsewhere_ms ? here_ms : elsewhere_ms;
    return longest > 0 ? longest : ROUTE_START_MS;
}

size_t route_hider(const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query)
{
    struct scores scores;

    score(pops, endpoint, query, &scores);
    return scores.hider;
}

int route_compare(const void *a, const void *b)
{
    const struct route_choice *x = a, *y = b;
    bool x_out = x->exclusion != ROUTE_ALLOWED, y_out = y->exclusion != ROUTE_ALLOWED;
    if (x_out != y_out)
        return x_out - y_out;
    if (!x_out && x->total_ms != y->total_ms)
        return x->total_ms < y->total_ms ? -1 : 1;
    return (x->pop > y->pop) - (x->pop < y->pop);
}

const char *route_exclusion_text(enum route_exclusion exclusion)
{
    static const char *const texts[] = {
        [ROUTE_ALLOWED] = "allowed",
        [ROUTE_NOT_PLACED] = "no replica is placed there",
        [ROUTE_NOT_PERMITTED] = "residency does not permit it",
        [ROUTE_IS_DOWN] = "down",
        [ROUTE_IS_DRAINING] = "draining",
        [ROUTE_NO_ROOM] = "no room",
    };
    return texts[exclusion];
}

const char *route_rtt_source_text(enum route_rtt_source source)
{
    static const char *const texts[] = {
        [ROUTE_RTT_MEASURED] = "measured",
        [ROUTE_RTT_MODEL] = "coordinates",
        [ROUTE_RTT_NONE] = "not known",
    };
    return texts[source];
}
