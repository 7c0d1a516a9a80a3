/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet.h -- control and fifty PoPs in a simulated world: what its files share.
 *
 * Real are control whole but for its sockets and threads (its API, its hub, its store on disk),
 * each PoP's agent but for its channels (the watch, reports, the core, what it keeps), the view of
 * DNS, and what chooses PoPs: residency, route, load, health. Played are the network, processes,
 * and the shell of the gateway, which decides by those. Libraries' own doors to the world (timers,
 * loops, threads, HTTP's client) are wrapped by the linker: fleet_wrap.c. One thread; tests alone.
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
#include "base/json.h"
#include "control/control_own.h"
#include "policy/health.h"
#include "policy/load.h"
#include "policy/resume.h"
#include "policy/route.h"
#include "pop/agent.h"
#include "sim/world.h"

enum {
    SITES = 50,
    NODE_CONTROL = SITES, /* its place in the network */
    NODES,
    ENDPOINTS = 6,
    VERSIONS_MAX = 2048, /* of specs, in one world */
    LAW_NAMES = 6,
    LAW_RULES = 3,
    PLACES_A_REPLICA = 4, /* requests that it runs at the same time */
    WINDOWS = 24,         /* of WINDOW_S, in which what each PoP is asked for is compared */
    WINDOW_S = 2,
    WEBS = 4, /* groups of peers that hear a beat at the same time */
};
#define SERVICE_MS 80.0

struct fleet;

/* ---- the law, naively: fleet_law.c ----------------------------------------------------------- */

/* Countries and EU, or "any", or (but for clients) "same-country"; regions' names. */
struct law_list {
    const char *names[LAW_NAMES];
    unsigned count;
};

struct law {
    struct law_list clients[LAW_RULES], process[LAW_RULES], transit[LAW_RULES];
    unsigned rules;
    const char *unknown_client; /* "refuse", or a country */
    struct law_list regions;    /* none: everywhere */
};

struct city {
    const char *name, *country, *region;
    float latitude, longitude;
};
extern const struct city cities[];
extern const size_t city_count;

void law_draw(struct fleet *fleet, struct law *ret);
void law_print(const struct law *law, struct json_writer *w); /* members of a spec */
/* `client` NULL: nobody knows. */
bool law_may_process(const struct law *law, const char *client, const char *pop);
bool law_may_pass(const struct law *law, const char *client, const char *pop);
bool law_may_place(const struct law *law, const char *name, const struct city *pop);

/* ---- things to come: fleet_events.c ---------------------------------------------------------- */

int64_t fleet_draw(struct fleet *fleet, int64_t low, int64_t high);
bool fleet_maybe(struct fleet *fleet, unsigned permille); /* never in peace */

/* Runs once, `delay_ns` from now; unless `life`, which was so when this was called, has changed. */
typedef void (*event_cb)(struct fleet *fleet, void *data, uint64_t number);
void fleet_after(struct fleet *fleet, int64_t delay_ns, const uint64_t *life, event_cb run,
                 void *data, uint64_t number);
void fleet_events_free(struct fleet *fleet);

/* ---- the network: fleet_http.c --------------------------------------------------------------- */

bool fleet_reaches(const struct fleet *fleet, unsigned from, unsigned to);
int64_t fleet_delay_ns(struct fleet *fleet, unsigned from, unsigned to); /* one way */

/* A call to control's API by an operator, on its machine. status 0: control is down, or went before
 * it answered; what was asked for may have happened all the same. */
typedef void (*answer_cb)(struct fleet *fleet, int status, struct slice body, void *data);
void operator_ask(struct fleet *fleet, const char *method, const char *target, const char *bearer,
                  struct slice body, answer_cb on_answer, void *data);
struct site;
void site_calls_drop(struct site *site); /* its agent is dead: nobody is called */
void control_calls_drop(struct fleet *fleet);
void fleet_calls_free(struct fleet *fleet);

/* ---- PoPs: fleet_site.c ---------------------------------------------------------------------- */

struct process {
    struct list link;
    struct site *site;
    uint64_t id, revision;
    bool ready, told; /* told: of being ready */
    bool draining;
};

struct table_copy {
    char *bytes;
    size_t size;
    uint64_t number;
};

/* What a beat says of one endpoint. */
struct beat_load {
    struct load_report report;
    bool ready;
};

/* What one PoP has heard of another. */
struct heard {
    struct health health;
    uint64_t sequence;
    struct load load[ENDPOINTS];
    bool ready[ENDPOINTS];
};

struct queue {      /* of one endpoint at one PoP */
    double free_at; /* when what was taken on is done, in seconds of one replica's place */
    uint32_t arrived;
};

