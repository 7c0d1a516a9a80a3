/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "oip_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void place(const struct oip_request *request, const uint8_t *from, struct err *err)
{
    char *block = aligned_alloc(64, request->block_bytes ? request->block_bytes : 64);

    for (uint32_t i = 0; i < request->input_count; i++) {
        const struct oip_input *input = &request->inputs[i];

        assert(input->offset % 64 == 0);
        assert(input->offset + input->bytes <= request->block_bytes);
        if (!input->binary)
            continue;
        memcpy(block + input->offset, from, input->bytes);
        from += input->bytes;
    }
    if (oip_request_convert(request, block, err) == 0)
        (void)!oip_request_check(request, block, err);
    free(block);
}

/* Two bytes of length, the JSON header of that length, tensors. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct oip_limits limits = { .block_bytes_max = 1 << 20 };
    struct oip_request request;
    struct arena *arena;
    struct slice text;
    struct err err = {};

    if (size < 2)
        return 0;
    text = (struct slice){ (const char *)data + 2, (size_t)data[0] | (size_t)data[1] << 8 };
    if (text.size > size - 2)
        return 0;
    arena = arena_new();
    if (oip_request_parse(arena, &fuzz_model, text, size - 2 - text.size, &limits, &request,
                          &err) == 0)
        place(&request, data + 2 + text.size, &err);
    (void)!oip_request_parse(arena, &fuzz_model, text, OIP_BYTES_UNKNOWN, &limits, &request, &err);
    arena_free(arena);
    return 0;
}
