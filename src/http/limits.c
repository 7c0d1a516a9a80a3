/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of HTTP_SERVER_LIMITS as values, from an operator's text, and as a page. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "http/server.h"

static const struct row {
    const char *name;
    size_t offset;
    uint64_t value, min, max;
    const char *text;
} rows[] = {
#define ROW(name, value, min, max, text)                                                           \
    { #name, offsetof(struct http_server_limits, name), value, min, max, text },
    HTTP_SERVER_LIMITS(ROW)
#undef ROW
};
enum { ROWS = sizeof rows / sizeof *rows };

struct http_server_limits http_server_limits_default(void)
{
    return (struct http_server_limits){
#define LIMIT(name, value, min, max, text) .name = value,
        HTTP_SERVER_LIMITS(LIMIT)
#undef LIMIT
    };
}

static const struct row *row_find(struct slice name)
{
    for (size_t i = 0; i < ROWS; i++)
        if (slice_is(name, rows[i].name))
            return &rows[i];
    return NULL;
}

static int one_parse(struct slice name, struct slice text, struct http_server_limits *limits,
                     struct err *err)
{
    const struct row *row = row_find(name);
    uint64_t value;

    if (!row)
        return err_set(err, ERR_BAD_INPUT,
                       "there is no limit '%s'; docs/limits.md has them, such as head_ms",
                       ERR_SLICE(name));
    if (!slice_u64(text, &value) || value < row->min || value > row->max)
        return err_set(err, ERR_BAD_INPUT, "%s takes a number from %llu to %llu, not '%s'",
                       row->name, (unsigned long long)row->min, (unsigned long long)row->max,
                       ERR_SLICE(text));
    memcpy((char *)limits + row->offset, &value, sizeof value);
    return 0;
}

int http_server_limits_parse(struct slice text, struct http_server_limits *limits, struct err *err)
{
    while (text.size) {
        struct slice value = slice_trim(slice_cut(&text, ','));
        struct slice name = slice_trim(slice_cut(&value, '='));
        int r = one_parse(name, slice_trim(value), limits, err);
        if (r < 0)
            return r;
    }
    return 0;
}

struct slice http_server_limits_docs(struct arena *arena)
{
    char *text = arena_format(arena, "%s", "");
    for (size_t i = 0; i < ROWS; i++)
        text = arena_format(arena, "%s| `%s` | %llu | %s |\n", text, rows[i].name,
                            (unsigned long long)rows[i].value, rows[i].text);
    return slice_of(text);
}
