/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h -- what a PoP's agent knows: endpoints it was told of, revisions, replicas it runs.
 *
 *   replica:  STARTING -> READY -> DRAINING -> GONE
 *                |          |         |         ^
 *                +----------+---------+---------+      (it exited)
 *
 * What is an address of an upstream, or a container, goes from READY back to STARTING while its
 * probes fail, and from there to DRAINING: requests from before may be on it.
 *
 * Ownership: struct pop owns endpoints, those own their revisions, those their replicas. Loop
 * thread only. The core reaches the world through struct env and struct pop_effects alone, so that
 * a simulated day runs in a unit test:
 *
 *   state.c      makes, finds and forgets
 *   desired.c    documents of control, or of the disk; unread.c: those that are not understood
 *   secrets.c    values for environments
 *   earlier.c    what an agent before this one left
 *   happened.c   what supervisor and gateway tell of models and replicas
 *   reconcile.c  how many replicas, and what is done for it; autoscale.c, schedule.c
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/sm.h"
#include "base/slice.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "geo/sets.h"
#include "policy/regions.h"
#include "policy/scale.h"
#include "policy/schedule.h"
#include "policy/traffic.h"
#include "proto/hop.h"
#include "spec/endpoint.h"
#include "store/digest.h"
#include "store/image.h"

struct arena;
struct pop;
struct pop_replica;
struct pop_revision;

#define POP_REPLICA_STATES(X)                                                                      \
    X(POP_REPLICA_STARTING,                                                                        \
      SM_TO(POP_REPLICA_READY) | SM_TO(POP_REPLICA_DRAINING) | SM_TO(POP_REPLICA_GONE))            \
    X(POP_REPLICA_READY,                                                                           \
      SM_TO(POP_REPLICA_STARTING) | SM_TO(POP_REPLICA_DRAINING) | SM_TO(POP_REPLICA_GONE))         \
    X(POP_REPLICA_DRAINING, SM_TO(POP_REPLICA_GONE))                                               \
    X(POP_REPLICA_GONE, 0)
SM_DECLARE(pop_replica_state, POP_REPLICA_STATES)

/* The model's files on this PoP's disk. */
#define POP_MODEL_STATES(X)                                                                        \
    X(POP_MODEL_ABSENT, SM_TO(POP_MODEL_FETCHING))                                                 \
    X(POP_MODEL_FETCHING, SM_TO(POP_MODEL_HERE) | SM_TO(POP_MODEL_ABSENT))                         \
    X(POP_MODEL_HERE, SM_TO(POP_MODEL_ABSENT))
SM_DECLARE(pop_model_state, POP_MODEL_STATES)

enum {
    POP_LOG_BYTES = 16 * 1024, /* of one replica's output, the last ones */
    POP_DEATHS_MAX = 3,        /* kept an endpoint */
    POP_REPLICAS_MAX = 1024,
    POP_PEERS_MAX = 2048,
};

struct pop_log {
    char bytes[POP_LOG_BYTES];
    uint32_t used;
};

/* What runs the replicas of a revision. */
enum pop_driver {
    POP_DRIVER_PROCESS,  /* the supervisor, by a runtime's template */
    POP_DRIVER_UPSTREAM, /* nobody here: each of its addresses is a replica that is probed */
    POP_DRIVER_ENGINE,   /* a container engine, by the revision's image */
};

/* What containers of a revision are made of; immutable, as the revision is. */
struct pop_image {
    struct arena *arena; /* that all of it lies in, this too */
    struct slice digest; /* of its manifest */
    struct image_blob config;
    struct image_blob *layers; /* the lowest first */
    size_t layer_count;
    uint16_t port;             /* where it listens */
    struct endpoint_spec spec; /* the part of what runs */
};

