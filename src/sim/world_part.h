/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_part.h -- what the files of the simulated world share. Inside sim/; one thread.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "sim/world.h"

struct world {
    struct env env; /* first: the env is the world */
    int64_t now_ns, wall_offset_ns;
    struct env_timers timers;
    uint64_t random[4]; /* what env_random gives */
    uint64_t chance[4]; /* what the world itself draws: neither disturbs the other */
    uint64_t trace, events;
    void (*on_step)(struct world *world, void *data);
    void *on_step_data;

    struct {
        unsigned countdown;
        uint32_t chance_ppm;
        uint64_t calls;
    } faults[WORLD_FAULTS];

    struct map files;   /* path to struct file */
    struct map folders; /* path to its own text */
    struct list saves;  /* struct save, in order */
    int64_t disk_ns_min, disk_ns_max, saved_last_ns;

    struct list programs;  /* struct program */
    struct list processes; /* struct process, oldest first; ended ones are freed */
    uint64_t process_last;

    struct list listeners; /* struct listener */
    struct list channels;  /* struct env_channel */
    int64_t latency_ns_min, latency_ns_max;
};

static inline struct world *world_of(struct env *env)
{
    return (struct world *)env;
}

/* Something happened: goes into the trace. */
void world_note(struct world *world, const char *what, uint64_t detail);
/* Uniform in [low, high]. */
int64_t world_draw(struct world *world, int64_t low, int64_t high);
/* Counts the call; negative with `err` set when this one is to fail. */
int world_may_fail(struct world *world, enum world_fault fault, const char *what, struct err *err);

void world_disk_init(struct world *world);
void world_disk_deinit(struct world *world);
void world_processes_init(struct world *world);
void world_processes_deinit(struct world *world);
void world_channels_init(struct world *world);
void world_channels_deinit(struct world *world);
