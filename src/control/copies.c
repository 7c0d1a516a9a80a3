/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs of other registries: a job each, some at once, few of one registry; gone on with where they
 * were cut, believed once they have their digest; those that fail wait ever longer, those that
 * nobody needs any more are ended, and those that come slowly give way (policy/pace.h). What is
 * known of failures is in memory: a start tries anew.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/copies_own.h"
#include "control/watch.h"
#include "io/loop.h"
#include "io/timer.h"
#include "store/blobs.h"

enum {
    AT_ONCE_OF_ONE = 3,  /* of one registry: a slow one does not hold up all */
    PROGRESS_MS = 1'000, /* how often it is shown */
    WAIT_MS = 1'000,     /* after a failure; then twice as long each time, up to */
    WAIT_MS_MAX = 60'000,
    LASTING_MS = 30'000, /* where the same again will hardly help */
    LASTING_MS_MAX = 600'000,
};

static void copies_run(struct control *control);

static void run_end(struct copy *copy)
{
    for (size_t i = 0; i < copy->snapshot_count; i++)
        snapshot_free(copy->snapshots[i]);
    copy->snapshots = NULL;
    copy->events = NULL;
    copy->snapshot_count = copy->event_count = 0;
    blob_upload_free(take_ptr(copy->upload));
    arena_free(take_ptr(copy->run_arena));
    list_remove(&copy->link);
    copy->control->abroad->running_count--;
}

static void copy_free(struct copy *copy)
{
    arena_free(copy->arena);
    free(copy);
}

static void drop(struct copy *copy)
{
    (void)map_remove(&copy->control->abroad->copies, copy->digest);
    copy_free(copy);
}

/* Endpoints of which a revision waits for it look otherwise now. */
static void refresh(struct control *control, const struct slice *digest)
{
    MAP_EACH (entry, &control->hub.by_uid) {
        struct hub_endpoint *endpoint = entry->value;
        const struct snapshot *s = endpoint->snapshot;
        for (size_t i = 0; i < s->origin_count; i++)
            if (!digest || slice_equal(s->origins[i].digest, *digest)) {
                hub_refresh(control, endpoint);
                break;
            }
    }
}

static void on_failure_done(struct job *job, const struct err *err)
{
    struct copy *copy = job->data;
    struct control *control = job->control;
    if (err)
        log_warn("control", "a copy's failure is not among the events",
                 LOG_S("error", err->message));
    else
        watch_events(control, copy->events, copy->event_count);
    run_end(copy);
    if (!copy->needed)
        drop(copy);
    copies_run(control);
}

static void wait_longer(struct copy *copy)
{
    int64_t ms = copy->lasting ? LASTING_MS : WAIT_MS;
    int64_t most = copy->lasting ? LASTING_MS_MAX : WAIT_MS_MAX;
    for (unsigned i = 1; i < copy->failures && ms < most; i++)
        ms *= 2;
    ms = ms < most ? ms : most;
    if (copy->trouble.retry_ms > ms)
        ms = copy->trouble.retry_ms;
    copy->next_ms = loop_now_ms(copy->control->loop) + ms;
}

static bool runs(const struct copy *copy)
{
    return !list_empty(&copy->link);
}

/* Behind all that wait. */
static void queue_up(struct copy *copy)
{
    copy->turn = ++copy->control->abroad->turns;
}