struct pop_replica {
    struct list link;              /* in revision->replicas */
    struct pop_revision *revision; /* borrowed: owns this */
    uint64_t id;
    uint32_t ordinal; /* the 1 of digits-1 */
    enum pop_replica_state state;
    int32_t pid;
    bool kill_sent;
    bool adopted; /* an earlier agent started it */
    bool served;  /* it was READY before */
    bool dead;    /* its process is; the engine cleans up yet, and says how it ended */
    bool cold;    /* none was ready when it was started */
    bool open;    /* a container that was given a way out */
    bool weak;    /* one without, in a network that is not entered: it is reached by address */
    bool drained_before; /* for the agent before this one, heard before it was known here */
    int64_t since_ns;    /* in this state, env's clock */
    int64_t since_wall_ns;
    int64_t kill_at_ns; /* DRAINING: then it is killed whatever runs on it */
    char sandbox[1024]; /* its walls in words, once READY */
    uint64_t memory_bytes;
    struct table_target target; /* where it is reached over HTTP; id 0: it is not */
    uint64_t cpu_us;            /* that it had used at the last look (cores.c) */
    int64_t cpu_ns;             /* when that was; 0: never */
    struct pop_log log;
    int64_t log_second; /* lines told to control in this second, and dropped */
    uint64_t log_lines, log_dropped;
    uint64_t log_kept;   /* lines that may not leave, since control was last told how many */
    int64_t log_kept_ns; /* when; 0: never */
};

/* What scaling knows of a revision (autoscale.c); there is none before it was used. */
struct pop_scale {
    struct scale state;
    struct scale_rules rules;           /* of the last verdict */
    struct scale_verdict verdict, said; /* said: of the words */
    char words[SCALE_WORDS_BYTES];
    uint64_t arrivals, done, busy_ns; /* since the last verdict */
    bool kept;                        /* likewise: pop_scale_keep() */
    struct {                          /* of each gateway: two of them tell in an upgrade */
        uint32_t waiting, running;
        int64_t at_ns;
    } level[2];
};

struct pop_revision {
    struct list link;              /* in endpoint->revisions, lowest number first */
    struct pop_endpoint *endpoint; /* borrowed: owns this */
    uint64_t uid;
    uint32_t number;
    bool wanted;            /* control still lists it */
    char *digest, *runtime; /* "sha256:...", "onnx" */
    uint64_t memory_bytes;
    uint32_t threads;
    uint32_t batch_max, batch_delay_us;
    enum pop_driver driver;
    struct pop_image *image; /* owned; POP_DRIVER_ENGINE alone */
    bool shown;              /* one of its replicas was ready: it can run */
    bool start_refused;      /* `failed` says what somebody has to change: a rule, a secret */
    bool held;               /* it is fetched ahead of need just now */
    bool unfetched;          /* `failed` says that it could not be fetched, and nothing else */
    bool unreadable;         /* what control tells of it is not understood here: it does not run */
    char *upstream;          /* "http://HOST:PORT" */
    bool by_model;           /* it speaks OIP */
    char *probe_path;        /* of an HTTP probe; empty: a connection is enough */
    struct spec_probe probe;
    bool watched; /* its addresses are looked up and probed */
    struct list replicas;
    uint32_t replica_count; /* not GONE */

    enum pop_model_state model_state;
    char *folder, *model_file;   /* when HERE */
    struct perigee_model *model; /* metadata once a replica was ready; NULL before */
    size_t model_bytes;
    bool model_in_flight, model_reported; /* to control */

    uint32_t failures; /* in a row without having been ready for long */
    int64_t start_not_before_ns;
    bool failed;             /* reported as failed: the last start did not get ready */
    char message[1400];      /* why */
    int64_t demand_ns;       /* when somebody last asked for it; 0: never, or not since ... */
    int64_t left_ns;         /* ... the traffic left it; 0: it has not */
    struct pop_scale *scale; /* owned */
    int64_t adopted_ns;      /* when the last replica of an earlier agent was found; 0: none was */
};

/* Pure. May its containers have one, of an image? None to where residency, which may have come
 * after the revision, does not look. */
bool pop_way_out(const struct pop_revision *revision);

struct pop_death {
    uint64_t sequence;
    uint32_t revision;
    char replica[64];
    int64_t wall_ns;
    char reason[1400];
    char *log; /* last lines, terminated; owned */
};

