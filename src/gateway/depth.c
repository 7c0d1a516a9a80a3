/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No lock: each adds itself, then looks, and takes itself out again when there was no room. Two
 * that look at the same time may both go, and come back; neither stays beyond the bound.
 */
#include "gateway/depth.h"

#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "gateway/request.h"
#include "io/loop.h"

bool depth_full(const struct request *request)
{
    const struct endpoint_waiting *waiting = request->endpoint->waiting;
    uint32_t count = atomic_load(&waiting[QUEUE_INTERACTIVE].count);

    if (request->waiter.class == QUEUE_BATCH)
        count += atomic_load(&waiting[QUEUE_BATCH].count);
    return count >= request->row->queue_depth;
}

static void give(struct request *request, uint64_t bytes)
{
    struct endpoint_waiting *waiting = &request->endpoint->waiting[request->waiter.class];

    atomic_fetch_sub(&waiting->count, 1);
    atomic_fetch_sub(&waiting->bytes, bytes);
}

static int take(struct request *request, uint64_t bytes, struct err *err)
{
    struct endpoint_waiting *waiting = request->endpoint->waiting;
    const struct table_endpoint *row = request->row;
    struct slice name = table_text(request->table->head, row->name);
    uint32_t count = atomic_fetch_add(&waiting[request->waiter.class].count, 1);
    uint64_t held = atomic_fetch_add(&waiting[request->waiter.class].bytes, bytes) + bytes;

    if (request->waiter.class == QUEUE_BATCH) {
        count += atomic_load(&waiting[QUEUE_INTERACTIVE].count);
        held += atomic_load(&waiting[QUEUE_INTERACTIVE].bytes);
    }
    if (count >= row->queue_depth) {
        give(request, bytes);
        request->shed = SHED_queue;
        return err_set(err, ERR_OVERLOADED, "the queue of endpoint '%.*s' is full (queue.depth %u)",
                       SLICE_FMT(name), row->queue_depth);
    }
    if (row->queue_bytes_max && held > row->queue_bytes_max) {
        give(request, bytes);
        request->shed = SHED_bytes;
        return err_set(
            err, ERR_OVERLOADED,
            "the queue of endpoint '%.*s' is full (inputs that wait may have %llu bytes, "
            "four times limits.body)",
            SLICE_FMT(name), (unsigned long long)row->queue_bytes_max);
    }
    return 0;
}

/* ---- making room ---------------------------------------------------------------------- */

static bool over(const struct endpoint *endpoint, const struct table_endpoint *row)
{
    const struct endpoint_waiting *waiting = endpoint->waiting;
    uint32_t count = 0;
    uint64_t bytes = 0;

    for (unsigned i = 0; i < QUEUE_CLASSES; i++) {
        count += atomic_load(&waiting[i].count);
        bytes += atomic_load(&waiting[i].bytes);
    }
    return count > row->queue_depth || (row->queue_bytes_max && bytes > row->queue_bytes_max);
}

static void newest_publish(struct endpoint_side *side)
{
    const struct request *newest =
        list_empty(&side->batch) ? NULL : LIST_OWNER(side->batch.previous, struct request, batch);

    atomic_store(&side->batch_newest_ns, newest ? newest->queued_ns : INT64_MIN);
}

/* Of those that wait on this loop, as long as there are too many on all. */
static void displace_here(struct gateway_loop *gl, struct endpoint *endpoint)
{
    struct endpoint_side *side = &endpoint->sides[gl->index];

    while (!list_empty(&side->batch)) {
        struct request *newest = LIST_OWNER(side->batch.previous, struct request, batch);
        if (!over(endpoint, newest->row))
            return;
        newest->shed = SHED_displaced;
        ANSWER_ERROR(newest, ERR_OVERLOADED,
                     "an interactive request took its place in the queue of endpoint '%.*s' "
                     "(queue.depth %u)",
                     SLICE_FMT(table_text(newest->table->head, newest->row->name)),
                     newest->row->queue_depth);
    }
}

struct displacement {
    struct gateway_loop *gl;
    struct endpoint *endpoint; /* a reference */
};

static void on_displace(void *data)
{
    struct displacement *displacement = data;

    displace_here(displacement->gl, displacement->endpoint);
    endpoint_unref(displacement->endpoint);
    free(displacement);
}

static void displace(struct gateway_loop *gl, struct endpoint *endpoint)
{
    struct gateway *gateway = gl->gateway;
    unsigned newest = gateway->loops;
    int64_t newest_ns = INT64_MIN;

    for (unsigned i = 0; i < gateway->loops; i++) {
        int64_t ns = atomic_load(&endpoint->sides[i].batch_newest_ns);
        if (ns > newest_ns) {
            newest_ns = ns;
            newest = i;
        }
    }
    if (newest == gl->index) {
        displace_here(gl, endpoint);
    } else if (newest < gateway->loops) {
        struct displacement *displacement = mem_zalloc(sizeof *displacement);
        displacement->gl = &gateway->loop[newest];
        displacement->endpoint = endpoint_ref(endpoint);
        loop_post(displacement->gl->loop, on_displace, displacement);
    }
}

/* ---- in and out ----------------------------------------------------------------------- */

int depth_enter(struct request *request, uint64_t bytes, struct err *err)
{
    struct endpoint *endpoint = request->endpoint;
    struct endpoint_side *side = &endpoint->sides[request->gl->index];

    assert(!request->counted);
    int r = take(request, bytes, err);
    if (r < 0)
        return r;
    request->counted = true;
    request->counted_bytes = bytes;
    if (request->waiter.class == QUEUE_BATCH) {
        list_append(&side->batch, &request->batch);
        newest_publish(side);
    } else if (over(endpoint, request->row)) {
        displace(request->gl, endpoint);
    }
    return 0;
}

void depth_leave(struct request *request)
{
    assert(request->counted);
    request->counted = false;
    give(request, request->counted_bytes);
    if (request->waiter.class == QUEUE_BATCH) {
        list_remove(&request->batch);
        newest_publish(&request->endpoint->sides[request->gl->index]);
    }
}
