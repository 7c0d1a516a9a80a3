/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Level-triggered: looks at what is wanted and what is there, and does the difference. It may run
 * at any time and any number of times; nothing here remembers why it was called.
 */
#include <assert.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "pop/state.h"

enum {
    BACK_OFF_MAX_S = 10,
    BACK_OFF_TRIES = 20, /* failures after which a revision is tried once a minute */
    BACK_OFF_LONG_S = 60,
    ADOPTED_S = 10,     /* gateways say within half of it what is asked for by number */
    ASKED_LEAST_S = 1,  /* they say it again before that, however short scale.idle is */
    LEFT_S = 2,         /* all gateways know by then that the traffic moved, and have told of it */
    HOLDS_MAX = 2,      /* images that are fetched ahead of need at a time */
    DRAIN_GRACE_S = 2,  /* beyond the endpoint's timeout */
    START_LEAST_S = 30, /* to get ready in, however short queue.cold is */
};

int64_t pop_back_off_ns(uint32_t failures)
{
    if (failures == 0)
        return 0;
    if (failures > BACK_OFF_TRIES)
        return BACK_OFF_LONG_S * ENV_S;
    int64_t seconds = failures > 4 ? BACK_OFF_MAX_S : INT64_C(1) << (failures - 1);
    return seconds * ENV_S;
}

/* Until when what was asked for by number stays, or what had the traffic until it moved. */
static int64_t asked_until_ns(const struct pop_revision *revision)
{
    int64_t idle_ns = (int64_t)revision->endpoint->spec.scale.idle_ns;
    if (!revision->demand_ns)
        return revision->left_ns + LEFT_S * ENV_S;
    return revision->demand_ns +
           (idle_ns > ASKED_LEAST_S * ENV_S ? idle_ns : ASKED_LEAST_S * ENV_S);
}

void pop_asked(struct pop_revision *revision, bool comes)
{
    int64_t now_ns = env_now_ns(revision->endpoint->pop->env);
    if (revision->left_ns && !revision->demand_ns &&
        (!comes || now_ns < revision->left_ns + LEFT_S * ENV_S))
        return; /* what came with the traffic, and goes on */
    revision->demand_ns = now_ns ? now_ns : 1;
}

static bool asked_for(const struct pop_revision *revision, int64_t now_ns)
{
    return (revision->demand_ns || revision->left_ns) && now_ns < asked_until_ns(revision);
}

/* ---- who has the traffic --------------------------------------------------------------------- */

static int share_find(const struct pop_endpoint *endpoint, uint32_t number)
{
    for (size_t i = 0; i < endpoint->share_count; i++)
        if (endpoint->shares[i].revision == number && endpoint->shares[i].weight > 0)
            return (int)i;
    return TRAFFIC_NONE;
}

uint32_t pop_endpoint_lead(const struct pop_endpoint *endpoint)
{
    size_t best = 0;
    for (size_t i = 1; i < endpoint->share_count; i++)
        if (endpoint->shares[i].weight > endpoint->shares[best].weight)
            best = i;
    return endpoint->share_count ? endpoint->shares[best].revision : endpoint->target;
}

bool pop_endpoint_shares(const struct pop_endpoint *endpoint, uint32_t number)
{
    return share_find(endpoint, number) != TRAFFIC_NONE;
}

bool pop_endpoint_splits(const struct pop_endpoint *endpoint)
{
    return !endpoint->serving || pop_endpoint_shares(endpoint, endpoint->serving);
}

static bool carries(const struct pop_endpoint *endpoint, uint32_t number)
{
    return number == endpoint->serving || number == pop_endpoint_lead(endpoint) ||
           pop_endpoint_shares(endpoint, number);
}

/* ---- how many -------------------------------------------------------------------------------- */

/* What the share is a part of: nothing while what serves is at zero, once it has shown that it can
 * run. */
static uint32_t shared(const struct pop_endpoint *endpoint, const struct pop_revision *share)
{
    const struct pop_revision *serving = pop_revision_number(share->endpoint, endpoint->serving);
    bool asleep =
        serving && serving->driver != POP_DRIVER_UPSTREAM && pop_scale_desired(serving) == 0;
    return asleep && share->shown ? 0 : pop_scale_first(endpoint);
}

void pop_share_keep(struct pop_revision *share)
{
    struct pop_endpoint *endpoint = share->endpoint;
    struct pop_revision *serving = pop_revision_number(endpoint, endpoint->serving);
    if (!serving || serving == share || !pop_endpoint_shares(endpoint, share->number))
        return;
    pop_scale_keep(serving);
    pop_scale_keep(share);
}

