/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.h -- what the gateway's threads share, and what each loop has of its own. Internal.
 *
 * Main thread: channels, the world (tables, revisions, endpoints, replicas). It makes things and
 * tells loops by loop_post(); a loop tells it the same way. Loops never call each other but to wake
 * a queue. Things shared are counted; their `sides` array has one entry for each loop, which that
 * loop alone touches. A request holds its table, the table holds its endpoints and revisions.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/env.h"
#include "base/ip.h"
#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/spin.h"
#include "contract/gateway_metrics.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "gateway/asked.h"
#include "gateway/queue.h"
#include "gateway/yield.h"
#include "geo/sets.h"
#include "http/server.h"
#include "io/loop.h"
#include "policy/admission.h"
#include "policy/retry.h"
#include "replica/process/blocks.h"
#include "replica/replica.h"

struct channel;
struct crowd;
struct forwards;
struct gateway;
struct gateway_loop;
struct load_book;
struct mesh_view;
struct peer_keys;
struct proxies;
struct request;
struct sleeper;
struct target;
struct timer;
struct trust;
struct watch;
struct where_map;

/* X(name, value, text): bounds that are no key of an endpoint. */
#define GATEWAY_LIMITS(X)                                                                          \
    X(json_bytes_max, 16777216, "Bytes of JSON in a request, after inflation.")                    \
    X(answer_bytes_max, 67108864, "Bytes of JSON in an answer.")                                   \
    X(memory_share_percent, 25, "Of the machine's memory: what requests may hold, all together.")  \
    X(kept_share_percent, 5, "Of that: pages of free memory that stay for the next requests.")     \
    X(endpoint_share_percent, 75,                                                                  \
      "Of the rest: what requests for one endpoint may hold; where "                               \
      "several do, each has less, so that room is left for others.")                               \
    X(upload_ms_min, 1000, "How long an upload is not yet called slow.")                           \
    X(upload_rate_min, 65536,                                                                      \
      "Bytes a second: when the memory for inputs is short, a slower upload gives way.")           \
    X(answer_slow_s, 3, "How long an answer may be taken slowly.")                                 \
    X(answer_rate_min, 65536,                                                                      \
      "Bytes a second: while requests wait for a replica, a slower answer from it is cut.")        \
    X(gzip_bytes_min, 256, "Smaller answers are not compressed.")                                  \
    X(gzip_bytes_max, 1048576, "Larger answers are not compressed: it would hold up the loop.")    \
    X(trim_idle_ms, 10000, "Memory of inputs is given back after so long without a request.")      \
    X(demand_ms, 250, "How often demand is told while there is any: what scaling goes by.")        \
    X(demand_idle_ms, 5000,                                                                        \
      "How often the gateway looks whether a version named by clients is used.")                   \
    X(stale_ms, 10000, "How long a replica may take to end requests of a dead gateway.")           \
    X(kill_after_ms, 1000, "Past an endpoint's timeout, before its replica is killed.")            \
    X(repository_ms, 330000, "How long load and unload are waited for.")                           \
    X(repository_max, 64, "Loads and unloads that one loop waits for; above it 503.")              \
    X(denied_ms, 10000, "How often control hears how many requests residency refused.")            \
    X(asked_ms, 2000, "How often the agent hears from where endpoints are asked for.")             \
    X(retry_after_s_min, 1,                                                                        \
      "Retry-After of an answer that says overloaded: until what waits and "                       \
      "runs is done, as far as that is known, at least so long.")                                  \
    X(retry_after_s_max, 30, "The same, at most.")

enum gateway_limit {
#define GATEWAY_LIMIT(name, value, text) gateway_##name = value,
    GATEWAY_LIMITS(GATEWAY_LIMIT)
#undef GATEWAY_LIMIT
};

enum { GATEWAY_DENIALS = 5 };

/* ---- shared by loops ------------------------------------------------------------------ */

/* What a revision's model takes and gives; immutable. */
struct model_info {
    struct arena *arena; /* of all of it */
    struct tensor_meta *inputs, *outputs;
    uint32_t input_count, output_count, batch_rows_max;
    struct slice platform;
};
struct model_info *model_info_new(const struct perigee_model *model); /* checked; copies */
void model_info_free(struct model_info *info);

