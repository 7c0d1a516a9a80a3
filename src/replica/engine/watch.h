/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h -- what happens to the containers of a home, as the engine tells it: the second source,
 * behind each container's own pidfd, and the only one for those that somebody else made or began
 * again.
 *
 * The stream of events is opened anew when it is lost, with what happened since then; each time all
 * that there are is listed as well, as an engine that was gone forgets its events. Loop thread.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

struct engine;
struct engine_list;
struct loop;

struct engine_watch;
struct engine_watch_events {
    /* "die", "oom", "start", "destroy" ... of one; some come twice. */
    void (*on_event)(struct slice id, struct slice action, void *data);
    void (*on_list)(const struct engine_list *list, void *data);
    /* It is opened again by itself, unless it is freed in there. */
    void (*on_lost)(const char *why, void *data);
};

/* `home` is copied. Nothing is called back from inside. */
struct engine_watch *engine_watch_new(struct engine *engine, struct loop *loop, struct slice home,
                                      const struct engine_watch_events *events, void *data);
void engine_watch_free(struct engine_watch *watch); /* NULL is allowed; nobody is called any more */
