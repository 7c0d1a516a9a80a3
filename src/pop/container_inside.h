/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container_inside.h -- what the files of a container's life share among themselves: what is known
 * of one, and what they do for each other. One is the agent's, from container_begin.c until the
 * engine says that it is gone. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "pop/agent.h"
#include "pop/gpus.h"
#include "replica/engine/hidden.h"
#include "replica/engine/life.h"

struct container {
    struct list link; /* of agent->containers.all */
    struct agent *agent;
    uint64_t replica, revision;
    char name[64]; /* of the replica */
    struct engine_life *life;
    struct engine_hidden *hidden; /* the secrets that it was given: the engine's words tell none */
    struct spec_probe startup, readiness, liveness; /* in the image's arena */
    bool two_steps; /* readiness, or a connection, is asked behind startup */
    struct container_probe *first, *alive;
    struct timer *late; /* until when it must have been well once */
    bool direct;        /* its network is not entered: it is reached at `ip` */
    bool addressed;     /* ... which is known */
    bool open;          /* it has the engine's own network: egress is allowed */
    bool unheard;       /* an earlier agent noted it, and the engine has not spoken of it yet */
    bool adopting;      /* an earlier agent began it, and it is not shown yet */
    struct ip ip;
    uint16_t port;
    int64_t pid;      /* 0: it does not run (yet, or any more) */
    uint64_t started; /* proc_started() */
    char walls[512];
    char group[64];
    char gpus[GPUS_TEXT_BYTES]; /* which it has; empty: none, or the first that the engine found */
    uint32_t gpu_count;
    char probed[160]; /* why it was not well, last */
    int64_t began_ns, running_ns;
    enum replica_end end; /* as we caused it */
    char end_text[256];
    bool was_ready;
};

/* container.c */
struct container *container_find(const struct agent *agent, uint64_t replica); /* NULL: none */
struct pop_replica *container_replica(const struct container *container);      /* likewise */
/* It is of no use: killed, and that is why. */
void container_fail(struct container *container, enum replica_end end, const char *text);
extern const struct engine_life_events container_events; /* with the container as data */

/* container_ready.c */
/* As the spec has them; asked from container_probes_begin() on. */
void container_probes_init(struct container *container, const struct endpoint_spec *spec);
void container_probes_begin(struct container *container);
void container_probes_end(struct container *container); /* again is harmless */
/* In the table once its address is known: who has a target keeps what it heard of it first. */
void container_target(struct pop_replica *replica, const struct container *container);
void container_reached(struct container *container); /* by its address, as the engine says it */
