/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.h -- what this PoP's agent knows of every PoP by asking its gateway: is it up, how far is
 * it, what has it to do. The core: no socket and no clock here; probe.c asks, on the loop.
 *
 * Each PoP is asked about once a second (MESH_EVERY_NS, jittered), this one's own gateway as well;
 * one that could not be reached is asked again after MESH_AGAIN_NS, and once it is known to be down
 * once a second again. One that ends the connection over which it is asked is asked at once: so do
 * those that are killed. Health is policy/health.h's word, waits and weights are policy/load.h's.
 * Where there is no other PoP nobody is asked and nothing is published.
 *
 * All others silent at once, that is this PoP cut off: they are down from here, and clients may
 * reach them as before (`elsewhere`). It takes two of them whose last words are of one moment
 * (MESH_TOGETHER_NS): of one alone nobody can tell, and its clients are to be elsewhere soon. One
 * that refuses is dead. Control's word counts against them where it hears another, since then it is
 * not cut off with us.
 *
 * A DNS server has no gateway of its own. The PoP that it stands beside, where it was told of one
 * (POP_BESIDE_ENVIRONMENT), is as its own: what cuts off one cuts off both, so that it is no other
 * and no witness.
 *
 * What it costs: a question is 0.17 ms of the agent and 0.1 ms of the gateway that answers (a box,
 * two cores): for 300 PoPs 5 % and 3 % of a core. Some 110 bytes for each endpoint at each PoP that
 * has it, MESH_LINES_MAX of them in all; publishing sorts 32 bytes of each once a second: of 1,000
 * endpoints 0.2 ms where each is at 3 PoPs, 2 ms at 30, 0.14 s at 300.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/slice.h"
#include "contract/mesh.h"
#include "contract/peer_load.h"
#include "contract/table.h"
#include "io/address.h"
#include "policy/health.h"
#include "policy/load.h"
#include "spec/pop.h"

struct arena;
struct err;
struct pop_mesh;
struct pop_probe;

#define MESH_EVERY_NS INT64_C(1'000'000'000)
#define MESH_AGAIN_NS INT64_C(100'000'000)
#define MESH_DOUBT_NS INT64_C(300'000'000) /* how often witnesses are asked while there is doubt */
#define MESH_TOGETHER_NS INT64_C(1'500'000'000) /* between two beats, and some way */
#define MESH_TOLD_NS INT64_C(10'000'000'000)    /* control does not miss all in one moment */
#define MESH_STALL_NS INT64_C(1'500'000'000)    /* we slept so long: nobody else is to blame */
enum {
    MESH_AGAIN_MAX = 20, /* times in a row; then it is down, and once a second is enough */
    MESH_UNSAID = MESH_DOWN + 1,
    MESH_WITNESSES = 3, /* who are asked of one that is not reached from here: the nearest */
    MESH_RTTS = 5,      /* the least of so many: what is above it is a queue or a busy machine */
    MESH_LINES_MAX = 1 << 20,
};

#define MESH_BESIDE_MS 5.0f /* farther away nobody stands in a PoP's place */

struct pop_mesh_peer {
    struct list link;
    struct pop_mesh *mesh;
    char name[MESH_NAME_BYTES];
    bool self, draining, listed;
    bool beside; /* it stands where this one does: cut off with it, and so no witness */
    struct address addresses[POP_ADDRESSES_MAX];
    size_t address_count, address_at;
    struct health health;
    int64_t since_ns;                  /* it is known here */
    uint32_t shown_health, shown_calm; /* in what was published last; MESH_UNSAID: it was not */
    bool shown_elsewhere;
    uint32_t reported; /* to control: MESH_UP where clients reach it, else MESH_DOWN */
    float rtts_ms[MESH_RTTS];
    unsigned rtt_count;    /* ever */
    uint64_t life, number; /* of the report that `lines` are; 0: none */
    struct map lines;      /* endpoint uid -> struct pop_mesh_line; from malloc */
    uint64_t *reached;     /* whom it says it reaches: peer_load_name() of each, rising; malloc */
    uint32_t reached_count;
    uint64_t key;      /* its own */
    bool elsewhere;    /* not reached from here, and yet clients may reach it */
    bool refused;      /* it answered last that nobody is there, or nonsense: it is not cut off */
    bool cut;          /* it fell silent when all did */
    int64_t told_ns;   /* since when control does not hear of it; 0: it does */
    int64_t due_ns;    /* when it is asked next; INT64_MAX: it is being asked */
    int64_t left_ns;   /* it was last asked because it left; 0: it was not */
    unsigned failures; /* in a row */
    uint64_t asked, heard, failed, odd; /* odd: answers that were no report; failed, too */
    uint64_t left;                      /* times it ended an idle connection */
    struct pop_probe *probe;            /* probe.c: the question under way, or NULL */
};

