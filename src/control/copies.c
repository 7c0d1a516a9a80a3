/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs of other registries: a job each, some at once, few of one registry; gone on with where they
 * were cut, believed once they have their digest; those that fail wait ever longer, and for good
 * only if nobody needs them any more. What is known of failures is in memory: a start tries anew.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "control/abroad_own.h"
#include "control/control_own.h"
#include "control/watch.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "io/timer.h"
#include "store/blobs.h"

enum {
    AT_ONCE_OF_ONE = 3, /* of one registry: a slow one does not hold up all */
    ATTEMPTS = 5,       /* in a row, as long as each brings something */
    IDLE_MS = 30'000,
    PROGRESS_MS = 1'000, /* how often it is shown */
    WAIT_MS = 1'000,     /* after a failure; then twice as long each time, up to */
    WAIT_MS_MAX = 60'000,
    LASTING_MS = 30'000, /* where the same again will hardly help */
    LASTING_MS_MAX = 600'000,
};

struct copy {
    struct control *control; /* borrowed */
    struct arena *arena;     /* its own: of the texts */
    struct slice digest, host, repository;
    uint64_t bytes;
    bool running, needed;
    unsigned failures;
    int64_t next_ms; /* the loop's clock */
    struct err why;  /* the last failure; code 0: none */
    bool lasting;
    _Atomic uint64_t done; /* bytes that are here */

    /* of a run */
    struct job job;
    struct arena *run_arena;
    struct abroad_ask ask;
    struct blob_upload *upload; /* sealed, without its name */
    struct elsewhere_trouble trouble;
    struct err body_err;
    int64_t now_ns;
    uint64_t brought;
    /* what its end touches */
    struct snapshot **snapshots;
    size_t snapshot_count;
    struct store_event *events;
    size_t event_count;
};

/* ---- on the thread --------------------------------------------------------------------------- */

static bool on_body(struct slice bytes, void *data)
{
    struct copy *copy = data;
    int r = blob_upload_write(copy->upload, bytes.data, bytes.size, &copy->body_err);
    if (r < 0)
        return false;
    atomic_store(&copy->done, blob_upload_offset(copy->upload));
    copy->brought += bytes.size;
    return true;
}

/* From `offset` on. 1: the registry knows no ranges. */
static int copy_rest(struct copy *copy, struct elsewhere *elsewhere, uint64_t offset,
                     struct err *err)
{
    struct blobs *blobs = copy->ask.blobs;
    struct fetch_answer answer;
    int r =
        blob_upload_begin(blobs, copy->digest, offset, copy->bytes, &offset, &copy->upload, err);
    if (r < 0)
        return r;
    atomic_store(&copy->done, offset);
    const struct elsewhere_call call = {
        .path = arena_format(copy->run_arena, "blobs/%.*s", SLICE_FMT(copy->digest)),
        .from = offset,
        .idle_ms = IDLE_MS,
        .on_body = on_body,
        .data = copy,
    };
    copy->body_err = (struct err){};
    if (offset < copy->bytes) {
        r = elsewhere_call(elsewhere, &call, copy->run_arena, &answer, &copy->trouble, err);
        if (copy->body_err.code) {
            *err = copy->body_err;
            r = err->code;
            copy->trouble.lasting = r == ERR_TOO_LARGE;
        }
        if (r == 0 && offset && answer.status == 200)
            return 1;
    }
    if (r == 0 && blob_upload_offset(copy->upload) < copy->bytes)
        r = err_set(err, ERR_INTERNAL, "%s sent %llu of %llu bytes", copy->ask.registry.host,
                    (unsigned long long)blob_upload_offset(copy->upload),
                    (unsigned long long)copy->bytes);
    return r;
}

static int copy_some(struct copy *copy, struct elsewhere *elsewhere, struct err *err)
{
    uint64_t have = blob_upload_have(copy->ask.blobs, copy->digest);
    int r = copy_rest(copy, elsewhere, have < copy->bytes ? have : 0, err);
    if (r == 1) {
        blob_upload_free(take_ptr(copy->upload));
        r = copy_rest(copy, elsewhere, 0, err);
    }
    if (r == 0) {
        r = blob_upload_seal(copy->upload, err);
        if (r == ERR_BAD_INPUT) {
            copy->trouble.lasting = true;
            r = err_set(err, ERR_BAD_INPUT, "%s sent other bytes than %.*s names",
                        copy->ask.registry.host, SLICE_FMT(copy->digest));
        }
    }
    if (r < 0)
        blob_upload_free(take_ptr(copy->upload));
    return r;
}

