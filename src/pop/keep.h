/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep.h -- what a PoP's agent keeps in HOME/pop: the table with a MAC, its key, desired state,
 * the keys it has with other PoPs, secrets of environments, sealed by a key of this PoP alone, and
 * the containers that run.
 * That is enough to serve after a cold boot without control (ARCHITECTURE.md, State).
 *
 * Each file is saved through env.file_save, so that a slow disk delays nothing; one save at a time
 * each, the newest content next. A save that failed is said once and tried again, with a back-off,
 * until it is on disk. Loop thread; reaches the world through struct env alone.
 */
#pragma once

#include "contract/table.h"
#include "pop/state.h"

enum keep_what {
    KEEP_KEY,
    KEEP_TABLE,
    KEEP_DESIRED,
    KEEP_KEYS,
    KEEP_SEAL,
    KEEP_SECRETS,
    KEEP_CONTAINERS,
    KEEP_FILES
};

struct keep;

struct keep_file {
    struct keep *keep;
    enum keep_what what;
    struct arena *waits;     /* to be saved, owned; NULL: nothing waits */
    struct slice bytes;      /* there */
    struct arena *under_way; /* what the disk is busy with, owned */
    struct slice under_way_bytes;
    uint32_t failures; /* in a row */
    struct env_timer again;
};

struct keep {
    struct env *env; /* borrowed, as pop */
    struct pop *pop;
    char folder[MESSAGE_PATH_BYTES + 16];
    unsigned char key[TABLE_KEY_BYTES];
    bool key_known;
    struct arena *seal_arena;    /* a secret one; NULL: no key yet */
    const struct seal_key *seal; /* of secrets */
    bool secrets_there;          /* their file is, or is about to be */
    uint64_t table_number;       /* the highest that was published, or found on disk */
    struct keep_file files[KEEP_FILES];
    bool ending;
    void (*on_saved)(enum keep_what what, void *data); /* what was given last is on disk */
    void (*on_idle)(void *data);                       /* after keep_end(): nothing is under way */
    void *data;
};

/* Zeroed storage in, callbacks apart. */
void keep_init(struct keep *keep, struct pop *pop, const char *home);
void keep_deinit(struct keep *keep); /* nobody is called any more: the env's saver went first */

/* What the agent before knew: desired state, and what the table alone remembers of it. What cannot
 * be read is said, and is as if it were not there. */
void keep_load(struct keep *keep);

void keep_desired(struct keep *keep);                   /* as pop has it now */
void keep_keys(struct keep *keep);                      /* likewise */
void keep_secrets(struct keep *keep);                   /* likewise */
void keep_table(struct keep *keep, struct slice table); /* copied; its MAC is added here */
void keep_containers(struct keep *keep, struct arena *arena, struct slice json); /* takes both */

/* No more tries: on_idle comes once, when nothing is under way. */
void keep_end(struct keep *keep);
