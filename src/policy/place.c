/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/place.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"

#define FAR_MS 400.0f /* where a place is not known, and for who has no PoP at all */

struct placing {
    const struct place_input *in;
    size_t pops, demands, groups;
    float *ms;       /* round trips: of each PoP those of all demands, side by side */
    float *rates;    /* of each demand; none is below 0 */
    float *best;     /* of each demand, from the chosen PoPs that may serve it */
    float *next;     /* and from all of them but the best */
    uint32_t *whose; /* the best is */
    float *midst;    /* of each PoP, once asked for; below 0: not yet */
    uint64_t *of;    /* the groups that each PoP is in: bit i is group i */
    bool *chosen;    /* living ones */
    uint32_t *list;  /* the same as rows */
    uint32_t count;  /* of them */
    float rate;      /* of all demand */
};

static bool spot_known(struct spot spot)
{
    return spot.x != 0 || spot.y != 0 || spot.z != 0;
}

static float trip_ms(struct spot a, struct spot b)
{
    float x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
    return spot_known(a) && spot_known(b) ? rtt_ms(spot_chord_km(x * x + y * y + z * z)) : FAR_MS;
}

static bool may_serve(const struct placing *p, const struct place_demand *demand, size_t pop)
{
    return demand->group >= p->groups || (p->of[pop] >> demand->group & 1) != 0;
}

static bool usable(const struct placing *p, size_t pop)
{
    const struct place_pop *row = &p->in->pops[pop];
    return row->allowed && row->health == PLACE_UP && row->room > 0;
}

static bool asked(const struct placing *p)
{
    return p->rate >= PLACE_RATE_MIN;
}

static void begin(struct placing *p, struct arena *arena, const struct place_input *in)
{
    *p = (struct placing){
        .in = in,
        .pops = in->pop_count < PLACE_POPS_MAX ? in->pop_count : PLACE_POPS_MAX,
        .demands = in->demand_count < PLACE_DEMANDS_MAX ? in->demand_count : PLACE_DEMANDS_MAX,
        .groups = in->group_count < PLACE_GROUPS_MAX ? in->group_count : PLACE_GROUPS_MAX,
    };
    p->ms = ARENA_ARRAY(arena, float, p->demands * p->pops + 1);
    p->rates = ARENA_ARRAY(arena, float, p->demands + 1);
    p->best = ARENA_ARRAY(arena, float, p->demands + 1);
    p->next = ARENA_ARRAY(arena, float, p->demands + 1);
    p->whose = ARENA_ARRAY(arena, uint32_t, p->demands + 1);
    p->midst = ARENA_ARRAY(arena, float, p->pops + 1);
    p->of = ARENA_ARRAY(arena, uint64_t, p->pops + 1);
    p->chosen = ARENA_ARRAY(arena, bool, p->pops + 1);
    p->list = ARENA_ARRAY(arena, uint32_t, p->pops + 1);
    for (size_t d = 0; d < p->demands; d++) {
        p->rates[d] = in->demands[d].rate > 0 ? in->demands[d].rate : 0;
        p->rate += p->rates[d];
    }
    for (size_t i = 0; i < p->pops; i++) {
        float *ms = p->ms + i * p->demands;
        p->midst[i] = -1;
        for (size_t g = 0; g < p->groups; g++)
            p->of[i] |= (in->groups[g].pops[i / 64] >> i % 64 & 1) << g;
        for (size_t d = 0; d < p->demands; d++)
            ms[d] = may_serve(p, &in->demands[d], i)
                        ? trip_ms(in->demands[d].spot, in->pops[i].spot)
                        : INFINITY;
    }
}

static void best_with(struct placing *p, size_t pop)
{
    const float *ms = p->ms + pop * p->demands;
    for (size_t d = 0; d < p->demands; d++) {
        if (ms[d] < p->best[d]) {
            p->next[d] = p->best[d];
            p->best[d] = ms[d];
            p->whose[d] = (uint32_t)pop;
        } else if (ms[d] < p->next[d]) {
            p->next[d] = ms[d];
        }
    }
}

static void bests(struct placing *p)
{
    for (size_t d = 0; d < p->demands; d++) {
        p->best[d] = p->next[d] = FAR_MS;
        p->whose[d] = UINT32_MAX;
    }
    for (uint32_t i = 0; i < p->count; i++)
        best_with(p, p->list[i]);
}

static void choose(struct placing *p, size_t pop, bool chosen)
{
    if (p->chosen[pop] == chosen)
        return;
    p->chosen[pop] = chosen;
    if (chosen) {
        p->list[p->count++] = (uint32_t)pop;
        best_with(p, pop);
        return;
    }
    uint32_t at = 0;
    while (p->list[at] != pop)
        at++;
    p->list[at] = p->list[--p->count];
    bests(p);
}