static int copy_all(struct copy *copy, struct elsewhere *elsewhere, struct err *err)
{
    int r = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        uint64_t before = copy->brought;
        copy->trouble = (struct elsewhere_trouble){};
        r = copy_some(copy, elsewhere, err);
        if (r == 0 || r == ERR_CANCELED || copy->trouble.lasting || copy->trouble.retry_ms ||
            copy->body_err.code /* our own disk's */ || copy->brought == before ||
            atomic_load(copy->ask.stop))
            break;
    }
    return r;
}

static int on_copy_run(struct job *job, struct store *store, struct err *err)
{
    struct copy *copy = job->data;
    uint64_t bytes;
    (void)store;
    if (blobs_find(copy->ask.blobs, copy->digest, &bytes, err) == 0)
        return 0; /* it came by another way */
    struct arena *secret = arena_new_secret();
    struct elsewhere elsewhere;
    int r = abroad_unseal(&copy->ask, secret, err);
    if (r < 0) {
        copy->trouble.lasting = true;
    } else {
        elsewhere_open(&elsewhere, &copy->ask.registry,
                       arena_string(copy->run_arena, copy->repository), copy->ask.stop);
        r = copy_all(copy, &elsewhere, err);
        elsewhere_close(&elsewhere);
    }
    arena_free(secret);
    return r;
}

/* ---- what its end means for endpoints -------------------------------------------------------- */

static void add_event(struct copy *copy, const struct store_endpoint *row, const char *kind,
                      const char *message)
{
    copy->events[copy->event_count++] = (struct store_event){
        .endpoint_uid = row->uid,
        .at_ns = copy->now_ns,
        .kind = slice_of(kind),
        .project = row->project,
        .endpoint = row->name,
        .message = slice_of(message),
    };
}

static int keep_events(struct copy *copy, struct store *store, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < copy->event_count && r == 0; i++)
        r = store->event_add(store, &copy->events[i], err);
    return r;
}

/* Those that `before` has, and the snapshot no more, are here whole now. */
static int add_whole(struct copy *copy, const struct snapshot *snapshot,
                     const struct store_origin *before, size_t count)
{
    uint64_t last = 0;
    size_t room = 0;
    for (size_t i = 0; i < count; i++)
        room += before[i].number != (i ? before[i - 1].number : 0);
    struct store_event *events =
        ARENA_ARRAY(copy->run_arena, struct store_event, copy->event_count + room + 1);
    for (size_t i = 0; i < copy->event_count; i++)
        events[i] = copy->events[i];
    copy->events = events;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = before[i].number;
        if (number != last && !snapshot_waits(snapshot, number))
            add_event(copy, &snapshot->row, "copy_done",
                      arena_format(copy->run_arena, "revision %llu: all of it is here, from %.*s",
                                   (unsigned long long)number, SLICE_FMT(copy->host)));
        last = number;
    }
    return 0;
}

static int on_end_run(struct job *job, struct store *store, struct err *err)
{
    struct copy *copy = job->data;
    struct arena *arena = copy->run_arena;
    const struct store_blob row = { copy->digest, copy->bytes, copy->now_ns };
    uint64_t *uids;
    size_t count = 0;
    int r = copy->upload ? blob_upload_name(copy->upload, err) : 0;
    if (r == 0)
        r = store->blob_put(store, &row, err);
    if (r == 0)
        r = store->origin_endpoints(store, copy->digest, arena, &uids, &count, err);
    if (r < 0)
        return r;
    struct store_origin **before = ARENA_ARRAY(arena, struct store_origin *, count + 1);
    size_t *befores = ARENA_ARRAY(arena, size_t, count + 1);
    copy->snapshots = ARENA_ARRAY(arena, struct snapshot *, count + 1);
    for (size_t i = 0; i < count && r == 0; i++)
        r = store->origin_of(store, uids[i], arena, &before[i], &befores[i], err);
    if (r == 0)
        r = store->origin_delete(store, copy->digest, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        r = snapshot_load(store, uids[i], &copy->snapshots[copy->snapshot_count], err);
        if (r == 0)
            r = add_whole(copy, copy->snapshots[copy->snapshot_count++], before[i], befores[i]);
    }
    return r < 0 ? r : keep_events(copy, store, err);
}

