/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h -- what an endpoint's state is called, from what is wanted and what PoPs last said.
 *
 * Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "policy/traffic.h"

/* X(constant, word, when) */
#define STATUS_STATES(X)                                                                           \
    X(STATUS_DEPLOYING, "deploying", "The wanted revision is being started.")                      \
    X(STATUS_ACTIVE, "active", "The wanted revision has the traffic, all replicas are ready.")     \
    X(STATUS_PARTIAL, "partial", "It serves, with fewer replicas than wanted.")                    \
    X(STATUS_IDLE, "idle", "Ready, at zero replicas until a request comes.")                       \
    X(STATUS_STOPPED, "stopped", "Stopped by somebody.")                                           \
    X(STATUS_FAILED, "failed", "The wanted revision does not start; the message says why.")

enum status_state {
#define STATUS_ENUM(id, word, text) id,
    STATUS_STATES(STATUS_ENUM)
#undef STATUS_ENUM
};
const char *status_word(enum status_state state);

struct status_input {
    bool stopped;
    uint64_t target, serving;                  /* revisions; serving 0: none */
    struct slice target_state, target_message; /* starting, ready, failed, or empty */
    const char *copying;                       /* its bytes come from another registry: how far */
    bool copy_failed, copy_troubled;           /* it fails: until somebody does something; or not */
    uint64_t replicas_min;                     /* over all PoPs it is placed on */
    bool idle;                                 /* all of them say that there are to be none now */
    const char *nowhere;                       /* it is placed on none: why */
    bool forbidden;                            /* and no PoP that there is may ever run it */
    bool spread_short;                         /* on fewer than it wants */
    /* Of all PoPs. */
    uint32_t target_ready, target_starting, target_backoff; /* replicas of the target */
    uint32_t other_ready, draining;
    struct slice backoff_message;
    /* Who shares the traffic; none: the target has all. `ready` of them: so many replicas. */
    struct traffic_share shares[TRAFFIC_SHARES_MAX];
    uint32_t share_ready[TRAFFIC_SHARES_MAX];
    size_t share_count;
    uint64_t lead;              /* has the largest; 0: the target */
    uint32_t pops, pops_silent; /* heard of at all; not heard of for too long */
};

#define STATUS_MESSAGE_BYTES 1024
struct status {
    enum status_state state;
    const char *reason; /* one short_word */
    char message[STATUS_MESSAGE_BYTES];
};

void status_decide(const struct status_input *input, struct status *ret);
