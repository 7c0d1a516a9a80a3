/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life.h -- one container from its making to its removal.
 *
 *   CREATING -> CHECKING -> STARTING -> LOOKING -> RUNNING -> ENDED -> REMOVING -> GONE
 *      |           |            |           |          |                  ^
 *      +-----------+------------+-----------+----------+------------------+   (it failed, or is
 *                                                                              not wanted)
 *
 * CHECKING asks the engine whether it has the walls that it was asked for, LOOKING the kernel: a
 * container that lacks one is removed, and the end names it. One that runs already is asked for
 * both in LOOKING; or, where its process is known, the kernel then, and the engine when it comes.
 * Its death is seen by a pidfd on its first process, which is asked for again from the engine after
 * it was opened, as numbers are used again; the engine's word comes after that.
 *
 * Ownership: the caller owns the container until on_gone, in which it may be forgotten; then there
 * is nothing of it left at the engine, but where the engine could not be asked (`left`). The engine
 * outlives it. Loop thread only. Nothing is called back from inside a call made here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/sm.h"
#include "replica/engine/container.h"
#include "replica/engine/engine.h"

#define ENGINE_LIFE_STATES(X)                                                                      \
    X(ENGINE_CREATING, SM_TO(ENGINE_CHECKING) | SM_TO(ENGINE_REMOVING) | SM_TO(ENGINE_GONE))       \
    X(ENGINE_CHECKING, SM_TO(ENGINE_STARTING) | SM_TO(ENGINE_REMOVING))                            \
    X(ENGINE_STARTING, SM_TO(ENGINE_LOOKING) | SM_TO(ENGINE_REMOVING))                             \
    X(ENGINE_LOOKING, SM_TO(ENGINE_RUNNING) | SM_TO(ENGINE_ENDED) | SM_TO(ENGINE_REMOVING))        \
    X(ENGINE_RUNNING, SM_TO(ENGINE_ENDED) | SM_TO(ENGINE_REMOVING))                                \
    X(ENGINE_ENDED, SM_TO(ENGINE_REMOVING))                                                        \
    X(ENGINE_REMOVING, SM_TO(ENGINE_GONE))                                                         \
    X(ENGINE_GONE, 0)
SM_DECLARE(engine_life_state, ENGINE_LIFE_STATES)

struct engine_life;

struct engine_end {
    bool ran;                          /* its process was there */
    bool asked;                        /* by engine_life_stop() */
    bool out_of_memory;                /* by its control group, or by the engine */
    bool left;                         /* the engine did not answer: it may be there, killed */
    int exit_code;                     /* 128 + the signal; -1: not known */
    uint64_t cpu_us, memory_bytes_max; /* of its control group; 0: not known */
    char text[504]; /* why, in a sentence: "the entry point '/server' is not in the image" */
};

struct engine_life_events {
    /* It runs and has its walls. Its process is `pid`, the pidfd is the container's. */
    void (*on_running)(struct engine_life *life, int64_t pid, int pidfd, void *data);
    /* Of one stream in order; between the two there is none. */
    void (*on_log)(struct engine_life *life, struct slice text, bool is_error, void *data);
    /* One that on_running was called for has ended. How comes with on_gone, once the engine has
     * said so and it is removed: seconds later, or longer where the engine hangs. */
    void (*on_dead)(struct engine_life *life, void *data);
    void (*on_gone)(struct engine_life *life, const struct engine_end *end, void *data); /* last */
};

/* `container` and what it points to are copied, but for its environment, of which nothing is kept
 * once the engine has been told, and what is hidden, which outlives the container: the engine's
 * words are told without it. Its log driver is the engine's. */
struct engine_life *engine_life_begin(struct engine *engine, struct loop *loop,
                                      const struct engine_container *container,
                                      const struct engine_life_events *events, void *data);
/* The same of one that runs already, which somebody before us began: its walls are looked at anew,
 * and what it writes is told from now on. `id` is the engine's. */
struct engine_life *engine_life_adopt(struct engine *engine, struct loop *loop,
                                      const struct engine_container *container, struct slice id,
                                      const struct engine_life_events *events, void *data);
/* The same of one whose process is known already, without a word of the engine: its walls are those
 * that the kernel shows, until engine_life_heard(). Takes the pidfd; `address` as
 * engine_life_address() said it. */
struct engine_life *engine_life_resume(struct engine *engine, struct loop *loop,
                                       const struct engine_container *container, struct slice id,
                                       int64_t pid, int pidfd, struct slice address,
                                       const struct engine_life_events *events, void *data);
/* The engine is here: of one that was resumed it is asked for the walls, and for what it writes
 * from now on. Again is harmless. */
void engine_life_heard(struct engine_life *life);
/* The signal that its image asks to be ended by (SIGTERM), then SIGKILL after so long, by the
 * engine or, where it does not do so, by us. 0: SIGKILL now. Again is harmless; a shorter time
 * replaces a longer one. */
void engine_life_stop(struct engine_life *life, int64_t grace_ms);
/* SIGKILL without the engine, where its process is known. */
void engine_life_kill(struct engine_life *life);
/* It is of no use: killed and removed, and the end says this. */
void engine_life_fail(struct engine_life *life, const char *why);
/* Forgotten as it is, with no word to the engine: another will find it by its labels. */
void engine_life_free(struct engine_life *life);

enum engine_life_state engine_life_state(const struct engine_life *life);
const char *engine_life_id(const struct engine_life *life); /* the container's; empty: not yet */
/* Of the time until it ran: how long its walls were asked for and looked at. */
uint64_t engine_life_walls_ns(const struct engine_life *life);
/* In the network that it has, as the engine says it of one that runs; empty: none. */
const char *engine_life_address(const struct engine_life *life);

/* ---- what an end was (pure) ------------------------------------------------------------------ */

struct engine_end_seen {
    bool asked, engine_says; /* by us; the engine says that it ran out of memory */
    int exit_code;
    uint64_t memory_bytes_max, memory_bytes_limit, kills; /* of its control group */
};
/* cgroup v2 counts its kills in the parent's group too; v1 does not, but keeps what was most. */
bool engine_end_was_memory(const struct engine_end_seen *seen);
/* "it ended by itself with status 3", "it was killed (SIGSEGV)" ... */
void engine_end_text(const struct engine_end_seen *seen, char *text, size_t room);