static int on_failure_run(struct job *job, struct store *store, struct err *err)
{
    return keep_events(job->data, store, err);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

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
    copy->running = false;
    copy->control->abroad->running--;
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

/* The same failure again is no event, and no line of the log. */
static void failed(struct copy *copy, const struct err *err)
{
    struct control *control = copy->control;
    bool told = copy->why.code && strcmp(copy->why.message, err->message) == 0;
    copy->why = *err;
    copy->lasting = copy->trouble.lasting;
    /* What brought something begins anew with its waits, but not what the next try is to bring as
     * well: wrong bytes, and those that our own disk did not take. */
    copy->failures =
        copy->brought && !copy->lasting && !copy->body_err.code ? 1 : copy->failures + 1;
    wait_longer(copy);
    metric_add(control_count(control, CONTROL_COPIES_FAILED, &copy->host), 1);
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
            add_event(copy, &row, "copy_failed",
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
        job_start(control, &copy->job, JOB_WRITE, on_failure_run, on_failure_done, copy);
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

static void on_copy_done(struct job *job, const struct err *err)
{
    struct copy *copy = job->data;
    struct control *control = job->control;
    metric_add(control_count(control, CONTROL_COPIED_BYTES, &copy->host), copy->brought);
    copy->now_ns = control_wall_ns(control);
    if (control->closing || (err && err->code == ERR_CANCELED)) {
        run_end(copy);
    } else if (!copy->needed) {
        run_end(copy);
        drop(copy);
        copies_run(control);
    } else if (err) {
        failed(copy, err);
    } else {
        job_start(control, &copy->job, JOB_WRITE, on_end_run, on_end_done, copy);
    }
}

static void copy_start(struct copy *copy)
{
    struct control *control = copy->control;
    copy->running = true;
    control->abroad->running++;
    copy->brought = 0;
    copy->run_arena = arena_new();
    abroad_ask(control, copy->run_arena, copy->host, &copy->ask);
    job_start(control, &copy->job, JOB_COPY, on_copy_run, on_copy_done, copy);
}

static unsigned running_of(const struct abroad *abroad, struct slice host)
{
    unsigned count = 0;
    MAP_EACH (entry, &abroad->copies) {
        const struct copy *copy = entry->value;
        count += copy->running && slice_equal(copy->host, host);
    }
    return count;
}

static void on_timer(void *data)
{
    struct control *control = data;
    if (control->abroad->running)
        refresh(control, NULL);
    copies_run(control);
}

static void copies_run(struct control *control)
{
    struct abroad *abroad = control->abroad;
    int64_t now_ms = loop_now_ms(control->loop), next_ms = INT64_MAX;
    if (control->closing || control->draining)
        return;
    MAP_EACH (entry, &abroad->copies) {
        struct copy *copy = entry->value;
        if (copy->running)
            continue;
        if (copy->next_ms > now_ms)
            next_ms = copy->next_ms < next_ms ? copy->next_ms : next_ms;
        else if (abroad->running < COPIES_AT_ONCE &&
                 running_of(abroad, copy->host) < AT_ONCE_OF_ONE)
            copy_start(copy);
    }
    if (abroad->running && next_ms > now_ms + PROGRESS_MS)
        next_ms = now_ms + PROGRESS_MS;
    if (next_ms == INT64_MAX)
        return;
    if (!abroad->timer)
        abroad->timer = timer_new(control->loop, on_timer, control);
    timer_start(abroad->timer, (uint64_t)(next_ms - now_ms));
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
        if (copy->running) /* as it began; if it fails, the next run is as told now */
            continue;
        copy->bytes = row->bytes;
        if (slice_equal(copy->host, row->host) && slice_equal(copy->repository, row->repository))
            continue;
        copy->host = arena_copy(copy->arena, row->host);
        copy->repository = arena_copy(copy->arena, row->repository);
    }
    MAP_EACH (entry, &abroad->copies) {
        struct copy *copy = entry->value;
        if (!copy->needed && !copy->running)
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
