/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/hidden.h"

#include <stdbool.h>
#include <string.h>

#include "base/arena.h"

enum { BEGINNING_BYTES = 4, STARS = 3 };

struct engine_hidden { /* in its arena */
    struct arena *arena;
    struct slice *values;
    size_t count;
};

struct engine_hidden *engine_hidden_new(const struct slice *values, size_t count)
{
    if (!count)
        return NULL;
    struct arena *arena = arena_new_secret();
    struct engine_hidden *hidden = ARENA_NEW(arena, struct engine_hidden);
    hidden->arena = arena;
    hidden->values = ARENA_ARRAY(arena, struct slice, count);
    for (size_t i = 0; i < count; i++)
        if (values[i].size)
            hidden->values[hidden->count++] = arena_copy(arena, values[i]);
    return hidden;
}

void engine_hidden_free(struct engine_hidden *hidden)
{
    if (hidden)
        arena_free(hidden->arena);
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* As Go, JSON and shells write it behind a backslash. */
static char escape_of(char c)
{
    return c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : c;
}

/* How many bytes of the text are that one of the value; 0: they are another. */
static size_t same(const char *text, char c)
{
    if (*text == c || (*text == ' ' && is_control(c)))
        return 1;
    return *text == '\\' && text[1] && text[1] == escape_of(c) ? 2 : 0;
}

/* How many bytes of the text are the value, or, at its end, as much of it as there is room for. */
static size_t found(const char *text, struct slice value)
{
    size_t used = 0, end = value.size;
    while (end > 1 && (value.data[end - 1] == ' ' || is_control(value.data[end - 1])))
        end--; /* trimmed, where the text ends with it */
    for (size_t i = 0; i < value.size; i++) {
        if (!text[used])
            return i >= BEGINNING_BYTES || i >= end ? used : 0;
        size_t one = same(text + used, value.data[i]);
        if (!one)
            return 0;
        used += one;
    }
    return used;
}

void engine_hide(const struct engine_hidden *hidden, char *text)
{
    bool covered[ENGINE_HIDDEN_TEXT_MAX] = {}; /* values may lie across each other */
    size_t size = strlen(text), put = 0;
    if (!hidden)
        return;
    if (size > ENGINE_HIDDEN_TEXT_MAX)
        text[size = ENGINE_HIDDEN_TEXT_MAX] = '\0';
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < hidden->count; i++)
            memset(covered + at, true, found(text + at, hidden->values[i]));
    for (size_t at = 0, run = 0; at < size; at++) {
        run = covered[at] ? run + 1 : 0;
        if (run <= STARS)
            text[put++] = run ? '*' : text[at];
    }
    text[put] = '\0';
}
