/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h -- a world made from a seed: the struct env that tests and `perigee simulate` run under.
 *
 * Its clock stands still until world_run() or world_step() moves it to the next thing due; so a day
 * takes as long as what happens in it. Disk, processes and channels are in memory and fail when
 * they are told to. The same seed and the same calls give the same world, to the last event:
 * world_trace() is a hash over all that happened.
 *
 * Ownership: the world owns everything that its env gave out; world_free() calls nobody back.
 * One thread.
 */
#pragma once

#include "base/env.h"

struct world;

struct world *world_new(uint64_t seed);
void world_free(struct world *world);       /* NULL is allowed */
struct env *world_env(struct world *world); /* lives as long as the world */

/* Runs the next thing due; false when nothing is. */
bool world_step(struct world *world);
/* Runs all that is due in `duration_ns` from now; the clock then stands at its end. */
void world_run(struct world *world, int64_t duration_ns);
/* on_step runs after each event: the place for checkers. */
void world_on_step(struct world *world, void (*on_step)(struct world *world, void *data),
                   void *data);

uint64_t world_trace(const struct world *world);
uint64_t world_events(const struct world *world);           /* how many ran so far */
void world_wall_jump(struct world *world, int64_t jump_ns); /* the wall clock alone */

/* --- faults -------------------------------------------------------------------------------- */

enum world_fault {
    WORLD_FILE_READ,
    WORLD_FILE_REPLACE,
    WORLD_FILE_SAVE, /* and file_append */
    WORLD_FILE_REMOVE,
    WORLD_FILE_LIST,
    WORLD_FOLDER_MAKE,
    WORLD_CHANNEL_OPEN,
    WORLD_CHANNEL_SEND,
    WORLD_PROCESS_START,
    WORLD_FAULTS,
};

/* The nth such call from now fails (1: the next one; 0: none does). For n = 1, 2, 3 ... until it
 * does not: world_calls() says how many there were. */
void world_fail(struct world *world, enum world_fault fault, unsigned nth);
/* Besides, each fails with this chance, in millionths. */
void world_fail_often(struct world *world, enum world_fault fault, uint32_t chance_ppm);
uint64_t world_calls(const struct world *world, enum world_fault fault);

/* --- disk ------------------------------------------------------------------------------------ */

/* How long a save is under way; order is kept. 100 us to 10 ms unless told. One that fails does so
 * at its end. */
void world_disk_latency(struct world *world, int64_t min_ns, int64_t max_ns);
/* The process that saves has died: of what is under way the first is done or not, whole, the others
 * are not; nobody is called. */
void world_saves_lose(struct world *world);

/* "/" is there from the first; parents are not made by themselves. */
void world_folder_make(struct world *world, const char *folder);
/* The file's bytes become these at once, whatever is told to fail; data NULL: it goes. */
void world_file_set(struct world *world, const char *path, struct slice bytes);
size_t world_files(const struct world *world);

/* --- processes ------------------------------------------------------------------------------- */

struct world_program {
    const char *name;                   /* what env_spawn.program says; borrowed */
    int64_t lives_ns_min, lives_ns_max; /* until it exits by itself; max 0: never */
    int exit_code, exit_signal;         /* and then how */
    int64_t stop_ns;                    /* from any signal but SIGKILL to its end */
    uint64_t memory_max;
    /* It runs now (NULL: nobody asks): the place to open its end of a channel. `arguments` are
     * those it was started with, and last until it ends. */
    void (*on_started)(struct world *world, uint64_t process, const char *const *arguments,
                       void *data);
    void *data;
};

/* A program not told of here is not found. Told again, it is replaced; the running go on as they
 * were. */
void world_program(struct world *world, const struct world_program *program);
size_t world_running(const struct world *world, const char *program); /* NULL: of all programs */
/* The oldest running process of the program, or 0. */
uint64_t world_process(const struct world *world, const char *program);
/* A running process ends now, as if by itself. */
void world_process_exit(struct world *world, uint64_t process, int code, int signal);

/* --- channels -------------------------------------------------------------------------------- */

/* Somebody opened a channel to the peer: `channel` is the peer's end, whose messages are lost
 * until world_channel_events(). */
typedef void (*world_accept_cb)(struct world *world, struct env_channel *channel, void *data);

/* on_accept NULL: nobody listens there any more. `peer` is borrowed. */
void world_listen(struct world *world, const char *peer, world_accept_cb on_accept, void *data);
void world_channel_events(struct env_channel *channel, const struct env_channel_events *events,
                          void *data);
/* How long a message is under way; order is kept. 10 us to 100 us unless told. */
void world_latency(struct world *world, int64_t min_ns, int64_t max_ns);
/* All channels to the peer break; what is under way is lost. */
void world_cut(struct world *world, const char *peer);
