/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env.h -- the world as a table: time, randomness, timers, disk, channels and processes.
 *
 * The supervisor's and the agent's logic reaches the world through this alone. Production is
 * sys/env_linux.c; sim/world.c is a world made from a seed. Contract, for every implementation:
 *   - one thread, that of the loop which drives it; callbacks run from that loop, never from
 *     inside the call that caused them;
 *   - file calls block shortly (state files of some KiB) and are done when they return, but
 *     file_save and file_append: those never wait for the disk;
 *   - a timer is the caller's storage: armed it belongs to the env until it is due or stopped.
 *     A stopped timer does not call. It may be started anew from its own callback;
 *   - on_exit runs exactly once for a process that started, after it was reaped;
 *   - a channel's on_closed runs exactly once, last, also after channel_close(); `err` says why and
 *     is never NULL: ERR_CANCELED when either side closed. Until then the channel may be named.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct env;
struct err;

#define ENV_US INT64_C(1000) /* in nanoseconds */
#define ENV_MS INT64_C(1000000)
#define ENV_S INT64_C(1000000000)

/* --- timers ---------------------------------------------------------------------------------- */

struct env_timer;
typedef void (*env_timer_cb)(struct env_timer *timer, void *data);

struct env_timer { /* zeroed before first use; fields are the env's */
    int64_t due_ns;
    uint64_t order;
    env_timer_cb on_due;
    void *data;
    uint32_t place; /* in the heap, from 1; 0: not armed */
};

/* A queue of such timers for implementations: earliest first, equals in the order they were
 * started. Owns the heap's memory, not the timers. */
struct env_timers {
    struct env_timer **heap;
    uint32_t count, room;
    uint64_t order;
};

void env_timers_deinit(struct env_timers *timers);
void env_timers_start(struct env_timers *timers, struct env_timer *timer, int64_t due_ns,
                      env_timer_cb on_due, void *data); /* an armed one is moved */
void env_timers_stop(struct env_timers *timers, struct env_timer *timer);
int64_t env_timers_next_ns(const struct env_timers *timers); /* INT64_MAX: none */
/* Runs those due at `now_ns` that were armed before this call began; returns how many. */
unsigned env_timers_run(struct env_timers *timers, int64_t now_ns);

/* --- processes ------------------------------------------------------------------------------- */

struct env_spawn {
    const char *program;            /* path of the executable, or what the simulation knows it by */
    const char *const *arguments;   /* NULL-terminated, [0] included */
    const char *const *environment; /* NULL-terminated; NULL: empty */
    const void
        *detail; /* descriptors, limits ...: what sys/spawn.h takes; no business of a simulation */
};

struct env_exit {
    int code;            /* of exit(), when signal is 0 */
    int signal;          /* that killed it */
    uint64_t cpu_ns;     /* user and system */
    uint64_t memory_max; /* bytes, at most resident */
};

typedef void (*env_exit_cb)(uint64_t process, const struct env_exit *exit, void *data);

/* --- files ----------------------------------------------------------------------------------- */

typedef void (*env_saved_cb)(const struct err *err /* NULL: it is on disk */, void *data);

/* --- channels: whole messages to another process of ours, in order, or closed ---------------- */

struct env_channel;

struct env_channel_events {
    void (*on_message)(struct env_channel *channel, struct slice message, void *data);
    void (*on_closed)(struct env_channel *channel, const struct err *err, void *data);
};

/* --- the table ------------------------------------------------------------------------------- */

struct env {
    const char *name;

    int64_t (*now_ns)(struct env *self);  /* monotonic, since some start; never goes back */
    int64_t (*wall_ns)(struct env *self); /* since 1970, UTC; may jump */
    void (*random)(struct env *self, void *bytes, size_t size); /* fit for keys */

    void (*timer_start)(struct env *self, struct env_timer *timer, int64_t delay_ns,
                        env_timer_cb on_due, void *data);
    void (*timer_stop)(struct env *self, struct env_timer *timer);

    /* ERR_NOT_FOUND when it is not there, ERR_TOO_LARGE above bytes_max. */
    int (*file_read)(struct env *self, const char *path, size_t bytes_max, struct arena *arena,
                     struct slice *ret_bytes, struct err *err);
    /* All or nothing, and on disk when it returns (temporary file, fsync, rename, fsync). 0600. */
    int (*file_replace)(struct env *self, const char *path, struct slice bytes, struct err *err);
    /* The same, not waited for: the bytes are borrowed until on_saved, which runs once. Saves are
     * carried out in the order of the calls. */
    void (*file_save)(struct env *self, const char *path, struct slice bytes, env_saved_cb on_saved,
                      void *data);
    /* Likewise, in the same order: the file, which is there, becomes its first `offset` bytes and
     * these. Fails where it is shorter; what a failed or cut one leaves behind `offset` may be a
     * part of the bytes. */
    void (*file_append)(struct env *self, const char *path, uint64_t offset, struct slice bytes,
                        env_saved_cb on_saved, void *data);
    int (*file_remove)(struct env *self, const char *path, struct err *err);
    /* Names of the plain files in a folder, sorted; ERR_NOT_FOUND without the folder. */
    int (*file_list)(struct env *self, const char *folder, struct arena *arena,
                     struct slice **ret_names, size_t *ret_count, struct err *err);
    /* 0700, and it lasts; one that is there is good. Its parent must be there. */
    int (*folder_make)(struct env *self, const char *folder, struct err *err);

