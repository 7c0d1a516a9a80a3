/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_own.h -- the inside of proxy*.c. Loop thread only.
 *
 * A struct proxy outlives its request by as long as the call to the target takes to end; the
 * request outlives it never.
 */
#pragma once

#include "base/list.h"
#include "gateway/core.h"
#include "gateway/proxy.h"
#include "http/relay.h"

struct entrance;
struct http_client;
struct target;

struct proxies {
    struct gateway_loop *gl;
    struct http_client *client;
    struct entrance *entrance; /* to those that are containers; the client's dialer */
    struct list under_way;
};

struct proxy {
    struct list link; /* of under_way */
    struct relay relay;
    struct request *request; /* NULL: its client has gone */
    struct gateway_loop *gl;
    struct table *table; /* a reference: its endpoint and side stay */
    struct endpoint *endpoint;
    struct revision_side *side;
    struct target *target; /* whose place it has; a reference */
    int64_t taken_ns;      /* when it took that */
    bool canceled;         /* the call's end is to be ignored */
    bool again;            /* the call took too long: its end is followed by another target's */
    bool patient;          /* there is none: this call has all of the time */
    bool answering;        /* the answer has begun, and goes to the client */
    bool counted;          /* what became of this try */
    unsigned tries;
};

/* proxy.c */
void proxy_place_have(struct proxy *proxy, struct target *target); /* it was taken for it */
void proxy_place_give(struct proxy *proxy);                        /* once; again is harmless */
void proxy_free(struct proxy *proxy); /* once neither the client nor a call needs it */

/* proxy_try.c */
/* It is ended before it was answered. Other PoPs and clients send again what says that nothing ran:
 * what the replica may have acted upon is answered as if that had died. */
void proxy_refuse(struct proxy *proxy, const struct err *err);
/* The table is another: it is ended where it may not be here by that. */
void proxy_uphold(struct proxy *proxy);
/* Over a new connection, or as it comes. An error is the caller's to answer. */
[[nodiscard]] int proxy_ask(struct proxy *proxy, bool fresh, struct err *err);
void proxy_due_arm(struct proxy *proxy);
