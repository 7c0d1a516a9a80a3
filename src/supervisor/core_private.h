/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core_private.h -- the core's insides, shared by core*.c alone: core.c keeps processes,
 * core_boot.c tells new ones what they must know, core_message.c hears them, core_stop.c ends all;
 * core_template.c keeps what replicas are cloned from, core_clone.c makes them, core_replica.c
 * keeps them, core_revision.c their arenas, core_end.c says why one ended.
 */
#pragma once

#include "supervisor/core.h"
#include "supervisor/logring.h"

enum {
    ROLES = 4, /* gateway, agent, control, dns: ROLE_GATEWAY and on */
    REPLICAS_MAX = 1024,
    TEMPLATES_MAX = REPLICAS_MAX + 8, /* rows, of whatever state */
    TEMPLATES_ALIVE_MAX = 32,         /* more only where all of them are just cloning */
    REVISIONS_MAX = 4096,
    DEAD_MAX = 64,     /* ends kept for an agent that is away */
    PIPE_BYTES = 4096, /* of a replica's wake-ups, and of its log at a time */
    USED_MAX = 1024,   /* of replicas that ended, until the agent has them on disk */
};

#define ARENA_BYTES                                                                                \
    (UINT64_C(64)                                                                                  \
     << 30) /* sparse; a sixteenth is the largest request of a loop                   \
                          */
#define OUTPUT_BYTES_MAX (UINT64_C(256) << 30)

enum core_upgrade_step {
    UPGRADE_NOT,
    UPGRADE_GATEWAY,
    UPGRADE_TEMPLATES,
    UPGRADE_AGENT,
    UPGRADE_CONTROL,
    UPGRADE_DNS,
    UPGRADE_DRAIN,
};

struct core_upgrade {
    enum core_upgrade_step step;
    bool asked;             /* for this step: processes were started or ended */
    struct env_timer timer; /* of the step */
};

/* As the roles are numbered. */
enum stop_stage {
    STOP_NOT,
    STOP_GATEWAY,
    STOP_AGENT,
    STOP_CONTROL,
    STOP_DNS,
    STOP_REST,
    STOP_DONE,
};

struct core_revision {
    struct list link;
    uint64_t uid;
    char project[MESSAGE_PROJECT_BYTES]; /* as the agent has said; "": the default one */
    int arena_fd;
    uint32_t users; /* replicas */
    bool gone;      /* the agent forgot it: goes with its last replica */
    bool told;      /* the agent knows of its arena */
};

enum replica_state { REPLICA_WAITING, REPLICA_CLONING, REPLICA_RUNNING, REPLICA_DEAD };

struct core_replica { /* what is added is saved by core_save.c */
    struct core *core;
    struct list link; /* in `replicas`, or in `dead` */
    enum replica_state state;
    struct message_replica_start start;
    struct core_process *template;
    struct core_revision *revision;
    pid_t pid;
    uint32_t uid_index;           /* 1 and up; 0: none taken */
    uint32_t walls, landlock_abi; /* its template's promise when it was cloned */
    char walls_off[512];
    struct message_replica_walls *seen; /* NULL: not looked at; not saved, but seen again */
    int cgroup;                         /* 1, 2: that version; 0: in none */
    bool out_of_memory;
    uint64_t submission_bytes, output_bytes;
    int submission_fd, output_fd, model_fd, log_fd, log_write_fd;
    int pipes[PERIGEE_LANES_MAX], pipe_writes[PERIGEE_LANES_MAX];
    uint8_t told; /* bits of the processes that know of it */
    uint32_t end; /* enum replica_end, when we end it */
    bool ending;
    char end_text[256];
    struct message_replica_exited exited; /* once dead */
    struct logring log;
    void *shell;
};

struct core {
    struct env *env;
    struct core_config config;
    const struct core_ops *ops;
    void *data;
    /* The gateway that serves, and its place's twin: the next before it is ready, the one before
     * it until that has ended. Two at once have different lane sets. */
    struct core_process gateways[2];
    unsigned gateway; /* which of them serves, or will */
    struct core_process agent, control, dns;
    struct core_process netns; /* IDLE until the agent wants it; not saved, but wanted again */
    struct list templates, replicas, dead, revisions;
    uint32_t template_count, replica_count, revision_count, dead_count;
    uint64_t messages_dropped;
    struct message_replica_used used[USED_MAX]; /* oldest first */
    uint32_t used_count;
    int metrics_fd, dns_metrics_fd, table_fd;
    int mesh_fd; /* the last; not saved: the agent makes one each second, or needs none */
    struct message_table table;
    struct message_mesh mesh;
    bool ready_once, hopeless;
    bool orphans_due; /* as soon as nothing is cloned */
    uint32_t generation;
    struct core_upgrade upgrade;
    struct message_upgrade_state upgrade_told; /* the last, for a new agent */
    enum stop_stage stage;
    struct env_timer stop_timer;
    struct env_timer spare_timer; /* templates that nothing needs */
};

static inline struct core_process *core_role(struct core *core, uint32_t role)
{
    return role == ROLE_GATEWAY ? &core->gateways[core->gateway]
           : role == ROLE_AGENT ? &core->agent
           : role == ROLE_DNS   ? &core->dns
           : role == ROLE_NETNS ? &core->netns
                                : &core->control;
}