    int (*channel_open)(struct env *self, const char *peer,
                        const struct env_channel_events *events /* borrowed */, void *data,
                        struct env_channel **ret_channel, struct err *err);
    /* Never blocks; ERR_OVERLOADED when the peer does not read: then close it. */
    int (*channel_send)(struct env *self, struct env_channel *channel, struct slice message,
                        struct err *err);
    void (*channel_close)(struct env *self, struct env_channel *channel);

    int (*process_start)(struct env *self, const struct env_spawn *spawn, env_exit_cb on_exit,
                         void *data, uint64_t *ret_process, struct err *err);
    /* Of a process not reaped yet; others are ignored (no id is used twice). */
    void (*process_kill)(struct env *self, uint64_t process, int signal);
};

static inline int64_t env_now_ns(struct env *env)
{
    return env->now_ns(env);
}

static inline int64_t env_wall_ns(struct env *env)
{
    return env->wall_ns(env);
}

static inline void env_random(struct env *env, void *bytes, size_t size)
{
    env->random(env, bytes, size);
}

static inline uint64_t env_random_u64(struct env *env)
{
    uint64_t value;
    env->random(env, &value, sizeof value);
    return value;
}

static inline void env_timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                                   env_timer_cb on_due, void *data)
{
    env->timer_start(env, timer, delay_ns, on_due, data);
}

static inline void env_timer_stop(struct env *env, struct env_timer *timer)
{
    env->timer_stop(env, timer);
}

static inline bool env_timer_armed(const struct env_timer *timer)
{
    return timer->place != 0;
}

[[nodiscard]] static inline int env_file_read(struct env *env, const char *path, size_t bytes_max,
                                              struct arena *arena, struct slice *ret_bytes,
                                              struct err *err)
{
    return env->file_read(env, path, bytes_max, arena, ret_bytes, err);
}

[[nodiscard]] static inline int env_file_replace(struct env *env, const char *path,
                                                 struct slice bytes, struct err *err)
{
    return env->file_replace(env, path, bytes, err);
}

static inline void env_file_save(struct env *env, const char *path, struct slice bytes,
                                 env_saved_cb on_saved, void *data)
{
    env->file_save(env, path, bytes, on_saved, data);
}

static inline void env_file_append(struct env *env, const char *path, uint64_t offset,
                                   struct slice bytes, env_saved_cb on_saved, void *data)
{
    env->file_append(env, path, offset, bytes, on_saved, data);
}

[[nodiscard]] static inline int env_folder_make(struct env *env, const char *folder,
                                                struct err *err)
{
    return env->folder_make(env, folder, err);
}

[[nodiscard]] static inline int env_file_remove(struct env *env, const char *path, struct err *err)
{
    return env->file_remove(env, path, err);
}

[[nodiscard]] static inline int env_file_list(struct env *env, const char *folder,
                                              struct arena *arena, struct slice **ret_names,
                                              size_t *ret_count, struct err *err)
{
    return env->file_list(env, folder, arena, ret_names, ret_count, err);
}

[[nodiscard]] static inline int env_channel_open(struct env *env, const char *peer,
                                                 const struct env_channel_events *events,
                                                 void *data, struct env_channel **ret_channel,
                                                 struct err *err)
{
    return env->channel_open(env, peer, events, data, ret_channel, err);
}

[[nodiscard]] static inline int env_channel_send(struct env *env, struct env_channel *channel,
                                                 struct slice message, struct err *err)
{
    return env->channel_send(env, channel, message, err);
}

static inline void env_channel_close(struct env *env, struct env_channel *channel)
{
    env->channel_close(env, channel);
}

[[nodiscard]] static inline int env_process_start(struct env *env, const struct env_spawn *spawn,
                                                  env_exit_cb on_exit, void *data,
                                                  uint64_t *ret_process, struct err *err)
{
    return env->process_start(env, spawn, on_exit, data, ret_process, err);
}

static inline void env_process_kill(struct env *env, uint64_t process, int signal)
{
    env->process_kill(env, process, signal);
}