/* ---- what a PoP is worth --------------------------------------------------------------------- */

/* Milliseconds that a mean client is nearer with it. */
static float gain_ms(const struct placing *p, size_t pop)
{
    const float *ms = p->ms + pop * p->demands;
    float gain = 0;
    if (!asked(p))
        return 0;
    for (size_t d = 0; d < p->demands; d++)
        if (ms[d] < p->best[d])
            gain += p->rates[d] * (p->best[d] - ms[d]);
    return gain / p->rate;
}

/* And farther without it. */
static float loss_ms(const struct placing *p, size_t pop)
{
    float loss = 0;
    if (!asked(p))
        return 0;
    for (size_t d = 0; d < p->demands; d++)
        if (p->whose[d] == pop)
            loss += p->rates[d] * (p->next[d] - p->best[d]);
    return loss / p->rate;
}

/* Where nobody has asked yet: the cheapest; of these the one nearest to all that may hold it. */
static float midst_ms(const struct placing *p, size_t pop)
{
    if (p->midst[pop] >= 0)
        return p->midst[pop];
    struct spot spot = p->in->pops[pop].spot;
    float sum = 0;
    for (size_t i = 0; i < p->pops; i++)
        if (p->in->pops[i].allowed)
            sum += trip_ms(spot, p->in->pops[i].spot);
    return p->midst[pop] = sum;
}

static bool better(const struct placing *p, size_t a, float gain_a, size_t b, float gain_b)
{
    const struct place_pop *x = &p->in->pops[a], *y = &p->in->pops[b];
    if (fabsf(gain_a - gain_b) > 0.001f)
        return gain_a > gain_b;
    if (x->price != y->price)
        return x->price < y->price;
    return midst_ms(p, a) < midst_ms(p, b);
}

/* ---- what must be ---------------------------------------------------------------------------- */

/* The groups that a chosen PoP is in, `without` (p->pops: none) not counted. */
static uint64_t covered(const struct placing *p, size_t without)
{
    uint64_t groups = 0;
    for (uint32_t i = 0; i < p->count; i++)
        groups |= p->list[i] != without ? p->of[p->list[i]] : 0;
    return groups;
}

/* Does another one's groups lack nothing once this one is taken? */
static bool frees_one(const struct placing *p, size_t pop)
{
    for (uint32_t i = 0; i < p->count; i++)
        if ((p->of[p->list[i]] & ~(covered(p, p->list[i]) | p->of[pop])) == 0)
            return true;
    return false;
}

/* The best to add of those in one of the groups (0: of all); p->pops: there is none. `full`: only
 * such a one as another can go for. */
static size_t best_of(const struct placing *p, uint64_t groups, bool full, float *ret_gain)
{
    size_t found = p->pops;
    *ret_gain = 0;
    for (size_t i = 0; i < p->pops; i++) {
        if (p->chosen[i] || !usable(p, i) || (groups && !(p->of[i] & groups)) ||
            (full && !frees_one(p, i)))
            continue;
        float gain = gain_ms(p, i);
        if (found == p->pops || better(p, i, gain, found, *ret_gain)) {
            found = i;
            *ret_gain = gain;
        }
    }
    return found;
}

static uint32_t pops_max(const struct placing *p)
{
    uint32_t each = p->in->pop_min > 1 ? p->in->pop_min : 1;
    uint32_t most = p->in->replicas_max ? p->in->replicas_max / each : PLACE_POPS_MAX;
    return most > 0 ? most : 1;
}

static uint32_t room_of(const struct placing *p, size_t pop)
{
    uint32_t room = p->in->pops[pop].room;
    return p->in->pop_max && room > p->in->pop_max ? p->in->pop_max : room;
}

static uint32_t room_chosen(const struct placing *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->count; i++)
        sum += room_of(p, p->list[i]);
    return sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
}

static void begin_with_present(struct placing *p)
{
    bests(p);
    for (size_t i = 0; i < p->pops; i++)
        if (p->in->pops[i].has && usable(p, i))
            choose(p, i, true);
}

/* Who may go: what must be is there without it; its groups have another; anyone. */
enum leave { LEAVE_NEEDLESS, LEAVE_GROUPS_SERVED, LEAVE_ANY };

static bool spared(const struct placing *p, size_t pop, enum leave leave)
{
    uint32_t spread = p->in->spread_min ? p->in->spread_min : 1;
    if (leave != LEAVE_ANY && (p->of[pop] & ~covered(p, pop)) != 0)
        return false;
    return leave != LEAVE_NEEDLESS ||
           (p->count > spread && room_chosen(p) - room_of(p, pop) >= p->in->replicas_min);
}