struct endpoint {
    uint64_t uid;
    _Atomic uint32_t refs;
    unsigned loops;                           /* sides */
    struct memory_budget memory;              /* of its requests; a part of the gateway's */
    _Atomic uint32_t start_ms;                /* the last start took, says the agent; 0: none */
    _Atomic uint32_t denied[GATEWAY_DENIALS]; /* by enum denial; told to the agent and begun anew */
    _Atomic(struct asked *) asked; /* from where inferences are asked for; NULL: none was */
    struct endpoint_waiting {      /* requests that wait, over all loops, and their inputs */
        _Atomic uint32_t count;
        _Atomic uint64_t bytes;
    } waiting[QUEUE_CLASSES];
    struct endpoint_side {
        struct metric_series **series; /* by row, those labelled project, endpoint; NULL: none */
        struct metric_series *requests_ok;      /* of GATEWAY_REQUESTS: code 200 */
        struct metric_series *proxied_answered; /* of GATEWAY_PROXIED */
        struct retry_budget retries;            /* of requests that are passed on over HTTP */
        _Atomic uint64_t arrivals; /* of this loop alone: inferences asked for, refused ones too */
        struct list batch;         /* requests of that class that wait here, the newest last */
        _Atomic int64_t batch_newest_ns; /* when that one came; INT64_MIN: there is none */
        uint64_t ended_by; /* number of the last table that ended requests under way */
    } sides[];             /* one a loop */
};

struct revision_side {
    struct revision *revision;
    struct gateway_loop *loop;
    struct queue_side queue;
    struct list lanes;      /* ready, not draining */
    struct list targets;    /* in place of them, where it is reached over HTTP: target.h */
    uint32_t lane_count;    /* of either */
    bool was_ready;         /* there were targets in the table before */
    int64_t ready_since_ns; /* when the first of them came */
    struct list held;       /* requests that wait for the model's description or the arena */
    struct list uploads;    /* large ones whose tensors are still coming, the oldest first */
    struct blocks *blocks;
    struct endpoint *endpoint; /* a reference: blocks count against its budget */
    int64_t used_ms;
    _Atomic uint64_t arrivals, done, busy_ns; /* of this loop alone, for the agent */
};

struct revision {
    uint64_t uid;
    struct gateway *gateway;
    _Atomic uint32_t refs;
    bool http;          /* it is reached over HTTP; set before a loop has its table */
    uint32_t reach_row; /* then: its row in the newest table that has it; main thread's */
    _Atomic(struct model_info *) model; /* set once */
    _Atomic(char *) arena;              /* set once, after arena_bytes */
    uint64_t arena_bytes;
    uint64_t arrivals_told, done_told, busy_told_ns; /* main thread's */
    bool told;                                       /* the agent takes it for used: likewise */
    _Atomic bool arena_wanted;
    uint8_t arena_pause, arena_left; /* ticks of demand before it is asked for again */
    _Atomic uint32_t waiting, ready; /* requests without a replica; ready replicas */
    _Atomic uint32_t waiting_batch;  /* of the former, of that class */
    _Atomic uint32_t passed_on; /* since demand was last told: other PoPs hide that it is cold */
    struct admission admission; /* how long it takes */
    _Atomic int64_t waiting_since_ns; /* about when waiting left 0 */
    _Atomic bool demanded;            /* the first demand was sent, no replica came since */
    _Atomic int64_t cold_since_ns; /* when one was asked for first; 0: one is or was ready since */
    struct gateway_stats *stats;   /* NULL: no room */
    struct queue queue;            /* its heads stand behind the sides */
    struct revision_side sides[];  /* one a loop */
};

struct table {
    _Atomic uint32_t refs;
    _Atomic uint32_t untaken; /* loops that have not taken it yet */
    const struct table_head *head;
    size_t bytes;
    bool mapped;                 /* else from malloc */
    struct endpoint **endpoints; /* by row */
    struct revision **revisions;
    struct target **targets;
};
struct table *table_ref(struct table *table);
void table_unref(struct table *table); /* NULL is allowed */

/* ---- one loop ------------------------------------------------------------------------- */

enum {
    GATEWAY_LISTENERS_MAX = 32,
    GATEWAY_AGAIN_MS = 500, /* what found no memory is tried again */
};

