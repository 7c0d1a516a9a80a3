/* SPDX-License-Identifier: Apache-2.0 */
/* A picture that can be read can be made to numbers within the range. */
#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "cli/tensor_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct image_spec spec = { 5, 3, 3, IMAGE_CHW, 0, 1, false };
    struct slice file = { (const char *)data, size };
    struct arena *arena = arena_new();
    struct image image;
    struct tensor_file tensor;

    if (image_decode(arena, file, &image, NULL) == 0 && image.width * image.height < 1 << 20) {
        int r = image_tensor(arena, &image, &spec, &tensor, NULL);
        assert(r == 0);
        for (size_t i = 0; i < tensor.data.size; i += sizeof(float)) {
            float value;
            memcpy(&value, tensor.data.data + i, sizeof value);
            assert(value > -1e-5f && value < 1 + 1e-5f);
        }
    }
    arena_free(arena);
    return 0;
}
