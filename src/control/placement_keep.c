/* SPDX-License-Identifier: Apache-2.0 */
/* What placement decided goes to the store, on its thread: soon, and of several changes the last.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/job.h"
#include "control/placement.h"
#include "io/timer.h"
#include "store/store.h"

enum { PLACE_SAVE_MS = 10 };

struct saving {
    struct job job;
    struct arena *arena;
    struct saved {
        uint64_t uid;
        struct store_placement *rows;
        size_t count;
    } * items;
    size_t count;
};

static int on_save_run(struct job *job, struct store *store, struct err *err)
{
    struct saving *saving = job->data;
    int r = 0;
    for (size_t i = 0; i < saving->count && r == 0; i++) {
        struct store_endpoint row;
        r = store->endpoint_get(store, saving->items[i].uid, saving->arena, &row, err);
        if (r == 0)
            r = store->placement_set(store, saving->items[i].uid, saving->items[i].rows,
                                     saving->items[i].count, err);
        else if (r == ERR_NOT_FOUND) /* deleted meanwhile */
            r = 0;
    }
    return r;
}

static void on_save_done(struct job *job, const struct err *err)
{
    struct saving *saving = job->data;
    struct control *control = job->control;
    /* Lost with the disk full: a control that starts then decides from nothing. */
    if (err)
        log_warn("control", "where endpoints are placed is not on disk",
                 LOG_S("error", err->message));
    for (size_t i = 0; i < saving->count && err; i++) {
        struct hub_endpoint *endpoint = hub_get(control, saving->items[i].uid);
        if (endpoint)
            endpoint->places_unsaved = true;
    }
    control->placing = NULL;
    arena_free(saving->arena);
    free(saving);
    if (!err && control->place_again)
        placement_save_soon(control);
}

static void save(struct saving *saving, struct hub_endpoint *endpoint)
{
    struct saved *item = &saving->items[saving->count++];
    item->uid = endpoint->snapshot->row.uid;
    item->count = endpoint->place_count;
    item->rows = ARENA_ARRAY(saving->arena, struct store_placement, item->count + 1);
    for (size_t i = 0; i < item->count; i++)
        item->rows[i] = (struct store_placement){
            .endpoint_uid = item->uid,
            .pop = arena_copy(saving->arena, endpoint->places[i].pop->name),
            .replicas = endpoint->places[i].replicas,
            .since_ns = endpoint->places[i].since_ns,
        };
    endpoint->places_unsaved = false;
}

static void on_save_soon(void *data)
{
    struct control *control = data;
    control->place_again = control->placing != NULL;
    if (control->placing || control->closing)
        return;
    struct saving *saving = mem_zalloc(sizeof *saving);
    saving->arena = arena_new();
    saving->items = ARENA_ARRAY(saving->arena, struct saved, control->hub.by_uid.count + 1);
    MAP_EACH (entry, &control->hub.by_uid) {
        struct hub_endpoint *endpoint = entry->value;
        if (endpoint->places_unsaved)
            save(saving, endpoint);
    }
    control->placing = &saving->job;
    job_start(control, &saving->job, JOB_WRITE, on_save_run, on_save_done, saving);
}

void placement_save_soon(struct control *control)
{
    if (control->closing) /* its timer has gone */
        return;
    if (!control->place_timer)
        control->place_timer = timer_new(control->loop, on_save_soon, control);
    if (!timer_running(control->place_timer))
        timer_start(control->place_timer, PLACE_SAVE_MS);
}