/* How long starts took: all of it, and what of it in which part. */
#define POP_START_PARTS(X) X(all) X(spawn) X(walls) X(load) X(first_run)
enum pop_start_part {
#define POP_START_PART(name) POP_START_##name,
    POP_START_PARTS(POP_START_PART)
#undef POP_START_PART
        POP_START_PARTS_END
};
enum { POP_START_WORDS = METRIC_BUCKETS_MAX + 2 };
struct pop_starts { /* a histogram each, as base/metrics.h has them; [1]: cold ones */
    uint64_t words[2][POP_START_PARTS_END][POP_START_WORDS];
};

struct pop_room { /* of a PoP; as limits, 0 is no bound */
    uint64_t replicas, cpu_milli, memory_bytes;
};

struct pop_floor { /* while the minimum over the fleet is `min` */
    uint32_t min, replicas;
};

struct pop_endpoint {
    struct list link; /* in pop->endpoints */
    struct pop *pop;
    uint64_t uid;
    char *name, *project;
    bool running, wanted;
    bool listed;           /* pop_sync()'s */
    bool placed;           /* control says where it runs, and how much of it here: */
    uint32_t replicas;     /* 0: it runs at other PoPs */
    uint32_t most;         /* it may have here; 0: not said */
    struct pop_room takes; /* of this PoP's limits, as of the last pass (room.c) */
    const struct table_source_placement *places; /* at all PoPs; in spec_arena */
    size_t place_count;
    const char
        *elsewhere;      /* why no replica of it may be at this PoP; NULL: it may. In spec_arena */
    const char *barred;  /* where that is the law's doing (residency), why; else NULL. Likewise */
    bool barred_told;    /* endpoint_barred() was called */
    bool lines_leave;    /* residency lets what its replicas write go to control */
    uint64_t lines_kept; /* that did not, in this agent's life */
    struct pop_floor floors[SPEC_WINDOWS_MAX]; /* what control gave this PoP, `min` ascending */
    size_t floor_count;
    struct schedule schedule;            /* schedule.c; in pop->zones_arena */
    bool schedule_read;                  /* its zones have been looked up */
    bool zone_missing;                   /* one of them is not known here */
    uint32_t floor;                      /* replicas here at least; 0: no window holds. It is so */
    int64_t floor_from_s, floor_until_s; /* at these times of the wall's clock */
    struct residency residency; /* its rules are in spec_arena; nobody's where they are not known */
    struct arena *spec_arena;
    struct endpoint_spec spec; /* governed part is what counts */
    struct slice json;         /* the document as control sent it, in spec_arena */
    struct list revisions;
    uint32_t target;                                 /* the revision that is wanted */
    struct traffic_share shares[TRAFFIC_SHARES_MAX]; /* who should have the traffic, by control */
    size_t share_count;                              /* 0: the target alone */
    uint32_t canary;                                 /* one of them; 0: none */
    uint32_t serving;                                /* has it here; 0: none yet */
    uint32_t shown;                                  /* the newest table says so; 0: none */
    uint32_t served;      /* so does each loop of the gateway; likewise */
    uint64_t shown_since; /* the first table that says so */
    uint64_t generation;  /* how it is governed, as control counts; likewise shown and served */
    uint64_t shown_generation, served_generation;
    uint64_t generation_since;
    uint64_t volume_bytes;                   /* that it has here (volumes.c); reported */
    uint64_t exits;                          /* unasked, in this agent's life */
    struct pop_starts *starts;               /* owned; NULL: none in this agent's life */
    uint32_t start_ms;                       /* that the last one took; 0: the same */
    struct pop_death deaths[POP_DEATHS_MAX]; /* oldest first */
    uint32_t death_count;
};

