/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/scale.h"

#include <math.h>

#define SQUARE_ROOT 1.0f /* of the margin */
#define RUNS_MEAN 50.0f  /* runs of which the mean is */
#define LEVEL_MAX 1e7f
#define NEARLY 1e-4f /* less than that over a whole replica needs no other */
enum { WANTED_MAX = 100'000 };

static float seconds(int64_t ns)
{
    return (float)ns / (float)SCALE_SECOND_NS;
}

/* ---- what is known --------------------------------------------------------------------------- */

static struct scale_slot *slot_at(struct scale *scale, int64_t number)
{
    return &scale->slots[number % SCALE_STEADY_SLOTS];
}

static void slots_forget(struct scale *scale, int64_t now_ns)
{
    for (int i = 0; i < SCALE_STEADY_SLOTS; i++)
        scale->slots[i] = (struct scale_slot){};
    scale->begun_ns = now_ns - SCALE_SLOT_NS / 2; /* what came first came in some time */
    scale->slot = now_ns / SCALE_SLOT_NS;
}

/* The time since the call before had the level of its end; what is longer than the windows is not
 * needed. */
static void level_spread(struct scale *scale, int64_t from_ns, int64_t to_ns, float level)
{
    if (!(level > 0))
        level = 0;
    if (level > LEVEL_MAX)
        level = LEVEL_MAX;
    while (from_ns < to_ns) {
        int64_t number = from_ns / SCALE_SLOT_NS, end_ns = (number + 1) * SCALE_SLOT_NS;
        if (number > scale->slot) {
            scale->slot = number;
            *slot_at(scale, number) = (struct scale_slot){};
        }
        if (end_ns > to_ns)
            end_ns = to_ns;
        slot_at(scale, number)->level += level * (float)(end_ns - from_ns) / (float)SCALE_SLOT_NS;
        from_ns = end_ns;
    }
}

static void runs_learn(struct scale *scale, const struct scale_seen *seen)
{
    if (seen->done > 0) {
        float mean = (float)seen->busy_ns / (float)seen->done / (float)SCALE_SECOND_NS;
        float weight = scale->run_s > 0 ? 1 - expf(-(float)seen->done / RUNS_MEAN) : 1;
        scale->run_s += (mean - scale->run_s) * weight;
        scale->first_ns = 0;
    } else if (seen->running == 0) {
        scale->first_ns = 0;
    } else if (!scale->first_ns) {
        scale->first_ns = seen->now_ns;
    }
}

static void learn(struct scale *scale, const struct scale_rules *rules,
                  const struct scale_seen *seen)
{
    float level = rules->signal == SCALE_CPU ? seen->cores : (float)seen->running;
    bool asked = seen->kept || seen->arrivals > 0 || seen->done > 0 || seen->waiting > 0 ||
                 seen->running > 0;

    if (scale->told_ns == 0 || seen->now_ns / SCALE_SLOT_NS - scale->slot > SCALE_STEADY_SLOTS ||
        scale->desired == 0)
        slots_forget(scale, seen->now_ns);
    else
        level_spread(scale, scale->told_ns, seen->now_ns,
                     rules->signal == SCALE_CPU ? level : scale->level);
    if (seen->now_ns / SCALE_SLOT_NS > scale->slot) {
        scale->slot = seen->now_ns / SCALE_SLOT_NS;
        *slot_at(scale, scale->slot) = (struct scale_slot){};
    }
    slot_at(scale, scale->slot)->arrivals += (float)seen->arrivals;
    runs_learn(scale, seen);
    if (asked || scale->told_ns == 0)
        scale->asked_ns = seen->now_ns;
    scale->level = level;
    scale->told_ns = seen->now_ns;
}

/* ---- what the load needs --------------------------------------------------------------------- */

/* How long a run takes, by what has ended, or at least takes, by what has not. */
static float run_seconds(const struct scale *scale)
{
    if (scale->run_s > 0)
        return scale->run_s;
    return scale->first_ns ? seconds(scale->told_ns - scale->first_ns) : 0;
}

static float window(const struct scale *scale, const struct scale_rules *rules, int count)
{
    int64_t from_ns = (scale->slot - count + 1) * SCALE_SLOT_NS;
    float arrivals = 0, level = 0;

    for (int i = 0; i < count; i++) {
        const struct scale_slot *slot =
            &scale->slots[(scale->slot - i + SCALE_STEADY_SLOTS * 2) % SCALE_STEADY_SLOTS];
        arrivals += slot->arrivals;
        level += slot->level;
    }
    if (from_ns < scale->begun_ns)
        from_ns = scale->begun_ns;
    int64_t length_ns = scale->told_ns - from_ns;
    if (length_ns < SCALE_SLOT_NS)
        length_ns = SCALE_SLOT_NS;
    level *= (float)SCALE_SLOT_NS / (float)length_ns;
    if (rules->signal == SCALE_CPU)
        return level;
    float rate = arrivals / seconds(length_ns), run_s = run_seconds(scale);
    if (rules->signal == SCALE_RPS)
        return rate;
    return run_s > 0 && run_s <= seconds(length_ns) ? rate * run_s : level;
}

static float one(const struct scale_rules *rules) /* replica's part of the signal */
{
    float one = rules->signal == SCALE_CONCURRENCY ? (float)rules->places : rules->target;
    return one > 0 ? one : 1;
}

static uint32_t whole(float replicas)
{
    replicas = ceilf(replicas - NEARLY);
    return replicas > 0 ? replicas < WANTED_MAX ? (uint32_t)replicas : WANTED_MAX : 0;
}

static float margin(const struct scale_rules *rules, float load)
{
    return rules->signal == SCALE_CONCURRENCY ? SQUARE_ROOT * sqrtf(load) : 0;
}

/* The load from which on so many are not enough: load + margin = one * replicas. */
static float load_of(const struct scale_rules *rules, uint32_t replicas)
{
    float all = one(rules) * (float)replicas;
    if (rules->signal != SCALE_CONCURRENCY)
        return all;
    float root = (sqrtf(SQUARE_ROOT * SQUARE_ROOT + 4 * all) - SQUARE_ROOT) / 2;
    return root * root;
}

static uint32_t queue(const struct scale *scale, const struct scale_rules *rules,
                      const struct scale_seen *seen)
{
    float run_s = run_seconds(scale), have = (float)(seen->ready + seen->starting);

    if (rules->signal != SCALE_CONCURRENCY || seen->waiting == 0)
        return 0;
    float work = (float)seen->waiting * run_s / SCALE_DRAIN_S; /* places that do it in time */
    if (work <= one(rules) * (have > 0 ? have : 1))
        return 0;
    return whole(((float)seen->running + work) / one(rules));
}

static void load_decide(const struct scale *scale, const struct scale_rules *rules,
                        const struct scale_seen *seen, struct scale_verdict *v)
{
    float steady = window(scale, rules, SCALE_STEADY_SLOTS);
    float burst = window(scale, rules, SCALE_BURST_SLOTS);
    uint32_t by_steady = whole((steady + margin(rules, steady)) / one(rules));
    uint32_t by_burst = whole(burst / one(rules)), by_queue = queue(scale, rules, seen);

    v->reason = SCALE_STEADY;
    v->load = by_steady;
    v->now = steady;
    if (by_burst > v->load) {
        v->reason = SCALE_BURST;
        v->load = by_burst;
        v->now = burst;
    }
    if (by_queue > v->load) {
        v->reason = SCALE_QUEUE;
        v->load = by_queue;
    }
    if (v->load == 0 &&
        (seen->waiting + seen->running > 0 || (seen->kept && scale->desired == 0))) {
        v->reason = SCALE_FIRST;
        v->load = 1;
    }
}

/* ---- when ------------------------------------------------------------------------------------ */

static void sooner(struct scale_verdict *v, int64_t at_ns)
{
    if (at_ns < v->next_ns)
        v->next_ns = at_ns;
}

static void idle_decide(const struct scale *scale, const struct scale_rules *rules,
                        struct scale_verdict *v)
{
    int64_t until_ns = scale->asked_ns + (rules->idle_ns > 0 ? rules->idle_ns : 0);

