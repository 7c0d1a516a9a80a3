/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h -- the pop agent's shell around the core of state.h: channels, control, disk, admin port.
 *
 *   wire.c     messages with supervisor and gateway
 *   region.c   what replicas write of themselves, mapped
 *   control.c  the watch on control: desired state in; told.h: what it tells
 *   report.c   what control is told: replicas, events, deaths, logs
 *   keys.c     the keys that PoPs have with each other
 *   notes.c    those that must not be lost on their way
 *   usage.h    what replicas use: looked at, written down, sent
 *   repository.c  load and unload for the gateway
 *   probe.c    asks other PoPs how they are; mesh.h holds what came of it
 *   publish.c  the table: to the supervisor, and to be kept; until when the gateway is waited for
 *   keep.c     table and desired state on disk, on a thread that saves (io/saver.h)
 *   models.c   a revision's model files as a folder
 *   inside.c   which containers the gateway may connect to, and whether it can
 *   upstream_watch.c  addresses of upstreams: looked up, and probed
 *   pull.c     blobs that are not on this disk, from control
 *   containers.h  replicas that are containers of an engine
 *   admin.c    /metrics, /healthz, /readyz
 *
 * One loop, one thread beside the one that saves. The agent goes on without control, and without a
 * gateway.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "contract/messages.h"
#include "http/client.h"
#include "pop/activity.h"
#include "pop/asked.h"
#include "pop/containers.h"
#include "pop/keep.h"
#include "pop/mesh.h"
#include "pop/state.h"
#include "pop/told.h"
#include "pop/usage.h"
#include "proto/sse.h"

struct channel;
struct env;
struct entrance;
struct env_linux;
struct http_server;
struct json_writer;
struct loop;
struct saver;
struct timer;
struct trust;
struct watch;
struct work;

struct wire { /* one SEQPACKET channel on the loop */
    struct agent *agent;
    struct channel *channel; /* NULL: not there */
    struct watch *watch;
    void (*on_message)(struct agent *agent, const union message *message, size_t size, int *fds,
                       size_t fd_count);
    void (*on_closed)(struct agent *agent);
};

struct room_need {  /* of this home's disk */
    uint64_t bytes; /* that are still to come, as far as is known */
    bool refused;   /* there is no room by room_check(); else it was full on writing */
};

struct agent_region { /* a replica's output region, mapped read-only */
    uint64_t replica;
    const void *memory;
    size_t bytes;
    int fd; /* while there is no memory for it; else -1 */
};

struct agent_process { /* what the supervisor said of its children */
    char name[32];
    char text[256];
    int32_t pid;
    uint32_t role, state, restarts;
};

enum { AGENT_PROCESSES_MAX = 64, AGENT_QUEUE_MAX = 4096, AGENT_LISTENERS_MAX = 8 };

struct agent_note { /* an event, a death or a log line that control has not acknowledged */
    struct list link;
    uint64_t sequence;
    enum { NOTE_EVENT, NOTE_DEATH, NOTE_LOG } kind;
    uint64_t endpoint; /* whose replica wrote it; of lines and deaths */
    char *json;        /* one object */
    char *bare;        /* a death without the last lines; else NULL */
    size_t bytes;      /* of both */
};

struct agent {
    struct loop *loop;
    struct env_linux *world; /* its timers and files */
    struct watch *env_watch;
    struct env *env;
    struct pop pop;
    struct message_start start;
    struct wire supervisor, gateway;
    bool gone, ready_said; /* GO came; READY was sent */
    int lifeline;
    struct watch *lifeline_watch;

    struct map regions;       /* replica id -> struct agent_region */
    struct map regions_later; /* region.c: likewise, not mapped yet */
    struct timer *regions_again;
    struct agent_process processes[AGENT_PROCESSES_MAX];
    uint32_t process_count;
    uint32_t upgrades_done, upgrades_failed; /* as the supervisor counts */
    const void *metrics, *dns_metrics; /* the gateway's counters, and DNS's, read-only; or NULL */
    size_t metrics_bytes, dns_metrics_bytes;

