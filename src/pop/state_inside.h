/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state_inside.h -- what the files of the core share among themselves: making and freeing what
 * state.h declares (state.c), and what an earlier agent left (earlier.c). Loop thread only.
 */
#pragma once

#include <yyjson.h>

#include "pop/state.h"

struct pop_endpoint *pop_endpoint_new(struct pop *pop, uint64_t uid);
struct pop_revision *pop_revision_new(struct pop_endpoint *endpoint, uint64_t uid, uint32_t number);
struct pop_replica *pop_replica_make(struct pop_revision *revision, uint64_t id);
void pop_replica_free(struct pop_replica *replica);
void pop_text_set(char **text, struct slice value);
/* The lowest number that no other replica of the endpoint has. */
uint32_t pop_ordinal_free(const struct pop_endpoint *endpoint);

/* A replica of an earlier agent whose revision is not known here: what the disk says may be older
 * than it, or cannot be read. It serves on until control has told everything. */
struct stranger {
    struct list link;
    struct message_replica_added added;
    bool drained;
};
struct stranger *pop_stranger_find(struct pop *pop, uint64_t replica);
void pop_stranger_free(struct stranger *stranger);
void pop_strangers_look(struct pop *pop); /* whose revision is known now, or never will be */
void pop_arenas_look(struct pop *pop);    /* likewise, once control has told everything */

void pop_secrets_forget(struct pop *pop); /* all, with no word to the disk */

/* Of a revision's document: `image` and `spec` (image.c). The image is the caller's. */
[[nodiscard]] int pop_image_read(yyjson_val *json, yyjson_val *spec, struct pop_image **ret,
                                 struct err *err);

/* What is told and not understood (unread.c). */
void pop_unread_set(struct pop *pop, uint64_t endpoint_uid, bool unread);
/* A whole document; nor is what it may say of residency. NULL: it is no JSON. */
void pop_unread_document(struct pop *pop, yyjson_val *root);
void pop_unread_prune(
    struct pop *pop); /* control has told all: what it does not say any more goes */
