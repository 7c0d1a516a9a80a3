/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.h -- how many replicas an endpoint has at least at a time of the day (`scale.schedule`).
 * Pure; zones' files are read by the caller; any thread. Times are seconds since 1970, UTC.
 *
 * A window begins whenever its cron fires in its zone, and holds for so long as it says, in elapsed
 * time: one of 10 h ends 10 h later also where the clocks are changed meanwhile. A time that clocks
 * do not show fires when they are put forward over it, one that they show twice the first time
 * (base/tzif.h). Where several windows hold at once the largest minimum counts; where none does,
 * `scale.min` alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spec/cron.h"

struct arena;
struct endpoint_spec;
struct tzif;

#define SCHEDULE_NEVER INT64_MAX

struct schedule_window {
    struct cron cron;
    const struct tzif *zone; /* NULL: it is not known here, and the window holds always */
    int64_t for_s;
    uint32_t min;
};

struct schedule {
    const struct schedule_window *windows;
    size_t count;
};

/* The zone of a name; NULL: not known. */
typedef const struct tzif *(*schedule_zone_cb)(struct slice name, void *data);
/* Windows lie in the arena, zones are borrowed from `find`. */
struct schedule schedule_of(struct arena *arena, const struct endpoint_spec *spec,
                            schedule_zone_cb find, void *data);

/* When it fires next, at `at` or later; when it fired last, up to `at`. */
int64_t schedule_window_next(const struct schedule_window *window, int64_t at);
int64_t schedule_window_before(const struct schedule_window *window, int64_t at);
bool schedule_window_holds(const struct schedule_window *window, int64_t at);
/* When it next begins or ceases to hold, after `at`; SCHEDULE_NEVER: it holds always. Where it
 * fires so often that no end is found soon, the answer is a time until which nothing changes. */
int64_t schedule_window_change(const struct schedule_window *window, int64_t at);

/* Replicas at least: the largest of `scale_min` and of those windows that hold. */
uint32_t schedule_min(const struct schedule *schedule, uint32_t scale_min, int64_t at);
/* When that number may be another, after `at`; SCHEDULE_NEVER: never. */
int64_t schedule_change(const struct schedule *schedule, int64_t at);

/* What will happen, for people. */
struct schedule_next {
    int64_t at;    /* it becomes `min` then; SCHEDULE_NEVER: it stays as it is */
    int64_t until; /* and is something else then; SCHEDULE_NEVER: nothing else for a year */
    uint32_t now, min;
    size_t window; /* whose minimum that is; schedule->count: scale.min's */
};
void schedule_look(const struct schedule *schedule, uint32_t scale_min, int64_t at,
                   struct schedule_next *ret);
/* The distinct minimums above `scale_min`, ascending; returns how many. */
size_t schedule_levels(const struct endpoint_spec *spec, uint32_t *ret, size_t room);
