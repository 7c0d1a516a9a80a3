/* SPDX-License-Identifier: Apache-2.0 */
#include "zone_text.h"

#include <assert.h>

#include "base/arena.h"

static char *put(char *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;)
        *at++ = (char)(value >> 8 * i);
    return at;
}

static char *head(char *at, uint32_t times, uint32_t types, uint32_t chars)
{
    memset(at, 0, 44);
    memcpy(at, "TZif2", 5);
    char *counts = at + 32; /* times, types, chars follow three that are 0 */
    counts = put(counts, times, 4);
    counts = put(counts, types, 4);
    (void)put(counts, chars, 4);
    return at + 44;
}

struct slice zone_text(struct arena *arena, int32_t first_s, const struct zone_change *changes,
                       size_t count, const char *rule)
{
    assert(count <= 200);
    size_t rule_size = strlen(rule);
    char *text = arena_alloc(arena, 44 + 7 + 44 + count * 9 + (count + 1) * 6 + 4 + rule_size + 2);
    char *at = head(text, 0, 1, 1);
    at = put(at, 0, 7);
    at = head(at, (uint32_t)count, (uint32_t)count + 1, 4);
    for (size_t i = 0; i < count; i++)
        at = put(at, (uint64_t)changes[i].at, 8);
    for (size_t i = 0; i < count; i++)
        at = put(at, i + 1, 1);
    at = put(put(at, (uint32_t)first_s, 4), 0, 2);
    for (size_t i = 0; i < count; i++)
        at = put(put(at, (uint32_t)changes[i].offset_s, 4), 0, 2);
    memcpy(at, "ABC", 4);
    at += 4;
    *at++ = '\n';
    memcpy(at, rule, rule_size);
    at += rule_size;
    *at++ = '\n';
    return (struct slice){ text, (size_t)(at - text) };
}
