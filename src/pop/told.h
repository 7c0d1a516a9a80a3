/* SPDX-License-Identifier: Apache-2.0 */
/*
 * told.h -- what control's watch tells, into the core; and from where on it is to tell the next
 * time (contract/watch.h).
 *
 * All that was told up to the mark has been taken. There is no mark before all of the state has
 * come once, nor after something that could not be read: then the next watch tells all. It lives
 * as long as its agent, which does not keep it on disk: an agent that begins is told all as well.
 * Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "contract/watch.h"

struct pop;

struct pop_told { /* zeroed: nothing has been told */
    struct watch_mark mark;
    uint64_t number; /* of the last event of this watch: an earlier one that comes later is old */
    uint64_t epoch;  /* of them; 0: control says none */
    bool begun, resumed;
    bool synced; /* what this watch begins with has come, all of it */
    bool lost;   /* something of it could not be read */
};

/* What is left to do for the shell. */
enum pop_told_what {
    POP_TOLD_NOTHING,
    POP_TOLD_ENDPOINT,
    POP_TOLD_PEERS,
    POP_TOLD_KEYS,
    POP_TOLD_QUESTION, /* "explain": its data */
    POP_TOLD_ALL,      /* synced, with all of the state */
    POP_TOLD_CHANGES,  /* synced, with what has changed */
    POP_TOLD_ASTRAY,   /* no use going on: the watch is to be opened anew, and will tell all */
};

void pop_told_open(struct pop_told *told);   /* a watch begins */
void pop_told_forget(struct pop_told *told); /* what was told is worth nothing any more */
/* One event, with its id as it stands there. Logs what cannot be read. */
enum pop_told_what pop_told_event(struct pop_told *told, struct pop *pop, struct slice kind,
                                  struct slice id, struct slice data);