/* What the core asks of the world. Called from inside core functions; none calls back at once. */
struct pop_effects {
    /* ERR_*: could not even be asked (no folder). Else EXITED or ADDED follows. */
    int (*replica_start)(struct pop_replica *replica, struct err *err, void *data);
    void (*replica_kill)(struct pop_replica *replica, enum replica_end end, const char *text,
                         void *data);
    void (*replica_drain)(struct pop_replica *replica, void *data);
    /* Nobody wants it: no such revision is known, and control has told everything. */
    void (*replica_unwanted)(uint64_t replica, void *data);
    /* Its revision became known after it did: it may have been ready for long. */
    void (*replica_look)(struct pop_replica *replica, void *data);
    void (*model_fetch)(struct pop_revision *revision,
                        void *data); /* ends in pop_model_fetched() */
    void (*revision_gone)(uint64_t revision_uid, void *data);
    void (*publish)(struct pop *pop, void *data); /* the table's content has changed */
    void (*report)(struct pop *pop, void *data);  /* control should hear soon */
    void (*save)(struct pop *pop, void *data);    /* desired state should be on disk soon */
    void (*event)(struct pop *pop, const char *kind, const struct pop_endpoint *endpoint,
                  const struct pop_replica *replica, const char *message, void *data);
    void (*death)(struct pop_endpoint *endpoint, const struct pop_death *death, void *data);
    /* Its addresses are to be looked up and probed, or no more; what is seen of them comes by
     * pop_upstream_*() below. */
    void (*upstream_watch)(struct pop_revision *revision, bool watch, void *data);
    /* Cores that the revision's replicas have in use: of scale.cpu alone. NULL: not known. */
    float (*cores_used)(struct pop_revision *revision, void *data);
    /* Somebody waits now for what was fetched ahead of need. NULL: nothing is. */
    void (*model_awaited)(struct pop_revision *revision, void *data);
    /* pop_endpoint_barred() is true from here on: once, and again in each agent's life. */
    void (*endpoint_barred)(struct pop_endpoint *endpoint, void *data);
    /* What its replicas write may not leave any more. NULL: nothing waits to. */
    void (*lines_stay)(struct pop_endpoint *endpoint, void *data);
};

struct pop_key { /* that this PoP has with another, or with itself (proto/hop.h) */
    char pop[64];
    unsigned char key[HOP_KEY_BYTES];
};

struct pop_secret {      /* of an environment; what is in it lies in its arena */
    struct list link;    /* in pop->secrets */
    struct arena *arena; /* a secret one, of this struct as well */
    struct slice project, name;
    struct slice value; /* empty: control cannot say it, and why is */
    struct slice why;
    bool kept; /* while it is looked */
};

struct pop {
    struct env *env;                   /* borrowed */
    const char *name;                  /* of this PoP; borrowed */
    const struct pop_effects *effects; /* borrowed */
    void *data;
    uint32_t cores;                 /* of this machine; 0: not known, no bound */
    bool no_replicas;               /* this node names endpoints, and is no PoP */
    bool control_here;              /* control is of this home: it stands where this PoP does */
    struct region_place place;      /* where this PoP stands */
    struct pop_room limits, taken;  /* of this PoP, as control says; by all endpoints (room.c) */
    struct geo_sets sets;           /* jurisdictions: geo/sets.h */
    struct arena *place_arena;      /* of both */
    char sets_digest[DIGEST_TEXT];  /* of what the sets decide, to be compared with others' */
    struct table_source_pop *peers; /* all PoPs, as control says; none: not told yet */
    size_t peer_count;
    struct slice peers_json;   /* as it came */
    struct arena *peers_arena; /* of these three */
    struct pop_key *keys;      /* by name */
    size_t key_count;
    struct arena *keys_arena; /* a secret one */
    struct list secrets;      /* struct pop_secret */
    size_t secret_count;
    bool secrets_moved;        /* since they were last saved */
    struct arena *zones_arena; /* time zones read here, and schedules; NULL: none yet */
    struct map zones;          /* by name, also those that there are not */
    int64_t zones_read_s;
    struct list endpoints;
    struct map unread; /* uids of those of which something is not understood (0: whose is not known
                        * either): when it was told, as `syncs` */
    uintptr_t syncs;   /* how often all was told, and one */
    struct map endpoints_by_uid; /* u64 -> struct pop_endpoint */
    struct map replicas_by_id;   /* u64 -> struct pop_replica */
    uint64_t instance;           /* of this agent: the upper half of replica ids */
    uint32_t holds;              /* images that are fetched ahead of need just now */
    int64_t era;                 /* of this supervisor, kept with the desired state */
    bool again; /* an agent before this one, of the same supervisor, knew what is wanted: nothing
                 * was booted, and what has no replica was at zero */
    uint32_t replica_counter;
    struct map arenas;     /* kept for unknown revisions: uids, likewise */
    struct list strangers; /* replicas of unknown revisions, until control has told everything */
    bool hearing;          /* the supervisor still tells what there is: nothing is started yet */
    bool begun;            /* desired state is known, from disk or control: replicas are started */
    bool sure;             /* it is control's, or control is away: they are stopped as well */
    bool synced;           /* control has told everything in this agent's life */
    bool gateway;          /* a gateway is there to drain */
    uint32_t starting;     /* replicas that are not ready yet, and models that come; reconcile.c */
    struct env_timer wake; /* the next thing that is due */
    struct env_timer soon; /* reconcile after this pass */
};

