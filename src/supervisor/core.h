/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.h -- what the supervisor decides: when a process starts again, what a new one is told, which
 * replica is cloned by whom, and who hears of its end.
 *
 * No event loop and no process here: time and timers come from base/env.h, starting, killing and
 * sending are struct core_ops, so that the tests run a day of crashes in a moment. What the core
 * makes itself is memory: regions, pipes, pairs of sockets. One thread.
 *
 * A template is of one runtime and one project, so that no project knows the layout of another's
 * memory. One that no revision needs ends, and one whose replicas have crashed three times within a
 * minute is made anew by an exec for each that follows.
 *
 *   role, template     IDLE -> STARTING -> SERVING       until core_stop(): dead ones are started
 *                                ^  |        |           again, after a back-off; one that another
 *                                |  v        v           replaces (core_upgrade.c) at once
 *                               WAITING <----+           -> ENDED
 *   replica            WAITING (for its template) -> CLONING -> RUNNING -> freed when reaped
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/env.h"
#include "base/list.h"
#include "base/sm.h"
#include "contract/messages.h"
#include "supervisor/walls.h"

struct core;
struct handover;
struct handover_head;

#define PROCESS_STATES(X)                                                                          \
    X(PROCESS_IDLE, SM_TO(PROCESS_STARTING) | SM_TO(PROCESS_WAITING) | SM_TO(PROCESS_ENDED))       \
    X(PROCESS_STARTING, SM_TO(PROCESS_SERVING) | SM_TO(PROCESS_WAITING) | SM_TO(PROCESS_IDLE) |    \
                            SM_TO(PROCESS_ENDED))                                                  \
    X(PROCESS_SERVING, SM_TO(PROCESS_WAITING) | SM_TO(PROCESS_IDLE) | SM_TO(PROCESS_ENDED))        \
    X(PROCESS_WAITING, SM_TO(PROCESS_STARTING) | SM_TO(PROCESS_WAITING) | SM_TO(PROCESS_IDLE) |    \
                           SM_TO(PROCESS_ENDED))                                                   \
    X(PROCESS_ENDED, 0)
SM_DECLARE(process_life, PROCESS_STATES)

/* A role or a template; the core's, but `shell` and `pid`. A new field is saved by core_save.c. */
struct core_process {
    struct core *core;
    struct list link;
    enum process_life state;
    uint32_t role;    /* enum message_role */
    char name[32];    /* "gateway", "template onnx" */
    char runtime[16]; /* of a template, and: */
    char project[MESSAGE_PROJECT_BYTES];
    char library[64]; /* what it says it has loaded */
    uint32_t walls;   /* what it promises of its clones, enum perigee_wall */
    uint32_t landlock_abi;
    char walls_off[512];
    uint8_t contract; /* the version that is spoken with it; 0, of a state of before: 1 */
    uint64_t instance;
    uint32_t restarts, failures; /* ever; in a row */
    int64_t ready_ns;
    struct env_timer timer;
    uint8_t bit;         /* in core_replica.told; 0: is not told of replicas */
    bool fresh;          /* a template without a HELLO yet */
    bool booting;        /* more is to be told before GO */
    bool table_due;      /* it has yet to hear of the last table, once it reads */
    bool mesh_due;       /* the same of the last mesh */
    bool replacing;      /* it ends so that another takes its place: started anew at once */
    bool unwanted;       /* a new gateway that was given up: its READY comes too late; a template
                          * that is ended */
    uint32_t generation; /* of the program that it runs: core.generation, or an earlier one */
    bool proven;         /* one of its name has said HELLO: it will again */
    /* Of a template, and not saved, as an upgrade makes all anew: */
    bool cloned;           /* since its exec */
    bool spare;            /* nothing needed it when that was looked at last */
    int64_t used_ns;       /* the last clone */
    int64_t crashed_ns[3]; /* the last ones of its replicas, the oldest first */
    char why[160];         /* its last end */
    void *shell;           /* its channel and so on */
    pid_t pid;
};

struct core_replica;
uint64_t core_replica_id(const struct core_replica *replica);
int core_replica_log_fd(const struct core_replica *replica); /* borrowed */
void core_replica_set_shell(struct core_replica *replica, void *shell);
void *core_replica_shell(const struct core_replica *replica);
/* What its control group allows, the answers it may write included. */
void core_replica_bounds(const struct core_replica *replica, uint64_t *ret_memory_bytes,
                         uint32_t *ret_processes);
void core_replica_set_cgroup(struct core_replica *replica, int version); /* 0: in none */
void core_replica_out_of_memory(struct core_replica *replica); /* says the kernel, before it ends */