struct pop_mesh_line {
    struct peer_load_row row;
    struct load load;
};

struct pop_mesh {
    struct list peers;
    size_t peer_count, line_count;
    uint64_t number;
    const char *beside;   /* name of the PoP that this one, which is none, stands beside; or NULL */
    int64_t published_ns; /* 0: never */
    bool dirty;           /* PoPs came or went */
};

void pop_mesh_init(struct pop_mesh *mesh);
void pop_mesh_deinit(struct pop_mesh *mesh); /* no call is under way any more */

/* Whom to ask: those that have an address, and `self` at its own, if it has a gateway
 * (ADDRESS_NONE: it has none). on_gone: one that is asked no more, before it is freed. */
void pop_mesh_set(struct pop_mesh *mesh, const struct table_source_pop *pops, size_t count,
                  struct slice self, const struct address *own,
                  void (*on_gone)(struct pop_mesh_peer *peer), int64_t now_ns);
bool pop_mesh_needed(const struct pop_mesh *mesh); /* there is another PoP */
struct pop_mesh_peer *pop_mesh_find(struct pop_mesh *mesh, struct slice name);

/* It answered with this report. A broken one is no heartbeat: ERR_BAD_INPUT. */
[[nodiscard]] int pop_mesh_heard(struct pop_mesh_peer *peer, struct slice report, float rtt_ms,
                                 int64_t now_ns, struct err *err);
/* `refused`: somebody there said so; else nothing came. */
void pop_mesh_missed(struct pop_mesh_peer *peer, bool refused, int64_t now_ns);
/* It answered that it has too much to do: it is there, but this is no report. */
void pop_mesh_busy(struct pop_mesh_peer *peer, int64_t now_ns);
/* As the gateway saw requests go. */
void pop_mesh_seen(struct pop_mesh *mesh, struct slice name, uint32_t seen, uint32_t failed,
                   int64_t now_ns);
/* Whoever is asked there has ended a connection that was idle: is it still there? */
void pop_mesh_left(struct pop_mesh *mesh, const struct address *address, int64_t now_ns);
/* Nothing ran here for so long. */
void pop_mesh_stalled(struct pop_mesh *mesh, int64_t gap_ns, int64_t now_ns);

/* How this PoP's own endpoints do, as others are told; rows in the arena. False: not known. */
bool pop_mesh_own(struct pop_mesh *mesh, struct arena *arena, struct mesh_load **ret,
                  size_t *ret_count);

float pop_mesh_rtt_ms(const struct pop_mesh_peer *peer); /* NAN: not measured */
/* Or MESH_UNSAID: it was not heard yet, and had no time to answer. An agent that starts anew says
 * nothing of such, rather than that all are down. */
uint32_t pop_mesh_health(struct pop_mesh_peer *peer, int64_t now_ns);
/* Says which of those that are not reached from here clients may reach: those that others reach,
 * and all of them where it is this PoP that is cut off. Where there is such a one, those
 * who were asked are asked again soon: of a PoP that has died they learn about as late as we. */
void pop_mesh_doubt(struct pop_mesh *mesh, int64_t now_ns);
const char *pop_mesh_health_word(uint32_t health); /* "up", "draining", "down", "unknown" */
/* Is something to be published: a second has passed, or a PoP is not what was said last. */
bool pop_mesh_ripe(struct pop_mesh *mesh, int64_t now_ns);
/* Is there one that clients reach no more, or again, as it was published, and control does not know
 * it yet; and: it does. A PoP that comes up for the first time is no such news. */
bool pop_mesh_news(struct pop_mesh *mesh);
void pop_mesh_reported(struct pop_mesh *mesh);
/* When to look again, at the latest: the first to be asked, to fall silent, to be published. */
int64_t pop_mesh_due_ns(const struct pop_mesh *mesh);
/* The block (contract/mesh.h) in the arena. */
[[nodiscard]] int pop_mesh_print(struct pop_mesh *mesh, struct slice self, struct arena *arena,
                                 int64_t now_ns, struct slice *ret, struct err *err);
