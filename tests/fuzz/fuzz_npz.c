/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "cli/tensor_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice file = { (const char *)data, size };
    struct arena *arena = arena_new();
    struct tensor_file tensor;

    (void)!npz_read(arena, file, SLICE("x"), &tensor, NULL);
    (void)!npz_read(arena, file, (struct slice){}, &tensor, NULL);
    arena_free(arena);
    return 0;
}
