/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the main thread tells a loop. Everything told is a small heap object with a reference to
 * what it is about; loop_post() keeps the order, so that a replica is attached before it is ready,
 * and ready before it is gone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "gateway/admit.h"
#include "gateway/core.h"
#include "gateway/dispatch.h"
#include "gateway/forward.h"
#include "gateway/mesh.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "gateway/shard_own.h"
#include "gateway/target.h"
#include "io/loop.h"
#include "io/socket.h"
#include "sys/fd.h"

static void on_pipe(struct watch *watch, unsigned events, void *data)
{
    struct lane *lane = data;
    struct gateway_loop *gl = lane->owner;
    bool ended = false;
    (void)events;

    lane_pipe_drain(lane, &ended);
    if (ended) /* it is dying; that it is dead, the supervisor says */
        watch_set(watch, 0);
    if (lane_pipe_flooded(lane) && !lane->lied) {
        lane->lied = true; /* its tickets come back when it was reaped */
        watch_set(watch, 0);
        list_remove(&lane->link_active);
        shard_kill(gl, lane, REPLICA_END_LIED, "it wakes the gateway without a cause");
        return;
    }
    if (!lane->ready && gl->index == 0)
        shard_report_look(gl, lane->replica->id);
    if (!list_empty(&lane->link_active)) {
        lane_disarm(lane);
        dispatch_completions(gl, lane);
    }
}

struct tell {
    struct gateway_loop *gl;
    struct replica *replica;   /* a reference, or NULL */
    struct table *table;       /* likewise */
    struct revision *revision; /* likewise */
    struct mesh_view *mesh;    /* likewise */
    struct message_repository_done done;
    int fd; /* -1: none */
};

static struct tell *tell_new(struct gateway_loop *gl)
{
    struct tell *tell = mem_zalloc(sizeof *tell);

    tell->gl = gl;
    tell->fd = -1;
    return tell;
}

static void tell_free(struct tell *tell)
{
    replica_unref(tell->replica);
    revision_unref(tell->revision);
    table_unref(tell->table);
    mesh_view_unref(tell->mesh);
    fd_close(&tell->fd);
    free(tell);
}

static struct lane *tell_lane(const struct tell *tell)
{
    return &tell->replica->lanes[tell->gl->index];
}

static struct revision_side *lane_side(struct gateway_loop *gl, const struct lane *lane)
{
    return &((struct revision *)lane->replica->owner)->sides[gl->index];
}

static void on_attach(void *data)
{
    struct tell *tell = data;
    struct lane *lane = tell_lane(tell);

    replica_ref(tell->replica);     /* the lane's, until on_gone, */
    (void)take_ptr(tell->revision); /* and so is this one */
    lane->owner = tell->gl;
    if (lane->pipe >= 0)
        lane->watch = watch_new(tell->gl->loop, lane->pipe, WATCH_READ, on_pipe, lane);
    tell_free(tell);
}

static void on_ready(void *data)
{
    struct tell *tell = data;
    struct lane *lane = tell_lane(tell);
    struct revision_side *side = lane_side(tell->gl, lane);

    if (!lane->ready && !lane->draining && !lane->gone && lane->pipe >= 0) {
        lane->ready = true;
        if (side->lane_count++ == 0)
            side->ready_since_ns = loop_now_ns();
        list_append(&side->lanes, &lane->link);
        admit_continue(side);
    }
    tell_free(tell);
}

static void lane_out(struct gateway_loop *gl, struct lane *lane)
{
    struct revision_side *side = lane_side(gl, lane);

    if (list_empty(&lane->link))
        return;
    list_remove(&lane->link);
    side->lane_count--;
}

static void on_drain_lane(void *data)
{
    struct tell *tell = data;
    struct gateway_loop *gl = tell->gl;
    struct lane *lane = tell_lane(tell);

    if (!lane->draining && !lane->gone) {
        lane->draining = true;
        lane_out(gl, lane);
        if (lane->outstanding == 0)
            shard_lane_drained(gl, lane->replica->id);
        admit_review(gl);
    }
    tell_free(tell);
}

static void on_gone(void *data)
{
    struct tell *tell = data;
    struct gateway_loop *gl = tell->gl;
    struct lane *lane = tell_lane(tell);
    struct revision *revision = lane->replica->owner;

    lane_out(gl, lane);
    if (!lane->lied && lane->outstanding > 0)
        dispatch_completions(gl, lane); /* what it had answered before it died, is answered */
    lane->gone = true;
    lane->owner = NULL;
    watch_free(take_ptr(lane->watch));
    dispatch_abandon(gl, lane);
    gl->dropped += lane->dropped;
    admit_review(gl);
    replica_unref(tell->replica);
    revision_unref(revision);
    tell_free(tell);
}

