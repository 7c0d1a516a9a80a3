/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateways say of demand, to policy/scale.h, and its verdicts to reconcile.c. Nothing here
 * has a timer: the time at which a verdict may change by itself is one of those that reconcile.c
 * waits for, so that endpoints at zero cost none.
 *
 * Bounds are what placement gave this PoP. Where the spec names no least (scale.min and per_pop.min
 * are 0), the one replica that a placement stands for may go as well.
 */
#include "base/auto.h"
#include "pop/state.h"

#define LEVEL_STALE_NS (5 * ENV_S) /* a gateway tells several times a second while there is any */
#define BOOT_LOOK_NS ENV_S /* at the latest: one that has become ready is looked at at once */

enum { BOOT_STARTS = 4 }; /* at once, where the cores are not known */

static struct pop_scale *scale_of(struct pop_revision *revision)
{
    if (!revision->scale)
        revision->scale = mem_zalloc(sizeof *revision->scale);
    return revision->scale;
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static uint32_t least(const struct pop_endpoint *endpoint)
{
    const struct endpoint_spec *spec = &endpoint->spec;
    if (!endpoint->placed)
        return (uint32_t)spec->scale.min;
    return spec->scale.min || spec->scale.per_pop.min ? endpoint->replicas : 0;
}

static uint32_t most(const struct pop_endpoint *endpoint, uint32_t min)
{
    const struct endpoint_spec *spec = &endpoint->spec;
    uint64_t max = spec->scale.max ? spec->scale.max : POP_REPLICAS_MAX, room = pop_room(endpoint);
    if (endpoint->placed && endpoint->most && endpoint->most < max)
        max = endpoint->most;
    if (spec->scale.per_pop.max && spec->scale.per_pop.max < max)
        max = spec->scale.per_pop.max;
    else if (!spec->scale.per_pop.max && endpoint->pop->cores && endpoint->pop->cores < max)
        max = endpoint->pop->cores;
    if (room < max)
        max = room;
    if (max < min)
        max = min;
    if (max < endpoint->floor)
        max = endpoint->floor;
    return max < POP_REPLICAS_MAX ? (uint32_t)max : POP_REPLICAS_MAX;
}

static bool runs_here(const struct pop_endpoint *endpoint, const struct pop_revision *revision)
{
    return !endpoint->pop->no_replicas && endpoint->wanted && endpoint->running &&
           revision->wanted && (!endpoint->placed || endpoint->replicas > 0);
}

static void rules_of(const struct pop_revision *revision, struct scale_rules *ret)
{
    const struct pop_endpoint *endpoint = revision->endpoint;
    const struct endpoint_spec *spec = &endpoint->spec;
    bool serves = revision->number == endpoint->serving;
    uint32_t min = least(endpoint);

    *ret = (struct scale_rules){
        .min = serves ? min : 0, /* one that is asked for by number goes by its load alone */
        .floor = serves ? endpoint->floor : 0,
        .max = runs_here(endpoint, revision) ? most(endpoint, min) : 0,
        .places = spec_concurrency(spec->scale.concurrency, revision->batch_max),
        .idle_ns = (int64_t)spec->scale.idle_ns,
        .down_delay_ns = (int64_t)spec->scale.down_delay_ns,
    };
    if (spec->scale.rps_micro) {
        ret->signal = SCALE_RPS;
        ret->target = (float)spec->scale.rps_micro / 1e6f;
    } else if (spec->scale.cpu_ppm) {
        ret->signal = SCALE_CPU;
        ret->target = (float)spec->scale.cpu_ppm / 1e6f * (float)spec->flavor.cpu_milli / 1e3f;
    }
}

/* ---- looking --------------------------------------------------------------------------------- */

void pop_scale_demand(struct pop_revision *revision, const struct message_demand *demand)
{
    struct pop_scale *scale = scale_of(revision);
    unsigned set = demand->set & 1;

    scale->arrivals += demand->arrivals;
    scale->done += demand->done;
    scale->busy_ns += demand->busy_ns;
    scale->level[set].waiting = demand->waiting;
    scale->level[set].running = demand->running;
    scale->level[set].at_ns = env_now_ns(revision->endpoint->pop->env);
}

/* What a gateway said that has been silent since, it may have died with. */
static bool fresh(const struct pop_scale *scale, unsigned set, int64_t now_ns)
{
    return now_ns - scale->level[set].at_ns <= LEVEL_STALE_NS;
}

bool pop_scale_runs(const struct pop_revision *revision)
{
    const struct pop_scale *scale = revision->scale;
    int64_t now_ns = env_now_ns(revision->endpoint->pop->env);
    bool runs = false;

    for (unsigned set = 0; scale && set < 2; set++)
        runs = runs || (fresh(scale, set, now_ns) && scale->level[set].running > 0);
    return runs;
}

static void seen_of(struct pop_revision *revision, int64_t now_ns, struct scale_seen *ret)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_scale *scale = revision->scale;
    const struct pop_replica *replica;

