/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub.h -- what control knows right now: every endpoint as the store last said, every PoP as it
 * last reported, and from both the views that clients get.
 *
 * A snapshot of an endpoint is loaded in the transaction that changed it and given to the hub on
 * the loop; writing jobs end in order, so the newest stands. When a view has changed it gets the
 * next number and goes to the watchers. After a restart the numbers go on above all earlier ones
 * (they begin at the wall clock), and PoPs' state is the store's last until they report. Loop
 * thread only, but for snapshot_load().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/slice.h"
#include "control/demand.h"
#include "control/secrets.h"
#include "policy/believed.h"
#include "policy/regions.h"
#include "policy/rtt.h"
#include "spec/endpoint.h"
#include "spec/pop.h"
#include "store/digest.h"
#include "store/store.h"

struct arena;
struct control;
struct err;
struct json_writer;
struct placement_where;
struct schedule_held;
struct timer;

/* ---- from the store ----------------------------------------------------------------------- */

struct snapshot_secret { /* that a kept revision names */
    struct slice name;
    uint64_t revision;
};

struct snapshot {
    struct arena *arena; /* its own; everything here lies in it */
    struct store_endpoint row;
    struct endpoint_spec spec; /* row.spec, read */
    struct store_revision *revisions;
    size_t revision_count;
    struct store_death *deaths;
    size_t death_count;
    struct store_origin *origins; /* what is still to come of them (abroad.h), by their numbers */
    size_t origin_count;
    struct snapshot_secret *secrets;
    size_t secret_count;
};

/* On a store's thread. The snapshot is the caller's, then the hub's. */
[[nodiscard]] int snapshot_load(struct store *store, uint64_t uid, struct snapshot **ret,
                                struct err *err);
void snapshot_free(struct snapshot *snapshot);                         /* NULL is allowed */
bool snapshot_waits(const struct snapshot *snapshot, uint64_t number); /* not all is here */
/* The target; while it waits, the one that PoPs are to have in its place. 0: there is none. */
uint64_t snapshot_target(const struct snapshot *snapshot);
const struct store_revision *snapshot_revision(const struct snapshot *snapshot, uint64_t number);

/* ---- from PoPs ---------------------------------------------------------------------------- */

struct hub_replica {
    uint64_t endpoint_uid, revision;
    struct slice name, state, message;
    struct slice view; /* JSON object, as clients get it */
};

/* Clients of an endpoint that came there from one country, as far as their round trip is known. */
struct hub_clients {
    uint64_t endpoint_uid, requests, near, rtt_us; /* near: under 50 ms; rtt_us: the sum */
    char country[8];                               /* or "unknown", "other" */
};

/* What an endpoint was asked for there in a window, and what is under way. */
struct hub_activity {
    uint64_t endpoint_uid, window_ms, requests, errors;
    uint64_t running, queued;
    uint64_t took[METRIC_BUCKETS_MAX + 1]; /* by metric_buckets_latency; the last: above them all */
};

/* What an endpoint has of volumes there, on the disk. */
struct hub_volumes {
    uint64_t endpoint_uid, bytes;
};

/* An endpoint there, as its agent measured it (contract/mesh.h). */
struct hub_load {
    uint64_t endpoint_uid;
    float wait_ms, service_ms, start_ms, weight, last_start_ms; /* INFINITY as there */
};

/* Another PoP, as it reaches it. */
struct hub_peer {
    struct slice pop; /* its name */
    struct believed_word word;
};

/* X(id, word, what it means) */
#define HUB_POP_STATES(X)                                                                          \
    X(HUB_POP_JOINING, "joining", "It has not joined, or not reported yet.")                       \
    X(HUB_POP_READY, "ready", "It reports.")                                                       \
    X(HUB_POP_DRAINING, "draining", "It is to run nothing any more.")                              \
    X(HUB_POP_UNREACHABLE, "unreachable", "It has not reported lately; it may serve on.")          \
    X(HUB_POP_RETIRED, "retired", "It was deleted; its secret is worth nothing.")
enum hub_pop_state {
#define HUB_POP_STATE(id, word, text) id,
    HUB_POP_STATES(HUB_POP_STATE)
#undef HUB_POP_STATE
};

struct report;
struct report_endpoint;
struct report_sum;

/* How much of something there was of late; it fades with time. */
struct hub_share {
    uint32_t used;
    int64_t at_ms; /* the loop's clock */
};

