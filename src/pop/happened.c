/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to models and replicas, as supervisor and gateway tell it, and what follows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "pop/state_inside.h"

void pop_model_fetched(struct pop_revision *revision, const char *folder, const char *model_file,
                       const struct err *err)
{
    struct pop *pop = revision->endpoint->pop;
    pop->holds -= revision->held;
    revision->held = false;
    if (err) {
        revision->unfetched = revision->unfetched || !revision->failed;
        pop_model_state_move(&revision->model_state, POP_MODEL_ABSENT);
        revision->failures++;
        revision->failed = true;
        revision->start_not_before_ns = env_now_ns(pop->env) + pop_back_off_ns(revision->failures);
        snprintf(revision->message, sizeof revision->message, "%s", err->message);
        pop->effects->event(pop, "revision_failed", revision->endpoint, NULL, revision->message,
                            pop->data);
        pop->effects->publish(pop, pop->data);
    } else {
        pop_model_state_move(&revision->model_state, POP_MODEL_HERE);
        pop_text_set(&revision->folder, slice_of(folder));
        pop_text_set(&revision->model_file, slice_of(model_file));
        if (revision->unfetched) {
            revision->failed = revision->unfetched = false;
            revision->failures = 0;
        }
    }
    pop->effects->report(pop, pop->data);
    pop_reconcile_soon(pop);
}

struct pop_replica *pop_replica_new(struct pop_revision *revision)
{
    struct pop *pop = revision->endpoint->pop;
    uint32_t ordinal = pop_ordinal_free(revision->endpoint);
    struct pop_replica *replica =
        pop_replica_make(revision, pop->instance << 32 | ++pop->replica_counter);
    replica->ordinal = ordinal;
    replica->cold = pop_revision_ready(revision) == 0;
    return replica;
}

static void model_learn(struct pop_revision *revision, const struct pop_ready *ready)
{
    if (!ready->model)
        return;
    if (revision->model && revision->model_bytes == ready->model_bytes &&
        memcmp(revision->model, ready->model, ready->model_bytes) == 0)
        return;
    free(revision->model);
    revision->model = mem_alloc(ready->model_bytes);
    memcpy(revision->model, ready->model, ready->model_bytes);
    revision->model_bytes = ready->model_bytes;
    revision->model_reported = false;
}

void pop_replica_ready(struct pop *pop, uint64_t id, const struct pop_ready *ready)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    if (!replica || replica->state != POP_REPLICA_STARTING)
        return;
    struct pop_revision *revision = replica->revision;
    if (!replica->served)
        pop_starts_add(replica, ready);
    replica->served = true;
    pop_replica_state_move(&replica->state, POP_REPLICA_READY);
    replica->since_ns = env_now_ns(pop->env);
    replica->since_wall_ns = env_wall_ns(pop->env);
    if (ready->walls)
        (void)pop_walls_words(ready->walls, replica->sandbox, sizeof replica->sandbox);
    else
        snprintf(replica->sandbox, sizeof replica->sandbox, "%s", ready->sandbox);
    replica->memory_bytes = ready->memory_bytes;
    if (!revision->shown)
        pop_share_keep(revision);
    revision->shown = true;
    model_learn(revision, ready);
    revision->failed = false;
    revision->message[0] = '\0';
    pop->effects->event(pop, "replica_ready", revision->endpoint, replica, "", pop->data);
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
    if (replica->drained_before)
        pop_replica_drained(pop, id);
    pop_reconcile_soon(pop);
}

void pop_replica_unready(struct pop *pop, uint64_t id, const char *why)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    if (!replica || replica->state != POP_REPLICA_READY)
        return;
    pop_replica_state_move(&replica->state, POP_REPLICA_STARTING);
    replica->since_ns = env_now_ns(pop->env);
    replica->since_wall_ns = env_wall_ns(pop->env);
    pop->effects->event(pop, "replica_unready", replica->revision->endpoint, replica, why,
                        pop->data);
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
    pop_reconcile_soon(pop);
}

void pop_replica_drained(struct pop *pop, uint64_t id)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    struct stranger *stranger = replica ? NULL : pop_stranger_find(pop, id);
    if (stranger)
        stranger->drained = true;
    if (!replica || (replica->state != POP_REPLICA_DRAINING && replica->state != POP_REPLICA_READY))
        return;
    /* Drained for the agent before this one: the gateway gives it nothing any more, so it is no
     * replica that serves, and another takes its place. */
    if (replica->state == POP_REPLICA_READY) {
        pop_replica_state_move(&replica->state, POP_REPLICA_DRAINING);
        pop->effects->report(pop, pop->data);
    }
    replica->kill_at_ns = env_now_ns(pop->env);
    pop_reconcile_soon(pop);
}

static void death_add(struct pop_replica *replica, const char *reason)
{
    struct pop_endpoint *endpoint = replica->revision->endpoint;
    if (endpoint->death_count == POP_DEATHS_MAX) {
        free(endpoint->deaths[0].log);
        memmove(endpoint->deaths, endpoint->deaths + 1,
                sizeof endpoint->deaths - sizeof endpoint->deaths[0]);
        endpoint->death_count--;
    }
    struct pop_death *death = &endpoint->deaths[endpoint->death_count++];
    *death = (struct pop_death){
        .revision = replica->revision->number,
        .wall_ns = env_wall_ns(endpoint->pop->env),
        .log = mem_string((struct slice){ replica->log.bytes, replica->log.used }),
    };
    pop_replica_name(replica, death->replica);
    snprintf(death->reason, sizeof death->reason, "%s", reason);
    endpoint->pop->effects->death(endpoint, death, endpoint->pop->data);
}

