/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.h -- threads for blocking jobs (store, disk, name look-ups), with the result on a loop.
 *
 * A pool of our own: nothing of ours uses libuv's. A pool of one thread runs its jobs in order,
 * those that are `later` after all others, and is how the store has one writer. submit may be
 * called from any loop's thread; on_done runs on the loop named. The job's memory is the caller's
 * until on_done.
 */
#pragma once

#include <stdbool.h>

#include "io/loop.h"

struct work_pool;

struct work {
    void (*run)(struct work *work); /* on a thread of the pool */
    void (*on_done)(struct work *work,
                    bool canceled); /* on the loop; canceled: run was not called */
    bool later; /* behind all that are not, whenever those come; set before it is submitted */
    /* the pool's own from here */
    struct list link;
    struct loop *loop;
    struct loop_message message;
    bool canceled;
};

struct work_pool *work_pool_new(const char *name, unsigned threads);
/* Jobs that wait are canceled, those that run are waited for; loops must still be there. */
void work_pool_free(struct work_pool *pool); /* NULL is allowed */
void work_submit(struct work_pool *pool, struct loop *loop, struct work *work);
/* Takes the job back when no thread has it yet (on_done with canceled); else nothing happens. */
void work_cancel(struct work_pool *pool, struct work *work);
