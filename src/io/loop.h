/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h -- an event loop: one per thread, and the one call that crosses threads.
 *
 * The thread that calls loop_run() owns the loop and everything on it. loop_post() and loop_send()
 * may be called from any thread; nothing else here may. Every handle on a loop (timers, streams,
 * watches) is closed by its owner before loop_free().
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct loop;
struct uv_loop_s;

struct loop *loop_new(void);
/* NULL is allowed. Waits for handles that are being closed; messages sent and not yet seen run now,
 * what was posted is forgotten. */
void loop_free(struct loop *loop);

/* Runs until loop_stop(). What is posted before it runs is kept. */
void loop_run(struct loop *loop);
/* One pass: waits for an event, or not at all. For tests. */
void loop_run_once(struct loop *loop, bool wait);
void loop_stop(struct loop *loop); /* loop thread; another one posts a call of it */

/* Monotonic. now_ms is taken once a pass and cheap; now_ns asks the clock. */
int64_t loop_now_ms(const struct loop *loop);
int64_t loop_now_ns(void);
int64_t loop_wall_s(void); /* seconds since 1970, for the Date header */

/* fn(data) runs on the loop's thread, in the order of each poster's calls. Any thread. */
void loop_post(struct loop *loop, void (*fn)(void *data), void *data);

/* The same without an allocation: the message is the caller's, and may be sent again or freed once
 * fn has been called. */
struct loop_message {
    struct loop_message *next;
    void (*fn)(void *data);
    void *data;
};
void loop_send(struct loop *loop, struct loop_message *message);

/* A call that shall come after this callback has returned, in the same pass. The task is the
 * caller's; it may be deferred again once it runs. Deferring twice is one run. Loop thread. */
struct loop_task {
    struct list link;
    void (*fn)(void *data);
    void *data;
};
void loop_task_init(struct loop_task *task, void (*fn)(void *data), void *data);
void loop_defer(struct loop *loop, struct loop_task *task);
void loop_task_cancel(struct loop_task *task); /* again is harmless */
static inline bool loop_task_waiting(const struct loop_task *task)
{
    return !list_empty(&task->link);
}

/* Those that wait now, without waiting for the next pass; false: there were none. For a sleeper. */
bool loop_run_deferred(struct loop *loop);
struct uv_loop_s *loop_uv(struct loop *loop); /* for io/ alone */