/* The one that is missed least, where it is missed less than `below_ms`; p->pops: there is none.
 * `ready`: those that serve already stay before others. */
static size_t least_missed(const struct placing *p, float below_ms, enum leave leave, bool ready)
{
    size_t found = p->pops;
    float least = 0;
    for (size_t i = 0; i < p->pops; i++) {
        if (!p->chosen[i] || !spared(p, i, leave))
            continue;
        float loss = loss_ms(p, i);
        if (loss >= below_ms)
            continue;
        bool gone = found == p->pops || better(p, found, least, i, loss);
        if (ready && found < p->pops && p->in->pops[i].ready != p->in->pops[found].ready)
            gone = !p->in->pops[i].ready;
        if (gone) {
            found = i;
            least = loss;
        }
    }
    return found;
}

/* No more than there may be: what the law needs goes last. */
static void hold_bounds(struct placing *p)
{
    uint32_t most = pops_max(p);
    while (p->count > most) {
        size_t pop = least_missed(p, INFINITY, LEAVE_GROUPS_SERVED, true);
        if (pop == p->pops)
            pop = least_missed(p, INFINITY, LEAVE_ANY, true);
        choose(p, pop, false);
    }
}

static void take_needed(struct placing *p, struct place_result *ret)
{
    uint32_t most = pops_max(p), spread = p->in->spread_min ? p->in->spread_min : 1;
    float gain;
    for (size_t g = 0; g < p->groups; g++) {
        uint64_t group = UINT64_C(1) << g;
        if (covered(p, p->pops) & group)
            continue;
        bool full = p->count >= most;
        size_t pop = best_of(p, group, full, &gain);
        if (pop == p->pops)
            continue;
        choose(p, pop, true);
        if (full) /* not the new one: its group has no other */
            choose(p, least_missed(p, INFINITY, LEAVE_GROUPS_SERVED, true), false);
    }
    while (p->count < spread && p->count < most) {
        size_t pop = best_of(p, 0, false, &gain);
        if (pop == p->pops)
            break;
        choose(p, pop, true);
    }
    while (room_chosen(p) < p->in->replicas_min && p->count < most) {
        size_t pop = best_of(p, 0, false, &gain);
        if (pop == p->pops)
            break;
        choose(p, pop, true);
    }
    ret->spread_short = p->count < spread;
    ret->min_short = room_chosen(p) < p->in->replicas_min;
}

/* ---- what is better -------------------------------------------------------------------------- */

static void give_up(struct placing *p, struct place_result *ret)
{
    float below_ms = asked(p) ? PLACE_KEEP_MS : INFINITY;
    for (;;) {
        size_t pop = least_missed(p, below_ms, LEAVE_NEEDLESS, !asked(p));
        if (pop == p->pops)
            return;
        if (!asked(p) && !p->in->settled) { /* what is missed by nobody now may be tomorrow */
            ret->spared = true;
            return;
        }
        choose(p, pop, false);
    }
}

static float mean_ms(const struct placing *p)
{
    float sum = 0;
    for (size_t d = 0; d < p->demands; d++)
        sum += p->rates[d] * p->best[d];
    return sum / p->rate;
}

/* One for another, where that is worth as much as one more would be. */
static bool exchange(struct placing *p, size_t pop)
{
    float before = mean_ms(p);
    choose(p, pop, true);
    size_t out = least_missed(p, INFINITY, LEAVE_GROUPS_SERVED, false);
    if (out < p->pops)
        choose(p, out, false);
    if (out < p->pops && out != pop && mean_ms(p) <= before - PLACE_TAKE_MS)
        return true;
    if (out < p->pops)
        choose(p, out, true);
    choose(p, pop, false);
    return false;
}

static void take_better(struct placing *p)
{
    uint32_t most = pops_max(p);
    float gain;
    /* Without demand nothing is known to be better. */
    for (size_t moves = 0; asked(p) && moves < 2 * p->pops; moves++) {
        size_t pop = best_of(p, 0, false, &gain);
        if (pop == p->pops || gain < PLACE_TAKE_MS)
            return;
        if (p->count < most)
            choose(p, pop, true);
        else if (!exchange(p, pop))
            return;
    }
}

/* ---- how many -------------------------------------------------------------------------------- */

static void serve(const struct placing *p, struct place_result *ret)
{
    for (size_t d = 0; d < p->demands; d++)
        for (size_t i = 0; i < p->pops; i++)
            if (p->chosen[i] && p->ms[i * p->demands + d] == p->best[d]) {
                ret->rows[i].served += p->rates[d];
                break;
            }
}