/* The same failure again is no event, and no line of the log. */
static void failed(struct copy *copy, const struct err *err)
{
    struct control *control = copy->control;
    bool told = copy->why.code && strcmp(copy->why.message, err->message) == 0;
    copy->why = *err;
    copy->lasting = copy->trouble.lasting;
    /* What brought something begins anew with its waits, but not what the next try is to bring as
     * well: wrong bytes, and those that our own disk did not take. */
    copy->failures = atomic_load(&copy->brought) && !copy->lasting && !copy->body_err.code
                         ? 1
                         : copy->failures + 1;
    wait_longer(copy);
    queue_up(copy);
    struct slice label = abroad_label(control->abroad, copy->host);
    metric_add(control_count(control, CONTROL_COPIES_FAILED, &label), 1);
    size_t count = 0;
    copy->events =
        ARENA_ARRAY(copy->run_arena, struct store_event, told ? 1 : control->hub.by_uid.count + 1);
    MAP_EACH (entry, &control->hub.by_uid) {
        const struct snapshot *s = ((struct hub_endpoint *)entry->value)->snapshot;
        for (size_t i = 0; !told && i < s->origin_count; i++) {
            if (!slice_equal(s->origins[i].digest, copy->digest))
                continue;
            struct store_endpoint row = s->row;
            row.project = arena_copy(copy->run_arena, row.project);
            row.name = arena_copy(copy->run_arena, row.name);
            copy_add_event(copy, &row, "copy_failed",
                           arena_format(copy->run_arena, "revision %llu: %s",
                                        (unsigned long long)s->origins[i].number, err->message));
            count++;
            break;
        }
    }
    refresh(control, &copy->digest);
    if (!told)
        log_warn("control", "copy failed, trying again", LOG_SLICE("registry", copy->host),
                 LOG_SLICE("blob", copy->digest), LOG_S("error", err->message));
    if (count) {
        job_start(control, &copy->job, JOB_WRITE, copy_failure_run, on_failure_done, copy);
        return;
    }
    run_end(copy);
    copies_run(control);
}

static void on_end_done(struct job *job, const struct err *err)
{
    struct copy *copy = job->data;
    struct control *control = job->control;
    if (err) { /* the store's: the blob may be here, and is found so */
        copy->trouble = (struct elsewhere_trouble){};
        for (size_t i = 0; i < copy->snapshot_count; i++)
            snapshot_free(take_ptr(copy->snapshots[i]));
        copy->snapshot_count = copy->event_count = 0;
        if (control->closing)
            run_end(copy);
        else
            failed(copy, err);
        return;
    }
    for (size_t i = 0; i < copy->snapshot_count; i++)
        if (hub_get(control, copy->snapshots[i]->row.uid)) /* not deleted meanwhile */
            hub_put(control, take_ptr(copy->snapshots[i]));
    watch_events(control, copy->events, copy->event_count);
    metric_set(control_count(control, CONTROL_BLOB_BYTES, NULL),
               (int64_t)blobs_total_bytes(control->blobs));
    run_end(copy);
    drop(copy);
    copies_run(control);
}

/* It was ended from here, though somebody needs it. */
static void ended(struct copy *copy)
{
    struct control *control = copy->control;
    struct err err;
    if (copy->why_stop == STOP_STALLED) {
        (void)err_set(&err, ERR_DEADLINE, "%s sends less than %d bytes a second for %d s",
                      copy->ask.registry.host, PACE_RATE_MIN, PACE_SPAN_MS / 1000);
        copy->trouble = (struct elsewhere_trouble){};
        failed(copy, &err);
        return;
    }
    if (copy->why_stop == STOP_SLOW) {
        log_info("control", "slow copy gives way to others, and goes on after them",
                 LOG_SLICE("registry", copy->host), LOG_SLICE("blob", copy->digest),
                 LOG_U("bytes", atomic_load(&copy->done)));
        queue_up(copy);
    }
    run_end(copy);
    copies_run(control);
}

static void on_copy_done(struct job *job, const struct err *err)
{
    struct copy *copy = job->data;
    struct control *control = job->control;
    struct slice label = abroad_label(control->abroad, copy->host);
    metric_add(control_count(control, CONTROL_COPIED_BYTES, &label), atomic_load(&copy->brought));
    copy->now_ns = control_wall_ns(control);
    if (control->closing) {
        run_end(copy);
    } else if (!copy->needed) {
        run_end(copy);
        drop(copy);
        copies_run(control);
    } else if (err && err->code == ERR_CANCELED) {
        ended(copy);
    } else if (err) {
        failed(copy, err);
    } else {
        job_start(control, &copy->job, JOB_WRITE, copy_end_run, on_end_done, copy);
    }
}

static void copy_start(struct copy *copy)
{
    struct control *control = copy->control;
    list_append(&control->abroad->running, &copy->link);
    control->abroad->running_count++;
    atomic_store(&copy->brought, 0);
    atomic_store(&copy->receiving, false);
    atomic_store(&copy->stop, false);
    pace_begin(&copy->pace, loop_now_ms(control->loop), 0);
    copy->why_stop = STOP_NOT;
    copy->run_arena = arena_new();
    abroad_ask(control, copy->run_arena, copy->host, &copy->ask);
    copy->ask.stop = &copy->stop;
    job_start(control, &copy->job, JOB_COPY, copy_run, on_copy_done, copy);
}

