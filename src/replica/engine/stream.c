/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/stream.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/container.h"

static const struct json_limits limits = { .bytes_max = ENGINE_LINE_MAX,
                                           .memory_max = 16 * ENGINE_LINE_MAX,
                                           .duplicates_allowed = true };

/* Printable, so that it can stand in a message and a log. */
static struct slice keep(struct slice text, char *room, size_t bytes)
{
    size_t size = text.size < bytes ? text.size : bytes;
    for (size_t i = 0; i < size; i++)
        room[i] = (unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f ? ' ' : text.data[i];
    while (size && room[size - 1] == ' ')
        size--;
    return (struct slice){ room, size };
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Podman tells of every format that it has tried to load; what it was given is one of them. */
static struct slice of_ours(struct slice text)
{
    static const char mark[] = "\n * docker-archive: ";
    const char *at = text.size ? memmem(text.data, text.size, mark, sizeof mark - 1) : NULL;

    if (!at)
        return text;
    at += sizeof mark - 1;
    struct slice rest = { at, text.size - (size_t)(at - text.data) };
    struct slice words = slice_trim(slice_cut(&rest, '\n'));
    return words.size ? words : text;
}

struct slice engine_error_of(struct slice text, char *room, size_t bytes)
{
    struct arena *arena = arena_new();
    struct slice found = {};
    yyjson_val *root;

    if (json_parse(arena, text, &limits, &root, NULL) == 0) {
        found = json_slice(json_member(json_member(root, "errorDetail"), "message"));
        if (!found.size)
            found = json_slice(json_member(root, "error"));
        if (!found.size)
            found = json_slice(json_member(root, "message"));
        bool told = yyjson_obj_get(root, "error") || yyjson_obj_get(root, "errorDetail");
        if (!found.size && told)
            found = SLICE("the engine tells of an error without words");
    }
    found = keep(of_ours(found), room, bytes);
    arena_free(arena);
    return found;
}

static void line_take(struct engine_lines *lines, struct slice line)
{
    while (line.size && (line.data[line.size - 1] == '\r' || line.data[line.size - 1] == ' '))
        line.size--;
    if (!line.size)
        return;
    if (!lines->error[0]) {
        char room[sizeof lines->error - 1];
        struct slice error = engine_error_of(line, room, sizeof room);
        (void)snprintf(lines->error, sizeof lines->error, "%.*s", SLICE_FMT(error));
    }
    if (lines->on_line)
        lines->on_line(line, lines->data);
}

int engine_lines_feed(struct engine_lines *lines, struct slice bytes, struct err *err)
{
    while (bytes.size) {
        const char *end = memchr(bytes.data, '\n', bytes.size);
        size_t size = end ? (size_t)(end - bytes.data) : bytes.size;
        if (lines->used + size > ENGINE_LINE_MAX)
            return err_set(err, ERR_TOO_LARGE, "a line of the engine's answer is above %d bytes",
                           ENGINE_LINE_MAX);
        if (!end || lines->used) {
            if (!lines->line)
                lines->line = mem_alloc(ENGINE_LINE_MAX);
            memcpy(lines->line + lines->used, bytes.data, size);
            lines->used += size;
        }
        if (end) {
            struct slice whole = { bytes.data, size };
            if (lines->used)
                whole = (struct slice){ lines->line, lines->used };
            line_take(lines, whole);
            lines->used = 0;
            size++;
        }
        bytes = (struct slice){ bytes.data + size, bytes.size - size };
    }
    return 0;
}

int engine_lines_end(struct engine_lines *lines, struct err *err)
{
    if (lines->used)
        line_take(lines, (struct slice){ lines->line, lines->used });
    lines->used = 0;
    if (!lines->error[0])
        return 0;
    return err_set(err, ERR_PRECONDITION, "the engine says: %s", lines->error);
}

void engine_lines_deinit(struct engine_lines *lines)
{
    free(lines->line);
    lines->line = NULL;
    lines->used = 0;
}

/* ---- events ---------------------------------------------------------------------------------- */

bool engine_event_parse(struct slice line, struct engine_event *ret, char *room, size_t bytes)
{
    struct arena *arena = arena_new();
    yyjson_val *root;
    bool is_one = false;

    if (json_parse(arena, line, &limits, &root, NULL) == 0 &&
        slice_is(json_slice(json_member(root, "Type")), "container")) {
        struct slice id = json_slice(json_member(json_member(root, "Actor"), "ID"));
        struct slice action = json_slice(json_member(root, "Action"));
        struct slice home = json_slice(
            json_member(json_member(json_member(root, "Actor"), "Attributes"), ENGINE_LABEL_HOME));
        if (!id.size)
            id = json_slice(json_member(root, "id"));
        if (id.size && action.size && id.size + action.size + home.size <= bytes) {
            ret->id = keep(id, room, id.size);
            ret->action = keep(action, room + id.size, action.size);
            ret->home = keep(home, room + id.size + action.size, home.size);
            is_one = true;
        }
    }
    arena_free(arena);
    return is_one;
}

/* ---- logs ------------------------------------------------------------------------------------ */

int engine_frames_feed(struct engine_frames *frames, struct slice bytes, struct err *err)
{
    while (bytes.size) {
        if (!frames->left) {
            frames->head[frames->head_used++] = (unsigned char)*bytes.data;
            bytes = (struct slice){ bytes.data + 1, bytes.size - 1 };
            if (frames->head_used < sizeof frames->head)
                continue;
            const unsigned char *head = frames->head;
            frames->head_used = 0;
            frames->left = (uint32_t)head[4] << 24 | (uint32_t)head[5] << 16 |
                           (uint32_t)head[6] << 8 | head[7];
            if (head[0] > 2 || head[1] || head[2] || head[3] || frames->left > ENGINE_FRAME_MAX)
                return err_set(err, ERR_BAD_INPUT, "the engine's log is not in frames");
            continue;
        }
        size_t size = bytes.size < frames->left ? bytes.size : frames->left;
        frames->on_text((struct slice){ bytes.data, size }, frames->head[0] == 2, frames->data);
        frames->left -= (uint32_t)size;
        bytes = (struct slice){ bytes.data + size, bytes.size - size };
    }
    return 0;
}