    *ret = (struct scale_seen){ .now_ns = now_ns,
                                .arrivals = scale->arrivals,
                                .done = scale->done,
                                .busy_ns = scale->busy_ns,
                                .kept = scale->kept };
    scale->arrivals = scale->done = scale->busy_ns = 0;
    scale->kept = false;
    for (unsigned set = 0; set < 2; set++) {
        if (!fresh(scale, set, now_ns))
            continue;
        ret->waiting += scale->level[set].waiting;
        ret->running += scale->level[set].running;
    }
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        ret->ready += replica->state == POP_REPLICA_READY && !replica->kill_sent;
        ret->starting += replica->state == POP_REPLICA_STARTING && !replica->kill_sent;
    }
    if (scale->rules.signal == SCALE_CPU && pop->effects->cores_used)
        ret->cores = pop->effects->cores_used(revision, pop->data);
}

/* The words stay as they are while what they say does: figures that move a little are no news. */
static void words_renew(struct pop_scale *scale)
{
    const struct scale_verdict *v = &scale->verdict, *said = &scale->said;
    bool moved = v->now > said->now * 1.25f + 0.25f || v->now < said->now * 0.75f - 0.25f;

    if (scale->words[0] && v->desired == said->desired && v->reason == said->reason &&
        v->load == said->load && !moved)
        return;
    scale->said = *v;
    (void)scale_words(v, &scale->rules, NULL, scale->words);
}

/* After a boot what served is there again until nobody has asked for it: one after the other, as
 * many at once as there are cores, but who is asked for waits for none. */
static bool boot_waits(const struct pop_revision *revision, int64_t now_ns)
{
    const struct pop *pop = revision->endpoint->pop;
    const struct pop_scale *scale = revision->scale;
    uint32_t most = pop->cores ? pop->cores : BOOT_STARTS;
    bool asked = scale->arrivals > 0 || scale->kept;

    for (unsigned set = 0; set < 2; set++)
        asked = asked || (fresh(scale, set, now_ns) && scale->level[set].waiting > 0);
    return !asked && scale->rules.min == 0 && scale->rules.floor == 0 && pop->starting >= most;
}

int64_t pop_scale_look(struct pop_revision *revision, int64_t now_ns)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_scale *scale = scale_of(revision);
    struct scale_seen seen;

    rules_of(revision, &scale->rules);
    if (scale->rules.max == 0) {
        scale->arrivals = scale->done = scale->busy_ns = 0;
        return INT64_MAX;
    }
    bool first = scale->state.told_ns == 0;
    bool boots = first && revision->replica_count == 0 && !pop->again &&
                 revision->number == revision->endpoint->serving;
    if (boots && boot_waits(revision, now_ns))
        return now_ns + BOOT_LOOK_NS;
    seen_of(revision, now_ns, &seen);
    uint32_t before = first ? seen.ready + seen.starting : scale->state.desired;
    if (boots)
        pop_scale_wake(revision, 1);
    scale_decide(&scale->state, &scale->rules, &seen, &scale->verdict);
    words_renew(scale);
    if (scale->verdict.desired != before) {
        pop->effects->event(pop, "scaled", revision->endpoint, NULL, scale->words, pop->data);
        pop->effects->report(pop, pop->data);
    }
    return scale->verdict.next_ns;
}

void pop_scale_wake(struct pop_revision *revision, uint32_t desired)
{
    scale_wake(&scale_of(revision)->state, env_now_ns(revision->endpoint->pop->env), desired);
}

void pop_scale_keep(struct pop_revision *revision)
{
    scale_of(revision)->kept = true;
}

void pop_scale_rest(struct pop_revision *revision)
{
    if (revision->scale)
        revision->scale->state.desired = 0;
}

/* ---- what came of it ------------------------------------------------------------------------- */

uint32_t pop_scale_desired(const struct pop_revision *revision)
{
    struct scale_rules rules;
    uint32_t desired = revision->scale ? revision->scale->state.desired : 0;

    rules_of(revision, &rules);
    if (desired < rules.min)
        desired = rules.min;
    if (desired < rules.floor)
        desired = rules.floor;
    return desired < rules.max ? desired : rules.max;
}

uint32_t pop_scale_first(const struct pop_endpoint *endpoint)
{
    const struct pop_revision *revision;
    uint32_t first = least(endpoint);

    if (first < endpoint->floor)
        first = endpoint->floor;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        if (revision->number == endpoint->serving && pop_scale_desired(revision) > first)
            first = pop_scale_desired(revision);
    uint32_t bound = most(endpoint, least(endpoint));
    if (first < 1)
        first = 1;
    return first < bound ? first : bound;
}

const char *pop_scale_words(const struct pop_revision *revision)
{
    const struct pop_scale *scale = revision->scale;
    return scale && scale->rules.max > 0 && scale->words[0] ? scale->words : NULL;
}
