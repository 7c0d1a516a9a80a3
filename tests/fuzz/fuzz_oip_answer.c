/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"
#include "oip_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a hostile replica might put in its region: which output, datatype, rank and options in four
 * bytes, 16 bits for each of two dimensions, then the tensor's bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct oip_limits limits = { .answer_bytes_max = 1 << 16 };
    struct oip_wanted wanted;
    struct oip_output output;
    struct oip_answer answer;
    struct arena *arena;
    struct err err = {};

    if (size < 8)
        return 0;
    wanted = (struct oip_wanted){ .index = data[0] % fuzz_model.output_count,
                                  .classes = data[3] >> 1,
                                  .binary = data[3] & 1 };
    output = (struct oip_output){
        .index = wanted.index,
        .type = (enum tensor_type)data[1],
        .shape = { data[2],
                   { (int16_t)(data[4] | data[5] << 8), (int16_t)(data[6] | data[7] << 8) } },
        .data = data + 8,
        .bytes = size - 8,
    };
    if (wanted.classes && (output.type == TENSOR_BOOL || output.type == TENSOR_BYTES))
        return 0; /* refused when the request is read */
    arena = arena_new();
    if (oip_answer_write(
            arena,
            &(struct oip_request){ .model = &fuzz_model, .wanted = &wanted, .wanted_count = 1 }, 1,
            &output, 1, &limits, &answer, &err) == 0) {
        assert(utf8_valid(answer.json));
        assert(answer.json.size <= (1 << 16) + 64);
    } else {
        assert(err.message[0]);
    }
    arena_free(arena);
    return 0;
}
