/* SPDX-License-Identifier: Apache-2.0 */
/* A map that is taken prints as one that is taken and says the same. */
#include <assert.h>

#include "base/arena.h"
#include "geo/where_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct where_file file, again;

    if (where_file_parse(arena, (struct slice){ (const char *)data, size }, &file, NULL) == 0) {
        struct slice text = where_file_print(arena, &file);
        int r = where_file_parse(arena, text, &again, NULL);
        assert(r == 0 && again.count == file.count && again.has_fallback == file.has_fallback);
        assert(slice_equal(where_file_print(arena, &again), text));
    }
    arena_free(arena);
    return 0;
}