bool core_runs(const struct core *core, uint32_t role); /* is it one of this node's? */

static inline struct core_process *core_twin(struct core *core) /* of the gateway that serves */
{
    return &core->gateways[!core->gateway];
}

static inline bool process_alive(const struct core_process *process)
{
    return process->state == PROCESS_STARTING || process->state == PROCESS_SERVING;
}

/* core.c */
void core_tell(struct core *core, uint32_t role, const void *message, size_t size, const int *fds,
               size_t fd_count); /* if that role is alive */
void core_tell_gateways(struct core *core, const void *message, size_t size, const int *fds,
                        size_t fd_count);                                /* both */
void core_process_ready(struct core_process *process, const char *text); /* it says so */
void core_process_init(struct core *core, struct core_process *process, uint32_t role,
                       const char *name);
void core_process_start_now(struct core_process *process);
/* Asks it to end its work; one that only starts is killed. */
void core_process_drain(struct core_process *process, uint32_t within_ms, uint32_t idle_ms);
void core_process_ends_within(struct core_process *process, uint32_t ms); /* else it is killed */
void core_process_due(struct core_process *process, int64_t delay_ns); /* its timer, by its state */

/* core_stop.c */
void core_stop_step(struct core *core); /* something ended: is it another's turn? */

/* core_template.c. NULL: too many. */
struct core_process *core_template(struct core *core, const char *runtime, const char *project);
struct core_process *core_template_new(struct core *core);
void core_template_busy(struct core_process *template, bool busy);
void core_templates_look(struct core *core); /* a revision went: is each still needed? */
bool template_cloning(const struct core_process *template);
bool core_template_takes(const struct core_process *template); /* commands, just now */
void core_template_crashed(struct core_process *template);     /* a replica of it */
/* The next clone must not have the layout of those before: it comes from a new exec. */
bool core_template_spent(const struct core_process *template);
void core_template_renew(struct core_process *template); /* nothing is being cloned */
bool core_template_ended(struct core_process *template, int wait_status); /* as was wanted */

/* core_upgrade.c */
void core_upgrade_step(struct core *core); /* something changed: is more to be done? */
void core_upgrade_gateway_ready(struct core *core);
void core_upgrade_exited(struct core_process *process, const char *why);
void core_upgrade_fail(struct core *core, const char *why);

/* core_boot.c */
void core_boot_role(struct core *core, struct core_process *process);
void core_boot_more(struct core_process *process); /* as much as it takes just now */
void core_boot_peers(struct core *core); /* gateway and agent get a new way to each other */
/* Between who enters containers' networks and the other, a channel each; new whenever one is. */
void core_boot_inside(struct core *core, struct core_process *other);
void core_boot_inside_loop(struct core *core, struct core_process *gateway, uint32_t loop);
void core_tell_process(struct core *core, const struct core_process *process, uint32_t state,
                       int wait_status, int64_t restart_ns, const char *text);

/* core_clone.c */
void replica_start(struct core *core, const struct message_replica_start *start, int model_fd);
void replica_cloned(struct core_process *template, const struct perigee_cloned *cloned);
void replica_template_ready(struct core_process *template);
void core_orphans_kill(struct core *core); /* now, or once nothing is cloned any more */
void replica_template_died(struct core_process *template, const char *why);
void replicas_agent_gone(struct core *core);
uint32_t replica_uid(const struct core_replica *replica); /* 0: ours */

/* core_replica.c */
struct core_replica *replica_find(struct core *core, uint64_t id);  /* NULL: none */
void replica_close_clone(struct core_replica *replica);             /* what it alone has */
void replica_unborn(struct core_replica *replica, const char *why); /* it never ran */
void replica_kill(struct core *core, const struct message_replica_kill *message);
void replica_look(struct core_process *process, uint64_t id); /* and tells it what is seen */
void replica_kill_all(struct core *core);
void replica_tell(struct core_replica *replica, struct core_process *process);
void replica_tell_log(struct core_replica *replica); /* while the agent takes it */
void replica_metered(struct core *core, uint64_t replica);
void replica_tell_used(struct core *core); /* to a new agent */
void replica_tell_dead(struct core *core); /* to a new agent, and forgets them */
void replica_free(struct core_replica *replica);

/* core_revision.c */
/* Made where it is not known. NULL: err says why not. */
struct core_revision *core_revision_get(struct core *core, uint64_t uid, struct err *err);
void revision_unused(struct core *core,
                     struct core_revision *revision); /* it may be: then it goes */
void revision_want(struct core_process *gateway, uint64_t uid);
void revision_forget(struct core *core, uint64_t uid);
void revision_of_project(struct core *core, const struct message_revision_project *message);
void revisions_gateway_gone(struct core *core, uint64_t instance);
void revision_tell_agent(struct core *core, struct core_revision *revision);
void revision_free(struct core *core, struct core_revision *revision);

/* core_end.c: fills what the kernel and, for words, the status page say of a reaped replica. */
void replica_describe_end(struct core_replica *replica, int wait_status,
                          const struct rusage *usage);
/* Once described: by a fault of its own code, which may teach what the next one's memory is like. A
 * model that cannot be loaded, memory that is used up and a kill are none. */
bool replica_crashed(const struct core_replica *replica);
