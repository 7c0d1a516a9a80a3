/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs that nobody has any more: what was just deleted goes at once, and is looked at alone; all
 * else, what is old as well, is looked for now and then.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/job.h"
#include "store/blobs.h"
#include "store/collect.h"

#define BLOB_GRACE_NS (INT64_C(3600) * ENV_S)        /* between an upload and its deploy */
#define UPLOAD_GRACE_NS (INT64_C(24) * 3600 * ENV_S) /* of one that is not whole */

enum { LOOSE_MAX = 1024 }; /* that wait to be looked at: more are found by the next round */

struct sweep {
    struct job job;
    struct arena *arena; /* of the digests */
    struct slice *loose;
    size_t loose_count, count;
    int64_t now_ns;
    bool all; /* what is old as well, not only what was deleted */
};

static int on_run(struct job *job, struct store *store, struct err *err)
{
    struct sweep *sweep = job->data;
    struct blobs *blobs = job->control->blobs;
    if (!sweep->all)
        return store_blobs_collect(store, blobs, sweep->loose, sweep->loose_count, &sweep->count,
                                   err);
    (void)blobs_sweep_uploads(blobs, sweep->now_ns - UPLOAD_GRACE_NS);
    return store_blobs_sweep(store, blobs, sweep->now_ns - BLOB_GRACE_NS,
                             sweep->now_ns - CONTROL_LAYERS_KEPT_NS, &sweep->count, err);
}

static void start(struct control *control, bool all);

static void on_done(struct job *job, const struct err *err)
{
    struct sweep *sweep = job->data;
    struct control *control = job->control;
    if (err)
        log_warn("control", "blobs not put in order, trying later", LOG_S("error", err->message));
    else if (sweep->count && sweep->all)
        log_info("control", "blobs nobody needs removed", LOG_U("count", sweep->count));
    metric_set(control_count(control, CONTROL_BLOB_BYTES, NULL),
               (int64_t)blobs_total_bytes(control->blobs));
    control->sweep = NULL;
    arena_free(sweep->arena);
    free(sweep);
    if (control->loose_count && !err)
        start(control, false);
}

static void start(struct control *control, bool all)
{
    struct sweep *sweep = mem_zalloc(sizeof *sweep);
    sweep->now_ns = control_wall_ns(control);
    sweep->all = all;
    if (!all) {
        sweep->arena = take_ptr(control->loose_arena);
        sweep->loose = take_ptr(control->loose);
        sweep->loose_count = control->loose_count;
        control->loose_count = 0;
    }
    control->sweep = &sweep->job;
    job_start(control, &sweep->job, JOB_STORE, on_run, on_done, sweep);
}

void control_collect(struct control *control, struct slice digest)
{
    if (!control->loose_arena) {
        control->loose_arena = arena_new();
        control->loose = ARENA_ARRAY(control->loose_arena, struct slice, LOOSE_MAX);
    }
    if (control->loose_count < LOOSE_MAX)
        control->loose[control->loose_count++] = arena_copy(control->loose_arena, digest);
    if (!control->sweep)
        start(control, false);
}

void control_sweep(struct control *control)
{
    int64_t now_ns = env_now_ns(control->env), jump_ns;
    bool over =
        grace_over(&control->grace, now_ns, control_wall_ns(control), BLOB_GRACE_NS, &jump_ns);
    if (jump_ns)
        log_warn("control", "the wall clock jumped, keeping blobs that look old by it",
                 LOG_I("by_s", jump_ns / ENV_S));
    if (control->sweep || !over)
        return;
    start(control, true);
}

void control_sweep_close(struct control *control)
{
    arena_free(take_ptr(control->loose_arena));
}
