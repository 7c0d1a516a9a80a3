/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world.h"

#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "sim/world_part.h"

#define WALL_BEGINS_NS (INT64_C(1795392000) * ENV_S) /* 2026-11-23T00:00:00Z */

/* --- chance (xoshiro256**, seeded by splitmix64) --------------------------------------------- */

static uint64_t rotate(uint64_t value, unsigned by)
{
    return value << by | value >> (64 - by);
}

static uint64_t next(uint64_t state[4])
{
    uint64_t result = rotate(state[1] * 5, 7) * 9, shifted = state[1] << 17;

    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate(state[3], 45);
    return result;
}

static void seed_state(uint64_t state[4], uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        state[i] = z ^ z >> 31;
    }
}

int64_t world_draw(struct world *world, int64_t low, int64_t high)
{
    assert(low <= high);
    uint64_t span = (uint64_t)high - (uint64_t)low;
    uint64_t drawn = next(world->chance);
    return (int64_t)((uint64_t)low + (span == UINT64_MAX ? drawn : drawn % (span + 1)));
}

static void on_random(struct env *env, void *bytes, size_t size)
{
    char *at = bytes;

    while (size) {
        uint64_t word = next(world_of(env)->random);
        size_t part = size < sizeof word ? size : sizeof word;
        memcpy(at, &word, part);
        at += part;
        size -= part;
    }
}

/* --- time ------------------------------------------------------------------------------------ */

static int64_t on_now(struct env *env)
{
    return world_of(env)->now_ns;
}

static int64_t on_wall(struct env *env)
{
    return WALL_BEGINS_NS + world_of(env)->now_ns + world_of(env)->wall_offset_ns;
}

static void on_timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                           env_timer_cb on_due, void *data)
{
    struct world *world = world_of(env);
    int64_t due_ns;

    if (__builtin_add_overflow(world->now_ns, delay_ns > 0 ? delay_ns : 0, &due_ns))
        due_ns = INT64_MAX - 1;
    env_timers_start(&world->timers, timer, due_ns, on_due, data);
}

static void on_timer_stop(struct env *env, struct env_timer *timer)
{
    env_timers_stop(&world_of(env)->timers, timer);
}

void world_wall_jump(struct world *world, int64_t jump_ns)
{
    world->wall_offset_ns += jump_ns;
}

void world_note(struct world *world, const char *what, uint64_t detail)
{
    static const uint64_t key[2] = { 1, 2 };
    uint64_t words[4] = { world->trace, map_hash_keyed(key, slice_of(what)),
                          (uint64_t)world->now_ns, detail };

    world->trace = map_hash_keyed(key, (struct slice){ (const char *)words, sizeof words });
}

bool world_step(struct world *world)
{
    int64_t due_ns = env_timers_next_ns(&world->timers);

    if (due_ns == INT64_MAX)
        return false;
    if (due_ns > world->now_ns)
        world->now_ns = due_ns;
    /* One at a time, so that a checker sees the world between any two. */
    struct env_timer *timer = world->timers.heap[0];
    env_timers_stop(&world->timers, timer);
    world->events++;
    world_note(world, "due", 0);
    timer->on_due(timer, timer->data);
    if (world->on_step)
        world->on_step(world, world->on_step_data);
    return true;
}

void world_run(struct world *world, int64_t duration_ns)
{
    int64_t end_ns = world->now_ns + duration_ns;

    while (env_timers_next_ns(&world->timers) <= end_ns)
        world_step(world);
    world->now_ns = end_ns;
}

void world_on_step(struct world *world, void (*on_step)(struct world *world, void *data),
                   void *data)
{
    world->on_step = on_step;
    world->on_step_data = data;
}

uint64_t world_trace(const struct world *world)
{
    return world->trace;
}

uint64_t world_events(const struct world *world)
{
    return world->events;
}

/* --- faults ---------------------------------------------------------------------------------- */

void world_fail(struct world *world, enum world_fault fault, unsigned nth)
{
    world->faults[fault].countdown = nth;
}

void world_fail_often(struct world *world, enum world_fault fault, uint32_t chance_ppm)
{
    world->faults[fault].chance_ppm = chance_ppm;
}

uint64_t world_calls(const struct world *world, enum world_fault fault)
{
    return world->faults[fault].calls;
}

int world_may_fail(struct world *world, enum world_fault fault, const char *what, struct err *err)
{
    bool fails = world->faults[fault].countdown && --world->faults[fault].countdown == 0;

    world->faults[fault].calls++;
    if (!fails && world->faults[fault].chance_ppm)
        fails = world_draw(world, 0, 999'999) < world->faults[fault].chance_ppm;
    world_note(world, what, fails);
    return fails ? err_set(err, ERR_INTERNAL, "%s: failed, as the simulation wants it", what) : 0;
}

/* --- the world ------------------------------------------------------------------------------- */

struct world *world_new(uint64_t seed)
{
    struct world *world = mem_zalloc(sizeof *world);

    world->env.name = "simulated";
    world->env.now_ns = on_now;
    world->env.wall_ns = on_wall;
    world->env.random = on_random;
    world->env.timer_start = on_timer_start;
    world->env.timer_stop = on_timer_stop;
    seed_state(world->random, seed);
    seed_state(world->chance, ~seed);
    world_disk_init(world);
    world_processes_init(world);
    world_channels_init(world);
    return world;
}

void world_free(struct world *world)
{
    if (!world)
        return;
    world_channels_deinit(world);
    world_processes_deinit(world);
    world_disk_deinit(world);
    env_timers_deinit(&world->timers);
    free(world);
}

struct env *world_env(struct world *world)
{
    return &world->env;
}
