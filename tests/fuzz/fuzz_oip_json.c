/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "oip_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The whole input is a body without binary data. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct oip_limits limits = {};
    struct arena *arena = arena_new();
    struct slice text = { (const char *)data, size };
    struct oip_request request;
    struct err err = {};
    bool ready;

    if (oip_request_parse(arena, &fuzz_model, text, 0, &limits, &request, &err) == 0) {
        /* Elements take at most eight bytes and at least two characters. */
        assert(request.block_bytes <= 8 * size + 64 * (uint64_t)request.input_count);
        void *block = aligned_alloc(64, request.block_bytes ? request.block_bytes : 64);

        if (oip_request_convert(&request, block, &err) < 0)
            assert(err.message[0]);
        free(block);
    } else {
        assert(err.message[0]);
    }
    (void)!oip_index_parse(arena, text, &ready, &err);
    (void)!oip_load_parse(arena, text, &err);
    arena_free(arena);
    return 0;
}