static void copy_stop(struct copy *copy, int why)
{
    if (!copy->why_stop)
        copy->why_stop = why;
    atomic_store(&copy->stop, true);
}

static unsigned running_of(const struct abroad *abroad, struct slice host)
{
    const struct copy *copy;
    unsigned count = 0;
    LIST_EACH (copy, &abroad->running, struct copy, link)
        count += slice_equal(copy->host, host);
    return count;
}

/* Of those whose time has come and whose registry may have one more, one of the registry that has
 * the fewest, so that a place that was given up does not go back; of these the one that waits
 * longest. *next_ms is when the next one's comes. NULL: there is none. */
static struct copy *next_due(const struct abroad *abroad, int64_t now_ms, int64_t *next_ms)
{
    struct copy *best = NULL;
    unsigned least = AT_ONCE_OF_ONE;
    MAP_EACH (entry, &abroad->copies) {
        struct copy *copy = entry->value;
        if (runs(copy))
            continue;
        if (copy->next_ms > now_ms) {
            *next_ms = copy->next_ms < *next_ms ? copy->next_ms : *next_ms;
            continue;
        }
        unsigned running = running_of(abroad, copy->host);
        if (running < least || (running == least && best && copy->turn < best->turn)) {
            best = copy;
            least = running;
        }
    }
    return best;
}

/* Four drips would hold all places. A slow one gives its own up to another registry alone: among
 * those of its own it would only be begun again and again. */
static void look_at_paces(struct control *control)
{
    struct abroad *abroad = control->abroad;
    int64_t now_ms = loop_now_ms(control->loop), unused = INT64_MAX;
    const struct copy *waits =
        abroad->running_count < COPIES_AT_ONCE ? NULL : next_due(abroad, now_ms, &unused);
    struct copy *copy;
    LIST_EACH (copy, &abroad->running, struct copy, link) {
        uint64_t brought = atomic_load(&copy->brought);
        if (!atomic_load(&copy->receiving)) {
            pace_begin(&copy->pace, now_ms, brought);
            continue;
        }
        enum pace_is is = pace_look(&copy->pace, now_ms, brought);
        if (is == PACE_STALLED) {
            copy_stop(copy, STOP_STALLED);
        } else if (is == PACE_SLOW && waits && !slice_equal(waits->host, copy->host)) {
            copy_stop(copy, STOP_SLOW);
            waits = NULL; /* it has a place now */
        }
    }
}

static void on_timer(void *data)
{
    struct control *control = data;
    if (control->abroad->running_count) {
        look_at_paces(control);
        refresh(control, NULL);
    }
    copies_run(control);
}

static void copies_run(struct control *control)
{
    struct abroad *abroad = control->abroad;
    int64_t now_ms = loop_now_ms(control->loop), next_ms = INT64_MAX;
    struct copy *copy;
    if (control->closing || control->draining)
        return;
    while ((copy = next_due(abroad, now_ms, &next_ms)) && abroad->running_count < COPIES_AT_ONCE)
        copy_start(copy);
    if (abroad->running_count && next_ms > now_ms + PROGRESS_MS)
        next_ms = now_ms + PROGRESS_MS;
    if (next_ms == INT64_MAX)
        return;
    if (!abroad->timer)
        abroad->timer = timer_new(control->loop, on_timer, control);
    timer_start(abroad->timer, (uint64_t)(next_ms - now_ms));
}

void copies_stop(struct abroad *abroad)
{
    struct copy *copy;
    LIST_EACH (copy, &abroad->running, struct copy, link)
        copy_stop(copy, STOP_UNNEEDED);
}

/* ---- what there is to copy ------------------------------------------------------------------- */

static int on_look_run(struct job *job, struct store *store, struct err *err)
{
    struct abroad *abroad = job->data;
    int r = store->origin_prune(store, err);
    return r < 0 ? r
                 : store->origin_list(store, abroad->look_arena, &abroad->look_rows,
                                      &abroad->look_count, err);
}

