/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.h -- the agent's shell around meter.h and ledger.h: who is looked at when, what is written
 * down, and its way to control.
 *
 *   usage_group.c what a container's control group has used
 *   usage.c       looks once a second, writes a window each 10 s; each minute while control is away
 *   usage_send.c  to control, one call at a time, in order
 *
 * Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/list.h"
#include "base/map.h"
#include "pop/ledger.h"
#include "pop/meter.h"

struct agent;
struct arena;
struct http_call;
struct message_replica_added;

struct usage_source;
struct usage_replica { /* that is to be looked at */
    uint64_t id, revision;
    int32_t pid;
    const struct usage_source *source;
    uint64_t cpu_us, memory_kib;                                /* as last seen */
    char cpu_group[160], monitor_group[176], memory_group[160]; /* a container's: folders */
    bool group_v1;
};

/* Where the figures of what runs replicas come from: the kernel's of a process, of a control group
 * where there is one. `memory`: that too, it costs more. False: it cannot be looked at now. */
struct usage_source {
    bool (*read)(const struct usage_replica *replica, bool memory, struct meter_use *ret);
};
extern const struct usage_source usage_of_processes;
extern const struct usage_source usage_of_groups; /* of containers (usage_group.c) */

struct usage_end { /* one that ended: the supervisor is told once that is on disk */
    struct list link;
    uint64_t replica;
    bool written; /* in a window */
};

typedef void (*usage_ended_cb)(struct agent *agent);

struct agent_usage {
    struct meter meter;
    struct ledger ledger;
    bool open;           /* the ledger was read */
    bool begun;          /* the gateway's counts were taken over from an earlier agent */
    bool soon;           /* a window is written at the next look: somebody waits for it */
    struct map replicas; /* id -> struct usage_replica */
    struct list ends;
    struct env_timer second;
    uint64_t looks;
    int64_t window_ms, window_wall_ms; /* where the window begins */
    int64_t window_number;             /* of those ten seconds, or minutes */
    usage_ended_cb on_ended;           /* of agent_usage_end() */
    struct env_timer end_late;

    /* usage_send.c */
    struct http_call *sending;
    struct arena *send_arena;
    struct env_timer send_again;
    int send_status;
    char answer[512];
    size_t answer_bytes;
    uint64_t sent_counted; /* what was counted when it was sent */
    uint32_t send_failures;
    uint64_t sends, refusals;
};

void agent_usage_open(struct agent *agent);
void agent_usage_go(struct agent *agent); /* everything that is there was told */
void agent_usage_close(struct agent *agent);
void agent_usage_added(struct agent *agent, const struct message_replica_added *added);
/* Containers of an earlier agent are known once the engine was heard: this one is there; and those
 * that were not told of by then are not. */
void agent_usage_lives(struct agent *agent, uint64_t replica);
void agent_usage_told(struct agent *agent);
/* A container. `group` is the path of one above its own; empty: its process's. */
void agent_usage_contained(struct agent *agent, uint64_t replica, uint64_t revision, int32_t pid,
                           const char *group);
void usage_group_find(struct usage_replica *replica, const char *group); /* usage_group.c */
uint64_t agent_usage_memory(struct agent *agent, uint64_t replica);      /* bytes; 0: not known */
/* CPU time by now; false: it cannot be looked at. */
bool agent_usage_cpu_us(struct agent *agent, uint64_t replica, uint64_t *ret);
void agent_usage_ready(struct agent *agent, uint64_t replica);
/* It was reaped; CPU time is the kernel's last word. Again is harmless. */
void agent_usage_ended(struct agent *agent, uint64_t replica, uint64_t revision, uint64_t cpu_us);
void agent_usage_revision_gone(struct agent *agent, uint64_t revision);
/* Writes what there is; `on_ended` once it is on disk, perhaps at once, or takes too long. */
void agent_usage_end(struct agent *agent, usage_ended_cb on_ended);

/* usage_send.c */
void agent_usage_send(struct agent *agent); /* if there is something to send, and it may be */
void agent_usage_send_close(struct agent *agent);
