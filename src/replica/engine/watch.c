/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "io/loop.h"
#include "io/timer.h"
#include "replica/engine/engine.h"
#include "replica/engine/listed.h"
#include "replica/engine/stream.h"

enum { AGAIN_MS = 1'000, LIST_MS = 30'000, OVERLAP_S = 2 };

struct engine_watch {
    struct engine *engine;
    struct loop *loop;
    char *home;
    struct engine_watch_events events;
    void *data;
    struct engine_call *stream, *list; /* under way */
    struct engine_lines lines;
    struct timer *timer;
    int64_t since_s;
    char why[504]; /* it was given up by us; empty: by the engine */
};

static void open_stream(void *data);

static void on_line(struct slice line, void *data)
{
    struct engine_watch *watch = data;
    struct engine_event event;
    char room[512];

    if (engine_event_parse(line, &event, room, sizeof room) && slice_is(event.home, watch->home))
        watch->events.on_event(event.id, event.action, watch->data);
}

static void on_bytes(struct slice bytes, void *data)
{
    struct engine_watch *watch = data;
    if (engine_lines_feed(&watch->lines, bytes, NULL) < 0 && watch->stream)
        engine_cancel(watch->stream);
}

static void on_stream_over(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_watch *watch = data;
    (void)answer;

    watch->stream = NULL;
    engine_lines_deinit(&watch->lines);
    timer_start(watch->timer, AGAIN_MS);
    watch->events.on_lost(watch->why[0] ? watch->why
                          : err         ? err->message
                                        : "the engine has ended its events",
                          watch->data);
}

static void on_listed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_watch *watch = data;
    struct arena *arena = arena_new();
    struct engine_list list;
    struct err why = {};

    watch->list = NULL;
    if (!err && engine_list_parse(arena, answer->body, slice_of(watch->home), &list, &why) < 0)
        err = &why;
    if (!err)
        watch->events.on_list(&list, watch->data);
    else if (watch->stream) { /* both are begun anew */
        (void)snprintf(watch->why, sizeof watch->why, "%s", err->message);
        engine_cancel(watch->stream);
    } else { /* it was lost before, and said so */
        timer_start(watch->timer, AGAIN_MS);
    }
    arena_free(arena);
}

/* Those between the two questions come with the stream: it begins before this second. Whose they
 * are is looked at here: Podman knows labels with their value alone. */
static void open_stream(void *data)
{
    struct engine_watch *watch = data;
    char target[256];

    (void)snprintf(target, sizeof target,
                   "/events?since=%" PRId64
                   "&filters=%%7B%%22type%%22%%3A%%5B%%22container%%22%%5D%%7D",
                   watch->since_s);
    watch->since_s = loop_wall_s() - OVERLAP_S;
    watch->why[0] = '\0';
    watch->lines = (struct engine_lines){ .on_line = on_line, .data = watch };
    watch->stream = engine_follow(watch->engine, ENGINE_GET, target, (struct slice){}, 0, on_bytes,
                                  on_stream_over, watch);
    if (watch->list)
        engine_forget(watch->list);
    watch->list = engine_list(watch->engine, LIST_MS, on_listed, watch);
}

struct engine_watch *engine_watch_new(struct engine *engine, struct loop *loop, struct slice home,
                                      const struct engine_watch_events *events, void *data)
{
    struct engine_watch *watch = mem_zalloc(sizeof *watch);

    watch->engine = engine;
    watch->loop = loop;
    watch->home = mem_string(home);
    watch->events = *events;
    watch->data = data;
    watch->since_s = loop_wall_s() - OVERLAP_S;
    watch->timer = timer_new(loop, open_stream, watch);
    open_stream(watch);
    return watch;
}

void engine_watch_free(struct engine_watch *watch)
{
    if (!watch)
        return;
    if (watch->stream)
        engine_forget(watch->stream);
    if (watch->list)
        engine_forget(watch->list);
    engine_lines_deinit(&watch->lines);
    timer_free(watch->timer);
    free(watch->home);
    free(watch);
}