/* Zeroed storage in, empty state out. */
void pop_init(struct pop *pop, struct env *env, uint64_t instance,
              const struct pop_effects *effects, void *data);
void pop_deinit(struct pop *pop);
/* Before anything is applied. Without it the PoP has no name and no country, and knows the sets
 * that are built in. Texts are copied; `sets` is the operator's file, or empty. */
[[nodiscard]] int pop_stand(struct pop *pop, const struct region_place *place, struct slice sets,
                            struct err *err);

/* ---- desired state (from control or the disk) ------------------------------------------------ */

/* One endpoint document of the watch stream (docs/api.md). Bad ones change nothing. */
[[nodiscard]] int pop_endpoint_apply(struct pop *pop, struct slice json, struct err *err);
void pop_endpoint_gone(struct pop *pop, uint64_t uid);
void pop_sync_begin(struct pop *pop); /* all of the state is about to be told */
/* Everything has been told. These there are: the rest is gone. */
void pop_sync(struct pop *pop, const uint64_t *uids, size_t count);
void pop_alone(struct pop *pop); /* control does not answer: what the disk says, counts */

struct pop_endpoint *pop_endpoint_find(struct pop *pop, uint64_t uid);
struct pop_revision *pop_revision_find(struct pop *pop, uint64_t revision_uid);
struct pop_revision *pop_revision_number(struct pop_endpoint *endpoint, uint32_t number);
uint32_t pop_revision_ready(const struct pop_revision *revision);
/* Its last start failed, and as it has run before another one may not: who asks for it waits. */
bool pop_revision_retried(const struct pop_revision *revision);
const char *pop_replica_name(const struct pop_replica *replica, char buffer[static 64]);

/* What the endpoint's residency and regions say of this PoP (allowed.c): sets ->residency and
 * ->elsewhere. */
/* The list of all PoPs (docs/api.md, `pops`). A bad one changes nothing. */
[[nodiscard]] int pop_peers_apply(struct pop *pop, struct slice json, struct err *err);
/* The keys with each PoP (docs/api.md, `keys`; keys.c). Bad ones change nothing. */
[[nodiscard]] int pop_keys_apply(struct pop *pop, struct slice json, struct err *err);
/* As they came; the arena is a secret one. */
struct slice pop_keys_json(const struct pop *pop, struct arena *arena);
const struct pop_key *pop_key_find(const struct pop *pop, struct slice name); /* NULL: none */
void pop_keys_clear(struct pop *pop);
/* A secret that endpoints here name, or has another value; and the list of all that are kept: the
 * others are forgotten (docs/api.md, `secret`, `secrets`; secrets.c). Bad ones change nothing. */
[[nodiscard]] int pop_secret_apply(struct pop *pop, struct slice json, struct err *err);
[[nodiscard]] int pop_secrets_keep(struct pop *pop, struct slice json, struct err *err);
/* As they are on disk, sealed. What cannot be opened is left out, and err says why. */
struct seal_key;
struct slice pop_secrets_json(const struct pop *pop, const struct seal_key *key,
                              struct arena *arena);
[[nodiscard]] int pop_secrets_load(struct pop *pop, const struct seal_key *key, struct slice json,
                                   struct err *err);
/* NULL: there is none. */
const struct pop_secret *pop_secret_find(const struct pop *pop, struct slice project,
                                         struct slice name);
