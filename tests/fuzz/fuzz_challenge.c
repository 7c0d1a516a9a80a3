/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate of another registry: what is kept is bounded, and has no control characters,
 * so that it may go into the next request. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct slice value)
{
    if (value.size > CHALLENGE_VALUE_MAX)
        abort();
    for (size_t i = 0; i < value.size; i++)
        if (((unsigned char)value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const schemes[] = { "Bearer", "Basic" };
    for (size_t i = 0; i < 2; i++) {
        struct arena *arena = arena_new();
        struct challenge found = {};
        struct err err;
        int r = challenge_find(arena, (struct slice){ (const char *)data, size }, schemes[i],
                               &found, &err);
        if (r == 1) {
            check(found.realm);
            check(found.service);
            check(found.scope);
            check(found.error);
        }
        arena_free(arena);
    }
    return 0;
}
