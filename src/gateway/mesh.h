/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.h -- what the gateway knows of other PoPs: the agent's mesh (contract/mesh.h), counted and
 * handed to loops as the table is, and the keys that this PoP has with each of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "contract/mesh.h"
#include "contract/messages.h"
#include "proto/hop.h"

/* Any thread may hold a reference; the last to let go unmaps it. */
struct mesh_view;
[[nodiscard]] int mesh_view_open(int fd, struct mesh_view **ret, struct err *err); /* checked */
struct mesh_view *mesh_view_ref(struct mesh_view *view);
void mesh_view_unref(struct mesh_view *view); /* NULL is allowed */
/* NULL: there is none, or it has grown old, and the table's flags are what is known. */
const struct mesh_head *mesh_view_head(const struct mesh_view *view, int64_t now_ns);

/* Main thread makes, fills and frees; any thread asks. */
struct peer_keys;
struct peer_keys *peer_keys_new(void);
void peer_keys_free(struct peer_keys *keys);
/* They come in a row, the first with MESSAGE_KEYS_FIRST, and count once a message without a name
 * has ended it. Wipes the message. */
void peer_keys_take(struct peer_keys *keys, struct message_peer_key *message);
bool peer_keys_came(const struct peer_keys *keys); /* a whole row, be it empty; main thread */
/* False: there is none with that PoP. Who got one wipes it after use. */
bool peer_keys_find(struct peer_keys *keys, struct slice pop,
                    unsigned char ret_key[static HOP_KEY_BYTES]);
/* Which parameters of a hop it knows (HOP_KNOWN), as it said when it last asked how we are; 0: it
 * did not. */
unsigned peer_keys_known(struct peer_keys *keys, struct slice pop);
void peer_keys_know(struct peer_keys *keys, struct slice pop, unsigned known);