/* All that the revision's environment names are here; ERR_PRECONDITION says which is not. */
[[nodiscard]] int pop_secrets_check(const struct pop_revision *revision, struct err *err);
void pop_secrets_clear(struct pop *pop);
void pop_allow(struct pop *pop, struct pop_endpoint *endpoint);
/* By law nothing of it may be here, and nothing of it runs or is fetched any more: what it had left
 * here goes. */
bool pop_endpoint_barred(const struct pop_endpoint *endpoint);
/* Control has told something of the endpoint that is not understood here (an older PoP): what it
 * has here may be wanted by that. With 0, of any. */
bool pop_unread(const struct pop *pop, uint64_t endpoint_uid);

/* ---- what happens ---------------------------------------------------------------------------- */

void pop_model_fetched(struct pop_revision *revision, const char *folder, const char *model_file,
                       const struct err *err); /* err NULL: it is there */
/* A replica the supervisor has: after our start, or, when this agent is new, one of an earlier. */
void pop_replica_added(struct pop *pop, const struct message_replica_added *added);
/* The supervisor keeps an input arena. One of a revision that control does not know is given up:
 * its endpoint was deleted while no agent was there, or a late request asked for it. */
void pop_arena_kept(struct pop *pop, uint64_t revision_uid);
struct pop_ready {
    const struct message_replica_walls *walls;
    const char *sandbox; /* the same in words, where walls is NULL */
    uint64_t memory_bytes;
    uint64_t walls_ns, load_ns, first_run_ns; /* as it says itself; 0: not */
    const struct perigee_model *model;        /* checked; copied. NULL: nothing is known of it */
    size_t model_bytes;
};
void pop_replica_ready(struct pop *pop, uint64_t replica, const struct pop_ready *ready);
/* Its probes fail, for now: nothing goes there. It is READY again by the call above. */
void pop_replica_unready(struct pop *pop, uint64_t replica, const char *why);
void pop_replica_drained(struct pop *pop, uint64_t replica);
void pop_replica_exited(struct pop *pop, const struct message_replica_exited *exited);
/* The same of one that is no process of the supervisor's. `asked`: that is no failure. */
void pop_replica_ended(struct pop *pop, uint64_t replica, const char *reason, bool asked);
/* Its process is dead, and why is told by the call above once it is known: until then nothing goes
 * there, and another takes its place. */
void pop_replica_dead(struct pop *pop, uint64_t replica);
/* The engine is there (again): what failed for want of it is tried at once. */
void pop_engine_there(struct pop *pop);
void pop_replica_log(struct pop *pop, const struct message_replica_log *log);
void pop_demand(struct pop *pop, const struct message_demand *demand);
void pop_gateway_changed(struct pop *pop, bool present);

/* ---- addresses of upstreams (upstream.c) ----------------------------------------------------- */

enum { POP_UPSTREAM_ADDRESSES_MAX = 16 };
/* What its name stands for now: addresses that are gone are replicas no more, new ones begin. */
void pop_upstream_found(struct pop_revision *revision, const struct ip *ips, size_t count,
                        uint16_t port);
void pop_upstream_lost(struct pop_revision *revision, const char *why); /* it cannot be looked up */
/* By its probes: well, or not and why. */
void pop_upstream_seen(struct pop *pop, uint64_t replica, bool well, const char *why);
void pop_upstream_reconcile(struct pop_revision *revision, bool wanted); /* for reconcile.c */

/* ---- what requests find (served.c) ----------------------------------------------------------- */

void pop_table_shown(struct pop *pop, uint64_t number);  /* that table was published now */
void pop_table_served(struct pop *pop, uint64_t number); /* the gateway serves it */
bool pop_table_awaited(const struct pop *pop); /* the gateway has not said it of the newest yet */
/* The revision that control may be told has the traffic; 0: none. */
uint32_t pop_endpoint_served(const struct pop_endpoint *endpoint);

/* ---- what the time of the day asks for (schedule.c) ------------------------------------------ */

/* Sets ->floor of all endpoints; returns when to look again, env's clock (INT64_MAX: never). What
 * is known to hold is not computed anew, so that it may be called at any time. */
