/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward_own.h -- the inside of forward*.c. Loop thread only.
 *
 * A struct forward outlives its request by as long as the call to the peer takes to end; the
 * request outlives it never.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "gateway/core.h"
#include "gateway/forward.h"
#include "http/client.h"
#include "http/relay.h"
#include "io/loop.h"
#include "policy/retry.h"
#include "policy/route.h"

struct arena;
struct mesh_head;

enum {
    FORWARD_TRIES_MAX = 4,         /* PoPs for one request */
    FORWARD_NAME_BYTES = 64,       /* of a PoP */
    FORWARD_KEPT_CONNECTIONS = 64, /* idle, of one loop */
    /* Under way to one PoP from this one: what its address_connections_max leaves. */
    FORWARD_PEER_CALLS_MAX = 960,
    FORWARD_PEER_TUNNELS_MAX = FORWARD_PEER_CALLS_MAX / 2, /* of those: they last */
    FORWARD_CONNECT_MS = 2000,
    FORWARD_IDLE_MS = 30000,    /* below idle_ms of the other gateway's limits */
    FORWARD_SILENCE_MS = 60000, /* within an answer */
    FORWARD_HEAD_MS = -1,       /* each request has a timer of its own */
    FORWARD_SPENT_MS_MIN = 10,  /* less is not told */
    FORWARD_SLACK_MS = 5000,    /* beyond what the other gateway itself allows */
};
#define FORWARD_AVOID_NS INT64_C(1'000'000'000) /* a PoP that failed */
#define FORWARD_KEY_NS INT64_C(100'000'000)     /* until a PoP's key is looked for anew */
#define FORWARD_MUTE_NS INT64_C(3'000'000'000)  /* within the answer of a PoP that is down */

/* Another PoP. Kept by name, from table to table. */
struct forward_peer {
    char name[FORWARD_NAME_BYTES];
    struct address address;
    int64_t avoid_until_ns;
    uint32_t calls;        /* under way */
    uint32_t tunnels;      /* of those, by requests that ask for one */
    uint32_t held;         /* by forwards that tried it */
    uint32_t seen, failed; /* not yet told to the agent */
    bool listed;           /* by the table */
    bool keyed;            /* there is a key to sign by: */
    int64_t key_asked_ns;  /* so it was then */
};

/* The PoPs of one table, as policy/route.h takes them. */
struct forward_pops {
    struct table *table; /* a reference; NULL: none yet */
    struct arena *arena;
    struct route_pops route;
    uint8_t *health;              /* of route: `known`, and DOWN where it is not to be tried now */
    uint8_t *known;               /* as table and mesh say */
    float *rtt_ms;                /* by row; NAN: not measured */
    struct forward_peer **peer;   /* by row; NULL: this one, or one without an address */
    uint32_t own;                 /* row; TABLE_NONE: not in the table */
    bool draining;                /* this one is */
    const struct mesh_head *mesh; /* that they were last renewed by; NULL: none that is fresh */
    uint64_t mesh_number;
    uint32_t *mesh_row; /* by row; UINT32_MAX: not in it */
};

struct forwards {
    struct gateway_loop *gl;
    struct http_client *client;
    struct address source; /* that it dials from; ADDRESS_NONE: as the kernel finds */
    struct map peers;
    struct list under_way; /* struct forward */
    struct retry_budget budget;
    struct forward_pops pops;
    int64_t told_ns; /* when the agent was last told what was seen of peers */
};

struct forward {
    struct list link;        /* of under_way */
    struct request *request; /* NULL: its client has gone */
    struct gateway_loop *gl;
    struct table *table; /* a reference: its endpoint stays */
    struct endpoint *endpoint;
    enum forward_reason reason;
    struct forward_peer *peer;
    struct relay relay; /* with the call, if there is one */
    bool canceled;      /* the call's end is to be ignored */
    bool again;         /* the call's end is to be followed by another try; not read until then */
    bool paid;          /* that was taken from the budget */
    bool unpaid;        /* there was none left, and that is counted */
    bool renewed;       /* that PoP was asked anew, over a new connection */
    bool upgrade;       /* it asks for a tunnel: relay.tunnel once it has one */
    bool once;          /* what was sent of it may have been acted upon: not sent again */