enum { READY_LONG_S = 10 }; /* ready for so long: what ended it is no failure to start */

/* `was_ready`: as we saw it, or as it says itself, when it died before the gateway's word came; not
 * when the supervisor has looked at its walls, and ended it. */
static void exit_judge(struct pop_replica *replica, const char *reason, bool was_ready)
{
    struct pop_revision *revision = replica->revision;
    struct pop *pop = revision->endpoint->pop;
    int64_t now = env_now_ns(pop->env);

    if (was_ready && now - replica->since_ns >= READY_LONG_S * ENV_S)
        revision->failures = 0;
    else
        revision->failures++;
    /* A replica that had served is replaced at once the first time. */
    uint32_t counted =
        was_ready && revision->failures ? revision->failures - 1 : revision->failures;
    revision->start_not_before_ns = now + pop_back_off_ns(counted);
    if (!was_ready) {
        revision->failed = true;
        revision->unfetched = false;
        snprintf(revision->message, sizeof revision->message, "%s", reason);
        pop->effects->event(pop, "revision_failed", revision->endpoint, replica, reason, pop->data);
    }
}

void pop_replica_drop(struct pop_replica *replica)
{
    pop_replica_state_move(&replica->state, POP_REPLICA_GONE);
    replica->revision->replica_count--;
    pop_replica_free(replica);
}

static void ended(struct pop_replica *replica, const char *reason, bool asked, bool was_ready)
{
    struct pop_revision *revision = replica->revision;
    struct pop *pop = revision->endpoint->pop;
    if (!asked) {
        revision->endpoint->exits++;
        if (!replica->dead)
            exit_judge(replica, reason, was_ready);
        death_add(replica, reason);
    }
    pop->effects->event(pop, "replica_exited", revision->endpoint, replica, reason, pop->data);
    pop_replica_drop(replica);
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
    pop_reconcile_soon(pop);
}

void pop_replica_exited(struct pop *pop, const struct message_replica_exited *exited)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, exited->replica);
    struct stranger *stranger = replica ? NULL : pop_stranger_find(pop, exited->replica);
    if (stranger)
        pop_stranger_free(stranger);
    if (!replica)
        return;
    char reason[1400];
    bool asked = exited->end == REPLICA_END_STOPPED || exited->end == REPLICA_END_UNWANTED;
    pop_exit_words(exited, reason, sizeof reason);
    ended(replica, reason, asked,
          replica->state != POP_REPLICA_STARTING ||
              (exited->phase == PERIGEE_PHASE_READY && exited->end != REPLICA_END_NOT_STARTED));
}

void pop_replica_ended(struct pop *pop, uint64_t id, const char *reason, bool asked)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    if (replica)
        ended(replica, reason, asked, replica->served);
}

void pop_replica_dead(struct pop *pop, uint64_t id)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    /* One that never served keeps its place until it is gone: how it ended is why it was no use. */
    if (!replica || !replica->served || replica->dead || replica->state == POP_REPLICA_DRAINING)
        return;
    exit_judge(replica, "", true);
    replica->dead = replica->kill_sent = true;
    pop_replica_unready(pop, id, "it has ended");
    pop_reconcile_soon(pop);
}

void pop_engine_there(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            if (revision->driver != POP_DRIVER_ENGINE)
                continue;
            revision->failures = 0;
            revision->start_not_before_ns = 0;
        }
    pop_reconcile_soon(pop);
}

void pop_replica_log(struct pop *pop, const struct message_replica_log *message)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, message->replica);
    uint32_t bytes = message->bytes <= MESSAGE_LOG_BYTES ? message->bytes : MESSAGE_LOG_BYTES;
    if (!replica)
        return;
    struct pop_log *log = &replica->log;
    if (log->used + bytes > POP_LOG_BYTES) {
        uint32_t drop = log->used + bytes - POP_LOG_BYTES;
        memmove(log->bytes, log->bytes + drop, log->used - drop);
        log->used -= drop;
    }
    memcpy(log->bytes + log->used, message->data, bytes);
    log->used += bytes;
}

void pop_demand(struct pop *pop, const struct message_demand *demand)
{
    struct pop_revision *revision = pop_revision_find(pop, demand->revision);
    if (!revision)
        return;
    pop_scale_demand(revision, demand);
    if (demand->arrivals || demand->waiting || demand->running) {
        pop_asked(revision, demand->arrivals || demand->waiting);
        pop_share_keep(revision);
    }
    pop_reconcile_soon(pop);
}

void pop_gateway_changed(struct pop *pop, bool present)
{
    pop->gateway = present;
    for (size_t at = 0; present;) { /* a new one knows nothing of drains */
        const struct map_entry *entry = map_next(&pop->replicas_by_id, &at);
        if (!entry)
            break;
        struct pop_replica *replica = entry->value;
        if (replica->state == POP_REPLICA_DRAINING && !replica->kill_sent)
            pop->effects->replica_drain(replica, pop->data);
    }
    pop_reconcile_soon(pop);
}