static struct copy *copy_new(struct control *control, const struct store_origin *row)
{
    struct copy *copy = mem_zalloc(sizeof *copy);
    copy->control = control;
    copy->arena = arena_new();
    list_init(&copy->link);
    queue_up(copy);
    copy->digest = arena_copy(copy->arena, row->digest);
    (void)map_put(&control->abroad->copies, copy->digest, copy);
    return copy;
}

static void take_rows(struct control *control)
{
    struct abroad *abroad = control->abroad;
    MAP_EACH (entry, &abroad->copies)
        ((struct copy *)entry->value)->needed = false;
    for (size_t i = 0; i < abroad->look_count; i++) {
        const struct store_origin *row = &abroad->look_rows[i];
        struct copy *copy = map_get(&abroad->copies, row->digest);
        if (!copy)
            copy = copy_new(control, row);
        copy->needed = true;
        if (runs(copy)) /* as it began; if it fails, the next run is as told now */
            continue;
        copy->bytes = row->bytes;
        if (slice_equal(copy->host, row->host) && slice_equal(copy->repository, row->repository))
            continue;
        copy->host = arena_copy(copy->arena, row->host);
        copy->repository = arena_copy(copy->arena, row->repository);
    }
    MAP_EACH (entry, &abroad->copies) {
        struct copy *copy = entry->value;
        if (copy->needed)
            continue;
        if (runs(copy))
            copy_stop(copy, STOP_UNNEEDED);
        else
            drop(copy);
    }
}

static void on_look_done(struct job *job, const struct err *err)
{
    struct control *control = job->control;
    struct abroad *abroad = control->abroad;
    if (err && err->code != ERR_CANCELED)
        log_warn("control", "what is to be copied is not known, looking again with the next change",
                 LOG_S("error", err->message));
    else if (!err)
        take_rows(control);
    arena_free(take_ptr(abroad->look_arena));
    abroad->look_count = 0;
    if (abroad->look_again && !control->closing)
        copies_look(control);
    else
        copies_run(control);
}

void copies_look(struct control *control)
{
    struct abroad *abroad = control->abroad;
    abroad->look_again = abroad->look_arena != NULL;
    if (abroad->look_again)
        return;
    abroad->look_arena = arena_new();
    job_start(control, &abroad->look, JOB_WRITE, on_look_run, on_look_done, abroad);
}

void copies_changed(struct control *control, const struct abroad_found *found)
{
    if (found) /* whoever deploys again does not wait for the next try */
        copies_again(control, found->host);
    if (found || control->abroad->copies.count)
        copies_look(control);
}

void copies_again(struct control *control, struct slice host)
{
    MAP_EACH (entry, &control->abroad->copies) {
        struct copy *copy = entry->value;
        if (!slice_equal_nocase(copy->host, host))
            continue;
        copy->next_ms = 0;
        copy->failures = 0;
        copy->why = (struct err){};
        copy->lasting = false;
        refresh(control, &copy->digest);
    }
    copies_run(control);
}

void copies_close(struct abroad *abroad)
{
    MAP_EACH (entry, &abroad->copies)
        copy_free(entry->value);
    map_deinit(&abroad->copies);
}

/* ---- how far it is --------------------------------------------------------------------------- */

void copies_state(struct control *control, const struct snapshot *snapshot, uint64_t number,
                  struct copies_state *ret)
{
    const struct store_revision *revision = snapshot_revision(snapshot, number);
    uint64_t missing = 0;
    *ret = (struct copies_state){};
    for (size_t i = 0; i < snapshot->origin_count; i++) {
        const struct store_origin *origin = &snapshot->origins[i];
        if (origin->number != number)
            continue;
        const struct copy *copy =
            control->abroad ? map_get(&control->abroad->copies, origin->digest) : NULL;
        uint64_t done = copy ? atomic_load(&copy->done) : 0;
        ret->copying = true;
        ret->host = origin->host.data;
        missing += origin->bytes - (done < origin->bytes ? done : origin->bytes);
        if (copy && copy->why.code && (!ret->why || copy->lasting)) {
            ret->why = copy->why.message;
            ret->lasting = ret->lasting || copy->lasting;
        }
    }
    ret->bytes = revision ? revision->model_bytes : missing;
    ret->bytes_done = ret->bytes > missing ? ret->bytes - missing : 0;
}