uint32_t pop_replicas_wanted(const struct pop_endpoint *endpoint,
                             const struct pop_revision *revision, int64_t now_ns)
{
    if (endpoint->pop->no_replicas || !endpoint->wanted || !endpoint->running || !revision->wanted)
        return 0;
    if (revision->unreadable)
        return 0;
    if (endpoint->placed && endpoint->replicas == 0)
        return 0;
    if (revision->driver == POP_DRIVER_UPSTREAM) /* it is not started, nor scaled */
        return carries(endpoint, revision->number) || asked_for(revision, now_ns);
    if (revision->number == endpoint->serving)
        return pop_scale_desired(revision);
    if (revision->number == pop_endpoint_lead(endpoint))
        return pop_scale_first(endpoint);
    int share = share_find(endpoint, revision->number);
    uint32_t desired = pop_scale_desired(revision);
    if (share != TRAFFIC_NONE) { /* its part of what serves, or as its own load asks */
        uint32_t part = traffic_replicas(endpoint->shares, endpoint->share_count, (size_t)share,
                                         shared(endpoint, revision));
        return desired > part ? desired : part;
    }
    if (!asked_for(revision, now_ns))
        return 0;
    return desired > 0 ? desired : 1;
}

/* ---- traffic --------------------------------------------------------------------------------- */

/* Traffic moves to the lead once as many of it are ready as now serve, and one at least. */
static void traffic_move(struct pop_endpoint *endpoint)
{
    struct pop *pop = endpoint->pop;
    struct pop_revision *target = pop_revision_number(endpoint, pop_endpoint_lead(endpoint));
    struct pop_revision *serving = pop_revision_number(endpoint, endpoint->serving);
    if (!target || !target->wanted || target == serving)
        return;
    uint32_t ready = pop_revision_ready(target);
    uint32_t needed = serving ? pop_revision_ready(serving) : 1;
    uint32_t set = pop_scale_first(endpoint);
    if (needed > set)
        needed = set;
    if (set == 0 || ready < (needed ? needed : 1))
        return;
    endpoint->serving = target->number;
    target->left_ns = 0;
    if (serving && serving->demand_ns) { /* else there is nobody whom a gateway may still send */
        serving->left_ns = env_now_ns(pop->env);
        serving->demand_ns = 0;
    }
    pop_scale_wake(target, set);
    char message[96];
    snprintf(message, sizeof message, "revision %u has the traffic", target->number);
    pop->effects->event(pop, "traffic_moved", endpoint, NULL, message, pop->data);
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
}

/* It was placed elsewhere: nothing new comes here, and what runs ends. */
static void leave(struct pop_endpoint *endpoint)
{
    struct pop *pop = endpoint->pop;
    if (!endpoint->serving)
        return;
    endpoint->serving = 0;
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
}

/* ---- replicas -------------------------------------------------------------------------------- */

static void due(int64_t *next_ns, int64_t at_ns)
{
    if (at_ns < *next_ns)
        *next_ns = at_ns;
}

static void replica_start(struct pop_revision *revision)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_replica *replica = pop_replica_new(revision);
    struct err err = {};
    pop->starting++;
    pop->effects->event(pop, "replica_started", revision->endpoint, replica, "", pop->data);
    revision->start_refused = false;
    if (pop->effects->replica_start(replica, &err, pop->data) == 0)
        return;
    revision->start_refused = err.code == ERR_PRECONDITION || err.code == ERR_NOT_SUPPORTED;
    struct message_replica_exited exited = {
        .replica = replica->id,
        .revision = revision->uid,
        .end = REPLICA_END_NOT_STARTED,
    };
    snprintf(exited.text, sizeof exited.text, "%s", err.message);
    pop_replica_exited(pop, &exited);
}

/* One that drains gets nothing new, and may take as long as its last request; a dead one is there
 * until it is cleaned away. */
static uint32_t staying(const struct pop_revision *revision)
{
    const struct pop_replica *replica;
    uint32_t count = 0;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        count += replica->state != POP_REPLICA_DRAINING && !replica->dead;
    return count;
}

static void fetch(struct pop_revision *revision)
{
    struct pop *pop = revision->endpoint->pop;
    pop_model_state_move(&revision->model_state, POP_MODEL_FETCHING);
    pop->effects->model_fetch(revision, pop->data);
}

/* Of the revisions that have or are to have the traffic the image is here before somebody asks, so
 * that a start from zero is a start alone. A few at once. */
static void hold(struct pop_revision *revision, int64_t now_ns, int64_t *next_ns)
{
    struct pop_endpoint *endpoint = revision->endpoint;
    struct pop *pop = endpoint->pop;
    bool kept = carries(endpoint, revision->number) || revision->number == endpoint->target;
    if (revision->driver != POP_DRIVER_ENGINE || revision->model_state != POP_MODEL_ABSENT ||
        pop->no_replicas || !endpoint->wanted || !endpoint->running || !revision->wanted || !kept ||
        endpoint->elsewhere || (endpoint->placed && endpoint->replicas == 0) ||
        pop->holds == HOLDS_MAX)
        return;
    if (now_ns < revision->start_not_before_ns) {
        due(next_ns, revision->start_not_before_ns);
        return;
    }
    revision->held = true;
    pop->holds++;
    fetch(revision);
}

