/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of a .npy has the bytes its shape says, and can be asked to be another datatype. */
#include <assert.h>

#include "base/arena.h"
#include "cli/tensor_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice file = { (const char *)data, size };
    struct arena *arena = arena_new();
    struct tensor_file tensor;
    uint64_t bytes;

    if (npy_read(arena, file, &tensor, NULL) == 0) {
        assert(tensor.datatype == TENSOR_BYTES ||
               (tensor_bytes(tensor.datatype, &tensor.shape, &bytes) && bytes == tensor.data.size));
        for (int type = TENSOR_BOOL; type < TENSOR_TYPE_COUNT; type++) {
            struct tensor_file copy = tensor;
            const struct tensor_file want = { .datatype = type, .shape = { 2, { -1, 3 } } };
            if (tensor_convert(arena, &copy, type, NULL) == 0 && type != TENSOR_BYTES)
                assert(tensor_bytes(type, &copy.shape, &bytes) && bytes == copy.data.size);
            if (tensor_fit(&copy, &want, NULL) == 0)
                assert(copy.shape.rank == 2 && copy.shape.dims[1] == 3);
        }
    }
    arena_free(arena);
    return 0;
}
