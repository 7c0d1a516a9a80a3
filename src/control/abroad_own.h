/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abroad_own.h -- what abroad.c and copies.c share: struct abroad. Loop thread only, but for
 * `stop`.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "control/abroad.h"
#include "control/job.h"

struct timer;

enum {
    COPIES_AT_ONCE = 4,
    LABELS_MAX = 64, /* who may deploy names as many hosts as they like */
};

struct abroad {
    struct arena *arena; /* of the rows */
    struct store_registry *rows;
    size_t count;
    atomic_bool stop;
    struct work_pool *ask_pool, *copy_pool; /* NULL: not needed yet */

    struct map copies;   /* by digest: struct copy */
    struct timer *timer; /* NULL: never needed yet */
    struct job look;
    struct arena *look_arena; /* NULL: none is under way */
    struct store_origin *look_rows;
    size_t look_count;
    bool look_again;
    struct map labels; /* of metrics: hosts, each its own value */
    struct arena *labels_arena;
    struct list running; /* struct copy */
    unsigned running_count;
    uint64_t turns; /* that were given out */
};

/* What metrics call that registry; it lives as long as `abroad`. */
struct slice abroad_label(struct abroad *abroad, struct slice host);
void copies_stop(struct abroad *abroad);  /* those that run end soon */
void copies_close(struct abroad *abroad); /* nothing of them runs */
