/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor_day.h -- a supervisor's core in a world that is played: processes start, die and read
 * when the dice say so, or only when the test does (`calm`), and an hour is over in a moment.
 * Memory and descriptors are real. What the core does is checked on the way. One day at a time, one
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/env.h"
#include "supervisor/core_private.h"

enum { WANTED = 5, STARTS_MAX = 100'000, LOOPS = 2, EVENTS = 4096 };

enum what {
    NOTHING,
    PROCESS_READY_,
    PROCESS_DIES,
    PROCESS_READS,
    CLONE_DONE,
    REPLICA_DIES,
    AGENT_LOOKS,
    UPGRADE,
};

struct event {
    struct env_timer timer;
    enum what what;
    uint64_t life; /* of the process it is meant for: one that has died meanwhile is not hit */
    struct core_process *process;
    struct core_replica *replica;
    uint64_t id;
    bool killed; /* the child that CLONE_DONE tells of */
};

struct day {
    struct env env;
    struct env_timers timers;
    int64_t now_ns;
    uint64_t seed;
    struct core *core;
    struct event events[EVENTS];
    /* what happened */
    unsigned starts[ROLE_NETNS + 1], ready, ended, orphans, refused;
    int64_t died_ns[ROLE_NETNS + 2]; /* the last: of templates of a project */
    uint64_t lives, next_id;
    /* what the agent and the gateway know */
    unsigned wanted;           /* replicas asked for and not ended */
    uint8_t asked[STARTS_MAX]; /* by id: 1 asked, 2 ended */
    bool gateway_has[2][STARTS_MAX], agent_has[STARTS_MAX];
    ino_t pipes[STARTS_MAX][2]; /* by lane set, as the gateways got them */
    bool booted[ROLE_NETNS + 1];
    unsigned alive_replicas;
    bool grouped[STARTS_MAX]; /* its control group is there */
    unsigned groups;          /* that were made */
    unsigned handovers, upgrades_done, upgrades_failed;
    bool restoring;
    bool renewed[ROLE_NETNS + 2]; /* a template is killed so that another one comes */
    bool stillborn;               /* the child that is being adopted has been killed */
    unsigned newborns_killed;     /* for orphans, though they have a template to tell of them */
    unsigned newborns_handed_over;
    unsigned used_handed_over;       /* ends that no agent had on disk */
    bool gateways_hang;              /* they never say READY, nor end when asked */
    bool calm;                       /* nothing fails or dies by itself */
    unsigned longer;                 /* so many times do lives last that do not end at once */
    int replica_wait_status;         /* of those that die; 0: killed */
    unsigned queue_max;              /* 0: who is sent to has read it at once */
    unsigned queued[ROLE_NETNS + 1]; /* sent and not yet read */
    unsigned queued_most;
    unsigned demands;                                        /* that the agent heard */
    unsigned tables[ROLE_NETNS + 1], meshes[ROLE_NETNS + 1]; /* that each heard */
    uint64_t table[ROLE_NETNS + 1], mesh[ROLE_NETNS + 1];    /* the last one */
    unsigned looks;                                          /* at walls */
    unsigned gateway_walls, agent_walls;                     /* were told of */
    unsigned netns_ended;                                    /* of the program before */
    bool metrics_had;                /* by the last gateway: its loops are made after them */
    bool contains;                   /* the agent has containers: who enters networks is wanted */
    unsigned inside[ROLE_NETNS + 1]; /* channels that each was handed since its start */
    uint64_t inside_of[ROLE_NETNS + 1]; /* and whose helper's the last was */
};

/* Nothing has begun yet: core_begin(day->core) is the test's. Freed by the test, after its core. */
struct day *day_new(uint64_t seed);
void day_soon(struct day *day, int64_t delay_ns, struct event event);
void day_run_until(struct day *day, int64_t end_ns); /* or until the core has ended */
void day_agent_wants(struct day *day, struct core_process *agent);
void day_agent_wants_of(struct day *day, struct core_process *agent, uint64_t revision,
                        const char *project);            /* NULL: of which nothing is said */
bool day_cloning(const struct day *day);                 /* CLONE was sent, CLONED was not read */
void day_handover(struct day *day, uint32_t generation); /* the whole core through its state */
