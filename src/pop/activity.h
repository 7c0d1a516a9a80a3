/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activity.h -- for control, and people who look: what each endpoint is asked for here and how long
 * answers take, of the last 5 to 10 s. From the gateway's counters. Loop thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct agent;
struct arena;
struct gateway_activity;
struct json_writer;

struct activity_counted { /* the counters at a time */
    struct arena *arena;  /* NULL: none */
    struct gateway_activity *rows;
    size_t count;
    int64_t at_ns;
};

struct activity { /* zeroed: nothing is known */
    struct activity_counted before, between;
};

/* The member "activity"; endpoints of which nothing happens are left out. */
void report_activity(struct json_writer *w, struct agent *agent);
void activity_deinit(struct activity *activity);