    /* control.c */
    struct http_client *client;
    struct http_url control;
    char bearer[128]; /* "Bearer SECRET", of a PoP that has joined; empty: over the home's socket */
    struct http_call *watching;
    char watch_target[MESSAGE_PATH_BYTES + 256];
    struct timer *watch_again;
    uint32_t watch_failures;
    uint32_t answers;   /* under way: explain.c */
    bool control_there; /* the watch is open and synced */
    bool deleted;       /* control says that this PoP is no more */
    struct pop_told told;
    struct sse watch_stream;

    /* probe.c */
    struct pop_mesh mesh;
    struct http_client *mesh_client; /* NULL: there was never another PoP */
    struct timer *mesh_timer;
    int64_t mesh_looked_ns;         /* 0: nobody is asked */
    bool mesh_beside_warned;        /* of its being nobody */
    int64_t mesh_told_ns;           /* control, of PoPs that fell or returned */
    struct address gateway_address; /* where this node's listens; ADDRESS_NONE: it has none */

    /* upstream_watch.c */
    struct list upstreams;               /* that are watched */
    struct work_pool *upstream_pool;     /* NULL until a name is looked up */
    struct http_client *upstream_client; /* NULL until something is probed */

    /* inside.c */
    struct entrance *entrance; /* NULL until one is of use */
    bool inside_wanted;        /* the supervisor was asked for the helper */
    bool inside_told;          /* all that an earlier agent left are shown */
    /* Of one that was shown: can it be entered (err NULL), or why not. Set by the driver. */
    void (*inside_shown)(struct agent *agent, uint64_t replica, const struct err *err);
    struct agent_containers containers;

    /* pull.c */
    struct work_pool *pull_pool; /* one thread; NULL until something is pulled */
    atomic_bool pull_stop;
    _Atomic uint32_t pulls_awaited; /* jobs of that pool that are not `later` */
    uint32_t pulls;                 /* under way, or waiting */
    _Atomic uint64_t pull_coming;   /* so many bytes the one under way brings, once it knows */
    atomic_bool models_posted;      /* models_keep.c */

    /* report.c */
    struct http_call *reporting;
    struct arena *report_arena; /* of the report under way */
    struct timer *report_timer;
    int report_status;
    bool report_again;     /* something changed while one was under way */
    bool report_due;       /* the timer runs for a change; the next one goes along */
    bool report_held;      /* for the gateway's word on the table */
    uint32_t report_quick; /* reports of late; since when they fade */
    int64_t report_quick_ns;
    uint32_t report_items; /* that the next one may hold; fewer after control has refused one */
    uint32_t report_sent;  /* in the one under way */
    bool model_sent;       /* one of them at least is a model */
    bool suspected;        /* a report of one item was refused, and none without it since: */
    uint64_t suspect;      /* its sequence; 0: it is a model */
    struct list notes;     /* oldest first */
    uint32_t note_count;
    size_t note_bytes;
    uint64_t notes_late, items_refused; /* given up: waited too long; control would not have it */
    uint64_t note_sequence, report_sequence, note_sent;
    struct pop_asked asked;   /* from where endpoints were asked for */
    struct activity activity; /* and how much */
    struct list repository;   /* load and unload under way */
    struct agent_usage usage;

    /* publish.c */
    struct timer *publish_soon;
    bool table_dirty, desired_dirty;
    struct timer *unserved; /* runs while the gateway's word on a table is awaited */
    struct keep keep;
    struct saver *saver;
    struct env_timer alone; /* for so long control is waited for */

    /* admin.c */
    struct http_server *admin;
    struct trust *trust; /* whose PROXY header is taken */
    int listeners[AGENT_LISTENERS_MAX];
    bool in_home[AGENT_LISTENERS_MAX];
    uint32_t listener_count;
    struct env_timer drained_late;
};

