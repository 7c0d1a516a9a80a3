/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.h -- one running copy of a model as the gateway sees it, shared by its loops.
 *
 *   STARTING -> READY -> DRAINING -> GONE
 *      |          |                    ^
 *      +----------+--------------------+     (it exited, or lied, or held a place too long)
 *
 * Ownership: counted; the main thread has one reference, each loop one while it is attached, and
 * each answer one that is written out from the replica's own memory. The last reference unmaps.
 * `state` is the main thread's alone; a loop knows what it was told, in its lane.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/sm.h"
#include "replica/place.h"
#include "replica/process/lane.h"

struct err;
struct message_replica_added;

#define REPLICA_STATES(X)                                                                          \
    X(REPLICA_STARTING, SM_TO(REPLICA_READY) | SM_TO(REPLICA_DRAINING) | SM_TO(REPLICA_GONE))      \
    X(REPLICA_READY, SM_TO(REPLICA_DRAINING) | SM_TO(REPLICA_GONE))                                \
    X(REPLICA_DRAINING, SM_TO(REPLICA_GONE))                                                       \
    X(REPLICA_GONE, 0)
SM_DECLARE(replica_state, REPLICA_STATES)

struct replica {
    uint64_t id, revision;
    char name[64];
    enum replica_state state;
    _Atomic uint32_t refs;
    struct place place;
    /* the embedder's, on its main thread: */
    void *owner; /* which revision; read by loops, too */
    int64_t came_ms;
    uint32_t lanes_drained;
    bool begun, killed;           /* loops were told; the supervisor was asked */
    bool walls_asked, walls_seen; /* of the supervisor; by it: it may have requests */
    bool drained_held;            /* drained here, and not by the gateway beside this one */
    _Atomic int64_t completed_ns; /* its last completion, as loops saw it */

    struct perigee_submission_page *submission; /* the gateway alone writes */
    const char *output;                         /* the replica alone writes */
    uint64_t submission_bytes, output_bytes, slot_bytes;
    uint32_t slots, slot_first; /* those of our lane set: its half */
    uint32_t loops, lane_set;
    struct lane lanes[PERIGEE_LOOPS_MAX];
};

/* Maps the regions and takes the pipes (fds[0] submission, [1] output, [3 ...] pipes; [2], the
 * arena, is not touched). One reference. On success fds that were taken are -1; the rest is the
 * caller's. */
[[nodiscard]] int replica_attach(const struct message_replica_added *added, uint64_t instance,
                                 int *fds, size_t fd_count, struct replica **ret, struct err *err);
struct replica *replica_ref(struct replica *replica);
void replica_unref(struct replica *replica); /* NULL is allowed */

/* No lane of this instance's set has a request in it that is not completed: of an earlier instance,
 * that is. The other set has slots of its own, and may be as busy as it likes. */
bool replica_quiet(const struct replica *replica);
bool replica_quiet_beside(const struct replica *replica); /* the same of the other set */
/* Of the other set, by what the replica says: how many it has and has ever completed. */
void replica_beside(const struct replica *replica, uint32_t *ret_has, uint64_t *ret_completed);
/* Sets the lanes of this instance to where their rings stand; quiet, before a loop gets it. */
void replica_lanes_begin(struct replica *replica);

enum perigee_phase replica_phase(const struct replica *replica); /* what it says of itself */
static inline const struct perigee_status *replica_status(const struct replica *replica)
{
    return (const struct perigee_status *)(const void *)replica->output;
}
