/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.h -- what was used at a PoP, on its disk until control has counted it.
 *
 * HOME/pop/ledger/NUMBER.ledger: one file of records (contract/ledger.h), appended to and synced
 * before a window counts as kept; written anew under the next number, with what control has not
 * counted alone, once it has grown, and the one before removed. A file that ends within a record
 * goes on behind the last whole one. Bytes that were changed are jumped over, said, and kept aside
 * as `damaged` (the last time): what they held is not counted.
 *
 * Exactly once: windows are numbered, and are sent from the oldest on. Control keeps the number and
 * the digest of the last one that it has counted, and takes what follows that one alone. Of windows
 * it may have been sent (`offered`, which is on disk before they are) none is merged, as control
 * may have counted some of them. Others are, by the minute, the hour, the day, or all to one, when
 * they need more than LEDGER_KEPT_BYTES: time becomes coarser, nothing is left out.
 *
 * Where the folder cannot be listed nobody knows what is there: nothing is written, what comes is
 * kept in memory, and goes behind what is found once it can be.
 *
 * Owns its memory. The disk is reached through struct env alone: one write at a time, none waited
 * for. One that fails is tried again; meanwhile windows are kept in memory. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/list.h"
#include "contract/ledger.h"

struct arena;
struct err;

#define LEDGER_FOLDER "pop/ledger" /* in the home */
#define LEDGER_KEPT_BYTES (4u << 20)
#define LEDGER_FILE_BYTES                                                                          \
    (256u << 10)               /* above it, and above twice what is live, it is written anew */
#define LEDGER_OFFERED_MAX 64u /* windows under way to control */
#define LEDGER_OFFERED_BYTES (1u << 20) /* or one */
#define LEDGER_RETRY_MS 1000
#define LEDGER_SKIP 1000u

struct ledger_window { /* kept until control has counted it */
    struct list link;
    uint64_t first, last;
    int64_t begin_ms;
    struct ledger_check check;
    char *bytes;
    size_t size;
    bool offered; /* it says so itself */
    bool on_disk;
};

struct ledger {
    struct env *env;
    char folder[4096];
    char pop[64];
    struct ledger_id id;
    struct list windows; /* oldest first */
    uint32_t window_count;
    size_t window_bytes;
    uint64_t last;                     /* number of the newest window */
    uint64_t counted;                  /* by control, as far as is known */
    struct ledger_check counted_check; /* of that window */
    uint64_t offered, offered_on_disk; /* control may have been sent so much */
    struct ledger_marks marks;         /* of the newest window, for the head of the next file... */
    struct arena *marks_arena;         /* ...in here */
    void (*on_kept)(void *data);       /* more is on disk than before */
    void *data;

    uint64_t file; /* the number of the file; 0: there is none */
    uint64_t file_bytes;
    struct arena *writing; /* what is under way; NULL: nothing */
    bool writing_whole, write_again, anew;
    uint64_t writing_last, writing_offered; /* what it puts on disk */
    size_t writing_bytes;
    struct env_timer retry;
    bool torn;   /* when it was opened: it ended within a record, or that was changed */
    bool unread; /* the folder could not be listed yet */

    uint64_t merged, lost, writes_failed; /* windows merged; windows that nobody counts */
};

/* Reads what is there; `folder` is made. `ret_marks`: how far things were counted, in the arena;
 * *ret_found false: there was no ledger of this PoP, or it is not known yet: what was used before
 * this then is not counted, for how far it was counted is not known either. What cannot be read is
 * said in the log and kept aside, and is no error. */
void ledger_open(struct ledger *ledger, struct env *env, const char *folder, const char *pop,
                 struct arena *arena, struct ledger_marks *ret_marks, bool *ret_found);
void ledger_close(struct ledger *ledger);
/* Of a torn one, where nothing that the lost record may have counted can be counted once more, as
 * what it was of has ended: no number that it may have had comes again, so that control, should it
 * have counted it, takes what follows. Where it can, those numbers do come again, and are lost. */
void ledger_skip(struct ledger *ledger);

/* A window, all but its numbers set. `offer`: control listens, it may be sent once it is on disk.
 */
void ledger_keep(struct ledger *ledger, struct ledger_record *window, bool offer);
/* All windows are on disk. */
bool ledger_kept(const struct ledger *ledger);

/* As a ledger for control, in the arena: what is offered and on disk, from the oldest on. False:
 * there is none; ask again once on_kept was called. */
bool ledger_to_send(struct ledger *ledger, struct arena *arena, struct slice *ret);
/* Control says how far it has counted this ledger. 0 where it has not heard of it. */
void ledger_counted(struct ledger *ledger, uint64_t last, const struct ledger_check *check);
