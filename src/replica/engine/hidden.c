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

/* ---- behind backslashes, as Go, JSON and shells write it ------------------------------------- */

static char escape_of(char c)
{
    static const char from[] = "\a\b\f\n\r\t\v", to[] = "abfnrtv";
    const char *found = c ? strchr(from, c) : NULL;
    return found ? to[found - from] : c;
}

struct escape {
    size_t size; /* 0: it is none of a number */
    uint32_t code;
    bool byte; /* not a character */
    bool cut;  /* by the end of the text */
};

/* \xHH, \uHHHH, \UHHHHHHHH, \OOO. */
static struct escape escape_read(const char *text)
{
    static const char all[] = "0123456789abcdef";
    size_t left = text[1] == 'x' ? 2 : text[1] == 'u' ? 4 : text[1] == 'U' ? 8 : 0;
    size_t base = left ? 16 : 8, at = left ? 2 : 1;
    struct escape escape = { .byte = left < 4 };
    if (!left)
        left = 3;
    for (; left; left--, at++) {
        char c = text[at] >= 'A' && text[at] <= 'F' ? (char)(text[at] - 'A' + 'a') : text[at];
        const char *digit = memchr(all, c, base);
        if (!digit) {
            escape.cut = !c;
            return escape;
        }
        escape.code = escape.code * (uint32_t)base + (uint32_t)(digit - all);
    }
    escape.size = at;
    return escape;
}

/* JSON writes one above U+FFFF as two. */
static struct escape character_read(const char *text)
{
    struct escape high = escape_read(text);
    if (!high.size || high.byte || high.code >> 10 != 0xd800 >> 10)
        return high;
    const char *rest = text + high.size;
    struct escape low = *rest == '\\' ? escape_read(rest) : (struct escape){ .cut = !*rest };
    bool both = low.size && low.code >> 10 == 0xdc00 >> 10;
    low.code = 0x10000 + ((high.code & 0x3ff) << 10) + (low.code & 0x3ff);
    low.size = both ? low.size + high.size : 0;
    return low;
}

/* How many bytes of the text are the first of the value, and of how many; 0: they are others. */
static size_t same(const char *text, struct slice value, size_t *ret_taken)
{
    char c = value.data[0], bytes[4];
    *ret_taken = 1;
    if (*text == c || (*text == ' ' && is_control(c)))
        return 1;
    if (*text != '\\')
        return 0;
    struct escape escape = character_read(text);
    if (escape.size) {
        *bytes = (char)escape.code;
        size_t size = escape.byte ? 1 : utf8_write(bytes, escape.code);
        if (size <= value.size && memcmp(bytes, value.data, size) == 0) {
            *ret_taken = size;
            return escape.size;
        }
    }
    return text[1] && text[1] == escape_of(c) ? 2 : 0;
}

/* How many bytes of the text are the value, or, at its end, as much of it as there is room for. */
static size_t found(const char *text, struct slice value)
{
    size_t used = 0, end = value.size;
    while (end > 1 && (value.data[end - 1] == ' ' || is_control(value.data[end - 1])))
        end--; /* trimmed, where the text ends with it */
    for (size_t i = 0, taken; i < value.size; i += taken) {
        const char *rest = text + used;
        if (!*rest)
            return i >= BEGINNING_BYTES || i >= end ? used : 0;
        size_t one = same(rest, (struct slice){ value.data + i, value.size - i }, &taken);
        if (!one)
            return i >= BEGINNING_BYTES && *rest == '\\' && character_read(rest).cut
                       ? used + strlen(rest)
                       : 0;
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