static void awaited(struct pop_revision *revision)
{
    struct pop *pop = revision->endpoint->pop;
    revision->held = false;
    pop->holds--;
    pop->starting++;
    if (pop->effects->model_awaited)
        pop->effects->model_awaited(revision, pop->data);
}

static void starts(struct pop_revision *revision, uint32_t wanted, int64_t now_ns, int64_t *next_ns)
{
    uint32_t have = staying(revision);
    if (have >= wanted) {
        hold(revision, now_ns, next_ns);
        return;
    }
    if (now_ns < revision->start_not_before_ns) {
        due(next_ns, revision->start_not_before_ns);
        return;
    }
    if (revision->model_state == POP_MODEL_ABSENT) {
        revision->endpoint->pop->starting++;
        fetch(revision);
    }
    if (revision->held)
        awaited(revision);
    if (revision->model_state != POP_MODEL_HERE)
        return;
    /* After a failure one is tried alone, until it is ready: the others would fail the same way. */
    uint32_t many = revision->failures && pop_revision_ready(revision) == 0 ? 1 : wanted;
    for (; have < many; have++) {
        replica_start(revision);
        if (revision->start_not_before_ns > now_ns)
            break;
    }
    if (revision->start_not_before_ns > now_ns)
        due(next_ns, revision->start_not_before_ns);
}

/* Requests may be on it: also on one whose probes fail since they came, or that an earlier agent
 * had and this one has not seen well yet. */
static bool may_run(const struct pop_replica *replica)
{
    return replica->state == POP_REPLICA_READY ||
           (replica->state == POP_REPLICA_STARTING && (replica->served || replica->adopted) &&
            !replica->drained_before);
}

static void replica_end(struct pop_replica *replica, int64_t now_ns)
{
    struct pop *pop = replica->revision->endpoint->pop;
    if (may_run(replica) && pop->gateway) {
        int64_t grace = (int64_t)replica->revision->endpoint->spec.timeout_ns;
        pop_replica_state_move(&replica->state, POP_REPLICA_DRAINING);
        replica->since_ns = now_ns;
        replica->since_wall_ns = env_wall_ns(pop->env);
        replica->kill_at_ns = now_ns + grace + DRAIN_GRACE_S * ENV_S;
        if (replica->target.id) /* the table says that nothing goes there any more */
            pop->effects->publish(pop, pop->data);
        pop->effects->replica_drain(replica, pop->data);
        pop->effects->report(pop, pop->data);
        return;
    }
    if (!replica->kill_sent) {
        replica->kill_sent = true;
        pop->effects->replica_kill(replica, REPLICA_END_STOPPED, "", pop->data);
    }
}

/* Those with a way out, or a weaker wall, that they may not have any more are replaced. */
static void shut(struct pop_revision *revision, int64_t now_ns)
{
    struct pop_replica *replica;
    if (!revision->image)
        return;
    bool open = pop_way_out(revision);
    bool weak = !spec_residency_restricts(&revision->endpoint->spec);
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        if (((replica->open && !open) || (replica->weak && !weak)) &&
            replica->state != POP_REPLICA_DRAINING && !replica->kill_sent)
            replica_end(replica, now_ns);
}

/* Those that serve least are ended first: starting ones, then the youngest. */
static void stops(struct pop_revision *revision, uint32_t wanted, int64_t now_ns)
{
    for (;;) {
        struct pop_replica *replica, *victim = NULL;
        uint32_t living = 0;
        LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
            if (replica->state == POP_REPLICA_DRAINING || replica->kill_sent)
                continue;
            living++;
            if (!victim || replica->state == POP_REPLICA_STARTING ||
                victim->state != POP_REPLICA_STARTING)
                victim = replica;
        }
        if (living <= wanted || !victim)
            return;
        replica_end(victim, now_ns);
    }
}

/* A model that is not up after queue.cold will not be: who waits for it is told so by then. */
static void overdue(struct pop_revision *revision, int64_t now_ns, int64_t *next_ns)
{
    struct pop *pop = revision->endpoint->pop;
    int64_t allowed_ns = (int64_t)revision->endpoint->spec.queue.cold_ns;
    struct pop_replica *replica;
    char text[128];
    if (allowed_ns < START_LEAST_S * ENV_S)
        allowed_ns = START_LEAST_S * ENV_S;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        if (replica->state != POP_REPLICA_STARTING || replica->kill_sent || replica->served)
            continue;
        if (now_ns - replica->since_ns < allowed_ns) {
            due(next_ns, replica->since_ns + allowed_ns);
            continue;
        }
        replica->kill_sent = true;
        snprintf(text, sizeof text, "it was not ready within %d s (queue.cold allows for more)",
                 (int)(allowed_ns / ENV_S));
        pop->effects->replica_kill(replica, REPLICA_END_NOT_STARTED, text, pop->data);
    }
}

