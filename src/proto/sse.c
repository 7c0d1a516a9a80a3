/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/sse.h"

#include <string.h>

#include "base/arena.h"

/* One line off the front, without its end: LF, CR LF, or CR. */
static struct slice line_cut(struct slice *text)
{
    size_t size = 0;
    while (size < text->size && text->data[size] != '\n' && text->data[size] != '\r')
        size++;
    struct slice line = { text->data, size };
    if (size < text->size && text->data[size] == '\r')
        size++;
    if (size < text->size && text->data[size] == '\n' &&
        (size == line.size || text->data[size - 1] == '\r'))
        size++;
    *text = (struct slice){ text->data + size, text->size - size };
    return line;
}

/* Data lines are moved together at the front of the buffer, over what was read of it. */
static bool event_take(struct sse *sse, struct slice text)
{
    char kind[SSE_KIND_BYTES] = "message";
    char *data = (char *)text.data;
    size_t size = 0;
    bool any = false;
    while (text.size) {
        struct slice value = line_cut(&text);
        if (value.size == 0 || value.data[0] == ':')
            continue; /* a comment: the sign that it lives */
        struct slice name = slice_cut(&value, ':');
        if (value.size && value.data[0] == ' ')
            value = (struct slice){ value.data + 1, value.size - 1 };
        if (slice_is(name, "data")) {
            if (any)
                data[size++] = '\n';
            if (value.size)
                memmove(data + size, value.data, value.size);
            size += value.size;
            any = true;
        } else if (slice_is(name, "event") && value.size < sizeof kind) {
            if (value.size)
                memcpy(kind, value.data, value.size);
            kind[value.size] = '\0';
        } else if (slice_is(name, "id") && value.size < sizeof sse->last_id &&
                   (value.size == 0 || !memchr(value.data, '\0', value.size))) {
            if (value.size)
                memcpy(sse->last_id, value.data, value.size);
            sse->last_id[value.size] = '\0';
        }
    }
    struct slice all = { data, size };
    return !any || sse->on_event(slice_of(kind), slice_of(sse->last_id), all, sse->data);
}

/* Where the first blank line ends, looked for from `from`; 0: not here yet. A CR at the end may be
 * half of a CR LF. */
static size_t event_end(const char *data, size_t size, size_t from)
{
    for (size_t i = from; i < size; i++) {
        if (data[i] != '\n' && data[i] != '\r')
            continue;
        size_t next = i + 1;
        if (data[i] == '\r') {
            if (next == size)
                return 0;
            next += data[next] == '\n';
        }
        if (next == size)
            return 0;
        if (data[next] == '\n')
            return next + 1;
        if (data[next] == '\r') {
            if (next + 1 == size)
                return 0;
            return next + 1 + (data[next + 1] == '\n');
        }
        i = next - 1;
    }
    return 0;
}

static void buffer_grow(struct sse *sse, size_t room)
{
    struct arena *memory = arena_new_secret();
    char *buffer = arena_alloc(memory, room);
    if (sse->used)
        memcpy(buffer, sse->buffer, sse->used);
    arena_free(sse->memory);
    sse->memory = memory;
    sse->buffer = buffer;
    sse->room = room;
}

bool sse_feed(struct sse *sse, struct slice bytes)
{
    size_t bytes_max = sse->event_bytes_max ? sse->event_bytes_max : SSE_EVENT_BYTES_MAX;
    if (bytes.size > bytes_max - sse->used) {
        sse->too_large = true;
        return false;
    }
    if (sse->used + bytes.size > sse->room)
        buffer_grow(sse, (sse->used + bytes.size) * 2);
    if (bytes.size)
        memcpy(sse->buffer + sse->used, bytes.data, bytes.size);
    sse->used += bytes.size;
    size_t from = 0, end;
    while (!sse->ended && (end = event_end(sse->buffer, sse->used, from + sse->scanned))) {
        sse->ended = !event_take(sse, (struct slice){ sse->buffer + from, end - from });
        sse->scanned = 0;
        from = end;
    }
    if (from) {
        memmove(sse->buffer, sse->buffer + from, sse->used - from);
        explicit_bzero(sse->buffer + sse->used - from, from);
    }
    sse->used -= from;
    /* Up to three bytes of a blank line may stand there already. */
    sse->scanned = sse->used > 4 ? sse->used - 4 : 0;
    return !sse->ended;
}

void sse_again(struct sse *sse)
{
    if (sse->used)
        explicit_bzero(sse->buffer, sse->used);
    sse->used = 0;
    sse->scanned = 0;
}

void sse_deinit(struct sse *sse)
{
    arena_free(sse->memory);
    sse->memory = NULL;
    sse->buffer = NULL;
}