struct site {
    struct fleet *fleet;
    unsigned index;
    char name[8];
    const struct city *city;
    /* what an operator did */
    bool made, drained, joined, busy;
    char secret[32], token[128];
    /* its machine */
    bool power;
    uint64_t life, power_life; /* of its agent; of its processes */
    uint64_t instance;
    struct agent *agent; /* NULL: none runs */
    char home[16];
    unsigned homes; /* machines it had */
    struct list processes;
    /* its gateway */
    struct table_copy table;
    uint64_t versions[ENDPOINTS]; /* of the specs in that table */
    struct dns_view *view;        /* of it; NULL: not made yet */
    struct queue queues[ENDPOINTS];
    /* its web */
    struct heard heard[SITES];
    uint64_t beats;
};

void site_boot(struct site *site);       /* its agent starts */
void site_agent_kill(struct site *site); /* and is started again a moment later */
void site_power_off(struct site *site);  /* all of it, and its memory */
void site_power_on(struct site *site);   /* a cold boot */
void site_end(struct site *site);        /* for good: its machine is taken away */
unsigned site_ready(const struct site *site, uint64_t uid, uint64_t number); /* replicas; 0: any */
struct site *site_find(struct fleet *fleet, struct slice name);
void site_table_take(struct site *site, const void *bytes, size_t size);

/* ---- control and its operators: fleet_control.c ---------------------------------------------- */

struct wish { /* an endpoint as its operator wants it */
    char name[8];
    uint64_t acked; /* version of its spec that was said to be there; 0: it is not */
    uint64_t tried; /* the last that was sent, whatever came back */
    bool deleting;  /* that it goes was asked for, and nobody knows what came of it */
    bool busy;      /* something is asked for now */
};

void control_start(struct fleet *fleet);
void control_kill(struct fleet *fleet); /* what is on disk is all that there is */
unsigned watches_begun(struct fleet *fleet, enum resume how); /* of agents, up to now */
void operator_changes(struct fleet *fleet);
void endpoint_changes(struct fleet *fleet, struct wish *wish); /* put, or now and then deleted */
void operator_makes(struct fleet *fleet, struct site *site);   /* and it joins */
void operator_settles(struct fleet *fleet);                    /* what chaos left half done */
/* The version of a spec, as its label says; 0: none. */
uint64_t version_of(const struct endpoint_spec *spec);

/* ---- requests: fleet_traffic.c --------------------------------------------------------------- */

struct counts {
    uint64_t requests, served, passed_on, in_transit, denied, lost, retried, unnamed;
};

struct ask {
    unsigned endpoint;
    const struct city *city; /* NULL: nobody knows */
    uint64_t seed;
};

enum { ANSWERS = 4 }; /* PoPs in one, at most */
struct answer {       /* as DNS gives it: the drawn PoP and those near it, and their TTL */
    struct site *sites[ANSWERS];
    size_t count;
    uint32_t ttl_s;
};
void fleet_answer(struct site *server, const struct ask *ask, struct answer *ret);
bool fleet_serves(struct site *site, const struct ask *ask);  /* also by passing it on */
bool fleet_ready(const struct site *site, unsigned endpoint); /* a replica is */
/* Some PoP but `without` (NULL: any) that has a replica may process it. */
bool fleet_can_serve(struct fleet *fleet, const struct ask *ask, const struct site *without);
void traffic_begin(struct fleet *fleet);
void traffic_rate(struct fleet *fleet, double part); /* of what the fleet can answer */
void fleet_beats_free(struct fleet *fleet);
void site_beats(struct site *site); /* once a second, as long as it has power */

/* ---- clients of the dead: fleet_deaths.c ----------------------------------------------------- */

struct held {
    unsigned calm, young; /* who held the address of a PoP that died; of one that was just back */
};
void fleet_deaths(struct fleet *fleet, struct held *ret); /* at rest; adds to it */

/* ---- the whole ------------------------------------------------------------------------------- */

struct fleet {
    struct world *world;
    struct env *env;
    bool chaos;
    struct control *control; /* NULL: it is down */
    uint64_t control_life;
    struct list calls, beats; /* beats: under way */
    struct list works;        /* jobs of control's pools, in their order */
    bool works_closed;        /* control is being killed */
    char folder[FAULT_FOLDER_BYTES], model[80];
    struct site sites[SITES];
    struct wish wishes[ENDPOINTS];
    struct law laws[VERSIONS_MAX]; /* by version */
    uint64_t versions;
    bool cut[NODES][NODES];
    struct list events;
    struct env_timer tick, trouble, traffic;
    double rate_per_s, rates[ENDPOINTS]; /* of all; of each, 0: as many of each */
    struct counts counts;
    /* how it is with herds */
    bool measuring;
    int64_t measured_from_ns;
    uint32_t asked[ENDPOINTS][SITES][WINDOWS];
    bool placed[ENDPOINTS][SITES]; /* when that began */
    /* of what was tried */
    unsigned kills, cuts, deaths, boots, changes, refused, jumps, calls_lost;
    unsigned watches[RESUMES]; /* of agents, by how they began: with controls that are gone */
    struct table_copy shown;   /* what shm_publish() was given last */
};

extern struct fleet *fleet_now; /* whose world it is: for what is wrapped */