struct hub_pop {
    struct slice name;
    struct arena *arena; /* of what follows; NULL: none */
    struct hub_replica *replicas;
    size_t replica_count;
    struct report_endpoint *endpoints;
    size_t endpoint_count;
    struct hub_load *loads;
    size_t load_count;
    bool loads_told;
    struct hub_clients *clients;
    size_t client_count;
    struct hub_activity *activity;
    size_t activity_count;
    struct hub_volumes *volumes; /* by endpoint, placed there or not */
    size_t volumes_count;
    struct slice peers;         /* JSON: how it reaches other PoPs; empty: not said */
    struct hub_peer *peer_list; /* the same, by name */
    size_t peer_count;
    uint16_t gateway_port;   /* where its gateway listens, as it says; 0: not said */
    struct arena *row_arena; /* of what follows: what an operator said; NULL: nothing */
    struct store_pop row;
    struct pop_spec spec;
    size_t index;     /* in hub.sorted */
    struct spot spot; /* of spec; all 0: not known */
    unsigned watches; /* its agent is connected */
    unsigned seen;    /* its enum hub_pop_state when somebody last looked, */
    int64_t state_ns; /* and since when; the wall's clock */
    struct {          /* what placement has given it */
        uint64_t replicas, cpu_milli, memory_bytes;
    } placed;
    struct demand demand; /* from where clients came to it */
    struct map lately;    /* uids of endpoints that it had: when it lost them (granted.h) */
    struct map refusals;  /* by endpoint and reason: until when it has told of them (granted.h) */
    struct map readied;   /* by revision: until when it has said that it is ready (granted.h) */
    bool report_in_hand;  /* one is being taken: no other one meanwhile */
    bool usage_in_hand;   /* likewise */
    struct hub_share told, reports; /* of late: events; reports */
    char sets[DIGEST_TEXT]; /* of its sets of countries, as it last said; empty: it has not */
    int64_t complained_ms;  /* control's log has said something of its reports; 0: never */
    uint64_t instance, sequence;
    uint64_t heard_instance, heard_sequence; /* of the newest report that came, taken or not yet */
    int64_t reported_ms;                     /* the loop's clock; 0: not since control started */
    int64_t reported_ns;                     /* the wall's */
    bool silent;
    bool recalled; /* what it said to an earlier control: it has not reported to this one */
    bool unheard;  /* it fell silent when all did, so that control may be the one cut off */
    char *kept;    /* what the store has of it; from malloc */
    uint64_t keys_told, keys_changed; /* hash of its keys as they were last told; their number */
    struct secrets_told secrets;
};

/* ---- both --------------------------------------------------------------------------------- */

/* Where it stands, as regions and residency see it: the operator's word, or that of `up`. */
struct region_place hub_pop_place(const struct control *control, const struct hub_pop *pop);

struct hub_place {
    struct hub_pop *pop; /* borrowed */
    uint32_t replicas;
    uint32_t floors[SPEC_WINDOWS_MAX]; /* of them here while the fleet's minimum is that one; */
    uint32_t most;                     /* the largest of these, or replicas */
    int64_t since_ns;
};

struct hub_endpoint {
    struct snapshot *snapshot;
    struct hub_place *places; /* by name of PoP; from malloc */
    size_t place_count;
    uint32_t floors[SPEC_WINDOWS_MAX]; /* what its schedule raises scale.min to, ascending */
    size_t floor_count;
    struct schedule_held *schedule;               /* schedule.c's; NULL: not read yet */
    uint64_t place_cpu_milli, place_memory_bytes; /* of a replica, as was taken of its PoPs */
    char nowhere[512];            /* why it is placed nowhere; "" while it is placed */
    bool forbidden;               /* regions or residency refuse every PoP there is */
    bool spread_short, min_short; /* fewer PoPs, or replicas, than the spec wants can be had */
    bool places_unsaved;
    bool demand_moved;             /* it is asked for otherwise than when it was placed */
    bool place_spared;             /* more PoPs than must be: some go once all has settled */
    struct placement_where *where; /* placement.c's; NULL: not compiled yet */
    struct list stale;             /* in hub.stale: something it was made of has changed */
    struct list naming;            /* in hub.naming: a kept revision names secrets */
    struct slice key;              /* "project/name", from malloc */
    struct slice view;             /* JSON, from malloc */
    struct slice pop_view;         /* empty: there is nothing for PoPs in it yet */
    uint64_t changed, pop_changed; /* numbers of the two */
    bool deploying;                /* its state is */
};

/* An endpoint that was deleted. */
enum { HUB_GONE_MAX = 1024 };
struct hub_gone {
    uint64_t number, uid;
    struct slice key; /* from malloc */
};