static void on_revision(void *data)
{
    struct tell *tell = data;

    admit_continue(&tell->revision->sides[tell->gl->index]);
    tell_free(tell);
}

static bool name_in(const struct table *table, struct slice name)
{
    for (uint32_t i = 0; i < table->head->endpoints.count; i++)
        if (slice_equal(table_text(table->head, table_endpoint(table->head, i)->name), name))
            return true;
    return false;
}

/* Series of endpoints that were deleted go; in time the slice would be full of them. A request that
 * still runs finds its pointers gone, and at worst makes a series anew. */
static void series_forget(struct gateway_loop *gl, const struct table *old, const struct table *new)
{
    for (uint32_t i = 0; i < old->head->endpoints.count; i++) {
        struct slice name = table_text(old->head, table_endpoint(old->head, i)->name);
        if (name_in(new, name))
            continue;
        struct endpoint_side *side = &old->endpoints[i]->sides[gl->index];
        free(take_ptr(side->series));
        side->requests_ok = side->proxied_answered = NULL;
        for (unsigned row = 0; row < gateway_metrics_count; row++)
            if (strncmp(gateway_metrics.rows[row].labels, "project,endpoint", 16) == 0)
                metrics_forget(&gl->metrics, row, 1, name);
    }
}

static void on_table(void *data)
{
    struct tell *tell = data;
    struct table *old = tell->gl->table;

    tell->gl->table = take_ptr(tell->table);
    targets_changed(tell->gl, old, tell->gl->table);
    forwards_table(tell->gl);
    metric_set(metrics_series(&tell->gl->metrics, GATEWAY_TABLE, NULL),
               tell->gl->index == 0 ? (int64_t)tell->gl->table->head->number : 0);
    if (old) {
        admit_review(tell->gl);
        series_forget(tell->gl, old, tell->gl->table);
    }
    proxies_table(tell->gl);
    if (atomic_fetch_sub(&tell->gl->table->untaken, 1) == 1)
        shard_report_served(tell->gl, tell->gl->table->head->number);
    table_unref(old);
    tell_free(tell);
}

static void on_mesh(void *data)
{
    struct tell *tell = data;
    struct mesh_view *old = tell->gl->mesh;

    tell->gl->mesh = take_ptr(tell->mesh);
    mesh_view_unref(old);
    forwards_review(tell->gl);
    tell_free(tell);
}

static void on_done(void *data)
{
    struct tell *tell = data;

    repository_done(tell->gl, &tell->done);
    tell_free(tell);
}

static void on_inside(void *data)
{
    struct tell *tell = data;

    proxies_inside(tell->gl, take_fd(tell->fd));
    tell_free(tell);
}

/* What a lane leans on is referenced here, by the main thread: it may sweep the revision away
 * before the loop has come to look. */
void shard_tell_attach(struct gateway_loop *gl, struct replica *replica)
{
    struct tell *tell = tell_new(gl);

    tell->replica = replica_ref(replica);
    tell->revision = revision_ref(replica->owner);
    loop_post(gl->loop, on_attach, tell);
}

static void tell_replica(struct gateway_loop *gl, struct replica *replica, void (*fn)(void *data))
{
    struct tell *tell = tell_new(gl);

    tell->replica = replica_ref(replica);
    loop_post(gl->loop, fn, tell);
}

void shard_tell_ready(struct gateway_loop *gl, struct replica *replica)
{
    tell_replica(gl, replica, on_ready);
}

void shard_tell_drain(struct gateway_loop *gl, struct replica *replica)
{
    tell_replica(gl, replica, on_drain_lane);
}

void shard_tell_gone(struct gateway_loop *gl, struct replica *replica)
{
    tell_replica(gl, replica, on_gone);
}

void shard_tell_revision(struct gateway_loop *gl, struct revision *revision)
{
    struct tell *tell = tell_new(gl);

    tell->revision = revision_ref(revision);
    loop_post(gl->loop, on_revision, tell);
}

void shard_tell_table(struct gateway_loop *gl, struct table *table)
{
    struct tell *tell = tell_new(gl);

    tell->table = table_ref(table);
    loop_post(gl->loop, on_table, tell);
}

void shard_tell_mesh(struct gateway_loop *gl, struct mesh_view *mesh)
{
    struct tell *tell = tell_new(gl);

    tell->mesh = mesh_view_ref(mesh);
    loop_post(gl->loop, on_mesh, tell);
}

void shard_tell_done(struct gateway_loop *gl, const struct message_repository_done *done)
{
    struct tell *tell = tell_new(gl);

    tell->done = *done;
    loop_post(gl->loop, on_done, tell);
}

void shard_tell_inside(struct gateway_loop *gl, int fd)
{
    struct tell *tell = tell_new(gl);

    tell->fd = fd;
    loop_post(gl->loop, on_inside, tell);
}
