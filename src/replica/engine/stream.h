/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h -- answers of an engine that come piece by piece: JSON values one a line (loads,
 * events), and what a container writes, in frames. Both are outside bytes: bounded, in whatever
 * pieces they come. One thread each.
 *
 * An engine says 200 before it begins, so that its status says nothing: a line with an error is a
 * failure, and the stream is read to its end.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

enum { ENGINE_LINE_MAX = 64 * 1024, ENGINE_FRAME_MAX = 1 << 24 };

/* ---- lines ----------------------------------------------------------------------------------- */

struct engine_lines {
    /* May be NULL: only errors are of interest. */
    void (*on_line)(struct slice line, void *data);
    void *data;
    /* its own from here */
    char *line;
    size_t used;
    char error[504]; /* the first that a line said */
};

/* ERR_TOO_LARGE: a line above the bound. */
[[nodiscard]] int engine_lines_feed(struct engine_lines *lines, struct slice bytes,
                                    struct err *err);
/* At the end of the stream: the last line may lack its end. ERR_PRECONDITION: a line told an
 * error, which is the message. */
[[nodiscard]] int engine_lines_end(struct engine_lines *lines, struct err *err);
void engine_lines_deinit(struct engine_lines *lines);

/* The message of a JSON object that tells of an error (`error`, `errorDetail.message`, `message`
 * with `cause`), or of one that is an answer's body. Empty: it tells of none. Lies in `room`. */
struct slice engine_error_of(struct slice text, char *room, size_t bytes);

/* ---- events ---------------------------------------------------------------------------------- */

struct engine_event {
    struct slice home;       /* of our label; or empty */
    struct slice id, action; /* "die", "oom", "start" ... in `room` of engine_event_parse() */
};
/* A line of GET /events. False: not of a container, or not to be read. */
bool engine_event_parse(struct slice line, struct engine_event *ret, char *room, size_t bytes);

/* ---- logs ------------------------------------------------------------------------------------ */

/* Frames of GET /containers/ID/logs: a byte that names the stream, three zeros, the size in four
 * bytes, the text. */
struct engine_frames {
    void (*on_text)(struct slice text, bool is_error, void *data); /* pieces as they come */
    void *data;
    /* its own from here */
    unsigned char head[8];
    uint32_t head_used, left;
};
[[nodiscard]] int engine_frames_feed(struct engine_frames *frames, struct slice bytes,
                                     struct err *err);
