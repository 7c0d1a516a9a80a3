/* SPDX-License-Identifier: Apache-2.0 */
/* An agent's core in a world where nothing happens: for what it is told. */
#pragma once

#include <stdlib.h>

#include "pop/state.h"

static void bare_nothing(struct pop *, void *)
{
}

static void bare_look(struct pop_replica *, void *)
{
}

static void bare_event(struct pop *, const char *, const struct pop_endpoint *,
                       const struct pop_replica *, const char *message, void *)
{
    if (!message[0])
        abort();
}

static const struct pop_effects bare_effects = { .publish = bare_nothing,
                                                 .report = bare_nothing,
                                                 .save = bare_nothing,
                                                 .event = bare_event,
                                                 .replica_look = bare_look };

static void bare_timer_start(struct env *, struct env_timer *, int64_t, env_timer_cb, void *)
{
}

static void bare_timer_stop(struct env *, struct env_timer *)
{
}

static int64_t bare_now(struct env *)
{
    return ENV_S;
}

#define BARE_ENV                                                                                   \
    {                                                                                              \
        .name = "test", .now_ns = bare_now, .wall_ns = bare_now, .timer_start = bare_timer_start,  \
        .timer_stop = bare_timer_stop                                                              \
    }
