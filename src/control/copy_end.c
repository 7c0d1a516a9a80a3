/* SPDX-License-Identifier: Apache-2.0 */
/* What the end of a copy means for endpoints: rows, events, and how they look then. */
#include "base/arena.h"
#include "control/copies_own.h"
#include "control/hub.h"
#include "store/blobs.h"
#include "store/store.h"

void copy_add_event(struct copy *copy, const struct store_endpoint *row, const char *kind,
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
            copy_add_event(copy, &snapshot->row, "copy_done",
                           arena_format(copy->run_arena,
                                        "revision %llu: all of it is here, from %.*s",
                                        (unsigned long long)number, SLICE_FMT(copy->host)));
        last = number;
    }
    return 0;
}

int copy_end_run(struct job *job, struct store *store, struct err *err)
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

int copy_failure_run(struct job *job, struct store *store, struct err *err)
{
    return keep_events(job->data, store, err);
}