struct gateway_loop {
    struct gateway *gateway;
    unsigned index;
    struct loop *loop;
    pthread_t thread;
    struct http_server *server;
    struct table *table;    /* NULL: none yet */
    struct mesh_view *mesh; /* mesh.h: NULL: none yet; may be old: mesh_fresh() */
    struct metrics metrics;
    struct decision_ring *decisions; /* of the region */
    struct env_timers deadlines;
    struct timer *timer; /* for the first of them */
    int64_t timer_due_ns;
    struct timer *tick;  /* once a second: gauges, idle memory */
    struct list active;  /* lanes with tickets in them */
    struct list to_wake; /* lanes with submissions their replica may sleep over */
    int64_t wake_due_ns; /* of the first of them; INT64_MAX: none */
    bool worked;         /* a request came, or an answer, since the last look at `spin` */
    bool spinning;
    bool poll_again; /* the next poll does not sleep, whatever is found */
    struct spin spin;
    bool woken_short; /* a replica of short runs was woken, and not yielded to since */
    struct yield yield;
    struct list waiting; /* requests HELD or WAITING */
    struct list answers; /* requests whose client does not take all of its answer at once */
    struct sleeper *sleeper;
    struct loop_task again;
    struct list flights; /* to be used again */
    struct map touched;  /* revision uid -> side with blocks */
    uint64_t sequence;   /* of tickets */
    uint64_t random;
    uint64_t dropped;
    struct http_server_stats seen; /* what the counters have of the server's */
    struct map repository;         /* number -> request that waits for the agent */
    uint64_t repository_last;
    struct forwards *forwards; /* requests that other PoPs have */
    struct proxies *proxies;   /* those that replicas have which are reached over HTTP */
    bool draining;
    struct asked_client { /* clients that came lately, by a hash of their address */
        struct ip ip;
        asked_cell cell; /* 0: none yet */
    } asked_clients[64];
};

/* ---- the process ---------------------------------------------------------------------- */

struct gateway_listener {
    int fd;
    uint32_t loop;
    char address[128];
};

struct gateway {
    struct message_start start;
    unsigned loops;
    struct loop *main;
    struct channel *supervisor, *agent; /* agent NULL: not there */
    struct watch *supervisor_watch, *agent_watch, *lifeline_watch;
    int lifeline;
    struct http_server_limits limits; /* of each loop's server */
    struct crowd *crowd;              /* of all of them */
    struct trust *trust;              /* proxies that are believed; NULL: none */
    struct where_map *where;          /* NULL: no address is known */
    struct geo_sets sets;             /* jurisdictions by name */
    struct arena *sets_arena;
    struct gateway_loop loop[PERIGEE_LOOPS_MAX];
    struct gateway_listener listeners[GATEWAY_LISTENERS_MAX];
    unsigned listener_count;
    struct table *table;    /* the newest */
    struct mesh_view *mesh; /* likewise */
    struct peer_keys *keys; /* mesh.h: of the other PoPs, and of the agent */
    struct load_book *book; /* probe.c: what is told to who asks how we are */
    uint64_t table_served;  /* number of the newest that every loop has; 0: none */
    struct list early;      /* ends of load and unload whose table is to come */
    unsigned early_count;
    struct map endpoints, revisions, replicas, targets; /* by uid or id: main thread's references */
    struct map drained_beside; /* ids that the gateway beside us alone may have something at */
    struct memory_budget memory;
    void *region; /* of metrics */
    size_t region_bytes;
    bool region_mapped;
    struct metrics metrics; /* the main thread's slice */
    struct timer *demand, *drain, *probe, *denied, *asked;
    struct timer *keyless; /* going, and no keys yet */
    struct timer *table_again;
    int table_later;   /* a table that could not be mapped; -1: none */
    struct list later; /* likewise replicas: later.c */
    struct timer *later_due;
    unsigned drained;
    _Atomic bool asked_due;   /* somebody asked: the agent is told a while later */
    _Atomic bool demand_slow; /* nobody asked lately: whoever does says so */
    _Atomic bool denied_due;  /* somebody was: the agent is told now, and a while later again */
    _Atomic uint32_t drain_idle_ms; /* set before the loops hear of it */
    bool going, draining, done;     /* going: GO came, and READY was told */
    bool serving;                   /* loops run */
    bool beside;                    /* another gateway uses the other lane set */
    int status;
};

static inline unsigned gateway_set(const struct gateway *gateway) /* of lanes and slices */
{
    return (unsigned)(gateway->start.instance & 1);
}

/* world.c: main thread */
void world_repository_done(struct gateway *gateway, const struct message_repository_done *done);
void world_early_free(struct gateway *gateway);
void world_table_set(struct gateway *gateway, const void *data, size_t bytes, bool mapped);
void world_table_served(struct gateway *gateway, uint64_t number); /* every loop has it */
void world_replica_added(struct gateway *gateway, const struct message_replica_added *added,
                         int *fds, size_t fd_count);