    struct forward_peer *tried[FORWARD_TRIES_MAX];
    unsigned tries;

    bool answering;     /* the answer has begun, and goes to the client */
    uint64_t delivered; /* then: what its PoP had of the other direction, when that was last seen */
    int64_t delivered_ns; /* to have grown; looked at once a second */
};

/* forward.c */
void forward_tunnel_arm(struct forward *forward); /* it is one: its silence is bounded */
[[nodiscard]] int forward_start(struct request *request, struct forward_peer *peer,
                                enum forward_reason reason, struct err *err);
/* No other PoP answers it: what came of it goes the way of a request of this one. */
void forward_here(struct forward *forward);
void forward_replayed(struct request *request); /* body.c has all of it */
/* Once neither the client nor a call has to do with it; before that, nothing. */
void forward_free(struct forward *forward);

/* forward_try.c */
[[nodiscard]] int forward_try(struct forward *forward, struct forward_peer *peer, struct err *err);
/* Once a second at least: what its PoP acknowledges shows that it is there. */
void forward_look_delivered(struct forward *forward);
/* The mesh finds its PoP down: what waits for it goes elsewhere where it may, and an answer is cut
 * of which nothing more comes, while nothing that the client says arrives either. */
void forward_peer_lost(struct forward *forward);
/* The table is another: what may not be where it is goes elsewhere where it may, or ends. */
void forward_uphold(struct forward *forward);

/* forward_peers.c */
/* Those of that table, with what is known now; until the next call. `tunnel`: for one. */
const struct forward_pops *forward_pops(struct forwards *forwards, struct table *table,
                                        bool tunnel);
/* Is this PoP to be emptied? Asked for each request. */
bool forward_draining(struct forwards *forwards, struct table *table);
void forward_pops_free(struct forwards *forwards);
bool forward_peer_down(struct forwards *forwards, const struct forward_peer *peer);
enum forward_seen { FORWARD_SEEN_NOTHING, FORWARD_SEEN_GOOD, FORWARD_SEEN_FAILED };
void forward_peer_done(struct forwards *forwards, struct forward_peer *peer,
                       enum forward_seen seen);
void forward_peer_avoid(struct forward_peer *peer); /* for a second */
/* Nobody knows what it did there. An inference may run twice; what an application is sent may not,
 * unless its method says so. */
bool forward_unsafe(const struct forward *forward, const struct http_call *call);
void forward_peers_tell(struct forwards *forwards); /* the agent, of all */

/* forward_choose.c */
enum forward_where {
    FORWARD_NOWHERE,
    FORWARD_HERE,
    FORWARD_ELSEWHERE, /* *ret_peer */
    FORWARD_DENIED,    /* residency does not let it be processed any more: *err is its answer */
};
/* What is next for it, by the table of now. */
enum forward_where forward_next(struct forward *forward, struct forward_peer **ret_peer,
                                struct err *err);
/* Is it placed there, and may it be processed there, by the table of now? Where nowhere, *err is
 * forward_next()'s to say. */
bool forward_permitted(struct forward *forward, const struct forward_peer *peer);

/* forward_head.c */
/* In the arena: the request's headers as they go to that peer, signed. */
[[nodiscard]] int forward_request_headers(struct arena *arena, struct request *request,
                                          const struct forward_peer *peer, struct http_headers *ret,
                                          struct err *err);
bool forward_upgrades(const struct request *request); /* it asks for a WebSocket */
struct http_headers forward_answer_headers(struct arena *arena, struct request *request, int status,
                                           const struct http_headers *headers);
struct http_headers forward_inform_headers(struct request *request,
                                           const struct http_headers *headers); /* of a 1xx */
/* Was it refused there before anything ran, so that another PoP may be asked? */
bool forward_refused(const struct http_response *response);

/* forward_stream.c */
void forward_relay_init(struct forward *forward);