int64_t pop_schedule_look(struct pop *pop, int64_t now_ns);
void pop_schedule_changed(struct pop_endpoint *endpoint); /* its spec, or its share */
void pop_schedule_deinit(struct pop *pop);

/* ---- how long starts take (starts.c) --------------------------------------------------------- */

/* It has become ready just now. */
void pop_starts_add(const struct pop_replica *replica, const struct pop_ready *ready);
const char *pop_start_part_text(enum pop_start_part part);

/* ---- how many (autoscale.c) ------------------------------------------------------------------ */

/* Adds up what a gateway said. */
void pop_scale_demand(struct pop_revision *revision, const struct message_demand *demand);
/* Looks anew at how many replicas the revision should have; returns when to look again. */
int64_t pop_scale_look(struct pop_revision *revision, int64_t now_ns);
/* It begins to serve, or is started again: it stays until it has been idle. */
void pop_scale_wake(struct pop_revision *revision, uint32_t desired);
/* It stays, or comes, as if somebody had asked for it. */
void pop_scale_keep(struct pop_revision *revision);
/* It has no traffic any more, and begins with none where it gets some again. */
void pop_scale_rest(struct pop_revision *revision);
/* Does a gateway say that requests run on it? A word is worth 5 s. */
bool pop_scale_runs(const struct pop_revision *revision);
/* By the last look, within the bounds of now. */
uint32_t pop_scale_desired(const struct pop_revision *revision);
/* As many as a revision that is to serve must have: what serves now has, and one at least. */
uint32_t pop_scale_first(const struct pop_endpoint *endpoint);
/* One sentence: why so many; NULL: nothing is decided. */
const char *pop_scale_words(const struct pop_revision *revision);

/* ---- this PoP's limits (room.c) -------------------------------------------------------------- */

/* All anew, before a pass over all endpoints; one, after it was brought on in it. */
void pop_room_count(struct pop *pop);
void pop_room_moved(struct pop_endpoint *endpoint);
/* So many replicas of a revision may be here, beside what other endpoints have and are to have. */
uint32_t pop_room(const struct pop_endpoint *endpoint);

/* ---- decisions (reconcile.c) ----------------------------------------------------------------- */

/* Brings replicas towards what is wanted, once; arms pop->wake for what is due later. */
void pop_reconcile(struct pop *pop);
void pop_reconcile_soon(struct pop *pop);
/* For reconcile.c: a new one with the lowest free name, not started yet; and dropping what is
 * wanted no more and has no replica left. */
struct pop_replica *pop_replica_new(struct pop_revision *revision);
void pop_replica_drop(struct pop_replica *replica); /* it is no more: GONE, and freed */
void pop_forget(struct pop *pop);

/* Pure. How long to wait before the next start after `failures` in a row: 0, 1, 2, 4, 8, 10 s ...;
 * after many a minute. */
int64_t pop_back_off_ns(uint32_t failures);
/* Pure. Replicas the revision should have now. */
uint32_t pop_endpoint_lead(const struct pop_endpoint *endpoint); /* has the largest share */
/* Its shares hold: what serves here is one of them, or nothing does (it may be at other PoPs). Else
 * the lead is still being started. */
bool pop_endpoint_splits(const struct pop_endpoint *endpoint);
uint32_t pop_replicas_wanted(const struct pop_endpoint *endpoint,
                             const struct pop_revision *revision, int64_t now_ns);
bool pop_endpoint_shares(const struct pop_endpoint *endpoint, uint32_t number);
/* Somebody asks for it, or it has shown for the first time that it can run. If it shares the
 * traffic, it and what serves are there together: one alone would have all. */
void pop_share_keep(struct pop_revision *share);
/* Somebody asks for it now, or (`comes` false) something of it just goes on: what does once the
 * traffic has moved elsewhere keeps nothing. */
void pop_asked(struct pop_revision *revision, bool comes);

/* Words for a wait status and what the supervisor knew: "killed by signal 9 (SIGKILL)". */
const char *pop_exit_words(const struct message_replica_exited *exited, char *buffer, size_t room);
/* "nnp rlimits env fds seccomp landlock(7), no user: EPERM" */
const char *pop_walls_words(const struct message_replica_walls *walls, char *buffer, size_t room);
