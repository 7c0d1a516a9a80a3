/* SPDX-License-Identifier: Apache-2.0 */
/* A model's folder as clients upload it: what is taken has safe paths, and prints to itself. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct manifest manifest, again;
    struct slice text = { (const char *)data, size }, printed;
    struct err err;
    (void)manifest_is(text);
    if (manifest_parse(arena, text, &manifest, &err) == 0) {
        for (size_t i = 0; i < manifest.count; i++) {
            struct slice path = manifest.files[i].path;
            if (path.data[0] == '/' || memmem(path.data, path.size, "/../", 4) ||
                memchr(path.data, '\0', path.size))
                abort();
        }
        if (manifest_print(arena, &manifest, &printed, &err) == 0 &&
            (manifest_parse(arena, printed, &again, &err) < 0 || again.count != manifest.count))
            abort();
    }
    arena_free(arena);
    return 0;
}
