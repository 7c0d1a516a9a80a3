/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meter.h -- what is used at a PoP, from what the kernel says of replicas and the gateway counts of
 * revisions: sums of an accounting window, and how far everything was counted by then.
 *
 * Everything that comes in is a total since a beginning (CPU time since the replica's start,
 * requests since the gateway's counters began), never a difference: what is missed between two
 * looks, or while no agent was there, is in the next total. A replica is counted from its start to
 * its reaping, whose total is the kernel's own. What runs it is no business of this: worker
 * processes, containers, or nothing at all (an upstream has counts alone).
 *
 * An accounting second is busy where requests ended within it or something ran at its end: then all
 * CPU time in it is the requests', and where nobody looked meanwhile all until the next look. Else
 * it is warm idle, and before READY it is the start's. So the three are the kernel's figure, to the
 * microsecond.
 *
 * Pure: no clock, no disk. Owns its memory. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "contract/ledger.h"

struct arena;

struct meter_use {       /* of a replica */
    uint64_t cpu_us;     /* since its start; all threads, user and system */
    uint64_t memory_kib; /* resident now; METER_UNKNOWN: not looked at */
    bool runs;           /* a request, as far as it is known */
};
#define METER_UNKNOWN UINT64_MAX

struct meter {
    uint64_t era;
    struct map replicas;  /* id -> struct meter_replica */
    struct map revisions; /* uid -> struct meter_revision */
    bool fresh;   /* there was no ledger: what is found running was never counted, and is not */
    uint64_t odd; /* totals that went down */
};

void meter_init(struct meter *meter, uint64_t era);
void meter_deinit(struct meter *meter);
/* Before anything else: what an earlier agent had counted. Of another era it is forgotten. */
void meter_restore(struct meter *meter, const struct ledger_marks *marks);

/* A replica that there is. `own`: this agent had it started, just now; else it is `age_ms` old, of
 * which nothing was counted unless it was restored. Again is harmless. */
void meter_replica(struct meter *meter, uint64_t replica, uint64_t revision_uid,
                   uint64_t reserved_kib, bool own, uint64_t age_ms, int64_t now_ms);
void meter_look(struct meter *meter, uint64_t replica, const struct meter_use *use, int64_t now_ms);
void meter_ready(struct meter *meter, uint64_t replica); /* after a look */
/* Reaped: the kernel's last word. False: it was counted to its end before. */
bool meter_ended(struct meter *meter, uint64_t replica, uint64_t revision_uid, uint64_t cpu_us,
                 int64_t now_ms);
/* Its end is on disk, and nobody tells it again. */
void meter_forget(struct meter *meter, uint64_t replica);
void meter_told(struct meter *meter, uint64_t replica); /* it lives; unknown: nothing happens */
/* Replicas that nobody has told of by now are gone, and their last seconds with them. */
void meter_forget_untold(struct meter *meter);

/* What the gateway has counted for a revision by now. `begun`: seen when this agent began. */
void meter_counts(struct meter *meter, const struct ledger_counter_mark *totals, bool begun);
/* The gateway has no counts of it, or none any more: when it has again they begin anew. As long as
 * it has, what was counted of them is remembered, wherever the revision went meanwhile. */
void meter_uncounted(struct meter *meter, uint64_t revision_uid);
void meter_second(struct meter *meter); /* an accounting second is over */

/* What has come together since the one before, and begins anew: rows and marks, in the arena.
 * False: nothing has. */
bool meter_window(struct meter *meter, struct arena *arena, struct ledger_record *ret);
/* All marks, for the head of a file. */
struct ledger_marks meter_marks(const struct meter *meter, struct arena *arena);