/* agent.c */
extern const struct pop_effects agent_effects;

/* wire.c */
void wire_open(struct wire *wire, int fd); /* takes it */
void wire_cut(struct wire *wire);
/* fd -1: none. False: not sent, the peer is gone or does not read. */
bool wire_send(struct wire *wire, const void *message, size_t size, int fd);
/* Something waits to be read there: what will be said again anyway can wait. */
bool wire_blocked(const struct wire *wire);
void agent_on_supervisor(struct agent *agent, const union message *message, size_t size, int *fds,
                         size_t fd_count);
void agent_replica_look(struct agent *agent, uint64_t replica); /* is it ready? */
void agent_on_gateway(struct agent *agent, const union message *message, size_t size, int *fds,
                      size_t fd_count);

/* region.c */
/* Takes the descriptor where there is no memory for it just now. */
void agent_region_keep(struct agent *agent, const struct message_replica_added *added, int *fd);
void agent_region_drop(struct agent *agent, uint64_t replica);
void agent_regions_close(struct agent *agent);

/* control.c */
struct agent_word {
    const char *path; /* "report": below /api/v1/pops/POP/ */
    const char *content_type;
    struct slice body; /* lives until the call has ended */
    int64_t timeout_ms;
};
/* Tells control; `arena` lives until the call has ended. */
struct http_call *agent_tell(struct agent *agent, struct arena *arena,
                             const struct agent_word *word, const struct http_call_events *events,
                             void *data);
void agent_watch_open(struct agent *agent);
void agent_watch_close(struct agent *agent);

/* keys.c */
void agent_keys_changed(struct agent *agent); /* to the disk, and to the gateway */
void agent_keys_tell(struct agent *agent);    /* a gateway that has come */

/* probe.c */
void agent_mesh_changed(struct agent *agent); /* PoPs, or keys: who is asked */
void agent_mesh_seen(struct agent *agent, const struct message_peer_seen *seen);
void agent_mesh_report(struct agent *agent, struct json_writer *w); /* to control */
void agent_mesh_close(struct agent *agent);

/* explain.c */
void agent_explain(struct agent *agent, struct slice event);

/* cores.c */
float agent_cores_used(struct pop_revision *revision, void *agent);

/* report.c */
void agent_report_soon(struct agent *agent);
void agent_report_served(struct agent *agent); /* what one may have been held for has come */
void agent_report_open(struct agent *agent);
void agent_report_close(struct agent *agent);

/* notes.c */
void agent_note_event(struct agent *agent, const char *kind, const struct pop_endpoint *endpoint,
                      const struct pop_replica *replica, const char *message);
void agent_note_denied(struct agent *agent, const struct message_denied *denied);
void agent_note_death(struct agent *agent, const struct pop_endpoint *endpoint,
                      const struct pop_death *death);
void agent_note_log(struct agent *agent, const struct message_replica_log *log);
/* What waits and may not leave any more: residency has changed since. */
void agent_notes_keep_back(struct agent *agent);
void agent_note_free(struct agent *agent, struct agent_note *note);
void agent_notes_close(struct agent *agent);

/* repository.c */
void agent_repository(struct agent *agent, const struct message_repository *request);
void agent_repository_look(struct agent *agent); /* something changed: is one done? */
void agent_repository_close(struct agent *agent);

/* publish.c */
/* The table of what pop wants and has, in the arena. */
[[nodiscard]] int pop_table_make(struct pop *pop, const struct message_start *start,
                                 uint64_t number, struct arena *arena, struct slice *ret,
                                 struct err *err);
void agent_publish_soon(struct agent *agent);
void agent_publish_now(struct agent *agent); /* what is dirty */
void agent_table_served(struct agent *agent, uint64_t number);
void agent_publish_close(struct agent *agent);

