/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abroad.h -- other registries: which ones were told of, what a reference to one means now, and the
 * copies that are made of it.
 *
 *   image: HOST/PATH:TAG --abroad_find()--> digest, small documents, what is to be copied
 *       --abroad_keep(), with the change--> a revision, and origins of blobs that are not here
 *       --copies_look()--> each blob copied, resumed, tried again; PoPs hear of it once all is here
 *
 * Rows are kept in memory as the store has them, passwords sealed; a thread that is to call there
 * opens its own. Loop thread only, unless told.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "http/elsewhere.h"

struct abroad;
struct arena;
struct artifact;
struct blobs;
struct control;
struct err;
struct hub_endpoint;
struct oci_part;
struct reference;
struct request;
struct snapshot;
struct store_origin;
struct store;
struct store_registry;
struct store_revision;
struct work_pool;

/* Before anything serves, on the store's file that nobody else has yet. */
[[nodiscard]] int abroad_open(struct control *control, struct err *err);
void abroad_stop(struct control *control);  /* what is under way ends soon */
void abroad_close(struct control *control); /* after the last job */
struct work_pool *abroad_ask_pool(struct control *control);
struct work_pool *abroad_copy_pool(struct control *control);

/* ---- registries told of ---- */
const struct store_registry *abroad_row(const struct control *control, struct slice host);
size_t abroad_rows(const struct control *control, const struct store_registry **ret);
/* What the store has now; takes the arena. What was to be copied from `host` is tried anew. */
void abroad_told(struct control *control, struct arena *arena, struct store_registry *rows,
                 size_t count, struct slice host);
/* What a password is sealed for, in the arena. */
struct slice abroad_purpose(struct arena *arena, struct slice host);

/* ---- one that is to be asked ---- */
struct abroad_ask { /* a copy, for a thread */
    const char *home;
    struct blobs *blobs;
    const atomic_bool *stop;
    struct elsewhere_registry registry; /* without its password */
    struct slice sealed;
};
void abroad_ask(struct control *control, struct arena *arena, struct slice host,
                struct abroad_ask *ret);
/* Any thread: its password, into a secret arena. */
[[nodiscard]] int abroad_unseal(struct abroad_ask *ask, struct arena *secret, struct err *err);

/* ---- what a reference means now ---- */
struct abroad_doc {
    struct slice digest, text;
};
struct abroad_found {     /* in the arena given */
    struct slice written; /* as the spec has it, without a scheme */
    struct slice host, repository;
    struct slice digest, media_type; /* of what the reference names */
    struct abroad_doc *docs;         /* that, and what it leads to: manifests, a configuration */
    size_t doc_count;
    const struct oci_part *parts; /* to be copied from there */
    size_t part_count;
};
/* Any thread; blocks, ABROAD_FIND_MS at most. `image`: of an index the manifest for this machine
 * counts, and its configuration is read. */
enum { ABROAD_FIND_MS = 20'000 };
[[nodiscard]] int abroad_find(const struct abroad_ask *ask, const struct reference *reference,
                              struct slice written, bool image, struct arena *arena,
                              struct abroad_found *ret, struct err *err);
/* On the store's thread, in the transaction of a change: documents become blobs, the rest has an
 * origin where it is not here. */
[[nodiscard]] int abroad_keep(const struct artifact *artifact, const struct abroad_found *found,
                              struct err *err);

/* What is still to come of a revision, in words; NULL: nothing is. */
[[nodiscard]] int abroad_coming(struct store *store, const struct store_revision *revision,
                                struct arena *arena, const char **ret, struct err *err);

/* Whoever called hears why; that another registry does not answer is none of our failures. */
void abroad_refuse(struct request *q, const struct err *err);

/* ---- copies ---- */
/* There may be something to copy, or no more. */
void copies_look(struct control *control);
void copies_again(struct control *control, struct slice host); /* without waiting any more */
/* An endpoint has changed; `found` NULL: no other registry was asked for it. */
void copies_changed(struct control *control, const struct abroad_found *found);
struct copies_state {
    bool copying; /* something is still to come; the rest is of this */
    bool lasting; /* somebody has to do something */
    const char *host;
    uint64_t bytes, bytes_done; /* of all that the revision needs */
    const char *why;            /* the last failure; NULL: none */
};
/* Of a revision. Text lives until the loop turns. */
void copies_state(struct control *control, const struct snapshot *snapshot, uint64_t number,
                  struct copies_state *ret);