    v->quiet_ns = scale->told_ns - scale->asked_ns;
    if (v->quiet_ns > 0 && scale->told_ns >= until_ns) {
        v->reason = SCALE_ASLEEP;
        v->load = 0;
    } else if (v->load == 0 && scale->desired > 0) {
        v->reason = SCALE_WARM;
        v->load = 1;
    } else if (v->load == 0) {
        v->reason = SCALE_ASLEEP;
    }
    if (v->load > 0) {
        v->change_ns = until_ns;
        sooner(v, until_ns);
    }
}

int64_t scale_hold_ns(const struct scale_rules *rules)
{
    return rules->down_delay_ns > SCALE_CALM_NS ? rules->down_delay_ns : SCALE_CALM_NS;
}

/* Fewer, once fewer were enough for long enough. To none it goes by scale.idle alone. */
static void calm(struct scale *scale, const struct scale_rules *rules, struct scale_verdict *v)
{
    int64_t hold_ns = scale_hold_ns(rules);

    if (v->desired >= scale->desired || v->desired == 0 || scale->desired > rules->max) {
        scale->fewer_ns = 0;
        return;
    }
    if (!scale->fewer_ns) {
        scale->fewer_ns = scale->told_ns;
        scale->fewer_most = 0;
    }
    if (v->desired > scale->fewer_most)
        scale->fewer_most = v->desired;
    if (scale->told_ns - scale->fewer_ns >= hold_ns) {
        v->desired = scale->fewer_most; /* what was needed meanwhile */
        scale->fewer_ns = 0;
        return;
    }
    v->desired = scale->desired;
    v->reason = SCALE_CALMING;
    v->change_ns = scale->fewer_ns + hold_ns;
    sooner(v, v->change_ns);
}

static void bounds(const struct scale_rules *rules, struct scale_verdict *v)
{
    v->desired = v->load;
    if (v->desired < rules->min) {
        v->desired = rules->min;
        v->reason = SCALE_AT_MIN;
    }
    if (v->desired < rules->floor) {
        v->desired = rules->floor;
        v->reason = SCALE_AT_FLOOR;
    }
    if (v->desired > rules->max) {
        v->desired = rules->max;
        v->reason = SCALE_AT_MAX;
    }
}

void scale_decide(struct scale *scale, const struct scale_rules *rules,
                  const struct scale_seen *seen, struct scale_verdict *ret)
{
    struct scale_verdict v = { .signal = rules->signal,
                               .waiting = seen->waiting,
                               .next_ns = INT64_MAX };

    if (scale->told_ns == 0)
        scale->desired = seen->ready + seen->starting;
    learn(scale, rules, seen);
    load_decide(scale, rules, seen, &v);
    idle_decide(scale, rules, &v);
    bounds(rules, &v);
    calm(scale, rules, &v);
    if (v.desired > 0 && v.desired < rules->max)
        v.above = load_of(rules, v.desired);
    if (v.desired > 1)
        v.below = load_of(rules, v.desired - 1);
    /* While anything is in the windows, they move by themselves. */
    if (v.quiet_ns < SCALE_STEADY_SLOTS * SCALE_SLOT_NS && v.load > 0)
        sooner(&v, scale->told_ns + SCALE_SLOT_NS);
    if (v.desired == 0 && scale->desired > 0)
        slots_forget(scale, seen->now_ns);
    scale->desired = v.desired;
    *ret = v;
}

void scale_wake(struct scale *scale, int64_t now_ns, uint32_t desired)
{
    slots_forget(scale, now_ns);
    scale->asked_ns = scale->told_ns = now_ns;
    scale->fewer_ns = 0;
    if (scale->desired < desired)
        scale->desired = desired;
}
