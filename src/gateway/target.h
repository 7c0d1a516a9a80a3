/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.h -- a replica that is reached over HTTP, as the gateway holds it. Internal.
 *
 * The table says which there are (contract/table.h); a target lives from table to table by its id,
 * shared by the loops and counted. How many requests it has is one atomic number over all loops;
 * what each loop has seen of it is that loop's own.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/list.h"
#include "contract/table.h"
#include "io/address.h"
#include "policy/outlier.h"

struct gateway;
struct gateway_loop;
struct queue_grant;
struct revision_side;
struct table;

struct target {
    uint64_t id;
    _Atomic uint32_t refs;
    uint32_t kind; /* enum table_target_kind */
    struct address address;
    struct gateway *gateway;
    bool ready;                   /* in the newest table; main thread */
    atomic_bool draining;         /* the agent waits until it has nothing any more */
    _Atomic uint32_t running;     /* requests it has, over all loops */
    _Atomic uint32_t concurrency; /* that it may have */
    struct target_side {
        struct list link; /* of side->targets; of none while it is not ready */
        struct target *target;
        struct outlier outlier;
    } sides[PERIGEE_LOOPS_MAX];
};

/* In a table of before the boot: its containers, by address or within their networks, may have
 * ended with it, and another may have the address. Who asks waits as for a start until the agent's
 * table is there, which has those that live on. Upstreams are where they were. */
void targets_forget(char *table);
/* Main thread: those of a new table, each with a reference that is the table's. */
struct target **targets_of_table(struct gateway *gateway, const struct table_head *head);
/* Those go that the newest table has not once each loop has it, and that are idle, and told of. */
void targets_sweep(struct gateway *gateway);
/* It is told when nothing goes there any more, by whatever gateway. False: there is no such target,
 * and no other gateway that may have it. */
bool target_drain(struct gateway *gateway, uint64_t id);
void targets_drained(struct gateway *gateway);    /* tells of those that have nothing now */
void targets_alone(struct gateway *gateway);      /* the gateway beside us has ended */
struct target *target_ref(struct target *target); /* any thread */
void target_unref(struct target *target);         /* likewise; NULL is allowed */

/* Loop thread: what is ready of the newest table. `old` may be NULL. */
void targets_changed(struct gateway_loop *gl, struct table *old, struct table *now);
/* The least loaded of those that are not ejected; where all are, of all. */
bool target_take(struct revision_side *side, struct queue_grant *ret);
bool target_room(const struct revision_side *side);
/* Another one that has room, taken; NULL: there is none. For one more try. */
struct target *target_take_other(struct revision_side *side, const struct target *but);
void target_give(struct target *target, struct revision_side *side); /* and serves who waits */
uint32_t targets_running(const struct revision_side *side);