static void drains(struct pop_revision *revision, int64_t now_ns, int64_t *next_ns)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_replica *replica;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        if (replica->state != POP_REPLICA_DRAINING || replica->kill_sent)
            continue;
        if (now_ns >= replica->kill_at_ns || !pop->gateway) {
            replica->kill_sent = true;
            pop->effects->replica_kill(replica, REPLICA_END_STOPPED, "", pop->data);
        } else {
            due(next_ns, replica->kill_at_ns);
        }
    }
}

/* An agent before this one started them for those who ask by number, and may have been right. */
static bool adopted_stay(const struct pop_revision *revision, int64_t now_ns, int64_t *next_ns)
{
    const struct pop_endpoint *endpoint = revision->endpoint;
    int64_t until_ns = revision->adopted_ns + ADOPTED_S * ENV_S;
    if (!revision->adopted_ns || now_ns >= until_ns || !revision->wanted || !endpoint->wanted ||
        !endpoint->running)
        return false;
    due(next_ns, until_ns);
    return true;
}

/* At zero nothing is tried any more, and what failed once is no reason to refuse whoever comes
 * next: he has it tried again. An image is: hold() has its back-off. */
static void forgive(struct pop_revision *revision)
{
    const struct pop_endpoint *endpoint = revision->endpoint;
    struct pop *pop = endpoint->pop;
    bool may = endpoint->wanted && endpoint->running && revision->wanted &&
               (!endpoint->placed || endpoint->replicas > 0);
    bool held = revision->driver == POP_DRIVER_ENGINE && revision->unfetched;
    if (!revision->failed || revision->unreadable || held || !may || revision->replica_count > 0)
        return;
    revision->failed = false;
    revision->message[0] = '\0';
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
}

static void endpoint_reconcile(struct pop_endpoint *endpoint, int64_t now_ns, int64_t *next_ns)
{
    struct pop_revision *revision;
    if (endpoint->placed && endpoint->replicas == 0)
        leave(endpoint);
    if (endpoint->wanted && endpoint->running)
        traffic_move(endpoint);
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
        bool scaled = revision->driver != POP_DRIVER_UPSTREAM;
        bool carrying = carries(endpoint, revision->number), used = asked_for(revision, now_ns);
        if (scaled && (carrying || used))
            due(next_ns, pop_scale_look(revision, now_ns));
        else
            pop_scale_rest(revision);
        uint32_t wanted = pop_replicas_wanted(endpoint, revision, now_ns);
        if (wanted && used && !carrying)
            due(next_ns, asked_until_ns(revision));
        if (!scaled) {
            pop_upstream_reconcile(revision, wanted > 0);
            continue;
        }
        if (wanted == 0)
            forgive(revision);
        if (endpoint->pop->sure)
            shut(revision, now_ns);
        starts(revision, wanted, now_ns, next_ns);
        /* What the disk said may be older than what runs. One is what is started by number. */
        uint32_t stay = !wanted && adopted_stay(revision, now_ns, next_ns) ? 1 : wanted;
        if (endpoint->pop->sure)
            stops(revision, stay, now_ns);
        drains(revision, now_ns, next_ns);
        overdue(revision, now_ns, next_ns);
    }
}

static void on_wake(struct env_timer *timer, void *data)
{
    (void)timer;
    pop_reconcile(data);
}

static uint32_t starting(const struct pop *pop)
{
    const struct pop_endpoint *endpoint;
    const struct pop_revision *revision;
    const struct pop_replica *replica;
    uint32_t count = 0;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            count += revision->model_state == POP_MODEL_FETCHING && !revision->held;
            LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
                count += replica->state == POP_REPLICA_STARTING && !replica->served;
        }
    return count;
}

void pop_reconcile(struct pop *pop)
{
    if (!pop->begun || pop->hearing)
        return;
    pop->starting = starting(pop);
    int64_t now_ns = env_now_ns(pop->env), next_ns = pop_schedule_look(pop, now_ns);
    pop_room_count(pop);
    struct pop_endpoint *endpoint;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        endpoint_reconcile(endpoint, now_ns, &next_ns);
        pop_room_moved(endpoint);
    }
    pop_forget(pop);

    env_timer_stop(pop->env, &pop->wake);
    if (next_ns != INT64_MAX) {
        int64_t delay_ns = next_ns > now_ns ? next_ns - now_ns : 0;
        env_timer_start(pop->env, &pop->wake, delay_ns, on_wake, pop);
    }
}