/* ERR_INTERNAL: not now, and nothing has changed. */
[[nodiscard]] int world_replica_attach(struct gateway *gateway,
                                       const struct message_replica_added *added, int *fds,
                                       size_t fd_count, struct err *err);
void world_replica_exited(struct gateway *gateway, uint64_t id);
void world_replica_drain(struct gateway *gateway, uint64_t id);
void world_replica_look(struct gateway *gateway, uint64_t id);  /* its phase may have changed */
void world_replica_walls(struct gateway *gateway, uint64_t id); /* the supervisor has seen them */
void world_replica_lane_drained(struct gateway *gateway, uint64_t id);
void world_arena(struct gateway *gateway, const struct message_arena *message, int fd);
void world_arena_want(struct gateway *gateway, uint64_t revision);
void world_demand(struct gateway *gateway, bool repeated);
void world_probe(struct gateway *gateway); /* replicas that were not quiet yet */
void world_free(struct gateway *gateway);
void world_kill(struct gateway *gateway, uint64_t replica, enum replica_end end, const char *text);

/* later.c: main thread, replicas for which there was no memory */
void later_keep(struct gateway *gateway, const struct message_replica_added *added, int *fds,
                size_t fd_count); /* takes them */
bool later_has(struct gateway *gateway, uint64_t id);
void later_forget(struct gateway *gateway, uint64_t id);
void later_again(void *gateway); /* `later_due` is over */
void later_end(struct gateway *gateway);

/* gateway.c: main thread */
void gateway_send_supervisor(struct gateway *gateway, const union message *message);
bool gateway_send_agent(struct gateway *gateway, const union message *message);
void gateway_loop_drained(void *gateway); /* what a loop posts */

/* residency.c: main thread, before the loops begin, and after they have ended */
void residency_begin(struct gateway *gateway);
void residency_end(struct gateway *gateway);
void residency_tell(void *gateway); /* the agent, of what was refused */

/* revision.c: references, any thread */
struct endpoint *endpoint_new(struct gateway *gateway, uint64_t uid);
struct endpoint *endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint *endpoint);
struct revision *revision_new(struct gateway *gateway, uint64_t uid);
struct revision *revision_ref(struct revision *revision);
void revision_unref(struct revision *revision);

/* shard.c: a loop's thread */
void shard_prepare(struct gateway *gateway, unsigned index);
void shard_start(struct gateway *gateway, unsigned index);
void shard_tell_drain_all(struct gateway_loop *gl);
void shard_stop(struct gateway_loop *gl); /* main thread; then join, then */
void shard_free(struct gateway_loop *gl);
/* Loop thread: */
void shard_deadline(struct gateway_loop *gl, struct env_timer *timer, int64_t due_ns,
                    env_timer_cb on_due, void *data);
void shard_deadline_stop(struct gateway_loop *gl, struct env_timer *timer);
struct metric_series *shard_series(struct gateway_loop *gl, const struct table_head *table,
                                   const struct table_endpoint *row, struct endpoint *endpoint,
                                   unsigned metric);
uint64_t shard_random(struct gateway_loop *gl);

/* shard_tell.c: what the main thread tells a loop */
void shard_tell_table(struct gateway_loop *gl, struct table *table);      /* takes a reference */
void shard_tell_mesh(struct gateway_loop *gl, struct mesh_view *mesh);    /* likewise */
void shard_tell_attach(struct gateway_loop *gl, struct replica *replica); /* takes one */
void shard_tell_ready(struct gateway_loop *gl, struct replica *replica);
void shard_tell_drain(struct gateway_loop *gl, struct replica *replica);
void shard_tell_gone(struct gateway_loop *gl, struct replica *replica);
void shard_tell_revision(struct gateway_loop *gl,
                         struct revision *revision); /* model or arena came */
void shard_tell_done(struct gateway_loop *gl, const struct message_repository_done *done);
void shard_tell_inside(struct gateway_loop *gl, int fd); /* takes it */

/* shard_report.c: what a loop tells the main thread */
void shard_inside_lost(struct gateway_loop *gl); /* the way into containers' networks is */
void shard_kill(struct gateway_loop *gl, struct lane *lane, enum replica_end end, const char *text);
void shard_want_arena(struct gateway_loop *gl, uint64_t revision);
void shard_lane_drained(struct gateway_loop *gl, uint64_t replica);
void shard_repository(struct gateway_loop *gl, const struct message_repository *message);

/* Gateway's own thread names, in ps. */
#define GATEWAY_NAME "gateway"
