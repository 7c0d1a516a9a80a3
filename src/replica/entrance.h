/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entrance.h -- the way into containers' networks, for who may not enter them: asks the helper
 * (sys/netns.h) for a socket inside, by the replica's id, and connects it. Gateway loops and the
 * agent have one each; the agent's says which replicas there are, too.
 *
 * The helper may come late, and may end and come again: what is asked meanwhile waits for the next
 * channel (until who asks takes it back), and what was shown is shown again by itself. Loop thread
 * only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "http/client.h"

struct entrance;
struct err;
struct loop;

struct entrance_events {
    /* Of who shows; NULL: it asks alone. The helper has looked at a replica that was shown: err
     * NULL when it can be entered; else ERR_NOT_FOUND (its process is gone), ERR_FORBIDDEN or
     * another says why not. Again with each helper that comes. Not from inside entrance_show(). */
    void (*on_shown)(uint64_t replica, const struct err *err, void *data);
    /* The channel is lost, and there is no other one yet: at once, and then ever more seldom until
     * there is one that lasts. May be NULL. */
    void (*on_lost)(void *data);
};

/* `events` NULL: neither. Else copied. */
struct entrance *entrance_new(struct loop *loop, const struct entrance_events *events, void *data);
/* What is being dialed ends with ERR_CANCELED, now or in the loop's next pass. NULL is allowed. Not
 * from inside an event. */
void entrance_free(struct entrance *entrance);

/* The channel to the helper, taken; in place of the one before. */
void entrance_open(struct entrance *entrance, int fd);

/* All that were there before who shows came are shown, or of no use: what is asked for one that is
 * not is refused from here on, and waits until then. Again is harmless. */
void entrance_told(struct entrance *entrance);
/* From here on until it is forgotten, or the entrance ends. The pidfd of its first process is
 * borrowed as long: to show one takes no descriptor that may be lacking. */
void entrance_show(struct entrance *entrance, uint64_t replica, int pidfd);
/* It is gone. One that was not shown is waited for no longer. */
void entrance_forget(struct entrance *entrance, uint64_t replica);

/* For http_client_config.dialer (a call's `scope` is the replica's id), and by hand: the address is
 * 127.0.0.1 and the container's port. Lives as long as the entrance. */
const struct http_dialer *entrance_dialer(struct entrance *entrance);