/* What the core has done by others. `data` is core_new()'s. Nothing calls back from inside. */
struct core_ops {
    /* Started ends in one core_process_exited(). Sets process->pid. */
    int (*start)(struct core_process *process, void *data, struct err *err);
    /* One that lives, started by the program before this one, and the channel to it (taken). */
    int (*restore)(struct core_process *process, int channel_fd, void *data, struct err *err);
    int (*channel)(struct core_process *process, void *data); /* borrowed; of one that lives */
    void (*kill)(struct core_process *process, void *data);   /* SIGKILL */
    /* Borrowed descriptors. Who does not take its messages is killed. */
    void (*send)(struct core_process *process, const void *message, size_t size, const int *fds,
                 size_t fd_count, void *data);
    /* Nothing waits to be sent; after a no, core_process_writable() comes once it is so. */
    bool (*writable)(struct core_process *process, void *data);
    /* Makes the control group of one that is cloned next, and opens the ways into it: `groups` of
     * that kind, the caller's. Undone by `ungroup` of one that was not adopted. */
    enum perigee_group (*group)(struct core_replica *replica,
                                int ret_fds[static PERIGEE_GROUPS_MAX], uint32_t *ret_groups,
                                void *data);
    void (*ungroup)(struct core_replica *replica, void *data);
    /* Watches a cloned child and its log, and sees to its being in its control group. Ends in one
     * core_replica_exited(). */
    int (*adopt)(struct core_replica *replica, pid_t pid, void *data, struct err *err);
    void (*kill_replica)(struct core_replica *replica, void *data);
    /* Looks at a live one from outside (walls.h). */
    int (*look)(pid_t pid, const struct walls_expected *expected, uint32_t *ret_walls, void *data,
                struct err *err);
    const char *(*no_cgroup)(void *data); /* why a replica is in none, in a few words */
    void (*kill_orphans)(void *data);     /* children nobody knows; none is being cloned */
    void (*end)(pid_t pid, void *data);   /* a child that is known, and of no use any more */
    void (*on_ready)(void *data);         /* once: all roles serve */
    void (*on_ended)(void *data);         /* once, after core_stop(): nothing runs any more */
    /* enum upgrade_state: a step of it, and once its end. */
    void (*on_upgrade)(uint32_t state, const char *text, void *data);
};

struct core_listener {
    struct message_listener message;
    int fd; /* borrowed */
};

struct core_config {
    struct message_start start; /* role and instance are filled in for each process */
    const struct core_listener *listeners;
    size_t listener_count;
    bool control, agent, gateway, dns; /* what this node runs; templates come with the gateway */
    uint32_t generation;       /* processes of another are replaced by core_upgrade_begin() */
    uint64_t instance_base;    /* instances begin behind it */
    uint32_t replica_uid_base; /* 0: replicas keep the supervisor's user */
    int lifeline_fd;           /* read end, for replicas; borrowed */
};

[[nodiscard]] int core_new(struct env *env, const struct core_config *config,
                           const struct core_ops *ops, void *data, struct core **ret_core,
                           struct err *err);
void core_free(struct core *core); /* nothing runs any more */

/* The state for another program (handover.h): the counts first, then the rows in their place. */
void core_save_counts(const struct core *core, struct handover_head *head);
void core_save(const struct core *core, struct handover *out);
/* Into a core that is new, instead of core_begin(). Takes the descriptors. */
[[nodiscard]] int core_load(struct core *core, const struct handover *in, struct err *err);
bool core_calm(const struct core *core); /* nothing waits to be sent: it may be saved */

/* Replaces what is not of the core's generation; ends in one on_upgrade(DONE or FAILED). */
void core_upgrade_begin(struct core *core);
bool core_upgrading(const struct core *core);
bool core_draining(const struct core *core); /* the gateway before this one still ends */
/* Tells the agent how it went, and how often. */
void core_tell_upgrade(struct core *core, const struct message_upgrade_state *message);

void core_begin(struct core *core);
/* Drains the gateway, then agent, control and dns, then ends all; `now`: kills all at once. */
void core_stop(struct core *core, bool now);
bool core_hopeless(const struct core *core); /* a role could not start and never will */

/* A whole message from a role (descriptors are the core's from here) or from a template. */
void core_message(struct core_process *process, const union message *message, size_t size, int *fds,
                  size_t fd_count);
void core_template_message(struct core_process *process, const void *message, size_t size);
void core_process_exited(struct core_process *process, int wait_status);
void core_process_writable(struct core_process *process); /* again, after it was not */

void core_replica_exited(struct core_replica *replica, int wait_status, const struct rusage *usage);
/* Reads its log: false when there is no more to come. */
bool core_replica_log(struct core_replica *replica);

/* 1, 2, 4, 8, 10, 10 ... s after `failures` in a row; nothing after a life in good health. */
int64_t core_backoff_ns(uint32_t failures, bool healthy);
