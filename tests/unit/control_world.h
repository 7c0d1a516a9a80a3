/* SPDX-License-Identifier: Apache-2.0 */
/* Control's hub in a world of its own: without a store, sockets or threads. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/job.h"
#include "control/secrets_own.h"
#include "io/loop.h"
#include "io/timer.h"

#define PARIS "{\"country\":\"FR\",\"latitude\":48.9,\"longitude\":2.3}"
#define LONDON "{\"country\":\"GB\",\"latitude\":51.5,\"longitude\":-0.1}"
#define TOKYO "{\"country\":\"JP\",\"latitude\":35.7,\"longitude\":139.7}"

struct world {
    struct env env; /* first */
    int64_t now_ns;
    struct control control;
    struct job nobody; /* what is decided is not kept */
    uint64_t drawn;
};

static int64_t wall(struct env *env)
{
    return ((struct world *)env)->now_ns;
}

/* Other bytes each time. */
static void draw(struct env *env, void *bytes, size_t size)
{
    uint64_t *drawn = &((struct world *)env)->drawn;
    for (unsigned char *byte = bytes; size--; byte++) {
        *drawn = *drawn * 6364136223846793005U + 1442695040888963407U;
        *byte = (unsigned char)(*drawn >> 56);
    }
}

[[maybe_unused]] static int set_up(void **state)
{
    struct world *world = mem_zalloc(sizeof *world);
    struct control *control = &world->control;
    world->env = (struct env){ .name = "test", .now_ns = wall, .wall_ns = wall, .random = draw };
    world->now_ns = 1000 * ENV_S;
    list_init(&control->watchers);
    control->env = &world->env;
    control->loop = loop_new();
    control->placing = &world->nobody;
    (void)snprintf(control->start.home, sizeof control->start.home, "/nonexistent");
    control->sets_arena = arena_new();
    struct err err;
    assert_int_equal(geo_sets_environment(control->sets_arena, &control->sets, &err), 0);
    control->metrics_memory = mem_zalloc(metrics_bytes(CONTROL_SERIES_MAX));
    metrics_attach(&control->metrics, &control_metrics, control->metrics_memory,
                   metrics_bytes(CONTROL_SERIES_MAX));
    control->secrets = mem_zalloc(sizeof *control->secrets); /* there are none */
    hub_open(control);
    control->hub.calm_ms = 0;
    *state = world;
    return 0;
}

[[maybe_unused]] static int tear_down(void **state)
{
    struct world *world = *state;
    struct control *control = &world->control;
    hub_close(control);
    secrets_close(control);
    timer_free(control->place_timer);
    metrics_deinit(&control->metrics);
    arena_free(control->sets_arena);
    free(control->metrics_memory);
    loop_free(control->loop);
    free(world);
    return 0;
}

/* As long as something is stale: one turn of the loop after the other. Returns how many. A turn
 * that waits would do so for ever where a timer that was due at its beginning has done the last. */
[[maybe_unused]] static unsigned run(struct control *control)
{
    unsigned turns = 0;
    while (control->hub.peers_stale || !list_empty(&control->hub.stale)) {
        loop_run_once(control->loop, false);
        turns++;
    }
    return turns;
}

[[maybe_unused]] static struct hub_pop *pop_put(struct control *control, const char *name,
                                                const char *spec)
{
    const struct store_pop row = { .name = slice_of(name),
                                   .spec = slice_of(spec),
                                   .secret = SLICE("s") };
    struct hub_pop *pop = hub_pop(control, row.name);
    hub_pop_row(control, &row);
    if (pop->watches == 0)
        hub_pop_watched(control, pop, true);
    return pop;
}

/* Its one revision names those secrets. */
[[maybe_unused]] static struct hub_endpoint *endpoint_put_naming(struct control *control,
                                                                 uint64_t uid, const char *more,
                                                                 const struct slice *secrets,
                                                                 size_t count)
{
    struct arena *arena = arena_new();
    struct snapshot *s = ARENA_NEW(arena, struct snapshot);
    struct err err;
    yyjson_val *tree;
    s->arena = arena;
    s->row = (struct store_endpoint){
        .uid = uid,
        .project = SLICE("default"),
        .name = slice_of(arena_format(arena, "digits-%llu", (unsigned long long)uid)),
        .target = 1,
    };
    s->row.spec = slice_of(arena_format(arena, "{\"model\":\"m\"%s}", more));
    assert_int_equal(json_parse(arena, s->row.spec, NULL, &tree, &err), 0);
    if (endpoint_spec_parse(arena, tree, SPEC_NAME_OPTIONAL, &s->spec, &err) < 0)
        fail_msg("%s", err.message);
    s->secrets = ARENA_ARRAY(arena, struct snapshot_secret, count + 1);
    for (size_t i = 0; i < count; i++)
        s->secrets[s->secret_count++] =
            (struct snapshot_secret){ arena_copy(arena, secrets[i]), 1 };
    hub_put(control, s);
    return hub_get(control, uid);
}

[[maybe_unused]] static struct hub_endpoint *endpoint_put(struct control *control, uint64_t uid,
                                                          const char *more)
{
    return endpoint_put_naming(control, uid, more, NULL, 0);
}