struct hub {
    struct map by_uid, by_key; /* struct hub_endpoint */
    struct map pops;           /* by name: struct hub_pop */
    struct hub_pop **sorted;   /* the same in the order of their names; from malloc */
    size_t sorted_count;
    struct list stale; /* endpoints that are to be made anew */
    struct list naming;
    bool peers_stale;
    struct timer *refresh;
    uint64_t epoch;                   /* of numbers, never 0: another one in each control's life */
    uint64_t changes;                 /* the last number given */
    struct store_placement *recalled; /* while the state is read: where endpoints are placed */
    size_t recalled_count;
    int64_t calm_ms; /* until then PoPs heard of before are taken to be where they were */
    bool deaf;       /* nobody is heard */
    struct hub_gone gone[HUB_GONE_MAX]; /* a ring of those of late, their numbers rising */
    uint64_t gone_count;
    struct slice peers;     /* JSON: all PoPs, as agents are told; from malloc */
    uint64_t peers_changed; /* its number */
    char *gateway;          /* "127.0.0.1:8000", where endpoints answer; NULL: not known yet */
    bool gateway_loopback;
};

void hub_open(struct control *control);
void hub_close(struct control *control);

/* Takes the snapshot. Watchers hear when a view has changed. */
void hub_put(struct control *control, struct snapshot *snapshot);
void hub_remove(struct control *control, uint64_t uid);
struct hub_endpoint *hub_find(struct control *control, struct slice project, struct slice name);
struct hub_endpoint *hub_get(struct control *control, uint64_t uid);

/* Deletions behind this number are all known. */
uint64_t hub_gone_known(const struct hub *hub);
/* The first behind that number; NULL: there is none. */
const struct hub_gone *hub_gone_after(const struct hub *hub, uint64_t number);

/* Replaces what a PoP says; takes the arena. Views of endpoints touched are made anew. */
struct hub_pop *hub_pop(struct control *control, struct slice name); /* made when missing */
void hub_pop_state(struct control *control, struct hub_pop *pop, struct arena *arena,
                   const struct report *report);
/* What an operator said of it, as the store has it; copied. */
void hub_pop_row(struct control *control, const struct store_pop *row);
/* Its agent came, or went. */
void hub_pop_watched(struct control *control, struct hub_pop *pop, bool there);
enum hub_pop_state hub_pop_state_of(const struct hub_pop *pop);
bool hub_pop_runs(const struct hub_pop *pop); /* replicas; a DNS server (`perigee dns`) does not */
const char *hub_pop_state_word(enum hub_pop_state state);
/* Its sets of countries (--sets) decide otherwise than control's do. */
bool hub_pop_sets_differ(const struct control *control, struct slice said);
/* Of all PoPs, `said` in the place of what `pop` said before. */
struct report_sum hub_sum(struct control *control, const struct store_endpoint *row,
                          struct slice pop, const struct report_endpoint *said);
/* The generation of the endpoint that requests meet at every PoP that is heard and knows it. */
uint64_t hub_observed(struct control *control, const struct store_endpoint *row);
/* Every few seconds: PoPs that fell silent, the gateway's addresses. */
void hub_tick(struct control *control);
void hub_refresh(struct control *control, struct hub_endpoint *endpoint); /* makes its views anew */
/* The same on one of the loop's next turns, of many endpoints a few in each. */
void hub_refresh_soon(struct control *control, struct hub_endpoint *endpoint);
void hub_refresh_now(struct control *control); /* what fits into one turn of it */

/* True when at least one replica of it is known. */
bool hub_has_replicas(struct control *control, uint64_t uid);

/* ---- views (view.c) ----------------------------------------------------------------------- */

const char *view_time(int64_t ns, char buffer[static 40]); /* RFC 3339, UTC */
void view_member_time(struct json_writer *w, const char *key, int64_t ns);
const char *view_state(struct control *control, const struct hub_endpoint *endpoint);
struct slice view_endpoint(struct control *control, struct arena *arena,
                           const struct hub_endpoint *endpoint, bool *ret_deploying);
struct slice view_pop_endpoint(struct arena *arena, const struct hub_endpoint *endpoint);
struct slice view_pop(struct control *control, struct arena *arena, const struct hub_pop *pop);
struct slice view_peers(struct control *control, struct arena *arena);
void view_replicas(struct control *control, struct json_writer *w, uint64_t uid); /* an array */
void view_revision(struct json_writer *w, const struct store_endpoint *endpoint,
                   const struct store_revision *revision);
void view_event(struct json_writer *w, const struct store_event *event);
void view_log(struct json_writer *w, const struct store_log *log);
struct slice view_etag(struct arena *arena, uint64_t generation);
