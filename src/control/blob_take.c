/* SPDX-License-Identifier: Apache-2.0 */
#include "control/blob_take.h"

#include <stdlib.h>

#include "base/auto.h"
#include "control/control_own.h"
#include "store/blobs.h"

enum { BUFFER_BYTES = 512 << 10 };

static struct blob_take *take_of(struct request *q)
{
    return q->data;
}

void blob_take_end(struct blob_take *take)
{
    blob_upload_free(take_ptr(take->upload));
    free(take_ptr(take->filling));
    free(take_ptr(take->writing));
}

void blob_take_closed(struct request *q)
{
    if (!q->running)
        blob_take_end(take_of(q));
}

static void end(struct request *q, const struct err *err)
{
    struct blob_take *take = take_of(q);
    if (take->ended || !q->x)
        return;
    take->ended = true;
    take->on_end(q, err);
}

/* ---- writing -------------------------------------------------------------------------------- */

static int on_write_run(struct job *job, struct store *store, struct err *err)
{
    struct blob_take *take = take_of(request_of_job(job));
    (void)store;
    return blob_upload_write(take->upload, take->writing, take->to_write, err);
}

static void write_next(struct request *q);

static void on_write_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (!q->x) {
        blob_take_closed(q);
        return;
    }
    if (err) {
        end(q, err);
        return;
    }
    metric_add(control_count(q->control, CONTROL_UPLOADED_BYTES, NULL), take_of(q)->to_write);
    write_next(q);
}

/* Hands a full buffer (at the end: any) to the thread, when it has none. */
static void write_next(struct request *q)
{
    struct blob_take *take = take_of(q);
    if (q->running || take->ended)
        return;
    if (take->why.code) {
        end(q, &take->why);
        return;
    }
    bool full = take->filled == BUFFER_BYTES;
    if (take->filled && (full || take->body_ended)) {
        char *buffer = take->writing;
        take->writing = take->filling;
        take->filling = buffer;
        take->to_write = take->filled;
        take->filled = 0;
        request_disk(q, on_write_run, on_write_done);
        if (full && !take->body_ended)
            exchange_body_resume(q->x);
    } else if (take->body_ended) {
        end(q, NULL);
    }
}

static void on_body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct blob_take *take = take_of(data);
    (void)x;
    *ret_space = (struct iovec){ take->filling + take->filled, BUFFER_BYTES - take->filled };
}

static void on_body(struct exchange *x, size_t bytes, void *data)
{
    struct blob_take *take = take_of(data);
    (void)x;
    take->filled += bytes;
    if (take->filled == BUFFER_BYTES)
        write_next(data);
}

static void on_body_end(struct exchange *x, const struct err *err, void *data)
{
    struct blob_take *take = take_of(data);
    (void)x;
    take->body_ended = !err;
    if (err)
        take->why = *err; /* told once the thread has let go of upload and buffer */
    write_next(data);
}

static void on_closed(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    request_closed(data);
}

static const struct exchange_handler take_handler = { on_body_space, on_body, on_body_end,
                                                      on_closed };

void blob_take_start(struct request *q, uint64_t bytes_max)
{
    struct blob_take *take = take_of(q);
    struct err err;
    take->filling = mem_alloc(BUFFER_BYTES);
    take->writing = mem_alloc(BUFFER_BYTES);
    exchange_set_handler(q->x, &take_handler, q);
    if (exchange_body_start(q->x, bytes_max, &err) < 0)
        end(q, &err);
}
