/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h -- a node in a simulated world: what its files share. The cores of supervisor and agent,
 * what the agent keeps and control's store are real; processes, the gateway and the agent's disk
 * are played. One thread; tests alone.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../unit/faults.h"
#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "pop/agent.h"
#include "sim/world.h"
#include "store/store.h"
#include "supervisor/core.h"
#include "sys/fd.h"

enum {
    ENDPOINTS = 2,
    MIN_MAX = 3,
    DOUBTS = 16,
    REQUESTS_MAX = 128,
    ROLES_MAX = ROLE_NETNS + 1,
    TEXT_BYTES = 2048,
};

struct wish { /* an endpoint as its users want it */
    uint64_t uid;
    bool there, running;
    unsigned min, target, revisions;
    uint64_t generation;
};

struct replica { /* a process */
    struct list link;
    struct node *node;
    struct core_replica *core;
    uint64_t id, revision;
    bool is_ready, gateway_has, draining;
    struct env_timer ready, death;
};

struct role {
    struct node *node;
    struct core_process *process;
    uint64_t life; /* counts starts: what is meant for an earlier one is lost */
    bool alive;
    struct env_timer up, death;
    int64_t died_ns;
};

enum to { TO_SUPERVISOR, TO_AGENT, TO_GATEWAY, TO_TEMPLATE, FROM_CONTROL, TO_SELF };
enum self { SELF_FETCHED = 1000, SELF_LOOK, SELF_ENDPOINT, SELF_GONE, SELF_SYNCED };

struct letter {
    struct env_timer timer;
    struct list link;
    struct node *node;
    enum to to;
    uint32_t role;        /* whose life must last */
    uint64_t life, watch; /* of that role; of the connection to control */
    size_t size;
    int fd;
    uint32_t what; /* enum self */
    uint64_t id;
    uint64_t uids[ENDPOINTS]; /* of SELF_SYNCED */
    size_t uid_count;
    char text[TEXT_BYTES];
    union message message;
};

struct request {
    uint64_t uid;       /* of its endpoint; 0: none */
    struct replica *at; /* that it runs on; NULL: it waits */
    int64_t began_ns, ends_ns;
};

struct demand { /* of an endpoint, since the agent was told */
    uint64_t arrivals, done, busy_ns;
    bool told; /* the last one said that there is some */
};

struct node {
    struct world *world;
    struct env *env;
    struct core *core;
    struct role roles[ROLES_MAX];
    struct list letters, replicas;
    int64_t last_ns[TO_SELF + 1]; /* what was sent last to each comes last */
    bool chaos, disk_bad, wall_jumps, slow_starts;
    struct env_timer trouble;
    int pid;
    uint64_t deaths, changes, refused, jumps, boots, killed_unwanted;
    uint64_t slow, overdue; /* starts that took long, and those that were not waited for */
    unsigned ended, most, limits_hit;
    uint64_t served_max; /* table number, in this supervisor's life */
    struct map asked;    /* replica id -> its revision */
    int null_fd;

    /* the agent */
    struct pop pop;
    struct keep keep;
    struct message_start start;
    bool agent_begun, gone, table_dirty, desired_dirty;
    struct env_timer publish_timer, alone, watch_again;
    uint64_t watch; /* counts connections to control; 0: none now */
    uint64_t watches;

    /* the gateway */
    uint64_t table_number;
    char *table;
    size_t table_bytes;
    struct request requests[REQUESTS_MAX];
    struct demand demands[ENDPOINTS];
    struct env_timer traffic;
    uint64_t came, answered, turned_away, ticks;
    uint64_t table_kept; /* the highest that the disk has for sure */
    char *desired_kept;  /* what the disk has for sure; NULL: nothing yet */
    bool desired_newer;  /* something was given to the disk since */

    /* control */
    char folder[FAULT_FOLDER_BYTES], path[160];
    unsigned crashes;
    struct store *store;
    struct wish acked[ENDPOINTS]; /* what users were told is done */
    /* Changes since the last good one that failed while they were committed: after a kill one of
     * them may be there all the same. */
    struct wish doubts[DOUBTS];
    int doubts_of[DOUBTS]; /* which endpoint each is of */
    unsigned doubt_count;
};

/* node_letters.c: chance, and messages that take their time. Each reaches the life of the process
 * that it was meant for, in order, or nobody. */
int64_t node_draw(struct node *node, int64_t low, int64_t high);
bool node_maybe(struct node *node, unsigned percent); /* never in peace */
struct letter *letter_new(struct node *node, enum to to, uint32_t role, int64_t delay_ns);
void letter_free(struct letter *letter);
void message_send(struct node *node, enum to to, uint32_t role, const void *message, size_t size,
                  int fd);
void letter_read(struct letter *letter); /* node_supervisor.c: by whom it is for */

/* node_agent.c */
void agent_reads(struct node *node, const union message *message);
void agent_hears_itself(struct node *node, const struct letter *letter);
void agent_publishes(struct pop *pop, void *node);
void agent_ended(struct node *node);
void agent_check_disk(struct node *node);

/* node_control.c */
void control_open_store(struct node *node);
void control_check(struct node *node);
void control_crash(struct node *node);
void watch_open(struct node *node);
void watch_cut(struct node *node);
void watch_reads(struct node *node, const struct letter *letter);
void user_changes(struct node *node);

/* node_requests.c */
void requests_begin(struct node *node);
void requests_end(struct node *node);
bool requests_on(const struct node *node, const struct replica *replica);
void requests_again(struct node *node, const struct replica *replica);
unsigned requests_left(const struct node *node);

/* node_supervisor.c: the gateway too */
void gateway_drained(struct node *node, const struct replica *replica);
extern const struct core_ops node_ops;
void role_ended(struct node *node, uint32_t role);
void role_dies(struct env_timer *timer, void *role);
void replica_end(struct replica *replica);
void gateway_cold(struct node *node);
