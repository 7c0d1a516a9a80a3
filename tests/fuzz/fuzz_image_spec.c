/* SPDX-License-Identifier: Apache-2.0 */
/* --image, and the model's property: both come from outside. */
#include <assert.h>

#include "base/arena.h"
#include "cli/tensor_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t pixel[3] = { 1, 2, 3 };
    const struct image image = { 1, 1, pixel };
    struct slice text = { (const char *)data, size };
    struct arena *arena = arena_new();
    struct image_spec spec = { .channels = 3 };
    struct tensor_file tensor;

    if (image_spec_change(text, &spec, NULL) == 0)
        assert(spec.channels == 1 || spec.channels == 3);
    if (image_spec_parse_json(arena, text, &spec, NULL) == 0 && spec.width * spec.height < 4096) {
        int r = image_tensor(arena, &image, &spec, &tensor, NULL);
        assert(r == 0);
    }
    arena_free(arena);
    return 0;
}