/* The next replica goes to where one serves most, as long as there is room. */
static size_t most_loaded(const struct placing *p, const struct place_result *ret)
{
    size_t found = p->pops;
    float most = -1;
    for (size_t i = 0; i < p->pops; i++) {
        const struct place_row *row = &ret->rows[i];
        if (!p->chosen[i] || row->replicas >= room_of(p, i))
            continue;
        /* Who has as much to do and fewer replicas comes first, also where nobody asks. */
        float load = (row->served + 0.001f) / (float)(row->replicas + 1);
        if (load > most) {
            most = load;
            found = i;
        }
    }
    return found;
}

/* Up to `wanted` over the fleet. */
static void add_replicas(const struct placing *p, uint32_t wanted, struct place_result *ret)
{
    if (p->in->replicas_max && wanted > p->in->replicas_max)
        wanted = p->in->replicas_max;
    while (ret->replicas < wanted) {
        size_t pop = most_loaded(p, ret);
        if (pop == p->pops)
            break;
        ret->rows[pop].replicas++;
        ret->replicas++;
    }
}

/* Each floor begins at the one before, so that a PoP has never fewer of more. */
static void count_floors(const struct placing *p, struct arena *arena, struct place_result *ret)
{
    size_t count = p->in->floor_count;
    struct place_row *usual = ret->rows;
    uint32_t replicas = ret->replicas;
    ret->floors = ARENA_ARRAY(arena, uint32_t, p->pops * count + 1);
    ret->rows = ARENA_ARRAY(arena, struct place_row, p->pops + 1);
    memcpy(ret->rows, usual, p->pops * sizeof *usual);
    for (size_t f = 0; f < count; f++) {
        add_replicas(p, p->in->floors[f], ret);
        for (size_t i = 0; i < p->pops; i++)
            ret->floors[i * count + f] = ret->rows[i].replicas;
    }
    ret->rows = usual;
    ret->replicas = replicas;
}

static void count_replicas(const struct placing *p, struct arena *arena, struct place_result *ret)
{
    uint32_t each = p->in->pop_min > 1 ? p->in->pop_min : 1;
    for (size_t i = 0; i < p->pops; i++)
        if (p->chosen[i]) {
            uint32_t room = room_of(p, i);
            ret->rows[i].replicas = each < room ? each : room;
            ret->replicas += ret->rows[i].replicas;
            ret->pops++;
        }
    add_replicas(p, p->in->floor_count ? p->in->floors[0] : p->in->replicas_min, ret);
    count_floors(p, arena, ret);
}

static enum place_reason reason_of(const struct placing *p, size_t i)
{
    const struct place_pop *pop = &p->in->pops[i];
    if (p->chosen[i])
        return PLACE_CHOSEN;
    if (!pop->allowed)
        return PLACE_NOT_ALLOWED;
    if (pop->health == PLACE_SILENT)
        return pop->has ? PLACE_KEPT_SILENT : PLACE_NOT_UP;
    /* Where nobody else can take over, what drains serves until it is gone. */
    if (pop->health == PLACE_DRAINING)
        return pop->has && p->count == 0 ? PLACE_LEAVES : PLACE_NOT_UP;
    return pop->room == 0 ? PLACE_NO_ROOM : PLACE_NOT_NEEDED;
}

void place_decide(struct arena *arena, const struct place_input *input, struct place_result *ret)
{
    struct placing p;
    begin(&p, arena, input);
    *ret = (struct place_result){ .rows = ARENA_ARRAY(arena, struct place_row, p.pops + 1) };
    begin_with_present(&p);
    hold_bounds(&p);
    take_needed(&p, ret);
    give_up(&p, ret);
    take_better(&p);
    give_up(&p, ret); /* what those that were taken have made of no use */
    serve(&p, ret);
    count_replicas(&p, arena, ret);
    uint64_t groups = p.groups < 64 ? (UINT64_C(1) << p.groups) - 1 : UINT64_MAX;
    ret->groups_without = groups & ~covered(&p, p.pops);
    for (size_t i = 0; i < p.pops; i++) {
        struct place_row *row = &ret->rows[i];
        row->reason = (uint8_t)reason_of(&p, i);
        if (row->reason == PLACE_KEPT_SILENT || row->reason == PLACE_LEAVES)
            row->replicas = input->pops[i].has;
    }
}

const char *place_reason_text(enum place_reason reason)
{
    static const char *const texts[] = {
        [PLACE_CHOSEN] = "chosen",
        [PLACE_KEPT_SILENT] = "not heard of lately; keeps what it has",
        [PLACE_LEAVES] = "drains, and nobody can take over yet",
        [PLACE_NOT_ALLOWED] = "regions or residency do not allow it",
        [PLACE_NOT_UP] = "not up",
        [PLACE_NO_ROOM] = "no room for a replica",
        [PLACE_NOT_NEEDED] = "others are near enough",
    };
    return texts[reason];
}