/* pull.c */
bool agent_pulls(const struct agent *agent); /* control's blobs are not those of this home */
/* Gets what the revision's model needs and is not here, then makes its folder. Ends in
 * pop_model_fetched(). */
void agent_pull(struct agent *agent, uint64_t revision);
/* One thread does what is awaited first: what is `later` of images that nobody waits for yet gives
 * way, with the next byte that comes, and is submitted again. Each job that was submitted ended. */
struct work_pool *agent_pull_pool(struct agent *agent);
void agent_pull_submit(struct agent *agent, struct work *work, bool later);
void agent_pull_ended(struct agent *agent, const struct work *work);
/* Where blobs come from, for a job on that pool; texts in the arena. */
struct pull_source {
    struct agent *agent; /* of which the thread looks at pull_stop and pulls_awaited alone */
    const char *home, *url, *authorization;
    int64_t before_ns;        /* what was left of earlier pulls since then goes */
    const atomic_bool *ahead; /* nobody waits for it yet; NULL: somebody does */
};
struct pull_source agent_pull_source(struct agent *agent, struct arena *arena);
/* On the pool's thread: blobs that are not in the home are there afterwards, verified. `bytes`: all
 * of them. Nothing is pulled where the disk has no room for what is missing: ret_need, set in any
 * case, is for agent_models_give_way(). ERR_CANCELED: the agent ends, or it was ahead of need and
 * gave way; what came is gone on with. */
[[nodiscard]] int agent_pull_blobs(const struct pull_source *source, struct arena *arena,
                                   const struct slice *digests, size_t count, uint64_t bytes,
                                   struct room_need *ret_need, struct err *err);
void agent_pull_close(struct agent *agent);

/* upstream_watch.c */
void agent_upstream_watch(struct agent *agent, const struct pop_revision *revision, bool watch);
void agent_upstream_close(struct agent *agent);

/* inside.c: of replicas that are containers. The helper that enters their networks is started with
 * the first one. */
void agent_inside_open(struct agent *agent, int fd);                      /* the way to it; taken */
void agent_inside_show(struct agent *agent, uint64_t replica, int pidfd); /* duplicated */
void agent_inside_forget(struct agent *agent, uint64_t replica);
/* Those that an earlier agent left are shown, or of no use: until then gateways wait for what they
 * ask of others. */
void agent_inside_told(struct agent *agent);
const struct http_dialer *agent_inside_dialer(struct agent *agent); /* for probes */
void agent_inside_close(struct agent *agent);                       /* after all that dials by it */

/* models.c */
struct err;
[[nodiscard]] int agent_model_folder(const char *home, struct slice digest, struct arena *arena,
                                     const char **ret_folder, const char **ret_file,
                                     struct err *err); /* any thread, one at a time a digest */
/* One that is there already. */
bool agent_model_folder_find(const char *home, struct slice digest, struct arena *arena,
                             const char **ret_folder, const char **ret_file);
void agent_model_folder_remove(const char *path); /* always one below HOME/models */

/* models_keep.c */
/* Folders that no revision needs any more go, and those that were never finished; where models are
 * pulled, only as far as all of them are above the bound. */
void agent_models_collect(struct agent *agent);
/* Likewise, soon: what is pulled counts as if it were there. Any thread. */
void agent_models_collect_soon(struct agent *agent);
/* The disk has no room (ERR_OVERLOADED) for what is to come: models that no revision needs go,
 * those used longest ago first, until it has. False: all of them would not be enough, and none
 * went. */
bool agent_models_give_way(struct agent *agent, const struct room_need *need);
uint64_t agent_models_bytes_max(const char *text); /* of the environment; NULL: the default */

/* admin.c */
void agent_admin_open(struct agent *agent);
void agent_admin_drain(struct agent *agent, uint32_t idle_ms); /* then keep_end(), then all ends */
void agent_admin_close(struct agent *agent);
